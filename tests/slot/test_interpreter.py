"""What a callable leaves to the end of the interpreter is done as `python script.py` does it, on every Python."""

import gzip
import io
import re
import signal
import textwrap
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.bench import Bench
from tests.support.waiting import eventually
from tests.support.warm_slot import VERSIONS, Ended, WarmSlot, interpreters, run_script

from dropmill.model.jobs import AttemptState
from dropmill.slot import interpreter

INSTALLED = interpreters()

# Each function is one way to leave something to the end. What it leaves is in the results folder or the output.
CASES = '''
import atexit, gc, gzip, io, logging, logging.handlers, multiprocessing, os, signal, sys, tempfile, threading, time
import weakref, zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

OUT = None
CACHE = {}

class Shared:
    out = None

class Writes:
    """Writes when it dies; through another object, if there is one."""
    def __init__(self, path, out=None):
        self.path, self.out = path, out
    def __del__(self):
        if self.out is None:
            self.path.write_text("written by __del__\\n")
        else:
            self.out.write("written by __del__\\n")

def global_file(results):
    global OUT
    OUT = open(results / "out.txt", "w")
    OUT.write("important data\\n")

def file_in_a_cache(results):
    CACHE["out"] = open(results / "out.txt", "w")
    CACHE["out"].write("important data\\n")

def binary_file_of_a_class(results):
    Shared.out = open(results / "out.bin", "wb")
    Shared.out.write(b"important data")

@lru_cache
def opened(path):
    return open(path, "w")

def file_in_an_lru_cache(results):
    opened(results / "out.txt").write("important data\\n")

def file_in_a_cycle(results):
    cycle = [open(results / "out.txt", "w")]
    cycle[0].write("important data\\n")
    cycle.append(cycle)

def at_exit(results):
    atexit.register(lambda: (results / "out.txt").write_text("important data\\n"))

def at_exit_in_order(results):
    out = open(results / "out.txt", "a")
    for number in range(3):
        atexit.register(lambda n=number: out.write(f"{n}\\n"))

def at_exit_prints(results):
    atexit.register(print, "printed at exit")

def at_exit_unregistered(results):
    def write():
        (results / "out.txt").write_text("never\\n")
    atexit.register(write)
    atexit.unregister(write)

def at_exit_raises(results):
    atexit.register(lambda: (results / "out.txt").write_text("written after the error\\n"))
    def fail():
        raise ValueError("raised at exit")
    atexit.register(fail)

def at_exit_exits(results):
    atexit.register(sys.exit, 7)

def at_exit_leaves(results):
    atexit.register(os._exit, 9)

def pool(results):
    executor = ThreadPoolExecutor(2)
    for number in range(3):
        executor.submit(lambda n=number: (time.sleep(0.1), (results / f"{n}.txt").write_text("x")))

def idle_pool(results):
    CACHE["pool"] = ThreadPoolExecutor(2)
    CACHE["pool"].submit((results / "out.txt").write_text, "x").result()

def thread(results):
    threading.Thread(target=lambda: (time.sleep(0.2), (results / "out.txt").write_text("x"))).start()

def thread_that_registers(results):
    def work():
        time.sleep(0.1)
        atexit.register(lambda: (results / "out.txt").write_text("x"))
    threading.Thread(target=work).start()

def daemon_thread(results):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()

def process_of_its_own(results):
    context = multiprocessing.get_context("fork")
    context.Process(target=lambda: (time.sleep(0.2), (results / "out.txt").write_text("x"))).start()

def zip_left_open(results):
    global ARCHIVE
    ARCHIVE = zipfile.ZipFile(results / "out.zip", "w")
    ARCHIVE.writestr("member.txt", "important data\\n")

def zip_in_a_cache(results):
    CACHE["zip"] = zipfile.ZipFile(results / "out.zip", "w")
    CACHE["zip"].writestr("member.txt", "important data\\n")

def gzip_left_open(results):
    global OUT
    OUT = gzip.GzipFile(results / "out.gz", "wb", mtime=0)
    OUT.write(b"important data\\n")

def gzip_in_a_cache(results):
    CACHE["gzip"] = gzip.open(results / "out.gz", "wt")
    CACHE["gzip"].write("important data\\n")

def memory_handler(results):
    target = logging.FileHandler(results / "out.log")
    handler = logging.handlers.MemoryHandler(1000, target=target)
    logger = logging.getLogger("job")
    logger.addHandler(handler)
    logger.warning("important data")

def finalize(results):
    Shared.kept = Writes(results / "kept.txt")
    weakref.finalize(Shared, (results / "out.txt").write_text, "important data\\n")

def finalize_without_exit(results):
    Shared.kept = weakref.finalize(Shared, (results / "out.txt").write_text, "never\\n")
    Shared.kept.atexit = False

def dies_in_a_cycle(results):
    cycle = [Writes(results / "out.txt")]
    cycle.append(cycle)

def dies_as_a_global(results):
    global OUT
    OUT = Writes(results / "out.txt")

def dies_in_a_cache(results):
    CACHE["writes"] = Writes(results / "out.txt")

def dies_as_one_of_several(results):
    """Its finalizer needs a global that was bound since, and an object that came later."""
    class Last:
        def __del__(self):
            PLACE.write_text(f"written by __del__ with {LATER}\\n")
    global LAST, PLACE, LATER
    LAST, PLACE, LATER = Last(), results / "out.txt", [1]
    class Kept(Last):
        def __del__(self):
            PLACE.with_name("kept.txt").write_text(f"written by __del__ with {LATER}\\n")
    Shared.out = Kept()

def temporary_file(results):
    CACHE["file"] = tempfile.NamedTemporaryFile(dir=results)
    CACHE["file"].write(b"x")

def temporary_folder(results):
    CACHE["folder"] = tempfile.TemporaryDirectory(dir=results)

def replaced_stdout(results):
    sys.stdout = open(results / "out.txt", "w")
    print("important data")

def original_stdout(results):
    sys.__stdout__.write("to the original")

def c_stream(results):
    import ctypes
    ctypes.CDLL(None).printf(b"printed in C")

def exits(results):
    global_file(results)
    at_exit_prints(results)
    sys.exit(3)

def exits_with_text(results):
    global_file(results)
    sys.exit("sorry")

def fails_with_an_open_file(results):
    out = open(results / "out.txt", "w")
    out.write("important data\\n")
    at_exit_prints(results)
    raise ValueError("no such luck")

def fails_in_a_cycle(results):
    out = open(results / "out.txt", "w")
    out.write("important data\\n")
    try:
        raise ValueError("no such luck")
    except ValueError as error:
        kept = error
    raise kept

def stopped_while_waiting(results):
    """A signal handler raises while the end waits for a thread; the exit functions run all the same."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
    main = os.getpid()
    def work():
        time.sleep(0.2)
        os.kill(main, signal.SIGTERM)
        time.sleep(600)
    threading.Thread(target=work).start()
    atexit.register(lambda: (results / "out.txt").write_text("x"))
'''

SCRIPT = (
    CASES
    + """
def process(path, results):
    return globals()[path.read_text()](results)

if __name__ == "__main__":
    import pathlib
    process(*map(pathlib.Path, sys.argv[1:]))
"""
)
# Python closes the lower half of such a file first and loses what is buffered; here it is kept.
BETTER = {"file_in_a_cycle": {"out.txt": b"important data\n"}}
NAMES = re.findall(r"^def (\w+)\(results\):", CASES, re.MULTILINE)


def complete(name: str, data: bytes) -> bytes:
    """What a file holds; archives are read, because they also hold the time."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            return b"".join(archive.read(member) for member in archive.namelist())
    return gzip.decompress(data) if name.endswith(".gz") else data


def last_lines(output: str) -> list[str]:
    """Output without the places in a traceback and without the addresses of objects."""
    lines = [line for line in output.splitlines() if not line.startswith(("  ", "Exception ignored", "Traceback"))]
    return [re.sub("0x[0-9a-f]+", "0x", line) for line in lines]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How each case ends as `python script.py`."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "script.py").write_text(SCRIPT)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(NAMES, pool.map(lambda name: run_script(folder / name, name), NAMES), strict=True))


@pytest.mark.parametrize("version", sorted(INSTALLED))
def test_a_job_ends_its_part_of_the_interpreter_as_a_script_does(
    tmp_path: Path, version: str, scripts: dict[str, Ended]
) -> None:
    """Every case, one after the other in one slot: the same files, output and exit code as by `python script.py`."""
    (tmp_path / "script.py").write_text(SCRIPT)
    with WarmSlot(tmp_path, INSTALLED[version]) as slot:
        for name, expected in scripts.items():
            found = slot.run(name)
            assert found.exit_code == expected.exit_code, (name, found)
            assert sorted(found.results) == sorted(expected.results), (name, found)
            for file, data in BETTER.get(name, expected.results).items():
                assert complete(file, found.results[file]) == complete(file, data), (name, file)
            assert last_lines(found.output) == last_lines(expected.output), name
            has_value = found.reports == ("vnull",)
            assert has_value or re.match(r'e\["(ValueError|SystemExit)"|$', "".join(found.reports)), (
                name,
                found.reports,
            )
        assert slot.said() == ""


@pytest.mark.parametrize("version", sorted(INSTALLED))
def test_the_private_names_exist_in_each_supported_python(tmp_path: Path, version: str) -> None:
    source = Path(interpreter.__file__).read_text()
    (tmp_path / "script.py").write_text(
        f"names = {{'__name__': 'interpreter', '__file__': {interpreter.__file__!r}}}\n"
        f"exec(compile({source!r}, 'interpreter', 'exec'), names)\n"
        "def process(path, results): return names['missing_private_names']()\n"
    )
    with WarmSlot(tmp_path, INSTALLED[version]) as slot:
        assert slot.run("").reports == ("v[]",)


def test_this_python_is_a_supported_one() -> None:
    assert set(INSTALLED) <= set(VERSIONS)
    assert INSTALLED


KEEPS = '''
import atexit, logging, logging.handlers, os, pathlib, tempfile, weakref

HERE = pathlib.Path(__file__).parent
TEMPORARY = tempfile.TemporaryDirectory(dir=HERE)

def forgotten():
    """A folder that only the exit function keeps alive."""
    folder = tempfile.TemporaryDirectory(dir=HERE)
    atexit.register(folder.cleanup)
    return folder.name

FORGOTTEN = forgotten()

class Dies:
    def __del__(self):
        with open(HERE / "died.txt", "a") as out:
            out.write("died\\n")

DIES = Dies()
weakref.finalize(DIES, (HERE / "finalized.txt").write_text, "x")
atexit.register((HERE / "exited.txt").write_text, "x")
OUT = open(HERE / "import.txt", "a")
OUT.write("from the import\\n")
COMPRESSED = __import__("gzip").open(HERE / "import.gz", "wb")
COMPRESSED.write(b"x" * 1000)
TARGET = logging.FileHandler(HERE / "import.log")
HANDLER = logging.handlers.MemoryHandler(1000, target=TARGET)
logging.getLogger("job").addHandler(HANDLER)
logging.getLogger("job").warning("from the import")
print("printed while it is imported", end="")

def process(path, results):
    global OUT, DIES, NEW, OWN
    OWN = tempfile.TemporaryDirectory(dir=HERE, prefix="own-")  # has finalizers run at the end, the import's included
    what = path.read_text()
    OUT.write(f"from {what}\\n")
    logging.getLogger("job").warning(f"from {what}")
    NEW = Dies() if what == "the last" else None
    DIES = OUT = None
    return [os.path.isdir(TEMPORARY.name), os.path.isdir(FORGOTTEN)]
'''


@pytest.mark.parametrize("version", sorted(INSTALLED))
def test_what_the_module_made_while_it_was_imported_stays_for_the_next_job(tmp_path: Path, version: str) -> None:
    """Its temporary folders, exit functions and finalizers; its buffers are written once, the jobs' own each time."""
    (tmp_path / "script.py").write_text(KEEPS)
    with WarmSlot(tmp_path, INSTALLED[version]) as slot:
        compressed = (tmp_path / "import.gz").read_bytes()
        for what in ("the first", "the second", "the last"):
            assert slot.run(what).reports == ("v[true, true]",)
            assert list(tmp_path.glob("own-*")) == []
        assert slot.said() == "printed while it is imported"
        lines = ["from the import", "from the first", "from the second", "from the last"]
        assert (tmp_path / "import.txt").read_text().splitlines() == lines
        assert (tmp_path / "import.log").read_text().splitlines() == lines
        assert (tmp_path / "import.gz").read_bytes() == compressed
        assert (tmp_path / "died.txt").read_text() == "died\n"  # the last job's own
        assert not (tmp_path / "finalized.txt").exists()
        assert not (tmp_path / "exited.txt").exists()


def test_a_file_that_cannot_be_flushed_at_the_end_is_reported(tmp_path: Path) -> None:
    """Python itself would lose it without a word."""
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            """
            def process(path):
                global out
                out = open("/dev/full", "w")
                out.write("lost")
                keep.append(out)
            keep = []
            """
        )
    )
    with WarmSlot(tmp_path) as slot:
        ended = slot.run("")
    assert "Exception ignored in: <_io.TextIOWrapper name='/dev/full'" in ended.output
    assert "No space left on device" in ended.output


# The same through a whole engine: what is offered, shown and recorded.

FOUND = """
import atexit
from concurrent.futures import ThreadPoolExecutor

OUT = None


def global_file(path, results):
    global OUT
    OUT = open(results / "out.txt", "w")
    OUT.write("important data\\n")


def at_exit(path, results):
    atexit.register(lambda: (results / "out.txt").write_text("important data\\n"))


def pool(path, results):
    import time

    executor = ThreadPoolExecutor(2)
    for number in range(3):
        executor.submit(lambda n=number: (time.sleep(0.2), (results / f"{n}.txt").write_text("x")))
"""


@pytest.mark.parametrize("fresh_process", [False, True])
@pytest.mark.parametrize(
    ("function", "expected"),
    [("global_file", {"out.txt": 15}), ("at_exit", {"out.txt": 15}), ("pool", {"0.txt": 1, "1.txt": 1, "2.txt": 1})],
)
async def test_what_the_end_of_the_interpreter_writes_is_offered(
    tmp_path: Path, function: str, expected: dict[str, int], fresh_process: bool
) -> None:
    async with Bench(tmp_path, module=FOUND, processor=f"script:{function}", fresh_process=fresh_process) as bench:
        for _ in range(2):
            outcome, output = await bench.run()
            assert (outcome.state, output) == (AttemptState.SUCCEEDED, "")
            assert {result.path: result.size for result in outcome.results} == expected


ENDS = """
import atexit, os, signal, sys, threading, time

def process(path, report, results):
    what = path.read_text()
    report(3, 10, "working")
    globals()[what](results)
    return what

def print_at_exit(results):
    atexit.register(print, "printed at exit")

def exit_early(results):
    print_at_exit(results)
    sys.exit(4)

def wait_for_threads(results):
    go_on = os.path.join(os.path.dirname(__file__), "go_on")
    def work():
        while not os.path.exists(go_on):
            time.sleep(0.01)
    for _ in range(2):
        threading.Thread(target=work).start()

def hang_in_a_thread(results):
    threading.Thread(target=time.sleep, args=(600,)).start()

def hang_at_exit(results):
    atexit.register(time.sleep, 600)

class Hangs:
    def __del__(self):
        print("dying", flush=True)
        time.sleep(600)

def hang_in_a_finalizer(results):
    cycle = [Hangs()]
    cycle.append(cycle)
"""


@pytest.mark.parametrize("fresh_process", [False, True])
async def test_the_end_is_part_of_the_attempt(tmp_path: Path, fresh_process: bool) -> None:
    """Its output is captured, its exit code stays, and the page says what it waits for."""
    async with Bench(tmp_path, module=ENDS, processor="script:process", fresh_process=fresh_process) as bench:
        outcome, output = await bench.run(b"print_at_exit")
        assert (outcome.state, outcome.value, output) == (AttemptState.SUCCEEDED, "print_at_exit", "printed at exit\n")
        outcome, output = await bench.run(b"exit_early")
        assert (outcome.state, outcome.exit_code, output) == (AttemptState.FAILED, 4, "printed at exit\n")
        job_id = bench.submit(b"wait_for_threads")
        expected = (3, 10, "waiting for 2 threads")
        await eventually(lambda: any((r.value, r.total, r.label) == expected for _, r in bench.bus.reports))
        assert not bench.ledger.states[job_id].is_final
        (tmp_path / "go_on").touch()
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, outcome.value) == (AttemptState.SUCCEEDED, "wait_for_threads")


@pytest.mark.parametrize("what", ["hang_in_a_thread", "hang_at_exit", "hang_in_a_finalizer"])
@pytest.mark.parametrize("fresh_process", [False, True])
async def test_an_end_that_hangs_is_ended_by_timeout_and_cancel(tmp_path: Path, what: str, fresh_process: bool) -> None:
    options: dict[str, Any] = {"module": ENDS, "processor": "script:process", "fresh_process": fresh_process}
    async with Bench(tmp_path, timeout=1, grace=60, **options) as bench:
        outcome, _ = await bench.run(what.encode())
        assert outcome.error is not None
        assert (outcome.error.type, outcome.exit_code) == ("timed_out", -signal.SIGTERM)
    async with Bench(tmp_path, grace=60, **options) as bench:
        job_id = bench.submit(what.encode())
        await eventually(lambda: any(report.label == "working" for _, report in bench.bus.reports))
        bench.cancel(job_id)
        outcome = await bench.ledger.settled(job_id)
        assert outcome.state is AttemptState.CANCELLED


async def test_a_python_that_lacks_private_names_is_reported_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(threading, "_shutdown")
    async with Bench(tmp_path, module=ENDS, processor="script:process"):
        assert "this Python lacks threading._shutdown" in caplog.text
        assert "--fresh-process" in caplog.text


def test_without_private_names_threads_are_waited_for_and_files_flushed(tmp_path: Path) -> None:
    module = "import threading\ndel threading._shutdown\n" + SCRIPT
    (tmp_path / "script.py").write_text(module)
    with WarmSlot(tmp_path) as slot:
        assert slot.run("global_file").results == {"out.txt": b"important data\n"}
        assert slot.run("thread").results == {"out.txt": b"x"}
        assert slot.run("zip_in_a_cache").results.keys() == {"out.zip"}
