"""One WebSocket as the application sees it.

Quart's queue of incoming messages has no bound, and Quart leaves the handler running when the client has closed.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
from quart import Quart, Websocket
from quart.asgi import ASGIWebsocketConnection

from dropmill.web.server.forwarding import target_path
from dropmill.web.server.tcp import DRAIN_BODY_S

CLOSE_TIMEOUT_S = 1.0  # for sending the close; a client that reads nothing delays us no longer

INCOMING_MAX = 256  # unhandled messages of one socket; more is a flood

WS_FLOOD = 4429
WS_BAD = 4400


class Frame(bytes):
    """A whole frame as it goes over the network (RFC 6455, section 5.2): the same for every socket."""


def text_frame(text: bytes) -> Frame:
    """The frame of a text message. What a server sends is not masked, so nothing in it belongs to one socket."""
    size = len(text)
    if size < 126:
        head = bytes([0x81, size])
    elif size < 65536:
        head = b"\x81\x7e" + size.to_bytes(2)
    else:
        head = b"\x81\x7f" + size.to_bytes(8)
    return Frame(head + text)


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


class WebSocketConnection(ASGIWebsocketConnection):
    """One socket. Messages wait in a bounded queue; a flood or a binary message ends the connection.

    Whichever side closes, the handler is cancelled first: it may be waiting for a client that does not read, and its
    unsent data would delay the close.
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
        await until_either_ends(self.handle_websocket(websocket, send), self.handle_messages(receive))

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
                with contextlib.suppress(TimeoutError):  # the close waits behind data that the client does not read
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
                        await super().close_connection(send, *self._end)
        finally:
            self._is_over.set()
        if self._accepted:
            await asyncio.sleep(DRAIN_BODY_S)  # ends early with the client's answer, which ends `handle_messages`

    async def send_data(self, send: ASGISendCallable, data: str | bytes) -> None:
        if self._end is not None:
            await self._is_over.wait()
        elif isinstance(data, Frame):
            message: Any = {"type": "websocket.send", "frame": data}
            await send(message)
        else:
            await super().send_data(send, data)

    async def close_connection(self, send: ASGISendCallable, code: int, reason: str) -> None:
        self._begin_end(code, reason)
        await self._is_over.wait()

    def _begin_end(self, code: int, reason: str) -> None:
        if self._end is None:
            self._end = code, reason
            self._is_ending.set()
