"""Servers and workers on one Postgres and one folder, each a process as a person would start it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.postgres import Postgres
from tests.support.preloaded import DROPMILL
from tests.support.server import Server, clean_environment
from tests.support.waiting import PATIENCE_S, wait_until

LEASE_S = 1.0
SCRIPT = """
import os, pathlib, time

def process(file, results):
    print(f"attempt {file.attempt} in {os.getpid()}", flush=True)
    gate = pathlib.Path(GATES) / file.name
    while gate.exists():  # held by the test
        time.sleep(0.02)
    (results / "size.txt").write_text(str(file.size))
    return {"size": file.size, "sha256": file.sha256}
"""


class Worker:
    """A `dropmill worker`."""

    def __init__(self, folder: Path, flags: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Prepare; `start` starts."""
        self.folder = folder
        self._flags = flags
        self._environment = clean_environment(environment)
        self._said = folder / "said.txt"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    def start(self) -> "Worker":
        """Start it; returns when it works."""
        begun = len(self.said())
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [*DROPMILL, "worker", "--data", str(self.folder / "data"), *self._flags],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        wait_until(lambda: self.process.poll() is not None or "Dropmill is working." in self.said()[begun:])
        assert self.process.poll() is None, self.said()
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Its process."""
        assert self._process is not None, "not started"
        return self._process

    def said(self) -> str:
        """What it wrote on the terminal."""
        return self._said.read_text(errors="replace") if self._said.exists() else ""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """End what is left of it."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


class Cluster:
    """Servers and workers with one ledger and one folder.

    Attributes:
        shared: the folder.
        gates: while a file's name is in this folder, its attempt waits.
    """

    def __init__(self, folder: Path, postgres: Postgres, lease_s: float = LEASE_S) -> None:
        """Make a database and the folders."""
        self.folder = folder
        self.shared = folder / "shared"
        self.gates = folder / "gates"
        self.postgres = postgres
        self._environment = {
            "DROPMILL_DATABASE_URL": postgres.url(postgres.make_database()),
            "DROPMILL_BLOBS": str(self.shared),
            "DROPMILL_LEASE": str(lease_s),
            "DROPMILL_EXECUTOR": "ledger",
            "PYTHONPATH": str(folder),
        }
        self.servers: list[Server] = []
        self.workers: list[Worker] = []
        for made in (self.shared, self.gates):
            made.mkdir()
        (folder / "of_cluster.py").write_text(SCRIPT.replace("GATES", repr(str(self.gates))))

    def server(self, *flags: str) -> Server:
        """One more server, started."""
        folder = self.folder / f"server{len(self.servers)}"
        server = Server(folder, *flags, environment=self._environment, is_fresh=True)
        self.servers.append(server)
        return server.start()

    def worker(self, *flags: str) -> Worker:
        """One more worker, started."""
        folder = self.folder / f"worker{len(self.workers)}"
        own = ("--processor", "of_cluster:process", *flags)
        worker = Worker(folder, own, self._environment)
        self.workers.append(worker)
        return worker.start()

    @contextlib.contextmanager
    def held(self, *names: str) -> Iterator[None]:
        """Have the attempts of these files wait inside the context."""
        for name in names:
            (self.gates / name).touch()
        yield
        for name in names:
            (self.gates / name).unlink(missing_ok=True)

    def end(self) -> None:
        """End all of them."""
        for path in self.gates.iterdir():
            path.unlink()
        ended: list[Worker | Server] = [*self.workers, *self.servers]
        for each in ended:
            if each._process is not None:
                with contextlib.suppress(OSError):
                    os.kill(each.process.pid, signal.SIGCONT)
            each.end()
