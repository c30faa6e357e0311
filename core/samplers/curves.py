"""What curves say of values not seen: the smoothed end of a curve, and the final value of one cut short."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..follower import Follower
from ..history import History, start_of
from ..record import Curve, FrozenTrial, TrialState
from ..space import Array
from .warp import good_half

_WINDOW = 8  # a curve's value s steps after its start is the mean over the last 1 + s // 8 steps
_COMPLETE = 200  # complete trials, the latest, that foretell final values
_DIVERGED = 1000.0  # deviations of the good half; complete trials whose final losses are farther foretell nothing
_HUGE = 1e100  # losses that are farther count as that: their squares must stay finite


def smoothed(curve: Curve, sign: float, step: int) -> float:
    """Return ``sign`` times the mean of the reports of the last ``1 + (step - start) // 8`` steps up to ``step``.

    The start is that of this curve alone, so what was smoothed once stays. NaN if there is no report up to ``step``,
    or the mean is not finite.
    """
    steps = curve.steps
    end = bisect_right(steps, step)  # steps ascend but for odd cases, where this is a value nearby
    if not end:
        return np.nan
    first = bisect_right(steps, steps[end - 1] - 1 - (step - start_of(curve)) // _WINDOW)
    values = curve.values[min(first, end - 1) : end]
    mean = sign * sum(values) / len(values)
    return mean if np.isfinite(mean) else np.nan


def foretold(now: Array, then: Array, finals: Array, floor: Callable[[Array], float] = np.median) -> Array:
    """Return pessimistic final losses of curves cut short, from those of complete trials.

    The growth from the value at the stop to the final one is a line in the value, shrunk towards a constant; the
    estimate plus one standard deviation, and no better than the median final loss, is returned: a
    model told less than this draws the search back to trials that were stopped for a reason. Complete trials that
    diverged are left out: one such would have all others count as hopeless.

    Args:
        now: Losses ``(m,)`` where the curves were cut.
        then: Losses ``(m, k)`` of the complete trials at the same steps; NaN where unknown.
        finals: Final losses ``(k,)`` of the complete trials.
        floor: Takes these, returns what no estimate is better than.

    Returns:
        Losses ``(m,)``; ``now`` where no complete trial has a value at the step.
    """
    usual = _usual(finals)
    if not usual.all():
        then, finals = np.ascontiguousarray(then[:, usual]), finals[usual]
    now, then, finals = (np.clip(x, -_HUGE, _HUGE) for x in (now, then, finals))
    known = np.isfinite(then)
    n = known.sum(1)
    some = np.maximum(n, 1)
    x_mean = np.where(known, then, 0.0).sum(1) / some
    x = np.where(known, then - x_mean[:, None], 0.0)
    growth = np.where(known, finals - then, 0.0)
    g_mean = growth.sum(1) / some
    g = np.where(known, growth - g_mean[:, None], 0.0)
    sxx = (x * x).sum(1)
    ridge = sxx * (1.0 + 2.0 / some)  # two more points with the mean's variance: curves that run in parallel
    slope = np.where(ridge > 0.0, (x * g).sum(1) / np.where(ridge > 0.0, ridge, 1.0), 0.0)
    y_mean = np.where(known, finals, 0.0).sum(1) / some
    y_sd = np.sqrt(np.where(known, (finals - y_mean[:, None]) ** 2, 0.0).sum(1) / some)
    vague = np.abs(g_mean) + y_sd  # what is known before there are residuals
    left = ((g - slope[:, None] * x) ** 2).sum(1)
    variance = np.where(n > 1, (left + 0.25 * vague**2) / np.maximum(n - 1, 1), vague**2) * (1.0 + 1.0 / some)
    final = now + g_mean + slope * (now - x_mean) + np.sqrt(variance)
    return np.where(n > 0, np.maximum(final, floor(finals) if len(finals) else -np.inf), now)


def _usual(finals: Array) -> NDArray[np.bool_]:
    """Return which final losses ``(k,)`` are not far from the median."""
    if not len(finals):
        return np.zeros(0, bool)
    middle, deviation = good_half(np.clip(np.sort(finals), -_HUGE, _HUGE), np.ones(len(finals)))
    usual: NDArray[np.bool_] = finals <= middle + _DIVERGED * deviation
    return usual


class Curves(Follower):
    """Losses of the trials of one history as a model should see them.

    A complete trial counts as its smoothed last reports where its value is the last report, else as its value; one
    that was pruned, or still runs, as `foretold` from its reports.
    """

    def __init__(self, history: History, trusted: bool = False) -> None:
        super().__init__(history)
        #: Whether reports are close to the end, see `trust`.
        self.trusted = trusted
        self._read = 0
        self._complete: list[int] = []  # numbers of the complete trials of finite loss, as told
        self._before: list[int] = [0]  # how many of them are among the first told trials
        self._final: list[float] = []
        self._ends: dict[int, float] = {}  # losses of finished trials, of curves the smoothed last one
        self._then: dict[tuple[int, int], list[float]] = {}  # (stream, step) -> loss there of each complete trial

    def losses(self, rows: NDArray[np.int64], told: int) -> Array:
        """Return the losses ``(m,)`` of trials by number, from what the first ``told`` trials foretell.

        +inf where nothing is known or the trial failed.
        """
        self._update()
        trials = [self.history.trials[i] for i in rows]
        out = np.array([self._loss(t) for t in trials])
        cut = [i for i, t in enumerate(trials) if t.last is not None and _cut(t) and np.isfinite(out[i])]
        if cut:
            stops = [trials[i].last for i in cut]
            last = self._before[min(told, self._read)]
            floor = np.min if self.trusted else np.median
            use = slice(max(0, last - _COMPLETE), last)
            then = np.array([self._at(stop[0], stop[1])[use] for stop in stops if stop is not None])
            out[cut] = foretold(out[cut], then.reshape(len(cut), -1), np.array(self._final[use]), floor)
        return out

    def _update(self) -> None:
        for number in self.history.told[self._read :]:
            trial = self.history.trials[number]
            loss = self._loss(trial)
            if trial.state is TrialState.COMPLETE and np.isfinite(loss):
                self._complete.append(number)
                self._final.append(loss)
            self._before.append(len(self._complete))
        self._read = len(self.history.told)

    def _loss(self, trial: FrozenTrial) -> float:
        """Return the loss of a trial as far as it came."""
        loss = self._ends.get(trial.number)
        if loss is None:
            loss = self._loss_now(trial)
            if trial.finished:
                self._ends[trial.number] = loss
        return loss

    def _loss_now(self, trial: FrozenTrial) -> float:
        if trial.state is TrialState.FAILED:
            return np.inf
        if trial.state is TrialState.COMPLETE and (trial.last is None or trial.value != trial.last[2]):
            value = np.nan if trial.value is None else self.history.sign * trial.value
            return np.inf if np.isnan(value) else value
        if trial.last is None:
            return np.inf
        stream, step, _ = trial.last
        loss = smoothed(trial.curves[stream], self.history.sign, step)
        return np.inf if np.isnan(loss) else loss

    def _at(self, stream: int, step: int) -> list[float]:
        """Return the losses of the complete trials at a step."""
        then = self._then.setdefault((stream, step), [])
        for number in self._complete[len(then) :]:
            curve = self.history.trials[number].curves.get(stream)
            then.append(np.nan if curve is None else smoothed(curve, self.history.sign, step))
        return then


def _cut(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.PRUNED or trial.state is TrialState.RUNNING


_CURVES: WeakKeyDictionary[History, Curves] = WeakKeyDictionary()


def curves(history: History) -> Curves:
    """Return the curves of a history, kept as long as the history lives."""
    known = _CURVES.get(history)
    if known is None:
        known = _CURVES[history] = Curves(history)
    return known


def trust(history: History, kind: type[Curves] = Curves) -> None:
    """Have the losses that are foretold in a history bounded by its best final loss instead of the median one.

    For reports that are close to the end, such as means over the folds that are done: bounded by the median, trials
    stopped a little behind the best one look bad, and the search keeps away from where it should look. Nor does it
    look farther for such trials having been pruned.

    Args:
        history: The history.
        kind: What foretells the losses.
    """
    _CURVES[history] = kind(history, trusted=True)
