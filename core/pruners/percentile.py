"""Stop what is worse than a percentile of the completed trials at the same step."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, inf

from ..history import History
from ..record import COMPLETE, Curve, FrozenTrial
from .pruner import Pruner


@dataclass(frozen=True, repr=False)
class PercentilePruner(Pruner):
    """Keeps a trial while its best report so far is within the best ``percentile`` per cent.

    It is compared with what completed trials reported at the same step of the same stream
    (linear interpolation between reports); it goes on when equal. A trial that has reported
    only NaN is stopped as soon as any comparison is made.

    Args:
        percentile: Between 0 and 100; 25 keeps the best quarter.
        n_startup_trials: Nothing is stopped before so many trials are complete.
        n_warmup_steps: Nothing is stopped at steps below this.
        interval_steps: Judge only every so many steps after the warm-up.
        n_min_trials: Judge only at steps which so many completed trials have reported.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> PercentilePruner(25.0, n_warmup_steps=3)
        PercentilePruner(percentile=25.0, n_warmup_steps=3)
    """

    percentile: float
    n_startup_trials: int = 5
    n_warmup_steps: int = 0
    interval_steps: int = 1
    n_min_trials: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile must lie between 0 and 100, got {self.percentile!r}.")
        lowest = {"n_startup_trials": 0, "n_warmup_steps": 0, "interval_steps": 1, "n_min_trials": 1}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)!r}.")

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        curve = trial.curves[stream]
        step = curve.steps[-1]
        if step < self.n_warmup_steps:
            return False
        if self.interval_steps > 1 and not due(curve, since, self.n_warmup_steps, self.interval_steps):
            return False
        others = history.finals[stream][step]
        n = others.size  # of those that are complete, looked at first because it is at hand
        if n < self.n_min_trials or (n < self.n_startup_trials and history.states[COMPLETE] < self.n_startup_trials):
            return False
        place = (n - 1) * self.percentile / 100
        best, few = curve.bests[-1], others.few
        if best == inf and all(v != v for v in curve.values):
            return True  # NaN ties with NaN; a trial without a number has no claim to go on
        if best <= few[int(place)] if few is not None else others.has_place(best, int(place)):
            return False
        low, high = others.kth(int(place)), others.kth(ceil(place))
        return best > high or best > low + (high - low) * (place - int(place))


@dataclass(frozen=True, repr=False)
class MedianPruner(PercentilePruner):
    """Stops a trial whose best report so far is worse than the median of completed trials at that step.

    Golovin et al., "Google Vizier: a service for black-box optimization", KDD 2017, section 3.5
    (the median stopping rule, here over the values at the step instead of running averages).

    Args: As `PercentilePruner`, with ``percentile`` 50.

    Example:
        >>> MedianPruner(n_startup_trials=3).percentile
        50.0
    """

    percentile: float = field(default=50.0, init=False)


def due(curve: Curve, since: int, warmup: int, interval: int) -> bool:
    """Say whether reports not judged before reach a step ``warmup + k * interval``, k >= 0."""
    step = curve.steps[-1]
    if step < warmup:
        return False
    if interval == 1:
        return True
    before = max(curve.steps[:since], default=-1) if since else -1
    return before < warmup or (step - warmup) // interval > (before - warmup) // interval
