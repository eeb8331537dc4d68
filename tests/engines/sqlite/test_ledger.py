"""What is particular to the ledger in SQLite: one file for several processes, and nothing left of what was purged."""

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from tests.support import scenarios
from tests.support.waiting import eventually

from dropmill.engines.sql import config as config_changes
from dropmill.engines.sql import database, events, migrations
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.health import Health
from dropmill.model.config import ConfigLocation
from dropmill.model.errors import OutOfSpace, Removed, SettingsError, StorageUnavailable
from dropmill.model.ids import Sha256


def secret_text(rng: random.Random) -> tuple[bytes, bytes]:
    """A text, and what of it must not be found."""
    secret = secrets.token_hex(12).encode()
    size = rng.choice([30, 300, 2000, 3900, 9000, 60_000])
    return b"# " + (secret + b" ") * (size // len(secret) + 1), secret


def found_in(folder: Path, wanted: list[bytes]) -> list[bytes]:
    """Those that stand in any of the database's files."""
    bytes_on_disk = b"".join(path.read_bytes() for path in folder.glob("ledger.sqlite*"))
    return [one for one in wanted if one in bytes_on_disk]


# --- purging ---------------------------------------------------------------------------------------------------------


async def test_of_purged_texts_no_byte_stays_in_the_files(tmp_path: Path) -> None:
    """Of many sizes, among others and in any order: so that rows are moved about in the file meanwhile."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    await ledger.open()
    location = ConfigLocation(host="here", path="/config.yaml", data_folder=str(tmp_path))
    await ledger.use_config_file(location)
    kept: dict[Sha256, bytes] = {}
    purged: list[bytes] = []
    for number in range(60):
        text, secret = secret_text(rng)
        sha256 = await scenarios.save(ledger, text)
        await ledger.record_in_file(location, number + 1)
        if kept and rng.random() < 0.6:
            other = rng.choice(list(kept))
            assert found_in(tmp_path, [kept[other]])
            await ledger.purge_revision(other, None, None)
            purged.append(kept.pop(other))
            assert found_in(tmp_path, purged) == []
        kept[sha256] = secret
    await ledger.close()
    assert found_in(tmp_path, purged) == []
    assert found_in(tmp_path, list(kept.values())) == list(kept.values())


async def test_a_kill_right_behind_the_purge_is_made_good_by_the_next_start(tmp_path: Path) -> None:
    text, secret = secret_text(random.Random(1))
    killed = tmp_path / "killed"
    killed.mkdir()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    await ledger.open()
    sha256 = await scenarios.save(ledger, text)
    await scenarios.save(ledger, b"a: 2\n")
    await ledger._change(config_changes.purge_revision, sha256, None, None)
    for path in tmp_path.glob("ledger.sqlite*"):
        shutil.copy(path, killed)
    await ledger.close()
    assert found_in(killed, [secret])
    after = SqliteLedger(killed / "ledger.sqlite", lambda _: None)
    await after.open()
    assert found_in(killed, [secret]) == []
    with pytest.raises(Removed):
        await after.revision_text(sha256)
    await after.close()


async def test_a_database_from_before_purging_was_known_is_rewritten_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold remains in pages that no row uses any more."""
    path = tmp_path / "ledger.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    engine.dispose()
    text, secret = secret_text(random.Random(1))
    old = sqlite3.connect(path)
    old.execute("PRAGMA secure_delete=OFF")
    row = (1, "a" * 64, len(text), text, "2026-11-20T08:15:30.123Z", None, None, None, 1)
    old.execute(f"INSERT INTO config_revisions VALUES ({','.join('?' * len(row))})", row)
    old.commit()
    old.execute("DELETE FROM config_revisions")
    old.commit()
    old.close()
    assert found_in(tmp_path, [secret])

    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    assert found_in(tmp_path, [secret]) == []
    await scenarios.save(ledger)
    await ledger.close()

    statements: list[str] = []
    run = SqliteLedger._pragma

    def watched(self: SqliteLedger, statement: str) -> Any:
        statements.append(statement)
        return run(self, statement)

    monkeypatch.setattr(SqliteLedger, "_pragma", watched)
    again = SqliteLedger(path, lambda _: None)
    await again.open()
    await again.close()
    assert statements
    assert "VACUUM" not in statements


async def test_the_texts_of_the_oldest_revisions_go_unless_jobs_are_bound_to_them(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None, keep_revisions=3)
    await ledger.open()
    saved = [await scenarios.save(ledger, b"a: 0\n")]
    job_id = await scenarios.queued(ledger, await scenarios.opened(ledger))
    saved += [await scenarios.save(ledger, b"a: %d\n" % number) for number in range(1, 6)]

    async def kept() -> list[bool]:
        """Oldest first."""
        items = (await ledger.revisions(before=None, limit=100)).items
        return [item.purged_at is None for item in reversed(items)]

    assert await kept() == [True, False, False, True, True, True]
    assert await ledger.revision_text(saved[0]) == b"a: 0\n"
    with pytest.raises(Removed, match="by --keep-revisions"):
        await ledger.revision_text(saved[1])
    await ledger.request_cancel(job_id)
    await scenarios.save(ledger, b"a: 1\n")
    assert await kept() == [False, False, False, False, True, True, True]
    assert await ledger.revision_text(saved[1]) == b"a: 1\n"
    assert "config.purged" not in await scenarios.names(ledger)
    await ledger.close()


# --- several processes -----------------------------------------------------------------------------------------------


async def test_what_another_process_commits_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "POLL_INTERVAL_S", 0.05)
    published: list[Mapping[str, int]] = []
    path = tmp_path / "ledger.sqlite"
    ledger, other = SqliteLedger(path, published.append), SqliteLedger(path, lambda _: None)
    await ledger.open()
    await other.open(without_lock=True)
    await scenarios.save(other)
    await eventually(lambda: published)
    assert published == [{"all": 1, "config": 1, "audit": 1}]
    await asyncio.sleep(0.2)
    assert len(published) == 1  # once
    await ledger.close()
    await other.close()


async def test_hints_of_two_writers_reach_every_event_and_never_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "POLL_INTERVAL_S", 0.005)
    published: dict[str, list[int]] = {}

    def tell(moved: Mapping[str, int]) -> None:
        for topic, cursor in moved.items():
            published.setdefault(topic, []).append(cursor)

    path = tmp_path / "ledger.sqlite"
    ledger, other = SqliteLedger(path, tell), SqliteLedger(path, lambda _: None)
    await ledger.open()
    await other.open(without_lock=True)
    await scenarios.save(ledger)
    opened: list[str] = []
    for _ in range(40):
        opened += await asyncio.gather(scenarios.opened(ledger), scenarios.opened(other))
    newest = await ledger.newest_cursor()
    await eventually(lambda: published["all"][-1] == newest)
    assert set(published) == {"all", "audit", "config", *(f"submission:{one}" for one in opened)}
    for positions in published.values():
        assert positions == sorted(set(positions))  # no event is published twice either
    await ledger.close()
    await other.close()


async def test_a_guest_makes_no_database(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    with pytest.raises(SettingsError, match="There is no database"):
        await ledger.open(without_lock=True)
    await ledger.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_guest_migrates_no_database(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    owner = SqliteLedger(path, lambda _: None)
    await owner.open()
    await owner.close()
    for version, sentence in (("0001", "older than this"), ("9999", "newer than this")):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.close()
        before = path.read_bytes()
        guest = SqliteLedger(path, lambda _: None)
        with pytest.raises(SettingsError, match=sentence):
            await guest.open(without_lock=True)
        await guest.close()
        assert path.read_bytes() == before


async def test_a_guest_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"a letter " * 1000)
    guest = SqliteLedger(path, lambda _: None)
    with pytest.raises(SettingsError, match="cannot be used: file is not a database"):
        await guest.open(without_lock=True)
    await guest.close()
    assert path.read_bytes() == b"a letter " * 1000


# --- faults ----------------------------------------------------------------------------------------------------------


def _error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as the database said it")
    error.sqlite_errorcode = code
    return error


FAULTS = {
    sqlite3.SQLITE_FULL: OutOfSpace,
    sqlite3.SQLITE_READONLY: OutOfSpace,
    sqlite3.SQLITE_READONLY_DBMOVED: OutOfSpace,
    sqlite3.SQLITE_IOERR_WRITE: OutOfSpace,
    sqlite3.SQLITE_IOERR: StorageUnavailable,
    sqlite3.SQLITE_IOERR_READ: StorageUnavailable,
    sqlite3.SQLITE_IOERR_FSYNC: StorageUnavailable,
    sqlite3.SQLITE_CANTOPEN: StorageUnavailable,
    sqlite3.SQLITE_BUSY: StorageUnavailable,
    sqlite3.SQLITE_LOCKED: StorageUnavailable,
    sqlite3.SQLITE_CORRUPT: StorageUnavailable,
    sqlite3.SQLITE_NOTADB: StorageUnavailable,
}


@pytest.mark.parametrize("code", FAULTS)
@pytest.mark.parametrize("is_wrapped", [False, True])
async def test_every_fault_of_the_database_is_a_503_or_a_507_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_wrapped: bool
) -> None:
    """Also if SQLAlchemy wraps the error."""
    monkeypatch.setattr(database, "POLL_INTERVAL_S", 0.01)
    health = Health()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None, health=health)
    await ledger.open()

    def fail(*_: object) -> Any:
        raise OperationalError("SELECT 1", {}, _error(code)) if is_wrapped else _error(code)

    with monkeypatch.context() as patch:
        patch.setattr(events, "newest_cursor", fail)
        with pytest.raises(FAULTS[code]):
            await ledger.newest_cursor()
        with pytest.raises(FAULTS[code]):
            await scenarios.save(ledger)
        assert health.degraded == ("ledger",)
    await eventually(lambda: health.degraded == ())
    await scenarios.save(ledger)
    await ledger.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE])
async def test_a_mistake_of_our_own_is_not_taken_for_a_fault(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> Any:
        raise _error(code)

    with monkeypatch.context() as patch:
        patch.setattr(events, "newest_cursor", fail)
        with pytest.raises(sqlite3.OperationalError):
            await ledger.newest_cursor()


async def test_changes_that_fail_together_have_an_error_each(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers add to the error that they are given."""

    def fail(*_: object) -> Any:
        raise _error(sqlite3.SQLITE_IOERR)

    with monkeypatch.context() as patch:
        patch.setattr(events, "newest_cursor", fail)
        failed = await asyncio.gather(*(scenarios.opened(ledger) for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in failed} == {StorageUnavailable}
    assert len({id(error) for error in failed}) == 5


def _descriptors(path: Path) -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += Path(os.readlink(link)) == path
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_all_connections_are_opened_at_start(tmp_path: Path) -> None:
    """Later there may be no descriptor left."""
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path, lambda _: None)
    await ledger.open()
    assert _descriptors(path) == database.READERS + 1
    await asyncio.gather(*(ledger.newest_cursor() for _ in range(50)), scenarios.save(ledger))
    assert _descriptors(path) == database.READERS + 1
    await ledger.close()


@pytest.mark.parametrize("stands_in", ["nothing", "another folder", "a copy"])
async def test_a_folder_that_was_moved_is_neither_read_nor_written_until_it_is_back(
    tmp_path: Path, stands_in: str
) -> None:
    """SQLite would keep using the files it has open, and nobody would find what was acknowledged."""
    data, moved = tmp_path / "data", tmp_path / "moved"
    data.mkdir()
    health = Health()
    ledger = SqliteLedger(data / "ledger.sqlite", lambda _: None, health=health)
    await ledger.open()
    await scenarios.save(ledger, b"a: 1\n")
    data.rename(moved)
    if stands_in == "another folder":
        data.mkdir()
    if stands_in == "a copy":
        shutil.copytree(moved, data)
    with pytest.raises(StorageUnavailable, match="moved, unmounted or replaced"):
        await ledger.newest_revision()
    with pytest.raises(StorageUnavailable, match="moved, unmounted or replaced"):
        await scenarios.opened(ledger)
    assert health.degraded == ("ledger",)
    if data.exists():
        shutil.rmtree(data)
    moved.rename(data)
    await scenarios.save(ledger, b"a: 2\n")
    assert await scenarios.names(ledger) == ["config.saved", "config.saved"]
    await ledger.close()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
async def test_the_files_of_the_database_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """-wal and -shm get their mode from the database's file."""
    before = os.umask(umask)
    try:
        ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
        await ledger.open()
        await scenarios.save(ledger)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        await ledger.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"), 0o600)
