"""Stop what falls too far behind the best."""

from __future__ import annotations

from dataclasses import dataclass

from ..history import History
from ..record import FrozenTrial
from .percentile import due
from .pruner import Pruner


@dataclass(frozen=True, repr=False)
class BanditPruner(Pruner):
    """Stops a trial whose best report so far lies further from the best than a slack.

    The best is the best value that a completed trial reported at the same step. Give exactly one slack.

    Args:
        slack_factor: Allowed distance as a share of the best's absolute value; at least 0.
        slack_amount: Allowed distance in the objective's units; at least 0.
        n_warmup_steps: Nothing is stopped at steps below this.
        interval_steps: Judge only every so many steps after the warm-up.

    Raises:
        ValueError: If not exactly one slack is given or an argument is out of its range.

    Example:
        >>> BanditPruner(slack_factor=0.2)
        BanditPruner(slack_factor=0.2)
    """

    slack_factor: float | None = None
    slack_amount: float | None = None
    n_warmup_steps: int = 0
    interval_steps: int = 1

    def __post_init__(self) -> None:
        given = [s for s in (self.slack_factor, self.slack_amount) if s is not None]
        if len(given) != 1 or not given[0] >= 0:
            raise ValueError(
                "give exactly one of slack_factor and slack_amount, at least 0; "
                f"got {self.slack_factor!r} and {self.slack_amount!r}."
            )
        if self.n_warmup_steps < 0 or self.interval_steps < 1:
            raise ValueError(
                "n_warmup_steps must be at least 0 and interval_steps at least 1, "
                f"got {self.n_warmup_steps!r} and {self.interval_steps!r}."
            )

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        curve = trial.curves[stream]
        if not due(curve, since, self.n_warmup_steps, self.interval_steps):
            return False
        others = history.finals[stream][curve.steps[-1]]
        if not len(others):
            return False
        best = others.kth(0)
        slack = self.slack_amount if self.slack_factor is None else self.slack_factor * abs(best)
        return curve.bests[-1] > best + (slack or 0.0)
