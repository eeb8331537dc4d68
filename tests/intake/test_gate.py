"""Limits of uploads, in words."""

from pathlib import Path

import pytest

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.intake.gate import Gate, UploadLimits
from dropmill.model.errors import OutOfSpace


class FullDisk(DiskBlobStore):
    """A blob store on a disk without room."""

    async def free_bytes(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("min_free", "said"),
    [
        (0, "The disk has too little room for this. What was stored before is safe."),
        (2**30, "The disk has too little room for this; 1 GiB of it is kept free. What was stored before is safe."),
    ],
)
async def test_point_17_a_full_disk_is_told_with_what_is_kept_free_if_anything_is(
    tmp_path: Path, min_free: int, said: str
) -> None:
    gate = Gate(UploadLimits(idle_timeout_s=1, min_free=min_free), FullDisk(tmp_path))
    with pytest.raises(OutOfSpace) as caught:
        await gate.check_room(1)
    assert caught.value.detail == said
