"""What is derived from a history and kept as long as the history lives."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from .history import History

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")

_MOST = 4  # values of one history


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


class Kept(Generic[_K, _T]):
    """Values derived from histories, by key: of each history the last few made, as long as it lives."""

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[History, dict[_K, _T]] = WeakKeyDictionary()

    def get(self, history: History, key: _K, make: Callable[[], _T]) -> _T:
        """Return the value of a history under a key, made if it is not there."""
        values = self._values.setdefault(history, {})
        if key not in values:
            if len(values) >= _MOST:  # a union that grows leaves its old forms behind
                values.pop(next(iter(values)))
            values[key] = make()
        return values[key]
