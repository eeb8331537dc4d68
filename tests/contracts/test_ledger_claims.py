"""What every ledger promises about who works on what: claims and turns, ends, wishes to cancel, nodes, fences."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import update
from tests.contracts.announced import TOMORROW, announced, opened
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.clocks import WallClock
from tests.support.scenarios import CANCELLED, FAILED, SUCCEEDED, blob, in_line

from dropmill.engines.sql import claim as claim_module
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sql.tables import jobs
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.by import By
from dropmill.model.clock import utc_now
from dropmill.model.errors import IllegalTransition, NotFound, UploadTaken
from dropmill.model.events import EventName
from dropmill.model.ids import OPEN, Cursor, JobId, SubmissionId, new_job_id, new_submission_id
from dropmill.model.jobs import (
    AttemptOutcome,
    AttemptSpec,
    AttemptState,
    Claim,
    Ended,
    JobError,
    JobState,
    RetryPolicy,
)
from dropmill.model.results import Result
from dropmill.model.submissions import Counts
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.ledger import Ledger

BUSY = AttemptOutcome(
    state=AttemptState.FAILED, exit_code=75, error=JobError(type="exit_code", message="exited with code 75")
)
POLICY = RetryPolicy(exit_codes=frozenset({75}), times=2, delay_s=60.0)
EVERYTHING = 100_000


async def fill(ledger: Ledger, submission_id: SubmissionId, count: int) -> Sequence[JobId]:
    """Jobs of a submission, queued in this order."""
    return await asyncio.gather(*(scenarios.queued(ledger, submission_id) for _ in range(count)))


async def drained(ledger: Ledger) -> Sequence[JobId]:
    """Every job in line, in the order in which they are claimed one by one."""
    found: list[JobId] = []
    while orders := await ledger.claim(Claim()):
        found.extend(order.job_id for order in orders)
    return found


async def put_into(ledger: SqlLedger, queue: str, job_id: JobId) -> None:
    """Have a job wait in a queue of its own; that is for nobody to order yet."""

    def change(tx: Transaction) -> None:
        tx.turns.leave(None, OPEN)
        tx.connection.execute(update(jobs).where(jobs.c.id == job_id).values(queue=queue))
        tx.turns.join(queue, OPEN, 1, tx.cursor)

    await ledger._change(change)


# --- turns and places ------------------------------------------------------------------------------------------------


async def test_submissions_take_turns(ledger: Ledger) -> None:
    one, two, three = [await scenarios.opened(ledger) for _ in range(3)]
    a, b, c = await fill(ledger, one, 3), await fill(ledger, two, 1), await fill(ledger, three, 2)
    wanted = [a[0], b[0], c[0], a[1], c[1], a[2]]
    assert await in_line(ledger) == wanted
    assert await drained(ledger) == wanted


async def test_a_thousand_files_do_not_starve_one_of_another(ledger: Ledger) -> None:
    many = await scenarios.opened(ledger)
    await fill(ledger, many, 1000)
    await scenarios.claimed(ledger)
    lone = await scenarios.queued(ledger, await scenarios.opened(ledger))
    assert await ledger.places([lone]) == {lone: 2}
    assert lone in [order.job_id for order in await ledger.claim(Claim(most=2))]


async def test_a_submission_alone_has_exact_places(ledger: Ledger) -> None:
    waiting = await fill(ledger, await scenarios.opened(ledger), 50)
    await ledger.claim(Claim(most=10))
    places = await ledger.places([waiting[n] for n in (9, 10, 11, 49)])
    assert places == {waiting[10]: 1, waiting[11]: 2, waiting[49]: 40}


async def test_a_job_that_is_cancelled_leaves_the_line_and_those_behind_it_move_up(ledger: Ledger) -> None:
    waiting = await fill(ledger, await scenarios.opened(ledger), 3)
    other = await scenarios.queued(ledger, await scenarios.opened(ledger))
    for job_id in (waiting[1], other):
        await ledger.request_cancel(job_id)
    assert await ledger.places([*waiting, other]) == {waiting[0]: 1, waiting[2]: 2}
    assert await drained(ledger) == [waiting[0], waiting[2]]


async def test_jobs_that_were_cancelled_do_not_hold_back_the_one_that_is_tried_again(ledger: Ledger) -> None:
    """As if they stood in front of it still."""
    submission_id = await scenarios.opened(ledger)
    first, *_ = await fill(ledger, submission_id, 100)
    await ledger.request_cancels(submission_id, after=None, limit=EVERYTHING)
    others = [await scenarios.opened(ledger) for _ in range(2)]
    await fill(ledger, others[0], 10)
    await ledger.retry_job(first)
    await fill(ledger, others[1], 10)
    assert (await in_line(ledger))[1] == first


async def test_behind_the_last_place_that_is_told_a_job_just_waits(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "PLACES_MAX", 3)
    waiting = await fill(ledger, await scenarios.opened(ledger), 6)
    assert await ledger.places(waiting) == {waiting[0]: 1, waiting[1]: 2, waiting[2]: 3}
    assert await ledger.places(waiting[2:]) == {waiting[2]: 3}
    assert await ledger.places(waiting[4:]) == {}
    assert await ledger.places([]) == {}
    assert await ledger.places([new_job_id()]) == {}


async def test_whatever_comes_and_goes_each_is_claimed_once_and_turns_are_fair(ledger: Ledger) -> None:
    """Places tell the order in which claims take; nobody waits for more than one turn of each other submission."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    submissions = [await scenarios.opened(ledger) for _ in range(5)]
    owner: dict[JobId, SubmissionId] = {}
    waiting: list[JobId] = []
    gone: Counter[JobId] = Counter()
    for _ in range(60):
        match chance.randrange(4):
            case 0 | 1:
                submission_id = chance.choice(submissions)
                for job_id in await fill(ledger, submission_id, chance.choice([1, 1, 2, 20])):
                    owner[job_id] = submission_id
                    waiting.append(job_id)
            case 2:
                for order in await ledger.claim(Claim(most=chance.randint(1, 4))):
                    waiting.remove(order.job_id)
                    gone[order.job_id] += 1
            case _ if waiting:
                job_id = chance.choice(waiting)
                await ledger.request_cancel(job_id)
                waiting.remove(job_id)
                gone[job_id] += 1
        assert set(await in_line(ledger)) == set(waiting)
    order_of_all = await in_line(ledger)
    assert await drained(ledger) == order_of_all
    gone.update(order_of_all)
    assert set(gone) == set(owner)
    assert set(gone.values()) <= {1}
    for submission_id in submissions:  # its own, first come first served
        own = [job_id for job_id in order_of_all if owner[job_id] == submission_id]
        assert own == [job_id for job_id in waiting if owner[job_id] == submission_id]


async def test_two_that_wait_side_by_side_are_never_two_turns_apart(ledger: Ledger) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    submissions = [await scenarios.opened(ledger) for _ in range(4)]
    left = Counter({submission_id: chance.choice([1, 3, 10, 30]) for submission_id in submissions})
    for submission_id, count in left.items():
        await fill(ledger, submission_id, count)
    taken: Counter[SubmissionId] = Counter()
    while orders := await ledger.claim(Claim()):
        taken[orders[0].submission_id] += 1
        still = [taken[submission_id] for submission_id in submissions if taken[submission_id] < left[submission_id]]
        assert not still or max(taken.values()) - min(still) <= 1
    assert taken == left


# --- claims ----------------------------------------------------------------------------------------------------------


async def test_a_claim_asked_again_gets_what_it_got(ledger: Ledger) -> None:
    """Its answer may have been lost."""
    await fill(ledger, await scenarios.opened(ledger), 5)
    claim = Claim(most=2)
    first = await ledger.claim(claim)
    cursor = await ledger.newest_cursor()
    again = await ledger.claim(claim)
    assert sorted(again, key=lambda order: order.job_id) == sorted(first, key=lambda order: order.job_id)
    assert await ledger.newest_cursor() == cursor
    assert len({order.job_id for order in (*first, *await ledger.claim(Claim(most=2)))}) == 4


async def test_a_claim_that_found_nothing_may_find_something_when_it_is_asked_again(ledger: Ledger) -> None:
    claim = Claim()
    assert await ledger.claim(claim) == []
    job_id = await scenarios.queued(ledger, await scenarios.opened(ledger))
    assert [order.job_id for order in await ledger.claim(claim)] == [job_id]


async def test_an_empty_claim_changes_nothing(ledger: Ledger) -> None:
    cursor = await ledger.newest_cursor()
    assert await ledger.claim(Claim(most=9, queues=(None, "gpu"))) == []
    assert await ledger.newest_cursor() == cursor


async def test_a_claim_takes_from_its_queues_in_their_order_and_from_no_other(ledger: SqlLedger) -> None:
    plain, gpu, big = await fill(ledger, await scenarios.opened(ledger), 3)
    await put_into(ledger, "gpu", gpu)
    await put_into(ledger, "big", big)
    assert await ledger.places([plain, gpu, big]) == {plain: 1, gpu: 1, big: 1}
    assert [order.job_id for order in await ledger.claim(Claim(queues=("big", "gpu"), most=9))] == [big, gpu]
    assert await ledger.claim(Claim(queues=("big", "gpu"), most=9)) == []
    assert [order.job_id for order in await ledger.claim(Claim(most=9))] == [plain]


async def test_two_nodes_claim_at_once_and_nothing_runs_twice(ledger: Ledger, engine: LedgerEngine) -> None:
    await fill(ledger, await scenarios.opened(ledger), 120)
    nodes = [await engine.open(lock="one"), await engine.open(lock="other")]

    async def work(node: SqlLedger) -> list[AttemptSpec]:
        mine: list[AttemptSpec] = []
        claim: Claim | None = Claim(most=3)
        while claim is not None and (orders := await node.claim(claim)):
            mine.extend(orders)
            for order in orders:
                assert await node.end_attempt(order.job_id, order.number, SUCCEEDED) == Ended(state=JobState.SUCCEEDED)
            claim = Claim(most=3)
        return mine

    ran = await asyncio.gather(*(work(node) for node in nodes for _ in range(3)))
    assert len({order.job_id for orders in ran for order in orders}) == sum(map(len, ran)) == 120
    told = await scenarios.all_events(ledger)
    assert sum(event.name is EventName.ATTEMPT_STARTED for event in told) == 120


async def test_an_attempt_names_the_host_of_the_node_that_claimed_it(ledger: Ledger) -> None:
    job_id = await scenarios.queued(ledger, await scenarios.opened(ledger))
    await ledger.enter(scenarios.node(host="there"))
    await scenarios.claimed(ledger)
    assert [attempt.host for attempt in (await ledger.job(job_id)).attempts] == ["there"]
    assert (await scenarios.all_events(ledger))[-1].data["host"] == "there"


# --- jobs that wait for their time -----------------------------------------------------------------------------------


async def test_a_job_comes_into_line_when_its_time_has_come_and_not_before(
    ledger: Ledger, wall_clock: WallClock
) -> None:
    late = await scenarios.running(ledger, await scenarios.opened(ledger))
    assert await ledger.end_attempt(late, 1, BUSY, POLICY) == Ended(state=JobState.QUEUED)
    due = await ledger.next_due()
    assert due is not None
    assert due == (await ledger.job(late)).not_before
    assert await ledger.places([late]) == {}
    other = await scenarios.queued(ledger, await scenarios.opened(ledger))
    assert (await scenarios.claimed(ledger)).job_id == other
    assert await ledger.claim(Claim()) == []
    wall_clock.step((due - utc_now()).total_seconds() + 0.001)
    assert (await scenarios.claimed(ledger)).job_id == late
    assert await ledger.next_due() is None


async def test_of_very_many_whose_time_has_come_none_is_forgotten(ledger: Ledger, wall_clock: WallClock) -> None:
    submission_id = await scenarios.opened(ledger)
    late = [await scenarios.running(ledger, submission_id) for _ in range(120)]
    await asyncio.gather(*(ledger.end_attempt(job_id, 1, BUSY, POLICY) for job_id in late))
    wall_clock.step(3600)
    assert set(await drained(ledger)) == set(late)


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_an_end_and_the_next_claim_are_one_change(ledger: Ledger) -> None:
    first, second = await fill(ledger, await scenarios.opened(ledger), 2)
    await scenarios.claimed(ledger)
    ended = await ledger.end_attempt(first, 1, SUCCEEDED, then_claim=Claim())
    assert ended is not None
    assert (ended.state, [order.job_id for order in ended.orders]) == (JobState.SUCCEEDED, [second])
    told = [event.name for event in await scenarios.all_events(ledger)]
    assert told[-3:] == [EventName.ATTEMPT_SUCCEEDED, EventName.JOB_SETTLED, EventName.ATTEMPT_STARTED]


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, CANCELLED])
async def test_an_end_asked_again_answers_what_was_recorded_and_changes_nothing(
    ledger: Ledger, outcome: AttemptOutcome
) -> None:
    results = tuple(Result(path="a", size=8, sha256=blob().sha256, blob=blob().key) for _ in range(1))
    outcome = replace(outcome, results=results)
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.running(ledger, submission_id)
    next_id = await scenarios.queued(ledger, submission_id)
    claim = Claim()
    first = await ledger.end_attempt(job_id, 1, outcome, then_claim=claim)
    cursor = await ledger.newest_cursor()
    assert await ledger.end_attempt(job_id, 1, outcome, then_claim=claim) == first
    assert first is not None
    assert (first.state, [order.job_id for order in first.orders]) == (JobState(outcome.state), [next_id])
    assert await ledger.newest_cursor() == cursor
    assert (await ledger.job(job_id)).results == results
    assert results[0].blob in await ledger.needed_blobs([results[0].blob])
    if outcome.state is not AttemptState.FAILED:
        await ledger.retry_job(job_id)  # what became of it since is another matter
        assert await ledger.end_attempt(job_id, 1, outcome) == Ended(state=first.state)


async def test_an_end_that_was_followed_by_another_attempt_says_so_when_asked_again(
    ledger: Ledger, wall_clock: WallClock
) -> None:
    job_id = await scenarios.running(ledger, await scenarios.opened(ledger))
    for _ in range(2):
        assert await ledger.end_attempt(job_id, 1, BUSY, POLICY) == Ended(state=JobState.QUEUED)
    wall_clock.step(3600)
    assert (await scenarios.claimed(ledger)).number == 2
    assert await ledger.end_attempt(job_id, 1, BUSY, POLICY) == Ended(state=JobState.QUEUED)
    assert (await ledger.job(job_id)).state is JobState.RUNNING
    assert await ledger.end_attempt(job_id, 2, FAILED, POLICY) == Ended(state=JobState.FAILED)
    assert await ledger.end_attempt(job_id, 2, FAILED, POLICY) == Ended(state=JobState.FAILED)


async def test_an_end_is_refused_with_the_claim_if_the_attempt_was_lost_or_is_not_this_node_s(
    ledger: Ledger, engine: LedgerEngine
) -> None:
    submission_id = await scenarios.opened(ledger)
    lost, ended = await scenarios.running(ledger, submission_id), await scenarios.running(ledger, submission_id)
    assert await ledger.end_attempt(ended, 1, SUCCEEDED)
    waiting = await scenarios.queued(ledger, submission_id)
    await ledger.lose_attempt(lost, 1, 5)
    assert await ledger.end_attempt(lost, 1, SUCCEEDED, then_claim=Claim()) is None
    assert await ledger.end_attempt(lost, 2, SUCCEEDED, then_claim=Claim()) is None  # not begun yet
    other = await engine.open(lock="another")
    assert await other.end_attempt(ended, 1, SUCCEEDED, then_claim=Claim()) is None
    assert await in_line(ledger) == [waiting, lost]


async def test_another_node_does_not_end_what_runs(ledger: Ledger, engine: LedgerEngine) -> None:
    job_id = await scenarios.running(ledger, await scenarios.opened(ledger))
    other = await engine.open(lock="another")
    assert await other.end_attempt(job_id, 1, FAILED) is None
    assert (await ledger.job(job_id)).state is JobState.RUNNING
    assert await ledger.end_attempt(job_id, 1, SUCCEEDED) == Ended(state=JobState.SUCCEEDED)


# --- cancelling ------------------------------------------------------------------------------------------------------


async def test_a_cancel_is_done_recorded_or_refused(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    running, settled = await scenarios.running(ledger, submission_id), await scenarios.settled(ledger, submission_id)
    waiting = await scenarios.queued(ledger, submission_id)
    assert await ledger.request_cancel(waiting) is JobState.CANCELLED
    assert await ledger.cancels_asked() == []
    for _ in range(2):
        assert await ledger.request_cancel(running) is JobState.RUNNING
        assert await ledger.cancels_asked() == [(running, 1)]
    for final in (settled, waiting):
        with pytest.raises(IllegalTransition, match="settled already"):
            await ledger.request_cancel(final)
    assert await ledger.end_attempt(running, 1, CANCELLED) == Ended(state=JobState.CANCELLED)
    assert await ledger.cancels_asked() == []
    assert await scenarios.recount(ledger, submission_id) == Counts(cancelled=2, succeeded=1)


async def test_a_cancel_that_another_process_ordered_is_seen_by_the_node_that_runs_it(
    ledger: Ledger, engine: LedgerEngine
) -> None:
    mine = await scenarios.running(ledger, await scenarios.opened(ledger))
    other = await engine.open(lock="another")
    theirs = await scenarios.running(other, await scenarios.opened(other))
    assert await other.request_cancel(mine) is JobState.RUNNING
    assert await ledger.request_cancel(theirs) is JobState.RUNNING
    assert await ledger.cancels_asked() == [(mine, 1)]
    assert await other.cancels_asked() == [(theirs, 1)]


async def test_a_job_to_be_cancelled_is_not_tried_again(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    failing, vanishing = [await scenarios.running(ledger, submission_id) for _ in range(2)]
    for job_id in (failing, vanishing):
        await ledger.request_cancel(job_id)
    assert await ledger.end_attempt(failing, 1, BUSY, POLICY) == Ended(state=JobState.FAILED)
    assert await ledger.lose_attempt(vanishing, 1, 5) is JobState.CANCELLED
    assert (await ledger.job(vanishing)).error is None
    assert await ledger.claim(Claim()) == []
    assert await ledger.next_due() is None


async def test_a_retry_knows_nothing_of_an_earlier_cancel(ledger: Ledger) -> None:
    job_id = await scenarios.running(ledger, await scenarios.opened(ledger))
    await ledger.request_cancel(job_id)
    await ledger.end_attempt(job_id, 1, SUCCEEDED)  # it was faster
    await ledger.retry_job(job_id)
    assert (await scenarios.claimed(ledger)).number == 2
    assert await ledger.cancels_asked() == []
    assert await ledger.end_attempt(job_id, 2, BUSY, POLICY) == Ended(state=JobState.QUEUED)


async def test_all_of_a_submission_is_cancelled_page_by_page_whatever_its_jobs_become_meanwhile(
    ledger: Ledger,
) -> None:
    """A running one that fails behind the page is not put back in line, and one that is claimed ahead of it is seen."""
    submission_id = await scenarios.opened(ledger)
    running = await scenarios.running(ledger, submission_id)
    waiting = await fill(ledger, submission_id, 3)
    elsewhere = await scenarios.queued(ledger, await scenarios.opened(ledger))
    page = await ledger.request_cancels(submission_id, after=None, limit=2)
    assert (page.items, page.next is None) == ([running], False)
    assert await ledger.end_attempt(running, 1, BUSY, POLICY) == Ended(state=JobState.FAILED)
    orders = await ledger.claim(Claim(most=9))
    assert {order.job_id for order in orders} == {waiting[1], waiting[2], elsewhere}
    page = await ledger.request_cancels(submission_id, after=page.next, limit=2)
    assert (page.items, page.next) == (list(waiting[1:]), None)
    assert sorted(await ledger.cancels_asked()) == sorted((job_id, 1) for job_id in waiting[1:])
    with pytest.raises(NotFound):
        await ledger.request_cancels(new_submission_id(), after=None, limit=2)


async def test_who_asks_to_cancel_and_to_retry_is_recorded_once_for_all_jobs_of_a_change(ledger: Ledger) -> None:
    """As the sender's they would say nothing about who did it; the sender follows the submission and hears of it."""
    olga = By(account="olga", client=replace(scenarios.CLIENT, ip="198.51.100.7"))
    submission_id = await scenarios.opened(ledger)
    running = await scenarios.running(ledger, submission_id)
    await fill(ledger, submission_id, 2)
    for _ in range(2):  # asking for the same again is no news
        await ledger.request_cancels(submission_id, after=None, limit=9, by=olga)
        await ledger.request_cancel(running, by=olga)
    await ledger.end_attempt(running, 1, CANCELLED)
    await ledger.retry_failed(submission_id, after=None, limit=9, by=olga)
    await ledger.retry_failed(submission_id, after=None, limit=9, by=olga)
    requested = (EventName.JOB_CANCEL_REQUESTED, EventName.JOB_RETRY_REQUESTED)
    page = await ledger.events(f"submission:{submission_id}", after=Cursor(0), limit=100)
    found = [event for event in page.events if event.name in requested]
    assert [(event.name, event.data["count"]) for event in found] == [(name, 3) for name in requested]
    assert {(event.subject.account, event.subject.client) for event in found} == {(olga.account, olga.client)}
    audit = await ledger.events("audit", after=Cursor(0), limit=100)
    assert [event for event in audit.events if event.subject.submission_id == submission_id] == found
    settled = next(event for event in page.events if event.name is EventName.JOB_SETTLED)
    assert settled.subject.client != olga.client


# --- nodes -----------------------------------------------------------------------------------------------------------


async def test_a_start_settles_only_what_was_under_the_lock_that_it_holds_now(
    ledger: Ledger, engine: LedgerEngine
) -> None:
    """Attempts, uploads and submissions of a node with another lock may be alive."""
    other = await engine.open(lock="another")
    theirs, mine = await scenarios.opened(other), await scenarios.opened(ledger)
    their_job, my_job = await scenarios.running(other, theirs), await scenarios.running(ledger, mine)
    their_file, my_file = await scenarios.receiving(other, theirs), await scenarios.receiving(ledger, mine)

    after = await engine.open()
    recovery = await after.recover(5, "the server stopped")

    assert [attempt.job_id for attempt in recovery.lost] == [my_job]
    assert (recovery.aborted, recovery.sealed) == (1, 1)
    assert (await after.job(their_job)).state is JobState.RUNNING
    assert (await after.file(their_file)).state is UploadState.RECEIVING
    assert (await after.file(my_file)).state is UploadState.ABORTED
    assert (await after.view_submission(theirs, limit=1)).submission.is_open
    await other.store_upload(their_file, blob(), new_job_id())
    assert await other.end_attempt(their_job, 1, SUCCEEDED) == Ended(state=JobState.SUCCEEDED)
    assert (await (await engine.open(lock="another")).recover(5, "later")).sealed == 1


async def test_what_goes_on_after_a_start_is_settled_by_a_later_one(ledger: Ledger, engine: LedgerEngine) -> None:
    """Though the node that opened it is long forgotten."""
    submission_id = await opened(ledger)
    upload = await announced(ledger, submission_id)
    second = await engine.open()
    assert (await second.recover(5, "stopped")).sealed == 0
    fence = await second.take_upload(upload.file_id)
    await second.store_upload(upload.file_id, blob(), new_job_id(), fence=fence)
    third = await engine.open()
    assert (await third.recover(5, "stopped again")).sealed == 1
    assert not (await third.view_submission(submission_id, limit=1)).submission.is_open


async def test_what_requests_to_another_node_bring_is_not_for_this_one_to_clean_up(
    ledger: Ledger, engine: LedgerEngine
) -> None:
    other = await engine.open(lock="another")
    theirs = await scenarios.opened(other)
    their_file = await scenarios.receiving(other, theirs)
    found = await ledger.form_uploads()
    assert (found.files, found.submissions) == (set(), set())
    found = await other.form_uploads()
    assert (found.files, found.submissions) == ({their_file}, {theirs})


# --- fences ----------------------------------------------------------------------------------------------------------


async def test_who_lost_the_turn_at_an_upload_can_neither_extend_nor_store_it(
    ledger: Ledger, engine: LedgerEngine
) -> None:
    upload = await announced(ledger, await opened(ledger))
    old = await ledger.take_upload(upload.file_id)
    await ledger.extend_upload(upload.file_id, size=8, received=3, expires_at=TOMORROW, fence=old)
    other = await engine.open(lock="another")
    new = await other.take_upload(upload.file_id)
    assert new > old
    assert (await ledger.upload(upload.file_id)).fence == new
    for late in (
        ledger.extend_upload(upload.file_id, size=8, received=5, expires_at=TOMORROW, fence=old),
        ledger.store_upload(upload.file_id, blob(), new_job_id(), fence=old),
    ):
        with pytest.raises(UploadTaken):
            await late
    assert (await ledger.upload(upload.file_id)).received == 3
    await other.extend_upload(upload.file_id, size=8, received=4, expires_at=TOMORROW, fence=new)
    assert await ledger.take_upload(upload.file_id) > new
    with pytest.raises(UploadTaken):
        await other.store_upload(upload.file_id, blob(), new_job_id(), fence=new)
    started = [event for event in await scenarios.all_events(ledger) if event.name is EventName.UPLOAD_STARTED]
    assert len(started) == 1


@pytest.mark.parametrize("end", ["stored", "aborted"])
async def test_no_turn_is_taken_at_an_upload_that_has_ended(ledger: Ledger, end: str) -> None:
    upload = await announced(ledger, await opened(ledger))
    fence = await ledger.take_upload(upload.file_id)
    if end == "stored":
        await ledger.store_upload(upload.file_id, blob(), new_job_id(), fence=fence)
    else:
        await ledger.abort_upload(upload.file_id, AbortCause.CUT_OFF, "ended")
    with pytest.raises(IllegalTransition):
        await ledger.take_upload(upload.file_id)
