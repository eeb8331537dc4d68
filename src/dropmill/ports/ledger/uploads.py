"""The bytes of files on their way in. `visible_to` is an owner, as in `history`."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import OPEN, FileId, JobId, Owner, Sha256, SubmissionId
from dropmill.model.uploads import StoredBlob, UploadState


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
        fence: of the newest turn that a node took at it; 0 before the first.
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
    fence: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionUsage:
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
class FormUploads:
    """What only the request that brings it can bring to its end.

    Attributes:
        files: that are arriving as a whole, not resumable.
        submissions: that are open until their one request ends.
    """

    files: Set[FileId]
    submissions: Set[SubmissionId]


class UploadLedger(Protocol):
    """Records what becomes of the bytes of each file."""

    async def start_upload(
        self, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
    ) -> None:
        """Record that a file's bytes begin to arrive (`upload.started`)."""

    async def announce_uploads(self, uploads: Sequence[ResumableUpload]) -> None:
        """Record files that will come to an open submission."""

    async def open_for_upload(
        self, upload: ResumableUpload, client: ClientIdentity, account: str | None, *, owner: Owner = OPEN
    ) -> None:
        """Open an owner's submission for one announced file and seal it, so that it settles with that file's job."""

    async def begin_upload(self, file_id: FileId) -> None:
        """Record that an announced file's bytes begin to arrive as a whole (`upload.started`).

        The file comes or fails with this request; its growing blob is forgotten.
        """

    async def take_upload(self, file_id: FileId) -> int:
        """Take the turn at a resumable upload for this node: its bytes begin to arrive (`upload.started`), or go on.

        Returns:
            The fence: it rises whenever another node takes the turn. Within a node it stays.
        """

    async def extend_upload(
        self, file_id: FileId, *, size: int | None, received: int, expires_at: datetime | None, fence: int
    ) -> None:
        """Note how far a resumable upload is; of one that has ended nothing is changed. No event.

        Args:
            fence: of the turn in which that was found out.

        Raises:
            UploadTaken: another node has taken the turn since.
        """

    async def store_upload(self, file_id: FileId, blob: StoredBlob, job_id: JobId, *, fence: int | None = None) -> None:
        """Record a file's bytes as durable and queue its job (`upload.stored`, `job.queued`).

        Args:
            fence: of the turn in which its last byte came; None for a file that came as a whole.

        Raises:
            UploadTaken: another node has taken the turn since.
        """

    async def abort_upload(self, file_id: FileId, reason: str) -> None:
        """Record that a file will not come (`upload.aborted`)."""

    async def upload(self, file_id: FileId, *, visible_to: Owner | None = None) -> ResumableUpload:
        """One upload, whatever became of it."""

    async def announced_upload(
        self, submission_id: SubmissionId, path: str, *, visible_to: Owner | None = None
    ) -> ResumableUpload | None:
        """The announced file of a submission that has this path, or else this name; None if there is none."""

    async def submission_usage(
        self, submission_id: SubmissionId, *, visible_to: Owner | None = None
    ) -> SubmissionUsage:
        """What a submission holds."""

    async def unfinished_uploads(self) -> Sequence[ResumableUpload]:
        """Every resumable upload that is neither stored nor aborted."""

    async def form_uploads(self) -> FormUploads:
        """Every file and submission that a request to this node is bringing now, or has left unsettled."""

    async def expired_uploads(self, now: datetime, *, limit: int) -> Sequence[ResumableUpload]:
        """Some of those whose time is over."""

    async def known_blobs(self, keys: Collection[str]) -> Collection[str]:
        """Those of the keys that belong to a stored file or to a result."""
