"""Receiving submissions: bytes to the blob store, state to the ledger, jobs to the executor.

A request's body is received by a coroutine of ours, not by the request's handler: when the client leaves, the
framework cancels the handler, while what has arrived must still be settled. Files whose part had ended stay and are
processed; the one cut off is removed.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field

from dropmill.health import Health
from dropmill.intake.gate import Gate, Meter
from dropmill.intake.multipart import (
    PartBegins,
    PartEnds,
    PartEvent,
    base_name,
    boundary_of,
    client_path,
    file_parts,
    stored_extension,
)
from dropmill.model.caller import Caller
from dropmill.model.clock import Clock
from dropmill.model.errors import (
    DigestMismatch,
    DropmillError,
    IdempotencyMismatch,
    IllegalTransition,
    NotFound,
    NothingSent,
    Unavailable,
)
from dropmill.model.ids import FileId, Owner, Sha256, SubmissionId, new_file_id, new_job_id, new_submission_id
from dropmill.model.internal import AnyCaller, Internal
from dropmill.model.jobs import Progress
from dropmill.model.uploads import File, StoredBlob, UploadState
from dropmill.origin.resolver import Resolver
from dropmill.ports.blobs import BlobStore, BlobWriter
from dropmill.ports.bus import Bus
from dropmill.ports.executor import Executor
from dropmill.ports.ledger.submissions import IntakeLedger, RequestKey
from dropmill.ports.ledger.uploads import SubmissionUsage

log = logging.getLogger(__name__)

FINISHING_MAX = 8
"""Files of one request whose commit is under way while the next ones already arrive. Their fsyncs overlap and their
ledger changes share a commit."""

FIELD_OF_FILE = "file:"
"""A form's field of this name and the id of an announced file fills that one, and only once: browsers send a form again
by themselves when a kept connection breaks, and nothing tells them that its files were stored."""

COMPARED_MAX = 1000  # files of a first request that are read at once to be compared with a repeat's

PROGRESS_EVERY_S = 0.25  # the contract's four reports a second a file
SWEEP_EVERY_S = 60.0
SWEEP_MAX = 100  # at once, so that a sweep does not hold up the ledger
NOTED_MAX = 1000  # files, and submissions, that are tried again by name; a start finds what is beyond


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What one request left.

    Attributes:
        submission_id: None if no file had begun, so that none was opened. With an idempotency key that was seen
            before it is the first request's.
        stored: the client's paths of the files that are stored, in the order in which they were.
    """

    submission_id: SubmissionId | None
    stored: tuple[str, ...]


class Intake:
    """Opens, fills and seals submissions."""

    def __init__(
        self,
        *,
        ledger: IntakeLedger,
        blobs: BlobStore,
        executor: Executor,
        bus: Bus,
        resolver: Resolver,
        gate: Gate,
        seal_after_s: float,
        clock: Clock,
        health: Health,
    ) -> None:
        """Keep the ports.

        Args:
            gate: what uploads may be and take.
            seal_after_s: seconds without a new file after which an announced submission seals itself.
            clock: tells ages.
            health: shows whether the sealing works.
        """
        self._clock = clock
        self._health = health
        self._ledger = ledger
        self._blobs = blobs
        self._executor = executor
        self._bus = bus
        self._resolver = resolver
        self._gate = gate
        self._seal_after_s = seal_after_s
        self._receiving: dict[asyncio.Task[Receipt], _Request] = {}
        self._identifying: set[asyncio.Task[None]] = set()
        self._received: dict[FileId, BlobWriter] = {}
        # What a request is at work on: noted before the ledger hears of it, until the ledger knows how it ended.
        self._filling: set[SubmissionId] = set()
        self._writing: Counter[FileId] = Counter()  # two requests may bring the same announced file
        self._in_doubt: dict[FileId, _Arriving] = {}
        self._to_seal: dict[SubmissionId, None] = {}
        self._by_key: dict[tuple[Owner, str], asyncio.Task[Receipt]] = {}
        self._is_draining = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Remove what an earlier process left on disk without an entry in the ledger. Before anything is received."""
        unfinished = await self._ledger.unfinished_uploads()
        removed = await self._blobs.sweep({upload.partial for upload in unfinished if upload.partial is not None})
        async for keys in self._blobs.keys():
            for key in set(keys) - set(await self._ledger.known_blobs(keys)):
                await self._blobs.delete(key)
                removed += 1
        if removed:
            log.info("Removed %d interrupted uploads of an earlier run.", removed)

    async def run(self) -> None:
        """Seal announced submissions that nobody fills any more; for the app's own care, until cancelled."""
        while True:
            await asyncio.sleep(min(SWEEP_EVERY_S, self._seal_after_s))
            await self._health.insist("intake", self._seal_stale)

    async def _seal_stale(self) -> None:
        before = self._clock.ago(self._seal_after_s)
        for submission_id in await self._ledger.stale_submissions(before, limit=SWEEP_MAX):
            await self.seal(Internal.SERVER, submission_id)

    async def sweep(self) -> int:
        """Do what could not be done when a request ended, because the disk or the ledger failed.

        Files that no request is receiving become aborted, submissions that no request fills are sealed, files of which
        the ledger could not say whether it has them are asked for again, and bytes that nothing refers to are removed.

        Returns:
            How much of it is still left.

        Raises:
            OutOfSpace, Unavailable: the ledger is still away; the next sweep goes on.
        """
        for file_id, arriving in tuple(self._in_doubt.items()):
            del self._in_doubt[file_id]
            await self._give_up(arriving, "the server could not store it")
        unattended = await self._ledger.form_uploads()
        for file_id in unattended.files - self._writing.keys():
            with contextlib.suppress(IllegalTransition):  # its request has settled it since
                await self._ledger.abort_upload(file_id, "the server could not store it")
        for submission_id in (unattended.submissions | self._to_seal.keys()) - self._filling:
            await self.seal(Internal.SERVER, submission_id)
            self._to_seal.pop(submission_id, None)
        return len(self._in_doubt) + await self._blobs.retry_discards()

    async def drain(self) -> None:
        """Take nothing more; give up what is arriving, keeping the files that have ended."""
        self._is_draining = True
        for receiving in self._receiving:
            self._stop_reading(receiving)
        if self._receiving:
            await asyncio.wait(self._receiving)
        for identifying in self._identifying:
            identifying.cancel()
        if self._identifying:
            await asyncio.wait(self._identifying)

    # --- submissions -------------------------------------------------------------------------------------------------

    async def open(
        self,
        caller: Caller,
        *,
        idempotency_key: str | None = None,
        announced: Sequence[tuple[str, str, int]] = (),
    ) -> tuple[SubmissionId, bool]:
        """Open a submission that stays open until `seal`.

        Args:
            caller: whose submission it is.
            idempotency_key: what a repeat of this request will show; None if there is none.
            announced: name, path and size of each file that the request names; a repeat names the same.

        Returns:
            Its id, and whether it is new; it is not if the same key opened one before.

        Raises:
            IdempotencyMismatch: the same key came with another request.
        """
        key = request_key(idempotency_key, "announcement", *announced)
        try:
            return await self._open(caller, is_announced=True, key=key), True
        except _Repeated as repeated:
            return repeated.submission_id, False

    async def seal(self, caller: AnyCaller, submission_id: SubmissionId) -> None:
        """No more files will come. Sealing twice changes nothing.

        Raises:
            NotFound: there is no such submission.
        """
        await self._ledger.seal_submission(submission_id)

    async def _open(self, caller: Caller, *, is_announced: bool = False, key: RequestKey | None = None) -> SubmissionId:
        self.require_running()
        submission_id = new_submission_id()
        if not is_announced:
            self._filling.add(submission_id)
        try:
            opened = await self._ledger.open_submission(
                submission_id, caller.client, caller.account, is_announced=is_announced, key=key, owner=caller.owner
            )
            if opened != submission_id:
                raise _Repeated(opened)
        except BaseException:
            self._filling.discard(submission_id)
            raise
        self.identify(submission_id, caller.client.ip)
        return submission_id

    def identify(self, submission_id: SubmissionId, ip: str) -> None:
        """Have the name of a new submission's client looked up, beside everything else."""
        identifying = asyncio.create_task(self._identify(submission_id, ip))
        self._identifying.add(identifying)
        identifying.add_done_callback(self._identifying.discard)

    async def _identify(self, submission_id: SubmissionId, ip: str) -> None:
        found = await self._resolver.resolve(ip)
        try:
            await self._health.insist(
                "intake",
                lambda: self._ledger.identify_client(submission_id, found.host, found.verified, found.domain),
            )
        except DropmillError as error:
            log.warning("The name of a client could not be recorded: %s", error)

    def require_running(self) -> None:
        """Return unless the server is stopping.

        Raises:
            Unavailable: it is.
        """
        if self._is_draining:
            raise _stopping()

    # --- bodies ------------------------------------------------------------------------------------------------------

    async def receive_multipart(
        self,
        caller: Caller,
        chunks: AsyncIterator[bytes],
        content_type: str,
        *,
        submission_id: SubmissionId | None = None,
        then_seal: bool = False,
        size: int | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Store every file of a multipart body, each job queued as its part ends.

        Args:
            caller: who sends; the submission that is opened is theirs.
            chunks: the body. Taken only as fast as the disk takes it.
            content_type: the request's header.
            submission_id: the open submission to add to; None opens one with the first file, and seals it.
            then_seal: seal an existing one too when the body ends, however it ends.
            size: of the body; None if unknown.
            idempotency_key: what a repeat of this request will show; None if there is none.

        Raises:
            MalformedUpload, BadFileName, RequestTooSlow, TooLarge, OutOfSpace, NothingSent, Unavailable: told with
                `kept`, the paths of the files that were stored all the same, and `submission`, its id or None.
            IllegalTransition: the submission is sealed.
            IdempotencyMismatch: the same key came with other files. The body is read for that, and nothing is stored.
            TooManyUploads: the address has as many requests under way as it may.

        Cancelling gives up the file that is arriving, keeps those whose part had ended, and seals as told.
        """
        boundary = boundary_of(content_type)
        await self._gate.check_room(size or 0)
        usage = SubmissionUsage() if submission_id is None else await self._ledger.submission_usage(submission_id)
        request = _Request(
            caller=caller,
            submission_id=submission_id,
            is_sealed_at_end=then_seal or not submission_id,
            key=request_key(idempotency_key, "form"),
            may_fill=usage.announced > 0,
            meter=self._gate.meter(usage),
        )
        return await self._run(request, file_parts(self._gate.pace(chunks), boundary))

    async def receive_raw(
        self,
        caller: Caller,
        chunks: AsyncIterator[bytes],
        name: str,
        *,
        size: int | None,
        expected_sha256: Sha256 | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Store a body as one file, in a submission of its own.

        Args:
            caller: who sends; the submission is theirs.
            chunks: the file.
            name: what the client calls it.
            size: the announced size; None if unknown.
            expected_sha256: what the whole file must have; None if the client did not say.
            idempotency_key: what a repeat of this request will show; None if there is none.

        Raises:
            DigestMismatch: it has another SHA-256; nothing is kept.
            IdempotencyMismatch: the same key came with another name, size or digest. A body whose size is unknown is
                read for that.
            DropmillError: otherwise as `receive_multipart`.

        Cancelling gives the file up.
        """
        self._gate.check_size(size)
        self._gate.check_submission(SubmissionUsage(files=1, size=size or 0))
        await self._gate.check_room(size or 0)
        path = client_path(name)
        request = _Request(
            caller=caller,
            submission_id=None,
            is_sealed_at_end=True,
            size=size,
            key=request_key(idempotency_key, "file", path, expected_sha256),
            expected_sha256=expected_sha256,
            meter=self._gate.meter(SubmissionUsage()),
        )
        return await self._run(request, _as_one_part(self._gate.pace(chunks), path))

    async def _run(self, request: "_Request", parts: AsyncIterator[PartEvent]) -> Receipt:
        self.require_running()
        # Whether a repeat is one is known when the first has ended: of one that was cut off nothing may be left.
        while (key := request.owned_key) is not None and (first := self._by_key.get(key)) is not None:
            await asyncio.wait([first])
            self.require_running()
        with self._gate.admit(request.caller.client.ip):
            return await self._run_admitted(request, parts)

    async def _run_admitted(self, request: "_Request", parts: AsyncIterator[PartEvent]) -> Receipt:
        receiving = asyncio.create_task(self._receive(request, parts))
        self._receiving[receiving] = request
        if (key := request.owned_key) is not None:
            self._by_key[key] = receiving
        receiving.add_done_callback(self._has_received)
        try:
            return await asyncio.shield(receiving)
        except asyncio.CancelledError:
            self._stop_reading(receiving)
            raise

    def _has_received(self, receiving: "asyncio.Task[Receipt]") -> None:
        key = self._receiving.pop(receiving).owned_key
        if key is not None:
            del self._by_key[key]
        if not receiving.cancelled():
            receiving.exception()  # seen, though the client that would be told may have left

    def _stop_reading(self, receiving: "asyncio.Task[Receipt]") -> None:
        """Give up a body. One that has been read to its end is being settled, and is let be."""
        request = self._receiving.get(receiving)
        if request is not None and request.is_reading:
            request.is_reading = False
            receiving.cancel()

    def received(self, file_id: FileId) -> int | None:
        """Bytes of a file that have arrived so far; None unless it is arriving now."""
        writer = self._received.get(file_id)
        return None if writer is None else writer.size

    async def _receive(self, request: "_Request", parts: AsyncIterator[PartEvent]) -> Receipt:
        failure: BaseException | None = None
        try:
            async for event in parts:
                if isinstance(event, bytes):
                    await self._write(request, event)
                elif isinstance(event, PartBegins):
                    try:
                        await self._begin(request, event)
                    except _Repeated as repeated:
                        request.opening = None
                        await self._compare(request, repeated.submission_id, event, parts)
                        return Receipt(submission_id=repeated.submission_id, stored=())
                else:
                    await self._end(request)
        except asyncio.CancelledError as error:  # by the caller, or by `drain`
            failure = _stopping() if self._is_draining else error
        except Exception as error:
            failure = error
        request.is_reading = False
        receipt, trouble = await self._conclude(request, failure)
        failure = trouble if failure is None else failure
        if isinstance(failure, DropmillError):
            failure.extra = {"kept": list(receipt.stored), "submission": request.submission_id, **failure.extra}
        if failure is not None:
            raise failure
        return receipt

    async def _begin(self, request: "_Request", part: PartBegins) -> None:
        # Everything is noted in `request` before it is waited for: a cancel in between must leave nothing unsettled.
        if request.submission_id is None:
            opening = self._open(request.caller, key=request.key)
            request.opening = asyncio.create_task(opening)
            request.submission_id = await asyncio.shield(request.opening)
        announced = None
        is_by_id = part.field.startswith(FIELD_OF_FILE)
        if is_by_id:
            announced = await self._ledger.upload(FileId(part.field.removeprefix(FIELD_OF_FILE)))
            if announced.submission_id != request.submission_id:
                raise NotFound("The submission has no such file.")
            if announced.state is not UploadState.ANNOUNCED:
                request.has_files = request.is_passing_over = True
                return
        elif request.may_fill:
            announced = await self._ledger.announced_upload(request.submission_id, part.path)
        if announced is None:
            request.meter.begin_file()
        else:
            request.meter.begin_announced_file(announced.size)
        file_id = new_file_id() if announced is None else announced.file_id
        self._writing[file_id] += 1
        # Handed to the ledger now, waited for where the file ends: a thousand small files share their commits.
        if announced is not None:
            expected = announced.expected_sha256
            starting = asyncio.create_task(self._ledger.begin_upload(file_id))
        else:
            expected = request.expected_sha256
            starting = asyncio.create_task(
                self._ledger.start_upload(file_id, request.submission_id, part.name, part.path, None)
            )
        request.arriving = _Arriving(
            file_id=file_id,
            path=part.path,
            writer=self._blobs.create(stored_extension(part.name)),
            starting=starting,
            expected_sha256=expected,
            is_by_id=is_by_id,
        )
        self._received[file_id] = request.arriving.writer
        if not request.has_files and request.opening is None:
            await asyncio.shield(starting)  # the first one tells whether somebody's submission takes files at all

    async def _compare(
        self, request: "_Request", first: SubmissionId, part: PartBegins, parts: AsyncIterator[PartEvent]
    ) -> None:
        """Return if a repeat brings the files of the first request: as many, of the same names and sizes, in order.

        A form says what it holds only as it comes, so it is read to its end. What of the first request was cut off
        has no size to compare. Bytes are not compared.

        Raises:
            IdempotencyMismatch: it does not.
        """
        files = self._files_of(first)
        size, expected = 0, await _size_of(anext(files, None), part, first)
        if request.size is not None:
            if expected not in (None, request.size):
                raise _mismatch(first)
            return
        async for event in parts:
            if isinstance(event, PartBegins):
                size, expected = 0, await _size_of(anext(files, None), event, first)
            elif isinstance(event, PartEnds):
                if expected not in (None, size):
                    raise _mismatch(first)
            else:
                size += len(event)
                if expected is not None and size > expected:
                    raise _mismatch(first)  # now, for the rest may be without end
        if await anext(files, None) is not None:
            raise _mismatch(first)

    async def _files_of(self, submission_id: SubmissionId) -> AsyncGenerator[File, None]:
        after: str | None = None
        while True:
            view = await self._ledger.view_submission(submission_id, after=after, limit=COMPARED_MAX)
            for file in view.files:
                yield file
            after = view.files_next
            if after is None:
                return

    async def _write(self, request: "_Request", data: bytes) -> None:
        arriving = request.arriving
        if request.is_passing_over:
            return
        if arriving is None or request.submission_id is None:
            raise AssertionError("bytes of a file came before its part began")
        await request.meter.take(arriving.writer.size + len(data), len(data))
        await arriving.writer.write(data)
        now = asyncio.get_running_loop().time()
        if now >= arriving.report_at:
            arriving.report_at = now + PROGRESS_EVERY_S
            self._bus.report(
                Progress(
                    submission_id=request.submission_id,
                    file_id=arriving.file_id,
                    stage="upload",
                    value=arriving.writer.size,
                )
            )

    async def _end(self, request: "_Request") -> None:
        arriving, request.arriving = request.arriving, None
        if request.is_passing_over:
            request.is_passing_over = False
            return
        if arriving is None:
            raise AssertionError("a file ended before its part began")
        arriving.before, request.last = request.last, arriving
        finishing = asyncio.create_task(self._finish(request, arriving))
        request.has_files = True
        request.finishing.add(finishing)
        finishing.add_done_callback(request.has_ended)
        await request.slots.acquire()
        if request.trouble is not None:
            raise request.trouble

    async def _finish(self, request: "_Request", arriving: "_Arriving") -> None:
        """Commit a file whose part has ended. Never cancelled: what has arrived whole is kept."""
        try:
            blob = await self._commit(arriving.writer, arriving.expected_sha256)
            await arriving.starting  # after the blob: the ledger's commit and the file's fsyncs overlap
            if arriving.before is not None:
                await arriving.before.handed.wait()  # jobs are queued in the order of their files
            arriving.is_handed_over = True
            queueing = asyncio.create_task(self._queue(arriving.file_id, request.submission_id, blob))
            arriving.handed.set()
            await queueing
        except Exception as error:
            if not (arriving.is_by_id and isinstance(error, IllegalTransition)):  # else a repeat was faster
                request.trouble = request.trouble or error
            await self._give_up(arriving, _reason(error))
            return
        finally:
            arriving.handed.set()
            arriving.before = None  # or each file of a request would hold all before it
            self._forget(arriving)
        self._release(arriving)
        request.stored[arriving.file_id] = arriving.path

    async def store(
        self,
        file_id: FileId,
        submission_id: SubmissionId | None,
        writer: BlobWriter,
        expected_sha256: Sha256 | None,
        *,
        fence: int | None = None,
    ) -> None:
        """Make a file whose last byte has come durable, and queue its job.

        Args:
            fence: of the turn in which its last byte came; None for a file that came as a whole.

        Raises:
            DigestMismatch: it has another SHA-256 than was expected; the caller gives it up.
            UploadTaken: another process has taken the turn since.
        """
        await self._queue(file_id, submission_id, await self._commit(writer, expected_sha256), fence)

    async def _commit(self, writer: BlobWriter, expected_sha256: Sha256 | None) -> StoredBlob:
        blob = await writer.commit()
        if expected_sha256 is not None and blob.sha256 != expected_sha256:
            raise DigestMismatch(f"The bytes that arrived have the SHA-256 {blob.sha256}; send the file again.")
        return blob

    async def _queue(
        self, file_id: FileId, submission_id: SubmissionId | None, blob: StoredBlob, fence: int | None = None
    ) -> None:
        if submission_id is None:
            raise AssertionError("a file has no submission")
        job_id = new_job_id()
        await self._ledger.store_upload(file_id, blob, job_id, fence=fence)
        self._executor.wake()

    async def _give_up(self, arriving: "_Arriving", reason: str) -> None:
        """Remove a file, unless the ledger, asked for it, has it as stored in spite of an error.

        `sweep` goes on where the ledger is away. While the ledger may have the file as stored, its bytes stay.
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
            await arriving.writer.abort()  # first, for on a full disk this makes the room to record it
            if file is not None:
                with contextlib.suppress(DropmillError):
                    await self._ledger.abort_upload(arriving.file_id, reason)
        self._release(arriving)

    def _release(self, arriving: "_Arriving") -> None:
        """The ledger knows how a file ended, or `sweep` tells it."""
        self._writing[arriving.file_id] -= 1
        if not self._writing[arriving.file_id]:
            del self._writing[arriving.file_id]

    def _forget(self, arriving: "_Arriving") -> None:
        self._received.pop(arriving.file_id, None)
        self._bus.forget_progress(arriving.file_id)

    async def _conclude(
        self, request: "_Request", failure: BaseException | None
    ) -> tuple[Receipt, BaseException | None]:
        """Settle what the body left, whether it ended well or not."""
        if request.opening is not None and request.submission_id is None:
            with contextlib.suppress(DropmillError):
                request.submission_id = await request.opening
        if request.arriving is not None:
            await self._give_up(request.arriving, _reason(failure))
        if request.finishing:
            await asyncio.wait(request.finishing)
        trouble = request.trouble
        if request.submission_id is not None and request.is_sealed_at_end:
            try:
                # By the server: the body may be over because its sender may not send any more.
                await self.seal(Internal.SERVER, request.submission_id)
            except DropmillError as error:
                trouble = trouble or error
                if not isinstance(error, NotFound) and len(self._to_seal) < NOTED_MAX:
                    self._to_seal[request.submission_id] = None
            self._filling.discard(request.submission_id)
        if failure is None and trouble is None and not request.has_files:
            trouble = NothingSent("The form came without a file; choose one and send it again.")
        return Receipt(submission_id=request.submission_id, stored=tuple(request.stored.values())), trouble


@dataclass(kw_only=True, slots=True)
class _Arriving:
    """The file whose part is being read."""

    file_id: FileId
    path: str
    writer: BlobWriter
    starting: asyncio.Task[None]
    expected_sha256: Sha256 | None
    is_by_id: bool = False
    is_handed_over: bool = False  # the ledger was told to store it, and may have done so in spite of an error
    before: "_Arriving | None" = None  # the file before it in the same request
    handed: asyncio.Event = field(default_factory=asyncio.Event)  # to the ledger, or given up
    report_at: float = 0.0


@dataclass(kw_only=True, slots=True)
class _Request:
    """One request's body on its way in."""

    caller: Caller
    submission_id: SubmissionId | None
    is_sealed_at_end: bool
    meter: Meter
    size: int | None = None  # of the only file that comes; None if several may, or if it is unknown
    key: RequestKey | None = None
    may_fill: bool = False
    is_passing_over: bool = False  # the part being read is of a file that is no longer waited for
    expected_sha256: Sha256 | None = None
    is_reading: bool = True
    opening: asyncio.Task[SubmissionId] | None = None
    arriving: _Arriving | None = None
    last: _Arriving | None = None
    stored: dict[FileId, str] = field(default_factory=dict)
    has_files: bool = False
    finishing: set[asyncio.Task[None]] = field(default_factory=set)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FINISHING_MAX))
    trouble: BaseException | None = None

    @property
    def owned_key(self) -> tuple[Owner, str] | None:
        """Its key among those of all owners; None without one."""
        return None if self.key is None else (self.caller.owner, self.key.text)

    def has_ended(self, finishing: asyncio.Task[None]) -> None:
        """A file whose part had ended is stored, or has been given up."""
        self.finishing.discard(finishing)
        self.slots.release()


class _Repeated(Exception):
    """The request's idempotency key was seen before."""

    def __init__(self, submission_id: SubmissionId) -> None:
        super().__init__(submission_id)
        self.submission_id = submission_id


def request_key(text: str | None, *said: object) -> RequestKey | None:
    """The key of a request.

    Args:
        text: what the client gave; None if it gave none, and then there is no key.
        said: the route, and what the request says of itself before its body is read; JSON-able.
    """
    if text is None:
        return None
    fingerprint = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return RequestKey(text=text, fingerprint=fingerprint)


async def _size_of(known: Awaitable[File | None], part: PartBegins, first: SubmissionId) -> int | None:
    """The size of the first request's file that a repeat's part must be; None if it was cut off, so that nobody knows.

    Raises:
        IdempotencyMismatch: there is none, or it is another.
    """
    file = await known
    if file is None or file.path != part.path:
        raise _mismatch(first)
    return file.size if file.sha256 is not None else None


def _mismatch(first: SubmissionId) -> IdempotencyMismatch:
    return IdempotencyMismatch(
        "This Idempotency-Key came with other files before, or with these and was cut off; "
        "send what the first submission lacks with a key of its own.",
        submission=first,
    )


async def _as_one_part(chunks: AsyncIterator[bytes], path: str) -> AsyncIterator[PartEvent]:
    yield PartBegins(name=base_name(path), path=path)
    async for chunk in chunks:
        if chunk:
            yield chunk
    yield PartEnds()


def _stopping() -> Unavailable:
    return Unavailable("The server is stopping; send what was not stored again in a moment.")


def _reason(error: BaseException | None) -> str:
    match error:
        case asyncio.CancelledError():
            return "the connection was cut"
        case DropmillError():
            return error.detail
        case _:
            return "the server could not store it"
