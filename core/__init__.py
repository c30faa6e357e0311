"""inloop: tune hyperparameters inside the training loop you already have."""

from . import pruners, samplers, storage
from .samplers import StudyStopped
from .space import Categorical, Float, Int, Space
from .storage import MemoryStorage, StudyExists, StudyNotFound
from .study import Study, create_study, delete_study, get_all_study_names, load_study
from .trial import FrozenTrial, Trial, TrialLost, TrialPruned, TrialState

__version__ = "0.1.0"

__all__ = [
    "Categorical",
    "Float",
    "FrozenTrial",
    "Int",
    "MemoryStorage",
    "Space",
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
    "samplers",
    "storage",
]
