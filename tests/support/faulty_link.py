"""A line between a client and a server on loopback, with the faults that a test wants of it."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

READ_BYTES = 64 * 1024
WAITING_MAX = 512  # reads that may be on their way, 32 MiB: the line itself must not be what holds a client up
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Line:
    """Carries TCP connections to a port. To be used as a context manager; runs in a thread of its own.

    Attributes:
        port: where clients connect.
        target: the port it leads to; may be changed.
        passed: bytes that have come through to the server.
        most_in_flight: the most bytes that were under way to the server at once.
        faults: how often it has altered or refused something.
        body_limit: bodies announced larger are answered with 413 and HTML, as a proxy would; None lets all pass.
    """

    def __init__(self, target: int, *, delay_s: float = 0.0) -> None:
        self.target = target
        self.port = 0
        self.passed = 0
        self.most_in_flight = 0
        self.faults = 0
        self.body_limit: int | None = None
        self._delay_s = delay_s
        self._in_flight = 0
        self._allowed: int | None = None
        self._moved = asyncio.Event()
        self._alteration: tuple[bytes, bytes] | None = None
        self._open: dict[asyncio.Task[None], list[asyncio.WriteTransport]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> "Line":
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where a client finds the server through this line."""
        return f"http://127.0.0.1:{self.port}"

    def allow(self, size: int | None) -> None:
        """Hold what a client sends after so many bytes from now; None lets all pass."""
        self._do(self._allow(size))

    def alter(self, old: bytes, new: bytes) -> None:
        """Change what a client sends, once: bytes of the same number."""
        assert len(old) == len(new)
        self._alteration = (old, new)

    def cut(self) -> None:
        """Reset every connection; what was held is gone with them."""
        self._do(self._cut())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _allow(self, size: int | None) -> None:
        self._allowed = None if size is None else self.passed + size
        self._moved.set()

    async def _cut(self) -> None:
        carrying = list(self._open.items())
        for one, ends in carrying:
            for end in ends:
                end.abort()
            one.cancel()
        if carrying:
            await asyncio.wait([one for one, _ in carrying])

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = [writer.transport]
        try:
            with contextlib.suppress(OSError):
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
                self._open[task].append(up_writer.transport)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._pump(reader, up_writer, writer))
                        group.create_task(self._pump(up_reader, writer, None))
                finally:
                    up_writer.close()
        except (asyncio.CancelledError, ExceptionGroup):
            pass  # a line that breaks says nothing
        finally:
            del self._open[task]
            writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter | None
    ) -> None:
        """From a reader to a writer, late. `back` is there on the way up only."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_MAX)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(waiting, writer, is_up=back is not None))
            while True:
                data = await reader.read(READ_BYTES)
                if back is not None:
                    found = _LENGTH.search(data)
                    if self.body_limit is not None and found and int(found[1]) > self.body_limit:
                        back.write(b"HTTP/1.1 413 Too Large\r\nContent-Type: text/html\r\nContent-Length: 2\r\n")
                        back.write(b"Connection: close\r\n\r\nno")
                        await back.drain()
                        self.faults += 1
                        raise ConnectionError("refused")
                    if self._alteration is not None and self._alteration[0] in data:
                        data = data.replace(*self._alteration, 1)
                        self._alteration = None
                        self.faults += 1
                    self._in_flight += len(data)
                    self.most_in_flight = max(self.most_in_flight, self._in_flight)
                await waiting.put((self._loop.time() + self._delay_s, data))
                if not data:
                    return

    async def _deliver(
        self, waiting: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        while True:
            due, data = await waiting.get()
            if (early := due - self._loop.time()) > 0:
                await asyncio.sleep(early)
            while is_up and self._allowed is not None and self.passed >= self._allowed:
                self._moved.clear()
                await self._moved.wait()
            if not data:
                with contextlib.suppress(OSError, NotImplementedError):  # the other side is gone already
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            if is_up:
                self.passed += len(data)
                self._in_flight -= len(data)
