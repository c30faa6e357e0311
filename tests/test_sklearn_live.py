"""BayesSearchCV: limits, interrupts, known points, reports from inside fits."""

from __future__ import annotations

import pickle
import signal
import warnings
from itertools import pairwise

import inloop
import joblib
import numpy as np
import pytest
from inloop.integrations._sklearn_families import steps
from inloop.integrations._sklearn_iterations import most_iterations
from inloop.integrations.sklearn import BayesSearchCV
from inloop.pruners import PercentilePruner, SuccessiveHalvingPruner, ThresholdPruner
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier, SGDRegressor
from sklearn.metrics import make_scorer, precision_score
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import ComplementNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

CANCER = tuple(a[::3] for a in load_breast_cancer(return_X_y=True))
DIABETES = tuple(a[::3] for a in load_diabetes(return_X_y=True))
TREE = DecisionTreeClassifier(random_state=0)
SPACE = {"ccp_alpha": stats.loguniform(1e-4, 0.3)}


def search_of(estimator=TREE, space=SPACE, **options):
    return BayesSearchCV(estimator, space, **{"n_iter": 8, "cv": 4, "random_state": 0, "sampler": "random", **options})


# Limits and interrupts


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_timeout_keeps_what_is_done(batch_size):
    search = search_of(timeout=1e-9, batch_size=batch_size).fit(*CANCER)
    assert len(search.cv_results_["params"]) == 1
    assert search.predict(CANCER[0]).shape == CANCER[1].shape
    assert not search.study_.history.running
    assert [t.state.name for t in search.study_.trials] == ["COMPLETE"] + ["LOST"] * batch_size


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("refit", [True, False])
def test_an_interrupt_keeps_what_is_done(batch_size, refit):
    def interrupt(search, trial):
        if trial.number == 4:
            signal.raise_signal(signal.SIGINT)

    search = search_of(callbacks=interrupt, batch_size=batch_size, refit=refit)
    with pytest.warns(UserWarning, match="interrupted; 5 candidates are complete") as caught:
        search.fit(*CANCER)
    assert caught[0].filename == __file__
    assert len(search.cv_results_["params"]) == 5
    assert hasattr(search, "best_estimator_") == refit
    assert not search.study_.history.running
    plain = search_of(n_iter=5, batch_size=batch_size).fit(*CANCER)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


class Interrupted(ClassifierMixin, BaseEstimator):
    """Ctrl-C comes during its fit."""

    def __init__(self, after=0.0):
        self.after = after

    def fit(self, X, y):
        if self.after > 0.5:
            signal.raise_signal(signal.SIGINT)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


def test_an_interrupt_during_a_fit():
    search = search_of(Interrupted(), {"after": inloop.Float(0, 1)}, n_iter=40)
    with pytest.warns(UserWarning, match="interrupted"):
        search.fit(*CANCER)
    assert all(p["after"] <= 0.5 for p in search.cv_results_["params"])
    assert search.study_.trials[-1].state.name == "LOST"
    with pytest.raises(KeyboardInterrupt):
        search_of(Interrupted(), {"after": [1.0]}, n_iter=1).fit(*CANCER)


class FailsBelow(GaussianNB):
    """Cannot be fitted with a small limit, or has no score then."""

    def __init__(self, limit=1, raises=True):
        super().__init__()
        self.limit, self.raises = limit, raises

    def fit(self, X, y):
        if self.limit < 3 and self.raises:
            raise ValueError("too small")
        return super().fit(X, y)

    def score(self, X, y):
        return np.nan if self.limit < 3 else super().score(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more")
@pytest.mark.parametrize("error_score", [np.nan, 0.0])
@pytest.mark.parametrize("raises", [True, False])
def test_candidates_that_failed_are_not_what_a_limit_keeps(raises, error_score):
    model, known = FailsBelow(raises=raises), [{"limit": 1}, {"limit": 2}, {"limit": 3}, {"limit": 4}]
    options = {"initial_params": known, "error_score": error_score, "n_iter": 4}
    search = search_of(model, {"limit": [1, 2, 3, 4]}, timeout=1e-9, **options).fit(*CANCER)
    assert search.best_params_ == {"limit": 3}
    assert len(search.cv_results_["params"]) == 3

    def interrupt(search, trial):
        if trial.number == at:
            raise KeyboardInterrupt

    for at in (1, 2):
        search = search_of(model, {"limit": [1, 2, 3, 4]}, callbacks=interrupt, **options)
        with pytest.raises(KeyboardInterrupt) if at == 1 else pytest.warns(UserWarning, match="; 1 candidates"):
            search.fit(*CANCER)
        assert hasattr(search, "best_params_") == (at == 2)


@pytest.mark.parametrize("given", [list, lambda call: call], ids=["list", "function"])
def test_stopping_and_callbacks(given):
    seen = []

    def stop(study, trial):
        if trial.number == 3:
            study.stop()

    def call(search, trial):
        seen.append((trial.number, trial.state.name, len(search.study_.trials)))

    many = given is list
    search = search_of(stopping=[stop] if many else stop, callbacks=[call] if many else call).fit(*CANCER)
    assert seen == [(k, "COMPLETE", k + 1) for k in range(4)]
    assert len(search.cv_results_["params"]) == 4


def test_progress(capsys):
    pytest.importorskip("tqdm")
    search_of(verbose=1, pruner="median").fit(*CANCER)
    shown = capsys.readouterr()
    assert "Fitting 4 folds for each of 8 candidates, totalling 32 fits" in shown.out
    assert "8/8" in shown.err
    assert "best=" in shown.err
    assert "pruned=" in shown.err
    search_of(verbose=0).fit(*CANCER)
    assert capsys.readouterr() == ("", "")
    search_of(verbose=2).fit(*CANCER)  # a line of scikit-learn's for each fold, which a line of progress would break
    shown = capsys.readouterr()
    assert shown.out.count("[CV]") == 32
    assert shown.err == ""


@pytest.mark.parametrize(("then", "new"), [(3, 0), (8, 0), (10, 2)])
def test_progress_of_a_search_that_goes_on(capsys, tmp_path, then, new):
    options = {"storage": str(tmp_path / "s.db"), "study_name": "s", "verbose": 1}
    search_of(**options).fit(*CANCER)
    capsys.readouterr()
    search = search_of(n_iter=then, **options).fit(*CANCER)
    shown = capsys.readouterr()
    text = f"Fitting 4 folds for each of {new} candidates, totalling {4 * new} fits; 8 candidates of an earlier run"
    assert text in shown.out
    assert f"{8 + new}/{8 + new}" in shown.err
    assert len(search.cv_results_["params"]) == 8 + new


# What is given


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_known_points_come_first(sampler):
    known = [{"ccp_alpha": 0.01, "max_depth": 3}, {"max_depth": 7}]
    space = {**SPACE, "max_depth": inloop.Int(1, 9)}
    search = search_of(TREE, space, initial_params=known, sampler=sampler).fit(*CANCER)
    first, second = search.cv_results_["params"][:2]
    assert first == known[0]
    assert second["max_depth"] == 7
    assert search.study_.space["ccp_alpha"].contains(second["ccp_alpha"])


def test_known_points_of_a_list_of_dicts():
    C = (0.1, 10.0)
    space = [{"kernel": ["sigmoid"], "C": C}, {"kernel": ["rbf"], "C": C, "gamma": (1e-3, 1.0)}]
    known = [{"kernel": "rbf", "C": 2.0, "gamma": 0.1}, {"gamma": 0.2}, {"kernel": "sigmoid", "C": 3.0}]
    params = search_of(SVC(), space, initial_params=known).fit(*CANCER).cv_results_["params"]
    assert params[0] == known[0]
    assert (params[1]["kernel"], params[1]["gamma"]) == ("rbf", 0.2)
    assert params[2] == known[2]


@pytest.mark.parametrize("several", [False, True])
def test_copies_of_choices_stand_for_them(several):
    scaled = {"s": [StandardScaler(), StandardScaler(with_mean=False)], "m": [SVC()], "m__class_weight": [{0: 2.0}]}
    space = [scaled, {"m": [TREE]}] if several else scaled
    known = {name: choices[-1] for name, choices in scaled.items()}
    search = search_of(Pipeline([("s", StandardScaler()), ("m", TREE)]), space, n_iter=2, initial_params=[known])
    for copy in (search, clone(search), pickle.loads(pickle.dumps(search))):
        assert str(copy.fit(*CANCER).cv_results_["params"][0]) == str(known)
    wrong = {**known, "s": StandardScaler(with_std=False)}
    search.set_params(initial_params=[{name: clone(choice, safe=False) for name, choice in known.items()}])
    known["s"].fit(*CANCER)  # by somebody; candidates get it unfitted
    assert str(search.fit(*CANCER).cv_results_["params"][0]) == str(known)
    with pytest.raises(ValueError, match="initial_params"):
        clone(search).set_params(initial_params=[wrong]).fit(*CANCER)


@pytest.mark.parametrize("sampler", ["auto", "random", "tpe"])
@pytest.mark.parametrize("pairs", [False, True])
def test_points_known_in_part_repeat_none_of_a_finite_space(sampler, pairs):
    a = {"criterion": ["gini", "entropy"], "max_depth": [1, 2, 3], "splitter": ["best"]}
    space = [(a, 6), ({"splitter": ["random"], "max_depth": [1, 2]}, 2)] if pairs else a
    known = [{"splitter": "best", **p} for p in [{"max_depth": 2}] * 2 + [{"criterion": "gini"}] * 2]
    n_iter = 8 if pairs else 6
    search = search_of(TREE, space, n_iter=n_iter, initial_params=known, sampler=sampler).fit(*CANCER)
    found = [tuple(sorted(p.items())) for p in search.cv_results_["params"]]
    assert len(set(found)) == len(found) == n_iter
    for params, given in zip(search.cv_results_["params"], known, strict=False):
        assert params == {**params, **given}
    again = [{"splitter": "best", "max_depth": 2}] * 3  # two points are like that
    search = search_of(TREE, space, n_iter=n_iter, initial_params=again, sampler=sampler).fit(*CANCER)
    assert [p["max_depth"] for p in search.cv_results_["params"][:3]] == [2, 2, 2]


@pytest.mark.parametrize("sampler", ["random", "gp", "grid"])
@pytest.mark.parametrize("pairs", [False, True])
def test_known_points_are_tried_once_each(sampler, pairs):
    two = [{"max_depth": [1, 2, 3]}, {"max_depth": [4], "splitter": ["random"]}]
    known = [{"max_depth": 2}, {"max_depth": np.int64(2)}, {"max_depth": 1}, {"max_depth": 2}]
    options = {"initial_params": known, "sampler": sampler, "n_iter": 4}
    search = search_of(TREE, two if pairs else {"max_depth": [1, 2, 3, 4]}, **options).fit(*CANCER)
    depths = [p["max_depth"] for p in search.cv_results_["params"]]
    assert depths[:2] == [2, 1]
    assert sorted(depths) == [1, 2, 3, 4]


@pytest.mark.parametrize("wrong", [{"C": 1e9}, {"degree": 2}, {"kernel": "linear", "gamma": 0.1}])
def test_known_points_outside_the_space_are_refused(wrong):
    space = [{"kernel": ["linear"], "C": (0.1, 10.0)}, {"kernel": ["rbf"], "gamma": (1e-3, 1.0)}]
    with pytest.raises(ValueError, match="initial_params"):
        search_of(SVC(), space, initial_params=[wrong]).fit(*CANCER)
    with pytest.raises(ValueError, match="initial_params"):
        search_of(SVC(), {"C": (0.1, 10.0)}, initial_params=[{"C": 1e9}]).fit(*CANCER)


def test_search_spaces_is_the_same_as_param_distributions():
    ours = search_of().fit(*CANCER)
    named = BayesSearchCV(TREE, search_spaces=SPACE, n_iter=8, cv=4, random_state=0, sampler="random")
    assert clone(named).get_params()["param_distributions"] is None
    assert named.fit(*CANCER).cv_results_["params"] == ours.cv_results_["params"]
    with pytest.raises(ValueError, match="not both"):
        search_of(search_spaces=SPACE).fit(*CANCER)


@pytest.mark.parametrize("refit", [False, "recall", lambda table: 0])
def test_the_objective_among_several_metrics(refit):
    search = search_of(scoring=["accuracy", "recall"], refit=refit, objective="recall").fit(*CANCER)
    values = [t.value for t in search.study_.trials]
    np.testing.assert_allclose(values, search.cv_results_["mean_test_recall"])
    with pytest.raises(ValueError, match=r"objective='precision'.*accuracy"):
        clone(search).set_params(objective="precision").fit(*CANCER)
    with pytest.raises(ValueError, match="objective='b'"):
        search_of(scoring=lambda e, X, y: {"a": 1.0}, refit=False, objective="b").fit(*CANCER)
    with pytest.raises(ValueError, match=r"objective='accuracy'.*score"):
        search_of(objective="accuracy").fit(*CANCER)


# Reports from inside fits


def xgboost(kind, **options):
    module = pytest.importorskip("xgboost")
    return getattr(module, kind)(n_estimators=30, subsample=0.7, n_jobs=1, **options)


def lightgbm(kind, **options):
    module = pytest.importorskip("lightgbm")
    return getattr(module, kind)(n_estimators=30, subsample=0.7, subsample_freq=1, n_jobs=1, verbose=-1, **options)


def catboost(kind, **options):
    module = pytest.importorskip("catboost")
    if not isinstance(options.get("random_state", 0), int):
        pytest.skip("CatBoost takes numbers alone as seeds")
    options = {"thread_count": 1, "verbose": False, "allow_writing_files": False, **options}
    return getattr(module, kind)(n_estimators=30, **options)


FAMILIES = {
    "catboost": lambda **o: catboost("CatBoostClassifier", **o),
    "catboost regressor": lambda **o: catboost("CatBoostRegressor", **o),
    "xgboost": lambda **o: xgboost("XGBClassifier", **o),
    "xgboost regressor": lambda **o: xgboost("XGBRegressor", **o),
    "lightgbm": lambda **o: lightgbm("LGBMClassifier", **o),
    "lightgbm regressor": lambda **o: lightgbm("LGBMRegressor", **o),
    "forest": lambda **o: RandomForestClassifier(30, class_weight="balanced", **o),
    "forest regressor": lambda **o: RandomForestRegressor(30, **o),
    "extra trees": lambda **o: ExtraTreesClassifier(30, **o),
    "extra trees regressor": lambda **o: ExtraTreesRegressor(30, **o),
    "boosting": lambda **o: GradientBoostingClassifier(n_estimators=30, subsample=0.7, **o),
    "boosting regressor": lambda **o: GradientBoostingRegressor(n_estimators=30, subsample=0.7, **o),
    "histograms": lambda **o: HistGradientBoostingClassifier(max_iter=30, max_features=0.5, **o),
    "histograms regressor": lambda **o: HistGradientBoostingRegressor(max_iter=30, max_features=0.5, **o),
}
DEPTH = {"max_depth": inloop.Int(1, 7)}
NEVER = ThresholdPruner(lower=-1e300)
ALWAYS = ThresholdPruner(lower=1e300)


def data_of(family):
    return DIABETES if "regressor" in family else CANCER


def inside(family, pruner, random_state=1, **options):
    estimator = FAMILIES[family](random_state=random_state)
    options = {"resource": "iterations", "n_iter": 4, "cv": 3, "pruner": pruner, **options}
    return search_of(estimator, DEPTH, **options).fit(*data_of(family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [int, np.random.RandomState])
def test_a_fit_that_is_not_pruned_is_a_plain_fit(family, seed):
    ours = inside(family, NEVER, seed(1))
    plain = inside(family, None, seed(1), resource="folds")
    assert ours.n_pruned_ == 0
    assert ours.cv_results_["params"] == plain.cv_results_["params"]
    for k in range(3):
        np.testing.assert_array_equal(
            ours.cv_results_[f"split{k}_test_score"], plain.cv_results_[f"split{k}_test_score"]
        )
    assert (ours.cv_results_["n_iterations_run"] == 90).all()
    first = ours.study_.trials[0]
    assert first.curves[2].steps == [3, 9]
    assert set(first.curves) == {0, 1, 2}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_that_is_pruned_ends_at_once(family):
    search = inside(family, ALWAYS)
    table = search.cv_results_
    assert list(table["status"]) == ["complete"] + ["pruned"] * 3
    assert list(table["n_splits_run"]) == [3, 0, 0, 0]
    assert list(table["n_iterations_run"]) == [90, 3, 3, 3]
    assert np.isnan(table["split0_test_score"][1:]).all()
    for trial, partial in zip(search.study_.trials[1:], table["partial_mean_test_score"][1:], strict=True):
        assert trial.curves[2].steps == [3]
        assert trial.curves[2].values == pytest.approx([partial], rel=1e-12)
    assert (table["mean_fit_time"] > 0).all()
    assert search.best_index_ == 0
    params = search.best_estimator_.get_params()
    assert params["random_state"] == 1
    assert not params.get("warm_start")
    assert params.get("callbacks") is None
    assert "fit" not in vars(search.best_estimator_)
    pickle.loads(pickle.dumps(search)).predict(data_of(family)[0])


@pytest.mark.parametrize("family", ["lightgbm", "xgboost", "histograms"])
def test_inside_a_pipeline_reports_are_those_of_the_transformed_rows(family):
    estimator = Pipeline(
        [("scale", StandardScaler()), ("pick", SelectKBest(k=5)), ("model", FAMILIES[family](random_state=1))]
    )
    space = {"model__max_depth": inloop.Int(1, 7), "pick__k": [5, 10, "all"]}
    options = {"n_iter": 3, "cv": 3, "scoring": "neg_log_loss"}
    search = search_of(estimator, space, resource="iterations", pruner=NEVER, **options).fit(*CANCER)
    for k, trial in enumerate(search.study_.trials):
        step, value = trial.curves[2].steps[-1], trial.curves[2].values[-1]
        shorter = {"model__n_estimators" if family != "histograms" else "model__max_iter": [step]}
        one = clone(estimator).set_params(**search.cv_results_["params"][k])
        alone = GridSearchCV(one, shorter, cv=3, scoring="neg_log_loss").fit(*CANCER)
        rtol = 1e-6 if family == "xgboost" else 1e-9  # its probabilities are of single precision
        np.testing.assert_allclose(value, alone.cv_results_["split0_test_score"][0], rtol=rtol)


def test_the_last_step_may_be_searched_itself():
    estimator = Pipeline([("model", SVC())])
    models = [SVC(), FAMILIES["forest"](random_state=0), FAMILIES["boosting"](random_state=0)]
    with pytest.warns(UserWarning, match="SVC does not report"):
        search = search_of(estimator, {"model": models}, n_iter=3, resource="iterations", pruner="median").fit(*CANCER)
    for params, trial in zip(search.cv_results_["params"], search.study_.trials, strict=True):
        assert (2 in trial.curves) == (params["model"] is not models[0])


def test_estimators_without_reports_are_pruned_between_folds():
    with pytest.warns(UserWarning, match="DecisionTreeClassifier does not report") as caught:
        ours = search_of(pruner=ThresholdPruner(lower=2.0), resource="iterations").fit(*CANCER)
    assert len(caught) == 1
    assert list(ours.cv_results_["n_splits_run"]) == [4] + [2] * 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search_of(resource="iterations").fit(*CANCER)  # nothing is pruned, so nothing is missed


@pytest.mark.parametrize("name", ["n_estimators", "num_iterations", "num_trees", "n_iter", "num_boost_round"])
def test_rounds_of_lightgbm_have_many_names(name):
    pytest.importorskip("lightgbm")
    model = lightgbm("LGBMClassifier", random_state=0)
    space = {**DEPTH, name: [60]}
    search = search_of(model, space, n_iter=1, resource="iterations", pruner=NEVER).fit(*CANCER)
    assert search.study_.trials[0].curves[2].steps == [3, 9, 27]
    assert list(search.cv_results_["n_iterations_run"]) == [4 * 60]
    assert most_iterations(model, inloop.Space({name: inloop.Categorical([60])})) == 60
    assert most_iterations(clone(model).set_params(**{name: 70}), inloop.Space(DEPTH)) == 70


SPEAKS = {  # what CatBoost evaluates inside its fit, in the words of its estimators
    "neg_log_loss": "CatBoostClassifier",
    "accuracy": "CatBoostClassifier",
    "roc_auc_ovr": "CatBoostClassifier",
    "r2": "CatBoostRegressor",
}


@pytest.mark.parametrize("labels", ["numbers", "texts", "two"])
@pytest.mark.parametrize("scoring", SPEAKS)
def test_catboost_reports_the_scores_of_its_stages(scoring, labels):
    X, y = (a[::4] for a in load_digits(return_X_y=True))
    y = {"numbers": y, "texts": np.array(list("jihgfedcba"))[y], "two": y > 4}[labels if scoring != "r2" else "numbers"]
    split = [(np.arange(300), np.arange(300, len(y)))]
    options = {"cv": split, "scoring": scoring, "pruner": NEVER, "resource": "iterations", "error_score": "raise"}
    model = catboost(SPEAKS[scoring], random_state=0)
    search = search_of(model, {"max_depth": [2]}, n_iter=1, **options).fit(X, y)
    curve = search.study_.trials[0].curves[2]
    for step, value in zip(curve.steps, curve.values, strict=True):
        short = clone(model).set_params(n_estimators=step, max_depth=2)
        short.set_params(learning_rate=clone(model).fit(X[:300], y[:300]).learning_rate_)  # it goes by the rounds
        alone = GridSearchCV(short, {}, cv=split, scoring=scoring).fit(X, y).cv_results_["split0_test_score"][0]
        np.testing.assert_allclose(value, alone, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"loss_function": "MultiRMSE"}, {"eval_metric": "R2"}, {"loss_function": "CrossEntropy"}, {"eval_set": True}],
)
def test_catboost_that_evaluates_something_of_its_own_is_left_alone(options):
    X, y = CANCER
    classes = options.get("loss_function") == "CrossEntropy"
    target = np.column_stack([y, X[:, 0]]) if options.get("loss_function") == "MultiRMSE" else y
    kwargs = {"eval_set": (X, y)} if options.pop("eval_set", False) else {}
    model = catboost("CatBoostClassifier" if classes else "CatBoostRegressor", random_state=0, **options)
    search = search_of(
        model, {"max_depth": [2, 3]}, n_iter=2, resource="iterations", pruner=ALWAYS, error_score="raise"
    )
    assert set(search.fit(X, target, **kwargs).study_.trials[0].curves) == {0, 1}


def contrary(model, method):
    """Return a model like this one whose ``method`` says the opposite."""
    kind = type(model)

    def own(self, *args, **kwargs):
        return 1 - getattr(kind, method)(self, *args, **kwargs)

    own.__name__ = method  # what scorers find it by
    return type(kind.__name__, (kind,), {method: own, "__module__": __name__})(**model.get_params())


@pytest.mark.parametrize(("method", "scoring"), [("score", None), ("predict", "accuracy")])
@pytest.mark.parametrize("family", [f for f in FAMILIES if "regressor" not in f])
def test_a_subclass_is_judged_by_its_own_methods_or_not_at_all(family, method, scoring):
    options = {"n_iter": 1, "scoring": scoring, "resource": "iterations", "pruner": NEVER, "error_score": "raise"}
    plain, own = (
        search_of(model, {"max_depth": [2]}, **options).fit(*CANCER).study_.trials[0]
        for model in (FAMILIES[family](random_state=0), contrary(FAMILIES[family](random_state=0), method))
    )
    assert own.value == pytest.approx(1 - plain.value)
    assert (2 in own.curves) == (family != "catboost")  # inside its fit it shows no model, but numbers
    if 2 in own.curves:
        assert own.curves[2].values == pytest.approx([1 - value for value in plain.curves[2].values])


EPOCHS = {
    "mlp": MLPClassifier((8,), max_iter=40, random_state=0),
    "mlp regressor": MLPRegressor(hidden_layer_sizes=(8,), max_iter=40, random_state=0),
    "sgd": SGDClassifier(random_state=0),
    "sgd regressor": SGDRegressor(random_state=0),
    "perceptron": Perceptron(random_state=0),
}


@pytest.mark.parametrize("family", EPOCHS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_copies_are_judged_by_epochs(family):
    estimator = make_pipeline(StandardScaler(), EPOCHS[family])
    space = {f"{estimator.steps[-1][0]}__alpha": stats.loguniform(1e-5, 1)}
    options = {"n_iter": 4, "resource": "iterations"}
    plain = search_of(estimator, space, n_iter=4).fit(*data_of(family))
    ours = search_of(estimator, space, pruner=NEVER, **options).fit(*data_of(family))
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert ours.study_.trials[0].curves[2].steps == [3, 9, 27]
    pruned = search_of(estimator, space, pruner=ALWAYS, **options).fit(*data_of(family))
    assert list(pruned.cv_results_["n_iterations_run"])[1:] == [3, 3, 3]
    assert pruned.n_pruned_ == 3


PARTS = {
    "bayes": (MultinomialNB(), {"alpha": stats.loguniform(1e-3, 10)}),
    "complement bayes": (ComplementNB(), {"alpha": stats.loguniform(1e-3, 10)}),
    "gaussian bayes": (GaussianNB(), {"var_smoothing": stats.loguniform(1e-9, 1)}),
    "clusters": (MiniBatchKMeans(random_state=0, n_init=1), {"n_clusters": inloop.Int(2, 7)}),
}


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("family", PARTS)
def test_copies_are_judged_by_parts_of_the_rows(family, weights):
    estimator, space = PARTS[family]
    kwargs = {"sample_weight": np.linspace(0.5, 2.0, len(CANCER[1]))} if weights else {}
    data = CANCER if family != "clusters" else (CANCER[0], None)
    options = {"n_iter": 4, "error_score": "raise"}
    plain = search_of(estimator, space, **options).fit(*data, **kwargs)
    ours = search_of(estimator, space, pruner=NEVER, resource="iterations", **options).fit(*data, **kwargs)
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    enough = [k for k, t in enumerate(ours.study_.trials) if t.params.get("n_clusters", 1) <= 142 // 27]
    assert all(ours.study_.trials[k].curves[2].steps == [3, 9] for k in enough)
    assert len(enough) >= 2
    pruned = search_of(estimator, space, pruner=ALWAYS, resource="iterations", **options).fit(*data, **kwargs)
    assert {pruned.cv_results_["n_iterations_run"][k] for k in enough if k} == {3}


class Falters(SGDClassifier):
    def partial_fit(self, *args, **kwargs):
        raise ValueError("no parts")


@pytest.mark.parametrize(
    ("estimator", "space"),
    [(GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}), (Falters(random_state=0), {"alpha": [1e-3, 1.0]})],
)
def test_a_copy_that_cannot_be_fitted_in_parts_costs_no_fit(estimator, space):
    few = np.zeros(len(CANCER[1]))
    few[::19] = 1.0  # Gaussian Bayes takes no part of the rows in which a class has no weight
    options = {"n_iter": 2, "error_score": "raise"}
    plain = search_of(estimator, space, **options).fit(*CANCER, sample_weight=few)
    with pytest.warns(UserWarning, match="is not watched inside its fit: partial_fit of a copy fails"):
        ours = search_of(estimator, space, pruner=NEVER, resource="iterations", **options).fit(
            *CANCER, sample_weight=few
        )
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


class Tasks:
    """A callback of the user's own."""

    seen = 0

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        Tasks.seen += 1


@pytest.mark.filterwarnings("ignore:lbfgs failed")
@pytest.mark.skipif(not hasattr(LogisticRegression, "set_callbacks"), reason="callbacks came with scikit-learn 1.9")
@pytest.mark.parametrize("steps_before", [0, 1])
def test_iterations_that_scikit_learn_tells_callbacks(steps_before):
    last = LogisticRegression(max_iter=30).set_callbacks(Tasks())
    estimator = make_pipeline(*[StandardScaler()] * steps_before, last)
    space = {"logisticregression__C": stats.loguniform(1e-3, 10)}
    options = {"n_iter": 3, "scoring": "neg_log_loss", "error_score": "raise"}
    plain = search_of(estimator, space, **options).fit(*CANCER)
    Tasks.seen = 0
    ours = search_of(estimator, space, pruner=NEVER, resource="iterations", **options).fit(*CANCER)
    assert Tasks.seen > 0
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert ours.study_.trials[0].curves[2].steps[:3] == [3, 5, 9]
    pruned = search_of(estimator, space, pruner=ALWAYS, resource="iterations", **options).fit(*CANCER)
    assert list(pruned.cv_results_["n_iterations_run"])[1:] == [3, 3]
    short = clone(estimator).set_params(**pruned.cv_results_["params"][1], logisticregression__max_iter=3)
    alone = GridSearchCV(short, {}, cv=4, scoring="neg_log_loss").fit(*CANCER).cv_results_["split0_test_score"][0]
    assert pruned.study_.trials[1].curves[2].values == pytest.approx([alone], rel=1e-9)
    other = make_pipeline(LogisticRegression(solver="liblinear"))
    with pytest.warns(UserWarning, match="does not report"):
        search_of(other, space, pruner=NEVER, resource="iterations", **{**options, "n_iter": 1}).fit(*CANCER)


def test_epochs_that_partial_fit_cannot_run_are_left_alone():
    for options in ({"class_weight": "balanced"}, {"early_stopping": True}, {"warm_start": True}):
        estimator = SGDClassifier(random_state=0, **options)
        search = search_of(estimator, {"alpha": [1e-4, 1e-3]}, n_iter=2, resource="iterations", pruner=NEVER).fit(
            *CANCER
        )
        assert set(search.study_.trials[0].curves) == {0, 1}


class Secretive(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.n_iter_ = None
        return self


def test_a_number_of_iterations_that_is_not_known_costs_nothing():
    search = search_of(Secretive(solver="liblinear"), {"C": [0.1, 1.0]}, n_iter=2, error_score="raise").fit(*CANCER)
    assert set(search.cv_results_["status"]) == {"complete"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_labels_are_left_alone():
    X, y = StandardScaler().fit_transform(CANCER[0]), CANCER[1]
    labels = np.column_stack([y, X[:, 0] > 0, X[:, 1] > 0]).astype(int)
    space = {"alpha": stats.loguniform(1e-5, 1)}
    options = {"n_iter": 2, "resource": "iterations", "pruner": NEVER, "error_score": "raise"}
    search = search_of(EPOCHS["mlp"], space, **options).fit(X, labels)
    assert set(search.study_.trials[0].curves) == {0, 1}


def test_skorch():
    torch = pytest.importorskip("torch")
    skorch = pytest.importorskip("skorch")

    class Seeded(skorch.NeuralNetClassifier):
        def initialize(self):
            torch.manual_seed(0)
            return super().initialize()

    X, y = StandardScaler().fit_transform(CANCER[0]).astype(np.float32), CANCER[1]
    net = Seeded(
        torch.nn.Sequential(torch.nn.Linear(30, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2), torch.nn.Softmax(-1)),
        max_epochs=10, train_split=None, iterator_train__shuffle=True, verbose=0,
    )  # fmt: skip
    space = {"lr": stats.loguniform(1e-3, 1)}
    plain = search_of(net, space, n_iter=4).fit(X, y)
    ours = search_of(net, space, n_iter=4, resource="iterations", pruner=NEVER).fit(X, y)
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert ours.study_.trials[0].curves[2].steps == [3, 5, 9]
    pruned = search_of(net, space, n_iter=4, resource="iterations", pruner=ALWAYS).fit(X, y)
    assert list(pruned.cv_results_["n_iterations_run"]) == [40, 3, 3, 3]
    assert pruned.best_estimator_.callbacks is None
    silent = clone(net).set_params(callbacks="disable")
    options = {"n_iter": 2, "resource": "iterations", "pruner": NEVER, "error_score": "raise"}
    assert set(search_of(silent, space, **options).fit(X, y).study_.trials[0].curves) == {0, 1}


@pytest.mark.parametrize(
    ("family", "early", "fitted"),
    [
        ("histograms", {"early_stopping": True}, {}),
        ("boosting", {"n_iter_no_change": 3}, {}),
        ("boosting", {}, {"monitor": lambda i, estimator, env: i >= 5}),
    ],
)
def test_estimators_that_stop_early_are_left_alone(family, early, fitted):
    estimator = FAMILIES[family](random_state=0, **early)
    ours = search_of(estimator, DEPTH, resource="iterations", pruner=NEVER, n_iter=2).fit(*CANCER, **fitted)
    plain = search_of(estimator, DEPTH, n_iter=2).fit(*CANCER, **fitted)
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    assert set(ours.study_.trials[0].curves) == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "pruner", ["median", "halving", "hyperband", PercentilePruner(25.0, n_startup_trials=1)], ids=repr
)
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("family", ["lightgbm", "boosting"])
def test_pruning_inside_fits_does_not_depend_on_the_workers(family, pruner, batch_size):
    space = {"learning_rate": stats.loguniform(1e-3, 1), "max_depth": inloop.Int(1, 6)}
    search = search_of(
        make_pipeline(FAMILIES[family](random_state=0)),
        {f"{type(FAMILIES[family]()).__name__.lower()}__{k}": v for k, v in space.items()},
        n_iter=12, cv=3, pruner=pruner, resource="iterations", batch_size=batch_size, sampler="tpe",
    )  # fmt: skip
    one = clone(search).fit(*CANCER)
    assert one.n_pruned_ > 0
    for backend, n_jobs in (("loky", 2), ("threading", 4)):
        with joblib.parallel_config(backend=backend):
            other = clone(search).set_params(n_jobs=n_jobs).fit(*CANCER)
        for key in ("mean_test_score", "status", "n_splits_run", "n_iterations_run", "partial_mean_test_score"):
            np.testing.assert_array_equal(one.cv_results_[key], other.cv_results_[key])
        for a, b in zip(one.study_.trials, other.study_.trials, strict=True):
            assert a.params == b.params
            assert {k: c.values for k, c in a.curves.items()} == {k: c.values for k, c in b.curves.items()}


@pytest.mark.parametrize("ratio", [3.0, 3.0**0.5])
def test_steps_are_the_same_for_every_length_and_hold_the_rungs_of_halving(ratio):
    for total in range(1, 300):
        taken = list(steps(total, ratio))
        assert taken == [s for s in steps(1000, ratio) if s < total]
        assert all(a < b for a, b in pairwise(taken))
        assert set(SuccessiveHalvingPruner(min_resource=3).rungs(total)) <= set(taken)


@pytest.mark.parametrize(
    ("searched", "first"), [({}, 5), ({"n_estimators": inloop.Int(10, 100)}, 16), ({"n_estimators": [10, 50]}, 8)]
)
def test_pruners_by_name_have_a_rung_after_a_sixth_of_the_iterations(searched, first):
    model = GradientBoostingClassifier(n_estimators=30, random_state=0)
    space = {"learning_rate": stats.loguniform(1e-3, 1), **searched}
    search = search_of(model, space, resource="iterations", pruner="halving", n_iter=16, cv=3).fit(*CANCER)
    assert search.study_.pruner == SuccessiveHalvingPruner(min_resource=2)
    inside = {t.curves[2].steps[-1] for t in search.study_.trials if t.state.name == "PRUNED" and 1 not in t.curves}
    assert min(inside) == next(s for s in steps(1000, 3.0) if s >= first)


# Scores of all kinds


def test_a_score_that_is_not_yet_defined_prunes_nobody():
    X, y = make_classification(1500, 10, weights=[0.85], n_informative=5, flip_y=0.02, random_state=0)
    rates = [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.01, 0.012]
    search = BayesSearchCV(
        HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0, max_leaf_nodes=6),
        {"learning_rate": rates},
        n_iter=10,
        cv=3,
        scoring=make_scorer(precision_score, zero_division=np.nan),
        sampler="grid",
        initial_params=[{"learning_rate": rate} for rate in rates],
        resource="iterations",
        random_state=0,
    )
    plain, pruned = (clone(search).set_params(pruner=pruner).fit(X, y) for pruner in (None, "auto"))
    assert plain.best_params_ == pruned.best_params_ == {"learning_rate": 0.01}
