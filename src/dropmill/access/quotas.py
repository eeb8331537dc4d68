"""What owners may have and have, for people and for the limits that are not the ledger's."""

import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final

from dropmill.model.accounts import Account
from dropmill.model.caller import Caller
from dropmill.model.ids import AccountId, Owner
from dropmill.model.internal import AnyCaller
from dropmill.model.quotas import Quota
from dropmill.ports.ledger.quotas import QuotaLedger

KNOWN_S: Final = 5.0  # then a limit is read again: a client that polls asks four times a second
KNOWN_MAX: Final = 10_000  # owners


class Quotas:
    """Reads quotas."""

    def __init__(self, ledger: QuotaLedger) -> None:
        """Know of none yet."""
        self._ledger = ledger
        self._sockets: OrderedDict[Owner, tuple[int | None, float]] = OrderedDict()

    async def own(self, caller: Caller) -> Quota:
        """The quota of what the caller sends."""
        return (await self._ledger.quotas([caller.owner]))[caller.owner]

    async def of_accounts(self, caller: AnyCaller, accounts: Collection[Account]) -> Mapping[AccountId, Quota]:
        """The quotas of some accounts, for a caller who may `ADMINISTER` (`dropmill.access.policy`)."""
        found = await self._ledger.quotas([account.owner for account in accounts])
        return {account.id: found[account.owner] for account in accounts}

    async def sockets(self, caller: Caller) -> int | None:
        """How many sockets the caller's owner may have open; None: any number. A change counts a few seconds later."""
        now = time.monotonic()
        known = self._sockets.get(caller.owner)
        if known is None or now - known[1] > KNOWN_S:
            known = self._sockets[caller.owner] = (await self.own(caller)).limits.sockets, now
            self._sockets.move_to_end(caller.owner)
            while len(self._sockets) > KNOWN_MAX:
                self._sockets.popitem(last=False)
        return known[0]
