"""Pruning from inside XGBoost's training loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from inloop import Trial
from inloop.integrations._hook import Hook
from inloop.integrations._xgboost_segment import train_segment as train_segment
from xgboost import collective
from xgboost.callback import TrainingCallback

_T = TypeVar("_T")
# XGBoost's own early stopping goes by prefixes and takes pred_err for pre, and ams@ for an error
_MINIMIZED = re.compile(
    r"(rmse|rmsle|mae|mape|mphe|logloss|merror|mlogloss|quantile|expectile|(poisson|gamma|cox|aft)-nloglik|gamma-deviance)"
    r"|error(@[-+.\de]+)?|tweedie-nloglik@[-+.\de]+"
)
_MAXIMIZED = re.compile(r"auc|aucpr|interval-regression-accuracy|(pre|ndcg|map)(@\d+)?-?|ams@[-+.\de]+")


class XGBoostPruningCallback(Hook, TrainingCallback):
    """Reports an evaluation metric after every boosting round and stops training when the trial is pruned.

    For ``xgboost.train`` and ``xgboost.cv`` (``callbacks=[...]``) and the scikit-learn estimators (the constructor's
    ``callbacks=[...]``). A step is a boosting round, counted over all of training where it goes on with ``xgb_model``.
    A pruned fit ends as early stopping would end it; where nothing else has set them, ``best_iteration`` and
    ``best_score`` are those of the last round. In collective training every worker has the hook, and rank 0 alone
    reports and decides.

    Args:
        trial: Where the reports go.
        metric: As XGBoost prints it, ``"logloss"`` or ``"ndcg@5"``; None: the last one, as in early stopping.
        data: Name of the evaluation set; None: the last one whose name does not begin with "train".
        mode: ``"min"`` or ``"max"``; needed where the metric is not one of XGBoost's own.
        report_every: Report every so many rounds, and the last one.

    Raises:
        ValueError: When the first round is over, or before: if the metric or the set is not evaluated, or the
            metric's direction is unknown or not the study's.

    Example:
        >>> import inloop
        >>> from xgboost import XGBRegressor
        >>> trial = inloop.create_study(seed=0).ask()
        >>> model = XGBRegressor(n_estimators=3, callbacks=[XGBoostPruningCallback(trial)])
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0]
        >>> len(model.fit(X, y, eval_set=[(X, y)], verbose=False).evals_result()["validation_0"]["rmse"])
        3
    """

    def __init__(
        self,
        trial: Trial,
        metric: str | None = None,
        data: str | None = None,
        mode: str | None = None,
        report_every: int = 1,
    ) -> None:
        super().__init__(trial, metric, mode, report_every)
        self.data = data
        if metric is not None and (mode is not None or direction(metric) is not None):
            self._check_direction(metric, direction(metric))

    def before_training(self, model: Any) -> Any:
        self._distributed = collective.is_distributed()
        self._first = _rounds_before(model)
        self._led(self._begin)
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if epoch == 0 and collective.get_rank() == 0:
            self._current().source = evals_log
        return False

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        fit = self._fit
        if fit is None or self._plain is not evals_log:
            stop = self._led(self._look)
            if stop is None:
                return False
        else:  # what `_look` does, one call less in every round
            stop = fit.values[-1]
            if type(stop) is tuple:
                stop = stop[0]
            fit.reported = step = self._first + epoch
            if not fit.report(stop, step):
                return False
        if model.attr("best_iteration") is None:  # xgboost.cv and EarlyStopping(save_best=True) ask for it
            model.set_attr(best_iteration=str(self._first + epoch), best_score=str(stop))
        return True

    def after_training(self, model: Any) -> Any:
        self._led(self._end)
        return model

    def _begin(self) -> None:
        self._start(self._first)
        self._plain: Any = None  # the log of a fit whose next rounds are all reported, and by this process

    def _look(self, last: bool = False) -> float | None:
        """Report the newest round; return its value if training should stop."""
        fit = self._current()
        values = fit.values
        if values is None:
            values = fit.values = self._choose(fit.source)
            if self.report_every == 1 and not self._distributed:
                self._plain = fit.source
        score = values[-1]
        if type(score) is tuple:  # cv: mean and standard deviation
            score = score[0]
        step = self._first + len(values) - 1
        return score if self._see(fit, score, step, last) else None

    def _end(self) -> None:
        """Report the last round if it was not: a callback listed earlier may have ended training and hidden it."""
        fit = self._current()
        if fit.source and (fit.values is None or self._first + len(fit.values) - 1 > fit.reported):
            self._look(last=True)
        self._fit = self._plain = None

    def _choose(self, log: dict[str, dict[str, list[Any]]]) -> list[Any]:
        """Return the growing list of the metric's values."""
        if not log:
            raise ValueError(
                f"{type(self).__name__}: nothing is evaluated; give xgboost.train evals=[(dvalid, 'valid')] or "
                "fit eval_set=[(X_valid, y_valid)], and a metric."
            )
        metrics = self._set(log, self.data, next((d for d in reversed(log) if not d.startswith("train")), None))
        name = list(metrics)[-1] if self.metric is None else self.metric
        if name not in metrics:
            raise self._missing(f"no metric is named {name!r}", log)
        self._check_direction(name, direction(name))
        return metrics[name]

    def _led(self, do: Callable[[], _T]) -> _T:
        """Return what ``do()`` returns on rank 0, on every rank; where it raises, all raise."""
        if not self._distributed:
            return do()
        return self._on_leader(do, collective.get_rank() == 0, lambda said: collective.broadcast(said, 0))


def direction(metric: str) -> str | None:
    """Return ``"min"`` or ``"max"`` for a metric of XGBoost's own, None for any other name.

    Example:
        >>> direction("mape"), direction("map@10-"), direction("pred_err")
        ('min', 'max', None)
    """
    if _MINIMIZED.fullmatch(metric):
        return "min"
    return "max" if _MAXIMIZED.fullmatch(metric) else None


def _rounds_before(model: Any) -> int:
    """Return how many rounds a fit goes on from: XGBoost itself counts from 0 in every fit."""
    rounds = int(model.num_boosted_rounds())
    # process_type=update goes over the trees that are there once more
    return 0 if rounds and '"process_type":"update"' in model.save_config() else rounds
