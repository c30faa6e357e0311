"""Tune a pipeline of scikit-learn; bad trials are stopped from inside the fit of its last step.

Takes a second; needs scikit-learn 1.9.

    python examples/sklearn_callback_digits.py
"""

import inloop
from inloop.integrations.sklearn_callback import SklearnPruningCallback
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_digits(return_X_y=True)
X, X_valid, y, y_valid = train_test_split(X, y, random_state=0)


def objective(trial):
    C = trial.suggest_float("C", 1e-6, 1e2, log=True)
    scaler = StandardScaler(with_std=trial.suggest_categorical("with_std", [False, True]))
    model = make_pipeline(scaler, LogisticRegression(C=C, max_iter=500))
    model.set_callbacks(SklearnPruningCallback(trial, X_valid, y_valid, "neg_log_loss"))
    return get_scorer("neg_log_loss")(model.fit(X, y), X_valid, y_valid)


study = inloop.create_study("maximize", seed=0)
study.optimize(objective, n_trials=20)
for t in study.trials:
    value = t.curve[max(t.curve)] if t.value is None else t.value
    print(f"{t.number:2} {t.state.name:8} {t.reports:3} iterations  {value:.4f}  {t.params}")
print(study.best_value, study.best_params)
