"""Gaussian process regression: Matern-5/2 with a length per column, fitted by maximum a posteriori.

Rasmussen and Williams, "Gaussian processes for machine learning", MIT Press, 2006: equation 4.17 (Matern-5/2),
2.25 and 2.26 (prediction), 5.9 (gradient of the marginal likelihood). Categorical columns enter the squared
distance by Hamming distance over a length of their own.

Hyperparameters are kept as one vector ``theta (p + q + 2,)``: log lengths of the ``p`` numeric and ``q``
categorical columns, log scale (signal variance), log noise (variance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..space import Array, Columns

_JITTER = 1e-6
_BLOCK = 16_384  # numbers of a matrix that stay in a core's cache; larger ones take twice as long
_LENGTHS = (math.log(0.02), math.log(100.0))
_SCALES = (-3.0, 4.0)
_NOISES = (math.log(1e-6), 0.0)


@dataclass(frozen=True)
class Prior:
    """Normal priors, as (mean, standard deviation), of the logarithms of the hyperparameters."""

    length: tuple[float, float] = (math.log(0.5), 1.0)
    scale: tuple[float, float] = (0.0, 1.0)
    noise: tuple[float, float] = (-4.0, 1.0)
    study: tuple[float, float] = (math.log(3.0), 1.0)  # of the column that tells studies apart: a correlation of 0.9

    def vectors(self, lengths: int, study: bool = False) -> tuple[Array, Array]:
        """Return means and standard deviations in the order of theta."""
        rows = [self.length] * (lengths - study) + [self.study] * study + [self.scale, self.noise]
        mean, sd = np.array(rows).T
        return mean, sd


@dataclass(frozen=True)
class Inputs:
    """Which columns of encoded rows the kernel reads.

    Attributes:
        numeric: ``(p,)`` columns on which distance is difference.
        categorical: ``(q,)`` columns on which distance is being different.
        study: Whether one more column, the last, says of which study a row is: 0 is the one that is searched. So
            the kernel is that of two tasks, Swersky, Snoek and Adams, "Multi-task Bayesian optimization",
            NeurIPS 2013, with one correlation for all pairs of studies.
    """

    numeric: NDArray[np.int64]
    categorical: NDArray[np.int64]
    study: bool = False

    @classmethod
    def of(cls, columns: Columns) -> Inputs:
        """Return the columns of a space that can be modelled; those of a single level say nothing."""
        told = columns.modelled & (columns.levels != 1)
        return cls(np.flatnonzero(told & ~columns.categorical), np.flatnonzero(told & columns.categorical))

    def __len__(self) -> int:
        return len(self.numeric) + len(self.categorical)


def matern(squared: Array) -> tuple[Array, Array]:
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


def squared_distances(a: Array, b: Array, inputs: Inputs, theta: Array) -> Array:
    """Return the scaled squared distances ``(m, n)`` between rows ``(m, d)`` and ``(n, d)``."""
    p = len(inputs.numeric)
    inverse = np.exp(-theta[: len(inputs)])
    fa, fb = a[:, inputs.numeric] * inverse[:p], b[:, inputs.numeric] * inverse[:p]
    out = _gram(fa, fb)
    for w, column in zip(inverse[p:] ** 2, inputs.categorical, strict=True):
        out += w * (a[:, column, None] != b[:, column])
    return out


def log_posterior(theta: Array, data: Data, prior: Prior) -> tuple[float, Array]:
    """Return the negative log posterior of theta and its gradient ``(p + q + 2,)``, constants left out.

    Everything is done in ``(n, n)`` matrices: the gradient with respect to the scaled inputs gives that of all
    lengths. A theta whose covariance cannot be factorised gives +inf.
    """
    from scipy.linalg import lapack

    p, n = data.numeric.shape[1], len(data.targets)
    inverse = np.exp(-theta[:-2])
    scale, noise = np.exp(theta[-2:])
    scaled = data.numeric * inverse[:p]
    squared = _gram(scaled, scaled)
    if len(data.differs):
        squared += (inverse[p:] ** 2 @ data.differs).reshape(n, n)
    k, slope = matern(squared)
    covariance = scale * k
    covariance[np.diag_indices(n)] += noise + _JITTER
    factor, bad = lapack.dpotrf(covariance, lower=1, overwrite_a=0)
    if bad:
        return math.inf, np.zeros_like(theta)
    weights = lapack.dpotrs(factor, data.targets, lower=1)[0]
    mean, sd = prior.vectors(len(theta) - 2, data.study)
    off = (theta - mean) / sd
    value = 0.5 * data.targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * off @ off

    w = np.outer(weights, weights) - _inverse(factor)
    m = w * slope
    m *= scale
    pull = scaled * m.sum(1)[:, None] - m @ scaled
    gradient = np.concatenate(
        [
            -(scaled * pull).sum(0),
            -0.5 * inverse[p:] ** 2 * (data.differs @ m.ravel()),
            [-0.5 * scale * np.vdot(w, k), -0.5 * noise * np.trace(w)],
        ]
    )
    return float(value), gradient + off / sd


@dataclass(frozen=True)
class Data:
    """Observations in the form that `log_posterior` reads.

    Attributes:
        numeric: ``(n, p)`` numeric columns.
        differs: ``(q, n * n)`` one where two rows differ in a categorical column.
        targets: ``(n,)`` standardised losses.
        study: Whether the last of ``differs`` tells studies apart.
    """

    numeric: Array
    differs: Array
    targets: Array
    study: bool = False

    @classmethod
    def of(cls, units: Array, targets: Array, inputs: Inputs) -> Data:
        """Return encoded rows ``(n, d)`` and their targets ``(n,)`` in this form."""
        n = len(units)
        codes = units[:, inputs.categorical].T
        differs = (codes[:, :, None] != codes[:, None, :]).reshape(len(codes), n * n).astype(float)
        return cls(np.ascontiguousarray(units[:, inputs.numeric]), differs, targets, inputs.study)


def fit(data: Data, prior: Prior, start: Array | None, iterations: int) -> Array:
    """Return the theta of largest posterior found by L-BFGS-B from ``start`` (None: the prior's usual one)."""
    from scipy.optimize import minimize

    lengths = data.numeric.shape[1] + len(data.differs)
    if start is None:
        start = np.array([math.log(0.5)] * lengths + [0.0, -4.0])
        if data.study:
            start[lengths - 1] = prior.study[0]
    bounds = [_LENGTHS] * lengths + [_SCALES, _NOISES]
    found = minimize(
        log_posterior,
        start,
        (data, prior),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations, "ftol": 1e-3 / len(data.targets)},
    )
    theta: Array = found.x
    return theta if math.isfinite(found.fun) else start


@dataclass(frozen=True)
class Posterior:
    """What a Gaussian process believes after observing targets ``(n,)`` at encoded rows ``(n, d)``.

    Where the inputs have a column for the study, rows that are asked about may leave it out.
    """

    units: Array
    targets: Array
    inputs: Inputs
    theta: Array
    _inverse: Array = field(init=False, repr=False)
    _weights: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from scipy.linalg import lapack

        k, _ = matern(squared_distances(self.units, self.units, self.inputs, self.theta))
        covariance = self.scale * k
        jitter = self.noise + _JITTER
        while True:
            covariance[np.diag_indices(len(k))] = self.scale + jitter
            factor, bad = lapack.dpotrf(covariance, lower=1, overwrite_a=0)
            if not bad:
                break
            jitter *= 10.0
        object.__setattr__(self, "_inverse", _inverse(factor))
        object.__setattr__(self, "_weights", lapack.dpotrs(factor, self.targets, lower=1)[0])

    @property
    def scale(self) -> float:
        """Prior variance of the function."""
        return math.exp(self.theta[-2])

    @property
    def noise(self) -> float:
        """Variance of the observations around the function."""
        return math.exp(self.theta[-1])

    def predict(self, units: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation ``(m,)`` of the function at rows ``(m, d)``."""
        units = self._whole(units)
        mean, variance = np.empty(len(units)), np.empty(len(units))
        step = max(1, _BLOCK // len(self.units))
        for i in range(0, len(units), step):
            part = slice(i, i + step)
            k, _ = matern(squared_distances(units[part], self.units, self.inputs, self.theta))
            k *= self.scale
            mean[part] = k @ self._weights
            variance[part] = self.scale - np.einsum("ij,ij->i", k @ self._inverse, k)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def slopes(self, units: Array) -> tuple[Array, Array, Array, Array]:
        """Return mean, standard deviation ``(m,)`` and their derivatives ``(m, p)`` by the numeric columns."""
        units = self._whole(units)
        k, slope = matern(squared_distances(units, self.units, self.inputs, self.theta))
        k *= self.scale
        towards = k @ self._inverse
        sd = np.sqrt(np.maximum(self.scale - np.einsum("ij,ij->i", towards, k), 1e-12))
        d_mean = self._by_input(units, slope * self._weights)
        d_variance = -2.0 * self._by_input(units, slope * towards)
        return k @ self._weights, sd, d_mean, d_variance / (2.0 * sd[:, None])

    def with_believed(self, units: Array, floor: float) -> Posterior:
        """Return the posterior after rows ``(m, d)`` came out at their means, but none below ``floor``.

        The kriging believer of Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize
        optimization", 2010.
        """
        mean, _ = self.predict(units)
        targets = np.concatenate([self.targets, np.maximum(mean, floor)])
        return Posterior(np.concatenate([self.units, self._whole(units)]), targets, self.inputs, self.theta)

    def _whole(self, units: Array) -> Array:
        if units.shape[1] == self.units.shape[1]:
            return units
        return np.column_stack([units, np.zeros(len(units))])

    def _by_input(self, units: Array, c: Array) -> Array:
        """Return ``sum_j c_j dk(x, x_j)/dx`` over slope-weighted coefficients ``(m, n)``."""
        numeric = self.inputs.numeric
        weight = np.exp(-2.0 * self.theta[: len(numeric)])
        out: Array = units[:, numeric] * c.sum(1)[:, None] - c @ self.units[:, numeric]
        return -self.scale * weight * out


def _gram(a: Array, b: Array) -> Array:
    """Return the squared Euclidean distances ``(m, n)`` between rows."""
    out: Array = (a * a).sum(1)[:, None] + (b * b).sum(1)
    out -= 2.0 * (a @ b.T)
    np.maximum(out, 0.0, out=out)
    return out


def _inverse(factor: Array) -> Array:
    """Return the inverse of the matrix whose lower Cholesky factor is given."""
    from scipy.linalg import lapack

    lower: Array = lapack.dpotri(factor, lower=1)[0]  # clean: what lies above the diagonal is zero
    out = lower + lower.T
    out[np.diag_indices(len(out))] *= 0.5
    return out
