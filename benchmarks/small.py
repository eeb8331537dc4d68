"""Many small files in one request, each with a job that does nothing; and one file at a time."""

from datetime import datetime
from statistics import median
from typing import Any

from benchmarks.bench import SUBMISSIONS, Bench, Wrong, get_json, quiet_disk
from benchmarks.client import Form, block, small_files
from benchmarks.programs import Program
from benchmarks.table import Table, middle

FILE_BYTES = 1024


def measure(bench: Bench) -> Table:
    """Files and jobs a second, CPU a job, and how soon a stored file is picked up."""
    files = bench.scale.files
    form = _form(files)
    answered, settled, server_cpu, slots_cpu, picked_up = [], [], [], [], []
    with bench.dropmill("nothing") as program:
        _send_singly(bench, program, 5)  # loads what is loaded on first use
        for number in range(bench.rounds):
            bench.say(f"small, round {number + 1}: {files} files in one request")
            quiet_disk()
            own, children = program.cpu_s(), program.children_cpu_s()
            exchange = bench.send(program, SUBMISSIONS, form).result()
            submission = bench.settled(program, exchange, files)
            answered.append(files / exchange.seconds)
            settled.append(files / (_epoch(submission["settled_at"]) - exchange.began_at))
            server_cpu.append(1000 * (program.cpu_s() - own) / files)
            slots_cpu.append(1000 * (program.children_cpu_s() - children) / files)
            bench.say(f"small, round {number + 1}: {bench.scale.single_files} single files")
            picked_up.append(1000 * median(_send_singly(bench, program, bench.scale.single_files)))
    return Table(
        title=f"Small: {files:,} files of 1 KiB in one request, a callable that does nothing",
        columns=("what", "figure"),
        rows=[
            ("files/s until the 201 (stored, fsynced, queued)", middle(answered)),
            ("jobs/s, all in: from the request's start to `submission.settled`", middle(settled)),
            ("CPU ms a job, server", middle(server_cpu, 2)),
            ("CPU ms a job, slots with their attempts", middle(slots_cpu, 2)),
            ("single files: `upload.stored` to `attempt.started`, median ms", middle(picked_up, 1)),
        ],
        notes=["Server CPU includes receiving, ledger, events and the log file, and being asked ten times a second."],
    )


def run(bench: Bench) -> None:
    """Many files in one form, and files one by one, each marked as work."""
    files, single = bench.scale.files, bench.scale.single_files
    with bench.dropmill("nothing") as program:
        _send_singly(bench, program, 5)  # loads what is loaded on first use
        quiet_disk()
        with bench.work("small files in one form", program, files, "file"):
            bench.settled(program, bench.send(program, SUBMISSIONS, _form(files)).result(), files)
        with bench.work("small files one by one", program, single, "file"):
            _send_singly(bench, program, single)


def _form(files: int) -> Form:
    return small_files([block()[n : n + FILE_BYTES] for n in range(files)])


def _send_singly(bench: Bench, program: Program, count: int) -> list[float]:
    """Send files one after the other; how long after each was stored its attempt started, in seconds.

    By the ledger's own times, which are told to the millisecond.
    """
    after = _newest_cursor(program)
    for n in range(count):
        exchange = bench.send(program, SUBMISSIONS, small_files([block()[n : n + FILE_BYTES]])).result()
    bench.settled(program, exchange, 1)
    stored: dict[str, float] = {}
    started: dict[str, float] = {}
    for event in _events(program, after):
        if event["name"] == "upload.stored":
            stored[event["subject"]["file_id"]] = _epoch(event["at"])
        elif event["name"] == "attempt.started":
            started[event["subject"]["file_id"]] = _epoch(event["at"])
    if len(stored) != count or stored.keys() != started.keys():
        raise Wrong(f"of {count} single files {len(stored)} were stored and {len(started)} started")
    return [started[file_id] - stored[file_id] for file_id in stored]


def _newest_cursor(program: Program) -> int:
    events = _events(program, 0)
    return int(events[-1]["cursor"]) if events else 0


def _events(program: Program, after: int) -> list[dict[str, Any]]:
    gathered: list[dict[str, Any]] = []
    while page := get_json(program, f"/api/v1/events?topic=all&after={after}&limit=1000")["events"]:
        gathered += page
        after = page[-1]["cursor"]
    return gathered


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
