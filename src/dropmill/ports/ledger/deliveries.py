"""Calls of the webhook that are still to be made."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.deliveries import Delivery
from dropmill.model.ids import SubmissionId


class DeliveryLedger(Protocol):
    """Keeps deliveries until they are made or given up."""

    async def deliveries(self, limit: int) -> Sequence[Delivery]:
        """The next calls of the webhook, by when they are due; of each submission only the one whose turn it is."""

    async def end_delivery(self, submission_id: SubmissionId, number: int) -> None:
        """Forget a delivery: it was made, or is given up."""

    async def postpone_delivery(self, submission_id: SubmissionId, number: int, due_at: datetime) -> None:
        """Record that a call was made in vain, and when the next one may be."""
