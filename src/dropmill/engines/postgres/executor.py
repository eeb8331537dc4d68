"""The executor of a server whose jobs run in workers: other processes, perhaps on other hosts."""

from dropmill.model.ids import JobId


class WorkersExecutor:
    """`dropmill.ports.executor.Executor`. The commit that queues a job, or asks for its end, notifies the workers."""

    def wake(self, queue: str | None = None) -> None:
        """Do nothing; see the class."""

    def cancel(self, job_id: JobId) -> None:
        """Do nothing; see the class."""

    async def drain(self, grace_s: float) -> None:
        """Return at once: nothing runs here."""
