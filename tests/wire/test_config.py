"""Revisions of the config, as clients get them."""

from datetime import UTC, datetime

from dropmill.model.config import ConfigRevision
from dropmill.model.ids import Sha256
from dropmill.wire.config import revision_json

AT = datetime(2026, 3, 1, 10, 0, 0, 123_456, UTC)
TEXT = "2026-03-01T10:00:00.123Z"


def test_a_revision_is_shown_without_its_text() -> None:
    revision = ConfigRevision(
        number=3,
        sha256=Sha256("ab" * 32),
        size=5,
        saved_at=AT,
        account=None,
        client=None,
        message="raise the limit",
    )
    assert revision_json(revision) == {
        "sha256": "ab" * 32,
        "saved_at": TEXT,
        "size": 5,
        "message": "raise the limit",
        "account": None,
        "client": None,
        "is_purged": False,
    }
