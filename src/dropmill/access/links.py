"""Links, for those who make them; and the door through which others come in."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from dropmill.access.passwords import PASSWORD_MAX, Passwords
from dropmill.access.policy import visible_to
from dropmill.access.refusals import Refusals
from dropmill.access.secrets import digest, is_session_secret, new_session_secret
from dropmill.access.throttle import Throttle
from dropmill.model.by import by
from dropmill.model.caller import Caller
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, LinkAsks, NotFound, TooManyAttempts, Unavailable, WrongPassphrase
from dropmill.model.events import RefusalReason
from dropmill.model.ids import BrowserKey, LinkId, SubmissionId, new_link_id, new_visit_id
from dropmill.model.links import (
    COUNT_MAX,
    EXPIRES_MAX_S,
    EXPIRES_S,
    PASSPHRASE_MIN,
    Link,
    LinkKind,
    LinkLimits,
    LinkState,
    Visit,
    checked_label,
    checked_text,
    said_name,
)
from dropmill.ports.ledger.links import LinkLedger, LinkLock
from dropmill.ports.ledger.page import Page

NOTHING: Final = "There is nothing at this address."
"""What everything says that a visitor may not know of, as an address without a route does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLink:
    """What somebody wants of a new link.

    Attributes:
        label: None: one is made, for a link that shows a submission.
        submission_id: the submission to show; None: the link is for sending files.
        expires_in_s: seconds until it ends.
        passphrase: that whoever enters must know; None: the secret suffices.
    """

    label: str | None
    text: str | None = None
    submission_id: SubmissionId | None = None
    expires_in_s: float = EXPIRES_S
    limits: LinkLimits = field(default_factory=LinkLimits)
    passphrase: str | None = None
    asks_name: bool = False
    shows_results: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Entered:
    """What entering a link brings.

    Attributes:
        secret: for the browser's cookie; not kept anywhere else. None: the browser has one already.
    """

    link: Link
    visit: Visit
    secret: str | None


class Links:
    """Makes, lists and revokes links, and lets people in who have their secret."""

    def __init__(self, ledger: LinkLedger, passwords: Passwords, refusals: Refusals) -> None:
        """Know of no failure yet.

        Args:
            ledger: keeps them.
            passwords: checks passphrases.
            refusals: records who is refused.
        """
        self._ledger = ledger
        self._passwords = passwords
        self._refusals = refusals
        self._throttle = Throttle()

    # --- for those who make them -------------------------------------------------------------------------------------

    async def make(self, caller: Caller, wanted: NewLink) -> tuple[Link, str]:
        """Make a link; what is sent by it will be the caller's.

        Returns:
            The link, and its secret, which is not kept anywhere else.

        Raises:
            BadRequest: something that is wanted of it cannot be.
            NotFound: there is no such submission, or the caller does not see it.
            Unavailable: too many passwords are being hashed.
        """
        is_result = wanted.submission_id is not None
        if not 0 < wanted.expires_in_s <= EXPIRES_MAX_S:
            raise BadRequest(f"`expires_in` must be more than 0 and at most {EXPIRES_MAX_S:.0f} seconds.")
        _check_limits(wanted.limits)
        if is_result and not wanted.limits.are_none:
            raise BadRequest("A link that shows a submission takes no files, so it has no limits.")
        label = wanted.label
        if label is None and wanted.submission_id is not None:
            label = f"Submission {wanted.submission_id[:8]}"
        now, secret = utc_now(), new_session_secret()
        link = Link(
            id=new_link_id(),
            kind=LinkKind.RESULT if is_result else LinkKind.REQUEST,
            owner=caller.owner,
            made_by=caller.account,
            account_id=caller.account_id,
            label=checked_label(label or ""),
            text=checked_text(wanted.text),
            submission_id=wanted.submission_id,
            made_at=now,
            expires_at=now + timedelta(seconds=wanted.expires_in_s),
            has_passphrase=wanted.passphrase is not None,
            asks_name=wanted.asks_name,
            shows_results=is_result or wanted.shows_results,
            limits=wanted.limits,
        )
        lock = LinkLock(secret=digest(secret), passphrase_hash=await self._hash(wanted.passphrase))
        await self._ledger.add_link(link, lock, by(caller), visible_to=visible_to(caller))
        return link, secret

    async def list(self, caller: Caller, *, before: str | None, limit: int) -> Page[Link]:
        """Links that the caller may see, the newest first, with those that have ended."""
        return await self._ledger.links(before=before, limit=limit, visible_to=visible_to(caller))

    async def revoke(self, caller: Caller, link_id: LinkId) -> None:
        """End a link at once, with what is open by it.

        Raises:
            NotFound: there is none, the caller does not see it, or it was revoked before.
        """
        await self._ledger.revoke_link(link_id, by(caller), visible_to=visible_to(caller))

    async def _hash(self, passphrase: str | None) -> str | None:
        if passphrase is None:
            return None
        if len(passphrase) < PASSPHRASE_MIN or len(passphrase.encode(errors="replace")) > PASSWORD_MAX:
            raise BadRequest(
                f"`passphrase` must have at least {PASSPHRASE_MIN} characters and at most {PASSWORD_MAX} bytes."
            )
        return await self._passwords.hash(passphrase)

    # --- for those who have one --------------------------------------------------------------------------------------

    async def live(self, link_id: LinkId) -> Link:
        """A link that can be used now, as it is now.

        Raises:
            NotFound: there is none.
        """
        return _require_live(await self._ledger.link(link_id))

    async def opened_by(self, link_id: LinkId, secret: str) -> Link:
        """A link that can be used now, for who shows its secret.

        Raises:
            NotFound: there is none, or it has another secret.
        """
        found = await self._ledger.lock_of(link_id) if is_session_secret(secret) else None
        if found is None or not hmac.compare_digest(found[1].secret, digest(secret)):
            raise NotFound(NOTHING)
        return _require_live(found[0])

    async def enter(
        self,
        client: ClientIdentity,
        link_id: LinkId,
        secret: str,
        *,
        passphrase: str | None = None,
        name: str | None = None,
        known: Visit | None = None,
    ) -> Entered:
        """Let a browser in.

        Args:
            client: who it is, as far as the network shows.
            link_id: which link.
            secret: from the link's address.
            passphrase: None if it was not given.
            name: who the person says to be; None if it was not given.
            known: the visit of this browser, which goes on; None if it has not entered the link before.

        Raises:
            NotFound: there is no such link, it has another secret, or it has ended.
            LinkAsks: a passphrase or a name is missing.
            WrongPassphrase: the passphrase is another.
            BadRequest: the name cannot be one.
            TooManyAttempts: too many failed before; the passphrase was not looked at.
            Unavailable: too many passphrases are being checked.
        """
        link = await self.opened_by(link_id, secret)
        if known is not None:
            return Entered(link=link, visit=known, secret=None)
        name = None if name is None or not link.asks_name else said_name(name)
        if (link.has_passphrase and not passphrase) or (link.asks_name and name is None):
            asks = asked_by(link)
            raise LinkAsks(
                f"The link asks for {' and '.join(f'a {each}' for each in asks)}.", asks=asks, label=link.label
            )
        if link.has_passphrase:
            await self._check(client, link, passphrase or "")
        cookie = new_session_secret()
        visit = Visit(
            id=new_visit_id(),
            link_id=link.id,
            key=BrowserKey(digest(cookie)),
            name=name,
            began_at=utc_now(),
            client=client,
        )
        await self._ledger.begin_visit(visit)
        return Entered(link=link, visit=visit, secret=cookie)

    async def _check(self, client: ClientIdentity, link: Link, passphrase: str) -> None:
        key = f"link {link.id}"  # no account's name: those have no blank at this place
        try:
            self._throttle.begin(key, client.ip)
        except TooManyAttempts:
            self._refusals.note(RefusalReason.THROTTLED, client, account_id=link.account_id)
            raise
        try:
            found = await self._ledger.lock_of(link.id)
            is_right = found is not None and await self._passwords.matches(passphrase, found[1].passphrase_hash)
        except Unavailable:
            self._throttle.withdraw(key, client.ip)
            raise
        if not is_right:
            self._refusals.note(RefusalReason.WRONG_PASSPHRASE, client, account_id=link.account_id)
            raise WrongPassphrase("The passphrase is wrong.", asks=asked_by(link), label=link.label)
        self._throttle.succeeded(key, client.ip)


def asked_by(link: Link) -> Sequence[str]:
    """What a link asks for, besides its secret."""
    asked = (("passphrase", link.has_passphrase), ("name", link.asks_name))
    return [name for name, is_asked in asked if is_asked]


def _require_live(link: Link | None) -> Link:
    if link is None or link.state(utc_now()) is not LinkState.LIVE:
        raise NotFound(NOTHING)
    return link


def _check_limits(limits: LinkLimits) -> None:
    for name in ("files", "size", "submissions"):
        most = getattr(limits, name)
        if most is not None and not 1 <= most <= COUNT_MAX:
            raise BadRequest(f"`max_{name}` must be a whole number from 1 on, or null.")
