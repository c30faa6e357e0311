"""The pruner of searches, and what their samplers take pruned candidates for."""

from __future__ import annotations

import pickle
from itertools import pairwise

import inloop
import numpy as np
import pytest
from inloop.integrations._sklearn_folds import (
    FOLDS,
    FOLDS_KEPT,
    ITERATIONS,
    LEAST,
    MEANS,
    Folds,
    FoldsCurves,
    FoldsPruner,
    Growth,
    first_folds,
    turns,
)
from inloop.integrations._sklearn_race import Race
from inloop.integrations._sklearn_space import SearchSpace
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
    """Tell a trial of these scores, which are in the order of its turns if it is pruned."""
    trial = study.ask()
    for step, value in inside:
        trial.report(value, step, stream=ITERATIONS)
    for n, (fold, score) in enumerate(folds_of(trial, scores)):
        trial.report(score, step=fold + 1, stream=FOLDS)
        trial.report(np.mean(scores[: n + 1]), step=n + 1, stream=MEANS)
    return study.tell(trial, np.mean(scores) if state == "complete" else None, state=state)


def folds_of(trial, scores):
    """Return pairs of fold and score: whole rows are in the order of the folds, parts in that of the turns."""
    order = turns(trial.number, len(BEST))
    return [(f, scores[f]) for f in order] if len(scores) == len(BEST) else list(zip(order, scores, strict=False))


def asked(study, behind=(), inside=(), **options):
    """Return what the pruner says of a trial whose first folds are so much behind the best one's, or of reports."""
    trial = study.ask()
    for step, value in inside:
        trial.report(value, step, stream=ITERATIONS)
    known = folds(study)
    for fold, gap in zip(turns(trial.number, len(BEST)), behind, strict=False):
        loss = known.best + known.effects[fold] + gap
        trial.report(study.history.sign * loss, step=fold + 1, stream=FOLDS)
    record = study.history.trials[trial.number]
    return FoldsPruner(**options).prune(study.history, record, FOLDS if behind else ITERATIONS)


def folds(study):
    return Folds.of(study.history.best, study.history.trials, study.history.sign)


def others(shift=0.1, spread=0.02, n=8):
    rng = np.random.default_rng(0)
    return [list(np.array(BEST) - shift + rng.normal(0, spread, 3)) for _ in range(n)]


@pytest.mark.parametrize("n_splits", range(1, 13))
def test_every_fold_is_the_first_one_of_as_many_candidates(n_splits):
    orders = [turns(number, n_splits) for number in range(3 * n_splits)]
    assert all(sorted(order) == list(range(n_splits)) for order in orders)
    firsts = [order[0] for order in orders]
    for i in range(len(firsts) - n_splits):
        assert sorted(firsts[i : i + n_splits]) == list(range(n_splits))
    if n_splits == 5 or n_splits > 6:  # two candidates in a row share none of the two folds they begin with
        assert not any(set(a[:2]) & set(b[:2]) for a, b in pairwise(orders))


@pytest.mark.parametrize(("run", "of"), [(1, "alone"), (2, "margin")])
@pytest.mark.parametrize("sign", [1, -1])
def test_who_is_behind_by_more_than_the_noise_is_stopped(sign, run, of):
    rows = sign * np.array([BEST, *others()])
    study = study_of(rows, "maximize" if sign > 0 else "minimize")
    for factor, margin, stopped in [(0.0, 1, False), (0.9, 1, False), (1.1, 1, True), (1.1, 2, False), (-9, 1, False)]:
        number = len(study.trials)
        spread = folds(study).noise(np.array(turns(number, 3)[:run]))
        assert 0.005 < spread < 0.04
        assert asked(study, [factor * spread] * run, **{"margin": 9, "alone": 9, of: margin}) is stopped
    assert asked(study, [np.nan])
    assert asked(study, [-0.1, np.nan])


def test_nothing_is_stopped_before_the_noise_is_known():
    study = study_of([BEST, *others(n=LEAST - 2)])
    trial = study.ask()
    trial.report(0.0, step=1, stream=FOLDS)
    judged = FoldsPruner(), study.history, study.history.trials[trial.number], FOLDS
    assert not judged[0].prune(*judged[1:])
    end(study, others()[5])
    assert judged[0].prune(*judged[1:])
    empty = inloop.create_study("maximize", seed=0, space=SPACE)
    assert not FoldsPruner().prune(empty.history, empty.history.trials[empty.ask().number], FOLDS)


def test_where_folds_differ_by_the_same_for_all_a_single_one_tells_the_mean():
    rng = np.random.default_rng(0)
    effects = rng.normal(size=5)
    losses = rng.normal(size=(8, 1)) + effects
    known = of_losses(losses)
    assert known.best == pytest.approx(losses.mean(1).min())
    for run in ([0], [3, 1], [4, 2, 0]):
        assert known.foretold(np.array(run), 7.0 + effects[run]) == pytest.approx(7.0 + effects.mean())
        assert known.noise(np.array(run)) == pytest.approx(0.0, abs=1e-12)


def test_the_noise_of_more_folds_is_less_and_that_of_all_is_none():
    known = of_losses(np.random.default_rng(0).normal(size=(400, 5)))
    spreads = [known.noise(np.arange(n)) for n in range(1, 6)]
    assert spreads == pytest.approx([np.sqrt(1 / n - 1 / 5) for n in range(1, 6)], abs=0.1)
    assert all(a > b for a, b in pairwise(spreads))
    assert spreads[-1] == pytest.approx(0.0, abs=1e-12)


def test_candidates_that_are_far_behind_do_not_add_to_the_noise():
    near = np.random.default_rng(0).normal(0, 0.01, size=(20, 5))
    far = 50.0 + np.random.default_rng(1).normal(0, 10.0, size=(20, 5))
    alone, beside = of_losses(near), of_losses(np.concatenate([near, far]))
    for n in (1, 3):
        assert beside.noise(np.arange(n)) < 2 * alone.noise(np.arange(n))


def of_losses(losses):
    study = inloop.create_study("minimize", seed=0, space=SPACE, sampler=RandomSampler())
    for row in losses:
        trial = study.ask()
        for fold in turns(trial.number, len(row)):
            trial.report(row[fold], step=fold + 1, stream=FOLDS)
        study.tell(trial, np.mean(row))
    return Folds.of(study.history.best, study.history.trials, 1.0)


def test_growth_is_in_units_of_what_was_gained_before():
    study = inloop.create_study("maximize", seed=0, space=SPACE, sampler=RandomSampler())
    rng = np.random.default_rng(0)
    for i in range(LEAST + 3):
        start, gain = rng.random(), 0.5 + rng.random()
        off = 0.0 if i < LEAST else (-0.1, 0.1, np.nan)[i - LEAST]
        inside = [(3, start), (9, start + gain), (27, start + gain)]
        end(study, [start + 1.5 * gain + off * gain] * 3, inside)
        known = Growth.of(first_folds(study.trials), 3, 9)
        if i < LEAST - 1:
            assert known is None
        elif i < LEAST:
            assert (known.ratio, known.deviation) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-12))
    assert known.ratio == pytest.approx(0.5, abs=0.05)
    assert 0.01 < known.deviation < 0.1
    assert Growth.of(first_folds(study.trials), 3, 27).ratio == pytest.approx(0.5, abs=0.05)
    assert Growth.of(first_folds(study.trials), 9, 27) is None  # nobody gained anything there
    assert Growth.of(first_folds(study.trials), 3, 5) is None


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


def test_it_is_taken_for_what_its_folds_foretell():
    effects, levels = np.array([0.1, -0.2, 0.1]), np.linspace(0.5, 0.9, 9)
    study = study_of([])
    trust(study.history, FoldsCurves)
    for level in levels:
        scores = level + effects
        first = turns(len(study.trials), 3)[0]
        gained = 0.2 * level  # each gains as much again as half of what it gained from 3 to 9
        end(study, scores, [(3, scores[first] - 1.5 * gained), (9, scores[first] - 0.5 * gained)])
    early = len(study.history.told) - len(levels) + LEAST - 1
    told, expected = [], []

    def pruned(scores, inside=(), foretold=np.nan):
        told.append(end(study, scores, inside, state="pruned").number)
        expected.append(-foretold)

    for level in (0.85, 0.3, -2.0):
        for n in (1, 2):
            pruned([level + effects[f] for f in turns(len(study.trials), 3)[:n]], (), level)
        now = level + effects[turns(len(study.trials), 3)[0]] - 0.1
        pruned([], [(3, now - 0.2), (9, now)], level)
    pruned([2.0 + effects[turns(len(study.trials), 3)[0]]], (), levels.max())  # none is taken for better than the best
    pruned([np.nan], (), -np.inf)
    pruned([], [(3, 0.1), (9, np.nan)], -np.inf)
    numbers = np.array(told)
    losses = curves(study.history).losses(numbers, len(study.history.told))
    assert list(losses) == pytest.approx(expected)
    before = curves(study.history).losses(numbers, early)  # as it stood when there were too few to tell
    assert np.isfinite(before[0])
    assert not np.allclose(before[:9], losses[:9])


def test_the_first_fold_under_another_pruner_is_the_one_that_is_kept():
    effects = np.array([0.1, -0.2, 0.1])
    study = study_of([level + effects for level in np.linspace(0.5, 0.9, 9)])
    trust(study.history, FoldsCurves)
    numbers = []
    for begins in (0, 1, 2):
        for _ in range(3):  # whatever its turn would be
            trial = study.ask()
            for step in (3, 9):
                trial.report(0.3 + effects[begins], step, stream=ITERATIONS)
            trial.set_user_attr(FOLDS_KEPT, {"order": [begins, (begins + 1) % 3, (begins + 2) % 3]})
            numbers.append(study.tell(trial, state="pruned").number)
    losses = curves(study.history).losses(np.array(numbers), len(study.history.told))
    assert list(losses) == pytest.approx([-0.3] * 9)


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
    # not by much: most proposals are nearly as good as the best
    assert runs.sum() < (0.8 if resource == "iterations" else 0.9) * 24 * 5
    assert search.best_score_ > plain.best_score_ - 0.02


def test_estimators_without_reports_run_two_folds():
    X, y = load_breast_cancer(return_X_y=True)
    space = {"ccp_alpha": stats.loguniform(1e-4, 0.3)}
    options = {"pruner": "auto", "n_iter": 20, "random_state": 0}
    tree = DecisionTreeClassifier(random_state=0)
    with pytest.warns(UserWarning, match="does not report"):
        inside = BayesSearchCV(tree, space, resource="iterations", **options).fit(X, y)
    assert {2, 5} <= set(inside.cv_results_["n_splits_run"]) <= {2, 3, 4, 5}


def test_candidates_alike_are_not_stopped_for_a_rounding():
    scores = [0.1 + 0.2, 0.7, 0.1]
    study = study_of([scores] * 6)
    assert folds(study).noise(np.array([0])) == 0.0
    for n in (1, 2):
        assert not asked(study, [0.0] * n)
        assert not asked(study, [1e-12] * n)
        assert asked(study, [1e-6] * n)


def test_a_best_trial_without_folds_judges_nobody():
    study = study_of([BEST, *others()])
    trust(study.history, FoldsCurves)
    pruned = end(study, [0.0], state="pruned")
    study.add_trial({"x": 0.5}, value=1.0)
    assert study.best_value == 1.0
    trial = study.ask()
    trial.report(0.0, step=1, stream=FOLDS)
    assert not FoldsPruner().prune(study.history, study.history.trials[trial.number], FOLDS)
    losses = curves(study.history).losses(np.array([pruned.number]), len(study.history.told))
    assert np.isfinite(losses).all()


def test_what_travels_to_a_fold_does_not_grow_with_the_search():
    study = inloop.create_study("maximize", seed=0, space=SPACE, sampler=RandomSampler(), pruner=FoldsPruner())
    race = Race(study, SearchSpace({"x": (0.0, 1.0)}), 700, 3, 1, float, FoldsPruner(30))
    rng, sizes = np.random.default_rng(0), []
    while (tasks := race.ready(1)) and len(race.candidates) < 700:
        for candidate, fold in tasks:
            if fold == candidate.order[0] and len(race.candidates) in (200, 650):
                sizes.append(len(pickle.dumps(race.watch(candidate, fold, workers=2))))
            curve = [(3, rng.random()), (9, rng.random())] if fold == candidate.order[0] else []
            race.take(candidate, fold, {"test_scores": rng.random(), "curve": curve, "stopped": False})
    assert sizes[1] < 1.1 * sizes[0]


def test_a_row_shows_which_folds_were_run():
    X, y = (a[::3] for a in load_breast_cancer(return_X_y=True))
    model = GradientBoostingClassifier(n_estimators=20, random_state=0)
    space = {"learning_rate": stats.loguniform(1e-3, 1), "max_depth": inloop.Int(1, 3)}
    options = {"n_iter": 24, "random_state": 0, "scoring": "neg_log_loss", "pruner": "auto"}
    table = BayesSearchCV(model, space, resource="iterations", **options).fit(X, y).cv_results_
    ran = ~np.isnan([table[f"split{k}_test_score"] for k in range(5)]).T
    firsts = set()
    for number, row in enumerate(ran):
        order = turns(number, 5)
        assert list(row[order]) == [k < table["n_splits_run"][number] for k in range(5)]
        firsts |= {order[0]} if table["status"][number] == "pruned" and row.any() else set()
    assert len(firsts) > 1
