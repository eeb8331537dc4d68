"""A line between a client and a server that knows uploads: cuts and damages them at an offset, and counts them.

It can block WebSockets, as some proxies do. TCP on loopback, in a thread of its own. It reads HTTP/1.1 only as far as
to tell which bytes are the bodies of uploads. A line that delays, holds and alters any bytes is in `faulty_link`.
"""

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Literal, TypeVar

T = TypeVar("T")

READ_BYTES = 256 * 1024
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
_UPLOAD = re.compile(rb"(PATCH|PUT|POST) (/api/v1/uploads\S*|/api/v1/submissions\S*|/send/\S*) HTTP")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_JSON = re.compile(rb"\r\ncontent-type: *application/json", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade: *websocket", re.IGNORECASE)


class Proxy:
    """Carries every connection to `target`. Use as a context manager.

    Attributes:
        host: `HOST:PORT` to connect to; stays the same when the target moves.
        carried: bytes of upload bodies so far, those that were lost with a cut included.
        uploads: method and path of every request that uploaded something, in order.
        most_at_once: largest number of those under way at one moment.
        sockets: what becomes of a WebSocket: it passes, is refused with a page of HTML, or swallowed without an answer.
        socket_life_s: every WebSocket is reset after so many seconds; None lets them live.
        sockets_asked: how many WebSockets were asked for.
        pause_s: seconds to wait after each piece, at most `READ_BYTES`; 0 unless a test sets it.
    """

    def __init__(self, target: Callable[[], str], socket_target: Callable[[], str] | None = None) -> None:
        """Prepare to carry to `target`, a `HOST:PORT` asked for every connection; WebSockets may go elsewhere."""
        self.host = ""
        self.carried = 0
        self.uploads: list[tuple[str, str]] = []
        self.most_at_once = 0
        self.sockets: Literal["pass", "refuse", "swallow"] = "pass"
        self.socket_life_s: float | None = None
        self.sockets_asked = 0
        self.pause_s = 0.0
        self._target = target
        self._socket_target = socket_target or target
        self._cuts: list[int] = []
        self._damage_at: int | None = None
        self._under_way: set[_Connection] = set()
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=READ_BYTES))
        name, port = self._server.sockets[0].getsockname()[:2]
        self.host = f"{name}:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """`http://HOST:PORT`."""
        return f"http://{self.host}"

    def cut(self) -> None:
        """Reset every connection now."""
        self._call(self._cut())

    def cut_at(self, offsets: Iterable[int]) -> None:
        """Reset every connection whenever so many bytes of upload bodies have been carried."""
        self._cuts = sorted(offsets)

    def damage_at(self, offset: int) -> None:
        """Change one byte of an upload's body, once."""
        self._damage_at = offset

    @property
    def cuts_left(self) -> int:
        """Cuts asked for that are still to come."""
        return len(self._cuts)

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _cut(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        idle = _Connection(writer)  # browsers open connections that they do not use
        self._connections.add(idle)
        try:
            first = await reader.read(READ_BYTES)
        except OSError:
            first = b""
        finally:
            self._connections.discard(idle)
        if not first:
            writer.close()
            return
        is_socket = _UPGRADE.search(first) is not None
        self.sockets_asked += is_socket
        if is_socket and self.sockets != "pass":
            await self._block(reader, writer)
            return
        name, _, port = (self._socket_target if is_socket else self._target)().rpartition(":")
        try:
            to_server = await asyncio.open_connection(name, int(port), limit=READ_BYTES)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(writer, to_server[1])
        self._connections.add(connection)
        life_s = self.socket_life_s if is_socket else None
        end = None if life_s is None else self._loop.call_later(life_s, connection.reset)
        try:
            await asyncio.gather(
                self._pump(reader, to_server[1], lambda data: self._upwards(connection, data), first),
                self._pump(to_server[0], writer, lambda data: self._downwards(connection, data)),
            )
        except OSError:
            connection.reset()
        finally:
            if end is not None:
                end.cancel()
            self._connections.discard(connection)
            self._under_way.discard(connection)
            for side in (writer, to_server[1]):
                side.close()

    async def _block(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            if self.sockets == "refuse":
                writer.write(REFUSAL)
                await writer.drain()
            with contextlib.suppress(OSError):
                while await reader.read(READ_BYTES):
                    pass
        finally:
            self._connections.discard(connection)
            writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        see: Callable[[bytes], bytes],
        first: bytes = b"",
    ) -> None:
        while data := first or await reader.read(READ_BYTES):
            first = b""
            writer.write(see(data))
            await writer.drain()
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
        with contextlib.suppress(OSError):
            writer.write_eof()

    def _upwards(self, connection: "_Connection", data: bytes) -> bytes:
        changed = bytearray(data)
        for begin, length, is_new in connection.bodies(data):
            if is_new is not None:
                self.uploads.append(is_new)
                self._under_way.add(connection)
                self.most_at_once = max(self.most_at_once, len(self._under_way))
            if self._damage_at is not None and self.carried + length > self._damage_at:
                changed[begin + max(0, self._damage_at - self.carried)] ^= 0xFF
                self._damage_at = None
            self.carried += length
        if self._cuts and self.carried >= self._cuts[0]:
            self._cuts = [offset for offset in self._cuts if offset > self.carried]
            for other in list(self._connections):
                other.reset()
            raise ConnectionResetError
        return bytes(changed)

    def _downwards(self, connection: "_Connection", data: bytes) -> bytes:
        self._under_way.discard(connection)  # an answer: what was asked has come
        return data


class _Connection:
    """One connection, and how far its requests have been read."""

    def __init__(self, *sides: asyncio.StreamWriter) -> None:
        self._sides = sides
        self._head = b""
        self._left = 0
        self._is_upload = False
        self._is_raw = False

    def reset(self) -> None:
        for side in self._sides:
            _reset(side)

    def bodies(self, data: bytes) -> list[tuple[int, int, tuple[str, str] | None]]:
        """Where in `data` bytes of upload bodies lie: begin, length, and the request where it begins with them."""
        found: list[tuple[int, int, tuple[str, str] | None]] = []
        new = None
        position = 0
        while position < len(data) and not self._is_raw:
            if self._left:
                length = min(self._left, len(data) - position)
                if self._is_upload:
                    found.append((position, length, new))
                    new = None
                self._left -= length
                position += length
                continue
            before = len(self._head)
            self._head += data[position:]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                break
            position += end + 4 - before
            head, self._head = self._head[: end + 2], b""
            length_told = _LENGTH.search(head)
            upload = _UPLOAD.match(head)
            self._left = int(length_told[1]) if length_told else 0
            self._is_upload = upload is not None and self._left > 0 and not _JSON.search(head)
            self._is_raw = _UPGRADE.search(head) is not None
            if self._is_upload and upload is not None:
                new = (upload[1].decode(), upload[2].decode())
                if position == len(data):
                    found.append((position, 0, new))
        return found


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
