"""Limits of uploads: what each refuses, and what stays."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.intake.counter import CONTENT, HALF, Counter, announce
from tests.intake.desk import Body, Desk, sent
from tests.support.scenarios import CALLER

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import DiskBlobWriter
from dropmill.intake import limits
from dropmill.intake.limits import Gate, UploadLimits
from dropmill.intake.tus import Checksum
from dropmill.model.errors import (
    ChecksumMismatch,
    FileTooLarge,
    OutOfSpace,
    QuotaExceeded,
    RequestTooSlow,
    TooLarge,
    TooManyFiles,
    TooManyUploads,
    Unavailable,
)
from dropmill.ports.ledger.uploads import SubmissionUsage


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
async def test_a_refusal_for_lack_of_room_names_the_reserve_if_there_is_one(
    tmp_path: Path, min_free: int, said: str
) -> None:
    gate = Gate(UploadLimits(idle_timeout_s=1, min_free=min_free), FullDisk(tmp_path))
    with pytest.raises(OutOfSpace) as caught:
        await gate.check_room(1)
    assert caught.value.detail == said


async def test_a_file_over_the_limit_is_refused_when_announced_and_when_it_comes(desk: Desk) -> None:
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


async def test_a_refusal_names_the_file_and_the_limit_in_binary_units(desk: Desk) -> None:
    counter = Counter(desk, max_file_size=2**20, max_submission_size=3 * 2**20)
    over = "big.bin is over the limit of 1 MiB for one file."
    big = [b'--B\r\nContent-Disposition: form-data; name="f"; filename="big.bin"\r\n\r\n', bytes(2**20 + 1)]
    with pytest.raises(FileTooLarge) as announced:
        counter.uploads.check_announcement(CALLER, [{"name": "a", "size": 1}, {"name": "big.bin", "size": 2**20 + 1}])
    with pytest.raises(FileTooLarge) as in_a_form:
        await desk.receive(*big)
    with pytest.raises(FileTooLarge) as raw:
        await desk.intake.receive_raw(CALLER, sent(bytes(2**20 + 1)), "big.bin", size=None)
    deferred = await counter.create(None, filename="big.bin")
    with pytest.raises(FileTooLarge) as in_pieces:
        await counter.append(deferred, 0, bytes(2**20 + 1))
    for refused in (announced, in_a_form, raw, in_pieces):
        assert refused.value.detail == over
        assert refused.value.extra["file"] == "big.bin"
    with pytest.raises(TooLarge, match=r"The submission is over the limit of 3 MiB\."):
        await announce(counter, *({"name": name, "size": 2**20} for name in "abcd"))


async def test_a_submission_over_its_limits_takes_no_more_files(desk: Desk) -> None:
    counter = Counter(desk, max_files=3, max_submission_size=1000)
    submission_id, (first, _) = await announce(counter, {"name": "a", "size": 600}, {"name": "b", "size": 300})
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
    monkeypatch.setattr(limits, "CHECK_DISK_EVERY_BYTES", 1000)
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


async def test_a_slow_disk_does_not_count_against_the_client(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would send faster than this disk writes."""
    counter = Counter(desk, idle_timeout_s=0.02, min_rate=10_000_000)
    upload, write = await counter.create(), DiskBlobWriter.write

    async def slow(writer: DiskBlobWriter, data: bytes | bytearray | memoryview) -> None:
        await asyncio.sleep(0.02)
        await write(writer, data)

    monkeypatch.setattr(DiskBlobWriter, "write", slow)
    await counter.append(upload, 0, *(CONTENT[at : at + 65536] for at in range(0, len(CONTENT), 65536)))
    await counter.require_stored(upload)


async def test_a_quota_is_looked_at_in_steps_that_end_where_it_does(desk: Desk) -> None:
    """A loan brings no byte past the next look; whoever has no limit is looked at once."""
    gate = Gate(UploadLimits(idle_timeout_s=1, min_free=0), desk.blobs)
    looks: list[int] = []
    most = 2 * limits.HOLD_EVERY_BYTES - 10
    is_limited = True

    async def hold(received: int) -> int | None:
        looks.append(received)
        if is_limited and received > most:
            raise QuotaExceeded("Too much.")
        return most - received if is_limited else None

    meter = gate.meter(SubmissionUsage())
    meter.watch_quota(hold, 5)
    assert meter.room(5) == limits.HOLD_EVERY_BYTES
    size = 5 + limits.HOLD_EVERY_BYTES
    await meter.take(size, size)
    assert (looks, meter.room(size)) == ([], 0)
    await meter.take(size + 1, 1)
    assert meter.room(size + 1) == most - size - 1 < limits.HOLD_EVERY_BYTES
    await meter.take(most, most - size - 1)
    assert meter.room(most) == 0
    with pytest.raises(QuotaExceeded):
        await meter.take(most + 1, 1)
    assert looks == [size + 1, most + 1]
    is_limited = False
    await meter.take(size * 9, 1)
    await meter.take(size * 99, 1)
    assert len(looks) == 3


async def test_a_chunk_with_a_checksum_that_is_dropped_was_never_counted(desk: Desk) -> None:
    """What the ledger has as received would have to be on the disk after a restart."""
    counter = Counter(desk)
    deferred = await counter.create(None)
    chunk = bytes(limits.HOLD_EVERY_BYTES + 1)
    with pytest.raises(ChecksumMismatch):
        await counter.uploads.append(
            CALLER, deferred.file_id, sent(chunk), offset=0, checksum=Checksum(algorithm="sha256", digest=b"another")
        )
    assert (await desk.ledger.upload(deferred.file_id)).received == 0
    assert (await desk.ledger.quotas([CALLER.owner]))[CALLER.owner].usage.storage == 0
