"""One honest upload while others hold connections open and hardly send: its time, and by how much that is longer.

Each slow client first sends quickly what may earn it better service, then keeps its body open as slowly as it can.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import client
from benchmarks.bench import (
    ASK_S,
    MIB,
    PATIENCE_S,
    SUBMISSIONS,
    THIS,
    Bench,
    Wrong,
    created,
    get_json,
    quiet_disk,
    remove,
    size_text,
)
from benchmarks.client import Exchange, big_file
from benchmarks.programs import Program
from benchmarks.table import Table, middle

BODY_BYTES = 64 * MIB  # that each slow client promises
SETTLE_S = 0.5  # after all have begun


@dataclass(frozen=True, kw_only=True)
class Drips:
    """Slow clients: how many, what each sends at first, and then how much each time and how often."""

    clients: int
    first_bytes: int
    piece_bytes: int
    every_s: float

    @property
    def label(self) -> str:
        """In a few words."""
        piece = "1 byte" if self.piece_bytes == 1 else f"{self.piece_bytes / 1000:g} kB"
        begin = f" after {self.first_bytes / MIB:g} MiB" if self.first_bytes else ""
        return f"{self.clients} clients, {piece} each {1000 * self.every_s:g} ms{begin}"


def _crowds(bench: Bench) -> list[Drips]:
    """At most some 2,000 pieces a second: more would measure what reading them costs, not who waits for whom."""
    many = bench.scale.drip_clients
    return [
        Drips(clients=many, first_bytes=0, piece_bytes=1, every_s=0.1),
        Drips(clients=many, first_bytes=MIB, piece_bytes=1, every_s=0.1),
        Drips(clients=many, first_bytes=MIB, piece_bytes=10_000, every_s=0.1),
        Drips(clients=12, first_bytes=3 * MIB, piece_bytes=1, every_s=0.006),
    ]


def measure(bench: Bench) -> Sequence[Table]:
    """The honest upload alone and beside each crowd, of both trees."""
    figures: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for number in range(bench.rounds):
        for name, tree in bench.trees.items():
            bench.say(f"drips, round {number + 1}: {name}")
            with bench.dropmill("nothing", tree=tree) as program:
                for kind in ("PUT", "form"):
                    _honest(bench, program, kind)  # loads what is loaded on first use
                for drips in _crowds(bench):
                    for kind, times in _beside(bench, program, drips).items():
                        figures.setdefault((drips.label, kind, name), []).append(times)
    return [
        Table(
            title=f"One file of {size_text(bench.scale.drip_bytes)} beside slow clients",
            columns=("beside it", "sent by", "server", "alone, s", "beside them, s", "ratio"),
            rows=[
                (
                    *key,
                    middle([alone for alone, _ in found], 2),
                    middle([beside for _, beside in found], 2),
                    middle([beside / alone for alone, beside in found], 2),
                )
                for key, found in sorted(figures.items(), key=lambda one: _place(bench, *one[0]))
            ],
            notes=["Each slow client promises 64 MiB in a PUT. Alone: on the same server, just before."],
        )
    ]


def run(bench: Bench) -> None:
    """The honest upload beside slow clients, marked as work."""
    with bench.dropmill("nothing") as program:
        _honest(bench, program, "PUT")  # loads what is loaded on first use
        with bench.work("one file beside slow clients", program, 1, "upload"):
            _beside(bench, program, _crowds(bench)[1])


def _place(bench: Bench, label: str, kind: str, name: str) -> tuple[int, str, bool]:
    return [drips.label for drips in _crowds(bench)].index(label), kind, name != THIS


def _beside(bench: Bench, program: Program, drips: Drips) -> dict[str, tuple[float, float]]:
    """For each kind of upload the seconds alone and beside the crowd."""
    kinds = ("PUT", "form")
    alone = {kind: _honest(bench, program, kind) for kind in kinds}
    ready, end = (bench.folder / f"drips-{time.monotonic_ns()}-{name}" for name in ("ready", "end"))
    crowd = bench.in_client(
        client.drip,
        program.port,
        drips.clients,
        body_bytes=BODY_BYTES,
        first_bytes=drips.first_bytes,
        piece_bytes=drips.piece_bytes,
        every_s=drips.every_s,
        ready=ready,
        end=end,
    )
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not ready.exists() or _open(program) < drips.clients:
            if crowd.done():
                raise Wrong(f"slow clients ended after {crowd.result()} pieces")
            if time.monotonic() > give_up:
                raise Wrong(f"of {drips.clients} slow clients {_open(program)} have begun after {PATIENCE_S:.0f} s")
            time.sleep(ASK_S)
        time.sleep(SETTLE_S)
        beside = {kind: _honest(bench, program, kind) for kind in kinds}
    finally:
        end.touch()
    crowd.result()
    program.wait_idle()  # it clears away what the crowd has left
    return {kind: (alone[kind], beside[kind]) for kind in kinds}


def _open(program: Program) -> int:
    """How many submissions are being received."""
    return len(get_json(program, f"{SUBMISSIONS}?state=open&limit=1000")["items"])


def _honest(bench: Bench, program: Program, kind: str) -> float:
    quiet_disk()
    size = bench.scale.drip_bytes
    if kind == "PUT":
        exchange: Exchange = bench.put(program, "/send/honest.bin", size).result()
    else:
        exchange = bench.send(program, SUBMISSIONS, big_file(size)).result()
    created(exchange)
    bench.settled(program, exchange, 1)
    for path in (program.folder / "data" / "blobs").rglob("*"):
        if path.is_file() and path.stat().st_size == size:
            remove(path)
    return exchange.seconds
