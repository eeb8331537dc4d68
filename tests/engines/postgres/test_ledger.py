"""What is particular to the ledger in Postgres."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from tests.support import scenarios
from tests.support.postgres import Postgres

from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.engines.sql.migrations import schema_version, upgrade
from dropmill.engines.sql.tables import SCHEMA_HEAD, metadata
from dropmill.model.errors import OutOfSpace, Removed, SettingsError, StorageUnavailable
from dropmill.model.history import HistoryFilter
from dropmill.model.submissions import Outcome
from dropmill.model.uploads import AbortCause


@pytest.fixture
def conninfo(postgres: Postgres) -> str:
    """A database of the test's own."""
    return postgres.conninfo(postgres.make_database())


async def test_a_new_database_has_the_tables_and_the_newest_schema(conninfo: str) -> None:
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    await ledger.close()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo))
    with engine.begin() as connection:
        assert schema_version(connection) == SCHEMA_HEAD
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        found = compare_metadata(context, metadata)
        # The engine makes the index of trigrams itself: no other database has one like it.
        assert [(what, index.name) for what, index in found] == [("remove_index", "ix_search_texts_trigrams")]
        conditions = {
            index["name"]: index["dialect_options"]["postgresql_where"]
            for table in metadata.tables
            for index in inspect(connection).get_indexes(table)
            if index.get("dialect_options", {}).get("postgresql_where")
        }
        upgrade(connection)
    engine.dispose()
    assert "ix_submissions_unsettled" in conditions
    assert "ix_submissions_removing" in conditions
    assert conditions.keys() == {
        index.name
        for table in metadata.sorted_tables
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }


async def test_a_database_of_before_the_causes_of_aborted_uploads_is_migrated(conninfo: str) -> None:
    """Schema 0011."""
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    submission_id = await scenarios.opened(ledger)
    for reason in ("the client terminated it", "no byte came for too long", "why"):
        await ledger.abort_upload(await scenarios.receiving(ledger, submission_id), AbortCause.DAMAGED, reason)
    only = await scenarios.opened(ledger)
    await ledger.abort_upload(await scenarios.receiving(ledger, only), AbortCause.DAMAGED, "the client terminated it")
    for opened in (submission_id, only):
        await ledger.seal_submission(opened)
    await ledger.close()
    with psycopg.connect(conninfo) as connection:
        connection.execute("DROP TABLE ledgers, notices, tokens, sessions, accounts")
        connection.execute("DROP INDEX ix_events_audited")
        connection.execute("ALTER TABLE files DROP COLUMN cause")
        connection.execute("ALTER TABLE submissions DROP COLUMN given_up, DROP COLUMN replaced")
        connection.execute("UPDATE alembic_version SET version_num = '0010'")
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    view = await ledger.view_submission(submission_id, limit=9)
    assert [file.cause for file in view.files] == [AbortCause.CANCELLED, AbortCause.EXPIRED, AbortCause.CUT_OFF]
    assert view.submission.outcome is Outcome.FAILED
    cancelled = (await ledger.history(HistoryFilter(state="cancelled"), limit=9)).entries
    assert [(entry.submission.id, entry.submission.outcome) for entry in cancelled] == [(only, Outcome.CANCELLED)]
    await ledger.close()


async def test_a_database_of_a_newer_dropmill_is_refused(conninfo: str) -> None:
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    await ledger.close()
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for without_lock in (False, True):
        ledger = PostgresLedger(conninfo, lambda _: None)
        with pytest.raises(SettingsError, match="schema 9999, newer than this"):
            await ledger.open(without_lock=without_lock)
        await ledger.close()


async def test_a_guest_makes_no_tables(conninfo: str) -> None:
    ledger = PostgresLedger(conninfo, lambda _: None)
    with pytest.raises(SettingsError, match="older than this"):
        await ledger.open(without_lock=True)
    await ledger.close()
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


async def test_a_database_of_another_encoding_is_refused(postgres: Postgres) -> None:
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    ledger = PostgresLedger(postgres.conninfo("ascii"), lambda _: None)
    with pytest.raises(SettingsError, match="encoding UTF8; it has SQL_ASCII"):
        await ledger.open()
    await ledger.close()


async def test_a_purge_frees_the_rows_that_held_the_text(conninfo: str) -> None:
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    secret = await scenarios.save(ledger, b"password: 1\n" * 1000)
    await scenarios.save(ledger)
    await ledger.purge_revision(secret, None, None)
    with pytest.raises(Removed):
        await ledger.revision_text(secret)
    await ledger.close()
    vacuumed = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'config_revisions'"
    async with asyncio.timeout(scenarios.LIVENESS_S):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while connection.execute(vacuumed).fetchone() != (1,):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)


# --- faults ----------------------------------------------------------------------------------------------------------

Commit = Callable[[psycopg.Connection[Any]], None]


def _answered_by_an_error(monkeypatch: pytest.MonkeyPatch, really: Commit) -> list[int]:
    """The next commit does `really` this, and then its connection breaks; returns how often that came."""
    commit = psycopg.Connection.commit
    broken: list[int] = []

    def once(connection: psycopg.Connection[Any]) -> None:
        if broken or connection.read_only:
            commit(connection)
            return
        broken.append(1)
        really(connection)
        connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(psycopg.Connection, "commit", once)
    return broken


async def test_a_change_whose_commit_was_answered_by_an_error_is_made_once(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    await scenarios.save(ledger)
    broken = _answered_by_an_error(monkeypatch, psycopg.Connection.commit)
    submission_id = await scenarios.opened(ledger)
    assert broken
    assert await scenarios.names(ledger) == ["config.saved", "submission.opened"]
    assert (await ledger.view_submission(submission_id, limit=1)).cursor == 2
    await ledger.close()


async def test_a_change_that_was_not_committed_fails(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    broken = _answered_by_an_error(monkeypatch, psycopg.Connection.rollback)
    with pytest.raises(StorageUnavailable):
        await scenarios.save(ledger)
    assert broken
    assert await scenarios.names(ledger) == []
    await scenarios.save(ledger)
    await ledger.close()


@pytest.mark.parametrize(
    ("sqlstate", "fault"),
    [
        ("53100", OutOfSpace),
        ("08006", StorageUnavailable),
        ("57P01", StorageUnavailable),
        ("57P03", StorageUnavailable),
        ("53300", StorageUnavailable),
        ("40001", StorageUnavailable),
        ("40P01", StorageUnavailable),
        ("25006", StorageUnavailable),
        ("58030", StorageUnavailable),
        ("XX001", StorageUnavailable),
        ("22P02", None),
        ("23505", None),
        ("42P01", None),
        ("25001", None),
    ],
)
def test_faults_of_the_database_are_distinguished_from_our_own_mistakes(
    sqlstate: str, fault: type[Exception] | None
) -> None:
    ledger = PostgresLedger("", lambda _: None)
    found = ledger.translate(psycopg.errors.lookup(sqlstate)("as the database said it"))
    assert (None if found is None else type(found)) is fault


async def test_a_server_that_is_away_is_reported_as_unavailable(postgres: Postgres) -> None:
    ledger = PostgresLedger("host=127.0.0.1 port=1 dbname=a user=b", lambda _: None)
    with pytest.raises(StorageUnavailable):
        await ledger.open()
    await ledger.close()
