"""Which job is next: claims, jobs whose time has come, and positions in the queue."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    select,
    tuple_,
)

from dropmill.engines.sql import config, prepared
from dropmill.engines.sql.clients import Row, client_of
from dropmill.engines.sql.jobs import JOBS, SET_JOB, job_row, set_job, subject_of
from dropmill.engines.sql.quotas import may_run
from dropmill.engines.sql.tables import attempts, has_turn, is_claimable, is_late, jobs, quotas, turns
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.clock import utc_now
from dropmill.model.events import EventName
from dropmill.model.ids import ClaimId, FileId, JobId, SubmissionId
from dropmill.model.jobs import AttemptSpec, AttemptState, Claim, JobState
from dropmill.model.nodes import Node
from dropmill.ports.ledger.jobs import PLACES_MAX

DUE_MAX = 100  # jobs whose time has come, in one claim: few enough to keep a change under 50 ms

# All columns of the index: Postgres does not see that for jobs without a queue the first one is constant.
QUEUE_ORDER = (jobs.c.queue, jobs.c.owner, jobs.c.tag, jobs.c.queued_cursor)
_is_of_owner = jobs.c.owner == bindparam("of_owner")
NEXT = JOBS.where(is_claimable, jobs.c.queue.is_(None), _is_of_owner).order_by(*QUEUE_ORDER).limit(1)
NEXT_OF = JOBS.where(is_claimable, jobs.c.queue == bindparam("queue"), _is_of_owner).order_by(*QUEUE_ORDER).limit(1)
TURN_ORDER = (turns.c.queue, turns.c.tag, turns.c.since)
# Passes over no more owners than have jobs running: each of them has at least one.
NEXT_OWNER = (
    select(turns.c.owner)
    .outerjoin(quotas, quotas.c.holder == turns.c.owner)
    .where(has_turn, turns.c.queue == bindparam("queue"), may_run)
    .order_by(*TURN_ORDER)
    .limit(1)
)
_OWNERS = (
    select(turns.c.owner, turns.c.tag, turns.c.since, turns.c.waiting)
    .where(has_turn, turns.c.queue == bindparam("queue"))
    .order_by(*TURN_ORDER)
    .limit(bindparam("limit"))
)
_DUE = select(jobs).where(is_late, jobs.c.not_before <= bindparam("now")).order_by(jobs.c.not_before).limit(1)
NEXT_DUE = select(func.min(jobs.c.not_before)).where(is_late)
_CLAIMED = select(attempts.c.job_id).where(
    attempts.c.state == literal_column("'running'"),
    attempts.c.claim == bindparam("claim"),
)
BEFORE = select(  # in one statement, because there is nearly always neither
    exists()
    .where(attempts.c.state == literal_column("'running'"), attempts.c.claim == bindparam("claim"))
    .label("again"),
    NEXT_DUE.scalar_subquery().label("due"),
)
ADD_ATTEMPT = insert(attempts)
_WAITING = select(jobs.c.id, *QUEUE_ORDER).where(is_claimable, jobs.c.id.in_(bindparam("ids", expanding=True)))


def _count_between(of_queue: ColumnElement[bool]) -> Select[Any]:
    """Counts an owner's queued jobs after a first position and up to a last one, at most `limit`."""
    turn = tuple_(jobs.c.tag, jobs.c.queued_cursor)
    ends = [[bindparam(f"{end}_{name}", type_=BigInteger) for name in ("tag", "cursor")] for end in ("first", "last")]
    between: Select[Any] = (
        select(literal_column("1"))
        .where(is_claimable, of_queue, _is_of_owner, turn > tuple_(*ends[0]), turn <= tuple_(*ends[1]))
        .limit(bindparam("limit"))
    )
    return select(func.count().label("count")).select_from(between.subquery())


_BETWEEN = _count_between(jobs.c.queue.is_(None))
_BETWEEN_OF = _count_between(jobs.c.queue == bindparam("queue"))


# --- changes ---------------------------------------------------------------------------------------------------------


def claim_jobs(tx: Transaction, claim: Claim) -> list[AttemptSpec]:
    """See `Ledger.claim`."""
    if tx.node is None:
        raise AssertionError("only a node claims jobs")
    before = tx.one(BEFORE, claim=claim.id)
    if before is not None and before["again"]:
        return [
            _spec(tx, job_row(tx, job_id)) for job_id in tx.connection.execute(_CLAIMED, {"claim": claim.id}).scalars()
        ]
    if before is not None and before["due"] is not None:
        _enqueue_due(tx)
    specs: list[AttemptSpec] = []
    for queue in claim.queues:
        while len(specs) < claim.most:
            row = _next(tx, queue)
            if row is None:
                break
            specs.append(_start(tx, row, tx.node, claim.id))
            tx.turns.take(queue, row["owner"], row["tag"], tx.cursor)
    return specs


def _next(tx: Transaction, queue: str | None) -> Row | None:
    """The next job of the owner whose turn it is, passing over owners that have as many running as they may."""
    tx.turns.flush()
    tx.quotas.flush_running()
    found = tx.one(NEXT_OWNER, queue=queue or "", default_running=tx.quotas.default_running)
    if found is None:
        return None
    owner = found["owner"]
    row = tx.one(NEXT, of_owner=owner) if queue is None else tx.one(NEXT_OF, queue=queue, of_owner=owner)
    if row is None:
        raise AssertionError(f"none of the jobs that wait in the queue {queue!r} for {owner} can be found")
    return row


def _enqueue_due(tx: Transaction) -> None:
    """Queue up to `DUE_MAX` jobs whose time has come; the next claims queue the rest."""
    for _ in range(DUE_MAX):
        row = tx.one(_DUE, now=utc_now())
        if row is None:
            return
        tx.run(SET_JOB, key=row["seq"], not_before=None, tag=tx.next_tag(row["submission_id"], row["queue"]))


def _start(tx: Transaction, row: Row, node: Node, claim_id: ClaimId) -> AttemptSpec:
    number = row["attempt"] + 1
    now = utc_now()
    revision = config.revision(tx, row["config_number"])
    tx.run(
        ADD_ATTEMPT,
        job_id=row["id"],
        number=number,
        state=AttemptState.RUNNING.value,
        config_revision=revision.sha256,
        started_at=now,
        host=node.host,
        node=node.id,
        claim=claim_id,
    )
    set_job(tx, row, JobState.RUNNING, attempt=number, started_at=now, not_before=None, tag=None)
    tx.emit(EventName.ATTEMPT_STARTED, subject_of(tx, row, number), config_revision=revision.sha256, host=node.host)
    return _spec(tx, {**row, "attempt": number})


def _spec(tx: Transaction, row: Row) -> AttemptSpec:
    """What a job's newest attempt needs."""
    return AttemptSpec(
        job_id=JobId(row["id"]),
        submission_id=SubmissionId(row["submission_id"]),
        file_id=FileId(row["file_id"]),
        number=row["attempt"],
        file_name=row["name"],
        file_path=row["path"],
        blob=row["blob"],
        size=row["size"],
        sha256=row["sha256"],
        client=client_of(tx.submission(row["submission_id"])),
        config=config.revision(tx, row["config_number"]),
    )


# --- queries ---------------------------------------------------------------------------------------------------------


def next_due(connection: Connection) -> datetime | None:
    """See `Ledger.next_due`."""
    due: datetime | None = connection.execute(NEXT_DUE).scalar_one()
    return due


def places(connection: Connection, job_ids: Collection[JobId]) -> Mapping[JobId, int]:
    """See `Ledger.places`."""
    found = connection.execute(_WAITING, {"ids": list(job_ids)}).all()
    places: dict[JobId, int] = {}
    owners: dict[str | None, Sequence[Row]] = {}  # that wait in each queue
    # Of each owner in each queue: how many of its jobs were counted, and the turn of the last one.
    reached: dict[tuple[str | None, str], tuple[int, int, int]] = {}
    for job_id, queue, owner, tag, cursor in sorted(found, key=lambda row: (row.tag, row.queued_cursor)):
        rank, *first = reached.get((queue, owner), (0, -1, -1))
        if rank > PLACES_MAX:
            continue
        parameters = {"first_tag": first[0], "first_cursor": first[1], "last_tag": tag, "last_cursor": cursor}
        parameters |= {"limit": PLACES_MAX + 1 - rank, "of_owner": owner}
        between = prepared.one(
            connection,
            _BETWEEN if queue is None else _BETWEEN_OF,
            parameters if queue is None else {**parameters, "queue": queue},
        )
        rank += 0 if between is None else between["count"]
        reached[queue, owner] = (rank, tag, cursor)
        if queue not in owners:
            wanted = {"queue": queue or "", "limit": PLACES_MAX + 1}
            owners[queue] = connection.execute(_OWNERS, wanted).mappings().all()
        place = _place(owners[queue], owner, rank)
        if place <= PLACES_MAX:
            places[JobId(job_id)] = place
    return places


def _place(waiting: Sequence[Row], owner: str, rank: int) -> int:
    """The position of an owner's job.

    Args:
        waiting: the first owners in the queue, in the order of their turns; if it is another, the place is too far.
        owner: of the job.
        rank: of the job among those of its owner, from 1.
    """
    own = next((index for index, row in enumerate(waiting) if row["owner"] == owner), None)
    if own is None:
        return PLACES_MAX + 1
    turn = waiting[own]["tag"] + rank - 1  # in which the job is claimed
    place = rank
    for index, other in enumerate(waiting):
        if index == own:
            continue
        # Who has a later turn now has it before the owner joins that turn.
        comes_first = index < own if other["tag"] == waiting[own]["tag"] else index > own
        place += min(max(turn - other["tag"] + comes_first, 0), other["waiting"])
        if place > PLACES_MAX:
            break
    return place
