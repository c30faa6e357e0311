"""What a search tells the outside while it runs: scikit-learn's callbacks, and a line of progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from inloop import FrozenTrial, Study, TrialState
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _fit_and_score


class Hooks:
    """The callbacks of scikit-learn 1.9 (``set_callbacks``) around a search; nothing in earlier versions.

    Attributes:
        any: Whether there is a callback that looks at the folds.
    """

    def __init__(self, search: BaseSearchCV, X: Any, y: Any, sample_weight: Any) -> None:
        self._search = search
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"estimator": search, "X": X, "y": y, "metadata": metadata}
        self._known = "callback_ctx" in signature(_fit_and_score).parameters
        inner = search.estimator.get_params().values() if self._known else ()
        self.any = any(getattr(e, "_skl_callbacks", None) for e in (search, search.estimator, *inner))
        if self._known:
            root = search._init_callback_context(max_subtasks=1 + (search.refit is not False))
            self._root = root.call_on_fit_task_begin(**self._data)

    @contextmanager
    def search(self, n_fits: int) -> Iterator[None]:
        """Enclose the folds of all candidates."""
        if not self._known:
            yield
            return
        task = self._root.subcontext(task_name="search", max_subtasks=n_fits, sequential_subtasks=False)
        self._folds = task.call_on_fit_task_begin(estimator=self._search)
        yield
        self._folds.call_on_fit_task_end(estimator=self._search)

    def fold(self, task: int) -> dict[str, Any]:
        """Return what one fold is run with."""
        if not self.any:  # nothing looks at it, and it need not travel
            return {}
        context = self._folds.subcontext(task_name="candidate-split-evaluation", task_id=task)
        return {"caller": self._search, "callback_ctx": context}

    @contextmanager
    def refit(self, estimator: Any) -> Iterator[None]:
        """Enclose the fit of the best candidate."""
        if not self._known:
            yield
            return
        task = self._root.subcontext(task_name="refit-with-best-params")
        with task.propagate_callback_context(estimator):
            task.call_on_fit_task_begin(**self._data)
            yield
        task.call_on_fit_task_end(**self._data)

    def end(self) -> None:
        """Say that the search is over."""
        if self._known:
            self._root.call_on_fit_task_end(**self._data)


class Progress:
    """A tqdm line with the best score so far and the number of pruned candidates; nothing without tqdm or ``show``."""

    def __init__(self, total: int, done: int, show: bool) -> None:
        self._bar: Any = None
        if show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, initial=done, unit="candidate")

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Count one more candidate."""
        if self._bar is not None:
            history = study.history
            best = history.best.value if history.best is not None else None
            text = {"best": "-" if best is None else f"{best:.5g}", "pruned": history.states[TrialState.PRUNED]}
            self._bar.set_postfix(text, refresh=False)
            self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()
