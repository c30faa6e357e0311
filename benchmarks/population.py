"""Population-based training against fixed parameters, at equal numbers of epochs, on a small network for digits.

    python benchmarks/population.py                     # 10 seeds, 8 members x 40 epochs, some minutes
    python benchmarks/population.py --seeds 5 --factor 1.25

A network with one hidden layer and dropout is trained by SGD on half of scikit-learn's digits, shifted by a random
pixel in every batch; a quarter judges it (the loss that is minimised) and a quarter tests the best one. Learning rate,
dropout and weight decay are searched. ``fixed`` trains the members that the population starts from, without changing
their parameters; ``search`` is a study with the default sampler and `AutoPruner` that ends when the same number of
epochs is spent. A seed is a split, first weights and a search. What came out is in ``results/population.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import inloop
import runner
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, pad, relu

RESULTS = Path(__file__).parent / "results" / "population.json"
SPACE = {
    "rate": inloop.Float(1e-3, 3.0, log=True),
    "dropout": inloop.Float(0.0, 0.6),
    "decay": inloop.Float(1e-6, 1e-1, log=True),
}
State = dict[str, Any]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out, self.dropout = nn.Linear(64, 128), nn.Linear(128, 10), 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.out(dropout(relu(self.hidden(x)), self.dropout, self.training))


class Task:
    """The data of a seed, and the network's training on them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        X, y = load_digits(return_X_y=True)
        X, rest, y, y_rest = train_test_split(X / 16, y, test_size=0.5, random_state=seed, stratify=y)
        X_valid, X_test, y_valid, y_test = train_test_split(
            rest, y_rest, test_size=0.5, random_state=seed, stratify=y_rest
        )
        pairs = ((X, y), (X_valid, y_valid), (X_test, y_test))
        self.train, self.valid, self.test = [(torch.tensor(a).float(), torch.tensor(b)) for a, b in pairs]

    def go_on(self, params: dict[str, Any], epochs: range, state: State | None) -> tuple[State, float]:
        """Train some epochs from a state; return the new one and the loss on the validation data."""
        torch.manual_seed(self.seed)
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=params["rate"], momentum=0.9)
        if state is not None:
            net.load_state_dict(state["net"])
            optimizer.load_state_dict(state["optimizer"])
        net.dropout = params["dropout"]
        optimizer.param_groups[0].update(lr=params["rate"], weight_decay=params["decay"])
        X, y = self.train
        for epoch in epochs:
            draws = torch.Generator().manual_seed(1000 * self.seed + epoch)
            for rows in torch.randperm(len(X), generator=draws).split(64):
                i, j = torch.randint(3, (2,), generator=draws).tolist()
                shifted = pad(X[rows].view(-1, 8, 8), (1, 1, 1, 1))[:, i : i + 8, j : j + 8].reshape(-1, 64)
                optimizer.zero_grad()
                cross_entropy(net(shifted), y[rows]).backward()
                optimizer.step()
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
        return state, self.judge(state, self.valid)[0]

    def judge(self, state: State, data: tuple[Tensor, Tensor]) -> tuple[float, float]:
        """Return loss and share of errors."""
        net = Net().eval()
        net.load_state_dict(state["net"])
        with torch.no_grad():
            out = net(data[0])
        return cross_entropy(out, data[1]).item(), (out.argmax(1) != data[1]).float().mean().item()


def population(task: Task, args: argparse.Namespace, interval: int) -> dict[str, Any]:
    study = inloop.PopulationStudy(
        SPACE, args.members, interval, args.quantile, steps=args.epochs, factor=args.factor, seed=task.seed
    )
    study.optimize(lambda s, state: task.go_on(s.params, s.steps, state), torch.save, torch.load)
    found = result(task, torch.load(study.best_checkpoint))
    return {**found, "trials": len(study.trials), "schedule": study.schedule()}


def fixed(task: Task, args: argparse.Namespace) -> dict[str, Any]:
    return population(task, args, args.epochs)


def search(task: Task, args: argparse.Namespace) -> dict[str, Any]:
    pruner = inloop.pruners.AutoPruner(args.epochs // args.interval)
    study = inloop.create_study(space=SPACE, seed=task.seed, pruner=pruner)
    left, states = args.members * args.epochs, {}
    while left > 0:
        trial, state = study.ask(), None
        for start in range(0, min(args.epochs, left), args.interval):
            state, loss = task.go_on(trial.params, range(start, start + args.interval), state)
            left -= args.interval
            trial.report(loss, start // args.interval)
            if trial.should_prune():
                break
        done = start + args.interval == args.epochs
        study.tell(trial, loss if done else None, None if done else "pruned")
        states[trial.number] = state
    return {**result(task, states[study.best_trial.number]), "trials": len(study.trials)}


def result(task: Task, state: State) -> dict[str, Any]:
    test, errors = task.judge(state, task.test)
    return {"valid": task.judge(state, task.valid)[0], "test": test, "errors": errors}


RIVALS: dict[str, Callable[[Task, argparse.Namespace], dict[str, Any]]] = {
    "population": lambda task, args: population(task, args, args.interval),
    "fixed": fixed,
    "search": search,
}


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Print and return means, and in how many seeds the population is ahead."""
    of = {name: [r for r in rows if r["rival"] == name] for name in RIVALS}
    out: dict[str, Any] = {}
    for name, runs in of.items():
        out[name] = {k: round(statistics.mean(r[k] for r in runs), 4) for k in ("valid", "test", "errors", "trials")}
        if name != "population":
            pairs = list(zip(of["population"], runs, strict=True))
            out[name]["seeds where the population is better"] = sum(p["test"] < r["test"] for p, r in pairs)
        print(f"{name:11}", out[name])
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=10)
    p.add_argument("--first", type=int, default=0, help="the first seed")
    p.add_argument("--members", type=int, default=8)
    p.add_argument("--epochs", type=int, default=40)
    p.add_argument("--interval", type=int, default=4)
    p.add_argument("--quantile", type=float, default=0.25)
    p.add_argument("--factor", type=float, default=1.25)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(args.first, args.first + args.seeds):
        task = Task(seed)
        for name, rival in RIVALS.items():
            start = time.process_time()
            row = {"seed": seed, "rival": name, **rival(task, args)}
            rows.append({**row, "cpu_s": round(time.process_time() - start, 1)})
            print({k: v for k, v in rows[-1].items() if k != "schedule"}, flush=True)
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    data = {**runner.stamp(), "settings": settings, "summary": report(rows), "runs": rows}
    args.out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
