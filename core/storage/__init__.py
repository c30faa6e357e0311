"""Where the logs of studies live."""

from .memory import MemoryStorage
from .storage import Storage, StudyExists, StudyNotFound

__all__ = ["MemoryStorage", "Storage", "StudyExists", "StudyNotFound"]
