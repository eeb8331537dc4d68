"""Jobs: how people cancel and retry them, how they are queued and settled, how they are listed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, func, insert, select, update

from dropmill.engines.sql import config, search
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.paging import one_of, page_key, page_of, seen_by, sees
from dropmill.engines.sql.tables import attempts, files, jobs, results
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.types import is_storable
from dropmill.model.by import By
from dropmill.model.clock import utc_now
from dropmill.model.errors import IllegalTransition, NotFound, Removed
from dropmill.model.events import RESULTS_TOLD, EventName, Subject
from dropmill.model.ids import FileId, JobId, Owner, Sha256, SubmissionId
from dropmill.model.jobs import (
    JOB_TRANSITIONS,
    Attempt,
    AttemptOutcome,
    AttemptState,
    Job,
    JobError,
    JobState,
)
from dropmill.model.results import RESULTS_LISTED, Result
from dropmill.model.transitions import require_transition
from dropmill.ports.ledger.page import Page

# Built once: making a statement anew costs more than running it (1.5 ms of CPU a file's life against 0.7).
_OF_FILE = ("name", "path", "number", "blob", "size", "sha256", "removed_at")
JOBS = select(jobs, *(files.c[name] for name in _OF_FILE)).join(files, files.c.id == jobs.c.file_id)
JOB = JOBS.where(jobs.c.id == bindparam("key"))
_JOBS_OF_SUBMISSION = (
    JOBS.where(
        jobs.c.submission_id == bindparam("key"),
        jobs.c.state.in_(bindparam("states", expanding=True)),
        jobs.c.seq > bindparam("after"),
    )
    .order_by(jobs.c.seq)
    .limit(bindparam("limit"))
)
SET_JOB = update(jobs).where(jobs.c.seq == bindparam("key"))
ADD_JOB = insert(jobs)
_RESULTS = (
    select(results)
    .join(jobs, (results.c.job_id == jobs.c.id) & (results.c.attempt == jobs.c.attempt))
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), results.c.number < bindparam("results_max"))
    .order_by(results.c.job_id, results.c.number)
)
_RESULT = (
    select(results)
    .join(jobs, jobs.c.id == results.c.job_id)
    .where(
        results.c.job_id == bindparam("job_id"),
        results.c.attempt == func.coalesce(bindparam("attempt", type_=BigInteger), jobs.c.attempt),
        results.c.path == bindparam("path"),
    )
)


# --- rows ------------------------------------------------------------------------------------------------------------


def error_of(row: Row) -> JobError | None:
    """Why a job did not succeed; None if it did or has not ended."""
    if row["error_type"] is None:
        return None
    return JobError(type=row["error_type"], message=row["error_message"] or "")


def attempt_of(row: Row) -> Attempt:
    """An attempt."""
    return Attempt(
        job_id=JobId(row["job_id"]),
        number=row["number"],
        state=AttemptState(row["state"]),
        exit_code=row["exit_code"],
        config_revision=Sha256(row["config_revision"]),
        started_at=row["started_at"],
        settled_at=row["settled_at"],
        output_size=row["output_size"],
        host=row["host"],
    )


def result_of(row: Row) -> Result:
    """A result."""
    return Result(path=row["path"], size=row["size"], sha256=Sha256(row["sha256"]), blob=row["blob"])


def job_of(row: Row, attempts: Sequence[Attempt], results: Sequence[Result]) -> Job:
    """A job with its attempts and results."""
    return Job(
        id=JobId(row["id"]),
        file_id=FileId(row["file_id"]),
        submission_id=SubmissionId(row["submission_id"]),
        state=JobState(row["state"]),
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        settled_at=row["settled_at"],
        exit_code=row["exit_code"],
        error=error_of(row),
        value=row["value"],
        output_size=row["output_size"],
        not_before=row["not_before"],
        attempts=tuple(attempts),
        result_count=row["result_count"],
        results=tuple(results),
    )


# --- changes ---------------------------------------------------------------------------------------------------------


def job_row(tx: Transaction, job_id: str, visible_to: Owner | None = None) -> Row:
    """A job's row with what belongs to its file.

    Raises:
        NotFound: there is no such job, or none of that owner; None: of any.
    """
    row = tx.one(JOB, key=job_id)
    if row is None or (visible_to is not None and not sees(visible_to, tx.submission(row["submission_id"]))):
        raise NotFound("There is no such job.")
    return row


def set_job(tx: Transaction, row: Row, state: JobState, **values: Any) -> None:
    """Move a job to another state, and set further columns; the submission's counts follow.

    Raises:
        IllegalTransition: no such move.
    """
    before = JobState(row["state"])
    require_transition(JOB_TRANSITIONS, before, state, "job")
    tx.run(SET_JOB, key=row["seq"], state=state.value, **values)
    if JobState.RUNNING in (before, state):
        tx.quotas.add(row["owner"], running=(state is JobState.RUNNING) - (before is JobState.RUNNING))
    tx.move(row["submission_id"], row["state"], state.value)
    more_results = values.get("result_count", row["result_count"]) - row["result_count"]
    if more_results:
        submission = tx.submission(row["submission_id"])
        tx.change(row["submission_id"], result_count=submission["result_count"] + more_results)


def subject_of(tx: Transaction, row: Row, attempt: int | None = None) -> Subject:
    """The subject of an event about a job; None: about none of its attempts."""
    return replace(
        tx.subject(row["submission_id"]), file_id=row["file_id"], job_id=row["id"], name=row["name"], attempt=attempt
    )


def add_job(tx: Transaction, job_id: JobId, submission_id: str, subject: Subject) -> None:
    """Queue the job of a file that was stored, with the newest config revision.

    Args:
        tx: where.
        job_id: its id.
        submission_id: of its file.
        subject: of the event; names the file.
    """
    add_jobs(tx, [new_job(tx, job_id, submission_id, subject, tx.next_tag(submission_id, None))])


def new_job(tx: Transaction, job_id: JobId, submission_id: str, subject: Subject, tag: int) -> dict[str, Any]:
    """The row of a job that is queued now (`job.queued`); `add_jobs` writes it.

    Args:
        tx: where.
        job_id: its id.
        submission_id: of its file.
        subject: of the event; names the file.
        tag: its place in the queue, from `Transaction.next_tags`.
    """
    cursor = tx.emit(EventName.JOB_QUEUED, replace(subject, job_id=job_id), reason="stored")
    return {
        "id": job_id,
        "file_id": subject.file_id,
        "submission_id": submission_id,
        "state": JobState.QUEUED.value,
        "queued_at": utc_now(),
        "queued_cursor": cursor,
        "tag": tag,
        "config_number": config.newest(tx).number,
        "owner": tx.submission(submission_id)["owner"],
    }


def add_jobs(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows that `new_job` made."""
    tx.run_all(ADD_JOB, rows)


def requeue(tx: Transaction, row: Row, reason: str, **values: Any) -> None:
    """Queue a job again (`job.queued`), and set further columns."""
    cursor = tx.emit(EventName.JOB_QUEUED, subject_of(tx, row), reason=reason)
    # A job that waits for a time joins the queue when that time has come.
    tag = None if values.get("not_before") else tx.next_tag(row["submission_id"], row["queue"])
    values = {"not_before": None, "started_at": None, "queued_at": utc_now(), "queued_cursor": cursor, **values}
    values |= {"tag": tag, "cancel_asked_at": None}
    set_job(tx, row, JobState.QUEUED, **values)


def settle_job(tx: Transaction, row: Row, state: JobState, outcome: AttemptOutcome, now: datetime) -> None:
    """Move a job to a final state (`job.settled`), and settle its submission if it was the last."""
    error = outcome.error
    if row["tag"] is not None:
        tx.turns.leave(row["queue"], row["owner"])
    set_job(
        tx,
        row,
        state,
        settled_at=now,
        not_before=None,
        tag=None,
        cancel_asked_at=None,
        exit_code=outcome.exit_code,
        error_type=None if error is None else error.type,
        error_message=None if error is None else error.message,
        value=outcome.value,
        output_size=outcome.output_size,
        result_count=len(outcome.results),
    )
    if error is not None:
        search.set_error(tx, row, error.message)
    started_at = row["started_at"] if JobState(row["state"]) is JobState.RUNNING else None
    tx.emit(
        EventName.JOB_SETTLED,
        subject_of(tx, row, row["attempt"] or None),
        state=state.value,
        exit_code=outcome.exit_code,
        error=error_json(error),
        duration=seconds_between(started_at, now),
        output_size=outcome.output_size,
        result_count=len(outcome.results),
        results=[{"path": result.path, "size": result.size} for result in outcome.results[:RESULTS_TOLD]],
    )
    tx.settle(row["submission_id"])


def error_json(error: JobError | None) -> dict[str, str] | None:
    """An error as events hold it."""
    return None if error is None else {"type": error.type, "message": error.message}


def seconds_between(start: datetime | None, end: datetime) -> float | None:
    """A duration for an event; None without a start, and never negative, though a clock may have stepped."""
    return None if start is None else max((end - start).total_seconds(), 0.0)


def request_cancel(tx: Transaction, job_id: JobId, visible_to: Owner | None, by: By) -> JobState:
    """See `Ledger.request_cancel`."""
    row = job_row(tx, job_id, visible_to)
    if JobState(row["state"]).is_final:
        raise IllegalTransition("The job has settled already; there is nothing to cancel.")
    if row["cancel_asked_at"] is None:
        _requested(tx, EventName.JOB_CANCEL_REQUESTED, subject_of(tx, row), by, 1)
    return _cancel(tx, row)


def _requested(tx: Transaction, name: EventName, subject: Subject, by: By, count: int) -> None:
    """Record who asks for a cancel or a retry, before what comes of it. None of no job."""
    if count:
        tx.emit(name, replace(subject, account=by.account, client=by.client), count=count)


def _cancel(tx: Transaction, row: Row) -> JobState:
    if row["state"] == JobState.QUEUED:
        outcome = AttemptOutcome(state=AttemptState.CANCELLED, exit_code=None)
        settle_job(tx, row, JobState.CANCELLED, outcome, utc_now())
        return JobState.CANCELLED
    if row["cancel_asked_at"] is None:
        tx.run(SET_JOB, key=row["seq"], cancel_asked_at=utc_now())
    return JobState.RUNNING


def request_cancels(
    tx: Transaction, submission_id: SubmissionId, after: str | None, limit: int, visible_to: Owner | None, by: By
) -> Page[JobId]:
    """See `Ledger.request_cancels`."""
    tx.submission(submission_id, visible_to)
    some, following = _some_jobs(tx, submission_id, (JobState.QUEUED, JobState.RUNNING), after, limit)
    asked = sum(row["cancel_asked_at"] is None for row in some)
    _requested(tx, EventName.JOB_CANCEL_REQUESTED, tx.subject(submission_id), by, asked)
    running = [JobId(row["id"]) for row in some if _cancel(tx, row) is JobState.RUNNING]
    return Page(items=running, next=following)


def retry_job(tx: Transaction, job_id: JobId, visible_to: Owner | None, by: By) -> None:
    """See `Ledger.retry_job`."""
    row = job_row(tx, job_id, visible_to)
    require_transition(JOB_TRANSITIONS, JobState(row["state"]), JobState.QUEUED, "job")
    if row["state"] == JobState.RUNNING:  # only lost attempts and the retry policy requeue a running job
        raise IllegalTransition("The job is running; cancel it first.")
    _require_kept(row)
    _requested(tx, EventName.JOB_RETRY_REQUESTED, subject_of(tx, row), by, 1)
    _retry(tx, row)


def _require_kept(row: Row) -> None:
    if row["removed_at"] is not None:
        raise Removed("The file is no longer kept on this server, so it cannot be processed again; send it anew.")


def _retry(tx: Transaction, row: Row) -> None:
    tx.change(row["submission_id"], settled_at=None, outcome=None)
    if row["error_message"] is not None:
        search.set_error(tx, row, None)
    requeue(
        tx,
        row,
        "retry",
        lost=0,
        tries=0,
        config_number=config.newest(tx).number,
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
) -> tuple[Sequence[Row], str | None]:
    parameters = {"key": submission_id, "states": list(states), "after": int(after or 0), "limit": limit + 1}
    found = tx.connection.execute(_JOBS_OF_SUBMISSION, parameters).mappings().all()
    return found[:limit], str(found[limit - 1]["seq"]) if len(found) > limit else None


def retry_failed(
    tx: Transaction, submission_id: SubmissionId, after: str | None, limit: int, visible_to: Owner | None, by: By
) -> Page[JobId]:
    """See `Ledger.retry_failed`."""
    tx.submission(submission_id, visible_to)
    some, following = _some_jobs(tx, submission_id, (JobState.FAILED, JobState.CANCELLED), after, limit)
    _requested(tx, EventName.JOB_RETRY_REQUESTED, tx.subject(submission_id), by, len(some))
    for row in some:
        _require_kept(row)
        _retry(tx, row)
    return Page(items=[JobId(row["id"]) for row in some], next=following)


# --- queries ---------------------------------------------------------------------------------------------------------


def jobs_of(connection: Connection, found: Sequence[Row], results_max: int = RESULTS_LISTED) -> list[Job]:
    """The jobs of some rows, each with its attempts and its first results."""
    by_job: dict[str, list[Any]] = {row["id"]: [] for row in found}
    ids = [row["id"] for row in found if row["attempt"]]
    for start in range(0, len(ids), 500):
        some = select(attempts).where(attempts.c.job_id.in_(ids[start : start + 500])).order_by(attempts.c.number)
        for attempt in connection.execute(some).mappings():
            by_job[attempt["job_id"]].append(attempt_of(attempt))
    results_of = _results_of(connection, [row["id"] for row in found if row["result_count"]], results_max)
    return [job_of(row, by_job[row["id"]], results_of.get(row["id"], ())) for row in found]


def _results_of(connection: Connection, ids: Sequence[str], results_max: int) -> dict[str, list[Result]]:
    """The first results of each job's newest attempt."""
    by_job: dict[str, list[Result]] = {job_id: [] for job_id in ids}
    for start in range(0, len(ids), 500):
        parameters = {"ids": ids[start : start + 500], "results_max": results_max}
        for row in connection.execute(_RESULTS, parameters).mappings():
            by_job[row["job_id"]].append(result_of(row))
    return by_job


def get_job(connection: Connection, job_id: JobId, visible_to: Owner | None) -> Job:
    """See `Ledger.job`."""
    wanted = seen_by(select(jobs).where(jobs.c.id == job_id), jobs.c.owner, visible_to)
    row = connection.execute(wanted).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such job.")
    return jobs_of(connection, [row], results_max=row["result_count"])[0]


def get_result(
    connection: Connection, job_id: JobId, path: str, attempt: int | None, visible_to: Owner | None
) -> Result:
    """See `Ledger.result`."""
    if not is_storable(path):
        raise NotFound("There is no such result.")
    parameters = {"job_id": job_id, "path": path, "attempt": attempt}
    row = connection.execute(seen_by(_RESULT, jobs.c.owner, visible_to), parameters).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such result.")
    return result_of(row)


def list_jobs(
    connection: Connection,
    before: str | None,
    limit: int,
    state: str | None,
    text: str | None,
    submission_id: SubmissionId | None,
    visible_to: Owner | None,
) -> Page[Job]:
    """See `Ledger.jobs`."""
    one_of(state, list(JobState))
    start = page_key(before)
    if text:
        about = search.find_jobs(connection, text, state, submission_id, start, limit + 1, visible_to)
        page, following = page_of(about, limit, "key")
        return Page(items=jobs_of(connection, page), next=following)
    query = seen_by(select(jobs), jobs.c.owner, visible_to)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if submission_id is not None:
        query = query.where(jobs.c.submission_id == submission_id)
    if start is not None:
        query = query.where(jobs.c.seq < start)
    found = connection.execute(query.order_by(jobs.c.seq.desc()).limit(limit + 1)).mappings().all()
    page, following = page_of(found, limit)
    return Page(items=jobs_of(connection, page), next=following)
