"""Pruning from inside the fits of scikit-learn's iterative estimators."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from inloop import Trial
from inloop.integrations._hook import Fit, Hook
from sklearn.callback import FitCallback  # in scikit-learn 1.9 and newer
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline


class SklearnPruningCallback(Hook, FitCallback):
    """Scores an estimator after every iteration of its fit, on data set aside, and stops it when the trial is pruned.

    For estimators that tell their iterations to callbacks (scikit-learn 1.9: ``LogisticRegression`` with its default
    solver, and whatever is written for `sklearn.callback`), alone or as the last step of a ``Pipeline``; give it to the
    outermost one, ``model.set_callbacks(hook)``. A step is an iteration. The hook returns True to end a fit that is
    pruned; estimators that pass over that, as those of scikit-learn 1.9 do, end with `TrialPruned` before the next
    iteration. Of steps of a pipeline that take no callbacks scikit-learn warns; that is of no matter here.

    Args:
        trial: Where the reports go.
        X, y: What to score on, as the outermost estimator takes it; not the training data.
        scoring: A name or a scorer; None: the estimator's own ``score``. Scores are to be maximized.
        sample_weight: Weights of the rows of ``X`` in the score.
        report_every: Score and report every so many iterations, and the last one.
        start: Iterations of earlier fits that training goes on from, where the estimator has ``warm_start``.

    Raises:
        ValueError: If the study minimizes, or, when the fit is over, the estimator has told no iterations.
        TypeError: If ``scoring`` is neither a name nor a scorer.

    Example:
        >>> import inloop
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> trial = inloop.create_study("maximize", seed=0).ask()
        >>> X, y = load_iris(return_X_y=True)
        >>> hook = SklearnPruningCallback(trial, X[1::2], y[1::2], "neg_log_loss", report_every=10)
        >>> model = LogisticRegression(max_iter=500).set_callbacks(hook).fit(X[::2], y[::2])
        >>> trial.study.history.trials[0].reports == -(-int(model.n_iter_[0]) // 10)
        True
    """

    #: Goes with the outermost estimator to those inside it, however deep.
    max_propagation_depth = None

    def __init__(
        self,
        trial: Trial,
        X: Any,
        y: Any,
        scoring: str | Callable[..., float] | None = None,
        sample_weight: Any = None,
        report_every: int = 1,
        start: int = 0,
    ) -> None:
        super().__init__(trial, None, None, report_every)
        if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
            raise TypeError(f"{type(self).__name__}: scoring must be one name or one scorer, got {scoring!r}.")
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.scoring = scoring
        self.start = start
        self._check_direction("score" if scoring is None else str(scoring), "max")

    def setup(self, estimator: Any, context: Any) -> None:
        scores = _Scores(estimator, self.X, self.y, self.scoring, self.sample_weight)
        self._start(self.start)
        self._current().source = scores

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        if _is_iteration(context):
            self._refuse_ended()

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> bool:
        fit = self._current()
        if fitted_estimator is None or not _is_iteration(context) or estimator is not fit.source.estimator:
            return False
        step = self.start + context.task_id
        fit.values = fitted_estimator, step
        return (step + 1) % self.report_every == 0 and self._score(fit)

    def teardown(self, estimator: Any, context: Any) -> None:
        fit = self._fit
        # an exception that was not under way when the fit began is that of the fit, and is what is to be said
        if fit is not None and sys.exc_info()[1] is fit.source.handled:
            self._end(fit)
        self._fit = None

    def _end(self, fit: Fit) -> None:
        if fit.values is None:
            raise ValueError(
                f"{type(self).__name__}: {fit.source.estimator!r} told nothing of its iterations; "
                "take an estimator, or a solver, that passes a fitted_estimator to callbacks in each of them."
            )
        if fit.values[1] > fit.reported:
            self._score(fit)

    def _score(self, fit: Fit) -> bool:
        model, step = fit.values
        return self._see(self._current(), fit.source(model), step, last=True)


class _Scores:
    """Scores the models of one fit.

    Attributes:
        estimator: The one whose iterations count: the last step of a pipeline.
        handled: The exception in whose handling the fit was called, if any.
    """

    def __init__(self, outermost: Any, X: Any, y: Any, scoring: Any, sample_weight: Any) -> None:
        self._pipelines: list[Pipeline] = []
        while isinstance(outermost, Pipeline):
            self._pipelines.append(outermost)
            outermost = outermost.steps[-1][1]
        self.estimator = outermost
        self.handled = sys.exc_info()[1]
        self._X, self._y = X, y
        self._scorer = check_scoring(outermost, scoring)
        self._weights = {} if sample_weight is None else {"sample_weight": sample_weight}

    def __call__(self, model: Any) -> float:
        """Return the score of a model that is the estimator as of some iteration."""
        for pipeline in self._pipelines:
            if len(pipeline.steps) > 1:  # all before the last are fitted by now
                self._X = pipeline[:-1].transform(self._X)
        self._pipelines.clear()
        score: float = self._scorer(model, self._X, self._y, **self._weights)
        return score


def _is_iteration(context: Any) -> bool:
    """Return whether a task is a direct part of an estimator's fit."""
    fit = context.parent
    # the fit of a step has been merged with a task of the pipeline
    return context.source_task_name is None and fit is not None and (fit.parent is None or bool(fit.source_task_name))
