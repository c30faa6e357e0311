"""The logs of studies in one SQLite file, shared by any number of processes of one machine."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..events import Event, from_joined, from_json_lines, to_json
from ..forks import hold_over_forks, members
from .guard import Guard, guard, let_go, opening, tidy_up
from .storage import Storage, StorageError, StudyExists, StudyNotFound, check_name

_T = TypeVar("_T")

_APPLICATION = 0x696E6C70  # "inlp", as SQLite's application_id
_LAYOUT = 1  # of the tables, as SQLite's user_version
# An event's id is the id of its study and its position in that study's log: the events of a study lie
# side by side in one tree, and an append touches one page.
_POSITIONS = 1 << 40
_TABLES = f"""
CREATE TABLE study (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE event (id INTEGER PRIMARY KEY, line TEXT NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_LAYOUT};
"""
# One statement: it looks whether the log has the event, finds the next id and writes. An id that is a text is refused.
_APPEND = """
INSERT INTO event (id, line) VALUES (
    CASE WHEN EXISTS (SELECT 1 FROM event WHERE id > ? AND id < ? AND substr(line, 1, ?) = ?) THEN 'held'
    ELSE coalesce((SELECT max(id) + 1 FROM event WHERE id >= ? AND id < ?), 'none') END, ?)
"""
# For a worker that has read all that was written before: if the next id is not free, others have written since. An id
# that is a text is refused here, too.
_APPEND_NEXT = "INSERT INTO event (id, line) VALUES (coalesce((SELECT id + 1 FROM event WHERE id = ?), 'none'), ?)"
# Bytes. Every commit writes a page or two: with 4096 a trial takes 5 % longer, with 1024 a long log is read 5 % slower.
_PAGE_SIZE = 2048
_PAGE = 5000  # events of one query; between two queries the write-ahead log can start anew
_JOURNAL = 16 << 20  # bytes over which the write-ahead log is made to start anew
_LOOK = 1 << 20  # bytes written between two looks at its size
_BRIEFLY = 100  # milliseconds for which others are waited for to make it start anew
_SETTLED = 0.2  # seconds from one settling, which takes up to 10 ms, to the next
_NOTHING = (-1, -1)  # last seq and id of a worker that has written nothing
_FLUSHED = {"finished": frozenset({"study", "finished"}), "never": frozenset[str](), "always": None}
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs",
})  # fmt: skip

_inherited: list[Any] = []  # connections of a forked process's parent: neither used nor closed here


class SqliteStorage(Storage):
    """Event logs in a SQLite file.

    Processes of one machine share the file. Those of several machines should not: let one serve it to
    the others (`Server`), or use a database server. On a network file system the storage warns, and
    uses SQLite's rollback journal, which is slower and as safe as the locks of that file system.

    A file that may not be written, in a folder that may not be either, can be looked at.

    Args:
        path: The file; the first study that is created makes it.
        durability: What is on the disk when `append` returns: ``"finished"``: the ends of trials and all
            before them; ``"always"``: everything; ``"never"``: a power cut may cost the last seconds.
            A killed process loses nothing of what was appended in either case.
        timeout: Seconds to wait for other writers.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder, SqliteStorage(os.path.join(folder, "s.db")) as storage:
        ...     storage.create("s", [Event("w", 0, "study", -1, {})])
        ...     at = storage.append("s", [Event("w", 1, "created", -1, 0.0)])
        ...     at, [e.kind for e in storage.read("s", 0)]
        (1, ['study', 'created'])
    """

    def __init__(self, path: str | os.PathLike[str], durability: str = "finished", timeout: float = 60.0) -> None:
        if durability not in _FLUSHED:
            raise ValueError(f"durability must be one of {sorted(_FLUSHED)}, got {durability!r}.")
        self.path = os.path.realpath(os.fspath(path))  # of a link's target, beside which SQLite puts the -wal
        self.durability = durability
        self.timeout = timeout
        self._flushed = _FLUSHED[durability]
        self._lock = threading.RLock()
        self._busy = False  # whether the thread that has the lock uses the connection
        self._pid = os.getpid()
        self._connection: _Connection | None = None
        self._firsts: dict[str, int] = {}  # study -> id of its first event
        self._settled = -math.inf  # when it was last settled
        _storages.add(self)

    def create(self, study: str, events: Sequence[Event]) -> None:
        check_name(study)
        lines = [to_json(e) for e in events]
        first = self._do(study, _Connection.create, study, events[0].uid, lines, make=True)
        if first is None:
            raise StudyExists(study)
        self._firsts[study] = first
        self._flush_if(study, events)

    def delete(self, study: str) -> None:
        if not self._do(study, _Connection.delete, study):
            raise self._missing(study)
        self._firsts.pop(study, None)

    def names(self) -> list[str]:
        if not os.path.exists(self.path):
            return []
        try:
            return self._do("", _Connection.names)
        except StudyNotFound:  # there is nothing in the file yet
            return []

    def append(self, study: str, events: Sequence[Event]) -> int:
        if not events:
            return -1
        at = self._do(study, _Connection.append, self._first(study), events)
        if at is None:
            raise self._missing(study)
        self._flush_if(study, events)
        return at

    def exchange(self, study: str, events: Sequence[Event], since: int) -> tuple[int, list[Event]]:
        found = self._do(study, _Connection.exchange, self._first(study), events, since)
        try:
            others = None if found is None else from_joined(*found)[1:] if found[1] > 1 else []
        except ValueError:
            others = None
        if others is None:  # much to read, repeated events, or something is wrong with the log
            return super().exchange(study, events, since)
        self._flush_if(study, events)
        return since + len(others), others

    def append_next(self, study: str, event: Event, at: int) -> int | None:
        if not self._do(study, _Connection.append_next, self._first(study), event, at):
            return None
        self._flush_if(study, [event])
        return at

    def read(self, study: str, since: int, limit: int | None = None) -> list[Event]:
        first = self._first(study, anew=since == 0)
        events: list[Event] = []
        while limit is None or len(events) < limit:
            page = _PAGE if limit is None else min(_PAGE, limit - len(events))
            new = self._page(study, first, since + len(events), page)
            events += new
            if len(new) < page:
                break
        return events

    def check(self) -> list[str]:
        """Return what SQLite finds wrong with the file; nothing if all is well."""
        return self._do("", _Connection.check)

    def settle(self) -> None:
        """Move the write-ahead log into the file, so that a copy of the file alone has all; five times a second."""
        now = time.monotonic()
        if self._connection is not None and self._pid == os.getpid() and now - self._settled > _SETTLED:
            self._settled = now
            with contextlib.suppress(StorageError):
                self._do("", _Connection.settle)

    def close(self) -> None:
        if self._pid != os.getpid():
            self._enter_process()
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _page(self, study: str, first: int, since: int, limit: int) -> list[Event]:
        """Return the next events, and see that the log goes on from the event before them."""
        before = min(since, 1)
        start = first + since - before
        count, last, joined = self._do(study, _Connection.joined, start, limit + before)
        if count and last - start + 1 == count:
            try:
                return from_joined(joined, count)[before:] if count > before else []
            except ValueError:
                pass
        return self._page_by_rows(study, first, since, limit)

    def _page_by_rows(self, study: str, first: int, since: int, limit: int) -> list[Event]:
        """Do what `_page` does, and say what is wrong where that failed."""
        before = min(since, 1)
        start = first + since - before
        rows = self._do(study, _Connection.rows, start, limit + before)
        if not rows or rows[0][0] != start or rows[-1][0] - start + 1 != len(rows):
            if self._do(study, _Connection.last, first) is None:
                raise self._missing(study)
            raise StorageError(f"{self.path}: event {since} of study {study!r}, or one after it, has been lost.")
        try:
            return from_json_lines([line for _, line in rows[before:]])
        except ValueError as error:
            raise StorageError(f"{self.path} is damaged after event {since}: {error}.") from None

    def _first(self, study: str, anew: bool = False) -> int:
        """Return the id of a study's first event; one that was deleted and made again is another study."""
        first = None if anew else self._firsts.get(study)
        if first is None:
            first = self._do(study, _Connection.first, study)
            if first is None:
                raise self._missing(study)
            self._firsts[study] = first
        return first

    def _flush_if(self, study: str, events: Sequence[Event]) -> None:
        """Wait for the disk if one of the events calls for it; other processes write on meanwhile."""
        for event in events:
            if self._flushed is None or event[2] in self._flushed:
                self._do(study, _Connection.flush)
                return

    def _do(self, study: str, work: Callable[..., _T], *given: Any, make: bool = False) -> _T:
        """Do ``work``, a method of `_Connection`, on this process's connection."""
        if self._pid != os.getpid():
            self._enter_process()
        with self._lock:
            inside = self._busy  # another call of this thread, into which a signal handler has come
            if inside and self._connection is not None and self._connection.in_transaction:
                raise RuntimeError(
                    f"{self.path} is just being written by this very thread: a signal handler, which may come at any "
                    "moment, should set a flag to act on later."
                )
            try:
                self._busy = True
                if self._connection is None or (self._connection.read_only and not inside):
                    self._connection = self._open(study, make)
                return self._connection.do(work, *given)
            except sqlite3.Error as error:
                raise self._trouble(error) from error
            finally:
                self._busy = inside

    def _open(self, study: str, make: bool) -> _Connection:
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise StorageError(f"{self.path} cannot be opened: there is no folder {folder}.")
        if os.path.isdir(self.path):
            raise StorageError(f"{self.path} cannot be opened: it is a folder.")
        if not make and not os.path.exists(self.path):
            raise StudyNotFound(study, [], f"{self.path}, which does not exist")
        if not make and os.path.getsize(self.path) == 0:  # SQLite would take it for a database, and write one
            raise StudyNotFound(study, [], f"{self.path}, which is empty")
        self.close()
        connection = _Connection(self.path, self.timeout, make)
        if not connection.has_tables:
            connection.close()
            raise StudyNotFound(study, [], f"{self.path}, which is a database without tables")
        return connection

    def _enter_process(self) -> None:
        """Leave the parent's connection alone after a fork: using or closing it would break the parent's locks."""
        if self._connection is not None:
            _inherited.append(self._connection)
        self._connection = None
        self._lock = threading.RLock()
        self._busy = False
        self._pid = os.getpid()

    def _missing(self, study: str) -> StudyNotFound:
        return StudyNotFound(study, self._connection.names() if self._connection else [], self.path)

    def _trouble(self, error: sqlite3.Error) -> StorageError:
        text = str(error)
        if "locked" in text or "busy" in text:
            text += f"; other processes have been writing for {self.timeout:g} s"
        elif "readonly" in text:
            text += "; this user may not write it, or not in its folder"
        elif "disk I/O" in text:
            text += f"; if the file was removed while others use it, end them, or remove {self.path}-wal and -shm, too"
        elif "unable to open" in text:
            text += "; if it is there, this user may not open it, or too many files are open (ulimit -n)"
        elif "full" in text:
            text += "; nothing of this was written, what was written before is there"
        elif "not a database" in text:
            text = "this is not a database of inloop, or its beginning is damaged (file is not a database)"
        elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            text += f"; `inloop check {self.path}` says what is left of it"
        return StorageError(f"{self.path}: {text}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return SqliteStorage, (self.path, self.durability, self.timeout)

    def __repr__(self) -> str:
        return f"SqliteStorage({self.path!r})"


class _Connection:
    """One process's connection to a file: the SQL, in methods that are called by `do`."""

    def __init__(self, path: str, timeout: float, make: bool) -> None:
        self._guards: list[Guard] = []
        self._path = path
        self._timeout = timeout
        self._unlooked = 0
        self._written: dict[tuple[int, str], tuple[int, int]] = {}  # study's first id, worker -> its last seq, id
        self._journal: int | None = None  # file descriptor
        self._closing: weakref.finalize[..., Any] | None = None  # of the journal, also when nobody calls close
        # its journal cannot be written, so SQLite sees no writer: whoever looks again opens it anew
        self.read_only = os.path.exists(path) and not any(os.access(p, os.W_OK) for p in (path, os.path.dirname(path)))
        place = _read_only(path) if self.read_only else path
        uri = self.read_only
        with opening():
            self._sql = sqlite3.connect(place, timeout=timeout, isolation_level=None, check_same_thread=False, uri=uri)
            self._end = weakref.finalize(self, _end, self._sql, self._guards, os.getpid())  # also if nobody calls close
            self._end.atexit = False  # something may yet be told at exit
            try:
                self._check_ours()
                self.has_tables = make or self._version() > 0
                if self.has_tables:
                    self._set_up()
            except BaseException:
                self._end()
                raise
        self._run = self._sql.execute

    def _set_up(self) -> None:
        if self.read_only:
            self._wal = False
            self._check_layout()
            return
        run = self._sql.execute
        run(f"PRAGMA page_size = {_PAGE_SIZE}")  # of a new file
        run("PRAGMA cell_size_check = ON")
        network = network_file_system(self._path)
        if network:
            warnings.warn(
                f"{self._path} is on a network file system ({network}), where SQLite is slow, and only as safe as its "
                "locks; use a local file, a server (`inloop serve`) or PostgreSQL.",
                stacklevel=2,
            )
        self._wal = self._set_journal("delete" if network else "wal") == "wal"
        run("PRAGMA synchronous = NORMAL" if self._wal else "PRAGMA synchronous = FULL")
        run(f"PRAGMA journal_size_limit = {_JOURNAL}")
        run("BEGIN IMMEDIATE")
        if self._version() == 0:
            for statement in _TABLES.split(";"):
                run(statement)
        run("COMMIT")
        self._inode = os.stat(self._path).st_ino
        if self._wal:
            self._guards += guard(self._path)
        self._check_layout()

    def _check_layout(self) -> None:
        if self._version() > _LAYOUT:
            raise StorageError(f"{self._path} was written by a newer version of inloop; this one cannot read it.")

    def _check_ours(self) -> None:
        """Refuse to write into a database of something else."""
        tables = {name for (name,) in self._sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        (application,) = self._sql.execute("PRAGMA application_id").fetchone()
        if tables and application != _APPLICATION:
            raise StorageError(f"{self._path} is a database of something else, with the tables {sorted(tables)}.")

    def _version(self) -> int:
        return int(self._sql.execute("PRAGMA user_version").fetchone()[0])

    def _set_journal(self, mode: str) -> str:
        # SQLite does not wait by itself for others who open the file at the same moment
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return str(self._sql.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0])
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @property
    def in_transaction(self) -> bool:
        return self._sql.in_transaction

    def do(self, work: Callable[..., _T], *given: Any) -> _T:
        """Do ``work``, a method of this class, and roll back the transaction that it has begun and not ended.

        A signal may end it as soon as the transaction has begun, and another one the rolling back.
        """
        try:
            if self._sql.in_transaction:
                self._rollback()
            return work(self, *given)
        except BaseException:
            self._rollback()
            raise

    def create(self, study: str, uid: str, lines: list[str]) -> int | None:
        """Start a log and return the id of its first event, None if there is one that starts with another event."""
        self._begin()
        first = self.first(study)
        if first is None:
            row = self._run("INSERT INTO study (name) VALUES (?)", (study,)).lastrowid
            assert row is not None
            first = row * _POSITIONS
            self._insert(first, lines)
        elif from_json_lines([self.rows(first, 1)[0][1]])[0].uid != uid:
            first = None
        self._run("COMMIT")
        return first

    def delete(self, study: str) -> bool:
        """Remove a log; return whether there was one."""
        self._begin()
        first = self.first(study)
        if first is not None:
            self._run("DELETE FROM event WHERE id >= ? AND id < ?", (first, first + _POSITIONS))
            self._run("DELETE FROM study WHERE name = ?", (study,))
        self._run("COMMIT")
        self.shorten()
        return first is not None

    def append(self, first: int, events: Sequence[Event]) -> int | None:
        """Append to the log that starts at the id ``first``, all or nothing, as ``Storage.append``.

        Returns:
            The position of the first event, -1 if some were in the log already; None if there is no log.
        """
        lines = [to_json(e) for e in events]
        try:
            if len(events) == 1:  # one statement is a transaction by itself
                at = self._append_one(first, events[0], lines[0])
            else:
                self._begin()
                for event, line in zip(events, lines, strict=True):
                    at = self._append_one(first, event, line)
                self._run("COMMIT")
        except sqlite3.IntegrityError:
            self._rollback()
            return self._append_rest(first, events)
        self._wrote(sum(map(len, lines)))
        return at - len(events) + 1 - first

    def exchange(self, first: int, events: Sequence[Event], since: int) -> tuple[str, int] | None:
        """Append to the log that starts at the id ``first``, all or nothing, as ``Storage.exchange``.

        Returns:
            The lines before them from position ``since - 1`` on, joined by commas, and how many. None where nothing
            was appended: there are too many to read at once, or some that are missing or repeated.
        """
        if len(events) == 1 and since and self.append_next(first, events[0], since):
            return "", 1
        start = first + since - 1  # the event before them, too: if it is there, none can be missing unseen
        self._begin()
        count, last, joined = self.joined(start, _PAGE)
        if not 0 < count < _PAGE or last - start + 1 != count or any(_opening(e) in joined for e in events):
            self._run("ROLLBACK")
            return None
        lines = [to_json(e) for e in events]
        self._insert(last + 1, lines)
        self._run("COMMIT")
        self._wrote(sum(map(len, lines)))
        return joined, count

    def append_next(self, first: int, event: Event, at: int) -> bool:
        """Append to the log that starts at the id ``first`` if it has ``at`` events; return whether."""
        line = to_json(event)
        try:
            self._run(_APPEND_NEXT, (first + at - 1, line))
        except sqlite3.IntegrityError:  # the next id is taken
            return False
        self._wrote(len(line))
        return True

    def _append_one(self, first: int, event: Event, line: str) -> int:
        """Append an event and return its id."""
        worker, seq, _, _, _ = event
        last, after = self._written.get((first, worker), _NOTHING)
        if seq <= last or after < first:
            after = first - 1
        start, end = _opening(event), first + _POSITIONS
        at = self._run(_APPEND, (after, end, len(start), start, first, end, line)).lastrowid
        assert at is not None
        self._written[first, worker] = seq, at
        return at

    def _append_rest(self, first: int, events: Sequence[Event]) -> int | None:
        """Append those events that are not in the log; return -1, None if there is no log."""
        self._begin()
        head = self.last(first)
        if head is not None:
            held = {uid for worker in {e[0] for e in events} for uid in self._uids(first, worker)}
            self._insert(head + 1, [to_json(e) for e in events if (e[0], e[1]) not in held])
        self._run("COMMIT")
        return None if head is None else -1

    def _uids(self, first: int, worker: str) -> list[tuple[str, int]]:
        """Return (worker, seq) of all events of a worker."""
        start = f'["{worker}",'
        query = "SELECT line FROM event WHERE id >= ? AND id < ? AND substr(line, 1, ?) = ?"
        rows = self._run(query, (first, first + _POSITIONS, len(start), start)).fetchall()
        return [(e.worker, e.seq) for e in from_json_lines([line for (line,) in rows])]

    def _begin(self) -> None:
        self._run("BEGIN IMMEDIATE")

    def _wrote(self, size: int) -> None:
        """After a commit of so many bytes, see now and then whether the write-ahead log has to start anew."""
        self._unlooked += _PAGE_SIZE + size  # every commit rewrites a page at least
        if self._unlooked < _LOOK:
            return
        self._unlooked = 0
        with contextlib.suppress(OSError, sqlite3.Error):  # what was written is written
            if self._wal and os.stat(self._path + "-wal").st_size > _JOURNAL:
                self.shorten()

    def _rollback(self) -> None:
        self._written.clear()  # may name events that are not there
        if self._sql.in_transaction:
            self._run("ROLLBACK")

    def _insert(self, at: int, lines: list[str]) -> None:
        if len(lines) == 1:
            self._run("INSERT INTO event (id, line) VALUES (?, ?)", (at, lines[0]))
        else:
            self._sql.executemany("INSERT INTO event (id, line) VALUES (?, ?)", enumerate(lines, at))

    def shorten(self) -> None:
        """Have the write-ahead log start anew, which it cannot by itself while there is always somebody writing."""
        if self._wal:
            self._run(f"PRAGMA busy_timeout = {_BRIEFLY}")  # it keeps all writers waiting while it waits for readers
            try:
                self._run("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._run(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")

    def settle(self) -> None:
        if self._wal:
            self._run("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def flush(self) -> None:
        """Wait until the disk has what was committed."""
        if not self._wal:
            return
        try:
            if self._journal is None:
                self._journal = os.open(self._path + "-wal", os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
                self._closing = weakref.finalize(self, os.close, self._journal)
                self._closing.atexit = False  # something may yet be told at exit
                _flush_folder(os.path.dirname(self._path))
            if os.stat(self._path).st_ino != self._inode or os.fstat(self._journal).st_nlink == 0:
                raise OSError("the file or its -wal was removed or replaced while in use")
            (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(self._journal)
        except OSError as error:
            raise StorageError(
                f"{self._path}: {error}; the events were written, but it is not known whether they would "
                "survive a power cut."
            ) from error

    def names(self) -> list[str]:
        return [name for (name,) in self._run("SELECT name FROM study ORDER BY id")]

    def first(self, study: str) -> int | None:
        row = self._run("SELECT id FROM study WHERE name = ?", (study,)).fetchone()
        return None if row is None else int(row[0]) * _POSITIONS

    def last(self, first: int) -> int | None:
        row = self._run("SELECT max(id) FROM event WHERE id >= ? AND id < ?", (first, first + _POSITIONS)).fetchone()
        return None if row[0] is None else int(row[0])

    def joined(self, start: int, limit: int) -> tuple[int, int, str]:
        """Return of the events of one study from the id ``start`` on: how many, the last id, their lines with commas.

        Nothing where the lines are too long for one text.
        """
        # half the time of as many rows; with LIMIT, what comes after a gap is seen and gives the gap away
        query = (
            "SELECT count(*), max(id), group_concat(line) FROM "
            "(SELECT id, line FROM event WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)"
        )
        end = (start // _POSITIONS + 1) * _POSITIONS
        try:
            row: tuple[int, int, str] = self._run(query, (start, end, limit)).fetchone()
        except sqlite3.DataError:
            return 0, 0, ""
        return row

    def rows(self, start: int, limit: int) -> list[tuple[int, str]]:
        """Return (id, line) of the events of one study from the id ``start`` on."""
        end = (start // _POSITIONS + 1) * _POSITIONS
        query = "SELECT id, line FROM event WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        return self._run(query, (start, end, limit)).fetchall()

    def check(self) -> list[str]:
        found = [str(text) for (text,) in self._run("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        self._end()
        if self._closing is not None:
            self._closing()
            self._journal = None


def _end(connection: sqlite3.Connection, guards: list[Guard], process: int) -> None:
    """Close a connection, and what guarded it."""
    if process != os.getpid():
        _inherited.append(connection)
        return
    let_go(guards)
    connection.close()
    tidy_up()


_storages: weakref.WeakSet[SqliteStorage] = weakref.WeakSet()
# in SQLite another thread may have locks of its own
hold_over_forks(lambda: [(storage._lock, storage._enter_process) for storage in members(_storages)])


def _opening(event: Event) -> str:
    """Return how the line of an event begins, which no other event's line has anywhere."""
    return f'["{event[0]}",{event[1]},'


def _read_only(path: str) -> str:
    """Return the URI of a file that SQLite is to open without writing anything beside it."""
    written = any(os.path.exists(path + end) for end in ("-wal", "-journal"))
    return Path(path).as_uri() + ("?mode=ro" if written else "?mode=ro&immutable=1")


def network_file_system(path: str, mounts: str = "/proc/self/mountinfo") -> str | None:
    """Return the type of the network file system that ``path`` is on; None if it is local or not known."""
    if path.startswith("\\\\"):
        return "UNC path"
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            entries = [line.split() for line in file]
    except OSError:
        return None
    real, best, kind = os.path.realpath(path), "", ""
    for entry in entries:
        point = entry[4].replace("\\040", " ")
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, entry[entry.index("-") + 1]
    return kind if kind in _NETWORK else None


def _flush_folder(folder: str) -> None:
    if os.name == "nt":  # has no such thing
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
