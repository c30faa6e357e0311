"""Laws of the hooks for CatBoost, Keras, Hugging Face's Trainer, skorch and Ignite, on real training."""

import concurrent.futures
import copy
import gc
import math
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass, field

import inloop
import numpy as np
import pytest
from inloop.pruners import MedianPruner, ThresholdPruner
from reporting import Stop, ask, curve
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_score

X, Y = load_breast_cancer(return_X_y=True)
X = ((X - X.mean(0)) / X.std(0))[:, :8].astype("float32")
X, X_VALID, Y, Y_VALID = X[:200], X[200:300], Y[:200], Y[200:300]
WORSE = [0.1 * i for i in range(1, 20)]


@dataclass
class Run:
    """A fit to be done.

    Attributes:
        hook: The hook.
        rounds: Epochs or iterations.
        values: Of a metric called as the way's ``custom`` says, one a round, instead of the loss.
        stopping: ``"before"`` or ``"after"``: early stopping listed so, with patience 2.
        resume: What an earlier fit has returned.
        during: Called in the middle of training.
        seen: Rounds that were trained, and their losses.
    """

    hook: object
    rounds: int = 4
    values: list | None = None
    stopping: str | None = None
    resume: object = None
    during: object = None
    seen: list = field(default_factory=list)

    def listed(self, early):
        return {"before": [early, self.hook], "after": [self.hook, early], None: [self.hook]}[self.stopping]


def alone(fit, *args, **kwargs):
    """Fit in a thread that ends: CatBoost leaves behind, as the context of all later errors, what callbacks raised."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(fit, *args, **kwargs).result()


class CatBoost:
    """``CatBoostClassifier``."""

    metric, custom, wrapped = "Logloss", "Mine", True

    def __init__(self):
        self.catboost = pytest.importorskip("catboost")
        from inloop.integrations.catboost import CatBoostPruningCallback

        self.hook = CatBoostPruningCallback

    def fit(self, run):
        class Mine:
            def is_max_optimal(self):
                return False

            def evaluate(self, approxes, target, weight):
                if len(target) == len(Y_VALID):
                    return values.pop(0), 1.0
                return 0.0, 1.0

            def get_final_error(self, error, weight):
                return error

        class Watch:
            def after_iteration(self, info):
                run.seen.append(info.metrics["validation"]["Mine" if run.values else "Logloss"][-1])
                if run.during and info.iteration == 2:
                    run.during()
                return True

        values = list(run.values or ())
        model = self.catboost.CatBoostClassifier(
            iterations=run.rounds,
            thread_count=1,
            verbose=False,
            allow_writing_files=False,
            eval_metric=Mine() if run.values else "Logloss",
            use_best_model=False,
            **({"early_stopping_rounds": 2} if run.stopping else {}),
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to import numba")
            watch = [Watch(), run.hook]
            return alone(model.fit, X, Y, eval_set=(X_VALID, Y_VALID), init_model=run.resume, callbacks=watch)

    def resumed(self, trial, model):
        return self.hook(trial, start=model.tree_count_)


class Keras:
    """A ``Sequential`` model with the torch backend."""

    metric, custom, wrapped = "val_loss", "val_mine", False

    def __init__(self):
        os.environ.setdefault("KERAS_BACKEND", "torch")
        pytest.importorskip("torch").set_num_threads(1)
        self.keras = pytest.importorskip("keras")
        from inloop.integrations.keras import KerasPruningCallback

        self.hook = KerasPruningCallback

    def fit(self, run):
        keras = self.keras

        class Values(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if run.values:
                    logs["val_mine"] = run.values[epoch]
                run.seen.append(logs["val_mine" if run.values else "val_loss"])
                if run.during and epoch == 1:
                    run.during()

        model = run.resume
        if model is None:
            model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
            model.compile("sgd", "binary_crossentropy")
            model.trained = 0
        early = keras.callbacks.EarlyStopping("val_mine" if run.values else "val_loss", patience=2, mode="min")
        model.fit(
            X,
            Y,
            initial_epoch=model.trained,
            epochs=model.trained + run.rounds,
            batch_size=100,
            validation_data=(X_VALID, Y_VALID),
            callbacks=[Values(), *run.listed(early)],
            verbose=0,
        )
        model.trained += len(run.seen)
        return model

    def resumed(self, trial, model):
        return self.hook(trial)


class Skorch:
    """``NeuralNetClassifier``."""

    metric, custom, wrapped = "valid_loss", "mine", False

    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.torch.set_num_threads(1)
        self.skorch = pytest.importorskip("skorch")
        from inloop.integrations.skorch import SkorchPruningCallback

        self.hook = SkorchPruningCallback

    def net(self, callbacks, epochs):
        linear = self.torch.nn.Sequential(self.torch.nn.Linear(8, 2), self.torch.nn.Softmax(dim=1))
        return self.skorch.NeuralNetClassifier(linear, max_epochs=epochs, lr=0.1, callbacks=callbacks, verbose=0)

    def fit(self, run):
        class Values(self.skorch.callbacks.Callback):
            def on_epoch_end(self, net, **kwargs):
                epoch = len(net.history)
                if run.values:
                    net.history.record("mine", run.values[epoch - 1])
                run.seen.append(net.history[-1]["mine" if run.values else "valid_loss"])
                if run.during and epoch == 2:
                    run.during()

        early = self.skorch.callbacks.EarlyStopping("mine" if run.values else "valid_loss", patience=2)
        callbacks = [("values", Values()), *((f"c{i}", c) for i, c in enumerate(run.listed(early)))]
        if run.resume is None:
            return self.net(callbacks, run.rounds).fit(X, Y.astype("int64"))
        run.resume.callbacks = callbacks
        run.resume._initialize_callbacks()
        return run.resume.partial_fit(X, Y.astype("int64"), epochs=run.rounds)

    def resumed(self, trial, net):
        return self.hook(trial)


class Ignite:
    """A trainer and an evaluator."""

    metric, custom, wrapped = "loss", "mine", False

    def __init__(self):
        self.ignite = pytest.importorskip("ignite.engine")
        from ignite.handlers import EarlyStopping
        from inloop.integrations.ignite import IgnitePruningHandler

        self.early, self.hook = EarlyStopping, IgnitePruningHandler

    def fit(self, run):
        from ignite.engine import Engine, Events

        name = "mine" if run.values else "loss"
        weights = np.zeros(8)

        def step(engine, rows):
            gradient = X[rows].T @ (1 / (1 + np.exp(-X[rows] @ weights)) - Y[rows]) / len(rows)
            np.subtract(weights, gradient, out=weights)

        def evaluate(engine, rows):
            p = 1 / (1 + np.exp(-X_VALID @ weights))
            loss = -np.mean(Y_VALID * np.log(p) + (1 - Y_VALID) * np.log(1 - p))
            engine.state.metrics[name] = run.values[trainer.state.epoch - 1] if run.values else float(loss)

        trainer, evaluator = Engine(step), Engine(evaluate)
        if run.resume is not None:
            trainer.load_state_dict(run.resume)
        early = self.early(2, lambda engine: -engine.state.metrics[name], trainer)
        if run.stopping == "before":
            evaluator.add_event_handler(Events.COMPLETED, early)
        run.hook.attach(trainer, evaluator)
        if run.stopping == "after":
            evaluator.add_event_handler(Events.COMPLETED, early)

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate():
            evaluator.run([0])
            run.seen.append(evaluator.state.metrics[name])
            if run.during and trainer.state.epoch == 2:
                run.during()

        batches = [np.arange(0, 100), np.arange(100, 200)]
        before = 0 if run.resume is None else run.resume["iteration"] // 2
        trainer.run(batches, max_epochs=before + run.rounds)
        return trainer.state_dict()

    def resumed(self, trial, state):
        return self.hook(trial)


class Transformers:
    """Hugging Face's ``Trainer`` on a small module of one's own."""

    metric, custom, wrapped = "eval_loss", "eval_mine", False

    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.torch.set_num_threads(1)
        self.transformers = pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
        from inloop.integrations.transformers import TransformersPruningCallback

        self.hook = TransformersPruningCallback

    def fit(self, run, beside=(), **given):
        torch, transformers = self.torch, self.transformers

        class Linear(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(8, 2)

            def forward(self, x, labels):
                scores = self.layer(x)
                return {"loss": torch.nn.functional.cross_entropy(scores, labels), "logits": scores}

        class Watch(transformers.TrainerCallback):
            def on_evaluate(self, args, state, control, metrics, **kwargs):
                if "eval_loss" not in metrics:
                    return
                if run.values:
                    metrics["eval_mine"] = run.values[len(run.seen)]
                run.seen.append(metrics["eval_mine" if run.values else "eval_loss"])
                if run.during and len(run.seen) == 2:
                    run.during()

        settings = {
            "num_train_epochs": run.rounds,
            "per_device_train_batch_size": 100,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "metric_for_best_model": "eval_mine" if run.values else "eval_loss",
            "greater_is_better": False,
            "load_best_model_at_end": run.stopping is not None,
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "learning_rate": 0.1,
            "logging_strategy": "no",
        }
        args = transformers.TrainingArguments(self.folder, **{**settings, **given})
        early = transformers.EarlyStoppingCallback(2)
        data = [[{"x": x, "labels": int(y)} for x, y in zip(*d, strict=True)] for d in ((X, Y), (X_VALID, Y_VALID))]
        self.trainer = trainer = transformers.Trainer(
            Linear(),
            args,
            train_dataset=data[0],
            eval_dataset=data[1],
            callbacks=[Watch(), *run.listed(early), *beside],
        )
        trainer.train(resume_from_checkpoint=run.resume)
        return trainer

    def resumed(self, trial, trainer):
        return self.hook(trial)


@pytest.fixture(params=[CatBoost, Keras, Skorch, Ignite, Transformers], ids=lambda c: c.__name__)
def way(request, tmp_path):
    way = request.param()
    way.folder = str(tmp_path / "out")
    return way


def steps(way, n, start=0):
    """Return the steps of so many rounds; Hugging Face counts optimizer steps, here two an epoch."""
    return [2 * (i + 1) if isinstance(way, Transformers) else i for i in range(start, n)]


def raises(way, error, match):
    """Expect an error; CatBoost puts those of callbacks into one of its own."""
    return pytest.raises(Exception if way.wrapped else error, match=match)


def test_never_stop(way):
    trial = ask()
    way.fit(run := Run(way.hook(trial)))
    assert curve(trial) == dict(zip(steps(way, 4), run.seen, strict=True))
    assert not trial.pruned


@pytest.mark.parametrize("at", [1, 3, 4])
def test_always_stop(way, at):
    trial = ask(Stop(at))
    way.fit(run := Run(way.hook(trial)))
    assert list(curve(trial)) == steps(way, at)
    assert len(run.seen) == at
    assert trial.study.tell(trial, 0.1).state.name == "PRUNED"


def test_a_normal_return_is_still_pruned(way):
    study = inloop.create_study(sampler="random", pruner=Stop(2), seed=0)

    def objective(trial):
        way.fit(run := Run(way.hook(trial)))
        return run.seen[-1]

    study.optimize(objective, n_trials=2)
    assert [t.state.name for t in study.trials] == ["PRUNED"] * 2


def test_a_pruned_trial_is_not_trained_again(way):
    trial = ask(Stop(1))
    way.fit(Run(hook := way.hook(trial)))
    for again in (hook, way.hook(trial), copy.deepcopy(hook)):
        with raises(way, inloop.TrialPruned, "trial 0 is pruned"):
            way.fit(run := Run(again))
        assert len(run.seen) <= way.wrapped, "CatBoost calls its callbacks when a round is over"


@pytest.mark.parametrize("stopping", ["before", "after"])
@pytest.mark.parametrize("at", [2, 99])
def test_beside_early_stopping_no_report_is_dropped(way, stopping, at):
    trial = ask(Stop(at))
    way.fit(run := Run(way.hook(trial, way.custom, mode="min"), 9, values=WORSE, stopping=stopping))
    assert len(run.seen) == min(at, 3), "patience 2"
    assert curve(trial) == pytest.approx(dict(zip(steps(way, 9), run.seen, strict=False)))


def test_nan_is_reported_and_prunes_only_by_the_rule(way):
    if isinstance(way, CatBoost):
        pytest.skip("CatBoost itself ends with an error where a metric is NaN")
    values = [0.5, math.nan, 0.4, 0.3]
    for pruner, reports in ((None, 4), (ThresholdPruner(upper=1.0), 2)):
        trial = ask(pruner)
        way.fit(Run(way.hook(trial, way.custom, mode="min"), values=list(values)))
        np.testing.assert_array_equal(list(curve(trial).values()), values[:reports])
        assert trial.pruned == (reports == 2)


def test_direction(way):
    with raises(way, ValueError, f"'{way.metric}' is to be minimized, but the direction of study .* is 'maximize'"):
        way.fit(Run(way.hook(ask(direction="maximize"), way.metric)))
    with raises(way, ValueError, f"is '{way.custom}' to be minimized or maximized"):
        way.fit(Run(way.hook(ask(), way.custom), values=list(WORSE)))
    with pytest.raises(ValueError, match="mode must be 'min', 'max' or None, got 'minimise'"):
        way.hook(ask(), way.metric, mode="minimise")


def test_a_missing_metric_lists_what_is_there(way):
    with raises(way, ValueError, f"named 'missing'. What is evaluated: .*{way.metric}"):
        way.fit(Run(way.hook(ask(), "missing", mode="min")))


def test_every_fit_starts_afresh(way):
    trial = ask()
    hook = way.hook(trial)
    for n in (3, 4):
        way.fit(Run(hook, n))
    way.fit(Run(way.hook(trial), 2))
    assert [list(curve(trial, s)) for s in range(3)] == [steps(way, n) for n in (3, 4, 2)]


@pytest.mark.parametrize(("every", "stream"), [(9, 0), (1, 1)], ids=["before the first report", "later"])
def test_after_a_fit_that_failed(way, every, stream):
    if isinstance(way, CatBoost) and every > 1:
        pytest.skip("at every iteration of CatBoost's there is a report that may be the last")

    def fail():
        raise KeyError("mine")

    trial = ask()
    hook = way.hook(trial, report_every=every)
    with raises(way, KeyError, "mine"):
        way.fit(Run(hook, during=fail))
    hook.report_every = 1
    way.fit(run := Run(hook))
    assert curve(trial, stream) == dict(zip(steps(way, 4), run.seen, strict=True))


def test_a_trial_that_has_ended_is_not_trained_again(way):
    trial = ask()
    hook = way.hook(trial)
    trial.study.tell(trial, 1.0)
    with raises(way, ValueError, "trial 0 is COMPLETE; it takes no more reports"):
        way.fit(run := Run(hook))
    assert len(run.seen) <= way.wrapped, "CatBoost calls its callbacks when a round is over"


def test_a_fold_is_compared_with_the_same_fold(way):
    study = inloop.create_study(sampler="random", pruner=MedianPruner(n_startup_trials=1), seed=0)

    def objective(trial):
        for fold in range(2):
            level = 1.0 if fold == 0 else 9.0 - trial.number
            way.fit(Run(way.hook(trial, way.custom, mode="min"), 2, values=[level] * 2))
        return 1.0

    study.optimize(objective, 2)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 2


def test_two_fits_at_once_are_refused(way):
    trial = ask()
    hook = way.hook(trial)

    def another():
        thread = threading.Thread(target=way.fit, args=(Run(hook),))
        thread.start()
        thread.join()

    with raises(way, RuntimeError, r"Pruning\w+\(trial=0.* is used by two fits at once"):
        way.fit(Run(hook, during=another))


@pytest.mark.parametrize("way_to_copy", [copy.copy, copy.deepcopy, lambda h: clone(h, safe=False), "pickle"])
def test_a_copy_is_a_hook_of_the_same_trial(way, way_to_copy):
    def copied(hook):
        return pickle.loads(pickle.dumps(hook)) if way_to_copy == "pickle" else way_to_copy(hook)

    trial = ask()
    hook = way.hook(trial, report_every=3)
    way.fit(Run(hook))
    again = copied(copied(hook))
    assert repr(again) == repr(hook)
    way.fit(Run(again))
    trial.study.tell(trial, 1.0)
    assert [list(curve(trial, s)) for s in range(2)] == [[steps(way, 4)[i] for i in (2, 3)]] * 2


@pytest.mark.parametrize("mode", ["min", "max"])
def test_with_a_fixed_trial_training_goes_to_its_end(way, mode):
    hook = way.hook(inloop.FixedTrial({}), way.custom, mode=mode)
    for again in (hook, copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))):
        way.fit(run := Run(again, values=list(WORSE)))
        assert len(run.seen) == 4


@pytest.mark.parametrize("storage", ["memory", "file"])
def test_a_hook_outlives_its_study(way, storage, tmp_path):
    trial = inloop.create_study(storage=str(tmp_path / "s.db") if storage == "file" else None, seed=0).ask()
    hook = way.hook(trial)
    saved, shown = pickle.dumps(hook), repr(hook)
    del trial, hook
    gc.collect()
    for file in tmp_path.glob("s.db*"):
        file.unlink()
    hook = pickle.loads(saved)
    for again in (hook, copy.copy(hook), copy.deepcopy(hook), clone(hook, safe=False)):
        assert repr(pickle.loads(pickle.dumps(again))) == shown
    with raises(way, (inloop.storage.StorageError, inloop.StudyNotFound), "No server at|No study named"):
        way.fit(Run(hook))


@pytest.mark.parametrize("stopping", [None, "before", "after"])
def test_report_every_thins_but_keeps_the_last(way, stopping):
    trial = ask()
    hook = way.hook(trial, way.custom, mode="min", report_every=2)
    way.fit(Run(hook, 5, values=list(WORSE), stopping=stopping))
    trial.study.tell(trial, 1.0)
    last = 5 if stopping is None else 3
    assert list(curve(trial)) == [step for i, step in enumerate(steps(way, last)) if i % 2 or i == last - 1]


def test_a_resumed_fit_goes_on_with_its_curve(way):
    trial = ask()
    model = way.fit(Run(way.hook(trial), 2))
    if isinstance(way, Transformers):
        way.fit(Run(way.hook(trial), 5, resume=True))
    else:
        way.fit(Run(way.resumed(trial, model), 3, resume=model))
    assert list(trial._record.curves) == [0]
    assert list(curve(trial)) == steps(way, 5)


def test_a_fit_is_no_end_of_what_a_loop_before_it_has_reported(way):
    trial = ask()
    for step in range(9):
        trial.report(0.5, step)
    for _ in range(2):
        way.fit(Run(way.hook(trial)))
    assert [list(curve(trial, s)) for s in range(3)] == [list(range(9)), *[steps(way, 4)] * 2]


@pytest.mark.parametrize("same", [False, True], ids=["a hook each", "same hook"])
def test_a_hook_goes_on_with_its_own_latest_fit(way, same):
    trial = ask()
    hook = way.hook(trial)
    way.fit(Run(hook, 2))
    hook = hook if same else way.hook(trial)
    model = way.fit(Run(hook, 2))
    if isinstance(way, CatBoost):
        hook.start = model.tree_count_
    way.fit(Run(hook, 5, resume=True) if isinstance(way, Transformers) else Run(hook, 3, resume=model))
    assert {s: c.steps for s, c in trial._record.curves.items()} == {0: steps(way, 2), 1: steps(way, 5)}


def test_a_fit_restored_from_before_its_last_report_goes_on_with_its_curve(way):
    trial = ask(Stop(5))
    older = model = way.fit(Run(way.hook(trial), 2))
    if isinstance(way, Transformers):
        older, rounds = f"{way.folder}/checkpoint-4", (4, 7)
        way.fit(Run(way.hook(trial), rounds[0], resume=older))
    else:
        older, rounds = older if isinstance(way, Keras) else copy.deepcopy(model), (2, 5)
        way.fit(Run(way.resumed(trial, model), rounds[0], resume=model))
    before = curve(trial)
    if isinstance(way, Keras):
        older.trained = 2
    hook = way.hook(trial) if isinstance(way, Transformers) else way.resumed(trial, older)
    way.fit(run := Run(hook, rounds[1], resume=older))
    assert len(run.seen) == 3, "two that are known, and the one at which the pruner stops"
    assert trial.pruned
    assert list(trial._record.curves) == [0]
    assert list(curve(trial)) == steps(way, 5)
    assert {step: curve(trial)[step] for step in before} == before


# Each framework's own cases


@pytest.mark.parametrize("fresh", [True, False], ids=["new hook", "same hook"])
@pytest.mark.parametrize(("period", "reported"), [(1, range(9)), (3, [0, 3, 4, 6, 8])])
def test_catboost_goes_on_from_a_snapshot(period, reported, fresh, tmp_path):
    catboost = CatBoost().catboost
    from inloop.integrations.catboost import CatBoostPruningCallback

    trial = ask()
    hook, losses = CatBoostPruningCallback(trial), {}
    for rounds in (5, 9):
        model = catboost.CatBoostClassifier(
            iterations=rounds,
            metric_period=period,
            thread_count=1,
            verbose=False,
            train_dir=tmp_path,
            save_snapshot=True,
            snapshot_interval=0,
        )
        model.fit(X, Y, eval_set=(X_VALID, Y_VALID), use_best_model=False, callbacks=[hook])
        losses.update(enumerate(model.eval_metrics(catboost.Pool(X_VALID, Y_VALID), "Logloss")["Logloss"]))
        hook = CatBoostPruningCallback(trial) if fresh else hook
    assert list(trial._record.curves) == [0]
    assert curve(trial) == pytest.approx({step: losses[step] for step in reported})


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("first", [True, False], ids=["evaluates before", "evaluates after"])
def test_ignite_evaluates_before_the_first_epoch(first, resumed):
    from ignite.engine import Engine, Events

    way, trial = Ignite(), ask()
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    if resumed:
        trainer.load_state_dict({"iteration": 4, "epoch_length": 2, "max_epochs": 2})

    def evaluate():
        evaluator.run([0])

    def score(engine):
        engine.state.metrics["loss"] = float(trainer.state.epoch)

    evaluator.add_event_handler(Events.COMPLETED, score)
    if first:
        trainer.add_event_handler(Events.STARTED, evaluate)
    way.hook(trial).attach(trainer, evaluator)
    if not first:
        trainer.add_event_handler(Events.STARTED, evaluate)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluate)
    trainer.run([0, 1], max_epochs=5)
    assert curve(trial) == {step: step + 1.0 for step in range(2 if resumed else 0, 5)}


@pytest.mark.parametrize("stops", [None, "terminates", "before"])
@pytest.mark.parametrize("event", ["STARTED", None])
def test_ignite_an_evaluator_that_never_runs_is_told_of(event, stops):
    from ignite.engine import Engine, Events

    way, trial = Ignite(), ask()
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    way.hook(trial).attach(trainer, evaluator)
    if event:
        trainer.add_event_handler(Events[event], lambda: evaluator.run([0]))
    if stops:
        at = Events.EPOCH_COMPLETED if stops == "terminates" else Events.STARTED
        trainer.add_event_handler(at, trainer.terminate)
        trainer.run([0], max_epochs=3)
    else:
        with pytest.raises(ValueError, match="the evaluator has not run in any epoch, so nothing was reported"):
            trainer.run([0], max_epochs=3)
    assert not trial._record.curves


def test_catboost_sets_metrics_and_periods():
    catboost = CatBoost().catboost
    from inloop.integrations.catboost import CatBoostPruningCallback

    def fit(hook, sets=1, **params):
        model = catboost.CatBoostClassifier(
            iterations=8, thread_count=1, verbose=False, allow_writing_files=False, **params
        )
        return alone(model.fit, X, Y, eval_set=[(X_VALID, Y_VALID)] * sets or None, callbacks=[hook])

    trial = ask(direction="maximize")
    fit(CatBoostPruningCallback(trial, "AUC", "validation_1"), 2, custom_metric=["AUC"])
    assert len(curve(trial)) == 8
    for params, match in [
        ({"custom_metric": ["AUC"]}, "several metrics, give metric=.*Logloss, AUC"),
        ({}, "only trai"),
    ]:
        with pytest.raises(catboost.CatBoostError, match=match):
            fit(CatBoostPruningCallback(ask()), 1 if params else 0, **params)
    trial = ask()
    fit(CatBoostPruningCallback(trial, data="learn"), 0)
    assert len(curve(trial)) == 8
    trial = ask()
    fit(CatBoostPruningCallback(trial), metric_period=3)
    assert list(curve(trial)) == [0, 3, 6, 7]
    trial = ask(Stop(5))
    model = fit(CatBoostPruningCallback(trial), use_best_model=True, learning_rate=0.3)
    assert model.tree_count_ == model.best_iteration_ + 1 <= 5


@pytest.mark.parametrize(
    ("asked", "metric", "loss", "up"),
    [
        ("AUC:type=Mu", "AUC:type=Mu", "MultiClass", True),
        ("AUC:type=OneVsAll", "AUC:class=1", "MultiClassOneVsAll", True),
        ("F1", "F1:class=1", "MultiClass", True),
        ("TotalF1:average=Macro", "TotalF1:average=Macro", "MultiClass", True),
        ("MultiClass", "MultiClass", "MultiClass", False),
        ("Quantile:alpha=0.3", "Quantile:alpha=0.3", "RMSE", False),
    ],
)
def test_catboost_directions_of_metrics_with_parameters(asked, metric, loss, up):
    catboost = CatBoost().catboost
    from inloop.integrations.catboost import CatBoostPruningCallback

    trial = ask(direction="maximize" if up else "minimize")
    params = {"loss_function": loss, "custom_metric": [asked], "iterations": 3, "thread_count": 1}
    model = catboost.CatBoost({**params, "allow_writing_files": False, "verbose": False})
    classes = np.arange(len(Y)) % 3
    callbacks = [CatBoostPruningCallback(trial, metric)]
    alone(model.fit, X, classes, eval_set=(X_VALID, classes[: len(Y_VALID)]), callbacks=callbacks)
    assert list(curve(trial)) == [0, 1, 2]


def in_search(name, hook, rounds):
    """Return an estimator with the hook and what to give cross_val_score."""
    way = {"catboost": CatBoost, "skorch": Skorch}[name]()
    if name == "skorch":
        return way.net([hook(way)], rounds), {}
    model = way.catboost.CatBoostClassifier(iterations=rounds, thread_count=1, verbose=False, allow_writing_files=False)
    return model, {"params": {"eval_set": (X_VALID, Y_VALID), "callbacks": [hook(way)]}}


@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)], ids=["serial", "loky"])
@pytest.mark.parametrize("storage", ["memory", "file"])
@pytest.mark.parametrize("name", ["catboost", "skorch"])
def test_cross_val_score(name, storage, n_jobs, tmp_path):
    url = str(tmp_path / "study.db") if storage == "file" else None
    trial = inloop.create_study(sampler="random", storage=url, seed=0).ask()
    model, given = in_search(name, lambda way: way.hook(trial, report_every=3), 5)
    scores = cross_val_score(model, X, Y.astype("int64"), cv=3, n_jobs=n_jobs, error_score="raise", **given)
    assert np.isfinite(scores).all()
    trial.study.tell(trial, scores.mean())
    assert [sorted(curve(trial, s)) for s in range(3)] == [[2, 4]] * 3, "the last round is there, from any process"


def test_transformers_several_sets_and_evaluations_outside(tmp_path):
    way, trial = Transformers(), ask()
    way.folder = str(tmp_path)
    trainer = way.fit(Run(way.hook(trial, "loss"), 2))
    trainer.evaluate()
    assert list(curve(trial)) == [2, 4]


def test_transformers_stopped_before_the_first_evaluation(tmp_path):
    """By another callback, for a loss that is NaN for instance; that is no error."""
    way, trial = Transformers(), ask()

    class Enough(way.transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = True

        def on_evaluate(self, args, state, control, **kwargs):
            raise AssertionError

    way.folder = str(tmp_path)
    args = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "no"}
    trainer = way.fit(Run(way.hook(trial)), beside=[Enough()], **args)
    assert (trainer.state.global_step, trial._record.curves) == (1, {})
    with (
        pytest.raises(ValueError, match="no metric is named 'eval_loss'"),
        pytest.warns(UserWarning, match="eval_strategy is 'no', so nothing is evaluated"),
    ):
        way.fit(Run(way.hook(trial)), eval_strategy="no")


def test_transformers_evaluates_at_the_start(tmp_path):
    way, trial = Transformers(), ask()
    way.folder = str(tmp_path)
    for _ in range(2):
        way.fit(Run(way.hook(trial), 3), eval_on_start=True)
    assert {s: c.steps for s, c in trial._record.curves.items()} == {s: [0, 2, 4, 6] for s in range(2)}


def test_transformers_evaluation_of_another_set_says_nothing_of_the_metric(tmp_path):
    way, trial = Transformers(), ask()

    class Test(way.transformers.TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            way.trainer.evaluate(metric_key_prefix="test")

    way.folder = str(tmp_path)
    way.fit(Run(way.hook(trial)), beside=[Test()], eval_strategy="steps", eval_steps=6, save_strategy="no")
    assert list(curve(trial)) == [6, 8]


@pytest.mark.parametrize("again", [True, False])
def test_transformers_after_a_step_that_failed(again, tmp_path):
    """With smaller batches for want of memory the same fit begins once more; an evaluation afterwards is none of it."""
    way, trial, failed = Transformers(), ask(), []
    way.folder = str(tmp_path)

    class Failing(way.transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if state.global_step == 5 and not failed:
                failed.append(list(curve(trial)))
                raise RuntimeError("CUDA out of memory.")

    if again:
        way.fit(run := Run(way.hook(trial)), beside=[Failing()], auto_find_batch_size=True)
        assert list(trial._record.curves) == [0]
        assert list(curve(trial).values())[2:] == run.seen[-len(curve(trial)) + 2 :]
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            way.fit(Run(way.hook(trial)), beside=[Failing()])
        way.trainer.evaluate()
        assert list(curve(trial)) == [2, 4]
    assert failed == [[2, 4]]


@pytest.mark.parametrize("fresh", [True, False], ids=["new hook", "same hook"])
@pytest.mark.parametrize("every", [1, 2])
def test_transformers_resumed_between_two_evaluations(fresh, every, tmp_path):
    way, trial = Transformers(), ask()
    way.folder = str(tmp_path)
    given = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 1}
    hook, seen = way.hook(trial, report_every=every), []

    class Enough(way.transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step in ends

    ends = [7, 9, 13 if fresh else 11]  # a hook that had nothing to report still knows its curve; another one does not
    for resume in (None, True, True, True):
        run = Run(hook, resume=resume)
        way.fit(run, beside=[Enough()], max_steps=16, **given)
        seen += run.seen
        hook = way.hook(trial, report_every=every) if fresh else hook
    values = dict(zip([4, 8, 12, 16], seen, strict=True))
    if every == 2 and not fresh:
        del values[12]  # the first of two evaluations of the last run
    assert list(trial._record.curves) == [0]
    assert curve(trial) == values


def train_as_rank(rank, port, folder, hooks, out):
    """Train with a ``Trainer`` beside another process, once with each hook."""
    os.environ.update(RANK=f"{rank}", LOCAL_RANK=f"{rank}", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}")
    way, said = Transformers(), []
    way.folder = folder
    for hook in hooks:
        try:
            trainer = way.fit(Run(hook, 3))
            weights = [round(float(w.detach().sum()), 6) for w in trainer.model.parameters()]
            said.append((trainer.args.world_size, trainer.state.global_step, *weights))
        except Exception as error:
            said.append(f"{type(error).__name__} {error}")
    out.put((rank, said))


@pytest.mark.slow
def test_transformers_in_two_processes(tmp_path):
    """Rank 0 reports and decides; both ranks end in the same way at the same step."""
    way, trials = Transformers(), [ask(Stop(2)), ask(), ask()]
    pruned, kept, missing = (way.hook(t, m, mode="min") for t, m in zip(trials, ("loss", "loss", "f1"), strict=True))
    spawn = multiprocessing.get_context("spawn")
    out = spawn.Queue()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    args = [(rank, port, str(tmp_path), [pruned, pruned, kept, missing], out) for rank in range(2)]
    workers = [spawn.Process(target=train_as_rank, args=a) for a in args]
    for w in workers:
        w.start()
    said = dict(out.get(timeout=240) for _ in workers)
    for w in workers:
        w.join(30)
    assert said[0][0][:2] == (2, 2)
    assert said[0][2][:2] == (2, 3)
    for rank in range(2):
        assert said[rank][0] == said[0][0]
        assert said[rank][2] == said[0][2]
        assert said[rank][1].startswith("TrialPruned")
        assert "no metric is named 'f1'" in said[rank][3]
    assert [{s: c.steps for s, c in t.study.trials[0].curves.items()} for t in trials] == [
        {0: [1, 2]},
        {0: [1, 2, 3]},
        {},
    ]


TORCHRUN = """
import os, sys
import inloop, torch, transformers
from inloop.integrations.transformers import TransformersPruningCallback
from inloop.pruners import ThresholdPruner

folder, storage, shares = sys.argv[1], sys.argv[2], sys.argv[3] == "shares"
rank = int(os.environ["RANK"])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")


class Linear(torch.nn.Module):
    def __init__(self, units):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, units), torch.nn.Linear(units, 2))

    def forward(self, x, labels):
        scores = self.layers(x)
        return {"loss": torch.nn.functional.cross_entropy(scores, labels), "logits": scores}


def train(trial, units):
    data = [{"x": torch.arange(4.0) + i % 2, "labels": i % 2} for i in range(8)]
    args = transformers.TrainingArguments(
        folder, num_train_epochs=3, per_device_train_batch_size=4, eval_strategy="epoch", save_strategy="no",
        report_to=[], disable_tqdm=True, use_cpu=True, logging_strategy="no",
    )
    hook = TransformersPruningCallback(trial, "loss")
    trainer = transformers.Trainer(Linear(units), args, train_dataset=data, eval_dataset=data, callbacks=[hook])
    trainer.train()
    return f"{trainer.args.world_size} {units} {trainer.state.global_step}"


study = None
if rank == 0 or not shares:
    study = inloop.create_study(sampler="random", seed=rank, storage=storage or None, study_name="s",
                                load_if_exists=True, pruner=ThresholdPruner(upper=0.0, n_warmup_steps=2))
said = []
for _ in range(2):
    box = [study.ask({"units": inloop.Int(1, 10**6)}) if study else None]
    if shares:
        torch.distributed.broadcast_object_list(box)
    trial = box[0]
    try:
        said.append(train(trial, 1 + trial.params["units"] % 1000))
    except RuntimeError as error:
        said.append(str(error))
    if rank == 0:
        said.append(study.tell(trial, 1.0).state.name)
    if not shares:
        break
with open(f"{folder}/{rank}.txt", "w") as file:
    file.write("\\n".join(said))
torch.distributed.barrier()
torch.distributed.destroy_process_group()  # its threads may not outlive the process
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("storage", "way"), [("", "shares"), ("study.db", "shares"), ("", "asks"), ("study.db", "asks")]
)
def test_transformers_under_torchrun(storage, way, tmp_path):
    """Every rank runs the script: with rank 0's trial all stop at one step; with a trial each they all refuse."""
    pytest.importorskip("torch"), pytest.importorskip("transformers"), pytest.importorskip("accelerate")
    script = tmp_path / "train.py"
    script.write_text(TORCHRUN)
    url = str(tmp_path / storage) if storage else ""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*command, str(script), str(tmp_path), url, way], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    lead, other = ((tmp_path / f"{rank}.txt").read_text().splitlines() for rank in range(2))
    if way == "shares":
        assert lead[1::2] == ["PRUNED", "PRUNED"]
        assert lead[::2] == other
        assert [line.split()[0::2] for line in other] == [["2", "2"]] * 2
        assert len({line.split()[1] for line in other}) == 2, "another architecture in each trial"
    else:
        for said in (lead[0], other[0]):
            assert "ranks of this training have different trials" in said
            assert "broadcast_object_list" in said


def test_ignite_says_which_of_several_evaluations_of_an_epoch_counts():
    from ignite.engine import Engine, Events

    way, trial = Ignite(), ask()
    trainer = Engine(lambda engine, batch: None)
    evaluator = Engine(lambda engine, loss: engine.state.metrics.update(loss=loss))
    way.hook(trial).attach(trainer, evaluator)

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate():
        evaluator.run([0.1])  # training data
        evaluator.run([0.9])

    with pytest.warns(UserWarning, match="more than once in an epoch, and the first run is reported") as said:
        trainer.run([0], max_epochs=3)
    assert len([w for w in said if "IgnitePruningHandler" in str(w.message)]) == 1
    assert curve(trial) == dict.fromkeys(range(3), 0.1)


def test_ignite_evaluates_after_an_epoch_that_failed():
    from ignite.engine import Engine, Events

    way, trial = Ignite(), ask()
    trainer = Engine(lambda engine, batch: 1 / (engine.state.epoch < 3))
    evaluator = Engine(lambda engine, loss: engine.state.metrics.update(loss=loss))
    way.hook(trial).attach(trainer, evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0.5]))
    with pytest.raises(ZeroDivisionError):
        trainer.run([0], max_epochs=5)
    evaluator.run([0.9])
    assert curve(trial) == {0: 0.5, 1: 0.5}


def test_ignite_goes_on_between_two_evaluations():
    from ignite.engine import Engine, Events

    way, trial = Ignite(), ask()
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

    @evaluator.on(Events.COMPLETED)
    def score(engine):
        engine.state.metrics["loss"] = float(trainer.state.epoch)

    way.hook(trial).attach(trainer, evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=5), lambda: evaluator.run([0]))
    for epochs in (7, 9, 12, 16):
        trainer.run([0], max_epochs=epochs)
    assert {stream: curve(trial, stream) for stream in trial._record.curves} == {0: {4: 5.0, 9: 10.0, 14: 15.0}}


def test_keras_goes_on_between_two_validations():
    way, trial = Keras(), ask()
    model = way.keras.Sequential([way.keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    hook, begin = way.hook(trial), 0
    for end in (7, 9, 12, 16):
        data = {"validation_data": (X_VALID, Y_VALID), "validation_freq": 5}
        model.fit(X, Y, initial_epoch=begin, epochs=end, batch_size=100, callbacks=[hook], verbose=0, **data)
        begin = end
    assert {stream: list(curve(trial, stream)) for stream in trial._record.curves} == {0: [4, 9, 14]}
    model.fit(X, Y, epochs=7, batch_size=100, callbacks=[hook], verbose=0, **data)
    assert list(curve(trial, 1)) == [4], "another training"


@pytest.mark.parametrize("first", [True, False], ids=["hook first", "hook last"])
def test_skorch_goes_on_from_what_a_callback_loads(first, tmp_path):
    way, trial = Skorch(), ask()
    for epochs in (3, 2, 0):
        hook, keep = way.hook(trial, report_every=2), way.skorch.callbacks.TrainEndCheckpoint(dirname=tmp_path)
        load = way.skorch.callbacks.LoadInitState(keep)
        net = way.net([keep, *([hook, load] if first else [load, hook])], epochs).fit(X, Y.astype("int64"))
    assert list(trial._record.curves) == [0]
    assert curve(trial) == {step: net.history[step, "valid_loss"] for step in (1, 2, 3, 4)}


def test_skorch_parameters_of_the_hook():
    way, trial = Skorch(), ask(direction="maximize")
    net = way.net([("prune", way.hook(ask()))], 3).initialize()
    arguments = {"trial", "monitor", "mode", "report_every"}
    assert {k[18:] for k in net.get_params() if k.startswith("callbacks__prune__")} == arguments
    net.set_params(callbacks__prune__monitor="valid_acc", callbacks__prune__report_every=2)
    with pytest.raises(ValueError, match=r"'valid_acc' is to be maximized, but the direction of study"):
        net.fit(X, Y.astype("int64"))
    with pytest.raises(TypeError, match=r"trial must be an inloop.Trial, got None"):
        net.set_params(callbacks__prune__trial=None)
    net.set_params(callbacks__prune__trial=trial).fit(X, Y.astype("int64"))
    assert net.get_params()["callbacks__prune__trial"] is trial
    assert curve(trial) == {1: net.history[1, "valid_acc"], 2: net.history[2, "valid_acc"]}
    with pytest.raises(ValueError, match="Invalid parameter 'metric'"):
        net.set_params(callbacks__prune__metric="valid_loss")


def test_skorch_a_net_that_was_saved_outlives_the_study():
    way = Skorch()
    net = way.net([("prune", way.hook(ask()))], 2).fit(X, Y.astype("int64"))
    saved, expected = pickle.dumps(net), net.predict_proba(X)
    del net
    gc.collect()
    net = pickle.loads(saved)
    np.testing.assert_array_equal(net.predict_proba(X), expected)
    assert net.get_params()["callbacks__prune__monitor"] == "valid_loss"
    net.set_params(max_epochs=1, callbacks__prune=None).fit(X, Y.astype("int64"))
    assert len(net.history) == 1


def test_keras_evaluation_outside_a_fit():
    way, trial = Keras(), ask()
    hook = way.hook(trial)
    model = way.fit(Run(hook, 2))
    model.evaluate(X, Y, callbacks=[hook], verbose=0)
    assert list(curve(trial)) == [0, 1]


@pytest.mark.parametrize("report_every", [1, 4])
def test_keras_validates_only_some_epochs(report_every):
    way, trial = Keras(), ask()
    keras = way.keras

    def fit(hook, epochs=7, beside=(), **given):
        model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
        model.compile("sgd", "binary_crossentropy")
        data = {"validation_data": (X_VALID, Y_VALID), "validation_freq": 2, **given}
        model.fit(X, Y, epochs=epochs, batch_size=100, callbacks=[hook, *beside], verbose=0, **data)

    class Enough(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True  # as TerminateOnNaN does

    fit(way.hook(trial, report_every=report_every), beside=[Enough()])
    assert not trial._record.curves, "stopped before the first validation, which is no error"
    trial = ask()
    fit(way.hook(trial, report_every=report_every))
    assert list(curve(trial)) == {1: [1, 3, 5], 4: [3, 5]}[report_every]
    trial = ask(Stop(2))
    fit(way.hook(trial))
    assert list(curve(trial)) == [1, 3]
    epochs = []
    for monitor, data, n in (("val_auc", {}, 2), ("auc", {}, 1), ("val_loss", {"validation_data": None}, 7)):
        count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
        hook = keras.callbacks.CallbackList([count, way.hook(ask(), monitor, mode="min")])
        with pytest.raises(ValueError, match=f"named '{monitor}'. What is evaluated: logs: loss"):
            fit(hook, **data)
        assert len(epochs) == n
        epochs.clear()
