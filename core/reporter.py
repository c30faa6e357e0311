"""A trial's `report` and `should_prune` as one function, for hooks, which call it in every round of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .events import as_event
from .forks import forks
from .record import RUNNING, Curve
from .storage.memory import MemoryStorage

if TYPE_CHECKING:
    from .trial import Trial

#: Takes a value and a step, an ``int``; returns whether the trial should end.
Reporter = Callable[[float, int], bool]


def reporter(trial: Trial, stream: int) -> Reporter:
    """Return a function that reports to ``stream`` of a trial and asks the pruner."""

    def both(value: float, step: int) -> bool:
        trial.report(value, step, stream)
        return trial._should_prune(stream)

    storage = trial.study._log.storage
    return _in_memory(trial, stream, storage, both) if isinstance(storage, MemoryStorage) else both


def _in_memory(trial: Trial, stream: int, storage: MemoryStorage, both: Reporter) -> Reporter:
    """Return a function that does the same in a third of the time.

    Between two rounds a framework empties the processor's caches, so that a call of a Python function takes 1 us, and
    nearly as much whatever is looked up in memory. What follows is what `Log.write`, `MemoryStorage.append`,
    `History.reported`, `Curve.add` and `Study._should_prune` do for the next report of a curve of a running trial; all
    else takes the long way.
    """
    record, study, log, asked = trial._record, trial.study, trial.study._log, trial._asked
    number, curves, lock, history, sign = record.number, record.curves, log.lock, log.history, log.history.sign
    kept = storage.kept(log.name)
    events, last, born = kept.events, kept.last, log._born
    curve: Curve | None = None

    def report(value: float, step: int) -> bool:
        nonlocal curve
        if type(value) is not float and isinstance(value, float):
            value = float(value)  # numpy's
        with lock:
            if (
                curve is None
                or step <= curve.top
                or curve._places is not None
                or record.state is not RUNNING
                or record.pruned
                or record.held
                or forks[0] != born
                or log._busy  # a signal handler reports in the middle of a report: the long way says no
                or history.torn  # as it stays when an interrupt has made the log fold itself in anew
                or type(value) is not float
            ):
                stop = both(value, step)
                curve = curves.get(stream)
                return stop
            try:
                log._busy = True
                log._seq = seq = log._seq + 1
                what = stream, step, value
                event = as_event((log.worker, seq, "report", number, what))
                last[log.worker] = seq
                events.append(event)
                if events[history.events] is not event:  # others have written
                    log._read()
                    if record.pruned or record.state is not RUNNING:
                        return True
                else:
                    history.torn = True
                    history.events += 1
                    if history._tables:
                        history.reported(event)
                    else:
                        loss, best = sign * value, curve.bests[-1]
                        curve.bests.append(loss if loss < best else best)
                        curve.values.append(value)
                        curve.steps.append(step)
                        curve.top = step
                        record.reports += 1
                        record.last = what
                    history.torn = False
            finally:
                log._busy = False
            since = asked.get(stream, 0)
            asked[stream] = len(curve.steps)
            if not study.pruner.prune(history, record, stream, since):
                return False
            study._prune(record, stream)
            return True

    return report
