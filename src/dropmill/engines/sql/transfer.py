"""A whole ledger, copied from one database to another and compared.

Rows are copied as they are stored, with their keys and cursors, table by table in the order in which they refer to one
another. Each side is read in the order of the primary key and hashed, so that equal hashes mean equal ledgers.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Boolean, Column, Integer, Table

from dropmill.engines.sql.tables import events, metadata
from dropmill.engines.sql.types import is_storable, storable
from dropmill.model.errors import SettingsError
from dropmill.model.ids import LedgerId

TABLES = tuple(metadata.sorted_tables)
"""Every table; one comes after those that it refers to."""

Values = tuple[Any, ...]


class Readable(Protocol):
    """A ledger that is read. Nobody writes to it meanwhile."""

    def rows(self, table: Table) -> Iterator[Values]:
        """The rows of a table, in the order of its primary key, each in the order of the columns."""


class Writable(Readable, Protocol):
    """A ledger that is made; what is written counts only after `commit`."""

    def write(self, table: Table, rows: Iterable[Values]) -> None:
        """Add the rows of a table."""

    def commit(self) -> None:
        """Make all of it count, durably."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What a ledger holds, summed up.

    Attributes:
        counts: rows of each table.
        hashes: SHA-256 of the rows of each table.
    """

    counts: Mapping[str, int]
    hashes: Mapping[str, str]

    @property
    def events_sha256(self) -> str:
        """Of all events."""
        return self.hashes[events.name]


class _Hash:
    """Counts and hashes rows while they pass."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = hashlib.sha256()

    def passing(self, rows: Iterable[Values]) -> Iterator[Values]:
        for row in rows:
            self.count += 1
            self._sum.update(repr(row).encode())
            yield row

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()


def contents(ledger: Readable) -> Contents:
    """Read a whole ledger."""
    hashes = {table.name: _Hash() for table in TABLES}
    for table in TABLES:
        for _ in hashes[table.name].passing(ledger.rows(table)):
            pass
    return _contents(hashes)


def copy(source: Readable, target: Writable) -> Contents:
    """Copy a ledger into an empty one, compare both, and commit.

    Raises:
        SettingsError: they differ; nothing was committed.
    """
    hashes = {table.name: _Hash() for table in TABLES}
    for table in TABLES:
        target.write(table, hashes[table.name].passing(source.rows(table)))
    copied = _contents(hashes)
    require_equal(copied, contents(target))
    target.commit()
    return copied


def require_equal(one: Contents, other: Contents) -> None:
    """Return if two ledgers hold the same.

    Raises:
        SettingsError: they differ; the sentence names the tables.
    """
    different = [name for name in one.hashes if one.hashes[name] != other.hashes[name]]
    if different:
        raise SettingsError(f"The copy differs from the original in {', '.join(different)}; nothing was moved.")


def ledger_id(ledger: Readable) -> LedgerId | None:
    """Which ledger it is; None if it never was open."""
    found = next(iter(ledger.rows(metadata.tables["ledgers"])), None)
    return None if found is None else LedgerId(found[0])


def as_stored(table: Table, row: Iterable[Any]) -> Values:
    """A row as every database gives it: booleans as such, and no character that Postgres cannot hold."""
    return tuple(
        bool(value)
        if isinstance(column.type, Boolean) and value is not None
        else storable(value)
        if isinstance(value, str) and not is_storable(value)
        else value
        for column, value in zip(table.columns, row, strict=True)
    )


def names(table: Table) -> str:
    """The columns of a table for a statement."""
    return ", ".join(f'"{column.name}"' for column in table.columns)


def in_order(table: Table) -> str:
    """A query for `Readable.rows`."""
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    return f'SELECT {names(table)} FROM "{table.name}" ORDER BY {keys}'  # noqa: S608 - our own names


def numbered(table: Table) -> Column[Any] | None:
    """The column that the database numbers; None if a table has none."""
    column = table.autoincrement_column
    return column if column is not None and isinstance(column.type.as_generic(), Integer) else None


def _contents(hashes: Mapping[str, _Hash]) -> Contents:
    return Contents(
        counts={name: one.count for name, one in hashes.items()},
        hashes={name: one.sha256 for name, one in hashes.items()},
    )
