"""Pictures of a search in scikit-learn's Display convention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from inloop import FrozenTrial, Study, TrialState
from inloop.distributions import Categorical, Distribution, Float, Int
from inloop.space import Array
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.utils.validation import check_is_fitted

from ._sklearn_report import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class SearchDisplay:
    """A picture of a fitted search; made by `from_search`.

    Attributes:
        ax_: Axes of the picture (the first, where there are several).
        figure_: Its figure.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.svm import SVC
        >>> from inloop.integrations.sklearn import BayesSearchCV
        >>> search = BayesSearchCV(SVC(), n_iter=5, cv=2, random_state=0).fit(*load_iris(return_X_y=True))
        >>> SearchDisplay.from_search(search, kind="slice").ax_.get_xlabel()
        'C'
    """

    def __init__(self, study: Study, kind: str = "history") -> None:
        self.study = study
        self.kind = kind

    @classmethod
    def from_search(cls, search: BaseEstimator, kind: str = "history", ax: Axes | None = None) -> SearchDisplay:
        """Draw a fitted `BayesSearchCV`.

        Args:
            search: The search.
            kind: ``"history"``: score of each candidate and the best so far. ``"curves"``: reports from inside
                fits, or else the mean over the folds so far. ``"parallel"``: a line for each candidate across its
                parameters, the better the darker. ``"slice"``: score over each parameter. ``"importance"``: how much
                worse a random forest foretells the score when a parameter is shuffled (Breiman, "Random forests",
                Machine Learning 45, 2001, section 10). ``"timeline"``: when each candidate began and ended.
            ax: Where to draw; None: a new figure. ``"slice"`` always makes one.

        Raises:
            ValueError: If ``kind`` is none of these, or there are too few complete candidates for it.
        """
        check_is_fitted(search)
        return cls(search.study_, kind).plot(ax)

    def plot(self, ax: Axes | None = None) -> SearchDisplay:
        """Draw, and return the display."""
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {list(_KINDS)}, got {self.kind!r}.")
        import matplotlib.pyplot as plt

        if self.kind == "slice":
            n = len(self.study.history.dists)
            _, axes = plt.subplots(
                1, n, figsize=(max(6.4, 2.4 * n), 3.6), sharey=True, squeeze=False, layout="constrained"
            )
            self.ax_ = _slice(self.study, list(axes[0]))
        else:
            self.ax_ = _KINDS[self.kind](self.study, ax if ax is not None else plt.subplots(layout="constrained")[1])
        self.figure_ = self.ax_.figure
        return self


def _history(study: Study, ax: Axes) -> Axes:
    from inloop.integrations.plot import plot_history

    return _named(plot_history(study, ax))


def _curves(study: Study, ax: Axes) -> Axes:
    from inloop.integrations.plot import plot_curves

    from ._sklearn_folds import ITERATIONS, MEANS

    inside = any(ITERATIONS in t.curves for t in study.trials)
    plot_curves(study, ax, stream=ITERATIONS if inside else MEANS)
    ax.set_xlabel("iterations of the first fold" if inside else "folds")
    return _named(ax)


def _parallel(study: Study, ax: Axes) -> Axes:
    trials, scores = _complete(study, 1)
    dists = study.history.dists
    order = np.argsort(scores)  # the best are drawn last, on top
    shade = np.linspace(0.9, 0.0, len(order))
    for grey, i in zip(shade, order, strict=True):
        places = _places(trials[i], dists)
        best = i == order[-1]
        color, width = ("#0072B2", 2.2) if best else (str(grey), 1)
        # markers: where its neighbours are not active, a parameter has no line
        ax.plot(places, "-o", color=color, lw=width, ms=2 * width, label="best" if best else None)
    ax.set_xticks(range(len(dists)), list(dists), rotation=20, ha="right")
    ax.set(xlim=(-0.2, len(dists) - 0.6), ylim=(-0.04, 1.04), ylabel="place in the range")
    ax.set_title("Parameters, better ones darker")
    paper: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    for j, dist in enumerate(dists.values()):
        for place, text in _ticks(dist).items():
            ax.annotate(
                text, (j, place), (6, 0), textcoords="offset points", va="center", fontsize=7, bbox=paper, zorder=10
            )
    ax.legend(loc="upper right")
    return ax


def _slice(study: Study, axes: list[Axes]) -> Axes:
    trials, scores = _complete(study, 1)
    best = int(np.argmax(scores))
    for ax, (name, dist) in zip(axes, study.history.dists.items(), strict=True):
        on = [i for i, t in enumerate(trials) if name in t.params]
        if isinstance(dist, Float | Int):
            xs: list[Any] = [trials[i].params[name] for i in on]
            ax.set_xscale("log" if dist.log else "linear")
        else:
            xs = [_places(trials[i], {name: dist})[0] for i in on]
            ax.set_xticks(list(_ticks(dist)), list(_ticks(dist).values()), rotation=20, ha="right")
        ax.plot(xs, [scores[i] for i in on], "o", color="#8C8C8C", ms=4)
        if best in on:
            ax.plot(xs[on.index(best)], scores[best], "o", color="#0072B2", ms=7)
        ax.set_xlabel(name)
    axes[0].set_ylabel("score")
    return axes[0]


def _importance(study: Study, ax: Axes) -> Axes:
    trials, scores = _complete(study, 4)
    dists = study.history.dists
    units = np.nan_to_num(np.array([_places(t, dists) for t in trials]), nan=-1.0)
    forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0).fit(units, scores)
    drop = permutation_importance(forest, units, scores, n_repeats=20, random_state=0)
    order = np.argsort(drop.importances_mean)
    ax.barh(
        [list(dists)[j] for j in order], drop.importances_mean[order], xerr=drop.importances_std[order], color="#0072B2"
    )
    ax.set(xlabel="loss of R2 when shuffled", title=f"Importance of the parameters ({len(trials)} candidates)")
    return ax


def _timeline(study: Study, ax: Axes) -> Axes:
    start = min(t.datetime_start for t in study.trials)
    colors = {"COMPLETE": "#0072B2", "PRUNED": "#E69F00", "FAILED": "#8C8C8C", "LOST": "#CCCCCC"}
    for state, color in ((TrialState[name], color) for name, color in colors.items()):
        ended = [t for t in study.trials if t.state is state]
        if not ended:
            continue
        left = [(t.datetime_start - start).total_seconds() for t in ended]
        width = [t.duration.total_seconds() if t.duration is not None else 0.0 for t in ended]
        ax.barh([t.number for t in ended], width, left=left, color=color, label=f"{state.name.lower()} ({len(ended)})")
    ax.set(xlabel="seconds", ylabel="candidate", title="Timeline")
    ax.invert_yaxis()
    ax.legend()
    return ax


_KINDS: dict[str, Callable[..., Axes]] = {
    "history": _history,
    "curves": _curves,
    "parallel": _parallel,
    "slice": _slice,
    "importance": _importance,
    "timeline": _timeline,
}


def _complete(study: Study, least: int) -> tuple[list[FrozenTrial], Array]:
    """Return the complete trials with a finite value, and their values."""
    trials = [
        t for t in study.trials if t.state is TrialState.COMPLETE and t.value is not None and np.isfinite(t.value)
    ]
    if len(trials) < least:
        raise ValueError(f"This picture needs at least {least} complete candidates, there are {len(trials)}.")
    return trials, np.array([t.value for t in trials])


def _places(trial: FrozenTrial, dists: Mapping[str, Distribution]) -> list[float]:
    """Return a trial's places in [0, 1], NaN where a parameter is not active."""
    return [d.to_unit(trial.params[n]) if n in trial.params else np.nan for n, d in dists.items()]


def _ticks(dist: Distribution) -> dict[float, str]:
    """Return place to label of a distribution's ends or choices."""
    if isinstance(dist, Categorical):
        return {
            (k + 0.5) / dist.levels: (c if isinstance(c, str) else shown(c))[:16] for k, c in enumerate(dist.choices)
        }
    if isinstance(dist, Float | Int):
        return {0.0: f"{dist.low:.3g}", 1.0: f"{dist.high:.3g}"}
    return {}


def _named(ax: Axes) -> Axes:
    """Speak of candidates and scores, as a search does."""
    for text in ax.get_legend().get_texts():  # type: ignore[union-attr]  # our own pictures have one
        text.set_text(text.get_text().replace("trial", "candidate"))
    if ax.get_xlabel() == "trial":
        ax.set_xlabel("candidate")
    if ax.get_ylabel() == "value":
        ax.set_ylabel("score")
    return ax
