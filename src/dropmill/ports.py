"""The four ports: what the capabilities need from the machinery below, and nothing else.

    BlobStore   bytes                       directory             | S3
    Ledger      state and events            SQLite                | Postgres
    Bus         hints that something moved  asyncio               | Redis
    Executor    runs attempts by job id     slots on this machine | Celery

Every method is a coroutine unless it only touches memory. Cancelling a caller never cuts a commit in half: a change
handed to the ledger is made or refused whatever becomes of whoever waits for it.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from dropmill.model.events import Event
from dropmill.model.ids import Cursor, FileId, JobId, Sha256, SubmissionId
from dropmill.model.records import (
    Attempt,
    AttemptOrder,
    AttemptOutcome,
    ClientIdentity,
    ConfigLocation,
    ConfigRevision,
    Delivery,
    File,
    FileIdentity,
    Job,
    JobState,
    KeptBytes,
    Progress,
    QueuedJob,
    Result,
    RetryPolicy,
    StoredBlob,
    Submission,
    UploadState,
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

    async def verify(self) -> None:
        """Return if what was put down by `pause` is still there, as far as its size tells.

        Raises:
            BytesLost: it vanished or has another size; the blob can only be aborted.
        """

    async def commit(self) -> StoredBlob:
        """Make the blob durable and visible: written, compared in size, fsynced, renamed, its folder fsynced.

        Raises:
            OutOfSpace: as for `write`.
            BytesLost: what is on disk is not what was given to `write`. A vanished file is never made anew.
        """

    async def abort(self) -> None:
        """Remove what was written, as `BlobStore.discard` does. Safe after a failed call, and to call twice."""


class BlobStore(Protocol):
    """Immutable bytes under generated keys.

    Any call that touches bytes raises `OutOfSpace` or `StorageUnavailable` when the disk refuses.
    """

    def create(self, extension: str) -> BlobWriter:
        """Begin a blob; `extension` is "" or a checked one with its dot, such as ".tar.gz"."""

    async def resume(self, key: str) -> BlobWriter:
        """Go on with a blob that was paused, also in an earlier process; an unknown key begins it.

        The hash of what is there already is made in the background; `commit` waits for it.
        """

    async def adopt(self, folder: int, name: str, size_max: int | None = None) -> StoredBlob:
        """Take a file of this machine into the store: its bytes become a blob, durable, and it is gone from its folder.

        Only a regular file with one link that may be read is taken; no link is followed. Cancelling undoes it: there
        is no blob then.

        Args:
            folder: descriptor of the directory that holds it; stays open until this has returned.
            name: the file's name in there.
            size_max: bytes beyond which it is not even read; None means no limit.

        Raises:
            ValueError: it is something else, which the text says ("is a symbolic link"). It stays where it is.
            OutOfSpace: as for `BlobWriter.write`.
        """

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A real local path to the bytes, valid inside the context. Read-only."""

    async def open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        """A descriptor of a blob's bytes, which are known to have its size and SHA-256; the caller closes it.

        They are read once before, unless nothing touched them since they were last known to be right. While the
        descriptor has the identity that is returned, its bytes are right; compare it after each read.

        Raises:
            BytesLost: they vanished or were changed.
        """

    def is_proven(self, key: str, identity: FileIdentity) -> bool:
        """Whether a file of this identity is known to hold the blob's bytes; if not, `open_stored` finds out."""

    async def delete(self, key: str) -> None:
        """Remove a blob; none is no error."""

    async def discard(self, key: str) -> None:
        """Remove what nothing refers to. What the disk refuses to remove is noted for `retry_discards`, not raised."""

    async def retry_discards(self) -> int:
        """Remove what `discard` could not; returns how many keys are still left."""

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
    """Events of a topic in cursor order, and how far was looked: the next read begins after `cursor`.

    Attributes:
        is_cut: whether events of the topic may be missing before these, because the oldest were removed.
    """

    events: Sequence[Event]
    cursor: Cursor
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionView:
    """A submission with some of its files, as they stood together at `cursor`."""

    submission: Submission
    files: Sequence[File]
    files_next: str | None
    cursor: Cursor


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumableUpload:
    """A file that was announced, and whose bytes may come in several requests.

    Attributes:
        size: of the whole file; None while it is not known (tus `creation-defer-length`).
        received: bytes known to be on disk when that was last written down; the blob store knows better.
        partial: key of the growing blob; None once stored or aborted.
        metadata: as the client gave it (tus `Upload-Metadata`).
        expected_sha256: what the whole file must have; None if the client did not say.
        expires_at: when it is removed unless bytes come.
        ip: of the client that opened the submission.
    """

    file_id: FileId
    submission_id: SubmissionId
    name: str
    path: str
    state: UploadState
    size: int | None
    received: int
    partial: str | None
    metadata: str
    expected_sha256: Sha256 | None
    expires_at: datetime | None
    ip: str
    account: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """What a submission holds: its files that are not aborted, those still to come included.

    Attributes:
        files: how many.
        announced: how many of them have not begun to come.
        size: bytes of them all, of one whose size is not known those that have come.
    """

    files: int = 0
    announced: int = 0
    size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestKey:
    """An `Idempotency-Key`: what a repeat of a request shows, so that it is carried out once.

    Attributes:
        owner: whose it is; two owners may use the same text. No newline.
        text: as the client gave it.
        fingerprint: what the request says of itself before its body is read, as a SHA-256 in hexadecimal.
    """

    owner: str
    text: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FormUploads:
    """What only the request that brings it can bring to its end.

    Attributes:
        files: that are arriving as a whole, not resumable.
        submissions: that are open until their one request ends.
    """

    files: Set[FileId]
    submissions: Set[SubmissionId]


class Ledger(Protocol):
    """The truth: state and events, changed together in one transaction or not at all.

    Illegal transitions raise `IllegalTransition`, unknown ids `NotFound`; both change nothing.
    Changes handed over in an order are made in that order.
    """

    # changes: submissions and uploads

    async def open_submission(
        self,
        submission_id: SubmissionId,
        client: ClientIdentity,
        account: str | None,
        *,
        is_announced: bool = False,
        key: RequestKey | None = None,
    ) -> SubmissionId:
        """Record a new, open submission (`submission.opened`).

        Args:
            submission_id: its id.
            client: who opens it.
            account: whose it is; None without accounts.
            is_announced: whether it outlives the request, and this process, until it is sealed.
            key: what a repeat of the request will show; None if there is none.

        Returns:
            Its id; or, changing nothing, the id of the submission that the same key opened before, unless nothing
            ever came of that one.

        Raises:
            IdempotencyMismatch: a request with another fingerprint opened that one. Nothing was changed.
        """

    async def identify_client(
        self, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
    ) -> None:
        """Record what DNS said of the submission's client (`client.identified`, once a submission)."""

    async def start_upload(
        self, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
    ) -> None:
        """Record that a file's bytes begin to arrive (`upload.started`)."""

    async def announce_uploads(self, uploads: Sequence[ResumableUpload]) -> None:
        """Record files that will come to an open submission."""

    async def open_for_upload(self, upload: ResumableUpload, client: ClientIdentity, account: str | None) -> None:
        """Open a submission for one announced file and seal it, so that it settles with that file's job."""

    async def begin_upload(self, file_id: FileId, *, is_resumable: bool = True) -> None:
        """Record that an announced file's bytes begin to arrive (`upload.started`).

        Args:
            file_id: which.
            is_resumable: whether they may come in several requests; then to begin again is no error. Otherwise the
                file comes or fails as a whole, and its growing blob is forgotten.
        """

    async def extend_upload(
        self, file_id: FileId, *, size: int | None, received: int, expires_at: datetime | None
    ) -> None:
        """Note how far a resumable upload is; of one that has ended nothing is changed. No event."""

    async def store_upload(self, file_id: FileId, blob: StoredBlob, job_id: JobId) -> None:
        """Record a file's bytes as durable and queue its job (`upload.stored`, `job.queued`)."""

    async def abort_upload(self, file_id: FileId, reason: str) -> None:
        """Record that a file will not come (`upload.aborted`)."""

    async def seal_submission(self, submission_id: SubmissionId) -> None:
        """Record that no more files will come (`submission.sealed`); a sealed one stays as it is."""

    # changes: jobs and attempts

    async def start_attempt(self, job_id: JobId, host: str) -> AttemptOrder | None:
        """Guarded transition of a queued job to running (`attempt.started`); None if it is not queued any more."""

    async def end_attempt(
        self, job_id: JobId, number: int, outcome: AttemptOutcome, retry: RetryPolicy | None = None
    ) -> JobState | None:
        """Record an attempt's end and settle its job, or put it back in line as the retry policy says.

        Returns:
            What the job is now; None, and no change, if `number` is not the running attempt.
        """

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        """Record that an attempt's process vanished (`attempt.lost`).

        Returns:
            `queued` if the job goes back in line; `failed` (error type `lost`) once `max_attempts` attempts of the
            job were lost since it was last asked for; None, and no change, if `number` is not the running attempt.
        """

    async def cancel_queued(self, job_id: JobId) -> bool:
        """Settle a queued job as cancelled; False if it is not queued (ask the executor to cancel a running one)."""

    async def retry_job(self, job_id: JobId) -> QueuedJob:
        """Put a settled job back in line with the newest config revision; returns it as it waits now.

        Raises:
            Removed: its file's bytes are no longer kept.
        """

    async def retry_failed(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        """Put the next `limit` failed or cancelled jobs of a submission back in line; a call is one transaction.

        Raises:
            Removed: the submission's bytes are no longer kept.
        """

    async def cancel_waiting(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        """Settle the next `limit` queued jobs of a submission as cancelled; a call is one transaction."""

    async def recover(self, max_attempts: int, reason: str) -> "Recovery":
        """Settle what an earlier process left: uploads aborted for `reason`, submissions sealed, attempts lost."""

    # changes: what is kept

    async def begin_removal(self, submission_id: SubmissionId, settled_at: datetime) -> bool:
        """Record that a submission's bytes are removed; from then on none of its jobs can be retried.

        Returns:
            False, and no change, unless it has been settled since `settled_at` and its bytes are kept.
        """

    async def end_removal(self, submission_id: SubmissionId) -> None:
        """Record that the bytes are gone."""

    async def remove_events(self, *, before: datetime, up_to: Cursor, limit: int) -> int:
        """Remove at most `limit` of the oldest events, of before a time and not behind a cursor; returns how many.

        The newest event stays, whatever its age, so that cursors go on where they are.
        """

    # changes: the webhook

    async def end_delivery(self, submission_id: SubmissionId, number: int) -> None:
        """Forget a delivery: it was made, or is given up."""

    async def postpone_delivery(self, submission_id: SubmissionId, number: int, due_at: datetime) -> None:
        """Record that a call was made in vain, and when the next one may be."""

    # changes: config

    async def save_revision(
        self,
        text: bytes,
        *,
        base: Sha256 | None,
        client: ClientIdentity | None,
        account: str | None,
        message: str | None,
        found_at: ConfigLocation | None = None,
    ) -> ConfigRevision:
        """Append a revision (`config.saved`) if the newest one still has the SHA-256 `base` (None: there is none).

        The text of one of the oldest may go for it, as if it were purged, but without an event.

        Args:
            found_at: the file in which the text was found, which is recorded with it; None for a text that was sent.

        Raises:
            ConfigConflict: the newest revision is another.
            Unavailable: the server edits another file than `found_at` by now.
        """

    async def use_config_file(self, location: ConfigLocation) -> None:
        """Record that the server edits this file from now on. For the server alone, at its start.

        Entries of servers that are gone are forgotten. The revision that the last of them recorded passes to this
        file, which may be the same under another name.
        """

    async def record_in_file(self, location: ConfigLocation, number: int) -> None:
        """Record that a file holds this revision.

        Changes nothing if a later one was recorded, or if the server edits another file by now.

        Raises:
            NotFound: there is no such revision.
        """

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        """Record that a text was refused (`config.rejected`)."""

    async def purge_revision(self, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
        """Remove a text from the history, beyond recovery as far as the database reaches (`config.purged`).

        The revisions that held it stay, without it. Twice is no error, and records nothing the second time.

        Raises:
            NotFound: there is no such revision.
            RevisionInUse: it is the newest, or jobs that wait or run are bound to it.
            Unavailable: it is removed, but the database's files could not be cleaned now; purge it again.
        """

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

    async def result(self, job_id: JobId, path: str, attempt: int | None) -> Result:
        """What an attempt left under exactly this path; `attempt` None is the job's newest.

        Raises:
            NotFound: nothing, or there is no such job or attempt.
        """

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

    async def upload(self, file_id: FileId) -> ResumableUpload:
        """One upload, whatever became of it."""

    async def announced_upload(self, submission_id: SubmissionId, path: str) -> ResumableUpload | None:
        """The announced file of a submission that has this path, or else this name; None if there is none."""

    async def holding(self, submission_id: SubmissionId) -> Holding:
        """What a submission holds."""

    async def unfinished_uploads(self) -> Sequence[ResumableUpload]:
        """Every resumable upload that is neither stored nor aborted."""

    async def form_uploads(self) -> FormUploads:
        """Every file and submission that a request is bringing now, or that a request left unsettled."""

    async def expired_uploads(self, now: datetime, *, limit: int) -> Sequence[ResumableUpload]:
        """Some of those whose time is over."""

    async def stale_submissions(self, before: datetime, *, limit: int) -> Sequence[SubmissionId]:
        """Some of the submissions that were opened for files to come, and that since `before` none came for."""

    async def known_blobs(self, keys: Collection[str]) -> Collection[str]:
        """Those of the keys that belong to a stored file or to a result."""

    async def queued_jobs(self) -> Sequence[QueuedJob]:
        """Every queued job, in the order in which they were queued."""

    async def running_jobs(self, submission_id: SubmissionId) -> Sequence[JobId]:
        """The running jobs of a submission."""

    async def removable(
        self, *, before: datetime | None, keep_bytes: int | None, limit: int
    ) -> Sequence[tuple[SubmissionId, datetime]]:
        """Settled submissions whose bytes should go, oldest first, with when they settled.

        Args:
            before: those that settled until then; None: none because of its age.
            keep_bytes: as many of the oldest as it takes until no more than this is kept; None: none because of it.
            limit: most submissions wanted.
        """

    async def removals(self, limit: int) -> Sequence[KeptBytes]:
        """What is still to be deleted after `begin_removal`."""

    async def deliveries(self, limit: int) -> Sequence[Delivery]:
        """The next calls of the webhook, by when they are due; of each submission only the one whose turn it is."""

    async def events(self, topic: str, *, after: Cursor, limit: int) -> EventPage:
        """Events of a topic behind a cursor."""

    async def newest_cursor(self) -> Cursor:
        """The cursor of the newest event; 0 if there is none."""

    async def config_files(self) -> Sequence[ConfigLocation]:
        """The files that servers edit, one for each host; none before the first start."""

    async def config_position(self, location: ConfigLocation) -> "ConfigPosition":
        """The newest revision, and which one a file was last recorded to hold."""

    async def newest_revision(self) -> ConfigRevision | None:
        """The config as it is; None before the first one."""

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        """The config's history, newest first."""

    async def revision_text(self, sha256: Sha256) -> bytes:
        """A revision's exact bytes.

        Raises:
            Removed: they were purged, and not saved again since.
        """


class ConfigPosition(NamedTuple):
    """How far a config file has come.

    Attributes:
        newest: the config as it is; None before the first revision.
        in_file: number of the revision that the file was last recorded to hold; None if none was.
    """

    newest: ConfigRevision | None
    in_file: int | None


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


DELIVERIES = "deliveries"
"""The stream that moves when the webhook has something to tell. Not for subscribers outside."""


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

    def submit(self, job_id: JobId, submission_id: SubmissionId, not_before: datetime | None = None) -> None:
        """Put a job in line. Twice is harmless: the ledger's guarded transition lets one of them lose.

        Args:
            job_id: which.
            submission_id: whose; submissions take turns.
            not_before: when it may be picked up; None: at once.
        """

    def withdraw(self, job_id: JobId) -> None:
        """Take a job out of line that does not wait any more; none is no error."""

    def cancel(self, job_id: JobId) -> bool:
        """Ask for a job's running attempt to be ended; False if none runs here. The attempt's event is the answer."""

    def position(self, job_id: JobId) -> int | None:
        """Estimated place in line, 1 being next; None if it does not wait here, or waits for its time to come."""

    async def drain(self, grace_s: float) -> None:
        """Pick up nothing more, let running attempts end within `grace_s`, then end their processes."""
