"""What a storage is: it appends events to a study's log and reads them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from ..events import Event

_S = TypeVar("_S", bound="Storage")


class StudyExists(ValueError):
    """Raised when a study of that name is there already."""

    def __init__(self, study: str) -> None:
        super().__init__(
            f"A study named {study!r} exists already; use another study_name, or load_if_exists=True to go on with it."
        )
        self.study = study

    def __reduce__(self) -> tuple[object, ...]:
        return StudyExists, (self.study,)


class StudyNotFound(KeyError):
    """Raised when there is no study of that name, or it is not the one that it was."""

    def __init__(self, study: str, names: Sequence[str], where: str = "") -> None:
        super().__init__(study, names, where)
        self.study = study
        self.names = list(names)
        self.where = where

    def __str__(self) -> str:
        place = self.where and f" in {self.where}"
        if self.study in self.names:
            return f"The study {self.study!r}{place} was deleted; what has its name now is another one: load it anew."
        return f"No study named {self.study!r}{place}; there are {sorted(self.names)}."


class StorageError(RuntimeError):
    """Raised when a log can be neither written nor read: damaged, disk full, locked for too long, server gone."""


class Storage(ABC):
    """The event logs of any number of studies, safe for many writing threads and processes.

    What holds of every storage: all readers see one order, and what one of them has read never
    moves or vanishes; an event is there once, however often it is appended (its `Event.uid` names
    it), so that an append whose outcome is not known can be repeated.
    """

    #: Whether other processes may write to it too.
    shared = True
    #: Whether a study that is not found now may be there again later, as after a server's restart.
    lasting = True

    @abstractmethod
    def create(self, study: str, events: Sequence[Event]) -> None:
        """Start the log of a study with its first events, at least one.

        Raises:
            StudyExists: If there is a study of that name, unless its first event is the one given:
                then this is a repeat.
            ValueError: If the name is empty or no text that every storage can hold.
        """

    @abstractmethod
    def delete(self, study: str) -> None:
        """Remove a study's log, or raise `StudyNotFound`."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the studies, oldest first."""

    @abstractmethod
    def append(self, study: str, events: Sequence[Event]) -> int:
        """Append events in this order, all or none; those in the log already are passed over.

        A worker's events come in the order of their ``seq``, or as repeats.

        Returns:
            The position in the log of the first of them. A writer that has read so far need not
            read what it has just written. -1 where they were passed over, or nothing was given.

        Raises:
            StudyNotFound: If there is no such study.
            StorageError: If the events could not be written; none of them is in the log then,
                unless the message says that this is not known.
        """

    def append_next(self, study: str, event: Event, at: int) -> int | None:
        """Append a new event, as `append` does, unless the log has got more than ``at`` events.

        It spares a worker who is alone the `read` before it writes. A storage that cannot look and write in one step
        reads first; others may write between the two.

        Returns:
            As `append`: -1 where the append was repeated, as its outcome was not known, and the log turned out to have
            the event. None where the log has got more events: nothing is appended then.
        """
        return None if self.read(study, at, 1) else self.append(study, [event])

    def exchange(self, study: str, events: Sequence[Event], since: int) -> tuple[int, list[Event]]:
        """Append new events, as `append` does, and read what others have appended before them.

        A storage that cannot do both in one step, or has much to read, leaves the reading to the caller.

        Args:
            study: Name of the study.
            events: At least one; none of them is among the first ``since`` of the log.
            since: How many events of the log the caller has read.

        Returns:
            As `append`, and the events from position ``since`` up to those given now, or none of them.
        """
        return self.append(study, events), []

    @abstractmethod
    def read(self, study: str, since: int, limit: int | None = None) -> list[Event]:
        """Return the events of the log from position ``since`` on, in the order all readers see.

        Args:
            study: Name of the study.
            since: How many events of the log to pass over, at most as many as it has.
            limit: Return so many at most; None: all.

        Raises:
            StudyNotFound: If there is no such study.
            StorageError: If the log is damaged or cannot be reached.
        """

    def elsewhere(self) -> Storage:
        """Return a storage with the same logs that can be pickled to another process of this machine."""
        return self

    def hurry(self, seconds: float) -> None:  # noqa: B027
        """Wait for others no longer than ``seconds`` from now on, where that can be changed: this process ends."""

    def settle(self) -> None:  # noqa: B027
        """Tidy up while nobody waits: a search has ended, or its process has been idle for a while."""

    def close(self) -> None:  # noqa: B027
        """Let go of files and connections; using the storage again opens them again."""

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_name(study: str) -> None:
    """Refuse a study name that not every storage can hold.

    Raises:
        ValueError: If it is empty, longer than 255 characters, or has NUL or half a character.
    """
    if not isinstance(study, str):
        raise ValueError(f"study_name must be text, got {study!r}.")
    if not 0 < len(study) <= 255 or "\0" in study or any("\ud800" <= c <= "\udfff" for c in study):
        raise ValueError(
            f"study_name must be 1 to 255 characters of text without NUL or lone surrogates, got {study!r}."
        )
