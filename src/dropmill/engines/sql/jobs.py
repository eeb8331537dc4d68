"""Jobs, their attempts and results: changes, queries and rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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
    update,
)

from dropmill.engines.sql import config, prepared, search
from dropmill.engines.sql.clients import Row, client_of
from dropmill.engines.sql.paging import one_of, page_key, page_of, seen_by
from dropmill.engines.sql.tables import attempts, files, is_in_line, is_late, is_to_be_cancelled, jobs, results
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.types import is_storable, storable
from dropmill.model.clock import utc_now
from dropmill.model.errors import IllegalTransition, NotFound, Removed
from dropmill.model.events import RESULTS_TOLD, EventName, Subject
from dropmill.model.ids import ClaimId, FileId, JobId, NodeId, Owner, Sha256, SubmissionId
from dropmill.model.jobs import (
    ATTEMPT_TRANSITIONS,
    JOB_TRANSITIONS,
    Attempt,
    AttemptOutcome,
    AttemptSpec,
    AttemptState,
    Claim,
    Ended,
    Job,
    JobError,
    JobState,
    RetryPolicy,
)
from dropmill.model.nodes import Node
from dropmill.model.results import RESULTS_LISTED, Result
from dropmill.model.transitions import require_transition
from dropmill.ports.ledger.jobs import PLACES_MAX
from dropmill.ports.ledger.page import Page

LINED_UP_MAX = 100  # jobs whose time has come, in one claim: few enough to keep a change under 50 ms
LOST = "lost"
"""Error type of a job whose attempts were lost too often."""

# Built once: making a statement anew costs more than running it (1.5 ms of CPU a file's life against 0.7).
_OF_FILE = ("name", "path", "number", "blob", "size", "sha256", "removed_at")
_JOBS = select(jobs, *(files.c[name] for name in _OF_FILE)).join(files, files.c.id == jobs.c.file_id)
_JOB = _JOBS.where(jobs.c.id == bindparam("key"))
_JOBS_OF_SUBMISSION = (
    _JOBS.where(
        jobs.c.submission_id == bindparam("key"),
        jobs.c.state.in_(bindparam("states", expanding=True)),
        jobs.c.seq > bindparam("after"),
    )
    .order_by(jobs.c.seq)
    .limit(bindparam("limit"))
)
_SET_JOB = update(jobs).where(jobs.c.seq == bindparam("key"))
_ADD_JOB = insert(jobs)
# The index's columns in full: Postgres would not see that of jobs without a queue this one is the same.
_LINE = (jobs.c.queue, jobs.c.tag, jobs.c.queued_cursor)
_NEXT = _JOBS.where(is_in_line, jobs.c.queue.is_(None)).order_by(*_LINE).limit(1)
_NEXT_OF = _JOBS.where(is_in_line, jobs.c.queue == bindparam("queue")).order_by(*_LINE).limit(1)
_DUE = select(jobs).where(is_late, jobs.c.not_before <= bindparam("now")).order_by(jobs.c.not_before).limit(1)
_NEXT_DUE = select(func.min(jobs.c.not_before)).where(is_late)
_CLAIMED = select(attempts.c.job_id).where(
    attempts.c.state == literal_column("'running'"),
    attempts.c.claim == bindparam("claim"),
)
_FIRST_LOOK = select(  # in one statement, as nearly always there is neither
    exists()
    .where(attempts.c.state == literal_column("'running'"), attempts.c.claim == bindparam("claim"))
    .label("again"),
    _NEXT_DUE.scalar_subquery().label("due"),
)
_ATTEMPT = select(attempts.c.number, attempts.c.state, attempts.c.node).where(
    attempts.c.job_id == bindparam("key"), attempts.c.number == bindparam("attempt_number")
)
_WAITING = select(jobs.c.id, *_LINE).where(is_in_line, jobs.c.id.in_(bindparam("ids", expanding=True)))


def _count_between(of_queue: ColumnElement[bool]) -> Select[Any]:
    """How many stand in line behind one place and not behind another one, at most `limit`."""
    turn = tuple_(jobs.c.tag, jobs.c.queued_cursor)
    ends = [[bindparam(f"{end}_{name}", type_=BigInteger) for name in ("tag", "cursor")] for end in ("first", "last")]
    between: Select[Any] = (
        select(literal_column("1"))
        .where(is_in_line, of_queue, turn > tuple_(*ends[0]), turn <= tuple_(*ends[1]))
        .limit(bindparam("limit"))
    )
    return select(func.count().label("count")).select_from(between.subquery())


_BETWEEN = _count_between(jobs.c.queue.is_(None))
_BETWEEN_OF = _count_between(jobs.c.queue == bindparam("queue"))
_TO_CANCEL = (
    select(jobs.c.id, jobs.c.attempt)
    .where(is_to_be_cancelled)
    .where(
        exists().where(
            attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt, attempts.c.node == bindparam("node")
        )
    )
)
_SET_ATTEMPT = update(attempts).where(
    attempts.c.job_id == bindparam("key"), attempts.c.number == bindparam("attempt_number")
)
_ADD_ATTEMPT = insert(attempts)
_ADD_RESULTS = insert(results)
_RESULTS = (
    select(results)
    .join(jobs, (results.c.job_id == jobs.c.id) & (results.c.attempt == jobs.c.attempt))
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), results.c.number < bindparam("results_max"))
    .order_by(results.c.job_id, results.c.number)
)
_RESULT = (
    select(results)
    .join(jobs, jobs.c.id == results.c.job_id)
    .where(
        results.c.job_id == bindparam("job_id"),
        results.c.attempt == func.coalesce(bindparam("attempt", type_=BigInteger), jobs.c.attempt),
        results.c.path == bindparam("path"),
    )
)


# --- rows ------------------------------------------------------------------------------------------------------------


def error_of(row: Row) -> JobError | None:
    """Why a job did not succeed; None if it did or has not ended."""
    if row["error_type"] is None:
        return None
    return JobError(type=row["error_type"], message=row["error_message"] or "")


def attempt_of(row: Row) -> Attempt:
    """An attempt."""
    return Attempt(
        job_id=JobId(row["job_id"]),
        number=row["number"],
        state=AttemptState(row["state"]),
        exit_code=row["exit_code"],
        config_revision=Sha256(row["config_revision"]),
        started_at=row["started_at"],
        settled_at=row["settled_at"],
        output_size=row["output_size"],
        host=row["host"],
    )


def result_of(row: Row) -> Result:
    """A result."""
    return Result(path=row["path"], size=row["size"], sha256=Sha256(row["sha256"]), blob=row["blob"])


def results_to_add(job_id: JobId, attempt: int, results: Sequence[Result]) -> list[dict[str, Any]]:
    """The rows of an attempt's results."""
    return [
        {
            "job_id": job_id,
            "attempt": attempt,
            "number": number,
            "path": result.path,
            "size": result.size,
            "sha256": result.sha256,
            "blob": result.blob,
        }
        for number, result in enumerate(results)
    ]


def job_of(row: Row, attempts: Sequence[Attempt], results: Sequence[Result]) -> Job:
    """A job with its attempts and results."""
    return Job(
        id=JobId(row["id"]),
        file_id=FileId(row["file_id"]),
        submission_id=SubmissionId(row["submission_id"]),
        state=JobState(row["state"]),
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        settled_at=row["settled_at"],
        exit_code=row["exit_code"],
        error=error_of(row),
        value=row["value"],
        output_size=row["output_size"],
        not_before=row["not_before"],
        attempts=tuple(attempts),
        result_count=row["result_count"],
        results=tuple(results),
    )


# --- changes ---------------------------------------------------------------------------------------------------------


def _job(tx: Transaction, job_id: str) -> Row:
    row = tx.one(_JOB, key=job_id)
    if row is None:
        raise NotFound("There is no such job.")
    return row


def _set_job(tx: Transaction, row: Row, state: JobState, **values: Any) -> None:
    require_transition(JOB_TRANSITIONS, JobState(row["state"]), state, "job")
    tx.run(_SET_JOB, key=row["seq"], state=state.value, **values)
    tx.move(row["submission_id"], row["state"], state.value)


def _job_subject(tx: Transaction, row: Row, attempt: int | None = None) -> Subject:
    return replace(
        tx.subject(row["submission_id"]), file_id=row["file_id"], job_id=row["id"], name=row["name"], attempt=attempt
    )


def add_job(tx: Transaction, job_id: JobId, file_id: FileId, submission_id: str, subject: Subject) -> None:
    """Queue the job of a file that was stored, with the newest config revision.

    Args:
        tx: where.
        job_id: its id.
        file_id: of its file.
        submission_id: of its file.
        subject: of the event; names the file.
    """
    config_number = config.newest(tx).number
    cursor = tx.emit(EventName.JOB_QUEUED, replace(subject, job_id=job_id), reason="stored")
    tag = tx.next_tag(submission_id, None)
    tx.run(
        _ADD_JOB,
        id=job_id,
        file_id=file_id,
        submission_id=submission_id,
        state=JobState.QUEUED.value,
        queued_at=utc_now(),
        queued_cursor=cursor,
        tag=tag,
        config_number=config_number,
        owner=tx.submission(submission_id)["owner"],
    )


def claim(tx: Transaction, claim: Claim) -> list[AttemptSpec]:
    """See `Ledger.claim`."""
    if tx.node is None:
        raise AssertionError("a process that is no node claims nothing")
    look = tx.one(_FIRST_LOOK, claim=claim.id)
    if look is not None and look["again"]:
        return [
            _order(tx, _job(tx, job_id)) for job_id in tx.connection.execute(_CLAIMED, {"claim": claim.id}).scalars()
        ]
    if look is not None and look["due"] is not None:
        _line_up(tx)
    orders: list[AttemptSpec] = []
    for queue in claim.queues:
        while len(orders) < claim.most:
            row = tx.one(_NEXT) if queue is None else tx.one(_NEXT_OF, queue=queue)
            if row is None:
                break
            tx.take_turn(queue, row["tag"])
            orders.append(_start(tx, row, tx.node, claim.id))
    return orders


def _line_up(tx: Transaction) -> None:
    """Bring those into line whose time has come; of very many the rest with the next claims."""
    for _ in range(LINED_UP_MAX):
        row = tx.one(_DUE, now=utc_now())
        if row is None:
            return
        tx.run(_SET_JOB, key=row["seq"], not_before=None, tag=tx.next_tag(row["submission_id"], row["queue"]))


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
    _set_job(tx, row, JobState.RUNNING, attempt=number, started_at=now, not_before=None, tag=None)
    tx.emit(EventName.ATTEMPT_STARTED, _job_subject(tx, row, number), config_revision=revision.sha256, host=node.host)
    return _order(tx, {**row, "attempt": number})


def _order(tx: Transaction, row: Row) -> AttemptSpec:
    """The order of a job's newest attempt."""
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


_ATTEMPT_EVENTS: Mapping[AttemptState, EventName] = {
    AttemptState.SUCCEEDED: EventName.ATTEMPT_SUCCEEDED,
    AttemptState.FAILED: EventName.ATTEMPT_FAILED,
    AttemptState.CANCELLED: EventName.ATTEMPT_CANCELLED,
}


def end_attempt(
    tx: Transaction,
    job_id: JobId,
    number: int,
    outcome: AttemptOutcome,
    retry: RetryPolicy | None,
    then_claim: Claim | None,
) -> Ended | None:
    """See `Ledger.end_attempt`."""
    row = _job(tx, job_id)
    attempt = tx.one(_ATTEMPT, key=job_id, attempt_number=number)
    if attempt is None or tx.node is None or attempt["node"] != tx.node.id or attempt["state"] == AttemptState.LOST:
        return None
    if attempt["state"] == AttemptState.RUNNING:
        state = _end(tx, row, number, outcome, retry)
    else:  # it is asked again
        state = _ended_before(row, attempt)
    return Ended(state=state, orders=() if then_claim is None else claim(tx, then_claim))


def _ended_before(row: Row, attempt: Row) -> JobState:
    """What became of a job when one of its attempts ended."""
    if attempt["state"] != AttemptState.FAILED:
        return JobState(attempt["state"])
    is_final = JobState(row["state"]).is_final and row["attempt"] == attempt["number"]
    return JobState.FAILED if is_final else JobState.QUEUED  # by the retry policy, or by people since


def _end(tx: Transaction, row: Row, number: int, outcome: AttemptOutcome, retry: RetryPolicy | None) -> JobState:
    job_id = JobId(row["id"])
    now = utc_now()
    require_transition(ATTEMPT_TRANSITIONS, AttemptState.RUNNING, outcome.state, "attempt")
    event = _ATTEMPT_EVENTS[outcome.state]  # a lost attempt has its own change
    outcome = replace(outcome, error=_storable(outcome.error))
    tx.run(
        _SET_ATTEMPT,
        key=job_id,
        attempt_number=number,
        state=outcome.state.value,
        exit_code=outcome.exit_code,
        settled_at=now,
        output_size=outcome.output_size,
    )
    if outcome.results:
        tx.connection.execute(_ADD_RESULTS, results_to_add(job_id, number, outcome.results))
    data: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        "duration": _seconds(row["started_at"], now),
        "output_size": outcome.output_size,
    }
    if event is EventName.ATTEMPT_FAILED:
        data["error"] = _error_json(outcome.error)
    tx.emit(event, _job_subject(tx, row, number), **data)
    tx.keep(row["submission_id"], outcome.output_size + sum(result.size for result in outcome.results))
    if retry is not None and retry.applies(outcome, row["tries"]) and row["cancel_asked_at"] is None:
        not_before = retry.next_time(now, row["tries"])
        _requeue(tx, row, "retry_policy", tries=row["tries"] + 1, not_before=not_before)
        return JobState.QUEUED
    state = JobState(outcome.state.value)
    _settle_job(tx, row, state, outcome, now)
    return state


def _requeue(tx: Transaction, row: Row, reason: str, **values: Any) -> None:
    cursor = tx.emit(EventName.JOB_QUEUED, _job_subject(tx, row), reason=reason)
    # Who waits for a time comes into line when it has come.
    tag = None if values.get("not_before") else tx.next_tag(row["submission_id"], row["queue"])
    values = {"not_before": None, "started_at": None, "queued_at": utc_now(), "queued_cursor": cursor, **values}
    values |= {"tag": tag, "cancel_asked_at": None}
    _set_job(tx, row, JobState.QUEUED, **values)


def _settle_job(tx: Transaction, row: Row, state: JobState, outcome: AttemptOutcome, now: datetime) -> None:
    error = outcome.error
    _set_job(
        tx,
        row,
        state,
        settled_at=now,
        not_before=None,
        tag=None,
        cancel_asked_at=None,
        exit_code=outcome.exit_code,
        error_type=None if error is None else error.type,
        error_message=None if error is None else error.message,
        value=outcome.value,
        output_size=outcome.output_size,
        result_count=len(outcome.results),
    )
    if error is not None:
        search.set_error(tx, row, error.message)
    started_at = row["started_at"] if JobState(row["state"]) is JobState.RUNNING else None
    tx.emit(
        EventName.JOB_SETTLED,
        _job_subject(tx, row, row["attempt"] or None),
        state=state.value,
        exit_code=outcome.exit_code,
        error=_error_json(error),
        duration=_seconds(started_at, now),
        output_size=outcome.output_size,
        result_count=len(outcome.results),
        results=[{"path": result.path, "size": result.size} for result in outcome.results[:RESULTS_TOLD]],
    )
    tx.settle(row["submission_id"])


def _error_json(error: JobError | None) -> dict[str, str] | None:
    return None if error is None else {"type": error.type, "message": error.message}


def _storable(error: JobError | None) -> JobError | None:
    """An error as its columns will hold it, so that its events say the same."""
    return None if error is None else JobError(type=storable(error.type), message=storable(error.message))


def _seconds(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else max((end - start).total_seconds(), 0.0)


def lose_attempt(tx: Transaction, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
    """See `Ledger.lose_attempt`."""
    row = _job(tx, job_id)
    if row["state"] != JobState.RUNNING or row["attempt"] != number:
        return None
    now = utc_now()
    lost = row["lost"] + 1
    tx.run(_SET_ATTEMPT, key=job_id, attempt_number=number, state=AttemptState.LOST.value, settled_at=now)
    tx.emit(EventName.ATTEMPT_LOST, _job_subject(tx, row, number))
    if row["cancel_asked_at"] is not None:
        _settle_job(tx, row, JobState.CANCELLED, AttemptOutcome(state=AttemptState.CANCELLED, exit_code=None), now)
        return JobState.CANCELLED
    if lost < max_attempts:
        _requeue(tx, row, LOST, lost=lost)
        return JobState.QUEUED
    tx.run(_SET_JOB, key=row["seq"], lost=lost)
    error = JobError(type=LOST, message=f"The process running it vanished {lost} times; it is not tried again.")
    outcome = AttemptOutcome(state=AttemptState.LOST, exit_code=None, error=error)
    _settle_job(tx, row, JobState.FAILED, outcome, now)
    return JobState.FAILED


def request_cancel(tx: Transaction, job_id: JobId) -> JobState:
    """See `Ledger.request_cancel`."""
    row = _job(tx, job_id)
    if JobState(row["state"]).is_final:
        raise IllegalTransition("The job has settled already; there is nothing to cancel.")
    return _cancel(tx, row)


def _cancel(tx: Transaction, row: Row) -> JobState:
    if row["state"] == JobState.QUEUED:
        outcome = AttemptOutcome(state=AttemptState.CANCELLED, exit_code=None)
        _settle_job(tx, row, JobState.CANCELLED, outcome, utc_now())
        return JobState.CANCELLED
    if row["cancel_asked_at"] is None:
        tx.run(_SET_JOB, key=row["seq"], cancel_asked_at=utc_now())
    return JobState.RUNNING


def request_cancels(tx: Transaction, submission_id: SubmissionId, after: str | None, limit: int) -> Page[JobId]:
    """See `Ledger.request_cancels`."""
    some, following = _some_jobs(tx, submission_id, (JobState.QUEUED, JobState.RUNNING), after, limit)
    running = [JobId(row["id"]) for row in some if _cancel(tx, row) is JobState.RUNNING]
    return Page(items=running, next=following)


def retry_job(tx: Transaction, job_id: JobId) -> None:
    """See `Ledger.retry_job`."""
    row = _job(tx, job_id)
    require_transition(JOB_TRANSITIONS, JobState(row["state"]), JobState.QUEUED, "job")
    if row["state"] == JobState.RUNNING:  # that way back is for attempts that were lost, and for the retry policy
        raise IllegalTransition("The job is running; cancel it first.")
    _require_kept(row)
    _retry(tx, row)


def _require_kept(row: Row) -> None:
    if row["removed_at"] is not None:
        raise Removed("The file is no longer kept on this server, so it cannot be processed again; send it anew.")


def _retry(tx: Transaction, row: Row) -> None:
    tx.change(row["submission_id"], settled_at=None)
    if row["error_message"] is not None:
        search.set_error(tx, row, None)
    _requeue(
        tx,
        row,
        "retry",
        lost=0,
        tries=0,
        config_number=config.newest(tx).number,
        settled_at=None,
        exit_code=None,
        error_type=None,
        error_message=None,
        value=None,
        output_size=0,
        result_count=0,
    )


def _some_jobs(
    tx: Transaction, submission_id: str, states: Sequence[JobState], after: str | None, limit: int
) -> tuple[Sequence[Row], str | None]:
    tx.submission(submission_id)
    parameters = {"key": submission_id, "states": list(states), "after": int(after or 0), "limit": limit + 1}
    found = tx.connection.execute(_JOBS_OF_SUBMISSION, parameters).mappings().all()
    return found[:limit], str(found[limit - 1]["seq"]) if len(found) > limit else None


def retry_failed(tx: Transaction, submission_id: SubmissionId, after: str | None, limit: int) -> Page[JobId]:
    """See `Ledger.retry_failed`."""
    some, following = _some_jobs(tx, submission_id, (JobState.FAILED, JobState.CANCELLED), after, limit)
    for row in some:
        _require_kept(row)
        _retry(tx, row)
    return Page(items=[JobId(row["id"]) for row in some], next=following)


# --- queries ---------------------------------------------------------------------------------------------------------


def jobs_of(connection: Connection, found: Sequence[Row], results_max: int = RESULTS_LISTED) -> list[Job]:
    """The jobs of some rows, each with its attempts and its first results."""
    by_job: dict[str, list[Any]] = {row["id"]: [] for row in found}
    ids = [row["id"] for row in found if row["attempt"]]
    for start in range(0, len(ids), 500):
        some = select(attempts).where(attempts.c.job_id.in_(ids[start : start + 500])).order_by(attempts.c.number)
        for attempt in connection.execute(some).mappings():
            by_job[attempt["job_id"]].append(attempt_of(attempt))
    results_of = _results_of(connection, [row["id"] for row in found if row["result_count"]], results_max)
    return [job_of(row, by_job[row["id"]], results_of.get(row["id"], ())) for row in found]


def _results_of(connection: Connection, ids: Sequence[str], results_max: int) -> dict[str, list[Result]]:
    """The first results of each job's newest attempt."""
    by_job: dict[str, list[Result]] = {job_id: [] for job_id in ids}
    for start in range(0, len(ids), 500):
        parameters = {"ids": ids[start : start + 500], "results_max": results_max}
        for row in connection.execute(_RESULTS, parameters).mappings():
            by_job[row["job_id"]].append(result_of(row))
    return by_job


def get_job(connection: Connection, job_id: JobId, visible_to: Owner | None) -> Job:
    """See `Ledger.job`."""
    wanted = seen_by(select(jobs).where(jobs.c.id == job_id), jobs.c.owner, visible_to)
    row = connection.execute(wanted).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such job.")
    return jobs_of(connection, [row], results_max=row["result_count"])[0]


def get_result(
    connection: Connection, job_id: JobId, path: str, attempt: int | None, visible_to: Owner | None
) -> Result:
    """See `Ledger.result`."""
    if not is_storable(path):
        raise NotFound("There is no such result.")
    parameters = {"job_id": job_id, "path": path, "attempt": attempt}
    row = connection.execute(seen_by(_RESULT, jobs.c.owner, visible_to), parameters).mappings().one_or_none()
    if row is None:
        raise NotFound("There is no such result.")
    return result_of(row)


def list_jobs(
    connection: Connection,
    before: str | None,
    limit: int,
    state: str | None,
    text: str | None,
    submission_id: SubmissionId | None,
    visible_to: Owner | None,
) -> Page[Job]:
    """See `Ledger.jobs`."""
    one_of(state, list(JobState))
    start = page_key(before)
    if text:
        about = search.find_jobs(connection, text, state, submission_id, start, limit + 1, visible_to)
        page, following = page_of(about, limit, "key")
        return Page(items=jobs_of(connection, page), next=following)
    query = seen_by(select(jobs), jobs.c.owner, visible_to)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if submission_id is not None:
        query = query.where(jobs.c.submission_id == submission_id)
    if start is not None:
        query = query.where(jobs.c.seq < start)
    found = connection.execute(query.order_by(jobs.c.seq.desc()).limit(limit + 1)).mappings().all()
    page, following = page_of(found, limit)
    return Page(items=jobs_of(connection, page), next=following)


def cancels_asked(connection: Connection, node: NodeId | None) -> Sequence[tuple[JobId, int]]:
    """See `Ledger.cancels_asked`."""
    return [(JobId(job_id), attempt) for job_id, attempt in connection.execute(_TO_CANCEL, {"node": node})]


def next_due(connection: Connection) -> datetime | None:
    """See `Ledger.next_due`."""
    due: datetime | None = connection.execute(_NEXT_DUE).scalar_one()
    return due


def places(connection: Connection, job_ids: Collection[JobId]) -> Mapping[JobId, int]:
    """See `Ledger.places`."""
    found = connection.execute(_WAITING, {"ids": list(job_ids)}).all()
    places: dict[JobId, int] = {}
    reached: dict[str | None, tuple[int, int, int]] = {}  # in each queue: a place, and whose it is
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
