"""Pruning from inside the training loop of Hugging Face's Trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list, gather_object
from inloop import Trial
from inloop.integrations._hook import Hook, known_direction
from transformers import TrainerCallback

_T = TypeVar("_T")


class TransformersPruningCallback(Hook, TrainerCallback):
    """Reports a metric after every evaluation and stops training when the trial is pruned.

    For ``transformers.Trainer`` (``callbacks=[...]``) with an ``eval_strategy``. A step is an optimizer step,
    ``state.global_step``. A pruned run ends as early stopping would end it, by ``control.should_training_stop``. An
    ``evaluate`` outside ``train`` reports nothing. In distributed training rank 0 reports and decides. Every rank needs
    the same trial; where ``torchrun`` has each of them run the whole script, rank 0 asks for it and broadcasts it.

    Args:
        trial: Where the reports go.
        monitor: Name of the metric, with or without ``eval_``.
        mode: ``"min"`` or ``"max"``; needed unless the name says it, as ``"eval_loss"`` and ``"eval_accuracy"`` do.
        report_every: Report only every so many evaluations, and the last one.

    Raises:
        ValueError: When training goes on after an evaluation, or before: if the metric is not there, or its
            direction is unknown or not the study's. At the end of a training without any evaluation.
        RuntimeError: When the Trainer is made, if the ranks have different trials.
    """

    _runs: tuple[Any, ...] = ()  # states of the runs under way: one, or two that would be mixed up
    _args: Any = None  # of the newest run
    _between = False  # whether training is between two steps: one that has failed is not

    def __init__(
        self, trial: Trial, monitor: str = "eval_loss", mode: str | None = None, report_every: int = 1
    ) -> None:
        super().__init__(trial, monitor, mode, report_every)
        self._check_direction(monitor, known_direction(monitor))

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # before models are wrapped: those of different trials may differ, and then the ranks wait for each other
        if args.world_size > 1:
            self._check_one_trial(
                _from_leader,
                lambda same: all(gather_object([same])),
                "Have rank 0 alone make the study and tell it, and hand each trial over: box = [study.ask() if "
                "rank == 0 else None]; torch.distributed.broadcast_object_list(box); trial = box[0].",
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # memory ran out, and the same training begins once more with smaller batches
        again = args.auto_find_batch_size and args is self._args and self._fit is not None
        self._args, self._runs = args, (*(() if again else self._runs), state)
        self._between, self._count, self._due = True, 0, False
        self._seen: dict[str, float] = {}  # the newest value of every metric
        known = [entry["step"] for entry in state.log_history if self._name in entry]  # of a run that was resumed
        self._known = bool(known)
        if args.eval_strategy == "no" and not args.eval_on_start:
            warnings.warn(
                f"{type(self).__name__}: eval_strategy is 'no', so nothing is evaluated during training unless another "
                "callback asks for it; give TrainingArguments eval_strategy='epoch' or 'steps'.",
                stacklevel=2,
            )
        begin = state.global_step and state.global_step + 1
        start = self._restart if again else lambda: self._start(begin, known[-1] if known else None)
        self._led(args, start)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if not self._between or not any(run is state for run in self._runs):
            return
        if not any(name.startswith("eval_") for name in metrics):  # of a set that only another callback evaluates
            return
        self._seen.update(metrics)
        if args.process_index == 0:
            self._current()
        if self._name in metrics:  # of several sets each has an evaluation of its own
            self._count, self._step = self._count + 1, state.global_step
            self._due = self._count % self.report_every > 0
            if not self._due and self._led(args, self._send):
                control.should_training_stop = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._between = False
        if self._seen and not self._count:
            raise self._missing(f"no metric is named {self.metric!r}", {"evaluation": self._seen})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._between = True

    on_epoch_end = on_step_end  # which may be cut short before the end of a step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._runs = tuple(run for run in self._runs if run is not state)
        if self._due:
            self._led(args, self._send)
        if self._fit is not None:
            self._fit.end = state.global_step + 1
        self._leave()
        stopped = state.global_step < state.max_steps
        if not self._count and (self._seen or not (stopped or self._known)):
            raise self._missing(f"no metric is named {self.metric!r}", {"evaluation": self._seen})

    @property
    def _name(self) -> str:
        name = str(self.metric)
        return name if name.startswith("eval_") else f"eval_{name}"

    def _restart(self) -> None:
        self._refuse_ended()
        fit = self._current()
        if fit.stream >= 0:
            fit.report = self._reporter(fit.stream)

    def _send(self) -> bool:
        return self._see(self._current(), self._seen[self._name], self._step, last=True)

    def _led(self, args: Any, do: Callable[[], _T]) -> _T:
        if args.world_size == 1:
            return do()
        return self._on_leader(do, args.process_index == 0, _from_leader)


def _from_leader(said: Any) -> Any:
    """Return on every rank what rank 0 gives."""
    return broadcast_object_list([said])[0]
