"""Scores on the way through a fit."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import log_loss
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer


def quick(scorer: Any, y: Any) -> Callable[[Any, Any], float | None] | None:
    """Return what gives the scores of ``"neg_log_loss"`` without scikit-learn's checks of its arguments.

    They take 3 ms however few the rows are, more than many a fit between two reports; those of other scores take less
    than the prediction. The end of the fit is scored, and checked, by scikit-learn.

    Args:
        scorer: The search's.
        y: Classes of the rows that are scored.

    Returns:
        A function of a classifier and the rows, which returns None where scikit-learn is to say what is wrong;
        None for other scorers.
    """
    plain = getattr(scorer, "_score_func", None) is log_loss and getattr(scorer, "_kwargs", None) == {}
    if not plain or scorer._sign != -1 or np.ndim(y) != 1:
        return None
    classes, codes = np.unique(np.asarray(y), return_inverse=True)

    def score(model: Any, X: Any) -> float | None:
        if not hasattr(model, "predict_proba") or not np.array_equal(getattr(model, "classes_", ()), classes):
            return None
        shares = model.predict_proba(X)
        if shares.shape != (len(codes), len(classes)):
            return None
        if not (shares >= 0.0).all() or not (np.abs(shares.sum(1) - 1.0) < 1e-3).all():
            return None
        if len(classes) == 2:  # of two classes the scorer sees the share of the second one alone
            shares = np.column_stack([1.0 - shares[:, 1], shares[:, 1]])
        own = shares[np.arange(len(codes)), codes]
        least = np.finfo(own.dtype).eps
        return float(np.log(np.clip(own, least, 1.0 - least)).mean(dtype=np.float64))

    return score


@dataclass(frozen=True)
class Score:
    """Takes an estimator as it is after some iterations, returns its score on the fold's test rows.

    Attributes:
        X: The rows, as the last step of the estimator takes them.
        y: Their targets.
        of: Takes an estimator; returns None where there is no score.
    """

    X: Any
    y: Any
    of: Callable[[Any], float | None]

    def __call__(self, view: Any) -> float | None:
        return self.of(view)


def needs_last_step_alone(scorer: Any) -> bool:
    """Say whether a scorer only asks for predictions: one of scikit-learn, not a function of the user."""
    scorers = scorer._scorers.values() if isinstance(scorer, _MultimetricScorer) else [scorer]
    return all(isinstance(s, _BaseScorer | _PassthroughScorer) for s in scorers)


@contextmanager
def unheard() -> Iterator[None]:
    """Keep to itself what is warned of a score on the way, such as that no class is predicted yet.

    Only in the main thread, where folds run unless joblib's backend has threads. What is silenced is so for the whole
    process, and of threads that do so at once the last one may leave it silent.
    """
    alone = threading.current_thread() is threading.main_thread()
    with warnings.catch_warnings() if alone else nullcontext():
        if alone:
            warnings.simplefilter("ignore")
        yield


def named(scores: Any) -> Any:
    """Return what a scorer gave with texts as names of metrics, as columns of a table and a storage have them."""
    return {str(name): score for name, score in scores.items()} if isinstance(scores, dict) else scores
