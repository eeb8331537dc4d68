"""A submission: one press of Submit."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import LinkId, SubmissionId


class Outcome(StrEnum):
    """How a settled submission ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many files of a submission are in each state; each file counts once."""

    announced: int = 0
    receiving: int = 0
    aborted: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def in_progress(self) -> int:
        """Files that keep the submission from settling."""
        return self.announced + self.receiving + self.queued + self.running

    @property
    def total(self) -> int:
        """All files, whatever their state."""
        return self.in_progress + self.aborted + self.succeeded + self.failed + self.cancelled

    def outcome(self, given_up: int, replaced: int) -> Outcome | None:
        """How a submission with these counts ended; None if it had no file.

        One file that failed or broke off makes it failed; otherwise one that was cancelled makes it cancelled.

        Args:
            given_up: how many of the aborted files their client cancelled.
            replaced: how many of them were stored when they were sent again.
        """
        if self.failed or self.aborted > given_up + replaced:
            return Outcome.FAILED
        if self.cancelled or given_up:
            return Outcome.CANCELLED
        return Outcome.SUCCEEDED if self.succeeded else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ByLink:
    """By which link a submission came, and from whom.

    Attributes:
        label: of the link.
        name: who the sender said to be, which nobody has checked; None without.
    """

    id: LinkId
    label: str
    name: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One press of Submit.

    Attributes:
        is_open: whether more files may come; the ledger stores no other state of a submission.
        settled_at: when it last settled; None while it is not settled.
        times_settled: how often it settled; more than once after a retry.
        given_up: how many of its aborted files their client cancelled.
        replaced: how many of them were stored when they were sent again, each as a further file.
        by_link: None unless it came by a link.
    """

    id: SubmissionId
    is_open: bool
    opened_at: datetime
    settled_at: datetime | None
    times_settled: int
    client: ClientIdentity
    account: str | None
    counts: Counts
    given_up: int = 0
    replaced: int = 0
    by_link: ByLink | None = None

    @property
    def is_settled(self) -> bool:
        """Not open, and no file announced or receiving, no job queued or running."""
        return not self.is_open and self.counts.in_progress == 0

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None until it is settled, and if no file came."""
        return self.counts.outcome(self.given_up, self.replaced) if self.is_settled else None
