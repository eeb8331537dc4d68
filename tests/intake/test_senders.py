"""Which files are being sent now: by the requests that bring them, and by nobody once these have ended."""

import asyncio

import pytest
from tests.intake.counter import CONTENT, HALF, Counter, announce
from tests.intake.desk import END, FIRST, Body, Desk, head
from tests.support.scenarios import CALLER, LIVENESS_S
from tests.support.waiting import eventually

from dropmill.engines.local.bus import LocalBus
from dropmill.intake import senders
from dropmill.intake.limits import Gate, UploadLimits
from dropmill.intake.resumable import Uploads
from dropmill.intake.senders import Senders
from dropmill.model.errors import RequestTooSlow, Unavailable
from dropmill.model.ids import FileId, SubmissionId
from dropmill.ports.bus import Subscription, senders_of
from dropmill.ports.ledger.uploads import ResumableUpload

SUBMISSION, FILE = SubmissionId("s"), FileId("f")


@pytest.fixture
def made(bus: LocalBus) -> Senders:
    return Senders(bus)


@pytest.fixture
def notified(bus: LocalBus) -> Subscription:
    """Notifications about the senders of `SUBMISSION`."""
    subscription = bus.subscribe()
    subscription.join(senders_of(SUBMISSION))
    return subscription


async def soon(notified: Subscription) -> None:
    async with asyncio.timeout(LIVENESS_S):
        assert list((await notified.next()).positions) == [senders_of(SUBMISSION)]


async def is_sent(counter: Counter, upload: ResumableUpload) -> bool:
    return upload.file_id in counter.desk.intake.senders.of(upload.submission_id)


# --- counting --------------------------------------------------------------------------------------------------------


async def test_a_file_is_sent_while_one_of_its_requests_is_under_way(made: Senders) -> None:
    one, two = made.sender(FILE), made.sender(FILE)
    assert made.of(SUBMISSION) == set()
    one.begin(SUBMISSION)
    two.begin(SUBMISSION)
    one.end()
    assert made.of(SUBMISSION) == {FILE}
    assert made.of(SubmissionId("another")) == set()
    two.end()
    two.end()  # ended before: does nothing
    made.sender(FILE).end()  # never began
    assert made.of(SUBMISSION) == set()


async def test_between_two_requests_of_its_sender_a_file_is_still_being_sent(
    made: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a row would say "broken off" at each chunk."""
    one, two = made.sender(FILE), made.sender(FILE)
    one.begin(SUBMISSION)
    one.goes_on = True
    one.end()
    assert made.of(SUBMISSION) == {FILE}
    two.begin(SUBMISSION)
    two.end()  # cut off: nothing is expected any more
    assert made.of(SUBMISSION) == set()
    monkeypatch.setattr(senders, "BETWEEN_REQUESTS_S", 0.0)
    last = made.sender(FILE)
    last.begin(SUBMISSION)
    last.goes_on = True
    last.end()

    async def is_over() -> bool:
        return made.of(SUBMISSION) == set()

    await eventually(is_over)


async def test_a_request_that_comes_in_time_is_not_ended_by_the_one_before(
    made: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "BETWEEN_REQUESTS_S", 0.01)
    for _ in range(2):
        sender = made.sender(FILE)
        sender.begin(SUBMISSION)
        sender.goes_on = True
        sender.end()
    sender.begin(SUBMISSION)
    await asyncio.sleep(0.05)
    assert made.of(SUBMISSION) == {FILE}


async def test_followers_are_notified_of_a_change_and_once_of_many(
    made: Senders, notified: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "PUBLISH_EVERY_S", 0.01)
    for number in range(1000):
        sender = made.sender(FileId(f"{number}"))
        sender.begin(SUBMISSION)
        sender.end()
    await soon(notified)
    waiting = asyncio.create_task(notified.next())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    made.sender(FILE).begin(SUBMISSION)
    async with asyncio.timeout(LIVENESS_S):
        await waiting


# --- by requests -----------------------------------------------------------------------------------------------------


async def test_an_upload_is_sent_until_its_client_leaves(counter: Counter) -> None:
    upload, body = await counter.create(), Body()
    assert not await is_sent(counter, upload)
    appending = counter.begin(upload, 0, body)
    body.send(CONTENT[:HALF])
    await body.all_taken()
    assert await is_sent(counter, upload)
    appending.cancel()
    await asyncio.wait([appending])

    async def is_noticed() -> bool:
        return not await is_sent(counter, upload)

    await eventually(is_noticed)
    assert await counter.offset(upload) == HALF


async def test_an_upload_whose_connection_died_silently_is_sent_until_the_idle_limit(desk: Desk) -> None:
    counter = Counter(desk, idle_timeout_s=0.05)
    upload, body = await counter.create(), Body()
    body.send(CONTENT[:HALF])
    with pytest.raises(RequestTooSlow):
        await counter.begin(upload, 0, body)
    assert not await is_sent(counter, upload)
    await counter.uploads.drain()


async def test_an_upload_that_another_request_takes_over_is_sent_by_that_one(counter: Counter) -> None:
    upload, dead, living = await counter.create(), Body(), Body()
    first = counter.begin(upload, 0, dead)
    dead.send(CONTENT[:HALF])
    await dead.all_taken()
    second = counter.begin(upload, HALF, living)
    with pytest.raises(Unavailable):
        await first
    living.send(CONTENT[HALF:-1])
    await living.all_taken()
    assert await is_sent(counter, upload)
    second.cancel()
    await asyncio.wait([second])

    async def is_noticed() -> bool:
        return not await is_sent(counter, upload)

    await eventually(is_noticed)


async def test_a_request_for_the_offset_ends_the_sending(counter: Counter) -> None:
    upload, dead = await counter.create(), Body()
    first = counter.begin(upload, 0, dead)
    dead.send(CONTENT[:HALF])
    await dead.all_taken()
    assert await counter.offset(upload) == HALF
    with pytest.raises(Unavailable):
        await first
    assert not await is_sent(counter, upload)


async def test_after_a_chunk_the_next_one_is_awaited_and_after_the_last_none(counter: Counter) -> None:
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:HALF])
    assert await is_sent(counter, upload)
    await counter.append(upload, HALF, CONTENT[HALF:])
    assert not await is_sent(counter, upload)
    await counter.require_stored(upload)


async def test_a_new_process_knows_of_no_sender(counter: Counter, bus: LocalBus) -> None:
    upload, body = await counter.create(), Body()
    counter.begin(upload, 0, body)
    body.send(CONTENT[:HALF])
    await body.all_taken()
    desk = Desk(counter.desk.ledger, counter.desk.blobs, bus)
    restarted = Uploads(
        ledger=desk.ledger,
        blobs=desk.blobs,
        bus=bus,
        intake=desk.intake,
        gate=Gate(UploadLimits(idle_timeout_s=LIVENESS_S, min_free=0), desk.blobs),
        expiry_s=86400.0,
        clock=desk.clock,
        health=desk.health,
    )
    await restarted.recover()
    assert desk.intake.senders.of(upload.submission_id) == set()


async def test_a_file_of_a_form_is_sent_while_its_part_is_read(desk: Desk) -> None:
    submission_id, _ = await desk.intake.open(CALLER)
    body = Body()
    receiving = desk.begin(body, submission_id=submission_id)
    body.send(FIRST, head("second.txt"), b"some of it")
    await body.all_taken()

    async def has_come_so_far() -> bool:
        counts = (await desk.submission()).counts
        return (counts.queued, counts.receiving) == (1, 1)

    await eventually(has_come_so_far)
    second = (await desk.files())["second.txt"]
    assert desk.intake.senders.of(submission_id) == {second.id}
    receiving.cancel()
    await asyncio.wait([receiving])
    await desk.settled(kept=["first.txt"], aborted=["second.txt"], is_open=True)
    assert desk.intake.senders.of(submission_id) == set()


async def test_an_announced_file_that_two_forms_bring_is_sent_until_both_have_ended(counter: Counter) -> None:
    submission_id, [upload] = await announce(counter, {"name": "first.txt", "size": 8})
    begins = head("first.txt").replace(b'name="f"', f'name="file:{upload.file_id}"'.encode())
    one, two = Body(), Body()
    first = counter.desk.begin(one, submission_id=submission_id)
    second = counter.desk.begin(two, submission_id=submission_id)
    for body in (one, two):
        body.send(begins, b"cont")
        await asyncio.sleep(0)

    async def are_sent() -> bool:
        return await is_sent(counter, upload)

    await eventually(are_sent)
    for body in (one, two):
        body.send(b"ent\n\r\n", END)
        body.end()
    await asyncio.wait([first, second])
    assert not await is_sent(counter, upload)
