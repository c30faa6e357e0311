"""Expected improvement and where it is largest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..space import Array, Space
from .ascent import ascend
from .gaussian_process import Points, Posterior
from .moves import mutate, settle

_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)
_LEAST = 1e-4  # gain for which starts are climbed from
_NARROW = 30.0  # of the probability of success the kernel's length is the model's over the root of this
_USUAL = 0.02  # weight of the share of all trials that succeed, in trials right there
_POWER = 8.0  # 16 keeps away farther, also from where a few have failed by chance
_LONGEST = math.log(2.0)  # the log of a length that counts: losses may be a line where success is not
_FAR_BELOW, _FAR_ABOVE = -1000.0, 25.0  # beyond, one term is all that counts


@dataclass(frozen=True)
class Search:
    """How the acquisition function is maximised.

    Args:
        uniform: Points drawn uniformly.
        local: Points drawn around the best observed.
        bases: How many of the best observed are moved.
        starts: Points that are refined further.
        rounds: Rounds of ``mutations`` random moves of each start.
        mutations: Random moves of each start in a round.
        climb: Evaluations of the gradient, in which the starts go uphill along their numeric parameters.
    """

    uniform: int = 256
    local: int = 128
    bases: int = 5
    starts: int = 4
    rounds: int = 2
    mutations: int = 32
    climb: int = 10


class Acquisition(Protocol):
    """A function of points that `maximise` climbs."""

    @property
    def posterior(self) -> Posterior:
        """What is believed of the function that is searched."""

    def __call__(self, units: Array) -> Array:
        """Return the value ``(m,)`` at rows ``(m, d)``."""

    def with_gradient(self, units: Array) -> tuple[Array, Array]:
        """Return the value ``(m,)`` and its derivatives ``(m, p)`` by the numeric columns."""


@dataclass(frozen=True)
class LogImprovement:
    """Logarithm of the expected improvement over ``best`` under a posterior.

    Ament et al., "Unexpected improvements to expected improvement for Bayesian optimization", NeurIPS 2023,
    section 4.1.

    Args:
        posterior: What is believed.
        best: Target to improve on.
        widen: Factor on the standard deviation: models fitted to few points are over-confident where the
            search goes.
    """

    posterior: Posterior
    best: float
    widen: float

    def __call__(self, units: Array) -> Array:
        """Return the value ``(m,)`` at rows ``(m, d)``."""
        mean, sd = self.posterior.predict(units)
        sd = self.widen * sd
        return log_h((self.best - mean) / sd) + np.log(sd)

    def with_gradient(self, units: Array) -> tuple[Array, Array]:
        """Return the value ``(m,)`` and its derivatives ``(m, p)`` by the numeric columns."""
        from scipy.special import log_ndtr

        mean, sd, d_mean, d_sd = self.posterior.slopes(units)
        sd, d_sd = self.widen * sd, self.widen * d_sd
        u = (self.best - mean) / sd
        log = log_h(u)
        by_mean = -np.exp(log_ndtr(u) - log) / sd
        by_sd = np.exp(-0.5 * u * u - _LOG_ROOT_2PI - log) / sd
        return log + np.log(sd), by_mean[:, None] * d_mean + by_sd[:, None] * d_sd


@dataclass(frozen=True)
class Outcomes:
    """Which trials had a loss, and which failed.

    Attributes:
        units: ``(n, d)``.
        ok: ``(n,)`` whether there is a loss.
        counts: ``(n,)`` how many trials each stands for.
    """

    units: Array
    ok: NDArray[np.bool_]
    counts: Array


class Succeeding:
    """Logarithm of an expected improvement times a power of the probability that a trial succeeds.

    Gelbart, Snoek and Adams, "Bayesian optimization with unknown constraints", UAI 2014, section 3.2, and a power, as
    improvements differ by orders of magnitude, and a search would look for more where all trials fail once little is
    left to improve elsewhere (with 8, of 30 trials 7 fail where half of the space does; with 1, 20). The probability
    is the share of successes among the trials nearby, by a normal kernel, and with little weight that of all trials:
    some fail anywhere (a machine that was lost), others wherever a model diverges or does not fit into memory.

    Args:
        improvement: Logarithm of the expected improvement.
        outcomes: Of the study's trials.
    """

    def __init__(self, improvement: Acquisition, outcomes: Outcomes) -> None:
        self._improvement = improvement
        self.posterior = posterior = improvement.posterior
        theta = np.append(np.minimum(posterior.theta[:-3], _LONGEST), posterior.theta[-3:])
        self._points = Points(posterior.whole(outcomes.units), posterior.inputs, theta)
        self._counts = outcomes.counts
        self._ok = outcomes.counts * outcomes.ok
        self._usual = float((self._ok.sum() + 1.0) / (self._counts.sum() + 2.0))

    def __call__(self, units: Array) -> Array:
        """Return the value ``(m,)`` at rows ``(m, d)``."""
        near = self._near(self.posterior.whole(units))
        ok, every = near @ self._ok + _USUAL * self._usual, near @ self._counts + _USUAL
        value: Array = self._improvement(units) + _POWER * np.log(ok / every)
        return value

    def with_gradient(self, units: Array) -> tuple[Array, Array]:
        """Return the value ``(m,)`` and its derivatives ``(m, p)`` by the numeric columns."""
        value, gradient = self._improvement.with_gradient(units)
        whole, numeric = self.posterior.whole(units), self.posterior.inputs.numeric
        near, here, there = self._near(whole), whole[:, numeric], self._points.units[:, numeric]
        for weights, usual, sign in ((self._ok, self._usual, 1.0), (self._counts, 1.0, -1.0)):
            weighed = near * weights
            total = weighed.sum(1)
            some = total + _USUAL * usual
            pull = (weighed @ there - here * total[:, None]) * self._points.inverse**2
            value = value + sign * _POWER * np.log(some)
            gradient = gradient + sign * _POWER * _NARROW * pull / some[:, None]
        return value, gradient

    def _near(self, units: Array) -> Array:
        """Return how near ``(m, n)`` each trial is to rows ``(m, d)``, at most 1."""
        near: Array = np.exp(-0.5 * _NARROW * self._points.squared_distances(units))
        return near


@dataclass(frozen=True)
class Optimism:
    """How low the function may be, ``width`` standard deviations below its mean, with the sign turned."""

    posterior: Posterior
    width: float

    def __call__(self, units: Array) -> Array:
        """Return the value ``(m,)`` at rows ``(m, d)``."""
        mean, sd = self.posterior.predict(units)
        return self.width * sd - mean

    def with_gradient(self, units: Array) -> tuple[Array, Array]:
        """Return the value ``(m,)`` and its derivatives ``(m, p)`` by the numeric columns."""
        mean, sd, d_mean, d_sd = self.posterior.slopes(units)
        return self.width * sd - mean, self.width * d_sd - d_mean


def log_h(u: Array) -> Array:
    """Return ``log(phi(u) + u Phi(u))`` without cancellation for very negative ``u``."""
    from scipy.special import erfcx

    near = np.minimum(np.maximum(u, _FAR_BELOW), _FAR_ABOVE)
    mills = near * math.sqrt(math.pi / 2.0) * erfcx(-near / math.sqrt(2.0))
    out: Array = np.log1p(np.maximum(mills, -1.0 + 1e-15)) - 0.5 * near * near - _LOG_ROOT_2PI
    far = near != u
    if far.any():
        v = u[far]
        with np.errstate(invalid="ignore"):
            out[far] = np.where(v > 0.0, np.log(v), -0.5 * v * v - _LOG_ROOT_2PI - 2.0 * np.log(-v))
    return out


def maximise(
    acquisition: Acquisition, space: Space, incumbents: Array, rng: np.random.Generator, search: Search
) -> Array:
    """Return the visited points ``(m, d)`` of the grid in order of falling acquisition.

    Args:
        acquisition: What to maximise.
        space: Where.
        incumbents: The best observed rows ``(k, d)``, best first.
        rng: Source of randomness.
        search: How hard to look.
    """
    rank = np.minimum(rng.geometric(0.4, search.local) - 1, min(search.bases, len(incumbents)) - 1)
    points = np.concatenate(
        [
            settle(space, rng.random((search.uniform, len(space)))),
            mutate(space, incumbents[rank], (0.01, 0.3), rng),
        ]
    )
    values = acquisition(points)
    starts, heights = _starts(points, values, search.starts, rng)
    scales = np.array([0.003, 0.2])
    for _ in range(search.rounds):
        near = mutate(space, np.repeat(starts, search.mutations, 0), (scales[0], scales[1]), rng)
        found = acquisition(near).reshape(len(starts), search.mutations)
        points, values = np.concatenate([points, near]), np.concatenate([values, found.ravel()])
        top = found.argmax(1)
        better = found.max(1) > heights
        starts[better] = near.reshape(len(starts), search.mutations, -1)[better, top[better]]
        heights = np.maximum(heights, found.max(1))
        scales *= 0.6
    climbed = settle(space, _climb(acquisition, space, starts, search.climb))
    points, values = np.concatenate([points, climbed]), np.concatenate([values, acquisition(climbed)])
    return points[np.argsort(-values, kind="stable")]


def _starts(points: Array, values: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the best point and others drawn from the next best by their expected improvement."""
    top = np.argsort(-values, kind="stable")[:16]
    # the largest of sums with Gumbel noise are a draw without replacement, Kool, van Hoof and Welling, ICML 2019
    others = top[1:][np.argsort(-values[top[1:]] - rng.gumbel(size=len(top) - 1), kind="stable")[: n - 1]]
    chosen = np.concatenate([top[:1], others])
    return points[chosen], values[chosen]


def _climb(acquisition: Acquisition, space: Space, starts: Array, evaluations: int) -> Array:
    """Return ``starts`` moved uphill along their active numeric columns."""
    numeric = acquisition.posterior.inputs.numeric
    free = space.active_mask(starts)[:, numeric]
    if not free.any() or not evaluations:
        return starts
    units = starts.copy()

    def at(x: Array) -> tuple[Array, Array]:
        units[:, numeric] = x
        return acquisition.with_gradient(units)

    units[:, numeric], _ = ascend(at, starts[:, numeric], free, evaluations, _LEAST)
    return units
