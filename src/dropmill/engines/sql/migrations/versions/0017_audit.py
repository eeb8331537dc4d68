"""The audit, and notices to one account."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

AUDITED = (
    *("account.changed", "account.refused", "account.signed_in", "account.signed_out"),
    *("config.purged", "config.rejected", "config.saved"),
    *("job.cancel_requested", "job.retry_requested"),
    *("notice.posted", "notice.withdrawn"),
)


def upgrade() -> None:
    """Go forward."""
    op.add_column("notices", sa.Column("account_id", sa.String(length=32), nullable=True))
    is_audited = sa.text(f"name IN ({', '.join(repr(name) for name in AUDITED)})")
    op.create_index(
        "ix_events_audited",
        "events",
        ["cursor"],
        unique=False,
        sqlite_where=is_audited,
        postgresql_where=is_audited,
    )
