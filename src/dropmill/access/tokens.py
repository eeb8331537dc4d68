"""Tokens: what programs show instead of a password."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from dropmill.access.secrets import SHOWN, digest, new_token
from dropmill.model.accounts import Account, Token, checked_name
from dropmill.model.by import by
from dropmill.model.caller import EVERY_SCOPE, Caller, Role, Scope
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, Forbidden
from dropmill.model.ids import TokenId, new_token_id
from dropmill.model.internal import AnyCaller
from dropmill.ports.ledger.accounts import AccountLedger

EXPIRES_MAX_S: Final = 10 * 365 * 24 * 3600.0

_SCOPES: Final = {
    Role.VIEWER: frozenset({Scope.SEND, Scope.READ}),
    Role.OPERATOR: EVERY_SCOPE,
    Role.ADMIN: EVERY_SCOPE,
}


def scopes_of(role: Role) -> frozenset[Scope]:
    """The scopes that a token of an account with this role may have."""
    return _SCOPES[role]


class Tokens:
    """Makes and revokes tokens, for callers who may `MANAGE_SIGN_INS` (`dropmill.access.policy`)."""

    def __init__(self, ledger: AccountLedger) -> None:
        self._ledger = ledger

    async def make(
        self,
        caller: Caller,
        *,
        scopes: Collection[Scope] | None = None,
        expires_in_s: float | None = None,
        name: str | None = None,
    ) -> tuple[Token, str]:
        """A new token of the caller's account, and the secret itself, which is kept nowhere.

        Args:
            caller: whose.
            scopes: what it may be used for; None: all that the caller may give.
            expires_in_s: after how many seconds it expires; None: never.
            name: what the account calls it; None without.

        Raises:
            BadRequest: there is no account, or a value is unusable.
            Forbidden: the caller does not have these scopes.
        """
        if caller.account_id is None:
            raise BadRequest("Nobody is signed in on this server, so a token would have no account.")
        account = await self._ledger.account(caller.account_id)
        allowed = scopes_of(account.role) & caller.scopes
        return await self._make(caller, account, allowed, scopes, expires_in_s, name)

    async def make_for(
        self,
        caller: AnyCaller,
        account: Account,
        *,
        scopes: Collection[Scope] | None = None,
        expires_in_s: float | None = None,
        name: str | None = None,
    ) -> tuple[Token, str]:
        """As `make`, of any account; for who may `ADMINISTER`.

        Raises:
            BadRequest, Forbidden: see `make`.
        """
        return await self._make(caller, account, scopes_of(account.role), scopes, expires_in_s, name)

    async def _make(
        self,
        caller: AnyCaller,
        account: Account,
        allowed: frozenset[Scope],
        scopes: Collection[Scope] | None,
        expires_in_s: float | None,
        name: str | None,
    ) -> tuple[Token, str]:
        wanted = allowed if scopes is None else frozenset(scopes)
        if not wanted:
            raise BadRequest("A token needs at least one scope.")
        if wanted - allowed:
            raise Forbidden(f"A token of this account cannot have the scope {min(wanted - allowed)}.")
        if expires_in_s is not None and not 1 <= expires_in_s <= EXPIRES_MAX_S:
            raise BadRequest(f"`expires_in` must be from 1 to {EXPIRES_MAX_S:.0f} seconds.")
        secret, now = new_token(), utc_now()
        token = Token(
            id=new_token_id(),
            account_id=account.id,
            name=None if name is None else checked_name(name),
            scopes=wanted,
            prefix=secret[:SHOWN],
            created_at=now,
            expires_at=None if expires_in_s is None else now + timedelta(seconds=expires_in_s),
        )
        await self._ledger.add_token(token, digest(secret), by(caller))
        return token, secret

    async def list(self, caller: Caller) -> Sequence[Token]:
        """The tokens of the caller's account, the newest first; some may have expired."""
        return [] if caller.account_id is None else await self._ledger.tokens(caller.account_id)

    async def revoke(self, caller: Caller, token_id: TokenId) -> None:
        """Revoke a token of the caller's account.

        Raises:
            BadRequest: there is no account.
            NotFound: the account has no such token.
        """
        if caller.account_id is None:
            raise BadRequest("Nobody is signed in on this server.")
        await self._ledger.revoke_token(token_id, caller.account_id, by(caller))

    async def list_all(self, caller: AnyCaller) -> Sequence[Token]:
        """The tokens of all accounts, the newest first; for who may `ADMINISTER`."""
        return await self._ledger.tokens(None)

    async def revoke_any(self, caller: AnyCaller, token_id: TokenId) -> None:
        """Revoke a token of any account; for who may `ADMINISTER`.

        Raises:
            NotFound: there is no such token.
        """
        await self._ledger.revoke_token(token_id, None, by(caller))
