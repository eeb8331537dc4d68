"""Limits the rate at which the joins of one account, or of one address without an account, may load data.

A join is a few bytes, but can return a whole history. So the limit counts what joins return: one for each event, each
file of a snapshot and each KiB of output. No join is refused: it waits until its client has a balance again.
"""

import asyncio
from dataclasses import dataclass, field

BURST_S = 10.0  # seconds of the rate that can be used at once
DEBT_MAX_S = 60.0  # the most seconds by which one join, however large, delays the next of its client
ACCOUNTS_KEPT = 1000  # clients; above this, those with a full balance are dropped


@dataclass(slots=True)
class _Account:
    balance: float
    since: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class JoinRates:
    """The accounts of all clients."""

    def __init__(self, per_second: float) -> None:
        """Start with a full balance for every client.

        Args:
            per_second: what the joins of one client may return, in events per second.
        """
        self._per_second = per_second
        self._most = per_second * BURST_S
        self._accounts: dict[str, _Account] = {}

    async def admit(self, client: str, cost: float) -> None:
        """Wait until a client may join again, then charge it.

        Args:
            client: its account, or its address.
            cost: what the join is known to return.

        Cancelling charges nothing.
        """
        account = self._account(client)
        async with account.turn:  # in the order of the calls
            while self._balance(account) <= 0:  # noqa: ASYNC110  # only time changes the balance
                await asyncio.sleep((1 - account.balance) / self._per_second)
            self._take(account, cost)

    def charge(self, client: str, cost: float) -> None:
        """Charge a client for what a join returned beyond its known cost."""
        account = self._account(client)
        self._balance(account)
        self._take(account, cost)

    def _take(self, account: _Account, cost: float) -> None:
        account.balance = max(account.balance - cost, -self._per_second * DEBT_MAX_S)

    def _balance(self, account: _Account) -> float:
        now = asyncio.get_running_loop().time()
        account.balance = min(account.balance + (now - account.since) * self._per_second, self._most)
        account.since = now
        return account.balance

    def _account(self, client: str) -> _Account:
        account = self._accounts.get(client)
        if account is None:
            if len(self._accounts) >= ACCOUNTS_KEPT:
                self._forget_idle()
            account = self._accounts[client] = _Account(self._most, asyncio.get_running_loop().time())
        return account

    def _forget_idle(self) -> None:
        for client, account in list(self._accounts.items()):
            if not account.turn.locked() and self._balance(account) >= self._most:
                del self._accounts[client]
