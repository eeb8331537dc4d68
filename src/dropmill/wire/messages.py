"""Every shape that goes over the wire, to JSON and from it; `docs/live.md` shows the socket's messages.

The only place inside Dropmill where raw dictionaries are made of records. The same shapes serve HTTP and the socket.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigRevision
from dropmill.model.events import Event
from dropmill.model.ids import JobId
from dropmill.model.jobs import Attempt, Job, Progress
from dropmill.model.results import Result
from dropmill.model.submissions import Counts, Submission
from dropmill.model.uploads import File, UploadState

Json = dict[str, Any]

PROTOCOL = 1
MESSAGE_MAX = 64 * 1024  # characters of one message from a client
ID_MAX = 200  # characters of a client's message id or topic
MAX_POSITION = 2**63 - 1


def time_text(at: datetime | None) -> str | None:
    """RFC 3339, UTC, milliseconds, `Z`; None stays None."""
    if at is None:
        return None
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def dumps(message: Json) -> str:
    """A message as text: one line, ASCII."""
    return json.dumps(message, separators=(",", ":"))


# --- shapes of records -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeState:
    """What only this moment knows of a file; the ledger does not.

    Attributes:
        received: bytes that have arrived; None unless it is arriving.
        position: estimated place in line; None unless queued here.
        progress: newest report of the running attempt; None if there is none.
    """

    received: int | None = None
    position: int | None = None
    progress: Progress | None = None


def client_json(client: ClientIdentity | None) -> Json | None:
    """`Client` of the contract."""
    if client is None:
        return None
    return {
        "ip": client.ip,
        "host": client.host,
        "verified": client.verified,
        "domain": client.domain,
        "user_agent": client.user_agent,
    }


def counts_json(counts: Counts) -> Json:
    """`counts` of a Submission."""
    return {
        "announced": counts.announced,
        "receiving": counts.receiving,
        "aborted": counts.aborted,
        "queued": counts.queued,
        "running": counts.running,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def submission_state(submission: Submission) -> str:
    """`open`, `processing` or `settled`."""
    if submission.is_open:
        return "open"
    return "settled" if submission.is_settled else "processing"


def submission_json(submission: Submission, files: Sequence[Json] | None = None, files_next: str | None = None) -> Json:
    """`Submission` of the contract; in lists without its files (`files` None)."""
    shape: Json = {
        "id": submission.id,
        "state": submission_state(submission),
        "opened_at": time_text(submission.opened_at),
        "settled_at": time_text(submission.settled_at),
        "client": client_json(submission.client),
        "account": submission.account,
        "counts": counts_json(submission.counts),
    }
    if files is not None:
        shape["files"] = list(files)
        shape["files_next"] = files_next
    return shape


def file_json(file: File, momentary: RuntimeState, base_path: str = "") -> Json:
    """`File` of the contract; the paths of its URLs begin with `base_path`."""
    shape: Json = {
        "id": file.id,
        "name": file.name,
        "path": file.path,
        "size": file.size,
        "received": file.received if momentary.received is None else momentary.received,
        "sha256": file.sha256,
        "state": file.state.value,
        "removed_at": time_text(file.removed_at),
        "job": None if file.job is None else job_json(file.job, momentary, base_path),
    }
    if file.is_resumable:
        shape["upload_url"] = f"{base_path}/api/v1/uploads/{file.id}"
    if file.state is UploadState.ABORTED:
        shape["error"] = file.error
    return shape


def job_json(job: Job, momentary: RuntimeState, base_path: str = "") -> Json:
    """`Job` of the contract; the paths of its URLs begin with `base_path`."""
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
        "position": momentary.position,
        "progress": None if momentary.progress is None else _progress_values(momentary.progress),
        "exit_code": job.exit_code,
        "error": None if job.error is None else {"type": job.error.type, "message": job.error.message},
        "value": job.value,
        "output_size": job.output_size,
        "result_count": job.result_count,
        "results": [_result_json(job.id, result, base_path) for result in job.results],
        "attempts": [_attempt_json(attempt) for attempt in job.attempts],
    }


def _result_json(job_id: JobId, result: Result, base_path: str) -> Json:
    return {
        "path": result.path,
        "size": result.size,
        "sha256": result.sha256,
        "url": f"{base_path}/api/v1/jobs/{job_id}/results/{quote(result.path)}",
    }


def _attempt_json(attempt: Attempt) -> Json:
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


def _progress_values(progress: Progress) -> Json:
    return {"value": progress.value, "total": progress.total, "label": progress.label}


def revision_json(revision: ConfigRevision) -> Json:
    """One entry of the config's history."""
    return {
        "sha256": revision.sha256,
        "saved_at": time_text(revision.saved_at),
        "size": revision.size,
        "message": revision.message,
        "account": revision.account,
        "client": client_json(revision.client),
        "is_purged": revision.purged_at is not None,
    }


def event_json(event: Event) -> Json:
    """`Event` of the contract; absent members of the subject are null."""
    subject = event.subject
    return {
        "cursor": event.cursor,
        "at": time_text(event.at),
        "name": event.name.value,
        "subject": {
            "submission_id": subject.submission_id,
            "file_id": subject.file_id,
            "job_id": subject.job_id,
            "attempt": subject.attempt,
            "name": subject.name,
            "account": subject.account,
            "client": client_json(subject.client),
        },
        "data": dict(event.data),
    }


# --- the socket's messages: to the client ----------------------------------------------------------------------------


def hello(now: datetime, heartbeat_s: float) -> Json:
    """The first message of a connection."""
    return {"type": "hello", "protocol": PROTOCOL, "server_time": time_text(now), "heartbeat": heartbeat_s}


def snapshot(topic: str, cursor: int, state: Json | None) -> Json:
    """How things stood at `cursor`; `state` is null for topics that are only events."""
    return {"type": "snapshot", "topic": topic, "cursor": cursor, "state": state}


def events(topic: str, cursor: int, some: Sequence[Json]) -> Json:
    """Durable events in cursor order; `cursor` is the last one's."""
    return {"type": "events", "topic": topic, "cursor": cursor, "events": list(some)}


def progress(report: Progress) -> Json:
    """A throw-away report."""
    return {"type": "progress", "file_id": report.file_id, "stage": report.stage, **_progress_values(report)}


def output(job_id: str, attempt: int, offset: int, end: int, text: str) -> Json:
    """A piece of an attempt's output; `offset` and `end` count bytes."""
    return {"type": "output", "job_id": job_id, "attempt": attempt, "offset": offset, "end": end, "text": text}


def gap(topic: str, cursor: int) -> Json:
    """The subscriber fell behind: join again after its cursor."""
    return {"type": "gap", "topic": topic, "cursor": cursor}


def reply(re: Any, code: str | None = None, detail: str | None = None) -> Json:
    """The answer to a client's message; an error if `code` is given."""
    error = None if code is None else {"code": code, "detail": detail}
    return {"type": "reply", "re": re, "ok": code is None, "error": error}


def tick(now: datetime) -> Json:
    """The heartbeat."""
    return {"type": "tick", "at": time_text(now)}


# --- the socket's messages: from the client --------------------------------------------------------------------------


class BadMessage(Exception):
    """A client's message is not one of ours. `re` is its id where it has a usable one."""

    def __init__(self, detail: str, re: Any = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.re = re


@dataclass(frozen=True, kw_only=True, slots=True)
class Join:
    """Follow a topic, or the stream `output:<job_id>`.

    Attributes:
        after: cursor, or byte offset for a stream, after which to begin; None asks for a snapshot.
        attempt: of a stream; None is the newest.
    """

    id: Any
    topic: str
    after: int | None
    attempt: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """Follow no more."""

    id: Any
    topic: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """End a job."""

    id: Any
    job_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Put a settled job back in line."""

    id: Any
    job_id: str


ClientMessage = Join | Leave | Cancel | Retry


def parse(text: Any) -> ClientMessage:
    """A client's message.

    Raises:
        BadMessage: it is none.
    """
    if not isinstance(text, str):
        raise BadMessage("Messages are JSON text.")
    if len(text) > MESSAGE_MAX:
        raise BadMessage(f"A message has at most {MESSAGE_MAX} characters.")
    try:
        message = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise BadMessage("The message is not a JSON object with unique keys.") from None
    if not isinstance(message, dict):
        raise BadMessage("The message is not a JSON object.")
    re = message.get("id")
    if not (re is None or (isinstance(re, str | int) and not isinstance(re, bool) and len(str(re)) <= ID_MAX)):
        raise BadMessage("`id` must be a short string or a whole number.")
    match message.get("type"):
        case "join":
            return Join(
                id=re,
                topic=_short_text(message, "topic", re),
                after=_whole_number(message, "after", re),
                attempt=_whole_number(message, "attempt", re),
            )
        case "leave":
            return Leave(id=re, topic=_short_text(message, "topic", re))
        case "cancel":
            return Cancel(id=re, job_id=_short_text(message, "job_id", re))
        case "retry":
            return Retry(id=re, job_id=_short_text(message, "job_id", re))
    raise BadMessage("`type` must be join, leave, cancel or retry.", re)


def _unique(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _short_text(message: Mapping[str, Any], key: str, re: Any) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not value or len(value) > ID_MAX or not value.isprintable():
        raise BadMessage(f"`{key}` must be a short printable string.", re)
    return value


def _whole_number(message: Mapping[str, Any], key: str, re: Any) -> int | None:
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_POSITION:
        raise BadMessage(f"`{key}` must be a whole number, 0 or more, or null.", re)
    return value
