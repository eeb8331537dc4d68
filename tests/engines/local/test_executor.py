"""The local executor beyond its contract: its slots and the processes in them."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.processing.doubles import Bench, gone, until

from dropmill.model.ids import JobId
from dropmill.model.records import AttemptState, JobState

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


async def test_no_more_run_at_once_than_there_are_slots(tmp_path: Path) -> None:
    async with bench(tmp_path, slots=3) as running:
        jobs = [running.submit(b"go") for _ in range(30)]
        for job_id in jobs:
            assert (await running.ledger.settled(job_id)).state is AttemptState.SUCCEEDED
        # Also in the ledger's order of events, although a slot goes on while an end is being committed.
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
    await until(lambda: bool(running.failures))
    assert "a defect" in repr(running.failures)
    await running.executor.close()
    await gone(pid)


async def test_closing_twice_is_no_harm(tmp_path: Path) -> None:
    async with bench(tmp_path) as running:
        await running.executor.close()
