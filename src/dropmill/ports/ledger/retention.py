"""Removal of bytes and events by age or size."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.ids import Cursor, SubmissionId
from dropmill.model.retention import KeptBytes


class RetentionLedger(Protocol):
    """Finds what may be removed, and records that it was."""

    async def begin_removal(self, submission_id: SubmissionId, settled_at: datetime) -> bool:
        """Record that a submission's bytes will be deleted; from then on none of its jobs can be retried.

        Returns:
            False, without any change, unless the submission is settled since `settled_at` and its bytes are kept.
        """

    async def end_removal(self, submission_id: SubmissionId) -> None:
        """Record that the bytes are gone."""

    async def removable(
        self, *, before: datetime | None, keep_bytes: int | None, limit: int
    ) -> Sequence[tuple[SubmissionId, datetime]]:
        """Settled submissions whose bytes should be removed, oldest first, with the time at which they settled.

        Args:
            before: names those that settled before; None: age names none.
            keep_bytes: names the oldest until no more than this is kept; None: size names none.
            limit: most submissions.
        """

    async def removals(self, limit: int) -> Sequence[KeptBytes]:
        """The bytes that are still to be deleted after `begin_removal`."""

    async def remove_events(self, *, before: datetime, up_to: Cursor, limit: int) -> int:
        """Delete at most `limit` of the oldest events; returns how many.

        The newest event stays, whatever its age, so that cursors never start again.

        Args:
            before: only older events.
            up_to: only events up to this cursor.
            limit: most events.
        """
