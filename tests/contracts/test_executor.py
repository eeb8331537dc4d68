"""What every executor promises. A further engine joins by an entry in `ENGINES`.

The ledger is the judge: it says what was started, in which order, and how it ended. Each script waits for the file
that its input names, or goes on at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.support.bench import Bench
from tests.support.fakes.attempt_ledger import LIVENESS_S, FakeAttemptLedger
from tests.support.waiting import eventually

from dropmill.model.ids import JobId
from dropmill.model.jobs import AttemptState, JobState
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
        self.ledger: FakeAttemptLedger = bench.ledger
        self._bench = bench
        self._folder = folder

    def add(self, what: str = "go") -> JobId:
        """A job that is queued in the ledger, and that the executor has not heard of."""
        return self._bench.add(what.encode())

    def submit(self, what: str = "go") -> JobId:
        """A job that is queued, and a hint of it."""
        job_id = self.add(what)
        self.executor.wake()
        return job_id

    def cancel(self, job_id: JobId) -> None:
        """The wish, and a hint of it."""
        self._bench.cancel(job_id)

    async def running(self, what: str = "flag") -> JobId:
        """A job whose script has begun."""
        job_id = self.submit(what)
        await self._bench.output_has(job_id, "begun")
        return job_id

    def let_go(self, what: str = "flag") -> None:
        (self._folder / what).touch()

    async def settled(self, job_id: JobId) -> AttemptState:
        return (await self.ledger.settled(job_id)).state


@asynccontextmanager
async def _slots(folder: Path) -> AsyncIterator[Shop]:
    async with Bench(folder, module=SCRIPT, processor="script:process", grace=0.1) as bench:
        yield Shop(bench, folder)


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[Shop]]] = {"slots": _slots}


@pytest.fixture(params=ENGINES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    async with ENGINES[request.param](tmp_path) as opened:
        yield opened


# --- starting attempts -----------------------------------------------------------------------------------------------


async def test_jobs_start_in_the_order_that_the_ledger_says(shop: Shop) -> None:
    jobs = [shop.submit() for _ in range(10)]
    for job_id in jobs:
        assert await shop.settled(job_id) is AttemptState.SUCCEEDED
    assert shop.ledger.started == jobs


async def test_one_hint_is_enough_for_all_that_waits(shop: Shop) -> None:
    jobs = [shop.add() for _ in range(10)]
    shop.executor.wake()
    for job_id in jobs:
        assert await shop.settled(job_id) is AttemptState.SUCCEEDED


async def test_hints_that_come_often_run_nothing_twice(shop: Shop) -> None:
    job_id = await shop.running()
    for _ in range(20):
        shop.executor.wake()
    behind = shop.submit()
    shop.let_go()
    await shop.settled(job_id)
    await shop.settled(behind)
    assert (shop.ledger.numbers[job_id], shop.ledger.numbers[behind]) == (1, 1)


async def test_a_hint_without_a_job_is_no_error(shop: Shop) -> None:
    shop.executor.wake()
    shop.executor.wake("a queue that nobody takes from")
    assert await shop.settled(shop.submit()) is AttemptState.SUCCEEDED


async def test_a_job_that_is_queued_no_more_is_passed_over(shop: Shop) -> None:
    cancelled = shop.add()
    shop.ledger.states[cancelled] = JobState.CANCELLED
    shop.executor.wake()
    await shop.settled(shop.submit())
    assert shop.ledger.numbers[cancelled] == 0


async def test_a_job_that_is_asked_for_again_is_run_again(shop: Shop) -> None:
    job_id = shop.submit()
    await shop.settled(job_id)
    shop.ledger.states[job_id] = JobState.QUEUED
    shop.executor.wake()
    await eventually(lambda: shop.ledger.numbers[job_id] == 2 and shop.ledger.states[job_id].is_final)


# --- ending attempts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["flag", "deaf"])
async def test_a_cancelled_attempt_ends_and_its_outcome_is_the_answer(shop: Shop, what: str) -> None:
    """Also one that does not listen."""
    job_id = await shop.running(what)
    shop.cancel(job_id)
    shop.cancel(job_id)
    assert await shop.settled(job_id) is AttemptState.CANCELLED
    assert await shop.settled(shop.submit()) is AttemptState.SUCCEEDED


async def test_cancelling_what_does_not_run_changes_nothing(shop: Shop) -> None:
    settled, running = shop.submit(), await shop.running()
    waiting = shop.submit()
    for job_id in (settled, waiting, JobId("unknown")):
        shop.executor.cancel(job_id)
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
