"""What a ledger in Postgres holds, read without opening the ledger: nothing is created, migrated or written."""

import os
from typing import Any

import psycopg

from dropmill.engines.postgres.connecting import connect
from dropmill.engines.sql.examine import Examined
from dropmill.model.config import ConfigLocation


def examine(conninfo: str, here: ConfigLocation) -> Examined | None:
    """Read a ledger's database; None if it holds no ledger yet.

    Args:
        conninfo: as for `PostgresLedger`.
        here: which host and data folder's config file to look for.

    Raises:
        OSError: the database cannot be reached or read.
    """
    try:
        with connect(conninfo) as connection:
            connection.read_only = True
            if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
                return None
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            server = f"Postgres {connection.info.parameter_status('server_version')}"
            schema = None if found is None else str(found[0])
            try:
                return _with_config(connection, schema, server, here)
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):  # of a newer schema
                return Examined(schema=schema, server=server)
    except psycopg.Error as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise OSError(first) from error


def _with_config(
    connection: "psycopg.Connection[Any]", schema: str | None, server: str, here: ConfigLocation
) -> Examined:
    newest = connection.execute("SELECT number, sha256 FROM config_revisions ORDER BY number DESC LIMIT 1").fetchone()
    file = connection.execute(
        "SELECT path, revision FROM config_files WHERE host = %s AND data_folder = %s",
        (here.host, os.fsencode(here.data_folder)),
    ).fetchone()
    return Examined(
        schema=schema,
        newest_sha256=None if newest is None else str(newest[1]),
        config_path=None if file is None else os.fsdecode(file[0]),
        is_in_file=file is not None and newest is not None and file[1] == newest[0],
        server=server,
    )
