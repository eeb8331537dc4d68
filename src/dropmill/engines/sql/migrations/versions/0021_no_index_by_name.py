"""Nobody looks events up by an account's name: by its id, see `ix_events_owner`."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Go forward."""
    op.drop_index("ix_events_account", table_name="events")
