"""Tables and plots of kept results; runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Scores:
    """Normalised regrets ``(problem, seed, trial)`` of each rival.

    (best so far - f*) / (median of random - f*), where f* is the exact least loss where it is known, else the least
    seen by anyone: by many random draws or by any rival's run.

    Attributes:
        problems, rivals, seeds: Of the complete part of the rows.
        regret: Rival to ``(problems, seeds, trials)``; NaN where a run is missing.
        cpu: Rival to mean CPU milliseconds per ask + tell.
    """

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        rows = list(rows)
        refs = {r["problem"]: r for r in rows if "median" in r}
        runs = [r for r in rows if "losses" in r and r["problem"] in refs]
        self.problems = list(dict.fromkeys(r["problem"] for r in runs))
        self.rivals = list(dict.fromkeys(r["rival"] for r in runs))
        self.seeds = sorted({r["seed"] for r in runs})
        self.trials = max(len(r["losses"]) for r in runs)
        self.least = {p: _least(refs[p], [r for r in runs if r["problem"] == p]) for p in self.problems}
        shape = (len(self.problems), len(self.seeds), self.trials)
        self.regret = {name: np.full(shape, np.nan) for name in self.rivals}
        for r in runs:
            p = r["problem"]
            best = np.minimum.accumulate(r["losses"])
            scaled = (best - self.least[p]) / (refs[p]["median"] - self.least[p])
            self.regret[r["rival"]][self.problems.index(p), self.seeds.index(r["seed"]), : len(best)] = scaled
        self.cpu = {n: float(np.mean([r["cpu_ms"] for r in runs if r["rival"] == n])) for n in self.rivals}

    def at(self, rival: str, n: int) -> np.ndarray:
        """Return the regret ``(problems, seeds)`` after ``n`` trials."""
        return self.regret[rival][:, :, n - 1]

    def ranks(self, n: int) -> dict[str, float]:
        """Return each rival's mean rank (1 is the best, ties share) over problems and seeds all rivals have."""
        cube = np.stack([self.at(r, n) for r in self.rivals])
        cube = cube[:, ~np.isnan(cube).any(0)]
        better = (cube[None] < cube[:, None]).sum(1) + ((cube[None] == cube[:, None]).sum(1) - 1) / 2
        return dict(zip(self.rivals, 1 + better.mean(1), strict=True))


def _least(ref: dict[str, Any], runs: Sequence[dict[str, Any]]) -> float:
    if ref["exact"] is not None:
        return float(ref["exact"])
    return min([ref["least"], *(min(r["losses"]) for r in runs)])


def table(scores: Scores, against: str, at: Sequence[int]) -> str:
    """Return the comparison as text: mean regret +- standard error over problems, ranks, wins, CPU time."""
    at = [n for n in at if n <= scores.trials]
    last = at[-1]
    ranks = scores.ranks(last)
    head = f"{'':26}" + "".join(f"{f'@{n}':>19}" for n in at) + f"{f'rank @{last}':>11}{'wins/losses':>13}{'CPU ms':>9}"
    lines = [head]
    for rival in sorted(scores.rivals, key=lambda r: np.nanmean(scores.at(r, last))):
        cells = []
        for n in at:
            means = np.nanmean(scores.at(rival, n), axis=1)
            cells.append(f"{means.mean():.4f} +- {means.std(ddof=1) / np.sqrt(len(means)):.4f}")
        # per problem over the mean of the seeds: wins of `against` over this rival
        w, lo = wins(scores, against, rival, last)
        lines.append(
            f"{rival:26}" + "".join(f"{c:>19}" for c in cells) + f"{ranks[rival]:11.2f}"
            + (f"{'-':>13}" if rival == against else f"{f'{w}/{lo}':>13}") + f"{scores.cpu[rival]:9.2f}"
        )  # fmt: skip
    lines.append(
        f"Mean normalised regret over {len(scores.problems)} problems x {len(scores.seeds)} seeds +- standard error "
        f"over problems; wins/losses of {against} against the row @{last}, run by run."
    )
    return "\n".join(lines)


def wins(scores: Scores, a: str, b: str, n: int) -> tuple[int, int]:
    """Return in how many runs (problem, seed) ``a`` is better than ``b`` and worse after ``n`` trials."""
    x, y = scores.at(a, n), scores.at(b, n)
    return int((x < y).sum()), int((x > y).sum())


def by_problem(scores: Scores, n: int) -> str:
    """Return the mean regret after ``n`` trials by problem (rows) and rival (columns)."""
    lines = [f"{f'@{n}':26}" + "".join(f"{r[:16]:>18}" for r in scores.rivals)]
    for i, p in enumerate(scores.problems):
        lines.append(f"{p:26}" + "".join(f"{np.nanmean(scores.at(r, n)[i]):18.4f}" for r in scores.rivals))
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
        mean, error = means.mean(0), means.std(0, ddof=1) / np.sqrt(len(means))
        (line,) = ax.plot(x, mean, label=rival, lw=2.2 if rival.startswith("inloop") else 1.2)
        ax.fill_between(x, mean - error, mean + error, color=line.get_color(), alpha=0.12, lw=0)
    ax.set(yscale="log", xlabel="trials", ylabel="normalised regret", xlim=(1, scores.trials))
    ax.set_title(f"{len(scores.problems)} problems x {len(scores.seeds)} seeds")
    ax.grid(alpha=0.3, which="both")
    ax.legend(frameon=False, fontsize=9)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)
