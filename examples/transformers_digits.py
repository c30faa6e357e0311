"""Tune a small network with Hugging Face's Trainer; bad trials are stopped from inside its loop.

Takes a few seconds.

    python examples/transformers_digits.py
"""

import tempfile

import inloop
import torch
from inloop.integrations.transformers import TransformersPruningCallback
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments

X, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
rows = [{"x": x, "labels": label} for x, label in zip(X.float() / 16, y, strict=True)]
torch.set_num_threads(1)


class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))

    def forward(self, x, labels):
        scores = self.net(x)
        return {"loss": torch.nn.functional.cross_entropy(scores, labels), "logits": scores}


def objective(trial):
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            learning_rate=trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            num_train_epochs=6,
            per_device_train_batch_size=100,
            per_device_eval_batch_size=600,
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        net = Net(trial.suggest_int("width", 4, 64, log=True))
        hook = TransformersPruningCallback(trial, "eval_loss")
        trainer = Trainer(net, args, train_dataset=rows[:1200], eval_dataset=rows[1200:], callbacks=[hook])
        trainer.train()
        return trainer.state.log_history[-2]["eval_loss"]


study = inloop.create_study(seed=0)
study.optimize(objective, n_trials=6)
for t in study.trials:
    print(f"{t.number:2} {t.state.name:8} {t.reports:3} evaluations  {t.value:.4f}  {t.params}")
print(study.best_value, study.best_params)
