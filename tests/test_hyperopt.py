"""Laws of Hyperopt's spaces and loop with inloop's samplers, and of its algorithms in an inloop study."""

import functools
import math
import pickle

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space

hyperopt = pytest.importorskip("hyperopt")
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, fmin, hp, space_eval
from hyperopt.pyll import scope, stochastic
from inloop.integrations.hyperopt import HyperoptSampler, from_hyperopt, suggest

EVERY = {
    "uniform": hp.uniform("uniform", -2, 3),
    "quniform": hp.quniform("quniform", 0, 1, 0.3),
    "uniformint": hp.uniformint("uniformint", 1, 6),
    "loguniform": hp.loguniform("loguniform", -5, 1),
    "qloguniform": hp.qloguniform("qloguniform", 0, 5, 2),
    "normal": hp.normal("normal", 1, 2),
    "qnormal": hp.qnormal("qnormal", 0, 3, 0.5),
    "lognormal": hp.lognormal("lognormal", 0, 1),
    "qlognormal": hp.qlognormal("qlognormal", 1, 1, 1),
    "randint": hp.randint("randint", 7),
    "randint2": hp.randint("randint2", 3, 9),
    "choice": hp.choice("choice", ["a", None, (1, 2)]),
    "pchoice": hp.pchoice("pchoice", [(0.1, "x"), (0.7, "y"), (0.2, "z")]),
}
SHARED = hp.uniform("shared", 0, 1)
NESTED = hp.choice(
    "model",
    [
        {"kind": "linear", "l2": hp.loguniform("l2", -8, 0), "shared": SHARED},
        {
            "kind": "net",
            "layers": hp.choice("layers", [[hp.uniformint("w0", 4, 64)], [hp.quniform("w1", 4, 64, 4), SHARED]]),
            "act": hp.pchoice("act", [(0.9, "relu"), (0.1, hp.uniform("slope", 0, 1))]),
        },
        "nothing",
    ],
)
SPACES = {"every": EVERY, "nested": NESTED, "list": [hp.uniform("x", 0, 1), ("const", hp.normal("y", 0, 1))]}
spaces = pytest.mark.parametrize("theirs", SPACES.values(), ids=SPACES)


def measure(value):
    """Return a number for whatever a space evaluates to."""
    if isinstance(value, dict):
        return sum(map(measure, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(measure, value))
    return math.atan(value - 0.3) ** 2 if isinstance(value, int | float) else float(value in ("y", "linear"))


def test_distributions():
    ours = from_hyperopt(EVERY)
    assert ours["uniform"] == Float(-2, 3)
    assert ours["quniform"] == Float(0, 3 * 0.3, step=0.3)
    assert ours["uniformint"] == Int(1, 6)
    assert (ours["loguniform"].log, math.log(ours["loguniform"].low)) == (True, pytest.approx(-5))
    assert ours["randint"] == Int(0, 6)
    assert ours["randint2"] == Int(3, 8)
    assert ours["choice"] == Categorical([0, 1, 2])
    assert ours["pchoice"] == Categorical([0, 1, 2], weights=[0.1, 0.7, 0.2])


HALVES = [
    (0.5, 5.5, 1),
    (1.5, 6.5, 1),
    (-2.5, 2.5, 1),
    (0.15, 0.75, 0.1),
    (0.5, 5.4, 1),
    (0.4, 5.6, 1),
    (1, 4, 10),
    (2.5, 2.5001, 1),
]


@pytest.mark.parametrize(("low", "high", "q"), HALVES)
@pytest.mark.parametrize("kind", [hp.quniform, hp.qloguniform, hp.uniformint])
def test_rounded_values_are_those_that_hyperopt_draws(kind, low, high, q):
    if (kind is hp.uniformint and q != 1) or (kind is hp.qloguniform and low <= 0):
        return
    bounds = (math.log(low), math.log(high)) if kind is hp.qloguniform else (low, high)
    theirs = kind("x", *bounds, **({} if kind is hp.uniformint else {"q": q}))
    rng = np.random.default_rng(0)
    drawn = {stochastic.sample(theirs, rng) for _ in range(1000)}
    dist = from_hyperopt(theirs)["x"]
    places = [0, 1e-12, *np.linspace(0.001, 0.999, 999), 1 - 1e-12, 1]
    assert sorted({dist.from_unit(u) for u in places}) == pytest.approx(sorted(drawn))
    assert not dist.contains(min(drawn) - q)
    assert not dist.contains(max(drawn) + q)


@pytest.mark.parametrize("kind", [hp.normal, hp.qnormal, hp.lognormal, hp.qlognormal])
def test_a_deviation_of_zero_gives_one_value(kind):
    theirs = kind("x", 1.3, 0, **({"q": 0.5} if "q" in kind.__name__ else {}))
    value = stochastic.sample(theirs, np.random.default_rng(0))
    assert from_hyperopt(theirs)["x"] == Float(value, value)


NEVER = {
    "flat": (hp.pchoice("c", [(0, "a"), (0.3, "b"), (0, "c"), (0.7, "d")]), {"c"}),
    "nested": (
        hp.pchoice(
            "c",
            [
                (0.0, {"x": hp.uniform("x", 0, 1), "s": SHARED, "in": hp.choice("in", [1, hp.normal("y", 0, 1)])}),
                (0.5, {"s": SHARED, "p": hp.pchoice("p", [(1, hp.uniform("z", 0, 1)), (0, hp.uniform("w", 0, 1))])}),
                (0.0, hp.choice("whole", [hp.uniform("v", 0, 1), 3])),
                (0.5, "d"),
            ],
        ),
        {"c", "shared", "p", "z"},
    ),
}


@pytest.mark.parametrize(("theirs", "labels"), NEVER.values(), ids=NEVER)
@pytest.mark.parametrize("name", [None, "tpe", "random", "qmc", "gp"])
def test_options_of_probability_zero_are_never_proposed(theirs, labels, name):
    assert set(from_hyperopt(theirs)) == labels
    trials = Trials()
    algo = functools.partial(suggest, sampler=name)
    fmin(measure, theirs, algo, 25, trials=trials, rstate=np.random.default_rng(0), show_progressbar=False)
    docs = [doc["misc"]["vals"] for doc in trials.trials]
    assert {v for vals in docs for v in vals["c"]} == {1, 3}
    assert {n for vals in docs for n, v in vals.items() if v} == labels


def test_conditions():
    ours = from_hyperopt(NESTED)
    assert ours.when == {
        "l2": {"model": (0,)},
        "layers": {"model": (1,)},
        "w0": {"model": (1,), "layers": (0,)},
        "w1": {"model": (1,), "layers": (1,)},
        "act": {"model": (1,)},
        "slope": {"model": (1,), "act": (1,)},
        "shared": {"model": (0, 1)},  # and the first of two layers, which is more than there is
    }
    everywhere = hp.choice("c", [SHARED, {"a": SHARED}])
    assert from_hyperopt({"c": everywhere, "x": SHARED}).when == {}
    assert from_hyperopt(everywhere).when == {"shared": {"c": (0, 1)}}


@pytest.mark.slow
@spaces
def test_random_draws_are_distributed_as_theirs(theirs):
    ours = from_hyperopt(theirs)
    study = inloop.create_study(space=ours, sampler="random", seed=0)
    rng = np.random.default_rng(0)
    mine = [study.ask().params for _ in range(500)]
    other = [stochastic.sample(hyperopt.pyll.as_apply(theirs), rng) for _ in range(500)]
    assert {type(space_eval(theirs, p)) for p in mine} == {type(v) for v in other}
    if theirs is not EVERY:
        return
    for name in EVERY:
        a = [space_eval(EVERY[name], p) for p in mine]
        b = [v[name] for v in other]
        assert {type(x) for x in a} == {type(x) for x in b}
        if name in ("choice", "pchoice"):
            for c in set(b):
                assert abs(a.count(c) - b.count(c)) < 80
        else:
            for q in (0.1, 0.3, 0.5, 0.7, 0.9):
                low, high = np.quantile(b, [max(q - 0.1, 0), min(q + 0.1, 1)])
                assert low - 0.5 <= np.quantile(a, q) <= high + 0.5, name


@spaces
@pytest.mark.parametrize("name", ["auto", "tpe", "gp", "random", "qmc"])
def test_fmin_runs_our_samplers(theirs, name):
    trials = Trials()
    algo = functools.partial(suggest, sampler=name) if name != "auto" else suggest
    best = fmin(
        measure, theirs, algo, max_evals=25, trials=trials, rstate=np.random.default_rng(0), show_progressbar=False
    )
    assert len(trials) == 25
    assert measure(space_eval(theirs, best)) == pytest.approx(min(trials.losses()))
    labels = set(from_hyperopt(theirs))
    for doc in trials.trials:
        vals = doc["misc"]["vals"]
        assert set(vals) == set(doc["misc"]["idxs"]) == labels
        assert all(doc["misc"]["idxs"][n] == [doc["tid"]] * len(v) for n, v in vals.items())
        domain = hyperopt.Domain(measure, theirs)
        used = {n for n in labels if n in hyperopt.base.spec_from_misc(doc["misc"])}
        assert domain.evaluate(hyperopt.base.spec_from_misc(doc["misc"]), None)["loss"] == doc["result"]["loss"]
        if theirs is NESTED:  # no more than is needed
            model = vals["model"][0]
            layers = vals["layers"][0] if model == 1 else None
            expected = {"model"} | [{"l2", "shared"}, {"layers", "act", f"w{layers}"}, set()][model]
            expected |= ({"shared"} if layers == 1 else set()) | ({"slope"} if vals["act"] == [1] else set())
            assert used == expected


def test_fmin_goes_on_learns_and_survives_failures():
    def objective(p):
        if p["x"] > 8:
            return {"status": STATUS_FAIL}
        if p["x"] < -8:
            raise RuntimeError
        return {"status": STATUS_OK, "loss": (p["x"] - 3) ** 2 + p["k"], "note": "kept"}

    space = {"x": hp.uniform("x", -10, 10), "k": hp.randint("k", 20)}
    trials = Trials()
    for n in (10, 20, 40):  # each call has a domain of its own
        fmin(
            objective,
            space,
            suggest,
            n,
            trials=trials,
            rstate=np.random.default_rng(n),
            show_progressbar=False,
            catch_eval_exceptions=True,
            return_argmin=False,
        )
    assert trials.best_trial["result"]["loss"] < 0.1


def test_points_to_evaluate_and_queues():
    trials = hyperopt.fmin.__globals__["generate_trials_to_calculate"]([{"x": 3.0}, {"x": 30.0}])
    space = {"x": hp.uniform("x", -10, 10)}
    loss = lambda p: (p["x"] - 3) ** 2  # noqa: E731
    fmin(
        loss,
        space,
        suggest,
        12,
        trials=trials,
        rstate=np.random.default_rng(0),
        show_progressbar=False,
        max_queue_len=4,
    )
    assert len(trials) >= 12
    assert len({v["x"][0] for v in (t["misc"]["vals"] for t in trials.trials)}) == len(trials)


def test_a_grid_ends_fmin():
    trials = Trials()
    grid = inloop.samplers.GridSampler({"k": Int(0, 3), "c": [0, 1]})
    space = {"k": hp.randint("k", 4), "c": hp.choice("c", ["a", "b"])}
    algo = functools.partial(suggest, sampler=grid)
    fmin(lambda p: p["k"], space, algo, 50, trials=trials, show_progressbar=False, max_queue_len=3)
    assert len(trials) == len(set(zip(trials.vals["k"], trials.vals["c"], strict=True))) == 8


def test_fmin_repeats_itself_by_its_seed():
    def run(seed):
        trials = Trials()
        fmin(measure, NESTED, suggest, 12, trials=trials, rstate=np.random.default_rng(seed), show_progressbar=False)
        return trials.vals

    assert run(1) == run(1) != run(2)


@pytest.mark.slow
def test_ours_beats_random_search():
    def best(algo, seed):
        trials = Trials()
        loss = lambda p: (p["x"] - 1) ** 2 + (p["z"] - 0.01) ** 2 + (p["c"] != "b")  # noqa: E731
        space = {"x": hp.uniform("x", -9, 9), "z": hp.loguniform("z", -9, 2), "c": hp.choice("c", ["a", "b", "c"])}
        fmin(loss, space, algo, 30, trials=trials, rstate=np.random.default_rng(seed), show_progressbar=False)
        return min(trials.losses())

    ours, random = ([best(algo, s) for s in range(5)] for algo in (suggest, hyperopt.rand.suggest))
    assert np.median(ours) < 0.2 * np.median(random)


@pytest.mark.parametrize(
    ("theirs", "match"),
    [
        ({"a": 1}, "no hp expression"),
        ([hp.uniform("x", 0, 1), hp.uniform("x", 0, 1)], "'x' is used twice"),
        (hp.uniform("x", 0, hp.uniform("top", 1, 2)), "high of 'x' depends"),
    ],
)
def test_what_cannot_be_said_is_refused(theirs, match):
    with pytest.raises(ValueError, match=match):
        from_hyperopt(theirs)


def test_arithmetic_on_parameters_is_passed_through():
    theirs = {"n": scope.int(hp.quniform("n", 2, 9, 1)), "x": 2 * hp.uniform("x", 0, 1) + 1}
    ours = from_hyperopt(theirs)
    assert ours["n"] == Int(2, 9)
    assert space_eval(theirs, {"n": 3, "x": 0.5}) == {"n": 3, "x": 2.0}


def test_a_study_of_a_hyperopt_space_is_stored_and_loaded(tmp_path):
    ours = from_hyperopt(EVERY)
    study = inloop.create_study(space=ours, storage=f"{tmp_path}/s.db", study_name="s", seed=0)
    study.optimize(lambda t: measure(space_eval(EVERY, t.params)), n_trials=12)
    again = inloop.load_study("s", f"{tmp_path}/s.db", space=from_hyperopt(EVERY))
    assert [t.params for t in again.trials] == [t.params for t in study.trials]
    assert pickle.loads(pickle.dumps(ours)).id == ours.id


# Hyperopt's algorithms in an inloop study

MIXED = Space(
    {
        "m": ["a", None, (1, 2)],
        "w": Categorical(["x", "y"], weights=[0.9, 0.1]),
        "x": Float(-5, 5),
        "z": Float(1e-6, 1e3, log=True),
        "s": Float(0, 1, step=0.25),
        "i": Int(-3, 30, step=3),
        "k": Int(1, 1000, log=True),
        "one": Int(4, 4),
    },
    when={"k": {"m": ["a"]}, "i": {"w": ["x"]}},
)
algorithms = pytest.mark.parametrize("algo", ["tpe", "anneal", "rand", hyperopt.tpe.suggest])


@algorithms
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_values_lie_inside_the_space(algo, direction):
    study = inloop.create_study(sampler=HyperoptSampler(algo), space=MIXED, seed=0, direction=direction, pruner="nop")
    for i in range(40):
        trial = study.ask()
        assert list(trial.params) == MIXED.active(trial.params)
        MIXED.check(trial.params)
        trial.report(1.0, 1)
        how = (None, "failed", "pruned", "running", "nan", None)[i % 6]
        if how == "nan":
            study.tell(trial, math.nan)
        elif how != "running":
            study.tell(trial, measure(list(trial.params.values())), state=how)


@pytest.mark.slow
def test_atpe():
    pytest.importorskip("lightgbm")
    study = inloop.create_study(sampler=HyperoptSampler("atpe"), space=MIXED, seed=0, pruner="nop")
    study.optimize(lambda t: measure(list(t.params.values())), n_trials=15)
    assert len(study.trials) == 15


@algorithms
def test_the_seed_decides(algo):
    def params(seed):
        study = inloop.create_study(sampler=HyperoptSampler(algo), space=MIXED, seed=seed, pruner="nop")
        study.optimize(lambda t: measure(list(t.params.values())), n_trials=30)
        return [repr(t.params) for t in study.trials]

    assert params(1) == params(1) != params(2)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["tpe", "anneal"])
def test_it_learns(algo):
    def best(sampler, seed):
        study = inloop.create_study(
            sampler=sampler, seed=seed, pruner="nop", space={"x": Float(-5, 5), "k": Int(0, 99)}
        )
        study.optimize(lambda t: (t.params["x"] - 2) ** 2 + abs(t.params["k"] - 70) / 10, n_trials=50)
        return study.best_value

    ours = [best(HyperoptSampler(algo), s) for s in range(8)]
    random = [best("random", s) for s in range(8)]
    assert np.mean(ours) < 0.7 * np.mean(random)


def test_define_by_run():
    def objective(trial):
        c = trial.suggest_float("c", 1e-3, 1e3, log=True)
        if trial.suggest_categorical("model", ["linear", "net"]) == "linear":
            return abs(math.log10(c)) + 1
        return abs(math.log10(c)) + trial.suggest_int("layers", 1, 3)

    study = inloop.create_study(sampler=HyperoptSampler(), seed=0, pruner="nop")
    study.optimize(objective, n_trials=40)
    assert study.best_value < 1.5


def test_algorithms_that_are_wrong_are_named():
    with pytest.raises(ValueError, match="'tpee'"):
        HyperoptSampler("tpee")
    with pytest.raises(TypeError, match="3"):
        HyperoptSampler(3)
    assert repr(HyperoptSampler("anneal")) == "HyperoptSampler(algo='anneal')"
    assert pickle.loads(pickle.dumps(HyperoptSampler("tpe"))) == HyperoptSampler()


def test_weighted_choices():
    dist = Categorical(["a", "b", "c"], weights=[2, 1, 1])
    assert dist.weights == (0.5, 0.25, 0.25)
    space = Space({"c": dist, "x": Float(0, 1)})
    assert Space.from_json(space.to_json()) == space != Space({"c": ["a", "b", "c"], "x": Float(0, 1)})
    for sampler in ("random", "qmc"):
        study = inloop.create_study(sampler=sampler, space=space, seed=0)
        seen = [study.ask().params["c"] for _ in range(400)]
        assert abs(seen.count("a") - 200) < 40
        assert abs(seen.count("b") - 100) < 40
    for bad in ([1, 2], [0, 0, 0], [0, 1, 1], [1, -1, 1], [math.nan, 1, 1]):
        with pytest.raises(ValueError, match="weights"):
            Categorical(["a", "b", "c"], weights=bad)


@pytest.mark.parametrize(
    ("q", "goal"),
    [(hp.qnormal("x", 5, 3, 1), 8.0), (hp.qlognormal("x", 1, 1, 1), 8.0), (hp.qloguniform("x", 0, 4, 2), 20.0)],
)
def test_rounded_kinds_repeat_no_value(q, goal):
    study = inloop.create_study(space=from_hyperopt({"x": q}), seed=0)
    study.optimize(lambda t: abs(t.params["x"] - goal), n_trials=12)
    assert len({t.params["x"] for t in study.trials}) == 12
    assert study.best_value == 0.0
