"""How attempts end, are lost, and are asked to end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, exists, insert, select, update

from dropmill.engines.sql.claim import claim_jobs
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.jobs import SET_JOB, error_json, job_row, requeue, seconds_between, settle_job, subject_of
from dropmill.engines.sql.tables import attempts, is_to_be_cancelled, jobs, results
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.types import storable
from dropmill.model.clock import utc_now
from dropmill.model.events import EventName
from dropmill.model.ids import JobId, NodeId
from dropmill.model.jobs import (
    ATTEMPT_TRANSITIONS,
    AttemptOutcome,
    AttemptState,
    Claim,
    Ended,
    JobError,
    JobState,
    RetryPolicy,
)
from dropmill.model.results import Result
from dropmill.model.transitions import require_transition

LOST = "lost"
"""Error type of a job whose attempts were lost too often; also the reason of its `job.queued`."""

ATTEMPT = select(attempts.c.number, attempts.c.state, attempts.c.node).where(
    attempts.c.job_id == bindparam("key"), attempts.c.number == bindparam("attempt_number")
)
SET_ATTEMPT = update(attempts).where(
    attempts.c.job_id == bindparam("key"), attempts.c.number == bindparam("attempt_number")
)
ADD_RESULTS = insert(results)
_TO_CANCEL = (
    select(jobs.c.id, jobs.c.attempt)
    .where(is_to_be_cancelled)
    .where(
        exists().where(
            attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt, attempts.c.node == bindparam("node")
        )
    )
)

# --- changes ---------------------------------------------------------------------------------------------------------

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
    row = job_row(tx, job_id)
    attempt = tx.one(ATTEMPT, key=job_id, attempt_number=number)
    if attempt is None or tx.node is None or attempt["node"] != tx.node.id or attempt["state"] == AttemptState.LOST:
        return None
    if attempt["state"] == AttemptState.RUNNING:
        state = _end(tx, row, number, outcome, retry)
    else:  # the node asks again
        state = _ended_before(row, attempt)
    return Ended(state=state, orders=() if then_claim is None else claim_jobs(tx, then_claim))


def _ended_before(row: Row, attempt: Row) -> JobState:
    """What became of a job when one of its attempts ended."""
    if attempt["state"] != AttemptState.FAILED:
        return JobState(attempt["state"])
    is_final = JobState(row["state"]).is_final and row["attempt"] == attempt["number"]
    return JobState.FAILED if is_final else JobState.QUEUED  # the retry policy requeued it, or somebody did since


def _end(tx: Transaction, row: Row, number: int, outcome: AttemptOutcome, retry: RetryPolicy | None) -> JobState:
    job_id = JobId(row["id"])
    now = utc_now()
    require_transition(ATTEMPT_TRANSITIONS, AttemptState.RUNNING, outcome.state, "attempt")
    event = _ATTEMPT_EVENTS[outcome.state]  # a lost attempt has its own change
    outcome = replace(outcome, error=_storable(outcome.error))
    tx.run(
        SET_ATTEMPT,
        key=job_id,
        attempt_number=number,
        state=outcome.state.value,
        exit_code=outcome.exit_code,
        settled_at=now,
        output_size=outcome.output_size,
    )
    if outcome.results:
        tx.run_all(ADD_RESULTS, _rows_of_results(job_id, number, outcome.results))
    data: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        "duration": seconds_between(row["started_at"], now),
        "output_size": outcome.output_size,
    }
    if event is EventName.ATTEMPT_FAILED:
        data["error"] = error_json(outcome.error)
    tx.emit(event, subject_of(tx, row, number), **data)
    tx.keep(row["submission_id"], outcome.output_size + sum(result.size for result in outcome.results))
    if retry is not None and retry.applies(outcome, row["tries"]) and row["cancel_asked_at"] is None:
        not_before = retry.next_time(now, row["tries"])
        requeue(tx, row, "retry_policy", tries=row["tries"] + 1, not_before=not_before)
        return JobState.QUEUED
    state = JobState(outcome.state.value)
    settle_job(tx, row, state, outcome, now)
    return state


def _storable(error: JobError | None) -> JobError | None:
    """An error as its columns will hold it, so that its events say the same."""
    return None if error is None else JobError(type=storable(error.type), message=storable(error.message))


def lose_attempt(tx: Transaction, job_id: JobId, number: int, max_attempts: int | None) -> JobState | None:
    """See `Ledger.lose_attempt`; None as `max_attempts`: it does not count, because its job was handed back."""
    row = job_row(tx, job_id)
    if row["state"] != JobState.RUNNING or row["attempt"] != number:
        return None
    now = utc_now()
    lost = row["lost"] + (max_attempts is not None)
    tx.run(SET_ATTEMPT, key=job_id, attempt_number=number, state=AttemptState.LOST.value, settled_at=now)
    tx.emit(EventName.ATTEMPT_LOST, subject_of(tx, row, number))
    if row["cancel_asked_at"] is not None:
        settle_job(tx, row, JobState.CANCELLED, AttemptOutcome(state=AttemptState.CANCELLED, exit_code=None), now)
        return JobState.CANCELLED
    if max_attempts is None or lost < max_attempts:
        requeue(tx, row, LOST, lost=lost)
        return JobState.QUEUED
    tx.run(SET_JOB, key=row["seq"], lost=lost)
    error = JobError(type=LOST, message=f"The process running it vanished {lost} times; it is not tried again.")
    outcome = AttemptOutcome(state=AttemptState.LOST, exit_code=None, error=error)
    settle_job(tx, row, JobState.FAILED, outcome, now)
    return JobState.FAILED


def _rows_of_results(job_id: JobId, attempt: int, results: Sequence[Result]) -> list[dict[str, Any]]:
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


# --- queries ---------------------------------------------------------------------------------------------------------


def cancels_asked(connection: Connection, node: NodeId | None) -> Sequence[tuple[JobId, int]]:
    """See `Ledger.cancels_asked`."""
    return [(JobId(job_id), attempt) for job_id, attempt in connection.execute(_TO_CANCEL, {"node": node})]
