"""Hints that a study gives of its space, once."""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np

from .distributions import Distribution, Float, Int
from .record import FrozenTrial, TrialState
from .space import Space

if TYPE_CHECKING:
    from .study import Study

_ENOUGH = 30  # complete trials before anything is said: a few trials, as in tests, say little
_BEST = 5  # trials that are looked at
_MOST = 3  # of them must agree: a parameter that does not matter may have its best value anywhere
_NEAR = 0.02  # part of the range that is its edge
_LEVELS = 5  # of fewer levels the outermost are no sign of anything
_DIMENSIONS = 100  # beyond, the model that tells whether a parameter matters is too slow
_INWARDS = 0.2  # part of the range
_MATTERS = 0.05  # standard deviations of the values
_DECADES = 3.0
_RATE = re.compile(r"(^|_)(lr|eta|rate|alpha|lambda|l1|l2|decay|gamma|c|eps|epsilon|tol|reg|penalty|shrinkage)\d*(_|$)")
_SHARE = re.compile(r"drop|sub_?sample|col_?sample|fraction|momentum|beta")  # parts of one, for which linear is right


class SpaceWarning(UserWarning):
    """Says that a study's space may hold the search back.

    Given at most once by a `Study` for each kind, at the end of `Study.optimize`, after 30 complete trials. To
    silence it: ``warnings.simplefilter("ignore", inloop.SpaceWarning)``.
    """


def give(study: Study, stacklevel: int) -> None:
    """Warn of what the best trials show of the study's space, each kind of hint once."""
    history = study.history
    if history.states[TrialState.COMPLETE] < _ENOUGH or {"edge", "log"} <= study._hinted:
        return
    with study._log.lock:
        space = study.space or study.sampler.space or history.union.space
        best = [history.trials[i] for i in history.ranking.rows(np.arange(_BEST))]
    if space is None or not all(t.value is not None and math.isfinite(t.value) for t in best):
        return
    texts = {}
    edges = {n: text for n, d in space.items() if (text := _at_edge(n, d, best))} if "edge" not in study._hinted else {}
    edges = {n: edges[n] for n in _mattering(list(edges), study, space, best[0])}
    if edges:
        texts["edge"] = (
            f"The best value lies at the edge of its range: {'; '.join(edges.values())}. Consider a wider one."
        )
    logs = ", ".join(repr(n) for n, d in space.items() if _wants_log(n, d, best))
    if logs:
        texts["log"] = (
            f"{logs}: a linear range over three decades or more hardly tries small values; consider log=True."
        )
    for kind, text in texts.items():
        if kind not in study._hinted:
            study._hinted.add(kind)
            warnings.warn(text, SpaceWarning, stacklevel=stacklevel + 1)


def _at_edge(name: str, dist: Distribution, best: list[FrozenTrial]) -> str | None:
    """Return what to say where the best trial, and most of the best, have the outermost values of a range."""
    if not isinstance(dist, Float | Int) or (dist.levels is not None and dist.levels < _LEVELS):
        return None
    units = [dist.to_unit(t.params[name]) for t in best if name in t.params and dist.contains(t.params[name])]
    if len(units) < _MOST or name not in best[0].params:
        return None
    value = best[0].params[name]
    for side in ("low", "high"):
        bound = getattr(dist, side)
        near = [abs(u - dist.to_unit(bound)) <= _NEAR for u in units]  # of integers the outermost lie inside [0, 1]
        if near[0] and sum(near) >= _MOST and not _is_natural(dist, side):
            return f"{name}={value:.6g}, {side} is {bound:.6g}"
    return None


def _mattering(names: list[str], study: Study, space: Space, best: FrozenTrial) -> list[str]:
    """Return the names that make the best trial worse, by a Gaussian process, when moved from the edge inwards."""
    if not names or len(space) > _DIMENSIONS:
        return []
    from .samplers.gp import GPSampler
    from .samplers.moves import settle

    with study._log.lock:
        belief = GPSampler().belief(space, study.history)
        if belief is None:
            return []
        point = settle(space, np.nan_to_num(study.history.encoded(space).units[best.number], nan=0.5)[None])
        columns = [space.names.index(n) for n in names]
        moved = np.repeat(point, 1 + len(columns), 0)
        for row, j in enumerate(columns, start=1):
            moved[row, j] += _INWARDS if moved[row, j] < 0.5 else -_INWARDS
        mean, sd = belief.posterior.predict(moved)
    worse = mean[1:] - mean[0] > np.maximum(sd[1:], _MATTERS)
    return [n for n, clearly in zip(names, worse, strict=True) if clearly]


def _is_natural(dist: Float | Int, side: str) -> bool:
    """Return whether a range can hardly go on: no share is above 1, no count below 0 or 1."""
    if side == "low":
        return dist.low in ((0, 1) if isinstance(dist, Int) else (0,))
    return isinstance(dist, Float) and not dist.log and dist.high == 1 and dist.low >= 0


def _wants_log(name: str, dist: Distribution, best: list[FrozenTrial]) -> bool:
    """Return whether a linear range over decades is a rate's, by its name or as the best trials use it."""
    if not isinstance(dist, Float) or dist.log or dist.low <= 0:
        return False
    if math.log10(dist.high / dist.low) < _DECADES - 1e-9 or _SHARE.search(name.lower()):
        return False
    units = [dist.to_unit(t.params[name]) for t in best if name in t.params and dist.contains(t.params[name])]
    return bool(_RATE.search(name.lower())) or (len(units) == _BEST and max(units) < 0.1)
