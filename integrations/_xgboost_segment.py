"""Segments of population-based training with XGBoost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import xgboost

if TYPE_CHECKING:
    from inloop.population import Segment


def train_segment(segment: Segment, params: Mapping[str, Any], dtrain: xgboost.DMatrix, **kwargs: Any) -> Any:
    """Train a segment of an `inloop.PopulationStudy` and save its checkpoint; a step is a boosting round.

    Training goes on by ``xgb_model``, with the segment's parameters for the rounds that are added.

    Args:
        segment: What to train; its ``params`` are added to ``params``.
        params: The parameters that stay. From the second segment on ``seed`` is another one: XGBoost would begin the
            random numbers of ``subsample`` anew and draw the same rows again.
        dtrain: The training set.
        kwargs: Further ones of ``xgboost.train``, ``evals`` and ``evals_result`` for instance.

    Returns:
        The ``xgboost.Booster``, of all rounds so far.

    Example:
        >>> import inloop
        >>> data = xgboost.DMatrix([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0])
        >>> def train(segment):
        ...     log = {}
        ...     train_segment(segment, {"nthread": 1}, data, evals=[(data, "d")], evals_result=log, verbose_eval=False)
        ...     return log["d"]["rmse"][-1]
        >>> space = {"eta": inloop.Float(0.01, 1, log=True)}
        >>> population = inloop.PopulationStudy(space, population=2, interval=2, steps=6, seed=0)
        >>> population.optimize(train)
        >>> xgboost.Booster(model_file=bytearray(population.best_checkpoint.read_bytes())).num_boosted_rounds()
        6
    """
    given = {**params, **segment.params}
    if segment.start:
        seeds = [given.pop(name) for name in ("random_state", "seed") if name in given]
        given["seed"] = int(seeds[0] if seeds and seeds[0] is not None else 0) + segment.start
    # as bytes: the name of the file need not tell its format
    model = None if segment.checkpoint is None else bytearray(segment.checkpoint.read_bytes())
    booster = xgboost.train(given, dtrain, len(segment.steps), xgb_model=model, **kwargs)
    segment.path.write_bytes(booster.save_raw())
    return booster
