"""Trials as Ray tasks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ray


class RayExecutor:
    """An executor of Ray tasks for ``study.optimize(executor=...)``.

    Workers on other machines reach a study only through a storage that they reach too; a study in
    memory is reached from its own machine.

    Args:
        options: Of every task, as in ``ray.remote``: ``num_cpus``, ``num_gpus``, ``resources`` ...
            A task whose worker dies is not run again by Ray (``max_retries=0``): the study does that.

    Example:
        >>> import inloop
        >>> from inloop.integrations.ray import RayExecutor
        >>> study = inloop.create_study(storage="study.db")  # doctest: +SKIP
        >>> study.optimize(objective, n_trials=100, executor=RayExecutor(num_cpus=1))  # doctest: +SKIP
    """

    def __init__(self, **options: Any) -> None:
        self._options = {"max_retries": 0, **options}
        if not ray.is_initialized():
            ray.init()

    @property
    def _max_workers(self) -> int:
        each = float(self._options.get("num_cpus") or 1)
        cluster: Any = ray  # whose functions are not annotated
        return max(1, int(cluster.cluster_resources().get("CPU", 1) / each))

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Start ``function(*args)`` as a task and return its future."""
        task = ray.remote(**self._options)(function)
        future: Future[Any] = task.remote(*args).future()
        return future
