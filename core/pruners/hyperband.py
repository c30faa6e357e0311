"""Several successive halvings side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..history import History, Rungs
from ..record import FrozenTrial
from .halving import SuccessiveHalvingPruner, outranked
from .pruner import Pruner


@dataclass(frozen=True)
class _Bracket:
    """Trial number to bracket: drawn by the study's seed and the number alone, so every worker agrees."""

    seed: int
    weights: tuple[int, ...]

    def __call__(self, number: int) -> int:
        point = int(np.random.SeedSequence((self.seed, number)).generate_state(1, np.uint64)[0]) % sum(self.weights)
        for bracket, weight in enumerate(self.weights):
            point -= weight
            if point < 0:
                return bracket
        raise AssertionError("unreachable: point < sum(weights)")


@dataclass(frozen=True, repr=False)
class HyperbandPruner(Pruner):
    """Runs successive halving with several first rungs; each trial belongs to one bracket.

    Hedges against curves that cross late: Li et al., "Hyperband: a novel bandit-based approach to
    hyperparameter optimization", JMLR 18, 2018, algorithm 1, with asynchronous brackets as in Li et al.,
    MLSys 2020. Bracket s leaves out the s lowest rungs, and the last one all: its trials are never stopped. A
    trial falls into bracket s with a probability proportional to the number of trials that algorithm 1 starts in it,
    by the study's seed and its number. Steps are counted from where training starts, as in `SuccessiveHalvingPruner`.

    Args:
        min_resource: Step of the lowest rung, at least 1.
        max_resource: Largest step, or ``"auto"``: the longest completed trial; nothing is stopped
            before there is one.
        reduction_factor: One in so many goes on; at least 2.
        smoothing: As in `SuccessiveHalvingPruner`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> HyperbandPruner(min_resource=1, max_resource=81).brackets(81)
        (81, 34, 15, 8, 5)
    """

    min_resource: int = 3
    max_resource: int | str = "auto"
    reduction_factor: int = 3
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        self._halving(0)
        if self.max_resource != "auto" and (
            not isinstance(self.max_resource, int) or self.max_resource < self.min_resource
        ):
            raise ValueError(
                f"max_resource must be 'auto' or an integer of at least min_resource={self.min_resource}, "
                f"got {self.max_resource!r}."
            )

    def brackets(self, longest: int) -> tuple[int, ...]:
        """Return how many trials algorithm 1 starts in each bracket, the most aggressive one first.

        There are at least two brackets: with the last one alone, short trainings would not be pruned at all.
        """
        top = 1
        while self.min_resource * self.reduction_factor ** (top + 1) <= longest:
            top += 1
        eta = self.reduction_factor
        # ceil((s_max + 1) / (s + 1) * eta**s) with s counted from the most aggressive bracket
        return tuple(-(-(top + 1) * eta**s // (s + 1)) for s in range(top, -1, -1))

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        start, longest = history.span(stream, trial.curves[stream])
        if not isinstance(self.max_resource, str):
            longest = self.max_resource
        if longest < self.min_resource:
            return False
        bracket = _Bracket(history.seed, self.brackets(longest))
        mine = bracket(trial.number)
        if mine == len(bracket.weights) - 1:
            return False
        rungs = Rungs(self._halving(mine).rungs(longest), self.smoothing, bracket, start)
        return outranked(history, rungs, trial, stream, since, self.reduction_factor)

    def _halving(self, bracket: int) -> SuccessiveHalvingPruner:
        return SuccessiveHalvingPruner(self.min_resource, self.reduction_factor, bracket, self.smoothing)
