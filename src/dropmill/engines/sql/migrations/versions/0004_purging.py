"""Purging: the text of a config revision can be removed from the history."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("config_revisions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("purged_at", sa.String(length=24), nullable=True))
        batch_op.create_index(
            "ix_config_revisions_kept", ["number"], unique=False, sqlite_where=sa.text("purged_at IS NULL")
        )

    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("ix_events_config")
        batch_op.create_index(
            "ix_events_config",
            ["cursor"],
            unique=False,
            sqlite_where=sa.text("name IN ('config.saved', 'config.rejected', 'config.purged')"),
        )
