"""Laws of terminators: what ends a study."""

import copy
import datetime
import math
import pickle
import warnings

import inloop
import pytest
from inloop import Float, Int, MemoryStorage, terminators
from inloop.terminators import Deadline, NoImprovement, SmallImprovement, SmallRegret, TargetValue

TERMINATORS = [
    TargetValue(0.5),
    Deadline(0),
    Deadline(datetime.timedelta(hours=1)),
    Deadline(datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)),
    NoImprovement(5),
    NoImprovement(5, tolerance=0.1),
    SmallImprovement(0.01, n_trials=6),
    SmallRegret(0.1, n_trials=6),
    SmallRegret(n_trials=6),
]
every = pytest.mark.parametrize("end", TERMINATORS, ids=repr)
SPACE = inloop.Space(
    {"m": ["a", "b"], "x": Float(0, 1), "k": Int(1, 9), "w": Float(1e-3, 1, log=True)}, when={"w": {"m": ["b"]}}
)


def a_study(direction="minimize", space=SPACE, **options):
    return inloop.create_study(direction=direction, space=space, seed=0, pruner="nop", **options)


def bowl(trial):
    return (trial.params["x"] - 0.3) ** 2 + 0.01 * trial.params["k"]


@every
def test_a_terminator_shows_what_it_was_made_with_and_travels(end):
    names = {**vars(terminators), "datetime": datetime}
    assert eval(repr(end), names) == end
    assert pickle.loads(pickle.dumps(end)) == copy.deepcopy(end) == end


@every
@pytest.mark.parametrize("states", [(), ("failed",), ("pruned",), ("running",), ("nan",), ("infinite",)])
def test_any_history_is_survived(end, states):
    study = a_study()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(12):
            trial = study.ask()
            how = states[i % len(states)] if states and i % 2 else None
            for fold in range(3):
                trial.report(0.1 * fold, fold, stream=1)
            if how == "nan":
                study.tell(trial, math.nan)
            elif how == "infinite":
                study.tell(trial, math.inf if i % 4 == 1 else -math.inf)
            elif how != "running":
                study.tell(trial, bowl(trial), state=how)
            end.why(study)


@every
def test_nothing_is_asked_of_an_empty_study(end):
    study = a_study(space=None)
    assert end.why(study) is None or isinstance(end.at, datetime.datetime)


@pytest.mark.parametrize("sign", [1, -1])
def test_target_value(sign):
    study = a_study("minimize" if sign > 0 else "maximize")
    values = iter([3.0, 2.0, 1.5, 1.0, 0.5])
    study.optimize(lambda t: sign * next(values), n_trials=5, callbacks=[TargetValue(sign * 1.5)])
    assert [t.value for t in study.trials] == [sign * 3.0, sign * 2.0, sign * 1.5]


def test_deadlines():
    now = datetime.datetime.now()
    for at, over in [
        (now - datetime.timedelta(seconds=1), True),
        (now + datetime.timedelta(hours=1), False),
        (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1), False),
        (0, True),
        (3600.0, False),
        (datetime.timedelta(0), True),
    ]:
        study = a_study()
        study.optimize(bowl, n_trials=3, callbacks=[Deadline(at)])
        assert len(study.trials) == (1 if over else 3)


def test_a_deadline_counts_from_the_first_trial_of_all():
    storage = MemoryStorage()
    a_study(storage=storage, study_name="s").optimize(bowl, n_trials=1)
    started = inloop.load_study("s", storage).trials[0].datetime_start
    again = inloop.load_study("s", storage)
    elapsed = (datetime.datetime.now() - started).total_seconds()
    assert Deadline(elapsed / 2).why(again) is not None
    assert Deadline(elapsed + 3600).why(again) is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("tolerance", "values", "length"),
    [
        (0.0, [5, 4, 4, 4, 4, 1], 5),
        (0.0, [5, 4, 4, 4, 3, 3, 3, 3], 8),
        (0.5, [5, 4.9, 4.8, 4.7, 4.4, 4.4, 1, 1, 1, 1], 4),  # not better by enough than the last one that counted
        (0.5, [5, 4.9, 4.8, 4.4, 4.4, 4.4, 4.4], 7),
    ],
)
def test_no_improvement(sign, tolerance, values, length):
    study = a_study("minimize" if sign > 0 else "maximize")
    given = iter(values)
    study.optimize(
        lambda t: sign * next(given), n_trials=len(values), callbacks=[NoImprovement(3, tolerance=tolerance)]
    )
    assert len(study.trials) == length


def test_no_improvement_counts_pruned_trials_and_passes_over_failed_ones():
    study = a_study()
    end = NoImprovement(4)
    for state in ("pruned", "failed", None, "failed", "pruned", "pruned", None, "failed"):
        assert end.why(study) is None
        study.tell(study.ask(), 1.0, state=state)
    assert end.why(study) is None
    study.tell(study.ask(), 2.0)
    assert end.why(study) is not None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_small_improvement_ends_near_the_optimum(direction):
    sign = 1 if direction == "minimize" else -1
    study = a_study(direction)
    study.optimize(lambda t: 100 * sign * bowl(t), n_trials=150, callbacks=[SmallImprovement(0.1)])
    assert 20 <= len(study.trials) < 150
    assert abs(study.best_value - sign) < 0.2


def test_small_improvement_is_of_the_values_scale():
    lengths = []
    for scale in (1.0, 1000.0):
        study = a_study()
        study.optimize(lambda t, s=scale: s * bowl(t), n_trials=150, callbacks=[SmallImprovement(1e-3 * scale)])
        lengths.append(len(study.trials))
    assert lengths[0] == lengths[1]


def folds(trial, spread, sign=1):
    """Report fold scores that differ by as much; their mean is the value."""
    value = sign * bowl(trial)
    for fold in range(5):
        trial.report(value + spread * (fold - 2), fold, stream=1)
    return value


@pytest.mark.parametrize("sign", [1, -1])
def test_small_regret_ends_earlier_where_folds_differ_more(sign):
    lengths = []
    for spread in (0.2, 0.02):
        study = a_study("minimize" if sign > 0 else "maximize")
        study.optimize(lambda t, s=spread: folds(t, s, sign), n_trials=80, callbacks=[SmallRegret(n_trials=10)])
        lengths.append(len(study.trials))
        assert bowl(study.best_trial) - 0.01 < spread
    assert lengths[0] < lengths[1] < 80


def test_the_regret_bound_falls_and_holds():
    study = a_study()
    bounds = []
    for _ in range(40):
        trial = study.ask()
        study.tell(trial, bowl(trial))
        model = terminators._Model.of(study, 10)
        if model is not None:
            bounds.append(model.regret())
            assert bounds[-1] > study.best_value - 0.01 - 1e-3
    assert bounds[-1] < 0.1 * bounds[0]


def test_folds_that_nobody_reported_are_named():
    study = a_study()
    with pytest.raises(ValueError, match=r"stream=1\)"):
        study.optimize(bowl, n_trials=20, callbacks=[SmallRegret(n_trials=5)])


def test_threads_share_a_terminator():
    study = a_study()
    study.optimize(bowl, n_trials=60, n_jobs=3, callbacks=[NoImprovement(10), SmallImprovement(1e-3, n_trials=10)])
    assert 10 < len(study.trials) < 60


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TargetValue(math.nan), "NaN"),
        (lambda: Deadline("noon"), "'noon'"),
        (lambda: Deadline(-1), "-1"),
        (lambda: Deadline(math.nan), "nan"),
        (lambda: NoImprovement(0), "n_trials"),
        (lambda: NoImprovement(3, tolerance=-1), "tolerance"),
        (lambda: SmallImprovement(0), "tolerance"),
        (lambda: SmallRegret(-1), "tolerance"),
        (lambda: SmallRegret(n_trials=0), "n_trials"),
    ],
)
def test_settings_that_are_wrong_are_named(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()
