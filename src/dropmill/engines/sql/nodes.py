"""Nodes: which process owns the work that is under way, and how another takes it over."""

from sqlalchemy import ColumnElement, Select, delete, insert, or_, select

from dropmill.engines.sql.attempts import lose_attempt
from dropmill.engines.sql.jobs import attempt_of
from dropmill.engines.sql.submissions import seal_submission
from dropmill.engines.sql.tables import attempts, files, is_unfinished, nodes, submissions
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.uploads import abort
from dropmill.model.clock import utc_now
from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.jobs import Attempt, AttemptState
from dropmill.model.nodes import Node
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.ledger.nodes import Recovery


def enter(tx: Transaction, node: Node) -> None:
    """See `Ledger.enter`."""
    tx.connection.execute(insert(nodes).values(id=node.id, host=node.host, lock=node.lock, entered_at=utc_now()))


def recover(tx: Transaction, max_attempts: int, reason: str) -> Recovery:
    """See `Ledger.recover`."""
    if tx.node is None:
        raise AssertionError("only a node takes work over")
    living = select(nodes.c.id).where(or_(nodes.c.lock != tx.node.lock, nodes.c.id == tx.node.id))
    unfinished = (
        tx.connection.execute(
            select(files)
            .where(is_unfinished, files.c.state == UploadState.RECEIVING.value, files.c.partial.is_(None))
            .where(_is_of_none(files.c.node, living))
            .order_by(files.c.seq)
        )
        .mappings()
        .all()
    )
    for file in unfinished:
        abort(tx, file, AbortCause.SERVER_FAILED, reason)
    tx.flush_submissions()
    # An announced submission stays open while a file may still come, also one that broke off; otherwise it is sealed.
    may_go_on = submissions.c.announced + submissions.c.receiving + submissions.c.aborted > (
        submissions.c.given_up + submissions.c.replaced
    )
    is_fresh = submissions.c.announced + submissions.c.aborted + submissions.c.queued + submissions.c.running == 0
    is_fresh &= submissions.c.receiving + submissions.c.succeeded + submissions.c.failed + submissions.c.cancelled == 0
    open_ids = (
        tx.connection.execute(
            select(submissions.c.id)
            .where(submissions.c.settled_at.is_(None), submissions.c.is_open)
            .where(~(submissions.c.is_announced & (may_go_on | is_fresh)))
            .where(_is_of_none(submissions.c.node, living))
            .order_by(submissions.c.seq)
        )
        .scalars()
        .all()
    )
    for submission_id in open_ids:
        seal_submission(tx, SubmissionId(submission_id), AbortCause.SERVER_FAILED)
    running = (
        tx.connection.execute(
            select(attempts)
            .where(attempts.c.state == AttemptState.RUNNING.value)
            .where(_is_of_none(attempts.c.node, living))
        )
        .mappings()
        .all()
    )
    lost: list[Attempt] = []
    for attempt in running:
        lost.append(attempt_of(attempt))
        lose_attempt(tx, JobId(attempt["job_id"]), attempt["number"], max_attempts)
    tx.connection.execute(delete(nodes).where(nodes.c.lock == tx.node.lock, nodes.c.id != tx.node.id))
    return Recovery(lost=lost, aborted=len(unfinished), sealed=len(open_ids))


def _is_of_none(node: ColumnElement[str], recorded: Select[tuple[str]]) -> ColumnElement[bool]:
    """Whether work belongs to no recorded node; NULL: it was begun before nodes were recorded."""
    return or_(node.is_(None), node.not_in(recorded))
