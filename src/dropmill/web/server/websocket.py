"""One WebSocket as the application sees it.

Quart's queue of incoming messages has no bound, and Quart leaves the handler running when the client has closed. It
keeps the handshake's request and contexts as long as the socket, unless the handler returns and hands the socket on.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
from quart import Quart, websocket
from quart.asgi import ASGIWebsocketConnection

from dropmill.web.server.capacity import Admission
from dropmill.web.server.forwarding import target_path
from dropmill.web.server.mailbox import Mailbox
from dropmill.web.server.tcp import DRAIN_BODY_S

CLOSE_TIMEOUT_S = 1.0  # for sending the close; a client that reads nothing delays us no longer

INCOMING_MAX = 256  # unhandled messages of one socket; more is a flood

WS_NORMAL = 1000
WS_FLOOD = 4429
WS_BAD = 4400


def text_frame(text: bytes) -> bytes:
    """The whole frame of a text message (RFC 6455, section 5.2).

    What a server sends is not masked, so nothing in it belongs to one socket.
    """
    size = len(text)
    if size < 126:
        head = bytes([0x81, size])
    elif size < 65536:
        head = b"\x81\x7e" + size.to_bytes(2)
    else:
        head = b"\x81\x7f" + size.to_bytes(8)
    return head + text


async def until_either_ends(handling: Coroutine[Any, Any, None], receiving: Coroutine[Any, Any, None]) -> None:
    """Run a handler and the task that receives its messages until either ends, then end the other.

    Cancelling ends both; with Quart's own code they would go on running.
    """
    # In this order, so that the handler finds what has already arrived.
    tasks = [asyncio.create_task(receiving), asyncio.create_task(handling)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


SOCKET = "dropmill.socket"
"""Key of the scope: the `WebSocketConnection`."""


def current_socket() -> "WebSocketConnection":
    """The connection of the current handler of a socket."""
    scope: Any = websocket.scope
    found: WebSocketConnection = scope[SOCKET]
    return found


class WebSocketConnection(ASGIWebsocketConnection):
    """One socket. Messages wait in a bounded queue; a flood or a binary message ends the connection.

    Whichever side closes, the handler is cancelled first: it may be waiting for a client that does not read, and its
    unsent data would delay the close.

    A handler, which answers the handshake, may `admit` the socket, accept it, and `go_on` with a function that serves
    it by `receive`, `send` and `close`.
    """

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        scope["path"] = target_path(scope["path"])
        super().__init__(app, scope)
        kept: Any = scope
        kept[SOCKET] = self
        self.queue: Mailbox = Mailbox(INCOMING_MAX)  # type: ignore[assignment]  # Quart uses `get` only
        self._admission: Admission | None = None
        self._serve: Callable[[WebSocketConnection], Awaitable[None]] | None = None
        self._send: ASGISendCallable
        self._handling: asyncio.Task[None] | None = None
        self._end: tuple[int, str] | None = None
        self._over: asyncio.Event | None = None  # from the beginning of the end on

    def admit(self, admission: Admission) -> None:
        """Release this admission when the socket has ended."""
        self._admission = admission

    def go_on(self, serve: "Callable[[WebSocketConnection], Awaitable[None]]") -> None:
        """Have the accepted socket served by a function once the current handler returns.

        By then Quart has dropped the request and its contexts, which take 15 KiB: the function has none.

        Args:
            serve: the function; cancelled when either side closes.
        """
        self._serve = serve
        self._closed = True  # otherwise Quart would close it when the handler returns

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve it."""
        self._send = send
        # In this order, so that the handler finds what has already arrived.
        receiving = asyncio.create_task(self.handle_messages(receive))
        self._handling = handling = asyncio.create_task(self._handle(send))
        try:
            await asyncio.wait((receiving, handling), return_when=asyncio.FIRST_COMPLETED)
            handling.cancel()
            await asyncio.wait((handling,))
            if not handling.cancelled():
                handling.result()
            if not receiving.done():
                await self._close(receiving, send)
        finally:
            self._over = self._over or asyncio.Event()
            self._over.set()
            if self._admission is not None:
                self._admission.release()
            for task in (receiving, handling):
                task.cancel()
            await asyncio.wait((receiving, handling))
        if not receiving.cancelled():
            receiving.result()

    async def _handle(self, send: ASGISendCallable) -> None:
        """Run the handler, and what it goes on with."""
        await self.handle_websocket(self._create_websocket_from_scope(send), send)
        serve, self._serve = self._serve, None
        if serve is not None:
            self._closed = False
            self.scope["headers"] = []
            await serve(self)
            await super().close_connection(send, WS_NORMAL, "")

    async def _close(self, receiving: "asyncio.Task[None]", send: ASGISendCallable) -> None:
        """Send the close that somebody has asked for, then read on for a while, until the client answers."""
        if self._end is not None:
            with contextlib.suppress(TimeoutError):  # the close waits behind data that the client does not read
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await super().close_connection(send, *self._end)
        if self._over is not None:
            self._over.set()
        if self._accepted:
            await asyncio.wait((receiving,), timeout=DRAIN_BODY_S)

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
            elif self.queue.is_full:
                self._begin_end(WS_FLOOD, "Too many messages at once.")
            else:
                self.queue.put(text)

    async def receive(self) -> str:
        """The next message of the client. Cancelling loses none."""
        text: str = await self.queue.get()
        return text

    async def send(self, frame: bytes) -> None:
        """Send a whole frame; waits while the client is slow, and until the end once the close has begun."""
        if self._over is not None:
            await self._over.wait()
        else:
            message: Any = {"type": "websocket.send", "frame": frame}
            await self._send(message)

    async def close(self, code: int, reason: str) -> None:
        """End what serves the socket, and close it; returns when the close is sent, or given up."""
        await self._begin_end(code, reason).wait()

    async def send_data(self, send: ASGISendCallable, data: str | bytes) -> None:
        if self._over is not None:
            await self._over.wait()
        else:
            await super().send_data(send, data)

    async def close_connection(self, send: ASGISendCallable, code: int, reason: str) -> None:
        await self.close(code, reason)

    def _begin_end(self, code: int, reason: str) -> asyncio.Event:
        """End the handler, then close; returns what is set once the close is sent, or given up."""
        if self._over is None:
            self._end = code, reason
            self._over = asyncio.Event()
            if self._handling is not None:
                self._handling.cancel()
        return self._over
