"""How soon the server answers while every core is taken by scripts, several times over."""

import time
from collections.abc import Sequence

from benchmarks.bench import PATIENCE_S, SUBMISSIONS, Bench, Wrong, created, get_json
from benchmarks.client import get, get_steadily, small_files
from benchmarks.programs import Program
from benchmarks.table import LATENCY_COLUMNS, Table, latency_cells

ATTEMPTS = 8
PER_SECOND = 50


def measure(bench: Bench) -> Sequence[Table]:
    """Latency of `/healthz` while attempts run a busy loop, on fresh connections and on a kept one."""
    idle: list[list[float]] = []
    fresh: list[list[float]] = []
    kept: list[list[float]] = []
    with bench.dropmill("busy", "--concurrency", str(ATTEMPTS)) as program:
        get(program.port, "/healthz")  # loads what is loaded on first use
        for number in range(bench.rounds):
            bench.say(f"healthz, round {number + 1}: idle")
            idle.append(_latencies(bench, program))
            end = bench.folder / f"end-busy-{number}"
            exchange = bench.send(program, SUBMISSIONS, small_files([str(end).encode()] * ATTEMPTS)).result()
            try:
                _wait_until_running(program, created(exchange)["id"])
                bench.say(f"healthz, round {number + 1}: {ATTEMPTS} busy attempts")
                fresh.append(_latencies(bench, program))
                kept.append(_latencies(bench, program, is_kept=True))
            finally:
                end.touch()
            bench.settled(program, exchange, ATTEMPTS)
    return [
        Table(
            title=f"`/healthz` while {ATTEMPTS} attempts run a busy loop, {PER_SECOND} requests a second",
            columns=("attempts", "connection", *LATENCY_COLUMNS),
            rows=[
                ("none", "fresh", *latency_cells(idle)),
                (f"{ATTEMPTS} busy", "fresh", *latency_cells(fresh)),
                (f"{ATTEMPTS} busy", "kept", *latency_cells(kept)),
            ],
            notes=["The client competes with the busy loops for the same cores; its own waiting is in these figures."],
        )
    ]


def run(bench: Bench) -> None:
    """Requests to an idle server, marked as work."""
    with bench.dropmill("nothing") as program:
        get(program.port, "/healthz")  # loads what is loaded on first use
        with bench.work("/healthz on fresh connections", program, bench.scale.requests, "request"):
            _latencies(bench, program)


def _latencies(bench: Bench, program: Program, *, is_kept: bool = False) -> list[float]:
    enough = bench.scale.requests
    return get_steadily(
        program.port, "/healthz", per_second=PER_SECOND, is_kept=is_kept, until=lambda count: count >= enough
    )


def _wait_until_running(program: Program, submission_id: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while (counts := get_json(program, f"{SUBMISSIONS}/{submission_id}")["counts"])["running"] < ATTEMPTS:
        if time.monotonic() > end:
            raise Wrong(f"{ATTEMPTS} attempts do not run at once: {counts}")
        time.sleep(0.1)
