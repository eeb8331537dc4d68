"""Small files survive what a power cut and a failing disk do to them, and deleted ones do not come back."""

import asyncio
import errno
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.engines.disk.killed import Live, journalled, kill, opened, rewrite, segments
from tests.engines.disk.tampering import change_in_place, empty, remove, shorten
from tests.support.waiting import eventually

from dropmill.engines.disk import journal, small, syncing
from dropmill.engines.disk.journal import SEGMENT_BYTES, Segment
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.syncing import Syncing
from dropmill.model.errors import OutOfSpace, StorageUnavailable
from dropmill.model.uploads import StoredBlob
from dropmill.ports.blobs import SmallPart

BOTH = list(Syncing)


@pytest.fixture(autouse=True)
def no_drain_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer for a test than for a drain."""
    monkeypatch.setattr(small, "DRAIN_EVERY_S", 3600.0)


async def stored(store: DiskBlobStore, contents: list[bytes]) -> list[StoredBlob]:
    return list(await store.store_small([SmallPart(extension=".txt", data=data) for data in contents]))


def contents_of(count: int) -> list[bytes]:
    return [b"content %d\n" % number for number in range(count)]


def refuse(code: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def garble(path: Path) -> None:
    """Leave as many other bytes."""
    rewrite(path, b"x" * path.stat().st_size)


async def is_drained(folder: Path) -> None:
    """Wait until no record is left."""

    async def is_zero() -> bool:
        return all(path.read_bytes() == bytes(SEGMENT_BYTES) for path in segments(folder))

    await eventually(is_zero)


# --- replay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BOTH)
async def test_every_live_file_comes_back_and_no_deleted_one(tmp_path: Path, how: Syncing) -> None:
    """Of 300 files 120 are damaged, one is deleted, and the tail of the journal is torn."""
    chance = random.Random(7)
    store = await opened(tmp_path, how)
    data = contents_of(300)
    blobs = [blob for begin in range(0, 300, 20) for blob in await stored(store, data[begin : begin + 20])]
    expected = {blob.key: content for blob, content in zip(blobs, data, strict=True)}
    await kill(store)
    ways = [remove, empty, shorten, garble]
    for blob in chance.sample(blobs, 120):
        os.chmod(store.path(blob.key), 0o600)
        chance.choice(ways)(store.path(blob.key))
    deleted = blobs[5].key
    store.path(deleted).unlink(missing_ok=True)
    torn = max(segments(tmp_path), key=lambda path: len(path.read_bytes().rstrip(b"\0")))
    end = len(torn.read_bytes().rstrip(b"\0"))
    with torn.open("r+b") as file:
        file.seek(end)
        file.write(bytes.fromhex(torn.stem) + b"torn")
    after = await opened(tmp_path, how)
    assert await after.replay(Live(expected.keys() - {deleted})) in range(115, 121)
    assert segments(tmp_path) == []
    for key, content in expected.items():
        if key != deleted:
            assert after.path(key).read_bytes() == content
            assert after.path(key).stat().st_mode & 0o777 == 0o400
    assert not after.path(deleted).exists()
    assert list(after.incoming.iterdir()) == []
    assert await after.replay(Live(expected.keys())) == 0
    await after.close()


@pytest.mark.parametrize("way", [remove, empty, shorten])
async def test_a_replay_that_finds_no_room_is_refused_and_continued_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None]
) -> None:
    store = await opened(tmp_path)
    first, second = await stored(store, [b"first", b"second"])
    await kill(store)
    for blob in (first, second):
        way(store.path(blob.key))
    live = Live([first.key, second.key])
    after = await opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse(errno.ENOSPC))
        with pytest.raises(OutOfSpace):
            await after.replay(live)
    assert journalled(tmp_path) == {first.key, second.key}
    assert await after.replay(live) >= 1
    assert after.path(first.key).read_bytes() == b"first"
    assert after.path(second.key).read_bytes() == b"second"
    assert list(after.incoming.iterdir()) == []
    await after.close()


async def test_a_replay_syncs_files_that_are_right_before_their_record_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be right in the page cache only."""
    store = await opened(tmp_path)
    (blob,) = await stored(store, [b"right"])
    await kill(store)
    after = await opened(tmp_path)
    synced: dict[Path, bool] = {}

    def note(paths: Iterable[Path], _: object) -> None:
        is_there = any(b"right" in segment.read_bytes() for segment in segments(tmp_path))
        synced.update(dict.fromkeys(paths, is_there))

    monkeypatch.setattr(syncing, "fsync_all", note)
    assert await after.replay(Live([blob.key])) == 0
    assert synced == {after.path(blob.key): True}
    await after.close()


async def test_a_record_that_nothing_can_replace_harms_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened(tmp_path)
    lost, kept = await stored(store, [b"lost-content", b"kept-content"])
    await kill(store)
    for blob in (lost, kept):
        store.path(blob.key).unlink()
    for path in segments(tmp_path):
        path.write_bytes(path.read_bytes().replace(b"lost-content", b"XXXX-content"))
    after = await opened(tmp_path)
    await after.replay(Live([lost.key, kept.key]))
    assert after.path(kept.key).read_bytes() == b"kept-content"
    assert not after.path(lost.key).exists()
    assert lost.key in caplog.text
    await after.close()


async def test_a_journal_is_replayed_where_none_is_kept_any_more(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    (blob,) = await stored(store, [b"content"])
    await kill(store)
    store.path(blob.key).unlink()
    after = await opened(tmp_path, None)
    assert await after.replay(Live([blob.key])) == 1
    assert after.path(blob.key).read_bytes() == b"content"
    await after.close()


async def test_the_segments_of_a_process_that_lives_are_left_alone(tmp_path: Path) -> None:
    first, second = await opened(tmp_path), await opened(tmp_path)
    (mine,) = await stored(first, [b"mine"])
    assert await second.replay(Live([mine.key])) == 0
    (theirs,) = await stored(second, [b"theirs"])
    assert len(segments(tmp_path)) == 4
    await second.close()
    assert len(segments(tmp_path)) == 2
    await kill(first)
    assert journalled(tmp_path) == {mine.key}
    assert first.path(theirs.key).read_bytes() == b"theirs"


# --- draining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BOTH)
async def test_segments_are_drained_in_time_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Syncing
) -> None:
    monkeypatch.setattr(small, "DRAIN_EVERY_S", 0.02)
    store = await opened(tmp_path, how)
    names = None
    for _ in range(3):
        blobs = await stored(store, contents_of(5))
        await is_drained(tmp_path)
        assert names in (None, segments(tmp_path))
        names = segments(tmp_path)
    for blob, content in zip(blobs, contents_of(5), strict=True):
        assert store.path(blob.key).read_bytes() == content
    await store.close()


async def test_a_clean_stop_leaves_no_journal(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await stored(store, contents_of(5))
    await store.close()
    assert segments(tmp_path) == []


async def test_a_stop_that_cannot_sync_leaves_the_journal_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)
    blobs = await stored(store, contents_of(5))
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "syncfs", refuse(errno.EIO))
        patch.setattr(os, "fsync", refuse(errno.EIO))
        await store.close()
    assert journalled(tmp_path) == {blob.key for blob in blobs}


@pytest.mark.parametrize("way", [remove, empty, lambda path: change_in_place(path, b"not what was stored")])
async def test_after_a_failed_sync_every_file_is_written_anew_from_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None]
) -> None:
    """Pages that could not be written count as clean: only the journal has the bytes."""
    monkeypatch.setattr(small, "DRAIN_EVERY_S", 0.02)
    store = await opened(tmp_path)
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail_once(_: int) -> None:
        monkeypatch.setattr(syncing, "syncfs", real)
        loop.call_soon_threadsafe(failed.set)
        raise OSError(errno.EIO, "lost")

    real = syncing.syncfs
    monkeypatch.setattr(syncing, "syncfs", fail_once)
    storing = asyncio.create_task(stored(store, contents_of(20)))
    blobs = await storing
    inodes = {blob.key: store.path(blob.key).stat().st_ino for blob in blobs}
    way(store.path(blobs[3].key))
    await failed.wait()
    await is_drained(tmp_path)
    for blob, content in zip(blobs, contents_of(20), strict=True):
        assert store.path(blob.key).read_bytes() == content
        descriptor, identity = await store.open_stored(blob)
        os.close(descriptor)
        assert store.proven(blob.key) == identity
    assert sum(store.path(blob.key).stat().st_ino != inodes[blob.key] for blob in blobs) >= 19
    assert list(store.incoming.iterdir()) == []
    await store.close()


async def test_a_failed_sync_makes_the_files_of_the_other_segment_suspect_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports an error once; it may concern a file whose segment is not being drained."""
    store = await opened(tmp_path)
    (first,) = await stored(store, [b"first"])
    assert store._small is not None
    draining, other = store._small._segments
    draining.is_due = True
    (second,) = await stored(store, [b"second"])
    assert (draining.keys, other.keys) == ({first.key}, {second.key})
    before = store.path(second.key).stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "syncfs", refuse(errno.EIO))
        assert await store._small._drain(draining)
    assert (draining.is_suspect, other.is_suspect) == (False, True)
    assert await store._small._drain(other)
    assert store.path(second.key).stat().st_ino != before
    await store.close()


async def test_a_segment_stays_until_its_files_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(small, "DRAIN_EVERY_S", 0.02)
    store = await opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "syncfs", refuse(errno.EIO))
        patch.setattr(small, "fsync_folder", refuse(errno.ENOSPC))
        (blob,) = await stored(store, [b"content"])

        async def was_tried_twice() -> bool:
            return caplog.text.count("another try") >= 2

        await eventually(was_tried_twice)
        assert any(b"content" in path.read_bytes() for path in segments(tmp_path))
    await is_drained(tmp_path)
    assert store.path(blob.key).read_bytes() == b"content"
    await store.close()


async def test_a_slow_sync_of_the_disk_is_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(small, "DRAIN_EVERY_S", 0.02)
    monkeypatch.setattr(small, "SLOW_S", -1.0)
    store = await opened(tmp_path)
    await stored(store, [b"a"])
    await is_drained(tmp_path)
    monkeypatch.setattr(syncing, "syncfs", refuse(errno.EIO))  # must not be called again
    await stored(store, [b"b"])
    await is_drained(tmp_path)
    assert "one by one" in caplog.text
    assert "anew" not in caplog.text
    await store.close()


# --- deletion --------------------------------------------------------------------------------------------------------


async def test_a_deleted_files_bytes_leave_the_journal_at_once(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    secret, other = await stored(store, [b"a secret of somebody", b"something else"])
    await store.delete(secret.key)
    await is_drained(tmp_path)
    assert store.path(other.key).read_bytes() == b"something else"
    assert not store.path(secret.key).exists()
    await store.close()


async def test_a_file_that_is_deleted_while_it_is_written_anew_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)
    first, second = await stored(store, [b"first", b"second"])
    fsync = os.fsync

    def delete_first(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(first.key):
            store._folders.remove(first.key)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", delete_first)
    monkeypatch.setattr(syncing, "syncfs", refuse(errno.EIO))
    await store.close()
    assert not store.path(first.key).exists()
    assert store.path(second.key).read_bytes() == b"second"
    assert list(store.incoming.iterdir()) == []
    assert segments(tmp_path) == []


# --- without room in the journal -------------------------------------------------------------------------------------


async def test_files_that_find_no_room_in_the_journal_are_stored_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 16 * 1024)
    store = await opened(tmp_path)
    expected = {}
    for number in range(60):
        content = bytes([number]) * 3000
        (blob,) = await stored(store, [content])
        expected[blob.key] = content
    for key, content in expected.items():
        assert store.path(key).read_bytes() == content
    await store.close()
    assert segments(tmp_path) == []


async def test_a_journal_that_cannot_be_made_refuses_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse(errno.ENOSPC))
        for _ in range(3):
            (blob,) = await stored(store, [b"content"])
    assert store.path(blob.key).read_bytes() == b"content"
    assert segments(tmp_path) == []
    assert caplog.text.count("one by one") == 1
    await store.close()


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, OutOfSpace), (errno.EIO, StorageUnavailable)])
async def test_an_error_of_the_journal_fails_the_call_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, kind: type[Exception]
) -> None:
    store = await opened(tmp_path)
    (before,) = await stored(store, [b"before"])
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse(code))
        results = await asyncio.gather(
            *(stored(store, [b"%d" % number]) for number in range(5)), return_exceptions=True
        )
        assert {type(result) for result in results[:1]} == {kind}
        await asyncio.sleep(0)
    (after,) = await stored(store, [b"after"])
    on_disk = {path.name for path in store.blobs.rglob("*") if path.is_file()}
    kept = {blob.key for result in results if isinstance(result, list) for blob in result}
    assert on_disk == {before.key, after.key} | kept
    await store.close()
    for blob, content in ((before, b"before"), (after, b"after")):
        assert store.path(blob.key).read_bytes() == content


async def test_a_segment_that_cannot_be_cleared_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(tmp_path)
    await stored(store, [b"first"])
    assert store._small is not None
    first = store._small._segments[0]
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "clear", refuse(errno.EIO))
        assert await store._small._drain(first)
    assert len(segments(tmp_path)) == 1
    (blob,) = await stored(store, [b"second"])
    assert store.path(blob.key).read_bytes() == b"second"
    await store.close()
    assert segments(tmp_path) == []
