"""Claims: which node owns what is under way, the turn of each waiting job, wishes to cancel."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("lock", sa.String(length=255), nullable=False),
        sa.Column("entered_at", sa.String(length=24), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
    )
    op.create_table(
        "queues",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("node", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("last_tag", sa.BigInteger(), server_default="0", nullable=False))
    with op.batch_alter_table("files", schema=None) as batch_op:
        batch_op.add_column(sa.Column("node", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("fence", sa.Integer(), server_default="0", nullable=False))
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("node", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("claim", sa.String(length=32), nullable=True))
        batch_op.drop_index("ix_attempts_running")
        batch_op.create_index("ix_attempts_running", ["claim"], sqlite_where=sa.text("state = 'running'"))
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tag", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("cancel_asked_at", sa.String(length=24), nullable=True))
        batch_op.create_index(
            "ix_jobs_line",
            ["queue", "tag", "queued_cursor"],
            sqlite_where=sa.text("tag IS NOT NULL"),
        )
        batch_op.create_index("ix_jobs_late", ["not_before"], sqlite_where=sa.text("not_before IS NOT NULL"))
        batch_op.create_index("ix_jobs_to_cancel", ["id"], sqlite_where=sa.text("cancel_asked_at IS NOT NULL"))
    # Who waits gets the turn that it would have been given: the n-th of its submission the n-th.
    op.execute(
        "UPDATE jobs SET tag = turns.tag FROM"
        " (SELECT seq, row_number() OVER (PARTITION BY submission_id ORDER BY queued_cursor) AS tag FROM jobs"
        " WHERE state = 'queued' AND not_before IS NULL) AS turns WHERE turns.seq = jobs.seq"
    )
    op.execute(
        "UPDATE submissions SET last_tag = turns.tag FROM"
        " (SELECT submission_id, max(tag) AS tag FROM jobs WHERE tag IS NOT NULL GROUP BY submission_id) AS turns"
        " WHERE turns.submission_id = submissions.id"
    )
