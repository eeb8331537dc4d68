"""Who does something, as the record of it says: part of each event that the audit shows."""

from dataclasses import dataclass
from typing import Final

from dropmill.model.client import ClientIdentity
from dropmill.model.internal import AnyCaller


@dataclass(frozen=True, kw_only=True, slots=True)
class By:
    """Who does something.

    Attributes:
        account: the name of the account, as it is now; None without one, and on the command line.
        client: None: the server itself, or the command line.
    """

    account: str | None = None
    client: ClientIdentity | None = None


THIS_MACHINE: Final = By()
"""The server itself, or the command line."""


def by(caller: AnyCaller) -> By:
    """The caller, for the record."""
    return By(account=caller.account, client=caller.client)
