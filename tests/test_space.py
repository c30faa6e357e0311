"""Laws of parameters and spaces."""

import copy
import json
import math
import pickle

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space
from inloop.distributions import Quantile, Sampled, as_distribution, from_json
from scipy import stats

CHOICES = [None, True, 1, "1", 1.5, (1, 2), [1, 2], {"a": 1}, np.arange(3), np.arange(4), object(), float("nan")]

DISTS = {
    "float": Float(-3.0, 7.5),
    "float tiny": Float(1e-300, 1e-299),
    "float wide": Float(-1e300, 7e299),
    "float log": Float(1e-8, 1e3, log=True),
    "float step": Float(0.1, 0.7, step=0.1),
    "float one": Float(2.0, 2.0),
    "float log one": Float(2.0, 2.0, log=True),
    "int": Int(-5, 9),
    "int step": Int(-4, 20, step=3),
    "int log": Int(1, 1000, log=True),
    "int huge": Int(-(2**53), 2**53),
    "int log huge": Int(1, 2**50, log=True),
    "int one": Int(3, 3),
    "int log one": Int(3, 3, log=True),
    "categorical": Categorical(CHOICES),
    "categorical one": Categorical([None]),
    "norm": as_distribution(stats.norm(3, 2)),
    "truncnorm": as_distribution(stats.truncnorm(-1, 2, loc=1)),
    "poisson": as_distribution(stats.poisson(4)),
    "gamma": as_distribution(stats.gamma(2)),
    "shifted loguniform": as_distribution(stats.loguniform(1, 10, loc=5)),
}


@pytest.mark.parametrize("name", DISTS)
def test_round_trip(name):
    d = DISTS[name]
    exact = d.levels is not None or isinstance(d, Float)  # whatever the space proposes
    for u in [0.0, 1.0, 0.5, *np.random.default_rng(0).random(300).tolist()]:
        v = d.from_unit(u)
        assert d.contains(v)
        assert 0 <= d.to_unit(v) <= 1
        again = d.from_unit(d.to_unit(v))
        if exact:
            assert again is v or again == v
        else:
            assert abs(again - v) <= 1e-9 * abs(v) + 1e-12  # by way of cdf and ppf
            assert abs(d.to_unit(again) - d.to_unit(v)) <= 1e-12
        if not isinstance(d, Quantile):
            assert d.unpack(json.loads(json.dumps(d.pack(v)))) is v or d.unpack(d.pack(v)) == v


@pytest.mark.parametrize("name", [n for n, d in DISTS.items() if isinstance(d, Float)])
def test_float_bounds_are_exact(name):
    d = DISTS[name]
    assert (d.from_unit(0.0), d.from_unit(1.0)) == (d.low, d.high)
    assert d.from_unit(d.to_unit(d.low)) == d.low
    assert d.from_unit(d.to_unit(d.high)) == d.high


@pytest.mark.parametrize("d", [Int(-2, 5), Int(0, 12, step=4), Float(0, 1, step=0.25), Categorical(["a", "b"])])
def test_levels_own_equal_cells(d):
    grid = (np.arange(1000 * d.levels) + 0.5) / (1000 * d.levels)
    values = [str(d.from_unit(u)) for u in grid]
    assert {values.count(v) for v in set(values)} == {1000}


def test_log_int_cells_follow_the_logarithm():
    d = Int(1, 4, log=True)
    share = np.array([d.from_unit(u) for u in (np.arange(100_000) + 0.5) / 100_000])
    for k in range(1, 5):
        expected = math.log((k + 0.5) / (k - 0.5)) / math.log(4.5 / 0.5)
        assert np.mean(share == k) == pytest.approx(expected, abs=1e-4)


STEPS = {
    Float(0.1, 0.7, step=0.1): [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    Float(1.7e9, 1.7e9 + 1, step=1e-4): [float(f"17{k:012d}e-4") for k in range(10_001)],
    Float(1e12, 1e12 + 1, step=0.25): [1e12, 1e12 + 0.25, 1e12 + 0.5, 1e12 + 0.75, 1e12 + 1],
}


@pytest.mark.parametrize("d", STEPS, ids=str)
def test_steps_are_the_decimals_meant_and_so_is_what_is_near(d):
    n = d.levels
    assert [d.from_unit((k + 0.5) / n) for k in range(n)] == STEPS[d]
    for v in STEPS[d]:
        near = [v, math.nextafter(v, d.low), math.nextafter(v, d.high)]
        assert all(map(d.contains, near))
        assert [d.cast(x) for x in near] == [v] * 3


def test_choices_are_told_apart_by_type_and_content():
    d = Categorical(CHOICES)
    assert [d.index(c) for c in CHOICES] == list(range(len(CHOICES)))
    assert d.index(np.arange(4)) == 9
    assert d.index([1, 2]) == 6
    assert d.index(1.0) == 2
    with pytest.raises(ValueError, match="not one of the choices"):
        d.index("absent")


CHANGES = {
    "list": ([64, 64], lambda v: v.append(10)),
    "list in a dict": ({"layers": [64]}, lambda v: v["layers"].append(10)),
    "list in a tuple": (("relu", [64]), lambda v: v[1].append(10)),
    "dict": ({"depth": 3}, lambda v: v.clear()),
    "set": ({1, 2}, lambda v: v.add(3)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("get", [lambda d, v: d.from_unit(0.75), lambda d, v: d.unpack(1), lambda d, v: d.cast(v)])
def test_a_choice_may_be_changed_by_who_got_it(name, get):
    value, change = CHANGES[name]
    given = copy.deepcopy(value)
    d = Categorical([None, given])
    change(given)
    change(get(d, value))
    assert d.choices == (None, value)
    assert get(d, value) == value
    assert pickle.loads(pickle.dumps(d)) == d
    assert len(Categorical([value, value, None]).choices) == 2


def test_objects_are_handed_out_as_they_are():
    model = [np.arange(3), math.sqrt, object()]
    d = Categorical([model, {"model": model}, *model])
    for i in range(5):
        got = d.unpack(i)
        assert d.index(got) == i
        parts = got if i == 0 else got["model"] if i == 1 else [got]
        assert all(a is b for a, b in zip(parts, model[i - 2 :] if i > 1 else model, strict=False))


BAD = [
    (lambda: Float(1, 0), ValueError, "low must not exceed high"),
    (lambda: Float(0, 1, log=True), ValueError, "low must be positive"),
    (lambda: Float(-1, 1, log=True), ValueError, "low=-1"),
    (lambda: Float(0, math.inf), ValueError, "high must be a finite"),
    (lambda: Float(math.nan, 1), ValueError, "low must be a finite"),
    (lambda: Float("a", 1), TypeError, "low must be a number"),
    (lambda: Float(0, 1e300, step=1e-10), ValueError, "step=1e-10 is too small"),
    (lambda: Float("0", 1), ValueError, "low must be a finite number, got '0'"),
    (lambda: Float(None, 1), TypeError, "low must be a number"),
    (lambda: Float(0, 1, step=0.3), ValueError, "step=0.3 does not divide.*high=0.9 or high=1.2"),
    (lambda: Float(0, 1, step=0), ValueError, "step must be positive"),
    (lambda: Float(1, 2, log=True, step=0.5), ValueError, "exclude each other"),
    (lambda: Float(-1.7e308, 1.7e308), ValueError, "high - low must be finite"),
    (lambda: Int(5, 1), ValueError, "low must not exceed high"),
    (lambda: Int(0, 5, log=True), ValueError, "at least 1 with log"),
    (lambda: Int(0.5, 5), TypeError, "low must be an integer, got 0.5"),
    (lambda: Int(0, 5, step=2), ValueError, "use high=4 or high=6"),
    (lambda: Int(0, 5, step=0), ValueError, "step must be at least 1"),
    (lambda: Int(1, 5, log=True, step=2), ValueError, "exclude each other"),
    (lambda: Int(0, 2**60), ValueError, "2\\*\\*53"),
    (lambda: Categorical([]), ValueError, "choices is empty"),
    (lambda: Categorical("abc"), TypeError, "list of values"),
    (lambda: Categorical(3), TypeError, "list of values"),
    (lambda: Space({}), ValueError, "at least one"),
    (lambda: Space([1]), TypeError, "dict"),
    (lambda: Space({1: Int(0, 1)}), TypeError, "names must be strings"),
    (lambda: Space({"x": (0, 1)}), TypeError, "x: .*tuple is ambiguous"),
    (lambda: Space({"x": 3}), TypeError, "x: expected Float"),
    (lambda: Space({"x": Int(0, 1)}, when={"y": {"x": [1]}}), ValueError, "unknown parameter 'y'"),
    (lambda: Space({"x": Int(0, 1)}, when={"x": {"y": [1]}}), ValueError, "unknown parameter 'y'"),
    (lambda: Space({"x": Int(0, 1), "y": Int(0, 1)}, when={"y": {"x": [2]}}), ValueError, "never has the value"),
    (lambda: Space({"x": Int(0, 1), "y": Int(0, 1)}, when={"y": {"x": []}}), ValueError, "never has the value"),
    (lambda: Space({"x": Int(0, 1), "y": Int(0, 1)}, when={"y": {}}), ValueError, "condition of 'y' is empty"),
    (lambda: Space({"x": Int(0, 1), "y": Int(0, 1)}, when={"y": {"x": 1}}), TypeError, "as a list"),
    (lambda: Space({"x": Float(0, 1), "y": Int(0, 1)}, when={"y": {"x": [1]}}), ValueError, "countable levels"),
    (
        lambda: Space({"x": Int(0, 1), "y": Int(0, 1)}, when={"y": {"x": [1]}, "x": {"y": [1]}}),
        ValueError,
        "form a cycle",
    ),
]


@pytest.mark.parametrize(("make", "error", "text"), BAD)
def test_bad_input_is_named(make, error, text):
    with pytest.raises(error, match=text):
        make()


COERCED = [
    (stats.uniform(2, 3), Float(2, 5)),
    (stats.loguniform(1e-3, 10), Float(1e-3, 10, log=True)),
    (stats.reciprocal(1, 10), Float(1, 10, log=True)),
    (stats.randint(1, 5), Int(1, 4)),
    (stats.randint(1, 5, loc=2), Int(3, 6)),
    ([1, 2], Categorical([1, 2])),
    (np.array([1, 2]), Categorical([1, 2])),
    (range(3), Categorical([0, 1, 2])),
    (Float(0, 1), Float(0, 1)),
]


@pytest.mark.parametrize(("given", "expected"), COERCED)
def test_coercion(given, expected):
    assert as_distribution(given) == expected


@pytest.mark.parametrize("frozen", [stats.norm(3, 2), stats.truncnorm(-1, 2), stats.poisson(4), stats.beta(2, 3)])
def test_other_frozen_distributions_keep_their_law(frozen):
    d = as_distribution(frozen)
    u = (np.arange(2000) + 0.5) / 2000
    values = np.array([d.from_unit(x) for x in u])
    assert np.mean(values) == pytest.approx(frozen.mean(), abs=0.02 * frozen.std())
    assert np.std(values) == pytest.approx(frozen.std(), rel=0.03)


@pytest.mark.parametrize(
    ("frozen", "text"),
    [
        (stats.loguniform(10, 1), r"^C: loguniform\(10, 1\) of scipy"),
        (stats.uniform(0, scale=-1), r"^C: uniform\(0, scale=-1\) of scipy"),
        (stats.randint(5, 5), r"^C: randint\(5, 5\) of scipy"),
        (stats.norm(0, -1), r"^C: norm\(0, -1\) of scipy"),
        ([], "^C: .*empty"),
    ],
)
def test_what_scipy_takes_for_no_distribution_is_refused_by_name(frozen, text):
    with pytest.raises(ValueError, match=text):
        Space({"C": frozen})


def test_rvs_only_objects_are_sampled_and_not_modelled():
    class Odd:
        def rvs(self, random_state=None):
            return 2 * int(random_state.randint(10)) + 1

    d = as_distribution(Odd())
    assert isinstance(d, Sampled)
    draws = [d.from_unit(u) for u in np.random.default_rng(0).random(200)]
    assert set(draws) == set(range(1, 20, 2))
    assert math.isnan(d.to_unit(draws[0]))
    assert d.from_unit(0.25) == d.from_unit(0.25)


NESTED = Space(
    {
        "lr": Float(1e-4, 1, log=True),
        "momentum": Float(0, 1),
        "opt": ["sgd", "adam"],
        "nesterov": [True, False],
        "layers": Int(1, 3),
        "units2": Int(4, 64, log=True),
        "width": [1, 1.0],  # one unit, or all of them
        "depth": Float(0, 1),
    },
    when={
        "depth": {"width": [1]},
        "nesterov": {"units2": range(40, 65), "opt": ["sgd"]},
        "momentum": {"opt": ["sgd"]},
        "units2": {"layers": [2, 3]},
    },
)


def test_conditions_agree_between_rows_and_arrays():
    units = np.random.default_rng(1).random((500, len(NESTED)))
    mask = NESTED.active_mask(units)
    for u, m in zip(units, mask, strict=True):
        params = NESTED.decode(u)
        assert [n for n, a in zip(NESTED.names, m, strict=True) if a] == list(params) == NESTED.active(params)
        assert ("momentum" in params) == (params["opt"] == "sgd")
        assert ("nesterov" in params) == (params["opt"] == "sgd" and params.get("units2", 0) >= 40)
        assert ("depth" in params) == isinstance(params["width"], int)
        assert NESTED.complete(params, lambda: 0.5) == params
        assert np.array_equal(np.isnan(NESTED.encode(params)), ~m)
    assert mask.any(axis=0).all()


def test_snap_goes_where_decode_and_encode_go():
    space = Space({n.replace(" ", "_"): d for n, d in DISTS.items() if not isinstance(d, Quantile)})
    units = np.random.default_rng(2).random((200, len(space)))
    snapped = space.snap(units)
    again = np.array([space.encode(space.decode(u)) for u in units])
    assert np.allclose(snapped, again, atol=1e-9)
    assert np.allclose(space.snap(snapped), snapped, atol=1e-12)


def test_space_json_round_trip():
    space = Space(
        {"a": ["x", None, 2], "f": Float(1e-3, 1, log=True), "k": Int(1, 9, step=2), "s": Float(0, 1, step=0.5)},
        when={"f": {"a": ["x", 2]}, "s": {"k": [3, 5]}},
    )
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.id == space.id
    assert Space({"a": ["x"]}).id != space.id
    with pytest.raises(ValueError, match="give the same space again"):
        Space.from_json(Space({"o": [object(), 1]}).to_json())


def test_encode_marks_what_it_cannot_place():
    space = Space({"x": Float(0, 1), "c": ["a", "b"]})
    assert np.isnan(space.encode({"x": 2.0, "c": "z", "other": 1})).tolist() == [True, True]
    with pytest.raises(ValueError, match="unknown parameter 'other'"):
        space.check({"other": 1})
    with pytest.raises(ValueError, match=r"x=2.0 lies outside Float"):
        space.check({"x": 2.0})


def test_size():
    assert Space({"a": Int(1, 3), "b": ["x", "y"], "c": Float(0, 1, step=0.25)}).size == 30
    assert Space({"a": Int(1, 3), "b": Float(0, 1)}).size is None


class Draws:
    """Draws with numpy's old generator, as scikit-learn gives it."""

    def __init__(self, make):
        self.make = make

    def rvs(self, random_state=None):
        return self.make(random_state.randint(1, 9))


@pytest.mark.parametrize("url", [None, "s.db"])
@pytest.mark.parametrize("make", [int, np.int64, np.float32, lambda k: [k, 2 * k], lambda k: {"a": k}])
def test_what_rvs_draws_is_kept(make, url, tmp_path):
    options = {"study_name": "s", "space": {"a": Draws(make)}, "sampler": "random"}
    options["storage"] = url and f"{tmp_path}/{url}"
    study = inloop.create_study(**options, seed=0)
    taken = [study.ask().params["a"] for _ in range(5)]
    if url:
        study = inloop.create_study(**options, load_if_exists=True)
    assert [t.params["a"] for t in study.trials] == taken


@pytest.mark.parametrize("make", [lambda k: (k, k), lambda k: {k: 1}, lambda k: np.array([k]), lambda k: {k}])
def test_what_rvs_draws_and_json_would_change_is_refused_by_name(make, tmp_path):
    inloop.create_study(space={"a": Draws(make)}, sampler="random").ask()
    study = inloop.create_study(storage=f"{tmp_path}/s.db", space={"a": Draws(make)}, sampler="random")
    with pytest.raises(TypeError, match=r"^a: "):
        study.ask()


class Alike:
    pass


def test_a_condition_on_choices_of_one_name_is_kept():
    first, second = Alike(), Alike()
    space = Space({"c": Categorical([first, second]), "d": Int(1, 3)}, when={"d": {"c": [second]}})
    study = inloop.create_study(space=space, seed=0)
    study.optimize(lambda trial: float(trial.params["c"] is first), n_trials=4)
    assert [("d" in t.params) == (t.params["c"] is second) for t in study.trials] == [True] * 4
    assert study.best_params["c"] is second


class Geometric:
    """A distribution that takes one number at a time."""

    def ppf(self, u):
        return math.ceil(math.log1p(-u) / math.log1p(-0.3))

    def cdf(self, k):
        return 1 - 0.7 ** math.floor(k)

    def pmf(self, k):
        return 0.7 ** (k - 1) * 0.3

    def support(self):
        return 1, math.inf


@pytest.mark.parametrize(
    "frozen",
    [stats.binom(6, 0.5), stats.poisson(20), stats.geom(0.4), Geometric(), stats.zipf(2.0), stats.norm(0, 1)],
)
def test_quantiles_are_moved_to_the_places_of_their_values(frozen):
    dist = Quantile(frozen)
    space, u = Space({"x": dist, "y": Float(0, 1)}), (np.arange(99) + 0.7) / 100
    snapped = space.snap(np.column_stack([u, u]))[:, 0]
    own = [dist.to_unit(dist.from_unit(x)) if dist._discrete else x for x in u]
    assert np.isclose(snapped, own).mean() > 0.9  # all but next to where one value ends
    np.testing.assert_allclose(snapped, [dist.to_unit(dist.from_unit(x)) for x in snapped])
    np.testing.assert_array_equal(space.snap(np.column_stack([snapped, u]))[:, 0], snapped)


@pytest.mark.parametrize("sampler", ["auto", "tpe", "cmaes"])
def test_a_discrete_distribution_is_searched_in_full(sampler):
    study = inloop.create_study(sampler=sampler, space={"k": stats.poisson(20), "x": Float(0, 1)}, seed=0)
    study.optimize(lambda t: abs(t.params["k"] - 27) * 0.1 + (t.params["x"] - 0.3) ** 2, n_trials=80)
    assert study.best_params["k"] == 27
    assert study.best_value < 1e-3


@pytest.mark.parametrize(
    "choices",
    [
        [{"a": k} for k in range(6)],
        [[k] for k in range(6)],
        [np.arange(k) for k in range(6)],
        [tuple(np.linspace(0, 1, 3)), (1,)],
        [(np.str_("x"), 1), ("y", 2)],
    ],
    ids=["dicts", "lists", "arrays", "NumPy floats", "NumPy texts"],
)
def test_choices_of_any_kind_survive_storage_and_pickle(choices, tmp_path):
    space = Space({"c": choices, "x": Float(0, 1)})
    for _ in range(20):
        moved = pickle.loads(pickle.dumps(space))["c"]
        assert [moved.index(c) for c in moved.choices] == list(range(len(choices)))
    for _ in range(2):
        study = inloop.create_study(
            storage=str(tmp_path / "s.db"), study_name="s", space=space, seed=0, load_if_exists=True
        )
        study.optimize(lambda trial: trial.params["x"], n_trials=3)
    assert len(study.trials) == 6


@pytest.mark.parametrize("choices", [["a", "b", "b"], ["b", "a", "b"], ["b", "b", "a"], ["a", "a"], [[1], [2], [2]]])
def test_a_choice_that_is_given_twice_is_one(choices):
    found = Categorical(choices)
    assert list(found.choices) == [c for i, c in enumerate(choices) if c not in choices[:i]]
    shares = found.weights or [1.0]
    assert np.allclose(shares, [choices.count(c) / len(choices) for c in found.choices])


def test_choices_that_differ_in_types_inside_are_different():
    choices = [{"m": 1}, {"m": 1.0}, {"m": True}, [1, (2, {3})], [1.0, (2, {3})], (1, [2]), (1, [2.0])]
    dist = Categorical(choices)
    given = [dist.unpack(i) for i in range(7)]
    assert repr(given) == repr(choices)
    assert [dist.index(c) for c in given] == list(range(7))


def test_stored_choices_keep_their_places_whichever_are_given_twice():
    stored = from_json({"type": "categorical", "choices": ["a", "a", "b", "c"]})
    assert [stored.unpack(i) for i in range(4)] == ["a", "a", "b", "c"]
