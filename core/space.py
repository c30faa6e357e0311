"""Spaces: named parameters, some active only under conditions, as points of the unit cube."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .distributions import (
    Categorical,
    Distribution,
    Int,
    Label,
    Quantile,
    Sampled,
    as_distribution,
    from_json,
    level_of,
    names_only,
    value_at,
)

Array: TypeAlias = NDArray[np.float64]

_MAX_LEVELS = 1_000_000  # of a parameter that switches others on


class Space(Mapping[str, Distribution]):
    """Named distributions, some active only when another parameter has certain values.

    Args:
        params: Name to `Float`, `Int`, `Categorical`, or what `as_distribution` accepts
            (a list, a scipy.stats frozen distribution, an object with ``rvs``).
        when: Child name to ``{parent name: values}``: the child is active only where every
            named parent is active and has one of the values. Parents are `Categorical` or
            ranges with countable levels, and may be conditional themselves.

    Raises:
        TypeError, ValueError: If the space is empty, a value cannot be a distribution, or a
            condition names an unknown parameter, an impossible value or a cycle.

    Example:
        >>> from inloop import Float
        >>> space = Space({"booster": ["gblinear", "dart"], "eta": Float(1e-3, 1, log=True)},
        ...               when={"eta": {"booster": ["dart"]}})
        >>> space.active({"booster": "gblinear"})
        ['booster']
        >>> (space | {"eta": Float(0.1, 1), "depth": [3, 6]}).when  # as dicts; conditions stay
        {'eta': {'booster': ('dart',)}}
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        when: Mapping[str, Mapping[str, Iterable[Any]]] | None = None,
    ) -> None:
        if not isinstance(params, Mapping):
            raise TypeError(f"Space: params must be a dict of name to distribution, got {params!r}.")
        if not params:
            raise ValueError("Space: no parameter given; a space needs at least one.")
        bad = [n for n in params if not isinstance(n, str)]
        if bad:
            raise TypeError(f"Space: parameter names must be strings, got {bad[0]!r}.")
        dists = {n: as_distribution(v, n) for n, v in params.items()}
        self.when = _conditions(dists, when or {})
        order = _parents_first(list(dists), self.when)
        self._dists: dict[str, Distribution] = {n: dists[n] for n in order}
        #: Names, parents before children; the order of the columns of encoded arrays.
        self.names: tuple[str, ...] = tuple(order)
        #: Distributions in the order of `names`.
        self.dists: tuple[Distribution, ...] = tuple(self._dists.values())
        # the rest is stored as is
        self._coded = {n: d for n, d in self._dists.items() if isinstance(d, Categorical | Sampled)}
        self._weights = {j: d.weights for j, d in enumerate(self.dists) if isinstance(d, Categorical) and d.weights}
        # child -> parent -> levels of the parent that switch it on
        self._switches = {
            c: {p: [level_of(self._dists[p], v) for v in vs] for p, vs in ps.items()} for c, ps in self.when.items()
        }
        column = {n: j for j, n in enumerate(self.names)}
        # (child column, [(parent column, table of parent levels that switch it on)])
        self._rules: list[tuple[int, list[tuple[int, NDArray[np.bool_]]]]] = [
            (column[c], [(column[p], _level_table(self._dists[p], levels)) for p, levels in ps.items()])
            for c, ps in sorted(self._switches.items(), key=lambda kv: column[kv[0]])
        ]

    def __getitem__(self, name: str) -> Distribution:
        return self._dists[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dists)

    def __len__(self) -> int:
        return len(self._dists)

    def __repr__(self) -> str:
        inner = ", ".join(f"{n!r}: {d!r}" for n, d in self._dists.items())
        return f"Space({{{inner}}}" + (f", when={self.when!r})" if self.when else ")")

    def __or__(self, other: Mapping[str, Any]) -> Space:
        """Return the space with the parameters of another, or of a dict; those of the same name are replaced.

        Conditions stay: also those on a parameter that is replaced, which must still have the values they name.
        """
        if not isinstance(other, Mapping):
            return NotImplemented
        return Space({**self, **other}, {**self.when, **(other.when if isinstance(other, Space) else {})})

    def __ror__(self, other: Mapping[str, Any]) -> Space:
        return Space({**other, **self}, self.when) if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._dists == other._dists and self.when == other.when

    @cached_property
    def size(self) -> int | None:
        """Number of distinct parameter settings, ``None`` if infinite; conditions count as met."""
        levels = [d.levels for d in self.dists]
        return None if None in levels else math.prod(n for n in levels if n is not None)

    @cached_property
    def columns(self) -> Columns:
        """What each column of an encoded array is."""
        return Columns(self)

    def active(self, params: Mapping[str, Any]) -> list[str]:
        """Return the names whose conditions ``params`` meets, parents first."""
        on: dict[str, Any] = {}
        for n in self.names:
            if n in params and self._met(n, on):
                on[n] = params[n]
        return list(on)

    def _met(self, name: str, on: Mapping[str, Any]) -> bool:
        return all(
            p in on and self._dists[p].contains(on[p]) and level_of(self._dists[p], on[p]) in levels
            for p, levels in self._switches.get(name, {}).items()
        )

    def decode(self, row: Sequence[float] | Array) -> dict[str, Any]:
        """Return the parameters at one point ``(d,)`` of the unit cube, the active ones only."""
        values = row.tolist() if isinstance(row, np.ndarray) else row
        if not self._rules:
            return {n: d.from_unit(u) for n, d, u in zip(self.names, self.dists, values, strict=True)}
        on = self.active_mask(np.asarray(values, float)[None])[0]
        return {n: d.from_unit(u) for n, d, u, a in zip(self.names, self.dists, values, on, strict=True) if a}

    def encode(self, params: Mapping[str, Any]) -> list[float]:
        """Return the place ``(d,)`` of parameters in the unit cube.

        NaN where a parameter is missing or lies outside its range. Names unknown to the space are ignored.
        """
        return [
            d.to_unit(params[n]) if n in params and d.contains(params[n]) else math.nan for n, d in self._dists.items()
        ]

    def active_mask(self, units: Array) -> NDArray[np.bool_]:
        """Return which columns are active at each row of ``units`` ``(n, d)``."""
        mask = np.ones(units.shape, bool)
        for child, parents in self._rules:
            for parent, table in parents:
                level = self.columns.level(units[:, parent], parent)
                mask[:, child] &= mask[:, parent] & table[level]
        return mask

    def snap(self, units: Array) -> Array:
        """Return ``units`` ``(n, d)`` moved to the points that will really be run."""
        return self.columns.snap(units)

    def drawn(self, units: Array) -> Array:
        """Return uniform draws ``(n, d)`` in which weighted choices come as often as their weights say."""
        if not self._weights:
            return units
        out = units.copy()
        for j in self._weights:
            out[:, j] = self._by_weight(j, units[:, j])
        return out

    def of(self, names: Collection[str]) -> dict[str, Distribution]:
        """Return the distributions of some of the parameters."""
        dists = self._dists
        return dists.copy() if len(names) == len(dists) else {n: dists[n] for n in names}

    def pack(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stored form of parameters."""
        coded = self._coded
        return {n: coded[n].pack(v) if n in coded else v for n, v in params.items()} if coded else dict(params)

    def unpack(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters whose stored form is ``stored``."""
        coded = self._coded
        return {n: coded[n].unpack(v) if n in coded else v for n, v in stored.items()} if coded else dict(stored)

    def check(self, params: Mapping[str, Any], what: str = "params") -> dict[str, Any]:
        """Return ``params`` in the space's own types or say what is wrong with them.

        Raises:
            ValueError: If a name is unknown or a value outside its range.
        """
        unknown = [n for n in params if n not in self._dists]
        if unknown:
            raise ValueError(f"{what}: unknown parameter {unknown[0]!r}; the space has {list(self.names)}.")
        for n, v in params.items():
            if not self._dists[n].contains(v):
                raise ValueError(f"{what}: {n}={v!r} lies outside {self._dists[n]!r}.")
        return {n: self._dists[n].cast(v) for n, v in params.items()}

    def complete(self, params: Mapping[str, Any], draw: Callable[[], float]) -> dict[str, Any]:
        """Return the active parameters: from ``params``, the missing ones drawn by ``draw()``, uniform in [0, 1)."""
        out: dict[str, Any] = {}
        for j, (n, d) in enumerate(self._dists.items()):
            if self._met(n, out):
                out[n] = params[n] if n in params else d.from_unit(self._by_weight(j, draw()))
        return out

    def _by_weight(self, column: int, u: Any) -> Any:
        """Return uniform draws ``u`` of one column in which weighted choices come as often as their weights say."""
        weights = self._weights.get(column)
        if weights is None:
            return u
        return (np.searchsorted(np.cumsum(weights[:-1]), u, side="right") + 0.5) / len(weights)

    @cached_property
    def id(self) -> str:
        """A short name made from the content; spaces of equal content share it."""
        import hashlib  # openssl takes a tenth of the time of `import inloop`

        data = self.to_json()
        for dist in data["params"].values():
            dist.pop("values", None)  # which the labels name
        text = json.dumps(data, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form: distributions by name and conditions by parent level."""
        return {"params": {n: d.to_json() for n, d in self._dists.items()}, "when": self._switches}

    @property
    def has_labels(self) -> bool:
        """Whether it was read from JSON and does not know all of its values."""
        return any(
            any(isinstance(c, Label) for c in d.choices)
            if isinstance(d, Categorical)
            else isinstance(d, Sampled) and isinstance(d.source, Label)
            for d in self.dists
        )

    @cached_property
    def holds_more_than_json(self) -> bool:
        """Whether `to_json` leaves something out."""
        return any(names_only(d.to_json()) for d in self.dists)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], labels: bool = False) -> Space:
        """Return the space that `to_json` wrote, or raise ValueError as `from_json` does."""
        dists = {n: from_json(d, labels) for n, d in data["params"].items()}
        when = {
            c: {p: [value_at(dists[p], k) for k in levels] for p, levels in ps.items()}
            for c, ps in data["when"].items()
        }
        return cls(dists, when)


class Columns:
    """The columns of a space's encoded arrays, for vectorised samplers.

    Attributes:
        levels: ``(d,)`` number of levels, 0 for a continuum.
        categorical: ``(d,)`` whether the column is a `Categorical`.
        modelled: ``(d,)`` whether a value has a place in the unit interval (not so for `Sampled`).
    """

    def __init__(self, space: Space) -> None:
        self.levels = np.array([d.levels or 0 for d in space.dists], np.int64)
        self.categorical = np.array([isinstance(d, Categorical) for d in space.dists])
        self.modelled = np.array([not isinstance(d, Sampled) for d in space.dists])
        self._logs = {j: d for j, d in enumerate(space.dists) if isinstance(d, Int) and d.log}
        self._grid = np.array([d.levels is not None and j not in self._logs for j, d in enumerate(space.dists)])
        self._any_grid = bool(self._grid.any())
        self._quantiles = {j: d for j, d in enumerate(space.dists) if isinstance(d, Quantile)}

    def level(self, u: Array, column: int) -> NDArray[np.int64]:
        """Return the level index of each ``u`` ``(n,)`` of a column with countable levels."""
        n = int(self.levels[column])
        level: Array = u * n
        if column in self._logs:
            d = self._logs[column]
            level = np.rint(np.exp(d._a + u * (d._b - d._a))) - d.low
        return np.clip(level, 0, n - 1).astype(np.int64)

    def snap(self, units: Array) -> Array:
        """Return a copy of ``units`` ``(n, d)`` with countable columns at their levels' places."""
        out = np.clip(units, 0.0, 1.0)
        if self._any_grid:
            n = self.levels[self._grid]
            out[:, self._grid] = (np.minimum(np.floor(out[:, self._grid] * n), n - 1) + 0.5) / n
        for j, d in self._logs.items():
            v = np.clip(np.rint(np.exp(d._a + out[:, j] * (d._b - d._a))), d.low, d.high)
            out[:, j] = (np.log(v) - d._a) / (d._b - d._a)
        for j, q in self._quantiles.items():
            out[:, j] = q.snap(out[:, j])
        return out


def _conditions(
    dists: Mapping[str, Distribution], when: Mapping[str, Mapping[str, Iterable[Any]]]
) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Return checked conditions with every value in its parent's own type."""
    out: dict[str, dict[str, tuple[Any, ...]]] = {}
    for child, parents in when.items():
        for name in (child, *parents):
            if name not in dists:
                raise ValueError(f"Space: when names unknown parameter {name!r}; there are {list(dists)}.")
        if not parents:
            raise ValueError(f"Space: the condition of {child!r} is empty; name a parent and its values.")
        out[child] = {}
        for parent, values in parents.items():
            d = dists[parent]
            if d.levels is None or d.levels > _MAX_LEVELS:
                raise ValueError(
                    f"Space: parent {parent!r} of {child!r} must have countable levels, at most {_MAX_LEVELS}, "
                    f"not {d!r}."
                )
            if isinstance(values, str | bytes) or not isinstance(values, Iterable):
                raise TypeError(
                    f"Space: give the values of {parent!r} that switch {child!r} on as a list, got {values!r}."
                )
            values = tuple(values)
            wrong = [v for v in values if not d.contains(v)]
            if wrong or not values:
                raise ValueError(f"Space: {parent!r} never has the value {wrong or values!r} asked for {child!r}.")
            out[child][parent] = tuple(d.cast(v) for v in values)
    return out


def _parents_first(names: list[str], when: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return ``names`` with every parent before its children, else in the given order."""
    order: list[str] = []
    while len(order) < len(names):
        ready = [n for n in names if n not in order and all(p in order for p in when.get(n, ()))]
        if not ready:
            left = [n for n in names if n not in order]
            raise ValueError(f"Space: the conditions of {left} form a cycle.")
        order += ready
    return order


def _level_table(dist: Distribution, levels: list[int]) -> NDArray[np.bool_]:
    table = np.zeros(dist.levels or 1, bool)
    table[levels] = True
    return table
