"""What every blob store promises."""

import asyncio
import hashlib
import os
import random
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.contracts.blob_stores import ENGINES, content_of, keys

from dropmill.engines.disk.files import REREAD_BYTES
from dropmill.engines.disk.writer import WRITE_BYTES
from dropmill.model.uploads import StoredBlob
from dropmill.ports.blobs import BlobStore, BlobWriter

KIB = 1024


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with ENGINES[request.param].open(tmp_path) as made:
        yield made


async def put(store: BlobStore, content: bytes, extension: str = "") -> StoredBlob:
    writer = store.create(extension)
    await writer.write(content)
    return await writer.commit()


SIZES = (0, 1, WRITE_BYTES - 1, WRITE_BYTES, WRITE_BYTES + 1, 2 * WRITE_BYTES, 5 * 1024 * KIB + 7)
CHUNKS = (1, 997, 64 * KIB, WRITE_BYTES, 3 * 1024 * KIB)


@pytest.mark.parametrize(
    ("size", "chunk_size"), [(size, chunk) for size in SIZES for chunk in CHUNKS if size <= 1000 * chunk]
)
async def test_bytes_come_back_as_they_were_given_whatever_the_chunks(
    store: BlobStore, size: int, chunk_size: int
) -> None:
    content = random.Random(size).randbytes(size)
    writer = store.create(".bin")
    for start in range(0, size, chunk_size):
        await writer.write(content[start : start + chunk_size])
        assert writer.size == min(start + chunk_size, size)
    stored = await writer.commit()
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert stored.key.endswith(".bin")
    assert await content_of(store, stored.key) == content


async def test_a_buffer_may_be_used_again_after_each_write(store: BlobStore) -> None:
    writer = store.create("")
    buffer = bytearray(100 * KIB)
    expected = b""
    for number in range(8):
        buffer[:] = bytes([number]) * len(buffer)
        expected += buffer
        await writer.write(memoryview(buffer))
    stored = await writer.commit()
    assert await content_of(store, stored.key) == expected


@pytest.mark.parametrize("size", [10, 3 * WRITE_BYTES])
async def test_nothing_is_visible_before_commit(store: BlobStore, size: int) -> None:
    writer = store.create("")
    await writer.write(bytes(size))
    assert await keys(store) == []
    stored = await writer.commit()
    assert await keys(store) == [stored.key]


async def test_what_is_stored_cannot_be_written_to(store: BlobStore) -> None:
    for size in (3, 2 * WRITE_BYTES):
        stored = await put(store, bytes(size))
        async with store.local(stored.key) as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o400


@pytest.mark.parametrize("size", [0, 10, 3 * WRITE_BYTES + 1])
async def test_an_aborted_blob_leaves_nothing_however_often_it_is_aborted(store: BlobStore, size: int) -> None:
    writer = store.create("")
    if size:
        await writer.write(bytes(size))
    await writer.abort()
    await writer.abort()
    assert await keys(store) == []
    assert await store.sweep() == 0


async def _cancel_during(step: asyncio.Task[object], turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    step.cancel()
    await asyncio.wait([step])


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_an_abort_after_a_cancelled_write_leaves_nothing(store: BlobStore, turns: int) -> None:
    writer = store.create("")
    await writer.write(bytes(2 * WRITE_BYTES))
    await _cancel_during(asyncio.ensure_future(writer.write(bytes(8 * 1024 * KIB))), turns)
    await writer.abort()
    assert await keys(store) == []
    assert await store.sweep() == 0


@pytest.mark.parametrize("size", [10, 3 * WRITE_BYTES])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_an_abort_after_a_cancelled_commit_leaves_nothing(store: BlobStore, size: int, turns: int) -> None:
    writer = store.create("")
    await writer.write(bytes(size))
    await _cancel_during(asyncio.ensure_future(writer.commit()), turns)
    await writer.abort()
    assert await keys(store) == []
    assert await store.sweep() == 0


async def test_the_size_never_goes_back_while_bytes_are_being_written(store: BlobStore) -> None:
    """It is what a page shows as received."""
    writer = store.create("")
    seen: list[int] = []

    async def look() -> None:
        while not writing.done():
            seen.append(writer.size)
            await asyncio.sleep(0)

    async def write() -> None:
        for _ in range(20):
            await writer.write(bytes(100 * KIB))
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    await look()
    await writing
    assert seen == sorted(seen)
    await writer.abort()


async def test_many_blobs_at_once_do_not_mix(store: BlobStore) -> None:
    contents = [bytes([number]) * (number * 30 * KIB + 1) for number in range(40)]
    stored = await asyncio.gather(*(put(store, content, ".tar.gz") for content in contents))
    assert await keys(store) == sorted(blob.key for blob in stored)
    for blob, content in zip(stored, contents, strict=True):
        assert await content_of(store, blob.key) == content


async def test_a_deleted_blob_is_gone_and_deleting_none_is_no_error(store: BlobStore) -> None:
    first, second = await put(store, b"a"), await put(store, b"b")
    await store.delete(first.key)
    await store.delete(first.key)
    assert await keys(store) == [second.key]


async def test_a_sweep_removes_what_was_interrupted_and_keeps_what_was_stored(tmp_path: Path, store: BlobStore) -> None:
    stored = await put(store, b"kept")
    left: list[BlobWriter] = [store.create(""), store.create(".txt")]
    for writer in left:
        await writer.write(bytes(2 * WRITE_BYTES))
    assert await store.sweep() == 2
    assert await store.sweep() == 0
    assert await content_of(store, stored.key) == b"kept"
    for writer in left:
        await writer.abort()


async def test_the_room_left_is_told(store: BlobStore) -> None:
    assert await store.free_bytes() > 0


# --- files of this machine -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A folder and its descriptor."""
    path = tmp_path / "somebody's"
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield path, descriptor
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, WRITE_BYTES, REREAD_BYTES, REREAD_BYTES + 1, 3 * REREAD_BYTES - 1])
async def test_a_file_is_adopted_with_its_bytes_and_gone_from_its_folder(
    store: BlobStore, folder: tuple[Path, int], size: int
) -> None:
    path, descriptor = folder
    content = random.Random(size).randbytes(size)
    (path / "a name\n").write_bytes(content)
    stored = await store.adopt(descriptor, "a name\n")
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert await content_of(store, stored.key) == content
    assert await keys(store) == [stored.key]
    assert list(path.iterdir()) == []
    async with store.local(stored.key) as local:
        assert stat.S_IMODE(local.stat().st_mode) == 0o400


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "pipe", "device", "nothing"])
async def test_only_a_file_of_its_own_is_adopted(store: BlobStore, folder: tuple[Path, int], kind: str) -> None:
    """Anything else stays where it is, and is said to be what it is."""
    path, descriptor = folder
    (path.parent / "secret").write_text("secret")
    odd = path / "odd"
    match kind:
        case "link":
            odd.symlink_to(path.parent / "secret")
        case "dangling link":
            odd.symlink_to("nowhere")
        case "hard link":
            odd.hardlink_to(path.parent / "secret")
        case "folder":
            odd.mkdir()
        case "pipe":
            os.mkfifo(odd)
        case "device":
            if os.getuid() != 0:
                pytest.skip("only root makes devices")
            os.mknod(odd, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    before = os.path.lexists(odd)
    with pytest.raises(ValueError, match=r"^is "):
        await store.adopt(descriptor, "odd")
    assert os.path.lexists(odd) == before
    assert await keys(store) == []
    assert (path.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancelled_adoption_leaves_no_blob(store: BlobStore, folder: tuple[Path, int], turns: int) -> None:
    path, descriptor = folder
    (path / "x").write_bytes(bytes(3 * REREAD_BYTES))
    adopting = asyncio.ensure_future(store.adopt(descriptor, "x"))
    for _ in range(turns):
        await asyncio.sleep(0.001)
    adopting.cancel()
    await asyncio.wait([adopting])
    if not adopting.cancelled():
        await store.delete(adopting.result().key)
    assert await keys(store) == []
