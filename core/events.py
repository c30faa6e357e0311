"""Events: the facts of a study, only ever appended.

A study is the fold of its events in the order of its log (`inloop.history.History`). The kinds:

=============  =====  ========================================================================================
kind           trial  data
=============  =====  ========================================================================================
``study``      -1     header: name, direction, seed, space, retry, schema, min_reader
``space``      -1     ``{"id": ..., "space": Space.to_json()}``
``enqueued``   -1     ``[space id or None, {name: stored value}, attrs]``
``learned``    -1     ``[[uid, name], number there, space id, {name: stored value}, value]``; an earlier study's trial
``created``    -1     ``[time, takes an enqueued one, lease]``; the n-th in the log *is* trial n
``taken``      n      lease in seconds, 0: none; from now on the writer runs trial n
``returned``   n      ``[worker, lease]``; the writer ends and gives the trial back to the worker that it had it from
``beat``       -1     time; the writer is alive
``rest``       -1     None; the writer has ended a search, and ranks that follow its trials end theirs
``proposed``   n      ``[space id, {name: stored value}]``; the trial will take some of these
``params``     n      ``[space id or None, {name: stored value}]``
``stream``     n      ``[stream, step, token]``; the writer runs this stream from ``step`` on; the first one counts
``report``     n      ``[stream, step, value]``
``held``       n      ``[stream, step, value]``; a report if the trial ends before a later one of the stream
``pruned``     n      ``[stream, step]`` of the report at which the pruner said stop
``attr``       n, -1  ``[key, value]``; -1 is the study itself
``finished``   n      ``[state name, value, time]``; the first one counts
=============  =====  ========================================================================================

A reader keeps kinds it does not know, counts them and passes over them.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

SCHEMA = 1
#: The oldest reader that understands this schema.
MIN_READER = 1

_TYPES = [{str}, {int}, {str}, {int}]  # of worker, seq, kind and trial
# {"float": "nan"} stands for NaN, {"float": "text:nan"} for a dict that looks like that, and so on with more "text:"
_TAGGED = re.compile(r"(text:)*(nan|inf|-inf)")
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Event(NamedTuple):
    """One fact about a study.

    Attributes:
        worker: Random name of the writer, new for each process.
        seq: The writer's own count; ``(worker, seq)`` is the event's unique id.
        kind: What happened, see the table of this module.
        trial: Trial number, -1 where the event belongs to no trial.
        data: JSON value.
    """

    worker: str
    seq: int
    kind: str
    trial: int
    data: Any

    @property
    def uid(self) -> str:
        """Unique id of the event."""
        return f"{self.worker}-{self.seq}"


as_event: Callable[[Iterable[Any]], Event] = functools.partial(tuple.__new__, Event)  # Event._make at the speed of C


def to_json(event: Event) -> str:
    """Return the event as one line of strict JSON; NaN and the infinities become tagged strings.

    Example:
        >>> line = to_json(Event("w", 1, "report", 0, [0, 3, float("nan")]))
        >>> line
        '["w",1,"report",0,[0,3,{"float":"nan"}]]'
        >>> from_json(line).data[2]
        nan
    """
    worker, seq, kind, trial, data = event
    if kind == "report" and worker.isalnum():  # nine events of ten are reports: 6 us less for each
        try:
            stream, step, value = data
        except (TypeError, ValueError):
            pass
        else:
            if type(value) is float and math.isfinite(value):
                return f'["{worker}",{seq},"report",{trial},[{stream},{step},{value!r}]]'
    try:
        line = _encode(event)
    except ValueError:
        return _encode(_tag(list(event)))
    return _encode(_tag(list(event))) if '{"float":"' in line else line


def from_json(text: str) -> Event:
    """Return the event that `to_json` wrote."""
    return Event(*json.loads(text, object_hook=_untag if '{"float":' in text else None))


def from_json_lines(texts: Sequence[str]) -> list[Event]:
    """Return the events that `to_json` wrote; faster than one by one.

    Raises:
        ValueError: If a text is not an event; the message has the text and its place.
    """
    if not texts:
        return []
    try:
        return from_joined(",".join(texts), len(texts))
    except (ValueError, TypeError):
        return [_checked(i, text) for i, text in enumerate(texts)]


def from_joined(text: str, count: int) -> list[Event]:
    """Return the events, at least one, that `to_json` wrote, their texts joined by commas.

    Raises:
        ValueError: If they are not so many events.
    """
    tagged = '{"float":' in text
    decoder = None if tagged else _decoder()
    if decoder is not None:
        decode, errors = decoder
        try:
            events = decode(f"[{text}]")
        except errors:  # json reads some texts more, such as half of a surrogate pair
            events = []
        if len(events) == count:
            return events
    try:
        rows = json.loads(f"[{text}]", object_hook=_untag if tagged else None)
        columns = list(zip(*rows, strict=True))  # checked by column, three times faster than row by row
        if len(rows) == count and [set(map(type, c)) for c in columns[:4]] == _TYPES and len(columns) == 5:
            return list(map(as_event, rows))
    except (TypeError, RecursionError):
        pass
    raise ValueError(f"this is not {count} events [worker, seq, kind, trial, data]: {text!r:.200}")


@functools.cache
def _decoder() -> tuple[Callable[[str], list[Event]], tuple[type[Exception], ...]] | None:
    """Return msgspec's reader of events and its errors, if it is installed: a third of json's time, checks included."""
    try:
        import msgspec
    except ImportError:
        return None
    return msgspec.json.Decoder(list[Event]).decode, (msgspec.MsgspecError, ValueError, RecursionError)


def check_json(value: Any, path: str = "value") -> None:
    """Refuse what JSON cannot hold, naming where it is.

    Raises:
        TypeError: If ``value`` or something inside it is not JSON.
    """
    if isinstance(value, dict):
        for k, v in value.items():
            if not isinstance(k, str):
                raise TypeError(f"{path}: JSON keys are strings, got {k!r}.")
            check_json(v, f"{path}[{k!r}]")
    elif isinstance(value, list | tuple):
        for i, v in enumerate(value):
            check_json(v, f"{path}[{i}]")
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise TypeError(
            f"{path}: {type(value).__name__} is not JSON (None, bool, int, float, str, list, dict): {value!r}."
        )


def as_attr(key: Any, value: Any) -> tuple[str, Any]:
    """Return a user attribute that its giver may change; one that JSON cannot hold is refused as by `check_json`."""
    if not isinstance(key, str):
        raise TypeError(f"user_attrs: JSON keys are strings, got {key!r}.")
    check_json(value, f"user_attrs[{key!r}]")
    return key, copy.deepcopy(value)


def _tag(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, dict):
        return {"float": f"text:{value['float']}"} if _tagged(value) else {k: _tag(v) for k, v in value.items()}
    return [_tag(v) for v in value] if isinstance(value, list | tuple) else value


def _untag(data: dict[str, Any]) -> Any:
    if not _tagged(data):
        return data
    text = data["float"]
    return {"float": text[5:]} if text.startswith("text:") else float(text)


def _tagged(data: dict[str, Any]) -> bool:
    return data.keys() == {"float"} and isinstance(data["float"], str) and bool(_TAGGED.fullmatch(data["float"]))


def _well_formed(event: Event) -> bool:
    worker, seq, kind, trial, _ = event
    return type(worker) is str and type(seq) is int and type(kind) is str and type(trial) is int


def _checked(place: int, text: str) -> Event:
    try:
        event = from_json(text)
        if _well_formed(event):
            return event
    except (ValueError, TypeError, RecursionError):
        pass
    raise ValueError(f"text {place} is not an event [worker, seq, kind, trial, data]: {text!r:.200}") from None
