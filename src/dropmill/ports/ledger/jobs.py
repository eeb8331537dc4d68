"""Jobs and their attempts: what people ask for, and what whoever runs them records."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.jobs import AttemptOutcome, AttemptSpec, Claim, Ended, JobState, RetryPolicy
from dropmill.ports.ledger.config import RevisionReader
from dropmill.ports.ledger.page import Page

PLACES_MAX = 10_000
"""Places in line that are told; behind them a job just waits."""


class AttemptLedger(RevisionReader, Protocol):
    """Hands out work, and records what becomes of each attempt."""

    async def claim(self, claim: Claim) -> Sequence[AttemptSpec]:
        """Start attempts of the jobs that are next, for this node (`attempt.started`).

        Submissions take turns: each time one of their jobs is started, they stand behind the others. A job whose
        time has not come is not in line yet.

        Returns:
            At most `claim.most`; fewer if no more wait. Asked again with the same id: what was claimed then and still
            runs.
        """

    async def end_attempt(
        self,
        job_id: JobId,
        number: int,
        outcome: AttemptOutcome,
        retry: RetryPolicy | None = None,
        *,
        then_claim: Claim | None = None,
    ) -> Ended | None:
        """Record an attempt's end and settle its job, or put it back in line as the retry policy says.

        One whose job is to be cancelled is not tried again. To ask again is no error: what was recorded is told, the
        claim included.

        Args:
            then_claim: what the node wants next, in the same change.

        Returns:
            None, and no change, not even the claim, if the attempt is not this node's, or was declared lost.
        """

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        """Record that an attempt's process vanished (`attempt.lost`).

        Returns:
            `queued` if the job goes back in line; `cancelled` if it was to be cancelled; `failed` (error type `lost`)
            once `max_attempts` attempts of the job were lost since it was last asked for; None, and no change, if
            `number` is not the running attempt.
        """

    async def cancels_asked(self) -> Sequence[tuple[JobId, int]]:
        """The attempts that this node runs and whose jobs are to be cancelled: job and number of the attempt."""

    async def next_due(self) -> datetime | None:
        """When the first of the jobs comes into line that wait for their time; None if none does."""


class JobLedger(Protocol):
    """Cancels jobs and queues them again."""

    async def request_cancel(self, job_id: JobId) -> JobState:
        """Settle a queued job as cancelled, or record that a running one is to be.

        Returns:
            `cancelled`; or `running`: whoever runs the attempt sees the wish and ends it, and its event is the answer.

        Raises:
            IllegalTransition: the job has settled already.
        """

    async def retry_job(self, job_id: JobId) -> None:
        """Put a settled job back in line with the newest config revision.

        Raises:
            Removed: its file's bytes are no longer kept.
        """

    async def retry_failed(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        """Put the next `limit` failed or cancelled jobs of a submission back in line; a call is one transaction.

        Raises:
            Removed: the submission's bytes are no longer kept.
        """

    async def request_cancels(self, submission_id: SubmissionId, *, after: str | None, limit: int) -> Page[JobId]:
        """Do as `request_cancel` for the next `limit` queued or running jobs of a submission, in one transaction.

        A running one cannot be put back in line from then on, so what a page has passed needs no second look.

        Returns:
            Those of them that run.
        """
