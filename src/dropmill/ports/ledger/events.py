"""Events, in the order of their cursors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.events import Event
from dropmill.model.ids import Cursor, LedgerId, Owner
from dropmill.ports.ledger.history import HistoryLedger, JobReader, SubmissionReader
from dropmill.ports.ledger.notices import NoticeLedger


@dataclass(frozen=True, kw_only=True, slots=True)
class EventPage:
    """Events of a topic in cursor order.

    Attributes:
        cursor: where the next read begins: after it; reading backwards, before it, and 0 if this is the oldest page.
        is_cut: whether older events of the topic may be missing, because the oldest were removed.
    """

    events: Sequence[Event]
    cursor: Cursor
    is_cut: bool = False


class EventLedger(Protocol):
    """Reads events."""

    async def events(self, topic: str, *, after: Cursor, limit: int, visible_to: Owner | None = None) -> EventPage:
        """Events of a topic after a cursor.

        Args:
            topic: which.
            after: the cursor.
            limit: most events.
            visible_to: only those about what this owner has sent; None: all. Events of the config have no owner.
        """

    async def events_before(
        self, topic: str, *, before: Cursor, limit: int, visible_to: Owner | None = None
    ) -> EventPage:
        """The last events of a topic before a cursor, oldest first as always; see `events`."""

    async def newest_cursor(self) -> Cursor:
        """The cursor of the newest event; 0 if there is none."""


class FeedLedger(EventLedger, SubmissionReader, JobReader, NoticeLedger, Protocol):
    """The reads for following events, notices and the output of running jobs."""

    @property
    def id(self) -> LedgerId:
        """The ledger's id: made once, kept through restarts. A cursor of another ledger means nothing in this one."""


class ViewLedger(HistoryLedger, EventLedger, Protocol):
    """Reads current state, and the cursor from which to follow its changes."""
