"""What a hook adds to a boosting round: CPU time against no hook and against optuna-integration's, in one run.

    python benchmarks/hooks.py             # in memory and in a SQLite file
    python benchmarks/hooks.py --memory    # in memory only

The model is as small as it gets, so that the hook shows. The pruner is the median rule; no trial is worse than those
before it, so that it is judged in every round and never stopped. Fits with no hook, with a callback that does nothing,
with inloop's and with optuna-integration's take turns. In each a last callback notes the CPU time when a round ends.
Neighbours on the same core double the time of most fits, but leave some rounds alone: of each of the 100 rounds, and
of the fit's beginning and end, the fifth percentile over the fits counts, and their sum is divided by 100. What is
printed is kept in ``results/hooks.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
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
from quiet import Core

RESULTS = Path(__file__).parent / "results"
ROUNDS = 100
TURNS = 101
CORE = Core()
X = np.random.default_rng(0).random((60, 2))
Y = X[:, 0] + 0.1
# makes the callback of one new trial, and how to end that trial
Maker = Callable[[str], tuple[list[Any], Callable[[], Any]]]


def train_xgboost(callbacks: list[Any]) -> int:
    params = {"nthread": 1, "max_depth": 1, "max_bin": 8}
    valid = [(XGB, "valid")]
    model = xgboost.train(params, XGB, ROUNDS, evals=valid, callbacks=callbacks, verbose_eval=False)
    return int(model.num_boosted_rounds())


def train_lightgbm(callbacks: list[Any]) -> int:
    train = lightgbm.Dataset(X, Y, params={"verbosity": -1})
    valid = train.create_valid(X, Y)
    params = {"num_threads": 1, "num_leaves": 2, "metric": "l2", "verbosity": -1}
    return int(lightgbm.train(params, train, ROUNDS, valid_sets=[valid], callbacks=callbacks).current_iteration())


XGB = xgboost.DMatrix(X, Y)
TRAIN = {"XGBoost": train_xgboost, "LightGBM": train_lightgbm}
OURS = {"XGBoost": XGBoostPruningCallback, "LightGBM": LightGBMPruningCallback}
OPTUNA = {
    "XGBoost": lambda trial: OptunaXGBoost(trial, "valid-rmse"),
    "LightGBM": lambda trial: OptunaLightGBM(trial, "l2"),
}
EMPTY = {"XGBoost": xgboost.callback.TrainingCallback(), "LightGBM": lambda env: None}


class XGBoostTimer(xgboost.callback.TrainingCallback):
    def __init__(self, marks: list[int]) -> None:
        self.marks = marks

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        self.marks.append(time.process_time_ns())
        return False


class LightGBMTimer:
    before_iteration = False
    order = 99

    def __init__(self, marks: list[int]) -> None:
        self.marks = marks

    def __call__(self, env: Any) -> None:
        self.marks.append(time.process_time_ns())


TIMERS = {"XGBoost": XGBoostTimer, "LightGBM": LightGBMTimer}
CURVE = dict.fromkeys(range(ROUNDS), 9.0)  # worse than any round of the models


def nothing(framework: str) -> tuple[list[Any], Callable[[], Any]]:
    return [], lambda: None


def empty(framework: str) -> tuple[list[Any], Callable[[], Any]]:
    return [EMPTY[framework]], lambda: None


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


def measure(framework: str, makers: dict[str, Maker], seconds: float) -> tuple[dict[str, float], int]:
    """Return for each maker the CPU microseconds of a round, and how many fits of inloop's there were.

    Ask and tell are left out.
    """
    fits: dict[str, list[list[int]]] = {name: [] for name in makers}
    used = dict.fromkeys(makers, 0.0)
    for turn in range(TURNS):
        for name, make in makers.items():
            if used[name] > seconds and turn > 2:
                continue
            callbacks, end = make(framework)
            gc.collect()
            CORE.wait(0.05)
            gc.disable()
            fits[name].append(timed(framework, callbacks))
            gc.enable()
            end()
            used[name] += (fits[name][-1][-1] - fits[name][-1][0]) / 1e9
    us = {n: float(np.percentile(np.diff(of, axis=1), 5, axis=0).sum()) / 1e3 / ROUNDS for n, of in fits.items()}
    return us, len(fits["inloop"])


def timed(framework: str, callbacks: list[Any]) -> list[int]:
    """Return the CPU nanoseconds when a fit begins, when each of its rounds ends, and when it ends."""
    marks = [time.process_time_ns()]
    rounds = TRAIN[framework]([*callbacks, TIMERS[framework](marks)])
    marks.append(time.process_time_ns())
    if rounds != ROUNDS:
        raise RuntimeError(f"a trial was stopped after {rounds} of {ROUNDS} rounds")
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", action="store_true", help="leave out the SQLite file")
    parser.add_argument("--earlier", type=int, nargs="*", default=[0, 1000], help="trials before (default: 0 1000)")
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU at most for each (default: 3)")
    args = parser.parse_args()
    gc.collect()
    gc.freeze()  # what was imported need not be looked through before every fit
    rows = []
    print("CPU microseconds per boosting round\n")
    print("                                   no    empty                     inloop  Optuna")
    print("framework  storage  before       hook callback   inloop   Optuna     adds    adds   fits")
    for storage in ["memory"] if args.memory else ["memory", "SQLite"]:
        for earlier in args.earlier:
            with tempfile.TemporaryDirectory() as folder:
                urls = [f"sqlite:///{folder}/{name}.db" if storage == "SQLite" else None for name in "io"]
                makers = {
                    "none": nothing,
                    "empty": empty,
                    "inloop": inloop_maker(earlier, urls[0]),
                }
                if storage == "memory" or earlier < 100:  # its file takes ten minutes to fill with a thousand trials
                    makers["Optuna"] = optuna_maker(earlier, urls[1])
                for framework in TRAIN:
                    us, fits = measure(framework, makers, args.seconds)
                    rows.append(
                        {"framework": framework, "storage": storage, "earlier": earlier, "us": us, "fits": fits}
                    )
                    none, ours, theirs = us["none"], us["inloop"], us.get("Optuna", math.nan)
                    shown = [none, us["empty"], ours, theirs, ours - none, theirs - none]
                    print(
                        f"{framework:9}  {storage:7} {earlier:7} ",
                        *(f"{x:8.1f}" for x in shown),
                        f"{fits:5}",
                        flush=True,
                    )
    RESULTS.mkdir(exist_ok=True)
    versions = {n: version(n) for n in ("inloop", "xgboost", "lightgbm", "optuna", "optuna-integration")}
    kept = {"command": "python benchmarks/hooks.py", "rounds": ROUNDS, "versions": versions, "rows": rows}
    (RESULTS / "hooks.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
