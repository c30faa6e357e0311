"""Pictures of a search, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import matplotlib.pyplot as plt
from inloop import FrozenTrial, Study, TrialState
from inloop.record import Curve
from matplotlib.axes import Axes

# Okabe and Ito, "Color universal design", 2008: told apart with every kind of colour vision, and in grey
BLUE, ORANGE, GREEN, BLACK, GREY = "#0072B2", "#E69F00", "#009E73", "#000000", "#8C8C8C"
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, ":"), (BLACK, "-."))


def plot_history(study: Study, ax: Axes | None = None) -> Axes:
    """Draw the value of each trial, with pruned ones marked, and the best so far.

    A pruned trial stands at its last report. Values that are not finite are left out.

    Args:
        study: What to draw.
        ax: Where; None: new axes.
    """
    ax = _axes(ax)
    done = [t for t in study.trials if t.state is TrialState.COMPLETE]
    pruned = [t for t in study.trials if t.state is TrialState.PRUNED and t.last is not None]
    ax.plot(*_points(pruned), "x", color=ORANGE, ms=6, mew=1.6, label=f"pruned ({len(pruned)})")
    ax.plot(*_points(done), "o", color=BLUE, ms=6, label=f"complete ({len(done)})")
    best = _best_so_far(study, done)
    ax.step([t.number for t in done], best, where="post", color=BLUE, lw=1.2, alpha=0.6, label="best so far")
    ax.set(xlabel="trial", ylabel="value", title="Search history")
    ax.legend()
    return ax


def plot_curves(study: Study, ax: Axes | None = None, stream: int = 0) -> Axes:
    """Draw what each trial reported at each step; a cross ends a pruned one, a dot is one with a single report.

    Args:
        study: What to draw.
        ax: Where; None: new axes.
        stream: Which of the trials' curves, see `Trial.report`.
    """
    ax = _axes(ax)
    best = study.history.best
    for trial in study.trials:
        curve = trial.curves.get(stream)
        if curve is None or trial is best:
            continue
        over = trial.state is TrialState.PRUNED
        color, alpha = (ORANGE, 0.9) if over else (GREY, 0.7)
        ax.plot(curve.steps, curve.values, _dot(curve), color=color, lw=1, ms=3, alpha=alpha)
        if over:
            ax.plot(curve.steps[-1:], curve.values[-1:], "x", color=ORANGE, ms=6, mew=1.6)
    ax.plot([], [], "-x", color=ORANGE, lw=1, ms=6, mew=1.6, label="pruned")
    ax.plot([], [], "-", color=GREY, lw=1, label="others")
    if best is not None and stream in best.curves:
        curve = best.curves[stream]
        ax.plot(curve.steps, curve.values, _dot(curve), color=BLUE, lw=2.2, ms=6, label=f"best: trial {best.number}")
    ax.set(xlabel="step", ylabel="reported value", title="Learning curves")
    ax.legend()
    return ax


def plot_effort(studies: Mapping[str, Study], ax: Axes | None = None, stream: int | None = None) -> Axes:
    """Draw the best value so far of several searches against the reports that they had cost.

    Compare what reports equally often, such as once a step.

    Args:
        studies: Label to study; up to four lines differ in colour and dashes.
        ax: Where; None: new axes.
        stream: Of which of the trials' curves reports count; None: of all, as where a trial fits several models.
            `BayesSearchCV` reports a fold in two of them: 0 counts each once, as ``n_splits_run`` does, and none that
            was stopped inside its fit.
    """
    ax = _axes(ax)
    for (label, study), (color, dashes) in zip(studies.items(), LINES * len(studies), strict=False):
        cost = list(accumulate(t.reports if stream is None else len(t.curves.get(stream, ())) for t in study.trials))
        done = [t for t in study.trials if t.state is TrialState.COMPLETE]
        best = _best_so_far(study, done)
        if not done:
            continue
        ends = [cost[t.number] for t in done]
        ax.step([*ends, cost[-1]], [*best, best[-1]], where="post", color=color, ls=dashes, lw=2, label=label)
        ax.plot(cost[-1], best[-1], "o", color=color, ms=6)
    ax.set(xlabel="reports, all trials together", ylabel="best value so far", title="What it cost")
    ax.legend()
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _dot(curve: Curve) -> str:
    """Return the format of a curve: a single report has no line."""
    return "-o" if len(curve) == 1 else "-"


def _points(trials: list[FrozenTrial]) -> tuple[list[int], list[Any]]:
    values = [t.value if t.state is TrialState.COMPLETE or t.last is None else t.last[2] for t in trials]
    return [t.number for t in trials], [v if v is not None and math.isfinite(v) else math.nan for v in values]


def _best_so_far(study: Study, done: list[FrozenTrial]) -> list[float]:
    better = min if study.direction == "minimize" else max
    return list(accumulate((float("nan") if t.value is None else t.value for t in done), better))
