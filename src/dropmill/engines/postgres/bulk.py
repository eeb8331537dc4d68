"""Inserts and updates of many rows by one statement each, which takes a column as an array.

A statement for each row costs client and server some 60 microseconds; in an array, a row costs a few. Arrays are sent
as text: so the driver prepares one statement for each set of columns, whatever is NULL in a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Dialect, Integer, LargeBinary, Table, TypeDecorator
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from dropmill.engines.sql.types import Id, PathBytes

_DIALECT: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
_Write = Callable[[Any], str]


class Bulk:
    """A statement for rows that have the same columns.

    Attributes:
        text: with a parameter for each column.
    """

    def __init__(self, text: str, columns: Sequence[tuple[str, Column[Any]]]) -> None:
        """Keep the text; `columns` are the names of the values in their order, each with what it is written to."""
        self.text = text.encode()
        self._arrays = [(name, _array(column)) for name, column in columns]

    def parameters(self, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """An array for each column."""
        return [write([row[name] for row in rows]).encode() for name, write in self._arrays]


def bulk_insert(table: Table, names: Sequence[str], more: str = "") -> Bulk:
    """Inserts rows; `more` follows the statement."""
    columns = [(name, table.columns[name]) for name in names]
    into = ", ".join(f'"{name}"' for name in names)
    text = f'INSERT INTO "{table.name}" ({into}) SELECT * FROM {_unnest(columns)} {more}'  # noqa: S608 - our own names
    return Bulk(text, columns)


def bulk_update(table: Table, keys: Sequence[tuple[str, str]], names: Sequence[str]) -> Bulk:
    """Updates rows.

    Args:
        table: which.
        keys: the columns that find a row, each with its name in the rows.
        names: the columns to set.
    """
    columns = [(name, table.columns[column]) for column, name in keys]
    columns += [(name, table.columns[name]) for name in names]
    aliases = ", ".join([*(f"k{at}" for at in range(len(keys))), *(f'"{name}"' for name in names)])
    found = " AND ".join(f'"{table.name}"."{column}" = v.k{at}' for at, (column, _) in enumerate(keys))
    setting = ", ".join(f'"{name}" = v."{name}"' for name in names)
    given = f"{_unnest(columns)} AS v({aliases})"
    text = f'UPDATE "{table.name}" SET {setting} FROM {given} WHERE {found}'  # noqa: S608 - our own names
    return Bulk(text, columns)


def texts(values: Sequence[str | None]) -> str:
    """An array of texts, as Postgres reads it (https://www.postgresql.org/docs/15/arrays.html#ARRAYS-IO)."""
    return "{" + ",".join([_NULL if value is None else _quoted(value) for value in values]) + "}"


def numbers(values: Sequence[int | None]) -> str:
    """An array of whole numbers."""
    return "{" + ",".join([_NULL if value is None else str(value) for value in values]) + "}"


_NULL = "NULL"


def _quoted(value: str) -> str:
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if '"' in value:
        value = value.replace('"', '\\"')
    return f'"{value}"'


def _booleans(values: Sequence[bool | None]) -> str:
    return "{" + ",".join([_NULL if value is None else "t" if value else "f" for value in values]) + "}"


def _unnest(columns: Sequence[tuple[str, Column[Any]]]) -> str:
    arrays = ", ".join(f"${number}::{_kind(column)}[]" for number, (_, column) in enumerate(columns, 1))
    return f"unnest({arrays})"


def _kind(column: Column[Any]) -> str:
    impl = column.type.dialect_impl(_DIALECT)
    if isinstance(column.type, LargeBinary | PathBytes):
        raise AssertionError(f"{column} holds bytes")
    if isinstance(impl, Boolean):
        return "boolean"
    if isinstance(impl, BigInteger):
        return "bigint"
    return "integer" if isinstance(impl, Integer) else "text"


def _array(column: Column[Any]) -> _Write:
    kind = _kind(column)
    if kind == "boolean":
        return _booleans
    if kind != "text":
        return numbers
    if isinstance(column.type, Id) or not isinstance(column.type, TypeDecorator):
        return texts  # an id that is written needs no check: it was made here, or found
    convert = column.type.process_bind_param  # without SQLAlchemy's layers around it
    return lambda values: texts([None if value is None else convert(value, _DIALECT) for value in values])
