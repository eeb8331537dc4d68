"""Reads of submissions, files, jobs and results. Every read sees one moment.

`visible_to` is an owner: whatever belongs to another one is not found. None means everything.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.history import HistoryFile, HistoryFilter, HistoryPage
from dropmill.model.ids import Cursor, FileId, JobId, Owner, SubmissionId
from dropmill.model.jobs import Job
from dropmill.model.results import Result
from dropmill.model.submissions import Counts, Submission
from dropmill.model.uploads import File
from dropmill.ports.ledger.page import Page


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionView:
    """A submission with some of its files, all as of `cursor`.

    Attributes:
        files_next: `after` of the next page of files; None at the end.
    """

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
    """Reads submissions, files, jobs and results."""

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
            before: `next` of the previous page; None: from the newest on.
            limit: most on a page.
            state: open, processing or settled; None: any.
            text: part of a file's name, path or error, or of the client's address or host, in any case. A text of less
                than three characters is searched without an index.
            visible_to: see above.
        """

    async def history(
        self,
        wanted: HistoryFilter,
        *,
        before: str | None = None,
        after: str | None = None,
        limit: int,
        visible_to: Owner | None = None,
    ) -> HistoryPage:
        """A page of the history; without `before` and `after` the newest one.

        A page that was asked for by `before` always has a `previous`, and one by `after` a `next`, because the page
        that gave the cursor lies there. That page may be empty by now, if a state changed.

        A SHA-256 that very many files have finds only the newest of them.

        Args:
            wanted: which submissions.
            before: `next` of another page: the newest of the submissions older than that page.
            after: `previous` of another page: the oldest of the submissions newer than that page.
            limit: most on a page.
            visible_to: see above.

        Raises:
            BadParameter: `before` and `after` are both given or no cursors, or the state is unknown.
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
        """Jobs, newest first; with a `text`, in the order of their submissions and files.

        A `before` is valid only with the `text` of the page that gave it.
        """

    async def totals(self, *, visible_to: Owner | None = None) -> Totals:
        """Everything that was sent, as the changes of submissions and jobs have counted it."""

    async def first_files(self, submission_ids: Collection[SubmissionId]) -> Mapping[SubmissionId, HistoryFile]:
        """The first file of each of these submissions that has one."""

    async def places(self, job_ids: Collection[JobId]) -> Mapping[JobId, int]:
        """The queue positions of those jobs that can be claimed, 1 being next; later jobs of others may change them.

        Jobs that wait for a time have none, and neither have jobs after the first `PLACES_MAX`.
        """

    async def result(self, job_id: JobId, path: str, attempt: int | None, *, visible_to: Owner | None = None) -> Result:
        """The result of an attempt with exactly this path; `attempt` None means the job's newest.

        Raises:
            NotFound: there is no such result, job or attempt.
        """
