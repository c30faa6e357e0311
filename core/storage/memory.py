"""The log of a study in this process's memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..events import Event
from .storage import Storage, StudyExists, StudyNotFound


class MemoryStorage(Storage):
    """Event logs in memory: the default; gone when the process ends.

    Example:
        >>> storage = MemoryStorage()
        >>> storage.create("s", [Event("w", 0, "study", -1, {})])
        >>> storage.append("s", [Event("w", 1, "created", -1, 0.0)])
        >>> [e.kind for e in storage.read("s", 1)]
        ['created']
    """

    def __init__(self) -> None:
        self._logs: dict[str, list[Event]] = {}
        self._lock = threading.Lock()

    def create(self, study: str, events: Sequence[Event]) -> None:
        with self._lock:
            if study in self._logs:
                raise StudyExists(study)
            self._logs[study] = list(events)

    def delete(self, study: str) -> None:
        with self._lock:
            if self._logs.pop(study, None) is None:
                raise StudyNotFound(study, list(self._logs))

    def names(self) -> list[str]:
        with self._lock:
            return list(self._logs)

    def append(self, study: str, events: Sequence[Event]) -> None:
        self._log(study).extend(events)  # atomic under the interpreter lock

    def read(self, study: str, since: int) -> list[Event]:
        return self._log(study)[since:]

    def _log(self, study: str) -> list[Event]:
        try:
            return self._logs[study]
        except KeyError:
            raise StudyNotFound(study, list(self._logs)) from None
