"""Where the logs of studies live."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .memory import MemoryStorage
from .storage import Storage, StorageError, StudyExists, StudyNotFound

if TYPE_CHECKING:
    from .server import ClientStorage, Server, serve
    from .sqlite import SqliteStorage

__all__ = [
    "ClientStorage",
    "MemoryStorage",
    "Server",
    "SqliteStorage",
    "Storage",
    "StorageError",
    "StudyExists",
    "StudyNotFound",
    "open_storage",
    "serve",
]

# imported when first used: sockets and databases would double the time of `import inloop`
_LATER = {"ClientStorage": "server", "Server": "server", "serve": "server", "SqliteStorage": "sqlite"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_storage(storage: Storage | str | os.PathLike[str]) -> Storage:
    """Return the storage itself or the one that a path or URL names.

    Args:
        storage: A `Storage`; the path of a SQLite file (``"study.db"``) or its URL (``"sqlite:///study.db"``).

    Raises:
        TypeError: If it is something else.
        ValueError: If the kind of URL is not known.
    """
    if isinstance(storage, Storage):
        return storage
    if not isinstance(storage, str | os.PathLike):
        raise TypeError(f"storage must be a path, a URL, a Storage or None, got {storage!r}.")
    from .sqlite import SqliteStorage

    text = os.fspath(storage)
    scheme, found, rest = text.partition("://")
    if not found:
        return SqliteStorage(text)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteStorage(rest[1:])
    raise ValueError(f"storage: {text!r} is not a URL that is known; use a path or sqlite:///path.")
