"""Output warps: losses to the standardised targets of a model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..space import Array

_OUTLIER = 10.0  # standard deviations of the good half; farther losses count as that far
_ABSURD = 1000.0  # such deviations: a best one that lies so far below the second best counts as that one
_ROUNDING = 2e-15  # part of the mean; a deviation below it is rounding, that of the mean itself comes to 5e-16


def half_rank(losses: Array, counts: Array) -> Array:
    """Return targets that keep the good half's shape and only the bad half's order.

    Losses up to the median stay; those above become ``median + s * normal quantile`` of their rank among the
    distinct bad ones, ``s`` being the good half's deviation from the median. An own formula for the half-rank
    warper of Song et al., "The Vizier Gaussian process bandit algorithm", 2024, section 3.2.

    Args:
        losses: Finite losses ``(n,)``, ascending.
        counts: How many observations each stands for ``(n,)``.

    Returns:
        Targets ``(n,)`` of mean 0 and standard deviation 1; zeros where all losses are equal but for rounding.
    """
    from scipy.special import ndtri

    losses = _raised(losses, counts)
    values, at, each = _distinct(losses, counts)
    middle, s = good_half(losses, counts)
    bad = values > middle
    rank = np.cumsum(each[bad]) - 0.5 * each[bad]
    warped = values.copy()
    warped[bad] = middle + s * ndtri(0.5 + 0.5 * rank / each[bad].sum())
    return _standardised(warped[at], counts)


def standard(losses: Array, counts: Array) -> Array:
    """Return losses ``(n,)``, ascending and finite, standardised; far outliers on the bad side are pulled in."""
    return _standardised(pulled_in(losses, counts), counts)


def deviation(losses: Array, counts: Array) -> float:
    """Return the standard deviation by which `standard` divides."""
    values = pulled_in(losses, counts)
    return float(np.sqrt(np.average((values - np.average(values, weights=counts)) ** 2, weights=counts)))


def pulled_in(losses: Array, counts: Array) -> Array:
    """Return losses ``(n,)``, ascending and finite, with far outliers pulled in."""
    losses = _raised(losses, counts)
    middle, s = good_half(losses, counts)
    pulled: Array = np.minimum(losses, middle + _OUTLIER * s)
    return pulled


def _raised(losses: Array, counts: Array) -> Array:
    """Return losses, ascending, of which the best counts as the second best where it is absurdly good.

    It comes from a bug, as -inf does, and next to it all others would be equal. Where they are equal anyway it is the
    first one off a plateau.
    """
    rest = np.searchsorted(losses, losses[0], side="right")
    if rest == len(losses):
        return losses
    _, s = good_half(losses[rest:], counts[rest:])
    absurd = losses[rest] - losses[0] > _ABSURD * s > 0.0
    raised: Array = np.maximum(losses, losses[rest]) if absurd else losses
    return raised


def good_half(losses: Array, counts: Array) -> tuple[float, float]:
    """Return, of ascending losses, the median and the root mean squared distance to it of the distinct losses below."""
    total = np.cumsum(counts)
    half = 0.5 * total[-1]
    middle = float(0.5 * (losses[np.searchsorted(total, half)] + losses[np.searchsorted(total, half, "right")]))
    values, _, each = _distinct(losses, counts)
    off = (values - middle) ** 2
    good = values <= middle
    s = math.sqrt(np.average(off[good], weights=each[good]))
    return middle, s or math.sqrt(np.average(off, weights=each))


def _distinct(losses: Array, counts: Array) -> tuple[Array, NDArray[np.int64], Array]:
    """Return the distinct values, where each loss is among them, and how many distinct ones each stands for."""
    values, at = np.unique(losses, return_inverse=True)
    return values, at, np.maximum.reduceat(counts, np.searchsorted(losses, values))


def _standardised(values: Array, counts: Array) -> Array:
    mean = np.average(values, weights=counts)
    sd = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    out: Array = (values - mean) / sd if sd > _ROUNDING * max(abs(mean), 1e-300) else np.zeros_like(values)
    return out
