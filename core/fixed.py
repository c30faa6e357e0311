"""A trial whose parameters are given, to run an objective once more outside a search."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .distributions import Distribution
from .events import MIN_READER, SCHEMA, Event
from .storage import MemoryStorage
from .study import Study
from .trial import Trial


class FixedTrial(Trial):
    """A trial of no search, whose ``suggest_*`` return the values of ``params`` and which is never pruned.

    For ``objective(FixedTrial(study.best_params))``. Hooks train with it as without pruning; what is reported to it,
    and its attributes, are kept with it alone, and a metric may be of either direction. Its pickle is a new one.

    Args:
        params: A value of each parameter that the objective asks for; there may be more.

    Example:
        >>> import inloop
        >>> trial = inloop.FixedTrial({"x": 0.5})
        >>> trial.suggest_float("x", 0, 1), trial.should_prune()
        (0.5, False)
        >>> trial.suggest_int("depth", 1, 9)
        Traceback (most recent call last):
        ...
        ValueError: FixedTrial: no value of 'depth' is given; there are x.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        from .pruners import NopPruner
        from .samplers import RandomSampler

        self._given = dict(params)
        # not by create_study: a relaunched rank of a training follows the studies that its script makes
        header = {"name": "fixed", "direction": "minimize", "seed": 0, "space": None, "retry": 0}
        header |= {"schema": SCHEMA, "min_reader": MIN_READER}
        storage = MemoryStorage()
        storage.create("fixed", [Event(os.urandom(8).hex(), 0, "study", -1, header)])
        study = Study("fixed", storage, RandomSampler(), NopPruner())
        super().__init__(study, study.ask()._record, {})

    def _suggest(self, name: str, dist: Distribution) -> Any:
        if name not in self._given:
            raise ValueError(
                f"FixedTrial: no value of {name!r} is given; there are {', '.join(self._given) or 'none'}."
            )
        value = self._given[name]
        if not dist.contains(value):
            raise ValueError(f"FixedTrial: {name}={value!r} lies outside {dist!r}.")
        self._fresh[name] = value = dist.cast(value)
        return value

    def __copy__(self) -> FixedTrial:
        return self

    def __reduce__(self) -> Any:
        return FixedTrial, (self._given,)

    def __repr__(self) -> str:
        return f"FixedTrial({self._given})"
