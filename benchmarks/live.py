"""What it costs to follow events: many sockets on one submission, uploads beside them, and all of them coming back."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks import client, watchers
from benchmarks.bench import SUBMISSIONS, Bench, Wrong, get_json
from benchmarks.client import Form, small_files
from benchmarks.paired import unpack
from benchmarks.programs import ROOT, Program
from benchmarks.table import Table, percentile

BEFORE = "81b1b9a"  # the last commit in which each subscriber read the ledger for itself
CROWDS = (200, 1000)
EVENTS_PER_S, PER_FILE = 100, 6  # a file of a form has six events
LASTS_S = 8.0
UPLOADS, UPLOAD_BYTES, WATCHING = 100, 1024, 200
OLD = 1000  # events that clients have missed when they come back
FLAGS = ("--max-sockets-per-client", "3000", "--max-connections-per-client", "3000", "--join-rate", "100000000")

Row = Sequence[str]


def measure(bench: Bench) -> Sequence[Table]:
    """This tree, and the last one in which each subscriber read for itself."""
    name, before = unpack(BEFORE, bench.folder)
    rows: list[Row] = []
    for label, tree in (("this tree", ROOT), (name, before)):
        bench.marked_work(tree, lambda bench, label=label: rows.extend(_rows(bench, label)))  # type: ignore[misc]
    table = Table(
        title=f"Live: sockets on one submission at {EVENTS_PER_S} events/s, for {LASTS_S:.0f} s",
        columns=("tree", "what", "CPU us a delivery", "cores", "p50 ms", "p90 ms", "p99 ms", "lost", "result"),
        rows=rows,
        notes=[
            "CPU of the server's process beyond what the same uploads cost without sockets. Latency is from an event's "
            "time to its arrival at a client that shares the machine."
        ],
    )
    return [table]


def run(bench: Bench) -> None:
    """Two hundred sockets on one submission, marked as work."""
    with bench.dropmill("nothing", *FLAGS) as program:
        amount = CROWDS[0] * EVENTS_PER_S * LASTS_S / 1000
        with bench.work(f"{CROWDS[0]} sockets", program, amount, "1,000 deliveries"):
            _crowd(bench, program, CROWDS[0])


def _rows(bench: Bench, label: str) -> list[Row]:
    rows = []
    bench.say(f"live: {label}")
    with bench.dropmill("nothing", *FLAGS) as program:
        _crowd(bench, program, 0)  # loads what is loaded once
        idle, _, seconds, count = _crowd(bench, program, 0)
        for crowd in CROWDS:
            cpu_s, seen, seconds, count = _crowd(bench, program, crowd)
            lost = sum(count - received for received in seen.events) + seen.disorder
            delivered = sum(seen.events)
            times = [f"{1000 * percentile(seen.latencies, percent):.0f}" for percent in (50, 90, 99)]
            cost = f"{1e6 * max(cpu_s - idle, 0) / delivered:.1f}"
            rows.append((label, f"{crowd} sockets", cost, f"{cpu_s / seconds:.2f}", *times, str(lost), ""))
        rows.append((label, f"{UPLOADS} uploads", *[""] * 6, _uploads(bench, program)))
        rows.append((label, "storm", *[""] * 6, _storm(bench, program)))
        rows.append((label, "1,000 idle", *[""] * 6, _idle(bench, program)))
    return rows


def _crowd(bench: Bench, program: Program, count: int) -> tuple[float, watchers.Seen, float, int]:
    """Files that come one by one into a submission that so many follow: CPU, what they saw, seconds, and events."""
    submission_id = _open(program)
    topic = f"submission:{submission_id}"
    following = _follow(bench, program, topic, 0, count, "submission.settled") if count else None
    before, began = program.cpu_s(), time.perf_counter()
    files = int(LASTS_S * EVENTS_PER_S / PER_FILE)
    for number in range(files):
        time.sleep(max(0, began + number * LASTS_S / files - time.perf_counter()))
        last = number == files - 1
        form = small_files([b"x"], names=f"{number}")
        answer = client.send_form(program.port, f"{SUBMISSIONS}/{submission_id}/files{'?seal=1' if last else ''}", form)
        if answer.status not in (200, 201):
            raise Wrong(f"a file was answered with {answer.status}: {answer.body[:200]!r}")
    seen = watchers.Seen() if following is None else following.result()
    seconds = time.perf_counter() - began
    cpu_s = program.cpu_s() - before
    _settled(program, submission_id)
    events = get_json(program, f"/api/v1/events?topic={topic}&after=0&limit=1000")["events"]
    until = next(at for at, event in enumerate(events) if event["name"] == "submission.settled")
    return cpu_s, seen, seconds, until + 1


def _uploads(bench: Bench, program: Program) -> str:
    """How much longer uploads take with watchers than without."""
    ratios = []
    for _ in range(bench.rounds):
        times = []
        for count in (0, WATCHING):
            stop = _stay(bench, program, count)
            times.append(_upload_all(program))
            stop()
        ratios.append(times[1] / times[0])
    return f"{median(ratios):.2f} x as long with {WATCHING} watchers"


def _upload_all(program: Program) -> float:
    connection = HTTPConnection("127.0.0.1", program.port)
    began = time.perf_counter()
    for number in range(UPLOADS):
        connection.request("PUT", f"/send/{number}.bin", b"x" * UPLOAD_BYTES)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 201:
            raise Wrong(f"an upload was answered with {answer.status}")
    return time.perf_counter() - began


def _storm(bench: Bench, program: Program) -> str:
    """Clients that all come back with old cursors, spread as the server asks them to."""
    for _ in range(OLD // PER_FILE // 20 + 1):
        form = small_files([b"x"] * 20)
        answer = client.send_form(program.port, SUBMISSIONS, form)
        _settled(program, json.loads(answer.body)["id"])
    newest = get_json(program, "/api/v1/events?after=newest")["cursor"]
    spread_s = CROWDS[-1] / 200
    following = _follow(bench, program, "all", max(0, newest - OLD), CROWDS[-1], "config.saved", spread_s)
    text = client.get(program.port, "/api/v1/config")
    put = HTTPConnection("127.0.0.1", program.port)
    put.request(
        "PUT", "/api/v1/config", text.body + b"# more\n", {"If-Match": f'"{hashlib.sha256(text.body).hexdigest()}"'}
    )
    if put.getresponse().status != 200:
        raise Wrong("the config was not saved")
    seen = following.result()
    return f"{CROWDS[-1]} caught up {max(0.0, seen.seconds - spread_s):.1f} s after {spread_s:.0f} s"


def _idle(bench: Bench, program: Program) -> str:
    before = program.resident_bytes()
    stop = _stay(bench, program, CROWDS[-1])
    grown = program.resident_bytes() - before
    stop()
    return f"{grown / CROWDS[-1] / 1024:.1f} KiB each"


# --- steps -----------------------------------------------------------------------------------------------------------


def _open(program: Program) -> str:
    head = "Content-Type: application/json\r\n"
    answer = client.send(program.port, "POST", SUBMISSIONS, head, Form(head=b'{"files":[]}'))
    return str(json.loads(answer.body)["id"])


def _settled(program: Program, submission_id: str) -> None:
    while get_json(program, f"{SUBMISSIONS}/{submission_id}")["state"] != "settled":
        time.sleep(0.05)


def _file(bench: Bench) -> Path:
    return bench.folder / f"sign-{time.monotonic_ns()}"


def _wait_for(path: Path) -> None:
    end = time.monotonic() + watchers.PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            raise Wrong("the clients did not all connect")
        time.sleep(0.01)


def _follow(
    bench: Bench, program: Program, topic: str, after: int, count: int, last: str, spread_s: float = 0.0
) -> "Future[watchers.Seen]":
    """Clients that follow a topic; returns once all have joined."""
    ready = _file(bench)
    following = bench.in_client(watchers.watch, program.port, topic, after, count, last, str(ready), spread_s=spread_s)
    _wait_for(ready)
    return following


def _stay(bench: Bench, program: Program, count: int) -> Callable[[], None]:
    """Clients that follow everything and read nothing; returns what ends them."""
    if not count:
        return lambda: None
    ready, until = _file(bench), _file(bench)
    staying = bench.in_client(watchers.stay, program.port, count, str(ready), str(until))
    _wait_for(ready)

    def stop() -> None:
        until.touch()
        staying.result()

    return stop
