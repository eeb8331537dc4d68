"""Calls of the webhook that are still due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.deliveries import Delivery
from dropmill.model.ids import SubmissionId


class DeliveryLedger(Protocol):
    """Keeps deliveries until they succeed or are given up."""

    async def deliveries(self, limit: int) -> Sequence[Delivery]:
        """The next calls of the webhook, by their due time; of each submission only the first."""

    async def end_delivery(self, submission_id: SubmissionId, number: int) -> None:
        """Delete a delivery that succeeded, or is given up."""

    async def postpone_delivery(self, submission_id: SubmissionId, number: int, due_at: datetime) -> None:
        """Record that a call failed, and when the next one may be made."""
