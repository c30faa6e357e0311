"""Parzen estimators on the unit cube: product kernels over numbers and choices, inactive columns left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..space import Array, Space

Mask: TypeAlias = NDArray[np.bool_]
Single: TypeAlias = NDArray[np.float32]  # densities: half the time, and far more digits than are meant

_WIDEST, _NARROWEST = 1.0, 0.03
_CELL = 0.75  # of a level's own cell: kernels are no narrower
_STAY = 0.8  # probability that a kernel keeps its choice at most, beside its share of the rest
_LARGE = 80.0  # exp(88) is the largest in single precision
_ROOT = math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class Layout:
    """Which columns of a space the estimators model.

    Attributes:
        numbers: Columns of ranges ``(k,)``.
        choices: Columns of `Categorical` ``(c,)``.
        plain: Whether every column of the space is among ``numbers``.
        narrowest: Least width of a kernel ``(k,)``.
        levels: How many choices there are ``(c,)``.
        highest: What the log of a kernel's density, relative to the uniform one, cannot exceed.
    """

    numbers: NDArray[np.int64]
    choices: NDArray[np.int64]
    plain: bool
    narrowest: Array
    levels: Array
    highest: float

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """All that is modelled."""
        return np.concatenate((self.numbers, self.choices))

    def __bool__(self) -> bool:
        return len(self.columns) > 0


@lru_cache(maxsize=64)
def layout(space: Space) -> Layout:
    """Return the layout of a space; columns with a single level or no place in the unit interval are left out."""
    columns = space.columns
    open_ = columns.modelled & (columns.levels != 1)
    numbers, choices = np.flatnonzero(open_ & ~columns.categorical), np.flatnonzero(open_ & columns.categorical)
    cells = np.divide(_CELL, columns.levels, out=np.zeros(len(space)), where=columns.levels > 0)
    narrowest = np.clip(cells[numbers], _NARROWEST, _WIDEST)
    levels = columns.levels[choices].astype(float)
    own = _STAY * levels + 1.0 - _STAY  # relative to the uniform's, as all factors
    highest = float(np.log(own).sum() - np.log(narrowest * _ROOT).sum())
    return Layout(numbers, choices, len(numbers) == len(space), narrowest, levels, highest)


class Contrast:
    """Two densities on the unit cube: of good points and of others.

    Each is a mixture, of equal weights, of the uniform distribution and one kernel a point. On a range a kernel is a
    normal, of one width per column and group, those of the others no wider than those of the good: else the others
    could not say that there is nothing more to find where the good ones lie close together, and nothing else would
    ever be looked at. On a choice among K, a kernel of a group of n stays with probability n / (n + K), at most 0.8,
    and else draws any: few points say little of many choices. Where a column is inactive in the kernel or in what it
    is asked about, its factor is the uniform's. With one width per group, the exponents of all pairs are a single
    matrix product. The normals are not truncated to the interval: what is lost at its ends is lost to both groups (on
    13 problems truncation was no better, and costs as much as all the rest).

    Args:
        units: Points ``(n, d)``, the good ones first; NaN where inactive.
        good: How many of them are good.
        layout: Which columns to model.
    """

    def __init__(self, units: Array, good: int, layout: Layout) -> None:
        self._layout = layout
        self._good = good
        self._at = units if layout.plain else units[:, layout.numbers]
        self._choice = units[:, layout.choices]
        at = self._at
        self._on: Single | None = None
        if math.isnan(units.sum()):
            on = ~np.isnan(at)
            at, self._on = np.where(on, at, 0.5), on.astype(np.float32)
        self._centred = (at - 0.5).astype(np.float32)
        self._width = self._widths()
        there = ~np.isnan(self._choice)
        n = np.maximum([there[:good].sum(0), there[good:].sum(0)], 1)
        self._stay = np.minimum(n / (n + layout.levels), _STAY)

    def _widths(self) -> Array:
        """Return a width for each group and column ``(2, k)``.

        Scott, "Multivariate density estimation", 1992, with the spread shrunk to the uniform's by one more point.
        """
        n, good = len(self._centred), self._good
        group = np.zeros((2, n), np.float32)
        group[0, :good] = group[1, good:] = 1.0
        count = group.sum(1, keepdims=True) if self._on is None else group @ self._on
        total, more = group @ self._centred, count + 1.0
        spread = (group @ (self._centred * self._centred) - total * total / np.maximum(count, 1.0) + 1.0 / 12.0) / more
        d = len(self._layout.columns)
        width = np.sqrt(spread) * ((d + 2.0) / 4.0 * more) ** (-1.0 / (d + 4.0))
        width[1] = np.minimum(width[1], width[0])
        clipped: Array = np.minimum(np.maximum(width, self._layout.narrowest), _WIDEST)
        return clipped

    def draw(self, m: int, d: int, rng: np.random.Generator) -> Array:
        """Return ``(m, d)`` points drawn from the density of the good; columns not modelled are uniform.

        Steps that leave the interval are reflected.
        """
        pick = rng.integers(self._good + 1, size=m)
        kept = (pick < self._good)[:, None]  # the last one is the uniform
        x = self._at.take(pick, 0, mode="clip")
        x += self._width[0] * rng.standard_normal(x.shape)
        np.abs(x, out=x)
        x = 1.0 - np.abs(1.0 - x)
        out = rng.random((m, d))
        if self._layout.plain and self._on is None:
            return np.where(kept, x, out)
        numbers, choices = self._layout.numbers, self._layout.choices
        out[:, numbers] = np.where(kept & ~np.isnan(x), x, out[:, numbers])
        if len(choices):
            choice, u = self._choice.take(pick, 0, mode="clip"), out[:, choices]
            stay = self._stay[0]
            stays = u < stay  # what is left of u is uniform again
            anew = np.where(stays, u / stay, (u - stay) / (1.0 - stay))
            out[:, choices] = np.where(kept & stays & ~np.isnan(choice), choice, anew)
        return out

    def score(self, points: Array, active: Mask | None) -> Single:
        """Return log of (density of the good / density of the others) ``(m,)``, up to a constant."""
        e = self._exponents(points, active)
        large = self._layout.highest > _LARGE
        return _log_sum(e[: self._good], large) - _log_sum(e[self._good :], large)

    def _exponents(self, points: Array, active: Mask | None) -> Single:
        """Return the log of each kernel's density at each point ``(n, m)``, relative to the uniform one."""
        good, numbers, choices = self._good, self._layout.numbers, self._layout.choices
        k, n = len(numbers), len(self._at)
        scale = (1.0 / self._width).astype(np.float32)
        kernels = np.ones((n, k + 2), np.float32)
        z = kernels[:, :k]
        np.multiply(self._centred[:good], scale[0], out=z[:good])
        np.multiply(self._centred[good:], scale[1], out=z[good:])
        q = ((points if self._layout.plain else points[:, numbers]) - 0.5).astype(np.float32) * scale[:, None]
        height = np.log(scale / _ROOT)
        other = np.log(1.0 - self._stay).astype(np.float32)
        gain = np.log1p(self._stay * self._layout.levels / (1.0 - self._stay)).astype(np.float32)
        if active is None and self._on is None:
            const = np.einsum("ij,ij->i", z, z)
            const *= -0.5
            const[:good] += height[0].sum() + other[0].sum()
            const[good:] += height[1].sum() + other[1].sum()
            kernels[:, k] = const
            asked = np.ones((2, len(points), k + 2), np.float32)
            asked[:, :, :k] = q
            asked[:, :, k + 1] = -0.5 * np.einsum("gij,gij->gi", q, q)
        else:
            on = np.ones_like(z) if self._on is None else self._on
            a = np.ones(points.shape, np.float32) if active is None else active.astype(np.float32)
            a, a_choice = a[:, numbers], other[:, None] * a[:, choices]
            terms = (np.repeat(height, (good, n - good), axis=0) - 0.5 * z * z) * on
            kernels = np.concatenate((z, terms, on, ~np.isnan(self._choice)), 1, dtype=np.float32)
            asked = np.concatenate((q * a, np.repeat(a[None], 2, axis=0), -0.5 * q * q * a, a_choice), 2)
        e = np.empty((n, len(points)), np.float32)
        np.matmul(kernels[:good], asked[0].T, out=e[:good])
        np.matmul(kernels[good:], asked[1].T, out=e[good:])
        for j, column in enumerate(choices):
            chosen = points[:, column] if active is None else np.where(active[:, column], points[:, column], np.nan)
            same = self._choice[:, j, None] == chosen
            e[:good] += gain[0, j] * same[:good]
            e[good:] += gain[1, j] * same[good:]
        return e


def _log_sum(e: Single, large: bool) -> Single:
    """Return the log of the sum of ``exp(e)`` ``(n, m)`` over ``n`` and of the uniform's share, 1; spoils ``e``."""
    if not large:
        out: Single = np.log(np.exp(e, out=e).sum(0) + 1.0)
        return out
    top = e.max(axis=0, initial=0.0)
    e -= top
    out = np.log(np.exp(e, out=e).sum(0) + np.exp(-top)) + top
    return out
