"""`dropmill migrate` between a real SQLite file and a real Postgres."""

import asyncio
import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.support import scenarios
from tests.support.postgres import Postgres
from tests.support.postgres_line import PostgresLine
from tests.support.preloaded import DROPMILL
from tests.support.server import Server, clean_environment
from tests.support.waiting import eventually

from dropmill.cli import main
from dropmill.engines.local.home import LedgerHome
from dropmill.engines.local.lock import FolderLock
from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.history import HistoryFilter
from dropmill.model.jobs import JobError
from dropmill.model.results import Result
from dropmill.model.uploads import AbortCause

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database of the test's own."""
    return postgres.url(postgres.make_database())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command on the test's folder: exit code, and all that it printed."""
    monkeypatch.setenv("DROPMILL_DATA", str(tmp_path))

    def ended(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as caught:
            main(["migrate", *words], prog_name="dropmill")
        assert isinstance(caught.value.code, int)
        said = capsys.readouterr()
        return caught.value.code, said.out + said.err

    return ended


async def _fill(ledger: SqlLedger) -> None:
    """Something in nearly every table, with what databases treat differently."""
    await ledger.open()
    await ledger.enter(scenarios.node())
    purged = await scenarios.save(ledger, b"password: 1\n")
    await scenarios.save(ledger, "ü: \u2028\n".encode())
    await ledger.purge_revision(purged, scenarios.CLIENT, None)
    submission_id = await scenarios.opened(ledger)
    for path in ("a/b \\ \" ' {}.txt", "ü/\U0001f600.txt", "nul\0.txt", "tab\tline\nend"):
        await scenarios.queued(ledger, submission_id, path)
    order = await scenarios.claimed(ledger)
    failed = replace(scenarios.FAILED, error=JobError(type="E", message="nul \0 and \\N and \udc80"))
    await ledger.end_attempt(order.job_id, order.number, failed)
    order = await scenarios.claimed(ledger)
    results = (Result(path="r/ü.txt", size=2**40, sha256=scenarios.blob().sha256, blob="r"),)
    await ledger.end_attempt(
        order.job_id, order.number, replace(scenarios.SUCCEEDED, results=results, value={"a": [1, None]})
    )
    aborted = await scenarios.receiving(ledger, submission_id)
    await ledger.abort_upload(aborted, AbortCause.CUT_OFF, "why")
    await scenarios.claimed(ledger)


async def _told(ledger: SqlLedger) -> list[object]:
    """What people see of a ledger."""
    await ledger.open()
    try:
        entries = (await ledger.history(HistoryFilter(), limit=99)).entries
        views = [await ledger.view_submission(entry.submission.id, limit=99) for entry in entries]
        found = (await ledger.history(HistoryFilter(text="nul"), limit=99)).entries
        return [ledger.id, await scenarios.all_events(ledger), entries, views, found, await ledger.totals()]
    finally:
        await ledger.close()


async def _go_on(ledger: SqlLedger) -> None:
    """Everything numbered goes on behind what there is."""
    await ledger.open()
    await ledger.enter(scenarios.node(lock="another"))
    await scenarios.save(ledger, b"later: 1\n")
    submission_id = await scenarios.opened(ledger)
    await scenarios.queued(ledger, submission_id)
    await scenarios.all_events(ledger)
    assert (await ledger.history(HistoryFilter(), limit=1)).entries[0].submission.id == submission_id
    await ledger.close()


def _made(path: Path) -> SqliteLedger:
    async def make() -> None:
        ledger = SqliteLedger(path, lambda _: None)
        await _fill(ledger)
        await ledger.close()

    asyncio.run(make())
    return SqliteLedger(path, lambda _: None)


def test_a_ledger_goes_to_postgres_and_back_and_is_the_same(tmp_path: Path, url: str, run: Run) -> None:
    before = asyncio.run(_told(_made(tmp_path / "ledger.sqlite")))
    code, said = run(url)
    assert code == 0, said
    assert "All rows are the same" in said
    assert not (tmp_path / "ledger.sqlite").exists()
    assert asyncio.run(_told(SqliteLedger(tmp_path / "ledger.sqlite.moved", lambda _: None))) == before
    assert asyncio.run(_told(PostgresLedger(url, lambda _: None))) == before
    asyncio.run(_go_on(PostgresLedger(url, lambda _: None)))
    later = asyncio.run(_told(PostgresLedger(url, lambda _: None)))
    code, said = run("--back", url)
    assert code == 0, said
    assert asyncio.run(_told(SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None))) == later
    asyncio.run(_go_on(SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)))
    assert asyncio.run(_told(PostgresLedger(url, lambda _: None))) == later  # the original is untouched
    LedgerHome(tmp_path).require(in_postgres=False)


def test_the_url_may_come_from_the_environment(
    tmp_path: Path, url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = run()
    assert (code, "set DROPMILL_DATABASE_URL" in said) == (2, True)
    _made(tmp_path / "ledger.sqlite")
    monkeypatch.setenv("DROPMILL_DATABASE_URL", url)
    assert run()[0] == 0
    assert run("--back")[0] == 0


def test_a_target_that_is_not_empty_is_refused(tmp_path: Path, url: str, run: Run) -> None:
    other = PostgresLedger(url, lambda _: None)

    async def make() -> None:
        await other.open()
        await other.close()

    asyncio.run(make())
    before = asyncio.run(_told(_made(tmp_path / "ledger.sqlite")))
    code, said = run(url)
    assert (code, "holds a ledger already" in said) == (2, True)
    assert asyncio.run(_told(SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None))) == before
    code, said = run("--back", url)
    assert (code, "has a ledger of its own" in said) == (2, True)
    assert asyncio.run(_told(SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None))) == before


def test_what_is_missing_is_said(tmp_path: Path, url: str, run: Run) -> None:
    for words, why in (
        ((url,), "There is no ledger"),
        (("--back", url), "a database without a ledger"),
        (("postgresql://a@127.0.0.1:1/b",), "There is no ledger"),
        (("--back", "postgresql://a@127.0.0.1:1/b"), "cannot be used"),
        (("mysql://a",), "must be a URL such as"),
    ):
        code, said = run(*words)
        assert (code, why in said) == (2, True), said
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_it_is_refused_while_a_server_runs(tmp_path: Path, url: str, run: Run) -> None:
    _made(tmp_path / "ledger.sqlite")
    lock = FolderLock(tmp_path)
    lock.acquire()
    code, said = run(url)
    lock.release()
    assert (code != 0, "in use" in said) == (True, True)
    assert run(url)[0] == 0

    async def beside() -> tuple[int, str]:
        """A server on another host."""
        ledger = PostgresLedger(url, lambda _: None)
        await ledger.open()
        try:
            return await asyncio.to_thread(run, "--back", url)
        finally:
            await ledger.close()

    code, said = asyncio.run(beside())
    assert (code, "uses the database now" in said) == (2, True)


MOMENTS = (b"CREATE TABLE files", b'COPY "events"', b"FETCH", b"ANALYZE", b"COMMIT")


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.decode())
async def test_a_kill_in_the_middle_changes_nothing(tmp_path: Path, postgres: Postgres, moment: bytes) -> None:
    """The original is whole, the target empty, and the next try moves it."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    await _fill(ledger)
    await ledger.close()
    before = await _told(SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None))
    name = postgres.make_database()
    async with PostgresLine(postgres.port) as line:
        line.hold_at = moment
        url = postgres.url(name).replace(f":{postgres.port}/", f":{line.port}/")
        words = [*DROPMILL, "migrate", url, "--data", str(tmp_path)]
        running = await asyncio.create_subprocess_exec(*words, env=clean_environment())
        await eventually(lambda: line.is_holding)
        running.kill()
        await running.wait()
    assert await _told(SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)) == before
    LedgerHome(tmp_path).require(in_postgres=False)
    ended = await asyncio.create_subprocess_exec(
        *DROPMILL, "migrate", postgres.url(name), "--data", str(tmp_path), env=clean_environment()
    )
    assert await ended.wait() == 0
    assert await _told(PostgresLedger(postgres.url(name), lambda _: None)) == before


def test_a_kill_after_the_copy_is_made_up_for(tmp_path: Path, url: str, run: Run) -> None:
    _made(tmp_path / "ledger.sqlite")
    shutil.copyfile(tmp_path / "ledger.sqlite", tmp_path / "before")
    assert run(url)[0] == 0
    (tmp_path / "ledger.sqlite.moved").unlink()
    (tmp_path / "before").rename(tmp_path / "ledger.sqlite")
    LedgerHome(tmp_path).leave()  # as if it had been killed before it said where the ledger is
    code, said = run(url)
    assert code == 0, said
    LedgerHome(tmp_path).require(in_postgres=True)


def test_a_server_goes_on_in_postgres_and_back(make_server: Callable[..., Server], url: str) -> None:
    server = make_server().start()
    kept = server.settled(server.send(("a.txt", b"one\n"))["id"])
    server.stop()
    in_postgres = make_server(environment={"DROPMILL_DATABASE_URL": url})
    in_postgres.data, in_postgres.config = server.data, server.config
    for words, following in (([url], in_postgres), (["--back", url], server)):
        environment = clean_environment({"DROPMILL_DATA": str(server.data)})

        async def migrate(words: list[str], environment: dict[str, str]) -> int:
            ended = await asyncio.create_subprocess_exec(*DROPMILL, "migrate", *words, env=environment)
            return await ended.wait()

        assert asyncio.run(migrate(words, environment)) == 0
        following.start()
        assert following.get(f"/submissions/{kept['id']}") == kept
        assert following.http.get(f"/api/v1/files/{kept['files'][0]['id']}/content").content == b"one\n"
        following.settled(following.send(("b.txt", b"two\n"))["id"])
        cursors = [event["cursor"] for event in following.events()]
        assert cursors == list(range(1, len(cursors) + 1))
        assert [line["cursor"] for line in following.log()] == cursors
        following.stop()
