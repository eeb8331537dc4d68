"""What the changes of a batch are known to read, so that all of it comes with the lock, in one round trip.

A change that is not listed in `_OF` reads while it is made, a round trip for each read: correct, and slower. So does
one that reads what nobody could know before.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Select, Text, any_, bindparam, cast, exists, func, literal_column, select, union
from sqlalchemy.dialects.postgresql import ARRAY

from dropmill.engines.postgres.bulk import texts
from dropmill.engines.sql import attempts as attempt_changes
from dropmill.engines.sql import jobs as job_changes
from dropmill.engines.sql import submissions as submission_changes
from dropmill.engines.sql import uploads as upload_changes
from dropmill.engines.sql.claim import QUEUE_ORDER, claim_jobs
from dropmill.engines.sql.config import select_revisions
from dropmill.engines.sql.database import Handed
from dropmill.engines.sql.jobs import JOBS
from dropmill.engines.sql.tables import (
    attempts,
    config_revisions,
    events,
    files,
    has_turn,
    is_claimable,
    is_late,
    jobs,
    nodes,
    queues,
    quotas,
    submissions,
    turns,
)
from dropmill.model.ids import ClaimId, FileId, JobId, Owner, SubmissionId
from dropmill.model.jobs import AttemptOutcome, Claim, RetryPolicy
from dropmill.model.uploads import StoredBlob
from dropmill.ports.ledger.uploads import WholeFile


@dataclass(slots=True)
class Reads:
    """What is read.

    Attributes:
        submissions: by their ids; those of the files, jobs and claims are read besides.
        files: by their ids.
        jobs: by their ids, with the attempts of each.
        opened: how many submissions are new; each gets a number.
        owners: of those; what they have and whose turn it is is read of every owner that appears.
        claims: their ids.
        most: how many jobs without a queue are claimed; those are read that are next.
        needs_config: whether the newest config revision, and those of the jobs that are next.
    """

    submissions: set[SubmissionId] = field(default_factory=set)
    files: set[FileId] = field(default_factory=set)
    jobs: set[JobId] = field(default_factory=set)
    opened: int = 0
    owners: set[Owner] = field(default_factory=set)
    claims: set[ClaimId] = field(default_factory=set)
    most: int = 0
    needs_config: bool = False

    def add(self, handed: Sequence[Handed]) -> "Reads":
        """Add what some changes read; returns itself."""
        for one in handed:
            if (of := _OF.get(one.change)) is not None:
                of(self, *one.args, **one.kwargs)
        return self

    def add_claim(self, claim: Claim | None) -> None:
        """Add what a claim reads; None: nothing."""
        if claim is not None:
            self.claims.add(claim.id)
            self.needs_config = True
            if None in claim.queues:
                self.most += claim.most

    @property
    def needs_submissions(self) -> bool:
        """Whether any submission is read."""
        return bool(self.submissions or self.files or self.jobs or self.most)

    @property
    def needs_owners(self) -> bool:
        """Whether anything is read of owners."""
        return self.needs_submissions or bool(self.owners)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of the queries below."""
        return {
            "submissions": _ids(self.submissions),
            "files": _ids(self.files),
            "jobs": _ids(self.jobs),
            "claims": _ids(self.claims),
            "most": self.most,
            "opened": self.opened,
            "owners_given": _ids(self.owners),
            "owners": OWNERS_LOOKED_AT if self.most else 0,
        }


def _ids(found: Collection[str]) -> str:
    """An array of those that can be ids; the others are not found."""
    return texts([one for one in found if one.isascii() and "\0" not in one])


OWNERS_LOOKED_AT = 2
"""Of the owners in line: if there is only one, nobody needs to ask whose turn it is."""

# --- the queries -----------------------------------------------------------------------------------------------------


def _given(name: str) -> Any:
    return cast(bindparam(name, type_=Text), ARRAY(Text))


_owners_in_line = (
    select(turns.c.owner)
    .where(has_turn, turns.c.queue == "")
    .order_by(turns.c.queue, turns.c.tag, turns.c.since)
    .limit(bindparam("owners", type_=BigInteger))
)
_first_owner = (
    select(turns.c.owner)
    .where(has_turn, turns.c.queue == "")
    .order_by(turns.c.queue, turns.c.tag, turns.c.since)
    .limit(1)
    .scalar_subquery()
)
_next = (
    JOBS.where(is_claimable, jobs.c.queue.is_(None), jobs.c.owner == _first_owner)
    .order_by(*QUEUE_ORDER)
    .limit(bindparam("most", type_=BigInteger))
)
HEADS: Select[Any] = select(
    select(func.max(events.c.cursor)).scalar_subquery().label("cursor"),
    exists().where(nodes.c.id == bindparam("node", type_=Text)).label("is_recorded"),
    select(queues.c.turn).where(queues.c.name == "").scalar_subquery().label("turn"),
    select(func.min(jobs.c.not_before)).where(is_late).scalar_subquery().label("due"),
    func.array(
        select(attempts.c.claim)
        .where(attempts.c.state == literal_column("'running'"), attempts.c.claim == any_(_given("claims")))
        .scalar_subquery()
    ).label("claimed"),
    func.array(_owners_in_line.scalar_subquery()).label("owners"),
    func.array(
        select(func.nextval("submissions_seq_seq"))
        .select_from(func.generate_series(1, bindparam("opened")))
        .scalar_subquery()
    ).label("numbers"),
)
NEXT_JOBS: Select[Any] = _next
FILES = select(files).where(files.c.id == any_(_given("files")))
JOBS_BY_ID = JOBS.where(jobs.c.id == any_(_given("jobs")))
ATTEMPTS = select(attempts.c.job_id, attempts.c.number, attempts.c.state, attempts.c.node).where(
    attempts.c.job_id == any_(_given("jobs"))
)
_line = _next.subquery("line")
_submission_ids = union(
    select(func.unnest(_given("submissions"))),
    select(files.c.submission_id).where(files.c.id == any_(_given("files"))),
    select(jobs.c.submission_id).where(jobs.c.id == any_(_given("jobs"))),
    select(_line.c.submission_id),
)
SUBMISSIONS = select(submissions).where(submissions.c.id.in_(_submission_ids))
_holders = union(
    select(func.unnest(_given("owners_given"))),
    select(submissions.c.owner).where(submissions.c.id.in_(_submission_ids)),
    select(_line.c.owner),
)
TURNS = select(turns).where(turns.c.queue == "", turns.c.owner.in_(_holders))
QUOTAS = select(quotas).where(quotas.c.holder.in_(_holders))
REVISIONS = select_revisions().where(
    config_revisions.c.number.in_(
        union(
            select(func.max(config_revisions.c.number)),
            select(_line.c.config_number),
        )
    )
)

# --- the changes -----------------------------------------------------------------------------------------------------


def _start_upload(
    reads: Reads, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
) -> None:
    reads.submissions.add(submission_id)


def _of_file(reads: Reads, file_id: FileId, *others: Any) -> None:
    reads.files.add(file_id)


def _store_upload(reads: Reads, file_id: FileId, blob: StoredBlob, job_id: JobId, fence: int | None) -> None:
    reads.files.add(file_id)
    reads.needs_config = True


def _store_files(reads: Reads, whole: Sequence[WholeFile]) -> None:
    reads.submissions.update(file.submission_id for file in whole)
    reads.files.update(file.file_id for file in whole if file.is_announced)
    reads.needs_config = True


def _of_submission(reads: Reads, submission_id: SubmissionId, *others: Any) -> None:
    reads.submissions.add(submission_id)


def _opens(reads: Reads, *others: Any) -> None:
    reads.opened += 1
    reads.owners.add(others[-1])


def _receive_one(reads: Reads, *others: Any) -> None:
    _opens(reads, *others)
    reads.needs_config = True


def _end_attempt(
    reads: Reads,
    job_id: JobId,
    number: int,
    outcome: AttemptOutcome,
    retry: RetryPolicy | None,
    then_claim: Claim | None,
) -> None:
    reads.jobs.add(job_id)
    reads.add_claim(then_claim)


def _of_job(reads: Reads, job_id: JobId, *others: Any) -> None:
    reads.jobs.add(job_id)


_OF: Mapping[Callable[..., Any], Callable[..., None]] = {
    submission_changes.open_submission: _opens,
    submission_changes.open_for_upload: _opens,
    submission_changes.receive_one: _receive_one,
    submission_changes.identify_client: _of_submission,
    submission_changes.seal_submission: _of_submission,
    upload_changes.start_upload: _start_upload,
    upload_changes.begin_upload: _of_file,
    upload_changes.take_upload: _of_file,
    upload_changes.extend_upload: _of_file,
    upload_changes.store_upload: _store_upload,
    upload_changes.store_files: _store_files,
    claim_jobs: Reads.add_claim,
    attempt_changes.end_attempt: _end_attempt,
    attempt_changes.lose_attempt: _of_job,
    job_changes.request_cancel: _of_job,
    job_changes.retry_job: _of_job,
}
