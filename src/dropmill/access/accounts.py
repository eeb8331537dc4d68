"""Accounts, for those who administer them."""

from collections.abc import Sequence

from dropmill.access.passwords import Passwords
from dropmill.model.accounts import Account, AccountChange, Identity, checked_name
from dropmill.model.by import by
from dropmill.model.caller import Role
from dropmill.model.clock import utc_now
from dropmill.model.errors import NotFound
from dropmill.model.ids import AccountId, new_account_id
from dropmill.model.internal import AnyCaller
from dropmill.model.quotas import LimitChange
from dropmill.ports.ledger.accounts import AccountLedger


class Accounts:
    """Adds, changes and removes accounts, for callers who may `ADMINISTER` (`dropmill.access.policy`)."""

    def __init__(self, ledger: AccountLedger, passwords: Passwords) -> None:
        self._ledger = ledger
        self._passwords = passwords

    async def list(self, caller: AnyCaller) -> Sequence[Account]:
        """All accounts, the newest first; also those that were removed."""
        return await self._ledger.accounts()

    async def named(self, caller: AnyCaller, name: str) -> Account:
        """The account of this name that is not removed.

        Raises:
            NotFound: there is none.
        """
        found = await self._ledger.account_named(name)
        if found is None:
            raise NotFound(f"There is no account {name!r}.")
        return found

    async def add(self, caller: AnyCaller, name: str, role: Role, password: str) -> Account:
        """Add an account.

        Raises:
            BadRequest: the name or the password (`BadPassword`) cannot be one.
            NameTaken: another account has the name.
        """
        name = checked_name(name)
        password_hash = await self._passwords.new(password, name)
        account = Account(id=new_account_id(), name=name, role=role, created_at=utc_now())
        await self._ledger.add_account(account, password_hash, by(caller))
        return account

    async def change(
        self,
        caller: AnyCaller,
        account_id: AccountId,
        *,
        role: Role | None = None,
        is_disabled: bool | None = None,
        password: str | None = None,
        limits: LimitChange | None = None,
    ) -> Account:
        """Change an account; None leaves what it is. A new password and disabling it end its sessions.

        Lower limits remove nothing of what it has: they refuse what is new.

        Raises:
            BadPassword: the password cannot be one.
            NotFound: there is none, or it was removed.
            LastAdmin: no usable admin would be left.
        """
        password_hash = None
        if password is not None:
            known = await self._ledger.account(account_id)
            password_hash = await self._passwords.new(password, known.name)
        change = AccountChange(role=role, is_disabled=is_disabled, password_hash=password_hash, limits=limits)
        return await self._ledger.change_account(account_id, change, by(caller))

    async def link(self, caller: AnyCaller, account_id: AccountId, identity: Identity | None) -> Account:
        """Give an account to somebody whom a proxy or an issuer vouches for; None: to nobody any more.

        A password that it has stays, and so do its tokens. Its sessions end, and what was open because somebody was
        vouched for, when they are unlinked.

        Raises:
            NotFound: there is no such account, it was removed, or it belongs to nobody.
            NameTaken: it belongs to somebody, or they have an account.
        """
        return await self._ledger.link_account(account_id, identity, by(caller))

    async def remove(self, caller: AnyCaller, account_id: AccountId) -> None:
        """Remove an account with its sessions and tokens. What it has sent stays.

        Raises:
            NotFound: there is none, or it was removed before.
            LastAdmin: no usable admin would be left.
        """
        await self._ledger.remove_account(account_id, by(caller))
