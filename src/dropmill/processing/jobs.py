"""What people order about jobs: cancel and retry."""

from dropmill.model.errors import IllegalTransition
from dropmill.model.ids import JobId
from dropmill.ports import Executor, Ledger


class Jobs:
    """Cancels and retries jobs."""

    def __init__(self, *, ledger: Ledger, executor: Executor) -> None:
        self._ledger = ledger
        self._executor = executor

    async def cancel(self, job_id: JobId) -> None:
        """End a job: a waiting one at once, a running one as soon as its process is gone (its event tells).

        Raises:
            NotFound: there is no such job.
            IllegalTransition: it has settled already.
        """
        if await self._ledger.cancel_queued(job_id) or self._executor.cancel(job_id):
            return
        if (await self._ledger.job(job_id)).state.is_final:
            raise IllegalTransition("The job has settled already; there is nothing to cancel.")
        # Between its pick-up in the ledger and its process there is a moment with nothing to end.
        raise IllegalTransition("The job is just being started; cancel it again in a moment.")

    async def retry(self, job_id: JobId) -> None:
        """Put a settled job back in line, with today's config.

        Raises:
            NotFound: there is no such job.
            IllegalTransition: it has not settled.
        """
        await self._ledger.retry_job(job_id)
        self._executor.submit(job_id)
