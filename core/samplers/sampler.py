"""What a sampler is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..history import History
from ..settings import Settings
from ..space import Space


class StudyStopped(RuntimeError):
    """Raised by ``Study.ask`` when the study was stopped or its grid is exhausted."""


class Sampler(Settings, ABC):
    """Proposes the next parameters from what the study has seen.

    A sampler holds settings only. It may cache what it derives from a history, but never
    decides by its cache: the same space, history and random numbers give the same proposal.
    """

    #: The sampler's own space, where it has one (`GridSampler`); else the study's is used.
    space: Space | None = None

    @abstractmethod
    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return the parameters of trial ``number``: the active ones only.

        Args:
            space: What to propose; parameters of the history outside it are ignored.
            history: All trials so far; ``number`` itself is among the running ones, still without parameters.
            number: Number of the trial that asks.
            rng: The trial's own random stream.
        """

    def exhausted(self, history: History, space: Space | None = None) -> str | None:
        """Return why nothing is left to propose, None while something is.

        Args:
            history: All trials so far.
            space: The declared space; None for a define-by-run objective, which may always show more.
        """
        return None
