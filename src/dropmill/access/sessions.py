"""Signing in and out: sessions of browsers, and the one-time link for the first admin."""

import asyncio
import contextlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NoReturn

from dropmill.access import known_browsers
from dropmill.access.passwords import Passwords, require_possible
from dropmill.access.proxy import Claim
from dropmill.access.refusals import Refusals
from dropmill.access.secrets import digest, is_session_secret, new_session_secret
from dropmill.access.throttle import Throttle
from dropmill.model.accounts import Account, AccountChange, Identity, Session, checked_name, name_key
from dropmill.model.by import By, by
from dropmill.model.caller import Caller, Role
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import (
    BadRequest,
    NameTaken,
    NotFound,
    SignInFailed,
    TooManyAttempts,
    Unavailable,
    WrongCredentials,
)
from dropmill.model.events import RefusalReason, SignInMethod, SignOutReason
from dropmill.model.ids import AccountId, SessionId, Sha256, new_account_id, new_session_id
from dropmill.ports.ledger.accounts import AccountLedger

FIRST_S: Final = 15 * 60.0  # how long the one-time link is good for

_WRONG: Final = "The name or the password is wrong."
_NAME_TAKEN: Final = (
    "You have no account here yet, and another account has your name. Sign in with that one, or ask an admin to "
    "remove it."
)
_WRONG_LINK: Final = "The link was used, or has expired; a new start of the server prints another one."


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedIn:
    """What a sign-in brings.

    Attributes:
        secret: for the browser's cookie; not kept anywhere else.
        mark: for another cookie, see `known_browsers`; None of whoever has signed in without a password.
    """

    account: Account
    session: Session
    secret: str
    mark: str | None


class Sessions:
    """Begins and ends sessions."""

    def __init__(
        self, ledger: AccountLedger, passwords: Passwords, refusals: Refusals, *, idle_s: float, lifetime_s: float
    ) -> None:
        """Nobody can use a one-time link until `offer_first`.

        Args:
            ledger: keeps them.
            passwords: checks passwords.
            refusals: records who is refused.
            idle_s: after how many seconds without use a session ends.
            lifetime_s: after how many seconds it ends however often it is used.
        """
        self._ledger = ledger
        self._passwords = passwords
        self._refusals = refusals
        self._idle = timedelta(seconds=idle_s)
        self._lifetime = timedelta(seconds=lifetime_s)
        self._throttle = Throttle()
        self._first: tuple[Sha256, float] | None = None  # of the one-time link, and until when

    # --- in ----------------------------------------------------------------------------------------------------------

    async def sign_in(
        self,
        client: ClientIdentity,
        name: str,
        password: str,
        *,
        replaced: str | None = None,
        mark: str | None = None,
    ) -> SignedIn:
        """Begin a session.

        Args:
            client: who signs in.
            name: of the account, in any case.
            password: its.
            replaced: what the browser shows as the secret of its session, which ends with this.
            mark: what the browser got when somebody last signed in there; None without.

        Raises:
            WrongCredentials: the name or the password is wrong, or the account is disabled; the error is the same.
            TooManyAttempts: too many failed before; neither was looked at.
            Unavailable: too many passwords are being checked.
        """
        key = name_key(name)
        browser = await self._browser(name, mark)
        account, known, is_right = await self._check(key, client, name, password, browser)
        if account is None or known is None:
            self._refuse(None, RefusalReason.UNKNOWN_NAME, client)
        if not is_right:
            self._refuse(account.id, RefusalReason.WRONG_PASSWORD, client)
        if not account.is_usable:
            self._refuse(account.id, RefusalReason.DISABLED, client)
        if self._passwords.is_weak(known):
            old, known = known, await self._passwords.hash(password)
            await self._ledger.rehash(account.id, old=old, new=known)
        try:
            signed_in = await self._begin(account, client, SignInMethod.PASSWORD, replaced, password_hash=known)
        except NotFound:  # it was removed or disabled meanwhile
            raise WrongCredentials(_WRONG) from None
        self._throttle.succeeded(key, client.ip, browser)
        return signed_in

    async def sign_in_vouched(
        self,
        client: ClientIdentity,
        identity: Identity,
        claim: Claim,
        method: SignInMethod,
        *,
        replaced: str | None = None,
    ) -> SignedIn:
        """Begin a session of whom somebody else vouches for; on the first time with a new account.

        Args:
            client: who signs in.
            identity: who that is elsewhere.
            claim: the name of a new account, and the role that the groups give.
            method: how.
            replaced: what the browser shows as the secret of its session, which ends with this.

        Raises:
            SignInFailed: the account is disabled; or it would be new, and another one has the name.
            OutOfSpace, Unavailable: the ledger cannot be written.
        """
        try:
            account = await self._ledger.admit(
                identity, claim.name, claim.role, client, method=method, unseen_since=None
            )
        except NameTaken:
            taken = await self._ledger.account_named(claim.name)
            account_id = None if taken is None else taken.id
            self._refusals.note(RefusalReason.NAME_TAKEN, client, account_id=account_id)
            raise SignInFailed(_NAME_TAKEN, reason="name_taken") from None
        try:
            if account.is_usable:
                return await self._begin(account, client, method, replaced)
        except NotFound:  # it was removed or disabled meanwhile
            pass
        self._refusals.note(RefusalReason.DISABLED, client, account_id=account.id)
        raise SignInFailed("Your account on this server is disabled; ask an admin.", reason="disabled")

    async def _browser(self, name: str, mark: str | None) -> str | None:
        """The number of the browser that shows this mark; None if it is not one of the account with this name."""
        found = None if mark is None else await self._ledger.password_of(name)
        return None if found is None else known_browsers.number_of(mark, found[0].id, found[1])

    async def _check(
        self, key: str, client: ClientIdentity, name: str, password: str, browser: str | None
    ) -> tuple[Account | None, str | None, bool]:
        """The account of a name, the hash of its password, and whether this is the password; counts as an attempt."""
        try:
            self._throttle.begin(key, client.ip, browser)
        except TooManyAttempts:
            found = await self._ledger.password_of(name)
            account_id = None if found is None else found[0].id
            self._refusals.note(RefusalReason.THROTTLED, client, account_id=account_id)
            raise
        try:
            found = await self._ledger.password_of(name)
            account, known = (None, None) if found is None else found
            return account, known, await self._passwords.matches(password, known)
        except Unavailable:
            self._throttle.withdraw(key, client.ip, browser)
            raise

    async def offer_first(self) -> str | None:
        """The secret of a new one-time link; None if there is an account, so that nobody needs one."""
        if await self._ledger.has_accounts():
            return None
        secret = new_session_secret()
        self._first = digest(secret), asyncio.get_running_loop().time() + FIRST_S
        return secret

    async def offers_first(self) -> bool:
        """Whether a one-time link can be used now; the command line may have made an account since it was printed."""
        if self._is_in_time() and await self._ledger.has_accounts():
            self._first = None
        return self._is_in_time()

    def _is_in_time(self) -> bool:
        return self._first is not None and asyncio.get_running_loop().time() < self._first[1]

    async def sign_in_first(self, client: ClientIdentity, secret: str, name: str, password: str) -> SignedIn:
        """Make the first account, an admin, and begin a session of it. Spends the one-time link.

        Raises:
            BadRequest: the name or the password (`BadPassword`) cannot be one; the link can still be used.
            WrongCredentials: the link is another, was used or has expired, or there is an account already.
            TooManyAttempts: too many failed before.
        """
        name, _ = checked_name(name), require_possible(password)
        try:
            self._throttle.begin("", client.ip)
        except TooManyAttempts:
            self._refusals.note(RefusalReason.THROTTLED, client)
            raise
        if not self._is_first(secret):
            self._refuse(None, RefusalReason.WRONG_LINK, client, _WRONG_LINK)
        self._first, offered = None, self._first  # before the first await: it is spent once
        account = Account(id=new_account_id(), name=name, role=Role.ADMIN, created_at=utc_now())
        try:
            password_hash = await self._passwords.new(password, name)
            await self._ledger.add_account(account, password_hash, By(account=name, client=client), is_first=True)
        except NameTaken:
            self._refuse(None, RefusalReason.WRONG_LINK, client, "There is an account already; sign in with it.")
        except BaseException:  # nothing was made; also if the client left
            self._first = offered
            self._throttle.withdraw("", client.ip)  # whoever has the link is not guessing
            raise
        self._throttle.succeeded("", client.ip)
        return await self._begin(account, client, SignInMethod.FIRST, password_hash=password_hash)

    async def _replace(self, secret: str | None, client: ClientIdentity) -> None:
        """End the session that a browser had; it cannot show its secret any more, but somebody else may have it."""
        found = None
        if secret is not None and is_session_secret(secret):
            found = await self._ledger.session_by(digest(secret))
        if found is not None:
            session, account = found
            with contextlib.suppress(NotFound):
                await self._ledger.end_session(session.id, account.id, SignOutReason.REPLACED, client)

    def _is_first(self, secret: str) -> bool:
        if self._first is None or not self._is_in_time() or not is_session_secret(secret):
            return False
        return hmac.compare_digest(self._first[0], digest(secret))

    async def _begin(
        self,
        account: Account,
        client: ClientIdentity,
        method: SignInMethod,
        replaced: str | None = None,
        *,
        password_hash: str | None = None,
    ) -> SignedIn:
        now, secret = utc_now(), new_session_secret()
        session = Session(
            id=new_session_id(),
            account_id=account.id,
            created_at=now,
            last_used_at=now,
            expires_at=now + self._lifetime,
            client=client,
        )
        await self._ledger.begin_session(session, digest(secret), method)
        await self._replace(replaced, client)
        mark = None if password_hash is None else known_browsers.new_mark(account.id, password_hash)
        return SignedIn(account=account, session=session, secret=secret, mark=mark)

    def _refuse(
        self, account_id: AccountId | None, reason: RefusalReason, client: ClientIdentity, detail: str = _WRONG
    ) -> NoReturn:
        self._refusals.note(reason, client, account_id=account_id)
        raise WrongCredentials(detail)

    # --- one's own ---------------------------------------------------------------------------------------------------

    async def sign_out(self, caller: Caller) -> None:
        """End the caller's session; does nothing if it has ended, or the caller has none."""
        session_id, account_id = caller.session_id, caller.account_id
        if session_id is not None and account_id is not None:
            try:
                await self._ledger.end_session(session_id, account_id, SignOutReason.SIGNED_OUT, caller.client)
            except NotFound:
                return

    async def list(self, caller: Caller) -> Sequence[Session]:
        """The sessions of the caller's account, the newest first."""
        if caller.account_id is None:
            return []
        now = utc_now()
        found = await self._ledger.sessions(caller.account_id)
        return [one for one in found if one.expires_at > now and one.last_used_at + self._idle > now]

    async def end(self, caller: Caller, session_id: SessionId) -> None:
        """End a session of the caller's account.

        Raises:
            NotFound: the account has no such session.
        """
        await self._ledger.end_session(session_id, _account_of(caller), SignOutReason.ENDED, caller.client)

    async def change_password(self, caller: Caller, current: str, new: str) -> str:
        """Set the password of the caller's account, and end its other sessions; returns a new mark for the browser.

        Raises:
            BadRequest: the new password cannot be one (`BadPassword`), or there is no account.
            WrongCredentials: `current` is not its password.
            TooManyAttempts: too many failed before.
        """
        account_id, name = _account_of(caller), caller.account or ""
        require_possible(new, of="new")  # before a hash is made to check the current one
        browser = None if caller.session_id is None else f"session {caller.session_id}"
        account, _, is_right = await self._check(name_key(name), caller.client, name, current, browser)
        if account is None or account.id != account_id or not is_right:
            self._refuse(account_id, RefusalReason.WRONG_PASSWORD, caller.client, "The current password is wrong.")
        self._throttle.succeeded(name_key(name), caller.client.ip, browser)
        password_hash = await self._passwords.new(new, name, of="new")
        change = AccountChange(password_hash=password_hash)
        await self._ledger.change_account(account_id, change, by(caller), keep=caller.session_id)
        return known_browsers.new_mark(account_id, password_hash)


def _account_of(caller: Caller) -> AccountId:
    if caller.account_id is None:
        raise BadRequest("Nobody is signed in on this server.")
    return caller.account_id
