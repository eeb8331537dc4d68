"""The ledger in Postgres 15 or newer, for several processes at once.

This module has what is particular to Postgres; `dropmill.engines.sql` has the rest. An advisory lock that ends with its
transaction lets one process write at a time, as SQLite does: so cursors have no gap, and every counter is right. A
sequence would not do, because its numbers are not in the order of commits. A locked row would leave a dead row at each
commit.

A broken connection is not repaired: its changes fail, and the next ones take a new connection. Statements are sent one
by one.

The writer uses READ COMMITTED, so that it sees everything committed before it got the lock; REPEATABLE READ would show
the moment at which it began to wait. Readers use REPEATABLE READ.
"""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import psycopg
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from dropmill.engines.sql.database import READERS, LedgerOptions
from dropmill.engines.sql.events import newest_cursor
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sql.migrations import require_current, upgrade
from dropmill.model.errors import OutOfSpace, SettingsError, StorageUnavailable
from dropmill.model.faults import fault_of
from dropmill.model.ids import Cursor

CONNECT_TIMEOUT_S = 10
OLDEST_VERSION = 15

# Of SQLSTATE: https://www.postgresql.org/docs/15/errcodes-appendix.html
_FULL = "53100"
_AWAY = (
    "08",  # the connection broke
    "57P01",  # the server stops
    "57P02",  # it crashed
    "57P03",  # it starts
    "57014",  # it cancelled the statement
    "53200",  # no memory left
    "53300",  # no connection left
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # a lock was not available in time
    "25006",  # it is read-only, because another server took over
    "58",  # an error of its disk
    "XX001",  # its bytes on disk are wrong
    "XX002",
)


_SEARCH_INDEX = (  # a trusted extension: the owner of a database may create it
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX IF NOT EXISTS ix_search_texts_trigrams ON search_texts USING gin (text gin_trgm_ops)",
)


class PostgresLedger(SqlLedger):
    """`dropmill.ports.ledger.Ledger` over a Postgres database, in the first schema of its search path."""

    driver_error = psycopg.Error

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

    def connect(self, *, without_lock: bool) -> Cursor:
        with self._engine.connect() as connection, connection.begin():
            found = connection.exec_driver_sql(
                "SELECT current_schema(), current_setting('server_encoding'), current_setting('server_version_num')"
            )
            schema, encoding, version = found.one()
        if int(version) < OLDEST_VERSION * 10_000:
            raise SettingsError(
                f"The ledger needs Postgres {OLDEST_VERSION} or newer; this is {int(version) // 10_000}."
            )
        if encoding != "UTF8":
            raise SettingsError(f"The ledger's database must have the encoding UTF8; it has {encoding}.")
        self._lock = f"dropmill ledger in {schema}"  # each database has its own locks
        connection = self.writing_connection()
        with connection.begin():
            self.begin(connection, is_writer=True)  # so that only one process makes or migrates it
            if without_lock:
                require_current(connection)
            else:
                upgrade(connection)
                for statement in _SEARCH_INDEX:
                    connection.exec_driver_sql(statement)
            newest = newest_cursor(connection)
        self.open_readers()
        return newest

    def begin(self, connection: Connection, *, is_writer: bool) -> str | None:
        driver: Any = connection.connection.driver_connection
        # The driver sends BEGIN with the first statement, with this level: no round trip of its own.
        level = psycopg.IsolationLevel.READ_COMMITTED if is_writer else psycopg.IsolationLevel.REPEATABLE_READ
        if driver.isolation_level is not level:
            driver.isolation_level = level
            driver.read_only = not is_writer
        if not is_writer:
            return None
        locked = connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0)), pg_current_xact_id()::text", (self._lock,)
        )
        return str(locked.one()[1])

    def translate(self, error: Exception) -> OutOfSpace | StorageUnavailable | None:
        if isinstance(error, OSError):
            return fault_of(error, "The ledger")
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, psycopg.Error):
            return None
        if cause.sqlstate == _FULL:
            return OutOfSpace("The disk that holds the ledger is full; nothing was changed.")
        is_broken = cause.sqlstate is None and isinstance(
            cause, psycopg.OperationalError
        )  # an error of the driver, not of the server
        if is_broken or (cause.sqlstate or "").startswith(_AWAY):
            first, *_ = str(cause).splitlines() or [type(cause).__name__]
            return StorageUnavailable(f"The ledger is not available now ({first}). Try again in a moment.")
        return None

    def was_committed(self, token: str) -> bool | None:
        try:
            with self._new_connection() as connection:
                found = connection.execute("SELECT pg_xact_status(%s::xid8)", (token,)).fetchone()
        except psycopg.Error:
            return None
        return {"committed": True, "aborted": False}.get(found[0]) if found else None

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
        return psycopg.connect(
            self._conninfo, connect_timeout=CONNECT_TIMEOUT_S, application_name="dropmill", client_encoding="UTF8"
        )
