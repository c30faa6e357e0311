"""Locks over forks: one that another thread of the parent holds, nobody would ever release in the child."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

_T = TypeVar("_T")
_WAIT = 0.2  # seconds; what a thread does with such a lock takes milliseconds, unless it waits itself

#: A lock, and what puts a new one in its place.
Held: TypeAlias = "tuple[threading.RLock, Callable[[], None]]"

#: How many forks lie between the first process and this one; cheaper to look at than os.getpid.
forks = [0]


def hold_over_forks(locks: Callable[[], Iterable[Held]]) -> None:
    """Have every fork wait until no other thread has one of the locks.

    But not for long: such a thread may itself wait, for a server that the fork is to start for instance. The child gets
    a new lock then.

    Args:
        locks: Returns the locks that there are at the time.
    """
    local = threading.local()

    def hold() -> None:
        local.held = []  # an interrupt may come before the first
        for lock, renew in locks():
            local.held.append((lock, renew, take_briefly(lock)))

    def let_go() -> None:
        for lock, _, held in local.held:
            if held:
                lock.release()
        local.held = []

    def enter_child() -> None:
        for _, renew, held in local.held:
            if not held:
                renew()
        let_go()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=enter_child)


def in_child(work: Callable[[], Any]) -> None:
    """Have every forked child do ``work`` first."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=work)


def take_briefly(lock: threading.RLock) -> bool:
    """Take a lock unless another thread keeps it, which waits itself then; return whether."""
    return lock.acquire(timeout=_WAIT)


def members(kept: weakref.WeakSet[_T]) -> list[_T]:
    """Return what is in a set to which other threads may add."""
    while True:
        try:
            return list(kept)
        except RuntimeError:  # it has grown meanwhile
            pass


def _count() -> None:
    forks[0] += 1


in_child(_count)
