"""A storage served to other processes over a socket, and the storage that is a client of it.

One message is one request or reply: JSON text in the framing of `multiprocessing.connection`, after its
mutual challenge with a shared key (HMAC). A request is ``[operation, study, *arguments]``, a reply
``["ok", result]`` or ``["no", error, text]``; nothing that is received is ever unpickled or run. A client that has
read a log from its start names it by the uid of its first event, too: another one may have got the study's name.
The connection is authenticated, not encrypted.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..events import Event, from_json_lines, to_json
from ..forks import in_child
from .storage import Storage, StorageError, StudyExists, StudyNotFound, check_name

logger = logging.getLogger("inloop")

#: Bytes of one message; larger ones end the connection.
MAX_MESSAGE = 64 << 20
_PAGE = 5000  # events of one reply
_HANDSHAKE = 10.0  # seconds within which a client must have shown that it knows the key
_STRANGERS = 64  # connections that may be at their handshake at once
_SEND = 60.0  # seconds after which a client that does not take its reply is given up
_FIRST = 2.5  # seconds after which an address is taken for wrong where nothing listens and no server was ever met

_servers: weakref.WeakSet[Server] = weakref.WeakSet()


class Server:
    """Serves a storage to other processes, from a daemon thread for each of them.

    Args:
        storage: What to serve.
        host: Address to listen at; the default is reached from this machine alone.
        port: Port; 0: a free one.
        authkey: Key that clients must know; None: a random one.

    Attributes:
        address: ``(host, port)`` that clients connect to.
        authkey: The key.

    Example:
        >>> from inloop.storage import ClientStorage, MemoryStorage, Server
        >>> with Server(MemoryStorage()) as server:
        ...     with ClientStorage(server.address, server.authkey) as storage:
        ...         storage.create("s", [Event("w", 0, "study", -1, {})])
        ...         storage.names()
        ['s']
    """

    def __init__(self, storage: Storage, host: str = "127.0.0.1", port: int = 0, authkey: bytes | None = None) -> None:
        if authkey is not None and (not isinstance(authkey, bytes) or len(authkey) < 8):
            raise ValueError("authkey must be at least 8 bytes, or None for a random key.")
        self.authkey = os.urandom(32) if authkey is None else authkey
        self.storage = storage
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self._socket.settimeout(1.0)  # the beat at which late strangers are sent away
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._strangers: dict[Connection, float] = {}  # at their handshake -> deadline
        self._uids: dict[str, str] = {}  # study -> uid of the first event of the log that ``storage`` takes for its own
        self._closed = False
        _servers.add(self)
        self._thread = threading.Thread(target=self._accept, name="inloop-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections and end those there are."""
        self._leave()
        self._thread.join()

    def _leave(self) -> None:
        """Do what `close` does, but do not wait for it: to be called from anywhere, under whatever lock."""
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts

    def _accept(self) -> None:
        self._accept_until_closed()
        with self._lock:
            for connection in self._connections:
                _hang_up(connection)
        self._socket.close()

    def _accept_until_closed(self) -> None:
        while not self._closed:
            try:
                peer, address = self._socket.accept()
            except TimeoutError:
                self._send_away(time.monotonic())
                continue
            except OSError:
                if self._closed:
                    return
                time.sleep(0.1)  # out of file descriptors: some will come back
                continue
            self._welcome(peer, f"{address[0]}:{address[1]}")

    def _welcome(self, peer: socket.socket, name: str) -> None:
        _tune(peer, _HANDSHAKE)
        now = time.monotonic()
        self._send_away(now)
        with self._lock:
            if self._closed:
                peer.close()
                return
            if len(self._strangers) >= _STRANGERS:
                _hang_up(min(self._strangers, key=self._strangers.__getitem__))
            connection: Connection = Connection(peer.detach())
            self._connections.add(connection)
            self._strangers[connection] = now + _HANDSHAKE
        try:
            threading.Thread(
                target=self._attend, args=(connection, name), name=f"inloop-server {name}", daemon=True
            ).start()
        except RuntimeError:  # no more threads
            logger.warning("server: no thread left for %s", name)
            self._part(connection)

    def _send_away(self, now: float) -> None:
        """End the handshakes that take too long."""
        with self._lock:
            for connection, deadline in self._strangers.items():
                if now > deadline:
                    _hang_up(connection)

    def _attend(self, connection: Connection, name: str) -> None:
        try:
            deliver_challenge(connection, self.authkey)
            answer_challenge(connection, self.authkey)
            with self._lock:
                del self._strangers[connection]
            with _socket_of(connection) as peer:
                _set_timeout(peer, socket.SO_RCVTIMEO, 0)
                _set_timeout(peer, socket.SO_SNDTIMEO, _SEND)
            while True:
                request = connection.recv_bytes(MAX_MESSAGE)
                connection.send_bytes(self._reply(request, name))
        except AuthenticationError:
            logger.warning("server: refused %s, which does not know the key", name)
        except EOFError:
            pass
        except (OSError, AssertionError, ValueError) as error:
            if not self._closed:
                logger.warning("server: ended the connection of %s: %r", name, error)
        finally:
            self._part(connection)

    def _part(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)
            self._strangers.pop(connection, None)
            connection.close()

    def _reply(self, request: bytes, name: str) -> bytes:
        try:
            operation, study, *arguments = json.loads(request)
            return _OPERATIONS[operation](self, study, *arguments).encode()
        except (StudyExists, StudyNotFound, StorageError) as error:
            return _no(error)
        except ReferenceError:  # the storage was in memory and is gone
            raise EOFError from None
        except Exception as error:
            logger.warning("server: a request of %s failed", name, exc_info=error)
            return _no(StorageError(f"the server could not do that: {error!r}"))

    def _check_log(self, study: str, uid: str | None) -> None:
        """Refuse a request about a log that was deleted, though there is a new one of that name.

        Args:
            study: Name of the study.
            uid: Of the first event of the log that the client means; None: whichever there is.

        Raises:
            StudyNotFound: If the study's log is another one.
        """
        if uid is None or (self.storage.shared and self._uids.get(study) == uid):
            return
        # memory is asked every time: its owner deletes without the server
        self._uids[study] = found = self.storage.read(study, 0, 1)[0].uid
        if found != uid:
            raise StudyNotFound(study, self.storage.names())

    def _look_anew(self, study: str) -> None:
        """Forget which log a study has."""
        self._uids.pop(study, None)

    def _forget(self) -> None:
        """Close a forked child's copies of the sockets: they would keep the port after its owner's death."""
        self._closed = True
        self._lock = threading.Lock()
        self._socket.close()
        for connection in self._connections:
            connection.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({self.storage!r}, {self.address[0]!r}, {self.address[1]})"


def serve(storage: Storage, host: str = "127.0.0.1", port: int = 0, authkey: bytes | None = None) -> Server:
    """Serve ``storage`` to other processes until the returned `Server` is closed or this process ends."""
    return Server(storage, host, port, authkey)


def read_key(path: str | os.PathLike[str]) -> bytes:
    """Return the key in a file, without the white space around it.

    Raises:
        ValueError: If it has less than 8 bytes.
    """
    with open(path, "rb") as file:
        key = file.read(4096).strip()
    if len(key) < 8:
        raise ValueError(f"{os.fspath(path)} must hold a key of at least 8 bytes, got {len(key)}.")
    return key


class ClientStorage(Storage):
    """The storage that a `Server` of another process serves.

    Args:
        address: ``(host, port)`` of the server.
        authkey: Its key.
        patience: Seconds for which to try to reach a server that does not answer, as while it restarts. One that has
            never answered is given up after 2.5 s if nothing listens at its address. A connection that has gone silent
            is waited for as long; then a new one is tried, for as long again.

    Attributes:
        lasting: False where it serves what another process has in its memory: once nothing listens for it any more, its
            studies are not found, and never will be.

    Raises:
        PermissionError: By every method, if the server has another key.
        StorageError: By every method, if the server could not be reached.
    """

    def __init__(self, address: tuple[str, int], authkey: bytes, patience: float = 30.0) -> None:
        host, port = address
        self.address = (str(host), int(port))
        self.authkey = authkey
        self.patience = patience
        self._link = _Link()
        self._met = False  # whether the server has ever answered
        self._uids: dict[str, str] = {}  # study -> uid of its log's first event

    @classmethod
    def from_url(cls, url: str) -> ClientStorage:
        """Return the storage of ``inloop://host:port?authkey-file=path``; the file holds the key.

        Raises:
            ValueError: If the URL has another form.
        """
        parts = urlsplit(url)
        files = parse_qs(parts.query).get("authkey-file", [])
        try:
            port = parts.port
        except ValueError:  # no number, or too large
            port = None
        if not parts.hostname or not port or len(files) != 1:
            raise ValueError(f"storage must be inloop://host:port?authkey-file=path, got {url!r}.")
        return cls((parts.hostname, port), read_key(files[0]))

    def create(self, study: str, events: Sequence[Event]) -> None:
        check_name(study)
        self._call("create", study, _lines(events))
        self._uids[study] = events[0].uid

    def delete(self, study: str) -> None:
        self._call("delete", study)
        self._uids.pop(study, None)

    def names(self) -> list[str]:
        return list(self._call("names", ""))

    def append(self, study: str, events: Sequence[Event]) -> int:
        return int(self._call("append", study, _lines(events), self._uids.get(study)))

    def read(self, study: str, since: int, limit: int | None = None) -> list[Event]:
        events: list[Event] = []
        while limit is None or len(events) < limit:
            page = _PAGE if limit is None else min(_PAGE, limit - len(events))
            at = since + len(events)
            lines = self._call("read", study, at, page, self._uids.get(study) if at else None)
            events += from_json_lines(lines)
            if at == 0 and events:  # who starts anew gets the log that there is
                self._uids[study] = events[0].uid
            if len(lines) < page:
                break
        return events

    def hurry(self, seconds: float) -> None:
        self.patience = min(self.patience, seconds)
        self.close()  # a connection waits for as long as it was opened for

    def close(self) -> None:
        link = self._link
        with link.lock:
            link.hang_up()

    def _call(self, *request: Any) -> Any:
        text = json.dumps(request, separators=(",", ":")).encode()
        if len(text) > MAX_MESSAGE:
            raise StorageError(f"{request[0]}: {len(text)} bytes at once; the server takes {MAX_MESSAGE}.")
        if self._link.pid != os.getpid():  # a forked child must not talk on its parent's connection
            self._link = _Link()
        answer, repeated = self._exchange(text, request[1])
        reply = json.loads(answer)
        if reply[0] == "ok":
            return reply[1]
        if repeated and request[0] == "delete" and reply[1] == "StudyNotFound":
            return None  # it was done the first time
        raise _error(*reply[1:])

    def _exchange(self, request: bytes, study: str) -> tuple[bytes, bool]:
        """Return the reply to a request about a study, and whether it had to be repeated."""
        link, start, pause, repeated = self._link, time.monotonic(), 0.02, False
        with link.lock:
            while True:
                older = link.is_open
                try:
                    connection = link.open(self.address, self.authkey, max(self.patience, 1.0))
                    self._met = True
                    connection.send_bytes(request)
                    return connection.recv_bytes(), repeated
                except AuthenticationError:
                    link.hang_up()
                    if not self.lasting:  # somebody else has got the port
                        raise self._gone(study) from None
                    raise PermissionError(f"The server at {self._place} has another authkey.") from None
                except (OSError, EOFError, AssertionError) as error:
                    link.hang_up()
                    if not self.lasting and isinstance(error, ConnectionRefusedError):
                        raise self._gone(study) from None
                    passed = time.monotonic() + pause - start
                    absent = isinstance(error, ConnectionRefusedError | socket.gaierror) and not self._met
                    if absent and passed > min(self.patience, _FIRST):
                        raise StorageError(
                            f"No server at {self._place} ({error}): see whether the address is right and "
                            "`inloop serve` is running there."
                        ) from error
                    if passed > self.patience and not older:  # the way of an old one may have been dropped silently
                        raise StorageError(
                            f"No answer from the server at {self._place} in {self.patience:g} s ({error!r}); "
                            "it is not known whether it did what was asked."
                        ) from error
                except BaseException:  # Ctrl-C: a late reply must not be taken for the next one
                    link.hang_up()
                    raise
                repeated = True
                time.sleep(pause)
                pause = min(2 * pause, 1.0)

    def _gone(self, study: str) -> StudyNotFound:
        why = f"which has ended, has let go of it or runs on another machine ({self._place})"
        return StudyNotFound(study, [], f"the memory of another process, {why}")

    @property
    def _place(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def __reduce__(self) -> tuple[Any, ...]:
        return ClientStorage, (self.address, self.authkey, self.patience), {"_met": self._met, "lasting": self.lasting}

    def __repr__(self) -> str:
        return f"ClientStorage({self.address!r})"


class _Link:
    """One process's connection to a server."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self, address: tuple[str, int], authkey: bytes, timeout: float) -> Connection:
        if self._connection is None:
            peer = socket.create_connection(address, timeout)
            peer.settimeout(None)
            _tune(peer, timeout)
            connection: Connection = Connection(peer.detach())
            try:
                answer_challenge(connection, authkey)
                deliver_challenge(connection, authkey)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _create(server: Server, study: str, lines: list[str]) -> str:
    server.storage.create(study, from_json_lines(lines))
    server._look_anew(study)
    return '["ok",null]'


def _delete(server: Server, study: str) -> str:
    server.storage.delete(study)
    server._look_anew(study)
    return '["ok",null]'


def _names(server: Server, _: str) -> str:
    return json.dumps(["ok", server.storage.names()])


def _append(server: Server, study: str, lines: list[str], uid: str | None = None) -> str:
    server._check_log(study, uid)
    return f'["ok",{server.storage.append(study, from_json_lines(lines))}]'


def _read(server: Server, study: str, since: int, limit: int, uid: str | None = None) -> str:
    server._check_log(study, uid)
    events = server.storage.read(study, since, min(limit, _PAGE))
    if since == 0:
        server._look_anew(study)
    return json.dumps(["ok", _lines(events)])


_OPERATIONS: dict[str, Callable[..., str]] = {
    "create": _create,
    "delete": _delete,
    "names": _names,
    "append": _append,
    "read": _read,
}


def _lines(events: Sequence[Event]) -> list[str]:
    return [to_json(e) for e in events]


def _no(error: Exception) -> bytes:
    detail: Any = str(error)
    if isinstance(error, StudyExists):
        detail = error.study
    elif isinstance(error, StudyNotFound):
        detail = [error.study, error.names, error.where]
    return json.dumps(["no", type(error).__name__, detail]).encode()


def _error(name: str, detail: Any) -> Exception:
    if name == "StudyExists":
        return StudyExists(detail)
    return StudyNotFound(*detail) if name == "StudyNotFound" else StorageError(detail)


def _tune(peer: socket.socket, timeout: float) -> None:
    """Send small messages at once, notice a dead peer, and wait for nothing longer than ``timeout`` seconds."""
    peer.setblocking(True)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10)):  # two hours is longer than routers remember
        if hasattr(socket, option):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
    _set_timeout(peer, socket.SO_RCVTIMEO, timeout)
    _set_timeout(peer, socket.SO_SNDTIMEO, timeout)


def _set_timeout(peer: socket.socket, option: int, seconds: float) -> None:
    # of the system's own read and write, which is what a Connection uses; 0 is for ever
    if os.name == "nt":
        value = struct.pack("I", int(seconds * 1000))
    else:
        value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    peer.setsockopt(socket.SOL_SOCKET, option, value)


@contextmanager
def _socket_of(connection: Connection) -> Iterator[socket.socket]:
    peer = socket.socket(fileno=connection.fileno())
    try:
        yield peer
    finally:
        peer.detach()


def _hang_up(connection: Connection) -> None:
    """End a connection that another thread is reading; that thread closes it."""
    with suppress(OSError), _socket_of(connection) as peer:
        peer.shutdown(socket.SHUT_RDWR)


def _after_fork() -> None:
    for server in list(_servers):
        server._forget()


in_child(_after_fork)
