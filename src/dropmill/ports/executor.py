"""The port to whatever runs queued jobs."""

from typing import Protocol

from dropmill.model.ids import JobId


class Executor(Protocol):
    """Runs queued jobs. The ledger decides which job is next and which is to be cancelled; the methods are hints.

    A hint may be lost or come twice. Without one, work starts or stops a little later.
    """

    def wake(self, queue: str | None = None) -> None:
        """Hint that a queue may have jobs; None is the queue of jobs without a named one."""

    def cancel(self, job_id: JobId) -> None:
        """Hint that the ledger has a request to cancel a running job. The attempt's event is the answer.

        A script that does not end within its grace is killed with everything it has started. A second call is harmless.
        """

    async def drain(self, grace_s: float) -> None:
        """Claim nothing more, wait `grace_s` for running attempts, then kill their processes.

        A killed attempt stays running in the ledger, without an outcome, until its node is found dead; then it is
        declared lost.
        """
