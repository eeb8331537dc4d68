"""Who was refused, for the record: wrong passwords, credentials that are nobody's, rights that do not suffice.

Whoever is refused decides how often. So a refusal is counted by client, account and reason, and recorded when it is new
and then at ever longer intervals, of a minute at first; and all clients together get a bounded number of events a
minute. Nothing is written while a request waits: otherwise the time that an answer takes would tell whether a name, not
refused in the last minute, exists.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dropmill.access.throttle import network_of
from dropmill.model.caller import Authentication, Caller
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import OutOfSpace, Unavailable
from dropmill.model.events import RefusalReason
from dropmill.model.ids import AccountId
from dropmill.ports.ledger.accounts import AccountLedger

INTERVAL_S: Final = 60.0  # between two events about the same; doubled each time
INTERVAL_MAX_S: Final = 3600.0  # a page that is left open with an expired cookie: 24 events a day
EVENTS_A_MINUTE: Final = 60  # about all clients
KNOWN_MAX: Final = 5_000  # clients, accounts and reasons in memory

log = logging.getLogger(__name__)

_Key = tuple[str, AccountId | None, RefusalReason]


@dataclass(slots=True)
class _Refused:
    """The refusals of one key. `client` and `route` are those of the first that is not recorded yet."""

    client: ClientIdentity
    route: str | None
    due: float
    count: int = 0
    interval_s: float = INTERVAL_S


class Refusals:
    """Counts refusals, and records them as events (`account.refused`)."""

    def __init__(self, ledger: AccountLedger, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Know of no refusal yet."""
        self._ledger = ledger
        self._monotonic = monotonic
        self._refused: OrderedDict[_Key, _Refused] = OrderedDict()
        self._is_new = asyncio.Event()
        self._minute = monotonic()  # when it began
        self._written = 0  # in this minute
        self._forgotten = 0  # never recorded, since this was last logged

    def note(
        self,
        reason: RefusalReason,
        client: ClientIdentity,
        *,
        account_id: AccountId | None = None,
        route: str | None = None,
    ) -> None:
        """Count a refusal; `run` records it.

        Args:
            reason: why.
            client: who tried.
            account_id: whose name or credentials were given; None: nobody's.
            route: what was asked for: as `dropmill.web.routes` names it, or a topic or message; None for a sign-in.
        """
        key = (network_of(client.ip), account_id, reason)
        found = self._refused.get(key)
        if found is None:
            found = self._refused[key] = _Refused(client, route, due=self._monotonic())
            self._is_new.set()
        if found.count == 0:
            found.client, found.route = client, route
        found.count += 1
        self._refused.move_to_end(key)
        while len(self._refused) > KNOWN_MAX:
            _, dropped = self._refused.popitem(last=False)
            self._forgotten += dropped.count

    def note_forbidden(self, caller: Caller, route: str) -> None:
        """Count that a caller asked for what it may not do. One that did not sign in is nobody to name.

        Args:
            caller: who.
            route: what was asked for: a message of a socket, or a topic.
        """
        if caller.authentication is not Authentication.NONE:
            self.note(RefusalReason.FORBIDDEN, caller.client, account_id=caller.account_id, route=route)

    async def run(self) -> None:
        """Record what is noted, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._is_new.wait()
            self._is_new.clear()
            await self.record()

    async def record(self, *, all_of_it: bool = False) -> None:
        """Record what is due; what the ledger cannot take now stays counted.

        Args:
            all_of_it: whether to record what is not due, too: the server stops.
        """
        if self._forgotten:
            log.warning("%d refusals are not in the audit; too many clients were refused.", self._forgotten)
            self._forgotten = 0
        for key, found in list(self._refused.items()):
            now = self._monotonic()
            if now - self._minute >= INTERVAL_S:
                self._minute, self._written = now, 0
            if found.count == 0:
                if now - found.due > INTERVAL_MAX_S:  # quiet for so long: the next one is new
                    self._refused.pop(key, None)
            elif (now >= found.due or all_of_it) and self._written < EVENTS_A_MINUTE:
                self._written += 1
                await self._record_one(key, found, now)

    async def _record_one(self, key: _Key, found: _Refused, now: float) -> None:
        _, account_id, reason = key
        count, client, route = found.count, found.client, found.route
        found.count, found.due = 0, now + found.interval_s  # more may be noted during the write
        try:
            await self._ledger.record_refusal(account_id, reason, client, count=count, route=route)
        except (OutOfSpace, Unavailable):
            found.count, found.client, found.route = found.count + count, client, route
        else:
            found.interval_s = min(2 * found.interval_s, INTERVAL_MAX_S)
