"""Laws of narrowed spaces, and of the hints that a study gives of its space."""

import math
import warnings

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space, SpaceWarning
from inloop.samplers import GridSampler
from scipy import stats

SPACES = {
    "floats": Space({"x": Float(-5, 5), "y": Float(0, 1, step=0.1), "z": Float(1e-6, 1e3, log=True)}),
    "ints": Space({"i": Int(-3, 900), "j": Int(0, 100, step=5), "k": Int(1, 10_000, log=True)}),
    "single values": Space({"x": Float(2, 2), "i": Int(7, 7), "k": Int(1, 1, log=True), "y": Float(0, 1)}),
    "choices": Space({"c": [None, (1, 2), {"a": 1}, np.arange(3)], "d": [True, 1, 1.0, "1"]}),
    "conditional": Space(
        {"m": ["a", "b", "c"], "n": Int(1, 6), "x": Float(0, 1), "w": Float(1e-3, 1, log=True)},
        when={"n": {"m": ["b", "c"]}, "w": {"n": [4, 5, 6]}, "x": {"m": ["a"]}},
    ),
    "distributions": Space({"n": stats.norm(0, 1), "x": Float(0, 1)}),
}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def measure(trial):
    return sum(math.atan(v - 0.3) ** 2 for v in trial.params.values() if isinstance(v, int | float))


def searched(space, objective=measure, n=60, direction="minimize", sampler="random", **options):
    study = inloop.create_study(direction=direction, sampler=sampler, pruner="nop", space=space, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpaceWarning)
        study.optimize(objective, n_trials=n, **options)
    return study


def best_of(study, quantile):
    done = sorted((t for t in study.trials if t.value is not None), key=lambda t: t.value)
    return done[: math.ceil(quantile * len(done))]


@spaces
@pytest.mark.parametrize("quantile", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("margin", [0.0, 0.1, 5.0])
def test_the_best_trials_stay_and_nothing_is_added(space, quantile, margin):
    study = searched(space)
    narrow = inloop.refine(study, quantile=quantile, margin=margin)
    for trial in best_of(study, quantile):
        narrow.check(trial.params)
        assert narrow.active(trial.params) == list(trial.params)
    rng = np.random.default_rng(0)
    for _ in range(100):
        params = narrow.decode(rng.random(len(narrow)))
        space.check(params)
        assert set(space.active(params)) == set(params)
    for name, dist in narrow.items():
        old = space[name]
        assert type(dist) is type(old)
        if isinstance(dist, Float | Int):
            assert (dist.log, dist.step) == (old.log, old.step)
    if margin == 5.0:
        assert all(narrow[n] == space[n] for n in narrow if not isinstance(space[n], Categorical))


@spaces
def test_a_narrowed_space_can_be_searched(space):
    narrow = inloop.refine(searched(space))
    study = searched(narrow, n=12, sampler=None)
    assert inloop.Space.from_json(narrow.to_json(), labels=True).id == study.space.id


def test_margins_are_parts_of_the_old_range():
    study = inloop.create_study(space={"x": Float(0, 10), "z": Float(1e-4, 1e4, log=True), "k": Int(0, 99)}, seed=0)
    for x, z, k in ((4.0, 0.1, 50), (5.0, 10.0, 59)):
        study.add_trial({"x": x, "z": z, "k": k}, 1.0)
    narrow = inloop.refine(study, quantile=1.0, margin=0.1)
    assert (narrow["x"].low, narrow["x"].high) == pytest.approx((3.0, 6.0))
    assert (math.log10(narrow["z"].low), math.log10(narrow["z"].high)) == pytest.approx((-1.8, 1.8))
    assert (narrow["k"].low, narrow["k"].high) == (40, 69)


@pytest.mark.parametrize(
    ("dist", "values"),
    [
        (Int(0, 2**32 - 1), range(1000, 1010)),
        (Int(0, 2**53), range(2**53 - 9, 2**53 + 1)),
        (Int(5, 2**40 + 5, step=2), range(1005, 1025, 2)),
        (Int(1, 2**40, log=True), range(2**39, 2**39 + 10)),
        (Float(0, 2**32, step=0.5), [1000 + 0.5 * i for i in range(10)]),
    ],
    ids=str,
)
def test_the_best_stay_however_close_the_levels_lie(dist, values):
    study = inloop.create_study(space={"k": dist}, seed=0)
    for i, value in enumerate(values):
        study.add_trial({"k": value}, float(i))
    narrow = inloop.refine(study, quantile=1.0, margin=0.0)["k"]
    assert all(narrow.contains(v) for v in values)
    assert (narrow.low, narrow.high) == pytest.approx((values[0], values[-1]), abs=1e-8 * (dist.high - dist.low))


def test_the_direction_is_respected():
    space = {"x": Float(0, 100)}
    low = inloop.refine(searched(space, lambda t: t.params["x"]), margin=0.0)
    high = inloop.refine(searched(space, lambda t: t.params["x"], direction="maximize"), margin=0.0)
    assert low["x"].high < 50 < high["x"].low


def test_choices_that_worked_stay_and_so_do_those_not_tried():
    study = inloop.create_study(space={"c": ["good", "bad", "untried"], "x": Float(0, 1)}, seed=0)
    for i in range(10):
        study.add_trial({"c": "good" if i < 3 else "bad", "x": 0.5}, float(i))
    assert inloop.refine(study, quantile=0.3)["c"] == Categorical(["good", "untried"])


def test_what_can_never_be_active_is_left_out():
    study = inloop.create_study(space=SPACES["conditional"], seed=0)
    for i in range(10):
        study.add_trial({"m": "b" if i < 4 else "a" if i < 7 else "c", **({"n": 1 + i % 2} if i < 4 else {})}, float(i))
    narrow = inloop.refine(study, quantile=0.4, margin=0.0)
    assert list(narrow) == ["m", "n"]
    assert narrow["n"] == Int(1, 2)
    assert narrow.when == {"n": {"m": ("b",)}}


def test_define_by_run_and_grids():
    def objective(trial):
        if trial.suggest_categorical("m", ["a", "b"]) == "a":
            return trial.suggest_float("x", 0, 10)
        return 20.0

    narrow = inloop.refine(searched(None, objective))
    assert list(narrow) == ["m", "x"]
    assert narrow["m"] == Categorical(["a"])
    assert narrow["x"].high < 9
    grid = searched(None, lambda t: t.suggest_int("k", 1, 9), sampler=GridSampler({"k": list(range(1, 10))}))
    assert inloop.refine(grid)["k"] == Categorical([1, 2])


def test_failed_and_infinite_trials_are_no_guide():
    study = inloop.create_study(space={"x": Float(0, 10)}, seed=0)
    for i in range(10):
        study.add_trial({"x": float(i)}, -math.inf if i > 7 else float(i))
        study.add_trial({"x": 9.5}, None, state="failed")
    assert inloop.refine(study, quantile=0.5, margin=0.0)["x"] == Float(0, 3)


@pytest.mark.parametrize("bad", [{"quantile": 0}, {"quantile": 1.1}, {"margin": -0.1}, {"margin": math.nan}])
def test_arguments_that_are_wrong_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        inloop.refine(searched(SPACES["floats"], n=3), **bad)


def test_nothing_to_go_by_is_said():
    for space in (None, SPACES["floats"]):
        with pytest.raises(ValueError, match="no complete trial"):
            inloop.refine(inloop.create_study(space=space))


# Hints


def hints(space, objective, n=60, sampler="auto", study=None, seed=0, **options):
    study = study or inloop.create_study(space=space, sampler=sampler, pruner="nop", seed=seed, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study.optimize(objective, n_trials=n)
    assert all(w.category is SpaceWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


SLOPES = {
    "x=3, high is 3": ({"x": Float(1, 3)}, lambda t: -t.params["x"]),
    "x=1, low is 1": ({"x": Float(1, 3)}, lambda t: t.params["x"]),
    "z=1, high is 1": ({"z": Float(1e-3, 1, log=True)}, lambda t: -t.params["z"]),
    "k=40, high is 40": ({"k": Int(10, 40)}, lambda t: -t.params["k"]),
    "k=16, low is 16": ({"k": Int(16, 4096, log=True)}, lambda t: t.params["k"]),
    "k=2, low is 2": ({"k": Int(2, 64, log=True)}, lambda t: math.log(t.params["k"])),
    "k=12, high is 12": ({"k": Int(2, 12, log=True)}, lambda t: -t.params["k"]),
    "k=5, low is 5": ({"k": Int(5, 11)}, lambda t: t.params["k"]),
    "y=2, high is 2": ({"y": Float(1, 2, step=0.125)}, lambda t: -t.params["y"]),
}


@pytest.mark.parametrize("text", SLOPES)
def test_the_best_value_at_an_edge_is_named_once(text):
    space, objective = SLOPES[text]
    space = {**space, "other": Float(-1, 1)}
    study = inloop.create_study(space=space, sampler="tpe", pruner="nop", seed=0)
    run = lambda t: objective(t) + t.params["other"] ** 2  # noqa: E731
    assert hints(None, run, n=29, study=study) == []
    (said,) = hints(None, run, n=40, study=study)
    name, value, side = text.replace("=", " ").replace(",", "").split()[:3]
    assert f"{name}=" in said
    assert f"{side} is" in said
    assert "other" not in said
    assert float(said.split(f"{name}=")[1].split(",")[0]) == pytest.approx(float(value), rel=0.2)
    assert hints(None, run, n=5, study=study) == []


@pytest.mark.parametrize(
    ("space", "objective"),
    [
        ({"x": Float(0, 1)}, lambda t: t.params["x"]),  # nothing below zero
        ({"subsample": Float(0.3, 1)}, lambda t: -t.params["subsample"]),  # no share above one
        ({"depth": Int(1, 30)}, lambda t: t.params["depth"]),
        ({"k": Int(5, 8), "x": Float(-1, 1)}, lambda t: t.params["k"] + t.params["x"] ** 2),  # too few levels
        ({"x": Float(-1, 1), "idle": Float(5, 6)}, lambda t: t.params["x"] ** 2),
        ({"c": ["a", "b"], "x": Float(-1, 1)}, lambda t: t.params["x"] ** 2),
        ({"x": Float(3, 3), "y": Float(-1, 1)}, lambda t: t.params["y"] ** 2),
        ({"x": Float(1, 2)}, lambda t: -math.inf if t.params["x"] > 1.9 else t.params["x"]),
    ],
)
@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_no_hint_where_there_is_nothing_to_say(space, objective, sampler):
    assert hints(space, objective, sampler=sampler) == []


@pytest.mark.parametrize("seed", range(4))
def test_no_hint_of_what_noise_alone_put_at_an_edge(seed):
    space = {f"x{i}": Float(0.5, 2) for i in range(10)} | {"z": Float(1, 3)}
    rng = np.random.default_rng(seed)
    assert hints(space, lambda t: (t.params["z"] - 2) ** 2 + 0.2 * rng.normal(), sampler="auto", seed=seed) == []


@pytest.mark.parametrize(
    ("name", "dist", "hinted"),
    [
        ("learning_rate", Float(1e-4, 1), True),
        ("svc__C", Float(0.01, 100), True),
        ("reg_alpha", Float(1e-3, 10), True),
        ("l2", Float(1e-6, 1), True),
        ("learning_rate", Float(1e-2, 1), False),  # two decades
        ("learning_rate", Float(1e-4, 1, log=True), False),
        ("learning_rate", Float(0, 1), False),
        ("learning_rate", Float(1e-3, 1, step=1e-3), False),  # has no logarithm
        ("alpha", Int(1, 1000), True),
        ("alpha", Int(1, 1001, step=10), False),
        ("dropout_rate", Float(1e-3, 1), False),
        ("temperature", Float(1e-3, 10), False),
    ],
)
def test_a_linear_range_over_decades_of_a_rate(name, dist, hinted):
    objective = lambda t: (t.params[name] / dist.high - 0.5) ** 2  # noqa: E731
    said = hints({name: dist}, objective, sampler="random")
    assert len(said) == hinted
    assert not hinted or (repr(name) in said[0] and "log=True" in said[0])


USED = {  # name, range, value that is best on a logarithmic scale
    "reals": ("strength", Float(1e-3, 10), 0.05),
    "reals from 0": ("a", Float(0, 1), 1e-3),
    "integers": ("n", Int(1, 10_000), 150),
}


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
@pytest.mark.parametrize(("name", "dist", "best"), USED.values(), ids=USED)
def test_a_range_used_as_a_rate_is_one(name, dist, best, sampler):
    def objective(trial):
        return math.log10((trial.params[name] + 1e-9) / best) ** 2 + trial.params["other"] ** 2

    study = inloop.create_study(space={name: dist, "other": Float(-1, 1)}, sampler=sampler, pruner="nop", seed=0)
    rates = hints(None, objective, n=80, study=study)  # and no edge, which low values are near only linearly
    assert len(rates) == 1
    assert "log=True" in rates[0]
    assert repr(name) in rates[0]
    assert "'other'" not in rates[0]
    if dist.low == 0:
        low = float(rates[0].split("Float(")[1].split(",")[0])
        assert 0 < low < min(t.params[name] for t in best_of(study, 0.05))
    assert not any("log=True" in s for s in hints(None, objective, n=5, study=study))


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
@pytest.mark.parametrize(
    "objective",
    [
        lambda t: (t.params["a"] - 0.005) ** 2 + 0.1 * t.params["other"] ** 2,  # all late trials lie there
        lambda t: (t.params["n"] / 10_000 - 0.05) ** 2 + 0.1 * t.params["other"] ** 2,
        lambda t: t.params["a"] + t.params["n"],
        lambda t: t.params["other"] ** 2,
    ],
    ids=["reals", "integers", "lowest", "idle"],
)
def test_no_hint_where_good_values_are_low_on_a_linear_scale(objective, sampler):
    space = {"a": Float(0, 1), "n": Int(1, 10_000), "other": Float(-1, 1)}
    assert hints(space, objective, n=80, sampler=sampler) == []


def test_asked_for_by_ask_and_tell_nothing_is_said():
    study = inloop.create_study(space={"lr": Float(1e-4, 1)}, sampler="random", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(50):
            trial = study.ask()
            study.tell(trial, trial.params["lr"])
