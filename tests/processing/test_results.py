"""What scripts leave for download: what is taken, what is refused and said, and what never stays behind."""

import asyncio
import hashlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.bench import Bench, python
from tests.support.waiting import eventually

from dropmill.engines.disk import adoption
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.model.errors import OutOfSpace, StorageUnavailable
from dropmill.model.ids import JobId
from dropmill.model.jobs import AttemptState
from dropmill.model.uploads import StoredBlob
from dropmill.processing import results as results_module
from dropmill.processing.results import DEPTH_MAX, REFUSED_NAMED, ResultLimits, TakenOver, remove, take_over
from dropmill.settings import Settings

LIMITS = ResultLimits(count=10_000, size=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "results"
    made.mkdir()
    return made


def stored(store: DiskBlobStore) -> list[Path]:
    return [path for path in store.blobs.rglob("*") if path.is_file()]


async def taken(folder: Path, blobs: DiskBlobStore, limits: ResultLimits = LIMITS) -> dict[str, bytes]:
    """The contents of what was taken, by path; nothing was refused."""
    found = await take_over(folder, blobs, limits)
    assert (found.refused, found.error) == ((), None)
    contents = {}
    for result in found.results:
        contents[result.path] = blobs.path(result.blob).read_bytes()
        assert (result.size, result.sha256) == (
            len(contents[result.path]),
            hashlib.sha256(contents[result.path]).hexdigest(),
        )
    assert list(contents) == sorted(contents)
    return contents


async def test_files_at_every_depth_are_moved_and_the_folders_stay_empty(folder: Path, blobs: DiskBlobStore) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "top.txt").write_bytes(b"top")
    (folder / "a" / "one").write_bytes(b"1")
    (folder / "a" / "b" / "none").touch()
    assert await taken(folder, blobs) == {"a/b/none": b"", "a/one": b"1", "top.txt": b"top"}
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []
    assert {oct(path.stat().st_mode & 0o7777) for path in stored(blobs)} == {"0o400"}


async def test_no_byte_is_copied(folder: Path, blobs: DiskBlobStore) -> None:
    (folder / "a").write_bytes(b"x")
    inode = (folder / "a").stat().st_ino
    found = await take_over(folder, blobs, LIMITS)
    assert blobs.path(found.results[0].blob).stat().st_ino == inode


async def test_a_sparse_file_of_more_than_32_bits_keeps_its_size(
    folder: Path, blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing so many zeros takes long, so the reading is cut short; all the rest is real."""
    size = 5 * 2**32

    class Short(adoption.Adoption):
        def go_on(self) -> bool:
            if self._descriptor < 0:
                self._open()
            self._size = size
            self._move()
            return True

    monkeypatch.setattr(adoption, "Adoption", Short)
    with (folder / "large").open("wb") as file:
        file.truncate(size)
    found = await take_over(folder, blobs, LIMITS)
    assert [result.size for result in found.results] == [size]


ODD_NAMES: dict[bytes, str] = {
    b"new\nline": "new%0Aline",
    b"tab\tand\x7f": "tab%09and%7F",
    b"latin\xe4": "latin%E4",
    "c1\x85".encode(): "c1%C2%85",
    "é ü 漢字 \U0001f4a9".encode(): "é ü 漢字 \U0001f4a9",
    b"...": "...",
    b"..%2f..%2fetc": "..%2f..%2fetc",
    b"..\\..\\evil.exe": "..\\..\\evil.exe",
    b"C:\\x": "C:\\x",
    b"-rf *": "-rf *",
    b" ": " ",
    b"?q=1#f;&": "?q=1#f;&",
    b"x" * 255: "x" * 255,
}


async def test_names_are_text_whatever_they_were(folder: Path, blobs: DiskBlobStore) -> None:
    for number, name in enumerate(ODD_NAMES):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text(str(number))
    found = await taken(folder, blobs)
    assert found == {text: str(number).encode() for number, text in enumerate(ODD_NAMES.values())}
    for path in found:
        path.encode()


async def test_two_names_that_read_the_same_are_both_taken(folder: Path, blobs: DiskBlobStore) -> None:
    (folder / "a\n").write_bytes(b"1")
    (folder / "a%0A").write_bytes(b"2")
    found = await taken(folder, blobs)
    assert sorted(found) == ["a%0A", "a%0A (2)"]
    assert sorted(found.values()) == [b"1", b"2"]


def _symbolic_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _link_to_a_folder(path: Path) -> None:
    path.symlink_to("/etc")


def _hard_link(path: Path) -> None:
    outside = path.parents[2] / "outside"
    outside.write_text("secret")
    path.hardlink_to(outside)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "symbolic link": (_symbolic_link, "is a symbolic link"),
    "link to a folder": (_link_to_a_folder, "is a symbolic link"),
    "hard link": (_hard_link, "is linked from elsewhere"),
    "named pipe": (os.mkfifo, "is a named pipe"),
    "socket": (_socket, "is a socket"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_no_file_of_its_own_is_refused_and_named(folder: Path, blobs: DiskBlobStore, kind: str) -> None:
    make, why = REFUSED[kind]
    (folder / "sub").mkdir()
    make(folder / "sub" / "odd")
    (folder / "good").write_bytes(b"good")
    found = await take_over(folder, blobs, LIMITS)
    assert [result.path for result in found.results] == ["good"]
    assert found.refused == (f"sub/odd was not taken as a result: it {why}.",)
    assert found.note == f"dropmill: {found.refused[0]}\n"
    assert len(stored(blobs)) == 1


def as_nobody(act: Callable[[], object]) -> int:
    """Do something as an ordinary user, whom modes concern; 0 if it went well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_may_not_be_read_is_refused_and_named() -> None:
    """Files and folders without rights; as an ordinary user, whom they concern."""
    import tempfile

    base = Path(tempfile.mkdtemp())
    folder = base / "results"
    (folder / "shut").mkdir(parents=True)
    (folder / "mute").write_text("x")
    if os.getuid() == 0:
        for path in (base, *base.rglob("*")):
            os.chown(path, 65534, 65534)
    (folder / "mute").chmod(0)
    (folder / "shut").chmod(0)

    async def act() -> None:
        store = DiskBlobStore(base / "data")
        await store.open()
        found = await take_over(folder, store, LIMITS)
        await store.close()
        assert sorted(found.refused) == [
            "mute was not taken as a result: it may not be read.",
            "shut was not taken as a result: it cannot be opened (Permission denied).",
        ]

    assert as_nobody(lambda: asyncio.run(act())) == 0
    (folder / "shut").chmod(0o700)
    import shutil

    shutil.rmtree(base)


async def test_too_many_are_refused_as_a_whole(folder: Path, blobs: DiskBlobStore) -> None:
    for number in range(11):
        (folder / str(number)).touch()
    found = await take_over(folder, blobs, ResultLimits(count=10, size=None))
    assert (found.results, stored(blobs)) == ((), [])
    assert found.error is not None
    assert found.error.type == "too_many_results"
    assert "more than 10 results (--max-results)" in found.note
    (folder / "0").unlink()
    assert len(await taken(folder, blobs, ResultLimits(count=10, size=None))) == 10


async def test_too_many_folders_are_refused_too(folder: Path, blobs: DiskBlobStore) -> None:
    for number in range(11):
        (folder / str(number)).mkdir()
    found = await take_over(folder, blobs, ResultLimits(count=10, size=None))
    assert found.error is not None


async def test_too_much_is_refused_as_a_whole(folder: Path, blobs: DiskBlobStore) -> None:
    (folder / "a").write_bytes(bytes(600))
    (folder / "b").write_bytes(bytes(401))
    found = await take_over(folder, blobs, ResultLimits(count=10, size=1000))
    assert (found.results, stored(blobs)) == ((), [])
    assert found.error is not None
    assert found.error.type == "results_too_large"
    (folder / "b").write_bytes(bytes(400))
    assert len(await taken(folder, blobs, ResultLimits(count=10, size=1000))) == 2


async def test_results_are_refused_by_their_size_before_a_byte_of_them_is_read(
    folder: Path, blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, too: a sparse file takes no room and a long time to be hashed."""

    def read(*_: object) -> bytes:
        raise AssertionError("a byte was read")

    monkeypatch.setattr(os, "pread", read)
    limit = Settings().max_results_size
    assert limit == 10 * 2**30
    with (folder / "sparse").open("wb") as file:
        file.truncate(limit + 1)
    found = await take_over(folder, blobs, ResultLimits(count=10, size=limit))
    assert found.error is not None
    assert found.error.type == "results_too_large"
    assert stored(blobs) == []


async def test_a_result_that_grows_after_it_was_counted_is_not_read_beyond_the_limit(
    folder: Path, blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_bytes(bytes(600))
    (folder / "b").write_bytes(bytes(300))
    look = results_module._scan

    def grow(*args: Any) -> Any:
        found = look(*args)
        (folder / "b").write_bytes(bytes(401))
        return found

    monkeypatch.setattr(results_module, "_scan", grow)
    found = await take_over(folder, blobs, ResultLimits(count=10, size=1000))
    assert {result.path for result in found.results} == {"a"} or found.results[0].path == "b"
    assert sum(result.size for result in found.results) <= 1000
    assert len(found.refused) == 1


async def test_unrecorded_results_that_the_disk_keeps_are_removed_by_the_next_try(
    folder: Path, blobs: DiskBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_bytes(b"a")
    found = await take_over(folder, blobs, LIMITS)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        await remove(found.results, blobs)
    assert len(stored(blobs)) == 1
    assert await blobs.retry_discards() == 0
    assert stored(blobs) == []


async def test_what_lies_too_deep_or_has_too_long_a_path_is_refused_and_named(
    folder: Path, blobs: DiskBlobStore
) -> None:
    deep = folder.joinpath(*(["d"] * DEPTH_MAX))
    (deep / "deeper").mkdir(parents=True)
    (deep / "kept").touch()
    (deep / "deeper" / "lost").touch()
    long = folder.joinpath(*(["l" * 200] * 5))
    long.mkdir(parents=True)
    (long / ("x" * 100)).touch()
    found = await take_over(folder, blobs, LIMITS)
    assert [result.path for result in found.results] == ["/".join(["d"] * DEPTH_MAX) + "/kept"]
    assert len(found.refused) == 2
    assert any("deeper was not taken as a result: it lies too deep" in one for one in found.refused)
    assert any("it has too long a path" in one for one in found.refused)


async def test_a_results_folder_that_was_replaced_or_removed_has_no_results(
    tmp_path: Path, blobs: DiskBlobStore
) -> None:
    (tmp_path / "link").symlink_to("/etc")
    assert (await take_over(tmp_path / "none", blobs, LIMITS)) == TakenOver()
    found = await take_over(tmp_path / "link", blobs, LIMITS)
    assert found.results == ()
    assert "The results folder cannot be opened" in found.note


async def test_of_many_that_are_refused_the_first_are_named_and_the_rest_counted(
    folder: Path, blobs: DiskBlobStore
) -> None:
    for number in range(REFUSED_NAMED + 5):
        (folder / str(number)).symlink_to("x")
    note = (await take_over(folder, blobs, LIMITS)).note
    assert note.count("symbolic link") == REFUSED_NAMED
    assert note.endswith("dropmill: 5 more were not taken as results.\n")


class Failing(DiskBlobStore):
    """A store that takes some and then fails."""

    def __init__(self, folder: Path, after: int, error: BaseException) -> None:
        super().__init__(folder)
        self._left = after
        self._error = error

    async def adopt(self, folder: int, name: str, size_max: int | None = None) -> StoredBlob:
        if self._left == 0:
            raise self._error
        self._left -= 1
        return await super().adopt(folder, name, size_max)


@pytest.mark.parametrize("error", [OutOfSpace("The disk is full."), OSError(5, "Input/output error")])
async def test_a_disk_that_fails_half_way_leaves_nothing_in_the_store(
    folder: Path, blobs: DiskBlobStore, error: Exception
) -> None:
    for number in range(5):
        (folder / str(number)).touch()
    failing = Failing(blobs.blobs.parent, 3, error)
    found = await take_over(folder, failing, LIMITS)
    await failing.close()
    assert found.results == ()
    assert found.error is not None
    assert found.error.type == "results_not_stored"
    assert stored(blobs) == []


@pytest.fixture
async def no_descriptor_is_left() -> AsyncIterator[None]:
    await asyncio.to_thread(int)  # the thread pool is there
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("turns", range(0, 24, 3))
async def test_being_cancelled_at_any_moment_leaves_nothing(
    folder: Path, blobs: DiskBlobStore, no_descriptor_is_left: None, turns: int
) -> None:
    for number in range(3):
        (folder / str(number)).mkdir()
        (folder / str(number) / "x").write_bytes(bytes(9_000_000))
    taking = asyncio.create_task(take_over(folder, blobs, LIMITS))
    for _ in range(turns):
        await asyncio.sleep(0.001)
    taking.cancel()
    await asyncio.wait([taking])
    if taking.cancelled():
        await eventually(lambda: stored(blobs) == [])
    else:
        await remove(taking.result().results, blobs)
    assert stored(blobs) == []


# --- as part of an attempt -------------------------------------------------------------------------------------------

LEAVE = """
import os
def process(path, results):
    (results / "sub").mkdir()
    (results / "sub" / "out.txt").write_text("the result")
    (results / "passwd").symlink_to("/etc/passwd")
    print("no newline", end="", flush=True)
"""


async def test_an_attempt_ends_with_its_results_and_names_refused_files(tmp_path: Path) -> None:
    async with Bench(tmp_path, module=LEAVE, processor="script:process") as bench:
        outcome, output = await bench.run()
        assert outcome.state is AttemptState.SUCCEEDED
        (result,) = outcome.results
        assert (result.path, result.size) == ("sub/out.txt", 10)
        assert bench.store.path(result.blob).read_text() == "the result"
        assert output == "no newline\ndropmill: passwd was not taken as a result: it is a symbolic link.\n"
        assert outcome.output_size == len(output)
        await eventually(lambda: list((tmp_path / "data" / "attempts").iterdir()) == [])


async def test_a_failing_script_keeps_its_partial_results(tmp_path: Path) -> None:
    text = "import os\nopen(os.environ['DROPMILL_JOB_RESULTS'] + '/part', 'w').write('1')\nraise SystemExit(3)"
    async with Bench(tmp_path, command=python(tmp_path, text)) as bench:
        outcome, _ = await bench.run()
        assert (outcome.state, outcome.exit_code) == (AttemptState.FAILED, 3)
        assert [result.path for result in outcome.results] == ["part"]


async def test_a_script_that_times_out_keeps_its_results(tmp_path: Path) -> None:
    text = "import os, time\nopen(os.environ['DROPMILL_JOB_RESULTS'] + '/part', 'w').close()\ntime.sleep(600)"
    async with Bench(tmp_path, command=python(tmp_path, text), timeout=1, grace=0) as bench:
        outcome, _ = await bench.run()
        assert outcome.error is not None
        assert outcome.error.type == "timed_out"
        assert [result.path for result in outcome.results] == ["part"]


async def test_too_many_results_fail_a_script_that_succeeded(tmp_path: Path) -> None:
    module = "def process(path, results):\n    for n in range(9):\n        (results / str(n)).touch()\n"
    async with Bench(tmp_path, module=module, processor="script:process", max_results=8) as bench:
        outcome, output = await bench.run()
        assert (outcome.state, outcome.exit_code, outcome.results) == (AttemptState.FAILED, 0, ())
        assert outcome.error is not None
        assert outcome.error.type == "too_many_results"
        assert outcome.error.message in output
        assert stored(bench.store) == []


async def test_a_cancelled_attempt_leaves_no_results(tmp_path: Path) -> None:
    text = (
        "import os, time\nopen(os.environ['DROPMILL_JOB_RESULTS'] + '/part', 'w').close()\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    async with Bench(tmp_path, command=python(tmp_path, text), grace=0) as bench:
        job_id = bench.submit()
        await bench.output_has(job_id, "ready")
        bench.cancel(job_id)
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, outcome.results) == (AttemptState.CANCELLED, ())
        assert stored(bench.store) == []


class Gate:
    """Holds a take-over up when the script has ended, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self._open = threading.Event()
        loop = asyncio.get_running_loop()
        go_on = adoption.Adoption.go_on

        def held(adopting: adoption.Adoption) -> bool:
            loop.call_soon_threadsafe(self.reached.set)
            assert self._open.wait(10)
            self._open.clear()
            return go_on(adopting)

        monkeypatch.setattr(adoption.Adoption, "go_on", held)

    def let_one_pass(self) -> None:
        self._open.set()


SIX_HOPS = "def process(path, results):\n    (results / 'x').write_bytes(bytes(24 << 20))\n"


async def test_a_cancel_while_results_are_taken_over_ends_it_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    async with Bench(tmp_path, module=SIX_HOPS, processor="script:process") as bench:
        job_id = bench.submit()
        await gate.reached.wait()
        bench.cancel(job_id)
        gate.let_one_pass()
        outcome = await bench.ledger.settled(job_id)
        assert (outcome.state, outcome.results) == (AttemptState.CANCELLED, ())
        assert stored(bench.store) == []


async def test_a_stopping_server_does_not_wait_for_large_results_and_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    async with Bench(tmp_path, module=SIX_HOPS, processor="script:process") as bench:
        job_id = bench.submit()
        await gate.reached.wait()
        draining = asyncio.create_task(bench.executor.drain(0.0))
        await asyncio.sleep(0.01)
        gate.let_one_pass()
        await draining
        assert bench.ledger.outcomes == {}
        assert bench.ledger.states[job_id] == "running"
        assert stored(bench.store) == []


async def test_results_of_an_attempt_that_was_declared_lost_meanwhile_are_removed(tmp_path: Path) -> None:
    async with Bench(tmp_path, module=LEAVE, processor="script:process") as bench:

        def bump(job_id: JobId) -> None:
            bench.ledger.numbers[job_id] += 1  # a newer attempt holds the fencing number

        bench.ledger.on_start = lambda job_id: asyncio.get_running_loop().call_soon(bump, job_id)
        job_id = bench.submit()
        await eventually(lambda: bench.runner.active == 0 and bool(bench.ledger.started))
        await eventually(lambda: stored(bench.store) == [])
        assert (job_id, 1) not in bench.ledger.outcomes


async def test_unrecorded_results_that_a_failing_disk_keeps_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are in no job's list; the next start removes them."""

    async def refuse(blobs: DiskBlobStore, key: str) -> None:
        raise StorageUnavailable("input/output error")

    async with Bench(tmp_path, module=LEAVE, processor="script:process") as bench:

        def bump(job_id: JobId) -> None:
            bench.ledger.numbers[job_id] += 1  # a newer attempt holds the fencing number

        bench.ledger.on_start = lambda job_id: asyncio.get_running_loop().call_soon(bump, job_id)
        monkeypatch.setattr(DiskBlobStore, "discard", refuse)
        bench.submit()
        await eventually(lambda: "unrecorded results could not be removed" in caplog.text)
        bench.ledger.on_start = lambda job_id: None
        assert (await bench.run())[0].state is AttemptState.SUCCEEDED


def test_the_folder_is_never_joined_with_a_recorded_path() -> None:
    """Names go to system calls below descriptors only."""
    source = Path(results_module.__file__).read_text()
    assert ".joinpath" not in source
    assert "os.path" not in source
