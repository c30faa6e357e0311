"""The numerics behind `GPSampler`, and the choices of `AutoSampler`."""

import math
from dataclasses import replace
from itertools import pairwise

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space
from inloop.record import Curve
from inloop.samplers import AutoSampler, GPSampler, StudyStopped, curves, moves, warp
from inloop.samplers.acquisition import LogImprovement, Outcomes, Succeeding, log_h
from inloop.samplers.ascent import ascend
from inloop.samplers.gaussian_process import (
    Data,
    Inputs,
    Posterior,
    Prior,
    fit,
    log_posterior,
    matern_32,
    matern_52,
)
from inloop.samplers.gp import PLAIN, RANKED, _checkpoint, _thin
from inloop.samplers.stretch import stretched
from scipy import integrate, optimize, stats

MIXED = Space(
    {
        "x": Float(0, 1),
        "eta": Float(1e-4, 1, log=True),
        "depth": Int(1, 9),
        "width": Int(1, 200, log=True),
        "act": ["relu", "tanh", "gelu"],
        "opt": Categorical(range(40)),
        "momentum": Float(0, 1),
    },
    when={"momentum": {"act": ["relu", "tanh"]}},
)


def observations(n=25, seed=0):
    rng = np.random.default_rng(seed)
    units = moves.settle(MIXED, rng.random((n, len(MIXED))))
    losses = np.sin(4 * units).sum(1) + (units[:, 4] < 0.3)
    return units, (losses - losses.mean()) / losses.std()


def slopes(f, x, h=1e-6):
    return np.array([(f(x + e) - f(x - e)) / (2 * h) for e in np.eye(len(x)) * h])


KERNELS = {matern_32: (3, lambda p: 1 + p), matern_52: (5, lambda p: 1 + p + p**2 / 3)}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_of_the_fit(seed, kernel):
    units, targets = observations(seed=seed)
    inputs = replace(Inputs.of(MIXED.columns), kernel=kernel)
    data = Data.of(units, targets, inputs)
    theta = np.random.default_rng(seed).normal(0, 0.7, len(inputs) + 3) - np.eye(len(inputs) + 3)[-1] * 3
    _, gradient = log_posterior(theta, data, Prior())
    np.testing.assert_allclose(gradient, slopes(lambda t: log_posterior(t, data, Prior())[0], theta), atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_fit_is_that_of_the_textbook(kernel):
    units, targets = observations()
    inputs = replace(Inputs.of(MIXED.columns), kernel=kernel)
    theta = np.array([-0.5] * len(inputs) + [-0.8, 0.3, -2.0])
    length = np.exp(-0.5)
    r2 = sum((units[:, None, j] - units[:, j]) ** 2 for j in inputs.numeric) / length**2
    r2 = r2 + sum((units[:, None, j] != units[:, j]) for j in inputs.categorical) / length**2
    twice, polynomial = KERNELS[kernel]
    p = np.sqrt(twice * r2)
    sides = 2 * units[:, inputs.numeric] - 1
    linear = np.mean([np.outer(x, x) for x in sides.T], axis=0)
    around = np.exp(0.3) * polynomial(p) * np.exp(-p)
    k = around + np.exp(0.3 - 0.8) * linear
    covariance = k + (np.exp(-2.0) + 1e-6) * np.eye(len(units))
    prior = Prior()
    mean, sd = prior.vectors(len(inputs))
    expected = -stats.multivariate_normal(cov=covariance).logpdf(targets) + ((theta - mean) ** 2 / sd**2).sum() / 2
    value, _ = log_posterior(theta, Data.of(units, targets, inputs), prior)
    assert value == pytest.approx(expected - len(units) / 2 * math.log(2 * math.pi))
    posterior = Posterior(units[5:], targets[5:], inputs, theta)
    mu, spread = posterior.predict(units[:5])
    np.testing.assert_allclose(mu, k[:5, 5:] @ np.linalg.solve(covariance[5:, 5:], targets[5:]))
    known = np.linalg.solve(around[5:, 5:] + (np.exp(-2.0) + 1e-6) * np.eye(20), around[5:, :5])
    np.testing.assert_allclose(spread**2, np.diag(around[:5, :5] - around[:5, 5:] @ known))


def test_a_fit_is_no_worse_than_its_start_and_survives_equal_rows():
    units, targets = observations()
    data = Data.of(np.repeat(units, 3, 0), np.repeat(targets, 3), Inputs.of(MIXED.columns))
    start = np.array([math.log(0.5)] * 7 + [math.log(0.5), 0.0, -4.0])
    first = fit(data, Prior())
    assert log_posterior(first.theta, data, Prior())[0] < log_posterior(start, data, Prior())[0]
    again = fit(data, Prior(), first)
    assert log_posterior(again.theta, data, Prior())[0] <= log_posterior(first.theta, data, Prior())[0]
    flat = Data.of(units[:1].repeat(9, 0), np.zeros(9), Inputs.of(MIXED.columns))
    for found in (fit(flat, Prior()), fit(flat, Prior(), first)):
        assert np.isfinite([*found.theta, *found.inverse.ravel()]).all()


@pytest.mark.parametrize("before", [20, 45, 80])
def test_a_fit_that_goes_on_from_another_arrives(before):
    """With and without noise: a much longer search by another method finds next to nothing more."""
    rng = np.random.default_rng(3)
    units = rng.random((90, 4))
    inputs = Inputs(np.arange(4), np.arange(0))
    smooth = np.sin(5.0 * units[:, 0]) + units[:, 1]
    for targets in (smooth, smooth + 0.3 * rng.standard_normal(90)):
        start = fit(Data.of(units[:before], targets[:before], inputs), Prior())
        data = Data.of(units, targets, inputs)
        theta = fit(data, Prior(), start).theta
        bounds = [(math.log(0.02), math.log(100.0))] * 4 + [(-6.0, 4.0), (-3.0, 4.0), (math.log(1e-6), 0.0)]
        farther = optimize.minimize(log_posterior, theta, (data, Prior()), jac=True, bounds=bounds).fun
        assert log_posterior(theta, data, Prior())[0] < farther + 0.1


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_of_the_acquisition(kernel, fail):
    units, targets = observations()
    inputs = replace(Inputs.of(MIXED.columns), kernel=kernel)
    theta = np.array([-0.5] * 7 + [-0.8, 0.3, -3.0])
    improvement = LogImprovement(Posterior(units, targets, inputs, theta), targets.min(), 1.5)
    at = moves.settle(MIXED, np.random.default_rng(9).random((6, 7)))
    if fail:
        others = observations(seed=1)[0]
        ok = np.repeat([True, False], len(units))
        improvement = Succeeding(improvement, Outcomes(np.concatenate([units, others]), ok, np.ones(len(ok))))
        at = np.concatenate([at, others[:2] + 0.01, units[:2] + 0.01])
    value, gradient = improvement.with_gradient(at)
    np.testing.assert_allclose(value, improvement(at))
    for row, g in zip(at, gradient, strict=True):
        numeric = slopes(lambda x: improvement(x[None])[0], row)[improvement.posterior.inputs.numeric]
        np.testing.assert_allclose(g, numeric, rtol=1e-3, atol=1e-5)


def test_expected_improvement_is_the_integral_and_has_no_gaps():
    for u in (-3.0, -1.0, 0.0, 2.0, 24.0, 26.0):
        area = integrate.quad(lambda z, u=u: (u - z) * stats.norm.pdf(z), -12, u)[0]
        assert log_h(np.array([u]))[0] == pytest.approx(math.log(area), rel=1e-6)
    u = np.concatenate([np.geomspace(1e6, 0.1, 4001), -np.geomspace(0.1, 1e6, 4001)])
    assert (np.diff(log_h(u)) < 0).all()  # falls all the way, through the seams


def test_a_believed_row_is_certain_and_never_below_the_floor():
    units, targets = observations()
    theta = np.array([-0.5] * 7 + [-0.8, 0.3, -8.0])
    posterior = Posterior(units[5:], targets[5:], Inputs.of(MIXED.columns), theta)
    believed = posterior.with_believed(units[:5], 0.0)
    assert (believed.targets[-5:] >= 0.0).all()
    assert (believed.predict(units[:5])[1] < posterior.predict(units[:5])[1]).all()


WARPS = pytest.mark.parametrize("of", [warp.half_rank, warp.standard])


@WARPS
@pytest.mark.parametrize(
    "losses",
    [[1.0, 2.0, 3.0, 4.0, 1e9], [0.0] * 6, [1.0] * 5 + [2.0], [-1e100, 0.0, 1.0], [5.0], [1.0, 1.0 + 1e-15, 2.0]],
)
def test_warps_keep_the_order(of, losses):
    losses = np.array(losses)
    out = of(losses, np.ones(len(losses)))
    assert np.isfinite(out).all()
    assert (np.diff(out) >= 0).all()
    assert out.mean() == pytest.approx(0, abs=1e-9)
    assert out.std() == pytest.approx(1) or not out.any()


@WARPS
def test_thinned_losses_are_warped_as_all_of_them_would_be(of):
    losses = np.sort(np.random.default_rng(0).exponential(size=3000))
    ranks, counts = _thin(3000, 400, 200)
    np.testing.assert_allclose(of(losses[ranks], counts), of(losses, np.ones(3000))[ranks], atol=0.1)


def test_the_bad_half_shows_only_its_order():
    good = [1.0, 2.0, 3.0]
    a = warp.half_rank(np.array([*good, 4.0, 5.0]), np.ones(5))
    b = warp.half_rank(np.array([*good, 40.0, 5e9]), np.ones(5))
    np.testing.assert_array_equal(a, b)


def test_thinning_keeps_the_best_and_stands_for_all():
    for n in (3, 400, 401, 5000):
        ranks, counts = _thin(n, 400, 200)
        assert len(set(ranks)) == len(ranks) == min(n, 400)
        assert ranks.max() < n
        assert counts.sum() == pytest.approx(n)
        assert list(ranks[:200]) == list(range(min(n, 200)))


def test_refits_become_rarer_in_proportion():
    points = sorted({_checkpoint(n) for n in range(1, 1300)})
    assert points[:20] == list(range(1, 21))
    assert all(2 <= b - a <= max(2, b / 10) for a, b in pairwise(points[20:]))
    assert all(_checkpoint(n) <= n for n in range(1, 1300))


def test_moves_stay_on_the_grid_and_leave_inactive_parameters_at_rest():
    rng = np.random.default_rng(0)
    bases = moves.settle(MIXED, rng.random((500, 7)))
    for scales in ((0.003, 0.01), (0.3, 2.0)):
        moved = moves.mutate(MIXED, bases, scales, rng)
        np.testing.assert_array_equal(moved, moves.settle(MIXED, moved))
        # the smallest step moves an integer by a level; large ones may be reflected back
        assert (moved != bases).any(1).mean() > (0.999 if scales[1] < 0.1 else 0.9)
    active = MIXED.active_mask(moved)
    assert (moved[~active] == np.broadcast_to(moves.resting(MIXED), moved.shape)[~active]).all()
    switched_on = active[:, 6] & ~MIXED.active_mask(bases)[:, 6]
    assert np.unique(moved[switched_on, 6]).size > 10


def test_a_grid_holds_every_setting_once():
    space = Space(
        {"c": ["a", "b"], "i": Int(1, 20), "k": Int(1, 9, log=True), "one": Int(5, 5)},
        when={"i": {"c": ["a"]}, "k": {"c": ["b"]}},
    )
    settings = [repr(space.decode(row)) for row in moves.grid(space)]
    assert len(settings) == len(set(settings)) == 29


def run(objective, sampler, n=30, seed=0, space=None, direction="minimize"):
    study = inloop.create_study(sampler=sampler, pruner="nop", seed=seed, space=space, direction=direction)
    study.optimize(objective, n_trials=n, catch=ZeroDivisionError)
    return study


BOX = Space({f"x{i}": Float(0, 1) for i in range(4)})


def bowl(trial):
    return sum((v - 0.3) ** 2 for v in trial.params.values())


@pytest.mark.parametrize("model", [RANKED, PLAIN], ids=["ranked", "plain"])
def test_each_model_alone_finds_the_bowl(model):
    assert run(bowl, GPSampler(models=(model,)), space=BOX).best_value < 2e-3


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("model", [RANKED, PLAIN], ids=["ranked", "plain"])
def test_trials_that_fail_anywhere_do_not_mislead_the_model(model, share):
    best = []
    for seed in range(4):
        lost = np.random.default_rng(seed).random(40) < share
        study = run(
            lambda t, lost=lost: 1 / 0 if lost[t.number] else bowl(t), GPSampler(models=(model,)), 40, seed, BOX
        )
        best.append(study.best_value)
    assert np.median(best) < 2e-3  # of random points 0.05


def test_failures_turn_the_search_away():
    def half_fails(trial):
        return bowl(trial) if trial.params["x0"] < 0.5 else 1 / 0

    study = run(half_fails, GPSampler(), n=40, space=BOX)
    assert study.best_value < 5e-3
    assert sum(t.params["x0"] >= 0.5 for t in study.trials[10:]) < 10


def test_infinite_values_of_both_signs_are_survived():
    def odd(trial):
        return (bowl(trial), math.inf, -math.inf, 1e308, -1e308)[trial.number % 5]

    for direction in ("minimize", "maximize"):
        run(odd, GPSampler(), space=BOX, direction=direction)


def test_more_trials_than_rows():
    study = run(bowl, GPSampler(rows=40, fit_rows=20), n=80, space=BOX)
    assert study.best_value < 2e-3


@pytest.mark.slow
def test_noise_is_averaged_over():
    def noisy(trial):
        return bowl(trial) + 0.15 * np.random.default_rng(trial.number).standard_normal()

    late = []
    for seed in range(8):
        study = run(noisy, GPSampler(), n=50, seed=seed, space=BOX)
        late += [sum((v - 0.3) ** 2 for v in t.params.values()) for t in study.trials[40:]]
    assert np.median(late) < 0.2  # a random point has 0.45


def test_settings_are_checked():
    for wrong in ({"startup": 1}, {"narrow": -1}, {"models": ()}, {"rows": 10}):
        with pytest.raises(ValueError, match="GPSampler"):
            GPSampler(**wrong)
    with pytest.raises(ValueError, match="dimensions"):
        AutoSampler(dimensions=-1)


FINITE = Space({"c": ["a", "b"], "i": Int(1, 6), "k": Int(1, 3)}, when={"i": {"c": ["a"]}})


def test_auto_ends_a_finite_space_when_all_was_tried():
    study = run(lambda t: t.params["k"], "auto", n=60, space=FINITE)
    assert len({repr(t.params) for t in study.trials}) == len(study.trials) == 21
    with pytest.raises(StudyStopped, match="All 21 settings"):
        study.ask()
    assert study.best_value == 1


def test_auto_goes_on_where_values_differ_or_the_objective_may_show_more():
    assert len(run(lambda t: t.params["k"], AutoSampler(deterministic=False), n=25, space=FINITE).trials) == 25
    assert len(run(lambda t: t.suggest_int("k", 1, 3), "auto", n=8).trials) == 8


def test_running_trials_count_as_tried_and_lost_ones_do_not():
    study = inloop.create_study(sampler="auto", pruner="nop", space={"i": Int(1, 4)})
    trials = study.ask_batch(4)
    assert {t.params["i"] for t in trials} == {1, 2, 3, 4}
    with pytest.raises(StudyStopped):
        study.ask()


def test_auto_says_what_it_does_and_why():
    def says(space, n=12, sampler=None):
        study = run(
            lambda t: sum(v for v in t.params.values() if not isinstance(v, str)), sampler or "random", n=n, space=space
        )
        return (sampler or AutoSampler()).describe(study.space, study.history)

    wide = Space({f"x{i}": Float(0, 1) for i in range(160)})
    apart = Space(
        {"m": ["a", "b"], **{f"x{i}": Float(0, 1) for i in range(60)}},
        when={f"x{i}": {"m": ["ab"[i % 2]]} for i in range(60)},
    )
    equal = inloop.create_study(space={"x": Float(0, 1)}, seed=0)
    for _ in range(9):
        equal.tell(equal.ask(), 0.5)
    assert "equal or look like noise" in AutoSampler().describe(equal.space, equal.history)
    noisy, rng = inloop.create_study(space=equal.space, seed=0), np.random.default_rng(0)
    for _ in range(30):
        noisy.tell(noisy.ask(), rng.normal())
    assert "look like noise" in repr(noisy)
    assert "first trial" in AutoSampler().describe(None, inloop.create_study().history)
    assert "2 so far" in says(BOX, 2)
    assert says(BOX).startswith("Gaussian process for 4 parameters")
    assert says(wide).startswith("TPE for 160 parameters")
    assert says(apart).startswith("Gaussian process for 31 parameters")
    assert "all 21 settings" in says(FINITE)
    assert "again" in says(FINITE, 30, AutoSampler(deterministic=False))


def curve(values, steps=None):
    c = Curve()
    c.steps, c.values = list(steps or range(1, len(values) + 1)), list(values)
    return c


def test_a_smoothed_value_is_the_mean_over_the_last_eighth():
    c = curve(range(1, 53))
    for step, width in ((3, 1), (9, 2), (27, 4), (52, 7)):
        assert curves.smoothed(c, 1.0, step) == np.mean(range(step - width + 1, step + 1))
    later = curve(range(53), range(1000, 1053))  # goes on from a base model
    for step, width in ((3, 1), (9, 2), (27, 4), (52, 7)):
        assert curves.smoothed(later, 1.0, 1000 + step) == np.mean(range(step - width + 1, step + 1))
    sparse = curve([5.0, 3.0, 2.0], [100, 200, 300])
    assert curves.smoothed(sparse, -1.0, 250) == -3.0
    assert math.isnan(curves.smoothed(sparse, 1.0, 99))
    assert math.isnan(curves.smoothed(curve([1.0, math.nan]), 1.0, 2))


@pytest.mark.parametrize("pruner", ["nop", "auto"])
@pytest.mark.parametrize("first", [1000, 100_000])
def test_where_steps_start_to_count_changes_no_proposal(first, pruner):
    """Early losses are least at 0.8, final ones at 0.2."""

    def proposals(first):
        study = inloop.create_study(sampler="gp", pruner=pruner, seed=0, space={"x": Float(0, 1)})

        def objective(trial):
            for step in range(50):
                late = min(1.0, step / 45)
                value = late * (trial.params["x"] - 0.2) ** 2 + (1 - late) * 3 * (trial.params["x"] - 0.8) ** 2
                trial.report(value, first + step)
                if trial.should_prune():
                    break
            return value

        study.optimize(objective, n_trials=20)
        return [(t.params["x"], t.reports) for t in study.trials]

    assert proposals(first) == proposals(0)


def test_a_foretold_loss_is_that_of_the_plain_formula():
    rng = np.random.default_rng(0)
    then, finals = rng.random((1, 9)), rng.random(9)
    finals += 0.8 * then[0]
    then[0, 2] = np.nan
    x, y = np.delete(then[0], 2), np.delete(finals, 2)
    g = y - x
    slope = ((x - x.mean()) * (g - g.mean())).sum() / (((x - x.mean()) ** 2).sum() + 2 * x.var())
    left = g - g.mean() - slope * (x - x.mean())
    vague = abs(g.mean()) + y.std()
    sd = math.sqrt(((left**2).sum() + (vague / 2) ** 2) / 7 * (1 + 1 / 8))
    expected = 5.0 + g.mean() + slope * (5.0 - x.mean()) + sd
    out = curves.foretold(np.array([5.0]), then, finals)[0]
    assert out == pytest.approx(max(expected, np.median(finals)))


@pytest.mark.parametrize("k", [0, 1, 2, 50])
def test_a_foretold_loss_is_never_good(k):
    rng = np.random.default_rng(k)
    finals = rng.random(k)
    out = curves.foretold(np.array([-9.0, 0.5, 9.0]), rng.random((3, k)), finals)
    assert np.isfinite(out).all()
    assert (out >= (np.median(finals) if k else -9.0)).all()


@pytest.mark.parametrize("far", [1e3, 1e160, 1e300])
@pytest.mark.parametrize("at", [0, 7])
def test_a_complete_trial_that_diverged_foretells_nothing(far, at):
    rng = np.random.default_rng(1)
    now, then, finals = np.array([0.5, 1.0, far]), rng.random((3, 30)), rng.random(30)
    more = np.insert(then, at, far, 1), np.insert(finals, at, 2 * far)
    with np.errstate(all="raise"):
        np.testing.assert_allclose(curves.foretold(now, *more), curves.foretold(now, then, finals))
        assert np.isfinite(curves.foretold(now, then, np.append(finals[:-1], -far))).all()


def test_pruned_and_running_trials_teach_and_failed_ones_do_not_fool():
    study = inloop.create_study(pruner="nop", sampler="random", seed=0, space=BOX, direction="maximize")
    for end in ("complete", "complete", "complete", "pruned", "running", "failed", "told otherwise", "nan"):
        trial = study.ask()
        for step in range(1, 17 if end not in ("pruned", "running") else 4):
            trial.report(math.nan if end == "nan" else 1.0 - 1.0 / step, step)
        if end != "running":
            value = 3.0 if end == "told otherwise" else 1.0 - 1.0 / 16
            study.tell(trial, value, state=end if end in ("pruned", "failed") else None)
    losses = curves.curves(study.history).losses(np.arange(8), 7)
    complete = -np.mean([1 - 1 / 14, 1 - 1 / 15, 1 - 1 / 16])
    np.testing.assert_allclose(losses[:3], complete)
    assert (losses[3:5] >= complete).all()
    assert losses[5] == math.inf
    assert losses[6] == -3.0
    assert losses[7] == -0.9375


@pytest.mark.parametrize(
    ("prunes", "trusted", "wider"), [(False, False, False), (True, False, True), (True, True, False)]
)
def test_pruned_trials_widen_the_search_unless_their_reports_are_trusted(prunes, trusted, wider):
    def proposal(factor):
        study = inloop.create_study(seed=0, space={"x": Float(0, 1), "y": Float(0, 1)}, sampler="random")
        if trusted:
            curves.trust(study.history)
        for n in range(30):
            trial = study.ask()
            trial.report(sum(trial.params.values()), 0)
            study.tell(trial, sum(trial.params.values()), "pruned" if prunes and n % 3 == 0 else None)
        sampler = GPSampler(widen_pruned=factor)
        return sampler.ask(study.space, study.history, len(study.trials), np.random.default_rng(0))

    assert (proposal(1.5) != proposal(6.0)) is wider


def test_a_pruner_beside_it_saves_more_than_it_costs():
    def objective(trial):
        end = bowl(trial)
        for step in range(1, 28):
            trial.report(end + 1.0 / step, step)
            if trial.should_prune():
                return end + 1.0 / step
        return end

    pruner = inloop.pruners.SuccessiveHalvingPruner(min_resource=3)
    study = inloop.create_study(sampler="gp", pruner=pruner, seed=0, space=BOX)
    study.optimize(objective, n_trials=60)
    assert study.best_value < 0.01
    assert sum(t.reports for t in study.trials) < 0.6 * 60 * 27


@pytest.mark.parametrize("p", [1, 2, 7])
@pytest.mark.parametrize("stretch", [1.0, 1e4])
def test_ascent_within_bounds(p, stretch):
    """Of a hill: its top, or the foot of it on the bounds; what is not free stays; points are on their own."""
    rng = np.random.default_rng(p)
    tops = rng.uniform(-0.5, 1.5, (6, p))
    half = rng.normal(size=(6, p, p))
    bends = half @ half.transpose(0, 2, 1) + 0.5 * np.eye(p)
    starts, free = rng.random((6, p)), rng.random((6, p)) < 0.8
    starts[0] = 0.0

    def hills(x):
        off = x - tops
        pull = np.einsum("ijk,ik->ij", bends, off)
        return -0.5 * stretch * (off * pull).sum(1), -stretch * pull

    ends, inverse = ascend(hills, starts, free, 100)
    assert ((ends >= 0) & (ends <= 1)).all()
    assert (ends[~free] == starts[~free]).all()
    assert (hills(ends)[0] >= hills(starts)[0]).all()
    for i in range(6):
        slope = hills(ends)[1][i] / stretch
        inwards = np.where(ends[i] == 0, slope > 0, np.where(ends[i] == 1, slope < 0, True))
        assert np.abs(slope[free[i] & inwards]).max(initial=0.0) < 1e-3
    calls = []
    again, _ = ascend(lambda x: calls.append(1) or hills(x), ends, free, 100, inverse=inverse)
    assert len(calls) <= 3  # it knows where it is
    assert np.abs(again - ends).max() < 1e-2


def test_ascent_leaves_flat_ground():
    ends, _ = ascend(lambda x: (np.zeros(len(x)), np.zeros(x.shape)), np.full((3, 2), 0.5), np.ones((3, 2), bool), 5)
    assert (ends == 0.5).all()


SORTED = {
    "usual": np.sort(np.random.default_rng(0).random(30)),
    "one far better": np.append(-20.0, np.sort(np.random.default_rng(0).random(30))),
    "one absurd": np.append(-1e6, np.sort(np.random.default_rng(0).random(30))),
    "off a plateau": np.append(-0.8, np.zeros(30)),
    "off a noisy plateau": np.append(-0.8, np.sort(1e-6 * np.random.default_rng(0).random(30))),
}


@pytest.mark.parametrize("model", [RANKED, PLAIN], ids=["ranked", "plain"])
@pytest.mark.parametrize("losses", SORTED.values(), ids=SORTED)
def test_targets_keep_the_order_and_do_not_depend_on_level_and_scale(losses, model):
    ones = np.ones(len(losses))
    targets = model.warp(losses, ones)
    assert np.ptp(targets) > 0.5
    assert (np.diff(targets) >= 0).all()
    assert np.allclose(targets, model.warp(4.0 * losses - 3.0, ones), atol=1e-6)


def test_an_absurd_value_is_a_bug_and_the_first_one_off_a_plateau_is_not():
    for model in (RANKED, PLAIN):
        first = {name: model.warp(losses, np.ones(len(losses)))[:2] for name, losses in SORTED.items()}
        assert first["one far better"][0] < first["one far better"][1]
        assert first["off a plateau"][0] < first["off a plateau"][1]
        assert first["one absurd"][0] == first["one absurd"][1]


def test_the_evidence_is_that_of_the_targets():
    """By the density of a multivariate normal, against independent ones."""
    units, targets = observations()
    inputs = Inputs.of(MIXED.columns)
    theta = fit(Data.of(units, targets, inputs), Prior()).theta
    flat = Prior(*[(0.0, 1e9)] * 5)
    value, _ = log_posterior(theta, Data.of(units, targets, inputs), flat)
    assert Posterior(units, targets, inputs, theta).evidence == pytest.approx(0.5 * targets @ targets - value)


FORGOTTEN_LOGS = {  # objectives that change by orders of magnitude at one end of a linear range
    "low": ({"a": Float(0, 1)}, lambda a: (math.log10(a + 1e-6) + 3) ** 2),
    "high": ({"a": Float(0, 1)}, lambda a: (math.log10(1 - a + 1e-6) + 3) ** 2),
    "whole": ({"n": Int(1, 10_000)}, lambda n: abs(math.log(n / 150))),
    "two": (
        {"n": Int(1, 10_000), "c": Float(1e-3, 1000)},
        lambda n, c: abs(math.log10(n / 150)) + abs(math.log10(c / 0.5)),
    ),
    "conditional": (
        Space({"kind": ["x", "y"], "a": Float(0, 1)}, when={"a": {"kind": ["y"]}}),
        lambda kind, a=1.0: (math.log10(a + 1e-6) + 3) ** 2,
    ),
}


@pytest.mark.filterwarnings("ignore::inloop.SpaceWarning")
@pytest.mark.parametrize("name", FORGOTTEN_LOGS)
def test_a_linear_range_that_should_be_logarithmic_is_no_trap(name):
    space, loss = FORGOTTEN_LOGS[name]
    best = []
    for seed in range(3):
        study = inloop.create_study(space=space, seed=seed)
        study.optimize(lambda trial: loss(**trial.params), n_trials=60)
        best.append(study.best_value)
    assert sorted(best)[1] < 0.1


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-5, 3), (0, 1e-300), (1, 50), (-1e9, 1e9), (1e-8, 1)])
def test_a_stretched_range_leads_back(low, high, up):
    space = Space({"a": Float(low, high)})
    dist = stretched(space, (("a", up),))["a"]
    for u in np.linspace(0, 1, 101):
        value = dist.from_unit(u)
        assert space["a"].contains(value)
        assert dist.to_unit(value) == pytest.approx(u, abs=1e-9)
    assert {dist.from_unit(0.0), dist.from_unit(1.0)} == {low, high}
