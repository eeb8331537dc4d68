"""What every executor promises. A further engine joins by an entry in `ENGINES`.

The ledger is the judge: it says what was started, in which order, and how it ended. Each script waits for the file
that its input names, or goes on at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.processing.doubles import LIVENESS_S, Bench, FakeLedger, until

from dropmill.model.ids import JobId, SubmissionId, new_submission_id
from dropmill.model.records import AttemptState, JobState, utc_now
from dropmill.ports.executor import Executor

SCRIPT = """
import pathlib, signal, time
def process(path, work):
    what = path.read_text()
    print("begun")
    if what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while what != "go" and not (pathlib.Path(__file__).parent / what).exists():
        time.sleep(0.01)
"""


class Shop:
    """An executor over a ledger, with one place to run attempts in."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.executor: Executor = bench.executor
        self.ledger: FakeLedger = bench.ledger
        self._bench = bench
        self._folder = folder

    def add(self, what: str = "go") -> JobId:
        """A job that is queued in the ledger, and that the executor has not heard of."""
        return self._bench.add(what.encode())

    def submit(self, what: str = "go", submission_id: SubmissionId | None = None) -> JobId:
        job_id = self.add(what)
        self.executor.submit(job_id, submission_id or SUBMISSION)
        return job_id

    async def running(self, what: str = "flag", submission_id: SubmissionId | None = None) -> JobId:
        """A job whose script has begun."""
        job_id = self.submit(what, submission_id)
        await self._bench.output_has(job_id, "begun")
        return job_id

    def let_go(self, what: str = "flag") -> None:
        (self._folder / what).touch()

    async def settled(self, job_id: JobId) -> AttemptState:
        return (await self.ledger.settled(job_id)).state


SUBMISSION = new_submission_id()


@asynccontextmanager
async def _slots(folder: Path) -> AsyncIterator[Shop]:
    async with Bench(folder, module=SCRIPT, processor="script:process", grace=0.1) as bench:
        yield Shop(bench, folder)


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[Shop]]] = {"slots": _slots}


@pytest.fixture(params=ENGINES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    async with ENGINES[request.param](tmp_path) as opened:
        yield opened


# --- which job is next -----------------------------------------------------------------------------------------------


async def test_jobs_of_a_submission_start_in_the_order_in_which_they_came(shop: Shop) -> None:
    jobs = [shop.submit() for _ in range(10)]
    for job_id in jobs:
        assert await shop.settled(job_id) is AttemptState.SUCCEEDED
    assert shop.ledger.started == jobs


async def test_submissions_take_turns(shop: Shop) -> None:
    """Many files of one do not hold up the one file of another."""
    first = await shop.running()
    many = [shop.submit() for _ in range(5)]
    one = shop.submit("go", new_submission_id())
    shop.let_go()
    for job_id in (*many, one):
        await shop.settled(job_id)
    assert shop.ledger.started[0] == first
    assert shop.ledger.started.index(one) <= 2


async def test_a_job_handed_in_twice_runs_once(shop: Shop) -> None:
    job_id = await shop.running()
    shop.executor.submit(job_id, SUBMISSION)
    shop.executor.submit(job_id, SUBMISSION)
    behind = shop.submit()
    shop.let_go()
    await shop.settled(job_id)
    await shop.settled(behind)
    assert shop.ledger.numbers[job_id] == 1


async def test_a_job_that_is_queued_no_more_is_passed_over(shop: Shop) -> None:
    cancelled = shop.add()
    shop.ledger.states[cancelled] = JobState.CANCELLED
    shop.executor.submit(cancelled, SUBMISSION)
    await shop.settled(shop.submit())
    assert shop.ledger.numbers[cancelled] == 0


async def test_a_job_that_is_unknown_to_the_ledger_is_passed_over(shop: Shop) -> None:
    shop.executor.submit(JobId("unknown"), SUBMISSION)
    await shop.settled(shop.submit())


async def test_a_job_with_a_time_waits_for_it_and_holds_up_nobody(shop: Shop) -> None:
    late = shop.add()
    due = utc_now() + timedelta(seconds=1)
    shop.executor.submit(late, SUBMISSION, due)
    assert shop.executor.position(late) is None
    before = shop.submit()
    await shop.settled(before)
    await shop.settled(late)
    assert utc_now() >= due
    assert shop.ledger.started == [before, late]


async def test_a_job_whose_time_has_passed_is_run_at_once(shop: Shop) -> None:
    job_id = shop.add()
    shop.executor.submit(job_id, SUBMISSION, utc_now() - timedelta(days=1))
    assert await shop.settled(job_id) is AttemptState.SUCCEEDED


async def test_a_withdrawn_job_is_not_run_and_withdrawing_none_is_no_error(shop: Shop) -> None:
    await shop.running()
    waiting, behind, late = shop.submit(), shop.submit(), shop.add()
    shop.executor.submit(late, SUBMISSION, utc_now() + timedelta(seconds=0.2))
    for job_id in (waiting, late, late, JobId("unknown")):
        shop.executor.withdraw(job_id)
    shop.let_go()
    await shop.settled(behind)
    await asyncio.sleep(0.3)
    await shop.settled(shop.submit())
    assert (shop.ledger.states[waiting], shop.ledger.states[late]) == (JobState.QUEUED, JobState.QUEUED)


async def test_a_waiting_job_knows_its_place(shop: Shop) -> None:
    first = await shop.running()
    second, third = shop.submit(), shop.submit()
    shop.executor.submit(third, SUBMISSION)  # twice changes nothing
    assert [shop.executor.position(job_id) for job_id in (first, second, third)] == [None, 1, 2]
    assert shop.executor.position(JobId("unknown")) is None
    shop.executor.withdraw(second)
    assert shop.executor.position(third) == 1
    shop.let_go()
    await shop.settled(third)
    assert shop.executor.position(third) is None


async def test_a_job_that_is_asked_for_again_is_run_again(shop: Shop) -> None:
    job_id = shop.submit()
    await shop.settled(job_id)
    shop.ledger.states[job_id] = JobState.QUEUED
    shop.executor.submit(job_id, SUBMISSION)
    await until(lambda: shop.ledger.numbers[job_id] == 2 and shop.ledger.states[job_id].is_final)


# --- ending attempts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["flag", "deaf"])
async def test_a_cancelled_attempt_ends_and_its_outcome_is_the_answer(shop: Shop, what: str) -> None:
    """Also one that does not listen."""
    job_id = await shop.running(what)
    shop.executor.cancel(job_id)
    shop.executor.cancel(job_id)
    assert await shop.settled(job_id) is AttemptState.CANCELLED
    assert await shop.settled(shop.submit()) is AttemptState.SUCCEEDED


async def test_cancelling_what_does_not_run_changes_nothing(shop: Shop) -> None:
    settled, running = shop.submit(), await shop.running()
    waiting = shop.submit()
    for job_id in (settled, waiting, JobId("unknown")):
        assert not shop.executor.cancel(job_id)
    shop.let_go()
    for job_id in (settled, running, waiting):
        assert await shop.settled(job_id) is AttemptState.SUCCEEDED


async def test_a_drain_lets_running_attempts_end_and_starts_no_others(shop: Shop) -> None:
    first, second = await shop.running(), shop.submit()
    drained = asyncio.create_task(shop.executor.drain(LIVENESS_S))
    await asyncio.sleep(0.05)
    assert not drained.done()
    shop.let_go()
    await drained
    assert shop.ledger.states[first] is JobState.SUCCEEDED
    late = shop.submit()
    await asyncio.sleep(0.05)
    assert {shop.ledger.states[second], shop.ledger.states[late]} == {JobState.QUEUED}


@pytest.mark.parametrize("grace_s", [0.0, 0.1])
async def test_what_does_not_end_in_a_drain_stays_running_for_the_next_start(shop: Shop, grace_s: float) -> None:
    job_id = await shop.running("deaf")
    await shop.executor.drain(grace_s)
    assert shop.ledger.states[job_id] is JobState.RUNNING
    assert shop.ledger.outcomes == {}


async def test_an_idle_executor_drains_at_once(shop: Shop) -> None:
    async with asyncio.timeout(LIVENESS_S):
        await shop.executor.drain(600)
