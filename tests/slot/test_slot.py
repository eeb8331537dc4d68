"""How the slot calls callables, and the outcome of each way to end."""

import functools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.bench import Bench, gone, python

from dropmill.model.errors import ProcessorError
from dropmill.model.jobs import AttemptState, JobError
from dropmill.slot.callable import Unusable, bind, find_callable

CALLABLES = '''
import os, signal, sys, threading, time, pathlib, subprocess

print("printed while it is imported")
IMPORTED_IN = os.getpid()

def process(name, config, results, work, report, unused=5):
    """Everything that can be asked for, by the first line of the file."""
    what = pathlib.Path(name).read_text().strip()
    return WAYS[what](name, config, results, work, report)

def describe(name, config, results, work, report):
    print("cwd", os.getcwd() == str(work), results.is_dir(), config["nested"]["n"], unprintable)
    print("to stderr", file=sys.stderr)
    print("stdin", repr(sys.stdin.read()))
    print("own session", os.getsid(0) == os.getpid(), os.getpid() != IMPORTED_IN, os.getppid() == IMPORTED_IN)
    print("environment", os.environ["DROPMILL_JOB_FILE_NAME"], sorted(k for k in os.environ if "SECRET" in k))
    config["nested"]["n"] = 99
    return {"n": [1, None, "x"]}

unprintable = "\\udc80"

def fail(text="no such luck"):
    raise ValueError(text)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

WAYS = {
    "describe": describe,
    "nothing": lambda *a: None,
    "unjson": lambda *a: {1, 2},
    "nan": lambda *a: float("nan"),
    "large": lambda *a: "x" * 70_000,
    "largest": lambda *a: "x" * 65_000,
    "raise": lambda *a: fail(),
    "exit": lambda *a: sys.exit(),
    "exit 0": lambda *a: sys.exit(0),
    "exit 3": lambda *a: sys.exit(3),
    "exit 256": lambda *a: sys.exit(256),
    "exit text": lambda *a: sys.exit("sorry"),
    "os exit 0": lambda *a: os._exit(0),
    "os exit 4": lambda *a: os._exit(4),
    "raise halves": lambda *a: fail("half \\udc80"),
    "return halves": lambda *a: "\\udc80",
    "interrupt": lambda *a: os.kill(os.getpid(), signal.SIGINT),
    "segfault": lambda *a: crash(),
    "no newline": lambda *a: print("not ended", end=""),
    "closed": lambda *a: sys.stdout.close(),
    "thread": lambda *a: threading.Thread(target=time.sleep, args=(600,), daemon=True).start(),
    "forge": lambda *a: [os.write(fd, b"{}\\nv7\\np[true\\ne[1,2]\\n") for fd in range(3, 20) if is_pipe(fd)] and None,
}

def is_pipe(fd):
    try:
        return "pipe" in os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
'''


async def test_each_way_to_end_has_its_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPMILL_WEBHOOK_SECRET", "hush")
    succeeded, failed = AttemptState.SUCCEEDED, AttemptState.FAILED
    async with Bench(tmp_path, module=CALLABLES, processor="script:process") as bench:

        async def end(way: str) -> tuple[AttemptState, int | None, Any]:
            outcome, _ = await bench.run(way.encode())
            return outcome.state, outcome.exit_code, outcome.value if outcome.error is None else outcome.error.type

        for _ in range(2):  # the second sees nothing of what the first did to the config
            outcome, output = await bench.run(b"describe", name="a\nb.txt")
            assert (outcome.state, outcome.exit_code, outcome.value) == (succeeded, 0, {"n": [1, None, "x"]})
            assert output.splitlines() == [
                "cwd True True 3 \\udc80",
                "to stderr",
                "stdin ''",
                "own session True True True",
                "environment a",
                "b.txt []",
            ]
        assert await end("nothing") == (succeeded, 0, None)
        assert await end("unjson") == (succeeded, 0, None)
        assert await end("nan") == (succeeded, 0, None)
        assert await end("large") == (succeeded, 0, None)
        assert await end("largest") == (succeeded, 0, "x" * 65_000)
        assert await end("exit") == (succeeded, 0, None)
        assert await end("exit 0") == (succeeded, 0, None)
        assert await end("exit 3") == (failed, 3, "exit_code")
        assert await end("exit 256") == (failed, 1, "exit_code")
        assert await end("os exit 0") == (failed, 0, "no_result")
        assert await end("os exit 4") == (failed, 4, "exit_code")
        assert await end("interrupt") == (failed, 1, "KeyboardInterrupt")
        assert await end("closed") == (succeeded, 0, None)
        assert await end("thread") == (succeeded, 0, None)
        assert await end("forge") == (succeeded, 0, None)

        outcome, output = await bench.run(b"raise")
        assert (outcome.exit_code, outcome.error) == (1, JobError(type="ValueError", message="no such luck"))
        assert output.startswith("Traceback (most recent call last):\n")
        assert output.endswith("ValueError: no such luck\n")
        assert "dropmill/slot/" not in output

        outcome, _ = await bench.run(b"raise halves")  # which no database would take
        assert outcome.error == JobError(type="ValueError", message="half \\udc80")
        assert await end("return halves") == (succeeded, 0, None)

        outcome, output = await bench.run(b"exit text")
        assert (outcome.state, outcome.exit_code, output) == (failed, 1, "sorry\n")

        outcome, output = await bench.run(b"segfault")
        assert (outcome.exit_code, outcome.error) == (
            -signal.SIGSEGV,
            JobError(type="signal", message="killed by SIGSEGV (signal 11)"),
        )
        assert "in crash" in output

        outcome, output = await bench.run(b"no newline")
        assert (output, outcome.output_size) == ("not ended", 9)
        assert [n for n in bench.ledger.numbers.values() if n > 1] == []  # no crash took the slot with it


async def test_executables_end_by_exit_code_or_signal(tmp_path: Path) -> None:
    script = """
import os, signal, sys
what = open(sys.argv[1]).read()
print(what, os.getcwd() == os.environ["DROPMILL_JOB_WORK"], len(os.listdir("/proc/self/fd")))
sys.stderr.write("err")
if what.startswith("-"):
    os.kill(os.getpid(), -int(what))
sys.exit(int(what))
"""
    async with Bench(tmp_path, command=python(tmp_path, script)) as bench:
        outcome, output = await bench.run(b"0")
        assert (outcome.state, outcome.exit_code, outcome.value) == (AttemptState.SUCCEEDED, 0, None)
        assert output == "0 True 4\nerr"  # the fourth descriptor is the listing's own
        outcome, _ = await bench.run(b"7")
        assert (outcome.exit_code, outcome.error) == (7, JobError(type="exit_code", message="err"))
        outcome, _ = await bench.run(b"-9")
        assert (outcome.exit_code, outcome.error) == (
            -9,
            JobError(type="signal", message="killed by SIGKILL (signal 9)"),
        )


async def test_a_broken_pipe_ends_an_executable_as_in_a_shell(tmp_path: Path) -> None:
    """Python ignores SIGPIPE, and exec keeps that, so `yes | head` would never end."""
    async with Bench(tmp_path, command=("sh", "-c", "kill -PIPE $$")) as bench:
        assert (await bench.run())[0].exit_code == -13


async def test_a_program_that_vanished_fails_its_job_alone(tmp_path: Path) -> None:
    tool = tmp_path / "tool.sh"
    tool.write_text("#!/bin/sh\necho here\n")
    tool.chmod(0o755)
    async with Bench(tmp_path, command=("./tool.sh",)) as bench:
        tool.rename(tmp_path / "elsewhere.sh")
        outcome, _ = await bench.run()
        assert outcome.error is not None
        assert (outcome.state, outcome.error.type) == (AttemptState.FAILED, "cannot_start")
        assert "tool.sh" in outcome.error.message
        (tmp_path / "elsewhere.sh").rename(tool)
        assert (await bench.run())[1] == "here\n"


async def test_a_fork_that_the_system_refuses_fails_its_attempt_alone(tmp_path: Path) -> None:
    module = """
import os
fork = os.fork
def refuse():
    os.fork = fork
    raise OSError(11, "Resource temporarily unavailable")
os.fork = refuse
def process(path): return os.getppid()
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        outcome, _ = await bench.run()
        assert (outcome.state, outcome.exit_code) == (AttemptState.FAILED, 127)
        assert outcome.error == JobError(
            type="cannot_start", message="No process could be started: Resource temporarily unavailable."
        )
        assert (await bench.run())[0].state is AttemptState.SUCCEEDED


async def test_a_config_that_cannot_be_read_fails_the_attempt_with_its_place(tmp_path: Path) -> None:
    module = "def process(path, config): return config\n"
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        bench.ledger.config = b"a: [1\nb: 2\n"
        outcome, _ = await bench.run()
        assert outcome.error is not None
        assert (outcome.state, outcome.error.type) == (AttemptState.FAILED, "config")
        bench.ledger.config = b"# only a comment\n"
        assert (await bench.run())[0].value == {}
        bench.ledger.config = b"switch: no\n"  # YAML 1.2: a word
        assert (await bench.run())[0].value == {"switch": "no"}


@pytest.mark.parametrize("daemon_ends_by_itself", [False, True])
async def test_a_daemon_holding_stdout_neither_keeps_the_job_open_nor_survives(
    tmp_path: Path, daemon_ends_by_itself: bool
) -> None:
    """Forked twice, in a session of its own, with an emptied environment, deaf to SIGTERM and SIGHUP."""
    script = f"""
import os, signal, sys, time
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(w, str(os.getpid()).encode())
        os.execve("/bin/sleep", ["sleep", "{0 if daemon_ends_by_itself else 600}"], {{}})
    os._exit(0)
os.wait()
print(os.read(r, 20).decode())
"""
    async with Bench(tmp_path, command=python(tmp_path, script)) as bench:
        outcome, output = await bench.run()
        assert outcome.state is AttemptState.SUCCEEDED
        assert not Path(f"/proc/{int(output)}").exists()  # gone before the slot reports the end


async def test_what_an_import_starts_does_not_live_on(tmp_path: Path) -> None:
    """The first attempt's end would kill it, so only the first attempt would find it."""
    module = """
import os, subprocess
child = subprocess.Popen(["sleep", "600"])
def process(path): return [child.pid, os.path.exists(f"/proc/{child.pid}")]
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        pid, is_there = (await bench.run())[0].value
        assert not is_there
        await gone(pid)


@pytest.mark.parametrize(
    ("module", "target", "expected"),
    [
        ("", "nowhere:process", "there is no module named 'nowhere' in "),
        ("import nowhere", "script:process", "ModuleNotFoundError: No module named 'nowhere' .*script.py, line 1"),
        ("\n1 / 0", "script:process", "ZeroDivisionError: division by zero .*script.py, line 2"),
        ("def (", "script:process", "SyntaxError: .*script.py, line 1"),
        ("import sys\nsys.exit(3)", "script:process", "SystemExit: 3"),
        ("import os\nos._exit(0)", "script:process", "its process ended while it was being imported"),
        ("raise ValueError('one\\ntwo')", "script:process", "ValueError: one two"),
        ("", "script:process", "the module script has no 'process'"),
        ("process = 5", "script:process", "'process' is a int, not a function"),
        ("async def process(path): ...", "script:process", "process is an async function"),
        ("async def process(path): yield path", "script:process", "process is an async function"),
        ("def process(path, speed): ...", "script:process", "its parameter 'speed' cannot be filled"),
    ],
)
async def test_an_unusable_callable_stops_start_up_with_one_line(
    tmp_path: Path, module: str, target: str, expected: str
) -> None:
    bench = Bench(tmp_path, module=module, processor=target)
    with pytest.raises(ProcessorError, match=expected) as caught:
        await bench.executor.start()
    assert "\n" not in caught.value.detail
    assert caught.value.detail.startswith(f"The processor {target} cannot be used: ")


async def test_names_of_the_standard_library_may_lie_beside_the_server(tmp_path: Path) -> None:
    """The slot itself starts without the working directory; the user's module then finds its neighbours first."""
    for name in ("json", "socket", "neighbour"):
        (tmp_path / f"{name}.py").write_text("HERE = True\n")
    module = "import neighbour\ndef process(path): return neighbour.HERE\n"
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        assert (await bench.run())[0].value is True


# Signatures. The functions are never called.


def _file_only(anything):  # type: ignore[no-untyped-def]
    ...


def _path_named(path):  # type: ignore[no-untyped-def]
    ...


def _path_as_text(path: str) -> None: ...


def _annotated(source: Path, results: Path, report: Any, config: Any, file: Any, work: Any) -> None: ...


def _annotated_as_text(source: "Path") -> None: ...


def _annotated_for_a_checker(source: "NoSuchName") -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


def _record(file: Any, *, results: Path) -> None: ...


def _config_first(config: Any, source: str) -> None: ...


def _config_alone(config: Any) -> None: ...


def _positional_only(source: str, /, config: Any) -> None: ...


def _keyword_only(*, source: str) -> None: ...


def _any_number(*sources: str) -> None: ...


def _with_defaults(source: str, size: int = 3, work: Any = None) -> None: ...


def _file_by_default(file: Any = None) -> None: ...


def _nothing() -> None: ...


def _two_positional_only(source: str, config: Any, /) -> None: ...


def _unfillable(source: str, size: int) -> None: ...


def _no_file(size: int = 3) -> None: ...


@pytest.mark.parametrize(
    ("function", "plan"),
    [
        (_file_only, {"anything": "str"}),
        (_path_named, {"path": "path"}),
        (_path_as_text, {"path": "str"}),
        (
            _annotated,
            {
                "source": "path",
                "results": "results",
                "report": "report",
                "config": "config",
                "file": "file",
                "work": "work",
            },
        ),
        (_annotated_as_text, {"source": "path"}),
        (_annotated_for_a_checker, {"source": "str"}),
        (_record, {"file": "file", "results": "results"}),
        (_config_first, {"config": "config", "source": "str"}),
        (_config_alone, {"config": "str"}),
        (_positional_only, {None: "str", "config": "config"}),
        (_keyword_only, {"source": "str"}),
        (_any_number, {None: "str"}),
        (_with_defaults, {"source": "str", "work": "work"}),
        (_file_by_default, {"file": "file"}),
        (_nothing, {}),
        (os.path.getsize, {"filename": "str"}),
    ],
)
@pytest.mark.parametrize("is_decorated", [False, True])
def test_parameters_are_filled_by_place_and_name(
    function: Any, plan: dict[str | None, str], is_decorated: bool
) -> None:
    """Also those of a decorated function, which only `inspect` can find."""
    if is_decorated:
        inner = function
        function = functools.wraps(inner)(lambda *given, **named: inner(*given, **named))
    assert bind(function) == plan


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (_unfillable, "its parameter 'size' cannot be filled"),
        (_no_file, "it takes no file"),
        (_two_positional_only, "only its first parameter may be positional-only"),
    ],
)
def test_a_signature_that_cannot_be_filled_is_refused(function: Any, sentence: str) -> None:
    with pytest.raises(Unusable, match=sentence):
        bind(function)


async def _asynchronous(path: str) -> None: ...


async def _generates(path: str) -> AsyncIterator[str]:
    yield path


class _Asynchronous:
    async def __call__(self, path: str) -> None: ...


_asynchronous_object = _Asynchronous()
_asynchronous_in_part = functools.partial(_asynchronous, "path")


@pytest.mark.parametrize("name", ["", "_generates", "_object", "_in_part"])
def test_an_asynchronous_callable_is_refused(name: str) -> None:
    target = name if name == "_generates" else f"_asynchronous{name}"
    with pytest.raises(Unusable, match="is an async function"):
        find_callable(f"{__name__}:{target}")


def test_a_callable_may_lie_inside_a_class() -> None:
    assert find_callable("pathlib:Path.home")() == Path.home()


async def test_the_file_record_tells_all_there_is(tmp_path: Path) -> None:
    module = """
def process(file):
    return [file.name, open(file).read(), str(file.path), file.size, file.sha256, file.job_id, file.submission_id,
            file.attempt, file.client.ip, file.client.host]
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        job_id = bench.submit(b"abc")
        outcome = await bench.ledger.settled(job_id)
        order = bench.ledger.orders[job_id]
        path = str(tmp_path / "blobs" / order.blob)
        expected = ["a file.txt", "abc", path, 3, order.sha256, job_id, order.submission_id, 1]
        assert outcome.value == [*expected, "192.0.2.7", "pc7.lab.example"]


RETURNED = """
import asyncio, concurrent.futures, contextlib, functools, os, sys, threading

def process(path, results, report):
    return WAYS[path.read_text()](results, report)

async def coroutine(results, report):
    print("run")

def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)
    return wrapper

async def async_generator(results, report):
    yield "run"

class Awaitable:
    def __await__(self):
        yield

@contextlib.contextmanager
def manager(results, report):
    print("run")
    yield

@contextlib.asynccontextmanager
async def async_manager(results, report):
    yield

class Manager:
    def __enter__(self):
        print("run")
    def __exit__(self, *_):
        pass

def entered(results, report):
    with manager(results, report) as _:
        pass
    made = manager(results, report)
    with made:
        pass
    return made

def opened(results, report):
    return open(results / "out.txt", "w")

def steps(results, report):
    report(2, 5, "reported")
    yield "first"
    yield 3
    yield b"bytes"
    yield ("a", 1)
    (results / "out.txt").write_text("x")
    yield "last"
    return {"n": 1}

def failing(results, report):
    yield "first"
    raise ValueError("no such luck")

def nested(results, report):
    yield "outer"
    return steps(results, report)

def delegating(results, report):
    value = yield from steps(results, report)
    return value

class Callable:
    def __call__(self, results, report):
        return steps(results, report)

def exiting(results, report):
    yield "first"
    sys.exit(3)

WAYS = {
    "coroutine": coroutine,
    "decorated coroutine": decorated(coroutine),
    "partial coroutine": functools.partial(coroutine),
    "async generator": async_generator,
    "awaitable": lambda *a: Awaitable(),
    "manager": manager,
    "async manager": async_manager,
    "manager of a class": lambda *a: Manager(),
    "closing": lambda results, report: contextlib.closing(open(os.devnull)),
    "entered": entered,
    "opened": opened,
    "path": lambda results, report: results,  # a Path can be entered up to Python 3.12
    "executor": lambda *a: concurrent.futures.ThreadPoolExecutor(),
    "lock": lambda *a: threading.Lock(),
    "steps": steps,
    "decorated steps": decorated(steps),
    "partial steps": functools.partial(steps),
    "steps of an object": Callable(),
    "steps of a lambda": lambda *a: (lambda: steps(*a))(),
    "nested": nested,
    "delegating": delegating,
    "failing": failing,
    "exiting": exiting,
    "map": lambda results, report: map(lambda name: (results / name).write_text("x"), ["a.txt", "b.txt"]),
}
"""


@pytest.mark.parametrize("fresh_process", [False, True])
async def test_a_returned_coroutine_or_context_manager_fails_with_a_sentence(
    tmp_path: Path, fresh_process: bool
) -> None:
    """Nothing of it has run, and nothing would ever run it."""
    async with Bench(tmp_path, module=RETURNED, processor="script:process", fresh_process=fresh_process) as bench:
        for way, sentence in {
            "coroutine": "a coroutine that nothing awaits; call asyncio.run() in it",
            "decorated coroutine": "a coroutine that nothing awaits",
            "partial coroutine": "a coroutine that nothing awaits",
            "awaitable": "a Awaitable that nothing awaits",
            "async generator": "an async_generator that nothing iterates",
            "manager": "a context manager (_GeneratorContextManager) that nothing enters",
            "async manager": "a context manager (_AsyncGeneratorContextManager) that nothing enters",
            "manager of a class": "a context manager (Manager) that nothing enters",
            "closing": "a context manager (closing) that nothing enters",
        }.items():
            outcome, output = await bench.run(way.encode())
            assert outcome.error is not None, way
            assert (outcome.state, outcome.exit_code, outcome.error.type) == (AttemptState.FAILED, 1, "nothing_run")
            assert sentence in outcome.error.message
            assert output == f"dropmill: {outcome.error.message}\n"
        for way in ("entered", "opened", "path", "executor", "lock"):  # what it was made for is done
            outcome, _ = await bench.run(way.encode())
            assert (outcome.state, outcome.value) == (AttemptState.SUCCEEDED, None), way


@pytest.mark.parametrize("fresh_process", [False, True])
async def test_a_generator_is_run_to_its_end_and_its_texts_are_labels(tmp_path: Path, fresh_process: bool) -> None:
    """The numbers of the bar stay as the script has reported them; what else it yields is ignored."""
    async with Bench(tmp_path, module=RETURNED, processor="script:process", fresh_process=fresh_process) as bench:
        ways = ("steps", "decorated steps", "partial steps", "steps of an object", "steps of a lambda", "delegating")
        for way in (*ways, "nested"):
            bench.bus.reports.clear()
            outcome, output = await bench.run(way.encode())
            assert (outcome.state, outcome.value, output) == (AttemptState.SUCCEEDED, {"n": 1}, ""), way
            assert [result.path for result in outcome.results] == ["out.txt"]
            newest = bench.bus.reports[-1][1]
            assert (newest.value, newest.total, newest.label) == (2, 5, "last"), way
        outcome, output = await bench.run(b"failing")
        assert outcome.error == JobError(type="ValueError", message="no such luck")
        assert "dropmill/slot/" not in output
        outcome, _ = await bench.run(b"exiting")
        assert (outcome.state, outcome.exit_code) == (AttemptState.FAILED, 3)
        outcome, _ = await bench.run(b"map")
        assert {result.path for result in outcome.results} == {"a.txt", "b.txt"}


async def test_a_generator_function_is_a_processor(tmp_path: Path) -> None:
    module = "def process(path):\n    yield 'half'\n"
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        outcome, _ = await bench.run()
        assert outcome.state is AttemptState.SUCCEEDED
        assert bench.bus.reports[-1][1].label == "half"


CLOSES = """
import os

def process(path, results, report):
    what = path.read_text()
    os.closerange(3, 65536)
    if what == "reuses":  # our numbers, for its own files
        files = [open(results / f"{n}.txt", "w") for n in range(20)]
    report(1, 2, "closed")
    if what == "fails":
        raise ValueError("no such luck")
    return what
"""


@pytest.mark.parametrize("fresh_process", [False, True])
async def test_closerange_in_a_callable_does_not_keep_it_from_reporting(tmp_path: Path, fresh_process: bool) -> None:
    """It closes the report pipe, too; neither is the job's end lost, nor is it written into a file of the script's."""
    async with Bench(tmp_path, module=CLOSES, processor="script:process", fresh_process=fresh_process) as bench:
        for what in ("returns", "reuses"):
            outcome, output = await bench.run(what.encode())
            assert (outcome.state, outcome.exit_code, outcome.value, output) == (AttemptState.SUCCEEDED, 0, what, "")
            assert sum(result.size for result in outcome.results) == 0
            assert bench.bus.reports[-1][1].label == "closed"
        outcome, output = await bench.run(b"fails")
        assert outcome.error == JobError(type="ValueError", message="no such luck")
        assert output.endswith("ValueError: no such luck\n")


BREAKS = """
import atexit, contextlib, gc, io, json, logging, os, signal, sys, threading, time, traceback, weakref

def broken(*_, **__):
    raise RuntimeError("broken by the script")

def process(path):
    what = path.read_text()
    print("printed before", end="")
    for module in (atexit, contextlib, gc, io, json, json.encoder, logging, os, signal, threading, time, traceback,
                   weakref, sys.modules.get("_signal"), sys.modules["dropmill.slot.protocol"].json):
        for name, value in list(vars(module).items()):
            if callable(value) and not isinstance(value, type):
                setattr(module, name, broken)
    sys.modules.clear()
    if what == "raises":
        raise ValueError("no such luck")
    if what == "exits":
        sys.exit(3)
    if what == "leaves":
        raise SystemExit("sorry")
    return None if what == "returns" else {"what": what}
"""


async def test_a_script_that_breaks_the_standard_library_has_its_own_outcome(tmp_path: Path) -> None:
    async with Bench(tmp_path, module=BREAKS, processor="script:process") as bench:
        outcome, output = await bench.run(b"returns")
        assert (outcome.state, outcome.exit_code, outcome.error) == (AttemptState.SUCCEEDED, 0, None)
        assert "printed before" in output
        outcome, output = await bench.run(b"returns something")
        assert (outcome.state, outcome.exit_code, outcome.error) == (AttemptState.SUCCEEDED, 0, None)
        assert "printed before" in output
        outcome, output = await bench.run(b"raises")
        assert (outcome.exit_code, outcome.error) == (1, JobError(type="ValueError", message="no such luck"))
        outcome, _ = await bench.run(b"exits")
        assert (outcome.state, outcome.exit_code) == (AttemptState.FAILED, 3)
        outcome, _ = await bench.run(b"leaves")
        assert (outcome.exit_code, outcome.error) == (1, JobError(type="SystemExit", message="sorry"))
        assert [n for n in bench.ledger.numbers.values() if n > 1] == []  # none was lost
