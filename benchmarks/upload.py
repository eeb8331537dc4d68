"""One large file in one multipart request, beside the framework's own way and beside the bare stack."""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from benchmarks.bench import GIB, MIB, SUBMISSIONS, Bench, Wrong, created, quiet_disk, sha256_of_blocks
from benchmarks.client import Exchange, big_file
from benchmarks.programs import Program
from benchmarks.table import Table, middle

FREE_FOR_HUGE = 12 * GIB

DROPMILL = "Dropmill, multipart"
FILES = "Quart `request.files`, `save`"
RAW = "Quart, body read and dropped"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server that takes the file at `path`; `check` raises `Wrong` unless it has taken `size` bytes rightly."""

    program: Program
    path: str
    check: Callable[[Exchange, int], None]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One upload: MiB/s, CPU seconds of the server per GiB, growth of its memory in MiB."""

    speed: float
    cpu: float
    growth: float


@dataclass(kw_only=True)
class Series:
    """The uploads of one size to one target."""

    label: str
    target: Target
    size: int
    samples: list[Sample] = field(default_factory=list)


def measure(bench: Bench) -> Table:
    """Speed, CPU and memory of one upload."""
    size, huge = bench.scale.upload_bytes, bench.scale.huge_bytes
    notes = [
        "Dropmill's includes the SHA-256 (compared with the client's), fsync, ledger and the job, which ran; "
        "the others make nothing durable. Memory: the largest growth of any round, after a first upload of 1 MiB.",
    ]
    with ExitStack() as stack:
        dropmill = _dropmill(bench, stack)
        everyone = [
            Series(label=DROPMILL, target=dropmill, size=size),
            Series(label=FILES, target=_plain(bench, stack, "/files"), size=size),
            Series(label=RAW, target=_plain(bench, stack, "/raw"), size=size),
        ]
        for one in everyone:
            _upload(bench, one.target, MIB)  # loads what is loaded on first use
        for number in range(bench.rounds):
            for one in everyone:
                bench.say(f"upload, round {number + 1}: {one.label}")
                one.samples.append(_upload(bench, one.target, one.size))
        if huge is not None and shutil.disk_usage(bench.folder).free < FREE_FOR_HUGE:
            notes.append(f"{huge / GIB:g} GiB were left out: less than {FREE_FOR_HUGE // GIB} GiB of disk are free.")
        elif huge is not None:
            bench.say(f"upload: {huge / GIB:g} GiB to Dropmill")
            one = Series(label=DROPMILL, target=dropmill, size=huge)
            one.samples.append(_upload(bench, dropmill, huge))
            everyone.append(one)
    base = next(median(sample.speed for sample in one.samples) for one in everyone if one.label == FILES)
    return Table(
        title=f"Upload: one file of {_text(size)} in one request",
        columns=("target", "size", "MiB/s", "x `request.files`", "server CPU s/GiB", "memory growth, MiB"),
        rows=[
            (
                one.label,
                _text(one.size),
                middle([sample.speed for sample in one.samples]),
                f"{median(sample.speed for sample in one.samples) / base:.1f}",
                middle([sample.cpu for sample in one.samples], 2),
                f"{max(sample.growth for sample in one.samples):.0f}",
            )
            for one in everyone
        ],
        notes=notes,
    )


def run(bench: Bench) -> None:
    """One upload, marked as work."""
    with ExitStack() as stack:
        target = _dropmill(bench, stack)
        _upload(bench, target, MIB)  # loads what is loaded on first use
        with bench.work("one file in a form", target.program, bench.scale.upload_bytes / GIB, "GiB"):
            _upload(bench, target, bench.scale.upload_bytes)


def _text(size: int) -> str:
    return f"{size / GIB:g} GiB" if size >= GIB else f"{size / MIB:g} MiB"


def _upload(bench: Bench, target: Target, size: int) -> Sample:
    program = target.program
    quiet_disk()
    program.reset_peak()
    memory, cpu_s = program.resident_bytes(), program.cpu_s()
    exchange = bench.send(program, target.path, big_file(size)).result()
    target.check(exchange, size)
    return Sample(
        speed=size / MIB / exchange.seconds,
        cpu=(program.cpu_s() - cpu_s) / (size / GIB),
        growth=(program.peak_bytes() - memory) / MIB,
    )


def _dropmill(bench: Bench, stack: ExitStack) -> Target:
    program = stack.enter_context(bench.dropmill("nothing"))

    def check(exchange: Exchange, size: int) -> None:
        file = created(exchange)["files"][0]
        if (file["size"], file["sha256"]) != (size, sha256_of_blocks(size)):
            raise Wrong(f"{size} bytes were stored as {file['size']} with the SHA-256 {file['sha256']}, which is wrong")
        bench.settled(program, exchange, 1)

    return Target(program=program, path=SUBMISSIONS, check=check)


def _plain(bench: Bench, stack: ExitStack, path: str) -> Target:
    program = stack.enter_context(
        bench.program(
            lambda folder: [
                *("-m", "hypercorn", "--workers", "0", "--worker-class", "uvloop", "--bind", "127.0.0.1:0"),
                f'benchmarks.plain_quart:make_app("{folder}")',
            ]
        )
    )

    def check(exchange: Exchange, size: int) -> None:
        expected = size if path == "/files" else big_file(size).size
        if exchange.status != 200 or json.loads(exchange.body) != {"size": expected}:
            raise Wrong(f"{path} answered {exchange.status}: {exchange.body[:200]!r}, not {expected} bytes")

    return Target(program=program, path=path, check=check)
