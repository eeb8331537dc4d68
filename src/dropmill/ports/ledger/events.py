"""What happened, in the order of cursors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.events import Event
from dropmill.model.ids import Cursor, Owner
from dropmill.ports.ledger.history import HistoryLedger, JobReader, SubmissionReader


@dataclass(frozen=True, kw_only=True, slots=True)
class EventPage:
    """Events of a topic in cursor order, and how far was looked: the next read begins after `cursor`.

    Attributes:
        is_cut: whether events of the topic may be missing before these, because the oldest were removed.
    """

    events: Sequence[Event]
    cursor: Cursor
    is_cut: bool = False


class EventLedger(Protocol):
    """Reads events."""

    async def events(self, topic: str, *, after: Cursor, limit: int, visible_to: Owner | None = None) -> EventPage:
        """Events of a topic behind a cursor.

        Args:
            topic: which.
            after: the cursor.
            limit: most events.
            visible_to: only those about what this owner has sent; None: all. Events of the config have no owner.
        """

    async def newest_cursor(self) -> Cursor:
        """The cursor of the newest event; 0 if there is none."""


class FeedLedger(EventLedger, SubmissionReader, JobReader, Protocol):
    """What it takes to follow events and the output of running jobs."""


class ViewLedger(HistoryLedger, EventLedger, Protocol):
    """Reads how things stand, and the cursor from which to follow them."""
