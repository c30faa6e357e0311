"""Independent uniform random sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..history import History
from ..space import Space
from .sampler import Sampler


@dataclass(frozen=True, repr=False)
class RandomSampler(Sampler):
    """Draws every parameter independently, uniformly in its unit interval.

    Weighted choices are drawn by their weights. Bergstra and Bengio, "Random search for hyper-parameter optimization",
    JMLR 13, 2012.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(sampler=RandomSampler(), seed=0, space={"x": inloop.Float(0, 1)})
        >>> 0 <= study.ask().params["x"] <= 1
        True
    """

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        return space.decode(space.drawn(rng.random((1, len(space))))[0])
