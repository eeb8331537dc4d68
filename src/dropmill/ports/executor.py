"""What gets queued jobs run."""

from datetime import datetime
from typing import Protocol

from dropmill.model.ids import JobId, SubmissionId


class Executor(Protocol):
    """Gets queued jobs run. Takes ids: the rest is read from the ledger when the job is picked up."""

    def submit(self, job_id: JobId, submission_id: SubmissionId, not_before: datetime | None = None) -> None:
        """Put a job in line. Twice is harmless: the ledger's guarded transition lets one of them lose.

        Args:
            job_id: which.
            submission_id: whose; submissions take turns.
            not_before: when it may be picked up; None: at once.
        """

    def withdraw(self, job_id: JobId) -> None:
        """Take a job out of line that does not wait any more; none is no error."""

    def cancel(self, job_id: JobId) -> bool:
        """Ask for a job's running attempt to be ended; False if none runs here. The attempt's event is the answer.

        A script that does not end within its grace is killed, with all that it has started. Twice is harmless.
        """

    def position(self, job_id: JobId) -> int | None:
        """Estimated place in line, 1 being next; None if it does not wait here, or waits for its time to come."""

    async def drain(self, grace_s: float) -> None:
        """Pick up nothing more, let running attempts end within `grace_s`, then end their processes.

        What was ended so stays running in the ledger, without an outcome: whoever finds the node dead declares it lost.
        """
