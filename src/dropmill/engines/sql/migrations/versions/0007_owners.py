"""Owners: whose a submission and all about it is, what each has sent in sum, and the texts that are searched."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from dropmill.engines.sql.search import BITS, CLIENT, client_text, file_text

revision = "0007"
down_revision = "0006"

SOME = 5000  # rows that are held in memory at once
COUNTS = ("announced", "receiving", "aborted", "queued", "running", "succeeded", "failed", "cancelled")


def _owner(*, nullable: bool = False) -> "sa.Column[str]":
    return sa.Column("owner", sa.String(length=160), nullable=nullable, server_default=None if nullable else "open")


def upgrade() -> None:
    """Go forward."""
    # Until there are owners everybody is `open`, as the keys of requests say already.
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.add_column(_owner())
        batch_op.add_column(sa.Column("processor", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("options", sa.Text(), nullable=True))
        batch_op.drop_constraint("uq_submissions_idempotency_key", type_="unique")
        batch_op.create_unique_constraint("uq_submissions_owner_key", ["owner", "idempotency_key"])
        batch_op.create_index("ix_submissions_owner", ["owner", "seq"], unique=False)
    op.execute("UPDATE submissions SET idempotency_key = substr(idempotency_key, 6) WHERE idempotency_key IS NOT NULL")

    op.add_column("jobs", _owner())
    op.add_column("jobs", sa.Column("queue", sa.String(length=64), nullable=True))
    op.create_index("ix_jobs_owner", "jobs", ["owner", "seq"], unique=False)
    op.create_index("ix_jobs_owner_state", "jobs", ["owner", "state", "seq"], unique=False)

    op.add_column("events", _owner(nullable=True))
    op.execute("UPDATE events SET owner = 'open' WHERE submission_id IS NOT NULL")
    op.create_index(
        "ix_events_owner", "events", ["owner", "cursor"], unique=False, sqlite_where=sa.text("owner IS NOT NULL")
    )

    op.add_column("files", sa.Column("number", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE files SET number = counted.number FROM"
        " (SELECT seq, row_number() OVER (PARTITION BY submission_id ORDER BY seq) - 1 AS number FROM files) AS counted"
        " WHERE counted.seq = files.seq"
    )

    sums = ("submissions", *COUNTS, "kept_bytes")
    op.create_table(
        "owners",
        sa.Column("owner", sa.String(length=160), nullable=False),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in sums),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_owners")),
    )
    summed = ", ".join(f"sum({name})" for name in sums[1:])
    op.execute(
        f"INSERT INTO owners (owner, {', '.join(sums)})"  # noqa: S608 - our own words
        f" SELECT owner, count(*), {summed} FROM submissions GROUP BY owner"
    )

    texts = op.create_table(
        "search_texts",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("file_id", sa.String(length=32), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_texts")),
    )
    for some in _texts(op.get_bind()):
        op.bulk_insert(texts, some)


def _texts(connection: sa.Connection) -> Iterator[list[dict[str, Any]]]:
    """The rows of `search_texts` about what there is, some at a time."""
    clients = connection.execute(sa.text("SELECT seq, ip, host FROM submissions ORDER BY seq"))
    for some in clients.partitions(SOME):
        yield [_text(seq << BITS | CLIENT, None, client_text(ip, host)) for seq, ip, host in some]
    files = connection.execute(
        sa.text(
            "SELECT s.seq, f.number, f.id, f.name, f.path, j.error_message"
            " FROM files f JOIN submissions s ON s.id = f.submission_id LEFT JOIN jobs j ON j.file_id = f.id"
            " ORDER BY s.seq, f.number"
        )
    )
    for some in files.partitions(SOME):
        yield [
            _text(seq << BITS | number, file_id, file_text(name, path, error))
            for seq, number, file_id, name, path, error in some
        ]


def _text(row_id: int, file_id: str | None, text: str) -> dict[str, Any]:
    return {"id": row_id, "file_id": file_id, "text": text}
