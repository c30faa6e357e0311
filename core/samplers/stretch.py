"""Linear ranges at one end of which the best values crowd, seen on a logarithmic scale.

What changes by orders of magnitude in a small part of a range is noise to a kernel that has one length for all of it,
and a search that takes it for noise asks for nearly the same point again and again: with a learning rate in (0, 1) and
the best near 0.001, for 53 of 60 trials. Snoek, Swersky, Zemel and Adams, "Input warping for Bayesian optimization of
non-stationary functions", ICML 2014, fit a scale of each input; here it is one of two, which costs one fit more, and
only where the best trials call for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

from ..distributions import Distribution, Float, Int
from ..space import Space

_CROWDED = 0.2  # part of a range; with a tenth the search is trapped now and then, where half is one it costs time
_FINEST = 1e-4  # part of a range that is no more than a step from its end
_DECADES = 100.0  # ratio of the bounds from which a logarithm spreads a range

#: Parameters, and whether their upper end is meant.
Ends: TypeAlias = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class _Stretched(Float):
    """A range on the scale of the logarithm of the distance from one of its ends, beginning at `_FINEST`."""

    up: bool = field(default=False, kw_only=True)  # whether from the upper end

    def to_unit(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        place = math.log1p((1.0 - share if self.up else share) / _FINEST) / _WHOLE
        return min(max(1.0 - place if self.up else place, 0.0), 1.0)

    def from_unit(self, u: float) -> float:
        share = _FINEST * math.expm1((1.0 - u if self.up else u) * _WHOLE)
        value = self.high - share * (self.high - self.low) if self.up else self.low + share * (self.high - self.low)
        return min(max(value, self.low), self.high)


_WHOLE = math.log1p(1.0 / _FINEST)


def crowded(space: Space, best: Sequence[Mapping[str, Any]]) -> Ends:
    """Return the parameters of which all the best trials took the first or last fifth of a linear range.

    Args:
        space: Has the ranges.
        best: Parameters of the best trials.
    """
    found = []
    for name, dist in _linear(space).items():
        shares = [(p[name] - dist.low) / (dist.high - dist.low) for p in best if name in p and dist.contains(p[name])]
        if len(shares) == len(best):
            if max(shares) < _CROWDED:
                found.append((name, False))
            elif min(shares) > 1.0 - _CROWDED and isinstance(dist, Float):
                found.append((name, True))
    return tuple(found)


@lru_cache(maxsize=64)
def stretched(space: Space, ends: Ends) -> Space:
    """Return the space with some of its ranges on a logarithmic scale."""
    return Space({**space, **{n: _stretch(space[n], up) for n, up in ends}}, space.when)


@lru_cache(maxsize=64)
def _linear(space: Space) -> dict[str, Float | Int]:
    """Return the ranges that may be stretched: those that no condition reads."""
    parents = {name for rule in space.when.values() for name in rule}
    return {n: d for n, d in space.items() if isinstance(d, Float | Int) and n not in parents and _is_linear(d)}


def _is_linear(dist: Float | Int) -> bool:
    if isinstance(dist, Int):
        return not dist.log and dist.step == 1 and dist.low >= 1 and dist.high >= _DECADES * dist.low
    return not dist.log and dist.levels is None


def _stretch(dist: Distribution, up: bool) -> Distribution:
    if isinstance(dist, Int):
        return replace(dist, log=True)
    assert isinstance(dist, Float)
    if not up and dist.low > 0 and dist.high >= _DECADES * dist.low:
        return replace(dist, log=True)
    return _Stretched(dist.low, dist.high, up=up)
