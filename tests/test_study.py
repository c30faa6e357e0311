"""Laws of the loop: ask, report, tell, optimize."""

import copy
import inspect
import itertools
import logging
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space, TrialPruned, TrialState, cli
from inloop.distributions import same
from inloop.events import Event
from inloop.pruners import MedianPruner, NopPruner, Pruner, SuccessiveHalvingPruner, ThresholdPruner
from inloop.reporter import reporter
from inloop.samplers import RandomSampler, Sampler
from inloop.storage import SqliteStorage


class Stop(Pruner):
    """Stops every trial at its ``at``-th report."""

    def __init__(self, at=1):
        self.at = at

    def prune(self, history, trial, stream, since=0):
        return trial.reports >= self.at


def define_by_run(trial):
    kind = trial.suggest_categorical("kind", ["tree", "linear", "net"])
    x = trial.suggest_float("x", -1, 1)
    total = x**2
    if kind == "tree":
        total += trial.suggest_int("depth", 1, 8) / 10
    if kind == "net":
        for i in range(trial.suggest_int("layers", 1, 3)):
            total += trial.suggest_float(f"units{i}", 1e-3, 1, log=True)
    return total


SPACE = Space({"x": Float(-1, 1), "k": Int(1, 5), "c": Categorical(["a", "b"])})


def study(**kwargs):
    return inloop.create_study(**{"sampler": RandomSampler(), "pruner": NopPruner(), "seed": 0, **kwargs})


def shared(tmp_path, **kwargs):
    return study(storage=str(tmp_path / "s.db"), **{"study_name": "s", **kwargs})


# Pruned is pruned


def returns(trial):
    return 0.0


def returns_nan(trial):
    return float("nan")


def returns_none(trial):
    return None


def raises_pruned(trial):
    raise TrialPruned


def raises(trial):
    raise RuntimeError("half-trained model")


@pytest.mark.parametrize("end", [returns, returns_nan, returns_none, raises_pruned, raises])
def test_pruned_is_pruned_whatever_the_objective_does(end):
    s = study(pruner=Stop())

    def objective(trial):
        trial.report(1.0, 0)
        assert trial.should_prune()
        assert trial.pruned
        return end(trial)

    s.optimize(objective, n_trials=3)
    assert [t.state for t in s.trials] == [TrialState.PRUNED] * 3
    assert not any(t.value is not None and end is not returns and end is not returns_nan for t in s.trials)
    with pytest.raises(ValueError, match="No trial is complete"):
        _ = s.best_value


@pytest.mark.parametrize("storage", [None, "study.db"])
def test_steps_end_after_the_step_that_is_pruned(storage, tmp_path):
    study = inloop.create_study(storage=storage and str(tmp_path / storage), pruner=Stop(3), sampler="random", seed=0)
    done = []

    def objective(trial):
        for epoch in trial.steps(iter(range(10))):
            if epoch % 2 == 0:  # steps may report nothing
                trial.report(1.0, epoch)
            done.append((trial.number, epoch))
        with pytest.raises(inloop.TrialPruned, match=r"trial \d is pruned"):
            next(trial.steps(range(10)))
        return 1.0

    study.optimize(objective, 2)
    assert done == [(n, epoch) for n in range(2) for epoch in range(5)]
    assert [t.state.name for t in study.trials] == ["PRUNED"] * 2


def test_steps_to_the_end():
    trial = inloop.create_study(pruner="nop", seed=0).ask()
    assert [trial.report(1.0, i) or i for i in trial.steps(range(4))] == [0, 1, 2, 3]
    for i in trial.steps(range(9)):
        if i == 2:
            break
    assert list(trial.steps(())) == []
    assert not trial.pruned


@pytest.mark.parametrize("told", [{"value": 1.0}, {"state": "failed"}, {"state": "complete"}, {"value": float("nan")}])
def test_tell_after_prune_records_pruned(told):
    s = study(pruner=Stop())
    trial = s.ask()
    trial.report(1.0, 0)
    assert trial.should_prune()
    assert s.tell(trial, **told).state is TrialState.PRUNED


def test_user_may_prune_without_a_pruner():
    s = study()
    s.optimize(raises_pruned, n_trials=1)
    assert s.trials[0].state is TrialState.PRUNED


def test_a_decision_outlives_better_reports():
    s = study(pruner=Stop())
    trial = s.ask()
    trial.report(1.0, 0)
    assert trial.should_prune()
    trial.report(-100.0, 1)
    assert trial.should_prune()
    assert s.tell(trial, -100.0).state is TrialState.PRUNED


# Determinism


@pytest.mark.parametrize("objective", [define_by_run, lambda t: t.params["x"] ** 2])
def test_same_seed_same_trials(objective):
    space = None if objective is define_by_run else SPACE

    def trace(seed):
        s = study(seed=seed, space=space, sampler=None)
        s.optimize(objective, n_trials=30)
        return [(t.params, t.value) for t in s.trials]

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


def test_ask_tell_equals_optimize():
    a, b = study(sampler=None), study(sampler=None)
    a.optimize(define_by_run, n_trials=25)
    for _ in range(25):
        t = b.ask()
        b.tell(t, define_by_run(t))
    assert [t.params for t in a.trials] == [t.params for t in b.trials]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
@pytest.mark.parametrize("space", [None, SPACE])
def test_trials_that_overlap_repeat_themselves_on_a_file(space, sampler, tmp_path):
    """What running trials have taken and reported counts, also where it need not be written yet."""

    def trace(s):
        running, found = [], []
        for i in range(24):
            trial = s.ask()
            value = define_by_run(trial) if space is None else trial.params["x"] ** 2
            for step in range(5):
                trial.report(value + i / 24, step)
            running.append((trial, value))
            if len(running) == 3:  # one of three is asked about in the end
                trial, value = running.pop(0)
                found.append((trial.params, trial.should_prune()))
                s.tell(trial, value)
        return found

    given = {"sampler": sampler, "pruner": SuccessiveHalvingPruner(2), "space": space}
    decided = trace(study(**given))
    assert len({stop for _, stop in decided}) == 2
    assert trace(shared(tmp_path, **given)) == decided


def test_a_late_reader_folds_the_same_history():
    """Proposals come from the log alone: a study loaded half-way goes on as the first would have."""
    storage = inloop.MemoryStorage()
    a = study(storage=storage, study_name="s", sampler=None)
    a.optimize(define_by_run, n_trials=20)
    b = inloop.load_study("s", storage, pruner=NopPruner())
    reference = study(sampler=None)
    reference.optimize(define_by_run, n_trials=30)
    b.optimize(define_by_run, n_trials=10)
    assert [t.params for t in a.trials] == [t.params for t in reference.trials]


# Define-by-run


def layers(trial):
    total = trial.suggest_float("rate", 1e-5, 1, log=True)
    for i in range(trial.suggest_int("layers", 1, 6)):
        total += trial.suggest_float(f"units{i}", 0, 1)
    return total


def test_parameters_that_threads_show_at_once_are_all_in_the_log(tmp_path):
    for seed in range(15):
        s = study(storage=str(tmp_path / "s.db"), study_name=str(seed), seed=seed)
        s.optimize(layers, n_trials=8, n_jobs=2)
        assert [t.params for t in inloop.load_study(str(seed), s._log.storage).trials] == [t.params for t in s.trials]


def test_a_parameter_whose_first_writing_was_interrupted_is_in_the_log(tmp_path):
    class Interrupted(SqliteStorage):
        def exchange(self, study, events, since):
            if any(e.kind == "space" for e in events) and not done:
                done.append(True)
                raise KeyboardInterrupt
            return super().exchange(study, events, since)

    done = []
    s = study(storage=Interrupted(tmp_path / "s.db"), study_name="s")
    with pytest.raises(KeyboardInterrupt):
        s.optimize(define_by_run, n_trials=3)
    s.optimize(define_by_run, n_trials=3)
    again = inloop.load_study("s", str(tmp_path / "s.db"))
    assert [t.params for t in again.trials] == [t.params for t in s.trials]
    assert len(again.best_params) >= 2


def test_the_union_learns_conditions():
    s = study()
    s.optimize(define_by_run, n_trials=60)
    union = s.history.union.space
    assert union is not None
    assert set(union) == {"kind", "x", "depth", "layers", "units0", "units1", "units2"}
    assert union.when["depth"] == {"kind": ("tree",)}
    assert union.when["layers"] == {"kind": ("net",)}
    assert union.when["units2"] == {"layers": (3,)}
    assert union.when["units1"] == {"layers": (2, 3)}
    assert union.names.index("kind") < union.names.index("layers") < union.names.index("units1")


def test_ranges_may_move_and_proposals_stay_inside():
    s = study(sampler=None)

    def objective(trial):
        high = 1 + trial.number % 7
        v = trial.suggest_float("x", -high, high)
        assert -high <= v <= high
        assert trial.suggest_float("x", -high, high) == v
        return v**2

    s.optimize(objective, n_trials=40)
    assert s.history.union.space["x"] == Float(-7, 7)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (lambda t: t.suggest_float("x", 0, 1), lambda t: t.suggest_int("x", 0, 1)),
        (lambda t: t.suggest_float("x", 1, 2), lambda t: t.suggest_float("x", 1, 2, log=True)),
        (lambda t: t.suggest_categorical("x", [1]), lambda t: t.suggest_categorical("x", [2])),
        (lambda t: t.suggest_float("x", 0, 1.6e308), lambda t: t.suggest_float("x", -1.6e308, 0)),
    ],
)
def test_a_parameter_must_stay_what_it_is(first, then):
    s = study()
    s.optimize(first if first(s.ask()) is None else lambda t: float(first(t)), n_trials=1)
    with pytest.raises(ValueError, match="use two names"):
        then(s.ask())


def test_choices_whose_definition_was_run_again_are_told_from_changed_ones():
    def objective(trial, kinds):
        return float(len(trial.suggest_categorical("x", kinds).__name__))

    s = study()
    s.optimize(lambda t: objective(t, [type("Net", (), {}), type("Tree", (), {})]), n_trials=1)
    with pytest.raises(ValueError, match="other objects than before, of the same names"):
        s.optimize(lambda t: objective(t, [type("Net", (), {}), type("Tree", (), {})]), n_trials=1)


LOG = Float(1e-3, 0.1, log=True)
FORMS = {
    "from 0 on, then log": (Float(0, 0.1), LOG),
    "integers from 0 on, then log": (Int(0, 5), Int(1, 8, log=True)),
    "below 0, then log": (Float(-1, 1), Float(1, 2, log=True)),
    "log, then steps": (LOG, Float(0.1, 0.5, step=0.1)),
    "wider than a float": (Float(-1.7e308, 0), Float(0, 1.7e308)),
    "steps no float can count": (Float(0, 1e-290, step=1e-290), Float(1e10, 1e10, step=1e-290)),
    "another type": (Int(0, 5), Categorical(["a", "b"])),
    "fewer choices": (Categorical(["a", "b", "c"]), Categorical(["c"])),
}


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS)
def test_a_parameter_of_two_forms_costs_no_study(forms, turn, tmp_path):
    s = shared(tmp_path)
    for dist in (*forms[::turn], forms[::turn][0]):
        s.tell(s.ask({"p": dist}), 1.0)
    again = inloop.load_study(s.study_name, s._log.storage.path)
    assert [t.params for t in again.trials] == [t.params for t in s.trials]
    assert again.history.union.space == s.history.union.space
    assert again.ask().number == 3


def test_workers_of_two_versions_cost_no_study(tmp_path):
    a, b = shared(tmp_path), inloop.load_study("s", str(tmp_path / "s.db"))
    old, new = a.ask(), b.ask()  # neither can know what the other is about to suggest
    values = [old.suggest_float("lr", 0, 0.1), new.suggest_float("lr", 1e-3, 0.1, log=True)]
    a.tell(old, 1.0)
    b.tell(new, 1.0)
    assert [t.params["lr"] for t in inloop.load_study("s", str(tmp_path / "s.db")).trials] == values


@pytest.mark.parametrize("parent", [FORMS["another type"], FORMS["fewer choices"]], ids=["another type", "fewer"])
def test_a_parent_of_other_choices_switches_nothing_any_more(parent):
    s = study()
    first, then = parent
    on = first.from_unit(1.0)
    space = Space({"p": first, "c": Float(0, 1)}, when={"c": {"p": [on]}})
    for value in (on, first.from_unit(0.0)):
        s.enqueue_trial({"p": value})
        s.tell(s.ask(space), 1.0)
    assert s.history.union.space.when == {"c": {"p": (on,)}}
    s.tell(s.ask({"p": then}), 1.0)
    assert s.history.union.space.when == {}


def test_unhashable_choices():
    choices = [{"a": 1}, [1, 2], np.arange(2), None]
    s = study()
    s.optimize(lambda t: float(any(same(t.suggest_categorical("c", choices), c) for c in choices)), n_trials=20)
    assert {t.value for t in s.trials} == {1.0}


@pytest.mark.parametrize(
    "take", [lambda t: t.params["c"], lambda t: t.suggest_categorical("c", [[1, 2], [3]])], ids=["params", "suggest"]
)
def test_an_objective_may_change_the_list_it_chose(take):
    def objective(trial):
        take(trial).append(0)
        return float(len(take(trial)))

    s = study(space={"c": [[1, 2], [3]]})
    s.optimize(objective, n_trials=10)
    assert {(t.value, *t.params["c"]) for t in s.trials} == {(2.0, 1, 2), (1.0, 3)}
    s.best_params["c"].append(0)
    assert s.best_params == {"c": [3]}


# Enqueue and add


def test_enqueued_trials_come_first_and_are_completed():
    s = study(space=SPACE)
    s.enqueue_trial({"x": 0.25}, {"why": "known good"})
    s.enqueue_trial({"x": -1, "k": np.int64(3), "c": "b"})
    s.optimize(lambda t: t.params["x"], n_trials=3)
    a, b, c = s.trials
    assert a.params["x"] == 0.25
    assert set(a.params) == set(SPACE)
    assert a.user_attrs == {"why": "known good"}
    assert b.params == {"x": -1.0, "k": 3, "c": "b"}
    assert type(b.params["k"]) is int
    assert c.params["x"] not in (0.25, -1.0)


def test_enqueued_parent_decides_the_children():
    space = Space({"p": ["a", "b"], "q": Int(1, 3), "r": Int(1, 3)}, when={"q": {"p": ["a"]}, "r": {"p": ["b"]}})
    s = study(space=space)
    for p in "abab":
        s.enqueue_trial({"p": p})
    s.optimize(lambda t: 0.0, n_trials=4)
    assert [sorted(t.params) for t in s.trials] == [["p", "q"], ["p", "r"]] * 2


def test_enqueue_in_define_by_run():
    s = study()
    s.enqueue_trial({"kind": "net", "layers": 2, "units1": 0.5})
    s.enqueue_trial({"kind": "linear", "nonsense": 1})
    s.enqueue_trial({"x": 99.0})
    s.optimize(define_by_run, n_trials=1)
    assert s.trials[0].params["units1"] == 0.5
    with pytest.warns(UserWarning, match=r"enqueued \['nonsense'\] were not suggested"):
        s.optimize(define_by_run, n_trials=1)
    with pytest.warns(UserWarning, match=r"enqueued x=99.0 lies outside"):
        s.optimize(define_by_run, n_trials=1)


def test_add_trial_teaches_and_counts():
    s = study(space=SPACE, pruner=MedianPruner(n_startup_trials=2))
    for k in range(3):
        s.add_trial({"x": 0.1 * k, "k": 1, "c": "a"}, value=float(k), curve={0: 0.0, 1: float(k)})
    s.add_trial({"x": 0.9}, state="failed")
    s.add_trial({"x": 0.8}, state="pruned", curve={0: 5.0}, user_attrs={"from": "elsewhere"})
    assert (s.best_value, s.best_trial.number) == (0.0, 0)
    trial = s.ask()
    trial.report(9.0, 1)
    assert trial.should_prune()
    assert [t.state.name for t in s.trials] == ["COMPLETE"] * 3 + ["FAILED", "PRUNED", "RUNNING"]


def test_add_trial_does_not_take_an_enqueued_one():
    s = study(space=SPACE)
    s.enqueue_trial({"x": 0.5})
    s.add_trial({"x": 0.1, "k": 1, "c": "a"}, 1.0)
    assert s.ask().params["x"] == 0.5


# Bad input: a clear error, and nothing told is lost

BAD_CALLS = [
    (lambda s: s.enqueue_trial({"y": 1}), ValueError, "unknown parameter 'y'; the space has"),
    (lambda s: s.enqueue_trial({"x": 5}), ValueError, "x=5 lies outside"),
    (lambda s: s.enqueue_trial({"x": "0.5"}), ValueError, "x='0.5' lies outside"),
    (lambda s: s.enqueue_trial([1]), TypeError, "params must be a dict"),
    (lambda s: s.enqueue_trial({}, {"a": {1, 2}}), TypeError, r"user_attrs\['a'\]: set is not JSON"),
    (lambda s: s.add_trial({"x": 0.1}), ValueError, "needs a value"),
    (lambda s: s.add_trial({"x": 0.1}, "good"), TypeError, "value must be one number, got 'good'"),
    (lambda s: s.add_trial({"x": 9.0}, 1.0), ValueError, "x=9.0 lies outside"),
    (lambda s: s.add_trial({"x": 0.1}, 1.0, state="lost"), ValueError, "state must be one of"),
    (lambda s: s.ask_batch(0), ValueError, "n must be at least 1"),
    (lambda s: s.ask({}), ValueError, "at least one"),
    (lambda s: s.tell(99, 1.0), ValueError, "no trial 99; the study has 2 trials"),
    (lambda s: s.tell("0", 1.0), TypeError, "give a trial or its number"),
    (lambda s: s.tell(0, 1.0), ValueError, r"told before \(COMPLETE, value=1.0\); the first tell counts"),
    (lambda s: s.tell(1), ValueError, "a complete trial needs a value"),
    (lambda s: s.tell(1, "x"), TypeError, "must be one number, got 'x' of type str"),
    (lambda s: s.tell(1, [1.0, 2.0]), TypeError, "must be one number"),
    (lambda s: s.tell(1, 1.0, state="done"), ValueError, "state must be one of"),
    (lambda s: s.optimize(None), TypeError, "objective must be callable"),
    (lambda s: s.optimize(returns, n_trials=-1), ValueError, "n_trials must be"),
    (lambda s: s.optimize(returns, n_trials=1, n_jobs=0), ValueError, "n_jobs must be"),
    (lambda s: s.set_user_attr("a", object()), TypeError, r"user_attrs\['a'\]: object is not JSON"),
    (lambda s: s.set_user_attr("a", {"b": [1, {2: 3}]}), TypeError, r"user_attrs\['a'\]\['b'\]\[1\]: JSON keys"),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD_CALLS)
def test_bad_calls_are_named_and_lose_nothing(call, error, text):
    s = study(space=SPACE)
    s.tell(s.ask(), 1.0)
    s.ask()
    before = [(t.state, t.value, t.params) for t in s.trials]
    with pytest.raises(error, match=text):
        call(s)
    assert [(t.state, t.value, t.params) for t in s.trials] == before
    s.tell(1, 0.5)
    assert s.best_value == 0.5


BAD_REPORTS = [
    ((None, 0), TypeError, "must be one number, got None"),
    (("1.0", 0), TypeError, "must be one number, got '1.0'"),
    (([1.0, 2.0], 0), TypeError, "must be one number"),
    ((1.0, 0.5), TypeError, "step must be an integer, got 0.5"),
    ((1.0, True), TypeError, "step must be an integer, got True"),
    ((1.0, -1), ValueError, "step must be at least 0, got -1"),
    ((1.0, 0, "a"), TypeError, "stream must be an integer"),
    ((1.0, 0, -2), ValueError, "stream must be at least 0"),
]


@pytest.mark.parametrize(("args", "error", "text"), BAD_REPORTS)
def test_bad_reports_are_named(args, error, text):
    trial = study().ask()
    trial.report(3.0, 0)
    with pytest.raises(error, match=text):
        trial.report(*args)
    assert trial.study.trials[0].curve == {0: 3.0}


@pytest.mark.parametrize("value", [np.float32(1.5), np.array(1.5), np.array([1.5]), np.int64(1), 1, True])
def test_numbers_of_many_kinds_are_numbers(value):
    trial = study().ask()
    if isinstance(value, np.ndarray) and value.ndim:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(TypeError, match="one number"):
                trial.report(value, np.int32(0))
        return
    trial.report(value, np.int32(0))
    assert type(trial.study.trials[0].curve[0]) is float


@pytest.mark.parametrize("returned", [None, "good", [1.0, 2.0], {"loss": 1}])
def test_an_objective_must_return_a_number(returned):
    s = study()
    with pytest.raises(TypeError, match="objective's return value must be one number"):
        s.optimize(lambda t: returned, n_trials=3)
    assert [t.state for t in s.trials] == [TrialState.FAILED]


def test_nan_fails_the_trial_and_the_study_goes_on():
    s = study()
    with pytest.warns(UserWarning, match="returned NaN; the trial is FAILED"):
        s.optimize(lambda t: float("nan") if t.number % 2 else 1.0, n_trials=4)
    assert [t.state.name for t in s.trials] == ["COMPLETE", "FAILED"] * 2
    assert np.isnan(s.trials[1].value)


def test_an_exception_fails_the_trial_and_is_raised(caplog):
    s = study()
    with pytest.raises(ZeroDivisionError):
        s.optimize(lambda t: 1 / t.number, n_trials=3)
    assert [t.state.name for t in s.trials] == ["FAILED"]
    with caplog.at_level(logging.WARNING, "inloop"), pytest.raises(KeyError):
        s.optimize(lambda t: {1: 1 / (t.number - 1 or 1), 2: 2.0}[t.number], n_trials=5, catch=(ZeroDivisionError,))
    assert [t.state.name for t in s.trials] == ["FAILED", "COMPLETE", "COMPLETE", "FAILED"]
    s.optimize(raises, n_trials=2, catch=RuntimeError)
    assert "half-trained model" in caplog.text
    assert s.history.states[TrialState.FAILED] == 4


def test_an_ended_trial_takes_no_more():
    s = study()
    trial = s.ask()
    s.tell(trial, 1.0)
    for call in (
        lambda: trial.report(1.0, 0),
        lambda: trial.suggest_float("x", 0, 1),
        lambda: trial.set_user_attr("a", 1),
    ):
        with pytest.raises(ValueError, match="trial 0 is COMPLETE"):
            call()


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"direction": "max"}, ValueError, "direction must be 'minimize' or 'maximize', got 'max'"),
        ({"sampler": "tree"}, ValueError, "No sampler named 'tree'; there are"),
        ({"sampler": RandomSampler}, TypeError, "sampler must be"),
        ({"pruner": "best"}, ValueError, "No pruner named 'best'; there are"),
        ({"pruner": 3}, TypeError, "pruner must be"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"seed": 1.5}, ValueError, "seed must be"),
        ({"space": {}}, ValueError, "at least one"),
        ({"storage": 3}, TypeError, "storage must be"),
    ],
)
def test_create_study_names_bad_input(kwargs, error, text):
    with pytest.raises(error, match=text):
        study(**kwargs)


def test_studies_of_one_storage():
    storage = inloop.MemoryStorage()
    s = study(storage=storage, study_name="one", direction="maximize")
    s.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=5)
    with pytest.raises(inloop.StudyExists, match="'one' exists already"):
        study(storage=storage, study_name="one")
    with pytest.raises(ValueError, match="direction is 'maximize', not 'minimize'"):
        study(storage=storage, study_name="one", load_if_exists=True)
    again = study(storage=storage, study_name="one", direction="maximize", load_if_exists=True)
    assert again.best_params == s.best_params
    with pytest.raises(inloop.StudyNotFound, match=r"No study named 'two'; there are \['one'\]"):
        inloop.load_study("two", storage)
    assert inloop.get_all_study_names(storage) == ["one"]
    inloop.delete_study("one", storage)
    assert inloop.get_all_study_names(storage) == []


# Running


def test_stop_from_inside_and_outside():
    s = study()

    def objective(trial):
        if trial.number == 3:
            trial.study.stop()
        return 0.0

    s.optimize(objective, n_trials=10)
    assert len(s.trials) == 4
    with pytest.raises(inloop.StudyStopped, match="was stopped"):
        s.ask()
    s.resume()
    s.ask()


def test_callbacks_see_every_trial_and_may_stop():
    s = study()
    seen = []

    def callback(of, trial):
        seen.append((trial.number, trial.state.name))
        if len(seen) == 5:
            of.stop()

    s.optimize(lambda t: 0.0 if t.number % 2 else raises_pruned(t), callbacks=[callback])
    assert seen == [(0, "PRUNED"), (1, "COMPLETE"), (2, "PRUNED"), (3, "COMPLETE"), (4, "PRUNED")]


def test_timeout_starts_no_more_trials():
    s = study()
    s.optimize(lambda t: time.sleep(0.05) or 0.0, timeout=0.2)
    assert 1 <= len(s.trials) <= 5
    assert s.history.states[TrialState.RUNNING] == 0
    s.optimize(returns, timeout=0)
    assert len(s.trials) <= 5


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_keyboard_interrupt_keeps_all_and_leaves_none_running(n_jobs):
    s = study()
    gate = threading.Event()

    def objective(trial):
        trial.suggest_float("x", 0, 1)
        if trial.number == 5:
            gate.set()
            raise KeyboardInterrupt
        if trial.number > 5 - n_jobs:
            gate.wait(5)
            for step in range(200):
                trial.report(1.0, step)
                if trial.should_prune():
                    raise TrialPruned
                time.sleep(0.01)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        s.optimize(objective, n_trials=50, n_jobs=n_jobs)
    states = s.history.states
    assert states[TrialState.RUNNING] == 0
    assert states[TrialState.COMPLETE] >= 1
    assert len(s.trials) < 20


def test_threads_share_the_study():
    s = study(sampler=None, pruner=MedianPruner())

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(5):
            trial.report(x + step, step)
            if trial.should_prune():
                raise TrialPruned
            time.sleep(0.0005)
        return x

    s.optimize(objective, n_trials=60, n_jobs=4)
    assert [t.number for t in s.trials] == list(range(60))
    assert len({t.params["x"] for t in s.trials}) == 60
    assert s.history.states[TrialState.RUNNING] == 0
    assert s.history.states[TrialState.PRUNED] > 0
    with pytest.raises(ZeroDivisionError):
        s.optimize(lambda t: 1 / 0, n_trials=10, n_jobs=4)
    assert s.history.states[TrialState.RUNNING] == 0


def test_progress_bar(capsys):
    s = study()
    s.optimize(lambda t: float(t.number), n_trials=3, show_progress_bar=True)
    err = capsys.readouterr().err
    assert "3/3" in err
    assert "best=0" in err


def test_ask_batch_is_distinct():
    s = study(space=SPACE, sampler=None)
    trials = s.ask_batch(6)
    assert [t.number for t in trials] == list(range(6))
    assert len({t.params["x"] for t in trials}) == 6


def test_copies_of_a_trial_are_handles_on_it():
    s = study(pruner=Stop(2))
    trial = s.ask()
    for handle in (copy.copy(trial), copy.deepcopy(trial)):
        assert handle.study is s
        assert handle.number == trial.number
    copy.deepcopy(trial).report(1.0, 0)
    copy.copy(trial).report(1.0, 1)
    assert trial.should_prune()
    assert copy.deepcopy(trial).pruned


def test_what_people_see():
    s = study(study_name="demo", direction="maximize", space=SPACE)
    assert repr(s) == "<Study 'demo': maximize, 0 trials, RandomSampler(), NopPruner()>"
    s.optimize(lambda t: 2.0, n_trials=2)
    s.optimize(raises_pruned, n_trials=1)
    assert "3 trials (2 complete, 1 pruned), best 2 at trial 0" in repr(s)
    assert "state=" not in repr(s.best_trial)
    assert "COMPLETE, value=2" in repr(s.best_trial)
    frame = s.trials_dataframe()
    assert list(frame["state"]) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert {"number", "value", "params_x", "params_k", "params_c", "duration", "reports"} <= set(frame)
    assert frame["value"].isna().tolist() == [False, False, True]
    assert len(study().trials_dataframe()) == 0


class Broken(RandomSampler):
    """Fails at its second proposal."""

    def ask(self, space, history, number, rng):
        if number == 1:
            raise RuntimeError("no idea")
        return super().ask(space, history, number, rng)


def test_a_sampler_that_fails_leaves_no_trial_running():
    s = inloop.create_study(space=SPACE, sampler=Broken(), seed=0)
    with pytest.raises(RuntimeError, match="no idea"):
        s.optimize(lambda t: t.params["x"], n_trials=3)
    assert [t.state.name for t in s.trials] == ["COMPLETE", "FAILED"]
    s.optimize(lambda t: t.params["x"], n_trials=1)
    assert s.trials[2].state is TrialState.COMPLETE


class Own(Sampler):
    """Proposes what it is given."""

    def __init__(self, proposal):
        self.proposal = proposal

    def ask(self, space, history, number, rng):
        return self.proposal


GOOD = {"x": 0.5, "k": 1, "c": "a"}
PROPOSALS = {
    "a name too many": ({**GOOD, "note": 1}, ValueError, "Own proposed: unknown parameter 'note'"),
    "outside": ({**GOOD, "x": 5.0}, ValueError, "Own proposed: x=5.0 lies outside"),
    "NaN": ({**GOOD, "x": float("nan")}, ValueError, "Own proposed: x=nan lies outside"),
    "half an integer": ({**GOOD, "k": 1.5}, ValueError, "Own proposed: k=1.5 lies outside"),
    "no choice": ({**GOOD, "c": "z"}, ValueError, "Own proposed: c='z' lies outside"),
    "nothing": (None, TypeError, "must propose a dict of parameters, got None"),
}


@pytest.mark.parametrize("make", [lambda path, **given: study(**given), shared], ids=["memory", "sqlite"])
@pytest.mark.parametrize(("proposal", "error", "text"), PROPOSALS.values(), ids=PROPOSALS)
@pytest.mark.parametrize("declared", [True, False])
def test_what_a_sampler_should_not_propose_fails_its_trial_only(make, proposal, error, text, declared, tmp_path):
    s = make(tmp_path, sampler="random", space=SPACE if declared else None)
    s.tell(s.ask(None if declared else SPACE), 1.0)
    s.sampler = Own(proposal)
    with pytest.raises(error, match=text):
        s.ask()
    again = pickle.loads(pickle.dumps(s))
    assert [t.state.name for t in again.trials] == ["COMPLETE", "FAILED"]
    assert again.trials[1].params == {}


def test_what_a_sampler_proposes_gets_the_types_of_the_space(tmp_path):
    s = shared(tmp_path, space=SPACE)
    s.sampler = Own({"x": np.float32(0.5), "k": 2.0, "c": np.str_("a")})
    params = s.ask().params
    assert params == {"x": 0.5, "k": 2, "c": "a"}
    assert [type(v) for v in params.values()] == [float, int, str]


IMPOSSIBLE = {
    "taken of an unknown space": ("params", ["none", {"x": 0.5}]),
    "taken under an unknown name": ("params", [SPACE.id, {"x": 0.5, "zz": 1}]),
    "taken of no choice": ("params", [SPACE.id, {"x": 0.5, "c": 9}]),
    "taken, a number for a dict": ("params", [SPACE.id, 3]),
    "proposed of an unknown space": ("proposed", ["none", {"x": 0.5}]),
    "proposed of no choice": ("proposed", [SPACE.id, {"x": 0.5, "c": 9}]),
}


@pytest.mark.parametrize(("kind", "data"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_parameters_cost_their_trial_these_only(kind, data, tmp_path, caplog, capsys):
    s = shared(tmp_path, space=SPACE)
    for n in range(2):
        s._log.storage.append("s", [Event("w", 2 * n, "created", -1, [0.0, False, 0.0])])
        s._log.storage.append("s", [Event("w", 2 * n + 1, kind, n, data)])
    assert [(t.params, t.distributions, t.proposed) for t in s.trials] == [({}, {}, {})] * 2
    assert len(caplog.messages) == 1
    assert "trial 0 goes without" in caplog.text
    s.tell(s.ask(), 1.0)
    assert inloop.load_study("s", str(tmp_path / "s.db")).best_trial.number == 2
    assert cli.main(["check", str(tmp_path / "s.db")]) == 1
    assert capsys.readouterr().out.count("makes no sense") == 2


def test_what_is_enqueued_whole_needs_no_sampler():
    space = {"n": inloop.Int(0, 1)}
    s = inloop.create_study(space=space, sampler="auto", seed=0)
    s.optimize(lambda t: t.params["n"], n_trials=10)
    assert len(s.trials) == 2  # all settings were tried
    s.enqueue_trial({"n": 1})
    s.optimize(lambda t: t.params["n"], n_trials=10)
    assert [t.params["n"] for t in s.trials[2:]] == [1]


# What several handles and threads say of one trial


@pytest.mark.parametrize("make", [lambda path: study(), shared], ids=["memory", "sqlite"])
@pytest.mark.parametrize(
    ("runs", "streams"),
    [
        ([(0, range(4)), (0, range(4)), (0, range(4))], [0, 1, 2]),
        ([(0, range(4)), (4, range(4, 6)), (6, range(6, 8))], [0, 0, 0]),
        ([(0, range(9)), (4, range(9, 12)), (4, []), (5, [])], [0, 0, 0, 0]),
        ([(0, range(9)), (0, range(8)), (4, range(8, 12)), (0, range(4)), (3, [])], [0, 1, 1, 2, 2]),
        ([(0, range(4)), (0, range(4)), (4, range(4, 8)), (4, range(4, 8))], [0, 1, 0, 1]),
        ([(1, [4, 8]), (3, [12]), (6, [])], [0, 0, 0]),
        ([(1, [4, 8]), (1, [4, 8]), (9, []), (9, [])], [0, 1, 0, 1]),
        ([(0, range(4)), (9, range(9, 12))], [0, 1]),
        ([(3, range(3, 9)), (3, range(3, 9)), (5, range(5, 9))], [0, 1, 2]),
    ],
    ids=[
        "folds", "goes on", "restored", "folds restored", "folds go on", "counted from 1", "folds counted from 1",
        "after a gap", "models from elsewhere",
    ],
)  # fmt: skip
def test_the_stream_of_a_run(make, runs, streams, tmp_path):
    trial, opened = make(tmp_path).ask(), []
    for first, reported in runs:
        opened.append(trial.open_stream(first))
        for step in reported:
            trial.report(1.0, step, opened[-1])
        trial = pickle.loads(pickle.dumps(trial))
    assert opened == streams


@pytest.mark.parametrize("make", [lambda path: study(), shared], ids=["memory", "sqlite"])
def test_nothing_is_held_that_comes_before_the_last_report(make, tmp_path):
    s = make(tmp_path)
    trial = s.ask()
    for step in (0, 3):
        trial.report(5.0, step)
    trial.hold(99.0, 2, trial.open_stream(2))
    assert s.tell(trial, 1.0).curve == {0: 5.0, 3: 5.0}


@pytest.mark.parametrize("back", [0, 2])
def test_a_restored_run_is_still_pruned(back):
    s = study(pruner=MedianPruner())
    for level in (1.0,) * 8 + (9.0,):
        trial = s.ask()
        stream = trial.open_stream()
        for step in range(4):
            trial.report(5.0, step, stream)
        stream = trial.open_stream(4 - back)
        for step in range(4, 8):
            trial.report(level, step, stream)
        assert trial.should_prune() == (level > 1)
        s.tell(trial, level)
        assert list(trial._record.curves[stream].values) == [5.0] * 4 + [level] * 4


@pytest.mark.parametrize("make", [lambda path: study(), shared], ids=["memory", "sqlite"])
@pytest.mark.parametrize("tell", ["number", "copy", "pickle", "opened twice", "number, opened twice"])
def test_nothing_that_a_handle_said_is_lost_whoever_tells(make, tell, tmp_path):
    s = make(tmp_path)
    trial = s.ask()
    worker = {"copy": copy.copy, "pickle": lambda t: pickle.loads(pickle.dumps(t))}.get(tell, lambda t: t)(trial)
    x = worker.suggest_float("x", 0, 1)
    assert trial.suggest_float("x", 0, 1) == x
    worker.report(1.0, 0)
    if "opened twice" in tell and make is shared:
        s = inloop.load_study(s.study_name, s._log.storage.path)
    s.tell(trial.number if "number" in tell else trial, 2.0)
    frozen = s.trials[0]
    assert (frozen.params, frozen.curve, frozen.value) == ({"x": x}, {0: 1.0}, 2.0)


def begin(path):
    """Take a parameter and report, and let go of the trial and the study."""
    trial = inloop.load_study("s", path).ask()
    trial.report(trial.suggest_float("x", 0, 1), 0)
    return trial.number


@pytest.mark.parametrize("method", ["here", "fork", "forkserver", "spawn"])
def test_nothing_is_lost_where_one_asks_and_another_tells(method, tmp_path):
    path = str(tmp_path / "s.db")
    inloop.create_study(storage=path, study_name="s", sampler="random")
    if method == "here":
        begin(path)
    else:
        script = tmp_path / "script.py"
        script.write_text(
            f"import inloop, multiprocessing\n{inspect.getsource(begin)}\nif __name__ == '__main__':\n"
            f"    child = multiprocessing.get_context({method!r}).Process(target=begin, args=({path!r},))\n"
            "    child.start(), child.join()\n"
        )
        subprocess.run([sys.executable, script], check=True)
    frozen = inloop.load_study("s", path).tell(0, 2.0)
    assert frozen.curve == {0: frozen.params["x"]}


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_silent_trial_said_can_be_seen_soon(gone, tmp_path):
    s = shared(tmp_path)
    others = inloop.load_study("s", str(tmp_path / "s.db"))
    trial = s.ask()
    before = s._log.history.events
    trial.report(trial.suggest_float("x", 0, 1), 0)
    if gone:
        del trial, s
    began = time.monotonic()
    while not others.trials[0].params and time.monotonic() - began < 20:
        time.sleep(0.005)
    assert others.trials[0].curve == {0: others.trials[0].params["x"]}
    assert others._log.history.events == before + 3  # a space, the parameter, the report: no more than once


class SlowStorage(SqliteStorage):
    """As on a slow disk."""

    def exchange(self, study, events, since):
        time.sleep(0.02)
        return super().exchange(study, events, since)


def test_a_thread_that_reports_on_and_on_holds_up_nobody(tmp_path):
    s, over = study(storage=SlowStorage(tmp_path / "s.db")), threading.Event()

    def report():
        trial = s.ask()
        for step in itertools.count():
            trial.report(1.0, step)
            if over.is_set():
                return

    thread = threading.Thread(target=report)
    thread.start()
    slowest, began = 0.0, time.monotonic()
    while time.monotonic() - began < 4:
        start = time.monotonic()
        s.tell(s.ask(), 1.0)
        slowest = max(slowest, time.monotonic() - start)
        time.sleep(0.03)
    over.set()
    thread.join()
    assert slowest < 1.5


def test_two_handles_of_a_study_tell_each_other_s_trials(tmp_path):
    one = shared(tmp_path)
    two = inloop.load_study("s", str(tmp_path / "s.db"))

    def swap(mine, other, trials):
        for trial in trials:
            mine.tell(trial, 1.0)

    pairs = [(one, two, two.ask_batch(40)), (two, one, one.ask_batch(40))]
    for _, _, trials in pairs:
        for trial in trials:
            trial.report(trial.suggest_float("x", 0, 1), 0)
    threads = [threading.Thread(target=swap, args=p, daemon=True) for p in pairs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads)
    assert all(len(t.params) == len(t.curve) == 1 for t in one.trials)


def test_threads_that_report_on_one_trial_lose_nothing(tmp_path):
    s = shared(tmp_path)
    trial = s.ask()

    def reports(stream):
        for step in range(40):
            trial.report(1.0, step, stream)
            trial.should_prune()

    threads = [threading.Thread(target=reports, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    s.tell(trial, 1.0)
    assert [len(c) for c in s.trials[0].curves.values()] == [40] * 6


def test_a_held_report_outlives_an_earlier_one_that_is_written_later(tmp_path):
    for s in (study(), shared(tmp_path)):
        trial = s.ask()
        trial.report(1.0, 3)
        trial.hold(2.0, 4)
        s.tell(trial, 2.0)
        assert s.trials[0].curve == {3: 1.0, 4: 2.0}


# What is refused is refused before it is written


REFUSED = {
    "another study's trial": (ValueError, "of <Study", lambda s, t: s.tell(study().ask(), 1.0)),
    "a negative step of a curve": (ValueError, "at least 0", lambda s, t: s.add_trial({}, 1.0, {-3: 1.0})),
    "half a step": (TypeError, "an integer", lambda s, t: s.add_trial({}, 1.0, {0.5: 1.0})),
    "a held step that is text": (TypeError, "hold: step", lambda s, t: t.hold(1.0, "x")),
    "a held step below 0": (ValueError, "hold: step", lambda s, t: t.hold(1.0, -1)),
    "a first step that is text": (TypeError, "open_stream", lambda s, t: t.open_stream("a")),
    "a key of the study": (TypeError, "keys are strings", lambda s, t: s.set_user_attr(("a", 1), 2)),
    "a key of a trial": (TypeError, "keys are strings", lambda s, t: t.set_user_attr(["a"], 1)),
    "a choice there is not": (ValueError, "'z'", lambda s, t: s.add_trial({"c": "z", "new": 1}, 0.5)),
    "a value no float can hold": (ValueError, "float can hold", lambda s, t: s.tell(t, 10**400)),
    "half a trial": (TypeError, "n_trials", lambda s, t: s.optimize(returns, n_trials=2.5)),
    "a timeout of NaN": (ValueError, "timeout", lambda s, t: s.optimize(returns, timeout=float("nan"))),
    "half a job": (ValueError, "n_jobs", lambda s, t: s.optimize(returns, 1, n_jobs=1.5)),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("make", [lambda path: study(), shared], ids=["memory", "sqlite"])
def test_refused_input_leaves_the_study_as_it_was(make, case, tmp_path):
    error, text, act = REFUSED[case]
    s = make(tmp_path)
    s.optimize(lambda t: float(len(t.suggest_categorical("c", ["a", "b"]))), n_trials=2)
    trial = s.ask()
    trial.report(1.0, 0)
    trial.should_prune()
    before = s._log.history.events
    with pytest.raises(error, match=text):
        act(s, trial)
    again = pickle.loads(pickle.dumps(s))
    assert s._log.history.events == before
    assert [t.state for t in again.trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    assert again.ask().number == 3


def test_values_from_elsewhere_that_later_ranges_do_not_have_are_passed_over(tmp_path):
    s = shared(tmp_path)
    s.add_trial({"c": "old", "n": "many", "lr": "auto"}, 0.5)

    def objective(trial):
        c = trial.suggest_categorical("c", ["a", "b"])
        return len(c) + trial.suggest_int("n", 1, 3) + trial.suggest_float("lr", 1e-2, 1)

    s.optimize(objective, n_trials=30)
    again = inloop.load_study(s.study_name, s._log.storage.path)
    again.optimize(objective, n_trials=1)
    assert set(again.history.union.space.names) == {"c", "n", "lr"}


def test_a_parent_whose_range_grows_keeps_what_it_switches():
    s = study()
    low = [3]

    def objective(trial):
        n = trial.suggest_int("n", low[0], 5)
        return trial.suggest_float("x", 0, 1) if n >= 5 else -float(n)

    s.optimize(objective, n_trials=20)
    low[0] = 1
    s.optimize(objective, n_trials=20)
    assert s.history.union.space.when == {"x": {"n": (5,)}}


def test_a_parent_with_ten_million_levels_switches_nothing():
    s = study()
    s.optimize(lambda t: t.suggest_float("x", 0, 1) if t.suggest_int("n", 1, 4) > 2 else 0.0, n_trials=12)
    cpu = time.process_time()
    s.optimize(lambda t: float(t.suggest_int("n", 1, 10**7)), n_trials=2)
    s.ask()
    assert s.history.union.space.when == {}
    assert time.process_time() - cpu < 5  # it took 11 s a trial


def test_what_an_ask_does_not_take_of_the_enqueued_is_said():
    s = study()
    s.enqueue_trial({"z": 1, "x": 0.25})
    with pytest.warns(UserWarning, match="'z': 1"):
        assert s.ask({"x": Float(0, 1)}).params == {"x": 0.25}


@pytest.mark.parametrize("choice", [(1, 2), ((64, 64), (32, 32)), [(1, 2), [3]], {"sizes": (1, (2,))}], ids=str)
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.filterwarnings("error")
def test_an_enqueued_tuple_survives_the_storage(choice, declared, tmp_path):
    s = shared(tmp_path)
    s.enqueue_trial({"c": choice})
    trial = inloop.load_study(s.study_name, s._log.storage.path)
    trial = trial.ask({"c": [choice, (3,)]} if declared else None)
    assert repr(trial.suggest_categorical("c", [choice, (3,)])) == repr(choice)


def test_a_trial_added_with_nan_is_failed_as_a_told_one_is():
    assert study().add_trial({}, float("nan")).state is TrialState.FAILED


def test_exceptions_to_catch_may_come_in_a_list():
    s = study()
    s.optimize(lambda t: 1 / 0, n_trials=2, catch=[ZeroDivisionError])
    assert [t.state for t in s.trials] == [TrialState.FAILED] * 2


def test_nan_among_the_choices_is_itself():
    s = study()
    s.optimize(lambda t: t.suggest_categorical("c", [float("nan"), 1.0]) == 1.0, n_trials=3)
    assert len(s.trials) == 3


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to threads")
def test_ctrl_c_ends_the_trials_of_other_threads_at_their_next_report():
    s = study()
    reported = threading.Event()

    def objective(trial):
        for step in range(2000):  # 20 s
            trial.report(1.0, step)
            reported.set()
            time.sleep(0.01)
        return 1.0

    def interrupt():
        reported.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # wakes it from its wait

    threading.Thread(target=interrupt).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        s.optimize(objective, n_trials=2, n_jobs=2)
    assert time.monotonic() - start < 10
    assert {t.state for t in s.trials} == {TrialState.FAILED}


@pytest.mark.parametrize("shared", [False, True])
def test_enqueued_parameters_that_are_taken_raise_no_warning(shared, tmp_path):
    study = inloop.create_study(storage=str(tmp_path / "s.db") if shared else None, seed=0)
    study.enqueue_trial({"x": np.float64(0.5), "n": np.int64(3)})
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 9), n_trials=1)
    assert study.best_params == {"x": 0.5, "n": 3}
    study.enqueue_trial({"x": 0.5, "m": 3})
    with pytest.warns(UserWarning, match=r"enqueued \['m'\] were not suggested; the trial has \['x', 'n'\]"):
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 9), n_trials=1)


@pytest.mark.parametrize(
    ("suggest", "values", "text"),
    [
        (
            lambda t: t.suggest_int("a", 16, 100, step=32),
            {16, 48, 80},
            "a: step=32 does not lead from 16 to 100, but to 80",
        ),
        (
            lambda t: t.suggest_float("a", 0, 1, step=0.3),
            {0, 0.3, 0.6, 0.9},
            "a: step=0.3 does not lead from 0 to 1, but to 0.9",
        ),
        (lambda t: t.suggest_float("a", 0, 1, step=0.25), {0, 0.25, 0.5, 0.75, 1}, None),
        (lambda t: t.suggest_float("a", 0.1, 0.7, step=0.1), {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}, None),
        (lambda t: t.suggest_int("a", 0, 12, step=6), {0, 6, 12}, None),
    ],
)
def test_a_step_that_does_not_lead_to_the_end_stops_before_it(suggest, values, text):
    study = inloop.create_study(seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        study.optimize(suggest, n_trials=30)
    assert {round(t.params["a"], 12) for t in study.trials} == values
    told = [str(w.message).rstrip(".") for w in caught if "lead" in str(w.message)]
    assert told == ([] if text is None else [text])


def test_a_batch_ends_with_the_grid():
    study = inloop.create_study(sampler=inloop.samplers.GridSampler({"x": [1, 2, 3]}), seed=0)
    assert sorted(t.suggest_int("x", 1, 3) for t in study.ask_batch(5)) == [1, 2, 3]
    with pytest.raises(inloop.StudyStopped):
        study.ask_batch(5)


# Threads


def relu(x):
    return max(x, 0.0)


def tanh(x):
    return x


def test_threads_go_on_with_choices_that_the_log_has_as_labels(tmp_path):
    def objective(trial):
        return sum(trial.suggest_categorical(f"layer{i}", [relu, tanh]) is relu for i in range(8))

    shared(tmp_path).optimize(objective, n_trials=200)
    for _ in range(8):
        again = inloop.load_study("s", str(tmp_path / "s.db"), sampler="random")
        again.optimize(objective, n_trials=4, n_jobs=4)


def test_threads_that_use_one_trial_get_one_value_of_each_parameter(tmp_path):
    def objective(trial):
        with ThreadPoolExecutor(4) as pool:
            used = set(pool.map(lambda _: (trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 99)), range(4)))
        assert used == {tuple(trial.params.values())}
        return 0.0

    for seed in range(8):
        study(storage=str(tmp_path / "s.db"), study_name=str(seed), sampler=None, seed=seed).optimize(objective, 3)


def test_threads_that_search_side_by_side_may_learn_the_space_at_once():
    def objective(trial):
        for i in range(trial.number % 5):
            trial.suggest_float(f"p{trial.number // 6}_{i}", 0, 1)
        if trial.number % 2:
            trial.suggest_categorical(f"c{trial.number // 6}", ["a", "b"])
        return trial.suggest_float("x", 0, 1)

    for seed in range(4):
        s = study(seed=seed)
        with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
            warnings.simplefilter("ignore")
            for done in [
                pool.submit(lambda s=s: [s.optimize(objective, n_trials=5) for _ in range(8)]) for _ in "1234"
            ]:
                done.result()


@pytest.mark.parametrize("make", [lambda path, **given: study(**given), shared], ids=["memory", "sqlite"])
def test_the_stream_that_a_hook_has_reported_is_judged(make, tmp_path):
    """Another fold of the trial, in another thread, may have reported since."""
    s = make(tmp_path, pruner=ThresholdPruner(upper=1.0))
    trial, said = s.ask(), {}
    folds = [reporter(trial, 0), reporter(trial, 1)]
    for fold in folds:
        fold(0.5, 0)
    with s._log.lock:  # as an ask of another thread has it
        threads = [threading.Thread(target=lambda k=k: said.update({k: folds[k](99.0 - 98.5 * k, 1)})) for k in (0, 1)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert said[0]
    assert s.tell(trial, 0.0).state is TrialState.PRUNED


def test_what_a_fit_holds_is_not_told_when_a_fit_of_another_thread_begins():
    s = study()
    trial = s.ask()
    stream = trial.open_stream()
    trial.report(0.5, 2, stream)
    trial.hold(0.4, 3, stream)
    thread = threading.Thread(target=trial.open_stream)
    thread.start()
    thread.join()
    trial.report(0.3, 5, stream)
    assert dict(s.tell(trial, 0.3).curve) == {2: 0.5, 5: 0.3}


def test_a_study_can_be_shown_while_another_thread_keeps_it_busy():
    s = study()
    with s._log.lock, ThreadPoolExecutor(1) as pool:
        assert pool.submit(repr, s).result(timeout=30) == f"<Study {s.study_name!r}: minimize, busy>"


@pytest.mark.parametrize("make", [lambda path: study(), shared], ids=["memory", "sqlite"])
def test_attributes_are_those_of_the_moment_they_were_given(make, tmp_path):
    s, given = make(tmp_path), [1]
    trial = s.ask()
    trial.set_user_attr("list", given)
    s.set_user_attr("list", given)
    s.enqueue_trial({}, user_attrs={"list": given})
    seen = trial.user_attrs
    given.append(2)
    s.tell(trial, 0.0)
    assert [trial.user_attrs, s.user_attrs, s.ask().user_attrs, seen] == [{"list": [1]}] * 4


def test_what_others_go_through_stays_as_it_is():
    trial = study().ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("a", 1)
    record = trial._record
    for name, value in record.params.items():
        trial.suggest_float(f"{name}{value}", 0, 1)
    for name in record.user_attrs:
        trial.set_user_attr(f"{name}b", 1)
    assert (len(record.params), len(record.user_attrs)) == (2, 2)
