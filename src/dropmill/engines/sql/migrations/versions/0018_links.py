"""Links, and what is sent by them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

TIME = sa.String(length=24)
ID = sa.String(length=32)
SHA256 = sa.String(length=64)
OWNER = sa.String(length=160)

AUDITED = (
    *("account.changed", "account.refused", "account.signed_in", "account.signed_out"),
    *("config.purged", "config.rejected", "config.saved"),
    *("job.cancel_requested", "job.retry_requested"),
    *("link.made", "link.revoked", "link.used"),
    *("notice.posted", "notice.withdrawn"),
)


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "links",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("owner", OWNER, nullable=False),
        sa.Column("account_id", ID, nullable=True),
        sa.Column("made_by", sa.String(length=200), nullable=True),
        sa.Column("secret_sha256", SHA256, nullable=False),
        sa.Column("passphrase_hash", sa.Text(), nullable=True),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("submission_id", ID, nullable=True),
        sa.Column("asks_name", sa.Boolean(), nullable=False),
        sa.Column("shows_results", sa.Boolean(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("visits", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_links_account_id")),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_links_submission_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_links")),
        sa.UniqueConstraint("id", name=op.f("uq_links_id")),
    )
    op.create_index("ix_links_owner", "links", ["owner", "seq"], unique=False)
    op.create_table(
        "visits",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("link_id", ID, nullable=False),
        sa.Column("secret_sha256", SHA256, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=True),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["link_id"], ["links.id"], name=op.f("fk_visits_link_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_visits")),
        sa.UniqueConstraint("id", name=op.f("uq_visits_id")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_visits_secret_sha256")),
    )
    op.create_index("ix_visits_link", "visits", ["link_id", "seq"], unique=False)
    op.add_column("submissions", sa.Column("sender", OWNER, nullable=True))
    op.add_column("submissions", sa.Column("link_id", ID, nullable=True))
    op.add_column("submissions", sa.Column("link_label", sa.String(length=200), nullable=True))
    op.add_column("submissions", sa.Column("said_name", sa.String(length=64), nullable=True))
    is_by_link = sa.text("sender IS NOT NULL")
    op.create_index(
        "ix_submissions_sender",
        "submissions",
        ["sender", "seq"],
        unique=False,
        sqlite_where=is_by_link,
        postgresql_where=is_by_link,
    )
    op.drop_index("ix_events_audited", table_name="events")
    is_audited = sa.text(f"name IN ({', '.join(repr(name) for name in AUDITED)})")
    op.create_index(
        "ix_events_audited",
        "events",
        ["cursor"],
        unique=False,
        sqlite_where=is_audited,
        postgresql_where=is_audited,
    )
