"""Let a pruner speak only once a trial has ceased to improve."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..history import History
from ..record import FrozenTrial
from .pruner import Pruner


@dataclass(frozen=True, repr=False)
class PatientPruner(Pruner):
    """Asks ``pruner`` only when a trial's last ``patience`` reports brought no improvement.

    No improvement means: the best of the last ``patience + 1`` reports is not better than the
    best before them by more than ``min_delta``. NaN reports are passed over. A pruner that judges
    at rungs or at intervals is then asked about the last of them that the trial has passed, and
    `ThresholdPruner` about all reports.

    Args:
        pruner: Whom to ask then; None stops the trial at once.
        patience: Reports to wait, at least 0.
        min_delta: Improvement that counts, at least 0, in the objective's units.

    Raises:
        ValueError: If ``patience`` or ``min_delta`` is negative.

    Example:
        >>> from inloop.pruners import MedianPruner
        >>> PatientPruner(MedianPruner(), patience=3).patience
        3
    """

    pruner: Pruner | None
    patience: int
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.pruner is not None and not isinstance(self.pruner, Pruner):
            raise TypeError(f"pruner must be a Pruner or None, got {self.pruner!r}.")
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, got {self.patience!r}.")
        if not self.min_delta >= 0:
            raise ValueError(f"min_delta must be at least 0, got {self.min_delta!r}.")

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        curve = trial.curves[stream]
        if len(curve) <= self.patience + 1:
            return False
        before = curve.bests[-self.patience - 2]
        recent = min((history.sign * v for v in curve.values[-self.patience - 1 :] if v == v), default=math.inf)
        if recent < before - self.min_delta:
            return False
        return self.pruner is None or self.pruner.prune(history, trial, stream)
