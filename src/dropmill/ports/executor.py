"""What gets queued jobs run."""

from typing import Protocol

from dropmill.model.ids import JobId


class Executor(Protocol):
    """Gets queued jobs run. It is given hints; which job is next, and whether it is to be cancelled, the ledger says.

    A hint may be lost or come twice: then work begins, or ends, a little later.
    """

    def wake(self, queue: str | None = None) -> None:
        """Say that jobs may have come into a queue; None is that of jobs without one."""

    def cancel(self, job_id: JobId) -> None:
        """Say that the ledger was told to cancel a running job. The attempt's event is the answer.

        A script that does not end within its grace is killed, with all that it has started. Twice is harmless.
        """

    async def drain(self, grace_s: float) -> None:
        """Pick up nothing more, let running attempts end within `grace_s`, then end their processes.

        What was ended so stays running in the ledger, without an outcome: whoever finds the node dead declares it lost.
        """
