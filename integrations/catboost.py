"""Pruning from inside CatBoost's training loop."""

from __future__ import annotations

from threading import get_ident
from typing import Any

from catboost import CatBoostError
from catboost.core import is_maximizable_metric, is_minimizable_metric
from inloop import Trial
from inloop.integrations._hook import Hook


class CatBoostPruningCallback(Hook):
    """Reports an evaluation metric after every iteration and stops training when the trial is pruned.

    For the ``fit`` of CatBoost's estimators (``callbacks=[...]``). A pruned fit ends as any other, with the trees up to
    there, or those up to the best iteration where ``use_best_model`` is in force. Iterations whose metrics
    ``metric_period`` leaves out are not reported.

    CatBoost makes a ``CatBoostError`` of every exception of a callback, with the exception's text in it. It
    calls this one first when the first iteration is over, so that a trial that was pruned before costs one iteration.

    Args:
        trial: Where the reports go.
        metric: As CatBoost prints it, ``"Logloss"`` or ``"NDCG:top=5;type=Base"``; None: the only one.
        data: ``"validation"``, ``"validation_1"`` or ``"learn"``; None: the first that is not the training data.
        mode: ``"min"`` or ``"max"``; needed where the metric is not one of CatBoost's own.
        report_every: Report every so many iterations, and the last one.
        start: Iterations of the ``init_model`` that training goes on from: ``init_model.tree_count_``. Those of a
            snapshot are counted without it.

    Raises:
        ValueError: In a ``CatBoostError``, when the first iteration is over: if the metric or the set is not
            evaluated, or the metric's direction is unknown or not the study's.

    Example:
        >>> import catboost, inloop
        >>> trial = inloop.create_study(seed=0).ask()
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0]
        >>> model = catboost.CatBoostRegressor(iterations=3, verbose=False, allow_writing_files=False)
        >>> model.fit(X, y, eval_set=(X, y), callbacks=[CatBoostPruningCallback(trial)]).tree_count_
        3
    """

    def __init__(
        self,
        trial: Trial,
        metric: str | None = None,
        data: str | None = None,
        mode: str | None = None,
        report_every: int = 1,
        start: int = 0,
    ) -> None:
        super().__init__(trial, metric, mode, report_every)
        self.data = data
        self.start = start

    def after_iteration(self, info: Any) -> bool:
        """Take the metrics of one iteration; return whether to go on."""
        if self._begins(info.iteration):
            self._begin(info)
        fit = self._current()
        data, metric = fit.source
        values = info.metrics[data][metric]
        (_, seen), fit.values = fit.values, (info.iteration, len(values))
        if len(values) == seen:  # metric_period has left this iteration out
            return True
        step = self.start + info.iteration - 1
        if self._see(fit, values[-1], step):
            return False
        if fit.reported != step:  # nothing says when training ends
            self._hold(fit, values[-1], step)
        return True

    def _begins(self, iteration: int) -> bool:
        """Return whether an iteration is the first of a fit, which after a snapshot need not be iteration 1."""
        fit = self._fit
        if fit is None or iteration == 1:
            return True
        return fit.thread == get_ident() and iteration != fit.values[0] + 1

    def _begin(self, info: Any) -> None:
        self._refuse_ended()
        source = data, metric = self._choose(info.metrics)
        self._start(self.start + info.iteration - 1)
        fit, taken = self._current(), len(info.metrics[data][metric])
        # with metric_period nothing says whether the newest value is of this iteration or from the snapshot
        fit.source, fit.values = source, (info.iteration, 0 if taken == info.iteration else taken)

    def _choose(self, there: dict[str, dict[str, list[float]]]) -> tuple[str, str]:
        """Return the names of the evaluation set and the metric."""
        data = next((d for d in there if d != "learn"), None) if self.data is None else self.data
        metrics = self._set(there, self.data, data)
        if self.metric is None and len(metrics) > 1:
            raise self._missing("there are several metrics, give metric=", there)
        name = next(iter(metrics)) if self.metric is None else self.metric
        if name not in metrics:
            raise self._missing(f"no metric is named {name!r}", there)
        self._check_direction(name, _direction(name))
        assert data is not None
        return data, name


def _direction(metric: str) -> str | None:
    """Return ``"min"`` or ``"max"`` for a metric of CatBoost's own, None for any other name."""
    for name in (metric, metric.partition(":")[0]):
        try:
            return "max" if is_maximizable_metric(name) else "min" if is_minimizable_metric(name) else None
        except CatBoostError:  # the name is unknown, or wants the number of classes, as "AUC:type=Mu" does
            continue
    return None
