"""Tree-structured Parzen estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..history import History
from ..ranking import thinned
from ..record import TrialState
from ..space import Array, Space
from .earlier import Source, earlier
from .moves import resting, settle
from .parzen import Contrast, Layout, layout
from .sampler import Sampler
from .startup import latin
from .tried import settings, tried

_PENDING = 64  # running trials that count as others
_LOOK = 2048  # ranks looked through where trials of another space are among them, and as many spread over the rest
_PROBES = 1024  # draws to find what is left of a finite space, before it is listed


@dataclass(frozen=True, repr=False)
class TPESampler(Sampler):
    """Proposes what is likely among good trials and unlikely among the others.

    Bergstra, Bardenet, Bengio and Kegl, "Algorithms for hyper-parameter optimization", NeurIPS 2011; with product
    kernels over all parameters at once (Falkner, Klein and Hutter, "BOHB", ICML 2018) and uniform weights; a survey
    of the choices is Watanabe, "Tree-structured Parzen estimator: understanding its algorithm components and
    their roles for better empirical performance", arXiv:2304.11127, 2023.

    A conditional parameter takes part where both sides have it. Running trials count among the others (constant
    liar), and so do failed ones; pruned trials rank behind complete ones by how far they came. No point of a finite
    space, of up to 100,000 points, is proposed twice while others are left. The cost of a proposal does not grow with
    the history.

    Args:
        n_startup_trials: Trials told before the model is used; until then a Latin hypercube.
        n_ei_candidates: Points drawn from the good trials' density, of which the best is taken.
        gamma: Part of the trials that counts as good.
        max_good: Good trials at most.
        max_others: Other trials at most, evenly spread over their ranking; more changed nothing up to 300 trials.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(sampler=TPESampler(), seed=0, space={"x": inloop.Float(0, 1)})
        >>> study.optimize(lambda trial: (trial.params["x"] - 0.3) ** 2, n_trials=40)
        >>> study.best_value < 1e-3
        True
    """

    n_startup_trials: int = 10
    n_ei_candidates: int = 64
    gamma: float = 0.1
    max_good: int = 25
    max_others: int = 200

    def __post_init__(self) -> None:
        for name in ("n_startup_trials", "n_ei_candidates", "max_good", "max_others"):
            if getattr(self, name) < 1:
                raise ValueError(f"TPESampler: {name} must be at least 1, got {getattr(self, name)!r}.")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"TPESampler: gamma must lie in (0, 1], got {self.gamma!r}.")

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        model = layout(space)
        units, good = self._learned(history, space, model) if model else (np.empty((0, 0)), 0)
        if len(units) < self.n_startup_trials:
            start = latin(history.seed, number, self.n_startup_trials, len(space))[None]
            points = settle(space, space.drawn(start))
            return space.decode(_new(space, history, number, rng, points))
        running = _running(history, space, number)
        contrast = Contrast(np.concatenate((units, running)) if len(running) else units, good, model)
        points = settle(space, contrast.draw(self.n_ei_candidates, len(space), rng))
        score = contrast.score(points, space.active_mask(points) if space.when else None)
        if tried(space, history).never:
            return space.decode(points[score.argmax()])
        return space.decode(_new(space, history, number, rng, points[np.argsort(-score, kind="stable")]))

    def models_now(self, space: Space, history: History) -> bool:
        """Return whether the next proposal comes from a model."""
        model = layout(space)
        return bool(model) and len(self._learned(history, space, model)[0]) >= self.n_startup_trials

    def _learned(self, history: History, space: Space, model: Layout) -> tuple[Array, int]:
        """Return the points of told trials and of earlier studies, good ones first, and how many are good."""
        units, good = self._ranked(history, space, model)
        taught = earlier(space, history, resting(space))
        if taught is None:
            return units, good
        own = np.where(np.isnan(units), resting(space), units)
        return self._joined(units, good, taught.agreeing(own, np.arange(float(len(units)))))

    def _ranked(self, history: History, space: Space, model: Layout) -> tuple[Array, int]:
        """Return the points of told trials ``(n, d)`` from best to worst, thinned, and how many are good."""
        n = len(history.ranking)
        ok = history.states[TrialState.COMPLETE] + history.states[TrialState.PRUNED]  # failed ones rank behind
        good = min(math.ceil(self.gamma * n), self.max_good, ok)
        every = history.encoded(space).units
        units = every.take(history.ranking.rows(thinned(good, n, self.max_others)), 0)
        if not math.isnan(units.sum()) or _is_here(units, model).all():
            return units, good
        ranks = thinned(min(n, _LOOK), n, _LOOK)
        units = every.take(history.ranking.rows(ranks), 0)
        here = _is_here(units, model)
        good = min(math.ceil(self.gamma * here.sum()), self.max_good, int((here & (ranks < ok)).sum()))
        return units[here][thinned(good, int(here.sum()), self.max_others)], good

    def _joined(self, units: Array, good: int, sources: Sequence[Source]) -> tuple[Array, int]:
        """Return points with those of earlier studies among them, good ones first, and how many are good.

        Each study's good points are its own best; fewer of them are kept the more trials this study has.
        """
        share = self.n_startup_trials / (self.n_startup_trials + len(units))
        best, others = [units[:good]], [units[good:]]
        for s in sources:
            n = math.ceil(self.gamma * len(s.units))
            best.append(s.units[: math.ceil(n * share)])
            others.append(s.units[n:])
        return np.concatenate(best + others), sum(map(len, best))


def _is_here(units: Array, model: Layout) -> NDArray[np.bool_]:
    """Return which trials took any of the modelled parameters."""
    return np.asarray((~np.isnan(units[:, model.columns])).any(1))


def _running(history: History, space: Space, asking: int) -> Array:
    """Return the points ``(n, d)`` of running trials that have parameters."""
    rows = [i for i in islice(reversed(history.running), _PENDING) if i != asking]
    units: Array = history.encoded(space).units[rows] if rows else np.empty((0, len(space)))
    return units[~np.isnan(units).all(1)]


def _new(space: Space, history: History, asking: int, rng: np.random.Generator, points: Array) -> Array:
    """Return the first of ``points`` that was not tried; else a random new one; else the first."""
    seen = tried(space, history)
    point = seen.first_new(points, asking)
    if point is None:
        point = seen.first_new(settle(space, rng.random((_PROBES, len(space)))), asking)
    if point is None:
        point = seen.first_new(rng.permutation(settings(space)), asking)
    return points[0] if point is None else point
