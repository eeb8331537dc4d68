"""Bodies whose connection is lent: the same bytes, limits and reports as for those that come in pieces."""

import asyncio
import random
from collections.abc import Callable

import pytest
from tests.intake.counter import Counter, digest
from tests.intake.desk import Desk
from tests.intake.lent import BytesLoan, lent
from tests.support.scenarios import CALLER

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.intake.loans import Pieces
from dropmill.intake.receiving import Receipt
from dropmill.model.errors import (
    ChecksumMismatch,
    DropmillError,
    FileTooLarge,
    IdempotencyMismatch,
    OutOfSpace,
    RequestTooSlow,
    TooLarge,
)
from dropmill.model.jobs import Progress
from dropmill.model.uploads import UploadState

CONTENT = random.Random(11).randbytes(3_000_000)
FIRST, LENT, LAST = CONTENT[:300_000], CONTENT[300_000:-1], CONTENT[-1:]


async def put(desk: Desk, pieces: Pieces, key: str | None = None) -> Receipt:
    return await desk.intake.receive_raw(CALLER, pieces, "a.bin", size=None, idempotency_key=key)


async def require_stored(desk: Desk, content: bytes = CONTENT) -> None:
    (file,) = (await desk.files()).values()
    assert file.state is UploadState.STORED
    assert file.blob is not None
    async with desk.blobs.local(file.blob) as path:
        assert await asyncio.to_thread(path.read_bytes) == content
    assert file.sha256 == digest(content).digest.hex()


# --- one file as the body --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1000, 300_000, 1 << 20])
async def test_what_is_lent_is_stored_in_order(desk: Desk, step: int) -> None:
    loans = [BytesLoan(LENT[:1_500_000], step=step), BytesLoan(LENT[1_500_000:], step=step)]
    receipt = await put(desk, lent(FIRST, loans[0], loans[1], LAST))
    assert receipt.stored == ("a.bin",)
    assert sum(loan.brought for loan in loans) == len(LENT)
    await require_stored(desk)


async def test_a_store_without_a_free_thread_gets_the_bytes_the_ordinary_way(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: object, limit: int) -> int:
        return 0

    monkeypatch.setattr(type(desk.blobs.create("")), "take", busy)
    loan = BytesLoan(LENT)
    await put(desk, lent(FIRST, loan, LAST))
    assert (loan.uses, loan.brought) == (1, 0)
    await require_stored(desk)


async def test_progress_is_reported_while_bytes_are_lent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[Progress] = []
    monkeypatch.setattr(desk.bus, "report", reports.append)
    monkeypatch.setattr("dropmill.intake.receiving.PROGRESS_EVERY_S", 0.0)
    await put(desk, lent(FIRST, BytesLoan(LENT[:1000]), BytesLoan(LENT[1000:]), LAST))
    assert [report.value for report in reports] == [300_000, 301_000, 2_999_999, 3_000_000]


@pytest.mark.parametrize(
    ("limit", "refused"), [({"max_file_size": 1_000_000}, FileTooLarge), ({"max_submission_size": 1_000_000}, TooLarge)]
)
async def test_no_byte_beyond_a_limit_is_borrowed(
    counter: Counter, limit: dict[str, int], refused: type[DropmillError]
) -> None:
    desk = Counter(counter.desk, **limit).desk
    loan = BytesLoan(LENT)
    with pytest.raises(refused):
        await put(desk, lent(FIRST, loan, LAST))
    assert loan.brought == 1_000_000 - len(FIRST)
    await desk.settled(kept=[], aborted=["a.bin"])


async def test_a_file_of_exactly_the_limit_is_stored(counter: Counter) -> None:
    desk = Counter(counter.desk, max_file_size=len(CONTENT), max_submission_size=len(CONTENT)).desk
    await put(desk, lent(FIRST, BytesLoan(LENT), LAST))
    await require_stored(desk)


async def test_the_free_disk_is_looked_at_inside_a_loan(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dropmill.intake.limits.CHECK_DISK_EVERY_BYTES", 1_000_000)
    asked = 0
    free_bytes = DiskBlobStore.free_bytes

    async def free(store: DiskBlobStore) -> int:
        nonlocal asked
        asked += 1
        return await free_bytes(store) if asked < 3 else -1

    monkeypatch.setattr(DiskBlobStore, "free_bytes", free)
    loan = BytesLoan(LENT)
    with pytest.raises(OutOfSpace):
        await put(desk, lent(FIRST, loan, LAST))
    assert loan.brought == 1_700_000


@pytest.mark.parametrize(("waited_s", "is_slow"), [(10.0, True), (0.5, False)])
async def test_the_time_that_a_thread_waited_for_the_client_counts_for_the_pace(
    counter: Counter, waited_s: float, is_slow: bool
) -> None:
    desk = Counter(counter.desk, min_rate=1_000_000, idle_timeout_s=4.0).desk
    body = lent(FIRST, BytesLoan(LENT, waited_s=waited_s), LAST)
    if is_slow:
        with pytest.raises(RequestTooSlow):
            await put(desk, body)
    else:
        await put(desk, body)
        await require_stored(desk)


async def test_a_repeat_borrows_nothing_and_compares_all_bytes(desk: Desk) -> None:
    await put(desk, lent(FIRST, BytesLoan(LENT), LAST), key="k")
    loan = BytesLoan(LENT)
    await put(desk, lent(FIRST, loan, LAST), key="k")
    assert loan.uses == 0
    with pytest.raises(IdempotencyMismatch):
        await put(desk, lent(FIRST, BytesLoan(LENT), LAST, b"more"), key="k")
    await require_stored(desk)


# --- resumable uploads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [None, "sha1", "sha256"])
async def test_a_patch_borrows_with_and_without_a_checksum(counter: Counter, algorithm: str | None) -> None:
    upload = await counter.create(len(CONTENT))
    loan = BytesLoan(LENT)
    await counter.uploads.append(
        CALLER,
        upload.file_id,
        lent(FIRST, loan, LAST),
        offset=0,
        checksum=None if algorithm is None else digest(CONTENT, algorithm),
    )
    assert loan.brought == len(LENT)
    await counter.require_stored(upload, CONTENT)


async def test_a_lent_chunk_with_a_wrong_checksum_leaves_nothing(counter: Counter) -> None:
    upload = await counter.create(len(CONTENT))
    await counter.append(upload, 0, FIRST)
    body = lent(BytesLoan(LENT), LAST)
    with pytest.raises(ChecksumMismatch):
        await counter.uploads.append(CALLER, upload.file_id, body, offset=len(FIRST), checksum=digest(CONTENT))
    assert await counter.offset(upload) == len(FIRST)
    await counter.uploads.append(CALLER, upload.file_id, lent(BytesLoan(LENT), LAST), offset=len(FIRST))
    await counter.require_stored(upload, CONTENT)


async def test_an_upload_is_lent_no_more_bytes_than_it_needs(counter: Counter) -> None:
    upload = await counter.create(1_000_000)
    loan = BytesLoan(LENT)
    with pytest.raises(TooLarge):
        await counter.uploads.append(CALLER, upload.file_id, lent(FIRST, loan, LAST), offset=0)
    assert loan.brought == 700_000


class Stalled(BytesLoan):
    """A loan whose client stops sending."""

    def read_into(self, buffer: memoryview) -> int:
        while not (length := super().read_into(buffer)):
            if self.is_stopped:
                return 0
            self._is_over = False
        return length

    is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize("give_up", [lambda counter, upload, sending: sending.cancel(), None])
async def test_a_request_that_is_given_up_inside_a_slice_leaves_a_true_offset(
    counter: Counter, is_checked: bool, give_up: Callable[..., object] | None
) -> None:
    """The client leaves, or asks for the offset by another connection."""
    upload = await counter.create(len(CONTENT))
    sending = asyncio.ensure_future(
        counter.uploads.append(
            CALLER,
            upload.file_id,
            lent(FIRST, Stalled(LENT[:1_000_000]), LENT[1_000_000:]),
            offset=0,
            checksum=digest(CONTENT) if is_checked else None,
        )
    )
    while counter.uploads.received(upload.file_id) != 1_300_000:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)
    if give_up is not None:
        give_up(counter, upload, sending)
    expected = 0 if is_checked else 1_300_000
    assert await counter.offset(upload) == expected
    await asyncio.wait([sending])
    await counter.append(upload, expected, CONTENT[expected:])
    await counter.require_stored(upload, CONTENT)
