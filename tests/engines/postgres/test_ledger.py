"""What is particular to the ledger in Postgres."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Literal

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from tests.support import scenarios
from tests.support.postgres import Postgres, running
from tests.support.postgres_line import PostgresLine
from tests.support.waiting import eventually

from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.engines.postgres.transaction import PostgresTransaction
from dropmill.engines.sql.database import READERS
from dropmill.engines.sql.migrations import schema_version, upgrade
from dropmill.engines.sql.tables import SCHEMA_HEAD, metadata
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.errors import OutOfSpace, Removed, SettingsError, StorageUnavailable
from dropmill.model.history import HistoryFilter
from dropmill.model.ids import Cursor, new_job_id
from dropmill.model.jobs import Claim, RetryPolicy
from dropmill.model.results import Result
from dropmill.model.submissions import Counts, Outcome
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
        connection.execute("DROP TABLE visits, links, ledgers, notices, tokens, sessions, accounts, pending_sign_ins")
        connection.execute("DROP TABLE quotas, turns, duties")
        connection.execute("ALTER TABLE nodes DROP COLUMN is_worker, DROP COLUMN alive_until")
        connection.execute("ALTER TABLE config_files DROP COLUMN node")
        connection.execute("DROP INDEX ix_events_audited")
        connection.execute("CREATE INDEX ix_events_account ON events (account)")
        connection.execute("ALTER TABLE files DROP COLUMN cause")
        for name in ("given_up", "replaced", "sender", "link_id", "link_label", "said_name"):
            connection.execute(f"ALTER TABLE submissions DROP COLUMN {name}".encode())
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


@pytest.fixture
async def line(postgres: Postgres) -> AsyncIterator[PostgresLine]:
    """A line to the server that can break."""
    async with PostgresLine(postgres.port) as made:
        yield made


@pytest.fixture
async def beyond(line: PostgresLine, conninfo: str) -> AsyncIterator[PostgresLedger]:
    """A ledger at the other end of it, with a config revision."""
    ledger = PostgresLedger(f"{conninfo} port={line.port}", lambda _: None)
    await ledger.open()
    await ledger.enter(scenarios.node())
    await scenarios.save(ledger)
    yield ledger
    await ledger.close()


async def test_a_change_whose_commit_was_answered_to_nobody_is_made_once(
    beyond: PostgresLedger, line: PostgresLine
) -> None:
    """The server has committed when the connection breaks: asked afterwards, it says so."""
    submission_id = await scenarios.opened(beyond)
    line.cut = "after"
    file_id = await scenarios.receiving(beyond, submission_id)
    assert line.cuts == 1
    line.cut = "after"
    await beyond.store_upload(file_id, scenarios.blob(), new_job_id())
    line.cut = "after"
    order = await scenarios.claimed(beyond)
    line.cut = "after"
    assert await beyond.end_attempt(order.job_id, order.number, scenarios.SUCCEEDED)
    assert line.cuts == 4
    names = await scenarios.names(beyond)
    assert names[1:] == [
        *("submission.opened", "upload.started", "upload.stored", "job.queued"),
        *("attempt.started", "attempt.succeeded", "job.settled"),
    ]
    assert await scenarios.recount(beyond, submission_id) == Counts(succeeded=1)


async def test_a_change_whose_commit_did_not_arrive_fails(beyond: PostgresLedger, line: PostgresLine) -> None:
    before = await scenarios.names(beyond)
    line.cut = "before"
    with pytest.raises(StorageUnavailable):
        await scenarios.opened(beyond)
    assert line.cuts == 1
    assert await scenarios.names(beyond) == before
    await scenarios.opened(beyond)
    assert await scenarios.names(beyond) == [*before, "submission.opened"]


@pytest.mark.parametrize(("cut", "events"), [("before", 0), ("after", 1)])
async def test_what_became_of_a_commit_is_asked_until_the_database_is_back(
    beyond: PostgresLedger, line: PostgresLine, cut: Literal["before", "after"], events: int
) -> None:
    beyond.patience_s = scenarios.LIVENESS_S
    before = len(await scenarios.names(beyond))
    line.cut, line.refuses_after_cut = cut, True
    opening = asyncio.create_task(scenarios.opened(beyond))
    await eventually(lambda: line.refused > 1)
    assert not opening.done()
    line.is_refusing = False
    [result] = await asyncio.gather(opening, return_exceptions=True)
    assert isinstance(result, StorageUnavailable) == (cut == "before")
    assert len(await scenarios.names(beyond)) == before + events


async def test_callers_are_told_while_nobody_knows_what_became_of_a_commit(
    beyond: PostgresLedger, line: PostgresLine
) -> None:
    """Nobody waits for the database longer than for any answer; it still decides what has happened."""
    before = len(await scenarios.names(beyond))
    beyond.patience_s = 0.05
    line.cut, line.refuses_after_cut = "after", True
    for _ in range(3):  # the first is the one in question
        with pytest.raises(StorageUnavailable, match="does not answer"):
            await scenarios.opened(beyond)
    line.is_refusing = False
    beyond.patience_s = scenarios.LIVENESS_S

    async def is_back() -> bool:
        with contextlib.suppress(StorageUnavailable):
            await scenarios.opened(beyond)
            return True
        return False

    await eventually(is_back)
    assert len(await scenarios.names(beyond)) == before + 2


async def test_a_ledger_closes_though_nobody_knows_what_became_of_a_commit(conninfo: str, line: PostgresLine) -> None:
    ledger = PostgresLedger(f"{conninfo} port={line.port}", lambda _: None)
    await ledger.open()
    ledger.patience_s = 0.05
    line.cut, line.refuses_after_cut = "after", True
    with pytest.raises(StorageUnavailable):
        await scenarios.save(ledger)
    async with asyncio.timeout(scenarios.LIVENESS_S):
        await ledger.close()


async def test_a_paused_database_is_answered_for_and_goes_on_where_it_was() -> None:
    with running() as server:
        ledger = PostgresLedger(server.conninfo(server.make_database()), lambda _: None)
        await ledger.open()
        await ledger.enter(scenarios.node())
        await scenarios.save(ledger)
        submission_id = await scenarios.opened(ledger)
        server.pause()
        for _ in range(3):
            with pytest.raises(StorageUnavailable, match="does not answer"):
                await scenarios.receiving(ledger, submission_id)
        for _ in range(2 * READERS):  # more than there are threads
            with pytest.raises(StorageUnavailable, match="does not answer"):
                await ledger.newest_cursor()
        server.resume()
        ledger.patience_s = scenarios.LIVENESS_S
        await eventually(lambda: _works(lambda: scenarios.settled(ledger, submission_id)))
        told = await scenarios.all_events(ledger)  # the first of those that were refused was made all the same
        assert sum(event.name == "upload.started" for event in told) >= 1
        await ledger.close()


async def test_a_ledger_closes_though_the_database_is_paused() -> None:
    with running() as server:
        ledger = PostgresLedger(server.conninfo(server.make_database()), lambda _: None)
        await ledger.open()
        server.pause()
        with pytest.raises(StorageUnavailable):
            await scenarios.save(ledger)
        with pytest.raises(StorageUnavailable):
            await ledger.newest_cursor()
        async with asyncio.timeout(scenarios.LIVENESS_S):
            await ledger.close()


async def _works(call: Callable[[], Awaitable[object]]) -> bool:
    with contextlib.suppress(StorageUnavailable):
        await call()
        return True
    return False


async def test_after_a_restart_of_the_database_the_first_read_and_the_first_change_succeed() -> None:
    with running(is_durable=True) as server:
        ledger = PostgresLedger(server.conninfo(server.make_database()), lambda _: None)
        await ledger.open()
        await asyncio.gather(*(ledger.newest_cursor() for _ in range(20)))  # every connection is used
        await asyncio.to_thread(server.kill)
        with pytest.raises(StorageUnavailable):
            await ledger.newest_cursor()
        with pytest.raises(StorageUnavailable):
            await scenarios.save(ledger)
        await asyncio.to_thread(server.start)
        assert await ledger.newest_cursor() == 0
        await scenarios.save(ledger)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*(ledger.newest_cursor() for _ in range(20)), scenarios.save(ledger, b"b: 2\n"))
        await ledger.close()


async def test_a_process_that_stands_still_with_the_lock_loses_it(conninfo: str) -> None:
    """It would stop all others for as long as it stands."""
    ledger = PostgresLedger(conninfo, lambda _: None)
    ledger.patience_s = 3 * scenarios.LIVENESS_S
    await ledger.open()
    other = PostgresLedger(conninfo, lambda _: None)
    other.patience_s = 3 * scenarios.LIVENESS_S
    await other.open()
    is_in, may_go_on = threading.Event(), threading.Event()

    def stand_still(tx: Transaction) -> None:
        is_in.set()
        may_go_on.wait(3 * scenarios.LIVENESS_S)

    standing = asyncio.create_task(other._change(stand_still))
    await asyncio.to_thread(is_in.wait)
    await scenarios.save(ledger)
    may_go_on.set()
    with pytest.raises(StorageUnavailable):
        await standing
    await scenarios.save(other, b"b: 2\n")
    assert await scenarios.names(ledger) == ["config.saved"] * 2
    await ledger.close()
    await other.close()


async def test_several_processes_make_one_database_at_once(conninfo: str) -> None:
    ledgers = [PostgresLedger(conninfo, lambda _: None) for _ in range(4)]
    await asyncio.gather(*(ledger.open() for ledger in ledgers))
    assert len({ledger.id for ledger in ledgers}) == 1
    for number, ledger in enumerate(ledgers):
        await scenarios.save(ledger, f"a: {number}\n".encode())
    assert await scenarios.names(ledgers[0]) == ["config.saved"] * 4
    for ledger in ledgers:
        await ledger.close()


async def test_cursors_and_sizes_may_be_larger_than_31_bits(conninfo: str) -> None:
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    await ledger.enter(scenarios.node())
    await scenarios.save(ledger)
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE events SET cursor = cursor + 3000000000")
        connection.execute("INSERT INTO queues VALUES ('', 3000000000)")
        for name in ("submissions", "files", "jobs"):
            connection.execute(f"ALTER SEQUENCE {name}_seq_seq RESTART 3000000000".encode())
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.settled(ledger, submission_id)
    view = await ledger.view_submission(submission_id, limit=9)
    assert view.cursor > 3_000_000_000
    assert [file.job.id for file in view.files if file.job] == [job_id]
    assert await ledger.places([job_id]) == {}
    assert (await ledger.history(HistoryFilter(text="a.txt"), limit=9)).entries
    page = await ledger.events("all", after=Cursor(3_000_000_000), limit=99)
    assert [event.cursor for event in page.events] == list(range(3_000_000_001, view.cursor + 1))
    await ledger.close()


# --- round trips -----------------------------------------------------------------------------------------------------


async def test_the_changes_of_a_files_life_take_two_round_trips(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lock held, each would be one that all other processes wait for."""
    trips: list[int] = []

    class Counted(PostgresTransaction):
        def commit(self) -> None:
            super().commit()
            trips.append(self.trips)

    monkeypatch.setattr("dropmill.engines.postgres.ledger.PostgresTransaction", Counted)
    ledger = PostgresLedger(conninfo, lambda _: None)
    await ledger.open()
    await ledger.enter(scenarios.node())
    await scenarios.save(ledger)
    trips.clear()
    submission_id = await scenarios.opened(ledger)
    file_id = await scenarios.receiving(ledger, submission_id)
    await ledger.store_upload(file_id, scenarios.blob(), new_job_id())
    await ledger.store_files([scenarios.whole(submission_id, f"{number}.txt") for number in range(3)])
    order = await scenarios.claimed(ledger)
    ended = await ledger.end_attempt(order.job_id, order.number, scenarios.FAILED, then_claim=Claim())
    assert ended is not None
    [order] = ended.orders
    results = [Result(path="r.txt", size=1, sha256=scenarios.blob().sha256, blob="r")]
    await ledger.end_attempt(order.job_id, order.number, replace(scenarios.SUCCEEDED, results=tuple(results)))
    order = await scenarios.claimed(ledger)
    retry = RetryPolicy(exit_codes=frozenset({1}), times=1, delay_s=0.0)
    await ledger.end_attempt(order.job_id, order.number, scenarios.FAILED, retry)
    await ledger.request_cancel(order.job_id)
    assert trips == [2] * 10
    await scenarios.recount(ledger, submission_id)
    await ledger.close()


@pytest.mark.parametrize(
    ("sqlstate", "fault"),
    [
        ("53100", OutOfSpace),
        ("08006", StorageUnavailable),
        ("57P01", StorageUnavailable),
        ("57P03", StorageUnavailable),
        ("25P03", StorageUnavailable),
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
