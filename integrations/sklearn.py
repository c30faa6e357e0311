"""`BayesSearchCV`: scikit-learn's search with proposals from a sampler, and candidates pruned between folds."""

from __future__ import annotations

import numbers
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import joblib
import numpy as np
from inloop import Study, create_study, pruners, samplers
from numpy.typing import NDArray
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import (
    _fit_and_score,
    _insert_error_scores,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from ._sklearn_race import Candidate, Out, Race
from ._sklearn_space import Distinct, SearchSpace

__all__ = ["BayesSearchCV"]


class BayesSearchCV(BaseSearchCV):
    """Search for an estimator's best parameters by cross-validation; a drop-in for ``RandomizedSearchCV``.

    Each candidate is proposed by a sampler from the scores of those before it. With a pruner, a candidate that
    falls behind after some of its folds is given up, and the folds that are left are not run.

    Pruning. After each fold but the last, and not before the second, the pruner is asked about the candidate.
    It sees step = number of folds done (1, 2, ...) and value = the mean of the fold scores so far, corrected by
    how the same folds turned out for the first candidate, so that an easy or hard fold helps nobody
    (`WilcoxonPruner` sees the fold scores themselves). Nothing is pruned before one candidate is complete. A pruned
    candidate keeps its row of ``cv_results_``: NaN in the splits that were not run and in their mean, a rank
    behind all complete rows; it never becomes the best.

    Reproducibility. With the same ``random_state`` and ``batch_size`` the result does not depend on ``n_jobs``
    or the joblib backend: candidate k is proposed, and pruned, by exactly the results of the candidates up to
    k - ``batch_size`` (and its own folds). The folds are drawn once, so all candidates see the same ones.

    Args:
        estimator: A scikit-learn estimator. It, or ``scoring``, must give a score; greater is better.
        param_distributions: Dict of parameter name to values, a list of such dicts (one of them is picked for
            each candidate), or an `inloop.Space`. Values are `inloop.Float`, `Int` and `Categorical`; scipy.stats
            frozen distributions; lists and arrays (always choices: of any objects); ``(low, high)`` or
            ``(low, high, "log-uniform")`` tuples of numbers (ranges, as in scikit-optimize; a list ``[low, high]``
            is two choices); any other tuple (choices); objects with ``rvs``.
        n_iter: Number of candidates. A finite space never repeats one; if it has fewer, all are tried and a
            warning says so.
        scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score: As in
            ``RandomizedSearchCV``, but a callable ``refit`` is shown the complete rows only. With several metrics the
            one named by ``refit`` is searched for, else the first.
        random_state: Seeds the proposals.
        sampler: An `inloop.samplers.Sampler` or its name; None is the default one.
        pruner: An `inloop.pruners.Pruner` or its name (``"median"``, ``"halving"``, ``"hyperband"``); None prunes
            nothing. ``"halving"`` and ``"hyperband"`` have their first rung after two folds here.
        batch_size: Number of candidates in flight; ``"auto"`` is ``ceil(n_jobs / number of folds)``.

    Attributes:
        cv_results_: As in ``RandomizedSearchCV``, and ``status`` ("complete", "pruned", or "failed" where
            the mean is NaN), ``n_splits_run``, ``partial_mean_test_<metric>`` (over the splits that were run).
        study_: The `inloop.Study` of the search; trial number = row of ``cv_results_``.
        n_pruned_: Number of pruned candidates.
        best_estimator_, best_score_, best_params_, best_index_: As in ``RandomizedSearchCV``, and so are ``scorer_``,
            ``n_splits_``, ``refit_time_``, ``multimetric_``, ``classes_``, ``n_features_in_``, ``feature_names_in_``.

    Example:
        >>> from scipy.stats import loguniform
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.svm import SVC
        >>> search = BayesSearchCV(SVC(), {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)}, n_iter=15,
        ...                        random_state=0)
        >>> search.fit(*load_iris(return_X_y=True)).best_score_ > 0.95
        True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **BaseSearchCV._parameter_constraints,
        "param_distributions": [Mapping, list],
        "n_iter": [Interval(numbers.Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "sampler": [str, HasMethods(["ask"]), None],
        "pruner": [str, HasMethods(["prune"]), None],
        "batch_size": [StrOptions({"auto"}), Interval(numbers.Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 50,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        sampler: samplers.Sampler | str | None = None,
        pruner: pruners.Pruner | str | None = None,
        batch_size: int | str = "auto",
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.random_state = random_state
        self.sampler = sampler
        self.pruner = pruner
        self.batch_size = batch_size

    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> BayesSearchCV:
        """Search, and fit the best candidate on all of the data if ``refit`` says so.

        Args:
            X: Training data, array-like of ``(n, ...)``.
            y: Target, array-like of ``(n,)`` or ``(n, outputs)``; None for unsupervised learning.
            **params: ``groups`` for the splitter, all else for the estimator's ``fit`` (and the scorer, as
                scikit-learn's metadata routing says); arrays of length n are split like the data.

        Returns:
            The search itself.

        Raises:
            ValueError: If every fit failed.
        """
        scorers, metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        hooks = _Hooks(self, X, y, params.get("sample_weight"))
        splits = self._splits(X, y, routed.splitter.split)
        estimator = clone(self.estimator)
        fold = {
            "X": X,
            "y": y,
            "scorer": scorers,
            "fit_params": routed.estimator.fit,
            "score_params": routed.scorer.score,
            "return_train_score": self.return_train_score,
            "return_n_test_samples": True,
            "return_times": True,
            "error_score": self.error_score,
            "verbose": self.verbose,
        }
        race = self._search(estimator, splits, fold, hooks)
        results = self._results(race.candidates, len(splits))
        if self.multimetric_ and callable(self.scoring):
            metric = self.refit
        self.n_splits_ = len(splits)
        self.study_ = race.study
        self.n_pruned_ = sum(c.pruned for c in race.candidates)
        self._keep_best(results, metric)
        if self.refit:
            # a parameter may itself be an estimator
            self.best_estimator_ = clone(estimator).set_params(**clone(self.best_params_, safe=False))
            with hooks.refit(self.best_estimator_):
                self._refit(X, y, routed.estimator.fit)
        self.scorer_ = scorers._scorers if isinstance(scorers, _MultimetricScorer) else scorers
        self.cv_results_ = results
        hooks.end()
        return self

    def _splits(self, X: Any, y: Any, params: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """Draw the folds once, so that every candidate sees the same ones."""
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        expected = cv.get_n_splits(X, y, **params)
        splits = list(cv.split(X, y, **params))
        if len(splits) != expected:
            raise ValueError(
                "cv.split and cv.get_n_splits return inconsistent results. "
                f"Expected {expected} splits, got {len(splits)}"
            )
        if not splits:
            raise ValueError("No fits were performed. Was the CV iterator empty? Were there no candidates?")
        return splits

    def _search(self, estimator: Any, splits: list[tuple[Any, Any]], fold: Mapping[str, Any], hooks: _Hooks) -> Race:
        """Run the candidates' folds until there are no more."""
        space = SearchSpace(self.param_distributions)
        n_iter = self._n_candidates(space)
        workers = joblib.effective_n_jobs(self.n_jobs)
        size = -(-workers // len(splits)) if self.batch_size == "auto" else int(self.batch_size)
        race = Race(self._study(space), space, n_iter, len(splits), size, self._value)
        if self.verbose > 0:
            print(  # noqa: T201
                f"Fitting {len(splits)} folds for each of {n_iter} candidates, totalling {n_iter * len(splits)} fits"
            )
        hooks.search(n_iter * len(splits))
        with Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch) as parallel:
            while tasks := race.ready(workers):
                outs = parallel(
                    delayed(_fit_and_score)(
                        clone(estimator),
                        train=splits[k][0],
                        test=splits[k][1],
                        parameters=candidate.params,
                        split_progress=(k, len(splits)),
                        candidate_progress=(candidate.index, n_iter),
                        **fold,
                        **hooks.fold(candidate.index * len(splits) + k),
                    )
                    for candidate, k in tasks
                )
                for (candidate, k), out in zip(tasks, outs, strict=True):
                    race.take(candidate, k, out)
        hooks.search_end()
        return race

    def _n_candidates(self, space: SearchSpace) -> int:
        count = space.count(self.n_iter)
        if count is None or count >= self.n_iter:
            return self.n_iter
        warnings.warn(
            f"The total space of parameters {count} is smaller than n_iter={self.n_iter}. Running {count} iterations.",
            UserWarning,
            stacklevel=5,
        )
        return count

    def _study(self, space: SearchSpace) -> Study:
        seed = self.random_state
        if not isinstance(seed, numbers.Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        sampler = samplers.from_name(self.sampler)
        if space.space.size is not None:
            sampler = Distinct(sampler, space)
        return create_study(
            direction="maximize", sampler=sampler, pruner=_pruner(self.pruner), seed=int(seed), space=space.space
        )

    def _value(self, out: Out) -> float:
        """Return the score of a fold that the search is about."""
        score = out["test_scores"]
        if isinstance(score, dict):
            if callable(self.scoring):
                self._check_refit_for_multimetric(score)
            score = score[self.refit if isinstance(self.refit, str) else next(iter(score))]
        return float(score)

    def _results(self, candidates: list[Candidate], n_splits: int) -> dict[str, Any]:
        """Return ``cv_results_``."""
        outs = [out for c in candidates for out in c.outs]
        if not outs:
            raise ValueError("No fits were performed. Was the CV iterator empty? Were there no candidates?")
        _warn_or_raise_about_fit_failures(outs, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(outs, self.error_score)
        self.multimetric_ = isinstance(outs[0]["test_scores"], dict)
        whole = [c for c in candidates if not c.pruned]
        table = self._table(whole, n_splits)  # warns of scores that are not finite
        if len(whole) < len(candidates):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "One or more of the (test|train) scores are non-finite")
                ranked, table = table, self._table(candidates, n_splits)
            _rank_behind(table, ranked, candidates)
        for key in list(table):
            if key.startswith("mean_test_"):
                table[f"partial_{key}"] = _partial_means(table, key.removeprefix("mean_"), n_splits)
        return table

    def _table(self, candidates: list[Candidate], n_splits: int) -> dict[str, Any]:
        """Return scikit-learn's table of these candidates, with NaN for the folds they did not run."""
        first = candidates[0].outs[0]
        blank = {k: _blank(v) for k, v in first.items()}
        outs = [c.outs[k] if k < len(c.outs) else blank for c in candidates for k in range(n_splits)]
        extra = {"status": [_status(c) for c in candidates], "n_splits_run": [len(c.outs) for c in candidates]}
        table: dict[str, Any] = self._format_results([c.params for c in candidates], n_splits, outs, extra)
        for key in ("fit_time", "score_time"):  # what was run took its time
            for i, c in enumerate(candidates):
                if c.pruned:
                    times = [out[key] for out in c.outs]
                    table[f"mean_{key}"][i], table[f"std_{key}"][i] = np.mean(times), np.std(times)
        return table

    def _keep_best(self, results: dict[str, Any], metric: str) -> None:
        if not self.refit and self.multimetric_:
            return
        whole = np.flatnonzero(results["status"] != "pruned")
        if callable(self.refit) and len(whole) < len(results["params"]):
            seen = {k: [v[i] for i in whole] if k == "params" else v[whole] for k, v in results.items()}
            self.best_index_ = whole[self._select_best_index(self.refit, metric, seen)]
        else:
            self.best_index_ = self._select_best_index(self.refit, metric, results)
        if not callable(self.refit):
            self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
        self.best_params_ = results["params"][self.best_index_]

    def _refit(self, X: Any, y: Any, fit_params: Mapping[str, Any]) -> None:
        start = time.time()
        data = (X,) if y is None else (X, y)
        self.best_estimator_.fit(*data, **fit_params)
        self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


class _Hooks:
    """The callbacks of scikit-learn 1.9 (``set_callbacks``) around a search; nothing in earlier versions."""

    def __init__(self, search: BaseSearchCV, X: Any, y: Any, sample_weight: Any) -> None:
        self._search = search
        self._data = {
            "estimator": search,
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        self._known = "callback_ctx" in signature(_fit_and_score).parameters
        if self._known:
            root = search._init_callback_context(max_subtasks=1 + (search.refit is not False))
            self._root = root.call_on_fit_task_begin(**self._data)

    def search(self, n_fits: int) -> None:
        """Say that the folds of the candidates come now."""
        if self._known:
            task = self._root.subcontext(task_name="search", max_subtasks=n_fits, sequential_subtasks=False)
            self._folds = task.call_on_fit_task_begin(estimator=self._search)

    def fold(self, task: int) -> dict[str, Any]:
        """Return what one fold is run with."""
        if not self._known:
            return {}
        context = self._folds.subcontext(task_name="candidate-split-evaluation", task_id=task)
        # without callbacks nothing looks at the caller, and it need not travel
        caller = self._search if getattr(self._search, "_skl_callbacks", None) else None
        return {"caller": caller, "callback_ctx": context}

    def search_end(self) -> None:
        """Say that no more folds come."""
        if self._known:
            self._folds.call_on_fit_task_end(estimator=self._search)

    @contextmanager
    def refit(self, estimator: Any) -> Iterator[None]:
        """Enclose the fit of the best candidate."""
        if not self._known:
            yield
            return
        task = self._root.subcontext(task_name="refit-with-best-params")
        with task.propagate_callback_context(estimator):
            task.call_on_fit_task_begin(**self._data)
            yield
        task.call_on_fit_task_end(**self._data)

    def end(self) -> None:
        """Say that the search is over."""
        if self._known:
            self._root.call_on_fit_task_end(**self._data)


def _pruner(pruner: pruners.Pruner | str | None) -> pruners.Pruner:
    """Return the pruner, those known by name as is good for a handful of folds."""
    if pruner is None:
        return pruners.NopPruner()
    if pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=2)
    if pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=2)
    return pruners.from_name(pruner)


def _status(candidate: Candidate) -> str:
    if candidate.pruned:
        return "pruned"
    return "failed" if any(s != s for s in candidate.scores) else "complete"


def _blank(value: Any) -> Any:
    """Return the like of an entry of a fold's result, for a fold that was not run."""
    if isinstance(value, dict):
        return dict.fromkeys(value, np.nan)
    return np.nan if isinstance(value, numbers.Number) else None


def _rank_behind(table: dict[str, Any], ranked: Mapping[str, Any], candidates: list[Candidate]) -> None:
    """Give the pruned candidates of ``table`` a rank behind all others, who keep the rank of their own table."""
    whole = np.array([not c.pruned for c in candidates])
    for key in table:
        if key.startswith("rank_test_"):
            table[key] = np.full(len(candidates), whole.sum() + 1, np.int32)
            table[key][whole] = ranked[key]


def _partial_means(table: Mapping[str, Any], name: str, n_splits: int) -> NDArray[np.float64]:
    """Return each candidate's mean over the folds it ran."""
    splits = np.stack([table[f"split{k}_{name}"] for k in range(n_splits)], axis=1)
    run = np.arange(n_splits) < table["n_splits_run"][:, None]
    mean: NDArray[np.float64] = np.where(run, splits, 0.0).sum(axis=1) / table["n_splits_run"]
    return mean
