"""A SQL database with one writer: the queue of changes, group commit, reads, and what cancelling a caller means.

One task owns the write connection. A caller hands it a change and awaits a future; the task commits whatever is
waiting, at most `BATCH_MAX` changes, as one transaction. Measured on SQLite: a commit each reaches 1,000 events/s,
group commits 14,500 at 1 ms. A caller that is cancelled stops waiting; its change is made or refused all the same.

Reads run on a few threads, each in a transaction of its own, beside the writer. Commits of other processes are
published like our own, at most `POLL_INTERVAL_S` later.

Every error of disk and database leaves as `OutOfSpace` or `StorageUnavailable`. An engine implements six methods for
what differs between databases: `connect`, `begin`, `translate`, `was_committed`, `new_connection` and `forget_bytes`.
One whose database is another program also says how long to wait for it (`patience_s`), and may commit in a way of its
own (`transact`).
"""

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Concatenate, NamedTuple, ParamSpec, TypedDict, TypeVar, Unpack

from sqlalchemy import Connection, Engine, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from dropmill.engines.sql import events
from dropmill.engines.sql.tables import ledgers
from dropmill.engines.sql.transaction import NO_LIMITS, Transaction
from dropmill.health import Health
from dropmill.model.errors import OutOfSpace, StorageUnavailable, Unavailable
from dropmill.model.events import TOPIC_ALL
from dropmill.model.ids import Cursor, LedgerId, NodeId, new_ledger_id
from dropmill.model.nodes import Node
from dropmill.model.quotas import Limits

BATCH_MAX = 256  # changes in one commit: enough to hide the fsync, few enough to keep a change under 50 ms
QUEUE_MAX = 4096  # changes handed over and not yet taken; beyond it, callers wait
READERS = 3
POLL_INTERVAL_S = 1.0  # for commits of other processes; pages show them within 2
OTHERS_AT_ONCE = 500  # events of other processes read at once

_PART = "ledger"  # on the health board

P = ParamSpec("P")
T = TypeVar("T")


class Handed(NamedTuple):
    """A change with its arguments."""

    change: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def make(self, tx: Transaction) -> Any:
        """Make the change; returns its result."""
        return self.change(tx, *self.args, **self.kwargs)


class Transacted(NamedTuple):
    """A transaction that is committed."""

    results: list[Any]  # of each change
    newest: Cursor  # of the event before its own
    tx: Transaction


class _Committed(NamedTuple):
    """What became of the changes that were handed over together."""

    results: list[Any]  # of each change; an exception if it was refused
    moved: dict[str, int]
    fault: OutOfSpace | StorageUnavailable | None = None  # of the disk or the database


_Entry = tuple[Handed, "asyncio.Future[Any]"]


class LedgerOptions(TypedDict, total=False):
    """Optional arguments of every ledger over a SQL database, beside where the database is.

    Attributes:
        records_deliveries: whether the ledger records a delivery to the webhook each time a submission settles;
            False if absent.
        keep_revisions: how many of the newest config revisions keep their text; None or absent: all do.
        limits: of owners that have none of their own; no limits if absent.
        health: the health board that shows whether the database works; None or absent: a board that nobody reads.
        is_told_of_others: whether the bus itself tells what other processes commit, so that the ledger need not look;
            False if absent.
    """

    records_deliveries: bool
    keep_revisions: int | None
    health: Health | None
    limits: Limits
    is_told_of_others: bool


class SqlDatabase(ABC):
    """Runs changes and reads on one database; a subclass knows which."""

    driver_error: ClassVar[type[Exception]]
    """Root of the exceptions of the database's driver."""

    patience_s: float | None = None
    """How long callers wait for a database that does not answer; None: until it does, as for one in this process."""

    def __init__(
        self,
        engine: Engine,
        on_commit: Callable[[Mapping[str, int]], None],
        **options: Unpack[LedgerOptions],
    ) -> None:
        """Keep the engine; `open` opens the first connection.

        Args:
            engine: makes connections, at most `READERS` + 1; `begin` begins their transactions.
            on_commit: called after each commit, on the event loop, with the topics that have moved and their cursors.
            options: see `LedgerOptions`.
        """
        self._health = options.get("health") or Health()
        self._records_deliveries = options.get("records_deliveries", False)
        self._keep_revisions = options.get("keep_revisions")
        self._limits = options.get("limits", NO_LIMITS)
        self._is_told_of_others = options.get("is_told_of_others", False)
        self._engine = engine
        self._connection: Connection | None = None  # the writer's, used in its thread only
        self._on_commit = on_commit
        # The semaphore bounds the queue, because it is fair: a full `asyncio.Queue` lets a newcomer overtake callers
        # that wait for room, and a change that waits while the ledger closes would land behind the last one taken.
        self._queue: asyncio.Queue[_Entry | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(QUEUE_MAX)
        self._writer_thread = ThreadPoolExecutor(1, "ledger-writer")
        self._reader_threads = ThreadPoolExecutor(READERS, "ledger-reader")
        self._beside_thread = ThreadPoolExecutor(1, "ledger-lease")
        self._beside_connection: Connection | None = None  # of the lease, used in its thread only
        self._writer: asyncio.Task[None] | None = None
        self._poller: asyncio.Task[None] | None = None
        self._node: Node | None = None
        self._id: LedgerId | None = None
        self._published_cursor = Cursor(0)  # every event up to here was published; the writer's
        self._answered_at = 0.0  # when the database last answered, by the loop's clock
        self._worked_at = 0.0  # when the writer last ended a transaction, by the monotonic clock
        self._is_open = False
        self.is_starting = False
        """Whether the process starts: it waits for a slow database however long, because it cannot start without."""

    # --- what differs between databases ------------------------------------------------------------------------------

    @abstractmethod
    def connect(self, *, without_lock: bool) -> Cursor:
        """Make or migrate the database, open what will be needed later, and return the newest event's cursor.

        Runs once, on the writer's thread.

        Args:
            without_lock: for a process that does not hold the data folder's lock: it makes and migrates nothing.

        Raises:
            SettingsError: a newer Dropmill made the database; or `without_lock` and the schema is not the current one.
        """

    @abstractmethod
    def begin(self, connection: Connection, *, is_writer: bool) -> str | None:
        """Begin a transaction on a connection that is in none.

        All reads of a reader's transaction see one moment. A writer's waits until no other writer, of any process, is
        in a transaction.

        Returns:
            The token for `was_committed`; None if nobody will ask.

        Raises:
            StorageUnavailable: the database is not what was opened.
        """

    @abstractmethod
    def translate(self, error: Exception) -> OutOfSpace | StorageUnavailable | None:
        """The fault of disk or database that an exception means; None if it is a mistake in our code."""

    @abstractmethod
    def was_committed(self, token: str) -> bool | None:
        """Whether a transaction whose commit was answered by an error is in the database; None: unknown."""

    @abstractmethod
    def new_connection(self) -> Connection:
        """A connection outside the pool, in autocommit or not, that its owner closes."""

    @abstractmethod
    def forget_bytes(self) -> None:
        """Erase the bytes of purged texts from the database's files, as far as the database can.

        Raises:
            Unavailable: not now.
        """

    def is_broken(self, error: BaseException) -> bool:
        """Whether an error means that its connection cannot be used again; a read is repeated on another one."""
        return False

    def interrupt(self) -> None:  # noqa: B027 - a database in this process makes nobody wait
        """Have everything that waits for the database fail soon, because the ledger closes. From any thread."""

    def company_s(self) -> float:
        """How long a change is to wait for others to be committed with it, in seconds."""
        return 0.0

    def transact(self, handed: Sequence[Handed]) -> Transacted:
        """Make the changes in one transaction and commit it. Runs on the writer's thread.

        Raises:
            Exception: a change was refused, or the database failed; nothing is committed.
        """
        token: str | None = None
        is_committing = False
        try:
            connection = self.writing_connection()
            with connection.begin():
                token = self.begin(connection, is_writer=True)
                newest = events.newest_cursor(connection)
                tx = Transaction(
                    connection,
                    newest,
                    node=self._node,
                    records_deliveries=self._records_deliveries,
                    limits=self._limits,
                )
                results = [one.make(tx) for one in handed]
                tx.flush()
                is_committing = True
        except (self.driver_error, SQLAlchemyError):
            self._close_connection()  # its state is unknown; the next commit opens a fresh one
            if not is_committing or token is None or not self.was_committed(token):
                raise
        return Transacted(results, newest, tx)

    def writing_connection(self) -> Connection:
        """The writer's connection. For its thread only."""
        # Kept open: taking a connection from the pool and giving it back costs as much as a small change.
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    @contextlib.contextmanager
    def connection_beside(self) -> Iterator[Connection]:
        """A connection of its own that nothing else uses, in a transaction. For the lease's thread only."""
        if self._beside_connection is None:
            self._beside_connection = self.new_connection()
        connection = self._beside_connection
        try:
            with connection.begin():
                yield connection
        except (self.driver_error, SQLAlchemyError, OSError):
            self._close_beside()
            raise

    def _close_beside(self) -> None:
        connection, self._beside_connection = self._beside_connection, None
        if connection is not None:
            with contextlib.suppress(self.driver_error, SQLAlchemyError):
                connection.invalidate()
                connection.close()

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self, *, without_lock: bool = False) -> None:
        """Make or migrate the database and start the writer.

        Args:
            without_lock: for a process that does not hold the data folder's lock: it makes and migrates nothing.

        Raises:
            SettingsError: a newer Dropmill made the database; or `without_lock` and the schema is not the current one.
            OutOfSpace, StorageUnavailable: the disk or the database does not work.
        """
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._connect, without_lock)
        self._writer = asyncio.create_task(self._write(), name="ledger writer")
        self._poller = asyncio.create_task(self._poll(), name="ledger poller")
        self._is_open = True

    def _connect(self, without_lock: bool) -> None:
        with self._translated():
            self._published_cursor = self.connect(without_lock=without_lock)
            connection = self.writing_connection()
            with connection.begin():
                self.begin(connection, is_writer=True)
                found = connection.execute(select(ledgers.c.id)).scalar_one_or_none()
                if found is None:
                    found = new_ledger_id()
                    connection.execute(insert(ledgers).values(id=found))
            self._id = LedgerId(found)

    async def close(self) -> None:
        """Commit the changes in the queue, then close. Later changes raise `Unavailable`."""
        self._is_open = False
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
            self._poller = None
        if self._writer is not None:
            self._queue.put_nowait(None)
            await self._writer
            self._writer = None
        if self.patience_s is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._end_readers)
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._close_connection)
        if self._beside_connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._beside_thread, self._close_beside)
        self._beside_thread.shutdown()
        self._reader_threads.shutdown()
        self._writer_thread.shutdown()
        self._engine.dispose()

    @property
    def id(self) -> LedgerId:
        """See `Ledger.id`."""
        if self._id is None:
            raise AssertionError("the ledger is not open")
        return self._id

    @property
    def _node_id(self) -> NodeId | None:
        return None if self._node is None else self._node.id

    def open_readers(self) -> None:
        """Open the readers' connections now, because later there may be no descriptor left."""
        with contextlib.ExitStack() as stack:
            for _ in range(READERS):
                connection = stack.enter_context(self._engine.connect())
                with connection.begin():
                    self.begin(connection, is_writer=False)
                    events.newest_cursor(connection)

    def _end_readers(self) -> None:
        """Wait for reads that are under way, but not for a database that does not answer."""
        if self.patience_s is not None:
            late = threading.Timer(self.patience_s, self.interrupt)
            late.start()
            self._reader_threads.shutdown()
            late.cancel()

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise `OutOfSpace` or `StorageUnavailable` for a fault of disk or database; other errors pass through."""
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
        count = 0  # of the batch before
        while is_open:
            waiting = [await self._queue.get()]
            if (company_s := self.company_s()) > 0:
                await self._wait_for_company(waiting, count, company_s)
            while len(waiting) < BATCH_MAX and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            handed = [entry for entry in waiting if entry is not None]
            is_open = len(handed) == len(waiting)
            for _ in handed:
                self._room.release()
            if not handed:
                continue
            count = len(handed)
            committing = loop.run_in_executor(self._writer_thread, self._commit, [one for one, _ in handed])
            if self.patience_s is not None and not self.is_starting:
                await self._answer_in_time(handed, committing, self.patience_s)
            results, moved, fault = await committing
            if fault is None:
                self._health.works(_PART)
                self._answered_at = loop.time()
            else:
                self._health.failed(_PART, fault)
            for (_, future), result in zip(handed, results, strict=True):
                if future.done():
                    continue  # it was answered while the database did not
                if isinstance(result, BaseException):
                    future.set_exception(result)
                    future.exception()  # retrieved, though a cancelled caller never will
                else:
                    future.set_result(result)
            if moved:
                self._on_commit(moved)

    async def _wait_for_company(self, waiting: list[_Entry | None], count: int, seconds: float) -> None:
        """Take further changes until there are as many as the last time, because other processes write, too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(waiting) < min(count, BATCH_MAX) and waiting[-1] is not None:
                    waiting.append(await self._queue.get())

    async def _answer_in_time(
        self, handed: Sequence[_Entry], committing: "asyncio.Future[_Committed]", patience_s: float
    ) -> None:
        """Wait for commits. If one takes too long, tell their callers and those who come meanwhile that it does.

        The commit goes on, and may succeed: a caller that was told otherwise asks the ledger.
        """
        began_at = time.monotonic()
        while not committing.done():
            left_s = max(began_at, self._worked_at) + patience_s - time.monotonic()
            if left_s <= 0:
                break
            await asyncio.wait([committing], timeout=left_s)
        else:
            return
        sentence = "The ledger's database does not answer. Try again in a moment."
        self._health.failed(_PART, StorageUnavailable(sentence))
        _refuse(handed, sentence)
        old = self._queue.qsize()
        while not committing.done():
            if not self._is_open:
                self.interrupt()
            await asyncio.wait([committing], timeout=patience_s / 3)
            some = [self._queue.get_nowait() for _ in range(min(old, self._queue.qsize()))]
            if None in some:  # the last one: the ledger closes
                self._queue.put_nowait(None)
            waited = [entry for entry in some if entry is not None]
            _refuse(waited, sentence)
            for _ in waited:
                self._room.release()
            old = self._queue.qsize()

    def _commit(self, handed: Sequence[Handed]) -> _Committed:
        """Commit all changes as one transaction; if one of them fails, commit each on its own, so that only it fails.

        On a full disk a small change may still fit. With any other fault of the storage all changes fail at once,
        because each try could take as long as the database's timeout.
        """
        try:
            return self._commit_together(handed)
        except Exception as error:
            fault = self._fault_of(error)
            if isinstance(fault, StorageUnavailable):  # an object for each, because callers add to it
                return _Committed([StorageUnavailable(fault.detail) for _ in handed], {}, fault)
            if len(handed) == 1:
                return _Committed([fault or error], {}, fault)
        all_of_them = [self._commit([change]) for change in handed]
        return _Committed(
            [one.results[0] for one in all_of_them],
            {topic: cursor for one in all_of_them for topic, cursor in one.moved.items()},
            next((one.fault for one in all_of_them if one.fault is not None), None),
        )

    def _commit_together(self, handed: Sequence[Handed]) -> _Committed:
        try:
            results, newest, tx = self.transact(handed)
        finally:
            self._worked_at = time.monotonic()
        return _Committed(results, {**self._moved_by_others(newest, Cursor(tx.cursor)), **tx.moved})

    def _moved_by_others(self, newest: Cursor, committed: Cursor) -> dict[str, int]:
        """The topics of events that other processes committed since the last call, with their cursors.

        Read after the writers' lock was released. What cannot be read now is published after a later commit.

        Args:
            newest: cursor of the event before those of this process's commit.
            committed: cursor of the last event of this process's commit.
        """
        moved: dict[str, int] = {}
        if self._is_told_of_others:
            self._published_cursor = committed
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

    async def see_others(self) -> None:
        """Publish what other processes have committed. Does nothing while the database does not work."""
        moved = await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._see_others)
        if moved:
            self._on_commit(moved)

    def _see_others(self) -> dict[str, int]:
        try:
            connection = self.writing_connection()
            with connection.begin():
                self.begin(connection, is_writer=False)
                newest = events.newest_cursor(connection)
        except (self.driver_error, SQLAlchemyError, OSError, OutOfSpace, StorageUnavailable):
            self._close_connection()
            return {}
        return self._moved_by_others(newest, newest)

    async def _poll(self) -> None:
        """Have the writer publish commits of other processes when it has nothing to commit.

        While the database does not work, try a change that really writes: a read may work on a disk that is full.
        """
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                if _PART in self._health.degraded:
                    await self._change(_write_something)
                elif await self._read(events.newest_cursor) > self._published_cursor and not self._is_told_of_others:
                    await self._change(lambda _: None)
            except (OutOfSpace, StorageUnavailable) as error:
                self._health.failed(_PART, error)

    async def _change(self, change: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._room.acquire()
        if not self._is_open:
            self._room.release()
            raise Unavailable("The ledger is closed.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((Handed(change, args, kwargs), future))
        return await asyncio.shield(future)

    async def _beside(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something small in a thread and on a connection of its own, beside changes and reads."""

        def run() -> T:
            with self._translated(), self.connection_beside() as connection:
                return query(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._beside_thread, run)

    async def _read(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> T:
            for left in reversed(range(READERS + 2)):
                try:
                    return self._read_once(query, *args, **kwargs)
                except StorageUnavailable as error:
                    # Whatever connections there were, a restart of the database broke them all.
                    if not (left and self._is_open and error.__cause__ and self.is_broken(error.__cause__)):
                        raise
            raise AssertionError

        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._reader_threads, run)
        try:
            if self.patience_s is not None and not self.is_starting:
                await self._is_answered(reading, self.patience_s)
            result = await reading
        except (OutOfSpace, StorageUnavailable) as error:
            self._health.failed(_PART, error)
            raise
        self._answered_at = loop.time()
        return result

    def _read_once(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._translated(), self._engine.connect() as connection:
            try:
                with connection.begin():
                    self.begin(connection, is_writer=False)
                    return query(connection, *args, **kwargs)
            except (self.driver_error, SQLAlchemyError) as error:
                if self.is_broken(error):
                    connection.invalidate()
                raise

    async def _is_answered(self, reading: "asyncio.Future[Any]", patience_s: float) -> None:
        """Wait for a read as long as the database answers anybody.

        Raises:
            StorageUnavailable: it does not; the read goes on, and nobody waits for it.
        """
        loop = asyncio.get_running_loop()
        reading.add_done_callback(_retrieve)
        while not reading.done():
            since = loop.time()
            await asyncio.wait([reading], timeout=patience_s)
            if not reading.done() and self._answered_at < since:
                raise StorageUnavailable("The ledger's database does not answer. Try again in a moment.")


def _refuse(entries: Sequence[_Entry], sentence: str) -> None:
    for _, future in entries:
        if not future.done():
            future.set_exception(StorageUnavailable(sentence))  # an object for each, because callers add to it
            future.exception()  # retrieved, though a cancelled caller never will


def _retrieve(reading: "asyncio.Future[Any]") -> None:
    """Nobody may wait any more: without this, the loop would report an error that nobody has looked at."""
    if not reading.cancelled():
        reading.exception()


def _write_something(tx: Transaction) -> None:
    tx.connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
