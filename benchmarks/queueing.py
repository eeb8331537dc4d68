"""How soon a small part of a form that is still being sent becomes a job, and how soon the job is picked up.

The client ends a part, that is, sends the delimiter behind it, and then sends nothing for a while: nobody may wait for
more parts to come. Times of events are the ledger's, to the millisecond; `attempt.started` is recorded after the commit
that queued the job, so what was queued is durable by then.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from benchmarks import client
from benchmarks.bench import SUBMISSIONS, Bench, Wrong, created, get_json, quiet_disk, size_text
from benchmarks.programs import Program
from benchmarks.table import Table, middle, percentile

PART_BYTES = 1024
PAUSE_S = 0.06
LARGE = 4  # uploads beside


def measure(bench: Bench) -> Sequence[Table]:
    """From the end of a part to its job's events, alone and beside large uploads, of both trees."""
    rows = []
    for name, tree in bench.trees.items():
        with bench.dropmill("nothing", tree=tree) as program:
            _parts(bench, program, 2)  # loads what is loaded on first use
            for beside in (0, LARGE):
                queued, started = [], []
                for number in range(bench.rounds):
                    bench.say(f"queueing, round {number + 1}: {name}, {beside} uploads beside")
                    quiet_disk()
                    found = _beside(bench, program, beside)
                    queued.append([1000 * one for one, _ in found])
                    started.append([1000 * one for _, one in found])
                rows.append(
                    (
                        name,
                        f"{beside}" if beside else "none",
                        *_cells(queued),
                        *_cells(started),
                        f"{sum(map(len, queued))}",
                    )
                )
    return [
        Table(
            title="A small part of a form: from its end to `job.queued`, and to `attempt.started`",
            columns=(
                *("server", f"uploads of {size_text(bench.scale.latency_bytes)} beside"),
                *("queued, p50 ms", "p99 ms", "max ms", "picked up, p50 ms", "p99 ms", "max ms", "parts"),
            ),
            rows=rows,
            notes=[f"1 KiB each, {PAUSE_S * 1000:.0f} ms apart, in a form that is still being sent."],
        )
    ]


def run(bench: Bench) -> None:
    """Small parts with pauses between them, marked as work."""
    with bench.dropmill("nothing") as program:
        _parts(bench, program, 2)  # loads what is loaded on first use
        count = bench.scale.single_parts
        with bench.work("small parts with pauses", program, count, "part"):
            _parts(bench, program, count)


def _cells(rounds: list[list[float]]) -> list[str]:
    p50, p99 = ([percentile(one, percent) for one in rounds] for percent in (50, 99))
    return [middle(p50), middle(p99), f"{max(map(max, rounds)):.0f}"]


def _beside(bench: Bench, program: Program, uploads: int) -> list[tuple[float, float]]:
    """Parts while so many large files arrive, again and again until the parts are through."""
    parts = bench.in_client(_send_parts_of, program.port, bench.scale.single_parts)
    while not parts.done():
        if uploads:
            sending = [bench.put(program, f"/send/beside-{n}.bin", bench.scale.latency_bytes) for n in range(uploads)]
            for one in sending:
                created(one.result())
        else:
            parts.result()
    return _delays(bench, program, *parts.result())


def _parts(bench: Bench, program: Program, count: int) -> list[tuple[float, float]]:
    return _delays(bench, program, *bench.in_client(_send_parts_of, program.port, count).result())


def _send_parts_of(port: int, count: int) -> tuple[client.Exchange, dict[str, float]]:
    contents = [client.block()[n : n + PART_BYTES] for n in range(count)]
    return client.send_parts(port, SUBMISSIONS, contents, pause_s=PAUSE_S)


def _delays(
    bench: Bench, program: Program, exchange: client.Exchange, ended: dict[str, float]
) -> list[tuple[float, float]]:
    """For each part the seconds until it was queued, and until its attempt started."""
    submission = bench.settled(program, exchange, len(ended))
    names = {one["id"]: one["name"] for one in _files(program, submission["id"])}
    at: dict[str, dict[str, float]] = {"job.queued": {}, "attempt.started": {}}
    for event in _events(program, submission["id"]):
        if event["name"] in at:
            name = names[event["subject"]["file_id"]]
            at[event["name"]][name] = datetime.fromisoformat(event["at"]).timestamp()
    if any(times.keys() != ended.keys() for times in at.values()):
        raise Wrong(f"of {len(ended)} parts {', '.join(f'{len(times)} have {name}' for name, times in at.items())}")
    # The ledger's times are cut to the millisecond, so that one may seem to lie before what caused it.
    return [
        (max(0.0, at["job.queued"][name] - end), max(0.0, at["attempt.started"][name] - end))
        for name, end in ended.items()
    ]


def _files(program: Program, submission_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(program, f"{SUBMISSIONS}/{submission_id}/files?limit=1000")["items"]
    return found


def _events(program: Program, submission_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = 0
    while page := get_json(program, f"/api/v1/events?topic=submission:{submission_id}&after={after}&limit=1000")[
        "events"
    ]:
        found += page
        after = page[-1]["cursor"]
    return found
