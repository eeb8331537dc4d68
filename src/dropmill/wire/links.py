"""Links as their makers get them, and as their visitors do. No secret is among the fields."""

from datetime import datetime
from typing import TypedDict

from dropmill.model.links import Link, LinkKind
from dropmill.text import time_text


class LinkJson(TypedDict):
    """A link, for those who make links."""

    id: str
    kind: str
    label: str
    text: str | None
    submission_id: str | None
    made_by: str | None
    made_at: str
    expires_at: str
    revoked_at: str | None
    state: str
    has_passphrase: bool
    asks_name: bool
    shows_results: bool
    max_files: int | None
    max_size: int | None
    max_submissions: int | None
    files: int
    size: int
    submissions: int
    visits: int
    last_used_at: str | None


class InvitationJson(TypedDict):
    """A link, for who has entered it. What is left is null without a limit; `name` is who the visitor said to be."""

    kind: str
    label: str
    text: str | None
    expires_at: str
    asks_name: bool
    name: str | None
    shows_results: bool
    submission_id: str | None
    max_files: int | None
    max_size: int | None
    max_submissions: int | None
    files_left: int | None
    size_left: int | None
    submissions_left: int | None


def link_json(link: Link, now: datetime) -> LinkJson:
    """A link as it is now."""
    return {
        "id": link.id,
        "kind": link.kind.value,
        "label": link.label,
        "text": link.text,
        "submission_id": link.submission_id,
        "made_by": link.made_by,
        "made_at": time_text(link.made_at),
        "expires_at": time_text(link.expires_at),
        "revoked_at": time_text(link.revoked_at),
        "state": link.state(now).value,
        "has_passphrase": link.has_passphrase,
        "asks_name": link.asks_name,
        "shows_results": link.shows_results,
        "max_files": link.limits.files,
        "max_size": link.limits.size,
        "max_submissions": link.limits.submissions,
        "files": link.usage.files,
        "size": link.usage.size,
        "submissions": link.usage.submissions,
        "visits": link.usage.visits,
        "last_used_at": time_text(link.last_used_at),
    }


def invitation_json(link: Link, name: str | None) -> InvitationJson:
    """A link for its visitor."""
    is_request = link.kind is LinkKind.REQUEST
    return {
        "kind": link.kind.value,
        "label": link.label,
        "text": link.text,
        "expires_at": time_text(link.expires_at),
        "asks_name": link.asks_name,
        "name": name,
        "shows_results": link.shows_results,
        "submission_id": None if is_request else link.submission_id,
        "max_files": link.limits.files,
        "max_size": link.limits.size,
        "max_submissions": link.limits.submissions,
        "files_left": _left(link.limits.files, link.usage.files),
        "size_left": _left(link.limits.size, link.usage.size),
        "submissions_left": _left(link.limits.submissions, link.usage.submissions),
    }


def _left(most: int | None, used: int) -> int | None:
    return None if most is None else max(most - used, 0)
