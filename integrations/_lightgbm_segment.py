"""Segments of population-based training with LightGBM."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightgbm

if TYPE_CHECKING:
    from inloop.population import Segment

_SEEDS = ("seed", "random_seed", "random_state")


def train_segment(
    segment: Segment,
    params: Mapping[str, Any],
    train_set: lightgbm.Dataset,
    valid_sets: Sequence[lightgbm.Dataset] = (),
    **kwargs: Any,
) -> lightgbm.Booster:
    """Train a segment of an `inloop.PopulationStudy` and save its checkpoint; a step is a boosting round.

    Training goes on by ``init_model``, with the segment's parameters for the rounds that are added. LightGBM leaves
    the predictions of ``init_model`` in the datasets, where the next training would find them; so every segment
    has copies of them.

    Args:
        segment: What to train; its ``params`` are added to ``params``.
        params: The parameters that stay. From the second segment on ``seed`` is another one: LightGBM would begin the
            random numbers of bagging anew and draw the same rows again.
        train_set: The training set, not constructed yet.
        valid_sets: What to evaluate on, not constructed either.
        kwargs: Further ones of ``lightgbm.train``, ``valid_names`` for instance.

    Returns:
        The booster, of all rounds so far.

    Raises:
        ValueError: If a dataset is constructed.

    Example:
        >>> import inloop, numpy as np
        >>> X = np.arange(40.0)[:, None]
        >>> data = lightgbm.Dataset(X, X[:, 0])
        >>> def train(segment):
        ...     params = {"objective": "l2", "min_data_in_leaf": 2, "num_threads": 1, "verbosity": -1}
        ...     return train_segment(segment, params, data, [data]).best_score["training"]["l2"]
        >>> space = {"learning_rate": inloop.Float(0.01, 1, log=True)}
        >>> population = inloop.PopulationStudy(space, population=2, interval=2, steps=6, seed=0)
        >>> population.optimize(train)
        >>> lightgbm.Booster(model_file=population.best_checkpoint).num_trees()
        6
    """
    if any(d._handle is not None for d in (train_set, *valid_sets)):
        raise ValueError(
            "train_segment: a Dataset is constructed already, by an earlier training or construct(); give the "
            "population Datasets of its own."
        )
    given = {**params, **segment.params}
    if segment.start:
        seeds = [given.pop(name) for name in _SEEDS if name in given]
        given["seed"] = int(seeds[0] if seeds and seeds[0] is not None else 0) + segment.start
    data = _copy(train_set)
    valid = [data if v is train_set else _copy(v) for v in valid_sets]
    booster = lightgbm.train(
        given, data, len(segment.steps), init_model=segment.checkpoint, valid_sets=valid or None, **kwargs
    )
    booster.save_model(segment.path, num_iteration=-1)  # by default it leaves out rounds after the best one
    return booster


def _copy(data: lightgbm.Dataset) -> lightgbm.Dataset:
    """Return a Dataset that training may change: it writes its parameters into those of the Dataset."""
    out = copy.copy(data)
    out.params = dict(data.params or {})
    return out
