"""A folder that several processes use: each is played by a store of its own."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dropmill.engines.disk.files import REREAD_BYTES
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import WRITE_BYTES, DiskBlobWriter
from dropmill.model.errors import BytesLost, StorageUnavailable
from dropmill.model.uploads import StoredBlob

CONTENT = random.Random(18).randbytes(REREAD_BYTES + 3 * WRITE_BYTES + 4321)
FIRST = 2 * WRITE_BYTES + 77


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[list[DiskBlobStore]]:
    made = [DiskBlobStore(tmp_path, lambda _: None, is_shared=True) for _ in range(2)]
    for store in made:
        await store.open()
    yield made
    for store in made:
        await store.close()


async def write(writer: DiskBlobWriter, data: bytes) -> None:
    for at in range(0, len(data), 100_000):
        await writer.write(data[at : at + 100_000])


def require_content(store: DiskBlobStore, stored: StoredBlob, content: bytes = CONTENT) -> None:
    """Stored with these bytes under a name of its own, and nothing else left."""
    assert (stored.size, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    path = store.path(stored.key)
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o400
    assert list(store.incoming.rglob("*")) == []


@pytest.mark.parametrize("has_next_begun", [False, True])
async def test_what_a_writer_adds_after_its_turn_has_passed_does_not_count(
    stores: list[DiskBlobStore], has_next_begun: bool
) -> None:
    """Its file is still open: it was stopped in a call, and continues."""
    mine, other = stores
    key = mine.create(".bin").key
    late = await mine.resume(key, fence=1)
    await write(late, CONTENT[:FIRST])
    await late.pause()
    await late.write(b"")
    taken = await other.resume(key, fence=2)
    assert taken.size == FIRST
    if has_next_begun:
        await write(taken, CONTENT[FIRST : FIRST + WRITE_BYTES])
    await write(late, b"late" * WRITE_BYTES)
    await late.pause()
    await write(taken, CONTENT[FIRST + WRITE_BYTES * has_next_begun :])
    assert (await taken.commit()).sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert other.path(key).read_bytes() == CONTENT


async def test_a_turn_may_pass_with_every_chunk(stores: list[DiskBlobStore]) -> None:
    key = stores[0].create("").key
    for fence, at in enumerate(range(0, len(CONTENT), 300_000), start=1):
        writer = await stores[fence % 2].resume(key, fence=fence, received=at)
        assert writer.size == at
        await write(writer, CONTENT[at : at + 300_000])
        await writer.pause()
    require_content(stores[0], await writer.commit())


async def test_a_blob_that_came_in_one_turn_is_renamed(stores: list[DiskBlobStore]) -> None:
    key = stores[0].create("").key
    writer = await stores[0].resume(key, fence=1)
    await write(writer, CONTENT[:FIRST])
    await writer.pause()
    inode = (stores[0].incoming / f"{key}.parts" / "1.0").stat().st_ino
    await write(writer, CONTENT[FIRST:])
    require_content(stores[0], await writer.commit())
    assert stores[0].path(key).stat().st_ino == inode


async def test_the_same_turn_continues_its_file_after_an_error(stores: list[DiskBlobStore]) -> None:
    key = stores[0].create("").key
    await write(writer := await stores[0].resume(key, fence=1), CONTENT[:FIRST])
    await writer.pause()
    again = await stores[0].resume(key, fence=1)
    await write(again, CONTENT[FIRST:])
    await again.pause()
    assert os.listdir(stores[0].incoming / f"{key}.parts") == ["1.0"]
    require_content(stores[0], await again.commit())


async def test_whoever_only_looks_touches_nothing(stores: list[DiskBlobStore]) -> None:
    """A chunk that counts only as a whole is on its way elsewhere."""
    mine, other = stores
    key = mine.create("").key
    writer = await mine.resume(key, fence=1)
    await write(writer, CONTENT[:FIRST])
    await writer.begin_chunk()
    await write(writer, CONTENT[FIRST:])
    looking = await other.resume(key)
    assert looking.size == FIRST
    with pytest.raises(AssertionError):
        await write(looking, CONTENT[:FIRST])
    await writer.keep_chunk()
    assert (await other.resume(key)).size == len(CONTENT)
    require_content(mine, await writer.commit())


async def test_a_chunk_that_was_cut_off_counts_for_nothing_in_the_next_turn(stores: list[DiskBlobStore]) -> None:
    mine, other = stores
    key = mine.create("").key
    killed = await mine.resume(key, fence=1)
    await write(killed, CONTENT[:FIRST])
    await killed.begin_chunk()
    await write(killed, b"?" * 2 * WRITE_BYTES)
    after = await other.resume(key, fence=2)
    assert after.size == FIRST
    await write(after, CONTENT[FIRST:])
    assert (await after.commit()).sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert other.path(key).read_bytes() == CONTENT
    await killed.pause()


@pytest.mark.parametrize("is_first", [False, True])
async def test_two_that_have_all_bytes_both_store_them(stores: list[DiskBlobStore], is_first: bool) -> None:
    """The turn has passed while its holder was finishing."""
    mine, other = stores
    key = mine.create("").key
    holder = await mine.resume(key, fence=1)
    await write(holder, CONTENT)
    await holder.pause()
    taken = await other.resume(key, fence=2)
    order = [holder, taken] if is_first else [taken, holder]
    require_content(mine, await order[0].commit())
    try:
        require_content(mine, await order[1].commit())
    except BytesLost:  # its own file is gone; the ledger refuses it anyway
        assert order[1] is holder
    assert mine.path(key).read_bytes() == CONTENT


async def test_a_blob_that_was_final_but_not_recorded_is_stored_by_the_next(stores: list[DiskBlobStore]) -> None:
    mine, other = stores
    key = mine.create("").key
    killed = await mine.resume(key, fence=1)
    await write(killed, CONTENT)
    await killed.commit()
    after = await other.resume(key, fence=2)
    assert after.size == len(CONTENT)
    require_content(other, await after.commit())


async def test_bytes_that_cannot_be_seen_yet_are_not_lost(stores: list[DiskBlobStore]) -> None:
    """A network file system may show a file a little later than its writer has answered."""
    key = stores[0].create("").key
    with pytest.raises(StorageUnavailable):
        await stores[1].resume(key, fence=2, received=1)
    writer = await stores[0].resume(key, fence=1)
    await writer.write(b"a")
    await writer.pause()
    assert (await stores[1].resume(key, fence=2, received=1)).size == 1


async def test_what_is_cut_away_from_an_earlier_turn_is_noticed(stores: list[DiskBlobStore]) -> None:
    mine, other = stores
    key = mine.create("").key
    for store, fence, data in ((mine, 1, CONTENT[:FIRST]), (other, 2, CONTENT[FIRST:])):
        writer = await store.resume(key, fence=fence)
        await write(writer, data)
        await writer.pause()
    os.truncate(mine.incoming / f"{key}.parts" / "1.0", FIRST - 1)
    with pytest.raises(BytesLost):
        await mine.resume(key, fence=3)


async def test_an_abort_removes_every_part(stores: list[DiskBlobStore]) -> None:
    key = stores[0].create("").key
    for fence in (1, 2, 3):
        writer = await stores[fence % 2].resume(key, fence=fence)
        await writer.write(b"abc")
        await writer.pause()
    await writer.abort()
    assert list(stores[0].incoming.iterdir()) == []
    assert await asyncio.to_thread(stores[0].path(key).exists) is False
