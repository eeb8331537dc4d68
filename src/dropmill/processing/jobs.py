"""Cancel and retry, of one job or of all jobs of a submission; HTTP and sockets both call this."""

from dropmill.access.policy import visible_to
from dropmill.model.by import by
from dropmill.model.caller import Caller
from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.jobs import JobState
from dropmill.ports.executor import Executor
from dropmill.ports.ledger.jobs import JobLedger

JOBS_A_CHANGE = 250  # some 50 ms of the ledger's writer; other changes are made in between


class Jobs:
    """Cancels and retries jobs; those that the caller may not see are not found."""

    def __init__(self, *, ledger: JobLedger, executor: Executor) -> None:
        self._ledger = ledger
        self._executor = executor

    async def cancel(self, caller: Caller, job_id: JobId) -> None:
        """Cancel a job: a queued one at once, a running one as soon as its process is gone, which an event reports.

        Raises:
            NotFound: there is no such job.
            IllegalTransition: it has settled already.
        """
        if await self._ledger.request_cancel(job_id, visible_to=visible_to(caller), by=by(caller)) is JobState.RUNNING:
            self._executor.cancel(job_id)

    def wake(self) -> None:
        """Have jobs looked for that may run now: an owner's limit was raised."""
        self._executor.wake()

    async def retry(self, caller: Caller, job_id: JobId) -> None:
        """Queue a settled job again, with the newest config.

        Raises:
            NotFound: there is no such job.
            IllegalTransition: it has not settled.
            Removed: its file is no longer kept.
        """
        await self._ledger.retry_job(job_id, visible_to=visible_to(caller), by=by(caller))
        self._executor.wake()

    async def cancel_submission(self, caller: Caller, submission_id: SubmissionId) -> None:
        """Cancel every queued or running job of a submission, as `cancel` does; no error if there is none.

        If this coroutine is cancelled, some of the jobs are cancelled and the others are unchanged.

        Raises:
            NotFound: there is no such submission.
        """
        owner = visible_to(caller)
        after: str | None = None
        while True:
            page = await self._ledger.request_cancels(
                submission_id, after=after, limit=JOBS_A_CHANGE, visible_to=owner, by=by(caller)
            )
            for job_id in page.items:
                self._executor.cancel(job_id)
            if page.next is None:
                return
            after = page.next

    async def retry_submission(self, caller: Caller, submission_id: SubmissionId) -> None:
        """Queue every failed or cancelled job of a submission again, with the newest config; no error if there is none.

        If this coroutine is cancelled, some of the jobs are queued and the others are unchanged.

        Raises:
            NotFound: there is no such submission.
            Removed: its files are no longer kept.
        """
        owner = visible_to(caller)
        after: str | None = None
        while True:
            page = await self._ledger.retry_failed(
                submission_id, after=after, limit=JOBS_A_CHANGE, visible_to=owner, by=by(caller)
            )
            if page.items:
                self._executor.wake()
            if page.next is None:
                return
            after = page.next
