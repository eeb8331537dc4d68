"""A config that is saved and killed over and over, and what must be in its folder and ledger afterwards."""

import collections
import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tests.support.missing import not_allowed
from tests.support.server import Server, clean_environment

Make = Callable[..., Server]

ROOT = Path(__file__).parents[3]
FIRST = b"# first\nnumber: 0\n# end\n"


def sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


class Saver:
    """The process of `saver.py`, which goes on though its forks are killed."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        """Start it; `prefix` is what its command begins with."""
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.system.faults.config_writer"],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._stdout = self._process.stdin, self._process.stdout

    def end(self) -> None:
        """End it, and its fork with it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def order(self, line: str) -> None:
        self._orders.write(f"{line}\n".encode())
        self._orders.flush()

    def hear(self) -> list[str]:
        """The words of the next line."""
        line = self._stdout.readline().decode().split()
        assert line, "the saver has ended"
        return line


class Story:
    """A folder with a config that is saved and killed over and over, and what must be in it.

    Attributes:
        saved: SHA-256 of all that must be in the history, in order.
        fell: what the kills left, counted.
        is_answered: whether a save was answered since the start.
    """

    def __init__(self, saver: Saver, folder: Path) -> None:
        self.folder = folder
        self.saved = [sha256(FIRST)]
        self.fell: collections.Counter[str] = collections.Counter()
        self.is_answered = False
        self._saver = saver
        self._begun: str | None = None  # SHA-256 of a save that was not answered
        self._number = 0
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_bytes(FIRST)

    @property
    def on_disk(self) -> str:
        return sha256((self.folder / "config.yaml").read_bytes())

    @property
    def temporaries(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if not path.name.startswith(("config.yaml", "ledger."))]

    def start(self, way: str) -> int:
        """Start what saves, and look at what it makes of what the last kill left; its process id."""
        before, self.is_answered = self.on_disk, False
        self._saver.order(f"{self.folder}\t{way}\t{self._number}")
        while (told := self._saver.hear()) == ["checked"]:
            pass
        word, pid, newest = told
        assert word == "ready"
        if self._begun is not None:
            assert newest in (self.saved[-1], self._begun)
            if newest == self._begun:
                self.saved.append(newest)
                self.fell["between commit and rename" if before != newest else "behind the rename"] += 1
            else:
                self.fell["before the commit"] += 1
            self._begun = None
        assert newest == self.saved[-1]
        assert self.on_disk == newest
        assert self.temporaries == []
        self.require_history()
        return int(pid)

    def require_history(self) -> None:
        """Every save that was answered is in the ledger, once, in order; nothing else is."""
        with closing(sqlite3.connect(f"file:{self.folder}/ledger.sqlite?mode=ro", uri=True)) as ledger:
            found = ledger.execute("SELECT sha256, number FROM config_revisions ORDER BY number").fetchall()
            in_file = ledger.execute("SELECT revision FROM config_files").fetchall()
        assert [row[0] for row in found] == self.saved
        assert in_file == [(found[-1][1],)], "the file is not recorded to hold the newest revision"

    def go(self) -> None:
        """Let it save."""
        self._saver.order("go")

    def follow(self, word: str) -> bool:
        """Read lines until this word; False if the stream ends first."""
        while True:
            told = self._saver.hear()
            match told[0]:
                case "begin":
                    self._begun = told[1]
                    self._number += 1
                case "saved":
                    self.is_answered = True
                    assert told[1] == self._begun
                    self.saved.append(told[1])
                    self._begun = None
            if told[0] in (word, "over"):
                return told[0] == word

    def look(self) -> None:
        """Look at what a kill has left; `start` looks at what is made of it."""
        assert self.on_disk in (self.saved[-1], self._begun)
        if self.temporaries:
            self.fell["with a temporary file left"] += 1


@contextlib.contextmanager
def killing(pid: int, call: str, number: int) -> Iterator[None]:
    """Kills a process when a thread of it is about to make that call for the time with that number."""
    injected = f"inject={call}:signal=KILL:when={number}"
    with subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-e", f"trace={call}", "-e", injected, "-o", "/dev/null"],
        stderr=subprocess.PIPE,
    ) as strace:
        assert strace.stderr is not None
        try:
            if b"attached" not in (said := strace.stderr.readline()):
                not_allowed(f"This machine does not let strace attach to a process: {said.decode().strip()}")
            yield
        finally:
            strace.terminate()


def put(server: Server, base: bytes, text: bytes) -> bytes:
    """The request that replaces a config."""
    head = f'PUT /api/v1/config HTTP/1.1\r\nHost: {server.host}\r\nIf-Match: "{sha256(base)}"\r\n'
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(text) + text
