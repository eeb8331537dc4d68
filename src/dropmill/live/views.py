"""Submissions, files and jobs as they are at this moment: the ledger's records with what only memory knows."""

from collections.abc import Callable

from dropmill.live.messages import Json, Momentary, file_json, job_json, submission_json
from dropmill.model.ids import Cursor, FileId, JobId, SubmissionId
from dropmill.model.records import File, Job, JobState, UploadState
from dropmill.ports.bus import Bus
from dropmill.ports.executor import Executor
from dropmill.ports.ledger.history import HistoryLedger

FILES_SHOWN = 100  # of a submission at once; the rest is read page by page


class Views:
    """Makes the contract's shapes."""

    def __init__(
        self,
        *,
        ledger: HistoryLedger,
        bus: Bus,
        executor: Executor,
        received: Callable[[FileId], int | None],
        base_path: str = "",
    ) -> None:
        """Keep the sources.

        Args:
            received: tells how many bytes of a file have arrived; None unless it is arriving.
            base_path: what the paths of URLs begin with; "" at the root.
        """
        self._ledger = ledger
        self._bus = bus
        self._executor = executor
        self._received = received
        self._base_path = base_path

    async def submission(self, submission_id: SubmissionId) -> tuple[Json, Cursor]:
        """A Submission with its first files, and the cursor at which that was true.

        Raises:
            NotFound: there is none.
        """
        view = await self._ledger.view_submission(submission_id, limit=FILES_SHOWN)
        files = [self._file(file) for file in view.files]
        return submission_json(view.submission, files, view.files_next), view.cursor

    async def files(
        self, submission_id: SubmissionId, *, after: str | None, limit: int, state: str | None
    ) -> tuple[list[Json], str | None]:
        """A page of a submission's files in their order, and where the next begins."""
        view = await self._ledger.view_submission(submission_id, after=after, limit=limit, state=state)
        return [self._file(file) for file in view.files], view.files_next

    async def job(self, job_id: JobId) -> Json:
        """A Job."""
        return self.show_job(await self._ledger.job(job_id))

    def show_job(self, job: Job) -> Json:
        """A Job from its record."""
        return job_json(job, self._momentary(job.file_id, job), self._base_path)

    def _file(self, file: File) -> Json:
        momentary = self._momentary(file.id, file.job)
        if file.state is UploadState.RECEIVING:
            momentary = Momentary(received=self._received(file.id))
        return file_json(file, momentary, self._base_path)

    def _momentary(self, file_id: FileId, job: Job | None) -> Momentary:
        if job is None or job.state.is_final:
            return Momentary()
        return Momentary(
            position=self._executor.position(job.id) if job.state is JobState.QUEUED else None,
            progress=self._bus.newest_progress(file_id, "process") if job.state is JobState.RUNNING else None,
        )
