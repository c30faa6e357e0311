"""What pruning is worth: learning curves, equal numbers of epochs for every rival.

    python benchmarks/pruning.py                             # 8 data sets x 5 seeds, 20 x 52 epochs, noisy, one worker
    python benchmarks/pruning.py --runs 50 --noise 0 --workers 4
    python benchmarks/pruning.py --trained                   # LightGBM and a small net, trained here
    python benchmarks/pruning.py --all --seeds 4             # inloop with and without pruning on all 34 data sets
    python benchmarks/pruning.py --report-only

Curves are those of the lcbench surrogate (see ``problems.py``): validation accuracy over 52 epochs, with noise of
``--noise`` percentage points added to every report; with ``--trained`` they are those of real trainings
(``learning.py``, nothing added), which are run to their end, of which rivals see what they pay for. Workers take
turns, an epoch each. The incumbent is the complete
trial whose value, the last report, is best (before there is one, the trial whose last report is); its regret is that of
its accuracy without noise, over that of the median of random parameters. Every run is a line of
``results/pruning.jsonl``, ``pruning_trained.jsonl`` or ``pruning_all.jsonl``; runs that are there already are not
repeated. Of the 34 data sets 3945, 34539, 189862, 126025, 167149, 167181, 168329 and 189906 were used to develop the
pair.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import inloop
import learning
import numpy as np
import problems
import runner
from inloop.space import Space
from rivals import suggest

RESULTS = Path(__file__).parent / "results"
EPOCHS = 52
INSTANCES = ("167168", "189873", "126026", "168330", "167184", "168908", "189354", "146212")
AT = (0.25, 0.5, 1.0)  # of the budget


class Rival(Protocol):
    """A study: handles of trials are its own."""

    def ask(self) -> tuple[Any, dict[str, Any]]: ...
    def report(self, trial: Any, value: float, epoch: int) -> bool: ...
    def tell(self, trial: Any, value: float | None) -> None: ...


class Inloop:
    def __init__(self, space: Space, seed: int, sampler: Any, pruner: Any) -> None:
        self.study = inloop.create_study("maximize", space=space, seed=seed, sampler=sampler, pruner=pruner)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask()
        return trial, trial.params

    def report(self, trial: Any, value: float, epoch: int) -> bool:
        trial.report(value, epoch)
        return bool(trial.should_prune())

    def tell(self, trial: Any, value: float | None) -> None:
        self.study.tell(trial, value, "pruned" if value is None else None)


class SyneTune:
    """Syne Tune's asynchronous successive halving of random parameters, in flat spaces."""

    def __init__(self, space: Space, seed: int) -> None:
        import logging

        from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
        from syne_tune.optimizer.schedulers.asha import AsynchronousSuccessiveHalving

        logging.disable(logging.WARNING)

        def of(d: Any) -> Any:
            if isinstance(d, inloop.Categorical):
                return choice(list(d.choices))
            if isinstance(d, inloop.Int):
                return (lograndint if d.log else randint)(d.low, d.high)
            return (loguniform if d.log else uniform)(d.low, d.high)

        np.random.seed(seed)  # noqa: NPY002 - it draws from the global generator, too
        self.scheduler = AsynchronousSuccessiveHalving(
            {n: of(d) for n, d in space.items()}, "value", do_minimize=False, time_attr="epoch",
            max_t=EPOCHS, grace_period=4, reduction_factor=3, random_seed=seed,
        )  # fmt: skip
        self.count = 0

    def ask(self) -> tuple[Any, dict[str, Any]]:
        from datetime import datetime

        from syne_tune.backend.trial_status import Trial

        trial = Trial(self.count, self.scheduler.suggest().config, datetime.now())
        self.count += 1
        self.scheduler.on_trial_add(trial)
        return trial, dict(trial.config)

    def report(self, trial: Any, value: float, epoch: int) -> bool:
        self.last = {"value": value, "epoch": epoch + 1}
        return epoch + 1 < EPOCHS and self.scheduler.on_trial_result(trial, self.last) == "STOP"

    def tell(self, trial: Any, value: float | None) -> None:
        if value is not None:
            self.scheduler.on_trial_complete(trial, {"value": value, "epoch": EPOCHS})


class Optuna:
    def __init__(
        self, space: Space, seed: int, sampler: Callable[[Any, int], Any], pruner: Callable[[Any], Any]
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self._pruned = space, optuna.trial.TrialState.PRUNED
        self.study = optuna.create_study(
            direction="maximize", sampler=sampler(optuna.samplers, seed), pruner=pruner(optuna.pruners)
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self.study.ask()
        return trial, suggest(trial, self.space)

    def report(self, trial: Any, value: float, epoch: int) -> bool:
        trial.report(value, epoch)
        return bool(trial.should_prune())

    def tell(self, trial: Any, value: float | None) -> None:
        if value is None:
            self.study.tell(trial, state=self._pruned)
        else:
            self.study.tell(trial, value)


def _optuna_tpe(samplers: Any, seed: int) -> Any:
    return samplers.TPESampler(seed=seed)


def _optuna_gp(samplers: Any, seed: int) -> Any:
    return samplers.GPSampler(seed=seed)


#: As sure of what pruned trials would have come to as of what others have.
SURE = inloop.samplers.AutoSampler(gp=inloop.samplers.GPSampler(widen_pruned=1.5))
RIVALS: dict[str, Callable[[Space, int], Rival]] = {
    "inloop": lambda s, i: Inloop(s, i, "auto", inloop.pruners.AutoPruner(EPOCHS)),
    "inloop, length learned": lambda s, i: Inloop(s, i, "auto", "auto"),
    "inloop, noise ignored": lambda s, i: Inloop(s, i, "auto", inloop.pruners.AutoPruner(EPOCHS, doubt=0.0)),
    "inloop, strict for longer": lambda s, i: Inloop(s, i, "auto", inloop.pruners.AutoPruner(EPOCHS, taught=8)),
    "inloop, no wider": lambda s, i: Inloop(s, i, SURE, inloop.pruners.AutoPruner(EPOCHS)),
    "inloop, halving": lambda s, i: Inloop(s, i, "auto", "halving"),
    "inloop, no pruning": lambda s, i: Inloop(s, i, "auto", "nop"),
    "inloop TPE": lambda s, i: Inloop(s, i, "tpe", inloop.pruners.AutoPruner(EPOCHS)),
    "inloop TPE, no pruning": lambda s, i: Inloop(s, i, "tpe", "nop"),
    "Optuna TPE, no pruning": lambda s, i: Optuna(s, i, _optuna_tpe, lambda p: p.NopPruner()),
    "Optuna TPE, median": lambda s, i: Optuna(s, i, _optuna_tpe, lambda p: p.MedianPruner()),
    "Optuna TPE, halving": lambda s, i: Optuna(
        s, i, _optuna_tpe, lambda p: p.SuccessiveHalvingPruner(min_resource=4, reduction_factor=3)
    ),
    "Optuna TPE, Hyperband": lambda s, i: Optuna(
        s, i, _optuna_tpe, lambda p: p.HyperbandPruner(min_resource=4, max_resource=EPOCHS, reduction_factor=3)
    ),
    "Optuna GP, no pruning": lambda s, i: Optuna(s, i, _optuna_gp, lambda p: p.NopPruner()),
    "Syne Tune ASHA": lambda s, i: SyneTune(s, i),
    "Optuna GP, halving": lambda s, i: Optuna(
        s, i, _optuna_gp, lambda p: p.SuccessiveHalvingPruner(min_resource=4, reduction_factor=3)
    ),
    "Optuna GP, Hyperband": lambda s, i: Optuna(
        s, i, _optuna_gp, lambda p: p.HyperbandPruner(min_resource=4, max_resource=EPOCHS, reduction_factor=3)
    ),
    "Optuna GP, median": lambda s, i: Optuna(s, i, _optuna_gp, lambda p: p.MedianPruner()),
}
DEFAULT = (
    "inloop;inloop, halving;inloop, no pruning;inloop TPE;Optuna TPE, no pruning;Optuna TPE, median;"
    "Optuna TPE, halving;Optuna TPE, Hyperband;Syne Tune ASHA"
)


def curves(instance: str) -> tuple[Space, Callable[[Mapping[str, Any]], np.ndarray]]:
    """Return a space and a function from parameters to what a whole run reports ``(52,)``, larger is better."""
    return learning.CURVES[instance] if instance in learning.CURVES else problems.learning_curves(instance)


def play(instance: str, rival: str, seed: int, setting: dict[str, Any]) -> dict[str, Any]:
    """Return one run: the incumbent's accuracy without noise whenever it changed, and what was spent by then."""
    space, curve = curves(instance)
    study, budget = RIVALS[rival](space, seed), setting["runs"] * EPOCHS
    slots: list[tuple[Any, np.ndarray, np.ndarray, int] | None] = [None] * setting["workers"]
    spent = trials = pruned = 0
    best = (False, -np.inf)  # whether complete, and the last report
    path: list[tuple[int, float]] = []
    cpu = 0.0
    while spent < budget:
        for i, slot in enumerate(slots):
            start = time.process_time()
            if slot is None:
                trial, params = study.ask()
                cpu += time.process_time() - start
                truth = curve(params)
                noise = np.random.default_rng((seed, trials)).normal(0.0, setting["noise"], EPOCHS)
                slot = (trial, truth, truth + noise, 0)
                trials += 1
                start = time.process_time()
            trial, truth, seen, epoch = slot
            stop = study.report(trial, float(seen[epoch]), epoch)
            spent += 1
            complete = epoch == EPOCHS - 1
            if complete or stop:
                pruned += not complete
                study.tell(trial, float(seen[epoch]) if complete else None)
                if (complete, seen[epoch]) > best:
                    best = (complete, float(seen[epoch]))
                    path.append((spent, round(float(truth[-1]), 6)))
            slots[i] = None if complete or stop else (trial, truth, seen, epoch + 1)
            cpu += time.process_time() - start
            if spent >= budget:
                break
    return {
        "instance": instance, "rival": rival, "seed": seed, **setting, "trials": trials, "pruned": pruned,
        "cpu_s": round(cpu, 3), "path": path,
    }  # fmt: skip


def reference(instance: str) -> dict[str, Any]:
    """Return the median and the best accuracy of many random parameters."""
    space, curve = curves(instance)
    draws = 100 if instance in learning.CURVES else 2000
    units = np.random.default_rng(1).random((draws, len(space)))
    finals = [float(curve(space.decode(u))[-1]) for u in units]
    return {"instance": instance, "median": float(np.median(finals)), "best": max(finals)}


def report(rows: list[dict[str, Any]], setting: dict[str, Any]) -> str:
    """Return mean normalised regrets, standard errors over data sets, and wins of the first rival."""
    refs = {r["instance"]: r for r in rows if "median" in r}
    runs = [r for r in rows if "path" in r]
    best = {i: max([refs[i]["best"], *(v for r in runs if r["instance"] == i for _, v in r["path"])]) for i in refs}
    runs = [r for r in runs if all(r[k] == v for k, v in setting.items())]
    budget = setting["runs"] * EPOCHS
    regret: dict[str, dict[tuple[str, int], list[float]]] = {}
    for r in runs:
        i = r["instance"]
        scale = best[i] - refs[i]["median"]
        cells = []
        for at in AT:
            known = [v for spent, v in r["path"] if spent <= at * budget]
            cells.append((best[i] - known[-1]) / scale if known else 1.0)
        regret.setdefault(r["rival"], {})[i, r["seed"]] = cells
    heads = "".join(f"{f'{at:.0%} of budget':>22}" for at in AT)
    lines = [f"{'':26}{heads}{'runs':>6}{'trials':>8}{'pruned':>8}{'CPU s':>8}   inloop better/worse at the end"]
    for name, cells in sorted(regret.items(), key=lambda kv: np.mean([c[-1] for c in kv[1].values()])):
        text = averaged(cells, ".3f")
        mine = [r for r in runs if r["rival"] == name]
        spent = "".join(f"{np.mean([r[k] for r in mine]):8.1f}" for k in ("trials", "pruned", "cpu_s"))
        ours = regret.get("inloop", {})
        both = [k for k in cells if k in ours]
        score = f"{sum(ours[k][-1] < cells[k][-1] for k in both)}/{sum(ours[k][-1] > cells[k][-1] for k in both)}"
        lines.append(f"{name:26}{text}{len(mine):6}{spent}   {'-' if name == 'inloop' else score}")
    lines += [
        paired(regret),
        f"Mean normalised regret over {len({r['instance'] for r in runs})} data sets +- standard error over data sets; "
        f"{setting['runs']} x {EPOCHS} epochs, noise {setting['noise']:g}, workers {setting['workers']}.",
    ]
    return "\n".join(lines)


def averaged(cells: dict[tuple[str, int], list[float]], form: str) -> str:
    """Return means over data sets of what (data set, seed) has at each part of the budget, and their errors."""
    by_instance = [[c for (i, _), c in cells.items() if i == j] for j in dict.fromkeys(i for i, _ in cells)]
    means = np.array([np.mean(c, axis=0) for c in by_instance])
    errors = means.std(0, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.full(len(AT), np.nan)
    return "".join(f"{f'{m:{form}} +- {e:.3f}':>22}" for m, e in zip(means.mean(0), errors, strict=True))


def paired(regret: dict[str, dict[tuple[str, int], list[float]]]) -> str:
    """Return how much lower the regret of the default pair is than that of its sampler alone, run by run."""
    ours, alone = regret.get("inloop", {}), regret.get("inloop, no pruning", {})
    gains = {k: np.subtract(alone[k], ours[k]).tolist() for k in ours if k in alone}
    return f"{'gain by pruning, paired':26}{averaged(gains, '+.3f')}{len(gains):6}" if gains else ""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rivals", help=f"names separated by semicolons, of: {'; '.join(RIVALS)}")
    p.add_argument("--instances", help="names separated by commas")
    curves = p.add_mutually_exclusive_group()
    curves.add_argument("--trained", action="store_true", help="real trainings instead of the surrogate")
    curves.add_argument("--all", action="store_true", help="all data sets of the surrogate, by default no rival")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--runs", type=int, default=20, help="the budget, in full runs (default: 20)")
    p.add_argument("--noise", type=float, help="sd in percentage points (default: 0.5, trained: 0)")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--report-only", action="store_true")
    args = p.parse_args()
    noise = args.noise if args.noise is not None else 0.0 if args.trained else 0.5
    setting = {"runs": args.runs, "noise": noise, "workers": args.workers}
    kind = "_trained" if args.trained else "_all" if args.all else ""
    path = RESULTS / f"pruning{kind}.jsonl"
    rivals = (args.rivals or ("inloop;inloop, no pruning" if args.all else DEFAULT)).split(";")
    rows = runner.read(path)
    if not args.report_only:
        done = {
            (r["instance"], r["rival"], r["seed"], r["runs"], r["noise"], r["workers"]) for r in rows if "path" in r
        }
        known = {r["instance"] for r in rows if "median" in r}
        rows += runner.append(path, [{"stamp": runner.stamp()}])
        if args.instances:
            wanted = args.instances.split(",")
        elif args.all:
            wanted = problems.data_sets_with_curves()
        else:
            wanted = list(learning.CURVES if args.trained else INSTANCES)
        rows += runner.append(path, (reference(i) for i in wanted if i not in known))
        jobs = [(i, r, s) for i in wanted for s in range(args.seeds) for r in rivals]
        jobs = [j for j in jobs if (*j, *setting.values()) not in done]
        for n, row in enumerate(runner.append(path, (play(*j, setting) for j in jobs)), 1):
            rows.append(row)
            print(f"\r{n}/{len(jobs)} {row['instance']} {row['rival']}{'':24}", end="", flush=True)
        print()
    settings = {(r["runs"], r["noise"], r["workers"]) for r in rows if "path" in r}
    texts = [report(rows, dict(zip(setting, s, strict=True))) for s in sorted(settings)]
    path.with_suffix(".txt").write_text("\n\n".join(texts) + "\n")
    print("\n\n".join(texts))


if __name__ == "__main__":
    main()
