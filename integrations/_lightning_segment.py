"""Segments of population-based training with Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from inloop.distributions import same

if TYPE_CHECKING:
    from inloop.population import Segment

_NOT = object()  # not a plain value


class Restart:
    """A callback: has settings that a checkpoint brings back give way to new ones, where they are others.

    A restored checkpoint sets learning rates, momenta, ... of optimizers and schedulers to those of its training. What
    ``configure_optimizers`` gave is taken down before, and kept in checkpoints to compare with. A learning rate that a
    scheduler has changed keeps its ratio to the initial one. Parameter groups that were added in training, as by
    ``BackboneFinetuning``, change as the first one does, and train on.
    """

    def __init__(self, segment: Segment, last: bool) -> None:
        self._segment = segment
        self._last = last  # whether training ends by itself: weights that are averaged may take an epoch more
        self._given: list[Any] = []
        self._earlier: list[Any] | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Take down the settings before the checkpoint's come."""
        schedulers = [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs]
        self._given = _plain([[_groups(o) for o in trainer.optimizers], schedulers])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Set what has changed."""
        if self._earlier is None:
            return
        for optimizer, old, new in zip(trainer.optimizers, self._earlier[0], self._given[0], strict=True):
            for group, o, n in zip(optimizer.param_groups, old, new, strict=False):
                _change_group(group, o, n)
            for group in optimizer.param_groups[len(new) :]:  # added in training, with a rate made from the first one's
                _change_group(group, old[0], new[0])
                for parameter in group["params"]:
                    parameter.requires_grad = True  # a callback that thaws them has frozen them again
        for config, o, n in zip(trainer.lr_scheduler_configs, self._earlier[1], self._given[1], strict=True):
            _change_scheduler(config.scheduler, o, n)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop at the end of the segment: the Trainer's own length is what schedules are made for."""
        if not self._last and trainer.current_epoch + 1 >= self._segment.stop:
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Save the checkpoint before callbacks that average weights put the averages into the model."""
        trainer.save_checkpoint(self._segment.path)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, for the checkpoint."""
        return {"given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take those of the training that is gone on with."""
        self._earlier = state["given"]


def train_segment(segment: Segment, trainer: Any, model: Any, *args: Any, **kwargs: Any) -> None:
    """Train a segment of an `inloop.PopulationStudy` and save its checkpoint; a step is an epoch.

    Training goes on by ``ckpt_path``. The checkpoint brings back the learning rates, momenta, ... of optimizers and
    schedulers; where ``configure_optimizers`` of the new model gives other ones, these are set again.

    Args:
        segment: What to train.
        trainer: A new Trainer, for one process; it is stopped after epoch ``segment.stop``. Its ``max_epochs``, for
            which schedules are made, should be the ``steps`` of the study.
        model: A new ``LightningModule``, made with ``segment.params``.
        args: Further ones of ``trainer.fit``, data loaders for instance.
        kwargs: Further ones of ``trainer.fit``.

    Raises:
        ValueError: If the Trainer is one of several processes.

    Example:
        >>> import inloop
        >>> def train(segment):  # Net and the loaders are yours
        ...     trainer = pytorch_lightning.Trainer(max_epochs=20)
        ...     train_segment(segment, trainer, Net(**segment.params), train_loader, valid_loader)
        ...     return trainer.callback_metrics["val_loss"].item()
        >>> population = inloop.PopulationStudy({"rate": inloop.Float(1e-4, 1, log=True)}, interval=2, steps=20)
    """
    if trainer.world_size > 1:
        raise ValueError(f"train_segment: the Trainer has {trainer.world_size} processes; a segment trains in one.")
    theirs = next(c for c in reversed(type(trainer).__mro__) if c.__name__ == "Trainer")
    package = theirs.__module__.partition(".trainer")[0]
    callback: Any = type("Restart", (Restart, import_module(package).Callback), {})
    if trainer.max_epochs is None or -1 < trainer.max_epochs < segment.stop:
        trainer.fit_loop.max_epochs = segment.stop
    # the first: BaseFinetuning brings back its groups, with their rates, at the start
    trainer.callbacks.insert(0, callback(segment, last=trainer.max_epochs == segment.stop))
    path = None if segment.checkpoint is None else str(segment.checkpoint)
    trainer.fit(model, *args, ckpt_path=path, **kwargs)


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]


def _plain(value: Any) -> Any:
    """Return a copy of numbers and texts in lists and dicts; what else is there is left out."""
    if isinstance(value, dict):
        return {k: v for k, v in ((k, _plain(v)) for k, v in value.items()) if v is not _NOT}
    if isinstance(value, list | tuple):
        return type(value)(v for v in map(_plain, value) if v is not _NOT)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.clone() if hasattr(value, "clone") else _NOT


def _change_group(group: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> None:
    """Set what is new in a parameter group."""
    rate = group["lr"]
    base = "initial_lr" if "initial_lr" in old and "initial_lr" in new else "lr"
    group.update({k: v for k, v in new.items() if k != "lr" and not same(v, old.get(k))})
    if same(rate, old["lr"]) or not old[base]:
        group["lr"] = new["lr"]
    elif not same(new[base], old[base]):
        group["lr"] = rate * (new[base] / old[base])


def _change_scheduler(scheduler: Any, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Set what is new in a scheduler, and in those that it is made of."""
    for inner, o, n in zip(
        getattr(scheduler, "_schedulers", ()), old.get("_schedulers", ()), new.get("_schedulers", ()), strict=True
    ):
        _change_scheduler(inner, o, n)
    vars(scheduler).update({k: v for k, v in new.items() if k != "_schedulers" and not same(v, old.get(k))})
    if "_last_lr" in new:
        scheduler._last_lr = [g["lr"] for g in scheduler.optimizer.param_groups]
