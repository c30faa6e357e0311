"""Asynchronous successive halving."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..history import History, Rungs
from ..record import FrozenTrial
from .pruner import Pruner


@dataclass(frozen=True, repr=False)
class SuccessiveHalvingPruner(Pruner):
    """Stops a trial at a rung unless it is among the best ``1 / reduction_factor`` to have reached it.

    Asynchronous successive halving in its stopping form: Li et al., "A system for massively
    parallel hyperparameter tuning", MLSys 2020, algorithm 2; a decision never waits for others. Rungs lie at
    steps ``min_resource * reduction_factor ** (k + min_early_stopping_rate)``, k = 0, 1, ... The best trial at a
    rung is never stopped, so neither is the first. NaN ranks last. Steps are counted from where training starts: where
    complete trials go on from a base model or a checkpoint, that is their least first step.

    Args:
        min_resource: Step of the first rung; ``"auto"`` is 3, or 5 % of the longest completed trial
            where that is more. (On neural-net curves values at step 1 do not foretell the last
            ones: rank correlation between -0.6 and 0.6.)
        reduction_factor: One in so many goes on; at least 2.
        min_early_stopping_rate: Leave out so many of the lowest rungs.
        smoothing: A rung compares the mean of a trial's reports in the last ``1 + floor(smoothing * step)`` steps.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> SuccessiveHalvingPruner(min_resource=1).rungs(30)
        (1, 3, 9, 27)
    """

    min_resource: int | str = "auto"
    reduction_factor: int = 3
    min_early_stopping_rate: int = 0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        auto = self.min_resource == "auto"
        if not auto and (not isinstance(self.min_resource, int) or self.min_resource < 1):
            raise ValueError(f"min_resource must be 'auto' or an integer of at least 1, got {self.min_resource!r}.")
        if not isinstance(self.reduction_factor, int) or self.reduction_factor < 2:
            raise ValueError(f"reduction_factor must be an integer of at least 2, got {self.reduction_factor!r}.")
        if not isinstance(self.min_early_stopping_rate, int) or self.min_early_stopping_rate < 0:
            raise ValueError(
                f"min_early_stopping_rate must be an integer of at least 0, got {self.min_early_stopping_rate!r}."
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {self.smoothing!r}.")

    def rungs(self, longest: int) -> tuple[int, ...]:
        """Return the rung steps below ``longest``, the last step of the longest completed trial (-1: none yet).

        All are counted from where training starts.
        """
        low = max(3, round(0.05 * longest)) if isinstance(self.min_resource, str) else self.min_resource
        step = low * self.reduction_factor**self.min_early_stopping_rate
        top = longest if longest >= 0 else 2**40  # at the last step there is nothing left to save
        steps = []
        while step < top:
            steps.append(step)
            step *= self.reduction_factor
        return tuple(steps)

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        start, longest = history.span(stream, trial.curves[stream])
        rungs = Rungs(self.rungs(longest), self.smoothing, None, start)
        return outranked(history, rungs, trial, stream, since, self.reduction_factor)


def outranked(
    history: History, rungs: Rungs, trial: FrozenTrial, stream: int, since: int, keep: float, noise: float = 0.0
) -> bool:
    """Say whether a trial that has newly reached a rung is not among the best ``1 / keep`` there.

    Args:
        history: What the trials reported.
        rungs: Where they are compared.
        trial: The trial.
        stream: Of its reports.
        since: How many of its reports were judged before.
        keep: One in so many goes on.
        noise: How much better a single report might have been; of the mean of n reports, this over the root of n.
    """
    if not rungs.steps or trial.curves[stream].top < rungs.start + rungs.steps[0]:
        return False
    table = history.rungs(stream, rungs)
    reached = table.reached.get(trial.number)
    if reached is None or reached.position < since:
        return False
    losses, loss = table.losses(reached.group, reached.rung), reached.loss
    if noise:
        loss -= noise / math.sqrt(reached.averaged)
    return losses.below(loss) >= max(1, int(len(losses) / keep))
