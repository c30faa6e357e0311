"""`BayesSearchCV`: scikit-learn's search with proposals from a sampler, and candidates pruned early."""

from __future__ import annotations

import math
import numbers
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import joblib
import numpy as np
from inloop import FrozenTrial, Study, create_study, pruners, samplers
from inloop.samplers.curves import Curves, trust
from inloop.spaces import default_space
from inloop.storage import Storage
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_method_params, check_is_fitted

from . import _sklearn_dispatch as dispatch
from ._sklearn_display import SearchDisplay
from ._sklearn_early import Watched, fix_rounds, groups_apart
from ._sklearn_families import family_of
from ._sklearn_folds import FoldsCurves, FoldsPruner
from ._sklearn_hooks import Hooks, Progress
from ._sklearn_iterations import most_iterations, run_fold
from ._sklearn_pipelines import last_step
from ._sklearn_race import Candidate, Race
from ._sklearn_report import Report, edges, standard_error
from ._sklearn_resume import check_same, enqueue_known, fingerprint, in_memory, resume, setup_hash
from ._sklearn_rows import Hashes, fingerprints, row_hashes, share_known
from ._sklearn_segment import train_segment
from ._sklearn_space import Distinct, SearchSpace, Turns
from ._sklearn_table import check_complexity, complete_rows, fill_scores, results, simplest

__all__ = ["BayesSearchCV", "Report", "SearchDisplay", "train_segment"]


class BayesSearchCV(BaseSearchCV):
    """Search for an estimator's best parameters by cross-validation; a drop-in for ``RandomizedSearchCV``.

    Each candidate is proposed by a sampler from the scores of those before it. With a pruner, a candidate that
    falls behind is given up, and what is left of its folds is not run.

    Pruning between folds (``resource="folds"``, any estimator). After each fold but the last, and not before the
    second, the pruner is asked about the candidate. ``pruner="auto"`` foretells its mean score from its
    folds, by how those of complete candidates turned out, and stops it when that is behind the best one by more than
    the noise of the folds explains; every candidate begins with another fold, so that no fold alone decides. Other
    pruners get the folds in their order, and see step = number of folds done (1, 2, ...) and value = the mean of the
    fold scores so far, corrected by how the same folds turned out for the first candidate, so that an easy or hard fold
    helps nobody (`WilcoxonPruner` sees the fold scores themselves). Samplers that learn from curves take a pruned
    candidate for what its folds foretell.

    Pruning inside fits (``resource="iterations"``). The pruner is also asked while a candidate's first fold is being
    fitted, after 3, 9, 27, ... boosting rounds or trees, up to half of them. It sees the search's own score on the
    fold's test rows at that step; candidates that get through the fold are pruned between folds. ``"auto"`` foretells
    the score at the end from what other candidates still gained after that step, and judges after the first fold
    already. For XGBoost, LightGBM and CatBoost (without early stopping); for scikit-learn's gradient boosting,
    histogram gradient boosting, random forests and extra trees; for skorch (after 3, 5, 9, 16, ... epochs) and for
    scikit-learn's logistic regression from 1.9 on (iterations of the default solver, likewise); also as the last step
    of a ``Pipeline``. A fit that is not pruned gives the same model as a plain one. Of SGD, perceptrons and MLP a copy
    is judged after 3, 9 and 27 epochs of ``partial_fit``, and of naive Bayes and mini-batch k-means after a ninth and
    a third of the rows, which tells about the fit only roughly and is spent besides it. Estimators of scikit-learn that
    stop early by themselves (``early_stopping``, ``n_iter_no_change``) and all others are pruned between folds only.

    Nothing is pruned before one candidate is complete. A pruned candidate keeps its row of ``cv_results_``: NaN in the
    splits that were not run to the end and in their mean, a rank behind all complete rows; it never becomes the best.

    Reproducibility. With the same ``random_state`` and ``batch_size`` the result does not depend on ``n_jobs``
    or the joblib backend: candidate k is proposed, and pruned, by exactly the results of the candidates up to
    k - ``batch_size`` (and its own folds). The folds are drawn once, so all candidates see the same ones.

    Args:
        estimator: A scikit-learn estimator. It, or ``scoring``, must give a score; greater is better.
        param_distributions: Dict of parameter name to values, a list of such dicts (one of them is picked for
            each candidate), or an `inloop.Space`. Values are `inloop.Float`, `Int` and `Categorical`; scipy.stats
            frozen distributions; lists and arrays (always choices: of any objects); ``(low, high)`` or
            ``(low, high, "log-uniform")`` tuples of numbers (ranges, as in scikit-optimize; a list ``[low, high]``
            is two choices); any other tuple (choices); objects with ``rvs``; distributions of scikit-optimize and
            Optuna. None: `inloop.spaces.default_space` of the estimator.
        n_iter: Number of candidates, of all dicts together; where ``param_distributions`` is a list of pairs (dict,
            number) as in scikit-optimize, their numbers count. A finite space never repeats one; if it has fewer, all
            are tried and a warning says so.
        scoring, n_jobs, refit, cv, pre_dispatch, error_score, return_train_score: As in
            ``RandomizedSearchCV``, but ``pre_dispatch`` counts in rounds only (see ``batch_size``), a callable
            ``refit`` is shown the complete rows only, and ``"1se"`` is the simplest candidate within one standard
            error of the best (Breiman et al., "Classification and regression trees", 1984, section 3.4.3).
        verbose: 1 shows a line of progress (with tqdm installed); more instead of it a line a fold, as in
            ``RandomizedSearchCV``.
        random_state: Seeds the proposals.
        sampler: An `inloop.samplers.Sampler` or its name (``"gp"``, ``"tpe"``, ``"random"``, ``"grid"``); None is the
            default one.
        pruner: ``"auto"``, made for searches by cross-validation; an `inloop.pruners.Pruner` or its name
            (``"median"``, ``"halving"``, ``"hyperband"``); None prunes nothing. By name, ``"halving"`` and
            ``"hyperband"`` have their first rung after two folds, and inside fits after a sixth of the iterations; a
            pruner object is asked as it is in both places.
        resource: ``"folds"`` or ``"iterations"``: where candidates are pruned.
        batch_size: Number of candidates in flight; ``"auto"`` is ``ceil(n_jobs / number of folds)``. With more than one
            worker their folds are run as workers come free, if the joblib backend can give results as they come and
            there are no callbacks of scikit-learn, else in rounds.
        timeout: Seconds after which no more folds are started; at least one candidate is completed.
        stopping: A function of (study, trial), or a list of them, called after each candidate, and with the last one of
            an earlier run before a search in a storage goes on; ``study.stop()`` in it ends the search.
        initial_params: List of dicts of parameters to try first, whole ones once, unless an earlier run of a search in
            a storage has tried them; parameters that a dict leaves out are proposed.
        objective: The metric to search for where ``scoring`` gives several; None: the one named by ``refit``, else
            the first.
        storage: Where the search is kept as it goes, as in `create_study`: a file (``"search.db"``), a URL. The same
            search on the same data goes on where an earlier one was interrupted. One process at a time.
        study_name: Its name there; None: one made of the estimator, the scoring, the space and the data.
        eval_set: What XGBoost, LightGBM and CatBoost watch where they stop early (``early_stopping_rounds`` and the
            like) and ``fit`` gives them no rows to watch: ``"split"``, a part of the training fold, or ``"test"``, the
            test fold itself; its scores are then better than on unseen rows. The last fit runs as many rounds as
            were best in the folds, by the median, on all rows. Offsets of ``fit`` (``base_margin``, ``init_score``,
            ``baseline``) need ``"split"``.
        validation_fraction: The part of the training fold for ``eval_set="split"``: of its rows, drawn by class, or,
            where the folds keep the ``groups`` given to ``fit`` apart, of its groups, unless there are too few to leave
            one to watch and some of each class to fit. Steps of a ``Pipeline`` before the booster are fitted on the
            whole training fold.
        complexity: For ``refit="1se"``: the name of a parameter of which less is simpler (``"-C"``: more is; None is
            more than any number), or a function of the dict of parameters that returns something to sort by.
        callbacks: A function of (search, trial), or a list of them, called after each candidate;
            ``search.study_`` is the study so far.
        search_spaces: scikit-optimize's name for ``param_distributions``; give one of the two.

    Attributes:
        cv_results_: As in ``RandomizedSearchCV``, and ``status`` ("complete", "pruned", or "failed" where
            the mean is NaN), ``n_splits_run`` (to the end), ``n_iterations_run`` (only with
            ``resource="iterations"``), ``partial_mean_test_<metric>`` (over the splits that were run or begun).
        study_: The `inloop.Study` of the search, with one trial for each row. Of a search that is kept in a storage it
            is a copy from the end of the search; `inloop.load_study` gives the one that goes on.
        n_pruned_: Number of pruned candidates.
        refit_n_iterations_: Rounds of the last fit, only where boosters stopped early in the folds.
        best_estimator_, best_score_, best_params_, best_index_: As in ``RandomizedSearchCV``, and so are ``scorer_``,
            ``n_splits_``, ``refit_time_``, ``multimetric_``, ``classes_``, ``n_features_in_``, ``feature_names_in_``.

    Ctrl-C ends the search as ``timeout`` does: what is done is kept, with a warning, and the best candidate is fitted
    on all of the data if ``refit`` says so; only before the first complete candidate is the interrupt raised.
    Complete is who ran all folds and did not fail. Candidates that have not run all of their folds by then are no rows,
    and LOST in ``study_``.

    Example:
        >>> from scipy.stats import loguniform
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.svm import SVC
        >>> search = BayesSearchCV(SVC(), {"C": loguniform(1e-2, 1e3), "gamma": loguniform(1e-4, 1e1)}, n_iter=15,
        ...                        random_state=0)
        >>> bool(search.fit(*load_iris(return_X_y=True)).best_score_ > 0.95)
        True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **BaseSearchCV._parameter_constraints,
        "param_distributions": [Mapping, list, tuple, None],
        "search_spaces": [Mapping, list, tuple, None],
        "n_iter": [Interval(numbers.Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "sampler": [str, HasMethods(["ask"]), None],
        "pruner": [str, HasMethods(["prune"]), None],
        "resource": [StrOptions({"folds", "iterations"})],
        "batch_size": [StrOptions({"auto"}), Interval(numbers.Integral, 1, None, closed="left")],
        "timeout": [Interval(numbers.Real, 0, None, closed="neither"), None],
        "stopping": [callable, list, tuple, None],
        "initial_params": [list, tuple, None],
        "objective": [str, None],
        "callbacks": [callable, list, tuple, None],
        "storage": [str, os.PathLike, HasMethods(["append", "read"]), None],
        "study_name": [str, None],
        "eval_set": [StrOptions({"split", "test"})],
        "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "complexity": [str, callable, None],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any = None,
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
        resource: str = "folds",
        batch_size: int | str = "auto",
        timeout: float | None = None,
        stopping: Any = None,
        initial_params: Sequence[Mapping[str, Any]] | None = None,
        storage: Any = None,
        study_name: str | None = None,
        objective: str | None = None,
        eval_set: str = "split",
        validation_fraction: float = 0.1,
        complexity: Any = None,
        callbacks: Any = None,
        search_spaces: Any = None,
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
        self.resource = resource
        self.batch_size = batch_size
        self.timeout = timeout
        self.stopping = stopping
        self.initial_params = initial_params
        self.storage = storage
        self.study_name = study_name
        self.objective = objective
        self.eval_set = eval_set
        self.validation_fraction = validation_fraction
        self.complexity = complexity
        self.callbacks = callbacks
        self.search_spaces = search_spaces

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
        for name in ("cv_results_", "best_estimator_", "refit_n_iterations_", "refit_time_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        for name in ("stopping", "callbacks"):
            if not all(map(callable, _list(getattr(self, name)))):
                raise TypeError(f"{name} must be a function or a list of functions, got {getattr(self, name)!r}.")
        scorers, metric = self._get_scorers()
        self._check_objective(scorers)
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        estimator = clone(self.estimator)
        hooks = Hooks(self, X, y, params.get("sample_weight"))
        splits = self._splits(X, y, routed.splitter.split)
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
        groups = groups_apart(routed.splitter.split.get("groups"), splits)
        race = self._search(estimator, splits, groups, fold, hooks)
        table = self._table(race, len(splits))
        if self.multimetric_ and callable(self.scoring):
            metric = self.refit
        self.n_splits_ = len(splits)
        self.cv_results_ = table  # before anything of the user's own can fail
        self._keep_best(race, table, metric)
        if self.refit:
            # a parameter may itself be an estimator
            self.best_estimator_ = clone(estimator).set_params(**clone(self.best_params_, safe=False))
            self._fix_rounds(race)
            with hooks.refit(self.best_estimator_):
                self._refit(X, y, routed.estimator.fit)
        self.scorer_ = scorers._scorers if isinstance(scorers, _MultimetricScorer) else scorers
        self.n_pruned_ = int((table["status"] == "pruned").sum())
        self._rows, self._rows_differ = _remembered(X, y)
        hooks.end()
        return self

    def report(self, X: Any, y: Any = None, **params: Any) -> Report:
        """Return what the search found, cross-validated and on rows that it has not seen.

        Args:
            X: Rows that were not given to `fit`.
            y: Their targets.
            **params: For the scorer, as in ``score``.

        Returns:
            A table to print, with its entries as attributes.

        Raises:
            ValueError: If most of the rows were given to `fit`, or there is no single score to report.

        Warns:
            UserWarning: If most are equal to rows given to `fit`, but many of those are equal to each other too.
        """
        check_is_fitted(self)
        if not self.refit or callable(self.refit):
            raise ValueError("report needs a search with refit=True or the name of a metric.")
        known = 0.0 if self._rows is None else share_known(X, y, self._rows)
        if known > 0.5:
            text = f"{known:.0%} of these rows were given to fit; report on rows that were held out."
            if self._rows_differ:
                raise ValueError(text)
            warnings.warn(f"{text} (They may be others that are equal: rows given to fit are too.)", stacklevel=2)
        metric = self.refit if self.multimetric_ else "score"
        table, best = self.cv_results_, self.best_index_
        return Report(
            metric=metric if self.multimetric_ or not isinstance(self.scoring, str) else self.scoring,
            cv_score=float(self.best_score_),
            cv_error=standard_error(table[f"split{k}_test_{metric}"][best] for k in range(self.n_splits_)),
            test_score=float(self.score(X, y, **params)),
            params=self.best_params_,
            edges=self._edges,
            folds_run=int(table["n_splits_run"].sum()),
            folds_total=len(table["status"]) * self.n_splits_,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cv_results_")

    def _check_objective(self, scorers: Any) -> None:
        if self.refit == "1se" and self.complexity is None:
            raise ValueError(
                "refit='1se' needs complexity, what is simple: the name of a parameter, or a function of them."
            )
        if self.objective is None or self.objective == self.scoring or callable(self.scoring):
            return  # what a function gives is known when it has been called
        names = list(scorers._scorers) if isinstance(scorers, _MultimetricScorer) else ["score"]
        if self.objective not in names:
            raise ValueError(f"objective={self.objective!r} is none of the metrics {names}.")

    def _splits(self, X: Any, y: Any, params: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """Draw the folds once, so that every candidate sees the same ones."""
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        expected = cv.get_n_splits(X, y, **params)
        splits = [(_indices(train), _indices(test)) for train, test in cv.split(X, y, **params)]
        if len(splits) != expected:
            raise ValueError(
                "cv.split and cv.get_n_splits return inconsistent results. "
                f"Expected {expected} splits, got {len(splits)}"
            )
        if not splits:
            raise ValueError("No fits were performed. Was the CV iterator empty? Were there no candidates?")
        return splits

    def _search(
        self, estimator: Any, splits: list[tuple[Any, Any]], groups: Any, fold: Mapping[str, Any], hooks: Hooks
    ) -> Race:
        """Run the candidates' folds until there are no more."""
        space = SearchSpace(self._given_space())
        if self.refit == "1se":
            check_complexity(space, self.complexity)
        n_iter = self._n_candidates(space)
        in_train = [None if groups is None else groups[train] for train, _ in splits]
        watched = [Watched(self.eval_set, self.validation_fraction, part) for part in in_train]
        workers = joblib.effective_n_jobs(self.n_jobs)
        size = -(-workers // len(splits)) if self.batch_size == "auto" else int(self.batch_size)
        data = setup = ""
        if self.storage is not None:
            data, setup = fingerprint(fold["X"], fold["y"], splits), self._setup(estimator, space, fold, watched)
        self.study_ = self._study(space, data, setup)
        earlier = None
        if self.storage is not None:
            check_same(self.study_, data, setup)
            earlier = resume(self.study_, space)
        enqueue_known(self.study_, space, self.initial_params or (), earlier or ())
        done = len(earlier or ())
        if earlier:  # what was ended is not to go on
            self._ask_stopping(self.study_.trials[earlier[-1].trial.number])
        n_iter = done if self.study_._stopped else max(n_iter, done)
        n_fits = n_iter * len(splits)
        if self.verbose > 0:
            new = n_iter - done
            text = f"Fitting {len(splits)} folds for each of {new} candidates, totalling {new * len(splits)} fits"
            print(text + (f"; {done} candidates of an earlier run are kept" if done else ""))  # noqa: T201
        with Progress(n_iter, done, self.verbose == 1) as progress, hooks.search(n_fits):
            told = partial(self._told, progress)
            inside = self._inside_fits(estimator, space)
            race = Race(self.study_, space, n_iter, len(splits), size, self._value, inside, told, earlier)
            deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout

            def task(candidate: Candidate, k: int) -> Callable[[], Any]:
                return partial(
                    run_fold,
                    clone(estimator),
                    watch=race.watch(candidate, k, workers),
                    value=partial(_objective, name=self._objective_name()),
                    watched=watched[k],
                    train=splits[k][0],
                    test=splits[k][1],
                    parameters=candidate.params,
                    split_progress=(k, len(splits)),
                    candidate_progress=(candidate.index, n_iter),
                    **fold,
                    **hooks.fold(candidate.index * len(splits) + k),
                )

            def goes_on() -> bool:
                return time.monotonic() < deadline or not race.n_complete

            try:
                # contexts of callbacks know each other, so that none can be made while another one travels
                free = not hooks.any
                dispatch.run(race, task, goes_on, workers, self.n_jobs, self.pre_dispatch, free)
            except KeyboardInterrupt:
                if not race.n_complete:
                    raise
                warnings.warn(f"The search was interrupted; {race.n_complete} candidates are complete.", stacklevel=4)
            finally:
                race.close()
        if self.storage is not None:  # what was fitted needs no database, and does not change with it
            self.study_ = in_memory(self.study_, close=not isinstance(self.storage, Storage))
        return race

    def _given_space(self) -> Any:
        if self.param_distributions is not None and self.search_spaces is not None:
            raise ValueError("Give param_distributions or search_spaces, which mean the same, not both.")
        given = self.search_spaces if self.param_distributions is None else self.param_distributions
        return default_space(self.estimator) if given is None else given

    def _n_candidates(self, space: SearchSpace) -> int:
        asked = space.total(self.n_iter)
        space.cap()
        count = space.count(asked) if space.quotas is None else space.total(asked)
        if count is None or count >= asked:
            return asked
        warnings.warn(
            f"The total space of parameters {count} is smaller than n_iter={asked}. Running {count} iterations.",
            UserWarning,
            stacklevel=5,
        )
        return count

    def _setup(self, estimator: Any, space: SearchSpace, fold: Mapping[str, Any], watched: Sequence[Watched]) -> str:
        """Return a hash of what the scores of a fold depend on besides data and what is stored of the parameters."""
        options: tuple[Any, ...] = (self.scoring, self._objective_name(), self.return_train_score)
        if not math.isnan(self._score_of_failed()):  # NaN, the default, adds nothing: earlier versions wrote none
            options += (self._score_of_failed(),)
        return setup_hash(estimator, options, watched, fold["fit_params"], fold["score_params"], *space.unstored())

    def _study(self, space: SearchSpace, data: str, setup: str) -> Study:
        seed = self.random_state
        if not isinstance(seed, numbers.Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        name = self.study_name
        if name is None and self.storage is not None:
            name = f"{type(last_step(self.estimator)).__name__}-{space.space.id[:6]}-{data[:6]}-{setup[:6]}"
        study = create_study(
            "maximize",
            sampler=self._sampler(space),
            pruner=pruners.NopPruner() if self.pruner is None else _pruner(self.pruner, 2),
            storage=self.storage,
            study_name=name,
            load_if_exists=self.storage is not None,
            seed=int(seed),
            space=space.space,
        )
        # other pruners stop all candidates inside the same fold, where its levels can be compared
        trust(study.history, FoldsCurves if self.pruner == "auto" or self.resource == "folds" else Curves)
        return study

    def _sampler(self, space: SearchSpace) -> samplers.Sampler:
        if self.sampler == "grid":
            if space.quotas is not None and len(space.quotas) > 1:
                raise ValueError(
                    "sampler='grid' goes through all dicts in its own order; give dicts without numbers of candidates."
                )
            return Distinct(samplers.GridSampler(space.space), space)
        sampler = samplers.from_name(self.sampler)
        if space.space.size is not None or space.quotas is not None:
            sampler = Distinct(sampler, space)
        return Turns(sampler, space) if space.quotas is not None and len(space.quotas) > 1 else sampler

    def _inside_fits(self, estimator: Any, space: SearchSpace) -> pruners.Pruner | None:
        """Return who judges folds from inside their fits."""
        if self.resource != "iterations" or self.pruner is None:
            return None
        last, longest = last_step(estimator), most_iterations(estimator, space.space)
        if family_of(last) is None and not (longest and isinstance(last, str)):  # a mere place for others is fine
            warnings.warn(
                f"{last if isinstance(last, str) else type(last).__name__} does not report from inside its fit; it is "
                "pruned between folds, as with resource='folds'.",
                UserWarning,
                stacklevel=5,
            )
        # Earlier scores mislead where the learning rate is searched too. Recorded curves as in `Race.watch`: a first
        # rung after a fifth of 120 rounds costs 19 % and loses .05, one after 3 rounds 12 % and .17. Between a sixth
        # and a half there is always a report
        if self.pruner == "auto":
            return FoldsPruner(longest)
        return _pruner(self.pruner, max(3, longest // 6))

    def _ask_stopping(self, trial: FrozenTrial) -> None:
        for stop in _list(self.stopping):
            stop(self.study_, trial)

    def _told(self, progress: Progress, trial: FrozenTrial) -> None:
        self._ask_stopping(trial)
        for call in _list(self.callbacks):
            call(self, trial)
        progress(self.study_, trial)

    def _score_of_failed(self) -> float:
        """Return what a failed fit counts as; one that raises leaves no score."""
        return np.nan if self.error_score == "raise" else float(self.error_score)

    def _objective_name(self) -> str | None:
        return self.objective or (self.refit if isinstance(self.refit, str) and self.refit != "1se" else None)

    def _value(self, scores: Any) -> float:
        """Return what the scorer gave for the metric that is searched for."""
        if callable(self.scoring) and isinstance(scores, Mapping):
            self._check_refit_for_multimetric(scores)
        return _objective(scores, self._objective_name())

    def _table(self, race: Race, n_splits: int) -> dict[str, Any]:
        """Return ``cv_results_``."""
        outs = [out for c in race.candidates for out in c.run]
        if not outs:
            raise ValueError("No fits were performed. Was the CV iterator empty? Were there no candidates?")
        _warn_or_raise_about_fit_failures(outs, self.error_score)
        self.multimetric_ = fill_scores(outs, self._score_of_failed())
        return results(race.candidates, n_splits, self._format_results, self.resource == "iterations")

    def _keep_best(self, race: Race, table: dict[str, Any], metric: str) -> None:
        for name in ("best_index_", "best_score_", "best_params_"):
            self.__dict__.pop(name, None)
        if not self.refit and self.multimetric_:
            return
        if self.refit == "1se":
            self.best_index_ = simplest(table, self.n_splits_, self.complexity)
        elif callable(self.refit) and "pruned" in table["status"]:
            rows, complete = complete_rows(table)
            self.best_index_ = rows[self._select_best_index(self.refit, metric, complete)]
        else:
            self.best_index_ = self._select_best_index(self.refit, metric, table)
        if not callable(self.refit):
            self.best_score_ = table[f"mean_test_{metric}"][self.best_index_]
        self.best_params_ = table["params"][self.best_index_]
        self._edges = edges(self.best_params_, race.space.dists(race.candidates[self.best_index_].trial.params))

    def _fix_rounds(self, race: Race) -> None:
        """Have the last fit of a booster that stopped early in the folds run their median number of rounds."""
        rounds = [out["rounds"] for out in race.candidates[self.best_index_].outs]
        rounds = [n for n in rounds if n is not None]  # a fold whose fit failed has none
        if rounds:
            self.refit_n_iterations_ = int(np.median(rounds))
            fix_rounds(last_step(self.best_estimator_), self.refit_n_iterations_)

    def _refit(self, X: Any, y: Any, fit_params: Mapping[str, Any]) -> None:
        start = time.time()
        data = (X,) if y is None else (X, y)
        self.best_estimator_.fit(*data, **fit_params)
        self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _remembered(X: Any, y: Any) -> tuple[Hashes | None, bool]:
    """Return `fingerprints` and whether the rows differ from each other, so that an equal one is the same one.

    None where the data are no rows of numbers or texts, such as ragged lists.
    """
    try:
        hashes = row_hashes(X, y)
        known = np.unique(hashes)
        return fingerprints(known), len(known) > 0.9 * len(hashes)
    except Exception:  # data of any kind: they are no reason to lose a search
        return None, False


def _indices(rows: Any) -> Any:
    """Return rows of a fold in a form that picks rows of anything."""
    return np.asarray(rows) if isinstance(rows, range) else rows


def _objective(scores: Any, name: str | None) -> float:
    """Return one metric of what a scorer gave."""
    if not isinstance(scores, Mapping):
        return float(scores)
    if not scores:
        raise ValueError("The scorer gave no metric; a dict of at least one score is needed.")
    if name is None:
        name = next(iter(scores))
    if name not in scores:
        raise ValueError(f"objective={name!r} is none of the metrics {list(scores)}.")
    return float(scores[name])


def _pruner(pruner: pruners.Pruner | str, first: int) -> pruners.Pruner:
    """Return the pruner; those known by name have their first rung at step ``first``."""
    if pruner == "auto":
        return FoldsPruner()
    if pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=first)
    if pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=first)
    return pruners.from_name(pruner)


def _list(given: Any) -> Sequence[Callable[[Any, FrozenTrial], None]]:
    if given is None:
        return ()
    return (given,) if callable(given) else given
