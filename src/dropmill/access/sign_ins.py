"""Who is behind a cookie, a token or a proxy's word, from memory; and what ends when that changes.

Every change of an account, a session or a token is an event, whichever process made it. The topic `accounts` moves
with it: then nothing in memory counts any more, and connections whose session or token is gone are ended. A commit of
another process, such as the command line's, is noticed within a second.
"""

import asyncio
import contextlib
import hmac
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from dropmill.access.proxy import Claim
from dropmill.access.secrets import digest, is_session_secret, token_prefix
from dropmill.model.accounts import Account, Identity, Session, Token
from dropmill.model.caller import EVERY_SCOPE, Authentication, Caller, Credential, Scope
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import NameTaken, OutOfSpace, Unavailable
from dropmill.model.events import TOPIC_ACCOUNTS, RefusalReason, SignInMethod
from dropmill.model.ids import AccountId, SessionId, Sha256, TokenId
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.accounts import AccountReader

if TYPE_CHECKING:
    from dropmill.access.jwt import Jwts  # its libraries take a while to load, and most servers check no JWT

KNOWN_MAX: Final = 10_000  # sessions and tokens in memory
KNOWN_S: Final = 60.0  # then the ledger is read again, should a notification have been lost
NOTE_USE_S: Final = 60.0  # when something was used is written no more often
TRY_AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)

End = Callable[[], Awaitable[None]]
"""Ends one connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    """What a valid cookie or token, or the word of a trusted proxy, stands for.

    Attributes:
        credential: the id of the session or the token; of the account, if a proxy or a JWT vouches for it.
        expires_at: None: never.
    """

    account: Account
    credential: Credential
    scopes: frozenset[Scope]
    authentication: Authentication
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VouchedInVain:
    """Why somebody for whom a proxy or a JWT vouches is nobody here.

    Attributes:
        reason: `disabled`, or `name_taken`.
        name: that the account has or would have.
        account_id: of the account that is disabled, or has the name.
    """

    reason: RefusalReason
    name: str
    account_id: AccountId | None


@dataclass(slots=True)
class _Known:
    sign_in: SignIn
    since: float  # of the loop's clock
    used_at: datetime


@dataclass(eq=False, slots=True)
class _Holder:
    """A connection that ends when its caller's session or token does, or its account changes.

    Attributes:
        outlives_session: whether it goes on when the session expires: an upload that has begun.
    """

    caller: Caller
    credential: Credential
    end: End
    outlives_session: bool

    def has_changed(self, account: Account | None) -> bool:
        """Whether the caller's account, None if the session or token is gone, is not what it was."""
        return account is None or not account.is_usable or account.role is not self.caller.role

    def has_expired(self, now: datetime) -> bool:
        """Whether the connection ends because the session or the token has expired."""
        expires_at = self.caller.expires_at
        return not self.outlives_session and expires_at is not None and expires_at <= now


@dataclass(slots=True)
class _Used:
    """What was used since the last time this was written."""

    sessions: dict[SessionId, datetime] = field(default_factory=dict)
    tokens: dict[TokenId, datetime] = field(default_factory=dict)
    seen: dict[AccountId, datetime] = field(default_factory=dict)

    def note(
        self, credential: Credential, account_id: AccountId | None, now: datetime, authentication: Authentication
    ) -> None:
        """Note a use."""
        if authentication is Authentication.SESSION:
            self.sessions[SessionId(credential)] = now
        elif authentication is Authentication.TOKEN:
            self.tokens[TokenId(credential)] = now
        if account_id is not None:
            self.seen[account_id] = now


class SignIns:
    """Finds sign-ins, and ends what depends on them."""

    def __init__(self, *, ledger: AccountReader, bus: Bus, idle_s: float, jwts: "Jwts | None" = None) -> None:
        """Know nobody yet.

        Args:
            ledger: has the sessions and tokens.
            bus: notifies of changes.
            idle_s: after how many seconds without use a session ends.
            jwts: checks tokens that another system signs; None: there are none.
        """
        self._ledger = ledger
        self._bus = bus
        self._jwts = jwts
        self._idle = timedelta(seconds=idle_s)
        self._known: OrderedDict[Sha256, _Known] = OrderedDict()
        self._generation = 0  # rises with each change
        self._fresh: set[Credential] = set()  # read from the ledger since the last change
        self._holders: set[_Holder] = set()
        self._is_stale = asyncio.Event()
        self._used = _Used()

    # --- find --------------------------------------------------------------------------------------------------------

    async def by_session(self, secret: str) -> SignIn | None:
        """The sign-in of a cookie; None if it has none now.

        Raises:
            Unavailable: the ledger cannot be read.
        """
        if not is_session_secret(secret):
            return None
        key = digest(secret)
        found = self._from_memory(key)
        if found is not None:
            return found
        generation = self._generation
        row = await self._ledger.session_by(key)
        return None if row is None else self._remember(key, generation, *self._of_session(*row))

    async def by_token(self, token: str) -> SignIn | None:
        """The sign-in of a token; None if it has none now.

        Raises:
            Unavailable: the ledger cannot be read.
        """
        prefix = token_prefix(token)
        if prefix is None:
            return None
        key = digest(token)
        found = self._from_memory(key)
        if found is not None:
            return found
        generation = self._generation
        row = await self._ledger.token_by(prefix)
        if row is None or not hmac.compare_digest(row[1], key):
            return None
        return self._remember(key, generation, *self._of_token(row[0], row[2]))

    async def by_proxy(self, claim: Claim, client: ClientIdentity) -> SignIn | VouchedInVain:
        """The sign-in of somebody for whom a trusted proxy vouches; on the first visit with a new account.

        Args:
            claim: what the proxy says.
            client: who asks, for the record.

        Raises:
            OutOfSpace, Unavailable: the ledger cannot be read, or not be written.
        """
        key = digest(f"proxy {claim.role} {claim.name}")  # the form of no secret
        identity = Identity.of_proxy(claim.name)
        known = self._from_memory(key)
        return known or await self._admitted(key, identity, claim, client, authentication=Authentication.HEADER)

    async def by_jwt(self, token: str, client: ClientIdentity) -> SignIn | VouchedInVain | None:
        """The sign-in of a token that another system signs; on the first visit with a new account.

        Args:
            token: what may be one.
            client: who asks, for the record.

        Returns:
            None if the token is not valid.

        Raises:
            OutOfSpace, Unavailable: the ledger cannot be read, or not be written; or the keys cannot be read.
        """
        if self._jwts is None:
            return None
        key = digest(f"jwt {token}")  # the form of no other secret, or a session's would count here
        if (known := self._from_memory(key)) is not None:
            return known
        signed = await self._jwts.check(token)
        if signed is None or signed.expires_at <= utc_now():  # which `check` lets pass for a moment, as clocks differ
            return None
        return await self._admitted(
            key,
            signed.identity,
            signed.claim,
            client,
            authentication=Authentication.JWT,
            scopes=signed.scopes,
            expires_at=signed.expires_at,
        )

    async def _admitted(
        self,
        key: Sha256,
        identity: Identity,
        claim: Claim,
        client: ClientIdentity,
        *,
        authentication: Authentication,
        scopes: frozenset[Scope] = EVERY_SCOPE,
        expires_at: datetime | None = None,
    ) -> SignIn | VouchedInVain:
        generation, unseen_since = self._generation, utc_now() - self._idle
        account = await self._ledger.account_by(identity)
        is_new = account is None or account.last_seen_at is None or account.last_seen_at <= unseen_since
        if account is None or is_new or claim.role not in (None, account.role):
            method = SignInMethod.JWT if authentication is Authentication.JWT else SignInMethod.PROXY
            try:
                account = await self._ledger.admit(
                    identity, claim.name, claim.role, client, method=method, unseen_since=unseen_since
                )
            except NameTaken:
                named = await self._ledger.account_named(claim.name)
                return VouchedInVain(
                    reason=RefusalReason.NAME_TAKEN, name=claim.name, account_id=None if named is None else named.id
                )
        if not account.is_usable:
            return VouchedInVain(reason=RefusalReason.DISABLED, name=account.name, account_id=account.id)
        sign_in = SignIn(
            account=account,
            credential=account.id,
            scopes=scopes,
            authentication=authentication,
            expires_at=expires_at,
        )
        self._remember(key, generation, sign_in, utc_now())
        return sign_in

    def _of_session(self, session: Session, account: Account) -> tuple[SignIn, datetime]:
        sign_in = SignIn(
            account=account,
            credential=session.id,
            scopes=EVERY_SCOPE,
            authentication=Authentication.SESSION,
            expires_at=session.expires_at,
        )
        return sign_in, session.last_used_at

    def _of_token(self, token: Token, account: Account) -> tuple[SignIn, datetime]:
        sign_in = SignIn(
            account=account,
            credential=token.id,
            scopes=token.scopes,
            authentication=Authentication.TOKEN,
            expires_at=token.expires_at,
        )
        return sign_in, token.last_used_at or token.created_at

    def _from_memory(self, key: Sha256) -> SignIn | None:
        known = self._known.get(key)
        if known is None:
            return None
        now = utc_now()
        if asyncio.get_running_loop().time() - known.since > KNOWN_S or self._is_over(
            known.sign_in, known.used_at, now
        ):
            del self._known[key]
            return None
        known.used_at = now
        self._note(known.sign_in, now)
        return known.sign_in

    def _remember(self, key: Sha256, generation: int, sign_in: SignIn, used_at: datetime) -> SignIn | None:
        now = utc_now()
        last = self._used.sessions.get(SessionId(sign_in.credential), used_at)
        if not sign_in.account.is_usable or self._is_over(sign_in, max(used_at, last), now):
            return None
        self._note(sign_in, now)
        if generation == self._generation:  # otherwise what was read may be from before a change
            self._known[key] = _Known(sign_in, asyncio.get_running_loop().time(), now)
            self._fresh.add(sign_in.credential)
            while len(self._known) > KNOWN_MAX:
                _, dropped = self._known.popitem(last=False)
                self._fresh.discard(dropped.sign_in.credential)
        return sign_in

    def _note(self, sign_in: SignIn, now: datetime) -> None:
        self._used.note(sign_in.credential, sign_in.account.id, now, sign_in.authentication)

    def _is_over(self, sign_in: SignIn, used_at: datetime, now: datetime) -> bool:
        if sign_in.expires_at is not None and sign_in.expires_at <= now:
            return True
        return sign_in.authentication is Authentication.SESSION and used_at + self._idle <= now

    # --- hold --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def held(self, caller: Caller, end: End, *, outlives_session: bool = False) -> Iterator[None]:
        """Have `end` called if the caller's session or token is revoked, expires, or its account changes meanwhile.

        Args:
            caller: on whose sign-in the connection depends; one without a sign-in never ends.
            end: ends the connection; called at most once.
            outlives_session: whether the connection goes on when the session expires.
        """
        if caller.credential is None:
            yield
            return
        holder = _Holder(caller, caller.credential, end, outlives_session)
        self._holders.add(holder)
        if caller.credential not in self._fresh:
            self._is_stale.set()  # something changed between the look-up and now
        try:
            yield
        finally:
            self._holders.discard(holder)

    async def run(self) -> None:
        """End what must end and record what was used, until cancelled."""
        subscription = self._bus.subscribe()
        subscription.join(TOPIC_ACCOUNTS)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._end_what_must())
                group.create_task(self._note_use())
                while True:
                    await subscription.next()
                    self._generation += 1
                    self._known.clear()
                    self._fresh.clear()
                    self._is_stale.set()
        finally:
            subscription.close()

    async def _end_what_must(self) -> None:
        while True:
            await self._is_stale.wait()
            self._is_stale.clear()
            holders, generation = list(self._holders), self._generation
            of = {
                how: {one.credential for one in holders if one.caller.authentication is how} for how in Authentication
            }
            sessions = {SessionId(one) for one in of[Authentication.SESSION]}
            tokens = {TokenId(one) for one in of[Authentication.TOKEN]}
            vouched = {AccountId(one) for one in of[Authentication.HEADER] | of[Authentication.JWT]}
            try:
                accounts = await self._ledger.accounts_of(sessions, tokens, vouched) if holders else {}
            except (OutOfSpace, Unavailable):
                await asyncio.sleep(TRY_AGAIN_S)
                self._is_stale.set()
                continue
            if generation == self._generation:
                self._fresh.update(accounts)
            await self._end(holder for holder in holders if holder.has_changed(accounts.get(holder.credential)))

    async def _note_use(self) -> None:
        while True:
            await asyncio.sleep(NOTE_USE_S)
            now = utc_now()
            for holder in self._holders:
                self._used.note(holder.credential, holder.caller.account_id, now, holder.caller.authentication)
            await self._end(holder for holder in list(self._holders) if holder.has_expired(now))
            used, self._used = self._used, _Used()
            try:
                if used.seen:
                    await self._ledger.note_use(used.sessions, used.tokens, used.seen)
            except (OutOfSpace, Unavailable):
                log.warning("When accounts were last used could not be written; the next minute's use will be.")

    async def _end(self, holders: Iterable[_Holder]) -> None:
        """End connections, all at once: one that does not read delays its own end."""
        ending = [holder for holder in holders if holder in self._holders]
        self._holders.difference_update(ending)
        for error in await asyncio.gather(*(holder.end() for holder in ending), return_exceptions=True):
            if isinstance(error, Exception):
                log.error("A connection could not be ended.", exc_info=error)
