"""What all hooks share: the trial, the direction of the metric, one fit at a time."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any, TypeVar, cast

from inloop import FixedTrial, Trial, TrialPruned, TrialState
from inloop.reporter import Reporter, reporter

_T = TypeVar("_T")
_DIRECTIONS = {"min": "minimize", "max": "maximize"}
LENT = ("log", "log_dict")  # by Lightning: methods of the model that is trained
_UNSHOWN = ("trial", "order", "X", "y", "sample_weight", *LENT)  # in a hook's repr
# names that mean one thing alone in deep learning's frameworks: "val_loss", "eval_accuracy", "valid/acc_epoch"
_KNOWN = re.compile(
    r"((train|val|valid|validation|test|eval)[_/])?(?:(?P<min>loss)|acc|accuracy)(_epoch|_step)?(/dataloader_idx_\d+)?"
)


def _no_stream(value: float, step: int) -> bool:
    raise RuntimeError("This fit has no stream yet to report to.")


@dataclass(slots=True)
class Fit:
    """One fit that reports to a trial.

    Attributes:
        thread: Who trains.
        begin: Step that its stream is opened for.
        reported: Last step that was reported, -1 before any; of the fit that this one goes on from, too.
        stream: Where its reports go, -1 before the first of them.
        report: Reports a value and a step, and returns whether training should stop.
        end: Where training has ended: the step that would come next, if a hook says so.
        source: Where the framework keeps its metrics.
        values: The metric's values so far.
    """

    thread: int
    begin: int = -1
    reported: int = -1
    stream: int = -1
    report: Reporter = _no_stream
    end: int = -1
    source: Any = None
    values: Any = None


@dataclass(eq=False)
class Reference:
    """A hook's trial, looked for when it is first needed: a model that was saved with its hook may outlive the study.

    Attributes:
        number: The trial's number.
        trial: The trial; None: not looked for yet.
        find: What returns it, and its arguments.
    """

    number: int
    trial: Trial | None
    find: tuple[Callable[..., Trial], tuple[Any, ...]] | None = None

    def get(self) -> Trial:
        """Return the trial."""
        if self.trial is None:
            assert self.find is not None
            find, args = self.find
            self.trial = find(*args)
        return self.trial

    def __deepcopy__(self, memo: dict[int, Any]) -> Reference:
        return replace(self, trial=copy.deepcopy(self.trial, memo))

    def __reduce__(self) -> Any:
        return Reference, (self.number, None, self.find if self.trial is None else self.trial.__reduce__())


class Hook:
    """A framework's callback that reports a metric to a trial and stops training when the trial is pruned.

    Every fit starts afresh, in a stream of its own (so fold k of a trial is compared with fold k of others),
    unless it goes on with training where an earlier fit of the trial ended, or at an earlier step of it; steps that
    are trained once more are not reported again. Where some steps have no report, only the hook itself knows where
    its last fit ended. A copy (``copy``, ``deepcopy``, ``sklearn.clone``, ``pickle``) is another hook of the same
    trial, with no fit under way.

    Args:
        trial: Where the reports go.
        metric: Name of the metric, None for the framework's own choice.
        mode: ``"min"`` or ``"max"``, None if it is known.
        report_every: Report every so many steps, and the last one.

    Raises:
        TypeError: If ``trial`` is no trial.
        ValueError: If ``mode`` or ``report_every`` is out of its range.
    """

    _left: Fit | None = None  # its last fit, which another one may go on from
    _stream: int | None = None  # of its last fit

    def __init__(self, trial: Trial, metric: str | None, mode: str | None, report_every: int) -> None:
        self.trial = trial
        if mode is not None and mode not in _DIRECTIONS:
            raise ValueError(f"{type(self).__name__}: mode must be 'min', 'max' or None, got {mode!r}.")
        if isinstance(report_every, bool) or not isinstance(report_every, int) or report_every < 1:
            raise ValueError(
                f"{type(self).__name__}: report_every must be an integer of at least 1, got {report_every!r}."
            )
        self.metric = metric
        self.mode = mode
        self.report_every = report_every
        self._fit: Fit | None = None

    @property
    def trial(self) -> Trial:
        """Where the reports go.

        Raises:
            StudyNotFound, StorageError: If the hook was loaded from a file, and its study is not there any more.
            TypeError: If it is set to what is no trial.
        """
        reference: Reference = vars(self)["trial"]
        return reference.get()

    @trial.setter
    def trial(self, trial: Trial | Reference) -> None:
        if not isinstance(trial, Trial | Reference):
            raise TypeError(f"{type(self).__name__}: trial must be an inloop.Trial, got {trial!r}.")
        vars(self)["trial"] = trial if isinstance(trial, Reference) else Reference(trial.number, trial)

    def _start(self, step: int, after: int | None = None) -> None:
        """Begin a fit whose first step is ``step``, or raise `TrialPruned`.

        Args:
            step: Where training begins.
            after: Last step of earlier training that has a report, if the framework knows; None: the one before.
        """
        self._refuse_ended()
        last = self._left if self._left is not None and self._left.end == step else None  # training goes on
        begin, reported = step if after is None else after + 1, -1
        if last is not None:
            begin, reported = max(last.begin, last.reported + 1), last.reported
        self._fit = Fit(get_ident(), begin, reported)

    def _leave(self) -> None:
        """End the fit, which another one may go on from."""
        if self._fit is not None:
            self._left, self._fit = self._fit, None

    def _open(self, fit: Fit) -> None:
        """Give a fit its stream; not before it reports: one that fails earlier would leave an empty stream behind."""
        self._stream = fit.stream = self.trial.open_stream(fit.begin, self._stream)
        fit.report = self._reporter(fit.stream, fit.begin)

    def _reporter(self, stream: int, step: int = 0) -> Reporter:
        """Return what reports to a stream from ``step`` on, except for steps that are there already."""
        trial = self.trial
        report, curve = reporter(trial, stream), trial._record.curves.get(stream)
        if curve is None or curve.top < step:
            return report
        top = curve.top

        def report_new(value: float, step: int) -> bool:
            return report(value, step) if step > top else trial.pruned

        return report_new

    def _refuse_ended(self) -> None:
        known = self.trial.study.history.trials[self.trial.number]  # up to date, where other processes report too
        if known.pruned or known.state is TrialState.PRUNED:
            raise TrialPruned(f"trial {known.number} is pruned; it is not trained any further.")
        if known.finished:
            self.trial._refuse("takes no more reports")

    def _see(self, fit: Fit, value: float, step: int, last: bool = False) -> bool:
        """Take the metric at ``step``; return whether training should stop.

        Args:
            fit: What `_current` returns.
            value: The metric.
            step: Epochs or rounds before this one, over all of training.
            last: Report it in any case.
        """
        if (step + 1) % self.report_every and not last:
            return False
        if fit.stream < 0:
            self._open(fit)
        fit.reported = step
        return fit.report(value, step)

    def _hold(self, fit: Fit, value: float, step: int) -> None:
        """Have the metric at ``step`` reported if training has ended there, where nothing else would say so."""
        if fit.stream < 0:
            self._open(fit)
        self.trial.hold(value, step, fit.stream)

    def _current(self) -> Fit:
        """Return the fit of this thread.

        Raises:
            RuntimeError: If another fit has begun with this hook.
        """
        fit = self._fit
        if fit is None or fit.thread != get_ident():
            raise RuntimeError(
                f"{self!r} is used by two fits at once, whose reports could not be told apart; give each its own hook."
            )
        return fit

    def _on_leader(self, do: Callable[[], _T], leads: bool, broadcast: Callable[[Any], Any]) -> _T:
        """Return what ``do()`` returns on the leading rank, on every rank; where it raises, all raise.

        Args:
            do: Called on the leading rank alone.
            leads: Whether this is the leading rank.
            broadcast: Returns on every rank what the leading one gives it.
        """
        failure: Exception | None = None
        said: tuple[Any, str | None, bool] = (None, None, False)
        if leads:
            try:
                said = (do(), None, False)
            except Exception as error:  # raised below: the other ranks wait for the broadcast
                failure, said = error, (None, repr(error), isinstance(error, TrialPruned))
        value, what, pruned = broadcast(said)
        if failure is not None:
            raise failure
        if what is not None:
            raise TrialPruned(what) if pruned else RuntimeError(f"{type(self).__name__} failed on rank 0: {what}")
        return cast(_T, value)

    def _check_one_trial(
        self, broadcast: Callable[[Any], Any], everywhere: Callable[[bool], bool], instead: str
    ) -> None:
        """Check that every rank has the leading rank's trial.

        Args:
            broadcast: Returns on every rank what the leading one gives it.
            everywhere: Returns on every rank whether what they give it is true on all of them.
            instead: What to do where it is not, for the message.

        Raises:
            RuntimeError: On every rank, if a rank has another trial.
        """
        if isinstance(self.trial, FixedTrial):  # nothing of it decides how a rank trains
            return
        study, number = self.trial.study, self.trial.number
        here = (study._log.history.uid, number)
        if not everywhere(broadcast(here) == here):
            raise RuntimeError(
                "The ranks of this training have different trials; this one has trial "
                f"{number} of study {study.study_name!r}. {instead}"
            )

    def _check_direction(self, metric: str, known: str | None) -> None:
        """Check a metric's direction against the study's.

        Args:
            metric: Its name, for messages.
            known: ``"min"``, ``"max"``, or None where the framework does not say.

        Raises:
            ValueError: If they differ, or ``mode`` is needed or says otherwise.
        """
        name, study = type(self).__name__, self.trial.study.direction
        if known and self.mode and known != self.mode:
            raise ValueError(f"{name}: {metric!r} is to be {_DIRECTIONS[known]}d, but mode={self.mode!r} was given.")
        mode = known or self.mode
        if mode is None:
            raise ValueError(
                f"{name}: is {metric!r} to be minimized or maximized? That is not known: give mode='min' or 'max'."
            )
        if _DIRECTIONS[mode] != study and not isinstance(self.trial, FixedTrial):
            raise ValueError(
                f"{name}: the metric {metric!r} is to be {_DIRECTIONS[mode]}d, but the direction of study "
                f"{self.trial.study.study_name!r} is {study!r}; report a metric of that direction, or create the study "
                f"with direction={_DIRECTIONS[mode]!r}."
            )

    def _set(self, there: Mapping[str, Mapping[str, _T]], asked: str | None, default: str | None) -> Mapping[str, _T]:
        """Return the metrics of an evaluation set.

        Args:
            there: All sets and their metrics.
            asked: The name that was given.
            default: Else this one, None where only training data is evaluated.
        """
        name = default if asked is None else asked
        if name is None:
            raise self._missing("only training data is evaluated, and to prune by it say data=", there)
        if name not in there:
            raise self._missing(f"no evaluation set is named {name!r}", there)
        return there[name]

    def _missing(self, what: str, there: Mapping[str, Iterable[str]]) -> ValueError:
        """Return the error for something that is not evaluated, listing what is."""
        sets = "; ".join(f"{data}: {', '.join(metrics)}" for data, metrics in there.items())
        return ValueError(f"{type(self).__name__}: {what}. What is evaluated: {sets}.")

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in vars(self).items() if k[0] != "_"}, "_fit": None}

    def __repr__(self) -> str:
        given = {k: v for k, v in vars(self).items() if k[0] != "_" and k not in _UNSHOWN and v is not None}
        args = [f"trial={vars(self)['trial'].number}", *(f"{k}={v!r}" for k, v in given.items())]
        return f"{type(self).__name__}({', '.join(args)})"


def known_direction(metric: str) -> str | None:
    """Return ``"min"`` for a loss, ``"max"`` for an accuracy, None for any other name.

    Example:
        >>> known_direction("val_loss"), known_direction("valid/acc"), known_direction("loss_of_weight")
        ('min', 'max', None)
    """
    known = _KNOWN.fullmatch(metric)
    return known and ("min" if known["min"] else "max")
