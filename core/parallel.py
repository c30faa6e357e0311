"""Running trials on any executor in the manner of ``concurrent.futures``."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import pickle
import queue
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .record import FrozenTrial, TrialState
from .trial import Trial

if TYPE_CHECKING:
    from .loop import Budget
    from .study import Study

logger = logging.getLogger("inloop")

#: Exceptions, by name, with which executors say that the worker died and not the task
#: (concurrent.futures and loky: BrokenExecutor; dask: KilledWorker; ray: the others).
_DEATHS = {"KilledWorker", "WorkerCrashedError", "NodeDiedError", "OwnerDiedError", "ActorDiedError"}


def run(
    study: Study,
    objective: Callable[[Trial], float],
    budget: Budget,
    executor: Any,
    n_jobs: int,
    catch: type[Exception] | tuple[type[Exception], ...],
    after: Callable[[FrozenTrial], None],
) -> None:
    """Keep ``n_jobs`` trials at work on ``executor`` until the budget is spent.

    Each task is a pickled trial, which talks to the study from where it runs. A trial whose worker
    died is LOST and its parameters are offered again; a process pool that broke is replaced by one like it.
    """
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    at_work: dict[Any, Trial] = {}
    own = None  # a pool that replaces the broken one of the user
    try:
        while True:
            while len(at_work) < n_jobs and (trial := budget.next()) is not None:
                try:
                    try:
                        future = executor.submit(evaluate, trial, objective, catch)
                    except concurrent.futures.BrokenExecutor as error:
                        executor = own = _like(executor, error)
                        future = executor.submit(evaluate, trial, objective, catch)
                except BaseException:
                    study._log.finish(trial._record, TrialState.FAILED, None)
                    raise
                at_work[future] = trial
                future.add_done_callback(done.put)
            if not at_work:
                return
            future = _next(done, at_work, study)
            trial = at_work.pop(future)
            _settle(study, trial, future)
            budget.done(trial)
            after(trial._record)
    finally:
        budget.close()
        for future, trial in at_work.items():
            future.cancel()
            study._log.finish(trial._record, TrialState.FAILED, None)
        if own is not None:
            own.shutdown(wait=False)


def width(executor: Any, n_jobs: int) -> int:
    """Return how many trials to keep at work: ``n_jobs``, or if that is 1 or -1 as many as there are workers."""
    if n_jobs > 1:
        return n_jobs
    return int(getattr(executor, "_max_workers", 0) or os.cpu_count() or 1)


def evaluate(
    trial: Trial, objective: Callable[[Trial], float], catch: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """Run one trial where the executor put it; what it has to say goes through its study's log."""
    from .loop import run_trial

    if trial._record.finished:  # dask runs a task again whose result was lost with its worker
        return
    trial._away = False  # it ends here
    lost = ""
    try:
        run_trial(trial.study, trial, objective, catch)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it would break the pool on its way
            lost = "".join(traceback.format_exception(error))
        else:
            raise
    if lost:  # raised here, without a context, which may travel too (dask and ray let all exceptions' do so)
        raise RuntimeError(f"trial {trial.number}: the objective raised what cannot be unpickled:\n\n{lost}")


def _next(done: queue.SimpleQueue[Any], at_work: dict[Any, Trial], study: Study) -> Any:
    """Return a future whose trial is over: it says so itself, or the log does."""
    while True:
        try:
            future = done.get(timeout=1.0)
            if future in at_work:
                return future
        except queue.Empty:
            study._log.sync()
            for future, trial in at_work.items():
                if trial._record.finished:
                    return future


def _settle(study: Study, trial: Trial, future: Any) -> None:
    """See to it that the trial of a finished future has ended, and raise what its objective raised."""
    record = trial._record
    study._log.sync()
    if not future.done():
        return
    if future.cancelled():
        study._log.finish(record, TrialState.LOST, None)
        return
    error = future.exception()
    if error is None:
        if not record.finished:
            logger.warning(
                "trial %d is LOST: its task has ended, but the study knows nothing of it; did its worker write "
                "to another storage?",
                record.number,
            )
            study._log.finish(record, TrialState.LOST, None)
        return
    if isinstance(error, concurrent.futures.BrokenExecutor) or type(error).__name__ in _DEATHS:
        if not record.finished:
            logger.warning("trial %d is LOST: its worker died (%r)", record.number, error)
            study._log.finish(record, TrialState.LOST, None)
        return
    study._log.finish(record, TrialState.FAILED, None)
    raise error


def _like(executor: Any, error: BaseException) -> Any:
    """Return a new pool like the broken one, or raise that it broke."""
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        logger.warning("the process pool broke (%r); going on with a new one", error)
        parts = [getattr(executor, n, None) for n in ("_max_workers", "_mp_context", "_initializer", "_initargs")]
        return concurrent.futures.ProcessPoolExecutor(parts[0], parts[1], parts[2], parts[3] or ())
    if "loky" in type(executor).__module__:
        logger.warning("the loky pool broke (%r); going on with a new one", error)
        return sys.modules[type(executor).__module__].get_reusable_executor(max_workers=executor._max_workers)
    raise error
