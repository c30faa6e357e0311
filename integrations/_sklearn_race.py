"""The candidates of a scikit-learn search: which fold runs next, who is pruned, what the study is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from inloop import Study, StudyStopped, Trial
from inloop.events import Event
from inloop.history import History
from inloop.pruners import NopPruner, WilcoxonPruner

from ._sklearn_space import SearchSpace

#: What scikit-learn returns for one fold.
Out: TypeAlias = dict[str, Any]

#: Streams of reports at steps 1, 2, ...: the mean over the folds so far (see `adjusted`), the score of one fold.
MEANS, FOLDS = 0, 1

_MIN_FOLDS = 2  # one fold says more of the fold than of the candidate


@dataclass
class Candidate:
    """One row of ``cv_results_``.

    Attributes:
        index: Row number.
        params: Parameters of the estimator.
        reference: Fold scores of the candidate that `adjusted` compares with, None: not yet known.
        outs: Results of the folds that count, in the order of the folds.
        scores: Their values of the objective.
        issued: Folds that were given out to run.
        ahead: Results of folds that wait for an earlier one.
        pruned: Whether the folds that are left will not count.
    """

    index: int
    trial: Trial
    params: dict[str, Any]
    reference: list[float] | None
    outs: list[Out] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    issued: set[int] = field(default_factory=set)
    ahead: dict[int, Out] = field(default_factory=dict)
    pruned: bool = False


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
        value: Takes the result of a fold, returns its value of the objective.
    """

    def __init__(
        self, study: Study, space: SearchSpace, n_iter: int, n_splits: int, size: int, value: Callable[[Out], float]
    ) -> None:
        self.candidates: list[Candidate] = []
        self.study = study
        self._space = space
        self._n_iter = n_iter
        self._n_splits = n_splits
        self._size = size
        self._value = value
        self._told = 0
        self._reference: list[float] | None = None
        self._judge = None if isinstance(study.pruner, NopPruner) else Judge(study, size)
        self._fill()

    def ready(self, workers: int) -> list[tuple[Candidate, int]]:
        """Return the folds to run next: all that are needed for sure, then as many as keep ``workers`` busy.

        Nothing is returned when the search is over.
        """
        flight = [c for c in self.candidates[self._told :] if not self._ended(c)]
        needed = [(c, f) for c in flight for f in range(self._sure(c)) if f not in c.issued]
        if workers == 1:
            needed = needed[:1]
        rest = sorted(
            ((c, f) for c in flight for f in range(self._sure(c), self._n_splits) if f not in c.issued),
            key=lambda task: (task[1], task[0].index),
        )
        tasks = needed + rest[: max(0, workers - len(needed))]
        for candidate, fold in tasks:
            candidate.issued.add(fold)
        return tasks

    def take(self, candidate: Candidate, fold: int, out: Out) -> None:
        """Take in the result of one fold."""
        candidate.ahead[fold] = out
        while not self._ended(candidate) and (n := len(candidate.outs)) in candidate.ahead:
            candidate.outs.append(candidate.ahead.pop(n))
            candidate.scores.append(self._value(candidate.outs[n]))
            candidate.pruned = self._judged(candidate) and self._judge is not None and self._judge.prunes(candidate)
        while self._told < len(self.candidates) and self._ended(self.candidates[self._told]):
            self._tell(self.candidates[self._told])
            self._told += 1
            self._fill()  # at once: it is to know of this candidate and of no later one

    def _fill(self) -> None:
        while len(self.candidates) < min(self._n_iter, self._told + self._size):
            try:
                trial = self.study.ask()
            except StudyStopped:
                self._n_iter = len(self.candidates)
                return
            params = self._space.params(trial.params)
            candidate = Candidate(len(self.candidates), trial, params, self._reference)
            self.candidates.append(candidate)
            if self._judge is not None:
                self._judge.open(candidate)

    def _ended(self, candidate: Candidate) -> bool:
        return candidate.pruned or len(candidate.outs) == self._n_splits

    def _judged(self, candidate: Candidate) -> bool:
        """Say whether the pruner is asked after the folds that count so far."""
        return candidate.reference is not None and _MIN_FOLDS <= len(candidate.outs) < self._n_splits

    def _sure(self, candidate: Candidate) -> int:
        """Return how many folds will count whatever the pruner says."""
        if self._judge is None or candidate.reference is None:
            return self._n_splits
        return min(max(len(candidate.outs) + 1, _MIN_FOLDS), self._n_splits)

    def _tell(self, candidate: Candidate) -> None:
        trial, scores = candidate.trial, candidate.scores
        for n in range(1, len(scores) + 1):
            trial.report(scores[n - 1], step=n, stream=FOLDS)
            trial.report(adjusted(scores[:n], self._reference, self._n_splits), step=n, stream=MEANS)
        if candidate.pruned:
            self.study.tell(trial, state="pruned")
            return
        self.study.tell(trial, sum(scores) / len(scores))
        if self._reference is None and all(map(math.isfinite, scores)):
            self._reference = scores


class Judge:
    """Asks the pruner about a candidate as the study stood when the candidate was proposed.

    Args:
        study: The study, which may know more by now.
        size: Number of candidates in flight: each has its own view of the study's log, so a view
            serves every ``size``-th candidate and reads each event once.
    """

    def __init__(self, study: Study, size: int) -> None:
        self._study = study
        # a test of paired scores needs the scores themselves
        self._stream = FOLDS if isinstance(study.pruner, WilcoxonPruner) else MEANS
        self._views = [(History(), [0]) for _ in range(size)]

    def open(self, candidate: Candidate) -> None:
        """Bring the candidate's view up to date; it has just been proposed."""
        history, read = self._views[candidate.index % len(self._views)]
        if not read[0] and self._study.space is not None:
            history.provide(self._study.space)
        events = self._study._log.storage.read(self._study.study_name, read[0])
        history.apply(events)
        read[0] += len(events)

    def prunes(self, candidate: Candidate) -> bool:
        """Say whether the candidate ends after the folds that it has."""
        history, _ = self._views[candidate.index % len(self._views)]
        record = history.trials[candidate.trial.number]
        before = len(record.curves[self._stream]) if record.curves else 0
        assert candidate.reference is not None
        for n in range(before + 1, len(candidate.scores) + 1):
            mean = adjusted(candidate.scores[:n], candidate.reference, len(candidate.reference))
            # the study's log will hold the same reports; of two the first counts
            for report in ((FOLDS, n, candidate.scores[n - 1]), (MEANS, n, mean)):
                history.apply([Event("judge", history.events, "report", record.number, report)])
        since = before if before >= _MIN_FOLDS else 0
        return self._study.pruner.prune(history, record, self._stream, since)


def adjusted(scores: list[float], reference: list[float] | None, n_splits: int) -> float:
    """Return what the mean over all folds would be if the folds to come were as in the reference.

    That is the mean of the differences to the reference over the folds done, plus the reference's mean:
    a running mean without the part that only says which folds are the easy ones (common random numbers,
    Glasserman and Yao, "Some guidelines and guarantees for common random numbers", Management Science 38, 1992).

    Example:
        >>> adjusted([0.9, 0.7], [0.8, 0.6, 0.4], n_splits=3)
        0.7
    """
    mean = sum(scores) / len(scores)
    if reference is None or len(scores) == n_splits:
        return mean
    return mean - sum(reference[: len(scores)]) / len(scores) + sum(reference) / n_splits
