"""Study: ask for parameters, report, tell; it binds the parts and holds no algorithm."""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import hints, loop, pruners, samplers
from .distributions import Distribution, Sampled, own
from .events import Event, as_attr, check_json
from .history import History
from .log import Log
from .record import COMPLETE, FAILED, LOST, RUNNING, FrozenTrial, TrialState
from .samplers import StudyStopped
from .space import Space
from .storage import MemoryStorage, Storage, StorageError
from .trial import Trial, TrialLost, as_enqueued, as_value, as_whole
from .union import check_same_kind

if TYPE_CHECKING:
    import pandas

_REPR_WAIT = 1.0  # seconds for which `repr` waits for a busy study

#: Default of ``lease``: seconds of silence after which a process counts as dead.
LEASE = 60.0


class Study:
    """A search: made by `create_study` or `load_study`.

    Attributes:
        study_name: Its name in the storage.
        sampler, pruner: What proposes parameters and ends trials early.
        space: The declared `Space`, None for define-by-run objectives.
        lease: Seconds of silence after which a process that shares the study counts as dead.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(seed=0)
        >>> study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=20)
        >>> study.best_value < 0.1
        True
    """

    def __init__(
        self,
        study_name: str,
        storage: Storage,
        sampler: samplers.Sampler,
        pruner: pruners.Pruner,
        space: Space | None = None,
        lease: float = LEASE,
    ) -> None:
        self.study_name = study_name
        self.sampler = sampler
        self.pruner = pruner
        self.space = space
        self.lease = lease
        self._log = Log(study_name, storage, lease)
        self._generator = np.random.Generator(np.random.Philox(key=0))
        self._fresh_state: Any = self._generator.bit_generator.state
        self._unsure = False  # whether there may be running trials of this process that nobody has got
        self._singles: dict[str, Space] = {}  # name -> space of the one distribution last suggested
        self._stopped = False
        self._led = False  # whether ranks launched by this process follow its trials, see `inloop.ranks`
        self._hinted: set[str] = set()  # kinds of hints that were given
        declared = self._history.header.get("space")
        if declared is not None:
            self.space = self._as_declared(Space.from_json(declared, labels=True), space)
            self._history.provide(self.space)

    # What is known

    @property
    def direction(self) -> str:
        """``"minimize"`` or ``"maximize"``."""
        return str(self._history.header["direction"])

    @property
    def _history(self) -> History:
        return self._log.history

    @property
    def history(self) -> History:
        """All that the study has seen, up to date."""
        with self._log.lock:
            self._log.sync()
            return self._log.history

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        return list(self.history.trials)

    @property
    def best_trial(self) -> FrozenTrial:
        """The complete trial with the best value, the first of equals.

        Raises:
            ValueError: If no trial is complete with a value other than NaN.
        """
        best = self.history.best
        if best is None:
            raise ValueError(f"No trial is complete yet, so there is no best one: {self._counts()}.")
        return best

    @property
    def best_value(self) -> float:
        """Value of `best_trial`."""
        value = self.best_trial.value
        assert value is not None
        return value

    @property
    def best_params(self) -> dict[str, Any]:
        """Parameters of `best_trial`."""
        return {name: own(value) for name, value in self.best_trial.params.items()}

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What `set_user_attr` was given."""
        return dict(self.history.user_attrs)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a JSON value with the study; a TypeError names what is not JSON."""
        self._log.write(("attr", -1, as_attr(key, value)))

    def trials_dataframe(self) -> pandas.DataFrame:
        """Return a pandas DataFrame with one row a trial, columns as in Optuna.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("trials_dataframe needs pandas: pip install pandas") from None
        with self._log.lock:  # others may run
            rows = [
                {
                    "number": t.number,
                    "value": np.nan if t.value is None else t.value,
                    "datetime_start": t.datetime_start,
                    "datetime_complete": t.datetime_complete,
                    "duration": t.duration,
                    **{f"params_{k}": v for k, v in t.params.items()},
                    **{f"user_attrs_{k}": v for k, v in t.user_attrs.items()},
                    "reports": t.reports,
                    "state": t.state.name,
                }
                for t in self.trials
            ]
        names = list(dict.fromkeys(k for row in rows for k in row if k not in ("reports", "state")))
        return pandas.DataFrame(rows, columns=[*names, "reports", "state"])

    # The loop

    def ask(self, space: Space | Mapping[str, Any] | None = None) -> Trial:
        """Start a trial.

        Args:
            space: Parameters to propose now, a `Space` or a dict of distributions; by default
                the study's own space, or none: then the trial's ``suggest_*`` calls take them one by one.

        Returns:
            The trial, with ``params`` filled where a space is known.

        Raises:
            StudyStopped: If the study was stopped or its grid is exhausted.
        """
        if self._stopped:
            raise StudyStopped("The study was stopped; study.optimize(...) or study.resume() goes on with it.")
        fixed, record = self._declared(space), None
        try:
            with self._log.lock:
                self._log.flush()  # a sampler is to know what running trials of this process have taken and reported
                if self._unsure:
                    self._log.abandon()
                    self._unsure = False
                record = self._start_alone(fixed) if self._log.alone else None
                if record is None:
                    record = self._start(fixed)
                return Trial(self, record, self._propose(record, fixed))
        except BaseException as error:
            self._unsure = self._unsure or isinstance(error, StorageError)  # whether a trial was started or ended
            if record is not None:
                self._log.finish(record, FAILED, None)
            elif not isinstance(error, StudyStopped | StorageError):  # an interrupt, say, right after the start
                self._log.abandon()
            raise

    def _start(self, fixed: Space | None) -> FrozenTrial:
        """Return a new trial, or raise `StudyStopped` where the grid is exhausted."""
        self._log.sync()
        self._log.expire()
        over = self._exhausted(fixed)
        if over is not None:
            raise StudyStopped(over)
        return self._log.create(takes_queued=True)

    def _start_alone(self, fixed: Space | None) -> FrozenTrial | None:
        """Do what `_start` does without reading first; None where others have written, or the grid seems exhausted."""
        self._log.expire()
        return self._log.create_next() if self._exhausted(fixed) is None else None

    def _exhausted(self, fixed: Space | None) -> str | None:
        return None if self._history.queue else self.sampler.exhausted(self._history, fixed or self.sampler.space)

    def _propose(self, record: FrozenTrial, fixed: Space | None) -> dict[str, Any]:
        """Return, and write, the parameters of a new trial; where a space is declared, enqueued ones among them."""
        joint = fixed or self.sampler.space or self._history.union.space
        if joint is None:
            return {}
        queued = self._fitting(record, fixed) if fixed is not None and record.queued else {}
        params = fixed.complete(queued, self._stream(record.number).random) if fixed is not None and queued else {}
        if not params or params.keys() - queued.keys():  # the sampler proposes what is missing
            rng = self._stream(record.number)
            params = self.sampler.ask(joint, self._history, record.number, rng)
            if not isinstance(params, dict):
                raise TypeError(f"{self.sampler!r} must propose a dict of parameters, got {params!r}.")
            params = joint.check(params, f"{type(self.sampler).__name__} proposed")
            if fixed is not None and queued:
                params = fixed.complete({**params, **queued}, rng.random)
        if fixed is not None:
            self._write_params("params", record.number, fixed, params)
        elif params:
            self._write_params("proposed", record.number, joint, params)
        return params

    @staticmethod
    def _fitting(record: FrozenTrial, fixed: Space) -> dict[str, Any]:
        """Return the enqueued parameters that the space of this ask has, and warn of others."""
        queued = {n: as_enqueued(fixed[n], v) if n in fixed else v for n, v in (record.queued or {}).items()}
        fits = {n: v for n, v in queued.items() if n in fixed and fixed[n].contains(v)}
        if others := {n: v for n, v in queued.items() if n not in fits}:
            warnings.warn(
                f"trial {record.number}: the enqueued {others} do not lie in {fixed!r}; they are left out.",
                stacklevel=4,
            )
        return fixed.check(fits, "enqueued")

    def ask_batch(self, n: int, space: Space | Mapping[str, Any] | None = None) -> list[Trial]:
        """Start ``n`` trials at once; each is proposed knowing that those before it are running.

        Returns:
            The trials, fewer than ``n`` where a grid or a finite space ends before.

        Raises:
            StudyStopped: If the study was stopped, or there is nothing left to try.
        """
        if n < 1:
            raise ValueError(f"ask_batch: n must be at least 1, got {n!r}.")
        trials: list[Trial] = []
        try:
            while len(trials) < n:
                trials.append(self.ask(space))
        except StudyStopped:
            if not trials:
                raise
        except BaseException:  # nobody has got them
            self._log.abandon(trial._record for trial in trials)
            raise
        return trials

    def tell(
        self, trial: Trial | int, value: float | None = None, state: TrialState | str | None = None
    ) -> FrozenTrial:
        """End a trial.

        Args:
            trial: The trial or its number.
            value: Its value. NaN makes it FAILED.
            state: COMPLETE (default), PRUNED or FAILED. A trial whose pruner has said stop is
                recorded as PRUNED whatever is told.

        Returns:
            What the study now knows of the trial.

        Raises:
            ValueError: If the trial is unknown or another study's, was told before (the first tell wins), or a
                complete one has no value.
            TypeError: If ``value`` is not a number.
        """
        if not (isinstance(trial, Trial) and trial.study._log is self._log):
            self._log.flush_twins()
        with self._log.lock:
            record = self._record(trial)
            if isinstance(trial, Trial) and trial._record is record and not record.finished:
                # only what cannot be refused: the rest is judged by all that the log has
                if state is None and isinstance(value, float | int):
                    value = as_value(value, f"trial {record.number}: the value")
                    if trial._end_alone(COMPLETE if value == value else FAILED, value):
                        return self._told(record)
                trial._send()
            if record.finished:
                _refuse_tell(record)
            end = _end_state(state, f"trial {record.number}")
            if value is not None:
                value = as_value(value, f"trial {record.number}: the value")
            elif end is COMPLETE and not record.pruned:
                raise ValueError(f"trial {record.number}: a complete trial needs a value; or tell state='failed'.")
            if end is COMPLETE and value is not None and value != value:
                end = FAILED
            self._log.finish(record, end, value)
            return self._told(record)

    def _told(self, record: FrozenTrial) -> FrozenTrial:
        """Return a trial that this process has just ended, unless another one has come first."""
        if record.ender != self._log.worker:
            _refuse_tell(record)
        return record

    def optimize(
        self,
        objective: Callable[[Trial], float],
        n_trials: int | None = None,
        timeout: float | None = None,
        n_jobs: int = 1,
        executor: Any = None,
        callbacks: Sequence[Callable[[Study, FrozenTrial], None]] | None = None,
        catch: type[Exception] | tuple[type[Exception], ...] = (),
        show_progress_bar: bool = False,
    ) -> None:
        """Run trials of ``objective`` until one of the limits is met, `stop` is called or the grid ends.

        Args:
            objective: Takes a `Trial`, returns its value.
            n_trials: So many trials; None: no limit.
            timeout: Start no trial after so many seconds; None: no limit.
            n_jobs: Threads, -1 for one a core; with an executor, trials at work at a time (1 and -1: as
                many as it has workers).
            executor: Run trials on it: any executor with ``submit`` and futures as in ``concurrent.futures``
                (its process pool, loky, dask's ``client.get_executor()``, mpi4py's). Trials are pickled to the
                workers and report from there, pruning included; the trial of a worker that died is LOST
                and its parameters are tried again.
            callbacks: Each is called with the study and the finished trial.
            catch: Exceptions that make a trial FAILED and the study go on; others are raised
                after the trial is recorded as FAILED. All are where ranks follow this process (Lightning's
                "ddp"), as the others may still wait in the training.
            show_progress_bar: Show one (needs tqdm).

        Raises:
            TypeError: If the objective returns something other than one number.
            BrokenExecutor: If the executor's workers cannot start.
            KeyboardInterrupt: On Ctrl-C; everything told is kept and no trial stays RUNNING.

        Warns:
            SpaceWarning: Once, where the best values lie at the edge of a range, or a range wants ``log=True``.
        """
        self._stopped = False
        try:
            loop.run(
                self, objective, n_trials, timeout, n_jobs, executor, tuple(callbacks or ()), catch, show_progress_bar
            )
        finally:
            self._log.storage.settle()
        hints.give(self, stacklevel=2)

    def stop(self) -> None:
        """Start no more trials; those running end as they would."""
        self._stopped = True

    def resume(self) -> None:
        """Allow `ask` again after `stop`."""
        self._stopped = False

    def enqueue_trial(self, params: Mapping[str, Any], user_attrs: Mapping[str, Any] | None = None) -> None:
        """Have the next trial use these parameters; those not given are proposed as usual.

        Raises:
            ValueError: If a name is not in the study's space or a value is out of its range.
        """
        attrs = dict(as_attr(*kv) for kv in (user_attrs or {}).items())
        with self._log.lock:
            self._log.write(("enqueued", -1, (*self._packed(params, "enqueue_trial"), attrs)))

    def add_trial(
        self,
        params: Mapping[str, Any],
        value: float | None = None,
        curve: Mapping[int, float] | None = None,
        state: TrialState | str | None = None,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> FrozenTrial:
        """Add a trial that was evaluated elsewhere.

        Args:
            params: Its parameters.
            value: Its value; needed for a COMPLETE trial. NaN makes it FAILED.
            curve: Step to reported value.
            state: COMPLETE (default), PRUNED or FAILED.
            user_attrs: JSON values to keep with it.

        Raises:
            ValueError, TypeError: As `enqueue_trial` and `tell`; nothing is added then.
        """
        end = _end_state(state, "add_trial")
        if value is None and end is COMPLETE:
            raise ValueError("add_trial: a complete trial needs a value.")
        value = None if value is None else as_value(value, "add_trial: value")
        if end is COMPLETE and value != value:
            end = FAILED
        reports = [
            (0, as_whole(s, "add_trial: a step of curve"), as_value(v, f"add_trial: curve[{s}]"))
            for s, v in (curve or {}).items()
        ]
        attrs = dict(as_attr(*kv) for kv in (user_attrs or {}).items())
        with self._log.lock:
            packed = self._packed(params, "add_trial")
            n = self._log.create(takes_queued=False).number
            self._log.write(
                ("params", n, packed),
                *(("report", n, r) for r in reports),
                *(("attr", n, kv) for kv in attrs.items()),
                ("finished", n, (end.name, value, time.time())),
            )
            return self._history.trials[n]

    def learn_from(self, other: Study) -> int:
        """Let the model start from the trials of an earlier study: a warm start.

        They are not trials of this study, and never its best one: they count only in the models of `GPSampler`,
        `TPESampler` and `AutoSampler`, shifted and scaled to this study's values as its own trials come in. The spaces
        need but overlap: parameters that only one of them has are no obstacle, and trials outside this study's ranges
        are passed over (at once where its space is declared, else as its ranges show). Of many trials the best and
        some of the rest are taken.

        Args:
            other: A study of the same direction. What it learns later is not followed; call again for that.

        Returns:
            How many trials were taken over now.

        Raises:
            ValueError: If the directions differ, or ``other`` is this study.

        Example:
            >>> import inloop
            >>> space = {"x": inloop.Float(0, 1)}
            >>> first = inloop.create_study(space=space, seed=0)
            >>> first.optimize(lambda trial: (trial.params["x"] - 0.30) ** 2, n_trials=15)
            >>> second = inloop.create_study(space=space, seed=0)
            >>> second.learn_from(first)
            15
            >>> second.optimize(lambda trial: 7 + 3 * (trial.params["x"] - 0.31) ** 2, n_trials=3)
            >>> len(second.trials), second.best_value < 7.01
            (3, True)
        """
        from .samplers import earlier

        if other.direction != self.direction:
            raise ValueError(
                f"learn_from: {other.study_name!r} has the direction {other.direction!r}, this one {self.direction!r}."
            )
        uid = other._history.uid
        if uid == self._history.uid:  # another storage object may have led to the same log
            raise ValueError(f"learn_from: {other.study_name!r} is this study.")
        with other._log.lock:
            space, lessons = earlier.lessons(other, self.space)
        if space is None:
            return 0
        source = (uid, other.study_name)
        with self._log.lock:
            self._log.sync()
            self._declare(space)
            new = [x for x in lessons if (uid, x[0]) not in self._history.earlier]
            self._log.write(*(("learned", -1, (source, n, space.id, stored, v)) for n, stored, v in new))
        return len(new)

    def __repr__(self) -> str:
        # a sampler that is asked what it does may look things up
        if not self._log.lock.acquire(timeout=_REPR_WAIT):  # whoever has it may wait for the logger that asks
            return f"<Study {self.study_name!r}: {self.direction}, busy>"
        try:
            return self._describe()
        finally:
            self._log.lock.release()

    @property
    def _searched(self) -> Space | None:
        """The declared space, else the sampler's, else the union of what trials took; None before any took some."""
        return self.space or self.sampler.space or self._history.union.space

    def _describe(self) -> str:
        best = self._history.best
        top = "" if best is None or best.value is None else f", best {best.value:.6g} at trial {best.number}"
        text = f"<Study {self.study_name!r}: {self.direction}, {self._counts()}{top}, {self.sampler!r}, {self.pruner!r}"
        if isinstance(self.sampler, samplers.AutoSampler):
            text += f". {self.sampler.describe(self._searched, self._history)}"
        return text + ">"

    def __reduce__(self) -> Any:
        # a study in memory is copied with all its trials; others are opened again where they are
        parts = (self.study_name, self._log.storage, self.sampler, self.pruner, self.space, self.lease)
        if self._log.storage.shared:
            return Study, parts
        with self._log.lock:
            events = self._log.storage.read(self.study_name, 0)
            return copied, (events, list(self._history.spaces.values()), parts[0], *parts[2:])

    # What trials and the loop use

    def _should_prune(self, record: FrozenTrial, stream: int, since: int) -> bool:
        if record.pruned or record.state is not RUNNING:
            return True
        if not self.pruner.prune(self._log.history, record, stream, since):
            return False
        self._prune(record, stream)
        return True

    def _prune(self, record: FrozenTrial, stream: int) -> None:
        """Write that the pruner has said stop at the last report of ``stream``."""
        self._log.write(("pruned", record.number, (stream, record.curves[stream].steps[-1])))

    def _stream(self, number: int) -> np.random.Generator:
        """Return the random stream of a trial's proposal; the generator is shared, so use it under the lock."""
        # a counter-based generator is set to a new stream eight times faster than a new one is made
        state = self._fresh_state
        state["state"]["key"][:] = self._history.seed, number
        self._generator.bit_generator.state = state
        return self._generator

    def _alone(self, number: int) -> np.random.Generator:
        """Return the random stream of the parameters that a trial takes on its own."""
        return np.random.default_rng((self._history.seed, number))

    @staticmethod
    def _as_declared(stored: Space, given: Space | None) -> Space:
        """Return the study's space: as stored, or as given again where it holds what JSON cannot."""
        if given is not None:
            if given.id != stored.id:
                raise ValueError(f"The study's space is {stored!r}, not {given!r}.")
            return given
        if stored.has_labels:
            raise ValueError(
                f"The study's space holds values that are not stored; give the same space again: {stored!r}"
            )
        return stored

    def _declared(self, space: Space | Mapping[str, Any] | None) -> Space | None:
        if space is None:
            return self.space
        new = space if isinstance(space, Space) else Space(space)
        known = self._history.spaces.get(new.id)  # samplers keep what they know of a space by the object
        return known if known == new else new

    def _record(self, trial: Trial | int) -> FrozenTrial:
        if isinstance(trial, Trial):
            if trial.study._log is self._log:
                return trial._record
            if trial.study._history.uid != self._history.uid:
                raise ValueError(f"tell: this is trial {trial.number} of {trial.study!r}, not one of {self!r}.")
            trial = trial.number  # the same study, opened twice
        self._log.sync()
        known = self._history.trials
        if isinstance(trial, bool) or not isinstance(trial, int | np.integer):
            raise TypeError(f"tell: give a trial or its number, got {trial!r}.")
        if not 0 <= trial < len(known):
            raise ValueError(f"tell: there is no trial {trial}; the study has {len(known)} trials.")
        return known[trial]

    def _seen(self, name: str) -> Distribution | None:
        single = self._singles.get(name)
        return None if single is None else single.dists[0]

    def _check_seen(self, name: str, dist: Distribution) -> None:
        old = self._history.dists.get(name)
        if old is None or old is dist or old == dist:
            return
        with self._log.lock:
            history, single = self._history, Space({name: dist})
            if single.id in history.spaces:  # the log may hold its choices as labels
                history.provide(single)
            check_same_kind(name, history.dists[name], dist)

    def _single(self, name: str, dist: Distribution) -> Space:
        """Return the declared space of this one parameter."""
        single = self._singles.get(name)
        if single is None or single.dists[0] != dist:
            single = Space({name: dist})
            self._declare(single)  # first: a thread that finds it in `_singles` takes it for declared
            self._singles[name] = single
        return single

    def _write_params(self, kind: str, number: int, space: Space, params: Mapping[str, Any]) -> None:
        self._declare(space)
        packed = space.pack(params)
        if self._log.storage.shared and not space.columns.modelled.all():
            _check_drawn(space, packed)
        self._log.write((kind, number, (space.id, packed)))

    def _declare(self, space: Space) -> None:
        """Write a space to the log before its first use."""
        with self._log.lock:
            history = self._log.history
            if history.spaces.get(space.id) is not space:
                history.provide(space)  # the live one: it may hold what JSON cannot
            if space.id not in history.declared:
                self._log.write(("space", -1, {"id": space.id, "space": space.to_json()}))

    def _packed(self, params: Mapping[str, Any], what: str) -> tuple[str | None, dict[str, Any]]:
        """Return parameters from outside in stored form, with the id of the space they were checked by."""
        if not isinstance(params, Mapping):
            raise TypeError(f"{what}: params must be a dict, got {params!r}.")
        params = {n: v.item() if isinstance(v, np.generic) else v for n, v in params.items()}
        space = self.space
        if space is None and self.sampler.space is not None:
            space = self.sampler.space
            checked = space.check(params, what)
            if all(isinstance(v, bool | int | float | str | None) for v in checked.values()):
                return None, checked  # the objective has ranges of its own for them
        if space is None:
            union = self._history.union.space
            if union is None or not set(params) <= set(union):
                check_json(dict(params), what)
                for name, dist in self._history.dists.items():
                    if name in params and not dist.contains(params[name]):
                        raise ValueError(f"{what}: {name}={params[name]!r} lies outside {dist!r}.")
                return None, copy.deepcopy(params)
            space = union
        checked = space.check(params, what)
        self._declare(space)
        return space.id, space.pack(checked)

    def _counts(self) -> str:
        n = len(self._history.trials)
        parts = [f"{c} {s.name.lower()}" for s, c in sorted(self._history.states.items()) if c]
        return f"{n} trial{'s' * (n != 1)}" + (f" ({', '.join(parts)})" if parts else "")


def copied(events: list[Event], spaces: list[Space], name: str, *parts: Any) -> Study:
    """Return a copy in memory of a study; what a pickled `Study` calls."""
    storage = MemoryStorage()
    storage.create(name, events)
    study = Study(name, storage, *parts)
    for space in spaces:
        study._history.provide(space)
    return study


def _refuse_tell(record: FrozenTrial) -> NoReturn:
    if record.state is LOST:
        raise TrialLost(f"trial {record.number} was given back because its worker was not heard of.")
    raise ValueError(
        f"trial {record.number} was told before ({record.state.name}, value={record.value}); the first tell counts."
    )


def _end_state(state: TrialState | str | None, what: str) -> TrialState:
    if state is None:
        return COMPLETE
    names = ("COMPLETE", "PRUNED", "FAILED")
    name = state.name if isinstance(state, TrialState) else str(state).upper()
    name = "FAILED" if name == "FAIL" else name  # as Optuna calls it
    if name not in names:
        raise ValueError(f"{what}: state must be one of {list(names)}, got {state!r}.")
    return TrialState[name]


def _check_drawn(space: Space, packed: Mapping[str, Any]) -> None:
    """Refuse what an ``rvs`` has drawn if a storage would not give it back as it is."""
    for name, value in packed.items():
        if isinstance(space[name], Sampled):
            check_json(value, name)
            back = json.loads(json.dumps(value))
            if repr(back) != repr(value):
                raise TypeError(
                    f"{name}: {value!r}, drawn by its rvs, would come back from a storage as {back!r}; "
                    "give a list of choices, or draw what JSON can hold."
                )
