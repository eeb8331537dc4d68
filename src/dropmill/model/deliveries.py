"""Calls of the webhook that are still due."""

from dataclasses import dataclass
from datetime import datetime

from dropmill.model.ids import SubmissionId
from dropmill.model.submissions import Counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One call of the webhook that is still due.

    Attributes:
        number: how often the submission had settled by then; with the submission's id it identifies the delivery.
        counts: as they were when it settled.
        tries: failed calls so far.
        due_at: when the next call may be made.
    """

    submission_id: SubmissionId
    number: int
    settled_at: datetime
    counts: Counts
    tries: int
    due_at: datetime
