"""This process as a node: its lease, and the judgement of others whose lease has expired.

A lease that has expired proves little: the database may have been away for everybody, and all leases have expired.
So *who could not renew its own lease for two intervals judges nobody for one lease*; by then whoever lives has renewed
its own. The time that counts is that since the boot, which includes the time in which a machine is suspended.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from dropmill.health import Health
from dropmill.model.errors import NodeGone
from dropmill.model.faults import TEMPORARY
from dropmill.ports.ledger.nodes import NodeLedger, Recovery

RENEWALS_A_LEASE: Final = 3
LOOKS_A_LEASE: Final = 7.5  # each 2 s with a lease of 15 s

_PART = "lease"  # on the health board

logger = logging.getLogger(__name__)


def since_boot() -> float:
    """Seconds since the machine booted, those included in which it was suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Membership:
    """Keeps the lease of this process's node, and strikes off nodes whose lease has expired."""

    def __init__(
        self,
        ledger: NodeLedger,
        *,
        lease_s: float,
        max_attempts: int,
        on_gone: Callable[[], None],
        on_taken: Callable[[Recovery], None],
        health: Health,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        """Do nothing yet; `run` begins with a renewal.

        Args:
            ledger: entered by this process's node.
            lease_s: of that node, in seconds.
            max_attempts: lost attempts after which a job fails.
            on_gone: called once, when this node was struck off. The process must stop its attempts and begin anew.
            on_taken: called when the work of others was settled.
            health: shows whether the lease can be renewed.
            clock: in seconds.
        """
        self._ledger = ledger
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._on_gone = on_gone
        self._on_taken = on_taken
        self._health = health
        self._clock = clock
        self._renewed_at = self._steady_since = clock()

    @property
    def _interval_s(self) -> float:
        return self._lease_s / RENEWALS_A_LEASE

    @property
    def has_lease(self) -> bool:
        """Whether this node renewed its lease lately; otherwise others may strike it off."""
        return self._clock() - self._renewed_at < self._lease_s

    @property
    def may_judge(self) -> bool:
        """Whether an expired lease of another node means that it is gone."""
        now = self._clock()
        return now - self._renewed_at < 2 * self._interval_s and now - self._steady_since >= self._lease_s

    async def run(self) -> None:
        """Renew and judge until cancelled, or until this node is struck off."""
        judging = asyncio.create_task(self._judge_others(), name="judge of leases")
        try:
            await self._renew()
        finally:
            judging.cancel()
            await asyncio.wait([judging])
        if not judging.cancelled() and (error := judging.exception()) is not None:
            raise error
        logger.error("This process was declared gone, because it did not renew its lease in time; it begins anew.")
        self._on_gone()

    async def _renew(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._lease_s):
                    if not await self._ledger.renew():
                        return
            except (TimeoutError, *TEMPORARY) as error:
                self._health.failed(_PART, error)
                await asyncio.sleep(self._interval_s / 5)
                continue
            now = self._clock()
            if now - self._renewed_at >= 2 * self._interval_s:
                self._steady_since = now
            self._renewed_at = now
            self._health.works(_PART)
            await asyncio.sleep(self._interval_s)

    async def _judge_others(self) -> None:
        while True:
            # At different times in each process, so that mostly one of them finds it.
            await asyncio.sleep(self._lease_s / LOOKS_A_LEASE * (0.5 + random.random()))  # noqa: S311 - no secret
            with contextlib.suppress(NodeGone, *TEMPORARY):  # the lease's own task reports it
                if self.may_judge and await self._ledger.has_expired() and self.may_judge:
                    taken = await self._ledger.lose_expired(
                        self._max_attempts, "the server that received it did not answer any more"
                    )
                    for host in taken.gone:
                        logger.warning("A process on %s did not renew its lease and is declared gone.", host)
                    if taken.gone:
                        self._on_taken(taken)
