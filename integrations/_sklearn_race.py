"""The candidates of a scikit-learn search: which fold runs next, who is pruned, what the study is told."""

from __future__ import annotations

import heapq
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from typing import Any, TypeAlias

import numpy as np
from inloop import FrozenTrial, Study, StudyStopped, Trial, TrialState
from inloop.pruners import NopPruner, Pruner

from ._sklearn_folds import FOLDS, FOLDS_KEPT, ITERATIONS, MEANS, FoldsPruner, turns
from ._sklearn_iterations import Watcher
from ._sklearn_judge import MIN_FOLDS, FoldsJudge, Judge, adjusted
from ._sklearn_space import SearchSpace

#: What scikit-learn returns for one fold, with what `run_fold` adds.
Out: TypeAlias = dict[str, Any]


@dataclass
class Candidate:
    """One row of ``cv_results_``.

    Attributes:
        index: The how manieth it is.
        params: Parameters of the estimator.
        reference: Fold scores of the candidate that `adjusted` compares with, None: not yet known.
        order: The folds, in the order in which they run.
        outs: Results of the folds that count, in this order.
        scores: Their values of the objective.
        issued: Folds that were given out to run.
        ahead: Results of folds that wait for an earlier one.
        pruned: Whether the folds that are left will not count.
        stopped: Result of the fold in which it was pruned, None if it was pruned between folds or not at all.
    """

    index: int
    trial: Trial
    params: dict[str, Any]
    reference: list[float] | None
    order: list[int]
    outs: list[Out] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    issued: set[int] = field(default_factory=set)
    ahead: dict[int, Out] = field(default_factory=dict)
    pruned: bool = False
    stopped: Out | None = None

    @property
    def by_fold(self) -> dict[int, Out]:
        """Results that count, by fold."""
        return dict(zip(self.order, self.outs, strict=False))

    @property
    def in_order(self) -> list[float]:
        """Scores of a complete candidate in the order of the folds."""
        scores = dict(zip(self.order, self.scores, strict=True))
        return [scores[fold] for fold in sorted(scores)]

    @property
    def run(self) -> list[Out]:
        """Results of the folds that were run, the stopped one included."""
        return self.outs if self.stopped is None else [*self.outs, self.stopped]


class Race:
    """Keeps up to ``size`` candidates in flight, and tells the study of them in their order.

    Candidate k is proposed from exactly the results of the candidates up to k - ``size``, and is
    pruned by these and its own folds in their order. So what comes out does not depend on when or where a fold runs.

    Args:
        study: A fresh study.
        space: Its space.
        n_iter: Number of candidates.
        n_splits: Number of folds.
        size: Candidates in flight.
        value: Takes the scores of a fold, returns its value of the objective.
        inside: Judges the first fold from inside its fit; None: nobody does.
        told: Called with each trial that has ended.
        earlier: Candidates of an earlier run of the same search, which count, where it is kept in a storage; then the
            results of the new ones are written there. None: it is not kept.
    """

    def __init__(
        self,
        study: Study,
        space: SearchSpace,
        n_iter: int,
        n_splits: int,
        size: int,
        value: Callable[[Any], float],
        inside: Pruner | None = None,
        told: Callable[[FrozenTrial], None] = lambda trial: None,
        earlier: Sequence[Candidate] | None = None,
    ) -> None:
        self.candidates: list[Candidate] = list(earlier or ())
        self.study = study
        self.space = space
        self._n_iter = n_iter
        self._n_splits = n_splits
        self._size = size
        self._value = value
        self._inside = inside
        self._call = told
        self._kept = earlier is not None
        self._told = len(self.candidates)
        self._running = 0
        self._reference = next((c.in_order for c in self.candidates if not c.pruned and _finite(c.scores)), None)
        self._in_turn = isinstance(study.pruner, FoldsPruner)
        self._judge: Judge | FoldsJudge | None = None
        if not isinstance(study.pruner, NopPruner):
            self._judge = (FoldsJudge if self._in_turn else Judge)(study, size)
        self._fill()

    @property
    def n_complete(self) -> int:
        """Number of candidates that ran all of their folds, none of which failed or scored NaN."""
        return sum(
            len(c.outs) == self._n_splits and _finite(c.scores) and all(out["fit_error"] is None for out in c.outs)
            for c in self.candidates
        )

    def ready(self, workers: int) -> list[tuple[Candidate, int]]:
        """Return the folds to run next: all that are needed for sure, then as many as keep ``workers`` busy.

        Nothing is returned when the search is over.
        """
        needed, rest = self._left(workers)
        if workers == 1:
            needed = needed[:1]
        tasks = needed + rest[: max(0, workers - len(needed))]
        for candidate, fold in tasks:
            candidate.issued.add(fold)
        self._running += len(tasks)
        return tasks

    def next(self, workers: int) -> tuple[Candidate, int] | None:
        """Return one fold to run now, one that may count for nothing only if workers had nothing to do otherwise.

        None: none can be run before other results are in.
        """
        needed, rest = self._left(1)
        tasks = needed[:1] or (rest[:1] if self._running < workers else [])
        for candidate, fold in tasks:
            candidate.issued.add(fold)
            self._running += 1
        return tasks[0] if tasks else None

    @property
    def over(self) -> bool:
        """Whether no candidate is left to run folds of."""
        return all(self._ended(c) for c in self.candidates[self._told :])

    def _left(self, most: int) -> tuple[list[tuple[Candidate, int]], list[tuple[Candidate, int]]]:
        """Return the folds not given out yet: those that will count for sure, and ``most`` others, best first."""
        needed: list[tuple[Candidate, int]] = []
        rest: list[tuple[int, int, Candidate, int]] = []
        for c in self.candidates[self._told :]:
            if not self._ended(c):
                sure = self._sure(c)
                needed += ((c, f) for f in c.order[:sure] if f not in c.issued)
                others = ((place, c.index, c, f) for place, f in enumerate(c.order[sure:], sure) if f not in c.issued)
                rest += itertools.islice(others, most)
        return needed, [(c, f) for _, _, c, f in heapq.nsmallest(most, rest, key=lambda task: task[:2])]

    def watch(self, candidate: Candidate, fold: int, workers: int) -> Watcher | None:
        """Return who judges a fold from inside its fit, None if nobody does.

        Only the first fold is judged so: whoever gets through it is good enough to be judged by whole folds. Over
        recorded curves of XGBoost and LightGBM (3 data sets x 12 orders of 30 candidates), judging all folds
        cost as much and lost more good candidates (by median: score lost .033 against .012 of the distance from
        the median to the best tenth, at 37 % of the cost without pruning; by halving .41 against .17, at 11 %).
        """
        if self._judge is None or self._inside is None or fold != candidate.order[0]:
            return None
        return self._judge.watch(candidate, self._inside, alone=workers == 1)

    def take(self, candidate: Candidate, fold: int, out: Out) -> None:
        """Take in the result of one fold."""
        self._running -= 1
        candidate.ahead[fold] = out
        while not self._ended(candidate) and (due := candidate.order[len(candidate.outs)]) in candidate.ahead:
            self._count(candidate, candidate.ahead.pop(due))
        while self._told < len(self.candidates) and self._ended(self.candidates[self._told]):
            self._tell(self.candidates[self._told])
            self._told += 1
            self._fill()  # at once: it is to know of this candidate and of no later one

    def close(self) -> None:
        """End the search: candidates whose folds have not all been run are dropped, and come first if it goes on."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an interrupt may have come between the reports of one
            for candidate in self.candidates[self._told :]:
                if self._ended(candidate) and candidate.trial.state is TrialState.RUNNING:
                    self._tell(candidate)
        self._told = len(self.candidates)
        self.candidates = [c for c in self.candidates if self._ended(c)]
        break_off(self.study)

    def _fill(self) -> None:
        while len(self.candidates) < min(self._n_iter, self._told + self._size):
            try:
                trial = self.study.ask()
            except StudyStopped:
                self._n_iter = len(self.candidates)
                return
            params = self.space.params(trial.params)
            order = turns(trial.number, self._n_splits) if self._in_turn else list(range(self._n_splits))
            candidate = Candidate(len(self.candidates), trial, params, self._reference, order)
            self.candidates.append(candidate)
            if self._judge is not None:
                self._judge.open(candidate)

    def _ended(self, candidate: Candidate) -> bool:
        return candidate.pruned or len(candidate.outs) == self._n_splits

    def _sure(self, candidate: Candidate) -> int:
        """Return how many folds will count whatever the pruner says."""
        if self._judge is None or candidate.reference is None:
            return self._n_splits
        if self._inside is not None and not candidate.outs:
            return 1
        return min(max(len(candidate.outs) + 1, self._least(candidate)), self._n_splits)

    def _least(self, candidate: Candidate) -> int:
        """Return after how many folds a candidate may be pruned."""
        # whoever is judged inside the first fold by what the fold is worth may also be when it is over
        first = isinstance(self._inside, FoldsPruner) and candidate.outs and candidate.outs[0]["curve"]
        return 1 if first else MIN_FOLDS

    def _count(self, candidate: Candidate, out: Out) -> None:
        if out["stopped"]:
            candidate.pruned, candidate.stopped = True, out
            return
        candidate.outs.append(out)
        candidate.scores.append(self._value(out["test_scores"]))
        if self._judge is not None and self._least(candidate) <= len(candidate.outs) < self._n_splits:
            candidate.pruned = candidate.reference is not None and self._judge.prunes(candidate)

    def _tell(self, candidate: Candidate) -> None:
        trial, scores = candidate.trial, candidate.scores
        for n, out in enumerate(candidate.run):
            for step, value in out["curve"]:
                trial.report(value, step, stream=ITERATIONS)
            if n < len(scores):
                mean = adjusted(scores[: n + 1], candidate.order, self._reference)
                trial.report(scores[n], step=candidate.order[n] + 1, stream=FOLDS)
                trial.report(mean, step=n + 1, stream=MEANS)
        if self._kept:
            # the study has the curves
            outs = [_as_json({k: v for k, v in out.items() if k != "curve"}) for out in candidate.run]
            trial.set_user_attr(FOLDS_KEPT, {"scores": scores, "outs": outs, "order": candidate.order})
        if candidate.pruned:
            self._call(self.study.tell(trial, state="pruned"))
            return
        scores = candidate.in_order
        record = self.study.tell(trial, sum(scores) / len(scores))
        if self._reference is None and _finite(scores):
            self._reference = scores
        self._call(record)


def break_off(study: Study) -> None:
    """End the trials that run as LOST: nothing is known of their parameters, which are offered again."""
    for number in sorted(study.history.running, reverse=True):  # whoever is lost last is offered first
        study._log.finish(study.history.trials[number], TrialState.LOST, None)


def _finite(scores: list[float]) -> bool:
    return all(map(math.isfinite, scores))


def _as_json(value: Any) -> Any:
    """Return the result of a fold as JSON."""
    if isinstance(value, Mapping):
        return {k: _as_json(v) for k, v in value.items()}
    value = value.item() if isinstance(value, np.generic) else value
    known = isinstance(value, int | float) or not isinstance(value, Number)  # JSON has no other number
    return value if known else float(value)
