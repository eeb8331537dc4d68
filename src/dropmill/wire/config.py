"""Revisions of the config; their text is sent as bytes, never inside JSON."""

from typing import TypedDict

from dropmill.model.config import ConfigRevision
from dropmill.text import time_text
from dropmill.wire.clients import ClientJson, client_json


class RevisionJson(TypedDict):
    """One entry of the config's history."""

    sha256: str
    saved_at: str
    size: int
    message: str | None
    account: str | None
    client: ClientJson | None
    is_purged: bool


def revision_json(revision: ConfigRevision, *, with_author: bool = True) -> RevisionJson:
    """A revision, without its text.

    Args:
        revision: the revision.
        with_author: whether it says who saved it; without, `account` and `client` are null.
    """
    return {
        "sha256": revision.sha256,
        "saved_at": time_text(revision.saved_at),
        "size": revision.size,
        "message": revision.message,
        "account": revision.account if with_author else None,
        "client": client_json(revision.client) if with_author else None,
        "is_purged": revision.purged_at is not None,
    }
