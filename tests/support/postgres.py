"""A Postgres server of the tests' own, from Debian's packages, on a free port of loopback."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from tests.support.missing import missing

PROGRAMS = "/usr/lib/postgresql/15/bin"
USER = "postgres"  # root may not run a server; Debian's package has made this one
PATIENCE_S = 60.0  # for what takes a second on an idle machine
STARTS_MAX = 5  # somebody else may take the port between our looking and the server's


class Postgres:
    """One server. `start` begins it, `end` leaves nothing behind."""

    def __init__(self, *, is_durable: bool = False) -> None:
        """Make a cluster. What is written survives a crash only if it `is_durable`."""
        program = shutil.which("initdb", path=PROGRAMS)
        if program is None:
            missing("Postgres is not installed; run: apt-get install -y postgresql-15 (or: make test-setup)")
        self._is_durable = is_durable
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(8)
        self._port = 0
        self._folder = Path(tempfile.mkdtemp(prefix="dropmill-postgres-"))  # where its user can come in, too
        self._data = self._folder / "data"
        self._become = ["setpriv", "--pdeathsig", "INT"]
        password = self._folder / "password"
        password.write_text(self._password)
        if os.getuid() == 0:
            self._become += ["--reuid", USER, "--regid", USER, "--init-groups"]
            for path in (self._folder, password):
                shutil.chown(path, USER, USER)
        words = ["--username=dropmill", f"--pwfile={password}", "--auth=password", "--encoding=UTF8"]
        words += ["--locale=C.UTF-8", "--no-sync", "--no-instructions", f"--pgdata={self._data}"]
        made = subprocess.run([*self._become, program, *words], cwd=self._folder, capture_output=True, check=False)
        if made.returncode:
            raise AssertionError(made.stderr.decode())

    def start(self) -> "Postgres":
        """Serve; again after `kill`, on the same port."""
        deadline = time.monotonic() + PATIENCE_S
        for _ in range(STARTS_MAX):
            if self._start(deadline):
                return self
        raise AssertionError(self.log)

    def _start(self, deadline: float) -> bool:
        port = self._port
        if not port:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                port = found.getsockname()[1]
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "on" if self._is_durable else "off",
            "full_page_writes": "on" if self._is_durable else "off",
            "shared_buffers": "32MB",
            "max_connections": "50",
            "autovacuum": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._become, f"{PROGRAMS}/postgres", "-D", str(self._data), *words],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self._conninfo("postgres", port)).close()
                self._port = port
                return True
            time.sleep(0.05)
        self.kill()
        return False

    @property
    def log(self) -> str:
        """What it said."""
        return (self._folder / "log").read_text(errors="replace")

    def _conninfo(self, database: str, port: int) -> str:
        return f"host=127.0.0.1 port={port} dbname={database} user=dropmill password={self._password}"

    def conninfo(self, database: str) -> str:
        """How to reach one of its databases."""
        return self._conninfo(database, self._port)

    def url(self, database: str) -> str:
        """The same as a URL."""
        return f"postgresql://dropmill:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def pause(self) -> None:
        """Stop all its processes, as a host does that swaps: connections stay, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(number)  # first: it must not start further ones meanwhile
        for child in _children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def make_database(self) -> str:
        """Make an empty database; returns its name."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def kill(self) -> None:
        """End all its processes at once, as a crash does."""
        process, self._process = self._process, None
        if process is None:
            return
        children = _children(process.pid)
        process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        """End it and remove what it wrote."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextlib.contextmanager
def running(*, is_durable: bool = False) -> Iterator[Postgres]:
    """A server that serves."""
    server = Postgres(is_durable=is_durable)
    try:
        yield server.start()
    finally:
        server.end()
