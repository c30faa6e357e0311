"""Exhaustive search of a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import shake_128
from typing import Any

import numpy as np

from ..distributions import Categorical, level_of, value_at
from ..follower import Kept
from ..history import History
from ..space import Space
from .sampler import Sampler


@dataclass(frozen=True, eq=False)
class GridSampler(Sampler):
    """Tries every point of a grid once, in an order shuffled by the study's seed, then ends the study.

    Failed trials count as tried and running ones too; LOST ones are tried again. Points that differ
    only in inactive parameters are one, and so are values that are given twice. The grid is never listed, so it may be
    large. Where an objective suggests a range that lacks a value of the grid, that is an error.

    Args:
        grid: Parameter name to its values (a list, `Categorical`, `Int`, or `Float` with ``step``), or a `Space`.

    Raises:
        ValueError: If a parameter has a continuum of values; by ``ask``, if the study's space lacks a
            parameter or a value of the grid.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(sampler=GridSampler({"depth": [2, 4], "eta": [0.1, 0.3]}), seed=0)
        >>> study.optimize(lambda trial: trial.suggest_int("depth", 1, 9) * trial.suggest_float("eta", 0, 1))
        >>> len(study.trials), study.best_value
        (4, 0.2)
    """

    grid: Mapping[str, Any]
    space: Space = field(init=False, repr=False)

    def __post_init__(self) -> None:
        space = self.grid if isinstance(self.grid, Space) else Space(self.grid)
        for name, dist in space.items():
            if dist.levels is None:
                raise ValueError(
                    f"GridSampler: {name} = {dist!r} has no countable values; give a list, or a range with step."
                )
        once = {n: Categorical(_distinct(d)) if isinstance(d, Categorical) else d for n, d in space.items()}
        object.__setattr__(self, "space", space if once == dict(space) else Space(once, space.when))

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        point = _walk(self.space, history).next(history, number)
        if point is None:  # another worker took the last one in the meantime
            point = self.space.decode(rng.random(len(self.space)))
        if space is self.space:
            return point
        return space.complete(space.check(point, "GridSampler"), rng.random)

    def exhausted(self, history: History, space: Space | None = None) -> str | None:
        if _walk(self.space, history).next(history, len(history.trials)) is not None:
            return None
        return f"The grid is exhausted: each of its points has been tried ({len(history.trials)} trials)."


class _Walk:
    """Which points of a grid are left, kept up to date with what is new.

    A point is known by its place in the shuffled order. A place found to be done points to a later one that
    may not be, and paths are halved on the way (Tarjan and van Leeuwen, "Worst-case analysis of set union
    algorithms", Journal of the ACM 31, 1984).
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._levels = [d.levels or 1 for d in space.dists]
        self._size = math.prod(self._levels)
        self._order = Shuffle(self._size, seed)
        self._later: dict[int, int] = {}
        # columns taken -> their levels, for trials whose objective passed by some of the parameters
        self._partial: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
        self._read = 0

    def next(self, history: History, number: int) -> dict[str, Any] | None:
        """Return the point of trial ``number``: the first one left from its own place on, None if none is.

        Points of running trials are not left: those they took, or would be given now if they took none yet.
        """
        for told in history.told[self._read :]:
            trial = history.trials[told]
            self._done(self._columns(trial.missed or trial.params))
        self._read = len(history.told)
        taken: set[int] = set()
        waiting = []
        for i in history.running:
            columns = self._columns(history.trials[i].params or history.trials[i].queued or {})
            if columns is not None and None not in columns:
                taken.add(self._place(columns))
            elif i < number:
                waiting.append(i)
        for i in waiting:
            place = self._first(i, taken)
            if place is not None:
                taken.add(place)
        place = self._first(number, taken)
        return None if place is None else self._params(self._at(place))

    def _first(self, number: int, taken: set[int]) -> int | None:
        start = number % self._size  # those that ask at the same time look at different places
        for place, end in ((start, self._size), (0, start)):
            while (place := self._find(place)) < end:
                if self._is_done(self._at(place)):
                    self._later[place] = place + 1
                elif place not in taken:
                    return place
                place += 1
        return None

    def _find(self, place: int) -> int:
        """Return the first place from ``place`` on that is not known to be done."""
        later = self._later
        while place in later:
            after = later[place]
            later[place] = later.get(after, after)
            place = after
        return place

    def _done(self, columns: list[int | None] | None) -> None:
        if columns is None:
            return
        if None not in columns:
            place = self._place(columns)
            self._later[place] = place + 1
        elif known := tuple(j for j, k in enumerate(columns) if k is not None):
            self._partial.setdefault(known, set()).add(tuple(k for k in columns if k is not None))

    def _is_done(self, levels: list[int]) -> bool:
        """Say whether a point has a twin, or was tried by a trial that took only some of its parameters."""
        active = self._params(levels)
        if any(k and n not in active for n, k in zip(self._space.names, levels, strict=True)):
            return True  # its twin has all inactive columns at level 0
        return any(tuple(levels[j] for j in known) in seen for known, seen in self._partial.items())

    def _columns(self, params: Mapping[str, Any]) -> list[int | None] | None:
        """Return each column's level: 0 where inactive, None where not taken; None for a point off the grid."""
        columns: list[int | None] = []
        on: dict[str, Any] = {}
        for name, dist in self._space.items():
            if not self._space._met(name, on):
                columns.append(0)
            elif name not in params:
                columns.append(None)
            elif not dist.contains(params[name]):
                return None
            else:
                on[name] = params[name]
                columns.append(level_of(dist, params[name]))
        return columns

    def _place(self, columns: list[int | None]) -> int:
        index = 0
        for level, n in zip(columns, self._levels, strict=True):
            index = index * n + (level or 0)
        return self._order.place(index)

    def _at(self, place: int) -> list[int]:
        """Return the level of each column at a place."""
        index = self._order.index(place)
        levels = []
        for n in reversed(self._levels):
            index, level = divmod(index, n)
            levels.append(level)
        return levels[::-1]

    def _params(self, levels: list[int]) -> dict[str, Any]:
        """Return the active parameters of a point."""
        on: dict[str, Any] = {}
        for (name, dist), level in zip(self._space.items(), levels, strict=True):
            if self._space._met(name, on):
                on[name] = value_at(dist, level)
        return on


class Shuffle:
    """A permutation of ``range(size)`` that is computed, not stored.

    A Feistel network on the next larger power of four, walked until inside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002).

    Example:
        >>> order = Shuffle(10, seed=0)
        >>> sorted(order.index(p) for p in range(10)) == list(range(10))
        True
        >>> order.place(order.index(3))
        3
    """

    _ROUNDS = 4

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._half = max((size - 1).bit_length() + 1, 2) // 2
        self._mask = (1 << self._half) - 1
        self._seed = str(seed)

    def index(self, place: int) -> int:
        """Return what is at ``place``."""
        while True:
            left, right = divmod(place, 1 << self._half)
            for r in range(self._ROUNDS):
                left, right = right, left ^ self._mix(right, r)
            place = (left << self._half) | right
            if place < self._size:
                return place

    def place(self, index: int) -> int:
        """Return where ``index`` is."""
        while True:
            left, right = divmod(index, 1 << self._half)
            for r in reversed(range(self._ROUNDS)):
                left, right = right ^ self._mix(left, r), left
            index = (left << self._half) | right
            if index < self._size:
                return index

    def _mix(self, part: int, r: int) -> int:
        digest = shake_128(f"{self._seed},{r},{part}".encode()).digest((self._half + 7) // 8)
        return int.from_bytes(digest, "big") & self._mask


_WALKS: Kept[Space, _Walk] = Kept()


def _distinct(dist: Categorical) -> list[Any]:
    return [c for k, c in enumerate(dist.choices) if dist.index(c) == k]


def _walk(space: Space, history: History) -> _Walk:
    """Return the walk of a history through a grid."""
    return _WALKS.get(history, space, lambda: _Walk(space, history.seed))
