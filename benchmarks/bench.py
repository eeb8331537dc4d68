"""What every benchmark is given: how much to do, where, the client processes, and servers that end with it."""

import functools
import hashlib
import json
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
MIB, GIB = 2**20, 2**30
SUBMISSIONS = "/api/v1/submissions"


class Wrong(Exception):
    """A server did not do what it is measured for."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much work there is. Sizes in bytes, multiples of a MiB; `huge_bytes` None: not measured."""

    upload_bytes: int
    huge_bytes: int | None
    files: int
    single_files: int
    requests: int
    page_upload_bytes: int
    page_files: int
    history_jobs: int
    queued_jobs: int
    peer_parallel_bytes: int
    peer_files: int
    config_lines: int


FULL = Scale(
    upload_bytes=GIB,
    huge_bytes=4 * GIB,
    files=1000,
    single_files=100,
    requests=400,
    page_upload_bytes=512 * MIB,
    page_files=10_000,
    history_jobs=100_000,
    queued_jobs=10_000,
    peer_parallel_bytes=128 * MIB,
    peer_files=2000,
    config_lines=20_000,
)
QUICK = Scale(
    upload_bytes=128 * MIB,
    huge_bytes=None,
    files=200,
    single_files=20,
    requests=100,
    page_upload_bytes=64 * MIB,
    page_files=500,
    history_jobs=5000,
    queued_jobs=500,
    peer_parallel_bytes=16 * MIB,
    peer_files=200,
    config_lines=4000,
)


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

    def __init__(self, *, folder: Path, rounds: int, scale: Scale, processes: int = PROCESSES) -> None:
        """Start `processes` clients. `folder` takes everything that is written; whoever made it deletes it."""
        self.folder = folder
        self.rounds = rounds
        self.scale = scale
        self.commands: list[str] = []
        self._source = ROOT
        self._work: dict[str, Work] = {}
        self._programs = 0
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

    def say(self, text: str) -> None:
        """Progress, for who waits."""
        print(f"... {text}", file=sys.stderr, flush=True)

    # --- work --------------------------------------------------------------------------------------------------------

    @contextmanager
    def work(self, label: str, program: Program, amount: float, unit: str) -> Iterator[Work]:
        """Mark work of a server of ours, so that two trees can be compared by it; times are known at its end."""
        work = Work(amount=amount, unit=unit)
        cpu_s, began = program.cpu_s() + program.children_cpu_s(), time.perf_counter()
        yield work
        work.wall_s = time.perf_counter() - began
        work.cpu_s = program.cpu_s() + program.children_cpu_s() - cpu_s
        self._work[label] = work

    def marked_work(self, tree: Path, run: Callable[["Bench"], None]) -> dict[str, Work]:
        """The work that `run` marks, by servers with the code of a tree."""
        self._source, self._work = tree, {}
        run(self)
        return self._work

    # --- servers -----------------------------------------------------------------------------------------------------

    def dropmill(self, processor: str, *flags: str) -> Program:
        """A `dropmill serve` in an empty data folder.

        Args:
            processor: a function of `benchmarks.processors`, or `MODULE:FUNCTION` in another module of `benchmarks`.
            flags: more words for its command line.
        """
        module, _, function = processor.rpartition(":")
        target = f"benchmarks.{module or 'processors'}:{function}"
        return self.program(
            lambda folder: [
                *("-m", "dropmill", "serve", "--bind", "127.0.0.1:0", "--data", f"{folder}/data"),
                *("--config", f"{folder}/config.yaml", "--processor", target, *flags),
            ]
        )

    def program(self, arguments: Callable[[Path], Sequence[str]]) -> Program:
        """A Python program that serves; started here, ended by `with` or with the run."""
        self._programs += 1
        folder = self.folder / f"{self._programs}"
        folder.mkdir()
        words = list(arguments(folder))
        self._note("python", words, folder)
        return Program(words, folder, environment=self.source)

    @property
    def source(self) -> dict[str, str]:
        """The environment in which a Python has the code that is being measured, before what is installed."""
        return {"PYTHONPATH": str(self._source / "src")}

    def peer(
        self, executable: Path | str, arguments: Callable[[Path, int], Sequence[str]], **environment: str
    ) -> tuple[Program, Path]:
        """Another program that serves where it is told, and its folder. `$DIR` in the environment is that folder."""
        self._programs += 1
        folder = self.folder / f"{self._programs}"
        (folder / "files").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        words = list(arguments(folder, port))
        added = {name: value.replace("$DIR", str(folder)) for name, value in environment.items()}
        before = "".join(f"{name}={value} " for name, value in environment.items())
        self._note(before + Path(executable).name, [word.replace(str(port), "$PORT") for word in words], folder)
        return Program(words, folder, executable=executable, port=port, environment=added), folder

    def _note(self, name: str, words: Sequence[str], folder: Path) -> None:
        line = shlex.join(words).replace(str(folder), "$DIR").replace(str(ROOT), ".").replace("'", "")
        command = f"{name} {line}"
        if command not in self.commands:
            self.commands.append(command)

    # --- clients -----------------------------------------------------------------------------------------------------

    def send(self, program: Program, path: str, form: Form) -> Future[Exchange]:
        """Post a form from one of the client processes."""
        return self.in_client(client.send_form, program.port, path, form)

    def in_client(self, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> Future[R]:
        """Run a function of `benchmarks.client` in one of the client processes."""
        return self._clients.submit(call, *arguments, **named)

    def settled(self, program: Program, exchange: Exchange, files: int) -> dict[str, Any]:
        """The Submission that an upload to Dropmill made, once it settled with every job succeeded.

        Raises:
            Wrong: it was refused, or not every file came through.
        """
        submission = created(exchange)
        end = time.monotonic() + PATIENCE_S
        while True:
            # The list, because one submission by its id carries its files: asking must not cost what is measured.
            shown = get_json(program, f"{SUBMISSIONS}?limit=10")["items"]
            found: dict[str, Any] = next(item for item in shown if item["id"] == submission["id"])
            if found["state"] == "settled":
                break
            if time.monotonic() > end:
                raise Wrong(f"a submission of {files} files had not settled after {PATIENCE_S:.0f} s")
            time.sleep(0.1)
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
    exchange = client.get(program.port, path)
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


def quiet_disk() -> None:
    """Have everything written that a measurement left to be written, so that the next one does not pay for it."""
    os.sync()
