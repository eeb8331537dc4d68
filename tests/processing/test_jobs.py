"""Cancelling and retrying, with the real ledger."""

import asyncio

import pytest
from tests.support import scenarios
from tests.support.fakes.executor import FakeExecutor
from tests.support.scenarios import CALLER

from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.errors import IllegalTransition, NotFound
from dropmill.model.ids import new_job_id, new_submission_id
from dropmill.model.jobs import Claim, JobState
from dropmill.processing.jobs import JOBS_A_CHANGE, Jobs


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def jobs(ledger: SqliteLedger, executor: FakeExecutor) -> Jobs:
    return Jobs(ledger=ledger, executor=executor)


async def test_a_waiting_job_is_cancelled_at_once(jobs: Jobs, ledger: SqliteLedger, executor: FakeExecutor) -> None:
    job_id = await scenarios.queued(ledger, await scenarios.opened(ledger))
    await jobs.cancel(CALLER, job_id)
    assert (await ledger.job(job_id)).state is JobState.CANCELLED
    assert executor.cancelled == []
    assert await ledger.claim(Claim()) == []


async def test_a_running_job_is_asked_to_end_and_its_attempt_is_the_answer(
    jobs: Jobs, ledger: SqliteLedger, executor: FakeExecutor
) -> None:
    job_id = await scenarios.running(ledger, await scenarios.opened(ledger))
    await jobs.cancel(CALLER, job_id)
    assert executor.cancelled == [job_id]
    assert await ledger.cancels_asked() == [(job_id, 1)]
    assert (await ledger.job(job_id)).state is JobState.RUNNING


async def test_what_cannot_be_cancelled_says_why(jobs: Jobs, ledger: SqliteLedger) -> None:
    submission_id = await scenarios.opened(ledger)
    with pytest.raises(IllegalTransition, match="settled already"):
        await jobs.cancel(CALLER, await scenarios.settled(ledger, submission_id))
    with pytest.raises(NotFound):
        await jobs.cancel(CALLER, new_job_id())


async def test_a_retried_job_is_hinted_at_after_the_ledger_has_it(
    jobs: Jobs, ledger: SqliteLedger, executor: FakeExecutor
) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.settled(ledger, submission_id)
    await jobs.retry(CALLER, job_id)
    assert (await ledger.job(job_id)).state is JobState.QUEUED
    with pytest.raises(IllegalTransition):
        await jobs.retry(CALLER, job_id)
    with pytest.raises(NotFound):
        await jobs.retry(CALLER, new_job_id())
    assert executor.wakes == 1


async def test_all_that_failed_or_was_cancelled_is_queued_again_with_the_newest_config(
    jobs: Jobs, ledger: SqliteLedger, executor: FakeExecutor
) -> None:
    submission_id = await scenarios.opened(ledger)
    wanted = [await scenarios.settled(ledger, submission_id, scenarios.FAILED) for _ in range(2)]
    wanted.append(await scenarios.settled(ledger, submission_id, scenarios.CANCELLED))
    others = [await scenarios.settled(ledger, submission_id), await scenarios.running(ledger, submission_id)]
    elsewhere = await scenarios.settled(ledger, await scenarios.opened(ledger), scenarios.FAILED)
    newest = await scenarios.save(ledger, b"fixed: true\n")

    await jobs.retry_submission(CALLER, submission_id)

    assert executor.wakes == 1
    assert await scenarios.in_line(ledger) == wanted
    for job_id in wanted:
        order = await scenarios.claimed(ledger)
        assert order.job_id == job_id
        assert order.config.sha256 == newest
    assert [(await ledger.job(job_id)).state for job_id in (*others, elsewhere)] == [
        JobState.SUCCEEDED,
        JobState.RUNNING,
        JobState.FAILED,
    ]
    await jobs.retry_submission(CALLER, submission_id)  # nothing left to retry is no error
    assert executor.wakes == 1


async def test_all_that_waits_is_cancelled_and_all_that_runs_asked_to_end(
    jobs: Jobs, ledger: SqliteLedger, executor: FakeExecutor
) -> None:
    submission_id = await scenarios.opened(ledger)
    running = await scenarios.running(ledger, submission_id)
    waiting = [await scenarios.queued(ledger, submission_id) for _ in range(3)]
    elsewhere = await scenarios.queued(ledger, await scenarios.opened(ledger))

    await jobs.cancel_submission(CALLER, submission_id)

    assert executor.cancelled == [running]
    assert await ledger.cancels_asked() == [(running, 1)]
    assert [(await ledger.job(job_id)).state for job_id in waiting] == [JobState.CANCELLED] * 3
    assert await scenarios.in_line(ledger) == [elsewhere]


async def test_more_jobs_than_one_change_holds_are_each_retried_and_cancelled_once(
    jobs: Jobs, ledger: SqliteLedger, executor: FakeExecutor
) -> None:
    submission_id = await scenarios.opened(ledger)
    count = JOBS_A_CHANGE + 1
    wanted = list(await asyncio.gather(*(scenarios.queued(ledger, submission_id) for _ in range(count))))
    await jobs.cancel_submission(CALLER, submission_id)
    assert await scenarios.in_line(ledger) == []
    await jobs.retry_submission(CALLER, submission_id)
    assert sorted(await scenarios.in_line(ledger)) == sorted(wanted)
    counts = await scenarios.recount(ledger, submission_id)
    assert (counts.queued, counts.cancelled) == (count, 0)


async def test_there_must_be_a_submission(jobs: Jobs) -> None:
    with pytest.raises(NotFound):
        await jobs.retry_submission(CALLER, new_submission_id())
    with pytest.raises(NotFound):
        await jobs.cancel_submission(CALLER, new_submission_id())
