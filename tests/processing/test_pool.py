"""What happens when the processes around a script die: no process is left, and other attempts go on."""

import asyncio
import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.support.bench import Bench, gone
from tests.support.fakes.attempt_ledger import LIVENESS_S
from tests.support.server import clean_environment
from tests.support.waiting import eventually
from tests.support.warm_slot import WarmSlot

from dropmill.model.errors import ProcessorError
from dropmill.model.jobs import AttemptState
from dropmill.processing import children, pool
from dropmill.slot.processes import processes

DAEMON = """
import os, signal, sys, time

def daemon():
    "Forked twice, in its own session, with an empty environment, ignoring SIGTERM."
    r, w = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("daemon", os.getpid(), flush=True)
            os.write(w, b"x")
            os.execve("/bin/sleep", ["sleep", "600"], {})
        os._exit(0)
    os.wait()
    os.read(r, 1)

def process(path):
    what = path.read_text()
    if what == "quick":
        return os.getppid()
    daemon()
    print("pids", os.getpid(), os.getppid(), "end", flush=True)
    if what == "kill slot":
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
"""


def pids(output: str) -> list[int]:
    return [int(word) for word in output.split() if word.isdigit()]


def test_everything_works_on_both_event_loops(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, slots=2, module=DAEMON, processor="script:process", timeout=2.0, grace=0.1) as bench:
            jobs = [bench.submit(b"quick") for _ in range(10)]
            assert {(await bench.ledger.settled(job)).state for job in jobs} == {AttemptState.SUCCEEDED}
            outcome, output = await bench.run(b"hang")
            assert outcome.exit_code == -15
            slot = int(output.partition("pids ")[2].split()[1])
            assert [pid for pid in pids(output) if Path(f"/proc/{pid}").exists()] == [slot]
            assert os.getsid(slot) == slot  # Ctrl-C on the server's terminal does not reach it

    for run in (asyncio.run, uvloop.run):
        run(main())


async def test_a_script_that_kills_its_slot_loses_only_its_own_attempt(tmp_path: Path) -> None:
    """Its daemon becomes an orphan of the server, which kills it; the other slot is undisturbed."""
    bystander = await asyncio.create_subprocess_exec("sleep", "600")
    async with Bench(tmp_path, slots=2, module=DAEMON, processor="script:process", max_attempts=2) as bench:
        other = bench.submit(b"stay")
        other_pids = pids(await bench.output_has(other, "end"))
        job_id = bench.submit(b"kill slot")
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, bench.ledger.numbers[job_id]) == (AttemptState.LOST, 2)
        for number in (1, 2):
            for pid in pids(await bench.output(job_id, number)):
                await gone(pid)
        assert [pid for pid in other_pids if not Path(f"/proc/{pid}").exists()] == []
        assert bystander.returncode is None  # a child of the server that is no slot's
        assert (await bench.run(b"quick"))[0].state is AttemptState.SUCCEEDED  # in the slot that took its place
    for pid in other_pids:
        await gone(pid)
    bystander.kill()
    await bystander.wait()


async def test_an_idle_slot_that_dies_is_replaced(tmp_path: Path) -> None:
    async with Bench(tmp_path, module=DAEMON, processor="script:process") as bench:
        slot = (await bench.run(b"quick"))[0].value
        os.kill(slot, signal.SIGKILL)
        await gone(slot)
        outcome, _ = await bench.run(b"quick")
        assert (outcome.state, outcome.value != slot) == (AttemptState.SUCCEEDED, True)


async def test_a_slot_that_cannot_be_replaced_now_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "RESTART_S", 0.05)
    async with Bench(tmp_path, module=DAEMON, processor="script:process") as bench:
        slot = (await bench.run(b"quick"))[0].value
        (tmp_path / "script.py").write_text("def (")
        os.kill(slot, signal.SIGKILL)
        await eventually(lambda: "SyntaxError" in caplog.text)
        (tmp_path / "script.py").write_text("def process(path): return 'fixed'\n")
        assert (await bench.run(b"quick"))[0].value == "fixed"


async def test_a_slot_that_the_system_refuses_to_start_is_tried_again_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RESTART_S", 0.05)
    start, refused = children.start_child, threading.Event()

    def refuse(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        refused.set()
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async with Bench(tmp_path, module=DAEMON, processor="script:process") as bench:
        slot = (await bench.run(b"quick"))[0].value
        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(pool, "start_child", refuse)
        os.kill(slot, signal.SIGKILL)
        await eventually(refused.is_set)
        await eventually(lambda: bench.health.degraded == ("slots",))
        await eventually(lambda: len(os.listdir("/proc/self/fd")) < before)  # neither end of the socket stays open
        monkeypatch.setattr(pool, "start_child", start)
        assert (await bench.run(b"quick"))[0].state is AttemptState.SUCCEEDED
        assert bench.health.degraded == ()


async def test_a_slot_that_is_ready_ends_the_pauses_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RESTART_S", 600.0)
    start, refusals = children.start_child, [OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))]

    def refuse_once(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        if refusals:
            raise refusals.pop()
        return start(*arguments, **named)

    async with Bench(tmp_path, module=DAEMON, processor="script:process", slots=2) as bench:
        one, other = {(await bench.pool.acquire()).pid, (await bench.pool.acquire()).pid}
        monkeypatch.setattr(pool, "start_child", refuse_once)
        os.kill(one, signal.SIGKILL)
        await eventually(lambda: bench.health.degraded == ("slots",))
        os.kill(other, signal.SIGKILL)
        await eventually(lambda: bench.health.degraded == ())


async def test_a_server_that_stops_while_a_slot_is_started_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_start = threading.Event(), threading.Event()
    started: list[int] = []

    def start_late(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        begun.set()
        assert may_start.wait(LIVENESS_S)
        process = start(*arguments, **named)
        started.append(process.pid)
        return process

    start = children.start_child
    monkeypatch.setattr(pool, "start_child", start_late)
    bench = Bench(tmp_path, module=DAEMON, processor="script:process")
    starting = asyncio.create_task(bench.executor.start())
    await eventually(begun.is_set)
    starting.cancel()
    await asyncio.sleep(0)
    may_start.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    (pid,) = started
    assert not Path(f"/proc/{pid}").exists()


async def test_an_import_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "READY_S", 2)  # an interpreter starts within it on a busy machine, too
    module = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    bench = Bench(tmp_path, module=module, processor="script:process")
    with pytest.raises(ProcessorError, match="importing it took longer than"):
        await bench.executor.start()
    await gone(int((tmp_path / "pid").read_text()))


SERVER = """
import asyncio, sys
from pathlib import Path
from tests.support.bench import Bench

async def main():
    folder = Path({folder!r})
    async with Bench(folder, slots=2, processor="script:process", grace=600, reuse={reuse!r}) as bench:
        await started(bench)
        await asyncio.sleep(600)

async def started(bench):
    for _ in range(2):
        job_id = bench.submit(b"hang")
        print(await bench.output_has(job_id, "end"), flush=True)
    print("ready", flush=True)

asyncio.run(main())
"""


@contextlib.contextmanager
def server(folder: Path, module: str, reuse: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a pool, in a session of its own so that no signal of the tests' reaches it."""
    (folder / "script.py").write_text(module)
    code = textwrap.dedent(SERVER.format(folder=str(folder), reuse=reuse))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def dead(pid: int) -> None:
    """Wait until an orphan of a killed server has ended. Pools in this process made it the one that inherits them."""

    def is_reaped() -> bool:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return not Path(f"/proc/{pid}").exists()

    await eventually(is_reaped)


@pytest.mark.parametrize("reuse", [None, 5])
async def test_nothing_survives_a_killed_server(tmp_path: Path, reuse: int | None) -> None:
    with server(tmp_path, DAEMON, reuse) as process:
        assert process.stdout is not None
        output = ""
        while not output.endswith("ready\n"):
            line = await asyncio.to_thread(process.stdout.readline)
            assert line
            output += line
        found = pids(output)
        assert len(found) == 6  # two each of script, slot, daemon
        os.kill(process.pid, signal.SIGKILL)
        for pid in found:
            await dead(pid)


@pytest.mark.parametrize("reuse", [None, 5])
async def test_an_import_that_hangs_does_not_survive_a_killed_server(tmp_path: Path, reuse: int | None) -> None:
    line = "{os.getpid()} {os.getppid()}\\n"
    module = f"import os, time\nopen('pid', 'w').write(f'{line}')\ntime.sleep(600)\n"
    with server(tmp_path, module, reuse) as process:
        pid_file = tmp_path / "pid"
        await eventually(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        importing, parent = map(int, pid_file.read_text().split())
        os.kill(process.pid, signal.SIGKILL)
        await dead(importing)
        if reuse is not None:
            await dead(parent)  # the slot; without it, the parent is the server


def test_slots_leave_no_child_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, slots=3, module=DAEMON, processor="script:process") as bench:
            await bench.run(b"quick")

    def children() -> set[int]:
        return {pid for pid, parent, _ in processes() if parent == os.getpid()}

    before = children()
    asyncio.run(main())
    assert children() == before


STOPS = """
import os, signal, time

def process(path):
    what, slot = path.read_text(), os.getppid()
    if what == "again":
        return slot
    if os.environ["DROPMILL_JOB_ATTEMPT"] == "2":
        return [slot, "second attempt"]
    print("pids", os.getpid(), slot, "end", flush=True)
    if what == "parent":
        os.kill(slot, signal.SIGSTOP)
    elif what == "group":
        os.killpg(os.getpgid(slot), signal.SIGSTOP)
    elif what == "all":
        os.kill(slot, signal.SIGSTOP)
        os.kill(0, signal.SIGSTOP)
    elif what == "itself":
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)
"""


@pytest.mark.parametrize("what", ["parent", "group", "all"])
async def test_a_script_that_stops_its_slot_is_noticed_without_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """The attempt is lost, as with a slot that died, and nothing of it is left; the next one runs in a new slot."""
    monkeypatch.setattr(pool, "STOP_CHECK_S", 0.1)
    async with Bench(tmp_path, module=STOPS, processor="script:process") as bench:
        job_id = bench.submit(what.encode())
        script, slot = pids(await bench.output_has(job_id, "end"))
        outcome = await bench.ledger.settled(job_id)
        assert (bench.ledger.lost[job_id], outcome.value[1]) == (1, "second attempt")
        assert outcome.value[0] != slot
        assert "was stopped (SIGSTOP) and is killed" in caplog.text
        await gone(slot)
        await gone(script)


async def test_an_idle_slot_that_is_stopped_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "STOP_CHECK_S", 0.1)
    async with Bench(tmp_path, module=STOPS, processor="script:process") as bench:
        slot = (await bench.run(b"again"))[0].value
        os.kill(slot, signal.SIGSTOP)
        await gone(slot)
        assert (await bench.run(b"again"))[0].value != slot


async def test_a_slot_that_is_stopped_for_a_moment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person may look at it with a debugger."""
    monkeypatch.setattr(pool, "STOP_CHECK_S", 600)
    async with Bench(tmp_path, module=STOPS, processor="script:process") as bench:
        pid = (await bench.run(b"again"))[0].value
        (slot,) = bench.pool._slots
        os.kill(pid, signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        slot.kill_if_stopped()
        os.kill(pid, signal.SIGCONT)
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WCONTINUED | os.WNOWAIT)
        slot.kill_if_stopped()
        slot.kill_if_stopped()
        assert slot.is_alive
        assert (await bench.run(b"again"))[0].value == pid


async def test_a_script_that_stops_itself_is_ended_by_cancel_and_timeout(tmp_path: Path) -> None:
    """It counts as running, because another process may continue it. A cancel or a timeout continues and ends it."""
    async with Bench(tmp_path, module=STOPS, processor="script:process", grace=600) as bench:
        job_id = bench.submit(b"itself")
        script, _ = pids(await bench.output_has(job_id, "end"))
        await eventually(lambda: " T " in Path(f"/proc/{script}/stat").read_text())
        bench.cancel(job_id)
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, outcome.exit_code) == (AttemptState.CANCELLED, -signal.SIGTERM)
        await gone(script)
    async with Bench(tmp_path, module=STOPS, processor="script:process", timeout=0.5, grace=600) as bench:
        outcome, _ = await bench.run(b"itself")
        assert (outcome.error is not None and outcome.error.type, outcome.exit_code) == ("timed_out", -signal.SIGTERM)


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_slot_prints_no_traceback_when_its_server_is_killed(tmp_path: Path, is_busy: bool) -> None:
    """Also when the server had not read its last message: the kernel then answers the slot with an error."""
    (tmp_path / "script.py").write_text("import time\ndef process(path): time.sleep(600)\n")
    slot = WarmSlot(tmp_path)
    if is_busy:
        with slot:
            _, *pipes = slot.begin("")
        for descriptor in pipes:
            os.close(descriptor)
    else:
        select.select([slot.channel], [], [])  # its first word is there and stays unread
        slot.channel.close()
        assert slot.process.wait(60) == 0
    assert slot.said() == ""


def test_slots_print_nothing_when_the_server_is_killed(tmp_path: Path) -> None:
    """A real server with `kill -9`, some times over, at moments when slots have something to say."""
    (tmp_path / "script.py").write_text("def process(path): return path\n")
    jobs = tmp_path / "jobs.txt"
    for _ in range(3):
        jobs.unlink(missing_ok=True)
        with (tmp_path / "said.txt").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", BUSY_SERVER.format(folder=str(tmp_path))], stderr=said, env=clean_environment()
            )
        try:
            asyncio.run(eventually(lambda: jobs.exists() and jobs.stat().st_size > 10))
        finally:
            process.kill()
            process.wait()
        asyncio.run(eventually(lambda: not any(_runs_in(tmp_path, pid) for pid, _, _ in processes())))
    assert (tmp_path / "said.txt").read_text() == ""


BUSY_SERVER = """
import asyncio, contextlib, shutil
from pathlib import Path
from tests.support.bench import Bench
from tests.support.server import clean_environment

async def main():
    folder = Path({folder!r})
    for name in ("data", "blobs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    async with Bench(folder, slots=2, processor="script:process") as bench:
        while True:
            await asyncio.gather(bench.run(), bench.run())
            with (folder / "jobs.txt").open("a") as jobs:
                jobs.write(".")

asyncio.run(main())
"""


def _runs_in(folder: Path, pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # an orphan may have become ours
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd") == str(folder)
    return False
