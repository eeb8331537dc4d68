"""Column types with the same values on both databases."""

import json
import os
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, String, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from dropmill.text import time_text

KEY_COLLATION = "C"  # on Postgres: the fastest collation, and no upgrade of the system's locales breaks an index

BigKey = BigInteger().with_variant(Integer, "sqlite")
"""A key that rises with history. SQLite's integers have 64 bits, and only its INTEGER assigns keys automatically."""


class now_ms(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """The time by the database's clock, in milliseconds since 1970: leases compare no clock with another."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _on_sqlite(_element: now_ms, _compiler: Any, **_: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now_ms, "postgresql")
def _on_postgres(_element: now_ms, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"  # not the transaction's time: it may wait


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC `datetime`, stored as `2026-11-20T08:15:30.123Z`: sorts as text, reads as the log does."""

    impl = String(24)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text whose order is that of its bytes."""
        return dialect.type_descriptor(String(24, collation=_collation(dialect)))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """To text."""
        return time_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From text."""
        return None if value is None else datetime.fromisoformat(value)


class Id(TypeDecorator[str]):
    """An id, or a SHA-256 in hexadecimal: ASCII. A query for anything else, which clients may send, finds nothing."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        """Ids of at most `length` characters."""
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text whose order is that of its bytes."""
        return dialect.type_descriptor(String(self.length, collation=_collation(dialect)))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Unchanged; empty, which no id is, for a text that cannot be one."""
        return value if value is None or (value.isascii() and "\0" not in value) else ""

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """As it was stored."""
        return value  # type: ignore[no-any-return]


class SafeText(TypeDecorator[str]):
    r"""Text from outside. Characters that a database cannot hold become escapes: NUL `\x00`, a surrogate `\udc80`.

    Two texts may become the same; search only for texts that are `is_storable`.
    """

    impl = Text
    cache_ok = True

    def __init__(self, sqlite_length: int | None = None) -> None:
        """Text of any length.

        Args:
            sqlite_length: length in the column's declaration on SQLite, which does not enforce it; None: no length.
        """
        super().__init__()
        self.sqlite_length = sqlite_length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text; on SQLite as it was declared when the table was made."""
        if dialect.name == "sqlite" and self.sqlite_length is not None:
            return dialect.type_descriptor(String(self.sqlite_length))
        return dialect.type_descriptor(Text(collation=_collation(dialect)))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape what cannot be stored."""
        return value if value is None or is_storable(value) else storable(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """As it was stored."""
        return value  # type: ignore[no-any-return]


def is_storable(text: str) -> bool:
    """Whether both databases can hold a text unchanged; a search for any other text finds nothing."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str) -> str:
    """A text as `SafeText` stores it."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


_encode = json.JSONEncoder(separators=(",", ":")).encode


class JsonText(TypeDecorator[Any]):
    """Any JSON-able value, stored as ASCII text; NULL is None.

    Not the database's JSON type: Postgres refuses NUL and lone surrogates in it.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """To text."""
        return None if value is None else _encode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """From text."""
        return None if value is None else json.loads(value)


class PathBytes(TypeDecorator[str]):
    """A path, stored as the bytes of the file system, which need not be UTF-8."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """To bytes."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """From bytes."""
        return None if value is None else os.fsdecode(bytes(value))


def _collation(dialect: Dialect) -> str | None:
    return KEY_COLLATION if dialect.name == "postgresql" else None
