"""What samplers are told of pruned candidates: an estimate of the score that they would have had."""

from __future__ import annotations

from typing import Any

import numpy as np
from inloop import FrozenTrial, Space, TrialState
from inloop.events import Event
from inloop.history import History
from inloop.samplers import Sampler
from inloop.samplers.curves import foretold

from ._sklearn_paired import FOLDS, ITERATIONS, LEAST, noise


class Foretelling(Sampler):
    """Lets a sampler see pruned candidates as complete ones with the score that is foretold for them.

    A candidate pruned between folds counts as the best one then, plus the mean difference on the folds that it has
    run, less the noise of that difference. Samplers by themselves take a pruned trial for no better than the
    median one: right for curves that were cut early, but it makes points near the best one, which fall behind it by
    little, look bad, and the search keeps away from there.

    Args:
        sampler: Who proposes.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self._forget(None)

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        return self.sampler.ask(space, self._seen(history), number, rng)

    def exhausted(self, history: History, space: Space | None = None) -> str | None:
        return self.sampler.exhausted(history, space)

    def __repr__(self) -> str:
        return repr(self.sampler)

    def __getstate__(self) -> dict[str, Any]:
        return {"sampler": self.sampler}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["sampler"])  # type: ignore[misc]

    def _forget(self, history: History | None) -> None:
        """Begin anew with another history."""
        self._history = history
        self._shown = History()
        self._complete: list[FrozenTrial] = []
        self._told = 0
        self._bare: list[int] = []  # trials that are shown without parameters

    def _seen(self, history: History) -> History:
        """Return a history brought up to date with what is new in ``history``."""
        if history is not self._history:
            self._forget(history)
            self._write("study", -1, history.header)
            self._shown.uid = history.uid
        for space in history.spaces.values():
            if self._shown.spaces.get(space.id) is not space:
                self._write("space", -1, {"id": space.id, "space": space.to_json()})
                self._shown.provide(space)
        new = range(len(self._shown.trials), len(history.trials))
        for number in new:
            trial = history.trials[number]
            self._write("created", -1, (trial._start, False, trial.lease))
        self._bare = [n for n in (*self._bare, *new) if not self._show(history, history.trials[n])]
        for number in history.told[self._told :]:
            self._end(history, history.trials[number])
        self._told = len(history.told)
        return self._shown

    def _show(self, history: History, trial: FrozenTrial) -> bool:
        """Show a trial's parameters, if it has them; return whether it has."""
        if not trial.params:
            return trial.finished
        space = next(s for s in history.spaces.values() if all(n in s for n in trial.params))
        self._write("params", trial.number, (space.id, space.pack(trial.params)))
        return True

    def _end(self, history: History, trial: FrozenTrial) -> None:
        state, value = trial.state, trial.value
        if state is TrialState.PRUNED:
            loss = self._loss(history.sign, trial)
            state, value = TrialState.COMPLETE, history.sign * loss
            if not np.isfinite(loss):
                state, value = TrialState.FAILED, None
        elif FOLDS in trial.curves and state is TrialState.COMPLETE and np.isfinite(trial.curves[FOLDS].values).all():
            self._complete.append(trial)
        self._write("finished", trial.number, (state.name, value, trial._start))

    def _loss(self, sign: float, trial: FrozenTrial) -> float:
        """Return the loss that is foretold for a pruned trial by the complete ones told before it."""
        rows = np.array([sign * np.array(t.curves[FOLDS].values) for t in self._complete])
        finals = rows.mean(1)
        best = int(np.argmin(finals))
        if FOLDS in trial.curves:
            ours = sign * np.array(trial.curves[FOLDS].values)
            others = np.delete(rows, best, axis=0) - rows[best]
            doubt = noise(others, len(ours)) if len(others) >= LEAST else 0.0
            return float(finals[best] + max((ours - rows[best, : len(ours)]).mean() + doubt, 0.0))
        curve = trial.curves[ITERATIONS]
        then = [_at(t, curve.steps[-1]) for t in self._complete]
        return float(foretold(np.array([sign * curve.values[-1]]), sign * np.array([then]), finals)[0])

    def _write(self, kind: str, number: int, data: Any) -> None:
        self._shown.apply([Event("search", self._shown.events, kind, number, data)])


def _at(trial: FrozenTrial, step: int) -> float:
    """Return what a trial reported from inside its first fold at a step, NaN if nothing."""
    curve = trial.curves.get(ITERATIONS)
    return curve.values[curve.steps.index(step)] if curve is not None and step in curve.steps else np.nan
