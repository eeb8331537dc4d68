"""Removal of submissions' bytes and of old events: changes and queries."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, Connection, bindparam, cast, delete, func, select, true, update

from dropmill.engines.sql.quotas import holders_of
from dropmill.engines.sql.tables import attempts, events, files, jobs, results, submissions
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.clock import utc_now
from dropmill.model.ids import Cursor, JobId, SubmissionId
from dropmill.model.retention import KeptBytes
from dropmill.model.uploads import UploadState

_MARK_FILES = update(files).where(files.c.submission_id == bindparam("key"), files.c.state == UploadState.STORED.value)
_STORED_BYTES = select(cast(func.coalesce(func.sum(files.c.size), 0), BigInteger).label("size")).where(
    files.c.submission_id == bindparam("key"), files.c.state == UploadState.STORED.value
)
_is_kept = submissions.c.removed_at.is_(None)
_KEPT = select(cast(func.sum(submissions.c.kept_bytes), BigInteger)).where(_is_kept)
_OLDEST = (
    select(submissions.c.id, submissions.c.settled_at, submissions.c.kept_bytes)
    .where(_is_kept, submissions.c.settled_at.is_not(None))
    .order_by(submissions.c.settled_at)
    .limit(bindparam("limit"))
)
_REMOVING = (
    select(submissions.c.id)
    # A literal, not a parameter: otherwise the index of these few rows is not used.
    .where(submissions.c.is_removing == true())
    .order_by(submissions.c.seq)
    .limit(bindparam("limit"))
)
_BLOBS = select(files.c.blob).where(files.c.submission_id == bindparam("key"), files.c.blob.is_not(None))
_RESULTS = (
    select(results.c.blob)
    .join(jobs, jobs.c.id == results.c.job_id)
    .where(jobs.c.submission_id == bindparam("key"))
    .order_by(results.c.job_id, results.c.attempt)
)
_ATTEMPTS = (
    select(attempts.c.job_id, attempts.c.number)
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .where(jobs.c.submission_id == bindparam("key"))
)
_OLDEST_EVENTS = select(events.c.cursor, events.c.at).order_by(events.c.cursor).limit(bindparam("limit"))
_REMOVE_EVENTS = delete(events).where(events.c.cursor <= bindparam("last"))


# --- changes ---------------------------------------------------------------------------------------------------------


def begin_removal(tx: Transaction, submission_id: SubmissionId, settled_at: datetime) -> bool:
    """See `Ledger.begin_removal`."""
    row = tx.submission(submission_id)
    if row["settled_at"] != settled_at or row["removed_at"] is not None:
        return False
    now = utc_now()
    held = tx.one(_STORED_BYTES, key=submission_id)
    tx.run(_MARK_FILES, key=submission_id, removed_at=now)
    for holder in holders_of(row):
        tx.quotas.add(holder, storage=-(held["size"] if held else 0))
    tx.keep(submission_id, -row["kept_bytes"])
    tx.change(submission_id, removed_at=now, is_removing=True, result_count=0)
    return True


def end_removal(tx: Transaction, submission_id: SubmissionId) -> None:
    """See `Ledger.end_removal`."""
    tx.change(submission_id, is_removing=False)


def remove_events(tx: Transaction, before: datetime, up_to: Cursor, limit: int) -> int:
    """See `Ledger.remove_events`."""
    last = min(up_to, tx.cursor - 1)  # the newest event stays: the next cursor follows its cursor
    old = 0
    removed = 0
    for row in tx.connection.execute(_OLDEST_EVENTS, {"limit": limit}).mappings():
        if row["at"] >= before or row["cursor"] > last:
            break
        old = row["cursor"]
        removed += 1
    if removed:
        tx.run(_REMOVE_EVENTS, last=old)
    return removed


# --- queries ---------------------------------------------------------------------------------------------------------


def removable(
    connection: Connection, before: datetime | None, keep_bytes: int | None, limit: int
) -> Sequence[tuple[SubmissionId, datetime]]:
    """See `Ledger.removable`."""
    excess = 0
    if keep_bytes is not None:
        excess = (connection.execute(_KEPT).scalar_one() or 0) - keep_bytes
    found = []
    for row in connection.execute(_OLDEST, {"limit": limit}).mappings():
        if excess <= 0 and (before is None or row["settled_at"] > before):
            break
        found.append((SubmissionId(row["id"]), row["settled_at"]))
        excess -= row["kept_bytes"]
    return found


def removals(connection: Connection, limit: int) -> Sequence[KeptBytes]:
    """See `Ledger.removals`."""
    found = []
    for submission_id in connection.execute(_REMOVING, {"limit": limit}).scalars().all():
        key = {"key": submission_id}
        blobs = [*connection.execute(_BLOBS, key).scalars(), *connection.execute(_RESULTS, key).scalars()]
        run = tuple((JobId(job_id), number) for job_id, number in connection.execute(_ATTEMPTS, key))
        found.append(KeptBytes(submission_id=SubmissionId(submission_id), blobs=tuple(blobs), attempts=run))
    return found
