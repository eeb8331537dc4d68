"""What the server and the framework leave open at the level of one connection.

- `BoundedBody`: Quart reads a request's body as fast as it comes, whatever the handler does with it (1 GiB into a slow
  handler took 1.1 GiB of memory). Here reading stops while more than `UNREAD_MAX` bytes wait to be taken.
- `HttpConnection`: the above, and what is still to come of a body is read past once the answer is known, for a while,
  so that a client that only looks for an answer after writing gets it. A change whose request has come whole is made
  even if the client has left. One that asks whether to send its body at all
  (`Expect: 100-continue`) is told to when somebody takes it, not before.
- `WebSocketConnection`: incoming messages are bounded and typed, Quart's queue has no end; and whoever closes, the
  handler ends, and the client has a while to answer.
- `mend_hypercorn`: what it does with sockets, with each byte of a body, and HTTP/2, and leaves no setting for.

Written against Quart 0.22 and Hypercorn 0.18; `tests/web/test_connection.py` fails when these change beneath us.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import h11
import hypercorn.asyncio.run
import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
from h11._readers import ContentLengthReader
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.events import Event, Response, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, WebsocketScope
from quart import Quart, Request, Websocket
from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
from quart.wrappers.request import Body
from wsproto.events import Message

UNREAD_MAX = 128 * 1024
"""Bytes of one body from which on no more are taken: one piece, as a rule. Measured: 512 KiB is no faster and takes
50 MiB more for 100 uploads; 1 MiB and more are slower and unstable (TCP zero-window stalls)."""

HEAD_PIECE = 64 * 1024  # bytes that h11 is given at once

LINGER_S = 2.0
"""How long the rest of a body is read past after the answer, and a socket after its close; ending the connection at
once would reset it, and the client would lose with it what it was told."""

FAREWELL_S = 1.0  # of a TLS connection that has nothing left to send

CLOSE_TIMEOUT_S = 1.0  # for the close itself; a client that reads nothing does not hold us up longer

SEND_BODY = "dropmill.http.continue"
"""A message to the server of our own: tell the client to send its body (RFC 9110, section 10.1.1)."""

INCOMING_MAX = 256  # messages of one socket that wait to be handled; more is a flood

WS_FLOOD = 4429
WS_BAD = 4400


class BoundedBody(Body):
    """A request's body as chunks, with room for `UNREAD_MAX` bytes before the connection is left unread."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._room = asyncio.Event()
        self._room.set()
        self._is_bounded = True
        self._is_discarded = False
        self.ask: Callable[[], Awaitable[None]] | None = None
        """Asks the client to send; None once that has happened, or if the client does not wait for it."""

    async def __anext__(self) -> bytes:
        await self._ask_once()
        while not self._chunks:
            if self._complete.is_set():
                raise StopAsyncIteration
            self._has_data.clear()
            await self._has_data.wait()
        chunk = self._chunks.popleft()
        self._unread -= len(chunk)
        if self._unread < UNREAD_MAX:
            self._room.set()
        return chunk

    def __await__(self) -> Generator[Any, None, Any]:
        # Whoever wants the whole body at once would wait for ever behind a bound.
        self._is_bounded = False
        self._room.set()
        yield from self._ask_once().__await__()
        yield from self._complete.wait().__await__()
        return b"".join(self._chunks)

    async def _ask_once(self) -> None:
        ask, self.ask = self.ask, None
        if ask is not None:
            await ask()

    def append(self, data: bytes) -> None:
        if not data or self._is_discarded:
            return
        self._chunks.append(data)
        self._unread += len(data)
        if self._is_bounded and self._unread >= UNREAD_MAX:
            self._room.clear()
        self._has_data.set()

    def clear(self) -> None:
        self._chunks.clear()
        self._unread = 0

    @property
    def is_complete(self) -> bool:
        """Whether the last byte has arrived."""
        return self._complete.is_set()

    async def wait_for_room(self) -> None:
        """Return when more may be appended."""
        await self._room.wait()

    async def wait_complete(self) -> None:
        """Return when the last byte has arrived."""
        await self._complete.wait()

    def discard(self) -> None:
        """Nobody will take the rest: let it come and drop it."""
        self._is_discarded = True
        self._is_bounded = False
        self.clear()
        self._room.set()


class BoundedRequest(Request):
    """A request whose body is bounded."""

    body_class = BoundedBody
    body: BoundedBody


class HttpConnection(ASGIHTTPConnection):
    """One HTTP request and its answer."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        scope["path"] = target_path(scope["path"])
        super().__init__(app, scope)
        self._is_handled = asyncio.Event()

    async def handle_messages(self, request: Request, receive: ASGIReceiveCallable) -> None:
        body: BoundedBody = request.body  # type: ignore[assignment]  # request_class is BoundedRequest
        while True:
            await body.wait_for_room()
            message = await receive()
            if message["type"] == "http.request":
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    body.set_complete()
            elif message["type"] == "http.disconnect":
                if body.is_complete and request.method not in ("GET", "HEAD", "OPTIONS"):
                    await self._is_handled.wait()  # the handler is cancelled when we return
                return

    async def handle_request(self, request: Request, send: ASGISendCallable) -> None:
        body: BoundedBody = request.body  # type: ignore[assignment]  # see above
        if request.headers.get("Expect", "").lower() == "100-continue":
            body.ask = lambda: send({"type": SEND_BODY})  # type: ignore[misc,arg-type]

        async def send_then_linger(message: Any) -> None:
            if message["type"] == "http.response.start":
                # From here on nobody reads the body. Were it left bounded, the server could not even tell us that
                # the exchange is over: its queue to us would be full.
                body.discard()
            elif message["type"] == "http.response.body" and not message.get("more_body") and not body.is_complete:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await body.wait_complete()
            await send(message)

        try:
            await super().handle_request(request, send_then_linger)
        finally:
            self._is_handled.set()


class WebSocketConnection(ASGIWebsocketConnection):
    """One socket. Messages wait in a bounded queue; a flood and a binary message end the connection.

    Whoever closes it, the handler is cancelled first: it may be waiting for a client that does not read, and hold up
    the close with what it sends.
    """

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        scope["path"] = target_path(scope["path"])
        super().__init__(app, scope)
        self.queue: asyncio.Queue[str] = asyncio.Queue(INCOMING_MAX)
        self._end: tuple[int, str] | None = None
        self._is_ending = asyncio.Event()
        self._is_over = asyncio.Event()

    async def handle_messages(self, receive: ASGIReceiveCallable) -> None:
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            if event["type"] != "websocket.receive" or self._end is not None:
                continue
            text = event.get("text")
            if text is None:
                self._begin_end(WS_BAD, "Messages are JSON text.")
            elif self.queue.full():
                self._begin_end(WS_FLOOD, "Too many messages at once.")
            else:
                self.queue.put_nowait(text)

    async def handle_websocket(self, websocket: Websocket, send: ASGISendCallable) -> None:
        handling = asyncio.create_task(super().handle_websocket(websocket, send))
        ending = asyncio.create_task(self._is_ending.wait())
        try:
            try:
                await asyncio.wait((handling, ending), return_when=asyncio.FIRST_COMPLETED)
            finally:
                handling.cancel()
                ending.cancel()
                await asyncio.wait((handling, ending))
            if not handling.cancelled():
                handling.result()
            if self._end is not None:
                with contextlib.suppress(TimeoutError):  # it stands behind what the client does not read
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
                        await super().close_connection(send, *self._end)
        finally:
            self._is_over.set()
        if self._accepted:
            await asyncio.sleep(LINGER_S)  # cut short by the client's answer, which ends `handle_messages`

    async def send_data(self, send: ASGISendCallable, data: str | bytes) -> None:
        if self._end is not None:
            await self._is_over.wait()
        else:
            await super().send_data(send, data)

    async def close_connection(self, send: ASGISendCallable, code: int, reason: str) -> None:
        self._begin_end(code, reason)
        await self._is_over.wait()

    def _begin_end(self, code: int, reason: str) -> None:
        if self._end is None:
            self._end = code, reason
            self._is_ending.set()


def target_path(path: str) -> str:
    """The path of a request target in whatever form it came (RFC 9112, section 3.2)."""
    if path.startswith("/"):
        return path
    try:
        return urlsplit(path).path or "/"
    except ValueError:
        return "/" + path  # nothing is there


class _SocketStream(WSStream):
    """A socket that Hypercorn refuses by itself is ended, for the app and for the client; it only says 400."""

    async def handle(self, event: Event) -> None:
        was_closed = self.closed
        await super().handle(event)
        if self.closed and not was_closed and not isinstance(event, StreamClosed):
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": 1006})
            await self.send(StreamClosed(stream_id=self.stream_id))


class _RequestStream(HTTPStream):
    """A request whose app says when its body is wanted."""

    async def app_send(self, message: Any) -> None:
        if message is None or message["type"] != SEND_BODY:
            await super().app_send(message)
        elif self.state is ASGIHTTPState.REQUEST and not self.closed:
            await self.send(Response(stream_id=self.stream_id, headers=[], status_code=HTTPStatus.CONTINUE))


class _MessageBuffer(WebsocketBuffer):
    """A message on its way in. Of one over the limit nothing is kept; Hypercorn keeps all that goes on coming."""

    def extend(self, event: Message[Any]) -> None:
        self.length += len(event.data)
        if self.length > self.max_length:
            self.value = None
            raise FrameTooLargeError
        self.length -= len(event.data)
        super().extend(event)


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


class _Connection(TCPServer):
    """A connection that is read by a `_Reader`, and ends when we end it.

    Over TLS a client has 30 s to say its farewell, during which the server cannot stop, and one that says none ends in
    a traceback. Behind a client that has left, Hypercorn waits for the next request as long as for one that has not:
    70 clients a second were enough for 1,024 descriptors.
    """

    _has_left = False

    async def run(self) -> None:
        _Reader.take_over(self.reader)
        await super().run()

    async def _read_data(self) -> None:
        await super()._read_data()
        self._has_left = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Any) -> None:
        if not (self._has_left and isinstance(event, Updated) and event.idle):
            await super().protocol_send(event)

    async def _close(self) -> None:
        if not self._is_tls:
            await super()._close()
            return
        self._begin_farewell()
        try:
            await self.writer.wait_closed()
        except (OSError, asyncio.CancelledError):  # as the one this replaces: only the end of the process cancels here
            self.writer.transport.abort()
        finally:
            await self.idle_task.stop()

    async def _initiate_server_close(self) -> None:
        if self._is_tls:
            await self.protocol.handle(Closed())
            self._begin_farewell()
        else:
            await super()._initiate_server_close()

    @property
    def _is_tls(self) -> bool:
        return self.writer.get_extra_info("sslcontext") is not None

    def _begin_farewell(self) -> None:
        # Once: asyncio's TLS connections cannot be aborted any more after they were closed a second time.
        if not self.writer.transport.is_closing():
            self.writer.close()
            self.loop.call_later(FAREWELL_S, self._abort_if_flushed)

    def _abort_if_flushed(self) -> None:
        if self.writer.transport.get_write_buffer_size():
            self.loop.call_later(FAREWELL_S, self._abort_if_flushed)
        else:
            self.writer.transport.abort()


class _Http1Protocol(H11Protocol):
    """HTTP/1.1 that stays HTTP/1.1: Hypercorn turns to HTTP/2 when a client begins with it, or asks to upgrade.

    Large pieces inside a body of known length go past h11, which would copy them four times to say what they are.
    """

    async def handle(self, event: Any) -> None:
        stream = self.stream
        if not isinstance(event, RawData) or len(event.data) <= HEAD_PIECE:
            await super().handle(event)
        elif stream is not None and self._is_inside_body(event.data):
            await stream.handle(events.Body(stream_id=STREAM_ID, data=event.data))
            # Waits until that was taken, so that one piece fewer waits: 25 MiB for 100 uploads, 3 % CPU.
            await stream.handle(events.Body(stream_id=STREAM_ID, data=b""))
        else:
            # h11 limits heads by what it is given at once.
            for begin in range(0, len(event.data), HEAD_PIECE):
                await super().handle(RawData(event.data[begin : begin + HEAD_PIECE]))

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

    async def stream_send(self, event: Any) -> None:
        if not isinstance(event, Response) or event.status_code != HTTPStatus.CONTINUE:
            await super().stream_send(event)
        elif self.connection.they_are_waiting_for_100_continue:
            await super()._send_h11_event(h11.InformationalResponse(status_code=event.status_code, headers=[]))

    async def _send_h11_event(self, event: Any) -> None:
        # Hypercorn would tell every client to go on, before the app has seen the request.
        if not isinstance(event, h11.InformationalResponse) or event.status_code != HTTPStatus.CONTINUE:
            await super()._send_h11_event(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        return  # `Upgrade: h2c` may be ignored (RFC 9110, section 7.8); HTTP/2's preface is a request for nothing here


def mend_hypercorn() -> None:
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
    Config.alpn_protocols = ["http/1.1"]
    Config.max_app_queue_size = 1
    hypercorn.protocol.H11Protocol = _Http1Protocol  # type: ignore[attr-defined]
    hypercorn.protocol.ws_stream.server_extensions_handshake = lambda requested, supported: None  # type: ignore[attr-defined]
    hypercorn.protocol.ws_stream.WebsocketBuffer = _MessageBuffer  # type: ignore[misc]
    hypercorn.protocol.h11.HTTPStream = _RequestStream  # type: ignore[attr-defined]
    hypercorn.protocol.h11.WSStream = _SocketStream  # type: ignore[attr-defined]


def install(app: Quart) -> None:
    """Give an app these connections."""
    mend_hypercorn()
    app.request_class = BoundedRequest
    app.asgi_http_class = HttpConnection
    app.asgi_websocket_class = WebSocketConnection
    # Bytes are counted where they arrive; a limit here is not enforced on chunked bodies. Slow bodies have an idle
    # limit of our own, and downloads may take as long as they take.
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
