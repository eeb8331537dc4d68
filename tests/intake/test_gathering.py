"""Small files are stored and recorded together, and each keeps what a file that comes alone is promised."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from tests.intake.counter import Counter, announce
from tests.intake.desk import END, Body, Desk, failing, head, part, sent
from tests.support import scenarios
from tests.support.scenarios import CALLER, all_events, names, recount
from tests.support.waiting import eventually

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import DiskBlobWriter
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.intake.gathering import BATCH_BYTES, BATCH_FILES
from dropmill.intake.receiving import Receipt
from dropmill.model.errors import (
    DigestMismatch,
    DropmillError,
    IllegalTransition,
    OutOfSpace,
    StorageUnavailable,
    Unavailable,
)
from dropmill.model.ids import Sha256
from dropmill.model.submissions import Counts
from dropmill.model.uploads import StoredBlob, UploadState
from dropmill.ports.blobs import SMALL_BYTES, SmallPart
from dropmill.ports.ledger.uploads import WholeFile

ONE = ["submission.opened", "upload.started", "upload.stored", "job.queued", "submission.sealed"]


async def put(desk: Desk, content: bytes, name: str = "a.txt", **wanted: Any) -> Receipt:
    return await desk.intake.receive_raw(CALLER, sent(content), name, size=len(content), **wanted)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The sizes of the files of each call that stores some together."""
    seen: list[list[int]] = []
    store_small = DiskBlobStore.store_small

    async def noted(store: DiskBlobStore, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        seen.append([len(part.data) for part in parts])
        return await store_small(store, parts)

    monkeypatch.setattr(DiskBlobStore, "store_small", noted)
    return seen


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Small files are stored only once this is set."""
    opened = asyncio.Event()
    store_small = DiskBlobStore.store_small

    async def held(store: DiskBlobStore, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        await opened.wait()
        return await store_small(store, parts)

    monkeypatch.setattr(DiskBlobStore, "store_small", held)
    return opened


# --- together --------------------------------------------------------------------------------------------------------


async def test_a_thousand_files_of_one_form_share_their_syncs_and_keep_their_order(
    desk: Desk, batches: list[list[int]]
) -> None:
    contents = {f"{number}.txt": b"%d\n" % number for number in range(1000)}
    body = b"".join(part(name, content) for name, content in contents.items()) + END
    receipt = await desk.receive(*(body[at : at + 16384] for at in range(0, len(body), 16384)))
    assert receipt.stored == tuple(contents)
    assert 900 < sum(map(len, batches)) <= 1000  # one goes alone whenever this machine pauses
    assert len(batches) < 100
    assert all(len(batch) <= BATCH_FILES and sum(batch) <= BATCH_BYTES for batch in batches)
    files = await desk.files()
    assert list(files) == list(contents)
    for name, file in files.items():
        assert file.blob is not None
        async with desk.blobs.local(file.blob) as path:
            assert path.read_bytes() == contents[name]
    told: dict[str, list[str]] = {}
    for event in await all_events(desk.ledger):
        if event.subject.name is not None:
            told.setdefault(event.subject.name, []).append(event.name.value)
    assert list(told) == list(contents)
    assert all(events == ["upload.started", "upload.stored", "job.queued"] for events in told.values())
    jobs = [(await desk.ledger.job(job_id)).file_id for job_id in await scenarios.in_line(desk.ledger)]
    assert jobs == [file.id for file in files.values()]


async def test_requests_at_the_same_time_share_a_batch(
    desk: Desk, gate: asyncio.Event, batches: list[list[int]]
) -> None:
    requests = [asyncio.create_task(put(desk, bytes(number + 1), f"{number}")) for number in range(20)]

    async def has_begun() -> bool:
        return len(batches) == 1

    await eventually(has_begun)
    gate.set()
    receipts = await asyncio.gather(*requests)
    assert [receipt.stored for receipt in receipts] == [(f"{number}",) for number in range(20)]
    assert len({receipt.submission_id for receipt in receipts}) == 20
    assert sum(map(len, batches)) == 20
    assert len(batches) <= 4


async def test_a_file_over_the_limit_goes_alone_with_all_its_bytes(desk: Desk, batches: list[list[int]]) -> None:
    contents = {str(size): bytes([size % 251]) * size for size in (SMALL_BYTES, SMALL_BYTES + 1, 3 * SMALL_BYTES)}
    body = b"".join(part(name, content) for name, content in contents.items()) + END
    await desk.receive(*(body[at : at + 50_000] for at in range(0, len(body), 50_000)))
    await desk.settled(kept=list(contents), aborted=[])
    for name, file in (await desk.files()).items():
        assert file.sha256 == hashlib.sha256(contents[name]).hexdigest()
    assert max((size for batch in batches for size in batch), default=0) <= SMALL_BYTES


async def test_a_file_that_pauses_is_seen_before_its_end(desk: Desk, batches: list[list[int]]) -> None:
    body = Body()
    receiving = desk.begin(body)
    body.send(head("slow.txt"), b"sl")

    async def is_seen() -> bool:
        page = await desk.ledger.submissions(before=None, limit=1)
        return bool(page.items) and page.items[0].counts.receiving == 1

    await eventually(is_seen)
    file = (await desk.files())["slow.txt"]
    assert desk.intake.received(file.id) == 2
    assert desk.intake.senders.of(file.submission_id) == {file.id}
    body.send(b"ow\r\n", part("quick.txt"), END)
    body.end()
    assert (await receiving).stored == ("slow.txt", "quick.txt")
    async with desk.blobs.local((await desk.files())["slow.txt"].blob or "") as path:
        assert path.read_bytes() == b"slow"
    assert all(4 not in batch for batch in batches)


async def test_small_files_are_queued_after_a_large_one_before_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, may_commit = DiskBlobWriter.commit, asyncio.Event()

    async def slow(writer: DiskBlobWriter) -> StoredBlob:
        await may_commit.wait()
        return await commit(writer)

    monkeypatch.setattr(DiskBlobWriter, "commit", slow)
    body = Body()
    receiving = desk.begin(body)
    names_sent = ["a", "large", "b", "c", "d"]
    sizes = {"large": 2 * SMALL_BYTES}
    body.send(*(part(name, bytes(sizes.get(name, 5))) for name in names_sent))
    await body.all_taken()
    may_commit.set()
    body.send(END)
    body.end()
    await receiving
    queued = [event.subject.name for event in await all_events(desk.ledger) if event.name.value == "job.queued"]
    assert queued == names_sent


# --- a file alone in its submission ----------------------------------------------------------------------------------


async def test_one_small_file_is_one_change_and_its_receipt_is_what_a_read_returns(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("open_submission", "start_upload", "store_upload", "store_files", "seal_submission"):
        monkeypatch.setattr(SqliteLedger, method, None)
    desk.names.is_dead = True
    receipt = await put(desk, b"content", "folder/a.txt")
    assert receipt.stored == ("folder/a.txt",)
    assert receipt.submission_id is not None
    read = await desk.ledger.view_submission(receipt.submission_id, limit=9)
    assert receipt.view == read
    assert (await names(desk.ledger))[1:] == ONE
    assert desk.executor.wakes == 1
    await desk.settled(kept=["folder/a.txt"], aborted=[])


async def test_one_file_with_another_digest_is_shown_as_aborted(desk: Desk) -> None:
    with pytest.raises(DigestMismatch) as told:
        await put(desk, b"content", expected_sha256=Sha256("0" * 64))
    assert told.value.extra["submission"] == (await desk.submission()).id
    await desk.settled(kept=[], aborted=["a.txt"])
    assert not (await desk.submission()).is_open


async def test_one_file_that_is_cut_off_is_shown_as_aborted(desk: Desk) -> None:
    body = Body()
    receiving = asyncio.create_task(desk.intake.receive_raw(CALLER, aiter(body), "a.txt", size=9))
    body.send(b"half")
    await body.all_taken()
    receiving.cancel()
    await asyncio.wait([receiving])
    await desk.intake.drain()
    await desk.settled(kept=[], aborted=["a.txt"])


@pytest.mark.parametrize("turns", range(0, 60, 2))
async def test_one_file_whose_client_leaves_at_any_moment_leaves_nothing_unsettled(desk: Desk, turns: int) -> None:
    storing = asyncio.create_task(put(desk, b"content"))
    for _ in range(turns):
        await asyncio.sleep(0 if turns % 4 else 0.0002)
    storing.cancel()
    await asyncio.wait([storing])
    await desk.intake.drain()
    page = await desk.ledger.submissions(before=None, limit=1)
    if page.items:
        state = (await desk.files())["a.txt"].state
        is_kept = state is UploadState.STORED
        await desk.settled(kept=["a.txt"] if is_kept else [], aborted=[] if is_kept else ["a.txt"])
    else:
        assert await desk.stored_on_disk() == set()
    assert not desk.intake._arrivals.file_ids


# --- seals -----------------------------------------------------------------------------------------------------------


async def test_a_seal_waits_for_files_that_have_arrived_and_are_not_recorded(desk: Desk, gate: asyncio.Event) -> None:
    submission_id, _ = await desk.intake.open(CALLER)
    body = Body()
    receiving = desk.begin(body, submission_id=submission_id)
    body.send(part("a.txt"), part("b.txt"), head("c.txt"), b"begun")
    await body.all_taken()
    sealing = asyncio.create_task(desk.intake.seal(CALLER, submission_id))
    await asyncio.sleep(0.02)
    assert not sealing.done()
    gate.set()
    await sealing
    assert not (await desk.submission()).is_open
    body.send(b"\r\n", END)
    body.end()
    assert (await receiving).stored == ("a.txt", "b.txt", "c.txt")
    await desk.settled(kept=["a.txt", "b.txt", "c.txt"], aborted=[])


async def test_files_for_a_sealed_submission_are_refused_and_leave_nothing(desk: Desk) -> None:
    submission_id, _ = await desk.intake.open(CALLER)
    await desk.intake.seal(CALLER, submission_id)
    with pytest.raises(IllegalTransition) as told:
        await desk.receive(*(part(f"{number}") for number in range(20)), END, submission_id=submission_id)
    assert told.value.extra["kept"] == []
    assert await desk.stored_on_disk() == set()
    assert await recount(desk.ledger, submission_id) == Counts()


# --- failures --------------------------------------------------------------------------------------------------------


async def test_on_a_full_disk_the_files_that_fit_are_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, gate: asyncio.Event
) -> None:
    store_small = DiskBlobStore.store_small

    async def with_little_room(store: DiskBlobStore, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        if sum(len(part.data) for part in parts) > 100:
            raise OutOfSpace("The disk is full.")
        return await store_small(store, parts)

    monkeypatch.setattr(DiskBlobStore, "store_small", with_little_room)
    sizes = {"a": 50, "b": 500, "c": 60, "d": 70}
    body = Body()
    receiving = desk.begin(body)
    body.send(b"".join(part(name, bytes(size)) for name, size in sizes.items()) + END)
    body.end()
    gate.set()
    with pytest.raises(OutOfSpace) as told:
        await receiving
    assert told.value.extra["kept"] == [name for name in sizes if name in told.value.extra["kept"]]
    assert "b" not in told.value.extra["kept"]
    files = await desk.files()
    assert files["a"].state is UploadState.STORED
    assert files["b"].state is UploadState.ABORTED
    await desk.settled(
        kept=[name for name, file in files.items() if file.state is UploadState.STORED],
        aborted=[name for name, file in files.items() if file.state is UploadState.ABORTED],
    )


async def test_a_ledger_with_little_room_records_the_files_that_fit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_files = SqliteLedger.store_files

    async def with_little_room(ledger: SqliteLedger, files: Sequence[WholeFile]) -> None:
        if len(files) > 1 or files[0].name == "5":
            raise OutOfSpace("The disk that holds the ledger is full.")
        await store_files(ledger, files)

    monkeypatch.setattr(SqliteLedger, "store_files", with_little_room)
    with pytest.raises(OutOfSpace):
        await desk.receive(b"".join(part(str(number)) for number in range(9)) + END)
    await desk.settled(kept=[str(number) for number in range(9) if number != 5], aborted=["5"])


@pytest.mark.parametrize("error", [StorageUnavailable, Unavailable])
async def test_a_disk_that_is_away_fails_every_file_of_the_batch(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: type[DropmillError]
) -> None:
    async def away(*_: Any) -> Sequence[StoredBlob]:
        raise error("The file store is away.")

    with monkeypatch.context() as patch:
        patch.setattr(DiskBlobStore, "store_small", away)
        with pytest.raises(error):
            await desk.receive(b"".join(part(f"{number}") for number in range(9)) + END)
    await desk.settled(kept=[], aborted=[f"{number}" for number in range(9)])
    await desk.receive(part("after"), END)
    assert set(await desk.files()) == {"after"}


async def test_one_file_that_the_ledger_may_have_recorded_stays_until_it_can_be_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive_one = SqliteLedger.receive_one

    async def store_and_fail(*arguments: Any, **named: Any) -> None:
        await receive_one(*arguments, **named)
        raise Unavailable("The connection to the ledger was lost.")

    with failing(monkeypatch, "file"):
        monkeypatch.setattr(SqliteLedger, "receive_one", store_and_fail)
        with pytest.raises(Unavailable):
            await put(desk, b"content")
        assert await desk.intake.sweep() == 1
    assert await desk.intake.sweep() == 0
    await desk.settled(kept=["a.txt"], aborted=[])


async def test_one_file_that_the_ledger_never_recorded_leaves_no_open_submission(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing(monkeypatch, "file", "receive_one", "open_submission"), pytest.raises(Unavailable):
        await put(desk, b"content")
    assert await desk.intake.sweep() == 0
    assert await desk.stored_on_disk() == set()
    assert (await desk.ledger.submissions(before=None, limit=9)).items == []
    assert not desk.intake._filling
    assert not desk.intake._arrivals.file_ids


async def test_an_announced_file_is_gathered_once_though_its_form_comes_twice(desk: Desk, gate: asyncio.Event) -> None:
    counter = Counter(desk)
    submission_id, (upload,) = await announce(counter, {"name": "a.txt", "size": 3})
    words = f'name="file:{upload.file_id}"; filename="a.txt"'
    body = f"--B\r\nContent-Disposition: form-data; {words}\r\n\r\naaa\r\n".encode() + END
    twice = [asyncio.create_task(desk.receive(body, submission_id=submission_id)) for _ in range(2)]
    await asyncio.sleep(0.02)
    gate.set()
    receipts = await asyncio.gather(*twice)
    assert sorted(receipt.stored for receipt in receipts) == [(), ("a.txt",)]
    await desk.settled(kept=["a.txt"], aborted=[], is_open=True)
    assert (await names(desk.ledger)).count("upload.stored") == 1
