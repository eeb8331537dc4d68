"""A file of this machine that becomes a blob; `tests/processing/test_results.py` has the rest, through attempts."""

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines.disk.tampering import change_in_place
from tests.support.missing import missing

from dropmill.engines.disk.adoption import Adoption
from dropmill.engines.disk.files import REREAD_BYTES
from dropmill.engines.disk.store import DiskBlobStore


async def test_a_result_that_is_changed_while_it_is_taken_is_refused(
    blobs: DiskBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same size, modification time restored: only the change time shows it."""
    result = tmp_path / "result"
    result.write_bytes(b"before")
    pread = os.pread

    def change_after(descriptor: int, size: int, offset: int) -> bytes:
        piece = pread(descriptor, size, offset)
        if piece:
            change_in_place(result, b"after!")
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


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the store's."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        missing("there is no second file system")
    folder = Path(tempfile.mkdtemp(dir=shared_memory))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("size", [0, 5, REREAD_BYTES, 2 * REREAD_BYTES + 77])
async def test_a_result_on_another_file_system_is_copied(blobs: DiskBlobStore, elsewhere: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (elsewhere / "result").write_bytes(content)
    folder = os.open(elsewhere, os.O_RDONLY)
    try:
        stored = await blobs.adopt(folder, "result")
    finally:
        os.close(folder)
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    path = blobs.path(stored.key)
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o400
    assert os.listdir(elsewhere) == os.listdir(blobs.incoming) == []
    assert blobs.proven(stored.key) is not None


async def test_a_result_that_is_changed_while_it_is_copied_is_refused(
    blobs: DiskBlobStore, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "result").write_bytes(bytes(REREAD_BYTES))
    begin = Adoption._begin_copy

    def change_first(adoption: Adoption) -> None:
        begin(adoption)
        change_in_place(elsewhere / "result", b"1" * REREAD_BYTES)

    monkeypatch.setattr(Adoption, "_begin_copy", change_first)
    folder = os.open(elsewhere, os.O_RDONLY)
    try:
        with pytest.raises(ValueError, match="still being written"):
            await blobs.adopt(folder, "result")
    finally:
        os.close(folder)
    assert os.listdir(blobs.incoming) == []
    assert [path for path in blobs.blobs.rglob("*") if path.is_file()] == []
