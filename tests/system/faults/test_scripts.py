"""Promise 9: a bad, hanging, crashing or noisy script hurts only its own job, and nothing of it stays.

Each case is sent as a file, which the processor runs: as a shell script, or as the body of a Python function. After
every case a good job succeeds in the same server, nothing but the slots is left of it, and it answered all the time.
"""

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.missing import not_allowed
from tests.support.server import SERVE, Server, clean_environment
from tests.support.waiting import PATIENCE_S, wait_until
from tests.system.faults.observers import Pulse, stays_true, zombies

from dropmill.model.output import OutputBounds
from dropmill.processing.limits import Limiter, Limits

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]

MIB = 1 << 20
DAEMON = "600.5"  # seconds that every process sleeps that must not survive; nobody else sleeps that long
FLAGS = ("--concurrency", "2", "--max-attempts", "2", "--memory", "2GiB")
SHORT = ("--timeout", "0.8", "--grace", "0.3")  # for those that would not end by themselves

PROCESSOR = """
def process(path):
    space = {"path": path, "__name__": "case"}
    body = path.read_text()
    exec(compile("def run():\\n" + "".join("    " + line + "\\n" for line in body.splitlines()), "case", "exec"), space)
    return space["run"]()
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a script does, and what its job must say of it.

    Attributes:
        script: its text.
        state: of the job.
        code: exit code; ... means whatever it is.
        error: type of the error; None for none.
        attempts: how many it takes.
        says: found in the error's message or the output.
    """

    script: str
    state: str = "failed"
    code: Any = ...
    error: Any = ...
    attempts: int = 1
    says: str = ""


SHELL = {
    "exits with a code": Case(script="exit 1", code=1, error="exit_code", says="exited with code 1"),
    "segmentation fault": Case(script="kill -SEGV $$", code=-11, error="signal", says="SIGSEGV (signal 11)"),
    "kills its whole group": Case(script="kill -9 0", code=-9, error="signal"),
    "runs for ever": Case(script="while :; do sleep 1; done", error="timed_out", says="timed out after 0.8 s"),
    "deaf to SIGTERM": Case(script="trap '' TERM; while :; do sleep 0.1; done", code=-9, error="timed_out"),
    "stops itself": Case(script="kill -STOP $$", error="timed_out"),
    "stops its parent": Case(script=f"kill -STOP $PPID; exec sleep {DAEMON}", error="timed_out"),
    "kills its parent": Case(script=f"kill -9 $PPID; exec sleep {DAEMON}", error="lost", attempts=2),
    "leaves a child": Case(script=f"sleep {DAEMON} & exit 0", state="succeeded", code=0, error=None),
    "leaves a daemon": Case(
        script=f"(setsid env -i /bin/sh -c 'trap \"\" TERM HUP; sleep {DAEMON} & sleep {DAEMON}' &) ; exit 0",
        state="succeeded",
        error=None,
    ),
    "leaves a crowd": Case(
        script=f"for i in 1 2 3 4 5 6 7 8 9; do (setsid sleep {DAEMON} &); done", state="succeeded", error=None
    ),
    "reads its input": Case(script="cat", state="succeeded", error=None),
    "bytes that are no text": Case(script="head -c 3M /dev/urandom", state="succeeded", error=None),
    "one endless line": Case(script="head -c 20M /dev/zero | tr '\\0' x", state="succeeded", error=None),
    "redraws without end": Case(
        script="for i in $(seq 20000); do printf '\\r%s%%' $i; done", state="succeeded", error=None
    ),
    "escapes and markup": Case(
        script="printf '\\033[2J<script>alert(1)</script>'", state="succeeded", error=None, says="<script>"
    ),
    "removes its input": Case(script='rm -f "$0"', error="input_changed"),
    "replaces its input": Case(script='rm -f "$0"; ln -s /etc/passwd "$0"', error="input_changed"),
    "removes its folders": Case(script='rm -rf "$PWD" "$DROPMILL_JOB_RESULTS"', state="succeeded", error=None),
    "uses too much memory": Case(script="exec python3 -c 'bytearray(1 << 33)'", code=1, says="MemoryError"),
}

PYTHON = {
    "SystemExit(0)": Case(script="raise SystemExit(0)", state="succeeded", error=None),
    "SystemExit(3)": Case(script="raise SystemExit(3)", code=3, error="exit_code"),
    "KeyboardInterrupt": Case(script="raise KeyboardInterrupt", error="KeyboardInterrupt"),
    "os._exit(0)": Case(script="import os; os._exit(0)", code=0, error="no_result"),
    "segmentation fault": Case(script="import ctypes; ctypes.string_at(0)", code=-11, says="SIGSEGV"),
    "uses too much memory": Case(script="return len(bytearray(1 << 33))", error="out_of_memory", says="MemoryError"),
    "recurses without end": Case(script="def f(): f()\nf()", error="RecursionError"),
    "an error without words": Case(
        script="class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", error="Odd"
    ),
    "an endless error": Case(script="raise ValueError('x' * 10_000_000)", error="ValueError"),
    "closes everything": Case(script="import os\nos.closerange(0, 1000)", state="succeeded", code=0),
    "hangs, deaf to all": Case(
        script="import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        code=-9,
        error="timed_out",
    ),
    "hangs in C": Case(script="import re; re.match('(a+)+$', 'a' * 99 + 'b')", error="timed_out"),
    "threads that stay": Case(
        script="import threading, time\n"
        f"for _ in range(9): threading.Thread(target=time.sleep, args=({DAEMON},)).start()",
        error="timed_out",
    ),
    "daemon threads that stay": Case(
        script="import threading, time\n"
        f"for _ in range(9): threading.Thread(target=time.sleep, args=({DAEMON},), daemon=True).start()",
        state="succeeded",
        error=None,
    ),
    "changes what others import": Case(
        script="import json, builtins\njson.dumps = builtins.print = None", state="succeeded", error=None
    ),
    "kills its parent": Case(
        script="import os, signal; os.kill(os.getppid(), signal.SIGKILL)", error="lost", attempts=2
    ),
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("shell"), "--command", "bash {path}", *FLAGS, is_fresh=True)
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="module")
def impatient_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("impatient"), "--command", "bash {path}", *FLAGS, *SHORT, is_fresh=True)
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("python"), "--processor", "do:process", *FLAGS, *SHORT, is_fresh=True)
    (server.folder / "do.py").write_text(PROCESSOR)
    try:
        yield server.start()
    finally:
        server.end()


def sleepers() -> list[int]:
    """Processes that should be gone."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if DAEMON.encode() in line.read_bytes().split(b"\0"):
                found.append(int(line.parent.name))
        except OSError:
            continue
    return found


def run(server: Server, script: str, seconds: float = PATIENCE_S) -> Any:
    """The settled job of a script."""
    submission = server.send((f"{secrets.token_hex(4)}.sh", script.encode()))
    (file,) = server.settled(submission["id"], seconds)["files"]
    return file["job"]


def hurts_only_its_own_job(server: Server, case: Case, good: str) -> Any:
    with Pulse(server):
        job = run(server, case.script)
        output = server.http.get(f"/api/v1/jobs/{job['id']}/output")
        told = (job["state"], job["error"] and job["error"]["type"])
        assert told[0] == case.state, (job, output.text[-2000:])
        assert case.error in (..., told[1]), job
        assert case.code in (..., job["exit_code"]), job
        assert len(job["attempts"]) == case.attempts
        assert case.says in output.text + str(job["error"])
        assert output.headers["Content-Type"].startswith("text/plain")
        assert output.headers["X-Content-Type-Options"] == "nosniff"
        assert sleepers() == []  # at once: the end is reported when nothing is left
        assert run(server, good)["state"] == "succeeded"
        settled = [e for e in server.events() if e["name"] == "job.settled" and e["subject"]["job_id"] == job["id"]]
        assert len(settled) == 1
    assert stays_true(lambda: zombies(server) == [], 5)
    return job


@pytest.mark.parametrize("name", SHELL)
def test_a_bad_executable_hurts_only_its_own_job(shell: Server, impatient_shell: Server, name: str) -> None:
    server = impatient_shell if SHELL[name].error == "timed_out" else shell
    hurts_only_its_own_job(server, SHELL[name], "exit 0")


@pytest.mark.parametrize("name", PYTHON)
def test_a_bad_callable_hurts_only_its_own_job(python: Server, name: str) -> None:
    hurts_only_its_own_job(python, PYTHON[name], "return 1")


@pytest.mark.parametrize("name", ["removes its input", "replaces its input"])
def test_an_input_that_is_gone_is_told_and_nothing_else_is_served(shell: Server, name: str) -> None:
    job = run(shell, SHELL[name].script)
    answer = shell.http.get(f"/api/v1/files/{job['file_id']}/content")
    assert 400 <= answer.status_code < 500, answer.text
    assert "root:" not in answer.text
    assert shell.http.post(f"/api/v1/jobs/{job['id']}/retry").status_code == 202
    again = wait_until(lambda: j if (j := shell.get(f"/jobs/{job['id']}"))["state"] == "failed" else None)
    assert len(again["attempts"]) == 2


def test_a_flood_of_output_fills_neither_memory_nor_disk(shell: Server, is_full: bool) -> None:
    size = (1024 if is_full else 64) * MIB
    before = shell.resident_bytes
    with Pulse(shell):
        job = run(shell, f"yes 0123456789abcde | head -c {size}; echo the end >&2", 300 if is_full else PATIENCE_S)
        assert shell.resident_bytes - before < 100 * MIB
    assert (job["state"], job["output_size"]) == ("succeeded", size + 8)
    bounds = OutputBounds()
    files = {path.suffix: path.stat().st_size for path in (shell.data / "outputs").rglob(f"{job['id']}.*")}
    assert files.pop(".marks", 0) < 10_000
    assert bounds.head < sum(files.values()) <= bounds.head + bounds.tail + 8
    first = shell.http.get(f"/api/v1/jobs/{job['id']}/output").content
    assert first.startswith(b"0123456789abcde\n")
    rest = shell.http.get(f"/api/v1/jobs/{job['id']}/output?from={size}")
    assert (rest.headers["Dropmill-Offset"], rest.content) == (str(size), b"the end\n")
    skipped = shell.http.get(f"/api/v1/jobs/{job['id']}/output?from={bounds.head}")
    assert int(skipped.headers["Dropmill-Offset"]) == size + 8 - bounds.tail


def test_a_fork_bomb_stops_at_the_limit(make_server: Make, tmp_path: Path) -> None:
    """Only where a control group holds it; the script itself looks whether one does."""
    limiter = Limiter(Limits(max_processes=30), tmp_path)
    lacking = limiter.open()
    limiter.close()
    if lacking:
        not_allowed(lacking)
    server = make_server("--command", "bash {path}", "--max-processes", "30", *SHORT).start()
    bomb = "grep -q /dropmill- /proc/self/cgroup || exit 9\nb() { b | b & b; }\nb\n"
    with Pulse(server):
        job = run(server, bomb)
        assert (job["state"], job["exit_code"] != 9) == ("failed", True), job
        assert run(server, "exit 0")["state"] == "succeeded"
    assert stays_true(lambda: zombies(server) == [], 5)
    assert server.stop() == 0
    assert server.strays() == []


# --- what the file itself is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (None, 0o755, "there is no program ./job.sh"),
        ("#!/bin/sh\n", 0o644, "./job.sh is not executable"),
        ("#!/bin/sh\r\nexit 0\r\n", 0o755, "Windows line ends"),
        ("#!/no/such/shell\n", 0o755, "'/no/such/shell'"),
    ],
)
def test_a_script_that_cannot_be_run_stops_the_start_with_one_line(
    tmp_path: Path, text: str | None, mode: int, says: str
) -> None:
    if text is not None:
        (tmp_path / "job.sh").write_text(text)
        (tmp_path / "job.sh").chmod(mode)
    assert says in refused(tmp_path, "--command", "./job.sh {path}")


@pytest.mark.parametrize(
    ("module", "says", "flags"),
    [
        ("import nowhere", "No module named 'nowhere'", ()),
        ("async def process(path): ...", "is an async function", ()),
        ("def process(path, speed): ...", "'speed' cannot be filled", ("--fresh-process",)),
    ],
)
def test_a_callable_that_cannot_be_run_stops_the_start_with_one_line(
    tmp_path: Path, module: str, says: str, flags: tuple[str, ...]
) -> None:
    (tmp_path / "job.py").write_text(module)
    assert says in refused(tmp_path, "--processor", "job:process", *flags)


def refused(folder: Path, *flags: str) -> str:
    """The one line with which a start is refused."""
    ended = subprocess.run(
        [*SERVE, "--bind", "127.0.0.1:0", *flags],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, line.startswith("dropmill: ")) == (2, True)
    return line


def test_a_script_that_vanishes_or_breaks_later_fails_its_jobs_and_the_queue_goes_on(make_server: Make) -> None:
    server = make_server("--command", "./job.sh {path}", "--concurrency", "1")
    script = server.folder / "job.sh"
    broken: dict[str, Callable[[], Any]] = {
        "vanished": script.unlink,
        "not executable": lambda: script.chmod(0o644),
        "Windows line ends": lambda: script.write_text("#!/bin/sh\r\nexit 0\r\n"),
    }

    def fix() -> None:
        script.write_text("#!/bin/sh\nexit 0\n")
        script.chmod(0o755)

    fix()
    server.start()
    for spoil in broken.values():
        spoil()
        job = run(server, "x")
        assert (job["state"], job["error"]["type"]) == ("failed", "cannot_start")
        script.unlink(missing_ok=True)
        fix()
        assert run(server, "x")["state"] == "succeeded"
    assert os.listdir(server.data / "attempts") == []
