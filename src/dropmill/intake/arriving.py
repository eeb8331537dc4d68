"""Files whose bytes come in one piece: which are arriving now, how one is stored, and how one is given up."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

from dropmill.intake.senders import Sender, Senders
from dropmill.model.errors import DigestMismatch, DropmillError
from dropmill.model.ids import FileId, Sha256, SubmissionId, new_job_id
from dropmill.model.uploads import AbortCause, StoredBlob
from dropmill.ports.blobs import BlobWriter
from dropmill.ports.bus import Bus
from dropmill.ports.executor import Executor
from dropmill.ports.ledger.submissions import IntakeLedger

NOTED_MAX = 1000  # files, and submissions, whose clean-up is tried again; a start finds any others

SERVER_FAILED = "the server could not store it"
"""Why a file was aborted that disk or ledger did not take."""


@dataclass(kw_only=True, slots=True)
class Arriving:
    """A file whose part of a request is being read, or was read and is being stored.

    Attributes:
        starting: records in the ledger that the file's bytes begin to arrive.
        is_by_id: whether the form named the announced file by its id.
        is_handed_over: whether the ledger was asked to store the file; it may have done so in spite of an error.
        sender: the request that brings it; None before `Arrivals.begin`.
        before: the file before it in the same request; None for the first, and once this one is stored.
        handed: set once the ledger was asked to store it, or it was given up.
        report_at: when the next progress report is due, by the event loop's clock.
    """

    file_id: FileId
    path: str
    writer: BlobWriter
    starting: asyncio.Task[None]
    expected_sha256: Sha256 | None
    is_by_id: bool = False
    is_handed_over: bool = False
    sender: Sender | None = None
    before: "Arriving | None" = None
    handed: asyncio.Event = field(default_factory=asyncio.Event)
    report_at: float = 0.0


class Arrivals:
    """The files that the requests of this process are bringing."""

    def __init__(self, *, ledger: IntakeLedger, executor: Executor, bus: Bus, senders: Senders) -> None:
        self._ledger = ledger
        self._executor = executor
        self._bus = bus
        self._senders = senders
        self._writers: dict[FileId, BlobWriter] = {}
        self._requests: Counter[FileId] = Counter()  # by file: two requests may bring the same announced one
        self._in_doubt: dict[FileId, Arriving] = {}

    @property
    def file_ids(self) -> Set[FileId]:
        """Every file that a request is bringing, or of which the ledger does not yet know how it ended."""
        return self._requests.keys()

    @property
    def in_doubt(self) -> int:
        """How many files the ledger may or may not have stored; `settle_doubts` asks it again."""
        return len(self._in_doubt)

    def received(self, file_id: FileId) -> int | None:
        """Bytes of a file that have arrived so far; None unless it is arriving now."""
        writer = self._writers.get(file_id)
        return None if writer is None else writer.size

    def begin(self, arriving: Arriving, submission_id: SubmissionId) -> None:
        """Note a file, before the ledger hears of it."""
        arriving.sender = self._senders.sender(arriving.file_id)
        arriving.sender.begin(submission_id)
        self._requests[arriving.file_id] += 1
        self._writers[arriving.file_id] = arriving.writer

    async def commit(self, writer: BlobWriter, expected_sha256: Sha256 | None) -> StoredBlob:
        """Make the bytes of a file durable.

        Raises:
            DigestMismatch: they have another SHA-256 than expected; the caller gives the file up.
        """
        blob = await writer.commit()
        if expected_sha256 is not None and blob.sha256 != expected_sha256:
            raise DigestMismatch(f"The bytes that arrived have the SHA-256 {blob.sha256}; send the file again.")
        return blob

    async def queue(
        self, file_id: FileId, submission_id: SubmissionId | None, blob: StoredBlob, fence: int | None = None
    ) -> None:
        """Record a file as stored, and queue its job.

        Args:
            fence: of the turn in which its last byte came; None for a file that came in one piece.

        Raises:
            UploadTaken: another process has taken the turn since.
        """
        if submission_id is None:
            raise AssertionError("a file has no submission")
        await self._ledger.store_upload(file_id, blob, new_job_id(), fence=fence)
        self._executor.wake()

    async def give_up(self, arriving: Arriving, cause: AbortCause, reason: str) -> None:
        """Abort a file and remove its bytes, unless the ledger has stored it in spite of an error.

        While the ledger cannot say whether it has, the bytes stay, and `settle_doubts` asks again.

        Args:
            cause: why it is given up, for programs.
            reason: the same for people.
        """
        self._forget(arriving)
        file = None
        with contextlib.suppress(DropmillError):  # if it never started there is nothing to abort
            await arriving.starting
            try:
                file = await self._ledger.file(arriving.file_id)
            except DropmillError:
                if arriving.is_handed_over:
                    if len(self._in_doubt) < NOTED_MAX:
                        self._in_doubt[arriving.file_id] = arriving
                    else:
                        self._release(arriving)
                    return
        if file is not None and file.blob == arriving.writer.key:
            if file.job is not None and not file.job.state.is_final:
                self._executor.wake()
        else:
            await arriving.writer.abort()  # first: on a full disk this makes the room to record it
            if file is not None:
                with contextlib.suppress(DropmillError):
                    await self._ledger.abort_upload(arriving.file_id, cause, reason)
        self._release(arriving)

    async def settle_doubts(self) -> None:
        """Ask the ledger again about the files that it could not answer for."""
        for file_id, arriving in tuple(self._in_doubt.items()):
            del self._in_doubt[file_id]
            await self.give_up(arriving, AbortCause.SERVER_FAILED, SERVER_FAILED)

    def end_stored(self, arriving: Arriving) -> None:
        """Forget a file that the ledger has stored."""
        self._forget(arriving)
        self._release(arriving)

    def _forget(self, arriving: Arriving) -> None:
        if arriving.sender is not None:
            arriving.sender.end()
        self._writers.pop(arriving.file_id, None)
        self._bus.forget_progress(arriving.file_id)

    def _release(self, arriving: Arriving) -> None:
        """The ledger knows how the file ended, or the sweep of submissions will record it."""
        self._requests[arriving.file_id] -= 1
        if not self._requests[arriving.file_id]:
            del self._requests[arriving.file_id]
