"""History: the columnar fold of a study's events that samplers and pruners read."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .distributions import Distribution, same
from .events import SCHEMA, Event
from .ranking import Losses, Ranking
from .record import COMPLETE, FAILED, LOST, PRUNED, RUNNING, Curve, FrozenTrial, TrialState
from .space import Array, Space
from .storage import StorageError
from .union import Union

logger = logging.getLogger("inloop")

_MAX_TABLES = 32  # rung tables kept of one stream; a study asks about few, unless its rungs move
_NONE = Losses()


class Encoded:
    """The trials' parameters as points of the unit cube of one space.

    Attributes:
        space: The space that the columns belong to.
    """

    def __init__(self, space: Space, trials: list[FrozenTrial], changed: list[int]) -> None:
        self.space = space
        self._trials = trials
        self._changed = changed
        self._read = 0
        self._units: Array = np.full((64, len(space)), np.nan)

    @property
    def units(self) -> Array:
        """``(n, d)``, row = trial number; NaN where inactive, not (yet) taken or out of range."""
        n = len(self._trials)
        if n > len(self._units):
            more = np.full((max(n, 2 * len(self._units)) - len(self._units), len(self.space)), np.nan)
            self._units = np.concatenate([self._units, more])
        if self._read < len(self._changed):
            for number in set(self._changed[self._read :]):
                trial = self._trials[number]
                self._units[number] = self.space.encode({**trial.proposed, **trial.params})
            self._read = len(self._changed)
        return self._units[:n]


class Rungs(NamedTuple):
    """Which reports are compared at a rung, and in what form.

    Attributes:
        steps: Rung steps counted from ``start``, ascending. A report belongs to the last rung it reaches, and only
            the first report of a trial to reach a rung counts there.
        smoothing: At a rung the mean of the reports of the last ``1 + floor(smoothing * step)`` steps is compared.
        group: Trial number to group; only trials of one group are compared. None: all are.
        start: Step at which training starts.
    """

    steps: tuple[int, ...]
    smoothing: float = 0.0
    group: Callable[[int], int] | None = None
    start: int = 0


class Reached(NamedTuple):
    """The last rung that a trial has reached.

    Attributes:
        position: Of the report that reached it, in the trial's curve.
        group, rung: Whom it is compared with.
        loss: What is compared, the mean of ``averaged`` reports.
    """

    position: int
    group: int
    rung: int
    loss: float
    averaged: int


class RungTable:
    """The rungs of one stream: who reached which, with what loss."""

    def __init__(self, rungs: Rungs, sign: float) -> None:
        self._rungs = rungs
        self._sign = sign
        self._losses: dict[tuple[int, int], Losses] = {}  # by (group, rung)
        #: By trial number.
        self.reached: dict[int, Reached] = {}

    def feed(self, number: int, curve: Curve, position: int) -> None:
        """Take in the report at ``position`` of a trial's curve."""
        steps, smoothing, grouping, start = self._rungs
        step = curve.steps[position]
        rung = bisect_right(steps, step - start) - 1
        before = self.reached.get(number)
        if rung < 0 or (before is not None and rung <= before.rung):
            return
        first = bisect_left(curve.steps, step - int(smoothing * (step - start)), 0, position)
        values = curve.values[first : position + 1]
        loss = self._sign * (values[0] if len(values) == 1 else sum(values) / len(values))
        group = grouping(number) if grouping else 0
        self.reached[number] = Reached(position, group, rung, loss, len(values))
        self._losses.setdefault((group, rung), Losses()).add(loss)

    def losses(self, group: int, rung: int) -> Losses:
        """Return the losses at one rung."""
        return self._losses[group, rung]


class Finals(dict[int, Losses]):
    """The losses that complete trials reported in one stream, by step; read them, do not add to them.

    A dict that fills itself: pruners look into it in every round, where a call would take a microsecond.
    """

    def __init__(self, history: History, stream: int) -> None:
        self._sign = history.sign
        self._unsorted: dict[int, list[float]] = {}  # at steps that nobody has asked about
        for t in history.trials:
            curve = t.curves.get(stream)
            if t.state is COMPLETE and curve is not None:
                self.feed(curve)

    def feed(self, curve: Curve) -> None:
        """Take in the curve of a complete trial."""
        unsorted, sign = self._unsorted, self._sign
        for step, value in zip(curve.steps, curve.values, strict=True):
            losses = self.get(step)
            if losses is not None:
                losses.add(sign * value)
            elif step in unsorted:
                unsorted[step].append(sign * value)
            else:
                unsorted[step] = [sign * value]

    def __missing__(self, step: int) -> Losses:
        found = self._unsorted.pop(step, None)
        if found is None:
            return _NONE
        losses = self[step] = Losses()
        for loss in found:
            losses.add(loss)
        return losses


class FinalsByStream(dict[int, Finals]):
    """`Finals` of every stream that was asked for."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __missing__(self, stream: int) -> Finals:
        finals = self[stream] = Finals(self._history, stream)
        return finals


class History:
    """All that a study's log says, kept up to date with new events only.

    Attributes:
        trials: `FrozenTrial` of every trial, by number.
        sign: +1 where the study minimises, -1 where it maximises; loss = sign * value.
        states: Count of trials by `TrialState`.
        spent: Count of reports of finished trials by state.
        running: Numbers of the running trials, in order.
        ranking: Finished trials (not LOST) from best to worst: complete ones by loss; then pruned ones,
            those with more reports first, by the loss last reported; then failed ones.
        told: Numbers of the finished trials (not LOST) in the order in which they ended.
        best: The complete trial with the best value, the first of equals; None before any.
        longest: Stream -> largest step that a complete trial reported there.
        starts: Stream -> step at which training starts there, the least of the complete trials.
        fullest: Most reports of a complete trial, over all of its streams.
        finals: Losses that complete trials reported, ``finals[stream][step]``.
        uid: Unique id of the study, that of its first event; a name may be given twice, in two storages.
        earlier: Trials of earlier studies, uid of the study and number there -> (space id, stored parameters, loss).
        unknown: Count of events by kind that this version does not know.
        impossible: What is wrong with events whose parameters cannot be; their trials are without these.
        heard: Worker -> the time of day that it wrote last, by its own clock.
        events: How many events of the log are folded in.
        damage: What is wrong with the event after them; empty where none was found.
        torn: Whether an interrupt may have left that event folded in by half; see `anew`.
    """

    def __init__(self) -> None:
        self.header: dict[str, Any] = {}
        self.uid = ""
        self.sign = 1.0
        self.seed = 0
        self.trials: list[FrozenTrial] = []
        self.states: Counter[TrialState] = Counter()
        self.spent: Counter[TrialState] = Counter()
        self.running: dict[int, None] = {}
        self.ranking = Ranking()
        self.told: list[int] = []
        self.best: FrozenTrial | None = None
        self.longest: dict[int, int] = {}
        self.starts: dict[int, int] = {}
        self.fullest = 0
        self._union = Union()
        self._untaught: list[FrozenTrial] = []  # finished since the union last looked
        self.spaces: dict[str, Space] = {}
        self.declared: set[str] = set()  # ids of the spaces that the log holds
        self.user_attrs: dict[str, Any] = {}
        self.queue: deque[tuple[dict[str, Any], dict[str, Any], int]] = deque()
        self.earlier: dict[tuple[str, int], tuple[str, dict[str, Any], float]] = {}
        self.unknown: Counter[str] = Counter()
        self.impossible: list[str] = []
        self.newest: dict[str, int] = {}  # worker -> number of the trial it created last
        self.heard: dict[str, float] = {}
        self.events = 0
        self.damage = ""
        self.torn = False
        self._known: list[FrozenTrial] = []  # objects that the next trials are to be
        self._changed: list[int] = []  # trial numbers, once per change of parameters
        self._encoded: dict[Space, Encoded] = {}
        self.finals = FinalsByStream(self)
        self._tables: dict[int, dict[Rungs, RungTable]] = {}  # by stream
        self._fold: dict[str, Callable[[Event], None]] = {
            "report": self.reported,
            "held": self._held,
            "params": self._params,
            "proposed": self._proposed,
            "created": self._created,
            "finished": self._finished,
            "pruned": self._pruned,
            "attr": self._attr,
            "space": self._space,
            "enqueued": self._enqueued,
            "learned": self._learned,
            "study": self._study,
            "taken": self._taken,
            "returned": self._returned,
            "stream": self._stream,
            "beat": self._beat,
            "rest": lambda e: None,
        }

    def apply(self, events: Iterable[Event]) -> None:
        """Fold the next events of the log in.

        Raises:
            StorageError: If one makes no sense, and ever after: it may be folded in by half.
            ValueError: If the study was written by a newer inloop.
        """
        if self.damage:
            raise StorageError(self.damage)
        folds = self._fold
        self.torn = True
        for e in events:
            fold = folds.get(e[2])
            if fold is not None:
                try:
                    fold(e)
                except (LookupError, TypeError, ValueError, AttributeError) as error:
                    self._refuse(e, error)
            else:
                self.unknown[e.kind] += 1
            self.events += 1
        self.torn = False

    def anew(self) -> History:
        """Return a history without events, for the whole log: its trials and spaces will be the objects of this one."""
        new = History()
        new._known = max(self.trials, self._known, key=len)
        new.spaces = dict(self.spaces)
        return new

    def _refuse(self, e: Event, error: Exception) -> None:
        if e.kind == "study" and isinstance(error, ValueError):
            raise error
        study = self.header.get("name")
        if e.kind in ("params", "proposed") and 0 <= e.trial < len(self.trials):  # nothing else rests on them
            if not self.impossible:
                what = "study %r: trial %d goes without parameters that cannot be (%r); `inloop check` names all such"
                logger.warning(what, study, e.trial, error)
            self.impossible.append(f"event {self.events} makes no sense: {e!r:.200} ({error!r})")
            return
        self.damage = (
            f"the log of study {study!r} makes no sense: event {self.events} is {e!r:.200} ({error!r}); "
            "`inloop check` finds all such events."
        )
        self.torn = False  # to read it again would not help
        raise StorageError(self.damage) from error

    # Questions of samplers

    def encoded(self, space: Space) -> Encoded:
        """Return the trials' parameters in the columns of ``space``."""
        view = self._encoded.get(space)
        if view is None:
            if len(self._encoded) >= 4:  # a union that grows leaves its old forms behind
                self._encoded.pop(next(iter(self._encoded)))
            view = self._encoded[space] = Encoded(space, self.trials, self._changed)
        return view

    @property
    def union(self) -> Union:
        """What a define-by-run objective has shown of its space."""
        for trial in self._untaught:
            self._union.learn(trial.params)
        self._untaught.clear()
        return self._union

    @property
    def dists(self) -> dict[str, Distribution]:
        """The distributions of all parameters taken so far; two ranges of one name as their envelope."""
        return self._union.dists

    def loss(self, rows: NDArray[np.int64]) -> Array:
        """Return the loss ``(m,)`` of trials by number: told or else last reported; +inf if failed or NaN."""
        return np.array([self._loss(self.trials[i]) for i in rows])

    # Questions of pruners

    def span(self, stream: int, curve: Curve) -> tuple[int, int]:
        """Return the step at which training starts, and how many steps later the longest complete trial ended.

        Args:
            stream: Of the reports. Before a complete trial has any there, training starts where ``curve`` does.
            curve: The reports of one trial in the stream, not empty.

        Returns:
            The step, and the number of steps; the latter is -1 where none is known.
        """
        start = self.starts.get(stream)
        if start is None:
            return start_of(curve), -1
        return start, self.longest[stream] - start

    def rungs(self, stream: int, rungs: Rungs) -> RungTable:
        """Return the rung table of ``stream``."""
        tables = self._tables.setdefault(stream, {})
        table = tables.get(rungs)
        if table is None:
            if len(tables) >= _MAX_TABLES:
                tables.pop(next(iter(tables)))
            table = tables[rungs] = RungTable(rungs, self.sign)
            for t in self.trials:
                curve = t.curves.get(stream)
                for i in range(len(curve) if curve else 0):
                    assert curve is not None
                    table.feed(t.number, curve, i)
        return table

    # The fold, one method for each kind of event

    def _study(self, e: Event) -> None:
        if e.data.get("min_reader", 1) > SCHEMA:
            raise ValueError(
                f"Study {e.data.get('name')!r} was written by a newer inloop (schema {e.data.get('schema')}); this one "
                f"reads up to schema {SCHEMA}. Upgrade inloop."
            )
        self.header = e.data
        self.uid = e.uid
        self.sign = -1.0 if e.data["direction"] == "maximize" else 1.0
        self.seed = e.data["seed"]

    def _space(self, e: Event) -> None:
        self.declared.add(e.data["id"])
        if e.data["id"] not in self.spaces:
            self.spaces[e.data["id"]] = Space.from_json(e.data["space"], labels=True)

    def provide(self, space: Space) -> None:
        """Take the live form of a space whose choices the log holds only as labels."""
        known = self.spaces.get(space.id)
        self.spaces[space.id] = space
        if known is None or known is space or not known.has_labels:
            return
        for trial in self.trials:
            for name, dist in trial.distributions.items():
                if dist is known.get(name):
                    trial.distributions[name] = space[name]
                    trial.params[name] = space[name].unpack(dist.pack(trial.params[name]))
        self._union.replace(known, space)

    def _enqueued(self, e: Event) -> None:
        space_id, stored, attrs = e.data
        space = None if space_id is None else self.spaces[space_id]
        self.queue.append((space.unpack(stored) if space else dict(stored), attrs, 0))

    def _learned(self, e: Event) -> None:
        (uid, _), number, space_id, stored, value = e.data
        self.earlier.setdefault((uid, number), (space_id, stored, self.sign * value))

    def _created(self, e: Event) -> None:
        number = len(self.trials)
        at, takes_queued, lease = e.data
        trial = FrozenTrial(number, e.worker, at, lease)
        if number < len(self._known):  # which has handles, and what these have not written yet
            known = self._known[number]
            unwritten = known.held, known.unsent
            FrozenTrial.__init__(known, number, e.worker, at, lease)
            trial, (trial.held, trial.unsent) = known, unwritten
        if takes_queued and self.queue:
            trial.queued, attrs, trial.retry = self.queue.popleft()
            trial.user_attrs.update(attrs)
        self.trials.append(trial)
        self.running[number] = None
        self.states[RUNNING] += 1
        self.newest[e.worker] = number
        self.heard[e.worker] = at

    def _beat(self, e: Event) -> None:
        self.heard[e.worker] = math.inf if e.data is None else float(e.data)  # older versions tell no time

    def _taken(self, e: Event) -> None:
        trial = self.trials[e.trial]
        if not trial.finished:
            trial.worker, trial.lease = e.worker, e.data

    def _returned(self, e: Event) -> None:
        trial = self.trials[e.trial]
        if not trial.finished and trial.worker == e.worker:
            trial.worker, trial.lease = e.data

    def _stream(self, e: Event) -> None:
        stream, step, token = e.data
        self.trials[e.trial].claims.setdefault((stream, step), token)

    def _params(self, e: Event) -> None:
        trial = self.trials[e.trial]
        if trial.finished:  # a worker that came back too late
            return
        space_id, stored = e.data
        if not trial.params.keys().isdisjoint(stored):  # the first value of a parameter counts
            stored = {n: v for n, v in stored.items() if n not in trial.params}
        if space_id is None:  # given from outside before any trial had shown a range
            trial.params = {**trial.params, **stored}  # anew, here and below: others may be going through the old one
        else:
            space = self.spaces[space_id]
            dists, params = space.of(stored), space.unpack(stored)  # all or none
            trial.params = {**trial.params, **params}
            trial.distributions.update(dists)
            self._union.see(dists)
        self._changed.append(e.trial)

    def _proposed(self, e: Event) -> None:
        trial = self.trials[e.trial]
        if not trial.finished:
            space_id, stored = e.data
            trial.proposed = self.spaces[space_id].unpack(stored)
            self._changed.append(e.trial)

    def reported(self, e: Event) -> None:
        """Fold a report in."""
        _, _, _, number, (stream, step, value) = e
        trial = self.trials[number]
        if trial.state is not RUNNING:
            return
        curve = trial.curves.get(stream)
        if curve is None:
            curve = trial.curves[stream] = Curve()
        if step <= curve.top and curve.place(step) is not None:
            return
        if trial.held:
            trial.drop_held(stream, step)
        curve.add(step, value, self.sign * value)
        trial.reports += 1
        trial.last = (stream, step, value)
        if self._tables:
            for table in self._tables.get(stream, {}).values():
                table.feed(number, curve, len(curve.steps) - 1)

    def _held(self, e: Event) -> None:
        stream, step, value = e.data
        if not self.trials[e.trial].finished:
            self.trials[e.trial].held[stream] = step, value, e.worker

    def _pruned(self, e: Event) -> None:
        if not self.trials[e.trial].finished:
            self.trials[e.trial].pruned = True

    def _attr(self, e: Event) -> None:
        key, value = e.data
        if e.trial >= 0 and self.trials[e.trial].finished:
            return
        if e.trial < 0:
            self.user_attrs[key] = value
        else:
            trial = self.trials[e.trial]
            trial.user_attrs = {**trial.user_attrs, key: value}

    def _finished(self, e: Event) -> None:
        trial = self.trials[e.trial]
        if trial.finished:
            return
        name, value, at = e.data
        self.heard[e.worker] = at
        state = TrialState[name]
        if trial.pruned and state is not LOST:
            state = PRUNED  # pruned is pruned, whatever is told afterwards
        trial.state, trial.value, trial._finish, trial.ender = state, value, at, e.worker
        del self.running[e.trial]
        self.states[RUNNING] -= 1
        self.states[state] += 1
        self.spent[state] += trial.reports
        if state is COMPLETE:
            self._complete(trial)
        if state in (COMPLETE, PRUNED):
            self._untaught.append(trial)
        if state is LOST:
            self._give_back(trial)
        else:
            self.told.append(trial.number)
            self.ranking.add(trial.number, self._loss(trial), _tier(trial))

        if trial.proposed:  # what was not taken was never tried
            other = not trial.params or any(not same(trial.params.get(n, v), v) for n, v in trial.proposed.items())
            if other and trial.queued is None:
                trial.missed = trial.proposed
            trial.proposed = {}
            self._changed.append(trial.number)

    def _give_back(self, trial: FrozenTrial) -> None:
        """Offer the parameters of a lost trial again, but not for ever."""
        params = {**trial.proposed, **(trial.queued or {}), **trial.params}
        if params and trial.retry < self.header.get("retry", 1):
            self.queue.appendleft((params, trial.user_attrs, trial.retry + 1))

    def _complete(self, trial: FrozenTrial) -> None:
        value = math.nan if trial.value is None else trial.value
        if value == value and (
            self.best is None or self.best.value is None or self.sign * value < self.sign * self.best.value
        ):
            self.best = trial
        self.fullest = max(self.fullest, trial.reports)
        for stream, curve in trial.curves.items():
            self.longest[stream] = max(curve.top, self.longest.get(stream, curve.top))
            start = start_of(curve)
            self.starts[stream] = min(start, self.starts.get(stream, start))
            if (finals := self.finals.get(stream)) is not None:
                finals.feed(curve)

    def _loss(self, trial: FrozenTrial) -> float:
        if trial.state is COMPLETE:
            value = trial.value
        elif trial.state is FAILED:
            return math.inf
        else:
            value = trial.last[2] if trial.last else None
        return math.inf if value is None or value != value else self.sign * value


def start_of(curve: Curve) -> int:
    """Return the step at which the training behind a curve starts.

    That is the first one, or 0 where the first report comes no later than the second comes after it, as it does of
    training from 0 on that reports at 1, 2, 3, ... or at 9, 19, 29, ...
    """
    places = curve._places
    if places is not None and (0 in places or 1 in places):
        return 0  # as below, but without a look at every report
    first, *others = nsmallest(2, curve.steps) if places is not None else curve.steps[:2]
    return 0 if first <= (others[0] - first if others else 1) else first


def _tier(trial: FrozenTrial) -> float:
    if trial.state is COMPLETE:
        return 0.0
    return 1.0 + 1.0 / (1.0 + trial.reports) if trial.state is PRUNED else 3.0
