"""Segments of population-based training with LightGBM."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightgbm

if TYPE_CHECKING:
    from inloop.population import Segment

_SEEDS = ("seed", "random_seed", "random_state")

# of what is drawn in training; where they are given, they do not follow the seed
_OTHER_SEEDS = (
    *("bagging_seed", "bagging_fraction_seed", "feature_fraction_seed"),
    *("extra_seed", "drop_seed", "objective_seed"),
)

_BOOSTING = ("boosting", "boosting_type", "boost")

# the number of rounds, which LightGBM prefers to that of the segment
_ROUNDS = {
    *("num_iterations", "num_iteration", "n_iter", "num_tree", "num_trees", "num_round", "num_rounds", "nrounds"),
    *("num_boost_round", "n_estimators", "max_iter"),
}


def train_segment(
    segment: Segment,
    params: Mapping[str, Any],
    train_set: lightgbm.Dataset,
    valid_sets: lightgbm.Dataset | Sequence[lightgbm.Dataset] = (),
    **kwargs: Any,
) -> lightgbm.Booster:
    """Train a segment of an `inloop.PopulationStudy` and save its checkpoint; a step is a boosting round.

    Training goes on by ``init_model``, with the segment's parameters for the rounds that are added. LightGBM leaves
    the predictions of ``init_model`` in the datasets, where the next training would find them; so every segment
    has copies of them.

    Args:
        segment: What to train; its ``params`` are added to ``params``.
        params: The parameters that stay. From the second segment on ``seed``, ``bagging_seed``, ... are others:
            LightGBM would begin the random numbers of bagging anew and draw the same rows again.
        train_set: The training set, not constructed yet.
        valid_sets: What to evaluate on, one or several, not constructed either.
        kwargs: Further ones of ``lightgbm.train``, ``valid_names`` for instance.

    Returns:
        The booster, of all rounds so far.

    Raises:
        ValueError: If a dataset is constructed or has an ``init_score``, a parameter is the number of rounds, or the
            boosting is that of random forests.

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
    if isinstance(valid_sets, lightgbm.Dataset):
        valid_sets = [valid_sets]
    if any(d._handle is not None for d in (train_set, *valid_sets)):
        raise ValueError(
            "train_segment: a Dataset is constructed already, by an earlier training or construct(); give the "
            "population Datasets of its own."
        )
    if any(_whole(d).init_score is not None for d in (train_set, *valid_sets)):
        raise ValueError(
            "train_segment: a Dataset has an init_score, which LightGBM replaces by the predictions of init_model from "
            "the second segment on; give Datasets without it."
        )
    given = {**params, **segment.params}
    if rounds := sorted(_ROUNDS & set(given)):
        raise ValueError(
            f"train_segment: a segment has as many rounds as the interval of the population; leave out the "
            f"parameter {rounds[0]}={given[rounds[0]]!r}."
        )
    if forest := [name for name in _BOOSTING if given.get(name) in ("rf", "random_forest")]:
        raise ValueError(
            f"train_segment: LightGBM cannot go on training with {forest[0]}={given[forest[0]]!r}; take another one."
        )
    if segment.start:
        seeds = [given.pop(name) for name in _SEEDS if name in given]
        given["seed"] = int(seeds[0] if seeds and seeds[0] is not None else 0) + segment.start
        given.update({name: int(given[name]) + segment.start for name in _OTHER_SEEDS if given.get(name) is not None})
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


def _whole(data: lightgbm.Dataset) -> lightgbm.Dataset:
    """Return the Dataset that another one is a subset of; or itself."""
    return data if data.used_indices is None or data.reference is None else data.reference
