"""Successive halving that soon goes easy: the pruner of the default pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..history import History, Rungs
from ..record import FrozenTrial, TrialState
from .halving import SuccessiveHalvingPruner, outranked
from .pruner import Pruner
from .scatter import scatter

_STRICT = SuccessiveHalvingPruner(smoothing=0.125)
_EASY = 1.5  # a rung keeps one in so many while too little comes to an end
_GENTLE = 1.25  # a rung keeps one in so many once the model is taught


@dataclass(frozen=True, repr=False)
class AutoPruner(Pruner):
    """Stops two of three trials at each rung; after four complete ones, one of five, and none for its noise.

    Rungs are those of `SuccessiveHalvingPruner` and compare the mean of the reports in the last eighth of the steps.
    A model that learns from pruned trials (`GPSampler`) needs some that were trained to the end to foretell the rest
    from. While the reports of pruned trials, in all streams, are more than one full run and a third of the reports of
    complete ones, a rung keeps two of three. Once the model is taught it proposes trials that are nearly as good as
    the best: to stop many of them throws good ones out by their noise, and has the model keep away from there. So a
    trial is then stopped only if it would be stopped with better reports, too: better by four times the standard
    deviation of the reports of complete trials around their curves in the same stream (for a mean of n reports, over
    the root of n). Rungs and decisions are otherwise those of asynchronous successive halving (Li et al., "A system for
    massively parallel hyperparameter tuning", MLSys 2020, algorithm 2); the best trial at a rung is never stopped.

    Args:
        max_resource: Reports of a full run in one stream, one for each step from the first; None: learned from the
            complete trials.
        taught: Complete trials after which it goes easy.
        doubt: By how many standard deviations of its reports a trial must then be behind.

    Raises:
        ValueError: If ``max_resource`` or ``taught`` is below 1, or ``doubt`` below 0 or not finite.

    Example:
        >>> AutoPruner(max_resource=52).rungs(-1)
        (3, 9, 27)
    """

    max_resource: int | None = None
    taught: int = 4
    doubt: float = 4.0

    def __post_init__(self) -> None:
        known = self.max_resource
        if known is not None and (isinstance(known, bool) or not isinstance(known, int) or known < 1):
            raise ValueError(f"max_resource must be an integer of at least 1 or None, got {known!r}.")
        if self.taught < 1:
            raise ValueError(f"taught must be at least 1, got {self.taught!r}.")
        if not 0 <= self.doubt < math.inf:
            raise ValueError(f"doubt must be finite and at least 0, got {self.doubt!r}.")

    def rungs(self, longest: int) -> tuple[int, ...]:
        """Return the rung steps below the last one; ``longest`` as in `SuccessiveHalvingPruner.rungs`."""
        return _STRICT.rungs(longest if self.max_resource is None else self.max_resource - 1)

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        start, longest = history.span(stream, trial.curves[stream])
        rungs = Rungs(self.rungs(longest), _STRICT.smoothing, None, start)
        keep = self._keep(history)
        stop = outranked(history, rungs, trial, stream, since, keep)
        if stop and keep == _GENTLE:  # in two steps: the scatter is looked up for few
            stop = outranked(history, rungs, trial, stream, since, keep, self.doubt * scatter(history, stream))
        return stop

    def _keep(self, history: History) -> float:
        """Return of how many trials a rung keeps one."""
        if history.states[TrialState.COMPLETE] >= self.taught:
            return _GENTLE
        # spent in all streams: few trials reach the last of several folds, which by itself would be strict for long
        full = history.fullest if self.max_resource is None else self.max_resource
        pruned, complete = history.spent[TrialState.PRUNED], history.spent[TrialState.COMPLETE]
        return _EASY if pruned > full + complete / 3 else _STRICT.reduction_factor
