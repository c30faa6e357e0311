"""Boosters that stop early by themselves: rows for them to watch in each fold, and their rounds in the last fit."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params

# what asks for early stopping: parameters of the estimators, the aliases of LightGBM and CatBoost included
_ASKS = {
    "xgboost": ("early_stopping_rounds",),
    "lightgbm": ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change"),
    "catboost": ("early_stopping_rounds", "od_wait", "od_type", "od_pval"),
}
_CLASSES = {"xgboost": "XGBModel", "lightgbm": "LGBMModel", "catboost": "CatBoost"}
_CALLBACKS = {"xgboost": ("callback", "EarlyStopping"), "lightgbm": ("callback", "_EarlyStoppingCallback")}
#: What the number of rounds is called, the aliases of LightGBM and CatBoost included.
ROUNDS = (
    "n_estimators", "max_epochs", "max_iter", "iterations", "num_boost_round", "n_iter", "nrounds", "num_rounds",
    "num_round", "num_trees", "num_tree", "num_iteration", "num_iterations",
)  # fmt: skip
_FEATURES = ("cat_features", "text_features", "embedding_features")  # of CatBoost, in ``fit`` or as parameters


@dataclass(frozen=True)
class Watched:
    """The rows that boosters watch to stop early.

    Attributes:
        rows: ``"split"``: a part of the training fold; ``"test"``: the test fold.
        fraction: The part, for ``"split"``.
    """

    rows: str
    fraction: float

    def given(
        self, booster: Any, args: Sequence[Any], kwargs: Mapping[str, Any], test: tuple[Any, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return the arguments of the booster's ``fit`` with rows to watch.

        Args:
            booster: One for which `stops_early`.
            args: X and y of the training fold.
            kwargs: Of its ``fit``.
            test: X and y of the test fold.
        """
        if self.rows == "test":
            return args, {**kwargs, **_as_arguments(booster, kwargs, args[1], *test, None)}
        X, y = args[:2]
        train, valid = _split(booster, y, self.fraction)
        kept = _check_method_params(X, params=dict(kwargs), indices=train)
        weight = _check_method_params(X, params=dict(kwargs), indices=valid).get("sample_weight")
        fitted = _safe_indexing(y, train)
        rows = _as_arguments(booster, kwargs, fitted, _safe_indexing(X, valid), _safe_indexing(y, valid), weight)
        return (_safe_indexing(X, train), fitted), {**kept, **rows}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what LightGBM says of arguments that `Watched` gives it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The argument 'eval_set' is deprecated")
        yield


def stops_early(estimator: Any, kwargs: Mapping[str, Any]) -> bool:
    """Say whether a booster is to stop early and ``fit`` gives it no rows to watch.

    Args:
        estimator: Any estimator.
        kwargs: Arguments of its ``fit``.
    """
    kind = kind_of(estimator)
    if kind is None or kwargs.get("eval_set") is not None or kwargs.get("eval_X") is not None:
        return False
    if type(estimator).__name__.endswith("Ranker"):  # a part of its rows may cut a group
        return False
    params = {**estimator.get_params(), **kwargs}
    return any(_on(params.get(name)) for name in _ASKS[kind]) or any(
        _is_early(c, kind) for c in params.get("callbacks") or ()
    )


def kind_of(estimator: Any) -> str | None:
    """Return ``"xgboost"``, ``"lightgbm"`` or ``"catboost"``, None for other estimators."""
    for kind, name in _CLASSES.items():
        if kind in sys.modules and isinstance(estimator, getattr(sys.modules[kind], name)):
            return kind
    return None


def best_rounds(booster: Any) -> int | None:
    """Return after how many rounds a fitted booster was best on the rows that it watched, None if it was not fitted."""
    try:
        if kind_of(booster) == "lightgbm":
            return int(booster.best_iteration_) or None
        best = booster.best_iteration if kind_of(booster) == "xgboost" else booster.best_iteration_
    except Exception:  # each library raises its own where a fit has failed
        return None
    return None if best is None else int(best) + 1


def fix_rounds(booster: Any, rounds: int) -> None:
    """Have the next ``fit`` of a booster run so many rounds, without early stopping."""
    kind = kind_of(booster)
    assert kind is not None
    params = booster.get_params()
    off: dict[str, Any] = {name: None for name in _ASKS[kind] if params.get(name) is not None}
    # what was given, an alias of LightGBM included: of two names it goes by the alias
    given: dict[str, Any] = {name: rounds for name in ROUNDS if params.get(name) is not None}
    given = given or {"n_estimators": rounds}
    if kind == "xgboost" and params.get("callbacks"):
        off["callbacks"] = [c for c in params["callbacks"] if not _is_early(c, kind)] or None
    if kind == "catboost":  # takes no None for these
        asks = (*_ASKS[kind], "use_best_model")
        booster.__init__(**{name: value for name, value in params.items() if name not in asks})
        off = {}
    booster.set_params(**off, **given)

    def fit(*args: Any, **kwargs: Any) -> Any:
        del booster.fit
        for name in ("early_stopping_rounds", "use_best_model"):
            kwargs.pop(name, None)
        if kwargs.get("callbacks"):
            kwargs["callbacks"] = [c for c in kwargs["callbacks"] if not _is_early(c, kind)]
        return booster.fit(*args, **kwargs)

    booster.fit = fit


def _on(value: Any) -> bool:
    return value is not None and value is not False and not (isinstance(value, int) and value <= 0)


def _is_early(callback: Any, kind: str) -> bool:
    if kind not in _CALLBACKS:
        return False
    home, name = _CALLBACKS[kind]
    return isinstance(callback, getattr(getattr(sys.modules[kind], home), name))


def _split(booster: Any, y: Any, fraction: float) -> tuple[Any, Any]:
    """Return rows to fit and rows to watch, the same for every candidate."""
    rows = np.arange(len(y))
    try:
        return tuple(
            train_test_split(rows, test_size=fraction, stratify=y if is_classifier(booster) else None, random_state=0)
        )
    except ValueError:  # a class of one row, or fewer rows than classes
        return tuple(train_test_split(rows, test_size=fraction, random_state=0))


def _as_arguments(booster: Any, kwargs: Mapping[str, Any], fitted: Any, X: Any, y: Any, weight: Any) -> dict[str, Any]:
    kind = kind_of(booster)
    if kind == "catboost":
        if weight is None:
            return {"eval_set": (X, y)}
        params = {**booster.get_params(), **{k: v for k, v in kwargs.items() if v is not None}}
        features = {name: params.get(name) for name in _FEATURES}
        return {"eval_set": sys.modules["catboost"].Pool(X, y, weight=weight, **features)}
    if kind == "xgboost":
        weights = {} if weight is None else {"sample_weight_eval_set": [weight]}
        return {"eval_set": [(X, y)], "verbose": False, **weights}
    known = np.flatnonzero(np.isin(np.ravel(y), np.ravel(fitted))) if is_classifier(booster) else range(len(y))
    if len(known) < len(y):  # it has no number for a class that it is not fitted to
        X, y = _safe_indexing(X, known), _safe_indexing(y, known)
        weight = None if weight is None else _safe_indexing(weight, known)
    weights = {} if weight is None else {"eval_sample_weight": [weight]}
    # deprecated in 4.7, but that release takes the numbers of the classes, not the labels, as ``eval_y``
    if "eval_set" in signature(booster.fit).parameters:
        return {"eval_set": [(X, y)], **weights}
    return {"eval_X": X, "eval_y": y, **weights}
