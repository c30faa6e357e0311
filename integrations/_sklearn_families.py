"""Estimators that report from inside their fits, and how each kind is fitted for that."""

from __future__ import annotations

import copy
import math
import numbers
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.cluster import MiniBatchKMeans
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params, _num_samples

from . import _sklearn_catboost as catboost
from ._sklearn_early import ROUNDS, home, kind_of
from ._sklearn_scores import Score

if TYPE_CHECKING:
    from ._sklearn_iterations import Watcher

#: Fits an estimator with the given arguments and tells a `Watcher` how it does.
Family: TypeAlias = Callable[[Any, Sequence[Any], dict[str, Any], Score, "Watcher"], None]

_FIRST = 3  # the iteration of the first report; earlier ones do not foretell the last
# the rungs of successive halving, 3 * 3**k, are among the steps
_EPOCHS_RATIO = 3.0**0.5
_RATIO = 3.0  # where a report costs as much as several steps: a score of a few trees, or a restart of the fit
LAST_EPOCH = 27  # epochs of a copy are spent besides the fit, which often converges soon after
PARTS = 27  # of the rows, for those who go through them once


def family_of(estimator: Any) -> Family | None:
    """Return how to fit an estimator with reports, None if nothing is known."""
    kind = kind_of(estimator)
    if kind is not None:
        return {"xgboost": _xgboost, "lightgbm": _lightgbm, "catboost": _catboost}[kind]
    skorch = sys.modules.get("skorch")
    if skorch is not None and isinstance(estimator, skorch.NeuralNet) and home(estimator) == "skorch":
        return _skorch
    known = isinstance(estimator, _OF_SKLEARN) and home(estimator) == "sklearn"
    return _of_sklearn(estimator) if known else None


def _of_sklearn(estimator: Any) -> Family | None:
    params = estimator.get_params()
    if isinstance(estimator, _BY_TREES):
        return _by_trees if {"n_estimators", "warm_start", "random_state"} <= params.keys() else None
    if isinstance(estimator, _BY_ROUNDS):
        return _by_rounds if {"max_iter", "warm_start", "random_state"} <= params.keys() else None
    if isinstance(estimator, _BY_EPOCHS) and hasattr(estimator, "partial_fit"):
        return by_epochs
    if isinstance(estimator, _BY_PARTS):
        return by_parts
    calls_back = isinstance(estimator, LogisticRegression) and hasattr(estimator, "set_callbacks")
    return _by_callbacks if calls_back and estimator.solver == "lbfgs" else None


def iterations_of(estimator: Any) -> int:
    """Return how many iterations a fitted estimator has run, 0 if it has none or did not get so far."""
    family = family_of(estimator)
    try:
        if family is _xgboost:
            return int(estimator.get_booster().num_boosted_rounds())
        if family is _lightgbm:
            return int(estimator.booster_.current_iteration())
        if family is _catboost:
            return int(estimator.tree_count_ or 0)
        if family in (_by_rounds, by_epochs, _by_callbacks):
            return int(np.max(estimator.n_iter_))
        if family is by_parts:
            return PARTS if hasattr(estimator, "n_features_in_") else 0
        if family is _skorch:
            return len(estimator.history)
        if isinstance(estimator, LogisticRegression):  # of other solvers
            return int(np.max(estimator.n_iter_))
        return len(estimator.estimators_) if family is _by_trees else 0
    except Exception:  # a subclass, or an array of another library, may have anything there; the fit is done
        return 0


def given(estimator: Any, params: Mapping[str, Any]) -> float:
    """Return the number of iterations that the parameters of an estimator say."""
    # an alias, where it is given, goes before the usual name
    named = (float(params[name]) for name in reversed(ROUNDS) if isinstance(params.get(name), numbers.Integral))
    return next(named, _default(estimator))


def _default(estimator: Any) -> float:
    """Return the number of iterations of an estimator that is given none."""
    return {"catboost": 1000, "xgboost": 100, "lightgbm": 100}.get(kind_of(estimator) or "", math.inf)


def warn_unwatched(estimator: Any, why: str, error: Exception) -> None:
    text = f"{type(estimator).__name__} is not watched inside its fit: {why} ({type(error).__name__}: {error})."
    warnings.warn(text, UserWarning, stacklevel=3)


def steps(total: int, ratio: float) -> Iterator[int]:
    """Yield the iterations after which to report: about ``3 * ratio**k``, the same for every ``total``, and below it.

    Example:
        >>> list(steps(100, 3**0.5))
        [3, 5, 9, 16, 27, 47, 81]
    """
    k = 0
    while (step := round(_FIRST * ratio**k)) < total:
        yield step
        k += 1


def of_trees(total: int) -> list[int]:
    """Return the numbers of trees after which to report.

    A report costs more than it may save once half of the fold is done: what a fold's end says is worth more, and four
    more folds are saved then as well. But one report shows no slope.

    Example:
        >>> of_trees(100), of_trees(10)
        ([3, 9, 27], [3, 9])
    """
    return [step for k, step in enumerate(steps(total, _RATIO)) if k < 2 or step <= total / 2]


def _xgboost(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    from xgboost.callback import TrainingCallback

    due = of_trees(estimator.get_num_boosting_rounds())

    class Report(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            if epoch + 1 not in due:
                return False
            view = copy.copy(estimator)
            view._Booster = model
            return watch(epoch + 1, score(view))

    own = estimator.callbacks
    estimator.callbacks = [*(own or []), Report()]
    try:
        estimator.fit(*args, **kwargs)
    finally:
        estimator.callbacks = own


def _lightgbm(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    from lightgbm.callback import EarlyStopException

    def report(env: Any) -> None:
        step = env.iteration - env.begin_iteration + 1
        # the number of rounds has many names
        if step in of_trees(env.end_iteration - env.begin_iteration):
            view = copy.copy(estimator)
            view._Booster, view.fitted_ = env.model, True
            if watch(step, score(view)):
                raise EarlyStopException(env.iteration, env.evaluation_result_list or [])

    report.order = 25  # type: ignore[attr-defined]  # before LightGBM's own early stopping
    estimator.fit(*args, **{**kwargs, "callbacks": [*(kwargs.get("callbacks") or []), report]})


def _catboost(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    if not catboost.reports(estimator, args[1], score.y, kwargs):
        estimator.fit(*args, **kwargs)
        return
    due = of_trees(int(given(estimator, estimator.get_params())))

    def stop(step: int, model: Callable[[], Any]) -> bool:
        return step in due and watch(step, score(model()))

    catboost.fit_with_reports(estimator, args, kwargs, (score.X, score.y), stop)


def _by_trees(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    _restarted(estimator, "n_estimators", args, kwargs, score, watch)


def _by_rounds(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    _restarted(estimator, "max_iter", args, kwargs, score, watch)


def _restarted(
    estimator: Any, param: str, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher
) -> None:
    """Fit by scikit-learn's ``warm_start``; the trees are those of one fit."""
    total, seed = getattr(estimator, param), estimator.random_state
    if estimator.warm_start or _stops_itself(estimator, args, kwargs):
        estimator.fit(*args, **kwargs)
        return
    estimator.set_params(warm_start=True)
    oob = getattr(estimator, "oob_score", False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "class_weight presets")  # they do not matter on the same rows
            for step in (*of_trees(total), total):
                # each restart draws what came before again
                estimator.set_params(**{param: step, "random_state": copy.deepcopy(seed)})
                if oob:  # a few trees leave rows without a score, which is warned of
                    estimator.set_params(oob_score=oob if step == total else False)
                estimator.fit(*args, **kwargs)
                if step < total and watch(step, score(estimator)):
                    break
    finally:
        estimator.set_params(**{param: total, "random_state": seed, "warm_start": False})
        if oob:
            estimator.set_params(oob_score=oob)


def by_epochs(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    """Judge a copy after some epochs of ``partial_fit``; if it goes on, fit the estimator itself as usual."""
    unlike = kwargs.keys() - {"sample_weight"} or getattr(estimator, "class_weight", None) == "balanced"
    several = is_classifier(estimator) and len(np.shape(args[1])) > 1  # labels: no one list of classes
    if not (unlike or several or estimator.warm_start or _stops_itself(estimator, args, kwargs)):
        judged = clone(estimator)
        classes = {"classes": np.unique(args[1])} if is_classifier(estimator) else {}
        done = 0
        for step in steps(min(estimator.max_iter, LAST_EPOCH + 1), _RATIO):
            if not all(_fits_on(judged, *args, **classes, **kwargs) for _ in range(done, step)):
                break
            done = step
            if watch(step, score(judged)):
                vars(estimator).update(vars(judged))
                return
    estimator.fit(*args, **kwargs)


def _fits_on(judged: Any, *args: Any, **kwargs: Any) -> bool:
    """Train a copy a part further; or warn and return False, as the fit itself does not need it."""
    try:
        judged.partial_fit(*args, **kwargs)
    except Exception as error:  # whatever the estimator raises for these rows
        warn_unwatched(judged, "partial_fit of a copy fails", error)
        return False
    return True


def by_parts(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    """Judge a copy that ``partial_fit`` has shown a ninth and a third of the rows; if it goes on, fit as usual."""
    X: Any = args[0]
    y: Any = args[1] if len(args) > 1 else None
    n = _num_samples(X)
    # the first rows are also to hold all that the first step needs, such as clusters
    if not kwargs.keys() - {"sample_weight"} and n >= PARTS * getattr(estimator, "n_clusters", 1):
        judged, done = clone(estimator), 0
        classes = {"classes": np.unique(y)} if is_classifier(estimator) else {}
        order = np.random.default_rng(0).permutation(n)
        for step in steps(PARTS, _RATIO):
            rows = order[done : (done := n * step // PARTS)]
            params = _check_method_params(X, params=kwargs, indices=rows)
            part = None if y is None else _safe_indexing(y, rows)
            with np.errstate(divide="ignore"):  # of a class that none of these rows has
                if not _fits_on(judged, _safe_indexing(X, rows), part, **classes, **params):
                    break
                stops = watch(step, score(judged))
            if stops:
                vars(estimator).update(vars(judged))
                return
    estimator.fit(*args, **kwargs)


def _by_callbacks(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    """Fit with a callback of scikit-learn 1.9, whose solvers do not stop when it says so."""
    from sklearn.callback import FitCallback

    due = set(steps(estimator.max_iter, _EPOCHS_RATIO))

    class Report(FitCallback):
        def setup(self, estimator: Any, context: Any) -> None: ...

        def teardown(self, estimator: Any, context: Any) -> None: ...

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

        def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> bool:
            step = context.task_id + 1
            told = context.task_name.endswith("-iter") and fitted_estimator is not None
            if told and step in due and watch(step, score(fitted_estimator)):
                raise _Stopped(fitted_estimator)
            return False

    own = getattr(estimator, "_skl_callbacks", [])
    estimator.set_callbacks(*own, Report())
    try:
        estimator.fit(*args, **kwargs)
    except _Stopped as stopped:
        vars(estimator).update(vars(stopped.model))
    finally:
        estimator.set_callbacks(*own)


class _Stopped(Exception):
    """Ends a fit that a callback cannot end otherwise."""

    def __init__(self, model: Any) -> None:
        self.model = model


def _skorch(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    import torch

    callback: Any = import_module("skorch.callbacks").Callback
    due = set(steps(estimator.max_epochs, _EPOCHS_RATIO))

    class Report(callback):
        def on_epoch_end(self, net: Any, **_: Any) -> None:
            step = len(net.history)
            if step in due:
                with torch.random.fork_rng():  # a prediction draws a seed for its loader
                    value = score(net)
                if watch(step, value):
                    raise KeyboardInterrupt  # what skorch ends training by

    own = estimator.callbacks
    if isinstance(own, str):  # "disable"
        estimator.fit(*args, **kwargs)
        return
    estimator.callbacks = [*(own or []), ("inloop", Report())]
    try:
        estimator.fit(*args, **kwargs)
    finally:
        estimator.callbacks = own
        estimator.callbacks_ = [pair for pair in getattr(estimator, "callbacks_", []) if pair[0] != "inloop"]


def _stops_itself(estimator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Say whether the estimator's own early stopping is on, which a restart would begin anew."""
    if kwargs.get("monitor") is not None:  # of gradient boosting, in the place of early stopping
        return True
    if hasattr(estimator, "early_stopping"):
        auto = estimator.early_stopping == "auto"
        return len(args[0]) > 10_000 if auto else bool(estimator.early_stopping)  # as its documentation says
    return getattr(estimator, "n_iter_no_change", None) is not None


_BY_TREES = (
    RandomForestClassifier,
    RandomForestRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
)
_BY_EPOCHS = (MLPClassifier, MLPRegressor, Perceptron, SGDClassifier, SGDRegressor)
_BY_PARTS = (BernoulliNB, ComplementNB, GaussianNB, MiniBatchKMeans, MultinomialNB)
_BY_ROUNDS = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_OF_SKLEARN = (*_BY_TREES, *_BY_EPOCHS, *_BY_PARTS, *_BY_ROUNDS, LogisticRegression)
