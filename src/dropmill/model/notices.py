"""Notices: what an operator tells everybody, those who follow one submission, or one account."""

from dataclasses import dataclass
from datetime import datetime

from dropmill.model.ids import AccountId, NoticeId, SubmissionId

TEXT_MAX = 2000  # characters
EXPIRES_S = 24 * 3600.0  # after so many seconds, unless the operator says otherwise
EXPIRES_MAX_S = 365 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """A notice; kept until it expires.

    Attributes:
        text: what it says; empty once it was withdrawn.
        submission_id: it is for those who follow this submission; None: for everybody.
        account_id: it is for this account alone, an operator not excepted; None: for everybody.
        account: of who posted it; None without accounts.
    """

    id: NoticeId
    text: str
    submission_id: SubmissionId | None
    account_id: AccountId | None = None
    posted_at: datetime
    expires_at: datetime
    account: str | None

    @property
    def is_withdrawn(self) -> bool:
        """Whether nobody is to see it any more; it is kept to tell those who have seen it."""
        return not self.text
