"""Settings: frozen dataclasses that show only what differs from the default."""

from __future__ import annotations

import dataclasses
from typing import Any


class Settings:
    """A base of frozen dataclasses made with ``repr=False``.

    Example:
        >>> from inloop.pruners import MedianPruner
        >>> MedianPruner(), MedianPruner(n_warmup_steps=3)
        (MedianPruner(), MedianPruner(n_warmup_steps=3))
    """

    def __repr__(self) -> str:
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        changed = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields
            if f.init and f.repr and (f.default is dataclasses.MISSING or getattr(self, f.name) != f.default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"
