"""How a processor is run when the flags ask for another way: reloaded, in a fresh interpreter, on a copy."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.bench import Bench
from tests.support.waiting import eventually

from dropmill.model.errors import ProcessorError
from dropmill.model.jobs import AttemptState
from dropmill.processing import pool


async def test_with_reload_a_changed_callable_is_reimported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the change has the same size and comes within the same second, in a module that it imports."""
    monkeypatch.setattr(pool, "RESTART_S", 0.1)
    (tmp_path / "neighbour.py").write_text("VALUE = 1\n")
    module = "import json, neighbour\ndef process(path): return neighbour.VALUE\n"
    async with Bench(tmp_path, module=module, processor="script:process", reload=True, slots=2) as bench:
        for value in (1, 2, 3, 4):
            (tmp_path / "neighbour.py").write_text(f"VALUE = {value}\n")
            for _ in range(3):
                assert (await bench.run())[0].value == value
        (tmp_path / "script.py").write_text("def process(path) return 5\n")  # what a person saves half-way
        job_id = bench.submit()
        await asyncio.sleep(0.3)
        (tmp_path / "script.py").write_text("def process(path): return 6\n")
        assert (await bench.ledger.settled(job_id)).value == 6
        assert bench.ledger.numbers[job_id] == 1


async def test_with_reload_a_removed_callable_is_reimported_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt runs the code that is no longer there; the job stays queued meanwhile."""
    monkeypatch.setattr(pool, "RESTART_S", 0.1)
    module = "def process(path): return 1\n"
    async with Bench(tmp_path, module=module, processor="script:process", reload=True) as bench:
        assert (await bench.run())[0].value == 1
        (tmp_path / "script.py").unlink()
        job_id = bench.submit()
        await eventually(lambda: bench.health.degraded == ("slots",))
        assert bench.ledger.outcomes.keys() & {(job_id, 1)} == set()
        (tmp_path / "script.py").write_text("def process(path): return 2\n")
        assert (await bench.ledger.settled(job_id)).value == 2


async def test_without_reload_it_is_not(tmp_path: Path) -> None:
    module = "def process(path): return 1\n"
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        assert (await bench.run())[0].value == 1
        (tmp_path / "script.py").write_text("def process(path): return 2\n")
        assert (await bench.run())[0].value == 1


FRESH = """
import os, threading
IMPORTED_IN = os.getpid()
thread = threading.Thread(target=threading.Event().wait, daemon=True)
thread.start()

def process(file, config, results, work, report):
    report(1, 2, "half")
    print("in", os.getcwd() == str(work), results.is_dir(), os.getsid(0) == os.getpid())
    match file.path.read_text():
        case "raise": raise ValueError("no such luck")
        case "leave": os._exit(0)
        case "daemon":
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execve("/bin/sleep", ["sleep", "600"], {})
                os._exit(0)
            os.wait()
    return [IMPORTED_IN == os.getpid(), thread.is_alive(), config["nested"]["n"], file.name, __name__,
            sorted(os.listdir("/proc/self/fd"))]
"""


async def test_with_fresh_process_nothing_that_was_imported_is_forked(tmp_path: Path) -> None:
    """All else is as ever: parameters, output, errors, reports, and nothing left behind."""
    async with Bench(tmp_path, module=FRESH, processor="script:process", fresh_process=True) as bench:
        for _ in range(2):
            outcome, output = await bench.run(b"tell")
            assert outcome.error is None, output
            assert outcome.value[:-1] == [True, True, 3, "a file.txt", "script"]
            assert len(outcome.value[-1]) == 5  # the report pipe and the listing's own beside the three
            assert output == "in True True True\n"
        assert [(report.value, report.total, report.label) for _, report in bench.bus.reports][-1] == (1, 2, "half")
        outcome, output = await bench.run(b"raise")
        assert outcome.error is not None
        assert (outcome.exit_code, outcome.error.type, outcome.error.message) == (1, "ValueError", "no such luck")
        assert "dropmill/slot/" not in output
        outcome, _ = await bench.run(b"leave")
        assert outcome.error is not None
        assert outcome.error.type == "no_result"
        outcome, _ = await bench.run(b"daemon")
        assert outcome.state is AttemptState.SUCCEEDED
        (tmp_path / "script.py").write_text("import nowhere\n")
        outcome, _ = await bench.run()
        assert outcome.error is not None
        assert outcome.error.type == "cannot_start"
        assert "nowhere" in outcome.error.message
        assert set(bench.ledger.numbers.values()) == {1}


async def test_with_fresh_process_an_unusable_callable_stops_start_up_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, module="async def process(path): ...", processor="script:process", fresh_process=True)
    with pytest.raises(ProcessorError, match="is an async function"):
        await bench.executor.start()


async def test_with_copy_input_the_script_may_do_as_it_likes_with_its_file(tmp_path: Path) -> None:
    module = """
def process(file, work):
    seen = [file.path.parent == work, file.path.suffix, file.path.stat().st_size, oct(file.path.stat().st_mode & 0o777)]
    file.path.write_text("mine")
    file.path.unlink()
    return seen
"""
    async with Bench(tmp_path, module=module, processor="script:process", copy_input=True) as bench:
        content = b"large " * 300_000
        job_id = bench.submit(content)
        outcome = await bench.ledger.settled(job_id)
        assert outcome.error is None
        assert outcome.value == [True, ".txt", len(content), oct(0o666 & ~_umask())]
        assert (tmp_path / "blobs" / bench.ledger.orders[job_id].blob).read_bytes() == content
        await eventually(lambda: not os.listdir(tmp_path / "data" / "attempts"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_a_copy_that_finds_no_room_fails_its_attempt_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    async with Bench(tmp_path, command=("cat", "{path}"), copy_input=True) as bench:
        outcome, _ = await bench.run()
        assert outcome.error is not None
        assert (outcome.error.type, "No space left" in outcome.error.message) == ("cannot_start", True)
        await eventually(lambda: not os.listdir(tmp_path / "data" / "attempts"))
        monkeypatch.setattr(os, "copy_file_range", lambda *_: exec("raise OSError(18, 'Invalid cross-device link')"))
        assert (await bench.run(b"copied otherwise"))[1] == "copied otherwise"


async def test_with_progress_off_only_what_is_reported_on_purpose_counts(tmp_path: Path) -> None:
    command = ("sh", "-c", "echo 10%; echo 3/5; echo 'dropmill: progress 7/9 on purpose'; echo 40%")
    for way, expected in (("auto", (7, 9, "on purpose")), ("off", (7, 9, "on purpose"))):
        async with Bench(tmp_path, command=command, progress=way) as bench:
            await bench.run()
            assert [(r.value, r.total, r.label) for _, r in bench.bus.reports][-1] == expected
    async with Bench(tmp_path, command=("sh", "-c", "echo 10%; echo 3/5"), progress="off") as bench:
        await bench.run()
        assert bench.bus.reports == []
