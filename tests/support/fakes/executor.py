"""An executor that runs nothing, and remembers what it was asked."""

from datetime import datetime

from dropmill.model.ids import JobId, SubmissionId


class FakeExecutor:
    """`dropmill.ports.executor.Executor`; a test says what runs and what waits where."""

    def __init__(self) -> None:
        self.running: set[JobId] = set()
        self.place: int | None = None  # of every job
        self.submitted: list[JobId] = []
        self.withdrawn: list[JobId] = []
        self.cancelled: list[JobId] = []

    def submit(self, job_id: JobId, submission_id: SubmissionId, not_before: datetime | None = None) -> None:
        self.submitted.append(job_id)

    def withdraw(self, job_id: JobId) -> None:
        self.withdrawn.append(job_id)

    def cancel(self, job_id: JobId) -> bool:
        if job_id in self.running:
            self.cancelled.append(job_id)
        return job_id in self.running

    def position(self, job_id: JobId) -> int | None:
        return self.place

    async def drain(self, grace_s: float) -> None:
        self.running.clear()
