"""Parzen estimators on the unit cube: product kernels over numbers and choices, inactive columns left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..space import Array, Space

Mask: TypeAlias = NDArray[np.bool_]

# Page, "Approximations to the cumulative normal function and its inverse for use on a pocket calculator", Applied
# Statistics 26, 1977: Phi(z) = (1 + tanh(C (z + K z^3))) / 2 within 2e-4. Here it needs no import of scipy, and
# its inverse is a closed form.
_C = math.sqrt(2.0 / math.pi)
_K = 0.044715
_WIDEST, _NARROWEST = 1.0, 0.03
_CELL = 0.75  # of a level's own cell: kernels are no narrower
_STAY = 0.8  # probability that a kernel keeps its choice, beside its share of the rest


@dataclass(frozen=True)
class Layout:
    """Which columns of a space the estimators model.

    Attributes:
        numbers: Columns of ranges ``(k,)``.
        choices: Columns of `Categorical` ``(c,)``.
        narrowest: Least width of a kernel ``(k,)``.
        levels: Number of choices ``(c,)``.
    """

    numbers: NDArray[np.int64]
    choices: NDArray[np.int64]
    narrowest: Array
    levels: Array

    def __bool__(self) -> bool:
        return len(self.numbers) + len(self.choices) > 0


@lru_cache(maxsize=64)
def layout(space: Space) -> Layout:
    """Return the layout of a space; columns with a single level or no place in the unit interval are left out."""
    columns = space.columns
    open_ = columns.modelled & (columns.levels != 1)
    numbers, choices = np.flatnonzero(open_ & ~columns.categorical), np.flatnonzero(open_ & columns.categorical)
    cells = np.divide(_CELL, columns.levels, out=np.zeros(len(space)), where=columns.levels > 0)
    narrowest = np.clip(cells[numbers], _NARROWEST, _WIDEST)
    return Layout(numbers, choices, narrowest, columns.levels[choices].astype(float))


class Kernels:
    """A mixture of the uniform distribution and one kernel a point, all of equal weight.

    On a range the kernel is a normal truncated to [0, 1], of one width per column; on a choice it stays with
    probability 0.8 and else draws any. Where a column is inactive, its factor is the uniform's.

    Args:
        units: Points ``(n, d)``, NaN where inactive.
        layout: Which columns to model.
    """

    def __init__(self, units: Array, layout: Layout) -> None:
        self.layout = layout
        self.at = units[:, layout.numbers]
        self.choice = units[:, layout.choices]
        off = np.isnan(self.at)
        self.full = not (off.any() or np.isnan(self.choice).any())
        self.on = ~off
        if not self.full:
            self.at[off] = 0.5
        self.width = _widths(self.at, None if self.full else self.on, layout)
        left = np.tanh(_cubic(self.at / self.width))
        right = np.tanh(_cubic((1.0 - self.at) / self.width))
        self.below = 0.5 - 0.5 * left
        self.mass = 0.5 * (left + right)

    def draw(self, uniforms: Array, rng: np.random.Generator) -> Array:
        """Return points made of ``uniforms`` ``(m, d)``, which columns not modelled keep."""
        out = uniforms
        m, n = len(out), len(self.at)
        pick = rng.integers(n + 1, size=m)
        kept = pick < n  # the last one is the uniform
        pick, rows = pick[kept], np.flatnonzero(kept)[:, None]
        u = out[rows, self.layout.numbers]
        p = self.below[pick] + u * self.mass[pick]
        moved = np.clip(self.at[pick] + self.width * _quantile(p), 0.0, 1.0)
        out[rows, self.layout.numbers] = moved if self.full else np.where(self.on[pick], moved, u)
        if len(self.layout.choices):
            choice, u = self.choice[pick], out[rows, self.layout.choices]
            stays = u < _STAY  # what is left of u is uniform again
            anew = np.where(stays, u / _STAY, (u - _STAY) / (1.0 - _STAY))
            out[rows, self.layout.choices] = np.where(stays & ~np.isnan(choice), choice, anew)
        return out

    def log_density(self, points: Array, active: Mask | None) -> Array:
        """Return the log of the density ``(m,)`` relative to the uniform one, up to a constant."""
        e = self._exponents(points, active)
        top = np.maximum(e.max(axis=1, initial=0.0), 0.0)
        e -= top[:, None]
        np.exp(e, out=e)
        return np.log(e.sum(axis=1) + np.exp(-top)) + top

    def _exponents(self, points: Array, active: Mask | None) -> NDArray[np.float32]:
        """Return the log of each kernel's density ``(m, n)`` relative to the uniform one."""
        numbers, choices = self.layout.numbers, self.layout.choices
        q, z = (points[:, numbers] - 0.5) / self.width, (self.at - 0.5) / self.width
        const = 0.5 * z * z + np.log(self.mass * self.width * math.sqrt(2.0 * math.pi))
        other = math.log(1.0 - _STAY)
        if active is None and self.full:
            left = np.column_stack((q, (q * q).sum(1), np.ones(len(q))))
            right = np.column_stack((z, np.full(len(z), -0.5), other * len(choices) - const.sum(1)))
        else:
            a = np.ones(points.shape) if active is None else active
            a, a_choice = a[:, numbers], a[:, choices]
            left = np.hstack((q * a, q * q * a, a, a_choice))
            right = np.hstack((z * self.on, -0.5 * self.on, -const * self.on, other * ~np.isnan(self.choice)))
        e = left.astype(np.float32) @ right.astype(np.float32).T
        gain = (np.log(_STAY * self.layout.levels + 1.0 - _STAY) - other).astype(np.float32)
        for j, column in enumerate(choices):
            chosen = points[:, column]
            if active is not None:
                chosen = np.where(active[:, column], chosen, np.nan)
            e += gain[j] * (chosen[:, None] == self.choice[:, j])
        return e


def _widths(at: Array, on: Mask | None, layout: Layout) -> Array:
    """Return Scott's rule with the spread shrunk to the uniform's by one pseudo-observation."""
    d = len(layout.numbers) + len(layout.choices)
    n: Array | float = float(len(at)) if on is None else on.sum(0).astype(float)
    mean = (at.sum(0) if on is None else (at * on).sum(0)) / np.maximum(n, 1.0)
    gap = at - mean
    spread = (gap * gap).sum(0) if on is None else (gap * gap * on).sum(0)
    sd = np.sqrt((spread + 1.0 / 12.0) / (n + 1.0))
    scott = (4.0 / (d + 2.0)) ** (1.0 / (d + 4.0)) * (n + 1.0) ** (-1.0 / (d + 4.0))
    return np.clip(sd * scott, layout.narrowest, _WIDEST)


def _cubic(z: Array) -> Array:
    return z * (_C + _C * _K * z * z)


def _quantile(p: Array) -> Array:
    """Return the inverse of Page's normal distribution function by Cardano's formula."""
    y = np.arctanh(np.clip(2.0 * p - 1.0, -1.0 + 1e-15, 1.0 - 1e-15)) / _C
    root = math.sqrt(3.0 * _K)
    return 2.0 / root * np.sinh(np.arcsinh(1.5 * root * y) / 3.0)
