"""What was sent and what became of it, read. Every read sees one moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.ids import Cursor, FileId, JobId, SubmissionId
from dropmill.model.records import File, Job, Result, Submission
from dropmill.ports.ledger.page import Page


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionView:
    """A submission with some of its files, as they stood together at `cursor`."""

    submission: Submission
    files: Sequence[File]
    files_next: str | None
    cursor: Cursor


class SubmissionReader(Protocol):
    """Reads one submission."""

    async def view_submission(
        self, submission_id: SubmissionId, *, after: str | None = None, limit: int, state: str | None = None
    ) -> SubmissionView:
        """A submission, a page of its files in their order, and the cursor at which that was true."""


class FileReader(Protocol):
    """Reads one file."""

    async def file(self, file_id: FileId) -> File:
        """One file with its job."""


class JobReader(Protocol):
    """Reads one job."""

    async def job(self, job_id: JobId) -> Job:
        """One job with its attempts."""


class HistoryLedger(SubmissionReader, FileReader, JobReader, Protocol):
    """Reads all there is about submissions, files, jobs and results."""

    async def submissions(
        self, *, before: str | None, limit: int, state: str | None = None, text: str | None = None
    ) -> Page[Submission]:
        """Submissions, newest first; `state` open, processing or settled; `text` occurs in a file's path or client."""

    async def jobs(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        submission_id: SubmissionId | None = None,
    ) -> Page[Job]:
        """Jobs, newest first."""

    async def result(self, job_id: JobId, path: str, attempt: int | None) -> Result:
        """What an attempt left under exactly this path; `attempt` None is the job's newest.

        Raises:
            NotFound: nothing, or there is no such job or attempt.
        """
