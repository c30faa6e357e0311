"""The loop of ``Study.optimize``: one trial after another, in one thread or several."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .record import FrozenTrial, TrialState
from .samplers import StudyStopped
from .trial import Trial, TrialLost, TrialPruned, as_value, as_whole

if TYPE_CHECKING:
    from .study import Study

logger = logging.getLogger("inloop")


class Budget:
    """Hands out trials until a limit is met; shared by the threads of one call."""

    def __init__(self, study: Study, n_trials: int | None, timeout: float | None) -> None:
        self._study = study
        self._left = n_trials
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._lock = threading.Lock()
        self.running: dict[int, FrozenTrial] = {}

    def next(self) -> Trial | None:
        """Return a new trial, None when the search is over."""
        with self._lock:
            over = self._left == 0 or (self._deadline is not None and time.monotonic() >= self._deadline)
            if over or self._study._stopped:
                return None
            try:
                trial = self._study.ask()
            except StudyStopped as why:
                logger.info("%s", why)
                return None
            record = trial._record
            self.running[record.number] = record  # with no call before, which an interrupt could end
            if self._left is not None:
                self._left -= 1
            return trial

    def done(self, trial: Trial) -> None:
        self.running.pop(trial.number, None)

    def close(self) -> None:
        """Hand out no more trials."""
        with self._lock:
            self._left = 0

    def fail(self) -> None:
        """Hand out no more trials and record those that run as FAILED: they end at their next report."""
        self.close()
        self._study._log.abandon(list(self.running.values()))


def run(
    study: Study,
    objective: Callable[[Trial], float],
    n_trials: int | None,
    timeout: float | None,
    n_jobs: int,
    executor: Any,
    callbacks: tuple[Callable[[Study, FrozenTrial], None], ...],
    catch: type[Exception] | tuple[type[Exception], ...],
    show_progress_bar: bool,
) -> None:
    """Run trials until a limit is met; see ``Study.optimize``."""
    if not callable(objective):
        raise TypeError(f"optimize: objective must be callable, got {objective!r}.")
    if n_trials is not None:
        n_trials = as_whole(n_trials, "optimize: n_trials")
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"optimize: timeout must be seconds of at least 0 or None, got {timeout!r}.")
    if isinstance(catch, list):
        catch = tuple(catch)
    if not isinstance(n_jobs, int | np.integer) or n_jobs == 0 or n_jobs < -1:
        raise ValueError(f"optimize: n_jobs must be at least 1, or -1 for one thread a core; got {n_jobs!r}.")
    n_jobs = int(n_jobs)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"optimize: executor must have a submit method like concurrent.futures', got {executor!r}.")
    budget = Budget(study, n_trials, timeout)
    with _Progress(n_trials if show_progress_bar else None, show_progress_bar) as progress:

        def after(frozen: FrozenTrial) -> None:
            progress.update(study)
            for call in callbacks:
                call(study, frozen)

        def work() -> None:
            while (trial := budget.next()) is not None:
                frozen = run_trial(study, trial, objective, catch)
                budget.done(trial)
                after(frozen)

        try:
            if executor is not None:
                from . import parallel

                width = parallel.width(executor, n_jobs)
                parallel.run(study, objective, budget, executor, width, catch, after)
            elif n_jobs == 1:
                work()
            else:
                _in_threads(work, (os.cpu_count() or 1) if n_jobs == -1 else n_jobs, budget)
        except KeyboardInterrupt:
            budget.fail()
            raise
        finally:
            if study._led:
                study._log.write(("rest", -1, None))


def run_trial(
    study: Study,
    trial: Trial,
    objective: Callable[[Trial], float],
    catch: type[Exception] | tuple[type[Exception], ...],
) -> FrozenTrial:
    """Evaluate the objective for one trial and record how it ended."""
    record = trial._record
    try:
        value = as_value(objective(trial), f"trial {trial.number}: the objective's return value")
    except TrialPruned:
        return trial._close(TrialState.PRUNED, None)
    except TrialLost as why:
        logger.warning("%s", why)
        return record
    except Exception as error:
        trial._close(TrialState.FAILED, None)
        if record.pruned or (isinstance(error, catch) and not _leaves_step(study, trial, error)):
            # an objective may stumble over the half-trained model of a pruned trial
            level = logging.DEBUG if record.pruned else logging.WARNING
            logger.log(level, "trial %d %s: %r", trial.number, record.state.name.lower(), error, exc_info=error)
            return record
        raise
    except BaseException as error:
        trial._close(TrialState.FAILED, None)
        raise_interrupt(error)
        raise
    failed = value != value and not record.pruned
    trial._close(TrialState.FAILED if failed else TrialState.COMPLETE, value)
    if failed:
        warnings.warn(f"trial {trial.number}: the objective returned NaN; the trial is FAILED.", stacklevel=2)
    _warn_unused(record)
    return record


def _leaves_step(study: Study, trial: Trial, error: Exception) -> bool:
    """Return whether other ranks may be waiting in the training that ``error`` has ended here."""
    from . import ranks

    if not ranks.in_step(study):
        return False
    logger.warning(
        "trial %d: %r ends the search in spite of `catch`: other ranks may still be in this training and out of step "
        "with the next. What all ranks raise alike the objective can catch itself, and return NaN.",
        trial.number,
        error,
    )
    return True


def raise_interrupt(error: BaseException) -> None:
    """Raise KeyboardInterrupt if ``error`` is what a framework has made of it."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
        # Lightning ends the program on Ctrl-C and is deaf to the next one
        in_main = threading.current_thread() is threading.main_thread()  # others may not
        if in_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from error


def _warn_unused(record: FrozenTrial) -> None:
    unused = [n for n in record.queued or () if n not in record.params]
    if unused:
        warnings.warn(
            f"trial {record.number}: the enqueued {unused} were not suggested; the trial has {list(record.params)}.",
            stacklevel=3,
        )


def _in_threads(work: Callable[[], None], threads: int, budget: Budget) -> None:
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    with ThreadPoolExecutor(threads, thread_name_prefix="inloop") as pool:
        try:
            futures = [pool.submit(work) for _ in range(threads)]
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            budget.fail()  # or else the threads would train on to their ends
            raise
        finally:
            budget.close()
    for future in futures:
        future.result()


class _Progress:
    """A tqdm bar with the best value and the number of pruned trials; or nothing."""

    def __init__(self, total: int | None, show: bool) -> None:
        self._bar: Any = None
        self._lock = threading.Lock()
        if show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                raise ImportError("show_progress_bar=True needs tqdm: pip install tqdm") from None
            self._bar = tqdm(total=total, unit="trial")

    def update(self, study: Study) -> None:
        if self._bar is None:
            return
        with self._lock:
            history = study._history
            best = history.best.value if history.best else None
            self._bar.set_postfix(
                {"best": "-" if best is None else f"{best:.5g}", "pruned": history.states[TrialState.PRUNED]},
                refresh=False,
            )
            self._bar.update()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()
