"""Which points of a space were tried, known at the cost of what is new."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..follower import Follower, Kept
from ..history import History
from ..space import Array, Space
from .moves import grid, keys, resting, settle

_COUNTABLE = 100_000  # a grid of so many points is listed to find one that was not tried


class Tried(Follower):
    """The points that trials of one history took in one space.

    Trials that are LOST do not count: their result is not known. Nor do those that took a parameter besides, which the
    space does not have. Points with an active parameter of a continuum, or one
    that has no place in the unit interval, are never the same twice and are not kept.
    """

    def __init__(self, space: Space, history: History) -> None:
        self._space = space
        super().__init__(history)
        self._keys: set[int] = set()
        self._read = 0
        self._endless = space.columns.levels == 0
        #: Whether no point can come twice.
        self.never = any(e and n not in space.when for n, e in zip(space.names, self._endless, strict=True))

    def first_new(self, points: Array, asking: int) -> Array | None:
        """Return the first of settled ``points`` ``(m, d)`` that was not tried, None if all were.

        Args:
            points: What is looked for.
            asking: Number of the trial that asks; the other running ones count as tried.
        """
        if self.never:
            return np.asarray(points[0])
        self._update()
        running = self._keys_of(np.array([i for i in self.history.running if i != asking], np.int64))
        active = self._space.active_mask(points) if self._space.when else np.ones(points.shape, bool)
        endless = (active & self._endless).any(1)
        for part in (slice(0, 1), slice(1, None)):  # mostly the first one will do
            for point, free, key in zip(points[part], endless[part], keys(points[part]), strict=True):
                if free or (key not in self._keys and key not in running):
                    return np.asarray(point)
        return None

    def _update(self) -> None:
        new = self.history.told[self._read :]
        self._keys |= self._keys_of(np.array(new, np.int64))
        self._read += len(new)

    def _keys_of(self, numbers: np.ndarray) -> set[int]:
        trials, names = self.history.trials, self._space.keys()
        numbers = np.array([n for n in numbers if trials[n].params.keys() <= names], np.int64)
        units = self.history.encoded(self._space).units[numbers]
        units = units[~np.isnan(units).all(1) & ~(~np.isnan(units) & self._endless).any(1)]
        if not len(units):
            return set()
        return set(keys(settle(self._space, np.where(np.isnan(units), resting(self._space), units))))


_TRIED: Kept[Space, Tried] = Kept()


def tried(space: Space, history: History) -> Tried:
    """Return what was tried in ``space``."""
    return _TRIED.get(history, space, lambda: Tried(space, history))


@lru_cache(maxsize=4)
def settings(space: Space) -> Array:
    """Return every point ``(m, d)`` of a finite space that is small enough to be listed, of any other space none."""
    listed = space.size is not None and space.size <= _COUNTABLE
    return grid(space) if listed else np.empty((0, len(space)))
