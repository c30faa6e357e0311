"""Processes launched anew to train beside the one that runs a study: they follow its trials and never ask for any.

Some launchers of distributed training (Lightning's strategy "ddp") start the whole script once more for every further
rank. Such a rank makes the same studies and calls the same objective as the leading process. Here its calls of
`create_study` return a `FollowedStudy`, whose trials are those of the leader: same numbers, same parameters. What
would change the study is left to the leader, who does the same.

The leader hands over where its study lives in an environment variable, set before the ranks are launched. It is
pickled, as all that parents give to their processes in Python: whoever sets the environment of a process can run
code in it anyway.
"""

from __future__ import annotations

import atexit
import base64
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import loop
from .distributions import Distribution
from .events import Event
from .fixed import FixedTrial
from .record import FrozenTrial, TrialState
from .samplers import StudyStopped
from .storage import MemoryStorage, Storage
from .study import Study
from .trial import Trial

if TYPE_CHECKING:
    from .space import Space

_VARIABLE = "INLOOP_LEADER"
_PATIENCE = 10.0  # seconds for which a rank that failed waits to hear that the leader failed too

_made: dict[str, int] = {}  # names of the studies that this process has made or loaded, and their order
_relaunched: set[int] = set()  # this process, if it is a further rank
_followed: dict[int, FollowedStudy] = {}  # by process: a forked child has its parent's


class Leader(NamedTuple):
    """What a process that runs a study hands over to the ranks it launches.

    Attributes:
        pid, worker: The process, and its name in the log.
        storage, study_name: Where the study lives.
        place: How many other studies the script had made before.
        trial: Number of the trial under way.
    """

    pid: int
    worker: str
    storage: Storage
    study_name: str
    place: int
    trial: int


def lead(trial: Trial) -> None:
    """Have ranks that this process launches from now on follow ``trial`` and those after it.

    It launches none where ``LOCAL_RANK`` is set already: whoever has set it has launched all ranks there are.
    """
    study = trial.study
    if isinstance(study, FollowedStudy) or isinstance(trial, FixedTrial) or (_is_numbered() and not study._led):
        return
    name, log = study.study_name, study._log
    if not study._led:
        study._led = True
        atexit.register(_linger, log.storage)
    trial._send()
    place = _made.get(name, len(_made))
    leader = Leader(os.getpid(), log.worker, log.storage.elsewhere(), name, place, trial.number)
    os.environ[_VARIABLE] = base64.b85encode(pickle.dumps(leader)).decode()


def is_relaunched() -> bool:
    """Return whether this process is a further rank, launched by one that runs a study."""
    if os.getpid() in _relaunched:
        return True
    if _VARIABLE not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0":
        return False
    if _leader().pid != os.getppid():  # the variable has come down from farther up
        return False
    _relaunched.add(os.getpid())
    return True


def in_step(study: Study) -> bool:
    """Return whether several ranks go through the trials of ``study`` in step: its leader and those it has launched."""
    return isinstance(study, FollowedStudy) or (study._led and _is_numbered())


def follow(study_name: str | None, direction: str | None, space: Space | None) -> FollowedStudy | None:
    """Return the leader's study in a relaunched rank, None in any other process.

    Args:
        study_name: Name of the study that is to be made, None if it has none.
        direction: Its direction, None if it is loaded.
        space: Its space, if it is declared.

    Raises:
        RuntimeError: If it is not the study that the leader runs.
    """
    if not is_relaunched():
        return None
    leader, study = _leader(), _followed.get(os.getpid())
    if study is not None and study_name == study.study_name:
        return study
    if study is not None or leader.place > 0 or study_name not in (None, leader.study_name):
        raise RuntimeError(
            f"This process is rank {os.environ['LOCAL_RANK']} of a training that trial {leader.trial} of study "
            f"{leader.study_name!r} has launched; it runs the script from its beginning and can follow that study "
            f"alone, as the first of the script, not {study_name or 'another one'!r}. Make that study first and no "
            "other, or train in processes that do not run the script anew (Lightning: strategy='ddp_spawn')."
        )
    study = FollowedStudy(leader, space)
    if direction not in (None, study.direction):
        raise RuntimeError(f"Study {leader.study_name!r} of the leading process is to be {study.direction}d.")
    _followed[os.getpid()] = study
    return study


def made(study: Study) -> Study:
    """Remember that this process has made or loaded ``study``, and return it."""
    _made.setdefault(study.study_name, len(_made))
    return study


def _linger(storage: Storage) -> None:
    """Let ranks read the end of a study in memory before this process ends, and the study with it."""
    server = storage._server if isinstance(storage, MemoryStorage) and _is_numbered() else None
    deadline = time.monotonic() + _PATIENCE
    while server is not None and server._connections and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_numbered() -> bool:
    """Return whether a process that leads has launched ranks: launchers then number the leading process, too."""
    return "LOCAL_RANK" in os.environ


def _leader() -> Leader:
    leader: Leader = pickle.loads(base64.b85decode(os.environ[_VARIABLE]))
    return leader


class _Followed(Storage):
    """A study's log as a relaunched rank sees it: what is appended is dropped, as the leader appends the same.

    Attributes:
        turns: Numbers of the trials that the leader has asked for and this rank has not; None: a search ended.
        added: Numbers of the trials that the leader has added, finished elsewhere.
    """

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._trials = 0
        self.turns: deque[int | None] = deque()
        self.added: deque[int] = deque()

    def read(self, study: str, since: int, limit: int | None = None) -> list[Event]:
        events = self._leader.storage.read(study, since, limit)
        for e in events:
            if e.kind == "created":
                number = self._trials
                self._trials += 1
                if e.worker == self._leader.worker:
                    asked = e.data[1]
                    if not asked:
                        self.added.append(number)
                    elif number >= self._leader.trial:
                        self.turns.append(number)
            elif e.kind == "rest" and e.worker == self._leader.worker and self._trials > self._leader.trial:
                self.turns.append(None)
        return events

    def append(self, study: str, events: Sequence[Event]) -> int:
        return -1

    def create(self, study: str, events: Sequence[Event]) -> None:
        """Create nothing: the leader has."""

    def delete(self, study: str) -> None:
        """Delete nothing: the leader does."""

    def names(self) -> list[str]:
        return self._leader.storage.names()


class FollowedStudy(Study):
    """The leader's study in a relaunched rank."""

    def __init__(self, leader: Leader, space: Space | None) -> None:
        from .pruners import NopPruner
        from .samplers import RandomSampler

        self._leader = leader
        self._events = _Followed(leader)
        super().__init__(leader.study_name, self._events, RandomSampler(), NopPruner(), space)

    def ask(self, space: Space | Mapping[str, Any] | None = None) -> Trial:
        """Return the leader's next trial; `StudyStopped` where the leader asks for no more."""
        number = self._next(self._events.turns)
        if number is None:
            raise StudyStopped("The leading process has ended its search.")
        record = self._log.history.trials[number]
        if self._declared(space) is not None:  # the leader writes them right after it has started the trial
            self._wait(lambda: bool(record.params) or record.finished)
        return FollowedTrial(self, record, {})

    def tell(
        self, trial: Trial | int, value: float | None = None, state: TrialState | str | None = None
    ) -> FrozenTrial:
        """Wait until the leader has told the trial."""
        record = self._record(trial)
        self._wait(lambda: record.finished)
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
        """Run ``objective`` on the leader's trials until the leader has no more; the limits are the leader's."""
        loop.run(self, objective, None, None, 1, None, tuple(callbacks or ()), catch, False)

    def stop(self) -> None:
        """Stop nothing: the leader does. What is read here runs ahead of this rank, which would stop too early."""

    def add_trial(self, *args: Any, **kwargs: Any) -> FrozenTrial:
        """Return the trial that the leader has added."""
        number: int = self._next(self._events.added)
        return self._log.history.trials[number]

    def _next(self, numbers: deque[Any]) -> Any:
        self._wait(lambda: bool(numbers))
        return numbers.popleft()

    def _wait(self, come: Callable[[], bool], patience: float = float("inf")) -> bool:
        """Read on until the leader has written what is awaited; return whether it has within ``patience`` seconds."""
        deadline, pause = time.monotonic() + patience, 0.001
        self._log.sync()
        while not come():
            if time.monotonic() > deadline:
                return False
            ended = os.getppid() != self._leader.pid
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
            self._log.sync()
            if ended and not come():
                raise RuntimeError(f"The process that runs study {self.study_name!r} and launched this rank has ended.")
        return True


class FollowedTrial(Trial):
    """The leader's trial in a relaunched rank: parameters and decisions are read, nothing is reported."""

    study: FollowedStudy

    def report(self, value: float, step: int, stream: int = 0) -> None:
        """Report nothing: the leader does."""

    def hold(self, value: float, step: int, stream: int = 0) -> None:
        """Hold nothing: the leader does."""

    def open_stream(self, step: int = 0, after: int | None = None) -> int:
        """Return 0: nothing is reported from here."""
        return 0

    def set_user_attr(self, key: str, value: Any) -> None:
        """Set nothing: the leader does."""

    def should_prune(self) -> bool:
        """Return whether the leader's pruner has said stop so far; ranks that must act alike broadcast its answer."""
        return self.pruned or self._record.finished

    def _suggest(self, name: str, dist: Distribution) -> Any:
        record = self._record
        self.study._single(name, dist)  # the live form of choices that the log holds as labels
        self.study._wait(lambda: name in record.params or record.finished)
        if name not in record.params:
            raise RuntimeError(f"trial {self.number}: the leading process never took {name!r}; it took {self.params}.")
        return super()._suggest(name, dist)

    def _close(self, state: TrialState, value: float | None) -> FrozenTrial:
        record = self._record
        self.study._wait(lambda: record.finished, _PATIENCE if state is TrialState.FAILED else float("inf"))
        return record
