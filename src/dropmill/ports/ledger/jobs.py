"""Jobs and their attempts: what people ask for, and what the nodes that run them record."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.by import THIS_MACHINE, By
from dropmill.model.ids import JobId, Owner, SubmissionId
from dropmill.model.jobs import AttemptOutcome, AttemptSpec, Claim, Ended, JobState, RetryPolicy
from dropmill.ports.ledger.config import RevisionReader
from dropmill.ports.ledger.page import Page

PLACES_MAX = 10_000
"""Queue positions that are counted; jobs after them have none."""


class AttemptLedger(RevisionReader, Protocol):
    """Hands out work, and records how each attempt ends."""

    async def claim(self, claim: Claim) -> Sequence[AttemptSpec]:
        """Start attempts of the next jobs in the queue, for this node (`attempt.started`).

        Owners take turns, one job each, and within an owner its submissions do. An owner that has as many jobs running
        as it may is passed over. A job whose time has not come is not in the queue yet.

        Returns:
            At most `claim.most`; fewer if no more are queued. For a claim id seen before: the attempts it started that
            still run.
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
        """Record an attempt's end, and settle its job or requeue it as the retry policy says.

        A job that is to be cancelled is not requeued. A second call for the same attempt returns what was recorded,
        the claim included.

        Args:
            then_claim: what the node wants next, in the same change.

        Returns:
            None, without any change or claim, if the attempt is not this node's, or was declared lost.
        """

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        """Record that an attempt's process vanished (`attempt.lost`).

        Returns:
            `queued` if the job is requeued; `cancelled` if it was to be cancelled; `failed` (error type `lost`) once
            `max_attempts` attempts were lost since the job was first queued or last retried; None, without any change,
            if `number` is not the running attempt.
        """

    async def cancels_asked(self) -> Sequence[tuple[JobId, int]]:
        """The attempts of this node whose jobs are to be cancelled: job and number of the attempt."""

    async def next_due(self) -> datetime | None:
        """When the next job that waits for a time will be queued; None if none waits."""


class JobLedger(Protocol):
    """Cancels jobs and queues them again; each change records by whom.

    `visible_to` is an owner, as in `history`: jobs of others are not found.
    """

    async def request_cancel(
        self, job_id: JobId, *, visible_to: Owner | None = None, by: By = THIS_MACHINE
    ) -> JobState:
        """Settle a queued job as cancelled, or record that a running one is to be cancelled (`job.cancel_requested`).

        Returns:
            `cancelled`; or `running`: the node that runs the attempt will end it, and its event is the answer.

        Raises:
            IllegalTransition: the job has settled already.
        """

    async def retry_job(self, job_id: JobId, *, visible_to: Owner | None = None, by: By = THIS_MACHINE) -> None:
        """Requeue a settled job with the newest config revision (`job.retry_requested`).

        Raises:
            Removed: its file's bytes are no longer kept.
        """

    async def retry_failed(
        self,
        submission_id: SubmissionId,
        *,
        after: str | None,
        limit: int,
        visible_to: Owner | None = None,
        by: By = THIS_MACHINE,
    ) -> Page[JobId]:
        """Requeue the next `limit` failed or cancelled jobs of a submission, in one transaction.

        Raises:
            Removed: the submission's bytes are no longer kept.
        """

    async def request_cancels(
        self,
        submission_id: SubmissionId,
        *,
        after: str | None,
        limit: int,
        visible_to: Owner | None = None,
        by: By = THIS_MACHINE,
    ) -> Page[JobId]:
        """Do `request_cancel` for the next `limit` queued or running jobs of a submission, in one transaction.

        A running one is not requeued from then on, so one pass over all pages is enough.

        Returns:
            Those that are running.
        """
