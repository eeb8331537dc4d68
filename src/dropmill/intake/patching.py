"""The bytes that one request brings to a resumable upload (tus: PATCH, or a POST that creates it)."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from dropmill.intake.limits import Gate, Meter
from dropmill.intake.loans import Loan, Pieces
from dropmill.intake.receiving import PROGRESS_EVERY_S
from dropmill.intake.tus import Checksum
from dropmill.model.clock import utc_now
from dropmill.model.errors import ChecksumMismatch, TooLarge, Unavailable
from dropmill.model.jobs import Progress
from dropmill.ports.blobs import BlobWriter, Inflow
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.uploads import ResumableUpload, UploadLedger

EXTEND_EVERY_S = 60.0  # while bytes come the expiry is extended, in case this process dies under the request


@dataclass(kw_only=True, slots=True)
class Patch:
    """What one request brings.

    Attributes:
        pieces: the bytes.
        offset: where they begin.
        size: of the whole file, if this request gives it; None if an earlier one did, or the client does not know it.
        content_length: how many bytes will come; None if unknown.
        checksum: what they must have together; None if the client gave none.
        reading: the task that reads them; None before it is started.
        is_given_up: whether another request wants the turn.
    """

    pieces: Pieces
    offset: int
    size: int | None
    content_length: int | None
    checksum: Checksum | None
    reading: asyncio.Task[None] | None = None
    is_given_up: bool = False

    def give_up(self) -> None:
        """Stop the reading. The request that awaits it is not cancelled, and settles what has come."""
        self.is_given_up = True
        if self.reading is not None:
            self.reading.cancel()


class PatchReader:
    """Reads patches into the writers of uploads."""

    def __init__(
        self, *, ledger: UploadLedger, bus: Bus, gate: Gate, expiry: timedelta, require_running: Callable[[], None]
    ) -> None:
        """Keep the ports.

        Args:
            expiry: time without a byte after which an upload expires.
            require_running: raises `Unavailable` once the server is stopping.
        """
        self._ledger = ledger
        self._bus = bus
        self._gate = gate
        self._expiry = expiry
        self._require_running = require_running

    async def take(self, upload: ResumableUpload, writer: BlobWriter, patch: Patch, meter: Meter) -> None:
        """Write a patch, so that it survives this process; with a checksum, all of it or nothing.

        Raises:
            ChecksumMismatch: the bytes do not match the checksum.
            FileTooLarge, TooLarge, QuotaExceeded, OutOfSpace, RequestTooSlow: without a checksum, what came before is
                kept.
            Unavailable: the patch was given up; without a checksum, what came before is kept.
        """
        if patch.checksum is None:
            try:
                await self._read(upload, writer, patch, meter, None)
            finally:
                await writer.pause()
            return
        await writer.begin_chunk()
        digest = hashlib.new(patch.checksum.algorithm, usedforsecurity=False)
        try:
            await self._read(upload, writer, patch, meter, digest)
            if digest.digest() != patch.checksum.digest:
                raise ChecksumMismatch("The bytes do not match Upload-Checksum; send them again.")
        except BaseException:
            await writer.drop_chunk()
            raise
        await writer.keep_chunk()

    async def _read(
        self,
        upload: ResumableUpload,
        writer: BlobWriter,
        patch: Patch,
        meter: Meter,
        digest: "hashlib._Hash | None",
    ) -> None:
        """Read in a task of its own: a request that needs the turn cancels only that task, and the caller settles."""
        self._require_running()
        patch.reading = asyncio.create_task(self._write(upload, writer, patch, meter, digest))
        if patch.is_given_up:
            patch.reading.cancel()
        try:
            await asyncio.shield(patch.reading)
        except asyncio.CancelledError:
            raise Unavailable("Another request continues this upload, or the server is stopping.") from None

    async def _write(
        self,
        upload: ResumableUpload,
        writer: BlobWriter,
        patch: Patch,
        meter: Meter,
        digest: "hashlib._Hash | None",
    ) -> None:
        loop = asyncio.get_running_loop()
        report_at, extend_at = 0.0, loop.time() + EXTEND_EVERY_S
        async for piece in self._gate.pace(patch.pieces):
            if isinstance(piece, Loan):
                await self._borrow(upload, writer, piece, meter, digest)
            else:
                size = writer.size + len(piece)
                if upload.size is not None and size > upload.size:
                    raise too_many_bytes()
                await meter.take(size, len(piece))
                if digest is not None:
                    await loop.run_in_executor(None, digest.update, piece)
                await writer.write(piece)
            if loop.time() >= report_at:
                report_at = loop.time() + PROGRESS_EVERY_S
                self._bus.report(
                    Progress(
                        submission_id=upload.submission_id,
                        file_id=upload.file_id,
                        stage="upload",
                        value=writer.size,
                        total=upload.size,
                    )
                )
            if loop.time() >= extend_at:
                extend_at = loop.time() + EXTEND_EVERY_S
                # Of a file without a size, what came counts in its owner's quota.
                has_counted = upload.size is None and patch.checksum is None
                await self._ledger.extend_upload(
                    upload.file_id,
                    size=upload.size,
                    received=writer.size if has_counted else patch.offset,
                    expires_at=utc_now() + self._expiry,
                    fence=upload.fence,
                )

    async def _borrow(
        self, upload: ResumableUpload, writer: BlobWriter, loan: Loan, meter: Meter, digest: "hashlib._Hash | None"
    ) -> None:
        """Take what a loan brings, as far as the limits and the upload's size allow."""

        async def take(inflow: Inflow) -> int:
            return await writer.take(inflow if digest is None else _HashedInflow(inflow, digest), room)

        while True:
            room = meter.room(writer.size)
            if upload.size is not None:
                room = min(room, upload.size - writer.size)
            if room <= 0 or not (taken := await loan.use(take)):
                return
            await meter.take(writer.size, taken)


class _HashedInflow:
    """An inflow that hashes what passes, for the checksum of a chunk."""

    def __init__(self, inflow: Inflow, digest: "hashlib._Hash") -> None:
        self._inflow = inflow
        self._digest = digest

    def read_into(self, buffer: memoryview) -> int:
        length = self._inflow.read_into(buffer)
        self._digest.update(buffer[:length])
        return length

    def stop(self) -> None:
        self._inflow.stop()


def too_many_bytes() -> TooLarge:
    """The error for a request whose bytes would make the upload longer than its size."""
    return TooLarge("The request has more bytes than the upload still needs.")
