"""No pruning."""

from __future__ import annotations

from dataclasses import dataclass

from ..history import History
from ..record import FrozenTrial
from .pruner import Pruner


@dataclass(frozen=True, repr=False)
class NopPruner(Pruner):
    """Never stops a trial.

    Example:
        >>> NopPruner()
        NopPruner()
    """

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        return False
