"""Hyperopt: its spaces, its ``fmin`` with inloop's samplers, and its algorithms in an inloop study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, ref

import hyperopt
import inloop
import numpy as np
from hyperopt import hp, pyll
from inloop import Categorical, Float, FrozenTrial, Int, Space
from inloop.distributions import Distribution, Quantile
from inloop.events import Event
from inloop.follower import Kept
from inloop.history import History
from inloop.samplers import AutoSampler, Sampler
from inloop.space import Array
from scipy import stats

#: Labels of choices and the option that each must have.
Path: TypeAlias = tuple[tuple[str, int], ...]
#: What Hyperopt calls an algorithm: new ids, domain, trials, seed.
Algorithm: TypeAlias = Callable[[list[int], Any, Any, int], list[dict[str, Any]]]

_ALGORITHMS = {"tpe": "tpe", "anneal": "anneal", "atpe": "atpe", "rand": "rand", "random": "rand"}


def from_hyperopt(space: Any) -> Space:
    """Return a Hyperopt search space as a `Space`, conditions included.

    Parameters have the names of the labels. As in Hyperopt's own results the value of an ``hp.choice`` or
    ``hp.pchoice`` is the option's index, and ``hyperopt.space_eval(space, trial.params)`` is what the objective of
    ``fmin`` gets. The probabilities of ``hp.pchoice`` become the weights of a `Categorical`; options of probability 0
    are left out, with the labels that only they use.

    Args:
        space: Any nesting of dicts, lists, tuples and ``hp`` expressions.

    Raises:
        ValueError: If a label comes twice, or the bounds of a parameter depend on another one.

    Example:
        >>> from hyperopt import hp, space_eval
        >>> theirs = hp.choice("kind", ["none", {"rate": hp.loguniform("rate", -6, 0)}])
        >>> ours = from_hyperopt(theirs)
        >>> ours.when
        {'rate': {'kind': (1,)}}
        >>> space_eval(theirs, {"kind": 0})
        'none'
    """
    params = {label: p for label, p in _params(space).items() if p.paths}
    if not params:
        raise ValueError(f"from_hyperopt: there is no hp expression in {space!r}.")
    dists = {label: p.distribution for label, p in params.items()}
    return Space(dists, {label: when for label, p in params.items() if (when := p.when)})


def suggest(
    new_ids: list[int], domain: Any, trials: Any, seed: int, sampler: Sampler | str | None = None
) -> list[dict[str, Any]]:
    """Propose the next trials of ``hyperopt.fmin(fn, space, algo=suggest)``; none once a grid is exhausted.

    Trials whose status is not "ok" count as failed, those that have no result yet as running.

    Args:
        new_ids: Ids of the trials to propose.
        domain: What ``fmin`` made of the space.
        trials: All trials so far.
        seed: Of this call.
        sampler: One of `inloop.samplers` or its name, through ``functools.partial(suggest, sampler="tpe")``; None:
            `AutoSampler`, which goes on when all points of a finite space were tried.

    Example:
        >>> import hyperopt, numpy as np
        >>> space = {"x": hyperopt.hp.uniform("x", -9, 9)}
        >>> best = hyperopt.fmin(lambda p: (p["x"] - 3) ** 2, space, algo=suggest, max_evals=20,
        ...                      rstate=np.random.default_rng(0), show_progressbar=False)
        >>> abs(best["x"] - 3) < 0.1
        True
    """
    bridge = _BRIDGES.get(domain)
    if bridge is None or bridge.trials() is not trials:
        bridge = _BRIDGES[domain] = _Bridge(domain, trials, seed)
    bridge.update(trials)
    ours = AutoSampler(deterministic=False) if sampler is None else inloop.samplers.from_name(sampler)
    docs = []
    for i, tid in enumerate(new_ids):
        if bridge.exhausted(ours):
            break  # with no new trial fmin ends
        docs.append(bridge.propose(tid, domain, trials, ours, np.random.default_rng((seed, i))))
    return docs


@dataclass(frozen=True, repr=False)
class HyperoptSampler(Sampler):
    """Proposes what an algorithm of Hyperopt suggests.

    Numeric parameters are searched in the unit interval of their own scale, those of countable levels by level;
    choices with their weights (atpe has none). Failed and running trials are passed over, as in Hyperopt. The cost of a
    proposal grows with the history, as Hyperopt's does.

    Args:
        algo: ``"tpe"``, ``"anneal"``, ``"atpe"`` (needs lightgbm and scikit-learn; it draws from random states of its
            own, so that a seed does not repeat it), ``"rand"``, or a function as ``fmin`` takes it.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If ``algo`` is neither a name nor callable.

    Example:
        >>> study = inloop.create_study(sampler=HyperoptSampler("tpe"), seed=0, space={"x": Float(-5, 5)})
        >>> study.optimize(lambda trial: trial.params["x"] ** 2, n_trials=40)
        >>> study.best_value < 0.1
        True
    """

    algo: str | Algorithm = "tpe"

    def __post_init__(self) -> None:
        if isinstance(self.algo, str) and self.algo not in _ALGORITHMS:
            raise ValueError(
                f"HyperoptSampler: algo must be one of {list(_ALGORITHMS)} or a function, got {self.algo!r}."
            )
        if not isinstance(self.algo, str) and not callable(self.algo):
            raise TypeError(f"HyperoptSampler: algo must be a name or a function, got {self.algo!r}.")

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        weighted = self.algo != "atpe"
        search = _SEARCHES.get(history, (space, weighted), lambda: _Search(space, weighted))
        return space.decode(search.next(self._algorithm, history, number, int(rng.integers(2**31))))

    @property
    def _algorithm(self) -> Algorithm:
        if not isinstance(self.algo, str):
            return self.algo
        algorithm: Algorithm = import_module(f"hyperopt.{_ALGORITHMS[self.algo]}").suggest
        return algorithm


@dataclass
class _Param:
    """One label of a Hyperopt space.

    Attributes:
        node: Its distribution in the graph.
        whole: Whether its value is cast to an integer.
        options: Number of options if it is a choice, else 0.
        paths: Under which options it is used; an empty one means always, none never.
    """

    label: str
    node: Any
    whole: bool = False
    options: int = 0
    paths: list[Path] = field(default_factory=list)

    @cached_property
    def distribution(self) -> Distribution:
        """Its values: of a choice the indices of the options."""
        kind, a = self.node.name, self._arguments()
        if kind == "categorical":
            weights = [float(w) for w in np.ravel(a["p"])]
            likely = [k for k, w in enumerate(weights) if w != 0] or range(len(weights))
            return Categorical(likely, [weights[k] for k in likely])
        if kind == "randint":
            low, high = (0, a["low"]) if a.get("high") is None else (a["low"], a["high"])
            return Categorical(range(self.options)) if self.options else Int(int(low), int(high) - 1)
        if kind in ("uniform", "loguniform"):
            return Float(a["low"], a["high"]) if kind == "uniform" else _log_uniform(a["low"], a["high"])
        if kind == "quniform":
            first, last = _multiples(a["low"], a["high"], a["q"])
            whole = self.whole and a["q"] == 1
            return Int(first, last) if whole else Float(first * a["q"], last * a["q"], step=a["q"])
        if kind in ("qloguniform", "normal", "qnormal", "lognormal", "qlognormal"):
            law = Law(kind, *(float(a[k]) for k in ("low", "high", "mu", "sigma", "q") if k in a))
            return Float(law.middle, law.middle) if a.get("sigma") == 0 else Quantile(law)
        raise ValueError(f"from_hyperopt: {self.label!r} has the distribution {kind!r}, which inloop does not know.")

    @property
    def when(self) -> dict[str, list[int]]:
        """Conditions that every path keeps; where paths differ in several choices, more than needed is let through."""
        shared = set.intersection(*({label for label, _ in path} for path in self.paths))
        order = [label for label, _ in self.paths[0] if label in shared]
        return {label: sorted({k for path in self.paths for name, k in path if name == label}) for label in order}

    def active(self, chosen: dict[str, Any]) -> bool:
        """Return whether it is used under the chosen options."""
        return any(all(chosen.get(label) == k for label, k in path) for path in self.paths)

    def _arguments(self) -> dict[str, Any]:
        out = {}
        for name, arg in self.node.arg.items():
            if name in ("rng", "size") or not isinstance(arg, pyll.Apply):
                continue
            if any(n.name == "hyperopt_param" for n in pyll.dfs(arg)):
                raise ValueError(f"from_hyperopt: {name} of {self.label!r} depends on another parameter.")
            out[name] = pyll.rec_eval(arg)
        return out


@dataclass(frozen=True)
class Law:
    """A distribution of Hyperopt's, with the quantiles that `inloop.distributions.Quantile` reads.

    Args:
        kind: ``"normal"``, ``"lognormal"``, ``"qnormal"``, ``"qlognormal"`` or ``"qloguniform"``.
        a: Mean, or lower bound, of the logarithm but for the normal ones.
        b: Standard deviation, or upper bound.
        q: What values are multiples of, for the kinds with a q.
    """

    kind: str
    a: float
    b: float
    q: float = 0.0

    @cached_property
    def _law(self) -> Any:
        if self.kind == "qloguniform":
            return stats.loguniform(math.exp(self.a), math.exp(self.b))
        if self.kind in ("normal", "qnormal"):
            return stats.norm(self.a, self.b)
        return stats.lognorm(self.b, scale=math.exp(self.a))

    @property
    def middle(self) -> float:
        """The median of a normal or lognormal one, which a deviation of 0 always gives."""
        return self._rounded(self.a if self.kind in ("normal", "qnormal") else math.exp(self.a))

    @property
    def is_rounded(self) -> bool:
        """Whether values are multiples of q."""
        return self.q > 0.0

    def ppf(self, u: float) -> float:
        """Return the ``u``-quantile."""
        return self._rounded(float(self._law.ppf(u)))

    def cdf(self, value: float) -> float:
        """Return the probability of less than ``value`` before rounding."""
        return float(self._law.cdf(value))

    def support(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        low, high = self._law.support()
        return self._rounded(float(low)), self._rounded(float(high))

    def _rounded(self, value: float) -> float:
        if not self.q or not math.isfinite(value):
            return value
        k = round(value / self.q)
        if self.kind == "qloguniform":
            first, last = self._ends
            k = min(max(k, first), last)
        return k * self.q

    @cached_property
    def _ends(self) -> tuple[int, int]:
        return _multiples(math.exp(self.a), math.exp(self.b), self.q)


def _multiples(low: float, high: float, q: float) -> tuple[int, int]:
    """Return the first and the last multiple of ``q`` that draws between two bounds are rounded to.

    One whose half cell only touches a bound has probability 0, and is none of them.
    """
    noise = 1e-9  # 0.15 / 0.1 is less than 1.5
    first, last = math.floor(low / q + 0.5 + noise), math.ceil(high / q - 0.5 - noise)
    middle = round((low + high) / 2 / q)  # of a range that is no wider than the noise
    return (first, last) if first <= last else (middle, middle)


def _log_uniform(low: float, high: float) -> Float:
    return Float(math.exp(low), math.exp(high), log=True)


def _params(space: Any) -> dict[str, _Param]:
    """Return the labels of a Hyperopt space in the order of its graph, parents first."""
    params: dict[str, _Param] = {}
    for label, node, whole, options, path in _walk(pyll.as_apply(space), (), False):
        param = params.setdefault(label, _Param(label, node, whole, options))
        if param.node is not node:
            raise ValueError(f"from_hyperopt: the label {label!r} is used twice.")
        if path not in param.paths:
            param.paths.append(path)
    for param in params.values():  # an option of probability 0 is never there
        param.paths = [p for p in param.paths if all(params[c].distribution.contains(k) for c, k in p)]
        if () in param.paths:
            param.paths = [()]
    return params


def _walk(node: Any, path: Path, whole: bool) -> Iterator[tuple[str, Any, bool, int, Path]]:
    """Yield label, distribution, whether it is cast to an integer, number of options and path of each use."""
    if node.name == "hyperopt_param":
        yield node.arg["label"].obj, node.arg["obj"], whole, 0, path
    elif node.name == "switch" and node.pos_args[0].name == "hyperopt_param":
        choice, *options = node.pos_args
        label = choice.arg["label"].obj
        yield label, choice.arg["obj"], False, len(options), path
        for k, option in enumerate(options):
            if (label, k) in path or label not in dict(path):  # a choice within the same choice
                yield from _walk(option, path if label in dict(path) else (*path, (label, k)), False)
    else:
        for child in node.inputs():
            yield from _walk(child, path, node.name == "int" or (whole and node.name == "float"))


class _Bridge:
    """A history that follows the trials of one call of ``fmin``.

    Args:
        domain: What ``fmin`` made of the space.
        trials: Its trials.
        seed: Of the first call.
    """

    def __init__(self, domain: Any, trials: Any, seed: int) -> None:
        self.trials = ref(trials)
        self._params = _params(domain.expr)
        self._space = from_hyperopt(domain.expr)
        self._numbers: dict[int, int] = {}  # Hyperopt's trial id -> number of the trial in the history
        self._open: set[int] = set()
        self._events = 0
        self.history = History()
        self.history.provide(self._space)
        self._apply("study", -1, {"direction": "minimize", "seed": int(seed), "retry": 0})

    def update(self, trials: Any) -> None:
        """Take over what is new in Hyperopt's trials."""
        there = set()
        for doc in trials.trials:  # without those that raised
            tid = doc["tid"]
            there.add(tid)
            if tid not in self._numbers:
                self._begin(tid, {n: v[0] for n, v in doc["misc"]["vals"].items() if len(v)})
            if tid in self._open and doc["state"] == hyperopt.JOB_STATE_DONE:
                self._end(tid, doc["result"])
        for tid in self._open - there:
            self._end(tid, {})

    def exhausted(self, sampler: Sampler) -> bool:
        """Return whether nothing is left to try."""
        return sampler.exhausted(self.history, self._space) is not None

    def propose(self, tid: int, domain: Any, trials: Any, sampler: Sampler, rng: np.random.Generator) -> dict[str, Any]:
        """Return the document of a new trial."""
        number = self._begin(tid, {})
        params = sampler.ask(self._space, self.history, number, rng)
        chosen = {n: params[n] for n, p in self._params.items() if n in params and p.active(params)}
        self._take(number, chosen)
        misc = {"tid": tid, "cmd": domain.cmd, "workdir": domain.workdir}
        misc["idxs"] = {n: [tid] if n in chosen else [] for n in self._params}
        misc["vals"] = {n: [chosen[n]] if n in chosen else [] for n in self._params}
        (doc,) = trials.new_trial_docs([tid], [None], [domain.new_result()], [misc])
        return dict(doc)

    def _begin(self, tid: int, values: dict[str, Any]) -> int:
        if tid not in self._numbers:
            self._numbers[tid] = len(self.history.trials)
            self._apply("created", -1, (0.0, False, 0.0))
            self._open.add(tid)
            self._take(self._numbers[tid], values)
        return self._numbers[tid]

    def _take(self, number: int, values: dict[str, Any]) -> None:
        inside = {n: v for n, v in values.items() if n in self._space and self._space[n].contains(v)}
        if inside:
            stored = self._space.pack(self._space.check(inside))
            self._apply("params", number, (self._space.id, stored))

    def _end(self, tid: int, result: dict[str, Any]) -> None:
        loss = result.get("loss") if result.get("status") == hyperopt.STATUS_OK else None
        ok = loss is not None and not math.isnan(loss)
        end = ("COMPLETE", float(loss or 0.0), 0.0) if ok else ("FAILED", None, 0.0)
        self._apply("finished", self._numbers[tid], end)
        self._open.discard(tid)

    def _apply(self, kind: str, number: int, data: Any) -> None:
        self._events += 1
        self.history.apply([Event("hyperopt", self._events, kind, number, data)])


_BRIDGES: WeakKeyDictionary[Any, _Bridge] = WeakKeyDictionary()


class _Search:
    """The told trials of one history as Hyperopt's trials of one space."""

    def __init__(self, space: Space, weighted: bool) -> None:
        self._space = space
        self._domain = hyperopt.Domain(lambda _: 0.0, {n: _expression(n, d, weighted) for n, d in space.items()})
        self._trials = hyperopt.Trials()
        self._read = 0

    def next(self, algorithm: Algorithm, history: History, number: int, seed: int) -> Array:
        """Return the point ``(d,)`` that the algorithm suggests."""
        new = history.told[self._read :]
        if new:
            units = history.encoded(self._space).units[new]
            losses = history.loss(np.array(new))
            told = [
                (history.trials[n], u, x) for n, u, x in zip(new, units, losses, strict=True) if not np.isnan(u).all()
            ]
            docs = [self._doc(trial, u, float(loss)) for trial, u, loss in told]
            self._trials.insert_trial_docs(docs)
            self._trials.refresh()
            self._read += len(new)
        (doc,) = algorithm([number], self._domain, self._trials, seed)
        vals = doc["misc"]["vals"]
        rest = np.random.default_rng(seed).random(len(self._space))
        return np.array(
            [
                _place(d, vals[n][0]) if len(vals.get(n, ())) else u
                for (n, d), u in zip(self._space.items(), rest, strict=True)
            ]
        )

    def _doc(self, trial: FrozenTrial, units: Array, loss: float) -> dict[str, Any]:
        dists = zip(self._space.items(), units.tolist(), strict=True)
        values = {n: [] if math.isnan(u) else [_value(d, u)] for (n, d), u in dists}
        misc = {"tid": trial.number, "cmd": self._domain.cmd, "workdir": self._domain.workdir, "vals": values}
        misc["idxs"] = {n: [trial.number] * len(v) for n, v in values.items()}
        ok = math.isfinite(loss)
        result = {"status": hyperopt.STATUS_OK if ok else hyperopt.STATUS_FAIL, "loss": loss if ok else None}
        (doc,) = self._trials.new_trial_docs([trial.number], [None], [result], [misc])
        times = {"book_time": trial.datetime_start, "refresh_time": trial.datetime_complete}
        return {**doc, **times, "state": hyperopt.JOB_STATE_DONE}


_SEARCHES: Kept[tuple[Space, bool], _Search] = Kept()


def _by_level(dist: Distribution) -> bool:
    return dist.levels is not None and not isinstance(dist, Categorical) and not (isinstance(dist, Int) and dist.log)


def _expression(name: str, dist: Distribution, weighted: bool) -> Any:
    """Return the expression that Hyperopt searches for a parameter: a choice, a level or a place in [0, 1]."""
    if isinstance(dist, Categorical):
        if dist.weights is not None and weighted:
            return hp.pchoice(name, list(zip(dist.weights, range(dist.levels), strict=True)))
        return hp.choice(name, list(range(dist.levels)))
    if _by_level(dist) and (dist.levels or 0) > 1:
        return hp.quniform(name, -0.5, (dist.levels or 1) - 0.5, 1)
    return hp.uniform(name, 0.0, 1.0)


def _value(dist: Distribution, u: float) -> float | int:
    """Return what `_expression` has for a place in the unit interval."""
    if isinstance(dist, Categorical):
        return min(int(u * dist.levels), dist.levels - 1)
    return float(min(int(u * dist.levels), dist.levels - 1)) if _by_level(dist) and dist.levels else float(u)


def _place(dist: Distribution, value: Any) -> float:
    """Return the place in the unit interval of a value of `_expression`."""
    if isinstance(dist, Categorical) or (_by_level(dist) and (dist.levels or 0) > 1):
        return (min(max(int(value), 0), (dist.levels or 1) - 1) + 0.5) / (dist.levels or 1)
    return min(max(float(value), 0.0), 1.0)
