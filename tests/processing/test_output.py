"""The output of running attempts: what is kept of it, how it is read while it grows, and when it was written."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.clocks import WallClock
from tests.support.fakes.attempt_ledger import LIVENESS_S
from tests.support.fakes.bus import FakeBus
from tests.support.fakes.outputs import FakeOutputs
from tests.support.waiting import eventually

from dropmill.engines.local.outputs import FileOutputs
from dropmill.model.clock import utc_now
from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark
from dropmill.processing import output
from dropmill.processing.output import OutputRecorder, OutputStream

JOB = JobId("ab12")
HEAD, TAIL = 4096, 1024
BOUNDS = OutputBounds(head=HEAD, tail=TAIL)


class Monotonic:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules with numbers that a test can walk through."""
    monkeypatch.setattr(output, "URGENT_BYTES", 64)
    monkeypatch.setattr(output, "WRITE_BEHIND_S", 0.001)
    monkeypatch.setattr(output, "TAIL_EVERY_S", 0.005)


@pytest.fixture
def store(tmp_path: Path) -> FileOutputs:
    return FileOutputs(tmp_path, BOUNDS)


@pytest.fixture
def recorder(store: FileOutputs) -> OutputRecorder:
    return OutputRecorder(store, FakeBus())


@contextlib.asynccontextmanager
async def writing_behind(recorder: OutputRecorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.write_behind())
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


async def whole(reader: OutputRecorder | FileOutputs, number: int = 1, limit: int = 700) -> dict[int, int]:
    """All that can be read, each byte at its offset; the pieces follow one another."""
    found: dict[int, int] = {}
    start = 0
    while (chunk := await reader.read(JOB, number, start, limit)).data:
        assert len(chunk.data) <= limit
        assert chunk.offset >= start
        found |= {chunk.offset + at: byte for at, byte in enumerate(chunk.data)}
        start = chunk.offset + len(chunk.data)
    return found


def kept(data: bytes) -> dict[int, int]:
    """What has to be readable of `data`."""
    return {at: byte for at, byte in enumerate(data) if at < HEAD or at >= len(data) - TAIL}


@pytest.mark.parametrize("size", [1, 600, HEAD - 1, HEAD, HEAD + 1, HEAD + TAIL, HEAD + TAIL + 1, 20_000])
async def test_the_beginning_and_the_end_are_kept_live_and_after_a_restart(
    recorder: OutputRecorder, store: FileOutputs, size: int
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    data = rng.randbytes(size)
    async with writing_behind(recorder):
        stream = recorder.open(JOB, 1)
        start = 0
        while start < size:
            step = rng.randrange(1, 300)
            await feed(stream, data[start : start + step])
            start += step
            if rng.random() < 0.2:
                await asyncio.sleep(0)
        assert await whole(recorder) == kept(data)
        assert await recorder.read(JOB, 1, size, 10) == OutputChunk(offset=size, data=b"", end=size)
        await recorder.save(stream)
        recorder.close(JOB, 1)
    for reader in (recorder, store):
        assert await whole(reader) == kept(data)
        assert await reader.read(JOB, 1, size + 5, 10) == OutputChunk(offset=size, data=b"", end=size)
        assert await reader.read(JOB, 1, -3, 1) == OutputChunk(offset=0, data=data[:1], end=size)


async def test_what_runs_can_be_read_from_another_process_its_end_too(recorder: OutputRecorder, tmp_path: Path) -> None:
    """Another store on the same folder knows nothing of this process's memory."""
    data = os.urandom(9000)
    other = FileOutputs(tmp_path, BOUNDS)
    async with writing_behind(recorder):
        stream = recorder.open(JOB, 1)
        for reached in (300, HEAD + 10, 9000):
            for start in range(stream.end, reached, 100):
                await feed(stream, data[start : min(reached, start + 100)])
            async with asyncio.timeout(LIVENESS_S):
                while await whole(other) != kept(data[:reached]):  # noqa: ASYNC110 - as another process asks
                    await asyncio.sleep(0.01)
            assert [mark.offset for mark in await other.marks(JOB, 1)][:1] == [0]


async def test_reading_in_the_hole_goes_on_behind_it(recorder: OutputRecorder) -> None:
    data = bytes(i % 251 for i in range(10_000))
    async with writing_behind(recorder):
        stream = recorder.open(JOB, 1)
        for i in range(0, len(data), 100):
            await feed(stream, data[i : i + 100])
        expected = OutputChunk(offset=10_000 - TAIL, data=data[-TAIL:][:50], end=10_000)
        assert await recorder.read(JOB, 1, HEAD + 10, 50) == expected
        await recorder.save(stream)
        recorder.close(JOB, 1)
        assert await recorder.read(JOB, 1, HEAD + 10, 50) == expected


async def test_an_attempt_that_wrote_nothing_leaves_no_file(tmp_path: Path) -> None:
    recorder = OutputRecorder(FileOutputs(tmp_path / "outputs"), FakeBus())
    stream = recorder.open(JOB, 1)
    assert await recorder.read(JOB, 1, 0, 10) == OutputChunk(offset=0, data=b"", end=0)
    assert list(await recorder.marks(JOB, 1)) == []
    await recorder.save(stream)
    recorder.close(JOB, 1)
    assert await recorder.read(JOB, 1, 0, 10) == OutputChunk(offset=0, data=b"", end=0)
    assert not (tmp_path / "outputs").exists()


async def test_an_attempt_that_wrote_for_less_than_a_second_leaves_one_file(
    recorder: OutputRecorder, tmp_path: Path
) -> None:
    """Most do: a second file would double what a small job leaves on disk."""
    recorder._monotonic = Monotonic()
    stream = recorder.open(JOB, 1)
    for _ in range(3):
        stream.write(b"line\n")
        await recorder.save(stream)
    recorder.close(JOB, 1)
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["ab12.1.out"]
    assert [mark.offset for mark in await recorder.marks(JOB, 1)] == [0]


async def test_what_is_written_after_a_save_is_saved_by_the_next(recorder: OutputRecorder, store: FileOutputs) -> None:
    """The server's own lines about results come after the script's end."""
    data = os.urandom(HEAD + 3000)
    stream = recorder.open(JOB, 1)
    for end in (10, 20, HEAD + 5, HEAD + 5, HEAD + 3000):
        for start in range(stream.end, end, 200):
            stream.write(data[start : min(end, start + 200)])
            await recorder.save(stream)
        assert await whole(store) == kept(data[:end])


async def test_followers_are_told_once_for_many_writes_and_at_the_end(tmp_path: Path, store: FileOutputs) -> None:
    bus = FakeBus()
    recorder = OutputRecorder(store, bus)
    async with writing_behind(recorder):
        stream = recorder.open(JOB, 1)
        for _ in range(100):
            stream.write(b"line\n")
        await eventually(lambda: bool(bus.positions) and not stream.pending)
        assert bus.positions == [{"output:ab12": 500}]
        assert (tmp_path / "ab" / "ab12.1.out").read_bytes() == b"line\n" * 100  # written behind while it runs
        stream.write(b"x")
        await recorder.save(stream)
        recorder.close(JOB, 1)
        assert bus.positions[-1] == {"output:ab12": 501}


async def test_followers_hear_nothing_of_an_end_that_is_only_stored_again(store: FileOutputs) -> None:
    bus = FakeBus()
    recorder = OutputRecorder(store, bus)
    async with writing_behind(recorder):
        stream = recorder.open(JOB, 1)
        for _ in range(60):
            await feed(stream, bytes(100))
        await eventually(lambda: not stream.pending and not stream.has_new_tail)
    published = [positions["output:ab12"] for positions in bus.positions]
    assert published == sorted(set(published))
    assert published[-1] == 6000


async def test_a_disk_that_takes_no_more_does_not_stop_the_script(tmp_path: Path) -> None:
    """Memory still has the end, and no position beyond the stored bytes is published."""
    folder = tmp_path / "outputs"
    recorder = OutputRecorder(FileOutputs(folder, BOUNDS), FakeBus())
    data = os.urandom(3000)
    async with writing_behind(recorder):
        stream = recorder.open(JOB, 1)
        await feed(stream, data[:600])
        await eventually(lambda: not stream.pending)
        written = (folder / "ab" / "ab12.1.out").rename(tmp_path / "aside")
        (folder / "ab").rmdir()
        (folder / "ab").write_text("in the way")  # works for root as well, unlike a mode
        for i in range(600, 3000, 100):
            await feed(stream, data[i : i + 100])
        tail = OutputChunk(offset=3000 - TAIL, data=data[-TAIL:], end=3000)
        assert await recorder.read(JOB, 1, 700, 5000) == tail
        await recorder.save(stream)  # refused, too
        (folder / "ab").unlink()
        (folder / "ab").mkdir()
        written.rename(folder / "ab" / "ab12.1.out")
        await recorder.save(stream)
        recorder.close(JOB, 1)
    assert await recorder.read(JOB, 1, 600, 5000) == tail
    assert sorted(await whole(recorder)) == [*range(600), *range(3000 - TAIL, 3000)]


# --- marks -----------------------------------------------------------------------------------------------------------


async def test_a_mark_is_made_once_a_second_where_something_was_written(wall_clock: WallClock) -> None:
    monotonic, began = Monotonic(), utc_now()
    recorder = OutputRecorder(FakeOutputs(), FakeBus(), monotonic)
    stream = recorder.open(JOB, 1)
    for seconds in (0, 0.3, 0.999, 1, 1.5, 2.2, 2.4, 60, 60.9, 61):
        step = began + timedelta(seconds=seconds) - utc_now()
        wall_clock.step(step.total_seconds())
        monotonic.now = 1000 + seconds
        stream.write(b"0123456789")
    marks = await recorder.marks(JOB, 1)
    assert [mark.offset for mark in marks] == [0, 30, 50, 70, 90]
    assert [round((mark.at - began).total_seconds()) for mark in marks] == [0, 1, 2, 60, 61]
    await recorder.save(stream)
    assert list(await recorder.marks(JOB, 1)) == list(marks)
    recorder.close(JOB, 1)
    assert list(await recorder.marks(JOB, 1)) == list(marks)


async def test_a_clock_that_is_set_back_delays_no_mark(wall_clock: WallClock) -> None:
    monotonic = Monotonic()
    recorder = OutputRecorder(FakeOutputs(), FakeBus(), monotonic)
    stream = recorder.open(JOB, 1)
    for _ in range(5):
        stream.write(b"x")
        monotonic.now += 1
        wall_clock.step(-3600)
    assert [mark.offset for mark in await recorder.marks(JOB, 1)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("is_saved", [False, True])
async def test_where_bytes_are_cut_out_their_marks_are_too_live_and_after_the_end(
    store: FileOutputs, is_saved: bool
) -> None:
    monotonic = Monotonic()
    recorder = OutputRecorder(store, FakeBus(), monotonic)
    stream = recorder.open(JOB, 1)
    times = {}
    async with writing_behind(recorder):
        for start in range(0, 10_000, 100):
            await feed(stream, bytes(100))
            times[start] = monotonic.now
            monotonic.now += 1
            if start == 5000:
                await eventually(lambda: not stream.pending)
        if is_saved:
            await recorder.save(stream)
            recorder.close(JOB, 1)
        marks = await recorder.marks(JOB, 1)
    tail = 10_000 - TAIL
    assert [mark.offset for mark in marks] == [*range(0, HEAD, 100), tail, *range(9000, 10_000, 100)]


async def test_marks_of_a_very_long_attempt_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their spacing doubles after each so many, so their number grows with the logarithm of the time."""
    monkeypatch.setattr(output, "MARKS_FINE", 10)
    monotonic = Monotonic()
    recorder = OutputRecorder(FakeOutputs(), FakeBus(), monotonic)
    stream = recorder.open(JOB, 1)
    for _ in range(2000):
        stream.write(b"x")
        monotonic.now += 1
    marks = await recorder.marks(JOB, 1)
    assert [mark.offset for mark in marks[:13]] == [*range(10), 11, 13, 15]
    assert len(marks) < 10 * 8


async def test_marks_that_a_full_disk_keeps_waiting_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MARKS_PENDING", 50)
    monotonic = Monotonic()
    store = FakeOutputs(BOUNDS)
    store.is_full = True
    recorder = OutputRecorder(store, FakeBus(), monotonic)
    stream = recorder.open(JOB, 1)
    stream.stop_keeping()
    for _ in range(1000):
        stream.write(bytes(100))
        monotonic.now += 1
    assert len(stream._marks) <= 51
    marks = await recorder.marks(JOB, 1)
    assert [mark.offset for mark in marks] == [100_000 - TAIL, *range(99_000, 100_000, 100)]
    assert marks == sorted(marks, key=lambda mark: mark.at)
    assert isinstance(marks[0], OutputMark)
