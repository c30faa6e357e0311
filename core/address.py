"""How a trial finds its study again from another process."""

from __future__ import annotations

import os
import pickle
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .forks import in_child
from .space import Space
from .storage import Storage, StudyNotFound
from .trial import Trial

if TYPE_CHECKING:
    from .pruners import Pruner
    from .samplers import Sampler
    from .study import Study

_KEPT = 8  # studies of others that a process keeps open: some may be run on one pool at the same time

_lock = threading.Lock()
_home: weakref.WeakValueDictionary[tuple[int, str], Study] = weakref.WeakValueDictionary()
_opened: dict[tuple[int, bytes, str], Study] = {}


@dataclass(frozen=True)
class Address:
    """Where a study lives, in a form that can be pickled.

    Attributes:
        study_name: Its name in the storage.
        uid: Of the study itself, that of its log's first event: one made anew has the name and the storage, too.
        storage: Its storage; of a study in memory, a client of it.
        worker: Name of the process it comes from; there, the study itself is found again.
        sampler, pruner, space, lease: As in `Study`.
        spaces: Spaces of the log that hold what JSON cannot.
    """

    study_name: str
    uid: str
    storage: Storage
    worker: str
    sampler: Sampler
    pruner: Pruner
    space: Space | None
    lease: float
    spaces: tuple[Space, ...]

    @classmethod
    def of(cls, study: Study) -> Address:
        """Return the address of a study; one in memory begins to listen for its trials."""
        log = study._log
        with _lock:
            _home[os.getpid(), log.worker] = study
        live = tuple(s for s in log.history.spaces.values() if s.holds_more_than_json)
        place = study.study_name, log.history.uid, log.storage.elsewhere(), log.worker
        return cls(*place, study.sampler, study.pruner, study.space, study.lease, live)

    def open(self) -> Study:
        """Return the study: itself in its own process, else a client of it, one for each process.

        Raises:
            StudyNotFound: If it was deleted.
        """
        from .study import Study

        with _lock:
            home = _home.get((os.getpid(), self.worker))
            if home is not None:
                return home
            key = (os.getpid(), pickle.dumps(self.storage), self.uid)
            study = _opened.pop(key, None)
            if study is None:
                study = Study(self.study_name, self.storage, self.sampler, self.pruner, self.space, self.lease)
                if study._log.history.uid != self.uid:
                    raise StudyNotFound(self.study_name, self.storage.names())
            _opened[key] = study  # behind all that were used before
            while len(_opened) > _KEPT:  # trials that are still at work keep their study
                del _opened[next(iter(_opened))]
        study.pruner = self.pruner
        with study._log.lock:
            for space in self.spaces:
                study._log.history.provide(space)
        return study


def _enter_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have had it


in_child(_enter_child)


def arrive(address: Address, number: int, proposal: dict[str, Any], rng: Any, asked: dict[int, int]) -> Trial:
    """Return trial ``number`` of the study at ``address``; what a pickled `Trial` calls."""
    study = address.open()
    with study._log.lock:
        study._log.sync()
        record = study._log.history.trials[number]
    return Trial(study, record, proposal, rng, asked, away=study._log.worker != address.worker)
