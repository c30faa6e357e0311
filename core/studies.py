"""Making, finding and removing studies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import pruners, ranks, samplers
from .events import MIN_READER, SCHEMA, Event
from .space import Space
from .storage import MemoryStorage, Storage, StudyExists, open_storage
from .study import LEASE, Study


def create_study(
    direction: str = "minimize",
    sampler: samplers.Sampler | str | None = None,
    pruner: pruners.Pruner | str | None = None,
    storage: Storage | str | None = None,
    study_name: str | None = None,
    load_if_exists: bool = False,
    seed: int | None = None,
    space: Space | Mapping[str, Any] | None = None,
    lease: float = LEASE,
    retry: int = 1,
) -> Study:
    """Start a study.

    Args:
        direction: ``"minimize"`` or ``"maximize"``.
        sampler: A sampler or its name (``"auto"``, ``"gp"``, ``"tpe"``, ``"cmaes"``, ``"random"``, ``"qmc"``); None:
            `AutoSampler`.
        pruner: A pruner or its name (``"auto"``, ``"halving"``, ``"median"``, ``"wilcoxon"``, ``"nop"``, ...); None:
            `SuccessiveHalvingPruner`.
        storage: Where its log lives: a file (``"study.db"``), a URL, a `Storage`; None: memory.
        study_name: Its name there; None: one is made up.
        load_if_exists: Go on with a study of that name, whose direction must be the same.
        seed: Of all random choices; None: a random one is drawn and kept with the study.
        space: Parameters to search; None: the objective's ``suggest_*`` calls show them.
        lease: In a shared storage, seconds of silence after which a process counts as dead and
            its trials as LOST.
        retry: Offer the parameters of a lost trial again so many times.

    Raises:
        ValueError: If the direction or a name is unknown, or the study exists.

    Example:
        >>> create_study(study_name="demo", sampler="tpe", pruner="median")
        <Study 'demo': minimize, 0 trials, TPESampler(), MedianPruner()>
    """
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction must be 'minimize' or 'maximize', got {direction!r}.")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64):
        raise ValueError(f"seed must be an integer from 0 to 2**64 - 1 or None, got {seed!r}.")
    if not lease > 0 or retry < 0:
        raise ValueError(f"lease must be positive and retry at least 0, got {lease!r} and {retry!r}.")
    live = space if space is None or isinstance(space, Space) else Space(space)
    followed = ranks.follow(study_name, direction, live)
    if followed is not None:
        return followed
    log = _storage(storage)
    name = study_name if study_name is not None else f"study-{os.urandom(4).hex()}"
    header = {
        "name": name,
        "direction": direction,
        "seed": int(seed) if seed is not None else int.from_bytes(os.urandom(6), "big"),
        "schema": SCHEMA,
        "min_reader": MIN_READER,
        "space": None if live is None else live.to_json(),
        "retry": retry,
    }
    try:
        log.create(name, [Event(os.urandom(8).hex(), 0, "study", -1, header)])
    except StudyExists:
        if not load_if_exists:
            raise
    study = Study(name, log, samplers.from_name(sampler), pruners.from_name(pruner), live, lease)
    if study.direction != direction:
        raise ValueError(f"Study {name!r} exists and its direction is {study.direction!r}, not {direction!r}.")
    return ranks.made(study)


def load_study(
    study_name: str,
    storage: Storage | str,
    sampler: samplers.Sampler | str | None = None,
    pruner: pruners.Pruner | str | None = None,
    space: Space | Mapping[str, Any] | None = None,
    lease: float = LEASE,
) -> Study:
    """Return the study of that name in ``storage``.

    Args:
        study_name: Its name.
        storage: Where its log lives.
        sampler: As in `create_study`; it is not stored.
        pruner: As in `create_study`; it is not stored.
        space: The study's space, needed again only where it holds values that JSON cannot.
        lease: As in `create_study`.

    Raises:
        StudyNotFound: If there is none.
        ValueError: If ``space`` is not the study's, or is needed and missing.
    """
    live = space if space is None or isinstance(space, Space) else Space(space)
    followed = ranks.follow(study_name, None, live)
    if followed is not None:
        return followed
    storage = _storage(storage)
    return ranks.made(Study(study_name, storage, samplers.from_name(sampler), pruners.from_name(pruner), live, lease))


def delete_study(study_name: str, storage: Storage | str) -> None:
    """Remove a study and all its trials, or raise `StudyNotFound`."""
    if not ranks.is_relaunched():
        with _opened(storage) as log:
            log.delete(study_name)


def get_all_study_names(storage: Storage | str) -> list[str]:
    """Return the names of the studies in ``storage``."""
    with _opened(storage) as log:
        return log.names()


def _storage(storage: Storage | str | None) -> Storage:
    return MemoryStorage() if storage is None else open_storage(storage)


@contextmanager
def _opened(storage: Storage | str) -> Iterator[Storage]:
    """Close what is opened here, and nothing of the caller's."""
    log = _storage(storage)
    try:
        yield log
    finally:
        if log is not storage:
            log.close()
