"""Tune boosted trees with CatBoost; bad trials are stopped from inside its fit.

Takes a few seconds.

    python examples/catboost_breast_cancer.py
"""

import catboost
import inloop
from inloop.integrations.catboost import CatBoostPruningCallback
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

X, X_valid, y, y_valid = train_test_split(*load_breast_cancer(return_X_y=True), random_state=0)


def objective(trial):
    model = catboost.CatBoostClassifier(
        iterations=81,
        depth=trial.suggest_int("depth", 1, 6),
        learning_rate=trial.suggest_float("learning_rate", 1e-3, 1.0, log=True),
        use_best_model=False,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
    )
    model.fit(X, y, eval_set=(X_valid, y_valid), callbacks=[CatBoostPruningCallback(trial)])
    return model.get_evals_result()["validation"]["Logloss"][-1]


study = inloop.create_study(seed=0)
study.optimize(objective, n_trials=12)
for t in study.trials:
    print(f"{t.number:2} {t.state.name:8} {t.reports:3} rounds  {t.value:.4f}  {t.params}")
print(study.best_value, study.best_params)
