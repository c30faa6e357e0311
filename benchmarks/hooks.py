"""What a hook adds to a boosting round: CPU time against no hook and against optuna-integration's, in one run.

    python benchmarks/hooks.py             # in memory and in a SQLite file
    python benchmarks/hooks.py --memory    # in memory only

The model is as small as it gets, so that the hook shows. The pruner is the median rule; every trial reports better
values than all before it, so that it is judged in every round and never stopped. Fits with no hook, with inloop's
and with optuna-integration's take turns, and the fastest fit of each counts, which other work on the machine
disturbed least. What is printed is kept in ``results/hooks.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import inloop
import lightgbm
import numpy as np
import optuna
import xgboost
from inloop.integrations.lightgbm import LightGBMPruningCallback
from inloop.integrations.xgboost import XGBoostPruningCallback
from optuna_integration import LightGBMPruningCallback as OptunaLightGBM
from optuna_integration import XGBoostPruningCallback as OptunaXGBoost

RESULTS = Path(__file__).parent / "results"
ROUNDS = 100
X = np.random.default_rng(0).random((60, 2))
Y = X[:, 0] + 0.1
# makes the callback of one new trial, and how to end that trial
Maker = Callable[[str], tuple[list[Any], Callable[[], Any]]]


def train_xgboost(callbacks: list[Any]) -> None:
    xgboost.train(
        {"nthread": 1, "max_depth": 1, "max_bin": 8},
        XGB,
        ROUNDS,
        evals=[(XGB, "valid")],
        callbacks=callbacks,
        verbose_eval=False,
    )


def train_lightgbm(callbacks: list[Any]) -> None:
    train = lightgbm.Dataset(X, Y, params={"verbosity": -1})
    valid = train.create_valid(X, Y)
    params = {"num_threads": 1, "num_leaves": 2, "metric": "l2", "verbosity": -1}
    lightgbm.train(params, train, ROUNDS, valid_sets=[valid], callbacks=callbacks)


XGB = xgboost.DMatrix(X, Y)
TRAIN = {"XGBoost": train_xgboost, "LightGBM": train_lightgbm}
OURS = {"XGBoost": XGBoostPruningCallback, "LightGBM": LightGBMPruningCallback}
OPTUNA = {
    "XGBoost": lambda trial: OptunaXGBoost(trial, "valid-rmse"),
    "LightGBM": lambda trial: OptunaLightGBM(trial, "l2"),
}
CURVE = dict.fromkeys(range(ROUNDS), 9.0)  # worse than any round of the models


def nothing(framework: str) -> tuple[list[Any], Callable[[], Any]]:
    return [], lambda: None


def inloop_maker(earlier: int, url: str | None) -> Maker:
    study = inloop.create_study(sampler="random", pruner="median", seed=0, storage=url)
    for _ in range(earlier):
        study.add_trial({}, 9.0, curve=CURVE)

    def make(framework: str) -> tuple[list[Any], Callable[[], Any]]:
        trial = study.ask()
        return [OURS[framework](trial)], lambda: study.tell(trial, 9.0)

    return make


def optuna_maker(earlier: int, url: str | None) -> Maker:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(), pruner=optuna.pruners.MedianPruner(), storage=url
    )
    study.add_trials([optuna.create_trial(value=9.0, intermediate_values=CURVE) for _ in range(earlier)])

    def make(framework: str) -> tuple[list[Any], Callable[[], Any]]:
        trial = study.ask()
        return [OPTUNA[framework](trial)], lambda: study.tell(trial, 9.0)

    return make


def measure(framework: str, makers: dict[str, Maker], seconds: float) -> dict[str, float]:
    """Return for each maker the CPU microseconds of a round in the fastest fit; ask and tell are left out."""
    spent: dict[str, list[float]] = {name: [] for name in makers}
    used = dict.fromkeys(makers, 0.0)
    for turn in range(41):
        for name, make in makers.items():
            if used[name] > seconds and turn > 2:
                continue
            callbacks, end = make(framework)
            gc.collect()
            gc.disable()
            start = time.process_time()
            TRAIN[framework](callbacks)
            took = time.process_time() - start
            gc.enable()
            end()
            used[name] += took
            spent[name].append(1e6 * took / ROUNDS)
    return {name: min(times) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", action="store_true", help="leave out the SQLite file")
    parser.add_argument("--earlier", type=int, nargs="*", default=[0, 1000], help="trials before (default: 0 1000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU at most for each (default: 5)")
    args = parser.parse_args()
    rows = []
    print("CPU microseconds per boosting round\n")
    print("framework  storage   trials before      no hook       inloop       Optuna   inloop adds   Optuna adds")
    for storage in ["memory"] if args.memory else ["memory", "SQLite"]:
        for earlier in args.earlier:
            with tempfile.TemporaryDirectory() as folder:
                urls = [f"sqlite:///{folder}/{name}.db" if storage == "SQLite" else None for name in "io"]
                makers = {
                    "none": nothing,
                    "inloop": inloop_maker(earlier, urls[0]),
                    "Optuna": optuna_maker(earlier, urls[1]),
                }
                for framework in TRAIN:
                    us = measure(framework, makers, args.seconds)
                    rows.append({"framework": framework, "storage": storage, "earlier": earlier, "us": us})
                    print(
                        f"{framework:10} {storage:8} {earlier:14} {us['none']:12.1f} {us['inloop']:12.1f} "
                        f"{us['Optuna']:12.1f} {us['inloop'] - us['none']:13.1f} {us['Optuna'] - us['none']:13.1f}",
                        flush=True,
                    )
    RESULTS.mkdir(exist_ok=True)
    versions = {n: version(n) for n in ("inloop", "xgboost", "lightgbm", "optuna", "optuna-integration")}
    kept = {"command": "python benchmarks/hooks.py", "rounds": ROUNDS, "versions": versions, "rows": rows}
    (RESULTS / "hooks.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
