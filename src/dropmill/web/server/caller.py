"""Who sent a request or opened a socket: the only module that makes a `Caller`.

The guard finds the caller before any handler runs, in the same way for requests and sockets; handlers call
`current_caller`. By then the client's address is the one that a trusted proxy forwarded
(`dropmill.web.server.forwarding`).
"""

from typing import TypeAlias

from quart import Request, Websocket, g

from dropmill.model.caller import Caller
from dropmill.origin.network import identify

Connection: TypeAlias = Request | Websocket


def find_caller(connection: Connection) -> Caller:
    """The caller of this request or socket. There is no sign-in yet, so every caller is everyone."""
    return Caller.everyone(identify(connection.remote_addr, connection.headers.get("User-Agent")))


def keep_caller(caller: Caller) -> None:
    """Make `current_caller` return this caller until the request or socket ends."""
    g.caller = caller


def current_caller() -> Caller:
    """The caller of the current request or socket.

    Raises:
        AttributeError: the guard has not passed it; no handler may run then.
    """
    found: Caller = g.caller
    return found


def caller_if_known() -> Caller | None:
    """The caller; None if the guard refused the request before it found one. The page then shows only the refusal."""
    found: Caller | None = g.get("caller")
    return found
