"""History: how each submission ended and how many results it has, and what is found by date and by SHA-256."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Go forward."""
    op.add_column("submissions", sa.Column("outcome", sa.String(length=16), nullable=True))
    op.add_column("submissions", sa.Column("result_count", sa.Integer(), server_default="0", nullable=False))
    op.execute(
        "UPDATE submissions SET outcome = CASE WHEN failed + aborted > 0 THEN 'failed'"
        " WHEN cancelled > 0 THEN 'cancelled' WHEN succeeded > 0 THEN 'succeeded' END WHERE settled_at IS NOT NULL"
    )
    op.execute(
        "UPDATE submissions SET result_count = counted.results FROM"
        " (SELECT submission_id, sum(result_count) AS results FROM jobs GROUP BY submission_id) AS counted"
        " WHERE counted.submission_id = submissions.id AND removed_at IS NULL"
    )
    op.create_index("ix_submissions_opened_at", "submissions", ["opened_at"], unique=False)
    is_settled = sa.text("outcome IS NOT NULL")
    op.create_index("ix_submissions_outcome", "submissions", ["outcome", "seq"], unique=False, sqlite_where=is_settled)
    op.create_index(
        "ix_submissions_owner_outcome",
        "submissions",
        ["owner", "outcome", "seq"],
        unique=False,
        sqlite_where=is_settled,
    )
    op.create_index(
        "ix_files_sha256", "files", ["sha256", "seq"], unique=False, sqlite_where=sa.text("sha256 IS NOT NULL")
    )
