"""What is read of one owner's things is found by an index, on every database, however much others have sent."""

import contextlib
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Pool, event
from tests.contracts import history
from tests.contracts.ledgers import LedgerEngine, SqliteEngine

from dropmill.engines.sql.ledger import SqlLedger
from dropmill.model.errors import NotFound
from dropmill.model.history import HistoryFilter
from dropmill.model.ids import Cursor, FileId, JobId, Owner, SubmissionId

MUCH = Owner("account:7")
LITTLE = Owner(history.OF_LITTLE)
JOBS = 20_000
JOBS_IN_FULL = 1_000_000

Call = Callable[[SqlLedger, Owner], Awaitable[Any]]
YEAR = HistoryFilter(opened_from=datetime(2008, 1, 1, tzinfo=UTC), opened_before=datetime(2009, 1, 1, tzinfo=UTC))
S, F, J = SubmissionId("s7"), FileId("f601"), JobId("j601")

READS: Mapping[str, Call] = {
    "history": lambda ledger, o: ledger.submissions(before=None, limit=50, visible_to=o),
    "older history": lambda ledger, o: ledger.submissions(before="150", limit=50, visible_to=o),
    "settled": lambda ledger, o: ledger.submissions(before=None, limit=50, state="settled", visible_to=o),
    "open": lambda ledger, o: ledger.submissions(before=None, limit=50, state="open", visible_to=o),
    "one submission": lambda ledger, o: _found(ledger.view_submission(S, limit=9, visible_to=o)),
    "one file": lambda ledger, o: _found(ledger.file(F, visible_to=o)),
    "one job": lambda ledger, o: _found(ledger.job(J, visible_to=o)),
    "one result": lambda ledger, o: _found(ledger.result(J, "a", None, visible_to=o)),
    "one upload": lambda ledger, o: _found(ledger.upload(F, visible_to=o)),
    "what is announced": lambda ledger, o: ledger.announced_upload(S, "a", visible_to=o),
    "what is awaited": lambda ledger, o: _found(ledger.awaited_files(S, F, ahead=255, visible_to=o)),
    "what it holds": lambda ledger, o: _found(ledger.submission_usage(S, visible_to=o)),
    "jobs": lambda ledger, o: ledger.jobs(before=None, limit=50, visible_to=o),
    "older jobs": lambda ledger, o: ledger.jobs(before="15000", limit=50, visible_to=o),
    "failed jobs": lambda ledger, o: ledger.jobs(before=None, limit=50, state="failed", visible_to=o),
    "jobs of a submission": lambda ledger, o: ledger.jobs(before=None, limit=50, submission_id=S, visible_to=o),
    "events": lambda ledger, o: ledger.events("all", after=Cursor(5), limit=500, visible_to=o),
    "events of a submission": lambda ledger, o: ledger.events(
        "submission:s7", after=Cursor(5), limit=500, visible_to=o
    ),
    "older events": lambda ledger, o: ledger.events_before("all", before=Cursor(50_000), limit=500, visible_to=o),
    "older events of a submission": lambda ledger, o: ledger.events_before(
        "submission:s7", before=Cursor(50_000), limit=500, visible_to=o
    ),
    "sums": lambda ledger, o: ledger.totals(visible_to=o),
    "a name": lambda ledger, o: ledger.jobs(before=None, limit=50, text="report 60", visible_to=o),
    "a common name": lambda ledger, o: ledger.jobs(before=None, limit=50, text=".txt", visible_to=o),
    "a failed name": lambda ledger, o: ledger.jobs(before=None, limit=50, text=".txt", state="failed", visible_to=o),
    "a host": lambda ledger, o: ledger.submissions(before=None, limit=50, text="pc7.lab", visible_to=o),
    "page": lambda ledger, o: ledger.history(HistoryFilter(), limit=50, visible_to=o),
    "older page": lambda ledger, o: ledger.history(HistoryFilter(), before="150", limit=50, visible_to=o),
    "newer page": lambda ledger, o: ledger.history(HistoryFilter(), after="20", limit=50, visible_to=o),
    "page of running": lambda ledger, o: ledger.history(HistoryFilter(state="running"), limit=50, visible_to=o),
    "page of settled": lambda ledger, o: ledger.history(HistoryFilter(state="settled"), limit=50, visible_to=o),
    "page of failed": lambda ledger, o: ledger.history(HistoryFilter(state="failed"), limit=50, visible_to=o),
    "page of a year": lambda ledger, o: ledger.history(YEAR, limit=50, visible_to=o),
    "failed of a year": lambda ledger, o: ledger.history(replace(YEAR, state="failed"), limit=50, visible_to=o),
    "page with a name": lambda ledger, o: ledger.history(HistoryFilter(text="report 60"), limit=50, visible_to=o),
    "page with a common name": lambda ledger, o: ledger.history(HistoryFilter(text=".txt"), limit=50, visible_to=o),
    "newer with a common name": lambda ledger, o: ledger.history(
        HistoryFilter(text=".txt"), after="20", limit=50, visible_to=o
    ),
    "failed with a common name": lambda ledger, o: ledger.history(
        HistoryFilter(text=".txt", state="failed"), limit=50, visible_to=o
    ),
    "a year with a common name": lambda ledger, o: ledger.history(replace(YEAR, text=".txt"), limit=50, visible_to=o),
    "page with a host": lambda ledger, o: ledger.history(HistoryFilter(text="pc7.lab"), limit=50, visible_to=o),
    "page with a hash": lambda ledger, o: ledger.history(
        HistoryFilter(text=history.COMMON_HASH), limit=50, visible_to=o
    ),
    "a name in one": lambda ledger, o: ledger.jobs(before=None, limit=9, text="rep", submission_id=S, visible_to=o),
}
# The index by which a list is read in its order. Where nothing stands here, it is enough that no table is walked
# through: what is read is one thing by its id, or few.
IN_ORDER = {
    "history": "ix_submissions_owner",
    "older history": "ix_submissions_owner",
    "settled": "ix_submissions_owner",
    "jobs": "ix_jobs_owner",
    "older jobs": "ix_jobs_owner",
    "failed jobs": "ix_jobs_owner_state",
    "events": "ix_events_owner",
    "older events": "ix_events_owner",
    "page": "ix_submissions_owner",
    "older page": "ix_submissions_owner",
    "newer page": "ix_submissions_owner",
    "page of settled": "ix_submissions_owner",
    "page of failed": "ix_submissions_owner_outcome",
}
HISTORY = "submissions|files|jobs|attempts|results|events|search_texts"
UNDER_WAY = "USING (COVERING )?INDEX ix_submissions_unsettled"
WALKS = re.compile(rf"Seq Scan on ({HISTORY})\b|SCAN ({HISTORY})\b(?! {UNDER_WAY})")
SORTS = re.compile(r"\bSort\b(?! Key)|TEMP B-TREE FOR ORDER")
# A page is 500: about so many rows Postgres may sort, as far as it expects them; the index that finds them is enough.
FEW = 600
SHORT_WALK = 1000  # Postgres may rather walk through so many pages of a table than look up a thousand rows in it
STEPS_COUNTED = 10
STEPS_MAX = 60_000  # of SQLite's machine; one walk over the texts of `JOBS` files takes 200,000
ROWS = re.compile(r"\brows=(\d+)")
COST = re.compile(r"\.\.(\d+)\.\d+ rows=")


async def _found(asked: Awaitable[object]) -> None:
    with contextlib.suppress(NotFound):
        await asked


def _walks(step: str) -> bool:
    """Whether a step reads a whole table, and a long one as far as Postgres knows. SQLite does not say how long."""
    cost = COST.search(step)
    return WALKS.search(step) is not None and (cost is None or int(cost[1]) > SHORT_WALK)


def _sorts_many(step: str) -> bool:
    """Whether a step sorts what an index could have read in order. SQLite does not say how many rows it sorts."""
    rows = ROWS.search(step)
    return SORTS.search(step) is not None and (rows is None or int(rows[1]) > FEW)


async def test_what_a_read_costs_does_not_grow_with_what_others_sent(tmp_path: Path) -> None:
    """A plan can hide a walk: a range of keys that excludes nothing. So the steps of SQLite's machine are counted."""
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += STEPS_COUNTED

    def count_in(connection: Any, _: object) -> None:
        connection.set_progress_handler(count, STEPS_COUNTED)

    engine = SqliteEngine(tmp_path)
    event.listen(Pool, "connect", count_in)
    try:
        ledger = await engine.open()
    finally:
        event.remove(Pool, "connect", count_in)
    await ledger._change(lambda tx: history.write(tx.connection, JOBS))
    steps = {}
    for name, read in READS.items():
        counted = 0
        await read(ledger, LITTLE)
        steps[name] = counted
    await engine.close()
    print(steps)
    assert sum(steps.values()) > 0
    assert {name: count for name, count in steps.items() if count > STEPS_MAX} == {}


async def test_no_read_with_an_owner_walks_through_what_others_sent(
    engine: LedgerEngine, request: pytest.FixtureRequest
) -> None:
    """With `--full` in a history of a million jobs, where the database chooses its plans as it will.

    `--full -s` also prints how long each read takes.
    """
    is_full = request.config.getoption("--full")
    ledger = await engine.open()
    await ledger._change(lambda tx: history.write(tx.connection, JOBS_IN_FULL if is_full else JOBS))
    if engine.name == "postgres":
        with psycopg.connect(engine.place, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    statements: list[tuple[str, Any]] = []

    @event.listens_for(ledger._engine, "before_cursor_execute")
    def _see(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and threading.current_thread().name.startswith("ledger-reader"):
            statements.append((statement, parameters))

    def plans(connection: Connection, asked: list[tuple[str, Any]]) -> list[str]:
        if engine.name == "sqlite":
            return [
                row[3]
                for statement, parameters in asked
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]
        if not is_full:  # it would rather walk through tables of so few pages
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return [
            row[0]
            for statement, parameters in asked
            for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        ]

    bad = []
    for owner, (name, read) in product((MUCH, LITTLE), READS.items()):
        statements.clear()
        began = time.perf_counter()
        await read(ledger, owner)
        if is_full:
            print(f"{engine.name} {owner:12} {name:24} {(time.perf_counter() - began) * 1000:9.1f} ms")
        assert statements, name
        steps = await ledger._read(plans, list(statements))
        bad += [(owner, name, step) for step in steps if _walks(step)]
        if name not in IN_ORDER:
            continue
        page = await ledger._read(plans, statements[:1])  # what comes after is about the things on the page
        # Postgres takes any index that begins with the owner while an owner has few submissions.
        wanted = (
            rf"\b{IN_ORDER[name]}\b"
            if is_full or engine.name == "sqlite"
            else rf"\b{IN_ORDER[name]}\b|Cond: \(\(owner\)"
        )
        if not any(re.search(wanted, step) for step in page):
            bad.append((owner, name, "\n".join(page)))
        bad += [(owner, name, step) for step in page if _sorts_many(step)]
    for found in bad:
        print(*found, sep=": ")
    assert bad == []
