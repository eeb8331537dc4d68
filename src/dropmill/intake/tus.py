"""Resumable uploads: bytes of one file in several requests, as tus 1.0.0 has them (https://tus.io/protocols/resumable-upload).

What is here is the protocol's meaning; its headers are `dropmill.web.uploads`' business. An offset that was answered
is on disk: it survives this process, though not a power cut. One writer an upload: who comes second asks the first to
let go, so that a dead connection never holds a file.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from dropmill.intake.gate import Gate
from dropmill.intake.intake import PROGRESS_EVERY_S, SWEEP_EVERY_S, SWEEP_MAX, Intake
from dropmill.intake.multipart import base_name, client_path, stored_extension
from dropmill.model.errors import (
    BadRequest,
    ChecksumMismatch,
    DropmillError,
    IllegalTransition,
    OffsetMismatch,
    OutOfSpace,
    TooLarge,
    Unavailable,
    UploadGone,
)
from dropmill.model.ids import FileId, Sha256, SubmissionId, new_file_id, new_submission_id
from dropmill.model.records import ClientIdentity, Progress, UploadState, utc_now
from dropmill.ports import BlobStore, BlobWriter, Bus, Ledger, ResumableUpload

log = logging.getLogger(__name__)

CHECKSUMS = ("sha1", "sha256")
METADATA_MAX = 8 * 1024  # characters of one Upload-Metadata header
METADATA_KEYS_MAX = 100
SIZE_MAX = 2**63 - 1
ANNOUNCED_MAX = 1000  # files of one announcement

WRITERS_KEPT = 1000
"""Uploads between two requests whose writer is kept, with the state of their hash (some 2 KiB each). One that is not
kept is read again from its beginning when it goes on."""

FINISH_WAIT_S = 10.0
"""How long the last request of an upload waits for its file to be stored. It is stored at once unless the hash of an
earlier process's bytes is still being made; then the answer goes out, and the job follows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checksum:
    """What a chunk must have: `algorithm` of `CHECKSUMS`, and the raw digest."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """An upload and how far it is: `offset` bytes are on disk."""

    upload: ResumableUpload
    offset: int


@dataclass(slots=True)
class _Live:
    """What this process holds of one upload."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    writer: BlobWriter | None = None
    reading: asyncio.Task[None] | None = None
    finishing: asyncio.Task[None] | None = None


class Uploads:
    """Creates, extends, finishes and ends resumable uploads."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: BlobStore,
        bus: Bus,
        intake: Intake,
        gate: Gate,
        expiry_s: float,
    ) -> None:
        """Keep the ports.

        Args:
            expiry_s: seconds without a byte after which an unfinished upload is removed.
        """
        self._ledger = ledger
        self._blobs = blobs
        self._bus = bus
        self._intake = intake
        self._gate = gate
        self._expiry = timedelta(seconds=expiry_s)
        self._live: dict[FileId, _Live] = {}
        self._appending: set[asyncio.Task[int]] = set()

    # --- life --------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Finish uploads whose last byte had come when an earlier process ended."""
        for upload in await self._ledger.unfinished_uploads():
            if upload.size and upload.state is UploadState.ANNOUNCED:
                continue  # no byte of it has come
            async with self._turn(upload.file_id) as live:
                writer = await self._writer(live, upload)
                if writer.size == upload.size:
                    await self._ledger.begin_upload(upload.file_id)
                    self._finish(live, upload, writer)

    async def run(self) -> None:
        """End uploads whose time is over; for the app's own care, until cancelled."""
        while True:
            await asyncio.sleep(min(SWEEP_EVERY_S, self._expiry.total_seconds()))
            with contextlib.suppress(DropmillError):  # the ledger is away; the next round tries again
                for upload in await self._ledger.expired_uploads(utc_now(), limit=SWEEP_MAX):
                    live = self._live.get(upload.file_id)
                    if live is None or not live.users:
                        await self._end(upload.file_id, "no byte came for too long")

    async def drain(self) -> None:
        """Let go of every request; what has come stays, to go on from."""
        for live in self._live.values():
            if live.reading is not None:
                live.reading.cancel()
        if self._appending:
            await asyncio.wait(self._appending)
        finishing = [live.finishing for live in self._live.values() if live.finishing is not None]
        for one in finishing:
            one.cancel()  # the next start finishes it
        if finishing:
            await asyncio.wait(finishing)

    # --- beginning ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        *,
        client: ClientIdentity,
        account: str | None,
        size: int | None,
        metadata: str,
        content_length: int | None = None,
    ) -> ResumableUpload:
        """Begin an upload; an empty file is finished at once.

        Args:
            client: who sends.
            account: whose submission it is; None without accounts.
            size: of the whole file; None to tell it later.
            metadata: the `Upload-Metadata` header, "" if absent. Its `submission` joins that open one; otherwise the
                upload gets a submission of its own, sealed at once.
            content_length: of the first bytes that come with the request.

        Raises:
            BadRequest: the metadata cannot be read.
            FileTooLarge, TooLarge, OutOfSpace: it may not come.
            NotFound, IllegalTransition: the submission it would join is not there, or sealed.
        """
        self._intake.require_running()
        values = parse_metadata(metadata)
        self._gate.check_size(size)
        if size is not None and content_length is not None and content_length > size:
            raise TooLarge("The request brings more bytes than the upload has.")
        await self._gate.check_room(size or 0)
        name = values.get("filename") or "upload"
        joined = values.get("submission")
        upload = self._new(
            submission_id=SubmissionId(joined) if joined else new_submission_id(),
            path=client_path(values.get("relativePath") or name),
            name=client_path(name),
            size=size,
            metadata=metadata,
            expected=_hex_digest(values.get("sha256")),
            client=client,
            account=account,
        )
        if joined:
            await self._ledger.announce_uploads([upload])
        else:
            await self._ledger.open_for_upload(upload, client, account)
            self._intake.identify(upload.submission_id, client.ip)
        if size == 0:
            await self._finish_empty(upload)
        return upload

    async def announce(
        self, submission_id: SubmissionId, files: object, client: ClientIdentity, account: str | None
    ) -> Sequence[ResumableUpload]:
        """Begin an upload for each of the files that a client names: `[{"name", "size", "path"?, "type"?}]`.

        Raises:
            BadRequest: the list is not of that form.
            FileTooLarge, OutOfSpace: one may not come; none is begun.
            IllegalTransition: the submission is sealed.
        """
        self.check_announcement(files)
        uploads = [
            self._new(
                submission_id=submission_id,
                path=path,
                name=name,
                size=size,
                metadata=_metadata_of(name, path, submission_id),
                expected=None,
                client=client,
                account=account,
            )
            for name, path, size in _announcements(files)
        ]
        await self._gate.check_room(sum(upload.size or 0 for upload in uploads))
        if uploads:
            await self._ledger.announce_uploads(uploads)
        for upload in uploads:
            if upload.size == 0:
                await self._finish_empty(upload)
        return uploads

    def check_announcement(self, files: object) -> None:
        """Refuse an announcement that `announce` would, before anything is opened for it.

        Raises:
            BadRequest, FileTooLarge: see `announce`.
        """
        for _, _, size in _announcements(files):
            self._gate.check_size(size)

    async def _finish_empty(self, upload: ResumableUpload) -> None:
        async with self._turn(upload.file_id) as live:
            await self._ledger.begin_upload(upload.file_id)
            self._finish(live, upload, await self._writer(live, upload))
        await self._wait_finished(live)

    def _new(
        self,
        *,
        submission_id: SubmissionId,
        path: str,
        name: str,
        size: int | None,
        metadata: str,
        expected: Sha256 | None,
        client: ClientIdentity,
        account: str | None,
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
            ip=client.ip,
            account=account,
        )

    # --- going on ----------------------------------------------------------------------------------------------------

    async def find(self, file_id: FileId) -> Standing:
        """An upload and where it stands. A request that is sending it is asked to let go, so that this stays true.

        Raises:
            NotFound: there is none.
            UploadGone: it was ended.
        """
        async with self._turn(file_id) as live:
            upload = await self._ledger.upload(file_id)
            if upload.state is UploadState.ABORTED:
                raise UploadGone("The upload was ended; begin another.")
            if upload.state is UploadState.STORED or live.finishing is not None:
                return Standing(upload=upload, offset=upload.size or 0)
            return Standing(upload=upload, offset=(await self._writer(live, upload)).size)

    async def append(
        self,
        file_id: FileId,
        chunks: AsyncIterator[bytes],
        *,
        offset: int,
        client: ClientIdentity,
        size: int | None = None,
        content_length: int | None = None,
        checksum: Checksum | None = None,
    ) -> Standing:
        """Take the bytes from `offset` on; returns where the upload stands then.

        Args:
            file_id: whose.
            chunks: the bytes. Taken only as fast as the disk takes them.
            offset: where they begin; must be where the upload stands.
            client: who sends them.
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
        with self._gate.admit(client.ip):
            appending = asyncio.create_task(
                self._append(file_id, chunks, offset, size, content_length, checksum), name=f"upload {file_id}"
            )
            self._appending.add(appending)
            appending.add_done_callback(self._has_appended)
            try:
                reached = await asyncio.shield(appending)
            except asyncio.CancelledError:
                live = self._live.get(file_id)
                if live is not None and live.reading is not None:
                    live.reading.cancel()
                raise
        return Standing(upload=await self._ledger.upload(file_id), offset=reached)

    def _has_appended(self, appending: "asyncio.Task[int]") -> None:
        self._appending.discard(appending)
        if not appending.cancelled():
            appending.exception()  # seen, though the client that would be told may have left

    async def _append(
        self,
        file_id: FileId,
        chunks: AsyncIterator[bytes],
        offset: int,
        size: int | None,
        content_length: int | None,
        checksum: Checksum | None,
    ) -> int:
        async with self._turn(file_id) as live:
            upload = await self._ledger.upload(file_id)
            if upload.state is UploadState.ABORTED:
                raise UploadGone("The upload was ended; begin another.")
            if upload.state is UploadState.STORED or live.finishing is not None:
                raise IllegalTransition("The upload has come whole; there is nothing to add.")
            upload = self._with_size(upload, size)
            writer = await self._writer(live, upload)
            if offset != writer.size:
                raise OffsetMismatch(f"The upload stands at byte {writer.size}, not {offset}.", offset=writer.size)
            if upload.size is not None and content_length is not None and offset + content_length > upload.size:
                raise TooLarge("The request brings more bytes than the upload has left.")
            await self._gate.check_room(content_length or 0)
            await self._ledger.begin_upload(file_id)
            try:
                if checksum is None:
                    await self._take(live, upload, writer, chunks)
                else:
                    await self._take_whole(live, upload, writer, chunks, checksum)
            except (OutOfSpace, OSError):
                live.writer = None  # the disk did not take all it was given: look again where the upload stands
                raise
            finally:
                if live.writer is not None:
                    await self._note(upload, writer, offset)
                    if writer.size == upload.size:
                        self._finish(live, upload, writer)
        if live.finishing is not None:
            await self._wait_finished(live)
        return writer.size

    def _with_size(self, upload: ResumableUpload, size: int | None) -> ResumableUpload:
        if size is None or size == upload.size:
            return upload
        if upload.size is not None:
            raise BadRequest("The upload's size was told before, and was another.")
        self._gate.check_size(size)
        return replace(upload, size=size)

    async def _take(
        self, live: _Live, upload: ResumableUpload, writer: BlobWriter, chunks: AsyncIterator[bytes]
    ) -> None:
        try:
            await self._read(live, upload, writer, chunks, [])
        finally:
            await writer.pause()

    async def _take_whole(
        self,
        live: _Live,
        upload: ResumableUpload,
        writer: BlobWriter,
        chunks: AsyncIterator[bytes],
        checksum: Checksum,
    ) -> None:
        await writer.begin_chunk()
        digest = hashlib.new(checksum.algorithm, usedforsecurity=False)
        try:
            await self._read(live, upload, writer, chunks, [digest])
        except BaseException:
            await writer.drop_chunk()
            raise
        if digest.digest() != checksum.digest:
            await writer.drop_chunk()
            raise ChecksumMismatch("The chunk's bytes are not what its checksum tells; send it again.")
        await writer.keep_chunk()

    async def _read(
        self,
        live: _Live,
        upload: ResumableUpload,
        writer: BlobWriter,
        chunks: AsyncIterator[bytes],
        digests: "Sequence[hashlib._Hash]",
    ) -> None:
        """Read in a task of its own, which whoever needs the turn may cancel: the rest of us goes on to settle."""
        self._intake.require_running()
        live.reading = asyncio.create_task(self._write(upload, writer, chunks, digests))
        try:
            await asyncio.shield(live.reading)
        except asyncio.CancelledError:
            raise Unavailable("The upload was taken over by another request, or the server is stopping.") from None
        finally:
            live.reading = None

    async def _write(
        self,
        upload: ResumableUpload,
        writer: BlobWriter,
        chunks: AsyncIterator[bytes],
        digests: "Sequence[hashlib._Hash]",
    ) -> None:
        loop = asyncio.get_running_loop()
        meter = self._gate.meter()
        report_at = 0.0
        async for chunk in self._gate.pace(chunks):
            size = writer.size + len(chunk)
            if upload.size is not None and size > upload.size:
                raise TooLarge("The request brings more bytes than the upload has left.")
            await meter.take(size, len(chunk))
            for digest in digests:
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

    async def _note(self, upload: ResumableUpload, writer: BlobWriter, before: int) -> None:
        """Write down how far it is; only bytes make it live longer."""
        expires_at = utc_now() + self._expiry if writer.size > before else upload.expires_at
        await self._ledger.extend_upload(upload.file_id, size=upload.size, received=writer.size, expires_at=expires_at)

    # --- ending ------------------------------------------------------------------------------------------------------

    def received(self, file_id: FileId) -> int | None:
        """Bytes of a file that have arrived so far; None unless this process has it at hand."""
        live = self._live.get(file_id)
        return None if live is None or live.writer is None else live.writer.size

    async def terminate(self, file_id: FileId) -> None:
        """End an upload and remove what has come; a request that is sending it is cut off.

        Raises:
            NotFound, UploadGone: there is none, or no more.
            IllegalTransition: it has come whole.
        """
        await self._end(file_id, "the client ended it")

    async def _end(self, file_id: FileId, reason: str) -> None:
        async with self._turn(file_id) as live:
            upload = await self._ledger.upload(file_id)
            if upload.state is UploadState.ABORTED:
                raise UploadGone("The upload was ended before.")
            if live.finishing is not None:
                raise IllegalTransition("The upload has come whole; it cannot be ended any more.")
            await self._ledger.abort_upload(file_id, reason)
            if upload.partial is not None:
                await (await self._writer(live, upload)).abort()
            live.writer = None
        self._bus.forget_progress(file_id)

    def _finish(self, live: _Live, upload: ResumableUpload, writer: BlobWriter) -> None:
        live.finishing = asyncio.create_task(self._store(upload, writer), name=f"finish {upload.file_id}")
        live.finishing.add_done_callback(lambda finishing: self._has_finished(upload.file_id, finishing))

    async def _store(self, upload: ResumableUpload, writer: BlobWriter) -> None:
        try:
            await self._intake.store(upload.file_id, upload.submission_id, writer, upload.expected_sha256)
        except Exception as error:
            reason = error.detail if isinstance(error, DropmillError) else "the server could not store it"
            if (await self._ledger.upload(upload.file_id)).state is not UploadState.STORED:
                await writer.abort()
                await self._ledger.abort_upload(upload.file_id, reason)
            raise
        finally:
            self._bus.forget_progress(upload.file_id)

    def _has_finished(self, file_id: FileId, finishing: "asyncio.Task[None]") -> None:
        if not finishing.cancelled() and (error := finishing.exception()) is not None:
            log.warning("The upload %s could not be finished: %s", file_id, error)
        live = self._live.get(file_id)
        if live is not None and not live.users:
            del self._live[file_id]

    async def _wait_finished(self, live: _Live) -> None:
        if live.finishing is None:
            return
        await asyncio.wait([live.finishing], timeout=FINISH_WAIT_S)
        if live.finishing.done():
            live.finishing.result()

    # --- turns -------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _turn(self, file_id: FileId) -> AsyncIterator[_Live]:
        """The only one at work on an upload; who is reading for it is asked to let go."""
        live = self._live.setdefault(file_id, _Live())
        live.users += 1
        try:
            if live.reading is not None:
                live.reading.cancel()
            async with live.turn:
                yield live
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
                raise UploadGone("The upload was ended; begin another.")
            live.writer = await self._blobs.resume(upload.partial)
        return live.writer


# --- the wire's texts ------------------------------------------------------------------------------------------------


def parse_metadata(header: str) -> Mapping[str, str]:
    """An `Upload-Metadata` header as texts by key; a key without a value has "".

    Raises:
        BadRequest: too long, a key twice, not base64, not UTF-8.
    """
    if len(header) > METADATA_MAX:
        raise BadRequest(f"Upload-Metadata is longer than {METADATA_MAX} characters.")
    values: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, encoded = pair.partition(" ")
        if key in values or len(values) >= METADATA_KEYS_MAX or not re.fullmatch(r"[!-+\--~]+", key):
            raise BadRequest("Upload-Metadata has a key twice, too many keys, or one that is no key.")
        try:
            values[key] = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
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
    except binascii.Error:
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
