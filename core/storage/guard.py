"""What keeps a SQLite file in use while this process has it open, whatever else the process does with it."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from typing import TypeAlias

from ..forks import hold_over_forks, in_child

try:
    import fcntl
except ImportError:  # Windows, where locks are no matter of descriptors
    fcntl = None  # type: ignore[assignment]

# The bytes that SQLite keeps locked while a file and its -shm are in use: first one and number.
_IN_USE = {"": (0x40000002, 510), "-shm": (128, 1)}


class Guard:
    """Locks the bytes that SQLite locks as long as it uses a file once more, for all connections of this process.

    As soon as a process closes any descriptor of a file, after copying it for instance, all its locks on that file are
    gone, those of SQLite, too (POSIX). Others would take it for unused and remove the write-ahead log that this process
    goes on to write. Locks of an open file description, which not every system has, stay.
    """

    def __init__(self, descriptors: list[int]) -> None:
        for descriptor, (first, count) in zip(descriptors, _IN_USE.values(), strict=True):
            _lock(descriptor, fcntl.F_RDLCK, first, count)
        weakref.finalize(self, _unlock, descriptors, os.getpid()).atexit = False


#: What a guard's file is: process, device, inode.
_File: TypeAlias = tuple[int, int, int]
_guards: weakref.WeakValueDictionary[_File, Guard] = weakref.WeakValueDictionary()
_guarded: dict[_File, dict[str, int]] = {}  # descriptors, also of guards that are gone: see _tidy_up
_arriving = [0]  # connections that are just being opened: what they have open is not seen yet
_guarding = threading.RLock()  # a collection of garbage may close connections at any moment


def guard(path: str) -> list[Guard]:
    """Return the guard of a file, where there can be one."""
    if not hasattr(fcntl, "F_OFD_SETLK") or struct.calcsize("P") != 8:
        return []
    with _guarding, contextlib.suppress(OSError):  # too many open files
        stat = os.stat(path)
        file = os.getpid(), stat.st_dev, stat.st_ino
        found = _guards.get(file)
        if found is None:
            known = _guarded.setdefault(file, {})
            for end in _IN_USE:
                if end in known and not os.path.samestat(os.fstat(known[end]), os.stat(path + end)):
                    os.close(known.pop(end))  # a -shm that was removed
                if end not in known:
                    known[end] = os.open(path + end, os.O_RDONLY | os.O_CLOEXEC)
            found = _guards[file] = Guard([known[end] for end in _IN_USE])
        return [found]
    return []


def let_go(guards: list[Guard]) -> None:
    """Drop guards of a connection that is to be closed."""
    with _guarding:  # or else a guard that comes meanwhile would be unlocked with this one
        guards.clear()


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """Say that a connection is being opened, and what it has open not seen yet."""
    with _guarding:
        _arriving[0] += 1
    try:
        yield
    finally:
        with _guarding:
            _arriving[0] -= 1


def tidy_up() -> None:
    """Close descriptors without a guard, but none of a file that this process has open otherwise: see `Guard`."""
    with _guarding:
        _tidy_up()


def _tidy_up() -> None:
    idle = {file: known for file, known in _guarded.items() if file not in _guards}
    if not idle or _arriving[0]:
        return
    own = {descriptor for known in idle.values() for descriptor in known.values()}
    try:
        others = {_identity(int(name)) for name in os.listdir("/proc/self/fd") if int(name) not in own}
    except OSError:  # there is no such list, or too many files are open to look
        return
    for file, known in idle.items():
        if known and others.isdisjoint(map(_identity, known.values())):
            for descriptor in _guarded.pop(file, {}).values():
                os.close(descriptor)


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _unlock(descriptors: list[int], process: int) -> None:
    if process == os.getpid():  # not in a forked child, which shares the locks
        for descriptor in descriptors:
            _lock(descriptor, fcntl.F_UNLCK, 0, 0)


def _lock(descriptor: int, kind: int, first: int, count: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, first, count, 0))


def _renew() -> None:
    global _guarding
    _guarding = threading.RLock()


def _enter_child() -> None:
    _arriving[0] = 0


hold_over_forks(lambda: [(_guarding, _renew)])
in_child(_enter_child)
