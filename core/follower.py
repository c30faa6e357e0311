"""What is derived from a history and kept as long as the history lives."""

from __future__ import annotations

from weakref import ref

from .history import History


class Follower:
    """Knows its history without keeping it alive: it is a value of dictionaries that have the history as a weak key."""

    def __init__(self, history: History) -> None:
        self._ref = ref(history)

    @property
    def history(self) -> History:
        """The history, which whoever asks holds."""
        history = self._ref()
        assert history is not None
        return history
