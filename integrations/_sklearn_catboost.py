"""CatBoost's scores from inside its fit: it shows callbacks no model, but an evaluation metric sees the predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier

from ._sklearn_early import homes

# losses whose raw values are turned into predictions here, the usual one (None) among them
_OF_CLASSES = (None, "Logloss", "MultiClass")
_OF_NUMBERS = (None, "RMSE", "MAE", "Quantile", "Huber", "Expectile", "LogCosh", "MAPE", "Lq")
# what gives the evaluation set or the metric a meaning of its own, or the classes another order
_OWN = (
    "use_best_model", "eval_metric", "od_type", "od_wait", "od_pval", "early_stopping_rounds", "class_names",
    "classes_count", "target_border",
)  # fmt: skip
_LOSSES = ("loss_function", "objective")


class _Fitted(BaseEstimator):
    """What a pipeline asks of its last step before it predicts."""

    def fit(self, X: Any, y: Any = None) -> Any:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Classes(ClassifierMixin, _Fitted):
    """A classifier as it stands inside a fit, for the fold's test rows alone.

    Args:
        raw: Raw values ``(1, n)`` of two classes, or ``(k, n)`` of k.
        classes: Labels ``(k,)``.
    """

    def __init__(self, raw: Any, classes: Any) -> None:
        self.raw = raw
        self.classes = classes
        self.classes_ = classes

    def predict_proba(self, X: Any) -> Any:
        if len(self.raw) > 1:
            return softmax(self.raw, axis=0).T
        positive = expit(self.raw[0])
        return np.column_stack([1.0 - positive, positive])

    def predict(self, X: Any) -> Any:
        best = self.raw.argmax(0) if len(self.raw) > 1 else (self.raw[0] > 0.0).astype(int)
        return self.classes[best]


class Numbers(RegressorMixin, _Fitted):
    """A regressor as it stands inside a fit, for the fold's test rows alone.

    Args:
        raw: Its values ``(1, n)``.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def predict(self, X: Any) -> Any:
        return self.raw[0]


class _Seen:
    """An evaluation metric that keeps the raw values of the rows evaluated last: those of the test, not of training."""

    def __init__(self) -> None:
        self.raw: Any = None

    def __deepcopy__(self, memo: Any) -> _Seen:
        return self  # CatBoost makes copies of its parameters

    def is_max_optimal(self) -> bool:
        return True

    def evaluate(self, approxes: Any, target: Any, weight: Any) -> tuple[float, float]:
        self.raw = approxes
        return 0.0, 1.0

    def get_final_error(self, error: float, weight: float) -> float:
        return 0.0


def reports(estimator: Any, y: Any, test_y: Any, kwargs: Mapping[str, Any]) -> bool:
    """Say whether `fit_with_reports` knows what the raw values of an estimator mean.

    Args:
        estimator: An estimator of CatBoost.
        y: Targets of the training fold.
        test_y: Targets of the test fold.
        kwargs: Of its ``fit``.
    """
    if homes(estimator) != {"catboost"}:
        return False
    params = estimator.get_params()
    if kwargs.get("eval_set") is not None or kwargs.get("use_best_model") or kwargs.get("early_stopping_rounds"):
        return False
    if kwargs.get("baseline") is not None:  # there is none for the test rows
        return False
    if any(params.get(name) is not None for name in _OWN) or params.get("task_type") == "GPU":
        return False
    loss = next((params[name] for name in _LOSSES if params.get(name) is not None), None)
    if not (loss is None or isinstance(loss, str)) or np.ndim(y) != 1:
        return False
    kind = loss if loss is None else loss.partition(":")[0]
    if not is_classifier(estimator):
        return kind in _OF_NUMBERS
    weights = params.get("class_weights")
    if isinstance(weights, Mapping) and not np.array_equal(list(weights), np.unique(y)):
        return False  # its keys are the class names, in their order
    return kind in _OF_CLASSES and bool(np.isin(test_y, y).all())  # CatBoost evaluates no unknown class


def fit_with_reports(
    estimator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], rows: tuple[Any, Any], stop: Callable[..., bool]
) -> None:
    """Fit an estimator that has `reports`; the trees are those of a plain fit.

    A twin is fitted, whose model the estimator takes: CatBoost lets nobody change the parameters of a fitted one.

    Args:
        estimator: The estimator.
        args: X and y of the training fold.
        kwargs: Of ``fit``.
        rows: X and y of the test fold.
        stop: Takes the number of an iteration, counted from 1, and a function that returns the model for the test
            rows then; returns whether to stop.
    """
    seen = _Seen()
    classes = np.unique(args[1]) if is_classifier(estimator) else None

    def model() -> Any:
        raw = np.array([np.asarray(column) for column in seen.raw])
        return Numbers(raw) if classes is None else Classes(raw, classes)

    class Report:
        def after_iteration(self, info: Any) -> bool:
            return not stop(info.iteration, model)

    # no clone: CatBoost copies lists and dicts that it is given, which scikit-learn takes for an error
    params = {**estimator.get_params(), "eval_metric": seen, "use_best_model": False, "metric_period": 1}
    twin = type(estimator)(**params)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to")  # numba is not there, or cannot compile the metric
        twin.fit(*args, **{**kwargs, "eval_set": rows, "callbacks": [*(kwargs.get("callbacks") or []), Report()]})
    mine = vars(estimator)["_init_params"]
    vars(estimator).update({**vars(twin), "_init_params": mine})
