"""The pruner of searches, and what their samplers take pruned candidates for."""

from __future__ import annotations

from itertools import pairwise

import inloop
import numpy as np
import pytest
from inloop.integrations._sklearn_paired import FOLDS, ITERATIONS, MEANS, PairedCurves, PairedPruner, noise
from inloop.integrations.sklearn import BayesSearchCV
from inloop.samplers import RandomSampler
from inloop.samplers.curves import curves, trust
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

SPACE = {"x": inloop.Float(0.0, 1.0)}
BEST = [0.8, 0.6, 0.9]


def study_of(rows, direction="maximize", sampler=None):
    """Return a study of complete trials with these fold scores."""
    study = inloop.create_study(direction, seed=0, space=SPACE, sampler=sampler or RandomSampler())
    for row in rows:
        end(study, row)
    return study


def end(study, scores, inside=(), state="complete"):
    trial = study.ask()
    for step, value in inside:
        trial.report(value, step, stream=ITERATIONS)
    for n, score in enumerate(scores):
        trial.report(score, step=n + 1, stream=FOLDS)
        trial.report(np.mean(scores[: n + 1]), step=n + 1, stream=MEANS)
    return study.tell(trial, np.mean(scores) if state == "complete" else None, state=state)


def asked(study, scores=(), inside=(), **options):
    """Return what the pruner says of a trial with these reports."""
    trial = study.ask()
    for step, value in inside:
        trial.report(value, step, stream=ITERATIONS)
    for n, score in enumerate(scores):
        trial.report(score, step=n + 1, stream=FOLDS)
    record = study.history.trials[trial.number]
    return PairedPruner(**options).prune(study.history, record, FOLDS if scores else ITERATIONS)


def others(shift=0.1, spread=0.02, n=8):
    rng = np.random.default_rng(0)
    return [list(np.array(BEST) - shift + rng.normal(0, spread, 3)) for _ in range(n)]


@pytest.mark.parametrize("sign", [1, -1])
def test_who_is_behind_by_more_than_the_noise_is_stopped(sign):
    rows = sign * np.array([BEST, *others()])
    study = study_of(rows, "maximize" if sign > 0 else "minimize")
    spread = noise(sign * (rows[0] - rows[1:]), 1)
    assert 0.005 < spread < 0.03
    for factor, margin, stopped in [(0.0, 1, False), (0.9, 1, False), (1.1, 1, True), (1.1, 2, False), (-9, 1, False)]:
        assert asked(study, [sign * (BEST[0] - factor * spread)], margin=margin) is stopped
    assert asked(study, [np.nan])
    assert asked(study, [sign * (BEST[0] + 0.1), np.nan])


def test_nothing_is_stopped_before_the_noise_is_known():
    study = study_of([BEST, *others(n=3)])
    assert not asked(study, [0.0])
    end(study, others()[5])
    assert asked(study, [0.0])
    assert not asked(inloop.create_study("maximize", seed=0, space=SPACE), [0.0])


def test_the_noise_of_all_folds_is_none_and_that_of_more_folds_is_less():
    rows = np.random.default_rng(0).normal(size=(200, 5))
    spreads = [noise(rows, n) for n in range(1, 6)]
    assert spreads[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(a > b for a, b in pairwise(spreads))


@pytest.mark.parametrize(
    ("inside", "stopped"),
    [
        ([(3, 0.1)], False),  # one report shows no slope
        ([(3, 0.1), (9, 0.2)], False),  # on a line it comes to more than .8 by iteration 50
        ([(3, 0.1), (9, 0.2), (27, 0.3)], True),
        ([(3, 0.1), (9, 0.1)], True),
        ([(3, 0.9), (9, 0.5)], True),  # what was once is not promised
        ([(3, 0.1), (9, np.nan)], True),
        ([(3, 0.1), (9, 0.2), (27, 0.7)], False),
    ],
)
def test_slow_learners_are_promised_that_they_go_on_as_they_did(inside, stopped):
    study = study_of([BEST, *others()])
    assert asked(study, inside=inside, rounds=50) is stopped


# What samplers take a pruned candidate for


@pytest.mark.parametrize("trusted", [False, True])
def test_a_candidate_pruned_just_behind_the_best_one_is_not_taken_for_an_ordinary_one(trusted):
    study = study_of([BEST, *others(spread=0.001)])
    if trusted:
        trust(study.history)
    close = end(study, [BEST[0] - 0.002, BEST[1] - 0.002], state="pruned")
    ahead = end(study, [BEST[0] + 0.3], state="pruned")
    numbers = np.array([close.number, ahead.number])
    losses = curves(study.history).losses(numbers, len(study.history.told))
    worst = -np.median([t.value for t in study.trials if t.value is not None])
    if trusted:
        assert losses[1] == pytest.approx(-np.mean(BEST))  # none is taken for better than the best
        assert losses[1] < losses[0] < worst - 0.5 * (worst + np.mean(BEST))
    else:
        assert list(losses) == pytest.approx([worst] * 2)


def test_between_folds_it_is_taken_for_the_best_one_less_what_it_is_behind():
    study = study_of([BEST, *others()])
    trust(study.history, PairedCurves)
    close = end(study, [BEST[0] - 0.05, BEST[1] - 0.03], state="pruned")
    ahead = end(study, [BEST[0] + 0.3], state="pruned")
    nan = end(study, [np.nan], state="pruned")
    inside = end(study, [], inside=[(3, 0.1)], state="pruned")
    numbers = np.array([close.number, ahead.number, nan.number, inside.number])
    losses = curves(study.history).losses(numbers, len(study.history.told))
    rows = np.array([BEST, *others()])
    assert losses[0] == pytest.approx(-np.mean(BEST) + 0.04 + noise(rows[0] - rows[1:], 2))
    assert -np.mean(BEST) <= losses[1] < losses[0]
    assert losses[2] == np.inf
    early = curves(study.history).losses(numbers, 3)  # as it stood when there was no noise to know
    assert np.isfinite(early[0])


@pytest.mark.parametrize("resource", ["folds", "iterations"])
def test_a_search_finds_no_less_and_runs_fewer_folds(resource):
    X, y = (a[::3] for a in load_breast_cancer(return_X_y=True))
    model = GradientBoostingClassifier(n_estimators=20, random_state=0)
    space = {"learning_rate": stats.loguniform(1e-3, 1), "max_depth": inloop.Int(1, 3)}
    options = {"n_iter": 24, "random_state": 0, "scoring": "neg_log_loss"}
    plain = BayesSearchCV(model, space, **options).fit(X, y)
    search = BayesSearchCV(model, space, pruner="auto", resource=resource, **options).fit(X, y)
    runs = search.cv_results_["n_splits_run"]
    assert set(runs) <= ({0, 1, 2, 3, 4, 5} if resource == "iterations" else {2, 3, 4, 5})
    assert runs.sum() < (0.7 if resource == "iterations" else 0.8) * 24 * 5
    assert search.best_score_ > plain.best_score_ - 0.02


def test_estimators_without_reports_run_two_folds():
    X, y = load_breast_cancer(return_X_y=True)
    space = {"ccp_alpha": stats.loguniform(1e-4, 0.3)}
    options = {"pruner": "auto", "n_iter": 20, "random_state": 0}
    tree = DecisionTreeClassifier(random_state=0)
    with pytest.warns(UserWarning, match="does not report"):
        inside = BayesSearchCV(tree, space, resource="iterations", **options).fit(X, y)
    assert {2, 5} <= set(inside.cv_results_["n_splits_run"]) <= {2, 3, 4, 5}
