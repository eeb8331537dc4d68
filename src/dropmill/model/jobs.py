"""Jobs and their attempts: states, legal transitions, and what an attempt gets and brings back."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigRevision
from dropmill.model.ids import ClaimId, FileId, JobId, Sha256, SubmissionId, new_claim_id
from dropmill.model.results import Result


class JobState(StrEnum):
    """The order to run the processor on one file."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the state changes no more, unless someone retries the job."""
        return self in FINAL_JOB_STATES


class AttemptState(StrEnum):
    """One execution of a job."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


FINAL_JOB_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


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
class Job:
    """The order to run the processor on one file.

    Attributes:
        started_at: start of the newest attempt; None before the first.
        settled_at: when it reached its final state; None before.
        not_before: earliest start of an attempt, while the retry policy delays it; else None.
        value: what the callable returned, if JSON can hold it.
        result_count: how many results the newest attempt left; 0 again after a retry.
        results: these, in the order of their paths; in lists of jobs only the first `RESULTS_LISTED`.
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
class AttemptSpec:
    """Everything that one attempt needs; returned by the guarded transition that starts it.

    Attributes:
        number: the attempt's number, which also fences it: its end is recorded only under this number.
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
        results: the files that it left for download, in the order of their paths, no path twice.
    """

    state: AttemptState
    exit_code: int | None
    error: JobError | None = None
    value: Any = None
    output_size: int = 0
    results: tuple[Result, ...] = ()


SERVER_ENDED = frozenset({"timed_out", "input_changed"})
"""Error types of attempts that the server ended or rejected, whatever their exit code."""


LONGEST_RETRY_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Which failed attempts are followed by another one automatically, and after how long.

    Attributes:
        exit_codes: of the process; -n means killed by signal n.
        times: most automatic attempts, counted since the job was queued or last retried.
        delay_s: before the first of them; doubled for each further one, but not above `LONGEST_RETRY_S` unless it is
            above that itself.
    """

    exit_codes: frozenset[int]
    times: int
    delay_s: float

    def applies(self, outcome: AttemptOutcome, tries: int) -> bool:
        """Whether an attempt with this outcome is followed by another, after `tries` automatic ones."""
        error = outcome.error
        return (
            outcome.state is AttemptState.FAILED
            and outcome.exit_code in self.exit_codes
            and (error is None or error.type not in SERVER_ENDED)
            and tries < self.times
        )

    def next_time(self, now: datetime, tries: int) -> datetime:
        """When the next attempt may begin; up to a tenth earlier or later, so that many failed jobs spread out."""
        longest = max(LONGEST_RETRY_S, self.delay_s)
        delay = min(self.delay_s * 2.0 ** min(tries, 62), longest)
        return now + timedelta(seconds=delay * random.uniform(0.9, 1.1))  # noqa: S311 - no secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A node's request for work. A repeated claim with the same id gets the same attempts.

    Attributes:
        queues: the queues to take jobs from, in this order; None is the queue of jobs without a named one.
        most: how many jobs at most.
    """

    id: ClaimId = field(default_factory=new_claim_id)
    queues: tuple[str | None, ...] = (None,)
    most: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A job after the end of its attempt.

    Attributes:
        state: of the job now.
        orders: attempts that were claimed in the same change.
    """

    state: JobState
    orders: Sequence[AttemptSpec] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A throw-away report of how far something is; the newest wins, losing one loses nothing.

    Attributes:
        stage: `upload` (bytes received) or `process` (whatever the script counts).
        total: None when unknown.
        label: a few words from the script; None if it gave none.
    """

    submission_id: SubmissionId
    file_id: FileId
    stage: str
    value: float
    total: float | None = None
    label: str | None = None
