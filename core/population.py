"""Population-based training: members train side by side, and bad ones go on from the checkpoints of good ones."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import parallel, samplers
from .distributions import Categorical, Distribution, Float, Int, level_of, own, value_at
from .loop import raise_interrupt
from .record import COMPLETE, FAILED, LOST, PRUNED, RUNNING, FrozenTrial, TrialState
from .samplers import StudyStopped
from .space import Space
from .studies import create_study
from .trial import Trial, as_value

if TYPE_CHECKING:
    from .log import Fact
    from .storage import Storage

__all__ = ["PopulationStudy", "Segment"]

logger = logging.getLogger("inloop")

_OWNER = "study"  # name of the file that says whose a folder is
_SHIFT = 0.1  # part of a linear range by which a perturbed value moves: some 5 moves lead from its middle to an edge


@dataclass(frozen=True)
class Segment:
    """Some steps of training with the same parameters, from one checkpoint to the next.

    Attributes:
        number: Number of the trial that it belongs to.
        member: Place of the trial in the population, 0, 1, ...
        params: The trial's parameters.
        start, stop: It trains the steps ``start, ..., stop - 1``.
        checkpoint: Where training goes on from; None: it starts anew.
        path: Where the checkpoint at its end must be saved, as a file or a folder.
    """

    number: int
    member: int
    params: dict[str, Any]
    start: int
    stop: int
    checkpoint: Path | None
    path: Path

    @property
    def steps(self) -> range:
        """The steps to train."""
        return range(self.start, self.stop)


class PopulationStudy:
    """Trains a population of models and changes their parameters on the way.

    Every ``interval`` steps the members are compared. Each of the worst ones ends (its trial is PRUNED), and a new
    trial takes its place: it goes on from the checkpoint of one of the best, with that one's parameters perturbed or
    drawn anew. A member that failed or has become NaN is replaced too (its trial is FAILED). All members are compared
    at the same step, so the same seed gives the same trials, whatever the number of threads. After
    M. Jaderberg et al., "Population based training of neural networks", arXiv:1711.09846, 2017 (truncation selection).

    To perturb is to multiply or divide a ``log`` parameter by ``factor``, and to move any other up or down by a tenth
    of its range, at least to the neighbouring level. Of a `Categorical` only ascending or descending numbers have
    neighbours; other choices change when drawn anew. Values stay in the space; what becomes active is drawn.

    Every trial is one of ``study``: its parameters, its curve (the value after so many steps), and as ``user_attrs``
    its ``member``, its ``parent`` (None at first) and ``start``, the step at which it went on from the parent's
    checkpoint. A study in a storage can be resumed with its folder, by one process at a time. A member that was given
    back meanwhile (its trial is LOST) goes on in a new trial with its parameters.

    Args:
        space: Parameters that may change during training.
        population: Number of members, at least 2.
        interval: Steps (epochs, boosting rounds, ...) between two comparisons.
        quantile: Part of the population that is replaced, and part to go on from; above 0 and at most 0.5.
        steps: Steps that every member trains.
        direction: ``"minimize"`` or ``"maximize"``.
        resample: Probability that a parameter is drawn anew instead of perturbed.
        factor: Of ``log`` parameters, above 1.
        keep: Names that a new trial takes over from its donor unchanged, such as the width of a network.
        sampler: What proposes the first parameters; trials enqueued in ``study`` come before.
        folder: For checkpoints, of this study alone; None: a temporary one. Those that no member needs are removed.
        suffix: Of checkpoints, where a framework asks for one (``".keras"``).
        storage, study_name, load_if_exists, seed: As in `create_study`.

    Raises:
        TypeError, ValueError: If a setting is not as said, is not that of the study to be resumed, or its
            checkpoints are missing.

    Example:
        >>> import inloop
        >>> def train(segment, weight):
        ...     weight = 5.0 if weight is None else weight
        ...     for step in segment.steps:
        ...         weight -= segment.params["rate"] * 2 * weight
        ...     return weight, weight**2
        >>> space = {"rate": inloop.Float(1e-4, 1, log=True)}
        >>> population = PopulationStudy(space, population=4, interval=5, steps=20, seed=0)
        >>> population.optimize(
        ...     train, save=lambda w, path: path.write_text(str(w)), load=lambda path: float(path.read_text())
        ... )
        >>> [start for start, params in population.schedule()], population.best_value < 1e-3
        ([0, 5, 15], True)
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        population: int = 10,
        interval: int = 1,
        quantile: float = 0.25,
        *,
        steps: int,
        direction: str = "minimize",
        resample: float = 0.25,
        factor: float = 1.25,
        keep: Collection[str] = (),
        sampler: samplers.Sampler | str = "random",
        folder: str | os.PathLike[str] | None = None,
        suffix: str = "",
        storage: Storage | str | None = None,
        study_name: str | None = None,
        load_if_exists: bool = False,
        seed: int | None = None,
    ) -> None:
        self.space = space if isinstance(space, Space) else Space(space)
        self.population = _whole("population", population, 2)
        self.interval = _whole("interval", interval, 1)
        self.steps = _whole("steps", steps, self.interval)
        self.quantile = _within("quantile", quantile, lambda x: 0 < x <= 0.5, "above 0 and at most 0.5")
        self.resample = _within("resample", resample, lambda x: 0 <= x <= 1, "between 0 and 1")
        self.factor = _within("factor", factor, lambda x: 1 < x < np.inf, "above 1")
        self.keep = _known(keep, self.space)
        if not isinstance(suffix, str):
            raise TypeError(f"PopulationStudy: suffix must be a string, got {suffix!r}.")
        self.suffix = suffix
        #: The `Study` that holds the trials.
        self.study = create_study(
            direction, sampler, "nop", storage, study_name, load_if_exists, seed, self.space, retry=0
        )
        self._lock = threading.RLock()
        self._members: dict[int, FrozenTrial] = {}
        self._needed: Counter[Path] = Counter()  # checkpoint -> how many members need it
        self._out: set[int] = set()  # numbers of trials with a segment that was asked for and is not told
        self._error: Exception | None = None
        self._settle()
        if folder is None:
            folder = tempfile.mkdtemp(prefix="inloop-")
            weakref.finalize(self, _remove_own, folder, os.getpid())  # with the study, but not by a forked child
        self.folder = Path(folder).absolute()  # whatever folder training works in
        self._open_folder()

    # What is known

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        return self.study.trials

    @property
    def best_trial(self) -> FrozenTrial:
        """The trial that is best after all steps; a ValueError if there is none yet."""
        return self.study.best_trial

    @property
    def best_value(self) -> float:
        """Value of `best_trial`."""
        return self.study.best_value

    @property
    def best_checkpoint(self) -> Path:
        """Where the best trial's last checkpoint is."""
        return self._path(self.best_trial.number, self.steps)

    @property
    def finished(self) -> bool:
        """Whether all steps are trained."""
        # without the lock, as for `repr`: whoever has that may wait for a logger that shows the population
        members = list(self._members.values())
        return self._stop == self.steps and bool(members) and not any(map(_goes_on, members))

    def lineage(self, trial: FrozenTrial | int | None = None) -> list[FrozenTrial]:
        """Return the trials that led to ``trial`` (None: the best one), the first ancestor first and itself last."""
        known = self.trials
        if trial is None:
            trial = self.best_trial
        number: int | None = trial if isinstance(trial, int) else trial.number
        line: list[FrozenTrial] = []
        while number is not None:
            if not 0 <= number < len(known):
                raise ValueError(f"lineage: there is no trial {number}; the study has {len(known)} trials.")
            line.insert(0, known[number])
            number = known[number].user_attrs.get("parent")
        return line

    def schedule(self, trial: FrozenTrial | int | None = None) -> list[tuple[int, dict[str, Any]]]:
        """Return how the parameters of ``trial`` (None: the best one) changed: ``(first step, parameters)``, ..."""
        return [(t.user_attrs["start"], dict(t.params)) for t in self.lineage(trial)]

    # The loop

    def ask(self) -> Segment:
        """Return the next segment to train.

        Raises:
            StudyStopped: If all steps are trained.
            RuntimeError: If every segment up to the next comparison was handed out and is not told, or no member is
                left to go on from.
        """
        with self._lock:
            if self.finished:
                raise StudyStopped(f"All members have trained {self.steps} steps.")
            self._check_folder()
            self._found()
            if not self._out and not self._waiting():
                self._turn()
            waiting = self._waiting()
            if not waiting:
                raise RuntimeError(
                    f"ask: tell the segments of trials {sorted(self._out)} first; they are compared now."
                )
            self._out.add(waiting[0].number)
            segment = self._segment(waiting[0])
            _remove(segment.path)  # what an attempt that was broken off has left
            return segment

    def tell(self, segment: Segment, value: float | None = None, state: TrialState | str | None = None) -> FrozenTrial:
        """End a segment whose checkpoint is saved.

        Of a trial that was given back meanwhile (LOST) nothing is taken: another one trains the segment again.

        Args:
            segment: From `ask`.
            value: How good the model is now, in the study's direction. NaN is worse than every number.
            state: FAILED where there is no value.

        Returns:
            What the study now knows of the trial.

        Raises:
            ValueError: If the segment was told before, there is no checkpoint, or neither a value nor FAILED is told.
            TypeError: If ``value`` is not a number.
        """
        with self._lock:
            what = f"tell: trial {segment.number}"
            record = self.study.history.trials[segment.number] if segment.number in self._out else None
            if record is None or segment.start != _at(record):
                raise ValueError(f"{what}: its segment from step {segment.start} was told before or not asked for.")
            if state is not None and getattr(state, "name", str(state)).upper() != "FAILED":
                raise ValueError(f"{what}: state must be 'failed' or None, got {state!r}.")
            if value is None and state is None:
                raise ValueError(f"{what}: give a value, or state='failed'.")
            if value is not None:
                value = as_value(value, f"{what}: the value")
            facts: list[Fact] = []
            if state is None and value is not None:
                if value == value and not segment.path.exists():
                    raise ValueError(f"{what}: there is no checkpoint; save it as segment.path, {segment.path}.")
                facts.append(("report", segment.number, (0, segment.stop, value)))
            if state is not None or segment.stop == self.steps:
                facts.append(_end(segment.number, COMPLETE if value == value and state is None else FAILED, value))
            needed = self._needs(record)
            self.study._log.write(*facts)
            self._out.discard(segment.number)
            self._needed.update(self._needs(record))
            self._release(needed)
            return record

    def optimize(
        self,
        train: Callable[..., Any],
        save: Callable[[Any, Path], Any] | None = None,
        load: Callable[[Path], Any] | None = None,
        n_jobs: int = 1,
        executor: Any = None,
        catch: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> None:
        """Train all members through all steps, or through those that are left after a break.

        Args:
            train: Takes a `Segment`: goes on from its ``checkpoint`` with its ``params``, saves to its ``path`` and
                returns the value. With ``save`` and ``load``: takes a segment and the model (None: make a new one), and
                returns the model and the value.
            save: Takes the model and a path.
            load: Takes a path and returns the model.
            n_jobs: Threads, -1 for one a core.
            executor: Train on it instead: any executor with ``submit`` and futures as in ``concurrent.futures``; its
                workers must reach the folder. A segment whose worker died is trained again; a process pool that broke
                is replaced by one like it.
            catch: Exceptions that make a trial FAILED and the study go on; others are raised. A segment that killed its
                worker when it trained alone has raised the executor's exception.

        Raises:
            RuntimeError: If no member is left to go on from, or came to the end; caused by the last error. Where all
                raised one, what made them may pass: the next call tries them again from their last checkpoints.
            KeyboardInterrupt: On Ctrl-C; everything told is kept.

        Note:
            After ``self.study.stop()`` it returns when the segments up to the next comparison are trained; the next
            call goes on.
        """
        if (save is None) != (load is None):
            raise TypeError("optimize: give both save and load, or neither.")
        if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0 or n_jobs < -1:
            raise ValueError(f"optimize: n_jobs must be at least 1, or -1 for one thread a core; got {n_jobs!r}.")
        n_jobs = int(n_jobs)
        work = functools.partial(_trained, train, save, load)
        if executor is not None:
            workers, futures = parallel.Workers(executor), []

            def submit(segment: Segment) -> Callable[[], Any]:
                futures.append(workers.submit(work, segment))
                result: Callable[[], Any] = futures[-1].result
                return result

            try:
                self._rounds(submit, catch, mortal=True)
            finally:
                # after an interrupt or an error: the next call trains them again, and saves to the same paths
                for future in [f for f in futures if not f.cancel()]:
                    with contextlib.suppress(Exception):
                        future.result()
                workers.close()
        elif n_jobs == 1:
            self._rounds(lambda s: functools.partial(work, s), catch)
        else:
            from concurrent.futures import ThreadPoolExecutor

            pool = ThreadPoolExecutor(os.cpu_count() if n_jobs == -1 else n_jobs, thread_name_prefix="inloop")
            try:
                self._rounds(lambda s: pool.submit(work, s).result, catch)
            finally:
                pool.shutdown(cancel_futures=True)

    def replay(
        self,
        train: Callable[..., Any],
        save: Callable[[Any, Path], Any] | None = None,
        load: Callable[[Path], Any] | None = None,
        trial: FrozenTrial | int | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> float:
        """Train one model from the beginning by the schedule of a trial, without the others.

        Args:
            train: As in `optimize`.
            save: As in `optimize`.
            load: As in `optimize`.
            trial: Whose schedule; None: the best one's.
            folder: Where the checkpoints are left, none of a population's; None: nowhere.

        Returns:
            The last value: that of the trial again, if training is deterministic.

        Raises:
            ValueError: If ``folder`` is that of a population.
        """
        with tempfile.TemporaryDirectory(prefix="inloop-") as temporary:
            to, value, checkpoint = Path(folder or temporary).absolute(), np.nan, None
            if (to / _OWNER).exists():
                raise ValueError(f"replay: {to} holds the checkpoints of a population; give another folder.")
            to.mkdir(parents=True, exist_ok=True)
            line = self.lineage(trial)
            for start in range(0, _at(line[-1]), self.interval):
                record = next(t for t in reversed(line) if t.user_attrs["start"] <= start)
                segment = self._segment(record, start, checkpoint, to)
                _remove(segment.path)
                value = as_value(_trained(train, save, load, segment), "replay: the value")
                checkpoint = segment.path
            return value

    def _rounds(
        self,
        submit: Callable[[Segment], Callable[[], Any]],
        catch: type[Exception] | tuple[type[Exception], ...],
        mortal: bool = False,
    ) -> None:
        """Train until the end; ``submit`` returns what waits for a segment's value, of workers that may die or not."""
        self.study.resume()
        while not self.finished and not self.study._stopped:
            asked: list[Segment] = []
            try:
                while not asked or self._waiting():
                    asked.append(self.ask())
                self._round(asked, submit, catch, mortal)
            finally:
                self._out.difference_update(s.number for s in asked)
        if self.finished and not any(m.state is COMPLETE for m in self._members.values()):
            raise self._nobody(self.steps) from self._error

    def _round(
        self,
        asked: list[Segment],
        submit: Callable[[Segment], Callable[[], Any]],
        catch: type[Exception] | tuple[type[Exception], ...],
        mortal: bool,
    ) -> None:
        """Train the segments up to the next comparison; those whose workers died once more.

        A process pool that breaks takes innocent ones along. So the last time each trains alone: what dies then has
        killed its worker itself.
        """
        failed: list[Segment] = []
        left = asked
        for alone in (False, False, True):
            lost: list[Segment] = []
            for group in [[s] for s in left] if alone else [left]:
                for segment, result in [(s, submit(s)) for s in group]:
                    self._take(segment, result, catch, failed, lost if mortal and not alone else None)
            left = lost
            for segment in lost:
                _remove(segment.path)
        if failed and not any(map(self._sound, self._members.values())):  # all raised: what it is may pass
            again = f" Those that raised an error are as they were at step {self._now}: optimize tries them again."
            raise self._nobody(self._stop, again) from self._error
        for segment in failed:
            self.tell(segment, state=FAILED)

    def _take(
        self,
        segment: Segment,
        result: Callable[[], Any],
        catch: type[Exception] | tuple[type[Exception], ...],
        failed: list[Segment],
        lost: list[Segment] | None,
    ) -> None:
        """Wait for a segment's value and tell it, or add the segment to those that failed or whose worker died."""
        what = f"trial {segment.number}"
        try:
            value = as_value(result(), f"{what}: the value")
        except Exception as error:
            if lost is not None and parallel.is_death(error):
                logger.warning("%s: its worker died (%r); it trains from step %d again", what, error, segment.start)
                lost.append(segment)
            elif isinstance(error, catch):
                self._error = error
                logger.warning("%s failed from step %d: %r", what, segment.start, error, exc_info=error)
                failed.append(segment)
            else:
                raise
        else:
            self.tell(segment, value)

    # The population

    @property
    def _stop(self) -> int:
        """The step at which the members are compared next."""
        return min(self._now + self.interval, self.steps)

    def _settle(self) -> None:
        """Read from the study how far the population has come, or write that it begins."""
        names = ("population", "interval", "quantile", "steps", "resample", "factor", "keep")
        given = {n: getattr(self, n) for n in names}
        attrs, log = self.study.user_attrs, self.study._log
        stored = attrs.get("population")
        if stored is None and self.study.history.trials:
            raise ValueError(f"Study {self.study.study_name!r} has trials and is no population's; give another name.")
        if stored is None:
            self.study.set_user_attr("population", given)
        elif wrong := [n for n in names if stored[n] != given[n]]:
            n = wrong[0]
            raise ValueError(f"Study {self.study.study_name!r} has {n}={stored[n]!r}, not {given[n]!r}.")
        self._now: int = attrs.get("step", 0)
        for trial in self.trials:
            if "member" in trial.user_attrs:
                self._members[trial.user_attrs["member"]] = trial
            if trial.state is RUNNING and "member" in trial.user_attrs:
                log.take_over(trial)
            else:  # one that was to replace a member when its process died
                log.finish(trial, FAILED, None)

    def _open_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._members and (there := self._checkpoints()):
            raise ValueError(f"folder: {self.folder} holds checkpoints of another study, such as {there[0].name}.")
        going_on = [m for m in self._members.values() if _goes_on(m) and (m.last is None or _value(m) == _value(m))]
        for source in filter(None, map(self._source, going_on)):
            if not source.exists():
                raise ValueError(f"To go on, the study needs the folder of its checkpoints; there is no {source}.")
        (self.folder / _OWNER).write_text(self.study.history.uid)
        self._sweep()

    def _check_folder(self) -> None:
        """See that no study begun later has taken the folder."""
        owner = self.folder / _OWNER
        if owner.exists() and owner.read_text() != self.study.history.uid:
            raise ValueError(f"folder: {self.folder} was given to another study as well; each needs one of its own.")

    def _found(self) -> None:
        """Start the members that there are not yet, and go on in a new trial with those that are LOST."""
        found = False
        for slot in range(self.population):
            member = self._members.get(slot)
            if member is None:
                number = self._start().number
                self.study._log.write(*_place(number, slot, None, 0))
            elif member.state is LOST and member.number not in self._out:
                number = self._successor(slot, member)
            else:
                continue
            self._members[slot], found = self.study.history.trials[number], True
        if found:
            self._sweep()

    def _successor(self, slot: int, lost: FrozenTrial) -> int:
        """Start a trial that is where a lost one was, and return its number."""
        number, at = self.study._log.create(takes_queued=False).number, _at(lost)
        facts: list[Fact] = [("params", number, (self.space.id, self.space.pack(lost.params)))]
        facts += _place(number, slot, _saver(lost), at)
        if lost.last is not None:
            facts.append(("report", number, (0, at, _value(lost))))
        self.study._log.write(*facts)
        logger.info("trial %d goes on where trial %d was lost, at step %d", number, lost.number, at)
        return number

    def _start(self) -> Trial:
        try:
            return self.study.ask()
        except StudyStopped:  # the sampler goes through fewer points than there are members
            if self.study._stopped:
                raise
            rng = np.random.default_rng((self.study.history.seed, len(self.study.history.trials)))
            self.study.enqueue_trial(self.space.decode(rng.random(len(self.space))))
            return self.study.ask()

    def _waiting(self) -> list[FrozenTrial]:
        members = (self._members[k] for k in sorted(self._members))
        return [m for m in members if _runs(m) and _at(m) == self._now and m.number not in self._out]

    def _turn(self) -> None:
        """Compare the members at the end of an interval, and replace the worst."""
        at = self._stop
        history, log = self.study.history, self.study._log
        moves = [
            (slot, donor, explored(self.space, donor.params, rng, self.resample, self.factor, self.keep))
            for slot, donor, rng in self._exploits(at)
        ]
        records = [log.create(takes_queued=False) for _ in moves]
        facts: list[Fact] = [("attr", -1, ("step", at))]
        for record, (slot, donor, params) in zip(records, moves, strict=True):
            loser = self._members[slot]
            if _runs(loser):
                value = _value(loser)
                facts.append(_end(loser.number, PRUNED, None) if value == value else _end(loser.number, FAILED, value))
            facts += [("params", record.number, (self.space.id, self.space.pack(params)))]
            facts += _place(record.number, slot, _saver(donor), at)
            logger.info("trial %d goes on from trial %d at step %d: %s", record.number, donor.number, at, params)
        log.write(*facts)  # all or nothing: a process that dies here leaves the population as it was
        self._members.update({slot: history.trials[r.number] for r, (slot, _, _) in zip(records, moves, strict=True)})
        self._now = at
        self._sweep()

    def _exploits(self, at: int) -> list[tuple[int, FrozenTrial, np.random.Generator]]:
        """Return which members are replaced at a step, from whom, and the random stream of each."""
        sign = self.study.history.sign
        sound = {k: m for k, m in self._members.items() if self._sound(m)}
        ranked = sorted(sound, key=lambda k: (sign * _value(sound[k]), k))
        if not ranked:
            for member in filter(_runs, self._members.values()):
                self.study._log.finish(member, FAILED, None)
            raise self._nobody(at) from self._error
        n = max(1, int(self.quantile * self.population + 1e-9))
        out = []
        for slot in sorted(self._members):
            rng = np.random.default_rng((self.study.history.seed, at, slot))
            donor = sound[ranked[int(rng.integers(min(n, len(ranked))))]]
            low = slot in sound and ranked.index(slot) >= self.population - n
            if slot not in sound or (low and sign * _value(donor) < sign * _value(sound[slot])):
                out.append((slot, donor, rng))
        return out

    def _sound(self, member: FrozenTrial) -> bool:
        """Return whether others can go on from a member at the next comparison, or it came to the end."""
        return member.state is not FAILED and _at(member) == self._stop and _value(member) == _value(member)

    def _nobody(self, at: int, again: str = "") -> RuntimeError:
        return RuntimeError(f"All members failed up to step {at}, or are NaN; there is none to go on from.{again}")

    # Checkpoints

    def _path(self, number: int, step: int, folder: Path | None = None) -> Path:
        return (folder or self.folder) / f"{number}-{step}{self.suffix}"

    def _source(self, record: FrozenTrial) -> Path | None:
        """Return the checkpoint that a member goes on from."""
        saver = _saver(record)
        return None if saver is None else self._path(saver, _at(record))

    def _segment(
        self, record: FrozenTrial, start: int | None = None, checkpoint: Path | None = None, to: Path | None = None
    ) -> Segment:
        """Return a trial's next segment; or, of a replay, the one from ``start``."""
        if start is None:
            start, checkpoint = _at(record), self._source(record)
        stop = min(start + self.interval, self.steps)
        path, slot = self._path(record.number, stop, to), record.user_attrs["member"]
        params = {name: own(value) for name, value in record.params.items()}
        return Segment(record.number, slot, params, start, stop, checkpoint, path)

    def _checkpoints(self) -> list[Path]:
        form = re.compile(rf"\d+-\d+{re.escape(self.suffix)}")
        return [p for p in sorted(self.folder.iterdir()) if form.fullmatch(p.name)]

    def _sweep(self) -> None:
        """Remove checkpoints that no member needs."""
        self._needed = Counter(path for m in self._members.values() for path in self._needs(m))
        for path in set(self._checkpoints()) - set(self._needed):
            _remove(path)

    def _needs(self, member: FrozenTrial) -> list[Path]:
        """Return a member's checkpoints that must stay: of a finished model, gone on from, being written."""
        paths = [self._path(member.number, self.steps)]
        if _goes_on(member):
            paths += [p for p in (self._source(member), self._segment(member).path) if p]
        return paths

    def _release(self, paths: list[Path]) -> None:
        """Remove checkpoints that a member does not need any more, where no other one does."""
        self._needed.subtract(paths)
        for path in paths:
            if self._needed[path] <= 0:
                del self._needed[path]
                _remove(path)

    def __repr__(self) -> str:
        step = self.steps if self.finished else self._now
        return f"<PopulationStudy: {self.population} members, {step} of {self.steps} steps, {self.study!r}>"


def explored(
    space: Space,
    params: Mapping[str, Any],
    rng: np.random.Generator,
    resample: float = 0.25,
    factor: float = 1.25,
    keep: Collection[str] = (),
) -> dict[str, Any]:
    """Return the parameters of a new trial: a donor's, perturbed or drawn anew; see `PopulationStudy`.

    Example:
        >>> space = Space({"rate": Float(0.1, 1.0, log=True), "depth": Int(1, 9)})
        >>> explored(space, {"rate": 0.5, "depth": 9}, np.random.default_rng(0), resample=0.0)
        {'rate': 0.625, 'depth': 8}
    """
    fresh = space.drawn(rng.random((1, len(space))))[0]
    chances = rng.random((len(space), 2))
    out = {}
    for (name, dist), u, (anew, side) in zip(space.items(), fresh.tolist(), chances.tolist(), strict=True):
        if name in params and name in keep:
            out[name] = params[name]
        elif name not in params or anew < resample:
            out[name] = dist.from_unit(u)
        else:
            out[name] = perturbed(dist, params[name], factor, 1 if side < 0.5 else -1)
    return space.complete(out, rng.random)


def perturbed(dist: Distribution, value: Any, factor: float, side: int) -> Any:
    """Return a value near ``value``, above it (``side`` 1) or below (-1), inside the range; see `PopulationStudy`.

    Example:
        >>> perturbed(Float(1e-3, 1, log=True), 0.9, 1.25, 1), perturbed(Int(1, 9), 4, 1.25, -1)
        (1.0, 3)
        >>> perturbed(Categorical([16, 32, 64]), 32, 1.25, 1), perturbed(Categorical(["sgd", "adam"]), "sgd", 1.25, 1)
        (64, 'sgd')
    """
    if isinstance(dist, Float | Int) and dist.log:
        moved = value * factor**side
        if isinstance(dist, Int):
            moved = max(round(moved), value + 1) if side > 0 else min(round(moved), value - 1)
        return min(max(moved, dist.low), dist.high)
    if isinstance(dist, Categorical) and not _ordered(dist.choices):
        return value
    if dist.levels is not None:
        level = level_of(dist, value) + side * max(1, round(_SHIFT * (dist.levels - 1)))
        return value_at(dist, min(max(level, 0), dist.levels - 1))
    u = dist.to_unit(value)
    return value if u != u else dist.from_unit(min(max(u + side * _SHIFT, 0.0), 1.0))


def _ordered(choices: tuple[Any, ...]) -> bool:
    if not all(isinstance(c, Real) and not isinstance(c, bool) for c in choices):
        return False
    return list(choices) in (sorted(choices), sorted(choices, reverse=True))


def _trained(
    train: Callable[..., Any],
    save: Callable[[Any, Path], Any] | None,
    load: Callable[[Path], Any] | None,
    segment: Segment,
) -> Any:
    """Train one segment and return its value; what a worker runs."""
    try:
        if save is None or load is None:
            return train(segment)
        model, value = train(segment, None if segment.checkpoint is None else load(segment.checkpoint))
        save(model, segment.path)
        return value
    except SystemExit as error:  # here: an exception that is raised again elsewhere forgets what it was made from
        raise_interrupt(error)
        raise


def _remove_own(folder: str, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # of a link the target is the user's
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _runs(record: FrozenTrial) -> bool:
    return record.state is RUNNING


def _goes_on(record: FrozenTrial) -> bool:
    """Return whether there is more to train of a member."""
    return record.state in (RUNNING, LOST)


def _saver(record: FrozenTrial) -> int | None:
    """Return the number of the trial that has saved the checkpoint where a trial is; None: it starts anew."""
    parent: int | None = record.user_attrs["parent"]
    return record.number if _at(record) > record.user_attrs["start"] else parent


def _at(record: FrozenTrial) -> int:
    """Return the step that a trial has reached."""
    return record.curves[0].top if record.curves else int(record.user_attrs["start"])


def _value(record: FrozenTrial) -> float:
    return record.last[2] if record.last else np.nan


def _end(number: int, state: TrialState, value: float | None) -> Fact:
    return "finished", number, (state.name, value, time.time())


def _place(number: int, slot: int, parent: int | None, start: int) -> list[Fact]:
    """Return the facts that make a trial a member."""
    return [("attr", number, kv) for kv in (("member", slot), ("parent", parent), ("start", start))]


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"PopulationStudy: {name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"PopulationStudy: {name} must be at least {least}, got {value!r}.")
    return int(value)


def _within(name: str, value: Any, holds: Callable[[float], bool], what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"PopulationStudy: {name} must be a number {what}, got {value!r}.")
    if not holds(float(value)):
        raise ValueError(f"PopulationStudy: {name} must be {what}, got {value!r}.")
    return float(value)


def _known(keep: Collection[str], space: Space) -> list[str]:
    if isinstance(keep, str) or not set(keep) <= set(space):
        raise ValueError(f"PopulationStudy: keep must be a list of names of the space, {list(space)}, got {keep!r}.")
    return sorted(keep)
