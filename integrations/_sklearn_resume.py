"""Searches that are kept in a storage: what is written of each candidate, and how a search goes on from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from inloop import FrozenTrial, Study, Trial, TrialState

from ._sklearn_race import FOLDS_KEPT, Candidate
from ._sklearn_report import row_hashes
from ._sklearn_space import SearchSpace

_DATA = "data"  # user attribute of the study


def fingerprint(X: Any, y: Any, splits: Sequence[tuple[Any, Any]]) -> str:
    """Return a hash of the data and its folds."""
    digest = hashlib.blake2b(row_hashes(X, y).tobytes(), digest_size=12)
    for fold in splits:
        for part in fold:
            digest.update(np.asarray(part).astype(np.int64).tobytes() + b"|")
    return digest.hexdigest()


def check_data(study: Study, data: str) -> None:
    """Note what data a new study is of, or see that an old one is of the same.

    Raises:
        ValueError: If it is not.
    """
    known = study.user_attrs.get(_DATA)
    if known is None and not study.trials:
        study.set_user_attr(_DATA, data)
    elif known != data:
        what = "was not made by a search" if known is None else "is of other data or other folds"
        raise ValueError(
            f"The study {study.study_name!r} {what}, so it cannot go on; choose another study_name. "
            "(A cv that shuffles draws the same folds again only with a fixed random_state.)"
        )


def resume(study: Study, space: SearchSpace) -> list[Candidate]:
    """Return the candidates that ended in an earlier run; those that it broke off are tried again first."""
    kept: list[Candidate] = []
    broken: list[FrozenTrial] = []
    reference: list[float] | None = None
    for trial in study.trials:
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state="failed")
        # one whose score is NaN has failed as well, but has a value
        if FOLDS_KEPT not in trial.user_attrs or (trial.value is None and trial.state is not TrialState.PRUNED):
            broken += [] if trial.state is TrialState.LOST else [trial]
            continue
        candidate = _candidate(study, trial, len(kept), space, reference)
        kept.append(candidate)
        if reference is None and not candidate.pruned and np.isfinite(candidate.scores).all():
            reference = candidate.scores
    done = {space.key(c.trial.params) for c in kept}
    for trial in broken:
        if trial.params and space.key(trial.params) not in done:
            done.add(space.key(trial.params))
            study.enqueue_trial(trial.params)
    return kept


def _candidate(
    study: Study, trial: FrozenTrial, index: int, space: SearchSpace, reference: list[float] | None
) -> Candidate:
    kept: Mapping[str, Any] = trial.user_attrs[FOLDS_KEPT]
    outs = [{"curve": [], **out} for out in kept["outs"]]
    stopped = outs.pop() if outs and outs[-1]["stopped"] else None
    return Candidate(
        index=index,
        trial=Trial(study, trial, {}),
        params=space.params(trial.params),
        reference=reference,
        outs=outs,
        scores=list(kept["scores"]),
        pruned=trial.state is TrialState.PRUNED,
        stopped=stopped,
    )
