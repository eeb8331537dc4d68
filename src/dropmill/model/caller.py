"""Who asks: the first parameter of every operation and every read, so that no check of rights can be forgotten.

Only `dropmill.web.server.caller` makes one, from a request or a socket. Work that no client asked for has a caller of
another type: see `dropmill.model.internal`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import OPEN, AccountId, BrowserKey, LinkId, Owner, SessionId, TokenId, VisitId


class Role(StrEnum):
    """The most that an account may do; each role includes the one before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a credential may be used for, within the role of its account."""

    SEND = "send"
    READ = "read"
    CONFIG = "config"
    ADMIN = "admin"


EVERY_SCOPE = frozenset(Scope)


class Authentication(StrEnum):
    """How a caller signed in."""

    NONE = "none"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105  # a word, no secret
    JWT = "jwt"
    HEADER = "header"
    LINK = "link"


Credential: TypeAlias = SessionId | TokenId | AccountId | VisitId
"""On what a caller's rights depend. That of a caller for whom a proxy or a JWT vouches is the account itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who sends a request or has opened a socket. The same for everything on one connection of a browser.

    Attributes:
        client: who that is as far as the network shows; grants no right.
        account: the name of who signed in; None without an account.
        account_id: of that account.
        credential: the session or the token that was shown; the account itself, for whom a proxy or a JWT vouches;
            the visit of a link; None without one.
        expires_at: when that expires; None: never, or there is none.
        owner: of what the caller sends; `OPEN` on a server without accounts. Of a link, who its visitor is, see
            `dropmill.model.links`.
        has_password: whether that account can be signed in to with a password.
        role: of the account; of a link, viewer.
        scopes: what the credential may be used for.
        browser: SHA-256 of the key in the browser's cookie, in hexadecimal; None without one.
        link: the link that the caller followed; None without one.
        sees_results: whether the caller sees what the script makes of files; only a link may leave that out.
        authentication: how the caller signed in.
    """

    client: ClientIdentity
    account: str | None = None
    account_id: AccountId | None = None
    credential: Credential | None = None
    expires_at: datetime | None = None
    owner: Owner = OPEN
    has_password: bool = False
    role: Role
    scopes: frozenset[Scope]
    browser: BrowserKey | None = None
    link: LinkId | None = None
    sees_results: bool = True
    authentication: Authentication

    @property
    def session_id(self) -> SessionId | None:
        """The session of a browser; None for every other caller."""
        if self.credential is None or self.authentication is not Authentication.SESSION:
            return None
        return SessionId(self.credential)

    @classmethod
    def everyone(cls, client: ClientIdentity) -> "Caller":
        """The caller on a server without accounts: everybody who reaches it may do everything."""
        return cls(client=client, role=Role.ADMIN, scopes=EVERY_SCOPE, authentication=Authentication.NONE)
