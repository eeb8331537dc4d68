"""Submissions, files, jobs and results in their current state, for a caller.

The ledger's records, completed by what only the running server knows; JSON shapes where they go to a client. What the
caller may not see is not found, in lists and searches neither.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from dropmill.access.policy import visible_to
from dropmill.live.guests import View, file_as_seen, job_as_seen, submission_as_seen, view_of
from dropmill.model.caller import Caller
from dropmill.model.errors import BadParameter
from dropmill.model.history import HistoryFilter, HistoryPage
from dropmill.model.ids import Cursor, FileId, JobId, SubmissionId
from dropmill.model.jobs import Job, JobState
from dropmill.model.links import path_of
from dropmill.model.results import Result
from dropmill.model.submissions import Submission
from dropmill.model.uploads import File, UploadState
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.events import ViewLedger
from dropmill.ports.ledger.history import SubmissionView
from dropmill.wire.history import ListedSubmissionJson, listed_submission_json
from dropmill.wire.jobs import JobJson, RuntimeState, job_json
from dropmill.wire.submissions import FileJson, SubmissionJson, file_json, submission_json

FILES_SHOWN = 100  # of a submission at once; the rest is read page by page
FILES_READ = 500  # of a submission, for all of its results, from the ledger at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job with its file and submission.

    Attributes:
        cursor: all of this is at least as new; following from it misses nothing.
        shape: the job as clients get it.
    """

    cursor: Cursor
    job: Job
    shape: JobJson
    file: File
    submission: Submission


class Views:
    """Reads for a caller, from ledger and memory."""

    def __init__(
        self,
        *,
        ledger: ViewLedger,
        bus: Bus,
        received: Callable[[FileId], int | None],
        senders: Callable[[SubmissionId], Set[FileId]],
        base_path: str = "",
    ) -> None:
        """Keep the sources.

        Args:
            received: returns how many bytes of a file have arrived; None unless it is arriving.
            senders: returns which files of a submission are being sent now.
            base_path: how the paths of URLs begin; "" at the root.
        """
        self._ledger = ledger
        self._bus = bus
        self._received = received
        self._senders = senders
        self._base_path = base_path

    async def submissions(
        self, caller: Caller, *, before: str | None, limit: int, state: str | None = None, text: str | None = None
    ) -> tuple[list[ListedSubmissionJson], str | None]:
        """Submissions, newest first, each with its first file, and where the next page begins.

        See `Ledger.submissions`.
        """
        if caller.link is not None and (state is not None or text is not None):
            raise BadParameter("A link's own submissions are listed without `state` and `q`.")
        page = await self._ledger.submissions(
            before=before, limit=limit, state=state, text=text, visible_to=visible_to(caller)
        )
        first_of = await self._ledger.first_files([submission.id for submission in page.items])
        view = view_of(caller)
        listed = [listed_submission_json(each, first_of.get(each.id)) for each in page.items]
        return [submission_as_seen(shape, view) for shape in listed], page.next

    async def history(
        self,
        caller: Caller,
        wanted: HistoryFilter,
        *,
        before: str | None = None,
        after: str | None = None,
        limit: int,
    ) -> HistoryPage:
        """A page of the history; see `Ledger.history`."""
        return await self._ledger.history(
            wanted, before=before, after=after, limit=limit, visible_to=visible_to(caller)
        )

    async def submission(self, caller: Caller, submission_id: SubmissionId) -> tuple[SubmissionJson, Cursor]:
        """A Submission with its first files, and the cursor at which that was true.

        Raises:
            NotFound: there is none.
        """
        view = await self._ledger.view_submission(submission_id, limit=FILES_SHOWN, visible_to=visible_to(caller))
        files = await self._files(caller, view.files)
        shape = submission_json(view.submission, files, view.files_next)
        return submission_as_seen(shape, view_of(caller)), view.cursor

    def new_submission(self, caller: Caller, view: SubmissionView) -> SubmissionJson:
        """A Submission as the caller's own request left it, without another read: `position` of its jobs is null."""
        files = [self._file(caller, file, {}) for file in view.files]
        return submission_as_seen(submission_json(view.submission, files, view.files_next), view_of(caller))

    async def files(
        self, caller: Caller, submission_id: SubmissionId, *, after: str | None, limit: int, state: str | None
    ) -> tuple[list[FileJson], str | None]:
        """A page of a submission's files in their order, and where the next begins."""
        if view_of(caller) is View.ARRIVALS and state in list(JobState):
            raise BadParameter("This link shows no jobs.")
        view = await self._ledger.view_submission(
            submission_id, after=after, limit=limit, state=state, visible_to=visible_to(caller)
        )
        return await self._files(caller, view.files), view.files_next

    async def file(self, caller: Caller, file_id: FileId) -> File:
        """The record of a file, with its job.

        Raises:
            NotFound: there is none.
        """
        return await self._ledger.file(file_id, visible_to=visible_to(caller))

    async def jobs(
        self,
        caller: Caller,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        submission_id: SubmissionId | None = None,
    ) -> tuple[list[JobJson], str | None]:
        """Jobs, newest first, and where the next page begins; see `Ledger.jobs`."""
        page = await self._ledger.jobs(
            before=before,
            limit=limit,
            state=state,
            text=text,
            submission_id=submission_id,
            visible_to=visible_to(caller),
        )
        return await self._jobs(caller, page.items), page.next

    async def job(self, caller: Caller, job_id: JobId) -> JobJson:
        """A Job.

        Raises:
            NotFound: there is none.
        """
        return (await self._jobs(caller, [await self._ledger.job(job_id, visible_to=visible_to(caller))]))[0]

    async def job_with_file(self, caller: Caller, job_id: JobId) -> JobView:
        """A job with its file and submission.

        Raises:
            NotFound: there is none.
        """
        cursor = await self._ledger.newest_cursor()  # read first, so that no later event is missed
        job = await self._ledger.job(job_id, visible_to=visible_to(caller))
        file = await self._ledger.file(job.file_id)  # of the same owner, as the submission is
        view = await self._ledger.view_submission(job.submission_id, limit=1)
        [shape] = await self._jobs(caller, [job])
        return JobView(cursor=cursor, job=job, shape=shape, file=file, submission=view.submission)

    async def result(self, caller: Caller, job_id: JobId, path: str, attempt: int | None) -> Result:
        """The result with exactly this path; see `Ledger.result`.

        Raises:
            NotFound: there is no such result, job or attempt.
        """
        return await self._ledger.result(job_id, path, attempt, visible_to=visible_to(caller))

    async def results(
        self, caller: Caller, submission_id: SubmissionId
    ) -> AsyncGenerator[Sequence[tuple[File, Sequence[Result]]], None]:
        """The files of a submission that have results, in their order, with all results; some files at a time.

        A removed file has no results: they were removed with it.

        Raises:
            NotFound: there is no such submission.
        """
        after: str | None = None
        while True:
            view = await self._ledger.view_submission(
                submission_id, after=after, limit=FILES_READ, visible_to=visible_to(caller)
            )
            page: list[tuple[File, Sequence[Result]]] = []
            for file in view.files:
                job = file.job
                if job is None or job.result_count == 0:
                    continue
                if file.removed_at is not None:
                    page.append((file, ()))
                    continue
                if job.result_count > len(job.results):
                    job = await self._ledger.job(job.id)  # of a submission that was read for the caller
                page.append((file, job.results))
            yield page
            after = view.files_next
            if after is None:
                return

    def senders(self, caller: Caller, submission_id: SubmissionId) -> Set[FileId]:
        """The files of a submission, which the caller has read before, that are being sent now."""
        return self._senders(submission_id)

    async def _jobs(self, caller: Caller, jobs: Sequence[Job]) -> list[JobJson]:
        places, base, view = await self._places(jobs), self._base(caller), view_of(caller)
        shapes = [job_json(job, self._runtime(job.file_id, job, places), base) for job in jobs]
        return [job_as_seen(shape, view) for shape in shapes]

    async def _files(self, caller: Caller, files: Sequence[File]) -> list[FileJson]:
        places = await self._places([file.job for file in files if file.job is not None])
        return [self._file(caller, file, places) for file in files]

    def _base(self, caller: Caller) -> str:
        """How the paths of URLs begin for a caller."""
        return self._base_path if caller.link is None else f"{self._base_path}{path_of(caller)}"

    async def _places(self, jobs: Sequence[Job]) -> Mapping[JobId, int]:
        """The queue positions of all jobs of a page: one read, or none if no job is queued."""
        waiting = [job.id for job in jobs if job.state is JobState.QUEUED]
        return await self._ledger.places(waiting) if waiting else {}

    def _file(self, caller: Caller, file: File, places: Mapping[JobId, int]) -> FileJson:
        runtime = self._runtime(file.id, file.job, places)
        if file.state in (UploadState.ANNOUNCED, UploadState.RECEIVING):
            received = self._received(file.id) if file.state is UploadState.RECEIVING else None
            runtime = RuntimeState(received=received, is_sending=file.id in self._senders(file.submission_id))
        return file_as_seen(file_json(file, runtime, self._base(caller)), view_of(caller))

    def _runtime(self, file_id: FileId, job: Job | None, places: Mapping[JobId, int]) -> RuntimeState:
        if job is None or job.state.is_final:
            return RuntimeState()
        return RuntimeState(
            position=places.get(job.id),
            progress=self._bus.newest_progress(file_id, "process") if job.state is JobState.RUNNING else None,
        )
