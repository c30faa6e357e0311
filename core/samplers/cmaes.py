"""Covariance matrix adaptation."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..distributions import Categorical, Int
from ..follower import Kept
from ..history import History
from ..space import Array, Space
from .curves import curves
from .moves import resting, settle
from .sampler import Sampler

_KEPT = 4  # generations from which a trial that was told late is still counted
_GOOD = 0.25  # part of the trials whose choices are good
_LATEST = 200  # trials whose choices are looked at
_FEW = 5  # levels that the margin keeps alive; with 6 to 101, rounding comes closer, in 150 as in 500 trials
_DRAWS = 10  # until a point inside is found; else the last one is moved to the bounds


@dataclass(frozen=True, repr=False)
class CmaEsSampler(Sampler):
    """Draws from a normal distribution that follows the best of each generation (CMA-ES); needs the package cmaes.

    For many trials, some hundreds at least, of a space without conditions and of mostly numeric parameters. Hansen and
    Ostermeier, "Completely derandomized self-adaptation in evolution strategies", Evolutionary Computation 9, 2001;
    integers and steps of up to five levels by the margin of Hamano et al., "CMA-ES with margin", GECCO 2022, so that no
    level dies out (those of more levels, or of a logarithmic range, are rounded instead). When it has come to rest it
    restarts with twice the population: Auger and Hansen, "A restart CMA evolution strategy with increasing population
    size", CEC 2005.

    **Categorical parameters are sampled independently** of all others: each choice by its weight, times how often it
    was among the best quarter of the latest trials. What is inactive goes on being drawn, unseen.

    A generation is full when as many of the trials that were drawn from it are told as the population has. Trials from
    elsewhere are passed over, pruned ones count as what their curves foretell, failed ones as the worst. A point of
    a finite space may come again.

    Args:
        sigma: First standard deviation, as a part of each range.
        population_size: Trials in a generation; None: ``4 + floor(3 log d)`` for ``d`` numeric parameters.

    Raises:
        ValueError: If an argument is out of its range.
        ImportError: By `ask`, if the package cmaes is not installed.

    Example:
        >>> import inloop
        >>> space = {"x": inloop.Float(-5, 5), "k": inloop.Int(1, 9)}
        >>> study = inloop.create_study(sampler=CmaEsSampler(), seed=0, space=space)
        >>> study.optimize(lambda t: (t.params["x"] - 1) ** 2 + (t.params["k"] - 7) ** 2, n_trials=150)
        >>> study.best_value < 0.01
        True
    """

    sigma: float = 0.3
    population_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"CmaEsSampler: sigma must be positive, got {self.sigma!r}.")
        if self.population_size is not None and self.population_size < 2:
            raise ValueError(f"CmaEsSampler: population_size must be at least 2, got {self.population_size!r}.")

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        units = rng.random((1, len(space)))
        _draw_choices(units[0], space, history)
        run = _RUNS.get(history, (self, space), lambda: _Run(self, space))
        if len(run.columns):
            run.update(history)
            units[0, run.columns] = run.sample(history.seed, number)[0]
        return space.decode(settle(space, units)[0])


class _Run:
    """The distribution of one history in one space; made again from the log it is the same."""

    def __init__(self, sampler: CmaEsSampler, space: Space) -> None:
        columns = space.columns
        self._sampler = sampler
        self._space = space
        self._rest = resting(space)
        self._read = 0
        self._restarts = 0
        self._told: list[tuple[Array, int]] = []  # of the generation: where it was drawn, trial number
        #: The numeric columns that can move.
        self.columns = np.flatnonzero(columns.modelled & ~columns.categorical & (columns.levels != 1))
        logs = [isinstance(d, Int) and d.log for d in space.dists]
        self._levels = np.where(logs | (columns.levels > _FEW), 0, columns.levels)[self.columns]
        self._states: list[Any] = []  # newest last
        if len(self.columns):
            self._start(np.full(len(self.columns), 0.5), sampler.population_size)

    def update(self, history: History) -> None:
        """Take in the trials told since the last call."""
        units = history.encoded(self._space).units
        for number in history.told[self._read :]:
            self._read += 1
            drawn = self._drawn(history.seed, number, units[number, self.columns])
            if drawn is not None:
                self._told.append((drawn, number))
            if len(self._told) == self._states[-1].population_size:
                self._adapt(history)

    def sample(self, seed: int, number: int, state: int = -1) -> tuple[Array, Array]:
        """Return the point ``(k,)`` of a trial to run and to tell, drawn from one of the states."""
        optimizer = self._states[state]
        optimizer.reseed_rng(int(np.random.default_rng((seed, number)).integers(2**31)))
        run, tell = optimizer.ask()
        return np.clip(run[: len(self.columns)], 0.0, 1.0), tell

    def _drawn(self, seed: int, number: int, taken: Array) -> Array | None:
        """Return what a trial was drawn as, None if it was not drawn here or is too late."""
        active = ~np.isnan(taken)
        if not active.any():
            return None
        for state in range(len(self._states) - 1, -1, -1):
            run, tell = self.sample(seed, number, state)
            whole = self._rest[None].copy()
            whole[0, self.columns] = run
            there = self._space.snap(whole)[0, self.columns]
            if np.allclose(there[active], taken[active], rtol=0.0, atol=1e-6):
                return tell
        return None

    def _adapt(self, history: History) -> None:
        points, numbers = zip(*self._told, strict=True)
        losses = curves(history).losses(np.array(numbers), self._read)
        worst = losses[np.isfinite(losses)].max(initial=0.0)
        losses = np.where(np.isnan(losses) | (losses > 1e100), worst, np.maximum(losses, -1e100))
        self._told.clear()
        after = copy.deepcopy(self._states[-1])
        after.tell(list(zip(points, losses.tolist(), strict=True)))
        self._states = [*self._states[1 - _KEPT :], after]
        if after.should_stop():
            self._restarts += 1
            rng = np.random.default_rng((history.seed, self._restarts))
            self._start(rng.random(len(self.columns)), 2 * after.population_size)

    def _start(self, mean: Array, population_size: int | None) -> None:
        try:
            from cmaes import CMAwM
        except ImportError:
            raise ImportError("CmaEsSampler needs the package cmaes: pip install cmaes") from None
        steps = np.where(self._levels > 0, 1.0 / np.maximum(self._levels, 1), 0.0)
        bounds = np.column_stack([0.5 * steps, 1.0 - 0.5 * steps])
        if len(mean) == 1:  # there is no covariance of one: another one that nobody sees
            mean, steps, bounds = np.append(mean, 0.5), np.append(steps, 0.0), np.vstack([bounds, [0.0, 1.0]])
        mean = np.clip(mean, bounds[:, 0], bounds[:, 1])
        sigma, size = self._sampler.sigma, population_size
        with np.errstate(divide="ignore"):  # a population of 2 or 3 has one parent: a learning rate is 0, its bound inf
            self._states = [CMAwM(mean, sigma, bounds, steps, n_max_resampling=_DRAWS, seed=0, population_size=size)]


def _draw_choices(units: Array, space: Space, history: History) -> None:
    """Put the draws ``(d,)`` of the categorical columns at the choices that they fall on."""
    choices = [(j, d) for j, d in enumerate(space.dists) if isinstance(d, Categorical)]
    if not choices:
        return
    latest = np.array(history.told[-_LATEST:], np.int64)
    losses = curves(history).losses(latest, len(history.told))
    good = np.argsort(np.argsort(losses, kind="stable")) < _GOOD * len(losses)
    taken = history.encoded(space).units[latest]
    for j, dist in choices:
        here = ~np.isnan(taken[:, j])
        level = (taken[here, j] * dist.levels).astype(np.int64)
        tries = np.bincount(level, minlength=dist.levels)
        wins = np.bincount(level[good[here]], minlength=dist.levels)
        share = (wins + 1.0) / (tries + 1.0 / _GOOD) * (1.0 if dist.weights is None else np.array(dist.weights))
        place = np.searchsorted(np.cumsum(share / share.sum())[:-1], units[j], side="right")
        units[j] = (place + 0.5) / dist.levels


_RUNS: Kept[tuple[CmaEsSampler, Space], _Run] = Kept()
