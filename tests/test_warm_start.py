"""Laws of studies that learn from earlier ones."""

import importlib
import math
import pickle

import inloop
import numpy as np
import pytest
from inloop import Float, Int, MemoryStorage, Space
from inloop.events import Event, from_json, to_json
from inloop.history import History
from inloop.samplers import AutoSampler
from inloop.samplers.earlier import earlier
from inloop.samplers.moves import resting

SPACE = Space({"x": Float(-5, 5), "y": Float(-5, 5), "k": Int(1, 1000, log=True), "c": ["a", "b", "c"]})
learners = pytest.mark.parametrize("sampler", ["auto", "gp", "tpe"])


def bowl(p, shift=0.0):
    x, y = p["x"] - 2 - shift, p["y"] + 1 + shift
    return x * x + y * y + 2 * (math.log10(p["k"]) - 1) ** 2 + 3 * (p["c"] != "b")


def a_study(space=SPACE, sampler="auto", seed=0, direction="minimize", **options):
    return inloop.create_study(space=space, sampler=sampler, seed=seed, direction=direction, pruner="nop", **options)


def searched(f=bowl, n=40, **options):
    study = a_study(**options)
    study.optimize(lambda t: f(t.params), n_trials=n)
    return study


def warm(teacher, f, n, **options):
    study = a_study(**options)
    study.learn_from(teacher)
    study.optimize(lambda t: f(t.params), n_trials=n)
    return study


@pytest.mark.slow
@learners
def test_a_related_study_is_a_head_start(sampler):
    """Other offset, scale and place of the optimum: still far better after a few trials."""
    cold, hot = [], []
    for seed in range(4):
        teacher = searched(seed=seed + 50, sampler=sampler)
        task = lambda p: 100 + 7 * bowl(p, shift=0.3)  # noqa: E731
        cold.append(searched(task, 8, sampler=sampler, seed=seed).best_value - 100)
        hot.append(warm(teacher, task, 8, sampler=sampler, seed=seed).best_value - 100)
    assert np.median(hot) < (0.8 if sampler == "tpe" else 0.3) * np.median(cold)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::inloop.SpaceWarning")
@learners
def test_a_misleading_study_does_little_harm(sampler):
    cold, hot = [], []
    for seed in range(8):
        teacher = searched(lambda p: -bowl(p), seed=seed + 50, sampler=sampler)
        cold.append(searched(n=35, sampler=sampler, seed=seed).best_value)
        hot.append(warm(teacher, bowl, 35, sampler=sampler, seed=seed).best_value)
    assert np.median(hot) < 1.2 * np.median(cold) + 0.05


@learners
def test_what_was_learned_is_no_trial_of_this_study(sampler):
    teacher = searched(lambda p: -1000.0 + bowl(p), 20)
    study = a_study(sampler=sampler)
    assert study.learn_from(teacher) == 20
    assert study.trials == []
    with pytest.raises(ValueError, match="No trial"):
        study.best_trial  # noqa: B018
    study.optimize(lambda t: bowl(t.params), n_trials=6)
    assert len(study.trials) == 6
    assert study.best_value == min(t.value for t in study.trials) >= 0
    assert study.learn_from(teacher) == 0  # known already
    teacher.optimize(lambda t: bowl(t.params), n_trials=3)
    assert study.learn_from(teacher) == 3
    assert "6 trials" in repr(study)


@learners
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_any_mixture_of_states_and_overlaps_is_survived(sampler, direction):
    theirs = Space(
        {"m": ["a", "b"], "x": Float(-10, 10), "k": Int(1, 1000, log=True), "other": Float(0, 1), "c": ["b", "z"]},
        when={"k": {"m": ["a"]}},
    )
    teacher = a_study(theirs, "random", direction=direction)
    hows = (None, "failed", "pruned", "infinite", None, "running")
    for i in range(30):
        trial = teacher.ask()
        trial.report(float(i), 1)
        how = hows[i % 6]
        if how != "running":
            teacher.tell(trial, math.inf if how == "infinite" else float(i), state=how if how != "infinite" else None)
    study = a_study(sampler=sampler, direction=direction)
    assert 3 < study.learn_from(teacher) < 20
    for i in range(15):
        trial = study.ask()
        SPACE.check(trial.params)
        assert list(trial.params) == SPACE.active(trial.params)
        how = hows[i % 6]
        if how != "running":
            study.tell(trial, math.inf if how == "infinite" else float(i), state=how if how != "infinite" else None)


@learners
def test_define_by_run_studies_learn_too(sampler):
    def objective(trial):
        x = trial.suggest_float("x", -5, 5)
        if trial.suggest_categorical("m", ["p", "q"]) == "p":
            return (x - 2) ** 2 + trial.suggest_float("w", 0, 1)
        return (x + 2) ** 2 + 3

    teacher = a_study(None)
    teacher.optimize(objective, n_trials=30)
    study = a_study(None, sampler)
    study.learn_from(teacher)
    study.optimize(objective, n_trials=8)
    assert study.best_value < 1.0


@learners
def test_trials_of_several_studies_and_of_none(sampler):
    empty = a_study()
    study = a_study(sampler=sampler)
    assert study.learn_from(empty) == 0
    for seed in (1, 2):
        study.learn_from(searched(n=12, seed=seed, sampler="random", study_name=f"s{seed}"))
    assert len(study.history.earlier) == 24
    study.optimize(lambda t: bowl(t.params), n_trials=12)
    constant = a_study(sampler=sampler)
    constant.learn_from(searched(lambda p: 1.0, 10))
    constant.optimize(lambda t: bowl(t.params), n_trials=4)


@learners
def test_the_proposal_is_a_function_of_the_log(sampler, tmp_path):
    teacher = searched(n=15)
    storage = MemoryStorage()
    study = a_study(sampler=sampler, storage=storage, study_name="s")
    study.learn_from(teacher)
    study.optimize(lambda t: bowl(t.params), n_trials=8)
    fresh = History()
    fresh.spaces[SPACE.id] = SPACE
    fresh.apply(storage.read("s", 0))
    params = [study.sampler.ask(SPACE, h, 8, np.random.default_rng(1)) for h in (study.history, study.history, fresh)]
    assert params[0] == params[1] == params[2]
    again = pickle.loads(pickle.dumps(study))
    assert again.history.earlier == study.history.earlier


@learners
def test_choices_that_json_cannot_hold_are_learned_by_every_process_alike(sampler):
    twins = [lambda: 1, lambda: 2]  # of one label
    choices = [None, (1, 2), {"a": 1}, np.arange(3), *twins]
    ours = Space({"x": Float(-5, 5), "c": [*twins, {"a": 1}, (1, 2)]})
    theirs = Space({"x": Float(-6, 6), "c": choices})
    teacher = a_study(theirs)
    for i, c in enumerate(choices * 2):
        teacher.add_trial({"x": 0.3 * i, "c": c}, float(i))
    storage = MemoryStorage()
    study = a_study(ours, sampler, storage=storage, study_name="s")
    study.learn_from(teacher)
    study.optimize(lambda t: t.params["x"] ** 2, n_trials=4)
    fresh = History()
    fresh.spaces[ours.id] = ours
    fresh.apply(from_json(to_json(e)) for e in storage.read("s", 0))
    assert fresh.spaces[theirs.id].has_labels
    taken = [earlier(ours, h, resting(ours)).sources[0].units.tolist() for h in (study.history, fresh)]
    assert taken[0] == taken[1]
    assert [ours.decode(u)["c"] for u in taken[0]] == [(1, 2), {"a": 1}, *twins] * 2
    params = [study.sampler.ask(ours, h, 4, np.random.default_rng(1)) for h in (study.history, fresh)]
    assert params[0] == params[1]


def test_it_is_kept_in_the_file_and_older_readers_pass_over_it(tmp_path):
    url = f"{tmp_path}/s.db"
    study = a_study(storage=url, study_name="s")
    study.learn_from(searched(n=12))
    study.optimize(lambda t: bowl(t.params), n_trials=3)
    loaded = inloop.load_study("s", url)
    assert loaded.history.earlier == study.history.earlier
    assert len(loaded.history.earlier) == 12
    older = History()
    del older._fold["learned"]
    older.apply(study._log.storage.read("s", 0))
    assert older.unknown == {"learned": 12}
    assert [t.params for t in older.trials] == [t.params for t in study.trials]
    newer = History()
    newer.apply([*study._log.storage.read("s", 0), Event("w", 1, "from the future", -1, None)])
    assert newer.unknown == {"from the future": 1}


def test_many_trials_are_thinned():
    teacher = a_study(sampler="random")
    for i in range(1000):
        teacher.tell(teacher.ask(), float(i))
    study = a_study()
    assert study.learn_from(teacher) == 200
    values = sorted(v for _, _, v in study.history.earlier.values())
    assert values[:100] == [float(i) for i in range(100)]
    assert values[-1] > 900


@learners
@pytest.mark.parametrize("ours", [1.0, 1e300])
def test_huge_values_are_bounded_as_a_study_s_own_are(sampler, ours):
    teacher = a_study(sampler="random")
    for i in range(12):
        teacher.tell(teacher.ask(), (i - 3) * 1e307)
    study = a_study(sampler=sampler)
    assert study.learn_from(teacher) == 12
    study.optimize(lambda t: ours * bowl(t.params), n_trials=8)
    (source,) = earlier(SPACE, study.history, resting(SPACE)).sources
    assert (source.losses.min(), source.losses.max()) == (-1e100, 1e100)


@learners
def test_trials_outside_the_ranges_are_neither_counted_nor_said_to_be_learned_from(sampler):
    teacher = a_study({"x": Float(0, 10), "other": Int(1, 3)}, "random")
    for i in range(11):
        teacher.add_trial({"x": i, "other": 1}, float(i))
    for low, n in ((-1.0, 6), (4.0, 2), (11.0, 0)):
        study = a_study({"x": Float(low, 5 if low < 5 else 12)}, sampler)
        assert study.learn_from(teacher) == len(study.history.earlier) == n
    choice = {"auto": AutoSampler(), "gp": AutoSampler(), "tpe": AutoSampler(dimensions=0)}[sampler]
    loop = a_study(None, choice)  # it has shown nothing of its space yet
    assert loop.learn_from(teacher) == 11
    for high, said in ((-1, "A design that fills"), (9, "TPE for" if sampler == "tpe" else "Gaussian process for")):
        assert choice.describe(Space({"x": Float(-3, high)}), loop.history).startswith(said)
    assert choice.describe(Space({"y": Float(0, 1)}), loop.history).startswith("A design that fills")


def test_earlier_studies_are_modelled_in_one_thread(monkeypatch):
    """Whoever asks for them: BLAS is set to one thread while the model is fitted."""
    pools = pytest.importorskip("threadpoolctl")
    module = importlib.import_module("inloop.samplers.earlier")
    seen, fit = [], module.fit

    def watched(*args):
        seen.extend(p["num_threads"] for p in pools.threadpool_info() if p["user_api"] == "blas")
        return fit(*args)

    monkeypatch.setattr(module, "fit", watched)
    with pools.threadpool_limits(2, "blas"):
        warm(searched(n=12, sampler="random"), bowl, 1, sampler="tpe")
    assert seen
    assert set(seen) == {1}


@learners
def test_studies_of_one_name_in_two_storages_are_two(sampler, tmp_path):
    study = a_study(sampler=sampler)
    for i in range(2):
        teacher = searched(n=8, seed=i, sampler="random", study_name="tune", storage=f"{tmp_path}/{i}.db")
        assert [study.learn_from(teacher), study.learn_from(teacher)] == [8, 0]
    assert len(study.history.earlier) == 16
    assert len(earlier(SPACE, study.history, resting(SPACE)).sources) == 2


def test_a_study_is_known_again_through_another_storage_of_its_file(tmp_path):
    study = searched(n=3, sampler="random", study_name="s", storage=f"{tmp_path}/s.db")
    with pytest.raises(ValueError, match="'s' is this study"):
        study.learn_from(inloop.load_study("s", f"{tmp_path}/../{tmp_path.name}/s.db"))
    assert not study.history.earlier


def test_what_is_wrong_is_named():
    study = a_study(study_name="here")
    with pytest.raises(ValueError, match="'maximize'"):
        study.learn_from(a_study(direction="maximize"))
    with pytest.raises(ValueError, match="is this study"):
        study.learn_from(study)


@pytest.mark.parametrize("penalty", [10.0, 1e6, 1e300])
@pytest.mark.parametrize("every", [3, 10])
def test_penalties_of_an_earlier_study_shift_nothing(penalty, every):
    best = []
    for seed in range(4):
        teacher = a_study(sampler="random", seed=seed + 50)
        teacher.optimize(lambda t: penalty if t.number % every == 0 else bowl(t.params), n_trials=50)
        study = warm(teacher, bowl, 10, seed=seed)
        best.append(study.best_value)
    cold = [searched(n=10, seed=seed).best_value for seed in range(4)]
    assert np.median(best) < np.median(cold)
