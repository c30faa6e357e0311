"""Where the logs of studies live."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .memory import MemoryStorage
from .storage import Storage, StorageError, StudyExists, StudyNotFound

if TYPE_CHECKING:
    from .server import ClientStorage, Server, serve
    from .sql import SqlStorage
    from .sqlite import SqliteStorage

__all__ = [
    "ClientStorage",
    "MemoryStorage",
    "Server",
    "SqlStorage",
    "SqliteStorage",
    "Storage",
    "StorageError",
    "StudyExists",
    "StudyNotFound",
    "open_storage",
    "serve",
]

# imported when first used: sockets and databases would double the time of `import inloop`
_LATER = {
    "ClientStorage": "server",
    "Server": "server",
    "serve": "server",
    "SqlStorage": "sql",
    "SqliteStorage": "sqlite",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_storage(storage: Storage | str | os.PathLike[str]) -> Storage:
    """Return the storage itself or the one that a path or URL names.

    Args:
        storage: A `Storage`; the path of a SQLite file (``"study.db"``) or its URL (``"sqlite:///study.db"``);
            the URL of a database server (``"postgresql://..."``, ``"mysql://..."``, ``"mariadb://..."``); or
            that of ``inloop serve`` (``"inloop://host:port?authkey-file=path"``).

    Raises:
        TypeError: If it is something else.
        ValueError: If the kind of URL is not known, or it is one of SQLite with options or of a database in memory.
    """
    if isinstance(storage, Storage):
        return storage
    if not isinstance(storage, str | os.PathLike):
        raise TypeError(f"storage must be a path, a URL, a Storage or None, got {storage!r}.")
    text = os.fspath(storage)
    scheme, found, rest = text.partition("://")
    kind = scheme.partition("+")[0]
    if not found or kind == "sqlite":
        from .sqlite import SqliteStorage

        return SqliteStorage(_sqlite_path(text, rest) if found else _file(text, text))
    if kind in ("postgresql", "postgres", "mysql", "mariadb"):
        try:
            from .sql import SqlStorage
        except ImportError:
            extra = "postgresql" if kind.startswith("postgres") else "mysql"
            raise ImportError(f"{kind} needs SQLAlchemy and a driver: pip install 'inloop[{extra}]'.") from None
        return SqlStorage(text)
    if kind == "inloop":
        from .server import ClientStorage

        return ClientStorage.from_url(text)
    raise ValueError(
        f"storage: {scheme}://... is not known; give a path, or a URL that starts with sqlite:///, postgresql://, "
        "mysql://, mariadb:// or inloop://."
    )


def _sqlite_path(url: str, rest: str) -> str:
    """Return the path in a URL of a SQLite file; ``rest`` is what comes after ``sqlite://``."""
    path = rest[1:] if rest[:1] == "/" else rest
    if "?" in path:
        raise ValueError(
            f"storage: options in the URL of a SQLite file are not supported, got {url!r}; give the path alone, and "
            "options as SqliteStorage(path, durability=..., timeout=...)."
        )
    _file(path, url)
    if rest[0] != "/":
        raise ValueError(
            f"storage: sqlite:// is followed by a third slash and the path, got {url!r}; say sqlite:///{path}."
        )
    return path


def _file(path: str, given: str) -> str:
    if path in ("", ":memory:"):  # SQLite's own names of databases that end with their connection
        raise ValueError(
            f"storage: {given!r} names no file; give a path as 'study.db' or 'sqlite:///study.db', or "
            "storage=None for a study in memory."
        )
    return path
