"""What every store of outputs promises, and the fake that other tests use. A further engine joins by an entry."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.fakes.outputs import FakeOutputs

from dropmill.engines.local.outputs import FileOutputs
from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece
from dropmill.ports.outputs import Outputs

JOB = JobId("ab12")
HEAD, TAIL = 4096, 1024
BOUNDS = OutputBounds(head=HEAD, tail=TAIL)
BEGAN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@dataclass
class Engine:
    """A kind of store."""

    open: Callable[[], Outputs]
    """What a process opens; those of several processes share one place."""
    refusing: Callable[[JobId], AbstractContextManager[None]]
    """Within it the store takes nothing of a job, and keeps what it has."""


def _files(folder: Path) -> Engine:
    outputs = folder / "outputs"

    @contextmanager
    def refusing(job_id: JobId) -> Iterator[None]:
        place, aside = outputs / job_id[:2], folder / "aside"
        outputs.mkdir(exist_ok=True)
        if is_there := place.exists():
            place.rename(aside)
        place.write_text("in the way")  # works for root as well, unlike a mode
        yield
        place.unlink()
        if is_there:
            aside.rename(place)

    return Engine(open=lambda: FileOutputs(outputs, BOUNDS), refusing=refusing)


def _fake(_: Path) -> Engine:
    fake = FakeOutputs(BOUNDS)

    @contextmanager
    def refusing(_: JobId) -> Iterator[None]:
        fake.is_full = True
        yield
        fake.is_full = False

    return Engine(open=lambda: fake, refusing=refusing)


ENGINES = {"files": _files, "fake": _fake}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return ENGINES[request.param](tmp_path)


@pytest.fixture
def store(engine: Engine) -> Outputs:
    return engine.open()


def piece_of(
    offset: int, data: bytes, *marks: OutputMark, job_id: JobId = JOB, number: int = 1, began_at: datetime = BEGAN
) -> OutputPiece:
    return OutputPiece(job_id=job_id, number=number, offset=offset, data=data, began_at=began_at, marks=marks)


def mark(offset: int, seconds: float) -> OutputMark:
    return OutputMark(at=BEGAN + timedelta(seconds=seconds), offset=offset)


async def whole(store: Outputs, number: int = 1, limit: int = 700) -> dict[int, int]:
    """All that can be read, each byte at its offset; the pieces follow one another."""
    found: dict[int, int] = {}
    start = 0
    while (chunk := await store.read(JOB, number, start, limit)).data:
        assert chunk.offset >= start
        assert len(chunk.data) <= limit
        found |= {chunk.offset + at: byte for at, byte in enumerate(chunk.data)}
        start = chunk.offset + len(chunk.data)
    assert start == chunk.end
    return found


def kept(data: bytes) -> dict[int, int]:
    """What has to be readable of `data`."""
    return {at: byte for at, byte in enumerate(data) if at < HEAD or at >= len(data) - TAIL}


SIZES = [1, 600, HEAD - 1, HEAD, HEAD + 1, HEAD + TAIL, HEAD + TAIL + 1, 12_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [97, TAIL, TAIL + 500])
async def test_the_beginning_and_the_end_are_kept_and_readable_from_any_process_at_any_time(
    engine: Engine, size: int, step: int
) -> None:
    data = random.Random(size).randbytes(size)
    writer, reader = engine.open(), engine.open()
    for start in range(0, size, step):
        piece = data[start : start + step]
        assert not await writer.append([piece_of(start, piece)])
        if start % 3 == 0:
            written = data[: start + len(piece)]
            assert await whole(reader) == kept(written)
            assert (await reader.read(JOB, 1, 0, 1)).end == len(written)
    assert await writer.end(piece_of(size, b""))
    assert await whole(engine.open()) == kept(data)


async def test_a_piece_may_come_twice_overlap_and_be_late(engine: Engine) -> None:
    """A newest MiB is stored again and again; whoever stores it may have two pieces under way."""
    store = engine.open()
    data = random.Random(1).randbytes(9000)
    for start, end in [(0, 3000), (0, 3000), (2000, 5000), (1000, 4000), (4500, 5500), (4600, 5300), (5000, 9000)]:
        assert not await store.append([piece_of(start, data[start:end])])
        assert not await store.append([piece_of(start, data[start:end])])
    assert not await store.append([piece_of(5400, data[5400:5600])])
    assert await whole(store) == kept(data)


@pytest.mark.parametrize("end", [600, HEAD, HEAD + 300, 9000])
async def test_a_gap_counts_as_cut_out(engine: Engine, end: int) -> None:
    store = engine.open()
    data = random.Random(2).randbytes(end + 5000)
    await store.append([piece_of(0, data[:end])])
    await store.append([piece_of(end + 4900, data[end + 4900 :])])
    head = {at: byte for at, byte in enumerate(data) if at < min(end, HEAD)}
    assert await whole(store) == head | {at: data[at] for at in range(end + 4900, len(data))}


async def test_what_is_read_begins_where_it_is_kept_and_is_as_long_as_asked_for(store: Outputs) -> None:
    data = random.Random(3).randbytes(8000)
    await store.append([piece_of(0, data)])
    tail = 8000 - TAIL
    assert await store.read(JOB, 1, -5, 3) == OutputChunk(offset=0, data=data[:3], end=8000)
    assert await store.read(JOB, 1, 100, 50) == OutputChunk(offset=100, data=data[100:150], end=8000)
    assert await store.read(JOB, 1, HEAD - 2, 50) == OutputChunk(offset=HEAD - 2, data=data[HEAD - 2 : HEAD], end=8000)
    assert await store.read(JOB, 1, HEAD, 50) == OutputChunk(offset=tail, data=data[tail : tail + 50], end=8000)
    assert await store.read(JOB, 1, tail + 1, 1 << 20) == OutputChunk(offset=tail + 1, data=data[tail + 1 :], end=8000)
    for start in (8000, 9000):
        assert await store.read(JOB, 1, start, 50) == OutputChunk(offset=8000, data=b"", end=8000)


async def test_an_attempt_that_never_wrote_reads_as_empty(store: Outputs) -> None:
    assert await store.read(JOB, 1, 0, 10) == OutputChunk(offset=0, data=b"", end=0)
    assert list(await store.marks(JOB, 1)) == []


async def test_attempts_and_jobs_have_outputs_of_their_own(store: Outputs) -> None:
    other = JobId("ab13")
    pieces = [piece_of(0, b"first"), piece_of(0, b"second", number=2), piece_of(0, b"other", job_id=other)]
    assert not await store.append(pieces)
    read = [(await store.read(*attempt, 0, 99)).data for attempt in [(JOB, 1), (JOB, 2), (other, 1), (other, 2)]]
    assert read == [b"first", b"second", b"other", b""]


async def test_removed_output_is_gone_with_its_marks_and_removing_none_is_no_error(store: Outputs) -> None:
    data = bytes(9000)
    for number in (1, 2):
        await store.append([piece_of(0, data, mark(100, 1), mark(8000, 2), number=number)])
    await store.remove([(JOB, 1), (JOB, 3)])
    await store.remove([(JOB, 1)])
    assert await store.read(JOB, 1, 0, 10) == OutputChunk(offset=0, data=b"", end=0)
    assert list(await store.marks(JOB, 1)) == []
    assert len(await whole(store, 2)) == HEAD + TAIL
    assert len(await store.marks(JOB, 2)) == 4
    await store.append([piece_of(0, b"anew", began_at=BEGAN + timedelta(days=1))])  # it finds nothing of the old one
    assert list(await store.marks(JOB, 1)) == [OutputMark(at=BEGAN + timedelta(days=1), offset=0)]


async def test_what_is_refused_is_named_and_what_was_stored_stays(engine: Engine) -> None:
    store, data = engine.open(), random.Random(4).randbytes(3000)
    await store.append([piece_of(0, data[:600])])
    with engine.refusing(JOB):
        assert set(await store.append([piece_of(600, data[600:700])])) == {(JOB, 1)}
        assert not await store.end(piece_of(600, data[600:]))
    assert await whole(store) == {at: data[at] for at in range(600)}
    assert await store.end(piece_of(600, data[600:]))
    assert await whole(store) == kept(data)


# --- marks -----------------------------------------------------------------------------------------------------------


async def test_the_first_byte_has_a_mark_however_often_is_written(engine: Engine) -> None:
    store = engine.open()
    for start in range(0, 50, 10):
        await store.append([piece_of(start, b"0123456789")])
        assert list(await engine.open().marks(JOB, 1)) == [OutputMark(at=BEGAN, offset=0)]
    assert await store.end(piece_of(50, b""))
    assert list(await engine.open().marks(JOB, 1)) == [OutputMark(at=BEGAN, offset=0)]


async def test_marks_follow_in_the_order_of_offsets_whenever_they_came(engine: Engine) -> None:
    """Their times are kept as they are, also where a clock was set back."""
    store = engine.open()
    await store.append([piece_of(0, bytes(10))])
    await store.append([piece_of(10, bytes(10), mark(10, 1))])
    await store.append([piece_of(20, bytes(20), mark(10, 1), mark(20, 2), mark(30, -3600.5))])
    assert await store.end(piece_of(40, bytes(1), mark(40, 4)))
    expected = [mark(0, 0), mark(10, 1), mark(20, 2), mark(30, -3600.5), mark(40, 4)]
    assert list(await engine.open().marks(JOB, 1)) == expected


@pytest.mark.parametrize("size", [600, HEAD, HEAD + 1, HEAD + TAIL, HEAD + TAIL + 1, HEAD + TAIL + 37, 12_000])
@pytest.mark.parametrize("step", [50, 333, 2500])
async def test_every_byte_that_is_kept_has_the_time_it_was_written_and_no_other_has_a_mark(
    engine: Engine, size: int, step: int
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    store, data = engine.open(), rng.randbytes(size)
    offsets = sorted({0, *rng.sample(range(size), min(size, 40))})
    times = [BEGAN + timedelta(seconds=at) for at in range(len(offsets))]

    def time_of(byte: int) -> datetime:
        return times[bisect_right(offsets, byte) - 1]

    for start in range(0, size, step):
        new = [OutputMark(at=time_of(at), offset=at) for at in offsets if max(1, start) <= at < start + step]
        await store.append([piece_of(start, data[start : start + step], *new)])
    assert await store.end(piece_of(size, b""))
    marks = await engine.open().marks(JOB, 1)
    there = await whole(store)
    starts = [found.offset for found in marks]
    assert starts == sorted(set(starts))
    assert set(starts) <= set(there)
    assert {at: marks[bisect_right(starts, at) - 1].at for at in there} == {at: time_of(at) for at in there}
    assert len(marks) <= len(offsets) + 1
