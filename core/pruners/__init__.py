"""Pruners: when to end a trial early."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .pruner import Pruner

if TYPE_CHECKING:
    from .auto import AutoPruner
    from .bandit import BanditPruner
    from .halving import SuccessiveHalvingPruner
    from .hyperband import HyperbandPruner
    from .nop import NopPruner
    from .patient import PatientPruner
    from .percentile import MedianPruner, PercentilePruner
    from .threshold import ThresholdPruner
    from .wilcoxon import WilcoxonPruner

__all__ = [
    "AutoPruner",
    "BanditPruner",
    "HyperbandPruner",
    "MedianPruner",
    "NopPruner",
    "PatientPruner",
    "PercentilePruner",
    "Pruner",
    "SuccessiveHalvingPruner",
    "ThresholdPruner",
    "WilcoxonPruner",
    "from_name",
]

# imported when first used: a study needs one of them
_LATER = {
    "AutoPruner": "auto",
    "BanditPruner": "bandit",
    "HyperbandPruner": "hyperband",
    "MedianPruner": "percentile",
    "NopPruner": "nop",
    "PatientPruner": "patient",
    "PercentilePruner": "percentile",
    "SuccessiveHalvingPruner": "halving",
    "ThresholdPruner": "threshold",
    "WilcoxonPruner": "wilcoxon",
}
_NAMES = {
    "auto": "AutoPruner",
    "halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "median": "MedianPruner",
    "nop": "NopPruner",
    "wilcoxon": "WilcoxonPruner",
}


def from_name(pruner: Pruner | str | None) -> Pruner:
    """Return a pruner for an object or a name; None is the default, `SuccessiveHalvingPruner`.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If it is neither a pruner nor a name.

    Example:
        >>> from_name("median")
        MedianPruner()
    """
    if isinstance(pruner, Pruner):
        return pruner
    if pruner is not None and not isinstance(pruner, str):
        raise TypeError(f"pruner must be a Pruner, a name or None, got {pruner!r}.")
    name = "halving" if pruner is None else pruner
    if name not in _NAMES:
        raise ValueError(f"No pruner named {name!r}; there are {sorted(_NAMES)}.")
    made: Pruner = __getattr__(_NAMES[name])()
    return made


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
