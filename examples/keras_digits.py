"""Tune a small network with Keras; bad trials are stopped from inside its fit.

Takes a few seconds.

    python examples/keras_digits.py
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import inloop
import keras
from inloop.integrations.keras import KerasPruningCallback
from sklearn.datasets import load_digits

X, y = load_digits(return_X_y=True)
X = X.astype("float32") / 16
keras.utils.set_random_seed(0)


def objective(trial):
    width, lr = trial.suggest_int("width", 4, 64, log=True), trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    model = keras.Sequential([keras.layers.Dense(width, activation="relu"), keras.layers.Dense(10)])
    model.compile(keras.optimizers.Adam(lr), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    log = model.fit(
        X[:1200],
        y[:1200],
        batch_size=100,
        epochs=9,
        validation_data=(X[1200:], y[1200:]),
        callbacks=[KerasPruningCallback(trial, "val_loss")],
        verbose=0,
    )
    return log.history["val_loss"][-1]


study = inloop.create_study(seed=0)
study.optimize(objective, n_trials=8)
for t in study.trials:
    print(f"{t.number:2} {t.state.name:8} {t.reports:3} epochs  {t.value:.4f}  {t.params}")
print(study.best_value, study.best_params)
