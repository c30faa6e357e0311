"""Trials of no search: an objective with given parameters."""

import copy
import pickle

import inloop
import pytest
from inloop import FixedTrial, ranks

PARAMS = {"x": 1.5, "n": 3, "kind": ("a", 1), "beside": None}


def objective(trial: inloop.Trial) -> float:
    x = trial.suggest_float("x", -2, 2) + trial.suggest_float("x", 0, 5)
    kind = trial.suggest_categorical("kind", [("a", 1), None])
    for step in trial.steps(range(trial.suggest_int("n", 1, 9))):
        trial.report(9.0 + step, step)
    trial.set_user_attr("kind", kind[0])
    return x


@pytest.mark.parametrize("way", [lambda t: t, copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_an_objective_runs_with_given_parameters(way):
    trial = way(FixedTrial(PARAMS))
    assert objective(trial) == 3.0
    assert trial.params == {"x": 1.5, "kind": ("a", 1), "n": 3}
    assert trial.user_attrs == {"kind": "a"}
    assert (trial.number, trial.pruned, trial.should_prune()) == (0, False, False)
    assert repr(trial) == f"FixedTrial({PARAMS})"


def test_the_best_trial_of_a_search_once_more():
    study = inloop.create_study(seed=0, sampler="random", pruner="nop")
    study.optimize(objective, n_trials=3, catch=TypeError)
    assert objective(FixedTrial(study.best_params)) == study.best_value


@pytest.mark.parametrize(
    ("suggest", "said"),
    [
        (lambda t: t.suggest_int("depth", 1, 9), "no value of 'depth' is given; there are x, n, kind, beside"),
        (lambda t: t.suggest_float("x", 2, 9), r"x=1.5 lies outside Float\(low=2.0, high=9.0"),
        (lambda t: t.suggest_int("x", 0, 9), "x=1.5 lies outside Int"),
        (lambda t: t.suggest_categorical("n", ["a"]), "n=3 lies outside Categorical"),
    ],
)
def test_what_is_not_given_is_told(suggest, said):
    with pytest.raises(ValueError, match=f"FixedTrial: {said}"):
        suggest(FixedTrial(PARAMS))


def test_no_parameters():
    assert FixedTrial({}).params == {}
    with pytest.raises(ValueError, match="no value of 'x' is given; there are none"):
        FixedTrial({}).suggest_float("x", 0, 1)


def test_it_is_no_study_that_a_relaunched_rank_could_take_for_its_own():
    made = dict(ranks._made)
    FixedTrial({})
    assert ranks._made == made
