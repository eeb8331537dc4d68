"""Looks at a server from outside while it is hurt: whether it answers, and which processes it has."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from tests.support.server import Server
from tests.support.waiting import PATIENCE_S


class Pulse:
    """Asks a server for `/healthz` all the time, on its own connection; every answer must be one, and a good one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.count = 0
        self.problem: str | None = None

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=PATIENCE_S, trust_env=False) as client:
            is_over = False
            while not is_over and self.problem is None:
                is_over = self._stop.wait(0.05)  # once more after the end, so that it was asked in any case
                try:
                    answer = client.get("/healthz")
                except httpx.HTTPError as error:
                    self.problem = repr(error)
                    return
                if answer.status_code != 200:
                    self.problem = answer.text
                self.count += 1

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive()
        assert self.problem is None
        assert self.count > 0


def zombies(server: Server) -> list[int]:
    """Dead children that the server, or a process below it, has not taken note of."""
    parents: dict[int, tuple[int, bytes]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(fields[1]), fields[0])
    below = {server.process.pid}
    while more := {pid for pid, (parent, _) in parents.items() if parent in below} - below:
        below |= more
    return [pid for pid in below if parents.get(pid, (0, b""))[1] == b"Z"]


def stays_true(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something is true within a time, and not only for a moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            time.sleep(0.05)
            if holds():
                return True
        time.sleep(0.05)
    return False


def slots_of(server: Server) -> list[int]:
    """The warm processes below the server."""
    found = []
    for path in Path(f"/proc/{server.process.pid}/task").glob("*/children"):
        for pid in path.read_text().split():
            try:
                if b"\0dropmill.slot\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
            except OSError:
                continue
    return found
