"""What a study knows of its trials."""

from __future__ import annotations

import datetime
import enum
import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from .distributions import Distribution

if TYPE_CHECKING:
    from .log import Fact


class TrialState(enum.IntEnum):
    """The states of a trial."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAILED = 3
    LOST = 4


# for what runs at every report and trial: Python 3.11 takes six times as long to look them up in the class
RUNNING, COMPLETE, PRUNED, FAILED, LOST = TrialState


class Curve:
    """The reports of one stream of a trial, in order of arrival."""

    __slots__ = ("_places", "bests", "steps", "top", "values")

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []
        #: Lowest loss up to each report; NaN counts as +inf.
        self.bests: list[float] = []
        #: Largest step so far, -1 before any.
        self.top = -1
        self._places: dict[int, int] | None = None  # of the steps, once they have not come in ascending order

    def add(self, step: int, value: float, loss: float) -> None:
        """Take in the report of a step that has none."""
        if step <= self.top or self._places is not None:
            if self._places is None:
                self._places = {s: i for i, s in enumerate(self.steps)}
            self._places[step] = len(self.steps)
        bests = self.bests
        best = bests[-1] if bests else math.inf
        bests.append(loss if loss < best else best)
        self.values.append(value)
        self.steps.append(step)
        if step > self.top:
            self.top = step  # last, for a thread that looks for a step at this moment

    def place(self, step: int) -> int | None:
        """Return which report is that of ``step``, None if none is."""
        if step > self.top:
            return None
        if self._places is not None:
            return self._places.get(step)
        i = bisect_left(self.steps, step)
        return i if self.steps[i] == step else None

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"Curve({dict(zip(self.steps, self.values, strict=False))})"


class FrozenTrial:
    """What the study knows of one trial; read it, do not change it.

    Attributes:
        number: Trials are numbered 0, 1, ... in the order in which they were asked for.
        state: A `TrialState`.
        value: The told value, None while there is none.
        params: Parameter name to value.
        distributions: Parameter name to distribution.
        curves: Stream to `Curve` of reports.
        pruned: Whether the pruner has said stop.
        user_attrs: What `Trial.set_user_attr` was given.
        datetime_start, datetime_complete: Local time.
    """

    __slots__ = (
        "_finish", "_start", "claims", "curves", "distributions", "ender", "held", "last", "lease", "missed", "number",
        "params", "proposed", "pruned", "queued", "reports", "retry", "state", "unsent", "user_attrs", "value",
        "worker",
    )  # fmt: skip

    def __init__(self, number: int, worker: str, start: float, lease: float) -> None:
        self.number = number
        #: Who runs it, and after how many silent seconds it is LOST (0: never).
        self.worker = worker
        self.lease = lease
        #: How many lost trials before this one had the same parameters.
        self.retry = 0
        self.state = RUNNING
        self.value: float | None = None
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, Distribution] = {}
        self.curves: dict[int, Curve] = {}
        #: (stream, first step) -> token of the run of training that reports there.
        self.claims: dict[tuple[int, int], str] = {}
        #: Stream -> (step, value, who holds it) that is reported when the trial ends, see `Trial.hold`.
        self.held: dict[int, tuple[int, float, str]] = {}
        self.pruned = False
        self.user_attrs: dict[str, Any] = {}
        #: Parameters proposed while it runs, of which the objective takes what it needs.
        self.proposed: dict[str, Any] = {}
        #: What was proposed for a finished trial that took nothing of it, or other values that nobody had enqueued.
        self.missed: dict[str, Any] = {}
        #: Enqueued parameters this trial was started with.
        self.queued: dict[str, Any] | None = None
        #: Number of reports over all streams, and the last one as (stream, step, value).
        self.reports = 0
        self.last: tuple[int, int, float] | None = None
        #: Of a running trial of this process: what its handles have yet to write, and the parameters among that.
        self.unsent: tuple[list[Fact], dict[str, Any]] | None = None
        #: Which worker ended it.
        self.ender = ""
        self._start = start
        self._finish: float | None = None

    def held_facts(self, *holders: str) -> list[Fact]:
        """Return what `Trial.hold` keeps for some, or for all, as reports, and forget it."""
        if not self.held:
            return []
        every = not holders
        held = [(s, *self.held.pop(s)) for s, (_, _, who) in [*self.held.items()] if every or who in holders]
        return [("report", self.number, (stream, step, value)) for stream, step, value, _ in held]

    def drop_held(self, stream: int, step: int) -> None:
        """Forget what `Trial.hold` keeps of a stream if it is of this step or one before."""
        if stream in self.held and self.held[stream][0] <= step:
            del self.held[stream]

    @property
    def finished(self) -> bool:
        """Whether the trial has ended, in whatever state."""
        return self.state is not RUNNING

    @property
    def curve(self) -> dict[int, float]:
        """Step to reported value of the first stream, in order of arrival."""
        c = self.curves[min(self.curves)] if self.curves else Curve()
        return dict(zip(c.steps, c.values, strict=False))  # of a running trial one may just have got longer

    @property
    def datetime_start(self) -> datetime.datetime:
        """When the trial was asked for."""
        return datetime.datetime.fromtimestamp(self._start)

    @property
    def datetime_complete(self) -> datetime.datetime | None:
        """When the trial ended, None while it runs."""
        return None if self._finish is None else datetime.datetime.fromtimestamp(self._finish)

    @property
    def duration(self) -> datetime.timedelta | None:
        """Wall time from ask to tell, None while it runs."""
        return None if self._finish is None else datetime.timedelta(seconds=self._finish - self._start)

    def __repr__(self) -> str:
        value = "" if self.value is None else f", value={self.value:.6g}"
        return f"FrozenTrial(number={self.number}, {self.state.name}{value}, params={self.params})"
