"""Pruning from inside the training loop of PyTorch Ignite."""

from __future__ import annotations

import warnings
from typing import Any

from ignite.engine import Engine, Events
from inloop import Trial
from inloop.integrations._hook import Hook, known_direction


class IgnitePruningHandler(Hook):
    """Reports a metric after every evaluation of an epoch and stops the trainer when the trial is pruned.

    ``IgnitePruningHandler(trial, "loss").attach(trainer, evaluator)``, where the evaluator is run by a handler of the
    trainer's. A step is an epoch of the trainer. Runs of the evaluator outside training or before the first epoch
    report nothing. Of several runs in an epoch the first one counts, and a warning says so: training data evaluated
    by the same ``Engine`` before validation data would be what the trial is pruned by. A pruned run ends as early
    stopping would end it, by ``trainer.terminate``.

    Args:
        trial: Where the reports go.
        metric: Name in ``evaluator.state.metrics``.
        mode: ``"min"`` or ``"max"``; needed unless the name says it, as ``"loss"`` and ``"accuracy"`` do.
        report_every: Report every so many epochs, and the last one.

    Raises:
        ValueError: When the first evaluation is over, or before: if the metric is not there, or its direction is
            unknown or not the study's. When training is over: if the evaluator has not run in any of its epochs.
    """

    _warned = False

    def __init__(self, trial: Trial, metric: str = "loss", mode: str | None = None, report_every: int = 1) -> None:
        super().__init__(trial, metric, mode, report_every)
        self._check_direction(metric, known_direction(metric))

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Look at the metrics whenever ``evaluator`` has run while ``trainer`` trains."""
        trainer.add_event_handler(Events.STARTED, lambda: self._begin(trainer.state.epoch))
        evaluator.add_event_handler(Events.COMPLETED, lambda: self._look(trainer, evaluator.state.metrics))
        trainer.add_event_handler(Events.COMPLETED, lambda: self._end(trainer))

    def _begin(self, epoch: int) -> None:
        self._start(epoch)
        self._current().source = epoch

    def _look(self, trainer: Engine, metrics: dict[str, Any]) -> None:
        step = trainer.state.epoch - 1
        if self._fit is None or step < self._fit.source:
            return
        if trainer._dataloader_iter is None:  # an exception has ended the run, of which Ignite tells no handler else
            return
        if self._fit.values is not None and self._fit.values[0] >= step:
            self._warn(trainer)
            return
        if self.metric not in metrics:
            raise self._missing(f"no metric is named {self.metric!r}", {"evaluator": metrics})
        fit = self._current()
        fit.values = step, metrics[self.metric]
        if self._see(fit, metrics[self.metric], step):
            trainer.terminate()

    def _warn(self, trainer: Engine) -> None:
        if not self._warned and trainer.state.epoch != trainer.state.max_epochs:  # when it may be the final evaluation
            self._warned = True
            warnings.warn(
                "IgnitePruningHandler: the evaluator runs more than once in an epoch, and the first run is reported. "
                "If that is on training data, attach another evaluator, which runs on validation data alone.",
                stacklevel=2,
            )

    def _end(self, trainer: Engine) -> None:
        fit = self._current()
        if fit.values is not None and fit.values[0] > fit.reported:
            self._see(fit, fit.values[1], fit.values[0], last=True)
        fit.end = trainer.state.epoch
        self._leave()
        if fit.values is None and fit.reported < 0 and fit.end > fit.source and not trainer.should_terminate:
            raise ValueError(
                "IgnitePruningHandler: the evaluator has not run in any epoch, so nothing was reported; attach the "
                "evaluator that a handler of the trainer's runs, on Events.EPOCH_COMPLETED for instance."
            )
