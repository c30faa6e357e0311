"""Optuna: its studies with inloop's samplers and pruners, and studies moved from one to the other."""

from __future__ import annotations

import json
import math
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import inloop
import numpy as np
import optuna
from inloop import FrozenTrial, Space, TrialState
from inloop.distributions import Distribution
from inloop.events import Event, check_json
from inloop.history import History
from inloop.integrations._optuna_forms import (
    STATES,
    as_inloop,
    as_optuna,
    as_theirs,
    drawn,
    feasible,
    outcome,
    plain,
    takes,
)
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

_THEIRS = {TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE, TrialState.PRUNED: optuna.trial.TrialState.PRUNED}
_NAMED = 20  # a warning names so many things


class Sampler(optuna.samplers.BaseSampler):
    """Has an Optuna study propose parameters with one of inloop's samplers.

    The objective stays as it is, conditions and ranges that change included: what its trials have suggested so
    far is proposed jointly. A parameter met for the first time is drawn uniformly. Workers that share a
    storage learn from each other's trials and keep away from those that run; a proposal is drawn from the
    seed and the trial's number, so that workers of equal seeds do not repeat each other. Trials that break one of
    Optuna's constraints count as failed.

    Args:
        sampler: One of `inloop.samplers` or its name; None: `AutoSampler`.
        seed: None: made from the study's name, which Optuna makes up where none is given.

    Raises:
        ValueError: When asked, if the study has several objectives.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=Sampler(seed=0))
        >>> study.optimize(lambda trial: (trial.suggest_float("x", -9, 9) - 3) ** 2, n_trials=20)
        >>> study.best_value < 0.01
        True
    """

    def __init__(self, sampler: inloop.samplers.Sampler | str | None = None, seed: int | None = None) -> None:
        self.sampler = inloop.samplers.from_name(sampler)
        self.seed = seed
        self._mirrors = _Mirrors()

    def __repr__(self) -> str:
        return f"Sampler({self.sampler!r}" + (f", seed={self.seed})" if self.seed is not None else ")")

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        with self._mirrors.of(study, self.seed, update=True) as mirror:
            seen = mirror.history.union.space
            space = self.sampler.space or seen
            if space is None or seen is None:
                mirror.asked[trial.number] = space, {}
                return {}
            search = {n: mirror.as_optuna(n, seen[n]) for n in space if n in seen}
            mirror.asked[trial.number] = space, search
            return search

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with self._mirrors.of(study, self.seed) as mirror:
            space, search = mirror.asked.pop(trial.number, (None, None))
            if search is None or search != search_space:  # not what was inferred
                dists = {n: d for n, old in search_space.items() if (d := as_inloop(old)) is not None}
                space = Space(dists) if dists else None
            if space is None:
                return {}
            rng = np.random.default_rng((mirror.history.seed, trial.number))
            proposal = self.sampler.ask(space, mirror.history, trial.number, rng)
            mirror.propose(trial.number, space, proposal)
        return {n: v for n, v in proposal.items() if n in search_space and takes(search_space[n], v)}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        with self._mirrors.of(study, self.seed) as mirror:
            if trial.number < len(mirror.history.trials):
                proposed = mirror.history.trials[trial.number].proposed
                if param_name in proposed and takes(param_distribution, proposed[param_name]):
                    return proposed[param_name]
            seed = (mirror.history.seed, trial.number, zlib.crc32(param_name.encode()))
        dist = as_inloop(param_distribution)
        u = np.random.default_rng(seed).random()
        return drawn(param_name, param_distribution, u) if dist is None else dist.from_unit(u)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if self.sampler.space is None:
            return
        with self._mirrors.of(study, self.seed, update=True) as mirror:
            over = self.sampler.exhausted(mirror.history, self.sampler.space)
        if over is not None:
            with suppress(RuntimeError):  # where the user tells, there is no loop to stop
                study.stop()


class Pruner(optuna.pruners.BasePruner):
    """Has an Optuna study end trials with one of inloop's pruners.

    Args:
        pruner: One of `inloop.pruners` or its name; None: `SuccessiveHalvingPruner`.
        seed: Of the brackets of `HyperbandPruner`; None: made from the study's name. Workers need the same one.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(pruner=Pruner("median"))
        >>> study.pruner
        Pruner(MedianPruner())
    """

    def __init__(self, pruner: inloop.pruners.Pruner | str | None = None, seed: int | None = None) -> None:
        self.pruner = inloop.pruners.from_name(pruner)
        self.seed = seed
        self._mirrors = _Mirrors()

    def __repr__(self) -> str:
        return f"Pruner({self.pruner!r}" + (f", seed={self.seed})" if self.seed is not None else ")")

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        with self._mirrors.of(study, self.seed, update=True) as mirror:
            record = mirror.history.trials[trial.number]
            if record.number in mirror.stopped or 0 not in record.curves:
                return record.number in mirror.stopped
            since = mirror.judged.get(record.number, 0)
            mirror.judged[record.number] = len(record.curves[0])
            if record.finished or not self.pruner.prune(mirror.history, record, 0, since):
                return False
            mirror.stopped.add(record.number)
            return True


def to_optuna_study(study: inloop.Study, **options: Any) -> optuna.Study:
    """Return a study of Optuna with the finished trials of ``study``, for its plots or to go on there.

    Of several curves of a trial the first one goes along; a LOST trial becomes FAIL, and so does a value of NaN; a
    choice that Optuna cannot store becomes its label, and a distribution that it does not have the range of the values
    taken. Of a parameter that changed, each trial gets all choices there were, in the order in which they appeared;
    integers and floats become floats, and ranges of which only some are searched by their logarithm lose that.

    Args:
        study: What to copy.
        options: As in ``optuna.create_study``: ``storage``, ``study_name``, ``sampler``, ...

    Example:
        >>> study = inloop.create_study(seed=0, space={"x": inloop.Float(0, 1)})
        >>> study.optimize(lambda trial: trial.params["x"], n_trials=5)
        >>> to_optuna_study(study).best_value == study.best_value
        True
    """
    done = [t for t in study.trials if t.finished]
    params: dict[int, dict[str, Any]] = {t.number: {} for t in done}
    dists: dict[int, dict[str, BaseDistribution]] = {t.number: {} for t in done}
    for name in dict.fromkeys(n for t in done for n in t.params):
        having = [t for t in done if name in t.params]
        for trial, (dist, value) in zip(having, as_theirs(name, having), strict=True):
            dists[trial.number][name], params[trial.number][name] = dist, value
    frozen = [_frozen(t, params[t.number], dists[t.number]) for t in done]  # before there is a study
    out = optuna.create_study(**{**options, "direction": study.direction})
    out.add_trials(frozen)
    for key, value in study.user_attrs.items():
        out.set_user_attr(key, value)
    return out


def from_optuna_study(study: optuna.Study, **options: Any) -> inloop.Study:
    """Return an inloop study with the finished and enqueued trials of an Optuna study.

    Trials keep their parameters, ranges, reports, times and attributes (those that are not JSON by their repr). A
    complete trial that breaks one of Optuna's constraints becomes FAILED: neither study takes it for the best one.

    Args:
        study: What to copy; it must have one objective.
        options: As in `create_study`, ``direction`` aside.

    Raises:
        ValueError: If the study has several objectives.

    Warns:
        UserWarning: Once, with a list of what was left out: enqueued values that lie outside the ranges seen or are not
            JSON, values of ranges that inloop does not have, reports at steps below 0, values of trials that break a
            constraint.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> theirs = optuna.create_study()
        >>> theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
        >>> ours = from_optuna_study(theirs, seed=0)
        >>> ours.best_params == theirs.best_params
        True
    """
    out = inloop.create_study(direction=_direction(study), **options)
    trials = study.get_trials(deepcopy=False)
    left = [text for t in trials if t.state in STATES for text in _copy(t, out)]
    waiting = (t for t in trials if t.state is optuna.trial.TrialState.WAITING)
    left += [text for t in waiting for text in _enqueue(t, out)]  # once all ranges are known
    for key, value in _as_json(study.user_attrs).items():
        out.set_user_attr(key, value)
    if left:
        more = f"; and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        warnings.warn(f"from_optuna_study left out: {'; '.join(left[:_NAMED])}{more}.", stacklevel=2)
    return out


class _Mirror:
    """A history that follows an Optuna study.

    Attributes:
        history: Trial n is Optuna's trial n; waiting ones count as running.
        asked: Trial number to the space to propose and its form for Optuna.
        judged: Trial number to how many of its reports the pruner has seen.
        stopped: Numbers of the trials that the pruner has stopped.
    """

    def __init__(self, study: optuna.Study, seed: int | None) -> None:
        self._events = 0
        self._open: dict[int, set[int]] = {}  # trials not known to be finished -> steps that were taken over
        self._originals: dict[str, BaseDistribution] = {}
        self._spaces: dict[tuple[str, str], Space | None] = {}
        self.history = History()
        self.asked: dict[int, tuple[Space | None, dict[str, BaseDistribution]]] = {}
        self.judged: dict[int, int] = {}
        self.stopped: set[int] = set()
        seed = zlib.crc32(study.study_name.encode()) if seed is None else seed
        self._apply("study", -1, {"name": study.study_name, "direction": _direction(study), "seed": seed, "retry": 0})

    def update(self, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
        """Take over what is new in all trials of the Optuna study."""
        for trial in trials[len(self.history.trials) :]:
            start = trial.datetime_start
            self._apply("created", -1, (time.time() if start is None else start.timestamp(), False, 0.0))
            self._open[trial.number] = set()
        for number in list(self._open):
            self._follow(trials[number])

    def propose(self, number: int, space: Space, proposal: dict[str, Any]) -> None:
        """Note what a running trial was given."""
        if number < len(self.history.trials):
            self.history.provide(space)
            self._apply("proposed", number, (space.id, space.pack(proposal)))

    def as_optuna(self, name: str, dist: Distribution) -> BaseDistribution:
        """Return a distribution in Optuna's form."""
        original = self._originals[name]
        if isinstance(original, CategoricalDistribution):
            return original
        return as_optuna(dist)

    def _follow(self, trial: optuna.trial.FrozenTrial) -> None:
        number, params, state = trial.number, dict(trial.params), trial.state
        known = self.history.trials[number].params
        for name in [n for n in params if n not in known]:  # in their order, which a set would not keep
            self._take(number, name, trial.distributions[name], params[name])
        steps = self._open[number]
        for step, value in sorted(dict(trial.intermediate_values).items()):
            if step >= 0 and step not in steps:
                steps.add(step)
                self._apply("report", number, (0, step, value))
        if state in STATES:
            end = time.time() if trial.datetime_complete is None else trial.datetime_complete.timestamp()
            self._apply("finished", number, (*outcome(trial), end))
            del self._open[number]
            self.asked.pop(number, None)
            self.judged.pop(number, None)
            self.stopped.discard(number)

    def _take(self, number: int, name: str, original: BaseDistribution, value: Any) -> None:
        key = name, repr(original)
        if key not in self._spaces:
            dist = as_inloop(original)
            self._spaces[key] = None if dist is None else Space({name: dist})
        space = self._spaces[key]
        if space is None:
            return
        self._originals[name] = original
        self.history.spaces.setdefault(space.id, space)
        if isinstance(original, CategoricalDistribution):
            stored = space.pack({name: value})
        else:
            stored = {name: (int if isinstance(original, IntDistribution) else float)(value)}
        self._apply("params", number, (space.id, stored))

    def _apply(self, kind: str, number: int, data: Any) -> None:
        self._events += 1
        self.history.apply([Event("optuna", self._events, kind, number, data)])


class _Mirrors:
    """The mirrors of the studies that a sampler or pruner serves; left behind when it is pickled or copied."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[optuna.Study, _Mirror] = WeakKeyDictionary()
        self._lock = threading.RLock()

    @contextmanager
    def of(self, study: optuna.Study, seed: int | None, update: bool = False) -> Iterator[_Mirror]:
        """Lend the mirror of a study, brought up to date if asked for."""
        study = getattr(study, "_study", study)  # Optuna's Hyperband hands out views of a part of the trials
        with self._lock:
            if study not in self._known:
                self._known[study] = _Mirror(study, seed)
            if update:
                self._known[study].update(study.get_trials(deepcopy=False))
            yield self._known[study]

    def __reduce__(self) -> Any:
        return _Mirrors, ()


def _direction(study: optuna.Study) -> str:
    if len(study.directions) != 1:
        raise ValueError(f"inloop has one objective; study {study.study_name!r} has {len(study.directions)}.")
    return "maximize" if study.direction is optuna.study.StudyDirection.MAXIMIZE else "minimize"


def _told(trial: FrozenTrial) -> float | None:
    """Return the value that Optuna keeps with a trial: of a pruned one the last report; None for NaN."""
    told = trial.value if trial.state is TrialState.COMPLETE else None
    if trial.state is TrialState.PRUNED and trial.curve:
        told = list(trial.curve.values())[-1]
    return None if told is None or math.isnan(told) else told


def _frozen(trial: FrozenTrial, params: dict[str, Any], dists: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    state, value = _THEIRS.get(trial.state, optuna.trial.TrialState.FAIL), _told(trial)
    if state is optuna.trial.TrialState.COMPLETE and value is None:
        state = optuna.trial.TrialState.FAIL
    frozen = optuna.trial.create_trial(
        state=state,
        value=value,
        params=params,
        distributions=dists,
        user_attrs=trial.user_attrs,
        intermediate_values=trial.curve,
    )
    frozen.datetime_start, frozen.datetime_complete = trial.datetime_start, trial.datetime_complete
    return frozen


def _copy(trial: optuna.trial.FrozenTrial, study: inloop.Study) -> list[str]:
    """Add a finished trial of Optuna's to a study, and return what it does not keep."""
    log, dists = study._log, {n: as_inloop(d) for n, d in trial.distributions.items()}
    known = {n: d for n, d in dists.items() if d is not None}
    space = Space(known) if known else None
    assert trial.datetime_complete is not None
    start = trial.datetime_start or trial.datetime_complete  # one that was told while it waited has no start
    with log.lock:
        log.write(("created", -1, (start.timestamp(), False, log.lease)))
        number = log.history.newest[log.worker]
        if space is not None:
            study._write_params("params", number, space, {n: space[n].cast(trial.params[n]) for n in space})
        reports = sorted(trial.intermediate_values.items())
        log.write(
            *(("report", number, (0, int(step), float(v))) for step, v in reports if step >= 0),
            *(("attr", number, kv) for kv in _as_json(trial.user_attrs).items()),
            ("finished", number, (*outcome(trial), trial.datetime_complete.timestamp())),
        )
    left = [f"{n}={trial.params[n]!r} of trial {trial.number}" for n, d in dists.items() if d is None]
    left += [f"the report {v!r} of trial {trial.number} at step {step}, below 0" for step, v in reports if step < 0]
    if trial.state is optuna.trial.TrialState.COMPLETE and not feasible(trial):
        left.append(f"the value {trial.value!r} of trial {trial.number}, which breaks a constraint")
    return left


def _enqueue(trial: optuna.trial.FrozenTrial, study: inloop.Study) -> list[str]:
    """Enqueue a waiting trial of Optuna's, and return what it does not keep."""
    space = study.space or study.sampler.space
    dists: Mapping[str, Distribution] = study.history.dists if space is None else space
    fixed_params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}  # those of retried trials are there
    given = {name: plain(value) for name, value in fixed_params.items()}
    as_json = space is None and not given.keys() <= dists.keys()  # ranges that are not known yet
    fixed, left = {}, []
    for name, value in given.items():
        dist = dists.get(name)
        if (dist is None and space is not None) or (dist is not None and not dist.contains(value)):
            left.append(f"the enqueued {name}={value!r} of trial {trial.number}, which lies outside {dist or space!r}")
        elif as_json and not _is_json(value):
            left.append(f"the enqueued {name}={value!r} of trial {trial.number}, which is not JSON")
        else:
            fixed[name] = value if dist is None else dist.cast(value)
    study.enqueue_trial(fixed, user_attrs=_as_json(trial.user_attrs))
    return left


def _is_json(value: Any) -> bool:
    try:
        check_json(value)
    except TypeError:
        return False
    return True


def _as_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON: those of numpy as numbers and lists, what JSON does not have by its repr."""
    return {str(k): _json(v) for k, v in attrs.items()}


def _json(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, default=_json_default))
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, a list within itself
        return repr(value)


def _json_default(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else repr(value)
