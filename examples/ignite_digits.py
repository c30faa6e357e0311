"""Tune a small network with PyTorch Ignite; bad trials are stopped from inside its engine.

Takes a few seconds.

    python examples/ignite_digits.py
"""

import inloop
import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss
from inloop.integrations.ignite import IgnitePruningHandler
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

X, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
X = X.float() / 16
torch.manual_seed(0)
torch.set_num_threads(1)
train = DataLoader(TensorDataset(X[:1200], y[:1200]), batch_size=100, shuffle=True)
valid = DataLoader(TensorDataset(X[1200:], y[1200:]), batch_size=600)
cross_entropy = torch.nn.functional.cross_entropy


def objective(trial):
    width = trial.suggest_int("width", 4, 64, log=True)
    net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    adam = torch.optim.Adam(net.parameters(), trial.suggest_float("lr", 1e-4, 1e-1, log=True))
    trainer = create_supervised_trainer(net, adam, cross_entropy)
    evaluator = create_supervised_evaluator(net, {"loss": Loss(cross_entropy)})
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(valid))
    IgnitePruningHandler(trial, "loss").attach(trainer, evaluator)
    trainer.run(train, max_epochs=9)
    return evaluator.state.metrics["loss"]


study = inloop.create_study(seed=0)
study.optimize(objective, n_trials=8)
for t in study.trials:
    print(f"{t.number:2} {t.state.name:8} {t.reports:3} epochs  {t.value:.4f}  {t.params}")
print(study.best_value, study.best_params)
