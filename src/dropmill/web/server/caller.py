"""Who sends a request or has opened a socket: the only place that makes a `Caller`.

The guard finds the caller before any handler runs, of a request and of a socket in the same way; handlers ask for it
with `current_caller`. What a trusted proxy says of the client has replaced the connection's own address by then
(`dropmill.web.server.forwarding`).
"""

from typing import TypeAlias

from quart import Request, Websocket, g

from dropmill.model.caller import Caller
from dropmill.origin.network import identify

Connection: TypeAlias = Request | Websocket


def find_caller(connection: Connection) -> Caller:
    """Who sends this request or opens this socket. Nobody has to sign in yet."""
    return Caller.everyone(identify(connection.remote_addr, connection.headers.get("User-Agent")))


def keep_caller(caller: Caller) -> None:
    """Have `current_caller` answer with this caller for as long as the request or socket is served."""
    g.caller = caller


def current_caller() -> Caller:
    """The caller of the request or socket that is being served.

    Raises:
        AttributeError: the guard has not let it pass; no handler may run then.
    """
    found: Caller = g.caller
    return found


def caller_if_known() -> Caller | None:
    """The caller; None where the guard refused before it was known. Then a page shows the refusal and nothing else."""
    found: Caller | None = g.get("caller")
    return found
