"""A document as a list of fields, for people who edit a config without knowing YAML.

Each value is a field, with what the schema says about it, the comments on its key as help, and which value edits are
possible. Nothing here changes a document: the browser sends a patch and gets the fields of the new text.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, cast

from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from dropmill.configfile.schema.schema import Rules, Schema
from dropmill.configfile.yaml.document import Document
from dropmill.configfile.yaml.locate import Place, Places
from dropmill.configfile.yaml.nodes import Kind, is_empty, kind_of, members_of, value_of

MAX_FIELDS: Final = 1_000  # more than a page can show
MAX_FORM: Final = 1 << 19  # characters of all fields as JSON; the event loop needs 10 ms to read or write them
_MAX_FIELD: Final = 1 << 17

_LINE_END: Final = re.compile(r"\r\n?|\n")
_COMMENT_BEHIND: Final = re.compile(r"[ \t]*(?:,[ \t]*)?(?<=[ \t])#([^\r\n]*)")
_COMMENT_IN_LINE: Final = re.compile(r"[^\r\n]*?(?<=[ \t])#([^\r\n]*)")
_DECORATION: Final = re.compile(r"[-=*#~_+]{3,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One value of a document, as a form shows it.

    Attributes:
        path: JSON pointer. "" is the config itself, always the first field; it has `missing` and `can_add`.
        key: its name as written, without quotes; in a list, its number.
        value: JSON; None for null, for collections, and for numbers that JSON lacks (infinity, not a number).
        source: a number, date, boolean or null as written, when not quoted; else None. Only here are integers beyond
            2**53 exact.
        tag: its application tag as written, such as `!secret`; None without one. A tagged value is text.
        is_multiline: whether it is text of several lines.
        is_secret: whether the schema marks it as secret.
        help: the comment lines directly above its key and, after an empty line, the comment behind it, without `#`;
            None without comments.
        line: of its key (in a list, of its value), from 1. The place of an aliased value is that of the alias.
        column: from 1, in UTF-16 units.
        depth: 0 for the members of the config; -1 for the config itself.
        refusal: the reason of `ConfigEditRefused` for which a `replace` would be refused; None if it is possible.
        can_add: whether a member can be added at its end.
        can_remove: whether it can be removed.
        schema: what the schema says about it; None if nothing, or far too much.
        missing: keys that the schema knows and this mapping lacks, without deprecated ones: `{"key", "schema"}`. Empty
            if they are far too many.
    """

    path: str
    key: str
    kind: Kind
    value: str | int | float | bool | None
    source: str | None
    tag: str | None
    is_multiline: bool
    is_secret: bool
    help: str | None
    line: int
    column: int
    depth: int
    refusal: str | None
    can_add: bool
    can_remove: bool
    schema: Mapping[str, Any] | None
    missing: tuple[Mapping[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """The field as the API shows it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def fields_of(document: Document, schema: Schema | None) -> tuple[list[Field], bool]:
    """The fields of a document in the order of the text, and whether that is only the first part of them.

    The config itself comes first. An alias is a field without members; what `<<` merges in is left out.

    Args:
        document: a refused one has no fields.
        schema: None if there is none.

    Raises:
        SchemaUnusable: the schema cannot be applied.
    """
    if not document.report.is_valid:
        return [], False
    return _Form(document, schema).fill()


class _Form:
    def __init__(self, document: Document, schema: Schema | None) -> None:
        self._document = document
        self._places = Places(document)
        self._rules = [schema.rules if schema is not None else Rules.of(())]  # of the current place and all above it
        self._comments = _Comments(document.text)
        self._seen: set[int] = set()
        self._position = (1, 1)

    def fill(self) -> tuple[list[Field], bool]:
        if self._document.root is None:
            one, _ = _bounded(self._empty())
            return [one], False
        found: list[Field] = []
        size = 0
        alias: tuple[str, ...] | None = None
        for place in self._places.walk():
            if alias is not None and place.path[: len(alias)] == alias:
                continue
            is_alias = id(place.node) in self._seen
            self._seen.add(id(place.node))
            alias = place.path if is_alias else None
            one, its_size = _bounded(self._field(place, is_alias))
            size += its_size
            if len(found) >= MAX_FIELDS or size > MAX_FORM:
                return found, True
            found.append(one)
        return found, False

    def _empty(self) -> Field:
        """The config itself, of a text without content."""
        return Field(
            path="",
            key="",
            kind="mapping",
            value=None,
            source=None,
            tag=None,
            is_multiline=False,
            is_secret=False,
            help=None,
            line=1,
            column=1,
            depth=-1,
            refusal="not_a_value",
            can_add=True,
            can_remove=False,
            schema=self._rules[0].as_json(is_required=False),
            missing=_missing(self._rules[0], set()),
        )

    def _field(self, place: Place, is_alias: bool) -> Field:
        node, key = place.node, place.key
        rules, is_required = self._rules_at(place)
        value = value_of(node) if isinstance(node, ScalarNode) else None
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        is_plain = isinstance(node, ScalarNode) and node.style is None and kind_of(node) != "text"
        if (
            key is not None or not is_alias
        ):  # an alias in a list has no mark of its own: it gets the position of the field before
            self._position = self._document.findings.position((key or node).start_mark.index)
        names = {each.value for each, _ in members_of(node)} if isinstance(node, MappingNode) else set()
        line, column = self._position
        return Field(
            path="".join("/" + token.replace("~", "~0").replace("/", "~1") for token in place.path),
            key=place.path[-1] if place.path else "",
            kind=kind_of(node),
            value=value,
            source=node.value if is_plain else None,
            tag=self._document.tags.get(id(node)),
            is_multiline=isinstance(value, str) and "\n" in value,
            is_secret=rules.is_secret,
            help=self._comments.of(key, node, is_alias=is_alias) if place.path else None,
            line=line,
            column=column,
            depth=len(place.path) - 1,
            refusal=self._places.reason_against("replace", place),
            can_add=not isinstance(node, ScalarNode) and self._places.reason_against("add", place) is None,
            can_remove=bool(place.path) and self._places.reason_against("remove", place) is None,
            schema=rules.as_json(is_required=is_required),
            missing=_missing(rules, names) if isinstance(node, MappingNode) and not is_alias else (),
        )

    def _rules_at(self, place: Place) -> tuple[Rules, bool]:
        """What the schema says about a place, and whether its mapping must have it."""
        if not place.path:
            return self._rules[0], False
        del self._rules[len(place.path) :]
        above = self._rules[-1]
        name = place.path[-1]
        rules = above.of_item(int(name)) if place.key is None else above.of_key(name)
        self._rules.append(rules)
        return rules, place.key is not None and name in above.required


def _bounded(field: Field) -> tuple[Field, int]:
    """A field and its size as JSON; without `schema` and `missing` if these would take the room of other fields."""
    size = len(json.dumps(field.as_json()))
    if size <= _MAX_FIELD:
        return field, size
    field = replace(field, schema=None, missing=())
    return field, len(json.dumps(field.as_json()))


def _missing(rules: Rules, names: set[str]) -> tuple[Mapping[str, Any], ...]:
    required = rules.required
    return tuple(
        {"key": name, "schema": its.as_json(is_required=name in required)}
        for name in rules.keys
        if name not in names and not (its := rules.of_key(name)).is_deprecated
    )


class _Comments:
    """Finds the comments that belong to one key. Call `of` for the places of a document in the order of the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [int(text.startswith("\ufeff")), *(end.end() for end in _LINE_END.finditer(text))]
        self._floor = 0  # quoted text before this index may have lines that look like comments

    def of(self, key: ScalarNode | None, node: Node, *, is_alias: bool) -> str | None:
        """The comments above and behind a key, as text; None without any."""
        if key is None and is_alias:
            return None
        lines = self._above(key or node, is_item=key is None)
        behind = self._behind(key, node, is_alias)
        if behind is not None:
            lines += ["", behind]
        if isinstance(node, ScalarNode) and node.style in ("'", '"') and not is_alias:
            self._floor = node.end_mark.index
        return _cleaned(lines)

    def _above(self, node: Node, *, is_item: bool) -> list[str]:
        line = bisect_right(self._starts, node.start_mark.index) - 1
        start = self._starts[line]
        before = self._text[start : node.start_mark.index]
        indent = before.removesuffix(before.lstrip(" "))
        if before.lstrip(" ") not in ("", "? ") and not (is_item and before.strip(" ") == "-"):
            return []
        found: list[str] = []
        while line > 0:
            line -= 1
            text = self._text[self._starts[line] : self._starts[line + 1]]
            if self._starts[line] < self._floor or not text.startswith(indent + "#"):
                break
            found.append(text[len(indent) :])
        return found[::-1]

    def _behind(self, key: ScalarNode | None, node: Node, is_alias: bool) -> str | None:
        if isinstance(node, ScalarNode):
            ends_in_line = not is_empty(node) and node.style not in ("|", ">")
        else:
            ends_in_line = cast(CollectionNode, node).flow_style
        if ends_in_line and not is_alias:
            comment = _COMMENT_BEHIND.match(self._text, node.end_mark.index)
        elif key is not None:
            comment = _COMMENT_IN_LINE.match(self._text, key.end_mark.index)
        else:
            return None
        return comment.group(1) if comment is not None else None


def _cleaned(lines: list[str]) -> str | None:
    kept = []
    for line in lines:
        if _DECORATION.search(line.strip().removeprefix("#")):
            continue  # a ruler, or a heading in one
        kept.append(line.strip().lstrip("#").removeprefix(" "))
    return "\n".join(kept).strip("\n") or None
