"""What a pipeline consists of: its last step, which reports from inside its fit, and those before it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from sklearn.pipeline import Pipeline

from ._sklearn_early import homes


def last_step(estimator: Any) -> Any:
    """Return what a (nested) pipeline ends with, or the estimator itself."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def before_last(estimator: Any) -> Iterator[Any]:
    """Yield the transformers of a (nested) pipeline before its `last_step`."""
    while isinstance(estimator, Pipeline):
        # samplers of imbalanced-learn have no part in what is not fitted
        yield from (step for _, step in estimator.steps[:-1] if hasattr(step, "transform"))
        estimator = estimator.steps[-1][1]


def ending_with(estimator: Any, last: Any) -> Any:
    """Return a copy of a (nested) pipeline that has another `last_step`."""
    if not isinstance(estimator, Pipeline):
        return last
    whole = copy.copy(estimator)
    name, step = estimator.steps[-1]
    whole.steps = [*estimator.steps[:-1], (name, ending_with(step, last))]
    return whole


def predicts_as_usual(estimator: Any) -> bool:
    """Say whether a (nested) pipeline predicts what its `last_step` does, as no subclass has put in its place."""
    while isinstance(estimator, Pipeline):
        if not homes(estimator) <= {"sklearn", "imblearn"}:
            return False
        estimator = estimator.steps[-1][1]
    return True
