"""A server as a process of its own, and what the kernel knows about it."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent
START_S = 60.0
END_S = 30.0
IDLE_S, IDLE_CPU_S = 0.2, 0.02

_URL = re.compile(rb"(?:serving|Running) on http(s?)://127\.0\.0\.1:(\d+)")
_TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """A program that serves on a port of loopback. Ends with its `with`.

    Attributes:
        folder: its own.
        port: where it serves.
        is_tls: whether it said that it serves https.
        started_s: seconds until it said so.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        executable: Path | str = sys.executable,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        has_workers: bool = False,
    ) -> None:
        """Start it and wait until it serves.

        Args:
            arguments: behind the executable's name.
            folder: takes what it prints.
            executable: what runs; a Python by default.
            port: where it will serve; None if it says so itself.
            environment: what is added to ours.
            has_workers: its memory is that of all its processes, not of the first alone.

        Raises:
            OSError: it ended, or did not say where it serves.
        """
        self.folder = folder
        self._has_workers = has_workers
        self._said = folder / "said.txt"
        ours = {name: value for name, value in os.environ.items() if not name.startswith("DROPMILL_")}
        self.is_tls = False
        self._is_asked = False
        began = time.monotonic()
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [executable, *arguments],
                cwd=ROOT,
                env={**ours, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        try:
            self.port = self._find_port(arguments) if port is None else self._wait_for(port, arguments)
            self.started_s = time.monotonic() - began
        except BaseException:
            self.end()
            raise

    def _find_port(self, arguments: Sequence[str]) -> int:
        end = time.monotonic() + START_S
        while (found := _URL.search(self._said.read_bytes())) is None:
            if self._process.poll() is not None or time.monotonic() > end:
                raise OSError(f"`{shlex.join(arguments)}` did not start; it said:\n{self._last_words()}")
            time.sleep(0.02)
        self.is_tls = bool(found[1])
        return int(found[2])

    def _wait_for(self, port: int, arguments: Sequence[str]) -> int:
        end = time.monotonic() + START_S
        while True:
            with socket.socket() as knocking:
                if knocking.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            if self._process.poll() is not None or time.monotonic() > end:
                raise OSError(f"`{shlex.join(arguments)}` did not start; it said:\n{self._last_words()}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self.end()
        if error_type is not None and (said := self._last_words()):
            print(f"A server that was being measured said at last:\n{said}", file=sys.stderr)

    def _last_words(self) -> str:
        return self._said.read_text(errors="replace").strip()[-2000:]

    def ask_to_end(self) -> None:
        """Ask it to end, once, and do not wait for it."""
        if not self._is_asked:
            self._is_asked = True
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Ask it to end, and end it if it does not."""
        self.ask_to_end()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # --- what it costs -----------------------------------------------------------------------------------------------

    def cpu_s(self) -> float:
        """CPU seconds of the server's own process so far, all its threads."""
        return sum(_cpu_s(self._process.pid)[:2])

    def children_cpu_s(self) -> float:
        """CPU seconds of all it started, also of what has ended and was waited for.

        An attempt counts once its slot has reaped it; slots live as long as the server.
        """
        pid = self._process.pid
        return sum(_cpu_s(pid)[2:]) + sum(sum(_cpu_s(one)) for one in _descendants(pid))

    def server_cpu_s(self) -> float:
        """CPU seconds of the processes that serve: all of them if it has workers, else the first, without attempts."""
        return self.all_cpu_s() if self._has_workers else self.cpu_s()

    def all_cpu_s(self) -> float:
        """CPU seconds of the server and of all it started."""
        return self.cpu_s() + self.children_cpu_s()

    def wait_idle(self) -> None:
        """Wait until it uses hardly any CPU: what was begun is over."""
        before = -1.0
        while (now := self.all_cpu_s()) > before + IDLE_CPU_S:
            before = now
            time.sleep(IDLE_S)

    def resident_bytes(self) -> int:
        """Memory of the server's own process now; of all its processes if it has workers."""
        return sum(_memory(pid, "VmRSS") for pid in self._measured())

    def reset_peak(self) -> None:
        """Let `peak_bytes` begin anew."""
        for pid in self._measured():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Most memory of the same processes since `reset_peak`."""
        return sum(_memory(pid, "VmHWM") for pid in self._measured())

    def _measured(self) -> list[int]:
        pid = self._process.pid
        return [pid, *_descendants(pid)] if self._has_workers else [pid]


def _memory(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {key} of process {pid}")


def _stat(pid: int) -> list[str]:
    # The command in brackets may hold anything: count from the last bracket (proc(5); field 3 is the first here).
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int) -> list[float]:
    """utime, stime, cutime, cstime."""
    return [int(ticks) / _TICKS for ticks in _stat(pid)[11:15]]


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
    below = list(children.get(root, ()))
    for pid in below:  # grows while it is walked: the whole tree
        below.extend(children.get(pid, ()))
        yield pid
