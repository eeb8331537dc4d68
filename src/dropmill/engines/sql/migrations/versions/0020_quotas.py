"""Quotas, and owners that take turns in a queue."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

COUNTS = ("storage", "total_size", "files", "submissions")
MORE_COUNTS = ("submissions_a_day", "open_submissions", "running")
LIMITS = (*COUNTS, *MORE_COUNTS, "sockets")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "quotas",
        sa.Column("holder", sa.String(length=160), nullable=False),
        *(_count(name) for name in COUNTS),
        sa.Column("day", sa.String(length=10), nullable=True),
        *(_count(name) for name in MORE_COUNTS),
        *(sa.Column(f"most_{name}", sa.BigInteger(), nullable=True) for name in LIMITS),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_quotas")),
    )
    op.execute(
        "INSERT INTO quotas (holder, storage, total_size, files, submissions, open_submissions, running)"
        " SELECT s.owner, coalesce(sum(f.storage), 0), coalesce(sum(f.total_size), 0), coalesce(sum(f.files), 0),"
        " count(*), sum(CASE WHEN s.is_open THEN 1 ELSE 0 END), sum(s.running)"
        " FROM submissions s LEFT JOIN"
        " (SELECT submission_id, count(*) AS files, sum(coalesce(size, received)) AS total_size,"
        " sum(CASE WHEN removed_at IS NULL THEN coalesce(size, received) ELSE 0 END) AS storage"
        " FROM files WHERE state <> 'aborted' GROUP BY submission_id) AS f ON f.submission_id = s.id"
        " GROUP BY s.owner"
    )
    op.create_table(
        "turns",
        sa.Column("queue", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=160), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("tag", sa.BigInteger(), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "owner", name=op.f("pk_turns")),
    )
    has_turn = sa.text("tag IS NOT NULL")
    op.create_index(
        "ix_turns_next", "turns", ["queue", "tag", "since"], sqlite_where=has_turn, postgresql_where=has_turn
    )
    # Whoever waits has the next turn; until now tags of jobs were compared with the one turn of their queue.
    op.execute(
        "INSERT INTO turns (queue, owner, turn, tag, since, waiting)"
        " SELECT coalesce(j.queue, ''), j.owner, coalesce(min(q.turn), 0), coalesce(min(q.turn), 0) + 1,"
        " min(j.queued_cursor), count(*)"
        " FROM jobs j LEFT JOIN queues q ON q.name = coalesce(j.queue, '')"
        " WHERE j.tag IS NOT NULL GROUP BY coalesce(j.queue, ''), j.owner"
    )
    op.drop_index("ix_jobs_line", table_name="jobs")
    op.create_index(
        "ix_jobs_line",
        "jobs",
        ["queue", "owner", "tag", "queued_cursor"],
        sqlite_where=has_turn,
        postgresql_where=has_turn,
    )


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
