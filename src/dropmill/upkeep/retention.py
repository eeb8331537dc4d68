"""Retention: old bytes and old events go, what is known of them stays.

A submission's files, results and output go together: `--keep` after it settled, or the oldest first beyond
`--keep-size`. The ledger says so first, in a transaction that refuses whatever is in use; then the bytes are deleted,
then the ledger notes that they are. Killed anywhere between, the next start goes on. Events go by `--keep-events`,
never before the event log has them on disk.

`CleanUp` tries again what a failing disk or ledger kept others from cleaning up, while the server runs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from dropmill.health import Health
from dropmill.model.clock import Clock
from dropmill.model.errors import StorageUnavailable
from dropmill.model.ids import Cursor
from dropmill.model.retention import KeptBytes
from dropmill.ports.blobs import BlobStore
from dropmill.ports.ledger.retention import RetentionLedger
from dropmill.ports.outputs import Outputs

SUBMISSIONS_AT_ONCE = 50
EVENTS_A_CHANGE = 1000  # some 10 ms of the ledger's writer
EVERY_MOST_S, EVERY_LEAST_S = 60.0, 0.5
SIZE_EVERY_S = 10.0  # a size is exceeded for so long at most, and by what arrives meanwhile

CLEAN_UP_EVERY_S, CLEAN_UP_EVERY_MOST_S = 5.0, 300.0  # doubled while something cannot be removed

logger = logging.getLogger(__name__)


class Retention:
    """Removes what is no longer to be kept."""

    def __init__(
        self,
        *,
        ledger: RetentionLedger,
        blobs: BlobStore,
        outputs: Outputs,
        logged: Callable[[], Awaitable[Cursor]],
        keep_s: float | None,
        keep_bytes: int | None,
        keep_events_s: float | None,
        clock: Clock,
        health: Health,
    ) -> None:
        """Touch nothing yet.

        Args:
            ledger: decides.
            blobs: has files and results.
            outputs: has the output.
            logged: tells up to which cursor the event log is on disk.
            keep_s: seconds for which the bytes of a settled submission are kept; None: for ever.
            keep_bytes: most bytes kept, those in use counted; None: no limit.
            keep_events_s: seconds for which events are kept; None: for ever.
            clock: tells ages.
            health: shows whether this works.
        """
        self._clock = clock
        self._health = health
        self._ledger = ledger
        self._blobs = blobs
        self._outputs = outputs
        self._logged = logged
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._keep_events_s = keep_events_s

    async def run(self) -> None:
        """Finish what an earlier process began, then sweep until cancelled; return if everything is kept for ever."""
        ages = [age / 10 for age in (self._keep_s, self._keep_events_s) if age is not None]
        if self._keep_bytes is not None:
            ages.append(SIZE_EVERY_S)
        every_s = max(EVERY_LEAST_S, min(EVERY_MOST_S, *ages, EVERY_MOST_S))
        while True:
            await self._health.insist("retention", self.sweep)
            if not ages:
                return
            await asyncio.sleep(every_s)

    async def sweep(self) -> None:
        """Remove what is too old or too much now.

        Raises:
            OSError, OutOfSpace, Unavailable: disk or ledger refused; the next sweep goes on with what is marked.
        """
        await self._delete_marked()
        while await self._mark():
            await self._delete_marked()
        if self._keep_events_s is not None:
            before = self._clock.ago(self._keep_events_s)
            up_to = await self._logged()
            while await self._ledger.remove_events(before=before, up_to=up_to, limit=EVENTS_A_CHANGE):
                pass

    async def _mark(self) -> bool:
        if self._keep_s is None and self._keep_bytes is None:
            return False
        before = None if self._keep_s is None else self._clock.ago(self._keep_s)
        found = await self._ledger.removable(before=before, keep_bytes=self._keep_bytes, limit=SUBMISSIONS_AT_ONCE)
        marked = [await self._ledger.begin_removal(submission_id, settled_at) for submission_id, settled_at in found]
        return any(marked)

    async def _delete_marked(self) -> None:
        while marked := await self._ledger.removals(limit=SUBMISSIONS_AT_ONCE):
            for kept in marked:
                await self._delete(kept)

    async def _delete(self, kept: KeptBytes) -> None:
        for key in kept.blobs:
            await self._blobs.delete(key)
        await self._outputs.remove(kept.attempts)
        await self._ledger.end_removal(kept.submission_id)
        logger.info("Removed the bytes of submission %s: %d files.", kept.submission_id, len(kept.blobs))


class CleanUp:
    """Repeats sweeps for as long as the server runs.

    A sweep finds what is to be done in the ledger and on disk, or in what was noted when a clean-up failed. It returns
    how much it could not do; while that is not nothing, or it raises, it is called less and less often.
    """

    def __init__(self, sweeps: Mapping[str, Callable[[], Awaitable[int]]], health: Health) -> None:
        """Keep the sweeps, each under the name of the part that `/readyz` lists while it cannot finish."""
        self._sweeps = sweeps
        self._health = health

    async def run(self) -> None:
        """Sweep until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, sweep in self._sweeps.items():
                tasks.create_task(self._repeat(name, sweep), name=f"clean-up of {name}")

    async def _repeat(self, name: str, sweep: Callable[[], Awaitable[int]]) -> None:
        async def sweep_all() -> None:
            if left := await sweep():
                raise StorageUnavailable(f"{left} things could not be removed.")

        while True:
            await asyncio.sleep(CLEAN_UP_EVERY_S)
            await self._health.insist(name, sweep_all, first_s=2 * CLEAN_UP_EVERY_S, most_s=CLEAN_UP_EVERY_MOST_S)
