"""One request's body on its way in: each file is begun, written and stored as its part comes, its job queued at once.

A file starts *held*, in memory. If its end comes soon and it is small, it is stored together with others (`gathering`);
else it goes alone, and then people see it arrive.

When the client leaves, files whose part had ended are kept and processed; the one that was cut off is removed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dropmill.intake.arriving import SERVER_FAILED, Arrivals, Arriving
from dropmill.intake.awaited import AwaitedFiles
from dropmill.intake.gathering import Gathering, SmallFile
from dropmill.intake.limits import Meter
from dropmill.intake.loans import Loan, Pieces
from dropmill.intake.multipart import PartBegins, PartEnds, PartEvent, base_name, stored_extension
from dropmill.intake.repeats import Repeated, compare
from dropmill.model.caller import Caller
from dropmill.model.errors import (
    BadFileName,
    DigestMismatch,
    DropmillError,
    IllegalTransition,
    LinkEnded,
    MalformedUpload,
    NotFound,
    NothingSent,
    RequestTooSlow,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from dropmill.model.ids import FileId, Owner, Sha256, SubmissionId, new_file_id, new_submission_id
from dropmill.model.jobs import Progress
from dropmill.model.uploads import AbortCause
from dropmill.ports.blobs import SMALL_BYTES
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.history import SubmissionView
from dropmill.ports.ledger.submissions import IntakeLedger, RequestKey
from dropmill.ports.ledger.uploads import WholeFile

FINISHING_MAX = 8
"""Files of one request whose commit is under way while the next ones already arrive. Their fsyncs overlap and their
ledger changes share a commit."""

FIELD_OF_FILE = "file:"
"""A form's field named by this and an announced file's id brings that file, and only once: a browser sends a form again
when a kept connection breaks, without knowing that its files were stored."""

ALONE_AFTER_S = 0.03
"""Seconds after its begin when a file whose end has not come goes alone. A small file is queued within 50 ms."""

PROGRESS_EVERY_S = 0.25  # four reports a second for each file, as the API promises


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The outcome of one request.

    Attributes:
        submission_id: None if no file had begun, so that none was opened. With an idempotency key that was seen
            before it is the first request's.
        stored: the client's paths of the files that are stored, in the order in which they were.
        view: the submission as the request left it, if the ledger returned that; None if it must be read.
    """

    submission_id: SubmissionId | None
    stored: tuple[str, ...]
    view: SubmissionView | None = None


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
        awaited: announced files that its parts may name by their ids.
        may_fill: whether a part may bring an announced file that has its path or name.
        expected_sha256: what its only file must have; None if the client did not say.
        is_passing_over: whether the part that is being read brings a file that is no longer waited for.
        is_reading: whether it may still be given up.
        own_id: of the submission that it opens, if it opens one.
        is_single: whether its only file may open, fill and seal the submission by one change.
        view: the submission as that change left it; None unless it was made.
        is_settled: whether all that the body left is settled, as far as that was possible.
        opening: opens the submission; None unless this body opens one.
        arriving: the file whose part is being read; None between two.
        last: the file whose part ended last.
        stored: path of each file that is stored, in order.
        has_files: whether a part with a file has ended.
        finishing: files that went alone and are being stored.
        slots: bounds `finishing`.
        gathered: files that are being stored together with others.
        gathered_ended: set while there are none.
        alone: calls `Receiver` when the file that arrives goes alone; None if none is waited for.
        trouble: why the first of the files that failed did.
    """

    caller: Caller
    submission_id: SubmissionId | None
    is_sealed_at_end: bool
    meter: Meter
    size: int | None = None
    key: RequestKey | None = None
    awaited: AwaitedFiles = field(default_factory=AwaitedFiles)
    may_fill: bool = False
    expected_sha256: Sha256 | None = None
    is_passing_over: bool = False
    is_reading: bool = True
    own_id: SubmissionId = field(default_factory=new_submission_id)
    is_single: bool = False
    view: SubmissionView | None = None
    is_settled: bool = False
    opening: asyncio.Task[SubmissionId] | None = None
    arriving: Arriving | None = None
    last: Arriving | None = None
    stored: dict[FileId, str] = field(default_factory=dict)
    has_files: bool = False
    finishing: set[asyncio.Task[None]] = field(default_factory=set)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FINISHING_MAX))
    gathered: int = 0
    gathered_ended: asyncio.Event = field(default_factory=asyncio.Event)
    alone: asyncio.TimerHandle | None = None
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
        bus: Bus,
        arrivals: Arrivals,
        gathering: Gathering,
        open_submission: Callable[[SubmissionId, Caller, RequestKey | None], Coroutine[Any, Any, SubmissionId]],
        receive_one: Callable[[Caller, WholeFile], Awaitable[SubmissionView]],
        seal_submission: Callable[[SubmissionId, AbortCause], Awaitable[DropmillError | None]],
        require_running: Callable[[], None],
    ) -> None:
        """Keep the ports.

        Args:
            arrivals: where each file is noted.
            gathering: stores small files.
            open_submission: opens a submission, of this id, that one body fills; raises `Repeated` if its key was seen
                before.
            receive_one: records a submission with its only file, which is stored.
            seal_submission: seals it, or returns why it could not; then something else will. Files that are still
                announced are aborted with the cause.
            require_running: raises `Unavailable` once the server is stopping.
        """
        self._ledger = ledger
        self._bus = bus
        self._arrivals = arrivals
        self._gathering = gathering
        self._open_submission = open_submission
        self._receive_one = receive_one
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
                elif isinstance(event, Loan):
                    await self._borrow(body, event)
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
        submission_id = None if body.is_single else await self._open(body)
        announced = None
        is_by_id = part.field.startswith(FIELD_OF_FILE)
        if submission_id is not None and is_by_id:
            named = FileId(part.field.removeprefix(FIELD_OF_FILE))
            announced = await body.awaited.find(self._ledger, submission_id, named)
            if announced is None:
                body.has_files = body.is_passing_over = True
                return
        elif submission_id is not None and body.may_fill:
            announced = await self._ledger.announced_upload(submission_id, part.path)
        if announced is None:
            body.meter.begin_file(part.path, part.media_type)
        else:
            body.meter.begin_announced_file(announced.size, announced.path)
        file_id = new_file_id() if announced is None else announced.file_id

        async def start() -> None:
            submission_id = await self._open(body)
            if arriving.before is not None and arriving.before.writer is None:
                await arriving.before.handed.wait()  # files are recorded in their order
            if announced is not None:
                await self._ledger.begin_upload(file_id)
            else:
                await self._ledger.start_upload(file_id, submission_id, part.name, part.path, None)

        loop = asyncio.get_running_loop()
        arriving = Arriving(
            file_id=file_id,
            submission_id=body.own_id if body.submission_id is None else body.submission_id,
            name=part.name,
            path=part.path,
            extension=stored_extension(part.name),
            start=start,
            expected_sha256=body.expected_sha256 if announced is None else announced.expected_sha256,
            goes_alone_at=loop.time() + ALONE_AFTER_S,
            is_announced=announced is not None,
            is_by_id=is_by_id,
            before=body.last,
        )
        body.arriving = arriving
        self._arrivals.begin(arriving)
        body.meter.watch_quota(partial(self._hold, arriving))
        if body.alone is None:
            body.alone = loop.call_at(arriving.goes_alone_at, self._end_of_waiting, body)

    async def _hold(self, arriving: Arriving, received: int) -> int | None:
        await arriving.started()
        return await self._ledger.hold_upload(arriving.file_id, received)

    async def _open(self, body: IncomingBody) -> SubmissionId:
        """The submission of a body, opened now if there is none.

        Raises:
            NotFound: the request has ended without one; nobody would seal it.
        """
        if body.submission_id is None:
            if body.is_settled:
                raise NotFound("The request has ended without a submission.")
            if body.opening is None:
                body.opening = asyncio.create_task(self._open_submission(body.own_id, body.caller, body.key))
            body.submission_id = await asyncio.shield(body.opening)
        return body.submission_id

    def _end_of_waiting(self, body: IncomingBody) -> None:
        """Have the file that arrives go alone, if it has been waited for long enough."""
        body.alone = None
        arriving = body.arriving
        if arriving is None or arriving.writer is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= arriving.goes_alone_at:
            self._arrivals.go_alone(arriving)
        else:
            body.alone = loop.call_at(arriving.goes_alone_at, self._end_of_waiting, body)

    async def begun_ends(self, body: IncomingBody) -> None:
        """Return when sealing the body's submission does not refuse a file whose part has begun."""
        if (arriving := body.arriving) is not None:
            self._arrivals.go_alone(arriving)
            with contextlib.suppress(DropmillError):
                await arriving.started()
        if body.submission_id is not None:
            await self._gathering.handed(body.submission_id)

    async def _write(self, body: IncomingBody, data: bytes) -> None:
        arriving = body.arriving
        if body.is_passing_over:
            return
        if arriving is None:
            raise AssertionError("bytes of a file came before its part began")
        await body.meter.take(arriving.size + len(data), len(data))
        if arriving.writer is None:
            if arriving.size + len(data) <= SMALL_BYTES:
                arriving.held += data
                return
            self._arrivals.go_alone(arriving)
        await self._arrivals.write(arriving, data)
        self._report(arriving)

    async def _borrow(self, body: IncomingBody, loan: Loan) -> None:
        """Take what a loan brings, as far as the limits allow; the byte after that comes the ordinary way.

        A file that is still held may end within a few bytes, so it takes no loan.
        """
        arriving = body.arriving
        if arriving is None or arriving.writer is None or body.is_passing_over:
            return
        writer = await self._arrivals.write_held(arriving)
        while room := body.meter.room(writer.size):
            taken = await loan.use(partial(writer.take, limit=room))
            if not taken:
                return
            await body.meter.take(writer.size, taken)
            self._report(arriving)

    def _report(self, arriving: Arriving) -> None:
        """Report a file's progress, if a report is due."""
        now = asyncio.get_running_loop().time()
        if now >= arriving.report_at:
            arriving.report_at = now + PROGRESS_EVERY_S
            self._bus.report(
                Progress(
                    submission_id=arriving.submission_id,
                    file_id=arriving.file_id,
                    stage="upload",
                    value=arriving.size,
                )
            )

    async def _end(self, body: IncomingBody) -> None:
        arriving, body.arriving = body.arriving, None
        if body.is_passing_over:
            body.is_passing_over = False
            return
        if arriving is None:
            raise AssertionError("a file ended before its part began")
        body.last = arriving
        if arriving.writer is None:
            await self._gather(body, arriving)
            if body.trouble is not None:
                raise body.trouble
            return
        finishing = asyncio.create_task(self._finish(body, arriving))
        body.has_files = True
        body.finishing.add(finishing)
        finishing.add_done_callback(body.has_ended)
        await body.slots.acquire()
        if body.trouble is not None:
            raise body.trouble

    async def _gather(self, body: IncomingBody, arriving: Arriving) -> None:
        """Have a file that arrived whole stored together with others. It is, though the caller is cancelled."""
        data = bytes(arriving.held)
        body.has_files = True
        body.gathered += 1
        body.gathered_ended.clear()

        async def record(file: WholeFile) -> None:
            body.view = await self._receive_one(body.caller, file)
            body.submission_id = file.submission_id

        async def ended(error: Exception | None) -> None:
            try:
                if error is None:
                    self._arrivals.end_stored(arriving)
                    self._arrivals.wake()
                    body.stored[arriving.file_id] = arriving.path
                else:
                    await self._give_up(body, arriving, error)
            finally:
                body.gathered -= 1
                if not body.gathered:
                    body.gathered_ended.set()

        await self._gathering.add(
            SmallFile(
                arriving=arriving,
                data=data,
                record=record if body.is_single and body.opening is None else None,
                ended=ended,
            )
        )

    async def _give_up(self, body: IncomingBody, arriving: Arriving, error: Exception) -> None:
        if not (arriving.is_by_id and isinstance(error, IllegalTransition)):  # else another request was faster
            body.trouble = body.trouble or error
        await self._arrivals.give_up(arriving, *_why(error))

    async def _finish(self, body: IncomingBody, arriving: Arriving) -> None:
        """Store a file whose part has ended. Never cancelled: a file that arrived whole is kept."""
        try:
            blob = await self._arrivals.commit_alone(arriving)
            if arriving.before is not None:
                await arriving.before.handed.wait()  # jobs are queued in the order of their files
            arriving.is_handed_over = True
            queueing = asyncio.create_task(self._arrivals.queue(arriving.file_id, body.submission_id, blob))
            arriving.handed.set()
            arriving.is_placed.set()
            await queueing
        except Exception as error:
            await self._give_up(body, arriving, error)
            return
        finally:
            arriving.handed.set()
            arriving.is_placed.set()
            arriving.before = None  # or each file of a request would hold all before it
        self._arrivals.end_stored(arriving)
        body.stored[arriving.file_id] = arriving.path

    async def _conclude(
        self, body: IncomingBody, failure: BaseException | None
    ) -> tuple[Receipt, BaseException | None]:
        """Settle what the body left, however it ended; returns what is stored, and why another file is not."""
        if body.alone is not None:
            body.alone.cancel()
        if (arriving := body.arriving) is not None:
            body.arriving = None
            await self._arrivals.give_up(arriving, *_why(failure))
        if body.finishing:
            await asyncio.wait(body.finishing)
        if body.gathered:
            await body.gathered_ended.wait()
        if body.opening is not None and body.submission_id is None:
            with contextlib.suppress(DropmillError):
                body.submission_id = await body.opening
        body.is_settled = True
        trouble = body.trouble
        if body.submission_id is not None and body.is_sealed_at_end and body.view is None:
            ended = failure or trouble
            # A body that came whole and asked for the seal gives up what it did not bring.
            cause = AbortCause.CANCELLED if ended is None else AbortCause.CUT_OFF
            unsealed = await self._seal_submission(body.submission_id, cause)
            trouble = trouble or unsealed
        if failure is None and trouble is None and not body.has_files:
            trouble = NothingSent("The form came without a file; choose one and send it again.")
        stored = tuple(body.stored.values())
        return Receipt(submission_id=body.submission_id, stored=stored, view=body.view), trouble


async def as_one_part(pieces: Pieces, path: str, media_type: str) -> AsyncIterator[PartEvent]:
    """A body that is one file, in the form of a multipart body's events."""
    yield PartBegins(name=base_name(path), path=path, media_type=media_type)
    async for piece in pieces:
        if piece:
            yield piece
    yield PartEnds()


def _why(error: BaseException | None) -> tuple[AbortCause, str]:
    """Why a file was aborted, for programs and for people."""
    match error:
        case asyncio.CancelledError():
            return AbortCause.CUT_OFF, "the connection was cut"
        case MalformedUpload() | RequestTooSlow():
            return AbortCause.CUT_OFF, error.detail
        case TooLarge() | UnsupportedMediaType() | BadFileName() | LinkEnded():
            return AbortCause.REFUSED, error.detail
        case DigestMismatch():
            return AbortCause.DAMAGED, error.detail
        case DropmillError():
            return AbortCause.SERVER_FAILED, error.detail
        case _:
            return AbortCause.SERVER_FAILED, SERVER_FAILED
