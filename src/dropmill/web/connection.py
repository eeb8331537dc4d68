"""What the server and the framework leave open at the level of one connection.

- `BoundedBody`: Quart reads a request's body as fast as it comes, whatever the handler does with it (1 GiB into a slow
  handler took 1.1 GiB of memory). Here reading stops while more than `UNREAD_MAX` bytes wait to be taken.
- `HttpConnection`: the above, and what is still to come of a body is read past once the answer is known, for a while,
  so that a client that only looks for an answer after writing gets it.
- `WebSocketConnection`: incoming messages are bounded and typed; Quart's queue has no end.
- `drop_compression`: Hypercorn always accepts permessage-deflate, and a 1 MiB message inflated to 1 GiB before its
  size was checked.

Written against Quart 0.22 and Hypercorn 0.18; `tests/web/test_connection.py` fails when these change beneath us.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Generator
from typing import Any

import hypercorn.protocol.ws_stream
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
from quart import Quart, Request
from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
from quart.wrappers.request import Body

UNREAD_MAX = 512 * 1024
"""Bytes of one body that may wait unread. Measured: 512 KiB is as fast as any; 1 MiB and more are slower and unstable
(TCP zero-window stalls)."""

LINGER_S = 2.0
"""How long the rest of a body is read past after the answer; closing at once resets the connection, and the client
loses the answer with it."""

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

    async def __anext__(self) -> bytes:
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
        yield from self._complete.wait().__await__()
        return b"".join(self._chunks)

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
                return

    async def handle_request(self, request: Request, send: ASGISendCallable) -> None:
        body: BoundedBody = request.body  # type: ignore[assignment]  # see above

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

        await super().handle_request(request, send_then_linger)


class WebSocketConnection(ASGIWebsocketConnection):
    """One socket. Messages wait in a bounded queue; a flood and an over-long or binary message end the connection."""

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self.queue: asyncio.Queue[str] = asyncio.Queue(INCOMING_MAX)
        self._send: ASGISendCallable | None = None

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self._send = send
        await super().__call__(receive, send)

    async def handle_messages(self, receive: ASGIReceiveCallable) -> None:
        while True:
            event = await receive()
            if event["type"] == "websocket.receive":
                text = event.get("text")
                if text is None:
                    await self._end(WS_BAD, "Messages are JSON text.")
                    return
                try:
                    self.queue.put_nowait(text)
                except asyncio.QueueFull:
                    await self._end(WS_FLOOD, "Too many messages at once.")
                    return
            elif event["type"] == "websocket.disconnect":
                return

    async def _end(self, code: int, reason: str) -> None:
        if self._send is not None and self._accepted and not self._closed:
            await self.close_connection(self._send, code, reason)


def drop_compression() -> None:
    """Make Hypercorn decline permessage-deflate, in this process, however it was started."""
    hypercorn.protocol.ws_stream.server_extensions_handshake = lambda requested, supported: None  # type: ignore[attr-defined]


def install(app: Quart) -> None:
    """Give an app these connections."""
    drop_compression()
    app.request_class = BoundedRequest
    app.asgi_http_class = HttpConnection
    app.asgi_websocket_class = WebSocketConnection
    # Bytes are counted where they arrive; a limit here is not enforced on chunked bodies. Slow bodies have an idle
    # limit of our own, and downloads may take as long as they take.
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
