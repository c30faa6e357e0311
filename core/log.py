"""A study's log as one process reads and writes it, and the leases that keep its trials."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from .events import Event, as_event
from .forks import forks, hold_over_forks, in_child, members, take_briefly
from .history import History
from .record import FrozenTrial, TrialState
from .storage import Storage, StudyNotFound

logger = logging.getLogger("inloop")

_PAGE = 5000  # events read at once: a long log need not be in memory as events
#: Leases after which a worker counts as dead that was silent before this process looked: clocks may be wrong.
_SILENCE = 10
_HOLD = 1.0  # seconds for which facts wait at most to be written with others
_MOST = 100  # facts of a trial that wait at most
_DOZE = 60.0  # seconds for which the thread that beats sleeps at most after it has failed, whatever the lease
_EXIT = 10.0  # seconds after which no further study is begun with at the end of a process

_hooked = [-1]  # the process of how many forks has its hooks


_logs: weakref.WeakSet[Log] = weakref.WeakSet()
#: Running trials whose handles have something yet to write, and where: it keeps a log that nobody else has any more.
_unwritten: dict[FrozenTrial, Log] = {}
hold_over_forks(lambda: [(log.lock, log._free) for log in members(_logs)])
in_child(_unwritten.clear)  # the parent writes its own

#: What happened, to which trial (-1: none), and the data; see `inloop.events`.
Fact = tuple[str, int, Any]


class Log:
    """Appends this process's events to a study's log and folds everybody's into a `History`.

    A trial of a shared storage is leased to the process that runs it: every event of the process
    renews the lease, and a daemon thread does so while it is silent. Whoever has heard nothing of a
    process for a whole lease, by its own clock, may declare the trials of that process LOST; who opens
    a study may do so at once where the times in the log tell of ten leases of silence. A pause of its own,
    as of a stopped container, is nobody's silence.

    Args:
        name: The study's name in ``storage``.
        storage: Where the log lives.
        lease: Seconds; ignored where no other process can reach the storage.
    """

    def __init__(self, name: str, storage: Storage, lease: float) -> None:
        self.name = name
        self.storage = storage
        self.history = History()
        self.lock: threading.RLock = threading.RLock()
        self._busy = False  # whether the thread that has the lock reads or writes; see `read`
        self.lease = lease if storage.shared else 0.0
        self._heard: dict[str, float] = {}  # other worker -> when it was last heard of
        #: Whether nobody else has written for a whole trial of this process: a guess that spares reads.
        self.alone = False
        self._since = time.monotonic()
        self._enter_process()
        _logs.add(self)
        self.sync()
        self._look_back()
        self._quiet = True  # nobody else has written since the last trial was created

    def _enter_process(self) -> None:
        #: Random name of this process in the log.
        self.worker = os.urandom(8).hex()
        self._seq = 0
        self._givers: dict[int, tuple[str, float]] = {}  # trial -> worker that it first came from, and its lease
        self._took: dict[int, float] = {}  # trial -> when it was last taken over
        self._to_take: set[int] = set()  # trials that were reported to, to be taken over once it is time
        self._spoke = 0.0
        self._dated = -math.inf  # when it last wrote the time of day
        self._beating = False
        self._ticked = 0.0  # when the thread that beats, or who looks for silent workers, last ran
        _hook_exit()
        self._born = forks[0]  # last: an interrupt may come before

    def write(self, *facts: Fact) -> None:
        """Append facts, all or none, and fold in what is new in the log.

        Raises:
            RuntimeError: In the middle of another call of this thread, where a signal handler may come; see `read`.
        """
        with self.lock:
            if self._busy:
                raise self._reentered()
            try:
                self._busy = True
                self._write(*facts)
            finally:
                self._busy = False

    def _write(self, *facts: Fact) -> None:
        if self._born != forks[0]:
            self._after_fork()
        if facts:
            if self.history.torn:
                self._read()
            events = [self._event(*fact) for fact in facts]
            at, others = self.storage.exchange(self.name, events, self.history.events)
            if others:  # all before the own ones; or else those are read with them
                self._fold(others)
            self._fold_own(events, at)
        else:
            self._read()

    def _reentered(self) -> RuntimeError:
        return RuntimeError(
            f"Study {self.name!r} is just being read or written by this very thread, so nothing else can be written: a "
            "signal handler, which may come at any moment, should set a flag to act on later, in a callback of "
            "optimize for instance. It may look at the study and stop() it."
        )

    def write_later(self, trial: FrozenTrial, fact: Fact) -> None:
        """Append a fact with the next one of its trial, or within a second."""
        assert trial.unsent is not None
        trial.unsent[0].append(fact)
        _unwritten[trial] = self
        if len(trial.unsent[0]) >= _MOST:
            self.send(trial)

    def send(self, trial: FrozenTrial, *more: Fact) -> None:
        """Append what a trial's handles have yet to write, and more facts."""
        with self.lock:
            if self._busy:
                raise self._reentered()
            try:
                self._busy = True
                unsent, fresh = trial.unsent or ([], {})
                sent = unsent[:]  # other threads may add to it meanwhile
                self._write(*sent, *more)
                del unsent[: len(sent)]
                for kind, _, data in sent:
                    if kind == "params":
                        for name in data[1]:
                            fresh.pop(name, None)
            finally:
                self._busy = False

    def flush(self) -> None:
        """Append what the handles of all trials have yet to write."""
        if not _unwritten:
            return
        with self.lock:
            for trial, log in _unwritten.copy().items():
                if log is self:  # it stays there while it is tried, for the end of the process to find
                    if trial.unsent and trial.unsent[0]:
                        self.send(trial)
                    _unwritten.pop(trial, None)
                    if trial.unsent and trial.unsent[0]:  # a handle has had more to write meanwhile
                        _unwritten[trial] = self

    def give_up(self, error: Exception) -> None:
        """Write nothing more unasked, leases neither, as it cannot be, and say what stays unwritten."""
        trials = [trial for trial, log in _unwritten.copy().items() if log is self]
        for trial in trials:
            _unwritten.pop(trial, None)
        self._givers.clear()
        self._beating = False
        if numbers := [trial.number for trial in trials if trial.unsent and trial.unsent[0]]:
            what = "parameters and reports of trials %s of study %r could not be written: %s"
            logger.warning(what, numbers, self.name, error)

    def flush_twins(self) -> None:
        """Append what this process has yet to write of the same study, opened another time."""
        for log in {*_unwritten.copy().values()}:
            if log is not self and log.history.uid == self.history.uid:
                log.flush()

    def write_next(self, fact: Fact) -> bool:
        """Do what `sync` and then `write` do if nobody else has written; or else `sync` alone.

        Returns:
            Whether the fact was written.
        """
        with self.lock:
            if self._busy:
                raise self._reentered()
            try:
                self._busy = True
                if self._born != forks[0]:
                    self._after_fork()
                if self.history.torn:
                    self._read()
                event = self._event(*fact)
                at = self.storage.append_next(self.name, event, self.history.events)
                if at is None:
                    self._read()
                else:
                    self._fold_own([event], at)
                return at is not None
            finally:
                self._busy = False

    def _fold_own(self, events: list[Event], at: int) -> None:
        """Fold in what this process has appended at a position of the log, and what others have."""
        if self.lease:
            self._spoke = time.monotonic()
        if at == self.history.events:  # all that was written before is folded in: there is nothing to read
            self.history.apply(events)
        else:
            self._read()

    def _event(self, kind: str, trial: int, data: Any) -> Event:
        """Return this process's next event, for a caller that has the lock."""
        self._seq = seq = self._seq + 1
        return as_event((self.worker, seq, kind, trial, data))

    def sync(self) -> None:
        """Fold in what is new in the log."""
        with self.lock:
            self.read()

    def read(self) -> None:
        """Do what `sync` does, for a caller that has the lock.

        But nothing in the middle of another call of this thread, where a signal handler may come to look at the study:
        it sees what is known.
        """
        if self._busy:
            return
        try:
            self._busy = True
            self._read()
        finally:
            self._busy = False

    def _read(self) -> None:
        if self.history.torn:
            self.history = self.history.anew()
        events = self.storage.read(self.name, self.history.events, _PAGE)
        if len(events) == _PAGE:
            with _no_collections():
                while len(events) == _PAGE:
                    self._fold(events)
                    events = self.storage.read(self.name, self.history.events, _PAGE)
        if events:
            self._fold(events)

    def _fold(self, events: list[Event]) -> None:
        others = {e[0] for e in events if e[2] != "study"} - {self.worker}  # nobody is heard of by the header
        if others:
            self._heard.update(dict.fromkeys(others, time.monotonic()))
            self.alone = self._quiet = False
        for worker, _, kind, number, data in events if self._givers else ():
            if kind == "returned" and self._givers.get(number, ("",))[0] == worker:
                self._givers[number] = tuple(data)
        self.history.apply(events)

    def create(self, takes_queued: bool) -> FrozenTrial:
        """Start a trial, leased to this process, and return it."""
        with self.lock:
            self.write(("created", -1, (time.time(), takes_queued, self.lease)))
            return self._created()

    def create_next(self) -> FrozenTrial | None:
        """Do what `sync` and then `create` do if nobody else has written; or else `sync` alone, and return None."""
        with self.lock:
            written = self.write_next(("created", -1, (time.time(), True, self.lease)))
            return self._created() if written else None

    def _created(self) -> FrozenTrial:
        self._dated = time.monotonic()
        self._beat()
        self.alone, self._quiet = self._quiet, True
        return self.history.trials[self.history.newest[self.worker]]

    def take_over(self, trial: FrozenTrial) -> None:
        """Lease a running trial to this process, which has got it from another."""
        with self.lock:
            giver = trial.worker, trial.lease
            self.write(("taken", trial.number, self.lease))
            self._givers.setdefault(trial.number, giver)
            self._took[trial.number] = time.monotonic()
            self._beat()

    def keep(self, trial: FrozenTrial) -> None:
        """Take over a trial that another process has, unless this one has just done so.

        Processes that report to a trial in turns would else take it from each other at every report. The thread that
        renews leases makes up for it, so that who reports last keeps it when another dies.
        """
        self._to_take.discard(trial.number)
        if trial.worker == self.worker or trial.finished or not self.lease:
            return
        if time.monotonic() - self._took.get(trial.number, -math.inf) >= self.lease / 4:
            self.take_over(trial)
        else:
            self._to_take.add(trial.number)

    def give_back(self) -> None:
        """Give running trials back to the processes that this one, which ends, has got them from.

        It says so of those, too, that others have taken over: who has got one from here is to give it back there.
        """
        with self.lock:
            for number in [*self._givers]:
                trial = self.history.trials[number]
                while not trial.finished and not self.write_next(("returned", number, self._givers[number])):
                    pass  # others have written: that they have ended it, or to whom it is to be given back now
                del self._givers[number]

    def finish(self, trial: FrozenTrial, state: TrialState, value: float | None) -> FrozenTrial:
        """End a trial unless it has ended; of two ends in the log the first counts."""
        with self.lock:
            if not trial.finished:
                if self._busy:  # before what is held is forgotten
                    raise self._reentered()
                self.send(trial, *trial.held_facts(), _end(trial, state, value))
                self._givers.pop(trial.number, None)
                self._took.pop(trial.number, None)
                self._to_take.discard(trial.number)
            return trial

    def finish_next(self, trial: FrozenTrial, state: TrialState, value: float | None) -> bool:
        """Do what `sync` and then `finish` do if nobody else has written; or else `sync` alone. Return whether.

        Of a trial with held reports `finish` is to be used.
        """
        return self.write_next(_end(trial, state, value))

    def abandon(self, trials: Iterable[FrozenTrial] = ()) -> None:
        """End trials as FAILED after an interrupt, and those that it has kept from being handed out at all."""
        with self.lock:
            self.sync()
            mine = [t for t in map(self.history.trials.__getitem__, self.history.running) if t.worker == self.worker]
            for trial in (*trials, *(t for t in mine if t.unsent is None)):
                self.finish(trial, TrialState.FAILED, None)

    def expire(self) -> None:
        """Declare the trials of workers LOST that were silent for longer than their lease."""
        if self._heard:  # somebody else has written here
            with self.lock:
                self._tick()
                if self._silent():
                    self.sync()  # they may have spoken since
                while silent := self._silent():
                    trial, seconds = silent
                    logger.warning("trial %d is LOST: nothing heard of its worker for %.0f s", trial.number, seconds)
                    self.finish(trial, TrialState.LOST, None)

    def _look_back(self) -> None:
        """Take those for silent that have long been so, by the time of day, when this process opens the study."""
        now, today = time.monotonic(), time.time()
        for trial in map(self.history.trials.__getitem__, self.history.running):
            seconds = today - self.history.heard.get(trial.worker, today)
            if seconds > _SILENCE * trial.lease:
                self._heard[trial.worker] = now - seconds

    def forgive(self) -> None:
        """Take all workers for heard of now: this process was paused, and they may have been with it."""
        with self.lock:
            self._since = time.monotonic()
            self._heard = dict.fromkeys(self._heard, self._since)

    def _tick(self) -> None:
        """Notice, while the thread beats, that this process was paused."""
        now = time.monotonic()
        if self._beating and now - self._ticked > self.lease / 2:
            self.forgive()
        self._ticked = now

    def _silent(self) -> tuple[FrozenTrial, float] | None:
        """Return a trial whose worker was not heard of for longer than its lease, and for how long; None: no trial."""
        now = time.monotonic()
        for trial in (self.history.trials[number] for number in self.history.running):
            seconds = now - self._heard.get(trial.worker, self._since)
            if trial.lease and trial.worker != self.worker and seconds > trial.lease:
                return trial, seconds
        return None

    def _beat(self) -> None:
        """Have a thread renew the leases while this process has running trials."""
        if self.lease and not self._beating:
            self._ticked = time.monotonic()
            thread = threading.Thread(target=_beats, args=(weakref.ref(self),), name="inloop-lease", daemon=True)
            thread.start()
            self._beating = True  # after an interrupt rather two threads than none

    def _beat_once(self) -> bool:
        """Renew the lease if it needs it; return whether to go on: also for a lease after the last trial."""
        with self.lock:
            self._tick()
            for number in [*self._to_take]:
                self.keep(self.history.trials[number])
            running = map(self.history.trials.__getitem__, self.history.running)
            mine = any(t.worker == self.worker or t.unsent is not None for t in running)
            now = time.monotonic()
            quiet = now - self._spoke
            if self._born != forks[0] or (not mine and quiet > self.lease):
                self._beating = False
                return False
            if mine and (quiet >= self.lease / 4 or now - self._dated >= self.lease):
                self.write(("beat", -1, time.time()))
                self._dated = now
            return True

    def _free(self) -> None:
        """In a forked child, be where no thread is, whatever one of the parent has begun here."""
        self.lock = threading.RLock()
        self._busy = False

    def _after_fork(self) -> None:
        """Start anew as another worker in a forked child."""
        if not self.storage.shared:
            raise RuntimeError(
                "This study lives in the memory of the process that made it, and this is a forked copy: what is "
                "written here would be lost. Use storage='study.db', or pickle the trial, which finds its way back."
            )
        self._heard[self.worker] = time.monotonic()  # the parent, which was never heard of, as its name was the own one
        self._enter_process()


def _end(trial: FrozenTrial, state: TrialState, value: float | None) -> Fact:
    return "finished", trial.number, (state.name, value, time.time())


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Leave cyclic garbage alone: looking for it takes 40 % of the time in which a long log is read, and finds none."""
    on = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if on:
            if hasattr(gc, "freeze") and not gc.get_freeze_count():
                gc.freeze()  # makes the new objects old ones, without the look that the next collection would take
                gc.unfreeze()
            gc.enable()


def _beats(ref: weakref.ref[Log]) -> None:
    while (log := ref()) is not None:
        pause = min(log.lease / 4, _HOLD)
        try:
            if not log._beat_once():
                with contextlib.suppress(Exception):
                    log.storage.settle()
                return
            log.flush()
        except Exception as error:
            if isinstance(error, StudyNotFound) and not log.storage.lasting:
                log.give_up(error)
                return
            logger.warning("the lease of study %r could not be renewed, or reports not be written: %r", log.name, error)
            pause = min(log.lease / 4, _DOZE)
        del log
        time.sleep(pause)


def _hook_exit() -> None:
    """Have this process close all logs when it ends; a child of multiprocessing calls the hooks of that only."""
    if _hooked[0] != forks[0]:
        _hooked[0] = forks[0]
        atexit.register(_close_all)
        if "multiprocessing.util" in sys.modules:
            sys.modules["multiprocessing.util"].Finalize(None, _close_all, exitpriority=10)


def _close_all() -> None:
    """Write what is unwritten, and close the storages: a file of SQLite is whole without its -wal then."""
    deadline = time.monotonic() + _EXIT
    own = [log for log in members(_logs) if log._born == forks[0]]  # not the parent's
    for log in {*_unwritten.copy().values(), *(log for log in own if log._givers)}:
        try:
            left = deadline - time.monotonic()
            if left < 0 or not log.lock.acquire(timeout=left):
                raise TimeoutError(f"the end of this process has taken {_EXIT:g} s so far")
            try:
                log.storage.hurry(left)
                log.flush()
                log.give_back()
            finally:
                log.lock.release()
        except Exception as error:
            log.give_up(error)  # once and for all: two hooks may call this
    for log in own:
        if take_briefly(log.lock):  # or else another thread waits there, for a lost server for instance
            try:
                with contextlib.suppress(Exception):
                    log.storage.close()
            finally:
                log.lock.release()
