"""Stop what leaves a range."""

from __future__ import annotations

from dataclasses import dataclass

from ..history import History
from ..record import FrozenTrial
from .percentile import due
from .pruner import Pruner


@dataclass(frozen=True, repr=False)
class ThresholdPruner(Pruner):
    """Stops a trial when a report is below ``lower``, above ``upper``, or NaN.

    Each report made since the last question counts, not the last one alone.

    Args:
        lower: Smallest value to go on with.
        upper: Largest value to go on with.
        n_warmup_steps: Nothing is stopped at steps below this.
        interval_steps: Judge only every so many steps after the warm-up.

    Raises:
        ValueError: If neither bound is given, or they are the wrong way round.

    Example:
        >>> ThresholdPruner(upper=10.0)
        ThresholdPruner(upper=10.0)
    """

    lower: float | None = None
    upper: float | None = None
    n_warmup_steps: int = 0
    interval_steps: int = 1

    def __post_init__(self) -> None:
        if self.lower is None and self.upper is None:
            raise ValueError("ThresholdPruner needs lower, upper or both.")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower must not exceed upper, got lower={self.lower!r} and upper={self.upper!r}.")
        if self.n_warmup_steps < 0 or self.interval_steps < 1:
            raise ValueError(
                "n_warmup_steps must be at least 0 and interval_steps at least 1, "
                f"got {self.n_warmup_steps!r} and {self.interval_steps!r}."
            )

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        curve = trial.curves[stream]
        if not due(curve, since, self.n_warmup_steps, self.interval_steps):
            return False
        new = zip(curve.steps[since:], curve.values[since:], strict=True)
        return any(step >= self.n_warmup_steps and self._is_outside(value) for step, value in new)

    def _is_outside(self, value: float) -> bool:
        low = self.lower is not None and value < self.lower
        high = self.upper is not None and value > self.upper
        return low or high or value != value
