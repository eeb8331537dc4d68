"""The local executor: the slots of this machine, filled with what the ledger has next.

It knows when a job is run, not how: that is `AttemptRunner`. It holds no line of its own, so nothing is lost with it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from dropmill.model.clock import utc_now
from dropmill.model.faults import TEMPORARY
from dropmill.model.ids import JobId
from dropmill.processing.attempt import AttemptRunner
from dropmill.processing.output import OutputRecorder
from dropmill.processing.pool import Slot, SlotPool

UNRECORDED_PER_SLOT = 8  # ends waiting for the ledger at which nothing more is started: its disk stalls
CANCELS_S = 1.0  # between looks for jobs to be cancelled
IDLE_CLAIM_S = 5.0  # between claims without a hint. A hint is lost with a request that is cut off while it commits
END_S = 3.0  # for killed processes to be gone in a drain; the server has promised to exit within 5 s plus grace

logger = logging.getLogger(__name__)


class SlotExecutor:
    """Runs queued jobs in the slots of a pool, as many at once as it has (`dropmill.ports.executor.Executor`)."""

    def __init__(
        self,
        *,
        runner: AttemptRunner,
        pool: SlotPool,
        outputs: OutputRecorder,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Set up; `start` begins.

        Args:
            runner: runs one attempt.
            pool: started and closed here.
            outputs: written behind while this runs.
            on_failure: told, on the loop, of an error in our own code that stopped all this. The server must stop.
        """
        self._runner = runner
        self._pool = pool
        self._outputs = outputs
        self._on_failure = on_failure
        self._hints = 0  # that were given
        self._wakes = 0  # of them, those that no claim was made for yet
        self._is_woken = asyncio.Event()
        self._claim_at = 0.0  # by the loop's clock, if no hint comes before; the first claim needs none
        self._may_be_late = True  # whether jobs may wait for their time
        self._has_cancel = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(pool.size * UNRECORDED_PER_SLOT)
        self._main: asyncio.Task[None] | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self._is_draining = False

    async def start(self) -> None:
        """Start the slots and begin with what waits in the ledger.

        Raises:
            ProcessorError: the processor cannot be used, told in one line.
        """
        await self._runner.prepare()
        try:
            await self._pool.start()
        except BaseException:
            await self._pool.close()
            raise
        self._main = asyncio.create_task(self._work(), name="executor")
        self._main.add_done_callback(self._tell_failure)

    async def drain(self, grace_s: float) -> None:
        """Pick up nothing more, let running attempts end within `grace_s`, then kill their processes.

        What was killed stays running in the ledger; the next start declares it lost.
        """
        self._is_draining = True
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        try:
            async with asyncio.timeout(grace_s):
                await self._is_idle.wait()
        except TimeoutError:
            self._runner.shut_down()
            try:
                async with asyncio.timeout(END_S):
                    await self._is_idle.wait()
            except TimeoutError:
                logger.error("%d attempts did not end; the next start finds them lost", len(self._running))

    async def close(self) -> None:
        """End everything at once; returns when no process of a script and no slot is left."""
        main, self._main = self._main, None
        if main is not None:
            main.cancel()
            await asyncio.wait([main])
        await self._pool.close()

    def wake(self, queue: str | None = None) -> None:
        """Say that jobs may have come into a queue; this executor takes from that of jobs without one alone."""
        if queue is None:
            self._hints += 1
            self._wakes += 1
            self._is_woken.set()

    def cancel(self, job_id: JobId) -> None:
        """Say that the ledger was told to cancel a running job. The attempt's event is the answer."""
        self._has_cancel.set()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pool.keep())
            tasks.create_task(self._outputs.write_behind())
            tasks.create_task(self._see_cancels())
            if not self._is_draining:
                self._dispatcher = tasks.create_task(self._dispatch(tasks))

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            # First the slot, then the job: until one is free the job keeps its place in line.
            slot = await self._pool.acquire()
            try:
                await self._room.acquire()
                await self._wait_for_work()
                is_usable = await self._pool.is_usable(slot)
            except asyncio.CancelledError:
                self._pool.release(slot)
                raise
            if not is_usable:  # it died, or its files changed, while there was nothing to do
                self._room.release()
                continue
            self._wakes = max(self._wakes - 1, 0)
            self._claim_at = asyncio.get_running_loop().time() + IDLE_CLAIM_S
            task = tasks.create_task(self._fill(slot), name="attempt")
            self._running.add(task)
            self._is_idle.clear()
            task.add_done_callback(self._has_run)

    async def _wait_for_work(self) -> None:
        """Return when a claim may find something: after a hint, or at the time that was set for one without."""
        while not self._wakes:
            self._is_woken.clear()
            try:
                async with asyncio.timeout_at(self._claim_at):
                    await self._is_woken.wait()
            except TimeoutError:
                return

    async def _fill(self, slot: Slot) -> None:
        """Run what is next in a slot; if nothing is, give it back."""
        hints = self._hints
        try:
            order = await self._runner.claim()
        except BaseException:
            self._pool.release(slot)
            raise
        if order is None:
            self._wakes = min(self._wakes, self._hints - hints)  # the older ones have been answered
            self._pool.release(slot)
            await self._note_due()
            return
        if not self._wakes:  # there may be more
            self.wake()
        while not await self._pool.is_usable(slot):  # its files changed, or it died, during the claim
            slot = await self._pool.acquire()
        if await self._runner.run(order, slot):
            self._may_be_late = True
            self.wake()

    async def _note_due(self) -> None:
        """See that the first of the jobs that wait for their time is claimed when it has come."""
        if not self._may_be_late:
            return
        self._may_be_late = False  # first: the next job that waits may come while this is read
        due = await self._runner.next_due()
        if due is None:
            return
        self._may_be_late = True
        delay_s = max((due - utc_now()).total_seconds(), 0.0)
        self._claim_at = min(self._claim_at, asyncio.get_running_loop().time() + delay_s)
        self._is_woken.set()

    async def _see_cancels(self) -> None:
        """Look for jobs to be cancelled after each hint, and now and then without: other processes give none here."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCELS_S):
                    await self._has_cancel.wait()
            self._has_cancel.clear()
            try:
                await self._runner.see_cancels()
            except TEMPORARY as error:
                logger.debug("which jobs are to be cancelled cannot be read now: %s", error)  # the ledger reports it

    def _has_run(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        self._running.discard(task)
        if not self._running:
            self._is_idle.set()

    def _tell_failure(self, main: asyncio.Task[None]) -> None:
        if not main.cancelled() and (error := main.exception()) is not None:
            self._on_failure(error)
