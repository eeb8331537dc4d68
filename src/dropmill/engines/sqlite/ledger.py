"""The ledger in a SQLite file in the data folder: WAL mode, one writer.

This module has what is particular to SQLite; `dropmill.engines.sql` has the rest. Not for network file systems: WAL
needs shared memory.

SQLite keeps its file open, so it would still write to a file that was moved away; each transaction therefore checks
that the file is at its path. The command line writes into the same file while the server runs. SQLite overwrites
deleted bytes, so that no byte of a purged config stays in the file.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dropmill.engines.sql.database import READERS, LedgerOptions
from dropmill.engines.sql.events import newest_cursor
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sql.migrations import require_current, schema_version, upgrade
from dropmill.engines.sqlite.search import make_search_index
from dropmill.model.errors import OutOfSpace, SettingsError, StorageUnavailable, Unavailable
from dropmill.model.faults import fault_of
from dropmill.model.ids import Cursor
from dropmill.private import opener

BUSY_TIMEOUT_S = 10  # for the command line's writes while the server runs
OVERWRITES_SINCE = "0004"  # databases of older schemas may hold remains of deleted texts

log = logging.getLogger(__name__)

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "wal_autocheckpoint=2000",
    "secure_delete=ON",  # always: a text that is moved within the file before it is deleted would leave remains
)
_EMPTY_WAL = "PRAGMA wal_checkpoint(TRUNCATE)"

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
        sqlite3.SQLITE_CORRUPT,  # the bytes on disk are wrong: not our mistake, and the pages can still say so
        sqlite3.SQLITE_NOTADB,
    }
)
"""Primary result codes (https://sqlite.org/rescode.html). Any other code is a mistake in our code."""


class SqliteLedger(SqlLedger):
    """`dropmill.ports.ledger.Ledger` over one SQLite file."""

    driver_error = sqlite3.Error

    def __init__(
        self, path: Path, on_commit: Callable[[Mapping[str, int]], None], **options: Unpack[LedgerOptions]
    ) -> None:
        """Keep the path; `open` opens the file.

        Args:
            path: the database file; its folder exists.
            on_commit: see `SqlDatabase`.
            options: see `LedgerOptions`.
        """
        super().__init__(new_engine(path), on_commit, **options)
        self._path = path
        self._identity: tuple[int, int] | None = None  # device and inode of the file that was opened
        # Without this, SQLite would make a new file where the old one was moved away.
        event.listen(self._engine, "do_connect", lambda *_: self._require_in_place())

    def connect(self, *, without_lock: bool) -> Cursor:
        if without_lock:
            return self._open_as_guest()
        open(self._path, "ab", opener=opener).close()  # SQLite gives -wal and -shm the mode of this file
        version, newest = self._migrate()
        if version is not None and version < OVERWRITES_SINCE:
            try:
                self._pragma("VACUUM")
            except sqlite3.Error as error:
                log.warning("The database keeps remains of deleted texts, because it cannot be rewritten: %s", error)
        self._pragma(_EMPTY_WAL)  # a process may have been killed between a purge and this
        self._identity = self._found()
        self.open_readers()
        return newest

    def begin(self, connection: Connection, *, is_writer: bool) -> None:
        self._require_in_place()
        # IMMEDIATE takes the write lock now, not at the first write: otherwise two processes could deadlock.
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    def translate(self, error: Exception) -> OutOfSpace | StorageUnavailable | None:
        if isinstance(error, OSError):
            return fault_of(error, "The ledger")
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, sqlite3.Error):
            return None
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # errors of the driver have none
        if code & 0xFF in _FULL_CODES or code == sqlite3.SQLITE_IOERR_WRITE:
            return OutOfSpace("The disk that holds the ledger is full or cannot be written; nothing was changed.")
        if code & 0xFF in _AWAY_CODES:
            return StorageUnavailable(f"The ledger is not available now ({cause}). Try again in a moment.")
        return None

    def was_committed(self, token: str) -> bool | None:
        return None  # SQLite commits in this process: an error means that nothing was committed

    def new_connection(self) -> Connection:
        made = create_engine(
            self._engine.url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
        )
        return made.connect()

    def forget_bytes(self) -> None:
        # The file's bytes are overwritten only when the write-ahead log is copied into it, and the log keeps them until
        # it is truncated.
        (is_busy, *_) = self._pragma(_EMPTY_WAL)
        if is_busy:
            raise Unavailable(
                "The text is purged, but its bytes could not be erased from the file now; purge it again."
            )

    def _migrate(self) -> tuple[str | None, Cursor]:
        """Bring the schema to the newest one.

        Foreign keys are off meanwhile: a migration changes a table that others refer to by making it anew, the only way
        before SQLite 3.35 (https://sqlite.org/lang_altertable.html#otheralter).

        Returns:
            The schema before, None for a new database; and the newest event's cursor.
        """
        engine = new_engine(self._path, checks_references=False)
        try:
            with engine.connect() as connection, connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                version = schema_version(connection)
                upgrade(connection)
                make_search_index(connection)
                return version, newest_cursor(connection)
        finally:
            engine.dispose()

    def _open_as_guest(self) -> Cursor:
        if not self._path.is_file():
            raise SettingsError(f"There is no database {self._path}; start `dropmill serve` on this data folder first.")
        try:
            with self._engine.connect() as connection, connection.begin():
                self.begin(connection, is_writer=False)
                require_current(connection)
                newest = newest_cursor(connection)
            self._identity = self._found()
        except (sqlite3.Error, SQLAlchemyError) as error:
            raise SettingsError(
                f"The database {self._path} cannot be used: {getattr(error, 'orig', error)}."
            ) from error
        return newest

    def _found(self) -> tuple[int, int]:
        """Device and inode of the file at the path."""
        found = os.stat(self._path)
        return found.st_dev, found.st_ino

    def _require_in_place(self) -> None:
        """Return if the open file is the one at its path.

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
            "The data folder was moved, unmounted or replaced while the server used it. "
            "The server continues when the folder is back."
        )

    def _pragma(self, statement: str) -> Any:
        """Run a statement that cannot be in a transaction, in the writer's thread; returns its first row, or None."""
        driver: Any = self.writing_connection().connection.driver_connection
        return driver.execute(statement).fetchone()


def new_engine(path: Path, *, checks_references: bool = True) -> Engine:
    """Connections to a ledger's file; each transaction on them has to be begun."""
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=READERS + 1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: object) -> None:
        # The driver would begin no transaction for reads; `begin` begins every one.
        connection.isolation_level = None
        for pragma in (*_PRAGMAS, f"foreign_keys={'ON' if checks_references else 'OFF'}"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
