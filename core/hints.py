"""Hints that a study gives of its space, once."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

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
_BELOW = 2.0  # decades below the best values, for a range that has none
_CLEARLY = 20.0  # evidence for a logarithmic scale, a logarithm; 30 and more where it is right, of an idle one up to 15
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
        space = study._searched
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
    logs = _wanting_logs(study, space, best) if "log" not in study._hinted else []
    if logs:
        texts["log"] = " ".join(logs)
    for kind, text in texts.items():
        if kind not in study._hinted:
            study._hinted.add(kind)
            warnings.warn(text, SpaceWarning, stacklevel=stacklevel + 1)


def _at_edge(name: str, dist: Distribution, best: list[FrozenTrial]) -> str | None:
    """Return what to say where the best trial, and most of the best, have the outermost values of a range."""
    if not isinstance(dist, Float | Int) or (dist.levels is not None and dist.levels < _LEVELS):
        return None
    values = [t.params[name] for t in best if name in t.params and dist.contains(t.params[name])]
    if len(values) < _MOST or name not in best[0].params:
        return None
    value = best[0].params[name]
    # in a linear range over decades most values are near its low end, by the part of the range
    below = replace(dist, log=True) if _is_wide(dist) and dist.low > 0 else dist
    for side, scale in (("low", below), ("high", dist)):
        bound = getattr(dist, side)
        place = scale.to_unit(bound)  # of integers the outermost lie inside [0, 1]
        near = [abs(scale.to_unit(v) - place) <= _NEAR for v in values]
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


def _wanting_logs(study: Study, space: Space, best: list[FrozenTrial]) -> list[str]:
    """Return what to say of linear ranges that are a rate's, by their names or as the trials use them."""
    from .samplers.stretch import crowded

    low = [n for n, up in crowded(space, [t.params for t in best]) if not up]
    wide = {n: d for n, d in space.items() if _is_wide(d) and not _SHARE.search(n.lower())}
    named = [n for n, d in wide.items() if d.low > 0 and _RATE.search(n.lower())]
    inside = [n for n, d in wide.items() if n in low and all(t.params[n] > d.low for t in best)]
    used = _clearer([n for n in inside if n not in named], study, space)
    decades = [n for n in wide if n in named or (n in used and wide[n].low > 0)]
    said = []
    if decades:
        names = ", ".join(map(repr, decades))
        said.append(f"{names}: a linear range over three decades or more hardly tries small values; consider log=True.")
    for name in used:
        if wide[name].low == 0:
            values, high = [t.params[name] for t in best], wide[name].high
            start = 10.0 ** math.floor(math.log10(min(values)) - _BELOW)
            said.append(
                f"{name!r}: the best values all lie in the lowest {100 * max(values) / high:.2g} % of its range; "
                f"consider Float({start:.6g}, {high:.6g}, log=True)."
            )
    return said


def _is_wide(dist: Distribution) -> TypeGuard[Float | Int]:
    """Return whether a range is linear and could be logarithmic, over three decades or more, or of reals from 0."""
    if isinstance(dist, Int):
        fits = dist.step == 1 and dist.low >= 1
    elif isinstance(dist, Float):
        fits = dist.levels is None and dist.low >= 0
    else:
        return False
    return fits and not dist.log and (dist.low == 0 or math.log10(dist.high / dist.low) >= _DECADES - 1e-9)


def _clearer(names: list[str], study: Study, space: Space) -> list[str]:
    """Return the names whose logarithm explains all values clearly better, by a Gaussian process.

    The best values of a search lie close together wherever the optimum is: they alone say nothing of the scale.
    """
    if not names or len(space) > _DIMENSIONS:
        return []
    from .samplers.gp import GPSampler
    from .samplers.stretch import stretched

    sampler = GPSampler()
    spaces = [space, *(stretched(space, ((n, False),)) for n in names)]
    with study._log.lock:
        beliefs = [sampler.belief(s, study.history) for s in spaces]
    evidence = [-math.inf if b is None else b.posterior.evidence for b in beliefs]
    return [n for n, e in zip(names, evidence[1:], strict=True) if e > evidence[0] + _CLEARLY]
