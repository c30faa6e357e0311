"""Running trials on any executor in the manner of ``concurrent.futures``."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import pickle
import queue
import sys
import time
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

#: Seconds between two looks at the log.
_LOOK = 1.0

#: Seconds for which the exception of a FAILED trial may be on its way.
_ON_ITS_WAY = 60.0


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

    Raises:
        BrokenExecutor: If the new pool broke before it had done anything.
    """
    tasks, workers = _Tasks(study), Workers(executor)
    ends: set[TrialState] = set()
    try:
        while True:
            while len(tasks.at_work) < n_jobs and (trial := budget.next()) is not None:
                try:
                    future = workers.submit(evaluate, trial, objective, catch, trial._record.worker)
                except BaseException as error:
                    state = TrialState.LOST if is_death(error) else TrialState.FAILED
                    study._log.finish(trial._record, state, None)
                    raise
                tasks.add(future, trial)
            if not tasks.at_work:
                return
            trial = tasks.next()
            budget.done(trial)
            after(trial._record)
            ends.add(trial.state)
            if ends == {TrialState.LOST}:  # no worker may be able to start: then this raises, before more are lost
                workers.submit(os.getpid)
    finally:
        budget.close()
        for future, trial in tasks.at_work.items():
            state = TrialState.LOST if _has_died(future) else TrialState.FAILED
            future.cancel()
            study._log.finish(trial._record, state, None)
        workers.close()


class Workers:
    """The workers of a user's executor, or where that is a process pool that broke, of one like it."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._own: Any = None  # a pool that replaces the broken one of the user

    def submit(self, *task: Any) -> Any:
        """Return the future of a function with its arguments.

        Raises:
            BrokenExecutor: If the pool broke, and so did the new one before it had done anything.
        """
        try:
            return self._executor.submit(*task)
        except (concurrent.futures.BrokenExecutor, OSError) as error:
            if isinstance(error, OSError) and not getattr(self._executor, "_broken", False):
                raise  # or else the pool broke while it started a worker
            self._executor = self._own = _like(self._executor, error)
        try:
            self._executor.submit(os.getpid).result()
        except concurrent.futures.BrokenExecutor as error:
            raise type(error)(
                f"{error} A new pool broke, too, before it had done anything: see that the script makes its pool "
                "under `if __name__ == '__main__':`, that workers can import it, and that the pool's initializer "
                "raises nothing there."
            ) from error
        return self._executor.submit(*task)

    def close(self) -> None:
        """Let go what was made here."""
        if self._own is not None:
            self._own.shutdown(wait=False)


def width(executor: Any, n_jobs: int) -> int:
    """Return how many trials to keep at work: ``n_jobs``, or if that is 1 or -1 as many as there are workers.

    Of dask's workers each thread counts; where none has come yet, or nothing is known of them, each CPU here.
    """
    if n_jobs > 1:
        return n_jobs
    dask: Any = getattr(executor, "_client", None)
    there = sum(dask.nthreads().values()) if hasattr(dask, "nthreads") else getattr(executor, "_max_workers", 0)
    return int(there or os.cpu_count() or 1)


def evaluate(
    trial: Trial,
    objective: Callable[[Trial], float],
    catch: type[Exception] | tuple[type[Exception], ...],
    sender: str,
) -> bool:
    """Run one trial where the executor put it; what it has to say goes through its study's log.

    Dask runs a task again whose result was lost with its worker, and one whose worker died: such a trial is LOST.

    Returns:
        Whether the objective has stopped a copy of the study, which the sender has to hear of.
    """
    from .loop import run_trial

    study = trial.study
    if trial._record.finished:
        return False
    if trial._record.worker != sender:  # begun in its place, its curve would be compared with nobody's
        study._log.finish(trial._record, TrialState.LOST, None)
        return False
    trial._away = False  # it ends here
    lost = ""
    try:
        run_trial(study, trial, objective, catch)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it would break the pool on its way
            lost = "".join(traceback.format_exception(error))
        else:
            raise
    finally:
        stopped = study._stopped and study._log.worker != sender
        if stopped:
            study._stopped = False  # it may serve another search
    if lost:  # raised here, without a context, which may travel too (dask and ray let all exceptions' do so)
        raise RuntimeError(f"trial {trial.number}: the objective raised what cannot be unpickled:\n\n{lost}")
    return stopped


class _Tasks:
    """The tasks of a study's trials.

    Attributes:
        at_work: Future -> its trial, of the trials that are not over.
    """

    def __init__(self, study: Study) -> None:
        self.at_work: dict[Any, Trial] = {}
        self._study = study
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._late: dict[Any, Trial] = {}  # of trials that are over as the log says; the future does not say so yet
        self._failed: dict[Any, float] = {}  # future -> when the log was seen to say that the trial is FAILED

    def add(self, future: Any, trial: Trial) -> None:
        self.at_work[future] = trial
        future.add_done_callback(self._done.put)

    def next(self) -> Trial:
        """Wait until a trial is over and return it, or raise what its objective, or that of a late one, has raised."""
        future = self._over()
        trial = self.at_work.pop(future)
        self._failed.pop(future, None)
        if future.done():
            _settle(self._study, trial, future)
        else:
            self._late[future] = trial
        return trial

    def _over(self) -> Any:
        """Return a future whose trial is over: it says so itself, or the log does, or its worker is silent."""
        while True:
            looked = time.monotonic()
            try:
                future = self._done.get(timeout=_LOOK)
                if future in self.at_work:
                    return future
                if future in self._late:
                    _settle(self._study, self._late.pop(future), future)
            except queue.Empty:
                if time.monotonic() - looked > 2 * _LOOK:
                    self._study._log.forgive()
                self._study._log.sync()
                self._study._log.expire()  # nobody else may look where no further trial is asked for
                now = time.monotonic()
                for future, trial in self.at_work.items():
                    if not trial._record.finished:
                        continue
                    if trial.state is not TrialState.FAILED or now - self._failed.setdefault(future, now) > _ON_ITS_WAY:
                        return future


def _settle(study: Study, trial: Trial, future: Any) -> None:
    """See to it that the trial of a finished future has ended, and raise what its objective raised."""
    record = trial._record
    study._log.sync()
    if future.cancelled():
        study._log.finish(record, TrialState.LOST, None)
        return
    error = future.exception()
    if error is None:
        if future.result():
            study.stop()
        if record.state is TrialState.LOST:
            logger.warning("trial %d is LOST: its worker died or was not heard of", record.number)
        elif not record.finished:
            logger.warning(
                "trial %d is LOST: its task has ended, but the study knows nothing of it; did its worker write "
                "to another storage?",
                record.number,
            )
            study._log.finish(record, TrialState.LOST, None)
        return
    if is_death(error):
        if not record.finished:
            logger.warning("trial %d is LOST: its worker died (%r)", record.number, error)
            study._log.finish(record, TrialState.LOST, None)
        return
    if record.state is TrialState.LOST:  # its parameters are tried again
        logger.warning("trial %d is LOST; what its worker raised then: %r", record.number, error)
        return
    study._log.finish(record, TrialState.FAILED, None)
    raise error


def is_death(error: BaseException) -> bool:
    """Return whether an executor says so that the worker died, and not the task."""
    kind = type(error)
    killed = kind.__name__ == "OutOfMemoryError" and kind.__module__.startswith("ray.")  # torch's is the task's own
    return killed or isinstance(error, concurrent.futures.BrokenExecutor) or kind.__name__ in _DEATHS


def _has_died(future: Any) -> bool:
    """Return whether a future is over because its worker died."""
    error = future.exception() if future.done() and not future.cancelled() else None
    return error is not None and is_death(error)


def _like(executor: Any, error: BaseException) -> Any:
    """Return a new pool like the broken one, or raise that it broke."""
    names = ["max_workers", "initializer", "initargs"]
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        make: Any = concurrent.futures.ProcessPoolExecutor
        names += ["mp_context", "max_tasks_per_child"]  # Python 3.10 does not have the last
    elif "loky" in type(executor).__module__:
        make = getattr(sys.modules[type(executor).__module__], "get_reusable_executor", type(executor))
        names += ["timeout", "env"]
    else:
        raise error
    logger.warning("the process pool broke (%r); going on with a new one", error)
    given = {name: getattr(executor, f"_{name}", None) for name in names}
    return make(**{name: value for name, value in given.items() if value is not None})
