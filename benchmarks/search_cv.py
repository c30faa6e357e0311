"""Search estimators of scikit-learn's kind: CPU time to the score that 60 random candidates reach, rivals in one run.

    python benchmarks/search_cv.py              # what is missing in results/search_cv.jsonl, then the table
    python benchmarks/search_cv.py --table      # the table alone
    python benchmarks/search_cv.py --inside     # pruning inside fits against none, 20 seeds, in search_cv_inside.jsonl
    python benchmarks/search_cv.py --seeds 2 --out FILE   # fewer seeds; the targets are theirs, so a file of its own

Data come with scikit-learn; 5 folds, the same for all; one process, one thread. CPU time is that of the whole search:
proposals, fits and scores, without the last fit. RandomizedSearchCV runs first, with 5 seeds; the target of a problem
is the mean of their best scores. Rivals stop at the target, after 60 candidates, or when they have spent what random
search did; where inloop can prune inside the fits it goes on to the end, to compare what is found.
HalvingRandomSearchCV (60 candidates on growing samples) has one result a run, its best candidate's score on all rows,
found off the clock; it runs anew with other seeds until it meets the target, four times at most.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import lightgbm
import numpy as np
import optuna
import skopt
import xgboost
from inloop import Categorical, Float, Int
from inloop.distributions import Distribution
from inloop.integrations.sklearn import BayesSearchCV
from optuna_integration import OptunaSearchCV
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import ElasticNet
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR

from runner import stamp  # isort: skip

RESULTS = Path(__file__).parent / "results"
CANDIDATES, FOLDS, SEEDS = 60, 5, 5
INSIDE_SEEDS = 20  # five do not tell a loss of a few per mille from none
PATIENCE = 1.0  # a rival gives up after so many times the cost of the random search
FIRST = "RandomizedSearchCV"
Space = dict[str, Distribution]
Points = list[tuple[float, float]]  # CPU seconds since the start, score; one for each candidate


@dataclass(frozen=True)
class Problem:
    name: str
    estimator: Any
    space: Space
    data: Callable[[], tuple[Any, Any]]
    scoring: str
    inside: bool = False  # whether the estimator reports from inside its fits

    def cv(self) -> Any:
        kind = KFold if self.scoring == "r2" else StratifiedKFold
        return kind(FOLDS, shuffle=True, random_state=0)


def every(load: Callable[..., Any], step: int) -> Callable[[], tuple[Any, Any]]:
    def data() -> tuple[Any, Any]:
        X, y = load(return_X_y=True)
        return X[::step], y[::step]

    return data


BOOST: Space = {
    "learning_rate": Float(0.01, 1.0, log=True),
    "max_depth": Int(1, 5),
    "subsample": Float(0.3, 1.0),
    "colsample_bytree": Float(0.2, 1.0),
}
PROBLEMS = [
    Problem(
        "SVC, digits",
        make_pipeline(StandardScaler(), SVC()),
        {"svc__C": Float(1e-3, 1e3, log=True), "svc__gamma": Float(1e-5, 1.0, log=True)},
        every(load_digits, 5),
        "accuracy",
    ),
    Problem(
        "SVR, diabetes",
        make_pipeline(StandardScaler(), SVR()),
        {
            "svr__C": Float(1e-2, 1e3, log=True),
            "svr__gamma": Float(1e-5, 1.0, log=True),
            "svr__epsilon": Float(1e-2, 1e2, log=True),
        },
        every(load_diabetes, 1),
        "r2",
    ),
    Problem(
        "ElasticNet on products, diabetes",
        make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler(), ElasticNet(max_iter=300)),
        {"elasticnet__alpha": Float(1e-2, 1e3, log=True), "elasticnet__l1_ratio": Float(0.05, 1.0)},
        every(load_diabetes, 1),
        "r2",
    ),
    Problem(
        "LightGBM, breast cancer",
        lightgbm.LGBMClassifier(n_estimators=50, n_jobs=1, verbose=-1, subsample_freq=1, random_state=0),
        {
            "learning_rate": Float(0.01, 1.0, log=True),
            "num_leaves": Int(2, 64, log=True),
            "min_child_samples": Int(2, 64, log=True),
            "subsample": Float(0.3, 1.0),
            "colsample_bytree": Float(0.2, 1.0),
            "reg_lambda": Float(1e-3, 1e2, log=True),
        },
        every(load_breast_cancer, 2),
        "neg_log_loss",
        inside=True,
    ),
    Problem(
        "XGBoost, diabetes",
        xgboost.XGBRegressor(n_estimators=50, n_jobs=1, random_state=0),
        BOOST,
        every(load_diabetes, 1),
        "r2",
        inside=True,
    ),
    Problem(
        "GradientBoosting, diabetes",
        GradientBoostingRegressor(n_estimators=40, random_state=0),
        {
            "learning_rate": Float(0.01, 1.0, log=True),
            "max_depth": Int(1, 3),
            "subsample": Float(0.3, 1.0),
            "max_features": Float(0.1, 1.0),
        },
        every(load_diabetes, 2),
        "r2",
        inside=True,
    ),
    Problem(
        "XGBoost, digits",
        xgboost.XGBClassifier(n_estimators=30, n_jobs=1, random_state=0),
        BOOST,
        every(load_digits, 5),
        "neg_log_loss",
        inside=True,
    ),
    Problem(
        "MLP, wine",
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=60, random_state=0)),
        {
            "mlpclassifier__hidden_layer_sizes": Categorical([(8,), (32,), (128,), (32, 32)]),
            "mlpclassifier__alpha": Float(1e-6, 10.0, log=True),
            "mlpclassifier__learning_rate_init": Float(1e-4, 0.1, log=True),
        },
        every(load_wine, 1),
        "neg_log_loss",
    ),
]


@dataclass(frozen=True)
class Goal:
    score: float
    most: float  # CPU seconds after which a search gives up


class Clock:
    """A scorer that notes what it gave, and when."""

    def __init__(self, scoring: str) -> None:
        self._scorer = get_scorer(scoring)
        self._start = time.process_time()
        self.calls: Points = []

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        score = float(self._scorer(estimator, X, y))
        self.calls.append((time.process_time() - self._start, score))
        return score

    def points(self) -> Points:
        """Return the end and the mean score of each candidate that ran all of its folds."""
        groups = [self.calls[i : i + FOLDS] for i in range(0, len(self.calls) - FOLDS + 1, FOLDS)]
        return [(group[-1][0], float(np.mean([s for _, s in group]))) for group in groups]

    def over(self, goal: Goal) -> bool:
        points = self.points()
        return bool(points) and (points[-1][0] > goal.most or any(score >= goal.score for _, score in points))


def randomized(problem: Problem, seed: int, goal: Goal) -> dict[str, Any]:
    clock = Clock(problem.scoring)
    search = RandomizedSearchCV(
        problem.estimator, as_scipy(problem.space), n_iter=CANDIDATES, scoring=clock, cv=problem.cv(),
        random_state=seed, refit=False,
    )  # fmt: skip
    search.fit(*problem.data())
    return {"points": clock.points()}


def halving(problem: Problem, seed: int, goal: Goal) -> dict[str, Any]:
    X, y = problem.data()
    points: Points = []
    spent = 0.0
    for again in range(4):
        clock = Clock(problem.scoring)
        search = HalvingRandomSearchCV(
            problem.estimator, as_scipy(problem.space), n_candidates=CANDIDATES, min_resources="exhaust",
            scoring=clock, cv=problem.cv(), random_state=seed + 100 * again, refit=False,
        ).fit(X, y)  # fmt: skip
        spent += clock.calls[-1][0]
        model = problem.estimator.set_params(**search.best_params_)
        points.append((spent, float(np.mean(cross_val_score(model, X, y, cv=problem.cv(), scoring=problem.scoring)))))
        if points[-1][1] >= goal.score or spent > goal.most:
            break
    return {"points": points}


def scikit_optimize(problem: Problem, seed: int, goal: Goal) -> dict[str, Any]:
    clock = Clock(problem.scoring)
    search = skopt.BayesSearchCV(
        problem.estimator, as_skopt(problem.space), n_iter=CANDIDATES, scoring=clock, cv=problem.cv(),
        random_state=seed, refit=False,
    )  # fmt: skip
    try:
        search.fit(*problem.data(), callback=lambda result: clock.over(goal))
    except ValueError as error:  # its points may leave their bounds by rounding; it has not met the target then
        return {"points": clock.points(), "error": str(error)}
    return {"points": clock.points()}


def optuna_search(problem: Problem, seed: int, goal: Goal) -> dict[str, Any]:
    clock = Clock(problem.scoring)

    def stop(study: optuna.Study, trial: Any) -> None:
        if clock.over(goal):
            study.stop()

    search = OptunaSearchCV(
        problem.estimator, as_optuna(problem.space), n_trials=CANDIDATES, scoring=clock, cv=problem.cv(),
        random_state=seed, refit=False, callbacks=[stop],
    )  # fmt: skip
    search.fit(*problem.data())
    return {"points": clock.points()}


def ours(**options: Any) -> Callable[[Problem, int, Goal], dict[str, Any]]:
    def run(problem: Problem, seed: int, goal: Goal) -> dict[str, Any]:
        points: Points = []
        start = time.process_time()

        def note(search: Any, trial: Any) -> None:
            score = trial.value if trial.state.name == "COMPLETE" else -np.inf
            points.append((time.process_time() - start, score))
            if score >= goal.score and not problem.inside:
                search.study_.stop()

        search = BayesSearchCV(
            problem.estimator, problem.space, n_iter=CANDIDATES, scoring=problem.scoring, cv=problem.cv(),
            random_state=seed, refit=False, callbacks=note, **options,
        )  # fmt: skip
        search.fit(*problem.data())
        return {"points": points, "pruned": search.n_pruned_}

    return run


RIVALS: dict[str, Callable[[Problem, int, Goal], dict[str, Any]]] = {
    FIRST: randomized,
    "HalvingRandomSearchCV": halving,
    "scikit-optimize": scikit_optimize,
    "OptunaSearchCV": optuna_search,
    "inloop": ours(),
    "inloop, folds": ours(pruner="auto"),
    "inloop, iterations": ours(pruner="auto", resource="iterations"),
}


def as_scipy(space: Space) -> dict[str, Any]:
    def of(d: Distribution) -> Any:
        if isinstance(d, Categorical):
            return list(d.choices)
        if isinstance(d, Int):
            # no logarithmic integers there: each with the probability that the logarithm gives it
            values = np.arange(d.low, d.high + 1)
            mass = np.log((values + 0.5) / (values - 0.5)) if d.log else np.ones(len(values))
            return stats.rv_discrete(values=(values, mass / mass.sum()))
        assert isinstance(d, Float)
        return stats.loguniform(d.low, d.high) if d.log else stats.uniform(d.low, d.high - d.low)

    return {n: of(d) for n, d in space.items()}


def as_skopt(space: Space) -> dict[str, Any]:
    def of(d: Distribution) -> Any:
        if isinstance(d, Categorical):
            return list(d.choices)
        assert isinstance(d, Int | Float)
        return (d.low, d.high, "log-uniform" if d.log else "uniform")

    return {n: of(d) for n, d in space.items()}


def as_optuna(space: Space) -> dict[str, Any]:
    def of(d: Distribution) -> Any:
        if isinstance(d, Categorical):
            return optuna.distributions.CategoricalDistribution(d.choices)
        if isinstance(d, Int):
            return optuna.distributions.IntDistribution(d.low, d.high, log=d.log)
        assert isinstance(d, Float)
        return optuna.distributions.FloatDistribution(d.low, d.high, log=d.log)

    return {n: of(d) for n, d in space.items()}


def run(name: str, rival: str, seed: int, goal: Goal) -> dict[str, Any]:
    problem = next(p for p in PROBLEMS if p.name == name)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    out = RIVALS[rival](problem, seed, goal)
    out["points"] = [(round(t, 4), float(f"{s:.8g}")) for t, s in out["points"]]
    return {"problem": name, "rival": rival, "seed": seed, "target": goal.score, **out}


def overhead() -> dict[str, Any]:
    """Return CPU milliseconds per candidate of a model that costs nothing, 6 parameters, one fold."""

    class Free(DummyRegressor):  # takes any parameters
        def set_params(self, **params: Any) -> Any:
            return self

    space: Space = {f"p{k}": Float(0.0, 1.0) for k in range(6)}
    X, y = np.zeros((20, 1)), np.arange(20.0)
    rng = np.random.default_rng(0)
    split = [(np.arange(10), np.arange(10, 20))]
    out = {}
    for name, make in {
        "RandomizedSearchCV": lambda score: RandomizedSearchCV(
            Free(), as_scipy(space), n_iter=CANDIDATES, cv=split, scoring=score, refit=False
        ),
        "inloop": lambda score: BayesSearchCV(
            Free(), space, n_iter=CANDIDATES, cv=split, scoring=score, refit=False, random_state=0
        ),
    }.items():
        start = time.process_time()
        make(lambda *_: rng.random()).fit(X, y)
        out[name] = round(1e3 * (time.process_time() - start) / CANDIDATES, 2)
    return {"overhead": out}


def reached(points: Points, target: float) -> tuple[float, bool]:
    """Return the CPU seconds to a target, and whether it was met; if not, all that were spent."""
    return next(((t, True) for t, score in points if score >= target), (points[-1][0], False))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the ratios, by problem and over all."""
    runs = {(r["problem"], r["rival"], r["seed"]): r for r in rows if "points" in r}
    problems = [p for p in PROBLEMS if any(p.name == k[0] for k in runs)]
    counts = [
        sum((p.name, name, s) in runs for s in range(SEEDS)) for p in problems for name in RIVALS if name != FIRST
    ]
    counts = [n for n in counts if n]
    seeds = f"{' to '.join(dict.fromkeys(str(n) for n in (min(counts, default=0), max(counts, default=0))))} seeds"
    lines = [
        "CPU seconds to the mean best score of 60 candidates of RandomizedSearchCV, whose own cost is that of all 60:",
        f"mean over {seeds}; runs that missed it count with all they spent, one that raised an error with all it was",
        "given; in brackets the number of misses.",
        "",
        f"{'':36}" + "".join(f"{name:>23}" for name in RIVALS),
    ]
    ratios: dict[str, list[float]] = {name: [] for name in RIVALS}
    means: dict[str, list[float]] = {name: [] for name in RIVALS}
    missed = dict.fromkeys(RIVALS, 0)
    for p in problems:
        base = [runs[p.name, FIRST, s]["points"][-1][0] for s in range(SEEDS) if (p.name, FIRST, s) in runs]
        cells = []
        for name in RIVALS:
            got = [runs[k] for s in range(SEEDS) if (k := (p.name, name, s)) in runs]
            if not got:
                cells.append("")
                continue
            ends = [
                (PATIENCE * float(np.mean(base)), False) if "error" in r else reached(r["points"], r["target"])
                for r in got
            ]
            if name == FIRST:
                ends = [(t, True) for t in base]
            missed[name] += sum(not met for _, met in ends)
            means[name].append(float(np.mean([t for t, _ in ends])))
            ratios[name] += [b / t for b, (t, _) in zip(base, ends, strict=False)]
            cells.append(f"{means[name][-1]:.2f} ({sum(not met for _, met in ends)})")
        lines.append(f"{p.name:36}" + "".join(f"{c:>23}" for c in cells))
    gains = [f"{np.exp(np.mean(np.log(ratios[n]))):.2f}x ({missed[n]})" if ratios[n] else "" for n in RIVALS]
    lines += ["", f"{'times less, geometric mean (misses)':36}" + "".join(f"{g:>23}" for g in gains)]
    lines += [f"{'seconds, sum of the means':36}" + "".join(f"{sum(means[n]):>23.1f}" for n in RIVALS), ""]
    first = []
    for p in problems:
        same = [runs[p.name, FIRST, s] for s in range(SEEDS) if (p.name, FIRST, s) in runs]
        goal = goal_of(same).score
        first += [reached(r["points"], goal)[0] / r["points"][-1][0] for r in same]
    lines.append(
        f"{FIRST} first meets the target itself after {np.mean(first):.0%} of its cost (a miss counts as all)."
    )
    lines += ["", *pruning(runs, problems, SEEDS)]
    lines += [f"CPU per candidate beside the fit: {r['overhead']} ms" for r in rows if "overhead" in r]
    return "\n".join(lines)


def pruning(runs: dict[Any, dict[str, Any]], problems: Iterable[Problem], seeds: int) -> list[str]:
    """Return what pruning saves over 60 candidates, and the final scores."""
    problems = [p for p in problems if p.inside]  # the others stop at the target
    lines = ["All 60 candidates of inloop: CPU without pruning / with, and the final score without -> with (and its"]
    lines += ["standard error over the seeds of the difference):"]
    for rival in ("inloop, folds", "inloop, iterations"):
        saved, z = [], []
        for p in problems:
            pairs = [
                (runs[p.name, "inloop", s], runs[p.name, rival, s])
                for s in range(seeds)
                if (p.name, rival, s) in runs and (p.name, "inloop", s) in runs
            ]
            if not pairs:
                continue
            ratio = [a["points"][-1][0] / b["points"][-1][0] for a, b in pairs]
            finals = np.array([[max(s for _, s in r["points"]) for r in pair] for pair in pairs])
            diff = finals[:, 1] - finals[:, 0]
            error = diff.std(ddof=1) / np.sqrt(len(diff)) if len(diff) > 1 else np.nan
            saved += ratio
            z.append(diff.mean() / error if error > 0 else 0.0)
            lines.append(
                f"  {rival:20}{p.name:38}{np.exp(np.mean(np.log(ratio))):6.2f}x   {finals[:, 0].mean():.5f} -> "
                f"{finals[:, 1].mean():.5f} (+- {error:.5f})"
            )
        if saved:
            lines += [f"  {rival:20}{'all':38}{np.exp(np.mean(np.log(saved))):6.2f}x   mean z {np.mean(z):+.2f}"]
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--inside", action="store_true")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--problems", nargs="*", default=[p.name for p in PROBLEMS])
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS))
    parser.add_argument("--out", type=Path, default=RESULTS / "search_cv.jsonl")
    args = parser.parse_args()
    if args.inside:
        inside(args.workers, args.table)
        return
    rows = read(args.out)
    if not args.table:
        with args.out.open("a") as out, ProcessPoolExecutor(args.workers) as pool:
            for row in work(args, rows, pool):
                rows.append(row)
                out.write(json.dumps(row) + "\n")
                out.flush()
    text = table(rows)
    print(text)
    if args.out.parent == RESULTS:
        (RESULTS / "search_cv.txt").write_text(text + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def inside(workers: int, done: bool) -> None:
    """Run what is missing of all candidates with pruning inside the fits and without, and print what it saves."""
    path = RESULTS / "search_cv_inside.jsonl"
    rows = read(path)
    problems = [p for p in PROBLEMS if p.inside]
    there = {(r["problem"], r["rival"], r["seed"]) for r in rows if "points" in r}
    both = ("inloop", "inloop, iterations")
    tasks = [(p.name, v, s, goal_of([])) for s in range(INSIDE_SEEDS) for p in problems for v in both]
    tasks = [t for t in tasks if t[:3] not in there and not done]
    with path.open("a") as out, ProcessPoolExecutor(workers) as pool:
        for row in chain(() if rows else [stamp()], pool.map(run, *zip(*tasks, strict=True)) if tasks else ()):
            rows.append(row)
            out.write(json.dumps(row) + "\n")
            out.flush()
    runs = {(r["problem"], r["rival"], r["seed"]): r for r in rows if "points" in r}
    text = "\n".join(pruning(runs, problems, INSIDE_SEEDS))
    print(text)
    (RESULTS / "search_cv_inside.txt").write_text(text)


def goal_of(runs: list[dict[str, Any]]) -> Goal:
    if not runs:
        return Goal(0.0, np.inf)
    best = np.mean([max(s for _, s in r["points"]) for r in runs])
    return Goal(float(best), PATIENCE * float(np.mean([r["points"][-1][0] for r in runs])))


def work(args: argparse.Namespace, rows: list[dict[str, Any]], pool: ProcessPoolExecutor) -> Iterable[dict[str, Any]]:
    """Yield the missing rows: first what random search reaches, then the rivals."""
    done = {(r["problem"], r["rival"], r["seed"]) for r in rows if "points" in r}
    if not any("versions" in r for r in rows):
        yield stamp()
    for rivals in ([FIRST], [r for r in args.rivals if r != FIRST]):
        goals = {
            p.name: goal_of([r for r in rows if (r.get("problem"), r.get("rival")) == (p.name, FIRST)])
            for p in PROBLEMS
        }
        tasks = [
            (p.name, rival, seed, goals[p.name])
            for seed in range(args.seeds)
            for p in PROBLEMS
            for rival in rivals
            if p.name in args.problems and (p.name, rival, seed) not in done
            if rival != "inloop, iterations" or p.inside
        ]
        yield from pool.map(run, *zip(*tasks, strict=True)) if tasks else ()
    if not any("overhead" in r for r in rows):
        yield pool.submit(overhead).result()


if __name__ == "__main__":
    main()
