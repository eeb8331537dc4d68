"""The contract tests of the ledger run once over each database."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.contracts.ledgers import ENGINES, LedgerEngine, PostgresEngine, SqliteEngine, empty_tables
from tests.support import scenarios
from tests.support.postgres import Postgres

from dropmill.ports.ledger import Ledger


@pytest.fixture(scope="session")
def database(postgres: Postgres) -> str:
    """A database for the tests of this process; its tables are made once."""
    return postgres.make_database()


@pytest.fixture(scope="module")
def connections() -> Iterator[list[Engine]]:
    """Connections that the tests of a module hand on to one another."""
    engines: list[Engine] = []
    yield engines
    for engine in engines:
        engine.pool.dispose()


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerEngine]:
    """An empty database."""
    made: LedgerEngine
    if request.param == "sqlite":
        made = SqliteEngine(tmp_path)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        name: str = request.getfixturevalue("database")
        empty_tables(server.conninfo(name))
        made = PostgresEngine(server, name, request.getfixturevalue("connections"))
    yield made
    await made.close()


@pytest.fixture
async def empty(engine: LedgerEngine) -> Ledger:
    """A ledger on it."""
    return await engine.open()


@pytest.fixture
async def ledger(empty: Ledger) -> Ledger:
    """With a config revision, so that jobs can be queued."""
    await scenarios.save(empty)
    return empty
