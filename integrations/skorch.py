"""Pruning from inside skorch's training loop."""

from __future__ import annotations

import copy
from typing import Any

from inloop import Trial
from inloop.integrations._hook import Hook, known_direction
from skorch.callbacks import Callback


class SkorchPruningCallback(Hook, Callback):
    """Reports a column of the history after every epoch and stops training when the trial is pruned.

    For skorch's nets (``callbacks=[...]``). A step is an epoch, counted over ``partial_fit`` and ``warm_start``. A
    pruned fit ends as early stopping would end it.

    Args:
        trial: Where the reports go.
        monitor: Name of the column.
        mode: ``"min"`` or ``"max"``; needed unless the name says it, as ``"valid_loss"`` and ``"valid_acc"`` do.
        report_every: Report every so many epochs, and the last one.

    Raises:
        ValueError: When the first epoch is over, or before: if the history has no such column, or its direction is
            unknown or not the study's.
    """

    def __init__(
        self, trial: Trial, monitor: str = "valid_loss", mode: str | None = None, report_every: int = 1
    ) -> None:
        super().__init__(trial, monitor, mode, report_every)
        self._check_direction(monitor, known_direction(monitor))

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self._check_direction(self.monitor, known_direction(self.monitor))  # of parameters that were set since
        self._refuse_ended()
        self._fit = None

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        if self._fit is None:  # now that LoadInitState, wherever it is listed, has brought its history
            self._start(len(net.history) - 1)

    def on_epoch_end(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        row = net.history[-1]
        if self.metric not in row:
            raise self._missing(f"no column is named {self.metric!r}", {"history": [k for k in row if k != "batches"]})
        if self._see(self._current(), row[self.metric], len(net.history) - 1):
            raise KeyboardInterrupt  # skorch's way to end training, which its EarlyStopping takes too

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        if self._fit is None:  # no epoch was trained
            return
        fit, last = self._current(), len(net.history) - 1
        # a callback listed earlier may have ended training and hidden the last epoch
        if last >= fit.begin and last > fit.reported and self.metric in net.history[-1]:
            self._see(fit, net.history[-1][self.metric], last, last=True)
        self._fit = None

    @property
    def monitor(self) -> str:
        """Name of the column."""
        return str(self.metric)

    @monitor.setter
    def monitor(self, monitor: str) -> None:
        self.metric = monitor

    def _get_param_names(self) -> list[str]:
        return ["trial", "monitor", "mode", "report_every"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments; a trial is not looked for, as a net that was loaded may have outlived its study."""
        reference = vars(self)["trial"]
        given = {name: getattr(self, name) for name in self._get_param_names()[1:]}
        return {"trial": reference.trial or reference, **given}

    def __sklearn_clone__(self) -> SkorchPruningCallback:
        return copy.copy(self)
