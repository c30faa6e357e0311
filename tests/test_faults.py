"""Real faults: killed writers, torn files, full disks, lost connections, servers that go and come back."""

import collections
import contextlib
import fcntl
import gc
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import inloop
import pytest
from inloop import StudyNotFound, TrialState
from inloop.events import Event
from inloop.history import History
from inloop.pruners import NopPruner
from inloop.reporter import reporter
from inloop.samplers import RandomSampler
from inloop.storage import ClientStorage, MemoryStorage, Server, SqliteStorage, StorageError, open_storage, sqlite

FORK = multiprocessing.get_context("fork")


def header(name="s"):
    return [Event("maker", 0, "study", -1, {"name": name})]


def report(worker, seq, size=0):
    return Event(worker, seq, "report", 0, [0, seq, 0.5, "x" * size])


def finished(worker, seq):
    return Event(worker, seq, "finished", 0, ["COMPLETE", 0.5, 0.0])


def ran(work, *args):
    """Run in a forked child and return its exit code."""
    process = FORK.Process(target=work, args=args)
    process.start()
    process.join(120)
    return process.exitcode


# Killed writers


def write_until_killed(path, worker, acknowledge):
    storage = SqliteStorage(path)
    for seq in range(1_000_000):
        events = [report(worker, 2 * seq, size=seq % 7 * 1500), report(worker, 2 * seq + 1)]
        storage.append("s", [finished(worker, 2 * seq), events[1]] if seq % 9 == 8 else events)
        os.write(acknowledge, b".")


def kill_one(path, worker, after, pause):
    """Let a process write, kill it some time after its acknowledgement number ``after``; return how many it gave."""
    read, write = os.pipe()
    process = FORK.Process(target=write_until_killed, args=(path, worker, write))
    process.start()
    os.close(write)
    given = 0
    while given < after:
        more = os.read(read, after - given)
        assert more, "it ended by itself"
        given += len(more)
    until = time.perf_counter() + pause
    while time.perf_counter() < until:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while more := os.read(read, 4096):
        given += len(more)
    os.close(read)
    assert process.exitcode == -signal.SIGKILL
    return given


@pytest.mark.slow
@pytest.mark.parametrize("journal_stays", [True, False])
def test_killed_writers_lose_nothing_acknowledged(tmp_path, journal_stays):
    path = tmp_path / "study.db"
    SqliteStorage(path).create("s", header())
    rng = random.Random(0)
    keeper = SqliteStorage(path)  # while it is open the write-ahead log is not tidied away
    position = 1
    for kill in range(120):
        if journal_stays:
            keeper.names()
        given = kill_one(path, f"w{kill}", rng.randrange(1, 25), rng.random() * 1e-3)
        with SqliteStorage(path) as reader:
            events = reader.read("s", position)
        seqs = [e.seq for e in events]
        assert {e.worker for e in events} == {f"w{kill}"}
        assert seqs == list(range(len(seqs)))  # in order, once, nothing between
        assert len(seqs) in (2 * given, 2 * given + 2)  # all that was acknowledged; the last may be one more
        position += len(seqs)
        assert len(keeper.read("s", 0)) == position or not journal_stays
    assert keeper.check() == []
    keeper.close()


STEPS = [("fcntl", 40), ("pwrite64", 40), ("fdatasync", 8), ("ftruncate", 3), ("unlink", 2), ("openat", 0)]


@pytest.mark.slow
@pytest.mark.parametrize(("call", "steps"), STEPS[:4], ids=[c for c, _ in STEPS[:4]])
def test_a_writer_killed_at_any_step_loses_nothing_acknowledged(tmp_path, call, steps):
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    script = textwrap.dedent("""
        import sys
        from inloop.events import Event
        from inloop.storage import SqliteStorage
        with SqliteStorage(sys.argv[1]) as storage:
            storage.create("s", [Event("maker", 0, "study", -1, {})])
            for seq in range(6):
                kind = "finished" if seq % 3 == 2 else "report"
                storage.append("s", [Event("w", seq, kind, 0, None)])
                print(seq, flush=True)
            storage._connection.shorten()
            print("shortened", flush=True)
    """)
    for step in range(1, steps + 1):
        path = tmp_path / f"{step}.db"
        traced = ["strace", "-f", "-o", os.devnull, "-e", f"trace={call}", "-P", path, "-P", f"{path}-wal"]
        traced += ["-P", f"{path}-shm", "-e", f"inject={call}:signal=KILL:when={step}"]
        out = subprocess.run([*traced, sys.executable, "-c", script, str(path)], capture_output=True, text=True)
        if "ptrace" in out.stderr and "not permitted" in out.stderr:
            pytest.skip("strace may not trace here")
        given = out.stdout.split()
        with SqliteStorage(path) as storage:
            if given:
                seqs = [e.seq for e in storage.read("s", 1)]
                assert seqs[: len(given)] == list(range(min(len(given), 6))), (call, step)
                assert len(seqs) - min(len(given), 6) in (0, 1)
            storage.create("t", header("t"))
            storage.append("t", [report("w", 0)])
            assert storage.check() == []
        if out.returncode == 0:
            break  # there were fewer steps than that
    assert step > 3 or call in ("ftruncate",)


# What the disk has when append returns


FLUSHES = {"finished": [1, 0, 0, 1, 0], "always": [1, 1, 1, 1, 1], "never": [0, 0, 0, 0, 0]}


@pytest.mark.slow
@pytest.mark.parametrize("durability", FLUSHES)
def test_the_disk_has_what_durability_says(tmp_path, durability):
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    script = textwrap.dedent("""
        import os, sys
        from inloop.events import Event
        from inloop.storage import SqliteStorage
        storage = SqliteStorage(sys.argv[1], durability=sys.argv[2])
        storage.names()
        storage.create("a", [Event("m", 0, "study", -1, {})])
        os.write(1, b"step")
        for seq, kind in enumerate(["report", "report", "finished", "report"]):
            storage.append("a", [Event("w", seq, "report", 0, None), Event("v", seq, kind, 0, None)])
            os.write(1, b"step")
        os._exit(0)
    """)
    command = ["strace", "-y", "-e", "trace=fdatasync,fsync,write", sys.executable, "-c", script]
    out = subprocess.run([*command, str(tmp_path / "s.db"), durability], capture_output=True, text=True)
    if "not permitted" in out.stderr:
        pytest.skip("strace may not trace here")
    steps = out.stderr.split('"step"')[:-1]
    made = steps[0].rsplit("s.db-wal", 2)
    assert [int("sync(" in s and "s.db-wal" in s) for s in steps[1:]] == FLUSHES[durability][1:]
    assert ("fdatasync(" in made[-1] or len(made) > 1) or durability == "never"


# Torn files


def torn(tmp_path, original, which, size):
    """A copy of the files of which one is cut off at ``size``, with a reader that has read the whole before."""
    folder = tmp_path / f"{which}{size}"
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{original}{suffix}", f"{folder}/s.db{suffix}")
    live = SqliteStorage(folder / "s.db", timeout=1)
    whole = live.read("s", 0)
    os.truncate(folder / f"s.db{which}", size)
    return folder / "s.db", live, whole


@pytest.mark.slow
@pytest.mark.parametrize("which", ["", "-wal"], ids=["file", "journal"])
def test_of_a_torn_file_a_reader_gets_a_part_from_the_start_or_an_error(tmp_path, which):
    original = tmp_path / "s.db"
    storage = SqliteStorage(original)
    storage.create("s", header())
    for i in range(400):
        storage.append("s", [report(f"worker{i % 3}", i, size=i % 5 * 100)])
    storage._connection.shorten()
    for i in range(400, 600):
        storage.append("s", [report(f"worker{i % 3}", i, size=i % 5 * 100)])
    end = os.stat(f"{original}{which}").st_size
    rng = random.Random(1)
    sizes = {0, 1, 31, 32, 99, 100, 4095, 4096, 8192, end - 1, end - 4096} | {rng.randrange(end) for _ in range(50)}
    outcomes = collections.Counter()
    for size in sorted(sizes):
        path, live, whole = torn(tmp_path, original, which, size)
        assert len(whole) == 601
        for reader, since in ((live, 600), (live, 300), (live, 0), (SqliteStorage(path, timeout=1), 0)):
            try:
                events = reader.read("s", since)
            except (StorageError, StudyNotFound) as error:
                outcomes["error" if str(path) in str(error) else "error that names no file"] += 1
                continue
            assert events == whole[since : since + len(events)]
            outcomes["whole" if since + len(events) == 601 else "part"] += 1
            reader.close()
        shutil.rmtree(path.parent)
    storage.close()
    assert outcomes.keys() <= {"whole", "part", "error"}
    assert which or outcomes["error"] > 20


def test_bytes_that_are_overwritten_are_noticed_or_do_not_matter(tmp_path):
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.create("s", header())
        storage.append("s", [report("w", i) for i in range(2000)])
    content = (tmp_path / "s.db").read_bytes()
    at = content.index(b'["w",1500,')
    (tmp_path / "s.db").write_bytes(content[:at] + b"\0" * 30 + content[at + 30 :])
    with SqliteStorage(tmp_path / "s.db") as storage:
        assert len(storage.read("s", 0, 1500)) == 1500
        with pytest.raises(StorageError, match="damaged after event"):
            storage.read("s", 0)


# Forks


def write_and_leave(storage, worker, how):
    storage.append("s", [report(worker, i) for i in range(5)])
    storage.read("s", 0)
    if how == "close":
        storage.close()
    if how == "_exit":
        os._exit(0)
    sys.exit(0)


@pytest.mark.parametrize("how", ["exit", "_exit", "close"])
@pytest.mark.parametrize("where", ["sqlite", "served", "postgresql", "mariadb"])
def test_an_open_handle_can_be_forked(tmp_path, request, where, how):
    with contextlib.ExitStack() as stack:
        if where == "sqlite":
            storage = SqliteStorage(tmp_path / "s.db")
        elif where == "served":
            server = stack.enter_context(Server(SqliteStorage(tmp_path / "s.db")))
            storage = ClientStorage(server.address, server.authkey)
        else:
            storage = empty(request.getfixturevalue(where).url)
        stack.enter_context(storage)
        storage.create("s", header())
        for k in range(4):
            storage.append("s", [report("parent", 2 * k)])
            assert ran(write_and_leave, storage, f"child{k}", how) == 0
            storage.append("s", [report("parent", 2 * k + 1)])
        events = storage.read("s", 1)
        assert [(e.worker, e.seq) for e in events if e.worker != "parent"] == [
            (f"child{k}", i) for k in range(4) for i in range(5)
        ]
        assert [e.seq for e in events if e.worker == "parent"] == list(range(8))


def empty(url):
    storage = open_storage(url)
    for name in storage.names():
        storage.delete(name)
    return storage


# Many processes, one study


def search(storage, k, gate):
    study = inloop.load_study("many", storage, sampler=RandomSampler(), pruner=NopPruner())
    gate.wait()

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.report(x, 0)
        assert not trial.should_prune()
        trial.set_user_attr("process", k)
        return x

    study.optimize(objective, n_trials=100)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sqlite", "postgresql", "mariadb"])
def test_sixteen_processes_share_a_study(tmp_path, request, where):
    url = str(tmp_path / "s.db") if where == "sqlite" else request.getfixturevalue(where).url
    storage = empty(url)
    inloop.create_study(storage=storage, study_name="many", seed=5)
    gate = FORK.Barrier(16)
    processes = [FORK.Process(target=search, args=(url, k, gate)) for k in range(16)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 16
    trials = inloop.load_study("many", storage).trials
    assert [t.number for t in trials] == list(range(1600))
    assert all(t.state is TrialState.COMPLETE and t.curve == {0: t.value} for t in trials)
    assert all(t.params["x"] == t.value for t in trials)
    assert len({t.value for t in trials}) == 1600
    assert all(sum(t.user_attrs["process"] == k for t in trials) == 100 for k in range(16))
    storage.close()


def big_writer(path, k, gate):
    with SqliteStorage(path, durability="never") as storage:
        gate.wait()
        seen = 0
        for i in range(500):
            storage.append("s", [report(f"w{k}", i, size=40_000)])
            seen += len(storage.read("s", seen))


@pytest.mark.slow
def test_the_journal_stays_short_under_four_writers(tmp_path):
    path = tmp_path / "s.db"
    SqliteStorage(path).create("s", header())
    gate = FORK.Barrier(4)
    writers = [FORK.Process(target=big_writer, args=(path, k, gate)) for k in range(4)]
    for w in writers:
        w.start()
    longest = 0
    while any(w.is_alive() for w in writers):
        with contextlib.suppress(FileNotFoundError):
            longest = max(longest, os.stat(f"{path}-wal").st_size)
        time.sleep(0.005)
    assert [w.exitcode for w in writers] == [0] * 4
    assert os.stat(path).st_size < 1.2 * 2000 * 40_000
    assert longest < 64 << 20


# Full disks


def fill_until_full(storage):
    """Append until it fails; return how many events were acknowledged, and the error."""
    for i in range(100_000):
        try:
            storage.append("s", [report("w", 2 * i, size=2000), finished("w", 2 * i + 1)])
        except StorageError as error:
            return 2 * i, str(error)
    raise AssertionError("it was never full")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_says_so_and_loses_nothing_told(small_disk):
    storage = SqliteStorage(small_disk / "s.db")
    storage.create("s", header())
    given, error = fill_until_full(storage)
    assert given > 100
    assert "full" in error
    assert "nothing of this was written" in error
    for reader in (storage, SqliteStorage(small_disk / "s.db")):
        assert [e.seq for e in reader.read("s", 1)] == list(range(given))
    subprocess.run(["mount", "-o", "remount,size=4M", small_disk], check=True)
    for reader in (storage, SqliteStorage(small_disk / "s.db")):
        reader.append("s", [report(f"later{id(reader)}", 0)])
        assert len(reader.read("s", given + 1)) > 0
        reader.close()


def test_a_study_on_a_full_disk_keeps_what_was_told(small_disk):
    study = inloop.create_study(storage=str(small_disk / "s.db"), study_name="s", seed=0, sampler=RandomSampler())
    told = []

    def objective(trial):
        trial.set_user_attr("weight", "x" * 3000)
        return trial.suggest_float("x", 0, 1)

    with pytest.raises(StorageError, match="full"):
        study.optimize(objective, callbacks=[lambda _, t: told.append(t.value)])
    study = inloop.load_study("s", str(small_disk / "s.db"))
    assert [t.value for t in study.trials if t.state is TrialState.COMPLETE] == told
    assert len(told) > 20


def write_under_quota(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    storage = SqliteStorage(path)
    given, error = fill_until_full(storage)
    assert str(path) in error
    assert [e.seq for e in storage.read("s", 1)] == list(range(given))
    assert given > 20


def test_a_quota_says_so_and_loses_nothing_told(tmp_path):
    SqliteStorage(tmp_path / "s.db").create("s", header())
    assert ran(write_under_quota, tmp_path / "s.db") == 0
    with SqliteStorage(tmp_path / "s.db") as storage:
        n = len(storage.read("s", 1))
        assert n > 20
        assert storage.append("s", [report("w", n)]) == n + 1


# Connections that break


class Line:
    """A TCP line to a server that can be cut at the worst moment.

    Attributes:
        cuts: How often it was cut.
    """

    def __init__(self, address):
        self.cuts = 0
        self._kind = None
        self._left = 0
        self._swallow = False
        self._to = address
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, kind, after=0):
        """Cut the line when ``after`` more messages have passed: before a ``"request"`` or before its ``"reply"``."""
        self._left, self._kind = after, kind

    def _accept(self):
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            threading.Thread(target=self._requests, args=(near, far), daemon=True).start()
            threading.Thread(target=self._replies, args=(far, near), daemon=True).start()

    def _requests(self, near, far):
        with contextlib.suppress(OSError):
            while data := near.recv(1 << 16):
                if self._kind and self._left == 0:
                    if self._kind == "request":
                        break
                    self._swallow = True
                self._left -= 1
                far.sendall(data)
        self._end(near, far, self._kind == "request" and self._left == 0)

    def _replies(self, far, near):
        with contextlib.suppress(OSError):
            while (data := far.recv(1 << 16)) and not self._swallow:
                near.sendall(data)
        self._end(near, far, self._swallow)

    def _end(self, near, far, cut):
        if cut:
            self._kind, self._swallow = None, False
            self.cuts += 1
        for end in (near, far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextlib.contextmanager
def over_a_line(where, tmp_path, request):
    """A storage reached over a `Line`, and the line."""
    with contextlib.ExitStack() as stack:
        if where == "served":
            server = stack.enter_context(Server(SqliteStorage(tmp_path / "s.db")))
            line = Line(server.address)
            storage = ClientStorage(line.address, server.authkey)
        else:
            url = request.getfixturevalue(where).url
            empty(url).close()
            port = int(url.rpartition(":")[2].partition("/")[0])
            line = Line(("127.0.0.1", port))
            storage = open_storage(url.replace(str(port), str(line.address[1])))
        stack.callback(line.close)
        yield stack.enter_context(storage), line


@pytest.mark.parametrize("kind", ["request", "reply"])
@pytest.mark.parametrize("where", ["served", "postgresql", "mariadb"])
def test_an_append_whose_connection_breaks_is_made_once(tmp_path, request, where, kind):
    messages = 4 if where == "mariadb" else 1  # of one append, the commit the last
    with over_a_line(where, tmp_path, request) as (storage, line):
        assert storage.names() == []
        line.arm(kind)
        storage.create("s", header())
        for seq in range(24):
            line.arm(kind if seq % 2 else None, after=seq // 2 % messages)
            at = storage.append("s", [finished("w", 2 * seq), report("w", 2 * seq + 1)])
            assert at in (2 * seq + 1, -1)
            line.arm(kind if seq % 3 == 0 else None)
            assert [e.seq for e in storage.read("s", 2 * seq + 1)] == [2 * seq, 2 * seq + 1]
        line.arm(kind)
        assert storage.names() == ["s"]
        assert line.cuts == 1 + 12 + 8 + 1
        assert [e.seq for e in storage.read("s", 1)] == list(range(48))
        line.arm(kind)
        storage.delete("s")
        assert storage.names() == []


@pytest.mark.parametrize("kind", ["request", "reply"])
@pytest.mark.parametrize("where", ["served", "postgresql", "mariadb"])
def test_a_trial_is_started_and_ended_once_over_connections_that_break(tmp_path, request, where, kind):
    with over_a_line(where, tmp_path, request) as (storage, line):
        study = inloop.create_study(storage=storage, study_name="s", space={"x": inloop.Float(0, 1)}, sampler="random")
        for n in range(24):
            line.arm(kind if n % 2 else None, after=n // 2 % 6)
            trial = study.ask()
            line.arm(kind if n % 3 else None, after=n // 2 % 6)
            assert study.tell(trial, float(n)).value == n
        line.arm(None)
        assert [t.value for t in study.trials] == list(range(24))
        assert line.cuts > 8


def test_an_open_transaction_of_postgresql_hides_no_event(postgresql):
    """One that took its position early and commits late is read before what came after it."""
    psycopg = pytest.importorskip("psycopg")
    with empty(postgresql.url) as storage, psycopg.connect(postgresql.url) as late:
        storage.create("s", header())
        (head,) = late.execute("UPDATE inloop_study SET head = head + 1 RETURNING head").fetchone()
        late.execute(
            "INSERT INTO inloop_event SELECT id, head - 1, 'late', 0, '[\"late\",0,\"x\",-1,null]' FROM inloop_study"
        )
        assert head == 2
        writer = threading.Thread(target=lambda: storage.append("s", [report("w", 0)]))
        writer.start()
        seen = []
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            seen += storage.read("s", 1 + len(seen))
        assert seen == []  # neither the open one nor, before it, the one that waits for it
        late.commit()
        writer.join(30)
        seen += storage.read("s", 1 + len(seen))
        assert [e.worker for e in seen] == ["late", "w"]


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
@pytest.mark.parametrize("since", [0, 2, 3])
def test_an_event_that_shows_after_those_behind_it_is_waited_for(request, where, since):
    with empty(request.getfixturevalue(where).url) as storage:
        storage.create("s", header())
        storage.append("s", [report("w", i) for i in range(5)])
        with storage._engine.connect() as c:
            row = c.exec_driver_sql(
                "SELECT study, position, worker, seq, line FROM inloop_event WHERE position = 3"
            ).one()
            c.exec_driver_sql("DELETE FROM inloop_event WHERE position = 3")

            def show():
                time.sleep(0.1)
                put = "INSERT INTO inloop_event (study, position, worker, seq, line) VALUES (%s, %s, %s, %s, %s)"
                c.exec_driver_sql(put, tuple(row))

            late = threading.Thread(target=show)
            late.start()
            assert [e.seq for e in storage.read("s", since)][-3:] == [2, 3, 4]
            late.join()
            c.exec_driver_sql("DELETE FROM inloop_event WHERE position = 3")
            with pytest.raises(StorageError, match="lost"):
                storage.read("s", since)
        storage.delete("s")
        start = time.monotonic()
        with pytest.raises(StudyNotFound):
            storage.read("s", 2)
        assert time.monotonic() - start < 1


def stop_in_transaction(url):
    """Take the lock of a study as an append does, and stop."""
    storage = open_storage(url)
    storage.names()
    with storage._engine.connect() as c:
        c.exec_driver_sql("START TRANSACTION")
        c.exec_driver_sql("UPDATE inloop_study SET head = head + 1")
        os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_a_worker_that_stops_in_an_append_keeps_the_others_waiting_for_seconds(request, where):
    url = request.getfixturevalue(where).url
    with empty(url) as storage:
        storage.create("s", header())
        storage.close()
        stopped = FORK.Process(target=stop_in_transaction, args=(url,))
        stopped.start()
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
        start = time.monotonic()
        assert storage.append("s", [report("w", 0)]) == 1
        assert 1 < time.monotonic() - start < 30
        assert [e.worker for e in storage.read("s", 1)] == ["w"]
        stopped.kill()
        stopped.join()


# Servers that go and come back


def run_a_study(storage, n, pause):
    study = inloop.create_study(storage=storage, study_name="s", seed=0, sampler=RandomSampler(), pruner=NopPruner())
    told = []

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(5):
            trial.report(x, step)
            assert not trial.should_prune()
        time.sleep(pause)
        return x

    study.optimize(objective, n_trials=n, callbacks=[lambda _, t: told.append(t.value)])
    assert len(told) == n
    trials = inloop.load_study("s", storage).trials
    assert [t.value for t in trials] == told
    assert all(list(t.curve) == [0, 1, 2, 3, 4] for t in trials)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["INT", "KILL"])
@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_a_study_goes_on_over_restarts_of_its_database(request, where, how):
    database = request.getfixturevalue(where)
    with empty(database.url) as storage:
        failed = []

        def work():
            try:
                run_a_study(storage, 150, 0.03)
            except BaseException as error:
                failed.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(2):
            time.sleep(1)
            database.stop(how if where == "postgresql" or how == "KILL" else "TERM")
            database.start()
        worker.join(120)
        assert not failed, failed
        assert not worker.is_alive()


def serve_for_ever(path, port, key):
    server = Server(SqliteStorage(path), port=port, authkey=key)
    assert server.address
    time.sleep(1000)


@pytest.mark.slow
def test_a_study_goes_on_over_kills_of_its_server(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    key = b"a key of the test"
    with ClientStorage(("127.0.0.1", port), key) as client:
        worker = threading.Thread(target=run_a_study, args=(client, 200, 0.01))
        worker.start()
        while worker.is_alive():
            server = FORK.Process(target=serve_for_ever, args=(tmp_path / "s.db", port, key))
            server.start()
            time.sleep(0.7)
            server.kill()
            server.join()
            if not worker.is_alive():
                break
    with SqliteStorage(tmp_path / "s.db") as storage:
        trials = inloop.load_study("s", storage).trials
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 200
        assert storage.check() == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs a list of the open files")
def test_a_study_that_nobody_closes_leaves_no_file_open(tmp_path):
    def still_open():
        gc.collect()
        return [link for fd in os.listdir("/proc/self/fd") if str(tmp_path) in (link := _link(fd))]

    for _ in range(5):
        study = inloop.create_study(storage=str(tmp_path / "s.db"), sampler=RandomSampler(), seed=0)
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    assert still_open()
    del study
    deadline = time.monotonic() + 30
    while still_open():
        assert time.monotonic() < deadline, still_open()
        time.sleep(0.1)


def _link(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # the list's own
        return ""


def look_and_write(path, trials):
    """Use a study from another process, which is the last to close the file as far as it can see."""
    code = f"""
        import inloop
        study = inloop.load_study("s", {str(path)!r})
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials={trials})
        print(len(study.trials))
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    return int(said.stdout)


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="this system has no locks of open file descriptions")
@pytest.mark.parametrize("durability", ["finished", "never"])
def test_a_process_may_read_the_file_it_has_open(tmp_path, durability):
    """To close it drops all locks of the process: others must not take it for unused."""
    path = tmp_path / "s.db"
    study = inloop.create_study(storage=SqliteStorage(path, durability), study_name="s", sampler=RandomSampler())

    def objective(trial):
        return trial.suggest_float("x", 0, 1)

    for known in (5, 20, 35):
        study.optimize(objective, n_trials=5)
        for file in tmp_path.iterdir():  # its companions, too
            file.read_bytes()
        assert look_and_write(path, 10) == known + 10
    study.optimize(objective, n_trials=5)
    study._log.storage.close()
    assert SqliteStorage(path).check() == []
    assert len(inloop.load_study("s", path).trials) == 50


@pytest.mark.parametrize("who", ["an open study", "children that have ended"])
def test_a_copy_of_the_file_alone_has_all_that_was_searched(tmp_path, who):
    def search():
        study = inloop.create_study(storage=tmp_path / "s.db", study_name="s", sampler="random", load_if_exists=True)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=20)
        return study

    study = search() if who == "an open study" else ran(search)
    shutil.copy(tmp_path / "s.db", tmp_path / "copy.db")
    assert len(inloop.load_study("s", tmp_path / "copy.db").trials) == 20
    del study


@pytest.mark.parametrize("exists", [True, False])
def test_a_file_may_be_a_link(tmp_path, exists):
    (tmp_path / "data").mkdir()
    if exists:
        inloop.create_study(storage=tmp_path / "data" / "real.db", study_name="other")
    (tmp_path / "s.db").symlink_to(tmp_path / "data" / "real.db")
    study = inloop.create_study(storage=tmp_path / "s.db", study_name="s", sampler="random")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert len(inloop.load_study("s", tmp_path / "data" / "real.db").trials) == 3
    assert [p.name for p in tmp_path.iterdir() if p.is_file() and not p.is_symlink()] == []


def test_a_connection_of_the_users_keeps_its_locks(tmp_path):
    """It may be in a transaction when a study in the same file is closed."""
    path = tmp_path / "s.db"
    storage = SqliteStorage(path)
    study = inloop.create_study(storage=storage, study_name="s", sampler="random")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("CREATE TABLE mine (a)")
        own.execute("BEGIN IMMEDIATE")
        own.execute("INSERT INTO mine VALUES (1)")
        storage.close()
        code = f"""
            import inloop
            from inloop.storage import SqliteStorage
            inloop.load_study("s", SqliteStorage({str(path)!r}, timeout=0.5)).ask()
        """
        other = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
        own.execute("COMMIT")
    assert "database is locked" in other.stderr


@pytest.mark.parametrize("work", ["create", "optimize"])
def test_a_process_may_fork_while_another_thread_is_in_sqlite(tmp_path, work):
    study = inloop.create_study(storage=SqliteStorage(tmp_path / "s.db", timeout=5), study_name="s", sampler="random")
    other = inloop.create_study(storage=study._log.storage, study_name="other", sampler="random")
    over = threading.Event()

    def busy():
        while not over.is_set():
            if work == "create":
                inloop.create_study(storage=study._log.storage, sampler="random")
            else:
                other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        codes = [ran(lambda: study.tell(study.ask(), 1.0)) for _ in range(25)]
    finally:
        over.set()
        thread.join()
    assert codes == [0] * 25
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 25


def test_a_reader_who_stays_keeps_no_writer_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_JOURNAL", 1 << 16)
    monkeypatch.setattr(sqlite, "_LOOK", 1 << 16)
    storage = SqliteStorage(tmp_path / "s.db", timeout=30)
    storage.create("s", [*header(), *(report("maker", seq) for seq in range(1, 9))])
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as reader:
        cursor = reader.execute("SELECT * FROM event")
        cursor.fetchone()
        start = time.monotonic()
        for seq in range(40):
            storage.append("s", [report("w", seq, size=20_000)])
        assert time.monotonic() - start < 20  # not even once the 30 s for other writers
    assert len(storage.read("s", 0)) == 49


def test_two_studies_in_one_file_know_nothing_of_each_other(tmp_path):
    path = str(tmp_path / "s.db")
    studies = [inloop.create_study(storage=path, study_name=n, seed=0, sampler=RandomSampler()) for n in "ab"]
    for n in range(10):
        studies[0].optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
        studies[1].optimize(lambda t: t.suggest_int("y", 0, 9), n_trials=1 + n % 2)
    assert inloop.get_all_study_names(path) == ["a", "b"]
    assert [len(inloop.load_study(n, path).trials) for n in "ab"] == [10, 15]
    assert {k for t in inloop.load_study("b", path).trials for k in t.params} == {"y"}
    inloop.delete_study("a", path)
    assert len(inloop.load_study("b", path).trials) == 15


def test_what_is_told_at_exit_is_kept(tmp_path):
    path = str(tmp_path / "s.db")
    code = """
        import atexit, sys, inloop
        atexit.register(lambda: study.tell(trial, 1.0))
        study = inloop.create_study(storage=sys.argv[1], study_name="s", sampler="random", seed=0)
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
        trial = study.ask()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=True)
    assert inloop.load_study("s", path).trials[1].value == 1.0


# Interrupts


def interrupted_at(n, work, *given, by=signal.SIGINT):
    """Do ``work`` with a signal, Ctrl-C's, at the n-th moment at which Python would look for one here.

    Return whether it came.

    Python looks when it enters a function and when it comes back from one that is written in C.
    """
    left = n

    def look(frame, event, arg):
        nonlocal left
        if event in ("call", "c_return") and frame.f_globals["__name__"].startswith("inloop."):
            left -= 1
            if left == 0:
                signal.raise_signal(by)

    sys.setprofile(look)
    try:
        work(*given)
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return left <= 0


@pytest.mark.parametrize(
    "work",
    [
        lambda storage, n: storage.create(f"s{n}", header(f"s{n}")),
        lambda storage, n: storage.delete("s"),
        lambda storage, n: storage.append("s", [report("a", 2 * n)]),
        lambda storage, n: storage.append("s", [report("a", 2 * n), report("a", 2 * n + 1)]),
        lambda storage, n: storage.append("s", [*header(), report("a", n)]),  # one is a repeat
        lambda storage, n: storage.append_next("s", report("a", n), 2),
        lambda storage, n: storage.exchange("s", [report("a", n)], 1),
        lambda storage, n: storage.read("s", 0),
        lambda storage, n: storage.names(),
    ],
)
@pytest.mark.parametrize("where", ["memory", "sqlite"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where garbage is collected
def test_a_ctrl_c_in_a_storage_leaves_it_open_to_all(tmp_path, where, work):
    path = tmp_path / "s.db"
    storage = SqliteStorage(path) if where == "sqlite" else MemoryStorage()
    others = SqliteStorage(path, timeout=0.1) if where == "sqlite" else storage
    came, n = True, 0
    while came:
        n += 1
        if "s" not in others.names():
            others.create("s", header())
            others.append("s", [report(f"b{n}", 0)])
        came = interrupted_at(n, work, storage, n)
        others.create(f"others{n}", header(f"others{n}"))
        storage.append(f"others{n}", [report("b", 0)])
        assert len(others.read(f"others{n}", 0)) == 2
    assert n > 1


def told(history):
    curves = [{s: (c.steps, c.values, c.bests) for s, c in t.curves.items()} for t in history.trials]
    trials = [(t.number, t.state, t.value, t.params, c) for t, c in zip(history.trials, curves, strict=True)]
    return trials, history.states, history.told, list(history.running), history.fullest, history.events


def by_hand(trial, stream):
    return lambda value, step: trial.report(value, step, stream) or trial.should_prune()


def run_trials(study, other, reporter=reporter):
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        if other is not None:  # another worker writes in between
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # whose handler would wait for this
            other.set_user_attr("n", trial.number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        report = reporter(trial, 0)
        for step in range(3):
            if report(x, step):
                break
        return x

    study.optimize(objective, n_trials=2)


def ask_for_some(study, other):
    return study.ask_batch(2, {"x": inloop.Float(0, 1)})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", [run_trials, ask_for_some])
@pytest.mark.parametrize("where", ["memory", "sqlite", "two on sqlite"])
def test_a_ctrl_c_at_any_moment_leaves_nothing_half_done(tmp_path, where, work):
    path = str(tmp_path / "s.db")
    storage = MemoryStorage() if where == "memory" else SqliteStorage(path)
    settings = {"storage": storage, "sampler": "random", "pruner": "median"}
    came, n = True, 1
    while came:
        study = inloop.create_study(study_name=f"s{n}", seed=n, **settings)
        other = inloop.load_study(f"s{n}", path) if where == "two on sqlite" else None
        came = interrupted_at(n, work, study, other)
        if came or work is run_trials:
            assert not [t for t in study.trials if t.state is TrialState.RUNNING], n
        fresh = History()
        fresh.apply(storage.read(f"s{n}", 0))
        assert told(study.history) == told(fresh), n
        if where != "memory":
            with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as writer:
                writer.execute("BEGIN IMMEDIATE")  # nobody keeps the file
        study.tell(study.ask(), 1.0)
        if other is not None:
            other._log.storage.close()
        n += 1 if where == "memory" else 11


def look(study, written):
    assert len(study.trials) <= 2
    assert repr(study)


def write(study, written):
    try:
        study.set_user_attr(str(len(written)), 0)
    except RuntimeError as error:
        if "set a flag" not in str(error):
            raise
    else:
        written.append(str(len(written)))


def stop(study, written):
    study.stop()


@pytest.mark.parametrize(
    ("where", "act", "way"),
    [
        ("memory", look, by_hand),
        ("memory", look, reporter),
        ("sqlite", look, by_hand),
        ("two on sqlite", look, by_hand),
        ("memory", write, by_hand),
        ("memory", write, reporter),
        ("sqlite", write, by_hand),
        ("sqlite", stop, by_hand),
    ],
)
def test_a_signal_handler_at_any_moment_spoils_nothing(tmp_path, where, act, way):
    path = str(tmp_path / "s.db")
    storage = MemoryStorage() if where == "memory" else SqliteStorage(path)
    settings = {"storage": storage, "sampler": "random", "pruner": "nop"}
    before = signal.signal(signal.SIGUSR1, lambda *_: act(study, written))
    came, n = True, 1
    try:
        while came:
            study = inloop.create_study(study_name=f"s{n}", seed=n, **settings)
            other = inloop.load_study(f"s{n}", path) if where == "two on sqlite" else None
            written = []
            came = interrupted_at(n, run_trials, study, other, way, by=signal.SIGUSR1)
            fresh = History()
            fresh.apply(storage.read(f"s{n}", 0))
            assert told(study.history) == told(fresh), n
            assert {*written} == {*study.user_attrs} - {"n"}, n
            assert [(t.state, t.reports) for t in study.trials] in ([(TrialState.COMPLETE, 3)] * k for k in range(3)), n
            if other is not None:
                other._log.storage.close()
            n += 1 if where == "memory" else 7
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_sampler_that_fails_in_a_batch_leaves_no_trial_running():
    class Fails(RandomSampler):
        def ask(self, space, history, number, rng):
            return super().ask(space, history, number, rng) if number < 3 else 1 / 0

    study = inloop.create_study(sampler=Fails(), space={"x": inloop.Float(0, 1)}, seed=0)
    with pytest.raises(ZeroDivisionError):
        study.ask_batch(5)
    assert [t.state for t in study.trials] == 4 * [TrialState.FAILED]
