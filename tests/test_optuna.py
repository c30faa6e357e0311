"""Laws of Optuna studies with inloop's samplers and pruners, and of studies moved from one to the other."""

import concurrent.futures
import copy
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space
from inloop.pruners import BanditPruner, HyperbandPruner, MedianPruner, PercentilePruner, SuccessiveHalvingPruner
from inloop.samplers import GridSampler

optuna = pytest.importorskip("optuna")
from inloop.integrations.optuna import Pruner, Sampler, from_optuna_study, to_optuna_study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)
samplers = pytest.mark.parametrize("name", ["auto", "gp", "tpe", "qmc", "random"])


class Watched(Sampler):
    """Keeps what was proposed jointly and what was not."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.joint = {}
        self.alone = []

    def sample_relative(self, study, trial, search_space):
        values = super().sample_relative(study, trial, search_space)
        for name, value in values.items():
            dist = search_space[name]
            assert dist._contains(dist.to_internal_repr(value)), (name, value, dist)
        self.joint[trial.number] = values
        return values

    def sample_independent(self, study, trial, name, dist):
        value = super().sample_independent(study, trial, name, dist)
        assert dist._contains(dist.to_internal_repr(value)), (name, value, dist)
        self.alone.append((trial.number, name))
        return value


def flat(trial):
    x = trial.suggest_float("x", -5, 5)
    k = trial.suggest_int("k", 1, 10_000, log=True)
    c = trial.suggest_categorical("c", ["a", None, 3, True])
    s = trial.suggest_float("s", 0, 1, step=0.1)
    j = trial.suggest_int("j", 0, 98, step=7)
    w = trial.suggest_float("w", 1e-7, 1e2, log=True)
    return (x - 2) ** 2 + (math.log10(k) - 1) ** 2 + (c is not None) + s + abs(j - 49) / 50 + abs(math.log10(w) + 3)


def conditional(trial):
    c = trial.suggest_float("c", 1e-3, 1e3, log=True)
    if trial.suggest_categorical("model", ["linear", "net"]) == "linear":
        return abs(math.log10(c)) + 1
    widths = [trial.suggest_int(f"width{i}", 4, 64) for i in range(trial.suggest_int("layers", 1, 3))]
    return abs(math.log10(c)) + abs(sum(widths) - 40) / 64


def moving(trial):
    """Ranges and steps that change from trial to trial."""
    n = trial.number
    x = trial.suggest_float("x", 0.1 + 0.01 * n, 1.0 + 0.013 * n, log=True)
    k = trial.suggest_int("k", n % 5, 20 + n % 7)
    s = trial.suggest_float("s", 0, 1, step=0.1 if n % 2 else 0.25)
    return x + k + s


OBJECTIVES = [flat, conditional, moving]


@samplers
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_values_lie_inside_and_are_proposed_jointly(name, objective, direction):
    sampler = Watched(name, seed=1)
    study = optuna.create_study(sampler=sampler, direction=direction)
    study.optimize(objective, n_trials=30)
    for trial in study.trials:
        assert trial.state is TrialState.COMPLETE
        taken = [n for n, v in sampler.joint[trial.number].items() if trial.params.get(n) == v]
        if trial.number and objective is flat:
            assert set(taken) == set(trial.params)
    if objective is conditional:
        late = [n for n, _ in sampler.alone if n > 15]
        assert len(late) <= 3  # a rare branch may be new


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_seed_decides(objective):
    def params(seed, **options):
        study = optuna.create_study(sampler=Sampler(seed=seed), **options)
        study.optimize(objective, n_trials=15)
        return [t.params for t in study.trials]

    assert params(3) == params(3) != params(4)
    assert params(None, study_name="s") == params(None, study_name="s")


def test_the_seed_decides_in_every_process():
    code = """if True:
        import optuna
        from inloop.integrations.optuna import Sampler

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=Sampler(seed=0))
        study.optimize(lambda t: sum(t.suggest_float(name, -5, 5) ** 2 for name in ("ab", "cd", "ef")), n_trials=8)
        print([trial.params for trial in study.trials])
        """
    run = [sys.executable, "-c", code]
    said = [subprocess.check_output(run, env={**os.environ, "PYTHONHASHSEED": seed}) for seed in "0123"]
    assert len(set(said)) == 1


@pytest.mark.parametrize("choices", [["a", "a", "b", "c"], [0, False, None, 1, True], ["z", "y", "z", "y", "x"]])
def test_choices_given_twice_are_seen_as_they_are(choices):
    study = optuna.create_study(sampler=Sampler(seed=0))
    study.optimize(
        lambda t: choices.index(t.suggest_categorical("k", choices)) + t.suggest_float("x", 0, 1), n_trials=9
    )
    with study.sampler._mirrors.of(study, 0, update=True) as mirror:
        assert [t.params for t in mirror.history.trials] == [t.params for t in study.trials]


def test_the_model_beats_random():
    def best(sampler, seed):
        study = optuna.create_study(sampler=sampler(seed=seed))
        study.optimize(flat, n_trials=40)
        return study.best_value

    ours = [best(Sampler, s) for s in range(5)]
    random = [best(optuna.samplers.RandomSampler, s) for s in range(5)]
    assert np.median(ours) < 0.4 * np.median(random)


def test_an_existing_study_is_gone_on_with():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), study_name="s")
    study.optimize(flat, n_trials=30)
    before = study.best_value
    study.sampler = sampler = Watched(seed=0)
    study.optimize(flat, n_trials=25)
    assert not sampler.alone  # nothing is new
    assert study.best_value < before


@samplers
def test_trials_that_fail_or_are_pruned_are_survived(name):
    def objective(trial):
        value = conditional(trial)
        trial.report(value, 1)
        if trial.number % 5 == 1:
            raise ValueError
        if trial.number % 5 == 2:
            raise optuna.TrialPruned
        return math.nan if trial.number % 5 == 3 else math.inf if trial.number % 5 == 4 else value

    study = optuna.create_study(sampler=Watched(name, seed=0))
    study.optimize(objective, n_trials=30, catch=(ValueError,))
    assert len(study.trials) == 30


def test_enqueued_fixed_and_single_values():
    study = optuna.create_study(sampler=Watched(seed=0))
    study.optimize(flat, n_trials=8)
    study.enqueue_trial({"x": 1.25, "c": None})
    study.optimize(flat, n_trials=1)
    assert study.trials[8].params["x"] == 1.25
    dists = {"x": FloatDistribution(-5, 5), "one": CategoricalDistribution(["only"]), "two": IntDistribution(2, 2)}
    for _ in range(8):
        trial = study.ask(dists)
        study.tell(trial, trial.params["x"] ** 2)
    assert trial.params["one"] == "only"


def test_ranges_wider_than_a_float():
    study = optuna.create_study(sampler=Watched(seed=0))
    study.optimize(lambda t: abs(t.suggest_float("x", -1e308, 1e308)) + t.suggest_float("y", 0, 1), n_trials=12)
    assert len({t.params["x"] for t in study.trials}) == 12
    with pytest.raises(ValueError, match="'x' must be finite"):
        study.optimize(lambda t: t.suggest_float("x", 0, math.inf), n_trials=1)


def limited(trial):
    """Has its best values where a constraint is broken."""
    x = trial.suggest_float("x", 0, 1)
    trial.set_constraint("x", x - 0.3)
    return -x


def test_a_broken_constraint_is_a_failure():
    study = optuna.create_study(sampler=Watched(seed=0))
    study.optimize(limited, n_trials=40)
    late = [t.params["x"] for t in study.trials[20:]]
    assert sum(x < 0.45 for x in late) > 14  # the best ones lie where the constraint begins, at 0.3
    assert study.best_value < -0.28
    with pytest.warns(UserWarning, match="breaks a constraint"):
        ours = from_optuna_study(study)
    assert ours.best_value == study.best_value
    assert len(ours.trials) == 40


def test_running_trials_are_not_proposed_again():
    study = optuna.create_study(sampler=Sampler(seed=0))
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=10)
    running = [study.ask() for _ in range(8)]
    points = [t.suggest_float("x", 0, 1) for t in running]
    assert len(set(points)) == 8


def test_integers_beyond_floats():
    study = optuna.create_study(sampler=Watched(seed=0))
    study.optimize(lambda t: t.suggest_int("big", 0, 2**60) / 2**60 + t.suggest_float("x", 0, 1), n_trials=15)
    assert len({t.params["big"] for t in study.trials}) == 15


def test_choices_that_are_not_equal_to_themselves():
    study = optuna.create_study(sampler=Watched(seed=0))
    study.optimize(lambda t: float(math.isnan(t.suggest_categorical("c", [math.nan, 1.0, 2.0]))), n_trials=15)
    assert len(study.trials) == 15


def test_several_objectives_are_refused():
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=Sampler())
    with pytest.raises(ValueError, match="one objective"):
        study.optimize(lambda t: (t.suggest_float("x", 0, 1), 0.0), n_trials=1)
    with pytest.raises(ValueError, match="one objective"):
        from_optuna_study(study)


def test_a_grid_ends_the_study():
    grid = GridSampler({"c": ["a", "b", "c"], "k": [1, 2, 3, 4]})
    study = optuna.create_study(sampler=Sampler(grid, seed=0))
    study.optimize(
        lambda t: t.suggest_int("k", 1, 9) + (t.suggest_categorical("c", ["a", "b", "c"]) == "a"), timeout=60
    )
    assert len({tuple(t.params.values()) for t in study.trials}) == len(study.trials) == 12


def test_optunas_hyperband_hands_out_parts_of_the_study():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(10):
            trial.report(x + 1 / (1 + step), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(sampler=Watched(seed=0), pruner=pruner, study_name="s")
    study.optimize(objective, n_trials=40)
    assert study.best_value < 0.05


def test_they_travel_and_show_what_they_are():
    for thing, text in [
        (Sampler(), "Sampler(AutoSampler())"),
        (Sampler("tpe", seed=3), "Sampler(TPESampler(), seed=3)"),
        (Pruner("median"), "Pruner(MedianPruner())"),
    ]:
        study = optuna.create_study(**{"sampler" if isinstance(thing, Sampler) else "pruner": thing})
        study.optimize(conditional, n_trials=3)
        assert repr(thing) == repr(pickle.loads(pickle.dumps(thing))) == repr(copy.deepcopy(thing)) == text
        again = pickle.loads(pickle.dumps(study))
        again.optimize(conditional, n_trials=3)
        assert len(again.trials) == 6


def test_threads():
    study = optuna.create_study(sampler=Watched(seed=0), pruner=Pruner())
    study.optimize(conditional, n_trials=40, n_jobs=4)
    assert len(study.trials) == 40
    assert all(t.state is TrialState.COMPLETE for t in study.trials)


def shared(storage):
    """Return a storage to share; SQLite's default of 5 s is too short for a busy disk and two writers."""
    if isinstance(storage, str):
        return optuna.storages.RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": 100}})
    return storage


def work(storage):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="s", storage=shared(storage), sampler=Watched(seed=0), pruner=Pruner("median"))
    study.optimize(curved, n_trials=12)


def curved(trial):
    value = conditional(trial)
    for step in range(4):
        trial.report(value + 1 / (1 + step), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return value


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rdb", "journal"])
def test_workers_of_one_storage(kind, tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    if kind == "journal":
        backend = optuna.storages.journal.JournalFileBackend(f"{tmp_path}/journal")
        storage = optuna.storages.JournalStorage(backend)
    optuna.create_study(study_name="s", storage=shared(storage))
    context = multiprocessing.get_context("fork" if kind == "journal" else "spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:  # it brings a worker's error here
        for done in [pool.submit(work, storage) for _ in range(2)]:
            done.result(300)
    study = optuna.load_study(study_name="s", storage=shared(storage), sampler=Watched(seed=0))
    assert len(study.trials) == 24
    # of equal seeds; two that ask at one moment do not see each other, and may both be sent to the same corner
    assert len({repr(sorted(t.params.items())) for t in study.trials}) >= 20
    study.optimize(curved, n_trials=3)


# Pruners

PRUNERS = [
    MedianPruner(n_startup_trials=2),
    PercentilePruner(30.0, n_startup_trials=2, interval_steps=2),
    SuccessiveHalvingPruner(min_resource=1),
    SuccessiveHalvingPruner(),
    HyperbandPruner(min_resource=1, max_resource=9),
    BanditPruner(0.1),
]


def curve(number):
    rng = np.random.default_rng(number)
    return (rng.random() + 1 / np.arange(1, 13) + 0.1 * rng.standard_normal(12)).tolist()


@pytest.mark.parametrize("pruner", PRUNERS, ids=repr)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_decisions_are_those_of_an_inloop_study(pruner, direction):
    sign = 1 if direction == "minimize" else -1

    def objective(trial):
        for step, value in enumerate(curve(trial.number)):
            trial.report(sign * value, step)
            if trial.should_prune():
                raise inloop.TrialPruned if isinstance(trial, inloop.Trial) else optuna.TrialPruned
        return sign * value

    ours = inloop.create_study(direction=direction, pruner=pruner, seed=7)
    ours.optimize(objective, n_trials=40)
    theirs = optuna.create_study(direction=direction, pruner=Pruner(pruner, seed=7))
    theirs.optimize(objective, n_trials=40)
    assert [len(t.curve) for t in ours.trials] == [len(t.intermediate_values) for t in theirs.trials]
    assert [t.state.name for t in ours.trials] == [t.state.name for t in theirs.trials]
    assert 0 < sum(t.state is TrialState.PRUNED for t in theirs.trials) < 40


def test_a_decision_is_kept():
    study = optuna.create_study(pruner=Pruner(MedianPruner(n_startup_trials=1)))
    study.optimize(lambda t: t.report(0.0, 1) or 0.0, n_trials=3)
    trial = study.ask()
    assert not trial.should_prune()
    trial.report(1.0, 1)
    assert trial.should_prune()
    trial.report(-1.0, 2)
    assert trial.should_prune()


# From one to the other


def mixed_study(direction="maximize"):
    space = Space(
        {"m": ["a", None, (1, 2)], "x": Float(1e-3, 1, log=True), "k": Int(0, 20, step=5), "s": Float(0, 1, step=0.25)},
        when={"k": {"m": ["a"]}},
    )
    study = inloop.create_study(direction=direction, space=space, seed=0, pruner="nop")
    for i in range(20):
        trial = study.ask()
        trial.report(float(i), 1)
        trial.report(float(i) + trial.params["x"], 4)
        trial.set_user_attr("i", i)
        if i % 5 == 1:
            study.tell(trial, state="failed")
        elif i % 5 == 2:
            study.tell(trial, state="pruned")
        elif i % 5 != 3 or i > 10:
            study.tell(trial, trial.params["x"])
    study.set_user_attr("note", {"a": [1, 2]})
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_to_optuna(direction):
    ours = mixed_study(direction)
    theirs = to_optuna_study(ours)
    done = [t for t in ours.trials if t.finished]
    assert theirs.direction.name.lower() == direction
    assert theirs.best_value == ours.best_value
    assert theirs.user_attrs == ours.user_attrs
    for a, b in zip(done, theirs.trials, strict=True):
        assert b.state.name == {"FAILED": "FAIL"}.get(a.state.name, a.state.name)
        assert b.intermediate_values == a.curve
        assert (b.datetime_start, b.datetime_complete, b.user_attrs) == (
            a.datetime_start,
            a.datetime_complete,
            a.user_attrs,
        )
        assert b.params == {n: v if v != (1, 2) else "(1, 2)" for n, v in a.params.items()}
        if "k" in b.params:
            assert b.distributions["k"] == IntDistribution(0, 20, step=5)
        assert b.distributions["x"] == FloatDistribution(1e-3, 1, log=True)
    theirs.optimize(lambda t: t.suggest_float("x", 1e-3, 1, log=True), n_trials=3)
    assert optuna.importance.get_param_importances(theirs, params=["x"])


def test_to_optuna_of_what_it_has_no_distributions_for():
    from scipy import stats

    class Dice:
        def rvs(self, random_state=None):
            return int(random_state.randint(1, 7))

    study = inloop.create_study(space={"n": stats.norm(0, 1), "g": stats.poisson(4), "d": Dice()}, seed=0)
    study.optimize(lambda t: t.params["n"] ** 2, n_trials=10)
    given = inloop.create_study()
    given.add_trial({"x": 0.5, "c": ["list"], "k": 3}, 1.0)
    for ours in (study, given):
        theirs = to_optuna_study(ours)
        assert [t.value for t in theirs.trials] == [t.value for t in ours.trials]
        assert theirs.best_params.keys() == ours.best_params.keys()


def test_a_parameter_that_became_logarithmic_comes_over():
    theirs = optuna.create_study()
    for dist in (FloatDistribution(0, 1), FloatDistribution(1e-3, 1, log=True)):
        theirs.add_trial(optuna.create_trial(params={"lr": 0.5}, distributions={"lr": dist}, value=1.0))
    assert [t.distributions["lr"].log for t in from_optuna_study(theirs, seed=0).trials] == [False, True]


def test_from_optuna_and_back():
    theirs = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    theirs.pruner = pruner

    def objective(trial):
        if trial.number == 4:
            raise ValueError
        trial.set_user_attr("where", trial.number)
        trial.set_user_attr("odd", {1, 2} if trial.number == 5 else None)
        return curved(trial)

    theirs.optimize(objective, n_trials=25, catch=(ValueError,))
    theirs.ask()
    theirs.enqueue_trial({"c": 2.0})
    theirs.set_user_attr("note", [1, 2])
    ours = from_optuna_study(theirs, seed=0)
    done = [t for t in theirs.trials if t.state.is_finished()]
    assert (ours.direction, ours.user_attrs) == ("maximize", {"note": [1, 2]})
    assert ours.best_value == theirs.best_value
    for a, b in zip(done, ours.trials, strict=True):
        assert a.state.name in (b.state.name, b.state.name[:4])
        assert (a.params, a.intermediate_values) == (b.params, b.curve)
        assert (a.datetime_start, a.datetime_complete) == (b.datetime_start, b.datetime_complete)
    back = to_optuna_study(ours)
    for a, b in zip(done, back.trials, strict=True):
        assert (a.params, a.distributions, a.value) == (b.params, b.distributions, b.value)
    first = ours.ask()
    assert first.suggest_float("c", 1e-3, 1e3, log=True) == 2.0
    ours.tell(first, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", inloop.SpaceWarning)
        ours.optimize(conditional, n_trials=10)
    assert {"linear", "net"} <= set(ours.history.dists["model"].choices)
    assert ours.history.dists["model"] == Categorical(["linear", "net"])


def test_a_study_goes_there_and_back_through_files(tmp_path):
    ours = mixed_study()
    theirs = to_optuna_study(ours, storage=f"sqlite:///{tmp_path}/theirs.db", study_name="moved")
    again = from_optuna_study(theirs, storage=f"{tmp_path}/ours.db", study_name="back")
    assert again.best_value == ours.best_value
    assert [t.curve for t in again.trials] == [t.curve for t in ours.trials if t.finished]


UNKNOWN = {"x": 0.5, "k": 3, "c": "b"}
QUEUED = {
    "fits": (UNKNOWN, UNKNOWN, None),
    "numpy": ({"k": np.int64(3), "new": np.int64(4), "c": np.str_("a")}, {"k": 3, "new": 4, "c": "a"}, None),
    "low": ({"x": -7.0, "k": 3}, {"k": 3}, r"x=-7\.0 of trial 6"),
    "nan": ({"x": math.nan}, {}, "x=nan"),
    "choice": ({"c": "z", "new": 1}, {"new": 1}, "c='z'"),
    "type": ({"x": "text", "k": None}, {}, "x='text' .* k=None"),
    "fraction": ({"k": 3.5}, {}, "k=3.5"),
    "object": ({"new": {1, 2}, "k": 2}, {"k": 2}, "new={1, 2} .* not JSON"),
    "nothing": ({}, {}, None),
}


def suggest(trial):
    return (
        trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 0, 9) + (trial.suggest_categorical("c", "abc") == "a")
    )


@pytest.mark.parametrize(("queued", "kept", "message"), QUEUED.values(), ids=QUEUED)
@pytest.mark.parametrize("declared", [False, True])
def test_enqueued_trials_are_carried_as_far_as_they_fit(queued, kept, message, declared):
    theirs = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    theirs.optimize(suggest, n_trials=6)
    theirs.enqueue_trial(queued, user_attrs={"which": 1})
    space = {"x": Float(0, 1), "k": Int(0, 9), "c": ["a", "b", "c"]} if declared else None
    if declared and "new" in queued:
        kept, message = {n: v for n, v in kept.items() if n != "new"}, "new="
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = from_optuna_study(theirs, space=space, seed=0)
    assert len(caught) == (message is not None)
    assert message is None or caught[0].filename == __file__
    if message is not None:
        with pytest.warns(UserWarning, match=message):
            from_optuna_study(theirs, space=space)
    trial = ours.ask()
    assert (ours.trials[-1].queued, trial.user_attrs) == (kept, {"which": 1})
    assert [type(v) for v in ours.trials[-1].queued.values()] == [type(v) for v in kept.values()]


@pytest.mark.parametrize("seen", [True, False])
def test_trials_to_be_retried_are_carried(seen):
    theirs = optuna.create_study()
    theirs.optimize(suggest, n_trials=seen)
    dists = {"x": FloatDistribution(0, 1), "k": IntDistribution(0, 9), "c": CategoricalDistribution("abc")}
    params = {"x": 0.25, "k": 3, "c": "b"}  # not enqueued, but taken: as RetryFailedTrialCallback does it
    theirs.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, params=params, distributions=dists))
    trial = from_optuna_study(theirs).ask()
    trial.suggest_float("x", 0, 1), trial.suggest_int("k", 0, 9), trial.suggest_categorical("c", ["a", "b", "c"])
    assert trial.params == params


def test_reports_at_steps_below_0_are_left_out():
    theirs = optuna.create_study(sampler=Sampler(seed=0), pruner=Pruner("median"))
    theirs.add_trial(optuna.trial.create_trial(value=1.0, intermediate_values={-1: 2.0, 0: 1.0}))
    theirs.optimize(suggest, n_trials=2)
    with pytest.warns(UserWarning, match=r"the report 2\.0 of trial 0 at step -1"):
        ours = from_optuna_study(theirs)
    assert ours.trials[0].curve == {0: 1.0}


def test_trials_told_while_they_wait_are_carried():
    theirs = optuna.create_study()
    theirs.enqueue_trial({"x": 0.5})
    theirs._storage.set_trial_state_values(theirs.trials[0]._trial_id, TrialState.FAIL)  # Optuna 4: theirs.tell(0, ...)
    ours = from_optuna_study(theirs)
    assert ours.trials[0].state is inloop.TrialState.FAILED
    assert ours.trials[0].datetime_start == ours.trials[0].datetime_complete == theirs.trials[0].datetime_complete
    assert to_optuna_study(ours).trials[0].state is TrialState.FAIL


ATTRS = {
    "tuple keys": ({("a", 1): 2}, "{('a', 1): 2}"),
    "deep": ([{"a": {(1,): 2}}], "[{'a': {(1,): 2}}]"),
    "number keys": ({1: 2}, {"1": 2}),
    "numpy": ({"n": np.int64(3), "a": np.arange(3), "f": np.float32(0.5)}, {"n": 3, "a": [0, 1, 2], "f": 0.5}),
    "set": ({"s": {1}}, {"s": "{1}"}),
    "loop": ((loop := []).append(loop) or loop, "[[...]]"),
}


@pytest.mark.parametrize(("given", "kept"), ATTRS.values(), ids=ATTRS)
def test_attributes_that_are_not_json(given, kept, tmp_path):
    theirs = optuna.create_study()
    theirs._storage.set_study_user_attr(theirs._study_id, "odd", given)  # as study.set_user_attr
    made = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={"odd": given})
    theirs.add_trial(made)
    theirs.enqueue_trial({}, user_attrs={"odd": given})
    ours = from_optuna_study(theirs, storage=f"{tmp_path}/s.db", study_name="s")
    assert ours.user_attrs == ours.trials[0].user_attrs == ours.ask().user_attrs == {"odd": kept}


def test_numbers_of_numpy_are_stored(tmp_path):
    theirs = optuna.create_study()
    trial = optuna.trial.create_trial(
        value=np.float32(1),
        params={"x": np.float32(0.5)},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values={np.int64(3): np.float32(2), 4: math.nan},
    )
    theirs.add_trial(trial)
    ours = from_optuna_study(theirs, storage=f"{tmp_path}/s.db", study_name="s")
    assert (ours.best_value, ours.best_params, list(ours.trials[0].curve)) == (1.0, {"x": 0.5}, [3, 4])


def test_ranges_that_inloop_does_not_have_are_named():
    theirs = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    theirs.optimize(lambda t: t.suggest_int("big", 0, 2**60) + t.suggest_float("x", 0, 1), n_trials=30)
    with pytest.warns(UserWarning, match=r"big=\d+ of trial 0; .* and 10 more"):
        ours = from_optuna_study(theirs)
    assert [t.params for t in ours.trials] == [{"x": t.params["x"]} for t in theirs.trials]


def changing(*parts):
    """Return a study whose trials took "p" from one distribution after the other; a value alone came from outside."""
    study = inloop.create_study(seed=0, sampler="random", pruner="nop")
    for part in parts:
        if isinstance(part, Float | Int | list):
            for _ in range(5):
                study.tell(study.ask({"p": part}), 1.0)
        else:
            study.add_trial({"p": part}, 1.0)
    return study


f1, f2 = (lambda: 1), (lambda: 2)
KINDS = {
    "more choices": ([["a", "b"], ["b", "c"], ["d", "a"]], [CategoricalDistribution(["a", "b", "c", "d"])]),
    "choices and a value": (["c", ["a", "b"]], [CategoricalDistribution(["c", "a", "b"])]),
    "choices and a range": ([[16, 32], Int(1, 1)], [CategoricalDistribution([16, 32, 1])]),
    "true and one": ([[1, 2], [True]], [CategoricalDistribution([1, 2, "True"])]),
    "numpy's": ([[np.int64(1), np.int64(2)]], [CategoricalDistribution([1, 2])]),
    "ranges": ([Float(0, 1), Float(2, 3)], [FloatDistribution(0, 1), FloatDistribution(2, 3)]),
    "int and float": (
        [Int(0, 8, step=4), Float(0, 1), Int(1, 9)],
        [FloatDistribution(0, 8, step=4), FloatDistribution(0, 1), FloatDistribution(1, 9, step=1)],
    ),
    "log and not": ([Float(1, 9, log=True), Float(0, 1)], [FloatDistribution(1, 9), FloatDistribution(0, 1)]),
    "int log and not": (
        [Int(1, 9, log=True), Int(0, 8, step=2)],
        [IntDistribution(1, 9), IntDistribution(0, 8, step=2)],
    ),
    "log of both": (
        [Float(1, 9, log=True), Int(1, 9, log=True)],
        [FloatDistribution(1, 9, log=True)],
    ),
    "log and a value": (
        [0.5, Float(1, 9, log=True)],
        [FloatDistribution(0.5, 0.5, log=True), FloatDistribution(1, 9, log=True)],
    ),
    "a value below": ([-0.5, Int(1, 9)], [FloatDistribution(-0.5, -0.5), FloatDistribution(1, 9, step=1)]),
    "not a number": ([math.nan, "x", None], [CategoricalDistribution([math.nan, "x", None])]),
    "a step that rounds": ([Float(0, 3 * 0.3, step=0.3)], [FloatDistribution(0, 0.9, step=0.3)]),
    "steps too fine": ([Float(1e7, 1e7 + 1, step=0.01)], [FloatDistribution(1e7, 1e7 + 1)]),
    "a start that rounds": ([Float(0.1 + 0.2, 0.9, step=0.1)], [FloatDistribution(0.1 + 0.2, 0.9)]),
}


@pytest.mark.parametrize(("parts", "expected"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("stored", [False, True])
def test_parameters_that_changed_are_carried(parts, expected, stored, tmp_path):
    ours = changing(*parts)
    theirs = to_optuna_study(ours, storage=f"sqlite:///{tmp_path}/s.db" if stored else None)
    assert list(dict.fromkeys(map(repr, (t.distributions["p"] for t in theirs.trials)))) == list(map(repr, expected))
    for a, b in zip(ours.trials, theirs.trials, strict=True):
        same = a.params["p"] == b.params["p"] or a.params["p"] != a.params["p"] or b.params["p"] == str(a.params["p"])
        assert same or b.params["p"] == pytest.approx(a.params["p"])
    theirs.sampler = Watched(seed=0)
    for dist in expected:  # it can be gone on with
        theirs.tell(theirs.ask({"p": dist}), 0.5)


def test_choices_of_one_name_stay_apart():
    theirs = to_optuna_study(changing([f1, f2]))
    assert theirs.trials[0].distributions["p"].choices[1].endswith(" #2")
    assert len({t.params["p"] for t in theirs.trials}) == 2
    assert to_optuna_study(changing([True, 1, "1"])).trials[0].distributions["p"].choices == (True, "1 #2", "1")


def test_a_complete_trial_of_nan_fails():
    ours = inloop.create_study()
    for value in (math.nan, math.inf, 1.0):  # as a log of another version may have it
        trial = ours.ask()
        ours._log.write(("finished", trial.number, ("COMPLETE", value, 1e9)))
    theirs = to_optuna_study(ours)
    assert [t.state.name for t in theirs.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert theirs.best_value == 1.0
