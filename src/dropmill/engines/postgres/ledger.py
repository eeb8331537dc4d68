"""The ledger in Postgres 15 or newer, for several processes at once.

This module has what is particular to Postgres; `dropmill.engines.sql` has the rest. An advisory lock that ends with its
transaction lets one process write at a time, as SQLite does: so cursors have no gap, and every counter is right. A
sequence would not do, because its numbers are not in the order of commits. A locked row would leave a dead row at each
commit.

A commit takes two round trips (`transaction`). While the lock is contended, a change waits up to `COMPANY_S` for others
of this process: a commit costs a millisecond, however few changes it holds.

A broken connection is opened again, by reads and by the writer. If it broke while a COMMIT was under way, the writer
asks the database what became of that, until it knows; nobody else waits for it longer than `patience_s`.

The writer uses READ COMMITTED, so that it sees everything committed before it got the lock; REPEATABLE READ would show
the moment at which it began to wait. Readers use REPEATABLE READ.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack
from weakref import WeakSet

import psycopg
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from dropmill.engines.postgres.bus import TRIGGER
from dropmill.engines.postgres.connecting import cause_of, connect, fault_of, is_broken
from dropmill.engines.postgres.reads import Reads
from dropmill.engines.postgres.transaction import BEGIN, LOCK, PostgresTransaction
from dropmill.engines.postgres.wire import forget_statements
from dropmill.engines.sql.database import READERS, Handed, LedgerOptions, Transacted
from dropmill.engines.sql.events import newest_cursor
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sql.migrations import require_current, upgrade
from dropmill.model.errors import OutOfSpace, SettingsError, StorageUnavailable
from dropmill.model.faults import fault_of as fault_of_system
from dropmill.model.ids import Cursor

OLDEST_VERSION = 15
COMPANY_S = 0.01
CONTENDED_S = 0.001  # a lock that is free is had in less
ASK_AGAIN_S = 0.1  # what became of a commit

# The writer's statements are planned once and kept, also if the tables were small then; all of them find rows by keys.
# A process that stands still with the lock must not stop the others.
_WRITER = """
    SELECT set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
        set_config('enable_mergejoin', 'off', false),
        set_config('idle_in_transaction_session_timeout', '5s', false)
"""
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

log = logging.getLogger(__name__)


class PostgresLedger(SqlLedger):
    """`dropmill.ports.ledger.Ledger` over a Postgres database, in the first schema of its search path."""

    driver_error = psycopg.Error
    patience_s: float | None = 1.5

    def __init__(
        self, conninfo: str, on_commit: Callable[[Mapping[str, int]], None], **options: Unpack[LedgerOptions]
    ) -> None:
        """Keep where the database is; `open` connects to it.

        Args:
            conninfo: a URL or `key=value` words, as libpq reads them
                (https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-CONNSTRING).
            on_commit: see `SqlDatabase`.
            options: see `LedgerOptions`.
        """
        self._conninfo = conninfo
        super().__init__(self._new_engine(), on_commit, **options)
        self._lock = ""  # name of the writers' lock; `connect` sets it
        self._open_connections: WeakSet[psycopg.Connection[Any]] = WeakSet()
        self._is_ending = threading.Event()
        self._waited_s = 0.0  # for the lock, the last time
        self._said: set[str] = set()  # errors that were logged since the last commit

    def connect(self, *, without_lock: bool) -> Cursor:
        with self._engine.connect() as connection:
            self._lock = require_usable(connection)
        connection = self.writing_connection()
        with connection.begin():
            self.begin(connection, is_writer=True)  # so that only one process makes or migrates it
            if without_lock:
                require_current(connection)
            else:
                upgrade(connection)
                make_search_index(connection)
                for statement in TRIGGER:
                    connection.exec_driver_sql(statement)
            newest = newest_cursor(connection)
        self.open_readers()
        return newest

    def begin(self, connection: Connection, *, is_writer: bool) -> None:
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        driver.execute(BEGIN if is_writer else _READ)
        if is_writer:
            driver.execute(LOCK, (self._lock,))

    def transact(self, handed: Sequence[Handed]) -> Transacted:
        tx: PostgresTransaction | None = None
        is_committing = False
        try:
            tx = self._begun(Reads().add(handed))
            self._waited_s = tx.waited_s
            results = [one.make(tx) for one in handed]
            tx.flush()
            is_committing = True
            tx.commit()
        except BaseException as error:
            if not (is_committing and is_broken(error) and tx is not None and self._became_of(tx.id)):
                self._abandon(tx)
                raise
            self._close_connection()
        self._said.clear()
        return Transacted(results, tx.newest, tx)

    def _begun(self, reads: Reads) -> PostgresTransaction:
        """A transaction that has begun; a restart of the database broke every connection that there was before."""
        for left in reversed(range(READERS + 2)):
            try:
                return PostgresTransaction(
                    self.writing_connection(),
                    reads,
                    lock=self._lock,
                    node=self._node,
                    records_deliveries=self._records_deliveries,
                    limits=self._limits,
                )
            except psycopg.Error as error:
                self._close_connection()
                if not left or not (is_broken(error) or isinstance(error, psycopg.errors.InvalidSqlStatementName)):
                    raise
        raise AssertionError

    def _abandon(self, tx: PostgresTransaction | None) -> None:
        """Leave a connection that the next transaction can use."""
        try:
            if tx is None:
                self._close_connection()
            else:
                tx.abandon()
        except (psycopg.Error, SQLAlchemyError):
            self._close_connection()

    def _became_of(self, xact_id: str) -> bool:
        """Whether a transaction was committed, once the database says so; False, too, if the ledger closes before."""
        while (found := self.was_committed(xact_id)) is None:
            if self._is_ending.wait(ASK_AGAIN_S):
                return False
        return found

    def was_committed(self, token: str) -> bool | None:
        try:
            with self._new_connection() as connection:
                found = connection.execute("SELECT pg_xact_status(%s::xid8)", (token,)).fetchone()
        except psycopg.Error as error:
            # Another server answers, which never had such a transaction, if it is not for a while that none does.
            return None if self.translate(error) is not None else False
        return {"committed": True, "aborted": False}.get(found[0]) if found else None  # "in progress": not yet

    def company_s(self) -> float:
        return COMPANY_S if self._waited_s > CONTENDED_S else 0.0

    def is_broken(self, error: BaseException) -> bool:
        return is_broken(error)

    def interrupt(self) -> None:
        self._is_ending.set()
        for connection in list(self._open_connections):
            # A thread waits in the driver; what ends its wait is the end of the connection.
            with (
                contextlib.suppress(psycopg.Error, OSError),
                socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
            ):
                duplicate.shutdown(socket.SHUT_RDWR)

    def translate(self, error: Exception) -> OutOfSpace | StorageUnavailable | None:
        if isinstance(error, OSError):
            return fault_of_system(error, "The ledger")
        fault = fault_of(error)
        if fault is not None and (said := " ".join(str(cause_of(error)).split())) not in self._said:
            self._said.add(said)
            log.warning("Postgres: %s", said)  # clients are not told addresses and names
        return fault

    def writing_connection(self) -> Connection:
        is_new = self._connection is None
        connection = super().writing_connection()
        if is_new:
            driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
            try:
                driver.execute(_WRITER)
            except psycopg.Error:
                self._close_connection()
                raise
        return connection

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.invalidated:  # asked for its driver, it would connect anew
            connection.close()
            return
        driver: Any = connection.connection.driver_connection
        try:
            if driver is None:
                raise psycopg.OperationalError("closed")
            driver.rollback()
            forget_statements(driver)
            driver.execute("RESET ALL")  # a reader gets it next
        except psycopg.Error:
            connection.invalidate()
        connection.close()

    def new_connection(self) -> Connection:
        made = create_engine(
            "postgresql+psycopg://", creator=self._new_connection, poolclass=NullPool, use_native_hstore=False
        )
        return made.connect()

    def forget_bytes(self) -> None:
        """Free the rows that held the text. The write-ahead log and base backups still have it."""
        with self._new_connection() as connection:
            connection.autocommit = True
            connection.execute("VACUUM config_revisions")

    def _new_engine(self) -> Engine:
        return create_engine(
            "postgresql+psycopg://",
            creator=self._new_connection,
            pool_size=READERS + 1,
            max_overflow=0,
            use_native_hstore=False,
        )

    def _new_connection(self) -> "psycopg.Connection[Any]":
        connection = connect(self._conninfo)
        self._open_connections.add(connection)
        return connection


def require_usable(connection: Connection) -> str:
    """The name of the writers' lock of a database that can hold a ledger.

    Raises:
        SettingsError: it cannot, or its search path names no schema.
    """
    schema, encoding, version = connection.exec_driver_sql(
        "SELECT current_schema(), current_setting('server_encoding'), current_setting('server_version_num')"
    ).one()
    if int(version) < OLDEST_VERSION * 10_000:
        raise SettingsError(f"The ledger needs Postgres {OLDEST_VERSION} or newer; this is {int(version) // 10_000}.")
    if encoding != "UTF8":
        raise SettingsError(f"The ledger's database must have the encoding UTF8; it has {encoding}.")
    if schema is None:
        raise SettingsError("The ledger's database has no schema that its search path names; create it first.")
    return f"dropmill ledger in {schema}"  # each database has its own locks


def make_search_index(connection: Connection) -> None:
    """Make the index of trigrams if it is missing.

    The extension is one that the owner of a database may create. It is in one schema of the database, which need not be
    this ledger's: so the index names it.
    """
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    schema = connection.exec_driver_sql(
        "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace "
        "WHERE extname = 'pg_trgm'"
    ).scalar_one()
    connection.exec_driver_sql(
        f"CREATE INDEX IF NOT EXISTS ix_search_texts_trigrams ON search_texts USING gin (text {schema}.gin_trgm_ops)"
    )
