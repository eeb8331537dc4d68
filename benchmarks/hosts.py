"""What several processes reach together on one ledger in Postgres, with fsync, and whether all of it is right.

Two busy writers have a hundred callers each, as two servers that take many small files; eight have four, as workers
that wait for their scripts. SQLite with one writer stands beside as the reference.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg
from tests.support.postgres import Postgres, running

from benchmarks.bench import Bench, Wrong
from benchmarks.programs import ROOT
from benchmarks.table import Table, middle
from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.client import ClientIdentity
from dropmill.model.ids import Cursor, SubmissionId, new_submission_id
from dropmill.model.submissions import Counts

EVENTS_A_FILE = 6
WARM_UP = 8  # files of each process before it is measured
SHAPES = ((1, 100), (2, 100), (8, 4))  # processes, and callers of each


class _Round(NamedTuple):
    events_s: float
    events_a_commit: float
    cpu_us: float  # of the writers, for each event


def measure(bench: Bench) -> Sequence[Table]:
    """Events a second of each shape."""
    rows = []
    with running(is_durable=True) as server:
        for engine, shapes in (("SQLite", SHAPES[:1]), ("Postgres", SHAPES)):
            for processes, callers in shapes:
                rounds = []
                for number in range(bench.rounds):
                    bench.say(f"hosts, round {number + 1}: {engine}, {processes} processes of {callers} callers")
                    place = _place(bench, server, engine)
                    rounds.append(asyncio.run(_round(place, processes, callers, bench.scale.many_jobs)))
                rows.append(
                    (
                        *(engine, f"{processes}", f"{callers}"),
                        middle([one.events_s for one in rounds]),
                        middle([one.events_a_commit for one in rounds], 1),
                        middle([one.cpu_us for one in rounds]),
                    )
                )
    return [
        Table(
            title="Ledger: events a second of several processes together",
            columns=("ledger", "processes", "callers of each", "events/s", "events a commit", "CPU us an event"),
            rows=rows,
            notes=[
                "A file's life is four changes and six events. After each round the cursors are 1, 2, 3, ... and every "
                "counter is what its rows say; otherwise the run fails. Postgres and its clients share one machine; "
                "CPU is that of the writing processes."
            ],
        )
    ]


def run(bench: Bench) -> None:
    """No server of ours is measured here, so that two trees cannot be compared."""
    raise Wrong("hosts measures processes that open the ledger themselves")


def _place(bench: Bench, server: Postgres, engine: str) -> str:
    if engine == "Postgres":
        return server.url(server.make_database())
    return str(bench.folder / f"ledger-{time.monotonic_ns()}.sqlite")


async def _round(place: str, processes: int, callers: int, files: int) -> _Round:
    ledger: SqlLedger
    ledger = (
        PostgresLedger(place, lambda _: None)
        if place.startswith("postgresql:")
        else SqliteLedger(Path(place), lambda _: None)
    )
    await ledger.open()
    await ledger.save_revision(b"a: 1\n", base=None, client=None, account=None, message=None)
    ids = [new_submission_id() for _ in range(processes)]
    for submission_id in ids:
        await ledger.open_submission(submission_id, ClientIdentity(ip="192.0.2.7"), None)
    share = files // processes
    began, told = await asyncio.to_thread(_write, place, ids, callers, share)
    total = share * processes
    wall_s = time.perf_counter() - began
    await _check(ledger, place, ids, share + WARM_UP)
    await ledger.close()
    cpu_s = sum(float(words[0]) for words in told)
    commits = sum(int(words[1]) for words in told)
    return _Round(
        total * EVENTS_A_FILE / wall_s, total * EVENTS_A_FILE / commits, cpu_s * 1e6 / (total * EVENTS_A_FILE)
    )


def _write(place: str, ids: Sequence[SubmissionId], callers: int, share: int) -> tuple[float, list[list[str]]]:
    """Have the processes write; when they began, and what each said."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.ledger_writer", place, one, str(callers), str(share)],
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for one in ids
        ]
        for writer in writers:
            if writer.stdout is None or writer.stdout.readline() != "ready\n":
                raise Wrong("a writer did not start")
        began = time.perf_counter()
        for writer in writers:
            if writer.stdin is not None:
                writer.stdin.write("\n")
                writer.stdin.flush()
        told = [writer.stdout.readline().split() if writer.stdout else [] for writer in writers]
        if not all(told):
            raise Wrong("a writer failed")
        return began, told


async def _check(ledger: SqlLedger, place: str, ids: Sequence[SubmissionId], files: int) -> None:
    """Raise if an event is missing, or a counter does not say what the rows do."""
    newest = await ledger.newest_cursor()
    expected = 1 + len(ids) + len(ids) * files * EVENTS_A_FILE
    if newest != expected:
        raise Wrong(f"there are {newest} events instead of {expected}")
    after, seen = Cursor(0), 0
    while page := (await ledger.events("all", after=after, limit=1000)).events:
        if [event.cursor for event in page] != list(range(seen + 1, seen + 1 + len(page))):
            raise Wrong(f"there is a hole behind cursor {seen}")
        seen += len(page)
        after = page[-1].cursor
    for submission_id in ids:
        counts = (await ledger.view_submission(submission_id, limit=1)).submission.counts
        if counts != Counts(succeeded=files):
            raise Wrong(f"a submission counts {counts}")
    if place.startswith("postgresql:"):
        with psycopg.connect(place) as connection:
            rows = connection.execute("SELECT count(*) FROM jobs WHERE state = 'succeeded'").fetchone()
        if rows != (files * len(ids),):
            raise Wrong(f"there are {rows} jobs that succeeded")
