"""What happens when the processes around the script die: nothing is left, and nobody else is hurt."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from tests.processing.doubles import Bench, gone, until

from dropmill.model.errors import ProcessorError
from dropmill.model.records import AttemptState
from dropmill.processing import pool
from dropmill.processing.slot import processes

DAEMON = """
import os, signal, sys, time

def daemon():
    "Forked twice, in a session of its own, nothing of ours in its environment, deaf to SIGTERM."
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
        async with Bench(tmp_path, slots=2, module=DAEMON, processor="script:process", timeout=0.3, grace=0.1) as bench:
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
    """Its daemon is an orphan of the server then, and ends all the same; the other slot goes on undisturbed."""
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
        await until(lambda: "SyntaxError" in caplog.text)
        (tmp_path / "script.py").write_text("def process(path): return 'mended'\n")
        assert (await bench.run(b"quick"))[0].value == "mended"


async def test_an_import_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "READY_S", 0.3)
    module = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    bench = Bench(tmp_path, module=module, processor="script:process")
    with pytest.raises(ProcessorError, match="it is not imported after"):
        await bench.executor.start()
    await gone(int((tmp_path / "pid").read_text()))


SERVER = """
import asyncio, sys
from pathlib import Path
from tests.processing.doubles import Bench

async def main():
    folder = Path({folder!r})
    async with Bench(folder, slots=2, processor="script:process", grace=600) as bench:
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
def server(folder: Path, module: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a pool, in a session of its own so that no signal of the tests' reaches it."""
    (folder / "script.py").write_text(module)
    code = textwrap.dedent(SERVER.format(folder=str(folder)))
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

    await until(is_reaped)


async def test_nothing_survives_a_killed_server(tmp_path: Path) -> None:
    with server(tmp_path, DAEMON) as process:
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


async def test_an_import_that_hangs_does_not_survive_a_killed_server(tmp_path: Path) -> None:
    with server(tmp_path, "import os, time\nopen('pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(600)\n") as process:
        pid_file = tmp_path / "pid"
        await until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        pid = int(pid_file.read_text())
        os.kill(process.pid, signal.SIGKILL)
        await dead(pid)


def test_slots_leave_no_child_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, slots=3, module=DAEMON, processor="script:process") as bench:
            await bench.run(b"quick")

    def children() -> set[int]:
        return {pid for pid, parent, _ in processes() if parent == os.getpid()}

    before = children()
    asyncio.run(main())
    assert children() == before
