"""What every blob store promises of bytes that it takes in a thread, from where they come in."""

import asyncio
import errno
import hashlib
import random
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.blob_stores import ENGINES, Engine, content_of, keys
from tests.support.scenarios import LIVENESS_S

from dropmill.model.errors import BytesLost, OutOfSpace
from dropmill.ports.blobs import BlobStore, BlobWriter

CONTENT = random.Random(5).randbytes(3_000_000)
NO_LIMIT = 1 << 40


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture
async def store(engine: Engine, tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with engine.open(tmp_path) as made:
        yield made


class Pieces:
    """An inflow that has its bytes; `step` at most at a time, and an error at the end, if one is given."""

    def __init__(self, data: bytes, *, step: int = 1 << 20, error: Exception | None = None) -> None:
        self.left = data
        self.readers: set[int] = set()
        self.is_stopped = False
        self._step = step
        self._error = error

    def read_into(self, buffer: memoryview) -> int:
        self.readers.add(threading.get_ident())
        piece = self.left[: min(len(buffer), self._step)]
        if not piece and self._error is not None:
            raise self._error
        if self.is_stopped:
            return 0
        self.left = self.left[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def stop(self) -> None:
        self.is_stopped = True


class Connection:
    """An inflow over a socket: waits for what the other side sends."""

    def __init__(self) -> None:
        self.sender, self._receiver = socket.socketpair()
        self.is_reading = False
        self.was_waiting = threading.Event()

    def read_into(self, buffer: memoryview) -> int:
        self.is_reading = True
        self.was_waiting.set()
        try:
            return self._receiver.recv_into(buffer)
        finally:
            self.is_reading = False

    def stop(self) -> None:
        self._receiver.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self.sender.close()
        self._receiver.close()


async def waiting(connection: Connection) -> None:
    assert await asyncio.to_thread(connection.was_waiting.wait, LIVENESS_S)


async def require_stored(store: BlobStore, writer: BlobWriter, content: bytes) -> None:
    assert writer.size == len(content)
    stored = await writer.commit()
    assert (stored.key, stored.size) == (writer.key, len(content))
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert await content_of(store, stored.key) == content
    assert await keys(store) == [stored.key]
    assert await store.sweep() == 0


@pytest.mark.parametrize("size", [0, 1, 255_999, 256 * 1024, 256 * 1024 + 1, len(CONTENT)])
@pytest.mark.parametrize("step", [1000, 1 << 20])
async def test_what_was_taken_is_stored_with_its_size_and_hash(store: BlobStore, size: int, step: int) -> None:
    writer, inflow = store.create(".bin"), Pieces(CONTENT[:size], step=step)
    assert await writer.take(inflow, NO_LIMIT) == size
    assert await keys(store) == []
    assert threading.get_ident() not in inflow.readers
    await require_stored(store, writer, CONTENT[:size])


async def test_what_is_taken_and_what_is_written_keep_their_order(store: BlobStore) -> None:
    writer, at = store.create(""), 0
    for number, step in enumerate([10, 300_000, 7, 1, 262_144, 5, 100_000, 999]):
        piece = CONTENT[at : at + step]
        if number % 2:
            assert await writer.take(Pieces(piece), NO_LIMIT) == step
        else:
            await writer.write(piece)
        at += step
        assert writer.size == at
    await require_stored(store, writer, CONTENT[:at])


@pytest.mark.parametrize("limit", [1, 1000, 256 * 1024, 256 * 1024 + 1, 2_999_999])
async def test_no_byte_beyond_the_limit_is_taken(store: BlobStore, limit: int) -> None:
    """A file that is too large is found out by the lender, who still has the byte behind its limit."""
    writer, inflow = store.create(""), Pieces(CONTENT)
    assert await writer.take(inflow, limit) == limit
    assert inflow.left == CONTENT[limit:]
    assert await writer.take(inflow, NO_LIMIT) == len(CONTENT) - limit
    await require_stored(store, writer, CONTENT)


async def test_a_paused_and_a_resumed_blob_take_more(engine: Engine, store: BlobStore, tmp_path: Path) -> None:
    writer = store.create("")
    await writer.take(Pieces(CONTENT[:600_000]), NO_LIMIT)
    await writer.pause()
    await writer.take(Pieces(CONTENT[600_000:1_000_000]), NO_LIMIT)
    await writer.pause()
    async with engine.open(tmp_path) as after:
        again = await after.resume(writer.key)
        assert again.size == 1_000_000
        await again.take(Pieces(CONTENT[1_000_000:]), NO_LIMIT)
        await require_stored(after, again, CONTENT)


@pytest.mark.parametrize("is_resumed", [False, True])
async def test_a_chunk_that_was_taken_counts_as_a_whole_or_not(store: BlobStore, is_resumed: bool) -> None:
    writer = store.create("")
    await writer.write(CONTENT[:1000])
    if is_resumed:
        await writer.pause()
        writer = await store.resume(writer.key)
    await writer.begin_chunk()
    await writer.take(Pieces(bytes(500_000)), NO_LIMIT)
    await writer.drop_chunk()
    assert writer.size == 1000
    await writer.begin_chunk()
    await writer.take(Pieces(CONTENT[1000:]), NO_LIMIT)
    await writer.keep_chunk()
    await require_stored(store, writer, CONTENT)


async def test_the_loop_runs_while_bytes_are_waited_for(store: BlobStore) -> None:
    writer, connection = store.create(""), Connection()
    taking = asyncio.ensure_future(writer.take(connection, NO_LIMIT))
    await waiting(connection)
    connection.sender.sendall(b"abc")
    async with asyncio.timeout(LIVENESS_S):
        while writer.size < 3:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
    connection.sender.sendall(b"def")
    connection.sender.close()
    assert await taking == 6
    connection.close()
    await require_stored(store, writer, b"abcdef")


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelling_stops_the_inflow_and_keeps_what_came(store: BlobStore, times: int) -> None:
    """Nobody reads from it afterwards: its descriptor may be closed."""
    writer, connection = store.create(""), Connection()
    connection.sender.sendall(CONTENT[:1000])
    taking = asyncio.ensure_future(writer.take(connection, NO_LIMIT))
    async with asyncio.timeout(LIVENESS_S):
        while writer.size < 1000:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
    for _ in range(times):
        taking.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([taking])
    assert taking.cancelled()
    assert not connection.is_reading
    connection.close()
    await writer.write(CONTENT[1000:2000])
    await require_stored(store, writer, CONTENT[:2000])


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 20])
async def test_an_abort_after_a_cancelled_take_leaves_nothing(store: BlobStore, turns: int) -> None:
    writer = store.create("")
    taking = asyncio.ensure_future(writer.take(Pieces(CONTENT), NO_LIMIT))
    for _ in range(turns):
        await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait([taking])
    await writer.abort()
    assert await keys(store) == []
    assert await store.sweep() == 0


@pytest.mark.parametrize("error", [ConnectionResetError(errno.ECONNRESET, "reset"), ValueError("a defect")])
async def test_an_error_of_the_inflow_is_passed_on_and_none_of_the_disk(store: BlobStore, error: Exception) -> None:
    writer = store.create("")
    with pytest.raises(type(error)) as raised:
        await writer.take(Pieces(CONTENT[:700_000], error=error), NO_LIMIT)
    assert raised.value is error
    assert writer.size == 700_000
    await writer.pause()
    await writer.write(CONTENT[700_000:])
    await require_stored(store, writer, CONTENT)


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("writes", [0, 1, 2])
async def test_a_full_disk_is_told_and_the_blob_can_only_be_aborted(
    engine: Engine, store: BlobStore, monkeypatch: pytest.MonkeyPatch, writes: int, is_committed: bool
) -> None:
    writer = store.create("")
    with monkeypatch.context() as patch:
        engine.fill(patch, writes)
        with pytest.raises(OutOfSpace):
            await writer.take(Pieces(CONTENT), NO_LIMIT)
    # A byte that came is not silently forgotten, though there is room again.
    if is_committed:
        with pytest.raises((OutOfSpace, BytesLost)):
            await writer.commit()
    else:
        with pytest.raises(OutOfSpace):
            await writer.pause()
    await writer.abort()
    assert await keys(store) == []
    assert await store.sweep() == 0


async def test_a_store_that_has_no_thread_free_reads_nothing_and_everything_else_goes_on(store: BlobStore) -> None:
    connections: list[Connection] = []
    taking: list[asyncio.Future[int]] = []
    writers: list[BlobWriter] = []
    while True:
        assert len(connections) < 100
        connection = Connection()
        connection.sender.sendall(b"x")
        connections.append(connection)
        writers.append(store.create(""))
        taking.append(asyncio.ensure_future(writers[-1].take(connection, NO_LIMIT)))
        reading = asyncio.ensure_future(waiting(connection))
        either: list[asyncio.Future[Any]] = [reading, taking[-1]]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if taking[-1].done():
            connection.was_waiting.set()
            await reading
            break
    assert taking.pop().result() == 0
    assert not connections[-1].is_reading
    writer = store.create("")
    await writer.write(CONTENT)
    stored = await writer.commit()
    for connection in connections:
        connection.sender.close()
    assert await asyncio.gather(*taking) == [1] * len(taking)
    for connection in connections:
        connection.close()
    assert await writers[-1].take(Pieces(b"again"), NO_LIMIT) == 5
    for unfinished in writers:
        await unfinished.abort()
    assert await keys(store) == [stored.key]
