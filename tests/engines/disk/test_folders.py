"""A removal that the disk refused is tried again."""

import errno
import os
from pathlib import Path

import pytest

from dropmill.engines.disk import folders
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import WRITE_BYTES
from dropmill.model.errors import StorageUnavailable


async def test_clean_up_that_the_disk_refused_is_done_by_the_next_try(
    blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a partial file, of one whose commit had been made, and of a blob that nothing refers to."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    half, whole, orphan = blobs.create(""), blobs.create(""), blobs.create("")
    await half.write(bytes(WRITE_BYTES))
    await half.pause()
    await whole.commit()
    await orphan.commit()
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

    monkeypatch.setattr(folders, "DISCARDED_MAX", 3)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        for number in range(9):
            await blobs.discard(f"{number:032x}")
        assert await blobs.retry_discards() == 3
