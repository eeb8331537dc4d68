"""Rows to records and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from dropmill.model.events import Event, EventName, Subject
from dropmill.model.ids import Cursor, FileId, JobId, Sha256, SubmissionId
from dropmill.model.records import (
    Attempt,
    AttemptState,
    ClientIdentity,
    ConfigRevision,
    Counts,
    File,
    Job,
    JobError,
    JobState,
    Result,
    Submission,
    UploadState,
)

COUNTS = ("announced", "receiving", "aborted", "queued", "running", "succeeded", "failed", "cancelled")

Row = RowMapping | Mapping[str, Any]
"""A row as the database gave it, or as a transaction holds it to be written."""


def client_of(row: Row) -> ClientIdentity:
    """The client identity a submission's row holds."""
    return ClientIdentity(
        ip=row["ip"], host=row["host"], verified=row["verified"], domain=row["domain"], user_agent=row["user_agent"]
    )


def client_json(client: ClientIdentity | None) -> dict[str, Any] | None:
    """A client identity as stored beside an event or a revision."""
    if client is None:
        return None
    return {
        "ip": client.ip,
        "host": client.host,
        "verified": client.verified,
        "domain": client.domain,
        "user_agent": client.user_agent,
    }


def counts_of(row: Row) -> Counts:
    """The eight counters of a submission's row."""
    return Counts(**{name: row[name] for name in COUNTS})


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
    )


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


def results_to_add(job_id: JobId, attempt: int, results: Sequence[Result]) -> list[dict[str, Any]]:
    """The rows of an attempt's results."""
    return [
        {
            "job_id": job_id,
            "attempt": attempt,
            "number": number,
            "path": result.path,
            "size": result.size,
            "sha256": result.sha256,
            "blob": result.blob,
        }
        for number, result in enumerate(results)
    ]


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
        job=job,
        removed_at=row["removed_at"],
        is_resumable=row["partial"] is not None,
    )


def event_of(row: Row) -> Event:
    """An event."""
    client = row["client"]
    return Event(
        cursor=Cursor(row["cursor"]),
        at=row["at"],
        name=EventName(row["name"]),
        subject=Subject(
            submission_id=None if row["submission_id"] is None else SubmissionId(row["submission_id"]),
            file_id=None if row["file_id"] is None else FileId(row["file_id"]),
            job_id=None if row["job_id"] is None else JobId(row["job_id"]),
            attempt=row["attempt"],
            name=row["file_name"],
            account=row["account"],
            client=None if client is None else ClientIdentity(**client),
        ),
        data=row["data"],
    )


def revision_of(row: Row) -> ConfigRevision:
    """A config revision without its text."""
    client = row["client"]
    return ConfigRevision(
        number=row["number"],
        sha256=Sha256(row["sha256"]),
        size=row["size"],
        saved_at=row["saved_at"],
        account=row["account"],
        client=None if client is None else ClientIdentity(**client),
        message=row["message"],
        purged_at=row["purged_at"],
    )
