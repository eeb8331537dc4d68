"""The event catalogue: every name, what its `data` holds, which topics carry it.

An event is immutable and durable: the transaction that changes the state appends it, and gives it its cursor.
`docs/live.md` shows this table; a test holds the two equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import Cursor, FileId, JobId, SubmissionId


class EventName(StrEnum):
    """Every event there is."""

    CLIENT_IDENTIFIED = "client.identified"
    SUBMISSION_OPENED = "submission.opened"
    SUBMISSION_SEALED = "submission.sealed"
    SUBMISSION_SETTLED = "submission.settled"
    UPLOAD_STARTED = "upload.started"
    UPLOAD_STORED = "upload.stored"
    UPLOAD_ABORTED = "upload.aborted"
    JOB_QUEUED = "job.queued"
    JOB_SETTLED = "job.settled"
    ATTEMPT_STARTED = "attempt.started"
    ATTEMPT_SUCCEEDED = "attempt.succeeded"
    ATTEMPT_FAILED = "attempt.failed"
    ATTEMPT_CANCELLED = "attempt.cancelled"
    ATTEMPT_LOST = "attempt.lost"
    CONFIG_SAVED = "config.saved"
    CONFIG_REJECTED = "config.rejected"
    CONFIG_PURGED = "config.purged"
    ACCOUNT_SIGNED_IN = "account.signed_in"
    ACCOUNT_SIGNED_OUT = "account.signed_out"


DATA_KEYS: Mapping[EventName, tuple[str, ...]] = {
    EventName.CLIENT_IDENTIFIED: ("host", "verified", "domain"),
    EventName.SUBMISSION_OPENED: (),
    EventName.SUBMISSION_SEALED: ("counts",),
    EventName.SUBMISSION_SETTLED: ("number", "counts"),
    EventName.UPLOAD_STARTED: ("size", "path"),
    EventName.UPLOAD_STORED: ("size", "sha256"),
    EventName.UPLOAD_ABORTED: ("reason",),
    EventName.JOB_QUEUED: ("reason",),
    EventName.JOB_SETTLED: (
        "state",
        "exit_code",
        "error",
        "duration",
        "output_size",
        "result_count",
        "results",
    ),
    EventName.ATTEMPT_STARTED: ("config_revision", "host"),
    EventName.ATTEMPT_SUCCEEDED: ("exit_code", "duration", "output_size"),
    EventName.ATTEMPT_FAILED: ("exit_code", "error", "duration", "output_size"),
    EventName.ATTEMPT_CANCELLED: ("exit_code", "duration", "output_size"),
    EventName.ATTEMPT_LOST: (),
    EventName.CONFIG_SAVED: ("sha256", "size", "message"),
    EventName.CONFIG_REJECTED: ("errors",),
    EventName.CONFIG_PURGED: ("sha256",),
    EventName.ACCOUNT_SIGNED_IN: (),
    EventName.ACCOUNT_SIGNED_OUT: (),
}
"""The keys of each event's `data`, always all present; a value may be None.

`size` bytes; `duration` seconds; `reason` of `job.queued` is `stored`, `retry` (someone asked), `retry_policy` (by
`--retry-exit-codes`) or `lost`; `counts` as in a Submission; `error` is `{"type", "message"}` or None; `number` counts
how often the submission has settled; `results` are the first `RESULTS_TOLD` of `result_count`, as `{"path", "size"}`.
"""

RESULTS_TOLD = 3  # results in one event: enough for a row of the page, and many events stay small


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What an event is about; None where it does not apply.

    Attributes:
        name: the client's name of the file.
        client: as known when the event happened.
    """

    submission_id: SubmissionId | None = None
    file_id: FileId | None = None
    job_id: JobId | None = None
    attempt: int | None = None
    name: str | None = None
    account: str | None = None
    client: ClientIdentity | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened."""

    cursor: Cursor
    at: datetime
    name: EventName
    subject: Subject
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that carries this event."""
        return topics_of(self.name, self.subject)


TOPIC_ALL = "all"
TOPIC_CONFIG = "config"


def topics_of(name: EventName, subject: Subject) -> tuple[str, ...]:
    """Every topic that carries an event of this name about this subject."""
    topics = [TOPIC_ALL]
    if name in (EventName.CONFIG_SAVED, EventName.CONFIG_REJECTED, EventName.CONFIG_PURGED):
        topics.append(TOPIC_CONFIG)
    if subject.submission_id is not None:
        topics.append(f"submission:{subject.submission_id}")
    if subject.account is not None:
        topics.append(f"account:{subject.account}")
    return tuple(topics)
