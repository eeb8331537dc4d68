"""Callers without a client: the server itself, and the command line on the data folder.

No request may act as one of them: `dropmill.web.server.caller` returns another type, and an import contract keeps this
module out of `dropmill.web`.
"""

from enum import Enum, auto
from typing import TypeAlias

from dropmill.model.caller import Caller
from dropmill.model.client import ClientIdentity


class Internal(Enum):
    """A caller on this machine; it may do everything."""

    SERVER = auto()
    """The server itself: sweeps, recovery, what it takes over from the config file."""

    COMMAND_LINE = auto()
    """A person with the right to write in the data folder."""

    @property
    def client(self) -> ClientIdentity | None:
        """None: it did not come over a network."""
        return None

    @property
    def account(self) -> str | None:
        """None: nobody signed in."""
        return None


AnyCaller: TypeAlias = Caller | Internal
"""The caller of operations that the server also carries out for itself; all others take a `Caller`."""
