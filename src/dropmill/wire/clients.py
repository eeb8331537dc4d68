"""Client identities: in answers, in events, and as the ledger stores them."""

from collections.abc import Mapping
from typing import Any, TypedDict

from dropmill.model.client import ClientIdentity


class ClientJson(TypedDict):
    """Who sent something, as far as the network shows."""

    ip: str
    host: str | None
    verified: bool
    domain: str | None
    user_agent: str | None


def client_json(client: ClientIdentity | None) -> ClientJson | None:
    """A client identity; None stays None."""
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
    """The client identity that `client_json` made this of; None stays None."""
    return None if client is None else ClientIdentity(**client)
