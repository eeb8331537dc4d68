"""The embedded ledger: one SQLite file in the data folder, WAL, one writer.

One coroutine owns the write connection. Callers hand it a change and wait for a future; it commits whatever is
waiting, at most `BATCH_MAX` changes, as one transaction. Measured: a commit each reaches 1,000 events/s, group
commits 14,500 at 1 ms. A caller that is cancelled stops waiting; its change is made or refused all the same.

Reads run on a few threads, each in a transaction of its own, beside the writer (WAL). Not for network file systems:
WAL needs shared memory.

Every error of disk and database leaves here as `OutOfSpace` or `StorageUnavailable`. SQLite keeps its file open, so a
file that was moved away could still be written; whatever is read or written, the file must be at its path.

The command line writes into the same file while the server runs. What it commits is told like what is committed here,
a second later at most. Deleted bytes are overwritten, so that a purged config is nowhere in the file.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dropmill.engines.sql import changes, queries, resumable, upkeep
from dropmill.engines.sql.migrations import require_current, schema_version, upgrade
from dropmill.engines.sql.transaction import Transaction
from dropmill.health import Health
from dropmill.model.errors import OutOfSpace, SettingsError, StorageUnavailable, Unavailable
from dropmill.model.events import TOPIC_ALL
from dropmill.model.faults import fault_of
from dropmill.model.ids import Cursor, FileId, JobId, Sha256, SubmissionId
from dropmill.model.records import (
    AttemptOrder,
    AttemptOutcome,
    ClientIdentity,
    ConfigLocation,
    ConfigRevision,
    Delivery,
    File,
    Job,
    JobState,
    KeptBytes,
    QueuedJob,
    Result,
    RetryPolicy,
    StoredBlob,
    Submission,
)
from dropmill.ports.ledger.config import ConfigPosition
from dropmill.ports.ledger.events import EventPage
from dropmill.ports.ledger.history import SubmissionView
from dropmill.ports.ledger.nodes import Recovery
from dropmill.ports.ledger.page import Page
from dropmill.ports.ledger.submissions import RequestKey
from dropmill.ports.ledger.uploads import FormUploads, Holding, ResumableUpload
from dropmill.private import opener

BATCH_MAX = 256  # changes in one commit: enough to hide the fsync, few enough to keep a change under 50 ms
QUEUE_MAX = 4096  # changes handed over and not yet taken; beyond it, callers wait
READERS = 3
BUSY_TIMEOUT_S = 10  # for the command line's writes while the server runs
LOOK_S = 1.0  # at what others committed; pages are to hear of it within 2
OTHERS_AT_ONCE = 500  # events of others read at once
OVERWRITES_SINCE = "0004"  # databases of older schemas may hold remains of what was deleted

log = logging.getLogger(__name__)

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=2000",
    "secure_delete=ON",  # always: what is moved within the file before it is deleted would leave remains
)
_EMPTY_WAL = "PRAGMA wal_checkpoint(TRUNCATE)"
_PART = "ledger"  # on the health board

_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY})
_AWAY_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,  # shared memory could not be locked
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CORRUPT,  # the bytes on disk are wrong: no mistake of ours, and pages can still say so
        sqlite3.SQLITE_NOTADB,
    }
)
"""Primary result codes (https://sqlite.org/rescode.html). All others are our own mistakes."""

P = ParamSpec("P")
T = TypeVar("T")


class _Committed(NamedTuple):
    """What became of the changes that were handed over together."""

    results: list[Any]  # one a change; an exception if it was refused
    moved: dict[str, int]
    fault: OutOfSpace | StorageUnavailable | None = None  # of the disk or the database


class SqliteLedger:
    """`dropmill.ports.ledger.Ledger` over one SQLite file."""

    def __init__(
        self,
        path: Path,
        on_commit: Callable[[Mapping[str, int]], None],
        *,
        tells_settled: bool = False,
        keep_revisions: int | None = None,
        health: Health | None = None,
    ) -> None:
        """Keep the path; nothing is opened before `open`.

        Args:
            path: the database file; its folder exists.
            on_commit: told after each commit which topics have reached which cursor. Runs on the event loop.
            tells_settled: whether a delivery to the webhook is recorded each time a submission settles.
            keep_revisions: newest config revisions whose text is kept; None: all.
            health: shows whether the database works; None: nobody asks.
        """
        self._health = health or Health()
        self._identity: tuple[int, int] | None = None  # device and inode of the file that was opened
        self._tells_settled = tells_settled
        self._keep_revisions = keep_revisions
        self._path = path
        self._engine = _engine(path)
        # Taking the write lock at once, not at the first write: two processes would else deadlock and one give up.
        self._writing_engine = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        self._connection: Connection | None = None  # the writer's, used in its thread only
        self._on_commit = on_commit
        # Bounded by the semaphore, which is fair: a full `asyncio.Queue` lets a newcomer overtake those who wait for
        # room, and a change that waits while the ledger closes would get behind the last one taken.
        self._queue: asyncio.Queue[tuple[Callable[[Transaction], Any], asyncio.Future[Any]] | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(QUEUE_MAX)
        self._writer_thread = ThreadPoolExecutor(1, "ledger-writer")
        self._reader_threads = ThreadPoolExecutor(READERS, "ledger-reader")
        self._writer: asyncio.Task[None] | None = None
        self._looker: asyncio.Task[None] | None = None
        self._told = Cursor(0)  # every event up to here was told of; the writer's
        self._is_open = False

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self, *, is_guest: bool = False) -> None:
        """Make or migrate the database and start the writer.

        Args:
            is_guest: for a process that does not own the data folder: the database is used as it is, or not at all.

        Raises:
            SettingsError: a newer Dropmill made the database; or a guest cannot use it.
            OutOfSpace, StorageUnavailable: the disk or the database does not work.
        """
        open_database = self._open_as_guest if is_guest else self._open
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, open_database)
        self._writer = asyncio.create_task(self._write(), name="ledger writer")
        self._looker = asyncio.create_task(self._look(), name="ledger looker")
        self._is_open = True

    async def close(self) -> None:
        """Commit what was handed over, then close. Later changes raise `Unavailable`."""
        self._is_open = False
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.wait([self._looker])
            self._looker = None
        if self._writer is not None:
            self._queue.put_nowait(None)
            await self._writer
            self._writer = None
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._close_connection)
        self._reader_threads.shutdown()
        self._writer_thread.shutdown()
        self._engine.dispose()

    def _open(self) -> None:
        with _translated():
            open(self._path, "ab", opener=opener).close()  # SQLite gives -wal and -shm the mode of this file
            version = self._migrate()
            if version is not None and version < OVERWRITES_SINCE:
                try:
                    self._pragma("VACUUM")
                except sqlite3.Error as error:
                    log.warning(
                        "The database keeps remains of what was deleted before; it cannot be rewritten: %s", error
                    )
            self._pragma(_EMPTY_WAL)  # a kill may have come between a purge and this
            self._identity = self._found()
            self._open_readers()

    def _migrate(self) -> str | None:
        """Bring the schema to the newest one; returns the one that it was, None for a new database.

        References are not checked meanwhile: a table that others refer to is changed by making it anew, and SQLite
        before 3.35 knows no other way (https://sqlite.org/lang_altertable.html#otheralter).
        """
        engine = _engine(self._path, checks_references=False)
        try:
            with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
                version = schema_version(connection)
                upgrade(connection)
                self._told = queries.newest_cursor(connection)
                return version
        finally:
            engine.dispose()

    def _open_readers(self) -> None:
        """Open the connections of the readers now: later there may be no descriptor left."""
        with contextlib.ExitStack() as stack:
            for _ in range(READERS):
                connection = stack.enter_context(self._engine.connect())
                with connection.begin():
                    queries.newest_cursor(connection)  # opens the write-ahead log, too

    def _found(self) -> tuple[int, int]:
        """What lies at the path now."""
        found = os.stat(self._path)
        return found.st_dev, found.st_ino

    def _require_in_place(self) -> None:
        """Return if the file that is open is the one at its path.

        Raises:
            StorageUnavailable: the data folder was moved, unmounted or replaced.
        """
        if self._identity is None:
            return
        try:
            if self._found() == self._identity:
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        raise StorageUnavailable(
            "The data folder is not where the server opened it: it was moved, unmounted or replaced. "
            "The server goes on when the folder is back."
        )

    def _open_as_guest(self) -> None:
        if not self._path.is_file():
            raise SettingsError(f"There is no database {self._path}; start `dropmill serve` on this data folder first.")
        try:
            with self._engine.connect() as connection, connection.begin():
                require_current(connection)
                self._told = queries.newest_cursor(connection)
            self._identity = self._found()
        except (sqlite3.Error, SQLAlchemyError) as error:
            raise SettingsError(
                f"The database {self._path} cannot be used: {getattr(error, 'orig', error)}."
            ) from error

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
        could wait for `BUSY_TIMEOUT_S` on its own.
        """
        try:
            return self._commit_together(handed)
        except Exception as error:
            fault = _fault_of(error)
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
        self._require_in_place()
        # Kept open: taking a connection from the pool and giving it back costs as much as a small change.
        connection = self._connection = self._connection or self._writing_engine.connect()
        try:
            with connection.begin():
                newest = queries.newest_cursor(connection)
                moved = self._moved_by_others(connection, newest)
                tx = Transaction(connection, newest, tells_settled=self._tells_settled)
                results = [change(tx) for change in handed]
                tx.flush()
        except (sqlite3.Error, SQLAlchemyError):
            self._close_connection()  # whatever state it is in, the next one is fresh
            raise
        self._told = Cursor(tx.cursor)
        return _Committed(results, moved | tx.moved)

    def _moved_by_others(self, connection: Connection, newest: Cursor) -> dict[str, int]:
        """The topics of events that other processes committed since this one looked."""
        moved: dict[str, int] = {}
        told = self._told
        while told < newest:
            page = queries.events_after(connection, TOPIC_ALL, told, OTHERS_AT_ONCE)
            moved.update((topic, event.cursor) for event in page.events for topic in event.topics)
            told = page.cursor
        return moved

    async def _look(self) -> None:
        """Have the writer tell of others' commits also when it has nothing to commit itself.

        While the database does not work, try a change that really writes: then what shows as working is working.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if _PART in self._health.degraded:
                    await self._change(_write_something)
                elif await self._read(queries.newest_cursor) > self._told:
                    await self._change(lambda _: None)
            except (OutOfSpace, StorageUnavailable) as error:
                self._health.failed(_PART, error)

    def _pragma(self, statement: str) -> Any:
        """Run what cannot be in a transaction; in the writer's thread. Returns its first row; None if none."""
        connection = self._connection = self._connection or self._writing_engine.connect()
        driver: Any = connection.connection.driver_connection
        return driver.execute(statement).fetchone()

    def _empty_wal(self) -> None:
        with _translated():
            (is_busy, *_) = self._pragma(_EMPTY_WAL)
        if is_busy:
            raise Unavailable("The text is purged, but the database was too busy to be cleaned of it; purge it again.")

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

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
            with _translated():
                self._require_in_place()
                with self._engine.connect() as connection, connection.begin():
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
    ) -> SubmissionId:
        return await self._change(changes.open_submission, submission_id, client, account, is_announced, key)

    async def identify_client(
        self, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
    ) -> None:
        await self._change(changes.identify_client, submission_id, host, verified, domain)

    async def start_upload(
        self, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
    ) -> None:
        await self._change(changes.start_upload, file_id, submission_id, name, path, size)

    async def announce_uploads(self, uploads: Sequence[ResumableUpload]) -> None:
        await self._change(resumable.announce_uploads, uploads)

    async def open_for_upload(self, upload: ResumableUpload, client: ClientIdentity, account: str | None) -> None:
        await self._change(resumable.open_for_upload, upload, client, account)

    async def begin_upload(self, file_id: FileId, *, is_resumable: bool = True) -> None:
        await self._change(resumable.begin_upload, file_id, is_resumable)

    async def extend_upload(
        self, file_id: FileId, *, size: int | None, received: int, expires_at: datetime | None
    ) -> None:
        await self._change(resumable.extend_upload, file_id, size, received, expires_at)

    async def store_upload(self, file_id: FileId, blob: StoredBlob, job_id: JobId) -> None:
        await self._change(changes.store_upload, file_id, blob, job_id)

    async def abort_upload(self, file_id: FileId, reason: str) -> None:
        await self._change(changes.abort_upload, file_id, reason)

    async def seal_submission(self, submission_id: SubmissionId) -> None:
        await self._change(changes.seal_submission, submission_id)

    async def start_attempt(self, job_id: JobId, host: str) -> AttemptOrder | None:
        return await self._change(changes.start_attempt, job_id, host)

    async def end_attempt(
        self, job_id: JobId, number: int, outcome: AttemptOutcome, retry: RetryPolicy | None = None
    ) -> JobState | None:
        return await self._change(changes.end_attempt, job_id, number, outcome, retry)

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        return await self._change(changes.lose_attempt, job_id, number, max_attempts)

    async def cancel_queued(self, job_id: JobId) -> bool:
        return await self._change(changes.cancel_queued, job_id)

    async def retry_job(self, job_id: JobId) -> QueuedJob:
        return await self._change(changes.retry_job, job_id)

    async def retry_failed(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        return await self._change(changes.retry_failed, submission_id, after, limit)

    async def cancel_waiting(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        return await self._change(changes.cancel_waiting, submission_id, after, limit)

    async def begin_removal(self, submission_id: SubmissionId, settled_at: datetime) -> bool:
        return await self._change(upkeep.begin_removal, submission_id, settled_at)

    async def end_removal(self, submission_id: SubmissionId) -> None:
        await self._change(upkeep.end_removal, submission_id)

    async def remove_events(self, *, before: datetime, up_to: Cursor, limit: int) -> int:
        return await self._change(upkeep.remove_events, before, up_to, limit)

    async def end_delivery(self, submission_id: SubmissionId, number: int) -> None:
        await self._change(upkeep.end_delivery, submission_id, number)

    async def postpone_delivery(self, submission_id: SubmissionId, number: int, due_at: datetime) -> None:
        await self._change(upkeep.postpone_delivery, submission_id, number, due_at)

    async def recover(self, max_attempts: int, reason: str) -> Recovery:
        return await self._change(changes.recover, max_attempts, reason)

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
            changes.save_revision,
            text,
            base=base,
            client=client,
            account=account,
            message=message,
            found_at=found_at,
            keep=self._keep_revisions,
        )

    async def use_config_file(self, location: ConfigLocation) -> None:
        await self._change(changes.use_config_file, location)

    async def record_in_file(self, location: ConfigLocation, number: int) -> None:
        await self._change(changes.record_in_file, location, number)

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        await self._change(changes.reject_config, errors, client, account)

    async def purge_revision(self, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
        await self._change(changes.purge_revision, sha256, client, account)
        # The database's file has the bytes overwritten only when the write-ahead log is copied into it, and the log
        # has them until it is cut. Cancelled before that: the next start does it, or the next purge.
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._empty_wal)

    # --- reads -------------------------------------------------------------------------------------------------------

    async def view_submission(
        self, submission_id: SubmissionId, *, after: str | None = None, limit: int, state: str | None = None
    ) -> SubmissionView:
        return await self._read(queries.view_submission, submission_id, after, limit, state)

    async def submissions(
        self, *, before: str | None, limit: int, state: str | None = None, text: str | None = None
    ) -> Page[Submission]:
        return await self._read(queries.list_submissions, before, limit, state, text)

    async def file(self, file_id: FileId) -> File:
        return await self._read(queries.get_file, file_id)

    async def job(self, job_id: JobId) -> Job:
        return await self._read(queries.get_job, job_id)

    async def result(self, job_id: JobId, path: str, attempt: int | None) -> Result:
        return await self._read(queries.get_result, job_id, path, attempt)

    async def jobs(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        submission_id: SubmissionId | None = None,
    ) -> Page[Job]:
        return await self._read(queries.list_jobs, before, limit, state, text, submission_id)

    async def upload(self, file_id: FileId) -> ResumableUpload:
        return await self._read(resumable.get_upload, file_id)

    async def announced_upload(self, submission_id: SubmissionId, path: str) -> ResumableUpload | None:
        return await self._read(resumable.announced_upload, submission_id, path)

    async def holding(self, submission_id: SubmissionId) -> Holding:
        return await self._read(resumable.holding, submission_id)

    async def unfinished_uploads(self) -> Sequence[ResumableUpload]:
        return await self._read(resumable.unfinished_uploads)

    async def form_uploads(self) -> FormUploads:
        return await self._read(resumable.form_uploads)

    async def expired_uploads(self, now: datetime, *, limit: int) -> Sequence[ResumableUpload]:
        return await self._read(resumable.expired_uploads, now, limit)

    async def stale_submissions(self, before: datetime, *, limit: int) -> Sequence[SubmissionId]:
        return await self._read(resumable.stale_submissions, before, limit)

    async def known_blobs(self, keys: Collection[str]) -> Collection[str]:
        return await self._read(queries.known_blobs, list(keys))

    async def queued_jobs(self) -> Sequence[QueuedJob]:
        return await self._read(queries.queued_jobs)

    async def running_jobs(self, submission_id: SubmissionId) -> Sequence[JobId]:
        return await self._read(queries.running_jobs, submission_id)

    async def removable(
        self, *, before: datetime | None, keep_bytes: int | None, limit: int
    ) -> Sequence[tuple[SubmissionId, datetime]]:
        return await self._read(upkeep.removable, before, keep_bytes, limit)

    async def removals(self, limit: int) -> Sequence[KeptBytes]:
        return await self._read(upkeep.removals, limit)

    async def deliveries(self, limit: int) -> Sequence[Delivery]:
        return await self._read(upkeep.next_deliveries, limit)

    async def events(self, topic: str, *, after: Cursor, limit: int) -> EventPage:
        return await self._read(queries.events_after, topic, after, limit)

    async def newest_cursor(self) -> Cursor:
        return await self._read(queries.newest_cursor)

    async def config_files(self) -> Sequence[ConfigLocation]:
        return await self._read(queries.config_files_in_use)

    async def config_position(self, location: ConfigLocation) -> ConfigPosition:
        return await self._read(queries.config_position, location)

    async def newest_revision(self) -> ConfigRevision | None:
        return await self._read(queries.newest_revision)

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        return await self._read(queries.list_revisions, before, limit)

    async def revision_text(self, sha256: Sha256) -> bytes:
        return await self._read(queries.revision_text, sha256)


def _engine(path: Path, *, checks_references: bool = True) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=READERS + 1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: object) -> None:
        # The driver's own idea of when a transaction begins leaves reads outside of one: we begin them ourselves.
        connection.isolation_level = None
        for pragma in (*_PRAGMAS, f"foreign_keys={'ON' if checks_references else 'OFF'}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _write_something(tx: Transaction) -> None:
    tx.connection.exec_driver_sql("PRAGMA user_version = 0")  # a page is written, though nobody uses the number


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise what a fault of disk or database means to callers; mistakes of our own pass through."""
    try:
        yield
    except (sqlite3.Error, SQLAlchemyError, OSError) as error:
        if (fault := _fault_of(error)) is None:
            raise
        raise fault from error


def _fault_of(error: Exception) -> OutOfSpace | StorageUnavailable | None:
    """The fault of disk or database that an exception means; None if it means something else."""
    if isinstance(error, OutOfSpace | StorageUnavailable):
        return error
    if isinstance(error, OSError):
        return fault_of(error, "The ledger")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, sqlite3.Error):
        return None
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # errors of the driver itself have none
    if code & 0xFF in _FULL_CODES or code == sqlite3.SQLITE_IOERR_WRITE:
        return OutOfSpace("The disk that holds the ledger is full or cannot be written; nothing was changed.")
    if code & 0xFF in _AWAY_CODES:
        return StorageUnavailable(f"The ledger is not available now ({cause}). Try again in a moment.")
    return None
