"""Every change to the ledger: state and event together, guarded by the model's transitions.

A change is a plain function over a `Transaction`. It either raises before it has written anything that matters, and
the engine rolls back, or it has appended the events that tell of it. Which events follow from which transition, and
how counters move, is decided here and nowhere else, for every SQL engine alike.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from dropmill.engines.sql import rows
from dropmill.engines.sql.tables import (
    attempts,
    config_files,
    config_revisions,
    files,
    is_unfinished,
    jobs,
    results,
    submissions,
)
from dropmill.engines.sql.transaction import NEWEST_REVISION, Transaction
from dropmill.model.errors import (
    ConfigConflict,
    IdempotencyMismatch,
    IllegalTransition,
    NotFound,
    Removed,
    RevisionInUse,
    SubmissionSealed,
    Unavailable,
)
from dropmill.model.events import RESULTS_TOLD, EventName, Subject
from dropmill.model.ids import FileId, JobId, Sha256, SubmissionId
from dropmill.model.records import (
    ATTEMPT_TRANSITIONS,
    JOB_TRANSITIONS,
    UPLOAD_TRANSITIONS,
    Attempt,
    AttemptOrder,
    AttemptOutcome,
    AttemptState,
    ClientIdentity,
    ConfigLocation,
    ConfigRevision,
    JobError,
    JobState,
    QueuedJob,
    RetryPolicy,
    StoredBlob,
    UploadState,
    require_transition,
    utc_now,
)
from dropmill.ports.ledger.nodes import Recovery
from dropmill.ports.ledger.page import Page
from dropmill.ports.ledger.submissions import RequestKey

LOST = "lost"
"""Error type of a job whose attempts were lost too often."""


# Built once: making a statement anew costs more than running it (1.5 ms of CPU a file's life against 0.7).
_SUBMISSION_BY_KEY = select(submissions).where(submissions.c.idempotency_key == bindparam("key"))
_ADD_SUBMISSION = insert(submissions)
_FILE = select(files).where(files.c.id == bindparam("key"))
_SET_FILE = update(files).where(files.c.seq == bindparam("key"))
_ADD_FILE = insert(files)
_JOBS = select(jobs, files.c.name, files.c.path, files.c.blob, files.c.size, files.c.sha256, files.c.removed_at).join(
    files, files.c.id == jobs.c.file_id
)
_JOB = _JOBS.where(jobs.c.id == bindparam("key"))
_JOBS_OF_SUBMISSION = (
    _JOBS.where(
        jobs.c.submission_id == bindparam("key"),
        jobs.c.state.in_(bindparam("states", expanding=True)),
        jobs.c.seq > bindparam("after"),
    )
    .order_by(jobs.c.seq)
    .limit(bindparam("limit"))
)
_SET_JOB = update(jobs).where(jobs.c.seq == bindparam("key"))
_ADD_JOB = insert(jobs)
_SET_ATTEMPT = update(attempts).where(
    attempts.c.job_id == bindparam("key"), attempts.c.number == bindparam("attempt_number")
)
_ADD_ATTEMPT = insert(attempts)
_ADD_RESULTS = insert(results)


# --- submissions and uploads -----------------------------------------------------------------------------------------


def open_submission(
    tx: Transaction,
    submission_id: SubmissionId,
    client: ClientIdentity,
    account: str | None,
    is_announced: bool,
    key: RequestKey | None,
) -> SubmissionId:
    """See `Ledger.open_submission`."""
    owned = None if key is None else f"{key.owner}\n{key.text}"
    if key is not None:
        tx.flush_submissions()
        first = tx.one(_SUBMISSION_BY_KEY, key=owned)
        if first is not None and not _is_void(first):
            # None: kept by a version that compared nothing
            if first["idempotency_fingerprint"] not in (None, key.fingerprint):
                raise IdempotencyMismatch(
                    "This Idempotency-Key was used for another request; send this one with a key of its own.",
                    submission=first["id"],
                )
            return SubmissionId(first["id"])
        if first is not None:
            tx.change(first["id"], idempotency_key=None)
            tx.flush_submissions()
    tx.run(
        _ADD_SUBMISSION,
        id=submission_id,
        is_open=True,
        opened_at=utc_now(),
        account=account,
        ip=client.ip,
        host=client.host,
        verified=client.verified,
        domain=client.domain,
        user_agent=client.user_agent,
        is_identified=False,
        is_announced=is_announced,
        idempotency_key=owned,
        idempotency_fingerprint=None if key is None else key.fingerprint,
    )
    tx.emit(EventName.SUBMISSION_OPENED, tx.subject(submission_id))
    return submission_id


def _is_void(row: rows.Row) -> bool:
    """Whether nothing ever came of a submission: a repeat of its request may then begin it anew."""
    counts = rows.counts_of(row)
    return not row["is_open"] and counts.total == counts.aborted


def identify_client(
    tx: Transaction, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
) -> None:
    """See `Ledger.identify_client`."""
    if tx.submission(submission_id)["is_identified"]:
        return
    tx.change(submission_id, host=host, verified=verified, domain=domain, is_identified=True)
    tx.emit(EventName.CLIENT_IDENTIFIED, tx.subject(submission_id), host=host, verified=verified, domain=domain)


def start_upload(
    tx: Transaction, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
) -> None:
    """See `Ledger.start_upload`."""
    if not tx.submission(submission_id)["is_open"]:
        raise SubmissionSealed("The submission is sealed; open another one.")
    tx.run(
        _ADD_FILE,
        id=file_id,
        submission_id=submission_id,
        name=name,
        path=path,
        size=size,
        state=UploadState.RECEIVING.value,
    )
    tx.move(submission_id, None, UploadState.RECEIVING.value)
    subject = replace(tx.subject(submission_id), file_id=file_id, name=name)
    tx.emit(EventName.UPLOAD_STARTED, subject, size=size, path=path)


def _file(tx: Transaction, file_id: str) -> rows.Row:
    row = tx.one(_FILE, key=file_id)
    if row is None:
        raise NotFound("There is no such file.")
    return row


def store_upload(tx: Transaction, file_id: FileId, blob: StoredBlob, job_id: JobId) -> None:
    """See `Ledger.store_upload`."""
    row = _file(tx, file_id)
    require_transition(UPLOAD_TRANSITIONS, UploadState(row["state"]), UploadState.STORED, "upload")
    config_number = tx.newest_config().number
    tx.run(
        _SET_FILE,
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
    tx.move(submission_id, row["state"], JobState.QUEUED.value)
    tx.keep(submission_id, blob.size)
    cursor = tx.emit(EventName.JOB_QUEUED, replace(subject, job_id=job_id), reason="stored")
    tx.run(
        _ADD_JOB,
        id=job_id,
        file_id=file_id,
        submission_id=submission_id,
        state=JobState.QUEUED.value,
        queued_at=utc_now(),
        queued_cursor=cursor,
        config_number=config_number,
    )


def abort_upload(tx: Transaction, file_id: FileId, reason: str) -> None:
    """See `Ledger.abort_upload`."""
    row = _file(tx, file_id)
    require_transition(UPLOAD_TRANSITIONS, UploadState(row["state"]), UploadState.ABORTED, "upload")
    _abort(tx, row, reason)


def _abort(tx: Transaction, row: rows.Row, reason: str) -> None:
    tx.run(_SET_FILE, key=row["seq"], state=UploadState.ABORTED.value, error=reason, partial=None)
    submission_id = row["submission_id"]
    tx.move(submission_id, row["state"], UploadState.ABORTED.value)
    subject = replace(tx.subject(submission_id), file_id=row["id"], name=row["name"])
    tx.emit(EventName.UPLOAD_ABORTED, subject, reason=reason)
    tx.settle(submission_id)


def seal_submission(tx: Transaction, submission_id: SubmissionId) -> None:
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
        _abort(tx, file, "the submission was sealed before it came")
    tx.change(submission_id, is_open=False)
    tx.emit(EventName.SUBMISSION_SEALED, tx.subject(submission_id), counts={name: row[name] for name in rows.COUNTS})
    tx.settle(submission_id)


# --- jobs and attempts -----------------------------------------------------------------------------------------------


def _job(tx: Transaction, job_id: str) -> rows.Row:
    row = tx.one(_JOB, key=job_id)
    if row is None:
        raise NotFound("There is no such job.")
    return row


def _set_job(tx: Transaction, row: rows.Row, state: JobState, **values: Any) -> None:
    require_transition(JOB_TRANSITIONS, JobState(row["state"]), state, "job")
    tx.run(_SET_JOB, key=row["seq"], state=state.value, **values)
    tx.move(row["submission_id"], row["state"], state.value)


def _job_subject(tx: Transaction, row: rows.Row, attempt: int | None = None) -> Subject:
    return replace(
        tx.subject(row["submission_id"]), file_id=row["file_id"], job_id=row["id"], name=row["name"], attempt=attempt
    )


def start_attempt(tx: Transaction, job_id: JobId, host: str) -> AttemptOrder | None:
    """See `Ledger.start_attempt`."""
    row = _job(tx, job_id)
    if row["state"] != JobState.QUEUED:
        return None
    number = row["attempt"] + 1
    now = utc_now()
    config = tx.revision(row["config_number"])
    tx.run(
        _ADD_ATTEMPT,
        job_id=job_id,
        number=number,
        state=AttemptState.RUNNING.value,
        config_revision=config.sha256,
        started_at=now,
        host=host,
    )
    _set_job(tx, row, JobState.RUNNING, attempt=number, started_at=now, not_before=None)
    tx.emit(EventName.ATTEMPT_STARTED, _job_subject(tx, row, number), config_revision=config.sha256, host=host)
    return AttemptOrder(
        job_id=job_id,
        submission_id=row["submission_id"],
        file_id=row["file_id"],
        number=number,
        file_name=row["name"],
        file_path=row["path"],
        blob=row["blob"],
        size=row["size"],
        sha256=row["sha256"],
        client=rows.client_of(tx.submission(row["submission_id"])),
        config=config,
    )


_ATTEMPT_EVENTS: Mapping[AttemptState, EventName] = {
    AttemptState.SUCCEEDED: EventName.ATTEMPT_SUCCEEDED,
    AttemptState.FAILED: EventName.ATTEMPT_FAILED,
    AttemptState.CANCELLED: EventName.ATTEMPT_CANCELLED,
}


def end_attempt(
    tx: Transaction, job_id: JobId, number: int, outcome: AttemptOutcome, retry: RetryPolicy | None
) -> JobState | None:
    """See `Ledger.end_attempt`."""
    row = _job(tx, job_id)
    if row["state"] != JobState.RUNNING or row["attempt"] != number:
        return None
    now = utc_now()
    require_transition(ATTEMPT_TRANSITIONS, AttemptState.RUNNING, outcome.state, "attempt")
    event = _ATTEMPT_EVENTS[outcome.state]  # a lost attempt has its own change
    outcome = replace(outcome, error=_storable(outcome.error))
    tx.run(
        _SET_ATTEMPT,
        key=job_id,
        attempt_number=number,
        state=outcome.state.value,
        exit_code=outcome.exit_code,
        settled_at=now,
        output_size=outcome.output_size,
    )
    if outcome.results:
        tx.connection.execute(_ADD_RESULTS, rows.results_to_add(job_id, number, outcome.results))
    data: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        "duration": _seconds(row["started_at"], now),
        "output_size": outcome.output_size,
    }
    if event is EventName.ATTEMPT_FAILED:
        data["error"] = _error_json(outcome.error)
    tx.emit(event, _job_subject(tx, row, number), **data)
    tx.keep(row["submission_id"], outcome.output_size + sum(result.size for result in outcome.results))
    if retry is not None and retry.applies(outcome, row["tries"]):
        not_before = retry.next_time(now, row["tries"])
        _requeue(tx, row, "retry_policy", tries=row["tries"] + 1, not_before=not_before)
        return JobState.QUEUED
    state = JobState(outcome.state.value)
    _settle_job(tx, row, state, outcome, now)
    return state


def _requeue(tx: Transaction, row: rows.Row, reason: str, **values: Any) -> None:
    cursor = tx.emit(EventName.JOB_QUEUED, _job_subject(tx, row), reason=reason)
    values = {"not_before": None, "started_at": None, "queued_at": utc_now(), "queued_cursor": cursor, **values}
    _set_job(tx, row, JobState.QUEUED, **values)


def _settle_job(tx: Transaction, row: rows.Row, state: JobState, outcome: AttemptOutcome, now: datetime) -> None:
    error = outcome.error
    _set_job(
        tx,
        row,
        state,
        settled_at=now,
        not_before=None,
        exit_code=outcome.exit_code,
        error_type=None if error is None else error.type,
        error_message=None if error is None else error.message,
        value=outcome.value,
        output_size=outcome.output_size,
        result_count=len(outcome.results),
    )
    started_at = row["started_at"] if JobState(row["state"]) is JobState.RUNNING else None
    tx.emit(
        EventName.JOB_SETTLED,
        _job_subject(tx, row, row["attempt"] or None),
        state=state.value,
        exit_code=outcome.exit_code,
        error=_error_json(error),
        duration=_seconds(started_at, now),
        output_size=outcome.output_size,
        result_count=len(outcome.results),
        results=[{"path": result.path, "size": result.size} for result in outcome.results[:RESULTS_TOLD]],
    )
    tx.settle(row["submission_id"])


def _error_json(error: JobError | None) -> dict[str, str] | None:
    return None if error is None else {"type": error.type, "message": error.message}


def _storable(error: JobError | None) -> JobError | None:
    """An error whose text any column takes: a script's may quote bytes that are no UTF-8, as surrogates."""
    if error is None:
        return None
    kind, message = (text.encode(errors="backslashreplace").decode() for text in (error.type, error.message))
    return JobError(type=kind, message=message)


def _seconds(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else max((end - start).total_seconds(), 0.0)


def lose_attempt(tx: Transaction, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
    """See `Ledger.lose_attempt`."""
    row = _job(tx, job_id)
    if row["state"] != JobState.RUNNING or row["attempt"] != number:
        return None
    now = utc_now()
    lost = row["lost"] + 1
    tx.run(_SET_ATTEMPT, key=job_id, attempt_number=number, state=AttemptState.LOST.value, settled_at=now)
    tx.emit(EventName.ATTEMPT_LOST, _job_subject(tx, row, number))
    if lost < max_attempts:
        _requeue(tx, row, LOST, lost=lost)
        return JobState.QUEUED
    tx.run(_SET_JOB, key=row["seq"], lost=lost)
    error = JobError(type=LOST, message=f"The process running it vanished {lost} times; it is not tried again.")
    outcome = AttemptOutcome(state=AttemptState.LOST, exit_code=None, error=error)
    _settle_job(tx, row, JobState.FAILED, outcome, now)
    return JobState.FAILED


def cancel_queued(tx: Transaction, job_id: JobId) -> bool:
    """See `Ledger.cancel_queued`."""
    row = _job(tx, job_id)
    if row["state"] != JobState.QUEUED:
        return False
    _cancel_queued(tx, row)
    return True


def _cancel_queued(tx: Transaction, row: rows.Row) -> None:
    outcome = AttemptOutcome(state=AttemptState.CANCELLED, exit_code=None)
    _settle_job(tx, row, JobState.CANCELLED, outcome, utc_now())


def retry_job(tx: Transaction, job_id: JobId) -> QueuedJob:
    """See `Ledger.retry_job`."""
    row = _job(tx, job_id)
    require_transition(JOB_TRANSITIONS, JobState(row["state"]), JobState.QUEUED, "job")
    if row["state"] == JobState.RUNNING:  # that way back is for attempts that were lost, and for the retry policy
        raise IllegalTransition("The job is running; cancel it first.")
    _require_kept(row)
    _retry(tx, row)
    return QueuedJob(id=job_id, submission_id=row["submission_id"])


def _require_kept(row: rows.Row) -> None:
    if row["removed_at"] is not None:
        raise Removed("The file is no longer kept on this server, so it cannot be processed again; send it anew.")


def _retry(tx: Transaction, row: rows.Row) -> None:
    tx.change(row["submission_id"], settled_at=None)
    _requeue(
        tx,
        row,
        "retry",
        lost=0,
        tries=0,
        config_number=tx.newest_config().number,
        settled_at=None,
        exit_code=None,
        error_type=None,
        error_message=None,
        value=None,
        output_size=0,
        result_count=0,
    )


def _some_jobs(
    tx: Transaction, submission_id: str, states: Sequence[JobState], after: str | None, limit: int
) -> tuple[Sequence[rows.Row], str | None]:
    tx.submission(submission_id)
    parameters = {"key": submission_id, "states": list(states), "after": int(after or 0), "limit": limit + 1}
    found = tx.connection.execute(_JOBS_OF_SUBMISSION, parameters).mappings().all()
    return found[:limit], str(found[limit - 1]["seq"]) if len(found) > limit else None


def retry_failed(tx: Transaction, submission_id: SubmissionId, after: str | None, limit: int) -> Page[JobId]:
    """See `Ledger.retry_failed`."""
    some, following = _some_jobs(tx, submission_id, (JobState.FAILED, JobState.CANCELLED), after, limit)
    for row in some:
        _require_kept(row)
        _retry(tx, row)
    return Page(items=[JobId(row["id"]) for row in some], next=following)


def cancel_waiting(tx: Transaction, submission_id: SubmissionId, after: str | None, limit: int) -> Page[JobId]:
    """See `Ledger.cancel_waiting`."""
    some, following = _some_jobs(tx, submission_id, (JobState.QUEUED,), after, limit)
    for row in some:
        _cancel_queued(tx, row)
    return Page(items=[JobId(row["id"]) for row in some], next=following)


def recover(tx: Transaction, max_attempts: int, reason: str) -> Recovery:
    """See `Ledger.recover`."""
    unfinished = (
        tx.connection.execute(
            select(files)
            .where(is_unfinished, files.c.state == UploadState.RECEIVING.value, files.c.partial.is_(None))
            .order_by(files.c.seq)
        )
        .mappings()
        .all()
    )
    for file in unfinished:
        _abort(tx, file, reason)
    tx.flush_submissions()
    # Announced ones go on while a file may still come; one whose files have all come, or were cut off, does not.
    may_go_on = submissions.c.announced + submissions.c.receiving > 0
    is_fresh = submissions.c.announced + submissions.c.aborted + submissions.c.queued + submissions.c.running == 0
    is_fresh &= submissions.c.receiving + submissions.c.succeeded + submissions.c.failed + submissions.c.cancelled == 0
    open_ids = (
        tx.connection.execute(
            select(submissions.c.id)
            .where(submissions.c.settled_at.is_(None), submissions.c.is_open)
            .where(~(submissions.c.is_announced & (may_go_on | is_fresh)))
            .order_by(submissions.c.seq)
        )
        .scalars()
        .all()
    )
    for submission_id in open_ids:
        seal_submission(tx, SubmissionId(submission_id))
    running = (
        tx.connection.execute(select(attempts).where(attempts.c.state == AttemptState.RUNNING.value)).mappings().all()
    )
    lost: list[Attempt] = []
    for attempt in running:
        lost.append(rows.attempt_of(attempt))
        lose_attempt(tx, JobId(attempt["job_id"]), attempt["number"], max_attempts)
    return Recovery(lost=lost, aborted=len(unfinished), sealed=len(open_ids))


# --- config ----------------------------------------------------------------------------------------------------------


_IN_PROGRESS = jobs.c.state.in_([JobState.QUEUED.value, JobState.RUNNING.value])
_IS_KEPT = config_revisions.c.purged_at.is_(None)
_DROP_TEXTS = update(config_revisions).where(
    _IS_KEPT,
    config_revisions.c.number <= bindparam("last"),
    config_revisions.c.number.not_in(select(jobs.c.config_number).where(_IN_PROGRESS)),
)
_OF_TEXT = config_revisions.c.sha256 == bindparam("key")
_ONE_OF_TEXT = select(config_revisions.c.number).where(_OF_TEXT).limit(1)
_BOUND_TO_TEXT = (
    select(func.count())
    .select_from(jobs)
    .where(_IN_PROGRESS, jobs.c.config_number.in_(select(config_revisions.c.number).where(_OF_TEXT)))
)
_PURGE = update(config_revisions).where(_IS_KEPT, _OF_TEXT)
_REVISION_NUMBER = select(config_revisions.c.number).where(config_revisions.c.number == bindparam("key"))
_IS_FILE = (config_files.c.host == bindparam("of_host")) & (config_files.c.path == bindparam("of_path"))
_CONFIG_FILE = select(config_files.c.revision).where(_IS_FILE)
_RECORD_IN_FILE = update(config_files).where(
    _IS_FILE,
    config_files.c.revision.is_(None) | (config_files.c.revision < bindparam("reached")),
)


def save_revision(
    tx: Transaction,
    text: bytes,
    *,
    base: Sha256 | None,
    client: ClientIdentity | None,
    account: str | None,
    message: str | None,
    found_at: ConfigLocation | None,
    keep: int | None,
) -> ConfigRevision:
    """See `Ledger.save_revision`.

    Args:
        keep: revisions whose text is kept, this one included; None: all.
    """
    newest = tx.one(NEWEST_REVISION)
    if (None if newest is None else newest["sha256"]) != base:
        raise ConfigConflict("The config was saved by someone else in the meantime; read it again.")
    if found_at is not None and tx.one(_CONFIG_FILE, **_key_of(found_at)) is None:
        raise Unavailable(f"The server edits another config file than {found_at.path} by now; look again.")
    sha256 = Sha256(hashlib.sha256(text).hexdigest())
    number = 1 if newest is None else newest["number"] + 1
    values = {
        "number": number,
        "sha256": sha256,
        "size": len(text),
        "saved_at": utc_now(),
        "account": account,
        "client": rows.client_json(client),
        "message": message,
        "purged_at": None,
    }
    tx.connection.execute(insert(config_revisions).values(text=text, **values))
    if found_at is not None:
        record_in_file(tx, found_at, number)
    tx.emit(
        EventName.CONFIG_SAVED,
        Subject(account=account, client=client),
        sha256=sha256,
        size=len(text),
        message=message,
    )
    tx.forget_config()
    if keep is not None:
        now = utc_now()
        tx.connection.execute(_DROP_TEXTS.values(text=b"", purged_at=now), {"last": number - keep})
    return rows.revision_of(values)


def use_config_file(tx: Transaction, location: ConfigLocation) -> None:
    """See `Ledger.use_config_file`. One server at a time uses this database: all other rows are of servers now gone."""
    found = tx.connection.execute(select(config_files)).mappings().all()
    if [ConfigLocation(row["host"], row["path"], row["data_folder"]) for row in found] == [location]:
        return
    numbers = [row["revision"] for row in found if row["revision"] is not None]
    tx.connection.execute(delete(config_files))
    values = {**location._asdict(), "revision": max(numbers, default=None)}
    tx.connection.execute(insert(config_files).values(values))


def record_in_file(tx: Transaction, location: ConfigLocation, number: int) -> None:
    """See `Ledger.record_in_file`."""
    if tx.one(_REVISION_NUMBER, key=number) is None:
        raise NotFound("There is no such config revision.")
    tx.connection.execute(_RECORD_IN_FILE.values(revision=number), {**_key_of(location), "reached": number})


def _key_of(location: ConfigLocation) -> dict[str, str]:
    return {"of_host": location.host, "of_path": location.path}


def purge_revision(tx: Transaction, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
    """See `Ledger.purge_revision`. That no bytes of the text stay in its files is the engine's part."""
    key = {"key": sha256}
    if tx.connection.execute(_ONE_OF_TEXT, key).first() is None:
        raise NotFound("There is no such config revision.")
    if tx.newest_config().sha256 == sha256:
        raise RevisionInUse("It is the config as it is now; save another text, then purge this one.")
    if bound := tx.connection.execute(_BOUND_TO_TEXT, key).scalar_one():
        sentence = f"Jobs that wait or run are bound to it ({bound}); cancel them, or let them end, then purge it."
        raise RevisionInUse(sentence, jobs=bound)
    if tx.connection.execute(_PURGE.values(text=b"", purged_at=utc_now()), key).rowcount:
        tx.emit(EventName.CONFIG_PURGED, Subject(account=account, client=client), sha256=sha256)


def reject_config(
    tx: Transaction, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
) -> None:
    """See `Ledger.reject_config`."""
    tx.emit(
        EventName.CONFIG_REJECTED,
        Subject(account=account, client=client),
        errors=[dict(error) for error in errors],
    )
