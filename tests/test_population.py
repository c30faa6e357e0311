"""Laws of population-based training, on quick arithmetic and on real training."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import itertools
import logging
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, PopulationStudy, Space, TrialState
from inloop.population import Segment, explored, perturbed
from inloop.samplers import GridSampler
from scipy import stats

RATE = {"rate": Float(1e-4, 1, log=True)}
MIXED = Space(
    {
        "kind": Categorical(["a", "b"]),
        "rate": Float(1e-4, 1, log=True),
        "share": Float(0, 1),
        "grid": Float(-1, 1, step=0.25),
        "depth": Int(1, 9),
        "even": Int(0, 100, step=2),
        "width": Int(1, 1000, log=True),
        "batch": Categorical([16, 32, 64, 128]),
        "norm": stats.norm(0, 1),
        "only_a": Float(2, 3),
        "only_b": Int(5, 6),
    },
    when={"only_a": {"kind": ["a"]}, "only_b": {"kind": ["b"]}},
)
FILES = {"save": lambda w, path: path.write_text(repr(w)), "load": lambda path: float(path.read_text())}


def descend(segment, weight):
    """Go down w**2 from 5, as far as the rate lets it; too high a rate diverges."""
    weight = 5.0 if weight is None else weight
    for _ in segment.steps:
        weight -= 2 * segment.params["rate"] * weight
    return weight, weight**2


def train_file(segment):
    """The same, for workers: loads and saves itself."""
    weight, value = descend(segment, None if segment.checkpoint is None else FILES["load"](segment.checkpoint))
    FILES["save"](weight, segment.path)
    return value


def population(space=RATE, **kwargs):
    return PopulationStudy(
        space, **{"population": 6, "interval": 5, "quantile": 0.34, "steps": 30, "seed": 3, **kwargs}
    )


def trained(train=descend, options=None, **kwargs):
    study = population(**kwargs)
    study.optimize(train, **FILES, **(options or {}))
    return study


def log(study):
    """All that is to be the same for the same seed."""
    return [(t.number, t.state, t.value, t.params, t.curve, t.user_attrs) for t in study.trials]


def reached(trial):
    return max(trial.curve, default=trial.user_attrs["start"])


# What a population is


def test_it_finds_what_is_good():
    study = trained()
    assert study.finished
    assert study.best_value == min(t.value for t in study.trials if t.state.name == "COMPLETE")
    assert study.best_value < 1e-9


def test_it_maximizes_too():
    study = trained(lambda s, w: (lambda w, v: (w, -v))(*descend(s, w)), direction="maximize")
    assert study.best_value > -1e-9
    assert [t.params for t in study.trials] == [t.params for t in trained().trials]


@pytest.mark.parametrize("options", [{"n_jobs": 1}, {"n_jobs": np.int64(3)}, {"n_jobs": -1}])
def test_a_seed_gives_one_population_whatever_the_threads(options):
    one, two = trained(), trained(options=options)
    assert log(one) == log(two)
    assert log(one) != log(trained(seed=4))


@contextlib.contextmanager
def ray():
    ray = pytest.importorskip("ray")
    from inloop.integrations.ray import RayExecutor

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        yield RayExecutor()
    finally:
        ray.shutdown()


EXECUTORS = {"processes": lambda: ProcessPoolExecutor(2), "ray": ray}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXECUTORS)
def test_executors_train_it_too(name):
    study = population()
    with EXECUTORS[name]() as executor:
        study.optimize(train_file, executor=executor)
    assert log(study) == log(trained())


def test_threads_train_at_the_same_time():
    barrier = threading.Barrier(3, timeout=20)

    def train(segment, weight):
        barrier.wait()
        return descend(segment, weight)

    assert trained(train, {"n_jobs": 3}, population=3).finished


@pytest.mark.parametrize("quantile", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize(("interval", "steps"), [(1, 4), (4, 4), (3, 10)])
def test_every_member_trains_all_steps(size, quantile, interval, steps):
    spent = []

    def train(segment, weight):
        spent.extend((segment.member, step) for step in segment.steps)
        return descend(segment, weight)

    study = trained(train, population=size, quantile=quantile, interval=interval, steps=steps)
    assert sorted(spent) == list(itertools.product(range(size), range(steps)))
    assert [t.state.name for t in study.trials].count("COMPLETE") == size
    replaced = len(study.trials) - size
    assert replaced <= (math.ceil(steps / interval) - 1) * max(1, int(quantile * size))
    assert bool(replaced) == (interval < steps)


def test_a_child_goes_on_from_its_donor_where_it_was():
    seen = {}

    def train(segment, weight):
        out = descend(segment, weight)
        seen[segment.number, segment.start] = weight
        seen[segment.number, segment.stop] = out[0]
        return out

    study = trained(train)
    children = [t for t in study.trials if t.user_attrs["parent"] is not None]
    assert children
    for child in children:
        parent, start = study.trials[child.user_attrs["parent"]], child.user_attrs["start"]
        before = next(
            t for t in study.trials if t.user_attrs["member"] == child.user_attrs["member"] and reached(t) == start
        )
        assert seen[child.number, start] == seen[parent.number, start]
        assert parent.curve[start] < before.curve[start]
        assert before.state.name == "PRUNED"
        assert child.params != parent.params
        assert min(child.curve) == start + 5


def test_the_worst_go_on_from_the_best():
    study = population(population=10, quantile=0.3, steps=10)
    first = [study.ask() for _ in range(10)]
    for i, segment in enumerate(first):
        segment.path.write_text("")
        study.tell(segment, float(i))
    study.ask()
    states = [t.state.name for t in study.trials[:10]]
    assert states == ["RUNNING"] * 7 + ["PRUNED"] * 3
    assert {t.user_attrs["parent"] for t in study.trials[10:]} <= {0, 1, 2}
    assert [t.user_attrs["member"] for t in study.trials[10:]] == [7, 8, 9]


def test_equals_are_left_alone():
    study = trained(lambda segment, weight: (0.0, 1.0))
    assert len(study.trials) == 6


def test_the_schedule_can_be_replayed():
    study = trained()
    schedule = study.schedule()
    assert [start for start, _ in schedule] == sorted({start for start, _ in schedule})
    assert schedule[0][0] == 0
    assert schedule[-1][1] == study.best_trial.params
    assert study.replay(descend, **FILES) == study.best_value
    for trial in study.trials:
        assert study.replay(descend, **FILES, trial=trial) == (
            trial.value if trial.value is not None else trial.curve[reached(trial)]
        )
    weight = 5.0
    for step in range(30):
        weight -= 2 * weight * next(p for start, p in reversed(schedule) if start <= step)["rate"]
    assert weight**2 == study.best_value


def test_a_replay_can_leave_its_checkpoints(tmp_path):
    study = trained()
    study.replay(descend, **FILES, folder=tmp_path / "again")
    assert len(list((tmp_path / "again").iterdir())) == 6
    last = tmp_path / "again" / study.best_checkpoint.name
    assert last.read_text() == study.best_checkpoint.read_text()
    with pytest.raises(ValueError, match=r"replay: .* holds the checkpoints of a population; give another folder"):
        study.replay(descend, **FILES, folder=study.folder)


def test_only_needed_checkpoints_are_there(tmp_path):
    most = []

    def train(segment, weight):
        most.append(len(list(tmp_path.iterdir())))
        assert (segment.checkpoint is None) == (segment.start == 0)
        return descend(segment, weight)

    (tmp_path / "notes.txt").write_text("not a checkpoint")
    study = trained(train, folder=tmp_path)
    assert max(most) <= 1 + 2 * 6
    ends = {f"{t.number}-30" for t in study.trials if t.state.name == "COMPLETE"}
    assert {p.name for p in tmp_path.iterdir()} == ends | {"notes.txt", "study"}
    assert FILES["load"](study.best_checkpoint) ** 2 == study.best_value


def test_a_checkpoint_may_be_a_link_of_which_the_target_is_left_alone(tmp_path):
    targets = tmp_path / "targets"
    targets.mkdir()

    def save(weight, path):
        target = targets / path.name
        target.mkdir()
        (target / "weight").write_text(repr(weight))
        path.symlink_to(target)

    study = population(folder=tmp_path / "study")
    study.optimize(descend, save, lambda path: float((path / "weight").read_text()))
    assert log(study) == log(trained())
    assert len(list(targets.iterdir())) == sum(len(range(t.user_attrs["start"], reached(t), 5)) for t in study.trials)


def test_training_may_work_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = population(folder="checkpoints")
    (tmp_path / "elsewhere").mkdir()

    def train(segment, weight):
        monkeypatch.chdir(tmp_path / "elsewhere")
        return descend(segment, weight)

    study.optimize(train, **FILES)
    assert log(study) == log(trained())
    assert study.best_checkpoint.is_relative_to(tmp_path / "checkpoints")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_checkpoints_alone():
    study = population()
    child = os.fork()
    if not child:
        try:
            del study  # as the end of the process does
            gc.collect()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    study.optimize(descend, **FILES)
    assert log(study) == log(trained())


def test_no_segment_is_trained_once_optimize_has_raised():
    begun = []

    def train(segment, weight):
        begun.append(segment)
        time.sleep(0.05)
        if len(begun) == 1:
            raise ZeroDivisionError
        return descend(segment, weight)

    with ThreadPoolExecutor(1) as executor:
        study = population()
        with pytest.raises(ZeroDivisionError):
            study.optimize(train, **FILES, executor=executor, catch=())
        there = len(begun)
        assert there <= 2
        time.sleep(0.3)
        assert len(begun) == there
        study.optimize(train, **FILES, executor=executor)
    assert log(study) == log(trained())


def test_a_search_that_is_stopped_ends_after_the_running_segments_and_goes_on():
    study, segments = population(), []

    def train(segment, weight):
        segments.append(segment)
        if len(segments) == 8:
            study.study.stop()
        return descend(segment, weight)

    study.optimize(train, **FILES)
    assert len(segments) == 12
    study.optimize(train, **FILES)
    assert log(study) == log(trained())


def test_a_checkpoint_may_be_a_folder_and_have_a_suffix(tmp_path):
    def save(weight, path):
        path.mkdir()
        (path / "weight").write_text(repr(weight))

    def train(segment, weight):
        if (segment.number, segment.start) == broken:
            segment.path.mkdir()
            raise KeyboardInterrupt
        return descend(segment, weight)

    study, broken, load = (
        population(folder=tmp_path, suffix=".model"),
        (4, 5),
        lambda path: float((path / "weight").read_text()),
    )
    with pytest.raises(KeyboardInterrupt):
        study.optimize(train, save, load)
    broken = None
    study.optimize(train, save, load)
    assert log(study) == log(trained())
    models = [p for p in tmp_path.iterdir() if p.name != "study"]
    assert {p.suffix for p in models} == {".model"}
    assert len(models) == 6


def test_a_loop_of_ones_own():
    study = population()
    while not study.finished:
        segment = study.ask()
        assert f" {segment.start} of 30 steps" in repr(study)
        study.tell(segment, train_file(segment))
    assert " 30 of 30 steps" in repr(study)
    assert log(study) == log(trained())
    with pytest.raises(inloop.StudyStopped, match="30 steps"):
        study.ask()


def test_the_parameters_of_a_segment_may_be_changed():
    def train(segment, model):
        segment.params["layers"].append(1)
        return 0.0, float(len(segment.params["layers"]))

    study = trained(train, space={"layers": [[8], [8, 8]]})
    assert {t.value for t in study.trials if t.value is not None} <= {2.0, 3.0}
    assert all(t.params["layers"] in ([8], [8, 8]) for t in study.trials)


def test_a_logger_may_show_the_population_in_another_thread(caplog):
    shown = []

    class Shows(logging.Handler):
        def emit(self, record):
            thread = threading.Thread(target=lambda: shown.append(repr(study)), daemon=True)
            thread.start()
            thread.join(20)

    study = population()
    logger, handler = logging.getLogger("inloop"), Shows()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "inloop"):
            study.optimize(descend, **FILES)
    finally:
        logger.removeHandler(handler)
    assert len(shown) == sum("goes on from" in text for text in caplog.messages) > 0


def test_first_parameters_can_be_enqueued_or_sampled():
    study = population(sampler="qmc")
    study.study.enqueue_trial({"rate": 0.5})
    study.optimize(descend, **FILES)
    assert study.trials[0].params == {"rate": 0.5}
    assert study.best_value == 0.0


@pytest.mark.parametrize("sampler", ["auto", GridSampler({"r": [0.1, 0.2, 0.3]})])
def test_a_population_may_be_larger_than_its_space(sampler):
    study = PopulationStudy({"r": [0.1, 0.2, 0.3]}, sampler=sampler, population=7, interval=3, steps=9, seed=0)
    study.optimize(lambda segment, weight: (0.0, segment.params["r"]), **FILES)
    assert {t.params["r"] for t in study.trials} >= {0.1, 0.2, 0.3}
    assert study.best_value <= 0.1


def test_it_is_imported_when_first_used():
    code = "import sys, inloop; assert 'inloop.population' not in sys.modules; inloop.PopulationStudy"
    subprocess.run([sys.executable, "-c", code], check=True)


# Exploring


def test_explored_parameters_stay_in_the_space():
    rng = np.random.default_rng(0)
    params = MIXED.decode(rng.random(len(MIXED)))
    moved = dict.fromkeys(MIXED, 0)
    for _ in range(2000):
        before, params = params, explored(MIXED, params, rng, resample=0.1)
        assert MIXED.check(params) == params
        assert sorted(MIXED.active(params)) == sorted(params)
        for name in params.keys() & before.keys():
            moved[name] += params[name] != before[name]
    assert min(moved.values()) > 20
    assert trained(lambda s, w: (0.0, float(len(s.params))), space=MIXED).finished


@pytest.mark.parametrize(
    ("dist", "value", "up", "down"),
    [
        (Float(1e-4, 1, log=True), 0.1, 0.125, 0.08),
        (Float(1e-4, 1, log=True), 0.9, 1.0, 0.72),
        (Float(-1, 1), 0.0, 0.2, -0.2),
        (Float(-1, 1), 1.0, 1.0, 0.8),
        (Float(0, 1, step=0.25), 0.5, 0.75, 0.25),
        (Float(0, 1, step=0.25), 1.0, 1.0, 0.75),
        (Int(1, 9), 5, 6, 4),
        (Int(0, 100, step=2), 50, 60, 40),
        (Int(1, 100, log=True), 40, 50, 32),
        (Int(1, 100, log=True), 1, 2, 1),
        (Categorical([16, 32, 64]), 32, 64, 16),
        (Categorical([0.3, 0.2, 0.1]), 0.3, 0.2, 0.3),
        (Categorical(["a", "b"]), "a", "a", "a"),
        (Categorical([True, False]), True, True, True),
        (Float(2, 2), 2.0, 2.0, 2.0),
        (Int(2, 2), 2, 2, 2),
    ],
)
def test_a_value_moves_to_its_neighbours(dist, value, up, down):
    for side, expected in ((1, up), (-1, down)):
        moved = perturbed(dist, value, 1.25, side)
        assert moved == pytest.approx(expected)
        assert type(moved) is type(value)
        assert dist.contains(moved)


def test_what_is_kept_stays():
    study = trained(lambda s, w: (0.0, s.params["share"]), space=MIXED, keep=["kind", "width"], resample=1.0)
    children = [t for t in study.trials if t.user_attrs["parent"] is not None]
    assert children
    for child in children:
        parent = study.trials[child.user_attrs["parent"]]
        assert [child.params[n] for n in ("kind", "width")] == [parent.params[n] for n in ("kind", "width")]


@pytest.mark.parametrize(("resample", "factor"), [(0.0, 1.25), (0.0, 2.0), (1.0, 1.25)])
def test_parameters_are_perturbed_or_drawn_anew(resample, factor):
    study = trained(resample=resample, factor=factor)
    near = [
        math.isclose(
            abs(math.log(t.params["rate"] / study.trials[t.user_attrs["parent"]].params["rate"])), math.log(factor)
        )
        or t.params["rate"] in (1e-4, 1.0)
        for t in study.trials
        if t.user_attrs["parent"] is not None
    ]
    assert near
    assert all(near) == (resample == 0.0)


# What goes wrong


@pytest.mark.parametrize("how", ["raises", "nan"])
@pytest.mark.parametrize("when", [0, 10, 25])
def test_a_member_that_fails_is_replaced(how, when):
    def train(segment, weight):
        if segment.start == when and segment.member in (1, 4, 5):
            if how == "raises":
                raise OSError("out of memory")
            return math.nan, math.nan
        return descend(segment, weight)

    study = trained(train)
    failed = [t for t in study.trials if t.state.name == "FAILED"]
    assert sorted(t.user_attrs["member"] for t in failed) == [1, 4, 5]
    assert all(reached(t) == when + 5 * (how == "nan") for t in failed)
    assert study.finished
    ends = [t.user_attrs["member"] for t in study.trials if t.state.name == "COMPLETE"]
    assert sorted(ends) == [0, 2, 3] if when == 25 else list(range(6))
    assert study.best_value == min(t.value for t in study.trials if t.state.name == "COMPLETE")


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_values_are_numbers(value):
    study = trained(lambda s, w: (0.0, value if s.member == 2 else descend(s, 5.0)[1]))
    assert study.finished
    assert (study.best_value == -math.inf) == (value < 0)


@pytest.mark.parametrize("start", [0, 10, 25])
def test_nobody_left_is_an_error_after_which_one_can_go_on(start, tmp_path):
    def train(segment, weight):
        if segment.start == start:
            raise OSError("no space left")
        return descend(segment, weight)

    kept = {"folder": tmp_path / "checkpoints", "storage": str(tmp_path / "study.db"), "study_name": "pbt"}
    for _ in range(2):
        study = population(**kept, load_if_exists=True)
        match = f"All members failed up to step {start + 5}.* as they were at step {start}: optimize tries them again"
        with pytest.raises(RuntimeError, match=match) as caught:
            study.optimize(train, **FILES)
        assert isinstance(caught.value.__cause__, OSError)
        assert {reached(t) for t in study.trials if t.state.name == "RUNNING"} == {start}
        assert {t.state.name for t in study.trials} <= {"PRUNED", "RUNNING"}
    study.optimize(descend, **FILES)
    assert log(study) == log(trained())


def test_who_raised_while_others_became_nan_is_tried_again():
    def train(segment, weight):
        if segment.start == 10 and fail:
            if segment.member < 4:
                raise OSError("no space left")
            return math.nan, math.nan
        return descend(segment, weight)

    study, fail = population(), True
    with pytest.raises(RuntimeError, match="All members failed up to step 15"):
        study.optimize(train, **FILES)
    fail = False
    study.optimize(train, **FILES)
    assert {t.user_attrs["member"] for t in study.trials if t.state.name == "FAILED"} == {4, 5}
    assert study.finished


def train_killed(folder, times, segment):
    """Train as others do; but a member ends its worker at a step, so many times."""
    if segment.member == 2 and segment.start == 10 and len(list(folder.iterdir())) < times:
        tempfile.mkstemp(dir=folder)
        os._exit(9)
    return train_file(segment)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("name", EXECUTORS)
def test_a_worker_that_dies_costs_its_segment_only(name, times, tmp_path):
    train, study = functools.partial(train_killed, tmp_path, times), population()
    with EXECUTORS[name]() as executor:
        study.optimize(train, executor=executor)
    assert study.finished
    if times < 3:
        assert log(study) == log(trained())
    else:  # it died when it was alone: it is as one that raises an exception
        failed = [t for t in study.trials if t.state.name == "FAILED"]
        assert [(t.user_attrs["member"], reached(t)) for t in failed] == [(2, 10)]


@pytest.mark.slow
def test_a_member_that_always_kills_its_worker_raises_what_is_not_caught(tmp_path):
    with ProcessPoolExecutor(3) as pool, pytest.raises(BrokenProcessPool):
        population().optimize(functools.partial(train_killed, tmp_path, 99), executor=pool, catch=OSError)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("start", [0, 10, 25])
def test_a_population_of_nan_leaves_no_trial_running(start):
    study = population()
    with pytest.raises(RuntimeError, match="or are NaN"):
        study.optimize(lambda s, w: (0.0, math.nan) if s.start == start else descend(s, w), **FILES)
    assert {t.state.name for t in study.trials} <= {"FAILED", "PRUNED"}


def test_errors_that_are_not_caught_are_raised_and_one_can_go_on():
    def train(segment, weight):
        if segment.start == 10 and fail:
            raise OSError("disk full")
        return descend(segment, weight)

    study, fail = population(), True
    with pytest.raises(OSError, match="disk full"):
        study.optimize(train, **FILES, catch=())
    fail = False
    study.optimize(train, **FILES)
    assert log(study) == log(trained())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [1, 6, 20, 36])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupt_keeps_what_was_told(error, at, n_jobs):
    count = itertools.count(1)

    def train(segment, weight):
        if next(count) == at:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                raise error  # noqa: B904
        return descend(segment, weight)

    study = population()
    try:
        raise ValueError("while this is handled")  # as in a program's own clean-up
    except ValueError:
        with pytest.raises(KeyboardInterrupt):
            study.optimize(train, **FILES, n_jobs=n_jobs)
    if n_jobs == 1:
        assert sum(len(t.curve) for t in study.trials) == at - 1
    study.optimize(train, **FILES)
    assert log(study) == log(trained())


@pytest.mark.parametrize("at", [1, 6, 7, 20, 36])
def test_a_study_in_a_file_is_resumed(tmp_path, at):
    kept = {"folder": tmp_path / "checkpoints", "storage": str(tmp_path / "study.db"), "study_name": "pbt"}
    count = itertools.count(1)

    def train(segment, weight):
        if next(count) == at:
            raise KeyboardInterrupt
        return descend(segment, weight)

    with pytest.raises(KeyboardInterrupt):
        population(**kept).optimize(train, **FILES)
    study = population(**kept, load_if_exists=True, seed=99)
    study.optimize(descend, **FILES)
    assert log(study) == log(trained())
    again = population(**kept, load_if_exists=True)
    assert again.finished
    assert again.schedule() == study.schedule()
    assert again.replay(descend, **FILES) == study.best_value


def give_back(study, trials):
    """Do what any process does that has heard nothing of the worker of running trials."""
    for trial in trials:
        study._log.finish(trial, TrialState.LOST, None)


def ends(study):
    """What the members came to, and how."""
    done = [t for t in study.trials if t.state is TrialState.COMPLETE]
    return sorted((t.user_attrs["member"], t.value, [list(g) for g in changes(study.schedule(t))]) for t in done)


def changes(schedule):
    """Return a schedule without the places where nothing changes."""
    return [part for i, part in enumerate(schedule) if not i or part[1] != schedule[i - 1][1]]


@pytest.mark.parametrize("first", [0, 1], ids=["all", "some"])
@pytest.mark.parametrize("at", [1, 6, 7, 9, 20, 35])
def test_members_that_were_given_back_go_on_where_they_were(tmp_path, at, first):
    kept = {"folder": tmp_path / "checkpoints", "storage": str(tmp_path / "study.db"), "study_name": "pbt"}
    count = itertools.count(1)

    def train(segment, weight):
        if next(count) in (at, at + 1):
            raise KeyboardInterrupt
        return descend(segment, weight)

    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):
            population(**kept, load_if_exists=True).optimize(train, **FILES)
        seen = inloop.load_study("pbt", kept["storage"])
        give_back(seen, [t for t in seen.trials if t.state is TrialState.RUNNING][first:])
    study = population(**kept, load_if_exists=True)
    study.optimize(train, **FILES)
    assert next(count) == 36 + 3, "nothing was trained twice"
    assert any(t.state is TrialState.LOST for t in study.trials)
    assert ends(study) == ends(trained())
    assert study.replay(descend, **FILES) == study.best_value
    assert FILES["load"](study.best_checkpoint) ** 2 == study.best_value


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("at", [1, 7, 36])
def test_a_member_that_is_given_back_while_it_trains_trains_once_more(at, n_jobs):
    study, count = population(), itertools.count(1)

    def train(segment, weight):
        if next(count) == at:
            give_back(study.study, [study.trials[segment.number]])
        return descend(segment, weight)

    study.optimize(train, **FILES, n_jobs=n_jobs)
    assert next(count) == 36 + 2
    assert ends(study) == ends(trained())


def test_what_tell_costs_does_not_grow_with_the_population():
    def calls(members):
        study, seen = population(population=members), []
        segments = [study.ask() for _ in range(members)]
        values = [train_file(segment) for segment in segments]
        study.tell(segments[0], values[0])
        sys.setprofile(lambda *call: seen.append(call[1]))
        try:
            study.tell(segments[1], values[1])
        finally:
            sys.setprofile(None)
        return len(seen)

    assert calls(50) == calls(5)


KILLED = """
import itertools, os, sys
sys.path.insert(0, sys.argv[1])
from test_population import FILES, descend, population
count = itertools.count(1)
def train(segment, weight):
    if next(count) == 20:
        os._exit(9)
    return descend(segment, weight)
population(folder="checkpoints", storage="study.db", study_name="pbt").optimize(train, **FILES)
"""


@pytest.mark.slow
def test_a_killed_process_loses_its_running_segment_only(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(Path(__file__).parent)], cwd=tmp_path)
    assert done.returncode == 9
    kept = {"folder": tmp_path / "checkpoints", "storage": str(tmp_path / "study.db"), "study_name": "pbt"}
    study, trained_since = population(**kept, load_if_exists=True), []

    def train(segment, weight):
        trained_since.append(segment)
        return descend(segment, weight)

    study.optimize(train, **FILES)
    assert len(trained_since) == 36 - 19
    assert log(study) == log(trained())


def test_a_process_that_died_in_the_middle_of_a_comparison(tmp_path):
    kept = {"folder": tmp_path / "checkpoints", "storage": str(tmp_path / "study.db"), "study_name": "pbt"}
    study = population(**kept)
    for _ in range(6):
        segment = study.ask()
        study.tell(segment, train_file(segment))
    study.study._log.create(takes_queued=False)  # the first of its replacements, and no more
    study = population(**kept, load_if_exists=True)
    study.optimize(descend, **FILES)
    assert study.trials[6].state.name == "FAILED"
    assert study.best_value == trained().best_value


def test_a_resumed_study_needs_its_checkpoints_and_settings(tmp_path):
    kept = {"storage": str(tmp_path / "study.db"), "study_name": "pbt"}
    study = population(**kept)
    for _ in range(6):
        segment = study.ask()
        study.tell(segment, train_file(segment))
    for wrong, match in [
        ({}, "needs the folder of its checkpoints"),
        ({"interval": 6}, "interval=5, not 6"),
        ({"population": 7}, "population=6, not 7"),
        ({"space": {"rate": Float(1e-3, 1, log=True)}}, "space is"),
        ({"direction": "maximize"}, "direction is"),
    ]:
        with pytest.raises(ValueError, match=match):
            population(**{**kept, "load_if_exists": True, **wrong})
    inloop.create_study(storage=kept["storage"], study_name="other", space=RATE).ask()
    with pytest.raises(ValueError, match="is no population's"):
        population(**{**kept, "study_name": "other", "load_if_exists": True})
    (tmp_path / "3-15").write_text("")
    with pytest.raises(ValueError, match="holds checkpoints of another study, such as 3-15"):
        population(folder=tmp_path)


def test_a_member_that_was_nan_without_a_checkpoint_is_replaced_after_a_break(tmp_path):
    kept = {"folder": tmp_path / "checkpoints", "storage": str(tmp_path / "study.db"), "study_name": "pbt"}
    study = population(**kept)
    for n in range(6):
        segment = study.ask()
        study.tell(segment, train_file(segment) if n else math.nan)
    study = population(**kept, load_if_exists=True)
    study.optimize(descend, **FILES)
    assert study.finished
    assert study.trials[0].state.name == "FAILED"


def test_two_studies_do_not_share_a_folder(tmp_path):
    first, second = population(folder=tmp_path), population(folder=tmp_path)
    second.optimize(descend, **FILES)
    with pytest.raises(ValueError, match="was given to another study as well"):
        first.ask()


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"population": 1}, ValueError, "population must be at least 2, got 1"),
        ({"population": 2.5}, TypeError, "population must be an integer, got 2.5"),
        ({"interval": 0}, ValueError, "interval must be at least 1, got 0"),
        ({"steps": 4}, ValueError, "steps must be at least 5, got 4"),
        ({"quantile": 0}, ValueError, "quantile must be above 0 and at most 0.5, got 0"),
        ({"quantile": 0.6}, ValueError, "quantile must be above 0 and at most 0.5, got 0.6"),
        ({"quantile": math.nan}, ValueError, "quantile must be"),
        ({"quantile": "a"}, TypeError, "quantile must be a number above 0 and at most 0.5, got 'a'"),
        ({"suffix": None}, TypeError, "suffix must be a string, got None"),
        ({"resample": 2}, ValueError, "resample must be between 0 and 1, got 2"),
        ({"factor": 1}, ValueError, "factor must be above 1, got 1"),
        ({"keep": ["width"]}, ValueError, "keep must be a list of names of the space, .'rate'., got .'width'."),
        ({"keep": "rate"}, ValueError, "keep must be a list"),
        ({"space": {}}, ValueError, "no parameter given"),
        ({"space": ["rate"]}, TypeError, "must be a dict"),
        ({"direction": "down"}, ValueError, "direction must be"),
    ],
)
def test_settings_are_checked(wrong, error, match):
    with pytest.raises(error, match=match):
        population(**wrong)


def test_wrong_calls_are_refused():
    study = population(population=2)
    first, second = study.ask(), study.ask()
    with pytest.raises(RuntimeError, match=r"tell the segments of trials \[0, 1\] first"):
        study.ask()
    with pytest.raises(ValueError, match=r"there is no checkpoint; save it as segment\.path"):
        study.tell(first, 1.0)
    first.path.write_text("")
    with pytest.raises(ValueError, match="give a value, or state='failed'"):
        study.tell(first)
    with pytest.raises(TypeError, match="must be one number, got 'abc'"):
        study.tell(first, "abc", state="failed")
    with pytest.raises(ValueError, match="state must be 'failed' or None, got 'complete'"):
        study.tell(first, 1.0, "complete")
    study.tell(first, 1.0)
    for wrong in (first, dataclasses.replace(second, number=99), dataclasses.replace(second, start=5)):
        with pytest.raises(ValueError, match="told before or not asked for"):
            study.tell(wrong, 1.0)
    assert study.tell(second, state="failed").state.name == "FAILED"
    with pytest.raises(ValueError, match="No trial is complete"):
        study.schedule()
    with pytest.raises(ValueError, match="there is no trial 7"):
        study.lineage(7)
    with pytest.raises(TypeError, match="both save and load"):
        study.optimize(descend, save=FILES["save"])
    with pytest.raises(ValueError, match="n_jobs must be"):
        study.optimize(descend, **FILES, n_jobs=0)


# Real training; each framework goes on where the segment before has ended


def digits(n=400):
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    return X[:n] / 16, y[:n], X[n : 2 * n] / 16, y[n : 2 * n]


def alone(train, params, steps, interval, tmp_path, change=None):
    """Train segments one after another; ``change`` is what the last one has in place of ``params``."""
    checkpoint = None
    for start in range(0, steps, interval):
        last = start + interval >= steps
        given = change if last and change is not None else params
        path = tmp_path / f"0-{start + interval}"
        segment = Segment(0, 0, given, start, start + interval, checkpoint, path)
        model = train(segment)
        checkpoint = path
    return model


def good(study, train, threshold):
    """What holds for real training by any framework."""
    study.optimize(train)
    assert study.finished
    assert not [t for t in study.trials if t.state.name in ("FAILED", "RUNNING")]
    assert len(study.trials) > study.population
    sign = -1 if study.study.direction == "maximize" else 1
    assert sign * study.best_value < sign * threshold
    assert study.replay(train) == study.best_value


def test_xgboost_goes_on(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    from inloop.integrations.xgboost import train_segment

    X, y, X_valid, y_valid = digits()
    data, valid = xgboost.DMatrix(X, y % 2), xgboost.DMatrix(X_valid, y_valid % 2)
    fixed = {"objective": "binary:logistic", "nthread": 1, "max_depth": 3, "seed": None}
    whole = xgboost.train({**fixed, "eta": 0.3}, data, 12)
    parts = alone(lambda s: train_segment(s, fixed, data), {"eta": 0.3}, 12, 4, tmp_path)
    assert parts.num_boosted_rounds() == 12
    assert np.array_equal(parts.predict(valid), whole.predict(valid))

    slow = alone(lambda s: train_segment(s, fixed, data), {"eta": 0.3}, 12, 4, tmp_path, {"eta": 1e-6})
    short = xgboost.train({**fixed, "eta": 0.3}, data, 8)
    assert slow.predict(valid) == pytest.approx(short.predict(valid), abs=1e-4)

    fixed["subsample"] = 0.5  # XGBoost itself draws the same rows again when it goes on
    sampled = alone(lambda s: train_segment(s, fixed, data), {"eta": 1e-6}, 4, 2, tmp_path)
    trees = sampled.get_dump(with_stats=True)
    assert trees[0] != trees[2]

    def train(segment):
        log = {}
        params = {**fixed, "eval_metric": "logloss"}
        train_segment(segment, params, data, evals=[(valid, "valid")], evals_result=log, verbose_eval=False)
        return log["valid"]["logloss"][-1]

    space = {"eta": Float(1e-3, 1, log=True), "max_depth": Int(1, 6), "lambda": Float(0.1, 10, log=True)}
    good(PopulationStudy(space, 4, 5, steps=20, seed=0), train, 0.3)


def test_lightgbm_goes_on(tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    from inloop.integrations.lightgbm import train_segment

    X, y, X_valid, y_valid = digits()
    fixed = {"objective": "binary", "num_threads": 1, "verbosity": -1, "deterministic": True}
    data = lightgbm.Dataset(X, y % 2)
    valid = data.create_valid(X_valid, y_valid % 2)
    whole = lightgbm.train({**fixed, "learning_rate": 0.1}, lightgbm.Dataset(X, y % 2), 12)
    for sets in (valid, [valid]):  # what a training leaves in a Dataset is not found by the next one
        parts = alone(lambda s, sets=sets: train_segment(s, fixed, data, sets), {"learning_rate": 0.1}, 12, 4, tmp_path)
        assert parts.num_trees() == 12
        assert parts.predict(X_valid) == pytest.approx(whole.predict(X_valid), abs=1e-12)

    slow = alone(
        lambda s: train_segment(s, fixed, data), {"learning_rate": 0.1}, 12, 4, tmp_path, {"learning_rate": 1e-7}
    )
    assert slow.predict(X_valid) == pytest.approx(whole.predict(X_valid, num_iteration=8), abs=1e-4)

    fixed.update(bagging_fraction=0.5, bagging_freq=1)
    for drawn in (
        {},
        {"seed": 7},
        {"bagging_seed": 7},
        {"bagging_fraction_seed": 7, "seed": 7},
        {"feature_fraction_seed": 7, "feature_fraction": 0.1, "bagging_freq": 0},
        {"extra_seed": 7, "extra_trees": True, "bagging_freq": 0},
    ):
        sampled = alone(
            lambda s, drawn=drawn: train_segment(s, {**fixed, **drawn}, data), {"learning_rate": 1e-7}, 4, 2, tmp_path
        )
        gains = [tree["tree_structure"]["split_gain"] for tree in sampled.dump_model()["tree_info"]]
        assert gains[0] != pytest.approx(gains[2], rel=1e-3)

    shared = lightgbm.Dataset(X, y % 2, params={"verbosity": -1})
    coarse = alone(lambda s: train_segment(s, fixed, shared), {"max_bin": 3}, 2, 2, tmp_path).predict(X_valid)
    after = alone(lambda s: train_segment(s, fixed, shared), {}, 2, 2, tmp_path).predict(X_valid)
    fresh = alone(lambda s: train_segment(s, fixed, data), {}, 2, 2, tmp_path).predict(X_valid)
    assert np.array_equal(after, fresh)  # max_bin has not stayed in the Dataset
    assert not np.array_equal(after, coarse)

    with pytest.raises(ValueError, match="a Dataset is constructed already"):
        train_segment(None, fixed, lightgbm.Dataset(X, y).construct())
    shifted = lightgbm.Dataset(X, y, init_score=np.ones(len(y)))
    for wrong in ([shifted], [shifted.subset([0, 1])], [data, [valid, shifted]]):
        with pytest.raises(ValueError, match="a Dataset has an init_score"):
            train_segment(None, fixed, *wrong)
    for name in lightgbm.basic._ConfigAliases.get("num_iterations"):
        with pytest.raises(ValueError, match=f"leave out the parameter {name}=100"):
            alone(lambda s, name=name: train_segment(s, {**fixed, name: 100}, data), {}, 4, 2, tmp_path)
    for name in lightgbm.basic._ConfigAliases.get("boosting"):
        with pytest.raises(ValueError, match=f"cannot go on training with {name}='rf'"):
            alone(lambda s, name=name: train_segment(s, {**fixed, name: "rf"}, data), {}, 4, 2, tmp_path)

    def train(segment):
        return train_segment(segment, fixed, data, [valid]).best_score["valid_0"]["binary_logloss"]

    space = {"learning_rate": Float(1e-3, 1, log=True), "num_leaves": Int(4, 32, log=True)}
    study = PopulationStudy(space, 4, 5, steps=20, seed=0)
    good(study, train, 0.3)
    threads = PopulationStudy(space, 4, 5, steps=20, seed=0)
    threads.optimize(train, n_jobs=2)
    assert log(threads) == log(study)


def test_scikit_learn_goes_on(tmp_path):
    network = pytest.importorskip("sklearn.neural_network")
    from inloop.integrations.sklearn import train_segment
    from sklearn.linear_model import LinearRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputClassifier

    X, y, X_valid, y_valid = digits()
    for solver, extra in [("adam", {}), ("sgd", {"momentum": 0.5}), ("sgd", {"learning_rate": "invscaling"})]:
        new = network.MLPClassifier((8,), solver=solver, random_state=0, learning_rate_init=0.01, **extra)
        whole = network.MLPClassifier(**new.get_params())
        for _ in range(6):
            whole.partial_fit(X, y, classes=np.unique(y))
        parts = alone(lambda s, new=new: train_segment(s, new, X, y), {}, 6, 2, tmp_path)
        assert not hasattr(new, "coefs_")
        assert np.array_equal(parts.predict_proba(X_valid), whole.predict_proba(X_valid))

    # partial_fit goes on with the rate and momentum of its first call, whatever set_params says
    new = network.MLPClassifier((8,), solver="sgd", random_state=0, learning_rate_init=0.01)
    two = alone(lambda s: train_segment(s, new, X, y), {}, 2, 2, tmp_path)
    still = alone(
        lambda s: train_segment(s, new, X, y), {}, 4, 2, tmp_path, {"learning_rate_init": 1e-12, "momentum": 0.0}
    )
    assert np.allclose(still.coefs_[0], two.coefs_[0], atol=1e-9)
    changed = {"learning_rate_init": 0.5, "solver": "adam", "beta_1": 0.5}
    other = alone(lambda s: train_segment(s, new, X, y), {}, 4, 2, tmp_path, changed)
    assert (type(other._optimizer).__name__, other._optimizer.beta_1) == ("AdamOptimizer", 0.5)

    labels = np.stack([y % 2, y > 4, y == 3], 1)
    assert alone(lambda s: train_segment(s, network.MLPClassifier((8,)), X, labels), {}, 4, 2, tmp_path).n_outputs_ == 3
    for several, targets in [
        (MultiOutputClassifier(new), labels),
        (MultiOutputClassifier(new), np.stack([y, y > 4], 1)),
        (OneVsRestClassifier(new), y),
    ]:
        rate = "estimator__learning_rate_init"
        parts = [
            alone(lambda s, m=several, t=targets: train_segment(s, m, X, t), {rate: 0.1}, steps, 2, tmp_path, change)
            for steps, change in ((2, None), (4, {rate: 1e-12, "estimator__momentum": 0.0}))
        ]
        for two, still in zip(*(p.estimators_ for p in parts), strict=True):
            assert np.allclose(still.coefs_[0], two.coefs_[0], atol=1e-9)

    with pytest.raises(TypeError, match="LinearRegression has no partial_fit"):
        train_segment(None, LinearRegression(), X, y)

    def train(segment):
        return train_segment(segment, network.MLPClassifier((16,), random_state=0), X, y).score(X_valid, y_valid)

    space = {"learning_rate_init": Float(1e-5, 1, log=True), "alpha": Float(1e-6, 1e-1, log=True)}
    good(PopulationStudy(space, 4, 3, steps=12, seed=0, direction="maximize"), train, 0.7)


# Lightning: new learning rates, momenta and schedules hold after the checkpoint has brought back the old ones


@pytest.fixture
def lightning():
    """A function that trains a segment of a small network, and keeps the rates and momenta it trained with."""
    torch = pytest.importorskip("torch")
    pl = pytest.importorskip("pytorch_lightning")
    from inloop.integrations.lightning import train_segment

    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    functional, schedules = torch.nn.functional, torch.optim.lr_scheduler

    def schedule(kind, optimizer, gamma, length):
        return {
            "none": lambda: None,
            "thaw": lambda: None,
            "averaged": lambda: None,
            "normed": lambda: None,
            "step": lambda: schedules.StepLR(optimizer, 2, gamma),
            "exponential": lambda: schedules.ExponentialLR(optimizer, gamma),
            "cosine": lambda: schedules.CosineAnnealingLR(optimizer, 20),
            "whole length": lambda: schedules.CosineAnnealingLR(optimizer, length),
            "lambda": lambda: schedules.LambdaLR(optimizer, lambda epoch: (1 + epoch) ** -0.5),
            "cycle": lambda: schedules.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], 20, cycle_momentum=False),
            "warm": lambda: schedules.SequentialLR(
                optimizer,
                [schedules.LinearLR(optimizer, 0.1, total_iters=3), schedules.ExponentialLR(optimizer, gamma)],
                [3],
            ),
            "chained": lambda: schedules.ChainedScheduler(
                [schedules.ConstantLR(optimizer, 0.5, 3), schedules.ExponentialLR(optimizer, gamma)], optimizer
            ),
            "plateau": lambda: {
                "scheduler": schedules.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0, factor=gamma),
                "monitor": "val_loss",
            },
        }[kind]()

    class Net(pl.LightningModule):
        def __init__(self, rate=0.1, momentum=0.9, decay=0.0, gamma=0.5, kind="none"):
            super().__init__()
            torch.manual_seed(0)
            between = [torch.nn.BatchNorm1d(10)] if kind == "normed" else []
            self.net = torch.nn.Sequential(torch.nn.Linear(64, 10), *between, torch.nn.Linear(10, 10))
            self.given, self.kind, self.gamma = {"lr": rate, "momentum": momentum, "weight_decay": decay}, kind, gamma
            self.seen = []

        def training_step(self, batch, index):
            for group in self.trainer.optimizers[0].param_groups:
                self.seen.append((self.current_epoch, group["lr"], group["momentum"], group["weight_decay"]))
            return functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("val_loss", functional.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self):
            optimizer = torch.optim.SGD([p for p in self.parameters() if p.requires_grad], **self.given)
            scheduler = schedule(self.kind, optimizer, self.gamma, self.trainer.max_epochs)
            return optimizer if scheduler is None else {"optimizer": optimizer, "lr_scheduler": scheduler}

    class Thaw(pl.callbacks.BaseFinetuning):
        def freeze_before_training(self, pl_module):
            self.freeze(pl_module.net[0])

        def finetune_function(self, pl_module, epoch, optimizer):
            if epoch == 2:
                self.unfreeze_and_add_param_group(pl_module.net[0], optimizer)

    X, y, X_valid, y_valid = (torch.tensor(a) for a in digits(200))
    tensors = torch.utils.data.TensorDataset
    loaders = [
        torch.utils.data.DataLoader(tensors(a.float(), b), batch_size=200) for a, b in ((X, y), (X_valid, y_valid))
    ]

    def train(segment, kind="none"):
        net = Net(**segment.params, kind=kind)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        callbacks = {
            "thaw": [Thaw()],
            "averaged": [pl.callbacks.EMAWeightAveraging(decay=0.9)],
            "normed": [pl.callbacks.StochasticWeightAveraging(0.01, swa_epoch_start=5)],
        }.get(kind, [])
        options = {"max_epochs": 8, "logger": False, "num_sanity_val_steps": 0, "callbacks": callbacks, **quiet}
        trainer = pl.Trainer(accelerator="cpu", devices=1, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train_segment(segment, trainer, net, *loaders)
        net.value = trainer.callback_metrics["val_loss"].item()
        return net

    return train


KINDS = [
    "none", "thaw", "step", "exponential", "cosine", "whole length", "lambda", "cycle", "warm", "chained", "plateau"
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "averaged"])
def test_lightning_goes_on(lightning, kind, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = alone(lambda s: lightning(s, kind), {"rate": 0.1}, 8, 8, tmp_path / "whole")
    parts = alone(lambda s: lightning(s, kind), {"rate": 0.1}, 8, 4, tmp_path)
    assert parts.seen == [seen for seen in whole.seen if seen[0] >= 4]
    assert parts.value == whole.value


@pytest.mark.slow
def test_lightning_renews_the_statistics_of_averaged_weights(lightning, tmp_path):
    net = alone(lambda s: lightning(s, "normed"), {"rate": 0.1}, 8, 4, tmp_path)
    assert [epoch for epoch, *_ in net.seen] == [4, 5, 6, 7, 8], "an epoch more, as without segments"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_lightning_trains_with_new_rates(lightning, kind, tmp_path):
    old = alone(lambda s: lightning(s, kind), {"rate": 0.1}, 8, 4, tmp_path)
    changed = {"rate": 0.03, "momentum": 0.5, "decay": 0.01}
    new = alone(lambda s: lightning(s, kind), {"rate": 0.1}, 8, 4, tmp_path, changed)
    assert {epoch for epoch, *_ in new.seen} == {4, 5, 6, 7}
    for (epoch, rate, *_), (same_epoch, new_rate, *others) in zip(old.seen, new.seen, strict=True):
        assert epoch == same_epoch
        assert new_rate == pytest.approx(rate * 0.3, rel=1e-6)
        assert others == [0.5, 0.01]
    if kind == "none":
        assert {rate for _, rate, *_ in new.seen} == {0.03}  # to the last digit


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exponential", "warm", "chained"])
def test_lightning_schedules_with_new_settings(lightning, kind, tmp_path):
    new = alone(lambda s: lightning(s, kind), {"rate": 0.1}, 8, 4, tmp_path, {"rate": 0.1, "gamma": 0.25})
    rates = [rate for _, rate, *_ in new.seen]
    assert rates[1:] == pytest.approx([rate * 0.25 for rate in rates[:-1]])


@pytest.mark.slow
def test_lightning_trains_a_population(lightning):
    space = {"rate": Float(1e-3, 10, log=True), "momentum": Float(0, 0.95)}
    good(PopulationStudy(space, 3, 3, steps=9, seed=0), lambda s: lightning(s).value, 1.5)


@pytest.mark.slow
def test_lightning_under_its_other_name(lightning, tmp_path):
    pytest.importorskip("lightning")
    from inloop.integrations.lightning import train_segment
    from lightning.pytorch import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    def train(segment):
        model = BoringModel()
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        model.layer.reset_parameters()
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, limit_train_batches=2, limit_val_batches=0, **quiet
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train_segment(segment, trainer, model)
        return trainer

    assert alone(train, {}, 4, 2, tmp_path).global_step == 8
    two = Trainer(accelerator="cpu", devices=2, strategy="ddp_spawn", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="the Trainer has 2 processes; a segment trains in one"):
        train_segment(None, two, BoringModel())
