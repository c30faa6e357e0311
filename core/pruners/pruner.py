"""What a pruner is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..history import History
from ..record import FrozenTrial
from ..settings import Settings


class Pruner(Settings, ABC):
    """Says whether a trial should end early, from its curve and the history.

    A NaN report counts as worse than every number; it prunes only where a comparison says so.
    """

    @abstractmethod
    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        """Return True if ``trial`` should stop.

        Args:
            history: All trials, this one included.
            trial: The trial, whose last report belongs to ``stream``.
            stream: Its curve to judge, ``trial.curves[stream]``; not empty.
            since: How many reports of that curve were judged before.
        """
