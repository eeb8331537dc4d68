"""Value edits as they are to be judged: without the code under test.

What an edit did is seen by loading both texts with ruamel alone, by the part of the text that differs, and by the marks
of a plain `compose`.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from dropmill.configfile.yaml.document import Document, examine
from dropmill.configfile.yaml.edits import Edited, apply, parse_patch
from dropmill.model.errors import ConfigEditRefused

Pointer = tuple[str, ...]

REASONS = {"aliased", "tagged", "complex_key", "block_indicator", "ambiguous_key", "not_exact"}
VALUES: list[Any] = [
    0, 17, -3, 1.5, 2e30, True, False, None, "", "plain", "two words", "no", "12", "1:30", "null", "~", "2026-01-01",
    "a: b", "a #b", "# a", "- a", " a ", "'", '"', "\\", "a, b", "[a]", "{a", "*a", "&a", "!a", "%a", "@a",
    "http://a/b?c=d#e",
    "one\ntwo", "one\n\n  two\n", "tab\there", "bell\a", "\u00e4\u20ac\U0001f600", "\u2028",
    "x" * 120, "many words " * 20,
]  # fmt: skip
MEMBERS: list[Any] = [*VALUES, {}, [], {"a": 1, "b": ["x", {"y": None, "z": "1"}]}, [1, [2, {"c": 3}], "no"]]


@dataclass
class Tally:
    """What became of edits of one kind."""

    kind: str
    exact: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.exact + self.refused.total() + len(self.wrong)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.most_common())
        share = self.refused.total() / max(self.count, 1)
        refused = f"{self.refused.total()} refused ({share:.1%}{reasons and ': '}{reasons})"
        return f"{self.kind} {self.count}: {self.exact} exact, {refused}, {len(self.wrong)} wrong"


@dataclass(frozen=True)
class Case:
    """A text, with its places as a plain `compose` tells them."""

    document: Document
    text: str
    values: Any
    nodes: dict[Pointer, Node] = field(default_factory=dict)
    keys: dict[Pointer, Node] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: bytes) -> "Case":
        text = raw.decode()
        case = cls(document=examine(raw), text=text, values=loaded(text))
        yaml = YAML(typ="safe", pure=True)
        yaml.composer.warn_double_anchors = False
        if (root := yaml.compose(text)) is not None:
            case._collect(root, ())
        return case

    def _collect(self, node: Node, path: Pointer) -> None:
        """Nodes by their paths; each is there once, where it is written."""
        if node.anchor is not None and any(node is other for other in self.nodes.values()):
            return
        self.nodes[path] = node
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self._collect(item, (*path, str(index)))
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                if key.value != "<<":
                    self.keys[*path, key.value] = key
                    self._collect(value, (*path, key.value))

    @property
    def leaves(self) -> list[Pointer]:
        """Every scalar."""
        return [path for path, node in self.nodes.items() if isinstance(node, ScalarNode)]

    @property
    def blocks(self) -> list[Pointer]:
        """Every block collection."""
        return [path for path, node in self.nodes.items() if isinstance(node, CollectionNode) and not node.flow_style]

    @property
    def several(self) -> list[Pointer]:
        """Members of block collections that have more than one."""
        blocks = {path for path in self.blocks if len(self.nodes[path].value) > 1}
        return [path for path in self.nodes if path and path[:-1] in blocks]

    def replace(self, path: Pointer, value: Any, tally: Tally) -> Edited | None:
        """Put a scalar in the place of another: what differs is the node, and spaces before a comment."""
        edited = self._edited("replace", path, value, tally)
        if edited is None:
            return None
        new = edited.document.text
        node = self.nodes[path]
        start, end = node.start_mark.index, node.end_mark.index
        if start == end and path in self.keys:  # ruamel tells where the next thing stands, behind comments
            start = self.keys[path].end_mark.index
            before, after = (text[start : len(text) - len(self.text) + end] for text in (self.text, new))
            is_kept = after.replace(" ", "").endswith(before.replace(" ", "").removeprefix(":"))
        else:
            is_kept = True
            while self.text[end : end + 1] == " ":
                end += 1
        is_in_place = new.startswith(self.text[:start]) and new.endswith(self.text[end:])
        self._judge(
            edited, "replace", path, value, tally, is_kept and is_in_place and len(new) >= start + len(self.text) - end
        )
        return edited

    def add(self, path: Pointer, value: Any, tally: Tally) -> Edited | None:
        """Add a member at the end: all that was there stays, up to the last member at least."""
        node = self.nodes[path]
        where = (*path, "a new key" if isinstance(node, MappingNode) else "-")
        edited = self._edited("add", where, value, tally)
        if edited is not None:
            new = edited.document.text
            start = _common(self.text, new)
            is_in_place = start >= node.start_mark.index and new.endswith(self.text[start:])
            self._judge(edited, "add", where, value, tally, is_in_place)
        return edited

    def remove(self, path: Pointer, tally: Tally) -> Edited | None:
        """Remove a member: its lines go, and what stands above and below them stays."""
        edited = self._edited("remove", path, None, tally)
        if edited is not None:
            start, end, following = self._lines(path)
            new = edited.document.text
            expected = [self.text[:start] + self.text[end:]]
            if self.text[:start].rstrip(" ").endswith("-"):  # the first of `- a: 1`: the dash stays
                line_end = end - (2 if self.text.endswith("\r\n", 0, end) else 1)
                is_alone = not self.text[end:following].strip(" ")
                rest = self.text[following:] if is_alone else self.text[line_end:]
                expected = [(self.text[:start] if is_alone else self.text[:start].rstrip(" ")) + rest]
            self._judge(edited, "remove", path, None, tally, new in expected)
        return edited

    def _lines(self, path: Pointer) -> tuple[int, int, int]:
        """Where a member's lines begin and end, and where the next member begins."""
        head = self._head(path)
        below = [each for each in self.nodes if each[: len(path)] == path]
        ends = [self._end(each) for each in below] + [
            self.keys[each].end_mark.index for each in below if each in self.keys
        ]
        end = max([*ends, head])
        while end < len(self.text) and self.text[end] not in "\r\n":
            end += 1
        end += 2 if self.text[end : end + 2] == "\r\n" else 1
        start = max(self.text.rfind(char, 0, head) for char in "\r\n\ufeff") + 1
        if self.text[start:head].strip(" "):
            start = head
        siblings = [self._head(each) for each in self.nodes if each and each[:-1] == path[:-1]]
        return (
            start,
            min(end, len(self.text)),
            min([other for other in siblings if other > head], default=len(self.text)),
        )

    def _head(self, path: Pointer) -> int:
        """Where a member begins: at its key or its dash."""
        if path in self.keys:
            return int(self.keys[path].start_mark.index)
        return self.text.rindex("-", 0, self.nodes[path].start_mark.index)

    def _end(self, path: Pointer) -> int:
        node = self.nodes[path]
        if isinstance(node, CollectionNode) and not node.flow_style:
            return 0
        if node.start_mark.index == node.end_mark.index:
            return 0 if path in self.keys else int(node.start_mark.index)
        written = self.text[node.start_mark.index : node.end_mark.index]
        if isinstance(node, ScalarNode) and node.style in ("|", ">"):
            keeps = "+" in written.splitlines()[0]
            return int(node.start_mark.index) + len(written if keeps else written.rstrip()) - keeps
        return int(node.end_mark.index)

    def _edited(self, kind: str, path: Pointer, value: Any, tally: Tally) -> Edited | None:
        pointer = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path)
        operation = {"op": kind, "path": pointer} | ({} if kind == "remove" else {"value": value})
        try:
            return apply(self.document, parse_patch([operation]))
        except ConfigEditRefused as refusal:
            tally.refused[refusal.extra["reason"]] += 1
            return None

    def _judge(self, edited: Edited, kind: str, path: Pointer, value: Any, tally: Tally, is_in_place: bool) -> None:
        new = edited.document.text
        wanted = _changed(self.values, kind, path, value)
        if is_in_place and shown(loaded(new)) == shown(wanted) == shown(edited.document.values):
            tally.exact += 1
        else:
            what = "elsewhere too" if not is_in_place else f"\n{loaded(new)}\n{wanted}"
            tally.wrong.append(f"{kind} {path} {value!r} {what}\n{self.text}\n----- became\n{new}")


def _changed(values: Any, kind: str, path: Pointer, value: Any) -> Any:
    values = unshared(values)
    at = values
    for token in path[:-1]:
        at = at[_name_in(at, token)]
    name = _name_in(at, path[-1])
    if kind == "remove":
        del at[name]
    elif isinstance(at, list) and kind == "add":
        at.append(value)
    else:
        is_date = kind == "replace" and isinstance(at[name], date) and value == "2026-01-01"
        at[name] = date(2026, 1, 1) if is_date else value
    return values


def _name_in(collection: Any, token: str) -> Any:
    if isinstance(collection, list):
        return len(collection) if token == "-" else int(token)
    return token if token in collection else next((key for key in collection if key == loaded(token)), token)


def _common(one: str, other: str) -> int:
    """How many characters are the same at the start of both."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def loaded(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    return yaml.load(text)


def unshared(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: unshared(value) for key, value in values.items()}
    return [unshared(item) for item in values] if isinstance(values, list) else values


def shown(values: Any) -> str:
    """As text in which types and the order of keys differ, and NaN does not differ from itself."""
    return repr(values)
