"""Nodes: which process owns the work that is under way, and how another takes it over."""

from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, insert, or_, select, update

from dropmill.engines.sql.attempts import lose_attempt
from dropmill.engines.sql.jobs import attempt_of
from dropmill.engines.sql.submissions import seal_submission
from dropmill.engines.sql.tables import attempts, duties, files, is_unfinished, nodes, submissions
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.types import now_ms
from dropmill.engines.sql.uploads import abort
from dropmill.model.clock import utc_now
from dropmill.model.ids import JobId, NodeId, SubmissionId
from dropmill.model.jobs import Attempt, AttemptState
from dropmill.model.nodes import Node
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.ledger.nodes import Recovery


def enter(tx: Transaction, node: Node) -> None:
    """See `Ledger.enter`."""
    lease = None if node.lease_s is None else now_ms() + int(node.lease_s * 1000)
    row = {"id": node.id, "host": node.host, "lock": node.lock, "is_worker": node.is_worker, "alive_until": lease}
    tx.connection.execute(insert(nodes).values(entered_at=utc_now(), **row))


def recover(tx: Transaction, max_attempts: int, reason: str) -> Recovery:
    """See `Ledger.recover`."""
    me = _self(tx)
    # Of the other kind, with a lease or without one, none lives: the ledger was in another database then.
    is_of_other_kind = nodes.c.alive_until.is_not(None) if me.lease_s is None else nodes.c.alive_until.is_(None)
    is_gone = (nodes.c.lock == me.lock) | is_of_other_kind
    tx.connection.execute(delete(nodes).where(is_gone, nodes.c.id != me.id))
    return _settle_unowned(tx, reason, max_attempts)


def lose_expired(tx: Transaction, max_attempts: int, reason: str) -> Recovery:
    """See `Ledger.lose_expired`."""
    expired = tx.connection.execute(select(nodes.c.id, nodes.c.host).where(_is_expired(_self(tx).id))).all()
    if not expired:
        return Recovery()
    tx.connection.execute(delete(nodes).where(nodes.c.id.in_([node_id for node_id, _ in expired])))
    return replace(_settle_unowned(tx, reason, max_attempts), gone=[host for _, host in expired])


def leave(tx: Transaction, reason: str) -> Recovery:
    """See `Ledger.leave`."""
    tx.connection.execute(delete(nodes).where(nodes.c.id == _self(tx).id))
    handed_back = _settle_unowned(tx, reason, None)
    tx.node = None  # `flush` would refuse the changes of a node that is gone
    return handed_back


def renew(connection: Connection, node: Node) -> bool:
    """See `Ledger.renew`."""
    found = connection.execute(
        update(nodes).where(nodes.c.id == node.id).values(alive_until=now_ms() + int((node.lease_s or 0) * 1000))
    )
    return found.rowcount > 0


def take_duty(tx: Transaction, name: str) -> bool:
    """See `Ledger.take_duty`."""
    node_id = _self(tx).id
    holder = tx.connection.execute(select(duties.c.node).where(duties.c.name == name)).scalar_one_or_none()
    if holder == node_id:
        return True
    if holder is None:
        tx.connection.execute(insert(duties).values(name=name, node=node_id))
        return True
    if tx.connection.execute(select(nodes.c.id).where(nodes.c.id == holder)).first() is not None:
        return False
    tx.connection.execute(update(duties).where(duties.c.name == name).values(node=node_id))
    return True


def _self(tx: Transaction) -> Node:
    if tx.node is None:
        raise AssertionError("only a node takes work over")
    return tx.node


def _is_expired(me: NodeId) -> ColumnElement[bool]:
    return (nodes.c.alive_until < now_ms()) & (nodes.c.id != me)


def _settle_unowned(tx: Transaction, reason: str, max_attempts: int | None) -> Recovery:
    """Settle the unfinished work that belongs to no recorded node.

    Args:
        reason: why its uploads are aborted.
        max_attempts: lost attempts after which a job fails; None: these do not count.
    """
    recorded = select(nodes.c.id)
    unfinished = (
        tx.connection.execute(
            select(files)
            .where(is_unfinished, files.c.state == UploadState.RECEIVING.value, files.c.partial.is_(None))
            .where(_is_of_none(files.c.node, recorded))
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
            .where(_is_of_none(submissions.c.node, recorded))
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
            .where(_is_of_none(attempts.c.node, recorded))
        )
        .mappings()
        .all()
    )
    lost: list[Attempt] = []
    for attempt in running:
        lost.append(attempt_of(attempt))
        lose_attempt(tx, JobId(attempt["job_id"]), attempt["number"], max_attempts)
    return Recovery(lost=lost, aborted=len(unfinished), sealed=len(open_ids))


def _is_of_none(node: ColumnElement[str], recorded: Select[tuple[str]]) -> ColumnElement[bool]:
    """Whether work belongs to no recorded node; NULL: it was begun before nodes were recorded."""
    return or_(node.is_(None), node.not_in(recorded))


# --- queries ---------------------------------------------------------------------------------------------------------


def has_expired(connection: Connection, me: NodeId | None) -> bool:
    """See `Ledger.has_expired`."""
    found: bool = connection.execute(select(exists().where(_is_expired(me or NodeId(""))))).scalar_one()
    return bool(found)
