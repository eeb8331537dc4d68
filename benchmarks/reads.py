"""The script's first read of a file that has just been stored: from the page cache, or from the disk?"""

from collections.abc import Sequence

from benchmarks.bench import GIB, MIB, SUBMISSIONS, Bench, Wrong, created, get_json, quiet_disk, remove, size_text
from benchmarks.client import block, small_files
from benchmarks.programs import Program
from benchmarks.table import Table, middle

PROCESSOR = "read_twice"


def measure(bench: Bench) -> Sequence[Table]:
    """Share of the pages that are cached, and the speed of the read, with that of a cold one; of both trees."""
    rows = []
    for name, tree in bench.trees.items():
        with bench.dropmill(PROCESSOR, tree=tree) as program:
            _small(bench, program)  # loads what is loaded on first use
            large, small = [], []
            for number in range(bench.rounds):
                bench.say(f"reads, round {number + 1}: {name}")
                large.append(_large(bench, program))
                small.append(_small(bench, program))
        size = bench.scale.upload_bytes
        rows.append(
            (
                name,
                middle([100 * value["cached"] for value in large]),
                middle([size / MIB / value["first_s"] for value in large]),
                middle([size / MIB / value["cold_s"] for value in large]),
                middle([100 * value["cached"] for value in small]),
            )
        )
    return [
        Table(
            title=f"The script's first read of a file just stored, {size_text(bench.scale.upload_bytes)} by PUT",
            columns=(
                "server",
                "cached before, %",
                "first read, MiB/s",
                "cold read, MiB/s",
                "of 1 KiB in a form cached, %",
            ),
            rows=rows,
            notes=["Cold: the same script reads again after the file was dropped from the page cache."],
        )
    ]


def run(bench: Bench) -> None:
    """A large file, stored and read by its script, marked as work."""
    with bench.dropmill(PROCESSOR) as program:
        _small(bench, program)  # loads what is loaded on first use
        with bench.work("one file stored and read twice", program, bench.scale.upload_bytes / GIB, "GiB"):
            _large(bench, program)


def _large(bench: Bench, program: Program) -> dict[str, float]:
    quiet_disk()
    size = bench.scale.upload_bytes
    submission = bench.settled(program, bench.put(program, "/send/large.bin", size).result(), 1)
    for path in (program.folder / "data" / "blobs").rglob("*"):
        if path.is_file() and path.stat().st_size == size:
            remove(path)
    return _value(program, submission["id"])


def _small(bench: Bench, program: Program) -> dict[str, float]:
    exchange = bench.send(program, SUBMISSIONS, small_files([block()[:1024]])).result()
    bench.settled(program, exchange, 1)
    return _value(program, created(exchange)["id"])


def _value(program: Program, submission_id: str) -> dict[str, float]:
    """What the script returned."""
    jobs = get_json(program, f"/api/v1/jobs?submission={submission_id}")["items"]
    value = jobs[0]["value"]
    if not isinstance(value, dict):
        raise Wrong(f"the script returned {value!r}")
    return value
