"""A file of this machine that becomes a blob; `tests/processing/test_results.py` has the rest, through attempts."""

import os
from pathlib import Path

import pytest
from tests.engines.disk.tampering import change_in_place

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
