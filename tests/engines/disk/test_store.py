"""What is read from the store is what was stored, and small files are stored together or not at all."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.engines.disk.tampering import change_in_place, empty, extend, remove, shorten

from dropmill.engines.disk import files, folders
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import WRITE_BYTES
from dropmill.model.errors import BytesLost
from dropmill.model.uploads import StoredBlob
from dropmill.ports.blobs import SmallPart


@pytest.mark.parametrize("way", [remove, shorten, empty, extend])
async def test_a_small_part_whose_bytes_are_lost_on_their_way_is_refused_with_the_others(
    blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None]
) -> None:
    compare, compared = folders.Folders.require_renamed, []

    def lose(self: folders.Folders, final: Path, written: os.stat_result, size: int) -> None:
        compared.append(final)
        if len(compared) == 3:
            way(final)
        compare(self, final, written, size)

    monkeypatch.setattr(folders.Folders, "require_renamed", lose)
    with pytest.raises(BytesLost):
        await blobs.store_small([SmallPart(extension="", data=b"small")] * 12)
    assert [path for path in blobs.blobs.rglob("*") if path.is_file()] == []


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
    hash_piece = files.hash_piece

    def counted(*args: Any) -> int:
        sizes.append(hash_piece(*args))
        return sizes[-1]

    monkeypatch.setattr(files, "hash_piece", counted)
    return sizes


async def test_a_file_changed_in_place_with_its_time_restored_is_not_read(
    blobs: DiskBlobStore, hashed: list[int]
) -> None:
    blob = await _put(blobs, b"as it was stored")
    assert await _read(blobs, blob) == b"as it was stored"
    change_in_place(blobs.path(blob.key), b"as it is changed")
    for _ in range(2):
        with pytest.raises(BytesLost):
            await blobs.open_stored(blob)
    assert len(hashed) == 1  # that its bytes are others is remembered as well
    change_in_place(blobs.path(blob.key), b"as it was stored")
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
    blob = await _put(blobs, bytes(3 * files.REREAD_BYTES))
    after = DiskBlobStore(tmp_path)
    await after.open()
    assert len(set(await asyncio.gather(*(_read(after, blob) for _ in range(8))))) == 1
    assert len(hashed) == 3
    await after.close()


async def test_no_more_files_than_a_few_are_remembered_as_known(
    blobs: DiskBlobStore, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "PROVEN_MAX", 2)
    stored = [await _put(blobs, b"%d" % number) for number in range(3)]
    for blob in stored:
        await _read(blobs, blob)
    assert len(blobs._folders.proven._known) == 2
    assert hashed


@pytest.mark.parametrize("way", [remove, shorten, extend])
async def test_a_file_that_is_gone_or_of_another_size_is_not_read(
    blobs: DiskBlobStore, way: Callable[[Path], None]
) -> None:
    blob = await _put(blobs, b"content")
    way(blobs.path(blob.key))
    with pytest.raises(BytesLost):
        await blobs.open_stored(blob)
