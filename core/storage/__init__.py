"""Where the logs of studies live."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .memory import MemoryStorage
from .storage import Storage, StorageError, StudyExists, StudyNotFound

if TYPE_CHECKING:
    from .server import ClientStorage, Server, serve

__all__ = [
    "ClientStorage",
    "MemoryStorage",
    "Server",
    "Storage",
    "StorageError",
    "StudyExists",
    "StudyNotFound",
    "serve",
]

# imported when first used: sockets and databases would double the time of `import inloop`
_LATER = {"ClientStorage": "server", "Server": "server", "serve": "server"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_storage(storage: "Storage | str") -> Storage:
    """Return the storage itself or the one that a path or URL names."""
    if isinstance(storage, Storage):
        return storage
    raise TypeError(f"storage must be a Storage or None, got {storage!r}.")
