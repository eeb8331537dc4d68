"""Calls of the webhook that are still to be made."""

from dataclasses import dataclass
from datetime import datetime

from dropmill.model.ids import SubmissionId
from dropmill.model.submissions import Counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One call of the webhook that is still to be made.

    Attributes:
        number: how often the submission had settled; with its id this names the delivery.
        counts: as they were when it settled.
        tries: calls made in vain so far.
        due_at: when the next one may be made.
    """

    submission_id: SubmissionId
    number: int
    settled_at: datetime
    counts: Counts
    tries: int
    due_at: datetime
