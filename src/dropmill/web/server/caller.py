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


async def find_caller(connection: Connection) -> Caller | None:
    """The caller of this request or socket; None if nobody signed in, on a server where people have to.

    There is no sign-in yet, so every caller is everyone.
    """
    return Caller.everyone(identify(connection.remote_addr, connection.headers.get("User-Agent")))


def keep_caller(caller: Caller) -> None:
    """Make `current_caller` return this caller until the request or socket ends."""
    g.caller = caller


def current_caller() -> Caller:
    """The caller of the current request or socket.

    Raises:
        AttributeError: there is none. No handler runs then but those of routes that are open to all.
    """
    found: Caller = g.caller
    return found


def caller_if_known() -> Caller | None:
    """The caller; None if nobody signed in, or if the guard refused the request before it looked."""
    found: Caller | None = g.get("caller")
    return found
