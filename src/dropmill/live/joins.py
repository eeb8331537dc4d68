"""How much the joins of one address may cost.

A join is a few bytes and may bring a whole history. So it is not joins that are counted but what they bring: one for
each event, each file of a snapshot and each KiB of output, at some rate an address. Nobody is refused: a join waits
until its address has paid for the ones before.
"""

import asyncio
from dataclasses import dataclass, field

BURST_S = 10.0  # seconds of the rate that may be spent at once
DEBT_MAX_S = 60.0  # seconds of the rate that one join, however large, may hold up the next of its address
ACCOUNTS_KEPT = 1000  # addresses; those that have used nothing lately are forgotten beyond it


@dataclass(slots=True)
class _Account:
    balance: float
    since: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class JoinRates:
    """The accounts of all addresses."""

    def __init__(self, per_second: float) -> None:
        """Begin with nothing spent.

        Args:
            per_second: what the joins of one address may bring, in events per second.
        """
        self._per_second = per_second
        self._most = per_second * BURST_S
        self._accounts: dict[str, _Account] = {}

    async def admit(self, address: str, cost: float) -> None:
        """Return when the address may join again; `cost` is what the join is known to bring.

        Cancelling costs nothing.
        """
        account = self._account(address)
        async with account.turn:  # in the order in which they were asked for
            while self._balance(account) <= 0:  # noqa: ASYNC110  # what changes it is time
                await asyncio.sleep((1 - account.balance) / self._per_second)
            self._take(account, cost)

    def charge(self, address: str, cost: float) -> None:
        """Count what a join brought beyond what was known before."""
        account = self._account(address)
        self._balance(account)
        self._take(account, cost)

    def _take(self, account: _Account, cost: float) -> None:
        account.balance = max(account.balance - cost, -self._per_second * DEBT_MAX_S)

    def _balance(self, account: _Account) -> float:
        now = asyncio.get_running_loop().time()
        account.balance = min(account.balance + (now - account.since) * self._per_second, self._most)
        account.since = now
        return account.balance

    def _account(self, address: str) -> _Account:
        account = self._accounts.get(address)
        if account is None:
            if len(self._accounts) >= ACCOUNTS_KEPT:
                self._forget_idle()
            account = self._accounts[address] = _Account(self._most, asyncio.get_running_loop().time())
        return account

    def _forget_idle(self) -> None:
        for address, account in list(self._accounts.items()):
            if not account.turn.locked() and self._balance(account) >= self._most:
                del self._accounts[address]
