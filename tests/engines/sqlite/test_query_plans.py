"""What a ledger reads and changes all the time finds its rows by an index, however long the history is."""

import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event
from tests.support import scenarios

from dropmill.configfile.file_sync import sha256_of
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.config import ConfigLocation
from dropmill.model.history import HistoryFilter
from dropmill.model.ids import Cursor, JobId, SubmissionId
from dropmill.model.jobs import Claim, RetryPolicy

FIRST_CONFIG = b"first: true\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

CLAIM = Claim()
RETRY = RetryPolicy(exit_codes=frozenset({1}), times=1, delay_s=0.0)

Call = Callable[[SqliteLedger, SubmissionId, JobId], Awaitable[Any]]

CALLS: Mapping[str, Call] = {
    "history": lambda ledger, s, j: ledger.submissions(before=None, limit=50),
    "older history": lambda ledger, s, j: ledger.submissions(before="9", limit=50),
    "open submissions": lambda ledger, s, j: ledger.submissions(before=None, limit=50, state="open"),
    "submissions under way": lambda ledger, s, j: ledger.submissions(before=None, limit=50, state="processing"),
    "settled submissions": lambda ledger, s, j: ledger.submissions(before=None, limit=50, state="settled"),
    "page of the history": lambda ledger, s, j: ledger.history(HistoryFilter(), limit=50),
    "older page": lambda ledger, s, j: ledger.history(HistoryFilter(), before="9", limit=50),
    "newer page": lambda ledger, s, j: ledger.history(HistoryFilter(), after="0", limit=50),
    "page of what runs": lambda ledger, s, j: ledger.history(HistoryFilter(state="running"), limit=50),
    "page of what is settled": lambda ledger, s, j: ledger.history(HistoryFilter(state="settled"), limit=50),
    "page of what failed": lambda ledger, s, j: ledger.history(HistoryFilter(state="failed"), limit=50),
    "page of a day": lambda ledger, s, j: ledger.history(
        HistoryFilter(opened_from=NOW, opened_before=NOW + DAY), limit=50
    ),
    "page of what failed on a day": lambda ledger, s, j: ledger.history(
        HistoryFilter(state="failed", opened_from=NOW, opened_before=NOW + DAY), limit=50
    ),
    "one submission": lambda ledger, s, j: ledger.view_submission(s, limit=100),
    "further files": lambda ledger, s, j: ledger.view_submission(s, after="1", limit=100),
    "failed files": lambda ledger, s, j: ledger.view_submission(s, limit=100, state="failed"),
    "jobs": lambda ledger, s, j: ledger.jobs(before=None, limit=50),
    "failed jobs": lambda ledger, s, j: ledger.jobs(before="9", limit=50, state="failed"),
    "jobs of a submission": lambda ledger, s, j: ledger.jobs(before=None, limit=50, submission_id=s),
    "failed jobs of a submission": lambda ledger, s, j: ledger.jobs(
        before=None, limit=50, submission_id=s, state="failed"
    ),
    "one job": lambda ledger, s, j: ledger.job(j),
    "places": lambda ledger, s, j: ledger.places([j, JobId("other")]),
    "what is to be cancelled": lambda ledger, s, j: ledger.cancels_asked(),
    "next job whose time comes": lambda ledger, s, j: ledger.next_due(),
    "events": lambda ledger, s, j: ledger.events("all", after=Cursor(1), limit=500),
    "events of a submission": lambda ledger, s, j: ledger.events(f"submission:{s}", after=Cursor(1), limit=500),
    "events of an account": lambda ledger, s, j: ledger.events("account:" + "a" * 32, after=Cursor(1), limit=500),
    "older events": lambda ledger, s, j: ledger.events_before("all", before=Cursor(9), limit=500),
    "older events of a submission": lambda ledger, s, j: ledger.events_before(
        f"submission:{s}", before=Cursor(9), limit=500
    ),
    "older events of an account": lambda ledger, s, j: ledger.events_before(
        "account:" + "a" * 32, before=Cursor(9), limit=500
    ),
    "older events of the config": lambda ledger, s, j: ledger.events_before("config", before=Cursor(9), limit=500),
    "the audit": lambda ledger, s, j: ledger.events("audit", after=Cursor(0), limit=500),
    "the audit backwards": lambda ledger, s, j: ledger.events_before("audit", before=Cursor(9), limit=500),
    "events of the config": lambda ledger, s, j: ledger.events("config", after=Cursor(0), limit=500),
    "what the config file holds": lambda ledger, s, j: ledger.config_position(
        ConfigLocation(host="here", path="/config.yaml", data_folder="/data")
    ),
    "needed blobs": lambda ledger, s, j: ledger.needed_blobs(["a", "b"]),
    "what may go": lambda ledger, s, j: ledger.removable(before=NOW, keep_bytes=1, limit=10),
    "what is going": lambda ledger, s, j: ledger.removals(10),
    "what requests bring": lambda ledger, s, j: ledger.form_uploads(),
    "deliveries": lambda ledger, s, j: ledger.deliveries(8),
    "recovery": lambda ledger, s, j: ledger.recover(5, "why"),
    "retry of all that failed": lambda ledger, s, j: ledger.retry_failed(s, after=None, limit=10),
    "claim": lambda ledger, s, j: ledger.claim(CLAIM),
    "claim asked again": lambda ledger, s, j: ledger.claim(CLAIM),
    "end": lambda ledger, s, j: ledger.end_attempt(j, 2, scenarios.FAILED, RETRY),
    "claim of what is due": lambda ledger, s, j: ledger.claim(Claim()),
    "cancel of all": lambda ledger, s, j: ledger.request_cancels(s, after=None, limit=10),
    "claim from a queue": lambda ledger, s, j: ledger.claim(Claim(queues=("gpu",))),
    "removal": lambda ledger, s, j: ledger.begin_removal(s, NOW),
    "purge": lambda ledger, s, j: ledger.purge_revision(sha256_of(FIRST_CONFIG), None, None),
    "old events": lambda ledger, s, j: ledger.remove_events(before=NOW, up_to=Cursor(2), limit=10),
}

# A scan in the order of the table's own key, that ends with the page.
PAGED = {
    "history": "submissions",
    "page of the history": "submissions",
    "page of what is settled": "submissions",
    "settled submissions": "submissions",
    "jobs": "jobs",
    "old events": "events",
}
# Few rows, whatever the history: config revisions are saved by hand, deliveries go when they are made.
SMALL = {"config_revisions", "deliveries", "nodes", "queues"}
# Indexes of what is under way or still kept, and of nothing else.
PARTIAL = {
    "ix_submissions_unsettled",
    "ix_submissions_removing",
    "ix_submissions_kept",
    "ix_files_unfinished",
    "ix_attempts_running",
    "ix_jobs_line",
    "ix_jobs_to_cancel",
}


def plans(path: Path, statements: list[str]) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [
            row[3]
            for statement in statements
            if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]
    finally:
        connection.close()


async def test_no_hot_query_walks_through_history_or_sorts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path, lambda _: None, records_deliveries=True)
    seen: list[str] = []

    @event.listens_for(ledger._engine, "connect")
    def _see(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(seen.append)

    await ledger.open()
    await ledger.enter(scenarios.node())
    await scenarios.save(ledger, FIRST_CONFIG)
    await scenarios.save(ledger)
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.settled(ledger, submission_id, scenarios.FAILED)
    await ledger.seal_submission(submission_id)

    found = {}
    for name, call in CALLS.items():
        seen.clear()
        await call(ledger, submission_id, job_id)
        assert seen, name
        found[name] = plans(path, seen)
    await ledger.close()

    bad = []
    for name, steps in found.items():
        for step in steps:
            scan = re.match(r"SCAN (?!CONSTANT ROW)(\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step)
            is_bounded = scan is not None and (scan[2] in PARTIAL or scan[1] in SMALL or PAGED.get(name) == scan[1])
            if "TEMP B-TREE" in step or (scan and not is_bounded):
                bad.append((name, step))
    assert bad == [], "\n".join(map(str, bad))
