"""Laws of the hook for scikit-learn's callbacks, on real training."""

import copy
import math
import pickle
import threading
import warnings

import inloop
import numpy as np
import pytest
from inloop.pruners import MedianPruner, ThresholdPruner
from reporting import Stop, curve
from reporting import ask as ask_to
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
from inloop.integrations.sklearn_callback import SklearnPruningCallback

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :8]
X, X_VALID, Y, Y_VALID = X[:300], X[300:450], Y[:300], Y[300:450]
pytestmark = [
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
    pytest.mark.filterwarnings("ignore:The estimator PCA does not support callbacks"),
]


class Descent(callback.CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Logistic regression by gradient descent, which ends when a callback says so."""

    def __init__(self, max_iter=6, warm_start=False):
        self.max_iter = max_iter
        self.warm_start = warm_start

    @callback.with_callbacks
    def fit(self, X, y, fail_at=None):
        task = self._init_callback_context(max_subtasks=self.max_iter)
        self.classes_ = np.unique(y)
        if not (self.warm_start and hasattr(self, "coef_")):
            self.coef_, self.n_iter_ = np.zeros(X.shape[1]), 0
        for i in range(self.max_iter):
            iteration = task.subcontext(task_name="step").call_on_fit_task_begin(estimator=self, X=X, y=y)
            if i == fail_at:
                raise KeyError("mine")
            self.coef_ = self.coef_ - X.T @ (self.predict_proba(X)[:, 1] - y) / len(X) / X.var()
            self.n_iter_ += 1
            now = {"coef_": self.coef_}
            if iteration.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=now):
                break
        task.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})
        return self

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-np.clip(X @ self.coef_, -30, 30)))
        return np.stack([1 - p, p], 1)

    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)]


def regression(n=6):
    return LogisticRegression(max_iter=n)


def piped(n=6):
    return make_pipeline(StandardScaler(), PCA(6), LogisticRegression(max_iter=n))


def nested(n=6):
    return make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), regression(n)))


def single(n=6):
    return make_pipeline(Descent(n))


every_model = pytest.mark.parametrize("make", [regression, piped, nested, single, Descent], ids=lambda m: m.__name__)


def ask(pruner=None):
    return ask_to(pruner, "maximize")


def hook(trial, scoring="neg_log_loss", **given):
    return SklearnPruningCallback(trial, X_VALID, Y_VALID, scoring, **given)


def fit(model, *hooks):
    """Fit a model; return it and whether it said that its trial was pruned."""
    try:
        return model.set_callbacks(*hooks).fit(X, Y), False
    except inloop.TrialPruned:
        return model, True


class Scores:
    """A scorer that gives the values it has been given, and counts."""

    def __init__(self, *values):
        self.values = values
        self.calls = 0

    def __call__(self, model, X, y):
        self.calls += 1
        return self.values[min(self.calls, len(self.values)) - 1]


@every_model
def test_never_stop(make):
    trial = ask()
    model, _ = fit(make(), hook(trial))
    values = curve(trial)
    assert list(values) == [0, 1, 2, 3, 4, 5]
    assert values[5] == pytest.approx(-log_loss(Y_VALID, model.predict_proba(X_VALID)), rel=1e-12)
    for n in (1, 3):
        assert values[n - 1] == pytest.approx(-log_loss(Y_VALID, fit(make(n))[0].predict_proba(X_VALID)), rel=1e-6)


@every_model
@pytest.mark.parametrize("at", [1, 3, 6])
def test_always_stop(make, at):
    trial = ask(Stop(at))
    scores = Scores(0.5)
    _, raised = fit(make(), hook(trial, scores))
    assert list(curve(trial)) == list(range(at))
    assert scores.calls == at
    assert raised == (make in (regression, piped, nested)), "scikit-learn's own pass over what callbacks return"
    assert trial.study.tell(trial, 0.1).state.name == "PRUNED"


@every_model
def test_whatever_the_objective_does_it_is_pruned(make):
    study = inloop.create_study("maximize", sampler="random", pruner=Stop(2), seed=0)

    def objective(trial):
        if trial.number == 0:
            fit(make(), hook(trial))
        else:
            make().set_callbacks(hook(trial)).fit(X, Y)
        return 0.5

    study.optimize(objective, n_trials=2)
    assert [t.state.name for t in study.trials] == ["PRUNED"] * 2
    assert [t.reports for t in study.trials] == [2, 2]


@every_model
def test_a_pruned_trial_is_not_trained_again(make):
    trial, scores = ask(Stop(1)), Scores(0.5)
    fit(make(), first := hook(trial, scores))
    for again in (first, hook(trial, scores), copy.deepcopy(first)):
        with pytest.raises(inloop.TrialPruned, match="trial 0 is pruned"):
            make().set_callbacks(again).fit(X, Y)
    assert scores.calls == 1


def test_nan_is_reported_and_prunes_only_by_the_rule():
    values = [0.5, math.nan, 0.4, 0.3]
    for pruner, reports in ((None, 4), (ThresholdPruner(lower=0.0), 2)):
        trial = ask(pruner)
        fit(regression(4), hook(trial, Scores(*values)))
        np.testing.assert_array_equal(list(curve(trial).values()), values[:reports])
        assert trial.pruned == (reports == 2)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"'neg_log_loss' is to be maximized, but the direction .* 'minimize'"):
        hook(ask_to())
    with pytest.raises(TypeError, match=r"scoring must be one name or one scorer, got \['accuracy', 'r2'\]"):
        hook(ask(), ["accuracy", "r2"])
    with pytest.raises(ValueError, match="report_every must be an integer of at least 1, got 0"):
        hook(ask(), report_every=0)
    assert repr(hook(ask(), start=2)) == (
        "SklearnPruningCallback(trial=0, report_every=1, scoring='neg_log_loss', start=2)"
    )


@pytest.mark.filterwarnings("ignore:Callbacks are only supported")
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(solver="liblinear"),
        make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cg")),
        StandardScaler(),
        GridSearchCV(regression(), {"C": [1.0]}, cv=2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_model_that_tells_no_iterations(model):
    with pytest.raises(ValueError, match=r"(?s)\(.*\) told nothing of its iterations; take an estimator, or a solver"):
        fit(model, hook(ask(), "accuracy"))


def test_scores():
    weights = np.linspace(0, 1, len(Y_VALID))
    for scoring, given in [(None, {}), ("roc_auc", {}), (get_scorer("accuracy"), {"sample_weight": weights})]:
        trial = ask()
        model, _ = fit(piped(), hook(trial, scoring, **given))
        score = get_scorer(scoring or "accuracy")(model, X_VALID, Y_VALID, **given)
        assert curve(trial)[5] == pytest.approx(score)


@every_model
def test_every_fit_starts_afresh(make):
    trial = ask()
    one = hook(trial)
    for n, h in ((3, one), (4, one), (2, hook(trial))):
        fit(make(n), h)
    assert [list(curve(trial, s)) for s in range(3)] == [[0, 1, 2], [0, 1, 2, 3], [0, 1]]


@every_model
def test_a_fit_that_failed_leaves_the_hook_usable(make):
    trial = ask()
    one = hook(trial)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples|broadcast"):
        make().set_callbacks(one).fit(X, Y[1:])
    try:
        Descent().set_callbacks(one).fit(X, Y, fail_at=2)
    except KeyError:  # a fit within the handling of an error is as any other
        one.report_every = 4
        fit(make(), one)
    last = max(trial._record.curves)
    assert list(curve(trial, last)) == [3, 5]


def test_a_fold_is_compared_with_the_same_fold():
    study = inloop.create_study("maximize", sampler="random", pruner=MedianPruner(n_startup_trials=1), seed=0)

    def objective(trial):
        for fold in range(2):
            fit(regression(2), hook(trial, Scores(-1.0 if fold == 0 else trial.number - 9.0)))
        return 1.0

    study.optimize(objective, 2)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 2


@every_model
def test_two_fits_at_once_are_refused(make):
    trial, out = ask(), []

    def scorer(model, X, y):
        if len(out) == 1:
            out.append(0.5)
            thread = threading.Thread(target=fit, args=(make(), one))
            thread.start()
            thread.join()
        out.append(0.5)
        return 0.5

    one = hook(trial, scorer)
    with pytest.raises(RuntimeError, match=r"SklearnPruningCallback\(trial=0.* is used by two fits at once"):
        make().set_callbacks(one).fit(X, Y)
    assert list(curve(trial, 1)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("way_to_copy", [copy.copy, copy.deepcopy, lambda h: clone(h, safe=False), "pickle", "model"])
def test_a_copy_is_a_hook_of_the_same_trial(way_to_copy):
    trial = ask()
    one = hook(trial, report_every=4)
    model, _ = fit(piped(), one)
    if way_to_copy == "model":
        clone(pickle.loads(pickle.dumps(model))).fit(X, Y)
    else:
        again = pickle.loads(pickle.dumps(one)) if way_to_copy == "pickle" else way_to_copy(one)
        assert repr(again) == repr(one)
        fit(piped(), again)
    assert [list(curve(trial, s)) for s in range(2)] == [[3, 5]] * 2


@every_model
@pytest.mark.parametrize("rounds", [5, 6])
def test_report_every_thins_but_keeps_the_last(make, rounds):
    trial, scores = ask(), Scores(0.5)
    fit(make(rounds), hook(trial, scores, report_every=2))
    assert list(curve(trial)) == [1, 3, rounds - 1]
    assert scores.calls == 3, "what is not reported is not scored"


def test_a_resumed_fit_goes_on_with_its_curve():
    trial, model = ask(), Descent(2, warm_start=True)
    fit(model, hook(trial))
    fit(model, hook(trial, start=model.n_iter_))
    assert list(trial._record.curves) == [0]
    assert curve(trial) == {
        i: pytest.approx(-log_loss(Y_VALID, fit(Descent(i + 1))[0].predict_proba(X_VALID))) for i in range(4)
    }


@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)], ids=["serial", "loky"])
def test_cross_val_score(n_jobs):
    trial = ask()
    scores = cross_val_score(piped(3).set_callbacks(hook(trial)), X, Y, cv=3, n_jobs=n_jobs, error_score="raise")
    assert np.isfinite(scores).all()
    trial.study.tell(trial, scores.mean())
    assert {s: list(c.steps) for s, c in trial._record.curves.items()} == {s: [0, 1, 2] for s in range(3)}


def test_cross_val_score_costs_nothing_after_the_prune():
    trial, scores = ask(Stop(2)), Scores(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="All the 3 fits failed"):
            cross_val_score(piped().set_callbacks(hook(trial, scores)), X, Y, cv=3)
    assert scores.calls == 2
