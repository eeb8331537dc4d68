"""The same files to every server, in turn: one large, four and eight at once, thousands in one form, one a request.

All servers run during the whole measurement. Each round gives every way each piece of work once; odd rounds go through
the ways backwards, because what comes behind another server finds another page cache. A round counts only while the C
receiver is clearly ahead of aiohttp: where it is not, something else on the machine was measured.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from statistics import median
from time import monotonic, sleep

from benchmarks import client
from benchmarks.bench import (
    ASK_S,
    GIB,
    MIB,
    PATIENCE_S,
    SUBMISSIONS,
    Bench,
    Wrong,
    created,
    get_json,
    quiet_disk,
    remove,
    sha256_of_blocks,
    size_text,
    touch_memory,
)
from benchmarks.client import Exchange, block, get_steadily
from benchmarks.peers import ways
from benchmarks.peers.ways import Kind, Served, Way, Work
from benchmarks.table import Table, middle, percentile

SMALL_BYTES = 1024
CONNECTIONS = 8  # that single files are put over
AT_ONCE: dict[Work, int] = {"one": 1, "four": 4, "eight": 8, "latency": 4}
GETS_PER_S = 50
CLEARLY_AHEAD = 1.1  # times as quick as aiohttp is the C receiver in a round that nothing disturbed
EXTRA_ROUNDS = 2  # in place of disturbed ones


@dataclass(kw_only=True)
class Found:
    """What was measured of one way: for each figure a value a round, and how long its GETs took."""

    way: Way
    served: Served
    figures: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    latencies: dict[int, list[float]] = field(default_factory=dict)
    fault: str | None = None

    def note(self, number: int, **figures: float) -> None:
        """Keep figures of a round."""
        for name, value in figures.items():
            self.figures[name][number] = value

    def forget(self, number: int) -> None:
        """Drop all that is of a round."""
        for values in self.figures.values():
            values.pop(number, None)
        self.latencies.pop(number, None)

    def cell(self, name: str, digits: int = 0) -> str:
        """The median of a figure and its range; empty if it was not measured."""
        values = list(self.figures[name].values())
        return middle(values, digits) if values else ""


def measure(bench: Bench) -> Sequence[Table]:
    """Speed, CPU and memory of each way that can run here, and GETs beside it; then our ratios to the others."""
    bench.say("uploads: starting servers")
    disturbed: list[str] = []
    with ExitStack() as stack:
        started, notes = ways.start_all(bench, stack)
        everyone = [Found(way=way, served=served) for way, served in started]
        touch_memory(bench.scale.touched_bytes)
        for found in everyone:
            _attempt(bench, found, partial(_warm_up, bench, found))
        kept = number = 0
        spare = EXTRA_ROUNDS if bench.rounds > 1 else 0
        while kept < bench.rounds:
            reason = _round(bench, everyone, number, is_ended_early=spare > 0)
            if reason is not None:
                disturbed.append(f"round {number + 1} ({reason})")
            if reason is not None and spare:
                spare -= 1
                for found in everyone:
                    found.forget(number)
            else:
                kept += 1
            number += 1
        idle = _idle_latencies(bench, everyone)
    if disturbed:
        notes.append(
            f"Disturbed, because the C receiver was not {CLEARLY_AHEAD} x as quick as aiohttp: {', '.join(disturbed)}; "
            f"{number - bench.rounds} of them repeated, the others are in the figures."
        )
    notes += [f"Failed: {found.way.label}: {found.fault}" for found in everyone if found.fault is not None]
    return [_large_table(bench, everyone, idle, notes), _small_table(bench, everyone), _ratio_table(bench, everyone)]


def run(bench: Bench) -> None:
    """Large files by each of our ways, small ones in one form and one by one: each marked as work."""
    served = ways.STARTS["this"](bench)
    scale = bench.scale
    with served.program:
        for way in ways.WAYS:
            if way.server != "this":
                continue
            found = Found(way=way, served=served)
            _warm_up(bench, found)
            with bench.work(f"one file, {way.label}", served.program, scale.upload_bytes / GIB, "GiB"):
                _send(bench, found, scale.upload_bytes, 1)
            if "form" in way.works:
                with bench.work("small files in one form", served.program, scale.form_files, "file"):
                    _send_form(bench, found, 0, scale.form_files)
            if "single" in way.works:
                with bench.work(f"small files, {way.label}", served.program, scale.single_files, "file"):
                    _send_singles(bench, found, 0, scale.single_files)


# --- rounds ----------------------------------------------------------------------------------------------------------


def _warm_up(bench: Bench, found: Found) -> None:
    """Have loaded what is loaded on first use."""
    _send(bench, found, MIB, 1)
    if "form" in found.way.works:
        _send_form(bench, found, -1, 2)
    if "single" in found.way.works:
        _send_singles(bench, found, -1, CONNECTIONS)


def _round(bench: Bench, everyone: list[Found], number: int, *, is_ended_early: bool) -> str | None:
    """Each piece of work by each way; what disturbed it, or None. What is disturbed may be ended there and then."""
    scale = bench.scale
    large: dict[Work, int] = {"one": scale.upload_bytes, "four": scale.parallel_bytes, "eight": scale.parallel_bytes}
    small: dict[Work, Callable[[Bench, Found, int], None]] = {"latency": _latency, "form": _form, "single": _single}
    order = everyone if number % 2 == 0 else everyone[::-1]
    disturbance = None
    for work in (*large, *small):
        for found in order:
            if work not in found.way.works or found.fault is not None:
                continue
            bench.say(f"uploads, round {number + 1}, {work}: {found.way.label}")
            if work in large:
                _attempt(bench, found, partial(_large, bench, found, number, work, large[work]))
            else:
                _attempt(bench, found, partial(small[work], bench, found, number))
        if work in large and disturbance is None:
            disturbance = _disturbance(everyone, number, work)
            if disturbance is not None:
                bench.say(f"uploads, round {number + 1} is disturbed: {disturbance}")
                if is_ended_early:
                    break
    return disturbance


def _disturbance(everyone: list[Found], number: int, work: Work) -> str | None:
    """How the two servers compare that show whether the machine was quiet; None if as they do on a quiet one."""
    speeds = {found.way.label: found.figures[work].get(number) for found in everyone}
    c, aiohttp = speeds.get(ways.C), speeds.get(ways.AIOHTTP_RAW)
    if c is None or aiohttp is None or c >= CLEARLY_AHEAD * aiohttp:
        return None
    return f"{work}: {c / aiohttp:.2f}"


def _attempt(bench: Bench, found: Found, work: Callable[[], None]) -> None:
    """Do a piece of work. A way that fails takes no further part; if it is ours, the run has failed."""
    try:
        work()
    except (Wrong, OSError, HTTPException) as error:
        found.fault = f"{type(error).__name__}: {error}".splitlines()[0]
        if found.way.server.startswith("this"):
            bench.failures.append(f"uploads: {found.way.label}: {found.fault}")
        bench.say(f"uploads: {found.way.label} is left out from here: {found.fault}")


# --- work ------------------------------------------------------------------------------------------------------------


def _large(bench: Bench, found: Found, number: int, work: Work, size: int) -> None:
    program, count = found.served.program, AT_ONCE[work]
    quiet_disk()
    program.reset_peak()
    memory, cpu_s = program.resident_bytes(), program.server_cpu_s()
    seconds = _send(bench, found, size, count)
    amount = count * size
    found.note(
        number,
        **{
            work: amount / MIB / seconds,
            f"{work}, CPU": (program.server_cpu_s() - cpu_s) / (amount / GIB),
            f"{work}, growth": (program.peak_bytes() - memory) / MIB,
        },
    )


def _send(bench: Bench, found: Found, size: int, count: int) -> float:
    """Send so many files at once; the seconds it took. What was stored is looked at, and removed."""
    quiet_disk()
    sending = [found.way.send(bench, found.served.program, size) for _ in range(count)]
    return _received(found, sending, size)


def _received(found: Found, sending: Sequence[Future[Exchange]], size: int) -> float:
    exchanges = [one.result() for one in sending]
    for exchange in exchanges:
        if exchange.status not in (200, 201, 204):
            raise Wrong(f"{found.way.label} answered {exchange.status}: {exchange.body[:200]!r}")
        if found.served.is_ours and found.way.kind != "tus":
            file = created(exchange)["files"][0]
            if (file["size"], file["sha256"]) != (size, sha256_of_blocks(size)):
                raise Wrong(f"{size} bytes were stored as {file['size']} with the SHA-256 {file['sha256']}")
    _wait_settled(found.served)
    stored = [path for path in _files(found.served.folder) if path.stat().st_size == size]
    if len(stored) != len(sending):
        raise Wrong(f"{found.way.label} has {len(stored)} files of {size} bytes instead of {len(sending)}")
    for path in stored:  # few; and the disk would be full soon
        remove(path)
    begin = min(exchange.began_at for exchange in exchanges)
    return max(exchange.began_at + exchange.seconds for exchange in exchanges) - begin


def _latency(bench: Bench, found: Found, number: int) -> None:
    """GETs on fresh connections while four files arrive, from when all are under way until the first has arrived."""
    size = bench.scale.latency_bytes
    quiet_disk()
    sending = [found.way.send(bench, found.served.program, size) for _ in range(AT_ONCE["latency"])]
    found.latencies[number] = get_steadily(
        found.served.program.port,
        found.way.page,
        per_second=GETS_PER_S,
        until=lambda count: count > 0 and any(one.done() for one in sending),
    )
    _received(found, sending, size)


def _idle_latencies(bench: Bench, everyone: list[Found]) -> list[float]:
    """GETs to our server while nothing else happens."""
    program = next(found.served.program for found in everyone if found.way.label == ways.THIS_PUT)
    quiet_disk()
    return get_steadily(
        program.port, "/", per_second=GETS_PER_S, until=lambda count: count >= bench.scale.requests // 2
    )


def _form(bench: Bench, found: Found, number: int) -> None:
    count, cpu_s = bench.scale.form_files, found.served.program.server_cpu_s()
    seconds = _send_form(bench, found, number, count)
    cpu_s = found.served.program.server_cpu_s() - cpu_s
    found.note(number, **{"form": count / seconds, "form, CPU": 1000 * cpu_s / count})


def _send_form(bench: Bench, found: Found, number: int, count: int) -> float:
    """Send so many small files in one form; the seconds until the answer."""
    quiet_disk()
    form = found.way.form_of(f"round{number}", _contents(count))
    before = 0 if found.served.is_ours else _count_small(found)
    exchange = bench.send(found.served.program, found.way.path, form).result()
    if found.served.is_ours:
        bench.settled(found.served.program, exchange, count)
    elif (stored := _count_small(found) - before) != count:
        raise Wrong(f"{found.way.label} answered {exchange.status} and stored {stored} files instead of {count}")
    return exchange.seconds


def _single(bench: Bench, found: Found, number: int) -> None:
    count, cpu_s = bench.scale.single_files, found.served.program.server_cpu_s()
    seconds = _send_singles(bench, found, number, count)
    cpu_s = found.served.program.server_cpu_s() - cpu_s
    found.note(number, **{"single": count / seconds, "single, CPU": 1000 * cpu_s / count})


def _send_singles(bench: Bench, found: Found, number: int, count: int) -> float:
    """Send so many small files, each by a request, over a few connections; the seconds until the last answer."""
    quiet_disk()
    requests = [found.way.request(f"round{number}-{n}", content) for n, content in enumerate(_contents(count))]
    before = 0 if found.served.is_ours else _count_small(found)
    program = found.served.program
    statuses, seconds = bench.in_client(client.send_over, program.port, requests, CONNECTIONS).result()
    if not statuses <= {200, 201}:
        raise Wrong(f"{found.way.label} answered {statuses} to small files")
    _wait_settled(found.served)
    if not found.served.is_ours and (stored := _count_small(found) - before) != count:
        raise Wrong(f"{found.way.label} stored {stored} files instead of {count}")
    return seconds


def _contents(count: int) -> list[bytes]:
    return [block()[n : n + SMALL_BYTES] for n in range(count)]


def _count_small(found: Found) -> int:
    return sum(path.stat().st_size == SMALL_BYTES for path in _files(found.served.folder))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _wait_settled(served: Served) -> None:
    """Wait until a server of ours has run the jobs of all that was sent. The others have none."""
    end = monotonic() + PATIENCE_S
    while served.is_ours and any(
        get_json(served.program, f"{SUBMISSIONS}?state={state}&limit=1")["items"] for state in ("open", "processing")
    ):
        if monotonic() > end:
            raise Wrong(f"not all was settled after {PATIENCE_S:.0f} s")
        sleep(ASK_S)


# --- tables ----------------------------------------------------------------------------------------------------------


def _named(bench: Bench, label: str) -> str:
    """The label of a way as tables show it, with the hash of the commit before."""
    return label if bench.before is None else label.replace("before,", f"{bench.before[0]},")


def _large_table(bench: Bench, everyone: list[Found], idle: list[float], notes: list[str]) -> Table:
    def latency(found: Found) -> str:
        samples = [took for one in found.latencies.values() for took in one]
        return f"{1000 * percentile(samples, 99):.1f} ({len(samples)})" if samples else ""

    def growth(found: Found) -> str:
        values = found.figures["one, growth"].values()
        return f"{max(values):.0f}" if values else ""

    scale = bench.scale
    parallel = f"x {size_text(scale.parallel_bytes)}"
    return Table(
        title=f"Large files: {size_text(scale.upload_bytes)} alone, 4 and 8 {parallel} at once",
        columns=(
            *("server", "one, MiB/s", "CPU s/GiB", "growth, MiB"),
            *(f"4 {parallel}, MiB/s", "CPU s/GiB", f"8 {parallel}, MiB/s", "CPU s/GiB", "GET p99, ms"),
        ),
        rows=[
            (
                _named(bench, found.way.label),
                *(found.cell("one"), found.cell("one, CPU", 2), growth(found)),
                *(found.cell("four"), found.cell("four, CPU", 2)),
                *(found.cell("eight"), found.cell("eight, CPU", 2)),
                latency(found),
            )
            for found in everyone
        ],
        notes=[
            "Ours includes SHA-256 (compared with the client's), fsync, ledger and a job for each file; the others "
            "make nothing durable, but for the C receiver with fsync. CPU: the server's own processes, without the "
            "attempts'. Growth: the largest of any round while one file arrives, after others. GET p99: "
            f"`GET /` on fresh connections, {GETS_PER_S} a second, while four files of "
            f"{size_text(scale.latency_bytes)} arrive, of all rounds together; in brackets, how many. "
            f"Of an idle Dropmill: {1000 * percentile(idle, 99):.1f} ms ({len(idle)}).",
            *notes,
        ],
    )


def _small_table(bench: Bench, everyone: list[Found]) -> Table:
    scale = bench.scale
    return Table(
        title=f"Small files: {scale.form_files:,} x 1 KiB in one form, {scale.single_files:,} x 1 KiB "
        f"one a request over {CONNECTIONS} connections",
        columns=("server", "one form, files/s", "CPU ms a file", "one a request, files/s", "CPU ms a file"),
        rows=[
            (
                _named(bench, found.way.label),
                *(found.cell("form"), found.cell("form, CPU", 2)),
                *(found.cell("single"), found.cell("single, CPU", 2)),
            )
            for found in everyone
            if {"form", "single"} & found.way.works
        ],
        notes=[
            "Until the answer. Ours has stored, made durable and queued every file by then, and runs their jobs "
            "meanwhile. CPU: the server's own processes until the last job has ended, without the attempts'."
        ],
    )


# Whom each kind of ours is compared with. What is aimed at belongs to whoever changes it, not here.
_OTHERS: Mapping[str, Mapping[Kind, str]] = {
    "before": {"PUT": ways.BEFORE_PUT, "tus": ways.BEFORE_TUS, "form": ways.BEFORE_FORM},
    "C receiver": {"PUT": ways.C, "tus": ways.C, "form": ways.C},
    "nginx": {"PUT": ways.NGINX, "tus": ways.NGINX, "form": ways.NGINX},
    "aiohttp": {"PUT": ways.AIOHTTP_RAW, "tus": ways.AIOHTTP_RAW, "form": ways.AIOHTTP},
    "Starlette": {"PUT": ways.STARLETTE_RAW, "tus": ways.STARLETTE_RAW, "form": ways.STARLETTE},
    "copyparty": {"PUT": ways.COPYPARTY_PUT, "tus": ways.COPYPARTY_PUT, "form": ways.COPYPARTY},
    "@tus/server": {"PUT": ways.TUS_SERVER, "tus": ways.TUS_SERVER, "form": ways.TUS_SERVER},
    "Quart": {"form": ways.FILES},
}


def _ratio_table(bench: Bench, everyone: list[Found]) -> Table:
    by_label = {found.way.label: found for found in everyone}
    names: dict[str, str] = {
        "one": "one file",
        "four": "4 at once",
        "eight": "8 at once",
        "form": "small files in one form",
        "single": "small files, one a request",
    }
    rows = []
    for work, name in names.items():
        for label in (ways.THIS_PUT, ways.THIS_TUS, ways.THIS_FORM):
            ours = by_label[label]
            if ours.figures[work]:
                others = [by_label.get(of_kind.get(ours.way.kind, "")) for of_kind in _OTHERS.values()]
                rows.append((f"{name}, {ours.way.kind}", *(_ratio(ours, other, work) for other in others)))
    before = "the commit before" if bench.before is None else bench.before[0]
    return Table(
        title="Ratios: our speed by that of others",
        columns=("work", *(name if name != "before" else before for name in _OTHERS)),
        rows=rows,
        notes=[
            "Medians of the ratios within each round. Multipart is compared with the other's multipart; with a PUT of "
            "the C receiver and of nginx and with tus of @tus/server, which have no other way."
        ],
    )


def _ratio(ours: Found, other: Found | None, work: str) -> str:
    if other is None:
        return ""
    both = ours.figures[work].keys() & other.figures[work].keys()
    ratios = [ours.figures[work][number] / other.figures[work][number] for number in both]
    return f"{median(ratios):.2f}" if ratios else ""
