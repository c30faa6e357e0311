"""Gaussian process regression: a Matern and a linear kernel, fitted by maximum a posteriori.

The covariance of two rows is ``scale * (matern + trend * linear)``. The Matern kernel has a length for each column; the
linear one is the mean over the numeric columns of the product of the two signed distances from the middle of the
range, in halves of it. Losses often fall or rise over much of a range, which a Matern kernel alone forgets a length
away. What is not known of such a trend is no part of the deviations: it is largest in the corners, and a search for
improvements would go and look there, which is worst with noise (development problems: .22 in regret instead of .19).
On 8 data sets of neural nets that were not used to choose it, a trend takes regret after 20 trials from .22 to .17, and
on 32 of XGBoost and decision trees it is level (``benchmarks/pruning.py``; ``GP no trend`` in ``quality.py``).

Rasmussen and Williams, "Gaussian processes for machine learning", MIT Press, 2006: equation 4.17 (Matern), section
4.2.2 (dot products), equations 2.25 and 2.26 (prediction), 2.41 (mean with a trend), 5.9 (gradient of the marginal
likelihood). Categorical columns enter the squared distance by Hamming distance over a length of their own.

Hyperparameters are kept as one vector ``theta (p + q + 3,)``: log lengths of the ``p`` numeric and ``q``
categorical columns, log trend (weight of the linear kernel), log scale (signal variance), log noise (variance).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..space import Array, Columns
from .ascent import ascend

_JITTER = 1e-6
_BLOCK = 16_384  # numbers of a matrix that stay in a core's cache; larger ones take twice as long
_LENGTHS = (math.log(0.02), math.log(100.0))
_TRENDS = (-6.0, 4.0)
_SCALES = (-3.0, 4.0)
_NOISES = (math.log(1e-6), 0.0)
_FIRST, _AGAIN = 36, 15  # evaluations of the posterior at most: of a first fit, of one that goes on from another
_LEAST = 0.003  # gain in log posterior for which a fit goes on


@dataclass(frozen=True)
class Prior:
    """Normal priors, as (mean, standard deviation), of the logarithms of the hyperparameters."""

    length: tuple[float, float] = (math.log(0.5), 1.0)
    trend: tuple[float, float] = (math.log(0.5), 1.5)
    scale: tuple[float, float] = (0.0, 1.0)
    noise: tuple[float, float] = (-4.0, 1.0)
    study: tuple[float, float] = (math.log(3.0), 1.0)  # of the column that tells studies apart: a correlation of 0.9

    def vectors(self, lengths: int, study: bool = False) -> tuple[Array, Array]:
        """Return means and standard deviations in the order of theta."""
        return _vectors(self, lengths, study)


@cache
def _vectors(prior: Prior, lengths: int, study: bool) -> tuple[Array, Array]:
    rows = [prior.length] * (lengths - study) + [prior.study] * study + [prior.trend, prior.scale, prior.noise]
    mean, sd = np.array(rows).T
    return mean, sd


def matern_32(squared: Array) -> tuple[Array, Array]:
    """Return the Matern-3/2 correlation at scaled squared distances, and minus twice its derivative there."""
    p = np.sqrt(3.0 * squared)
    slope = np.exp(-p)
    p += 1.0
    p *= slope
    slope *= 3.0
    return p, slope


def matern_52(squared: Array) -> tuple[Array, Array]:
    """Return the Matern-5/2 correlation at scaled squared distances, and minus twice its derivative there."""
    p = np.sqrt(5.0 * squared)
    e = np.exp(-p)
    slope = p + 1.0
    p *= p
    p /= 3.0
    p += slope
    p *= e
    slope *= e
    slope *= 5.0 / 3.0
    return p, slope


Kernel = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Inputs:
    """Which columns of encoded rows the kernel reads.

    Attributes:
        numeric: ``(p,)`` columns on which distance is difference.
        categorical: ``(q,)`` columns on which distance is being different.
        study: Whether one more column, the last, says of which study a row is: 0 is the one that is searched. So
            the kernel is that of two tasks, Swersky, Snoek and Adams, "Multi-task Bayesian optimization",
            NeurIPS 2013, with one correlation for all pairs of studies; the trend is one for all of them.
        kernel: Correlation by scaled squared distance.
    """

    numeric: NDArray[np.int64]
    categorical: NDArray[np.int64]
    study: bool = False
    kernel: Kernel = matern_32

    @classmethod
    def of(cls, columns: Columns) -> Inputs:
        """Return the columns of a space that can be modelled; those of a single level say nothing."""
        told = columns.modelled & (columns.levels != 1)
        return cls(np.flatnonzero(told & ~columns.categorical), np.flatnonzero(told & columns.categorical))

    def __len__(self) -> int:
        return len(self.numeric) + len(self.categorical)


class Points:
    """Rows ``(n, d)`` between which and other rows a kernel is taken.

    Attributes:
        scaled: ``(n, p)`` numeric columns over their lengths.
        tilted: ``(n, p)`` what the linear kernel, times the trend, multiplies.
        tilt: By how much that changes in a unit of a numeric column.

    Args:
        units: The rows.
        inputs: What the kernel reads of them.
        theta: Hyperparameters.
    """

    def __init__(self, units: Array, inputs: Inputs, theta: Array) -> None:
        p = len(inputs.numeric)
        inverse = np.exp(-theta[: len(inputs)])
        self.units, self._inputs = units, inputs
        self.inverse = inverse[:p]
        self.tilt = 2.0 * math.exp(0.5 * theta[-3]) / math.sqrt(max(p, 1))
        self.tilted = self.tilts(units)
        self.scaled = units[:, inputs.numeric] * self.inverse
        self._norms = (self.scaled * self.scaled).sum(1)
        self._turned = -2.0 * self.scaled.T
        self._weights = inverse[p:] ** 2

    def tilts(self, units: Array) -> Array:
        """Return ``(m, p)`` what the linear kernel, times the trend, multiplies of rows ``(m, d)``."""
        return (units[:, self._inputs.numeric] - 0.5) * self.tilt

    def squared_distances(self, units: Array) -> Array:
        """Return the scaled squared distances ``(m, n)`` from rows ``(m, d)``."""
        out = _gram(units[:, self._inputs.numeric] * self.inverse, self._turned, self._norms)
        for w, column in zip(self._weights, self._inputs.categorical, strict=True):
            out += w * (units[:, column, None] != self.units[:, column])
        return out


def log_posterior(theta: Array, data: Data, prior: Prior) -> tuple[float, Array]:
    """Return the negative log posterior of theta and its gradient ``(p + q + 3,)``, constants left out.

    Everything is done in ``(n, n)`` matrices: the gradient with respect to the scaled inputs gives that of all
    lengths. A theta whose covariance cannot be factorised gives +inf.
    """
    from scipy.linalg import lapack

    p, n = data.numeric.shape[1], len(data.targets)
    inverse = np.exp(-theta[:-3])
    scale, noise = math.exp(theta[-2]), math.exp(theta[-1])
    scaled = data.numeric * inverse[:p]
    squared = _gram(scaled, -2.0 * scaled.T, (scaled * scaled).sum(1))
    if len(data.differs):
        squared += (inverse[p:] ** 2 @ data.differs).reshape(n, n)
    k, slope = data.kernel(squared)
    trend = math.exp(theta[-3]) * data.linear
    k += trend
    covariance = scale * k
    covariance.ravel()[:: n + 1] += noise + _JITTER
    factor, bad = lapack.dpotrf(covariance.T, lower=1, overwrite_a=1)
    if bad:
        return math.inf, np.zeros_like(theta)
    weights = lapack.dpotrs(factor, data.targets, lower=1)[0]
    mean, sd = prior.vectors(len(theta) - 3, data.study)
    off = (theta - mean) / sd
    value = 0.5 * data.targets @ weights + np.log(factor.diagonal()).sum() + 0.5 * off @ off

    w = _inverse(factor)
    w -= weights[:, None] * weights
    pushed, tilted, trace = np.vdot(w, k), np.vdot(w, trend), w.trace()
    w *= slope
    pull = w @ scaled - scaled * w.sum(1)[:, None]
    gradient = np.empty_like(theta)
    gradient[:p] = -scale * (scaled * pull).sum(0)
    gradient[p:-3] = 0.5 * scale * inverse[p:] ** 2 * (data.differs @ w.ravel())
    gradient[-3:] = 0.5 * scale * tilted, 0.5 * scale * pushed, 0.5 * noise * trace
    return float(value), gradient + off / sd


@dataclass(frozen=True)
class Data:
    """Observations in the form that `log_posterior` reads.

    Attributes:
        numeric: ``(n, p)`` numeric columns.
        differs: ``(q, n * n)`` one where two rows differ in a categorical column.
        linear: ``(n, n)`` the linear kernel.
        targets: ``(n,)`` standardised losses.
        study: Whether the last of ``differs`` tells studies apart.
        kernel: Correlation by scaled squared distance.
    """

    numeric: Array
    differs: Array
    linear: Array
    targets: Array
    study: bool = False
    kernel: Kernel = matern_32

    @classmethod
    def of(cls, units: Array, targets: Array, inputs: Inputs) -> Data:
        """Return encoded rows ``(n, d)`` and their targets ``(n,)`` in this form."""
        n = len(units)
        codes = units[:, inputs.categorical].T
        differs = (codes[:, :, None] != codes[:, None, :]).reshape(len(codes), n * n).astype(float)
        numeric = np.ascontiguousarray(units[:, inputs.numeric])
        sides = 2.0 * numeric - 1.0
        linear = sides @ sides.T / max(numeric.shape[1], 1)
        return cls(numeric, differs, linear, targets, inputs.study, inputs.kernel)

    @property
    def lengths(self) -> int:
        """How many lengths there are, ``p + q``."""
        return int(self.numeric.shape[1]) + len(self.differs)


@dataclass(frozen=True)
class Fit:
    """Hyperparameters of largest posterior, as far as they were looked for.

    Attributes:
        theta: ``(p + q + 3,)`` the hyperparameters.
        inverse: Inverse Hessian there of the negative log posterior, by shares of the ranges of theta.
        rows: Observations they were fitted to.
    """

    theta: Array
    inverse: Array
    rows: int


def fit(data: Data, prior: Prior, start: Fit | None = None) -> Fit:
    """Look for the theta of largest posterior from an earlier fit (None: from the prior's usual theta).

    Going on with the curvature that the earlier fit has found saves a third of the steps. Of more observations the
    likelihood's grows in proportion, the prior's does not: it is taken to grow with the square root.
    """
    lengths = data.lengths
    low, high = np.array([_LENGTHS] * lengths + [_TRENDS, _SCALES, _NOISES]).T
    rows = len(data.targets)
    if start is None:
        theta = np.array([math.log(0.5)] * lengths + [prior.trend[0], 0.0, -4.0])
        if data.study:
            theta[lengths - 1] = prior.study[0]
        evaluations, inverse = _FIRST, None
    else:
        theta, evaluations = start.theta, _AGAIN
        inverse = start.inverse[None] * math.sqrt(start.rows / rows)

    def rising(shares: Array) -> tuple[Array, Array]:
        value, gradient = log_posterior(low + shares[0] * (high - low), data, prior)
        return np.array([-value]), -(gradient * (high - low))[None]

    shares = ((theta - low) / (high - low))[None]
    found, inverse = ascend(rising, shares, np.ones(shares.shape, bool), evaluations, _LEAST, inverse)
    return Fit(low + found[0] * (high - low), inverse[0], rows)


@dataclass(frozen=True)
class Posterior:
    """What a Gaussian process believes after observing targets ``(n,)`` at encoded rows ``(n, d)``.

    The trend is taken to be what it is believed to be; standard deviations are those around it.
    Where the inputs have a column for the study, rows that are asked about may leave it out.
    """

    units: Array
    targets: Array
    inputs: Inputs
    theta: Array
    _points: Points = field(init=False, repr=False)
    _factor: Array = field(init=False, repr=False)  # inverse of the lower Cholesky factor, of all but the trend
    _weights: Array = field(init=False, repr=False)
    _trend: Array = field(init=False, repr=False)
    #: Logarithm of how much more probable the targets are by this model than as noise of variance 1 alone.
    evidence: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from scipy.linalg import lapack

        points = Points(self.units, self.inputs, self.theta)
        k, _ = self.inputs.kernel(points.squared_distances(self.units))
        covariance = self.scale * k
        jitter = self.noise + _JITTER
        while True:
            covariance.ravel()[:: len(k) + 1] = self.scale + jitter
            factor, bad = lapack.dpotrf(covariance.T, lower=1, overwrite_a=0)
            if not bad:
                break
            jitter *= 10.0
        # the trend's part of the covariance has the rank of its columns: one small system more
        tilted = points.tilted
        solved = lapack.dpotrs(factor, np.column_stack([self.targets, tilted]), lower=1)[0]
        small = tilted.T @ solved
        system = np.eye(tilted.shape[1]) / self.scale + small[:, 1:]
        trend = np.linalg.solve(system, small[:, 0])
        weights = solved[:, 0] - solved[:, 1:] @ trend
        volume = np.log(factor.diagonal()).sum() + 0.5 * np.linalg.slogdet(self.scale * system)[1]
        object.__setattr__(self, "_points", points)
        object.__setattr__(self, "_trend", trend)
        object.__setattr__(self, "_weights", weights)
        object.__setattr__(self, "evidence", float(0.5 * self.targets @ (self.targets - weights) - volume))
        object.__setattr__(self, "_factor", lapack.dtrtri(factor, lower=1, overwrite_c=1)[0])

    @property
    def scale(self) -> float:
        """Prior variance of the function around its trend."""
        return math.exp(self.theta[-2])

    @property
    def noise(self) -> float:
        """Variance of the observations around the function."""
        return math.exp(self.theta[-1])

    def predict(self, units: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation ``(m,)`` of the function at rows ``(m, d)``."""
        from scipy.linalg import blas

        units = self.whole(units)
        mean, known = np.empty(len(units)), np.empty(len(units))
        step = max(1, _BLOCK // len(self.units))
        for i in range(0, len(units), step):
            part = slice(i, i + step)
            k, _ = self.inputs.kernel(self._points.squared_distances(units[part]))
            mean[part] = k @ self._weights
            white = blas.dtrmm(1.0, self._factor, k.T, lower=1, overwrite_b=1)
            known[part] = np.einsum("ij,ij->j", white, white)
        return self._mean(units, mean), self._deviation(known)

    def slopes(self, units: Array) -> tuple[Array, Array, Array, Array]:
        """Return mean, standard deviation ``(m,)`` and their derivatives ``(m, p)`` by the numeric columns."""
        units = self.whole(units)
        m, points = len(units), self._points
        k, slope = self.inputs.kernel(points.squared_distances(units))
        white = k @ self._factor.T
        pulls = np.concatenate([slope * self._weights, slope * (white @ self._factor)])  # of the mean, of the variance
        slopes = pulls @ points.scaled
        numeric = np.concatenate([units, units])[:, self.inputs.numeric]
        slopes -= numeric * points.inverse * pulls.sum(1)[:, None]
        slopes *= self.scale * points.inverse
        slopes[:m] += points.tilt * self._trend
        sd = self._deviation((white * white).sum(1))
        slopes[m:] *= (-self.scale / sd)[:, None]
        return self._mean(units, k @ self._weights), sd, slopes[:m], slopes[m:]

    def _mean(self, units: Array, around: Array) -> Array:
        """Return means, given those around the trend, over the scale."""
        mean: Array = self.scale * around + self._points.tilts(units) @ self._trend
        return mean

    def _deviation(self, known: Array) -> Array:
        """Return standard deviations, given how much of the correlation observations account for, over the scale."""
        variance: Array = self.scale - self.scale**2 * known
        return np.sqrt(np.maximum(variance, 1e-12))

    def with_believed(self, units: Array, floor: float) -> Posterior:
        """Return the posterior after rows ``(m, d)`` came out at their means, but none below ``floor``.

        The kriging believer of Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize
        optimization", 2010.
        """
        mean, _ = self.predict(units)
        targets = np.concatenate([self.targets, np.maximum(mean, floor)])
        return Posterior(np.concatenate([self.units, self.whole(units)]), targets, self.inputs, self.theta)

    def whole(self, units: Array) -> Array:
        """Return rows with the column for the study, 0 where they leave it out."""
        if units.shape[1] == self.units.shape[1]:
            return units
        return np.column_stack([units, np.zeros(len(units))])


def _gram(a: Array, turned: Array, norms: Array) -> Array:
    """Return the squared Euclidean distances ``(m, n)`` between rows ``a (m, p)`` and ``b (n, p)``.

    Args:
        a: Rows.
        turned: ``-2 b.T``.
        norms: Squared lengths of ``b``.
    """
    out: Array = a @ turned
    out += (a * a).sum(1)[:, None]
    out += norms
    return np.maximum(out, 0.0, out=out)


def _inverse(factor: Array) -> Array:
    """Return the inverse of the matrix whose lower Cholesky factor is given."""
    from scipy.linalg import lapack

    lower: Array = lapack.dpotri(factor, lower=1)[0]  # clean: what lies above the diagonal is zero
    out = lower + lower.T
    out.ravel()[:: len(out) + 1] *= 0.5
    return out
