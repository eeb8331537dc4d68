"""Resumable uploads: bytes of one file in several requests, as in tus 1.0.0 (https://tus.io/protocols/resumable-upload).

This module has the protocol's meaning: where an upload is, who may add to it, and when it is finished. `tus` reads the
texts of two headers; all other headers are `dropmill.web.api.uploads`' business. An offset that was answered is on
disk: it survives this process, though not a power cut.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from dropmill.access.policy import visible_to
from dropmill.health import Health
from dropmill.intake.announcement import AnnouncedFile, read_announcement
from dropmill.intake.limits import Gate, Meter
from dropmill.intake.loans import Pieces
from dropmill.intake.multipart import base_name, client_path, stored_extension
from dropmill.intake.patching import Patch, PatchReader, too_many_bytes
from dropmill.intake.senders import Sender
from dropmill.intake.submissions import SWEEP_EVERY_S, SWEEP_MAX, Intake
from dropmill.intake.turns import Live, Turns
from dropmill.intake.tus import Checksum, metadata_of, parse_hex_sha256, parse_metadata
from dropmill.model.caller import Caller
from dropmill.model.clock import Clock, utc_now
from dropmill.model.errors import (
    BadParameter,
    BadRequest,
    BytesLost,
    DigestMismatch,
    DropmillError,
    IllegalTransition,
    LinkEnded,
    NotFound,
    OffsetMismatch,
    OutOfSpace,
    StorageUnavailable,
    Unavailable,
    UploadGone,
    UploadTaken,
)
from dropmill.model.ids import FileId, Fingerprint, Sha256, SubmissionId, new_file_id, new_submission_id
from dropmill.model.internal import AnyCaller, Internal
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.blobs import BlobStore, BlobWriter
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.uploads import ResumableUpload, SubmissionUsage, UploadLedger

log = logging.getLogger(__name__)

FINISH_WAIT_S = 10.0
"""How long the last request of an upload waits until the file is stored. It is stored at once, unless the bytes of an
earlier process are still being hashed; then the answer is sent, and the job follows."""

DRAIN_WAIT_S = 2.0  # how long a stopping server waits for files that are being stored; the next start stores the rest

TERMINATION_REASONS: Mapping[str, str] = {
    AbortCause.CANCELLED.value: "the client terminated it",
    AbortCause.UNREADABLE.value: "the client could not read it any more",
}
"""Why a client terminates an upload, by cause."""

_REFUSED = (DigestMismatch, LinkEnded)
"""Errors of a whole file that will not go away."""

_BYTES_GONE = "The bytes that were received are no longer on the server's disk; start a new upload."


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadPosition:
    """An upload, and its offset: how many of its bytes are on disk."""

    upload: ResumableUpload
    offset: int


class Uploads:
    """Creates, extends, finishes and terminates resumable uploads."""

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
            gate: the limits of uploads.
            expiry_s: seconds without a byte after which an unfinished upload is removed.
            clock: measures ages.
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
        self._turns = Turns()
        self._appending: set[asyncio.Task[int]] = set()
        self._to_finish: set[FileId] = set()  # all bytes came, but the disk or the ledger failed
        self._reader = PatchReader(
            ledger=ledger, bus=bus, gate=gate, expiry=self._expiry, require_running=intake.require_running
        )

    # --- life --------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Finish uploads whose last byte had come before an earlier process ended."""
        for upload in await self._ledger.unfinished_uploads():
            if upload.is_elsewhere or (upload.size and upload.state is UploadState.ANNOUNCED):
                continue  # another process works on it, or no byte of it has come
            with contextlib.suppress(UploadGone):
                async with self._turns.turn(upload.file_id) as live:
                    await self._finish_if_all_came(live, upload, await self._writer(live, upload))

    async def run(self) -> None:
        """Expire uploads, and finish those that could not be finished before, until cancelled."""
        while True:
            await asyncio.sleep(min(SWEEP_EVERY_S, self._expiry.total_seconds()))
            await self._health.insist("uploads", self._expire)
            for file_id in tuple(self._to_finish):
                await self._poll(file_id)

    async def _expire(self) -> None:
        for upload in await self._ledger.expired_uploads(self._expired_by_now(), limit=SWEEP_MAX):
            live = self._turns.get(upload.file_id)
            if live is None or not (live.users or live.finishing):
                await self._poll(upload.file_id)

    def _expired_by_now(self) -> datetime:
        """The time before which an `expires_at` has passed: now, unless the clock was stepped."""
        return self._clock.ago(self._expiry.total_seconds()) + self._expiry

    async def _poll(self, file_id: FileId) -> None:
        """Do what is due for an upload; what fails stays due."""
        try:
            await self.find(Internal.SERVER, file_id)
        except (NotFound, UploadGone):
            self._to_finish.discard(file_id)
        except (DropmillError, OSError) as error:
            log.debug("The upload %s will be tried again: %s", file_id, error)

    async def drain(self) -> None:
        """Give up every request; the bytes that have come are kept, and their uploads can be continued."""
        for live in self._turns:
            if live.patch is not None:
                live.patch.give_up()
        if self._appending:
            await asyncio.wait(self._appending, timeout=DRAIN_WAIT_S)
        finishing = [live.finishing for live in self._turns if live.finishing is not None]
        if finishing:
            _, late = await asyncio.wait(finishing, timeout=DRAIN_WAIT_S)
            for one in late:
                one.cancel()  # it hashes bytes of an earlier process; the next start finishes it
        rest = [*finishing, *self._appending]
        if rest:
            await asyncio.wait(rest)

    # --- creating ----------------------------------------------------------------------------------------------------

    async def create(
        self,
        caller: Caller,
        *,
        size: int | None,
        metadata: str,
        content_length: int | None = None,
        expected_sha256: Sha256 | None = None,
    ) -> ResumableUpload:
        """Create an upload; an empty file is finished at once.

        Args:
            caller: who sends; a submission that is opened is theirs.
            size: of the whole file; None if the client will give it later.
            metadata: the `Upload-Metadata` header, "" if absent. Its `submission` joins that open one; otherwise the
                upload gets a submission of its own, sealed at once.
            content_length: of the first bytes that come with the request.
            expected_sha256: what the whole file must have; None if only the metadata may say.

        Raises:
            BadRequest: the metadata cannot be read, or names another SHA-256.
            FileTypeNotAccepted: it is of none of the types.
            FileTooLarge, TooLarge, QuotaExceeded, TooManySubmissions, OutOfSpace: it is over a limit.
            NotFound, IllegalTransition: the submission that it would join does not exist, or is sealed.
        """
        self._intake.require_running()
        values = parse_metadata(metadata)
        name = values.get("filename") or "upload"
        given = values.get("relativePath")
        path = client_path(name if given in (None, "", "null") else given)  # Uppy writes null for none
        self._gate.check_type(path, values.get("filetype", ""))
        self._gate.check_size(size, path)
        if size is not None and content_length is not None and content_length > size:
            raise too_many_bytes()
        joined = values.get("submission")
        expected = parse_hex_sha256(values.get("sha256")) or expected_sha256
        if expected_sha256 not in (None, expected):
            raise BadRequest("Repr-Digest and `sha256` in Upload-Metadata contradict each other.")
        await self._check_submission(caller, joined, 1, size or 0)
        upload = self._new(
            caller,
            submission_id=SubmissionId(joined) if joined else new_submission_id(),
            path=path,
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
        """Create an upload for each of the files that a client announces.

        Args:
            files: see `read_announcement`.

        Raises:
            BadRequest: `files` is not of that form.
            FileTypeNotAccepted: one file is of none of the types; none is created.
            FileTooLarge, TooManyFiles, TooLarge, QuotaExceeded, OutOfSpace: one file is over a limit; none is created.
            NotFound, IllegalTransition: the submission does not exist, or is sealed.
        """
        announced = self.check_announcement(caller, files)
        uploads = [
            self._new(
                caller,
                submission_id=submission_id,
                path=file.path,
                name=file.name,
                size=file.size,
                metadata=metadata_of(file.name, file.path, submission_id),
                expected=None,
                fingerprint=file.fingerprint,
            )
            for file in announced
        ]
        await self._check_submission(caller, submission_id, len(uploads), sum(upload.size or 0 for upload in uploads))
        if uploads:
            await self._ledger.announce_uploads(uploads)
        for upload in uploads:
            if upload.size == 0:
                await self._finish_empty(upload)
        return uploads

    def check_announcement(self, caller: Caller, files: object) -> Sequence[AnnouncedFile]:
        """Refuse an announcement that `announce` would refuse, before anything is opened for it.

        Returns:
            The files.

        Raises:
            BadRequest, FileTypeNotAccepted, FileTooLarge: see `announce`.
        """
        announced = read_announcement(files)
        for file in announced:
            self._gate.check_type(file.path, file.media_type)
            self._gate.check_size(file.size, file.path)
        return announced

    async def _check_submission(self, caller: Caller, joined: str | None, files: int, size: int) -> None:
        held, owner = SubmissionUsage(), visible_to(caller)
        if joined is not None and (self._gate.limits.are_for_submissions or owner is not None):
            held = await self._ledger.submission_usage(SubmissionId(joined), visible_to=owner)
        self._gate.check_submission(SubmissionUsage(files=held.files + files, size=held.size + size))
        await self._gate.check_room(size)

    async def _finish_empty(self, upload: ResumableUpload) -> None:
        async with self._turns.turn(upload.file_id) as live:
            await self._finish_if_all_came(live, upload, await self._writer(live, upload))
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
        fingerprint: Fingerprint | None = None,
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
            fingerprint=fingerprint,
        )

    # --- continuing --------------------------------------------------------------------------------------------------

    async def find(self, caller: AnyCaller, file_id: FileId) -> UploadPosition:
        """An upload and its offset. Gives up a request that is sending it, so that the answer stays true.

        Raises:
            NotFound: there is no such upload.
            UploadGone: it was terminated, or has expired.
        """
        await self._require_seen(caller, file_id)
        async with self._turns.turn(file_id) as live:
            upload = await self._living(live, file_id)
            if upload.state is UploadState.STORED or live.finishing is not None:
                if upload.state is UploadState.STORED:
                    self._to_finish.discard(file_id)
                return UploadPosition(upload=upload, offset=upload.size or 0)
            writer = await self._writer(live, upload)
            if not upload.is_elsewhere:  # otherwise that process finishes it
                await self._finish_if_all_came(live, upload, writer)
            offset = writer.size
        await self._wait_finished(live)
        return UploadPosition(upload=upload, offset=offset)

    async def append(
        self,
        caller: Caller,
        file_id: FileId,
        pieces: Pieces,
        *,
        offset: int,
        size: int | None = None,
        content_length: int | None = None,
        checksum: Checksum | None = None,
    ) -> UploadPosition:
        """Append bytes from `offset` on; returns the upload and its new offset.

        Args:
            caller: who sends them.
            file_id: whose.
            pieces: the bytes, read only as fast as the disk takes them.
            offset: where they begin; must be the upload's offset.
            size: of the whole file, if the client gives it only now; else None.
            content_length: how many bytes will come; None if unknown.
            checksum: what they must have together; they count only if all of them came and match.

        Raises:
            NotFound, UploadGone: there is no such upload, or no longer.
            OffsetMismatch: its offset is another.
            ChecksumMismatch: the bytes do not match; none of them is kept.
            FileTooLarge, TooLarge, QuotaExceeded, OutOfSpace, RequestTooSlow: without a checksum, what came before is
                kept.
            DigestMismatch: the whole file has another SHA-256; nothing is kept.

        Cancelling, because the client left, keeps what has come, unless there is a checksum.
        """
        self._intake.require_running()
        await self._require_seen(caller, file_id)
        patch = Patch(pieces=pieces, offset=offset, size=size, content_length=content_length, checksum=checksum)
        sender = self._intake.senders.sender(file_id)
        appending = asyncio.create_task(self._append(caller, file_id, patch, sender), name=f"upload {file_id}")
        self._appending.add(appending)
        appending.add_done_callback(lambda _: sender.end())
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
            appending.exception()  # retrieved, though the client may have left

    async def _append(self, caller: Caller, file_id: FileId, patch: Patch, sender: Sender) -> int:
        # Counted inside the turn: a dead connection that was given up does not count against its successor.
        async with self._turns.turn(file_id, patch) as live:
            with self._gate.admit(caller.client.ip):
                upload = await self._living(live, file_id)
                if upload.state is UploadState.STORED or live.finishing is not None:
                    raise IllegalTransition("The server has all bytes of this upload; nothing can be added.")
                upload = await self._take_over(live, upload)
                writer = await self._writer(live, upload)
                if patch.offset != writer.size:
                    raise OffsetMismatch(
                        f"Upload-Offset is {patch.offset}, but the upload is at {writer.size}.", offset=writer.size
                    )
                meter = await self._meter(upload, writer)
                was_sized = upload.size is not None
                upload = self._with_size(upload, patch.size, writer.size)
                brought = patch.content_length or 0
                if upload.size is not None and patch.offset + brought > upload.size:
                    raise too_many_bytes()
                await self._gate.check_room(brought)
                upload = await self._take_turn(live, upload)
                if upload.size is None:
                    # A chunk with a checksum may be dropped; what the ledger has as received must not be.
                    hold = partial(self._ledger.hold_upload, file_id, is_kept=patch.checksum is None)
                    meter.watch_quota(hold, writer.size)
                elif not was_sized:
                    await self._note(upload, writer, writer.size)  # before a byte comes that its owner may not send
                sender.begin(upload.submission_id)
                try:
                    await self._reader.take(upload, writer, patch, meter)
                except BytesLost as error:
                    raise await self._gone(live, upload) from error
                except (OutOfSpace, StorageUnavailable, OSError):
                    live.writer = None  # the disk may not have all bytes: find the offset anew
                    raise
                finally:
                    if live.writer is not None:
                        if writer.size == upload.size:
                            self._to_finish.add(file_id)  # until it is stored, whatever fails after this
                        await self._note(upload, writer, patch.offset)
                        await self._finish_if_all_came(live, upload, writer)
        await self._wait_finished(live)
        sender.goes_on = writer.size != upload.size and not patch.is_given_up
        return writer.size

    def _with_size(self, upload: ResumableUpload, size: int | None, received: int) -> ResumableUpload:
        if size is None or size == upload.size:
            return upload
        if upload.size is not None:
            raise BadRequest("Upload-Length was another before; the size of an upload cannot change.")
        if size < received:
            raise BadRequest(f"Upload-Length is {size}, but the server has {received} bytes already.")
        self._gate.check_size(size, upload.path)
        return replace(upload, size=size)

    async def _meter(self, upload: ResumableUpload, writer: BlobWriter) -> Meter:
        held = 0
        if self._gate.limits.are_for_submissions:
            own = upload.received if upload.size is None else upload.size
            held = (await self._ledger.submission_usage(upload.submission_id)).size - own + writer.size
        return self._gate.meter(SubmissionUsage(size=held), upload.path)

    async def _note(self, upload: ResumableUpload, writer: BlobWriter, before: int) -> None:
        """Record the offset; only bytes postpone the expiry."""
        expires_at = utc_now() + self._expiry if writer.size > before else upload.expires_at
        await self._ledger.extend_upload(
            upload.file_id, size=upload.size, received=writer.size, expires_at=expires_at, fence=upload.fence
        )

    async def _take_over(self, live: Live, upload: ResumableUpload) -> ResumableUpload:
        """The upload as it is once no other process may add to it; from then on its bytes on disk can be trusted."""
        if live.has_turn(upload) or upload.partial is None:  # None: a form brings it, and nobody may take a turn
            return upload
        await self._take_turn(live, upload)
        return await self._ledger.upload(upload.file_id)

    async def _take_turn(self, live: Live, upload: ResumableUpload) -> ResumableUpload:
        """Take the turn from the process that has it; all requests of one process share a turn.

        Raises:
            UploadTaken: this process had the turn, or nobody, and another took it since `upload` was read.
        """
        had_turn = live.has_turn(upload)
        live.fence = await self._ledger.take_upload(upload.file_id)
        if had_turn and live.fence != upload.fence + (upload.state is UploadState.ANNOUNCED):
            live.writer = None
            raise UploadTaken("Another process of the server has continued this upload; ask for its offset (HEAD).")
        return replace(upload, state=UploadState.RECEIVING, fence=live.fence)

    # --- ending ------------------------------------------------------------------------------------------------------

    def received(self, file_id: FileId) -> int | None:
        """Bytes of a file that have arrived so far; None unless this process holds its writer."""
        live = self._turns.get(file_id)
        return None if live is None or live.writer is None else live.writer.size

    async def terminate(self, caller: Caller, file_id: FileId, cause: str = AbortCause.CANCELLED) -> None:
        """Terminate an upload and remove its bytes; gives up a request that is sending it.

        Args:
            caller: its client.
            file_id: whose.
            cause: why, one of `TERMINATION_REASONS`.

        Raises:
            BadParameter: the cause is none of them.
            NotFound, UploadGone: there is no such upload, or no longer. One that had broken off is there until its
                submission is sealed.
            IllegalTransition: all its bytes have come.
        """
        reason = TERMINATION_REASONS.get(cause)
        if reason is None:
            raise BadParameter(f"`cause` must be one of {', '.join(TERMINATION_REASONS)}.")
        await self._require_seen(caller, file_id)
        async with self._turns.turn(file_id) as live:
            try:
                upload = await self._living(live, file_id)
            except UploadGone as gone:
                try:
                    await self._ledger.abort_upload(file_id, AbortCause(cause), reason)
                except IllegalTransition:
                    raise gone from None
                return
            if upload.state is UploadState.STORED or live.finishing is not None:
                raise IllegalTransition("The server has all bytes of this upload; it can no longer be terminated.")
            await self._writer(live, upload)
            await self._end(live, upload, AbortCause(cause), reason)

    async def _require_seen(self, caller: AnyCaller, file_id: FileId) -> None:
        """Return if the caller may see an upload. Before its turn is taken: that ends the request which has it.

        Raises:
            NotFound: there is no such upload, or it is somebody else's.
        """
        owner = visible_to(caller)
        if owner is not None:
            await self._ledger.upload(file_id, visible_to=owner)

    async def _living(self, live: Live, file_id: FileId) -> ResumableUpload:
        """An upload that was neither terminated nor expired; it may be stored. Expires it if its time has passed."""
        upload = await self._ledger.upload(file_id)
        if upload.state is UploadState.ABORTED:
            raise UploadGone("The upload was terminated or has expired; start a new one.")
        if live.finishing is None and not live.has_turn(upload):
            live.writer = None  # another process may have added bytes: find the offset anew
        is_late = upload.expires_at is not None and upload.expires_at < self._expired_by_now()
        if is_late and upload.partial is not None and live.finishing is None and not upload.is_elsewhere:
            writer = await self._writer(live, upload)
            if writer.size != upload.size:
                await self._end(live, upload, AbortCause.EXPIRED, "no byte came for too long")
                raise UploadGone("The upload has expired, because no byte came for too long; start a new one.")
        return upload

    async def _end(self, live: Live, upload: ResumableUpload, cause: AbortCause, reason: str) -> None:
        await self._ledger.abort_upload(upload.file_id, cause, reason, fence=upload.fence)
        writer, live.writer = live.writer, None
        if writer is not None:
            await writer.abort()
        elif upload.partial is not None:
            await self._blobs.discard(upload.partial)
        self._bus.forget_progress(upload.file_id)

    async def _gone(self, live: Live, upload: ResumableUpload) -> UploadGone:
        """Abort an upload whose bytes are no longer on the disk; returns the error for its client."""
        await self._end(live, upload, AbortCause.SERVER_FAILED, "its bytes are no longer on the server's disk")
        return UploadGone(_BYTES_GONE)

    async def _finish_if_all_came(self, live: Live, upload: ResumableUpload, writer: BlobWriter) -> None:
        if writer.size != upload.size:
            return
        upload = await self._take_turn(live, upload)  # nobody has taken a turn at an empty upload yet
        live.finishing = asyncio.create_task(self._store(upload, writer), name=f"finish {upload.file_id}")
        live.finishing.add_done_callback(lambda finishing: self._has_finished(upload.file_id, finishing))

    async def _store(self, upload: ResumableUpload, writer: BlobWriter) -> None:
        try:
            await self._intake.store(
                upload.file_id, upload.submission_id, writer, upload.expected_sha256, fence=upload.fence
            )
        except (BytesLost, *_REFUSED) as error:
            # First: if another process has taken the turn, the bytes are not ours to remove.
            await self._ledger.abort_upload(upload.file_id, _cause_of(error), error.detail, fence=upload.fence)
            await writer.abort()
            if isinstance(error, BytesLost):
                raise UploadGone(_BYTES_GONE) from error
            raise
        finally:
            self._bus.forget_progress(upload.file_id)

    def _has_finished(self, file_id: FileId, finishing: "asyncio.Task[None]") -> None:
        live = self._turns.get(file_id)
        error = None if finishing.cancelled() else finishing.exception()
        self._to_finish.discard(file_id)
        if error is not None and not isinstance(error, (*_REFUSED, UploadGone)):
            log.warning("All bytes of the upload %s came, but it could not be stored yet: %s", file_id, error)
            self._to_finish.add(file_id)
            if live is not None:
                live.finishing = live.writer = None
        if live is not None:
            self._turns.forget_idle(file_id, live)

    async def _wait_finished(self, live: Live) -> None:
        finishing = live.finishing
        if finishing is None:
            return
        await asyncio.wait([finishing], timeout=FINISH_WAIT_S)
        if finishing.done() and not finishing.cancelled():
            finishing.result()

    async def _writer(self, live: Live, upload: ResumableUpload) -> BlobWriter:
        if live.writer is None:
            if upload.partial is None:
                # Usually not for long: a form was cut off, and the server does not know yet that its connection ended.
                raise Unavailable("Another request is sending this file now; try again in a moment.")
            try:
                fence = live.fence if live.has_turn(upload) else None
                writer = await self._blobs.resume(upload.partial, fence=fence, received=upload.received)
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


def _cause_of(error: DropmillError) -> AbortCause:
    """Why an upload of which all bytes came is aborted."""
    match error:
        case DigestMismatch():
            return AbortCause.DAMAGED
        case LinkEnded():
            return AbortCause.REFUSED
        case _:
            return AbortCause.SERVER_FAILED
