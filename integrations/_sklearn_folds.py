"""The pruner of searches by cross-validation, and what their samplers take a pruned candidate for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from inloop import FrozenTrial, TrialState
from inloop.history import History
from inloop.pruners import Pruner
from inloop.record import Curve
from inloop.samplers.curves import Curves
from inloop.space import Array
from numpy.typing import NDArray

#: Streams of reports. At step = number of folds done the mean over them (see `adjusted`); at step = 1 + fold its score.
MEANS, FOLDS = 0, 1
#: Stream of the first fold's reports from inside its fit, at step = iteration.
ITERATIONS = 2
#: User attribute of trials in a storage: results of the folds, in their order, to go on from.
FOLDS_KEPT = "folds"

LEAST = 5  # complete candidates to know from what folds differ by
_LATEST = 100  # as many of the candidates told last are looked at
_ROUNDING = 1e-9  # of a loss: who is behind by so little is not behind


def turns(number: int, n_splits: int) -> list[int]:
    """Return the folds of a candidate in the order in which they run: another one for each candidate.

    What a fold's score differs by from the mean over all folds is much the same for all candidates of a region. If all
    began with the same fold, a region that this fold does not suit would be given up, and nothing would ever tell.
    Begun with others in turn, it is noise, over which a model of the scores averages.

    Args:
        number: Of the trial.
        n_splits: Number of folds.

    Example:
        >>> [turns(number, 5) for number in range(3)]
        [[0, 1, 2, 3, 4], [3, 4, 0, 1, 2], [1, 2, 3, 4, 0]]
    """
    # the golden section spreads the first folds of any run of candidates most evenly
    shift = next(k for k in range(max(round(0.618 * n_splits), 1), 2 * n_splits) if math.gcd(k, n_splits) == 1)
    first = number * shift % n_splits
    return [*range(first, n_splits), *range(first)]


@dataclass(frozen=True, repr=False)
class FoldsPruner(Pruner):
    """Stops a candidate that is behind the best one by more than the noise of the folds that it has run.

    Folds differ: the scores of the complete candidates tell by how much a fold's loss is off the mean over all folds,
    and how unevenly. So the folds that a candidate has run foretell its mean (`Folds`), and to what precision.

    Inside a fit the score on the first fold is foretold from the last two reports: it gains as much more, in units
    of what it gained between them, as other candidates did at the same steps, and ``margin`` standard deviations of
    that besides; but no more than on a straight line to the last iteration. Learning curves flatten, so a line promises
    too much rather than too little, most of all to those who learn slowly and do well in the end.

    The folds run one after another. All together, rung by rung, they would show a mean without the noise of the folds,
    at five times the price of a first look: that saves less (1.1 to 1.3 times less CPU against 1.8 with two deviations
    as the margin, for candidates that a sampler proposed; ``benchmarks/fold_order.py``).

    Args:
        rounds: Iterations of a whole fit, the largest number where it is searched for, 0 if it is not
            known.
        margin: Standard deviations of the noise by which a candidate may be behind.
        alone: The same after a single fold. One stopped there counts for the sampler as what that fold foretells,
            which is the worst told of all it learns from: with 2 the search ends lower than without pruning
            (by .0036 +- .0019 with LightGBM), with 3 by little, for almost the same CPU time.
    """

    rounds: int = 0
    margin: float = 2.0
    alone: float = 3.0

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        known = Outlook.of(history)
        if known.folds is None:
            return False
        if stream == ITERATIONS:
            return self.inside(known, first(trial, known.folds.n_splits), trial.curves[ITERATIONS])
        return self.between(known, *by_fold(trial, known.sign))

    def between(self, known: Outlook, run: NDArray[np.int64], losses: Array) -> bool:
        """Say whether a candidate with these losses of the folds that it has run is to be stopped."""
        return self._behind(known.folds, run, losses, self.margin if len(run) > 1 else self.alone)

    def inside(self, known: Outlook, fold: NDArray[np.int64], curve: Curve) -> bool:
        """Say whether a candidate with these reports from inside its first fold is to be stopped."""
        return self._behind(known.folds, fold, np.array([self._promised(known, curve)]), self.margin)

    def _behind(self, folds: Folds | None, run: NDArray[np.int64], losses: Array, margin: float) -> bool:
        if folds is None:
            return False
        most = margin * folds.noise(run) + _ROUNDING * abs(folds.best)
        return not folds.foretold(run, losses) - folds.best <= most

    def _promised(self, known: Outlook, curve: Curve) -> float:
        """Return the lowest loss that the first fold may come to."""
        sign = known.sign
        last = sign * curve.values[-1]
        if len(curve) < 2:
            return -math.inf
        before, now = curve.steps[-2], curve.steps[-1]
        ratio = max((self.rounds or math.inf) - now, 0) / (now - before)
        grown = Growth.of(known.begun, before, now)
        if grown is not None:
            ratio = min(ratio, grown.ratio + self.margin * grown.deviation)
        gain = min(last - sign * curve.values[-2], 0.0)
        return last + ratio * gain if gain else last


@dataclass(frozen=True)
class Outlook:
    """What the candidates told so far foretell of another one: all that a `FoldsPruner` goes by.

    It does not grow with the search, so it can be kept for each candidate in flight and travel to where that is fitted.

    Attributes:
        sign: +1 where the study minimises, -1 where it maximises; loss = sign * score.
        folds: From the latest candidates; None: they are too few.
        begun: Of these the `first_folds`.
    """

    sign: float
    folds: Folds | None
    begun: list[tuple[Curve, float]]

    @classmethod
    def of(cls, history: History) -> Outlook:
        latest = [history.trials[number] for number in history.told[-_LATEST:]]
        return cls(history.sign, Folds.of(history.best, latest, history.sign), first_folds(latest))


@dataclass(frozen=True)
class Folds:
    """What the losses of folds tell of the mean over all of them.

    The additive model of a randomised block design: a loss is that of the candidate plus that of the fold plus noise.
    It is fitted to the half of the complete candidates that is nearest to the best one: the others differ more, and
    more unevenly. Against the difference to the best candidate alone on the same folds this takes a fifth to a third
    off the variance, as that one's own noise is not in it.

    Attributes:
        best: Lowest mean loss.
        effects: ``(n_splits,)`` by how much losses of a fold are off the mean over all.
        off: ``(m, n_splits)`` by how much those of the candidates are besides.
    """

    best: float
    effects: Array
    off: Array

    @classmethod
    def of(cls, best: FrozenTrial | None, trials: Iterable[FrozenTrial], sign: float) -> Folds | None:
        """Return what trials tell beside the best one; None: there are too few complete ones among them."""
        if best is None or FOLDS not in best.curves:  # such as one that was added by hand
            return None
        complete = [t for t in trials if t.state is TrialState.COMPLETE and t is not best and FOLDS in t.curves]
        losses = np.array([whole(t, sign) for t in (best, *complete)])
        losses = losses[np.isfinite(losses).all(1)]
        if len(losses) < LEAST:
            return None
        means = losses.mean(1)
        near = np.argsort(means, kind="stable")[: max(LEAST, len(means) // 2)]
        off = (losses - means[:, None])[near]
        effects = off.mean(0)
        return cls(float(means.min()), effects, off - effects)

    @property
    def n_splits(self) -> int:
        return len(self.effects)

    def foretold(self, run: NDArray[np.int64], losses: Array) -> float:
        """Return the mean loss over all folds that the losses of some foretell."""
        return float((losses - self.effects[run]).mean())

    def noise(self, run: NDArray[np.int64]) -> float:
        """Return the standard deviation of that."""
        off = self.off[:, run].mean(1)
        return math.sqrt(float(off @ off) / (len(off) - 1) * (1.0 + 1.0 / len(off)))


@dataclass(frozen=True)
class Growth:
    """How much fits still gained after a step, in units of what they had gained since an earlier one.

    Attributes:
        ratio: By least squares.
        deviation: Of single ones from that.
    """

    ratio: float
    deviation: float

    @classmethod
    def of(cls, begun: Iterable[tuple[Curve, float]], before: int, now: int) -> Growth | None:
        """Return what `first_folds` tell; None: they are too few."""
        pairs = []
        for curve, end in begun:
            i, j = curve.place(before), curve.place(now)
            if i is not None and j is not None:
                pairs.append((curve.values[j] - curve.values[i], end - curve.values[j]))
        gained, left = np.array([p for p in pairs if np.isfinite(p).all()]).reshape(-1, 2).T
        scale = float(gained @ gained)
        if len(gained) < LEAST or scale == 0.0:
            return None
        ratio = max(float(gained @ left) / scale, 0.0)
        rest = left - ratio * gained
        return cls(ratio, math.sqrt(float(rest @ rest) / scale * len(rest) / (len(rest) - 1)))


def first_folds(trials: Iterable[FrozenTrial]) -> list[tuple[Curve, float]]:
    """Return the reports from inside the first folds that are done, each with the score of the fold."""
    done = (t.curves for t in trials if FOLDS in t.curves and ITERATIONS in t.curves)
    return [(curves[ITERATIONS], curves[FOLDS].values[0]) for curves in done]


def by_fold(trial: FrozenTrial, sign: float) -> tuple[NDArray[np.int64], Array]:
    """Return the folds that a candidate has run, and their losses."""
    curve = trial.curves[FOLDS]
    return np.array(curve.steps) - 1, sign * np.array(curve.values)


def whole(trial: FrozenTrial, sign: float) -> Array:
    """Return the losses of a complete candidate in the order of the folds."""
    folds, losses = by_fold(trial, sign)
    return losses[np.argsort(folds)]


def first(trial: FrozenTrial, n_splits: int) -> NDArray[np.int64]:
    """Return the fold that a candidate begins with, as an array; with another pruner it may have begun with another."""
    kept = trial.user_attrs.get(FOLDS_KEPT)
    return np.array((turns(trial.number, n_splits) if kept is None else kept["order"])[:1])


class FoldsCurves(Curves):
    """Takes a pruned candidate for what its folds foretell (`Folds`), but for none better than the best one.

    The score of a fold that was stopped is foretold from its last two reports (`Growth`). A line through the levels, by
    which curves in general are foretold, ends near the complete candidates even for those that are far behind, as
    complete ones have all come to much the same: the sampler would think nothing of what is bad.
    """

    def losses(self, rows: NDArray[np.int64], told: int) -> Array:
        out = super().losses(rows, told)
        trials, sign = self.history.trials, self.history.sign
        pruned = [i for i, n in enumerate(rows) if trials[n].state is TrialState.PRUNED]
        latest = [trials[n] for n in self.history.told[max(told - _LATEST, 0) : told]]
        folds = Folds.of(self._best(told), latest, sign) if pruned else None
        if folds is None:
            return out
        begun = first_folds(latest)
        grown: dict[tuple[int, int], Growth | None] = {}
        for i in pruned:
            trial = trials[rows[i]]
            if FOLDS in trial.curves:
                run, losses = by_fold(trial, sign)
            elif ITERATIONS in trial.curves and len(trial.curves[ITERATIONS]) > 1:
                curve = trial.curves[ITERATIONS]
                steps = curve.steps[-2], curve.steps[-1]
                if steps not in grown:
                    grown[steps] = Growth.of(begun, *steps)
                growth = grown[steps]
                ratio = 0.0 if growth is None else growth.ratio
                end = curve.values[-1] + ratio * (curve.values[-1] - curve.values[-2])
                run, losses = first(trial, folds.n_splits), np.array([sign * end])
            else:
                continue
            loss = max(folds.foretold(run, losses), folds.best)
            out[i] = loss if math.isfinite(loss) else math.inf
        return out

    def _best(self, told: int) -> FrozenTrial | None:
        """Return the best complete candidate among the first ``told``."""
        last = self._before[min(told, self._read)]
        return self.history.trials[self._complete[int(np.argmin(self._final[:last]))]] if last else None
