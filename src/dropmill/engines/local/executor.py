"""The embedded executor: one line of job ids, in which submissions take turns, and the slots of this machine.

It knows when a job is run, not how: that is `AttemptRunner`. The line is rebuilt from the ledger at start-up by
whoever starts it, so nothing is lost with it.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from dropmill.engines.local.line import Line
from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.records import utc_now
from dropmill.processing.attempt import AttemptRunner
from dropmill.processing.output import OutputRecorder
from dropmill.processing.pool import Slot, SlotPool

UNRECORDED_PER_SLOT = 8  # ends waiting for the ledger at which nothing more is started: its disk stalls
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
        # Bounded by the queued jobs of the ledger: an id waits once, and costs some 300 bytes.
        self._line = Line()
        self._later: dict[JobId, asyncio.TimerHandle] = {}
        self._has_jobs = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(pool.size * UNRECORDED_PER_SLOT)
        self._main: asyncio.Task[None] | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self._is_draining = False

    async def start(self) -> None:
        """Start the slots and begin with the line.

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
        for job_id in list(self._later):
            self._stop_timer(job_id)
        main, self._main = self._main, None
        if main is not None:
            main.cancel()
            await asyncio.wait([main])
        await self._pool.close()

    def submit(self, job_id: JobId, submission_id: SubmissionId, not_before: datetime | None = None) -> None:
        """Put a job in line; one that waits already keeps its place. One with a time comes into line at that time."""
        self._stop_timer(job_id)
        delay_s = 0.0 if not_before is None else (not_before - utc_now()).total_seconds()
        if delay_s > 0:
            loop = asyncio.get_running_loop()
            self._later[job_id] = loop.call_later(delay_s, self.submit, job_id, submission_id)
            return
        self._line.add(job_id, submission_id)
        self._has_jobs.set()

    def withdraw(self, job_id: JobId) -> None:
        """Take a job out of line that does not wait any more; none is no error."""
        self._stop_timer(job_id)
        self._line.withdraw(job_id)

    def _stop_timer(self, job_id: JobId) -> None:
        timer = self._later.pop(job_id, None)
        if timer is not None:
            timer.cancel()

    def cancel(self, job_id: JobId) -> bool:
        """Ask for a job's running attempt to be ended; False if none runs here. The attempt's event is the answer."""
        return self._runner.cancel(job_id)

    def position(self, job_id: JobId) -> int | None:
        """Estimated place in line, 1 being next; None if it does not wait here, or waits for its time to come."""
        return self._line.place(job_id)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pool.keep())
            tasks.create_task(self._outputs.write_behind())
            if not self._is_draining:
                self._dispatcher = tasks.create_task(self._dispatch(tasks))

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            # First the slot, then the job: until one is free the job keeps its place in line.
            slot = await self._pool.acquire()
            try:
                await self._room.acquire()
                while not self._line:
                    self._has_jobs.clear()
                    await self._has_jobs.wait()
                is_usable = await self._pool.is_usable(slot)
            except asyncio.CancelledError:
                self._pool.release(slot)
                raise
            if not is_usable:  # it died, or its files changed, while there was nothing to do
                self._room.release()
                continue
            job_id = self._line.take()
            task = tasks.create_task(self._run(job_id, slot), name=f"job {job_id}")
            self._running.add(task)
            self._is_idle.clear()
            task.add_done_callback(self._has_run)

    async def _run(self, job_id: JobId, slot: Slot) -> None:
        waiting = await self._runner.run(job_id, slot)
        if waiting is not None:
            self.submit(waiting.id, waiting.submission_id, waiting.not_before)

    def _has_run(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        self._running.discard(task)
        if not self._running:
            self._is_idle.set()

    def _tell_failure(self, main: asyncio.Task[None]) -> None:
        if not main.cancelled() and (error := main.exception()) is not None:
            self._on_failure(error)
