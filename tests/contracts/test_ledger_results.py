"""What every ledger promises of results."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.support import scenarios
from tests.support.scenarios import FAILED, SUCCEEDED, all_events

from dropmill.model.errors import NotFound
from dropmill.model.events import RESULTS_TOLD
from dropmill.model.jobs import AttemptOutcome, Ended, JobState
from dropmill.model.results import RESULTS_LISTED, Result
from dropmill.ports.ledger import Ledger


def some(count: int, prefix: str = "r") -> tuple[Result, ...]:
    """Results in the order of their paths."""
    made = []
    for number in range(count):
        blob = scenarios.blob(str(number).encode(), "")
        made.append(Result(path=f"{prefix}/{number:06}", size=2**40 + number, sha256=blob.sha256, blob=blob.key))
    return tuple(made)


def blobs_of(results: Sequence[Result]) -> set[str]:
    return {result.blob for result in results}


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED])
async def test_results_are_recorded_with_the_end_of_their_attempt(ledger: Ledger, outcome: AttemptOutcome) -> None:
    """A failed one's, too; sizes above 32 bits included."""
    results = some(5)
    job_id = await scenarios.settled(ledger, await scenarios.opened(ledger), replace(outcome, results=results))
    job = await ledger.job(job_id)
    assert (job.result_count, job.results) == (5, results)
    told = (await all_events(ledger))[-1].data
    assert told["result_count"] == 5
    assert told["results"] == [{"path": one.path, "size": one.size} for one in results[:RESULTS_TOLD]]
    assert [await ledger.result(job_id, one.path, None) for one in results] == list(results)
    assert await ledger.result(job_id, results[0].path, 1) == results[0]


async def test_a_result_is_found_by_exactly_its_path(ledger: Ledger) -> None:
    odd = "a b/%0A/c\\d/..x/é%/'; --"
    blob = scenarios.blob(b"", "")
    result = Result(path=odd, size=0, sha256=blob.sha256, blob=blob.key)
    job_id = await scenarios.settled(ledger, await scenarios.opened(ledger), replace(SUCCEEDED, results=(result,)))
    assert await ledger.result(job_id, odd, None) == result
    for path in ("", odd.upper(), odd + "/", "/" + odd, odd[:-1], "%", "../" + odd, "..", "\0"):
        with pytest.raises(NotFound):
            await ledger.result(job_id, path, None)
    for number in (0, 2, 2**63 - 1):
        with pytest.raises(NotFound):
            await ledger.result(job_id, odd, number)


async def test_results_of_a_stale_attempt_are_not_recorded(ledger: Ledger) -> None:
    results = some(3)
    job_id = await scenarios.running(ledger, await scenarios.opened(ledger))
    assert await ledger.lose_attempt(job_id, 1, 5) is JobState.QUEUED
    assert (await scenarios.claimed(ledger)).job_id == job_id
    assert await ledger.end_attempt(job_id, 1, replace(SUCCEEDED, results=results)) is None
    assert await ledger.needed_blobs(blobs_of(results)) == set()
    assert (await ledger.job(job_id)).results == ()


async def test_the_newest_attempt_s_results_are_shown_and_older_ones_can_be_asked_for(ledger: Ledger) -> None:
    first, second = some(3, "first"), some(2, "second")
    job_id = await scenarios.settled(ledger, await scenarios.opened(ledger), replace(FAILED, results=first))
    await ledger.retry_job(job_id)
    queued = await ledger.job(job_id)
    assert (queued.result_count, queued.results) == (0, ())
    assert await ledger.result(job_id, first[0].path, None) == first[0]
    assert (await scenarios.claimed(ledger)).job_id == job_id
    with pytest.raises(NotFound):
        await ledger.result(job_id, first[0].path, None)
    assert await ledger.end_attempt(job_id, 2, replace(SUCCEEDED, results=second)) == Ended(state=JobState.SUCCEEDED)
    assert (await ledger.job(job_id)).results == second
    assert await ledger.result(job_id, first[0].path, 1) == first[0]
    assert await ledger.needed_blobs(blobs_of(first + second)) == blobs_of(first + second)


async def test_a_job_cancelled_while_it_waits_for_its_retry_shows_no_results(ledger: Ledger) -> None:
    job_id = await scenarios.settled(ledger, await scenarios.opened(ledger), replace(FAILED, results=some(2)))
    await ledger.retry_job(job_id)
    assert await ledger.request_cancel(job_id) is JobState.CANCELLED
    job = await ledger.job(job_id)
    assert (job.state, job.result_count, job.results) == (JobState.CANCELLED, 0, ())


async def test_a_list_shows_the_first_results_of_each_job_and_one_job_all(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    counts = (0, 1, RESULTS_LISTED, RESULTS_LISTED + 7)
    jobs = {}
    for count in counts:
        results = some(count)
        jobs[await scenarios.settled(ledger, submission_id, replace(SUCCEEDED, results=results))] = results
    view = await ledger.view_submission(submission_id, limit=10)
    page = await ledger.jobs(before=None, limit=10)
    for listed in ([file.job for file in view.files], page.items):
        for job in listed:
            assert job is not None
            assert job.result_count == len(jobs[job.id])
            assert job.results == jobs[job.id][:RESULTS_LISTED]
    for job_id, results in jobs.items():
        assert (await ledger.job(job_id)).results == results


async def test_ten_thousand_results_are_one_change_beside_others(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id, other = await scenarios.running(ledger, submission_id), await scenarios.running(ledger, submission_id)
    results = some(10_000)
    assert (
        list(
            await asyncio.gather(
                ledger.end_attempt(job_id, 1, replace(SUCCEEDED, results=results)),
                ledger.end_attempt(other, 1, SUCCEEDED),
            )
        )
        == [Ended(state=JobState.SUCCEEDED)] * 2
    )
    assert (await ledger.job(job_id)).results == results
    assert await ledger.needed_blobs(blobs_of(results)) == blobs_of(results)
    assert (await ledger.job(other)).state is JobState.SUCCEEDED
