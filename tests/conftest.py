"""Database servers for the tests: real ones, started on free ports of this machine and thrown away afterwards.

They leave what they write to the operating system, which is faster than waiting for the disk and loses nothing
when a server is killed, only when the power is cut.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")  # before any test imports Keras
# Threads of fits this small wait for each other: where something else keeps a core busy, for minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def sigterm_ends_a_process():
    """Ray leaves a handler behind that raises; what is raised right after a fork is lost, and the child lives on."""
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def found(*patterns):
    for pattern in patterns:
        paths = sorted(glob.glob(pattern)) or [p for p in [shutil.which(pattern)] if p]
        if paths:
            return paths[-1]
    return None


def as_user(name):
    """What to put before a command that refuses to run as root."""
    if os.getuid() != 0:
        return []
    try:
        pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"needs the user {name!r}, as this runs as root and the server refuses to")
    return ["runuser", "-u", name, "--"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Database:
    """A database server that the tests can stop and start.

    Attributes:
        url: Where it is reached.
    """

    def __init__(self, url, command, ready):
        self.url = url
        self._command = command
        self._ready = ready
        self._process = None

    def start(self):
        self._process = None
        deadline = time.monotonic() + 60
        while self._process is None or subprocess.run(self._ready, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, f"{self._command} is not ready after 60 s"
            # a new one ends at once while children of one that was killed still hold its memory
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.1)

    def stop(self, signal="TERM"):
        """Stop it; TERM is PostgreSQL's wait for sessions to end, INT breaks them off, KILL is a crash."""
        pid = self._process.pid
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
        for p in [*children, str(pid)] if "runuser" in self._command else [str(pid)]:
            subprocess.run(["kill", f"-{signal}", p], capture_output=True)
        self._process.wait(60)


@contextlib.contextmanager
def folder_of(user):
    """A short-named folder of that user's, for data and socket."""
    folder = tempfile.mkdtemp(prefix="inloop-", dir="/tmp")
    if user:
        shutil.chown(folder, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def interrupts():
    """Ctrl-C as in a terminal: a shell has its background jobs, and their children, ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server."""
    initdb = found("/usr/lib/postgresql/*/bin/initdb", "initdb")
    if initdb is None:
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs pip install 'inloop[postgresql]'")
    bin_, user, port = os.path.dirname(initdb), as_user("postgres"), free_port()
    with folder_of("postgres" if user else None) as folder:
        subprocess.run(
            [*user, initdb, "-D", f"{folder}/data", "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            check=True,
            capture_output=True,
            cwd="/",
        )
        command = [*user, f"{bin_}/postgres", "-D", f"{folder}/data", "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        database = Database(
            f"postgresql://tester@127.0.0.1:{port}/postgres",
            [*command, "-c", "max_connections=200", "-c", "shared_buffers=32MB", "-c", "fsync=off"],
            [f"{bin_}/pg_isready", "-h", "127.0.0.1", "-p", str(port), "-U", "tester", "-d", "postgres"],
        )
        database.start()
        yield database
        database.stop("INT")


@pytest.fixture(scope="session")
def mariadb():
    """A MariaDB server."""
    install, server = found("mariadb-install-db"), found("mariadbd", "/usr/sbin/mariadbd")
    if install is None or server is None:
        pytest.skip("needs a MariaDB server: apt-get install mariadb-server")
    pytest.importorskip("pymysql", reason="needs pip install 'inloop[mysql]'")
    user, port = as_user("mysql"), free_port()
    with folder_of("mysql" if user else None) as folder:
        data = [f"--datadir={folder}/data", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M"]
        data += ["--innodb-flush-log-at-trx-commit=2"]
        subprocess.run(
            [*user, install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", *data],
            check=True,
            capture_output=True,
            cwd="/",
        )
        address = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", f"--pid-file={folder}/pid"]
        admin = [found("mariadb-admin", "mysqladmin"), "--no-defaults", "-uroot", "-h127.0.0.1", f"-P{port}"]
        database = Database(
            f"mariadb://root@127.0.0.1:{port}/tests",
            [*user, server, "--no-defaults", *data, *address, "--max-connections=300", "--skip-name-resolve"],
            [*admin, "ping"],
        )
        database.start()
        subprocess.run([*admin, "create", "tests"], check=True, capture_output=True)
        yield database
        database.stop()
