"""Config revisions, and which of them each config file holds: changes, queries and rows."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update

from dropmill.engines.sql import prepared
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.paging import page_key, page_of
from dropmill.engines.sql.tables import config_files, config_revisions, jobs, nodes
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.errors import ConfigConflict, NotFound, Removed, RevisionInUse, Unavailable
from dropmill.model.events import EventName, Subject
from dropmill.model.ids import Sha256
from dropmill.model.jobs import JobState
from dropmill.ports.ledger.config import ConfigPosition
from dropmill.ports.ledger.page import Page
from dropmill.wire.clients import client_from_json, client_json


def revision_of(row: Row) -> ConfigRevision:
    """A config revision without its text."""
    return ConfigRevision(
        number=row["number"],
        sha256=Sha256(row["sha256"]),
        size=row["size"],
        saved_at=row["saved_at"],
        account=row["account"],
        client=client_from_json(row["client"]),
        message=row["message"],
        purged_at=row["purged_at"],
    )


def select_revisions() -> Select[Any]:
    """A query for config revisions without their text, which may be a megabyte each."""
    return select(*(column for column in config_revisions.c if column.name != "text"))


# Built once: making a statement anew costs more than running it.
REVISION = select_revisions().where(config_revisions.c.number == bindparam("key"))
NEWEST = select_revisions().order_by(config_revisions.c.number.desc()).limit(1)
_IN_PROGRESS = jobs.c.state.in_([JobState.QUEUED.value, JobState.RUNNING.value])
_IS_KEPT = config_revisions.c.purged_at.is_(None)
_DROP_TEXTS = update(config_revisions).where(
    _IS_KEPT,
    config_revisions.c.number <= bindparam("last"),
    config_revisions.c.number.not_in(select(jobs.c.config_number).where(_IN_PROGRESS)),
)
_OF_TEXT = config_revisions.c.sha256 == bindparam("key")
_ONE_OF_TEXT = select(config_revisions.c.number).where(_OF_TEXT).limit(1)
_BOUND_TO_TEXT = (
    select(func.count())
    .select_from(jobs)
    .where(_IN_PROGRESS, jobs.c.config_number.in_(select(config_revisions.c.number).where(_OF_TEXT)))
)
_PURGE = update(config_revisions).where(_IS_KEPT, _OF_TEXT)
_REVISION_NUMBER = select(config_revisions.c.number).where(config_revisions.c.number == bindparam("key"))
_IS_FILE = (config_files.c.host == bindparam("of_host")) & (config_files.c.path == bindparam("of_path"))
_CONFIG_FILE = select(config_files.c.revision).where(_IS_FILE)
_RECORD_IN_FILE = update(config_files).where(
    _IS_FILE,
    config_files.c.revision.is_(None) | (config_files.c.revision < bindparam("reached")),
)
_REVISION_TEXT = (
    select(config_revisions.c.text, config_revisions.c.purged_at)
    .where(config_revisions.c.sha256 == bindparam("sha256"))
    .order_by(config_revisions.c.purged_at.is_not(None))  # a purged text may have been saved again
    .limit(1)
)


# --- changes ---------------------------------------------------------------------------------------------------------


def save_revision(
    tx: Transaction,
    text: bytes,
    *,
    base: Sha256 | None,
    client: ClientIdentity | None,
    account: str | None,
    message: str | None,
    found_at: ConfigLocation | None,
    keep: int | None,
) -> ConfigRevision:
    """See `Ledger.save_revision`.

    Args:
        keep: how many of the newest revisions keep their text, this one included; None: all do.
    """
    last = tx.one(NEWEST)
    if (None if last is None else last["sha256"]) != base:
        raise ConfigConflict("The config was saved by someone else in the meantime; read it again.")
    if found_at is not None and tx.one(_CONFIG_FILE, **_key_of(found_at)) is None:
        raise Unavailable(f"The server no longer edits {found_at.path}; reload the config.")
    sha256 = Sha256(hashlib.sha256(text).hexdigest())
    number = 1 if last is None else last["number"] + 1
    values = {
        "number": number,
        "sha256": sha256,
        "size": len(text),
        "saved_at": utc_now(),
        "account": account,
        "client": client_json(client),
        "message": message,
        "purged_at": None,
    }
    tx.connection.execute(insert(config_revisions).values(text=text, **values))
    if found_at is not None:
        record_in_file(tx, found_at, number)
    tx.emit(
        EventName.CONFIG_SAVED,
        Subject(account=account, client=client),
        sha256=sha256,
        size=len(text),
        message=message,
    )
    tx.newest_revision = None
    if keep is not None:
        now = utc_now()
        tx.connection.execute(_DROP_TEXTS.values(text=b"", purged_at=now), {"last": number - keep})
    return revision_of(values)


def use_config_file(tx: Transaction, location: ConfigLocation) -> None:
    """See `Ledger.use_config_file`."""
    found = tx.connection.execute(select(config_files)).mappings().all()
    recorded = set(tx.connection.execute(select(nodes.c.id)).scalars())
    node = None if tx.node is None else tx.node.id
    earlier = [
        row
        for row in found
        if row["node"] not in recorded - {node} or (row["host"], row["path"]) == (location.host, location.path)
    ]
    number = max((row["revision"] for row in earlier if row["revision"] is not None), default=None)
    if number is None and len(found) > len(
        earlier
    ):  # it joins others: if it holds one of their revisions, it is behind
        number = tx.connection.execute(select(func.min(config_revisions.c.number))).scalar_one()
    for row in earlier:
        tx.connection.execute(delete(config_files).where(_IS_FILE), {"of_host": row["host"], "of_path": row["path"]})
    tx.connection.execute(insert(config_files).values({**location._asdict(), "revision": number, "node": node}))


def record_in_file(tx: Transaction, location: ConfigLocation, number: int) -> None:
    """See `Ledger.record_in_file`."""
    if tx.one(_REVISION_NUMBER, key=number) is None:
        raise NotFound("There is no such config revision.")
    tx.connection.execute(_RECORD_IN_FILE.values(revision=number), {**_key_of(location), "reached": number})


def _key_of(location: ConfigLocation) -> dict[str, str]:
    return {"of_host": location.host, "of_path": location.path}


def purge_revision(tx: Transaction, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
    """See `Ledger.purge_revision`. The engine erases the bytes from the database's files."""
    key = {"key": sha256}
    if tx.connection.execute(_ONE_OF_TEXT, key).first() is None:
        raise NotFound("There is no such config revision.")
    if newest(tx).sha256 == sha256:
        raise RevisionInUse("This is the current config; save another text, then purge this one.")
    if bound := tx.connection.execute(_BOUND_TO_TEXT, key).scalar_one():
        sentence = f"Queued or running jobs use this revision ({bound}); cancel them or wait for them, then purge it."
        raise RevisionInUse(sentence, jobs=bound)
    if tx.connection.execute(_PURGE.values(text=b"", purged_at=utc_now()), key).rowcount:
        tx.emit(EventName.CONFIG_PURGED, Subject(account=account, client=client), sha256=sha256)


def reject_config(
    tx: Transaction, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
) -> None:
    """See `Ledger.reject_config`."""
    tx.emit(
        EventName.CONFIG_REJECTED,
        Subject(account=account, client=client),
        errors=[dict(error) for error in errors],
    )


def newest(tx: Transaction) -> ConfigRevision:
    """The newest config revision.

    Raises:
        Unavailable: there is none yet, so no job can be queued.
    """
    if tx.newest_revision is None:
        row = tx.one(NEWEST)
        if row is None:
            raise Unavailable("There is no config yet, so no job can be queued.")
        tx.newest_revision = revision_of(row)
    return tx.newest_revision


def revision(tx: Transaction, number: int) -> ConfigRevision:
    """A config revision by its number."""
    found = tx.revisions.get(number)
    if found is None:
        row = tx.one(REVISION, key=number)
        if row is None:
            raise NotFound("There is no such config revision.")
        found = tx.revisions[number] = revision_of(row)
    return found


# --- queries ---------------------------------------------------------------------------------------------------------


def config_files_in_use(connection: Connection) -> list[ConfigLocation]:
    """See `Ledger.config_files`."""
    query = select(config_files.c.host, config_files.c.path, config_files.c.data_folder)
    return [ConfigLocation(*row) for row in connection.execute(query.where(config_files.c.host != ""))]


def config_position(connection: Connection, location: ConfigLocation) -> ConfigPosition:
    """See `Ledger.config_position`."""
    file = prepared.one(connection, _CONFIG_FILE, {"of_host": location.host, "of_path": location.path})
    return ConfigPosition(newest=newest_revision(connection), in_file=None if file is None else file["revision"])


def newest_revision(connection: Connection) -> ConfigRevision | None:
    """See `Ledger.newest_revision`."""
    row = prepared.one(connection, NEWEST, {})
    return None if row is None else revision_of(row)


def list_revisions(connection: Connection, before: str | None, limit: int) -> Page[ConfigRevision]:
    """See `Ledger.revisions`."""
    query = select_revisions()
    start = page_key(before)
    if start is not None:
        query = query.where(config_revisions.c.number < start)
    found = connection.execute(query.order_by(config_revisions.c.number.desc()).limit(limit + 1)).mappings().all()
    page, following = page_of(found, limit, "number")
    return Page(items=[revision_of(row) for row in page], next=following)


def revision_text(connection: Connection, sha256: Sha256) -> bytes:
    """See `Ledger.revision_text`."""
    found = connection.execute(_REVISION_TEXT, {"sha256": sha256}).one_or_none()
    if found is None:
        raise NotFound("There is no such config revision.")
    if found.purged_at is not None:
        raise Removed(
            f"The text of this config revision is no longer kept. It was removed on {found.purged_at:%Y-%m-%d}, by a "
            "purge or by --keep-revisions."
        )
    return bytes(found.text)
