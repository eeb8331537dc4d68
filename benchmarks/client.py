"""The clients: raw blocking sockets, so that little of the machine goes to the measuring side.

Uploads are sent from processes of their own (`Bench.send`); what is sent is made before the clock starts.
"""

import functools
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse

BLOCK_BYTES = 2**20
TIMEOUT_S = 120.0

_BOUNDARY = "benchmark-5f1c0a7d"
_PART = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{{}}"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
)
_END = f"--{_BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, kw_only=True)
class Form:
    """A multipart body: `head`, so many times the random block, `tail`."""

    head: bytes
    blocks: int = 0
    tail: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.head) + self.blocks * BLOCK_BYTES + len(self.tail)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and its answer.

    Attributes:
        began_at: seconds since the epoch, to be compared with the times of events.
        seconds: from before connecting to the last byte of the answer.
    """

    began_at: float
    seconds: float
    status: int
    body: bytes


@functools.cache
def block() -> bytes:
    """The random block that files are made of; the same in every process."""
    return random.Random(20261120).randbytes(BLOCK_BYTES)


def prepare() -> None:
    """Have a client process started and its block made."""
    block()
    time.sleep(0.2)  # long enough that each of the processes gets one of these


def big_file(size: int) -> Form:
    """A form with one file of `size` bytes, a multiple of the block."""
    return Form(head=_PART.format("big.bin").encode(), blocks=size // BLOCK_BYTES, tail=b"\r\n" + _END)


def small_files(contents: list[bytes]) -> Form:
    """A form with one small file for each of `contents`."""
    parts = (_PART.format(f"file-{n}.bin").encode() + content + b"\r\n" for n, content in enumerate(contents))
    return Form(head=b"".join(parts) + _END)


def send_form(port: int, path: str, form: Form) -> Exchange:
    """Post a form as fast as the server takes it."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {form.size}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n\r\n"
    )
    data = block()
    began_at, began = time.time(), time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        try:
            connection.sendall(head.encode() + form.head)
            for _ in range(form.blocks):
                connection.sendall(data)
            connection.sendall(form.tail)
        except ConnectionError:
            pass  # refused before its end: the answer, if one came, says why
        answer = HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    return Exchange(began_at=began_at, seconds=time.perf_counter() - began, status=answer.status, body=body)


def get(port: int, path: str) -> Exchange:
    """Get a path on a connection of its own."""
    began_at, began = time.time(), time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        status, body = _get(connection, path)
    finally:
        connection.close()
    return Exchange(began_at=began_at, seconds=time.perf_counter() - began, status=status, body=body)


def get_steadily(
    port: int, path: str, *, per_second: float, until: Callable[[int], bool], is_kept: bool = False
) -> list[float]:
    """Get a path again and again; the seconds each took, from before connecting or, if kept, before the request.

    Args:
        per_second: how often. After a slow answer those that are late follow at once.
        until: told how many there were, says whether that is enough.
        is_kept: whether all go over one connection.

    Raises:
        OSError: an answer was not 200.
    """
    kept = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    took: list[float] = []
    start = time.perf_counter()
    try:
        while not until(len(took)):
            time.sleep(max(0.0, start + len(took) / per_second - time.perf_counter()))
            began = time.perf_counter()
            connection = kept if is_kept else HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            status, _ = _get(connection, path)
            took.append(time.perf_counter() - began)
            if not is_kept:
                connection.close()
            if status != 200:
                raise OSError(f"GET {path} was answered with {status}")
    finally:
        kept.close()
    return took


def _get(connection: HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()
