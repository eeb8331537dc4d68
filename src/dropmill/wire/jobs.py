"""Jobs with their attempts and results."""

from dataclasses import dataclass
from typing import Any, TypedDict
from urllib.parse import quote

from dropmill.model.ids import JobId
from dropmill.model.jobs import Attempt, Job, JobError, Progress
from dropmill.model.results import Result
from dropmill.text import time_text


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeState:
    """What the server knows of a file only while it runs; the ledger does not have it.

    Attributes:
        received: bytes that have arrived; None unless the file is arriving.
        is_sending: whether a request that brings the file's bytes is under way.
        position: estimated position in the queue, from 1; None unless the job is queued.
        progress: newest report of the running attempt; None if there is none.
    """

    received: int | None = None
    is_sending: bool = False
    position: int | None = None
    progress: Progress | None = None


class ProgressJson(TypedDict):
    """How far something is."""

    value: float
    total: float | None
    label: str | None


class ErrorJson(TypedDict):
    """Why a job or an attempt failed."""

    type: str
    message: str


class ResultJson(TypedDict):
    """A file that an attempt left for download."""

    path: str
    size: int
    sha256: str
    url: str


class AttemptJson(TypedDict):
    """One execution of a job. Visitors of a link get null for `config_revision` and `host`."""

    number: int
    state: str
    exit_code: int | None
    config_revision: str | None
    started_at: str
    settled_at: str | None
    output_size: int
    host: str | None


class JobJson(TypedDict):
    """The order to run the script on one file."""

    id: str
    file_id: str
    submission_id: str
    state: str
    queued_at: str
    started_at: str | None
    settled_at: str | None
    not_before: str | None
    duration: float | None
    position: int | None
    progress: ProgressJson | None
    exit_code: int | None
    error: ErrorJson | None
    value: Any
    output_size: int
    result_count: int
    results: list[ResultJson]
    attempts: list[AttemptJson]


def job_json(job: Job, runtime: RuntimeState, base_path: str = "") -> JobJson:
    """A job; the paths of its URLs begin with `base_path`."""
    return {
        "id": job.id,
        "file_id": job.file_id,
        "submission_id": job.submission_id,
        "state": job.state.value,
        "queued_at": time_text(job.queued_at),
        "started_at": time_text(job.started_at),
        "settled_at": time_text(job.settled_at),
        "not_before": time_text(job.not_before),
        "duration": job.duration,
        "position": runtime.position,
        "progress": None if runtime.progress is None else progress_json(runtime.progress),
        "exit_code": job.exit_code,
        "error": error_json(job.error),
        "value": job.value,
        "output_size": job.output_size,
        "result_count": job.result_count,
        "results": [_result_json(job.id, result, base_path) for result in job.results],
        "attempts": [_attempt_json(attempt) for attempt in job.attempts],
    }


def progress_json(progress: Progress) -> ProgressJson:
    """A report, without what it is about."""
    return {"value": progress.value, "total": progress.total, "label": progress.label}


def error_json(error: JobError | None) -> ErrorJson | None:
    """Why a job failed; None stays None."""
    return None if error is None else {"type": error.type, "message": error.message}


def _result_json(job_id: JobId, result: Result, base_path: str) -> ResultJson:
    return {
        "path": result.path,
        "size": result.size,
        "sha256": result.sha256,
        "url": f"{base_path}/api/v1/jobs/{job_id}/results/{quote(result.path)}",
    }


def _attempt_json(attempt: Attempt) -> AttemptJson:
    return {
        "number": attempt.number,
        "state": attempt.state.value,
        "exit_code": attempt.exit_code,
        "config_revision": attempt.config_revision,
        "started_at": time_text(attempt.started_at),
        "settled_at": time_text(attempt.settled_at),
        "output_size": attempt.output_size,
        "host": attempt.host,
    }
