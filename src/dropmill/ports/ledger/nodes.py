"""What a process takes over from an earlier one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.records import Attempt, QueuedJob


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What `NodeLedger.recover` found.

    Attributes:
        lost: attempts an earlier process left running.
        aborted: uploads it left unfinished.
        sealed: submissions it left open.
    """

    lost: Sequence[Attempt] = ()
    aborted: int = 0
    sealed: int = 0


class NodeLedger(Protocol):
    """Settles and reads what an earlier process left. At start-up."""

    async def recover(self, max_attempts: int, reason: str) -> Recovery:
        """Settle what an earlier process left: uploads aborted for `reason`, submissions sealed, attempts lost."""

    async def queued_jobs(self) -> Sequence[QueuedJob]:
        """Every queued job, in the order in which they were queued."""
