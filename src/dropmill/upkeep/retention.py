"""Retention: deletes old bytes and old events; the records of submissions, files and jobs are kept.

A submission's files, results and output are deleted together: `--keep` after it settled, or the oldest submissions
first while the total exceeds `--keep-size`. First the ledger marks the submission, in a transaction that refuses one in
use; then the bytes are deleted; then the ledger records that. After a kill in between, the next start continues. Events
are deleted by `--keep-events`, but never before the event log has them on disk.

`CleanUp` repeats, while the server runs, clean-ups that failed because of the disk or the ledger.
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
SIZE_EVERY_S = 10.0  # longest time for which new files may exceed the size

CLEAN_UP_EVERY_S, CLEAN_UP_EVERY_MOST_S = 5.0, 300.0  # doubled while something cannot be removed

logger = logging.getLogger(__name__)


class Retention:
    """Deletes bytes and events beyond their limits."""

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
            ledger: decides what may be deleted.
            blobs: has files and results.
            outputs: has the output.
            logged: returns the cursor up to which the event log is on disk.
            keep_s: seconds for which the bytes of a settled submission are kept; None: for ever.
            keep_bytes: most bytes kept, those in use included; None: no limit.
            keep_events_s: seconds for which events are kept; None: for ever.
            clock: computes ages.
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
        """Finish what an earlier process began, then sweep until cancelled; returns if everything is kept for ever."""
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
        """Delete what exceeds the limits now.

        Raises:
            OSError, OutOfSpace, Unavailable: disk or ledger failed; the next sweep continues with marked submissions.
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

    A sweep removes leftovers and returns how many it could not remove. While that is not 0, or it raises, the pause
    before its next call doubles.
    """

    def __init__(self, sweeps: Mapping[str, Callable[[], Awaitable[int]]], health: Health) -> None:
        """Take sweeps by name; `/readyz` lists the name of a sweep that cannot finish."""
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
