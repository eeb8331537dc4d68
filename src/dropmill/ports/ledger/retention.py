"""What is kept, and what is removed by age or size."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.ids import Cursor, SubmissionId
from dropmill.model.retention import KeptBytes


class RetentionLedger(Protocol):
    """Finds and records what may go."""

    async def begin_removal(self, submission_id: SubmissionId, settled_at: datetime) -> bool:
        """Record that a submission's bytes are removed; from then on none of its jobs can be retried.

        Returns:
            False, and no change, unless it has been settled since `settled_at` and its bytes are kept.
        """

    async def end_removal(self, submission_id: SubmissionId) -> None:
        """Record that the bytes are gone."""

    async def removable(
        self, *, before: datetime | None, keep_bytes: int | None, limit: int
    ) -> Sequence[tuple[SubmissionId, datetime]]:
        """Settled submissions whose bytes should go, oldest first, with when they settled.

        Args:
            before: those that settled until then; None: none because of its age.
            keep_bytes: as many of the oldest as it takes until no more than this is kept; None: none because of it.
            limit: most submissions wanted.
        """

    async def removals(self, limit: int) -> Sequence[KeptBytes]:
        """What is still to be deleted after `begin_removal`."""

    async def remove_events(self, *, before: datetime, up_to: Cursor, limit: int) -> int:
        """Remove at most `limit` of the oldest events, of before a time and not behind a cursor; returns how many.

        The newest event stays, whatever its age, so that cursors go on where they are.
        """
