"""Keys of requests: each belongs to an owner, and is kept with what its request said of itself."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("idempotency_fingerprint", sa.String(length=64), nullable=True))
    # Until there are owners everybody is `open`.
    op.execute("UPDATE submissions SET idempotency_key = 'open\n' || idempotency_key WHERE idempotency_key IS NOT NULL")
