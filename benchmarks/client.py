"""The clients: raw blocking sockets, so that little of the machine goes to the measuring side.

Uploads are sent from processes of their own (`Bench.send`); what is sent is made before the clock starts.
"""

import functools
import random
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

BLOCK_BYTES = 2**20
TIMEOUT_S = 120.0

_BOUNDARY = "benchmark-5f1c0a7d"
FORM_TYPE = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
OCTETS_TYPE = "Content-Type: application/offset+octet-stream\r\n"
_PART = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"; filename="{{}}"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
)
_FIELD = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"\r\n\r\n{{}}\r\n'
_END = f"--{_BOUNDARY}--\r\n".encode()


@dataclass(frozen=True, kw_only=True)
class Form:
    """A body: `head`, so many times the random block, `tail`."""

    head: bytes = b""
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
    location: str | None = None


@functools.cache
def block() -> bytes:
    """The random block that files are made of; the same in every process."""
    return random.Random(20261120).randbytes(BLOCK_BYTES)


def prepare() -> None:
    """Have a client process started and its block made."""
    block()
    time.sleep(0.2)  # long enough that each of the processes gets one of these


def big_file(size: int, *, field: str = "file", before: tuple[str, str] | None = None) -> Form:
    """A form with one file of `size` bytes, a multiple of the block; a field may stand before it."""
    head = "" if before is None else _FIELD.format(*before)
    return Form(head=(head + _PART.format(field, "big.bin")).encode(), blocks=size // BLOCK_BYTES, tail=b"\r\n" + _END)


def small_files(
    contents: list[bytes], *, names: str = "file", field: str = "file", before: tuple[str, str] | None = None
) -> Form:
    """A form with one small file for each of `contents`."""
    head = "" if before is None else _FIELD.format(*before)
    parts = (_PART.format(field, f"{names}-{n}.bin").encode() + content + b"\r\n" for n, content in enumerate(contents))
    return Form(head=head.encode() + b"".join(parts) + _END)


def send_form(port: int, path: str, form: Form) -> Exchange:
    """Post a form as fast as the server takes it."""
    return send(port, "POST", path, FORM_TYPE, form)


def send_tus(port: int, path: str, body: Form) -> Exchange:
    """Upload by tus in one PATCH; the time is of both requests, as a client waits for both."""
    began = time.perf_counter()
    told = send(port, "POST", path, f"Tus-Resumable: 1.0.0\r\nUpload-Length: {body.size}\r\n", Form())
    if told.location is None:
        return told
    headers = f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n{OCTETS_TYPE}"
    exchange = send(port, "PATCH", urlsplit(told.location).path, headers, body)
    return replace(exchange, seconds=time.perf_counter() - began)


def send_one_by_one(port: int, requests: list[tuple[str, str, str, Form]]) -> list[int]:
    """Send small requests (method, path, headers, body) over one connection; the statuses of the answers."""
    ready = [_head(port, *request[:3], request[3].size) + request[3].head for request in requests]
    statuses = []
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        for data in ready:
            connection.sendall(data)
            answer = HTTPResponse(connection)
            answer.begin()
            answer.read()
            statuses.append(answer.status)
    return statuses


def send_crowd(port: int, path: str, form: Form, count: int) -> list[int]:
    """Post a form so many times at once; the statuses of the answers."""
    with ThreadPoolExecutor(count) as crowd:
        return [one.status for one in crowd.map(lambda _: send_form(port, path, form), range(count))]


def send(port: int, method: str, path: str, headers: str, form: Form) -> Exchange:
    """Send a request as fast as the server takes it. `headers`: lines, each with its end."""
    head = _head(port, method, path, headers, form.size)
    data = block()
    began_at, began = time.time(), time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        try:
            connection.sendall(head + form.head)
            for _ in range(form.blocks):
                connection.sendall(data)
            connection.sendall(form.tail)
        except ConnectionError:
            pass  # refused before its end: the answer, if one came, says why
        answer = HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    return Exchange(
        began_at=began_at,
        seconds=time.perf_counter() - began,
        status=answer.status,
        body=body,
        location=answer.headers["Location"],
    )


def _head(port: int, method: str, path: str, headers: str, size: int) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {size}\r\n{headers}\r\n".encode()


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
