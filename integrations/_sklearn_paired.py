"""The pruner of searches by cross-validation: a paired comparison with the best candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from inloop import FrozenTrial, TrialState
from inloop.history import History
from inloop.pruners import Pruner
from inloop.samplers.curves import Curves
from inloop.space import Array
from numpy.typing import NDArray

#: Streams of reports. At step = number of folds done: the mean over them (see `adjusted`), the score of the last one.
MEANS, FOLDS = 0, 1
#: Stream of the first fold's reports from inside its fit, at step = iteration.
ITERATIONS = 2

LEAST = 4  # complete candidates, beside the best one, to know the noise of the folds from
_LATEST = 100  # as many of them as are looked at


@dataclass(frozen=True, repr=False)
class PairedPruner(Pruner):
    """Stops a candidate that is behind the best one on the same folds by more than the noise of the folds.

    After n folds the mean difference to the best candidate's scores on these folds counts (common random numbers,
    Glasserman and Yao, "Some guidelines and guarantees for common random numbers", Management Science 38, 1992).
    Its noise is how far the mean difference on the first n folds was from that on all folds, as root mean
    square over the half of the complete candidates that are nearest to the best one: the others differ more from it,
    and more unevenly.

    Inside a fit the score on the first fold is foretold from the last two reports by a straight line to the last
    iteration. Learning curves flatten, so this promises too much rather than too little, most of all to those who
    learn slowly and do well in the end.

    The folds run one after another. All together, rung by rung, they would show a mean without the noise of the folds,
    at five times the price of a first look: without losing the best score that saves less (1.5 times less CPU against
    1.8 with two deviations as the margin, for candidates that a sampler proposed; ``benchmarks/fold_order.py``).

    Args:
        rounds: Iterations of a whole fit, the largest number where it is searched for.
        margin: Standard deviations of the noise by which a candidate may be behind.
    """

    rounds: int = 0
    margin: float = 1.0

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        best = history.best
        if best is None or FOLDS not in best.curves:
            return False
        theirs = history.sign * np.array(best.curves[FOLDS].values)
        others = differences(history, best, theirs)
        if len(others) < LEAST:
            return False
        if stream == ITERATIONS:
            ours = np.array([self._promised(history.sign, trial)])
        else:
            ours = history.sign * np.array(trial.curves[FOLDS].values)
        behind = float((ours - theirs[: len(ours)]).mean())
        return not behind <= self.margin * noise(others, len(ours))

    def _promised(self, sign: float, trial: FrozenTrial) -> float:
        """Return the lowest loss that the first fold may come to."""
        curve = trial.curves[ITERATIONS]
        last = sign * curve.values[-1]
        if len(curve) < 2:
            return -math.inf
        slope = (last - sign * curve.values[-2]) / (curve.steps[-1] - curve.steps[-2])
        return last + min(slope, 0.0) * max(self.rounds - curve.steps[-1], 0)


def differences(history: History, best: FrozenTrial, theirs: Array) -> Array:
    """Return by how much more loss ``(m, folds)`` the complete candidates have than the best one, fold by fold."""
    rows = []
    for number in history.told[-_LATEST:]:
        trial = history.trials[number]
        if trial.state is TrialState.COMPLETE and trial is not best:
            row = history.sign * np.array(trial.curves[FOLDS].values) - theirs
            if np.isfinite(row).all():
                rows.append(row)
    return np.array(rows).reshape(-1, len(theirs))


def noise(others: Array, n: int) -> float:
    """Return the standard deviation of a mean difference over n folds around that over all of them.

    Args:
        others: Differences ``(m, folds)`` to the best candidate.
        n: Number of folds.
    """
    means = others.mean(1)
    near = np.argsort(np.abs(means), kind="stable")[: max(LEAST, len(means) // 2)]
    off = others[near, :n].mean(1) - means[near]
    return float(np.sqrt((off**2).mean()))


class PairedCurves(Curves):
    """Takes a candidate that was pruned between folds for the best one, less what it is behind, less the noise of that.

    Where two folds or more were run this is close: in searches over XGBoost, LightGBM and gradient boosting 0.01 to
    0.02 from the score on all folds, where curves in general foretell it to 0.04 and worse.
    """

    def losses(self, rows: NDArray[np.int64], told: int) -> Array:
        out = super().losses(rows, told)
        trials, sign = self.history.trials, self.history.sign
        pruned = [i for i, n in enumerate(rows) if trials[n].state is TrialState.PRUNED and FOLDS in trials[n].curves]
        done = [trials[n] for n in self.history.told[:told] if trials[n].state is TrialState.COMPLETE]
        best = min(done, key=lambda t: math.inf if t.value is None else sign * t.value, default=None)
        if not pruned or best is None:
            return out
        theirs = sign * np.array(best.curves[FOLDS].values)
        others = np.array([sign * np.array(t.curves[FOLDS].values) - theirs for t in done[-_LATEST:] if t is not best])
        others = others[np.isfinite(others).all(1)] if len(others) else others
        if len(others) >= LEAST:
            for i in pruned:
                ours = sign * np.array(trials[rows[i]].curves[FOLDS].values)
                loss = theirs.mean() + max((ours - theirs[: len(ours)]).mean() + noise(others, len(ours)), 0.0)
                out[i] = loss if math.isfinite(loss) else math.inf
        return out
