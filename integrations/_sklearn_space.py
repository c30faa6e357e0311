"""What a scikit-learn search is given as its space, as one `Space`; and points of it that never repeat."""

from __future__ import annotations

import numbers
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from inloop import Categorical, Float, FrozenTrial, Int, Space, StudyStopped, TrialState
from inloop.distributions import Distribution, Quantile, Sampled, as_distribution, key_of, names_only
from inloop.history import History
from inloop.samplers import Sampler
from sklearn.base import clone

from ._sklearn_content import content

#: Which dict of a list a candidate comes from; no estimator can have a parameter of this name.
WHICH = "(dict)"

_PRIORS = ("uniform", "log-uniform")
_TRIES = 8  # proposals of the sampler to look at before any unused point will do


class SearchSpace:
    """One or several dicts of parameters as one `Space`.

    Several dicts become one conditional space: `WHICH` picks a dict, each with the same
    probability, and a parameter is active in the dicts that name it, under the conditions that
    it has there if the dict is a `Space`. Where two dicts give a parameter different values or
    conditions, it has one column for each.

    Args:
        given: A dict of parameter name to values, such as a `Space`, a list of such dicts, or a list of pairs (dict,
            number of candidates) as in scikit-optimize.

    Raises:
        TypeError, ValueError: If it is none of these, or a value is no distribution.

    Example:
        >>> space = SearchSpace([{"kernel": ["linear"]}, {"kernel": ["rbf"], "gamma": (1e-3, 1.0, "log-uniform")}])
        >>> space.params({WHICH: 1, "kernel (1)": "rbf", "gamma": 0.1})
        {'kernel': 'rbf', 'gamma': 0.1}
        >>> SearchSpace({"C": [1, 10], "tol": [0.1]}).count(50)
        2
    """

    def __init__(self, given: Any) -> None:
        self._names: dict[str, str] = {}  # column -> parameter of the estimator
        #: Candidates of each dict, None: as the sampler likes.
        self.quotas: list[int] | None = None
        dicts = [given] if isinstance(given, Mapping) else list(given)
        if dicts and all(_is_pair(d) for d in dicts):
            self.quotas = [n for _, n in dicts]
            dicts = [d for d, _ in dicts]
        wrong = [d for d in dicts if not isinstance(d, Mapping)]
        if wrong or not dicts:
            raise TypeError(
                "Give a dict of parameters, or a non-empty list of dicts or of pairs (dict, number of candidates), "
                f"got {wrong or given!r}."
            )
        if len(dicts) == 1 and isinstance(dicts[0], Space):
            self.space = dicts[0]
            if WHICH in self.space:  # several dicts as one, such as `inloop.refine` gives
                self._names = {column: re.sub(r" \(\d+\)$", "", column) for column in self.space if column != WHICH}
            return
        if any(WHICH in d for d in dicts):
            raise ValueError(f"A space made of several dicts can only be given alone, got it among {len(dicts)} dicts.")
        conditions = [d.when if isinstance(d, Space) else {} for d in dicts]
        self.space = self._joint([{n: distribution(v, n) for n, v in d.items()} for d in dicts], conditions)

    def _joint(
        self,
        dicts: Sequence[Mapping[str, Distribution]],
        conditions: Sequence[Mapping[str, Mapping[str, Sequence[Any]]]],
    ) -> Space:
        if len(dicts) == 1 and dicts[0]:
            return Space(dicts[0])
        columns: dict[str, Distribution] = {WHICH: Categorical(range(len(dicts)))}
        when: dict[str, dict[str, Sequence[Any]]] = {}
        users: dict[str, list[int]] = {}  # column -> dicts that use it
        for i, params in enumerate(dicts):
            own: dict[str, str] = {}  # parameter -> column; a `Space` names parents first
            for name, dist in params.items():
                rule = {own[parent]: values for parent, values in conditions[i].get(name, {}).items()}
                shared = columns.setdefault(name, dist) == dist and when.setdefault(name, rule) == rule
                own[name] = column = name if shared else f"{name} ({i})"
                columns[column], when[column] = dist, rule
                self._names[column] = name
                users.setdefault(column, []).append(i)
        for column, used in users.items():
            if len(used) < len(dicts):
                when[column] = {WHICH: used, **when[column]}
        return Space(columns, {column: rule for column, rule in when.items() if rule})

    def params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the estimator's parameters at a point of the space."""
        return {self._names.get(c, c): v for c, v in point.items() if c != WHICH}

    def dists(self, point: Mapping[str, Any]) -> dict[str, Distribution]:
        """Return the distributions of the estimator's parameters at a point of the space."""
        return {self._names.get(c, c): self.space[c] for c in point if c != WHICH}

    def point(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point of the space that has these parameters of the estimator.

        A copy of a choice, as `clone` makes it, stands for the choice.

        Raises:
            ValueError: If they are no part of any dict that was given.
        """
        if WHICH not in self.space:
            return self.space.check({n: self._own(n, v) for n, v in params.items()}, "initial_params")
        for which in _levels(self.space[WHICH]):
            columns = {self._names[c]: c for c in self.space if c != WHICH and self._in(c, which)}
            if params.keys() <= columns.keys():
                point = {columns[n]: self._own(columns[n], v) for n, v in params.items()}
                if all(self.space[c].contains(v) for c, v in point.items()):
                    return self.space.check({WHICH: which, **point}, "initial_params")
        raise ValueError(f"initial_params: {dict(params)!r} lies in none of the dicts of the space {self.space!r}.")

    def unstored(self) -> list[Any]:
        """Return the choices and distributions of which a storage keeps but the names, which others may have too.

        Choices are returned as candidates get them: unfitted.
        """
        named = [d for d in self.space.values() if names_only(d.to_json())]
        own = {Categorical: "choices", Quantile: "frozen", Sampled: "source"}
        return [clone(getattr(d, own[type(d)]), safe=False) for d in named]

    def whole(self, point: Mapping[str, Any]) -> bool:
        """Say whether a point leaves nothing to propose."""
        return self.space.complete(point, lambda: 0.0).keys() <= point.keys()

    def key(self, point: Mapping[str, Any]) -> Hashable:
        """Return what two points have in common if and only if they set the estimator to the same values."""
        return frozenset((n, key_of(v)) for n, v in self.params(point).items())

    def count(self, limit: int) -> int | None:
        """Return the number of different points, counted up to ``limit``; None if they are infinitely many."""
        return self._count(self.space, limit)

    def total(self, n_iter: int) -> int:
        """Return how many candidates are asked for."""
        return n_iter if self.quotas is None else sum(self.quotas)

    def cap(self) -> None:
        """Ask of no dict for more candidates than it has points."""
        if self.quotas is not None:
            parts = map(self.part, range(len(self.quotas))) if len(self.quotas) > 1 else [self.space]
            self.quotas = [self._count(p, n) or n for p, n in zip(parts, self.quotas, strict=True)]

    def part(self, which: int) -> Space:
        """Return one dict of several as a space, with `WHICH` as it has it."""
        columns = {c: d for c, d in self.space.items() if c != WHICH and self._in(c, which)}
        rules = {c: {p: vs for p, vs in self.space.when.get(c, {}).items() if p != WHICH} for c in columns}
        return Space({WHICH: Categorical([which]), **columns}, {c: rule for c, rule in rules.items() if rule})

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every point of a finite space."""
        return _grow(self.space, {}, self.space.names)

    def _count(self, space: Space, limit: int) -> int | None:
        if space.size is None:
            return None
        seen: set[Hashable] = set()
        for point in _grow(space, {}, space.names):
            seen.add(self.key(point))
            if len(seen) >= limit:
                break
        return len(seen)

    def _own(self, column: str, value: Any) -> Any:
        """Return the choice that has the type and, unfitted, the content of a value, the value itself if none has."""
        dist = self.space.get(column)
        if not isinstance(dist, Categorical) or dist.contains(value):
            return value
        alike = [c for c in dist.choices if type(c) is type(value)]
        own = content(clone(value, safe=False)) if alike else ""
        return next((c for c in alike if content(clone(c, safe=False)) == own), value)

    def _in(self, column: str, which: int) -> bool:
        return which in self.space.when.get(column, {}).get(WHICH, (which,))


class Distinct(Sampler):
    """Lets a sampler propose, and never a point of a finite space that was proposed before.

    Where some parameters of the candidate are given, that holds for the whole point, as long as one is left.

    Args:
        sampler: Who proposes.
        points: The finite space.
    """

    def __init__(self, sampler: Sampler, points: SearchSpace) -> None:
        self.sampler = sampler
        self._points = points
        self._taken: set[Hashable] = set()
        self._read = 0

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        for trial in filter(_counts, history.trials[self._read : number]):
            self._taken.add(self._points.key(trial.params))
        self._read = max(number, self._read)
        given = history.trials[number].queued or {}
        for _ in range(_TRIES):
            proposal = self.sampler.ask(space, history, number, rng)
            if given:
                proposal = space.complete({**proposal, **given}, rng.random)
            if self._points.key(proposal) not in self._taken:
                return proposal
        return self._unused(space, given, rng) or proposal

    def exhausted(self, history: History, space: Space | None = None) -> str | None:
        return self.sampler.exhausted(history, space)

    def __repr__(self) -> str:
        return repr(self.sampler)

    def _unused(self, space: Space, given: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return an unused point with the ``given`` values, an empty one if there is none."""
        for _ in range(8 * _TRIES):
            point = space.complete(given, rng.random)
            if self._points.key(point) not in self._taken:
                return point
        # so many misses: most points are taken, so there are few points
        left = [p for p in self._points.points() if self._points.key(p) not in self._taken and _lies_in(p, space)]
        if not left and not given:
            raise StudyStopped("Every point of the finite space was tried.")
        key = self._points.key
        left = [p for p in left if key(p) == key({**p, **{n: v for n, v in given.items() if n in p}})]
        return left[rng.integers(len(left))] if left else {}


class Turns(Sampler):
    """Gives each dict of a list its number of candidates, in turn by share; a sampler proposes the rest.

    Args:
        sampler: Who proposes.
        space: The dicts, with `quotas`.
    """

    def __init__(self, sampler: Sampler, space: SearchSpace) -> None:
        self.sampler = sampler
        self._quotas = space.quotas or []
        self._parts = [space.part(k) for k in range(len(self._quotas))]

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        counts = Counter(t.params.get(WHICH) for t in filter(_counts, history.trials[:number]))
        order = sorted(range(len(self._quotas)), key=lambda k: (counts[k] + 1) / self._quotas[k])
        given = (history.trials[number].queued or {}).get(WHICH)
        order = order if given is None else [given]
        over: StudyStopped | None = None
        for which in [k for k in order if counts[k] < self._quotas[k]] or order[:1]:
            try:
                return self.sampler.ask(self._parts[which], history, number, rng)
            except StudyStopped as error:  # the other dicts have had some of its points
                over = error
        raise over or StudyStopped("Every dict has had its number of candidates.")

    def exhausted(self, history: History, space: Space | None = None) -> str | None:
        return self.sampler.exhausted(history, space)

    def __repr__(self) -> str:
        return repr(self.sampler)


def distribution(value: Any, name: str) -> Distribution:
    """Return the values that a search is given for one parameter as a distribution.

    Args:
        value: As `as_distribution`; any other sequence (categorical); scikit-optimize's forms:
            ``(low, high)`` of two numbers, with ``"uniform"`` or ``"log-uniform"`` as a third member, or
            its ``Real``, ``Integer`` and ``Categorical``; Optuna's distributions.
        name: Named in errors.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a list is empty, a range is wrong, or an array has not one dimension.

    Example:
        >>> distribution((1, 10), "depth")
        Int(low=1, high=10, log=False, step=1)
        >>> distribution((1e-3, 1, "log-uniform"), "C")
        Float(low=0.001, high=1.0, log=True, step=None)
        >>> distribution(("l1", "l2"), "penalty")
        Categorical(choices=('l1', 'l2'))
    """
    if isinstance(value, str | bytes):
        raise TypeError(f"{name}: expected a list of choices, got {value!r}; for a single value write [{value!r}].")
    if isinstance(value, np.ndarray) and value.ndim != 1:
        raise ValueError(
            f"{name}: an array of choices must have one dimension, got {value.ndim}; for arrays as choices give a list."
        )
    if (isinstance(value, Sequence) and not isinstance(value, tuple | list | range)) or hasattr(value, "iloc"):
        value = list(value)
    try:
        known = _tuple(value) if isinstance(value, tuple) else _foreign(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return as_distribution(value, name) if known is None else known


def _tuple(value: tuple[Any, ...]) -> Distribution:
    """Return a tuple as scikit-optimize reads it: a range if its first two members are numbers, else choices."""
    low, high, *more = value if len(value) >= 2 else (None, None)
    number = all(isinstance(v, numbers.Real) and not isinstance(v, bool | np.bool_) for v in (low, high))
    if not number or len(more) > 2 or (more and more[0] not in _PRIORS):
        return Categorical(value)
    log = bool(more) and more[0] == "log-uniform"  # a fourth member, the logarithm's base, changes nothing
    if isinstance(low, numbers.Integral) and isinstance(high, numbers.Integral):
        return Int(int(low), int(high), log=log)
    return Float(low, high, log=log)


def _foreign(value: Any) -> Distribution | None:
    """Return a dimension of scikit-optimize or a distribution of Optuna as ours, None for anything else."""
    package, kind = type(value).__module__.partition(".")[0], type(value).__name__
    if package == "skopt" and kind in ("Real", "Integer"):
        log = value.prior == "log-uniform"
        return Float(value.low, value.high, log) if kind == "Real" else Int(value.low, value.high, log)
    if package == "skopt" and kind == "Categorical":
        weights = None if value.prior is None else np.asarray(value.prior)
        if weights is not None and not np.allclose(weights, weights.mean()):
            raise ValueError("choices with unequal prior weights are not supported; repeat a choice to favour it.")
        return Categorical(value.categories)
    if package == "optuna" and kind == "FloatDistribution":
        return Float(value.low, value.high, value.log, value.step)
    if package == "optuna" and kind == "IntDistribution":
        return Int(value.low, value.high, value.log, value.step)
    if package == "optuna" and kind == "CategoricalDistribution":
        return Categorical(value.choices)
    return None


def _is_pair(given: Any) -> bool:
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Mapping)):
        return False
    if isinstance(given[1], bool) or not isinstance(given[1], numbers.Integral) or given[1] < 1:
        raise ValueError(f"The number of candidates of a space must be a positive integer, got {given[1]!r}.")
    return True


def _counts(trial: FrozenTrial) -> bool:
    """Say whether a trial was, or will be, evaluated: one that an interrupt broke off was not."""
    ended = trial.state is not TrialState.FAILED or trial.value is not None  # a score of NaN is one
    return ended and trial.state is not TrialState.LOST


def _lies_in(point: Mapping[str, Any], space: Space) -> bool:
    return all(n in space and space[n].contains(v) for n, v in point.items())


def _grow(space: Space, point: dict[str, Any], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield every point of a finite space that goes on from a point; ``names`` are left."""
    if not names:
        yield point
        return
    name, rest = names[0], names[1:]
    if name not in space.active({**point, name: None}):
        yield from _grow(space, point, rest)
        return
    for value in _levels(space[name]):
        yield from _grow(space, {**point, name: value}, rest)


def _levels(dist: Distribution) -> Iterator[Any]:
    if isinstance(dist, Categorical):
        yield from dist.choices
    elif isinstance(dist, Int):
        yield from range(dist.low, dist.high + 1, dist.step)
    else:
        n = dist.levels or 1
        yield from (dist.from_unit((k + 0.5) / n) for k in range(n))
