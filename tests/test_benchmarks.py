"""The benchmark of samplers runs what it is asked for, and scores it as it says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules of the benchmarks, which are scripts and not part of the package."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    import problems
    import report
    import runner

    yield problems, report, runner
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_running_trials_at_once_changes_only_what_the_rival_knows(benchmarks):
    problems, _, runner = benchmarks
    problem = problems.load("hartmann/6")
    alone, many = (runner.run(problem, "random", 0, 12, pending=k) for k in (1, 4))
    assert alone["losses"] == many["losses"]
    alone, many = (runner.run(problem, "inloop TPE", 0, 16, pending=k) for k in (1, 4))
    assert alone["losses"][:10] == many["losses"][:10]
    assert alone["losses"] != many["losses"]


def test_noise_is_in_what_is_told_and_the_same_for_all(benchmarks):
    problems, _, runner = benchmarks
    problem = problems.load("ackley/2")
    runs = [runner.run(problem, rival, 1, 8, noise=0.1, sd=0.5) for rival in ("random", "inloop TPE")]
    errors = [np.array(r["told"]) - r["losses"] for r in runs]
    assert np.allclose(errors[0], errors[1])
    assert 0.1 < np.std(errors[0]) < 2


def test_a_run_stands_by_the_best_loss_it_was_told(benchmarks):
    _, report, _ = benchmarks
    rows = [
        {"problem": "p", "median": 2.0, "least": 0.0, "exact": 0.0},
        {"problem": "p", "rival": "r", "seed": 0, "cpu_ms": 1.0, "losses": [2, 1, 4, 1], "told": [3, 2, 1, 1]},
    ]
    assert report.Scores(rows).regret["r"].ravel().tolist() == [1, 0.5, 2, 2]
    assert report.Scores(rows, visited=True).regret["r"].ravel().tolist() == [1, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", ["mixed/8", "choices/50", "rosenbrock/3", "ellipsoid/1"])
def test_the_formulas_are_nowhere_below_the_best_they_name(benchmarks, name):
    problems, _, _ = benchmarks
    problem = problems.load(name)
    assert min(problem.sample(200)) >= problem.best


@pytest.mark.slow
def test_real_trainings_are_repeatable(benchmarks):
    pytest.importorskip("lightgbm")
    problems, _, _ = benchmarks
    for name in problems.TRAINED:
        problem = problems.load(name)
        losses = problem.sample(6)
        assert np.isfinite(losses).all(), name
        assert losses == problem.sample(6), name


@pytest.mark.slow
def test_one_command_runs_what_is_missing_and_reports_it(tmp_path):
    pytest.importorskip("matplotlib")
    settings = {
        "name": "tiny", "problems": "hartmann/6", "rivals": "random,inloop", "trials": "2", "noise": ".15",
        "pending": "1,2", "results": tmp_path,
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    command = [sys.executable, FOLDER / "quality.py", *options, "--seeds"]
    for seeds in ("1", "2", "2"):
        subprocess.run([*command, seeds], check=True, capture_output=True)
    rows = [json.loads(line) for line in (tmp_path / "tiny.jsonl").read_text().splitlines()]
    assert sum("losses" in r for r in rows) == 2 * 2 * 2  # rivals, pending, seeds
    assert "inloop, 2 pending" in (tmp_path / "tiny.txt").read_text()
    assert (tmp_path / "tiny.png").stat().st_size > 0
    others = [*command, "1", "--rivals", "random,inloop TPE", "--pending", "2"]  # none is what is compared by default
    assert b"against the row" in subprocess.run(others, check=True, capture_output=True).stdout
    wrong = subprocess.run([*others, "--against", "nobody"], check=False, capture_output=True)
    assert wrong.returncode
    assert b"'nobody' is none of the rivals" in wrong.stderr
