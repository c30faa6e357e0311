"""Samplers: what to try next."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .random import RandomSampler
from .sampler import Sampler, StudyStopped

if TYPE_CHECKING:
    from .auto import AutoSampler
    from .cmaes import CmaEsSampler
    from .gp import GPSampler
    from .grid import GridSampler
    from .qmc import QMCSampler
    from .tpe import TPESampler

__all__ = [
    "AutoSampler",
    "CmaEsSampler",
    "GPSampler",
    "GridSampler",
    "QMCSampler",
    "RandomSampler",
    "Sampler",
    "StudyStopped",
    "TPESampler",
    "from_name",
]

# imported when first used: together they take as long as the rest of inloop
_LATER = {
    "AutoSampler": "auto",
    "CmaEsSampler": "cmaes",
    "GPSampler": "gp",
    "GridSampler": "grid",
    "QMCSampler": "qmc",
    "TPESampler": "tpe",
}
_NAMES = {
    "auto": "AutoSampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
    "qmc": "QMCSampler",
    "random": "RandomSampler",
    "tpe": "TPESampler",
}


def from_name(sampler: Sampler | str | None) -> Sampler:
    """Return a sampler for an object or a name; None is the default, `AutoSampler`.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If it is neither a sampler nor a name.

    Example:
        >>> from_name("random")
        RandomSampler()
    """
    if isinstance(sampler, Sampler):
        return sampler
    if sampler is not None and not isinstance(sampler, str):
        raise TypeError(f"sampler must be a Sampler, a name or None, got {sampler!r}.")
    name = "auto" if sampler is None else sampler
    if name not in _NAMES:
        raise ValueError(f"No sampler named {name!r}; there are {sorted(_NAMES)}.")
    made: Sampler = RandomSampler() if name == "random" else __getattr__(_NAMES[name])()
    return made


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
