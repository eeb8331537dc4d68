"""Which job is next: claims, jobs whose time has come, and positions in the queue."""

from collections.abc import Collection, Mapping
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
from dropmill.engines.sql.tables import attempts, is_claimable, is_late, jobs
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.clock import utc_now
from dropmill.model.events import EventName
from dropmill.model.ids import ClaimId, FileId, JobId, SubmissionId
from dropmill.model.jobs import AttemptSpec, AttemptState, Claim, JobState
from dropmill.model.nodes import Node
from dropmill.ports.ledger.jobs import PLACES_MAX

DUE_MAX = 100  # jobs whose time has come, in one claim: few enough to keep a change under 50 ms

# All columns of the index: Postgres does not see that for jobs without a queue the first one is constant.
_QUEUE_ORDER = (jobs.c.queue, jobs.c.tag, jobs.c.queued_cursor)
_NEXT = JOBS.where(is_claimable, jobs.c.queue.is_(None)).order_by(*_QUEUE_ORDER).limit(1)
_NEXT_OF = JOBS.where(is_claimable, jobs.c.queue == bindparam("queue")).order_by(*_QUEUE_ORDER).limit(1)
_DUE = select(jobs).where(is_late, jobs.c.not_before <= bindparam("now")).order_by(jobs.c.not_before).limit(1)
_NEXT_DUE = select(func.min(jobs.c.not_before)).where(is_late)
_CLAIMED = select(attempts.c.job_id).where(
    attempts.c.state == literal_column("'running'"),
    attempts.c.claim == bindparam("claim"),
)
_BEFORE = select(  # in one statement, because there is nearly always neither
    exists()
    .where(attempts.c.state == literal_column("'running'"), attempts.c.claim == bindparam("claim"))
    .label("again"),
    _NEXT_DUE.scalar_subquery().label("due"),
)
_ADD_ATTEMPT = insert(attempts)
_WAITING = select(jobs.c.id, *_QUEUE_ORDER).where(is_claimable, jobs.c.id.in_(bindparam("ids", expanding=True)))


def _count_between(of_queue: ColumnElement[bool]) -> Select[Any]:
    """Counts queued jobs after a first position and up to a last one, at most `limit`."""
    turn = tuple_(jobs.c.tag, jobs.c.queued_cursor)
    ends = [[bindparam(f"{end}_{name}", type_=BigInteger) for name in ("tag", "cursor")] for end in ("first", "last")]
    between: Select[Any] = (
        select(literal_column("1"))
        .where(is_claimable, of_queue, turn > tuple_(*ends[0]), turn <= tuple_(*ends[1]))
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
    before = tx.one(_BEFORE, claim=claim.id)
    if before is not None and before["again"]:
        return [
            _spec(tx, job_row(tx, job_id)) for job_id in tx.connection.execute(_CLAIMED, {"claim": claim.id}).scalars()
        ]
    if before is not None and before["due"] is not None:
        _enqueue_due(tx)
    specs: list[AttemptSpec] = []
    for queue in claim.queues:
        while len(specs) < claim.most:
            row = tx.one(_NEXT) if queue is None else tx.one(_NEXT_OF, queue=queue)
            if row is None:
                break
            tx.take_turn(queue, row["tag"])
            specs.append(_start(tx, row, tx.node, claim.id))
    return specs


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
        _ADD_ATTEMPT,
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
    due: datetime | None = connection.execute(_NEXT_DUE).scalar_one()
    return due


def places(connection: Connection, job_ids: Collection[JobId]) -> Mapping[JobId, int]:
    """See `Ledger.places`."""
    found = connection.execute(_WAITING, {"ids": list(job_ids)}).all()
    places: dict[JobId, int] = {}
    reached: dict[
        str | None, tuple[int, int, int]
    ] = {}  # in each queue: the last position counted, and the turn of the job there
    for job_id, queue, tag, cursor in sorted(found, key=lambda row: (row.tag, row.queued_cursor)):
        place, *first = reached.get(queue, (0, -1, -1))
        if place > PLACES_MAX:
            continue
        parameters = {"first_tag": first[0], "first_cursor": first[1], "last_tag": tag, "last_cursor": cursor}
        parameters["limit"] = PLACES_MAX + 1 - place
        between = prepared.one(
            connection,
            _BETWEEN if queue is None else _BETWEEN_OF,
            parameters if queue is None else {**parameters, "queue": queue},
        )
        place += 0 if between is None else between["count"]
        reached[queue] = (place, tag, cursor)
        if place <= PLACES_MAX:
            places[JobId(job_id)] = place
    return places
