"""How many aborted files of a submission were stored when they were sent again.

What was stored before is found as `uploads` finds it now: a later file with the same path, and the same size where both
are known. The outcome of submissions is set anew: such a file made them failed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Go forward."""
    op.add_column("submissions", sa.Column("replaced", sa.Integer(), server_default="0", nullable=False))
    op.execute(
        "UPDATE files SET cause = 'replaced' WHERE state = 'aborted' AND EXISTS (SELECT 1 FROM files AS later"
        " WHERE later.submission_id = files.submission_id AND later.seq > files.seq AND later.state = 'stored'"
        " AND later.path = files.path AND (files.size IS NULL OR files.size = later.size))"
    )
    op.execute(
        "UPDATE submissions SET replaced = counted.files, given_up = counted.given_up FROM"
        " (SELECT submission_id, sum(CASE cause WHEN 'replaced' THEN 1 ELSE 0 END) AS files,"
        " sum(CASE cause WHEN 'cancelled' THEN 1 ELSE 0 END) AS given_up FROM files WHERE state = 'aborted'"
        " GROUP BY submission_id) AS counted"
        " WHERE counted.submission_id = submissions.id"
    )
    op.execute(
        "UPDATE submissions SET outcome = CASE WHEN cancelled + given_up > 0 THEN 'cancelled' ELSE 'succeeded' END"
        " WHERE outcome IN ('failed', 'cancelled') AND replaced > 0 AND failed = 0"
        " AND aborted = given_up + replaced AND cancelled + given_up + succeeded > 0"
    )
