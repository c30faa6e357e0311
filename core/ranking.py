"""Sorted multisets that grow by one at a cost that does not grow with them."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

_FEW = 4096  # losses in one list: inserting moves 16 kB, 0.4 us


class Losses:
    """Losses in ascending order; NaN counts as +inf.

    The first four thousand are a sorted list. Later a large sorted array is kept beside a list of as many newcomers,
    which are merged when there are so many. Adding and asking cost O(log n), merging amortises to O(sqrt(n)) copied
    bytes.

    Attributes:
        size: How many there are; for what runs at every report, where ``len`` would be one call more.
        few: The list, while it has all of them; for the same reason.

    Example:
        >>> losses = Losses()
        >>> for loss in (0.3, 0.1, 0.2):
        ...     losses.add(loss)
        >>> losses.kth(0), losses.below(0.25), len(losses)
        (0.1, 2, 3)
    """

    __slots__ = ("_new", "_old", "_room", "few", "size")

    def __init__(self) -> None:
        self._old = array("d")
        self._new: list[float] = []
        self._room = _FEW
        self.size = 0
        self.few: list[float] | None = self._new

    def __len__(self) -> int:
        return self.size

    def add(self, loss: float) -> None:
        """Insert a loss."""
        insort(self._new, math.inf if loss != loss else loss)
        self.size += 1
        if len(self._new) >= self._room:
            old = np.frombuffer(self._old)
            self._old = array("d", np.insert(old, old.searchsorted(self._new), self._new).tobytes())
            self._new, self.few = [], None
            self._room = _FEW + _room(len(self._old))

    def kth(self, k: int) -> float:
        """Return the loss at rank ``k`` (0 is the best)."""
        old, new = self._old, self._new
        if not old:
            return new[k]
        j = bisect_left(range(len(new)), k, key=lambda i: bisect_right(old, new[i]) + i)
        if j < len(new) and bisect_right(old, new[j]) + j == k:
            return new[j]
        return old[k - j]

    def below(self, loss: float) -> int:
        """Return how many are strictly better than ``loss``."""
        if loss != loss:
            loss = math.inf
        return bisect_left(self._old, loss) + bisect_left(self._new, loss)

    def has_place(self, loss: float, k: int) -> bool:
        """Return whether at most ``k`` are strictly better than ``loss``, a number or +inf."""
        return loss <= self.few[k] if self.few is not None else self.below(loss) <= k


class Ranking:
    """Rows in ascending order of ``(tier, loss)``, ties in order of arrival; built as `Losses`.

    Complex numbers hold ``(tier, loss)`` because numpy orders them lexicographically.

    Example:
        >>> r = Ranking()
        >>> for row, loss in enumerate([0.3, 0.1, 0.2]):
        ...     r.add(row, loss)
        >>> r.kth(0), r.rows(np.arange(3)).tolist()
        (0.1, [1, 2, 0])
    """

    def __init__(self) -> None:
        self._keys: NDArray[np.complex128] = np.empty(0, np.complex128)
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._new: list[tuple[float, float]] = []
        self._new_ids: list[int] = []
        self._at: list[int] | None = None  # where each newcomer goes in the large array, once asked for
        self._room = _room(0)
        self._waiting: list[tuple[float, float, int]] = []  # added since it was last asked

    def __len__(self) -> int:
        return len(self._ids) + len(self._new) + len(self._waiting)

    def add(self, row: int, loss: float, tier: float = 0.0) -> None:
        """Insert ``row``; a NaN loss ranks as +inf, after every number of its tier."""
        self._waiting.append((tier, math.inf if loss != loss else loss, row))

    def kth(self, k: int) -> float:
        """Return the loss at rank ``k`` (0 is the best)."""
        self._take_in()
        at = self._places()
        j = bisect_left(range(len(at)), k, key=lambda i: at[i] + i)
        if j < len(at) and at[j] + j == k:
            return self._new[j][1]
        return float(self._keys[k - j].imag)

    def rows(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows at the given ranks ``(m,)``."""
        self._take_in()
        if not self._new:
            return self._ids[ranks]
        place = np.array(self._places()) + np.arange(len(self._new))
        j = np.searchsorted(place, ranks)
        new = place[np.minimum(j, len(place) - 1)] == ranks
        out = np.empty(len(ranks), np.int64)
        out[new] = np.array(self._new_ids)[j[new]]
        out[~new] = self._ids[(ranks - j)[~new]]
        return out

    def _take_in(self) -> None:
        """Insert those that wait; a long log that was read has many, which are sorted at once."""
        waiting, self._waiting = self._waiting, []
        if len(self._new) + len(waiting) >= self._room:
            waiting = [(*key, row) for key, row in zip(self._new, self._new_ids, strict=True)] + waiting
            waiting.sort(key=itemgetter(0, 1))
            self._new, self._new_ids = [(tier, loss) for tier, loss, _ in waiting], [row for _, _, row in waiting]
            self._merge()
            return
        for tier, loss, row in waiting:
            key = tier, loss
            j = bisect_right(self._new, key)
            self._new.insert(j, key)
            self._new_ids.insert(j, row)
            if self._at is not None:
                self._at.insert(j, int(self._keys.searchsorted(complex(*key), "right")))

    def _places(self) -> list[int]:
        if self._at is None:
            self._at = [int(self._keys.searchsorted(complex(*k), "right")) for k in self._new]
        return self._at

    def _merge(self) -> None:
        keys = np.array([complex(*k) for k in self._new])
        at = self._keys.searchsorted(keys, "right")
        self._keys = np.insert(self._keys, at, keys)
        self._ids = np.insert(self._ids, at, self._new_ids)
        self._new, self._new_ids, self._at = [], [], None
        self._room = _room(len(self._ids))


def _room(n: int) -> int:
    """Return how many newcomers are kept beside ``n`` others."""
    return 64 + math.isqrt(n) // 2


def thinned(first: int, n: int, most: int) -> NDArray[np.int64]:
    """Return the ``first`` of ``n`` ranks and at most ``most`` of the others, evenly spaced."""
    left = n - first
    if left <= most:
        return np.arange(n)
    rest = first + ((np.arange(most) + 0.5) * (left / most)).astype(np.int64)
    return np.concatenate((np.arange(first), rest))
