"""A ledger in Postgres, as the one side of a move: one transaction, which holds the writers' lock."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Table, create_engine
from sqlalchemy.exc import SQLAlchemyError

from dropmill.engines.postgres.connecting import NAME, cause_of, connect
from dropmill.engines.postgres.ledger import make_search_index, require_usable
from dropmill.engines.postgres.transaction import BEGIN
from dropmill.engines.sql.migrations import require_current, schema_version, upgrade
from dropmill.engines.sql.transfer import TABLES, Values, as_stored, in_order, names, numbered
from dropmill.model.errors import SettingsError

_ROWS_AT_ONCE = 1000
_OTHERS = """
    SELECT count(*), min(client_addr::text) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s AND pid <> pg_backend_pid()
"""


class PostgresTransfer:
    """One connection, in one transaction.

    Attributes:
        is_empty: whether the schema has none of the ledger's tables.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        tables = [*(table.name for table in TABLES), "alembic_version"]
        found = self._driver.execute(
            "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ANY(%s) LIMIT 1", (tables,)
        )
        self.is_empty = found.fetchone() is None

    def require_current(self) -> None:
        """Return if this version can read it.

        Raises:
            SettingsError: there is none, or its schema is not the current one.
        """
        if schema_version(self._connection) is None:
            raise SettingsError("DROPMILL_DATABASE_URL names a database without a ledger.")
        require_current(self._connection)

    def make_tables(self) -> None:
        """Make the tables, in the same transaction."""
        upgrade(self._connection)

    def rows(self, table: Table) -> Iterator[Values]:
        with self._driver.cursor(name="rows") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(in_order(table).encode())
            for row in cursor:
                yield as_stored(table, row)

    def write(self, table: Table, rows: Iterable[Values]) -> None:
        statement = f'COPY "{table.name}" ({names(table)}) FROM STDIN'
        with self._driver.cursor().copy(statement.encode()) as copying:
            for row in rows:
                copying.write_row(row)
        column = numbered(table)
        if column is not None:
            self._driver.execute(
                sql.SQL(
                    "SELECT setval(pg_get_serial_sequence({table}, {column}), max({name})) FROM {of} "
                    "HAVING count(*) > 0"
                ).format(
                    table=sql.Literal(table.name),
                    column=sql.Literal(column.name),
                    name=sql.Identifier(column.name),
                    of=sql.Identifier(table.name),
                )
            )

    def commit(self) -> None:
        make_search_index(self._connection)
        for table in TABLES:
            self._driver.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table.name)))
        self._driver.commit()


@contextmanager
def open_database(conninfo: str) -> Iterator[PostgresTransfer]:
    """The ledger in a database. What was not committed is rolled back at the end.

    Raises:
        SettingsError: the database cannot be used, or a server works with it.
    """
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(conninfo), use_native_hstore=False)
    try:
        with engine.connect() as connection:
            lock = require_usable(connection)
            driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
            driver.rollback()
            count, address = driver.execute(_OTHERS, (NAME,)).fetchone() or (0, None)
            if count:
                raise SettingsError(
                    f"A server or a command of Dropmill uses the database now ({count} connections, from "
                    f"{address or 'this machine'}); stop it first."
                )
            driver.execute(BEGIN)
            driver.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (lock,))
            yield PostgresTransfer(connection)
    except (psycopg.Error, SQLAlchemyError) as error:
        first, *_ = str(cause_of(error)).splitlines() or [type(error).__name__]
        raise SettingsError(f"The Postgres database cannot be used ({first}).") from error
    finally:
        engine.dispose()
