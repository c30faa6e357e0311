"""The logs of studies in PostgreSQL, MySQL or MariaDB, for workers on any number of machines."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from ..events import Event, from_json_lines, to_json
from .storage import Storage, StorageError, StudyExists, StudyNotFound, check_name

_T = TypeVar("_T")

_LAYOUT = 1  # of the tables
_PAGE = 5000  # events of one query
_ROWS = 1000  # events of one INSERT: a statement has its size limit, MariaDB's by default 16 MiB
# seconds between looks for an event that is missing before others: under load MariaDB has been seen to show a commit
# for a moment before one that it came after
_PAUSES = (0.01, 0.05, 0.25, 1.0)
_IDLE = 10  # seconds after which the server ends a worker that stopped in the middle of an append
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
# what servers say of a table that there is not, and where others make the tables at this moment
_NO_TABLE = {"42P01", 1146}
_DEADLOCK = {"40P01", 1213}  # the server has chosen this transaction to end one
_MADE_BY_OTHERS = {"42P07", "23505", "42710", 1050, 1062} | _DEADLOCK
_FORM = "must be like postgresql://user:password@host:port/database, with %40 for an @ in the password"
_SECRET = re.compile("passw|pwd|secret", re.IGNORECASE)  # names of settings in a URL whose values are not shown


class _Name(sa.types.TypeDecorator[str]):
    """Text of which no two are equal; MySQL's own text takes ``a`` for ``A`` or for ``a`` and a blank."""

    impl = sa.String(255)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(mysql.VARBINARY(1020) if _is_mysql(dialect) else sa.String(255))


_ascii = mysql.VARCHAR(64, charset="ascii", collation="ascii_bin")
_long = mysql.LONGTEXT(charset="ascii", collation="ascii_bin")
_tables = sa.MetaData()
sa.Table("inloop_layout", _tables, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
sa.Table(
    "inloop_study",
    _tables,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("name", _Name, nullable=False, unique=True),
    sa.Column("head", sa.BigInteger, nullable=False),  # events in its log; who appends holds the lock of this row
    mysql_engine="InnoDB",
)
sa.Table(
    "inloop_event",
    _tables,
    sa.Column("study", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("worker", sa.String(64).with_variant(_ascii, "mysql", "mariadb"), nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("line", sa.Text().with_variant(_long, "mysql", "mariadb"), nullable=False),
    sa.UniqueConstraint("study", "worker", "seq", name="inloop_event_uid"),
    mysql_engine="InnoDB",
)


class SqlStorage(Storage):
    """Event logs in a database server.

    An append takes the next positions of its study's log and commits while it holds the lock of the study's
    row, so positions are dense and no event ever appears before one that was read. What is on the server's
    disk when an append returns is the server's setting, by default everything; to relax it (PostgreSQL's
    ``synchronous_commit``) is not safe here: after a crash of the server, workers would know events that it has lost.

    Args:
        url: As ``"postgresql://user:password@host/database"``, ``"mysql://..."`` or ``"mariadb://..."``.
        timeout: Seconds to wait for other writers, and for a server that went away and comes back.

    Raises:
        ImportError: If SQLAlchemy's driver for the server is not installed.
        ValueError: If the URL names another kind of server.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        self._url = _with_driver(url)
        self.timeout = timeout
        self._ids: dict[str, int] = {}  # study -> id
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._ready = False
        self._engine = self._make_engine()
        self._mysql = _is_mysql(self._engine.dialect)
        self._closing = weakref.finalize(self, _dispose, self._engine, self._pid)  # when nobody calls close

    def create(self, study: str, events: Sequence[Event]) -> None:
        check_name(study)
        if not self._ready:
            self._do(self._make_tables)
        rows = [(e.worker, e.seq, to_json(e)) for e in events]
        try:
            self._ids[study] = self._do(lambda c: self._transaction(c, lambda: self._insert_study(c, study, rows)))
        except IntegrityError:
            first = self._do(lambda c: self._first(c, study))
            if first is None or from_json_lines([first[1]])[0].uid != events[0].uid:
                raise StudyExists(study) from None
            self._ids[study] = first[0]

    def delete(self, study: str) -> None:
        tries = 0

        def work(c: sa.Connection) -> bool:
            nonlocal tries
            tries += 1
            found = c.exec_driver_sql("SELECT id FROM inloop_study WHERE name = %s FOR UPDATE", (self._name(study),))
            row = found.first()
            if row is None:
                return tries > 1  # it was done before the connection broke
            c.exec_driver_sql("DELETE FROM inloop_study WHERE id = %s", (row[0],))
            c.exec_driver_sql("DELETE FROM inloop_event WHERE study = %s", (row[0],))
            return True

        self._ids.pop(study, None)
        if not self._has_tables() or not self._do(lambda c: self._transaction(c, lambda: work(c))):
            raise self._missing(study)

    def names(self) -> list[str]:
        if not self._has_tables():
            return []
        rows = self._do(lambda c: c.exec_driver_sql("SELECT name FROM inloop_study ORDER BY id").all())
        return [_text(name) for (name,) in rows]

    def append(self, study: str, events: Sequence[Event]) -> int:
        if not events:
            return -1
        rows = [(e.worker, e.seq, to_json(e)) for e in events]
        number = self._id(study)
        try:
            head = self._do(lambda c: self._append(c, number, rows))
        except IntegrityError:  # some of them are there already
            return self._append_rest(study, number, rows)
        if head is None:
            raise self._missing(study)
        return head - len(rows)

    def read(self, study: str, since: int, limit: int | None = None) -> list[Event]:
        number = self._id(study, anew=since == 0)
        events: list[Event] = []
        while limit is None or len(events) < limit:
            page = _PAGE if limit is None else min(_PAGE, limit - len(events))
            lines = self._page(study, number, since + len(events), page)
            try:
                events += from_json_lines(lines)
            except ValueError as error:
                raise StorageError(f"{self} is damaged after event {since + len(events)}: {error}.") from None
            if len(lines) < page:
                break
        return events

    def close(self) -> None:
        _dispose(self._engine, self._pid)

    def _page(self, study: str, number: int, since: int, limit: int) -> list[str]:
        """Return the next lines, and see that the log goes on from the event before them."""
        before = min(since, 1)
        query = "SELECT position, line FROM inloop_event WHERE study = %s AND position >= %s ORDER BY position LIMIT %s"
        given = (number, since - before, limit + before)
        for pause in (*_PAUSES, None):
            rows = self._do(lambda c: c.exec_driver_sql(query, given).all())
            if rows and rows[0][0] == since - before and rows[-1][0] - rows[0][0] + 1 == len(rows):
                return [line for _, line in rows[before:]]
            if not self._do(lambda c: c.exec_driver_sql("SELECT 1 FROM inloop_study WHERE id = %s", (number,)).all()):
                break
            if pause is None:
                raise StorageError(f"{self}: event {since} of study {study!r}, or one after it, has been lost.")
            time.sleep(pause)
        raise self._missing(study)

    def _append(self, c: sa.Connection, number: int, rows: list[tuple[str, int, str]]) -> int | None:
        """Append, all or nothing; return the new length of the log, None if there is no such study."""
        if self._mysql:
            return self._transaction(c, lambda: _append_mysql(c, number, rows))
        workers, seqs, lines = (list(column) for column in zip(*rows, strict=True))
        given = (len(rows), number, number, len(rows), workers, seqs, lines)
        head = c.exec_driver_sql(_APPEND_POSTGRESQL, given).all()
        return None if not head else int(max(head)[0]) + 1

    def _append_rest(self, study: str, number: int, rows: list[tuple[str, int, str]]) -> int:
        """Append those that are not in the log."""
        held = "SELECT 1 FROM inloop_event WHERE study = %s AND worker = %s AND seq = %s"
        new = [r for r in rows if not self._do(lambda c, r=r: c.exec_driver_sql(held, (number, *r[:2])).all())]  # type: ignore[misc]
        if new and self._do(lambda c: self._append(c, number, new)) is None:
            raise self._missing(study)
        return -1

    def _insert_study(self, c: sa.Connection, study: str, rows: list[tuple[str, int, str]]) -> int:
        given = (self._name(study), len(rows))
        if self._mysql:
            number = c.exec_driver_sql("INSERT INTO inloop_study (name, head) VALUES (%s, %s)", given).lastrowid
        else:
            insert = "INSERT INTO inloop_study (name, head) VALUES (%s, %s) RETURNING id"
            number = c.exec_driver_sql(insert, given).scalar_one()
        _insert(c, number, 0, rows)
        return int(number)

    def _first(self, c: sa.Connection, study: str) -> tuple[int, str] | None:
        """Return the id and the first event's line of a study."""
        query = "SELECT s.id, e.line FROM inloop_study s JOIN inloop_event e ON e.study = s.id AND e.position = 0 "
        row = c.exec_driver_sql(query + "WHERE s.name = %s", (self._name(study),)).first()
        return None if row is None else (int(row[0]), str(row[1]))

    def _id(self, study: str, anew: bool = False) -> int:
        """Return the id of a study; one that was deleted and made again is another study."""
        if anew or study not in self._ids:
            first = self._do(lambda c: self._first(c, study)) if self._has_tables() else None
            if first is None:
                raise self._missing(study)
            self._ids[study] = first[0]
        return self._ids[study]

    def _name(self, study: str) -> Any:
        return study.encode() if self._mysql else study

    def _missing(self, study: str) -> StudyNotFound:
        return StudyNotFound(study, self.names(), str(self))

    # Connections

    def _do(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Do ``work`` on a connection, again if that broke or others were in its way: all work can be repeated."""
        if self._pid != os.getpid():
            self._enter_process()
        deadline, pause = time.monotonic() + self.timeout, 0.05
        while True:
            try:
                with self._connect() as c:
                    return work(c)
            except IntegrityError:
                raise
            except DBAPIError as error:
                broken = self._ready and (error.connection_invalidated or not error.statement)
                again = broken or _code(error) in _DEADLOCK
                if not again or time.monotonic() + pause > deadline:
                    raise StorageError(f"{self}: {error.orig}") from error
            except SQLAlchemyError as error:
                raise StorageError(f"{self}: {error}") from error
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _connect(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except (TypeError, ValueError, AttributeError, OSError) as error:  # how PyMySQL refuses a setting
            raise StorageError(f"{self} has a setting that its driver does not take: {error}.") from error

    def _transaction(self, c: sa.Connection, work: Callable[[], _T]) -> _T:
        try:
            c.exec_driver_sql("START TRANSACTION")
            result = work()
            c.exec_driver_sql("COMMIT")
        except BaseException:
            c.invalidate()  # not back into the pool with a transaction open
            raise
        return result

    def _make_engine(self) -> sa.Engine:
        try:
            engine = sa.create_engine(
                self._url,
                isolation_level="AUTOCOMMIT",
                pool_reset_on_return=None,
                connect_args=_connect_args(self._url, self.timeout),
            )
        except NoSuchModuleError:
            known = sorted(f"{kind}+{driver}" for kind, driver in _DRIVERS.items())
            raise ValueError(f"storage: {self} names a driver that SQLAlchemy does not know; say {known}.") from None
        except (TypeError, ValueError, ArgumentError) as error:
            raise ValueError(f"storage: {self} has a setting that its driver does not take: {error}.") from None
        except ImportError as error:
            extra = "postgresql" if self._url.get_backend_name() == "postgresql" else "mysql"
            raise ImportError(f"{self} needs a driver: pip install 'inloop[{extra}]' ({error}).") from None
        sa.event.listen(engine, "connect", _set_session)
        return engine

    def _has_tables(self) -> bool:
        """Return whether there are tables; who only reads makes none."""
        if not self._ready:
            self._ready = self._do(self._find_tables)
        return self._ready

    def _find_tables(self, c: sa.Connection) -> bool:
        try:
            version = c.exec_driver_sql("SELECT max(version) FROM inloop_layout").scalar()
        except DBAPIError as error:
            if _code(error) in _NO_TABLE:
                return False
            raise
        if version is not None and version > _LAYOUT:
            raise StorageError(f"{self} was written by a newer version of inloop; this one cannot read it.")
        return version is not None

    def _make_tables(self, c: sa.Connection) -> None:
        with self._lock:
            deadline = time.monotonic() + self.timeout
            while not self._find_tables(c):
                try:
                    _tables.create_all(c)
                    c.exec_driver_sql("INSERT INTO inloop_layout (version) VALUES (%s)", (_LAYOUT,))
                except DBAPIError as error:
                    if _code(error) not in _MADE_BY_OTHERS or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            self._ready = True

    def _enter_process(self) -> None:
        """Leave the parent's connections alone after a fork."""
        self._engine.dispose(close=False)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closing.detach()
        self._closing = weakref.finalize(self, _dispose, self._engine, self._pid)

    def __reduce__(self) -> tuple[Any, ...]:
        return SqlStorage, (self._url.render_as_string(hide_password=False), self.timeout)

    def __str__(self) -> str:
        return _shown(self._url)

    def __repr__(self) -> str:
        return f"SqlStorage({str(self)!r})"


# One statement, so one round trip and never a transaction left open.
_APPEND_POSTGRESQL = """
WITH log AS (
    UPDATE inloop_study SET head = head + %s WHERE id = %s RETURNING head
)
INSERT INTO inloop_event (study, position, worker, seq, line)
SELECT %s, log.head - %s + e.i - 1, e.worker, e.seq, e.line
FROM log, unnest(%s::text[], %s::bigint[], %s::text[]) WITH ORDINALITY AS e (worker, seq, line, i)
RETURNING position
"""


def _append_mysql(c: sa.Connection, number: int, rows: list[tuple[str, int, str]]) -> int | None:
    update = "UPDATE inloop_study SET head = LAST_INSERT_ID(head + %s) WHERE id = %s"
    result = c.exec_driver_sql(update, (len(rows), number))
    if result.rowcount == 0:
        return None
    head = int(result.lastrowid)
    _insert(c, number, head - len(rows), rows)
    return head


def _insert(c: sa.Connection, number: int, at: int, rows: list[tuple[str, int, str]]) -> None:
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        values = ", ".join(["(%s, %s, %s, %s, %s)"] * len(some))
        given = tuple(x for i, row in enumerate(some, at + start) for x in (number, i, *row))
        c.exec_driver_sql(f"INSERT INTO inloop_event (study, position, worker, seq, line) VALUES {values}", given)


def _with_driver(url: str) -> sa.URL:
    try:
        parsed = sa.make_url("postgresql" + url[8:] if url.startswith("postgres://") else url)
    except (ValueError, ArgumentError):  # what could not be told apart may hold the password
        raise ValueError(f"storage: the URL that starts with {url.partition('://')[0]}:// {_FORM}.") from None
    backend = parsed.get_backend_name()
    if "@" in (parsed.host or ""):
        raise ValueError(f"storage: the URL that starts with {parsed.drivername}:// {_FORM}.")
    if backend not in _DRIVERS:
        raise ValueError(f"storage: {_shown(parsed)} is none of {sorted(_DRIVERS)}.")
    return parsed if "+" in parsed.drivername else parsed.set(drivername=f"{backend}+{_DRIVERS[backend]}")


def _shown(url: sa.URL) -> str:
    """Return the URL as text, without the passwords in it."""
    hidden = url.update_query_dict({name: "***" for name in url.query if _SECRET.search(name)})
    return hidden.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def _connect_args(url: sa.URL, timeout: float) -> dict[str, Any]:
    """Settings that notice a dead server, except those that the URL has."""
    if url.get_driver_name() == "psycopg":
        found: dict[str, Any] = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 60_000}
        found["application_name"] = "inloop"
        found["options"] = (
            f"-c lock_timeout={int(timeout * 1000)} -c idle_in_transaction_session_timeout={_IDLE * 1000}"
        )
    elif url.get_driver_name() == "pymysql":
        found = {"connect_timeout": 10, "read_timeout": timeout + 30, "write_timeout": 60}
    else:
        found = {}
    return {k: v for k, v in found.items() if k not in url.query}


def _set_session(connection: Any, _: Any) -> None:
    if not hasattr(connection, "server_status"):  # PyMySQL's alone
        return
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute("SELECT version()")
        mariadb = "mariadb" in str(cursor.fetchone()).lower()
        idle = f"idle_write_transaction_timeout = {_IDLE}" if mariadb else f"wait_timeout = {6 * _IDLE}"
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = 60, SESSION {idle}")


def _dispose(engine: sa.Engine, pid: int) -> None:
    """Close the connections, except those of the parent of a forked process."""
    if pid == os.getpid():
        engine.dispose()


def _is_mysql(dialect: sa.Dialect) -> bool:
    return dialect.name in ("mysql", "mariadb")


def _code(error: DBAPIError) -> Any:
    """Return MySQL's number of an error, or PostgreSQL's SQLSTATE."""
    given = error.orig.args[0] if error.orig and error.orig.args else None
    return given if isinstance(given, int) else getattr(error.orig, "sqlstate", None)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
