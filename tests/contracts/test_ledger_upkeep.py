"""What every ledger promises about trying again, about what is kept, and about the webhook's deliveries."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.clocks import WallClock
from tests.support.scenarios import CANCELLED, FAILED, SUCCEEDED

from dropmill.model.clock import utc_now
from dropmill.model.deliveries import Delivery
from dropmill.model.errors import Removed
from dropmill.model.events import EventName
from dropmill.model.ids import Cursor, JobId, SubmissionId, new_file_id, new_job_id
from dropmill.model.jobs import AttemptOutcome, AttemptState, Claim, Ended, JobError, JobState, RetryPolicy
from dropmill.ports.ledger import Ledger

BUSY = AttemptOutcome(
    state=AttemptState.FAILED, exit_code=75, error=JobError(type="exit_code", message="exited with code 75")
)
POLICY = RetryPolicy(exit_codes=frozenset({75}), times=2, delay_s=60.0)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def sealed(ledger: Ledger, outcome: AttemptOutcome = SUCCEEDED) -> tuple[SubmissionId, JobId]:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.settled(ledger, submission_id, outcome)
    await ledger.seal_submission(submission_id)
    return submission_id, job_id


# --- the retry policy ------------------------------------------------------------------------------------------------


async def test_a_chosen_exit_code_is_followed_by_another_attempt_after_a_delay(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.running(ledger, submission_id)
    before = utc_now()
    assert await ledger.end_attempt(job_id, 1, BUSY, POLICY) == Ended(state=JobState.QUEUED)
    job = await ledger.job(job_id)
    assert job.state is JobState.QUEUED
    assert [attempt.state for attempt in job.attempts] == [AttemptState.FAILED]
    assert job.not_before is not None
    assert 54 <= (job.not_before - before).total_seconds() <= 67
    assert await ledger.next_due() == job.not_before
    assert await scenarios.in_line(ledger) == []
    assert await ledger.claim(Claim()) == []
    failed, queued = (await scenarios.all_events(ledger))[-2:]
    assert (failed.name, failed.data["exit_code"]) == (EventName.ATTEMPT_FAILED, 75)
    assert (queued.name, queued.data) == (EventName.JOB_QUEUED, {"reason": "retry_policy"})
    await scenarios.recount(ledger, submission_id)


async def test_the_delay_doubles_and_the_times_are_counted(ledger: Ledger, wall_clock: WallClock) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.running(ledger, submission_id)
    delays = []
    for number in (1, 2):
        assert await ledger.end_attempt(job_id, number, BUSY, POLICY) == Ended(state=JobState.QUEUED)
        not_before = (await ledger.job(job_id)).not_before
        assert not_before is not None
        delays.append((not_before - utc_now()).total_seconds())
        wall_clock.step((not_before - utc_now()).total_seconds())
        assert (await scenarios.claimed(ledger)).number == number + 1
        assert (await ledger.job(job_id)).not_before is None
        assert await ledger.next_due() is None
    assert delays[1] > 1.5 * delays[0]
    assert await ledger.end_attempt(job_id, 3, BUSY, POLICY) == Ended(state=JobState.FAILED)
    assert (await ledger.job(job_id)).exit_code == 75
    assert (await scenarios.names(ledger))[-1] == "job.settled"

    await ledger.retry_job(job_id)  # someone asked: counted anew
    await scenarios.claimed(ledger)
    assert await ledger.end_attempt(job_id, 4, BUSY, POLICY) == Ended(state=JobState.QUEUED)


@pytest.mark.parametrize(
    "outcome",
    [
        FAILED,
        SUCCEEDED,
        CANCELLED,
        AttemptOutcome(state=AttemptState.CANCELLED, exit_code=75),
        AttemptOutcome(state=AttemptState.FAILED, exit_code=75, error=JobError(type="timed_out", message="timed out")),
    ],
)
async def test_other_ends_are_final(ledger: Ledger, outcome: AttemptOutcome) -> None:
    job_id = await scenarios.running(ledger, await scenarios.opened(ledger))
    assert await ledger.end_attempt(job_id, 1, outcome, POLICY) == Ended(state=JobState(outcome.state))


async def test_a_job_held_back_can_be_cancelled_and_retried_at_once(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.running(ledger, submission_id)
    await ledger.end_attempt(job_id, 1, BUSY, POLICY)
    assert await ledger.request_cancel(job_id) is JobState.CANCELLED
    assert (await ledger.job(job_id)).not_before is None
    assert await ledger.next_due() is None
    await ledger.retry_job(job_id)
    assert (await ledger.job(job_id)).not_before is None
    assert (await scenarios.claimed(ledger)).job_id == job_id


# --- what is kept ----------------------------------------------------------------------------------------------------


async def oldest(ledger: Ledger, *, keep_bytes: int | None = None, age_s: float | None = None) -> list[SubmissionId]:
    before = None if age_s is None else utc_now() - timedelta(seconds=age_s)
    return [found for found, _ in await ledger.removable(before=before, keep_bytes=keep_bytes, limit=100)]


async def remove(ledger: Ledger, submission_id: SubmissionId) -> bool:
    settled_at = (await ledger.view_submission(submission_id, limit=1)).submission.settled_at
    return settled_at is not None and await ledger.begin_removal(submission_id, settled_at)


async def test_what_settled_long_enough_ago_may_go(ledger: Ledger) -> None:
    first, _ = await sealed(ledger)
    await asyncio.sleep(0.002)  # settled at a millisecond of its own
    second, _ = await sealed(ledger)
    await sealed(ledger)
    assert (await oldest(ledger, age_s=-1))[:2] == [first, second]
    assert await oldest(ledger, age_s=3600) == []
    assert await oldest(ledger) == []


async def test_the_oldest_go_until_no_more_is_kept_than_may(ledger: Ledger) -> None:
    sealed_ones = []
    for _ in range(4):  # each: a file of 8 bytes, an output of 7
        sealed_ones.append((await sealed(ledger))[0])
        await asyncio.sleep(0.002)
    assert await oldest(ledger, keep_bytes=60) == []
    assert await oldest(ledger, keep_bytes=59) == sealed_ones[:1]
    assert await oldest(ledger, keep_bytes=31) == sealed_ones[:2]
    assert await oldest(ledger, keep_bytes=0) == sealed_ones
    assert await remove(ledger, sealed_ones[0])
    assert await oldest(ledger, keep_bytes=45) == []
    assert await oldest(ledger, keep_bytes=44) == sealed_ones[1:2]


async def test_what_is_in_use_stays(ledger: Ledger) -> None:
    """Open, queued, running, or asked for again: none is offered, and none can be marked."""
    still_open = await scenarios.opened(ledger)
    await scenarios.settled(ledger, still_open)
    running = await scenarios.opened(ledger)
    await scenarios.running(ledger, running)
    await ledger.seal_submission(running)
    asked, job_id = await sealed(ledger, FAILED)
    waiting = await scenarios.opened(ledger)
    await scenarios.queued(ledger, waiting)
    await ledger.seal_submission(waiting)
    settled_at = (await ledger.view_submission(asked, limit=1)).submission.settled_at
    assert settled_at is not None
    await ledger.retry_job(job_id)
    assert await oldest(ledger, age_s=-1, keep_bytes=0) == []
    assert not await ledger.begin_removal(asked, settled_at)

    for _ in range(2):
        await scenarios.claimed(ledger)
    await asyncio.sleep(0.002)
    await ledger.end_attempt(job_id, 2, FAILED)
    assert not await ledger.begin_removal(asked, settled_at)  # seen before the retry: it has settled anew since
    assert await remove(ledger, asked)
    assert not await remove(ledger, asked)  # once


async def test_removed_bytes_are_named_until_they_are_gone_and_history_stays(ledger: Ledger) -> None:
    submission_id, job_id = await sealed(ledger, FAILED)
    events = await scenarios.all_events(ledger)
    file_id = (await ledger.job(job_id)).file_id
    stored = (await ledger.file(file_id)).blob
    assert (await ledger.file(file_id)).removed_at is None
    assert await ledger.removals(10) == []
    assert await remove(ledger, submission_id)
    for _ in range(2):  # told again until it is said that they are gone
        (kept,) = await ledger.removals(10)
        assert (kept.submission_id, kept.blobs, kept.attempts) == (submission_id, (stored,), ((job_id, 1),))
    await ledger.end_removal(submission_id)
    assert await ledger.removals(10) == []
    assert (await ledger.file(file_id)).removed_at is not None
    assert (await ledger.job(job_id)).state is JobState.FAILED
    assert await scenarios.all_events(ledger) == events
    await scenarios.recount(ledger, submission_id)


async def test_what_was_removed_cannot_be_retried(ledger: Ledger) -> None:
    submission_id, job_id = await sealed(ledger, FAILED)
    await remove(ledger, submission_id)
    cursor = await ledger.newest_cursor()
    with pytest.raises(Removed, match="send it anew"):
        await ledger.retry_job(job_id)
    with pytest.raises(Removed):
        await ledger.retry_failed(submission_id, after=None, limit=10)
    assert await ledger.newest_cursor() == cursor
    assert (await ledger.view_submission(submission_id, limit=1)).submission.settled_at is not None


async def test_a_retry_and_a_removal_at_the_same_time_do_not_both_win(ledger: Ledger) -> None:
    for _ in range(20):
        submission_id, job_id = await sealed(ledger, FAILED)
        settled_at = (await ledger.view_submission(submission_id, limit=1)).submission.settled_at
        assert settled_at is not None
        retry, removal = await asyncio.gather(
            ledger.retry_job(job_id), ledger.begin_removal(submission_id, settled_at), return_exceptions=True
        )
        assert (retry is None) != (removal is True)
        if retry is None:  # nothing else may be waiting for the next round
            assert await ledger.request_cancel(job_id) is JobState.CANCELLED


# --- events ----------------------------------------------------------------------------------------------------------


async def test_old_events_go_and_cursors_go_on(ledger: Ledger, engine: LedgerEngine) -> None:
    submission_id, _ = await sealed(ledger)
    newest = await ledger.newest_cursor()
    future = utc_now() + timedelta(hours=1)
    assert await ledger.remove_events(before=LONG_AGO, up_to=newest, limit=100) == 0
    assert await ledger.remove_events(before=future, up_to=Cursor(3), limit=2) == 2
    assert await ledger.remove_events(before=future, up_to=Cursor(3), limit=2) == 1
    assert await ledger.remove_events(before=future, up_to=Cursor(3), limit=2) == 0
    page = await ledger.events("all", after=Cursor(0), limit=100)
    assert [event.cursor for event in page.events] == list(range(4, newest + 1))
    while await ledger.remove_events(before=future, up_to=Cursor(newest + 5), limit=100):
        pass
    assert await ledger.newest_cursor() == newest  # the newest stays

    again = await engine.open()
    await again.seal_submission(await scenarios.opened(again))
    page = await again.events("all", after=Cursor(newest), limit=100)
    assert [event.cursor for event in page.events] == [newest + 1, newest + 2, newest + 3]
    assert (await again.view_submission(submission_id, limit=1)).submission.is_settled


async def test_a_reader_behind_the_oldest_event_is_told(ledger: Ledger) -> None:
    old, _ = await sealed(ledger)
    middle = await ledger.newest_cursor()
    new, _ = await sealed(ledger)
    up_to = Cursor(middle - 1)
    await ledger.remove_events(before=utc_now() + timedelta(hours=1), up_to=up_to, limit=100)

    async def is_cut(topic: str, after: int) -> bool:
        return (await ledger.events(topic, after=Cursor(after), limit=100)).is_cut

    assert [await is_cut("all", after) for after in (0, middle - 2, middle - 1, middle + 3)] == [
        True,
        True,
        False,
        False,
    ]
    assert [await is_cut(f"submission:{old}", after) for after in (0, middle - 2, middle - 1)] == [True, True, False]
    assert not await is_cut(f"submission:{new}", 0)  # all of it is there

    async def is_cut_before(topic: str, limit: int) -> bool:
        return (await ledger.events_before(topic, before=Cursor(999), limit=limit)).is_cut

    for topic, is_beginning_gone in (("all", True), (f"submission:{old}", True), (f"submission:{new}", False)):
        assert await is_cut_before(topic, 100) is is_beginning_gone
    assert not await is_cut_before("all", 1)  # there are older ones to read
    assert await is_cut("config", 0)


# --- the webhook -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def telling(engine: LedgerEngine) -> Ledger:
    """A ledger that records deliveries."""
    made = await engine.open(records_deliveries=True)
    await scenarios.save(made)
    return made


async def names_of(ledger: Ledger) -> list[tuple[SubmissionId, int]]:
    return [(delivery.submission_id, delivery.number) for delivery in await ledger.deliveries(10)]


async def test_each_time_a_submission_settles_there_is_a_delivery(telling: Ledger) -> None:
    submission_id, job_id = await sealed(telling, FAILED)
    settled = (await telling.view_submission(submission_id, limit=1)).submission
    (delivery,) = await telling.deliveries(10)
    assert delivery == Delivery(
        submission_id=submission_id,
        number=1,
        settled_at=settled.settled_at or LONG_AGO,
        counts=settled.counts,
        tries=0,
        due_at=delivery.due_at,
    )
    assert delivery.due_at <= utc_now()
    await telling.retry_job(job_id)
    await scenarios.claimed(telling)
    await telling.end_attempt(job_id, 2, SUCCEEDED)
    assert await names_of(telling) == [(submission_id, 1)]  # one after the other
    await telling.end_delivery(submission_id, 1)
    (second,) = await telling.deliveries(10)
    assert (second.number, second.counts.succeeded, second.counts.failed) == (2, 1, 0)
    await telling.end_delivery(submission_id, 2)
    assert await telling.deliveries(10) == []


async def test_what_is_postponed_comes_behind_the_others_and_is_counted(telling: Ledger) -> None:
    first, _ = await sealed(telling)
    second, _ = await sealed(telling)
    later = utc_now() + timedelta(minutes=5)
    await telling.postpone_delivery(first, 1, later)
    assert await names_of(telling) == [(second, 1), (first, 1)]
    assert (await telling.deliveries(10))[1].tries == 1
    assert (await telling.deliveries(10))[1].due_at == later


async def test_without_a_webhook_nothing_is_recorded(ledger: Ledger) -> None:
    await sealed(ledger)
    assert await ledger.deliveries(10) == []


async def test_ids_of_other_things_change_nothing(telling: Ledger) -> None:
    submission_id, _ = await sealed(telling)
    await telling.end_delivery(submission_id, 7)
    await telling.end_delivery(SubmissionId(new_file_id()), 1)
    await telling.postpone_delivery(SubmissionId(new_job_id()), 1, utc_now())
    assert await names_of(telling) == [(submission_id, 1)]
