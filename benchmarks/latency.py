"""How soon the page comes while uploads take all that the server gives."""

from concurrent.futures import Future

from benchmarks.bench import CLIENTS, MIB, SUBMISSIONS, Bench, Wrong, created, quiet_disk, sha256_of_blocks
from benchmarks.client import Exchange, big_file, get, get_steadily
from benchmarks.table import LATENCY_COLUMNS, Table, latency_cells, middle

PER_SECOND = 50


def measure(bench: Bench) -> Table:
    """Latency of `GET /` on fresh connections, without and with uploads."""
    size = bench.scale.page_upload_bytes
    idle: list[list[float]] = []
    loaded: list[list[float]] = []
    speeds: list[float] = []
    enough = bench.scale.requests // 2
    with bench.dropmill("nothing") as program:
        get(program.port, "/")  # loads what is loaded on first use
        for number in range(bench.rounds):
            bench.say(f"latency, round {number + 1}")
            quiet_disk()
            idle.append(get_steadily(program.port, "/", per_second=PER_SECOND, until=lambda count: count >= enough))
            sending = [bench.send(program, SUBMISSIONS, big_file(size)) for _ in range(CLIENTS)]

            def has_one_ended(count: int, sending: list[Future[Exchange]] = sending) -> bool:
                return count > 0 and any(one.done() for one in sending)

            loaded.append(get_steadily(program.port, "/", per_second=PER_SECOND, until=has_one_ended))
            exchanges = [one.result() for one in sending]
            for exchange in exchanges:
                if (sha256 := created(exchange)["files"][0]["sha256"]) != sha256_of_blocks(size):
                    raise Wrong(f"{size} bytes were stored with the SHA-256 {sha256}, which is wrong")
                bench.settled(program, exchange, 1)
            speeds.append(CLIENTS * size / MIB / max(exchange.seconds for exchange in exchanges))
    return Table(
        title=f"`GET /` while {CLIENTS} uploads of {size // MIB} MiB run, {PER_SECOND} requests a second",
        columns=("uploads", "MiB/s together", *LATENCY_COLUMNS),
        rows=[("none", "", *latency_cells(idle)), (f"{CLIENTS}", middle(speeds), *latency_cells(loaded))],
        notes=[
            "Fresh connections. Five processes compete for the cores; the client's own waiting is in these figures."
        ],
    )


def run(bench: Bench) -> None:
    """The page to an idle server's clients, marked as work."""
    with bench.dropmill("nothing") as program:
        get(program.port, "/")  # loads what is loaded on first use
        count = bench.scale.requests // 2
        with bench.work("GET / on fresh connections", program, count, "request"):
            get_steadily(program.port, "/", per_second=PER_SECOND, until=lambda done: done >= count)
