"""Config files: which revision a file holds is recorded for its host and path, no longer on the revision."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Go forward."""
    files = op.create_table(
        "config_files",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("data_folder", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["revision"], ["config_revisions.number"], name=op.f("fk_config_files_revision")),
        sa.PrimaryKeyConstraint("host", "path", name=op.f("pk_config_files")),
    )
    revisions = sa.table("config_revisions", sa.column("number", sa.Integer), sa.column("is_mirrored", sa.Boolean))
    newest = sa.select(sa.func.max(revisions.c.number)).where(revisions.c.is_mirrored)
    if (number := op.get_bind().execute(newest).scalar_one()) is not None:
        # Which file it was, nobody recorded. The next start of the server adopts the row.
        op.bulk_insert(files, [{"host": "", "path": b"", "data_folder": b"", "revision": number}])
    with op.batch_alter_table("config_revisions", schema=None) as batch_op:
        batch_op.drop_column("is_mirrored")
