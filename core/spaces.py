"""Spaces that are a good start for well-known estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from .distributions import Categorical, Distribution, Float, Int
from .space import Space

Params: TypeAlias = dict[str, Distribution]
When: TypeAlias = dict[str, dict[str, list[Any]]]


def default_space(estimator: Any) -> Space:
    """Return a space to search for a scikit-learn, XGBoost or LightGBM estimator.

    The parameters are those that matter most (Probst, Boulesteix and Bischl, "Tunability: importance of hyperparameters
    of machine learning algorithms", JMLR 20, 2019; van Rijn and Hutter, "Hyperparameter importance across datasets",
    KDD 2018), over ranges about as wide as in Probst et al., table 3, most of them searched by the logarithm. The
    number of trees of a forest is left alone: more is better (Probst and Boulesteix, "To tune or not to tune the number
    of trees in random forest", JMLR 18, 2018). Regularisation assumes features of about unit scale.

    Args:
        estimator: An estimator, or a ``Pipeline`` that ends with one (names then have the steps' names before
            them). Known by the name of its class or of a class that it derives from.

    Returns:
        The space; ``space | {name: ...}`` changes parameters or adds some, and keeps the conditions.

    Raises:
        ValueError: If the estimator is not known; the message lists those that are.

    Example:
        >>> from sklearn.svm import SVC
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> list(default_space(make_pipeline(StandardScaler(), SVC())))
        ['svc__C', 'svc__gamma']
    """
    prefix = ""
    while hasattr(estimator, "steps"):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    known = next((c.__name__ for c in type(estimator).__mro__ if c.__name__ in (*_KNOWN, *_UNLIKE)), None)
    params, when = ({}, {}) if known is None or known in _UNLIKE else _KNOWN[known](estimator)
    if not params or not params.keys() <= estimator.get_params().keys():  # an heir may lack parameters
        raise ValueError(
            f"There is no default space for {type(estimator).__name__}; give one. There are for {sorted(_KNOWN)}."
        )
    return Space(
        {prefix + n: d for n, d in params.items()},
        {prefix + child: {prefix + p: vs for p, vs in parents.items()} for child, parents in when.items()},
    )


def _lightgbm(estimator: Any) -> tuple[Params, When]:
    return {
        "n_estimators": Int(50, 500, log=True),
        "learning_rate": Float(0.005, 0.3, log=True),
        "num_leaves": Int(4, 256, log=True),
        "min_child_samples": Int(2, 128, log=True),
        "colsample_bytree": Float(0.3, 1.0),
        "reg_lambda": Float(1e-6, 100.0, log=True),
    }, {}


def _xgboost(estimator: Any) -> tuple[Params, When]:
    return {
        "n_estimators": Int(50, 500, log=True),
        "learning_rate": Float(0.005, 0.3, log=True),
        "max_depth": Int(2, 10),
        "min_child_weight": Float(0.1, 64.0, log=True),
        "subsample": Float(0.4, 1.0),
        "colsample_bytree": Float(0.3, 1.0),
        "reg_lambda": Float(1e-3, 100.0, log=True),
    }, {}


def _histogram_boosting(estimator: Any) -> tuple[Params, When]:
    return {
        "max_iter": Int(50, 500, log=True),
        "learning_rate": Float(0.005, 0.3, log=True),
        "max_leaf_nodes": Int(4, 128, log=True),
        "min_samples_leaf": Int(2, 128, log=True),
        "max_features": Float(0.3, 1.0),
        "l2_regularization": Float(1e-6, 100.0, log=True),
    }, {}


def _gradient_boosting(estimator: Any) -> tuple[Params, When]:
    return {
        "n_estimators": Int(50, 500, log=True),
        "learning_rate": Float(0.005, 0.3, log=True),
        "max_depth": Int(1, 8),
        "min_samples_leaf": Int(1, 64, log=True),
        "subsample": Float(0.4, 1.0),
        "max_features": Float(0.2, 1.0),
    }, {}


def _forest(estimator: Any) -> tuple[Params, When]:
    params: Params = {"max_features": Float(0.1, 1.0), "min_samples_leaf": Int(1, 32, log=True)}
    own = estimator.get_params()
    if own.get("max_samples") is None and not own.get("oob_score"):  # both need a bootstrap
        params["bootstrap"] = Categorical([True, False])
        params["max_samples"] = Float(0.3, 1.0)
        return params, {"max_samples": {"bootstrap": [True]}}
    if own.get("bootstrap"):
        params["max_samples"] = Float(0.3, 1.0)
    return params, {}


def _tree(estimator: Any) -> tuple[Params, When]:
    return {
        "max_depth": Int(1, 24, log=True),
        "min_samples_leaf": Int(1, 64, log=True),
        "min_samples_split": Int(2, 64, log=True),
    }, {}


def _logistic(estimator: Any) -> tuple[Params, When]:
    return {"C": Float(1e-4, 1e4, log=True)}, {}


def _kernel(estimator: Any) -> tuple[Params, When]:
    params: Params = {"C": Float(1e-2, 1e4, log=True)}
    if estimator.kernel in ("rbf", "poly", "sigmoid"):
        params["gamma"] = Float(1e-5, 10.0, log=True)
    if estimator.kernel == "poly":
        params["degree"] = Int(2, 5)
    if "epsilon" in estimator.get_params():
        params["epsilon"] = Float(1e-3, 1.0, log=True)
    return params, {}


def _ridge(estimator: Any) -> tuple[Params, When]:
    return {"alpha": Float(1e-4, 1e4, log=True)}, {}


def _lasso(estimator: Any) -> tuple[Params, When]:
    return {"alpha": Float(1e-5, 10.0, log=True)}, {}


def _elastic_net(estimator: Any) -> tuple[Params, When]:
    return {"alpha": Float(1e-5, 10.0, log=True), "l1_ratio": Float(0.05, 1.0)}, {}


def _neighbors(estimator: Any) -> tuple[Params, When]:
    return {
        "n_neighbors": Int(1, 50, log=True),
        "weights": Categorical(["uniform", "distance"]),
        "p": Categorical([1, 2]),
    }, {}


def _perceptron_layers(estimator: Any) -> tuple[Params, When]:
    return {
        "hidden_layer_sizes": Categorical([(16,), (64,), (256,), (64, 64), (128, 128), (64, 64, 64)]),
        "activation": Categorical(["relu", "tanh"]),
        "alpha": Float(1e-6, 1.0, log=True),
        "learning_rate_init": Float(1e-4, 3e-2, log=True),
    }, {}


def _gradient_descent(estimator: Any) -> tuple[Params, When]:
    return {
        "alpha": Float(1e-7, 0.1, log=True),
        "penalty": Categorical(["l2", "l1", "elasticnet"]),
        "l1_ratio": Float(0.05, 0.95),
    }, {"l1_ratio": {"penalty": ["elasticnet"]}}


def _for_each(*names: str) -> tuple[str, ...]:
    return tuple(name + kind for name in names for kind in ("Classifier", "Regressor"))


_FAMILIES: dict[Callable[[Any], tuple[Params, When]], tuple[str, ...]] = {
    _lightgbm: (*_for_each("LGBM"), "LGBMRanker"),
    _xgboost: (*_for_each("XGB"), "XGBRanker"),
    _histogram_boosting: _for_each("HistGradientBoosting"),
    _gradient_boosting: _for_each("GradientBoosting"),
    _forest: _for_each("RandomForest", "ExtraTrees"),
    _tree: _for_each("DecisionTree", "ExtraTree"),
    _logistic: ("LogisticRegression", "LinearSVC", "LinearSVR"),
    _kernel: ("SVC", "SVR"),
    _ridge: ("Ridge", "RidgeClassifier"),
    _lasso: ("Lasso",),
    _elastic_net: ("ElasticNet",),
    _neighbors: _for_each("KNeighbors"),
    _perceptron_layers: _for_each("MLP"),
    _gradient_descent: _for_each("SGD"),
}
#: Forests that derive from boosters.
_UNLIKE = _for_each("XGBRF")
_KNOWN = {name: family for family, names in _FAMILIES.items() for name in names}
