"""What Hypercorn leaves open, between the TCP connection and the application.

- A message for a request's application task is dropped once that task has ended; Hypercorn would wait for ever.
- A connection has an end: one whose client reads nothing is cut, and so is one that does not close in time.
- Connections are admitted as far as the `Capacity` of the app allows.
- Bytes behind an early answer are never parsed as a request.
- Errors below the application are problem documents.

Written against Hypercorn 0.18 and h11 0.16; `tests/web/server/test_connection.py` fails when these change beneath us.
"""

import asyncio
import contextlib
import fcntl
import logging
import struct
import termios
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import h11
import hypercorn.asyncio.run
import hypercorn.asyncio.tcp_server
import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
from h11._readers import ContentLengthReader
from hypercorn.asyncio.task_group import TaskGroup, _handle
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Body, Data, EndBody, Event, Response, StreamClosed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.utils import suppress_body
from wsproto.events import Message

from dropmill.model.errors import DropmillError
from dropmill.origin.network import client_address
from dropmill.web.server.capacity import Admission, Capacity, capacity_of
from dropmill.web.server.guard import HEADERS, problem_document

log = logging.getLogger(__name__)

HEAD_PIECE = 64 * 1024  # bytes that h11 is given at once

DRAIN_BODY_S = 2.0
"""How long the rest of a body is read after the answer, and a socket after its close. To end the connection at once
would reset it, and the client might lose the answer."""

CHUNKS_IN_A_ROW = 500  # that h11 reads before others have their turn: 5 ms, if each has one byte
FRAMES_PIECE = 4096  # bytes of a WebSocket that are read before others have their turn: 20 ms at worst
UNWANTED_MAX = 64 * 1024  # bytes that are read of a WebSocket after its close; the rest is dropped unread

TLS_CLOSE_TIMEOUT_S = 1.0  # for the client's part of the closing handshake, once everything is sent

CHECKS_PER_TIMEOUT = 4  # how often a client that must read is looked at within its time limit

REFUSED_MAX = 100  # refused connections that are read to their end, so that they get the answer; the rest is cut

SEND_BODY = "dropmill.http.continue"
"""A message from the application to the server: tell the client to send its body (RFC 9110, section 10.1.1)."""


# --- messages for the application -------------------------------------------------------------------------------------


class _Inbox:
    """A bounded queue of messages for one application task. After `close` messages are dropped, and nobody waits."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[Any] = deque()
        self._has_room = asyncio.Event()
        self._has_news = asyncio.Event()
        self._is_closed = False

    async def put(self, message: Any) -> None:
        while len(self._waiting) >= self._size and not self._is_closed:
            self._has_room.clear()
            await self._has_room.wait()
        if not self._is_closed:
            self._waiting.append(message)
            self._has_news.set()

    async def get(self) -> Any:
        while not self._waiting:
            self._has_news.clear()
            await self._has_news.wait()
        message = self._waiting.popleft()
        self._has_room.set()
        return message

    def close(self) -> None:
        self._is_closed = True
        self._waiting.clear()
        self._has_room.set()


class _TaskGroup(TaskGroup):
    """The tasks of one connection. What is sent to an application ends with that application."""

    async def spawn_app(
        self, app: Any, config: Config, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        inbox = _Inbox(config.max_app_queue_size)

        async def run(*arguments: Any) -> None:
            # Hypercorn's part of the task goes on after this, and then sends a message to its own inbox.
            try:
                await app(*arguments)
            finally:
                inbox.close()

        running = self._task_group.create_task(_handle(run, config, scope, inbox.get, send, _no_threads, _no_threads))  # type: ignore[arg-type]
        running.add_done_callback(lambda _: inbox.close())  # it may be cancelled before it begins
        return inbox.put


def _no_threads(*_: Any) -> None:
    raise AssertionError("only WSGI applications run in threads")


# --- the connection --------------------------------------------------------------------------------------------------


class _Reader(asyncio.StreamReader):
    """What a connection brings, in the pieces in which the event loop has it (up to 256,000 bytes with uvloop).

    A `StreamReader` copies every byte three times to give it out in pieces of 64 KiB. Only `read` is for use here; it
    gives out a whole piece, whatever it is asked for, and no more than one piece waits.
    """

    _pieces: deque[bytes]

    # What it inherits, and typeshed leaves out.
    _eof: bool
    _paused: bool
    _exception: Exception | None
    _transport: asyncio.ReadTransport
    _wakeup_waiter: Callable[[], None]
    _wait_for_data: Callable[[str], Awaitable[None]]

    @classmethod
    def take_over(cls, reader: Any) -> None:
        """Make a reader one of these; what has come already comes first."""
        reader.__class__ = cls  # rather than a new one: its protocol holds this one, and feeds it
        reader._pieces = deque([bytes(reader._buffer)] if reader._buffer else [])

    def feed_data(self, data: Any) -> None:
        self._pieces.append(data)
        self._wakeup_waiter()
        if not self._paused:
            self._transport.pause_reading()
            self._paused = True

    def at_eof(self) -> bool:
        return self._eof and not self._pieces

    async def read(self, n: int = -1) -> bytes:
        if self._exception is not None:
            raise self._exception
        if not self._pieces and not self._eof:
            await self._wait_for_data("read")  # goes on reading, if that was paused
        return self._pieces.popleft() if self._pieces else b""


class _SocketOpened:
    """An event for the connection: it is a WebSocket from here on."""


class _Connection(TCPServer):
    """A connection that is read by a `_Reader`, and ends when we end it, or when its client makes no progress.

    Behind a client that has left, Hypercorn waits for the next request as long as for one that has not: 70 clients a
    second were enough for 1,024 descriptors. And it waits without a limit for clients that read nothing.
    """

    _has_left = False
    _is_socket = False
    _admission: Admission | None = None
    _closed: asyncio.Future[None] | None = None
    _close_check: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        _Reader.take_over(self.reader)
        capacity = capacity_of(self.app)
        self._write_timeout_s = capacity.limits.write_timeout_s
        try:
            with capacity.admit_connection(*self._peer()) as self._admission:
                await super().run()
        except DropmillError as refused:
            await self._refuse(refused, capacity)
        except asyncio.CancelledError:
            # The server ends. `asyncio.streams` would log a traceback for each connection that ends as cancelled.
            return

    def _peer(self) -> tuple[str, int]:
        """Address of the client, and the number of the connection's descriptor."""
        peer = self.writer.get_extra_info("peername")
        socket = self.writer.get_extra_info("socket")
        address = client_address(str(peer[0]) if isinstance(peer, tuple) else None)
        return address, -1 if socket is None else socket.fileno()

    async def _refuse(self, error: DropmillError, capacity: Capacity) -> None:
        """Answer a connection that is one too many, whatever it may ask for."""
        head, body = _problem(error.status, error.title, error.detail, error.code)
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
        lines += [name + b": " + value for name, value in head]
        try:
            self.writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            if capacity.refusing < REFUSED_MAX and not capacity.is_short_of_descriptors():
                capacity.refusing += 1
                try:
                    with contextlib.suppress(OSError, RuntimeError, TimeoutError):
                        if not self._is_tls:
                            self.writer.write_eof()
                        async with asyncio.timeout(DRAIN_BODY_S):
                            while not self.reader.at_eof():
                                await self.reader.read()
                finally:
                    capacity.refusing -= 1
        finally:
            self.writer.transport.abort()
            await self._close()

    async def _read_data(self) -> None:
        await super()._read_data()
        self._has_left = True
        if self._is_socket:
            self.writer.transport.abort()  # whoever ends a socket without a close reads nothing more
        await self.idle_task.stop()

    async def protocol_send(self, event: Any) -> None:
        if isinstance(event, _SocketOpened):
            self._is_socket = True
            if self._admission is not None:
                self._admission.release()  # sockets have limits of their own
        elif isinstance(event, RawData):
            async with self.send_lock:
                try:
                    self.writer.write(event.data)
                    await self._drain()
                except (ConnectionError, RuntimeError):
                    await self.protocol.handle(Closed())
        elif isinstance(event, Closed):
            self._begin_close()
        elif not (self._has_left and isinstance(event, Updated) and event.idle):
            await super().protocol_send(event)

    async def _drain(self) -> None:
        """Wait until there is room for more.

        Raises:
            ConnectionError: the connection is over; also if the client has read nothing for the write timeout.
        """
        progress = _Progress(self._write_timeout_s)
        while True:
            try:
                async with asyncio.timeout(self._write_timeout_s / CHECKS_PER_TIMEOUT):
                    return await self.writer.drain()
            except TimeoutError:
                if progress.has_stalled(self._unsent()):
                    self.writer.transport.abort()
                    raise ConnectionAbortedError("the client reads nothing") from None

    def _unsent(self) -> tuple[int, int]:
        """Bytes that wait here, and in the kernel until the client acknowledges them."""
        transport = self.writer.transport
        socket = self.writer.get_extra_info("socket")
        try:
            answer = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4))
            in_kernel = struct.unpack("i", answer)[0]
        except (AttributeError, OSError, ValueError):  # closed, or a system that does not tell
            in_kernel = 0
        return transport.get_write_buffer_size(), in_kernel

    # closing

    async def _close(self) -> None:
        """Close the connection, and return when that has happened: what was written is sent first, if the client reads.

        `run` alone awaits this. Its cancelling cuts the connection: the server ends.
        """
        self._begin_close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self.writer.transport.abort()
        if self._closed is None:
            self._closed = asyncio.ensure_future(self.writer.wait_closed())
        try:
            await asyncio.wait((self._closed,))
        except asyncio.CancelledError:  # swallowed, as the method that this replaces does
            self.writer.transport.abort()
        finally:
            if self._closed.done() and not self._closed.cancelled():
                self._closed.exception()
            if self._close_check is not None:
                self._close_check.cancel()
            await self.idle_task.stop()

    async def _initiate_server_close(self) -> None:
        await self.protocol.handle(Closed())
        self._begin_close()

    def _begin_close(self) -> None:
        # Once: asyncio's TLS connections cannot be aborted any more after they were closed a second time.
        if self._close_check is not None:
            return
        transport = self.writer.transport
        if not transport.is_closing():
            with contextlib.suppress(NotImplementedError, OSError, RuntimeError):
                if not self._is_tls:
                    self.writer.write_eof()
            self.writer.close()
        limit_s = DRAIN_BODY_S if self._is_socket else self._write_timeout_s
        step_s = min(TLS_CLOSE_TIMEOUT_S, limit_s / CHECKS_PER_TIMEOUT)
        self._check_close(_Progress(limit_s), step_s, is_first=True)

    def _check_close(self, progress: "_Progress", step_s: float, *, is_first: bool = False) -> None:
        """Cut the connection if all is sent, and the client does not close, or if it has stopped reading."""
        unsent = self._unsent()
        if progress.has_stalled(unsent) or (self._is_tls and not unsent[0] and not is_first):
            self.writer.transport.abort()
        else:
            self._close_check = self.loop.call_later(step_s, self._check_close, progress, step_s)

    @property
    def _is_tls(self) -> bool:
        return self.writer.get_extra_info("sslcontext") is not None


class _Progress:
    """Whether a client goes on reading what is sent."""

    def __init__(self, limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._unsent: tuple[int, int] | None = None
        self._since = 0.0

    def has_stalled(self, unsent: tuple[int, int]) -> bool:
        """Whether nothing was read for the limit; to be asked now and then."""
        now = self._loop.time()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        return now - self._since >= self._limit_s


# --- HTTP ------------------------------------------------------------------------------------------------------------


class _RequestStream(HTTPStream):
    """A request whose application says when its body is wanted."""

    async def take_body(self, data: bytes, *, is_last: bool) -> None:
        """More of the body; `data` is empty only at its end."""
        if not self.closed:
            await self.app_put({"type": "http.request", "body": data, "more_body": not is_last})

    async def wait_taken(self) -> None:
        """Return when the application has taken what came before."""
        if not self.closed:
            await self.app_put({"type": "http.request", "body": b"", "more_body": True})

    async def app_send(self, message: Any) -> None:
        if message is None:
            await super().app_send(message)
        elif self.closed:
            await asyncio.sleep(0)  # nobody is there; the handler is being told, which needs its turn
        elif message["type"] != SEND_BODY:
            await super().app_send(message)
        elif self.state is ASGIHTTPState.REQUEST:
            await self.send(Response(stream_id=self.stream_id, headers=[], status_code=HTTPStatus.CONTINUE))

    async def _send_error_response(self, status_code: int) -> None:
        await _answer_without_app(self, status_code)
        self.state = ASGIHTTPState.CLOSED


class _SocketStream(WSStream):
    """A socket whose frames are read a few at a time, and no longer than somebody wants them.

    One that Hypercorn refuses is ended, for the app and for the client; it only answers 400.
    """

    _unwanted = 0

    async def handle(self, event: Event) -> None:
        if isinstance(event, Data) and self.handshake.accepted:
            await self._read_frames(event.data)
        else:
            await self._handle_otherwise(event)

    async def _read_frames(self, data: bytes) -> None:
        for begin in range(0, len(data), FRAMES_PIECE):
            if self.state is ASGIWebsocketState.CLOSED:  # the client's close is all that is still of interest
                self._unwanted += FRAMES_PIECE
            if self.closed or self._unwanted > UNWANTED_MAX:
                return
            await super().handle(Data(stream_id=self.stream_id, data=data[begin : begin + FRAMES_PIECE]))
            await asyncio.sleep(0)  # frames to which nobody listens would be read in one go

    async def _handle_otherwise(self, event: Event) -> None:
        was_closed = self.closed
        await super().handle(event)
        if self.closed and not was_closed and not isinstance(event, StreamClosed):
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": 1006})
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        await _answer_without_app(self, status_code)


async def _answer_without_app(stream: HTTPStream | WSStream, status: int) -> None:
    """Answer a request whose application gave no answer, or was not asked."""
    method = str(stream.scope.get("method", "GET"))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        if stream.context.terminated.is_set():
            status = HTTPStatus.SERVICE_UNAVAILABLE
        else:
            log.error("%s %r ended without an answer", method, stream.scope["path"])
    head, body = _problem(status)
    await stream.send(Response(stream_id=stream.stream_id, headers=head, status_code=status))
    if not suppress_body(method, status):
        await stream.send(Body(stream_id=stream.stream_id, data=body))
    await stream.send(EndBody(stream_id=stream.stream_id))


class _MessageBuffer(WebsocketBuffer):
    """A message on its way in. Of one over the limit nothing is kept; Hypercorn keeps all that goes on coming."""

    def extend(self, event: Message[Any]) -> None:
        self.length += len(event.data)
        if self.length > self.max_length:
            self.value = None
            raise FrameTooLargeError
        self.length -= len(event.data)
        super().extend(event)


_NO_MORE_REQUESTS = (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)


class _Http1Protocol(H11Protocol):
    """HTTP/1.1 that stays HTTP/1.1: Hypercorn turns to HTTP/2 when a client begins with it, or asks to upgrade.

    Large pieces inside a body of known length go past h11, which would copy them four times to say what they are.
    Small pieces that are there at once are handed over as one.
    """

    _is_over = False

    async def handle(self, event: Any) -> None:
        if isinstance(event, RawData):
            await self._receive(event.data)
            return
        self._is_over = self._is_over or isinstance(event, Closed)
        await super().handle(event)
        await self.can_read.set()  # whoever waits for the end of the exchange, to parse the next request

    async def _receive(self, data: bytes) -> None:
        if self._is_over:
            return
        stream = self.stream
        if len(data) > HEAD_PIECE and isinstance(stream, _RequestStream) and self._is_inside_body(data):
            await stream.take_body(data, is_last=False)
            # Waits until that was taken, so that one piece fewer waits: 25 MiB for 100 uploads, 3 % CPU.
            await stream.wait_taken()
            return
        # h11 limits heads by what it is given at once.
        for begin in range(0, len(data), HEAD_PIECE):
            if self.connection.their_state in _NO_MORE_REQUESTS:
                return
            self.connection.receive_data(data[begin : begin + HEAD_PIECE] if len(data) > HEAD_PIECE else data)
            await self._handle_events()

    def _is_inside_body(self, data: bytes) -> bool:
        """Whether h11 needs not see this; it is told how much it was."""
        connection: Any = self.connection
        if not isinstance(connection, h11.Connection) or connection.their_state is not h11.SEND_BODY:
            return False
        reader: Any = connection._reader
        if (
            not isinstance(reader, ContentLengthReader)
            or len(data) >= reader._remaining
            or connection._receive_buffer
            or connection.they_are_waiting_for_100_continue
        ):
            return False
        reader._remaining -= len(data)
        return True

    async def _handle_events(self) -> None:
        """Pass on what h11 has found.

        In place of Hypercorn's, which hands over each chunk separately, and asks every client for its body before the
        app has seen the request.
        """
        pieces: list[bytes] = []
        while not self._is_over and self.connection.their_state not in _NO_MORE_REQUESTS:
            event: Any
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                event = error
            if isinstance(event, h11.Data):
                pieces.append(event.data)
                if len(pieces) % CHUNKS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
                continue
            if pieces:
                await self._take_body(b"".join(pieces), is_last=isinstance(event, h11.EndOfMessage))
                pieces.clear()
            elif isinstance(event, h11.EndOfMessage):
                await self._take_body(b"", is_last=True)
            if event is h11.NEED_DATA or not await self._handle_event(event):
                return

    async def _take_body(self, data: bytes, *, is_last: bool) -> None:
        if isinstance(self.stream, _RequestStream):
            await self.stream.take_body(data, is_last=is_last)

    async def _handle_event(self, event: Any) -> bool:
        """Act on an event that is no part of a body; returns whether there may be more."""
        if isinstance(event, h11.RemoteProtocolError):
            if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                await self._send_error_response(event.error_status_hint)
            await self.send(Closed())
            return False
        if isinstance(event, h11.Request):
            await self.send(Updated(idle=False))
            await self._create_stream(event)
        elif event is h11.PAUSED:
            await self.can_read.clear()
            await self.can_read.wait()
        elif isinstance(event, Data):
            if self.stream is None:
                return False
            await self.stream.handle(event)
        return not isinstance(event, h11.ConnectionClosed)

    async def stream_send(self, event: Any) -> None:
        if isinstance(event, Response) and event.status_code == HTTPStatus.CONTINUE:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=event.status_code, headers=[]))
            return
        if isinstance(event, Response) and event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            await self.send(_SocketOpened())  # type: ignore[arg-type]
        await super().stream_send(event)

    async def _maybe_recycle(self) -> None:
        is_kept = self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE
        self._is_over = self._is_over or not is_kept or self.context.terminated.is_set()
        await super()._maybe_recycle()

    async def _send_error_response(self, status_code: int) -> None:
        head, body = _problem(status_code)
        await self._send_h11_event(h11.Response(status_code=status_code, headers=head))
        scope = getattr(self.stream, "scope", {})
        if not suppress_body(scope.get("method", "GET"), status_code):
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


_DETAILS = {
    400: "The request is not HTTP/1.1 as RFC 9112 has it.",
    403: "The socket was refused.",
    431: "The head of the request is too large.",
    500: "Something went wrong inside Dropmill; its own log has more.",
    501: "The request uses a coding that this server does not know.",
    503: "The server is stopping; try again in a moment.",
}


def _problem(
    status: int, title: str | None = None, detail: str | None = None, code: str | None = None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an answer that no application gave; the connection ends with it."""
    title = title or ("Internal error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus(status).phrase)
    code = code or _CODES.get(status) or HTTPStatus(status).name.lower()
    body = problem_document(status, title, detail or _DETAILS.get(status, title + "."), code, {}).encode()
    headers = HEADERS | {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = "5"
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()], body


_CODES = {500: "internal_error", 503: "unavailable"}


def patch_hypercorn() -> None:
    """Change how the Hypercorn of this process treats connections, however it was started.

    It always accepts permessage-deflate (a 1 MiB message inflated to 1 GiB before its size was checked), keeps the
    bytes of a message that is too large, and forgets a handler whose client wrote before the socket was open. It tells
    a client that asks first to send its body, whatever the app will say to it.

    It hands a body over in pieces of 64 KiB, copied eight times, of which ten may wait. Without that an upload takes
    1.7 instead of 2.4 CPU seconds a GiB (1.5 instead of 2.1 without a form), SHA-256 and writing included.

    Its HTTP/2 lets a client send 64 KiB of a body and then wait for a round trip, without a setting to widen that, and
    one slow body holds up all others of its connection. Browsers choose HTTP/2 by themselves; so it is not offered.
    """
    hypercorn.asyncio.run.TCPServer = _Connection  # type: ignore[attr-defined]
    hypercorn.asyncio.tcp_server.TaskGroup = _TaskGroup  # type: ignore[attr-defined]
    Config.alpn_protocols = ["http/1.1"]
    Config.max_app_queue_size = 1
    hypercorn.protocol.H11Protocol = _Http1Protocol  # type: ignore[attr-defined]
    hypercorn.protocol.ws_stream.server_extensions_handshake = lambda requested, supported: None  # type: ignore[attr-defined]
    hypercorn.protocol.ws_stream.WebsocketBuffer = _MessageBuffer  # type: ignore[misc]
    hypercorn.protocol.h11.HTTPStream = _RequestStream  # type: ignore[attr-defined]
    hypercorn.protocol.h11.WSStream = _SocketStream  # type: ignore[attr-defined]
