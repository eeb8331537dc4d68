"""Files whose bytes come in one piece: which are arriving now, how one is stored, and how one is given up."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Set
from dataclasses import dataclass, field
from typing import Any

from dropmill.intake.senders import Sender, Senders
from dropmill.model.errors import DigestMismatch, DropmillError, NotFound
from dropmill.model.ids import FileId, Sha256, SubmissionId, new_job_id
from dropmill.model.uploads import AbortCause, File, StoredBlob, UploadState
from dropmill.ports.blobs import BlobStore, BlobWriter
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
        submission_id: which it joins; perhaps not open yet.
        name: what the client calls it, last part only.
        path: what the client calls it, as given.
        extension: of its blob.
        start: records in the ledger that its bytes begin to arrive; also when it is given up, so that people see it.
        held: its bytes that no writer has, because it may be stored together with others.
        goes_alone_at: when it does, by the event loop's clock, unless its end has come.
        writer: of its blob; None while it is held.
        starting: `start` under way, or done; None until then.
        blob: its bytes, once they are stored together with others; None before, and if it goes alone.
        is_announced: whether the ledger knew of it before.
        is_by_id: whether the form named the announced file by its id.
        is_handed_over: whether the ledger was asked to store the file; it may have done so in spite of an error.
        sender: the request that brings it; None while it is held.
        before: the file before it in the same request; None for the first, and once this one is stored.
        is_placed: set once a held file that follows it may join those that are stored together.
        handed: set once the ledger was asked to store it, or it was given up.
        report_at: when the next progress report is due, by the event loop's clock.
    """

    file_id: FileId
    submission_id: SubmissionId
    name: str
    path: str
    extension: str
    start: Callable[[], Coroutine[Any, Any, None]]
    expected_sha256: Sha256 | None
    goes_alone_at: float
    held: bytearray = field(default_factory=bytearray)
    writer: BlobWriter | None = None
    starting: asyncio.Task[None] | None = None
    blob: StoredBlob | None = None
    is_announced: bool = False
    is_by_id: bool = False
    is_handed_over: bool = False
    sender: Sender | None = None
    before: "Arriving | None" = None
    is_placed: asyncio.Event = field(default_factory=asyncio.Event)
    handed: asyncio.Event = field(default_factory=asyncio.Event)
    report_at: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that have come so far."""
        return len(self.held) + (0 if self.writer is None else self.writer.size)

    @property
    def key(self) -> str | None:
        """Of its blob; None while there is none."""
        if self.writer is not None:
            return self.writer.key
        return None if self.blob is None else self.blob.key

    async def started(self) -> None:
        """Return when the ledger has recorded its start, which begins now if it has not.

        Raises:
            DropmillError: it refused.
        """
        if self.starting is None:
            self.starting = asyncio.create_task(self.start())
        await self.starting


def require_digest(blob: StoredBlob, expected: Sha256 | None) -> None:
    """Return if a blob has the SHA-256 that its client named, if it named one.

    Raises:
        DigestMismatch: it has another.
    """
    if expected is not None and blob.sha256 != expected:
        raise DigestMismatch(f"The bytes that arrived have the SHA-256 {blob.sha256}; send the file again.")


class Arrivals:
    """The files that the requests of this process are bringing."""

    def __init__(
        self, *, ledger: IntakeLedger, blobs: BlobStore, executor: Executor, bus: Bus, senders: Senders
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._executor = executor
        self._bus = bus
        self._senders = senders
        self._arriving: dict[FileId, Arriving] = {}
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
        arriving = self._arriving.get(file_id)
        return None if arriving is None else arriving.size

    def begin(self, arriving: Arriving) -> None:
        """Note a file, before the ledger hears of it."""
        self._requests[arriving.file_id] += 1
        self._arriving[arriving.file_id] = arriving

    def go_alone(self, arriving: Arriving) -> None:
        """Have a held file written and recorded by itself from now on; does nothing for one that is not held."""
        if arriving.writer is not None:
            return
        arriving.writer = self._blobs.create(arriving.extension)
        arriving.sender = self._senders.sender(arriving.file_id)
        arriving.sender.begin(arriving.submission_id)
        # Handed to the ledger now, awaited where the file ends: its commit and the file's fsyncs overlap.
        arriving.starting = asyncio.create_task(arriving.start())

    async def write(self, arriving: Arriving, data: bytes) -> None:
        """Append bytes to a file that goes alone."""
        writer = await self.write_held(arriving)
        await writer.write(data)

    async def write_held(self, arriving: Arriving) -> BlobWriter:
        """Write the bytes that a file had when it began to go alone; returns its writer."""
        if arriving.writer is None:
            raise AssertionError("a file that is held has no writer")
        if arriving.held:
            data = bytes(arriving.held)
            arriving.held.clear()
            await arriving.writer.write(data)
        return arriving.writer

    async def commit_alone(self, arriving: Arriving) -> StoredBlob:
        """Make the bytes of a file that goes alone durable, and wait until the ledger has recorded its start.

        Raises:
            DropmillError: one of the two failed; the caller gives the file up.
        """
        writer = await self.write_held(arriving)
        blob = await self.commit(writer, arriving.expected_sha256)
        await arriving.started()  # after the blob: the ledger's commit and the file's fsyncs overlap
        return blob

    async def commit(self, writer: BlobWriter, expected_sha256: Sha256 | None) -> StoredBlob:
        """Make the bytes of a file durable.

        Raises:
            DigestMismatch: they have another SHA-256 than expected; the caller gives the file up.
        """
        blob = await writer.commit()
        require_digest(blob, expected_sha256)
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
        try:
            file = await self._recorded(arriving)
        except DropmillError:
            if arriving.is_handed_over:
                if len(self._in_doubt) < NOTED_MAX:
                    self._in_doubt[arriving.file_id] = arriving
                else:
                    self._release(arriving)
                return
            file = None
        if file is not None and file.blob is not None and file.blob == arriving.key:
            if file.job is not None and not file.job.state.is_final:
                self._executor.wake()
        else:
            # First: on a full disk this makes the room to record it.
            if arriving.writer is not None:
                await arriving.writer.abort()
            elif arriving.blob is not None:
                await self._blobs.discard(arriving.blob.key)
            if file is not None:
                with contextlib.suppress(DropmillError):
                    await self._ledger.abort_upload(arriving.file_id, cause, reason)
        self._release(arriving)

    async def _recorded(self, arriving: Arriving) -> File | None:
        """The ledger's record of a file that is given up, begun now if it was not; None if there is nothing to abort.

        Raises:
            DropmillError: the ledger cannot say.
        """
        if arriving.starting is None and arriving.is_handed_over:  # its start was part of the same change
            file = None
            with contextlib.suppress(NotFound):
                file = await self._ledger.file(arriving.file_id)
            if file is not None and file.state is not UploadState.ANNOUNCED:
                return file if file.blob == arriving.key else None  # else another request brought it
        try:
            await arriving.started()
        except DropmillError:
            return None
        return await self._ledger.file(arriving.file_id)

    async def settle_doubts(self) -> None:
        """Ask the ledger again about the files that it could not answer for."""
        for file_id, arriving in tuple(self._in_doubt.items()):
            del self._in_doubt[file_id]
            await self.give_up(arriving, AbortCause.SERVER_FAILED, SERVER_FAILED)

    def wake(self) -> None:
        """Have the job of a file that the ledger has stored picked up."""
        self._executor.wake()

    def end_stored(self, arriving: Arriving) -> None:
        """Forget a file that the ledger has stored."""
        self._forget(arriving)
        self._release(arriving)

    def _forget(self, arriving: Arriving) -> None:
        if arriving.sender is not None:
            arriving.sender.end()
        self._arriving.pop(arriving.file_id, None)
        self._bus.forget_progress(arriving.file_id)

    def _release(self, arriving: Arriving) -> None:
        """The ledger knows how the file ended, or the sweep of submissions will record it."""
        self._requests[arriving.file_id] -= 1
        if not self._requests[arriving.file_id]:
            del self._requests[arriving.file_id]
