"""Submissions: changes, queries and rows."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, cast, exists, func, insert, select

from dropmill.engines.sql import links, search
from dropmill.engines.sql.clients import Row, client_of
from dropmill.engines.sql.events import newest_cursor
from dropmill.engines.sql.paging import is_seen, one_of, page_key, page_of, seen_by
from dropmill.engines.sql.quotas import as_told_to, holders_of
from dropmill.engines.sql.tables import files, jobs, owners, submissions
from dropmill.engines.sql.transaction import COUNTS, SUMS, Transaction, counts_of
from dropmill.engines.sql.types import is_storable
from dropmill.engines.sql.uploads import abort, announce_uploads, store_new_file, with_jobs
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import IdempotencyMismatch, NotFound
from dropmill.model.events import EventName
from dropmill.model.ids import Cursor, LinkId, Owner, SubmissionId
from dropmill.model.jobs import JobState
from dropmill.model.links import link_in
from dropmill.model.submissions import ByLink, Submission
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.ledger.history import SubmissionView, Totals
from dropmill.ports.ledger.page import Page
from dropmill.ports.ledger.submissions import RequestKey
from dropmill.ports.ledger.uploads import ResumableUpload, WholeFile

_SUBMISSION_BY_KEY = select(submissions).where(
    submissions.c.owner == bindparam("of_owner"), submissions.c.idempotency_key == bindparam("key")
)
ADD_SUBMISSION = insert(submissions)
_BY_LINK = ("sender", "link_id", "link_label", "said_name")
_STALE = (
    select(submissions.c.id)
    .where(submissions.c.settled_at.is_(None), submissions.c.is_open, submissions.c.is_announced)
    .where(submissions.c.opened_at < bindparam("before"), submissions.c.receiving == 0)
    .where(~exists().where(jobs.c.submission_id == submissions.c.id, jobs.c.queued_at >= bindparam("before")))
    .limit(bindparam("limit"))
)


# --- rows ------------------------------------------------------------------------------------------------------------


def submission_of(row: Row) -> Submission:
    """A submission."""
    return Submission(
        id=SubmissionId(row["id"]),
        is_open=row["is_open"],
        opened_at=row["opened_at"],
        settled_at=row["settled_at"],
        times_settled=row["times_settled"],
        client=client_of(row),
        account=row["account"],
        counts=counts_of(row),
        given_up=row["given_up"],
        replaced=row["replaced"],
        by_link=None
        if row["link_id"] is None
        else ByLink(id=LinkId(row["link_id"]), label=row["link_label"], name=row["said_name"]),
    )


# --- changes ---------------------------------------------------------------------------------------------------------


def open_submission(
    tx: Transaction,
    submission_id: SubmissionId,
    client: ClientIdentity,
    account: str | None,
    is_announced: bool,
    key: RequestKey | None,
    owner: Owner,
    *,
    stays_open: bool = True,
) -> SubmissionId:
    """See `Ledger.open_submission`; `stays_open`: whether it is open after this change."""
    sender = owner
    of_link: dict[str, Any] = dict.fromkeys(_BY_LINK)
    if link_in(sender) is not None:
        owner, of_link = links.opened_by(tx, sender)
    text = None if key is None else key_of(key, sender)
    if key is not None:
        tx.flush_submissions()
        first = tx.one(_SUBMISSION_BY_KEY, of_owner=owner, key=text) if is_storable(key.text) else None
        if first is not None and not _is_void(first):
            # None: recorded by a version without fingerprints
            if first["idempotency_fingerprint"] not in (None, key.fingerprint):
                raise IdempotencyMismatch(
                    "This Idempotency-Key was used for another request; send this one with a new key.",
                    submission=first["id"],
                )
            return SubmissionId(first["id"])
        if first is not None:
            tx.change(first["id"], idempotency_key=None)
            tx.flush_submissions()
    counted = {"owner": owner, **of_link}
    with as_told_to(counted):
        for holder in holders_of(counted):
            tx.quotas.open_submission(holder, stays_open=stays_open)
    tx.run(
        ADD_SUBMISSION,
        id=submission_id,
        is_open=True,
        opened_at=utc_now(),
        owner=owner,
        account=account,
        ip=client.ip,
        host=client.host,
        verified=client.verified,
        domain=client.domain,
        user_agent=client.user_agent,
        is_identified=False,
        is_announced=is_announced,
        node=None if tx.node is None else tx.node.id,
        idempotency_key=text,
        idempotency_fingerprint=None if key is None else key.fingerprint,
        **of_link,
    )
    tx.count(owner, "submissions", 1)
    search.add_client(tx, submission_id)
    tx.emit(EventName.SUBMISSION_OPENED, tx.subject(submission_id))
    return submission_id


def key_of(key: RequestKey, sender: Owner) -> str:
    """The text under which a key is kept. Keys belong to senders, of which a link's maker has many."""
    if link_in(sender) is None:
        return key.text
    return hashlib.sha256(f"{sender} {key.text}".encode()).hexdigest()


def _is_void(row: Row) -> bool:
    """Whether a submission ended without a stored file: a repeat of its request then opens another one."""
    counts = counts_of(row)
    return not row["is_open"] and counts.total == counts.aborted


def open_for_upload(
    tx: Transaction, upload: ResumableUpload, client: ClientIdentity, account: str | None, owner: Owner
) -> None:
    """See `Ledger.open_for_upload`."""
    open_submission(tx, upload.submission_id, client, account, True, None, owner, stays_open=False)
    announce_uploads(tx, [upload])
    _seal(tx, upload.submission_id)


def receive_one(
    tx: Transaction, client: ClientIdentity, account: str | None, file: WholeFile, owner: Owner
) -> SubmissionView:
    """See `Ledger.receive_one`."""
    open_submission(tx, file.submission_id, client, account, False, None, owner, stays_open=False)
    stored = store_new_file(tx, file)
    _seal(tx, file.submission_id)
    submission = submission_of(tx.submission(file.submission_id))
    return SubmissionView(submission=submission, files=[stored], files_next=None, cursor=Cursor(tx.cursor))


def identify_client(
    tx: Transaction, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
) -> None:
    """See `Ledger.identify_client`."""
    if tx.submission(submission_id)["is_identified"]:
        return
    tx.change(submission_id, host=host, verified=verified, domain=domain, is_identified=True)
    if host is not None:
        search.set_client(tx, submission_id)
    tx.emit(EventName.CLIENT_IDENTIFIED, tx.subject(submission_id), host=host, verified=verified, domain=domain)


def seal_submission(tx: Transaction, submission_id: SubmissionId, cause: AbortCause) -> None:
    """See `Ledger.seal_submission`."""
    row = tx.submission(submission_id)
    if not row["is_open"]:
        return
    announced = (
        tx.connection.execute(
            select(files).where(files.c.submission_id == submission_id, files.c.state == UploadState.ANNOUNCED.value)
        )
        .mappings()
        .all()
    )
    for file in announced:
        abort(tx, file, cause, "the submission was sealed before it came")
    _seal(tx, submission_id)
    if tx.settle(submission_id):
        links.give_back(tx, submission_id)


def _seal(tx: Transaction, submission_id: SubmissionId) -> None:
    row = tx.submission(submission_id)
    tx.change(submission_id, is_open=False)
    for holder in holders_of(row):
        tx.quotas.add(holder, open_submissions=-1)
    tx.emit(EventName.SUBMISSION_SEALED, tx.subject(submission_id), counts={name: row[name] for name in COUNTS})


# --- queries ---------------------------------------------------------------------------------------------------------


def view_submission(
    connection: Connection,
    submission_id: SubmissionId,
    after: str | None,
    limit: int,
    state: str | None,
    visible_to: Owner | None,
) -> SubmissionView:
    """See `Ledger.view_submission`."""
    wanted = seen_by(select(submissions).where(submissions.c.id == submission_id), submissions.c.owner, visible_to)
    row = connection.execute(wanted).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such submission.")
    query = select(files).where(files.c.submission_id == submission_id)
    if one_of(state, [*UploadState, *JobState]) is not None:
        query = query.outerjoin(jobs, jobs.c.file_id == files.c.id).where(
            func.coalesce(jobs.c.state, files.c.state) == state
        )
    start = page_key(after)
    if start is not None:
        query = query.where(files.c.seq > start)
    found = connection.execute(query.order_by(files.c.seq).limit(limit + 1)).mappings().all()
    page, following = page_of(found, limit)
    return SubmissionView(
        submission=submission_of(row),
        files=with_jobs(connection, page),
        files_next=following,
        cursor=newest_cursor(connection),
    )


def wanted(state: str | None, visible_to: Owner | None) -> list[ColumnElement[bool]]:
    """The conditions for submissions in a state, one of `HISTORY_STATES`, that an owner may see."""
    conditions: list[ColumnElement[bool]] = [] if visible_to is None else [is_seen(submissions.c.owner, visible_to)]
    # Few submissions have no time of settling; an index of their own finds them however long the history is.
    match state:
        case "running":
            conditions.append(submissions.c.settled_at.is_(None))
        case "open":
            conditions += [submissions.c.settled_at.is_(None), submissions.c.is_open]
        case "processing":
            conditions += [submissions.c.settled_at.is_(None), ~submissions.c.is_open]
        case "settled":
            conditions.append(submissions.c.settled_at.is_not(None))
        case str():
            conditions.append(submissions.c.outcome == state)
    return conditions


def list_submissions(
    connection: Connection,
    before: str | None,
    limit: int,
    state: str | None,
    text: str | None,
    visible_to: Owner | None,
) -> Page[Submission]:
    """See `Ledger.submissions`."""
    one_of(state, ("open", "processing", "settled"))
    conditions = wanted(state, visible_to)
    start = page_key(before)
    span = search.Span() if start is None else search.Span(last=min(start - 1, search.SEQ_MAX))
    found: Sequence[Row]
    if text:
        about = search.find_submissions(connection, text, conditions, span, limit + 1, visible_to)
        found = [one.row for one in about]
    else:
        query = select(submissions).where(*span.holds(submissions.c.seq), *conditions)
        found = connection.execute(query.order_by(submissions.c.seq.desc()).limit(limit + 1)).mappings().all()
    page, following = page_of(found, limit)
    return Page(items=[submission_of(row) for row in page], next=following)


_SUMS: list[ColumnElement[Any]] = [
    cast(func.coalesce(func.sum(owners.c[name]), 0), BigInteger).label(name) for name in SUMS
]
_TOTALS = select(*_SUMS)


def totals(connection: Connection, visible_to: Owner | None) -> Totals:
    """See `Ledger.totals`."""
    row = connection.execute(seen_by(_TOTALS, owners.c.owner, visible_to)).mappings().one()
    return Totals(submissions=row["submissions"], counts=counts_of(row), kept_bytes=row["kept_bytes"])


def stale_submissions(connection: Connection, before: datetime, limit: int) -> Sequence[SubmissionId]:
    """See `Ledger.stale_submissions`."""
    parameters: dict[str, Any] = {"before": before, "limit": limit}
    return [SubmissionId(found) for found in connection.execute(_STALE, parameters).scalars()]
