"""BayesSearchCV keeps what scikit-learn's search estimators promise, and prunes."""

from __future__ import annotations

import decimal
import fractions
import pickle
import threading
import warnings
from contextlib import contextmanager

import inloop
import joblib
import numpy as np
import pytest
from inloop.integrations._sklearn_judge import adjusted
from inloop.integrations._sklearn_space import WHICH, SearchSpace, distribution
from inloop.integrations.sklearn import BayesSearchCV
from inloop.pruners import MedianPruner, PercentilePruner, SuccessiveHalvingPruner, ThresholdPruner, WilcoxonPruner
from scipy import sparse, stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

IRIS = load_iris(return_X_y=True)
CANCER = tuple(a[::3] for a in load_breast_cancer(return_X_y=True))
DIABETES = tuple(a[::3] for a in load_diabetes(return_X_y=True))
EXTRA = {"status", "n_splits_run", "partial_mean_test_score"}
SVC_SPACE = {"C": stats.loguniform(1e-2, 1e3), "gamma": stats.loguniform(1e-5, 10)}
TREE_SPACE = {"max_depth": inloop.Int(1, 12), "min_samples_leaf": inloop.Int(1, 60, log=True)}
STRICT = PercentilePruner(25.0, n_startup_trials=1)


def search_of(estimator, space, **options):
    return BayesSearchCV(estimator, space, **{"n_iter": 6, "cv": 4, "random_state": 0, **options})


def pruned_search(data=IRIS, **options):
    tree = DecisionTreeClassifier(random_state=0)
    return search_of(tree, TREE_SPACE, **{"n_iter": 25, "cv": 5, "pruner": STRICT, **options}).fit(*data)


def same_table(a, b, but=("time",)):
    """Check that two cv_results_ agree in everything but the columns whose names contain one of ``but``."""
    assert set(a) == set(b)
    for key in a:
        if any(word in key for word in but):
            continue
        if key == "params":
            assert a[key] == b[key]
        else:
            np.testing.assert_array_equal(np.ma.getdata(a[key]), np.ma.getdata(b[key]), err_msg=key)


def worst_miss(y, prediction):
    return -abs(y - prediction).max()


# What RandomizedSearchCV has, this has

CASES = {
    "classifier": (SVC(), SVC_SPACE, IRIS, {}),
    "regressor": (Ridge(), {"alpha": stats.loguniform(1e-3, 1e3)}, DIABETES, {"return_train_score": True}),
    "named scoring": (SVC(), SVC_SPACE, IRIS, {"scoring": "f1_macro"}),
    "scorer object": (
        Ridge(),
        {"alpha": [0.1, 1.0, 10.0]},
        DIABETES,
        {"scoring": make_scorer(worst_miss), "n_iter": 3},
    ),
    "unsupervised": (KernelDensity(), {"bandwidth": stats.uniform(0.1, 2)}, (IRIS[0], None), {}),
    "clustering": (
        KMeans(n_init=1, random_state=0),
        {"n_clusters": stats.randint(2, 6)},
        (IRIS[0], None),
        {"n_iter": 3},
    ),
    "pipeline": (
        Pipeline([("scale", StandardScaler()), ("pick", SelectKBest()), ("svc", SVC())]),
        {"pick__k": [1, 2, "all"], "svc__C": stats.loguniform(0.1, 10), "scale": [StandardScaler(), MinMaxScaler()]},
        IRIS,
        {},
    ),
    "dict list": (
        SVC(),
        [{"kernel": ["linear"], "C": stats.uniform(0.1, 4)}, {"kernel": ["rbf"], **SVC_SPACE}],
        IRIS,
        {"n_iter": 9},
    ),
    "multimetric": (
        SVC(),
        SVC_SPACE,
        IRIS,
        {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro", "return_train_score": True},
    ),
    "repeated": (
        KNeighborsClassifier(),
        {"n_neighbors": stats.randint(1, 20)},
        IRIS,
        {"cv": RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)},
    ),
    "no refit": (SVC(), SVC_SPACE, IRIS, {"refit": False}),
    "callable refit": (SVC(), SVC_SPACE, IRIS, {"refit": lambda table: int(np.argmin(table["rank_test_score"]))}),
}


@pytest.mark.parametrize("case", CASES)
def test_has_all_that_randomized_search_has(case):
    estimator, space, (X, y), options = CASES[case]
    ours = search_of(estimator, space, **options).fit(X, y)
    theirs = RandomizedSearchCV(estimator, space, **{"n_iter": 6, "cv": 4, "random_state": 0, **options}).fit(X, y)
    missing = {k for k in vars(theirs) if k.endswith("_")} - set(vars(ours))
    assert not missing
    assert set(theirs.cv_results_) <= set(ours.cv_results_)
    assert {k for k in set(ours.cv_results_) - set(theirs.cv_results_) if not k.startswith("partial_mean_test_")} == {
        "status",
        "n_splits_run",
    }
    for key, column in theirs.cv_results_.items():
        mine = ours.cv_results_[key]
        assert type(mine) is type(column), key
        assert len(mine) == len(column), key
        if key != "params":
            assert mine.dtype == column.dtype, key
            assert np.shape(np.ma.getmask(mine)) == np.shape(np.ma.getmask(column)), key
    for name in ("best_index_", "best_score_", "refit_time_", "n_splits_", "multimetric_"):
        if hasattr(theirs, name):
            assert type(getattr(ours, name)) is type(getattr(theirs, name)), name
    if ours.refit:
        for method in ("predict", "predict_proba", "decision_function", "transform", "score_samples"):
            assert hasattr(ours, method) == hasattr(theirs, method), method
        assert ours.n_features_in_ == theirs.n_features_in_


@pytest.mark.parametrize("case", [c for c in CASES if c != "callable refit"])
def test_scores_and_ranks_are_those_of_a_grid_search_over_the_same_candidates(case):
    estimator, space, (X, y), options = CASES[case]
    ours = search_of(estimator, space, **options).fit(X, y)
    grid = [{k: [v] for k, v in p.items()} for p in ours.cv_results_["params"]]
    theirs = GridSearchCV(
        estimator, grid, cv=ours.cv, **{k: v for k, v in options.items() if k not in ("n_iter", "cv")}
    ).fit(X, y)
    for key in theirs.cv_results_:
        if key.startswith(("split", "mean_test", "std_test", "rank")):
            np.testing.assert_array_equal(ours.cv_results_[key], theirs.cv_results_[key], err_msg=key)
    assert ours.best_index_ == theirs.best_index_
    assert ours.best_params_ == theirs.best_params_
    assert ours.study_.best_trial.number == ours.best_index_


def test_one_line_replaces_randomized_search():
    def tune(search):
        s = search(SVC(), SVC_SPACE, n_iter=5, scoring="accuracy", n_jobs=1, refit=True, cv=3, verbose=0,
                   pre_dispatch="2*n_jobs", random_state=1, error_score=np.nan, return_train_score=False)  # fmt: skip
        return s.fit(*IRIS).predict(IRIS[0][:3])

    assert tune(BayesSearchCV).shape == tune(RandomizedSearchCV).shape


@parametrize_with_checks(
    [
        search_of(LogisticRegression(), {"C": inloop.Float(1e-2, 10, log=True)}, n_iter=3, cv=2),
        search_of(
            make_pipeline(StandardScaler(), LogisticRegression()),
            {"logisticregression__C": [0.1, 1.0]},
            n_iter=2,
            cv=3,
            pruner="median",
            error_score="raise",
        ),
        search_of(SVR(), {"C": [1.0, 9.0]}, n_iter=2, cv=2, pruner="halving", error_score="raise"),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_estimator_checks(estimator, check):
    check(estimator)


def test_init_does_no_work():
    sentinel = object()
    search = BayesSearchCV(
        sentinel,
        sentinel,
        **dict.fromkeys(set(BayesSearchCV(None, None).get_params()) - {"estimator", "param_distributions"}, sentinel),
    )
    assert all(v is sentinel for v in search.get_params(deep=False).values())
    assert set(vars(search)) == set(search.get_params(deep=False))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_iter": 0}, "n_iter"),
        ({"sampler": "tepe"}, "tepe"),
        ({"sampler": 3}, "sampler"),
        ({"pruner": "medain"}, "medain"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "all"}, "batch_size"),
        ({"param_distributions": []}, "non-empty"),
        ({"param_distributions": [3]}, "list of dicts"),
        ({"param_distributions": {"C": []}}, "C: .*empty"),
        ({"param_distributions": {"C": "rbf"}}, r"C: .*write \['rbf'\]"),
        ({"param_distributions": {"C": 1.0}}, "^C: expected"),
        ({"param_distributions": {"C": (3, 1)}}, "C: .*low"),
        ({"param_distributions": {"Z": [1, 2]}}, "Z"),
        ({"cv": iter([])}, "CV iterator empty"),
        ({"scoring": ["accuracy", "f1_macro"]}, "multi-metric"),
        ({"scoring": lambda e, X, y: {"a": 1.0, "b": 2.0}}, "multi-metric"),
        ({"scoring": lambda e, X, y: {}, "refit": False}, "gave no metric"),
        ({"param_distributions": {"C": np.ones((2, 2))}}, "C: .*one dimension, got 2"),
        ({"estimator": SVC}, "instance of scikit-learn estimator"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        clone(search_of(SVC(), SVC_SPACE)).set_params(**options).fit(*IRIS)


# Spaces


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (stats.uniform(1, 3), inloop.Float(1, 4)),
        (stats.loguniform(1e-3, 1), inloop.Float(1e-3, 1, log=True)),
        (stats.randint(2, 9), inloop.Int(2, 8)),
        (inloop.Int(1, 9, step=2), inloop.Int(1, 9, step=2)),
        ([1, 10], inloop.Categorical([1, 10])),
        (range(3), inloop.Categorical([0, 1, 2])),
        (np.array([0.1, 1.0]), inloop.Categorical([0.1, 1.0])),
        ((1, 10), inloop.Int(1, 10)),
        ((1, 10.0), inloop.Float(1, 10)),
        ((np.int64(1), np.int64(10), "log-uniform"), inloop.Int(1, 10, log=True)),
        ((1e-3, 1.0, "log-uniform"), inloop.Float(1e-3, 1, log=True)),
        ((1e-3, 1.0, "log-uniform", 10), inloop.Float(1e-3, 1, log=True)),
        ((0.0, 1.0, "uniform"), inloop.Float(0, 1)),
        (("l1", "l2"), inloop.Categorical(["l1", "l2"])),
        ((True, False), inloop.Categorical([True, False])),
        ((1, 10, 100), inloop.Categorical([1, 10, 100])),
        ((None,), inloop.Categorical([None])),
        (((1, 1), (1, 2)), inloop.Categorical([(1, 1), (1, 2)])),
    ],
    ids=repr,
)
def test_values_of_one_parameter(given, expected):
    assert distribution(given, "p") == expected


def test_dimensions_of_other_libraries():
    skopt = pytest.importorskip("skopt.space")
    optuna = pytest.importorskip("optuna").distributions
    for given, expected in [
        (skopt.Real(1e-3, 1, prior="log-uniform"), inloop.Float(1e-3, 1, log=True)),
        (skopt.Real(0, 2), inloop.Float(0, 2)),
        (skopt.Integer(1, 9), inloop.Int(1, 9)),
        (skopt.Categorical(["a", None]), inloop.Categorical(["a", None])),
        (optuna.FloatDistribution(0.1, 1, log=True), inloop.Float(0.1, 1, log=True)),
        (optuna.FloatDistribution(0, 1, step=0.25), inloop.Float(0, 1, step=0.25)),
        (optuna.IntDistribution(1, 9, step=2), inloop.Int(1, 9, step=2)),
        (optuna.CategoricalDistribution(("a", 3)), inloop.Categorical(["a", 3])),
    ]:
        assert distribution(given, "p") == expected
    with pytest.raises(ValueError, match="weights"):
        distribution(skopt.Categorical(["a", "b"], prior=[0.9, 0.1]), "p")


class Coin:
    """Has only ``rvs``, as some people's distributions do."""

    def rvs(self, random_state=None):
        return float(random_state.choice([0.5, 2.0]))


VALUES = {
    "estimators": ({"scale": [StandardScaler(), MinMaxScaler(), None, "passthrough"]}, "scale"),
    "tuples": ({"scale__feature_range": [(0, 1), (-1, 1), (0, 5)]}, "scale__feature_range"),
    "dicts": ({"svc__class_weight": [None, "balanced", {0: 1.0, 1: 2.0, 2: 1.0}]}, "svc__class_weight"),
    "mixed": ({"svc__gamma": ["scale", 0.1, 1]}, "svc__gamma"),
    "only rvs": ({"svc__C": Coin()}, "svc__C"),
    "quantiles": ({"svc__C": stats.expon(0.1, 5)}, "svc__C"),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_any_object_is_a_value(case, sampler):
    space, name = VALUES[case]
    pipeline = Pipeline([("scale", MinMaxScaler()), ("svc", SVC())])
    search = search_of(pipeline, {**space, "svc__tol": stats.loguniform(1e-4, 1e-2)}, sampler=sampler, n_iter=8).fit(
        *IRIS
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    values = [p[name] for p in search.cv_results_["params"]]
    if isinstance(space[name], list):
        assert all(any(v is choice or (isinstance(v, dict) and v == choice) for choice in space[name]) for v in values)
    else:
        assert all(isinstance(v, float) and v > 0 for v in values)
    assert search.cv_results_[f"param_{name}"].shape == (8,)


def test_dicts_of_a_list_are_one_conditional_space():
    shared = stats.loguniform(1e-2, 1e2)
    dicts = [
        {"kernel": ["linear"], "C": shared},
        {"kernel": ["rbf"], "C": shared, "gamma": (1e-3, 1.0)},
        {"kernel": ["poly"], "C": [1.0], "degree": [2, 3]},
    ]
    search = search_of(SVC(), dicts, n_iter=40, cv=2, sampler="random").fit(*IRIS)
    assert search.study_.space.when["gamma"] == {WHICH: (1,)}
    assert search.study_.space.when["C"] == {WHICH: (0, 1)}
    for i, params in enumerate(search.cv_results_["params"]):
        names = {"linear": {"C"}, "rbf": {"C", "gamma"}, "poly": {"C", "degree"}}[params["kernel"]]
        assert set(params) == names | {"kernel"}
        assert search.cv_results_["param_gamma"].mask[i] == ("gamma" not in params)
    kernels = [p["kernel"] for p in search.cv_results_["params"]]
    assert {k: kernels.count(k) > 4 for k in kernels} == {"linear": True, "rbf": True, "poly": True}


POLY = {"kernel": ["poly"], "degree": [2, 3]}
SHAPES = {
    "alone": lambda space: space,
    "list": lambda space: [space],
    "pair": lambda space: [(space, 12)],
    "several": lambda space: [POLY, space],
    "several pairs": lambda space: [(POLY, 2), (space, 10)],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_a_space_with_conditions_is_taken_as_it_is(shape, sampler):
    space = inloop.Space(
        {"kernel": ["linear", "rbf"], "gamma": inloop.Float(1e-3, 1, log=True)}, when={"gamma": {"kernel": ["rbf"]}}
    )
    search = search_of(SVC(), SHAPES[shape](space), n_iter=12, sampler=sampler).fit(*IRIS)
    params = search.cv_results_["params"]
    assert all(("gamma" in p) == (p["kernel"] == "rbf") for p in params)
    assert {p["kernel"] for p in params} >= {"rbf"}
    again = clone(search).set_params(param_distributions=inloop.refine(search.study_, 1.0), n_iter=6).fit(*IRIS)
    assert all(("gamma" in p) == (p["kernel"] == "rbf") for p in again.cv_results_["params"])


def conditional(when, **params):
    return inloop.Space(params, when=when)


K, G, D = ["linear", "rbf", "poly"], [0.1, 1.0], [2, 3]
RBF, POLYNOMIAL = {"gamma": {"kernel": ["rbf"]}}, {"degree": {"kernel": ["poly"]}}
LISTS = {
    "the same twice": [conditional(RBF, kernel=K, gamma=G), conditional(RBF, kernel=K, gamma=G)],
    "conditions beside none": [conditional(RBF, kernel=K, gamma=G), {"kernel": K, "gamma": G}],
    "none beside conditions": [{"kernel": K, "gamma": G}, conditional(RBF, kernel=K, gamma=G), {"gamma": G}],
    "other conditions": [
        conditional(RBF, kernel=K, gamma=G),
        conditional({"gamma": {"kernel": ["poly", "rbf"]}}, kernel=K, gamma=G),
    ],
    "other parents": [conditional(RBF, kernel=K, gamma=G), conditional(RBF, kernel=K[:2], gamma=G), {}],
    "children of children": [
        conditional({**RBF, "tol": {"gamma": [1.0]}}, kernel=K, gamma=G, tol=[0.1, 0.2]),
        conditional({**POLYNOMIAL, "tol": {"degree": [2]}}, kernel=K, degree=D, tol=[0.1, 0.2]),
    ],
    "two parents": [
        {"C": [1.0]},
        conditional({"gamma": {"kernel": ["rbf"], "C": [2.0]}, **POLYNOMIAL}, kernel=K, gamma=G, degree=D, C=[1.0, 2]),
    ],
}


@pytest.mark.parametrize("case", LISTS)
def test_several_spaces_have_the_points_of_each(case):
    def points(space):
        return {frozenset(space.params(p).items()) for p in space.points()}

    alone = [points(SearchSpace(given)) for given in LISTS[case]]
    assert points(SearchSpace(LISTS[case])) == set.union(*alone)
    pairs = SearchSpace([(given, 99) for given in LISTS[case]])
    pairs.cap()
    assert pairs.quotas == [len(own) for own in alone]
    rng = np.random.default_rng(0)
    for which, own in enumerate(alone):
        part = pairs.part(which)
        drawn = [part.complete({}, rng.random) for _ in range(200)]
        assert {frozenset(pairs.params(p).items()) for p in drawn} == own
        assert {p[WHICH] for p in drawn} == {which}


def test_a_space_of_several_dicts_is_none_of_several():
    several = SearchSpace([POLY, {"kernel": ["rbf"]}]).space
    with pytest.raises(ValueError, match="can only be given alone"):
        search_of(SVC(), [several, POLY]).fit(*IRIS)


@pytest.mark.parametrize("best", [0, 1])
def test_a_list_of_dicts_is_refined(best):
    dicts = [{"kernel": ["rbf"], "C": (0.1, 10.0), "gamma": (0.01, 1.0)}, {"kernel": ["linear"], "C": (1.0, 9.0)}]
    kernel = dicts[best]["kernel"][0]
    search = search_of(SVC(), dicts, n_iter=12, scoring=lambda e, X, y: (e.kernel == kernel) + e.C / 100).fit(*IRIS)
    known = [{"kernel": kernel, "C": search.best_params_["C"]}]
    for quantile in (0.2, 1.0):
        again = clone(search).set_params(
            param_distributions=inloop.refine(search.study_, quantile), initial_params=known, n_iter=4
        )
        params = again.fit(*IRIS).cv_results_["params"]
        assert params[0] == {**params[0], **known[0]}
        for found in params:
            assert found.keys() == dicts[found["kernel"] == "linear"].keys()
            assert found["kernel"] == kernel or quantile == 1.0


def test_an_empty_dict_tries_the_estimator_as_it_is():
    with pytest.warns(UserWarning, match="Running 1 iteration"):
        search = search_of(SVC(), {}).fit(*IRIS)
    assert search.cv_results_["params"] == [{}]
    np.testing.assert_array_equal(search.best_score_, cross_val_score(SVC(), *IRIS, cv=4).mean())


FINITE = {
    "lists": ({"C": [0.1, 1.0, 10.0], "kernel": ["rbf", "linear"]}, 6),
    "ranges": ({"degree": stats.randint(1, 4), "C": inloop.Float(1, 2, step=0.5)}, 9),
    "log ints": ({"degree": inloop.Int(1, 7, log=True)}, 7),
    "dicts": ([{"kernel": ["linear"], "C": [1, 2]}, {"kernel": ["rbf"], "C": [1, 2], "gamma": [0.1, 1.0]}, {}], 7),
    "the same twice": ([{"C": [1, 2, 2]}, {"C": [2, 3]}], 3),
}


@pytest.mark.parametrize("case", FINITE)
@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_a_finite_space_never_repeats_a_point(case, sampler):
    space, size = FINITE[case]
    assert SearchSpace(space).count(100) == size
    with pytest.warns(UserWarning, match=f"space of parameters {size} is smaller than n_iter=20. Running {size} "):
        all_of_it = search_of(SVC(), space, n_iter=20, cv=2, sampler=sampler).fit(*IRIS)
    part = search_of(SVC(), space, n_iter=size - 1, cv=2, sampler=sampler).fit(*IRIS)
    for search, n in ((all_of_it, size), (part, size - 1)):
        params = [tuple(sorted(p.items())) for p in search.cv_results_["params"]]
        assert len(params) == len(set(params)) == n


@pytest.mark.parametrize(
    "known", [[{"degree": 2}] * 2, [{"degree": 2}, {"C": 2.0}], [{"degree": 2, "C": 2.0}, {"C": 2.0}]]
)
@pytest.mark.parametrize("sampler", ["random", "gp", "grid"])
def test_points_of_which_a_part_is_given_are_no_repeats(sampler, known):
    for seed in range(5):
        search = search_of(
            SVC(), {"degree": [1, 2, 3], "C": [1.0, 2.0]}, n_iter=6, cv=2, sampler=sampler, random_state=seed
        )
        params = search.set_params(initial_params=known).fit(*IRIS).cv_results_["params"]
        assert len({tuple(p.values()) for p in params}) == 6


# Determinism


def score_by_the_clock(estimator, X, y):
    """Score whose duration differs from fold to fold, so that results arrive in another order."""
    return accuracy_score(y, estimator.predict(X))


PARALLEL = [
    {"n_jobs": 2},
    {"n_jobs": 3, "backend": "threading"},
    {"n_jobs": 7, "backend": "threading"},
]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp"])
@pytest.mark.parametrize("pruner", [None, "median", "halving", STRICT], ids=repr)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_result_does_not_depend_on_the_workers(sampler, pruner, batch_size):
    options = {"sampler": sampler, "pruner": pruner, "batch_size": batch_size}
    one = pruned_search(**options)
    for where in PARALLEL:
        with joblib.parallel_config(backend=where.get("backend", "loky")):
            other = pruned_search(**options, n_jobs=where["n_jobs"])
        same_table(one.cv_results_, other.cv_results_)
        assert one.best_index_ == other.best_index_
        assert [t.params for t in one.study_.trials] == [t.params for t in other.study_.trials]
        assert [t.curve for t in one.study_.trials] == [t.curve for t in other.study_.trials]


def on_dask():
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        yield


def on_ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.util.joblib").register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with joblib.parallel_config(backend="ray"):
            yield
    finally:
        ray.shutdown()


def on_multiprocessing():
    with joblib.parallel_config(backend="multiprocessing"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("where", [on_multiprocessing, on_dask, on_ray], ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore:::distributed", "ignore:::ray", "ignore::ResourceWarning")
def test_backends_of_joblib(where):
    options = {"sampler": "gp", "pruner": "median", "batch_size": 3}
    one = pruned_search(**options)
    with contextmanager(where)():
        other = pruned_search(**options, n_jobs=2)
    same_table(one.cv_results_, other.cv_results_)


@pytest.mark.parametrize("batch_size", [1, 3, 25])
def test_a_candidate_is_proposed_from_exactly_those_a_batch_before_it(batch_size):
    seen = []

    class Spy(inloop.samplers.RandomSampler):
        def ask(self, space, history, number, rng):
            seen.append([t.number for t in history.trials if t.finished])
            return super().ask(space, history, number, rng)

    space = {"ccp_alpha": stats.loguniform(1e-4, 0.3)}
    options = {"sampler": Spy(), "pruner": STRICT, "batch_size": batch_size, "n_iter": 25}
    search_of(DecisionTreeClassifier(random_state=0), space, n_jobs=2, **options).fit(*IRIS)
    assert seen == [list(range(max(0, k - batch_size + 1))) for k in range(25)]


def test_random_state_as_everywhere_in_scikit_learn():
    def params(random_state):
        return search_of(SVC(), SVC_SPACE, n_iter=2, cv=2, random_state=random_state).fit(*IRIS).cv_results_["params"]

    assert params(3) == params(3) != params(4)
    assert params(np.random.RandomState(3)) == params(np.random.RandomState(3))
    rng = np.random.RandomState(3)
    assert params(rng) != params(rng)
    assert params(None) != params(None)


def test_all_candidates_see_the_same_folds():
    def which_rows(estimator, X, y):
        return float(X[:, 0].sum())

    search = search_of(SVC(), SVC_SPACE, cv=ShuffleSplit(3), scoring=which_rows, pruner="median").fit(*IRIS)
    for k in range(3):
        assert len(set(search.cv_results_[f"split{k}_test_score"])) == 1


@pytest.mark.parametrize(
    "cv",
    [3, KFold(3), StratifiedKFold(3), TimeSeriesSplit(3), PredefinedSplit(np.arange(150) % 3), "generator", "list"],
    ids=str,
)
def test_splitters(cv):
    X, y = IRIS
    order = np.random.default_rng(0).permutation(150)
    X, y = X[order], y[order]
    if isinstance(cv, str):
        splits = KFold(3).split(X)
        cv = splits if cv == "generator" else list(splits)
    assert search_of(SVC(), SVC_SPACE, cv=cv, n_iter=3).fit(X, y).cv_results_["split2_test_score"].shape == (3,)


# Pruning


@pytest.mark.parametrize(
    "pruner", ["median", "halving", STRICT, ThresholdPruner(lower=0.9), WilcoxonPruner(p_threshold=0.3)], ids=repr
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_pruned_candidate_keeps_its_row(pruner, batch_size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = pruned_search(pruner=pruner, batch_size=batch_size, return_train_score=True)
    table = search.cv_results_
    pruned = table["status"] == "pruned"
    assert search.n_pruned_ == pruned.sum() > 0
    assert set(table["status"]) == {"pruned", "complete"}
    run = table["n_splits_run"]
    splits = np.stack([table[f"split{k}_test_score"] for k in range(5)])
    assert (run[~pruned] == 5).all()
    assert ((run[pruned] >= 2) & (run[pruned] < 5)).all()
    for k in range(5):
        for part in ("test", "train"):
            assert (np.isnan(table[f"split{k}_{part}_score"]) == (run <= k)).all()
    for key in ("mean_test_score", "std_test_score", "mean_train_score"):
        assert (np.isnan(table[key]) == pruned).all()
    assert np.isfinite(table["partial_mean_test_score"]).all()
    for key in ("mean_fit_time", "std_fit_time", "mean_score_time"):
        assert (table[key] >= 0).all()
    assert (table["rank_test_score"][pruned] == (~pruned).sum() + 1).all()
    assert table["rank_test_score"].dtype == np.int32
    assert table["status"][search.best_index_] == "complete"
    assert search.best_score_ == np.nanmax(table["mean_test_score"])
    assert search.study_.best_trial.number == search.best_index_
    states = [t.state.name.lower() for t in search.study_.trials]
    assert states == list(table["status"])
    for trial, scores in zip(search.study_.trials, splits.T, strict=True):
        assert len(trial.curves[0]) == len(trial.curves[1]) == trial.reports / 2
        assert trial.curves[1].values == list(scores[~np.isnan(scores)])


@pytest.mark.parametrize("pruner", ["median", "halving", STRICT, WilcoxonPruner(p_threshold=0.3)], ids=repr)
def test_complete_rows_are_as_without_pruning(pruner):
    ours = pruned_search(pruner=pruner, sampler="random")
    plain = pruned_search(pruner=None, sampler="random")
    whole = ours.cv_results_["status"] == "complete"
    assert ours.cv_results_["params"] == plain.cv_results_["params"]
    for key in ("mean_test_score", "std_test_score", *(f"split{k}_test_score" for k in range(5))):
        np.testing.assert_array_equal(ours.cv_results_[key][whole], plain.cv_results_[key][whole])
    grid = [{k: [v] for k, v in p.items()} for p, w in zip(ours.cv_results_["params"], whole, strict=True) if w]
    ranks = GridSearchCV(clone(ours.estimator), grid, cv=5).fit(*IRIS).cv_results_["rank_test_score"]
    np.testing.assert_array_equal(ours.cv_results_["rank_test_score"][whole], ranks)


def test_one_candidate_completes_whatever_the_pruner_says():
    search = pruned_search(pruner=ThresholdPruner(lower=2.0))
    assert list(search.cv_results_["status"]) == ["complete"] + ["pruned"] * 24
    assert list(search.cv_results_["n_splits_run"]) == [5] + [2] * 24
    assert search.best_index_ == 0


@pytest.mark.parametrize("n_splits", [2, 3])
def test_never_after_the_last_fold_and_not_before_the_second(n_splits):
    search = pruned_search(pruner=ThresholdPruner(lower=2.0), cv=n_splits)
    assert set(search.cv_results_["n_splits_run"]) == {2, n_splits}
    assert search.n_pruned_ == (0 if n_splits == 2 else 24)


def test_a_callable_refit_sees_complete_rows_only():
    def last(table):
        assert np.isfinite(table["mean_test_score"]).all()
        assert len(table["params"]) == len(table["mean_test_score"])
        return len(table["params"]) - 1

    search = pruned_search(refit=last)
    complete = np.flatnonzero(search.cv_results_["status"] == "complete")
    assert 0 < len(complete) < 25
    assert search.best_index_ == complete[-1]
    assert search.best_params_ == search.cv_results_["params"][complete[-1]]


def test_an_easy_fold_does_not_save_a_bad_candidate():
    scores = {"good": [0.99, 0.80, 0.80, 0.80], "bad": [0.98, 0.70, 0.70, 0.70]}
    reference = scores["good"]
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        bad, good = ([scores[name][fold] for fold in order] for name in ("bad", "good"))
        curve = [adjusted(bad[:n], order, reference) for n in range(1, 5)]
        assert max(curve) < np.mean(reference)
        assert curve[-1] == np.mean(bad)
        np.testing.assert_allclose([adjusted(good[:n], order, reference) for n in range(1, 5)], np.mean(reference))


def test_pruners_by_name_have_a_rung_after_two_folds():
    assert pruned_search(pruner="halving").study_.pruner == SuccessiveHalvingPruner(min_resource=2)
    assert pruned_search(pruner="median").study_.pruner == MedianPruner()
    assert set(pruned_search(pruner="hyperband", cv=10).cv_results_["n_splits_run"]) > {2}


# Several metrics


def two_scores(estimator, X, y):
    accuracy = accuracy_score(y, estimator.predict(X))
    return {"accuracy": accuracy, "error": accuracy - 1}


@pytest.mark.parametrize(
    "scoring", [["accuracy", "f1_macro"], {"accuracy": "accuracy", "f1_macro": make_scorer(accuracy_score)}, two_scores]
)
@pytest.mark.parametrize("refit", ["accuracy", False, lambda table: 1])
@pytest.mark.parametrize("pruner", [None, STRICT], ids=["plain", "pruned"])
def test_several_metrics(scoring, refit, pruner):
    search = pruned_search(scoring=scoring, refit=refit, pruner=pruner, n_iter=12)
    assert search.multimetric_
    names = {"accuracy", "error" if callable(scoring) else "f1_macro"}
    for name in names:
        assert {f"mean_test_{name}", f"rank_test_{name}", f"partial_mean_test_{name}"} <= set(search.cv_results_)
    assert hasattr(search, "best_index_") == (refit is not False)
    assert hasattr(search, "best_score_") == (refit == "accuracy")
    values = [t.value for t in search.study_.trials if t.value is not None]
    expected = search.cv_results_["mean_test_accuracy"]
    np.testing.assert_allclose(values, expected[~np.isnan(expected)])


# Failures


class Moody(ClassifierMixin, BaseEstimator):
    """Fails in ``fit`` for some parameters, in all folds or in the first ones."""

    def __init__(self, how="well", depth=1):
        self.how = how
        self.depth = depth

    def fit(self, X, y):
        if self.how == "fails" or (self.how == "fails at times" and X[0, 0] != IRIS[0][0, 0]):
            raise RuntimeError("not today")
        self.tree_ = DecisionTreeClassifier(max_depth=self.depth, random_state=0).fit(X, y)
        self.classes_ = self.tree_.classes_
        return self

    def predict(self, X):
        return self.tree_.predict(X)

    def score(self, X, y):
        return np.nan if self.how == "scores nan" else self.tree_.score(X, y)


MOODS = {"how": ["well", "fails", "fails at times", "scores nan"], "depth": [1, 2, 3]}


@pytest.mark.parametrize("pruner", [None, "median", "halving"])
@pytest.mark.parametrize("sampler", ["random", "gp"])
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.filterwarnings("ignore:.*non-finite", "ignore::sklearn.exceptions.FitFailedWarning")
def test_a_failure_costs_a_candidate_never_the_search(pruner, sampler, batch_size):
    search = search_of(Moody(), MOODS, n_iter=12, pruner=pruner, sampler=sampler, batch_size=batch_size).fit(*IRIS)
    for params, status in zip(search.cv_results_["params"], search.cv_results_["status"], strict=True):
        assert status in (("complete", "pruned") if params["how"] == "well" else ("failed", "pruned"))
    assert search.best_params_["how"] == "well"
    if pruner is None:
        states = {t.state.name for t in search.study_.trials if t.params["how"] != "well"}
        assert states == {"FAILED"}


def test_failures_are_warned_of_as_in_scikit_learn():
    failing = search_of(Moody(), {"how": ["well", "fails"]}, n_iter=2)
    with (
        pytest.warns(FitFailedWarning, match="4 fits failed out of a total of 8"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        failing.fit(*IRIS)
    with pytest.warns(FitFailedWarning):
        zero = clone(failing).set_params(error_score=0.0).fit(*IRIS)
    assert sorted(zero.cv_results_["mean_test_score"]) == [0.0, zero.best_score_]
    with pytest.raises(RuntimeError, match="not today"):
        clone(failing).set_params(error_score="raise").fit(*IRIS)
    hopeless = search_of(Moody(), {"how": ["fails"], "depth": [1, 2, 3]}, n_iter=3)
    with pytest.raises(ValueError, match="All the 12 fits failed"):
        hopeless.fit(*IRIS)
    with pytest.raises(NotFittedError):
        hopeless.predict(IRIS[0])


# Data and metadata


@pytest.mark.parametrize("kind", ["sparse", "pandas", "list", "3-D", "precomputed"])
def test_kinds_of_data(kind):
    X, y = IRIS
    estimator = SVC()
    if kind == "sparse":
        X = sparse.csr_matrix(X)
    elif kind == "pandas":
        X = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    elif kind == "list":
        X, y = X.tolist(), y.tolist()
    elif kind == "3-D":
        X = np.stack([X, X], axis=2)
        estimator = make_pipeline(FunctionTransformer(lambda a: a.reshape(len(a), -1)), SVC())
    else:
        X, estimator = rbf_kernel(X), SVC(kernel="precomputed")
    name = "svc__C" if kind == "3-D" else "C"
    search = search_of(estimator, {name: stats.loguniform(0.1, 10)}, n_iter=3, pruner="median").fit(X, y)
    assert search.best_score_ > 0.8
    assert len(search.predict(X)) == 150
    if kind == "pandas":
        assert list(search.feature_names_in_) == list("abcd")


def test_columns_and_nested_parameters():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(IRIS[0], columns=list("abcd"))
    columns = ColumnTransformer([("one", StandardScaler(), ["a", "b"]), ("two", MinMaxScaler(), ["c", "d"])])
    space = {"columntransformer__one__with_mean": [True, False], "svc__C": stats.loguniform(0.1, 10)}
    assert search_of(make_pipeline(columns, SVC()), space).fit(X, IRIS[1]).best_score_ > 0.9


def test_groups_reach_the_splitter():
    groups = np.arange(150) % 5
    for cv, n in ((GroupKFold(3), 3), (LeaveOneGroupOut(), 5)):
        assert search_of(SVC(), SVC_SPACE, cv=cv, n_iter=2).fit(*IRIS, groups=groups).n_splits_ == n
    with pytest.raises(ValueError, match="groups"):
        search_of(SVC(), SVC_SPACE, cv=GroupKFold(3), n_iter=2).fit(*IRIS)


@pytest.mark.parametrize("routing", [False, True])
def test_sample_weight_is_split_like_the_data(routing, recwarn):
    import sklearn

    weight = np.where(IRIS[1] == 0, 1e-9, 1.0)
    with sklearn.config_context(enable_metadata_routing=routing):
        estimator = LogisticRegression(max_iter=1000)
        scorer = make_scorer(accuracy_score)
        if routing:
            estimator.set_fit_request(sample_weight=True)
            scorer.set_score_request(sample_weight=True)
        ours = search_of(estimator, {"C": [1.0]}, n_iter=1, scoring=scorer).fit(*IRIS, sample_weight=weight)
        theirs = GridSearchCV(estimator, {"C": [1.0]}, cv=4, scoring=scorer).fit(*IRIS, sample_weight=weight)
    assert ours.best_score_ == theirs.best_score_
    np.testing.assert_array_equal(ours.best_estimator_.coef_, theirs.best_estimator_.coef_)


# Living with the rest of scikit-learn


def test_clone_and_nested_cross_validation():
    search = search_of(SVC(), SVC_SPACE, n_iter=3, cv=3, pruner=MedianPruner())
    copy = clone(search)
    assert copy is not search
    assert copy.get_params().keys() == search.get_params().keys()
    assert copy.pruner == search.pruner
    scores = cross_val_score(search, *IRIS, cv=3, n_jobs=2)
    assert (scores > 0.8).all()
    outer = search_of(
        Pipeline([("s", StandardScaler()), ("inner", search_of(SVC(), {"C": [1.0, 10.0]}, n_iter=2))]),
        {"inner__n_iter": [1, 2]},
        n_iter=2,
    ).fit(*IRIS)
    assert outer.best_score_ > 0.9
    again = clone(outer)
    with pytest.raises(NotFittedError):
        again.predict(IRIS[0])


@pytest.mark.parametrize("dump", [pickle.dumps, None], ids=["pickle", "joblib"])
def test_a_pickled_search_works_and_holds_no_data(dump, tmp_path):
    X = np.random.default_rng(0).normal(size=(1000, 20))
    y = (X[:, 0] > 0).astype(int)
    search = search_of(
        GaussianNB(),
        {"var_smoothing": stats.loguniform(1e-9, 1), "priors": [None, np.array([0.5, 0.5])]},
        pruner="median",
    ).fit(X, y)
    if dump is None:
        joblib.dump(search, tmp_path / "search")
        raw, copy = (tmp_path / "search").read_bytes(), joblib.load(tmp_path / "search")
    else:
        raw = dump(search)
        copy = pickle.loads(raw)
    assert X[:1].tobytes()[:16] not in raw
    assert len(raw) < X.nbytes / 4
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))
    assert [t.params.keys() for t in copy.study_.trials] == [t.params.keys() for t in search.study_.trials]
    assert copy.study_.best_value == search.study_.best_value
    assert copy.study_.ask().params.keys() == search.study_.best_params.keys()


def test_fitting_again_starts_afresh():
    search = search_of(
        DecisionTreeRegressor(random_state=0), {"max_depth": stats.randint(1, 9)}, n_iter=4, pruner="median"
    )
    first = search.fit(*DIABETES).cv_results_
    same_table(first, search.fit(*DIABETES).cv_results_)
    assert len(search.study_.trials) == 4


def test_html_and_text():
    search = search_of(SVC(), SVC_SPACE)
    assert "BayesSearchCV" in search._repr_html_()
    assert "n_iter=6" in repr(search)


@pytest.mark.skipif(not hasattr(BayesSearchCV, "set_callbacks"), reason="callbacks came with scikit-learn 1.9")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_callbacks_of_scikit_learn(n_jobs):
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="accuracy")
    tags = []

    class Count:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context):
            tags.append(context.task_name)

        def on_fit_task_end(self, estimator, context): ...

    search = search_of(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, n_iter=3, n_jobs=n_jobs, cv=2)
    search.set_callbacks(*([Count()] if n_jobs == 1 else []), monitor).fit(*IRIS)
    if n_jobs == 1:
        assert tags == ["fit", "search", *["candidate-split-evaluation"] * 6, "refit-with-best-params"]


class Waiting:
    """A scorer one of whose calls ends only when others have ended after it began."""

    def __init__(self, call, others):
        self.turn = threading.Condition()
        self.begun = self.done = 0
        self.call, self.others = call, others
        self.met = None

    def __call__(self, estimator, X, y):
        with self.turn:
            self.begun += 1
            if self.begun == self.call:
                goal = self.done + self.others
                self.met = self.turn.wait_for(lambda: self.done >= goal, timeout=60)
            self.done += 1
            self.turn.notify_all()
        return accuracy_score(y, estimator.predict(X))


def test_a_slow_fold_keeps_nobody_waiting():
    scorer = Waiting(call=27, others=2)  # later than the first candidates, whose folds are all needed at once
    with joblib.parallel_config(backend="threading"):
        pruned_search(scoring=scorer, n_jobs=2, batch_size=4, sampler="random")
    assert scorer.met


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_an_interrupt_among_workers_keeps_what_is_done(backend):
    def interrupt(search, trial):
        if trial.number == 3:
            raise KeyboardInterrupt

    options = {"n_iter": 20, "batch_size": 3, "pruner": STRICT, "callbacks": interrupt}
    space = {"ccp_alpha": stats.loguniform(1e-4, 0.3)}
    with joblib.parallel_config(backend=backend), pytest.warns(UserWarning, match="interrupted"):
        search = search_of(DecisionTreeClassifier(random_state=0), space, n_jobs=2, **options).fit(*IRIS)
    assert 4 <= len(search.cv_results_["params"]) <= 6
    assert not search.study_.history.running
    assert search.predict(IRIS[0]).shape == IRIS[1].shape


def test_choices_that_are_copied_are_known_again():
    weights = [{0: 1, 1: k, 2: 1} for k in range(1, 5)]
    search = search_of(SVC(), {"class_weight": weights, "C": [1.0, 10.0]}, sampler="random", n_iter=8).fit(*IRIS)
    tried = {(repr(p["class_weight"]), p["C"]) for p in search.cv_results_["params"]}
    assert len(tried) == 8


@pytest.mark.parametrize("kind", [float, np.longdouble, fractions.Fraction, decimal.Decimal])
def test_a_stored_search_keeps_all_scores(kind, tmp_path):
    def run(n_iter, storage=None):
        return BayesSearchCV(
            DecisionTreeClassifier(random_state=0),
            {"min_samples_leaf": stats.randint(1, 60)},
            n_iter=n_iter,
            cv=3,
            scoring=lambda e, X, y: {"curve": kind(e.score(X, y)), "depth": kind(-e.get_depth())},
            refit="curve",
            sampler="random",
            random_state=0,
            storage=storage,
        ).fit(*IRIS)

    whole, storage = run(6), str(tmp_path / "s.db")
    run(4, storage)
    for _ in range(2):  # with two candidates left, and with none
        again = run(6, storage)
        for name in ("mean_test_curve", "mean_test_depth", "rank_test_curve"):
            np.testing.assert_array_equal(again.cv_results_[name], whole.cv_results_[name])
        assert again.best_index_ == whole.best_index_


def test_folds_may_be_ranges():
    order = np.random.default_rng(0).permutation(150)
    X, y = IRIS[0][order], IRIS[1][order]
    ranges = [(range(100), range(100, 150)), (range(50, 150), range(50))]
    lists = [(list(a), list(b)) for a, b in ranges]
    options = {"n_iter": 3, "random_state": 0, "pruner": "median", "resource": "iterations"}
    forest = RandomForestClassifier(12, random_state=0)
    ours, same = (
        BayesSearchCV(forest, {"max_depth": [1, 2, 3]}, cv=cv, **options).fit(X, y).cv_results_
        for cv in (ranges, lists)
    )
    np.testing.assert_array_equal(ours["mean_test_score"], same["mean_test_score"])
