"""Which process owns the work that is under way, and how another takes it over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.jobs import Attempt
from dropmill.model.nodes import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What `NodeLedger.recover` took over from earlier processes.

    Attributes:
        lost: attempts that were running.
        aborted: how many uploads were unfinished.
        sealed: how many submissions were open.
    """

    lost: Sequence[Attempt] = ()
    aborted: int = 0
    sealed: int = 0


class NodeLedger(Protocol):
    """Records nodes, and takes over from those that are gone."""

    async def enter(self, node: Node) -> None:
        """Record the node that this process is. Whatever this ledger object begins from now on is its work."""

    async def recover(self, max_attempts: int, reason: str) -> Recovery:
        """Settle the unfinished work of earlier nodes with this node's lock.

        Their uploads are aborted (`AbortCause.SERVER_FAILED`) for `reason`, their submissions sealed, their attempts
        lost. Work of nodes with another lock is not touched: they may be alive.
        """
