"""The space that a define-by-run objective shows bit by bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .distributions import Categorical, Distribution, Float, Int
from .space import Space

_MAX_PATTERNS = 256  # more combinations of suggested names than this: conditions are not looked for
_MAX_LEVELS = 64  # a parent has at most so many levels


class Union:
    """Learns which parameters there are, their ranges, and on which choice each depends.

    A parameter that some trials suggest and others do not is taken to be switched on by the levels of one
    other parameter, if the trials seen so far agree with that; else it counts as always active.

    Example:
        >>> u = Union()
        >>> u.see({"model": Categorical(["tree", "linear"]), "depth": Int(1, 9)})
        >>> u.learn({"model": "tree", "depth": 3})
        >>> u.learn({"model": "linear"})
        >>> u.space.when
        {'depth': {'model': ('tree',)}}
    """

    def __init__(self) -> None:
        self.dists: dict[str, Distribution] = {}
        # names suggested together -> parameter with countable levels -> values seen, choices as their places
        self._patterns: dict[frozenset[str], dict[str, set[int]]] = {}
        self._stale = True
        self._space: Space | None = None

    def see(self, dists: Mapping[str, Distribution]) -> None:
        """Take note of parameters; two ranges of one name become their envelope, of others the later counts."""
        known = self.dists
        for name, dist in dists.items():
            old = known.get(name)
            if old is not dist and old != dist:
                known[name] = dist if old is None else _envelope(old, dist)
                if known[name] is dist:  # what was seen of other choices says nothing of these
                    for seen in self._patterns.values():
                        seen.pop(name, None)
                self._stale = True

    def replace(self, old: Space, new: Space) -> None:
        """Put the distributions of ``new`` where those of ``old`` were seen."""
        for name, dist in old.items():
            if self.dists.get(name) is dist:
                self.dists[name] = new[name]
                self._stale = True

    def learn(self, params: Mapping[str, Any]) -> None:
        """Take note of which parameters, all seen before, a whole trial suggested, and with which parents."""
        names = frozenset(params)
        pattern = self._patterns.get(names)
        if pattern is None:
            if len(self._patterns) >= _MAX_PATTERNS:
                return
            pattern = self._patterns[names] = {}
            self._stale = True
        for n, v in params.items():
            level = self._level(n, v)
            if level is None:
                continue
            seen = pattern.setdefault(n, set())
            if level not in seen:
                seen.add(level)
                self._stale = True

    @property
    def space(self) -> Space | None:
        """The joint space of all that was seen, None before the first parameter."""
        if self._stale and self.dists:
            new = Space(self.dists, self._when() if len(self._patterns) > 1 else None)
            # the same object for an equal space: samplers keep their columns by it
            self._space = self._space if self._space == new else new
            self._stale = False
        return self._space

    def _level(self, name: str, value: Any) -> int | None:
        d = self.dists.get(name)
        if not isinstance(d, Categorical | Int) or d.levels > _MAX_LEVELS or not d.contains(value):
            return None  # a value that came from outside may be none of the range
        return d.index(value) if isinstance(d, Categorical) else int(value)

    def _when(self) -> dict[str, dict[str, list[Any]]]:
        names = set().union(*self._patterns)
        partial = [n for n in self.dists if n in names and not all(n in p for p in self._patterns)]
        out = {}
        for child in partial:
            best: tuple[int, str, list[Any]] | None = None
            for parent, d in self.dists.items():
                levels = self._switch(child, parent, d)
                if levels and (best is None or len(levels) < best[0]):
                    best = (len(levels), parent, levels)
            if best is not None:
                out[child] = {best[1]: best[2]}
        return out

    def _switch(self, child: str, parent: str, dist: Distribution) -> list[Any] | None:
        """Return the parent's values that switch the child on, None if it does not decide."""
        if not isinstance(dist, Categorical | Int) or dist.levels > _MAX_LEVELS:
            return None
        on: set[int] = set()
        off: set[int] = set()
        for names, seen in self._patterns.items():
            if child in names and parent not in names:
                return None
            if parent in names:
                levels = seen.get(parent, ())
                side, other = (on, off) if child in names else (off, on)
                if not other.isdisjoint(levels):
                    return None  # at once: there may be many parents and patterns
                side.update(levels)
        if not on or not off:
            return None
        if isinstance(dist, Categorical):
            return [dist.choices[i] for i in sorted(on)]
        if max(off) < min(on):  # a loop over range(n): more levels switch more on
            on.update(range(min(on), dist.high + 1, dist.step))
        return [value for value in sorted(on) if dist.contains(value)]


def check_same_kind(name: str, old: Distribution, new: Distribution) -> None:
    """Refuse a parameter that changes what it is from one trial to the next.

    Raises:
        ValueError: If its type, its choices or ``log`` differ; ranges may differ.
    """
    if type(old) is not type(new):
        raise ValueError(f"{name}: was {old!r} in an earlier trial and is {new!r} now; use two names.")
    if isinstance(old, Categorical) and old != new:
        if repr(old) == repr(new):
            raise ValueError(
                f"{name}: the choices {new!r} are other objects than before, of the same names: was their definition "
                "run again? Create the study anew, or load it from its storage."
            )
        raise ValueError(f"{name}: the choices changed from {old!r} to {new!r}; use two names.")
    if isinstance(old, Float | Int) and isinstance(new, Float | Int):
        if old.log != new.log:
            raise ValueError(f"{name}: log changed from {old.log} to {new.log}; use two names.")
        if not math.isfinite(max(old.high, new.high) - min(old.low, new.low)):
            raise ValueError(f"{name}: {old!r} and {new!r} together are wider than a float can hold; use two names.")


def _envelope(old: Distribution, new: Distribution) -> Distribution:
    """Return the range that holds both, whatever they are: trials that took values of either are in the log.

    Logarithmic where both are. Ranges that are together wider than a float can hold have none: the old one stays.
    """
    if isinstance(old, Int) and isinstance(new, Int):
        step = math.gcd(old.step, new.step, old.low - new.low)
        log = old.log and new.log
        return Int(min(old.low, new.low), max(old.high, new.high), log, 1 if log else step)
    if isinstance(old, Float) and isinstance(new, Float):
        low, high = min(old.low, new.low), max(old.high, new.high)
        if not math.isfinite(high - low):
            return old
        if old.step is not None and old.step == new.step:
            steps = [(x - low) / old.step for x in (old.low, new.low, high)]
            if max(steps) <= 2**53 and all(map(_whole, steps)):
                return Float(low, high, step=old.step)
        return Float(low, high, old.log and new.log)
    return new


def _whole(x: float) -> bool:
    return abs(x - round(x)) <= 1e-9 * max(1.0, abs(x))
