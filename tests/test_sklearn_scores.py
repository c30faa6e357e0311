"""Scores on the way through a fit are those of scikit-learn."""

from __future__ import annotations

import math
import warnings

import inloop
import numpy as np
import pytest
from inloop.integrations._sklearn_folds import FoldsPruner, Outlook
from inloop.integrations._sklearn_iterations import most_iterations
from inloop.integrations._sklearn_scores import quick
from inloop.integrations._sklearn_space import SearchSpace
from inloop.integrations.sklearn import BayesSearchCV
from inloop.pruners import ThresholdPruner
from scipy import stats
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.metrics import get_scorer, log_loss, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

NAMES = np.array(["spruce", "ash", "yew"])
SCORER = get_scorer("neg_log_loss")
TARGETS = {"two": load_breast_cancer, "three": load_wine, "names": load_wine}


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("model", [LogisticRegression(max_iter=2000), GaussianNB()], ids=["logistic", "bayes"])
def test_the_quick_log_loss_is_the_scorer_s(targets, model):
    X, y = TARGETS[targets](return_X_y=True)
    X = StandardScaler().fit_transform(X)
    y = NAMES[y] if targets == "names" else y
    for rows in (slice(0, None, 3), slice(1, None, 2)):
        score = quick(SCORER, y[rows])
        model.fit(X[::2], y[::2])
        assert score(model, X[rows]) == pytest.approx(SCORER(model, X[rows], y[rows]), rel=1e-12)


def test_it_leaves_to_the_scorer_what_is_not_as_usual():
    X, y = load_wine(return_X_y=True)
    model = GaussianNB().fit(X, y)
    assert quick(SCORER, y[y < 2])(model, X[y < 2]) is None  # a class is missing, which is an error there
    for other in (
        get_scorer("accuracy"),
        make_scorer(log_loss, response_method="predict_proba"),
        make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=[0, 1, 2]),
        lambda model, X, y: 0.0,
    ):
        assert quick(other, y) is None
    assert quick(SCORER, y[:, None]) is None
    assert quick(SCORER, y)(SGDClassifier(loss="hinge").fit(X, y), X) is None  # has no shares
    assert quick(SCORER, y)(LinearRegression().fit(X, y), X) is None


def test_it_leaves_shares_that_are_none_to_the_scorer():
    X, y = load_wine(return_X_y=True)

    class Off(GaussianNB):
        def predict_proba(self, X):
            return super().predict_proba(X) * self.by

    model = Off().fit(X, y)
    for by, known in ((1.0, True), (0.9, False), (-1.0, False), (np.nan, False)):
        model.by = by
        assert (quick(SCORER, y)(model, X) is not None) is known


# What is scored inside the fits of pipelines

IRIS = load_iris(return_X_y=True)
FOREST = RandomForestClassifier(12, random_state=0)
NEVER = ThresholdPruner(lower=-1e300)


class Stateless(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X - 1.0


def inside(estimator, space, **options):
    options = {"n_iter": 3, "pruner": NEVER, "error_score": "raise", **options}
    search = BayesSearchCV(estimator, space, cv=3, resource="iterations", sampler="random", random_state=0, **options)
    return search.fit(*map(np.copy, IRIS))


def curves(search):
    found = [t.curves[2] for t in search.study_.trials if 2 in t.curves]
    return [dict(zip(curve.steps, curve.values, strict=True)) for curve in found]


class Overwrites(Stateless):
    def transform(self, X):
        X -= 1.0
        return X


NESTS = {
    "plain": (FOREST, ""),
    "stateless": (Pipeline([("s", Stateless()), ("m", FOREST)]), "m__"),
    "in place": (Pipeline([("s", Overwrites()), ("m", FOREST)]), "m__"),
    "passed by": (Pipeline([("s", "passthrough"), ("m", FOREST)]), "m__"),
    "nested": (Pipeline([("s", StandardScaler()), ("n", Pipeline([("t", Stateless()), ("m", FOREST)]))]), "n__m__"),
}


def whole_accuracy(estimator, X, y):
    """Return the share of right answers; X are to be the raw rows."""
    assert X[:, 0].min() > 4.0
    if isinstance(estimator, Pipeline):
        assert len(list(estimator.named_steps)) == 2
    return float(np.mean(estimator.predict(X) == y))


@pytest.mark.parametrize("scoring", ["accuracy", None, whole_accuracy, {"a": whole_accuracy, "b": "accuracy"}])
@pytest.mark.parametrize("nest", NESTS)
def test_every_scorer_sees_what_it_sees_after_the_fit(nest, scoring):
    estimator, step = NESTS[nest]
    refit = "a" if isinstance(scoring, dict) else True
    search = inside(estimator, {f"{step}max_depth": [1, 2, 3]}, scoring=scoring, refit=refit)
    plain = inside(FOREST, {"max_depth": [1, 2, 3]}, scoring="accuracy")
    assert curves(search) == curves(plain)
    assert list(curves(search)[0]) == [3, 9]
    assert set(search.cv_results_["n_iterations_run"]) == {36}
    assert most_iterations(estimator, {f"{step}n_estimators": inloop.Int(1, 40)}) == 40


class Cautious(Pipeline):
    """Predicts in a way of its own."""

    def predict(self, X):
        return np.where(self.predict_proba(X).max(1) > 0.9, super().predict(X), -1)

    def predict_proba(self, X):
        return 0.9 * super().predict_proba(X) + 0.1 / 3.0


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
def test_predictions_of_a_pipeline_s_own_are_scored(scoring, nested):
    estimator, step = Cautious([("s", Stateless()), ("m", FOREST)]), "m__"
    if nested:
        estimator, step = Pipeline([("t", StandardScaler()), ("n", estimator)]), "n__m__"
    scorer = get_scorer(scoring)
    own, theirs = (
        inside(estimator, {f"{step}max_depth": [1, 2, 3]}, scoring=s)
        for s in (lambda model, X, y: scorer(model, X, y), scoring)
    )
    assert curves(own) == curves(theirs)
    plain = inside(FOREST, {"max_depth": [1, 2, 3]}, scoring=scoring)
    assert curves(own)[0] != curves(plain)[0]


def test_catboost_is_scored_in_a_pipeline():
    model = pytest.importorskip("catboost").CatBoostClassifier(
        n_estimators=12, depth=2, verbose=0, allow_writing_files=False, thread_count=1, random_state=0
    )
    estimator = Pipeline([("s", StandardScaler()), ("m", model)])
    own, theirs = (inside(estimator, {"m__depth": [2, 3]}, n_iter=2, scoring=s) for s in (whole_accuracy, "accuracy"))
    assert curves(own) == curves(theirs)
    assert list(curves(own)[0]) == [3, 9]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("error_score", ["raise", np.nan])
def test_a_report_that_fails_prunes_nothing(error_score, several):
    def score(estimator, X, y):
        if len(estimator.estimators_) < 12:
            raise RuntimeError("too few trees")
        return estimator.score(X, y)

    options = {"scoring": {"a": score, "b": "accuracy"}, "refit": "a"} if several else {"scoring": score}
    with pytest.warns(UserWarning, match="too few trees") as caught:
        search = inside(
            FOREST, {"max_depth": inloop.Int(1, 9)}, n_iter=9, pruner="auto", error_score=error_score, **options
        )
    assert len(caught) == 9  # one of each first fold
    assert curves(search) == []
    assert "failed" not in search.cv_results_["status"]
    assert all(search.cv_results_["n_splits_run"] > 0)


def doubtful(estimator, X, y):
    if len(estimator.estimators_) < 12:
        warnings.warn("few trees", UserWarning, stacklevel=2)
    return estimator.score(X, y)


@pytest.mark.parametrize(
    ("model", "scoring"), [(GaussianNB(), "precision"), (FOREST, doubtful)], ids=["metric", "function"]
)
def test_what_is_warned_of_on_the_way_is_not_heard(model, scoring):
    X, y = make_classification(200, 10, weights=[0.8], n_informative=5, flip_y=0.02, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = BayesSearchCV(
            model, {}, n_iter=1, cv=3, scoring=scoring, resource="iterations", pruner=NEVER, error_score="raise"
        ).fit(X, y)
    assert curves(search)


def test_the_out_of_bag_score_is_that_of_the_whole_forest():
    forest = RandomForestClassifier(40, oob_score=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = inside(forest, {"max_depth": [2]}, n_iter=1, scoring=lambda e, X, y: getattr(e, "oob_score_", 0.0))
    assert search.best_estimator_.oob_score is True
    assert search.cv_results_["split0_test_score"][0] > 0.8


# How many iterations there may be

BOOSTING = GradientBoostingClassifier(n_estimators=30)
MODELS = Pipeline([("m", SVC())])


@pytest.mark.parametrize(
    ("estimator", "space", "most"),
    [
        (BOOSTING, {}, 30),
        (BOOSTING, {"n_estimators": [5, 7]}, 7),
        (BOOSTING, {"n_estimators": [None, 5]}, 0),  # it has no default to be known
        (BOOSTING, {"n_estimators": stats.poisson(100)}, int(stats.poisson(100).ppf(0.999))),
        (BOOSTING, [{"n_estimators": [5]}, {"n_estimators": [50]}, {"n_estimators": [9]}], 50),
        (BOOSTING, [{"max_depth": [2]}, {"n_estimators": [9]}], 30),
        (BOOSTING, [{"n_estimators": ["a"]}], 0),
        (GaussianNB(), {}, 27),
        (SGDClassifier(max_iter=9), {"max_iter": [5, 20]}, 20),
        (SGDClassifier(max_iter=9), {"max_iter": [5, 200]}, 27),
        (MODELS, {"m": [SVC(), FOREST, BOOSTING]}, 30),
        (MODELS, [{"m": [FOREST]}, {"m": [BOOSTING], "m__n_estimators": [50, 60]}], 60),
        (MODELS, {"m": [make_pipeline(StandardScaler(), BOOSTING)]}, 30),
        (MODELS, {"m__C": [1, 2]}, 0),
        (Pipeline([("m", "passthrough")]), {"m": [FOREST]}, 12),
        (Pipeline([("m", "passthrough")]), {}, 0),
    ],
)
def test_the_largest_number_of_iterations(estimator, space, most):
    given = SearchSpace(space).space if space else {}
    assert most_iterations(clone(estimator), given) == most


def test_none_is_the_default_of_boosters():
    xgboost = pytest.importorskip("xgboost")
    choices = inloop.Categorical([None, 5])
    assert most_iterations(xgboost.XGBClassifier(n_estimators=300), {"n_estimators": choices}) == 100
    lightgbm = pytest.importorskip("lightgbm")
    assert most_iterations(lightgbm.LGBMClassifier(n_estimators=300), {"num_iterations": choices}) == 300


def test_a_search_of_the_last_step_itself():
    estimator = Pipeline([("s", StandardScaler()), ("m", "passthrough")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = inside(
            estimator, {"m": [GaussianNB(), FOREST]}, n_iter=2, pruner="auto", scoring="accuracy", objective="accuracy"
        )
    assert sorted(search.cv_results_["n_iterations_run"]) == [36, 81]


@pytest.mark.parametrize(("now", "promised"), [(0.2, -math.inf), (0.1, -0.1)])
def test_no_limit_is_set_where_the_number_is_not_known(now, promised):
    study = inloop.create_study("maximize", space={"x": inloop.Float(0.0, 1.0)})
    trial = study.ask()
    for step, value in [(3, 0.1), (9, now)]:
        trial.report(value, step, stream=2)
    assert FoldsPruner()._promised(Outlook.of(study.history), study.history.trials[0].curves[2]) == promised


def test_a_pipeline_without_a_last_step():
    estimator = Pipeline([("m", StandardScaler()), ("s", "passthrough")])
    with pytest.warns(UserWarning, match="passthrough does not report"):
        search = inside(estimator, {"m__with_std": [True, False]}, n_iter=2, scoring=lambda e, X, y: 1.0)
    assert search.best_score_ == 1.0


# Estimators that are not quite the library's


class Doubles(BaseEstimator):
    """A sampler in the manner of imbalanced-learn: it has no part in predictions."""

    def fit_resample(self, X, y):
        return np.concatenate([X, X]), np.concatenate([y, y])


class WithSamplers(Pipeline):
    """A pipeline in the manner of imbalanced-learn's."""

    def _validate_steps(self):
        pass

    def _iter(self, with_final=True, filter_passthrough=True, filter_resample=True):
        steps = super()._iter(with_final, filter_passthrough)
        return (s for s in steps if not hasattr(s[2], "fit_resample"))

    def fit(self, X, y=None, **params):
        for _, step in self.steps[:-1]:
            X, y = step.fit_resample(X, y)
        self.steps[-1][1].fit(X, y, **params)
        return self


@pytest.mark.parametrize("resource", ["folds", "iterations"])
def test_samplers_in_a_pipeline_are_passed_by(resource):
    estimator = WithSamplers([("d", Doubles()), ("m", FOREST)])
    options = {"cv": 3, "n_iter": 3, "sampler": "random", "random_state": 0, "error_score": "raise"}
    search = BayesSearchCV(estimator, {"m__max_depth": [1, 2, 3]}, pruner=NEVER, resource=resource, **options)
    search.fit(*IRIS)
    assert set(search.cv_results_["status"]) == {"complete"}
    assert bool(curves(search)) == (resource == "iterations")


class Fussy(Stateless):
    """Transforms the rows of predictions only, as metadata that they are given may ask of it."""

    def transform(self, X):
        if len(X) == 50 and not getattr(self, "fitting", True):
            raise RuntimeError("no metadata")
        self.fitting = False
        return X


def test_rows_that_cannot_be_transformed_inside_a_fit_are_not_watched():
    estimator = Pipeline([("s", Fussy()), ("m", FOREST)])
    with pytest.warns(UserWarning, match="RandomForestClassifier is not watched inside its fit.*no metadata"):
        search = inside(estimator, {"m__max_depth": [1]}, n_iter=1, scoring=lambda e, X, y: 1.0)
    assert curves(search) == []
    assert search.best_score_ == 1.0


class OwnArguments(RandomForestClassifier):
    def __init__(self, trees=5, random_state=None):
        super().__init__(n_estimators=trees, random_state=random_state)
        self.trees = trees

    def get_params(self, deep=True):
        return {"trees": self.trees, "random_state": self.random_state}


class OwnForest(RandomForestClassifier):
    def fit(self, X, y):
        return super().fit(X[::2], y[::2])


def own(module, name):
    """Return a subclass that fits in a way of its own."""
    library = pytest.importorskip(module)

    def fit(self, X, y):
        return getattr(library, name).fit(self, X[::2], y[::2])

    return type(f"Own{name}", (getattr(library, name),), {"fit": fit, "__module__": __name__})


@pytest.mark.parametrize(
    ("make", "space"),
    [
        (lambda: OwnArguments(random_state=0), {"trees": [5, 7]}),
        (lambda: OwnForest(9, random_state=0), {"max_depth": [2, 3]}),
        (lambda: own("xgboost", "XGBClassifier")(n_estimators=9), {"max_depth": [2, 3]}),
        (lambda: own("lightgbm", "LGBMClassifier")(n_estimators=9, verbose=-1), {"num_leaves": [4, 8]}),
        (lambda: pytest.importorskip("xgboost").XGBRFClassifier(n_estimators=9), {"max_depth": [2, 3]}),
    ],
)
def test_what_fits_in_a_way_of_its_own_is_left_alone(make, space):
    options = {"cv": 3, "scoring": "accuracy", "error_score": "raise"}
    plain = GridSearchCV(make(), space, **options).fit(*IRIS)
    with pytest.warns(UserWarning, match="does not report from inside its fit"):
        search = inside(make(), space, n_iter=2, scoring="accuracy")
    found = {
        str(p): s for p, s in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True)
    }
    for params, score in zip(plain.cv_results_["params"], plain.cv_results_["mean_test_score"], strict=True):
        assert found[str(params)] == score


def test_a_class_that_the_first_rows_lack_is_no_warning():
    X, y = IRIS[0][:102], IRIS[1][:102]  # two rows of the last class
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = BayesSearchCV(
            GaussianNB(), {"var_smoothing": [1e-9, 1e-3]}, n_iter=2, cv=2, resource="iterations", pruner=NEVER
        ).fit(X, y)
    assert curves(search)
