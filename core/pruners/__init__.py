"""Pruners: when to end a trial early."""

from .bandit import BanditPruner
from .halving import SuccessiveHalvingPruner
from .hyperband import HyperbandPruner
from .nop import NopPruner
from .patient import PatientPruner
from .percentile import MedianPruner, PercentilePruner
from .pruner import Pruner
from .threshold import ThresholdPruner
from .wilcoxon import WilcoxonPruner

__all__ = [
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

_NAMES: dict[str, type[Pruner]] = {
    "median": MedianPruner,
    "halving": SuccessiveHalvingPruner,
    "hyperband": HyperbandPruner,
    "nop": NopPruner,
    "wilcoxon": WilcoxonPruner,
}


def from_name(pruner: "Pruner | str | None") -> Pruner:
    """Return a pruner for an object or a name; None is the default, `SuccessiveHalvingPruner`.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If it is neither a pruner nor a name.

    Example:
        >>> from_name("median")
        MedianPruner()
    """
    if pruner is None:
        return SuccessiveHalvingPruner()
    if isinstance(pruner, Pruner):
        return pruner
    if not isinstance(pruner, str):
        raise TypeError(f"pruner must be a Pruner, a name or None, got {pruner!r}.")
    if pruner not in _NAMES:
        raise ValueError(f"No pruner named {pruner!r}; there are {sorted(_NAMES)}.")
    return _NAMES[pruner]()
