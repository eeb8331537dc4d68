"""The migrations make what the tables say, and a newer database is left alone."""

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from tests.support import scenarios

from dropmill.engines.sql import migrations
from dropmill.engines.sql.migrations import schema_version, upgrade
from dropmill.engines.sql.tables import SCHEMA_HEAD, metadata
from dropmill.engines.sqlite import ledger as sqlite_ledger
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.config import ConfigLocation
from dropmill.model.errors import SettingsError
from dropmill.model.history import HistoryFilter
from dropmill.model.ids import OPEN, Cursor, Owner, SubmissionId, new_submission_id
from dropmill.model.jobs import Claim
from dropmill.model.quotas import Usage
from dropmill.model.submissions import Counts, Outcome
from dropmill.model.uploads import AbortCause
from dropmill.ports.ledger.submissions import RequestKey

LOOKS = ("get_columns", "get_indexes", "get_unique_constraints", "get_foreign_keys", "get_pk_constraint")


AT = "2026-11-20T08:15:30.123Z"


def made_with(folder: Path, revision: str) -> Path:
    """An empty database as an older Dropmill made it."""
    path = folder / "ledger.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    return path


def _plain(found: Any) -> list[str]:
    return sorted(
        json.dumps(one, default=str, sort_keys=True) for one in (found if isinstance(found, list) else [found])
    )


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    migrated = create_engine(f"sqlite:///{made_with(tmp_path, 'head')}")
    made = create_engine(f"sqlite:///{tmp_path / 'made.sqlite'}")
    with migrated.begin() as connection, made.begin() as straight:
        upgrade(straight)
        assert schema_version(connection) == schema_version(straight) == SCHEMA_HEAD
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        assert compare_metadata(context, metadata) == []
        # What the comparison above does not look at: the conditions of indexes, and the constraints of columns.
        for table in metadata.tables:
            for look in LOOKS:
                found, wanted = (getattr(inspect(one), look)(table) for one in (connection, straight))
                assert _plain(found) == _plain(wanted), (table, look)
            query = f"SELECT count(*) FROM {table}"
            assert connection.exec_driver_sql(query).scalar_one() == straight.exec_driver_sql(query).scalar_one()
    migrated.dispose()
    made.dispose()


def test_the_head_that_the_tables_name_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_HEAD]


def test_an_upgrade_of_a_current_database_changes_nothing(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with engine.begin() as connection:
        assert schema_version(connection) is None
        upgrade(connection)
    before = (tmp_path / "ledger.sqlite").read_bytes()
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    assert (tmp_path / "ledger.sqlite").read_bytes() == before


async def test_a_database_of_a_newer_dropmill_is_refused_with_a_sentence_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    await scenarios.opened(ledger)
    await ledger.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    newer = SqliteLedger(path, lambda _: None)
    with pytest.raises(SettingsError, match=r"schema 9999, newer than this Dropmill's \d{4}; start the newer"):
        await newer.open()
    await newer.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    assert connection.execute("SELECT count(*) FROM events").fetchall() == [(1,)]
    connection.close()


async def test_a_migration_that_fails_leaves_no_half_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are one transaction, the first tables as well as the last."""

    def half(connection: Any) -> None:
        upgrade(connection)
        raise RuntimeError("the power went")

    monkeypatch.setattr(sqlite_ledger, "upgrade", half)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    with pytest.raises(RuntimeError, match="the power went"):
        await ledger.open()
    await ledger.close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


@pytest.mark.parametrize(("flags", "expected"), [((1, 1, 1), 3), ((1, 0, 0), 1), ((), None)])
async def test_what_the_file_held_before_the_migration_passes_to_the_file_of_the_first_start(
    tmp_path: Path, flags: tuple[int, ...], expected: int | None
) -> None:
    """Schema 0006. The flag did not say which file it meant; a save that was not written yet must still be known."""
    path = made_with(tmp_path, "0005")
    texts = [b"number: %d\n" % number for number in range(1, len(flags) + 1)]
    old = sqlite3.connect(path)
    for number, (text, flag) in enumerate(zip(texts, flags, strict=True), 1):
        old.execute(
            "INSERT INTO config_revisions (number, sha256, size, text, saved_at, message, is_mirrored)"
            " VALUES (?, ?, ?, ?, ?, 'kept', ?)",
            (number, hashlib.sha256(text).hexdigest(), len(text), text, AT, flag),
        )
    if flags:  # rows that refer to a revision must not be in the way
        add_row(old, "submissions", id="s", ip="192.0.2.7", opened_at=AT)
        add_row(old, "files", id="f", submission_id="s", name="a", path="a", state="stored")
        add_row(old, "jobs", id="j", submission_id="s", file_id="f", state="queued", config_number=1)
    assert old.execute("PRAGMA foreign_key_check").fetchall() == []
    old.commit()
    old.close()

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    assert await ledger.config_files() == []
    location = ConfigLocation(host="pc7", path="/srv/config.yaml", data_folder=str(tmp_path))
    await ledger.use_config_file(location)
    assert await ledger.config_files() == [location]
    newest, in_file = await ledger.config_position(location)
    assert (newest.number if newest is not None else 0, in_file) == (len(flags), expected)
    revisions = (await ledger.revisions(before=None, limit=10)).items
    assert [await ledger.revision_text(revision.sha256) for revision in revisions] == texts[::-1]
    assert {revision.message for revision in revisions} <= {"kept"}
    await ledger.close()
    new = sqlite3.connect(path)
    assert new.execute("PRAGMA foreign_key_check").fetchall() == []
    assert new.execute("SELECT count(*) FROM jobs").fetchall() == [(1 if flags else 0,)]
    assert new.execute("SELECT count(*) FROM config_files").fetchall() == [(1,)]
    new.close()


def add_row(old: sqlite3.Connection, table: str, **values: object) -> None:
    """A row in whatever schema there is; 0 in the columns that need a value and are neither given nor counted up."""
    for _, name, _, is_needed, default, _ in old.execute(f"PRAGMA table_info({table})").fetchall():
        if is_needed and default is None and name != "seq":
            values.setdefault(name, 0)
    old.execute(
        f"INSERT INTO {table} ({','.join(values)}) VALUES ({','.join('?' * len(values))})", tuple(values.values())
    )


async def test_keys_of_requests_become_those_of_everybody(tmp_path: Path) -> None:
    """Schema 0005: a repeat of a request that an older version took is still known, whatever it says of itself."""
    path = made_with(tmp_path, "0004")
    old = sqlite3.connect(path)
    add_row(old, "submissions", id="s", ip="192.0.2.7", opened_at=AT, is_open=1, idempotency_key="old")
    old.commit()
    old.close()

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    key = RequestKey(text="old", fingerprint="any")
    assert await ledger.open_submission(new_submission_id(), scenarios.CLIENT, None, key=key) == "s"
    await ledger.close()


async def test_jobs_that_waited_before_the_migration_keep_their_turns(tmp_path: Path) -> None:
    """Schema 0008. Until then a start lined them up anew, as they had been queued, submissions taking turns."""
    path = made_with(tmp_path, "0007")
    old = sqlite3.connect(path)
    text = b"a: 1\n"
    add_row(
        old,
        "config_revisions",
        number=1,
        sha256=hashlib.sha256(text).hexdigest(),
        size=len(text),
        text=text,
        saved_at=AT,
    )
    for owner, count in (("a", 3), ("b", 1), ("c", 2)):
        add_row(old, "submissions", id=owner, ip="192.0.2.7", opened_at=AT, is_open=1, queued=count)
    queued = ["a0", "a1", "b0", "c0", "a2", "c1", "late"]
    for cursor, name in enumerate(queued, 1):
        owner = "b" if name == "late" else name[0]
        add_row(old, "files", id=f"f{name}", submission_id=owner, name="a", path="a", state="stored", blob="b", size=1)
        add_row(
            old,
            "jobs",
            id=name,
            submission_id=owner,
            file_id=f"f{name}",
            state="queued",
            config_number=1,
            queued_at=AT,
            queued_cursor=cursor,
            not_before=AT if name == "late" else None,
        )
    add_row(old, "files", id="fran", submission_id="a", name="a", path="a", state="stored", blob="b", size=1)
    add_row(
        old,
        "jobs",
        id="ran",
        submission_id="a",
        file_id="fran",
        state="running",
        config_number=1,
        queued_at=AT,
        queued_cursor=0,
        attempt=1,
    )
    add_row(old, "attempts", job_id="ran", number=1, state="running", config_revision="x", started_at=AT, host="here")
    old.execute("UPDATE submissions SET running = 1 WHERE id = 'a'")
    old.commit()
    old.close()

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    await ledger.enter(scenarios.node())
    assert await scenarios.in_line(ledger) == ["a0", "b0", "c0", "a1", "c1", "a2"]
    recovery = await ledger.recover(5, "stopped")
    assert [attempt.job_id for attempt in recovery.lost] == ["ran"]
    waiting = await scenarios.in_line(ledger)
    assert waiting == ["a0", "b0", "c0", "a1", "c1", "a2", "ran"]
    claimed = [order.job_id for order in await ledger.claim(Claim(most=99))]
    assert [job_id for job_id in claimed if job_id != "late"] == waiting
    assert set(claimed) == {*waiting, "late"}
    await ledger.close()


async def test_what_owners_have_is_counted_when_quotas_come(tmp_path: Path) -> None:
    """Schema 0020; what waits keeps its turns, and the next claims take it."""
    path = made_with(tmp_path, "0019")
    old = sqlite3.connect(path)
    add_row(old, "config_revisions", number=1, sha256="c" * 64, size=1, text=b"a", saved_at=AT)
    add_row(old, "queues", name="", turn=40)
    one, two = "account:" + "1" * 32, "account:" + "2" * 32
    kept: list[dict[str, Any]] = [
        {"state": "stored", "size": 100, "received": 100},
        {"state": "stored", "size": 7, "received": 7, "removed_at": AT},
        {"state": "receiving", "size": None, "received": 20},
        {"state": "announced", "size": 3, "received": 0},
        {"state": "aborted", "size": 999, "received": 9},
    ]
    for seq, (name, owner, is_open, running) in enumerate((("s1", one, 1, 2), ("s2", one, 0, 0), ("s3", two, 1, 0)), 1):
        sums = {"running": running, "queued": 2}
        add_row(
            old, "submissions", seq=seq, id=name, owner=owner, ip="192.0.2.7", opened_at=AT, is_open=is_open, **sums
        )
        for number, file in enumerate(kept):
            add_row(old, "files", id=f"{name}{number}", submission_id=name, name="a", path="a", number=number, **file)
        for number in range(2):
            job = {"id": f"j{name}{number}", "submission_id": name, "file_id": f"{name}{number}", "owner": owner}
            turn = {"tag": 41 + number, "queued_cursor": 10 * seq + number, "queued_at": AT}
            add_row(old, "jobs", state="queued", config_number=1, **job, **turn)
    old.commit()
    old.close()

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    await ledger.enter(scenarios.node())
    found = await ledger.quotas([Owner(one), Owner(two)])
    assert found[Owner(one)].usage == Usage(
        storage=246, total_size=260, files=8, submissions=2, open_submissions=1, running=2
    )
    assert found[Owner(two)].usage == Usage(storage=123, total_size=130, files=4, submissions=1, open_submissions=1)
    wanted = ["js10", "js30", "js20", "js31", "js11", "js21"]
    assert await scenarios.in_line(ledger) == wanted
    assert [order.job_id for order in await ledger.claim(Claim(most=9))] == wanted
    await ledger.close()


async def test_what_was_sent_before_there_were_owners_belongs_to_everybody_and_is_found(tmp_path: Path) -> None:
    """Schema 0007."""
    path = made_with(tmp_path, "0006")
    old = sqlite3.connect(path)
    add_row(old, "config_revisions", number=1, sha256="c" * 64, size=1, text=b"a", saved_at=AT)
    for seq, (submission, host) in enumerate((("s1", "pc9.lab.example"), ("s2", None)), 1):
        counts = {"succeeded": 1, "failed": 1, "kept_bytes": 7, "aborted": 1}
        add_row(old, "submissions", seq=seq, id=submission, ip="192.0.2.7", host=host, opened_at=AT, **counts)
    for seq, (submission, name) in enumerate((("s2", "x"), ("s1", "Erste"), ("s1", "y"), ("s2", "z"), ("s1", "w")), 1):
        file = {"id": f"f{seq}", "submission_id": submission, "name": name, "path": f"a/{name}.txt", "size": 1}
        add_row(old, "files", seq=seq, state="stored", **file)
        job = {"id": f"j{seq}", "submission_id": submission, "file_id": f"f{seq}", "config_number": 1}
        add_row(old, "jobs", seq=seq, state="failed", error_message=f"no column {seq}", queued_at=AT, **job)
    add_row(old, "events", cursor=1, at=AT, name="submission.opened", submission_id="s1", data="{}")
    add_row(old, "events", cursor=2, at=AT, name="config.saved", data="{}")
    old.commit()
    old.close()

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    owned = await ledger.submissions(before=None, limit=9, visible_to=OPEN)
    assert [one.id for one in owned.items] == ["s2", "s1"]
    assert [one.id for one in (await ledger.jobs(before=None, limit=9, visible_to=OPEN)).items] == [
        "j5", "j4", "j3", "j2", "j1",
    ]  # fmt: skip
    assert [
        event.cursor for event in (await ledger.events("all", after=Cursor(0), limit=9, visible_to=OPEN)).events
    ] == [1]
    totals = await ledger.totals(visible_to=OPEN)
    assert (totals.submissions, totals.kept_bytes) == (2, 14)
    assert totals.counts == Counts(succeeded=2, failed=2, aborted=2)
    for text, found in (("ERSTE", ["j2"]), ("no column 4", ["j4"]), ("pc9.LAB", ["j5", "j3", "j2"]), ("a/", None)):
        jobs = await ledger.jobs(before=None, limit=9, text=text)
        assert [one.id for one in jobs.items] == (found or ["j4", "j1", "j5", "j3", "j2"]), text
    await scenarios.save(ledger, b"b: 1\n")
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.queued(ledger, submission_id, "a/new.txt")
    assert (await ledger.jobs(before=None, limit=1, text="a/")).items[0].id == job_id
    await ledger.close()
    new = sqlite3.connect(path)
    assert new.execute("PRAGMA foreign_key_check").fetchall() == []
    assert new.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    new.close()


async def test_aborted_files_of_older_versions_have_a_cause_and_cancelled_ones_are_no_failure(
    tmp_path: Path,
) -> None:
    """Schema 0011."""
    path = made_with(tmp_path, "0010")
    old = sqlite3.connect(path)
    add_causeless(old)
    old.commit()
    old.close()
    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    await expect_causes(ledger)
    await ledger.close()


SENTENCES = {
    "the client terminated it": AbortCause.CANCELLED,
    "no byte came for too long": AbortCause.EXPIRED,
    "the server could not store it": AbortCause.SERVER_FAILED,
    "the submission was sealed before it came": AbortCause.CUT_OFF,
    "The file is larger than 1 MiB.": AbortCause.CUT_OFF,
}


def add_causeless(old: sqlite3.Connection) -> None:
    """Add settled submissions `mixed`, with a file for each sentence, and `cancelled`, with one that was terminated."""
    submissions = {"mixed": list(SENTENCES), "cancelled": ["the client terminated it"]}
    for seq, (name, errors) in enumerate(submissions.items(), 1):
        times = {"opened_at": AT, "settled_at": AT}
        counts = {"aborted": len(errors), "succeeded": 1}
        add_row(old, "submissions", seq=seq, id=name, ip="192.0.2.7", outcome="failed", **times, **counts)
        for number, error in enumerate(errors):
            file = {"id": f"{name}{number}", "submission_id": name, "name": "a", "path": "a", "number": number}
            add_row(old, "files", state="aborted", error=error, **file)
        add_row(old, "files", id=f"{name}s", submission_id=name, name="s", path="s", number=99, state="stored")


async def expect_causes(ledger: SqliteLedger) -> None:
    found = [(file.error, file.cause) for file in (await ledger.view_submission(SubmissionId("mixed"), limit=9)).files]
    assert found == [*SENTENCES.items(), (None, None)]
    page = await ledger.history(HistoryFilter(), limit=9)
    assert {entry.submission.id: entry.submission.outcome for entry in page.entries} == {
        "mixed": Outcome.FAILED,
        "cancelled": Outcome.CANCELLED,
    }
    assert len((await ledger.history(HistoryFilter(state="cancelled"), limit=9)).entries) == 1


async def test_files_that_older_versions_stored_when_they_were_sent_again_are_no_failure(tmp_path: Path) -> None:
    """Schema 0012."""
    path = made_with(tmp_path, "0011")
    old = sqlite3.connect(path)
    broken = {"state": "aborted", "cause": "cut_off", "size": 8}
    cancelled = {**broken, "cause": "cancelled"}
    again = {"state": "stored", "size": 8}
    files = {
        "again": ([broken, again], {}, Outcome.SUCCEEDED, 1),
        "unsized": ([{**broken, "size": None}, again], {}, Outcome.SUCCEEDED, 1),
        "cancelled": ([cancelled, again], {"given_up": 1}, Outcome.SUCCEEDED, 1),
        "twice": ([broken, broken, again], {}, Outcome.SUCCEEDED, 2),
        "other": ([{**broken, "size": 9}, again], {}, Outcome.FAILED, 0),
        "before": ([again, broken], {}, Outcome.FAILED, 0),
        "both": ([broken, again, {**cancelled, "path": "b"}], {"given_up": 1}, Outcome.CANCELLED, 1),
        "failed": ([broken, again], {"failed": 1, "succeeded": 0}, Outcome.FAILED, 1),
    }
    for seq, (name, (some, more, _, _)) in enumerate(files.items(), 1):
        counts = {"aborted": sum(file["state"] == "aborted" for file in some), "succeeded": 1} | more
        outcome = "cancelled" if counts["aborted"] == counts.get("given_up") else "failed"
        times = {"opened_at": AT, "settled_at": AT}
        add_row(old, "submissions", seq=seq, id=name, ip="192.0.2.7", outcome=outcome, **times, **counts)
        for number, file in enumerate(some):
            named = {"id": f"{name}{number}", "submission_id": name, "name": "a", "path": "a", "number": number}
            add_row(old, "files", **named | file)
    old.commit()
    old.close()
    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    found = (await ledger.history(HistoryFilter(), limit=99)).entries
    assert {entry.submission.id: (entry.submission.outcome, entry.submission.replaced) for entry in found} == {
        name: (outcome, replaced) for name, (_, _, outcome, replaced) in files.items()
    }
    assert [entry.submission.id for entry in found if entry.submission.given_up] == ["both"]
    for outcome in Outcome:
        alike = (await ledger.history(HistoryFilter(state=outcome.value), limit=99)).entries
        assert {entry.submission.outcome for entry in alike} == {outcome}
    await ledger.close()


async def test_submissions_of_before_the_history_have_their_outcomes_and_results(tmp_path: Path) -> None:
    """Schema 0010."""
    path = made_with(tmp_path, "0009")
    old = sqlite3.connect(path)
    add_row(old, "config_revisions", number=1, sha256="c" * 64, size=1, text=b"a", saved_at=AT)
    counts: dict[str, dict[str, int]] = {
        "good": {"succeeded": 2},
        "bad": {"succeeded": 1, "failed": 1, "cancelled": 1},
        "missing": {"succeeded": 1, "aborted": 1},
        "stopped": {"succeeded": 1, "cancelled": 1},
        "empty": {},
        "removed": {"succeeded": 1},
        "running": {"running": 1, "failed": 1},
    }
    for seq, (name, found) in enumerate(counts.items(), 1):
        settled_at = None if name == "running" else AT
        removed_at = AT if name == "removed" else None
        times = {"opened_at": AT, "settled_at": settled_at, "removed_at": removed_at}
        add_row(old, "submissions", seq=seq, id=name, ip="192.0.2.7", **times, **found)
        for number in range(2):
            file_id = f"{name}{number}"
            file = {"id": file_id, "submission_id": name, "name": "a", "path": "a", "sha256": f"{seq:064x}"}
            add_row(old, "files", state="stored", number=number, **file)
            job = {"id": file_id, "submission_id": name, "file_id": file_id, "result_count": number + 1}
            add_row(old, "jobs", state="succeeded", config_number=1, queued_at=AT, **job)
    old.commit()
    old.close()

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()

    async def found_by(state: str | None, text: str | None = None) -> list[str]:
        page = await ledger.history(HistoryFilter(state=state, text=text), limit=99)
        return [entry.submission.id for entry in page.entries]

    assert await found_by("succeeded") == ["removed", "good"]
    assert await found_by("failed") == ["missing", "bad"]
    assert await found_by("cancelled") == ["stopped"]
    assert await found_by("running") == ["running"]
    assert await found_by(None, f"{3:064x}") == ["missing"]
    page = await ledger.history(HistoryFilter(), limit=99)
    assert [entry.result_count for entry in page.entries] == [3, 0, 3, 3, 3, 3, 3]
    await ledger.close()
