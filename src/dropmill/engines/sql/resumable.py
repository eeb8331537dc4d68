"""Changes and queries of resumable uploads: files that are announced first and whose bytes come in several requests.

What is common to all uploads (`store_upload`, `abort_upload`) is in `changes`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from dropmill.engines.sql import rows
from dropmill.engines.sql.changes import open_submission
from dropmill.engines.sql.tables import files, is_unfinished, jobs, submissions
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.errors import IllegalTransition, NotFound
from dropmill.model.events import EventName
from dropmill.model.ids import FileId, Sha256, SubmissionId
from dropmill.model.records import UPLOAD_TRANSITIONS, ClientIdentity, UploadState, require_transition
from dropmill.ports.ledger.uploads import FormUploads, Holding, ResumableUpload

_ADD_FILE = insert(files)
_SET_FILE = update(files).where(files.c.seq == bindparam("key"))
_UPLOAD = select(files, submissions.c.ip, submissions.c.account).join(
    submissions, submissions.c.id == files.c.submission_id
)
_BY_ID = _UPLOAD.where(files.c.id == bindparam("key"))
_UNFINISHED = _UPLOAD.where(is_unfinished, files.c.partial.is_not(None)).order_by(files.c.seq)
_IN_FORMS = select(files.c.id).where(
    is_unfinished, files.c.state == UploadState.RECEIVING.value, files.c.partial.is_(None)
)
_OPEN_FOR_A_FORM = select(submissions.c.id).where(
    submissions.c.settled_at.is_(None), submissions.c.is_open, ~submissions.c.is_announced
)
_EXPIRED = _UNFINISHED.where(files.c.expires_at < bindparam("now")).limit(bindparam("limit"))
_ANNOUNCED = (
    _UPLOAD.where(
        files.c.submission_id == bindparam("key"),
        files.c.state == UploadState.ANNOUNCED.value,
        (files.c.path == bindparam("path")) | (files.c.name == bindparam("path")),
    )
    .order_by(files.c.path != bindparam("path"), files.c.seq)
    .limit(1)
)
_HOLDING = select(func.count(), func.coalesce(func.sum(func.coalesce(files.c.size, files.c.received)), 0)).where(
    files.c.submission_id == bindparam("key"), files.c.state != UploadState.ABORTED.value
)
_ANNOUNCED_COUNT = select(submissions.c.announced).where(submissions.c.id == bindparam("key"))
_STALE = (
    select(submissions.c.id)
    .where(submissions.c.settled_at.is_(None), submissions.c.is_open, submissions.c.is_announced)
    .where(submissions.c.opened_at < bindparam("before"), submissions.c.receiving == 0)
    .where(~exists().where(jobs.c.submission_id == submissions.c.id, jobs.c.queued_at >= bindparam("before")))
    .limit(bindparam("limit"))
)


def _upload_of(row: rows.Row) -> ResumableUpload:
    return ResumableUpload(
        file_id=FileId(row["id"]),
        submission_id=SubmissionId(row["submission_id"]),
        name=row["name"],
        path=row["path"],
        state=UploadState(row["state"]),
        size=row["size"],
        received=row["received"],
        partial=row["partial"],
        metadata=row["metadata"] or "",
        expected_sha256=None if row["expected_sha256"] is None else Sha256(row["expected_sha256"]),
        expires_at=row["expires_at"],
        ip=row["ip"],
        account=row["account"],
    )


# --- changes ---------------------------------------------------------------------------------------------------------


def announce_upload(tx: Transaction, upload: ResumableUpload) -> None:
    """See `Ledger.announce_upload`."""
    if not tx.submission(upload.submission_id)["is_open"]:
        raise IllegalTransition("The submission is sealed; open another one.")
    tx.run(
        _ADD_FILE,
        id=upload.file_id,
        submission_id=upload.submission_id,
        name=upload.name,
        path=upload.path,
        size=upload.size,
        state=UploadState.ANNOUNCED.value,
        partial=upload.partial,
        metadata=upload.metadata,
        expected_sha256=upload.expected_sha256,
        expires_at=upload.expires_at,
    )
    tx.move(upload.submission_id, None, UploadState.ANNOUNCED.value)


def announce_uploads(tx: Transaction, uploads: Sequence[ResumableUpload]) -> None:
    """See `Ledger.announce_uploads`."""
    for upload in uploads:
        announce_upload(tx, upload)


def open_for_upload(tx: Transaction, upload: ResumableUpload, client: ClientIdentity, account: str | None) -> None:
    """See `Ledger.open_for_upload`."""
    open_submission(tx, upload.submission_id, client, account, True, None)
    announce_upload(tx, upload)
    row = tx.submission(upload.submission_id)
    tx.change(upload.submission_id, is_open=False)
    counts = {name: row[name] for name in rows.COUNTS}
    tx.emit(EventName.SUBMISSION_SEALED, tx.subject(upload.submission_id), counts=counts)


def begin_upload(tx: Transaction, file_id: FileId, is_resumable: bool) -> None:
    """See `Ledger.begin_upload`."""
    row = _find(tx.one(_BY_ID, key=file_id))
    if is_resumable and row["state"] == UploadState.RECEIVING and row["partial"] is not None:
        return
    require_transition(UPLOAD_TRANSITIONS, UploadState(row["state"]), UploadState.RECEIVING, "upload")
    partial = row["partial"] if is_resumable else None
    tx.run(_SET_FILE, key=row["seq"], state=UploadState.RECEIVING.value, partial=partial)
    tx.move(row["submission_id"], row["state"], UploadState.RECEIVING.value)
    subject = replace(tx.subject(row["submission_id"]), file_id=file_id, name=row["name"])
    tx.emit(EventName.UPLOAD_STARTED, subject, size=row["size"], path=row["path"])


def extend_upload(
    tx: Transaction, file_id: FileId, size: int | None, received: int, expires_at: datetime | None
) -> None:
    """See `Ledger.extend_upload`."""
    row = _find(tx.one(_BY_ID, key=file_id))
    if row["partial"] is not None:
        tx.run(_SET_FILE, key=row["seq"], size=size, received=received, expires_at=expires_at)


def _find(row: rows.Row | None) -> rows.Row:
    if row is None:
        raise NotFound("There is no such upload.")
    return row


# --- queries ---------------------------------------------------------------------------------------------------------


def get_upload(connection: Connection, file_id: FileId) -> ResumableUpload:
    """See `Ledger.upload`."""
    return _upload_of(_find(connection.execute(_BY_ID, {"key": file_id}).mappings().one_or_none()))


def announced_upload(connection: Connection, submission_id: SubmissionId, path: str) -> ResumableUpload | None:
    """See `Ledger.announced_upload`."""
    parameters = {"key": submission_id, "path": path}
    row = connection.execute(_ANNOUNCED, parameters).mappings().one_or_none()
    return None if row is None else _upload_of(row)


def holding(connection: Connection, submission_id: SubmissionId) -> Holding:
    """See `Ledger.holding`."""
    announced = connection.execute(_ANNOUNCED_COUNT, {"key": submission_id}).scalar_one_or_none()
    if announced is None:
        raise NotFound("There is no such submission.")
    count, size = connection.execute(_HOLDING, {"key": submission_id}).one()
    return Holding(files=count, announced=announced, size=size)


def unfinished_uploads(connection: Connection) -> Sequence[ResumableUpload]:
    """See `Ledger.unfinished_uploads`."""
    return [_upload_of(row) for row in connection.execute(_UNFINISHED).mappings()]


def form_uploads(connection: Connection) -> FormUploads:
    """See `Ledger.form_uploads`."""
    return FormUploads(
        files={FileId(found) for found in connection.execute(_IN_FORMS).scalars()},
        submissions={SubmissionId(found) for found in connection.execute(_OPEN_FOR_A_FORM).scalars()},
    )


def expired_uploads(connection: Connection, now: datetime, limit: int) -> Sequence[ResumableUpload]:
    """See `Ledger.expired_uploads`."""
    parameters: dict[str, Any] = {"now": now, "limit": limit}
    return [_upload_of(row) for row in connection.execute(_EXPIRED, parameters).mappings()]


def stale_submissions(connection: Connection, before: datetime, limit: int) -> Sequence[SubmissionId]:
    """See `Ledger.stale_submissions`."""
    parameters: dict[str, Any] = {"before": before, "limit": limit}
    return [SubmissionId(found) for found in connection.execute(_STALE, parameters).scalars()]
