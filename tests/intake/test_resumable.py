"""Resumable uploads with the real ledger, store and bus: where each stands, who may write, what is kept."""

# ruff: noqa: F811 - parameters named like the fixtures they are

import asyncio
import base64
import errno
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.intake.test_intake import Body, Desk, desk, sent, until  # noqa: F401 - a fixture
from tests.support import scenarios
from tests.support.clocks import DAY_S, WallClock
from tests.support.scenarios import CALLER, CLIENT, LIVENESS_S, all_events, names, recount

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import WRITE_BYTES, DiskBlobWriter
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.intake import gate as gate_module
from dropmill.intake import resumable
from dropmill.intake.gate import Gate, UploadLimits
from dropmill.intake.resumable import Checksum, UploadPosition, Uploads, parse_checksum, parse_metadata
from dropmill.model.clock import utc_now
from dropmill.model.errors import (
    BadFileName,
    BadRequest,
    ChecksumMismatch,
    DigestMismatch,
    FileTooLarge,
    IdempotencyMismatch,
    IllegalTransition,
    MalformedUpload,
    NotFound,
    OffsetMismatch,
    OutOfSpace,
    RequestTooSlow,
    TooLarge,
    TooManyFiles,
    TooManyUploads,
    Unavailable,
    UploadGone,
    UploadTaken,
)
from dropmill.model.ids import FileId, Owner, Sha256, SubmissionId
from dropmill.model.submissions import Counts
from dropmill.model.uploads import File, StoredBlob, UploadState
from dropmill.ports.ledger.uploads import ResumableUpload

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HALF = len(CONTENT) // 2


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Counter:
    """Uploads at a desk, and what is asked of them."""

    def __init__(self, desk: Desk, **limits: Any) -> None:
        self.desk = desk
        limits = {"idle_timeout_s": LIVENESS_S, "min_free": 0} | limits
        expiry_s = limits.pop("expiry_s", 86400.0)
        self.gate = Gate(UploadLimits(**limits), desk.blobs)
        desk.intake._gate = self.gate
        self.uploads = Uploads(
            ledger=desk.ledger,
            blobs=desk.blobs,
            bus=desk.bus,
            intake=desk.intake,
            gate=self.gate,
            expiry_s=expiry_s,
            clock=desk.clock,
            health=desk.health,
        )

    async def create(self, size: int | None = len(CONTENT), /, **values: str) -> ResumableUpload:
        metadata = ",".join(f"{key} {b64(value)}" for key, value in ({"filename": "a.bin"} | values).items())
        return await self.uploads.create(CALLER, size=size, metadata=metadata)

    async def append(self, upload: ResumableUpload, offset: int, *chunks: bytes, **options: Any) -> UploadPosition:
        return await self.uploads.append(CALLER, upload.file_id, sent(*chunks), offset=offset, **options)

    def begin(self, upload: ResumableUpload, offset: int, body: Body, **options: Any) -> asyncio.Task[UploadPosition]:
        return asyncio.create_task(self.uploads.append(CALLER, upload.file_id, aiter(body), offset=offset, **options))

    async def offset(self, upload: ResumableUpload) -> int:
        """What HEAD says; it must be what lies on disk."""
        offset = (await self.uploads.find(CALLER, upload.file_id)).offset
        assert offset == self.on_disk(upload)
        return offset

    def on_disk(self, upload: ResumableUpload) -> int:
        path = self.desk.blobs.incoming / (upload.partial or "")
        return path.stat().st_size if path.exists() else 0

    async def file(self, upload: ResumableUpload) -> File:
        return await self.desk.ledger.file(upload.file_id)

    async def require_stored(self, upload: ResumableUpload, content: bytes = CONTENT) -> None:
        """Stored once with these bytes; one job, queued once; nothing left of the transfer."""
        found = await self.file(upload)
        assert (found.state, found.size, found.received) == (UploadState.STORED, len(content), len(content))
        assert found.sha256 == hashlib.sha256(content).hexdigest()
        assert found.blob is not None
        async with self.desk.blobs.local(found.blob) as path:
            assert await asyncio.to_thread(path.read_bytes) == content
        assert found.job is not None
        assert self.desk.executor.wakes > 0
        assert list(self.desk.blobs.incoming.iterdir()) == []
        told = [event.name.value for event in await all_events(self.desk.ledger) if event.subject.file_id == found.id]
        assert told == ["upload.started", "upload.stored", "job.queued"]
        assert self.uploads.received(upload.file_id) is None
        assert self.desk.bus.newest_progress(upload.file_id, "upload") is None


@pytest.fixture
async def counter(desk: Desk) -> AsyncIterator[Counter]:
    made = Counter(desk)
    yield made
    await made.uploads.drain()


def digest(content: bytes, algorithm: str = "sha256") -> Checksum:
    return Checksum(algorithm=algorithm, digest=hashlib.new(algorithm, content).digest())


# --- beginning -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "header",
    [
        "filename YQ==,filename Yg==",
        "filename //79",
        "filename !",
        "filename é",
        "a,b,filename d e",
        "own YQ==,own Yg==",
        "naïve YQ==",
        ",".join(f"k{number} YQ==" for number in range(101)),
        "filename " + "QUFB" * 3000,
    ],
)
def test_metadata_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        parse_metadata(header)


def test_metadata_is_text_by_key() -> None:
    assert parse_metadata("") == {}
    assert parse_metadata(f"filename {b64('ä.txt')}, is_confidential,relativePath ") == {
        "filename": "ä.txt",
        "relativePath": "",
    }


def test_metadata_of_the_clients_own_is_not_decoded() -> None:
    """It may be anything; it is kept with the upload as it came."""
    assert parse_metadata(f"own //79,other !!!,filename {b64('a')},a b c") == {"filename": "a"}


@pytest.mark.parametrize("header", ["", "sha1", "md5 AAAA", "sha1 AAAA", "sha256 é", "sha256 !!!", "sha1  " + "A" * 99])
def test_a_checksum_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        parse_checksum(header)


@pytest.mark.parametrize("values", [{"filename": "a\0b"}, {"filename": "x" * 5000}, {"sha256": "abc"}])
async def test_what_cannot_be_used_begins_nothing(counter: Counter, values: dict[str, str]) -> None:
    with pytest.raises((BadFileName, BadRequest)):
        await counter.create(len(CONTENT), **values)
    assert (await counter.desk.ledger.submissions(before=None, limit=1)).items == []


# --- going on --------------------------------------------------------------------------------------------------------


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
async def test_only_the_offset_where_it_stands_is_taken(counter: Counter, offset: int) -> None:
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


async def test_a_size_may_be_told_later_once_and_not_below_what_has_come(counter: Counter) -> None:
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


async def test_a_size_told_when_all_has_come_ends_it(counter: Counter) -> None:
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


# --- chunks with a checksum ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_a_chunk_counts_only_if_it_is_what_its_checksum_tells(counter: Counter, algorithm: str) -> None:
    upload = await counter.create()
    right, wrong = digest(CONTENT[:HALF], algorithm), digest(b"other", algorithm)
    with pytest.raises(ChecksumMismatch):
        await counter.append(upload, 0, CONTENT[:HALF], checksum=wrong)
    assert await counter.offset(upload) == 0
    await counter.append(upload, 0, CONTENT[:1000], CONTENT[1000:HALF], checksum=right)
    assert await counter.offset(upload) == HALF
    with pytest.raises(ChecksumMismatch):
        await counter.append(upload, HALF, CONTENT[HALF:], checksum=wrong)  # not even if it would make it whole
    assert await counter.offset(upload) == HALF
    await counter.append(upload, HALF, CONTENT[HALF:], checksum=digest(CONTENT[HALF:], algorithm))
    await counter.require_stored(upload)


@pytest.mark.parametrize("is_checked", [False, True])
async def test_of_a_request_that_is_cut_off_what_came_stays_unless_it_counts_as_a_whole(
    counter: Counter, is_checked: bool
) -> None:
    upload, body = await counter.create(), Body()
    await counter.append(upload, 0, CONTENT[:1000])
    checksum = digest(CONTENT[1000:]) if is_checked else None
    sending = counter.begin(upload, 1000, body, checksum=checksum)
    body.send(CONTENT[1000:HALF])
    await body.all_taken()
    assert counter.uploads.received(upload.file_id) == HALF
    sending.cancel()
    await asyncio.wait([sending])
    assert await counter.offset(upload) == (1000 if is_checked else HALF)
    await counter.append(upload, 1000 if is_checked else HALF, CONTENT[1000 if is_checked else HALF :])
    await counter.require_stored(upload)


@pytest.mark.parametrize("turns", range(0, 40, 4))
@pytest.mark.parametrize("is_checked", [False, True])
async def test_a_client_that_leaves_at_any_moment_leaves_a_true_offset(
    counter: Counter, turns: int, is_checked: bool
) -> None:
    """The cut comes while the turn is taken, the file is opened, written, paused or committed."""
    upload, body = await counter.create(), Body()
    sending = counter.begin(upload, 0, body, checksum=digest(CONTENT) if is_checked else None)
    body.send(CONTENT[:HALF], CONTENT[HALF:])
    body.end()
    for _ in range(turns):
        await asyncio.sleep(0 if turns % 8 else 0.0004)
    sending.cancel()
    await asyncio.wait([sending])
    async with asyncio.timeout(LIVENESS_S):
        standing = await counter.uploads.find(CALLER, upload.file_id)
    assert standing.offset in ((0, len(CONTENT)) if is_checked else (0, HALF, len(CONTENT)))
    if standing.offset < len(CONTENT):
        assert standing.offset == counter.on_disk(upload)
        await counter.append(upload, standing.offset, CONTENT[standing.offset :])

    async def is_stored() -> bool:
        return (await counter.file(upload)).state is UploadState.STORED

    await until(is_stored)
    await counter.require_stored(upload)


# --- one writer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_checked", [False, True])
async def test_who_comes_second_asks_the_first_to_let_go(counter: Counter, is_checked: bool) -> None:
    """The first may be a connection that is dead, and would hold the file until the idle limit."""
    upload, dead = await counter.create(), Body()
    first = counter.begin(upload, 0, dead, checksum=digest(CONTENT) if is_checked else None)
    dead.send(CONTENT[:HALF])
    await dead.all_taken()
    async with asyncio.timeout(LIVENESS_S):
        offset = await counter.offset(upload)
        with pytest.raises(Unavailable):
            await first
    assert offset == (0 if is_checked else HALF)
    dead.send(CONTENT[HALF:])  # what it still sends is nobody's business
    await counter.append(upload, offset, CONTENT[offset:])
    await counter.require_stored(upload)


async def test_of_many_writers_the_last_has_it_and_nothing_is_mixed(counter: Counter) -> None:
    upload, bodies = await counter.create(), [Body() for _ in range(10)]
    sending = [counter.begin(upload, 0, body) for body in bodies]
    for body in bodies:
        body.send(CONTENT[:HALF])
    await bodies[-1].all_taken()
    assert await counter.offset(upload) == HALF
    ends = await asyncio.gather(*sending, return_exceptions=True)
    assert all(isinstance(end, Unavailable | OffsetMismatch) for end in ends)
    await counter.append(upload, HALF, CONTENT[HALF:])
    await counter.require_stored(upload)


async def test_who_waits_for_the_turn_lets_go_too(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that got the turn while another waits for it does not begin to read a body that may never come."""
    upload, gate = await counter.create(), asyncio.Event()
    resume = DiskBlobStore.resume

    async def slow(store: DiskBlobStore, key: str) -> DiskBlobWriter:
        await gate.wait()
        return await resume(store, key)

    monkeypatch.setattr(DiskBlobStore, "resume", slow)
    dead = [counter.begin(upload, 0, Body()) for _ in range(3)]
    await asyncio.sleep(0.01)
    looking = asyncio.create_task(counter.uploads.find(CALLER, upload.file_id))
    await asyncio.sleep(0.01)
    gate.set()
    async with asyncio.timeout(LIVENESS_S):
        assert (await looking).offset == 0
        assert all(isinstance(end, Unavailable) for end in await asyncio.gather(*dead, return_exceptions=True))


async def test_an_end_cuts_off_who_is_sending_and_removes_what_has_come(counter: Counter) -> None:
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


# --- several processes -----------------------------------------------------------------------------------------------


@pytest.fixture
async def other(tmp_path: Path, desk: Desk) -> AsyncIterator[Counter]:
    """What another process does with the same ledger and the same store."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", desk.bus.publish)
    await ledger.open(without_lock=True)
    await ledger.enter(scenarios.node(lock="another"))
    made = Counter(Desk(ledger, desk.blobs, desk.bus))
    yield made
    await made.uploads.drain()
    await ledger.close()


async def test_a_process_looks_anew_where_an_upload_stands_that_another_has_gone_on_with(
    counter: Counter, other: Counter
) -> None:
    """Or it writes behind what it remembers: fifteen bytes stored as ten, with a SHA-256 of neither."""
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:1000])
    assert (await other.append(upload, 1000, CONTENT[1000:HALF])).offset == HALF
    assert await counter.offset(upload) == HALF
    with pytest.raises(OffsetMismatch) as told:
        await counter.append(upload, 1000, CONTENT[1000:])
    assert told.value.extra["offset"] == HALF
    assert (await counter.append(upload, HALF, CONTENT[HALF:])).offset == len(CONTENT)
    await counter.require_stored(upload)


async def test_a_process_that_lost_its_turn_in_the_middle_of_a_request_records_nothing_of_it(
    counter: Counter, other: Counter
) -> None:
    upload = await counter.create()
    body = Body()
    appending = counter.begin(upload, 0, body)
    body.send(CONTENT[:HALF])

    async def has_come() -> bool:
        return counter.uploads.received(upload.file_id) == HALF

    await until(has_come)
    await other.desk.ledger.take_upload(upload.file_id)
    body.send(CONTENT[HALF:])
    body.end()
    with pytest.raises(UploadTaken):
        await appending
    found = await counter.file(upload)
    assert (found.state, found.received) == (UploadState.RECEIVING, 0)


async def test_a_turn_that_another_process_takes_between_the_look_and_the_first_byte_is_noticed(
    counter: Counter, other: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await counter.create()
    check_room = counter.gate.check_room

    async def meanwhile(size: int) -> None:
        await other.append(upload, 0, CONTENT[:10])
        await check_room(size)

    monkeypatch.setattr(counter.gate, "check_room", meanwhile)
    with pytest.raises(UploadTaken):
        await counter.append(upload, 0, CONTENT[:100])
    monkeypatch.undo()
    assert await counter.offset(upload) == 10
    await counter.append(upload, 10, CONTENT[10:])
    await counter.require_stored(upload)


# --- time ------------------------------------------------------------------------------------------------------------


async def _make_late(counter: Counter, upload: ResumableUpload) -> None:
    found = await counter.desk.ledger.upload(upload.file_id)
    await counter.desk.ledger.extend_upload(
        upload.file_id,
        size=found.size,
        received=found.received,
        expires_at=utc_now() - timedelta(seconds=1),
        fence=found.fence,
    )


async def test_an_upload_whose_time_is_over_is_gone_whoever_notices(desk: Desk) -> None:
    counter = Counter(desk, expiry_s=1.0)
    asked, swept = await counter.create(), await counter.create()
    for upload in (asked, swept):
        await counter.append(upload, 0, CONTENT[:HALF])
        await _make_late(counter, upload)
    with pytest.raises(UploadGone):
        await counter.append(asked, HALF, CONTENT[HALF:])
    sweeping = asyncio.create_task(counter.uploads.run())

    async def is_swept() -> bool:
        is_ended = (await counter.file(swept)).state is UploadState.ABORTED
        return is_ended and not list(desk.blobs.incoming.iterdir())

    await until(is_swept)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    assert (await counter.file(swept)).error == "no byte came for too long"
    await counter.uploads.drain()


async def test_a_clock_that_steps_ends_no_upload_that_got_bytes_a_moment_ago(desk: Desk, wall_clock: WallClock) -> None:
    """Point 10, whoever looks: the sweep, or the client that goes on."""
    desk.clock = wall_clock.clock
    counter = Counter(desk, expiry_s=3600.0)
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:HALF])
    for number, step_s in enumerate((30 * DAY_S, -60 * DAY_S, 45 * DAY_S), 1):
        wall_clock.step(step_s)
        await counter.uploads._end_expired()
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


async def test_one_that_is_being_sent_is_not_swept_and_says_that_it_lives(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "NOTE_EVERY_S", 0.0)
    counter = Counter(desk, expiry_s=0.05)
    upload, body = await counter.create(), Body()
    sending, sweeping = counter.begin(upload, 0, body), asyncio.create_task(counter.uploads.run())
    body.send(CONTENT[:HALF])
    await body.all_taken()
    await asyncio.sleep(0.2)
    noted = (await desk.ledger.upload(upload.file_id)).expires_at
    body.send(CONTENT[HALF : HALF + 1])
    await body.all_taken()
    later = (await desk.ledger.upload(upload.file_id)).expires_at
    assert later is not None
    assert noted is not None
    assert later > noted
    body.send(CONTENT[HALF + 1 :])
    body.end()
    await sending
    sweeping.cancel()
    await asyncio.wait([sweeping])
    await counter.require_stored(upload)


# --- announced files -------------------------------------------------------------------------------------------------


async def _announce(counter: Counter, *files: object) -> tuple[SubmissionId, list[ResumableUpload]]:
    submission_id, _ = await counter.desk.intake.open(CALLER)
    return submission_id, list(await counter.uploads.announce(CALLER, submission_id, list(files)))


async def test_announced_files_come_by_form_or_piece_by_piece(counter: Counter) -> None:
    submission_id, (small, large, empty) = await _announce(
        counter, {"name": "s.txt", "size": 5}, {"name": "l.bin", "size": len(CONTENT)}, {"name": "0", "size": 0}
    )
    form = b'--B\r\nContent-Disposition: form-data; name="f"; filename="s.txt"\r\n\r\nhello\r\n--B--\r\n'
    await counter.desk.receive(form, submission_id=submission_id)
    await counter.append(large, 0, CONTENT)
    await counter.require_stored(small, b"hello")
    await counter.require_stored(large)
    await counter.require_stored(empty, b"")
    assert await recount(counter.desk.ledger, submission_id) == Counts(queued=3)


async def test_a_file_that_a_form_is_bringing_is_not_taken_piece_by_piece(counter: Counter) -> None:
    submission_id, (upload,) = await _announce(counter, {"name": "a", "size": 5})
    body = Body()
    receiving = counter.desk.begin(body, submission_id=submission_id)
    body.send(b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhe')
    await body.all_taken()
    with pytest.raises(Unavailable):  # the form may have been cut without anybody knowing yet: to be tried again
        await counter.append(upload, 0, b"hello")
    with pytest.raises(Unavailable):
        await counter.uploads.find(CALLER, upload.file_id)
    body.send(b"llo\r\n--B--\r\n")
    body.end()
    await receiving
    await counter.require_stored(upload, b"hello")


@pytest.mark.parametrize(
    "files",
    [
        None,
        {},
        "a",
        [1],
        [{"name": "a"}],
        [{"size": 1}],
        [{"name": "a", "size": -1}],
        [{"name": "a", "size": True}],
        [{"name": "a", "size": 1.5}],
        [{"name": "a", "size": 2**63}],
        [{"name": 1, "size": 1}],
        [{"name": "a", "size": 1, "path": 2}],
        [{"name": "", "size": 1}],
        [{"name": "a\ud800", "size": 1}],
        [{"name": "ok", "size": 1}, {"name": "a\0", "size": 1}],
        [{"name": "a", "size": 0}] * 1001,
    ],
)
async def test_an_announcement_of_another_form_begins_nothing(counter: Counter, files: object) -> None:
    submission_id, _ = await counter.desk.intake.open(CALLER)
    with pytest.raises(BadRequest):
        counter.uploads.check_announcement(CALLER, files)
    with pytest.raises(BadRequest):
        await counter.uploads.announce(CALLER, submission_id, files)
    assert await recount(counter.desk.ledger, submission_id) == Counts()


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_file_over_the_limit_is_refused_when_told_and_when_it_comes(desk: Desk) -> None:
    counter = Counter(desk, max_file_size=1000)
    with pytest.raises(FileTooLarge):
        await counter.create(1001)
    with pytest.raises(FileTooLarge):
        counter.uploads.check_announcement(CALLER, [{"name": "a", "size": 1001}])
    deferred = await counter.create(None)
    with pytest.raises(FileTooLarge):
        await counter.append(deferred, 0, bytes(600), bytes(600))
    assert await counter.offset(deferred) == 600
    with pytest.raises(FileTooLarge):
        await counter.append(deferred, 600, size=1001)
    await counter.append(deferred, 600, bytes(400), size=1000)
    await counter.require_stored(deferred, bytes(1000))


async def test_a_submission_over_its_limits_takes_no_more_files(desk: Desk) -> None:
    counter = Counter(desk, max_files=3, max_submission_size=1000)
    submission_id, (first, _) = await _announce(counter, {"name": "a", "size": 600}, {"name": "b", "size": 300})
    with pytest.raises(TooLarge):
        await counter.uploads.announce(CALLER, submission_id, [{"name": "c", "size": 101}])
    with pytest.raises(TooManyFiles):
        await counter.uploads.announce(CALLER, submission_id, [{"name": n, "size": 1} for n in "cd"])
    with pytest.raises(TooLarge):
        await counter.create(101, submission=submission_id)
    deferred = await counter.create(None, submission=submission_id)
    with pytest.raises(TooLarge):
        await counter.append(deferred, 0, bytes(60), bytes(60))
    assert await counter.offset(deferred) == 60
    await counter.append(first, 0, bytes(600))  # what was announced before may still come
    await counter.append(deferred, 60, bytes(40), size=100)
    with pytest.raises(TooManyFiles):
        await counter.create(0, submission=submission_id)
    form = b'--B\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n\r\n%b\r\n--B--\r\n'
    await desk.receive(form % (b"b", bytes(300)), submission_id=submission_id)  # fills the announced one
    with pytest.raises(TooManyFiles):
        await desk.receive(form % (b"another", b""), submission_id=submission_id)
    with pytest.raises(TooLarge):
        await counter.create(1001)
    with pytest.raises(TooLarge):
        await desk.intake.receive_raw(CALLER, sent(), "a", size=1001)


async def test_a_file_of_a_form_over_the_limit_is_not_kept_and_those_before_it_are(desk: Desk) -> None:
    Counter(desk, max_file_size=10)
    form = b'--B\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n\r\n%b\r\n'
    with pytest.raises(FileTooLarge) as told:
        await desk.receive(form % (b"a", bytes(10)), form % (b"b", bytes(11)), b"--B--\r\n")
    assert told.value.extra["kept"] == ["a"]
    await desk.settled(kept=["a"], aborted=["b"])


async def test_the_disk_keeps_its_reserve_before_and_during(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10_000_000

    async def free_bytes(store: DiskBlobStore) -> int:
        return free

    monkeypatch.setattr(DiskBlobStore, "free_bytes", free_bytes)
    monkeypatch.setattr(gate_module, "LOOK_EVERY_BYTES", 1000)
    counter = Counter(desk, min_free=1_000_000)
    with pytest.raises(OutOfSpace):
        await counter.create(9_000_001)
    with pytest.raises(OutOfSpace):
        await desk.intake.receive_raw(CALLER, sent(), "a", size=9_000_001)
    with pytest.raises(OutOfSpace):
        await desk.intake.receive_multipart(CALLER, sent(), "multipart/form-data; boundary=B", size=9_000_001)
    upload = await counter.create(9_000_000)

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal free
        yield CONTENT[:HALF]
        free = 999_999
        yield CONTENT[HALF:]

    with pytest.raises(OutOfSpace):
        await counter.uploads.append(CALLER, upload.file_id, chunks(), offset=0)
    assert await counter.offset(upload) == HALF  # what had come stays
    with pytest.raises(OutOfSpace):
        await counter.append(upload, HALF, CONTENT[HALF:])
    free = 10_000_000
    assert (await counter.append(upload, HALF, CONTENT[HALF:])).offset == len(CONTENT)


async def test_an_address_has_so_many_uploads_at_once_and_a_dead_one_makes_way(desk: Desk) -> None:
    counter = Counter(desk, max_per_client=1)
    first, second, body = await counter.create(), await counter.create(), Body()
    sending = counter.begin(first, 0, body)
    body.send(CONTENT[:HALF])
    await body.all_taken()
    with pytest.raises(TooManyUploads):
        await counter.append(second, 0, CONTENT)
    with pytest.raises(TooManyUploads):
        await desk.intake.receive_raw(CALLER, sent(CONTENT), "a", size=None)
    await counter.append(first, HALF, CONTENT[HALF:])  # its own successor is not refused
    with pytest.raises(Unavailable):
        await sending
    await counter.append(second, 0, CONTENT)
    await counter.require_stored(second)


async def test_a_body_that_stalls_or_drips_is_given_up_and_what_came_stays(desk: Desk) -> None:
    counter = Counter(desk, idle_timeout_s=0.05, min_rate=100_000)
    stalled, dripping = await counter.create(), await counter.create()
    body = Body()
    sending = counter.begin(stalled, 0, body)
    body.send(CONTENT[:HALF])
    with pytest.raises(RequestTooSlow):
        await sending
    assert await counter.offset(stalled) == HALF

    async def drip() -> AsyncIterator[bytes]:
        for number in range(1000):
            await asyncio.sleep(0.005)
            yield CONTENT[number : number + 1]

    with pytest.raises(RequestTooSlow):
        await counter.uploads.append(CALLER, dripping.file_id, drip(), offset=0)
    assert 0 < await counter.offset(dripping) < 1000
    await counter.append(stalled, HALF, CONTENT[HALF:])


async def test_our_own_slowness_is_not_the_clients(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk makes a body slow that the client would send faster."""
    counter = Counter(desk, idle_timeout_s=0.02, min_rate=10_000_000)
    upload, write = await counter.create(), DiskBlobWriter.write

    async def slow(writer: DiskBlobWriter, data: bytes | bytearray | memoryview) -> None:
        await asyncio.sleep(0.02)
        await write(writer, data)

    monkeypatch.setattr(DiskBlobWriter, "write", slow)
    await counter.append(upload, 0, *(CONTENT[at : at + 65536] for at in range(0, len(CONTENT), 65536)))
    await counter.require_stored(upload)


# --- stopping and starting -------------------------------------------------------------------------------------------


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

    await until(is_stored)
    assert await after.offset(half) == HALF
    await after.append(half, HALF, CONTENT[HALF:])
    await after.require_stored(upload)
    await after.require_stored(half)


async def test_a_disk_that_fails_at_the_end_loses_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte was answered for; it is stored as soon as somebody asks, or by itself."""
    counter = Counter(desk, expiry_s=0.2)
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

    await until(is_stored)
    running.cancel()
    await asyncio.wait([running])
    await counter.require_stored(upload)
    await counter.require_stored(alone)


async def test_a_write_that_fails_is_told_and_the_offset_is_what_is_there(
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

    await until(is_stored)
    await counter.require_stored(upload)


async def test_only_so_many_writers_are_kept(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "WRITERS_KEPT", 3)
    made = [await counter.create() for _ in range(10)]
    for upload in made:
        await counter.append(upload, 0, CONTENT[:HALF])
        assert len(counter.uploads._live) <= 4
    for upload in made:
        await counter.append(upload, HALF, CONTENT[HALF:])
        assert (await counter.file(upload)).sha256 == Sha256(hashlib.sha256(CONTENT).hexdigest())
    assert len(counter.uploads._live) <= 4


# --- a repeated request ----------------------------------------------------------------------------------------------


async def _put(counter: Counter, *chunks: bytes, **options: Any) -> tuple[str | None, tuple[str, ...]]:
    wanted = {"name": "a", "size": None, "idempotency_key": "k", **options}
    caller = replace(CALLER, owner=wanted.pop("owner", CALLER.owner))
    receipt = await counter.desk.intake.receive_raw(caller, sent(*chunks), **wanted)
    return receipt.submission_id, receipt.stored


async def test_a_repeat_shows_the_first_and_takes_no_byte(counter: Counter) -> None:
    first, stored = await _put(counter, CONTENT)
    assert stored == ("a",)
    assert await _put(counter, CONTENT[::-1], size=len(CONTENT)) == (first, ()), "bytes are not compared"
    body = Body()
    repeat = counter.desk.intake.receive_raw(CALLER, aiter(body), "a", size=len(CONTENT), idempotency_key="k")
    assert (await repeat).submission_id == first, "a size that is told is compared without a byte"
    assert len((await counter.desk.ledger.submissions(before=None, limit=10)).items) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"name": "b"},
        {"size": len(CONTENT) + 1},
        {"size": len(CONTENT) - 1},
        {"expected_sha256": Sha256(hashlib.sha256(CONTENT).hexdigest())},
    ],
)
async def test_idempotency_another_request_under_the_same_key_is_refused_and_nothing_stored(
    counter: Counter, options: dict[str, Any]
) -> None:
    first, _ = await _put(counter, CONTENT)
    with pytest.raises(IdempotencyMismatch) as refused:
        await _put(counter, CONTENT, **options)
    assert refused.value.extra["submission"] == first
    assert len((await counter.desk.ledger.submissions(before=None, limit=10)).items) == 1
    assert len(await counter.desk.stored_on_disk()) == 1
    assert await _put(counter, CONTENT) == (first, ())


@pytest.mark.parametrize("other", [b"", b"other", CONTENT + b"x", CONTENT[:-1]])
async def test_idempotency_a_size_that_nobody_told_is_compared_as_it_comes(counter: Counter, other: bytes) -> None:
    first, _ = await _put(counter, CONTENT)
    with pytest.raises(IdempotencyMismatch):
        await _put(counter, other)
    assert await _put(counter, CONTENT) == (first, ())


def _form(*files: tuple[str, bytes]) -> bytes:
    head = '--B\r\nContent-Disposition: form-data; name="f"; filename="{}"\r\n\r\n'
    return b"".join(head.format(name).encode() + content + b"\r\n" for name, content in files) + b"--B--\r\n"


async def _post(counter: Counter, *files: tuple[str, bytes], body: bytes | None = None) -> str | None:
    receipt = await counter.desk.intake.receive_multipart(
        CALLER,
        sent(_form(*files) if body is None else body),
        "multipart/form-data; boundary=B",
        idempotency_key="k",
    )
    return receipt.submission_id


A, B = ("a", b"aaa"), ("b", b"bbbb")


@pytest.mark.parametrize(
    "files",
    [(A,), (B, A), (A, B, A), (A, ("b", b"bbb")), (A, ("b", b"bbbbb")), (("c", b"aaa"), B), (A, ("b", bytes(10**6)))],
    ids=["fewer", "another order", "more", "smaller", "larger", "another name", "far larger"],
)
async def test_idempotency_a_form_with_other_files_under_the_same_key_is_refused(
    counter: Counter, files: Sequence[tuple[str, bytes]]
) -> None:
    first = await _post(counter, A, B)
    with pytest.raises(IdempotencyMismatch):
        await _post(counter, *files)
    assert await _post(counter, A, ("b", b"BBBB")) == first, "a difference that only the bytes show is not looked for"
    assert len(await counter.desk.stored_on_disk()) == 2
    assert counter.desk.executor.wakes == 2


async def test_idempotency_a_form_that_was_cut_off_is_shown_to_its_repeat(counter: Counter) -> None:
    whole = _form(A, B)
    with pytest.raises(MalformedUpload) as cut:
        await _post(counter, body=whole[: whole.index(b"bbbb") + 2])
    assert await _post(counter, A, B) == cut.value.extra["submission"]
    with pytest.raises(IdempotencyMismatch):
        await _post(counter, A, B, ("c", b"c"))


async def test_idempotency_a_file_that_the_first_form_never_began_is_not_lost_in_silence(counter: Counter) -> None:
    """The first form was cut between two files: nothing of the second is known, so it can only be told."""
    whole = _form(A, B)
    with pytest.raises(MalformedUpload) as cut:
        await _post(counter, body=whole[: whole.rindex(b"--B\r\n") + len(b"--B\r\n")])
    with pytest.raises(IdempotencyMismatch) as refused:
        await _post(counter, A, B)
    assert refused.value.extra["submission"] == cut.value.extra["submission"]


async def test_idempotency_a_repeat_that_breaks_off_or_is_cut_leaves_nothing(counter: Counter) -> None:
    first = await _post(counter, A, B)
    before = len(await all_events(counter.desk.ledger))
    with pytest.raises(MalformedUpload) as broken:
        await _post(counter, body=_form(A, B)[:-20])
    assert (broken.value.extra["kept"], broken.value.extra["submission"]) == ([], None)
    body = Body()
    repeat = asyncio.create_task(
        counter.desk.intake.receive_multipart(
            CALLER, aiter(body), "multipart/form-data; boundary=B", idempotency_key="k"
        )
    )
    body.send(_form(A, B)[:60])
    await body.all_taken()
    repeat.cancel()
    await asyncio.wait([repeat])
    assert len(await all_events(counter.desk.ledger)) == before
    assert await _post(counter, A, B) == first


async def test_idempotency_routes_are_different_requests(counter: Counter) -> None:
    await _put(counter, CONTENT)
    with pytest.raises(IdempotencyMismatch):
        await _post(counter, ("a", CONTENT))
    with pytest.raises(IdempotencyMismatch):
        await counter.desk.intake.open(CALLER, idempotency_key="k", announced=[("a", "a", len(CONTENT))])


async def test_idempotency_keys_of_two_owners_are_two(counter: Counter) -> None:
    mine, _ = await _put(counter, CONTENT)
    theirs, _ = await _put(counter, b"other", owner=Owner("account:1"))
    assert theirs != mine
    assert await _put(counter, b"other", owner=Owner("account:1")) == (theirs, ())
    assert await _put(counter, CONTENT) == (mine, ())


async def test_idempotency_does_not_ask_for_the_address(counter: Counter) -> None:
    """A retry after a change of network must not run the script twice."""
    first, _ = await _put(counter, CONTENT)
    elsewhere = replace(CALLER, client=replace(CLIENT, ip="203.0.113.9"))
    receipt = await counter.desk.intake.receive_raw(
        elsewhere, sent(CONTENT), "a", size=len(CONTENT), idempotency_key="k"
    )
    assert receipt.submission_id == first


async def test_two_at_once_are_one_file(counter: Counter) -> None:
    both = await asyncio.gather(_put(counter, CONTENT), _put(counter, CONTENT))
    assert both[0][0] == both[1][0]
    assert sorted(stored for _, stored in both) == [(), ("a",)]
    assert counter.desk.executor.wakes == 1


async def test_a_repeat_of_one_that_is_cut_off_while_it_waits_begins_anew(counter: Counter) -> None:
    """The client lost its connection; the server, which has not noticed, must not call that one a success."""
    body = Body()
    first = asyncio.create_task(
        counter.desk.intake.receive_raw(CALLER, aiter(body), "a", size=None, idempotency_key="k")
    )
    body.send(CONTENT[:HALF])
    await body.all_taken()
    repeat = asyncio.create_task(_put(counter, CONTENT))
    await asyncio.sleep(0.01)
    assert not repeat.done()
    first.cancel()
    submission_id, stored = await repeat
    assert stored == ("a",)
    assert await recount(counter.desk.ledger, SubmissionId(submission_id or "")) == Counts(queued=1)


async def test_a_digest_that_does_not_match_keeps_nothing_and_may_be_repeated(counter: Counter) -> None:
    with pytest.raises(DigestMismatch):
        await _put(counter, CONTENT, expected_sha256=Sha256("0" * 64))
    assert await counter.desk.stored_on_disk() == set()
    _, stored = await _put(counter, CONTENT, expected_sha256=Sha256(hashlib.sha256(CONTENT).hexdigest()))
    assert stored == ("a",)
