"""What a ledger was found to hold, read without opening it."""

from dataclasses import dataclass

from dropmill.engines.sql.tables import SCHEMA_HEAD


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """A ledger as it was found.

    Attributes:
        schema: the schema's version; None for an empty database.
        readable_schema: the version that this Dropmill reads and writes.
        newest_sha256: of the newest config revision; None if there is none, or the schema is too old to tell.
        config_path: the config file that a server on this host edits from this data folder; None if none is recorded.
        is_in_file: whether that file was recorded to hold the newest revision.
        server: what the database calls itself, such as "Postgres 15.18"; None for a file.
    """

    schema: str | None
    readable_schema: str = SCHEMA_HEAD
    newest_sha256: str | None = None
    config_path: str | None = None
    is_in_file: bool = False
    server: str | None = None
