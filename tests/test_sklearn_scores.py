"""Scores on the way through a fit are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from inloop.integrations._sklearn_scores import quick
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.metrics import get_scorer, log_loss, make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

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
