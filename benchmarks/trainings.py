"""Real trainings to tune: the loss is a cross-validation on data that come with scikit-learn.

Folds and seeds are fixed, so that the same parameters give the same loss. Sizes are chosen for some 30 to 100 ms of
CPU a trial.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from inloop import Categorical, Float, Int, Space

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """A model, what is tuned of it, and what it is trained on.

    Attributes:
        space: Its parameters.
        model: The estimator with some of them.
        data: Function of scikit-learn that loads them.
        scoring: The score whose negative is the loss.
        rows: So many rows, drawn once.
        worst: Score of a model that diverges, and of those that are worse.
    """

    space: Space
    model: Callable[[Params], Any]
    data: str
    scoring: str
    rows: int = 600
    worst: float = -3.0

    def loss(self, params: Params) -> float:
        """Return the mean loss of three folds."""
        from sklearn.model_selection import cross_val_score

        X, y, folds = _split(self.data, self.rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few iterations and bad parameters are part of the task
            try:
                scores = cross_val_score(
                    self.model(params), X, y, scoring=self.scoring, cv=folds, error_score=self.worst
                )
            except ValueError as error:  # no error_score where the fits of all folds fail
                if "fits failed" not in str(error):
                    raise
                return -self.worst
        return -float(np.maximum(np.nan_to_num(scores, nan=self.worst), self.worst).mean())


@cache
def _split(data: str, rows: int) -> tuple[Any, Any, list[Any]]:
    from sklearn import datasets
    from sklearn.model_selection import KFold, StratifiedKFold

    X, y = getattr(datasets, data)(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(X))[:rows]
    X, y = X[chosen], y[chosen]
    kind = KFold if len(np.unique(y)) > 20 else StratifiedKFold
    return X, y, list(kind(3, shuffle=True, random_state=0).split(X, y))


def _svc(p: Params) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.svm import SVC

    own = {n: v for n, v in p.items() if n != "scaler"}
    return make_pipeline(StandardScaler() if p["scaler"] == "standard" else MinMaxScaler(), SVC(**own))


def _lightgbm(p: Params) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(**p, subsample_freq=1, n_jobs=1, random_state=0, deterministic=True, verbose=-1)


def _regression(p: Params) -> Any:
    from sklearn.linear_model import ElasticNet
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler
    from sklearn.svm import SVR
    from sklearn.tree import DecisionTreeRegressor

    kinds = {"elastic": ElasticNet, "svr": SVR, "neighbours": KNeighborsRegressor, "tree": DecisionTreeRegressor}
    own = {n: v for n, v in p.items() if n not in ("model", "products")}
    if p["model"] == "tree":
        own["random_state"] = 0
    products = [PolynomialFeatures(2, include_bias=False)] if p["products"] else []
    return make_pipeline(*products, StandardScaler(), kinds[p["model"]](**own))


def _mlp(p: Params) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    own = {n: v for n, v in p.items() if not n.startswith(("layer", "units"))}
    layers = [p[f"units_{i}"] for i in range(1, p["layers"] + 1)]
    return make_pipeline(StandardScaler(), MLPClassifier(layers, **own, max_iter=8, random_state=0))


TRAININGS = {
    "svc": Training(
        Space(
            {
                "scaler": Categorical(["standard", "minmax"]),
                "kernel": Categorical(["rbf", "poly", "sigmoid", "linear"]),
                "C": Float(1e-3, 1e3, log=True),
                "gamma": Float(1e-5, 10.0, log=True),
                "degree": Int(2, 5),
                "coef0": Float(0.0, 2.0),
                "shrinking": Categorical([True, False]),
            },
            when={
                "gamma": {"kernel": ["rbf", "poly", "sigmoid"]},
                "degree": {"kernel": ["poly"]},
                "coef0": {"kernel": ["poly", "sigmoid"]},
            },
        ),
        _svc,
        "load_digits",
        "accuracy",
        rows=450,
    ),
    "lightgbm": Training(
        Space(
            {
                "boosting_type": Categorical(["gbdt", "dart", "rf"]),
                "n_estimators": Int(5, 60, log=True),
                "learning_rate": Float(0.01, 1.0, log=True),
                "num_leaves": Int(2, 31, log=True),
                "min_child_samples": Int(2, 60, log=True),
                "reg_alpha": Float(1e-4, 10.0, log=True),
                "reg_lambda": Float(1e-4, 10.0, log=True),
                "subsample": Float(0.3, 0.95),
                "colsample_bytree": Float(0.1, 1.0),
                "drop_rate": Float(0.0, 0.5),
            },
            when={"learning_rate": {"boosting_type": ["gbdt", "dart"]}, "drop_rate": {"boosting_type": ["dart"]}},
        ),
        _lightgbm,
        "load_breast_cancer",
        "neg_log_loss",
    ),
    "regression": Training(
        Space(
            {
                "model": Categorical(["elastic", "svr", "neighbours", "tree"]),
                "products": Categorical([False, True]),
                "alpha": Float(1e-3, 100.0, log=True),
                "l1_ratio": Float(0.0, 1.0),
                "C": Float(1e-2, 1e4, log=True),
                "gamma": Float(1e-6, 1.0, log=True),
                "epsilon": Float(0.1, 100.0, log=True),
                "n_neighbors": Int(1, 100, log=True),
                "weights": Categorical(["uniform", "distance"]),
                "p": Float(1.0, 3.0),
                "max_depth": Int(1, 12),
                "min_samples_leaf": Int(1, 60, log=True),
            },
            when={
                "alpha": {"model": ["elastic"]},
                "l1_ratio": {"model": ["elastic"]},
                "C": {"model": ["svr"]},
                "gamma": {"model": ["svr"]},
                "epsilon": {"model": ["svr"]},
                "n_neighbors": {"model": ["neighbours"]},
                "weights": {"model": ["neighbours"]},
                "p": {"model": ["neighbours"]},
                "max_depth": {"model": ["tree"]},
                "min_samples_leaf": {"model": ["tree"]},
            },
        ),
        _regression,
        "load_diabetes",
        "r2",
    ),
    "mlp": Training(
        Space(
            {
                "layers": Int(1, 3),
                "units_1": Int(4, 64, log=True),
                "units_2": Int(4, 64, log=True),
                "units_3": Int(4, 64, log=True),
                "activation": Categorical(["relu", "tanh", "logistic"]),
                "solver": Categorical(["adam", "sgd"]),
                "learning_rate_init": Float(1e-4, 1.0, log=True),
                "momentum": Float(0.0, 0.99),
                "alpha": Float(1e-6, 10.0, log=True),
                "batch_size": Int(25, 100, log=True),
            },
            when={"units_2": {"layers": [2, 3]}, "units_3": {"layers": [3]}, "momentum": {"solver": ["sgd"]}},
        ),
        _mlp,
        "load_digits",
        "neg_log_loss",
        rows=150,
    ),
}
