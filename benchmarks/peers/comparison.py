"""The same work for every server: one large file, eight at once, many small ones."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import client
from benchmarks.bench import GIB, MIB, PROCESSES, SUBMISSIONS, Bench, Wrong, quiet_disk
from benchmarks.client import BLOCK_BYTES, FORM_TYPE, OCTETS_TYPE, Exchange, Form, big_file, block, small_files
from benchmarks.peers import environment
from benchmarks.peers.environment import SERVERS, Missing
from benchmarks.programs import Program
from benchmarks.table import Table, middle

SMALL_CLIENTS = 4
SMALL_BYTES = 1024
IDLE_S = 0.2  # without using the CPU: what was begun is over

Request = tuple[str, str, str, Form]  # method, path, headers, body


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to upload to a server.

    Attributes:
        label: its name in the table.
        start: starts the server; where its files appear.
        large: sends one file of so many bytes, in a client process.
        small: the requests that bring files of these contents, under names that begin so.
    """

    label: str
    start: Callable[[Bench], tuple[Program, Path]]
    large: Callable[[Bench, Program, int], "Sending"]
    small: Callable[[str, list[bytes]], list[Request]]


Sending = Callable[[], Exchange]


@dataclass(kw_only=True)
class Found:
    """What was measured of one way: MiB/s, CPU seconds a GiB, MiB of memory, MiB/s, files/s."""

    way: Way
    program: Program
    folder: Path
    one: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    eight: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)


def measure(bench: Bench) -> Table:
    """Speed, CPU and memory of each way that can run here."""
    notes = [
        "Ours includes SHA-256, fsync, ledger and a queued job for each file; the others make nothing durable. "
        f"Small files: {SMALL_CLIENTS} connections, one request a file, but our multipart is sent as the page sends "
        f"it, in {SMALL_CLIENTS} forms. Growth: the largest of any round, while one file is sent.",
    ]
    with ExitStack() as stack:
        everyone: list[Found] = []
        for way in WAYS:
            try:
                program, folder = way.start(bench)
            except Missing as error:
                notes.append(f"Left out: {way.label} ({error}).")
                continue
            everyone.append(Found(way=way, program=stack.enter_context(program), folder=folder))
        for found in everyone:
            _large(bench, found, MIB, 1)  # loads what is loaded on first use
        for number in range(bench.rounds):
            for found in everyone:
                bench.say(f"peers, round {number + 1}: {found.way.label}")
                _round(bench, found, number)
    best = max(median(found.files) for found in everyone if found.way.label in PYTHON)
    rows = [
        (
            found.way.label,
            middle(found.one),
            middle(found.cpu, 2),
            f"{max(found.growth):.0f}",
            middle(found.eight),
            middle(found.files),
        )
        for found in everyone
    ]
    notes.append("Ratios of MiB/s: " + "; ".join(_ratios(everyone)) + ".")
    notes.append(f"Our multipart's files/s are {median(everyone[0].files) / best:.2f} x the fastest Python peer's.")
    return Table(
        title=f"Peers: {bench.scale.upload_bytes / GIB:g} GiB in one file, {PROCESSES} x "
        f"{bench.scale.peer_parallel_bytes // MIB} MiB at once, {bench.scale.peer_files:,} x 1 KiB",
        columns=("server", "one file, MiB/s", "CPU s/GiB", "growth, MiB", f"{PROCESSES} at once, MiB/s", "files/s"),
        rows=rows,
        notes=notes,
    )


def _ratios(everyone: list[Found]) -> list[str]:
    found = {one.way.label: one for one in everyone}
    return [
        f"{ours} / {theirs} {median(found[ours].one) / median(found[theirs].one):.2f} with one file, "
        f"{median(found[ours].eight) / median(found[theirs].eight):.2f} with {PROCESSES}"
        for ours, peers in RATIOS
        for theirs in peers
        if ours in found and theirs in found
    ]


def run(bench: Bench) -> None:
    """One large file by each of our ways, marked as work."""
    for way in WAYS:
        if way.start is _dropmill:
            program, folder = way.start(bench)
            with program:
                found = Found(way=way, program=program, folder=folder)
                _large(bench, found, MIB, 1)  # loads what is loaded on first use
                size = bench.scale.upload_bytes
                with bench.work(f"one file, {way.label}", program, size / GIB, "GiB"):
                    _large(bench, found, size, 1)


def _round(bench: Bench, found: Found, number: int) -> None:
    program, size = found.program, bench.scale.upload_bytes
    program.reset_peak()
    memory, cpu_s = program.resident_bytes(), program.cpu_s()
    found.one.append(size / MIB / _large(bench, found, size, 1))
    found.cpu.append((program.cpu_s() - cpu_s) / (size / GIB))
    found.growth.append((program.peak_bytes() - memory) / MIB)
    size = bench.scale.peer_parallel_bytes
    found.eight.append(PROCESSES * size / MIB / _large(bench, found, size, PROCESSES))
    found.files.append(bench.scale.peer_files / _small(bench, found, number, bench.scale.peer_files))


def _large(bench: Bench, found: Found, size: int, count: int) -> float:
    """Send so many files at once; the seconds it took. What was stored is looked at, and removed."""
    quiet_disk()
    sendings = [found.way.large(bench, found.program, size) for _ in range(count)]
    exchanges = [sending() for sending in sendings]
    for exchange in exchanges:
        if exchange.status not in (200, 201, 204):
            raise Wrong(f"{found.way.label} answered {exchange.status}: {exchange.body[:200]!r}")
    _wait_idle(found.program)
    stored = [path for path in found.folder.rglob("*") if path.is_file() and path.stat().st_size == size]
    if len(stored) != count:
        raise Wrong(f"{found.way.label} has {len(stored)} files of {size} bytes instead of {count}")
    for path in stored:  # few; and the disk would be full soon
        path.unlink()
    begin = min(exchange.began_at for exchange in exchanges)
    return max(exchange.began_at + exchange.seconds for exchange in exchanges) - begin


def _small(bench: Bench, found: Found, number: int, count: int) -> float:
    quiet_disk()
    share = count // SMALL_CLIENTS
    work = [
        found.way.small(f"r{number}c{one}", [block()[n : n + SMALL_BYTES] for n in range(share)])
        for one in range(SMALL_CLIENTS)
    ]
    began = time.perf_counter()
    sending = [bench.in_client(client.send_one_by_one, found.program.port, requests) for requests in work]
    statuses = {status for one in sending for status in one.result()}
    took = time.perf_counter() - began
    if not statuses <= {200, 201}:
        raise Wrong(f"{found.way.label} answered {statuses} to small files")
    _wait_idle(found.program)
    return took


def _wait_idle(program: Program) -> None:
    """Wait until the jobs have run."""
    before = -1.0
    while (now := program.cpu_s()) > before + 0.02:
        before = now
        time.sleep(IDLE_S)


# --- ways ------------------------------------------------------------------------------------------------------------


def _form(path: str, field: str = "file", before: tuple[str, str] | None = None) -> Callable[..., Sending]:
    def send(bench: Bench, program: Program, size: int) -> Sending:
        return bench.in_client(client.send_form, program.port, path, big_file(size, field=field, before=before)).result

    return send


def _small_forms(path: str, field: str = "file", before: tuple[str, str] | None = None) -> Callable[..., list[Request]]:
    def requests(names: str, contents: list[bytes]) -> list[Request]:
        return [
            ("POST", path, FORM_TYPE, small_files([content], names=f"{names}-{n}", field=field, before=before))
            for n, content in enumerate(contents)
        ]

    return requests


def _one_form(names: str, contents: list[bytes]) -> list[Request]:
    return [("POST", SUBMISSIONS, FORM_TYPE, small_files(contents, names=names))]


def _put(folder: str) -> Callable[..., Sending]:
    def send(bench: Bench, program: Program, size: int) -> Sending:
        path = f"{folder}/{time.monotonic_ns()}.bin"
        return bench.in_client(client.send, program.port, "PUT", path, "", Form(blocks=size // BLOCK_BYTES)).result

    return send


def _small_puts(folder: str) -> Callable[..., list[Request]]:
    def requests(names: str, contents: list[bytes]) -> list[Request]:
        return [("PUT", f"{folder}/{names}-{n}.bin", "", Form(head=content)) for n, content in enumerate(contents)]

    return requests


def _tus(path: str) -> Callable[..., Sending]:
    def send(bench: Bench, program: Program, size: int) -> Sending:
        return bench.in_client(client.send_tus, program.port, path, Form(blocks=size // BLOCK_BYTES)).result

    return send


def _small_tus(path: str) -> Callable[..., list[Request]]:
    def requests(names: str, contents: list[bytes]) -> list[Request]:
        return [
            (
                "POST",
                path,
                f"Tus-Resumable: 1.0.0\r\nUpload-Length: {len(content)}\r\n{OCTETS_TYPE}",
                Form(head=content),
            )
            for content in contents
        ]

    return requests


def _dropmill(bench: Bench) -> tuple[Program, Path]:
    program = bench.dropmill("nothing")
    return program, program.folder / "data" / "blobs"


def _aiohttp(bench: Bench) -> tuple[Program, Path]:
    script = str(SERVERS / "aiohttp_server.py")
    program, folder = bench.peer(environment.python(), lambda folder, port: [script, str(port), str(folder / "files")])
    return program, folder / "files"


def _starlette(bench: Bench) -> tuple[Program, Path]:
    program, folder = bench.peer(
        environment.python(),
        lambda folder, port: [
            *("-m", "uvicorn", "--app-dir", str(SERVERS), "--port", str(port), "--log-level", "warning"),
            *("--no-access-log", "starlette_server:app"),
        ],
        FOLDER="$DIR/files",
        TMPDIR="$DIR",  # its temporary files on the same disk
    )
    return program, folder / "files"


def _copyparty(bench: Bench) -> tuple[Program, Path]:
    program, folder = bench.peer(
        environment.python(),
        lambda folder, port: [
            *("-m", "copyparty", "-q", "-i", "127.0.0.1", "-p", str(port), "-v", f"{folder}/files::rw"),
            *("--hist", f"{folder}/hist", "--no-crt"),
        ],
        XDG_CONFIG_HOME="$DIR",
    )
    return program, folder / "files"


def _tus_server(bench: Bench) -> tuple[Program, Path]:
    node, script = environment.node_server()
    program, folder = bench.peer(node, lambda folder, port: [str(script), str(port), str(folder / "files")])
    return program, folder / "files"


def _receiver(bench: Bench) -> tuple[Program, Path]:
    program, folder = bench.peer(environment.receiver(), lambda folder, port: [str(port), str(folder / "files")])
    return program, folder / "files"


def _request_files(bench: Bench) -> tuple[Program, Path]:
    program = bench.program(
        lambda folder: [
            *("-m", "hypercorn", "--workers", "0", "--worker-class", "uvloop", "--bind", "127.0.0.1:0"),
            f'benchmarks.plain_quart:make_app("{folder}")',
        ]
    )
    return program, program.folder


MULTIPART, SEND, TUS = "Dropmill, multipart", "Dropmill, PUT /send", "Dropmill, tus"
C = "C receiver, recv + write"
AIOHTTP_RAW, AIOHTTP = "aiohttp, raw body", "aiohttp, multipart"
COPYPARTY_PUT, COPYPARTY = "copyparty, PUT", "copyparty, multipart"
TUS_SERVER, STARLETTE, FILES = "@tus/server", "Starlette form() on uvicorn", "Quart request.files"
PYTHON = frozenset({AIOHTTP_RAW, AIOHTTP, COPYPARTY_PUT, COPYPARTY, STARLETTE, FILES})
ACT = ("act", "bput")

WAYS = (
    Way(label=MULTIPART, start=_dropmill, large=_form(SUBMISSIONS), small=_one_form),
    Way(label=SEND, start=_dropmill, large=_put("/send"), small=_small_puts("/send")),
    Way(label=TUS, start=_dropmill, large=_tus("/api/v1/uploads"), small=_small_tus("/api/v1/uploads")),
    Way(label=C, start=_receiver, large=_put(""), small=_small_puts("")),
    Way(label=AIOHTTP_RAW, start=_aiohttp, large=_put("/raw"), small=_small_puts("/raw")),
    Way(label=AIOHTTP, start=_aiohttp, large=_form("/multipart"), small=_small_forms("/multipart")),
    Way(label=TUS_SERVER, start=_tus_server, large=_tus("/files"), small=_small_tus("/files")),
    Way(label=COPYPARTY_PUT, start=_copyparty, large=_put(""), small=_small_puts("")),
    Way(label=COPYPARTY, start=_copyparty, large=_form("/", "f", ACT), small=_small_forms("/", "f", ACT)),
    Way(label=STARLETTE, start=_starlette, large=_form("/form"), small=_small_forms("/form")),
    Way(label=FILES, start=_request_files, large=_form("/files"), small=_small_forms("/files")),
)

# Whom each of our ways is compared with; what is aimed at belongs to whoever changes it, not here.
RATIOS = (
    (MULTIPART, (COPYPARTY, AIOHTTP, STARLETTE, FILES, C)),
    (SEND, (C, AIOHTTP_RAW, COPYPARTY_PUT, TUS_SERVER)),
    (TUS, (TUS_SERVER, COPYPARTY_PUT)),
)
