"""Accounts, and what shows that somebody is one: sessions of browsers, and tokens of programs.

No record here holds a secret or the hash of one. The ledger keeps the hashes, and gives a password's only to whoever
checks it.
"""

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from dropmill.model.caller import Role, Scope
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import BadRequest
from dropmill.model.ids import AccountId, Owner, SessionId, Sha256, TokenId
from dropmill.model.quotas import LimitChange

NAME_MAX = 64  # characters
SUBJECT_MAX = 255  # characters (OpenID Connect Core, section 2)
ISSUER_MAX = 400  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Somebody who may sign in. The record stays when it is removed, because submissions belong to its id.

    Attributes:
        name: as it was typed; unique among accounts that are not removed, see `name_key`.
        disabled_at: since when it cannot be used; None while it can.
        removed_at: since when it is gone for good; None while it is there. Its name may belong to another account.
        last_seen_at: when a session or a token of it was last used, to about a minute; None: never.
        has_password: whether it can be signed in to with one; one that only an identity opens has none.
        identity: for whom it is an account, besides who knows its password; None: for nobody.
    """

    id: AccountId
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None = None
    removed_at: datetime | None = None
    last_seen_at: datetime | None = None
    has_password: bool = True
    identity: "Identity | None" = None

    @property
    def is_usable(self) -> bool:
        """Whether it can be signed in to, and its sessions and tokens count."""
        return self.disabled_at is None and self.removed_at is None

    @property
    def owner(self) -> Owner:
        """The owner of what it sends."""
        return owner_of(self.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Somebody as another system knows them; the account that belongs to it needs no password.

    Attributes:
        issuer: the system: `proxy`, or the URL of an issuer of tokens.
        subject: who, unique at the issuer; for a proxy, the name as `name_key` has it.
    """

    issuer: str
    subject: str

    @classmethod
    def of_proxy(cls, name: str) -> "Identity":
        """Whom a trusted proxy calls by this name."""
        return cls(issuer="proxy", subject=name_key(name))


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A browser that is signed in.

    Attributes:
        id: names it in lists; no secret.
        last_used_at: to about a minute.
        expires_at: when it ends, however often it is used. It ends earlier when it was not used for a while, which is
            a setting.
        client: who signed in.
    """

    id: SessionId
    account_id: AccountId
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    client: ClientIdentity


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingSignIn:
    """A sign-in that a browser has begun, and an identity provider has not answered yet.

    Attributes:
        state: SHA-256 of the secret that the provider sends back.
        browser: SHA-256 of the secret in the browser's cookie.
        network: from where it was begun, as `dropmill.access.throttle.network_of` names it.
        next: the path on this site to go on to.
        expires_at: when an answer comes too late.
    """

    state: Sha256
    browser: Sha256
    network: str
    next: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """What a program shows instead of a password.

    Attributes:
        id: names it in lists; no secret.
        name: what the account calls it; None without.
        scopes: what it may be used for, within the role of the account.
        prefix: its first characters, by which a person knows it; no secret.
        expires_at: None: never.
        last_used_at: to about a minute; None: never.
    """

    id: TokenId
    account_id: AccountId
    name: str | None
    scopes: frozenset[Scope]
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountChange:
    """What is to be changed of an account; None leaves it.

    Attributes:
        password_hash: as `access.passwords` makes it.
        limits: what becomes of its own limits.
    """

    role: Role | None = None
    is_disabled: bool | None = None
    password_hash: str | None = None
    limits: LimitChange | None = None


def owner_of(account_id: AccountId) -> Owner:
    """The owner of what an account sends. Made of the id: an account with the name of a removed one owns nothing."""
    return Owner(f"account:{account_id}")


def id_in(owner: Owner) -> AccountId | None:
    """The account in an owner that `owner_of` made; None in any other."""
    kind, _, account_id = owner.partition(":")
    return AccountId(account_id) if kind == "account" else None


def checked_name(name: str, of: str = "name") -> str:
    """A name without the blanks around it.

    Args:
        name: of an account or a token.
        of: what the error calls it.

    Raises:
        BadRequest: it is empty, too long, or has characters that do not print.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise BadRequest(f"`{of}` must have 1 to {NAME_MAX} printable characters.")
    return name


def name_key(name: str) -> str:
    """What two names that count as one have in common: neither case nor the form of its letters distinguishes them."""
    return unicodedata.normalize("NFKC", name.strip().casefold())
