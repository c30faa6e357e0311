"""Pruning from inside Lightning's training loop."""

from __future__ import annotations

import functools
import os
import pickle
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from inloop import Trial, ranks
from inloop.integrations._hook import LENT, Fit, Hook, known_direction
from inloop.integrations._lightning_segment import train_segment as train_segment

_T = TypeVar("_T")
# one framework under two names, whose classes are not each other's
_PACKAGES = tuple(p for p in ("lightning.pytorch", "pytorch_lightning") if find_spec(p.partition(".")[0]))
if not _PACKAGES:
    raise ImportError("inloop.integrations.lightning needs pip install pytorch-lightning", name="pytorch_lightning")


@dataclass
class _Course(Fit):
    """One fit.

    Attributes:
        first: The first epoch, and the first optimizer step, of it; 0 where training is fresh.
        validated: Whether a validation has ended.
        before: What has begun, the newest ``"validation"`` or epoch of ``"training"``, and the metric at that moment.
        kind: What has ended when the metric is there, ``"validation"`` or ``"training"``; None: not known yet.
        step: Where the metric was taken last, -1 before any.
        count: How often it was taken, over all of training.
        due: Whether what was taken last is not reported.
        least: The Trainer's ``min_epochs`` and ``min_steps``, if they were set aside.
    """

    first: tuple[int, int] = (0, 0)
    validated: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    kind: str | None = None
    step: int = -1
    count: int = 0
    due: bool = False
    least: tuple[Any, Any] | None = None


class LightningPruningCallback(Hook):
    """Reports a logged metric after every validation and stops training when the trial is pruned.

    For ``Trainer(callbacks=[...])`` of ``lightning.pytorch`` or ``pytorch_lightning``, whichever is imported by then.
    It reports when ``EarlyStopping`` would look: at the end of the training epoch where validation runs once an
    epoch, at its end; otherwise when a validation ends. A metric of training is reported when its epoch ends.
    A pruned fit ends by ``trainer.should_stop``, before ``min_epochs`` too. The sanity check, ``fast_dev_run``,
    ``validate``, ``test`` and the ``Tuner`` report nothing.

    In distributed training rank 0 reports and decides. Ranks that the strategy ``"ddp"`` launches run the script
    anew; there `create_study` returns the study of the leading process, and trials are its trials.

    Args:
        trial: Where the reports go.
        monitor: Name of the metric in ``trainer.callback_metrics``.
        mode: ``"min"`` or ``"max"``; needed unless the name says it, as ``"val_loss"`` and ``"val_acc"`` do.
        step: ``"epoch"``; ``"global_step"``, optimizer steps; ``"auto"``: epochs, unless validation runs several times
            in one. Trials are compared at equal steps, so it should be the same in all of them.
        report_every: Report only every so many of these, and the last one.

    Raises:
        TypeError: When a fit begins, if the Trainer is of the other package.
        ValueError: When the first epoch is over, or before: if the metric is not logged, its direction is unknown or
            not the study's, or an epoch has more than one validation to report.

    Example:
        >>> import inloop
        >>> import pytorch_lightning as pl
        >>> trial = inloop.create_study(seed=0).ask()
        >>> hook = LightningPruningCallback(trial, "val_loss")
        >>> isinstance(hook, pl.Callback), hook
        (True, LightningPruningCallback(trial=0, metric='val_loss', report_every=1, step='auto'))
    """

    _packages: tuple[str, ...] = ()
    _fit: _Course | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        plain: Any = cls
        return object.__new__(plain if cls._packages else _callback_class(plain, _imported()))

    def __init__(
        self, trial: Trial, monitor: str, mode: str | None = None, step: str = "auto", report_every: int = 1
    ) -> None:
        super().__init__(trial, monitor, mode, report_every)
        if step not in ("auto", "epoch", "global_step"):
            raise ValueError(f"LightningPruningCallback: step must be 'auto', 'epoch' or 'global_step', got {step!r}.")
        self.step = step
        self._check_direction(monitor, known_direction(monitor))
        self._settle()
        ranks.lead(trial)

    def _settle(self) -> None:
        self._fit = None
        self._last: tuple[int, int] | None = None  # last step reported and count of a fit that may go on
        self._restored = False  # whether the checkpoint that a fit goes on from had them
        # a process forked off this one has but a copy of a study in memory; this leads it to the study itself
        trial = vars(self)["trial"].trial  # one that was not looked for yet is found on whatever side of a fork
        in_memory = trial is not None and not trial.study._log.storage.shared
        self._way = os.getpid(), pickle.dumps(trial) if in_memory else None

    @property
    def monitor(self) -> str:
        """Name of the metric."""
        return str(self.metric)

    @property
    def state_key(self) -> str:
        return f"LightningPruningCallback{{'monitor': {self.monitor!r}}}"

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        package = next((p for p in self._packages if isinstance(trainer, import_module(p).Trainer)), None)
        if package is None:
            raise TypeError(
                f"The Trainer is of {type(trainer).__module__.partition('.trainer')[0]}, but when this "
                f"LightningPruningCallback was made, only {self._packages[0]} was imported: import the Trainer's "
                "package first."
            )
        if stage != "fit" or trainer.fast_dev_run:
            return
        pid, way = self._way
        if way is not None and pid != os.getpid():
            self.trial = pickle.loads(way)
        if trainer.world_size > 1:
            self._check_one_trial(
                trainer.strategy.broadcast,
                lambda same: bool(trainer.strategy.reduce_boolean_decision(same, all=True)),
                "Launch them from the process that runs the study, by Trainer(strategy='ddp') or 'ddp_spawn'.",
            )
        self._led(trainer, self._refuse_ended)
        self._restored = False
        _listen(trainer, package, self)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        _end_listening(trainer, self)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        _end_listening(trainer, self)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.fast_dev_run:
            goes_on = trainer.current_epoch > 0 or trainer.global_step > 0
            first = trainer.current_epoch, trainer.global_step + goes_on
            self._fit = _Course(threading.get_ident(), first=first)
            if not goes_on or (trainer.ckpt_path and not self._restored):  # it is no fit of this trial's that goes on
                self._last = None
            if self._last is not None:
                self._fit.reported, self._fit.count = self._last

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.fast_dev_run:
            self._course().before["training"] = trainer.callback_metrics.get(self.monitor)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run:
            self._course().before["validation"] = trainer.callback_metrics.get(self.monitor)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:
            return
        self._course().validated = True
        if not _validates_once(trainer) or trainer.check_val_every_n_epoch != 1:
            self._look(trainer, "validation")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.fast_dev_run:
            return
        fit, metrics = self._course(), trainer.callback_metrics
        self._led(trainer, lambda: self._finish(trainer, metrics))
        if fit.least is not None:
            trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps = fit.least
        self._fit = None

    def state_dict(self) -> dict[str, Any]:
        if self._last is None:
            return {}
        return {"study": self.trial.study.study_name, "trial": self.trial.number, "last": list(self._last)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if (state_dict["study"], state_dict["trial"]) == (self.trial.study.study_name, self.trial.number):
            step, count = state_dict["last"]
            self._last, self._restored = (step, count), True

    def _look(self, trainer: Any, ended: str) -> None:
        """Have the leader take the metric, and stop training if the trial is pruned."""
        metrics = trainer.callback_metrics  # on every rank: they compute it together
        if self._led(trainer, lambda: self._take(trainer, metrics, ended)):
            fit, loop = self._course(), trainer.fit_loop
            fit.least = fit.least or (loop.min_epochs, loop.epoch_loop.min_steps)
            loop.min_epochs = loop.epoch_loop.min_steps = None
            trainer.should_stop = True

    def _take(self, trainer: Any, metrics: Mapping[str, Any], ended: str) -> bool:
        """Take the metric if it is new; return whether training should stop."""
        fit = self._course()
        if self.monitor not in metrics:
            # it may belong to the validation, or to the training epoch, that has not ended yet
            if ended == "training" and (fit.validated or not trainer.enable_validation):
                raise self._not_logged(trainer, metrics)
            return False
        value = metrics[self.monitor]
        if value is fit.before.get(ended):  # what has ended has not logged it
            return False
        fit.kind = fit.kind or ended
        step = self._place(trainer, fit)
        if ended == "training" and step == 0 and self._counts_steps(trainer, fit) and not trainer.should_stop:
            raise ValueError(
                "LightningPruningCallback: reports are told apart by trainer.global_step, which is still 0 after an "
                "epoch; step the optimizers that self.optimizers() gives, which count, or give step='epoch' and "
                "Trainer(val_check_interval=1.0)."
            )
        if fit.kind != ended or step <= fit.step:  # the same step: gradients were accumulated
            return False
        fit.values, fit.step, fit.count, fit.due = value, step, fit.count + 1, True
        stop = fit.count % self.report_every == 0 and self._send(trainer, fit)
        self._last = fit.reported, fit.count
        return stop

    def _send(self, trainer: Any, fit: _Course) -> bool:
        """Report what was taken; return whether training should stop."""
        if fit.stream < 0:
            first = fit.first[self._counts_steps(trainer, fit)]
            fit.begin = fit.reported + 1 if -1 < fit.reported < first else first
        fit.due = False
        return self._see(fit, fit.values, fit.step, last=True)

    def _finish(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        """Report the last value, if it was not."""
        fit = self._course()
        if fit.due:
            self._send(trainer, fit)
            self._last = fit.reported, fit.count
        elif fit.kind is None and fit.validated:
            raise self._not_logged(trainer, metrics)

    def _place(self, trainer: Any, fit: _Course) -> int:
        """Return the step that training is at."""
        if self._counts_steps(trainer, fit):
            return int(trainer.global_step)
        if fit.kind == "validation" and not _validates_once(trainer):
            raise ValueError(
                "LightningPruningCallback: step='epoch' tells validations of one epoch not apart, and the Trainer "
                "has several; give step='global_step', or Trainer(val_check_interval=1.0)."
            )
        return int(trainer.current_epoch)

    def _counts_steps(self, trainer: Any, fit: _Course) -> bool:
        several = fit.kind == "validation" and not _validates_once(trainer)
        return self.step == "global_step" or (self.step == "auto" and several)

    def _not_logged(self, trainer: Any, metrics: Mapping[str, Any]) -> ValueError:
        there = "" if trainer.enable_validation else ", and there is no validation (a loader and validation_step)"
        return ValueError(
            f"LightningPruningCallback: no metric is named {self.monitor!r}{there}. "
            f"What is logged: {', '.join(metrics) or 'nothing'}."
        )

    def _led(self, trainer: Any, do: Callable[[], _T]) -> _T:
        if trainer.world_size == 1:
            return do()
        return self._on_leader(do, trainer.is_global_zero, trainer.strategy.broadcast)

    def _course(self) -> _Course:
        self._current()
        assert self._fit is not None
        return self._fit

    def __reduce__(self) -> Any:
        given = {k: v for k, v in vars(self).items() if k[0] != "_" and k not in LENT}
        return _restored, (type(self).__mro__[1], self._packages, given)


def _imported() -> tuple[str, ...]:
    """Return which of the packages are imported; if none is, import one."""
    found = tuple(p for p in _PACKAGES if p in sys.modules)
    return found or (import_module(_PACKAGES[0]).__name__,)


@functools.cache
def _callback_class(cls: Any, packages: tuple[str, ...]) -> Any:
    """Return ``cls`` as a callback of the packages."""
    bases = (import_module(p).Callback for p in packages)
    return type(cls.__name__, (cls, *bases), {"_packages": packages, "__module__": cls.__module__})


class _Listener:
    """Has a hook look when an epoch of training ends, after ``LightningModule.on_train_epoch_end``.

    That may log the metric, and Lightning calls only callbacks of some kinds after it, such as ``EarlyStopping``. The
    hook is none of them: a model that returns it from ``configure_callbacks`` would lose the Trainer's own, and
    ``trainer.early_stopping_callback`` might be the hook. This one is there only while the Trainer fits.
    """

    hook: LightningPruningCallback

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.hook._look(trainer, "training")

    def state_dict(self) -> dict[str, Any]:
        return {}


def _listen(trainer: Any, package: str, hook: LightningPruningCallback) -> None:
    """Give the Trainer a listener, before its checkpoints, which keep what the hook has taken."""
    kinds = import_module(f"{package}.callbacks")
    listener: Any = type("_Listener", (_Listener, kinds.EarlyStopping), {})(hook.monitor, check_on_train_epoch_end=True)
    listener.hook = hook
    others = trainer.callbacks
    at = next((i for i, c in enumerate(others) if isinstance(c, kinds.Checkpoint)), len(others))
    trainer.callbacks = [*others[:at], listener, *others[at:]]  # another list: Lightning is going through this one


def _end_listening(trainer: Any, hook: LightningPruningCallback) -> None:
    trainer.callbacks = [c for c in trainer.callbacks if not (isinstance(c, _Listener) and c.hook is hook)]


def _restored(cls: type, packages: tuple[str, ...], given: dict[str, Any]) -> LightningPruningCallback:
    """Return a copy of a hook; what a pickled one calls."""
    hook: LightningPruningCallback = object.__new__(_callback_class(cls, packages))
    vars(hook).update(given)
    hook._settle()
    return hook


def _validates_once(trainer: Any) -> bool:
    """Return whether an epoch has at most one validation, at its end; an integer 1 is one after every batch."""
    interval = getattr(trainer, "val_check_interval", None)  # none where it is a duration
    return isinstance(interval, float) and interval == 1.0 and trainer.check_val_every_n_epoch is not None
