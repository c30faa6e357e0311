"""What a proposal of the Gaussian process costs, beside Optuna's: CPU time of an ask, and memory, by trials told.

    python benchmarks/ask.py             # in results/ask.json
    python benchmarks/ask.py --quick     # 100 trials alone

Ten float parameters, one process, one thread. Hyperparameters are fitted in some asks and not in others, so that the
mean counts: of asks one after another, of each of which the median over a few studies is taken, without those during
which a neighbour used the same core (see ``overhead.py``) unless there is no other. Memory is how much the largest
resident size of a fresh process grows from proposals after 20 trials to proposals after so many.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import inloop
import numpy as np
import runner
from inloop import Float, Space
from quiet import Core, chosen

RESULTS = Path(__file__).parent / "results"
NAMES = [f"x{i}" for i in range(10)]
Ask = Callable[[], float]  # asks and tells; returns the CPU milliseconds of the ask


def valley(params: dict[str, float]) -> float:
    return sum((params[n] - 0.3) ** 2 for n in NAMES) + 0.3 * float(np.sin(9 * params["x0"] + 5 * params["x1"]))


def drawn(rng: np.random.Generator) -> dict[str, float]:
    return dict(zip(NAMES, rng.random(len(NAMES)).tolist(), strict=True))


def ours(told: int, seed: int) -> Ask:
    study = inloop.create_study(space=Space({n: Float(0, 1) for n in NAMES}), seed=seed, sampler="gp", pruner="nop")
    rng = np.random.default_rng(seed)
    for _ in range(told):
        params = drawn(rng)
        study.add_trial(params, valley(params))

    def ask() -> float:
        start = time.process_time_ns()
        trial = study.ask()
        took = time.process_time_ns() - start
        study.tell(trial, valley(trial.params))
        return took / 1e6

    return ask


def optunas(told: int, seed: int) -> Ask:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=seed))
    dists: dict[str, Any] = {n: optuna.distributions.FloatDistribution(0, 1) for n in NAMES}
    rng = np.random.default_rng(seed)
    for _ in range(told):
        params = drawn(rng)
        study.add_trial(optuna.create_trial(params=params, distributions=dists, value=valley(params)))

    def ask() -> float:
        start = time.process_time_ns()
        trial = study.ask()
        params = {n: trial.suggest_float(n, 0, 1) for n in NAMES}
        took = time.process_time_ns() - start
        study.tell(trial, valley(params))
        return took / 1e6

    return ask


RIVALS: dict[str, Callable[[int, int], Ask]] = {"inloop GP": ours, "Optuna GP": optunas}
# trials told -> rival -> studies, and asks of each one after another
PLAN = {
    100: {"inloop GP": (7, 16), "Optuna GP": (1, 8)},
    1_000: {"inloop GP": (3, 16), "Optuna GP": (1, 2)},
    10_000: {"inloop GP": (2, 16)},
}


def cpu(core: Core, name: str, told: int, studies: int, asks: int) -> float:
    """Return the mean CPU milliseconds of an ask."""
    turns: list[list[tuple[list[float], bool]]] = [[] for _ in range(asks)]
    for seed in range(studies):
        ask = RIVALS[name](told, seed)
        for _ in range(4):  # imports, and fits that belong to the first asks
            ask()
        for turn in turns:
            shared = not core.wait(0.5)
            turn.append(([ask()], core.shared() or shared))
    return round(statistics.mean(statistics.median(chosen(turn)) for turn in turns), 2)


def peak(name: str, told: int) -> float:
    """Return by how many MB proposals after ``told`` trials raise this process's largest resident size."""
    for n in (20, told):
        ask = RIVALS[name](n, 0)
        before = largest()
        for _ in range(2):
            ask()
    return round((largest() - before) / 1024, 1)


def largest() -> int:
    """Return the largest resident size of this process in kB; `resource` would give its parent's, if that is larger."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="after 100 trials only")
    p.add_argument("--peak", nargs=2, metavar=("RIVAL", "TRIALS"), help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.peak:
        print(peak(args.peak[0], int(args.peak[1])))
        return
    core, rows = Core(), []
    for told, plan in list(PLAN.items())[: 1 if args.quick else None]:
        for name, (studies, asks) in plan.items():
            command = [sys.executable, __file__, "--peak", name, str(told)]
            row = {
                "rival": name, "told": told, "ask_ms": cpu(core, name, told, studies, asks),
                "peak_mb": float(subprocess.check_output(command)),
            }  # fmt: skip
            rows.append(row)
            print(f"{told:6} trials  {name:10} {row['ask_ms']:9.2f} ms an ask  {row['peak_mb']:7.1f} MB", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ask.json").write_text(json.dumps({**runner.stamp(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
