"""What every benchmark is given: how much to do, where, the client processes, and servers that end with it."""

import functools
import hashlib
import json
import mmap
import multiprocessing
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from benchmarks import client
from benchmarks.client import BLOCK_BYTES, Exchange, Form
from benchmarks.programs import ROOT, Program

P = ParamSpec("P")
R = TypeVar("R")

CLIENTS = 4  # that send at once
PROCESSES = 8  # of clients; who compares servers sends from all
PATIENCE_S = 120.0
SLOWEST_JOB_S = 0.1  # a job may take, all in, before a round counts as hanging
MIB, GIB = 2**20, 2**30
THIS = "Dropmill"  # this tree's name in tables
ASK_S = 0.1  # between two questions whether all is settled, so that asking costs little of what is measured
SUBMISSIONS = "/api/v1/submissions"


class Wrong(Exception):
    """A server did not do what it is measured for."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much work there is. Sizes in bytes, multiples of a MiB; `huge_bytes` None: not measured.

    Attributes:
        is_before_everywhere: whether every subject has the commit before, or `uploads` alone, and only its main ways.
        touched_bytes: memory that is used once before the first round.
        upload_bytes: of one file alone.
        parallel_bytes: of each of four and of eight at once.
        latency_bytes: of each of four beside which a page is asked for.
        drip_bytes: of one file beside slow clients.
        drip_clients: that are slow.
        form_files: of 1 KiB, in one form.
        single_files: of 1 KiB, each in a request.
        single_parts: of a form, each sent when the one before is queued.
        crowd: uploads at once whose memory is measured.
        crowd_one_bytes: of one file whose memory is compared with theirs.
        crowd_bytes: of each of them.
        slow_write_ms: what each write takes on a slow disk.
        watchers: sockets that follow one submission, one crowd after the other.
        watched_s: how long events come.
        missed_events: that clients have not seen when they come back.
    """

    is_before_everywhere: bool
    touched_bytes: int
    upload_bytes: int
    huge_bytes: int | None
    parallel_bytes: int
    latency_bytes: int
    drip_bytes: int
    drip_clients: int
    crowd: int
    crowd_one_bytes: int
    crowd_bytes: int
    slow_write_ms: int
    watchers: tuple[int, ...]
    watched_s: float
    missed_events: int
    form_files: int
    single_files: int
    single_parts: int
    jobs: int
    many_jobs: int
    requests: int
    page_files: int
    history_jobs: int
    queued_jobs: int
    config_lines: int


FULL = Scale(
    is_before_everywhere=True,
    touched_bytes=6 * GIB,
    upload_bytes=GIB,
    huge_bytes=4 * GIB,
    parallel_bytes=128 * MIB,
    latency_bytes=512 * MIB,
    drip_bytes=256 * MIB,
    drip_clients=200,
    crowd=100,
    crowd_one_bytes=64 * MIB,
    crowd_bytes=4 * MIB,
    slow_write_ms=50,
    watchers=(200, 1000),
    watched_s=8.0,
    missed_events=1000,
    form_files=2000,
    single_files=800,
    single_parts=100,
    jobs=1000,
    many_jobs=10_000,
    requests=400,
    page_files=10_000,
    history_jobs=100_000,
    queued_jobs=10_000,
    config_lines=20_000,
)
QUICK = Scale(
    is_before_everywhere=False,
    touched_bytes=256 * MIB,
    upload_bytes=32 * MIB,
    huge_bytes=None,
    parallel_bytes=8 * MIB,
    latency_bytes=16 * MIB,
    drip_bytes=16 * MIB,
    drip_clients=40,
    crowd=30,
    crowd_one_bytes=4 * MIB,
    crowd_bytes=1 * MIB,
    slow_write_ms=5,
    watchers=(50,),
    watched_s=2.0,
    missed_events=100,
    form_files=200,
    single_files=40,
    single_parts=10,
    jobs=60,
    many_jobs=150,
    requests=40,
    page_files=200,
    history_jobs=2000,
    queued_jobs=200,
    config_lines=2000,
)

# The last commit before uploads and dispatch were made quick, with which the Fast figures are compared.
BEFORE = "a0e8a5b85fe8b5696ebd323c5192aededcfd9c59"


@dataclass(kw_only=True)
class Work:
    """What a server of ours was given to do, and what it took: seconds by the clock and of CPU, all its processes.

    `amount` counts units: 1 GiB is an amount of 1 in the unit `GiB`.
    """

    amount: float
    unit: str
    wall_s: float = 0.0
    cpu_s: float = 0.0


class Bench:
    """One run of the benchmarks."""

    def __init__(
        self,
        *,
        folder: Path,
        rounds: int,
        scale: Scale,
        processes: int = PROCESSES,
        before: tuple[str, Path] | None = None,
    ) -> None:
        """Start `processes` clients.

        Args:
            folder: takes everything that is written; whoever made it deletes it.
            rounds: of each measurement.
            scale: how much work there is.
            processes: of clients.
            before: the name and the tree of an earlier commit to be measured beside this one; None leaves it out.
        """
        self.folder = folder
        self.before = before
        self.rounds = rounds
        self.scale = scale
        self.commands: list[str] = []
        self.failures: list[str] = []  # sentences; with one, the run has failed, whatever else was measured
        self._source = ROOT
        self._work: dict[str, Work] = {}
        self._programs = 0
        self._began = time.monotonic()
        self._stack = ExitStack()
        self._processes = processes
        self._clients = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        self._stack.enter_context(self._clients)
        for ready in [self._clients.submit(client.prepare) for _ in range(self._processes)]:
            ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def trees(self) -> dict[str, Path | None]:
        """The trees that are measured, by their names in tables, as `dropmill` takes them: this one and the one before.

        Without the one before if there is none, or if little is to be measured: `uploads` alone has it then.
        """
        trees: dict[str, Path | None] = {THIS: None}
        if self.before is not None and self.scale.is_before_everywhere:
            name, tree = self.before
            trees[name] = tree
        return trees

    def say(self, text: str) -> None:
        """Progress, for who waits: the seconds since the start and what comes now."""
        print(f"{time.monotonic() - self._began:5.0f} s  {text}", file=sys.stderr, flush=True)

    # --- work --------------------------------------------------------------------------------------------------------

    @contextmanager
    def work(self, label: str, program: Program, amount: float, unit: str) -> Iterator[Work]:
        """Mark work of a server of ours, so that two trees can be compared by it; times are known at its end."""
        work = Work(amount=amount, unit=unit)
        cpu_s, began = program.all_cpu_s(), time.perf_counter()
        yield work
        work.wall_s = time.perf_counter() - began
        work.cpu_s = program.all_cpu_s() - cpu_s
        self._work[label] = work

    def marked_work(self, tree: Path, run: Callable[["Bench"], None]) -> dict[str, Work]:
        """The work that `run` marks, by servers with the code of a tree."""
        self._source, self._work = tree, {}
        run(self)
        return self._work

    # --- servers -----------------------------------------------------------------------------------------------------

    def dropmill(
        self,
        processor: str,
        *flags: str,
        tree: Path | None = None,
        under: Sequence[str] = (),
        **environment: str,
    ) -> Program:
        """A `dropmill serve` in an empty data folder.

        Args:
            processor: a function of `benchmarks.processors`, or `MODULE:FUNCTION` in another module of `benchmarks`.
            flags: more words for its command line.
            tree: whose code it runs; None: that of the tree which is being measured.
            under: a command that runs it and leaves it the process that was started.
            environment: more of it; `$DIR` in a value is the server's folder.
        """
        module, _, function = processor.rpartition(":")
        target = f"benchmarks.{module or 'processors'}:{function}"

        def arguments(folder: Path) -> list[str]:
            return [
                *("-m", "dropmill", "serve", "--bind", "127.0.0.1:0", "--data", f"{folder}/data"),
                *("--config", f"{folder}/config.yaml", "--processor", target, *flags),
            ]

        return self.program(arguments, tree=tree, under=under, **environment)

    def program(
        self,
        arguments: Callable[[Path], Sequence[str]],
        *,
        tree: Path | None = None,
        under: Sequence[str] = (),
        **environment: str,
    ) -> Program:
        """A Python program that serves; started here, ended by `with` or with the run. Arguments as of `dropmill`."""
        folder = self._next_folder()
        words = list(arguments(folder))
        shown = dict(environment)
        if tree not in (None, self._source):
            shown["PYTHONPATH"] = "$BEFORE/src"
        self._note(shlex.join([*(f"{name}={value}" for name, value in shown.items()), *under, "python"]), words, folder)
        added = {name: value.replace("$DIR", str(folder)) for name, value in environment.items()}
        python = [*under, sys.executable]
        return Program(
            [*python[1:], *words], folder, executable=python[0], environment={**self._code_of(tree), **added}
        )

    @property
    def source(self) -> dict[str, str]:
        """The environment in which a Python has the code that is being measured, before what is installed."""
        return self._code_of(None)

    def _code_of(self, tree: Path | None) -> dict[str, str]:
        return {"PYTHONPATH": str((tree or self._source) / "src")}

    def _next_folder(self) -> Path:
        self._programs += 1
        folder = self.folder / f"{self._programs}"
        folder.mkdir()
        return folder

    def peer(
        self,
        executable: Path | str,
        arguments: Callable[[Path, int], Sequence[str]],
        *,
        has_workers: bool = False,
        **environment: str,
    ) -> tuple[Program, Path]:
        """Another program that serves where it is told, and its folder, which has a folder `files`.

        `$DIR` in the environment is that folder. `has_workers` as of `Program`.
        """
        folder = self._next_folder()
        (folder / "files").mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        words = list(arguments(folder, port))
        added = {name: value.replace("$DIR", str(folder)) for name, value in environment.items()}
        before = "".join(f"{name}={value} " for name, value in environment.items())
        self._note(before + Path(executable).name, [word.replace(str(port), "$PORT") for word in words], folder)
        program = Program(words, folder, executable=executable, port=port, environment=added, has_workers=has_workers)
        return program, folder

    def _note(self, name: str, words: Sequence[str], folder: Path) -> None:
        command = f"{name} {shlex.join(words)}".replace(str(folder), "$DIR").replace(str(self.folder), "$DIR/..")
        command = command.replace(f"{ROOT}/", "").replace("'", "")
        if command not in self.commands:
            self.commands.append(command)

    # --- clients -----------------------------------------------------------------------------------------------------

    def send(self, program: Program, path: str, form: Form) -> Future[Exchange]:
        """Post a form from one of the client processes."""
        return self.in_client(client.send_form, program.port, path, form)

    def put(self, program: Program, path: str, size: int) -> Future[Exchange]:
        """Put a file of `size` bytes, a multiple of the block, from one of the client processes."""
        return self.in_client(client.send, program.port, "PUT", path, "", Form(blocks=size // BLOCK_BYTES))

    def in_client(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> Future[R]:
        """Run a function of `benchmarks.client` in one of the client processes."""
        return self._clients.submit(call, *arguments, **named)

    def settled(self, program: Program, exchange: Exchange, files: int) -> dict[str, Any]:
        """The Submission that an upload to Dropmill made, once it settled with every job succeeded.

        Raises:
            Wrong: it was refused, or not every file came through.
        """
        submission = created(exchange)
        patience_s = PATIENCE_S + files * SLOWEST_JOB_S
        end = time.monotonic() + patience_s
        while True:
            # The list, because one submission by its id carries its files: asking must not cost what is measured.
            shown = get_json(program, f"{SUBMISSIONS}?limit=10")["items"]
            found: dict[str, Any] = next(item for item in shown if item["id"] == submission["id"])
            if found["state"] == "settled":
                break
            if time.monotonic() > end:
                raise Wrong(f"a submission of {files} files had not settled after {patience_s:.0f} s")
            time.sleep(ASK_S)
        if found["counts"]["succeeded"] != files:
            raise Wrong(f"of {files} jobs, {found['counts']['succeeded']} succeeded: {found['counts']}")
        return found


def created(exchange: Exchange) -> dict[str, Any]:
    """The Submission in an answer.

    Raises:
        Wrong: it was refused.
    """
    if exchange.status != 201:
        raise Wrong(f"an upload was answered with {exchange.status}: {exchange.body[:200]!r}")
    answer: dict[str, Any] = json.loads(exchange.body)
    return answer


def get_json(program: Program, path: str) -> Any:
    """What a server answers at a path.

    Raises:
        Wrong: not 200.
    """
    exchange = client.get(program.port, path, is_tls=program.is_tls)
    if exchange.status != 200:
        raise Wrong(f"GET {path} was answered with {exchange.status}: {exchange.body[:200]!r}")
    return json.loads(exchange.body)


@functools.cache
def sha256_of_blocks(size: int) -> str:
    """The client's own idea of the SHA-256 of the file it sends."""
    digest = hashlib.sha256()
    for _ in range(size // BLOCK_BYTES):
        digest.update(client.block())
    return digest.hexdigest()


def size_text(size: int) -> str:
    """A number of bytes as tables show it."""
    return f"{size / GIB:g} GiB" if size >= GIB else f"{size / MIB:g} MiB"


def quiet_disk() -> None:
    """Have everything written that a measurement left to be written, so that the next one does not pay for it."""
    os.sync()


def touch_memory(size: int) -> None:
    """Use so many bytes of memory once, at most half of what is free.

    On a virtual machine the first use of a page costs its host a fault. Without this, what happens to fill the page
    cache first looks several times slower than what follows.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with mmap.mmap(-1, min(size, free // 2) // MIB * MIB or MIB) as memory:
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at] = 1


def remove(path: Path) -> None:
    """Drop a file from the page cache and remove it, so that its pages serve the next one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    path.unlink()
