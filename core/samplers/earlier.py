"""What earlier studies teach: their trials as observations of another study, shifted and scaled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..distributions import Categorical, Distribution, Label
from ..follower import Kept
from ..history import History
from ..space import Array, Space
from . import warp
from .curves import curves
from .gaussian_process import Data, Inputs, Posterior, Prior, fit
from .threads import one_thread

if TYPE_CHECKING:
    from ..study import Study

_TAKEN = 200  # trials taken from a study, the better half of them its best
_ROWS = 100  # of them, rows that a model sees
_JUDGED = 5  # trials from which on a source is judged
_SHRINK = 2.0  # typical trials that speak for an unchanged scale
_SCALES = (0.05, 20.0)
_HUGE = 1e100  # farther losses count as that, as a study's own do


def lessons(study: Study, into: Space | None = None) -> tuple[Space | None, list[tuple[int, dict[str, Any], float]]]:
    """Return a study's space, and number, stored parameters and value of what is to be learned from it.

    Pruned trials count as what their curves foretell, see `curves`.

    Args:
        study: The earlier study.
        into: The space that learns: trials that have no place in it are left out. None: it is not known yet.
    """
    history = study.history
    space = study._searched
    told = np.array(history.told, np.int64)
    losses = curves(history).losses(told, len(told))
    told, losses = told[np.isfinite(losses)], losses[np.isfinite(losses)]
    if space is None or not len(told):
        return None, []
    order = np.argsort(losses, kind="stable")[_spread(len(told), _TAKEN, _TAKEN // 2)]
    out = []
    theirs, mine = _as_logged(space), None if into is None else _as_logged(into)
    for number, loss in zip(told[order], losses[order], strict=True):
        params = history.trials[number].params
        stored = space.pack({n: v for n, v in params.items() if n in space and space[n].contains(v)})
        if stored and (mine is None or _units(stored, theirs, mine) is not None):
            out.append((int(number), stored, float(history.sign * loss)))
    return space, out


@dataclass(frozen=True)
class Source:
    """The trials of one earlier study.

    Attributes:
        units: ``(m, d)`` points in this study's space, best first; NaN where a parameter was not taken.
        losses: ``(m,)`` in the earlier study's units.
        posterior: A model of the standardised losses, None where there is nothing to model.
    """

    units: Array
    losses: Array
    posterior: Posterior | None

    def agrees(self, units: Array, ranks: Array) -> bool:
        """Return whether it orders the points of another study better than chance, as far as that can be told.

        The criterion of Feurer, Letham, Hutter and Bakshy, "Practical transfer learning for Bayesian optimization",
        arXiv:1802.02219, 2018: the part of the pairs of points that a model puts in the right order.

        Args:
            units: ``(n, d)`` points of the other study, without NaN.
            ranks: ``(n,)`` their losses or ranks.
        """
        if len(ranks) < _JUDGED:
            return True
        if self.posterior is None:
            return False
        low, high = np.nonzero(ranks[:, None] < ranks)
        foretold = self.posterior.predict(units)[0]
        return bool(np.mean(foretold[low] < foretold[high]) > 0.5) if len(low) else True

    def aligned(self, units: Array, losses: Array) -> Array:
        """Return the losses ``(m,)`` in the units of another study.

        The other study's losses are regressed on what the model of this one predicts at the same points. The
        slope is shrunk towards 1, as if by two more trials, and never negative.

        Args:
            units: ``(n, d)`` points of the other study, without NaN.
            losses: ``(n,)`` its finite losses.
        """
        mine = warp.pulled_in(self.losses, np.ones(len(self.losses)))  # as the model has seen them
        scale, mean = float(mine.std()), float(mine.mean())
        if not len(losses) or self.posterior is None or not scale > 0:
            return mine + (float(np.mean(losses)) - mean if len(losses) else 0.0)
        x = mean + scale * self.posterior.predict(units)[0]
        y = np.minimum(losses, np.median(losses) + 10.0 * np.abs(losses - np.median(losses)).mean())
        dx, dy = x - x.mean(), y - y.mean()
        slope = (dx @ dy + _SHRINK * scale**2) / (dx @ dx + _SHRINK * scale**2)
        out: Array = y.mean() + np.clip(slope, *_SCALES) * (mine - x.mean())
        return out


class Earlier:
    """The earlier studies that one history has learned from, in one space.

    Attributes:
        sources: By the order in which they were learned from.
        count: Number of trials in the log that these are made of.
    """

    def __init__(self, space: Space, history: History, rest: Array) -> None:
        self.count = len(history.earlier)
        taken: dict[str, list[tuple[list[float], float]]] = {}
        mine, theirs = _as_logged(space), dict[str, dict[str, Distribution]]()
        for (uid, _), (space_id, stored, loss) in history.earlier.items():
            if space_id not in theirs:
                theirs[space_id] = _as_logged(history.spaces[space_id])
            units = _units(stored, theirs[space_id], mine)
            if units is not None and math.isfinite(loss):
                taken.setdefault(uid, []).append((units, loss))
        self.sources = [_source(rows, space, rest) for rows in taken.values()]

    def agreeing(self, units: Array, ranks: Array) -> list[Source]:
        """Return the sources that agree with this study's trials, see `Source.agrees`."""
        with one_thread():
            return [s for s in self.sources if s.agrees(units, ranks)]


def _as_logged(space: Space) -> dict[str, Distribution]:
    """Return a space's parameters, with choices in the form that every process reads from the log."""
    return {n: _labelled(d) if isinstance(d, Categorical) else d for n, d in space.items()}


def _labelled(dist: Categorical) -> Categorical:
    """Return the choices as read from the log; those of one label are numbered, for only their order tells them."""
    choices = [Label(c["label"]) if isinstance(c, dict) else c for c in dist.to_json()["choices"]]
    many = Counter(c.text for c in choices if isinstance(c, Label))
    seen: Counter[str] = Counter()
    for i, c in enumerate(choices):
        if isinstance(c, Label) and many[c.text] > 1:
            seen[c.text] += 1
            choices[i] = Label(f"{c.text} {seen[c.text]} of {many[c.text]}")
    return Categorical(choices)


def _units(
    stored: Mapping[str, Any], theirs: Mapping[str, Distribution], mine: Mapping[str, Distribution]
) -> list[float] | None:
    """Return the place ``(d,)`` of an earlier trial in a space, NaN where it took no such parameter.

    None if it took none of them, or one of them outside its range. Both spaces are as `_as_logged` returns them.
    """
    params = {n: theirs[n].unpack(v) for n, v in stored.items() if n in theirs and n in mine}
    if not params or not all(mine[n].contains(v) for n, v in params.items()):
        return None
    return [d.to_unit(params[n]) if n in params else math.nan for n, d in mine.items()]


def _source(rows: list[tuple[list[float], float]], space: Space, rest: Array) -> Source:
    losses = np.array([loss for _, loss in rows])
    order = np.argsort(losses, kind="stable")[_spread(len(rows), _ROWS, _ROWS // 2)]
    units, losses = np.array([u for u, _ in rows])[order], np.clip(losses[order], -_HUGE, _HUGE)
    inputs, ones = Inputs.of(space.columns), np.ones(len(losses))
    if len(losses) < 2 or not len(inputs) or not warp.deviation(losses, ones) > 0:
        return Source(units, losses, None)
    at, targets = np.where(np.isnan(units), rest, units), warp.standard(losses, ones)
    theta = fit(Data.of(at, targets, inputs), Prior(length=(0.3, 0.8), noise=(-5.0, 2.0))).theta
    return Source(units, losses, Posterior(at, targets, inputs, theta))


def _spread(n: int, most: int, best: int) -> np.ndarray:
    """Return the ranks of the best and of some spread over the rest."""
    if n <= most:
        return np.arange(n)
    rest = best + np.floor((np.arange(most - best) + 0.5) * (n - best) / (most - best)).astype(np.int64)
    return np.concatenate([np.arange(best), rest])


_EARLIER: Kept[tuple[Space, int], Earlier] = Kept()


def earlier(space: Space, history: History, rest: Array) -> Earlier | None:
    """Return what was learned from earlier studies, None if nothing that this space can use.

    Args:
        space: Of the study that asks.
        history: Its history.
        rest: ``(d,)`` where parameters that were not taken are kept.
    """
    if not history.earlier:
        return None
    with one_thread():
        found = _EARLIER.get(history, (space, len(history.earlier)), lambda: Earlier(space, history, rest))
    return found if found.sources else None
