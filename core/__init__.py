"""inloop: tune hyperparameters inside the training loop you already have."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import pruners, samplers, storage
from .distributions import Categorical, Float, Int
from .fixed import FixedTrial
from .hints import SpaceWarning
from .record import FrozenTrial, TrialState
from .refine import refine
from .samplers import StudyStopped
from .space import Space
from .storage import MemoryStorage, StudyExists, StudyNotFound
from .studies import create_study, delete_study, get_all_study_names, load_study
from .study import Study
from .trial import Trial, TrialLost, TrialPruned

if TYPE_CHECKING:
    from . import spaces, terminators
    from .population import PopulationStudy

__version__ = "0.1.0"

__all__ = [
    "Categorical",
    "FixedTrial",
    "Float",
    "FrozenTrial",
    "Int",
    "MemoryStorage",
    "PopulationStudy",
    "Space",
    "SpaceWarning",
    "Study",
    "StudyExists",
    "StudyNotFound",
    "StudyStopped",
    "Trial",
    "TrialLost",
    "TrialPruned",
    "TrialState",
    "create_study",
    "delete_study",
    "get_all_study_names",
    "load_study",
    "pruners",
    "refine",
    "samplers",
    "spaces",
    "storage",
    "terminators",
]


def __getattr__(name: str) -> Any:
    if name in ("spaces", "terminators"):  # not every program needs them
        return import_module(f".{name}", __name__)
    if name == "PopulationStudy":
        return import_module(".population", __name__).PopulationStudy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
