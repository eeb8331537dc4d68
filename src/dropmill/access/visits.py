"""Who is behind a link's cookie, from memory; and what ends when the link does.

A link ends when it is revoked, when its time is over, and when its maker may make no links any more. The first moves
the topic `links`, the last the topic `accounts`: then nothing in memory counts any more, and connections of links that
have ended are ended.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dropmill.access.secrets import digest, is_session_secret
from dropmill.access.sign_ins import TRY_AGAIN_S, End
from dropmill.model.caller import Authentication, Caller, Role, Scope
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import OutOfSpace, Unavailable
from dropmill.model.events import TOPIC_ACCOUNTS, TOPIC_LINKS
from dropmill.model.ids import LinkId, Sha256, VisitId
from dropmill.model.links import Link, LinkKind, LinkState, Visit, only, sender_of
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.links import LinkReader

KNOWN_MAX: Final = 10_000  # visits in memory
KNOWN_S: Final = 60.0  # then the ledger is read again, should a notification have been lost

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A visit of a link that can be used."""

    visit: Visit
    link: Link

    def caller(self, client: ClientIdentity) -> Caller:
        """Who acts by it."""
        is_request = self.link.kind is LinkKind.REQUEST
        one = self.link.submission_id
        return Caller(
            client=client,
            credential=self.visit.id,
            expires_at=self.link.expires_at,
            owner=sender_of(self.link.id, self.visit.key) if is_request or one is None else only(one),
            role=Role.VIEWER,
            scopes=frozenset({Scope.SEND, Scope.READ} if is_request else {Scope.READ}),
            link=self.link.id,
            sees_results=self.link.shows_results,
            authentication=Authentication.LINK,
        )


@dataclass(eq=False, slots=True)
class _Holder:
    """A connection that ends when its link does.

    Attributes:
        outlives_expiry: whether it goes on when the link expires: a body that has begun.
    """

    visit_id: VisitId
    expires_at: datetime | None
    end: End
    outlives_expiry: bool

    def has_expired(self, now: datetime) -> bool:
        """Whether the connection ends because the link has expired."""
        return not self.outlives_expiry and self.expires_at is not None and self.expires_at <= now

    def is_cut_off(self, link: Link | None, now: datetime) -> bool:
        """Whether the connection ends because the link was revoked; None: the visit is gone."""
        return link is None or link.state(now) is LinkState.REVOKED


class Visits:
    """Finds visits, and ends what depends on them."""

    def __init__(self, *, ledger: LinkReader, bus: Bus) -> None:
        """Know nobody yet."""
        self._ledger = ledger
        self._bus = bus
        self._known: OrderedDict[Sha256, tuple[Entry, float]] = OrderedDict()
        self._generation = 0  # rises with each change
        self._fresh: set[VisitId] = set()  # read from the ledger since the last change
        self._holders: set[_Holder] = set()
        self._is_stale = False  # whether holders must be looked up
        self._woken = asyncio.Event()

    # --- find --------------------------------------------------------------------------------------------------------

    async def by_cookie(self, link_id: LinkId, secret: str) -> Entry | None:
        """The visit of this link that a cookie stands for; None if there is none now, or the link has ended.

        Raises:
            Unavailable: the ledger cannot be read.
        """
        if not is_session_secret(secret):
            return None
        key = digest(secret)
        entry = self._from_memory(key)
        if entry is None:
            generation = self._generation
            found = await self._ledger.visit_by(key)
            if found is None:
                return None
            entry = Entry(visit=found[0], link=found[1])
            if generation == self._generation:  # otherwise what was read may be from before a change
                self._known[key] = entry, asyncio.get_running_loop().time()
                self._fresh.add(entry.visit.id)
                while len(self._known) > KNOWN_MAX:
                    _, (dropped, _) = self._known.popitem(last=False)
                    self._fresh.discard(dropped.visit.id)
        is_usable = entry.link.id == link_id and entry.link.state(utc_now()) is LinkState.LIVE
        return entry if is_usable else None

    def _from_memory(self, key: Sha256) -> Entry | None:
        found = self._known.get(key)
        if found is None:
            return None
        entry, since = found
        if asyncio.get_running_loop().time() - since > KNOWN_S:
            del self._known[key]
            return None
        return entry

    # --- hold --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def held(self, caller: Caller, end: End, *, outlives_expiry: bool = False) -> Iterator[None]:
        """Have `end` called if the link of a visitor ends meanwhile.

        Args:
            caller: of a link.
            end: ends the connection; called at most once.
            outlives_expiry: whether the connection goes on when the link expires.
        """
        if caller.credential is None:
            raise AssertionError("a visitor has a visit")
        holder = _Holder(VisitId(caller.credential), caller.expires_at, end, outlives_expiry)
        self._holders.add(holder)
        if holder.visit_id not in self._fresh:
            self._is_stale = True  # something changed between the look-up and now
        if self._is_stale or not outlives_expiry:
            self._woken.set()  # it may be the next to expire
        try:
            yield
        finally:
            self._holders.discard(holder)

    async def run(self) -> None:
        """End what must end, until cancelled."""
        subscription = self._bus.subscribe()
        subscription.join(TOPIC_LINKS)
        subscription.join(TOPIC_ACCOUNTS)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._end_what_must())
                while True:
                    await subscription.next()
                    self._generation += 1
                    self._known.clear()
                    self._fresh.clear()
                    self._is_stale = True
                    self._woken.set()
        finally:
            subscription.close()

    async def _end_what_must(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next_expiry_s()):
                    await self._woken.wait()
            self._woken.clear()
            now = utc_now()
            await self._end(one for one in list(self._holders) if one.has_expired(now))
            if self._is_stale:
                self._is_stale = False
                await self._end_cut_off()

    async def _end_cut_off(self) -> None:
        holders, generation = list(self._holders), self._generation
        try:
            links = await self._ledger.links_of({one.visit_id for one in holders}) if holders else {}
        except (OutOfSpace, Unavailable):
            await asyncio.sleep(TRY_AGAIN_S)
            self._is_stale = True
            self._woken.set()
            return
        if generation == self._generation:
            self._fresh.update(links)
        now = utc_now()
        await self._end(one for one in holders if one.is_cut_off(links.get(one.visit_id), now))

    def _until_next_expiry_s(self) -> float:
        ends = (one.expires_at for one in self._holders if not one.outlives_expiry)
        nearest = min((end for end in ends if end is not None), default=None)
        return KNOWN_S if nearest is None else min(max((nearest - utc_now()).total_seconds(), 0.01), KNOWN_S)

    async def _end(self, holders: Iterable[_Holder]) -> None:
        """End connections, all at once: one that does not read delays its own end."""
        ending = [holder for holder in holders if holder in self._holders]
        self._holders.difference_update(ending)
        for error in await asyncio.gather(*(holder.end() for holder in ending), return_exceptions=True):
            if isinstance(error, Exception):
                log.error("A connection could not be ended.", exc_info=error)
