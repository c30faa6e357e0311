"""Who judges the candidates of a search, each by what was known when it was proposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from inloop import Study
from inloop.events import Event
from inloop.pruners import Pruner, WilcoxonPruner
from inloop.record import Curve

from ._sklearn_folds import FOLDS, ITERATIONS, MEANS, FoldsPruner, Outlook
from ._sklearn_iterations import View, Watch, Watcher

if TYPE_CHECKING:
    from ._sklearn_race import Candidate

MIN_FOLDS = 2  # one fold says more of the fold than of the candidate


class Judge:
    """Asks any pruner about a candidate as the study stood when the candidate was proposed.

    Args:
        study: The study, which may know more by now.
        size: Number of candidates in flight: each has its own view of the study's log, so a view
            serves every ``size``-th candidate and folds each event once.
    """

    def __init__(self, study: Study, size: int) -> None:
        self._study = study
        # a test of paired scores needs the scores themselves
        self._stream = FOLDS if isinstance(study.pruner, WilcoxonPruner) else MEANS
        self._log: list[Event] = []
        self._views = [View(self._log) for _ in range(size)]
        if study.space is not None:
            for view in self._views:
                view.history.provide(study.space)

    def open(self, candidate: Candidate) -> None:
        """Bring the candidate's view up to date; it has just been proposed."""
        study = self._study
        self._log += study._log.storage.read(study.study_name, len(self._log))
        self._view(candidate).update()

    def watch(self, candidate: Candidate, pruner: Pruner, alone: bool) -> Watcher:
        """Return who judges the first fold from inside its fit.

        Args:
            candidate: Of which candidate.
            pruner: Whom to ask.
            alone: Whether the fold runs in this thread; else it gets a view of its own.
        """
        view = self._view(candidate) if alone else self._view(candidate).fork()
        return Watch(pruner, view, candidate.trial.number, ITERATIONS)

    def prunes(self, candidate: Candidate) -> bool:
        """Say whether the candidate ends after the folds that it has."""
        view, number = self._view(candidate), candidate.trial.number
        assert candidate.reference is not None
        curve = view.history.trials[number].curves.get(self._stream)
        before = len(curve) if curve is not None else 0
        for n in range(before + 1, len(candidate.scores) + 1):
            mean = adjusted(candidate.scores[:n], candidate.order, candidate.reference)
            view.report(number, FOLDS, candidate.order[n - 1] + 1, candidate.scores[n - 1])
            view.report(number, MEANS, n, mean)
        since = before if before >= MIN_FOLDS else 0
        return self._study.pruner.prune(view.history, view.history.trials[number], self._stream, since)

    def _view(self, candidate: Candidate) -> View:
        return self._views[candidate.index % len(self._views)]


class FoldsJudge:
    """Asks `FoldsPruner`s, as `Judge` does any; an `Outlook` for each candidate in flight is all that it needs."""

    def __init__(self, study: Study, size: int) -> None:
        self._study = study
        self._known = [Outlook.of(study.history)] * size

    def open(self, candidate: Candidate) -> None:
        """Note what is known; the candidate has just been proposed."""
        self._known[candidate.index % len(self._known)] = Outlook.of(self._study.history)

    def watch(self, candidate: Candidate, pruner: Pruner, alone: bool) -> Watcher:
        """Return who judges the first fold from inside its fit."""
        assert isinstance(pruner, FoldsPruner)
        return FoldsWatch(pruner, self._of(candidate), candidate.order[0])

    def prunes(self, candidate: Candidate) -> bool:
        """Say whether the candidate ends after the folds that it has."""
        pruner, known, scores = self._study.pruner, self._of(candidate), np.array(candidate.scores)
        assert isinstance(pruner, FoldsPruner)
        return pruner.between(known, np.array(candidate.order[: len(scores)]), known.sign * scores)

    def _of(self, candidate: Candidate) -> Outlook:
        return self._known[candidate.index % len(self._known)]


class FoldsWatch(Watcher):
    """Asks a `FoldsPruner` about the first fold of a candidate.

    Args:
        pruner: Whom to ask.
        known: What was known when the candidate was proposed.
        fold: Which one it begins with.
    """

    def __init__(self, pruner: FoldsPruner, known: Outlook, fold: int) -> None:
        super().__init__()
        self._pruner = pruner
        self._known = known
        self._fold = np.array([fold])
        self._reports = Curve()

    def _prunes(self, step: int, score: float) -> bool:
        self._reports.add(step, score, self._known.sign * score)
        return self._pruner.inside(self._known, self._fold, self._reports)


def adjusted(scores: list[float], order: list[int], reference: list[float] | None) -> float:
    """Return what the mean over all folds would be if the folds to come were as in the reference.

    That is the mean of the differences to the reference over the folds done, plus the reference's mean:
    a running mean without the part that only says which folds are the easy ones (common random numbers,
    Glasserman and Yao, "Some guidelines and guarantees for common random numbers", Management Science 38, 1992).

    Args:
        scores: Of the first folds in ``order``.
        order: The folds.
        reference: Scores of all folds; None: the running mean is returned.

    Example:
        >>> round(adjusted([0.9, 0.7], [0, 1, 2], [0.8, 0.6, 0.4]), 12)
        0.7
    """
    mean = sum(scores) / len(scores)
    if reference is None or len(scores) == len(order):
        return mean
    same = [reference[fold] for fold in order[: len(scores)]]
    return mean - sum(same) / len(same) + sum(reference) / len(reference)
