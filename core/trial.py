"""Trials: the handle on one evaluation that a training loop holds."""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .distributions import Categorical, Distribution, Float, Int, nearest, own, same, tidy
from .events import as_attr
from .record import LOST, RUNNING, FrozenTrial, TrialState

if TYPE_CHECKING:
    from .log import Fact
    from .study import Study

logger = logging.getLogger("inloop")
_T = TypeVar("_T")
_NONE: Any = object()


class TrialPruned(Exception):
    """Raised in an objective to end a trial that its pruner, or the user, gave up."""


class TrialLost(RuntimeError):
    """Raised in a worker whose trial was given back because the worker was thought dead."""


class Trial:
    """A running trial: takes parameters, reports values, asks whether to go on.

    Got from `Study.ask` or as the argument of an objective. A copy (``copy``, ``deepcopy``,
    ``sklearn.clone``) is another handle on the same trial of the same study; so is one pickled to
    another process, where it talks to the study's storage, or to the study itself if that is in memory.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(seed=1)
        >>> trial = study.ask()
        >>> x = trial.suggest_float("x", 0, 1)
        >>> trial.report(x, step=0)
        >>> trial.should_prune()
        False
        >>> study.tell(trial, x).state.name
        'COMPLETE'
    """

    def __init__(
        self,
        study: Study,
        record: FrozenTrial,
        proposal: dict[str, Any],
        rng: np.random.Generator | None = None,
        asked: dict[int, int] | None = None,
        away: bool = False,
    ) -> None:
        self.study = study
        self._record = record
        self._proposal = proposal
        self._rng = rng
        self._asked = {} if asked is None else asked  # stream -> number of its reports that should_prune has seen
        self._away = away  # whether another process tells how the trial ends; that of a fork's parent does, too
        self._home = os.getpid()
        if record.unsent is None:
            record.unsent = [], {}
        # reports and parameters for the next exchange with a shared storage, of all handles of this process
        self._unsent, self._fresh = record.unsent

    @property
    def number(self) -> int:
        """The trial's number."""
        return self._record.number

    @property
    def params(self) -> dict[str, Any]:
        """Parameters taken so far."""
        fresh = dict(self._fresh)  # first: what is written meanwhile moves from here to the record
        return {name: own(value) for name, value in {**self._record.params, **fresh}.items()}

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What `set_user_attr` was given."""
        return dict(self._record.user_attrs)

    @property
    def state(self) -> TrialState:
        """The trial's state."""
        return self._record.state

    @property
    def pruned(self) -> bool:
        """Whether the pruner has said stop, in whatever process; once True, the study records PRUNED."""
        record = self._record
        if not record.finished and not record.pruned:
            self.study._log.sync()
        return record.pruned or record.state is TrialState.PRUNED

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a value of the parameter ``name`` between ``low`` and ``high``, see `Float`.

        Where ``step`` does not lead to ``high``, the last value before it is the highest, with a warning.
        """
        if step is not None:
            high = _last(name, low, high, step)
        seen = self.study._seen(name)
        if type(seen) is Float and (seen.low, seen.high, seen.step, seen.log) == (low, high, step, log):
            return float(self._suggest(name, seen))
        return float(self._suggest(name, Float(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a value of the parameter ``name`` between ``low`` and ``high``, see `Int`.

        Where ``step`` does not lead to ``high``, the last value before it is the highest, with a warning.
        """
        if step != 1 and type(low) is type(high) is type(step) is int:
            high = _last(name, low, high, step)
        return int(self._suggest(name, Int(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Iterable[Any]) -> Any:
        """Return one of ``choices`` for the parameter ``name``, see `Categorical`."""
        return own(self._suggest(name, Categorical(choices)))

    def report(self, value: float, step: int, stream: int = 0) -> None:
        """Tell how well the trial does at ``step``.

        Args:
            value: The value of the objective so far, in the study's direction. NaN and the
                infinities are kept as data; NaN compares as worse than every number.
            step: Epoch, round, ...: an integer of at least 0. Of two reports of a step the first counts.
            stream: Which of several parallel curves of the trial this is (a fold, a rank); a step is
                compared only with the same stream and step of other trials.

        Raises:
            TypeError: If ``value`` is no number, or ``step`` or ``stream`` no integer.
            ValueError: If ``step`` or ``stream`` is negative, or the trial has ended.
            TrialLost: If the trial was given back.
        """
        if type(value) is not float:
            value = float(value) if isinstance(value, float) else as_value(value, f"trial {self.number}: a report")
        if type(step) is not int or type(stream) is not int or step < 0 or stream < 0:
            step, stream = as_whole(step, "report: step"), as_whole(stream, "report: stream")
        record = self._record
        if record.state is not RUNNING:
            self._refuse("takes no more reports")
        if record.held:
            record.drop_held(stream, step)
        if (self._unsent and self._is_unsent(stream, step)) or (
            (curve := record.curves.get(stream)) is not None and curve.place(step) is not None
        ):
            where = f" of stream {stream}" if stream else ""
            warnings.warn(
                f"trial {self.number}: step {step}{where} was reported before; the first report counts.", stacklevel=2
            )
            return
        self._tell(("report", record.number, (stream, step, value)))

    def hold(self, value: float, step: int, stream: int = 0) -> None:
        """Keep a value that is reported when the trial ends, unless a later step of the stream is before.

        For loops that report only every so many steps and do not know which step is the last.
        Arguments and errors as `report`.
        """
        value = as_value(value, f"trial {self.number}: a held value")
        step, stream = as_whole(step, "hold: step"), as_whole(stream, "hold: stream")
        curve = self._record.curves.get(stream)
        if curve is not None and step <= curve.top:  # training was restored from before its last report
            return
        if self._elsewhere():
            self._send(("held", self.number, (stream, step, value)))
        else:
            self._record.held[stream] = step, value, self._holder()

    def open_stream(self, step: int = 0, after: int | None = None) -> int:
        """Return the stream for one run of training; hooks call this before a fit's first report.

        Args:
            step: The step that the run reports first: 0 where training is fresh, whatever its steps count from.
            after: The stream of the run that this one may go on from, if the caller has had one.

        Returns:
            The stream of the curve that ends right before ``step``, if there is one (training goes on), ``after`` if
            there are several; or else of the latest curve that leads from step 0 or 1 to ``step`` or beyond (training
            is restored from before its last report); or else one that no other run of this trial has, in whatever
            thread or process.
        """
        step = as_whole(step, "open_stream: step")
        record, token = self._record, os.urandom(8).hex()
        if record.finished:
            self._refuse("takes no more reports")
        with self.study._log.lock:
            while True:
                self._send(*record.held_facts(self.study._log.worker, self._holder()))
                ends = [s for s, c in record.curves.items() if c.top == step - 1 and (s, step) not in record.claims]
                taken = {s for s, _ in record.claims} | set(record.curves)
                stream = after if after in ends else min(ends, default=None)
                if stream is None:
                    covering = self._covering(step)
                    if covering is not None:  # unclaimed: training may be restored there again and again
                        return covering
                    stream = next(s for s in itertools.count() if s not in taken)
                self._send(("stream", self.number, (stream, step, token)))
                if record.claims[stream, step] == token:
                    return stream

    def _holder(self) -> str:
        """Return the name of this thread among those that hold a value; another may train another model."""
        return f"{self.study._log.worker}/{threading.get_ident()}"

    def _covering(self, step: int) -> int | None:
        """Return the latest stream whose curve leads from the beginning of training to ``step`` or beyond, if any.

        One that begins later goes on from a model of elsewhere, and so may the run that is to begin at ``step``.
        """
        record = self._record
        begins = {stream: curve.steps[0] for stream, curve in record.curves.items() if curve.top >= step}
        for stream, first in record.claims:
            if stream in begins:
                begins[stream] = min(first, begins[stream])
        return max((stream for stream, first in begins.items() if first < step and first <= 1), default=None)

    def should_prune(self) -> bool:
        """Ask the pruner about the last report.

        Returns:
            True if the trial should end: the decision is kept, and the study will record PRUNED.
        """
        return self._should_prune()

    def _should_prune(self, reported: int | None = None) -> bool:
        """Ask about the last report of all, or, as other threads may report, about that of a stream."""
        record, study = self._record, self.study
        if record.state is not RUNNING:
            if record.state is LOST:
                self._refuse("is not yours any more")
            return True
        if record.pruned:
            return True
        with study._log.lock:
            if self._unsent:
                self._send()
            else:
                study._log.read()
            study._log.flush()  # what its fellows of this process have reported counts, too
            if record.state is LOST:
                self._refuse("is not yours any more")
            if record.last is None:
                return False
            stream = record.last[0] if reported is None else reported
            since = self._asked.get(stream, 0)
            self._asked[stream] = len(record.curves[stream].steps)
            return study._should_prune(record, stream, since)

    def steps(self, iterable: Iterable[_T]) -> Iterator[_T]:
        """Go through ``iterable`` until its end, or until the pruner says stop about what a step has reported.

        For loops of your own. The step that is pruned ends as others do; then the loop ends, and whatever the
        objective returns, the trial is PRUNED.

        Args:
            iterable: The steps, such as ``range(epochs)`` or a data loader.

        Raises:
            TrialPruned: When the loop begins, if the trial is pruned already.

        Example:
            >>> import inloop
            >>> trial = inloop.create_study(seed=0, pruner=inloop.pruners.ThresholdPruner(upper=1.0)).ask()
            >>> for epoch in trial.steps(range(50)):
            ...     trial.report(0.4 * epoch, epoch)
            >>> epoch, trial.pruned
            (3, True)
        """
        if self.pruned:
            raise TrialPruned(f"trial {self.number} is pruned; it is not trained any further.")
        for step in iterable:
            yield step
            if self.should_prune():
                return

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a JSON value with the trial.

        Raises:
            TypeError: If ``key`` is no string or ``value`` not JSON; the message names the place.
        """
        attr = as_attr(key, value)
        if self._record.finished:
            self._refuse("takes no more attributes")
        self._send(("attr", self.number, attr))

    def _suggest(self, name: str, dist: Distribution) -> Any:
        """Return the value of ``name``: taken before, enqueued, proposed, or sampled alone."""
        record = self._record
        value = self._fresh.get(name, _NONE)
        if value is not _NONE or name in record.params:
            value = record.params[name] if value is _NONE else value
            if not dist.contains(value):
                raise ValueError(f"trial {self.number}: {name}={value!r} was taken before and lies outside {dist!r}.")
            return value
        if record.finished:
            self._refuse("takes no more parameters")
        self.study._check_seen(name, dist)
        if record.queued is not None and name in record.queued:
            value = as_enqueued(dist, record.queued[name])
            if dist.contains(value):
                return self._take(name, dist, dist.cast(value))
            warnings.warn(
                f"trial {self.number}: the enqueued {name}={value!r} lies outside {dist!r}; it is sampled.",
                stacklevel=4,
            )
        if name in self._proposal:
            value = nearest(dist, self._proposal[name])
            given = self.study.sampler.space  # whose points are to be run as they are
            if given is not None and name in given and not _as_good_as(value, self._proposal[name]):
                raise ValueError(
                    f"trial {self.number}: {name}={self._proposal[name]!r}, which the sampler is given to try, "
                    f"lies outside {dist!r}."
                )
            if value is not None:
                return self._take(name, dist, dist.cast(value))
        if self._rng is None:
            self._rng = self.study._alone(self.number)
        return self._take(name, dist, dist.from_unit(self._rng.random()))

    def _take(self, name: str, dist: Distribution, value: Any) -> Any:
        space, record = self.study._single(name, dist), self._record
        with self.study._log.lock:  # another thread may have taken it meanwhile
            if name not in self._fresh and name not in record.params:
                self._fresh[name] = value
                self._tell(("params", self.number, (space.id, {name: dist.pack(value)})))
            return self._fresh[name] if name in self._fresh else record.params[name]

    def _is_unsent(self, stream: int, step: int) -> bool:
        return any(kind == "report" and data[:2] == (stream, step) for kind, _, data in self._unsent)

    def _tell(self, fact: Fact) -> None:
        """Write a fact: at once in memory; to a shared storage with the next question, or within a second.

        At once, too, where another process may end the trial: it would not know what is to be written.
        """
        log = self.study._log
        if not log.storage.shared or self.study._led:
            log.write(fact)
            return
        log.write_later(self._record, fact)
        if self._elsewhere():
            self._send()

    def _elsewhere(self) -> bool:
        """Return whether another process may end the trial."""
        return self._away or self._home != os.getpid()

    def _end_alone(self, state: TrialState, value: float | None) -> bool:
        """End a running trial of this process without reading first, for a caller that has the lock.

        Return whether: not if others have written, or there is more to write than the end.
        """
        log, record = self.study._log, self._record
        more = self._unsent or record.held or record.worker != log.worker
        return log.alone and not more and log.finish_next(record, state, value)

    def _send(self, *more: Fact) -> None:
        """Write what is unsent, and take the trial over if it came from another process.

        Raises:
            TrialLost: If the trial turns out to have been given back.
        """
        log = self.study._log
        log.keep(self._record)
        log.send(self._record, *more)
        if self._record.state is TrialState.LOST:
            self._refuse("is not yours any more")

    def _close(self, state: TrialState, value: float | None) -> FrozenTrial:
        """Write what was not sent yet and how the trial ended."""
        log, record = self.study._log, self._record
        with log.lock:
            if record.finished or not self._end_alone(state, value):
                log.finish(record, state, value)
        if record.state is LOST:
            logger.warning("trial %d was given back because its worker was not heard of", self.number)
        return record

    def _refuse(self, what: str) -> None:
        if self.state is TrialState.LOST:
            raise TrialLost(f"trial {self.number} was given back because its worker was not heard of; it {what}.")
        raise ValueError(f"trial {self.number} is {self.state.name}; it {what}.")

    def __copy__(self) -> Trial:
        if self._unsent:
            self._send()
        return type(self)(self.study, self._record, self._proposal, self._rng, dict(self._asked), self._elsewhere())

    def __deepcopy__(self, memo: dict[int, Any]) -> Trial:
        return self.__copy__()

    def __reduce__(self) -> Any:
        from .address import Address, arrive

        if self._unsent:
            self._send()
        return arrive, (Address.of(self.study), self.number, self._proposal, self._rng, dict(self._asked))

    def __repr__(self) -> str:
        return f"Trial(number={self.number}, {self.state.name}, params={self.params})"


def _last(name: str, low: Any, high: Any, step: Any) -> Any:
    """Return the last of ``low``, ``low + step``, ... up to ``high``; what is no range is left to its type."""
    given = low, high, step
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in given) or not (
        step > 0 and -math.inf < low <= high < math.inf
    ):
        return high
    if all(isinstance(x, int) for x in given):
        last = high - (high - low) % step
    else:
        n = (high - low) / step
        last = high if abs(n - round(n)) <= 1e-8 * max(1.0, n) else tidy(low + math.floor(n) * step, step)
    if last != high:
        warnings.warn(f"{name}: step={step!r} does not lead from {low!r} to {high!r}, but to {last!r}.", stacklevel=3)
    return last


def _as_good_as(value: Any, given: Any) -> bool:
    """Say whether a value is the given one but for rounding."""
    if isinstance(value, float) and isinstance(given, int | float):
        return math.isclose(value, given, rel_tol=1e-9, abs_tol=1e-12)
    return same(value, given)


def as_enqueued(dist: Distribution, value: Any) -> Any:
    """Return an enqueued value, or the choice that it was before JSON made lists of the tuples in it."""
    if not isinstance(dist, Categorical) or not isinstance(value, list | dict) or dist.contains(value):
        return value
    listed = _listed(value)
    return next((c for c in dist.choices if same(_listed(c), listed)), value)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, list | tuple) else value


def as_value(value: Any, what: str) -> float:
    """Return ``value`` as a float or say that it is not a number.

    Raises:
        TypeError: If it is None, text, or has no single float value.
    """
    if not isinstance(value, str | bytes) and not (isinstance(value, np.ndarray) and value.ndim):
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            pass
        except OverflowError:
            raise ValueError(f"{what} must be a number that a float can hold, got one of {value!r:.40}...") from None
    raise TypeError(f"{what} must be one number, got {value!r} of type {type(value).__name__}.")


def as_whole(value: Any, what: str) -> int:
    """Return ``value`` as an int of at least 0 or say that it is none.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is negative.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{what} must be an integer, got {value!r} of type {type(value).__name__}.")
    if value < 0:
        raise ValueError(f"{what} must be at least 0, got {value!r}.")
    return int(value)
