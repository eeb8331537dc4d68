"""One body with the real ledger, store and bus: what is kept, what is removed, and what is reported when."""

import asyncio
import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.engines.disk.tampering import empty, remove, shorten
from tests.intake.counter import Counter, announce
from tests.intake.desk import END, FIRST, SECOND, Body, Desk, full, head, on_disk, part
from tests.support import scenarios
from tests.support.scenarios import CALLER, CLIENT, SUCCEEDED, all_events, names, recount
from tests.support.waiting import eventually

from dropmill.engines.disk.writer import WRITE_BYTES, DiskBlobWriter
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.intake.receiving import FINISHING_MAX, PROGRESS_EVERY_S
from dropmill.model.errors import (
    BadFileName,
    BytesLost,
    MalformedUpload,
    NothingSent,
    OutOfSpace,
    RequestTooSlow,
    Unavailable,
    UnsupportedMediaType,
)
from dropmill.model.events import EventName
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.submissions import Counts
from dropmill.model.uploads import AbortCause, StoredBlob, UploadState
from dropmill.ports.blobs import SMALL_BYTES
from dropmill.ports.ledger.uploads import AwaitedFile, ResumableUpload

WAYS = [remove, empty, shorten]


async def test_files_are_stored_under_generated_names_with_their_bytes(desk: Desk) -> None:
    contents = {"../../x.tar.gz": b"traversal", "a.txt": b"", "same": bytes(3 * WRITE_BYTES + 1), "A.txt": b"case"}
    receipt = await desk.receive(*(part(name, content) for name, content in contents.items()), END)
    assert sorted(receipt.stored) == sorted(contents)
    await desk.settled(kept=list(contents), aborted=[])
    for path, file in (await desk.files()).items():
        assert file.blob is not None
        async with desk.blobs.local(file.blob) as stored:
            assert await asyncio.to_thread(stored.read_bytes) == contents[path]
            assert stored.is_relative_to(desk.blobs.blobs)
        assert file.sha256 == hashlib.sha256(contents[path]).hexdigest()
        assert file.size == file.received == len(contents[path])
        assert file.name == path.rpartition("/")[2]
    assert (await desk.files())["../../x.tar.gz"].blob.endswith(".tar.gz")  # type: ignore[union-attr]


async def test_two_files_of_one_name_are_two_files(desk: Desk) -> None:
    receipt = await desk.receive(part("a.txt", b"1"), part("a.txt", b"2"), END)
    assert receipt.stored == ("a.txt", "a.txt")
    assert await recount(desk.ledger, (await desk.submission()).id) == Counts(queued=2)


@pytest.mark.parametrize("count", [FINISHING_MAX + 1, 200])
async def test_many_small_files_of_one_body_are_all_stored(desk: Desk, count: int) -> None:
    body = b"".join(part(f"{number}.txt", b"%d" % number) for number in range(count)) + END
    receipt = await desk.receive(*(body[at : at + 4096] for at in range(0, len(body), 4096)))
    assert len(receipt.stored) == count
    await desk.settled(kept=[f"{number}.txt" for number in range(count)], aborted=[])


async def test_no_more_files_than_a_few_are_under_way_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast files come, a body does not open them all."""
    gate, under_way, most = asyncio.Event(), 0, 0
    commit = DiskBlobWriter.commit

    async def slow(writer: DiskBlobWriter) -> StoredBlob:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1
        return await commit(writer)

    monkeypatch.setattr(DiskBlobWriter, "commit", slow)
    body = Body()
    receiving = desk.begin(body)
    for number in range(5 * FINISHING_MAX):
        body.send(part(f"{number}", bytes(SMALL_BYTES + 1)))

    async def is_stuck() -> bool:
        return under_way >= FINISHING_MAX

    await eventually(is_stuck)
    await asyncio.sleep(0.05)
    assert most <= FINISHING_MAX + 1
    assert body.taken < 5 * FINISHING_MAX  # the rest waits where it came from
    gate.set()
    body.send(END)
    body.end()
    assert len((await receiving).stored) == 5 * FINISHING_MAX


async def test_each_job_is_queued_as_its_part_ends_and_the_submission_settles_once(desk: Desk) -> None:
    """Two parts with a pause between them, in which the first one's job runs to its end."""
    body = Body()
    receiving = desk.begin(body)
    body.send(part("first.txt"), head("second.txt"))

    async def is_queued() -> bool:
        return desk.executor.wakes == 1

    await eventually(is_queued)
    assert not receiving.done()
    first = await scenarios.claimed(desk.ledger)
    assert await desk.ledger.end_attempt(first.job_id, 1, SUCCEEDED)
    assert (await desk.submission()).is_open
    body.send(b"content\r\n", END)
    body.end()
    receipt = await receiving
    assert receipt.stored == ("first.txt", "second.txt")
    assert not (await desk.submission()).is_open
    assert await desk.count(EventName.SUBMISSION_SETTLED) == 0
    assert desk.executor.wakes == 2
    second = await scenarios.claimed(desk.ledger)
    await desk.ledger.end_attempt(second.job_id, 1, SUCCEEDED)
    assert await desk.count(EventName.SUBMISSION_SETTLED) == 1
    assert (await names(desk.ledger))[-1] == "submission.settled"


async def test_a_file_shows_how_much_of_it_has_arrived(desk: Desk) -> None:
    body = Body()
    receiving = desk.begin(body)
    body.send(head("a.bin"), bytes(1000))
    file_id: FileId | None = None

    async def has_begun() -> bool:
        nonlocal file_id
        page = await desk.ledger.submissions(before=None, limit=1)
        if page.items and (await desk.files()):
            file_id = (await desk.files())["a.bin"].id
        return file_id is not None and desk.intake.received(file_id) == 1000

    await eventually(has_begun)
    body.send(b"\r\n", END)
    body.end()
    await receiving
    assert file_id is not None
    assert desk.intake.received(file_id) is None


async def test_progress_is_reported_at_once_and_then_at_most_four_times_a_second(
    desk: Desk, bus: LocalBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(bus, "report", lambda progress: reports.append((loop.time(), progress.value)))
    body = Body()
    receiving = desk.begin(body)
    body.send(head("a.bin"))
    end_at = loop.time() + 3.5 * PROGRESS_EVERY_S
    while loop.time() < end_at:
        body.send(bytes(1000))
        await asyncio.sleep(0.002)
    body.send(b"\r\n", END)
    body.end()
    await receiving
    assert len(reports) >= 2
    assert reports[0][1] > 0
    gaps = [after[0] - before[0] for before, after in pairwise(reports)]
    assert all(gap >= PROGRESS_EVERY_S - 0.05 for gap in gaps), gaps
    assert [value for _, value in reports] == sorted(value for _, value in reports)


CUTS = {
    "in the head of the first": (FIRST[:20], [], []),
    "between head and content": (head("first.txt"), [], ["first.txt"]),
    "in the content": (FIRST[:-4], [], ["first.txt"]),
    "in the boundary": (FIRST + b"--", [], ["first.txt"]),
    "in the head of the second": (FIRST + SECOND[:20], ["first.txt"], []),
    "in the second's content": (FIRST + SECOND[: WRITE_BYTES + 5000], ["first.txt"], ["second.txt"]),
    "before the last boundary": (FIRST + SECOND, ["first.txt"], ["second.txt"]),
    "in the last boundary": (FIRST + SECOND + b"--B", ["first.txt"], ["second.txt"]),
}


@pytest.mark.parametrize("place", CUTS)
async def test_a_body_that_breaks_off_leaves_no_half_file_and_names_what_was_kept(desk: Desk, place: str) -> None:
    """However it breaks off: it ends, its client leaves, or the server stops."""
    text, kept, aborted = CUTS[place]
    with pytest.raises(MalformedUpload) as told:
        await desk.receive(text)
    assert told.value.extra["kept"] == kept
    if kept or aborted:
        assert told.value.extra["submission"] == (await desk.submission()).id
        await desk.settled(kept=kept, aborted=aborted)
    else:
        assert told.value.extra["submission"] is None
        assert await names(desk.ledger) == ["config.saved"]


@pytest.mark.parametrize("place", CUTS)
async def test_a_client_that_leaves_takes_only_its_half_file_along(desk: Desk, place: str) -> None:
    text, kept, aborted = CUTS[place]
    body = Body()
    receiving = desk.begin(body)
    body.send(text)
    await body.all_taken()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await desk.intake.drain()
    if kept or aborted:
        await desk.settled(kept=kept, aborted=aborted)
    else:
        assert await names(desk.ledger) == ["config.saved"]


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_client_that_leaves_at_any_moment_leaves_nothing_unsettled(desk: Desk, turns: int) -> None:
    """The cut comes while something is being opened, started, written or committed."""
    body = Body()
    receiving = desk.begin(body)
    body.send(FIRST, SECOND[:WRITE_BYTES], SECOND[WRITE_BYTES:], part("third.txt")[:-3])
    for _ in range(turns):
        await asyncio.sleep(0 if turns % 2 else 0.0003)
    receiving.cancel()
    await asyncio.wait([receiving])
    await desk.intake.drain()
    page = await desk.ledger.submissions(before=None, limit=1)
    if page.items:
        files = await desk.files()
        await desk.settled(
            kept=[path for path, file in files.items() if file.state is UploadState.STORED],
            aborted=[path for path, file in files.items() if file.state is not UploadState.STORED],
        )
    assert list(desk.blobs.incoming.iterdir()) == []


@pytest.mark.parametrize("place", CUTS)
async def test_a_stopping_server_keeps_files_that_have_ended_and_names_them(desk: Desk, place: str) -> None:
    text, kept, aborted = CUTS[place]
    body = Body()
    receiving = desk.begin(body)
    body.send(text)
    await body.all_taken()
    await desk.intake.drain()
    with pytest.raises(Unavailable) as told:
        await receiving
    assert told.value.extra["kept"] == kept
    if kept or aborted:
        await desk.settled(kept=kept, aborted=aborted)
    with pytest.raises(Unavailable):
        await desk.receive(part("late.txt"), END)
    with pytest.raises(Unavailable):
        await desk.intake.open(CALLER)


async def test_a_stop_lets_a_body_that_has_been_read_come_to_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    commit = DiskBlobWriter.commit

    async def slow(writer: DiskBlobWriter) -> StoredBlob:
        await gate.wait()
        return await commit(writer)

    monkeypatch.setattr(DiskBlobWriter, "commit", slow)
    body = Body()
    receiving = desk.begin(body)
    body.send(part("a.txt", bytes(SMALL_BYTES + 1)), END)
    await body.all_taken()
    body.end()
    await asyncio.sleep(0.02)
    stopping = asyncio.create_task(desk.intake.drain())
    await asyncio.sleep(0.02)
    assert not stopping.done()
    gate.set()
    assert (await receiving).stored == ("a.txt",)
    await stopping
    await desk.settled(kept=["a.txt"], aborted=[])


async def test_a_body_that_stalls_is_given_up(desk: Desk) -> None:
    desk.intake = desk.intake_with(idle_timeout_s=0.05)
    body = Body()
    receiving = desk.begin(body)
    body.send(FIRST, head("second.txt"), b"half")
    with pytest.raises(RequestTooSlow) as told:
        await receiving
    assert told.value.extra["kept"] == ["first.txt"]
    await desk.settled(kept=["first.txt"], aborted=["second.txt"])
    assert (await desk.files())["second.txt"].error == told.value.detail


async def test_a_slow_body_that_moves_is_not_given_up(desk: Desk) -> None:
    desk.intake = desk.intake_with(idle_timeout_s=1.0)
    body = Body()
    receiving = desk.begin(body)
    body.send(head("a.txt"))
    for _ in range(6):
        await asyncio.sleep(0.2)
        body.send(b"x")
    body.send(b"\r\n", END)
    body.end()
    assert (await receiving).stored == ("a.txt",)


async def test_a_name_that_cannot_be_kept_ends_the_body_and_keeps_what_came_before(desk: Desk) -> None:
    with pytest.raises(BadFileName) as told:
        await desk.receive(FIRST, part("a\0b"), part("never.txt"), END)
    assert told.value.extra["kept"] == ["first.txt"]
    await desk.settled(kept=["first.txt"], aborted=[])


@pytest.mark.parametrize(
    "body", [END, b'--B\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\n\r\n' + END]
)
async def test_a_form_without_a_file_opens_nothing(desk: Desk, body: bytes) -> None:
    with pytest.raises(NothingSent) as told:
        await desk.receive(body)
    assert (told.value.extra["kept"], told.value.extra["submission"]) == ([], None)
    assert await names(desk.ledger) == ["config.saved"]


async def test_a_body_of_another_type_is_refused_before_it_is_read(desk: Desk) -> None:
    body = Body()
    body.send(FIRST)
    with pytest.raises(UnsupportedMediaType):
        await desk.intake.receive_multipart(CALLER, aiter(body), "text/plain")
    assert body.taken == 0


@pytest.mark.parametrize("method", ["write", "commit", "store_upload"])
async def test_a_disk_that_fills_up_keeps_what_was_stored_and_service_resumes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    body = Body()
    receiving = desk.begin(body)
    body.send(FIRST, head("second.txt"))

    async def is_stored() -> bool:
        return desk.executor.wakes == 1

    await eventually(is_stored)
    with full(monkeypatch, method):
        body.send(bytes(2 * WRITE_BYTES), b"\r\n", END)
        body.end()
        with pytest.raises(OutOfSpace) as told:
            await receiving
    assert told.value.extra["kept"] == ["first.txt"]
    await desk.settled(kept=["first.txt"], aborted=["second.txt"])
    desk.executor.wakes = 0
    await desk.receive(part("third.txt"), END)
    assert set(await desk.files()) == {"third.txt"}


async def test_a_ledger_on_the_full_disk_hears_of_the_lost_file_once_its_bytes_have_made_room(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    abort_upload = SqliteLedger.abort_upload

    async def if_there_is_room(ledger: SqliteLedger, file_id: FileId, cause: AbortCause, reason: str) -> None:
        if any(desk.blobs.incoming.iterdir()):
            raise OutOfSpace("The disk that holds the ledger is full.")
        await abort_upload(ledger, file_id, cause, reason)

    monkeypatch.setattr(SqliteLedger, "abort_upload", if_there_is_room)
    with full(monkeypatch, "commit"), pytest.raises(OutOfSpace):
        await desk.receive(head("a.bin"), bytes(2 * WRITE_BYTES), b"\r\n", END)
    await desk.settled(kept=[], aborted=["a.bin"])


async def test_a_ledger_that_cannot_be_written_names_what_was_kept_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full(monkeypatch, "seal_submission"), pytest.raises(OutOfSpace) as told:
        await desk.receive(FIRST, END)
    assert told.value.extra["kept"] == ["first.txt"]


@pytest.mark.parametrize(("method", "size"), [("store_files", 9), ("store_upload", SMALL_BYTES + 1)])
async def test_whether_a_file_was_stored_is_asked_of_the_ledger_and_not_inferred_from_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, method: str, size: int
) -> None:
    store = getattr(SqliteLedger, method)

    async def store_and_fail(*arguments: Any, **named: Any) -> None:
        await store(*arguments, **named)
        raise Unavailable("The connection to the ledger was lost.")

    monkeypatch.setattr(SqliteLedger, method, store_and_fail)
    with pytest.raises(Unavailable):
        await desk.receive(part("first.txt", bytes(size)), END)
    (file,) = (await desk.files()).values()
    assert file.state is UploadState.STORED
    assert await desk.stored_on_disk() == {file.blob}


async def test_every_event_of_an_upload_names_its_file_and_client(desk: Desk) -> None:
    await desk.receive(FIRST, END, account="ada")
    (file,) = (await desk.files()).values()
    events = [event for event in await all_events(desk.ledger) if event.subject.file_id == file.id]
    assert [event.name.value for event in events] == ["upload.started", "upload.stored", "job.queued"]
    for event in events:
        assert (event.subject.name, event.subject.account) == ("first.txt", "ada")
        assert event.subject.client is not None
        assert event.subject.client.ip == CLIENT.ip


async def test_a_blob_store_folder_holds_nothing_but_blobs(desk: Desk, tmp_path: Path) -> None:
    """What a client calls its file never reaches a path."""
    for name in ("../../../../etc/x", "a%0D%0Ab", "x" * 300, "con", "\u202e.txt"):
        await desk.receive(part(name), END)
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert found <= {"blobs", "journal", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"}
    assert all(key[:32].isalnum() for key in await desk.stored_on_disk())


@pytest.mark.parametrize("way", WAYS)
async def test_a_form_file_that_vanished_while_it_came_is_not_recorded_as_stored(desk: Desk, way: Any) -> None:
    body = Body()
    receiving = desk.begin(body)
    body.send(FIRST, head("second.txt"), bytes(600_000))
    way(await on_disk(desk, 600_000))
    body.send(b"\r\n", END)
    body.end()
    with pytest.raises(BytesLost) as told:
        await receiving
    assert told.value.extra["kept"] == ["first.txt"]
    await desk.settled(kept=["first.txt"], aborted=["second.txt"])


async def test_a_file_by_id_that_another_form_begins_at_the_same_moment_fails_no_form(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both forms read that the file is announced; the ledger lets one of them begin it."""
    counter = Counter(desk)
    submission_id, (first, second) = await announce(counter, {"name": "a.txt", "size": 3}, {"name": "b.txt", "size": 3})

    def field(upload: ResumableUpload) -> bytes:
        words = f'name="file:{upload.file_id}"; filename="{upload.name}"'
        return f"--B\r\nContent-Disposition: form-data; {words}\r\n\r\n".encode()

    async def as_announced(_: SubmissionId, file_id: FileId, *, ahead: int) -> Sequence[AwaitedFile]:
        upload = {first.file_id: first, second.file_id: second}[file_id]
        return [AwaitedFile(file_id=file_id, path=upload.path, size=upload.size, expected_sha256=None)]

    body = Body()
    receiving = desk.begin(body, submission_id=submission_id)
    body.send(field(second) + b"b")
    async with asyncio.timeout(10):
        while (await desk.ledger.file(second.file_id)).state is not UploadState.RECEIVING:  # noqa: ASYNC110  # the form does it
            await asyncio.sleep(0.01)
    monkeypatch.setattr(desk.ledger, "awaited_files", as_announced)
    receipt = await desk.receive(field(first), b"aaa\r\n", field(second), b"bbb\r\n", END, submission_id=submission_id)
    assert receipt.stored == ("a.txt",)
    body.send(b"bb\r\n", END)
    body.end()
    assert (await receiving).stored == ("b.txt",)
    await desk.settled(kept=["a.txt", "b.txt"], aborted=[], is_open=True)
