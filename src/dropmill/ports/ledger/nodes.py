"""Which process owns the work that is under way, and what another takes over from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.jobs import Attempt
from dropmill.model.nodes import Node


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
    """Knows the nodes."""

    async def enter(self, node: Node) -> None:
        """Record a node. What is begun through this ledger from now on is its work."""

    async def recover(self, max_attempts: int, reason: str) -> Recovery:
        """Settle what earlier nodes with this node's lock left.

        Their uploads are aborted for `reason`, their submissions sealed, their attempts lost. Work of other nodes is
        left: whether they live is not known here.
        """
