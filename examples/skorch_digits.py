"""Tune a small network with skorch; bad trials are stopped from inside its fit.

Takes a few seconds.

    python examples/skorch_digits.py
"""

import inloop
import torch
from inloop.integrations.skorch import SkorchPruningCallback
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier

X, y = load_digits(return_X_y=True)
X = X.astype("float32") / 16
torch.manual_seed(0)
torch.set_num_threads(1)


def objective(trial):
    width = trial.suggest_int("width", 4, 64, log=True)
    layers = torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10)
    net = NeuralNetClassifier(
        torch.nn.Sequential(*layers),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        max_epochs=9,
        callbacks=[SkorchPruningCallback(trial, "valid_loss")],
        verbose=0,
    )
    return net.fit(X, y).history[-1, "valid_loss"]


study = inloop.create_study(seed=0)
study.optimize(objective, n_trials=8)
for t in study.trials:
    print(f"{t.number:2} {t.state.name:8} {t.reports:3} epochs  {t.value:.4f}  {t.params}")
print(study.best_value, study.best_params)
