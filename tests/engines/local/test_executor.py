"""The local executor beyond its contract: what it claims when, its slots and the processes in them."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.bench import Bench, gone
from tests.support.fakes.attempt_ledger import LIVENESS_S
from tests.support.waiting import eventually

from dropmill.engines.local import executor as executor_module
from dropmill.model.clock import utc_now
from dropmill.model.errors import OutOfSpace, StorageUnavailable
from dropmill.model.ids import JobId
from dropmill.model.jobs import AttemptState, JobState
from dropmill.processing import attempt as attempt_module

WAITING = """
import os, pathlib, signal, time
def process(path, work):
    what = path.read_text()
    print("pid", os.getpid(), "end")
    if what == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while what != "go" and not (pathlib.Path(__file__).parent / what).exists():
        time.sleep(0.01)
"""


@contextlib.asynccontextmanager
async def bench(folder: Path, slots: int = 1, **options: object) -> AsyncIterator[Bench]:
    async with Bench(folder, slots=slots, module=WAITING, processor="script:process", **options) as running:
        yield running


async def pid_of(running: Bench, job_id: JobId) -> int:
    return int((await running.output_has(job_id, "end")).split()[1])


async def one_runs_and_one_waits(running: Bench) -> tuple[JobId, JobId]:
    """The first ends once the file `flag` is there."""
    first, second = running.add(b"flag"), running.add(b"go")
    running.executor.wake()
    await running.output_has(first, "end")
    return first, second


async def test_no_more_run_at_once_than_there_are_slots(tmp_path: Path) -> None:
    async with bench(tmp_path, slots=3) as running:
        jobs = [running.submit(b"go") for _ in range(30)]
        for job_id in jobs:
            assert (await running.ledger.settled(job_id)).state is AttemptState.SUCCEEDED
        # Also in the ledger's order of events: a slot's next job is claimed in the change that ends the one before.
        assert 2 <= running.ledger.most_running <= 3
        assert len({(await pid_of(running, job_id)) for job_id in jobs}) == 30  # each in a process of its own


async def test_all_slots_are_used(tmp_path: Path) -> None:
    async with bench(tmp_path, slots=3) as running:
        jobs = [running.submit(b"flag") for _ in range(3)]
        for job_id in jobs:
            await running.output_has(job_id, "end")  # all three while none has ended
        (tmp_path / "flag").touch()
        for job_id in jobs:
            assert (await running.ledger.settled(job_id)).state is AttemptState.SUCCEEDED


async def test_one_change_ends_an_attempt_and_starts_the_next(tmp_path: Path) -> None:
    async with bench(tmp_path) as running:
        await eventually(lambda: running.ledger.claims == 1)
        jobs = [running.add(b"go") for _ in range(10)]
        running.executor.wake()
        for job_id in jobs:
            assert (await running.ledger.settled(job_id)).state is AttemptState.SUCCEEDED
        assert running.ledger.changes == 1 + 1 + 10, "a claim that finds the first job, then an end with a claim each"
        late = running.submit(b"go")  # the last of these claims found nothing
        assert (await running.ledger.settled(late)).state is AttemptState.SUCCEEDED


async def test_a_job_that_is_claimed_for_a_slot_that_dies_runs_in_another(tmp_path: Path) -> None:
    async with bench(tmp_path) as running:
        _, second = await one_runs_and_one_waits(running)

        def kill(job_id: JobId) -> None:
            if job_id == second:
                (slot,) = running.pool._slots
                slot.kill()

        running.ledger.on_start = kill
        (tmp_path / "flag").touch()
        async with asyncio.timeout(LIVENESS_S):
            outcome = await running.ledger.settled(second)
        assert outcome.state is AttemptState.SUCCEEDED
        assert running.ledger.numbers[second] == 1, "none was lost"


async def test_an_end_and_its_claim_are_repeated_together_when_the_ledger_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "RETRY_S", 0.01)
    async with bench(tmp_path) as running:
        first, second = await one_runs_and_one_waits(running)
        running.ledger.problems = [StorageUnavailable("the disk is away"), OutOfSpace("the disk is full")]
        (tmp_path / "flag").touch()
        assert (await running.ledger.settled(second)).state is AttemptState.SUCCEEDED
        assert running.ledger.started == [first, second]


async def test_a_claim_that_the_ledger_did_not_make_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because the attempt that has ended was declared lost meanwhile."""
    monkeypatch.setattr(executor_module, "IDLE_CLAIM_S", 3600.0)
    async with bench(tmp_path) as running:
        first, second = await one_runs_and_one_waits(running)
        running.ledger.states[first] = JobState.FAILED
        (tmp_path / "flag").touch()
        assert (await running.ledger.settled(second)).state is AttemptState.SUCCEEDED


async def test_a_hint_for_another_queue_is_not_for_this_executor(tmp_path: Path) -> None:
    async with bench(tmp_path) as running:
        await eventually(lambda: running.ledger.claims > 0)
        before = running.ledger.claims
        running.executor.wake("gpu")
        await asyncio.sleep(0.05)
        assert running.ledger.claims == before


async def test_one_hint_is_enough_for_all_that_waits(tmp_path: Path) -> None:
    async with bench(tmp_path, slots=2) as running:
        jobs = [running.add(b"flag"), running.add(b"flag"), running.add(b"go")]
        running.executor.wake()
        for job_id in jobs[:2]:
            await running.output_has(job_id, "end")
        (tmp_path / "flag").touch()
        await running.ledger.settled(jobs[2])


async def test_hints_that_one_empty_claim_has_answered_are_not_followed_by_a_claim_each(tmp_path: Path) -> None:
    """As after ten thousand jobs were cancelled that waited."""
    async with bench(tmp_path) as running:
        await running.run(b"go")
        await asyncio.sleep(0.05)
        before = running.ledger.claims
        for _ in range(1000):
            running.executor.wake()
        await running.run(b"go")
        await asyncio.sleep(0.05)
        assert running.ledger.claims - before < 10


async def test_a_lost_hint_costs_time_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "IDLE_CLAIM_S", 0.05)
    async with bench(tmp_path) as running:
        await running.run(b"go")
        job_id = running.add(b"go")
        assert (await running.ledger.settled(job_id)).state is AttemptState.SUCCEEDED


async def test_a_job_is_claimed_when_its_time_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a hint, and without waiting for the next claim of an executor that has nothing to do."""
    monkeypatch.setattr(executor_module, "IDLE_CLAIM_S", 3600.0)
    running = Bench(tmp_path, module=WAITING, processor="script:process")
    running.ledger.due = utc_now() + timedelta(seconds=2)
    async with running:
        await eventually(lambda: running.ledger.claims > 0)
        job_id = running.add(b"go")
        running.ledger.on_start = lambda _: setattr(running.ledger, "due", None)
        assert (await running.ledger.settled(job_id)).state is AttemptState.SUCCEEDED


async def test_a_cancel_that_another_process_ordered_needs_no_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "CANCELS_S", 0.05)
    async with bench(tmp_path) as running:
        job_id = running.submit(b"flag")
        await running.output_has(job_id, "end")
        running.ledger.request_cancel(job_id)
        assert (await running.ledger.settled(job_id)).state is AttemptState.CANCELLED


async def test_an_attempt_that_is_claimed_while_the_slots_are_shut_down_is_not_begun(tmp_path: Path) -> None:
    async with bench(tmp_path) as running:
        job_id = running.add(b"go")
        running.ledger.on_start = lambda _: running.runner.shut_down()
        running.executor.wake()
        await eventually(lambda: running.ledger.states[job_id] is JobState.RUNNING)
        await running.executor.drain(LIVENESS_S)
        assert running.ledger.outcomes == {}
        assert await running.output(job_id) == ""


async def test_a_lost_attempt_is_tried_again_by_itself(tmp_path: Path) -> None:
    async with bench(tmp_path) as running:
        job_id = running.submit(b"flag")
        pid = await pid_of(running, job_id)
        os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
        await gone(pid)
        (tmp_path / "flag").touch()
        assert (await running.ledger.settled(job_id)).state is AttemptState.SUCCEEDED
        assert running.ledger.outcomes[job_id, 1].state is AttemptState.LOST


@pytest.mark.parametrize("grace_s", [0.0, 0.1])
async def test_what_does_not_end_in_a_drain_is_killed_and_stays_running(tmp_path: Path, grace_s: float) -> None:
    async with bench(tmp_path, slots=2) as running:
        jobs = [running.submit(b"deaf") for _ in range(2)]
        pids = [await pid_of(running, job_id) for job_id in jobs]
        await running.executor.drain(grace_s)
        for pid in pids:
            assert not Path(f"/proc/{pid}").exists()
        assert {running.ledger.states[job_id] for job_id in jobs} == {JobState.RUNNING}
        assert running.ledger.outcomes == {}


async def test_an_error_of_our_own_is_told_and_stops_everything(tmp_path: Path) -> None:
    running = Bench(tmp_path, slots=2, module=WAITING, processor="script:process")
    await running.executor.start()
    job_id = running.submit(b"deaf")
    pid = await pid_of(running, job_id)
    running.ledger.problems = [RuntimeError("a defect")]
    running.submit(b"go")
    await eventually(lambda: bool(running.failures))
    assert "a defect" in repr(running.failures)
    await running.executor.close()
    await gone(pid)


async def test_closing_twice_is_no_harm(tmp_path: Path) -> None:
    async with bench(tmp_path) as running:
        await running.executor.close()
