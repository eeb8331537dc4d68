"""One request's body on its way in: each file is begun, written and stored as its part comes, its job queued at once.

When the client leaves, files whose part had ended are kept and processed; the one that was cut off is removed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from dropmill.intake.arriving import SERVER_FAILED, Arrivals, Arriving
from dropmill.intake.limits import Meter
from dropmill.intake.multipart import PartBegins, PartEnds, PartEvent, base_name, stored_extension
from dropmill.intake.repeats import Repeated, compare
from dropmill.model.caller import Caller
from dropmill.model.errors import (
    BadFileName,
    DigestMismatch,
    DropmillError,
    IllegalTransition,
    MalformedUpload,
    NotFound,
    NothingSent,
    RequestTooSlow,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from dropmill.model.ids import FileId, Owner, Sha256, SubmissionId, new_file_id
from dropmill.model.jobs import Progress
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.blobs import BlobStore
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.submissions import IntakeLedger, RequestKey

FINISHING_MAX = 8
"""Files of one request whose commit is under way while the next ones already arrive. Their fsyncs overlap and their
ledger changes share a commit."""

FIELD_OF_FILE = "file:"
"""A form's field named by this and an announced file's id brings that file, and only once: a browser sends a form again
when a kept connection breaks, without knowing that its files were stored."""

PROGRESS_EVERY_S = 0.25  # four reports a second for each file, as the API promises


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The outcome of one request.

    Attributes:
        submission_id: None if no file had begun, so that none was opened. With an idempotency key that was seen
            before it is the first request's.
        stored: the client's paths of the files that are stored, in the order in which they were.
    """

    submission_id: SubmissionId | None
    stored: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class IncomingBody:
    """One request's body, and how far it has come.

    Attributes:
        caller: who sends it.
        submission_id: the submission that its files join; None until the first file opens one.
        is_sealed_at_end: whether the submission is sealed when the body ends, however it ends.
        meter: counts its files and bytes.
        size: of the only file that comes; None if several may come, or if the size is unknown.
        key: what a repeat of the request will show; None if there is none.
        may_fill: whether a part may bring an announced file that has its path or name.
        expected_sha256: what its only file must have; None if the client did not say.
        is_passing_over: whether the part that is being read brings a file that is no longer waited for.
        is_reading: whether it may still be given up.
        opening: opens the submission; None unless this body opens one.
        arriving: the file whose part is being read; None between two.
        last: the file whose part ended last.
        stored: path of each file that is stored, in order.
        has_files: whether a part with a file has ended.
        finishing: files that are being stored.
        slots: bounds `finishing`.
        trouble: why the first of the files that failed did.
    """

    caller: Caller
    submission_id: SubmissionId | None
    is_sealed_at_end: bool
    meter: Meter
    size: int | None = None
    key: RequestKey | None = None
    may_fill: bool = False
    expected_sha256: Sha256 | None = None
    is_passing_over: bool = False
    is_reading: bool = True
    opening: asyncio.Task[SubmissionId] | None = None
    arriving: Arriving | None = None
    last: Arriving | None = None
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


class Receiver:
    """Reads bodies, and settles what each of them left."""

    def __init__(
        self,
        *,
        ledger: IntakeLedger,
        blobs: BlobStore,
        bus: Bus,
        arrivals: Arrivals,
        open_submission: Callable[[Caller, RequestKey | None], Coroutine[Any, Any, SubmissionId]],
        seal_submission: Callable[[SubmissionId, AbortCause], Awaitable[DropmillError | None]],
        require_running: Callable[[], None],
    ) -> None:
        """Keep the ports.

        Args:
            arrivals: where each file is noted.
            open_submission: opens a submission that one body fills; raises `Repeated` if its key was seen before.
            seal_submission: seals it, or returns why it could not; then something else will. Files that are still
                announced are aborted with the cause.
            require_running: raises `Unavailable` once the server is stopping.
        """
        self._ledger = ledger
        self._blobs = blobs
        self._bus = bus
        self._arrivals = arrivals
        self._open_submission = open_submission
        self._seal_submission = seal_submission
        self._require_running = require_running

    async def receive(self, body: IncomingBody, parts: AsyncIterator[PartEvent]) -> Receipt:
        """Read a body to its end.

        Raises:
            DropmillError: see `Intake.receive_multipart`, with `kept` and `submission`.

        Cancelling, while `is_reading`, gives up the file that is arriving and keeps those whose part had ended.
        """
        failure: BaseException | None = None
        try:
            async for event in parts:
                if isinstance(event, bytes):
                    await self._write(body, event)
                elif isinstance(event, PartBegins):
                    try:
                        await self._begin(body, event)
                    except Repeated as repeated:
                        body.opening = None
                        await compare(self._ledger, repeated.submission_id, event, parts, size=body.size)
                        return Receipt(submission_id=repeated.submission_id, stored=())
                else:
                    await self._end(body)
        except asyncio.CancelledError as error:  # because the client left, or the server is stopping
            failure = error
            try:
                self._require_running()
            except Unavailable as stopping:
                failure = stopping
        except Exception as error:
            failure = error
        body.is_reading = False
        receipt, trouble = await self._conclude(body, failure)
        failure = trouble if failure is None else failure
        if isinstance(failure, DropmillError):
            failure.extra = {"kept": list(receipt.stored), "submission": body.submission_id, **failure.extra}
        if failure is not None:
            raise failure
        return receipt

    async def _begin(self, body: IncomingBody, part: PartBegins) -> None:
        # Noted in `body` before it is awaited: a cancel in between must leave nothing unsettled.
        if body.submission_id is None:
            body.meter.check_type(part.path, part.media_type)  # before a submission is opened for it
            body.opening = asyncio.create_task(self._open_submission(body.caller, body.key))
            body.submission_id = await asyncio.shield(body.opening)
        announced = None
        is_by_id = part.field.startswith(FIELD_OF_FILE)
        if is_by_id:
            announced = await self._ledger.upload(FileId(part.field.removeprefix(FIELD_OF_FILE)))
            if announced.submission_id != body.submission_id:
                raise NotFound("The submission has no such file.")
            if announced.state is not UploadState.ANNOUNCED:
                body.has_files = body.is_passing_over = True
                return
        elif body.may_fill:
            announced = await self._ledger.announced_upload(body.submission_id, part.path)
        if announced is None:
            body.meter.begin_file(part.path, part.media_type)
        else:
            body.meter.begin_announced_file(announced.size, announced.path)
        file_id = new_file_id() if announced is None else announced.file_id
        # Handed to the ledger now, awaited where the file ends: a thousand small files share their commits.
        if announced is not None:
            expected = announced.expected_sha256
            starting = asyncio.create_task(self._ledger.begin_upload(file_id))
        else:
            expected = body.expected_sha256
            starting = asyncio.create_task(
                self._ledger.start_upload(file_id, body.submission_id, part.name, part.path, None)
            )
        body.arriving = Arriving(
            file_id=file_id,
            path=part.path,
            writer=self._blobs.create(stored_extension(part.name)),
            starting=starting,
            expected_sha256=expected,
            is_by_id=is_by_id,
        )
        self._arrivals.begin(body.arriving, body.submission_id)
        if not body.has_files and body.opening is None:
            await asyncio.shield(starting)  # the first file shows whether a submission that existed takes any

    async def _write(self, body: IncomingBody, data: bytes) -> None:
        arriving = body.arriving
        if body.is_passing_over:
            return
        if arriving is None or body.submission_id is None:
            raise AssertionError("bytes of a file came before its part began")
        await body.meter.take(arriving.writer.size + len(data), len(data))
        await arriving.writer.write(data)
        now = asyncio.get_running_loop().time()
        if now >= arriving.report_at:
            arriving.report_at = now + PROGRESS_EVERY_S
            self._bus.report(
                Progress(
                    submission_id=body.submission_id,
                    file_id=arriving.file_id,
                    stage="upload",
                    value=arriving.writer.size,
                )
            )

    async def _end(self, body: IncomingBody) -> None:
        arriving, body.arriving = body.arriving, None
        if body.is_passing_over:
            body.is_passing_over = False
            return
        if arriving is None:
            raise AssertionError("a file ended before its part began")
        arriving.before, body.last = body.last, arriving
        finishing = asyncio.create_task(self._finish(body, arriving))
        body.has_files = True
        body.finishing.add(finishing)
        finishing.add_done_callback(body.has_ended)
        await body.slots.acquire()
        if body.trouble is not None:
            raise body.trouble

    async def _finish(self, body: IncomingBody, arriving: Arriving) -> None:
        """Store a file whose part has ended. Never cancelled: a file that arrived whole is kept."""
        try:
            blob = await self._arrivals.commit(arriving.writer, arriving.expected_sha256)
            await arriving.starting  # after the blob: the ledger's commit and the file's fsyncs overlap
            if arriving.before is not None:
                await arriving.before.handed.wait()  # jobs are queued in the order of their files
            arriving.is_handed_over = True
            queueing = asyncio.create_task(self._arrivals.queue(arriving.file_id, body.submission_id, blob))
            arriving.handed.set()
            await queueing
        except Exception as error:
            if not (arriving.is_by_id and isinstance(error, IllegalTransition)):  # else another request was faster
                body.trouble = body.trouble or error
            await self._arrivals.give_up(arriving, *_why(error))
            return
        finally:
            arriving.handed.set()
            arriving.before = None  # or each file of a request would hold all before it
        self._arrivals.end_stored(arriving)
        body.stored[arriving.file_id] = arriving.path

    async def _conclude(
        self, body: IncomingBody, failure: BaseException | None
    ) -> tuple[Receipt, BaseException | None]:
        """Settle what the body left, however it ended; returns what is stored, and why another file is not."""
        if body.opening is not None and body.submission_id is None:
            with contextlib.suppress(DropmillError):
                body.submission_id = await body.opening
        if body.arriving is not None:
            await self._arrivals.give_up(body.arriving, *_why(failure))
        if body.finishing:
            await asyncio.wait(body.finishing)
        trouble = body.trouble
        if body.submission_id is not None and body.is_sealed_at_end:
            ended = failure or trouble
            # A body that came whole and asked for the seal gives up what it did not bring.
            cause = AbortCause.CANCELLED if ended is None else AbortCause.CUT_OFF
            unsealed = await self._seal_submission(body.submission_id, cause)
            trouble = trouble or unsealed
        if failure is None and trouble is None and not body.has_files:
            trouble = NothingSent("The form came without a file; choose one and send it again.")
        return Receipt(submission_id=body.submission_id, stored=tuple(body.stored.values())), trouble


async def as_one_part(chunks: AsyncIterator[bytes], path: str, media_type: str) -> AsyncIterator[PartEvent]:
    """A body that is one file, in the form of a multipart body's events."""
    yield PartBegins(name=base_name(path), path=path, media_type=media_type)
    async for chunk in chunks:
        if chunk:
            yield chunk
    yield PartEnds()


def _why(error: BaseException | None) -> tuple[AbortCause, str]:
    """Why a file was aborted, for programs and for people."""
    match error:
        case asyncio.CancelledError():
            return AbortCause.CUT_OFF, "the connection was cut"
        case MalformedUpload() | RequestTooSlow():
            return AbortCause.CUT_OFF, error.detail
        case TooLarge() | UnsupportedMediaType() | BadFileName():
            return AbortCause.REFUSED, error.detail
        case DigestMismatch():
            return AbortCause.DAMAGED, error.detail
        case DropmillError():
            return AbortCause.SERVER_FAILED, error.detail
        case _:
            return AbortCause.SERVER_FAILED, SERVER_FAILED
