"""The four ports: what the capabilities need from the machinery below, and nothing else.

    BlobStore   bytes                       directory             | S3
    Ledger      state and events            SQLite                | Postgres
    Bus         hints that something moved  asyncio               | Redis
    Executor    runs attempts by job id     slots on this machine | Celery

Every method is a coroutine unless it only touches memory. Cancelling a caller never cuts a commit in half: a change
handed to the ledger is made or refused whatever becomes of whoever waits for it.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from dropmill.model.events import Event
from dropmill.model.ids import Cursor, FileId, JobId, Sha256, SubmissionId
from dropmill.model.records import (
    Attempt,
    AttemptOrder,
    AttemptOutcome,
    ClientIdentity,
    ConfigRevision,
    File,
    Job,
    JobState,
    Progress,
    StoredBlob,
    Submission,
)

T = TypeVar("T")

# --- BlobStore -------------------------------------------------------------------------------------------------------


class BlobWriter(Protocol):
    """One blob on its way in. Invisible until `commit` has returned; used by one task at a time."""

    @property
    def key(self) -> str:
        """What the blob will be stored under, and what `BlobStore.resume` takes until then."""

    @property
    def size(self) -> int:
        """Bytes given to `write` so far."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; returns when the writer may be given more (back-pressure).

        The buffer may be reused by the caller once this returns.

        Raises:
            OutOfSpace: the disk is full; the blob can only be aborted.
        """

    async def pause(self) -> None:
        """Put down what was written so far, so that it survives this process (not a power cut); hold nothing open."""

    async def begin_chunk(self) -> None:
        """What is written from here on counts only as a whole: after a kill, `resume` finds none of it."""

    async def keep_chunk(self) -> None:
        """The chunk is whole: it counts from now on, and survives this process."""

    async def drop_chunk(self) -> None:
        """Forget the chunk."""

    async def commit(self) -> StoredBlob:
        """Make the blob durable and visible: written, fsynced, renamed, its folder fsynced.

        Raises:
            OutOfSpace: as for `write`.
        """

    async def abort(self) -> None:
        """Remove what was written. Safe after a failed `write` or `commit`, and to call twice."""


class BlobStore(Protocol):
    """Immutable bytes under generated keys."""

    def create(self, extension: str) -> BlobWriter:
        """Begin a blob; `extension` is "" or a checked one with its dot, such as ".tar.gz"."""

    async def resume(self, key: str) -> BlobWriter:
        """Go on with a blob that was paused, also in an earlier process; an unknown key begins it.

        The hash of what is there already is made in the background; `commit` waits for it.
        """

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A real local path to the bytes, valid inside the context. Read-only."""

    async def delete(self, key: str) -> None:
        """Remove a blob; none is no error."""

    async def sweep(self, resumable: Collection[str] = ()) -> int:
        """Remove what writers of an earlier process left, except `resumable` keys; returns how many. At start-up."""

    def keys(self) -> AsyncIterator[Sequence[str]]:
        """Every committed key, some at a time."""

    async def free_bytes(self) -> int:
        """Bytes that may still be written."""


# --- Ledger ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[T]):
    """One page of a list. `next` is what `before` must be for the page after; None at the end."""

    items: Sequence[T]
    next: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EventPage:
    """Events of a topic in cursor order, and how far was looked: the next read begins after `cursor`."""

    events: Sequence[Event]
    cursor: Cursor


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionView:
    """A submission with some of its files, as they stood together at `cursor`."""

    submission: Submission
    files: Sequence[File]
    files_next: str | None
    cursor: Cursor


class Ledger(Protocol):
    """The truth: state and events, changed together in one transaction or not at all.

    Illegal transitions raise `IllegalTransition`, unknown ids `NotFound`; both change nothing.
    Changes handed over in an order are made in that order.
    """

    # changes: submissions and uploads

    async def open_submission(self, submission_id: SubmissionId, client: ClientIdentity, account: str | None) -> None:
        """Record a new, open submission (`submission.opened`)."""

    async def identify_client(
        self, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
    ) -> None:
        """Record what DNS said of the submission's client (`client.identified`, once a submission)."""

    async def start_upload(
        self, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
    ) -> None:
        """Record that a file's bytes begin to arrive (`upload.started`)."""

    async def store_upload(self, file_id: FileId, blob: StoredBlob, job_id: JobId) -> None:
        """Record a file's bytes as durable and queue its job (`upload.stored`, `job.queued`)."""

    async def abort_upload(self, file_id: FileId, reason: str) -> None:
        """Record that a file will not come (`upload.aborted`)."""

    async def seal_submission(self, submission_id: SubmissionId) -> None:
        """Record that no more files will come (`submission.sealed`); a sealed one stays as it is."""

    # changes: jobs and attempts

    async def start_attempt(self, job_id: JobId, host: str) -> AttemptOrder | None:
        """Guarded transition of a queued job to running (`attempt.started`); None if it is not queued any more."""

    async def end_attempt(self, job_id: JobId, number: int, outcome: AttemptOutcome) -> bool:
        """Record an attempt's end and settle its job; False, and no change, if `number` is not the running attempt."""

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        """Record that an attempt's process vanished (`attempt.lost`).

        Returns:
            `queued` if the job goes back in line; `failed` (error type `lost`) once `max_attempts` attempts of the
            job were lost since it was last asked for; None, and no change, if `number` is not the running attempt.
        """

    async def cancel_queued(self, job_id: JobId) -> bool:
        """Settle a queued job as cancelled; False if it is not queued (ask the executor to cancel a running one)."""

    async def retry_job(self, job_id: JobId) -> None:
        """Put a settled job back in line with the newest config revision."""

    async def recover(self, max_attempts: int, reason: str) -> "Recovery":
        """Settle what an earlier process left: uploads aborted for `reason`, submissions sealed, attempts lost."""

    # changes: config

    async def save_revision(
        self,
        text: bytes,
        *,
        base: Sha256 | None,
        client: ClientIdentity | None,
        account: str | None,
        message: str | None,
        is_mirrored: bool,
    ) -> ConfigRevision:
        """Append a revision (`config.saved`) if the newest one still has the SHA-256 `base` (None: there is none).

        Raises:
            ConfigConflict: the newest revision is another.
        """

    async def mark_mirrored(self, number: int) -> None:
        """Record that the file on disk holds this revision's bytes."""

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        """Record that a text was refused (`config.rejected`)."""

    # reads; each sees one moment

    async def view_submission(
        self, submission_id: SubmissionId, *, after: str | None = None, limit: int, state: str | None = None
    ) -> SubmissionView:
        """A submission, a page of its files in their order, and the cursor at which that was true."""

    async def submissions(
        self, *, before: str | None, limit: int, state: str | None = None, text: str | None = None
    ) -> Page[Submission]:
        """Submissions, newest first; `state` open, processing or settled; `text` occurs in a file's path or client."""

    async def file(self, file_id: FileId) -> File:
        """One file with its job."""

    async def job(self, job_id: JobId) -> Job:
        """One job with its attempts."""

    async def jobs(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        submission_id: SubmissionId | None = None,
    ) -> Page[Job]:
        """Jobs, newest first."""

    async def known_blobs(self, keys: Collection[str]) -> Collection[str]:
        """Those of the keys that belong to a stored file."""

    async def queued_jobs(self) -> Sequence[JobId]:
        """Every queued job, in the order in which they were queued."""

    async def events(self, topic: str, *, after: Cursor, limit: int) -> EventPage:
        """Events of a topic behind a cursor."""

    async def newest_cursor(self) -> Cursor:
        """The cursor of the newest event; 0 if there is none."""

    async def newest_revision(self) -> ConfigRevision | None:
        """The config as it is; None before the first one."""

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        """The config's history, newest first."""

    async def revision_text(self, sha256: Sha256) -> bytes:
        """A revision's exact bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What `Ledger.recover` found.

    Attributes:
        lost: attempts an earlier process left running.
        aborted: uploads it left unfinished.
        sealed: submissions it left open.
    """

    lost: Sequence[Attempt] = ()
    aborted: int = 0
    sealed: int = 0


# --- Bus -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Hints:
    """What moved since a subscriber last looked; the newest only, so it is bounded by what was joined.

    Attributes:
        moved: topic or stream to the newest cursor or byte offset known for it.
        progress: newest report for each file and stage.
    """

    moved: dict[str, int] = field(default_factory=dict)
    progress: dict[tuple[FileId, str], Progress] = field(default_factory=dict)


class Subscription(Protocol):
    """One subscriber's mailbox."""

    def join(self, topic: str) -> None:
        """Hear of a topic or stream from now on."""

    def leave(self, topic: str) -> None:
        """Hear no more of it."""

    async def next(self) -> Hints:
        """Wait until something moved, then take it all; newer hints replace older ones meanwhile."""

    def close(self) -> None:
        """Hear nothing more."""


class Bus(Protocol):
    """Hints. May lose them, never blocks a publisher, keeps one mailbox a subscriber, bounded by latest-wins."""

    def moved(self, positions: Mapping[str, int]) -> None:
        """Say that topics or streams have reached these cursors or offsets."""

    def report(self, progress: Progress) -> None:
        """Carry a progress report to those who follow the file's submission, or `all`."""

    def newest_progress(self, file_id: FileId, stage: str) -> Progress | None:
        """The newest report of a file's running stage; None if there is none."""

    def forget_progress(self, file_id: FileId) -> None:
        """A file's stage has ended; its reports are of no more use."""

    def subscribe(self) -> Subscription:
        """A new mailbox that has joined nothing yet."""


# --- Executor --------------------------------------------------------------------------------------------------------


class Executor(Protocol):
    """Gets queued jobs run. Takes ids: the rest is read from the ledger when the job is picked up."""

    def submit(self, job_id: JobId) -> None:
        """Put a job in line. Twice is harmless: the ledger's guarded transition lets one of them lose."""

    def cancel(self, job_id: JobId) -> bool:
        """Ask for a job's running attempt to be ended; False if none runs here. The attempt's event is the answer."""

    def position(self, job_id: JobId) -> int | None:
        """Estimated place in line, 1 being next; None if it does not wait here."""

    async def drain(self, grace_s: float) -> None:
        """Pick up nothing more, let running attempts end within `grace_s`, then end their processes."""
