"""The log of a study in this process's memory."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..events import Event
from ..forks import in_child
from .storage import Storage, StudyExists, StudyNotFound, check_name

if TYPE_CHECKING:
    from .server import Server


_storages: weakref.WeakSet[MemoryStorage] = weakref.WeakSet()


class Kept:
    """The events of one study, and the largest ``seq`` of each worker.

    A worker may add its next event without the lock: a list grows by one operation that no thread can come into, and
    whoever has added something looks where it is. The lock keeps repeats apart, which come in threads of a server.
    """

    __slots__ = ("events", "last", "lock")

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = list(events)
        self.last = {e.worker: e.seq for e in events}
        self.lock = threading.Lock()

    def holds(self, event: Event) -> bool:
        return any(e.seq == event.seq and e.worker == event.worker for e in self.events)


class _Logs(dict[str, Kept]):
    """Logs by the name of their study."""

    def __missing__(self, study: str) -> Kept:
        raise StudyNotFound(study, list(self))


class MemoryStorage(Storage):
    """Event logs in memory: the default; gone when the process ends.

    Example:
        >>> storage = MemoryStorage()
        >>> storage.create("s", [Event("w", 0, "study", -1, {})])
        >>> storage.append("s", [Event("w", 1, "created", -1, 0.0)])
        1
        >>> [e.kind for e in storage.read("s", 1)]
        ['created']
    """

    shared = False

    def __init__(self) -> None:
        self._server: Server | None = None
        self._logs = _Logs()
        self._gone: dict[str, set[str]] = {}  # study -> who has written to deleted logs of that name
        self._lock = threading.Lock()
        _storages.add(self)

    def create(self, study: str, events: Sequence[Event]) -> None:
        check_name(study)
        with self._lock:
            if study in self._logs:
                if self._logs[study].events[0].uid == events[0].uid:
                    return
                raise StudyExists(study)
            self._logs[study] = Kept(events)

    def delete(self, study: str) -> None:
        with self._lock:
            log = self._logs.pop(study, None)
            if log is None:
                raise StudyNotFound(study, list(self._logs))
            self._gone.setdefault(study, set()).update(log.last)

    def names(self) -> list[str]:
        with self._lock:
            return list(self._logs)

    def append(self, study: str, events: Sequence[Event]) -> int:
        log = self._logs[study]
        held, last, new = log.events, log.last, []
        with log.lock:
            for event in events:
                worker, seq, _, _, _ = event
                if worker not in last and worker in self._gone.get(study, ()):
                    raise StudyNotFound(study, list(self._logs))  # of that log; a worker has one study alone
                if seq > last.get(worker, -1):
                    last[worker] = seq
                elif log.holds(event):  # a worker's events come in order, unless they are repeated
                    continue
                new.append(event)
            held += new
        if not new or len(new) < len(events):
            return -1
        at = len(held) - len(new)
        while held[at] is not new[0]:  # others have written since
            at -= 1
        return at

    def read(self, study: str, since: int, limit: int | None = None) -> list[Event]:
        events = self._logs[study].events
        return events[since:] if limit is None else events[since : since + limit]

    def kept(self, study: str) -> Kept:
        """Return what is kept of a study, for a worker in this process that adds its next event by itself."""
        return self._logs[study]

    def elsewhere(self) -> Storage:
        """Start to listen, for as long as this storage is there, and return a client's storage."""
        from .server import ClientStorage, Server

        with self._lock:
            if self._server is None:
                self._server = Server(weakref.proxy(self))  # whose threads must not keep the storage
                weakref.finalize(self, self._server._leave).atexit = False  # until then others may read what is left
            client = ClientStorage(self._server.address, self._server.authkey)
            client.lasting = False
            return client

    def __deepcopy__(self, memo: dict[int, object]) -> MemoryStorage:
        return self  # a storage is a place

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("A MemoryStorage lives in this process alone; serve it to others with inloop.storage.Server.")


def _enter_child() -> None:
    for storage in _storages:
        storage._lock = threading.Lock()  # another thread of the parent may have had it


in_child(_enter_child)
