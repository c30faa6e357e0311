"""A sorted multiset that grows by one at a cost that does not grow with it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray


class Ranking:
    """Rows in ascending order of ``(tier, loss)``, ties in order of arrival.

    A large sorted array is kept beside a small sorted buffer of about ``sqrt(n) / 2`` newcomers; the buffer is
    merged when full. Adding and asking cost O(log n), the merge amortises to O(sqrt(n)) copied bytes.
    Complex numbers hold ``(tier, loss)`` because numpy orders them lexicographically.

    Example:
        >>> r = Ranking()
        >>> for row, loss in enumerate([0.3, 0.1, 0.2]):
        ...     r.add(row, loss)
        >>> r.kth(0), r.below(0.25), r.rows(np.arange(3)).tolist()
        (0.1, 2, [1, 2, 0])
    """

    def __init__(self) -> None:
        self._keys: NDArray[np.complex128] = np.empty(0, np.complex128)
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._new: list[tuple[float, float]] = []
        self._new_ids: list[int] = []
        self._at: list[int] | None = None  # where each newcomer goes in the large array, once asked for
        self._room = 64

    def __len__(self) -> int:
        return len(self._ids) + len(self._new)

    def add(self, row: int, loss: float, tier: float = 0.0) -> None:
        """Insert ``row``; a NaN loss ranks as +inf, after every number of its tier."""
        if loss != loss:
            loss = math.inf
        key = (tier, loss)
        j = bisect_right(self._new, key)
        self._new.insert(j, key)
        self._new_ids.insert(j, row)
        if self._at is not None:
            self._at.insert(j, int(self._keys.searchsorted(complex(tier, loss), "right")))
        if len(self._new) >= self._room:
            self._merge()

    def kth(self, k: int) -> float:
        """Return the loss at rank ``k`` (0 is the best)."""
        at = self._places()
        j = bisect_left(range(len(at)), k, key=lambda i: at[i] + i)
        if j < len(at) and at[j] + j == k:
            return self._new[j][1]
        return float(self._keys[k - j].imag)

    def below(self, loss: float, tier: float = 0.0) -> int:
        """Return how many entries are strictly better than ``loss``."""
        if loss != loss:
            loss = math.inf
        return int(self._keys.searchsorted(complex(tier, loss), "left")) + bisect_left(self._new, (tier, loss))

    def rows(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows at the given ranks ``(m,)``."""
        if not self._new:
            return self._ids[ranks]
        place = np.array(self._places()) + np.arange(len(self._new))
        j = np.searchsorted(place, ranks)
        new = place[np.minimum(j, len(place) - 1)] == ranks
        out = np.empty(len(ranks), np.int64)
        out[new] = np.array(self._new_ids)[j[new]]
        out[~new] = self._ids[(ranks - j)[~new]]
        return out

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
        self._room = 64 + math.isqrt(len(self._ids)) // 2
