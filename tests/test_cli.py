"""The command ``inloop``."""

import csv
import io
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading

import inloop
import pytest
from inloop.cli import main
from inloop.events import Event, from_json, to_json
from inloop.samplers import RandomSampler
from inloop.storage import SqliteStorage, open_storage


@pytest.fixture
def path(tmp_path):
    """A file with two studies; one has a trial of each state but LOST."""
    path = str(tmp_path / "study.db")
    study = inloop.create_study(storage=path, study_name="a", seed=0, sampler=RandomSampler())

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("c", ["u", len])
        trial.report(x, 0)
        trial.set_user_attr("no\nte", "é\n\x1b[31m")
        if trial.number == 1:
            raise inloop.TrialPruned
        if trial.number == 2:
            trial.report(math.inf, 1)
            return math.nan
        return x

    with pytest.warns(UserWarning, match="NaN"):
        study.optimize(objective, n_trials=4)
    study.ask()
    inloop.create_study(storage=path, study_name="b", direction="maximize")
    return path


@pytest.fixture
def said(capsys):
    """Runs the command and returns its exit code, what it wrote and its complaints."""

    def run(*arguments):
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


def test_studies_and_best(path, said):
    code, out, _ = said("studies", path, "--format", "json")
    assert code == 0
    a, b = json.loads(out)
    best = inloop.load_study("a", path).best_trial
    counts = {"running": 1, "complete": 2, "pruned": 1, "failed": 1, "lost": 0}
    assert a == {"study": "a", "direction": "minimize", "trials": 5, **counts, "best": best.value}
    assert (b["study"], b["direction"], b["trials"], b["best"]) == ("b", "maximize", 0, None)
    (row,) = json.loads(said("best", path, "a", "--format", "json")[1])
    assert (row["number"], row["value"], row["params"]["x"]) == (best.number, best.value, best.params["x"])
    assert said("best", path, "b")[::2] == (1, "inloop: study 'b' has no complete trial yet.\n")


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_trials_in_every_format(path, said, form):
    code, out, _ = said("trials", path, "a", "--format", form)
    assert code == 0
    states = ["COMPLETE", "PRUNED", "FAILED", "COMPLETE", "RUNNING"]
    if form == "json":
        rows = json.loads(out, parse_constant=pytest.fail)  # strict JSON
        assert rows[2]["value"] == "nan"
        assert rows[0]["user_attrs"] == {"no\nte": "é\n\x1b[31m"}
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert float(rows[0]["params_x"]) == inloop.load_study("a", path).trials[0].params["x"]
        assert rows[0]["user_attrs_no\nte"] == "é\n\x1b[31m"
    else:
        head, *lines = out.splitlines()
        assert len({line.index(s) for line, s in zip(lines, states, strict=True)}) == 1
        rows = [dict(zip(head.split(), line.split(), strict=False)) for line in lines]
        assert "\x1b" not in out
    assert [r["state"] for r in rows] == states
    assert [int(r["number"]) for r in rows] == list(range(5))


def test_export_is_the_log(path, said, tmp_path):
    code, out, _ = said("export", path, "a")
    events = SqliteStorage(path).read("a", 0)
    assert code == 0
    assert [repr(from_json(line)) for line in out.splitlines()] == [repr(e) for e in events]
    assert said("export", path, "a", "--output", tmp_path / "log")[1] == ""
    assert (tmp_path / "log").read_text() == out


def test_delete_asks_first(path, said):
    assert said("delete", path, "b")[::2] == (1, "inloop: delete: nobody is there to ask; say --yes.\n")
    assert said("delete", path, "b", "--yes")[0] == 0
    assert inloop.get_all_study_names(path) == ["a"]
    assert said("trials", path)[0] == 0  # the only one need not be named
    assert "No study named 'b'" in said("delete", path, "b", "--yes")[2]


def test_what_is_not_there_is_named(path, said, tmp_path):
    assert said("trials", tmp_path / "typo.db")[::2] == (1, f"inloop: there is no file {tmp_path}/typo.db.\n")
    assert not (tmp_path / "typo.db").exists()
    assert said("trials", path)[2] == "inloop: say which study: ['a', 'b'].\n"
    assert "No study named 'c'" in said("trials", path, "c")[2]
    assert "is not known" in said("studies", "redis://x")[2]


HEADS = {
    "studies": "study,direction,trials,running,complete,pruned,failed,lost,best",
    "trials": "number,state,value,reports,started,seconds,completed",
}


@pytest.mark.parametrize("command", HEADS)
def test_nothing_has_a_header_too(tmp_path, said, command):
    inloop.create_study(storage=tmp_path / "s.db", study_name="a")
    if command == "studies":
        inloop.delete_study("a", tmp_path / "s.db")
    head = HEADS[command]
    for form, out in {"csv": head, "table": head.replace(",", "  "), "json": "[]"}.items():
        assert said(command, tmp_path / "s.db", "--format", form) == (0, f"{out}\n", "")


READING = ["studies", "best", "trials", "export", "check"]


@pytest.mark.parametrize("address", ["{}", "sqlite:///{}"], ids=["path", "URL"])
@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize(
    ("bytes_there", "why"),
    [
        (None, "there is no file {}."),
        (b"", "{} is empty, no database of inloop."),
        (b"text\n", "not a database of inloop"),
    ],
    ids=["missing", "empty", "text"],
)
def test_reading_what_is_no_database_says_so_and_leaves_it(tmp_path, said, command, bytes_there, why, address):
    path = tmp_path / "s.db"
    if bytes_there is not None:
        path.write_bytes(bytes_there)
    code, out, err = said(command, address.format(path))
    assert code == 1
    assert why.format(path) in out + err
    assert "inloop check" not in out + err
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if bytes_there is None else [bytes_there])


@pytest.mark.parametrize("name", ["missing study", "the storage itself"])
def test_export_writes_over_nothing_that_it_should_not(path, said, tmp_path, name):
    old = tmp_path / "old"
    old.write_text("kept")
    study, output = ("c", old) if name == "missing study" else ("a", path)
    code, _, err = said("export", path, study, "--output", output)
    assert (code, old.read_text()) == (1, "kept")
    assert "No study named 'c'" in err or "is the storage itself" in err
    assert inloop.get_all_study_names(path) == ["a", "b"]


@pytest.mark.parametrize("line", ["garbage", '["w",1,"report",99,[0,0,0.5]]'], ids=["unreadable", "senseless"])
def test_a_damaged_study_is_named_and_can_be_deleted(path, said, line):
    SqliteStorage(path).append("a", [Event("w", 0, "beat", -1, None)])
    with sqlite3.connect(path) as file:
        file.execute("UPDATE event SET line = ? WHERE id = (SELECT max(id) FROM event WHERE id < ?)", (line, 2 << 40))
    file.close()
    code, _, err = said("studies", path)
    assert code == 1
    assert "damaged after event" in err or "study 'a' makes no sense" in err
    assert said("delete", path, "a", "--yes")[0] == 0
    assert inloop.get_all_study_names(path) == ["b"]


@pytest.mark.parametrize("command", ["studies", "trials", "trials --format csv", "trials --format json", "check"])
def test_an_ascii_terminal_gets_what_it_can_show(tmp_path, command):
    study = inloop.create_study(storage=tmp_path / "s.db", study_name="ä")
    trial = study.ask()
    trial.set_user_attr("né", "漢\ud800")
    study.tell(trial, math.inf)
    for given, code in (([], 0), (["ö"], 1 if command != "studies" else 2)):
        done = subprocess.run(
            [sys.executable, "-m", "inloop.cli", *command.split(), str(tmp_path / "s.db"), *given],
            env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            capture_output=True,
        )
        assert done.returncode == code, done.stderr
        assert (done.stdout + done.stderr).isascii()
        assert b"Traceback" not in done.stderr


def test_check_counts_what_is_there(path, said):
    storage = SqliteStorage(path)
    study = inloop.load_study("a", path)
    running = next(iter(study.history.running))
    storage.append("a", [Event("w", 1, "finished", running, ["LOST", None, 0.0]), Event("w", 2, "hologram", 0, {})])
    code, out, _ = said("check", path)
    assert (code, out.splitlines()[-1]) == (0, "no problems")
    n = len(storage.read("a", 0))
    assert f"study 'a': {n} events of 3 workers, 0 bad lines" in out
    assert "  lost: [4]\n" in out
    assert "does not know: {'hologram': 1}" in out


def test_check_finds_bad_lines_and_goes_on_after_them(path, said):
    storage = SqliteStorage(path)
    n = len(storage.read("a", 0))
    storage.close()
    with sqlite3.connect(path) as file:
        first = 1 << 40
        file.execute("UPDATE event SET line = 'garbage' WHERE id = ?", (first + 12,))
        file.execute("UPDATE event SET line = ? WHERE id = ?", ('["w",1,"report",99,[0,0,0.5]]', first + 14))
        file.execute("DELETE FROM event WHERE id = ?", (first + n - 2,))
    file.close()
    code, out, _ = said("check", path, "a")
    assert code == 1
    assert "garbage" in out
    assert "event 14 makes no sense" in out
    assert "has been lost" in out
    assert out.count("PROBLEM") >= 3


def test_check_of_a_torn_file_says_so(path, said):
    SqliteStorage(path).delete("b")  # brings the file itself up to date
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 3)
    code, out, err = said("check", path)
    assert code == 1
    assert "PROBLEM" in out or "inloop:" in err


CLOSED = [  # arguments, standard streams that are closed, exit code, complaint
    (["delete", "a"], "0", 1, "inloop: delete: nobody is there to ask; say --yes.\n"),
    (["delete", "a"], "01", 1, "inloop: delete: nobody is there to ask; say --yes.\n"),
    (["delete", "a", "--yes"], "012", 0, ""),
    (["best", "a"], "1", 0, ""),
    (["best", "a"], "012", 0, ""),
    (["best", "c"], "12", 1, ""),
    (["check"], "1", 0, ""),
]


@pytest.mark.parametrize(("arguments", "closed", "code", "complaint"), CLOSED)
def test_standard_streams_may_be_closed(path, arguments, closed, code, complaint):
    script = 'exec "$0" -m inloop.cli "$@" ' + " ".join(f"{n}>&-" for n in closed)
    command = ["sh", "-c", script, sys.executable, arguments[0], path, *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, complaint)


@pytest.mark.parametrize("port", ["70000", "-1", "65536", "x"])
def test_ports_that_there_are_not_are_refused(path, said, capsys, port):
    with pytest.raises(SystemExit, match="2"):
        said("serve", path, "--authkey-file", "key", f"--port={port}")
    assert f"argument --port: must be a number from 0 to 65535, got '{port}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("storage", "key", "options", "why"),
    [
        ("none/s.db", "key", [], "there is no folder {}/none"),
        ("s.db", "none/key", [], "there is no folder {}/none"),
        ("text", "key", [], "not a database of inloop"),
        ("s.db", "text", [], "at least 8 bytes, got 4"),
        ("s.db", "key", ["--host", "192.0.2.1"], "cannot listen at 192.0.2.1, port 0"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(tmp_path, said, storage, key, options, why):
    (tmp_path / "text").write_text("text")
    code, out, err = said("serve", tmp_path / storage, "--authkey-file", tmp_path / key, *options)
    assert (code, out) == (1, "")
    assert why.format(tmp_path) in err


def test_serve_gives_workers_a_url(path, tmp_path):
    key = tmp_path / "a key+1&2"
    command = [sys.executable, "-m", "inloop.cli", "serve", path, "--authkey-file", str(key)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        url = line.rpartition(" at ")[2].strip()
        assert os.stat(key).st_mode & 0o777 == 0o600
        assert inloop.get_all_study_names(url) == ["a", "b"]
        study = inloop.load_study("b", url, sampler=RandomSampler())
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=3)
        key.write_text("another key than that")
        with pytest.raises(PermissionError, match="another authkey"):
            open_storage(url).names()
        late = threading.Timer(30, process.kill)
        late.start()
        assert any("does not know the key" in line for line in iter(process.stderr.readline, ""))  # it may come later
        late.cancel()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(inloop.load_study("b", path).trials) == 3


def test_serve_shows_no_password(postgresql, tmp_path):
    url = postgresql.url.replace("tester@", "tester:s3cret@")
    command = [sys.executable, "-m", "inloop.cli", "serve", url, "--authkey-file", str(tmp_path / "key")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    said = line + process.communicate(timeout=30)[0]
    assert "tester:***@" in line
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("address", "setting"),
    [
        ("postgresql://127.0.0.1:1/db", "password"),
        ("postgresql://127.0.0.1:1/db", "sslpassword"),
        ("postgresql://127.0.0.1:1/db", "pwd"),
        ("mysql://127.0.0.1:1/db", "password"),
        ("mysql://127.0.0.1:1/db", "ssl_key_password"),
        ("postgres+x://127.0.0.1/db", "PassWd"),
    ],
)
def test_passwords_in_the_options_of_a_url_are_not_shown(said, address, setting):
    code, out, err = said("studies", f"{address}?{setting}=s3cret&user=u")
    assert (code, out) == (1, "")
    assert f"?{setting}=***&user=u" in err
    assert "s3cret" not in err


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "postgresql+nodrv://u:s3cret@127.0.0.1:1/db",
            r"nodrv://u:\*\*\*@\S+ names a driver that SQLAlchemy does not know",
        ),
        ("mysql://u:s3cret@127.0.0.1:1/db?foo=1", r"foo=1 has a setting that its driver does not take: .*'foo'"),
        ("mysql://u:s3cret@127.0.0.1:1/db?connect_timeout=x", "connect_timeout=x has a setting that its driver"),
        ("mysql://u:s3cret@127.0.0.1:1/db?charset=x", "charset=x has a setting that its driver"),
        ("postgresql://u:s3cret@127.0.0.1:1/db?foo=1", r'foo=1: invalid connection option "foo"'),
        ("postgresql://u:s3cret@127.0.0.1:1x/db", "starts with postgresql:// must be like postgresql://user"),
        ("postgresql://u:s3cret/db", "starts with postgresql:// must be like postgresql://user"),
        ("mysql://u:12@s3cret@127.0.0.1:1/db", "with %40 for an @ in the password"),
    ],
)
def test_urls_that_make_no_sense_are_refused_in_words(said, url, why):
    code, out, err = said("studies", url)
    assert (code, out) == (1, "")
    assert re.search(why, err)
    assert "s3cret" not in err


def test_check_goes_on_after_events_that_make_no_sense(path, said):
    storage = SqliteStorage(path)
    events = [Event("w", 0, "finished", 4, ["COMPLEXE", 1.0, 0.0]), Event("w", 1, "report", 99, [0, 0, 0.5])]
    at = storage.append("a", events)
    storage.append("a", [Event("w", 2, "finished", 4, ["LOST", None, 0.0])])
    code, out, _ = said("check", path)
    assert (code, out.count("PROBLEM")) == (1, 2)
    assert "  lost: [4]\n" in out
    assert f"study 'a': event {at} makes no sense: {to_json(events[0])} (KeyError('COMPLEXE'))" in out
    assert f"study 'a': event {at + 1} makes no sense: {to_json(events[1])} (IndexError" in out
    assert f"event {at} is" in said("trials", path, "a")[2]
