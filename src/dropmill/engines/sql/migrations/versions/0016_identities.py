"""Accounts that belong to somebody whom another system knows."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Go forward."""
    op.add_column("accounts", sa.Column("issuer", sa.String(length=400), nullable=True))
    op.add_column("accounts", sa.Column("subject", sa.String(length=400), nullable=True))
    has_identity = sa.text("removed_at IS NULL AND issuer IS NOT NULL")
    op.create_index(
        "uq_accounts_identity",
        "accounts",
        ["issuer", "subject"],
        unique=True,
        sqlite_where=has_identity,
        postgresql_where=has_identity,
    )
