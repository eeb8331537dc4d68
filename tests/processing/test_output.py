"""A stream of output: what is kept, how it is read while it grows and after."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from tests.processing.doubles import LIVENESS_S, FakeBus, until

from dropmill.model.ids import JobId
from dropmill.ports.bus import Bus
from dropmill.processing import output
from dropmill.processing.output import OutputChunk, OutputStore, OutputStream

JOB = JobId("ab12")
HEAD, TAIL = 4096, 1024


@pytest.fixture
def small_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules with numbers that a test can walk through."""
    monkeypatch.setattr(output, "HEAD_BYTES", HEAD)
    monkeypatch.setattr(output, "TAIL_BYTES", TAIL)
    monkeypatch.setattr(output, "PENDING_BYTES", TAIL // 2)
    monkeypatch.setattr(output, "URGENT_BYTES", 64)
    monkeypatch.setattr(output, "WRITE_BEHIND_S", 0.001)


@contextlib.asynccontextmanager
async def writing_behind(store: OutputStore) -> AsyncIterator[None]:
    task = asyncio.create_task(store.write_behind())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def feed(stream: OutputStream, data: bytes) -> None:
    """Write as the pool does: wait whenever the disk is behind."""
    if not stream.write(data):
        room = asyncio.Event()
        stream.when_room(room.set)
        async with asyncio.timeout(LIVENESS_S):
            await room.wait()


async def whole(store: OutputStore, number: int = 1, limit: int = 700) -> list[tuple[int, bytes]]:
    """All that can be read, in pieces that follow one another."""
    pieces, start = [], 0
    while (chunk := await store.read(JOB, number, start, limit)).data:
        assert len(chunk.data) <= limit
        pieces.append((chunk.offset, chunk.data))
        start = chunk.offset + len(chunk.data)
    return pieces


def kept(data: bytes) -> list[tuple[int, bytes]]:
    """What has to be readable of `data`, as (offset, bytes) without the hole."""
    tail_from = max(HEAD, len(data) - TAIL)
    return [(0, data[:HEAD]), (tail_from, data[tail_from:])]


def joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Neighbours put together, split at the cap."""
    by_offset = {offset + i: bytes([byte]) for offset, data in pieces for i, byte in enumerate(data)}
    head = b"".join(by_offset[i] for i in sorted(by_offset) if i < HEAD)
    rest = [i for i in sorted(by_offset) if i >= HEAD]
    assert rest == (list(range(rest[0], rest[-1] + 1)) if rest else [])
    return [(0, head), (rest[0] if rest else len(head), b"".join(by_offset[i] for i in rest))]


@pytest.mark.usefixtures("small_caps")
@pytest.mark.parametrize("size", [1, 600, HEAD - 1, HEAD, HEAD + 1, HEAD + TAIL, HEAD + TAIL + 1, 20_000])
async def test_the_beginning_and_the_end_are_kept_live_and_after_a_restart(tmp_path: Path, size: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    data = rng.randbytes(size)
    store = OutputStore(tmp_path, cast("Bus", FakeBus()))
    async with writing_behind(store):
        stream = store.open(JOB, 1)
        start = 0
        while start < size:
            step = rng.randrange(1, 300)
            await feed(stream, data[start : start + step])
            start += step
            if rng.random() < 0.2:
                await asyncio.sleep(0)
        assert joined(await whole(store)) == (kept(data) if size > HEAD else [(0, data), (size, b"")])
        live = await store.read(JOB, 1, size, 10)
        assert live == OutputChunk(offset=size, data=b"", end=size, is_over=False)
        await asyncio.to_thread(stream.save)
        store.close(JOB, 1)
    for again in (store, OutputStore(tmp_path, cast("Bus", FakeBus()))):
        assert joined(await whole(again)) == (kept(data) if size > HEAD else [(0, data), (size, b"")])
        assert await again.read(JOB, 1, size + 5, 10) == OutputChunk(offset=size, data=b"", end=size, is_over=True)
        assert await again.read(JOB, 1, -3, 1) == OutputChunk(offset=0, data=data[:1], end=size, is_over=True)


@pytest.mark.usefixtures("small_caps")
async def test_reading_in_the_hole_goes_on_behind_it(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, cast("Bus", FakeBus()))
    data = bytes(i % 251 for i in range(10_000))
    async with writing_behind(store):
        stream = store.open(JOB, 1)
        for i in range(0, len(data), 100):
            await feed(stream, data[i : i + 100])
        expected = OutputChunk(offset=10_000 - TAIL, data=data[-TAIL:][:50], end=10_000, is_over=False)
        assert await store.read(JOB, 1, HEAD + 10, 50) == expected
        stream.save()
        store.close(JOB, 1)
        assert (await store.read(JOB, 1, HEAD + 10, 50)).data == data[-TAIL:][:50]


async def test_an_attempt_that_wrote_nothing_leaves_no_file(tmp_path: Path) -> None:
    store = OutputStore(tmp_path / "outputs", cast("Bus", FakeBus()))
    stream = store.open(JOB, 1)
    assert await store.read(JOB, 1, 0, 10) == OutputChunk(offset=0, data=b"", end=0, is_over=False)
    stream.save()
    store.close(JOB, 1)
    assert await store.read(JOB, 1, 0, 10) == OutputChunk(offset=0, data=b"", end=0, is_over=True)
    assert not (tmp_path / "outputs").exists()


async def test_attempts_have_streams_of_their_own(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, cast("Bus", FakeBus()))
    for number in (1, 2):
        stream = store.open(JOB, number)
        stream.write(b"attempt %d" % number)
        stream.save()
        store.close(JOB, number)
    assert [(await store.read(JOB, n, 0, 99)).data for n in (1, 2, 3)] == [b"attempt 1", b"attempt 2", b""]


async def test_followers_are_told_once_for_many_writes_and_at_the_end(tmp_path: Path) -> None:
    bus = FakeBus()
    store = OutputStore(tmp_path, cast("Bus", bus))
    async with writing_behind(store):
        stream = store.open(JOB, 1)
        for _ in range(100):
            stream.write(b"line\n")
        await until(lambda: bool(bus.positions) and not stream.pending)
        assert bus.positions == [{"output:ab12": 500}]
        assert (tmp_path / "ab" / "ab12.1.out").read_bytes() == b"line\n" * 100  # written behind while it runs
        stream.write(b"x")
        stream.save()
        store.close(JOB, 1)
        assert bus.positions[-1] == {"output:ab12": 501}


@pytest.mark.usefixtures("small_caps")
async def test_a_disk_that_takes_no_more_does_not_stop_the_script(tmp_path: Path) -> None:
    """The end is still kept in memory, and nothing is told that is not there."""
    folder = tmp_path / "outputs"
    store = OutputStore(folder, cast("Bus", FakeBus()))
    data = os.urandom(3000)
    async with writing_behind(store):
        stream = store.open(JOB, 1)
        await feed(stream, data[:600])
        await until(lambda: not stream.pending)
        written = (folder / "ab" / "ab12.1.out").rename(tmp_path / "aside")
        (folder / "ab").rmdir()
        (folder / "ab").write_text("in the way")  # works for root as well, unlike a mode
        for i in range(600, 3000, 100):
            await feed(stream, data[i : i + 100])
        assert (await store.read(JOB, 1, 700, 5000)) == OutputChunk(
            offset=3000 - TAIL, data=data[-TAIL:], end=3000, is_over=False
        )
        (folder / "ab").unlink()
        (folder / "ab").mkdir()
        written.rename(folder / "ab" / "ab12.1.out")
        stream.save()
        store.close(JOB, 1)
    assert [(o, len(d)) for o, d in await whole(store, limit=5000)] == [(0, 600), (3000 - TAIL, TAIL)]
