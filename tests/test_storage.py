"""Laws of storages: one table of them, one set of laws; then what each has of its own."""

import contextlib
import gc
import json
import math
import multiprocessing
import os
import pickle
import random
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import inloop
import pytest
from inloop import StudyExists, StudyNotFound
from inloop.events import Event, from_json, to_json
from inloop.storage import ClientStorage, MemoryStorage, Server, SqliteStorage, Storage, StorageError, open_storage
from inloop.storage.sqlite import network_file_system

FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")


def memory(tmp_path, request):
    storage = MemoryStorage()
    yield lambda: storage


def sqlite(tmp_path, request):
    yield lambda: SqliteStorage(tmp_path / "study.db")


def served_memory(tmp_path, request):
    with Server(MemoryStorage()) as server:
        yield lambda: ClientStorage(server.address, server.authkey)


def served_sqlite(tmp_path, request):
    with SqliteStorage(tmp_path / "study.db") as storage, Server(storage) as server:
        yield lambda: ClientStorage(server.address, server.authkey)


def postgresql(tmp_path, request):
    yield from on_server(request.getfixturevalue("postgresql").url)


def mariadb(tmp_path, request):
    yield from on_server(request.getfixturevalue("mariadb").url)


def on_server(url):
    """An empty database, opened again and again."""
    with open_storage(url) as storage:
        for name in storage.names():
            storage.delete(name)
    yield lambda: open_storage(url)


STORAGES = {f.__name__: f for f in (memory, sqlite, served_memory, served_sqlite, postgresql, mariadb)}


@pytest.fixture(params=STORAGES)
def opened(request, tmp_path):
    """Opens the storage once more, as another process would; all that were opened are closed at the end."""
    handles = []
    for make in STORAGES[request.param](tmp_path, request):

        def open_one(make=make):
            handles.append(make())
            return handles[-1]

        yield open_one
        for handle in handles:
            handle.close()


@pytest.fixture
def storage(opened):
    return opened()


def header(name="s"):
    return [Event(f"maker{len(name)}", 0, "study", -1, {"name": name})]


def plain(events):
    """Events as JSON gives them back: tuples have become lists."""
    return [(*e[:4], json.dumps(e.data)) for e in events]


def fill(storage, worker, n, batch=1, study="s"):
    for i in range(0, n, batch):
        storage.append(study, [Event(worker, j, "report", 0, [0, j, j / 7]) for j in range(i, min(i + batch, n))])


# One set of laws for all


ODD = {
    "nan": math.nan,
    "infinities": [math.inf, -math.inf, {"deep": [math.inf]}],
    "floats": [0.1, 1e-320, -0.0, 1.7976931348623157e308],
    "integers": [0, -1, 2**63, 10**300],
    "text": ["", "é 漢 😀", 'quote " backslash \\ newline \n nul \x00', "\u2028", "\ud800"],
    "nested": {"a": [None, True, {"b": {}}], "": []},
    "tagged": [{"float": "nan!"}, {"float": 3}, {"float": "1.5"}],
    "like a tag": [
        {"float": t} for t in ("nan", "-inf", "text:nan", "text:text:inf", "text:x", ["nan"], {"float": "nan"})
    ],
    "tag in tag": {"float": {"float": math.nan}, "x": {"float": "inf"}},
    "long": "x" * 300_000,
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_data_comes_back_as_it_was(opened, data):
    one = opened()
    one.create("s", header())
    one.append("s", [Event("w", 1, "attr", -1, ["k", data]), Event("w", 2, "future kind", 10**9, data)])
    for reader in (one, opened()):
        assert plain(reader.read("s", 1)) == plain(
            [Event("w", 1, "attr", -1, ["k", data]), Event("w", 2, "future kind", 10**9, data)]
        )


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"float":"nan"}', math.nan),
        ('{"float":"-inf"}', -math.inf),
        ('{"float":{"float":"inf"}}', {"float": math.inf}),
        ('{"float":"text:x"}', {"float": "text:x"}),
        ('{"float":"nan","b":0}', {"float": "nan", "b": 0}),
    ],
)
def test_floats_of_older_logs_are_read_as_ever(text, data):
    assert repr(from_json(f'["w",1,"attr",-1,{text}]').data) == repr(data)
    assert to_json(Event("w", 1, "attr", -1, data)) == f'["w",1,"attr",-1,{text}]'


def test_append_gives_the_position_and_read_goes_on_from_any(storage):
    storage.create("s", header())
    assert storage.append("s", [Event("w", 1, "a", -1, 1)]) == 1
    assert storage.append("s", [Event("w", 2, "b", -1, 2), Event("w", 3, "c", -1, 3)]) == 2
    assert storage.append("s", []) == -1
    kinds = [e.kind for e in storage.read("s", 0)]
    assert kinds == ["study", "a", "b", "c"]
    for since in range(5):
        assert [e.kind for e in storage.read("s", since)] == kinds[since:]
        for limit in range(4):
            assert [e.kind for e in storage.read("s", since, limit)] == kinds[since : since + limit]


def test_long_logs_are_read_whole_and_in_parts(storage):
    storage.create("s", header())
    fill(storage, "w", 12_000, batch=3000)
    assert [e.seq for e in storage.read("s", 1)] == list(range(12_000))
    assert [e.seq for e in storage.read("s", 5001, 6000)] == list(range(5000, 11_000))
    for since in (1, 7000):
        at, others = storage.exchange("s", [Event("v", since, "beat", -1, None)], since)
        assert (at, others) == (12_001 + (since == 7000), [])


def test_a_repeated_append_is_passed_over(opened):
    one, two = opened(), opened()
    one.create("s", header())
    batch = [Event("w", i, "report", 0, [0, i, 0.5]) for i in range(3)]
    assert one.append("s", batch) == 1
    assert one.append("s", batch) == -1
    assert two.append("s", batch) == -1
    assert two.append("s", [Event("v", 0, "beat", -1, None)]) == 4
    assert one.append("s", [*batch[1:], Event("w", 3, "report", 0, [0, 3, 0.5])]) == -1
    assert [(e.worker, e.seq) for e in two.read("s", 1)] == [("w", 0), ("w", 1), ("w", 2), ("v", 0), ("w", 3)]


def test_writers_in_turns_find_the_end_and_their_repeats(opened):
    handles, log, rng = {"a": opened(), "b": opened()}, header(), random.Random(0)
    handles["a"].create("s", log)
    written = {"a": [], "b": []}
    for _ in range(120):
        worker = rng.choice("aaaab")
        mine = written[worker]
        if mine and rng.random() < 0.2:  # the answer to an earlier append did not arrive
            again, since = rng.choice(mine[-3:]), rng.randint(1, len(log))
            assert handles[worker].append("s", [again]) == -1
            if log.index(again) >= since:
                assert handles[worker].exchange("s", [again], since) == (-1, [])
            continue
        new = [Event(worker, len(mine) + i, "report", 0, [0, i, 0.5]) for i in range(rng.choice([1, 1, 1, 2]))]
        if len(new) == 1 and rng.random() < 0.4:  # if it has seen all
            read = rng.choice([len(log), len(log), len(log) - 1])
            assert handles[worker].append_next("s", new[0], read) == (len(log) if read == len(log) else None)
            if read < len(log):
                continue
        elif rng.random() < 0.5:
            since = rng.choice([0, 1, len(log) - 1, len(log), len(log)])
            at, rest = handles[worker].exchange("s", new, since)
            assert at == len(log)
            reads = isinstance(handles[worker], SqliteStorage) and since > 0
            assert plain(rest) == (plain(log[since:]) if reads else [])
        else:
            assert handles[worker].append("s", new) == len(log)
        mine += new
        log = log + new
    assert plain(handles["b"].read("s", 0)) == plain(log)


def test_a_uid_belongs_to_its_study(storage):
    for name in ("s", "t"):
        storage.create(name, header(name))
        assert storage.append(name, [Event("w", 7, "beat", -1, None)]) == 1
    storage.append("t", [Event("w", 8, "beat", -1, None)])
    assert len(storage.read("s", 0)) == 2
    assert len(storage.read("t", 0)) == 3


def test_studies_are_created_once_and_deleted(opened):
    one, two = opened(), opened()
    assert one.names() == []
    one.create("s", header())
    one.create("s", header())  # a repeat, as after a lost reply
    with pytest.raises(StudyExists, match="named 's' exists already"):
        two.create("s", [Event("other", 0, "study", -1, {})])
    two.create("t", header("t"))
    assert one.names() == two.names() == ["s", "t"]
    one.delete("s")
    assert two.names() == ["t"]
    for call in (
        lambda: two.read("s", 0),
        lambda: two.append("s", header()),
        lambda: two.exchange("s", [Event("w", 1, "beat", -1, None)], 1),
        lambda: one.delete("s"),
        lambda: one.read("s", 1),
    ):
        with pytest.raises(StudyNotFound, match=r"No study named 's'.*there are \['t'\]"):
            call()
    two.create("s", header())
    assert [len(s.read("s", 0)) for s in (one, two)] == [1, 1]


def test_a_study_made_again_is_not_the_one_that_was_deleted(opened):
    stray, other = opened(), opened()
    beat = Event("w", 6, "beat", -1, None)
    calls = [lambda: stray.append("s", [beat]), lambda: stray.exchange("s", [beat], 6)]
    if stray is not other:  # memory has one handle, which has made the new log
        calls += [lambda: stray.read("s", 6), lambda: stray.read("s", 10)]
    stray.create("s", header())
    fill(stray, "w", 5)
    other.delete("s")
    other.create("s", [Event("new", 0, "study", -1, {})])
    fill(other, "v", 9)
    for call in calls * 2:
        with pytest.raises(StudyNotFound, match=r"study 's'.* was deleted; what has its name now is another one"):
            call()
    with contextlib.suppress(StudyNotFound):
        assert stray.append_next("s", beat, 10) is None
    assert len(opened().read("s", 0)) == 10
    assert len(stray.read("s", 0)) == 10  # who starts anew gets the new one


def test_a_worker_of_a_deleted_study_changes_nothing_in_the_one_of_its_name(opened):
    stray, maker = opened(), opened()
    space = {"x": inloop.Float(0, 1)}
    old = inloop.create_study(storage=stray, study_name="s", space=space, sampler="random", seed=0)
    trial = old.ask()
    inloop.delete_study("s", maker)
    new = inloop.create_study(storage=maker, study_name="s", space=space, sampler="random", seed=1)
    mine = new.ask()
    for _ in range(2):
        with pytest.raises(StudyNotFound):
            old.tell(trial, -100.0)
    assert new.tell(mine, 0.5).value == 0.5
    assert [(t.number, t.params, t.value) for t in new.trials] == [(0, mine.params, 0.5)]


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 256, 3])
def test_names_that_no_storage_could_hold_are_refused(storage, name):
    with pytest.raises(ValueError, match="study_name must be"):
        storage.create(name, header())


@pytest.mark.parametrize("name", ["a b", "quote ' \" \\", "é漢😀", "%s", "x" * 255, "A", "../../etc"])
def test_names_are_kept_as_they_are(opened, name):
    opened().create(name, header(name))
    opened().create("a", header("a"))
    assert opened().names() == [name, "a"]
    assert opened().read(name, 0)[0].data == {"name": name}


def write_some(storage, worker, n, gate):
    gate.wait()
    for i in range(n):
        storage.append("s", [Event(worker, 2 * i, "report", 0, [0, i, 0.5]), Event(worker, 2 * i + 1, "x", 0, None)])
        storage.read("s", 2 * i)


@pytest.mark.parametrize("context", [FORK, pytest.param(SPAWN, marks=pytest.mark.slow)], ids=["fork", "spawn"])
def test_writing_processes_make_one_dense_order(opened, context):
    storage = opened()
    storage.create("s", header())
    n, gate = 60, context.Barrier(3)
    workers = [
        context.Process(target=write_some, args=(storage.elsewhere(), f"w{k}", n, gate), daemon=True) for k in range(3)
    ]
    for worker in workers:
        worker.start()
    seen = 1
    while any(w.is_alive() for w in workers):  # a reader goes on beside them
        seen += len(storage.read("s", seen))
    assert [w.exitcode for w in workers] == [0, 0, 0]
    events = storage.read("s", 1)
    assert seen <= len(events) + 1 == 6 * n + 1
    for k in range(3):
        assert [e.seq for e in events if e.worker == f"w{k}"] == list(range(2 * n))
    at = [i for i, e in enumerate(events) if e.seq % 2 == 0]
    assert all(events[i + 1].uid == f"{events[i].worker}-{events[i].seq + 1}" for i in at)  # batches stay whole


def create_one(storage, k, gate, made):
    gate.wait()
    try:
        storage.create("s", [Event(f"w{k}", 0, "study", -1, {})])
        made.put(k)
    except StudyExists:
        made.put(None)


def test_of_those_who_create_at_once_one_does(opened):
    storage = opened()
    gate, made = FORK.Barrier(4), FORK.Queue()
    makers = [FORK.Process(target=create_one, args=(storage.elsewhere(), k, gate, made)) for k in range(4)]
    for m in makers:
        m.start()
    outcomes = [made.get(timeout=60) for _ in makers]
    for m in makers:
        m.join()
    (winner,) = [k for k in outcomes if k is not None]
    assert [e.worker for e in storage.read("s", 0)] == [f"w{winner}"]


def test_threads_share_a_handle(storage):
    storage.create("s", header())
    threads = [threading.Thread(target=fill, args=(storage, f"w{k}", 50)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    events = storage.read("s", 1)
    assert all([e.seq for e in events if e.worker == f"w{k}"] == list(range(50)) for k in range(4))


def test_handles_travel_close_and_open_again(opened):
    storage = opened()
    storage.create("s", header())
    copy = pickle.loads(pickle.dumps(storage.elsewhere()))
    copy.append("s", [Event("w", 1, "x", -1, None)])
    storage.close()
    assert [e.kind for e in storage.read("s", 0)] == ["study", "x"]
    copy.close()
    copy.append("s", [Event("w", 2, "x", -1, None)])
    assert len(storage.read("s", 2)) == 1
    copy.close()


# The SQLite file


def test_open_storage_knows_paths_and_urls(tmp_path):
    memory = MemoryStorage()
    assert open_storage(memory) is memory
    for given in (str(tmp_path / "a.db"), tmp_path / "a.db", f"sqlite:///{tmp_path}/a.db"):
        assert open_storage(given).path == str(tmp_path / "a.db")
    assert open_storage("sqlite:///a.db").path == os.path.abspath("a.db")
    for given in ("redis://x", "://"):
        with pytest.raises(ValueError, match="is not known; give a path"):
            open_storage(given)
    bad_urls = ("localhost", "localhost:1234", ":1?authkey-file=x", "h:70000?authkey-file=x", "h:x?authkey-file=x")
    for given in (f"inloop://{rest}" for rest in bad_urls):
        with pytest.raises(ValueError, match="must be inloop://host:port"):
            open_storage(given)
    key = tmp_path / "key"
    key.write_text("  a long enough key\n")
    client = open_storage(f"inloop://localhost:1234?authkey-file={key}")
    assert (client.address, client.authkey) == (("localhost", 1234), b"a long enough key")
    key.write_text("short")
    with pytest.raises(ValueError, match="at least 8 bytes, got 5"):
        open_storage(f"inloop://localhost:1234?authkey-file={key}")
    url = "postgresql://me:secret@host/db"
    assert "secret" not in repr(open_storage(url))
    assert pickle.loads(pickle.dumps(open_storage(url)))._url.password == "secret"
    with pytest.raises(TypeError, match="must be a path"):
        open_storage(3)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("", "names no file; give a path"),
        (":memory:", "storage=None for a study in memory"),
        ("sqlite://", "storage=None for a study in memory"),
        ("sqlite:///", "names no file; give a path"),
        ("sqlite:///:memory:", "storage=None for a study in memory"),
        ("sqlite:///x.db?timeout=3", r"options.*not supported.*path alone.*SqliteStorage\(path"),
        ("sqlite://x.db", "say sqlite:///x.db"),
    ],
)
def test_addresses_that_sqlite_files_have_not_are_refused(tmp_path, monkeypatch, given, right):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=right):
        inloop.create_study(storage=given)
    assert list(tmp_path.iterdir()) == []


def without_tables(path):
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 0")
        file.execute("VACUUM")
    file.close()


@pytest.mark.parametrize("make", [lambda p: p.write_bytes(b""), without_tables], ids=["0 bytes", "no tables"])
def test_reading_makes_no_database_of_an_empty_file(tmp_path, make):
    path = tmp_path / "s.db"
    make(path)
    before = path.read_bytes()
    with SqliteStorage(path) as storage:
        assert storage.names() == []
        for call in (lambda: storage.read("s", 0), lambda: storage.delete("s"), storage.check):
            with pytest.raises(StudyNotFound, match=r"s.db, which is"):
                call()
        assert (path.read_bytes(), os.listdir(tmp_path)) == (before, ["s.db"])
        storage.create("s", header())
        assert storage.names() == ["s"]


def test_reading_makes_no_file(tmp_path):
    storage = SqliteStorage(tmp_path / "typo.db")
    with pytest.raises(StudyNotFound, match=r"typo.db, which does not exist"):
        storage.read("s", 0)
    assert storage.names() == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="there is no folder"):
        SqliteStorage(tmp_path / "none" / "s.db").create("s", header())
    with pytest.raises(ValueError, match="durability must be one of"):
        SqliteStorage(tmp_path / "s.db", durability="often")


def test_files_of_something_else_are_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE trials (id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"something else, with the tables \['trials'\]"):
        SqliteStorage(path).create("s", header())
    assert path.read_bytes() == before
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StorageError, match="not a database"):
        SqliteStorage(path).read("s", 0)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 and newer can set the limit")
def test_pages_too_long_for_one_text_are_read_by_rows(tmp_path):
    with SqliteStorage(tmp_path / "study.db") as storage:
        storage.create("s", header())
        fill(storage, "w", 100)
        storage._connection._sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2000)
        assert [e.seq for e in storage.read("s", 1)] == list(range(100))


def read_on(storage, limit):
    at = 0
    while new := storage.read("s", at, limit):
        at += len(new)
    return at


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
@pytest.mark.parametrize("gone", range(1, 11))
def test_a_lost_event_is_noticed_wherever_a_page_begins(tmp_path, gone, limit):
    path = tmp_path / "s.db"
    with SqliteStorage(path) as storage:
        storage.create("s", header())
        fill(storage, "w", 11)
    with sqlite3.connect(path) as file:
        (first,) = file.execute("SELECT min(id) FROM event").fetchone()
        file.execute("DELETE FROM event WHERE id = ?", (first + gone,))
    file.close()
    with SqliteStorage(path) as storage, pytest.raises(StorageError, match="lost"):
        read_on(storage, limit)


def test_a_newer_layout_is_refused(tmp_path):
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.create("s", header())
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("PRAGMA user_version = 2")
    file.close()
    with pytest.raises(StorageError, match="newer version of inloop"):
        SqliteStorage(tmp_path / "s.db").read("s", 0)


def test_a_writer_that_holds_the_file_for_too_long_is_named(tmp_path):
    with SqliteStorage(tmp_path / "s.db", timeout=0.2) as storage:
        storage.create("s", header())
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"locked; other processes have been writing for 0\.2 s"):
            fill(storage, "w", 1)
        assert len(storage.read("s", 0)) == 1  # readers need not wait
        other.execute("ROLLBACK")
        other.close()
        fill(storage, "w", 1)


def test_a_file_that_is_removed_under_a_writer_is_noticed_at_the_next_finish(tmp_path):
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.create("s", header())
        os.unlink(tmp_path / "s.db")
        with pytest.raises(StorageError, match=r"No such file.*survive"):
            storage.append("s", [Event("w", 0, "finished", 0, ["COMPLETE", 1.0, 0.0])])


def test_network_file_systems_are_told_by_the_table_of_mounts(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"40 22 0:5 / {tmp_path}/home rw - nfs4 server:/home rw,vers=4.2\n"
        f"41 40 0:6 / {tmp_path}/home/my\\040scratch rw shared:3 master:2 - xfs /dev/sdb rw\n"
    )
    found = {
        p: network_file_system(f"{tmp_path}/{p}", str(mounts)) for p in ("a", "home/a", "homes", "home/my scratch/a")
    }
    assert found == {"a": None, "home/a": "nfs4", "homes": None, "home/my scratch/a": None}
    assert network_file_system(str(tmp_path), str(tmp_path / "absent")) is None


# The server and its clients


def test_a_wrong_key_is_refused_logged_and_harmless(caplog):
    with (
        Server(MemoryStorage(), authkey=b"the right key") as server,
        ClientStorage(server.address, b"the right key") as c,
    ):
        c.create("s", header())
        with ClientStorage(server.address, b"the wrong key") as wrong:
            for _ in range(3):
                with pytest.raises(PermissionError, match="has another authkey"):
                    wrong.names()
        assert c.names() == ["s"]
        deadline = time.monotonic() + 10
        while sum("does not know the key" in r.getMessage() for r in caplog.records) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with pytest.raises(ValueError, match="at least 8 bytes"):
        Server(MemoryStorage(), authkey=b"short")


def raw(server):
    return socket.create_connection(server.address, timeout=30)


def frame(payload):
    return struct.pack("!i", len(payload)) + payload


GARBAGE = {
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a frame": struct.pack("!i", 100) + b"abc",
    "huge frame": struct.pack("!i", 2**31 - 1) + b"x" * 1000,
    "huger frame": struct.pack("!iQ", -1, 2**62) + b"x" * 1000,
    "negative frame": struct.pack("!i", -7),
    "wrong answer": frame(b"x" * 16),
    "random": bytes((i * 7919) % 251 for i in range(5000)),
}


@pytest.mark.parametrize("bytes_sent", GARBAGE.values(), ids=GARBAGE)
def test_garbage_hurts_nobody(bytes_sent):
    with Server(MemoryStorage()) as server, ClientStorage(server.address, server.authkey) as client:
        client.create("s", header())
        with raw(server) as peer:
            peer.sendall(bytes_sent)
            assert client.names() == ["s"]
        fill(client, "w", 3)
        assert len(client.read("s", 0)) == 4


def friend(server):
    """A connection that has shown that it knows the key."""
    from multiprocessing.connection import Client

    return Client(server.address, authkey=server.authkey)


BAD_REQUESTS = {
    "not json": b"\x80\x04N.",
    "no list": b"3",
    "unknown": b'["fly","s"]',
    "attribute": b'["__class__","s"]',
    "too few": b'["append"]',
    "no event": b'["append","s",["[1,2,3]"]]',
    "bad event": b'["append","s",["[\\"w\\",\\"one\\",\\"x\\",0,0]"]]',
    "deep": b'["append","s",["' + b"[" * 100_000 + b'"]]',
    "study": b'["read",{"a":1},0,5]',
    "since": b'["read","s","x",5]',
}


@pytest.mark.parametrize("request_sent", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_requests_that_make_no_sense_are_answered_so(request_sent):
    with Server(MemoryStorage()) as server, ClientStorage(server.address, server.authkey) as client:
        client.create("s", header())
        with friend(server) as peer:
            peer.send_bytes(request_sent)
            answer = json.loads(peer.recv_bytes())
            assert answer[:2] in (["no", "StorageError"], ["no", "StudyNotFound"])
            peer.send_bytes(b'["names",""]')
            assert json.loads(peer.recv_bytes()) == ["ok", ["s"]]
        assert len(client.read("s", 0)) == 1


def test_oversized_requests_end_the_connection_and_no_other(monkeypatch):
    with Server(MemoryStorage()) as server, ClientStorage(server.address, server.authkey) as client:
        client.create("s", header())
        with friend(server) as peer:
            peer._send(struct.pack("!i", 65 << 20))
            with pytest.raises((EOFError, OSError)):
                peer.recv_bytes()
        with pytest.raises(StorageError, match="bytes at once"):
            client.append("s", [Event("w", 0, "attr", -1, "x" * (65 << 20))])
        assert client.append("s", [Event("w", 1, "attr", -1, "x" * (1 << 20))]) == 1


def test_silent_strangers_keep_nobody_out():
    with Server(MemoryStorage()) as server:
        silent = [raw(server) for _ in range(100)]
        with ClientStorage(server.address, server.authkey) as client:
            client.create("s", header())
            assert client.names() == ["s"]
        closed = sum(map(is_closed, silent))  # the oldest had to go for the newest
        assert 1 <= closed <= 60  # how many are gone already is up to the threads
        for peer in silent:
            peer.close()


def is_closed(peer):
    peer.setblocking(False)
    try:
        while peer.recv(100):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("hurries", [False, True])
def test_a_server_that_is_gone_is_named(hurries):
    server = Server(MemoryStorage())
    client = ClientStorage(server.address, server.authkey, patience=30.0 if hurries else 0.3)
    client.create("s", header())
    server.close()
    if hurries:
        client.hurry(0.3)
    with pytest.raises(StorageError, match=rf"No answer from the server at 127.0.0.1:{server.address[1]} in 0.3 s"):
        client.names()


@pytest.mark.parametrize("met", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_a_study_in_memory_that_is_gone_is_not_found_at_once(taken, met):
    storage = MemoryStorage()
    storage.create("s", header())
    client = storage.elsewhere()
    if met:
        assert client.names() == ["s"]
    client, address, thread = pickle.loads(pickle.dumps(client)), client.address, storage._server._thread
    del storage
    gc.collect()
    thread.join(10)
    start = time.monotonic()
    said = f"No study named 's' in the memory of another process.*{address[1]}"
    other = Server(MemoryStorage(), *address) if taken else contextlib.nullcontext()
    with other, pytest.raises(StudyNotFound, match=said):
        client.read("s", 0)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(("host", "why"), [("127.0.0.1", "refused"), ("no.such.host.invalid", "")])
def test_who_never_met_the_server_does_not_wait_long_for_it(host, why):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = host, taken.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(StorageError, match=rf"No server at {host}:{address[1]} \(.*{why}.*`inloop serve`"):
        ClientStorage(address, b"a long enough key").names()
    assert time.monotonic() - start < 25  # a client that has met it waits for 30


@pytest.mark.slow
def test_a_pickled_client_has_met_the_server_and_waits_for_it():
    server = Server(MemoryStorage())
    with ClientStorage(server.address, server.authkey) as client:
        client.create("s", header())
        copy = pickle.loads(pickle.dumps(client))
    server.close()
    late = threading.Timer(4, lambda: servers.append(Server(server.storage, *server.address, server.authkey)))
    servers = []
    late.start()
    with copy:
        assert copy.names() == ["s"]
    servers[0].close()


def test_clients_wait_for_a_server_that_restarts(tmp_path):
    storage = SqliteStorage(tmp_path / "s.db")
    server = Server(storage)
    with ClientStorage(server.address, server.authkey) as client:
        client.create("s", header())
        writer = threading.Thread(target=fill, args=(client, "w", 300))
        writer.start()
        for _ in range(3):
            time.sleep(0.05)
            server.close()
            server = Server(storage, *server.address, authkey=server.authkey)
        writer.join(60)
        assert [e.seq for e in client.read("s", 1)] == list(range(300))
    server.close()
    storage.close()


class Router:
    """Hands connections on to a server, and may forget those there are: what is sent on them vanishes."""

    def __init__(self, server):
        self.entry = socket.create_server(("127.0.0.1", 0))
        self.server, self.ways, self.forgotten = server, [], set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            ends = self.entry.accept()[0], raw(self.server)
            self.ways.append(ends)
            for one, other in (ends, ends[::-1]):
                threading.Thread(target=self.hand_on, args=(one, other, ends), daemon=True).start()

    def hand_on(self, one, other, ends):
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if ends not in self.forgotten:
                    other.sendall(data)

    def forget(self):
        self.forgotten.update(self.ways)


def test_a_connection_that_a_router_has_forgotten_is_made_anew():
    with Server(MemoryStorage()) as server:
        router = Router(server)
        with ClientStorage(router.entry.getsockname(), server.authkey, patience=1.0) as client:
            client.create("s", header())
            for n in range(1, 3):
                router.forget()
                assert client.append("s", [Event("w", n, "attr", -1, "x")]) == n
            connection = client._link.open(None, None, None)
            with socket.socket(fileno=os.dup(connection.fileno())) as peer:
                assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert len(router.ways) == 3


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_clients_are_told_of_a_study_that_was_made_again_without_their_server(tmp_path, kind):
    owner = MemoryStorage() if kind == "memory" else SqliteStorage(tmp_path / "s.db")
    served = owner if kind == "memory" else SqliteStorage(tmp_path / "s.db")
    beat = Event("v", 1, "beat", -1, None)
    owner.create("s", header())
    server = Server(served)
    with ClientStorage(server.address, server.authkey) as stray, ClientStorage(server.address, server.authkey) as late:
        assert len(stray.read("s", 0)) == len(stray.read("s", 0)) == 1
        assert stray.read("s", 1) == []
        owner.delete("s")
        owner.create("s", [Event("new", 0, "study", -1, {}), Event("new", 1, "beat", -1, None)])
        for again in range(3):
            for call in (lambda: stray.append("s", [beat]), lambda: stray.read("s", 1)):
                with pytest.raises(StudyNotFound):
                    call()
            if again == 0:
                assert len(late.read("s", 0)) == 2
            else:
                server.close()
                server = Server(served, *server.address, authkey=server.authkey)
        assert late.append("s", [beat]) == 2
    server.close()
    served.close()
    owner.close()


def test_a_forked_child_does_not_keep_the_port(tmp_path):
    server = Server(MemoryStorage())
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    try:
        server.close()
        with Server(MemoryStorage(), *server.address) as again:
            assert again.address == server.address
        with pytest.raises(ConnectionRefusedError):
            raw(server)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_worker_that_was_alone_notices_who_writes_between_its_look_and_its_append(tmp_path):
    class TwoSteps(SqliteStorage):
        """Looks and writes in two steps, as with database servers."""

        append_next = Storage.append_next

        def append(self, study, events):
            while between:
                between.pop()()
            return super().append(study, events)

    between = []
    space = {"x": inloop.Float(0, 1)}
    storage = TwoSteps(tmp_path / "s.db")
    study = inloop.create_study(storage=storage, study_name="s", space=space, sampler="random", seed=0)
    other = inloop.load_study("s", SqliteStorage(storage.path), space=space, sampler="random")
    for at_end in (False, True, False):
        for _ in range(3):
            study.tell(study.ask(), 0.0)
        if not at_end:
            between.append(other.ask)
        trial = study.ask()
        if at_end:
            between.append(other.ask)
        study.tell(trial, 0.0)
        assert not between
    assert trial.number == len(study.trials) - 1 == 14
    seen = [(t.number, t.state.name, t.params) for t in study.trials]
    assert seen == [(t.number, t.state.name, t.params) for t in inloop.load_study("s", storage.path).trials]


# Database servers


@contextlib.contextmanager
def new_database(url):
    """A database of its own, without tables."""
    with open_storage(url)._engine.connect() as c:
        c.exec_driver_sql("CREATE DATABASE fresh")
        try:
            yield url.rpartition("/")[0] + "/fresh"
        finally:
            c.exec_driver_sql("DROP DATABASE fresh" + (" WITH (FORCE)" if url.startswith("postgresql") else ""))
    c.engine.dispose()


SERVERS = ["postgresql", "mariadb"]


@pytest.mark.parametrize("kind", SERVERS)
def test_who_may_make_no_tables_can_look_and_is_told_at_once(request, kind):
    url = request.getfixturevalue(kind).url
    with new_database(url) as fresh, open_storage(fresh) as owner, owner._engine.connect() as c:
        mine = f"{fresh.partition('://')[0]}://plain@{fresh.partition('@')[2]}"
        if kind == "postgresql":
            c.exec_driver_sql("CREATE ROLE plain LOGIN")
            c.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            drop, refused = "DROP OWNED BY plain; DROP ROLE plain", "permission denied for schema public"
        else:
            c.exec_driver_sql("CREATE USER plain")
            c.exec_driver_sql("GRANT SELECT ON fresh.* TO plain")
            drop, refused = "DROP USER plain", "CREATE command denied"
        with open_storage(mine) as storage:
            start = time.monotonic()
            assert storage.names() == inloop.get_all_study_names(mine) == []
            for call in (
                lambda: storage.read("s", 0),
                lambda: storage.delete("s"),
                lambda: storage.append("s", header()),
            ):
                with pytest.raises(StudyNotFound, match=r"there are \[\]"):
                    call()
            with pytest.raises(StorageError, match=refused):
                storage.create("s", header())
            assert time.monotonic() - start < 30  # for others who make them, it waits for 60
            owner.create("s", header())
            if kind == "postgresql":
                c.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain")
            assert storage.names() == ["s"]
            assert len(storage.read("s", 0)) == 1
        c.exec_driver_sql(drop)


@pytest.mark.parametrize("kind", SERVERS)
def test_those_who_make_the_tables_at_once_do_not_disturb_each_other(request, kind):
    with new_database(request.getfixturevalue(kind).url) as url:
        gate, storages = threading.Barrier(8), [open_storage(url) for _ in range(8)]

        def work(k):
            gate.wait()
            storages[k].create(f"s{k}", header())

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        for storage in storages:
            assert sorted(storage.names()) == [f"s{k}" for k in range(8)]
            storage.close()


FORKED = (
    "storage = open_storage(url); storage.read('s', 0)\n"
    "if os.fork() == 0:\n"
    "    warnings.simplefilter('ignore')  # psycopg's, of what stays the parent's\n"
)
LEAVING = {
    "functions": "inloop.get_all_study_names(url); inloop.delete_study('s', url)",
    "command": "from inloop.cli import main; main(['studies', url]); main(['delete', url, 's', '--yes'])",
    "dropped": "storage = open_storage(url); storage.read('s', 0); del storage",
    "at exit": "storage = open_storage(url); storage.read('s', 0)",
    "dropped in a fork": f"{FORKED}    del storage\n    sys.exit()\nos.wait(); storage.read('s', 0)",
    "used in a fork": f"{FORKED}    storage.read('s', 0)\n    sys.exit()\nos.wait(); storage.read('s', 0)",
}


@pytest.mark.parametrize("program", LEAVING.values(), ids=LEAVING)
@pytest.mark.parametrize("kind", SERVERS)
def test_connections_are_closed_by_whom_they_belong_to(request, kind, program):
    url = request.getfixturevalue(kind).url
    with open_storage(url) as storage:
        for name in storage.names():
            storage.delete(name)
        storage.create("s", [Event("w", 0, "study", -1, {"name": "s", "direction": "minimize", "seed": 0})])
    begin = f"import inloop, os, sys, warnings\nfrom inloop.storage import open_storage\nurl = {url!r}\n"
    command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", begin + program]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def listening():
    return {t for t in threading.enumerate() if t.name.startswith("inloop-server")}


def test_a_storage_in_memory_that_nobody_has_any_more_leaves_nothing():
    before, files = listening(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        study = inloop.create_study(sampler="random", seed=0)
        trial = pickle.loads(pickle.dumps(study.ask()))
        client = study._log.storage.elsewhere()
        assert client.names() == [study.study_name]
        study.tell(trial, 1.0)
        storage = weakref.ref(study._log.storage)
        del study, trial
        gc.collect()
        assert storage() is None
        with pytest.raises(StudyNotFound):
            client.names()
    deadline = time.monotonic() + 10
    while listening() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert listening() <= before
    assert len(os.listdir("/proc/self/fd")) <= files


# Files that only others may write


def look(path, again, answers):
    if os.getuid() == 0:  # who may write everything
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    beat = [Event("w", 99, "beat", -1, None)]
    with SqliteStorage(path) as storage:
        answers.put((storage.names(), storage.check(), len(storage.read("s", 0))))
        for call in (lambda: storage.append("s", beat), lambda: storage.create("t", beat), lambda: storage.delete("s")):
            try:
                answers.put(call())
            except StorageError as error:
                answers.put(str(error))
        again.wait(30)
        answers.put(len(storage.read("s", 1)))


def test_a_file_that_may_not_be_written_can_be_looked_at():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path, again, answers = f"{folder}/a b?.db", FORK.Event(), FORK.Queue()

        def write():
            with SqliteStorage(path) as storage:
                storage.create("s", header())
                fill(storage, "w", len(storage.read("s", 0)) + 3)

        write()
        os.chmod(path, 0o444)
        os.chmod(folder, 0o555)
        before = os.listdir(folder)
        reader = FORK.Process(target=look, args=(path, again, answers), daemon=True)
        reader.start()
        assert answers.get(timeout=30) == (["s"], [], 5)
        for _ in range(3):
            assert "readonly database; this user may not write it" in answers.get(timeout=30)
        os.chmod(folder, 0o755)
        os.chmod(path, 0o644)
        write()
        os.chmod(path, 0o444)
        os.chmod(folder, 0o555)
        again.set()
        assert answers.get(timeout=30) == 8
        reader.join()
        assert os.listdir(folder) == before
        os.chmod(folder, 0o755)


@pytest.mark.slow
def test_more_than_fits_into_one_statement_is_appended_whole(storage):
    storage.create("s", header())
    events = [Event("w", i, "attr", -1, ["k", f"{i:0100}"]) for i in range(150_000)]
    assert storage.append("s", events) == 1
    assert [e.seq for e in storage.read("s", 1)] == list(range(len(events)))
