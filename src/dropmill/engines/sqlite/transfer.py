"""A ledger in a SQLite file, as the one side of a move. The caller holds the data folder's lock."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Table

from dropmill.engines.sql.migrations import require_current, upgrade
from dropmill.engines.sql.transfer import Values, as_stored, in_order, names
from dropmill.engines.sqlite.ledger import new_engine
from dropmill.engines.sqlite.search import make_search_index
from dropmill.model.errors import SettingsError
from dropmill.private import opener

_ROWS_AT_ONCE = 1000


class SqliteTransfer:
    """One open file, in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, table: Table) -> Iterator[Values]:
        with closing(self._connection.execute(in_order(table))) as cursor:
            while some := cursor.fetchmany(_ROWS_AT_ONCE):
                for row in some:
                    yield as_stored(table, row)

    def write(self, table: Table, rows: Iterable[Values]) -> None:
        places = ", ".join("?" * len(table.columns))
        statement = f'INSERT INTO "{table.name}" ({names(table)}) VALUES ({places})'  # noqa: S608 - our own names
        self._connection.executemany(statement, rows)

    def commit(self) -> None:
        self._connection.execute("COMMIT")


@contextmanager
def read_file(path: Path) -> Iterator[SqliteTransfer]:
    """A ledger's file, for reading. Nothing in it changes.

    Raises:
        SettingsError: there is none, it cannot be read, or its schema is not the current one.
    """
    if not path.is_file():
        raise SettingsError(f"There is no ledger {path}.")
    engine = new_engine(path)
    try:
        with engine.connect() as connection:
            require_current(connection)
        with closing(sqlite3.connect(path, isolation_level=None)) as driver:
            driver.execute("BEGIN")
            yield SqliteTransfer(driver)
    except sqlite3.Error as error:
        raise SettingsError(f"{path} cannot be read ({error}).") from error
    finally:
        engine.dispose()


@contextmanager
def make_file(path: Path) -> Iterator[SqliteTransfer]:
    """A new ledger's file at a path, replaced when all was committed; what an earlier try left is removed.

    Raises:
        SettingsError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        for rest in (new, Path(f"{new}-wal"), Path(f"{new}-shm")):
            rest.unlink(missing_ok=True)
        open(new, "ab", opener=opener).close()
        engine = new_engine(new, checks_references=False)
        try:
            with engine.connect() as connection, connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                upgrade(connection)
        finally:
            engine.dispose()
        with closing(sqlite3.connect(new, isolation_level=None)) as driver:
            driver.execute("BEGIN IMMEDIATE")
            transfer = SqliteTransfer(driver)
            yield transfer
            if driver.in_transaction:
                raise AssertionError("nothing was committed")
        engine = new_engine(new)
        try:
            with engine.connect() as connection:
                with connection.begin():
                    make_search_index(connection)
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            engine.dispose()
        _replace(new, path)
    except (sqlite3.Error, OSError) as error:
        raise SettingsError(f"{path} cannot be written ({error}).") from error


def set_aside(path: Path, suffix: str) -> Path:
    """Give a ledger's file another name, durably; returns that. All of it is in the one file.

    Raises:
        SettingsError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.{suffix}")
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as driver:
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _replace(path, aside)
    except (sqlite3.Error, OSError) as error:
        raise SettingsError(f"{path} cannot be renamed ({error}).") from error
    return aside


def _replace(old: Path, new: Path) -> None:
    descriptor = os.open(old, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for rest in (Path(f"{new}-wal"), Path(f"{new}-shm")):
        rest.unlink(missing_ok=True)
    old.replace(new)
    folder = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
