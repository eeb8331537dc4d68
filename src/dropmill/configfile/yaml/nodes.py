"""The node graph of an accepted document, seen as JSON: kinds, values, and where in the text a place stands.

For what looks at a config from JSON's side: the schema and the form. Dates are the text they are written as, and so
are keys that are no text. It changes nothing and knows no schema.
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
    """A mapping's keys and values, those that `<<` brings first; of several with one name the last counts."""
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
    """Where a place stands, as an index into the text, and its node.

    That of a value; of its key if the value is empty, since ruamel has that behind the next comment. What an alias
    or `<<` brings stands where it is brought to, not at the anchor.

    Args:
        document: accepted.
        path: what is not there is taken as its nearest ancestor that is (then the node is None).
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
    """Where a key of the mapping at `path` stands, as an index into the text; like `find` for what is brought."""
    index, node = find(document, path)
    step = _step(node, name)
    if node is None or step is None or step.key is None or step.is_merged or node.start_mark.index < index:
        return index
    return int(step.key.start_mark.index)


def is_empty(node: Node) -> bool:
    """Whether nothing is written for it, as behind the colon of `key:`."""
    return isinstance(node, ScalarNode) and node.value == "" and node.style is None


@dataclass(frozen=True, slots=True)
class _Step:
    """To a member of a collection. `after` is where its text can begin: what begins before is an alias's anchor."""

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
