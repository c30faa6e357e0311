"""Learning curves of real trainings on data that come with scikit-learn: LightGBM by rounds, a small net by epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from inloop import Float, Int, Space
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split

Params = Mapping[str, Any]
Curve = Callable[[Params], np.ndarray]
STEPS = 52  # as many as lcbench has epochs

LIGHTGBM = Space(
    {
        "learning_rate": Float(0.005, 1.0, log=True),
        "num_leaves": Int(2, 64, log=True),
        "min_child_samples": Int(2, 64, log=True),
        "subsample": Float(0.3, 1.0),
        "colsample_bytree": Float(0.1, 1.0),
        "reg_lambda": Float(1e-3, 1e2, log=True),
    }
)
NET = Space(
    {
        "lr": Float(1e-4, 1.0, log=True),
        "momentum": Float(0.1, 0.99),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "hidden": Int(8, 128, log=True),
        "dropout": Float(0.0, 0.7),
        "batch_size": Int(16, 256, log=True),
    }
)


@cache
def _breast_cancer() -> list[np.ndarray]:
    X, y = load_breast_cancer(return_X_y=True)
    return train_test_split(X, y, test_size=0.4, random_state=0, stratify=y)


@cache
def _diabetes() -> list[np.ndarray]:
    return train_test_split(*load_diabetes(return_X_y=True), test_size=0.4, random_state=0)


@cache
def _digits() -> list[np.ndarray]:
    X, y = load_digits(return_X_y=True)
    X = ((X - 8) / 8).astype(np.float32)
    return train_test_split(X[::2], y[::2], test_size=0.4, random_state=0, stratify=y[::2])


def lightgbm_classes(params: Params) -> np.ndarray:
    """Return minus the validation log loss, times 100, after each round of a booster on breast cancer."""
    from lightgbm import LGBMClassifier

    return -100 * _rounds(LGBMClassifier, params, _breast_cancer(), "binary_logloss")


def lightgbm_values(params: Params) -> np.ndarray:
    """Return minus the validation error (mean squared) after each round of a booster on diabetes."""
    from lightgbm import LGBMRegressor

    return -_rounds(LGBMRegressor, params, _diabetes(), "l2")


def _rounds(kind: Any, params: Params, data: list[np.ndarray], metric: str) -> np.ndarray:
    from lightgbm import record_evaluation

    X, X_valid, y, y_valid = data
    seen: dict[str, dict[str, list[float]]] = {}
    kind(n_estimators=STEPS, n_jobs=1, verbose=-1, subsample_freq=1, random_state=0, **params).fit(
        X, y, eval_X=(X_valid,), eval_y=(y_valid,), callbacks=[record_evaluation(seen)]
    )
    return np.array(seen["valid_0"][metric])


def net_epochs(params: Params) -> np.ndarray:
    """Return the validation accuracy in percent after each epoch of a net with one hidden layer, trained by SGD."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    X, X_valid, y, y_valid = (torch.from_numpy(a) for a in _digits())
    net = torch.nn.Sequential(
        torch.nn.Linear(64, params["hidden"]), torch.nn.ReLU(), torch.nn.Dropout(params["dropout"]),
        torch.nn.Linear(params["hidden"], 10),
    )  # fmt: skip
    descent = torch.optim.SGD(
        net.parameters(), lr=params["lr"], momentum=params["momentum"], weight_decay=params["weight_decay"]
    )
    accuracies = []
    for _ in range(STEPS):
        net.train()
        for rows in torch.randperm(len(X)).split(params["batch_size"]):
            descent.zero_grad()
            torch.nn.functional.cross_entropy(net(X[rows]), y[rows]).backward()
            descent.step()
        net.eval()
        with torch.no_grad():
            accuracies.append(100 * float((net(X_valid).argmax(1) == y_valid).float().mean()))
    return np.array(accuracies)


#: Name to a space and a function from parameters to the values ``(52,)`` of a run, larger is better.
CURVES: dict[str, tuple[Space, Curve]] = {
    "lightgbm/breast_cancer": (LIGHTGBM, lightgbm_classes),
    "lightgbm/diabetes": (LIGHTGBM, lightgbm_values),
    "net/digits": (NET, net_epochs),
}
