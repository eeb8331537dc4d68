"""Ruamel's composer with bounds: it stops at too many nodes, too deep nesting and self-reference, aliases expanded."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.parser import Parser

from dropmill.configfile.yaml.findings import shown

MAX_DEPTH: Final = 100  # aliases followed; three Python frames a level must also fit the script's stack
MAX_NODES: Final = 100_000  # keys and values, aliases expanded: an alias bomb of 1 KiB has 10**9


@dataclass(slots=True)
class _Extent:
    """The size of an anchored node with its aliases expanded."""

    nodes: int
    height: int


class QuickParser(Parser):
    """Keeps its scanner, which ruamel looks up 47 times a line: that is 5 % of a parse."""

    @cached_property
    def scanner(self) -> Any:
        """As ruamel has it."""
        return super().scanner


class BoundedComposer(Composer):
    """Makes the node graph. It only counts the nodes that aliases add: each adds the count of its anchor's node.

    Attributes:
        repeated_anchors: name and mark of each anchor whose name was used before.
        reached: the mark of the last event, for errors without one of their own.
    """

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False
        self.repeated_anchors: list[tuple[str, Any]] = []
        self.reached: Any = None
        self._nodes = 0
        self._level = 0
        self._deepest = 0
        self._extents: dict[int, _Extent] = {}

    @cached_property
    def parser(self) -> Any:
        """As ruamel has it, looked up once, as in `QuickParser`."""
        return super().parser

    @cached_property
    def resolver(self) -> Any:
        """As ruamel has it, looked up once."""
        return super().resolver

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The node of the next event, counted.

        Raises:
            ComposerError: a bound is exceeded.
        """
        event = self.parser.peek_event()
        mark = self.reached = event.start_mark
        if isinstance(event, AliasEvent):
            node = super().compose_node(parent, index)
            extent = self._extents.get(id(node))
            if extent is None:
                raise ComposerError(
                    None, None, f"the alias *{shown(event.anchor)} refers to a value that contains it", mark
                )
            self._grow(extent.nodes, extent.height, mark)
            return node
        if event.anchor in self.anchors:
            self.repeated_anchors.append((event.anchor, mark))
        nodes, deepest = self._nodes, self._deepest
        self._deepest = self._level
        self._grow(1, 1, mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        if event.anchor is not None:
            self._extents[id(node)] = _Extent(nodes=self._nodes - nodes, height=self._deepest - self._level)
        self._deepest = max(self._deepest, deepest)
        return node

    def _grow(self, nodes: int, height: int, mark: Any) -> None:
        self._nodes += nodes
        self._deepest = max(self._deepest, self._level + height)
        if self._nodes > MAX_NODES:
            raise ComposerError(None, None, f"more than {MAX_NODES:,} keys and values, aliases expanded", mark)
        if self._deepest > MAX_DEPTH:
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep, aliases followed", mark)
