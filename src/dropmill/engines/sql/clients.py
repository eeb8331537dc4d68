"""Client identities in rows; the type of a row."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from dropmill.model.client import ClientIdentity

Row = RowMapping | Mapping[str, Any]
"""A row that the database returned, or that a transaction holds and will write."""


def client_of(row: Row) -> ClientIdentity:
    """The client identity in a submission's row."""
    return ClientIdentity(
        ip=row["ip"], host=row["host"], verified=row["verified"], domain=row["domain"], user_agent=row["user_agent"]
    )
