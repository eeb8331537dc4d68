"""Client identities in rows and in JSON, and what a row is."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from dropmill.model.client import ClientIdentity

Row = RowMapping | Mapping[str, Any]
"""A row as the database gave it, or as a transaction holds it to be written."""


def client_of(row: Row) -> ClientIdentity:
    """The client identity a submission's row holds."""
    return ClientIdentity(
        ip=row["ip"], host=row["host"], verified=row["verified"], domain=row["domain"], user_agent=row["user_agent"]
    )


def client_json(client: ClientIdentity | None) -> dict[str, Any] | None:
    """A client identity as stored beside an event or a revision."""
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
    """The client identity stored beside an event or a revision."""
    return None if client is None else ClientIdentity(**client)
