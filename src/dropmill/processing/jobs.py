"""What people order about jobs: cancel and retry, one by one or all of a submission. HTTP and sockets call the same."""

from dropmill.model.caller import Caller
from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.jobs import JobState
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
        if await self._ledger.request_cancel(job_id) is JobState.RUNNING:
            self._executor.cancel(job_id)

    async def retry(self, caller: Caller, job_id: JobId) -> None:
        """Put a settled job back in line, with today's config.

        Raises:
            NotFound: there is no such job.
            IllegalTransition: it has not settled.
            Removed: its file is no longer kept.
        """
        await self._ledger.retry_job(job_id)
        self._executor.wake()

    async def cancel_submission(self, caller: Caller, submission_id: SubmissionId) -> None:
        """End all that waits or runs of a submission; what runs, as `cancel` does. Nothing to end is no error.

        Cancelled half-way, what was reached is cancelled and the rest is not.

        Raises:
            NotFound: there is no such submission.
        """
        after: str | None = None
        while True:
            page = await self._ledger.request_cancels(submission_id, after=after, limit=JOBS_A_CHANGE)
            for job_id in page.items:
                self._executor.cancel(job_id)
            if page.next is None:
                return
            after = page.next

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
            if page.items:
                self._executor.wake()
            if page.next is None:
                return
            after = page.next
