"""Resumable uploads: bytes of one file in several requests, as tus 1.0.0 has them (https://tus.io/protocols/resumable-upload).

What is here is the protocol's meaning; its headers are `dropmill.web.api.uploads`' business. An offset that was
answered is on disk: it survives this process, though not a power cut. One writer an upload: who comes second asks
the first to let go, so that a dead connection never holds a file.
"""

import asyncio
import base64
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dropmill.health import Health
from dropmill.intake.gate import Gate, Meter
from dropmill.intake.intake import PROGRESS_EVERY_S, SWEEP_EVERY_S, SWEEP_MAX, Intake
from dropmill.intake.multipart import base_name, client_path, stored_extension
from dropmill.model.caller import Caller
from dropmill.model.clock import Clock, utc_now
from dropmill.model.errors import (
    BadRequest,
    BytesLost,
    ChecksumMismatch,
    DigestMismatch,
    DropmillError,
    IllegalTransition,
    NotFound,
    OffsetMismatch,
    OutOfSpace,
    StorageUnavailable,
    TooLarge,
    Unavailable,
    UploadGone,
    UploadTaken,
)
from dropmill.model.ids import FileId, Sha256, SubmissionId, new_file_id, new_submission_id
from dropmill.model.internal import AnyCaller, Internal
from dropmill.model.jobs import Progress
from dropmill.model.uploads import UploadState
from dropmill.ports.blobs import BlobStore, BlobWriter
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.uploads import ResumableUpload, SubmissionUsage, UploadLedger

log = logging.getLogger(__name__)

CHECKSUMS = ("sha1", "sha256")
METADATA_MAX = 8 * 1024  # characters of one Upload-Metadata header
METADATA_KEYS_MAX = 100
METADATA_READ = frozenset({"filename", "relativePath", "submission", "sha256"})
SIZE_MAX = 2**63 - 1
ANNOUNCED_MAX = 1000  # files of one announcement

WRITERS_KEPT = 1000
"""Uploads between two requests whose writer is kept, with the state of their hash (some 2 KiB each). One that is not
kept is read again from its beginning when it goes on."""

FINISH_WAIT_S = 10.0
"""How long the last request of an upload waits for its file to be stored. It is stored at once unless the hash of an
earlier process's bytes is still being made; then the answer goes out, and the job follows."""

DRAIN_WAIT_S = 2.0  # how long a stopping server waits for files that have come whole; the next start finishes the rest
NOTE_EVERY_S = 60.0  # an upload that is being sent is told to live on, in case this process dies under it


@dataclass(frozen=True, kw_only=True, slots=True)
class Checksum:
    """What a chunk must have: `algorithm` of `CHECKSUMS`, and the raw digest."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadPosition:
    """An upload and how far it is: `offset` bytes are on disk."""

    upload: ResumableUpload
    offset: int


@dataclass(kw_only=True, slots=True)
class _Patch:
    """What one request brings to an upload."""

    chunks: AsyncIterator[bytes]
    offset: int
    size: int | None
    content_length: int | None
    checksum: Checksum | None
    reading: asyncio.Task[None] | None = None
    is_given_up: bool = False

    def give_up(self) -> None:
        """Have it read no further. What has come is settled by whoever reads it, who is not cancelled."""
        self.is_given_up = True
        if self.reading is not None:
            self.reading.cancel()


@dataclass(slots=True)
class _Live:
    """What this process holds of one upload; `users` have its turn or wait for it."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    writer: BlobWriter | None = None
    fence: int = 0  # of the newest turn that this process took; 0 before the first
    patch: _Patch | None = None
    finishing: asyncio.Task[None] | None = None


class Uploads:
    """Creates, extends, finishes and ends resumable uploads."""

    def __init__(
        self,
        *,
        ledger: UploadLedger,
        blobs: BlobStore,
        bus: Bus,
        intake: Intake,
        gate: Gate,
        expiry_s: float,
        clock: Clock,
        health: Health,
    ) -> None:
        """Keep the ports.

        Args:
            expiry_s: seconds without a byte after which an unfinished upload is removed.
            clock: tells ages.
            health: shows whether expired uploads can be removed.
        """
        self._clock = clock
        self._health = health
        self._ledger = ledger
        self._blobs = blobs
        self._bus = bus
        self._intake = intake
        self._gate = gate
        self._expiry = timedelta(seconds=expiry_s)
        self._live: dict[FileId, _Live] = {}
        self._appending: set[asyncio.Task[int]] = set()
        self._to_finish: set[FileId] = set()  # whole, but the disk or the ledger failed

    # --- life --------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Finish uploads whose last byte had come when an earlier process ended."""
        for upload in await self._ledger.unfinished_uploads():
            if upload.size and upload.state is UploadState.ANNOUNCED:
                continue  # no byte of it has come
            with contextlib.suppress(UploadGone):
                async with self._turn(upload.file_id) as live:
                    await self._finish_if_whole(live, upload, await self._writer(live, upload))

    async def run(self) -> None:
        """End uploads whose time is over, finish what could not be; for the app's own care, until cancelled."""
        while True:
            await asyncio.sleep(min(SWEEP_EVERY_S, self._expiry.total_seconds()))
            await self._health.insist("uploads", self._end_expired)
            for file_id in tuple(self._to_finish):
                await self._poll(file_id)

    async def _end_expired(self) -> None:
        for upload in await self._ledger.expired_uploads(self._expired_by_now(), limit=SWEEP_MAX):
            live = self._live.get(upload.file_id)
            if live is None or not (live.users or live.finishing):
                await self._poll(upload.file_id)

    def _expired_by_now(self) -> datetime:
        """What an `expires_at` must lie before to be over: the time now, unless the clock was stepped."""
        return self._clock.ago(self._expiry.total_seconds()) + self._expiry

    async def _poll(self, file_id: FileId) -> None:
        """Do what is due for an upload; what cannot be done now stays due."""
        try:
            await self.find(Internal.SERVER, file_id)
        except (NotFound, UploadGone):
            self._to_finish.discard(file_id)
        except (DropmillError, OSError) as error:
            log.debug("The upload %s is tried again: %s", file_id, error)

    async def drain(self) -> None:
        """Let go of every request; what has come stays, to go on from."""
        for live in self._live.values():
            if live.patch is not None:
                live.patch.give_up()
        if self._appending:
            await asyncio.wait(self._appending, timeout=DRAIN_WAIT_S)
        finishing = [live.finishing for live in self._live.values() if live.finishing is not None]
        if finishing:
            _, late = await asyncio.wait(finishing, timeout=DRAIN_WAIT_S)
            for one in late:
                one.cancel()  # it reads what an earlier process took; the next start finishes it
        rest = [*finishing, *self._appending]
        if rest:
            await asyncio.wait(rest)

    # --- beginning ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        caller: Caller,
        *,
        size: int | None,
        metadata: str,
        content_length: int | None = None,
        expected_sha256: Sha256 | None = None,
    ) -> ResumableUpload:
        """Begin an upload; an empty file is finished at once.

        Args:
            caller: who sends; a submission of its own is theirs.
            size: of the whole file; None to tell it later.
            metadata: the `Upload-Metadata` header, "" if absent. Its `submission` joins that open one; otherwise the
                upload gets a submission of its own, sealed at once.
            content_length: of the first bytes that come with the request.
            expected_sha256: what the whole file must have; None if only the metadata may say.

        Raises:
            BadRequest: the metadata cannot be read, or names another SHA-256.
            FileTooLarge, TooLarge, OutOfSpace: it may not come.
            NotFound, IllegalTransition: the submission it would join is not there, or sealed.
        """
        self._intake.require_running()
        values = parse_metadata(metadata)
        self._gate.check_size(size)
        if size is not None and content_length is not None and content_length > size:
            raise TooLarge("The request brings more bytes than the upload has.")
        joined = values.get("submission")
        expected = _hex_digest(values.get("sha256")) or expected_sha256
        if expected_sha256 not in (None, expected):
            raise BadRequest("Repr-Digest and `sha256` in Upload-Metadata contradict each other.")
        await self._check_submission(joined, 1, size or 0)
        name = values.get("filename") or "upload"
        path = values.get("relativePath")
        upload = self._new(
            caller,
            submission_id=SubmissionId(joined) if joined else new_submission_id(),
            path=client_path(name if path in (None, "", "null") else path),  # null: Uppy's way to have none
            name=client_path(name),
            size=size,
            metadata=metadata,
            expected=expected,
        )
        if joined:
            await self._ledger.announce_uploads([upload])
        else:
            await self._ledger.open_for_upload(upload, caller.client, caller.account, owner=caller.owner)
            self._intake.identify(upload.submission_id, caller.client.ip)
        if size == 0:
            await self._finish_empty(upload)
        return upload

    async def announce(self, caller: Caller, submission_id: SubmissionId, files: object) -> Sequence[ResumableUpload]:
        """Begin an upload for each of the files that a client names: `[{"name", "size", "path"?, "type"?}]`.

        Raises:
            BadRequest: the list is not of that form.
            FileTooLarge, TooManyFiles, TooLarge, OutOfSpace: one may not come; none is begun.
            IllegalTransition: the submission is sealed.
        """
        announced = self.check_announcement(caller, files)
        uploads = [
            self._new(
                caller,
                submission_id=submission_id,
                path=path,
                name=name,
                size=size,
                metadata=_metadata_of(name, path, submission_id),
                expected=None,
            )
            for name, path, size in announced
        ]
        await self._check_submission(submission_id, len(uploads), sum(upload.size or 0 for upload in uploads))
        if uploads:
            await self._ledger.announce_uploads(uploads)
        for upload in uploads:
            if upload.size == 0:
                await self._finish_empty(upload)
        return uploads

    def check_announcement(self, caller: Caller, files: object) -> Sequence[tuple[str, str, int]]:
        """Refuse an announcement that `announce` would, before anything is opened for it.

        Returns:
            Name, path and size in bytes of each file.

        Raises:
            BadRequest, FileTooLarge: see `announce`.
        """
        announced = _announcements(files)
        for _, _, size in announced:
            self._gate.check_size(size)
        return announced

    async def _check_submission(self, joined: str | None, files: int, size: int) -> None:
        held = SubmissionUsage()
        if joined is not None and self._gate.limits.are_for_submissions:
            held = await self._ledger.submission_usage(SubmissionId(joined))
        self._gate.check_submission(SubmissionUsage(files=held.files + files, size=held.size + size))
        await self._gate.check_room(size)

    async def _finish_empty(self, upload: ResumableUpload) -> None:
        async with self._turn(upload.file_id) as live:
            await self._finish_if_whole(live, upload, await self._writer(live, upload))
        await self._wait_finished(live)

    def _new(
        self,
        caller: Caller,
        *,
        submission_id: SubmissionId,
        path: str,
        name: str,
        size: int | None,
        metadata: str,
        expected: Sha256 | None,
    ) -> ResumableUpload:
        return ResumableUpload(
            file_id=new_file_id(),
            submission_id=submission_id,
            name=base_name(name),
            path=path,
            state=UploadState.ANNOUNCED,
            size=size,
            received=0,
            partial=self._blobs.create(stored_extension(name)).key,
            metadata=metadata,
            expected_sha256=expected,
            expires_at=utc_now() + self._expiry,
            ip=caller.client.ip,
            account=caller.account,
        )

    # --- going on ----------------------------------------------------------------------------------------------------

    async def find(self, caller: AnyCaller, file_id: FileId) -> UploadPosition:
        """An upload and where it stands. A request that is sending it is asked to let go, so that this stays true.

        Raises:
            NotFound: there is none.
            UploadGone: it was ended.
        """
        async with self._turn(file_id) as live:
            upload = await self._living(caller, live, file_id)
            if upload.state is UploadState.STORED or live.finishing is not None:
                if upload.state is UploadState.STORED:
                    self._to_finish.discard(file_id)
                return UploadPosition(upload=upload, offset=upload.size or 0)
            writer = await self._writer(live, upload)
            await self._finish_if_whole(live, upload, writer)
            offset = writer.size
        await self._wait_finished(live)
        return UploadPosition(upload=upload, offset=offset)

    async def append(
        self,
        caller: Caller,
        file_id: FileId,
        chunks: AsyncIterator[bytes],
        *,
        offset: int,
        size: int | None = None,
        content_length: int | None = None,
        checksum: Checksum | None = None,
    ) -> UploadPosition:
        """Take the bytes from `offset` on; returns where the upload stands then.

        Args:
            caller: who sends them.
            file_id: whose.
            chunks: the bytes. Taken only as fast as the disk takes them.
            offset: where they begin; must be where the upload stands.
            size: of the whole file, if it was to be told later and is told now.
            content_length: how many bytes will come; None if unknown.
            checksum: what they must have together; they count only if all of them came and match.

        Raises:
            NotFound, UploadGone: there is no such upload, or no more.
            OffsetMismatch: it stands elsewhere.
            ChecksumMismatch: the chunk was dropped.
            FileTooLarge, TooLarge, OutOfSpace, RequestTooSlow: what had come before stays, without a checksum.
            DigestMismatch: the whole file is not what was expected; nothing is kept.

        Cancelling, as a client does that leaves, keeps what has come, without a checksum.
        """
        self._intake.require_running()
        patch = _Patch(chunks=chunks, offset=offset, size=size, content_length=content_length, checksum=checksum)
        appending = asyncio.create_task(self._append(caller, file_id, patch), name=f"upload {file_id}")
        self._appending.add(appending)
        appending.add_done_callback(self._has_appended)
        try:
            reached = await asyncio.shield(appending)
        except asyncio.CancelledError:
            patch.give_up()
            raise
        return UploadPosition(upload=await self._ledger.upload(file_id), offset=reached)

    def _has_appended(self, appending: "asyncio.Task[int]") -> None:
        self._appending.discard(appending)
        if not appending.cancelled():
            appending.exception()  # seen, though the client that would be told may have left

    async def _append(self, caller: Caller, file_id: FileId, patch: _Patch) -> int:
        # Counted inside the turn: a dead connection, once it has let go, does not count against its successor.
        async with self._turn(file_id, patch) as live:
            with self._gate.admit(caller.client.ip):
                upload = await self._living(caller, live, file_id)
                if upload.state is UploadState.STORED or live.finishing is not None:
                    raise IllegalTransition("The upload has come whole; there is nothing to add.")
                upload = await self._take_over(live, upload)
                writer = await self._writer(live, upload)
                if patch.offset != writer.size:
                    raise OffsetMismatch(
                        f"The upload stands at byte {writer.size}, not {patch.offset}.", offset=writer.size
                    )
                meter = await self._meter(upload, writer)
                upload = self._with_size(upload, patch.size, writer.size)
                brought = patch.content_length or 0
                if upload.size is not None and patch.offset + brought > upload.size:
                    raise TooLarge("The request brings more bytes than the upload has left.")
                await self._gate.check_room(brought)
                upload = await self._take_turn(live, upload)
                try:
                    await self._take(upload, writer, patch, meter)
                except BytesLost as error:
                    raise await self._gone(live, upload) from error
                except (OutOfSpace, StorageUnavailable, OSError):
                    live.writer = None  # the disk did not take all it was given: look again where the upload stands
                    raise
                finally:
                    if live.writer is not None:
                        if writer.size == upload.size:
                            self._to_finish.add(file_id)  # until it is stored, whatever fails from here on
                        await self._note(upload, writer, patch.offset)
                        await self._finish_if_whole(live, upload, writer)
        await self._wait_finished(live)
        return writer.size

    def _with_size(self, upload: ResumableUpload, size: int | None, received: int) -> ResumableUpload:
        if size is None or size == upload.size:
            return upload
        if upload.size is not None:
            raise BadRequest("The upload's size was told before, and was another.")
        if size < received:
            raise BadRequest(f"The upload has {received} bytes already; it cannot have {size} in all.")
        self._gate.check_size(size)
        return replace(upload, size=size)

    async def _meter(self, upload: ResumableUpload, writer: BlobWriter) -> Meter:
        held = 0
        if self._gate.limits.are_for_submissions:
            own = upload.received if upload.size is None else upload.size
            held = (await self._ledger.submission_usage(upload.submission_id)).size - own + writer.size
        return self._gate.meter(SubmissionUsage(size=held))

    async def _take(self, upload: ResumableUpload, writer: BlobWriter, patch: _Patch, meter: Meter) -> None:
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
                raise ChecksumMismatch("The chunk's bytes are not what its checksum tells; send it again.")
        except BaseException:
            await writer.drop_chunk()
            raise
        await writer.keep_chunk()

    async def _read(
        self,
        upload: ResumableUpload,
        writer: BlobWriter,
        patch: _Patch,
        meter: Meter,
        digest: "hashlib._Hash | None",
    ) -> None:
        """Read in a task of its own, which whoever needs the turn may cancel: the rest of us goes on to settle."""
        self._intake.require_running()
        patch.reading = asyncio.create_task(self._write(upload, writer, patch, meter, digest))
        if patch.is_given_up:
            patch.reading.cancel()
        try:
            await asyncio.shield(patch.reading)
        except asyncio.CancelledError:
            raise Unavailable("The upload was taken over by another request, or the server is stopping.") from None

    async def _write(
        self,
        upload: ResumableUpload,
        writer: BlobWriter,
        patch: _Patch,
        meter: Meter,
        digest: "hashlib._Hash | None",
    ) -> None:
        loop = asyncio.get_running_loop()
        report_at, note_at = 0.0, loop.time() + NOTE_EVERY_S
        async for chunk in self._gate.pace(patch.chunks):
            size = writer.size + len(chunk)
            if upload.size is not None and size > upload.size:
                raise TooLarge("The request brings more bytes than the upload has left.")
            await meter.take(size, len(chunk))
            if digest is not None:
                await loop.run_in_executor(None, digest.update, chunk)
            await writer.write(chunk)
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
            if loop.time() >= note_at:
                note_at = loop.time() + NOTE_EVERY_S
                await self._ledger.extend_upload(
                    upload.file_id,
                    size=upload.size,
                    received=patch.offset,
                    expires_at=utc_now() + self._expiry,
                    fence=upload.fence,
                )

    async def _note(self, upload: ResumableUpload, writer: BlobWriter, before: int) -> None:
        """Write down how far it is; only bytes make it live longer."""
        expires_at = utc_now() + self._expiry if writer.size > before else upload.expires_at
        await self._ledger.extend_upload(
            upload.file_id, size=upload.size, received=writer.size, expires_at=expires_at, fence=upload.fence
        )

    async def _take_over(self, live: _Live, upload: ResumableUpload) -> ResumableUpload:
        """The upload as it is once no other process may add to it; from then on its bytes can be looked at."""
        if _has_turn(live, upload) or upload.partial is None:  # a form brings it: then nobody may take a turn
            return upload
        await self._take_turn(live, upload)
        return await self._ledger.upload(upload.file_id)

    async def _take_turn(self, live: _Live, upload: ResumableUpload) -> ResumableUpload:
        """Take the turn from whatever process has it; this one's own requests share one.

        Raises:
            UploadTaken: this process had the turn, or nobody, and another took it since `upload` was read.
        """
        had_turn = _has_turn(live, upload)
        live.fence = await self._ledger.take_upload(upload.file_id)
        if had_turn and live.fence != upload.fence + (upload.state is UploadState.ANNOUNCED):
            live.writer = None
            raise UploadTaken("Another process of the server had this upload meanwhile; ask where it stands.")
        return replace(upload, state=UploadState.RECEIVING, fence=live.fence)

    # --- ending ------------------------------------------------------------------------------------------------------

    def received(self, file_id: FileId) -> int | None:
        """Bytes of a file that have arrived so far; None unless this process has it at hand."""
        live = self._live.get(file_id)
        return None if live is None or live.writer is None else live.writer.size

    async def terminate(self, caller: Caller, file_id: FileId) -> None:
        """End an upload and remove what has come; a request that is sending it is cut off.

        Raises:
            NotFound, UploadGone: there is none, or no more.
            IllegalTransition: it has come whole.
        """
        async with self._turn(file_id) as live:
            upload = await self._living(caller, live, file_id)
            if upload.state is UploadState.STORED or live.finishing is not None:
                raise IllegalTransition("The upload has come whole; it cannot be ended any more.")
            await self._writer(live, upload)
            await self._end(live, upload, "the client ended it")

    async def _living(self, caller: AnyCaller, live: _Live, file_id: FileId) -> ResumableUpload:
        """The upload as the caller finds it, if it has not ended but by being stored; its time is looked at here."""
        upload = await self._ledger.upload(file_id)
        if upload.state is UploadState.ABORTED:
            raise UploadGone("The upload was ended; begin another.")
        if live.finishing is None and not _has_turn(live, upload):
            live.writer = None  # another process may have added to it: look again where it stands
        is_late = upload.expires_at is not None and upload.expires_at < self._expired_by_now()
        if is_late and upload.partial is not None and live.finishing is None:
            writer = await self._writer(live, upload)
            if writer.size != upload.size:
                await self._end(live, upload, "no byte came for too long")
                raise UploadGone("No byte came for too long; begin another upload.")
        return upload

    async def _end(self, live: _Live, upload: ResumableUpload, reason: str) -> None:
        await self._ledger.abort_upload(upload.file_id, reason)
        writer, live.writer = live.writer, None
        if writer is not None:
            await writer.abort()
        elif upload.partial is not None:
            await self._blobs.discard(upload.partial)
        self._bus.forget_progress(upload.file_id)

    async def _gone(self, live: _Live, upload: ResumableUpload) -> UploadGone:
        """End an upload whose bytes are no longer on the disk; what its client is told."""
        await self._end(live, upload, "what had come of it is no longer on the disk")
        return UploadGone("What had come of the upload is no longer on the disk; begin another.")

    async def _finish_if_whole(self, live: _Live, upload: ResumableUpload, writer: BlobWriter) -> None:
        if writer.size != upload.size:
            return
        upload = await self._take_turn(live, upload)  # an empty one begins where it ends
        live.finishing = asyncio.create_task(self._store(upload, writer), name=f"finish {upload.file_id}")
        live.finishing.add_done_callback(lambda finishing: self._has_finished(upload.file_id, finishing))

    async def _store(self, upload: ResumableUpload, writer: BlobWriter) -> None:
        try:
            await self._intake.store(
                upload.file_id, upload.submission_id, writer, upload.expected_sha256, fence=upload.fence
            )
        except (BytesLost, DigestMismatch) as error:
            await writer.abort()
            await self._ledger.abort_upload(upload.file_id, error.detail)
            if isinstance(error, BytesLost):
                raise UploadGone("What had come of the upload is no longer on the disk; begin another.") from error
            raise
        finally:
            self._bus.forget_progress(upload.file_id)

    def _has_finished(self, file_id: FileId, finishing: "asyncio.Task[None]") -> None:
        live = self._live.get(file_id)
        error = None if finishing.cancelled() else finishing.exception()
        self._to_finish.discard(file_id)
        if error is not None and not isinstance(error, DigestMismatch | UploadGone):
            log.warning("The upload %s has come whole but could not be stored yet: %s", file_id, error)
            self._to_finish.add(file_id)
            if live is not None:
                live.finishing = live.writer = None
        if live is not None:
            self._forget_idle(file_id, live)

    async def _wait_finished(self, live: _Live) -> None:
        finishing = live.finishing
        if finishing is None:
            return
        await asyncio.wait([finishing], timeout=FINISH_WAIT_S)
        if finishing.done() and not finishing.cancelled():
            finishing.result()

    # --- turns -------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _turn(self, file_id: FileId, patch: _Patch | None = None) -> AsyncIterator[_Live]:
        """The only one at work on an upload; who is sending it is asked to let go.

        Args:
            file_id: which.
            patch: what will be read meanwhile, which whoever comes next may ask to let go.
        """
        live = self._live.setdefault(file_id, _Live())
        live.users += 1
        try:
            if live.patch is not None:
                live.patch.give_up()
            async with live.turn:
                live.patch = patch
                if patch is not None and live.users > 1:
                    patch.give_up()
                try:
                    yield live
                finally:
                    live.patch = None
        finally:
            live.users -= 1
            self._forget_idle(file_id, live)

    def _forget_idle(self, file_id: FileId, live: _Live) -> None:
        if live.users or (live.finishing is not None and not live.finishing.done()):
            return
        if live.writer is None or live.finishing is not None:
            self._live.pop(file_id, None)
        elif len(self._live) > WRITERS_KEPT:
            idle = next((key for key, other in self._live.items() if not other.users and not other.finishing), None)
            if idle is not None:
                del self._live[idle]

    async def _writer(self, live: _Live, upload: ResumableUpload) -> BlobWriter:
        if live.writer is None:
            if upload.partial is None:
                # As a rule for a moment: a form was cut, and its connection is not known to have ended.
                raise Unavailable("The file is being sent by another request at the moment.")
            try:
                writer = await self._blobs.resume(upload.partial)
            except BytesLost as error:
                raise await self._gone(live, upload) from error
            live.writer = writer
            if upload.received > 0 and writer.size == 0:
                raise await self._gone(live, upload)
        elif live.finishing is None:
            try:
                await live.writer.verify()
            except BytesLost as error:
                raise await self._gone(live, upload) from error
        return live.writer


def _has_turn(live: _Live, upload: ResumableUpload) -> bool:
    """Whether no process but this one has added to an upload, as far as was read."""
    return upload.state is UploadState.ANNOUNCED or upload.fence == live.fence > 0


# --- the wire's texts ------------------------------------------------------------------------------------------------


def parse_metadata(header: str) -> Mapping[str, str]:
    """What an `Upload-Metadata` header says that is read here, as texts by key; a key without a value has "".

    Other keys are the client's own (Uppy sends all it knows of a file): kept with the upload, and not decoded.

    Raises:
        BadRequest: too long, a key twice; one that is read is not base64, or not UTF-8.
    """
    if len(header) > METADATA_MAX:
        raise BadRequest(f"Upload-Metadata is longer than {METADATA_MAX} characters.")
    keys: set[str] = set()
    values: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, encoded = pair.partition(" ")
        if key in keys or len(keys) >= METADATA_KEYS_MAX or not re.fullmatch(r"[!-+\--~]+", key):
            raise BadRequest("Upload-Metadata has a key twice, too many keys, or one that is no key.")
        keys.add(key)
        if key not in METADATA_READ:
            continue
        try:
            values[key] = base64.b64decode(encoded.strip(), validate=True).decode()
        except ValueError:
            raise BadRequest(f"The value of {key!r} in Upload-Metadata is not base64 of UTF-8 text.") from None
    return values


def parse_checksum(header: str) -> Checksum:
    """An `Upload-Checksum` header.

    Raises:
        BadRequest: an algorithm that is not offered, or no digest.
    """
    algorithm, _, encoded = header.strip().partition(" ")
    if algorithm not in CHECKSUMS:
        raise BadRequest(f"Upload-Checksum must name one of {', '.join(CHECKSUMS)}.")
    try:
        digest = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise BadRequest(f"Upload-Checksum must carry a {algorithm} digest in base64.")
    return Checksum(algorithm=algorithm, digest=digest)


def _hex_digest(text: str | None) -> Sha256 | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise BadRequest("`sha256` in Upload-Metadata must be 64 hexadecimal digits.")
    return Sha256(text.lower())


def _announcements(files: object) -> Sequence[tuple[str, str, int]]:
    if not isinstance(files, list) or len(files) > ANNOUNCED_MAX:
        raise BadRequest(f"`files` must be a list of at most {ANNOUNCED_MAX} files.")
    announced = []
    for entry in files:
        match entry:
            case {"name": str() as name, "size": int() as size} if not isinstance(size, bool) and 0 <= size <= SIZE_MAX:
                path = entry.get("path")
                if path is not None and not isinstance(path, str):
                    raise BadRequest("`path` of a file must be text.")
                announced.append((base_name(client_path(name)), client_path(path or name), size))
            case _:
                raise BadRequest("Each of `files` must have a `name` and a `size` in bytes.")
    return announced


def _metadata_of(name: str, path: str, submission_id: SubmissionId) -> str:
    values = {"filename": name, "relativePath": path, "submission": submission_id}
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())
