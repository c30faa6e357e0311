"""A narrower space around what worked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .distributions import Categorical, Distribution, Float, Int
from .record import FrozenTrial, TrialState
from .space import Space

if TYPE_CHECKING:
    from .study import Study

_LEAST = 2  # values of good trials below which a range is left as it is


def refine(study: Study, quantile: float = 0.2, margin: float = 0.1) -> Space:
    """Return the study's space, narrowed to where its best trials lie.

    A range becomes that of the best trials and a margin on either side; logarithms, steps and whole numbers are
    kept, and no range is widened. Of a `Categorical` the choices stay that the best trials took, and those that no
    trial has tried. Conditions stay; a parameter that none of the remaining values switches on is left out. A
    parameter that fewer than two of the best trials took stays as it is, and so do other distributions.

    Args:
        study: With at least one complete trial of a finite value.
        quantile: Part of the complete trials that counts as the best, in (0, 1].
        margin: Added on either side, as a part of the old range (of its logarithm with ``log=True``).

    Raises:
        ValueError: If an argument is out of its range, or there is no such trial.

    Example:
        >>> import inloop
        >>> from inloop import Float, Int
        >>> space = {"x": Float(0, 100), "n": Int(1, 1000, log=True)}
        >>> study = inloop.create_study(space=space, sampler="random", seed=0)
        >>> study.optimize(lambda t: abs(t.params["x"] - 70) + abs(t.params["n"] - 30), n_trials=50)
        >>> narrow = inloop.refine(study)
        >>> 30 < narrow["x"].low < 70 < narrow["x"].high and narrow["n"].high < 200
        True
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"refine: quantile must lie in (0, 1], got {quantile!r}.")
    if not margin >= 0:
        raise ValueError(f"refine: margin must be at least 0, got {margin!r}.")
    with study._log.lock:
        space = study._searched
    complete = [t for t in study.trials if t.state is TrialState.COMPLETE and math.isfinite(_loss(t))]
    if space is None or not complete:
        raise ValueError(f"refine: the study has no complete trial of a finite value: {study!r}.")
    sign = -1.0 if study.direction == "maximize" else 1.0
    complete.sort(key=lambda t: sign * _loss(t))
    best = complete[: math.ceil(quantile * len(complete))]
    dists = {n: _narrowed(d, _values(n, d, best), _values(n, d, study.trials), margin) for n, d in space.items()}
    return _with_conditions(dists, space)


def _loss(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value


def _values(name: str, dist: Distribution, trials: Iterable[FrozenTrial]) -> list[Any]:
    return [t.params[name] for t in trials if name in t.params and dist.contains(t.params[name])]


def _narrowed(dist: Distribution, good: list[Any], tried: list[Any], margin: float) -> Distribution:
    if isinstance(dist, Categorical):
        keep = {dist.index(v) for v in good} | (set(range(dist.levels)) - {dist.index(v) for v in tried})
        return _some_choices(dist, sorted(keep)) if good else dist
    if len(good) < _LEAST or not isinstance(dist, Float | Int):
        return dist
    units = np.array([dist.to_unit(v) for v in good])
    if dist.levels is not None:
        half = 0.5 / dist.levels if not (isinstance(dist, Int) and dist.log) else 0.0
        low, high = units.min() - half - margin, units.max() + half + margin
        # a level that a bound cuts stays
        first, last = dist.from_unit(max(low + 1e-9, 0.0)), dist.from_unit(min(high - 1e-9, 1.0))
        # where levels lie closer than that, the good ones stay all the same
        if isinstance(dist, Int):
            taken = [int(v) for v in good]
            return Int(min(int(first), *taken), max(int(last), *taken), dist.log, dist.step)
        on_grid = [float(dist.from_unit(u)) for u in units.tolist()]
        return Float(min(float(first), *on_grid), max(float(last), *on_grid), step=dist.step)
    low, high = units.min() - margin, units.max() + margin
    first = dist.low if low <= 0 else min(float(dist.from_unit(low)), *good)  # not even rounding leaves a good one out
    last = dist.high if high >= 1 else max(float(dist.from_unit(high)), *good)
    return Float(first, last, log=dist.log)


def _some_choices(dist: Categorical, keep: list[int]) -> Categorical:
    weights = None if dist.weights is None else [dist.weights[i] for i in keep]
    return Categorical([dist.choices[i] for i in keep], weights if weights and any(weights) else None)


def _with_conditions(dists: dict[str, Distribution], space: Space) -> Space:
    """Return a space of ``dists`` under the conditions of ``space`` that can still be met."""
    left: dict[str, Distribution] = {}
    when: dict[str, dict[str, list[Any]]] = {}
    for name in space.names:  # parents first
        rule = {p: [v for v in vs if dists[p].contains(v)] for p, vs in space.when.get(name, {}).items()}
        if all(values and parent in left for parent, values in rule.items()):
            left[name] = dists[name]
            if rule:
                when[name] = rule
    return Space(left, when)
