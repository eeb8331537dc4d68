"""An executor that runs nothing, and remembers what it was told."""

from dropmill.model.ids import JobId


class FakeExecutor:
    """`dropmill.ports.executor.Executor`."""

    def __init__(self) -> None:
        self.wakes = 0
        self.cancelled: list[JobId] = []

    def wake(self, queue: str | None = None) -> None:
        self.wakes += 1

    def cancel(self, job_id: JobId) -> None:
        self.cancelled.append(job_id)

    async def drain(self, grace_s: float) -> None:
        """Nothing runs."""
