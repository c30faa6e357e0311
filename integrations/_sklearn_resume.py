"""Searches that are kept in a storage: what is written of each candidate, and how a search goes on from it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from inloop import FrozenTrial, Study, Trial, TrialState
from inloop.study import copied

from ._sklearn_content import content, form
from ._sklearn_folds import FOLDS_KEPT
from ._sklearn_race import Candidate, break_off
from ._sklearn_rows import row_hashes
from ._sklearn_space import SearchSpace

_DATA, _SETUP = "data", "setup"  # user attributes of the study


def fingerprint(X: Any, y: Any, splits: Sequence[tuple[Any, Any]]) -> str:
    """Return a hash of the data, their `form` included, and of their folds.

    Raises:
        TypeError: If the data are no rows of numbers or texts.
    """
    try:
        rows = row_hashes(X, y)
        forms = content([form(data) for data in (X, y) if data is not None])
    except Exception as error:
        kind = type(X).__name__
        raise TypeError(
            f"storage needs data whose rows are numbers or texts, to know them again, got {kind}."
        ) from error
    digest = hashlib.blake2b(rows.tobytes() + forms.encode(), digest_size=12)
    for fold in splits:
        for part in fold:
            digest.update(np.asarray(part).astype(np.int64).tobytes() + b"|")
    return digest.hexdigest()


def setup_hash(*parts: Any) -> str:
    """Return a hash of what else the scores of a search depend on, the same in every process.

    Args:
        *parts: Estimators, scorers, options, arguments of ``fit``; each counts by its `content`.
    """
    return hashlib.blake2b(content(parts).encode(), digest_size=12).hexdigest()


def check_same(study: Study, data: str, setup: str) -> None:
    """Note what data and setup a new study is of, or see that an old one is of the same.

    Args:
        study: The study.
        data: `fingerprint` of the data.
        setup: `setup_hash` of all else.

    Raises:
        ValueError: If it is not.
    """
    attrs = study.user_attrs
    if not study.trials:
        for name, value in ((_DATA, data), (_SETUP, setup)):
            if name not in attrs:
                study.set_user_attr(name, value)
        attrs = study.user_attrs
    if _DATA not in attrs or _SETUP not in attrs:
        what = "was not made by a search"
    elif attrs[_DATA] != data:
        what = "is of other data or other folds"
    elif attrs[_SETUP] != setup:
        what = (
            "is of another estimator, scoring, objective, error_score, return_train_score, eval_set, other choices or "
            "fit parameters"
        )
    else:
        return
    raise ValueError(
        f"The study {study.study_name!r} {what}, so it cannot go on; choose another study_name. "
        "(A cv that shuffles draws the same folds again only with a fixed random_state.)"
    )


def resume(study: Study, space: SearchSpace) -> list[Candidate]:
    """Return the candidates that ended in an earlier run; those that it broke off are tried again first."""
    kept: list[Candidate] = []
    broken: list[FrozenTrial] = []
    reference: list[float] | None = None
    break_off(study)
    for trial in study.trials:
        # one whose score is NaN has failed as well, but has a value
        if FOLDS_KEPT not in trial.user_attrs or (trial.value is None and trial.state is not TrialState.PRUNED):
            broken += [] if trial.state is TrialState.LOST else [trial]
            continue
        candidate = _candidate(study, trial, len(kept), space, reference)
        kept.append(candidate)
        if reference is None and not candidate.pruned and np.isfinite(candidate.scores).all():
            reference = candidate.in_order
    done = {space.key(c.trial.params) for c in kept} | {space.key(params) for params, *_ in study.history.queue}
    for trial in broken:
        if trial.params and space.key(trial.params) not in done:
            done.add(space.key(trial.params))
            study.enqueue_trial(trial.params)
    return kept


def enqueue_known(
    study: Study, space: SearchSpace, given: Sequence[Mapping[str, Any]], earlier: Sequence[Candidate]
) -> None:
    """Have the points of ``initial_params`` tried next: whole ones once, parts of points as often as they are given.

    Those that the ``earlier`` candidates began with, or that are in the queue, are not tried again.

    Raises:
        TypeError, ValueError: If one is no dict, or lies outside the space.
    """
    known = Counter(space.key(c.trial.params) for c in earlier)
    known.update(space.key(params) for params, *_ in study.history.queue)
    known.update([space.key(t.queued) for t in study.trials if t.queued and space.key(t.params) in known])
    for params in given:
        if not isinstance(params, Mapping):
            raise TypeError(f"initial_params must be a list of dicts of parameters, got {params!r} in it.")
        point = space.point(params)
        key, whole = space.key(point), space.whole(point)
        if not known[key]:
            study.enqueue_trial(point)
            known[key] = int(whole)
        elif not whole:
            known[key] -= 1


def in_memory(study: Study, close: bool) -> Study:
    """Return a copy of a study, as it is now, that needs its storage no more, and ``close`` that."""
    with study._log.lock:
        history, storage = study.history, study._log.storage
        events = storage.read(study.study_name, 0, history.events)
        if close:
            storage.close()
    parts = study.study_name, study.sampler, study.pruner, study.space, study.lease
    return copied(events, list(history.spaces.values()), *parts)


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
        order=list(kept["order"]),
        outs=outs,
        scores=list(kept["scores"]),
        pruned=trial.state is TrialState.PRUNED,
        stopped=stopped,
    )
