"""Attempts with `--reuse` share a process that keeps what it has loaded, and nothing else survives them."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.support.bench import Bench, gone
from tests.support.waiting import eventually

from dropmill.model.errors import ProcessorError
from dropmill.model.jobs import AttemptState, JobError

MODULE = """
import os, signal, subprocess, sys, threading, time, pathlib

print("printed while it is imported")
COUNT = 0
HELPER = subprocess.Popen(["sleep", "600"], start_new_session=True)
OUT = None

def process(path, config, results, work, report):
    global COUNT
    COUNT += 1
    what = path.read_text()
    report(COUNT, 10, what)
    return WAYS[what](config, results, work)

def describe(config, results, work):
    found = config["nested"]["n"]
    config["nested"]["n"] = 99
    print("attempt", os.environ["DROPMILL_JOB_ID"], os.getcwd() == str(work))
    print("to stderr", file=sys.stderr)
    (results / "out.txt").write_text(str(COUNT))
    return [COUNT, os.getpid(), found]

def fail(*_):
    raise ValueError("no such luck")

def deaf(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"], start_new_session=True)
    print("pids", os.getpid(), child.pid, HELPER.pid, "end", flush=True)
    time.sleep(600)

def gentle(*_):
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    print("ready", flush=True)
    while not stopped:
        time.sleep(0.01)
    return "ended well"

def daemon(*_):
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            time.sleep(600)
        os._exit(0)
    return [int(os.read(read, 20)), HELPER.pid, HELPER.poll(), os.getppid()]

def left_open(config, results, work):
    global OUT
    OUT = open(results / "left.txt", "w")
    OUT.write("important data")
    print("no newline", end="")

def late(*_):
    def speak():
        time.sleep(0.2)
        print("printed too late", flush=True)
    threading.Thread(target=speak).start()

def kill_slot(*_):
    if os.environ["DROPMILL_JOB_ATTEMPT"] == "1":
        print("pids", os.getpid(), HELPER.pid, "end", flush=True)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    return COUNT

def forks(*_):
    # The child returns from the callable, too, after its parent or before.
    pid = os.fork()
    time.sleep(0.05 if pid == 0 else 0)
    return COUNT

def close_all(*_):
    os.closerange(3, 4096)
    return COUNT

WAYS = {
    "describe": describe, "fail": fail, "deaf": deaf, "gentle": gentle, "daemon": daemon, "left open": left_open,
    "late": late, "kill slot": kill_slot, "close all": close_all,
    "forks": forks,
    "count": lambda *_: COUNT,
    "segfault": lambda *_: os.kill(os.getpid(), signal.SIGSEGV),
    "leave": lambda *_: os._exit(0),
    "exit 3": lambda *_: sys.exit(3),
    "exit": lambda *_: sys.exit(),
    "quick": lambda *_: time.sleep(0.005),
}
"""

SUCCEEDED, FAILED, CANCELLED = AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELLED


def a_bench(folder: Path, reuse: int = 10, **options: Any) -> Bench:
    return Bench(folder, module=MODULE, processor="script:process", reuse=reuse, **options)


def pids(output: str) -> list[int]:
    return [int(word) for word in output.split() if word.isdigit()]


async def count(bench: Bench) -> Any:
    outcome, _ = await bench.run(b"count")
    return outcome.value if outcome.state is SUCCEEDED else outcome.error


async def test_what_is_loaded_stays_and_each_attempt_has_its_own_order(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        found = []
        for number in (1, 2, 3):
            job_id = bench.submit(b"describe")
            outcome = await bench.ledger.settled(job_id)
            assert (outcome.state, outcome.exit_code, outcome.error) == (SUCCEEDED, 0, None)
            assert await bench.output(job_id) == f"attempt {job_id} True\nto stderr\n"
            assert [result.path for result in outcome.results] == ["out.txt"]
            assert bench.store.path(outcome.results[0].blob).read_text() == str(number)
            assert bench.bus.reports[-1][1].value == number
            found.append(outcome.value)
        pid = found[0][1]
        assert found == [[1, pid, 3], [2, pid, 3], [3, pid, 3]]  # no attempt sees what another did to the config
        await eventually(lambda: not list((tmp_path / "data" / "attempts").iterdir()))


async def test_a_slot_ends_after_its_last_attempt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with a_bench(tmp_path, reuse=3) as bench:
        assert [await count(bench) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]
        assert [n for n in bench.ledger.numbers.values() if n > 1] == []  # none was lost
    assert "died" not in caplog.text


async def test_one_attempt_a_process_is_possible(tmp_path: Path) -> None:
    async with a_bench(tmp_path, reuse=1, slots=2) as bench:
        jobs = [bench.submit(b"count") for _ in range(6)]
        assert [(await bench.ledger.settled(job_id)).value for job_id in jobs] == [1] * 6


async def test_queued_jobs_go_through_reused_slots_one_at_a_time(tmp_path: Path) -> None:
    async with a_bench(tmp_path, reuse=4, slots=2) as bench:
        jobs = [bench.submit(b"quick") for _ in range(25)]
        assert {(await bench.ledger.settled(job_id)).state for job_id in jobs} == {SUCCEEDED}
        assert bench.ledger.most_running <= 2
        assert set(bench.ledger.numbers.values()) == {1}


@pytest.mark.parametrize(
    ("way", "exit_code", "error"),
    [
        ("fail", 1, JobError(type="ValueError", message="no such luck")),
        ("exit 3", 3, JobError(type="exit_code", message="exited with code 3")),
        ("segfault", -signal.SIGSEGV, JobError(type="signal", message="killed by SIGSEGV (signal 11)")),
        ("leave", 0, JobError(type="no_result", message="The process exited before the function returned.")),
    ],
)
async def test_a_failed_attempt_ends_the_slot(tmp_path: Path, way: str, exit_code: int, error: JobError) -> None:
    async with a_bench(tmp_path) as bench:
        assert [await count(bench), await count(bench)] == [1, 2]
        outcome, output = await bench.run(way.encode())
        assert (outcome.state, outcome.exit_code) == (FAILED, exit_code)
        if way == "fail":
            assert output.startswith("Traceback (most recent call last):\n")
            assert "dropmill/slot/" not in output
        if way in ("fail", "leave"):
            assert outcome.error == error
        else:
            assert outcome.error is not None
            assert outcome.error.type == error.type
        assert await count(bench) == 1
        assert set(bench.ledger.numbers.values()) == {1}


async def test_an_exit_with_code_0_is_no_failure(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        outcome, _ = await bench.run(b"exit")
        assert (outcome.state, outcome.exit_code, outcome.value) == (SUCCEEDED, 0, None)
        assert await count(bench) == 2


@pytest.mark.parametrize("grace", [0.0, 0.2])
async def test_a_timeout_ends_the_slot_and_everything_in_it(tmp_path: Path, grace: float) -> None:
    async with a_bench(tmp_path, timeout=1.0, grace=grace) as bench:
        outcome, output = await bench.run(b"deaf")
        assert outcome.error == JobError(type="timed_out", message="timed out after 1 s")
        for pid in pids(output):
            await gone(pid)
        assert await count(bench) == 1


async def test_a_cancel_ends_the_slot_and_everything_in_it(tmp_path: Path) -> None:
    async with a_bench(tmp_path, grace=0.2) as bench:
        job_id = bench.submit(b"deaf")
        found = pids(await bench.output_has(job_id, "end"))
        assert len(found) == 3
        bench.cancel(job_id)
        assert (await bench.ledger.settled(job_id)).state is CANCELLED
        for pid in found:
            await gone(pid)
        assert await count(bench) == 1


async def test_a_slot_whose_attempt_was_cancelled_is_not_used_again_however_well_it_ended(tmp_path: Path) -> None:
    async with a_bench(tmp_path, grace=30) as bench:
        job_id = bench.submit(b"gentle")
        await bench.output_has(job_id, "ready")
        bench.cancel(job_id)
        assert (await bench.ledger.settled(job_id)).state is CANCELLED
        assert await count(bench) == 1


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.003, 0.005, 0.008, 0.012])
async def test_a_cancel_at_any_moment_loses_no_other_attempt(tmp_path: Path, delay_s: float) -> None:
    async with a_bench(tmp_path, grace=0) as bench:
        for _ in range(3):
            await bench.run(b"count")
            cancelled, other = bench.submit(b"quick"), bench.submit(b"quick")
            await asyncio.sleep(delay_s)
            bench.cancel(cancelled)
            assert (await bench.ledger.settled(cancelled)).state in (SUCCEEDED, CANCELLED)
            assert (await bench.ledger.settled(other)).state is SUCCEEDED


async def test_what_an_attempt_starts_ends_with_it_and_what_the_import_started_stays(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        for _ in range(2):
            daemon, helper, ended, slot = (await bench.run(b"daemon"))[0].value
            assert not Path(f"/proc/{daemon}").exists()
            assert (Path(f"/proc/{helper}").exists(), ended) == (True, None)
        assert await count(bench) == 3
        os.kill(slot, signal.SIGKILL)
        await gone(helper)


async def test_a_child_that_returns_from_the_callable_answers_for_nobody(tmp_path: Path) -> None:
    async with a_bench(tmp_path, reuse=100) as bench:
        for number in range(1, 11):
            outcome, _ = await bench.run(b"forks")
            assert (outcome.state, outcome.value) == (SUCCEEDED, number)


async def test_files_are_flushed_after_each_attempt(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        outcome, output = await bench.run(b"left open")
        assert output == "no newline"
        assert bench.store.path(outcome.results[0].blob).read_text() == "important data"
        assert await count(bench) == 2


async def test_what_a_thread_prints_after_its_attempt_is_nobodys_output(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        job_id = bench.submit(b"late")
        assert (await bench.ledger.settled(job_id)).state is SUCCEEDED
        await asyncio.sleep(0.4)
        assert await bench.output(job_id) == ""
        assert await count(bench) == 2


async def test_an_attempt_whose_slot_is_killed_is_lost_and_run_again(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        job_id = bench.submit(b"kill slot")
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, outcome.value, bench.ledger.numbers[job_id]) == (SUCCEEDED, 1, 2)
        for pid in pids(await bench.output(job_id)):
            await gone(pid)


async def test_a_script_that_closes_every_descriptor_has_its_outcome(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        for _ in range(2):
            outcome, _ = await bench.run(b"close all")
            assert (outcome.state, outcome.value) == (SUCCEEDED, 1)
        assert await count(bench) == 1
        assert set(bench.ledger.numbers.values()) == {1}


async def test_an_unusable_callable_stops_start_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, module="async def process(path): ...", processor="script:process", reuse=5)
    with pytest.raises(ProcessorError, match="process is an async function"):
        await bench.executor.start()


async def test_a_changed_file_is_imported_again_with_reload(tmp_path: Path) -> None:
    module = "COUNT = []\ndef process(path):\n    COUNT.append(1)\n    return ['{}', len(COUNT)]\n"
    options: dict[str, Any] = {"module": module.format("old"), "processor": "script:process", "reuse": 9}
    async with Bench(tmp_path, reload=True, **options) as bench:
        assert [(await bench.run())[0].value for _ in range(2)] == [["old", 1], ["old", 2]]
        (tmp_path / "script.py").write_text(module.format("changed"))
        assert (await bench.run())[0].value == ["changed", 1]
