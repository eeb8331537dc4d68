"""Resumable uploads with the real ledger, store and bus: their offsets, their ends, and what is kept."""

import asyncio
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.engines.disk.tampering import empty, remove, shorten
from tests.intake.counter import CONTENT, HALF, Counter, announce, b64, digest, make_late
from tests.intake.desk import Body, Desk, failing, on_disk
from tests.support import scenarios
from tests.support.clocks import DAY_S, WallClock
from tests.support.scenarios import CALLER, LIVENESS_S, names, recount
from tests.support.waiting import eventually

from dropmill.engines.disk.writer import WRITE_BYTES, DiskBlobWriter
from dropmill.intake import patching, resumable
from dropmill.model.errors import (
    BadFileName,
    BadParameter,
    BadRequest,
    DigestMismatch,
    IllegalTransition,
    NotFound,
    OffsetMismatch,
    OutOfSpace,
    TooLarge,
    Unavailable,
    UploadGone,
)
from dropmill.model.ids import FileId, Sha256
from dropmill.model.submissions import Counts
from dropmill.model.uploads import AbortCause, StoredBlob, UploadState

WAYS = [remove, empty, shorten]


async def test_an_upload_of_its_own_is_a_sealed_submission_that_settles_with_it(counter: Counter) -> None:
    upload = await counter.create(relativePath="folder/a.bin", filetype="x/y")
    view = await counter.desk.ledger.view_submission(upload.submission_id, limit=1)
    assert (view.submission.is_open, view.submission.is_settled) == (False, False)
    assert (upload.name, upload.path) == ("a.bin", "folder/a.bin")
    assert (upload.partial or "").endswith(".bin")
    assert await counter.offset(upload) == 0
    await counter.append(upload, 0, CONTENT)
    await counter.require_stored(upload)
    assert await recount(counter.desk.ledger, upload.submission_id) == Counts(queued=1)


async def test_an_upload_joins_an_open_submission(counter: Counter) -> None:
    submission_id, _ = await counter.desk.intake.open(CALLER)
    upload = await counter.create(submission=submission_id)
    assert upload.submission_id == submission_id
    await counter.desk.intake.seal(CALLER, submission_id)
    with pytest.raises(IllegalTransition):
        await counter.create(submission=submission_id)
    with pytest.raises(NotFound):
        await counter.create(submission="0" * 32)
    with pytest.raises(UploadGone):  # sealed before a byte of it came
        await counter.append(upload, 0, CONTENT)


@pytest.mark.parametrize("absent", ["", "null"])
async def test_a_relative_path_that_is_none_is_the_file_name(counter: Counter, absent: str) -> None:
    assert (await counter.create(relativePath=absent)).path == "a.bin"


async def test_an_empty_file_is_whole_at_once(counter: Counter) -> None:
    await counter.require_stored(await counter.create(0), b"")
    with pytest.raises(DigestMismatch):
        await counter.create(0, sha256="0" * 64)


async def test_no_byte_is_allocated_before_one_comes(counter: Counter) -> None:
    for _ in range(20):
        await counter.create(2**30)
    assert list(counter.desk.blobs.incoming.iterdir()) == []


@pytest.mark.parametrize("values", [{"filename": "a\0b"}, {"filename": "x" * 5000}, {"sha256": "abc"}])
async def test_what_cannot_be_used_begins_nothing(counter: Counter, values: dict[str, str]) -> None:
    with pytest.raises((BadFileName, BadRequest)):
        await counter.create(len(CONTENT), **values)
    assert (await counter.desk.ledger.submissions(before=None, limit=1)).items == []


async def test_bytes_come_in_as_many_requests_as_it_takes(counter: Counter) -> None:
    upload, at = await counter.create(sha256=hashlib.sha256(CONTENT).hexdigest().upper()), 0
    for size in (1, 999, WRITE_BYTES, WRITE_BYTES + 1, len(CONTENT)):
        standing = await counter.append(upload, at, CONTENT[at : at + size])
        at = min(at + size, len(CONTENT))
        assert standing.offset == at
        if at < len(CONTENT):
            assert (await counter.file(upload)).received == at == await counter.offset(upload)
    await counter.require_stored(upload)


@pytest.mark.parametrize("offset", [0, HALF - 1, HALF + 1, len(CONTENT)])
async def test_only_the_uploads_offset_is_accepted(counter: Counter, offset: int) -> None:
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:HALF])
    with pytest.raises(OffsetMismatch) as told:
        await counter.append(upload, offset, CONTENT[HALF:])
    assert told.value.extra == {"offset": HALF}
    assert await counter.offset(upload) == HALF


@pytest.mark.parametrize("content_length", [None, len(CONTENT) + 1])
async def test_more_bytes_than_it_has_left_are_never_taken(counter: Counter, content_length: int | None) -> None:
    """Announced too long it takes none; found too long on the way, none of the piece that goes over."""
    upload = await counter.create()
    with pytest.raises(TooLarge):
        await counter.append(upload, 0, CONTENT[:HALF], CONTENT[HALF:] + b"!", content_length=content_length)
    assert await counter.offset(upload) == (HALF if content_length is None else 0)
    await counter.append(upload, await counter.offset(upload), CONTENT[await counter.offset(upload) :])
    await counter.require_stored(upload)


async def test_what_has_come_whole_takes_nothing_more(counter: Counter) -> None:
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT)
    for offset in (0, len(CONTENT)):
        with pytest.raises(IllegalTransition):
            await counter.append(upload, offset, b"")
    with pytest.raises(IllegalTransition):
        await counter.uploads.terminate(CALLER, upload.file_id)
    assert (await counter.uploads.find(CALLER, upload.file_id)).offset == len(CONTENT)
    await counter.require_stored(upload)


async def test_a_size_may_be_given_later_once_and_not_below_what_has_come(counter: Counter) -> None:
    upload = await counter.create(None)
    await counter.append(upload, 0, CONTENT[:HALF])
    with pytest.raises(BadRequest):
        await counter.append(upload, HALF, size=HALF - 1)
    assert (await counter.uploads.find(CALLER, upload.file_id)).upload.size is None
    assert (await counter.append(upload, HALF, size=len(CONTENT))).upload.size == len(CONTENT)
    with pytest.raises(BadRequest):
        await counter.append(upload, HALF, size=len(CONTENT) + 1)
    await counter.append(upload, HALF, CONTENT[HALF:])
    await counter.require_stored(upload)


async def test_a_size_given_when_all_has_come_finishes_the_upload(counter: Counter) -> None:
    upload = await counter.create(None)
    await counter.append(upload, 0, CONTENT)
    await counter.append(upload, len(CONTENT), size=len(CONTENT))
    await counter.require_stored(upload)


async def test_a_file_with_other_bytes_than_expected_is_not_kept(counter: Counter) -> None:
    upload = await counter.create(sha256="0" * 64)
    with pytest.raises(DigestMismatch):
        await counter.append(upload, 0, CONTENT)
    assert (await counter.file(upload)).state is UploadState.ABORTED
    assert hashlib.sha256(CONTENT).hexdigest() in ((await counter.file(upload)).error or "")
    assert await counter.desk.stored_on_disk() == set()
    assert list(counter.desk.blobs.incoming.iterdir()) == []
    assert counter.desk.executor.wakes == 0
    with pytest.raises(UploadGone):
        await counter.uploads.find(CALLER, upload.file_id)


async def test_a_client_says_whether_it_cancels_an_upload_or_cannot_read_it(counter: Counter) -> None:
    causes = ("cancelled", "unreadable")
    uploads = [await counter.create() for _ in causes]
    for cause in ("refused", "", "no such"):
        with pytest.raises(BadParameter):
            await counter.uploads.terminate(CALLER, uploads[0].file_id, cause)
    for upload, cause in zip(uploads, causes, strict=True):
        await counter.uploads.terminate(CALLER, upload.file_id, cause)
    assert [(await counter.file(upload)).cause for upload in uploads] == [AbortCause.CANCELLED, AbortCause.UNREADABLE]


async def test_a_client_may_cancel_what_broke_off_while_its_submission_is_open(counter: Counter) -> None:
    submission_id, uploads = await announce(counter, {"name": "a.txt", "size": 1}, {"name": "b.txt", "size": 1})
    for upload in uploads:
        await counter.desk.ledger.abort_upload(upload.file_id, AbortCause.CUT_OFF, "the connection was cut")
    first, second = uploads
    await counter.uploads.terminate(CALLER, first.file_id)
    assert (await counter.file(first)).cause is AbortCause.CANCELLED
    await counter.desk.intake.seal(CALLER, submission_id)
    for upload in uploads:
        with pytest.raises(UploadGone):
            await counter.uploads.terminate(CALLER, upload.file_id)
    assert (await counter.file(second)).cause is AbortCause.CUT_OFF


async def test_terminating_gives_up_the_request_that_is_sending_and_removes_its_bytes(counter: Counter) -> None:
    upload, body = await counter.create(), Body()
    sending = counter.begin(upload, 0, body)
    body.send(CONTENT[:HALF])
    await body.all_taken()
    await counter.uploads.terminate(CALLER, upload.file_id)
    with pytest.raises(Unavailable):
        await sending
    assert list(counter.desk.blobs.incoming.iterdir()) == []
    assert (await counter.file(upload)).state is UploadState.ABORTED
    for ask in (counter.uploads.find(CALLER, upload.file_id), counter.uploads.terminate(CALLER, upload.file_id)):
        with pytest.raises(UploadGone):
            await ask
    with pytest.raises(UploadGone):
        await counter.append(upload, HALF, CONTENT[HALF:])
    assert (await names(counter.desk.ledger))[-1] == "submission.settled"
    with pytest.raises(NotFound):
        await counter.uploads.find(CALLER, FileId("0" * 32))


async def test_an_upload_that_has_expired_is_gone_for_the_client_and_for_the_sweep(desk: Desk) -> None:
    counter = Counter(desk, expiry_s=1.0)
    asked, swept = await counter.create(), await counter.create()
    for upload in (asked, swept):
        await counter.append(upload, 0, CONTENT[:HALF])
        await make_late(counter, upload)
    with pytest.raises(UploadGone):
        await counter.append(asked, HALF, CONTENT[HALF:])
    sweeping = asyncio.create_task(counter.uploads.run())

    async def is_swept() -> bool:
        is_ended = (await counter.file(swept)).state is UploadState.ABORTED
        return is_ended and not list(desk.blobs.incoming.iterdir())

    await eventually(is_swept)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    assert (await counter.file(swept)).error == "no byte came for too long"
    await counter.uploads.drain()


async def test_a_clock_that_steps_ends_no_upload_that_got_bytes_a_moment_ago(desk: Desk, wall_clock: WallClock) -> None:
    """Neither the sweep nor a client that continues expires it."""
    desk.clock = wall_clock.clock
    counter = Counter(desk, expiry_s=3600.0)
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:HALF])
    for number, step_s in enumerate((30 * DAY_S, -60 * DAY_S, 45 * DAY_S), 1):
        wall_clock.step(step_s)
        await counter.uploads._expire()
        assert (await counter.uploads.find(CALLER, upload.file_id)).offset == HALF + number - 1
        await counter.append(upload, HALF + number - 1, CONTENT[HALF + number - 1 : HALF + number])
    await counter.uploads.drain()


async def test_only_bytes_make_it_live_longer(counter: Counter) -> None:
    upload = await counter.create()
    await counter.append(upload, 0, b"")
    assert (await counter.desk.ledger.upload(upload.file_id)).expires_at == upload.expires_at
    await asyncio.sleep(0.01)
    await counter.append(upload, 0, CONTENT[:1])
    later = (await counter.desk.ledger.upload(upload.file_id)).expires_at
    assert later is not None
    assert upload.expires_at is not None
    assert later > upload.expires_at


async def test_an_upload_that_is_being_sent_is_not_expired_and_extends_its_expiry(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "EXTEND_EVERY_S", 0.0)
    counter = Counter(desk, expiry_s=0.05)
    upload, body = await counter.create(), Body()
    sending, sweeping = counter.begin(upload, 0, body), asyncio.create_task(counter.uploads.run())
    body.send(CONTENT[:HALF])
    await body.all_taken()
    await asyncio.sleep(0.2)
    noted = (await desk.ledger.upload(upload.file_id)).expires_at
    body.send(CONTENT[HALF : HALF + 1])
    await body.all_taken()
    assert noted is not None
    async with asyncio.timeout(10):  # it is noted after the bytes were taken
        while ((await desk.ledger.upload(upload.file_id)).expires_at or noted) <= noted:  # noqa: ASYNC110  # the sender does it
            await asyncio.sleep(0.01)
    body.send(CONTENT[HALF + 1 :])
    body.end()
    await sending
    sweeping.cancel()
    await asyncio.wait([sweeping])
    await counter.require_stored(upload)


@pytest.mark.parametrize("is_checked", [False, True])
async def test_a_stopping_server_lets_go_and_the_next_one_goes_on(desk: Desk, is_checked: bool) -> None:
    counter = Counter(desk)
    upload, body = await counter.create(), Body()
    await counter.append(upload, 0, CONTENT[:1000])
    sending = counter.begin(upload, 1000, body, checksum=digest(CONTENT[1000:]) if is_checked else None)
    body.send(CONTENT[1000:HALF])
    await body.all_taken()
    await asyncio.gather(desk.intake.drain(), counter.uploads.drain())
    with pytest.raises(Unavailable):
        await sending
    with pytest.raises(Unavailable):
        await counter.append(upload, HALF, CONTENT[HALF:])
    with pytest.raises(Unavailable):
        await counter.create()
    desk.intake = desk.intake_with()
    after = Counter(desk)
    await after.uploads.recover()
    offset = await after.offset(upload)
    assert offset == (1000 if is_checked else HALF)
    await after.append(upload, offset, CONTENT[offset:])
    await after.require_stored(upload)


@pytest.mark.parametrize("was_final", [False, True])
async def test_a_start_finishes_what_had_come_whole(desk: Desk, was_final: bool) -> None:
    """Killed before the last byte's rename, or between it and the ledger's commit."""
    before = Counter(desk)
    upload, half = await before.create(), await before.create()
    await before.append(half, 0, CONTENT[:HALF])
    await before.append(upload, 0, CONTENT[:HALF])
    writer = await desk.blobs.resume(upload.partial or "")
    await writer.write(CONTENT[HALF:])
    await (writer.commit() if was_final else writer.pause())

    desk.intake = desk.intake_with()
    after = Counter(desk)
    await desk.ledger.enter(scenarios.node())
    await desk.ledger.recover(5, "")
    await desk.intake.recover()
    await after.uploads.recover()

    async def is_stored() -> bool:
        return (await after.file(upload)).job is not None and desk.executor.wakes > 0

    await eventually(is_stored)
    assert await after.offset(half) == HALF
    await after.append(half, HALF, CONTENT[HALF:])
    await after.require_stored(upload)
    await after.require_stored(half)


async def test_a_disk_that_fails_at_the_end_loses_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte was answered for; it is stored as soon as somebody asks, or by the next sweep."""
    monkeypatch.setattr(resumable, "SWEEP_EVERY_S", 0.05)
    counter = Counter(desk)
    upload, alone = await counter.create(), await counter.create()
    commit = DiskBlobWriter.commit

    async def full(writer: DiskBlobWriter) -> StoredBlob:
        raise OutOfSpace("The disk is full.")

    monkeypatch.setattr(DiskBlobWriter, "commit", full)
    for one in (upload, alone):
        with pytest.raises(OutOfSpace):
            await counter.append(one, 0, CONTENT)
        assert (await counter.file(one)).state is UploadState.RECEIVING
    with pytest.raises(OutOfSpace):
        await counter.uploads.find(CALLER, upload.file_id)
    monkeypatch.setattr(DiskBlobWriter, "commit", commit)
    assert (await counter.uploads.find(CALLER, upload.file_id)).offset == len(CONTENT)
    running = asyncio.create_task(counter.uploads.run())

    async def is_stored() -> bool:
        return (await counter.file(alone)).state is UploadState.STORED

    await eventually(is_stored)
    running.cancel()
    await asyncio.wait([running])
    await counter.require_stored(upload)
    await counter.require_stored(alone)


async def test_a_write_that_fails_is_reported_and_the_offset_is_what_is_on_disk(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:1000])
    write_pieces = DiskBlobWriter._write_pieces

    async def half(writer: DiskBlobWriter, pieces: list[bytes]) -> None:
        await write_pieces(writer, [b"".join(pieces)[:100]])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DiskBlobWriter, "_write_pieces", half)
    with pytest.raises(OutOfSpace):
        await counter.append(upload, 1000, CONTENT[1000:HALF])
    monkeypatch.undo()
    assert await counter.offset(upload) == 1100
    await counter.append(upload, 1100, CONTENT[1100:])
    await counter.require_stored(upload)


async def test_the_answer_does_not_wait_for_a_long_hash(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "FINISH_WAIT_S", 0.01)
    gate, commit = asyncio.Event(), DiskBlobWriter.commit

    async def slow(writer: DiskBlobWriter) -> StoredBlob:
        await gate.wait()
        return await commit(writer)

    monkeypatch.setattr(DiskBlobWriter, "commit", slow)
    upload = await counter.create()
    assert (await counter.append(upload, 0, CONTENT)).offset == len(CONTENT)
    assert (await counter.uploads.find(CALLER, upload.file_id)).offset == len(CONTENT)
    assert (await counter.file(upload)).state is UploadState.RECEIVING
    with pytest.raises(IllegalTransition):
        await counter.uploads.terminate(CALLER, upload.file_id)
    gate.set()

    async def is_stored() -> bool:
        return (await counter.file(upload)).state is UploadState.STORED

    await eventually(is_stored)
    await counter.require_stored(upload)


async def test_an_upload_that_came_whole_is_stored_though_nothing_could_be_written_down(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "SWEEP_EVERY_S", 0.05)
    counter = Counter(desk)
    upload = await counter.create()
    with failing(monkeypatch, "extend_upload"):
        with pytest.raises(Unavailable):
            await counter.append(upload, 0, CONTENT)
        with failing(monkeypatch, "upload"):
            await counter.uploads._poll(upload.file_id)
    running = asyncio.create_task(counter.uploads.run())

    async def is_stored() -> bool:
        return (await counter.file(upload)).state is UploadState.STORED

    await eventually(is_stored)
    running.cancel()
    await asyncio.wait([running])
    await counter.require_stored(upload)
    await counter.uploads._poll(upload.file_id)
    assert not counter.uploads._to_finish


@pytest.mark.parametrize("asks", ["find", "append", "last", "terminate"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_upload_whose_bytes_vanished_is_gone_and_not_made_anew(desk: Desk, way: Any, asks: str) -> None:
    counter = Counter(desk)
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:HALF])
    way(desk.blobs.incoming / (upload.partial or ""))
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "find": lambda: counter.uploads.find(CALLER, upload.file_id),
        "append": lambda: counter.append(upload, HALF, CONTENT[HALF:-1]),
        "last": lambda: counter.append(upload, HALF, CONTENT[HALF:]),
        "terminate": lambda: counter.uploads.terminate(CALLER, upload.file_id),
    }
    with pytest.raises(UploadGone):
        await calls[asks]()
    file = await counter.file(upload)
    assert (file.state, file.job, file.blob) == (UploadState.ABORTED, None, None)
    assert list(desk.blobs.incoming.iterdir()) == []
    assert await desk.stored_on_disk() == set()
    with pytest.raises(UploadGone):
        await counter.uploads.find(CALLER, upload.file_id)


@pytest.mark.parametrize("way", WAYS)
async def test_an_upload_whose_bytes_vanish_while_it_comes_is_gone(desk: Desk, way: Any) -> None:
    counter = Counter(desk)
    upload = await counter.create()
    body = Body()
    appending = counter.begin(upload, 0, body)
    body.send(CONTENT[:HALF])
    way(await on_disk(desk, HALF))
    body.send(CONTENT[HALF:])
    body.end()
    with pytest.raises(UploadGone):
        await appending
    assert (await counter.file(upload)).state is UploadState.ABORTED
    assert await desk.stored_on_disk() == set()


@pytest.mark.parametrize("way", [remove, empty])
async def test_an_upload_whose_bytes_vanished_between_two_runs_is_gone(desk: Desk, way: Any) -> None:
    before = Counter(desk)
    upload = await before.create()
    await before.append(upload, 0, CONTENT[:HALF])
    way(desk.blobs.incoming / (upload.partial or ""))
    desk.intake = desk.intake_with()
    after = Counter(desk)
    await desk.ledger.recover(5, "")
    await desk.intake.recover()
    await after.uploads.recover()
    with pytest.raises(UploadGone):
        await after.uploads.find(CALLER, upload.file_id)
    assert (await after.file(upload)).state is UploadState.ABORTED
    assert list(desk.blobs.incoming.iterdir()) == []


async def test_two_digests_that_contradict_each_other_open_nothing(counter: Counter) -> None:
    """One in Upload-Metadata, one in Repr-Digest: the server cannot know which is right."""
    one, other = Sha256("1" * 64), Sha256("2" * 64)
    metadata = f"sha256 {b64(one)}"
    with pytest.raises(BadRequest, match="contradict"):
        await counter.uploads.create(CALLER, size=1, metadata=metadata, expected_sha256=other)
    assert (await counter.desk.ledger.submissions(before=None, limit=1)).items == []
    upload = await counter.uploads.create(CALLER, size=1, metadata=metadata, expected_sha256=one)
    assert upload.expected_sha256 == one


async def test_a_stop_does_not_wait_for_a_long_hash_and_the_next_start_stores_the_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = DiskBlobWriter.commit

    async def endless(writer: DiskBlobWriter) -> StoredBlob:
        await asyncio.Event().wait()
        return await commit(writer)

    before = Counter(desk)
    upload = await before.create()
    with monkeypatch.context() as patch:
        patch.setattr(resumable, "FINISH_WAIT_S", 0.01)
        patch.setattr(resumable, "DRAIN_WAIT_S", 0.01)
        patch.setattr(DiskBlobWriter, "commit", endless)
        await before.append(upload, 0, CONTENT)
        async with asyncio.timeout(LIVENESS_S):
            await before.uploads.drain()
    assert (await before.file(upload)).state is UploadState.RECEIVING
    after = Counter(desk)
    await after.uploads.recover()

    async def is_stored() -> bool:
        return (await after.file(upload)).state is UploadState.STORED

    await eventually(is_stored)
    await after.require_stored(upload)
    await after.uploads.drain()


async def test_a_chunk_that_began_behind_what_is_left_of_its_file_ends_the_upload_and_leaves_nothing(
    desk: Desk,
) -> None:
    """Another process was killed within the chunk, and the disk lost bytes from before it."""
    before = Counter(desk)
    upload = await before.create()
    await before.append(upload, 0, CONTENT[:HALF])
    path = desk.blobs.incoming / (upload.partial or "")
    os.truncate(path, 10)
    path.with_name(f"{path.name}.chunk").write_text(f"{HALF}\n")
    after = Counter(desk)
    with pytest.raises(UploadGone):
        await after.uploads.find(CALLER, upload.file_id)
    assert (await after.file(upload)).state is UploadState.ABORTED
    assert list(desk.blobs.incoming.iterdir()) == []
