"""The files of outputs: what lies where, and what a kill or an earlier version left."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dropmill.engines.local.outputs import FileOutputs
from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece

JOB = JobId("ab12")
BEGAN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
BOUNDS = OutputBounds(head=100, tail=50)


def piece_of(offset: int, data: bytes, *offsets: int) -> OutputPiece:
    marks = tuple(OutputMark(at=BEGAN + timedelta(seconds=at), offset=at) for at in offsets)
    return OutputPiece(job_id=JOB, number=1, offset=offset, data=data, began_at=BEGAN, marks=marks)


async def test_what_lies_on_disk_is_one_users_own(tmp_path: Path) -> None:
    store = FileOutputs(tmp_path / "outputs", BOUNDS)
    await store.append([piece_of(0, bytes(200), 7, 180)])
    found = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*")}
    assert found == {
        "outputs": 0o700,
        "outputs/ab": 0o700,
        "outputs/ab/ab12.1.out": 0o600,
        "outputs/ab/ab12.1.tail": 0o600,
        "outputs/ab/ab12.1.marks": 0o600,
    }


async def test_output_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It has no marks but the time of its file."""
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "ab12.1.out").write_bytes(b"a" * 100)
    (tmp_path / "ab" / "ab12.1.tail").write_bytes((250).to_bytes(8, "big") + b"b" * 50)
    store = FileOutputs(tmp_path, BOUNDS)
    assert await store.read(JOB, 1, 0, 1000) == OutputChunk(offset=0, data=b"a" * 100, end=300)
    assert await store.read(JOB, 1, 100, 1000) == OutputChunk(offset=250, data=b"b" * 50, end=300)
    assert [mark.offset for mark in await store.marks(JOB, 1)] == [0, 250]
    await store.remove([(JOB, 1)])
    assert list((tmp_path / "ab").iterdir()) == []


@pytest.mark.parametrize("left", [1, 8, 15])
async def test_half_a_mark_that_a_kill_has_left_is_written_over(tmp_path: Path, left: int) -> None:
    store = FileOutputs(tmp_path, BOUNDS)
    await store.append([piece_of(0, bytes(50), 10, 20)])
    with (tmp_path / "ab" / "ab12.1.marks").open("ab") as file:
        file.write(b"\x01" * left)
    assert [mark.offset for mark in await store.marks(JOB, 1)] == [0, 10, 20]
    await store.append([piece_of(50, bytes(10), 50)])
    assert [mark.offset for mark in await store.marks(JOB, 1)] == [0, 10, 20, 50]


async def test_marks_are_right_where_only_the_end_could_be_stored(tmp_path: Path) -> None:
    """The beginning was refused, because the disk was full; the end of the attempt found room."""
    store = FileOutputs(tmp_path, BOUNDS)
    assert await store.end(piece_of(70, bytes(30), 80))
    assert await store.read(JOB, 1, 0, 1000) == OutputChunk(offset=70, data=bytes(30), end=100)
    expected = [OutputMark(at=BEGAN, offset=70), OutputMark(at=BEGAN + timedelta(seconds=80), offset=80)]
    assert list(await store.marks(JOB, 1)) == expected


async def test_an_end_that_is_being_replaced_when_the_process_is_killed_stays_as_it_was(tmp_path: Path) -> None:
    store = FileOutputs(tmp_path, BOUNDS)
    await store.append([piece_of(0, b"x" * 150)])
    (tmp_path / "ab" / "ab12.1.tail.new").write_bytes(b"half")
    assert await store.read(JOB, 1, 120, 1000) == OutputChunk(offset=120, data=b"x" * 30, end=150)
    await store.append([piece_of(150, b"y" * 10)])
    assert (await store.read(JOB, 1, 100, 1000)).data == b"x" * 40 + b"y" * 10
    (tmp_path / "ab" / "ab12.1.tail.new").write_bytes(b"half")
    await store.remove([(JOB, 1)])
    assert list((tmp_path / "ab").iterdir()) == []


RECORD = """
import asyncio, os, signal, sys
from pathlib import Path
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.local.outputs import FileOutputs
from dropmill.model.output import OutputBounds
from dropmill.processing import output

output.MARK_EVERY_S = 0

async def main():
    recorder = output.OutputRecorder(FileOutputs(Path(sys.argv[1]), OutputBounds(head=100, tail=50)), LocalBus())
    stream = recorder.open("ab12", 1)
    writing = asyncio.create_task(recorder.write_behind())
    for number in range(30):
        stream.write(b"%09d\\n" % number)
        while not stream.has_room:
            await asyncio.sleep(0.001)
    while stream.pending or stream.has_new_tail:
        await asyncio.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_written_behind_is_there_after_a_kill_with_its_marks(tmp_path: Path) -> None:
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", RECORD, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (-9, "")
    store = FileOutputs(tmp_path, BOUNDS)
    written = b"".join(b"%09d\n" % number for number in range(30))
    assert await store.read(JOB, 1, 0, 1000) == OutputChunk(offset=0, data=written[:100], end=300)
    assert await store.read(JOB, 1, 100, 1000) == OutputChunk(offset=250, data=written[250:], end=300)
    marks = await store.marks(JOB, 1)
    assert [mark.offset for mark in marks] == [*range(0, 100, 10), *range(250, 300, 10)]
    assert marks == sorted(marks, key=lambda mark: mark.at)
