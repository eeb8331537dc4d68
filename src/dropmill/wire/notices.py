"""Notices as clients get them."""

from typing import TypedDict

from dropmill.model.notices import Notice
from dropmill.text import time_text


class NoticeJson(TypedDict):
    """What an operator tells everybody, those who follow one submission, or the account `account_id`."""

    id: str
    text: str
    submission_id: str | None
    account_id: str | None
    posted_at: str
    expires_at: str
    account: str | None


def notice_json(notice: Notice) -> NoticeJson:
    """A notice."""
    return {
        "id": notice.id,
        "text": notice.text,
        "submission_id": notice.submission_id,
        "account_id": notice.account_id,
        "posted_at": time_text(notice.posted_at),
        "expires_at": time_text(notice.expires_at),
        "account": notice.account,
    }
