"""Sign-ins that an identity provider has not answered yet."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

SHA256 = sa.String(length=64)


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "pending_sign_ins",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("state_sha256", SHA256, nullable=False),
        sa.Column("browser_sha256", SHA256, nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("next", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.String(length=24), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_pending_sign_ins")),
        sa.UniqueConstraint("state_sha256", name=op.f("uq_pending_sign_ins_state_sha256")),
    )
    op.create_index("ix_pending_sign_ins_network", "pending_sign_ins", ["network", "seq"], unique=False)
