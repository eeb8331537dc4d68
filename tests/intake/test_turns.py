"""One request at a time works on an upload, within a process and among several."""

import asyncio
import hashlib
from typing import Any

import pytest
from tests.intake.counter import CONTENT, HALF, Counter, digest
from tests.intake.desk import Body
from tests.support.scenarios import CALLER, LIVENESS_S
from tests.support.waiting import eventually

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import DiskBlobWriter
from dropmill.intake import turns
from dropmill.model.errors import OffsetMismatch, Unavailable, UploadTaken
from dropmill.model.ids import Sha256
from dropmill.model.uploads import UploadState


@pytest.mark.parametrize("is_checked", [False, True])
async def test_a_second_request_gives_up_the_first(counter: Counter, is_checked: bool) -> None:
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


async def test_a_request_that_waits_for_the_turn_is_given_up_too(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that got the turn while another waits for it does not begin to read a body that may never come."""
    upload, gate = await counter.create(), asyncio.Event()
    resume = DiskBlobStore.resume

    async def slow(store: DiskBlobStore, key: str, **options: Any) -> DiskBlobWriter:
        await gate.wait()
        return await resume(store, key, **options)

    monkeypatch.setattr(DiskBlobStore, "resume", slow)
    dead = [counter.begin(upload, 0, Body()) for _ in range(3)]
    await asyncio.sleep(0.01)
    looking = asyncio.create_task(counter.uploads.find(CALLER, upload.file_id))
    await asyncio.sleep(0.01)
    gate.set()
    async with asyncio.timeout(LIVENESS_S):
        assert (await looking).offset == 0
        assert all(isinstance(end, Unavailable) for end in await asyncio.gather(*dead, return_exceptions=True))


async def test_a_process_finds_the_offset_anew_after_another_has_continued_the_upload(
    counter: Counter, other: Counter
) -> None:
    """Else it would write after the offset it remembers: fifteen bytes stored as ten, with a SHA-256 of neither."""
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

    await eventually(has_come)
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


async def test_only_so_many_writers_are_kept(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WRITERS_KEPT", 3)
    made = [await counter.create() for _ in range(10)]
    for upload in made:
        await counter.append(upload, 0, CONTENT[:HALF])
        assert len(counter.uploads._turns) <= 4
    for upload in made:
        await counter.append(upload, HALF, CONTENT[HALF:])
        assert (await counter.file(upload)).sha256 == Sha256(hashlib.sha256(CONTENT).hexdigest())
    assert len(counter.uploads._turns) <= 4
