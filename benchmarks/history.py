"""How reads and the start behave when there is much history, and many jobs wait."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Insert, create_engine, event, insert

from benchmarks import client
from benchmarks.bench import SUBMISSIONS, Bench, Wrong, get_json, quiet_disk
from benchmarks.programs import ROOT, Program
from benchmarks.table import LATENCY_COLUMNS, Table, latency_cells, middle
from dropmill.engines.sql.tables import attempts, events, files, jobs, submissions
from dropmill.engines.sqlite.ledger import SqliteLedger

FILES_EACH = 10  # of a submission in the history
ROWS_AT_ONCE = 5000
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = b"a: 1\n"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def measure(bench: Bench) -> Sequence[Table]:
    """The first pages of a short and of a long history; the start with many jobs in line."""
    short, long, queued = 100, bench.scale.history_jobs, bench.scale.queued_jobs
    rows: list[Sequence[str]] = []
    for count in (short, long):
        bench.say(f"history: making a ledger of {count} jobs")
        with served(bench, count, 0) as program:
            newest = get_json(program, f"{SUBMISSIONS}?limit=1")["items"][0]["id"]
            for name, path in {
                "GET /submissions": SUBMISSIONS,
                "GET /submissions?state=processing": f"{SUBMISSIONS}?state=processing",
                "GET /jobs": "/api/v1/jobs",
                "GET /jobs?state=failed": "/api/v1/jobs?state=failed",
                "GET /submissions/{id}": f"{SUBMISSIONS}/{newest}",
            }.items():
                bench.say(f"history of {count} jobs: {name}")
                asked = [_timed(program, path, bench.scale.requests // 4) for _ in range(bench.rounds)]
                rows.append((f"{count:,}", name, *latency_cells(asked)))
    started = []
    for number in range(bench.rounds):
        bench.say(f"history, round {number + 1}: a start with {queued} jobs in line")
        began = time.monotonic()
        with served(bench, long, queued) as program:
            made = time.monotonic()
            _timed(program, "/healthz", 1)
            started.append(time.monotonic() - made + program.started_s)
            waiting = get_json(program, f"{SUBMISSIONS}?limit=1")["items"][0]
            place = get_json(program, f"{SUBMISSIONS}/{waiting['id']}/files?limit=1000")["items"][-1]["job"]["position"]
            if waiting["counts"]["queued"] < queued - 1 or not place:
                raise Wrong(f"not all are in line: {waiting['counts']}, place {place}")
        bench.say(f"history, round {number + 1}: took {time.monotonic() - began:.0f} s, ledger included")
    return [
        Table(
            title=f"History: reads beside {long:,} jobs in the ledger, and a start with {queued:,} in line",
            columns=("jobs in the ledger", "request", *LATENCY_COLUMNS),
            rows=rows,
            notes=[
                f"Seconds from the start of the process until /healthz answers and {queued:,} jobs are back in line, "
                f"with {long:,} settled ones in the ledger: {middle(started, 1)}."
            ],
        )
    ]


def run(bench: Bench) -> None:
    """First pages beside a long history, marked as work."""
    with served(bench, bench.scale.history_jobs, 0) as program:
        for path in (SUBMISSIONS, "/api/v1/jobs"):
            count = bench.scale.requests // 4
            with bench.work(f"GET {path}", program, count, "request"):
                _timed(program, path, count)


def served(bench: Bench, settled: int, queued: int, *flags: str) -> Program:
    """A server on a ledger with so many settled jobs, and so many that wait; `flags` are more words for it."""

    def arguments(folder: Path) -> Sequence[str]:
        (folder / "config.yaml").write_bytes(CONFIG)
        words = ["-m", "benchmarks.history", str(folder / "data"), str(settled), str(queued)]
        # In a process of its own, so that the ledger is made by the code that is measured.
        subprocess.run([sys.executable, *words], cwd=ROOT, env={**os.environ, **bench.source}, check=True)
        quiet_disk()
        hang = "benchmarks.processors:wait"  # so that those in line stay there
        return [
            *("-m", "dropmill", "serve", "--bind", "127.0.0.1:0", "--data", f"{folder}/data", "--concurrency", "1"),
            *("--config", f"{folder}/config.yaml", "--processor", hang, "--grace", "0", *flags),
        ]

    return bench.program(arguments)


def _timed(program: Program, path: str, count: int) -> list[float]:
    found = [client.get(program.port, path) for _ in range(count)]
    if any(exchange.status != 200 for exchange in found):
        raise Wrong(f"GET {path} was answered with {found[-1].status}")
    return [exchange.seconds for exchange in found]


# --- a ledger with a past --------------------------------------------------------------------------------------------


def make_history(data: Path, *, settled: int, queued: int) -> None:
    """A data folder as a server leaves it: settled jobs, some failed, without their bytes; one submission in line.

    Args:
        data: the folder, made here.
        settled: jobs of the past.
        queued: jobs in line, all of the newest submission; their files are there.
    """
    data.mkdir(parents=True)
    asyncio.run(_first_revision(data / "ledger.sqlite"))
    engine = create_engine(f"sqlite:///{data / 'ledger.sqlite'}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    rows = _Rows()
    for start in range(0, settled, FILES_EACH):
        rows.add_submission(min(FILES_EACH, settled - start), is_settled=True)
    if queued:
        blobs = rows.add_submission(queued, is_settled=False)
        for key in blobs:
            path = data / "blobs" / key[:2] / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o400)
    with engine.begin() as connection:
        for statement, values in rows.by_table:
            left = iter(values)
            while some := list(islice(left, ROWS_AT_ONCE)):
                connection.execute(statement, some)
    engine.dispose()
    log = data / "log" / "dropmill.jsonl"
    log.parent.mkdir()
    log.write_text(f'{{"at":"","cursor":{rows.newest_cursor}}}\n')  # its beginning was rotated away long ago


async def _first_revision(path: Path) -> None:
    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    await ledger.save_revision(CONFIG, base=None, client=None, account=None, message=None)
    await ledger.close()


class _Rows:
    """Rows of a past, consistent with one another."""

    def __init__(self) -> None:
        self._submissions: list[dict[str, Any]] = []
        self._files: list[dict[str, Any]] = []
        self._jobs: list[dict[str, Any]] = []
        self._attempts: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._cursor = 1  # of the config's
        self._now = BEGAN

    @property
    def newest_cursor(self) -> int:
        """Of the last event."""
        return self._cursor

    @property
    def by_table(self) -> Iterator[tuple[Insert, list[dict[str, Any]]]]:
        """What is to be inserted, in an order that foreign keys allow."""
        yield insert(submissions), self._submissions
        yield insert(files), self._files
        yield insert(jobs), self._jobs
        yield insert(attempts), self._attempts
        yield insert(events), self._events

    def add_submission(self, count: int, *, is_settled: bool) -> list[str]:
        """One more submission; returns the keys of its files' bytes."""
        submission_id = secrets.token_hex(16)
        failed = count // 5 if is_settled else 0
        self._now += timedelta(seconds=1)
        self._emit("submission.opened", submission_id)
        blobs = [
            self._add_file(
                submission_id, number, ("failed" if number < failed else "succeeded") if is_settled else None
            )
            for number in range(count)
        ]
        counts = {"queued": 0 if is_settled else count, "failed": failed}
        counts["succeeded"] = count - failed if is_settled else 0
        self._submissions.append(
            {
                "id": submission_id,
                "is_open": False,
                "is_announced": False,
                "opened_at": self._now,
                "settled_at": self._now if is_settled else None,
                "times_settled": int(is_settled),
                "ip": "192.0.2.7",
                "verified": False,
                "is_identified": True,
                "last_tag": 0 if is_settled else count,
                **counts,
            }
        )
        if is_settled:
            zero = dict.fromkeys(("announced", "receiving", "aborted", "running", "cancelled"), 0)
            self._emit("submission.settled", submission_id, number=1, counts=zero | counts)
        return blobs

    def _add_file(self, submission_id: str, number: int, outcome: str | None) -> str:
        file_id, job_id = secrets.token_hex(16), secrets.token_hex(16)
        name = f"file {number}.txt"
        blob = secrets.token_hex(16) + ".txt"
        about = {"file_id": file_id, "file_name": name}
        self._files.append(
            {
                "id": file_id,
                "submission_id": submission_id,
                "name": name,
                "path": f"a folder/{name}",
                "number": number,
                "size": 0,
                "received": 0,
                "sha256": EMPTY_SHA256,
                "state": "stored",
                "blob": blob,
            }
        )
        self._emit("upload.started", submission_id, about, size=None, path=name)
        self._emit("upload.stored", submission_id, about, size=0, sha256=EMPTY_SHA256)
        about["job_id"] = job_id
        self._emit("job.queued", submission_id, about, reason="stored")
        job: dict[str, Any] = {
            "id": job_id,
            "file_id": file_id,
            "submission_id": submission_id,
            "state": outcome or "queued",
            "queued_at": self._now,
            "queued_cursor": self._cursor,
            "started_at": None,
            "settled_at": None,
            "exit_code": None,
            "attempt": 0,
            "config_number": 1,
            "tag": None if outcome else number + 1,
        }
        if outcome:
            job |= {"started_at": self._now, "settled_at": self._now, "exit_code": 0, "attempt": 1}
            ended = {"exit_code": 0, "duration": 0.0, "output_size": 0}
            error = {"error": None} if outcome == "failed" else {}
            self._attempts.append(
                {
                    "job_id": job_id,
                    "number": 1,
                    "state": outcome,
                    "exit_code": 0,
                    "config_revision": EMPTY_SHA256,
                    "started_at": self._now,
                    "settled_at": self._now,
                    "host": "here",
                }
            )
            self._emit("attempt.started", submission_id, about, config_revision=EMPTY_SHA256, host="here")
            self._emit(f"attempt.{outcome}", submission_id, about, **ended, **error)
            self._emit(
                "job.settled", submission_id, about, **ended, state=outcome, error=None, result_count=0, results=[]
            )
        self._jobs.append(job)
        return blob

    def _emit(self, name: str, submission_id: str, about: dict[str, Any] | None = None, **data: Any) -> None:
        self._cursor += 1
        empty: dict[str, Any] = {"file_id": None, "job_id": None, "file_name": None}
        self._events.append(
            {
                **empty,
                **(about or {}),
                "cursor": self._cursor,
                "at": self._now,
                "name": name,
                "submission_id": submission_id,
                "client": {
                    "ip": "192.0.2.7",
                    "host": None,
                    "verified": False,
                    "domain": None,
                    "user_agent": None,
                },
                "data": data,
            }
        )


if __name__ == "__main__":
    make_history(Path(sys.argv[1]), settled=int(sys.argv[2]), queued=int(sys.argv[3]))
