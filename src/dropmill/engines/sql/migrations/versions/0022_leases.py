"""Leases of nodes, duties, and the servers of config files."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Go forward."""
    op.add_column("nodes", sa.Column("is_worker", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("nodes", sa.Column("alive_until", sa.BigInteger(), nullable=True))
    op.add_column("config_files", sa.Column("node", sa.String(length=32), nullable=True))
    op.create_table(
        "duties",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_duties"),
    )
