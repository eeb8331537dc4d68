"""Submissions from their opening to their seal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import OPEN, Owner, SubmissionId
from dropmill.model.uploads import AbortCause
from dropmill.ports.ledger.history import FileReader, SubmissionReader, SubmissionView
from dropmill.ports.ledger.quotas import QuotaLedger
from dropmill.ports.ledger.uploads import UploadLedger, WholeFile


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestKey:
    """An `Idempotency-Key`: a repeat of a request shows it, so that the request is carried out once.

    Keys belong to owners: two owners may use the same text.

    Attributes:
        text: as the client gave it.
        fingerprint: what the request says of itself before its body is read, as a SHA-256 in hexadecimal.
    """

    text: str
    fingerprint: str


class SubmissionLedger(Protocol):
    """Opens and seals submissions."""

    async def open_submission(
        self,
        submission_id: SubmissionId,
        client: ClientIdentity,
        account: str | None,
        *,
        is_announced: bool = False,
        key: RequestKey | None = None,
        owner: Owner = OPEN,
    ) -> SubmissionId:
        """Record a new, open submission (`submission.opened`).

        Args:
            submission_id: its id.
            client: who opens it.
            account: who signed in; None without accounts.
            is_announced: whether it outlives the request, and this process, until it is sealed.
            key: what a repeat of the request will show; None if there is none.
            owner: of the submission, and of all its files, jobs and events. A visitor of a link (`sender_of`) owns
                nothing: it is the link's maker's, and the visitor sees it. It counts for the link, as all that comes to
                it does: each change of files refuses what the link's maker does not allow.

        Returns:
            Its id; or, without any change, the id of the submission that the same key opened before, unless that one
            ended without a stored file.

        Raises:
            IdempotencyMismatch: a request with another fingerprint opened that one; nothing is changed.
            QuotaExceeded, TooManySubmissions: the owner may open no other; nothing is changed.
            LinkEnded, LinkUsedUp: it would come by a link that takes no more.
        """

    async def identify_client(
        self, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
    ) -> None:
        """Record what DNS says of the submission's client (`client.identified`); only the first call counts."""

    async def receive_one(
        self, client: ClientIdentity, account: str | None, file: WholeFile, *, owner: Owner = OPEN
    ) -> SubmissionView:
        """Record a new submission with its only file, which is stored, and seal it; by one change.

        The events are those of `open_submission`, `store_files` and `seal_submission`.

        Args:
            client: who sent it.
            account: who signed in; None without accounts.
            file: with the new submission's id.
            owner: as for `open_submission`.

        Returns:
            The submission as this change left it.

        Raises:
            QuotaExceeded, TooManySubmissions: the owner may not send it; nothing is changed.
        """

    async def seal_submission(self, submission_id: SubmissionId, cause: AbortCause = AbortCause.CANCELLED) -> None:
        """Record that no more files will come (`submission.sealed`); a sealed one stays as it is.

        Args:
            submission_id: which one.
            cause: of the files that are still announced, which are aborted: a client that seals gives them up.
        """

    async def stale_submissions(self, before: datetime, *, limit: int) -> Sequence[SubmissionId]:
        """Some of the open announced submissions that no file came to since `before`."""

    async def unsealed_by_links(self, now: datetime, *, limit: int) -> Sequence[SubmissionId]:
        """Some of the open announced submissions that came by links which have ended."""


class IntakeLedger(SubmissionLedger, UploadLedger, SubmissionReader, FileReader, QuotaLedger, Protocol):
    """The changes and reads for receiving submissions, whether their files come in one request or in many."""
