"""What was sent and what became of it, read. Every read sees one moment.

`visible_to` is an owner: what belongs to any other is not found, as if it were not there. None means everything.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.ids import Cursor, FileId, JobId, Owner, SubmissionId
from dropmill.model.jobs import Job
from dropmill.model.results import Result
from dropmill.model.submissions import Counts, Submission
from dropmill.model.uploads import File
from dropmill.ports.ledger.page import Page


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionView:
    """A submission with some of its files, as they stood together at `cursor`."""

    submission: Submission
    files: Sequence[File]
    files_next: str | None
    cursor: Cursor


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What an owner, or everybody, has sent.

    Attributes:
        submissions: how many.
        counts: of their files, by state.
        kept_bytes: of files, results and output that were not removed.
    """

    submissions: int
    counts: Counts
    kept_bytes: int


class SubmissionReader(Protocol):
    """Reads one submission."""

    async def view_submission(
        self,
        submission_id: SubmissionId,
        *,
        after: str | None = None,
        limit: int,
        state: str | None = None,
        visible_to: Owner | None = None,
    ) -> SubmissionView:
        """A submission, a page of its files in their order, and the cursor at which that was true."""


class FileReader(Protocol):
    """Reads one file."""

    async def file(self, file_id: FileId, *, visible_to: Owner | None = None) -> File:
        """One file with its job."""


class JobReader(Protocol):
    """Reads one job."""

    async def job(self, job_id: JobId, *, visible_to: Owner | None = None) -> Job:
        """One job with its attempts."""


class HistoryLedger(SubmissionReader, FileReader, JobReader, Protocol):
    """Reads all there is about submissions, files, jobs and results."""

    async def submissions(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        visible_to: Owner | None = None,
    ) -> Page[Submission]:
        """Submissions, newest first.

        Args:
            before: `next` of the page before; None: from the newest on.
            limit: most on a page.
            state: open, processing or settled; None: any.
            text: occurs in a file's name, path or error, or in the client's address or host; case makes no
                difference. Less than three characters are looked for in one after the other.
            visible_to: see above.
        """

    async def jobs(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        submission_id: SubmissionId | None = None,
        visible_to: Owner | None = None,
    ) -> Page[Job]:
        """Jobs, newest first; those that a `text` is about in the order of their submissions and files.

        A `before` is for pages of the same `text`.
        """

    async def totals(self, *, visible_to: Owner | None = None) -> Totals:
        """What was sent in all, as the changes of submissions and jobs have counted it."""

    async def places(self, job_ids: Collection[JobId]) -> Mapping[JobId, int]:
        """The places in line of those of the jobs that stand in it, 1 being next; an estimate, as others may come.

        Jobs that wait for their time stand in no line; behind the first `PLACES_MAX` no place is told.
        """

    async def result(self, job_id: JobId, path: str, attempt: int | None, *, visible_to: Owner | None = None) -> Result:
        """What an attempt left under exactly this path; `attempt` None is the job's newest.

        Raises:
            NotFound: nothing, or there is no such job or attempt.
        """
