"""Uploads: files whose bytes are still to come, or are coming. `visible_to` is an owner, as in `history`."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import OPEN, FileId, Fingerprint, JobId, Owner, Sha256, SubmissionId
from dropmill.model.uploads import AbortCause, StoredBlob, UploadState


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumableUpload:
    """A file that was announced, and whose bytes may come in several requests.

    Attributes:
        size: of the whole file; None while it is not known (tus `creation-defer-length`).
        received: bytes that were on disk when that was last recorded; the blob store has the current number.
        partial: key of the growing blob; None once stored or aborted.
        metadata: as the client sent it (tus `Upload-Metadata`).
        expected_sha256: what the whole file must have; None if the client did not say.
        expires_at: when it expires unless bytes come; None for a file that comes in one piece.
        ip: of the client that opened the submission.
        fence: of the newest turn that a node took at it; 0 before the first.
        fingerprint: by which its client knows it again; None if the client gave none.
        is_elsewhere: whether another node that is recorded, and so may be alive, has the turn.
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
    fingerprint: Fingerprint | None = None
    is_elsewhere: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class AwaitedFile:
    """A file of an open submission that was announced, and that nobody has begun to send.

    Attributes:
        path: what the client calls it, with its folders. Text, never a path.
        size: in bytes; None if the client did not say.
        expected_sha256: what the whole file must have; None if the client did not say.
    """

    file_id: FileId
    path: str
    size: int | None
    expected_sha256: Sha256 | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeFile:
    """A file whose bytes are durable before the ledger has heard that they began to arrive.

    Attributes:
        name: what the client calls it, last part only; of an announced file the ledger's counts.
        path: what the client calls it, as given; of an announced file the ledger's counts.
        is_announced: whether the ledger has the file as announced; otherwise it is new.
    """

    file_id: FileId
    submission_id: SubmissionId
    name: str
    path: str
    blob: StoredBlob
    job_id: JobId
    is_announced: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionUsage:
    """What a submission holds, or will: its files that are not aborted.

    Attributes:
        files: how many.
        announced: how many of them are still announced.
        size: bytes of them all; for a file of unknown size, the bytes received so far.
    """

    files: int = 0
    announced: int = 0
    size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class FormUploads:
    """Work that only the request that began it can finish.

    Attributes:
        files: those that arrive in one piece, not resumable.
        submissions: those that are open until their one request ends.
    """

    files: Set[FileId]
    submissions: Set[SubmissionId]


class UploadLedger(Protocol):
    """Records each upload from its announcement to its end.

    A file counts in its owner's quota from here on, with its size, or while that is unknown with the bytes that were
    recorded of it. `QuotaExceeded` means that it would be over a limit, and that nothing was changed.
    """

    async def start_upload(
        self, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
    ) -> None:
        """Record that a file's bytes begin to arrive (`upload.started`).

        Raises:
            QuotaExceeded: see above.
        """

    async def announce_uploads(self, uploads: Sequence[ResumableUpload]) -> None:
        """Record files that will come to an open submission; all of them or none.

        Raises:
            QuotaExceeded: see above.
        """

    async def open_for_upload(
        self, upload: ResumableUpload, client: ClientIdentity, account: str | None, *, owner: Owner = OPEN
    ) -> None:
        """Open an owner's submission for one announced file and seal it, so that it settles with that file's job.

        Raises:
            QuotaExceeded, TooManySubmissions: see above, and `SubmissionLedger.open_submission`.
        """

    async def begin_upload(self, file_id: FileId) -> None:
        """Record that an announced file begins to arrive in one piece (`upload.started`).

        The file is stored or aborted with this request; it is no longer resumable.
        """

    async def take_upload(self, file_id: FileId) -> int:
        """Take the turn at a resumable upload for this node (`upload.started`, if it is the first).

        Returns:
            The fence: it rises whenever another node takes the turn.
        """

    async def extend_upload(
        self, file_id: FileId, *, size: int | None, received: int, expires_at: datetime | None, fence: int
    ) -> None:
        """Record the offset of a resumable upload; changes nothing once it has ended. No event.

        An offset is recorded whatever the quota, because the bytes are there; a size that is given now is not.

        Args:
            size: of the whole file; None if unknown.
            received: bytes on disk.
            expires_at: when it expires unless more bytes come.
            fence: of the turn in which these bytes came.

        Raises:
            UploadTaken: another node has taken the turn since.
            QuotaExceeded: the size was not known before; see above.
        """

    async def hold_upload(self, file_id: FileId, received: int, *, is_kept: bool = True) -> int | None:
        """Record how much has come of a file that is arriving, if its size is unknown. No event.

        Args:
            received: bytes that came, on disk or not.
            is_kept: whether they stay if this process ends now; otherwise nothing is recorded.

        Returns:
            How many more bytes may come; None: any number. Other uploads of the owner may take them meanwhile.

        Raises:
            QuotaExceeded: see above.
        """

    async def store_upload(self, file_id: FileId, blob: StoredBlob, job_id: JobId, *, fence: int | None = None) -> None:
        """Record a file's bytes as durable and queue its job (`upload.stored`, `job.queued`).

        Args:
            fence: of the turn in which its last byte came; None for a file that came in one piece.

        Raises:
            UploadTaken: another node has taken the turn since.
            QuotaExceeded: see above.
        """

    async def store_files(self, files: Sequence[WholeFile]) -> None:
        """Record files as begun and stored and queue their jobs, in their order; all of them or none.

        Each file has the same events as by `start_upload` or `begin_upload`, and then `store_upload`.

        Raises:
            SubmissionSealed: no new file may come to a file's submission.
            IllegalTransition: an announced file has begun in another request, or has ended.
            QuotaExceeded: see above.
        """

    async def abort_upload(self, file_id: FileId, cause: AbortCause, reason: str, *, fence: int | None = None) -> None:
        """Record that a file will not come (`upload.aborted`).

        One that was aborted before because it broke off gets the new cause if its client gives it up now, while its
        submission is open. One that is stored already as a later file of the submission, with the same path and the
        same size (where both are known), is aborted as replaced. Storing a file makes the same of those aborted before.

        Args:
            cause: why, for programs.
            reason: why, for people.
            fence: of the turn in which it was given up; None if that needs no turn.

        Raises:
            UploadTaken: another node has taken the turn since.
            IllegalTransition: it is stored, or was aborted before for another reason or in a sealed submission.
        """

    async def upload(self, file_id: FileId, *, visible_to: Owner | None = None) -> ResumableUpload:
        """One upload, whatever its state."""

    async def announced_upload(
        self, submission_id: SubmissionId, path: str, *, visible_to: Owner | None = None
    ) -> AwaitedFile | None:
        """The announced file of a submission that has this path, or else this name; None if there is none."""

    async def awaited_files(
        self, submission_id: SubmissionId, first: FileId, *, ahead: int, visible_to: Owner | None = None
    ) -> Sequence[AwaitedFile]:
        """Files of a submission that are still announced, in the order in which they were: `first`, and some after it.

        Args:
            submission_id: whose files.
            first: one of them; it is left out if it is not announced any more.
            ahead: how many after it at most. Fewer come if other submissions were filled meanwhile.

        Raises:
            NotFound: the submission has no file `first`.
        """

    async def submission_usage(
        self, submission_id: SubmissionId, *, visible_to: Owner | None = None
    ) -> SubmissionUsage:
        """What a submission holds."""

    async def unfinished_uploads(self) -> Sequence[ResumableUpload]:
        """Every resumable upload that is neither stored nor aborted."""

    async def form_uploads(self) -> FormUploads:
        """The files and submissions of this node's requests that are under way, or that failed to clean up."""

    async def expired_uploads(self, now: datetime, *, limit: int) -> Sequence[ResumableUpload]:
        """Some of the uploads with an `expires_at` before `now`, but of those that no other recorded node has."""

    async def needed_blobs(self, keys: Collection[str]) -> Collection[str]:
        """Those of the keys whose bytes nobody may remove.

        These belong to a stored file, a growing upload or a result, also once it was removed; or a recorded node has
        made them, which may have written them and not recorded them yet. A node that is not recorded records nothing.
        """

    async def live_blobs(self, keys: Collection[str]) -> Collection[str]:
        """Those of the keys whose bytes must be there: of stored files that were not removed."""
