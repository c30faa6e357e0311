"""The command ``inloop``: look at studies, export, delete, check and serve them."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import math
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .events import Event, to_json
from .history import History
from .record import FrozenTrial, TrialState
from .storage import Storage, StorageError, open_storage

Row = dict[str, Any]
_PAGE = 5000  # events


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 if ``check`` found something or the command failed."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # into `head`, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (StorageError, KeyError, ValueError, ImportError, OSError) as error:
        sys.stderr.write(f"inloop: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inloop", description="Look at studies, export, delete, check and serve them."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(run: Callable[[argparse.Namespace], int], name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("storage", help="path of a SQLite file, or a URL")
        sub.set_defaults(run=run)
        return sub

    def of_study(sub: argparse.ArgumentParser, text: str = "its name; may be left out if it is the only one") -> None:
        sub.add_argument("study", nargs="?", help=text)

    sub = command(_studies, "studies", "List the studies of a storage.")
    _add_format(sub)
    sub = command(_best, "best", "Show the best trial of a study.")
    of_study(sub)
    _add_format(sub)
    sub = command(_trials, "trials", "List the trials of a study.")
    of_study(sub)
    _add_format(sub)
    sub = command(_export, "export", "Write the log of a study, one event a line as JSON.")
    of_study(sub)
    sub.add_argument("--output", help="file to write to instead of the screen")
    sub = command(_delete, "delete", "Delete a study and all its trials.")
    sub.add_argument("study", help="its name")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    sub = command(_check, "check", "Verify the log of a study, or of all, and say what is in it.")
    of_study(sub, "its name; all studies if left out")
    sub = command(_serve, "serve", "Serve a storage to workers that cannot reach it themselves.")
    sub.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s, this machine only)"
    )
    sub.add_argument("--port", type=int, default=0, help="port to listen at (default: a free one)")
    sub.add_argument("--authkey-file", required=True, help="file with the key; made with a random one if there is none")
    return parser


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default: %(default)s")


# The commands


def _studies(given: argparse.Namespace) -> int:
    storage = _existing(given.storage)
    rows = []
    for name in storage.names():
        history = _history(storage, name)
        best = history.best
        states = {s.name.lower(): history.states[s] for s in TrialState}
        rows.append(
            {"study": name, "direction": history.header.get("direction"), "trials": len(history.trials), **states}
            | {"best": None if best is None else best.value}
        )
    _write(rows, given.format)
    return 0


def _best(given: argparse.Namespace) -> int:
    storage = _existing(given.storage)
    name = _only(storage, given.study)
    best = _history(storage, name).best
    if best is None:
        raise ValueError(f"study {name!r} has no complete trial yet.")
    _write([_row(best)], given.format)
    return 0


def _trials(given: argparse.Namespace) -> int:
    storage = _existing(given.storage)
    _write([_row(t) for t in _history(storage, _only(storage, given.study)).trials], given.format)
    return 0


def _export(given: argparse.Namespace) -> int:
    storage = _existing(given.storage)
    name = _only(storage, given.study)
    if given.output is None:
        _write_log(storage, name, sys.stdout)
    else:
        with open(given.output, "w", encoding="ascii") as file:
            _write_log(storage, name, file)
    return 0


def _delete(given: argparse.Namespace) -> int:
    storage = _existing(given.storage)
    n = len(_history(storage, given.study).trials)
    if not given.yes:
        if not sys.stdin.isatty():
            raise ValueError("delete: nobody is there to ask; say --yes.")
        sys.stdout.write(f"Delete study {given.study!r} with {n} trials? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    storage.delete(given.study)
    return 0


def _check(given: argparse.Namespace) -> int:
    storage = _existing(given.storage)
    found = [f"file: {problem}" for problem in _file_problems(storage)]
    for name in storage.names() if given.study is None else [given.study]:
        found += _check_study(storage, name)
    sys.stdout.write("".join(f"PROBLEM {line}\n" for line in found) or "no problems\n")
    return 1 if found else 0


def _serve(given: argparse.Namespace) -> int:
    from .storage import Server, SqliteStorage
    from .storage.server import read_key

    storage = open_storage(given.storage)
    if isinstance(storage, SqliteStorage):  # clients may outlive a power cut here: they must know nothing that it loses
        storage = SqliteStorage(storage.path, durability="always")
    if not os.path.exists(given.authkey_file):
        with open(os.open(given.authkey_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(os.urandom(32).hex() + "\n")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    with Server(storage, given.host, given.port, read_key(given.authkey_file)) as server:
        host = f"[{server.address[0]}]" if ":" in server.address[0] else server.address[0]
        url = f"inloop://{host}:{server.address[1]}?authkey-file={given.authkey_file}"
        sys.stdout.write(f"serving {given.storage} at {url}\n")
        sys.stdout.flush()
        done.wait()
    storage.close()
    return 0


# Reading


def _existing(text: str) -> Storage:
    if "://" not in text and not os.path.exists(text):
        raise ValueError(f"there is no file {text}.")
    return open_storage(text)


def _only(storage: Storage, study: str | None) -> str:
    if study is not None:
        return study
    names = storage.names()
    if len(names) != 1:
        raise ValueError(f"say which study: {names}." if names else "there is no study in it.")
    return names[0]


def _pages(storage: Storage, study: str) -> Iterator[list[Event]]:
    at = 0
    while page := storage.read(study, at, _PAGE):
        yield page
        at += len(page)


def _history(storage: Storage, study: str) -> History:
    history = History()
    for page in _pages(storage, study):
        history.apply(page)
    return history


def _write_log(storage: Storage, study: str, file: Any) -> None:
    for page in _pages(storage, study):
        file.writelines(f"{to_json(e)}\n" for e in page)


def _file_problems(storage: Storage) -> list[str]:
    from .storage import SqliteStorage

    return storage.check() if isinstance(storage, SqliteStorage) else []


def _check_study(storage: Storage, name: str) -> list[str]:
    """Write what is in a study and return what is wrong with it."""
    bad: list[str] = []
    senseless: list[str] = []
    kinds: Counter[str] = Counter()
    uids: set[tuple[str, int]] = set()
    history = History()
    for at, event in _readable(storage, name, bad):
        kinds[event.kind] += 1
        if (event.worker, event.seq) in uids:
            senseless.append(f"event {at} is there twice ({event.uid})")
        uids.add((event.worker, event.seq))
        try:
            history.apply([event])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            senseless.append(f"event {at} makes no sense: {to_json(event):.200} ({error!r})")
    states = ", ".join(f"{history.states[s]} {s.name}" for s in TrialState if history.states[s])
    lost = [t.number for t in history.trials if t.state is TrialState.LOST]
    lines = [
        f"study {name!r}: {sum(kinds.values())} events of {len({w for w, _ in uids})} workers, {len(bad)} bad lines",
        f"  trials: {len(history.trials)}" + (f" ({states})" if states else ""),
        f"  lost: {lost[:20]}{' ...' if len(lost) > 20 else ''}" if lost else "",
        f"  kinds: {dict(kinds)}",
        f"  kinds that this version does not know: {dict(history.unknown)}" if history.unknown else "",
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines if line))
    return [f"study {name!r}: {text}" for text in bad + senseless]


def _readable(storage: Storage, study: str, bad: list[str]) -> Iterator[tuple[int, Event]]:
    """Yield the events that can be read, with their positions; what is wrong with the others goes into ``bad``."""
    at, step = 0, _PAGE
    while True:
        try:
            page = storage.read(study, at, step)
        except StorageError as error:
            if step == 1:
                bad.append(str(error))
                at += 1
            if len(bad) == 100:
                bad.append("and so on")
                return
            step = 1  # one by one over the bad ones
            continue
        if not page:
            return
        yield from zip(range(at, at + len(page)), page, strict=True)
        at += len(page)
        step = min(2 * step, _PAGE)


# Writing


def _row(trial: FrozenTrial) -> Row:
    complete = trial.datetime_complete
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "reports": trial.reports,
        "started": trial.datetime_start.isoformat(" ", "seconds"),
        "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 3),
        "completed": None if complete is None else complete.isoformat(" ", "seconds"),
        "params": trial.params,
        "user_attrs": trial.user_attrs,
    }


def _write(rows: list[Row], form: str) -> None:
    if form == "json":
        text = json.dumps([_strict(row) for row in rows], indent=2, default=str, allow_nan=False) + "\n"
        sys.stdout.write(text)
        return
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        sys.stdout.write(out.getvalue())
    else:
        sys.stdout.write(_table(names, flat))


def _flat(row: Row) -> Row:
    """Give every parameter and attribute a column of its own."""
    flat: Row = {}
    for name, value in row.items():
        if name in ("params", "user_attrs"):
            flat |= {f"{name}_{k}": v for k, v in value.items()}
        else:
            flat[name] = value
    return flat


def _table(names: list[str], rows: list[Row]) -> str:
    cells = [names] + [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in cells)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 40 else text[:37] + "..."


def _strict(value: Any) -> Any:
    """Return the value with NaN and the infinities, which JSON has not, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    return [_strict(v) for v in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    sys.exit(main())
