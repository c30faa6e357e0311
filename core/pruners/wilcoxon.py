"""Stop what loses a paired comparison with the incumbent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..history import History
from ..record import FrozenTrial
from .pruner import Pruner


@dataclass(frozen=True, repr=False)
class WilcoxonPruner(Pruner):
    """Stops a trial that is worse than the best one on the same steps, by Wilcoxon's signed-rank test.

    For objectives that average over instances (folds, problems, repetitions): report the value of each
    instance with the instance as the step. Wilcoxon, "Individual comparisons by ranking methods",
    Biometrics Bulletin 1(6), 1945; ties at zero are split (Pratt's alternative is not used). A trial
    whose mean over the shared steps is no worse than the best trial's is never stopped. NaN counts as
    worse than every number.

    Args:
        p_threshold: Stop when the one-sided p-value is below this; between 0 and 1. With k shared steps the
            smallest possible p-value is about 2**-k, so 0.1 needs at least 4.
        n_startup_steps: Nothing is stopped before so many shared steps.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> WilcoxonPruner(p_threshold=0.05)
        WilcoxonPruner(p_threshold=0.05)
    """

    p_threshold: float = 0.1
    n_startup_steps: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.p_threshold <= 1:
            raise ValueError(f"p_threshold must lie between 0 and 1, got {self.p_threshold!r}.")
        if self.n_startup_steps < 0:
            raise ValueError(f"n_startup_steps must be at least 0, got {self.n_startup_steps!r}.")

    def prune(self, history: History, trial: FrozenTrial, stream: int, since: int = 0) -> bool:
        best = history.best
        if best is None or stream not in best.curves:
            return False
        ours, theirs = trial.curves[stream], best.curves[stream]
        value = dict(zip(theirs.steps, theirs.values, strict=True))
        pairs = [(v, value[s]) for s, v in zip(ours.steps, ours.values, strict=True) if s in value]
        if len(pairs) < max(self.n_startup_steps, 1):
            return False
        excess = history.sign * np.array([a - b for a, b in pairs])
        excess = np.where(np.isnan(excess), [_undecided(history.sign, a, b) for a, b in pairs], excess)
        excess = np.clip(excess, -1e300, 1e300)  # so that opposite infinities have a mean
        if not excess.mean() > 0:
            return False
        from scipy.stats import wilcoxon  # takes longer to import than all of inloop

        p = wilcoxon(excess, alternative="greater", zero_method="zsplit").pvalue
        return bool(p < self.p_threshold)


def _undecided(sign: float, ours: float, theirs: float) -> float:
    """Return the excess loss where the difference is NaN: NaN is the worst, equal infinities tie."""
    return np.inf if ours != ours and theirs == theirs else -np.inf if theirs != theirs and ours == ours else 0.0
