"""Laws of the hooks, on real training: a table of framework's way to train x case, then each framework's own cases."""

import copy
import gc
import math
import multiprocessing
import pickle
import socket
import threading
import warnings
from dataclasses import dataclass, replace

import inloop
import lightgbm
import numpy as np
import pytest
import xgboost
from inloop.integrations.lightgbm import LightGBMPruningCallback
from inloop.integrations.xgboost import XGBoostPruningCallback, direction
from inloop.pruners import MedianPruner, Pruner, ThresholdPruner
from inloop.reporter import reporter
from reporting import Stop, ask, curve
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import cross_val_score

X, Y = load_breast_cancer(return_X_y=True)
X, X_VALID, Y, Y_VALID = X[:300, :8], X[300:450, :8], Y[:300], Y[300:450]


def late_nan(rounds):
    """Return the values of a metric that is NaN from its third call on."""
    return [0.5, 0.4] + [math.nan] * (rounds - 2)


@dataclass
class Run:
    """A fit to be done.

    Attributes:
        hooks: Callbacks, in order.
        rounds: Boosting rounds.
        stopping: ``"before"`` or ``"after"``: early stopping listed so; patience 2 on a metric that only gets worse.
        resume: A model to go on from.
        custom: Values of a custom metric called ``mine``, one a round, instead of the built-in one.
        metric: Built-in metrics, first to last.
        valid, train_set: Whether the validation and the training data are evaluated.
    """

    hooks: list
    rounds: int = 6
    stopping: str | None = None
    resume: object = None
    custom: list | None = None
    metric: tuple = ("logloss",)
    valid: bool = True
    train_set: bool = False


def listed(run, early):
    return {"before": [early, *run.hooks], "after": [*run.hooks, early], None: list(run.hooks)}[run.stopping]


class XGBTrain:
    """``xgboost.train``."""

    hook = XGBoostPruningCallback
    says_mode = False  # whether the framework tells the direction of custom metrics
    valid_name, train_name = "valid", "train"

    @staticmethod
    def name(metric):
        return metric

    def pause(self, at, do):
        """Return a callback that calls ``do`` once, after round ``at``."""

        class Pause(xgboost.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                if epoch == at:
                    do()
                return False

        return Pause()

    def stopping(self, run):
        return xgboost.callback.EarlyStopping(rounds=2, metric_name="mine" if run.custom else None, maximize=False)

    def fit(self, run):
        """Train; return the model and the metric's values."""
        log, values = {}, iter(run.custom or ())
        d, dv = xgboost.DMatrix(X, Y), xgboost.DMatrix(X_VALID, Y_VALID)
        names = [*(["train"] if run.train_set else []), *(["valid"] if run.valid else [])]
        params = {"nthread": 1, "objective": "binary:logistic", "eval_metric": list(run.metric), "eta": 0.3}
        if run.custom:
            params |= {"disable_default_eval_metric": 1, "eval_metric": []}
        model = xgboost.train(
            params,
            d,
            run.rounds,
            evals=[({"train": d, "valid": dv}[n], n) for n in names],
            custom_metric=(lambda p, m: ("mine", next(values))) if run.custom else None,
            callbacks=listed(run, self.stopping(run)),
            xgb_model=run.resume,
            evals_result=log,
            verbose_eval=False,
        )
        return model, log.get("valid", {}).get("mine" if run.custom else self.name(run.metric[-1]), [])

    def rounds(self, model):
        return model.num_boosted_rounds()

    def predict(self, model):
        return model.predict(xgboost.DMatrix(X_VALID))


class XGBSklearn(XGBTrain):
    """``XGBClassifier``."""

    valid_name, train_name = "validation_0", None

    def fit(self, run):
        values = iter(run.custom or ())

        def mine(y_true, y_score):
            return next(values)

        model = xgboost.XGBClassifier(
            n_estimators=run.rounds,
            n_jobs=1,
            learning_rate=0.3,
            eval_metric=mine if run.custom else list(run.metric),
            callbacks=listed(run, self.stopping(run)),
            **({"disable_default_eval_metric": 1} if run.custom else {}),
        )
        resume = None if run.resume is None else run.resume.get_booster()
        sets = [(X_VALID, Y_VALID)] if run.valid else None
        model.fit(X, Y, eval_set=sets, verbose=False, xgb_model=resume)
        log = model.evals_result() if sets else {}
        return model, log.get("validation_0", {}).get("mine" if run.custom else run.metric[-1], [])

    def rounds(self, model):
        return model.get_booster().num_boosted_rounds()

    def predict(self, model):
        return model.predict_proba(X_VALID)


class LGBTrain:
    """``lightgbm.train``."""

    hook = LightGBMPruningCallback
    says_mode = True
    valid_name, train_name = "valid", "training"

    @staticmethod
    def name(metric):
        return {"logloss": "binary_logloss"}.get(metric, metric)

    def pause(self, at, do):
        def pause(env):
            if env.iteration == at:
                do()

        pause.order = 1
        return pause

    def stopping(self, run):
        return lightgbm.early_stopping(2, verbose=False)

    def fit(self, run):
        log, values = {}, iter(run.custom or ())
        d = lightgbm.Dataset(X, Y)
        dv = d.create_valid(X_VALID, Y_VALID)
        names = [*(["training"] if run.train_set else []), *(["valid"] if run.valid else [])]
        metric = "none" if run.custom else [self.name(m) for m in run.metric]
        model = lightgbm.train(
            {"num_threads": 1, "objective": "binary", "metric": metric, "verbosity": -1, "num_leaves": 7},
            d,
            run.rounds,
            valid_sets=[{"training": d, "valid": dv}[n] for n in names],
            valid_names=names,
            feval=(lambda p, m: ("mine", next(values), False)) if run.custom else None,
            callbacks=[*listed(run, self.stopping(run)), lightgbm.record_evaluation(log)],
            init_model=run.resume,
        )
        return model, log.get("valid", {}).get("mine" if run.custom else self.name(run.metric[0]), [])

    def rounds(self, model):
        return model.current_iteration()

    def predict(self, model):
        return model.predict(X_VALID)


class LGBSklearn(LGBTrain):
    """``LGBMClassifier``."""

    valid_name, train_name = "valid_0", "training"

    def fit(self, run):
        values = iter(run.custom or ())
        model = lightgbm.LGBMClassifier(n_estimators=run.rounds, n_jobs=1, verbose=-1, num_leaves=7)
        sets = [*([(X, Y)] if run.train_set else []), *([(X_VALID, Y_VALID)] if run.valid else [])]
        if run.custom:
            model.set_params(metric="none")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lightgbm.basic.LGBMDeprecationWarning)
            model.fit(
                X,
                Y,
                eval_set=sets or None,
                eval_metric=(lambda t, p: ("mine", next(values), False))
                if run.custom
                else [self.name(m) for m in run.metric],
                callbacks=listed(run, self.stopping(run)),
                init_model=run.resume,
            )
        log = model.evals_result_
        name = "mine" if run.custom else self.name(run.metric[0])
        return model, log.get("valid_1" if run.train_set else "valid_0", {}).get(name, [])

    def rounds(self, model):
        return model.booster_.current_iteration()

    def predict(self, model):
        return model.predict_proba(X_VALID)


WAYS = [XGBTrain(), XGBSklearn(), LGBTrain(), LGBSklearn()]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda w: type(w).__name__)
WORSE = [0.1 * i for i in range(1, 20)]


@every_way
def test_never_stop(way):
    trial = ask()
    model, values = way.fit(Run([way.hook(trial)]))
    assert curve(trial) == dict(enumerate(values))
    assert way.rounds(model) == len(values) == 6
    assert not trial.pruned


@every_way
@pytest.mark.parametrize("at", [1, 3])
def test_always_stop(way, at):
    trial = ask(Stop(at))
    model, values = way.fit(Run([way.hook(trial)]))
    assert way.rounds(model) == len(values) == at == len(curve(trial))
    assert np.isfinite(way.predict(model)).all()
    assert trial.study.tell(trial, 0.123).state.name == "PRUNED"


@every_way
def test_a_normal_return_is_still_pruned(way):
    study = inloop.create_study(sampler="random", pruner=Stop(2), seed=0)
    study.optimize(lambda trial: way.fit(Run([way.hook(trial)]))[1][-1], n_trials=2)
    assert [t.state.name for t in study.trials] == ["PRUNED", "PRUNED"]


@every_way
def test_stop_at_the_last_round(way):
    trial = ask(Stop(6))
    model, _ = way.fit(Run([way.hook(trial)]))
    assert way.rounds(model) == 6
    assert trial.study.tell(trial, 1.0).state.name == "PRUNED"


@every_way
def test_a_pruned_trial_is_not_trained_again(way):
    trial = ask(Stop(1))
    hook = way.hook(trial)
    way.fit(Run([hook]))
    calls = []
    for again in (hook, way.hook(trial), copy.deepcopy(hook)):
        with pytest.raises(inloop.TrialPruned, match="trial 0 is pruned"):
            way.fit(Run([way.pause(0, lambda: calls.append(1)), again]))
    assert not calls, "a round was trained"


@every_way
@pytest.mark.parametrize("where", ["before", "after"])
def test_beside_early_stopping_no_report_is_dropped(way, where):
    trial = ask()
    _, values = way.fit(Run([way.hook(trial, "mine", mode="min")], rounds=15, stopping=where, custom=WORSE))
    assert len(values) == 3, "patience 2"
    assert curve(trial) == dict(enumerate(values))


@every_way
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_beside_early_stopping_the_pruner_rules(way, where, at):
    trial = ask(Stop(at))
    model, values = way.fit(Run([way.hook(trial, "mine", mode="min")], rounds=15, stopping=where, custom=WORSE))
    assert len(values) == at
    assert trial.pruned
    assert np.isfinite(way.predict(model)).all()


@every_way
def test_nan_is_reported_and_prunes_only_by_the_rule(way):
    values = late_nan(6)
    trial = ask()
    way.fit(Run([way.hook(trial, mode="min")], custom=values))
    np.testing.assert_array_equal(list(curve(trial).values()), values)
    assert not trial.pruned
    trial = ask(ThresholdPruner(upper=1.0))
    way.fit(Run([way.hook(trial, mode="min")], custom=values))
    assert len(curve(trial)) == 3
    assert trial.pruned


@every_way
@pytest.mark.parametrize(("metric", "study"), [("auc", "minimize"), ("logloss", "maximize")])
def test_a_wrong_direction_names_both(way, metric, study):
    name = way.name(metric)
    for asked in (name, None):
        with pytest.raises(ValueError, match=rf"'{name}' is to be m.*imized.* is '{study}'"):
            way.fit(Run([way.hook(ask(direction=study), asked)], metric=(metric,)))


@every_way
def test_the_right_direction_of_a_maximised_metric(way):
    trial = ask(direction="maximize")
    _, values = way.fit(Run([way.hook(trial, "auc")], metric=("auc",)))
    assert list(curve(trial).values()) == values


@every_way
def test_mode_is_checked(way):
    with pytest.raises(ValueError, match=r"mode must be 'min', 'max' or None, got 'minimise'"):
        way.hook(ask(), mode="minimise")
    with pytest.raises(ValueError, match=r"is to be minimized, but mode='max' was given"):
        way.fit(Run([way.hook(ask(direction="maximize"), way.name("logloss"), mode="max")]))


@every_way
def test_a_missing_metric_lists_what_is_there(way):
    hook = way.hook(ask(), "rmsle")
    there = rf"{way.valid_name}: {way.name('logloss')}, auc"
    with pytest.raises(ValueError, match=rf"no metric is named 'rmsle'. What is evaluated: {there}"):
        way.fit(Run([hook], metric=("logloss", "auc")))
    with pytest.raises(ValueError, match=rf"no evaluation set is named 'test'. What is evaluated: {way.valid_name}: "):
        way.fit(Run([way.hook(ask(), data="test")]))


@every_way
def test_no_evaluation_set(way):
    with pytest.raises(ValueError, match=r"nothing is evaluated; give"):
        way.fit(Run([way.hook(ask())], valid=False))


@every_way
def test_training_data_only_if_asked_for(way):
    if way.train_name is None:
        pytest.skip("its names do not say what is training data")
    trial = ask()
    _, values = way.fit(Run([way.hook(trial)], train_set=True))
    assert list(curve(trial).values()) == values
    with pytest.raises(ValueError, match="only training data is evaluated"):
        way.fit(Run([way.hook(ask())], train_set=True, valid=False))
    trial = ask()
    way.fit(Run([way.hook(trial, data=way.train_name)], train_set=True, valid=False))
    assert len(curve(trial)) == 6


@every_way
@pytest.mark.parametrize("fresh", [False, True], ids=["same hook", "new hook"])
def test_every_fit_starts_afresh(way, fresh):
    trial = ask()
    hook = way.hook(trial)
    logs = [way.fit(Run([way.hook(trial) if fresh else hook], rounds=n))[1] for n in (4, 6, 3)]
    assert [curve(trial, stream) for stream in range(3)] == [dict(enumerate(log)) for log in logs]


@every_way
def test_a_fold_is_compared_with_the_same_fold(way):
    study = inloop.create_study(sampler="random", pruner=MedianPruner(n_startup_trials=1), seed=0)

    def objective(trial):
        # the first trial's second fold is much worse than its first; that of the others is better than that
        for fold in range(2):
            level = 1.0 if fold == 0 else 9.0 - trial.number
            way.fit(Run([way.hook(trial, "mine", mode="min")], rounds=3, custom=[level] * 3))
        return 1.0

    study.optimize(objective, 3)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 3


@every_way
@pytest.mark.parametrize(("at", "stream"), [(0, 0), (2, 1)], ids=["before the first report", "later"])
def test_a_fit_that_failed_leaves_the_hook_usable(way, at, stream):
    trial = ask()
    hook = way.hook(trial)

    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError):
        way.fit(Run([way.pause(at, fail), hook]))
    errors = []
    other = threading.Thread(target=lambda: errors.append(way.fit(Run([hook]))[1]))
    other.start()
    other.join()
    assert curve(trial, stream) == dict(enumerate(errors[0]))


@every_way
def test_two_fits_at_once_are_refused(way):
    trial = ask()
    hook = way.hook(trial)

    def another():
        thread = threading.Thread(target=way.fit, args=(Run([hook]),))
        thread.start()
        thread.join()

    with pytest.raises(RuntimeError, match=r"PruningCallback\(trial=0.*is used by two fits at once"):
        way.fit(Run([hook, way.pause(2, another)]))
    assert list(curve(trial, 1)) == [0, 1, 2, 3, 4, 5], "the reports of the other one are its own"


@every_way
def test_copies_may_be_used_at_once(way):
    trial = ask()
    hooks = [way.hook(trial), copy.copy(way.hook(trial)), copy.deepcopy(way.hook(trial))]
    threads = [threading.Thread(target=way.fit, args=(Run([h]),)) for h in hooks]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [list(curve(trial, s)) for s in range(3)] == [list(range(6))] * 3


@every_way
@pytest.mark.parametrize("way_to_copy", [copy.copy, copy.deepcopy, clone, "pickle"])
def test_a_copy_is_a_hook_of_the_same_trial(way, way_to_copy):
    def copied(x):
        return (
            pickle.loads(pickle.dumps(x))
            if way_to_copy == "pickle"
            else (clone(x, safe=False) if way_to_copy is clone else way_to_copy(x))
        )

    trial = ask()
    hook = way.hook(trial, report_every=2)
    way.fit(Run([hook]))  # one that was used
    again = copied(copied(hook))
    assert repr(again) == repr(hook)
    way.fit(Run([again]))
    assert [list(curve(trial, s)) for s in range(2)] == [[1, 3, 5]] * 2
    assert hash(hook) is not None


@every_way
def test_a_trial_and_its_hook_that_are_copied_together_stay_together(way):
    trial = ask()
    again, hook = copy.deepcopy((trial, way.hook(trial)))
    assert again is hook.trial is not trial


@every_way
@pytest.mark.parametrize("metric", ["logloss", "auc"])
def test_with_a_fixed_trial_training_goes_to_its_end(way, metric):
    hook = way.hook(inloop.FixedTrial({}), way.name(metric))
    for again in (hook, copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))):
        model, values = way.fit(Run([again], metric=(metric,)))
        assert way.rounds(model) == len(values) == 6


@every_way
@pytest.mark.parametrize("storage", ["memory", "file"])
def test_a_model_that_was_saved_with_its_hook_outlives_the_study(way, storage, tmp_path):
    trial = inloop.create_study(storage=str(tmp_path / "s.db") if storage == "file" else None, seed=0).ask()
    hook = way.hook(trial)
    model, _ = way.fit(Run([hook]))
    saved, shown, expected = pickle.dumps((model, hook)), repr(hook), way.predict(model)
    del trial, hook, model
    gc.collect()
    for file in tmp_path.glob("s.db*"):
        file.unlink()
    model, hook = pickle.loads(saved)
    np.testing.assert_array_equal(way.predict(model), expected)
    for again in (hook, copy.copy(hook), copy.deepcopy(hook), clone(hook, safe=False), pickle.loads(saved)[1]):
        assert repr(pickle.loads(pickle.dumps(again))) == shown
    with pytest.raises((inloop.storage.StorageError, inloop.StudyNotFound), match=r"No server at|No study named"):
        way.fit(Run([hook]))


@every_way
@pytest.mark.parametrize("where", [None, "before", "after"])
def test_report_every_thins_but_keeps_the_last(way, where):
    trial = ask()
    hook = way.hook(trial, "mine", mode="min", report_every=2)
    _, values = way.fit(Run([hook], rounds=5, stopping=where, custom=WORSE))
    trial.study.tell(trial, 1.0)
    last = 5 if where is None else 3
    assert len(values) == last
    assert curve(trial) == {i: values[i] for i in range(last) if i % 2 or i == last - 1}


@every_way
def test_report_every_is_checked(way):
    for bad in (0, 1.5, True, "2"):
        with pytest.raises(ValueError, match="report_every must be an integer of at least 1"):
            way.hook(ask(), report_every=bad)
    hook = way.hook(ask())
    for bad in (3, None):
        with pytest.raises(TypeError, match=f"trial must be an inloop.Trial, got {bad}"):
            way.hook(bad)
        with pytest.raises(TypeError, match=f"trial must be an inloop.Trial, got {bad}"):
            hook.trial = bad


@every_way
@pytest.mark.parametrize("fresh", [False, True], ids=["same hook", "new hook"])
@pytest.mark.parametrize("every", [1, 4])
def test_a_resumed_fit_goes_on_with_its_curve(way, fresh, every):
    trial = ask()
    hook = way.hook(trial, report_every=every)
    model, first = way.fit(Run([hook], rounds=3))
    hook = way.hook(trial, report_every=every) if fresh else hook
    _, then = way.fit(Run([hook], rounds=4, resume=model))
    values = [*first, *then]
    assert list(trial._record.curves) == [0]
    assert curve(trial) == {i: values[i] for i in ([0, 1, 2, 3, 4, 5, 6] if every == 1 else [2, 3, 6])}
    assert then != pytest.approx(first + then[:1])


@every_way
@pytest.mark.parametrize("same", [False, True], ids=["a hook each", "same hook"])
def test_a_hook_goes_on_with_its_own_latest_fit(way, same):
    trial = ask()
    hook = way.hook(trial)
    way.fit(Run([hook], rounds=3))
    hook = hook if same else way.hook(trial)
    model, _ = way.fit(Run([hook], rounds=3))
    way.fit(Run([hook], rounds=2, resume=model))
    assert {s: c.steps for s, c in trial._record.curves.items()} == {0: [0, 1, 2], 1: [0, 1, 2, 3, 4]}


@every_way
def test_going_on_from_another_model_counts_its_rounds(way):
    model, _ = way.fit(Run([], rounds=3))
    trial = ask()
    for _ in range(2):
        way.fit(Run([way.hook(trial)], rounds=2, resume=model))
    assert [list(curve(trial, s)) for s in range(2)] == [[3, 4]] * 2


@every_way
@pytest.mark.parametrize("every", [1, 4])
def test_going_on_from_before_the_last_report_goes_on_with_the_curve(way, every):
    trial = ask()
    model, first = way.fit(Run([way.hook(trial, report_every=every)], rounds=3))
    _, then = way.fit(Run([way.hook(trial, report_every=every)], rounds=4, resume=model))
    _, again = way.fit(Run([way.hook(trial, report_every=every)], rounds=6, resume=model))
    trial.study.tell(trial, 1.0)
    values = [*first, *then, *again[4:]]
    assert list(trial._record.curves) == [0]
    assert curve(trial) == {i: values[i] for i in (range(9) if every == 1 else [2, 3, 6, 7, 8])}


@every_way
def test_custom_metrics(way):
    trial = ask()
    way.fit(Run([way.hook(trial, "mine", mode="min")], custom=WORSE))
    assert list(curve(trial).values()) == pytest.approx(WORSE[:6])
    if way.says_mode:
        with pytest.raises(ValueError, match=r"'mine' is to be minimized.* is 'maximize'"):
            way.fit(Run([way.hook(ask(direction="maximize"))], custom=WORSE))
    else:
        with pytest.raises(ValueError, match=r"is 'mine' to be minimized or maximized\? .*give mode="):
            way.fit(Run([way.hook(ask())], custom=WORSE))
        with pytest.raises(ValueError, match=r"'mine' is to be maximized.* is 'minimize'"):
            way.hook(ask(), "mine", mode="max")


@every_way
def test_default_metric_is_the_one_of_early_stopping(way):
    trial = ask(direction="maximize" if way.hook is XGBoostPruningCallback else "minimize")
    _, values = way.fit(Run([way.hook(trial)], metric=("logloss", "auc")))
    assert list(curve(trial).values()) == values


@every_way
def test_a_trial_that_ended_takes_no_more(way):
    trial = ask()
    trial.study.tell(trial, 1.0)
    with pytest.raises(ValueError, match="trial 0 is COMPLETE; it takes no more reports"):
        way.fit(Run([way.hook(trial)]))


@every_way
def test_pruning_by_the_default_of_a_study_saves_rounds(way):
    study = inloop.create_study(sampler="random", pruner=MedianPruner(n_startup_trials=2), seed=0)

    def objective(trial):
        values = [1.0 + trial.number - i / 100 for i in range(8)]
        return way.fit(Run([way.hook(trial, mode="min")], rounds=8, custom=values))[1][-1]

    study.optimize(objective, 6)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 2 + ["PRUNED"] * 4
    assert [t.reports for t in study.trials] == [8, 8, 1, 1, 1, 1]


@pytest.mark.parametrize("storage", ["memory", "file"])
@pytest.mark.parametrize("pruner", ["median", "auto", "hyperband", ThresholdPruner(upper=1.4), Stop(4)], ids=repr)
def test_what_hooks_call_is_report_and_should_prune(pruner, storage, tmp_path):
    """One call in place of two, on curves with NaN, numpy's numbers, held values, and steps left out or repeated."""

    def run(name, ask):
        url = None if storage == "memory" else str(tmp_path / name)
        study = inloop.create_study(sampler="random", pruner=pruner, seed=0, storage=url, study_name="s")
        rng, said = np.random.default_rng(0), []
        for _ in range(12):
            trial, level = study.ask(), rng.random()
            say = ask(trial)
            for step in [0, 1, 2, 4, 4, 3, *range(5, 14)]:
                value = level + rng.random() / (step + 1)
                value = [value, float(value), math.nan, np.float32(value)][step % 4 if step < 9 else 1]
                if step == 6:
                    trial.hold(float(value), step)
                else:
                    said.append(say(value, step))
            study.tell(trial, level)
        events = study._log.storage.read("s", 0)
        return said, repr([(e.kind, e.trial, e.data) for e in events if e.kind in ("report", "pruned", "held")])

    def two_calls(trial):
        def say(value, step):
            trial.report(value, step)
            return trial.should_prune()

        return say

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert run("a", lambda trial: reporter(trial, 0)) == run("b", two_calls)
    assert len(heard) >= 2
    assert all("was reported before" in str(w.message) for w in heard)


@pytest.mark.parametrize("storage", [None, "file"])
def test_the_pruner_is_asked_once_about_a_report(storage, tmp_path):
    asked = []

    class Asked(Pruner):
        def prune(self, history, trial, stream, since=0):
            asked.append(trial.last[1])
            return trial.last[1] == 3

    study = inloop.create_study(sampler="random", pruner=Asked(), storage=storage and str(tmp_path / "s.db"))
    say = reporter(study.ask(), 0)
    assert [say(0.5, step) for step in range(5)] == [False, False, False, True, True]
    assert asked == [0, 1, 2, 3]


# cross_val_score


def search_model(kind, trial):
    """Return an estimator with the hook and what to give cross_val_score."""
    if kind == "xgboost":
        model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1, callbacks=[XGBoostPruningCallback(trial)])
        return model, {"eval_set": [(X_VALID, Y_VALID)], "verbose": False}
    model = lightgbm.LGBMClassifier(n_estimators=4, n_jobs=1, verbose=-1)
    return model, {"eval_X": X_VALID, "eval_y": Y_VALID, "callbacks": [LightGBMPruningCallback(trial)]}


@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)], ids=["serial", "loky"])
@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_cross_val_score(kind, n_jobs):
    trial = ask()
    model, params = search_model(kind, trial)
    scores = cross_val_score(model, X, Y, cv=3, params=params, n_jobs=n_jobs, error_score="raise")
    assert np.isfinite(scores).all()
    trial.study.tell(trial, scores.mean())
    assert {s: list(c.steps) for s, c in trial._record.curves.items()} == {s: [0, 1, 2, 3] for s in range(3)}


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_cross_val_score_costs_nothing_after_the_prune(kind):
    study = inloop.create_study(sampler="random", pruner=Stop(2), seed=0)

    def objective(trial):
        model, params = search_model(kind, trial)
        return cross_val_score(model, X, Y, cv=3, params=params).mean()

    with pytest.warns(Warning, match="2 fits failed"):
        study.optimize(objective, 1)
    assert study.trials[0].state.name == "PRUNED"
    assert study.trials[0].reports == 2


@pytest.mark.slow
def test_the_last_round_before_early_stopping_is_reported_from_another_process():
    """LightGBM does not say when it stops early, so what was left out is kept until the trial ends."""
    model = lightgbm.LGBMClassifier(n_estimators=30, n_jobs=1, verbose=-1, learning_rate=1.0, early_stopping_rounds=2)
    seen = []
    for n_jobs in (None, 2):
        trial = ask()
        params = {"eval_X": X_VALID, "eval_y": Y_VALID, "callbacks": [LightGBMPruningCallback(trial, report_every=4)]}
        cross_val_score(model, X, Y, cv=3, params=params, n_jobs=n_jobs, error_score="raise")
        trial.study.tell(trial, 1.0)
        seen.append(sorted(c.steps for c in trial._record.curves.values()))
    assert seen[0] == seen[1]
    assert all(len(steps) == 2 and steps[1] < 29 for steps in seen[0])


# XGBoost's own cases

XGB_MIN = [
    *("rmse", "rmsle", "mae", "mape", "mphe", "logloss", "error", "error@0.7", "merror", "mlogloss", "quantile"),
    *("poisson-nloglik", "gamma-nloglik", "gamma-deviance", "cox-nloglik", "aft-nloglik", "tweedie-nloglik@1.5"),
]
XGB_MAX = ["auc", "aucpr", "pre", "pre@3", "ndcg", "ndcg-", "ndcg@5", "ndcg@5-", "map", "map@3-", "ams@0.15"]
XGB_OWN = ["pred_err", "precision", "mean_absolute_error", "auc_loss", "maple", "ams", "rmse2", "error@", "ndcg@5x", ""]


def test_xgboost_directions_of_names():
    assert {m: direction(m) for m in XGB_MIN} == dict.fromkeys(XGB_MIN, "min")
    assert {m: direction(m) for m in [*XGB_MAX, "interval-regression-accuracy"]} == dict.fromkeys(
        [*XGB_MAX, "interval-regression-accuracy"], "max"
    )
    assert {m: direction(m) for m in XGB_OWN} == dict.fromkeys(XGB_OWN)


@pytest.mark.parametrize("metric", [m for m in XGB_MIN + XGB_MAX if m not in ("quantile", "aft-nloglik")])
def test_xgboost_directions_are_those_of_the_metrics(metric):
    """A metric is better for true labels as predictions than for the labels turned round."""
    multi, shift = metric in ("merror", "mlogloss"), metric == "mape"  # which is infinite at 0
    d = xgboost.DMatrix(X, Y + shift)
    booster = xgboost.Booster({"eval_metric": metric, "objective": "binary:logistic", "nthread": 1}, [d])
    if multi:
        booster.set_param({"objective": "multi:softprob", "num_class": 2})
    if shift:
        booster.set_param({"objective": "reg:squarederror"})
    scores = []
    for label in (Y, 1 - Y):
        margin = label + 1.0 if shift else np.where(label > 0, 2.0, -2.0)
        d.set_base_margin(np.stack([-margin, margin], 1).ravel() if multi else margin)
        scores.append(float(booster.eval_set([(d, "v")]).rsplit(":", 1)[1]))
    assert (scores[0] < scores[1]) == (direction(metric) == "min"), scores


@pytest.mark.parametrize("stopping", [None, 2], ids=["alone", "with early stopping"])
@pytest.mark.parametrize("at", [1, 3, 99])
def test_xgboost_cv(stopping, at):
    trial = ask(Stop(at))
    frame = xgboost.cv(
        {"objective": "binary:logistic", "nthread": 1, "eval_metric": ["error", "logloss"]},
        xgboost.DMatrix(X, Y),
        5,
        nfold=3,
        callbacks=[XGBoostPruningCallback(trial, "logloss", "test")],
        early_stopping_rounds=stopping,
        as_pandas=False,
    )
    seen = frame["test-logloss-mean"]
    assert list(curve(trial).values())[: len(seen)] == pytest.approx(seen)
    assert stopping or len(seen) == min(at, 5), "early stopping cuts the table at the best round"
    assert len(curve(trial)) == min(at, 5)
    assert trial.pruned == (at < 5)


def test_xgboost_cv_default_set_is_the_test_folds():
    trial = ask()
    frame = xgboost.cv({"nthread": 1}, xgboost.DMatrix(X, Y), 3, callbacks=[XGBoostPruningCallback(trial)])
    assert list(curve(trial).values()) == pytest.approx(list(frame["test-rmse-mean"]))


@pytest.mark.parametrize("order", [1, -1], ids=["hook last", "hook first"])
def test_xgboost_save_best(order):
    """``EarlyStopping(save_best=True)`` hands a slice of the model on, and needs a best iteration."""
    for pruner in (Stop(1), None):
        trial = ask(pruner)
        model = xgboost.XGBRegressor(n_estimators=5, n_jobs=1, eval_metric=lambda t, p: 0.0)
        stop = xgboost.callback.EarlyStopping(rounds=2, save_best=True, metric_name="rmse")
        model.set_params(eval_metric="rmse", callbacks=[stop, XGBoostPruningCallback(trial)][::order])
        model.fit(X, Y, eval_set=[(X_VALID, Y_VALID)], verbose=False)
        log = model.evals_result()["validation_0"]["rmse"]
        assert list(curve(trial).values()) == log
        assert model.best_iteration == int(np.argmin(log))


def test_xgboost_pruned_model_has_a_best_score():
    model, values = XGBTrain().fit(Run([XGBoostPruningCallback(ask(Stop(3)))]))
    assert (model.best_iteration, model.best_score) == (2, pytest.approx(values[2]))


def test_xgboost_a_callback_that_ends_training_before_the_hook_is_asked():
    class Enough(xgboost.callback.TrainingCallback):
        def after_iteration(self, model, epoch, evals_log):
            return True

    trial = ask()
    _, values = XGBTrain().fit(Run([Enough(), XGBoostPruningCallback(trial)]))
    assert curve(trial) == {0: values[0]}


def test_xgboost_several_sets_and_names():
    sets = [(X[:50], Y[:50]), (X_VALID, Y_VALID), (X[50:], Y[50:])]
    model = xgboost.XGBClassifier(n_estimators=3, n_jobs=1, eval_metric=["ndcg@5-", "error@0.7", "logloss"])
    for data, metric, way in [(None, "logloss", "minimize"), ("validation_0", "ndcg@5-", "maximize")]:
        trial = ask(direction=way)
        hook = XGBoostPruningCallback(trial, metric, data)
        model.set_params(callbacks=[hook])
        if data is None:
            model.fit(X, Y, eval_set=sets, verbose=False)
            assert list(curve(trial).values()) == model.evals_result()["validation_2"][metric]
        else:
            with pytest.raises(ValueError, match=r"validation_0: error@0.7, logloss; validation_1"):
                model.set_params(eval_metric=["error@0.7", "logloss"]).fit(X, Y, eval_set=sets, verbose=False)


def test_xgboost_custom_names_with_dashes():
    trial = ask(direction="maximize")
    d = xgboost.DMatrix(X, Y)
    xgboost.train(
        {"nthread": 1, "disable_default_eval_metric": 1},
        d,
        3,
        evals=[(d, "valid")],
        custom_metric=lambda p, m: ("a-b-c@1", 0.5),
        callbacks=[XGBoostPruningCallback(trial, "a-b-c@1", "valid", mode="max")],
        verbose_eval=False,
    )
    assert curve(trial) == {0: 0.5, 1: 0.5, 2: 0.5}


@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_xgboost_resumes_with_every_booster(booster):
    d, trial, model = xgboost.DMatrix(X, Y), ask(), None
    params = {"booster": booster, "nthread": 1, **({"rate_drop": 0.5} if booster == "dart" else {})}
    for _ in range(2):
        hook = XGBoostPruningCallback(trial)
        model = xgboost.train(params, d, 2, evals=[(d, "v")], callbacks=[hook], xgb_model=model, verbose_eval=False)
    assert list(curve(trial)) == [0, 1, 2, 3]


def test_xgboost_update_goes_over_the_trees_once_more():
    d, trial = xgboost.DMatrix(X, Y), ask()
    params = {"nthread": 1, "tree_method": "exact"}
    hook = XGBoostPruningCallback(trial)
    model = xgboost.train(params, d, 3, evals=[(d, "v")], callbacks=[hook], verbose_eval=False)
    params = {"nthread": 1, "process_type": "update", "updater": "prune", "gamma": 1.0, "verbosity": 0}
    xgboost.train(params, d, 3, evals=[(d, "v")], callbacks=[hook], xgb_model=model, verbose_eval=False)
    assert [list(curve(trial, s)) for s in range(2)] == [[0, 1, 2]] * 2


def test_xgboost_ranker_and_forest():
    X_rank, y_rank = load_diabetes(return_X_y=True)
    grades, groups = np.digitize(y_rank, [80, 140, 210]), np.repeat(np.arange(17), 26)
    trial = ask(direction="maximize")
    ranker = xgboost.XGBRanker(
        n_estimators=3, n_jobs=1, eval_metric="ndcg@5", callbacks=[XGBoostPruningCallback(trial)]
    )
    ranker.fit(X_rank, grades, qid=groups, eval_set=[(X_rank, grades)], eval_qid=[groups], verbose=False)
    assert list(curve(trial).values()) == ranker.evals_result()["validation_0"]["ndcg@5"]


def test_xgboost_forests():
    """A forest is one round; its estimators refuse callbacks, so that XGBoost's own message comes through."""
    trial, d = ask(), xgboost.DMatrix(X, Y)
    hook = XGBoostPruningCallback(trial)
    params = {"num_parallel_tree": 5, "subsample": 0.8, "nthread": 1}
    xgboost.train(params, d, 1, evals=[(d, "v")], callbacks=[hook], verbose_eval=False)
    assert list(curve(trial)) == [0]
    with pytest.raises(NotImplementedError, match="callbacks"):
        xgboost.XGBRFClassifier(callbacks=[hook])


def test_xgboost_external_memory(tmp_path):
    class Batches(xgboost.DataIter):
        def __init__(self):
            self.at = 0
            super().__init__(cache_prefix=str(tmp_path / "cache"))

        def next(self, input_data):
            if self.at == 3:
                return False
            part = slice(100 * self.at, 100 * self.at + 100)
            input_data(data=X[part], label=Y[part])
            self.at += 1
            return True

        def reset(self):
            self.at = 0

    d, dv = xgboost.ExtMemQuantileDMatrix(Batches(), max_bin=16), xgboost.DMatrix(X_VALID, Y_VALID)
    for at in (2, 9):
        trial, log = ask(Stop(at)), {}
        hook = XGBoostPruningCallback(trial)
        params = {"nthread": 1, "max_bin": 16, "tree_method": "hist"}
        xgboost.train(params, d, 4, evals=[(dv, "v")], callbacks=[hook], evals_result=log, verbose_eval=False)
        assert list(curve(trial).values()) == log["v"]["rmse"]
        assert len(curve(trial)) == min(at, 4)


def collective_worker(rank, address, hooks, digits, out):
    """Train on half of the digits beside another process, twice with each hook."""
    said = {}
    with xgboost.collective.CommunicatorContext(dmlc_communicator="rabit", **address):
        d = xgboost.DMatrix(digits[0][rank::2], digits[1][rank::2])
        params = {"objective": "multi:softprob", "num_class": 10, "nthread": 1, "tree_method": "hist"}
        for name, hook in [(n, h) for n, h in hooks.items() for _ in range(2)]:
            try:
                model = xgboost.train(params, d, 5, evals=[(d, "v")], callbacks=[hook], verbose_eval=False)
                end = (model.num_boosted_rounds(), model.attr("best_iteration"))
            except Exception as error:
                end = (type(error).__name__, str(error))
            said.setdefault(name, []).append(end)
    out.put((rank, said))


@pytest.mark.slow
def test_xgboost_collective_training():
    """Rank 0 reports and decides; both ranks end in the same way at the same round."""
    trials = {"pruned": ask(Stop(3)), "kept": ask(), "missing": ask()}
    hooks = {n: XGBoostPruningCallback(t, "rmsle" if n == "missing" else None) for n, t in trials.items()}
    tracker = xgboost.tracker.RabitTracker(host_ip="127.0.0.1", n_workers=2)
    tracker.start()
    spawn = multiprocessing.get_context("spawn")
    out = spawn.Queue()
    args = [(rank, tracker.worker_args(), hooks, load_digits(return_X_y=True), out) for rank in range(2)]
    workers = [spawn.Process(target=collective_worker, args=a) for a in args]
    for w in workers:
        w.start()
    said = dict(out.get(timeout=120) for _ in workers)
    for w in workers:
        w.join(30)
    for rank in range(2):
        assert said[rank]["pruned"][0] == (3, "2")
        assert said[rank]["pruned"][1][0] == "TrialPruned"
        assert said[rank]["kept"] == [(5, None)] * 2
        assert all("no metric is named 'rmsle'" in text for _, text in said[rank]["missing"])
    steps = {n: {s: c.steps for s, c in t.study.trials[0].curves.items()} for n, t in trials.items()}
    assert steps == {"pruned": {0: [0, 1, 2]}, "kept": {s: [0, 1, 2, 3, 4] for s in range(2)}, "missing": {}}
    assert trials["pruned"].pruned


# LightGBM's own cases

LGB_PARAMS = {"num_threads": 1, "verbosity": -1, "num_leaves": 7}


def lgb_train(trial, rounds=4, hook=None, **params):
    log, d = {}, lightgbm.Dataset(X, Y)
    callbacks = [hook or LightGBMPruningCallback(trial), lightgbm.record_evaluation(log)]
    model = lightgbm.train(
        {**LGB_PARAMS, **params}, d, rounds, valid_sets=[d.create_valid(X_VALID, Y_VALID)], callbacks=callbacks
    )
    return model, log["valid_0"]


@pytest.mark.parametrize(
    "metric", ["binary_logloss", "valid binary_logloss", "valid binary_logloss-mean", "binary", None]
)
@pytest.mark.parametrize("at", [1, 3, 99])
def test_lightgbm_cv(metric, at):
    trial = ask(Stop(at))
    results = lightgbm.cv(
        {**LGB_PARAMS, "objective": "binary"},
        lightgbm.Dataset(X, Y),
        4,
        nfold=3,
        callbacks=[LightGBMPruningCallback(trial, metric)],
        eval_train_metric=True,
        return_cvbooster=True,
    )
    assert list(curve(trial).values()) == results["valid binary_logloss-mean"]
    assert len(curve(trial)) == min(at, 4)
    assert trial.pruned == (at < 4)
    assert len(results["cvbooster"].predict(X_VALID)) == 3


@pytest.mark.parametrize("name", ["mine", "my own", "my own-mean"])
@pytest.mark.parametrize("asked", ["{}", "{}-mean", "valid {}", "valid {}-mean"])
def test_lightgbm_cv_of_a_custom_metric(asked, name):
    trial = ask()
    results = lightgbm.cv(
        {**LGB_PARAMS, "objective": "binary", "metric": "auc"},
        lightgbm.Dataset(X, Y),
        3,
        nfold=3,
        feval=lambda p, data: (name, float(np.mean(p)), False),
        callbacks=[LightGBMPruningCallback(trial, asked.format(name))],
    )
    assert list(curve(trial).values()) == results[f"valid {name}-mean"]


@pytest.mark.parametrize("asked", ["auc", "valid auc", "my valid auc"])
def test_lightgbm_names_of_validation_sets_may_have_spaces(asked):
    trial = ask(direction="maximize")
    lightgbm.train(
        {**LGB_PARAMS, "objective": "binary", "metric": "auc"},
        d := lightgbm.Dataset(X, Y),
        3,
        valid_sets=[d.create_valid(X_VALID, Y_VALID)],
        valid_names=["my valid"],
        callbacks=[LightGBMPruningCallback(trial, asked)],
    )
    assert len(curve(trial)) == 3


def test_lightgbm_cv_of_a_maximised_metric_and_the_training_folds():
    trial = ask(direction="maximize")
    results = lightgbm.cv(
        {**LGB_PARAMS, "objective": "binary", "metric": ["binary_logloss", "auc"]},
        lightgbm.Dataset(X, Y),
        4,
        callbacks=[LightGBMPruningCallback(trial, "train auc-mean", "train")],
        eval_train_metric=True,
    )
    assert list(curve(trial).values()) == results["train auc-mean"]


@pytest.mark.parametrize(
    ("metric", "objective"),
    [
        *((m, "regression") for m in ("mse", "mean_squared_error", "regression", "regression_l2", "l2", "rmse")),
        *((m, "regression") for m in ("l2_root", "root_mean_squared_error", "mae", "regression_l1", "l1", "mape")),
        *((m, "regression") for m in ("mean_absolute_error", "mean_absolute_percentage_error", "huber", "fair")),
        *((m, "binary") for m in ("binary", "binary_logloss", "binary_error", "xentropy", "xentlambda", "kldiv")),
        *((m, "multiclass") for m in ("multiclass", "softmax", "multiclassova", "multi_logloss", "multi_error")),
        *((m, "multiclass") for m in ("multiclass_ova", "ova", "ovr", "auc_mu")),
        *((m, "binary") for m in ("auc", "average_precision", "cross_entropy", "cross_entropy_lambda")),
    ],
)
def test_lightgbm_aliases(metric, objective):
    up = metric in ("auc", "auc_mu", "average_precision")
    trial = ask(direction="maximize" if up else "minimize")
    hook = LightGBMPruningCallback(trial, metric)
    _, log = lgb_train(
        trial, 2, hook, objective=objective, metric=metric, **({"num_class": 2} if "multi" in objective else {})
    )
    (values,) = log.values()
    assert list(curve(trial).values()) == values


@pytest.mark.parametrize("asked", ["ndcg@3", "lambdarank@3", "map@1", "mean_average_precision@1"])
def test_lightgbm_ranker(asked):
    X_rank, y_rank = load_diabetes(return_X_y=True)
    grades, groups = np.digitize(y_rank, [80, 140, 210]), [26] * 17
    trial = ask(direction="maximize")
    model = lightgbm.LGBMRanker(n_estimators=3, n_jobs=1, verbose=-1)
    metric = "map" if asked.startswith("m") else "ndcg"
    model.fit(
        X_rank,
        grades,
        group=groups,
        eval_X=X_rank[26:],
        eval_y=grades[26:],
        eval_group=[groups[1:]],
        eval_metric=metric,
        eval_at=[1, 3],
        callbacks=[LightGBMPruningCallback(trial, asked)],
    )
    assert list(curve(trial).values()) == model.evals_result_["valid_0"][f"{metric}@{asked[-1]}"]


@pytest.mark.parametrize("first_only", [False, True])
def test_lightgbm_with_several_metrics(first_only):
    trial = ask()
    hook = LightGBMPruningCallback(trial, "l1")
    _, log = lgb_train(trial, 8, hook, metric=["l2", "l1"], first_metric_only=first_only, early_stopping_round=2)
    assert list(curve(trial).values()) == log["l1"]
    trial = ask()
    _, log = lgb_train(trial, 8, metric=["l2", "l1"], first_metric_only=first_only)
    assert list(curve(trial).values()) == log["l2"]


@pytest.mark.parametrize("at", [2, 99])
def test_lightgbm_dart(at):
    trial = ask(Stop(at))
    model, log = lgb_train(trial, boosting="dart", objective="binary", early_stopping_round=2)
    assert list(curve(trial).values()) == log["binary_logloss"]
    assert model.current_iteration() == min(at, 4)


@pytest.mark.parametrize("keep", [False, True])
def test_lightgbm_pruned_booster_is_usable(keep, tmp_path):
    trial, d = ask(Stop(2)), lightgbm.Dataset(X, Y)
    model = lightgbm.train(
        LGB_PARAMS,
        d,
        9,
        valid_sets=[d.create_valid(X_VALID, Y_VALID)],
        callbacks=[LightGBMPruningCallback(trial)],
        keep_training_booster=keep,
    )
    assert (model.best_iteration, model.num_trees()) == (2, 2)
    assert model.best_score["valid_0"]["l2"] == curve(trial)[1]
    model.save_model(tmp_path / "model.txt")
    np.testing.assert_allclose(
        lightgbm.Booster(model_file=tmp_path / "model.txt").predict(X_VALID), model.predict(X_VALID)
    )
    assert pickle.loads(pickle.dumps(model)).num_trees() == 2
    if keep:
        model.update()
        assert model.current_iteration() == 3


def machine_worker(rank, ports, params, hook, out):
    """Train on half of the data beside another process."""
    d = lightgbm.Dataset(X[rank::2], Y[rank::2])
    params = {**LGB_PARAMS, "tree_learner": "data", "local_listen_port": ports[rank], **params}
    try:
        lightgbm.train(params, d, 4, valid_sets=[d.create_valid(X_VALID, Y_VALID)], callbacks=[hook])
        out.put("trained")
    except ValueError as error:
        out.put(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("given", ["num_machines", "machines"])
def test_lightgbm_on_several_machines_is_refused(given):
    """Before one of them ends and the other is left alone."""
    trial, sockets = ask(), [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    machines = ",".join(f"127.0.0.1:{port}" for port in ports)
    params = {"machines": machines, **({"num_machines": 2} if given == "num_machines" else {})}
    spawn = multiprocessing.get_context("spawn")
    out = spawn.Queue()
    hook = LightGBMPruningCallback(trial)
    workers = [spawn.Process(target=machine_worker, args=(rank, ports, params, hook, out)) for rank in range(2)]
    for w in workers:
        w.start()
    said = [out.get(timeout=120) for _ in workers]
    for w in workers:
        w.join(30)
    assert all(f"{given}={params[given]!r}, but of several machines one would stop alone" in text for text in said)
    assert not trial.study.trials[0].curves


@pytest.mark.parametrize("params", [{"num_machines": 1}, {"machines": "127.0.0.1:12400", "num_machine": 1}])
def test_lightgbm_on_one_machine(params):
    trial = ask()
    _, log = lgb_train(trial, **params)
    assert list(curve(trial).values()) == log["l2"]


def test_lightgbm_stops_beside_other_callbacks():
    """The hook comes after the recording of metrics and before early stopping, wherever it is listed."""
    trial, log, rates = ask(Stop(2)), {}, [0.1] * 6
    assert LightGBMPruningCallback(trial).order == 25
    d = lightgbm.Dataset(X, Y)
    callbacks = [
        lightgbm.early_stopping(1, verbose=False),
        LightGBMPruningCallback(trial),
        lightgbm.reset_parameter(learning_rate=rates),
        lightgbm.log_evaluation(0),
        lightgbm.record_evaluation(log),
    ]
    lightgbm.train(LGB_PARAMS, d, 6, valid_sets=[d.create_valid(X_VALID, Y_VALID)], callbacks=callbacks)
    assert len(log["valid_0"]["l2"]) == 2


@pytest.mark.parametrize(
    "entries",
    [
        [("training", "auc", 0.9, True), ("v", "auc", 0.8, True), ("v", "l2", 0.1, False)],
        [("train", "auc", 0.9, True, 0.1), ("valid", "auc", 0.8, True, 0.1)],
        [("cv_agg", "train auc", 0.9, True, 0.1), ("cv_agg", "valid auc", 0.8, True, 0.1)],
    ],
    ids=["train", "cv since 4.6", "cv before 4.6"],
)
def test_lightgbm_entries_of_older_versions(entries):
    """Plain tuples, as before 4.7, and the names that ``cv`` gave before 4.6."""
    model = lgb_train(ask(), 1)[0] if len(entries) == 3 else lightgbm.CVBooster()
    env = lightgbm.callback.CallbackEnv(model, {}, 0, 0, 1, entries)
    trial = ask(direction="maximize")
    LightGBMPruningCallback(trial)(env)
    assert curve(trial) == {0: 0.8}
    with pytest.raises(lightgbm.callback.EarlyStopException):
        LightGBMPruningCallback(ask(Stop(1), "maximize"), "auc")(replace(env, end_iteration=9))
