"""Reports from inside the fit of one fold: which estimators can, and how."""

from __future__ import annotations

import copy
import math
import numbers
import re
import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from inloop import FrozenTrial
from inloop.distributions import Quantile
from inloop.events import Event
from inloop.history import History
from inloop.pruners import Pruner
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
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._validation import _fit_and_score, _score
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params, _num_samples

from . import _sklearn_catboost as catboost
from ._sklearn_early import ROUNDS, Watched, best_rounds, home, homes, kind_of, quiet, stops_early
from ._sklearn_scores import quick

#: Fits an estimator with the given arguments and tells a `Watcher` how it does.
Family: TypeAlias = Callable[[Any, Sequence[Any], dict[str, Any], "Score", "Watcher"], None]

_JUDGED = ("study", "created", "report", "pruned", "finished")  # kinds of events that pruners go by
_FIRST = 3  # the iteration of the first report; earlier ones do not foretell the last
# the rungs of successive halving, 3 * 3**k, are among the steps
_EPOCHS_RATIO = 3.0**0.5
_RATIO = 3.0  # where a report costs as much as several steps: a score of a few trees, or a restart of the fit
_LAST_EPOCH = 27  # epochs of a copy are spent besides the fit, which often converges soon after
_PARTS = 27  # of the rows, for those who go through them once


class View:
    """A study as it stood when one of its candidates was proposed, and what that candidate has reported since.

    Args:
        log: The events so far; what is added to it later counts with `update`. Several views may share it.
    """

    def __init__(self, log: Sequence[Event] = ()) -> None:
        self._history = History()
        self._log = log
        self._read = len(log)
        self._folded = 0

    @property
    def history(self) -> History:
        """The fold of the events; what is new is folded in when it is looked at."""
        if self._folded < self._read:
            self._history.apply(self._log[self._folded : self._read])
            self._folded = self._read
        return self._history

    def update(self) -> None:
        """Take in all of the log."""
        self._read = len(self._log)

    def report(self, number: int, stream: int, step: int, value: float) -> FrozenTrial:
        """Take in a report that the study's log will have later: of two the first counts. Return the trial."""
        history = self.history
        history.apply([Event("view", history.events, "report", number, (stream, step, value))])
        return history.trials[number]

    def fork(self) -> View:
        """Return a view for one fold alone, of what pruners go by."""
        return View([e for e in self._log[: self._read] if e.kind in _JUDGED])

    def __reduce__(self) -> Any:
        return View, (self.fork()._log,)


@dataclass(frozen=True)
class Score:
    """Takes an estimator as it is after some iterations, returns its score on the fold's test rows.

    Attributes:
        X: The rows, as the last step of the estimator takes them.
        y: Their targets.
        of: Takes an estimator; returns None where there is no score.
    """

    X: Any
    y: Any
    of: Callable[[Any], float | None]

    def __call__(self, view: Any) -> float | None:
        return self.of(view)


class Watcher(ABC):
    """Takes the scores of one fold after some of its iterations, and says when to stop.

    It judges by the study as it stood when the candidate was proposed and by the fold's own scores alone, so it gives
    the same answers in any process and at any time.
    """

    def __init__(self) -> None:
        #: (iteration, score), in order.
        self.curve: list[tuple[int, float]] = []
        self.stopped = False

    def __call__(self, step: int, score: float | None) -> bool:
        """Take the score after ``step`` iterations, None: it has none; return whether to stop.

        One that is not defined, as the precision of a model that predicts no class yet, tells nothing of the end.
        """
        if score is None or math.isnan(score):
            return False
        self.stopped = self._prunes(step, score)
        self.curve.append((step, score))
        return self.stopped

    @abstractmethod
    def _prunes(self, step: int, score: float) -> bool: ...


class Watch(Watcher):
    """Asks any pruner.

    Args:
        pruner: Whom to ask.
        view: The study at that time.
        number: The candidate's trial.
        stream: The stream of this fold.
    """

    def __init__(self, pruner: Pruner, view: View, number: int, stream: int) -> None:
        super().__init__()
        self._pruner = pruner
        self._view = view
        self._number = number
        self._stream = stream

    def _prunes(self, step: int, score: float) -> bool:
        history = self._view.history
        if history.best is None:
            return False
        record = self._view.report(self._number, self._stream, step, score)
        return self._pruner.prune(history, record, self._stream, len(self.curve))


def run_fold(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    watch: Watcher | None,
    value: Callable[[Any], float],
    watched: Watched,
    **options: Any,
) -> dict[str, Any]:
    """Fit and score one fold as scikit-learn does, with reports to ``watch`` from inside the fit.

    Args:
        estimator: A clone to fit.
        X: All of the data.
        y: All of the targets.
        watch: Takes the reports; None: no reports.
        value: Takes what the scorer gave (a number or a dict), returns the value of the objective.
        watched: Rows for boosters that stop early by themselves.
        **options: Of scikit-learn's ``_fit_and_score``.

    Returns:
        scikit-learn's result of the fold, with ``curve`` and ``stopped`` of the watch, the ``iterations`` run, and
        ``rounds``: after how many a booster that stopped early was best, None for others.
    """
    fold = _Fold(estimator, X, y, watch, value, watched, options)
    if watch is not None or fold.has_booster():
        fold.attach()
    out: dict[str, Any] = _fit_and_score(estimator, X, y, **options)
    out.update({k: _named(out[k]) for k in ("test_scores", "train_scores") if k in out})
    last = last_step(estimator)
    out["curve"] = watch.curve if watch is not None else []
    out["stopped"] = watch is not None and watch.stopped
    out["iterations"] = watch.curve[-1][0] if watch is not None and watch.stopped else iterations_of(last)
    out["rounds"] = best_rounds(last) if fold.early else None
    return out


class _Fold:
    """One fold whose last step is fitted in our own way."""

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        watch: Watcher | None,
        value: Callable[[Any], float],
        watched: Watched,
        options: Mapping[str, Any],
    ) -> None:
        self._estimator = estimator
        self._data = X, y
        self._watch = watch
        self._value = value
        self._watched = watched
        self._options = options
        self.early = False

    def has_booster(self) -> bool:
        """Say whether the last step is, or may become, a booster."""
        named = (last_step(v) for v in self._options["parameters"].values())
        return any(kind_of(last) is not None for last in (last_step(self._estimator), *named))

    def attach(self) -> None:
        """Have the next ``fit`` of the estimator go by `_fit_last`.

        The method is replaced on the instance, for one call: the last step is known only after ``set_params``, and its
        training rows only when the steps before it are fitted.
        """
        estimator = self._estimator

        def fit(*args: Any, **kwargs: Any) -> Any:
            del estimator.fit
            last = last_step(estimator)
            reports = self._watch is not None and family_of(last) is not None
            if not reports and kind_of(last) is None:
                return estimator.fit(*args, **kwargs)

            def fit_last(*args: Any, **kwargs: Any) -> Any:
                del last.fit
                self._fit_last(last, args, kwargs)
                return last

            last.fit = fit_last
            try:
                return estimator.fit(*args, **kwargs)
            finally:
                vars(last).pop("fit", None)

        estimator.fit = fit

    def _fit_last(self, last: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.early = stops_early(last, kwargs)
        family = None if self._watch is None else family_of(last)
        if family is None and not self.early:
            last.fit(*args, **kwargs)
            return
        X, y = self._data
        options = self._options

        def test() -> tuple[Any, Any]:  # cut anew for each use: steps may transform in place
            cut: tuple[Any, Any] = _safe_split(self._estimator, X, y, options["test"], options["train"])
            return cut

        rows, test_y = test()
        if family is not None or self._watched.rows == "test":
            rows, family = self._transformed(rows, last, family)
        if self.early:
            args, kwargs = self._watched.given(last, args, kwargs, (rows, test_y))
        with quiet() if self.early else nullcontext():
            if family is None or self._watch is None:
                last.fit(*args, **kwargs)
            else:
                family(last, args, kwargs, Score(rows, test_y, self._scoring(test, rows, test_y)), self._watch)

    def _transformed(self, rows: Any, last: Any, family: Family | None) -> tuple[Any, Family | None]:
        """Return the test rows as the last step takes them, and no family if they cannot be had here."""
        try:
            for step in _before_last(self._estimator):
                rows = step.transform(rows)
        except Exception as error:  # it may want metadata that only predictions are given
            if self.early and self._watched.rows == "test":
                raise
            _warn_unwatched(last, "the steps before it do not transform the test rows", error)
            return rows, None
        return rows, family

    def _scoring(self, test: Callable[[], tuple[Any, Any]], rows: Any, y: Any) -> Callable[[Any], float | None]:
        """Return what scores the last step as it is after some iterations, until that fails once.

        Args:
            test: Returns the test rows and their targets.
            rows: The rows as the last step takes them.
            y: The targets.
        """
        scorer = self._options["scorer"]
        params = _check_method_params(
            self._data[0], params=self._options["score_params"], indices=self._options["test"]
        )
        alone = _needs_last_step_alone(scorer) and _predicts_as_usual(self._estimator)
        fast = quick(scorer, y) if alone and not params else None
        if isinstance(scorer, _MultimetricScorer):
            scorer = copy.copy(scorer)
            scorer._raise_exc = True
        failed = False

        def score(view: Any) -> float | None:
            nonlocal failed
            if failed:
                return None
            try:
                with _unheard():
                    known = None if fast is None else fast(view, rows)
                    if known is None:
                        whole, X = (view, rows) if alone else (_ending_with(self._estimator, view), test()[0])
                        known = _named(_score(whole, X, y, scorer, params, "raise"))
                    return self._value(known)
            except Exception as error:  # the end of the fit, which is scored as usual, shows whether it matters
                failed = True
                warnings.warn(
                    f"Scoring failed inside a fit, which is no longer watched ({type(error).__name__}: {error})",
                    UserWarning,
                    stacklevel=2,
                )
                return None

        return score


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep to itself what is warned of a score on the way, such as that no class is predicted yet.

    Only in the main thread, where folds run unless joblib's backend has threads. What is silenced is so for the whole
    process, and of threads that do so at once the last one may leave it silent.
    """
    alone = threading.current_thread() is threading.main_thread()
    with warnings.catch_warnings() if alone else nullcontext():
        if alone:
            warnings.simplefilter("ignore")
        yield


def _named(scores: Any) -> Any:
    """Return what a scorer gave with texts as names of metrics, as columns of a table and a storage have them."""
    return {str(name): score for name, score in scores.items()} if isinstance(scores, dict) else scores


def _warn_unwatched(estimator: Any, why: str, error: Exception) -> None:
    text = f"{type(estimator).__name__} is not watched inside its fit: {why} ({type(error).__name__}: {error})."
    warnings.warn(text, UserWarning, stacklevel=3)


def last_step(estimator: Any) -> Any:
    """Return what a (nested) pipeline ends with, or the estimator itself."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def _before_last(estimator: Any) -> Iterator[Any]:
    """Yield the transformers of a (nested) pipeline before its `last_step`."""
    while isinstance(estimator, Pipeline):
        # samplers of imbalanced-learn have no part in what is not fitted
        yield from (step for _, step in estimator.steps[:-1] if hasattr(step, "transform"))
        estimator = estimator.steps[-1][1]


def _ending_with(estimator: Any, last: Any) -> Any:
    """Return a copy of a (nested) pipeline that has another `last_step`."""
    if not isinstance(estimator, Pipeline):
        return last
    whole = copy.copy(estimator)
    name, step = estimator.steps[-1]
    whole.steps = [*estimator.steps[:-1], (name, _ending_with(step, last))]
    return whole


def _needs_last_step_alone(scorer: Any) -> bool:
    """Say whether a scorer only asks for predictions: one of scikit-learn, not a function of the user."""
    scorers = scorer._scorers.values() if isinstance(scorer, _MultimetricScorer) else [scorer]
    return all(isinstance(s, _BaseScorer | _PassthroughScorer) for s in scorers)


def _predicts_as_usual(estimator: Any) -> bool:
    """Say whether a (nested) pipeline predicts what its `last_step` does, as no subclass has put in its place."""
    while isinstance(estimator, Pipeline):
        if not homes(estimator) <= {"sklearn", "imblearn"}:
            return False
        estimator = estimator.steps[-1][1]
    return True


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
        return _by_epochs
    if isinstance(estimator, _BY_PARTS):
        return _by_parts
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
        if family in (_by_rounds, _by_epochs, _by_callbacks):
            return int(np.max(estimator.n_iter_))
        if family is _by_parts:
            return _PARTS if hasattr(estimator, "n_features_in_") else 0
        if family is _skorch:
            return len(estimator.history)
        if isinstance(estimator, LogisticRegression):  # of other solvers
            return int(np.max(estimator.n_iter_))
        return len(estimator.estimators_) if family is _by_trees else 0
    except Exception:  # a subclass, or an array of another library, may have anything there; the fit is done
        return 0


def most_iterations(estimator: Any, space: Mapping[str, Any]) -> int:
    """Return the largest number of iterations that candidates may have, 0 if it is not known.

    Args:
        estimator: Of the search; the number is that of its last step.
        space: Distributions by parameter of ``estimator``, or a `Space` of several dicts: the number, or the steps,
            may be searched for.
    """
    most = _most(estimator, space, "")
    return 0 if math.isinf(most) else int(most)


def _most(estimator: Any, space: Mapping[str, Any], prefix: str) -> float:
    """Return the largest number of iterations: 0 where there are no reports, infinity where it is not known."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        searched, always = _searched(space, prefix + name)
        lasts = [choice for dist in searched for choice in getattr(dist, "choices", ())] + [last] * (not always)
        return max((_most(one, space, f"{prefix}{name}__") for one in lasts), default=math.inf)
    family = family_of(estimator)
    if family is None or family is _by_parts:
        return 0 if family is None else _PARTS
    params = estimator.get_params()
    tops, fixed = [], True
    for name in ROUNDS:
        searched, always = _searched(space, prefix + name)
        tops += [_top(dist, _given(estimator, {**params, name: None})) for dist in searched]
        fixed = fixed and not always
    most = max([*tops, _given(estimator, params)] if fixed else tops)
    return min(most, _LAST_EPOCH) if family is _by_epochs else most


def _searched(space: Mapping[str, Any], param: str) -> tuple[list[Any], bool]:
    """Return the distributions of a parameter, one for each of its columns, and whether it is always searched for."""
    # in a search of several dicts the columns of one parameter are "name", "name (1)" and so on
    columns = [column for column in space if re.sub(r" \(\d+\)$", "", column) == param]
    return [space[column] for column in columns], any(c not in getattr(space, "when", ()) for c in columns)


def _top(dist: Any, default: float) -> float:
    """Return the largest number of iterations of a distribution, where None stands for ``default``."""
    if isinstance(dist, Quantile):
        return dist.from_unit(1.0 - 1e-3)
    if hasattr(dist, "high"):
        return float(dist.high)
    choices = [default if c is None else c for c in getattr(dist, "choices", ())]
    return max((float(c) for c in choices if isinstance(c, numbers.Real)), default=math.inf)


def _given(estimator: Any, params: Mapping[str, Any]) -> float:
    """Return the number of iterations that the parameters of an estimator say."""
    # an alias, where it is given, goes before the usual name
    named = (float(params[name]) for name in reversed(ROUNDS) if isinstance(params.get(name), numbers.Integral))
    return next(named, _default(estimator))


def _default(estimator: Any) -> float:
    """Return the number of iterations of an estimator that is given none."""
    return {"catboost": 1000, "xgboost": 100, "lightgbm": 100}.get(kind_of(estimator) or "", math.inf)


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
    due = of_trees(most_iterations(estimator, {}))

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


def _by_epochs(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    """Judge a copy after some epochs of ``partial_fit``; if it goes on, fit the estimator itself as usual."""
    unlike = kwargs.keys() - {"sample_weight"} or getattr(estimator, "class_weight", None) == "balanced"
    several = is_classifier(estimator) and len(np.shape(args[1])) > 1  # labels: no one list of classes
    if not (unlike or several or estimator.warm_start or _stops_itself(estimator, args, kwargs)):
        judged = clone(estimator)
        classes = {"classes": np.unique(args[1])} if is_classifier(estimator) else {}
        done = 0
        for step in steps(min(estimator.max_iter, _LAST_EPOCH + 1), _RATIO):
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
        _warn_unwatched(judged, "partial_fit of a copy fails", error)
        return False
    return True


def _by_parts(estimator: Any, args: Sequence[Any], kwargs: dict[str, Any], score: Score, watch: Watcher) -> None:
    """Judge a copy that ``partial_fit`` has shown a ninth and a third of the rows; if it goes on, fit as usual."""
    X: Any = args[0]
    y: Any = args[1] if len(args) > 1 else None
    n = _num_samples(X)
    # the first rows are also to hold all that the first step needs, such as clusters
    if not kwargs.keys() - {"sample_weight"} and n >= _PARTS * getattr(estimator, "n_clusters", 1):
        judged, done = clone(estimator), 0
        classes = {"classes": np.unique(y)} if is_classifier(estimator) else {}
        order = np.random.default_rng(0).permutation(n)
        for step in steps(_PARTS, _RATIO):
            rows = order[done : (done := n * step // _PARTS)]
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
