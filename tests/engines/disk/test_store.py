"""The directory: order of its system calls, and what it does when the disk takes no more."""

import asyncio
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dropmill.engines.disk import store as disk
from dropmill.engines.disk.store import WRITE_BYTES, DiskBlobStore
from dropmill.model.errors import BytesLost, OutOfSpace, StorageUnavailable
from dropmill.model.uploads import StoredBlob
from dropmill.ports.blobs import SmallPart

STORE_SOME = """
import asyncio, os, sys
from pathlib import Path
from dropmill.engines.disk.store import DiskBlobStore
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
    store = DiskBlobStore(Path(sys.argv[1]))
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

STRACE = ("strace", "-f", "-y", "-s", "128", "-e", "trace=write,fsync,rename,renameat2", "-o")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_bytes_are_fsynced_then_renamed_then_their_folder_is_fsynced_then_it_is_answered(tmp_path: Path) -> None:
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

    for key in keys:
        writes = positions(rf"write\(\d+<[^>]*/incoming/{key}>")
        fsynced = positions(rf"fsync\(\d+<[^>]*/incoming/{key}>")
        renamed = positions(rf'rename\("[^"]*/incoming/{key}", "[^"]*/blobs/{key[:2]}/{key}"')
        folder_fsynced = [at for at in positions(rf"fsync\(\d+<[^>]*/blobs/{key[:2]}>") if at > renamed[0]]
        answered = positions(rf"write\(1<.*answered {key}")
        assert writes
        assert len(fsynced) == len(renamed) == len(answered) == 1
        assert max(writes) < fsynced[0] < renamed[0] < folder_fsynced[0] < answered[0]


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


def test_a_full_disk_is_said_and_what_was_written_is_removed(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; it fails the same calls."""
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


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    os.truncate(path, 1)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _extend(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def _replace(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.with_name("keeps-the-inode").touch()
    path.write_bytes(content[:-1])


WAYS = [_remove, _cut, _empty, _extend, _replace]


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


@pytest.mark.parametrize("way", [_remove, _cut, _empty, _extend])
async def test_a_small_part_whose_bytes_are_lost_on_their_way_is_refused_with_the_others(
    blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None]
) -> None:
    rename, renamed = os.rename, []

    def lose(source: Path, target: Path) -> None:
        rename(source, target)
        renamed.append(target)
        if len(renamed) == 3:
            way(target)

    monkeypatch.setattr(os, "rename", lose)
    with pytest.raises(BytesLost):
        await blobs.store_small([SmallPart(extension="", data=b"small")] * 12)
    assert [path for path in blobs.blobs.rglob("*") if path.is_file()] == []


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


async def test_a_result_that_is_changed_while_it_is_taken_is_refused(
    blobs: DiskBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same size, modification time set back: only the change time tells."""
    result = tmp_path / "result"
    result.write_bytes(b"before")
    pread = os.pread

    def change_after(descriptor: int, size: int, offset: int) -> bytes:
        piece = pread(descriptor, size, offset)
        if piece:
            _change_in_place(result, b"after!")
        return piece

    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", change_after)
            with pytest.raises(ValueError, match="still being written"):
                await blobs.adopt(folder, "result")
    finally:
        os.close(folder)
    assert result.exists()


# --- what is read is what was stored ----------------------------------------------------------------------------------


def _change_in_place(path: Path, content: bytes) -> None:
    """Change a file as one does who wants to hide it."""
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(before.st_mode & 0o777)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def _put(blobs: DiskBlobStore, content: bytes) -> StoredBlob:
    writer = blobs.create("")
    await writer.write(content)
    return await writer.commit()


async def _read(blobs: DiskBlobStore, blob: StoredBlob) -> bytes:
    descriptor, _ = await blobs.open_stored(blob)
    try:
        return os.pread(descriptor, blob.size + 1, 0)
    finally:
        os.close(descriptor)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of pieces that were read in order to be hashed."""
    sizes: list[int] = []
    hash_piece = disk._hash_piece

    def counted(*args: Any) -> int:
        sizes.append(hash_piece(*args))
        return sizes[-1]

    monkeypatch.setattr(disk, "_hash_piece", counted)
    return sizes


async def test_a_file_changed_in_place_with_its_time_restored_is_not_read(
    blobs: DiskBlobStore, hashed: list[int]
) -> None:
    blob = await _put(blobs, b"as it was stored")
    assert await _read(blobs, blob) == b"as it was stored"
    _change_in_place(blobs.path(blob.key), b"as it is changed")
    for _ in range(2):
        with pytest.raises(BytesLost):
            await blobs.open_stored(blob)
    assert len(hashed) == 1  # that its bytes are others is remembered as well
    _change_in_place(blobs.path(blob.key), b"as it was stored")
    assert await _read(blobs, blob) == b"as it was stored"


async def test_what_this_process_stored_is_read_without_hashing_it(blobs: DiskBlobStore, hashed: list[int]) -> None:
    for content in (b"small", bytes(2 * WRITE_BYTES)):
        blob = await _put(blobs, content)
        assert await _read(blobs, blob) == content
    assert hashed == []


async def test_after_a_restart_or_a_restore_a_file_is_hashed_once(
    blobs: DiskBlobStore, tmp_path: Path, hashed: list[int]
) -> None:
    blob = await _put(blobs, b"content")
    after = DiskBlobStore(tmp_path)
    await after.open()
    for _ in range(3):
        assert await _read(after, blob) == b"content"
    assert len(hashed) == 1
    copy = tmp_path / "copy"
    shutil.copy2(after.path(blob.key), copy)
    copy.rename(after.path(blob.key))  # as a backup brings it back
    for _ in range(3):
        assert await _read(after, blob) == b"content"
    assert len(hashed) == 2
    after.path(blob.key).chmod(0o600)
    assert await _read(after, blob) == b"content"
    assert len(hashed) == 3
    await after.close()


async def test_many_who_ask_for_an_unknown_file_share_one_reading(
    blobs: DiskBlobStore, tmp_path: Path, hashed: list[int]
) -> None:
    blob = await _put(blobs, bytes(3 * disk.REREAD_BYTES))
    after = DiskBlobStore(tmp_path)
    await after.open()
    assert len(set(await asyncio.gather(*(_read(after, blob) for _ in range(8))))) == 1
    assert len(hashed) == 3
    await after.close()


async def test_no_more_files_than_a_few_are_remembered_as_known(
    blobs: DiskBlobStore, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "PROVEN_MAX", 2)
    stored = [await _put(blobs, b"%d" % number) for number in range(3)]
    for blob in stored:
        await _read(blobs, blob)
    assert len(blobs._proven._known) == 2
    assert hashed


@pytest.mark.parametrize("way", [_remove, _cut, _extend])
async def test_a_file_that_is_gone_or_of_another_size_is_not_read(
    blobs: DiskBlobStore, way: Callable[[Path], None]
) -> None:
    blob = await _put(blobs, b"content")
    way(blobs.path(blob.key))
    with pytest.raises(BytesLost):
        await blobs.open_stored(blob)


# --- clean-up is tried again ------------------------------------------------------------------------------------------


async def test_clean_up_that_the_disk_refused_is_done_by_the_next_try(
    blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a partial file, of one whose commit had been made, and of a blob that nothing refers to."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    half, whole, orphan = blobs.create(""), blobs.create(""), await _put(blobs, b"orphan")
    await half.write(bytes(WRITE_BYTES))
    await half.pause()
    await whole.commit()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        await half.abort()
        await whole.abort()
        await blobs.discard(orphan.key)
        assert await blobs.retry_discards() == 3
        with pytest.raises(StorageUnavailable):
            await blobs.delete(orphan.key)
    assert await blobs.retry_discards() == 0
    assert list(blobs.incoming.iterdir()) == []
    assert [path for path in blobs.blobs.rglob("*") if path.is_file()] == []


async def test_what_is_noted_for_another_try_is_bounded(blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(disk, "DISCARDED_MAX", 3)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        for number in range(9):
            await blobs.discard(f"{number:032x}")
        assert await blobs.retry_discards() == 3
