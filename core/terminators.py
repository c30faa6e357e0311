"""Terminators: when a study has searched enough."""

from __future__ import annotations

import datetime
import logging
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .follower import Kept
from .history import History
from .record import FrozenTrial, TrialState
from .settings import Settings

if TYPE_CHECKING:
    from .samplers.gp import Belief, GPSampler
    from .space import Space
    from .study import Study

__all__ = ["Deadline", "NoImprovement", "SmallImprovement", "SmallRegret", "TargetValue", "Terminator"]

logger = logging.getLogger("inloop")

_DELTA = 0.1  # Makarova et al.: the bound holds with probability 0.9
_SHRINK = 5.0  # and its beta is divided by 5, as in the experiments of Srinivas et al., ICML 2010
_FOLDS = 1  # stream in which BayesSearchCV reports fold scores


class Terminator(Settings, ABC):
    """Ends a study: an entry of ``study.optimize(callbacks=[...])`` that calls `Study.stop`.

    Trials that are running end as they would. Why the study was stopped is logged at level INFO.
    """

    @abstractmethod
    def why(self, study: Study) -> str | None:
        """Return why the study should end now, None while it should go on."""

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        reason = self.why(study)
        if reason is not None:
            logger.info("study %r is stopped: %s", study.study_name, reason)
            study.stop()


@dataclass(frozen=True, repr=False)
class TargetValue(Terminator):
    """Ends a study whose best value is at least as good as ``value``.

    Args:
        value: In the study's direction.

    Raises:
        ValueError: If ``value`` is NaN.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(seed=0, space={"x": inloop.Float(0, 1)})
        >>> study.optimize(lambda trial: trial.params["x"], n_trials=100, callbacks=[TargetValue(0.1)])
        >>> study.best_value <= 0.1, len(study.trials) < 100
        (True, True)
    """

    value: float

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise ValueError("TargetValue: value must be a number, got NaN.")

    def why(self, study: Study) -> str | None:
        history = study.history
        best = None if history.best is None else history.best.value
        if best is None or history.sign * best > history.sign * self.value:
            return None
        return f"the best value {best:.6g} reaches the target {self.value:.6g}."


@dataclass(frozen=True, repr=False)
class Deadline(Terminator):
    """Ends a study at a point in time, however often it is interrupted and resumed.

    Args:
        at: A `datetime.datetime` (local time unless it has a time zone), or a `datetime.timedelta` or a number of
            seconds after the study's first trial was asked for. For the time of one call there is
            ``optimize(timeout=...)``.

    Raises:
        TypeError: If ``at`` is none of these.
        ValueError: If it is NaN or a negative time.

    Example:
        >>> Deadline(datetime.datetime(2030, 1, 1, 8)), Deadline(3600)
        (Deadline(at=datetime.datetime(2030, 1, 1, 8, 0)), Deadline(at=3600))
    """

    at: datetime.datetime | datetime.timedelta | float

    def __post_init__(self) -> None:
        if isinstance(self.at, bool) or not isinstance(self.at, datetime.datetime | datetime.timedelta | int | float):
            raise TypeError(f"Deadline: at must be a datetime, a timedelta or seconds, got {self.at!r}.")
        if not isinstance(self.at, datetime.datetime) and not _seconds(self.at) >= 0:
            raise ValueError(f"Deadline: a time since the first trial must be at least 0, got {self.at!r}.")

    def why(self, study: Study) -> str | None:
        if isinstance(self.at, datetime.datetime):
            end = self.at.timestamp()
        else:
            trials = study.history.trials
            if not trials:
                return None
            end = trials[0].datetime_start.timestamp() + _seconds(self.at)
        return f"the deadline {datetime.datetime.fromtimestamp(end)} is over." if time.time() >= end else None


@dataclass(frozen=True, repr=False)
class NoImprovement(Terminator):
    """Ends a study whose best value has not improved for a number of trials.

    Complete and pruned trials count, failed and lost ones do not; nor do those before the first complete one.

    Args:
        n_trials: So many in a row.
        tolerance: A value better by no more than this is no improvement.

    Raises:
        ValueError: If ``n_trials`` is less than 1 or ``tolerance`` negative.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(seed=0, space={"x": inloop.Float(0, 1)})
        >>> study.optimize(lambda trial: 1.0, n_trials=100, callbacks=[NoImprovement(20)])
        >>> len(study.trials)
        21
    """

    n_trials: int
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not self.n_trials >= 1 or not self.tolerance >= 0:
            raise ValueError(
                "NoImprovement: n_trials must be at least 1 and tolerance at least 0, "
                f"got {self.n_trials!r} and {self.tolerance!r}."
            )

    def why(self, study: Study) -> str | None:
        with study._log.lock:
            history = study.history
            progress = _PROGRESS.get(history, self.tolerance, _Progress)
            since = progress.since(history, self.tolerance)
        return f"no improvement for {since} trials." if since >= self.n_trials else None


@dataclass(frozen=True, repr=False)
class SmallImprovement(Terminator):
    """Ends a study when no point promises an expected improvement larger than ``tolerance``.

    The Gaussian process of `GPSampler`, whatever the study's sampler, says what to expect. Jones, Schonlau and
    Welch, "Efficient global optimization of expensive black-box functions", Journal of Global Optimization 13, 1998,
    section 4.

    Args:
        tolerance: In units of the value.
        n_trials: Complete trials before which the study is not ended.

    Raises:
        ValueError: If ``tolerance`` is not positive or ``n_trials`` is less than 1.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(seed=0, space={"x": inloop.Float(-1, 1)})
        >>> study.optimize(lambda trial: trial.params["x"] ** 2, n_trials=100, callbacks=[SmallImprovement(1e-4)])
        >>> study.best_value < 1e-4, len(study.trials) < 60
        (True, True)
    """

    tolerance: float
    n_trials: int = 20

    def __post_init__(self) -> None:
        _check_tolerance("SmallImprovement", self.tolerance, self.n_trials)

    def why(self, study: Study) -> str | None:
        from .samplers.acquisition import LogImprovement

        with study._log.lock:
            model = _Model.of(study, self.n_trials)
            if model is None:
                return None
            gp, belief = model.gp, model.belief
            log = LogImprovement(belief.posterior, belief.best, gp.widen)
            point = gp.highest(model.space, model.history, belief, log)
            expected = math.exp(float(log(point[None])[0])) * belief.scale
        if expected >= self.tolerance:
            return None
        return f"the largest expected improvement {expected:.3g} is below {self.tolerance:.3g}."


@dataclass(frozen=True, repr=False)
class SmallRegret(Terminator):
    """Ends a study when what is left to gain is below the noise of cross-validation.

    Makarova et al., "Automatic termination for hyperparameter optimization", AutoML 2022: the regret is
    bounded by the lowest upper confidence bound of the trials minus the lowest lower one of the space, under the
    Gaussian process of `GPSampler`, whatever the study's sampler, its trend taken as known. The noise is the standard
    deviation of the mean score of the best trial, ``s * sqrt(1 / k + 1 / (k - 1))`` for ``k`` folds of standard
    deviation ``s`` (Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003): parameters
    that differ by less cannot be told apart by this cross-validation.

    Args:
        tolerance: End at a regret below this; None: below the noise.
        n_trials: Complete trials before which the study is not ended.
        stream: Where trials report one score a fold, ``trial.report(score, step=fold, stream=1)``; `BayesSearchCV`
            does so in stream 1. Used where ``tolerance`` is None.

    Raises:
        ValueError: If ``tolerance`` is not positive or ``n_trials`` is less than 1; when called, if no
            complete trial has reported scores of two folds.

    Example:
        >>> SmallRegret(), SmallRegret(0.001, n_trials=30)
        (SmallRegret(), SmallRegret(tolerance=0.001, n_trials=30))
    """

    tolerance: float | None = None
    n_trials: int = 20
    stream: int = _FOLDS

    def __post_init__(self) -> None:
        _check_tolerance("SmallRegret", self.tolerance, self.n_trials)

    def why(self, study: Study) -> str | None:
        with study._log.lock:
            model = _Model.of(study, self.n_trials)
            if model is None:
                return None
            bound = self.tolerance if self.tolerance is not None else _fold_noise(model.history, self.stream)
            regret = model.regret()
        if regret >= bound:
            return None
        what = "the noise of the folds" if self.tolerance is None else "the tolerance"
        return f"the regret is at most {regret:.3g}, below {what} {bound:.3g}."


class _Progress:
    """How long ago the best value last improved, at the cost of what is new."""

    def __init__(self) -> None:
        self._read = 0
        self._any = False  # complete ones so far
        self._best = math.inf
        self._since = 0

    def since(self, history: History, tolerance: float) -> int:
        """Return how many complete and pruned trials were told since the last improvement."""
        for number in history.told[self._read :]:
            trial = history.trials[number]
            value = math.nan if trial.value is None else trial.value
            loss = math.inf if math.isnan(value) else history.sign * value
            if trial.state is TrialState.COMPLETE and (not self._any or loss < self._best - tolerance):
                self._any, self._best, self._since = True, loss, 0
            elif self._any and trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                self._since += 1
        self._read = len(history.told)
        return self._since


_PROGRESS: Kept[float, _Progress] = Kept()


@dataclass(frozen=True)
class _Model:
    """What a Gaussian process believes of a study."""

    space: Space
    history: History
    gp: GPSampler
    belief: Belief

    @classmethod
    def of(cls, study: Study, n_trials: int) -> _Model | None:
        """Return the model of a study, None before ``n_trials`` complete trials or where there is nothing to model."""
        from .samplers.gp import GPSampler

        history, gp = study.history, GPSampler()
        space = study._searched
        if history.states[TrialState.COMPLETE] < n_trials or space is None:
            return None
        belief = gp.belief(space, history)
        return None if belief is None else cls(space, history, gp, belief)

    def regret(self) -> float:
        """Return the upper bound of Makarova et al. in units of the value."""
        from .samplers.acquisition import Optimism

        posterior, level = self.belief.posterior, self.belief.level
        d, n = len(posterior.inputs), len(self.history.told)
        beta = 2.0 * math.log(d * n * n * math.pi**2 / (6.0 * _DELTA)) / _SHRINK
        optimism = Optimism(posterior, math.sqrt(beta))
        mean, sd = posterior.predict(posterior.units[level < math.inf])
        point = self.gp.highest(self.space, self.history, self.belief, optimism)
        lowest = max(float(optimism(point[None])[0]), float((math.sqrt(beta) * sd - mean).max()))
        return (float((mean + math.sqrt(beta) * sd).min()) + lowest) * self.belief.scale


def _fold_noise(history: History, stream: int) -> float:
    """Return the standard deviation of the mean fold score of the best trial that has reported any."""
    for rank in range(history.states[TrialState.COMPLETE]):  # the first one, mostly
        curve = history.trials[int(history.ranking.rows(np.array([rank]))[0])].curves.get(stream)
        if curve is not None and len(curve) > 1 and all(map(math.isfinite, curve.values)):
            return _noise_of_mean(curve.values)
    raise ValueError(
        f"SmallRegret: no complete trial has reported scores of two folds in stream {stream}; report them with "
        f"trial.report(score, step=fold, stream={stream}), or give a tolerance."
    )


def _noise_of_mean(scores: list[float]) -> float:
    k = len(scores)
    mean = sum(scores) / k
    variance = sum((s - mean) ** 2 for s in scores) / (k - 1)
    return math.sqrt(variance * (1.0 / k + 1.0 / (k - 1)))


def _check_tolerance(owner: str, tolerance: float | None, n_trials: int) -> None:
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"{owner}: tolerance must be positive, got {tolerance!r}.")
    if not n_trials >= 1:
        raise ValueError(f"{owner}: n_trials must be at least 1, got {n_trials!r}.")


def _seconds(time: datetime.timedelta | float) -> float:
    return time.total_seconds() if isinstance(time, datetime.timedelta) else float(time)
