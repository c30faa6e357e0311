"""Points of a space, moved: uniform draws, local mutations, and the whole of a small grid."""

from __future__ import annotations

import math

import numpy as np

from ..distributions import Int
from ..space import Array, Space

_INACTIVE = 0.5  # place of an inactive numeric parameter; the value made no measurable difference


def resting(space: Space) -> Array:
    """Return the places ``(d,)`` at which inactive parameters are kept: the middle, or the first choice."""
    columns = space.columns
    return np.where(columns.categorical, 0.5 / np.maximum(columns.levels, 1), _INACTIVE)


def settle(space: Space, units: Array) -> Array:
    """Return ``units`` ``(m, d)`` on the grid that will be run, with inactive columns at rest."""
    out = space.snap(units)
    if space.when:
        out = np.where(space.active_mask(out), out, resting(space))
    return out


def mutate(space: Space, bases: Array, scales: tuple[float, float], rng: np.random.Generator) -> Array:
    """Return settled ``bases`` ``(m, d)`` with some of their active columns moved a little.

    Each row draws the share of columns that move and a step size, log-uniform in ``scales``; numeric columns take
    normal steps reflected at the bounds, integers at least one level; categorical ones another choice. A
    parameter that the move switches on starts uniformly.
    """
    m, d = bases.shape
    columns = space.columns
    active = space.active_mask(bases) if space.when else np.ones((m, d), bool)
    can = active & (columns.levels != 1)
    share = rng.uniform(1.0 / d, 1.0, (m, 1))
    draw = np.where(can, rng.random((m, d)), 2.0)
    moved = can & ((draw < share) | (draw == draw.min(1, keepdims=True)))
    size = np.exp(rng.uniform(math.log(scales[0]), math.log(scales[1]), (m, 1)))
    step = rng.standard_normal((m, d)) * size
    ladder = np.flatnonzero((columns.levels > 1) & ~columns.categorical)
    for j in ladder:
        least = _to_next(space, int(j), bases[:, j], step[:, j] > 0)
        step[:, j] = np.where(np.abs(step[:, j]) < np.abs(least), least, step[:, j])
    out = np.where(moved, _reflected(bases + step), bases)
    for j in np.flatnonzero(columns.categorical & (columns.levels > 1)):
        n = columns.levels[j]
        other = (np.floor(bases[:, j] * n) + rng.integers(1, n, m)) % n
        out[:, j] = np.where(moved[:, j], (other + 0.5) / n, out[:, j])
    if space.when:
        out = np.where(active, out, rng.random((m, d)))
    return settle(space, out)


def grid(space: Space) -> Array:
    """Return every distinct point ``(m, d)`` of a finite space, in a fixed order."""
    left = np.arange(math.prod(int(n) for n in space.columns.levels))
    points = np.empty((len(left), len(space)))
    for j, dist in enumerate(space.dists):
        n = int(space.columns.levels[j])
        places = (np.arange(n) + 0.5) / n
        if isinstance(dist, Int) and dist.log:
            places = np.array([dist.to_unit(v) for v in range(dist.low, dist.high + 1)])
        points[:, j] = places[left % n]
        left //= n
    points = settle(space, points)
    return np.unique(points, axis=0) if space.when else points


def keys(units: Array) -> list[int]:
    """Return a number for each row ``(m, d)`` that rows equal to about nine digits share."""
    return [hash(row.tobytes()) for row in np.rint(units * 2.0**30).astype(np.int64)]


def _to_next(space: Space, column: int, u: Array, up: np.ndarray) -> Array:
    """Return the step ``(m,)`` from each level's place to the next one up or down, inwards at the bounds."""
    dist = space.dists[column]
    if isinstance(dist, Int) and dist.log:
        low, high = math.log(dist.low - 0.5), math.log(dist.high + 0.5)
        value = np.rint(np.exp(low + u * (high - low)))
        up = np.where(up, value < dist.high, value <= dist.low)
        return (np.log(np.where(up, value + 1.0, np.maximum(value - 1.0, 1.0))) - low) / (high - low) - u
    n = int(space.columns.levels[column])
    up = np.where(up, u < (n - 1) / n, u < 1.0 / n)
    return np.where(up, 1.0 / n, -1.0 / n)


def _reflected(u: Array) -> Array:
    """Return ``u`` folded back into [0, 1]."""
    return 1.0 - np.abs(1.0 - np.mod(u, 2.0))
