"""Submissions: opened, filled, sealed, and cleaned up after.

A body is received in a task of its own, not in the request's handler: when the client leaves, the framework cancels the
handler, and what has arrived must still be settled. `receiving` reads one body; what an upload may be is in `limits`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

from dropmill.access.policy import visible_to
from dropmill.health import Health
from dropmill.intake.announcement import AnnouncedFile
from dropmill.intake.arriving import NOTED_MAX, SERVER_FAILED, Arrivals
from dropmill.intake.gathering import Gathering
from dropmill.intake.leftovers import Leftovers
from dropmill.intake.limits import Gate
from dropmill.intake.loans import Pieces
from dropmill.intake.multipart import PartEvent, boundary_of, client_path, file_parts
from dropmill.intake.receiving import IncomingBody, Receipt, Receiver, as_one_part
from dropmill.intake.repeats import Repeated, request_key
from dropmill.intake.senders import Senders
from dropmill.model.caller import Caller
from dropmill.model.clock import Clock, utc_now
from dropmill.model.errors import DropmillError, IllegalTransition, NotFound, Unavailable
from dropmill.model.ids import FileId, Owner, Sha256, SubmissionId, new_submission_id
from dropmill.model.internal import AnyCaller, Internal
from dropmill.model.quotas import holder_of
from dropmill.model.uploads import AbortCause
from dropmill.origin.resolver import Resolver
from dropmill.ports.blobs import SMALL_BYTES, BlobStore, BlobWriter
from dropmill.ports.bus import Bus
from dropmill.ports.executor import Executor
from dropmill.ports.ledger.history import SubmissionView
from dropmill.ports.ledger.submissions import IntakeLedger, RequestKey
from dropmill.ports.ledger.uploads import SubmissionUsage, WholeFile

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 60.0
LOOK_AGAIN_S = 1.0  # at a request to another server: notifications may be lost
SWEEP_MAX = 100  # submissions, or uploads, of one sweep, so that it does not hold up the ledger


class Intake:
    """Opens, fills and seals submissions.

    Attributes:
        senders: which files are being sent now.
    """

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
            gate: the limits of uploads.
            seal_after_s: seconds without a new file after which the server seals an announced submission.
            clock: measures ages.
            health: shows whether the sealing works.
        """
        self._clock = clock
        self._health = health
        self._ledger = ledger
        self._blobs = blobs
        self._bus = bus
        self._resolver = resolver
        self._gate = gate
        self._seal_after_s = seal_after_s
        self.senders = Senders(bus)
        self._arrivals = Arrivals(ledger=ledger, blobs=blobs, executor=executor, bus=bus, senders=self.senders)
        self._receiver = Receiver(
            ledger=ledger,
            bus=bus,
            arrivals=self._arrivals,
            gathering=Gathering(ledger=ledger, blobs=blobs),
            open_submission=self._open_for_body,
            receive_one=self._receive_one,
            seal_submission=self._seal_after_body,
            require_running=self.require_running,
        )
        self._receiving: dict[asyncio.Task[Receipt], IncomingBody] = {}
        self._identifying: set[asyncio.Task[None]] = set()
        # Submissions that one request fills: noted before the ledger hears of them, until it has sealed them.
        self._filling: set[SubmissionId] = set()
        self._to_seal: dict[SubmissionId, AbortCause] = {}
        self._by_key: dict[tuple[Owner, str], asyncio.Task[Receipt]] = {}
        self._is_draining = False
        self._leftovers = Leftovers(blobs, ledger)

    # --- life --------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Complete what an earlier process stored, and remove what it left on disk without an entry in the ledger.

        Before anything is received. What belongs to other processes that may be alive is not touched.

        Raises:
            OutOfSpace, StorageUnavailable: a stored file could not be completed.
        """
        if written := await self._blobs.replay(self._ledger.live_blobs):
            log.info("Wrote %d small files anew that had not reached the disk.", written)
        await self._leftovers.remove()

    def expect_leftovers(self) -> None:
        """Have what another process left behind removed soon: it was declared gone."""
        self._leftovers.expect()

    async def run(self) -> None:
        """Seal announced submissions that nobody fills any more, until cancelled."""
        while True:
            await asyncio.sleep(min(SWEEP_EVERY_S, self._seal_after_s))
            await self._health.insist("intake", self.seal_stale)

    async def seal_stale(self) -> None:
        """Seal announced submissions that nobody fills any more, or that came by links which have ended.

        Raises:
            OutOfSpace, Unavailable: the ledger fails.
        """
        before = self._clock.ago(self._seal_after_s)
        stale = await self._ledger.stale_submissions(before, limit=SWEEP_MAX)
        for submission_id in {*stale, *await self._ledger.unsealed_by_links(utc_now(), limit=SWEEP_MAX)}:
            await self.seal(Internal.SERVER, submission_id, AbortCause.EXPIRED)

    async def sweep(self) -> int:
        """Do what could not be done when a request ended, because the disk or the ledger failed.

        Files that no request is bringing are aborted, and submissions that no request fills are sealed. Of files that
        the ledger may or may not have stored, it is asked again. Bytes that nothing refers to are removed.

        Returns:
            How much of it is still left.

        Raises:
            OutOfSpace, Unavailable: the ledger is still away; the next sweep tries again.
        """
        await self._arrivals.settle_doubts()
        await self._leftovers.sweep()
        unattended = await self._ledger.form_uploads()
        for file_id in unattended.files - self._arrivals.file_ids:
            with contextlib.suppress(IllegalTransition):  # its request has settled it since
                await self._ledger.abort_upload(file_id, AbortCause.SERVER_FAILED, SERVER_FAILED)
        for submission_id in (unattended.submissions | self._to_seal.keys()) - self._filling:
            cause = self._to_seal.get(submission_id, AbortCause.SERVER_FAILED)
            await self.seal(Internal.SERVER, submission_id, cause)
            self._to_seal.pop(submission_id, None)
        return self._arrivals.in_doubt + await self._blobs.retry_discards()

    async def drain(self) -> None:
        """Accept nothing more; give up the files that are arriving, and keep those that have ended."""
        self._is_draining = True
        for receiving in self._receiving:
            self._stop_reading(receiving)
        if self._receiving:
            await asyncio.wait(self._receiving)
        for identifying in self._identifying:
            identifying.cancel()
        if self._identifying:
            await asyncio.wait(self._identifying)

    def require_running(self) -> None:
        """Return unless the server is stopping.

        Raises:
            Unavailable: it is.
        """
        if self._is_draining:
            raise Unavailable("The server is stopping; send what was not stored again in a moment.")

    # --- submissions -------------------------------------------------------------------------------------------------

    async def require_seen(self, caller: AnyCaller, submission_id: SubmissionId) -> None:
        """Return if the caller may see a submission, and so add to it and seal it. Its owner never changes.

        Costs nothing for who sees everybody's; then whatever is done next finds out whether there is one.

        Raises:
            NotFound: there is no such submission, or it is somebody else's.
        """
        owner = visible_to(caller)
        if owner is not None:
            await self._ledger.submission_usage(submission_id, visible_to=owner)

    async def require_quota(self, caller: Caller, size: int) -> None:
        """Refuse what the caller's quota has no room for, before anything is opened for it or a byte of it is read.

        Others may take the room meanwhile: the ledger looks again when it records the files.

        Args:
            caller: who wants to send.
            size: how many bytes.

        Raises:
            QuotaExceeded: the owner of what the caller sends would have more than it may.
        """
        holder = caller.owner if caller.link is None else holder_of(caller.link)
        (await self._ledger.quotas([holder]))[holder].require(storage=size, total_size=size)

    async def open(
        self,
        caller: Caller,
        *,
        idempotency_key: str | None = None,
        announced: Sequence[AnnouncedFile] = (),
    ) -> tuple[SubmissionId, bool]:
        """Open a submission that stays open until `seal`.

        Args:
            caller: whose submission it is.
            idempotency_key: what a repeat of this request will show; None if there is none.
            announced: the files that the request names; a repeat names the same.

        Returns:
            Its id, and whether it is new; it is not if the same key opened one before.

        Raises:
            IdempotencyMismatch: the same key came with another request.
            QuotaExceeded, TooManySubmissions: the owner may open none.
        """
        self.require_running()
        key = request_key(idempotency_key, "announcement", *(file.said for file in announced))
        try:
            return await self._open(new_submission_id(), caller, is_announced=True, key=key), True
        except Repeated as repeated:
            return repeated.submission_id, False

    async def seal(
        self, caller: AnyCaller, submission_id: SubmissionId, cause: AbortCause = AbortCause.CANCELLED
    ) -> None:
        """Record that no more files will come, but those whose part has begun. Sealing twice changes nothing.

        Args:
            caller: who seals it.
            submission_id: which one.
            cause: why files that are still announced will not come: a client that seals gives them up.

        Raises:
            NotFound: there is no such submission.
        """
        await self.require_seen(caller, submission_id)  # before bodies on their way to it are disturbed
        for body in tuple(self._receiving.values()):
            if body.submission_id == submission_id:
                await self._receiver.begun_ends(body)
        await self._ledger.seal_submission(submission_id, cause)

    async def _open_for_body(self, submission_id: SubmissionId, caller: Caller, key: RequestKey | None) -> SubmissionId:
        return await self._open(submission_id, caller, is_announced=False, key=key)

    async def _receive_one(self, caller: Caller, file: WholeFile) -> SubmissionView:
        view = await self._ledger.receive_one(caller.client, caller.account, file, owner=caller.owner)
        self.identify(file.submission_id, caller.client.ip)
        return view

    async def _open(
        self, submission_id: SubmissionId, caller: Caller, *, is_announced: bool, key: RequestKey | None
    ) -> SubmissionId:
        if not is_announced:
            self._filling.add(submission_id)
        try:
            opened = await self._ledger.open_submission(
                submission_id, caller.client, caller.account, is_announced=is_announced, key=key, owner=caller.owner
            )
            if opened != submission_id:
                if not is_announced:
                    await self._ended(opened)
                raise Repeated(opened)
        except BaseException:
            self._filling.discard(submission_id)
            raise
        self.identify(submission_id, caller.client.ip)
        return submission_id

    async def _ended(self, submission_id: SubmissionId) -> None:
        """Return once the request that fills a submission has ended, also one to another server."""
        subscription = self._bus.subscribe()
        try:
            subscription.join(f"submission:{submission_id}")
            while (await self._ledger.view_submission(submission_id, limit=1)).submission.is_open:
                self.require_running()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await subscription.next()
        finally:
            subscription.close()

    async def _seal_after_body(self, submission_id: SubmissionId, cause: AbortCause) -> DropmillError | None:
        """Seal a submission whose body has ended, or have `sweep` do it and return the error."""
        failed = None
        try:
            # By the server: the body may have ended because its sender may not send any more.
            await self.seal(Internal.SERVER, submission_id, cause)
        except DropmillError as error:
            failed = error
            if not isinstance(error, NotFound) and len(self._to_seal) < NOTED_MAX:
                self._to_seal[submission_id] = cause
        self._filling.discard(submission_id)
        return failed

    def identify(self, submission_id: SubmissionId, ip: str) -> None:
        """Start to look up the host name of a new submission's client, in the background."""
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
            log.warning("The host name of a client could not be recorded: %s", error)

    # --- bodies ------------------------------------------------------------------------------------------------------

    async def receive_multipart(
        self,
        caller: Caller,
        pieces: Pieces,
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
            pieces: the body, read only as fast as the disk takes it.
            content_type: the request's header.
            submission_id: the open submission to add to; None opens one with the first file, and seals it.
            then_seal: seal an existing one too when the body ends, however it ends.
            size: of the body; None if unknown.
            idempotency_key: what a repeat of this request will show; None if there is none.

        Raises:
            MalformedUpload, BadFileName, FileTypeNotAccepted, RequestTooSlow, TooLarge, OutOfSpace, NothingSent,
                Unavailable: with `kept`, the paths of the files that were stored all the same, and `submission`, its
                id or None.
            NotFound: there is no such submission; before the body is read.
            IllegalTransition: the submission is sealed.
            IdempotencyMismatch: the same key came with other files. The body is read for that, and nothing is stored.
            TooManyUploads: the address has as many requests under way as the limit allows.

        Cancelling gives up the file that is arriving, keeps those whose part had ended, and seals as the arguments say.
        """
        boundary = boundary_of(content_type)
        await self._gate.check_room(size or 0)
        usage = SubmissionUsage()
        if submission_id is not None:
            usage = await self._ledger.submission_usage(submission_id, visible_to=visible_to(caller))
        body = IncomingBody(
            caller=caller,
            submission_id=submission_id,
            is_sealed_at_end=then_seal or not submission_id,
            key=request_key(idempotency_key, "form"),
            may_fill=usage.announced > 0,
            meter=self._gate.meter(usage),
        )
        return await self._run(body, file_parts(self._gate.pace(pieces), boundary))

    async def receive_raw(
        self,
        caller: Caller,
        pieces: Pieces,
        name: str,
        *,
        size: int | None,
        media_type: str = "",
        expected_sha256: Sha256 | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Store a body as one file, in a submission of its own.

        Args:
            caller: who sends; the submission is theirs.
            pieces: the file.
            name: what the client calls it.
            size: the announced size; None if unknown.
            media_type: as the client declared it; "" if it did not.
            expected_sha256: what the whole file must have; None if the client did not say.
            idempotency_key: what a repeat of this request will show; None if there is none.

        Raises:
            DigestMismatch: it has another SHA-256; the server keeps nothing.
            IdempotencyMismatch: the same key came with another name, size or digest. A body whose size is unknown is
                read for that.
            DropmillError: otherwise as `receive_multipart`.

        Cancelling gives up the file.
        """
        path = client_path(name)
        self._gate.check_type(path, media_type)
        self._gate.check_size(size, path)
        self._gate.check_submission(SubmissionUsage(files=1, size=size or 0))
        await self._gate.check_room(size or 0)
        if size is not None and size > SMALL_BYTES and idempotency_key is None:  # a repeat brings nothing new
            await self.require_quota(caller, size)
        key = request_key(idempotency_key, "file", path, expected_sha256)
        body = IncomingBody(
            caller=caller,
            submission_id=None,
            is_sealed_at_end=True,
            size=size,
            key=key,
            is_single=key is None and (size is None or size <= SMALL_BYTES),
            expected_sha256=expected_sha256,
            meter=self._gate.meter(SubmissionUsage()),
        )
        return await self._run(body, as_one_part(self._gate.pace(pieces), path, media_type))

    async def _run(self, body: IncomingBody, parts: AsyncIterator[PartEvent]) -> Receipt:
        self.require_running()
        # Only the end of the first request shows whether this one repeats it: one that was cut off may leave nothing.
        while (key := body.owned_key) is not None and (first := self._by_key.get(key)) is not None:
            await asyncio.wait([first])
            self.require_running()
        with self._gate.admit(body.caller.client.ip):
            return await self._run_admitted(body, parts)

    async def _run_admitted(self, body: IncomingBody, parts: AsyncIterator[PartEvent]) -> Receipt:
        receiving = asyncio.create_task(self._receiver.receive(body, parts))
        self._receiving[receiving] = body
        if (key := body.owned_key) is not None:
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
            receiving.exception()  # retrieved, though the client may have left

    def _stop_reading(self, receiving: "asyncio.Task[Receipt]") -> None:
        """Give up a body. Does nothing once the body has been read to its end."""
        body = self._receiving.get(receiving)
        if body is not None and body.is_reading:
            body.is_reading = False
            receiving.cancel()

    def received(self, file_id: FileId) -> int | None:
        """Bytes of a file that have arrived so far; None unless it is arriving now."""
        return self._arrivals.received(file_id)

    async def store(
        self,
        file_id: FileId,
        submission_id: SubmissionId,
        writer: BlobWriter,
        expected_sha256: Sha256 | None,
        *,
        fence: int,
    ) -> None:
        """Make a resumable upload whose last byte has come durable, and queue its job.

        Args:
            fence: of the turn in which its last byte came.

        Raises:
            DigestMismatch: it has another SHA-256 than expected; the caller gives it up.
            UploadTaken: another process has taken the turn since.
        """
        blob = await self._arrivals.commit(writer, expected_sha256)
        await self._arrivals.queue(file_id, submission_id, blob, fence)
