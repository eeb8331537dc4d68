"""The ledger over a SQL database: the queue of changes, group commit, reads, and what cancelling a caller means.

One coroutine owns the write connection. Callers hand it a change and wait for a future; it commits whatever is
waiting, at most `BATCH_MAX` changes, as one transaction. Measured on SQLite: a commit each reaches 1,000 events/s,
group commits 14,500 at 1 ms. A caller that is cancelled stops waiting; its change is made or refused all the same.

Reads run on a few threads, each in a transaction of its own, beside the writer. What other processes commit is told
like what is committed here, a second later at most.

Every error of disk and database leaves here as `OutOfSpace` or `StorageUnavailable`. An engine says by five hooks what
is particular to its database: `connect`, `begin`, `translate`, `was_committed` and `forget_bytes`.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, ClassVar, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from dropmill.engines.sql import config, deliveries, events, jobs, nodes, retention, submissions, uploads
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.uploads import announce_uploads
from dropmill.health import Health
from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.deliveries import Delivery
from dropmill.model.errors import OutOfSpace, StorageUnavailable, Unavailable
from dropmill.model.events import TOPIC_ALL
from dropmill.model.ids import OPEN, Cursor, FileId, JobId, NodeId, Owner, Sha256, SubmissionId
from dropmill.model.jobs import AttemptOutcome, AttemptSpec, Claim, Ended, Job, JobState, RetryPolicy
from dropmill.model.nodes import Node
from dropmill.model.results import Result
from dropmill.model.retention import KeptBytes
from dropmill.model.submissions import Submission
from dropmill.model.uploads import File, StoredBlob
from dropmill.ports.ledger.config import ConfigPosition
from dropmill.ports.ledger.events import EventPage
from dropmill.ports.ledger.history import SubmissionView, Totals
from dropmill.ports.ledger.nodes import Recovery
from dropmill.ports.ledger.page import Page
from dropmill.ports.ledger.submissions import RequestKey
from dropmill.ports.ledger.uploads import FormUploads, ResumableUpload, SubmissionUsage

BATCH_MAX = 256  # changes in one commit: enough to hide the fsync, few enough to keep a change under 50 ms
QUEUE_MAX = 4096  # changes handed over and not yet taken; beyond it, callers wait
READERS = 3
POLL_INTERVAL_S = 1.0  # at what others committed; pages are to hear of it within 2
OTHERS_AT_ONCE = 500  # events of others read at once

_PART = "ledger"  # on the health board

P = ParamSpec("P")
T = TypeVar("T")


class _Committed(NamedTuple):
    """What became of the changes that were handed over together."""

    results: list[Any]  # one a change; an exception if it was refused
    moved: dict[str, int]
    fault: OutOfSpace | StorageUnavailable | None = None  # of the disk or the database


class SqlLedger(ABC):
    """`dropmill.ports.ledger.Ledger` over what SQLAlchemy calls an engine, of which a subclass knows the database."""

    driver_error: ClassVar[type[Exception]]
    """Root of what the database's driver raises by itself."""

    def __init__(
        self,
        engine: Engine,
        on_commit: Callable[[Mapping[str, int]], None],
        *,
        records_deliveries: bool = False,
        keep_revisions: int | None = None,
        health: Health | None = None,
    ) -> None:
        """Keep the engine; nothing is opened before `open`.

        Args:
            engine: makes connections whose transactions `begin` begins: at most `READERS` and one.
            on_commit: told after each commit which topics have reached which cursor. Runs on the event loop.
            records_deliveries: whether a delivery to the webhook is recorded each time a submission settles.
            keep_revisions: newest config revisions whose text is kept; None: all.
            health: shows whether the database works; None: nobody asks.
        """
        self._health = health or Health()
        self._tells_settled = records_deliveries
        self._keep_revisions = keep_revisions
        self._engine = engine
        self._connection: Connection | None = None  # the writer's, used in its thread only
        self._on_commit = on_commit
        # Bounded by the semaphore, which is fair: a full `asyncio.Queue` lets a newcomer overtake those who wait for
        # room, and a change that waits while the ledger closes would get behind the last one taken.
        self._queue: asyncio.Queue[tuple[Callable[[Transaction], Any], asyncio.Future[Any]] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(QUEUE_MAX)
        self._writer_thread = ThreadPoolExecutor(1, "ledger-writer")
        self._reader_threads = ThreadPoolExecutor(READERS, "ledger-reader")
        self._writer: asyncio.Task[None] | None = None
        self._poller: asyncio.Task[None] | None = None
        self._node: Node | None = None
        self._published_cursor = Cursor(0)  # every event up to here was told of; the writer's
        self._is_open = False

    # --- what an engine says -----------------------------------------------------------------------------------------

    @abstractmethod
    def connect(self, *, without_lock: bool) -> Cursor:
        """Make or migrate the database, open what will be needed later, and return the newest event's cursor.

        Runs on the writer's thread, once.

        Args:
            without_lock: for a process that does not own the data folder: the database is used as it is, or not at all.

        Raises:
            SettingsError: a newer Dropmill made the database; or a guest cannot use it.
        """

    @abstractmethod
    def begin(self, connection: Connection, *, is_writer: bool) -> str | None:
        """Begin a transaction on a connection that is in none; all its reads see one moment.

        A writer's waits until no other writer, of whatever process, is in one.

        Returns:
            By what `was_committed` will know it; None if that is never asked.

        Raises:
            StorageUnavailable: the database is not what was opened.
        """

    @abstractmethod
    def translate(self, error: Exception) -> OutOfSpace | StorageUnavailable | None:
        """The fault of disk or database that an exception means; None if it is a mistake of our own."""

    @abstractmethod
    def was_committed(self, token: str) -> bool | None:
        """Whether a transaction whose commit was answered by an error is in the database; None: that is not known."""

    @abstractmethod
    def forget_bytes(self) -> None:
        """Have no bytes of a purged text in the database's files, as far as the database can do that.

        Raises:
            Unavailable: not now.
        """

    def writing_connection(self) -> Connection:
        """The writer's connection. For its thread only."""
        # Kept open: taking a connection from the pool and giving it back costs as much as a small change.
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self, *, without_lock: bool = False) -> None:
        """Make or migrate the database and start the writer.

        Args:
            without_lock: for a process that does not own the data folder: the database is used as it is, or not at all.

        Raises:
            SettingsError: a newer Dropmill made the database; or a guest cannot use it.
            OutOfSpace, StorageUnavailable: the disk or the database does not work.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._connect, without_lock)
        self._writer = asyncio.create_task(self._write(), name="ledger writer")
        self._poller = asyncio.create_task(self._poll(), name="ledger poller")
        self._is_open = True

    def _connect(self, without_lock: bool) -> None:
        with self._translated():
            self._published_cursor = self.connect(without_lock=without_lock)

    async def close(self) -> None:
        """Commit what was handed over, then close. Later changes raise `Unavailable`."""
        self._is_open = False
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
            self._poller = None
        if self._writer is not None:
            self._queue.put_nowait(None)
            await self._writer
            self._writer = None
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._close_connection)
        self._reader_threads.shutdown()
        self._writer_thread.shutdown()
        self._engine.dispose()

    @property
    def _node_id(self) -> NodeId | None:
        return None if self._node is None else self._node.id

    def open_readers(self) -> None:
        """Open the connections of the readers now: later there may be no descriptor left."""
        with contextlib.ExitStack() as stack:
            for _ in range(READERS):
                connection = stack.enter_context(self._engine.connect())
                with connection.begin():
                    self.begin(connection, is_writer=False)
                    events.newest_cursor(connection)

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what a fault of disk or database means to callers; mistakes of our own pass through."""
        try:
            yield
        except (self.driver_error, SQLAlchemyError, OSError) as error:
            if (fault := self.translate(error)) is None:
                raise
            raise fault from error

    def _fault_of(self, error: Exception) -> OutOfSpace | StorageUnavailable | None:
        return error if isinstance(error, OutOfSpace | StorageUnavailable) else self.translate(error)

    # --- the writer --------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        is_open = True
        while is_open:
            waiting = [await self._queue.get()]
            while len(waiting) < BATCH_MAX and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            handed = [entry for entry in waiting if entry is not None]
            is_open = len(handed) == len(waiting)
            for _ in handed:
                self._room.release()
            if not handed:
                continue
            results, moved, fault = await loop.run_in_executor(
                self._writer_thread, self._commit, [change for change, _ in handed]
            )
            if fault is None:
                self._health.works(_PART)
            else:
                self._health.failed(_PART, fault)
            for (_, future), result in zip(handed, results, strict=True):
                if isinstance(result, BaseException):
                    future.set_exception(result)
                    future.exception()  # seen, though a caller that was cancelled will never ask
                else:
                    future.set_result(result)
            if moved:
                self._on_commit(moved)

    def _commit(self, handed: Sequence[Callable[[Transaction], Any]]) -> _Committed:
        """Commit all as one transaction; if one of them refuses, each as one of its own, so that only it fails.

        On a full disk a small change may still fit. With any other fault of the storage all changes fail at once: each
        could wait as long as the database makes one wait.
        """
        try:
            return self._commit_together(handed)
        except Exception as error:
            fault = self._fault_of(error)
            if isinstance(fault, StorageUnavailable):  # one each: callers add to what they are given
                return _Committed([StorageUnavailable(fault.detail) for _ in handed], {}, fault)
            if len(handed) == 1:
                return _Committed([fault or error], {}, fault)
        all_of_them = [self._commit([change]) for change in handed]
        return _Committed(
            [one.results[0] for one in all_of_them],
            {topic: cursor for one in all_of_them for topic, cursor in one.moved.items()},
            next((one.fault for one in all_of_them if one.fault is not None), None),
        )

    def _commit_together(self, handed: Sequence[Callable[[Transaction], Any]]) -> _Committed:
        token: str | None = None
        is_committing = False
        try:
            connection = self.writing_connection()
            with connection.begin():
                token = self.begin(connection, is_writer=True)
                newest = events.newest_cursor(connection)
                tx = Transaction(connection, newest, node=self._node, records_deliveries=self._tells_settled)
                results = [change(tx) for change in handed]
                tx.flush()
                is_committing = True
        except (self.driver_error, SQLAlchemyError):
            self._close_connection()  # whatever state it is in, the next one is fresh
            if not is_committing or token is None or not self.was_committed(token):
                raise
        return _Committed(results, {**self._moved_by_others(newest, Cursor(tx.cursor)), **tx.moved})

    def _moved_by_others(self, newest: Cursor, committed: Cursor) -> dict[str, int]:
        """The topics of events that other processes committed since this one looked.

        They are read when the writers' lock is free again. What cannot be read now is told with a later commit.

        Args:
            newest: cursor of the event before those of this process's commit.
            committed: cursor of the last event of this process's commit.
        """
        moved: dict[str, int] = {}
        try:
            while self._published_cursor < newest:
                connection = self.writing_connection()
                with connection.begin():
                    self.begin(connection, is_writer=False)
                    page = events.events_after(connection, TOPIC_ALL, self._published_cursor, OTHERS_AT_ONCE)
                others = (event for event in page.events if event.cursor <= newest)
                moved.update((topic, event.cursor) for event in others for topic in event.topics)
                self._published_cursor = min(page.cursor, newest)
            self._published_cursor = committed
        except (self.driver_error, SQLAlchemyError, OSError, OutOfSpace, StorageUnavailable):
            self._close_connection()
        return moved

    async def _poll(self) -> None:
        """Have the writer tell of others' commits also when it has nothing to commit itself.

        While the database does not work, try a change that really writes: then what shows as working is working.
        """
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                if _PART in self._health.degraded:
                    await self._change(_write_something)
                elif await self._read(events.newest_cursor) > self._published_cursor:
                    await self._change(lambda _: None)
            except (OutOfSpace, StorageUnavailable) as error:
                self._health.failed(_PART, error)

    async def _change(self, change: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._room.acquire()
        if not self._is_open:
            self._room.release()
            raise Unavailable("The ledger is closed.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((lambda tx: change(tx, *args, **kwargs), future))
        return await asyncio.shield(future)

    async def _read(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> T:
            with self._translated(), self._engine.connect() as connection, connection.begin():
                self.begin(connection, is_writer=False)
                return query(connection, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader_threads, run)
        except (OutOfSpace, StorageUnavailable) as error:
            self._health.failed(_PART, error)
            raise

    # --- changes -----------------------------------------------------------------------------------------------------

    async def open_submission(
        self,
        submission_id: SubmissionId,
        client: ClientIdentity,
        account: str | None,
        *,
        is_announced: bool = False,
        key: RequestKey | None = None,
        owner: Owner = OPEN,
    ) -> SubmissionId:
        return await self._change(submissions.open_submission, submission_id, client, account, is_announced, key, owner)

    async def identify_client(
        self, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
    ) -> None:
        await self._change(submissions.identify_client, submission_id, host, verified, domain)

    async def start_upload(
        self, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
    ) -> None:
        await self._change(uploads.start_upload, file_id, submission_id, name, path, size)

    async def announce_uploads(self, uploads: Sequence[ResumableUpload]) -> None:
        await self._change(announce_uploads, uploads)

    async def open_for_upload(
        self, upload: ResumableUpload, client: ClientIdentity, account: str | None, *, owner: Owner = OPEN
    ) -> None:
        await self._change(submissions.open_for_upload, upload, client, account, owner)

    async def begin_upload(self, file_id: FileId) -> None:
        await self._change(uploads.begin_upload, file_id)

    async def take_upload(self, file_id: FileId) -> int:
        return await self._change(uploads.take_upload, file_id)

    async def extend_upload(
        self, file_id: FileId, *, size: int | None, received: int, expires_at: datetime | None, fence: int
    ) -> None:
        await self._change(uploads.extend_upload, file_id, size, received, expires_at, fence)

    async def store_upload(self, file_id: FileId, blob: StoredBlob, job_id: JobId, *, fence: int | None = None) -> None:
        await self._change(uploads.store_upload, file_id, blob, job_id, fence)

    async def abort_upload(self, file_id: FileId, reason: str) -> None:
        await self._change(uploads.abort_upload, file_id, reason)

    async def seal_submission(self, submission_id: SubmissionId) -> None:
        await self._change(submissions.seal_submission, submission_id)

    async def claim(self, claim: Claim) -> Sequence[AttemptSpec]:
        return await self._change(jobs.claim, claim)

    async def end_attempt(
        self,
        job_id: JobId,
        number: int,
        outcome: AttemptOutcome,
        retry: RetryPolicy | None = None,
        *,
        then_claim: Claim | None = None,
    ) -> Ended | None:
        return await self._change(jobs.end_attempt, job_id, number, outcome, retry, then_claim)

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        return await self._change(jobs.lose_attempt, job_id, number, max_attempts)

    async def request_cancel(self, job_id: JobId) -> JobState:
        return await self._change(jobs.request_cancel, job_id)

    async def request_cancels(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        return await self._change(jobs.request_cancels, submission_id, after, limit)

    async def retry_job(self, job_id: JobId) -> None:
        await self._change(jobs.retry_job, job_id)

    async def retry_failed(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        return await self._change(jobs.retry_failed, submission_id, after, limit)

    async def begin_removal(self, submission_id: SubmissionId, settled_at: datetime) -> bool:
        return await self._change(retention.begin_removal, submission_id, settled_at)

    async def end_removal(self, submission_id: SubmissionId) -> None:
        await self._change(retention.end_removal, submission_id)

    async def remove_events(self, *, before: datetime, up_to: Cursor, limit: int) -> int:
        return await self._change(retention.remove_events, before, up_to, limit)

    async def end_delivery(self, submission_id: SubmissionId, number: int) -> None:
        await self._change(deliveries.end_delivery, submission_id, number)

    async def postpone_delivery(self, submission_id: SubmissionId, number: int, due_at: datetime) -> None:
        await self._change(deliveries.postpone_delivery, submission_id, number, due_at)

    async def enter(self, node: Node) -> None:
        await self._change(nodes.enter, node)
        self._node = node

    async def recover(self, max_attempts: int, reason: str) -> Recovery:
        return await self._change(nodes.recover, max_attempts, reason)

    async def save_revision(
        self,
        text: bytes,
        *,
        base: Sha256 | None,
        client: ClientIdentity | None,
        account: str | None,
        message: str | None,
        found_at: ConfigLocation | None = None,
    ) -> ConfigRevision:
        return await self._change(
            config.save_revision,
            text,
            base=base,
            client=client,
            account=account,
            message=message,
            found_at=found_at,
            keep=self._keep_revisions,
        )

    async def use_config_file(self, location: ConfigLocation) -> None:
        await self._change(config.use_config_file, location)

    async def record_in_file(self, location: ConfigLocation, number: int) -> None:
        await self._change(config.record_in_file, location, number)

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        await self._change(config.reject_config, errors, client, account)

    async def purge_revision(self, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
        await self._change(config.purge_revision, sha256, client, account)
        # Cancelled before this: the next start does it, or the next purge.
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._forget_bytes)

    def _forget_bytes(self) -> None:
        with self._translated():
            self.forget_bytes()

    # --- reads -------------------------------------------------------------------------------------------------------

    async def view_submission(
        self,
        submission_id: SubmissionId,
        *,
        after: str | None = None,
        limit: int,
        state: str | None = None,
        visible_to: Owner | None = None,
    ) -> SubmissionView:
        return await self._read(submissions.view_submission, submission_id, after, limit, state, visible_to)

    async def submissions(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        visible_to: Owner | None = None,
    ) -> Page[Submission]:
        return await self._read(submissions.list_submissions, before, limit, state, text, visible_to)

    async def totals(self, *, visible_to: Owner | None = None) -> Totals:
        return await self._read(submissions.totals, visible_to)

    async def file(self, file_id: FileId, *, visible_to: Owner | None = None) -> File:
        return await self._read(uploads.get_file, file_id, visible_to)

    async def job(self, job_id: JobId, *, visible_to: Owner | None = None) -> Job:
        return await self._read(jobs.get_job, job_id, visible_to)

    async def result(self, job_id: JobId, path: str, attempt: int | None, *, visible_to: Owner | None = None) -> Result:
        return await self._read(jobs.get_result, job_id, path, attempt, visible_to)

    async def jobs(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        submission_id: SubmissionId | None = None,
        visible_to: Owner | None = None,
    ) -> Page[Job]:
        return await self._read(jobs.list_jobs, before, limit, state, text, submission_id, visible_to)

    async def upload(self, file_id: FileId, *, visible_to: Owner | None = None) -> ResumableUpload:
        return await self._read(uploads.get_upload, file_id, visible_to)

    async def announced_upload(
        self, submission_id: SubmissionId, path: str, *, visible_to: Owner | None = None
    ) -> ResumableUpload | None:
        return await self._read(uploads.announced_upload, submission_id, path, visible_to)

    async def submission_usage(
        self, submission_id: SubmissionId, *, visible_to: Owner | None = None
    ) -> SubmissionUsage:
        return await self._read(uploads.submission_usage, submission_id, visible_to)

    async def unfinished_uploads(self) -> Sequence[ResumableUpload]:
        return await self._read(uploads.unfinished_uploads)

    async def form_uploads(self) -> FormUploads:
        return await self._read(uploads.form_uploads, self._node_id)

    async def expired_uploads(self, now: datetime, *, limit: int) -> Sequence[ResumableUpload]:
        return await self._read(uploads.expired_uploads, now, limit)

    async def stale_submissions(self, before: datetime, *, limit: int) -> Sequence[SubmissionId]:
        return await self._read(submissions.stale_submissions, before, limit)

    async def known_blobs(self, keys: Collection[str]) -> Collection[str]:
        return await self._read(uploads.known_blobs, list(keys))

    async def cancels_asked(self) -> Sequence[tuple[JobId, int]]:
        return await self._read(jobs.cancels_asked, self._node_id)

    async def next_due(self) -> datetime | None:
        return await self._read(jobs.next_due)

    async def places(self, job_ids: Collection[JobId]) -> Mapping[JobId, int]:
        return await self._read(jobs.places, job_ids)

    async def removable(
        self, *, before: datetime | None, keep_bytes: int | None, limit: int
    ) -> Sequence[tuple[SubmissionId, datetime]]:
        return await self._read(retention.removable, before, keep_bytes, limit)

    async def removals(self, limit: int) -> Sequence[KeptBytes]:
        return await self._read(retention.removals, limit)

    async def deliveries(self, limit: int) -> Sequence[Delivery]:
        return await self._read(deliveries.next_deliveries, limit)

    async def events(self, topic: str, *, after: Cursor, limit: int, visible_to: Owner | None = None) -> EventPage:
        return await self._read(events.events_after, topic, after, limit, visible_to)

    async def newest_cursor(self) -> Cursor:
        return await self._read(events.newest_cursor)

    async def config_files(self) -> Sequence[ConfigLocation]:
        return await self._read(config.config_files_in_use)

    async def config_position(self, location: ConfigLocation) -> ConfigPosition:
        return await self._read(config.config_position, location)

    async def newest_revision(self) -> ConfigRevision | None:
        return await self._read(config.newest_revision)

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        return await self._read(config.list_revisions, before, limit)

    async def revision_text(self, sha256: Sha256) -> bytes:
        return await self._read(config.revision_text, sha256)


def _write_something(tx: Transaction) -> None:
    tx.connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
