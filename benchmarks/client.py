"""The clients: raw blocking sockets, so that little of the machine goes to the measuring side.

Uploads are sent from processes of their own (`Bench.send`); what is sent is made before the clock starts. Large bodies
come from a memory file by `sendfile`, which copies nothing on the sending side.
"""

import functools
import os
import random
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

BLOCK_BYTES = 2**20
CHUNK_BYTES = 64 * 1024  # of chunked bodies, as curl sends them
TIMEOUT_S = 120.0
TURNS = 4  # in which slow clients send, so that they do not all send at once

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
    """A body: `head`, so many times the random block, `tail`; announced by its length or sent in chunks."""

    head: bytes = b""
    blocks: int = 0
    tail: bytes = b""
    is_chunked: bool = False

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


@functools.cache
def _memory_file(is_chunked: bool) -> tuple[int, int]:
    """The descriptor of a memory file that holds the block, framed as chunks or not, and its size."""
    data = block()
    if is_chunked:
        data = b"".join(_chunk(data[n : n + CHUNK_BYTES]) for n in range(0, BLOCK_BYTES, CHUNK_BYTES))
    descriptor = os.memfd_create("block")
    os.write(descriptor, data)
    return descriptor, len(data)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def prepare() -> None:
    """Have a client process started and its block made."""
    _memory_file(False)
    _memory_file(True)
    time.sleep(0.2)  # long enough that each of the processes gets one of these


def big_file(
    size: int, *, field: str = "file", before: tuple[str, str] | None = None, is_chunked: bool = False
) -> Form:
    """A form with one file of `size` bytes, a multiple of the block; a field may stand before it."""
    head = "" if before is None else _FIELD.format(*before)
    return Form(
        head=(head + _PART.format(field, "big.bin")).encode(),
        blocks=size // BLOCK_BYTES,
        tail=b"\r\n" + _END,
        is_chunked=is_chunked,
    )


def small_files(
    contents: list[bytes], *, names: str = "file", field: str = "file", before: tuple[str, str] | None = None
) -> Form:
    """A form with one small file for each of `contents`."""
    head = "" if before is None else _FIELD.format(*before)
    parts = (_PART.format(field, f"{names}-{n}.bin").encode() + content + b"\r\n" for n, content in enumerate(contents))
    return Form(head=head.encode() + b"".join(parts) + _END)


def send_form(port: int, path: str, form: Form, *, is_tls: bool = False) -> Exchange:
    """Post a form as fast as the server takes it."""
    return send(port, "POST", path, FORM_TYPE, form, is_tls=is_tls)


def send_tus(port: int, path: str, body: Form) -> Exchange:
    """Upload by tus in one PATCH; the time is of both requests, as a client waits for both."""
    began_at, began = time.time(), time.perf_counter()
    told = send(port, "POST", path, f"Tus-Resumable: 1.0.0\r\nUpload-Length: {body.size}\r\n", Form())
    if told.location is None:
        return told
    headers = f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n{OCTETS_TYPE}"
    exchange = send(port, "PATCH", urlsplit(told.location).path, headers, body)
    return replace(exchange, began_at=began_at, seconds=time.perf_counter() - began)


def send_crowd(port: int, method: str, path: str, headers: str, form: Form, count: int) -> list[int]:
    """Send a request so many times at once; the statuses of the answers."""
    with ThreadPoolExecutor(count) as crowd:
        return [one.status for one in crowd.map(lambda _: send(port, method, path, headers, form), range(count))]


def send(port: int, method: str, path: str, headers: str, form: Form, *, is_tls: bool = False) -> Exchange:
    """Send a request as fast as the server takes it. `headers`: lines, each with its end."""
    head = _head(port, method, path, headers, form)
    before, after = form.head, form.tail
    if form.is_chunked:
        before, after = _chunk(before), _chunk(after) + b"0\r\n\r\n"
    began_at, began = time.time(), time.perf_counter()
    with _connect(port, is_tls=is_tls) as connection:
        try:
            connection.sendall(head + before)
            _send_blocks(connection, form)
            connection.sendall(after)
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


def _connect(port: int, *, is_tls: bool = False) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    if is_tls:
        return _tls().wrap_socket(connection)
    # Python's own time limit makes the descriptor non-blocking, and `sendfile` would need a poll for each piece.
    connection.settimeout(None)
    limit = struct.pack("ll", int(TIMEOUT_S), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    return connection


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is made for this run
    return context


def _send_blocks(connection: socket.socket, form: Form) -> None:
    descriptor, size = _memory_file(form.is_chunked)
    if isinstance(connection, ssl.SSLSocket):
        data = os.pread(descriptor, size, 0)
        for _ in range(form.blocks):
            connection.sendall(data)
        return
    for _ in range(form.blocks):
        offset = 0
        while offset < size:
            offset += os.sendfile(connection.fileno(), descriptor, offset, size - offset)


def _head(port: int, method: str, path: str, headers: str, form: Form) -> bytes:
    framing = "Transfer-Encoding: chunked" if form.is_chunked else f"Content-Length: {form.size}"
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{framing}\r\n{headers}\r\n".encode()


# --- small requests over a few connections ---------------------------------------------------------------------------

Request = tuple[str, str, str, Form]  # method, path, headers, body


def send_over(port: int, requests: Sequence[Request], connections: int) -> tuple[set[int], float]:
    """Send small requests over so many kept connections, the next on each when the answer has come.

    One thread with a poll: threads or processes would take from the server what they use for switching.

    Returns:
        The statuses of the answers, and the seconds that all took.

    Raises:
        OSError: a connection ended before its answer, or an answer did not come in time.
    """
    waiting = [_head(port, *request[:3], request[3]) + request[3].head for request in reversed(requests)]
    statuses: set[int] = set()
    poll, lines = select.epoll(), {}
    try:
        for _ in range(connections):
            line = _Line(socket.create_connection(("127.0.0.1", port), TIMEOUT_S))
            line.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lines[line.connection.fileno()] = line
            poll.register(line.connection, select.EPOLLIN)
        began = time.perf_counter()
        busy = 0
        for line in lines.values():
            if waiting:
                line.connection.sendall(waiting.pop())
                busy += 1
        while busy:
            ready = poll.poll(TIMEOUT_S)
            if not ready:
                raise OSError(f"no answer came for {TIMEOUT_S:.0f} s")
            for descriptor, _ in ready:
                line = lines[descriptor]
                status = line.read()
                if status is None:
                    continue
                statuses.add(status)
                if waiting:
                    line.connection.sendall(waiting.pop())
                else:
                    busy -= 1
        return statuses, time.perf_counter() - began
    finally:
        poll.close()
        for line in lines.values():
            line.connection.close()


@dataclass
class _Line:
    """A kept connection with one request under way."""

    connection: socket.socket
    received: bytearray = field(default_factory=bytearray)

    def read(self) -> int | None:
        """The status of the answer once it is whole; None before."""
        data = self.connection.recv(65536)
        if not data:
            raise OSError(f"the server ended the connection after {bytes(self.received[:200])!r}")
        self.received += data
        status = whole_answer(self.received)
        if status is not None:
            self.received.clear()
        return status


def whole_answer(received: bytes | bytearray) -> int | None:
    """The status of an answer to something other than HEAD, once all of it was received; None before."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    status = int(head[9:12])
    if status in (204, 304):
        return status
    if b"\r\ntransfer-encoding: chunked" in head:
        return status if received.endswith(b"0\r\n\r\n") else None
    _, found, length = head.partition(b"\r\ncontent-length:")
    body = int(length.split(b"\r\n")[0]) if found else 0
    return status if len(received) >= end + 4 + body else None


# --- clients that take their time ------------------------------------------------------------------------------------


def send_parts(port: int, path: str, contents: Sequence[bytes], *, pause_s: float) -> tuple[Exchange, dict[str, float]]:
    """Post a form of small files with a pause behind each; the answer, and when each had been sent, by its name.

    A file has been sent with the delimiter behind it, in seconds since the epoch. That of the last ends the form.
    """
    names = [f"part-{n}.bin" for n in range(len(contents))]
    delimiter = f"--{_BOUNDARY}\r\n".encode()
    parts = [
        _PART.format("file", name).encode().removeprefix(delimiter) + content + b"\r\n" + delimiter
        for name, content in zip(names, contents, strict=True)
    ]
    parts[-1] = parts[-1].removesuffix(b"\r\n") + b"--\r\n"
    body = Form(head=delimiter + b"".join(parts))
    began_at, began = time.time(), time.perf_counter()
    ended = {}
    with _connect(port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_head(port, "POST", path, FORM_TYPE, body) + delimiter)
        for name, part in zip(names, parts, strict=True):
            connection.sendall(part)
            ended[name] = time.time()
            time.sleep(pause_s)
        answer = HTTPResponse(connection)
        answer.begin()
        text = answer.read()
    seconds = time.perf_counter() - began
    return Exchange(began_at=began_at, seconds=seconds, status=answer.status, body=text), ended


def drip(
    port: int,
    clients: int,
    *,
    body_bytes: int,
    first_bytes: int,
    piece_bytes: int,
    every_s: float,
    ready: Path,
    end: Path,
) -> int:
    """Hold so many PUTs open and send each a little again and again; the number of pieces that were sent.

    Args:
        port: of the server.
        clients: how many connections.
        body_bytes: what each request promises.
        first_bytes: what each sends at once.
        piece_bytes: what each sends then, if the server takes it.
        every_s: how often.
        ready: is made when all have sent their first bytes.
        end: ends it when it exists.

    Raises:
        OSError: the server ended a connection.
    """
    first, piece = Form(blocks=first_bytes // BLOCK_BYTES), block()[:piece_bytes]
    connections = []
    sent = 0
    try:
        for n in range(clients):
            connections.append(_connect(port))
            connections[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            promised = Form(blocks=body_bytes // BLOCK_BYTES)
            connections[-1].sendall(_head(port, "PUT", f"/send/drip-{n}.bin", "", promised))
            _send_blocks(connections[-1], first)
        for connection in connections:
            connection.setblocking(False)
        ready.touch()
        start, turn = time.perf_counter(), 0
        while not end.exists():
            for connection in connections[turn % TURNS :: TURNS]:
                with suppress(BlockingIOError):  # it is not read: that it cannot take more does not hold up the others
                    sent += connection.send(piece) > 0
            turn += 1
            time.sleep(max(0.0, start + turn * every_s / TURNS - time.perf_counter()))
    finally:
        for connection in connections:
            connection.close()
    return sent


# --- pages -----------------------------------------------------------------------------------------------------------


def get(port: int, path: str, *, is_tls: bool = False) -> Exchange:
    """Get a path on a connection of its own."""
    began_at, began = time.time(), time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    if is_tls:
        connection = HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_S, context=_tls())
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
