"""Jobs and their attempts: what people ask for, and what whoever runs them records."""

from collections.abc import Sequence
from typing import Protocol

from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.records import AttemptOrder, AttemptOutcome, JobState, QueuedJob, RetryPolicy
from dropmill.ports.ledger.config import RevisionReader
from dropmill.ports.ledger.history import JobReader
from dropmill.ports.ledger.page import Page


class AttemptLedger(JobReader, RevisionReader, Protocol):
    """Records what becomes of each attempt."""

    async def start_attempt(self, job_id: JobId, host: str) -> AttemptOrder | None:
        """Guarded transition of a queued job to running (`attempt.started`); None if it is not queued any more."""

    async def end_attempt(
        self, job_id: JobId, number: int, outcome: AttemptOutcome, retry: RetryPolicy | None = None
    ) -> JobState | None:
        """Record an attempt's end and settle its job, or put it back in line as the retry policy says.

        Returns:
            What the job is now; None, and no change, if `number` is not the running attempt.
        """

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        """Record that an attempt's process vanished (`attempt.lost`).

        Returns:
            `queued` if the job goes back in line; `failed` (error type `lost`) once `max_attempts` attempts of the
            job were lost since it was last asked for; None, and no change, if `number` is not the running attempt.
        """


class JobLedger(JobReader, Protocol):
    """Cancels jobs and queues them again."""

    async def cancel_queued(self, job_id: JobId) -> bool:
        """Settle a queued job as cancelled; False if it is not queued (ask the executor to cancel a running one)."""

    async def retry_job(self, job_id: JobId) -> QueuedJob:
        """Put a settled job back in line with the newest config revision; returns it as it waits now.

        Raises:
            Removed: its file's bytes are no longer kept.
        """

    async def retry_failed(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        """Put the next `limit` failed or cancelled jobs of a submission back in line; a call is one transaction.

        Raises:
            Removed: the submission's bytes are no longer kept.
        """

    async def cancel_waiting(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        """Settle the next `limit` queued jobs of a submission as cancelled; a call is one transaction."""

    async def running_jobs(self, submission_id: SubmissionId) -> Sequence[JobId]:
        """The running jobs of a submission."""
