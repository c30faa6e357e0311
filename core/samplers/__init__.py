"""Samplers: what to try next."""

from .auto import AutoSampler
from .gp import GPSampler
from .random import RandomSampler
from .sampler import Sampler, StudyStopped
from .tpe import TPESampler

__all__ = ["AutoSampler", "GPSampler", "RandomSampler", "Sampler", "StudyStopped", "TPESampler", "from_name"]

_NAMES: dict[str, type[Sampler]] = {"auto": AutoSampler, "gp": GPSampler, "random": RandomSampler, "tpe": TPESampler}


def from_name(sampler: "Sampler | str | None") -> Sampler:
    """Return a sampler for an object or a name; None is the default, `AutoSampler`.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If it is neither a sampler nor a name.

    Example:
        >>> from_name("random")
        RandomSampler()
    """
    if sampler is None:
        return AutoSampler()
    if isinstance(sampler, Sampler):
        return sampler
    if not isinstance(sampler, str):
        raise TypeError(f"sampler must be a Sampler, a name or None, got {sampler!r}.")
    if sampler not in _NAMES:
        raise ValueError(f"No sampler named {sampler!r}; there are {sorted(_NAMES)}.")
    return _NAMES[sampler]()
