"""Who sent a request or opened a socket: the only module that makes a `Caller`.

The guard finds the caller before any handler runs, in the same way for requests and sockets; handlers call
`current_caller`. By then the client's address is the one that a trusted proxy forwarded
(`dropmill.web.server.forwarding`).

A caller shows a session's cookie or a bearer token, or a trusted proxy vouches for it; in this order, because whoever
signs in here wants to be that account. A token in the address is never looked at: addresses end up in logs and
histories.

Below a link (`dropmill.web.server.link_paths`) the link's own cookie is looked at and nothing else, and nowhere else is
it looked at: whoever is signed in acts there as any other visitor, and no visitor acts as an account.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from quart import Request, Websocket, g

from dropmill.access.proxy import Vouched, claim_of
from dropmill.access.sign_ins import SignIn, VouchedInVain
from dropmill.access.visits import Entry
from dropmill.model.accounts import owner_of
from dropmill.model.caller import Caller
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import BadRequest
from dropmill.model.events import RefusalReason
from dropmill.model.ids import AccountId
from dropmill.origin.network import identify
from dropmill.web.server.forwarding import VOUCHED
from dropmill.web.server.link_paths import LinkPath, link_path
from dropmill.web.services import services

Connection: TypeAlias = Request | Websocket

COOKIE = "dropmill_session"
LINK_COOKIE = "dropmill_link"
_BEARER = "bearer "


async def find_caller(connection: Connection) -> Caller | None:
    """The caller of this request or socket; None if sign-in is required and nobody is signed in.

    Below a link: None if this browser has not entered it, or it has ended, however open the server is.

    None too for whom a proxy or a JWT vouches in vain; `refusal_of_vouched` says why. Sign-in by password stays open to
    them.

    Raises:
        BadRequest: a proxy's headers are malformed.
        OutOfSpace, Unavailable: the ledger cannot be read, or a new account not be written.
    """
    found, client = services(), client_of(connection)
    if (link := link_path(connection)) is not None:
        entry = g.entry = await _entry(connection, link)
        return None if entry is None else entry.caller(client)
    sign_in = None
    if (secret := session_cookie(connection)) is not None:
        sign_in = await found.sign_ins.by_session(secret)
    if sign_in is None and (token := bearer_token(connection)) is not None:
        sign_in = await found.sign_ins.by_token(token) or await _by_jwt(token, client)
    vouched: Any = connection.scope.get(VOUCHED)
    if sign_in is None and vouched is not None:
        sign_in = await _by_proxy(vouched, client)
    if sign_in is None:
        return Caller.everyone(client) if found.is_open else None
    return Caller(
        client=client,
        account=sign_in.account.name,
        account_id=sign_in.account.id,
        credential=sign_in.credential,
        expires_at=sign_in.expires_at,
        owner=owner_of(sign_in.account.id),
        has_password=sign_in.account.has_password,
        role=sign_in.account.role,
        scopes=sign_in.scopes,
        authentication=sign_in.authentication,
    )


async def _entry(connection: Connection, link: LinkPath) -> Entry | None:
    if "Cookie" not in connection.headers:
        return None
    secret = connection.cookies.get(link_cookie_name(connection))
    entry = None if secret is None else await services().visits.by_cookie(link.id, secret)
    return entry if entry is not None and entry.link.kind is link.kind else None


def current_entry() -> Entry | None:
    """The visit of the link below which the current request or socket is addressed; None without one."""
    found: Entry | None = g.get("entry")
    return found


async def _by_jwt(token: str, client: ClientIdentity) -> SignIn | None:
    found = await services().sign_ins.by_jwt(token, client)
    if not isinstance(found, VouchedInVain):
        return found
    if found.reason is RefusalReason.DISABLED:
        sentence = f"The account {found.name!r} is disabled; ask an admin."
    else:
        sentence = (
            "The token is of somebody who has no account here yet, and another account has the name. Ask an admin to "
            "give it to you (dropmill account link), or to remove it."
        )
    _keep_refusal(sentence, found.reason, found.account_id)
    return None


async def _by_proxy(vouched: Vouched, client: ClientIdentity) -> SignIn | None:
    try:
        claim = claim_of(vouched, services().settings.auth_group)
    except BadRequest as error:
        _keep_refusal(error.detail, RefusalReason.BAD_HEADER, None)
        raise
    if claim is None:
        return None
    found = await services().sign_ins.by_proxy(claim, client)
    if not isinstance(found, VouchedInVain):
        return found
    if found.reason is RefusalReason.DISABLED:
        sentence = f"The account {found.name!r} is disabled; ask an admin."
    else:
        sentence = (
            f"The proxy signs you in as {found.name!r}, but this server has an account of that name with a password. "
            "Sign in with it at /sign-in, or ask an admin to give it to you (dropmill account link) or to remove it."
        )
    _keep_refusal(sentence, found.reason, found.account_id)
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why somebody for whom a proxy or a JWT vouches is nobody here: a sentence for them, and what the audit records.

    Attributes:
        account_id: whose account is disabled, or has the name; None: nobody's.
    """

    sentence: str
    reason: RefusalReason
    account_id: AccountId | None


def _keep_refusal(sentence: str, reason: RefusalReason, account_id: AccountId | None) -> None:
    g.refusal = Refusal(sentence=sentence, reason=reason, account_id=account_id)


def refusal_of_vouched() -> Refusal | None:
    """Why somebody for whom a proxy or a JWT vouches is nobody here; None if none does."""
    found: Refusal | None = g.get("refusal")
    return found


def shows_credentials(connection: Connection) -> bool:
    """Whether a request or socket shows a session's cookie or a bearer token, a valid one or not."""
    return session_cookie(connection) is not None or bearer_token(connection) is not None


def client_of(connection: Connection) -> ClientIdentity:
    """Who sent a request, as far as the network shows."""
    return identify(connection.remote_addr, connection.headers.get("User-Agent"))


def cookie_name(connection: Connection, base: str) -> str:
    """The name of the session's cookie."""
    return prefixed(COOKIE, connection, base)


def prefixed(name: str, connection: Connection, base: str) -> str:
    """The name of a cookie that only this site may set.

    On https its prefix has browsers refuse one that another site, or plain http, set under our name
    (https://www.rfc-editor.org/rfc/rfc6265#section-4.1.1, and "Cookie Prefixes" in its draft successor).

    Args:
        name: without a prefix.
        connection: that brings or gets it.
        base: path prefix of this site behind a proxy; empty without one.
    """
    if connection.scheme not in ("https", "wss"):
        return name
    return f"__Secure-{name}" if base else f"__Host-{name}"


def link_cookie_name(connection: Connection) -> str:
    """The name of a link's cookie. Its path is the link's own, so on https it cannot have the prefix `__Host-`."""
    return f"__Secure-{LINK_COOKIE}" if connection.scheme in ("https", "wss") else LINK_COOKIE


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


def session_cookie(connection: Connection) -> str | None:
    """What a request or socket shows as a session's secret; None without."""
    if "Cookie" not in connection.headers:
        return None
    secret: str | None = connection.cookies.get(cookie_name(connection, services().settings.base_path))
    return secret


def bearer_token(connection: Connection) -> str | None:
    """What a request or socket shows as a token; None without."""
    given: str = connection.headers.get("Authorization", "")
    return given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else None
