"""What the ids of a form's parts name is read ahead of them, as far as that has been of use."""

from collections.abc import Sequence

import pytest
from tests.intake.counter import Counter, announce
from tests.intake.desk import END, Desk
from tests.support.scenarios import LIVENESS_S

from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.intake import awaited
from dropmill.intake.awaited import AHEAD_MAX
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.uploads import AbortCause
from dropmill.ports.ledger.uploads import AwaitedFile, ResumableUpload


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files the ledger was asked for, by each read, on a machine that is never too slow."""
    monkeypatch.setattr(awaited, "VALID_S", LIVENESS_S)
    reads: list[int] = []
    real = SqliteLedger.awaited_files

    async def awaited_files(
        ledger: SqliteLedger, submission_id: SubmissionId, first: FileId, *, ahead: int
    ) -> Sequence[AwaitedFile]:
        reads.append(ahead + 1)
        return await real(ledger, submission_id, first, ahead=ahead)

    monkeypatch.setattr(SqliteLedger, "awaited_files", awaited_files)
    return reads


def form(uploads: Sequence[ResumableUpload]) -> bytes:
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="file:{upload.file_id}"; filename="{upload.name}"\r\n\r\na\r\n'
        for upload in uploads
    ]
    return "".join(parts).encode() + END


async def announced(desk: Desk, count: int) -> tuple[SubmissionId, Sequence[ResumableUpload]]:
    return await announce(Counter(desk), *({"name": f"{number:03}.txt", "size": 1} for number in range(count)))


async def test_a_form_in_the_announced_order_asks_for_twice_as_many_each_time(desk: Desk, asked: list[int]) -> None:
    submission_id, uploads = await announced(desk, 600)
    receipt = await desk.receive(form(uploads), submission_id=submission_id)
    assert receipt.stored == tuple(upload.path for upload in uploads)
    assert asked == [1, 3, 7, 15, 31, 63, 127, 255, AHEAD_MAX + 1]


async def test_a_form_in_another_order_asks_for_little_that_it_does_not_need(desk: Desk, asked: list[int]) -> None:
    submission_id, uploads = await announced(desk, 100)
    receipt = await desk.receive(form(uploads[::-1]), submission_id=submission_id)
    assert len(receipt.stored) == 100
    assert sum(asked) <= 3 * 100


async def test_a_form_passes_over_what_ended_before_it_was_read(desk: Desk) -> None:
    submission_id, uploads = await announced(desk, 5)
    await desk.ledger.abort_upload(uploads[3].file_id, AbortCause.CANCELLED, "the client terminated it")
    receipt = await desk.receive(form(uploads), submission_id=submission_id)
    assert receipt.stored == ("000.txt", "001.txt", "002.txt", "004.txt")


async def test_a_form_keeps_nothing_of_a_file_that_ended_after_it_was_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part of the second is received, because the form had read of it; then the ledger refuses it."""
    submission_id, uploads = await announced(desk, 3)
    real = SqliteLedger.awaited_files

    async def then_ended(ledger: SqliteLedger, of: SubmissionId, first: FileId, *, ahead: int) -> Sequence[AwaitedFile]:
        found = await real(ledger, of, first, ahead=ahead)
        if len(found) > 1:
            await ledger.abort_upload(uploads[2].file_id, AbortCause.CANCELLED, "the client terminated it")
        return found

    monkeypatch.setattr(SqliteLedger, "awaited_files", then_ended)
    receipt = await desk.receive(form(uploads), submission_id=submission_id)
    assert receipt.stored == ("000.txt", "001.txt")
    await desk.settled(kept=["000.txt", "001.txt"], aborted=["002.txt"], is_open=True)


async def test_what_was_read_long_ago_is_read_again(
    desk: Desk, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaited, "VALID_S", -1.0)
    submission_id, uploads = await announced(desk, 9)
    receipt = await desk.receive(form(uploads), submission_id=submission_id)
    assert len(receipt.stored) == len(asked) == 9
