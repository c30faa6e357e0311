"""Pruning from inside LightGBM's training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import Any

from inloop import Trial
from inloop.integrations._hook import Hook
from inloop.integrations._lightgbm_segment import train_segment as train_segment
from lightgbm import Booster
from lightgbm.callback import CallbackEnv, EarlyStopException

# https://lightgbm.readthedocs.io/en/stable/Parameters.html#metric: what may be asked for, and what is reported
_ALIASES = {
    "l1": ("mean_absolute_error", "mae", "regression_l1"),
    "l2": ("mean_squared_error", "mse", "regression_l2", "regression"),
    "rmse": ("root_mean_squared_error", "l2_root"),
    "mape": ("mean_absolute_percentage_error",),
    "ndcg": ("lambdarank", "rank_xendcg", "xendcg", "xe_ndcg", "xe_ndcg_mart", "xendcg_mart"),
    "map": ("mean_average_precision",),
    "binary_logloss": ("binary",),
    "multi_logloss": ("multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr"),
    "cross_entropy": ("xentropy",),
    "cross_entropy_lambda": ("xentlambda",),
    "kullback_leibler": ("kldiv",),
}
# https://lightgbm.readthedocs.io/en/stable/Parameters.html#network-parameters; the number rules
_MACHINES = ("num_machines", "num_machine", "machines", "workers", "nodes")
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


class LightGBMPruningCallback(Hook):
    """Reports an evaluation metric after every boosting round and stops training when the trial is pruned.

    For ``lightgbm.train`` and ``lightgbm.cv`` and the ``fit`` of the scikit-learn estimators (``callbacks=[...]``).
    A step is a boosting round, counted over all of training where that goes on with ``init_model``; ``cv`` counts its
    own rounds. A pruned fit ends as early stopping would end it, with ``best_iteration`` the last round. Training on
    several machines (``num_machines``, Dask) is refused: each of them would stop alone.

    Args:
        trial: Where the reports go.
        metric: A name or alias that LightGBM knows, or a custom metric's; None: the first one.
        data: Name of the evaluation set; None: the first that is not the training data.
        mode: ``"min"`` or ``"max"``; LightGBM says it for every metric, so this only checks it.
        report_every: Report every so many rounds, and the last one.

    Raises:
        ValueError: When the first round is over: if the metric or the set is not evaluated, the metric's direction is
            not the study's, or several machines train.

    Example:
        >>> import inloop, lightgbm, numpy
        >>> trial = inloop.create_study(seed=0).ask()
        >>> X = numpy.arange(40.0).reshape(-1, 1)
        >>> train = lightgbm.Dataset(X[::2], X[::2, 0])
        >>> valid = train.create_valid(X[1::2], X[1::2, 0])
        >>> params = {"metric": "rmse", "min_data_in_leaf": 2, "verbosity": -1, "num_threads": 1}
        >>> hook = LightGBMPruningCallback(trial, "rmse")
        >>> lightgbm.train(params, train, 3, valid_sets=[valid], callbacks=[hook]).num_trees()
        3
    """

    before_iteration = False

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

    @property
    def order(self) -> int:
        """Place among the callbacks: after the recording of metrics (20), before early stopping (30).

        Raises:
            TrialPruned: If the trial is pruned. LightGBM asks for the order when a fit starts, and calls the
                hook only when the first round is over.
        """
        self._refuse_ended()
        return 25

    def __call__(self, env: CallbackEnv) -> None:
        """Take the metrics of one round."""
        entries, step = env.evaluation_result_list or [], env.iteration
        if step == env.begin_iteration:
            self._refuse_machines(env.params)
            self._start(step)
            self._current().source = self._choose(env, entries)
        fit = self._fit
        if fit is None or fit.thread != get_ident():
            fit = self._current()
        value = entries[fit.source][2]
        if self._see(fit, value, step, step + 1 == env.end_iteration):
            raise EarlyStopException(step, entries)
        if fit.reported != step:  # should early stopping end the fit now, nothing would say so
            self._hold(fit, value, step)

    def _refuse_machines(self, params: Mapping[str, Any]) -> None:
        given = [n for n in _MACHINES if n in params]
        if given and _count(params[given[0]]) > 1:
            raise ValueError(
                f"{type(self).__name__}: {given[0]}={params[given[0]]!r}, but of several machines one would stop alone "
                "by its own metrics, and the others would fail. Train on one, or prune between fits: report what a "
                "fit has reached by trial.report, and ask trial.should_prune."
            )

    def _choose(self, env: CallbackEnv, entries: Sequence[Any]) -> int:
        """Return the place of the metric among the entries, which is the same in every round."""
        if not entries:
            raise ValueError(
                f"{type(self).__name__}: nothing is evaluated; give lightgbm.train valid_sets=[dvalid] or "
                "fit eval_X=X_valid, eval_y=y_valid (before LightGBM 4.7 eval_set=[(X_valid, y_valid)]), and a metric."
            )
        training = env.model._train_data_name if isinstance(env.model, Booster) else "train"
        there: dict[str, dict[str, int]] = {}
        for i, entry in enumerate(entries):
            data, name = _names(entry)
            there.setdefault(data, {}).setdefault(name, i)
        default = next((d for d in there if d != training), None)
        metrics = self._set(there, self.data, default)
        name = next(iter(metrics)) if self.metric is None else _reported_as(self.metric, metrics)
        if name not in metrics:
            raise self._missing(f"no metric is named {name!r}", there)
        self._check_direction(name, "max" if entries[metrics[name]][3] else "min")
        return metrics[name]


def _count(machines: Any) -> int:
    """Return how many machines a parameter says: a number, ``"host:port,host:port"``, or several of these."""
    if isinstance(machines, str) and not machines.isdigit():
        return len(machines.split(","))
    return len(machines) if isinstance(machines, list | set) else int(machines)


def _names(entry: Any) -> tuple[str, str]:
    """Return the set and the metric of an entry; ``cv`` before LightGBM 4.6 has ("cv_agg", "valid auc", ...)."""
    data, metric = entry[0], entry[1]
    if data == "cv_agg":
        data, _, metric = metric.partition(" ")
    return data, metric


def _reported_as(metric: str, there: Mapping[str, int]) -> str:
    """Return the name under which LightGBM reports a metric that was asked for as ``metric``.

    Aliases are resolved, and so are the keys of the result of ``cv``, "valid auc-mean". Names of custom metrics and of
    validation sets may have spaces, too.
    """
    words = metric.split(" ")
    for name in (" ".join(words[i:]) for i in range(len(words))):
        for plain in (name, name.removesuffix("-mean")):
            base, at, rank = plain.partition("@")
            for known in (plain, _NAMES.get(base, base) + at + rank):
                if known in there:
                    return known
    return metric
