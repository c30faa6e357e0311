"""The fit of one fold with reports from inside: who judges them, and how many iterations there may be."""

from __future__ import annotations

import copy
import math
import numbers
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from inloop import FrozenTrial
from inloop.distributions import Quantile
from inloop.events import Event
from inloop.history import History
from inloop.pruners import Pruner
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection._validation import _fit_and_score, _score
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from ._sklearn_early import ROUNDS, Watched, best_rounds, kind_of, quiet, stops_early
from ._sklearn_families import (
    LAST_EPOCH,
    PARTS,
    Family,
    by_epochs,
    by_parts,
    family_of,
    given,
    iterations_of,
    warn_unwatched,
)
from ._sklearn_pipelines import before_last, ending_with, last_step, predicts_as_usual
from ._sklearn_scores import Score, named, needs_last_step_alone, quick, unheard

_JUDGED = ("study", "created", "report", "pruned", "finished")  # kinds of events that pruners go by


class View:
    """A study as it stood when one of its candidates was proposed, and what that candidate has reported since.

    Args:
        log: The events so far; what is added to it later counts with `update`. Several views may share it.
    """

    def __init__(self, log: Sequence[Event] = ()) -> None:
        self._history = History()
        self._log = log
        self._read = len(log)
        self._folded = 0

    @property
    def history(self) -> History:
        """The fold of the events; what is new is folded in when it is looked at."""
        if self._folded < self._read:
            self._history.apply(self._log[self._folded : self._read])
            self._folded = self._read
        return self._history

    def update(self) -> None:
        """Take in all of the log."""
        self._read = len(self._log)

    def report(self, number: int, stream: int, step: int, value: float) -> FrozenTrial:
        """Take in a report that the study's log will have later: of two the first counts. Return the trial."""
        history = self.history
        history.apply([Event("view", history.events, "report", number, (stream, step, value))])
        return history.trials[number]

    def fork(self) -> View:
        """Return a view for one fold alone, of what pruners go by."""
        return View([e for e in self._log[: self._read] if e.kind in _JUDGED])

    def __reduce__(self) -> Any:
        return View, (self.fork()._log,)


class Watcher(ABC):
    """Takes the scores of one fold after some of its iterations, and says when to stop.

    It judges by the study as it stood when the candidate was proposed and by the fold's own scores alone, so it gives
    the same answers in any process and at any time.
    """

    def __init__(self) -> None:
        #: (iteration, score), in order.
        self.curve: list[tuple[int, float]] = []
        self.stopped = False

    def __call__(self, step: int, score: float | None) -> bool:
        """Take the score after ``step`` iterations, None: it has none; return whether to stop.

        One that is not defined, as the precision of a model that predicts no class yet, tells nothing of the end.
        """
        if score is None or math.isnan(score):
            return False
        self.stopped = self._prunes(step, score)
        self.curve.append((step, score))
        return self.stopped

    @abstractmethod
    def _prunes(self, step: int, score: float) -> bool: ...


class Watch(Watcher):
    """Asks any pruner.

    Args:
        pruner: Whom to ask.
        view: The study at that time.
        number: The candidate's trial.
        stream: The stream of this fold.
    """

    def __init__(self, pruner: Pruner, view: View, number: int, stream: int) -> None:
        super().__init__()
        self._pruner = pruner
        self._view = view
        self._number = number
        self._stream = stream

    def _prunes(self, step: int, score: float) -> bool:
        history = self._view.history
        if history.best is None:
            return False
        record = self._view.report(self._number, self._stream, step, score)
        return self._pruner.prune(history, record, self._stream, len(self.curve))


def run_fold(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    watch: Watcher | None,
    value: Callable[[Any], float],
    watched: Watched,
    **options: Any,
) -> dict[str, Any]:
    """Fit and score one fold as scikit-learn does, with reports to ``watch`` from inside the fit.

    Args:
        estimator: A clone to fit.
        X: All of the data.
        y: All of the targets.
        watch: Takes the reports; None: no reports.
        value: Takes what the scorer gave (a number or a dict), returns the value of the objective.
        watched: Rows for boosters that stop early by themselves.
        **options: Of scikit-learn's ``_fit_and_score``.

    Returns:
        scikit-learn's result of the fold, with ``curve`` and ``stopped`` of the watch, the ``iterations`` run, and
        ``rounds``: after how many a booster that stopped early was best, None for others.
    """
    fold = _Fold(estimator, X, y, watch, value, watched, options)
    if watch is not None or fold.has_booster():
        fold.attach()
    out: dict[str, Any] = _fit_and_score(estimator, X, y, **options)
    out.update({k: named(out[k]) for k in ("test_scores", "train_scores") if k in out})
    last = last_step(estimator)
    out["curve"] = watch.curve if watch is not None else []
    out["stopped"] = watch is not None and watch.stopped
    out["iterations"] = watch.curve[-1][0] if watch is not None and watch.stopped else iterations_of(last)
    out["rounds"] = best_rounds(last) if fold.early else None
    return out


class _Fold:
    """One fold whose last step is fitted in our own way."""

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        watch: Watcher | None,
        value: Callable[[Any], float],
        watched: Watched,
        options: Mapping[str, Any],
    ) -> None:
        self._estimator = estimator
        self._data = X, y
        self._watch = watch
        self._value = value
        self._watched = watched
        self._options = options
        self.early = False

    def has_booster(self) -> bool:
        """Say whether the last step is, or may become, a booster."""
        named = (last_step(v) for v in self._options["parameters"].values())
        return any(kind_of(last) is not None for last in (last_step(self._estimator), *named))

    def attach(self) -> None:
        """Have the next ``fit`` of the estimator go by `_fit_last`.

        The method is replaced on the instance, for one call: the last step is known only after ``set_params``, and its
        training rows only when the steps before it are fitted.
        """
        estimator = self._estimator

        def fit(*args: Any, **kwargs: Any) -> Any:
            del estimator.fit
            last = last_step(estimator)
            reports = self._watch is not None and family_of(last) is not None
            if not reports and kind_of(last) is None:
                return estimator.fit(*args, **kwargs)

            def fit_last(*args: Any, **kwargs: Any) -> Any:
                del last.fit
                self._fit_last(last, args, kwargs)
                return last

            last.fit = fit_last
            try:
                return estimator.fit(*args, **kwargs)
            finally:
                vars(last).pop("fit", None)

        estimator.fit = fit

    def _fit_last(self, last: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.early = stops_early(last, kwargs)
        family = None if self._watch is None else family_of(last)
        if family is None and not self.early:
            last.fit(*args, **kwargs)
            return
        X, y = self._data
        options = self._options

        def test() -> tuple[Any, Any]:  # cut anew for each use: steps may transform in place
            cut: tuple[Any, Any] = _safe_split(self._estimator, X, y, options["test"], options["train"])
            return cut

        rows, test_y = test()
        if family is not None or self._watched.rows == "test":
            rows, family = self._transformed(rows, last, family)
        if self.early:
            args, kwargs = self._watched.given(last, args, kwargs, (rows, test_y))
        with quiet() if self.early else nullcontext():
            if family is None or self._watch is None:
                last.fit(*args, **kwargs)
            else:
                family(last, args, kwargs, Score(rows, test_y, self._scoring(test, rows, test_y)), self._watch)

    def _transformed(self, rows: Any, last: Any, family: Family | None) -> tuple[Any, Family | None]:
        """Return the test rows as the last step takes them, and no family if they cannot be had here."""
        try:
            for step in before_last(self._estimator):
                rows = step.transform(rows)
        except Exception as error:  # it may want metadata that only predictions are given
            if self.early and self._watched.rows == "test":
                raise
            warn_unwatched(last, "the steps before it do not transform the test rows", error)
            return rows, None
        return rows, family

    def _scoring(self, test: Callable[[], tuple[Any, Any]], rows: Any, y: Any) -> Callable[[Any], float | None]:
        """Return what scores the last step as it is after some iterations, until that fails once.

        Args:
            test: Returns the test rows and their targets.
            rows: The rows as the last step takes them.
            y: The targets.
        """
        scorer = self._options["scorer"]
        params = _check_method_params(
            self._data[0], params=self._options["score_params"], indices=self._options["test"]
        )
        alone = needs_last_step_alone(scorer) and predicts_as_usual(self._estimator)
        fast = quick(scorer, y) if alone and not params else None
        if isinstance(scorer, _MultimetricScorer):
            scorer = copy.copy(scorer)
            scorer._raise_exc = True
        failed = False

        def score(view: Any) -> float | None:
            nonlocal failed
            if failed:
                return None
            try:
                with unheard():
                    known = None if fast is None else fast(view, rows)
                    if known is None:
                        whole, X = (view, rows) if alone else (ending_with(self._estimator, view), test()[0])
                        known = named(_score(whole, X, y, scorer, params, "raise"))
                    return self._value(known)
            except Exception as error:  # the end of the fit, which is scored as usual, shows whether it matters
                failed = True
                warnings.warn(
                    f"Scoring failed inside a fit, which is no longer watched ({type(error).__name__}: {error})",
                    UserWarning,
                    stacklevel=2,
                )
                return None

        return score


def most_iterations(estimator: Any, space: Mapping[str, Any]) -> int:
    """Return the largest number of iterations that candidates may have, 0 if it is not known.

    Args:
        estimator: Of the search; the number is that of its last step.
        space: Distributions by parameter of ``estimator``, or a `Space` of several dicts: the number, or the steps,
            may be searched for.
    """
    most = _most(estimator, space, "")
    return 0 if math.isinf(most) else int(most)


def _most(estimator: Any, space: Mapping[str, Any], prefix: str) -> float:
    """Return the largest number of iterations: 0 where there are no reports, infinity where it is not known."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        searched, always = _searched(space, prefix + name)
        lasts = [choice for dist in searched for choice in getattr(dist, "choices", ())] + [last] * (not always)
        return max((_most(one, space, f"{prefix}{name}__") for one in lasts), default=math.inf)
    family = family_of(estimator)
    if family is None or family is by_parts:
        return 0 if family is None else PARTS
    params = estimator.get_params()
    tops, fixed = [], True
    for name in ROUNDS:
        searched, always = _searched(space, prefix + name)
        tops += [_top(dist, given(estimator, {**params, name: None})) for dist in searched]
        fixed = fixed and not always
    most = max([*tops, given(estimator, params)] if fixed else tops)
    return min(most, LAST_EPOCH) if family is by_epochs else most


def _searched(space: Mapping[str, Any], param: str) -> tuple[list[Any], bool]:
    """Return the distributions of a parameter, one for each of its columns, and whether it is always searched for."""
    # in a search of several dicts the columns of one parameter are "name", "name (1)" and so on
    columns = [column for column in space if re.sub(r" \(\d+\)$", "", column) == param]
    return [space[column] for column in columns], any(c not in getattr(space, "when", ()) for c in columns)


def _top(dist: Any, default: float) -> float:
    """Return the largest number of iterations of a distribution, where None stands for ``default``."""
    if isinstance(dist, Quantile):
        return dist.from_unit(1.0 - 1e-3)
    if hasattr(dist, "high"):
        return float(dist.high)
    choices = [default if c is None else c for c in getattr(dist, "choices", ())]
    return max((float(c) for c in choices if isinstance(c, numbers.Real)), default=math.inf)
