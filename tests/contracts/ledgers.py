"""The databases that the ledger's contract is tested over. One more joins by a class and a word in `ENGINES`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import psycopg
from sqlalchemy import Engine
from tests.support import scenarios
from tests.support.postgres import Postgres

from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sql.tables import metadata
from dropmill.engines.sqlite.ledger import SqliteLedger

ENGINES = ("sqlite", "postgres")


class LedgerEngine(Protocol):
    """A database that is the test's own, and ledgers on it."""

    name: str
    place: str
    """Path of the file, or libpq's words."""
    moved: list[Mapping[str, int]]

    async def open(self, *, lock: str = "the lock", **options: Any) -> SqlLedger:
        """One more ledger on the database, as another process would open it; `options` are its constructor's.

        Args:
            lock: of the node that the process is. With the same one it is a later run, which the earlier is gone for.
        """

    async def close(self) -> None:
        """Close the ledgers that are open."""


class _Opened:
    """Keeps what is open."""

    def __init__(self, name: str, place: str, make: Callable[..., SqlLedger]) -> None:
        self.name, self.place = name, place
        self._make = make
        self._open: list[SqlLedger] = []
        self.moved: list[Mapping[str, int]] = []

    async def open(self, *, lock: str = "the lock", **options: Any) -> SqlLedger:
        ledger = self._make(self.moved.append, **options)
        await ledger.open()
        await ledger.enter(scenarios.node(lock=lock))
        self._open.append(ledger)
        return ledger

    async def close(self) -> None:
        while self._open:
            await self._open.pop().close()


class SqliteEngine(_Opened):
    def __init__(self, folder: Path) -> None:
        path = folder / "ledger.sqlite"
        super().__init__("sqlite", str(path), lambda told, **options: SqliteLedger(path, told, **options))


class PostgresEngine(_Opened):
    def __init__(self, server: Postgres, database: str, kept: list[Engine] | None = None) -> None:
        """`kept`: connections of earlier tests, which this one uses and leaves there; None opens its own."""
        place = server.conninfo(database)

        def make(told: Callable[[Mapping[str, int]], None], **options: Any) -> SqlLedger:
            if kept is None:
                return PostgresLedger(place, told, **options)
            return _KeptPostgresLedger(kept, place, told, **options)

        super().__init__("postgres", place, make)


class _KeptPostgresLedger(PostgresLedger):
    """Closing it leaves its connections, and the statements that were compiled for them, to the next test.

    Opening four connections and compiling some sixty statements costs more than most of these tests do.
    """

    patience_s: float | None = scenarios.LIVENESS_S  # on a busy machine

    def __init__(
        self, kept: list[Engine], place: str, told: Callable[[Mapping[str, int]], None], **options: Any
    ) -> None:
        self._kept = kept
        super().__init__(place, told, **options)

    def _new_engine(self) -> Engine:
        if self._kept:
            return self._kept.pop()
        engine = super()._new_engine()
        engine.dispose = lambda close=True: self._kept.append(engine)  # type: ignore[method-assign]
        return engine


def empty_tables(conninfo: str) -> None:
    """Leave a database as `create_all` made it; one without tables stays without."""
    with psycopg.connect(conninfo) as connection:
        if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
            return
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.execute(f"TRUNCATE {names} RESTART IDENTITY".encode())
