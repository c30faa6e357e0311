"""Points to start with."""

from __future__ import annotations

import numpy as np

from ..space import Array


def latin(seed: int, number: int, size: int, d: int) -> Array:
    """Return the point ``(d,)`` of trial ``number`` in a sequence of Latin hypercubes.

    Each ``size`` trials in a row are one hypercube: every column has one of them in each of ``size`` equal cells.
    McKay, Beckman and Conover, "A comparison of three methods for selecting values of input variables in the
    analysis of output from a computer code", Technometrics 21, 1979.

    Args:
        seed: The study's.
        number: Trial number.
        size: Points of one hypercube.
        d: Number of columns.
    """
    rng = np.random.default_rng((seed, number // size, size, d))
    cells = rng.permuted(np.tile(np.arange(size), (d, 1)), axis=1)[:, number % size]
    return (cells + rng.random((d, size))[:, number % size]) / size
