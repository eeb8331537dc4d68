"""One TCP or TLS connection: admitted as far as the `Capacity` allows, read without copies, and ended in bounded time.

Hypercorn waits without a limit for a client that reads nothing or does not close.
"""

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, RawData, Updated

from dropmill.model.errors import DropmillError
from dropmill.origin.network import client_address
from dropmill.web.server.capacity import Admission, Capacity, capacity_of
from dropmill.web.server.lending import Lender, PieceTaken
from dropmill.web.server.refusal import headers_for, refusal
from dropmill.web.server.takeover import SocketOpened

DRAIN_BODY_S = 2.0
"""How long the rest of a body is read after the answer, and a socket after its close. Ending the connection at once
would reset it, and the client might lose the answer."""

TLS_CLOSE_TIMEOUT_S = 1.0  # for the client's half of the closing handshake, once everything is sent

SOCKET_UNSENT_MAX = 256 * 1024  # bytes that wait for a WebSocket's client; above it, nothing more is sent

CHECKS_PER_TIMEOUT = 4  # how often a client's progress is checked within its time limit

REFUSED_MAX = 100  # refused connections that are read to their end, so that they get the answer; further ones are cut


class _Reader(asyncio.StreamReader):
    """The bytes of a connection, in the pieces that the event loop delivers (up to 256,000 bytes with uvloop).

    A `StreamReader` copies every byte three times to return pieces of 64 KiB. Only `read` may be used here; it returns
    one whole piece, whatever size is requested, and at most one piece waits.
    """

    _pieces: deque[bytes]

    # Inherited; missing in typeshed.
    _eof: bool
    _paused: bool
    _exception: Exception | None
    _transport: asyncio.ReadTransport
    _wakeup_waiter: Callable[[], None]
    _wait_for_data: Callable[[str], Awaitable[None]]

    @classmethod
    def take_over(cls, reader: Any) -> None:
        """Turn a reader into one of these; bytes that have already arrived come first."""
        reader.__class__ = cls  # not a new object: the protocol feeds this one
        reader._pieces = deque([bytes(reader._buffer)] if reader._buffer else [])

    def feed_data(self, data: Any) -> None:
        self._pieces.append(data)
        self._wakeup_waiter()
        if not self._paused:
            self._transport.pause_reading()
            self._paused = True

    @property
    def is_empty(self) -> bool:
        """Whether it has passed on all bytes that it got, and gets no more for now."""
        return self._paused and not self._pieces and not self._eof and self._exception is None

    def at_eof(self) -> bool:
        return self._eof and not self._pieces

    async def read(self, n: int = -1) -> bytes:
        if self._exception is not None:
            raise self._exception
        if not self._pieces and not self._eof:
            await self._wait_for_data("read")  # also resumes reading if it was paused
        return self._pieces.popleft() if self._pieces else b""


class TcpConnection(TCPServer):
    """A connection that is read by a `_Reader`, and ends when we end it or its client makes no progress.

    Hypercorn waits for the next request of a client that has left as long as for any other: 70 clients a second used up
    1,024 descriptors. And it waits without a limit for clients that read nothing.
    """

    _has_left = False
    _is_socket = False
    _admission: Admission | None = None
    _closed: asyncio.Future[None] | None = None
    _close_check: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        _Reader.take_over(self.reader)
        capacity = capacity_of(self.app)
        self._lender = Lender(capacity.slices)
        self._write_timeout_s = capacity.limits.write_timeout_s
        try:
            with capacity.admit_connection(*self._peer()) as self._admission:
                await super().run()
        except DropmillError as refused:
            await self._refuse(refused, capacity)
        except asyncio.CancelledError:
            # The server stops. `asyncio.streams` would log a traceback for each cancelled connection.
            return

    def _peer(self) -> tuple[str, int]:
        """Address of the client, and the number of the connection's descriptor."""
        peer = self.writer.get_extra_info("peername")
        socket = self.writer.get_extra_info("socket")
        address = client_address(str(peer[0]) if isinstance(peer, tuple) else None)
        return address, -1 if socket is None else socket.fileno()

    async def _refuse(self, error: DropmillError, capacity: Capacity) -> None:
        """Answer a connection over the limit without reading its request."""
        head, body = refusal(error.status, error.title, error.detail, error.code, origins=headers_for(self.app, None))
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
            self.writer.transport.abort()  # a client that ends a socket without a close reads nothing more
        await self.idle_task.stop()

    async def protocol_send(self, event: Any) -> None:
        if isinstance(event, RawData):
            async with self.send_lock:
                try:
                    self.writer.write(event.data)
                    await self._drain()
                except (ConnectionError, RuntimeError):
                    await self.protocol.handle(Closed())
        elif isinstance(event, SocketOpened):
            self._is_socket = True
            self.writer.transport.set_write_buffer_limits(high=SOCKET_UNSENT_MAX)
            if self._admission is not None:
                self._admission.release()  # sockets have their own limits
        elif isinstance(event, PieceTaken):
            if self._lender.has_earned(event):
                await self._lend(event)
        elif isinstance(event, Closed):
            self._begin_close()
        elif not (self._has_left and isinstance(event, Updated) and event.idle):
            await super().protocol_send(event)

    async def _lend(self, piece: PieceTaken) -> None:
        """Lend the socket, if nothing but its own bytes can come next and there are descriptors enough."""
        reader: Any = self.reader
        if self._is_tls or self.writer.transport.is_closing() or not reader.is_empty:
            return
        try:
            # Duplicated while the connection is certainly open: a closed one's number may be another's.
            descriptor = os.dup(self.writer.get_extra_info("socket").fileno())
        except OSError:
            return
        if capacity_of(self.app).is_reserved(descriptor):
            os.close(descriptor)
            return
        await self._lender.lend(descriptor, piece)

    async def _drain(self) -> None:
        """Wait until there is room for more.

        Raises:
            ConnectionError: the connection has ended, or the client has read nothing for the write timeout.
        """
        if not self.writer.transport.get_write_buffer_size() and not self.reader.exception():
            return None  # as nearly always with the small messages of a WebSocket
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
        """Bytes that are unsent in this process, and unacknowledged in the kernel."""
        transport = self.writer.transport
        socket = self.writer.get_extra_info("socket")
        try:
            answer = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4))
            in_kernel = struct.unpack("i", answer)[0]
        except (AttributeError, OSError, ValueError):  # closed, or the system does not report it
            in_kernel = 0
        return transport.get_write_buffer_size(), in_kernel

    # closing

    async def _close(self) -> None:
        """Close the connection and wait for it. What was written is sent first, if the client reads.

        Only `run` awaits this. Cancelling cuts the connection: the server stops.
        """
        self._begin_close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self.writer.transport.abort()
        if self._closed is None:
            self._closed = asyncio.ensure_future(self.writer.wait_closed())
        try:
            await asyncio.wait((self._closed,))
        except asyncio.CancelledError:  # swallowed, as in the method that this replaces
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
        # Only once: asyncio cannot abort a TLS connection that was closed twice.
        if self._close_check is not None:
            return
        transport = self.writer.transport
        if not transport.is_closing():
            # The client may be gone, or this transport may have no half-close; `close` below does for both.
            with contextlib.suppress(NotImplementedError, OSError, RuntimeError):
                if not self._is_tls:
                    self.writer.write_eof()
            self.writer.close()
        limit_s = DRAIN_BODY_S if self._is_socket else self._write_timeout_s
        step_s = min(TLS_CLOSE_TIMEOUT_S, limit_s / CHECKS_PER_TIMEOUT)
        self._check_close(_Progress(limit_s), step_s, is_first=True)

    def _check_close(self, progress: "_Progress", step_s: float, *, is_first: bool = False) -> None:
        """Cut the connection if the client has stopped reading, or has everything and does not close."""
        unsent = self._unsent()
        if progress.has_stalled(unsent) or (self._is_tls and not unsent[0] and not is_first):
            self.writer.transport.abort()
        else:
            self._close_check = self.loop.call_later(step_s, self._check_close, progress, step_s)

    @property
    def _is_tls(self) -> bool:
        return self.writer.get_extra_info("sslcontext") is not None


class _Progress:
    """Whether a client still reads."""

    def __init__(self, limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._unsent: tuple[int, int] | None = None
        self._since = 0.0

    def has_stalled(self, unsent: tuple[int, int]) -> bool:
        """Whether the client has read nothing for the time limit; call it regularly."""
        now = self._loop.time()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        return now - self._since >= self._limit_s
