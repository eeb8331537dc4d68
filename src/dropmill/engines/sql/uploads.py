"""Files and their uploads, resumable or not: changes, queries and rows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, cast, func, insert, or_, select, update

from dropmill.engines.sql import config, links, search
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.jobs import add_job, add_jobs, jobs_of, new_job
from dropmill.engines.sql.paging import seen_by
from dropmill.engines.sql.quotas import as_told_to, holders_of
from dropmill.engines.sql.tables import files, is_unfinished, jobs, nodes, results, submissions
from dropmill.engines.sql.transaction import Transaction, counts_of
from dropmill.engines.sql.types import is_storable
from dropmill.model.errors import IllegalTransition, NotFound, SubmissionSealed, UploadTaken
from dropmill.model.events import EventName
from dropmill.model.ids import (
    WRITER_DIGITS,
    FileId,
    Fingerprint,
    JobId,
    NodeId,
    Owner,
    Sha256,
    SubmissionId,
    writer_of,
)
from dropmill.model.jobs import Job, JobState
from dropmill.model.transitions import require_transition
from dropmill.model.uploads import UPLOAD_TRANSITIONS, AbortCause, File, StoredBlob, UploadState
from dropmill.ports.ledger.uploads import AwaitedFile, FormUploads, ResumableUpload, SubmissionUsage, WholeFile

# Built once: making a statement anew costs more than running it (1.5 ms of CPU a file's life against 0.7).
FILE = select(files).where(files.c.id == bindparam("key"))
SET_FILE = update(files).where(files.c.seq == bindparam("key"))
ADD_FILE = insert(files)
_is_elsewhere = (files.c.node != bindparam("me")) & files.c.node.in_(select(nodes.c.id))
_UPLOAD = select(files, submissions.c.ip, submissions.c.account, _is_elsewhere.label("is_elsewhere")).join(
    submissions, submissions.c.id == files.c.submission_id
)
_BY_ID = _UPLOAD.where(files.c.id == bindparam("key"))
_UNFINISHED = _UPLOAD.where(is_unfinished, files.c.partial.is_not(None)).order_by(files.c.seq)
_IN_FORMS = select(files.c.id).where(
    is_unfinished,
    files.c.state == UploadState.RECEIVING.value,
    files.c.partial.is_(None),
    files.c.node.is_not_distinct_from(bindparam("node")),
)
_OPEN_FOR_A_FORM = select(submissions.c.id).where(
    submissions.c.settled_at.is_(None),
    submissions.c.is_open,
    ~submissions.c.is_announced,
    submissions.c.node.is_not_distinct_from(bindparam("node")),
)
_EXPIRED = _UNFINISHED.where(files.c.expires_at < bindparam("now"), or_(files.c.node.is_(None), ~_is_elsewhere)).limit(
    bindparam("limit")
)
_AWAITED = select(files.c.id, files.c.path, files.c.size, files.c.expected_sha256)
_ANNOUNCED = (
    _AWAITED.join(submissions, submissions.c.id == files.c.submission_id)
    .where(
        files.c.submission_id == bindparam("key"),
        files.c.state == UploadState.ANNOUNCED.value,
        (files.c.path == bindparam("path")) | (files.c.name == bindparam("path")),
    )
    .order_by(files.c.path != bindparam("path"), files.c.seq)
    .limit(1)
)
_SEQ_IN = (
    select(files.c.seq)
    .join(submissions, submissions.c.id == files.c.submission_id)
    .where(files.c.id == bindparam("key"), files.c.submission_id == bindparam("of"))
)
# Between two numbers, not a number of rows: those that are not announced any more would be read, too, to find as many.
_AWAITED_FROM = _AWAITED.where(
    files.c.submission_id == bindparam("of"),
    files.c.seq.between(bindparam("first"), bindparam("last")),
    files.c.state == UploadState.ANNOUNCED.value,
).order_by(files.c.seq)
_SIZE = func.sum(func.coalesce(files.c.size, files.c.received))
_HOLDING = select(func.count(), cast(func.coalesce(_SIZE, 0), BigInteger)).where(
    files.c.submission_id == bindparam("key"), files.c.state != UploadState.ABORTED.value
)
_REPLACED = "it was sent again and is stored"
_ANNOUNCED_COUNT = select(submissions.c.announced).where(submissions.c.id == bindparam("key"))


_GIVING_UP = (AbortCause.CANCELLED, AbortCause.UNREADABLE)
_BY_CAUSE = {AbortCause.CANCELLED: "given_up", AbortCause.REPLACED: "replaced"}
"""Which counter of its submission an aborted file adds to, besides `aborted`, by its cause."""
_ABORTED = select(files).where(
    files.c.submission_id == bindparam("of"),
    files.c.state == UploadState.ABORTED.value,
    files.c.cause != AbortCause.REPLACED.value,
)
_STORED_LATER = select(files.c.size).where(
    files.c.submission_id == bindparam("of"),
    files.c.path == bindparam("path"),
    files.c.number > bindparam("number"),
    files.c.state == UploadState.STORED.value,
)

# --- rows ------------------------------------------------------------------------------------------------------------


def file_of(row: Row, job: Job | None) -> File:
    """A file with its job."""
    return File(
        id=FileId(row["id"]),
        submission_id=SubmissionId(row["submission_id"]),
        name=row["name"],
        path=row["path"],
        size=row["size"],
        received=row["received"],
        sha256=None if row["sha256"] is None else Sha256(row["sha256"]),
        state=UploadState(row["state"]),
        blob=row["blob"],
        error=row["error"],
        cause=None if row["cause"] is None else AbortCause(row["cause"]),
        job=job,
        removed_at=row["removed_at"],
        is_resumable=row["partial"] is not None,
        fingerprint=_fingerprint_of(row),
    )


def _upload_of(row: Row) -> ResumableUpload:
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
        fence=row["fence"],
        fingerprint=_fingerprint_of(row),
        is_elsewhere=bool(row["is_elsewhere"]),
    )


def _awaited_of(row: Row) -> AwaitedFile:
    return AwaitedFile(
        file_id=FileId(row["id"]),
        path=row["path"],
        size=row["size"],
        expected_sha256=None if row["expected_sha256"] is None else Sha256(row["expected_sha256"]),
    )


def _fingerprint_of(row: Row) -> Fingerprint | None:
    return None if row["fingerprint"] is None else Fingerprint(row["fingerprint"])


# --- changes ---------------------------------------------------------------------------------------------------------


def start_upload(
    tx: Transaction, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
) -> None:
    """See `Ledger.start_upload`."""
    if not tx.submission(submission_id)["is_open"]:
        raise SubmissionSealed("The submission is sealed; open another one.")
    links.require_live(tx, submission_id)
    row = _new_row(
        tx,
        UploadState.RECEIVING,
        id=file_id,
        submission_id=submission_id,
        name=name,
        path=path,
        size=size,
        node=_node(tx),
    )
    tx.run(ADD_FILE, **row)
    subject = replace(tx.subject(submission_id), file_id=file_id, name=name)
    tx.emit(EventName.UPLOAD_STARTED, subject, size=size, path=path)


def announce_uploads(tx: Transaction, uploads: Sequence[ResumableUpload]) -> None:
    """See `Ledger.announce_uploads`."""
    tx.run_all(ADD_FILE, [_announced_row(tx, upload) for upload in uploads])


def _announced_row(tx: Transaction, upload: ResumableUpload) -> dict[str, Any]:
    if not tx.submission(upload.submission_id)["is_open"]:
        raise IllegalTransition("The submission is sealed; open another one.")
    links.require_live(tx, upload.submission_id)
    return _new_row(
        tx,
        UploadState.ANNOUNCED,
        id=upload.file_id,
        submission_id=upload.submission_id,
        name=upload.name,
        path=upload.path,
        size=upload.size,
        partial=upload.partial,
        metadata=upload.metadata,
        expected_sha256=upload.expected_sha256,
        expires_at=upload.expires_at,
        fingerprint=upload.fingerprint,
    )


def _new_row(tx: Transaction, state: UploadState, **values: Any) -> dict[str, Any]:
    """The row of a file that is new in a submission, which counts it; the caller adds the row."""
    submission_id = values["submission_id"]
    number = counts_of(
        tx.submission(submission_id)
    ).total  # every file is counted in one state, and none is ever deleted
    tx.take(submission_id, files=1, size=values["size"] or 0)
    search.add_file(tx, submission_id, values["id"], number, values["name"], values["path"])
    tx.move(submission_id, None, state.value)
    return {"state": state.value, "number": number, **values}


def _node(tx: Transaction) -> NodeId | None:
    return None if tx.node is None else tx.node.id


def begin_upload(tx: Transaction, file_id: FileId) -> None:
    """See `Ledger.begin_upload`."""
    row = _file(tx, file_id)
    links.require_live(tx, row["submission_id"])
    _begin(tx, row, partial=None, node=_node(tx))


def take_upload(tx: Transaction, file_id: FileId) -> int:
    """See `Ledger.take_upload`."""
    row = _file(tx, file_id)
    fence: int = row["fence"]
    if row["state"] != UploadState.RECEIVING or row["partial"] is None:
        fence += 1
        _begin(tx, row, node=_node(tx), fence=fence)
    elif row["node"] != _node(tx):
        fence += 1
        tx.run(SET_FILE, key=row["seq"], node=_node(tx), fence=fence)
    return fence


def _begin(tx: Transaction, row: Row, **values: Any) -> None:
    require_transition(UPLOAD_TRANSITIONS, UploadState(row["state"]), UploadState.RECEIVING, "upload")
    tx.run(SET_FILE, key=row["seq"], state=UploadState.RECEIVING.value, **values)
    tx.move(row["submission_id"], row["state"], UploadState.RECEIVING.value)
    subject = replace(tx.subject(row["submission_id"]), file_id=FileId(row["id"]), name=row["name"])
    tx.emit(EventName.UPLOAD_STARTED, subject, size=row["size"], path=row["path"])


def extend_upload(
    tx: Transaction, file_id: FileId, size: int | None, received: int, expires_at: datetime | None, fence: int
) -> None:
    """See `Ledger.extend_upload`."""
    row = _file(tx, file_id)
    _require_turn(row, fence)
    if row["partial"] is None:
        return
    submission_id = row["submission_id"]
    tx.give_back(submission_id, size=_held(row) - (received if size is None else size))
    if row["size"] is None and size is not None:
        _require_kept(tx, submission_id)
    tx.run(SET_FILE, key=row["seq"], size=size, received=received, expires_at=expires_at)


def hold_upload(tx: Transaction, file_id: FileId, received: int, is_kept: bool) -> int | None:
    """See `Ledger.hold_upload`."""
    row = _file(tx, file_id)
    submission_id = row["submission_id"]
    submission = tx.submission(submission_id)
    holders = holders_of(submission)
    more = received - _held(row)
    if is_kept and row["size"] is None and row["state"] == UploadState.RECEIVING:
        tx.take(submission_id, size=more)
        tx.run(SET_FILE, key=row["seq"], received=received)
        more = 0
    with as_told_to(submission):
        for holder in holders:
            tx.quotas.require(holder, storage=more, total_size=more)
    rooms = [tx.quotas.room(holder) for holder in holders]
    return min((room - more for room in rooms if room is not None), default=None)


def _held(row: Row) -> int:
    """The bytes with which a file counts, until it is aborted: its size, or while that is unknown what came of it."""
    held: int = row["received"] if row["size"] is None else row["size"]
    return held


def _require_kept(tx: Transaction, submission_id: str) -> None:
    submission = tx.submission(submission_id)
    with as_told_to(submission):
        for holder in holders_of(submission):
            tx.quotas.require_kept(holder)


def _require_turn(row: Row, fence: int) -> None:
    if row["fence"] != fence:
        raise UploadTaken("Another process of the server has continued this upload; ask for its offset (HEAD).")


def _file(tx: Transaction, file_id: str) -> Row:
    row = tx.one(FILE, key=file_id)
    if row is None:
        raise NotFound("There is no such file.")
    return row


def store_upload(tx: Transaction, file_id: FileId, blob: StoredBlob, job_id: JobId, fence: int | None) -> None:
    """See `Ledger.store_upload`."""
    row = _file(tx, file_id)
    if fence is not None:
        _require_turn(row, fence)
    require_transition(UPLOAD_TRANSITIONS, UploadState(row["state"]), UploadState.STORED, "upload")
    links.require_live(tx, row["submission_id"], has_begun=True)
    config.newest(tx)  # without a config nothing is stored
    tx.take(row["submission_id"], size=blob.size - _held(row))
    tx.run(
        SET_FILE,
        key=row["seq"],
        state=UploadState.STORED.value,
        size=blob.size,
        received=blob.size,
        sha256=blob.sha256,
        blob=blob.key,
        partial=None,
    )
    submission_id = row["submission_id"]
    subject = replace(tx.subject(submission_id), file_id=file_id, name=row["name"])
    tx.emit(EventName.UPLOAD_STORED, subject, size=blob.size, sha256=blob.sha256)
    _replace(tx, submission_id, [(row["path"], blob.size, row["number"])])
    tx.keep(submission_id, blob.size)
    add_job(tx, job_id, submission_id, subject)
    tx.move(submission_id, row["state"], JobState.QUEUED.value)


def store_files(tx: Transaction, whole: Sequence[WholeFile]) -> None:
    """See `Ledger.store_files`."""
    by_submission: dict[SubmissionId, list[WholeFile]] = {}
    for file in whole:
        by_submission.setdefault(file.submission_id, []).append(file)
    for submission_id, some in by_submission.items():
        _store_files(tx, submission_id, some)


def store_new_file(tx: Transaction, whole: WholeFile) -> File:
    """Record one new file as `store_files` does; returns it."""
    [row], [job] = _store_files(tx, whole.submission_id, [whole])
    queued = Job(
        id=whole.job_id,
        file_id=whole.file_id,
        submission_id=whole.submission_id,
        state=JobState.QUEUED,
        queued_at=job["queued_at"],
        started_at=None,
        settled_at=None,
        exit_code=None,
        error=None,
        value=None,
        output_size=0,
    )
    return file_of({**dict.fromkeys(files.c.keys()), **row}, queued)


def _store_files(
    tx: Transaction, submission_id: SubmissionId, whole: Sequence[WholeFile]
) -> tuple[Sequence[Row], Sequence[Row]]:
    """Record files of one submission, each kind of row by one statement; returns the rows of new files and of jobs."""
    config.newest(tx)  # without a config nothing is stored
    announced = {file.file_id: _announced(tx, file) for file in whole if file.is_announced}
    count_announced, count_new = len(announced), sum(not file.is_announced for file in whole)
    if count_announced + count_new < len(whole):
        raise IllegalTransition("The same announced file comes twice.")
    submission = tx.submission(submission_id)
    if count_new and not submission["is_open"]:
        raise SubmissionSealed("The submission is sealed; open another one.")
    links.require_live(tx, submission_id, has_begun=True)
    held = sum(_held(row) for row in announced.values())
    tx.take(submission_id, files=count_new, size=sum(file.blob.size for file in whole) - held)
    number = counts_of(submission).total
    tags = tx.next_tags(submission_id, None, len(whole))
    added: list[dict[str, Any]] = []
    stored: list[dict[str, Any]] = []
    queued: list[dict[str, Any]] = []
    came: list[tuple[str, int, int]] = []
    for file, tag in zip(whole, tags, strict=True):
        row = announced.get(file.file_id)
        name, path, said = (file.name, file.path, None) if row is None else (row["name"], row["path"], row["size"])
        bytes_of_file = {
            "state": UploadState.STORED.value,
            "size": file.blob.size,
            "received": file.blob.size,
            "sha256": file.blob.sha256,
            "blob": file.blob.key,
            "node": _node(tx),
        }
        if row is None:
            named = {"id": file.file_id, "submission_id": submission_id, "name": name, "path": path, "number": number}
            added.append(named | bytes_of_file)
            search.add_file(tx, submission_id, file.file_id, number, name, path)
            came.append((path, file.blob.size, number))
            number += 1
        else:
            came.append((path, file.blob.size, row["number"]))
            stored.append({"key": row["seq"], "partial": None, **bytes_of_file})
        subject = replace(tx.subject(submission_id), file_id=file.file_id, name=name)
        tx.emit(EventName.UPLOAD_STARTED, subject, size=said, path=path)
        tx.emit(EventName.UPLOAD_STORED, subject, size=file.blob.size, sha256=file.blob.sha256)
        queued.append(new_job(tx, file.job_id, submission_id, subject, tag))
    tx.run_all(ADD_FILE, added)
    tx.run_all(SET_FILE, stored)
    _replace(tx, submission_id, came)
    add_jobs(tx, queued)
    tx.keep(submission_id, sum(file.blob.size for file in whole))
    for before, count in ((None, count_new), (UploadState.ANNOUNCED.value, count_announced)):
        if count:
            tx.move(submission_id, before, JobState.QUEUED.value, count)
    return added, queued


def _announced(tx: Transaction, file: WholeFile) -> Row:
    row = _file(tx, file.file_id)
    if row["submission_id"] != file.submission_id:
        raise NotFound("The submission has no such file.")
    require_transition(UPLOAD_TRANSITIONS, UploadState(row["state"]), UploadState.RECEIVING, "upload")
    return row


def abort_upload(tx: Transaction, file_id: FileId, cause: AbortCause, reason: str, fence: int | None = None) -> None:
    """See `Ledger.abort_upload`."""
    row = _file(tx, file_id)
    if fence is not None:
        _require_turn(row, fence)
    if cause in _GIVING_UP and _has_broken_off(row) and tx.submission(row["submission_id"])["is_open"]:
        _set_cause(tx, row, cause, reason)
        return
    require_transition(UPLOAD_TRANSITIONS, UploadState(row["state"]), UploadState.ABORTED, "upload")
    if cause.is_broken_off and _is_stored_again(tx, row):
        cause, reason = AbortCause.REPLACED, _REPLACED
    abort(tx, row, cause, reason)


def abort(tx: Transaction, row: Row, cause: AbortCause, reason: str) -> None:
    """Abort the upload of a file's row."""
    tx.move(row["submission_id"], row["state"], UploadState.ABORTED.value)
    tx.give_back(row["submission_id"], files=1, size=_held(row))
    _set_cause(tx, row, cause, reason, state=UploadState.ABORTED.value, partial=None)
    if tx.settle(row["submission_id"]):
        links.give_back(tx, row["submission_id"])


def _has_broken_off(row: Row) -> bool:
    return row["cause"] is not None and AbortCause(row["cause"]).is_broken_off


def _set_cause(tx: Transaction, row: Row, cause: AbortCause, reason: str, **values: Any) -> None:
    """Set why a file was aborted, and other columns; `row` has the cause that was set before, if any."""
    tx.run(SET_FILE, key=row["seq"], cause=cause.value, error=reason, **values)
    submission_id = row["submission_id"]
    before = None if row["cause"] is None else AbortCause(row["cause"])
    for each, by in ((before, -1), (cause, 1)):
        if each in _BY_CAUSE:
            counter = _BY_CAUSE[each]
            tx.change(submission_id, **{counter: tx.submission(submission_id)[counter] + by})
    subject = replace(tx.subject(submission_id), file_id=row["id"], name=row["name"])
    tx.emit(EventName.UPLOAD_ABORTED, subject, cause=cause.value, reason=reason)


def _replace(tx: Transaction, submission_id: SubmissionId, stored: Sequence[tuple[str, int, int]]) -> None:
    """Note which aborted files of a submission these ones are, sent again. Each has a path, a size and a number."""
    submission = tx.submission(submission_id)
    if submission["aborted"] == submission["replaced"]:
        return
    by_path: dict[str, list[tuple[int, int]]] = {}
    for path, size, number in stored:
        by_path.setdefault(path, []).append((size, number))
    for row in tx.connection.execute(_ABORTED, {"of": submission_id}).mappings().all():
        came = by_path.get(row["path"], ())
        if any(row["number"] < number and row["size"] in (None, size) for size, number in came):
            _set_cause(tx, row, AbortCause.REPLACED, _REPLACED)


def _is_stored_again(tx: Transaction, row: Row) -> bool:
    """Whether the client has sent a file again already, before the server noticed that it had broken off."""
    wanted = {"of": row["submission_id"], "path": row["path"], "number": row["number"]}
    sizes = tx.connection.execute(_STORED_LATER, wanted).scalars().all()
    return bool(sizes) if row["size"] is None else row["size"] in sizes


# --- queries ---------------------------------------------------------------------------------------------------------


def with_jobs(connection: Connection, page: Sequence[Row]) -> Sequence[File]:
    """The files of some rows, each with its job."""
    ids = [row["id"] for row in page]
    found: list[Row] = []
    for start in range(0, len(ids), 500):  # below both databases' limits on parameters
        some = select(jobs).where(jobs.c.file_id.in_(ids[start : start + 500]))
        found.extend(connection.execute(some).mappings().all())
    by_file = {job.file_id: job for job in jobs_of(connection, found)}
    return [file_of(row, by_file.get(row["id"])) for row in page]


_OWNED_FILE = FILE.join(submissions, submissions.c.id == files.c.submission_id)


def get_file(connection: Connection, file_id: FileId, visible_to: Owner | None) -> File:
    """See `Ledger.file`."""
    wanted = FILE if visible_to is None else seen_by(_OWNED_FILE, submissions.c.owner, visible_to)
    row = connection.execute(wanted, {"key": file_id}).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such file.")
    return with_jobs(connection, [row])[0]


def get_upload(
    connection: Connection, file_id: FileId, visible_to: Owner | None, node: NodeId | None
) -> ResumableUpload:
    """See `Ledger.upload`."""
    wanted = seen_by(_BY_ID, submissions.c.owner, visible_to)
    row = connection.execute(wanted, {"key": file_id, "me": node or ""}).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such upload.")
    return _upload_of(row)


def announced_upload(
    connection: Connection, submission_id: SubmissionId, path: str, visible_to: Owner | None
) -> AwaitedFile | None:
    """See `Ledger.announced_upload`."""
    if not is_storable(path):
        return None
    parameters = {"key": submission_id, "path": path}
    row = connection.execute(seen_by(_ANNOUNCED, submissions.c.owner, visible_to), parameters).mappings().one_or_none()
    return None if row is None else _awaited_of(row)


def awaited_files(
    connection: Connection, submission_id: SubmissionId, first: FileId, ahead: int, visible_to: Owner | None
) -> Sequence[AwaitedFile]:
    """See `Ledger.awaited_files`."""
    wanted = seen_by(_SEQ_IN, submissions.c.owner, visible_to)
    seq = connection.execute(wanted, {"key": first, "of": submission_id}).scalar_one_or_none()
    if seq is None:
        raise NotFound("The submission has no such file.")
    parameters = {"of": submission_id, "first": seq, "last": min(seq + ahead, search.SEQ_MAX)}
    return [_awaited_of(row) for row in connection.execute(_AWAITED_FROM, parameters).mappings()]


def submission_usage(connection: Connection, submission_id: SubmissionId, visible_to: Owner | None) -> SubmissionUsage:
    """See `Ledger.submission_usage`."""
    wanted = seen_by(_ANNOUNCED_COUNT, submissions.c.owner, visible_to)
    announced = connection.execute(wanted, {"key": submission_id}).scalar_one_or_none()
    if announced is None:
        raise NotFound("There is no such submission.")
    count, size = connection.execute(_HOLDING, {"key": submission_id}).one()
    return SubmissionUsage(files=count, announced=announced, size=size)


def unfinished_uploads(connection: Connection, node: NodeId | None) -> Sequence[ResumableUpload]:
    """See `Ledger.unfinished_uploads`."""
    return [_upload_of(row) for row in connection.execute(_UNFINISHED, {"me": node or ""}).mappings()]


def form_uploads(connection: Connection, node: NodeId | None) -> FormUploads:
    """See `Ledger.form_uploads`."""
    return FormUploads(
        files={FileId(found) for found in connection.execute(_IN_FORMS, {"node": node}).scalars()},
        submissions={SubmissionId(found) for found in connection.execute(_OPEN_FOR_A_FORM, {"node": node}).scalars()},
    )


def expired_uploads(
    connection: Connection, now: datetime, limit: int, node: NodeId | None
) -> Sequence[ResumableUpload]:
    """See `Ledger.expired_uploads`."""
    parameters: dict[str, Any] = {"now": now, "limit": limit, "me": node or ""}
    return [_upload_of(row) for row in connection.execute(_EXPIRED, parameters).mappings()]


def _known_blobs(connection: Connection, keys: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for start in range(0, len(keys), 500):
        # `partial`, too: a process killed between the two may have stored a growing blob without recording it.
        for column in (files.c.blob, files.c.partial, results.c.blob):
            known.update(connection.execute(select(column).where(column.in_(keys[start : start + 500]))).scalars())
    return known


def needed_blobs(connection: Connection, keys: Sequence[str]) -> set[str]:
    """See `Ledger.needed_blobs`."""
    writers = {node[:WRITER_DIGITS] for node in connection.execute(select(nodes.c.id)).scalars()}
    made = {key for key in keys if writer_of(key) in writers}
    return made | _known_blobs(connection, [key for key in keys if key not in made])


def live_blobs(connection: Connection, keys: Sequence[str]) -> set[str]:
    """See `Ledger.live_blobs`."""
    live: set[str] = set()
    for start in range(0, len(keys), 500):
        some = files.c.blob.in_(keys[start : start + 500])
        live.update(connection.execute(select(files.c.blob).where(some, files.c.removed_at.is_(None))).scalars())
    return live
