"""Accounts, sessions and tokens. Every change of what somebody may do is an event: other processes hear of it so."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from dropmill.model.accounts import Account, AccountChange, Identity, PendingSignIn, Session, Token
from dropmill.model.by import By
from dropmill.model.caller import Credential, Role
from dropmill.model.client import ClientIdentity
from dropmill.model.events import RefusalReason, SignInMethod, SignOutReason
from dropmill.model.ids import AccountId, SessionId, Sha256, TokenId

PENDING_PER_NETWORK: Final = 500  # a company behind one address, at nine o'clock
PENDING_MAX: Final = 20_000


class AccountNames(Protocol):
    """Finds accounts by their names."""

    async def account_named(self, name: str) -> Account | None:
        """The account that has this name and is not removed; None if there is none."""


class AccountReader(AccountNames, Protocol):
    """Finds who sends requests, and lets in whom others vouch for."""

    async def session_by(self, secret: Sha256) -> tuple[Session, Account] | None:
        """The session whose secret has this SHA-256, and its account; None if there is none. It may have expired."""

    async def token_by(self, prefix: str) -> tuple[Token, Sha256, Account] | None:
        """The token with this prefix, the SHA-256 of the whole token, and its account; None if there is none."""

    async def account_by(self, identity: Identity) -> Account | None:
        """The account of an identity that is not removed; None if there is none."""

    async def admit(
        self,
        identity: Identity,
        name: str,
        role: Role | None,
        client: ClientIdentity,
        *,
        method: SignInMethod,
        unseen_since: datetime | None,
    ) -> Account:
        """The account of an identity, as it is now; on the first visit a new one without a password.

        Records the addition or another role (`account.changed`), and a sign-in (`account.signed_in`). An account that
        is disabled is returned as it is.

        Args:
            identity: who.
            name: of a new account, checked.
            role: that the account has from now on, also if no admin is left; None: what it has, of a new one viewer.
            client: who asks.
            method: how.
            unseen_since: whoever was last seen before this time signs in anew; None: nobody does, because a session
                follows, and `begin_session` records that.

        Raises:
            NameTaken: the account would be new, and another one has the name.
        """

    async def accounts_of(
        self,
        sessions: Collection[SessionId],
        tokens: Collection[TokenId],
        accounts_too: Collection[AccountId] = (),
    ) -> Mapping[Credential, Account]:
        """The accounts of those sessions and tokens that are there, and those of the ids that have an identity."""

    async def note_use(
        self,
        sessions: Mapping[SessionId, datetime],
        tokens: Mapping[TokenId, datetime],
        accounts_seen: Mapping[AccountId, datetime],
    ) -> None:
        """Record when these were last used, and the accounts last seen. No event; does nothing about what is gone."""


class PendingSignIns(Protocol):
    """Keeps what browsers have begun and an identity provider has not answered. No events: nobody is named yet."""

    async def add_pending_sign_in(self, pending: PendingSignIn, now: datetime) -> None:
        """Keep one, and drop those that have expired by `now`.

        Whoever asks decides how many there are: over `PENDING_PER_NETWORK` from one network, or `PENDING_MAX` in all,
        the oldest of these are dropped.
        """

    async def take_pending_sign_in(self, state: Sha256, browser: Sha256, now: datetime) -> PendingSignIn | None:
        """The one that this browser has begun with this state, which is taken away: another call finds nothing.

        Returns:
            None if there is none, or it has expired. One of another browser stays.
        """


class AccountLedger(AccountReader, PendingSignIns, Protocol):
    """Keeps accounts, sessions and tokens."""

    async def add_account(self, account: Account, password_hash: str, by: By, *, is_first: bool = False) -> None:
        """Add an account (`account.changed`).

        Args:
            account: new, with a checked name.
            password_hash: of its password.
            by: who adds it.
            is_first: refuse it if there is any account that is not removed.

        Raises:
            NameTaken: another account has the name; or `is_first`, and there is one.
        """

    async def change_account(
        self, account_id: AccountId, change: AccountChange, by: By, *, keep: SessionId | None = None
    ) -> Account:
        """Change an account (`account.changed` for each difference); returns it as it is now.

        A new password ends its sessions (`account.signed_out`), and so does disabling it.

        Args:
            account_id: which.
            change: what.
            by: who changes it.
            keep: the session that goes on, because it is the one that sets the password; None: none does.

        Raises:
            NotFound: there is none, or it was removed.
            LastAdmin: no usable admin would be left.
        """

    async def link_account(self, account_id: AccountId, identity: Identity | None, by: By) -> Account:
        """Give an account to an identity, None: to none any more (`account.changed`); returns it as it is now.

        Whoever it is taken from has perhaps signed in: then its sessions end (`account.signed_out`).

        Args:
            account_id: which.
            identity: who.
            by: who does it.

        Raises:
            NotFound: there is no such account, it was removed, or it belongs to no identity.
            NameTaken: the account belongs to an identity, or the identity has an account.
        """

    async def remove_account(self, account_id: AccountId, by: By) -> None:
        """Remove an account with its sessions and tokens (`account.changed`). Its record stays, without the password.

        Raises:
            NotFound: there is none, or it was removed before.
            LastAdmin: no usable admin would be left.
        """

    async def accounts(self) -> Sequence[Account]:
        """All accounts, the newest first; also those that were removed."""

    async def account(self, account_id: AccountId) -> Account:
        """An account, also a removed one.

        Raises:
            NotFound: there is none.
        """

    async def has_accounts(self) -> bool:
        """Whether there is an account that is not removed."""

    async def password_of(self, name: str) -> tuple[Account, str] | None:
        """The account that has this name and is not removed, with the hash of its password; None without either."""

    async def rehash(self, account_id: AccountId, *, old: str, new: str) -> None:
        """Replace the hash of the same password; does nothing if it is not `old` any more. No event."""

    async def record_refusal(
        self,
        account_id: AccountId | None,
        reason: RefusalReason,
        client: ClientIdentity,
        *,
        count: int = 1,
        route: str | None = None,
    ) -> None:
        """Record that somebody was refused (`account.refused`); see `dropmill.access.refusals`.

        Args:
            account_id: whose name or credentials were given; None if they are nobody's. What was typed is never
                recorded, because people type passwords where names belong.
            reason: why.
            client: who tried.
            count: how often since this was last recorded.
            route: what was asked for, as `dropmill.web.routes` names it; None for a sign-in.
        """

    async def begin_session(self, session: Session, secret: Sha256, method: SignInMethod) -> None:
        """Keep a session (`account.signed_in`), and drop sessions of the account that have expired.

        Raises:
            NotFound: the account was removed or disabled meanwhile.
        """

    async def end_session(
        self, session_id: SessionId, account_id: AccountId, reason: SignOutReason, client: ClientIdentity | None
    ) -> None:
        """End a session of an account (`account.signed_out`).

        Raises:
            NotFound: the account has no such session.
        """

    async def sessions(self, account_id: AccountId) -> Sequence[Session]:
        """The sessions of an account, the newest first; some may have expired."""

    async def add_token(self, token: Token, secret: Sha256, by: By) -> None:
        """Keep a token (`account.changed`).

        Raises:
            NotFound: the account was removed.
        """

    async def revoke_token(self, token_id: TokenId, account_id: AccountId | None, by: By) -> None:
        """Drop a token (`account.changed`).

        Raises:
            NotFound: there is none, or it is of another account than `account_id`; None: of any.
        """

    async def tokens(self, account_id: AccountId | None) -> Sequence[Token]:
        """The tokens of an account, None: of all, the newest first; some may have expired."""
