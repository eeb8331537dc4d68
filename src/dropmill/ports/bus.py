"""Notifications that something moved. Losing one loses nothing: the ledger has everything that counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.jobs import Progress


@dataclass(slots=True)
class Notification:
    """What moved since a subscriber last called `next`; the newest only, so its size is bounded by what was joined.

    Attributes:
        positions: topic or stream to the newest cursor or byte offset known for it; 0: it may have moved.
        progress: newest report for each file and stage.
    """

    positions: dict[str, int] = field(default_factory=dict)
    progress: dict[tuple[FileId, str], Progress] = field(default_factory=dict)


class Subscription(Protocol):
    """One subscriber's mailbox."""

    def join(self, topic: str) -> None:
        """Get notifications of a topic or stream from now on."""

    def leave(self, topic: str) -> None:
        """Get no more notifications of it."""

    async def next(self) -> Notification:
        """Wait until something moved, then take everything; newer notifications replace older ones meanwhile."""

    def close(self) -> None:
        """Unsubscribe."""


DELIVERIES = "deliveries"
"""The stream that moves when a delivery to the webhook is recorded. Not for clients."""


NOTICES = "notices"
"""The stream that moves when a notice is posted or withdrawn. Not for clients."""


def senders_of(submission_id: SubmissionId) -> str:
    """The stream that moves when files of a submission begin or cease to be sent. Not for clients."""
    return f"senders:{submission_id}"


class Bus(Protocol):
    """Carries notifications. May lose some; never blocks a publisher; keeps the newest only in each mailbox."""

    def publish(self, positions: Mapping[str, int]) -> None:
        """Notify subscribers that topics or streams have reached these cursors or offsets."""

    def report(self, progress: Progress) -> None:
        """Send a progress report to subscribers of the file's submission, and of `all`."""

    def newest_progress(self, file_id: FileId, stage: str) -> Progress | None:
        """The newest report of a file's stage; None if there is none."""

    def forget_progress(self, file_id: FileId) -> None:
        """Forget the reports of a file whose stage has ended."""

    def subscribe(self) -> Subscription:
        """A new mailbox that has joined nothing yet."""
