"""Causes of aborted uploads, and how many files of a submission their client gave up.

Older versions recorded only a sentence. Three of their sentences say the cause; what has any other one counts as cut
off, as all of them did. The outcome of submissions is set anew: a cancelled upload made them failed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Go forward."""
    op.add_column("files", sa.Column("cause", sa.String(length=16), nullable=True))
    op.add_column("submissions", sa.Column("given_up", sa.Integer(), server_default="0", nullable=False))
    op.execute(
        "UPDATE files SET cause = CASE error WHEN 'the client terminated it' THEN 'cancelled'"
        " WHEN 'no byte came for too long' THEN 'expired' WHEN 'the server could not store it' THEN 'server_failed'"
        " ELSE 'cut_off' END WHERE state = 'aborted'"
    )
    op.execute(
        "UPDATE submissions SET given_up = counted.files FROM"
        " (SELECT submission_id, count(*) AS files FROM files WHERE cause = 'cancelled' GROUP BY submission_id)"
        " AS counted"
        " WHERE counted.submission_id = submissions.id"
    )
    op.execute(
        "UPDATE submissions SET outcome = 'cancelled' WHERE outcome = 'failed' AND failed = 0 AND aborted = given_up"
    )
