"""Every read of the ledger; each function sees one moment, inside the transaction its connection is in."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, bindparam, exists, func, or_, select

from dropmill.engines.sql import prepared, rows
from dropmill.engines.sql.tables import (
    attempts,
    config_files,
    config_revisions,
    events,
    files,
    is_about_config,
    jobs,
    results,
    select_revisions,
    submissions,
)
from dropmill.model.errors import BadParameter, NotFound, Removed
from dropmill.model.events import TOPIC_ALL, TOPIC_CONFIG, EventName
from dropmill.model.ids import Cursor, FileId, JobId, Sha256, SubmissionId
from dropmill.model.numbers import whole_number
from dropmill.model.records import (
    RESULTS_LISTED,
    ConfigLocation,
    ConfigRevision,
    File,
    Job,
    JobState,
    QueuedJob,
    Result,
    Submission,
    UploadState,
)
from dropmill.ports.ledger.config import ConfigPosition
from dropmill.ports.ledger.events import EventPage
from dropmill.ports.ledger.history import SubmissionView
from dropmill.ports.ledger.page import Page


def _key(text: str | None) -> int | None:
    if text is None:
        return None
    key = whole_number(text)
    if key is None:
        raise BadParameter("`before` must be the `next` of the page before.")
    return key


def _page_of(found: Sequence[rows.Row], limit: int, key: str = "seq") -> tuple[Sequence[rows.Row], str | None]:
    """Cut what was read with one row more than the page holds."""
    if len(found) <= limit:
        return found, None
    return found[:limit], str(found[limit - 1][key])


def _one_of(text: str | None, choices: Sequence[str]) -> str | None:
    if text is not None and text not in choices:
        raise BadParameter(f"`state` must be one of {', '.join(choices)}.")
    return text


_NEWEST_CURSOR = select(func.max(events.c.cursor).label("cursor"))
_OLDEST_CURSOR = select(func.min(events.c.cursor).label("cursor"))


def newest_cursor(connection: Connection) -> Cursor:
    """See `Ledger.newest_cursor`."""
    newest = prepared.one(connection, _NEWEST_CURSOR, {})
    return Cursor(newest["cursor"] or 0) if newest else Cursor(0)


def _in_progress() -> Any:
    c = submissions.c
    return c.announced + c.receiving + c.queued + c.running


def view_submission(
    connection: Connection, submission_id: SubmissionId, after: str | None, limit: int, state: str | None
) -> SubmissionView:
    """See `Ledger.view_submission`."""
    row = connection.execute(select(submissions).where(submissions.c.id == submission_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such submission.")
    query = select(files).where(files.c.submission_id == submission_id)
    if _one_of(state, [*UploadState, *JobState]) is not None:
        query = query.outerjoin(jobs, jobs.c.file_id == files.c.id).where(
            func.coalesce(jobs.c.state, files.c.state) == state
        )
    start = _key(after)
    if start is not None:
        query = query.where(files.c.seq > start)
    found = connection.execute(query.order_by(files.c.seq).limit(limit + 1)).mappings().all()
    page, following = _page_of(found, limit)
    return SubmissionView(
        submission=rows.submission_of(row),
        files=_with_jobs(connection, page),
        files_next=following,
        cursor=newest_cursor(connection),
    )


def _with_jobs(connection: Connection, page: Sequence[rows.Row]) -> Sequence[File]:
    ids = [row["id"] for row in page]
    found: list[rows.Row] = []
    for start in range(0, len(ids), 500):  # a bound below any database's limit on parameters
        some = select(jobs).where(jobs.c.file_id.in_(ids[start : start + 500]))
        found.extend(connection.execute(some).mappings().all())
    by_file = {job.file_id: job for job in _jobs_of(connection, found)}
    return [rows.file_of(row, by_file.get(row["id"])) for row in page]


def _jobs_of(connection: Connection, found: Sequence[rows.Row], results_max: int = RESULTS_LISTED) -> list[Job]:
    by_job: dict[str, list[Any]] = {row["id"]: [] for row in found}
    ids = [row["id"] for row in found if row["attempt"]]
    for start in range(0, len(ids), 500):
        some = select(attempts).where(attempts.c.job_id.in_(ids[start : start + 500])).order_by(attempts.c.number)
        for attempt in connection.execute(some).mappings():
            by_job[attempt["job_id"]].append(rows.attempt_of(attempt))
    results_of = _results_of(connection, [row["id"] for row in found if row["result_count"]], results_max)
    return [rows.job_of(row, by_job[row["id"]], results_of.get(row["id"], ())) for row in found]


_RESULTS = (
    select(results)
    .join(jobs, (results.c.job_id == jobs.c.id) & (results.c.attempt == jobs.c.attempt))
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), results.c.number < bindparam("results_max"))
    .order_by(results.c.job_id, results.c.number)
)


def _results_of(connection: Connection, ids: Sequence[str], results_max: int) -> dict[str, list[Result]]:
    """The first results of each job's newest attempt."""
    by_job: dict[str, list[Result]] = {job_id: [] for job_id in ids}
    for start in range(0, len(ids), 500):
        parameters = {"ids": ids[start : start + 500], "results_max": results_max}
        for row in connection.execute(_RESULTS, parameters).mappings():
            by_job[row["job_id"]].append(rows.result_of(row))
    return by_job


def list_submissions(
    connection: Connection, before: str | None, limit: int, state: str | None, text: str | None
) -> Page[Submission]:
    """See `Ledger.submissions`."""
    query = select(submissions)
    # Without a time at which it settled are only few: an index of its own finds them however long the history is.
    match _one_of(state, ("open", "processing", "settled")):
        case "open":
            query = query.where(submissions.c.settled_at.is_(None), submissions.c.is_open)
        case "processing":
            query = query.where(submissions.c.settled_at.is_(None), ~submissions.c.is_open)
        case "settled":
            query = query.where(submissions.c.settled_at.is_not(None))
    if text:
        query = query.where(
            or_(
                submissions.c.ip.contains(text, autoescape=True),
                submissions.c.host.contains(text, autoescape=True),
                exists()
                .where(files.c.submission_id == submissions.c.id, files.c.path.contains(text, autoescape=True))
                .correlate(submissions),
            )
        )
    start = _key(before)
    if start is not None:
        query = query.where(submissions.c.seq < start)
    found = connection.execute(query.order_by(submissions.c.seq.desc()).limit(limit + 1)).mappings().all()
    page, following = _page_of(found, limit)
    return Page(items=[rows.submission_of(row) for row in page], next=following)


def get_file(connection: Connection, file_id: FileId) -> File:
    """See `Ledger.file`."""
    row = connection.execute(select(files).where(files.c.id == file_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such file.")
    return _with_jobs(connection, [row])[0]


def get_job(connection: Connection, job_id: JobId) -> Job:
    """See `Ledger.job`."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such job.")
    return _jobs_of(connection, [row], results_max=row["result_count"])[0]


_RESULT = (
    select(results)
    .join(jobs, jobs.c.id == results.c.job_id)
    .where(
        results.c.job_id == bindparam("job_id"),
        results.c.attempt == func.coalesce(bindparam("attempt", type_=Integer), jobs.c.attempt),
        results.c.path == bindparam("path"),
    )
)


def get_result(connection: Connection, job_id: JobId, path: str, attempt: int | None) -> Result:
    """See `Ledger.result`."""
    parameters = {"job_id": job_id, "path": path, "attempt": attempt}
    row = connection.execute(_RESULT, parameters).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such result.")
    return rows.result_of(row)


def list_jobs(
    connection: Connection,
    before: str | None,
    limit: int,
    state: str | None,
    text: str | None,
    submission_id: SubmissionId | None,
) -> Page[Job]:
    """See `Ledger.jobs`."""
    query: Select[Any] = select(jobs)
    if _one_of(state, list(JobState)) is not None:
        query = query.where(jobs.c.state == state)
    if submission_id is not None:
        query = query.where(jobs.c.submission_id == submission_id)
    if text:
        query = query.join(files, files.c.id == jobs.c.file_id).where(files.c.path.contains(text, autoescape=True))
    start = _key(before)
    if start is not None:
        query = query.where(jobs.c.seq < start)
    found = connection.execute(query.order_by(jobs.c.seq.desc()).limit(limit + 1)).mappings().all()
    page, following = _page_of(found, limit)
    return Page(items=_jobs_of(connection, page), next=following)


def known_blobs(connection: Connection, keys: Sequence[str]) -> set[str]:
    """See `Ledger.known_blobs`."""
    known: set[str] = set()
    for start in range(0, len(keys), 500):
        # `partial` too: a growing blob may be stored already without the ledger's knowing, killed between the two.
        for column in (files.c.blob, files.c.partial, results.c.blob):
            known.update(connection.execute(select(column).where(column.in_(keys[start : start + 500]))).scalars())
    return known


_QUEUED = (
    select(jobs.c.id, jobs.c.submission_id, jobs.c.not_before)
    .where(jobs.c.state == JobState.QUEUED.value)
    .order_by(jobs.c.queued_cursor)
)
_RUNNING = select(jobs.c.id, jobs.c.submission_id).where(jobs.c.state == JobState.RUNNING.value)


def queued_jobs(connection: Connection) -> Sequence[QueuedJob]:
    """See `Ledger.queued_jobs`."""
    return [
        QueuedJob(id=JobId(job_id), submission_id=SubmissionId(submission_id), not_before=not_before)
        for job_id, submission_id, not_before in connection.execute(_QUEUED)
    ]


def running_jobs(connection: Connection, submission_id: SubmissionId) -> Sequence[JobId]:
    """See `Ledger.running_jobs`. All that run are few; a submission's jobs may be many."""
    return [JobId(job_id) for job_id, owner in connection.execute(_RUNNING) if owner == submission_id]


def _following(*conditions: ColumnElement[bool]) -> Select[Any]:
    query = select(events).where(events.c.cursor > bindparam("after"), *conditions)
    return query.order_by(events.c.cursor).limit(bindparam("limit"))


# Built once: read after every commit by whoever follows.
_EVENTS = {
    TOPIC_ALL: _following(),
    TOPIC_CONFIG: _following(is_about_config),
}
_EVENTS_OF = {
    "submission": _following(events.c.submission_id == bindparam("key")),
    "account": _following(events.c.account == bindparam("key")),
}


def events_after(connection: Connection, topic: str, after: Cursor, limit: int) -> EventPage:
    """See `Ledger.events`.

    Raises:
        NotFound: there is no such topic.
    """
    kind, _, key = topic.partition(":")
    if topic in _EVENTS:
        query = _EVENTS[topic]
    elif kind in _EVENTS_OF and key:
        query = _EVENTS_OF[kind]
    else:
        raise NotFound("There is no such topic.")
    parameters = {"after": after, "limit": limit, "key": key}
    found = connection.execute(query, parameters).mappings().all()
    page = [rows.event_of(row) for row in found]
    # A full page may not be the end; a short one is, as of this transaction's moment.
    cursor = page[-1].cursor if len(page) == limit else max(newest_cursor(connection), after)
    return EventPage(events=page, cursor=Cursor(cursor), is_cut=_is_cut(connection, kind, key, after))


_FIRST_OF_SUBMISSION = (
    select(events.c.name).where(events.c.submission_id == bindparam("key")).order_by(events.c.cursor).limit(1)
)


def _is_cut(connection: Connection, kind: str, key: str, after: Cursor) -> bool:
    """Whether the topic may have had events behind `after` that were removed."""
    oldest = prepared.one(connection, _OLDEST_CURSOR, {})
    if oldest is None or oldest["cursor"] is None or after >= oldest["cursor"] - 1:
        return False
    # Removed are always the oldest: a submission whose first event is there has them all.
    first = connection.execute(_FIRST_OF_SUBMISSION, {"key": key}).scalar_one_or_none() if key else None
    return kind != "submission" or first != EventName.SUBMISSION_OPENED


_NEWEST_REVISION = select_revisions().order_by(config_revisions.c.number.desc()).limit(1)
_IN_FILE = select(config_files.c.revision).where(
    config_files.c.host == bindparam("of_host"), config_files.c.path == bindparam("of_path")
)


def config_files_in_use(connection: Connection) -> list[ConfigLocation]:
    """See `Ledger.config_files`."""
    query = select(config_files.c.host, config_files.c.path, config_files.c.data_folder)
    return [ConfigLocation(*row) for row in connection.execute(query.where(config_files.c.host != ""))]


def config_position(connection: Connection, location: ConfigLocation) -> ConfigPosition:
    """See `Ledger.config_position`."""
    file = prepared.one(connection, _IN_FILE, {"of_host": location.host, "of_path": location.path})
    return ConfigPosition(newest=newest_revision(connection), in_file=None if file is None else file["revision"])


def newest_revision(connection: Connection) -> ConfigRevision | None:
    """See `Ledger.newest_revision`."""
    row = prepared.one(connection, _NEWEST_REVISION, {})
    return None if row is None else rows.revision_of(row)


def list_revisions(connection: Connection, before: str | None, limit: int) -> Page[ConfigRevision]:
    """See `Ledger.revisions`."""
    query = select_revisions()
    start = _key(before)
    if start is not None:
        query = query.where(config_revisions.c.number < start)
    found = connection.execute(query.order_by(config_revisions.c.number.desc()).limit(limit + 1)).mappings().all()
    page, following = _page_of(found, limit, "number")
    return Page(items=[rows.revision_of(row) for row in page], next=following)


_REVISION_TEXT = (
    select(config_revisions.c.text, config_revisions.c.purged_at)
    .where(config_revisions.c.sha256 == bindparam("sha256"))
    .order_by(config_revisions.c.purged_at.is_not(None))  # what was purged may have been saved again
    .limit(1)
)


def revision_text(connection: Connection, sha256: Sha256) -> bytes:
    """See `Ledger.revision_text`."""
    found = connection.execute(_REVISION_TEXT, {"sha256": sha256}).one_or_none()
    if found is None:
        raise NotFound("There is no such config revision.")
    if found.purged_at is not None:
        raise Removed(
            f"The text of this config revision is no longer kept: it was purged on {found.purged_at:%Y-%m-%d}, or had "
            "become older than --keep-revisions says."
        )
    return bytes(found.text)
