"""Rivals: what proposes parameters, each behind the same two calls.

``ask()`` starts a trial, ``tell(trial, loss)`` ends it; several may be running. Conditional spaces are given to each
library in its own way: Optuna and Rustuna define by run, Hyperopt by nested choices, flattened for the rest.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import inloop
from inloop import Categorical, Float, Int, Space
from inloop.samplers import GPSampler, Sampler
from inloop.samplers.acquisition import Search
from inloop.samplers.gaussian_process import matern_52
from inloop.samplers.gp import PLAIN, RANKED
from peers import HEBO, SMAC


class Rival(Protocol):
    def ask(self) -> tuple[Any, dict[str, Any]]:
        """Start a trial and return it with its parameters, the active ones."""

    def tell(self, trial: Any, loss: float) -> None:
        """End a trial with its loss."""


class Inloop:
    def __init__(self, space: Space, seed: int, sampler: Sampler | str) -> None:
        self.study = inloop.create_study(space=space, seed=seed, sampler=sampler, pruner="nop")

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask()
        return trial, trial.params

    def tell(self, trial: Any, loss: float) -> None:
        self.study.tell(trial, loss)


class InloopByRun(Inloop):
    """inloop with the space shown by ``suggest_*`` calls only."""

    def __init__(self, space: Space, seed: int, sampler: Sampler | str) -> None:
        self.space = space
        self.study = inloop.create_study(seed=seed, sampler=sampler, pruner="nop")

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask()
        return trial, suggest(trial, self.space)


class Optuna:
    """Optuna, define-by-run; ``flat`` suggests inactive parameters too."""

    def __init__(self, space: Space, seed: int, make: Callable[[Any, int], Any], flat: bool = False) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space, self.flat = space, flat
        self.study = optuna.create_study(sampler=make(optuna.samplers, seed))

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask()
        return trial, suggest(trial, self.space, self.flat)

    def tell(self, trial: Any, loss: float) -> None:
        self.study.tell(trial, loss)


class Rustuna:
    def __init__(self, space: Space, seed: int) -> None:
        import rustuna.samplers

        self.space = space
        self.study = rustuna.create_study(sampler=rustuna.samplers.TPESampler(seed=seed, multivariate=True))

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask()
        return trial, suggest(trial, self.space)

    def tell(self, trial: Any, loss: float) -> None:
        self.study.tell(trial.number, loss)


class Hyperopt:
    """Hyperopt's TPE through its own ``suggest``, one new trial at a time."""

    def __init__(self, space: Space, seed: int) -> None:
        import hyperopt
        import numpy as np

        logging.getLogger("hyperopt").setLevel(logging.WARNING)
        self.hyperopt, self.space = hyperopt, space
        self.tree = _nested(space, hyperopt.hp)
        self.domain = hyperopt.Domain(lambda params: 0.0, self.tree)
        self.trials = hyperopt.Trials()
        self.rng = np.random.default_rng(seed)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        new = self.trials.new_trial_ids(1)
        self.trials.refresh()
        docs = self.hyperopt.tpe.suggest(new, self.domain, self.trials, int(self.rng.integers(2**31)))
        self.trials.insert_trial_docs(docs)
        self.trials.refresh()
        doc = self.trials._dynamic_trials[-1]
        vals = {n: v[0] for n, v in doc["misc"]["vals"].items() if v}
        return doc, _flattened(self.hyperopt.space_eval(self.tree, vals), self.space)

    def tell(self, trial: Any, loss: float) -> None:
        trial["result"] = {"loss": loss, "status": self.hyperopt.STATUS_OK}
        trial["state"] = self.hyperopt.JOB_STATE_DONE
        self.trials.refresh()


class Skopt:
    """scikit-optimize's Gaussian process with its defaults, on the flattened space; one trial at a time."""

    def __init__(self, space: Space, seed: int) -> None:
        import skopt

        warnings.filterwarnings("ignore", module="skopt|sklearn")
        self.space = space
        self.optimizer = skopt.Optimizer([_skopt_dimension(d) for d in space.dists], random_state=seed)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        row = self.optimizer.ask()  # the same row until it is told
        params = {
            n: d.from_unit((v + 0.5) / d.levels) if isinstance(d, Categorical) else v
            for (n, d), v in zip(self.space.items(), row, strict=True)
        }
        return row, {n: params[n] for n in self.space.active(params)}

    def tell(self, trial: Any, loss: float) -> None:
        self.optimizer.tell(trial, loss)


def optuna_tpe(samplers: Any, seed: int) -> Any:
    return samplers.TPESampler(seed=seed)


def optuna_group(samplers: Any, seed: int) -> Any:
    return samplers.TPESampler(seed=seed, multivariate=True, group=True)


def optuna_multivariate(samplers: Any, seed: int) -> Any:
    return samplers.TPESampler(seed=seed, multivariate=True)


def optuna_univariate(samplers: Any, seed: int) -> Any:
    return samplers.TPESampler(seed=seed, multivariate=False)


def optuna_gp(samplers: Any, seed: int) -> Any:
    return samplers.GPSampler(seed=seed)


#: Name to a maker ``(space, seed) -> Rival``.
RIVALS: dict[str, Callable[[Space, int], Rival]] = {
    "random": lambda space, seed: Inloop(space, seed, "random"),
    "inloop": lambda space, seed: Inloop(space, seed, "auto"),
    "inloop GP": lambda space, seed: Inloop(space, seed, "gp"),
    "inloop GP by run": lambda space, seed: InloopByRun(space, seed, "gp"),
    "inloop TPE": lambda space, seed: Inloop(space, seed, "tpe"),
    "inloop TPE by run": lambda space, seed: InloopByRun(space, seed, "tpe"),
    "Optuna TPE": lambda space, seed: Optuna(space, seed, optuna_tpe),
    "Optuna TPE group": lambda space, seed: Optuna(space, seed, optuna_group),
    "Optuna TPE multivariate": lambda space, seed: Optuna(space, seed, optuna_multivariate),
    "Optuna TPE univariate": lambda space, seed: Optuna(space, seed, optuna_univariate),
    "Optuna GP": lambda space, seed: Optuna(space, seed, optuna_gp),
    "Optuna GP flat": lambda space, seed: Optuna(space, seed, optuna_gp, flat=True),
    "Rustuna TPE": Rustuna,
    "Hyperopt TPE": Hyperopt,
    "scikit-optimize": Skopt,
    "SMAC": SMAC,
    "HEBO": HEBO,
}

_NO_TREND = (-6.0, 0.01)  # a weight of .0025, and no other

#: The GP with one ingredient left out or changed.
ABLATIONS: dict[str, GPSampler] = {
    "GP ranked only": GPSampler(models=(RANKED,)),
    "GP plain only": GPSampler(models=(PLAIN,)),
    "GP one sd": GPSampler(widen=1.0),
    "GP wide at once": GPSampler(narrow=0),
    "GP Matern-5/2": GPSampler(models=(replace(RANKED, kernel=matern_52), replace(PLAIN, kernel=matern_52))),
    "GP no trend": GPSampler(
        models=tuple(replace(m, prior=replace(m.prior, trend=_NO_TREND)) for m in (RANKED, PLAIN))
    ),
    "GP no stretch": GPSampler(stretch=False),
    "GP 10 starts": GPSampler(startup=10),
    "GP no doubt": GPSampler(doubt=-math.inf),
    "GP no climb": GPSampler(search=Search(climb=0)),
    "GP no local search": GPSampler(search=Search(local=1, rounds=0)),
    "GP long search": GPSampler(search=Search(uniform=1024, local=512, starts=8, climb=40)),
    "GP 100 rows": GPSampler(rows=100, fit_rows=100),
}
RIVALS |= {name: partial(Inloop, sampler=sampler) for name, sampler in ABLATIONS.items()}


def suggest(trial: Any, space: Space, flat: bool = False) -> dict[str, Any]:
    """Take the parameters of ``space`` from a trial that has ``suggest_*``; return the active ones."""
    params: dict[str, Any] = {}
    for name, dist in space.items():
        active = _active(space, name, params)
        if active or flat:
            value = _suggest(trial, name, dist)
            if active:
                params[name] = value
    return params


def _suggest(trial: Any, name: str, dist: Any) -> Any:
    if isinstance(dist, Categorical):
        return trial.suggest_categorical(name, list(dist.choices))
    if isinstance(dist, Int):
        return trial.suggest_int(name, dist.low, dist.high, log=dist.log)
    return trial.suggest_float(name, dist.low, dist.high, log=dist.log)


def _active(space: Space, name: str, params: Mapping[str, Any]) -> bool:
    return all(p in params and params[p] in values for p, values in space.when.get(name, {}).items())


def _nested(space: Space, hp: Any) -> dict[str, Any]:
    """Return a Hyperopt tree: a parent is a choice among dicts that hold its children."""

    def node(name: str) -> Any:
        dist = space[name]
        children = [c for c, parents in space.when.items() if name in parents]
        if not isinstance(dist, Categorical) and not children:
            return _hyperopt_range(hp, name, dist)
        nodes = {c: node(c) for c in children}
        values = dist.choices if isinstance(dist, Categorical) else range(dist.low, dist.high + 1)
        branches = [
            {name: v, **{c: n for c, n in nodes.items() if v in space.when[c][name]}} if children else v for v in values
        ]
        return hp.choice(name, branches)

    return {name: node(name) for name in space if name not in space.when}


def _hyperopt_range(hp: Any, name: str, dist: Any) -> Any:
    if isinstance(dist, Int):
        if dist.log:
            return hp.qloguniform(name, math.log(dist.low - 0.5), math.log(dist.high + 0.5), 1)
        return hp.uniformint(name, dist.low, dist.high)
    if dist.log:
        return hp.loguniform(name, math.log(dist.low), math.log(dist.high))
    return hp.uniform(name, dist.low, dist.high)


def _flattened(tree: Mapping[str, Any], space: Space) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def take(node: Mapping[str, Any]) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                take(value)
            else:
                flat[name] = value

    take(tree)
    for name, value in flat.items():
        dist = space[name]
        if isinstance(dist, Int):
            flat[name] = min(max(int(value), dist.low), dist.high)
        elif isinstance(dist, Float):
            flat[name] = min(max(float(value), dist.low), dist.high)
    return {n: flat[n] for n in space.active(flat)}


def _skopt_dimension(dist: Any) -> Any:
    from skopt.space import Categorical as Choice
    from skopt.space import Integer, Real

    if isinstance(dist, Categorical):
        return Choice(list(range(dist.levels)))
    kind = Integer if isinstance(dist, Int) else Real
    return kind(dist.low, dist.high, prior="log-uniform" if dist.log else "uniform")
