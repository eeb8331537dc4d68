"""Upkeep: what is kept and what was removed, the retry policy, the webhook."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "deliveries",
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("settled_at", sa.String(length=24), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_deliveries_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "number", name=op.f("pk_deliveries")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_due", ["due_at"], unique=False)

    with op.batch_alter_table("files", schema=None) as batch_op:
        batch_op.add_column(sa.Column("removed_at", sa.String(length=24), nullable=True))

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tries", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("not_before", sa.String(length=24), nullable=True))
        batch_op.drop_index("ix_jobs_state")
        batch_op.create_index("ix_jobs_state", ["state", "seq"], unique=False)
        batch_op.create_index("ix_jobs_submission_state", ["submission_id", "state", "seq"], unique=False)

    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kept_bytes", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("removed_at", sa.String(length=24), nullable=True))
        batch_op.add_column(sa.Column("is_removing", sa.Boolean(), server_default=sa.text("0"), nullable=False))
        batch_op.create_index(
            "ix_submissions_kept",
            ["settled_at", "kept_bytes"],
            unique=False,
            sqlite_where=sa.text("removed_at IS NULL"),
        )
        batch_op.create_index("ix_submissions_removing", ["seq"], unique=False, sqlite_where=sa.text("is_removing = 1"))
        batch_op.create_index(
            "ix_submissions_unsettled", ["seq"], unique=False, sqlite_where=sa.text("settled_at IS NULL")
        )
    op.execute(
        "UPDATE submissions SET kept_bytes ="
        " coalesce((SELECT sum(size) FROM files WHERE submission_id = submissions.id AND blob IS NOT NULL), 0)"
        " + coalesce((SELECT sum(output_size) FROM jobs WHERE submission_id = submissions.id), 0)"
    )
