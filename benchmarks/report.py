"""Tables and plots of kept results; runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Scores:
    """Normalised regrets ``(problem, seed, trial)`` of each rival.

    (loss - f*) / (median of random - f*) of the trial that was told the best loss so far; f* is the exact least loss
    where it is known, else the least seen by anyone: by many random draws or by any rival's run.

    Args:
        rows: References and runs. A rival's runs with several pending trials are a rival of their own.
        trials: The first trials that count, all by default.
        visited: Score the best trial so far by its loss without noise, which no rival can know, instead.

    Attributes:
        problems, rivals, seeds: Of the complete part of the rows.
        regret: Rival to ``(problems, seeds, trials)``; NaN where a run is missing.
        cpu: Rival to mean CPU milliseconds per ask + tell.
        last: The same of the last ten trials, by problem: ``(problems,)``.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], trials: int | None = None, visited: bool = False) -> None:
        self.rows = list(rows)
        refs = {r["problem"]: r for r in self.rows if "median" in r}
        runs = [r for r in self.rows if "losses" in r and r["problem"] in refs]
        self.problems = list(dict.fromkeys(r["problem"] for r in runs))
        self.rivals = list(dict.fromkeys(map(_label, runs)))
        self.seeds = sorted({r["seed"] for r in runs})
        self.trials = min(max(len(r["losses"]) for r in runs), trials or 10**9)
        self.least = {p: _least(refs[p], [r for r in runs if r["problem"] == p]) for p in self.problems}
        shape = (len(self.problems), len(self.seeds), self.trials)
        self.regret = {name: np.full(shape, np.nan) for name in self.rivals}
        for r in runs:
            p = r["problem"]
            losses, told = (np.array(r[k][: self.trials]) for k in ("losses", "told" if "told" in r else "losses"))
            best = losses[_leading(losses if visited else told)]
            scaled = (best - self.least[p]) / (refs[p]["median"] - self.least[p])
            self.regret[_label(r)][self.problems.index(p), self.seeds.index(r["seed"]), : len(best)] = scaled
        self.cpu = {n: float(np.mean([r["cpu_ms"] for r in runs if _label(r) == n])) for n in self.rivals}
        self.last = {n: [_mean_last(runs, n, p) for p in self.problems] for n in self.rivals}

    def at(self, rival: str, n: int) -> np.ndarray:
        """Return the regret ``(problems, seeds)`` after ``n`` trials."""
        return self.regret[rival][:, :, n - 1]

    def ranks(self, n: int) -> dict[str, float]:
        """Return each rival's mean rank (1 is the best, ties share) over problems and seeds all rivals have."""
        cube = np.stack([self.at(r, n) for r in self.rivals])
        cube = cube[:, ~np.isnan(cube).any(0)]
        better = (cube[None] < cube[:, None]).sum(1) + ((cube[None] == cube[:, None]).sum(1) - 1) / 2
        return dict(zip(self.rivals, 1 + better.mean(1), strict=True))


def _label(run: dict[str, Any]) -> str:
    return f"{run['rival']}, {run['pending']} pending" if "pending" in run else str(run["rival"])


def _leading(losses: np.ndarray) -> np.ndarray:
    """Return the index of the least loss up to each place, the first of equals."""
    first = np.append(True, losses[1:] < np.minimum.accumulate(losses)[:-1])
    return np.maximum.accumulate(np.where(first, np.arange(len(losses)), 0))


def _mean_last(runs: Sequence[dict[str, Any]], label: str, problem: str) -> float:
    found = [r.get("last_ms", np.nan) for r in runs if _label(r) == label and r["problem"] == problem]
    return float(np.mean(found)) if found else np.nan


def _least(ref: dict[str, Any], runs: Sequence[dict[str, Any]]) -> float:
    if ref["exact"] is not None:
        return float(ref["exact"])
    return min([ref["least"], *(min(r["losses"]) for r in runs)])


def table(scores: Scores, against: str, at: Sequence[int]) -> str:
    """Return the comparison as text: mean regret +- standard error over problems, ranks, wins, CPU time."""
    last = scores.trials
    at = [*(n for n in at if n < last), last]
    ranks = scores.ranks(last)
    head = f"{'':28}" + "".join(f"{f'@{n}':>19}" for n in at) + f"{f'rank @{last}':>11}{'wins/losses':>13}{'CPU ms':>9}"
    lines = [head]
    for rival in sorted(scores.rivals, key=lambda r: np.nanmean(scores.at(r, last))):
        cells = []
        for n in at:
            means = np.nanmean(scores.at(rival, n), axis=1)
            cells.append("{:.4f} +- {:.4f}".format(*_mean_and_error(means)))
        # per problem over the mean of the seeds: wins of `against` over this rival
        w, lo = wins(scores, against, rival, last)
        lines.append(
            f"{rival:28}" + "".join(f"{c:>19}" for c in cells) + f"{ranks[rival]:11.2f}"
            + (f"{'-':>13}" if rival == against else f"{f'{w}/{lo}':>13}") + f"{scores.cpu[rival]:9.2f}"
        )  # fmt: skip
    lines.append(
        f"Mean normalised regret over {len(scores.problems)} problems x {len(scores.seeds)} seeds +- standard error "
        f"over problems; wins/losses of {against} against the row @{last}, run by run."
    )
    runs = {r: int((~np.isnan(scores.at(r, last))).sum()) for r in scores.rivals}
    if fewer := [f"{r} {n}" for r, n in runs.items() if n < len(scores.problems) * len(scores.seeds)]:
        lines.append(f"Fewer runs: {', '.join(fewer)}; ranks are over the runs that all have.")
    return "\n".join(lines)


def wins(scores: Scores, a: str, b: str, n: int) -> tuple[int, int]:
    """Return in how many runs (problem, seed) ``a`` is better than ``b`` and worse after ``n`` trials."""
    x, y = scores.at(a, n), scores.at(b, n)
    return int((x < y).sum()), int((x > y).sum())


def paired(scores: Scores, a: str, b: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much ``a`` has more regret than ``b`` after ``n`` trials, and its standard error over the seeds.

    Each is ``(problems,)``.
    """
    return _mean_and_error(scores.at(a, n) - scores.at(b, n))


def _mean_and_error(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over the last axis and its standard error; missing ones are left out."""
    n = np.maximum((~np.isnan(x)).sum(-1), 1)
    mean = np.nansum(x, -1) / n
    error = np.sqrt(np.nansum((x - mean[..., None]) ** 2, -1) / np.maximum(n - 1, 1) / n)
    return mean, np.where(n > 1, error, np.nan)


def by_problem(scores: Scores, against: str) -> str:
    """Return the mean regret at the end by problem and rival, and where ``against`` is worse.

    One mark: by more than one standard error of the difference, paired by seed; two marks: by more than two.
    """
    n = scores.trials
    lines = [f"{f'@{n}':26}" + "".join(f"{r[:22]:>24}" for r in scores.rivals)]
    differences = {r: paired(scores, against, r, n) for r in scores.rivals}
    for i, p in enumerate(scores.problems):
        cells = []
        for r in scores.rivals:
            mean, error = (d[i] for d in differences[r])
            mark = "" if not mean > error else "<" if mean <= 2 * error else "<<"
            cells.append(f"{mark} {np.nanmean(scores.at(r, n)[i]):.4f}")
        lines.append(f"{p:26}" + "".join(f"{c:>24}" for c in cells))
    if not np.isnan(scores.last[against]).all():
        lines += ["", f"{'CPU ms of the last asks':26}" + "".join(f"{r[:22]:>24}" for r in scores.rivals)]
        for i, p in enumerate(scores.problems):
            lines.append(f"{p:26}" + "".join(f"{scores.last[r][i]:24.1f}" for r in scores.rivals))
    lines.append(f"<: {against} is worse by more than one standard error over the seeds, paired; <<: by more than two.")
    return "\n".join(lines)


def visited(scores: Scores, against: str) -> str:
    """Return the comparison by the best trial that was run, whether or not its noisy loss shows it."""
    found = Scores(scores.rows, scores.trials, visited=True)
    return "The same by the best loss among all that were tried:\n" + table(found, against, (25, 50, scores.trials))


def kept(scores: Scores, against: str) -> str:
    """Return which part of its gain over each rival ``against`` loses with pending trials."""
    n = scores.trials
    lines = [f"Part of the gain of {against} over a rival, both one at a time, that pending trials cost @{n}"]
    mean = {r: float(np.nanmean(scores.at(r, n))) for r in scores.rivals}
    for parallel in [r for r in scores.rivals if r.startswith(f"{against}, ")]:
        for rival in [r for r in scores.rivals if "pending" not in r and r != against]:
            part = (mean[parallel] - mean[against]) / (mean[rival] - mean[against])
            lines.append(f"{parallel:32} over {rival:20} {part:6.2f}   {mean[against]:.4f} -> {mean[parallel]:.4f}")
    return "\n".join(lines)


def changes(scores: Scores, against: str) -> str:
    """Return the paired change of log10 regret against ``against``, +- standard error over problems."""
    at = [n for n in (25, 50, 100) if n <= scores.trials]
    lines = [f"{'change of log10 regret':26}" + "".join(f"{f'@{n}':>18}" for n in at) + f"{'better/worse':>16}"]
    for rival in [r for r in scores.rivals if r != against]:
        cells = []
        for n in at:
            logs = [np.log10(np.maximum(scores.at(r, n), 1e-4)) for r in (rival, against)]
            mean, error = _mean_and_error(_mean_and_error(logs[0] - logs[1])[0])
            cells.append(f"{mean:+.2f} +- {error:.2f}")
        better, worse = wins(scores, rival, against, scores.trials)
        lines.append(f"{rival:26}" + "".join(f"{c:>18}" for c in cells) + f"{f'{better}/{worse}':>16}")
    lines.append(f"Positive is worse than {against}; regret below 1e-4 counts as that. Runs at the end better/worse.")
    return "\n".join(lines)


def plot(scores: Scores, path: Path) -> None:
    """Draw mean normalised regret against the number of trials, with a band of one standard error over problems."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 5))
    x = np.arange(1, scores.trials + 1)
    for rival in scores.rivals:
        means = np.nanmean(scores.regret[rival], axis=1)
        mean, error = _mean_and_error(means.T)
        (line,) = ax.plot(x, mean, label=rival, lw=2.2 if rival.startswith("inloop") else 1.2)
        ax.fill_between(x, mean - error, mean + error, color=line.get_color(), alpha=0.12, lw=0)
    ax.set(yscale="log", xlabel="trials", ylabel="normalised regret", xlim=(1, scores.trials))
    ax.set_title(f"{len(scores.problems)} problems x {len(scores.seeds)} seeds")
    ax.grid(alpha=0.3, which="both")
    ax.legend(frameon=False, fontsize=9)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)
