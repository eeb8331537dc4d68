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
from benchmarks.client import Form, get_steadily, small_files
from benchmarks.paired import unpack
from benchmarks.peers.environment import SERVERS, Missing, python
from benchmarks.programs import ROOT, Program
from benchmarks.table import Table, percentile

BEFORE = "81b1b9a"  # the last commit in which each subscriber read the ledger for itself
EVENTS_PER_S, PER_FILE = 100, 6  # a file of a form has six events
UPLOADS, UPLOAD_BYTES = 100, 1024
STALLED = 20  # clients that read nothing
PER_SECOND = 50  # requests beside a job that prints
PEERS = {"websockets, broadcast": "websockets_broadcast.py", "Flask-SocketIO": "socketio_broadcast.py"}
FLAGS = ("--max-sockets-per-client", "3000", "--max-connections-per-client", "3000", "--join-rate", "100000000")

THIS_TREE = "this tree"

Row = Sequence[str]


def measure(bench: Bench) -> Sequence[Table]:
    """This tree, the last one in which each subscriber read for itself, and two libraries that only broadcast."""
    rows: list[Row] = []
    trees = [(THIS_TREE, ROOT)]
    if bench.scale.is_before_everywhere:
        trees.append(unpack(BEFORE, bench.folder))
    for label, tree in trees:
        bench.marked_work(tree, lambda bench, label=label: rows.extend(_rows(bench, label)))  # type: ignore[misc]
    for label, script in PEERS.items():
        rows += _broadcasts(bench, label, script)
    table = Table(
        title=f"Live: sockets on one submission at {EVENTS_PER_S} events/s, for {bench.scale.watched_s:.0f} s",
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
        amount = bench.scale.watchers[0] * EVENTS_PER_S * bench.scale.watched_s / 1000
        with bench.work(f"{bench.scale.watchers[0]} sockets", program, amount, "1,000 deliveries"):
            _crowd(bench, program, bench.scale.watchers[0])


class _Rows(list[Row]):
    """The rows of a tree; each is said as soon as it is known, because all take ten minutes."""

    def __init__(self, bench: Bench, label: str) -> None:
        super().__init__()
        self._bench = bench
        self._label = label

    def add(self, what: str, *cells: str) -> None:
        """A row of cells; one cell alone is the last."""
        row = (self._label, what, *([""] * 6 if len(cells) == 1 else ()), *cells)
        self._bench.say("live: " + ", ".join(cell for cell in row if cell))
        self.append(row)


def _rows(bench: Bench, label: str) -> list[Row]:
    rows = _Rows(bench, label)
    bench.say(f"live: {label}")
    with bench.dropmill("nothing", *FLAGS) as program:
        _crowd(bench, program, 0)  # loads what is loaded once
        idle, _, seconds, count = _crowd(bench, program, 0)
        for crowd in bench.scale.watchers:
            cpu_s, seen, seconds, count = _crowd(bench, program, crowd)
            lost = sum(count - received for received in seen.events) + seen.disorder
            delivered = sum(seen.events)
            cost, rate = f"{1e6 * max(cpu_s - idle, 0) / delivered:.1f}", _rate(seen)
            cells = cost, f"{cpu_s / seconds:.2f}", *_times(seen), str(lost), rate
            rows.add(f"{crowd} sockets", *cells)
        rows.add(f"{UPLOADS} uploads", _uploads(bench, program))
        try:
            rows.add("storm", _storm(bench, program))
        except Wrong as error:
            if label == THIS_TREE:
                raise
            rows.add("storm", str(error))  # the one before may not get through, which is why it was changed
    with bench.dropmill("nothing", *FLAGS) as program:
        rows.add(f"{bench.scale.watchers[-1]:,} idle", _idle(bench, program))
        rows.add(f"{STALLED} that read nothing", _stalled(bench, program))
    with bench.dropmill("print_lines", *FLAGS) as program:
        rows.add("100,000 lines a second", _printing(bench, program))
    return rows


def _times(seen: watchers.Seen) -> list[str]:
    return [f"{1000 * percentile(seen.latencies, percent):.0f}" for percent in (50, 90, 99)]


def _rate(seen: watchers.Seen) -> str:
    return f"{sum(seen.events) / seen.lasted_s:,.0f} events/s delivered"


def _broadcasts(bench: Bench, label: str, script: str) -> list[Row]:
    """The same crowds, sent as many events by a library that keeps nothing."""
    rows: list[Row] = []
    for crowd in bench.scale.watchers:
        bench.say(f"live: {label}, {crowd}")
        count = int(bench.scale.watched_s * EVENTS_PER_S)
        try:
            words = [str(SERVERS / script), str(crowd), str(count), str(EVENTS_PER_S)]
            program, _ = bench.peer(python(), lambda _, port, words=words: [words[0], str(port), *words[1:]])  # type: ignore[misc]
        except Missing as missing:
            return [(label, str(missing), *[""] * 7)]
        with program:
            try:
                following = _follow(
                    bench, program, "", 0, crowd, "submission.settled", is_socketio="socketio" in script
                )
                before, began = program.cpu_s(), time.perf_counter()
                seen = following.result()
                cpu_s, seconds = program.cpu_s() - before, time.perf_counter() - began
            except (Wrong, OSError) as error:  # a library may close sockets that it cannot serve in time
                rows.append((label, f"{crowd} sockets", *[""] * 6, f"did not get through: {error}"))
                continue
        lost = sum(count - received for received in seen.events) + seen.disorder
        cost = f"{1e6 * cpu_s / sum(seen.events):.1f}"
        rows.append((label, f"{crowd} sockets", cost, f"{cpu_s / seconds:.2f}", *_times(seen), str(lost), _rate(seen)))
    return rows


def _crowd(bench: Bench, program: Program, count: int) -> tuple[float, watchers.Seen, float, int]:
    """Files that come one by one into a submission that so many follow: CPU, what they saw, seconds, and events."""
    submission_id = _open(program)
    topic = f"submission:{submission_id}"
    following = _follow(bench, program, topic, 0, count, "submission.settled") if count else None
    before, began = program.cpu_s(), time.perf_counter()
    files = int(bench.scale.watched_s * EVENTS_PER_S / PER_FILE)
    for number in range(files):
        time.sleep(max(0, began + number * bench.scale.watched_s / files - time.perf_counter()))
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
        for count in (0, bench.scale.watchers[0]):
            stop = _stay(bench, program, count)
            times.append(_upload_all(program))
            stop()
        ratios.append(times[1] / times[0])
    return f"{median(ratios):.2f} x as long with {bench.scale.watchers[0]} watchers"


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
    for _ in range(bench.scale.missed_events // PER_FILE // 20 + 1):
        form = small_files([b"x"] * 20)
        answer = client.send_form(program.port, SUBMISSIONS, form)
        _settled(program, json.loads(answer.body)["id"])
    newest = get_json(program, "/api/v1/events?after=newest")["cursor"]
    spread_s = bench.scale.watchers[-1] / 200
    following = _follow(
        bench,
        program,
        "all",
        max(0, newest - bench.scale.missed_events),
        bench.scale.watchers[-1],
        "config.saved",
        spread_s,
    )
    text = client.get(program.port, "/api/v1/config")
    put = HTTPConnection("127.0.0.1", program.port)
    put.request(
        "PUT", "/api/v1/config", text.body + b"# more\n", {"If-Match": f'"{hashlib.sha256(text.body).hexdigest()}"'}
    )
    if put.getresponse().status != 200:
        raise Wrong("the config was not saved")
    seen = following.result()
    return f"{bench.scale.watchers[-1]} caught up {max(0.0, seen.seconds - spread_s):.1f} s after {spread_s:.0f} s"


def _idle(bench: Bench, program: Program) -> str:
    before = program.resident_bytes()
    stop = _stay(bench, program, bench.scale.watchers[-1])
    grown = program.resident_bytes() - before
    stop()
    return f"{grown / bench.scale.watchers[-1] / 1024:.1f} KiB each"


def _stalled(bench: Bench, program: Program) -> str:
    """What clients cost that follow everything and read nothing, and how much later others get events."""
    alone, beside = _latency(bench, program), 0.0
    program.reset_peak()
    before = program.resident_bytes()
    stop = _stay(bench, program, STALLED, watchers.stall)
    answer = client.send_form(program.port, SUBMISSIONS, small_files([b"x"] * bench.scale.missed_events))
    _settled(program, json.loads(answer.body)["id"])
    grown = program.peak_bytes() - before
    beside = _latency(bench, program)
    stop()
    return f"{grown / STALLED / 2**20:.2f} MiB each; p99 of others {1000 * beside:.0f} ms, {1000 * alone:.0f} alone"


def _latency(bench: Bench, program: Program) -> float:
    _, seen, _, _ = _crowd(bench, program, 20)
    return percentile(seen.latencies, 99)


def _printing(bench: Bench, program: Program) -> str:
    """A job that prints, followed by ten sockets: the page beside it, and the server's CPU."""
    answer = client.send_form(program.port, SUBMISSIONS, small_files([b"x"]))
    receipt = json.loads(answer.body)
    stop = _stay(bench, program, 10, topic=f"output:{receipt['files'][0]['job']['id']}")
    before, began = program.cpu_s(), time.perf_counter()
    path = f"{SUBMISSIONS}/{receipt['id']}"

    def is_over(count: int) -> bool:
        return count > 0 and count % PER_SECOND == 0 and get_json(program, path)["state"] == "settled"

    times = get_steadily(program.port, "/", per_second=PER_SECOND, until=is_over)
    used = (program.cpu_s() - before) / (time.perf_counter() - began)
    stop()
    return f"`GET /` p99 {1000 * percentile(times, 99):.0f} ms; {used:.2f} cores"


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
    bench: Bench,
    program: Program,
    topic: str,
    after: int,
    count: int,
    last: str,
    spread_s: float = 0.0,
    *,
    is_socketio: bool = False,
) -> "Future[watchers.Seen]":
    """Clients that follow a topic; returns once all have joined."""
    ready = _file(bench)
    following = bench.in_client(
        watchers.watch, program.port, topic, after, count, last, str(ready), spread_s, is_socketio=is_socketio
    )
    _wait_for(ready)
    return following


def _stay(
    bench: Bench,
    program: Program,
    count: int,
    how: Callable[..., int] = watchers.stay,
    **named: str,
) -> Callable[[], None]:
    """Clients that stay until the function that is returned ends them."""
    if not count:
        return lambda: None
    ready, until = _file(bench), _file(bench)
    staying = bench.in_client(how, program.port, count, str(ready), str(until), **named)
    _wait_for(ready)

    def stop() -> None:
        until.touch()
        staying.result()

    return stop
