"""The migrations make what the tables say, and a newer database is left alone."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from tests import story

from dropmill.engines.embedded.sqlite import SqliteLedger
from dropmill.engines.sql import migrations
from dropmill.engines.sql.migrations import schema_version, upgrade
from dropmill.engines.sql.tables import SCHEMA_HEAD, metadata
from dropmill.model.errors import SettingsError
from dropmill.model.ids import new_submission_id
from dropmill.ports import RequestKey

LOOKS = ("get_columns", "get_indexes", "get_unique_constraints", "get_foreign_keys", "get_pk_constraint")


def _plain(found: Any) -> list[str]:
    return sorted(
        json.dumps(one, default=str, sort_keys=True) for one in (found if isinstance(found, list) else [found])
    )


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.sqlite'}")
    made = create_engine(f"sqlite:///{tmp_path / 'made.sqlite'}")
    with migrated.begin() as connection, made.begin() as straight:
        upgrade(connection)
        metadata.create_all(straight)
        assert schema_version(connection) == SCHEMA_HEAD
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        assert compare_metadata(context, metadata) == []
        # What the comparison above does not look at: the conditions of indexes, and the constraints of columns.
        for table in metadata.tables:
            for look in LOOKS:
                found, wanted = (getattr(inspect(one), look)(table) for one in (connection, straight))
                assert _plain(found) == _plain(wanted), (table, look)
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
    await story.opened(ledger)
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
    from dropmill.engines.embedded import sqlite

    def half(connection: object) -> None:
        upgrade(connection)  # type: ignore[arg-type]
        raise RuntimeError("the power went")

    monkeypatch.setattr(sqlite, "upgrade", half)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    with pytest.raises(RuntimeError, match="the power went"):
        await ledger.open()
    await ledger.close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


async def test_keys_of_requests_become_those_of_everybody(tmp_path: Path) -> None:
    """Schema 0005: a repeat of a request that an older version took is still known, whatever it says of itself."""
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    submission_id = await story.opened(ledger)
    await ledger.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE submissions SET idempotency_key = 'old'")
    connection.execute("ALTER TABLE submissions DROP COLUMN idempotency_fingerprint")
    connection.execute("UPDATE alembic_version SET version_num = '0004'")
    connection.commit()
    connection.close()

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    key = RequestKey(owner="open", text="old", fingerprint="any")
    assert await ledger.open_submission(new_submission_id(), story.CLIENT, None, key=key) == submission_id
    await ledger.close()
