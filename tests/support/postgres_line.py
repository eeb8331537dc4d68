"""A line between a ledger and Postgres that breaks while a transaction is committed."""

import asyncio
import contextlib
from types import TracebackType
from typing import Literal

READ_BYTES = 64 * 1024
_LOCK = b"pg_advisory_xact_lock"  # of a connection that writes; it is in the text of a statement once
_COMMIT = b"COMMIT\0"  # the end of the text of the statement that says so
_COMMITTED = b"COMMIT\0"  # of the answer


class PostgresLine:
    """Carries connections to a port of loopback, on the test's own loop. To be used as a context manager.

    Attributes:
        port: where clients connect.
        cut: what becomes of the next COMMIT of a writer: it passes; the connection breaks before the server has it, or
            after the server has made it and before the client hears of that.
        is_refusing: whether new connections are closed at once.
        hold_at: what a client sends stays here from the piece on that holds these bytes.
        is_holding: whether something stays here.
        cuts: how many connections broke.
        refused: how many were closed.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.cut: Literal["never", "before", "after"] = "never"
        self.is_refusing = False
        self.refuses_after_cut = False
        self.hold_at: bytes | None = None
        self.is_holding = False
        self.cuts = 0
        self.refused = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "PostgresLine":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            self.refused += 1
            writer.transport.abort()
            return
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        answered = asyncio.create_task(_pass(from_server, writer))
        is_writer = False
        try:
            while data := await reader.read(READ_BYTES):
                is_writer = is_writer or _LOCK in data
                if self.hold_at is not None and self.hold_at in data:
                    self.is_holding = True
                    await asyncio.get_running_loop().create_future()  # until the test ends
                if self.cut == "never" or not is_writer or _COMMIT not in data:
                    to_server.write(data)
                    continue
                answered.cancel()
                await asyncio.wait([answered])
                if self.cut == "after":
                    to_server.write(data)
                    rest = asyncio.create_task(_pass(reader, to_server))
                    heard = b""
                    while _COMMITTED not in heard:
                        heard += await from_server.readexactly(1)
                    rest.cancel()
                self.cut = "never"
                self.is_refusing = self.refuses_after_cut
                self.cuts += 1
                return
        finally:
            answered.cancel()
            to_server.transport.abort()
            writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
    writer.transport.abort()
