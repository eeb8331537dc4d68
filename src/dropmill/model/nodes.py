"""Processes that do the work."""

from dataclasses import dataclass

from dropmill.model.ids import NodeId


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A process that runs attempts or receives uploads, from its start to its end.

    Attributes:
        host: name of its machine.
        lock: what it holds alone while it lives: of two nodes with the same lock, the one that entered earlier is gone.
    """

    id: NodeId
    host: str
    lock: str
