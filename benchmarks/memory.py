"""How much memory uploads take, on a quick and on a slow disk."""

import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from benchmarks import client
from benchmarks.bench import GIB, MIB, SUBMISSIONS, Bench, Wrong, remove, size_text
from benchmarks.client import BLOCK_BYTES, FORM_TYPE, Form, big_file
from benchmarks.peers import environment
from benchmarks.peers.environment import Missing
from benchmarks.programs import Program
from benchmarks.table import Table

FREE_FOR_HUGE = 3  # times the size of the one huge file

Request = tuple[str, str, str]  # method, path, headers
PUT: Request = ("PUT", "/send/file.bin", "")
FORM: Request = ("POST", SUBMISSIONS, FORM_TYPE)


def measure(bench: Bench) -> Sequence[Table]:
    """Growth for one upload and for many at once. The first of a process also loads what is loaded once."""
    scale = bench.scale
    rows, notes = [], []
    for start, (name, tree) in product(_DISKS, bench.trees.items()):
        disk = "quick" if start is _quick else f"{scale.slow_write_ms} ms a write"
        bench.say(f"memory: {name}, disk: {disk}")
        try:
            program = start(bench, tree)
        except Missing as error:
            notes.append(f"Left out: {name}, disk: {disk} ({error}).")
            continue
        with program:
            for request in (PUT, FORM):
                _growth(program, bench, request, MIB, 1)
            figures = [
                _growth(program, bench, request, size, count)
                for size, count in ((scale.crowd_one_bytes, 1), (scale.crowd_bytes, scale.crowd))
                for request in (PUT, FORM)
            ]
            rows.append((name, disk, *(f"{growth:.0f}" for growth in figures)))
            if start is _quick and tree is None and scale.huge_bytes is not None:
                notes.append(_huge(program, bench, scale.huge_bytes))
    return [
        Table(
            title=f"Memory: growth of the server while files arrive, one of {size_text(scale.crowd_one_bytes)}, and "
            f"{scale.crowd} of {size_text(scale.crowd_bytes)} at once",
            columns=(
                *("server", "disk", "one PUT, MiB", "one form, MiB"),
                *(f"{scale.crowd} PUTs, MiB", f"{scale.crowd} forms, MiB"),
            ),
            rows=rows,
            notes=["The server's own process, after a file of 1 MiB each way.", *notes],
        )
    ]


def _huge(program: Program, bench: Bench, size: int) -> str:
    """What one huge file takes, as a sentence."""
    if shutil.disk_usage(bench.folder).free < FREE_FOR_HUGE * size:
        return f"One PUT of {size_text(size)} was left out: the disk has less than {FREE_FOR_HUGE} times its size."
    growth = _growth(program, bench, PUT, size, 1)
    for path in (program.folder / "data" / "blobs").rglob("*"):
        if path.is_file() and path.stat().st_size == size:
            remove(path)
    return f"One PUT of {size_text(size)} to this tree on a quick disk: {growth:.0f} MiB."


def run(bench: Bench) -> None:
    """Many uploads at once, marked as work."""
    scale = bench.scale
    with bench.dropmill("nothing") as program:
        for name, request in (("PUTs", PUT), ("forms", FORM)):
            _growth(program, bench, request, MIB, 1)
            with bench.work(f"{scale.crowd} {name} at once", program, scale.crowd * scale.crowd_bytes / GIB, "GiB"):
                _growth(program, bench, request, scale.crowd_bytes, scale.crowd)


def _quick(bench: Bench, tree: Path | None) -> Program:
    return bench.dropmill("nothing", tree=tree)


def _slow(bench: Bench, tree: Path | None) -> Program:
    library = str(environment.slow_disk())
    slow = {"LD_PRELOAD": library, "SLOW_MS": f"{bench.scale.slow_write_ms}", "SLOW_FOLDER": "$DIR/data/incoming"}
    return bench.dropmill("nothing", tree=tree, **slow)


_DISKS: tuple[Callable[[Bench, Path | None], Program], ...] = (_quick, _slow)


def _growth(program: Program, bench: Bench, request: Request, size: int, count: int) -> float:
    body = big_file(size) if request is FORM else Form(blocks=size // BLOCK_BYTES)
    program.reset_peak()
    before = program.resident_bytes()
    statuses = bench.in_client(client.send_crowd, program.port, *request, body, count).result()
    if set(statuses) != {201}:
        raise Wrong(f"{count} uploads at once were answered with {set(statuses)}")
    return (program.peak_bytes() - before) / MIB
