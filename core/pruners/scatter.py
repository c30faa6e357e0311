"""How far reports scatter around their curves."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import numpy as np

from ..follower import Follower
from ..history import History
from ..record import Curve, TrialState


class _Scatter(Follower):
    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._read = 0
        self._deviations: list[float] = []  # of the complete trials, ascending

    def median(self) -> float:
        told = self.history.told
        for number in told[self._read :]:
            trial = self.history.trials[number]
            if trial.state is TrialState.COMPLETE:
                found = _deviation(trial.curves.values())
                if found is not None:
                    insort(self._deviations, found)
        self._read = len(told)
        return self._deviations[len(self._deviations) // 2] if self._deviations else 0.0


def _deviation(curves: Iterable[Curve]) -> float | None:
    """Return the standard deviation of reports around curves with straight ends; None if no curve has a finite one."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [np.diff(c.values[len(c) // 2 :], 2) ** 2 for c in curves]
        found = [s for s in squares if len(s) and np.isfinite(s).all()]
        return math.sqrt(float(np.concatenate(found).mean()) / 6.0) if found else None


_SCATTERS: WeakKeyDictionary[History, _Scatter] = WeakKeyDictionary()


def scatter(history: History) -> float:
    """Return the standard deviation of a single report, 0 before any trial is complete.

    From the second differences of the latter half of each complete trial's curves, whose variance is six times that
    of independent noise; Gasser, Sroka and Jennen-Steinmetz, "Residual variance and residual pattern in nonlinear
    regression", Biometrika, 1986, section 2. The median over the trials.
    """
    known = _SCATTERS.get(history)
    if known is None:
        known = _SCATTERS[history] = _Scatter(history)
    return known.median()
