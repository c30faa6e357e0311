"""Tune LightGBM (or XGBoost) on the breast cancer data: with pruning inside the training loop, without, and at random.

Prints what each search found and what it cost: the same number of trials first, then the search with pruning
goes on until it has spent as many boosting rounds as the one without. Draws that search.

    python examples/quickstart.py [--xgboost] [--trials 50] [--seed 0] [--picture quickstart.png]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import inloop
import lightgbm
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xgboost
from inloop.integrations.lightgbm import LightGBMPruningCallback
from inloop.integrations.plot import plot_curves, plot_effort, plot_history
from inloop.integrations.xgboost import XGBoostPruningCallback
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

ROUNDS = 200  # at most; early stopping ends training after so many rounds without a better score:
PATIENCE = 20


@dataclass(frozen=True)
class Data:
    """A split of the breast cancer data: 2 classes, 30 features, 569 rows."""

    X: np.ndarray
    y: np.ndarray
    X_valid: np.ndarray
    y_valid: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load(seed: int) -> Data:
    """Split the data into half for training, a quarter for validation, a quarter for the test."""
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
    X, X_valid, y, y_valid = train_test_split(X, y, test_size=1 / 3, random_state=seed, stratify=y)
    return Data(X, y, X_valid, y_valid, X_test, y_test)


def fit_lightgbm(data: Data, trial: inloop.Trial) -> lightgbm.LGBMClassifier:
    """Train with the trial's parameters; the one line of inloop's is the first callback."""
    model = lightgbm.LGBMClassifier(
        n_estimators=ROUNDS,
        learning_rate=trial.suggest_float("learning_rate", 0.01, 0.5, log=True),
        num_leaves=trial.suggest_int("num_leaves", 3, 63, log=True),
        min_child_samples=trial.suggest_int("min_child_samples", 1, 50, log=True),
        colsample_bytree=trial.suggest_float("colsample_bytree", 0.1, 1.0),
        subsample=trial.suggest_float("subsample", 0.4, 1.0),
        subsample_freq=1,
        reg_lambda=trial.suggest_float("reg_lambda", 1e-3, 30.0, log=True),
        n_jobs=1,
        random_state=0,
        verbose=-1,
    )
    callbacks = [LightGBMPruningCallback(trial), lightgbm.early_stopping(PATIENCE, verbose=False)]
    return model.fit(data.X, data.y, eval_X=data.X_valid, eval_y=data.y_valid, callbacks=callbacks)


def fit_xgboost(data: Data, trial: inloop.Trial) -> xgboost.XGBClassifier:
    """Train with the trial's parameters; the one line of inloop's is the callback."""
    model = xgboost.XGBClassifier(
        n_estimators=ROUNDS,
        learning_rate=trial.suggest_float("learning_rate", 0.01, 0.5, log=True),
        max_depth=trial.suggest_int("max_depth", 2, 8),
        min_child_weight=trial.suggest_float("min_child_weight", 0.01, 10.0, log=True),
        colsample_bynode=trial.suggest_float("colsample_bynode", 0.1, 1.0),
        subsample=trial.suggest_float("subsample", 0.4, 1.0),
        reg_lambda=trial.suggest_float("reg_lambda", 1e-3, 30.0, log=True),
        n_jobs=1,
        random_state=0,
        early_stopping_rounds=PATIENCE,
        callbacks=[XGBoostPruningCallback(trial)],
    )
    return model.fit(data.X, data.y, eval_set=[(data.X_valid, data.y_valid)], verbose=False)


class Search:
    """A search for the least validation log loss, and what it cost."""

    def __init__(self, name: str, fit: Callable[[Data, inloop.Trial], Any], data: Data, **study: Any) -> None:
        self.name = name
        self.study = inloop.create_study(direction="minimize", **study)
        self._fit, self._data = fit, data
        self._models: dict[int, Any] = {}
        self._wall = self._cpu = 0.0

    @property
    def rounds(self) -> int:
        """Boosting rounds of all trials."""
        return sum(t.reports for t in self.study.trials)

    def run(self, n_trials: int | None = None, rounds: float = math.inf) -> Search:
        """Go on for ``n_trials``, or until ``rounds`` are spent."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.study.optimize(
            self._objective, n_trials, callbacks=[lambda study, _: study.stop() if self.rounds >= rounds else None]
        )
        self._wall += time.perf_counter() - wall
        self._cpu += time.process_time() - cpu
        return self

    def _objective(self, trial: inloop.Trial) -> float:
        model = self._models[trial.number] = self._fit(self._data, trial)
        return log_loss(self._data.y_valid, model.predict_proba(self._data.X_valid))

    def row(self) -> str:
        """Return what was found, and how the winner does on the test set."""
        trials, best = self.study.trials, self.study.best_trial
        proba, y = self._models[best.number].predict_proba(self._data.X_test), self._data.y_test
        loss, wrong = -np.log(proba[np.arange(len(y)), y]), proba.argmax(axis=1) != y
        pruned = sum(t.state is inloop.TrialState.PRUNED for t in trials)
        return (
            f"{self.name:26} {len(trials):6} {pruned:7} {self.rounds:7} {best.value:11.4f} "
            f"{mean(loss, '.3f'):>17}{mean(wrong, '.1%'):>15}{self._wall:8.1f} {self._cpu:6.1f}"
        )


def mean(values: np.ndarray, form: str) -> str:
    """Return the mean of ``values`` and its standard error."""
    return f"{values.mean():{form}} +- {values.std() / math.sqrt(len(values)):{form}}"


HEADER = "search                     trials  pruned  rounds  validation        test loss     test error  wall s  CPU s"


def draw(pruned: Search, others: list[Search], path: str, title: str) -> None:
    """Draw the search with pruning, and what all searches cost."""
    mpl.use("Agg")
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    plot_history(pruned.study, axes[0]).set(yscale="log", ylabel="validation log loss", title="Search, with pruning")
    plot_curves(pruned.study, axes[1]).set(yscale="log", xlabel="boosting round", ylabel="validation log loss")
    plot_effort({s.name: s.study for s in (pruned, *others)}, axes[2]).set(
        xlabel="boosting rounds, all trials together", ylabel="best validation log loss so far"
    )
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the searches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--xgboost", action="store_true", help="tune XGBoost instead of LightGBM")
    parser.add_argument("--trials", type=int, default=50, help="trials of each search (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the searches (default: 0)")
    parser.add_argument("--picture", default="quickstart.png", help="where to draw (default: quickstart.png)")
    args = parser.parse_args()
    fit, name = (fit_xgboost, "XGBoost") if args.xgboost else (fit_lightgbm, "LightGBM")
    data, seed, n = load(args.seed), args.seed, args.trials
    title = f"{name} on breast cancer, at most {ROUNDS} rounds a trial"
    print(f"{title}, early stopping after {PATIENCE}; log loss, lower is better", flush=True)

    pruned = Search("with pruning", fit, data, seed=seed).run(n)
    rows = [pruned.row()]
    full = Search("without pruning", fit, data, seed=seed, pruner="nop").run(n)
    random = Search("random, without pruning", fit, data, seed=seed, pruner="nop", sampler="random").run(n)
    rows += [full.row(), random.row()]
    pruned.run(rounds=full.rounds)  # the same search goes on
    rows.append(pruned.row().replace("with pruning           ", "with pruning, more trials", 1))
    note = f"+-: standard error over the {len(data.y_test)} rows of the test set"
    print("", HEADER, *rows, note, sep="\n")  # at the end, after what the searches may warn of

    draw(pruned, [full, random], args.picture, title)
    print(f"\nThe picture is in {args.picture}")


if __name__ == "__main__":
    main()
