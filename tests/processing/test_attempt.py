"""One attempt: its preparation, what ends it, what is recorded, and what is left."""

import asyncio
import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.bench import Bench, gone, python
from tests.support.fakes.attempt_ledger import LIVENESS_S, FakeAttemptLedger
from tests.support.waiting import eventually

from dropmill.engines.local.outputs import FileOutputs
from dropmill.model.errors import OutOfSpace, StorageUnavailable, Unavailable
from dropmill.model.ids import Sha256
from dropmill.model.jobs import AttemptState, JobError
from dropmill.model.output import OutputBounds, OutputChunk
from dropmill.model.uploads import FileIdentity, StoredBlob
from dropmill.processing import attempt, pool, run
from dropmill.processing.folders import remove_tree

HEAD, TAIL = OutputBounds().head, OutputBounds().tail
SUCCEEDED, FAILED, CANCELLED = AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELLED

DEAF = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"], start_new_session=True)
print("pids", os.getpid(), child.pid, "end", flush=True)
while True:
    time.sleep(600)
"""

GENTLE = """
import signal, sys, time
def stop(*_):
    print("cleaned up")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""


def pids(output: str) -> list[int]:
    return [int(word) for word in output.split() if word.isdigit()]


async def test_the_folders_are_there_during_the_attempt_and_gone_after(tmp_path: Path) -> None:
    """Whatever is left in them: folders without rights, symbolic links to the outside."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "kept").write_text("kept")
    module = f"""
import os
def process(path, work, results):
    (work / "deep" / "er").mkdir(parents=True)
    (work / "deep" / "er" / "file").write_text("x")
    (work / "link").symlink_to({str(outside)!r})
    (results / "out.txt").write_text("result")
    (work / "deep").chmod(0)
    config = os.environ["DROPMILL_JOB_CONFIG"]
    return [str(work), str(results), oct(os.stat(config).st_mode), open(config).read()]
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        outcome, _ = await bench.run()
        work, results, mode, config = outcome.value
        assert Path(work).parent == Path(results).parent
        await eventually(lambda: not Path(work).parent.exists())
        assert (mode, config) == ("0o100400", bench.ledger.config.decode())
        assert (outside / "kept").read_text() == "kept"
        assert outside.stat().st_mode & 0o777 == 0o755


def test_folders_without_rights_are_removed_and_links_not_followed(tmp_path: Path) -> None:
    """As an ordinary user, who may not look into a folder of mode 0."""
    folder = Path(tempfile.mkdtemp())
    tree, outside = folder / "tree", folder / "outside"
    for path in (tree, outside, tree / "deep", tree / "deep" / "er"):
        path.mkdir()
    (tree / "deep" / "er" / "file").touch()
    (tree / "deep" / "link").symlink_to(outside)
    outside.chmod(0o755)
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    (tree / "deep" / "er").chmod(0)
    (tree / "deep").chmod(0)
    pid = os.fork()
    if pid == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        remove_tree(tree)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not tree.exists()
    assert outside.stat().st_mode & 0o777 == 0o755
    shutil.rmtree(folder)


async def test_what_an_earlier_process_left_is_cleared_at_start(tmp_path: Path) -> None:
    left = tmp_path / "data" / "attempts" / "x.1" / "work"
    left.mkdir(parents=True)
    (left / "scratch").touch()
    copies = tmp_path / "data" / "configs"
    copies.mkdir()
    (copies / f"{'a' * 64}.yaml").write_text("secret: perhaps purged since\n")
    async with Bench(tmp_path, command=("true",)):
        assert list((tmp_path / "data" / "attempts").iterdir()) == []
        assert list(copies.iterdir()) == []


async def test_each_attempt_reads_the_revision_it_was_ordered_with(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=("cat", "{config}")) as bench:
        assert (await bench.run())[1] == bench.ledger.config.decode()
        bench.ledger.config = b"second: 2\n"
        assert (await bench.run())[1] == "second: 2\n"
        newest = bench.ledger.revision().sha256
        assert [path.stem for path in (tmp_path / "data" / "configs").iterdir()] == [newest]


async def test_a_ledger_that_is_away_when_the_config_is_read_delays_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded as started, and not yet begun: it must not fail for that."""
    monkeypatch.setattr(attempt, "RETRY_S", 0.01)
    away = [StorageUnavailable("away"), StorageUnavailable("still away")]
    read = FakeAttemptLedger.revision_text

    async def read_if_there(ledger: FakeAttemptLedger, sha256: Sha256) -> bytes:
        if away:
            raise away.pop()
        return await read(ledger, sha256)

    monkeypatch.setattr(FakeAttemptLedger, "revision_text", read_if_there)
    async with Bench(tmp_path, command=("true",)) as bench:
        outcome, _ = await bench.run()
    assert outcome.state is AttemptState.SUCCEEDED
    assert away == []


async def test_the_copy_of_a_purged_revision_is_removed_and_made_again_if_it_comes_back(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=("cat", "{config}")) as bench:
        await bench.run()
        purged = bench.ledger.revision().sha256
        for _ in range(2):
            await bench.runner.forget_config(purged)
            assert list((tmp_path / "data" / "configs").iterdir()) == []
        assert (await bench.run())[1] == bench.ledger.config.decode()


async def test_a_timeout_ends_the_script_and_everything_it_started(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=python(tmp_path, DEAF), timeout=0.5, grace=0.1) as bench:
        outcome, output = await bench.run()
        assert (outcome.state, outcome.exit_code) == (FAILED, -9)
        assert outcome.error == JobError(type="timed_out", message="timed out after 0.5 s")
        found = pids(output)
        assert len(found) == 2
        assert [pid for pid in found if Path(f"/proc/{pid}").exists()] == []


async def test_a_script_may_use_the_grace_time(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=python(tmp_path, GENTLE), timeout=1, grace=60) as bench:
        outcome, output = await bench.run()
        assert (outcome.state, outcome.exit_code) == (FAILED, 0)
        assert output == "ready\ncleaned up\n"


async def test_a_cancelled_script_is_terminated_then_killed(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=python(tmp_path, DEAF), grace=0.1) as bench:
        job_id = bench.submit()
        found = pids(await bench.output_has(job_id, "end"))
        bench.cancel(job_id)
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, outcome.exit_code, outcome.error) == (CANCELLED, -9, None)
        assert outcome.output_size > 0
        assert [pid for pid in found if Path(f"/proc/{pid}").exists()] == []
        bench.cancel(job_id)  # too late, and of no consequence for others
        assert (await bench.ledger.settled(job_id)).state is CANCELLED


async def test_a_cancel_that_comes_before_the_process_still_counts(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=python(tmp_path, DEAF)) as bench:
        bench.ledger.on_start = bench.cancel
        outcome, output = await bench.run()
        assert (outcome.state, outcome.exit_code, output) == (CANCELLED, None, "")


async def test_a_stopped_slot_is_woken_to_end_its_attempt(tmp_path: Path) -> None:
    module = """
import os, signal, time
def process(path):
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)
"""
    async with Bench(tmp_path, module=module, processor="script:process", timeout=0.3, grace=0) as bench:
        for _ in range(2):
            outcome, _ = await bench.run()
            assert outcome.error is not None
            assert (outcome.exit_code, outcome.error.type) == (-9, "timed_out")


async def test_a_stopped_slot_is_given_up_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script may stop (SIGSTOP) the process that watches it; its time limit holds nevertheless."""
    monkeypatch.setattr(run, "KILL_ANSWER_S", 0.1)
    monkeypatch.setattr(pool.Slot, "wake", lambda slot: None)  # as if the script stopped it again at once
    module = """
import os, signal, time
def process(path):
    print("pids", os.getpid(), "end")
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)
"""
    async with Bench(tmp_path, module=module, processor="script:process", timeout=0.3, grace=0.1) as bench:
        outcome, output = await bench.run()
        assert outcome.error is not None
        assert (outcome.state, outcome.exit_code, outcome.error.type) == (FAILED, None, "timed_out")
        assert not Path(f"/proc/{pids(output)[0]}").exists()
        assert (await bench.run())[0].error is not None  # in the slot that took its place


async def test_a_changed_input_fails_the_attempt(tmp_path: Path) -> None:
    module = """
import os
def process(path):
    what = path.read_text()
    os.chmod(path, 0o600)
    if what == "append":
        path.write_text("append more")
    elif what == "replace":
        path.unlink(); path.write_text("replaced")
    elif what == "remove":
        path.unlink()
    elif what == "hide":
        before = path.stat()
        path.write_text("seek")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        for way in (b"append", b"replace", b"remove", b"hide"):
            outcome, _ = await bench.run(way)
            assert outcome.error is not None
            assert (outcome.state, outcome.error.type) == (FAILED, "input_changed")
        assert (await bench.run(b"read"))[0].state is SUCCEEDED


async def test_an_input_that_was_changed_before_the_attempt_is_not_processed(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=("cat", "{path}")) as bench:
        job_id = bench.add(b"as it was stored")
        path = tmp_path / "blobs" / bench.ledger.orders[job_id].blob
        before = path.stat()
        path.chmod(0o600)
        path.write_bytes(b"as it is changed")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        bench.executor.wake()
        outcome = await bench.ledger.settled(job_id)
        assert outcome.error is not None
        assert (outcome.state, outcome.error.type) == (FAILED, "input_changed")
        assert await bench.output(job_id) == ""


async def test_a_work_folder_that_could_not_be_removed_is_removed_by_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """
import pathlib, time
def process(path, work):
    (work / "left").touch()
    while path.read_text() == "waits" and not pathlib.Path(__file__).with_name("go-on").exists():
        time.sleep(0.01)
"""
    attempts = tmp_path / "data" / "attempts"

    def refuse(*_: object) -> None:
        raise OSError("input/output error")

    async with Bench(tmp_path, module=module, processor="script:process", slots=2) as bench:
        with monkeypatch.context() as patch:
            patch.setattr(attempt, "remove_tree", refuse)
            assert (await bench.run())[0].state is SUCCEEDED
            async with asyncio.timeout(LIVENESS_S):
                while await bench.runner.sweep() != 1:  # noqa: ASYNC110 - the attempt may not have left it yet
                    await asyncio.sleep(0.01)
        running = bench.submit(b"waits")
        await eventually(lambda: len(list(attempts.glob("*/work/left"))) == 2)
        assert await bench.runner.sweep() == 0
        assert [folder.name for folder in attempts.iterdir()] == [f"{running}.1"]  # the one in use stays
        (tmp_path / "go-on").touch()
        assert (await bench.ledger.settled(running)).state is SUCCEEDED
        await eventually(lambda: not list(attempts.iterdir()))


async def test_a_script_that_nests_folders_without_end_hurts_no_other_attempt(tmp_path: Path) -> None:
    """Deeper than a recursion or a path may be; their removal must not end the server."""
    module = """
import os
def process(path, work):
    os.chdir(work)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        assert (await bench.run())[0].state is SUCCEEDED
        await eventually(lambda: not list((tmp_path / "data" / "attempts").iterdir()))
        assert (await bench.run())[0].state is SUCCEEDED


async def test_missing_bytes_fail_the_attempt_alone(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=("cat", "{path}")) as bench:
        job_id = bench.add()
        (tmp_path / "blobs" / bench.ledger.orders[job_id].blob).unlink()
        bench.executor.wake()
        assert (await bench.ledger.settled(job_id)).state is FAILED
        assert (await bench.run(b"there"))[1] == "there"


async def test_a_disk_without_room_for_the_folders_fails_the_attempt_alone(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=("true",)) as bench:
        folder = tmp_path / "data" / "attempts"
        folder.rmdir()
        folder.touch()
        outcome, _ = await bench.run()
        assert outcome.error is not None
        assert outcome.error.type == "cannot_start"
        folder.unlink()
        folder.mkdir()
        assert (await bench.run())[0].state is SUCCEEDED


async def test_an_input_that_is_touched_but_not_changed_is_processed(tmp_path: Path) -> None:
    """The order names an identity that is older than a change of the mode: the slot sees that, and the hash decides."""
    async with Bench(tmp_path, command=("cat", "{path}")) as bench:
        proven = bench.store.open_stored
        asked = []

        async def touch(blob: StoredBlob) -> tuple[int, FileIdentity]:
            asked.append(blob.key)
            found = await proven(blob)
            if len(asked) < 3:
                await asyncio.to_thread((tmp_path / "blobs" / blob.key).chmod, 0o440 + len(asked))
            return found

        bench.store.open_stored = touch  # type: ignore[method-assign]
        outcome, output = await bench.run(b"as it was stored")
        assert (outcome.state, output) == (SUCCEEDED, "as it was stored")
        assert len(asked) == 3


async def test_more_output_than_a_pipe_holds_before_anybody_reads_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """
def process(path, report):
    for n in range(3000):
        report(n, 3000, "x" * 100)
    print("x" * 300_000)
"""
    monkeypatch.setattr(run, "WATCH_AFTER_S", 0.5)
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        outcome, _ = await bench.run()
        assert (outcome.state, outcome.output_size) == (SUCCEEDED, 300_001)


async def test_an_outcome_waits_for_a_ledger_that_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "RETRY_S", 0.01)
    async with Bench(tmp_path, command=("true",)) as bench:
        bench.ledger.problems = [OutOfSpace("full"), Unavailable("away"), OutOfSpace("full")]
        assert (await bench.run())[0].state is SUCCEEDED
        assert bench.ledger.problems == []


async def test_much_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    script = """
import sys
line = b"x" * 65536
for i in range(640):
    sys.stdout.buffer.write(b"%010d" % i + line[10:])
"""
    size = 640 * 65536
    async with Bench(tmp_path, command=python(tmp_path, script)) as bench:
        job_id = bench.submit()
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, outcome.output_size) == (SUCCEEDED, size)
        head = await bench.outputs.read(job_id, 1, HEAD - 65536, 10)
        tail = await bench.outputs.read(job_id, 1, HEAD, 10)
        assert (head.data, tail.data) == (b"%010d" % 255, b"%010d" % (640 - TAIL // 65536))
        assert (tail.offset, tail.end) == (size - TAIL, size)
        files = {path.suffix: path.stat().st_size for path in (tmp_path / "data" / "outputs" / job_id[:2]).iterdir()}
        files.pop(".marks", None)  # if it took more than a second
        assert files == {".out": HEAD, ".tail": TAIL + 8}


async def test_binary_output_and_a_line_without_end_arrive_byte_for_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 2000
    async with Bench(tmp_path, command=("cat", "{path}")) as bench:
        job_id = bench.submit(data)
        assert (await bench.ledger.settled(job_id)).output_size == len(data)
        assert (await bench.outputs.read(job_id, 1, 0, len(data) + 1)).data == data


async def test_a_pipe_full_at_the_end_is_read_to_its_end(tmp_path: Path) -> None:
    script = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
os.write(1, b"x" * (1 << 20))
"""
    async with Bench(tmp_path, command=python(tmp_path, script)) as bench:
        for _ in range(3):
            assert (await bench.run())[0].output_size == 1 << 20


async def test_output_is_live(tmp_path: Path) -> None:
    script = "import time\nprint('first')\ntime.sleep(600)"
    async with Bench(tmp_path, command=python(tmp_path, script), grace=0) as bench:
        job_id = bench.submit()
        await bench.output_has(job_id, "first\n")  # although it goes to a pipe
        bench.cancel(job_id)
        await bench.ledger.settled(job_id)
        await asyncio.sleep(0)
        assert await FileOutputs(tmp_path / "data" / "outputs").read(job_id, 1, 0, 10) == OutputChunk(
            offset=0, data=b"first\n", end=6
        )


async def test_progress_comes_at_most_four_times_a_second_and_the_last_always(tmp_path: Path) -> None:
    module = """
import time
def process(path, report):
    for i in range(1001):
        report(i, 1000, "step" if i % 2 == 0 else None)
        time.sleep(0.0005)
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        job_id = bench.submit()
        await bench.ledger.settled(job_id)
        order = bench.ledger.orders[job_id]
        times = [at for at, _ in bench.bus.reports]
        reports = [progress for _, progress in bench.bus.reports]
        assert len(reports) > 1
        assert min(b - a for a, b in pairwise(times[:-1])) >= 0.24  # the very last one may follow at once
        assert (reports[-1].value, reports[-1].total, reports[-1].label) == (1000, 1000, "step")
        assert {(p.stage, p.file_id, p.submission_id) for p in reports} == {
            ("process", order.file_id, order.submission_id)
        }
        await eventually(lambda: bench.bus.forgotten == [order.file_id])


async def test_only_numbers_are_progress(tmp_path: Path) -> None:
    module = """
from fractions import Fraction
def process(path, report):
    report(float("nan"), 10)
    report(1, float("inf"))
    report(10 ** 400)
    report(Fraction(7, 2), 10, "long " * 1000)
    try:
        report("half", 10)
    except ValueError:
        return "refused"
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        assert (await bench.run())[0].value == "refused"
        label = ("long " * 1000)[:200]
        assert [(p.value, p.total, p.label) for _, p in bench.bus.reports] == [(3.5, 10, label)]


async def test_nothing_is_left_open_after_many_attempts(tmp_path: Path) -> None:
    async with Bench(tmp_path, command=("true",)) as bench:
        await bench.run()
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(20):
            await bench.run()
        assert sorted(os.listdir("/proc/self/fd")) == before


async def test_a_cancelled_run_leaves_no_process_and_the_attempt_running(tmp_path: Path) -> None:
    bench = Bench(tmp_path, command=python(tmp_path, DEAF))
    async with bench:
        job_id = bench.submit()
        found = pids(await bench.output_has(job_id, "end"))
    for pid in found:
        await gone(pid)
    assert bench.ledger.outcomes == {}
