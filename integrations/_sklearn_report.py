"""What a search found, told honestly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from inloop.distributions import Distribution, Float, Int, label

_EDGE = 0.02  # this close to an end of a range, of its length


@dataclass(frozen=True)
class Report:
    """The result of a search, cross-validated and on rows that it has not seen.

    Attributes:
        metric: What was searched for.
        cv_score: Mean over the folds of the best candidate. It is the largest of many, so it flatters.
        cv_error: Its standard error over the folds (as if the folds were independent).
        test_score: Score of the refitted best candidate on the given rows.
        params: The chosen parameters.
        edges: Parameters that ended at an end of their range, with the end: there may be better beyond.
        folds_run, folds_total: Folds that were fitted, and that would have been without pruning.
    """

    metric: str
    cv_score: float
    cv_error: float
    test_score: float
    params: Mapping[str, Any]
    edges: Mapping[str, str]
    folds_run: int
    folds_total: int

    @property
    def optimism(self) -> float:
        """By how much the cross-validated score is better than the one on unseen rows."""
        return self.cv_score - self.test_score

    def __str__(self) -> str:
        saved = 100 * (1 - self.folds_run / self.folds_total)
        rows = {
            f"{self.metric}, cross-validated": f"{self.cv_score:.4f} +- {self.cv_error:.4f}",
            f"{self.metric}, unseen rows": f"{self.test_score:.4f}",
            "optimism": f"{self.optimism:+.4f}",
            "folds fitted": f"{self.folds_run} of {self.folds_total} (pruning saved {saved:.0f} %)",
            **{name: shown(value) + self._edge(name) for name, value in self.params.items()},
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:{width}}  {text}" for name, text in rows.items())

    def _edge(self, name: str) -> str:
        return f"  ({self.edges[name]} end of its range)" if name in self.edges else ""


def shown(value: Any) -> str:
    """Return a short text of a value; NumPy's numbers look like any others.

    Example:
        >>> shown(np.float64(0.5)), shown("l2"), shown(None)
        ('0.5', "'l2'", 'None')
    """
    return label(value.item() if isinstance(value, np.generic) else value)


def edges(params: Mapping[str, Any], space: Mapping[str, Distribution]) -> dict[str, str]:
    """Return which parameters lie at an end of their range, and at which.

    Example:
        >>> edges({"C": 999.0, "degree": 3}, {"C": Float(1e-3, 1e3, log=True), "degree": Int(1, 5)})
        {'C': 'upper'}
    """
    out = {}
    for name, value in params.items():
        dist = space.get(name)
        if isinstance(dist, Float | Int) and dist.high > dist.low:
            u = dist.to_unit(value)
            if value == dist.low or (u < _EDGE and isinstance(dist, Float)):
                out[name] = "lower"
            elif value == dist.high or (u > 1 - _EDGE and isinstance(dist, Float)):
                out[name] = "upper"
    return out


def standard_error(scores: Iterable[float]) -> float:
    """Return the standard error of a mean over folds."""
    values = np.array(list(scores), float)
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
