"""Laws of events, the ranking and the fold."""

import math
import random

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space, TrialPruned, TrialState
from inloop import events as event_module
from inloop.events import Event, check_json, from_joined, from_json, to_json
from inloop.history import History, Rungs
from inloop.pruners import SuccessiveHalvingPruner
from inloop.ranking import Losses, Ranking
from inloop.samplers import RandomSampler
from inloop.storage import StorageError


def noisy(trial):
    """An objective with every kind of end."""
    kind = trial.suggest_categorical("kind", ["a", "b", None])
    x = trial.suggest_float("x", 0, 1)
    if kind == "b":
        x += trial.suggest_int("k", 1, 9, log=True)
    for step in range(12):
        trial.report(float("nan") if step == 5 and trial.number % 4 == 0 else x + step, step, stream=trial.number % 2)
        if trial.should_prune():
            raise TrialPruned
    trial.set_user_attr("odd", [float("inf"), {"nested": "ü"}])
    if trial.number % 9 == 8:
        raise RuntimeError("failed")
    return float("inf") if trial.number % 11 == 10 else x


@pytest.fixture
def log():
    storage = inloop.MemoryStorage()
    study = inloop.create_study(
        "maximize", RandomSampler(), SuccessiveHalvingPruner(min_resource=2), storage, "s", seed=1
    )
    study.enqueue_trial({"kind": None, "x": 0.5})
    study.optimize(noisy, n_trials=60, catch=RuntimeError)
    study.ask().suggest_float("x", 0, 1)
    study.set_user_attr("done", True)
    return storage.read("s", 0)


def state_of(history):
    return repr(
        [
            (t.number, t.state, t.value, t.params, t.distributions, t.curves, t.pruned, t.user_attrs, t.queued)
            for t in history.trials
        ]
    ) + repr((history.states, list(history.running), history.best, history.longest, history.user_attrs))


def test_json_replay_gives_the_same_history(log):
    live, replayed = History(), History()
    live.apply(log)
    replayed.apply(from_json(to_json(e)) for e in log)
    assert state_of(live) == state_of(replayed)
    ranks = np.arange(len(live.ranking))
    assert live.ranking.rows(ranks).tolist() == replayed.ranking.rows(ranks).tolist()


LINES = {
    "a report": '["w",1,"report",0,[0,3,0.1]]',
    "tagged": '["w",1,"report",0,[0,3,{"float":"nan"}]]',
    "whole numbers": '["w",1,"r",0,[-0,-0.0,1E5,1e-400,123456789012345678901234567890,18446744073709551616]]',
    "overflow": '["w",1,"r",0,[1e400,-1e999]]',
    "nesting": '["w",1,"r",0,{"a":[null,true,{"b":{}}],"":[[]],"a":2}]',
    "letters": '["\\u00fc\\ud83d\\ude00ü😀",1,"r",0,"\\"\\\\\\/\\n"]',
    "half a pair": '["w",1,"r",0,"\\ud800"]',
    "two": '["w",1,"r",0,1],["w",2,"r",-1,null]',
    "deep": '["w",1,"r",0,' + "[" * 400 + "]" * 400 + "]",
    "too deep": '["w",1,"r",0,' + "[" * 100_000 + "]" * 100_000 + "]",
    "long": '["w",1,"r",0,1,2]',
    "short": '["w",1,"r",0]',
    "float for an int": '["w",1.0,"r",0,1]',
    "bool for an int": '["w",true,"r",0,1]',
    "number for a text": '[7,1,"r",0,1]',
    "torn": '["w",1,"r",0,[1,2',
    "no event": "{}",
    "more": '["w",1,"r",0,1] x',
    "nothing": "",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_both_readers_of_json_say_the_same(line, monkeypatch):
    """With msgspec and without."""
    said = []
    for decoder in (event_module._decoder, lambda: None):
        monkeypatch.setattr(event_module, "_decoder", decoder)
        try:
            said.append(repr(from_joined(line, line.count('"r') or 1)))
        except ValueError as error:
            said.append(type(error).__name__)
    assert event_module._decoder() is None
    assert said[0] == said[1]


def test_both_readers_of_json_read_the_same_floats(monkeypatch):
    pytest.importorskip("msgspec")
    bits = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64).view(np.float64)
    values = [float(v) for v in bits if math.isfinite(v)] + [5e-324, 2.2250738585072011e-308, 1.7976931348623157e308]
    text = ",".join(to_json(Event("w", i, "report", 0, [0, i, v])) for i, v in enumerate(values))
    read = [e.data[2].hex() for e in from_joined(text, len(values))]
    assert read == [v.hex() for v in values]
    monkeypatch.setattr(event_module, "_decoder", lambda: None)
    assert read == [e.data[2].hex() for e in from_joined(text, len(values))]


def test_the_fold_does_not_depend_on_how_the_log_is_cut(log):
    whole, pieces = History(), History()
    whole.apply(log)
    rng = random.Random(0)
    at = 0
    space = Space({"x": Float(0, 1), "kind": Categorical(["a", "b", None]), "k": Int(1, 9, log=True)})
    while at < len(log):
        n = rng.randrange(1, 30)
        pieces.apply(log[at : at + n])
        at += n
        # questions in between build the lazy parts early
        _ = pieces.finals[0][3], pieces.rungs(0, Rungs((2, 6))), pieces.union.space, pieces.encoded(space).units
    assert state_of(whole) == state_of(pieces)
    assert np.array_equal(whole.encoded(space).units, pieces.encoded(space).units, equal_nan=True)
    assert whole.union.space == pieces.union.space
    for step in range(12):
        a, b = whole.finals[0][step], pieces.finals[0][step]
        complete = [t.curve for t in whole.trials if t.state is TrialState.COMPLETE and 0 in t.curves]
        known = sorted(math.inf if c[step] != c[step] else -c[step] for c in complete if step in c)
        assert [a.kth(k) for k in range(len(a))] == known
        assert [a.kth(k) for k in range(len(a))] == [b.kth(k) for k in range(len(b))]
    assert whole.rungs(0, Rungs((2, 6))).reached == pieces.rungs(0, Rungs((2, 6))).reached


def test_events_are_json_with_unique_ids(log):
    assert len({e.uid for e in log}) == len(log)
    for e in log:
        assert "NaN" not in to_json(e)
        assert "Infinity" not in to_json(e)
        check_json(e.data)


def test_unknown_kinds_are_counted_and_passed_over(log):
    plain, mixed = History(), History()
    plain.apply(log)
    strange = [Event("w", k, "from-the-future", k % 7 - 1, {"x": k}) for k in range(len(log))]
    mixed.apply(e for pair in zip(log, strange, strict=True) for e in pair)
    assert mixed.unknown == {"from-the-future": len(log)}
    assert state_of(plain) == state_of(mixed)


def test_first_report_and_first_finish_count():
    h = History()
    h.apply(
        [
            Event("w", 0, "study", -1, {"direction": "minimize", "seed": 0}),
            Event("w", 1, "created", -1, (0.0, True, 0.0)),
            Event("w", 2, "report", 0, (0, 3, 1.0)),
            Event("v", 1, "report", 0, (0, 3, 9.0)),
            Event("v", 2, "finished", 0, ("COMPLETE", 2.0, 1.0)),
            Event("w", 3, "finished", 0, ("FAILED", None, 2.0)),
        ]
    )
    assert h.trials[0].curve == {3: 1.0}
    assert (h.trials[0].state, h.trials[0].value) == (TrialState.COMPLETE, 2.0)
    assert h.states == {TrialState.RUNNING: 0, TrialState.COMPLETE: 1}


def test_ranking_is_a_sorted_list():
    rng = random.Random(0)
    ranking, plain = Ranking(), []
    for row in range(4000):
        tier = rng.choice([0.0, 1.5, 3.0])
        loss = rng.choice([rng.random(), round(rng.random(), 1), math.inf, -math.inf, math.nan])
        ranking.add(row, loss, tier)
        plain.append((tier, math.inf if loss != loss else loss, row))
        if row % 41 == 0 and not 1000 < row < 2500:  # then many at once
            plain.sort()
            k = rng.randrange(len(plain))
            assert ranking.kth(k) == plain[k][1]
            ranks = np.unique(np.linspace(0, len(plain) - 1, 60).astype(int))
            assert ranking.rows(ranks).tolist() == [plain[r][2] for r in ranks]


@pytest.mark.parametrize("start", [0, 1000])
def test_a_rung_averages_the_reports_of_its_last_steps(start):
    rng = random.Random(start)
    rungs = Rungs((3, 9, 27, 81), 0.25, None, start)
    for _ in range(50):
        steps = sorted(rng.sample(range(start, start + 120), rng.randrange(2, 120)))
        values = [rng.random() for _ in steps]
        h = History()
        h.apply([Event("w", 0, "created", -1, (0.0, False, 0.0))])
        h.apply(Event("w", n, "report", 0, (0, s, v)) for n, (s, v) in enumerate(zip(steps, values, strict=True)))
        reached = h.rungs(0, rungs).reached.get(0)
        rung = max((k for k, r in enumerate(rungs.steps) if steps[-1] - start >= r), default=None)
        assert (reached and reached.rung) == rung
        if reached is not None:
            at = next(s for s in steps if s - start >= rungs.steps[rung])
            last = [v for s, v in zip(steps, values, strict=True) if at - (at - start) // 4 <= s <= at]
            assert (reached.loss, reached.averaged) == (pytest.approx(sum(last) / len(last)), len(last))


ORDERS = {
    "ascending": list(range(60)),
    "descending": list(range(59, -1, -1)),
    "shuffled": random.Random(0).sample(range(60), 60),
    "with gaps": list(range(0, 60, 3)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_curve_finds_its_steps(order):
    steps = ORDERS[order]
    h = History()
    h.apply([Event("w", 0, "created", -1, (0.0, False, 0.0))])
    for n, step in enumerate(steps + steps[:7]):  # the first report of a step counts
        h.apply([Event("w", n + 1, "report", 0, (0, step, float(n)))])
    curve = h.trials[0].curves[0]
    assert curve.steps == steps
    assert curve.values == list(map(float, range(len(steps))))
    assert [curve.place(s) for s in range(-1, 62)] == [steps.index(s) if s in steps else None for s in range(-1, 62)]


def test_losses_are_a_sorted_list():
    rng = random.Random(0)
    losses, plain = Losses(), []
    for n in range(9000):
        loss = rng.choice([rng.random(), round(rng.random(), 1), math.inf, -math.inf, math.nan])
        losses.add(loss)
        plain.append(math.inf if loss != loss else loss)
        if n % 97 == 0:
            plain.sort()
            assert len(losses) == len(plain)
            assert [losses.kth(k) for k in range(0, n + 1, 7)] == plain[::7]
            loss = math.inf if loss != loss else loss
            assert losses.below(loss) == sum(p < loss for p in plain)
            assert [losses.has_place(loss, k) for k in range(0, n + 1, 7)] == [loss <= p for p in plain[::7]]


def test_ranking_of_trials_is_complete_then_pruned_then_failed(log):
    h = History()
    h.apply(log)
    rows = h.ranking.rows(np.arange(len(h.ranking)))
    order = [h.trials[r] for r in rows]
    states = [t.state for t in order]
    assert states == sorted(states)
    assert len(order) == len(h.trials) - 1  # one is running
    complete = [-t.value for t in order if t.state is TrialState.COMPLETE]
    assert complete == sorted(complete)
    assert h.best is not None
    assert h.best.value == max(t.value for t in order if t.state is TrialState.COMPLETE)
    pruned = [(-t.reports, math.inf if t.last[2] != t.last[2] else -t.last[2]) for t in order if t.state == 2]
    assert pruned == sorted(pruned)


def test_check_json_names_the_place():
    check_json({"a": [1, 2.5, None, True, "x", {"b": (1, 2)}]})
    with pytest.raises(TypeError, match=r"attrs\['a'\]\[1\]: ndarray is not JSON"):
        check_json({"a": [1, np.zeros(2)]}, "attrs")


SENSELESS = {
    "unknown state": ["finished", 0, ["COMPLEXE", 1.0, 0.0]],
    "text for a value": ["finished", 0, ["COMPLETE", "x", 0.0]],  # half of it is folded in before that is noticed
    "too short": ["report", 0, [0, 3]],
    "no such trial": ["report", 9, [0, 3, 0.5]],
    "number for a dict": ["space", -1, 3],
}


@pytest.mark.parametrize("event", SENSELESS.values(), ids=SENSELESS)
def test_an_event_that_makes_no_sense_is_named_at_every_look(event):
    storage = inloop.MemoryStorage()
    study = inloop.create_study(storage=storage, study_name="s", sampler="random", seed=0)
    study.ask()
    reader = inloop.load_study("s", storage)
    at = storage.append("s", [Event("w", 0, *event)])
    for n in range(3):
        with pytest.raises(StorageError, match=rf"study 's' makes no sense: event {at} is .*{event[0]!r}"):
            _ = reader.trials
        storage.append("s", [Event("v", n, "beat", -1, None)])
