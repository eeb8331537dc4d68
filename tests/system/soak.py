"""Ten minutes of mixed load on a server of its own, and a table of what it holds: `make soak ARGS='--minutes 1'`.

The load: forms of small and large files, resumable uploads that are broken off and gone on with, uploads that are cut
for good, jobs that fail, leave results or deep folders, cancels, retries, config saves, downloads, live pages that
come and go. Everything that is kept is kept for a few seconds only, so that a server that gives back what it takes
reaches a level and stays there.

What grows without bound is found by comparing the second half of the samples with the first, never by the time that
anything took. The exit code is 1 if something grew, if a request was answered with a 500, or if the server ended.
"""

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.support.server import Server, form, post
from tests.support.tus import append, create, offset_of

SAMPLES = 60  # a row of the table each
WARM_UP = 0.2  # of the samples, until caches and pools have filled
QUEUED_MAX = 20  # jobs that wait at which nothing more is sent: a queue that grows is the load's doing
KEPT_S = 5  # how long the server keeps files, results, output and events

SCRIPT = """
import os, sys
def process(path, file, results, work):
    kind = file.name.partition("-")[0]
    print("working on", file.name, flush=True)
    if kind == "fails":
        raise ValueError("as it should")
    if kind == "leaves":
        for number in range(5):
            (results / f"{number}.txt").write_text("result\\n" * 1000)
    if kind == "nests":
        os.chdir(work)
        for _ in range(200):
            os.mkdir("d")
            os.chdir("d")
    if kind == "talks":
        print("x" * 100_000)
    return file.size
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A thing that is counted, and how much more of it the second half may hold than the first.

    Attributes:
        title: of its column.
        count: gives it now.
        factor: by which the median may be higher.
        slack: by how much it may be higher besides, in the measure's own unit: what chance adds to small numbers.
    """

    title: str
    count: Callable[[Server], float]
    factor: float
    slack: float


def _resident_mib(server: Server) -> float:
    return server.resident_bytes / 2**20


def _descriptors(server: Server) -> float:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def _threads(server: Server) -> float:
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def _processes(server: Server) -> float:
    return len(server.strays())


def _size_mib(*parts: str) -> Callable[[Server], float]:
    def size(server: Server) -> float:
        path = server.data.joinpath(*parts)
        return path.stat().st_size / 2**20 if path.exists() else 0.0

    return size


def _files(*parts: str) -> Callable[[Server], float]:
    def files(server: Server) -> float:
        return sum(len(names) for _, _, names in os.walk(server.data.joinpath(*parts)))

    return files


def _entries(*parts: str) -> Callable[[Server], float]:
    def entries(server: Server) -> float:
        return len(os.listdir(server.data.joinpath(*parts)))

    return entries


MEASURES: Sequence[Measure] = (
    Measure(title="memory MiB", count=_resident_mib, factor=1.1, slack=8),
    Measure(title="descriptors", count=_descriptors, factor=1.2, slack=15),
    Measure(title="threads", count=_threads, factor=1.1, slack=4),
    Measure(title="processes", count=_processes, factor=1.2, slack=4),
    Measure(title="WAL MiB", count=_size_mib("ledger.sqlite-wal"), factor=1.2, slack=8),
    Measure(title="incoming", count=_entries("incoming"), factor=1.2, slack=15),
    Measure(title="blobs", count=_files("blobs"), factor=1.3, slack=100),
    Measure(title="outputs", count=_files("outputs"), factor=1.3, slack=100),
    Measure(title="attempts", count=_entries("attempts"), factor=1.2, slack=4),
    Measure(title="configs", count=_entries("configs"), factor=1.2, slack=4),
)


class Load:
    """Threads that each repeat one way of using a server, until told to stop."""

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        self._seed = seed
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._problems: Counter[str] = Counter()
        self.rounds: Counter[str] = Counter()

    def start(self) -> None:
        """Begin with each way."""
        ways = (self.send, self.send, self.resume, self.cut_off, self.save_config, self.watch, self.use_jobs)
        for number, way in enumerate(ways):
            chance = random.Random(self._seed + number)
            thread = threading.Thread(target=self._repeat, args=(way, chance), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let each round that is under way end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def problems(self) -> Mapping[str, int]:
        """What must not happen, and how often it did."""
        return self._problems

    def _repeat(self, way: Callable[[httpx.Client, random.Random], None], chance: random.Random) -> None:
        with httpx.Client(base_url=self._server.url, timeout=60, trust_env=False) as client:
            client.event_hooks = {"response": [self._judge]}
            while not self._stop.wait(0.05):
                try:
                    queued = client.get(f"/api/v1/jobs?state=queued&limit={QUEUED_MAX}").json()["items"]
                    if len(queued) >= QUEUED_MAX:
                        continue
                    way(client, chance)
                except Exception as error:
                    self._problems[f"{way.__name__}: {type(error).__name__}: {error}"] += 1
                self.rounds[way.__name__] += 1

    def _judge(self, answer: httpx.Response) -> None:
        if answer.status_code == 500:
            self._problems[f"500 from {answer.request.method} {answer.request.url.path}"] += 1

    def send(self, client: httpx.Client, chance: random.Random) -> None:
        """A form of a few files, the results of which are then downloaded."""
        kinds = [chance.choice(["plain", "fails", "leaves", "nests", "talks"]) for _ in range(chance.randint(1, 6))]
        files = [
            ("file", (f"{kind}-{number}.txt", chance.randbytes(chance.choice([0, 10, 1000, 400_000]))))
            for number, kind in enumerate(kinds)
        ]
        submission = client.post("/api/v1/submissions", files=files).json()["id"]
        client.get(f"/submissions/{submission}")
        client.get(f"/api/v1/submissions/{submission}/results.zip")

    def resume(self, client: httpx.Client, chance: random.Random) -> None:
        """A resumable upload in several requests; some are left behind or ended."""
        content = chance.randbytes(300_000)
        url = create(client, len(content))
        end = chance.choice([100_000, 200_000, 300_000])
        for start in range(0, end, 100_000):
            append(client, url, start, content[start : start + 100_000])
        if end < len(content):
            offset_of(client, url)
            if chance.random() < 0.5:
                client.delete(url, headers={"Tus-Resumable": "1.0.0"})

    def cut_off(self, client: httpx.Client, chance: random.Random) -> None:
        """A form whose client leaves anywhere."""
        body = form([("plain-whole.txt", b"1"), ("plain-half.txt", bytes(600_000))])
        with self._server.connect() as upload, contextlib.suppress(OSError):
            upload.sendall(post(self._server, len(body)) + body[: chance.randrange(len(body))])

    def save_config(self, client: httpx.Client, chance: random.Random) -> None:
        """Another revision, for the next jobs to be bound to."""
        etag = client.get("/api/v1/config").headers["ETag"]
        text = f"# saved by the soak\nvalue: {chance.random()}\n"
        client.put("/api/v1/config", content=text, headers={"If-Match": etag, "Content-Type": "application/yaml"})

    def watch(self, client: httpx.Client, chance: random.Random) -> None:
        """A live page that stays for a moment."""
        with self._server.live() as page:
            page.send('{"type": "join", "id": 1, "topic": "all"}')
            for _ in range(chance.randrange(20)):
                with contextlib.suppress(TimeoutError):
                    page.recv(0.2)

    def use_jobs(self, client: httpx.Client, chance: random.Random) -> None:
        """Look at jobs, cancel some and retry others."""
        for job in client.get("/api/v1/jobs?limit=5").json()["items"]:
            client.get(f"/jobs/{job['id']}")
            client.get(f"/api/v1/jobs/{job['id']}/output")
            client.post(f"/api/v1/jobs/{job['id']}/{chance.choice(['cancel', 'retry'])}")


def grown(samples: Sequence[Sequence[float]]) -> list[str]:
    """What the second half of the samples has more of than the first, in sentences."""
    settled = samples[int(len(samples) * WARM_UP) :]
    middle = len(settled) // 2
    found = []
    for column, measure in enumerate(MEASURES):
        first = statistics.median(row[column] for row in settled[:middle])
        second = statistics.median(row[column] for row in settled[middle:])
        if second > first * measure.factor + measure.slack:
            found.append(f"{measure.title} grew from {first:.1f} to {second:.1f} (medians of the halves).")
    return found


def soak(server: Server, duration_s: float, seed: int) -> tuple[list[list[float]], list[str]]:
    """Put a server under load and print a table; its rows, and what must not have happened."""
    load = Load(server, seed)
    load.start()
    rows: list[list[float]] = []
    print("| s | " + " | ".join(measure.title for measure in MEASURES) + " |")
    print("|--:|" + "--:|" * len(MEASURES))
    begun = time.monotonic()
    problems: list[str] = []
    for number in range(SAMPLES):
        time.sleep(max(0.0, begun + (number + 1) * duration_s / SAMPLES - time.monotonic()))
        if server.process.poll() is not None:
            problems.append(f"The server ended: {server.said()[-2000:]}")
            break
        rows.append([measure.count(server) for measure in MEASURES])
        shown = " | ".join(f"{value:.1f}" if value % 1 else f"{value:.0f}" for value in rows[-1])
        print(f"| {time.monotonic() - begun:.0f} | {shown} |", flush=True)
    load.stop()
    print(f"\nRounds: {', '.join(f'{name} {count}' for name, count in sorted(load.rounds.items()))}.")
    return rows, problems + [f"{problem} ({count} times)" for problem, count in load.problems.items()]


def main() -> int:
    """Run from the command line; 0 if nothing grew and nothing went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long; default 10")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="of the random load; default: another each")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if chosen.seed is None else chosen.seed
    print(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="dropmill-soak-") as folder:
        kept = [f"--keep={KEPT_S}s", f"--keep-events={KEPT_S}s", f"--upload-expiry={KEPT_S}s", "--keep-revisions=10"]
        flags = ("--processor", "soak:process", "--concurrency", "2", *kept)
        server = Server(Path(folder) / "server", *flags, is_fresh=True)
        (server.folder / "soak.py").write_text(SCRIPT)
        try:
            rows, problems = soak(server.start(), chosen.minutes * 60, seed)
            if server.process.poll() is None and (code := server.stop()) != 0:
                problems.append(f"The server stopped with {code}.")
        finally:
            server.end()
    problems += grown(rows)
    print("\n".join(problems) or "Nothing grew without bound.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
