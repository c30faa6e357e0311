"""What a storage costs, Optuna's three beside ours in one run: CPU time of a trial, replay, size of the files.

    python benchmarks/storage.py                                # all parts
    python benchmarks/storage.py --quick                        # without the longest history
    python benchmarks/storage.py --server postgresql://... --server mariadb://...

1. One trial: ask, 3 random floats, 10 x (report + should_prune by the median rule), tell; by trials in the study and by
   processes at work on it at once. CPU time of the client, system calls included; of database servers only that.
   "sqlite3 alone" is what no storage on SQLite can go below: the same commits, reads and flush and nothing else.
2. Replay: opening a study with 1e6 events in a SQLite file, with msgspec (extra "fast") and with the json module.
3. Size of the file and its write-ahead log while four processes write to it.

The storages take turns, so that a busy machine is busy for all of them; of the rounds the median is kept. Where one
process is at work, its time while a neighbour used the same core does not count (see ``quiet.py``), whatever the
storage. The result is in ``results/storage.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import inloop
from inloop import Float, Space
from inloop.events import Event
from inloop.storage import MemoryStorage, SqliteStorage, open_storage
from quiet import Core, chosen, cpu_ms

RESULTS = Path(__file__).parent / "results"
STEPS = 10
SPACE = Space({n: Float(0, 1) for n in "xyz"})
Step = Callable[[], None]
TIMES = ("cpu_ms", "mean_cpu_ms", "wall_ms")
IN_MEMORY = ("inloop memory", "optuna memory")
SLOW = {"optuna sqlite": 12, "optuna journal": 25}  # cycles in a round, where others make 300


# Ours


def inloop_cycle(study: Any) -> Step:
    def step() -> None:
        trial = study.ask()
        value = sum(trial.params.values())
        for s in range(STEPS):
            trial.report(-1.0, s)  # no worse than any other trial, so it is never stopped
            if trial.should_prune():
                raise RuntimeError("a trial was stopped that is as good as all others")
        study.tell(trial, value)

    return step


def log_of(trials: int) -> list[Event]:
    """The log of a study with so many trials, made in memory."""
    storage = MemoryStorage()
    given: dict[str, Any] = {"space": SPACE, "sampler": "random", "pruner": "median", "seed": 0}
    study = inloop.create_study(storage=storage, study_name="s", **given)
    step = inloop_cycle(study)
    for _ in range(trials):
        step()
    return storage.read("s", 0)


def copy_log(events: list[Event], storage: Any) -> None:
    if "s" in storage.names():
        storage.delete("s")
    storage.create("s", events[:1])
    for i in range(1, len(events), 5000):
        storage.append("s", events[i : i + 5000])


def open_inloop(url: str, log: list[Event] | None = None) -> Step:
    storage: Any = open_storage(url) if url else MemoryStorage()
    if log:
        copy_log(log, storage)
    return inloop_cycle(inloop.load_study("s", storage, space=SPACE, sampler="random", pruner="median"))


def sqlite_alone(path: str) -> Step:
    """What SQLite itself takes for the commits, reads and the flush of one trial, with nothing else around them."""
    file = sqlite3.connect(path, timeout=60, isolation_level=None)
    file.execute("PRAGMA page_size = 2048")  # as ours
    file.execute("PRAGMA journal_mode = wal")
    file.execute("PRAGMA synchronous = NORMAL")
    file.execute("CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, line TEXT NOT NULL)")
    journal = os.open(path + "-wal", os.O_RDWR)
    line = "x" * 80

    def step() -> None:
        for _ in range(STEPS + 3):  # created, proposed, the parameters and the first report, the others, finished
            at = file.execute("INSERT INTO event (line) VALUES (?)", (line,)).lastrowid
        for _ in range(2):  # of what others have written, at ask and tell
            file.execute("SELECT id, line FROM event WHERE id > ?", (at,)).fetchall()
        os.fdatasync(journal)

    return step


# Optuna's


def optuna_storage(kind: str, path: str) -> Any:
    import optuna
    from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if kind == "optuna memory":
        return InMemoryStorage()
    if kind == "optuna sqlite":
        return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 120}})
    return JournalStorage(JournalFileBackend(path))


def optuna_study(kind: str, path: str) -> Any:
    import optuna

    return optuna.create_study(
        storage=optuna_storage(kind, path),
        study_name="s",
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.MedianPruner(),
    )


def fill_optuna(study: Any, kind: str, path: str, trials: int) -> None:
    import optuna

    dists = {n: optuna.distributions.FloatDistribution(0, 1) for n in "xyz"}
    once = min(trials, 1) if kind == "optuna sqlite" else trials
    for _ in range(once):
        params = {n: random.random() for n in "xyz"}
        value = sum(params.values())
        curve = dict.fromkeys(range(STEPS), -1.0)
        study.add_trial(optuna.create_trial(params=params, distributions=dists, value=value, intermediate_values=curve))
    if kind == "optuna sqlite" and trials:
        multiply(path, trials)


def multiply(path: str, trials: int) -> None:
    """Copy the one trial of Optuna's tables in SQL; through Optuna it would take a quarter of an hour."""
    with sqlite3.connect(path) as file:
        (one,) = file.execute("SELECT trial_id FROM trials").fetchone()
        for table, key in (
            ("trials", None),
            ("trial_params", "param_id"),
            ("trial_values", "trial_value_id"),
            ("trial_intermediate_values", "trial_intermediate_value_id"),
        ):
            names = [r[1] for r in file.execute(f"PRAGMA table_info({table})") if r[1] != key]
            rows = file.execute(f"SELECT {', '.join(names)} FROM {table} WHERE trial_id = ?", (one,)).fetchall()
            at, number = names.index("trial_id"), names.index("number") if "number" in names else None
            copies = []
            for i in range(1, trials):
                for row in rows:
                    copy = list(row)
                    copy[at] = one + i
                    if number is not None:
                        copy[number] = i
                    copies.append(copy)
            marks = ", ".join("?" * len(names))
            file.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", copies)
    file.close()


def optuna_cycle(study: Any) -> Step:
    def step() -> None:
        trial = study.ask()
        value = sum(trial.suggest_float(n, 0, 1) for n in "xyz")
        for s in range(STEPS):
            trial.report(-1.0, s)
            if trial.should_prune():
                raise RuntimeError("a trial was stopped that is as good as all others")
        study.tell(trial, value)

    return step


# Part 1


def open_cycle(kind: str, where: str) -> Step:
    if kind == "sqlite3 alone":
        return sqlite_alone(where)
    return open_inloop(where) if kind.startswith("inloop") else optuna_cycle(optuna_study(kind, where))


def timed(step: Step, cycles: int, alone: bool = True) -> dict[str, float]:
    """Return the median and the mean CPU and the mean wall milliseconds of a cycle, timed in ten turns."""
    for _ in range(3):
        step()
    core = Core() if alone else None
    size = max(1, cycles // 10)
    turns, wall = [], 0.0
    for _ in range(cycles // size):
        if core is not None:
            core.wait(0.5)
        start = time.perf_counter()
        turns.append((cpu_ms(step, size), False) if core is None else core.turn(step, size, 0.0))
        wall += time.perf_counter() - start
    spent = chosen(turns)
    mean_wall = wall / sum(len(times) for times, _ in turns) * 1e3
    return {"cpu_ms": statistics.median(spent), "mean_cpu_ms": statistics.mean(spent), "wall_ms": mean_wall}


def work(kind: str, where: str, cycles: int) -> None:
    """Be one of several processes: say when ready, begin when told, say how long it took."""
    step = open_cycle(kind, where)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    alone = sys.stdin.readline() == "go alone\n"
    sys.stdout.write(json.dumps(timed(step, cycles, alone)) + "\n")


def at_once(kind: str, where: str, cycles: int, processes: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", kind, where, str(cycles)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    for w in workers:
        assert w.stdout.readline() == "ready\n"
    for w in workers:
        w.stdin.write("go alone\n" if processes == 1 else "go\n")
        w.stdin.flush()
    found = [json.loads(w.communicate()[0]) for w in workers]
    return {k: statistics.mean(f[k] for f in found) for k in TIMES}


def measure(kind: str, url: str, log: list[Event], trials: int, processes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        where = url or f"{folder}/{kind.replace(' ', '-')}"
        cycles = SLOW.get(kind, 300)
        if kind.startswith("inloop"):
            if kind in IN_MEMORY:
                return timed(open_inloop("", log), cycles)
            with open_storage(where) as storage:
                copy_log(log, storage)
        elif kind.startswith("optuna"):
            study = optuna_study(kind, where)
            fill_optuna(study, kind, where, trials)
            if kind in IN_MEMORY:
                return timed(optuna_cycle(study), cycles)
        return at_once(kind, where, cycles, processes)


def cycles_part(servers: list[str], histories: list[int], rounds: int) -> list[dict[str, Any]]:
    kinds = {"inloop memory": "", "inloop sqlite": "", "sqlite3 alone": ""}
    kinds |= {f"inloop {url.partition(':')[0]}": url for url in servers}
    kinds |= {"optuna memory": "", "optuna sqlite": "", "optuna journal": ""}
    rows = []
    for trials in histories:
        log = log_of(trials)
        for processes in (1, 4):
            taken: dict[str, list[dict[str, float]]] = {}
            for _ in range(rounds):
                for kind, url in kinds.items():
                    if processes == 1 or kind not in IN_MEMORY:
                        taken.setdefault(kind, []).append(measure(kind, url, log, trials, processes))
            for kind, found in taken.items():
                row = {"storage": kind, "trials": trials, "processes": processes}
                row |= {k: round(statistics.median(f[k] for f in found), 4) for k in TIMES}
                row["cpu_ms_of_rounds"] = [round(f["cpu_ms"], 4) for f in found]
                rows.append(row)
                times = f"{row['cpu_ms']:9.3f} ms CPU {row['wall_ms']:9.3f} ms"
                say(f"{kind:16} {trials:6} trials {processes} processes {times}")
    return rows


# Parts 2 and 3


def replay_part(events: int) -> dict[str, float]:
    log = log_of(events // 13 + 1)[:events]
    trials = sum(e.kind == "created" for e in log)
    with tempfile.TemporaryDirectory() as folder, SqliteStorage(f"{folder}/s.db") as storage:
        copy_log(log, storage)
        assert len(log) == events
        del log
        code = (
            "import sys, time, inloop; sys.modules.update(dict.fromkeys(sys.argv[2:])); cpu = time.process_time(); "
            "study = inloop.load_study('s', sys.argv[1]); used = time.process_time() - cpu; "
            "print(used, len(study.trials), study._log.history.events)"
        )
        readers: dict[str, list[str]] = {"msgspec": [], "json": ["msgspec"]}  # and what cannot be imported
        used: dict[str, list[float]] = {reader: [] for reader in readers}
        for _ in range(3):
            for reader, missing in readers.items():
                said = subprocess.check_output([sys.executable, "-c", code, storage.path, *missing], text=True).split()
                assert [int(n) for n in said[1:]] == [trials, events]
                used[reader].append(float(said[0]))
        size = os.path.getsize(storage.path)
    cpu = {f"cpu_s_{reader}": round(statistics.median(of), 3) for reader, of in used.items()}
    say(f"replay of {events} events ({trials} trials), seconds of CPU: {cpu}; {size / events:.0f} bytes an event")
    return {"events": events, "trials": trials, **cpu, "bytes_per_event": round(size / events, 1)}


def size_part(cycles: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s.db"
        with SqliteStorage(path) as storage:
            copy_log(log_of(1), storage)
        command = [sys.executable, __file__, "--worker", "inloop sqlite", path, str(cycles)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, **pipes) for _ in range(4)]
        for w in workers:
            w.stdin.write("go\n")
            w.stdin.flush()
        largest = {"file": 0, "journal": 0}
        while any(w.poll() is None for w in workers):
            for name, end in (("file", ""), ("journal", "-wal")):
                if os.path.exists(path + end):
                    largest[name] = max(largest[name], os.path.getsize(path + end))
            time.sleep(0.01)
        with SqliteStorage(path) as storage:
            events = len(storage.read("s", 0))
        found = {"events": events, "file_bytes": os.path.getsize(path), "largest_journal_bytes": largest["journal"]}
    say(f"four writers, {events} events: file {found['file_bytes']} bytes, journal at most {largest['journal']} bytes")
    return found


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--server", action="append", default=[], help="URL of a database server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker[0], given.worker[1], int(given.worker[2]))
        return
    import optuna

    found = {
        "versions": {"inloop": inloop.__version__, "optuna": optuna.__version__, "sqlite": sqlite3.sqlite_version},
        "python": sys.version.split()[0],
        "cycles": cycles_part(given.server, [0, 1000] if given.quick else [0, 1000, 10_000], given.rounds),
        "replay": replay_part(100_000 if given.quick else 1_000_000),
        "size": size_part(1000),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "storage.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
