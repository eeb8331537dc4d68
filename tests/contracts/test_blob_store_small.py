"""What every blob store promises of small files that are stored together."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contracts.blob_stores import ENGINES, Engine, content_of, keys

from dropmill.model.errors import BytesLost, OutOfSpace
from dropmill.ports.blobs import SMALL_BYTES, BlobStore, SmallPart


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture
async def store(engine: Engine, tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with engine.open(tmp_path) as made:
        yield made


def parts_of(count: int, *, extension: str = ".txt") -> list[SmallPart]:
    """Files of all sizes that are small, none and the largest among them."""
    rng = random.Random(count)
    sizes = [0, 1, SMALL_BYTES, *(rng.randrange(SMALL_BYTES) for _ in range(count))]
    return [SmallPart(extension=extension, data=rng.randbytes(size)) for size in sizes[:count]]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
async def test_each_part_is_a_blob_with_its_bytes_in_the_order_given(store: BlobStore, count: int) -> None:
    parts = parts_of(count)
    stored = await store.store_small(parts)
    assert [(blob.size, blob.sha256) for blob in stored] == [
        (len(part.data), hashlib.sha256(part.data).hexdigest()) for part in parts
    ]
    assert await keys(store) == sorted(blob.key for blob in stored)
    for blob, part in zip(stored, parts, strict=True):
        assert blob.key.endswith(".txt")
        assert await content_of(store, blob.key) == part.data
        descriptor, identity = await store.open_stored(blob)
        assert os.pread(descriptor, SMALL_BYTES + 1, 0) == part.data
        os.close(descriptor)
        assert store.proven(blob.key) == identity


async def test_no_parts_make_no_blobs(store: BlobStore) -> None:
    assert list(await store.store_small([])) == []
    assert await keys(store) == []


async def test_equal_parts_are_blobs_of_their_own(store: BlobStore) -> None:
    first, second = await store.store_small([SmallPart(extension="", data=b"same")] * 2)
    await store.delete(first.key)
    assert await content_of(store, second.key) == b"same"
    assert await keys(store) == [second.key]


async def test_what_was_stored_is_there_after_a_kill(engine: Engine, store: BlobStore, tmp_path: Path) -> None:
    """A second store on the same folder stands for the next process; the first one is not told."""
    parts = parts_of(20)
    stored = await store.store_small(parts)
    async with engine.open(tmp_path) as after:
        assert await after.sweep() == 0
        assert await keys(after) == sorted(blob.key for blob in stored)
        for blob, part in zip(stored, parts, strict=True):
            assert await content_of(after, blob.key) == part.data
        await after.delete(stored[0].key)
    async with engine.open(tmp_path) as after:
        assert await keys(after) == sorted(blob.key for blob in stored[1:])


async def test_callers_at_once_get_their_own_blobs(store: BlobStore) -> None:
    calls = [parts_of(count, extension=f".{count}") for count in range(1, 12)]
    answers = await asyncio.gather(*(store.store_small(parts) for parts in calls))
    for parts, stored in zip(calls, answers, strict=True):
        assert [await content_of(store, blob.key) for blob in stored] == [part.data for part in parts]
    assert len(await keys(store)) == sum(map(len, calls))


async def test_a_part_that_is_not_small_is_refused_and_none_is_stored(store: BlobStore) -> None:
    with pytest.raises(ValueError, match=str(SMALL_BYTES)):
        await store.store_small([*parts_of(5), SmallPart(extension="", data=bytes(SMALL_BYTES + 1))])
    assert await keys(store) == []
    assert await store.sweep() == 0


@pytest.mark.parametrize("writes", [0, 1, 7, 19])
async def test_a_full_disk_stores_none_of_the_parts(
    engine: Engine, store: BlobStore, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    (before,) = await store.store_small([SmallPart(extension="", data=b"before")])
    with monkeypatch.context() as patch:
        engine.fill(patch, writes)
        with pytest.raises(OutOfSpace):
            await store.store_small(parts_of(20))
    assert await keys(store) == [before.key]
    assert await store.retry_discards() == 0
    assert await store.sweep() == 0
    assert len(await store.store_small(parts_of(20))) == 20


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_call_leaves_no_blob(store: BlobStore, turns: int, times: int) -> None:
    """Cancelled again while it cleans up, too."""
    storing = asyncio.ensure_future(store.store_small(parts_of(30)))
    for _ in range(turns):
        await asyncio.sleep(0)
    for _ in range(times):
        storing.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([storing])
    assert storing.cancelled()
    assert await keys(store) == []
    assert await store.sweep() == 0


async def test_a_cancelled_call_leaves_other_callers_their_blobs(store: BlobStore) -> None:
    first, second = (asyncio.ensure_future(store.store_small(parts_of(10))) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    stored = await second
    await asyncio.wait([first])
    assert await keys(store) == sorted(blob.key for blob in stored)


async def test_bytes_that_are_gone_or_changed_are_not_taken_for_the_parts(store: BlobStore) -> None:
    gone, changed = await store.store_small(parts_of(3)[1:])
    async with store.local(gone.key) as path:
        path.unlink()
    async with store.local(changed.key) as path:
        path.chmod(0o600)
        path.write_bytes(bytes(changed.size))
    for blob in (gone, changed):
        with pytest.raises(BytesLost):
            await store.open_stored(blob)
