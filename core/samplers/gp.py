"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..follower import Follower, Kept
from ..history import History
from ..ranking import thinned
from ..record import TrialState
from ..space import Array, Space
from . import warp
from .acquisition import Acquisition, LogImprovement, Outcomes, Search, Succeeding, maximise
from .curves import curves
from .earlier import Source, earlier
from .gaussian_process import Data, Fit, Inputs, Kernel, Posterior, Prior, fit, matern_32
from .moves import grid, keys, mutate, resting, settle
from .sampler import Sampler
from .stretch import Ends, crowded, stretched
from .threads import one_thread
from .tried import settings

Rows = NDArray[np.int64]

_EVERY = 20  # so many told trials: refitted at every ask; beyond, at every tenth part of the last doubling
_SMALL = 2000  # a grid of so many points is searched in full
_PENDING = 64  # running trials that are believed; more add cost and nothing else
_REPORTS = 3  # a running trial with so many reports is learned from; one with fewer is believed
_BEST = 5  # trials that must agree for a range to be stretched
_CLEARLY = 1.0  # evidence by which a stretched range must be better
_HUGE = 1e100  # farther losses count as that: their squares must stay finite
_JUDGES = 100  # latest trials by which earlier studies are judged
_DESIGN = 256  # Sobol points at most
_KEPT = 64  # fits
_SURPRISE = -5.0  # evidence, as of trials that an earlier fit did not foresee; of noise it is -1 to -3


@dataclass(frozen=True)
class Model:
    """One of the models that take turns.

    Args:
        warp: Losses, ascending, and how many observations each stands for, to targets.
        prior: Of its hyperparameters.
        kernel: Correlation by scaled squared distance.
    """

    warp: Callable[[Array, Array], Array]
    prior: Prior
    kernel: Kernel = matern_32


@dataclass(frozen=True)
class Belief:
    """A model of the told trials.

    Attributes:
        posterior: What is believed of the standardised loss.
        level: ``(n,)`` what each observed row counts as; inf where it may not count as the best.
    """

    posterior: Posterior
    level: Array
    _seen: _Observed = field(repr=False)

    @property
    def scale(self) -> float:
        """Loss in units of the plain model's standardised one, 0 where all losses are equal."""
        return self._seen.deviation

    @property
    def outcomes(self) -> Outcomes:
        """Which of the told trials failed."""
        return self._seen.outcomes

    @property
    def best(self) -> float:
        """What is to be improved on."""
        return float(self.level.min())


_Key = tuple[Model, int, int]  # of a fit: the model, how many told trials, how many earlier studies

RANKED = Model(warp.half_rank, Prior())
PLAIN = Model(warp.standard, Prior(length=(0.3, 0.8), noise=(-5.0, 2.0)))


@dataclass(frozen=True)
class GPSampler(Sampler):
    """Proposes where a Gaussian process of the losses expects the largest improvement.

    A Matern-3/2 kernel with one length per parameter (Hamming distance for choices) and a linear kernel, for what rises
    or falls over a whole range, are fitted by maximum a posteriori, and the logarithm of the expected improvement is
    maximised by random, local and gradient search on the grid that will be run; no point is proposed twice while others
    are left. Two models take turns, by the trial's number: one sees half-ranked losses and expects short lengths, the
    other plain losses and longer ones; one alone gets stuck in its own mistakes. Snoek, Larochelle and Adams,
    "Practical Bayesian optimization of machine learning algorithms", NeurIPS 2012; for the acquisition's logarithm
    Ament et al., 2023.

    Parameters that are inactive rest at one fixed place and are never moved. Running trials are believed to come out at
    the model's mean (kriging believer); failed ones, NaN and +inf have no loss that a model could learn, but where
    others failed an improvement is as unlikely as a success. A pruned trial, and a running one with three reports,
    counts as what the curves of complete trials foretell of its final loss, plus one standard deviation, and never as
    better than their median; reports are averaged over the last eighth of the steps. Where the fitted noise is large,
    the improvement is over the best mean instead of the best value. A linear range in the first or last fifth of which
    the best five trials lie is seen on a logarithmic scale where that explains the losses better. A parameter that has
    no place in the unit interval (`Sampled`) is drawn uniformly. Losses beyond 1e100 count as that; those that are
    equal but for rounding, or differ by less than 1e-150, count as equal.

    The proposal depends on the history alone, never on which process asks or has asked before: hyperparameters are
    refitted when the number of told trials passes fixed counts (each up to 20, then every tenth part of a doubling; in
    between where what was told is a surprise to them), starting from those at the count before the last doubling. A
    process that has not followed the study repeats at most one fit for each doubling.

    Args:
        startup: Trials told before the models are used; until then, and while noise alone explains the losses clearly
            better, a scrambled Sobol sequence.
        models: Take turns.
        widen: Factor on the model's standard deviation, reached after ``narrow`` told trials.
        narrow: The factor grows from 1 over so many told trials, if none is pruned.
        widen_pruned: The factor as soon as a trial is pruned: the model takes what it would have come to as observed
            (not in searches by cross-validation, whose folds tell better than curves what is to come).
        rows: Observations kept at most, the best half of them by loss and the rest spread over the others.
        fit_rows: Observations used at most to fit hyperparameters.
        noisy: Noise variance of the standardised losses above which the best mean is improved on.
        doubt: Evidence for a model against noise alone, a logarithm, below which it is not used; -inf: always used.
            With 0 searches of noisy losses come farther (regret after 50 trials .10 instead of .13), but those in 20
            and more dimensions less far, and those without noise are behind after 25 trials (``quality.py``).
        stretch: Whether ranges are seen on another scale where the best trials lie at an end of them.
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
    narrow: int = field(default=25, repr=False)
    widen_pruned: float = field(default=2.0, repr=False)
    rows: int = field(default=400, repr=False)
    fit_rows: int = field(default=150, repr=False)
    noisy: float = field(default=0.1, repr=False)
    doubt: float = field(default=-1.0, repr=False)
    stretch: bool = field(default=True, repr=False)
    search: Search = field(default=Search(), repr=False)

    def __post_init__(self) -> None:
        if self.startup < 2:
            raise ValueError(f"GPSampler: startup must be at least 2, got {self.startup!r}.")
        if self.narrow < 0:
            raise ValueError(f"GPSampler: narrow must be at least 0, got {self.narrow!r}.")
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
        model = self.models[number % len(self.models)]
        belief = self._learned(memory, model, seen)
        if belief is not None:
            memory, belief = self._clearer(memory, belief, model, seen)
            space = memory.space
        tried = (memory.tried, set(keys(memory.units(np.concatenate([seen, unseen])))))
        if belief is None:
            point = settle(space, space.drawn(memory.design(number, rng)[None]))
            return space.decode(_unseen(space, point, tried, rng))
        pending = memory.units(unseen)
        posterior = belief.posterior
        believed = posterior.with_believed(pending, float(posterior.targets.min())) if len(pending) else posterior
        improvement: Acquisition = LogImprovement(believed, belief.best, self._factor(memory.history))
        if not belief.outcomes.ok.all():
            improvement = Succeeding(improvement, belief.outcomes)
        return space.decode(_unseen(space, self._candidates(memory, belief, improvement, rng), tried, rng))

    def belief(self, space: Space, history: History) -> Belief | None:
        """Return what the second of the two default models, of plain losses, believes of all told trials.

        None before ``startup`` told trials, without two finite losses that differ or a parameter to model.
        """
        memory = _memory(self, space, history)
        if not self._is_taught(memory):
            return None
        with one_thread():
            return self._belief(memory, PLAIN, np.empty(0, np.int64))

    def models_now(self, space: Space, history: History) -> bool:
        """Return whether the next proposal comes from a model, as far as is known without fitting one."""
        memory = _memory(self, space, history)
        return self._is_taught(memory) and not memory.doubted

    def _learned(self, memory: _Memory, model: Model, seen: Rows) -> Belief | None:
        """Return what a model believes, None where noise alone explains the losses clearly better than any model.

        Such a model would look where it knows least, in the corners: half of all noisy plateaus were never left, where
        random search leaves each. A handful of losses cannot tell.
        """
        if not self._is_taught(memory):
            return None
        belief = self._belief(memory, model, seen)
        beliefs = itertools.chain([belief], (self._belief(memory, m, seen) for m in self.models if m is not model))
        few = len(belief.level) < self.startup
        memory.doubted = not few and all(b.posterior.evidence < self.doubt for b in beliefs)
        return None if memory.doubted else belief

    def _clearer(self, memory: _Memory, belief: Belief, model: Model, seen: Rows) -> tuple[_Memory, Belief]:
        """Return what is believed of the space as it is or with some ranges stretched, whichever explains the losses.

        And the memory of that space.
        """
        ends = memory.ends if self.stretch else ()
        if ends:
            view = _memory(self, stretched(memory.space, ends), memory.history)
            other = self._belief(view, model, seen)
            if other.posterior.evidence > belief.posterior.evidence + _CLEARLY:
                return view, other
        return memory, belief

    def _is_taught(self, memory: _Memory) -> bool:
        """Return whether there is a parameter to model, and enough trials to do so, of two different losses at least.

        Trials of earlier studies count as well.
        """
        if not memory.inputs:
            return False
        told = len(memory.history.told)
        taught = sum(len(s.losses) for s in memory.sources(_checkpoint(told)))
        return told + taught >= self.startup and (memory.differ_from <= told or taught > 0)

    def highest(self, space: Space, history: History, belief: Belief, value: Acquisition) -> Array:
        """Return the point ``(d,)`` where a function is largest, as far as the sampler's own search finds it."""
        rng = np.random.default_rng((history.seed, len(history.told)))
        with one_thread():
            best: Array = self._candidates(_memory(self, space, history), belief, value, rng)[0]
        return best

    def _factor(self, history: History) -> float:
        """Return the factor on the model's standard deviation."""
        if history.states[TrialState.PRUNED]:
            return self.widen if curves(history).trusted else self.widen_pruned
        if len(history.told) >= self.narrow:
            return self.widen
        return 1.0 + (self.widen - 1.0) * len(history.told) / self.narrow

    def _belief(self, memory: _Memory, model: Model, seen: Rows) -> Belief:
        told = len(memory.history.told)
        rows, counts = _thinned(memory.history, self.rows, self.rows // 2)
        rows, counts = np.concatenate([rows, seen]), np.concatenate([counts, np.ones(len(seen))])
        seen_so_far = _observed(memory, rows, counts, told, memory.sources(_checkpoint(told)))
        targets = seen_so_far.targets(model)
        inputs = replace(seen_so_far.inputs, kernel=model.kernel)
        count = _checkpoint(told) if memory.differ(_checkpoint(told)) else told
        posterior = Posterior(seen_so_far.units, targets, inputs, self._fit(memory, model, count).theta)
        if posterior.evidence < _SURPRISE and count < told:
            posterior = Posterior(seen_so_far.units, targets, inputs, self._fit(memory, model, told).theta)
        level = posterior.predict(posterior.units)[0] if posterior.noise > self.noisy else targets
        return Belief(posterior, np.where(seen_so_far.known, level, math.inf), seen_so_far)

    def _candidates(self, memory: _Memory, belief: Belief, acquisition: Acquisition, rng: np.random.Generator) -> Array:
        """Return points ``(m, d)`` in order of falling acquisition."""
        space = memory.space
        if space.size is not None and space.size <= _SMALL:
            points = memory.grid
            return points[np.argsort(-acquisition(points), kind="stable")]
        best = np.argsort(belief.level, kind="stable")[: self.search.bases]
        bases = belief.posterior.units[best, : len(space)]
        sources = memory.sources(_checkpoint(len(memory.history.told)))
        if sources:
            theirs = np.concatenate([memory.settled(s.units[: self.search.bases]) for s in sources])
            bases = np.concatenate([bases[:2], theirs[:1], bases[2:3], theirs[1:]])[: self.search.bases]
        return maximise(acquisition, space, bases, rng, self.search)

    def _fit(self, memory: _Memory, model: Model, count: int) -> Fit:
        """Return the fit of the hyperparameters to the first ``count`` told trials."""
        key = model, count, len(memory.history.earlier)
        found = memory.recall(key)
        if found is None:
            data = self._data(memory, model, count)
            before = max(filter(memory.differ, _doublings(self.startup, count)), default=None)
            start = None if before is None else self._fit(memory, model, before)
            if start is not None and len(start.theta) != data.lengths + 3:
                start = None  # a study to learn from has come or gone
            found = fit(data, model.prior, start)
            memory.keep(key, found)
        return found

    def _data(self, memory: _Memory, model: Model, count: int) -> Data:
        """Return the observations that hyperparameters after ``count`` told trials are fitted to."""
        rows = np.array(memory.history.told[:count], np.int64)
        rows = rows[np.argsort(curves(memory.history).losses(rows, count), kind="stable")]
        ranks, counts = _thin(count, self.fit_rows, self.fit_rows // 3)
        seen = _observed(memory, rows[ranks], counts, count, memory.sources(count))
        return Data.of(seen.units, seen.targets(model), replace(seen.inputs, kernel=model.kernel))


class _Memory(Follower):
    """What was derived from one history for one space; all of it can be derived again."""

    def __init__(self, space: Space, history: History) -> None:
        self.space = space
        super().__init__(history)
        self.inputs = Inputs.of(space.columns)
        self._fits: dict[_Key, Fit] = {}
        self._rest = resting(space)
        self._tried: set[int] = set()
        self._sources: dict[tuple[int, int], list[Source]] = {}
        self._read = 0
        self._compared = 0
        self._differ_from = math.inf
        self._ends: tuple[int, Ends] = (0, ())
        #: Whether the last proposal was no model's, as the losses look like noise; for those who ask.
        self.doubted = False
        self._loss = math.inf  # the first finite one of the told trials that were compared
        self._sobol: Array | None = None
        self._grid: Array | None = None

    @property
    def tried(self) -> set[int]:
        """Keys of the told points, but for those that took a parameter which the space does not have."""
        new = self.history.told[self._read :]
        if new:
            trials, names = self.history.trials, self.space.keys()
            own = np.array([n for n in new if trials[n].params.keys() <= names], np.int64)
            self._tried.update(keys(self.units(own)))
            self._read = len(self.history.told)
        return self._tried

    @property
    def differ_from(self) -> float:
        """How many trials were told when two finite losses differed; inf while all are equal."""
        told = self.history.told
        while self._differ_from == math.inf and self._compared < len(told):
            rows = np.array(told[self._compared : self._compared + _EVERY], np.int64)
            losses = np.append(self._loss, self.history.loss(rows))
            finite = np.isfinite(losses)
            if finite.any():
                self._loss = losses[np.argmax(finite)]
                other = finite & (losses != self._loss)
                if other.any():
                    self._differ_from = self._compared + int(np.argmax(other))
            self._compared += len(rows)
        return self._differ_from

    def differ(self, count: int) -> bool:
        """Return whether a model can learn from the first ``count`` told trials or from earlier studies.

        Hyperparameters that were fitted to losses which are all equal say that nothing matters, and are no start.
        """
        return self.differ_from <= count or bool(self.sources(count))

    @property
    def ends(self) -> Ends:
        """The ranges at an end of which the best trials crowd, as of the last checkpoint."""
        count = _checkpoint(len(self.history.told))
        if self._ends[0] != count:
            rows = np.array(self.history.told[:count], np.int64)
            losses = curves(self.history).losses(rows, count)
            best = np.argsort(losses, kind="stable")[:_BEST]
            sure = count >= 2 * _BEST and bool(np.isfinite(losses[best]).all())
            params = [self.history.trials[i].params for i in rows[best]]
            self._ends = count, crowded(self.space, params) if sure else ()
        return self._ends[1]

    def units(self, rows: Rows) -> Array:
        """Return the points ``(m, d)`` of trials, with columns they did not take at rest."""
        units = self.history.encoded(self.space).units[rows]
        return np.where(np.isnan(units), self._rest, units)

    def sources(self, count: int) -> list[Source]:
        """Return the earlier studies that the first ``count`` told trials agree with."""
        taught = earlier(self.space, self.history, self._rest)
        if taught is None:
            return []
        key = count, taught.count
        if key not in self._sources:
            rows = np.array(self.history.told[:count][-_JUDGES:], np.int64)
            losses = _bounded(curves(self.history).losses(rows, count))
            ok = losses < math.inf
            self._sources = {key: taught.agreeing(self.units(rows)[ok], losses[ok])}
        return self._sources[key]

    def settled(self, units: Array) -> Array:
        """Return points ``(m, d)`` of another study as this one could run them."""
        return settle(self.space, np.where(np.isnan(units), self._rest, units))

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

    def recall(self, key: _Key) -> Fit | None:
        """Return a fit, None if it was not kept."""
        found = self._fits.pop(key, None)
        if found is not None:
            self._fits[key] = found  # now the last one to be dropped
        return found

    def keep(self, key: _Key, fit: Fit) -> None:
        """Keep a fit, in the place of the one that was not recalled for longest."""
        if len(self._fits) >= _KEPT:
            del self._fits[next(iter(self._fits))]
        self._fits[key] = fit


_MEMORIES: Kept[tuple[GPSampler, Space], _Memory] = Kept()


def _memory(sampler: GPSampler, space: Space, history: History) -> _Memory:
    """Return the memory of a history."""
    return _MEMORIES.get(history, (sampler, space), lambda: _Memory(space, history))


def _thin(n: int, most: int, best: int) -> tuple[Rows, Array]:
    """Return ranks, at most ``most``, the best among them, and how many observations each stands for."""
    ranks = thinned(best, n, most - best)
    counts = np.ones(len(ranks))
    if len(ranks) < n:
        counts[best:] = (n - best) / (most - best)
    return ranks, counts


def _thinned(history: History, most: int, best: int) -> tuple[Rows, Array]:
    """Return the told trials to learn from, at most ``most``, and how many each stands for."""
    ranks, counts = _thin(len(history.ranking), most, best)
    return history.ranking.rows(ranks), counts


@dataclass(frozen=True)
class _Observed:
    """Observations of a model: trials that have a loss, and those of earlier studies behind them.

    Attributes:
        units: ``(n, d)``, or ``(n, d + 1)`` with the number of the study last.
        losses: ``(n,)``, the earlier ones shifted and scaled; all 0 where no trial has a finite one.
        counts: ``(n,)`` how many observations each stands for.
        known: ``(n,)`` which may count as the best: complete trials, if there are any.
        outcomes: Which of this study's trials failed.
    """

    units: Array
    losses: Array
    counts: Array
    known: NDArray[np.bool_]
    inputs: Inputs
    outcomes: Outcomes

    def targets(self, model: Model) -> Array:
        """Return the standardised losses."""
        order = np.argsort(self.losses, kind="stable")
        targets = np.empty(len(self.losses))
        targets[order] = model.warp(self.losses[order], self.counts[order])
        return targets

    @property
    def deviation(self) -> float:
        """Loss in units of the plain model's targets."""
        order = np.argsort(self.losses, kind="stable")
        return warp.deviation(self.losses[order], self.counts[order])


def _observed(memory: _Memory, rows: Rows, counts: Array, told: int, sources: list[Source]) -> _Observed:
    """Return the observations of trials by number, from what the first ``told`` trials foretell."""
    trials, units = memory.history.trials, memory.units(rows)
    losses = _bounded(curves(memory.history).losses(rows, told))
    finite = losses < math.inf
    outcomes = Outcomes(units, finite, counts)
    complete = np.array([trials[i].state is TrialState.COMPLETE for i in rows], bool)[finite]
    if not finite.any() and not sources:  # a model of nothing, until there is a loss
        return _Observed(units, np.zeros(len(rows)), counts, finite, memory.inputs, outcomes)
    units, losses, counts = units[finite], losses[finite], counts[finite]
    known = complete if complete.any() else ~complete
    if not sources:
        return _Observed(units, losses, counts, known, memory.inputs, outcomes)
    theirs = [s.aligned(units, losses) for s in sources]
    study = np.concatenate([np.full(len(x), float(k)) for k, x in enumerate([losses, *theirs])])
    units = np.column_stack([np.concatenate([units, *(memory.settled(s.units) for s in sources)]), study])
    losses, more = np.concatenate([losses, *theirs]), np.zeros(sum(map(len, theirs)), bool)
    known = np.concatenate([known, more if known.any() else ~more])
    counts = np.concatenate([counts, np.ones(len(more))])
    inputs = Inputs(memory.inputs.numeric, np.append(memory.inputs.categorical, len(memory.space)), study=True)
    return _Observed(units, losses, counts, known, inputs, outcomes)


def _bounded(losses: Array) -> Array:
    """Return losses that a model can square, or +inf; -inf counts as the best number."""
    finite = losses < math.inf
    best = losses[finite & (losses > -math.inf)].min(initial=math.inf)
    return np.where(finite, np.clip(np.maximum(losses, best if best < math.inf else 0.0), -_HUGE, _HUGE), math.inf)


def _checkpoint(told: int) -> int:
    """Return the last count up to ``told`` at which hyperparameters are refitted."""
    if told <= _EVERY:
        return told
    octave = _EVERY << ((told // _EVERY).bit_length() - 1)
    step = octave // 10
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
    if found is None and len(settings(space)):
        found = new(rng.permutation(settings(space)))
        return points[0] if found is None else found
    for size in (0.05, 0.1, 0.2, 0.4):
        if found is None:
            found = new(mutate(space, np.repeat(points[:1], 64, 0), (0.25 * size, size), rng))
    if found is None:
        found = new(settle(space, rng.random((256, len(space)))))
    return points[0] if found is None else found
