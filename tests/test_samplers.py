"""Laws that every sampler keeps; a new sampler is one row of `ROWS`."""

import gc
import math
import sys
import weakref
from dataclasses import dataclass, replace
from itertools import pairwise

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, MemoryStorage, Space, TrialState
from inloop.history import History
from inloop.samplers import (
    AutoSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    Sampler,
    TPESampler,
    warp,
)
from inloop.samplers.grid import Shuffle
from scipy import stats


@dataclass(frozen=True)
class Row:
    """A sampler and what it promises beyond the laws of all."""

    sampler: Sampler
    learns: bool = True  # better than random once there is a history
    repeats: bool = False  # may propose a point of a finite space twice before it has proposed all


ROWS = {
    "auto": Row(AutoSampler(deterministic=False)),
    "cmaes": Row(CmaEsSampler(), learns=False, repeats=True),
    "gp": Row(GPSampler()),
    "halton": Row(QMCSampler("halton"), learns=False, repeats=True),
    "random": Row(RandomSampler(), learns=False, repeats=True),
    "sobol": Row(QMCSampler(), learns=False, repeats=True),
    "tpe": Row(TPESampler()),
}


class Dice:
    """An object with nothing but ``rvs``."""

    def rvs(self, random_state=None):
        return int(random_state.randint(1, 7))


SPACES = {
    "floats": Space({"x": Float(-5, 5), "y": Float(0, 1, step=0.1), "z": Float(1e-6, 1e3, log=True)}),
    "ints": Space({"i": Int(-3, 900), "j": Int(0, 100, step=5), "k": Int(1, 10_000, log=True)}),
    "single values": Space({"x": Float(2, 2), "i": Int(7, 7), "y": Float(0, 1), "k": Int(1, 1, log=True)}),
    "all single": Space({"x": Float(2, 2), "i": Int(7, 7), "c": ["only"]}),
    "choices": Space({"c": [None, (1, 2), {"a": 1}, np.arange(3)], "d": [True, 1, 1.0, "1"], "x": Float(0, 1)}),
    "1000 choices": Space({"c": Categorical(range(1000)), "x": Float(0, 1)}),
    "conditional": Space(
        {
            "model": ["linear", "tree", "net"],
            "depth": Int(1, 12),
            "layers": Int(1, 3),
            "width2": Int(8, 512, log=True),
            "width3": Int(8, 512, log=True),
            "l2": Float(1e-8, 1, log=True),
        },
        when={
            "depth": {"model": ["tree"]},
            "layers": {"model": ["net"]},
            "width2": {"layers": [2, 3]},
            "width3": {"layers": [3]},
            "l2": {"model": ["linear", "net"]},
        },
    ),
    "distributions": Space({"n": stats.norm(0, 1), "g": stats.poisson(4), "x": Float(0, 1)}),
    "unmodelled": Space({"dice": Dice(), "x": Float(0, 1)}),
    "only unmodelled": Space({"dice": Dice()}),
    "200 mixed": Space(
        {
            f"p{i}": (Float(0, 1), Int(1, 50), Float(1e-4, 1, log=True), list("abcd"), Int(1, 99, log=True))[i % 5]
            for i in range(200)
        }
    ),
}

samplers = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def a_study(row, space=None, seed=0, direction="minimize", storage=None):
    return inloop.create_study(
        sampler=row.sampler, pruner="nop", space=space, seed=seed, direction=direction, storage=storage, study_name="s"
    )


def measure(params):
    """Return a number for any parameters: a bowl over the numeric ones."""
    numbers = [float(v) for v in params.values() if isinstance(v, int | float)]
    return sum(math.atan(v - 0.3) ** 2 for v in numbers)


def lose(study, trial):
    study._log.finish(trial._record, TrialState.LOST, None)


def end(study, trial, how):
    """End a trial in one of the ways that trials end."""
    value = measure(trial.params)
    if how == "pruned":
        trial.report(value, 1)
        trial.report(value - 0.1, 2)
    if how == "pruned at NaN":
        trial.report(math.nan, 1)
    if how == "lost":
        lose(study, trial)
    elif how == "nan":
        study.tell(trial, math.nan)
    elif how == "infinite":
        study.tell(trial, math.inf if study.direction == "minimize" else -math.inf)
    elif how == "failed":
        study.tell(trial, state="failed")
    elif how != "running":
        study.tell(trial, value, state="pruned" if how.startswith("pruned") else None)


MIXED = ("complete", "failed", "pruned", "nan", "running", "complete", "lost", "infinite", "pruned at NaN", "pruned")


def fill(study, n, hows=("complete",)):
    """Run ``n`` trials of the study's sampler; return their parameters."""
    out = []
    for i in range(n):
        trial = study.ask()
        out.append(trial.params)
        end(study, trial, hows[i % len(hows)])
    return out


def check_inside(space, params):
    assert list(params) == space.active(params)
    assert list(space.complete(params, lambda: 0.5)) == list(params)  # nothing active is missing
    space.check(params)


@samplers
@spaces
def test_values_lie_inside_the_space(row, space):
    study = a_study(row, space)
    for params in fill(study, 25):
        check_inside(space, params)


@samplers
@spaces
def test_any_mixture_of_states_is_survived(row, space):
    study = a_study(row, space, direction="maximize")
    for params in fill(study, 40, MIXED):
        check_inside(space, params)


@samplers
@pytest.mark.parametrize("how", sorted(set(MIXED)))
def test_histories_of_one_state_are_survived(row, how):
    space = SPACES["conditional"]
    study = a_study(row, space)
    for params in fill(study, 25, (how,)):
        check_inside(space, params)


@samplers
@spaces
def test_the_proposal_is_a_function_of_space_history_and_stream(row, space):
    storage = MemoryStorage()
    study = a_study(row, space, storage=storage)
    fill(study, 30, MIXED)
    reread = History()
    reread.spaces[space.id] = space
    reread.apply(storage.read("s", 0))
    for number in (30, 31):
        asked = [(row.sampler, study.history), (row.sampler, study.history), (replace(row.sampler), reread)]
        warm, again, cold = (
            repr(s.ask(space, history, number, np.random.default_rng((7, number)))) for s, history in asked
        )
        assert warm == again == cold


@samplers
@spaces
def test_the_seed_decides(row, space):
    runs = [repr(fill(a_study(row, space, seed=s), 25)) for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    if len({repr(p) for p in fill(a_study(row, space, seed=1), 25)}) > 10:  # else there is little to choose from
        assert runs[0] != runs[2]


@samplers
def test_maximising_is_minimising_the_negative(row):
    runs = []
    for direction, sign in (("minimize", 1), ("maximize", -1)):
        study = a_study(row, SPACES["floats"], direction=direction)
        study.optimize(lambda t, sign=sign: sign * measure(t.params), n_trials=40)
        runs.append([t.params for t in study.trials])
    assert runs[0] == runs[1]


@samplers
def test_define_by_run(row):
    def objective(trial):
        model = trial.suggest_categorical("model", ["linear", "net"])
        c = trial.suggest_float("c", 1e-3, 1e3, log=True)
        if model == "linear":
            return abs(math.log10(c)) + 1
        widths = [trial.suggest_int(f"width{i}", 4, 64) for i in range(trial.suggest_int("layers", 1, 3))]
        return abs(math.log10(c)) + sum(widths) / 64

    study = a_study(row)
    study.optimize(objective, n_trials=60)
    for t in study.trials:
        layers = t.params.get("layers", 0)
        assert set(t.params) == {"model", "c"} | (
            {"layers", *(f"width{i}" for i in range(layers))} if t.params["model"] == "net" else set()
        )


@samplers
def test_a_space_given_to_ask(row):
    study = a_study(row)
    for i in range(30):
        trial = study.ask(SPACES["floats"] if i % 2 else SPACES["conditional"])
        check_inside(SPACES["floats"] if i % 2 else SPACES["conditional"], trial.params)
        end(study, trial, "complete")


@samplers
def test_trials_from_elsewhere_and_enqueued_ones(row):
    space = SPACES["conditional"]
    study = a_study(row, space)
    for k in range(1, 13):
        study.add_trial({"model": "tree", "depth": k}, float(k), curve={1: 1.0})
    study.enqueue_trial({"model": "net", "layers": 3})
    first = study.ask().params
    assert (first["model"], first["layers"]) == ("net", 3)
    check_inside(space, first)
    for params in fill(study, 10):
        check_inside(space, params)


@samplers
def test_running_trials_are_not_proposed_again(row):
    study = a_study(row, SPACES["floats"])
    fill(study, 20)
    batch = [t.params for t in study.ask_batch(12)]
    assert len({repr(p) for p in batch}) == 12


@samplers
def test_a_study_that_is_gone_leaves_nothing_behind(row):
    study = a_study(row, SPACES["conditional"])
    fill(study, 12, MIXED)
    history = weakref.ref(study.history)
    del study
    gc.collect()
    assert history() is None


FINITE = {
    "product": (45, Space({"i": Int(0, 4), "c": ["a", "b", "c"], "x": Float(0, 1, step=0.5)})),
    "with a single value": (93, Space({"i": Int(0, 30), "k": Int(1, 3, log=True), "one": Int(5, 5)})),
    "rare corners": (196, Space({"i": Int(1, 14, log=True), "k": Int(1, 14, log=True)})),
    "conditional": (
        28,
        Space({"c": ["a", "b"], "i": Int(1, 20), "j": Int(1, 8)}, when={"i": {"c": ["a"]}, "j": {"c": ["b"]}}),
    ),
}


@pytest.mark.parametrize("name", [n for n in ROWS if not ROWS[n].repeats])
@pytest.mark.parametrize(("size", "space"), FINITE.values(), ids=FINITE)
def test_finite_spaces_are_searched_without_repeats(name, size, space):
    study = a_study(ROWS[name], space)
    seen = [repr(p) for p in fill(study, size, ("complete", "failed", "running", "pruned"))]
    assert len(set(seen)) == size
    check_inside(space, study.ask().params)  # and goes on when all were tried


@pytest.mark.parametrize("name", [n for n in ROWS if ROWS[n].learns])
def test_the_model_beats_random(name):
    def best(sampler, seed):
        space = Space({"x": Float(-5, 5), "k": Int(1, 1000, log=True), "c": ["a", "b", "c"], "y": Float(0, 1)})
        study = inloop.create_study(sampler=sampler, pruner="nop", space=space, seed=seed)
        study.optimize(
            lambda t: (
                (t.params["x"] - 2) ** 2
                + (math.log10(t.params["k"]) - 1) ** 2
                + (t.params["c"] != "b")
                + (t.params["y"] - 0.2) ** 2
            ),
            n_trials=50,
        )
        return study.best_value

    ours = [best(ROWS[name].sampler, s) for s in range(8)]
    random = [best(RandomSampler(), s) for s in range(8)]
    assert np.median(ours) < 0.5 * np.median(random)


# TPE


def test_tpe_learns_in_each_of_two_spaces_of_one_study():
    """Trials of another space, however good, do not crowd out those of the space that is asked for."""
    study = inloop.create_study(sampler=TPESampler(), pruner="nop", seed=0)
    for i in range(120):
        name, offset = ("a", -100.0) if i % 2 else ("b", 0.0)
        trial = study.ask({name: Float(0, 1)})
        study.tell(trial, offset + abs(trial.params[name] - 0.7))
    late = [t.params["b"] for t in study.trials[60:] if "b" in t.params]
    assert np.median(np.abs(np.array(late) - 0.7)) < 0.1


def test_tpe_avoids_where_trials_failed():
    study = inloop.create_study(sampler=TPESampler(), pruner="nop", seed=0, space={"x": Float(0, 1)})
    for _ in range(30):
        trial = study.ask()
        study.tell(trial, state="failed" if trial.params["x"] < 0.7 else None, value=1.0)
    assert sum(t.params["x"] >= 0.7 for t in study.trials[12:]) > 9


def test_tpe_uses_pruned_trials():
    """With pruned trials alone, those that came farthest with the best last report are the good ones."""
    study = inloop.create_study(sampler=TPESampler(), pruner="nop", seed=0, space={"x": Float(0, 1)})
    for _ in range(40):
        trial = study.ask()
        trial.report(abs(trial.params["x"] - 0.2), 1)
        study.tell(trial, state="pruned")
    assert np.median([abs(t.params["x"] - 0.2) for t in study.trials[25:]]) < 0.1


@pytest.mark.parametrize("bad", [{"gamma": 0}, {"gamma": 1.5}, {"n_ei_candidates": 0}, {"n_startup_trials": 0}])
def test_tpe_names_the_setting_that_is_wrong(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TPESampler(**bad)


# The grid

GRIDS = {
    "lists": (6, {"a": [1, 2, 3], "b": ["x", None]}),
    "ranges": (45, Space({"i": Int(0, 8, step=2), "k": Int(1, 3, log=True), "x": Float(0, 1, step=0.5)})),
    "conditional": (28, FINITE["conditional"][1]),
    "nested": (
        1 + 1 + 2 * 2,
        Space(
            {"m": ["a", "b"], "n": Int(1, 3), "o": Int(1, 2), "p": Int(1, 1)},
            when={"n": {"m": ["b"]}, "o": {"n": [2, 3]}},
        ),
    ),
    "a condition on sums of steps": (
        1 + 2 * 10,
        Space({"x": Float(0, 1, step=0.1), "c": ["a", "b"]}, when={"c": {"x": np.arange(0.1, 1.05, 0.1)}}),
    ),
    "a single point": (1, {"a": [0]}),
}
grids = pytest.mark.parametrize(("size", "grid"), GRIDS.values(), ids=GRIDS)


def a_grid_study(grid, storage=None, seed=0, study_name="s"):
    sampler = GridSampler(grid)
    return inloop.create_study(
        sampler=sampler, pruner="nop", space=sampler.space, seed=seed, storage=storage, study_name=study_name
    )


@grids
def test_a_grid_is_tried_once_in_an_order_of_its_own(size, grid):
    orders = []
    for seed in (0, 1):
        study = a_grid_study(grid, seed=seed)
        study.optimize(measure_trial)
        orders.append([repr(t.params) for t in study.trials])
        assert len(orders[-1]) == len(set(orders[-1])) == size
    assert set(orders[0]) == set(orders[1])
    assert size < 10 or orders[0] != orders[1]


def measure_trial(trial):
    return measure(trial.params)


@grids
def test_running_and_failed_points_of_a_grid_are_not_tried_again_lost_ones_are(size, grid):
    study = a_grid_study(grid)
    trials = study.ask_batch(size)
    assert len({repr(t.params) for t in trials}) == size
    with pytest.raises(inloop.StudyStopped, match="exhausted"):
        study.ask()
    lose(study, trials[0])
    again = study.ask()
    assert again.params == trials[0].params
    for trial in [*trials[1:], again]:
        study.tell(trial, state="failed")
    with pytest.raises(inloop.StudyStopped, match="exhausted"):
        study.ask()


def test_a_grid_goes_on_where_another_study_object_left_it():
    size, grid = GRIDS["ranges"]
    storage = MemoryStorage()
    first = a_grid_study(grid, storage)
    fill(first, 20)
    second = inloop.load_study("s", storage, sampler=GridSampler(grid))
    second.optimize(measure_trial)
    assert len({repr(t.params) for t in second.trials}) == len(second.trials) == size


def test_workers_that_race_through_a_grid_take_different_points():
    storage = MemoryStorage()
    grid = {"a": list(range(40))}
    ours, theirs = a_grid_study(grid, storage), inloop.load_study("s", storage, sampler=GridSampler(grid))
    stale = [s._stream for s in (ours, theirs)]  # both know the same history
    points = [s.sampler.ask(s.sampler.space, s.history, n, stale[0](n))["a"] for n, s in enumerate((ours, theirs))]
    assert points[0] != points[1]


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_an_objective_may_pass_by_some_of_a_grid(n_jobs):
    """Points that differ only in what the objective did not ask for are one."""

    def objective(trial):
        return 0.0 if trial.suggest_categorical("m", ["a", "b"]) == "a" else trial.suggest_int("d", 1, 9)

    study = inloop.create_study(sampler=GridSampler({"m": ["a", "b"], "d": Int(1, 5)}), pruner="nop", seed=3)
    study.optimize(objective, n_jobs=n_jobs)
    seen = [tuple(t.params.values()) for t in study.trials]
    assert set(seen) == {("a",), *(("b", d) for d in range(1, 6))}
    assert len(seen) <= 6 + (n_jobs - 1)  # two that run at once may both turn out to pass by the same


def test_a_grid_within_a_larger_space():
    space = Space({"a": Int(0, 10), "b": Float(0, 1)})
    study = inloop.create_study(sampler=GridSampler({"a": [2, 4, 8]}), pruner="nop", space=space, seed=0)
    study.optimize(measure_trial)
    assert sorted(t.params["a"] for t in study.trials) == [2, 4, 8]
    assert len({t.params["b"] for t in study.trials}) == 3
    for grid, match in (({"c": [1]}, "'c'"), ({"a": [11]}, "a=11")):
        with pytest.raises(ValueError, match=match):
            inloop.create_study(sampler=GridSampler(grid), pruner="nop", space=space).ask()


@pytest.mark.parametrize("how", ["a grid", "enqueued"])
def test_what_is_drawn_beside_given_values_has_its_weights(how):
    many = list(range(400))
    space = Space({"k": Int(0, 799), "c": Categorical(["often", "rare"], weights=[99, 1])}, when={"c": {"k": many}})
    sampler = GridSampler({"k": many}) if how == "a grid" else RandomSampler()
    study = inloop.create_study(sampler=sampler, pruner="nop", space=space, seed=0)
    if how == "enqueued":
        for k in many:
            study.enqueue_trial({"k": k})
    study.optimize(measure_trial, n_trials=400)
    assert sorted(t.params["k"] for t in study.trials) == many
    assert 380 < [t.params["c"] for t in study.trials].count("often") < 400


def test_points_off_the_grid_do_not_count():
    study = inloop.create_study(sampler=GridSampler({"a": [1, 2]}), pruner="nop", space={"a": Int(0, 10)}, seed=0)
    study.add_trial({"a": 7}, 1.0)
    study.enqueue_trial({"a": 9})
    study.optimize(measure_trial)
    assert sorted(t.params["a"] for t in study.trials) == [1, 2, 7, 9]


def raises(trial):
    raise RuntimeError("before any parameter")


ROUNDED = [float(a) for a in np.arange(0.1, 0.35, 0.1)]  # the last one is 0.30000000000000004


@pytest.mark.parametrize(
    ("values", "objective", "n"),
    [
        (ROUNDED, lambda trial: trial.suggest_float("a", 0.1, 0.3), 3),
        ([1, 1, 2], lambda trial: trial.suggest_int("a", 1, 3), 2),
        ([1, 20], lambda trial: trial.suggest_int("a", 1, 3), 2),
        (["x", "y", "x"], lambda trial: float(trial.suggest_categorical("a", ["x", "y", "z"]) == "x"), 2),
        (["x", "y"], lambda trial: float(trial.suggest_categorical("a", ["x"]) == "x"), 2),
        ([1, 2, 3], raises, 3),
    ],
)
def test_a_grid_ends_whatever_the_objective_makes_of_it(values, objective, n):
    study = inloop.create_study(sampler=GridSampler({"a": values}), pruner="nop", seed=0)
    study.optimize(objective, n_trials=20, catch=(RuntimeError, ValueError))
    assert len(study.trials) == n
    taken = [t.params["a"] for t in study.trials if t.params]
    assert all(any(v == pytest.approx(a) if isinstance(v, float) else v == a for v in values) for a in taken)


def test_a_value_of_a_grid_that_cannot_be_suggested_is_named():
    study = inloop.create_study(sampler=GridSampler({"a": [20]}), pruner="nop")
    with pytest.raises(ValueError, match=r"a=20.*lies outside Int\(low=1, high=3"):
        study.optimize(lambda trial: trial.suggest_int("a", 1, 3), n_trials=1)


RANGES = {
    "one": lambda t, n: t.suggest_float(n, 0, 1, step=0.05),
    "float": lambda t, n: t.suggest_float(n, 0, 1 + 0.05 * (t.number % 2), step=0.05),
    "int": lambda t, n: t.suggest_int(n, 4 * (t.number % 2), 1000 + 4 * (t.number % 2), step=8) / 1000,
    "other steps": lambda t, n: t.suggest_float(n, 0, 1, step=0.05 if t.number % 2 else 0.1),
    "narrower": lambda t, n: t.suggest_float(n, 0, 0.5 + 0.1 * (t.number % 5)),
}


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_proposals_survive_ranges_that_change(sampler, ranges):
    def objective(trial):
        return sum((RANGES[ranges](trial, n) - 0.3) ** 2 for n in "xyz")

    late, best = [], []
    for seed in range(4):
        study = inloop.create_study(sampler=sampler, pruner="nop", seed=seed)
        study.optimize(objective, n_trials=60)
        late += [t.value for t in study.trials[30:]]
        best.append(study.best_value)
    assert np.mean(best) < 0.01
    assert np.median(late) < 0.2  # of random points 0.4


@pytest.mark.parametrize("sampler", ["auto", "gp", "tpe"])
def test_a_finite_space_is_not_used_up_by_trials_of_a_larger_one(sampler):
    study = inloop.create_study(sampler=sampler, pruner="nop", seed=0)
    for _ in range(12):
        trial = study.ask({"k": [1, 2, 3], "y": Float(0, 1)})
        study.tell(trial, trial.params["y"])
    seen = {study.ask({"k": [1, 2, 3]}).params["k"] for _ in range(3)}
    assert seen == {1, 2, 3}


def test_a_grid_too_large_to_list():
    study = a_grid_study({f"p{i}": list(range(10)) for i in range(100)})
    assert len({repr(p) for p in fill(study, 50)}) == 50


def test_a_grid_of_a_continuum_is_refused():
    with pytest.raises(ValueError, match="x = Float"):
        GridSampler({"x": Float(0, 1)})


@pytest.mark.parametrize("size", [1, 2, 3, 17, 256, 1000])
def test_shuffle_is_a_permutation_and_its_inverse(size):
    order = Shuffle(size, seed=5)
    assert sorted(order.index(p) for p in range(size)) == list(range(size))
    assert [order.place(order.index(p)) for p in range(size)] == list(range(size))


# Quasi-random sequences


@pytest.mark.parametrize("qmc_type", ["sobol", "halton"])
@pytest.mark.parametrize("scramble", [True, False])
def test_a_sequence_may_be_read_in_any_order(qmc_type, scramble):
    space = Space({f"x{i}": Float(0, 1) for i in range(5)})
    sampler = QMCSampler(qmc_type, scramble)
    study = inloop.create_study(sampler=sampler, pruner="nop", space=space, seed=4)
    in_order = fill(study, 200)
    rng = np.random.default_rng(0)
    for number in (150, 3, 3, 64, 63, 199, 0):
        assert sampler.ask(space, study.history, number, rng) == in_order[number]


@pytest.mark.parametrize("qmc_type", ["sobol", "halton"])
def test_a_sequence_fills_the_space_evenly(qmc_type):
    study = inloop.create_study(sampler=QMCSampler(qmc_type), pruner="nop", space=SPACES["floats"], seed=0)
    points = np.array([[p["x"], math.log(p["z"])] for p in fill(study, 128)])
    scaled = (points - [-5, math.log(1e-6)]) / [10, math.log(1e9)]
    assert stats.qmc.discrepancy(scaled) < 0.3 * stats.qmc.discrepancy(np.random.default_rng(0).random((128, 2)))


def test_sobol_has_a_limit_and_halton_is_the_way_out():
    space = Space({f"x{i}": Float(0, 1) for i in range(21202)})
    study = inloop.create_study(sampler=QMCSampler(), pruner="nop", space=space, seed=0)
    with pytest.raises(ValueError, match="halton"):
        study.ask()
    with pytest.raises(ValueError, match="'sobol', 'halton'"):
        QMCSampler("latin")


# CMA-ES


def test_cmaes_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    study = inloop.create_study(sampler="cmaes", space=SPACES["floats"], seed=0)
    with pytest.raises(ImportError, match="pip install cmaes"):
        study.ask()


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 4])
def test_cmaes_comes_close_in_a_bent_valley_of_mixed_parameters(parallel):
    space = Space({f"x{i}": Float(-3, 3) for i in range(4)} | {"i": Int(-20, 20), "k": Int(1, 1000, log=True)})

    def loss(p):
        x = [p[f"x{i}"] for i in range(4)]
        bend = sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x))
        return bend + (p["i"] - 7) ** 2 + math.log(p["k"] / 30) ** 2

    def best(sampler):
        study = inloop.create_study(sampler=sampler, pruner="nop", space=space, seed=1)
        for _ in range(1200 // parallel):
            for trial in study.ask_batch(parallel):
                study.tell(trial, loss(trial.params))
        return study.best_value

    ours = best("cmaes")
    assert ours < 1.5
    assert ours < 0.2 * best("random")


def test_cmaes_starts_again_when_it_has_come_to_rest():
    study = inloop.create_study(sampler="cmaes", pruner="nop", space={"x": Float(0, 1), "y": Float(0, 1)}, seed=0)
    study.optimize(lambda t: 1.0, n_trials=400)
    late = np.array([list(t.params.values()) for t in study.trials[-150:]])
    assert late.std(0).min() > 0.05


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("population_size", [2, 3])
def test_cmaes_searches_with_the_smallest_populations(population_size):
    sampler = CmaEsSampler(population_size=population_size)
    study = inloop.create_study(sampler=sampler, pruner="nop", space={"x": Float(0, 1), "y": Float(0, 1)}, seed=0)
    study.optimize(lambda t: (t.params["x"] - 0.3) ** 2 + (t.params["y"] - 0.6) ** 2, n_trials=100)
    assert study.best_value < 1e-3


def test_cmaes_follows_the_choices_of_good_trials_one_by_one():
    space = Space({"c": list("abcd"), "w": Categorical(["rare", "often"], weights=[0.05, 0.95]), "x": Float(0, 1)})
    study = inloop.create_study(sampler="cmaes", pruner="nop", space=space, seed=0)
    study.optimize(lambda t: (t.params["c"] != "b") + t.params["x"], n_trials=120)
    assert sum(t.params["c"] == "b" for t in study.trials[60:]) > 40
    assert sum(t.params["w"] == "often" for t in study.trials[:20]) >= 16


@pytest.mark.parametrize("bad", [{"sigma": 0}, {"sigma": math.nan}, {"population_size": 1}])
def test_cmaes_names_the_setting_that_is_wrong(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        CmaEsSampler(**bad)


NOTHING_LEARNT = {
    "NaN": lambda trial: math.nan,
    "inf": lambda trial: math.inf,
    "raises": raises,
    "pruned without a report": lambda trial: (_ for _ in ()).throw(inloop.TrialPruned),
    "all the same": lambda trial: 0.25,
}


@pytest.mark.filterwarnings("ignore:.*returned NaN")
@pytest.mark.parametrize("how", NOTHING_LEARNT)
@pytest.mark.parametrize("sampler", ["auto", "gp", "tpe", "cmaes"])
def test_a_study_goes_on_whose_first_trials_told_nothing(sampler, how, tmp_path):
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        return NOTHING_LEARNT[how](trial) if trial.number < 12 else 0.25 * abs(x - 0.3)

    for n in (8, 17, 24):  # reopened before, at and after the first that tells
        study = inloop.create_study(
            sampler=sampler, pruner="nop", seed=0, storage=str(tmp_path / "s.db"), study_name="s", load_if_exists=True
        )
        study.optimize(objective, n_trials=n - len(study.trials), catch=(RuntimeError,))
    assert study.best_value < 0.1


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("sampler", ["auto", "gp"])
def test_a_hole_in_a_plateau_is_found_and_searched(sampler, d, level, noise):
    best = []
    wide = (0.16 / (5.26 if d == 5 else math.pi)) ** (1 / d)  # a sixth of the cube, as its radius
    for seed in range(5):
        study = inloop.create_study(sampler=sampler, seed=seed, space={f"x{i}": Float(0, 1) for i in range(d)})
        rng = np.random.default_rng(seed)
        for _ in range(60):
            trial = study.ask()
            depth = 1 - min(math.dist(trial.params.values(), [0.4] * d) / wide, 1)
            study.tell(trial, level - depth + noise * rng.normal())
        best.append(level - study.best_value)
    assert min(best) > 0.6
    assert np.mean(best) > 0.75


@pytest.mark.filterwarnings("ignore:.*NaN")
@pytest.mark.parametrize("nothing", ["equal", "failed"])
@pytest.mark.parametrize("n", [21, 45])
def test_long_without_a_word_the_sampler_learns_as_well(n, nothing):
    """What was fitted to trials that say nothing is forgotten with the first that do."""
    best = []

    def objective(params):
        loss = 2 * math.dist(params.values(), [0.7] * 3)
        return min(loss, 0.9) if nothing == "equal" or loss < 0.9 else math.nan

    for seed in range(20):
        study = inloop.create_study(sampler="gp", pruner="nop", seed=seed, space={c: Float(0, 1) for c in "xyz"})
        rng = np.random.default_rng(seed)
        far, near = rng.random((200, 3)), 0.7 + 0.08 * rng.normal(size=(2, 3))
        far = far[((far - 0.7) ** 2).sum(1) > 0.45**2][:n]
        for point in np.concatenate([far, np.clip(near, 0.0, 1.0)]):
            params = dict(zip("xyz", point.tolist(), strict=True))
            loss = objective(params)
            study.add_trial(
                params, None if math.isnan(loss) else loss, state="FAILED" if math.isnan(loss) else "COMPLETE"
            )
        study.optimize(lambda t: objective(t.params), n_trials=20)
        best.append(study.best_value)
    assert np.mean(best) < (0.03 if nothing == "equal" else 0.055)


def above_another(trial):
    low = trial.suggest_float("low", 0, 1)
    return (low - 0.6) ** 2 + (trial.suggest_float("high", low, 1) - low - 0.1) ** 2


def up_to_another(trial):
    a = trial.suggest_int("a", 50, 100)
    return abs(a - 70) + abs(trial.suggest_int("b", 1, a) - 30)


def by_a_choice(trial):
    if trial.suggest_categorical("k", ["a", "b"]) == "a":
        return (trial.suggest_float("x", 0, 1) - 0.9) ** 2 + 0.05
    return (trial.suggest_float("x", 10, 20) - 12.3) ** 2 / 100


@pytest.mark.parametrize("objective", [above_another, up_to_another, by_a_choice])
@pytest.mark.parametrize("sampler", ["auto", "gp", "tpe", "random"])
def test_ranges_that_depend_on_others_do_not_crowd_at_their_ends(sampler, objective):
    ends = []
    for seed in range(3):
        study = inloop.create_study(sampler=sampler, pruner="nop", seed=seed)
        study.optimize(objective, n_trials=60)
        last = list(study.trials[0].params)[-1]
        ends += [t.params[last] in (t.distributions[last].low, t.distributions[last].high) for t in study.trials]
    assert np.mean(ends) < (0.1 if sampler == "random" else 0.4)


@pytest.mark.parametrize("how", ["enqueued", "lost", "added"])
@pytest.mark.parametrize("seed", range(3))
def test_a_grid_is_tried_in_full_and_once_whatever_is_tried_besides(seed, how):
    grid = {"x": [1, 2, 3], "z": ["a", "b"]}
    study = inloop.create_study(sampler=GridSampler(grid), pruner="nop", seed=seed)

    def objective(trial):
        return trial.suggest_int("x", 1, 3) + (trial.suggest_categorical("z", ["a", "b"]) == "a")

    if how == "enqueued":
        study.enqueue_trial({"x": 2, "z": "b"})
    elif how == "added":
        study.add_trial({"x": 2, "z": "b"}, 2.0)
    else:
        trial = study.ask()
        objective(trial)
        lose(study, trial)
    study.optimize(objective, n_trials=20)
    tried = [tuple(t.params.values()) for t in study.trials if t.state is TrialState.COMPLETE]
    assert sorted(tried) == [(x, z) for x in (1, 2, 3) for z in "ab"]


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_choices_that_are_given_twice_are_one(sampler):
    study = inloop.create_study(sampler=sampler, seed=0, space={"c": ["a", "a", "a", "b"], "k": Int(1, 3)})
    study.optimize(lambda t: t.params["k"] + (t.params["c"] == "b"), n_trials=200 if sampler == "random" else 6)
    drawn = [t.params["c"] for t in study.trials]
    assert {tuple(t.params.values()) for t in study.trials} == {(c, k) for c in "ab" for k in (1, 2, 3)}
    if sampler == "random":
        assert 0.65 < drawn.count("a") / len(drawn) < 0.85


@pytest.mark.parametrize("bad", [-1e12, -math.inf])
def test_one_absurdly_good_value_does_not_blind_the_model(bad):
    best = []
    for seed in range(4):
        study = inloop.create_study(seed=seed, space={c: Float(0, 1) for c in "abcd"})
        values = []
        for i in range(40):
            trial = study.ask()
            values.append(sum((v - 0.6) ** 2 for v in trial.params.values()))
            study.tell(trial, bad if i == 3 else values[-1])
        best.append(min(values))
    assert np.median(best) < 0.01  # of random points 0.03


@pytest.mark.parametrize("of", [warp.half_rank, warp.standard])
def test_a_high_level_hides_no_differences_but_those_of_rounding(of):
    level, ones = 2.0**40, np.ones(30)
    losses = level + np.sort(np.random.default_rng(0).random(30))
    assert np.allclose(of(losses, ones), of(losses - level, ones), atol=0.01)
    assert not of(level + math.ulp(level) * np.repeat([0.0, 1.0], 15), ones).any()


@pytest.mark.parametrize("sampler", ["auto", "gp", "tpe", "cmaes"])
def test_a_space_given_at_each_ask_is_the_same_space(sampler):
    study = inloop.create_study(sampler=sampler, pruner="nop", seed=0)
    for _ in range(30):
        trial = study.ask({"x": Float(0, 1), "c": [(1, 2), "other"]})
        study.tell(trial, abs(trial.params["x"] - 0.5))
    assert len(study._log.history._encoded) == 1


class Opaque:
    """A choice that JSON cannot hold."""

    def __init__(self, k):
        self.k = k

    def __repr__(self):
        return f"Opaque {self.k}"

    def __eq__(self, other):
        return isinstance(other, Opaque) and self.k == other.k

    def __hash__(self):
        return hash(self.k)


class Alike:
    """Choices that JSON cannot hold and that have one name."""

    def __repr__(self):
        return "<Alike>"


CHOICES = {
    "tuples": [(k, (k, "x")) for k in range(6)],
    "lists and dicts": [[0], {"a": [1, None]}, {"a": (1, None)}, [2.5, True], {}, []],
    "objects": [Opaque(k) for k in range(6)],
    "objects of long names": [Opaque(f"{'x' * 90} {k}") for k in range(6)],
    "objects of one name": [Alike() for _ in range(6)],
}


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_a_study_opened_for_each_trial_proposes_what_a_live_one_does(sampler, choices, tmp_path):
    choices = CHOICES[choices]

    def objective(trial):
        return choices.index(trial.suggest_categorical("c", choices)) + trial.suggest_float("x", 0, 1)

    def opened(name):
        return inloop.create_study(
            sampler=sampler, seed=0, storage=str(tmp_path / name), study_name="s", load_if_exists=True
        )

    live = opened("live.db")
    live.optimize(objective, n_trials=25)
    for _ in range(25):
        again = opened("again.db")
        again.optimize(objective, n_trials=1)
    assert [t.value for t in again.trials] == [t.value for t in live.trials]
    again.enqueue_trial({**again.best_params, "x": 0.5})
    again.enqueue_trial({"c": choices[3], "x": 0.5})
    again.add_trial({"c": choices[4], "x": 0.5}, 4.5)
    again.optimize(objective, n_trials=2)
    assert [t.value for t in again.trials[-2:]] == [0.5, 3.5]


def test_tpe_finds_the_best_of_many_choices():
    best = {"tpe": [], "random": []}
    for sampler, values in best.items():
        for seed in range(4):
            study = inloop.create_study(sampler=sampler, seed=seed, space={"c": list(range(200)), "x": Float(0, 1)})
            study.optimize(
                lambda t: abs(t.params["c"] * 37 % 200 - 100) / 100 + (t.params["x"] - 0.3) ** 2, n_trials=120
            )
            values.append(study.best_value)
    assert np.median(best["tpe"]) < 0.5 * np.median(best["random"])


def test_tpe_leaves_a_place_that_it_has_looked_at_enough():
    rng = np.random.default_rng(0)
    study = inloop.create_study(sampler="tpe", seed=0, space={"x": Float(0, 1), "y": Float(0, 1)})
    for _ in range(12):
        study.add_trial(dict(zip("xy", rng.random(2).tolist(), strict=True)), 1.0)
    for _ in range(60):
        study.add_trial(dict(zip("xy", (0.3 + rng.normal(0, 0.02, 2)).tolist(), strict=True)), rng.random())
    asked = [study.ask().params for _ in range(20)]
    assert np.mean([math.dist(p.values(), (0.3, 0.3)) > 0.1 for p in asked]) > 0.5


@pytest.mark.parametrize("levels", [6, 13, 101])
def test_cmaes_comes_as_close_on_many_levels_as_on_a_continuum(levels):
    """Apart from the rounding; on a few levels the margin keeps some distance for long."""
    goal = np.random.default_rng(5).random(5)

    def best(dist, seed):
        study = inloop.create_study(sampler="cmaes", pruner="nop", seed=seed, space={f"x{i}": dist for i in range(5)})
        study.optimize(
            lambda t: float(sum((dist.to_unit(v) - g) ** 2 for v, g in zip(t.params.values(), goal, strict=True))),
            n_trials=150,
        )
        return study.best_value

    rounded = sum((Int(1, levels).to_unit(Int(1, levels).from_unit(g)) - g) ** 2 for g in goal)
    ours = np.mean([best(Int(1, levels), seed) for seed in range(5)])
    assert ours - rounded < 2 * np.mean([best(Float(0, 1), seed) for seed in range(5)])


def test_kernels_of_a_choice_count_where_it_is_active():
    from inloop.samplers.parzen import Contrast, layout

    space = Space({"m": ["a", "b"], "c": list(range(20))}, when={"c": {"m": ["b"]}})
    units = np.tile([0.25, np.nan], (100, 1))
    units[[3, 60]] = 0.75, 0.5
    contrast = Contrast(units, 25, layout(space))
    column = [space.names[j] for j in layout(space).choices].index("c")
    np.testing.assert_allclose(contrast._stay[:, column], 1 / 21)
