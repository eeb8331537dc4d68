"""One connection at a time, between the real Hypercorn and the real Quart: fails when these change beneath us."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import socket
import struct
from collections.abc import AsyncIterator

import h11
import pytest
from hypercorn.events import RawData
from hypercorn.protocol.ws_stream import FrameTooLargeError
from quart import Quart, abort, has_websocket_context, request, websocket
from tests.support.serving_in_process import end_of, served, settled_tasks
from tests.support.waiting import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from wsproto.events import TextMessage

from dropmill.app import _App
from dropmill.model.errors import TooLarge, Unavailable
from dropmill.web.server import connection, hypercorn, takeover, tcp
from dropmill.web.server import websocket as websocket_module
from dropmill.web.server.body import UNREAD_MAX
from dropmill.web.server.capacity import Admission
from dropmill.web.server.websocket import (
    INCOMING_MAX,
    WS_BAD,
    WS_FLOOD,
    WebSocketConnection,
    current_socket,
    text_frame,
)

MIB = 1024 * 1024
HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Made:
    """An app with our connections, whose handlers record what happens to them."""

    def __init__(self) -> None:
        self.app = Quart(__name__)
        connection.install(self.app)
        self.may_read = asyncio.Event()
        self.read = 0
        self.endings: list[str] = []
        self.port = 0
        self.app.post("/slow")(self.slow)
        self.app.post("/whole")(self.whole)
        self.app.post("/digest")(self.digest)
        self.app.post("/refuse")(self.refuse)
        self.app.get("/events")(self.events)
        self.app.get("/late")(self.late)
        self.app.get("/broken")(self.broken)
        self.app.websocket("/echo")(self.echo)
        self.app.websocket("/deaf")(self.deaf)
        self.app.websocket("/twice")(self.twice)
        self.app.websocket("/onwards")(self.onwards)
        self.app.websocket("/refusing")(self.refusing)

    async def slow(self) -> str:
        try:
            await self.may_read.wait()
            async for chunk in request.body:
                self.read += len(chunk)
        except asyncio.CancelledError:
            self.endings.append("cancelled")
            raise
        self.endings.append("read")
        return str(self.read)

    async def whole(self) -> str:
        return str(len(await request.get_data()))

    async def digest(self) -> str:
        digest = hashlib.sha256()
        async for chunk in request.body:
            digest.update(chunk)
        return digest.hexdigest()

    async def events(self) -> AsyncIterator[bytes]:
        async def ticks() -> AsyncIterator[bytes]:
            while True:
                yield b":\n\n"
                await asyncio.sleep(0.02)

        return ticks()

    async def late(self) -> AsyncIterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            await self.may_read.wait()
            yield b"late"

        return pieces()

    async def broken(self) -> AsyncIterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            if not self.may_read.is_set():
                raise OSError("the disk is gone")
            yield b""

        return pieces()

    async def refuse(self) -> tuple[str, int]:
        return TooLarge.code, TooLarge.status

    async def echo(self) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send(await websocket.receive())
        finally:
            self.endings.append("ended")

    async def deaf(self) -> None:
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            self.endings.append("ended")

    async def twice(self) -> None:
        await websocket.accept()
        await websocket.close(4000, "first")
        await websocket.close(4001, "second")
        await websocket.send("never")

    async def onwards(self) -> None:
        current_socket().admit(Admission(lambda: self.endings.append("released")))
        await websocket.accept()
        current_socket().go_on(self.serve)

    async def serve(self, socket: WebSocketConnection) -> None:
        assert not has_websocket_context()
        try:
            while (text := await socket.receive()) != "return":
                if text == "close":
                    await socket.close(4000, "asked")
                if text == "fail":
                    raise RuntimeError("on purpose")
                await socket.send(text_frame(text.encode()))
        finally:
            self.endings.append("ended")

    async def refusing(self) -> None:
        current_socket().admit(Admission(lambda: self.endings.append("released")))
        abort(403)

    async def post(self, path: str, length: int, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which a request was begun; `body` is what is written of it now."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + body)
        return reader, writer


@pytest.fixture
async def made() -> AsyncIterator[Made]:
    """The app, served."""
    app = Made()
    async with served(app.app) as app.port:
        yield app
        app.may_read.set()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


# --- bodies ----------------------------------------------------------------------------------------------------------


async def test_a_body_that_nobody_reads_stays_with_the_client(made: Made) -> None:
    length = 16 * MIB
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 512 * 1024)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", made.port))
        await loop.sock_sendall(client, f"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        sent, chunk = 0, bytes(64 * 1024)
        quiet_rounds = 0
        while quiet_rounds < 20:  # nothing more is taken
            await asyncio.sleep(0.01)
            try:
                sent += client.send(chunk)
                quiet_rounds = 0
            except BlockingIOError:
                quiet_rounds += 1
        assert UNREAD_MAX < sent < 6 * MIB

        made.may_read.set()
        while sent < length:
            await loop.sock_sendall(client, chunk[: length - sent])
            sent += min(len(chunk), length - sent)
        answer = b""
        while str(length).encode() not in answer:
            answer += await loop.sock_recv(client, 65536)
    assert made.read == length


@pytest.mark.parametrize("length", [0, 1, UNREAD_MAX, 3 * MIB])
async def test_a_body_that_is_wanted_whole_is_not_held_up_by_the_bound(made: Made, length: int) -> None:
    reader, writer = await made.post("/whole", length, bytes(length))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n" + str(length).encode()), 10)
    assert answer.startswith(b"HTTP/1.1 200")
    await hang_up(writer)


@pytest.mark.parametrize("pause_after", [1, 65_536, 1_000_000, 3 * MIB - 1])
async def test_a_body_goes_past_h11_unchanged_and_the_next_request_does_not(
    made: Made, pause_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = 0
    receive_data = h11.Connection.receive_data

    def counting(h11_connection: h11.Connection, data: bytes) -> None:
        nonlocal parsed
        parsed += len(data)
        receive_data(h11_connection, data)

    monkeypatch.setattr(h11.Connection, "receive_data", counting)
    body = random.Random(4).randbytes(3 * MIB)
    reader, writer = await made.post("/digest", len(body), body[:pause_after])
    await asyncio.sleep(0.02)
    writer.write(body[pause_after:] + b"POST /whole HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    await asyncio.wait_for(reader.readuntil(hashlib.sha256(body).hexdigest().encode()), 10)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
    assert parsed < len(body) * 0.75  # what comes together with a head or an end is h11's
    await hang_up(writer)


async def test_a_body_in_chunks_is_read_by_h11(made: Made) -> None:
    body = random.Random(5).randbytes(MIB)
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    await asyncio.wait_for(reader.readuntil(hashlib.sha256(body).hexdigest().encode()), 10)
    await hang_up(writer)


async def test_chunks_of_one_byte_are_handed_over_together(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_over = 0
    take_body = hypercorn._RequestStream.take_body

    async def counting(stream: hypercorn._RequestStream, data: bytes, *, is_last: bool) -> None:
        nonlocal handed_over
        handed_over += 1
        await take_body(stream, data, is_last=is_last)

    monkeypatch.setattr(hypercorn._RequestStream, "take_body", counting)
    body = random.Random(6).randbytes(20_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"POST /digest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(hashlib.sha256(body).hexdigest().encode()), 20)
    assert handed_over < 200
    await hang_up(writer)


async def test_a_body_is_whole_before_what_is_wrong_behind_it_is_seen(made: Made) -> None:
    reader, writer = await made.post("/whole", 3, b"abc" + b"no request\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" in answer
    await hang_up(writer)


async def test_what_is_no_http_is_refused_with_a_problem_document(made: Made) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"no request\r\n\r\n")
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"nosniff" in head
    assert json.loads(body)["code"] == "bad_request"
    await hang_up(writer)


async def test_a_request_that_ends_without_an_answer_gets_a_problem_document_and_is_logged(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_answer(*_: object) -> None:
        return

    monkeypatch.setattr(connection.HttpConnection, "handle_request", no_answer)
    reader, writer = await made.post("/whole", 3, b"abc")
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500")
    assert json.loads(body)["code"] == "internal_error"
    assert "POST '/whole' ended without an answer" in caplog.text
    await hang_up(writer)


async def test_a_request_whose_work_is_cancelled_beneath_it_is_answered_with_503() -> None:
    app = _App(__name__)
    connection.install(app)

    async def waits_for_another() -> str:
        other = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(other.cancel)
        await asyncio.shield(other)
        return "never"

    async def refused(error: Unavailable) -> tuple[str, int]:
        return error.code, error.status

    app.get("/")(waits_for_another)
    app.errorhandler(Unavailable)(refused)
    async with served(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 503")
        await hang_up(writer)


@pytest.mark.parametrize("path", ["/whole", "/events"])
async def test_a_client_that_leaves_behind_two_requests_leaves_no_task_behind(made: Made, path: str) -> None:
    """While the second request waits for the answer to the first, the connection is not read."""
    baseline = len(asyncio.all_tasks())
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    _, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(request * 3)
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await settled_tasks(baseline)


async def test_a_handler_that_is_cancelled_with_its_connection_leaves_no_task_behind(made: Made) -> None:
    baseline = len(asyncio.all_tasks())
    async with served(made.app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        await asyncio.sleep(0.05)
    await settled_tasks(baseline)  # the server ended while the handler waited
    await hang_up(writer)


async def test_a_head_that_comes_at_once_is_limited_as_one_that_comes_slowly(made: Made) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 3 * hypercorn.HEAD_PIECE + b"\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 431")
    await hang_up(writer)


async def test_an_answer_reaches_a_client_that_is_still_writing(made: Made) -> None:
    reader, writer = await made.post("/refuse", 16 * MIB, b"")
    for _ in range(16):
        writer.write(bytes(MIB))
        await writer.drain()
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 413")
    await hang_up(writer)


async def test_head_and_body_of_an_answer_are_one_write(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    send = tcp.TcpConnection.protocol_send

    async def record(connection: tcp.TcpConnection, event: object) -> None:
        if isinstance(event, RawData):
            written.append(event.data)
        await send(connection, event)

    monkeypatch.setattr(tcp.TcpConnection, "protocol_send", record)
    reader, writer = await made.post("/whole", 3, b"abc")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n3"), 10)
    assert len(written) == 1
    await hang_up(writer)


async def test_a_head_does_not_wait_for_a_body_that_is_late(made: Made) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 200")
    made.may_read.set()
    assert await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10) == b"4\r\nlate\r\n0\r\n\r\n"
    await hang_up(writer)


async def test_an_answer_that_breaks_before_its_body_is_cut_behind_its_head(made: Made) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")
    await hang_up(writer)


async def test_a_connection_ends_when_the_client_does_not_stop_writing(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DRAIN_BODY_S", 0.05)
    reader, writer = await made.post("/refuse", 16 * MIB, bytes(1000))
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 413")
    await hang_up(writer)


async def test_a_connection_serves_on_after_a_refusal_whose_body_had_come(made: Made) -> None:
    reader, writer = await made.post("/refuse", 1000, bytes(1000))
    await asyncio.wait_for(reader.readuntil(TooLarge.code.encode()), 10)
    writer.write(b"POST /whole HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
    await hang_up(writer)


@pytest.mark.parametrize("is_half", [False, True])
async def test_a_client_that_leaves_after_its_answer_is_not_waited_for(made: Made, is_half: bool) -> None:
    baseline = len(asyncio.all_tasks())
    reader, writer = await made.post("/whole", 3, b"abc")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n3"), 10)
    if is_half:
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b""
    else:
        await hang_up(writer)
    await settled_tasks(baseline)
    if is_half:
        await hang_up(writer)


async def test_a_client_that_leaves_behind_its_last_request_is_not_waited_for(made: Made) -> None:
    baseline = len(asyncio.all_tasks())
    _, writer = await made.post("/whole", 3, b"abc")
    writer.write_eof()
    await settled_tasks(baseline)
    await hang_up(writer)


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_client_that_leaves_in_its_upload_leaves_no_task_behind(made: Made, is_paused: bool) -> None:
    baseline = len(asyncio.all_tasks())
    if not is_paused:
        made.may_read.set()
    _, writer = await made.post("/slow", 64 * MIB, bytes(2 * MIB))
    await asyncio.sleep(0.05)
    writer.transport.abort()
    made.may_read.set()
    await settled_tasks(baseline)
    assert made.endings == ["cancelled"]


async def test_quarts_own_test_client_still_works() -> None:
    made = Made()
    made.may_read.set()
    answer = await made.app.test_client().post("/slow", data=b"abc")
    assert await answer.get_data() == b"3"
    answer = await made.app.test_client().post("/whole", data=bytes(MIB))
    assert await answer.get_data() == str(MIB).encode()


@pytest.mark.parametrize("target", ["?q=1", "*", "http://[", "http://x", "//", "a:b", "/%"])
async def test_no_request_target_is_an_error_of_ours(made: Made, target: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 404")
    await hang_up(writer)


async def test_a_whole_address_as_target_means_its_path(made: Made) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"POST http://x/whole HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200")
    await hang_up(writer)


# --- sockets ---------------------------------------------------------------------------------------------------------


async def closing(made: Made, path: str, *messages: str | bytes) -> tuple[int | None, str | None]:
    """Close code and reason after these messages."""
    async with connect(f"ws://127.0.0.1:{made.port}{path}", proxy=None) as client:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await client.send(message)
        return await end_of(client)


async def test_a_message_comes_back(made: Made) -> None:
    async with connect(f"ws://127.0.0.1:{made.port}/echo", proxy=None) as client:
        await client.send("\u20ac" * 1000)
        assert await client.recv() == "\u20ac" * 1000
        await client.send(["in ", "", "pieces"])
        assert await client.recv() == "in pieces"


async def test_an_offer_to_compress_is_declined(made: Made) -> None:
    async with connect(f"ws://127.0.0.1:{made.port}/echo", proxy=None, compression="deflate") as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert client.protocol.extensions == []


@pytest.mark.parametrize("message", [b"", b"bytes"])
async def test_a_binary_message_ends_the_connection(made: Made, message: bytes) -> None:
    assert await closing(made, "/echo", message) == (WS_BAD, "Messages are JSON text.")
    assert made.endings == ["ended"]


async def test_messages_that_nobody_handles_end_the_connection(made: Made) -> None:
    messages = ["x"] * (INCOMING_MAX * 2)
    assert await closing(made, "/deaf", *messages) == (WS_FLOOD, "Too many messages at once.")
    assert made.endings == ["ended"]


async def test_a_message_over_the_limit_ends_the_connection(made: Made) -> None:
    async with connect(f"ws://127.0.0.1:{made.port}/echo", proxy=None, max_size=None) as client:
        await client.send("a" * 65536)
        assert await client.recv() == "a" * 65536
        await client.send("a" * 65537)
        assert (await end_of(client))[0] == 1009


async def test_nothing_is_kept_of_a_message_over_the_limit() -> None:
    buffer = takeover.MessageBuffer(10)
    buffer.extend(TextMessage(data="12345", message_finished=False))
    for _ in range(3):
        with pytest.raises(FrameTooLargeError):
            buffer.extend(TextMessage(data="678901", message_finished=False))
        assert buffer.value is None


async def test_a_socket_is_closed_once_and_nothing_follows(made: Made) -> None:
    baseline = len(asyncio.all_tasks())
    assert await closing(made, "/twice") == (4000, "first")
    await settled_tasks(baseline)


async def test_a_client_that_does_not_answer_the_close_is_let_go(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "DRAIN_BODY_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(HANDSHAKE.replace(b"/echo", b"/twice"))
    await reader.readuntil(b"\r\n\r\n")
    assert struct.pack(">H", 4000) + b"first" in await asyncio.wait_for(reader.read(), 10)
    await hang_up(writer)


async def test_a_client_that_leaves_without_a_word_ends_its_handler(made: Made) -> None:
    baseline = len(asyncio.all_tasks())
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    await settled_tasks(baseline)
    assert made.endings == ["ended"]


async def test_a_client_that_writes_before_the_socket_is_open_leaves_no_task_behind(made: Made) -> None:
    baseline = len(asyncio.all_tasks())
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(HANDSHAKE + b"\x81\x82\0\0\0\0{}")
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400")
    await hang_up(writer)
    await settled_tasks(baseline)


async def test_a_handshake_of_another_version_is_refused_and_the_connection_ended(made: Made) -> None:
    baseline = len(asyncio.all_tasks())
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(HANDSHAKE.replace(b"Version: 13", b"Version: 12"))
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400")
    await hang_up(writer)
    await settled_tasks(baseline)


@pytest.mark.parametrize(("said", "code"), [("close", 4000), ("return", 1000), ("fail", 1011)])
async def test_a_handler_hands_its_socket_on_and_returns(made: Made, said: str, code: int) -> None:
    baseline = len(asyncio.all_tasks())
    async with connect(f"ws://127.0.0.1:{made.port}/onwards", proxy=None) as client:
        for text in ("a", "x" * 200, "x" * 60_000):
            await client.send(text)
            assert await client.recv() == text
        await client.send(said)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    await settled_tasks(baseline)
    assert made.endings == ["ended", "released"]


async def test_a_socket_that_is_refused_after_it_was_admitted_is_released(made: Made) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(f"ws://127.0.0.1:{made.port}/refusing", proxy=None):
            pass
    await eventually(lambda: made.endings == ["released"])


async def test_a_socket_is_not_opened_where_there_is_none(made: Made) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{made.port}/nowhere", proxy=None):
            pass
    assert refused.value.response.status_code == 404


# --- hostile sockets -------------------------------------------------------------------------------------------------

TEXT_FRAME = b"\x81\x82\0\0\0\0{}"
BINARY_FRAME = b"\x82\x82\0\0\0\0{}"
PING_FRAME = b"\x89\x82\0\0\0\0{}"


@pytest.mark.parametrize("is_half_closed", [False, True])
@pytest.mark.parametrize("path", [b"/echo", b"/deaf", b"/twice", b"/onwards"])
@pytest.mark.parametrize("frames", [TEXT_FRAME * 2000, BINARY_FRAME * 500, PING_FRAME * 2000, TEXT_FRAME[:3], b""])
async def test_hostile_sockets_leave_no_task_and_no_descriptor_behind(
    made: Made, monkeypatch: pytest.MonkeyPatch, frames: bytes, path: bytes, is_half_closed: bool
) -> None:
    monkeypatch.setattr(tcp, "DRAIN_BODY_S", 0.1)
    monkeypatch.setattr(websocket_module, "DRAIN_BODY_S", 0.1)
    baseline, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
    clients = []
    for _ in range(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        clients.append(writer)
        writer.write(HANDSHAKE.replace(b"/echo", path))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frames)
        if is_half_closed:
            writer.write_eof()
    await asyncio.sleep(0.05)
    for writer in clients:
        writer.transport.abort()
    await settled_tasks(baseline)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
