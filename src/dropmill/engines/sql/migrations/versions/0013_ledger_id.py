"""The ledger's id, which says whose cursor a client has. The server makes it when it opens the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "ledgers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledgers")),
    )
