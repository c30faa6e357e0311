"""What the library itself costs, rivals side by side: CPU time, medians, one process, one thread.

    python benchmarks/overhead.py             # all three parts
    python benchmarks/overhead.py --quick     # without the longest histories

1. TPE, ask + tell, 10 float parameters, by trials told before. Optuna and Rustuna with ``multivariate=True``.
2. One trial: random ask, 10 x (report + should_prune by the median rule), tell; by trials told before.
3. ``import``, in a fresh process.

In parts 1 and 2 the rivals take turns of thirty steps, or of as many as take 20 ms. A turn during which a neighbour
used the same core (a fixed loop before or after it took a sixth longer than it can) does not count, of no rival, unless
there is no other: a rival with none that counts looks slower than it is. How many counted is kept with the result. All
is measured in one run and kept in ``results/overhead.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import inloop
import runner
from inloop import Float, Space
from quiet import Core, chosen

RESULTS = Path(__file__).parent / "results"
CORE = Core()
NAMES = [f"x{i}" for i in range(10)]
STEPS = 10
Step = Callable[[], None]


def bowl(params: dict[str, float]) -> float:
    return sum((params[n] - 0.3) ** 2 for n in NAMES)


def draw() -> dict[str, float]:
    return {n: random.random() for n in NAMES}


# Part 1: a maker fills a study with so many trials and returns one ask + tell of TPE.


def inloop_tpe(told: int) -> Step:
    study = inloop.create_study(space=Space({n: Float(0, 1) for n in NAMES}), seed=0, sampler="random", pruner="nop")
    for _ in range(told):
        trial = study.ask()
        study.tell(trial, bowl(trial.params))
    study.sampler = inloop.samplers.TPESampler()

    def step() -> None:
        trial = study.ask()
        study.tell(trial, bowl(trial.params))

    return step


def optuna_study(told: int, sampler: Any, pruner: Any = None, curve: bool = False) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    dists = {n: optuna.distributions.FloatDistribution(0, 1) for n in NAMES}
    for _ in range(told):
        params = draw()
        value = bowl(params)
        reports = {s: value + random.random() for s in range(STEPS)} if curve else None
        study.add_trial(
            optuna.create_trial(params=params, distributions=dists, value=value, intermediate_values=reports)
        )
    return study


def optuna_tpe(told: int, multivariate: bool = True) -> Step:
    import optuna

    study = optuna_study(told, optuna.samplers.TPESampler(seed=0, multivariate=multivariate))

    def step() -> None:
        trial = study.ask()
        study.tell(trial, bowl({n: trial.suggest_float(n, 0, 1) for n in NAMES}))

    return step


def optuna_univariate(told: int) -> Step:
    return optuna_tpe(told, multivariate=False)


def rustuna_tpe(told: int) -> Step:
    import rustuna
    from rustuna import samplers, storages

    storage = storages.InMemoryStorage()
    study = rustuna.create_study(study_name="s", storage=storage, sampler=samplers.RandomSampler(seed=0))

    def step() -> None:
        trial = study.ask()
        study.tell(trial.number, bowl({n: trial.suggest_float(n, 0, 1) for n in NAMES}))

    for _ in range(told):
        step()
    study = rustuna.load_study(study_name="s", storage=storage, sampler=samplers.TPESampler(seed=0, multivariate=True))
    return step


def hyperopt_tpe(told: int) -> Step:
    import hyperopt
    from rivals import Hyperopt

    rival = Hyperopt(Space({n: Float(0, 1) for n in NAMES}), 0)
    ids = rival.trials.new_trial_ids(told)
    docs = hyperopt.rand.suggest(ids, rival.domain, rival.trials, 0) if told else []
    for doc in docs:
        value = bowl({n: v[0] for n, v in doc["misc"]["vals"].items()})
        doc["result"], doc["state"] = {"loss": value, "status": hyperopt.STATUS_OK}, hyperopt.JOB_STATE_DONE
    rival.trials.insert_trial_docs(docs)
    rival.trials.refresh()

    def step() -> None:
        trial, params = rival.ask()
        rival.tell(trial, bowl(params))

    return step


TPE: dict[str, tuple[Callable[[int], Step], int]] = {  # and the longest history that ends in reasonable time
    "inloop TPE": (inloop_tpe, 100_000),
    "Optuna TPE multivariate": (optuna_tpe, 10_000),
    "Optuna TPE univariate": (optuna_univariate, 1_000),
    "Rustuna TPE multivariate": (rustuna_tpe, 100_000),
    "Hyperopt TPE": (hyperopt_tpe, 1_000),
}

# Part 2


def inloop_trial(told: int) -> Step:
    study = inloop.create_study(space=Space({n: Float(0, 1) for n in NAMES}), seed=0, sampler="random", pruner="median")

    def step() -> None:
        trial = study.ask()
        value = bowl(trial.params)
        for s in range(STEPS):
            trial.report(value + STEPS - s, s)
            if trial.should_prune():
                break
        study.tell(trial, value)

    for _ in range(told):
        step()

    def whole() -> None:
        """As above with reports that are never pruned, so that every trial makes all of them."""
        trial = study.ask()
        value = bowl(trial.params)
        for s in range(STEPS):
            trial.report(-1.0, s)
            if trial.should_prune():
                raise RuntimeError("the best trial was pruned")
        study.tell(trial, value)

    return whole


def optuna_trial(told: int) -> Step:
    import optuna

    study = optuna_study(told, optuna.samplers.RandomSampler(seed=0), optuna.pruners.MedianPruner(), curve=True)

    def whole() -> None:
        trial = study.ask()
        value = bowl({n: trial.suggest_float(n, 0, 1) for n in NAMES})
        for s in range(STEPS):
            trial.report(-1.0, s)
            if trial.should_prune():
                raise RuntimeError("the best trial was pruned")
        study.tell(trial, value)

    return whole


TRIALS: dict[str, tuple[Callable[[int], Step], int]] = {
    "inloop": (inloop_trial, 100_000),
    "Optuna": (optuna_trial, 10_000),
}


def measure(makers: dict[str, tuple[Callable[[int], Step], int]], sizes: list[int], seconds: float) -> dict[str, Any]:
    """Return rival -> history size -> median CPU milliseconds of a step.

    Rivals take turns, see `Core.turn`. A history grows by at most a fifth (by 30 at least) while it is measured; a
    slow rival ends when it has used up its ``seconds``, after one turn at least.
    """
    out: dict[str, Any] = {name: {} for name in makers} | {"turns that count": {}}
    for told in sizes:
        turns: dict[str, list[tuple[list[float], bool]]] = {}
        for _ in range(5 if told < 1000 else 1):  # a short history has room for few turns
            steps = {name: make(told) for name, (make, longest) in makers.items() if told <= longest}
            for step in steps.values():
                step()  # imports, caches, fits that belong to the first call
            gc.collect()
            gc.freeze()
            for _ in range(min(max(30, told // 5), 600) // 30):
                for name, step in steps.items():
                    if sum(sum(times) for times, _ in turns.setdefault(name, [])) < 1000 * seconds:
                        turns[name].append(CORE.turn(step, 30))
            gc.unfreeze()
        for name in turns:
            out[name][str(told)] = round(statistics.median(chosen(turns[name])), 4)
        counted = {name: f"{sum(not shared for _, shared in t)}/{len(t)}" for name, t in turns.items()}
        out["turns that count"][str(told)] = counted
        print(f"{told:>8} trials: " + ", ".join(f"{n} {out[n][str(told)]:.3f} ms" for n in turns), counted, flush=True)
    return out


def imports() -> dict[str, float]:
    """Return the median CPU seconds of ``import`` in a fresh process; the interpreter's own start is not in it.

    Modules are compiled before, as pip does when it installs a package.
    """
    out = {}
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for name in ("numpy", "inloop", "optuna", "hyperopt", "rustuna"):
        code = f"import time; a = time.process_time(); import {name}; print(time.process_time() - a)"
        runs = []
        for _ in range(12):
            shared = not CORE.wait()
            took = float(subprocess.check_output([sys.executable, "-c", code], env=env))
            runs.append(([took], shared or CORE.shared()))
        out[name] = round(statistics.median(chosen(runs[1:])), 4)
    print("import: " + ", ".join(f"{n} {v:.3f} s" for n, v in out.items()))
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="no history longer than 1,000 trials")
    p.add_argument("--seconds", type=float, default=10.0, help="CPU time of a rival at one size, at most")
    args = p.parse_args()
    sizes = [100, 1_000] if args.quick else [100, 1_000, 10_000, 100_000]
    print("TPE, ask + tell, 10 floats, CPU ms by trials told before")
    tpe = measure(TPE, sizes, args.seconds)
    print("One trial: random ask, 10 x (report + should_prune), tell, CPU ms by trials told before")
    trial = measure(TRIALS, [0] + ([1_000] if args.quick else [10_000, 100_000]), args.seconds)
    result = {**runner.stamp(), "tpe_ms": tpe, "trial_ms": trial, "import_s": imports()}
    (RESULTS / "overhead.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
