"""The node graph of an accepted document as JSON: kinds, values, and the index of a place in the text.

For the schema and the form, which see a config as JSON. Dates, and keys of all kinds, are the text they are written as.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dropmill.configfile.yaml.document import Document, is_merge

Kind = Literal["text", "integer", "number", "boolean", "null", "date", "list", "mapping"]
Path = tuple[str | int, ...]

_CORE: Final = "tag:yaml.org,2002:"
_KINDS: Final[dict[str, Kind]] = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "null": "null",
    "timestamp": "date",
    "seq": "list",
    "map": "mapping",
}
_CONSTRUCTOR: Final = YAML(typ="safe", pure=True).constructor


def kind_of(node: Node) -> Kind:
    """What a node of an accepted document is."""
    return _KINDS[str(node.tag).removeprefix(_CORE)]


def value_of(node: ScalarNode) -> str | int | float | bool | None:
    """A scalar's value; infinity and NaN as floats, dates as written."""
    value: str | int | float | bool
    match kind_of(node):
        case "null":
            return None
        case "integer":
            value = _CONSTRUCTOR.construct_yaml_int(node)
        case "number":
            value = _CONSTRUCTOR.construct_yaml_float(node)
        case "boolean":
            value = _CONSTRUCTOR.construct_yaml_bool(node)
        case _:
            value = node.value
    return value


def members_of(node: MappingNode) -> list[tuple[ScalarNode, Node]]:
    """A mapping's keys and values, those that `<<` merges in first; of several with one name the last counts."""
    merged: list[tuple[ScalarNode, Node]] = []
    own: list[tuple[ScalarNode, Node]] = []
    for key, value in node.value:
        if not is_merge(key):
            own.append((key, value))
            continue
        for source in reversed(value.value if isinstance(value, SequenceNode) else [value]):
            merged += members_of(source)
    return merged + own


def json_of(document: Document) -> Any:
    """The values as JSON would hold them; an alias is the same object as its anchor."""
    return _json({}, document.root) if document.root is not None else {}


def _json(known: dict[int, Any], node: Node) -> Any:
    if isinstance(node, ScalarNode):
        return value_of(node)
    if id(node) not in known:
        if isinstance(node, MappingNode):
            known[id(node)] = {key.value: _json(known, value) for key, value in members_of(node)}
        else:
            known[id(node)] = [_json(known, item) for item in node.value]
    return known[id(node)]


def find(document: Document, path: Path) -> tuple[int, Node | None]:
    """The index of a place in the text, and its node.

    It is the index of the value, or of its key if the value is empty, because ruamel marks empty values after the next
    comment. For what an alias or `<<` brings in, it is the index of the alias or `<<`, not of the anchor.

    Args:
        document: accepted.
        path: for one that does not exist, the index is that of its nearest existing ancestor, and the node is None.
    """
    node: Node | None = document.root
    index = node.start_mark.index if node is not None else 0
    is_brought = False
    for part in path:
        step = _step(node, part)
        if step is None:
            return index, None
        is_brought = is_brought or step.is_merged
        if not is_brought:
            is_brought = step.value.start_mark.index < step.after
            if step.key is None:
                index = index if is_brought else step.value.start_mark.index
            else:
                index = (step.key if is_brought or is_empty(step.value) else step.value).start_mark.index
        node = step.value
    return index, node


def find_key(document: Document, path: Path, name: str) -> int:
    """The index of a key of the mapping at `path`; for what an alias or `<<` brings in, as for `find`."""
    index, node = find(document, path)
    step = _step(node, name)
    if node is None or step is None or step.key is None or step.is_merged or node.start_mark.index < index:
        return index
    return int(step.key.start_mark.index)


def is_empty(node: Node) -> bool:
    """Whether nothing is written for it, as after the colon of `key:`."""
    return isinstance(node, ScalarNode) and node.value == "" and node.style is None


@dataclass(frozen=True, slots=True)
class _Step:
    """To a member of a collection. Its text begins at `after` or later; a node marked before is an alias's anchor."""

    key: ScalarNode | None
    value: Node
    after: int
    is_merged: bool = False


def _step(node: Node | None, part: str | int) -> _Step | None:
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        after = max((each.end_mark.index for each in node.value[:part]), default=node.start_mark.index)
        return _Step(None, node.value[part], after)
    if isinstance(node, MappingNode):
        for key, value in reversed(members_of(node)):
            if key.value == part:
                is_merged = not any(own is key for own, _ in node.value)
                return _Step(key, value, key.start_mark.index, is_merged)
    return None
