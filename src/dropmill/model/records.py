"""The nouns of Dropmill as frozen records, and the legal transitions between their states.

A record is never changed: `dataclasses.replace` makes the next one. Times are aware UTC `datetime`s, sizes are
bytes, durations seconds. Turning records into JSON is the business of `dropmill.wire.messages`.
"""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dropmill.model.errors import IllegalTransition
from dropmill.model.ids import ClaimId, FileId, JobId, NodeId, Sha256, SubmissionId, new_claim_id

_State = TypeVar("_State", bound=StrEnum)


class UploadState(StrEnum):
    """The transfer of one file's bytes."""

    ANNOUNCED = "announced"
    RECEIVING = "receiving"
    STORED = "stored"
    ABORTED = "aborted"


class JobState(StrEnum):
    """The order to run the processor on one file."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in FINAL_JOB_STATES


class AttemptState(StrEnum):
    """One execution of a job."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


RESULTS_LISTED = 20
"""Results told of each job in a list of jobs or files; a job asked for by itself tells all."""

FINAL_JOB_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

UPLOAD_TRANSITIONS: Mapping[UploadState, frozenset[UploadState]] = {
    UploadState.ANNOUNCED: frozenset({UploadState.RECEIVING, UploadState.ABORTED}),
    UploadState.RECEIVING: frozenset({UploadState.STORED, UploadState.ABORTED}),
    UploadState.STORED: frozenset(),
    UploadState.ABORTED: frozenset(),
}

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    # back to queued: the attempt was lost and attempts are left
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    # back to queued: someone asked for a retry
    JobState.SUCCEEDED: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}

ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.RUNNING: frozenset(
        {AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELLED, AttemptState.LOST}
    ),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.CANCELLED: frozenset(),
    AttemptState.LOST: frozenset(),
}


def require_transition(table: Mapping[_State, frozenset[_State]], now: _State, then: _State, what: str) -> None:
    """Return if `now` may become `then`, else raise.

    Raises:
        IllegalTransition: naming `what`, the state it is in and the one that was asked for.
    """
    if then not in table[now]:
        raise IllegalTransition(f"The {what} is {now}; it cannot become {then}.")


def utc_now() -> datetime:
    """The wall clock, UTC, cut to milliseconds as the log shows them."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientIdentity:
    """Who sent a request as far as the network tells. Not an account; never grants a right.

    Attributes:
        ip: the address in its shortest form; IPv4-mapped IPv6 is given as IPv4.
        host: name from reverse DNS; None until or unless known.
        verified: whether `host` resolves back to `ip`.
        domain: registered domain of `host`, or all after its first label; None for a bare name.
        user_agent: the header, cut to 400 characters; None if absent.
    """

    ip: str
    host: str | None = None
    verified: bool = False
    domain: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many files of a submission are in each state; a file counts once, in the state it is in."""

    announced: int = 0
    receiving: int = 0
    aborted: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def in_progress(self) -> int:
        """Files that still keep the submission from settling."""
        return self.announced + self.receiving + self.queued + self.running

    @property
    def total(self) -> int:
        """All files, whatever became of them."""
        return self.in_progress + self.aborted + self.succeeded + self.failed + self.cancelled


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One press of Submit.

    Attributes:
        is_open: whether more files may come; that alone is stored about its state.
        settled_at: when it last settled; None while it is not settled.
        times_settled: how often it settled; more than once after a retry.
    """

    id: SubmissionId
    is_open: bool
    opened_at: datetime
    settled_at: datetime | None
    times_settled: int
    client: ClientIdentity
    account: str | None
    counts: Counts

    @property
    def is_settled(self) -> bool:
        """Not open, and no file announced or receiving, no job queued or running."""
        return not self.is_open and self.counts.in_progress == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class JobError:
    """Why a job did not succeed: `type` is a short stable word or an exception's class, `message` a sentence."""

    type: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One execution of a job, numbered from 1.

    Attributes:
        exit_code: of the process; -n means killed by signal n; None while running or when lost.
        config_revision: SHA-256 of the config it read.
        output_size: bytes written to stdout and stderr, those not kept included.
        host: name of the machine it runs on.
    """

    job_id: JobId
    number: int
    state: AttemptState
    exit_code: int | None
    config_revision: Sha256
    started_at: datetime
    settled_at: datetime | None
    output_size: int
    host: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A file that an attempt left for download.

    Attributes:
        path: where it lay in the results folder, parts joined by `/`; printable text, never used as a path.
        blob: key of its bytes in the blob store.
    """

    path: str
    size: int
    sha256: Sha256
    blob: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The order to run the processor on one file.

    Attributes:
        started_at: start of the newest attempt; None before the first.
        settled_at: when it reached its final state; None before.
        not_before: when it may be picked up, while the retry policy holds it back; else None.
        value: what the callable returned, if JSON can hold it.
        result_count: how many results the newest attempt left; 0 again once the job is asked for anew.
        results: these, in the order of their paths; the first `RESULTS_LISTED` where many jobs are listed.
    """

    id: JobId
    file_id: FileId
    submission_id: SubmissionId
    state: JobState
    queued_at: datetime
    started_at: datetime | None
    settled_at: datetime | None
    exit_code: int | None
    error: JobError | None
    value: Any
    output_size: int
    not_before: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    result_count: int = 0
    results: tuple[Result, ...] = ()

    @property
    def duration(self) -> float | None:
        """Seconds from the start of the newest attempt to its end; None unless settled after an attempt."""
        if self.started_at is None or self.settled_at is None or self.settled_at < self.started_at:
            return None
        return (self.settled_at - self.started_at).total_seconds()


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of a submission, from its announcement on.

    Attributes:
        name: what the client called it, last part only. Text, never a path.
        path: what the client called it with its folders, as given. Text, never a path.
        size: announced or stored size; None while unknown.
        received: bytes known to be on disk.
        sha256: of the stored bytes; None until stored.
        blob: key of the bytes in the blob store; None until stored.
        error: why the upload was aborted; None otherwise.
        removed_at: when its bytes, output and results were removed to keep the disk free; None while they are kept.
        job: None until stored.
        is_resumable: whether its bytes may still come in requests of their own.
    """

    id: FileId
    submission_id: SubmissionId
    name: str
    path: str
    size: int | None
    received: int
    sha256: Sha256 | None
    state: UploadState
    blob: str | None
    error: str | None
    job: Job | None
    removed_at: datetime | None = None
    is_resumable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigRevision:
    """Exact bytes of the config, and who saved them when and from where.

    Attributes:
        number: rises with every save; a restored revision repeats a SHA-256 under a new number.
        client: None when the change was found on disk rather than sent.
        purged_at: when its text was removed; None while it is kept. The rest of the record stays.
    """

    number: int
    sha256: Sha256
    size: int
    saved_at: datetime
    account: str | None
    client: ClientIdentity | None
    message: str | None
    purged_at: datetime | None = None


class ConfigLocation(NamedTuple):
    """The config file that a server edits.

    Attributes:
        host: name of the machine; the path means something there only.
        path: absolute, with its symbolic links as the server was given them.
        data_folder: that of the server, absolute, without symbolic links.
    """

    host: str
    path: str
    data_folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBlob:
    """What a commit to the blob store made durable."""

    key: str
    size: int
    sha256: Sha256


class FileIdentity(NamedTuple):
    """Whether a file may have been touched since it was last seen: equal means that it was not.

    Modification times can be set, the change time cannot: the kernel sets it whenever bytes, size, links or rights of
    a file change. An unequal identity therefore proves nothing; only a hash tells whether the bytes are others.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileIdentity":
        """The identity that a `stat` call found."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptOrder:
    """All that one attempt needs; handed out by the guarded transition that starts it.

    Attributes:
        number: the attempt's number, and the fencing number its end must show.
    """

    job_id: JobId
    submission_id: SubmissionId
    file_id: FileId
    number: int
    file_name: str
    file_path: str
    blob: str
    size: int
    sha256: Sha256
    client: ClientIdentity
    config: ConfigRevision


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptOutcome:
    """How an attempt ended.

    Attributes:
        state: any but `running`.
        value: what the callable returned, JSON-able; None for executables.
        results: what it left for download, in the order of their paths, no path twice.
    """

    state: AttemptState
    exit_code: int | None
    error: JobError | None = None
    value: Any = None
    output_size: int = 0
    results: tuple[Result, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Which failed attempts are followed by another one without anybody asking, and after how long.

    Attributes:
        exit_codes: of the process; -n means killed by signal n.
        times: attempts that may follow so, counted since the job was last asked for.
        delay_s: before the first of them, doubled for each further one up to `LONGEST_RETRY_S`, or to itself.
    """

    exit_codes: frozenset[int]
    times: int
    delay_s: float

    def applies(self, outcome: AttemptOutcome, tries: int) -> bool:
        """Whether an attempt with this outcome is followed by another, after `tries` that were."""
        error = outcome.error
        return (
            outcome.state is AttemptState.FAILED
            and outcome.exit_code in self.exit_codes
            and (error is None or error.type not in ENDED_BY_US)
            and tries < self.times
        )

    def next_time(self, now: datetime, tries: int) -> datetime:
        """When the next attempt may begin. A tenth more or less by chance: what failed together returns apart."""
        longest = max(LONGEST_RETRY_S, self.delay_s)
        delay = min(self.delay_s * 2.0 ** min(tries, 62), longest)
        return now + timedelta(seconds=delay * random.uniform(0.9, 1.1))  # noqa: S311 - no secret


LONGEST_RETRY_S = 3600.0
ENDED_BY_US = frozenset({"timed_out", "input_changed"})
"""Error types of attempts whose exit code is not the script's own word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A process that runs attempts or receives uploads, from its start to its end.

    Attributes:
        host: name of its machine.
        lock: what it holds alone while it lives: of two nodes with the same lock, the one that entered earlier is gone.
    """

    id: NodeId
    host: str
    lock: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A node's request for work. Asked again with the same id, it gets what it got.

    Attributes:
        queues: whose jobs it takes, in this order; None names the queue of jobs without one.
        most: jobs that are wanted.
    """

    id: ClaimId = field(default_factory=new_claim_id)
    queues: tuple[str | None, ...] = (None,)
    most: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What became of a job when its attempt had ended.

    Attributes:
        state: the job's, as the end left it.
        orders: what was claimed in the same change.
    """

    state: JobState
    orders: Sequence[AttemptOrder] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One call of the webhook that is still to be made.

    Attributes:
        number: how often the submission had settled; with its id this names the delivery.
        counts: as they were when it settled.
        tries: calls made in vain so far.
        due_at: when the next one may be made.
    """

    submission_id: SubmissionId
    number: int
    settled_at: datetime
    counts: Counts
    tries: int
    due_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptBytes:
    """Everything on disk that belongs to one submission and may be removed.

    Attributes:
        blobs: keys in the blob store: files and results.
        attempts: job and number of each attempt, whose output is kept under them.
    """

    submission_id: SubmissionId
    blobs: tuple[str, ...]
    attempts: tuple[tuple[JobId, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A throw-away report of how far something is; the newest wins, losing one loses nothing.

    Attributes:
        stage: `upload` (bytes received) or `process` (whatever the script counts).
        total: None when unknown.
        label: a few words from the script; None if it said none.
    """

    submission_id: SubmissionId
    file_id: FileId
    stage: str
    value: float
    total: float | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessorFile:
    """What a callable gets as its `file` parameter; also `os.PathLike`.

    Attributes:
        name: what the client called it. Data only.
        path: where the bytes are.
        attempt: number of this attempt, from 1.
    """

    name: str
    path: Path
    size: int
    sha256: str
    job_id: str
    submission_id: str
    attempt: int
    client: ClientIdentity = field(repr=False)

    def __fspath__(self) -> str:
        return str(self.path)
