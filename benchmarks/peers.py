"""Rivals that are imported only where they are asked for: few will have them installed."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

from inloop import Categorical, Int, Space


class SMAC:
    """SMAC3's random forests with the defaults of its facade for tuning, conditions declared to ConfigSpace.

    Args:
        space: What is searched.
        seed: Of all its parts.
        trials: How many there will be, which sets the size of its first design.
    """

    def __init__(self, space: Space, seed: int, trials: int = 100) -> None:
        import smac
        from ConfigSpace import AndConjunction, ConfigurationSpace, InCondition

        self.space = space
        declared = ConfigurationSpace(seed=seed)
        of = {n: _hyperparameter(n, d) for n, d in space.items()}
        declared.add(list(of.values()))
        for child, parents in space.when.items():
            needs = [InCondition(of[child], of[p], _stored(space[p], values)) for p, values in parents.items()]
            declared.add(AndConjunction(*needs) if len(needs) > 1 else needs[0])
        self._folder = tempfile.TemporaryDirectory()  # it writes what it does
        scenario = smac.Scenario(
            declared, deterministic=True, n_trials=trials, seed=seed, output_directory=self._folder.name
        )
        self.facade = smac.HyperparameterOptimizationFacade(scenario, None, logging_level=False, overwrite=True)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.facade.ask()
        found = dict(trial.config)
        return trial, {n: _value(d, found[n]) for n, d in self.space.items() if n in found}

    def tell(self, trial: Any, loss: float) -> None:
        from smac.runhistory import TrialValue

        self.facade.tell(trial, TrialValue(cost=loss), save=False)


class HEBO:
    """HEBO with its defaults, on the flattened space.

    It wants numpy 1.24 or older: run it in an environment of its own (``--name hebo --rivals HEBO``) with this folder's
    package on the path; its rows are added to those of the others.
    """

    def __init__(self, space: Space, seed: int) -> None:
        import numpy as np
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO as Optimizer

        warnings.filterwarnings("ignore")
        np.random.seed(seed)  # noqa: NPY002 - it draws from the global generators
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.space = space
        declared = DesignSpace().parse([_design(n, d) for n, d in space.items()])
        self.optimizer = Optimizer(declared, scramble_seed=seed)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        row = self.optimizer.suggest(n_suggestions=1)
        found = row.iloc[0].to_dict()
        params = {n: _value(d, found[n]) for n, d in self.space.items()}
        return row, {n: params[n] for n in self.space.active(params)}

    def tell(self, trial: Any, loss: float) -> None:
        import numpy as np

        self.optimizer.observe(trial, np.array([[loss]]))


def _design(name: str, dist: Any) -> dict[str, Any]:
    if isinstance(dist, Categorical):
        return {"name": name, "type": "cat", "categories": _stored(dist, dist.choices)}
    kind = {(False, False): "num", (False, True): "pow", (True, False): "int", (True, True): "pow_int"}
    return {"name": name, "type": kind[isinstance(dist, Int), dist.log], "lb": dist.low, "ub": dist.high}


def _hyperparameter(name: str, dist: Any) -> Any:
    from ConfigSpace import CategoricalHyperparameter, UniformFloatHyperparameter, UniformIntegerHyperparameter

    if isinstance(dist, Categorical):
        return CategoricalHyperparameter(name, _stored(dist, dist.choices))
    kind = UniformIntegerHyperparameter if isinstance(dist, Int) else UniformFloatHyperparameter
    return kind(name, dist.low, dist.high, log=dist.log)


def _value(dist: Any, found: Any) -> Any:
    if isinstance(dist, Categorical):
        return dist.unpack(int(found))
    return min(max(int(found) if isinstance(dist, Int) else float(found), dist.low), dist.high)


def _stored(dist: Any, values: Any) -> list[Any]:
    """Return choices as their places, which ConfigSpace can hold whatever they are."""
    return [dist.pack(v) for v in values] if isinstance(dist, Categorical) else list(values)
