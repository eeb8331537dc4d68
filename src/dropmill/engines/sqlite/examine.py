"""What a ledger's file holds, read without opening the ledger: nothing is created, migrated or written."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from dropmill.engines.sql.examine import Examined
from dropmill.model.config import ConfigLocation

_TIMEOUT_S = 5.0  # for a lock of a running server


def examine(path: Path, here: ConfigLocation) -> Examined:
    """Read a ledger's file.

    Args:
        path: of the file; it exists.
        here: which host and data folder's config file to look for.

    Raises:
        OSError: the file cannot be read, or is no database of ours.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_TIMEOUT_S)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            schema = None if found is None else str(found[0])
            try:
                return _with_config(connection, schema, here)
            except sqlite3.OperationalError:  # tables of a newer schema are missing
                return Examined(schema=schema)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def _with_config(connection: sqlite3.Connection, schema: str | None, here: ConfigLocation) -> Examined:
    newest = connection.execute("SELECT number, sha256 FROM config_revisions ORDER BY number DESC LIMIT 1").fetchone()
    file = connection.execute(
        "SELECT path, revision FROM config_files WHERE host = ? AND data_folder = ?",
        (here.host, os.fsencode(here.data_folder)),
    ).fetchone()
    return Examined(
        schema=schema,
        newest_sha256=None if newest is None else str(newest[1]),
        config_path=None if file is None else os.fsdecode(file[0]),
        is_in_file=file is not None and newest is not None and file[1] == newest[0],
    )
