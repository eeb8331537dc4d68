"""Accounts, for those who administer them."""

from collections.abc import Sequence

from dropmill.access.passwords import Passwords, checked_password
from dropmill.model.accounts import Account, AccountChange, checked_name
from dropmill.model.caller import Caller, Role, Scope
from dropmill.model.clock import utc_now
from dropmill.model.errors import Forbidden, NotFound
from dropmill.model.ids import AccountId, new_account_id
from dropmill.model.internal import AnyCaller, Internal
from dropmill.ports.ledger.accounts import AccountLedger, By


def by(caller: AnyCaller) -> By:
    """Who changes something, for the record."""
    return By(account=caller.account, client=caller.client)


def require_admin(caller: AnyCaller) -> None:
    """Return if a caller may administer accounts: an admin whose session or token is for that, or this machine.

    Raises:
        Forbidden: it may not.
    """
    if isinstance(caller, Internal):
        return
    if caller.role is not Role.ADMIN:
        raise Forbidden(f"This needs the role admin; your account is {caller.role.value}.")
    require_own(caller)


def require_own(caller: Caller) -> None:
    """Return if a caller may change how its own account is signed in to: a leaked token must not make others.

    Raises:
        Forbidden: the token is not for that.
    """
    if Scope.ADMIN not in caller.scopes:
        raise Forbidden("This needs a session, or a token with the scope admin.")


class Accounts:
    """Adds, changes and removes accounts. Each operation raises `Forbidden` for a caller that is no admin."""

    def __init__(self, ledger: AccountLedger, passwords: Passwords) -> None:
        self._ledger = ledger
        self._passwords = passwords

    async def list(self, caller: AnyCaller) -> Sequence[Account]:
        """All accounts, the newest first; also those that were removed."""
        require_admin(caller)
        return await self._ledger.accounts()

    async def named(self, caller: AnyCaller, name: str) -> Account:
        """The account of this name that is not removed.

        Raises:
            NotFound: there is none.
        """
        require_admin(caller)
        found = await self._ledger.account_named(name)
        if found is None:
            raise NotFound(f"There is no account {name!r}.")
        return found

    async def add(self, caller: AnyCaller, name: str, role: Role, password: str) -> Account:
        """Add an account.

        Raises:
            BadRequest: the name or the password cannot be one.
            NameTaken: another account has the name.
        """
        require_admin(caller)
        name = checked_name(name)
        password_hash = await self._passwords.hash(checked_password(password))
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
    ) -> Account:
        """Change an account; None leaves what it is. A new password and disabling it end its sessions.

        Raises:
            BadRequest: the password cannot be one.
            NotFound: there is none, or it was removed.
            LastAdmin: no usable admin would be left.
        """
        require_admin(caller)
        password_hash = None if password is None else await self._passwords.hash(checked_password(password))
        change = AccountChange(role=role, is_disabled=is_disabled, password_hash=password_hash)
        return await self._ledger.change_account(account_id, change, by(caller))

    async def remove(self, caller: AnyCaller, account_id: AccountId) -> None:
        """Remove an account with its sessions and tokens. What it has sent stays.

        Raises:
            NotFound: there is none, or it was removed before.
            LastAdmin: no usable admin would be left.
        """
        require_admin(caller)
        await self._ledger.remove_account(account_id, by(caller))
