"""Pruning from inside Keras's training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inloop import Trial
from inloop.integrations._hook import Hook, known_direction
from keras.callbacks import Callback


class KerasPruningCallback(Hook, Callback):
    """Reports a metric after every epoch and stops training when the trial is pruned.

    For the ``fit`` of Keras 3, with any backend (``callbacks=[...]``). A step is an epoch, counted from
    ``initial_epoch``; those without the metric, as ``validation_freq`` leaves some, are passed over. A pruned fit
    ends as early stopping would end it, by ``model.stop_training``.

    Args:
        trial: Where the reports go.
        monitor: Name of the metric in the logs.
        mode: ``"min"`` or ``"max"``; needed unless the name says it, as ``"val_loss"`` and ``"val_accuracy"`` do.
        report_every: Report every so many epochs, and the last one.

    Raises:
        ValueError: When the first epoch is over, or before: if the metric is not logged, or its direction is unknown
            or not the study's. A metric of validation that is not logged is known after the first validation, or at
            the end of a training without any that nothing has stopped.
    """

    _model: Any = None

    def __init__(self, trial: Trial, monitor: str = "val_loss", mode: str | None = None, report_every: int = 1) -> None:
        super().__init__(trial, monitor, mode, report_every)
        self._check_direction(monitor, known_direction(monitor))
        self._begun = False

    def set_params(self, params: Any) -> None:
        """Keep nothing: the hook does not need them."""

    def on_train_begin(self, logs: Any = None) -> None:
        self._refuse_ended()
        self._begun = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._begun:
            self._begun = False
            self._start(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        fit, logs = self._current(), logs or {}
        fit.end = epoch + 1
        if self.metric not in logs:
            if fit.values is None and not self._may_come(logs):
                raise self._not_logged(logs)
            return
        fit.values = epoch, logs[self.metric]
        if self._see(fit, logs[self.metric], epoch):
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        fit, logs = self._fit, logs or {}
        try:
            if fit is None:
                return
            if fit.values is None and fit.reported < 0 and not self.model.stop_training:
                raise self._not_logged(logs)
            if fit.values is not None and fit.reported < fit.values[0]:
                self._see(self._current(), fit.values[1], fit.values[0], last=True)
        finally:
            self._leave()

    def _may_come(self, logs: Mapping[str, Any]) -> bool:
        """Return whether validation, of which nothing is logged yet, may bring the metric."""
        return str(self.metric).startswith("val_") and not any(name.startswith("val_") for name in logs)

    def _not_logged(self, logs: Mapping[str, Any]) -> ValueError:
        return self._missing(f"no metric is named {self.metric!r}", {"logs": logs})
