"""Segments of population-based training with scikit-learn."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.utils.multiclass import type_of_target

if TYPE_CHECKING:
    from inloop.population import Segment

# scikit-learn's networks keep these in the optimizer of their first partial_fit
_OPTIMIZER = {
    "learning_rate": "lr_schedule",
    "momentum": "momentum",
    "nesterovs_momentum": "nesterov",
    "power_t": "power_t",
    "beta_1": "beta_1",
    "beta_2": "beta_2",
    "epsilon": "epsilon",
}


def train_segment(segment: Segment, estimator: Any, X: Any, y: Any = None, **fit_params: Any) -> Any:
    """Train a segment of an `inloop.PopulationStudy` by ``partial_fit`` and save its checkpoint; a step is one call.

    The segment's parameters are set by ``set_params``, and handed on to the optimizer of an ``MLPClassifier`` or
    ``MLPRegressor``, which otherwise goes on with those of its first call. A meta-estimator hands them on to the models
    that it has fitted.

    Args:
        segment: What to train.
        estimator: A new model; it is not changed.
        X: Training data.
        y: Targets; of several outputs or labels a column each, if the estimator takes them.
        fit_params: Further ones of ``partial_fit``. ``classes`` are those of ``y`` if not given.

    Returns:
        The fitted model.

    Raises:
        TypeError: If the estimator has no ``partial_fit``.

    Example:
        >>> import inloop
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import SGDClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> def train(segment):
        ...     return train_segment(segment, SGDClassifier(random_state=0), X, y).score(X, y)
        >>> space = {"alpha": inloop.Float(1e-6, 1, log=True)}
        >>> population = inloop.PopulationStudy(space, population=4, interval=2, steps=6, direction="maximize", seed=0)
        >>> population.optimize(train)
        >>> joblib.load(population.best_checkpoint).score(X, y) == population.best_value
        True
    """
    if not hasattr(estimator, "partial_fit"):
        raise TypeError(f"train_segment: {type(estimator).__name__} has no partial_fit, so it cannot go on training.")
    model = clone(estimator) if segment.checkpoint is None else joblib.load(segment.checkpoint)
    _set_params(model, segment.params)
    if is_classifier(model) and "classes" in inspect.signature(model.partial_fit).parameters:
        fit_params.setdefault("classes", _classes(model, y))
    for _ in segment.steps:
        model.partial_fit(X, y, **fit_params)
    joblib.dump(model, segment.path)
    return model


def _classes(model: Any, y: Any) -> Any:
    """Return what ``partial_fit`` takes as the classes of all targets."""
    if isinstance(model, MultiOutputClassifier):
        return [np.unique(output) for output in np.asarray(y).T]
    if type_of_target(y) == "multilabel-indicator":
        return np.arange(np.shape(y)[1])
    return np.unique(y)


def _set_params(model: Any, params: Mapping[str, Any]) -> None:
    """Set the parameters of a model, and of those that it goes on with if it is made of several."""
    model.set_params(**params)
    _renew_optimizer(model)
    inner = {k.removeprefix("estimator__"): v for k, v in params.items() if k.startswith("estimator__")}
    for fitted in getattr(model, "estimators_", ()):
        _set_params(fitted, inner)


def _renew_optimizer(model: Any) -> None:
    """Hand the parameters of a network on to its optimizer; its momenta and the progress of its rate stay."""
    optimizer = getattr(model, "_optimizer", None)
    if optimizer is None:
        return
    if type(optimizer).__name__.lower().removesuffix("optimizer") != model.solver:
        del model._optimizer  # the next partial_fit makes one of the new kind
        return
    if model.learning_rate_init != optimizer.learning_rate_init:
        optimizer.learning_rate *= model.learning_rate_init / optimizer.learning_rate_init
        optimizer.learning_rate_init = model.learning_rate_init
    for name, attribute in _OPTIMIZER.items():
        if hasattr(optimizer, attribute):
            setattr(optimizer, attribute, getattr(model, name))
