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

FRAMES_PIECE = 4096  # bytes of a WebSocket that are read before others have their turn: 20 ms at worst
UNWANTED_MAX = 64 * 1024  # bytes that are read of a WebSocket after its close; the rest is dropped unread


class SocketOpened:
    """An event for the connection: it is a WebSocket from here on."""


class SocketStream(WSStream):
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
        await answer_without_app(self, status_code)


class MessageBuffer(WebsocketBuffer):
    """A message on its way in. Of one over the limit nothing is kept; Hypercorn keeps all that goes on coming."""

    def extend(self, event: Message[Any]) -> None:
        self.length += len(event.data)
        if self.length > self.max_length:
            self.value = None
            raise FrameTooLargeError
        self.length -= len(event.data)
        super().extend(event)
