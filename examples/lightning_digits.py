"""Tune a small network with Lightning; bad trials are stopped from inside the Trainer's loop.

Takes a few seconds.

    python examples/lightning_digits.py
"""

import logging
import warnings

import inloop
import pytorch_lightning as pl
import torch
from inloop.integrations.lightning import LightningPruningCallback
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*does not have many workers")
torch.set_num_threads(1)
X, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
X = X.float() / 16
train = DataLoader(TensorDataset(X[:1200], y[:1200]), batch_size=100, shuffle=True)
valid = DataLoader(TensorDataset(X[1200:], y[1200:]), batch_size=600)


class Net(pl.LightningModule):
    def __init__(self, width, lr):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
        self.lr = lr

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.lr)


def objective(trial):
    net = Net(trial.suggest_int("width", 4, 128, log=True), trial.suggest_float("lr", 1e-4, 1e-1, log=True))
    trainer = pl.Trainer(
        max_epochs=9,
        callbacks=[LightningPruningCallback(trial, "val_loss")],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, train, valid)
    return float(trainer.callback_metrics["val_loss"])


pl.seed_everything(0, verbose=False)
study = inloop.create_study(seed=0)
study.optimize(objective, n_trials=8)
for t in study.trials:
    print(f"{t.number:2} {t.state.name:8} {t.reports:2} epochs  {t.value:.4f}  {t.params}")
print(study.best_value, study.best_params)
