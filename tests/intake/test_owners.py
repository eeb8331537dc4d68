"""Bodies and uploads for what belongs to somebody else: not found, and nobody who is sending is disturbed."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest
from tests.intake.counter import CONTENT, HALF, Counter, b64
from tests.intake.desk import END, TYPE, Body, Desk, head, part, sent
from tests.support.callers import ADA, BOB, OPAL
from tests.support.scenarios import CALLER

from dropmill.intake.resumable import UploadPosition
from dropmill.model.caller import Caller
from dropmill.model.errors import NotFound
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.uploads import UploadState
from dropmill.ports.ledger.uploads import ResumableUpload

NOBODYS = SubmissionId("0" * 32)


async def said(asked: Awaitable[object]) -> str:
    """The sentence with which something is not found."""
    with pytest.raises(NotFound) as refused:
        await asked
    return refused.value.detail


async def create(counter: Counter, caller: Caller, metadata: str = "filename YQ==") -> ResumableUpload:
    return await counter.uploads.create(caller, size=len(CONTENT), metadata=metadata)


def append(counter: Counter, caller: Caller, file_id: FileId, body: Body) -> asyncio.Task[UploadPosition]:
    return asyncio.create_task(counter.uploads.append(caller, file_id, aiter(body), offset=0))


@pytest.mark.parametrize("ask", ["find", "append", "terminate"])
async def test_a_stranger_neither_finds_an_upload_nor_interrupts_it(counter: Counter, ask: str) -> None:
    upload, body = await create(counter, ADA), Body()

    def asked(caller: Caller, file_id: FileId) -> Awaitable[object]:
        match ask:
            case "find":
                return counter.uploads.find(caller, file_id)
            case "append":
                return counter.uploads.append(caller, file_id, sent(CONTENT), offset=0)
        return counter.uploads.terminate(caller, file_id)

    sending = append(counter, ADA, upload.file_id, body)
    body.send(CONTENT[:HALF])
    await body.all_taken()
    assert await said(asked(BOB, upload.file_id)) == await said(asked(BOB, FileId("0" * 32)))
    assert not sending.done()
    body.send(CONTENT[HALF:])
    body.end()
    assert (await sending).offset == len(CONTENT)
    await counter.require_stored(upload)


async def test_an_operator_takes_over_what_somebody_sends(counter: Counter) -> None:
    upload = await create(counter, ADA)
    assert (await counter.uploads.find(OPAL, upload.file_id)).offset == 0
    await counter.uploads.terminate(OPAL, upload.file_id)
    assert (await counter.file(upload)).state is UploadState.ABORTED


async def test_nobody_adds_to_the_submission_of_another(counter: Counter) -> None:
    intake, uploads = counter.desk.intake, counter.uploads
    mine, _ = await intake.open(ADA)
    files: list[object] = [{"name": "a", "size": 3}]

    def body_for(submission_id: SubmissionId) -> Awaitable[object]:
        return intake.receive_multipart(BOB, aiter(unread), TYPE, submission_id=submission_id)

    unread = Body()
    assert await said(body_for(mine)) == await said(body_for(NOBODYS))
    assert unread.taken == 0
    assert await said(uploads.announce(BOB, mine, files)) == await said(uploads.announce(BOB, NOBODYS, files))
    told = [await said(create(counter, BOB, f"filename YQ==,submission {text}")) for text in (b64(mine), b64(NOBODYS))]
    assert told[0] == told[1]
    assert await said(intake.seal(BOB, mine)) == await said(intake.seal(BOB, NOBODYS))
    view = await counter.desk.ledger.view_submission(mine, limit=9)
    assert (view.submission.is_open, view.files) == (True, [])


async def test_a_stranger_who_seals_does_not_hurry_what_arrives(desk: Desk) -> None:
    """A file that is still held in memory goes to the disk when its submission is sealed; only then."""
    mine, _ = await desk.intake.open(ADA)
    body = Body()
    receiving = asyncio.create_task(desk.intake.receive_multipart(ADA, aiter(body), TYPE, submission_id=mine))
    body.send(part("a.txt"), head("b.txt"), b"b")
    await body.all_taken()
    with pytest.raises(NotFound):
        await desk.intake.seal(BOB, mine)
    body.send(b"\r\n" + END)
    body.end()
    assert (await receiving).stored == ("a.txt", "b.txt")
    await desk.intake.seal(ADA, mine)


async def test_a_part_that_names_the_file_of_another_brings_nothing(counter: Counter) -> None:
    intake, uploads = counter.desk.intake, counter.uploads
    (mine, _), (theirs, _) = await intake.open(ADA), await intake.open(BOB)
    [awaited] = await uploads.announce(ADA, mine, [{"name": "a", "size": 3}])
    told = []
    for file_id in (awaited.file_id, FileId("0" * 32)):
        form = (
            f'--B\r\nContent-Disposition: form-data; name="file:{file_id}"; filename="a"\r\n\r\nabc\r\n--B--\r\n'
        ).encode()
        told.append(await said(intake.receive_multipart(BOB, sent(form), TYPE, submission_id=theirs)))
    assert told[0] == told[1]
    assert (await counter.file(awaited)).state is UploadState.ANNOUNCED


async def test_two_people_may_use_the_same_key(desk: Desk) -> None:
    """Each gets a submission of their own, and their own again when they repeat the request."""
    receipts = [
        await desk.intake.receive_multipart(caller, sent(part("a.txt"), END), TYPE, idempotency_key="1")
        for caller in (ADA, BOB, CALLER, ADA, replace(BOB, account="renamed"))
    ]
    ids = [receipt.submission_id for receipt in receipts]
    assert len(set(ids)) == 3
    assert (ids[3], ids[4]) == (ids[0], ids[1])
