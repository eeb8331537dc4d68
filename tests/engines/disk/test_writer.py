"""A blob on its way to the disk: the order of system calls, a full disk, and bytes that somebody else changed."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engines.disk.tampering import empty, extend, remove, replace, shorten

from dropmill.engines.disk import files
from dropmill.engines.disk.files import WRITE_BACK_BYTES, HashedFile
from dropmill.engines.disk.folders import TAKES_MAX
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import WRITE_BYTES
from dropmill.model.errors import BytesLost, OutOfSpace, StorageUnavailable

STORE_SOME = """
import asyncio, os, sys
from pathlib import Path
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.syncing import Syncing
from dropmill.ports.blobs import SmallPart

class Zeros:
    left = 400_000
    def read_into(self, buffer):
        length = min(self.left, len(buffer))
        self.left -= length
        return length
    def stop(self):
        pass

async def main():
    store = DiskBlobStore(Path(sys.argv[1]), lambda _: Syncing.WHOLE_DISK)
    await store.open()
    for chunks in (1, 9):
        writer = store.create("")
        for _ in range(chunks):
            await writer.write(bytes(100_000))
        stored = await writer.commit()
        os.write(1, f"answered {stored.key};".encode())
    writer = store.create("")
    await writer.take(Zeros(), 1 << 30)
    stored = await writer.commit()
    os.write(1, f"answered {stored.key};".encode())
    parts = [SmallPart(extension="", data=b"small")] * 2
    os.write(1, "".join(f"answered {blob.key};" for blob in await store.store_small(parts)).encode())
    await store.close()

asyncio.run(main())
"""

STRACE = ("strace", "-f", "-y", "-s", "128", "-e", "trace=write,pwrite64,fsync,fdatasync,rename,renameat2", "-o")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_what_is_answered_is_durable_in_its_folder_or_in_the_journal(tmp_path: Path) -> None:
    """Promise 1. Large: written, fsynced, renamed, its folder fsynced. Small: written, and its record fdatasynced."""
    trace = tmp_path / "trace"
    (tmp_path / "data").mkdir()
    answers = subprocess.run(
        [*STRACE, str(trace), sys.executable, "-c", STORE_SOME, str(tmp_path / "data")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    keys = re.findall(r"answered (\w+)", answers)
    assert len(keys) == 5
    calls = trace.read_text().splitlines()

    def positions(pattern: str) -> list[int]:
        return [number for number, call in enumerate(calls) if re.search(pattern, call)]

    for key in keys[3:]:
        written = positions(rf"write\(\d+<[^>]*/blobs/{key[:2]}/{key}>")
        journalled = positions(r"pwrite64\(\d+<[^>]*/journal/\w+\.segment>")
        durable = positions(r"fdatasync\(\d+<[^>]*/journal/\w+\.segment>")
        answered = positions(rf"write\(1<.*answered {key}")
        assert len(written) == len(answered) == 1
        append = next(at for at in journalled if at > written[0])
        assert any(append < at < answered[0] for at in durable)
    for key in keys[:3]:
        writes = positions(rf"write\(\d+<[^>]*/incoming/{key}>")
        fsynced = positions(rf"fsync\(\d+<[^>]*/incoming/{key}>")
        renamed = positions(rf'rename\("[^"]*/incoming/{key}", "[^"]*/blobs/{key[:2]}/{key}"')
        folder_fsynced = [at for at in positions(rf"fsync\(\d+<[^>]*/blobs/{key[:2]}>") if at > renamed[0]]
        answered = positions(rf"write\(1<.*answered {key}")
        assert writes
        assert len(fsynced) == len(renamed) == len(answered) == 1
        assert max(writes) < fsynced[0] < renamed[0] < folder_fsynced[0] < answered[0]


class Flood:
    """An inflow without an end, until it is stopped."""

    is_stopped = False

    def read_into(self, buffer: memoryview) -> int:
        return 0 if self.is_stopped else len(buffer)

    def stop(self) -> None:
        self.is_stopped = True


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("blocks", [0, 1, 20])
async def test_an_error_of_the_disk_stops_the_inflow_and_the_pump_serves_the_next(
    blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch, code: int, blocks: int
) -> None:
    """More blocks than the pump has, and fewer; each pump in turn, so that a stuck one would show."""
    append = HashedFile.append
    for _ in range(2 * TAKES_MAX):
        left = blocks
        writer, inflow = blobs.create(""), Flood()

        def refuse(file: HashedFile, data: memoryview) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(code, os.strerror(code))
            append(file, data)

        with monkeypatch.context() as patch:
            patch.setattr(HashedFile, "append", refuse)
            with pytest.raises(StorageUnavailable if code == errno.EIO else OutOfSpace):
                await writer.take(inflow, 1 << 40)
        assert inflow.is_stopped
        await writer.abort()
    writer = blobs.create("")
    await writer.take(Flood(), 3_000_000)
    assert (await writer.commit()).size == 3_000_000
    assert list(blobs.incoming.iterdir()) == []


async def test_a_growing_file_is_written_back_early(blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte once, and nothing is waited for; the promise is the fsync of the commit."""
    begun: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        files, "_sync_file_range", lambda _, at, size, flags: begun.append((at.value, size.value, flags))
    )
    writer = blobs.create("")
    await writer.write(bytes(1000))
    await writer.take(Flood(), 2 * WRITE_BACK_BYTES)
    await writer.abort()
    assert len(begun) == 2
    assert begun[0][0] == 0
    assert begun[1][0] == begun[0][1] >= WRITE_BACK_BYTES
    assert {flags for _, _, flags in begun} == {2}  # SYNC_FILE_RANGE_WRITE alone


async def test_a_file_under_way_is_for_nobody_elses_eyes(tmp_path: Path, blobs: DiskBlobStore) -> None:
    writer = blobs.create("")
    await writer.write(bytes(2 * WRITE_BYTES))
    (path,) = blobs.incoming.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    await writer.abort()


FILL = """
import asyncio, json, resource, sys
from pathlib import Path
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.model.errors import OutOfSpace

async def attempt(store, sizes):
    writer = store.create("")
    try:
        for size in sizes:
            await writer.write(bytes(size))
        await writer.commit()
    except OutOfSpace as error:
        await writer.abort()
        return error.detail
    return "stored"

async def main():
    store = DiskBlobStore(Path(sys.argv[1]))
    await store.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    large, just_over = await attempt(store, [100_000] * 9), await attempt(store, [100_000] * 4 + [1])
    after = await attempt(store, [100_000] * 4)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps([large, just_over, after, await attempt(store, [100_000] * 9), await store.sweep()]))
    await store.close()

asyncio.run(main())
"""


def test_a_full_disk_is_reported_and_the_bytes_are_removed(tmp_path: Path) -> None:
    """A limit on the size of files replaces the full disk; the same calls fail."""
    ran = subprocess.run([sys.executable, "-c", FILL, tmp_path], check=True, capture_output=True, text=True, timeout=60)
    large, just_over, after, freed, swept = json.loads(ran.stdout)
    assert large == just_over
    assert "disk is full" in large
    assert (after, freed, swept) == ("stored", "stored", 0)
    assert ran.stderr == ""


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
async def test_a_commit_that_fails_at_any_step_can_be_aborted(
    blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    writer = blobs.create("")
    await writer.write(bytes(WRITE_BYTES + 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageUnavailable if code == errno.EIO else OutOfSpace):
            await writer.commit()
    await writer.abort()
    assert list(blobs.incoming.iterdir()) == []
    assert [path for path in blobs.blobs.rglob("*") if path.is_file()] == []


# --- a commit compares what is on disk with what was received ---------------------------------------------------------


WAYS = [remove, shorten, empty, extend, replace]


class Zeros:
    """An inflow of so many zeros."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read_into(self, buffer: memoryview) -> int:
        length = min(self._left, len(buffer))
        self._left -= length
        buffer[:length] = bytes(length)
        return length

    def stop(self) -> None:
        self._left = 0


@pytest.mark.parametrize("is_paused", [False, True])
@pytest.mark.parametrize("size", [2 * WRITE_BYTES, 2 * WRITE_BYTES + 7])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_commit_of_other_bytes_than_were_received_is_refused(
    blobs: DiskBlobStore, way: Callable[[Path], None], size: int, is_paused: bool, is_taken: bool
) -> None:
    writer = blobs.create("")
    if is_taken:
        await writer.take(Zeros(size), size)
    for start in range(0, 0 if is_taken else size, WRITE_BYTES):
        await writer.write(bytes(min(WRITE_BYTES, size - start)))
    if is_paused:
        await writer.pause()
    way(blobs.incoming / writer.key)
    with pytest.raises(BytesLost):
        await writer.commit()
    assert not blobs.path(writer.key).exists()
    await writer.abort()
    assert not (blobs.incoming / writer.key).exists()


@pytest.mark.parametrize("is_taken", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_vanished_partial_file_is_never_made_anew(
    blobs: DiskBlobStore, way: Callable[[Path], None], is_taken: bool
) -> None:
    """600,000 bytes that were received and are gone must not become a file of what comes after them."""
    writer = blobs.create("")
    await writer.write(bytes(600_000))
    await writer.pause()
    path = blobs.incoming / writer.key
    way(path)
    with pytest.raises(BytesLost):
        await writer.verify()
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(BytesLost):
        await (writer.take(Zeros(WRITE_BYTES), WRITE_BYTES) if is_taken else writer.write(bytes(WRITE_BYTES)))
    assert (path.read_bytes() if path.exists() else None) == before
    await writer.abort()


async def test_a_chunk_is_not_cut_back_to_bytes_that_are_gone(blobs: DiskBlobStore) -> None:
    writer = blobs.create("")
    await writer.write(bytes(1000))
    await writer.begin_chunk()
    await writer.write(bytes(WRITE_BYTES))
    os.truncate(blobs.incoming / writer.key, 10)
    with pytest.raises(BytesLost):
        await writer.drop_chunk()
    with pytest.raises(BytesLost):  # as the next process finds it
        await blobs.resume(writer.key)
    await writer.abort()


async def test_a_data_folder_that_is_away_loses_no_upload(blobs: DiskBlobStore) -> None:
    writer = blobs.create("")
    await writer.write(bytes(1000))
    await writer.pause()
    away = blobs.incoming.with_name("away")
    blobs.incoming.rename(away)
    with pytest.raises(StorageUnavailable):
        await writer.verify()
    with pytest.raises(StorageUnavailable):
        await blobs.resume(writer.key)
    with pytest.raises(StorageUnavailable):
        await writer.commit()
    away.rename(blobs.incoming)
    await writer.verify()
    assert (await writer.commit()).size == 1000
