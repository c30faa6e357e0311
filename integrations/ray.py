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
        self._function: Callable[..., Any] | None = None
        self._task: Any = None  # for all calls of one function, which Ray would send to its workers anew for another
        if not ray.is_initialized():
            ray.init()

    @property
    def _max_workers(self) -> int:
        cluster: Any = ray  # whose functions are not annotated
        there, options = cluster.cluster_resources(), self._options
        asked = {"CPU": options.get("num_cpus"), "GPU": options.get("num_gpus"), "memory": options.get("memory")}
        asked.update(options.get("resources") or {})
        if asked["CPU"] is None:  # Ray's default; with 0 the other resources alone are the limit, if there are any
            asked["CPU"] = 1
        fit = [int(there.get(name, 0) / each + 1e-6) for name, each in asked.items() if each]
        return max(1, min(fit, default=int(there.get("CPU", 1))))

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Start ``function(*args)`` as a task and return its future."""
        if function is not self._function:
            self._function = function
            self._task = ray.remote(**self._options)(lambda *given: function(*given))  # it takes no other callables
        future: Future[Any] = self._task.remote(*args).future()
        return future
