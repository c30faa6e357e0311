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
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.model_selection import ShuffleSplit, train_test_split
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params

# what asks for early stopping: parameters of the estimators, the aliases of LightGBM and CatBoost included
_ASKS = {
    "xgboost": ("early_stopping_rounds",),
    "lightgbm": ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change"),
    "catboost": ("early_stopping_rounds", "od_wait", "od_type", "od_pval"),
}
_BOOSTING = ("boosting_type", "boosting", "boost")  # LightGBM's names for it
_CLASSES = {"xgboost": "XGBModel", "lightgbm": "LGBMModel", "catboost": "CatBoost"}
_CALLBACKS = {"xgboost": ("callback", "EarlyStopping"), "lightgbm": ("callback", "_EarlyStoppingCallback")}
#: What the number of rounds is called, the aliases of LightGBM and CatBoost included.
ROUNDS = (
    "n_estimators", "max_epochs", "max_iter", "iterations", "num_boost_round", "n_iter", "nrounds", "num_rounds",
    "num_round", "num_trees", "num_tree", "num_iteration", "num_iterations",
)  # fmt: skip
# parameters of ``fit`` with a value for each row, and what they are called for the rows to watch
_BY_ROW = {
    "xgboost": {"sample_weight": "sample_weight_eval_set", "base_margin": "base_margin_eval_set"},
    "lightgbm": {"sample_weight": "eval_sample_weight", "init_score": "eval_init_score"},
    "catboost": {"sample_weight": "weight", "baseline": "baseline"},
}
_DRAWS = 20  # of groups to watch, from which the most even one is taken
_PREDICTIONS = ("predict", "predict_proba", "decision_function", "score")  # what scorers ask for
_FEATURES = ("cat_features", "text_features", "embedding_features")  # of CatBoost, in ``fit`` or as parameters


@dataclass(frozen=True)
class Watched:
    """The rows that boosters watch to stop early.

    Attributes:
        rows: ``"split"``: a part of the training fold; ``"test"``: the test fold.
        fraction: The part, for ``"split"``.
        groups: ``(n,)`` numbers of the groups of the training fold's rows, which are watched or fitted as a whole;
            None: each row is drawn for itself.
    """

    rows: str
    fraction: float
    groups: Any = None

    def given(
        self, booster: Any, args: Sequence[Any], kwargs: Mapping[str, Any], test: tuple[Any, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Return the arguments of the booster's ``fit`` with rows to watch.

        Where none is left to watch the booster is set not to stop early, as it would fail; LightGBM's ``"dart"``, which
        cannot stop early, too.

        Args:
            booster: One for which `stops_early`.
            args: X and y of the training fold.
            kwargs: Of its ``fit``.
            test: X and y of the test fold.
        """
        X, y = args[:2]
        kind = kind_of(booster)
        assert kind is not None
        if kind == "lightgbm" and "dart" in map(booster.get_params().get, _BOOSTING):
            _turn_off(booster)
            return args, _without_early(kwargs, kind)
        by_row = {name: kwargs[name] for name in _BY_ROW[kind] if kwargs.get(name) is not None}
        train, (from_X, from_y) = None, (X, y)
        if self.rows == "test":
            if offset := by_row.keys() - {"sample_weight"}:
                raise ValueError(f'eval_set="test" knows no {offset.pop()} of the test rows; use eval_set="split"')
            by_row, (from_X, from_y) = {}, test
            watch = _known(booster, y, from_y)
        else:
            # a step before may have made other rows
            groups = self.groups if self.groups is not None and len(self.groups) == len(y) else None
            train, watch = _split(booster, y, by_row.get("sample_weight"), self.fraction, groups)
        if watch is not None and not len(watch):
            _turn_off(booster)
            return args, _without_early(kwargs, kind)
        by_row = _check_method_params(X, params=by_row, indices=watch)
        rows = _as_arguments(booster, kwargs, _safe_indexing(from_X, watch), _safe_indexing(from_y, watch), by_row)
        if train is None:
            return args, {**kwargs, **rows}
        kept = _check_method_params(X, params=dict(kwargs), indices=train)
        return (_safe_indexing(X, train), _safe_indexing(y, train)), {**kept, **rows}


def groups_apart(groups: Any, splits: Sequence[tuple[Any, Any]]) -> NDArray[np.intp] | None:
    """Return the numbers ``(n,)`` of groups that the folds keep apart, None where there are none.

    Args:
        groups: The group of each row, or whatever else the splitter takes.
        splits: Rows of the training and test folds.
    """
    known: dict[Any, int] = {}
    try:
        numbers = np.array([known.setdefault(group, len(known)) for group in np.asarray(groups)], np.intp)
        mixed = any(np.isin(numbers[test], numbers[train]).any() for train, test in splits)
    except (TypeError, ValueError, IndexError):  # None, or no values by row
        return None
    return None if mixed else numbers


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
    """Return ``"xgboost"``, ``"lightgbm"`` or ``"catboost"``, None for other estimators.

    These are also XGBoost's random forests, which know no rounds, and classes with a ``fit`` of their own.
    """
    for kind, name in _CLASSES.items():
        if kind in sys.modules and isinstance(estimator, getattr(sys.modules[kind], name)):
            return kind if home(estimator) == kind and not type(estimator).__name__.startswith("XGBRF") else None
    return None


def home(estimator: Any, method: str = "fit") -> str:
    """Return the package that a method of an estimator is of: another one where a subclass has put its own there."""
    return str(getattr(type(estimator), method).__module__).partition(".")[0]


def homes(estimator: Any) -> set[str]:
    """Return the packages that an estimator's methods for scorers are of, see `home`."""
    return {home(estimator, method) for method in _PREDICTIONS if hasattr(type(estimator), method)}


def best_rounds(booster: Any) -> int | None:
    """Return after how many rounds a fitted booster was best on the rows that it watched.

    All of its rounds if it watched none, None if it was not fitted.
    """
    kind = kind_of(booster)
    try:
        if kind == "lightgbm":
            return int(booster.best_iteration_ or booster.booster_.current_iteration()) or None
        if kind == "xgboost":
            best = getattr(booster, "best_iteration", None)
            return int(booster.get_booster().num_boosted_rounds() if best is None else best + 1)
        best = booster.best_iteration_
        return int(booster.tree_count_ if best is None else best + 1)
    except Exception:  # each library raises its own where a fit has failed
        return None


def fix_rounds(booster: Any, rounds: int) -> None:
    """Have the next ``fit`` of a booster run so many rounds, without early stopping."""
    kind = kind_of(booster)
    assert kind is not None
    params = booster.get_params()
    # what was given, an alias of LightGBM included: of two names it goes by the alias
    given: dict[str, Any] = {name: rounds for name in ROUNDS if params.get(name) is not None}
    _turn_off(booster)
    booster.set_params(**(given or {"n_estimators": rounds}))

    def fit(*args: Any, **kwargs: Any) -> Any:
        del booster.fit
        return booster.fit(*args, **_without_early(kwargs, kind))

    booster.fit = fit


def _turn_off(booster: Any) -> None:
    """Take what asks for early stopping out of the parameters of a booster."""
    kind = kind_of(booster)
    assert kind is not None
    params = booster.get_params()
    if kind == "catboost":  # takes no None for these
        asks = (*_ASKS[kind], "use_best_model")
        booster.__init__(**{name: value for name, value in params.items() if name not in asks})
        return
    off: dict[str, Any] = {name: None for name in _ASKS[kind] if params.get(name) is not None}
    if kind == "xgboost" and params.get("callbacks"):
        off["callbacks"] = [c for c in params["callbacks"] if not _is_early(c, kind)] or None
    booster.set_params(**off)


def _without_early(kwargs: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return arguments of ``fit`` without what asks for early stopping."""
    kept = {name: v for name, v in kwargs.items() if name not in ("early_stopping_rounds", "use_best_model")}
    if kept.get("callbacks"):
        kept["callbacks"] = [c for c in kept["callbacks"] if not _is_early(c, kind)]
    return kept


def _on(value: Any) -> bool:
    return value is not None and value is not False and not (isinstance(value, int) and value <= 0)


def _is_early(callback: Any, kind: str) -> bool:
    if kind not in _CALLBACKS:
        return False
    home, name = _CALLBACKS[kind]
    return isinstance(callback, getattr(getattr(sys.modules[kind], home), name))


def _split(booster: Any, y: Any, weights: Any, fraction: float, groups: Any = None) -> tuple[Any, Any]:
    """Return rows to fit, some of each class, and rows to watch, if any; the same for every candidate.

    Rows without weight say nothing, so they are fitted, and the others are split as if they were all. Groups stay
    whole unless they are too few for that.
    """
    if weights is not None and not (counts := np.asarray(weights) > 0).all():
        counted = np.flatnonzero(counts)
        groups = None if groups is None else groups[counted]
        train, watch = _split(booster, _safe_indexing(y, counted), None, fraction, groups)
        return np.concatenate([counted[train], np.flatnonzero(~counts)]), counted[watch]
    rows = np.arange(len(y))
    labelled = is_classifier(booster) and not _has_columns(y)
    codes = np.unique(np.ravel(y), return_inverse=True)[1] if labelled else np.zeros(len(y), np.intp)
    if groups is not None and (watched := _whole_groups(codes, groups, fraction)).any():
        return rows[~watched], rows[watched]
    if not labelled:
        return _parts(rows, y if is_classifier(booster) else None, fraction)
    alone = np.bincount(codes)[codes] == 1
    train, watch = _parts(rows[~alone], codes[~alone], fraction)
    classes, first = np.unique(codes[watch], return_index=True)
    missed = watch[first[~np.isin(classes, codes[train])]]
    return np.concatenate([train, missed, rows[alone]]), watch[~np.isin(watch, missed)]


def _whole_groups(codes: Any, groups: Any, fraction: float) -> Any:
    """Return which rows ``(n,)`` to watch, those of a part of the groups; none where there are too few groups.

    Of several draws it is the one with the most even part of each class. A group that alone has a class is not drawn.
    """
    nothing = np.zeros(len(codes), bool)
    groups = np.unique(groups, return_inverse=True)[1]
    table = np.zeros((codes.max(initial=0) + 1, groups.max(initial=0) + 1))
    np.add.at(table, (codes, groups), 1)
    alone = (table > 0).sum(1) == 1
    free = np.flatnonzero(~table[alone].any(0))
    sizes = table.sum(1)

    def unevenness(drawn: Any) -> float:
        inside = table[:, drawn].sum(1)
        return float(np.abs(inside - fraction * sizes).sum()) if (inside < sizes).all() else np.inf

    try:
        draws = ShuffleSplit(_DRAWS, test_size=fraction, random_state=0).split(free)
        drawn = min((free[part] for _, part in draws), key=unevenness)
    except ValueError:  # none to leave
        return nothing
    return np.isin(groups, drawn) if np.isfinite(unevenness(drawn)) else nothing


def _parts(rows: Any, labels: Any, fraction: float) -> tuple[Any, Any]:
    """Split rows in two, stratified by their labels where that can be; the second part is empty for too few rows."""
    try:
        return tuple(train_test_split(rows, test_size=fraction, stratify=labels, random_state=0))
    except ValueError:  # a class of one row, fewer rows than classes, or none to leave
        return (rows, rows[:0]) if labels is None else _parts(rows, None, fraction)


def _has_columns(y: Any) -> bool:
    """Say whether targets are several for each row."""
    return np.ndim(y) > 1 and np.shape(y)[1] > 1


def _known(booster: Any, fitted: Any, y: Any) -> Any:
    """Return the rows whose class is among those fitted, None: all; boosters have no number for another class."""
    if not is_classifier(booster) or _has_columns(y):
        return None
    known = np.isin(np.ravel(y), np.unique(fitted))
    return None if known.all() else np.flatnonzero(known)


def _as_arguments(booster: Any, kwargs: Mapping[str, Any], X: Any, y: Any, by_row: Mapping[str, Any]) -> dict[str, Any]:
    kind = kind_of(booster)
    assert kind is not None
    named = {_BY_ROW[kind][name]: values for name, values in by_row.items()}
    if kind == "catboost":
        if not named:
            return {"eval_set": (X, y)}
        params = {**booster.get_params(), **{k: v for k, v in kwargs.items() if v is not None}}
        features = {name: params.get(name) for name in _FEATURES}
        return {"eval_set": sys.modules["catboost"].Pool(X, y, **named, **features)}
    lists = {name: [values] for name, values in named.items()}
    if kind == "xgboost":
        return {"eval_set": [(X, y)], "verbose": False, **lists}
    # deprecated in 4.7, but that release takes the numbers of the classes, not the labels, as ``eval_y``
    if "eval_set" in signature(booster.fit).parameters:
        return {"eval_set": [(X, y)], **lists}
    return {"eval_X": X, "eval_y": y, **lists}
