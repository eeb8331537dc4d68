"""Processes that run attempts or receive uploads."""

from dataclasses import dataclass

from dropmill.model.ids import NodeId


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A process that runs attempts or receives uploads, from its start to its end.

    Attributes:
        host: name of its machine.
        lock: names a lock that only one living process can hold: of two nodes with the same lock, the earlier is gone.
        lease_s: seconds for which it counts as alive after each renewal; None: until its lock is another's, because no
            process without that lock could take its work over.
        is_worker: whether it only runs attempts.
    """

    id: NodeId
    host: str
    lock: str
    lease_s: float | None = None
    is_worker: bool = False
