"""Default spaces: every one is for real parameters of its estimator, and works."""

import warnings

import inloop
import lightgbm
import pytest
import sklearn.ensemble
import sklearn.linear_model
import sklearn.neighbors
import sklearn.neural_network
import sklearn.svm
import sklearn.tree
import xgboost
from inloop.integrations.sklearn import BayesSearchCV
from inloop.spaces import _KNOWN, default_space
from sklearn.base import is_classifier
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

HOMES = (
    sklearn.ensemble, sklearn.linear_model, sklearn.neighbors, sklearn.neural_network, sklearn.svm, sklearn.tree,
    lightgbm, xgboost,
)  # fmt: skip
CANCER = tuple(a[::6] for a in load_breast_cancer(return_X_y=True))
DIABETES = tuple(a[::5] for a in load_diabetes(return_X_y=True))


def estimator_of(name):
    made = next(getattr(home, name) for home in HOMES if hasattr(home, name))()
    few = {"verbosity": 0, "verbose": -1 if name.startswith("LGBM") else 0, "max_iter": 200}
    if isinstance(made, lightgbm.LGBMModel | xgboost.XGBModel):
        few["n_jobs"] = 1
    return made.set_params(**{k: v for k, v in few.items() if k in made.get_params()})


@pytest.mark.parametrize("name", _KNOWN)
def test_names_are_parameters_of_the_estimator(name):
    estimator = estimator_of(name)
    space = default_space(estimator)
    assert set(space) <= set(estimator.get_params())
    for start in (
        Pipeline([("m", estimator)]),
        Pipeline([("a", StandardScaler()), ("b", Pipeline([("m", estimator)]))]),
    ):
        nested = default_space(start)
        assert set(nested) <= set(start.get_params())
        assert [n.rpartition("__")[2] for n in nested] == list(space)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in _KNOWN if not n.endswith("Ranker")])
def test_every_point_can_be_fitted(name):
    estimator = make_pipeline(StandardScaler(), estimator_of(name))
    data = CANCER if is_classifier(estimator) else DIABETES
    search = BayesSearchCV(estimator, n_iter=2, cv=2, sampler="random", random_state=0, error_score="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(*data)
    assert search.study_.space == default_space(estimator)


def test_what_depends_on_the_estimator():
    assert list(default_space(sklearn.svm.SVC(kernel="linear"))) == ["C"]
    assert list(default_space(sklearn.svm.SVR(kernel="poly"))) == ["C", "gamma", "degree", "epsilon"]
    forest = default_space(sklearn.ensemble.RandomForestClassifier())
    assert forest.active({"bootstrap": False, "max_samples": 0.5}) == ["bootstrap"]
    for options in ({"max_samples": 0.5}, {"oob_score": True}):  # which need a bootstrap
        forest = default_space(sklearn.ensemble.RandomForestClassifier(**options))
        assert list(forest) == ["max_features", "min_samples_leaf", "max_samples"]
        assert not forest.when


def test_a_derived_estimator_is_known_by_its_ancestor():
    class Mine(sklearn.linear_model.Ridge):
        pass

    assert list(default_space(Mine())) == ["alpha"]


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match=r"LinearRegression.*'LGBMClassifier'"):
        default_space(sklearn.linear_model.LinearRegression())
    with pytest.raises(ValueError, match="LinearRegression"):
        BayesSearchCV(sklearn.linear_model.LinearRegression()).fit(*DIABETES)
    for unlike in (sklearn.linear_model.LogisticRegressionCV(), xgboost.XGBRFClassifier(), xgboost.XGBRFRegressor()):
        with pytest.raises(ValueError, match=f"no default space for {type(unlike).__name__}"):
            default_space(unlike)


@pytest.mark.parametrize("name", _KNOWN)
def test_a_default_space_can_be_changed(name):
    space = default_space(estimator_of(name))
    first = next(iter(space))
    changed = space | {first: space[first], "other": inloop.Int(1, 5)}
    assert set(changed) == {*space, "other"}
    assert all(changed[n] == d for n, d in space.items())
    assert changed.when == space.when


def test_spaces_are_joined_with_their_conditions():
    a = inloop.Space({"p": ["u", "v"], "x": inloop.Float(0, 1)}, when={"x": {"p": ["u"]}})
    b = inloop.Space({"q": [1, 2], "x": inloop.Float(2, 3)}, when={"x": {"q": [2]}})
    both = a | b
    assert dict(both) == {"p": a["p"], "q": b["q"], "x": b["x"]}
    assert both.when == {"x": {"q": (2,)}}
    assert (a | {"x": inloop.Float(0, 2)}).when == a.when
    with pytest.raises(ValueError, match="'u'"):
        a | {"p": ["v", "w"]}
    with pytest.raises(TypeError):
        a | ["x"]
