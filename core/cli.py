"""The command ``inloop``: look at studies, export, delete, check and serve them."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import logging
import math
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .events import Event, to_json
from .history import History
from .record import FrozenTrial, TrialState
from .storage import Storage, StorageError, open_storage

if TYPE_CHECKING:
    from .storage import Server

Row = dict[str, Any]
_PAGE = 5000  # events
_OF_STUDY = ["study", "direction", "trials", *(s.name.lower() for s in TrialState), "best"]
_OF_TRIAL = ["number", "state", "value", "reports", "started", "seconds", "completed"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return 0; 1 if ``check`` found something or the command failed; 130 on Ctrl-C."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `<&-`
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what an ASCII terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    given = _parser().parse_args(arguments)
    try:
        with given.opens(given.storage) as storage:
            code: int = given.run(storage, given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # into `head`, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:  # the answer to a question, say
        return 130  # as shells do
    except (StorageError, KeyError, ValueError, ImportError, OSError) as error:
        sys.stderr.write(f"inloop: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inloop", description="Look at studies, export, delete, check and serve them."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        run: Callable[[Storage, argparse.Namespace], int],
        name: str,
        text: str,
        opens: Callable[[str], Storage] = _existing,
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("storage", help="path of a SQLite file, or a URL")
        sub.set_defaults(run=run, opens=opens)
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
    sub = command(_serve, "serve", "Serve a storage to workers that cannot reach it themselves.", open_storage)
    sub.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s, this machine only)"
    )
    sub.add_argument("--port", type=_port, default=0, help="port to listen at (default: a free one)")
    sub.add_argument("--authkey-file", required=True, help="file with the key; made with a random one if there is none")
    return parser


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default: %(default)s")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, got {text!r}")
    return int(text)


# The commands


def _studies(storage: Storage, given: argparse.Namespace) -> int:
    rows = []
    for name in storage.names():
        history = _history(storage, name)
        best = history.best
        states = {s.name.lower(): history.states[s] for s in TrialState}
        rows.append(
            {"study": name, "direction": history.header.get("direction"), "trials": len(history.trials), **states}
            | {"best": None if best is None else best.value}
        )
    _write(rows, given.format, _OF_STUDY)
    return 0


def _best(storage: Storage, given: argparse.Namespace) -> int:
    name = _only(storage, given.study)
    best = _history(storage, name).best
    if best is None:
        raise ValueError(f"study {name!r} has no complete trial yet.")
    _write([_row(best)], given.format, _OF_TRIAL)
    return 0


def _trials(storage: Storage, given: argparse.Namespace) -> int:
    _write([_row(t) for t in _history(storage, _only(storage, given.study)).trials], given.format, _OF_TRIAL)
    return 0


def _export(storage: Storage, given: argparse.Namespace) -> int:
    rest = _pages(storage, _only(storage, given.study))
    pages = itertools.chain([next(rest, [])], rest)  # no file is made for a study that is not there
    if given.output is None:
        _write_log(pages, sys.stdout)
    else:
        path = _path(storage)
        if path is not None and os.path.exists(given.output) and os.path.samefile(path, given.output):
            raise ValueError(f"--output {given.output} is the storage itself.")
        with open(given.output, "w", encoding="ascii") as file:
            _write_log(pages, file)
    return 0


def _delete(storage: Storage, given: argparse.Namespace) -> int:
    if not given.yes:
        states = _history(storage, given.study).states
        if not sys.stdin.isatty():
            raise ValueError("delete: nobody is there to ask; say --yes.")
        n, running = sum(states.values()), states[TrialState.RUNNING]
        sys.stdout.write(f"Delete study {given.study!r} with {n} trials, {running} of them running? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    storage.delete(given.study)
    return 0


def _check(storage: Storage, given: argparse.Namespace) -> int:
    found = [f"file: {problem}" for problem in _file_problems(storage)]
    try:
        names = storage.names()
    except StorageError as error:
        found.append(f"file: {_without_advice(error)}")
    else:
        for name in names if given.study is None else [given.study]:
            found += _check_study(storage, name)
    sys.stdout.write("".join(f"PROBLEM {line}\n" for line in dict.fromkeys(found)) or "no problems\n")
    return 1 if found else 0


def _serve(storage: Storage, given: argparse.Namespace) -> int:
    from .storage import SqliteStorage

    for path in (_path(storage), given.authkey_file):
        folder = os.path.dirname(path or "") or "."
        if not os.path.isdir(folder):
            raise ValueError(f"there is no folder {folder} for {path}.")
    storage.names()  # what cannot be served is found out now, not by the clients
    if isinstance(storage, SqliteStorage):  # clients may outlive a power cut here: they must know nothing that it loses
        storage = SqliteStorage(storage.path, durability="always")
    if not os.path.exists(given.authkey_file):
        with open(os.open(given.authkey_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(os.urandom(32).hex() + "\n")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    done = threading.Event()
    with _listening(storage, given) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: done.set())
        host = f"[{server.address[0]}]" if ":" in server.address[0] else server.address[0]
        url = f"inloop://{host}:{server.address[1]}?authkey-file={quote(given.authkey_file)}"
        sys.stdout.write(f"serving {_path(storage) or storage} at {url}\n")
        sys.stdout.flush()
        done.wait()
    storage.close()
    return 0


def _listening(storage: Storage, given: argparse.Namespace) -> Server:
    from .storage.server import Server, read_key

    key = read_key(given.authkey_file)
    try:
        return Server(storage, given.host, given.port, key)
    except OSError as error:  # taken, or not this machine's
        raise ValueError(f"cannot listen at {given.host}, port {given.port}: {error.strerror}.") from error


# Reading


def _existing(text: str) -> Storage:
    """Open a storage to look into; nothing is made where there is none."""
    storage = open_storage(text)
    path = _path(storage)
    if path is not None:
        if not os.path.exists(path):
            raise ValueError(f"there is no file {path}.")
        if os.path.getsize(path) == 0:
            raise ValueError(f"{path} is empty, no database of inloop.")
    return storage


def _path(storage: Storage) -> str | None:
    """Return the file of a storage that is one."""
    from .storage import SqliteStorage

    return storage.path if isinstance(storage, SqliteStorage) else None


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


def _write_log(pages: Iterator[list[Event]], file: Any) -> None:
    for page in pages:
        file.writelines(f"{to_json(e)}\n" for e in page)


def _file_problems(storage: Storage) -> list[str]:
    from .storage import SqliteStorage

    try:
        return storage.check() if isinstance(storage, SqliteStorage) else []
    except StorageError as error:
        return [_without_advice(error)]


def _without_advice(error: StorageError) -> str:
    """Return what is wrong, without the advice to run the check that is running."""
    return str(error).partition("; `inloop check")[0]


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
        except (StorageError, ValueError) as error:
            senseless.append(f"event {at} makes no sense: {to_json(event):.200} ({error.__cause__ or error!r})")
            history.damage = ""  # there may be more
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
    return [f"study {name!r}: {text}" for text in bad + senseless + history.impossible]


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


def _write(rows: list[Row], form: str, columns: list[str]) -> None:
    """Write the rows; ``columns`` are those that are there without any row."""
    if form == "json":
        text = json.dumps([_strict(row) for row in rows], indent=2, default=str, allow_nan=False) + "\n"
        sys.stdout.write(text)
        return
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(columns + [name for row in flat for name in row]))
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
    cells = [[*map(_cell, names)]] + [[_cell(row.get(name)) for name in names] for row in rows]
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
