"""Connections that a request has turned into WebSockets, as Hypercorn serves them.

Frames are read in small pieces, a message over the limit keeps no memory, and a socket that Hypercorn refuses ends for
the application and for the client. What the application sees of a socket is in `dropmill.web.server.websocket`.
"""

import asyncio
from typing import Any

from hypercorn.protocol.events import Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WebsocketBuffer, WSStream
from wsproto.events import Message

from dropmill.web.server.refusal import answer_without_app

FRAMES_PIECE = 4096  # bytes of a WebSocket that are read before other tasks run: 20 ms at worst
UNWANTED_MAX = 64 * 1024  # bytes read of a WebSocket after its close; the rest stays unread


class SocketOpened:
    """An event for the connection: from now on it is a WebSocket."""


class SocketStream(WSStream):
    """A socket whose frames are read a few at a time, and not read after its close. It takes whole frames to send.

    Hypercorn answers a bad handshake with 400 and does no more; here the socket also ends for app and client.
    """

    _unwanted = 0

    async def handle(self, event: Event) -> None:
        if isinstance(event, Data) and self.handshake.accepted:
            await self._read_frames(event.data)
        else:
            await self._handle_otherwise(event)

    async def app_send(self, message: Any) -> None:
        frame = None if message is None else message.get("frame")
        if frame is None:
            await super().app_send(message)
            if self.handshake.accepted:
                self.scope["headers"] = []  # kept as long as the socket
        elif not self.closed and self.state is ASGIWebsocketState.CONNECTED:
            await self.send(Data(stream_id=self.stream_id, data=frame))

    async def _read_frames(self, data: bytes) -> None:
        for begin in range(0, len(data), FRAMES_PIECE):
            if self.state is ASGIWebsocketState.CLOSED:  # only the client's close matters now
                self._unwanted += FRAMES_PIECE
            if self.closed or self._unwanted > UNWANTED_MAX:
                return
            await super().handle(Data(stream_id=self.stream_id, data=data[begin : begin + FRAMES_PIECE]))
            await asyncio.sleep(0)  # otherwise unwanted frames would be read in one go

    async def _handle_otherwise(self, event: Event) -> None:
        was_closed = self.closed
        await super().handle(event)
        if self.closed and not was_closed and not isinstance(event, StreamClosed):
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": 1006})
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_error_response(self, status_code: int) -> None:
        await answer_without_app(self, status_code)


class MessageBuffer(WebsocketBuffer):
    """An incoming message. One over the limit is dropped; Hypercorn would keep all its further frames."""

    def extend(self, event: Message[Any]) -> None:
        self.length += len(event.data)
        if self.length > self.max_length:
            self.value = None
            raise FrameTooLargeError
        self.length -= len(event.data)
        super().extend(event)
