"""Client identities in rows and in JSON columns; the type of a row."""

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


def client_json(client: ClientIdentity | None) -> dict[str, Any] | None:
    """A client identity for the column `client` of an event or a revision."""
    if client is None:
        return None
    return {
        "ip": client.ip,
        "host": client.host,
        "verified": client.verified,
        "domain": client.domain,
        "user_agent": client.user_agent,
    }


def client_from_json(client: Mapping[str, Any] | None) -> ClientIdentity | None:
    """The client identity in the column `client` of an event or a revision."""
    return None if client is None else ClientIdentity(**client)
