"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..history import History
from ..record import TrialState
from ..space import Array, Space
from . import warp
from .acquisition import LogImprovement, Search, maximise
from .curves import curves
from .gaussian_process import Data, Inputs, Posterior, Prior, fit
from .moves import grid, keys, mutate, resting, settle
from .sampler import Sampler
from .threads import one_thread

Rows = NDArray[np.int64]

_EVERY = 20  # so many told trials: refitted at every ask; beyond, at every twentieth part of them
_SMALL = 2000  # a grid of so many points is searched in full
_COUNTABLE = 100_000  # a grid of so many points is listed to find one that was not evaluated
_PENDING = 64  # running trials that are believed; more add cost and nothing else
_REPORTS = 3  # a running trial with so many reports is learned from; one with fewer is believed
_HUGE = 1e100  # farther losses count as that: their squares must stay finite
_DESIGN = 256  # Sobol points at most


@dataclass(frozen=True)
class Model:
    """One of the models that take turns.

    Args:
        warp: Losses, ascending, and how many observations each stands for, to targets.
        prior: Of its hyperparameters.
    """

    warp: Callable[[Array, Array], Array]
    prior: Prior


RANKED = Model(warp.half_rank, Prior())
PLAIN = Model(warp.standard, Prior(length=(0.3, 0.8), noise=(-5.0, 2.0)))


@dataclass(frozen=True)
class GPSampler(Sampler):
    """Proposes where a Gaussian process of the losses expects the largest improvement.

    A Matern-5/2 kernel with one length per parameter (Hamming distance for choices) is fitted by maximum a
    posteriori, and the logarithm of the expected improvement is maximised by random, local and gradient search
    on the grid that will be run; no point is proposed twice while others are left. Two models take turns, by the
    trial's number: one sees half-ranked losses and expects short lengths, the other plain losses and
    longer ones; one alone gets stuck in its own mistakes. Snoek, Larochelle and Adams, "Practical Bayesian
    optimization of machine learning algorithms", NeurIPS 2012; for the acquisition's logarithm Ament et al., 2023.

    Parameters that are inactive rest at one fixed place and are never moved. Running trials are believed to come out
    at the model's mean (kriging believer); failed ones, NaN and +inf count as the worst seen. A pruned trial, and a
    running one with three reports, counts as what the curves of complete trials foretell of its final loss, plus one
    standard deviation, and never as better than their median; reports are averaged over the last eighth of the
    steps. Where the fitted noise is large, the improvement is over the best mean instead of the best value. A
    parameter that has no place in the unit interval (`Sampled`) is drawn uniformly.

    The proposal depends on the history alone, never on which process asks or has asked before: hyperparameters are
    refitted when the number of told trials passes fixed counts (each up to 20, then every twentieth part),
    starting from those at the count before the last doubling. A process that has not followed the study repeats
    at most one fit for each doubling.

    Args:
        startup: Trials told before the models are used; until then a scrambled Sobol sequence.
        models: Take turns.
        widen: Factor on the model's standard deviation.
        rows: Observations kept at most, the best half of them by loss and the rest spread over the others.
        fit_rows: Observations used at most to fit hyperparameters.
        noisy: Noise variance of the standardised losses above which the best mean is improved on.
        search: How the acquisition is maximised.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(sampler=GPSampler(), seed=0, space={"x": inloop.Float(0, 1)})
        >>> study.optimize(lambda trial: (trial.params["x"] - 0.3) ** 2, n_trials=12)
        >>> study.best_value < 1e-3
        True
    """

    startup: int = 5
    models: tuple[Model, ...] = field(default=(RANKED, PLAIN), repr=False)
    widen: float = field(default=1.5, repr=False)
    rows: int = field(default=400, repr=False)
    fit_rows: int = field(default=150, repr=False)
    noisy: float = field(default=0.1, repr=False)
    search: Search = field(default=Search(), repr=False)

    def __post_init__(self) -> None:
        if self.startup < 2:
            raise ValueError(f"GPSampler: startup must be at least 2, got {self.startup!r}.")
        if not self.models:
            raise ValueError("GPSampler: models is empty; give at least one.")
        if not 4 <= self.fit_rows <= self.rows:
            raise ValueError(
                f"GPSampler: 4 <= fit_rows <= rows must hold, got fit_rows={self.fit_rows!r}, rows={self.rows!r}."
            )

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        with one_thread():
            return self._ask(space, history, number, rng)

    def _ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        memory = _memory(self, space, history)
        seen, unseen = memory.running(number)
        pending = memory.units(unseen)
        tried = (memory.tried, set(keys(memory.units(np.concatenate([seen, unseen])))))
        told = len(history.told)
        if told < self.startup or not memory.inputs or not math.isfinite(history.ranking.kth(0)):
            point = settle(space, memory.design(number, rng)[None])
            return space.decode(_unseen(space, point, tried, rng))
        model = self.models[number % len(self.models)]
        rows, counts = _thinned(history, self.rows, self.rows // 2)
        rows, counts = np.concatenate([rows, seen]), np.concatenate([counts, np.ones(len(seen))])
        targets, known = _targets(history, rows, counts, model, told)
        units = memory.units(rows)
        posterior = Posterior(units, targets, memory.inputs, self._theta(memory, model, _checkpoint(told)))
        level = posterior.predict(units)[0] if posterior.noise > self.noisy else targets
        believed = posterior.with_believed(pending, float(targets.min())) if len(pending) else posterior
        improvement = LogImprovement(believed, float(level[known].min()), self.widen)
        if space.size is not None and space.size <= _SMALL:
            points = memory.grid
            points = points[np.argsort(-improvement(points), kind="stable")]
        else:
            best = np.argsort(np.where(known, level, math.inf), kind="stable")[: self.search.bases]
            points = maximise(improvement, space, units[best], rng, self.search)
        return space.decode(_unseen(space, points, tried, rng))

    def _theta(self, memory: _Memory, model: Model, count: int) -> Array:
        """Return the hyperparameters after the first ``count`` told trials."""
        theta = memory.thetas.get((model, count))
        if theta is None:
            before = max(_doublings(self.startup, count), default=None)
            start = None if before is None else self._theta(memory, model, before)
            theta = fit(self._data(memory, model, count), model.prior, start, 30 if start is None else 10)
            memory.keep((model, count), theta)
        return theta

    def _data(self, memory: _Memory, model: Model, count: int) -> Data:
        """Return the observations that hyperparameters after ``count`` told trials are fitted to."""
        rows = np.array(memory.history.told[:count])
        rows = rows[np.argsort(curves(memory.history).losses(rows, count), kind="stable")]
        ranks, counts = _thin(count, self.fit_rows, self.fit_rows // 3)
        targets, _ = _targets(memory.history, rows[ranks], counts, model, count)
        return Data.of(memory.units(rows[ranks]), targets, memory.inputs)


class _Memory:
    """What was derived from one history for one space; all of it can be derived again."""

    def __init__(self, space: Space, history: History) -> None:
        self.space = space
        self.history = history
        self.inputs = Inputs.of(space.columns)
        self.thetas: dict[tuple[Model, int], Array] = {}
        self._rest = resting(space)
        self._tried: set[int] = set()
        self._read = 0
        self._sobol: Array | None = None
        self._grid: Array | None = None

    @property
    def tried(self) -> set[int]:
        """Keys of the told points."""
        new = self.history.told[self._read :]
        if new:
            self._tried.update(keys(self.units(np.array(new))))
            self._read = len(self.history.told)
        return self._tried

    def units(self, rows: Rows) -> Array:
        """Return the points ``(m, d)`` of trials, with columns they did not take at rest."""
        units = self.history.encoded(self.space).units[rows]
        return np.where(np.isnan(units), self._rest, units)

    def running(self, asking: int) -> tuple[Rows, Rows]:
        """Return the running trials with parameters, the asking one left out: those whose curve tells, the others."""
        rows = np.array([i for i in self.history.running if i != asking][-_PENDING:], np.int64)
        rows = rows[~np.isnan(self.history.encoded(self.space).units[rows]).all(1)]
        telling = np.array([self.history.trials[i].reports >= _REPORTS for i in rows], bool)
        return rows[telling], rows[~telling]

    def design(self, number: int, rng: np.random.Generator) -> Array:
        """Return the point ``(d,)`` of a scrambled Sobol sequence for trial ``number``; past its end a random one."""
        if number >= _DESIGN:
            return rng.random(len(self.space))
        if self._sobol is None:
            from scipy.stats.qmc import Sobol

            self._sobol = Sobol(len(self.space), seed=np.random.default_rng(self.history.seed)).random(_DESIGN)
        point: Array = self._sobol[number]
        return point

    @property
    def grid(self) -> Array:
        """Every point of a finite space."""
        if self._grid is None:
            self._grid = grid(self.space)
        return self._grid

    def keep(self, key: tuple[Model, int], theta: Array) -> None:
        if len(self.thetas) >= 64:
            self.thetas.clear()
        self.thetas[key] = theta


_MEMORIES: WeakKeyDictionary[History, dict[tuple[GPSampler, Space], _Memory]] = WeakKeyDictionary()


def _memory(sampler: GPSampler, space: Space, history: History) -> _Memory:
    """Return the memory of a history, kept as long as the history lives."""
    memories = _MEMORIES.setdefault(history, {})
    memory = memories.get((sampler, space))
    if memory is None:
        if len(memories) >= 4:  # a union that grows leaves its old forms behind
            memories.pop(next(iter(memories)))
        memory = memories[sampler, space] = _Memory(space, history)
    return memory


def _thin(n: int, most: int, best: int) -> tuple[Rows, Array]:
    """Return ranks (the best ones and some spread over the rest) and how many observations each stands for."""
    if n <= most:
        return np.arange(n), np.ones(n)
    left = most - best
    each = (n - best) / left
    spread = best + np.floor((np.arange(left) + 0.5) * each).astype(np.int64)
    return np.concatenate([np.arange(best), spread]), np.concatenate([np.ones(best), np.full(left, each)])


def _thinned(history: History, most: int, best: int) -> tuple[Rows, Array]:
    """Return the told trials to learn from, at most ``most``, and how many each stands for."""
    ranks, counts = _thin(len(history.ranking), most, best)
    return history.ranking.rows(ranks), counts


def _targets(history: History, rows: Rows, counts: Array, model: Model, told: int) -> tuple[Array, NDArray[np.bool_]]:
    """Return targets ``(m,)`` of trials, and which of them may count as the best: complete ones, if there are any."""
    losses = curves(history).losses(rows, told)
    complete = np.array([history.trials[i].state is TrialState.COMPLETE for i in rows]) & (losses < math.inf)
    finite = losses < math.inf
    best = losses[finite & (losses > -math.inf)].min(initial=math.inf)
    losses = np.maximum(losses, best if best < math.inf else 0.0)  # -inf counts as the best number
    losses = np.clip(losses, -_HUGE, _HUGE)
    order = np.argsort(losses, kind="stable")[: finite.sum()]
    targets = np.zeros(len(rows))
    targets[order] = model.warp(losses[order], counts[order])
    targets[~finite] = targets[finite].max(initial=0.0)
    return targets, complete if complete.any() else finite


def _checkpoint(told: int) -> int:
    """Return the last count up to ``told`` at which hyperparameters are refitted."""
    if told <= _EVERY:
        return told
    octave = _EVERY << ((told // _EVERY).bit_length() - 1)
    step = max(2, octave // _EVERY)
    return octave + (told - octave) // step * step


def _doublings(first: int, below: int) -> Iterator[int]:
    while first < below:
        yield first
        first *= 2


def _unseen(space: Space, points: Array, tried: tuple[set[int], set[int]], rng: np.random.Generator) -> Array:
    """Return the first of ``points`` ``(m, d)`` not tried; else a new one ever farther away; else the first."""

    def new(among: Array) -> Array | None:
        for i in range(len(among)):
            key = keys(among[i : i + 1])[0]
            if not any(key in t for t in tried):
                point: Array = among[i]
                return point
        return None

    found = new(points)
    if found is None and space.size is not None and space.size <= _COUNTABLE:
        found = new(rng.permutation(grid(space)))
        return points[0] if found is None else found
    for size in (0.05, 0.1, 0.2, 0.4):
        if found is None:
            found = new(mutate(space, np.repeat(points[:1], 64, 0), (0.25 * size, size), rng))
    if found is None:
        found = new(settle(space, rng.random((256, len(space)))))
    return points[0] if found is None else found
