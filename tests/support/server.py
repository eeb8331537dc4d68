"""A real `dropmill serve` on a free port of loopback, as a person would start it, and what is said to it from outside.

Knows the public contract only: command line, HTTP, socket, log file, data folder.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import websockets.sync.client
from tests.support.preloaded import DROPMILL, DropmillProcess
from tests.support.waiting import PATIENCE_S, wait_until
from websockets.sync.client import ClientConnection

T = TypeVar("T")

CONFIG = b"# kept\nname: bar   # aligned\nlist: [1,   2]\n"
SERVE = (*DROPMILL, "serve")
_URL = re.compile(rb"Dropmill is serving on (https?://\S+:(\d+))\n")
_MARK = "SERVING_TEST"


class Server:
    """One server with folders of its own. `start` and `stop` may take turns; `end` leaves nothing behind.

    Attributes:
        folder: its working directory; modules in here can be its processor.
        data: its data folder.
        config: its config file.
        url: where it serves, once started.
    """

    def __init__(
        self,
        folder: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        certificate: Path | None = None,
        bind: str = "127.0.0.1:0",
        prefix: Sequence[str] = (),
        config: Path | None = None,
        command: Sequence[str] = SERVE,
        descriptors: tuple[int, int] | None = None,
        is_fresh: bool = False,
    ) -> None:
        """Prepare the folders; `start` starts.

        Args:
            certificate: what `http` trusts.
            prefix: what the server's command begins with.
            config: another config file than the one in `folder`.
            bind: where it listens.
            command: what is run.
            descriptors: its soft and hard limit of open files; None for the test's own.
            is_fresh: whether each start is a new interpreter. By default the preloaded process forks for it, because
                most tests look at what a started server does, and its imports are most of what a start costs.
        """
        self._command = command
        self._start: type[subprocess.Popen[bytes]] = subprocess.Popen if is_fresh else DropmillProcess
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "config.yaml" if config is None else config
        self._prefix = prefix
        self.url = ""
        self.flags = ("--bind", bind, *flags)
        self.exit_code: int | None = None
        self._limits = [] if descriptors is None else ["prlimit", "--nofile={}:{}".format(*descriptors)]
        self._mark = secrets.token_hex(8)
        self._environment = clean_environment({_MARK: self._mark, **(environment or {})})
        self._said = folder / "said.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None
        self._trust = True if certificate is None else ssl.create_default_context(cafile=certificate)
        folder.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            self.config.write_bytes(CONFIG)

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> "Server":
        """Start it; returns when it has printed its URL."""
        begun = len(self.said())
        own = ("--data", str(self.data), "--config", str(self.config))
        with self._said.open("ab") as said:
            self._process = self._start(
                [*self._prefix, *self._limits, *self._command, *own, *self.flags],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

        def told() -> re.Match[bytes] | None:
            assert self.process.poll() is None, f"ended at its start: {self.said()}"
            return _URL.search(self._said.read_bytes(), begun)

        self.url = wait_until(told)[1].decode()
        self._client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False, verify=self._trust)
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; returns its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._forget()
        return code

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()
        self._forget()

    def end(self) -> None:
        """End whatever is left of it, strays that carry its mark included."""
        if self._process is not None:
            self.kill()
        for pid in self.strays():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def strays(self) -> list[int]:
        """Living processes that it started, whoever their parent is now."""
        mark = f"{_MARK}={self._mark}".encode()
        own = None if self._process is None else self._process.pid
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != own:
                    found.append(int(folder.name))
        return found

    def _forget(self) -> None:
        self._process = None
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's own process."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def resident_bytes(self) -> int:
        """Memory that its own process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    # --- what it is asked --------------------------------------------------------------------------------------------

    @property
    def http(self) -> httpx.Client:
        """A client for it; follows no redirect."""
        assert self._client is not None, "not started"
        return self._client

    @property
    def host(self) -> str:
        """`HOST:PORT`."""
        return self.url.partition("://")[2]

    def connect(self, **sizes: int) -> socket.socket:
        """A connection to write raw bytes to; `send_bytes` bounds the kernel's buffer."""
        name, port = self.host.split(":")
        made = socket.socket()
        if sizes:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sizes["send_bytes"])
        made.settimeout(PATIENCE_S)
        try:
            made.connect((name, int(port)))
        except OSError:
            made.close()
            raise
        return made

    @contextlib.contextmanager
    def live(self, **options: Any) -> Iterator[ClientConnection]:
        """An open socket of events, its `hello` read."""
        address = f"ws://{self.host}/api/v1/live"
        with websockets.sync.client.connect(address, proxy=None, open_timeout=PATIENCE_S, **options) as connection:
            assert hear(connection)["type"] == "hello"
            yield connection

    def get(self, path: str) -> Any:
        """The JSON at a path below `/api/v1`."""
        answer = self.http.get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, *files: tuple[str, bytes]) -> Any:
        """The Submission that one form with these files made."""
        answer = self.http.post("/api/v1/submissions", files=[("file", file) for file in files])
        assert answer.status_code == 201, answer.text
        return answer.json()

    def settled(self, submission_id: str, seconds: float = PATIENCE_S) -> Any:
        """A submission once it has settled; a failed test if nothing on the server changes for that long before."""
        seen, end = -1, 0.0

        def found() -> Any:
            nonlocal seen, end
            submission = self.get(f"/submissions/{submission_id}")
            if submission["state"] == "settled":
                return submission
            if (newest := self.newest()) != seen:
                seen, end = newest, time.monotonic() + seconds
            assert time.monotonic() < end, f"nothing has changed for {seconds:.0f} s: {submission['counts']}"
            return None

        return wait_until(found, float("inf"), stays=True)

    def newest(self) -> int:
        """The cursor of the newest event; 0 if there is none."""
        cursor: int = self.get("/events?topic=all&after=newest")["cursor"]
        return cursor

    def events(self, topic: str = "all") -> list[Any]:
        """Every event of a topic so far."""
        gathered: list[Any] = []
        after = 0
        while page := self.get(f"/events?topic={topic}&after={after}&limit=1000"):
            if not page["events"]:
                break
            gathered += page["events"]
            after = page["cursor"]
        return gathered

    # --- what it leaves ----------------------------------------------------------------------------------------------

    def said(self) -> str:
        """What it wrote on the terminal, all starts together."""
        return self._said.read_text(errors="replace") if self._said.exists() else ""

    def log(self) -> list[Any]:
        """The lines of its log file; fails unless each is one JSON object."""
        path = self.data / "log" / "dropmill.jsonl"
        text = path.read_text("ascii") if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def arriving(self) -> list[str]:
        """Names of files on their way in."""
        return [path.name for path in (self.data / "incoming").iterdir()]


Dropmill = Callable[..., "subprocess.Popen[str]"]
"""Starts the command line with some words."""


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of Dropmill, and as servers run: not in asyncio's debug mode."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DROPMILL_") and k != "PYTHONASYNCIODEBUG"}
    return kept | dict(more or {})


def form(files: Iterable[tuple[str, bytes]], *, is_closed: bool = True) -> bytes:
    """A multipart body with boundary B; without its end unless `is_closed`."""
    head = 'Content-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
    parts = [b"--B\r\n" + head.format(name).encode() + content + b"\r\n" for name, content in files]
    return b"".join(parts) + (b"--B--\r\n" if is_closed else b"")


def post(server: Server, length: int | None, path: str = "/api/v1/submissions") -> bytes:
    """The head of a request with a multipart body; `length` None sends it in chunks."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    kind = "Content-Type: multipart/form-data; boundary=B"
    return f"POST {path} HTTP/1.1\r\nHost: {server.host}\r\n{kind}\r\n{framing}\r\n\r\n".encode()


def hear(connection: ClientConnection, kind: str | None = None) -> Any:
    """The next message of a socket, or the next of one kind."""
    end = time.monotonic() + PATIENCE_S
    while True:
        message = json.loads(connection.recv(end - time.monotonic()))
        if kind is None or message["type"] == kind:
            return message


def read_answer(connection: socket.socket, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
    """One answer: number, headers in lower case, body (none to HEAD); 0 if the connection ended without one."""
    received = b""
    try:
        while b"\r\n\r\n" not in received:
            if not (more := connection.recv(65536)):
                return 0, {}, received
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while has_body and len(body) < int(headers.get("content-length", 0)):
            if not (more := connection.recv(65536)):
                break
            body += more
    except ConnectionError:
        return 0, {}, received
    return int(first.split()[1]), headers, body


def reset(connection: socket.socket) -> None:
    """Cut a connection with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
