"""Notification that something moved. Losing one loses nothing: what counts is read from the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dropmill.model.ids import FileId
from dropmill.model.jobs import Progress


@dataclass(slots=True)
class Notification:
    """What moved since a subscriber last looked; the newest only, so it is bounded by what was joined.

    Attributes:
        positions: topic or stream to the newest cursor or byte offset known for it.
        progress: newest report for each file and stage.
    """

    positions: dict[str, int] = field(default_factory=dict)
    progress: dict[tuple[FileId, str], Progress] = field(default_factory=dict)


class Subscription(Protocol):
    """One subscriber's mailbox."""

    def join(self, topic: str) -> None:
        """Hear of a topic or stream from now on."""

    def leave(self, topic: str) -> None:
        """Hear no more of it."""

    async def next(self) -> Notification:
        """Wait until something moved, then take it all; newer hints replace older ones meanwhile."""

    def close(self) -> None:
        """Hear nothing more."""


DELIVERIES = "deliveries"
"""The stream that moves when the webhook has something to tell. Not for subscribers outside."""


class Bus(Protocol):
    """Notification. May lose them, never blocks a publisher, keeps one mailbox a subscriber, bounded by latest-wins."""

    def publish(self, positions: Mapping[str, int]) -> None:
        """Say that topics or streams have reached these cursors or offsets."""

    def report(self, progress: Progress) -> None:
        """Carry a progress report to those who follow the file's submission, or `all`."""

    def newest_progress(self, file_id: FileId, stage: str) -> Progress | None:
        """The newest report of a file's running stage; None if there is none."""

    def forget_progress(self, file_id: FileId) -> None:
        """A file's stage has ended; its reports are of no more use."""

    def subscribe(self) -> Subscription:
        """A new mailbox that has joined nothing yet."""
