"""What a storage is: it appends events to a study's log and reads them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..events import Event


class StudyExists(ValueError):
    """Raised when a study of that name is there already."""

    def __init__(self, study: str) -> None:
        super().__init__(
            f"A study named {study!r} exists already; use another study_name, or load_if_exists=True to go on with it."
        )


class StudyNotFound(KeyError):
    """Raised when there is no study of that name."""

    def __init__(self, study: str, names: Sequence[str]) -> None:
        super().__init__(study)
        self._text = f"No study named {study!r}; there are {sorted(names)}."

    def __str__(self) -> str:
        return self._text


class Storage(ABC):
    """The event logs of any number of studies, safe for many writers."""

    @abstractmethod
    def create(self, study: str, events: Sequence[Event]) -> None:
        """Start the log of a study with its first events, or raise `StudyExists`."""

    @abstractmethod
    def delete(self, study: str) -> None:
        """Remove a study's log, or raise `StudyNotFound`."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the studies."""

    @abstractmethod
    def append(self, study: str, events: Sequence[Event]) -> None:
        """Append events in this order and all or none, or raise `StudyNotFound`."""

    @abstractmethod
    def read(self, study: str, since: int) -> list[Event]:
        """Return the events of the log from position ``since`` on, in the order all readers see."""
