"""How the folds of a race come to joblib's workers: in rounds, or one after another as workers come free."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from sklearn.utils.parallel import Parallel, delayed

from ._sklearn_race import Candidate, Race

#: Takes a candidate and a fold, returns what runs it.
Task: TypeAlias = Callable[[Candidate, int], Callable[[], Any]]

_LONGEST = 0.1  # seconds that a worker waits until it asks again
_SHARE = 0.02  # of the time since the last result, as long as that is less


def run(
    race: Race,
    task: Task,
    goes_on: Callable[[], bool],
    workers: int,
    n_jobs: int | None,
    ahead: int | str,
    free: bool,
) -> None:
    """Run the folds of a race until there are no more.

    Args:
        race: Says what to run, and takes the results.
        task: Makes the call that runs a fold.
        goes_on: Says whether more folds may be started.
        workers: How many run at a time.
        n_jobs: Of joblib.
        ahead: joblib's ``pre_dispatch``, for rounds.
        free: Whether a task may be made while others are on their way to the workers; else there are rounds.
    """
    if workers > 1 and free:
        try:
            parallel = Parallel(n_jobs=n_jobs, pre_dispatch=workers, batch_size=1, return_as="generator_unordered")
        except (TypeError, ValueError):  # a backend, or a joblib before 1.4, that gives results in rounds only
            pass
        else:
            with parallel:
                _as_they_come(race, task, goes_on, workers, parallel)
            return
    with Parallel(n_jobs=n_jobs, pre_dispatch=ahead) as parallel:
        _in_rounds(race, task, goes_on, workers, parallel)


def _in_rounds(race: Race, task: Task, goes_on: Callable[[], bool], workers: int, parallel: Parallel) -> None:
    while goes_on():
        tasks = race.ready(workers)
        if not tasks:
            return
        outs = parallel(delayed(_call)(task(candidate, fold)) for candidate, fold in tasks)
        for (candidate, fold), out in zip(tasks, outs, strict=True):
            race.take(candidate, fold, out)


def _as_they_come(race: Race, task: Task, goes_on: Callable[[], bool], workers: int, parallel: Parallel) -> None:
    """Give a free worker the next fold at once, and take results as they come.

    joblib asks for tasks in threads of its own, under a lock that it also needs to hand out results. So whoever asks
    before there is a fold to run cannot be kept waiting here: the worker waits, a little, and asks again.
    """
    lock = threading.Lock()
    last = time.monotonic()
    failed: list[Exception] = []

    def tasks() -> Iterator[Any]:
        try:
            yield from made()
        except Exception as error:  # joblib would not pass it on from its thread, and wait for ever
            failed.append(error)

    def made() -> Iterator[Any]:
        while goes_on():
            with lock:
                if race.over:
                    return
                due = race.next(workers)
                call = None if due is None else task(*due)
            if due is None:
                yield delayed(time.sleep)(min(_LONGEST, _SHARE * (time.monotonic() - last)))
            else:
                yield delayed(_named)(due[0].index, due[1], call)

    results = parallel(tasks())
    try:
        for done in results:
            if done is not None:
                index, fold, out = done
                with lock:
                    race.take(race.candidates[index], fold, out)
                last = time.monotonic()
        if failed:
            raise failed[0]
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of results that nobody waits for any more
            results.close()


def _call(call: Callable[[], Any]) -> Any:
    return call()


def _named(index: int, fold: int, call: Callable[[], Any]) -> tuple[int, int, Any]:
    return index, fold, call()
