"""Parameters: the values one may take, and their map to and from the unit interval."""

from __future__ import annotations

import math
import operator
import re
import zlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_TAIL = 1e-9  # the outermost part of an unbounded distribution
_LEVELS = 1000  # levels at which a discrete distribution is asked for its values
_MAX_INT = 2**53  # beyond it neighbouring integers are the same float64


def _number(owner: str, name: str, value: Any) -> float:
    """Return ``value`` as a finite float or say which bound is wrong."""
    try:
        out = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}.") from None
    if isinstance(value, str | bytes) or not math.isfinite(out):
        raise ValueError(f"{owner}: {name} must be a finite number, got {value!r}.")
    return out


def _integer(owner: str, name: str, value: Any) -> int:
    """Return ``value`` as an int or say which bound is wrong."""
    try:
        out = operator.index(value)
    except TypeError:
        raise TypeError(f"{owner}: {name} must be an integer, got {value!r}.") from None
    if abs(out) > _MAX_INT:
        raise ValueError(f"{owner}: {name} must lie within +-2**53, got {value!r}.")
    return out


_NEAR = 8  # neighbours of a place in [0, 1] that are looked at for one that leads back to a value exactly


class _StoredAsIs:
    """A parameter whose values are stored as they are."""

    def pack(self, value: Any) -> Any:
        """Return the stored form of ``value``."""
        return value

    def unpack(self, stored: Any) -> Any:
        """Return the value whose stored form is ``stored``."""
        return stored


@dataclass(frozen=True)
class Float(_StoredAsIs):
    """A real number between ``low`` and ``high``, both included.

    Args:
        low: Smallest value.
        high: Largest value; may equal ``low``.
        log: Search the logarithm; ``low`` must then be positive.
        step: Allow only ``low, low + step, ..., high``; not together with ``log``.

    Raises:
        TypeError: If a bound is not a number.
        ValueError: If a bound is not finite, ``low > high``, ``log`` with ``low <= 0``, or
            ``step`` does not divide ``high - low``.

    Example:
        >>> eta = Float(1e-3, 1.0, log=True)
        >>> round(eta.from_unit(eta.to_unit(0.1)), 12)
        0.1
        >>> Float(0, 1, step=0.25).levels
        5
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    #: Number of distinct values, ``None`` for a continuum.
    levels: int | None = field(init=False, repr=False, compare=False, default=None)
    _a: float = field(init=False, repr=False, compare=False, default=0.0)
    _b: float = field(init=False, repr=False, compare=False, default=0.0)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "low", _number("Float", "low", self.low))
        put(self, "high", _number("Float", "high", self.high))
        _check_order("Float", self.low, self.high, self.log)
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"Float: high - low must be finite, got {self.low!r} to {self.high!r}.")
        if self.step is not None:
            step = _number("Float", "step", self.step)
            if step <= 0:
                raise ValueError(f"Float: step must be positive, got {self.step!r}.")
            if self.log:
                raise ValueError("Float: step and log=True exclude each other; drop one of them.")
            n = (self.high - self.low) / step
            if not n <= 2**53:
                raise ValueError(f"Float: step={step!r} is too small for a range from {self.low!r} to {self.high!r}.")
            if abs(n - round(n)) > 1e-8 * max(1.0, n):
                last = self.low + math.floor(n) * step
                raise ValueError(
                    f"Float: step={step!r} does not divide high - low = {self.high - self.low!r}; "
                    f"use high={last:.12g} or high={last + step:.12g}."
                )
            put(self, "step", step)
            put(self, "levels", round(n) + 1)
        elif self.low == self.high:
            put(self, "levels", 1)
        put(self, "_a", math.log(self.low) if self.log else self.low)
        put(self, "_b", math.log(self.high) if self.log else self.high)

    def to_unit(self, value: float) -> float:
        """Return the place of ``value`` in [0, 1]; of a grid, the middle of its cell."""
        if self.levels is not None:
            return (self._level(value) + 0.5) / self.levels
        if self._a == self._b:  # neighbours whose logarithms are equal
            return 0.0 if value == self.low else 1.0
        u = ((math.log(value) if self.log else value) - self._a) / (self._b - self._a)
        u = min(max(u, 0.0), 1.0)
        near = u
        for _ in range(_NEAR):
            v = self.from_unit(near)
            if v == value:
                return near
            near = math.nextafter(near, 1.0 if v < value else 0.0)
        return u

    def from_unit(self, u: float) -> float:
        """Return the value at ``u`` in [0, 1]; ``to_unit`` leads back to every value that this returns."""
        if self.levels is not None:
            return self._at(min(int(u * self.levels), self.levels - 1))
        if u >= 1.0:
            return self.high  # which exp(log(high)) need not be
        v = self._a + u * (self._b - self._a)
        if self.log:
            v = math.exp(v)
        return self.low if v < self.low else self.high if v > self.high else v

    def contains(self, value: Any) -> bool:
        """Say whether ``value`` is one that this parameter may take."""
        try:
            v = float(value)
        except (TypeError, ValueError, OverflowError):
            return False
        if isinstance(value, str | bytes) or not self.low <= v <= self.high:
            return False
        if self.step:
            return abs(v - self.cast(v)) <= 1e-9 * max(self.step, abs(v))
        return True

    def cast(self, value: Any) -> float:
        """Return ``value`` in this parameter's own type, on a grid without rounding noise."""
        v = float(value)
        return self._at(self._level(v)) if self.step else v

    def _level(self, value: float) -> int:
        """Return the index of the level that is nearest to ``value``."""
        k = round((value - self.low) / self.step) if self.step else 0
        return min(max(k, 0), (self.levels or 1) - 1)

    def _at(self, level: int) -> float:
        """Return the value of one of the levels."""
        if level + 1 == self.levels:
            return self.high
        return tidy(self.low + level * self.step, self.step) if self.step and level else self.low

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that `from_json` reads."""
        return {"type": "float", "low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class Int(_StoredAsIs):
    """An integer between ``low`` and ``high``, both included; every level owns an equal cell.

    Args:
        low: Smallest value.
        high: Largest value; may equal ``low``.
        log: Search the logarithm; ``low`` must then be at least 1.
        step: Allow only ``low, low + step, ..., high``; must be 1 with ``log``.

    Raises:
        TypeError: If a bound is not an integer.
        ValueError: If ``low > high``, ``log`` with ``low < 1``, or ``step`` does not divide.

    Example:
        >>> depth = Int(1, 4)
        >>> [depth.from_unit(u) for u in (0.0, 0.3, 0.6, 1.0)]
        [1, 2, 3, 4]
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    #: Number of distinct values.
    levels: int = field(init=False, repr=False, compare=False, default=1)
    _a: float = field(init=False, repr=False, compare=False, default=0.0)
    _b: float = field(init=False, repr=False, compare=False, default=0.0)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "low", _integer("Int", "low", self.low))
        put(self, "high", _integer("Int", "high", self.high))
        put(self, "step", _integer("Int", "step", self.step))
        _check_order("Int", self.low, self.high, self.log)
        if self.step < 1:
            raise ValueError(f"Int: step must be at least 1, got {self.step!r}.")
        if self.log and self.step != 1:
            raise ValueError("Int: step and log=True exclude each other; drop one of them.")
        if (self.high - self.low) % self.step:
            last = self.high - (self.high - self.low) % self.step
            raise ValueError(
                f"Int: step={self.step} does not divide high - low = {self.high - self.low}; "
                f"use high={last} or high={last + self.step}."
            )
        put(self, "levels", (self.high - self.low) // self.step + 1)
        put(self, "_a", math.log(self.low - 0.5) if self.log else 0.0)
        put(self, "_b", math.log(self.high + 0.5) if self.log else 0.0)

    def to_unit(self, value: int) -> float:
        """Return the place of ``value`` in [0, 1] (not log: the middle of its cell)."""
        if self.log:
            return min(max((math.log(value) - self._a) / (self._b - self._a), 0.0), 1.0)
        k = round((value - self.low) / self.step)
        return (min(max(k, 0), self.levels - 1) + 0.5) / self.levels

    def from_unit(self, u: float) -> int:
        """Return the value whose cell holds ``u`` in [0, 1]."""
        if self.log:
            return min(max(round(math.exp(self._a + u * (self._b - self._a))), self.low), self.high)
        return self.low + min(int(u * self.levels), self.levels - 1) * self.step

    def contains(self, value: Any) -> bool:
        """Say whether ``value`` is one that this parameter may take."""
        try:
            v = float(value)
        except (TypeError, ValueError, OverflowError):
            return False
        if isinstance(value, str | bytes) or not self.low <= v <= self.high or v != int(v):
            return False
        return (int(v) - self.low) % self.step == 0

    def cast(self, value: Any) -> int:
        """Return ``value`` in this parameter's own type."""
        return int(value)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that `from_json` reads."""
        return {"type": "int", "low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True, eq=False)
class Categorical:
    """One of ``choices``: any Python values, modelled by their index.

    Args:
        choices: A non-empty sequence. Values need be neither hashable nor comparable
            (None, tuples, dicts, arrays, estimators ...). One that is given twice (arrays: the same object) is one,
            twice as likely. Lists, dicts and sets are copied, here and when they are chosen, so they may be changed.
        weights: How likely each choice is in random draws, and in the points that a model starts from; None: all the
            same. Kept so that they add up to 1.

    Raises:
        TypeError: If ``choices`` is a string or not iterable.
        ValueError: If ``choices`` is empty, or ``weights`` are not one positive number for each.

    Example:
        >>> act = Categorical(["relu", None, (64, 64)])
        >>> act.from_unit(act.to_unit((64, 64)))
        (64, 64)
    """

    choices: tuple[Any, ...]
    weights: tuple[float, ...] | None
    #: Whether some choices have no hash, so that they may be lists and the like.
    _open: bool = field(init=False, repr=False, default=False)

    def __init__(self, choices: Iterable[Any], weights: Iterable[float] | None = None) -> None:
        if isinstance(choices, str | bytes) or not isinstance(choices, Iterable):
            raise TypeError(f"Categorical: choices must be a list of values, got {choices!r}.")
        object.__setattr__(self, "choices", tuple(choices))
        if not self.choices:
            raise ValueError("Categorical: choices is empty; give at least one value.")
        if self._find_open():
            object.__setattr__(self, "choices", tuple(map(own, self.choices)))
        shares = None if weights is None else _shares(tuple(weights), len(self.choices))
        if len(self._lookup) < len(self.choices):
            places = [i if isinstance(c, Label) else self.index(c) for i, c in enumerate(self.choices)]
            each = np.bincount(places, shares or np.full(len(places), 1.0 / len(places)), len(places))
            if not each.all():
                object.__setattr__(self, "choices", tuple(self.choices[i] for i in np.flatnonzero(each)))
                shares = tuple(each[each > 0].tolist())
                del self.__dict__["_lookup"]
        object.__setattr__(self, "weights", shares)

    @classmethod
    def _stored(cls, choices: list[Any], weights: list[float] | None) -> Categorical:
        """Return choices as they were stored, by place, whichever are given twice."""
        out = cls.__new__(cls)
        object.__setattr__(out, "choices", tuple(choices))
        object.__setattr__(out, "weights", None if weights is None else _shares(tuple(weights), len(choices)))
        out._find_open()
        return out

    def _find_open(self) -> bool:
        if not all(map(_has_hash, self.choices)):
            object.__setattr__(self, "_open", True)
        return self._open

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_lookup"}  # which goes by the id of what has no hash

    def __repr__(self) -> str:
        return f"Categorical(choices={self.choices!r}" + (f", weights={self.weights!r})" if self.weights else ")")

    @property
    def levels(self) -> int:
        """Number of choices."""
        return len(self.choices)

    @cached_property
    def _lookup(self) -> dict[Any, int]:
        table: dict[Any, int] = {}
        for i, c in enumerate(self.choices):
            table.setdefault(key_of(c), i)
        return table

    def index(self, value: Any) -> int:
        """Return the index of ``value`` among the choices.

        The same type and value is looked for first, then an equal value of another type, then one that is known
        by the same name, where either is a `Label`.

        Raises:
            ValueError: If it is none of them.
        """
        i = self._stood_for(value) if isinstance(value, Label) else None
        if i is None:
            i = self._lookup.get(key_of(value))
        if i is None:
            i = next((k for k, c in enumerate(self.choices) if same(c, value)), None)
        if i is None and any(isinstance(c, Label) for c in self.choices):
            name = _name(value)
            named = [k for k, c in enumerate(self.choices) if isinstance(c, Label) and c.text == name]
            i = named[0] if len(named) == 1 else None
        if i is None:
            raise ValueError(f"{value!r} is not one of the choices {list(self.choices)!r}.")
        return i

    def _stood_for(self, value: Label) -> int | None:
        """Return the index of the choice that a `Label` stands for by its place, None if that has another name."""
        if not 0 <= value.place < len(self.choices):
            return None
        own = self.choices[value.place]
        return value.place if (own.text if isinstance(own, Label) else _name(own)) == value.text else None

    def to_unit(self, value: Any) -> float:
        """Return the middle of the cell of ``value``."""
        return (self.index(value) + 0.5) / len(self.choices)

    def from_unit(self, u: float) -> Any:
        """Return the choice whose cell holds ``u`` in [0, 1]."""
        n = len(self.choices)
        return self.unpack(min(int(u * n), n - 1))

    def contains(self, value: Any) -> bool:
        """Say whether ``value`` is one of the choices."""
        try:
            self.index(value)
        except ValueError:
            return False
        return True

    def cast(self, value: Any) -> Any:
        """Return the choice that equals ``value``."""
        return self.unpack(self.index(value))

    def pack(self, value: Any) -> int:
        """Return the stored form of ``value``: its index."""
        return self.index(value)

    def unpack(self, stored: int) -> Any:
        """Return the choice whose stored form is ``stored``."""
        choice = self.choices[stored]
        return own(choice) if self._open else choice

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Categorical)
            and len(self.choices) == len(other.choices)
            and all(map(same, self.choices, other.choices))
            and self.weights == other.weights
        )

    def __hash__(self) -> int:
        return hash(len(self.choices))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form.

        Choices that are no plain values are kept as their labels, and what is made of plain values (tuples, lists,
        dicts) in ``values`` by index beside them; of any other only the label is kept.
        """
        data: dict[str, Any] = {"type": "categorical", "choices": [_choice_json(c) for c in self.choices]}
        if self.weights is not None:
            data["weights"] = list(self.weights)
        made = {str(i): _nested_json(c) for i, c in enumerate(self.choices) if _is_nested(c)}
        return {**data, "values": made} if made else data


@dataclass(frozen=True, eq=False)
class Quantile(_StoredAsIs):
    """A value of any distribution with ``cdf`` and ``ppf`` (scipy's frozen ones), through its quantiles.

    Made by `as_distribution`; uniform, log-uniform and integer ranges become `Float` and `Int` instead.

    Example:
        >>> from scipy import stats
        >>> Quantile(stats.norm(3, 1)).from_unit(0.5)
        3.0
    """

    frozen: Any
    levels: int | None = field(init=False, repr=False, default=None)

    @cached_property
    def _discrete(self) -> bool:
        return hasattr(self.frozen, "pmf") and not hasattr(getattr(self.frozen, "dist", None), "pdf")

    @cached_property
    def _steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Where quantile levels ``(n - 1,)`` get another value, and the levels ``(n,)`` of the values between.

        None where values are (almost) as many as levels, so that each has its own.
        """
        if not self._discrete and getattr(self.frozen, "is_rounded", None) is not True:
            return None
        levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
        values = np.array([self.from_unit(u) for u in levels.tolist()])
        first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
        if len(first) > _LEVELS // 2:
            return None
        borders = 0.5 * (levels[first[1:] - 1] + levels[first[1:]])
        return borders, np.array([self.to_unit(v) for v in values[first].tolist()])

    def to_unit(self, value: float) -> float:
        """Return the quantile level of ``value``; for a discrete one the middle of its step."""
        u = float(self.frozen.cdf(value))
        return u - 0.5 * float(self.frozen.pmf(value)) if self._discrete else u

    def from_unit(self, u: float) -> float | int:
        """Return the ``u``-quantile; the outermost 1e-9 of an unbounded tail is never reached."""
        v = float(self.frozen.ppf(min(max(u, _TAIL), 1.0 - _TAIL)))
        return int(v) if self._discrete else v

    def snap(self, units: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return quantile levels ``(n,)`` moved to those of the values that they stand for; far tails count as near."""
        if self._steps is None:
            return units
        borders, levels = self._steps
        snapped: NDArray[np.float64] = levels[np.searchsorted(borders, units, "right")]
        return snapped

    def contains(self, value: Any) -> bool:
        """Say whether ``value`` lies in the support."""
        try:
            low, high = self.frozen.support()
            return bool(low <= float(value) <= high)
        except (TypeError, ValueError):
            return False

    def cast(self, value: Any) -> float | int:
        """Return ``value`` in this parameter's own type."""
        return int(value) if self._discrete else float(value)

    def to_json(self) -> dict[str, Any]:
        """Return a label, as `Sampled` does; the distribution itself is not stored."""
        return {"type": "sampled", "label": _name(self.frozen)}


@dataclass(frozen=True, eq=False)
class Sampled(_StoredAsIs):
    """A value drawn by the object's own ``rvs(random_state=...)``: sampled, not modelled.

    Example:
        >>> class Coin:
        ...     def rvs(self, random_state=None):
        ...         return int(random_state.randint(2))
        >>> Sampled(Coin()).from_unit(0.3) in (0, 1)
        True
    """

    source: Any
    levels: int | None = field(init=False, repr=False, default=None)

    def to_unit(self, value: Any) -> float:
        """Return NaN: nothing is known of the place of a value."""
        return math.nan

    def from_unit(self, u: float) -> Any:
        """Return the draw of ``rvs`` by a ``numpy.random.RandomState`` seeded by ``u``, as scikit-learn calls it."""
        return self.source.rvs(random_state=np.random.RandomState(min(int(u * 2**32), 2**32 - 1)))

    def pack(self, value: Any) -> Any:
        """Return the stored form of ``value``: of a scalar of numpy's the number."""
        return value.item() if isinstance(value, np.generic) else value

    def contains(self, value: Any) -> bool:
        """Return True: any value may come from outside."""
        return True

    def cast(self, value: Any) -> Any:
        """Return ``value`` itself."""
        return value

    def to_json(self) -> dict[str, Any]:
        """Return a label; the object itself is not stored."""
        return {"type": "sampled", "label": _name(self.source)}


Distribution: TypeAlias = Float | Int | Categorical | Quantile | Sampled


def as_distribution(value: Any, name: str = "parameter") -> Distribution:
    """Return what users already have as a distribution.

    Args:
        value: One of this module's types; a list or array (categorical, always); a scipy.stats
            frozen distribution; any object with ``cdf`` and ``ppf``; any object with ``rvs``.
        name: Named in errors.

    Raises:
        TypeError: If it is none of these.
        ValueError: If it is one with wrong numbers, or an empty list.

    Example:
        >>> from scipy import stats
        >>> as_distribution(stats.loguniform(1e-3, 10))
        Float(low=0.001, high=10.0, log=True, step=None)
        >>> as_distribution(stats.randint(1, 5))
        Int(low=1, high=4, log=False, step=1)
        >>> as_distribution([1, 5])
        Categorical(choices=(1, 5))
    """
    try:
        return _as_distribution(value, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _as_distribution(value: Any, name: str) -> Distribution:
    if isinstance(value, Float | Int | Categorical | Quantile | Sampled):
        return value
    if isinstance(value, list | range | np.ndarray):
        return Categorical(value)
    family = getattr(getattr(value, "dist", None), "name", None)
    if family is not None and hasattr(value, "args") and not value.ppf(0.5) < math.inf:
        given = [*map(repr, value.args), *(f"{k}={v!r}" for k, v in value.kwds.items())]
        raise ValueError(f"{family}({', '.join(given)}) of scipy.stats is no distribution, see its arguments.")
    if family in ("uniform", "loguniform", "reciprocal", "randint"):
        known = _known_family(family, value)
        if known is not None:
            return known
    if hasattr(value, "ppf") and hasattr(value, "cdf"):
        return Quantile(value)
    if hasattr(value, "rvs"):
        return Sampled(value)
    hint = ""
    if isinstance(value, tuple):
        hint = " A tuple is ambiguous: write Float(low, high), Int(low, high) or a list of choices."
    raise TypeError(
        f"{name}: expected Float, Int, Categorical, a list of choices, or a distribution with rvs; got {value!r}.{hint}"
    )


@dataclass(frozen=True)
class Label:
    """Stands for a choice that is known only by its readable name, and by its place among the choices if not -1."""

    text: str
    place: int = field(default=-1, compare=False)

    def __repr__(self) -> str:
        return f"<{self.text}>"


def from_json(data: Mapping[str, Any], labels: bool = False) -> Distribution:
    """Return the distribution that ``to_json`` wrote.

    Args:
        data: What ``to_json`` returned.
        labels: Put a `Label` where JSON could not hold the value itself.

    Raises:
        ValueError: If it cannot be rebuilt from data alone, and ``labels`` is False.
    """
    kind = data["type"]
    if kind == "float":
        return Float(data["low"], data["high"], data["log"], data["step"])
    if kind == "int":
        return Int(data["low"], data["high"], data["log"], data["step"])
    if kind == "categorical" and (labels or not names_only(data)):
        values = {int(i): _from_nested(v) for i, v in data.get("values", {}).items()}
        named = [Label(c["label"], i) if isinstance(c, dict) else c for i, c in enumerate(data["choices"])]
        return Categorical._stored([values.get(i, c) for i, c in enumerate(named)], data.get("weights"))
    if labels:
        return Sampled(Label(data["label"]))
    raise ValueError(f"This {kind} parameter holds values that are not stored; give the same space again: {data!r}")


def label(value: Any, most: int | None = 80) -> str:
    """Return a readable name of any value, of so many characters at most."""
    dist = getattr(value, "dist", None)
    if dist is not None and hasattr(value, "args"):
        inner = [*map(repr, value.args), *(f"{k}={v!r}" for k, v in value.kwds.items())]
        return f"{dist.name}({', '.join(inner)})"
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # an address is no name
    return text if most is None or len(text) <= most else text[: most - 3] + "..."


def _name(value: Any) -> str:
    """Return the name under which a value that JSON cannot hold is stored: its label, with what was cut off hashed."""
    if isinstance(value, Label):
        return value.text
    text, full = label(value), label(value, most=None)
    return text if text == full else f"{text} {zlib.crc32(full.encode()):08x}"


def _known_family(family: str, frozen: Any) -> Distribution | None:
    """Return a scipy frozen uniform, log-uniform or randint as a range, if it is one."""
    low, high = (float(x) for x in frozen.support())
    if family == "uniform":
        return Float(low, high)
    if family == "randint":
        return Int(int(low), int(high))
    # a shifted log-uniform is not uniform in log(value)
    shift = frozen.kwds.get("loc", frozen.args[2] if len(frozen.args) > 2 else 0)
    return Float(low, high, log=True) if shift == 0 else None


def _check_order(owner: str, low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"{owner}: low must not exceed high, got low={low!r} and high={high!r}.")
    smallest = 1 if owner == "Int" else 0
    if log and (low < 1 if owner == "Int" else low <= 0):
        what = "at least 1" if smallest else "positive"
        raise ValueError(f"{owner}: low must be {what} with log=True, got low={low!r}.")


def _shares(weights: tuple[float, ...], n: int) -> tuple[float, ...]:
    """Return weights as parts of 1, or say what is wrong with them."""
    total = sum(weights)
    if len(weights) != n or not all(w > 0 for w in weights) or not total < math.inf:
        raise ValueError(
            f"Categorical: weights must be {n} positive numbers, got {weights!r}; leave out what has none."
        )
    return tuple(float(w) for w in weights) if abs(total - 1) < 1e-12 else tuple(float(w / total) for w in weights)


def tidy(value: float, step: float) -> float:
    """Return ``value`` without the rounding noise of adding up steps: 0.1 * 3 is meant to be 0.3."""
    digits = 12 - math.floor(math.log10(max(abs(value), step)))
    rounded = round(value, max(digits, 0))
    return rounded if abs(rounded - value) < 1e-3 * step else value  # steps finer than these digits are no noise


def own(value: Any) -> Any:
    """Return a copy of a list, dict or set, and of those in it; anything else as it is."""
    kind = type(value)
    if kind is list:
        return [own(v) for v in value]
    if kind is tuple:
        copies = tuple(map(own, value))
        return value if all(a is b for a, b in zip(copies, value, strict=True)) else copies
    if kind is dict:
        return {k: own(v) for k, v in value.items()}
    return value.copy() if kind is set else value


def key_of(value: Any) -> Hashable:
    """Return what has a hash, and two choices have in common if and only if they are alike, types included.

    Copies by `own` are alike; what has no hash otherwise is known by its id, so must live as long as the key.
    """
    kind = type(value)
    if _has_hash(value):
        return kind, value
    if kind is list or kind is tuple:
        return kind, tuple(map(key_of, value))
    if kind is dict:
        return kind, frozenset((k, key_of(v)) for k, v in value.items())
    return (kind, frozenset(value)) if kind is set else id(value)


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def same(a: Any, b: Any) -> bool:
    """Say whether two choices are the same; arrays and other unwilling values by content."""
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, float) and isinstance(b, float) and a != a and b != b:
        return True
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    try:
        return bool(a == b)
    except (TypeError, ValueError):
        return False


def nearest(dist: Distribution, value: Any) -> Any:
    """Return the value of a parameter that is nearest to ``value``, None if that is outside its range.

    A value that is outside by rounding alone is not.
    """
    if dist.contains(value):
        return value
    if isinstance(dist, Float | Int) and isinstance(value, int | float) and math.isfinite(value):
        inside = min(max(value, dist.low), dist.high)
        if not math.isclose(inside, value, rel_tol=1e-9, abs_tol=1e-12):
            return None
        return dist.from_unit(dist.to_unit(int(inside)) if isinstance(dist, Int) else dist.to_unit(inside))
    return None


def names_only(data: Mapping[str, Any]) -> bool:
    """Return whether the JSON form of a distribution holds but the name of something."""
    return "label" in data or sum(isinstance(c, dict) for c in data.get("choices", ())) > len(data.get("values", ()))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def _is_nested(value: Any) -> bool:
    """Return whether a value is made of plain ones, by tuples, lists and dicts; JSON gives back just these types."""
    if type(value) is dict:
        return all(type(k) is str and _is_inner(v) for k, v in value.items())
    return type(value) in (tuple, list) and all(map(_is_inner, value))


def _is_inner(value: Any) -> bool:
    exact = type(value) in (bool, int, float, str, type(None))
    return (exact and _is_plain(value)) or _is_nested(value)


def _nested_json(value: Any) -> Any:
    if type(value) is dict:
        return {"dict": {k: _nested_json(v) for k, v in value.items()}}
    return {type(value).__name__: [_nested_json(v) for v in value]} if type(value) in (tuple, list) else value


def _from_nested(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    ((kind, inner),) = data.items()
    if kind == "dict":
        return {k: _from_nested(v) for k, v in inner.items()}
    values = [_from_nested(v) for v in inner]
    return tuple(values) if kind == "tuple" else values


def _choice_json(value: Any) -> Any:
    if _is_plain(value):
        return value
    return {"label": _name(value)}


def level_of(dist: Distribution, value: Any) -> int:
    """Return the index of ``value`` among the countable levels of ``dist``."""
    if isinstance(dist, Categorical):
        return dist.index(value)
    if isinstance(dist, Int):
        return (int(value) - dist.low) // dist.step
    return min(int(dist.to_unit(value) * (dist.levels or 1)), (dist.levels or 1) - 1)


def value_at(dist: Distribution, level: int) -> Any:
    """Return the value of ``dist`` at one of its countable levels."""
    if isinstance(dist, Int):
        return dist.low + level * dist.step
    return dist.from_unit((level + 0.5) / (dist.levels or 1))
