"""Tune a training loop of your own: report a value, and the loop ends when the trial is pruned.

Takes a few seconds.

    python examples/plain_loop.py
"""

import inloop
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

X, X_valid, y, y_valid = train_test_split(*load_digits(return_X_y=True), random_state=0)


def objective(trial):
    net = MLPClassifier(
        hidden_layer_sizes=trial.suggest_int("width", 4, 64, log=True),
        learning_rate_init=trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        random_state=0,
    )
    for epoch in trial.steps(range(27)):
        net.partial_fit(X / 16, y, classes=range(10))
        loss = log_loss(y_valid, net.predict_proba(X_valid / 16))
        trial.report(loss, epoch)
    return loss


study = inloop.create_study(seed=0)
study.optimize(objective, n_trials=20)
for t in study.trials:
    print(f"{t.number:2} {t.state.name:8} {t.reports:2} epochs  {t.value:.4f}  {t.params}")
print(study.best_value, study.best_params)
