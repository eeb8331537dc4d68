"""The directory: order of its system calls, and what it does when the disk takes no more."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dropmill.engines.embedded.disk import WRITE_BYTES, DiskBlobStore
from dropmill.model.errors import OutOfSpace

STORE_TWO = """
import asyncio, os, sys
from pathlib import Path
from dropmill.engines.embedded.disk import DiskBlobStore

async def main():
    store = DiskBlobStore(Path(sys.argv[1]))
    await store.open()
    for chunks in (1, 9):
        writer = store.create("")
        for _ in range(chunks):
            await writer.write(bytes(100_000))
        stored = await writer.commit()
        os.write(1, f"answered {stored.key};".encode())
    await store.close()

asyncio.run(main())
"""

STRACE = ("strace", "-f", "-y", "-s", "64", "-e", "trace=write,fsync,rename,renameat2", "-o")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_bytes_are_fsynced_then_renamed_then_their_folder_is_fsynced_then_it_is_answered(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "data").mkdir()
    answers = subprocess.run(
        [*STRACE, str(trace), sys.executable, "-c", STORE_TWO, str(tmp_path / "data")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    keys = re.findall(r"answered (\w+)", answers)
    assert len(keys) == 2
    calls = trace.read_text().splitlines()

    def positions(pattern: str) -> list[int]:
        return [number for number, call in enumerate(calls) if re.search(pattern, call)]

    for key in keys:
        writes = positions(rf"write\(\d+<[^>]*/incoming/{key}>")
        fsynced = positions(rf"fsync\(\d+<[^>]*/incoming/{key}>")
        renamed = positions(rf'rename\("[^"]*/incoming/{key}", "[^"]*/blobs/{key[:2]}/{key}"')
        folder_fsynced = [at for at in positions(rf"fsync\(\d+<[^>]*/blobs/{key[:2]}>") if at > renamed[0]]
        answered = positions(rf'write\(1<.*"answered {key}')
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
from dropmill.engines.embedded.disk import DiskBlobStore
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
        with pytest.raises(OSError if code == errno.EIO else OutOfSpace):
            await writer.commit()
    await writer.abort()
    assert list(blobs.incoming.iterdir()) == []
    assert [path for path in blobs.blobs.rglob("*") if path.is_file()] == []
