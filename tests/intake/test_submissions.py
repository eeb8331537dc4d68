"""Submissions: who opened them, when they are sealed, and what a sweep does after a failure."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engines.disk.killed import journalled, kill, opened
from tests.intake.counter import Counter
from tests.intake.desk import END, FIRST, SECOND, Body, Desk, failing, full, head, part
from tests.support import scenarios
from tests.support.clocks import DAY_S, WallClock
from tests.support.scenarios import CALLER, CLIENT
from tests.support.waiting import eventually

from dropmill.engines.disk import small
from dropmill.engines.disk.writer import WRITE_BYTES
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.intake import arriving, submissions
from dropmill.intake.receiving import Receipt
from dropmill.model.errors import DropmillError, IllegalTransition, NotFound, Unavailable
from dropmill.model.events import EventName
from dropmill.model.ids import SubmissionId
from dropmill.model.uploads import UploadState
from dropmill.ports.blobs import SMALL_BYTES, SmallPart


async def test_the_look_up_of_a_host_name_delays_no_file(desk: Desk) -> None:
    desk.names.is_dead = True
    await desk.receive(part("a.txt"), END)
    assert (await desk.submission()).client == CLIENT
    assert await desk.count(EventName.CLIENT_IDENTIFIED) == 0
    desk.names.is_dead = False
    await desk.receive(part("a.txt"), END)

    async def is_identified() -> bool:
        return (await desk.submission()).client.host == "pc7.lab.example"

    await eventually(is_identified)


async def test_recovery_removes_what_no_file_owns(desk: Desk) -> None:
    await desk.receive(FIRST, END)
    kept = await desk.stored_on_disk()
    orphan, half = desk.blobs.create(".txt"), desk.blobs.create("")
    await orphan.write(b"committed, and then the power went")
    await orphan.commit()
    await half.write(bytes(2 * WRITE_BYTES))
    assert len(await desk.stored_on_disk()) == 2
    await desk.intake.recover()
    assert await desk.stored_on_disk() == kept
    assert list(desk.blobs.incoming.iterdir()) == []
    await half.abort()


async def test_a_start_completes_what_was_stored_together_and_brings_nothing_else_back(
    ledger: SqliteLedger, bus: LocalBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill and a power cut: a stored file, one that was removed, and one that the ledger never heard of."""
    monkeypatch.setattr(small, "DRAIN_EVERY_S", 3600.0)
    store = await opened(tmp_path / "data")
    desk = Desk(ledger, store, bus)
    await desk.receive(part("removed.txt", b"removed"), END)
    (removed,) = (await desk.files()).values()
    order = await scenarios.claimed(ledger)
    await ledger.end_attempt(order.job_id, 1, scenarios.SUCCEEDED)
    settled_at = (await desk.submission()).settled_at
    assert settled_at is not None
    await desk.receive(part("kept.txt", b"kept"), END)
    (kept,) = (await desk.files()).values()
    (unrecorded,) = await store.store_small([SmallPart(extension="", data=b"unrecorded")])
    await desk.intake.drain()
    assert await ledger.begin_removal(removed.submission_id, settled_at)
    assert kept.blob is not None
    assert removed.blob is not None
    await kill(store)
    assert journalled(tmp_path / "data") >= {kept.blob, removed.blob, unrecorded.key}
    store.path(kept.blob).unlink()
    store.path(removed.blob).unlink()
    after = await opened(tmp_path / "data")
    await Desk(ledger, after, bus).intake.recover()
    assert {path.name for path in after.blobs.rglob("*") if path.is_file()} == {kept.blob}
    assert after.path(kept.blob).read_bytes() == b"kept"
    assert list((tmp_path / "data" / "journal").iterdir()) == []
    await after.close()


async def test_an_opened_submission_takes_files_until_it_is_sealed(desk: Desk) -> None:
    submission_id, _ = await desk.intake.open(replace(CALLER, account="ada"))
    for name in ("a.txt", "b.txt"):
        receipt = await desk.receive(part(name), END, submission_id=submission_id)
        assert receipt == Receipt(submission_id=submission_id, stored=(name,))
    await desk.settled(kept=["a.txt", "b.txt"], aborted=[], is_open=True)
    await desk.intake.seal(CALLER, submission_id)
    await desk.intake.seal(CALLER, submission_id)
    cursor = await desk.ledger.newest_cursor()
    with pytest.raises(IllegalTransition) as told:
        await desk.receive(part("late.txt"), END, submission_id=submission_id)
    assert told.value.extra["kept"] == []
    assert await desk.ledger.newest_cursor() == cursor
    await desk.settled(kept=["a.txt", "b.txt"], aborted=[])


async def test_a_submission_sealed_while_a_body_comes_keeps_what_had_begun(desk: Desk) -> None:
    submission_id, _ = await desk.intake.open(CALLER)
    body = Body()
    receiving = desk.begin(body, submission_id=submission_id)
    body.send(FIRST, head("second.txt"))
    await body.all_taken()
    await desk.intake.seal(CALLER, submission_id)
    body.send(b"content\r\n", part("third.txt"), END)
    body.end()
    with pytest.raises(IllegalTransition) as told:
        await receiving
    assert told.value.extra["kept"] == ["first.txt", "second.txt"]
    await desk.settled(kept=["first.txt", "second.txt"], aborted=[])


@pytest.mark.parametrize("text", [FIRST + END, FIRST + SECOND[:100], END, b"no multipart"])
async def test_then_seal_seals_when_the_body_ends_however_it_ends(desk: Desk, text: bytes) -> None:
    submission_id, _ = await desk.intake.open(CALLER)
    with contextlib.suppress(DropmillError):
        await desk.receive(text, submission_id=submission_id, then_seal=True)
    assert not (await desk.submission()).is_open


async def test_files_for_a_submission_that_does_not_exist_are_not_found(desk: Desk) -> None:
    for then_seal in (False, True):
        with pytest.raises(NotFound):
            await desk.receive(FIRST, END, submission_id=SubmissionId("0" * 32), then_seal=then_seal)
    assert await desk.stored_on_disk() == set()


async def test_an_announced_submission_is_sealed_once_no_more_files_come(desk: Desk) -> None:
    desk.intake = desk.intake_with(seal_after_s=0.15)
    (empty, _), (filled, _) = await desk.intake.open(CALLER), await desk.intake.open(CALLER)
    running = asyncio.create_task(desk.intake.run())
    await desk.receive(FIRST, END, submission_id=filled)

    async def are_sealed() -> bool:
        page = await desk.ledger.submissions(before=None, limit=9, state="open")
        return not page.items

    await eventually(are_sealed)
    assert {one.id for one in (await desk.ledger.submissions(before=None, limit=9)).items} == {empty, filled}
    running.cancel()
    await asyncio.wait([running])


async def test_a_clock_that_steps_seals_no_submission_early(desk: Desk, wall_clock: WallClock) -> None:
    """A submission that is old enough is sealed all the same."""
    desk.clock = wall_clock.clock
    desk.intake = desk.intake_with(seal_after_s=3600.0)
    await desk.intake.open(CALLER)
    for step_s in (30 * DAY_S, -60 * DAY_S, 45 * DAY_S):
        wall_clock.step(step_s)
        await desk.intake.seal_stale()
        assert (await desk.submission()).is_open
    desk.intake = desk.intake_with(seal_after_s=0.0)
    await asyncio.sleep(0.01)
    wall_clock.step(-wall_clock.ahead_s)
    await desk.intake.seal_stale()
    assert not (await desk.submission()).is_open


async def test_a_ledger_that_is_away_does_not_end_the_sealing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.intake = desk.intake_with(seal_after_s=0.02)
    await desk.intake.open(CALLER)
    with full(monkeypatch, "seal_submission"):
        running = asyncio.create_task(desk.intake.run())
        await asyncio.sleep(0.1)
        assert not running.done()

    async def is_sealed() -> bool:
        return not (await desk.submission()).is_open

    await eventually(is_sealed)
    running.cancel()
    await asyncio.wait([running])


async def cut_off(desk: Desk, place: bytes = b"") -> None:
    """A form whose second file breaks off."""
    with contextlib.suppress(DropmillError):
        await desk.receive(FIRST, head("second.txt"), bytes(2 * WRITE_BYTES), place)


FAULTS = [
    ("unlink",),
    ("abort_upload",),
    ("seal_submission",),
    ("unlink", "abort_upload", "seal_submission"),
    ("abort_upload", "seal_submission", "file"),
]


@pytest.mark.parametrize("methods", FAULTS, ids="+".join)
async def test_clean_up_that_failed_is_done_by_a_sweep(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...]
) -> None:
    with failing(monkeypatch, *methods):
        await cut_off(desk)
        for _ in range(3):  # it may fail as often as it likes
            with contextlib.suppress(Unavailable):
                await desk.intake.sweep()
    submission = await desk.submission()
    assert submission.is_open or submission.counts.receiving or list(desk.blobs.incoming.iterdir())
    assert await desk.intake.sweep() == 0
    await desk.settled(kept=["first.txt"], aborted=["second.txt"])
    assert await desk.intake.sweep() == 0


async def test_a_repeat_begins_anew_once_clean_up_has_made_the_first_one_void(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reservation of an idempotency key is clean-up, too."""
    with failing(monkeypatch, "abort_upload", "seal_submission"), pytest.raises(DropmillError):
        await desk.receive(head("a.txt"), b"half", idempotency_key="key")
    await desk.intake.sweep()
    first = await desk.submission()
    receipt = await desk.receive(part("a.txt"), END, idempotency_key="key")
    assert receipt.submission_id != first.id
    assert receipt.stored == ("a.txt",)


async def test_a_sweep_leaves_alone_what_is_arriving(desk: Desk) -> None:
    """At any moment of a request: between its opening, each file's begin, bytes and end, and its seal."""
    stop = asyncio.Event()

    async def sweep_on() -> None:
        while not stop.is_set():
            await desk.intake.sweep()

    sweeping = [asyncio.create_task(sweep_on()) for _ in range(2)]
    try:
        for _ in range(8):
            body = Body()
            receiving = desk.begin(body)
            for name in ("one", "two", "three"):
                body.send(head(name))
                await body.all_taken()
                await asyncio.sleep(0.01)
                body.send(bytes(WRITE_BYTES), bytes(WRITE_BYTES), b"\r\n")
                await body.all_taken()
            body.send(END)
            body.end()
            assert (await receiving).stored == ("one", "two", "three")
    finally:
        stop.set()
        await asyncio.gather(*sweeping)


async def test_a_form_that_fills_an_announced_file_is_left_alone_though_a_repeat_failed(desk: Desk) -> None:
    counter = Counter(desk)
    submission_id, _ = await desk.intake.open(CALLER)
    (upload,) = await counter.uploads.announce(CALLER, submission_id, [{"name": "a.txt", "size": 3}])
    field = f'--B\r\nContent-Disposition: form-data; name="file:{upload.file_id}"; filename="a.txt"\r\n\r\n'.encode()
    body = Body()
    receiving = desk.begin(body, submission_id=submission_id)
    body.send(field + b"a")
    await body.all_taken()
    repeat = Body()
    repeating = desk.begin(repeat, submission_id=submission_id)
    repeat.send(field + b"ab")
    await repeat.all_taken()

    async def is_begun() -> bool:
        return (await desk.ledger.upload(upload.file_id)).state is UploadState.RECEIVING

    await eventually(is_begun)  # a repeat that was whole before would fill the file itself, and rightly
    repeat.send(b"c\r\n", END)
    repeat.end()
    with contextlib.suppress(DropmillError):
        await repeating
    await desk.intake.sweep()
    assert await is_begun()
    body.send(b"bc\r\n", END)
    body.end()
    assert (await receiving).stored == ("a.txt",)


@pytest.mark.parametrize(("method", "size"), [("store_files", 9), ("store_upload", SMALL_BYTES + 1)])
async def test_bytes_that_the_ledger_may_have_recorded_stay_until_it_can_be_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, method: str, size: int
) -> None:
    """The answer to a commit was lost and the ledger is away: deleted bytes could be those of a stored file."""
    store = getattr(SqliteLedger, method)

    async def store_and_fail(*arguments: Any, **named: Any) -> None:
        await store(*arguments, **named)
        raise Unavailable("The connection to the ledger was lost.")

    with failing(monkeypatch, "file"):
        monkeypatch.setattr(SqliteLedger, method, store_and_fail)
        with pytest.raises(Unavailable):
            await desk.receive(part("first.txt", bytes(size)), END)
        assert await desk.intake.sweep() == 1
        assert len(await desk.stored_on_disk()) == 1
    assert await desk.intake.sweep() == 0
    await desk.settled(kept=["first.txt"], aborted=[])  # its job is in the queue as well


async def test_notes_for_the_next_sweep_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "NOTED_MAX", 2)
    monkeypatch.setattr(submissions, "NOTED_MAX", 2)
    with failing(monkeypatch, "seal_submission", "store_upload", "file", "abort_upload"):
        for _ in range(4):
            with pytest.raises(Unavailable):
                await desk.receive(part("first.txt", bytes(SMALL_BYTES + 1)), END)
    assert desk.intake._arrivals.in_doubt == len(desk.intake._to_seal) == 2
    await desk.intake.sweep()
    assert not desk.intake._arrivals.file_ids
    assert not desk.intake._filling
    for submission in (await desk.ledger.submissions(before=None, limit=10)).items:
        assert not submission.is_open
        assert submission.counts.aborted == 1
