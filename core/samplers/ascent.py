"""Quasi-Newton ascent within bounds, of several points at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..space import Array

_FIRST = 0.1  # length of the first step along any axis, in units of the bounds' distance
_LONGEST = 0.25  # step along any axis
_GAIN = 1e-4  # of the gain that the slope promises, the least that is taken for one


def ascend(
    function: Callable[[Array], tuple[Array, Array]],
    starts: Array,
    free: NDArray[np.bool_],
    evaluations: int,
    least: float = 1e-9,
    inverse: Array | None = None,
) -> tuple[Array, Array]:
    """Return points moved uphill in the unit cube, none lower than its start, and their inverse Hessians ``(m, p, p)``.

    Projected BFGS, each point with an inverse Hessian and a step length of its own; Nocedal and Wright, "Numerical
    optimization", Springer, 2006, sections 6.1 and 16.7. One call of ``function`` serves all points: for a handful of
    cheap ones that is many times faster than one optimisation after another.

    Args:
        function: Rows ``(m, p)`` to values ``(m,)`` and derivatives ``(m, p)``; -inf where it has no value.
        starts: ``(m, p)`` in [0, 1].
        free: ``(m, p)`` what may be moved.
        evaluations: Calls of ``function`` at most, the one at the starts included.
        least: Gain, by the slope, for which it is worth going on.
        inverse: ``(m, p, p)`` inverse Hessians of the turned function to begin with.
    """
    x = starts
    value, slope = function(x)
    slope = np.where(free, slope, 0.0)
    identity = np.eye(x.shape[1])
    fresh = np.full(len(x), inverse is None)  # nothing is known of the curvature yet
    if inverse is None:
        steepest = np.abs(slope).max(1, initial=0.0)
        inverse = identity * (_FIRST / np.maximum(steepest, _FIRST))[:, None, None]
    else:
        inverse = inverse.copy()
    length = np.ones(len(x))
    for _ in range(evaluations - 1):
        inside = np.where(slope > 0.0, x < 1.0, x > 0.0)
        g = np.where(inside, slope, 0.0)
        way = np.where(inside, (inverse @ g[:, :, None])[:, :, 0], 0.0)
        reach = length / np.maximum(np.abs(way).max(1, initial=0.0) / _LONGEST, 1.0)
        new = np.minimum(np.maximum(x + reach[:, None] * way, 0.0), 1.0)
        step = new - x
        promised = (step * g).sum(1)
        if not (promised > least).any():
            break
        there, slope_there = function(new)
        slope_there = np.where(free, slope_there, 0.0)
        bend = slope - slope_there
        curvature = (step * bend).sum(1)
        bends = curvature > 1e-8 * np.sqrt((step * step).sum(1) * (bend * bend).sum(1))
        bends &= there > -np.inf
        first = fresh & bends
        if first.any():
            scale = curvature[first] / (bend[first] ** 2).sum(1)
            inverse[first] = identity * scale[:, None, None]
            fresh &= ~bends
        _learn(inverse, step, bend, np.where(bends, curvature, np.inf))
        better = there >= value + _GAIN * promised
        length = np.where(better, 1.0, 0.3 * length)
        x = np.where(better[:, None], new, x)
        value = np.where(better, there, value)
        slope = np.where(better[:, None], slope_there, slope)
    return x, inverse


def _learn(inverse: Array, step: Array, bend: Array, curvature: Array) -> None:
    """Update inverse Hessians ``(m, p, p)`` of the turned function by BFGS; infinite curvature leaves one as it is."""
    pulled = (inverse @ bend[:, :, None])[:, :, 0]
    own = (1.0 + (bend * pulled).sum(1) / curvature) / curvature
    cross = step[:, :, None] * (pulled / curvature[:, None])[:, None, :]
    inverse += own[:, None, None] * (step[:, :, None] * step[:, None, :])
    inverse -= cross + cross.transpose(0, 2, 1)
