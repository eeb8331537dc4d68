"""Callers without a client: the server itself, and the command line on the data folder.

No request may act as one of them. They are of a type of their own, which the one maker of a request's caller cannot
return, and an import contract keeps this module out of `dropmill.web`.
"""

from enum import Enum, auto
from typing import TypeAlias

from dropmill.model.caller import Caller
from dropmill.model.client import ClientIdentity


class Internal(Enum):
    """Who acts on this machine; may do everything."""

    SERVER = auto()
    """The server, of its own accord: sweeps, recovery, what it takes over from the config file."""

    COMMAND_LINE = auto()
    """A person whom the system lets write in the data folder."""

    @property
    def client(self) -> ClientIdentity | None:
        """None: no network told who it is."""
        return None

    @property
    def account(self) -> str | None:
        """None: nobody signed in."""
        return None


AnyCaller: TypeAlias = Caller | Internal
"""Of operations that this machine also carries out for itself; all others take a `Caller`."""
