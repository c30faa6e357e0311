"""Tree-structured Parzen estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..history import History
from ..space import Array, Space
from ..trial import TrialState
from .moves import settle
from .parzen import Kernels, Layout, layout
from .sampler import Sampler
from .startup import latin
from .tried import tried

Rows = NDArray[np.int64]

_PENDING = 64  # running trials that count as others
_LOOK = 4096  # trials looked through for those of another space
_PROBES = 1024  # draws to find what is left of a finite space


@dataclass(frozen=True)
class TPESampler(Sampler):
    """Proposes what is likely among good trials and unlikely among the others.

    Bergstra, Bardenet, Bengio and Kegl, "Algorithms for hyper-parameter optimization", NeurIPS 2011; with product
    kernels over all parameters at once (Falkner, Klein and Hutter, "BOHB", ICML 2018) and uniform weights; a survey
    of the choices is Watanabe, "Tree-structured Parzen estimator: understanding its algorithm components and
    their roles for better empirical performance", arXiv:2304.11127, 2023.

    A conditional parameter takes part where both sides have it. Running trials count among the others (constant
    liar), and so do failed ones; pruned trials rank behind complete ones by how far they came. No point of a finite
    space is proposed twice while others are left. The cost of a proposal does not grow with the history.

    Args:
        n_startup_trials: Trials told before the model is used; until then a Latin hypercube.
        n_ei_candidates: Points drawn from the good trials' density, of which the best is taken.
        gamma: Part of the trials that counts as good.
        max_good: Good trials at most.
        max_others: Other trials at most, evenly spread over their ranking.

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
    max_others: int = 400

    def __post_init__(self) -> None:
        for name in ("n_startup_trials", "n_ei_candidates", "max_good", "max_others"):
            if getattr(self, name) < 1:
                raise ValueError(f"TPESampler: {name} must be at least 1, got {getattr(self, name)!r}.")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"TPESampler: gamma must lie in (0, 1], got {self.gamma!r}.")

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        model = layout(space)
        if len(history.ranking) < self.n_startup_trials or not model:
            points = settle(space, latin(history.seed, number, self.n_startup_trials, len(space))[None])
            return space.decode(self._new(space, history, number, rng, points))
        good, others = self._groups(space, history, number, model)
        points = settle(space, good.draw(rng.random((self.n_ei_candidates, len(space))), rng))
        active = space.active_mask(points) if space.when else None
        score = good.log_density(points, active) - others.log_density(points, active)
        seen = tried(space, history)
        if seen.never:
            return space.decode(points[score.argmax()])
        return space.decode(self._new(space, history, number, rng, points[np.argsort(-score, kind="stable")]))

    def _groups(self, space: Space, history: History, asking: int, model: Layout) -> tuple[Kernels, Kernels]:
        """Return the densities of the good trials and of the others."""
        n = len(history.ranking)
        told = history.states[TrialState.COMPLETE] + history.states[TrialState.PRUNED]
        n_good = min(math.ceil(self.gamma * n), self.max_good, told)
        n_others = min(n - n_good, self.max_others)
        spread = n_good + ((np.arange(n_others) + 0.5) * ((n - n_good) / n_others)).astype(np.int64)
        rows = history.ranking.rows(np.concatenate((np.arange(n_good), spread)))
        running = [i for i in islice(reversed(history.running), _PENDING) if i != asking]
        if running:
            rows = np.concatenate((rows, np.array(running)))
        units = history.encoded(space).units.take(rows, 0)
        return Kernels(units[:n_good], model), Kernels(units[n_good:], model)

    def _new(self, space: Space, history: History, asking: int, rng: np.random.Generator, points: Array) -> Array:
        """Return the first of ``points`` that was not tried; else a random new one; else the first."""
        seen = tried(space, history)
        point = seen.first_new(points, asking)
        if point is None:
            point = seen.first_new(settle(space, rng.random((_PROBES, len(space)))), asking)
        if point is None:
            point = points[0]
        return point
