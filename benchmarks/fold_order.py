"""Pruning inside the fits of a cross-validation: folds one after another, or all together, at what cost and loss.

    python benchmarks/fold_order.py              # 4 problems x 2 seeds x 60 candidates, random and proposed

Every fold of every candidate is fitted to its end once, with the scores that `BayesSearchCV` would have seen on the
way. Candidates are drawn at random, or proposed by inloop's sampler from the results of those before them. Then both
orders are replayed on the same fits:

* one after another, what the search does (`FoldsPruner`): the first fold reports from inside its fit, and after each
  fold what the folds done foretell of its mean is compared with the best one's. Its margin is varied.
* together: all folds advance from rung to rung, and the mean over the folds of what each promises is compared with
  the best one's final mean. All folds are seen, so there is no noise of the folds to allow for. A fold promises its
  score so far and what it would gain at the slope of the last two reports, or a part of that gain.

A cost is CPU time of the fits alone, by the share of the iterations that were run; scoring on the way is counted as
free, which favours the second: it scores five times as often. The loss is how far the best score that was found is
behind that of all candidates, in standard deviations of the ten best ones.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import inloop
import numpy as np
from inloop.integrations._sklearn_early import Watched
from inloop.integrations._sklearn_folds import FOLDS, ITERATIONS, FoldsPruner, turns
from inloop.integrations._sklearn_iterations import View, Watch, most_iterations, run_fold
from inloop.pruners import NopPruner
from runner import stamp
from search_cv import PROBLEMS, Problem
from sklearn.base import clone
from sklearn.metrics import get_scorer

RESULTS = Path(__file__).parent / "results"
CANDIDATES = 60


@dataclass
class Fold:
    """One fit to its end: (iteration, score) on the way, the score at the end, CPU seconds."""

    curve: list[tuple[int, float]]
    score: float
    seconds: float


def candidates(problem: Problem, seed: int, sampler: str) -> list[list[Fold]]:
    """Return the folds of the candidates that a sampler proposes."""
    X, y = problem.data()
    splits = list(problem.cv().split(X, y))
    study = inloop.create_study("maximize", space=problem.space, sampler=sampler, pruner="nop", seed=seed)
    runs = []
    for _ in range(CANDIDATES):
        trial = study.ask()
        runs.append([fitted(problem, X, y, split, trial.params) for split in splits])
        study.tell(trial, mean_score(runs[-1]))
    return runs


def mean_score(folds: list[Fold]) -> float:
    return float(np.mean([f.score for f in folds]))


def fitted(problem: Problem, X: np.ndarray, y: np.ndarray, split: tuple, params: dict[str, object]) -> Fold:
    watch = Watch(NopPruner(), View(), 0, ITERATIONS)
    start = time.process_time()
    out = run_fold(
        clone(problem.estimator), X, y, watch=watch, value=float, watched=Watched("split", 0.1),
        scorer=get_scorer(problem.scoring), train=split[0], test=split[1], verbose=0, parameters=params,
        fit_params={}, score_params={}, error_score=np.nan,
    )  # fmt: skip
    assert not math.isnan(out["test_scores"])
    return Fold(watch.curve, float(out["test_scores"]), time.process_time() - start)


def spent(fold: Fold, iterations: int, rounds: int) -> float:
    return fold.seconds * iterations / rounds


def one_after_another(runs: list[list[Fold]], rounds: int, margin: float) -> tuple[float, float]:
    """Return CPU seconds and the best score found."""
    study = inloop.create_study("maximize", sampler="random", pruner=FoldsPruner(rounds, margin), seed=0)
    seconds = 0.0
    for folds in runs:
        trial = study.ask()
        order = turns(trial.number, len(folds))
        for step, score in folds[order[0]].curve:
            trial.report(score, step, ITERATIONS)
            if trial.should_prune():
                seconds += spent(folds[order[0]], step, rounds)
                break
        for n, k in enumerate(order, 1):
            if trial.pruned:
                break
            seconds += folds[k].seconds
            trial.report(folds[k].score, k + 1, FOLDS)
            if n < len(folds):
                trial.should_prune()
        study.tell(trial, None if trial.pruned else mean_score(folds))
    return seconds, study.best_value


def together(runs: list[list[Fold]], rounds: int, part: float) -> tuple[float, float]:
    """Return CPU seconds and the best score found."""
    seconds, best, complete = 0.0, -math.inf, 0
    for folds in runs:
        end = rounds
        before: np.ndarray | None = None
        for i, (step, _) in enumerate(folds[0].curve):
            now = np.array([f.curve[i][1] for f in folds])
            if before is not None:
                slope = (now - before) / (step - folds[0].curve[i - 1][0])
                promised = now + part * np.maximum(slope, 0.0) * (rounds - step)
                if complete > 4 and promised.mean() < best:
                    end = step
                    break
            before = now
        seconds += sum(spent(f, end, rounds) for f in folds)
        if end == rounds:
            complete += 1
            best = max(best, mean_score(folds))
    return seconds, best


ORDERS: dict[str, Callable[[list[list[Fold]], int], tuple[float, float]]] = {
    **{f"one after another, margin {m}": partial(one_after_another, margin=m) for m in (1.0, 1.5, 2.0)},
    **{f"together, {p} of the gain": partial(together, part=p) for p in (1.0, 0.35, 0.2)},
}


def compare(problem: Problem, seed: int, sampler: str) -> dict[str, Any]:
    runs = candidates(problem, seed, sampler)
    rounds = most_iterations(problem.estimator, {})
    scores = np.sort([mean_score(folds) for folds in runs])
    whole = sum(f.seconds for folds in runs for f in folds)
    row: dict[str, Any] = {"problem": problem.name, "seed": seed, "sampler": sampler}
    for name, order in ORDERS.items():
        seconds, best = order(runs, rounds)
        row[name] = {"less": round(whole / seconds, 3), "loss": round((scores[-1] - best) / scores[-10:].std(), 3)}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the factors and losses by order and kind of candidates."""
    samplers = list(dict.fromkeys(r["sampler"] for r in rows))
    lines = ["CPU of the fits without pruning / with it (geometric mean), and the loss of the best score (mean, and in"]
    lines += ["how many of the runs there was any)", "", f"{'':32}" + "".join(f"{s:>30}" for s in samplers)]
    for name in ORDERS:
        cells = []
        for sampler in samplers:
            of = [r[name] for r in rows if r["sampler"] == sampler]
            less = math.exp(np.mean([math.log(c["less"]) for c in of]))
            lost = sum(c["loss"] > 0 for c in of)
            cells.append(f"{less:.2f}x, {np.mean([c['loss'] for c in of]):.2f} ({lost} of {len(of)})")
        lines.append(f"{name:32}" + "".join(f"{c:>30}" for c in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for seed in range(given.seeds):
        for problem in PROBLEMS:
            for sampler in ("random", "auto") if problem.inside else ():
                rows.append(compare(problem, seed, sampler))
                print(json.dumps(rows[-1]), flush=True)
    text = table(rows)
    print(text)
    (RESULTS / "fold_order.json").write_text(json.dumps({**stamp(), "rows": rows}, indent=1) + "\n")
    (RESULTS / "fold_order.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
