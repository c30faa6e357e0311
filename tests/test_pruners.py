"""Laws of pruners, over a table of all of them."""

import dataclasses
import sys

import inloop
import numpy as np
import pytest
from inloop import TrialState, pruners
from inloop.samplers import RandomSampler

STEPS = 12

#: name -> (pruner, does it compare a trial with others?)
TABLE = {
    "nop": (pruners.NopPruner(), True),
    "median": (pruners.MedianPruner(n_startup_trials=2), True),
    "median spaced": (pruners.MedianPruner(n_startup_trials=0, n_warmup_steps=2, interval_steps=3), True),
    "percentile": (pruners.PercentilePruner(25.0, n_startup_trials=2), True),
    "halving": (pruners.SuccessiveHalvingPruner(), True),
    "halving from 1": (pruners.SuccessiveHalvingPruner(min_resource=1), True),
    "halving smooth": (pruners.SuccessiveHalvingPruner(min_resource=2, smoothing=0.25), True),
    "halving late": (pruners.SuccessiveHalvingPruner(min_resource=1, min_early_stopping_rate=1), True),
    "auto": (pruners.AutoPruner(), True),
    "auto of 12": (pruners.AutoPruner(max_resource=12), True),
    "hyperband": (pruners.HyperbandPruner(min_resource=1), True),
    "hyperband to 12": (pruners.HyperbandPruner(min_resource=1, max_resource=12), True),
    "patient": (pruners.PatientPruner(pruners.MedianPruner(n_startup_trials=2), patience=2), True),
    "bandit": (pruners.BanditPruner(slack_amount=0.2), True),
    "bandit share": (pruners.BanditPruner(slack_factor=0.5, n_warmup_steps=1), True),
    "wilcoxon": (pruners.WilcoxonPruner(), True),
    "threshold": (pruners.ThresholdPruner(lower=-2.0, upper=2.0), False),
    "patient alone": (pruners.PatientPruner(None, patience=3), False),
}
ALL = pytest.mark.parametrize("name", TABLE)
RUNGS = pytest.mark.parametrize("name", [n for n in TABLE if n.startswith(("halving", "auto", "hyperband"))])
COMPARING = pytest.mark.parametrize("name", [n for n, (_, compares) in TABLE.items() if compares])


def run(study, curve, finish=True):
    """Run one trial along ``curve`` (step -> value); return its number of reports and its record."""
    trial = study.ask()
    for n, (step, value) in enumerate(dict(curve).items()):
        trial.report(value, step)
        if trial.should_prune():
            return n + 1, study.tell(trial, value)
    return len(curve), study.tell(trial, value) if finish else trial


def curves(seed, n, trend=0.1):
    """Falling noisy curves of trials of different quality."""
    rng = np.random.default_rng(seed)
    level = rng.random(n)
    return [
        {s: float(lv + trend * np.exp(-s / 3) + 0.01 * rng.standard_normal()) for s in range(STEPS)} for lv in level
    ]


def study_of(name, direction="minimize", seed=0):
    return inloop.create_study(direction, RandomSampler(), TABLE[name][0], seed=seed)


@ALL
def test_never_asked_of_an_empty_curve(name):
    trial = study_of(name).ask()
    assert trial.should_prune() is False


@COMPARING
def test_the_first_trial_is_never_stopped(name):
    length, record = run(study_of(name), {s: float(s) for s in range(STEPS)})
    # only a trial whose own curve gets worse may be stopped without rivals, and none of these look at that alone
    assert (length, record.state) == (STEPS, TrialState.COMPLETE)


@COMPARING
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_trial_so_far_is_never_stopped(name, direction):
    study = study_of(name, direction)
    sign = 1 if direction == "minimize" else -1
    for c in curves(0, 20):
        run(study, {s: sign * v for s, v in c.items()})
    for k in range(1, 6):  # better than all before at every step
        length, record = run(study, {s: sign * (-k - 0.01 * s) for s in range(STEPS)})
        assert (length, record.state) == (STEPS, TrialState.COMPLETE)


@pytest.mark.parametrize("name", [n for n in TABLE if n != "nop"])
def test_a_hopeless_trial_is_stopped_and_says_so(name):
    study = study_of(name)
    for c in curves(1, 25):
        run(study, c)
    ends = [run(study, {s: 5.0 + 0.1 * s for s in range(STEPS)}) for _ in range(6)]
    stopped = [length for length, record in ends if record.state is TrialState.PRUNED]
    # Hyperband's last bracket does not stop anybody
    assert len(stopped) >= (1 if "hyperband" in name else 6)
    assert max(stopped) < STEPS
    assert study.best_value < 1


@ALL
def test_maximising_mirrors_minimising(name):
    pruner = TABLE[name][0]
    low, high = study_of(name, "minimize"), study_of(name, "maximize")
    for c in curves(2, 40):
        a, _ = run(low, c)
        b, _ = run(high, {s: -v for s, v in c.items()})
        assert a == b, pruner


@ALL
def test_decisions_depend_on_reports_alone(name):
    """The same reports in the same order: the same decisions, also when the rung tables are built late."""
    one, two = study_of(name, seed=3), study_of(name, seed=3)
    told = []
    for c in curves(3, 30):
        _, record = run(one, c)
        told.append(record)
        if len(told) > 20:  # the second study has folded nothing for its pruner until now
            length, again = run(two, c)
            assert (length, again.state) == (record.reports, record.state)
            continue
        trial = two.ask()
        for s, v in record.curve.items():
            trial.report(v, s)
        two.tell(trial, record.value, record.state)


@ALL
def test_nan_and_infinity_are_data(name):
    study = study_of(name)
    rng = np.random.default_rng(4)
    odd = [float("nan"), float("inf"), -float("inf")]
    for c in curves(4, 30):
        run(study, {s: v if rng.random() < 0.7 else odd[rng.integers(2)] for s, v in c.items()})
    assert np.isfinite(study.best_value) or study.best_value == float("inf")
    length, record = run(study, {s: float("nan") for s in range(STEPS)})
    if isinstance(TABLE[name][0], pruners.PercentilePruner | pruners.ThresholdPruner):
        assert record.state is TrialState.PRUNED
        assert length < STEPS


@ALL
def test_unordered_repeated_and_sparse_steps(name):
    study = study_of(name)
    for c in curves(5, 25):
        steps = [5, 2, 11, 3, 100, 0]
        run(study, {s: c[min(s, STEPS - 1)] for s in steps})
    trial = study.ask()
    trial.report(0.5, 3)
    with pytest.warns(UserWarning, match="step 3 was reported before"):
        trial.report(9.0, 3)
    assert study.trials[-1].curve == {3: 0.5}


@ALL
def test_streams_are_judged_apart(name):
    """A stream nobody else has reported gives no ground for a comparison."""
    study = study_of(name)
    for c in curves(6, 20):
        run(study, c)
    if not TABLE[name][1]:
        return
    trial = study.ask()
    for s in range(STEPS):
        trial.report(1.5 - 0.01 * s, s, stream=7)
        assert not trial.should_prune()


@pytest.mark.parametrize("name", [n for n in TABLE if n != "auto of 12"])  # to which they are costs of pruned trials
def test_other_streams_for_the_record_change_nothing(name):
    """Whatever their length and scale."""

    def lengths(recorded):
        study = study_of(name)
        rng = np.random.default_rng(8)
        for c in curves(8, 40):
            trial = study.ask()
            for s, v in c.items():
                for other, times in recorded.items():
                    for k in range(times):
                        trial.report(1000 * float(rng.standard_normal()), s * times + k, stream=other)
                trial.report(v, s)
                if trial.should_prune():
                    break
            study.tell(trial, v)
        return [len(t.curves[0]) for t in study.trials]

    assert lengths({1: 1}) == lengths({1: 1, 2: 5}) == lengths({})


@ALL
def test_asking_again_changes_nothing(name):
    once, twice = study_of(name), study_of(name)
    for c in curves(7, 40):
        a, _ = run(once, c)
        trial = twice.ask()
        for s, v in c.items():
            trial.report(v, s)
            first = trial.should_prune()
            assert trial.should_prune() == first
            assert trial.pruned == first
            if first:
                break
        assert twice.tell(trial, v).reports == a


@RUNGS
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("start", [2, 1000])
def test_steps_count_from_where_training_starts(name, at_once, start):
    """Trials that go on from a base model are judged as those that train from the start."""

    def lengths(start):
        study = study_of(name)
        known = curves(9, 40)
        for i in range(0, len(known), at_once):
            live = [(study.ask(), list(c.values())) for c in known[i : i + at_once]]
            for step in range(STEPS):
                for trial, values in live:
                    if not trial.pruned:
                        trial.report(values[step], start + step)
                        trial.should_prune()
            for trial, values in live:
                study.tell(trial, values[-1])
        return [t.reports for t in study.trials]

    assert lengths(start) == lengths(0)
    assert len(set(lengths(0))) > 1


@RUNGS
def test_steps_count_from_zero_where_reports_are_sparse(name):
    """The first report after ten rounds is no base model of ten rounds: the rungs below it are judged there."""
    study = study_of(name)
    for c in curves(10, 20):
        run(study, {10 * s + 9: v for s, v in c.items()})
    ends = [run(study, {10 * s + 9: 5.0 + s for s in range(STEPS)})[0] for _ in range(6)]
    assert min(ends) == 1 or name == "halving late"


@RUNGS
def test_patience_lets_no_rung_pass(name):
    """It ends between two rungs, and the trial improves again at the next one."""
    study = inloop.create_study(sampler=RandomSampler(), pruner=pruners.PatientPruner(TABLE[name][0], 2), seed=0)
    for c in curves(11, 20):
        run(study, c)
    ends = [run(study, {s: 9.0 - min(s, 5) if s < 9 else 3.0 - s / 9 for s in range(STEPS)})[0] for _ in range(6)]
    assert set(ends) - {STEPS} == {9}


STUDIES = {
    "median, steps not shared": (pruners.MedianPruner(), 1, 1000),
    "bandit, steps not shared": (pruners.BanditPruner(slack_amount=1.0), 1, 1000),
    "halving, many streams": (pruners.SuccessiveHalvingPruner(), 70, 0),
    "hyperband, many streams": (pruners.HyperbandPruner(min_resource=1), 40, 0),
}


@pytest.mark.parametrize("name", STUDIES)
def test_cost_does_not_grow_with_the_history(name):
    """Measured in calls of functions."""
    pruner, streams, spread = STUDIES[name]
    study = inloop.create_study(sampler=RandomSampler(), pruner=pruner, seed=0)
    costs = []
    for n in range(90):
        trial, calls = study.ask(), []
        sys.setprofile(lambda *event, calls=calls: calls.append(None))
        for stream in range(streams):
            for s in range(1, 6):
                trial.report(1.0, s * spread + n if spread else s, stream)
                assert not trial.should_prune()
        study.tell(trial, 1.0)
        sys.setprofile(None)
        costs.append(len(calls))
    assert sum(costs[-20:]) < 1.2 * sum(costs[10:30])


@ALL
def test_pruners_are_frozen_settings_with_a_repr(name):
    pruner = TABLE[name][0]
    assert dataclasses.replace(pruner) == pruner
    assert repr(pruner).startswith(type(pruner).__name__)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pruner.anything = 1


def test_percentile_is_numpys():
    """The rule is: best so far against the linear-interpolated percentile of completed trials."""
    for q in (0.0, 10.0, 33.3, 50.0, 90.0, 100.0):
        rng = np.random.default_rng(8)
        study = inloop.create_study(
            sampler=RandomSampler(), pruner=pruners.PercentilePruner(q, n_startup_trials=0), seed=0
        )
        complete = []
        for _ in range(60):
            value = float(rng.integers(12))
            trial = study.ask()
            trial.report(value, 0)
            expected = bool(complete) and value > np.percentile(complete, q)
            assert trial.should_prune() == expected
            if not expected:
                complete.append(value)
            study.tell(trial, value)


@pytest.mark.parametrize("q", [25.0, 50.0, 100.0])
@pytest.mark.parametrize("known", [[1.0, 2.0], [np.nan, 2.0], [np.nan, np.nan], [np.inf, np.nan, 2.0]])
def test_a_trial_without_a_number_is_stopped_whatever_others_reported(known, q):
    pruner = pruners.PercentilePruner(q, n_startup_trials=len(known))
    study = inloop.create_study(sampler=RandomSampler(), pruner=pruner, seed=0)
    for value in known:
        trial = study.ask()
        trial.report(value, 0)
        study.tell(trial, 1.0)
    trial = study.ask()
    trial.report(np.nan, 0)
    assert trial.should_prune()


def test_halving_keeps_one_in_eta_at_each_rung():
    rng = np.random.default_rng(9)
    study = inloop.create_study(
        sampler=RandomSampler(), pruner=pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3), seed=0
    )
    seen = {1: [], 3: [], 9: []}
    for level in rng.random(150):
        trial = study.ask()
        for s in range(STEPS):
            trial.report(level + 0.1 * rng.random(), s)
            stop = trial.should_prune()
            if s in seen:
                value = trial.study.trials[-1].curve[s]
                seen[s].append(value)
                better = sum(v < value for v in seen[s])
                assert stop == (better >= max(1, len(seen[s]) // 3))
            else:
                assert not stop
            if stop:
                break
        study.tell(trial, 0.0)
    lengths = [t.reports for t in study.trials]
    assert 1 / 6 < np.mean(np.array(lengths) > 2) < 1 / 2


def test_wilcoxon_is_scipys():
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(0)
    best = rng.random(10)
    decisions = []
    for _ in range(40):
        study = inloop.create_study("maximize", RandomSampler(), pruners.WilcoxonPruner(), seed=0)
        run(study, dict(enumerate(best)))
        values = best + 0.3 * rng.standard_normal(10) - 0.15
        trial = study.ask()
        for k, v in enumerate(values):
            trial.report(v, k)
            stop = trial.should_prune()
            loss = best[: k + 1] - values[: k + 1]
            p = wilcoxon(loss, alternative="greater", zero_method="zsplit").pvalue
            assert stop == (k >= 1 and loss.mean() > 0 and p < 0.1)
            if stop:
                break
        decisions.append(stop)
    assert 0 < sum(decisions) < 40


def test_a_rung_passed_over_is_decided_at_the_next_question():
    pruner = pruners.SuccessiveHalvingPruner(min_resource=3)
    study = inloop.create_study(sampler=RandomSampler(), pruner=pruner, seed=0)
    for _ in range(4):
        run(study, dict.fromkeys(range(STEPS), 0.0))
    trial = study.ask()
    for s in range(5):  # nobody asks at step 3
        trial.report(1.0, s)
    assert trial.should_prune()


@pytest.mark.parametrize("odd", [100.0, -100.0, float("nan")])
@pytest.mark.parametrize(("at", "stops"), [(0, False), (2, True), (4, True), (5, True)])
def test_a_threshold_that_was_passed_counts_at_the_next_question(odd, at, stops):
    """Whatever was reported after it, also to another stream; what was judged, or lies in the warm-up, does not."""
    pruner = pruners.ThresholdPruner(-1.0, 1.0, n_warmup_steps=2)
    trial = inloop.create_study(sampler=RandomSampler(), pruner=pruner, seed=0).ask()
    for s in range(6):  # nobody asks before step 5
        trial.report(odd if s == at else 0.0, s)
    trial.report(0.0, 6, stream=1)
    assert not trial.should_prune()
    trial.report(0.0, 6)
    assert trial.should_prune() == stops
    trial.report(0.0, 7)
    assert trial.should_prune() == stops


WORSENING = np.random.default_rng(3).random(150) + np.arange(150) / 300  # so that a strict rule keeps ever fewer


def test_auto_goes_easy_while_pruned_trials_have_more_than_their_share_and_after_four_complete_ones():
    study = inloop.create_study(sampler=RandomSampler(), pruner=pruners.AutoPruner(max_resource=30), seed=0)
    at_rung = {3: [], 9: [], 27: []}
    spent = {"PRUNED": 0, "COMPLETE": 0}
    kept = []
    for mine in WORSENING:
        keep = 1.5 if spent["PRUNED"] > 30 + spent["COMPLETE"] / 3 else 3
        if spent["COMPLETE"] >= 4 * 30:
            keep = 1.25
        kept.append(keep)
        expected = 30
        for step, known in at_rung.items():
            known.append(mine)
            if sorted(known).index(mine) >= max(1, int(len(known) / keep)):
                expected = step + 1
                break
        reports, record = run(study, dict.fromkeys(range(30), float(mine)))
        assert reports == expected
        spent[record.state.name] += reports
    assert set(kept) == {3, 1.5, 1.25}
    assert study.history.spent == {inloop.TrialState[k]: n for k, n in spent.items()}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_auto_then_stops_none_for_the_noise_of_its_reports(direction, every):
    sign = 1 if direction == "minimize" else -1
    pruner = pruners.AutoPruner(max_resource=30)
    study = inloop.create_study(direction, sampler=RandomSampler(), pruner=pruner, seed=0)
    at_rung, scatters, spared = {3: [], 9: [], 27: []}, [], 0
    rng = np.random.default_rng(5)
    for n in range(120):
        values = rng.random() + n / 300 + rng.normal(0.0, 0.05, 30)
        reported = {s: values[s] for s in range(0, 30, every)}
        taught, expected = len(scatters) >= 4, len(reported)
        doubt = 4 * sorted(scatters)[len(scatters) // 2] if taught else 0.0
        for step, known in at_rung.items():
            last = [v for s, v in reported.items() if step - step // 8 <= s <= step]
            mean = np.mean(last)
            known.append(mean)
            worse = np.searchsorted(np.sort(known), [mean, mean - doubt / np.sqrt(len(last))])
            stopped = worse >= max(1, int(len(known) / 1.25))
            spared += taught and stopped[0] and not stopped[1]
            if taught and stopped[1]:
                expected = step // every + 1
                break
        reports, record = run(study, {s: sign * v for s, v in reported.items()})
        if taught:
            assert reports == expected
        if record.state is inloop.TrialState.COMPLETE:
            late = list(reported.values())[len(reported) // 2 :]
            scatters.append(np.sqrt(np.mean(np.diff(late, 2) ** 2) / 6))
        for step in list(at_rung):  # before it was taught, fewer rungs may have been reached
            at_rung[step] = at_rung[step] if reports > step // every or taught else at_rung[step][:-1]
    assert 4 <= spared < 100
    assert 10 < study.history.states[inloop.TrialState.PRUNED] < 100


def test_auto_counts_reports_and_not_steps():
    def until_four_are_complete(full):
        study = inloop.create_study(sampler=RandomSampler(), pruner=pruners.AutoPruner(full), seed=0)
        for n, mine in enumerate(WORSENING):
            run(study, {1000 * (s + 1): float(mine) for s in range(STEPS)})
            if study.history.states[inloop.TrialState.COMPLETE] == 4:
                return n
        return len(WORSENING)

    # what nobody ever spends keeps the guard away
    assert until_four_are_complete(None) + 20 < until_four_are_complete(12_001)


@pytest.mark.parametrize(
    ("lowest", "longest", "brackets"),
    [
        (1, 81, (81, 34, 15, 8, 5)),  # table 1 of the paper
        (3, 81, (27, 12, 6, 4)),
        (1, 80, (27, 12, 6, 4)),
        (1, 28, (27, 12, 6, 4)),
        (1, 9, (9, 5, 3)),
        (3, 8, (3, 2)),
        (3, 3, (3, 2)),
    ],
)
def test_hyperband_has_the_brackets_of_the_paper_and_the_last_one_stops_nobody(lowest, longest, brackets):
    pruner = pruners.HyperbandPruner(lowest, longest)
    assert pruner.brackets(longest) == brackets
    study = inloop.create_study(sampler=RandomSampler(), pruner=pruner, seed=0)
    for n in range(300):  # each worse than all before it
        run(study, dict.fromkeys(range(1, longest + 1), float(n)))
    lengths = [t.reports for t in study.trials]
    last = lowest * 3 ** (len(brackets) - 1)
    rungs = {lowest * 3**k for k in range(len(brackets)) if lowest * 3**k < longest}
    assert rungs - {last} <= set(lengths) <= rungs | {longest}
    assert lengths.count(longest) / 300 == pytest.approx(brackets[-1] / sum(brackets), abs=0.05) or not rungs


def test_hyperband_brackets_follow_seed_and_number():
    pruner = pruners.HyperbandPruner(min_resource=1, max_resource=28)

    def lengths(seed):
        study = inloop.create_study(sampler=RandomSampler(), pruner=pruner, seed=seed)
        for c in curves(10, 60):
            run(study, {s: v + s for s, v in c.items()})
        return [t.reports for t in study.trials]

    assert lengths(1) == lengths(1)
    assert lengths(1) != lengths(2)


def test_default_rungs():
    pruner = pruners.SuccessiveHalvingPruner()
    assert pruner.rungs(-1)[:4] == (3, 9, 27, 81)
    assert pruner.rungs(51) == (3, 9, 27)
    assert pruner.rungs(999) == (50, 150, 450)
    assert pruner.rungs(2) == ()


BAD = [
    (lambda: pruners.PercentilePruner(101.0), "percentile must lie between 0 and 100, got 101"),
    (lambda: pruners.PercentilePruner(50.0, n_startup_trials=-1), "n_startup_trials must be at least 0"),
    (lambda: pruners.MedianPruner(interval_steps=0), "interval_steps must be at least 1"),
    (lambda: pruners.SuccessiveHalvingPruner(min_resource=0), "min_resource must be"),
    (lambda: pruners.SuccessiveHalvingPruner(min_resource="big"), "min_resource must be 'auto'"),
    (lambda: pruners.SuccessiveHalvingPruner(reduction_factor=1), "reduction_factor must be"),
    (lambda: pruners.SuccessiveHalvingPruner(min_early_stopping_rate=-1), "min_early_stopping_rate must be"),
    (lambda: pruners.SuccessiveHalvingPruner(smoothing=1.0), "smoothing must lie in"),
    (lambda: pruners.AutoPruner(max_resource=0), "max_resource must be an integer of at least 1 or None, got 0"),
    (lambda: pruners.AutoPruner(taught=0), "taught must be at least 1, got 0"),
    (lambda: pruners.AutoPruner(doubt=float("nan")), "doubt must be finite and at least 0, got nan"),
    (lambda: pruners.AutoPruner(doubt=float("inf")), "doubt must be finite and at least 0, got inf"),
    (lambda: pruners.HyperbandPruner(max_resource=1), "max_resource must be"),
    (lambda: pruners.ThresholdPruner(), "needs lower, upper or both"),
    (lambda: pruners.ThresholdPruner(2.0, 1.0), "lower must not exceed upper"),
    (lambda: pruners.PatientPruner(None, patience=-1), "patience must be"),
    (lambda: pruners.PatientPruner(None, patience=1, min_delta=-1.0), "min_delta must be"),
    (lambda: pruners.BanditPruner(), "give exactly one of slack_factor and slack_amount"),
    (lambda: pruners.BanditPruner(0.1, 0.1), "give exactly one"),
    (lambda: pruners.BanditPruner(slack_amount=-1.0), "at least 0"),
    (lambda: pruners.WilcoxonPruner(p_threshold=2.0), "p_threshold must lie"),
    (lambda: pruners.WilcoxonPruner(n_startup_steps=-1), "n_startup_steps must be"),
    (lambda: pruners.from_name("best"), "No pruner named 'best'; there are"),
]


@pytest.mark.parametrize(("make", "text"), BAD)
def test_bad_input_is_named(make, text):
    with pytest.raises(ValueError, match=text):
        make()
