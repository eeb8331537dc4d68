"""The local executor: it runs the ledger's queued jobs in the slots of this machine.

It decides when a job runs; how is up to `AttemptRunner`. It has no queue of its own, so nothing is lost with it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine

from dropmill.model.clock import utc_now
from dropmill.model.faults import TEMPORARY
from dropmill.model.ids import JobId
from dropmill.model.jobs import AttemptSpec, Claim, Ended
from dropmill.processing.attempt import AttemptRunner
from dropmill.processing.output import OutputRecorder
from dropmill.processing.pool import Slot, SlotPool

UNRECORDED_PER_SLOT = 8  # ends that wait for the ledger, at which nothing more is started: its disk stalls
CANCELS_S = 1.0  # between polls for jobs to be cancelled
IDLE_CLAIM_S = 5.0  # between claims without a hint; a request that is cut off while it commits gives none
END_S = 3.0  # for killed processes to end in a drain; the server promises to exit within 5 s plus grace

logger = logging.getLogger(__name__)


class _Loan:
    """One attempt's loan of a slot (`dropmill.processing.attempt.SlotLoan`).

    Attributes:
        has_claimed: whether a claim was made for the slot.
        has_found_none: whether it found no job.
    """

    def __init__(self, executor: "SlotExecutor", tasks: asyncio.TaskGroup, slot: Slot) -> None:
        self._executor = executor
        self._tasks = tasks
        self._slot = slot
        self._hints: int | None = None  # that came before the claim; None: none was made
        self.has_found_none = False

    def next_claim(self) -> Claim | None:
        self._hints = self._executor.begin_claim_for(self._slot)
        return None if self._hints is None else self._executor.new_claim()

    @property
    def has_claimed(self) -> bool:
        return self._hints is not None

    def end(self, recorded: Ended | None) -> None:
        order = recorded.orders[0] if recorded is not None and recorded.orders else None
        if self._hints is not None:
            self.has_found_none = recorded is not None and order is None
            self._executor.has_claimed(self._hints, is_found=not self.has_found_none)
        self._executor.reuse(self._tasks, self._slot, order)


class SlotExecutor:
    """Runs queued jobs in the slots of a pool, one in each (`dropmill.ports.executor.Executor`)."""

    def __init__(
        self,
        *,
        runner: AttemptRunner,
        pool: SlotPool,
        outputs: OutputRecorder,
        on_failure: Callable[[BaseException], None],
        queues: tuple[str | None, ...] = (None,),
    ) -> None:
        """Touch nothing yet.

        Args:
            runner: runs one attempt.
            pool: started and closed here.
            outputs: its `write_behind` runs here.
            on_failure: called on the loop with a bug that has stopped this executor. The server must stop.
            queues: whose jobs it runs, in this order; None is the queue of jobs without a named one.
        """
        self._queues = queues
        self._runner = runner
        self._pool = pool
        self._outputs = outputs
        self._on_failure = on_failure
        self._hints = 0  # number of hints so far
        self._wakes = 0  # those of them that no claim has answered yet
        self._is_woken = asyncio.Event()
        self._claim_at = 0.0  # by the loop's clock, if no hint comes before; the first claim is made at once
        self._may_be_late = True  # whether jobs may wait for their time (`Job.not_before`)
        self._has_cancel = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(pool.size * UNRECORDED_PER_SLOT)
        self._main: asyncio.Task[None] | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self._is_draining = False

    async def start(self) -> None:
        """Start the slots, and run what is queued in the ledger.

        Raises:
            ProcessorError: the processor cannot be used; its sentence says why.
        """
        await self._runner.prepare()
        try:
            await self._pool.start()
        except BaseException:
            await self._pool.close()
            raise
        self._main = asyncio.create_task(self._work(), name="executor")
        self._main.add_done_callback(self._report_failure)

    async def drain(self, grace_s: float) -> None:
        """Claim nothing more, wait `grace_s` for running attempts, then kill their processes.

        A killed attempt stays running in the ledger; the next start declares it lost.
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
                logger.error("%d attempts did not end; the next start declares them lost", len(self._running))

    async def close(self) -> None:
        """Kill everything; returns when no process of a script and no slot is left."""
        main, self._main = self._main, None
        if main is not None:
            main.cancel()
            await asyncio.wait([main])
        await self._pool.close()

    def wake(self, queue: str | None = None) -> None:
        """Take the hint that a queue may have jobs; of a queue that this executor does not serve it means nothing."""
        if queue in self._queues:
            self._hints += 1
            self._wakes += 1
            self._is_woken.set()

    def wake_all(self) -> None:
        """Take the hint that some queue may have jobs."""
        self.wake(self._queues[0])

    def cancel(self, job_id: JobId) -> None:
        """Take the hint that a running job is to be cancelled. The attempt's event is the answer."""
        self._has_cancel.set()

    def see_cancels(self) -> None:
        """Take the hint that some running job is to be cancelled."""
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
            # First a slot, then a job: until a slot is free the job stays queued in the ledger.
            slot = await self._pool.acquire()
            try:
                await self._room.acquire()
                await self._wait_for_work()
                is_usable = await self._pool.is_usable(slot)
            except asyncio.CancelledError:
                self._pool.release(slot)
                raise
            if not is_usable:  # it died, or the callable's files changed, while there was nothing to do
                self._room.release()
                continue
            self._begin(tasks, self._fill(tasks, slot))

    def _begin(self, tasks: asyncio.TaskGroup, attempt: Coroutine[None, None, None]) -> None:
        """Start a task that has a place in `_room`."""
        task = tasks.create_task(attempt, name="attempt")
        self._running.add(task)
        self._is_idle.clear()
        task.add_done_callback(self._has_run)

    async def _wait_for_work(self) -> None:
        """Wait for a hint, or until `_claim_at`."""
        while not self._wakes:
            self._is_woken.clear()
            try:
                async with asyncio.timeout_at(self._claim_at):
                    await self._is_woken.wait()
            except TimeoutError:
                return

    async def _fill(self, tasks: asyncio.TaskGroup, slot: Slot) -> None:
        """Claim the next job and run it in a slot; if there is none, release the slot."""
        hints = self._begin_claim()
        try:
            order = await self._runner.claim(self.new_claim())
        except BaseException:
            self._pool.release(slot)
            raise
        self.has_claimed(hints, is_found=order is not None)
        if order is None:
            self._pool.release(slot)
            await self._note_due()
            return
        await self._run(tasks, order, slot)

    async def _run(self, tasks: asyncio.TaskGroup, order: AttemptSpec, slot: Slot) -> None:
        while not await self._pool.is_usable(slot):  # it died, or the callable's files changed, during the claim
            slot = await self._pool.acquire()
        loan = _Loan(self, tasks, slot)
        if await self._runner.run(order, slot, loan):
            self._may_be_late = True
            self.wake(self._queues[0])
        elif loan.has_found_none:
            await self._note_due()
        elif not loan.has_claimed:
            self.wake()  # its owner may have one more running now

    def new_claim(self) -> Claim:
        """A claim of one job of its queues."""
        return Claim(queues=self._queues)

    def begin_claim_for(self, slot: Slot) -> int | None:
        """Begin a claim for a slot whose attempt has ended; see `_begin_claim`. None: none may be made.

        Also if the last claim found no job: its owner may have had as many running as it may. This claim costs two
        look-ups, in the change that records the end.
        """
        is_ready = slot.is_alive and not slot.is_watching and not self._is_draining  # files are checked before a claim
        return self._begin_claim() if is_ready else None

    def _begin_claim(self) -> int:
        """Count a claim as an answer to a hint; returns the number of hints that came before it."""
        self._wakes = max(self._wakes - 1, 0)
        self._claim_at = asyncio.get_running_loop().time() + IDLE_CLAIM_S
        return self._hints

    def has_claimed(self, hints: int, *, is_found: bool) -> None:
        """Note whether there may be more to claim: a claim has found a job, or was not made in the end, or found none.

        Args:
            hints: what `_begin_claim` returned.
            is_found: False if it found none.
        """
        if not is_found:
            self._wakes = min(self._wakes, self._hints - hints)  # this claim has answered the older ones
        elif not self._wakes:
            self.wake(self._queues[0])

    def reuse(self, tasks: asyncio.TaskGroup, slot: Slot, order: AttemptSpec | None) -> None:
        """Take a slot back from an attempt, and run the one that was claimed for it."""
        if order is None:
            self._pool.release(slot)
        else:
            self._begin(tasks, self._run_next(tasks, order, slot))

    async def _run_next(self, tasks: asyncio.TaskGroup, order: AttemptSpec, slot: Slot) -> None:
        await self._room.acquire()  # waits only for folders that are still being removed
        await self._run(tasks, order, slot)

    async def _note_due(self) -> None:
        """Set `_claim_at` to the time at which the first of the jobs that wait for their time is due."""
        if not self._may_be_late:
            return
        self._may_be_late = False  # before the read: another job may begin to wait during it
        due = await self._runner.next_due()
        if due is None:
            return
        self._may_be_late = True
        delay_s = max((due - utc_now()).total_seconds(), 0.0)
        self._claim_at = min(self._claim_at, asyncio.get_running_loop().time() + delay_s)
        self._is_woken.set()

    async def _see_cancels(self) -> None:
        """Stop attempts to be cancelled, after each hint and every second: other processes give no hint here."""
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

    def _report_failure(self, main: asyncio.Task[None]) -> None:
        if not main.cancelled() and (error := main.exception()) is not None:
            self._on_failure(error)
