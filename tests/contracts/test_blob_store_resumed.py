"""What every blob store promises of blobs that come in several goes.

A kill is played by a second store on the same folder, as the next process opens it: the first one is not told.
"""

import asyncio
import errno
import hashlib
import os
import random
import stat
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
from tests.contracts.blob_stores import ENGINES, content_of, keys

from dropmill.engines.disk.files import REREAD_BYTES
from dropmill.engines.disk.writer import WRITE_BYTES
from dropmill.model.errors import OutOfSpace
from dropmill.ports.blobs import BlobStore, BlobWriter


class Lives:
    """One store after another on one folder, as processes that are killed open it."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[BlobStore]], stack: AsyncExitStack) -> None:
        self._opened, self._stack = opened, stack

    async def next(self) -> BlobStore:
        """The store as the next process finds it."""
        return await self._stack.enter_async_context(self._opened())


in_one_file = pytest.mark.parametrize("lives", [name for name in ENGINES if name != "shared disk"], indirect=True)
"""Tests that look at the file of a growing blob. `tests/engines/disk/test_shared.py` has those of a shared folder."""


@pytest.fixture(params=ENGINES)
async def lives(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lives]:
    async with AsyncExitStack() as stack:
        yield Lives(lambda: ENGINES[request.param].open(tmp_path), stack)


@pytest.fixture
async def store(lives: Lives) -> BlobStore:
    return await lives.next()


async def require_stored(store: BlobStore, writer: BlobWriter, content: bytes) -> None:
    """Commit; what is stored must be exactly this."""
    stored = await writer.commit()
    assert (stored.key, stored.size) == (writer.key, len(content))
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert await content_of(store, stored.key) == content
    assert await keys(store) == [stored.key]
    async with store.local(stored.key) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert await store.sweep() == 0


CONTENT = random.Random(4).randbytes(2 * REREAD_BYTES + 12345)
PLACES = [0, 1, WRITE_BYTES - 1, WRITE_BYTES, WRITE_BYTES + 1, REREAD_BYTES, REREAD_BYTES + 1, len(CONTENT)]


@pytest.mark.parametrize("place", PLACES)
async def test_what_was_paused_is_there_after_a_kill_and_the_hash_is_that_of_it_all(
    lives: Lives, store: BlobStore, place: int
) -> None:
    first = store.create(".bin")
    await first.write(CONTENT[:place])
    await first.pause()
    after = await lives.next()
    assert await keys(after) == []
    writer = await after.resume(first.key)
    assert writer.size == place
    for at in range(place, len(CONTENT), 100_000):
        await writer.write(CONTENT[at : at + 100_000])
    await require_stored(after, writer, CONTENT)


async def test_a_blob_may_be_paused_and_resumed_after_every_write(lives: Lives, store: BlobStore) -> None:
    key = store.create("").key
    content, reached = CONTENT[:400_000], 0
    for number in range(20):
        writer = await (await lives.next() if number % 5 == 0 else store).resume(key)
        assert writer.size == reached
        await writer.write(content[reached : reached + 20_000])
        await writer.pause()
        reached += 20_000
    await require_stored(store, await store.resume(key), content)


async def test_a_paused_writer_goes_on_where_it_was(store: BlobStore) -> None:
    writer = store.create("")
    for at in range(0, 900_000, 90_000):
        await writer.write(CONTENT[at : at + 90_000])
        await writer.pause()
    await require_stored(store, writer, CONTENT[:900_000])


async def test_an_unknown_key_begins_a_blob(store: BlobStore) -> None:
    writer = await store.resume(store.create(".txt").key)
    assert writer.size == 0
    await writer.write(b"abc")
    await require_stored(store, writer, b"abc")


async def test_nothing_is_held_open_while_paused_or_only_found(lives: Lives, store: BlobStore) -> None:
    """Thousands of uploads may wait to be gone on with."""
    made = [store.create("") for _ in range(30)]
    for writer in made:
        await writer.write(b"abc")
        await writer.pause()
    after = await lives.next()
    before = len(os.listdir("/proc/self/fd"))
    found = [await after.resume(writer.key) for writer in made]
    for writer in found:
        await writer.write(b"def")
        await writer.pause()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.parametrize("size", [10, 3 * WRITE_BYTES])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_a_write_that_was_cancelled_counts_wholly_or_not_when_it_is_paused(
    lives: Lives, store: BlobStore, size: int, turns: int
) -> None:
    """A writer whose caller is cancelled in the middle still tells what is on disk, and in the right order."""
    writer = store.create("")
    await writer.write(CONTENT[:size])
    more = CONTENT[size : size + 8 * WRITE_BYTES]
    writing = asyncio.ensure_future(writer.write(more))
    for _ in range(turns):
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    await writer.pause()
    assert writer.size in (size, size + len(more))
    again = await (await lives.next()).resume(writer.key)
    assert again.size == writer.size
    await require_stored(store, writer, CONTENT[: writer.size])


# --- chunks that count as a whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [0, 1, WRITE_BYTES, 3 * WRITE_BYTES + 1])
@pytest.mark.parametrize("is_resumed", [False, True])
async def test_a_chunk_that_was_not_kept_is_not_there_after_a_kill(
    lives: Lives, store: BlobStore, chunk: int, is_resumed: bool
) -> None:
    writer = store.create("")
    await writer.write(CONTENT[:300_000])
    await writer.pause()
    if is_resumed:
        store = await lives.next()
        writer = await store.resume(writer.key)
    await writer.begin_chunk()
    await writer.write(CONTENT[300_000 : 300_000 + chunk])
    await writer.pause()  # as far as a kill finds it on disk
    after = await lives.next()
    found = await after.resume(writer.key)
    assert found.size == 300_000
    await found.write(CONTENT[300_000:700_000])
    await require_stored(after, found, CONTENT[:700_000])


@pytest.mark.parametrize("is_resumed", [False, True])
async def test_a_kept_chunk_is_there_after_a_kill_and_a_dropped_one_is_not(
    lives: Lives, store: BlobStore, is_resumed: bool
) -> None:
    writer = store.create("")
    await writer.write(b"begun ")
    if is_resumed:
        await writer.pause()
        store = await lives.next()
        writer = await store.resume(writer.key)
    for content, is_kept in ((b"kept ", True), (bytes(2 * WRITE_BYTES), False), (b"", True), (b"also", True)):
        await writer.begin_chunk()
        await writer.write(content)
        await (writer.keep_chunk() if is_kept else writer.drop_chunk())
    assert writer.size == len(b"begun kept also")
    after = await lives.next()
    assert (await after.resume(writer.key)).size == writer.size
    await require_stored(after, await after.resume(writer.key), b"begun kept also")


async def test_the_running_hash_forgets_a_dropped_chunk(store: BlobStore) -> None:
    writer = store.create("")
    await writer.write(bytes(2 * WRITE_BYTES))
    await writer.begin_chunk()
    await writer.write(b"x" * (2 * WRITE_BYTES))
    await writer.drop_chunk()
    await writer.write(b"y")
    await require_stored(store, writer, bytes(2 * WRITE_BYTES) + b"y")


@in_one_file
@pytest.mark.parametrize("note", [b"", b"1", b"12"])
async def test_a_note_of_a_chunk_that_was_cut_off_itself_takes_no_byte(
    tmp_path: Path, store: BlobStore, note: bytes
) -> None:
    """The disk was full or the process killed while the note of byte 12,345 was made: no byte had been written."""
    writer = store.create("")
    await writer.write(bytes(12345))
    await writer.pause()
    (tmp_path / "incoming" / f"{writer.key}.chunk").write_bytes(note)
    assert (await store.resume(writer.key)).size == 12345


# --- ends ------------------------------------------------------------------------------------------------------------


@in_one_file
async def test_a_blob_that_was_final_but_not_recorded_is_taken_up_again(lives: Lives, store: BlobStore) -> None:
    """Killed between the rename and the ledger's commit."""
    writer = store.create(".bin")
    await writer.write(CONTENT[:WRITE_BYTES])
    await writer.commit()
    after = await lives.next()
    found = await after.resume(writer.key)
    assert found.size == WRITE_BYTES
    assert await keys(after) == []
    await found.write(b"")
    await require_stored(after, found, CONTENT[:WRITE_BYTES])


@in_one_file
async def test_a_file_that_was_read_only_already_is_written_on(tmp_path: Path, store: BlobStore) -> None:
    """Killed in its commit, before the rename."""
    writer = store.create("")
    await writer.write(b"abc")
    await writer.pause()
    path = tmp_path / "incoming" / writer.key
    path.chmod(0o400)
    found = await store.resume(writer.key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await found.write(b"def")
    await require_stored(store, found, b"abcdef")


async def test_a_sweep_keeps_what_may_be_gone_on_with_and_its_chunk(store: BlobStore) -> None:
    kept, chunked, left = (store.create(extension) for extension in ("", ".txt", ".tar.gz"))
    for writer in (kept, chunked, left):
        await writer.write(b"abc")
        await writer.pause()
    await chunked.begin_chunk()
    await chunked.write(b"def")
    await chunked.pause()

    async def needed(keys: Sequence[str]) -> Collection[str]:
        assert sorted(keys) == sorted([kept.key, chunked.key, left.key])
        return {kept.key, chunked.key}

    assert await store.sweep(needed) == 1
    assert (await store.resume(kept.key)).size == 3
    assert (await store.resume(chunked.key)).size == 3
    assert (await store.resume(left.key)).size == 0


@pytest.mark.parametrize("is_resumed", [False, True])
async def test_an_abort_leaves_nothing_whatever_was_begun(lives: Lives, store: BlobStore, is_resumed: bool) -> None:
    writer = store.create("")
    await writer.write(bytes(REREAD_BYTES))
    await writer.pause()
    if is_resumed:
        store = await lives.next()
        writer = await store.resume(writer.key)
        await writer.write(bytes(2 * WRITE_BYTES))
    await writer.begin_chunk()
    await writer.write(bytes(2 * WRITE_BYTES))
    await writer.abort()
    await writer.abort()
    assert await keys(store) == []
    assert await store.sweep() == 0


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_a_cancelled_commit_can_be_taken_up(lives: Lives, store: BlobStore, turns: int) -> None:
    """A stopping server does not wait for a long file's hash; the next one does."""
    writer = store.create("")
    await writer.write(CONTENT)
    await writer.pause()
    found = await (await lives.next()).resume(writer.key)
    committing = asyncio.ensure_future(found.commit())
    for _ in range(turns):
        await asyncio.sleep(0)
    committing.cancel()
    await asyncio.wait([committing])
    last = await lives.next()
    again = await last.resume(writer.key)
    assert again.size == len(CONTENT)
    await require_stored(last, again, CONTENT)


@in_one_file
@pytest.mark.parametrize("is_chunk", [False, True])
async def test_a_full_disk_is_told_and_afterwards_the_size_is_what_is_there(
    lives: Lives, store: BlobStore, tmp_path: Path, is_chunk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half a block and no more; when there is room again it goes on from there."""
    writer = store.create("")
    await writer.write(CONTENT[: 2 * WRITE_BYTES])
    await writer.pause()
    path = tmp_path / "incoming" / writer.key
    if is_chunk:
        await writer.begin_chunk()

    async def write_pieces(pieces: list[bytes]) -> None:
        with path.open("ab") as file:
            file.write(b"".join(pieces)[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "_write_pieces", write_pieces)
    with pytest.raises(OutOfSpace):
        await writer.write(CONTENT[2 * WRITE_BYTES : 4 * WRITE_BYTES])
    with pytest.raises(OutOfSpace):
        await writer.pause()  # not silently forgotten
    found = await store.resume(writer.key)
    assert found.size == 2 * WRITE_BYTES + (0 if is_chunk else 1000)
    assert path.stat().st_size == found.size
    await found.write(CONTENT[found.size : 4 * WRITE_BYTES])
    await require_stored(store, found, CONTENT[: 4 * WRITE_BYTES])
