"""How far reports scatter around their curves."""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from weakref import WeakKeyDictionary

import numpy as np

from ..follower import Follower
from ..history import History
from ..record import Curve, TrialState


class _Scatter(Follower):
    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._read = 0
        self._deviations: defaultdict[int, list[float]] = defaultdict(list)  # by stream, of complete trials, ascending

    def median(self, stream: int) -> float:
        told = self.history.told
        for number in told[self._read :]:
            trial = self.history.trials[number]
            if trial.state is TrialState.COMPLETE:
                for of, curve in trial.curves.items():
                    found = _deviation(curve)
                    if found is not None:
                        insort(self._deviations[of], found)
        self._read = len(told)
        known = self._deviations[stream]
        return known[len(known) // 2] if known else 0.0


def _deviation(curve: Curve) -> float | None:
    """Return the standard deviation of reports around a curve with a straight end; None if there is no finite one."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.diff(curve.values[len(curve) // 2 :], 2) ** 2
        return math.sqrt(float(squares.mean()) / 6.0) if len(squares) and np.isfinite(squares).all() else None


_SCATTERS: WeakKeyDictionary[History, _Scatter] = WeakKeyDictionary()


def scatter(history: History, stream: int) -> float:
    """Return the standard deviation of a single report in a stream, 0 before a complete trial has some there.

    From the second differences of the latter half of each complete trial's curve, whose variance is six times that
    of independent noise; Gasser, Sroka and Jennen-Steinmetz, "Residual variance and residual pattern in nonlinear
    regression", Biometrika, 1986, section 2. The median over the trials.
    """
    known = _SCATTERS.get(history)
    if known is None:
        known = _SCATTERS[history] = _Scatter(history)
    return known.median(stream)
