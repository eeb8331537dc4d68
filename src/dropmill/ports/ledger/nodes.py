"""Which process owns the work that is under way, and how another takes it over.

A node with a lease counts as alive as long as it is *recorded*. A lease that has expired only allows another node to
strike it off the record (`lose_expired`), in the same change that settles its work. From then on the ledger refuses all
its changes (`NodeGone`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.jobs import Attempt
from dropmill.model.nodes import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What a node took over from others that are gone.

    Attributes:
        lost: attempts that were running.
        aborted: how many uploads were unfinished.
        sealed: how many submissions were open.
        gone: hosts of the nodes that were struck off because their lease had expired.
    """

    lost: Sequence[Attempt] = ()
    aborted: int = 0
    sealed: int = 0
    gone: Sequence[str] = ()


class NodeLedger(Protocol):
    """Records nodes, and takes over from those that are gone."""

    async def enter(self, node: Node) -> None:
        """Record the node that this process is. Whatever this ledger object begins from now on is its work."""

    async def recover(self, max_attempts: int, reason: str) -> Recovery:
        """Settle the unfinished work of earlier nodes with this node's lock, and of those that a migration left.

        A ledger's nodes all have a lease, or none has: after `dropmill migrate` those of the other kind are gone.

        Their uploads are aborted (`AbortCause.SERVER_FAILED`) for `reason`, their submissions sealed, their attempts
        lost. Work of nodes with another lock is not touched: they may be alive.
        """

    async def renew(self) -> bool:
        """Renew this node's lease, by the database's clock; False: it was struck off.

        Beside all other changes and reads, so that no queue delays it.

        Raises:
            StorageUnavailable: the database does not answer.
        """

    async def has_expired(self) -> bool:
        """Whether the lease of another node has expired."""

    async def lose_expired(self, max_attempts: int, reason: str) -> Recovery:
        """Strike off the nodes whose lease has expired, and settle their work as `recover` does."""

    async def leave(self, reason: str) -> Recovery:
        """Strike this node off, because its process ends, and hand its work back; the ledger refuses its later changes.

        Its attempts are lost, but do not count against the attempts of their jobs.
        """

    async def take_duty(self, name: str) -> bool:
        """Take a duty that no other recorded node has; returns whether this node has it.

        A duty is what one node does for all of them, such as removing old events. It passes on when its node is struck
        off. Two nodes may do it at once for a moment, so doing it twice must be harmless.
        """
