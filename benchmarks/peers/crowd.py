"""How much memory uploads take, on a quick and on a slow disk."""

from pathlib import Path

from benchmarks import client
from benchmarks.bench import GIB, MIB, SUBMISSIONS, Bench, Wrong
from benchmarks.client import big_file
from benchmarks.peers.environment import SERVERS
from benchmarks.programs import Program
from benchmarks.table import Table

CROWD = 100
ONE_BYTES, CROWD_BYTES = 64 * MIB, 4 * MIB


def measure(bench: Bench) -> Table:
    """Growth for one upload and for a hundred at once. The first of a process also loads what is loaded once."""
    rows = []
    for label, start in (("quick", _quick), ("50 ms a write", _slow)):
        bench.say(f"crowd: {label} disk")
        with start(bench) as program:
            _growth(program, bench, MIB, 1)
            one = _growth(program, bench, ONE_BYTES, 1)
            rows.append((label, f"{one:.0f}", f"{_growth(program, bench, CROWD_BYTES, CROWD):.0f}"))
    return Table(
        title=f"Memory: growth while files of {ONE_BYTES // MIB} MiB, one, and of {CROWD_BYTES // MIB} MiB, "
        f"{CROWD} at once, are received in forms",
        columns=("disk", "one, MiB", f"{CROWD} at once, MiB"),
        rows=rows,
    )


def run(bench: Bench) -> None:
    """A hundred uploads at once, marked as work."""
    with _quick(bench) as program:
        _growth(program, bench, MIB, 1)
        with bench.work(f"{CROWD} uploads at once", program, CROWD * CROWD_BYTES / GIB, "GiB"):
            _growth(program, bench, CROWD_BYTES, CROWD)


def _quick(bench: Bench) -> Program:
    return bench.dropmill("nothing", *FLAGS)


def _slow(bench: Bench) -> Program:
    def arguments(folder: Path) -> list[str]:
        return [
            *(str(SERVERS / "slow_disk.py"), "serve", "--bind", "127.0.0.1:0", "--data", f"{folder}/data"),
            *("--config", f"{folder}/config.yaml", "--processor", "benchmarks.processors:nothing", *FLAGS),
        ]

    return bench.program(arguments)


FLAGS: tuple[str, ...] = ()


def _growth(program: Program, bench: Bench, size: int, count: int) -> float:
    program.reset_peak()
    before = program.resident_bytes()
    statuses = bench.in_client(client.send_crowd, program.port, SUBMISSIONS, big_file(size), count).result()
    if set(statuses) != {201}:
        raise Wrong(f"{count} uploads at once were answered with {set(statuses)}")
    return (program.peak_bytes() - before) / MIB
