"""Processes that run attempts or receive uploads."""

from dataclasses import dataclass

from dropmill.model.ids import NodeId


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A process that runs attempts or receives uploads, from its start to its end.

    Attributes:
        host: name of its machine.
        lock: names a lock that only one living process can hold: of two nodes with the same lock, the earlier is gone.
    """

    id: NodeId
    host: str
    lock: str
