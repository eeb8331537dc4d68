"""What a process takes over from an earlier one."""

from sqlalchemy import select

from dropmill.engines.sql.jobs import attempt_of, lose_attempt
from dropmill.engines.sql.submissions import seal_submission
from dropmill.engines.sql.tables import attempts, files, is_unfinished, submissions
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.uploads import abort
from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.records import Attempt, AttemptState, UploadState
from dropmill.ports.ledger.nodes import Recovery


def recover(tx: Transaction, max_attempts: int, reason: str) -> Recovery:
    """See `Ledger.recover`."""
    unfinished = (
        tx.connection.execute(
            select(files)
            .where(is_unfinished, files.c.state == UploadState.RECEIVING.value, files.c.partial.is_(None))
            .order_by(files.c.seq)
        )
        .mappings()
        .all()
    )
    for file in unfinished:
        abort(tx, file, reason)
    tx.flush_submissions()
    # Announced ones go on while a file may still come; one whose files have all come, or were cut off, does not.
    may_go_on = submissions.c.announced + submissions.c.receiving > 0
    is_fresh = submissions.c.announced + submissions.c.aborted + submissions.c.queued + submissions.c.running == 0
    is_fresh &= submissions.c.receiving + submissions.c.succeeded + submissions.c.failed + submissions.c.cancelled == 0
    open_ids = (
        tx.connection.execute(
            select(submissions.c.id)
            .where(submissions.c.settled_at.is_(None), submissions.c.is_open)
            .where(~(submissions.c.is_announced & (may_go_on | is_fresh)))
            .order_by(submissions.c.seq)
        )
        .scalars()
        .all()
    )
    for submission_id in open_ids:
        seal_submission(tx, SubmissionId(submission_id))
    running = (
        tx.connection.execute(select(attempts).where(attempts.c.state == AttemptState.RUNNING.value)).mappings().all()
    )
    lost: list[Attempt] = []
    for attempt in running:
        lost.append(attempt_of(attempt))
        lose_attempt(tx, JobId(attempt["job_id"]), attempt["number"], max_attempts)
    return Recovery(lost=lost, aborted=len(unfinished), sealed=len(open_ids))
