"""The default: the sampler that fits the space."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..history import History
from ..space import Space
from .gp import GPSampler
from .sampler import Sampler
from .tpe import TPESampler
from .tried import settings, tried

# GP against TPE after 100 trials, normalised regret: .02/.15 on 40-d bowls and 100-d Hartmann, .14/.33 on an 80-d and
# .40/.44 on a 200-d bowl, where an ask costs 50 ms; more is untried
_DIMENSIONS = 100


@dataclass(frozen=True)
class AutoSampler(Sampler):
    """Chooses `GPSampler` or `TPESampler` by the space, and ends when a finite space is used up.

    A Gaussian process needs fewer evaluations while the parameters that are active together are not too many; beyond,
    TPE. No point of a finite space is proposed twice; when all were tried, a declared space is exhausted.

    Args:
        dimensions: Parameters active together up to which the Gaussian process is used.
        deterministic: Whether a point gives the same value again, so that a study of a finite space ends when all
            its points were tried. With False they are proposed again.
        gp: For up to ``dimensions`` parameters.
        tpe: For more.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(sampler=AutoSampler(), seed=0, space={"k": inloop.Int(1, 4), "c": ["a", "b"]})
        >>> study.optimize(lambda trial: trial.params["k"], n_trials=20)
        >>> len(study.trials)
        8
    """

    dimensions: int = field(default=_DIMENSIONS, repr=False)
    deterministic: bool = field(default=True, repr=False)
    gp: GPSampler = field(default=GPSampler(), repr=False)
    tpe: TPESampler = field(default=TPESampler(), repr=False)

    def __post_init__(self) -> None:
        if self.dimensions < 0:
            raise ValueError(f"AutoSampler: dimensions must be at least 0, got {self.dimensions!r}.")

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        return self._choice(space).ask(space, history, number, rng)

    def exhausted(self, history: History, space: Space | None = None) -> str | None:
        if space is None or not self.deterministic or not _used_up(space, history):
            return None
        return (
            f"All {len(settings(space))} settings of the space were tried; "
            "AutoSampler(deterministic=False) goes on and tries them again."
        )

    def describe(self, space: Space | None, history: History) -> str:
        """Return one sentence: what proposes the next trial, and why.

        Args:
            space: What is searched; None while a define-by-run objective has shown nothing.
            history: All trials so far.
        """
        if space is None:
            return "Random values until the first trial has shown its parameters."
        startup = self.gp.startup if self._choice(space) is self.gp else self.tpe.n_startup_trials
        active = _together(space)
        many = f"{active} parameter{'s' * (active != 1)} active at once"
        if not self._choice(space).models_now(space, history):
            if len(history.told) < startup:
                return f"A design that fills the space until {startup} trials are told ({len(history.told)} so far)."
            if not space.columns.modelled.any():
                return "Random values: no parameter has a place that a model could learn."
            if not _used_up(space, history):
                return "A design that fills the space while the values are equal or look like noise."
        if _used_up(space, history):
            return "Settings tried before, again: there are no others."
        if self._choice(space) is self.tpe:
            return f"TPE for {many}; a Gaussian process pays up to {self.dimensions}."
        if len(settings(space)):
            return f"Gaussian process over all {len(settings(space))} settings of a finite space, none twice."
        return f"Gaussian process for {many}; it pays up to {self.dimensions}."

    def _choice(self, space: Space) -> GPSampler | TPESampler:
        return self.gp if _together(space) <= self.dimensions else self.tpe


@lru_cache(maxsize=16)
def _together(space: Space) -> int:
    """Return how many parameters with more than one value are active together at most, of 256 random points."""
    free = space.columns.levels != 1
    if not space.when:
        return int(free.sum())
    units = np.random.default_rng(0).random((256, len(space)))
    return int((space.active_mask(units) & free).sum(1).max())


def _used_up(space: Space, history: History) -> bool:
    """Return whether every point of a finite space was tried or is running."""
    points = settings(space)
    if not len(points) or len(history.told) + len(history.running) < len(points):
        return False
    return tried(space, history).first_new(points, -1) is None
