"""What people order about jobs: cancel and retry, one by one or all of a submission. HTTP and sockets call the same."""

from dropmill.model.caller import Caller
from dropmill.model.errors import IllegalTransition
from dropmill.model.ids import JobId, SubmissionId
from dropmill.ports.executor import Executor
from dropmill.ports.ledger.jobs import JobLedger

JOBS_A_CHANGE = 250  # some 50 ms of the ledger's writer; others' changes come in between


class Jobs:
    """Cancels and retries jobs."""

    def __init__(self, *, ledger: JobLedger, executor: Executor) -> None:
        self._ledger = ledger
        self._executor = executor

    async def cancel(self, caller: Caller, job_id: JobId) -> None:
        """End a job: a waiting one at once, a running one as soon as its process is gone (its event tells).

        Raises:
            NotFound: there is no such job.
            IllegalTransition: it has settled already.
        """
        if await self._ledger.cancel_queued(job_id):
            self._executor.withdraw(job_id)
            return
        if self._executor.cancel(job_id):
            return
        if (await self._ledger.job(job_id)).state.is_final:
            raise IllegalTransition("The job has settled already; there is nothing to cancel.")
        # Between its pick-up in the ledger and its process there is a moment with nothing to end.
        raise IllegalTransition("The job is just being started; cancel it again in a moment.")

    async def retry(self, caller: Caller, job_id: JobId) -> None:
        """Put a settled job back in line, with today's config.

        Raises:
            NotFound: there is no such job.
            IllegalTransition: it has not settled.
            Removed: its file is no longer kept.
        """
        waiting = await self._ledger.retry_job(job_id)
        self._executor.submit(waiting.id, waiting.submission_id)

    async def cancel_submission(self, caller: Caller, submission_id: SubmissionId) -> None:
        """End all that waits or runs of a submission; what runs, as `cancel` does. Nothing to end is no error.

        Cancelled half-way, what was reached is cancelled and the rest is not.

        Raises:
            NotFound: there is no such submission.
        """
        after: str | None = None
        while True:
            page = await self._ledger.cancel_waiting(submission_id, after=after, limit=JOBS_A_CHANGE)
            for job_id in page.items:
                self._executor.withdraw(job_id)
            if page.next is None:
                break
            after = page.next
        for job_id in await self._ledger.running_jobs(submission_id):
            self._executor.cancel(job_id)

    async def retry_submission(self, caller: Caller, submission_id: SubmissionId) -> None:
        """Put every failed or cancelled job of a submission back in line, with today's config; none is no error.

        Cancelled half-way, what was reached waits in line and the rest is as it was.

        Raises:
            NotFound: there is no such submission.
            Removed: its files are no longer kept.
        """
        after: str | None = None
        while True:
            page = await self._ledger.retry_failed(submission_id, after=after, limit=JOBS_A_CHANGE)
            for job_id in page.items:
                self._executor.submit(job_id, submission_id)
            if page.next is None:
                return
            after = page.next
