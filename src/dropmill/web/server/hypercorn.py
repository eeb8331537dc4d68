"""What we change in Hypercorn, between the TCP connection and the application.

- A message for a request's application task is dropped once that task has ended; Hypercorn would wait forever.
- A connection's socket is lent inside a large body: `dropmill.web.server.lending`.
- A connection ends: `dropmill.web.server.tcp`. One that is turned into a WebSocket: `dropmill.web.server.takeover`.
- Bytes after an early answer are never parsed as a request.
- Errors below the application are problem documents: `dropmill.web.server.refusal`.

Written against Hypercorn 0.18 and h11 0.16; `tests/web/server/test_connection.py` fails when their behaviour changes.
"""

import asyncio
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
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Data, Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.utils import suppress_body

from dropmill.web.server.lending import LOAN, PieceTaken, SocketLoan
from dropmill.web.server.mailbox import Mailbox
from dropmill.web.server.refusal import answer_without_app, headers_for, refusal
from dropmill.web.server.takeover import MessageBuffer, SocketOpened, SocketStream
from dropmill.web.server.tcp import TcpConnection

HEAD_PIECE = 64 * 1024  # bytes that h11 is given at once

CHUNKS_IN_A_ROW = 500  # that h11 reads before other tasks run: 5 ms if each has one byte

SEND_BODY = "dropmill.http.continue"
"""A message from the application to the server: send 100 Continue to the client (RFC 9110, section 10.1.1)."""


class _Inbox(Mailbox):
    """The messages for one application task. After `close`, `send` drops the message and returns.

    `close` also ends a loan of the connection that the application has, or will never get.
    """

    __slots__ = ("_is_closed", "_loan")

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._is_closed = False
        self._loan: SocketLoan | None = None

    async def send(self, message: Any) -> None:
        while self.is_full and not self._is_closed:
            await self.wait_for_room()
        loan = message.get(LOAN) if isinstance(message, dict) else None
        if not self._is_closed:
            self._loan = self._loan if loan is None else loan
            self.put(message)
        elif loan is not None:
            loan.end()

    def close(self) -> None:
        self._is_closed = True
        self.clear()
        if self._loan is not None:
            self._loan.end()


class _TaskGroup(TaskGroup):
    """The tasks of one connection. Once an application has ended, messages to it are dropped."""

    async def spawn_app(
        self, app: Any, config: Config, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        inbox = _Inbox(config.max_app_queue_size)

        async def run(*arguments: Any) -> None:
            # After this Hypercorn's part of the task sends a message to its own inbox.
            try:
                await app(*arguments)
            finally:
                inbox.close()

        running = self._task_group.create_task(_handle(run, config, scope, inbox.get, send, _no_threads, _no_threads))  # type: ignore[arg-type]
        running.add_done_callback(lambda _: inbox.close())  # it may be cancelled before it starts
        return inbox.send


def _no_threads(*_: Any) -> None:
    raise AssertionError("only WSGI applications run in threads")


class _RequestStream(HTTPStream):
    """A request whose application decides when the client should send the body."""

    async def take_body(self, data: bytes, *, is_last: bool) -> None:
        """More of the body; `data` is empty only at its end."""
        if not self.closed:
            await self.app_put({"type": "http.request", "body": data, "more_body": not is_last})

    async def wait_taken(self) -> None:
        """Return when the application has taken what came before."""
        if not self.closed:
            await self.app_put({"type": "http.request", "body": b"", "more_body": True})

    async def lend(self, loan: SocketLoan) -> None:
        """Offer the connection to the application; returns when the loan has ended."""
        if not self.closed:
            message: Any = {"type": "http.request", "body": b"", "more_body": True, LOAN: loan}
            await self.app_put(message)
            await loan.wait_ended()

    async def app_send(self, message: Any) -> None:
        if message is None:
            await super().app_send(message)
        elif self.closed:
            await asyncio.sleep(0)  # the client has left; give the handler's task its turn to notice
        elif message["type"] != SEND_BODY:
            await super().app_send(message)
        elif self.state is ASGIHTTPState.REQUEST:
            await self.send(Response(stream_id=self.stream_id, headers=[], status_code=HTTPStatus.CONTINUE))

    async def _send_error_response(self, status_code: int) -> None:
        await answer_without_app(self, status_code)
        self.state = ASGIHTTPState.CLOSED


_NO_MORE_REQUESTS = (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)


class _Http1Protocol(H11Protocol):
    """HTTP/1.1 only: Hypercorn would switch to HTTP/2 when a client begins with it or asks for an upgrade.

    Large pieces inside a body of known length bypass h11, which would copy them four times. Small pieces that arrive
    together are passed on as one. The head of an answer is sent together with the beginning of its body.
    """

    _is_over = False
    _head = b""  # of an answer, until its body begins
    _sending_head: asyncio.Future[None] | None = None

    async def handle(self, event: Any) -> None:
        if isinstance(event, RawData):
            await self._receive(event.data)
            return
        self._is_over = self._is_over or isinstance(event, Closed)
        await super().handle(event)
        await self.can_read.set()  # wakes the parser, which waits for the end of the exchange

    async def _receive(self, data: bytes) -> None:
        if self._is_over:
            return
        stream = self.stream
        reader = self._reader_of_body(data) if len(data) > HEAD_PIECE else None
        if reader is not None and isinstance(stream, _RequestStream):
            reader._remaining -= len(data)
            await stream.take_body(data, is_last=False)
            # Waits until the app has taken it, so that one piece fewer waits: 25 MiB less for 100 uploads, 3 % CPU.
            await stream.wait_taken()
            connection: Any = self.connection
            if connection.their_http_version == b"1.1":
                taken = PieceTaken(size=len(data), left=reader._remaining, offer=stream.lend)
                await self.send(taken)  # type: ignore[arg-type]
                reader._remaining -= taken.brought
            return
        # h11 limits a head by the size of the piece it gets.
        for begin in range(0, len(data), HEAD_PIECE):
            if self.connection.their_state in _NO_MORE_REQUESTS:
                return
            self.connection.receive_data(data[begin : begin + HEAD_PIECE] if len(data) > HEAD_PIECE else data)
            await self._handle_events()

    def _reader_of_body(self, data: bytes) -> Any:
        """h11's count of a body, if the data is inside one, so that h11 can be bypassed and learns only its length.

        None if it is not.
        """
        connection: Any = self.connection
        if not isinstance(connection, h11.Connection) or connection.their_state is not h11.SEND_BODY:
            return None
        reader: Any = connection._reader
        if (
            not isinstance(reader, ContentLengthReader)
            or len(data) >= reader._remaining
            or connection._receive_buffer
            or connection.they_are_waiting_for_100_continue
        ):
            return None
        return reader

    async def _handle_events(self) -> None:
        """Pass on the events that h11 has parsed.

        Replaces Hypercorn's method, which passes on each chunk separately, and sends 100 Continue to every client
        before the app has seen the request.
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
        if isinstance(event, Data):  # of a WebSocket: the most frequent
            await self.send(RawData(data=event.data))
            return
        if isinstance(event, Response) and event.status_code == HTTPStatus.CONTINUE:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=event.status_code, headers=[]))
            return
        if isinstance(event, Response) and event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            await self.send(SocketOpened())  # type: ignore[arg-type]
        await super().stream_send(event)

    async def _send_h11_event(self, event: Any) -> None:
        """Send what h11 makes of an event, the head of an answer together with what comes next.

        One write and one packet fewer for each answer: 16 % of the event loop's work for small PUTs.
        """
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data or b""
            asyncio.get_running_loop().call_soon(self._require_head_sent)
        elif data or self._head:
            await self._send_with_head(data or b"")

    async def _send_with_head(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head or data:
            await self.send(RawData(data=head + data if head else data))

    def _require_head_sent(self) -> None:
        """Send a head whose body has not begun yet, such as that of an event stream."""
        if self._head:
            self._sending_head = asyncio.ensure_future(self._send_with_head(b""))

    async def _maybe_recycle(self) -> None:
        await self._send_with_head(b"")  # of an answer that failed before its body began
        is_kept = self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE
        self._is_over = self._is_over or not is_kept or self.context.terminated.is_set()
        await super()._maybe_recycle()

    async def _send_error_response(self, status_code: int) -> None:
        scope = getattr(self.stream, "scope", None)
        head, body = refusal(status_code, origins=headers_for(self.app, scope))
        await self._send_h11_event(h11.Response(status_code=status_code, headers=head))
        if not suppress_body("GET" if scope is None else scope.get("method", "GET"), status_code):
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def patch_hypercorn() -> None:
    """Change how this process's Hypercorn treats connections, however it was started.

    Unpatched, it always accepts permessage-deflate (a 1 MiB message inflated to 1 GiB before its size was checked),
    keeps the bytes of a message that is too large, and forgets a handler whose client wrote before the socket was open.
    It sends 100 Continue to a client before the app has decided.

    It passes a body on in pieces of 64 KiB, copied eight times, of which ten may wait. Patched, an upload takes 1.7
    instead of 2.4 CPU seconds a GiB (1.5 instead of 2.1 without a form), SHA-256 and writing included.

    Its HTTP/2 lets a client send 64 KiB of a body and then wait for a round trip, without a setting for more, and one
    slow body delays all others of its connection. Browsers choose HTTP/2 automatically, so it is not offered.
    """
    hypercorn.asyncio.run.TCPServer = TcpConnection  # type: ignore[attr-defined]
    hypercorn.asyncio.tcp_server.TaskGroup = _TaskGroup  # type: ignore[attr-defined]
    Config.alpn_protocols = ["http/1.1"]
    Config.max_app_queue_size = 1
    hypercorn.protocol.H11Protocol = _Http1Protocol  # type: ignore[attr-defined]
    hypercorn.protocol.ws_stream.server_extensions_handshake = lambda requested, supported: None  # type: ignore[attr-defined]
    hypercorn.protocol.ws_stream.WebsocketBuffer = MessageBuffer  # type: ignore[misc]
    hypercorn.protocol.h11.HTTPStream = _RequestStream  # type: ignore[attr-defined]
    hypercorn.protocol.h11.WSStream = SocketStream  # type: ignore[attr-defined]
