"""What Quart leaves open between one request and its handler.

- `BoundedBody`: Quart reads a request's body as fast as it comes, whatever the handler does with it (1 GiB into a slow
  handler took 1.1 GiB of memory). Here reading stops while more than `UNREAD_MAX` bytes wait to be taken.
- `HttpConnection`: the above, and an answer before the whole body has come ends the connection: where the next request
  begins is then nobody's knowledge. The rest of the body is read for a while, so that a client that only looks for an
  answer after writing gets it. A change whose request has come whole is made even if the client has left. For
  `Expect: 100-continue`, 100 is sent only when a handler starts reading the body.
- `WebSocketConnection`: incoming messages are bounded and typed, Quart's queue has no end; and whoever closes, the
  handler ends, and the client has a while to answer.

Written against Quart 0.22; `tests/web/server/test_connection.py` fails when it changes beneath us.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, WebsocketScope
from quart import Quart, Request, Websocket
from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
from quart.wrappers.request import Body

from dropmill.web.server import capacity
from dropmill.web.server.capacity import Capacity
from dropmill.web.server.forwarding import target_path
from dropmill.web.server.hypercorn import DRAIN_BODY_S, SEND_BODY, patch_hypercorn

UNREAD_MAX = 128 * 1024
"""Bytes of one body from which on no more are taken: one piece, as a rule. Measured: 512 KiB is no faster and takes
50 MiB more for 100 uploads; 1 MiB and more are slower and unstable (TCP zero-window stalls)."""

CLOSE_TIMEOUT_S = 1.0  # for the close itself; a client that reads nothing does not hold us up longer

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


async def _both(handling: Coroutine[Any, Any, None], receiving: Coroutine[Any, Any, None]) -> None:
    """Run a handler and what receives its messages until either ends, then end the other.

    Cancelling ends both. Quart's own way leaves them running then.
    """
    tasks = [asyncio.create_task(receiving), asyncio.create_task(handling)]  # what has come already is there at once
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


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

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve it."""
        request = self._create_request_from_scope(send)
        await _both(self.handle_request(request, send), self.handle_messages(request, receive))

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
            is_end = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                if not body.is_complete:
                    # The client may leave out the rest, or not: what follows may be a request, or bytes of the body.
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                # From here on nobody reads the body. Were it left bounded, the server could not even tell us that
                # the exchange is over: its queue to us would be full.
                body.discard()
            elif is_end and not body.is_complete:
                # The client gets the whole answer at once. Only the end of the exchange waits: a client may go on
                # sending before it looks, even if it was not told to, and would lose the answer to a reset.
                content: Any = {**message, "more_body": True}
                await send(content)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_BODY_S):
                        await body.wait_complete()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
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

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve it."""
        websocket = self._create_websocket_from_scope(send)
        await _both(self.handle_websocket(websocket, send), self.handle_messages(receive))

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
            await asyncio.sleep(DRAIN_BODY_S)  # cut short by the client's answer, which ends `handle_messages`

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


def install(app: Quart, allowed: Capacity | None = None) -> None:
    """Give an app these connections.

    Args:
        app: the app.
        allowed: how many of them there may be, and how long each may take; None for the default limits.
    """
    patch_hypercorn()
    capacity.install(app, allowed or Capacity())
    app.request_class = BoundedRequest
    app.asgi_http_class = HttpConnection
    app.asgi_websocket_class = WebSocketConnection
    # Bytes are counted where they arrive; a limit here is not enforced on chunked bodies. Slow bodies have an idle
    # limit of our own, and downloads may take as long as their client goes on reading.
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
