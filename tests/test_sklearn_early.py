"""BayesSearchCV: boosters that stop early by themselves, the simplest good candidate, searches kept in a storage."""

from __future__ import annotations

import functools
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import inloop
import numpy as np
import pytest
from inloop.integrations._sklearn_early import _split
from inloop.integrations._sklearn_resume import fingerprint, setup_hash
from inloop.integrations._sklearn_space import WHICH, SearchSpace
from inloop.integrations.sklearn import BayesSearchCV
from inloop.pruners import ThresholdPruner
from inloop.storage import MemoryStorage, SqliteStorage
from inloop.terminators import NoImprovement, TargetValue
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

CANCER = tuple(a[::2] for a in load_breast_cancer(return_X_y=True))
DIABETES = load_diabetes(return_X_y=True)
RATE = {"learning_rate": stats.loguniform(0.05, 0.5)}


def search_of(estimator, space, **options):
    options = {"n_iter": 3, "cv": 3, "random_state": 0, "sampler": "random", "error_score": "raise", **options}
    return BayesSearchCV(estimator, space, **options)


# Boosters that stop early


def xgboost(**options):
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=150, max_depth=3, n_jobs=1, **options)


def xgboost_callback():
    early = pytest.importorskip("xgboost").callback.EarlyStopping(rounds=5)
    return xgboost(callbacks=[early])


def lightgbm(**options):
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=150, n_jobs=1, verbose=-1, **options)


def catboost(**options):
    module = pytest.importorskip("catboost")
    options = {"n_estimators": 150, "depth": 3, "thread_count": 1, "allow_writing_files": False, **options}
    return module.CatBoostClassifier(verbose=0, **options)


def lightgbm_callback():
    return {"callbacks": [pytest.importorskip("lightgbm").early_stopping(5, verbose=False)]}


BOOSTERS = {
    "xgboost": lambda: (xgboost(early_stopping_rounds=5), {}),
    "xgboost callback": lambda: (xgboost_callback(), {}),
    "lightgbm": lambda: (lightgbm(early_stopping_round=5), {}),
    "lightgbm alias": lambda: (lightgbm(n_iter_no_change=5), {}),
    "lightgbm callback": lambda: (lightgbm(), lightgbm_callback()),
    "catboost": lambda: (catboost(early_stopping_rounds=5), {}),
    "lightgbm rounds": lambda: (lightgbm(num_iterations=120, early_stopping_round=5), {}),
    "catboost detector": lambda: (catboost(od_type="Iter", od_wait=5), {}),
    "catboost p-value": lambda: (catboost(od_type="IncToDec", od_pval=0.05, use_best_model=True), {}),
    "catboost best": lambda: (catboost(early_stopping_rounds=5), {"use_best_model": True}),
    "catboost fit": lambda: (catboost(), {"early_stopping_rounds": 5}),
}


def rounds_of(booster):
    if hasattr(booster, "get_booster"):
        return booster.get_booster().num_boosted_rounds()
    return booster.tree_count_ if hasattr(booster, "tree_count_") else booster.booster_.current_iteration()


@pytest.mark.parametrize("which", BOOSTERS)
@pytest.mark.parametrize("rows", ["split", "test"])
def test_a_booster_that_stops_early_gets_rows_to_watch(which, rows, capsys):
    booster, fit_params = BOOSTERS[which]()
    search = search_of(booster, RATE, eval_set=rows).fit(*CANCER, **fit_params)
    assert 1 <= search.refit_n_iterations_ < 150
    assert rounds_of(search.best_estimator_) == search.refit_n_iterations_
    assert search.best_estimator_.predict(CANCER[0]).shape == CANCER[1].shape
    assert "fit" not in vars(search.best_estimator_)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("rows", ["split", "test"])
def test_a_fold_is_what_one_would_write_by_hand(rows):
    X, y = CANCER
    booster = xgboost(early_stopping_rounds=5)
    weights = np.where(y, 1.0, 3.0)
    search = search_of(booster, {"learning_rate": [0.3]}, n_iter=1, eval_set=rows, validation_fraction=0.2)
    search.fit(X, y, sample_weight=weights)
    best = []
    for k, (train, test) in enumerate(StratifiedKFold(3).split(X, y)):
        fit, watch = train_test_split(train, test_size=0.2, stratify=y[train], random_state=0)
        if rows == "test":
            fit, watch = train, test
        weight = {"sample_weight_eval_set": [weights[watch]]} if rows == "split" else {}
        plain = clone(booster).set_params(learning_rate=0.3).fit(
            X[fit], y[fit], sample_weight=weights[fit], eval_set=[(X[watch], y[watch])], verbose=False, **weight
        )  # fmt: skip
        # from 1.8 on the weights are the scorer's as well
        given = {"sample_weight": weights[test]} if hasattr(search, "_check_scorers_accept_sample_weight") else {}
        assert search.cv_results_[f"split{k}_test_score"][0] == plain.score(X[test], y[test], **given)
        best.append(plain.best_iteration + 1)
    assert search.refit_n_iterations_ == int(np.median(best))


@pytest.mark.parametrize("which", ["xgboost", "lightgbm", "lightgbm callback"])
def test_in_a_pipeline_with_reports_from_inside_the_fits(which):
    booster, fit_params = BOOSTERS[which]()
    name = type(booster).__name__.lower()
    space = {f"{name}__{k}": v for k, v in RATE.items()}
    search = search_of(
        make_pipeline(StandardScaler(), booster), space, resource="iterations", pruner="median", n_iter=8
    )
    search.fit(*CANCER, **{f"{name}__{k}": v for k, v in fit_params.items()})
    assert rounds_of(search.best_estimator_[-1]) == search.refit_n_iterations_ < 150
    assert search.study_.trials[0].curves[2].steps[:2] == [3, 9]


def test_rows_of_the_user_are_left_alone():
    X, y = CANCER
    search = search_of(xgboost(early_stopping_rounds=5), RATE).fit(X, y, eval_set=[(X[:50], y[:50])], verbose=False)
    assert not hasattr(search, "refit_n_iterations_")
    assert not hasattr(search_of(xgboost(), RATE).fit(X, y), "refit_n_iterations_")


def test_what_an_earlier_fit_found_is_gone():
    X = pytest.importorskip("pandas").DataFrame(CANCER[0]).rename(columns=str)
    plain = search_of(SVC(), {"C": [1.0, 2.0]}, n_iter=2, refit=False)
    search = search_of(xgboost(early_stopping_rounds=5), RATE).fit(X, CANCER[1])
    assert {"refit_n_iterations_", "refit_time_", "feature_names_in_"} < vars(search).keys()
    search.set_params(**plain.get_params(deep=False)).fit(*CANCER)
    assert vars(search).keys() == vars(plain.fit(*CANCER)).keys()


def test_columns_of_texts_reach_the_rows_that_catboost_watches():
    X, y = CANCER
    texts = np.column_stack([X[:, :3].round().astype(int).astype(str), X[:, 3:5]]).astype(object)
    search = search_of(catboost(early_stopping_rounds=5), RATE, n_iter=1)
    search.fit(texts, y, cat_features=[0, 1, 2], sample_weight=np.ones(len(y)))
    assert search.refit_n_iterations_ == rounds_of(search.best_estimator_)


@pytest.mark.parametrize("resource", ["folds", "iterations"])
@pytest.mark.parametrize("rows", ["split", "test"])
def test_lightgbm_stops_after_the_same_rounds_whatever_the_classes_are_called(rows, resource):
    X, y = CANCER
    options = {"eval_set": rows, "resource": resource, "pruner": "auto", "sampler": "random"}
    tables, rounds = [], []
    for labels in ([0, 1], [1, 2], ["a", "b"]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            search = search_of(lightgbm(early_stopping_round=5), RATE, **options).fit(X, np.array(labels)[y])
        tables.append(search.cv_results_["mean_test_score"])
        rounds.append(search.refit_n_iterations_)
    assert len(set(rounds)) == 1
    assert 1 < rounds[0] < 150
    np.testing.assert_array_equal(tables[1:], [tables[0]] * 2)


def test_a_class_of_one_row_does_not_stop_it():
    X, y = DIABETES
    search = search_of(
        pytest.importorskip("lightgbm").LGBMRegressor(early_stopping_round=3, verbose=-1, n_jobs=1), RATE
    )
    assert search.fit(X, y).refit_n_iterations_ >= 1
    rare = np.zeros(len(y), int)
    rare[::2] = 1
    rare[0] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the folds
        for labels in (rare, np.array(["a", "b", "c"])[rare]):
            folds = KFold(3, shuffle=True, random_state=0)
            search_of(lightgbm(early_stopping_round=3), RATE, cv=folds).fit(X, labels, sample_weight=np.ones(len(y)))


THREE = ["xgboost", "lightgbm", "catboost"]
SAME = {"learning_rate": [0.1]}
ALL = np.arange(len(CANCER[1]))
WATCHED = train_test_split(ALL, test_size=0.1, random_state=0)[1]  # what an unstratified split has watched


def n_classes(estimator, X, y):
    return len(estimator.classes_)


@pytest.mark.parametrize("which", THREE)
@pytest.mark.parametrize("rare", [1, 3])
def test_a_row_that_is_alone_in_its_class_is_fitted(which, rare):
    X, y = CANCER[0], CANCER[1].copy()
    y[WATCHED[:rare]] = 2 + np.arange(rare)
    booster = BOOSTERS[which]()[0].set_params(n_estimators=20)
    search = search_of(booster, SAME, n_iter=1, cv=[(ALL, ALL)], scoring=n_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.fit(X, y)
    assert search.best_score_ == 2 + rare
    assert rounds_of(search.best_estimator_) == search.refit_n_iterations_ <= 20


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("labels", [np.arange(4), np.array(list("cdab")), np.array(list("cdab"), object)])
@pytest.mark.parametrize("sizes", [(40, 20, 1, 1), (40, 20, 2, 1), (50, 50, 2, 2), (3, 1, 1, 1), (2, 1), (1, 1, 1, 1)])
def test_each_class_keeps_a_row_and_the_others_are_stratified(sizes, labels, fraction):
    y = np.random.default_rng(0).permutation(np.repeat(labels[: len(sizes)], sizes))
    fitted, watched = _split(LogisticRegression(), y, None, fraction)
    assert sorted([*fitted, *watched]) == list(range(len(y)))
    assert set(y[fitted]) == set(y)
    for label, size in zip(labels, sizes, strict=False):
        if size == 1 or size >= 20:
            assert abs(np.sum(y[watched] == label) - (fraction * size if size > 1 else 0)) <= 1


@pytest.mark.parametrize("model", [LogisticRegression(), LinearRegression()], ids=["classes", "numbers"])
@pytest.mark.parametrize("counted", [0, 1, 2, 10, 60])
def test_rows_without_weight_are_fitted_and_the_others_split_alike(model, counted):
    rng = np.random.default_rng(0)
    y, weights = rng.permutation(np.repeat(np.arange(2), 30)), np.zeros(60)
    rows = np.sort(rng.permutation(60)[:counted])
    weights[rows] = rng.uniform(0.1, 2.0, counted)
    fitted, watched = _split(model, y, weights, 0.2)
    alone = _split(model, y[rows], None, 0.2)
    np.testing.assert_array_equal(watched, rows[alone[1]])
    np.testing.assert_array_equal(fitted[: counted - len(watched)], rows[alone[0]])
    assert sorted([*fitted, *watched]) == list(range(60))


#: Groups of rows, the class of each, and how many groups are watched of a part of 0.2; 0: they are too few.
GROUPED = {
    "numbers": (np.repeat(np.arange(20), 5), None, 4),
    "numbers of few": (np.repeat(np.arange(2), 5), None, 1),
    "one group": (np.zeros(50, int), None, 0),
    "a large one": (np.repeat(np.arange(10), [4, 4, 80, *[4] * 7]), None, 2),  # the first draw has it
    "classes inside": (np.repeat(np.arange(20), 6), np.tile([0, 1, 2], 40), 4),
    "classes of groups": (np.arange(50) % 10, np.arange(50) % 2, 2),  # the first draw is of one
    "a class of one group": (np.repeat(np.arange(21), 5), np.repeat([0, 1, 2], [50, 50, 5]), 4),
    "groups of one class each": (np.repeat(np.arange(4), 5), np.repeat(np.arange(4), 5), 0),
    "two groups of one class": (np.repeat(np.arange(3), 5), np.repeat([0, 1], [5, 10]), 1),
}


@pytest.mark.parametrize("case", GROUPED)
@pytest.mark.parametrize("weighted", [False, True])
def test_whole_groups_are_watched_unless_they_are_too_few(case, weighted):
    groups, y, n_watched = GROUPED[case]
    order = np.random.default_rng(0).permutation(len(groups))
    groups, model = groups[order], LinearRegression() if y is None else LogisticRegression()
    y = np.arange(len(groups)) if y is None else np.array(["a", "b", "c", "d"])[y[order]]
    weights = np.where(np.arange(len(y)) % 5, 1.0, 0.0) if weighted else None
    counted = np.arange(len(y)) if weights is None else np.flatnonzero(weights)
    fitted, watched = _split(model, y, weights, 0.2, groups)
    assert sorted([*fitted, *watched]) == list(range(len(y)))
    if n_watched:
        assert not set(groups[watched]) & set(groups[np.intersect1d(fitted, counted)])
        assert len(set(groups[watched])) == n_watched
        assert case != "a large one" or 2 not in groups[watched]
        if case.startswith("class"):
            assert set(y[watched]) == set(y)
        if isinstance(model, LogisticRegression):
            assert set(y[fitted]) == set(y)
    else:
        for part, alone in zip((fitted, watched), _split(model, y, weights, 0.2), strict=True):
            np.testing.assert_array_equal(part, alone)


@pytest.mark.parametrize("which", THREE)
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_groups_that_the_folds_keep_apart_are_watched_or_fitted(which, named):
    X, y = (a[:400] for a in DIABETES)
    groups = np.r_[np.arange(40), np.random.default_rng(0).permutation(np.arange(360) % 40)]
    booster = offset_booster(which, "Regressor")
    folds = list(GroupKFold(4).split(X, y, groups))
    given = [f"g{group:02}" for group in groups] if named else groups
    one = search_of(booster, SAME, n_iter=1, cv=GroupKFold(4)).fit(X, y, groups=given)
    scores = []
    for train, test in folds:
        draw = GroupShuffleSplit(1, test_size=0.1, random_state=0)
        fit, watch = (train[part] for part in next(draw.split(train, groups=[given[row] for row in train])))
        plain = clone(booster).fit(X[fit], y[fit], eval_set=[(X[watch], y[watch])])
        scores.append(plain.score(X[test], y[test]))
    np.testing.assert_array_equal([one.cv_results_[f"split{k}_test_score"][0] for k in range(4)], scores)


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
def test_groups_that_the_folds_mix_change_nothing():
    booster = xgboost(early_stopping_rounds=5)
    groups = np.arange(len(CANCER[1])) % 30
    one, two = (search_of(booster, RATE).fit(*CANCER, **more) for more in ({}, {"groups": groups}))
    same_tables(table_of(one), table_of(two))
    assert one.refit_n_iterations_ == two.refit_n_iterations_


def test_other_groups_in_the_same_folds_are_another_search(tmp_path):
    folds = [(ALL[:200], ALL[200:])]
    names = []
    for groups in (ALL // 20, [f"g{k // 20}" for k in ALL], ALL // 10):
        search = search_of(TREE, DEPTH, cv=folds, storage=f"{tmp_path}/s.db").fit(*CANCER, groups=groups)
        names.append(search.study_.study_name)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("name", ["boosting_type", "boosting"])
@pytest.mark.parametrize("options", [{}, {"eval_set": "test"}, {"resource": "iterations", "pruner": "auto"}], ids=repr)
@pytest.mark.parametrize("searched", [False, True])
def test_lightgbm_gives_up_no_rows_where_it_cannot_stop_early(name, options, searched):
    space = {**SAME, name: ["dart"]} if searched else SAME
    fixed = {} if searched else {name: "dart"}
    plain, stopping = (
        search_of(lightgbm(**fixed, **more).set_params(n_estimators=20), space, n_iter=1, **options).fit(*CANCER)
        for more in ({}, {"early_stopping_round": 3})
    )
    same_tables(table_of(plain), table_of(stopping))
    assert rounds_of(stopping.best_estimator_) == 20


@pytest.mark.parametrize("which", THREE)
@pytest.mark.parametrize("every", [6, 70])
def test_boosters_stop_early_where_few_rows_have_weight(which, every):
    weights = np.zeros(len(CANCER[1]))
    weights[::every] = 1.0
    booster = BOOSTERS[which]()[0].set_params(n_estimators=30)
    folds = [(ALL, ALL)]
    search = search_of(booster, SAME, n_iter=1, cv=folds, scoring="accuracy").fit(*CANCER, sample_weight=weights)
    assert np.isfinite(search.best_score_)
    assert rounds_of(search.best_estimator_) == search.refit_n_iterations_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.parametrize("error_score", [0.0, np.nan])
def test_the_last_fit_runs_the_rounds_of_the_folds_that_were_fitted(error_score):
    X, y = load_iris(return_X_y=True)
    folds = [(np.arange(50, 150), np.arange(50)), (np.r_[:40, 50:90, 100:140], np.r_[40:50, 90:100, 140:150])]
    options = {"cv": folds, "error_score": error_score, "n_iter": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a score of NaN
        search = search_of(xgboost(early_stopping_rounds=3), SAME, **options).fit(X, y)  # the first lacks class 0
    assert np.array_equal(search.cv_results_["split0_test_score"], [error_score], equal_nan=True)
    assert rounds_of(search.best_estimator_) == search.refit_n_iterations_ < 150


# XGBoost takes numbers alone
LABELLED = [(which, [0, 1, 2]) for which in THREE] + [(which, list("abc")) for which in THREE if which != "xgboost"]


@pytest.mark.parametrize(("which", "labels"), LABELLED)
def test_rows_of_classes_that_were_not_fitted_are_not_watched(which, labels):
    X, y = CANCER[0], CANCER[1].copy()
    y[:9] = 2
    y = np.array(labels)[y]
    rounds = []
    for test in (ALL[:90], ALL[9:90]):
        search = search_of(
            BOOSTERS[which]()[0], SAME, n_iter=1, cv=[(ALL[90:], test)], eval_set="test", scoring="accuracy"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rounds.append(search.fit(X, y).refit_n_iterations_)
    assert rounds[0] == rounds[1] < 150


@pytest.mark.parametrize("which", BOOSTERS)
def test_without_a_row_to_watch_all_rounds_are_run(which):
    X, y = CANCER[0], CANCER[1].copy()
    y[:9] = 2
    booster, fit_params = BOOSTERS[which]()
    rounds = 120 if which == "lightgbm rounds" else 150
    for resource in ("folds", "iterations"):
        options = {"eval_set": "test", "scoring": "accuracy", "resource": resource}
        search = search_of(booster, SAME, n_iter=1, cv=[(ALL[9:], ALL[:9])], **options).fit(X, y, **fit_params)
        assert search.refit_n_iterations_ == rounds_of(search.best_estimator_) == rounds
        pickle.dumps(search)


@pytest.mark.parametrize("which", THREE)
def test_rows_all_alone_in_their_classes_are_all_fitted(which):
    booster = BOOSTERS[which]()[0].set_params(
        n_estimators=7, **({"min_child_samples": 1} if which == "lightgbm" else {})
    )
    search = search_of(booster, SAME, n_iter=1, cv=[(ALL[:4], ALL[:4])], scoring=n_classes)
    search.fit(CANCER[0][:4], np.arange(4))
    assert search.best_score_ == 4
    assert search.refit_n_iterations_ == 7


def offset_booster(which, kind):
    module = pytest.importorskip(which)
    name = {"xgboost": "XGB", "lightgbm": "LGBM", "catboost": "CatBoost"}[which] + kind
    options = {"early_stopping_round": 5, "verbose": -1, "n_jobs": 1, "num_leaves": 5}
    if which == "xgboost":
        options = {"early_stopping_rounds": 5, "n_jobs": 1}
    if which == "catboost":
        options = {"early_stopping_rounds": 5, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    return getattr(module, name)(n_estimators=150, max_depth=3, learning_rate=0.1, **options)


OFFSETS = {"xgboost": "base_margin", "lightgbm": "init_score", "catboost": "baseline"}


def watching(which, X, y, watched, offset, weight):
    """Arguments of ``fit`` to watch some rows, as one writes them by hand."""
    if which == "xgboost":
        lists = {"base_margin_eval_set": [offset[watched]], "sample_weight_eval_set": [weight[watched]]}
        return {"eval_set": [(X[watched], y[watched])], "verbose": False, **lists}
    if which == "lightgbm":
        lists = {"eval_init_score": [offset[watched]], "eval_sample_weight": [weight[watched]]}
        return {"eval_set": [(X[watched], y[watched])], **lists}
    pool = pytest.importorskip("catboost").Pool
    return {"eval_set": pool(X[watched], y[watched], baseline=offset[watched], weight=weight[watched])}


@pytest.mark.parametrize("which", THREE)
@pytest.mark.parametrize("kind", ["Regressor", "Classifier"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated", "ignore:The scoring")
def test_offsets_reach_the_rows_that_are_watched(which, kind, weighted):
    X, y = DIABETES
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2.0, len(y)) if weighted else np.ones(len(y))
    if kind == "Regressor":
        offset = y + 50.0 * X[:, 2] / X[:, 2].std() - 100.0
    else:  # a column for each class
        y = np.digitize(y, [100, 200])
        offset = 3.0 * np.eye(3)[np.where(rng.random(len(y)) < 0.5, y, 0)]
    booster = offset_booster(which, kind)
    folds = list(KFold(3).split(X))
    search = search_of(booster, SAME, n_iter=1, cv=folds, scoring=lambda *_: 0.0)
    search.fit(X, y, **{OFFSETS[which]: offset}, **({"sample_weight": weight} if weighted else {}))
    rounds = []
    for train, _ in folds:
        fitted, watched = (train[part] for part in _split(booster, y[train], None, 0.1))
        model = clone(booster)
        model.fit(
            X[fitted], y[fitted], sample_weight=weight[fitted], **{OFFSETS[which]: offset[fitted]},
            **watching(which, X, y, watched, offset, weight),
        )  # fmt: skip
        best = model.best_iteration_ if hasattr(model, "best_iteration_") else model.best_iteration
        rounds.append(best + (which != "lightgbm"))
    assert search.refit_n_iterations_ == int(np.median(rounds)) < 150


@pytest.mark.parametrize("which", THREE)
def test_offsets_of_the_test_rows_are_not_guessed(which):
    X, y = DIABETES
    search = search_of(offset_booster(which, "Regressor"), SAME, n_iter=1, eval_set="test")
    with pytest.raises(ValueError, match=f'eval_set="test" knows no {OFFSETS[which]} of the test rows'):
        search.fit(X, y, **{OFFSETS[which]: y})
    assert search.fit(X, y, **{OFFSETS[which]: None}).refit_n_iterations_ < 150


LISTS = {
    "class_weights": [[1, 1], [1, 3]],
    "class_weights by class": [{0: 1, 1: 2}, {1: 3, 0: 1}],
    "cat_features": [[0], [0, 1]],
    "monotone_constraints": [[0] * 6, [0, 0, 1, 0, 0, 0]],
}


@pytest.mark.parametrize("which", LISTS)
@pytest.mark.parametrize("early", [{}, {"early_stopping_rounds": 5}])
def test_catboost_takes_lists_and_dicts_to_search_among(which, early):
    X, y = CANCER[0][:, :6].astype(object), CANCER[1]
    X[:, :2] = CANCER[0][:, :2].astype(int)
    space = {which.split()[0]: LISTS[which]}
    options = {"n_iter": 2, "sampler": "grid", "cv": 2, "scoring": "neg_log_loss"}
    tables = []
    for resource in ("folds", "iterations"):
        search = search_of(catboost(n_estimators=30, **early), space, resource=resource, pruner="auto", **options)
        tables.append(search.fit(X, y).cv_results_["mean_test_score"])
        inside = [2 in t.curves for t in search.study_.trials]
        # of unsorted labels and of early stopping there is nothing from inside
        reported = resource == "iterations" and not early
        assert inside == [reported, reported and which != "class_weights by class"]
    np.testing.assert_array_equal(*tables)


def test_catboost_with_a_baseline_is_fitted_with_reports_asked_for():
    X, y = DIABETES
    model = pytest.importorskip("catboost").CatBoostRegressor(n_estimators=20, verbose=0, allow_writing_files=False)
    tables = [
        search_of(model, {"depth": [2, 3]}, n_iter=2, resource=resource, pruner="auto")
        .fit(X, y, baseline=10.0 * X[:, 2])
        .cv_results_["mean_test_score"]
        for resource in ("folds", "iterations")
    ]
    np.testing.assert_array_equal(*tables)


# The simplest good candidate

DEPTH = {"max_depth": [1, 2, 3, 4, 6, 8, 10]}
TREE = DecisionTreeClassifier(random_state=0)


@pytest.mark.parametrize("complexity", ["max_depth", lambda params: params["max_depth"]])
def test_the_simplest_within_one_standard_error(complexity):
    search = search_of(TREE, DEPTH, n_iter=7, cv=5, refit="1se", complexity=complexity).fit(*CANCER)
    table = search.cv_results_
    best = int(np.argmax(table["mean_test_score"]))
    bar = table["mean_test_score"][best] - stats.sem([table[f"split{k}_test_score"][best] for k in range(5)])
    depths = np.array([p["max_depth"] for p in table["params"]])
    assert search.best_params_["max_depth"] == depths[table["mean_test_score"] >= bar].min()
    assert search.best_estimator_.max_depth == search.best_params_["max_depth"]
    assert search.best_score_ == table["mean_test_score"][search.best_index_]
    X, y = load_breast_cancer(return_X_y=True)
    assert search.report(X[1::2], y[1::2]).cv_score == search.best_score_


def test_less_and_more():
    most = search_of(TREE, DEPTH, n_iter=7, refit="1se", complexity="-max_depth").fit(*CANCER)
    assert most.best_params_["max_depth"] == 10
    assert clone(most).complexity == "-max_depth"
    with pytest.raises(ValueError, match="needs complexity"):
        search_of(TREE, DEPTH, refit="1se").fit(*CANCER)
    with pytest.raises(ValueError, match=r"complexity='C'.*max_depth"):
        search_of(TREE, DEPTH, refit="1se", complexity="C").fit(*CANCER)
    for depths in ([None, 1, 2], [2, None, 1]):
        for complexity, simplest in (("max_depth", 1), ("-max_depth", None)):
            options = {"n_iter": 3, "refit": "1se", "complexity": complexity, "scoring": lambda *_: 1.0}
            assert search_of(TREE, {"max_depth": depths}, **options).fit(*CANCER).best_params_["max_depth"] == simplest


@pytest.mark.parametrize(
    ("space", "complexity", "match"),
    [
        (DEPTH, "depth", "no such parameter"),
        ({"max_features": ["sqrt", 0.5, 2]}, "max_features", "no order"),
        ({"criterion": ["gini", "entropy"]}, "-criterion", "no number"),
        ({"max_depth": [None, 2]}, lambda params: params["max_depth"], "no order"),
        ([DEPTH, {"min_samples_leaf": (1, 9)}], "max_depth", "no such parameter"),
    ],
)
def test_a_complexity_that_cannot_be_sorted_by_is_refused_before_any_fit(space, complexity, match):
    def never(estimator, X, y):
        raise AssertionError("was fitted")

    with pytest.raises(ValueError, match=match):
        search_of(TREE, space, refit="1se", complexity=complexity, scoring=never).fit(*CANCER)


def test_the_table_outlives_a_refit_that_fails():
    search = search_of(TREE, DEPTH, refit=lambda table: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        search.fit(*CANCER)
    assert len(search.cv_results_["params"]) == 3


# Several dicts with numbers of their own, and grids

PAIRS = [({"kernel": ["linear"], "C": (1e-3, 1e2, "log-uniform")}, 5), ({"kernel": ["rbf"], "C": [1, 2, 3]}, 3)]


@pytest.mark.parametrize("sampler", ["random", "gp", "tpe"])
def test_pairs_of_a_space_and_a_number(sampler):
    search = BayesSearchCV(SVC(), search_spaces=PAIRS, sampler=sampler, cv=3, random_state=0, n_iter=99).fit(*CANCER)
    kernels = [p["kernel"] for p in search.cv_results_["params"]]
    assert sorted(kernels) == ["linear"] * 5 + ["rbf"] * 3
    assert {t.params[WHICH] for t in search.study_.trials} == {0, 1}
    one = BayesSearchCV(SVC(), [PAIRS[0]], sampler=sampler, cv=3, random_state=0).fit(*CANCER)
    assert len(one.cv_results_["params"]) == 5
    with pytest.raises(ValueError, match="positive integer, got 0"):
        BayesSearchCV(SVC(), [({"C": [1]}, 0)]).fit(*CANCER)


def test_a_finite_space_of_a_pair_is_not_repeated():
    pairs = [({"C": [1, 2]}, 5), ({"gamma": stats.loguniform(0.1, 1)}, 2), ({"C": [2, 3], "tol": [0.1]}, 1)]
    search = BayesSearchCV(SVC(), pairs, cv=2, random_state=0)
    with pytest.warns(UserWarning, match="total space of parameters 5 is smaller than n_iter=8"):
        search.fit(*CANCER)
    params = [tuple(sorted(p.items())) for p in search.cv_results_["params"]]
    assert sorted(len(p) for p in params) == [1, 1, 1, 1, 2]
    assert len(set(params)) == 5


@pytest.mark.parametrize("seed", range(4))
def test_a_dict_without_points_left_does_not_end_the_search(seed):
    depths = inloop.Int(1, 50)
    pairs = [({"max_depth": [1, 2]}, 2), ({"max_depth": [1, 2, 3]}, 3), ({"max_depth": depths}, 6)]
    search = search_of(TREE, pairs, random_state=seed).fit(*CANCER)
    chosen = [t.params[WHICH] for t in search.study_.trials if t.state.name == "COMPLETE"]
    assert chosen.count(2) == 6
    found = [p["max_depth"] for p in search.cv_results_["params"]]
    assert {1, 2, 3} <= set(found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"stopping": [3]}, "stopping must be a function"),
        ({"callbacks": ["x"]}, "callbacks must be a function"),
        ({"initial_params": ["C"]}, "list of dicts"),
    ],
)
def test_what_cannot_be_called_or_tried_is_named(options, match):
    with pytest.raises(TypeError, match=match):
        search_of(TREE, DEPTH, **options).fit(*CANCER)


def test_a_grid():
    search = BayesSearchCV(TREE, {**DEPTH, "criterion": ["gini", "entropy"]}, sampler="grid", n_iter=14, random_state=0)
    params = search.fit(*CANCER).cv_results_["params"]
    assert len({tuple(p.values()) for p in params}) == 14
    with pytest.raises(ValueError, match="countable"):
        BayesSearchCV(SVC(), {"C": stats.loguniform(1, 2)}, sampler="grid").fit(*CANCER)
    with pytest.raises(ValueError, match="without numbers of candidates"):
        BayesSearchCV(SVC(), [({"C": [1, 2]}, 2), ({"C": [3]}, 1)], sampler="grid").fit(*CANCER)


# Kept in a storage

GAMMA = {"C": stats.loguniform(1e-2, 1e2), "gamma": stats.loguniform(1e-4, 1)}


def kept(tmp_path, **options):
    options = {"n_iter": 6, "storage": f"{tmp_path}/search.db", "sampler": "gp", "return_train_score": True, **options}
    return search_of(make_pipeline(SVC()), {f"svc__{k}": v for k, v in GAMMA.items()}, **options)


def table_of(search):
    return {k: v for k, v in search.cv_results_.items() if "time" not in k}


def same_tables(one, two):
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(np.asarray(one[key]), np.asarray(two[key]), err_msg=key)


@pytest.mark.parametrize("pruner", [None, "median", "auto"])
@pytest.mark.parametrize("scoring", [None, ["accuracy", "roc_auc"]])
def test_a_search_goes_on_where_it_stopped(tmp_path, pruner, scoring):
    options = {"pruner": pruner, "scoring": scoring, "refit": "roc_auc" if scoring else True, "n_iter": 12}
    whole = kept(tmp_path, **options, storage=None).fit(*CANCER)
    part = kept(tmp_path, **{**options, "n_iter": 7}).fit(*CANCER)
    same_tables(
        {k: np.asarray(v)[:7] for k, v in table_of(whole).items() if "rank" not in k},
        {k: v for k, v in table_of(part).items() if "rank" not in k},
    )
    fits = []
    rest = kept(tmp_path, **options, callbacks=lambda search, trial: fits.append(trial.number)).fit(*CANCER)
    assert fits == [7, 8, 9, 10, 11]
    same_tables(table_of(whole), table_of(rest))
    again = kept(tmp_path, **options, callbacks=lambda search, trial: fits.append(trial.number)).fit(*CANCER)
    assert len(fits) == 5
    same_tables(table_of(again), table_of(rest))
    again.callbacks = None  # a function in a function does not travel
    pickle.loads(pickle.dumps(again)).predict(CANCER[0])


@pytest.mark.parametrize(
    "space", [GAMMA, {"C": [0.5, 5.0], "class_weight": [None, {0: 2.0}]}], ids=["ranges", "objects"]
)
def test_a_fitted_search_needs_its_database_no_more(tmp_path, space):
    options = {"n_iter": 3, "storage": f"{tmp_path}/s.db", "pruner": "auto"}
    search = search_of(SVC(), space, **options).fit(*CANCER)
    raw = pickle.dumps(search)
    more = clone(search).set_params(n_iter=4).fit(*CANCER)
    assert (len(more.study_.trials), more.study_.study_name) == (4, search.study_.study_name)
    assert [path.name for path in tmp_path.iterdir()] == ["s.db"]  # nobody has it open
    (tmp_path / "s.db").unlink()
    for copy in (search, pickle.loads(raw), pickle.loads(pickle.dumps(search)), deepcopy(search)):
        assert [t.params for t in copy.study_.trials] == copy.cv_results_["params"] == more.cv_results_["params"][:3]
        assert [t.value for t in copy.study_.trials] == list(copy.cv_results_["mean_test_score"])
        np.testing.assert_array_equal(copy.predict(CANCER[0]), search.predict(CANCER[0]))


@pytest.mark.parametrize("where", ["text", "path", "storage", "memory"])
def test_a_copy_of_a_search_goes_on_where_the_search_is_kept(tmp_path, where):
    path = tmp_path / "s.db"
    storage = {"text": str(path), "path": path, "storage": SqliteStorage(str(path)), "memory": MemoryStorage()}[where]
    search = kept(tmp_path, n_iter=2, storage=storage).fit(*CANCER)
    for n_iter, copied in [(3, clone), (4, deepcopy)]:
        again = copied(search).set_params(n_iter=n_iter).fit(*CANCER)
        assert again.cv_results_["params"][:2] == search.cv_results_["params"]
        assert inloop.load_study(search.study_.study_name, storage).user_attrs == search.study_.user_attrs
        assert len(inloop.load_study(search.study_.study_name, storage).trials) == n_iter


class Counted(MemoryStorage):
    """Counts the events that are read."""

    events = 0

    def read(self, study, since, limit=None):
        found = super().read(study, since, limit)
        self.events += len(found)
        return found


@pytest.mark.parametrize("pruner", ["median", "auto"])
def test_each_event_is_read_as_often_whatever_the_number_of_candidates_in_flight(pruner):
    storages = [Counted(), Counted()]
    for storage, batch_size in zip(storages, [1, 9], strict=True):
        options = {"n_iter": 30, "sampler": "random", "pruner": pruner, "batch_size": batch_size}
        search_of(TREE, {"max_depth": (1, 90)}, storage=storage, **options).fit(*CANCER)
    assert storages[1].events < 1.5 * storages[0].events


def stop_at_number_3(study, trial):
    if trial.number == 3:
        study.stop()


@pytest.mark.parametrize(
    "stopping", [stop_at_number_3, TargetValue(0.9), [stop_at_number_3, NoImprovement(2)]], ids=["own", "value", "two"]
)
def test_a_search_that_was_ended_stays_so(tmp_path, stopping, capsys):
    options = {"n_iter": 9, "storage": f"{tmp_path}/s.db", "stopping": stopping}
    one, two = (search_of(TREE, {"max_depth": (1, 90)}, verbose=k, **options).fit(*CANCER) for k in (0, 1))
    assert 1 <= len(one.cv_results_["params"]) < 9
    same_tables(table_of(one), table_of(two))
    assert len(two.study_.trials) == len(one.study_.trials)
    assert "for each of 0 candidates" in capsys.readouterr().out
    more = search_of(TREE, {"max_depth": (1, 90)}, **{**options, "stopping": None}).fit(*CANCER)
    assert len(more.cv_results_["params"]) == 9


def test_what_an_interrupt_broke_off_is_tried_again(tmp_path):
    def stop(search, trial):
        if trial.number == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match="interrupted"):
        kept(tmp_path, callbacks=stop, batch_size=2).fit(*CANCER)
    search = kept(tmp_path, batch_size=2).fit(*CANCER)
    params = search.cv_results_["params"]
    assert len(params) == 6
    assert len({tuple(p.values()) for p in params}) == 6
    assert not search.study_.history.running
    broken = [t.params for t in search.study_.trials if t.state.name == "LOST"]
    assert params[3 : 3 + len(broken)] == broken != []


def broken_off(signals, **options):
    """Run a search that is interrupted after candidate number ``signals``."""

    def stop(search, trial):
        if trial.number == signals:
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match="interrupted"):
        return search_of(TREE, callbacks=stop, batch_size=3, **options).fit(*CANCER)


def test_what_waits_in_the_queue_is_not_queued_again(tmp_path):
    options = {"space": {"max_depth": (1, 90)}, "n_iter": 9, "storage": f"{tmp_path}/s.db"}
    first = broken_off(2, **options)
    assert len(first.study_.trials) > 4
    for n_iter in (3, 4):  # none or one of those broken off
        search_of(TREE, **{**options, "n_iter": n_iter}).fit(*CANCER)
    search = search_of(TREE, **options).fit(*CANCER)
    depths = [p["max_depth"] for p in search.cv_results_["params"]]
    assert len(set(depths)) == len(depths) == 9


@pytest.mark.parametrize("breaks", [{}, {3: [2]}, {5: [4]}, {3: [2, 5]}], ids=["none", "early", "late", "twice"])
def test_known_points_are_tried_once_in_all_runs(tmp_path, breaks):
    space = {"max_depth": (1, 90), "min_samples_leaf": (1, 9)}
    known = [
        {"max_depth": 7, "min_samples_leaf": 2},
        {"max_depth": 50},
        {"max_depth": 7, "min_samples_leaf": 2},
        {"max_depth": 50},
        {"min_samples_leaf": 3, "max_depth": 8},
    ]
    options = {"space": space, "storage": f"{tmp_path}/s.db"}
    first = search_of(TREE, **options, n_iter=2).fit(*CANCER)
    found = first.cv_results_["params"]
    for n_iter, given in [(2, known), (3, known), (4, known[:2]), (5, known), (6, known), (9, [*found, *known])]:
        for number in breaks.get(n_iter, []):
            broken_off(number, **options, n_iter=9, initial_params=known)
        search = search_of(TREE, **options, n_iter=n_iter, initial_params=given).fit(*CANCER)
    params = search.cv_results_["params"]
    assert len(params) == 9
    assert params[:2] == found
    assert sorted(p["max_depth"] for p in params[2:6]) == [7, 8, 50, 50]
    assert all(params.count(known[k]) == 1 for k in (0, 4))
    assert [p["max_depth"] for p in params].count(50) == 2


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_all_of_a_finite_space_is_tried_after_an_interrupt(tmp_path, sampler):
    options = {"space": DEPTH, "n_iter": 7, "storage": f"{tmp_path}/s.db", "sampler": sampler}
    broken_off(5, **options)
    search = search_of(TREE, **options).fit(*CANCER)
    assert sorted(p["max_depth"] for p in search.cv_results_["params"]) == DEPTH["max_depth"]


def test_a_death_between_the_results_and_the_end_of_a_trial(tmp_path):
    first = kept(tmp_path, n_iter=3).fit(*CANCER).study_
    study = inloop.load_study(first.study_name, f"{tmp_path}/search.db")
    trial = study.ask()
    trial.set_user_attr("folds", study.trials[0].user_attrs["folds"])
    for _ in range(2):
        search = kept(tmp_path).fit(*CANCER)
        assert len(search.cv_results_["params"]) == 6
        assert search.cv_results_["params"][3] == trial.params
        assert search.study_.trials[3].state.name == "LOST"


def test_a_failed_candidate_is_not_tried_again(tmp_path):
    def score(estimator, X, y):
        return np.nan if estimator.max_depth == 3 else estimator.score(X, y)

    options = {"n_iter": 7, "scoring": score, "error_score": np.nan, "storage": f"{tmp_path}/s.db"}
    one, two = search_of(TREE, DEPTH, **options), search_of(TREE, DEPTH, **options)
    for search in (one, two):
        with pytest.warns(UserWarning, match="non-finite"):
            search.fit(*CANCER)
    same_tables(table_of(one), table_of(two))
    assert len(two.study_.trials) == 7
    assert list(two.cv_results_["status"]).count("failed") == 1


def by_class(estimator, X, y):
    right = estimator.predict(X) == y
    return {label: float(right[y == label].mean()) for label in (0, 1)}


@pytest.mark.parametrize("resource", ["folds", "iterations"])
@pytest.mark.parametrize("objective", ["1", None])
def test_metrics_whose_names_are_no_texts(tmp_path, objective, resource):
    model, space = RandomForestClassifier(10, random_state=0), {"max_depth": [1, 2, 3]}
    plain = GridSearchCV(model, space, cv=3, scoring=by_class, refit=False).fit(*CANCER).cv_results_
    options = {"scoring": by_class, "refit": False, "objective": objective, "storage": f"{tmp_path}/s.db"}
    options = {**options, "resource": resource, "pruner": ThresholdPruner(lower=-1.0), "sampler": "grid"}
    one, two = (search_of(model, space, n_iter=n, **options).fit(*CANCER) for n in (2, 3))
    for label in "01":
        np.testing.assert_array_equal(two.cv_results_[f"mean_test_{label}"], plain[f"mean_test_{label}"])
    assert [t.value for t in two.study_.trials] == list(plain[f"mean_test_{objective or 0}"])
    assert (2 in one.study_.trials[0].curves) == (resource == "iterations")


def flawed(estimator, X, y):
    scores = {"a": estimator.score(X, y), "b": 1.0}
    if X[0, 0] == CANCER[0][0, 0] and estimator.max_depth == 1:
        raise ValueError("no score")
    if X[0, 0] == CANCER[0][0, 0] and estimator.max_depth == 2:
        del scores["b"]
    return scores


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("error_score", [np.nan, -1.0])
@pytest.mark.filterwarnings("ignore:.*non-finite", "ignore:Scoring failed")
def test_a_scorer_that_fails_in_a_fold_costs_its_metrics_there(tmp_path, stored, error_score):
    options = {"scoring": flawed, "refit": "a", "error_score": error_score, "sampler": "grid", "cv": KFold(3)}
    options = {**options, "storage": f"{tmp_path}/s.db" if stored else None, "return_train_score": True}
    for _ in range(2):
        search = search_of(TREE, {"max_depth": [1, 2, 3]}, n_iter=3, **options).fit(*CANCER)
        assert search.multimetric_
        table = search.cv_results_
        np.testing.assert_array_equal(table["split0_test_b"], [error_score, error_score, 1.0])
        assert np.array_equal(table["split0_test_a"][0], error_score, equal_nan=True)
        assert (np.r_[table["split0_test_a"][1:], table["split1_test_a"]] > 0.5).all()
        assert (table["split1_test_b"] == 1.0).all()


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path):
    script = """
        import os, sys
        sys.path.insert(0, {tests!r})
        from test_sklearn_early import kept, CANCER
        kept({path!r}, callbacks=lambda search, trial: trial.number == 2 and os._exit(9)).fit(*CANCER)
    """.format(tests=str(__import__("pathlib").Path(__file__).parent), path=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=120)
    assert ended.returncode == 9
    search = kept(tmp_path).fit(*CANCER)
    assert len(search.cv_results_["params"]) == 6
    assert [t.number for t in search.study_.trials][:3] == [0, 1, 2]
    assert not search.study_.history.running


def test_other_data_or_folds_are_refused(tmp_path):
    X, y = CANCER
    kept(tmp_path, study_name="s", n_iter=2).fit(X, y)
    for options, data in [({}, (X + 1, y)), ({}, (X, 1 - y)), ({"cv": 4}, CANCER), ({"cv": ShuffleSplit(3)}, CANCER)]:
        with pytest.raises(ValueError, match="other data or other folds"):
            kept(tmp_path, study_name="s", **options).fit(*data)
    inloop.create_study("maximize", storage=f"{tmp_path}/search.db", study_name="t", space={"x": [1, 2]})
    with pytest.raises(ValueError, match="space"):
        kept(tmp_path, study_name="t").fit(X, y)


def frame(a, b, names="ab", library="pandas"):
    return pytest.importorskip(library).DataFrame(dict(zip(names, (a, b), strict=True)))


def categories(values, *args):
    return pytest.importorskip("pandas").Categorical(values, *args)


def stored_zero():
    rows, columns = np.indices(NUMBERS.shape).reshape(2, -1)
    return sparse.csr_matrix((NUMBERS.ravel(), (rows, columns)))


def enum(*names):
    polars = pytest.importorskip("polars")
    return polars.Series(TEXTS, dtype=polars.Enum(names))


NUMBERS = np.array([[1, 0], [2, 3], [1, 0], [0, 4]])
ONE, TEXTS = NUMBERS[:, 0], ["1", "2", "1", "2"]
#: Data in pairs that have the same cells, and that estimators do not take for the same.
FORMS = {
    "number": (lambda: NUMBERS, lambda: NUMBERS * 1.0),
    "single": (lambda: NUMBERS * 1.0, lambda: NUMBERS.astype(np.float32)),
    "sparse": (lambda: NUMBERS, lambda: sparse.csr_matrix(NUMBERS)),
    "stored zero": (lambda: sparse.csr_matrix(NUMBERS), stored_zero),
    "empty column": (lambda: NUMBERS, lambda: np.c_[NUMBERS, np.zeros(4, int)]),
    "frame": (lambda: NUMBERS, lambda: frame(*NUMBERS.T)),
    "names": (lambda: frame(ONE, TEXTS), lambda: frame(ONE, TEXTS, "ba")),
    "column of numbers": (lambda: frame(ONE, TEXTS), lambda: frame(ONE * 1.0, TEXTS)),
    "texts": (lambda: frame(ONE, TEXTS), lambda: frame(ONE, categories(TEXTS))),
    "category": (lambda: frame(ONE, TEXTS), lambda: frame(categories(ONE), TEXTS)),
    "order": (lambda: frame(ONE, categories(TEXTS)), lambda: frame(ONE, categories(TEXTS, ["2", "1"]))),
    "ordered": (lambda: frame(ONE, categories(TEXTS)), lambda: frame(ONE, categories(TEXTS, ["1", "2"], True))),
    "one more": (lambda: frame(ONE, categories(TEXTS)), lambda: frame(ONE, categories(TEXTS, ["1", "2", "3"]))),
    "polars names": (lambda: frame(ONE, TEXTS, "ab", "polars"), lambda: frame(ONE, TEXTS, "ba", "polars")),
    "polars enum": (lambda: frame(ONE, TEXTS, "ab", "polars"), lambda: frame(ONE, enum("1", "2"), "ab", "polars")),
    "polars order": (
        lambda: frame(ONE, enum("2", "1"), "ab", "polars"),
        lambda: frame(ONE, enum("1", "2"), "ab", "polars"),
    ),
    "column": (lambda: frame(ONE, TEXTS)["b"], lambda: frame(ONE, categories(TEXTS))["b"]),
}


@pytest.mark.parametrize("name", FORMS)
def test_data_of_another_form_are_other_data(name):
    folds = [(np.arange(2), np.arange(2, 4))]
    for data in (lambda k: (FORMS[name][k](), TEXTS), lambda k: (NUMBERS, FORMS[name][k]())):
        prints = [fingerprint(*data(k), folds) for k in (0, 0, 1, 1)]
        assert len(set(prints)) == 2
        assert prints[2] == prints[3]


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix], ids=lambda f: f.__name__)
def test_the_same_data_in_lists_or_compressed_otherwise_are_the_same(kind):
    folds = [(np.arange(2), np.arange(2, 4))]
    alike = kind(NUMBERS.tolist()), NUMBERS.tolist() if kind is np.asarray else sparse.csr_matrix(NUMBERS)
    assert len({fingerprint(X, y, folds) for X in alike for y in (TEXTS, np.array(TEXTS))}) == 1


def test_what_a_storage_knows_is_no_score_of_other_types(tmp_path):
    X = np.random.default_rng(0).integers(0, 30, (300, 1))
    y = X[:, 0] * 7 % 5 > 2
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
    options = {"n_iter": 1, "storage": f"{tmp_path}/s.db"}
    scores = [
        search_of(model, {"max_depth": [3]}, **{**options, **more}).fit(data, y).best_score_
        for data in (frame(X[:, 0], 0 * y), frame(categories(X[:, 0]), 0 * y))
        for more in ({}, {"storage": None})
    ]
    assert scores[0] == scores[1] != scores[2] == scores[3]


def test_a_name_is_made_of_the_search(tmp_path):
    one = kept(tmp_path, n_iter=2).fit(*CANCER).study_.study_name
    assert one.startswith("SVC-")
    assert kept(tmp_path, n_iter=2, cv=4).fit(*CANCER).study_.study_name != one
    assert set(inloop.get_all_study_names(f"{tmp_path}/search.db")) > {one}
    for options in ({"scoring": "roc_auc"}, {"return_train_score": False}):
        assert kept(tmp_path, n_iter=2, **options).fit(*CANCER).study_.study_name != one


def test_another_estimator_or_scoring_is_refused(tmp_path):
    options = {"n_iter": 2, "storage": f"{tmp_path}/s.db", "study_name": "s"}
    weights = np.ones(len(CANCER[0]))
    two = ["accuracy", "roc_auc"]
    search_of(SVC(), GAMMA, scoring=two, refit="accuracy", **options).fit(*CANCER)
    for n_iter, error_score in [(3, np.nan), (4, "raise")]:
        alike = {"scoring": tuple(two), "refit": "accuracy", "error_score": error_score, **options, "n_iter": n_iter}
        same = search_of(SVC(verbose=False), GAMMA, **alike)
        assert len(same.fit(*CANCER).study_.trials) == n_iter
    for estimator, changed, fitted in [
        (SVC(kernel="poly"), {}, {}),
        (SVC(), {"scoring": "neg_log_loss", "refit": True}, {}),
        (SVC(), {"refit": "roc_auc"}, {}),
        (SVC(), {"return_train_score": True}, {}),
        (SVC(), {"error_score": 0}, {}),
        (SVC(), {}, {"sample_weight": weights}),
    ]:
        again = search_of(estimator, GAMMA, **{"scoring": two, "refit": "accuracy", **options, **changed})
        with pytest.raises(ValueError, match="another estimator, scoring"):
            again.fit(*CANCER, **fitted)


def test_the_hash_of_a_setup_is_the_same_in_every_process():
    script = """
        import numpy as np
        from inloop.integrations._sklearn_resume import fingerprint, setup_hash
        from scipy import stats
        from sklearn.metrics import f1_score, make_scorer
        from sklearn.model_selection import RandomizedSearchCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, StandardScaler
        from sklearn.svm import SVC
        svc = SVC(random_state=np.random.RandomState(0))
        model = make_pipeline(StandardScaler(), FunctionTransformer(np.log1p), FunctionTransformer(lambda X: X), svc)
        texts = {"a", "b", "c"}
        scorers = make_scorer(f1_score), make_scorer(f1_score, labels=texts), lambda model, X, y: y[0] in texts
        inner = RandomizedSearchCV(svc, {"C": stats.norm(0, 1)})
        print(setup_hash(model, scorers, texts, np.arange(9), np.zeros((0, 2)), object(), inner))
    """
    runs = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            timeout=120,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in "12"
    ]
    assert runs[0].stdout == runs[1].stdout != b""


class Cost:
    def __init__(self, most):
        self.most = most

    def __call__(self, *given):
        return min(float(len(given[-1])), self.most)


def stopping_xgboost(k):
    return xgboost(callbacks=[pytest.importorskip("xgboost").callback.EarlyStopping(rounds=k)])


def itself(k):
    found = [k]
    found.append(found)
    return found


def wrapped(k):
    @functools.wraps(accuracy_score)
    def scaled(y, predicted):
        return k * accuracy_score(y, predicted)

    return scaled


class Shaped(Cost):
    shape = 2  # has no length


class Node:
    def __init__(self, load):
        self.load, self.near = load, []


def grid(k):
    """Return a node of a grid in which all know their neighbours; there are more paths than can be walked."""
    nodes = np.array([[Node(k) for _ in range(6)] for _ in range(6)])
    for (i, j), node in np.ndenumerate(nodes):
        node.near = [*nodes[max(i - 1, 0) : i + 2, j], *nodes[i, max(j - 1, 0) : j + 2]]
    return nodes[0, 0]


def nested(k):
    """Return what is in more lists than Python can call itself, and a number beside it."""
    found = []
    for _ in range(320):
        found = [found]
    return k, found


#: How things are made that differ by a number alone.
NUMBERED = {
    "selector": lambda k: make_column_transformer(("passthrough", make_column_selector(pattern=f"x{k}"))),
    "frozen": lambda k: pytest.importorskip("sklearn.frozen").FrozenEstimator(PCA(1).fit(CANCER[0][: 5 + k])),
    "scorer": Cost,
    "metric": lambda k: make_scorer(Cost(k)),
    "method": lambda k: Cost(k).__call__,
    "partial": lambda k: partial(Cost, k),
    "matrix": lambda k: make_scorer(Cost, m=np.arange(60 * 60).reshape(60, 60) == 1800 + k),
    "objects": lambda k: np.array([Cost(k), None], object),
    "callback": stopping_xgboost,
    "search": lambda k: RandomizedSearchCV(SVC(), {"C": stats.norm(k)}),
    "discrete": lambda k: stats.rv_discrete(values=([1, 2 + k], [0.5, 0.5])),
    "state": lambda k: SVC(random_state=np.random.RandomState(k)),
    "lambda": lambda k: FunctionTransformer([lambda X: X * 2, lambda X: X * 3][k]),
    "closure": lambda k: FunctionTransformer(lambda X: X * k),
    "default": lambda k: FunctionTransformer(lambda X, k=k: X * k),
    "output": lambda k: StandardScaler().set_output(transform=["default", "pandas"][k]),
    "long": lambda k: FunctionTransformer(kw_args={"columns": [*range(500), k, *range(500)]}),
    "itself": itself,
    "wraps": wrapped,
    "cached": lambda k: functools.lru_cache(wrapped(k)),
    "bound": lambda k: re.compile(f"x{k}").sub,
    "shape": Shaped,
    "mask": lambda k: make_column_transformer(("passthrough", np.array([0, 1]) == 1 if k else np.array([0, 1]))),
    "long double": lambda k: np.longdouble(k),
    "random state": lambda k: SimpleNamespace(_random_state=k),
    "grid": grid,
    "nested": nested,
}


#: Options of boosters that say how a fit goes on, not what becomes of it.
IDLE = {
    "xgboost": [{"n_jobs": 1}, {"n_jobs": 2}, {"verbosity": 0}],
    "xgboost threads": [{"nthread": 1}, {"nthread": 2}],
    "lightgbm": [{"n_jobs": 1}, {"num_threads": 1}, {"num_threads": 2, "verbosity": -1}, {"nthread": 1}],
    "catboost": [
        {"verbose": 0, "allow_writing_files": False},
        {"logging_level": "Silent", "allow_writing_files": False},
        {"silent": True, "thread_count": 1, "allow_writing_files": False},
        {"verbose": 0},
    ],
}


@pytest.mark.parametrize("which", IDLE)
def test_threads_and_what_is_printed_make_no_other_search(which, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = which.split()[0]
    model = getattr(
        pytest.importorskip(kind), {"xgboost": "XGB", "lightgbm": "LGBM"}.get(kind, "CatBoost") + "Regressor"
    )
    boosters = [model(n_estimators=5, **options) for options in IDLE[which]]
    assert len({setup_hash(booster) for booster in boosters}) == 1
    assert setup_hash(model(n_estimators=6, **IDLE[which][0])) != setup_hash(boosters[0])
    one, *others = [booster.fit(*DIABETES).predict(DIABETES[0]) for booster in boosters]
    for other in others:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NUMBERED)
def test_what_differs_by_content_alone_is_told_apart(name):
    make = NUMBERED[name]
    assert len({setup_hash(make(k)) for k in (0, 0, 1, 1)} | {setup_hash(deepcopy(make(1)))}) == 2


def test_a_choice_that_is_fitted_is_the_same_choice():
    scaler = StandardScaler()
    unstored = SearchSpace({"scaler": [scaler, "passthrough"]}).unstored
    before = setup_hash(unstored())
    scaler.fit(CANCER[0])
    assert setup_hash(unstored()) == before


@pytest.mark.parametrize("where", ["estimator", "choice"])
@pytest.mark.parametrize("named", [None, "s"])
def test_other_scores_are_never_returned(tmp_path, where, named):
    shifts = [FunctionTransformer(lambda X: X * 0.0), FunctionTransformer(lambda X: X)]
    options = {"n_iter": 2, "storage": f"{tmp_path}/s.db", "study_name": named, "scoring": make_scorer(Cost(0.5))}
    studies = []
    for shift in (shifts[0], clone(shifts[0]), shifts[1]):
        first, choices = (shift, {}) if where == "estimator" else ("passthrough", {"s": [shift]})
        model = Pipeline([("s", first), ("m", LogisticRegression(solver="liblinear"))])
        search = search_of(model, {"m__C": [0.1, 1.0], **choices}, **options)
        if named and shift is shifts[1]:
            with pytest.raises(ValueError, match="another estimator"):
                search.fit(*CANCER)
        else:
            studies.append(search.fit(*CANCER).study_)
    assert len({study.study_name for study in studies}) == (1 if named else 2)
    assert all(len(study.trials) == 2 for study in studies)
