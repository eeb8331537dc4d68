"""Finds the place of each value in a document's text, and the splice of text that changes one of them.

It uses the marks of ruamel's nodes, and reads the text itself for what has no marks: dashes, colons, comments and the
lines of block scalars. It refuses what has no exact place, with one of `ConfigEditRefused`'s reasons. It does not read
YAML again: `edits` proves that a splice means what it should.

A path names keys by their text as it is written, without quotes: "1" is the key of `1: x`.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, cast

from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from dropmill.configfile.yaml import emit
from dropmill.configfile.yaml.document import Document, is_merge, scalar_reader
from dropmill.configfile.yaml.emit import Layout, Quotes
from dropmill.configfile.yaml.nodes import members_of

Kind = Literal["replace", "add", "remove"]

MAX_KEY: Final = 1_000  # characters as written; YAML allows at most 1,024 before the colon

_DATE: Final = "tag:yaml.org,2002:timestamp"
_BOM: Final = "\ufeff"
_LINE_END: Final = re.compile(r"\r\n?|\n")
_REFERENCE: Final = re.compile(r"\*([^ \t\r\n,\[\]{}]+)")
_ALIAS: Final = re.compile(r"[ \t]*\*[^ \t\r\n,\[\]{}]+")
_COLON: Final = re.compile(r"[ \t]*:")
_PROPERTY: Final = re.compile(r"&[^ \t\r\n,\[\]{}]*|!(?:<[^>]*>|[^ \t\r\n,\[\]{}]*)")
_GAP: Final = re.compile(r"(?:[ \t\r\n]+|(?<=[ \t\r\n])#[^\r\n]*)*")  # white space and comments
_COMMENT: Final = re.compile(r"(?<![^ \t\r\n])#[^\r\n]*")
_REST_OF_LINE: Final = re.compile(r"[ \t]*(?:(?<=[ \t])#[^\r\n]*)?(?:\r\n?|\n|$)")
_COMMENT_LINE: Final = re.compile(r"( *)#[^\r\n]*(?:\r\n?|\n|$)")
_BLOCK_HEADER: Final = re.compile(r"([|>])([-+0-9]*)([^\r\n]*)")
_BEFORE_COMMENT: Final = re.compile(r" +(?=#)")
_COMPACT: Final = re.compile(r" *(?:- +)+")
_DOCUMENT_END: Final = re.compile(r"(?<![^\r\n])\.\.\.(?=[ \t\r\n]|$)")


class NoExactEdit(Exception):
    """This edit cannot be exact. `reason` is one of `ConfigEditRefused`'s."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Splice:
    """Characters of a text, and what replaces them.

    Attributes:
        start: index of the first character to remove.
        end: index after the last one.
        text: to insert.
        value: what the new text means there: the value wanted, or a date if one date replaces another.
        removed_comments: the comments among the removed characters, each from its `#` on.
    """

    start: int
    end: int
    text: str
    value: Any = None
    removed_comments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A value in a document.

    Attributes:
        node: the value; for an alias, the node it refers to.
        path: the tokens of its JSON pointer; () is the root.
        names: the same as keys and indexes of `Document.values`.
        above: the collections that contain it, the root first.
        index: its number among the members of the last of these, `<<` counted; None for the root.
    """

    node: Node
    path: tuple[str, ...] = ()
    names: tuple[Any, ...] = ()
    above: tuple[CollectionNode, ...] = ()
    index: int | None = None

    @property
    def key(self) -> ScalarNode | None:
        """Its key's node; None in a sequence and for the root."""
        if self.index is None or isinstance(self.above[-1], SequenceNode):
            return None
        return cast(ScalarNode, self.above[-1].value[self.index][0])

    @property
    def is_in_flow(self) -> bool:
        """Whether it is within brackets or braces."""
        return any(node.flow_style for node in self.above)


def list_index(token: str) -> int | None:
    """A pointer's token as a list index, which has no leading zeros (RFC 6901 section 4); None for any other token."""
    return int(token) if re.fullmatch(r"0|[1-9][0-9]{0,8}", token) else None


class Places:
    """The places of one document, which must be valid."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._text = document.text
        self._starts = [int(self._text.startswith(_BOM)), *(end.end() for end in _LINE_END.finditer(self._text))]
        self._referenced = set(_REFERENCE.findall(self._text))
        self._heads: dict[int, list[int]] = {}
        self._read = scalar_reader()

    # Finding

    def find(self, path: tuple[str, ...]) -> Place:
        """The place that a path leads to.

        Raises:
            NoExactEdit: `not_found`; `ambiguous_key` if two keys have the same text; `aliased` if `<<` merges it in.
        """
        if self._document.root is None:
            raise NoExactEdit("not_found")
        place = Place(node=self._document.root)
        for token in path:
            place = self._member(place, token)
        return place

    def walk(self) -> Iterator[Place]:
        """Every place in the order of the text, the root first. Follows aliases; leaves out what `<<` merges in."""
        if self._document.root is not None:
            yield from self._walk(Place(node=self._document.root))

    def _walk(self, place: Place) -> Iterator[Place]:
        yield place
        if isinstance(place.node, CollectionNode):
            for index, member in enumerate(place.node.value):
                if isinstance(place.node, SequenceNode) or not is_merge(member[0]):
                    yield from self._walk(self._child(place, index))

    def _member(self, place: Place, token: str) -> Place:
        node = place.node
        if isinstance(node, MappingNode):
            found = [index for index, (key, _) in enumerate(node.value) if key.value == token]
            if len(found) > 1:
                raise NoExactEdit("ambiguous_key")
            if found and not is_merge(node.value[found[0]][0]):
                return self._child(place, found[0])
            is_merged = any(key.value == token for key, _ in members_of(node))
            raise NoExactEdit("aliased" if is_merged else "not_found")
        if isinstance(node, SequenceNode):
            index = list_index(token)
            if index is not None and index < len(node.value):
                return self._child(place, index)
        raise NoExactEdit("not_found")

    def _child(self, place: Place, index: int) -> Place:
        node = cast(CollectionNode, place.node)
        member = node.value[index]
        token, name, value = str(index), cast(Any, index), member
        if isinstance(node, MappingNode):
            key, value = member
            token, name = key.value, self._read(key)
        return Place(
            node=value,
            path=(*place.path, token),
            names=(*place.names, name),
            above=(*place.above, node),
            index=index,
        )

    # What would be refused

    def reason_against(self, kind: Kind, place: Place) -> str | None:
        """Why an edit at a place would be refused, as far as that is known without a new value; else None.

        `add` means a new member at the end of the place itself.
        """
        try:
            if kind == "replace":
                self._refuse_aliased(place)
                self._span(place)
            elif kind == "add":
                self._end_of_members(place)
            else:
                self.remove(place)
        except NoExactEdit as refusal:
            return refusal.reason
        return None

    def _refuse_aliased(self, place: Place) -> None:
        """Refuse places with aliases: their marks are those of the anchor, and its node is shared by all of them."""
        if any(self._is_referenced(node) for node in (*place.above, place.node)):
            raise NoExactEdit("aliased")
        if place.key is not None:
            if self._is_referenced(place.key):
                raise NoExactEdit("aliased")
            if not place.above[-1].flow_style and self._lacks_colon(place):
                raise NoExactEdit("complex_key")

    def _is_referenced(self, node: Node) -> bool:
        return node.anchor is not None and node.anchor in self._referenced

    # Replacing

    def replace(self, place: Place, value: Any) -> Splice:
        """The splice that puts a scalar, or an empty collection, in the place of a scalar.

        Raises:
            NoExactEdit: it cannot be exact.
        """
        self._refuse_aliased(place)
        start, end = self._span(place)
        node = cast(ScalarNode, place.node)
        if isinstance(value, dict | list) and value:
            raise NoExactEdit("not_a_value")
        if (header := self._header(node)) is not None:
            return self._replace_block(place, value, header, end)
        if (moment := self._moment(node, value)) is not None:
            return self._in_line(start, end, value, moment)
        text = emit.in_one_line(value, quotes=self._quotes(place, node), in_flow=place.is_in_flow)
        if isinstance(value, bool) and node.value in ("True", "False"):
            text = text.capitalize()
        if start == end:  # the value is empty
            text = (": " if self._lacks_colon(place) else " ") + text
        return self._in_line(start, end, text, value)

    def _lacks_colon(self, place: Place) -> bool:
        """Whether a value is empty and its colon missing, as in `{a, b: 1}`."""
        return place.key is not None and _COLON.match(self._text, place.key.end_mark.index) is None

    def _quotes(self, place: Place, node: ScalarNode) -> Quotes:
        if node.style in ("'", '"'):
            return cast(Quotes, node.style)
        if place.is_in_flow and place.key is not None and place.key.style == '"' and not str(node.tag).endswith(":str"):
            return '"'  # as in JSON
        return None

    def _moment(self, node: ScalarNode, value: Any) -> date | None:
        """The date that replaces a date; None if the new value is not the text of a date, or the old one is no date."""
        if not isinstance(value, str) or not emit.is_date(value) or str(node.tag) != _DATE:
            return None
        try:
            return cast(date, self._read(ScalarNode(_DATE, value)))
        except ValueError:  # 2026-02-30
            return None

    def _in_line(self, start: int, end: int, text: str, value: Any) -> Splice:
        """A splice within a line, which keeps the column of a comment behind it if the spaces before it allow that."""
        spaces = _BEFORE_COMMENT.match(self._text, end)
        if spaces is not None:
            gap = len(spaces.group())
            grown = self._column(start) + len(text) - self._column(end)
            text += " " * max(gap - grown, min(gap, 2))
            end = spaces.end()
        return Splice(start=start, end=end, text=text, value=value)

    def _replace_block(self, place: Place, value: Any, header: re.Match[str], end: int) -> Splice:
        start = header.start()
        style, chomping, rest = header.groups()
        lines = [line for line in _LINE_END.split(self._text[header.end() : end]) if line.strip(" ")]
        if lines:
            depth = len(lines[0]) - len(lines[0].lstrip(" "))
        else:
            depth = self._column(self._head(place)) + self.layout().mapping_step
        body = self._body(style, value, max(map(len, lines), default=0) - depth)
        mark = self._chomping(value, chomping, end) if body is not None else None
        if body is None or mark is None:
            text = emit.in_one_line(value, quotes='"' if isinstance(value, str) else None, in_flow=False)
            line = self._in_line(start, header.end(2), text, value)
            return Splice(start=start, end=end, text=line.text + self._text[line.end : header.end()], value=value)
        body += [""] * max(len(value) - len(value.rstrip("\n")) - 1, 0)
        eol = self._line_end(start)
        text = eol.join([style + mark + rest, *(" " * depth + line if line else "" for line in body)])
        if value.endswith("\n") and end == len(self._text):
            text += eol
        return Splice(start=start, end=end, text=text, value=value)

    def _body(self, style: str, value: Any, width: int) -> list[str] | None:
        if not isinstance(value, str):
            return None
        return emit.literal_lines(value) if style == "|" else emit.folded_lines(value, width)

    def _chomping(self, text: str, old: str, end: int) -> str | None:
        """The chomping indicator after `|` or `>` for the line ends at the end of a text; None if none fits."""
        count = len(text) - len(text.rstrip("\n"))
        if count == 0:
            return old if end == len(self._text) else "-"
        if count == 1:
            return "" if old == "-" else old
        following = _LINE_END.match(self._text, end)
        is_blank_below = following is not None and _LINE_END.match(self._text, following.end()) is not None
        return "+" if old == "+" or not is_blank_below else None

    # Adding

    def add(self, place: Place, key: str | None, value: Any) -> Splice:
        """The splice that adds a member at the end of the collection at a place.

        Args:
            place: of the collection.
            key: of the new member; None in a sequence.
            value: JSON.

        Raises:
            NoExactEdit: it cannot be exact.
        """
        at = self._end_of_members(place)
        node = cast(CollectionNode, place.node)
        last = node.value[-1]
        if key is None:
            head = self._dash(node)
        else:
            head = self._new_key(key, cast(ScalarNode, last[0]).style)
            last = last[1]
        quotes = last.style if isinstance(last, ScalarNode) and last.style in ("'", '"') else None
        column = self._column(self._members(place)[-1])
        lines = emit.member_lines(head, value, column=column, quotes=quotes, layout=self.layout())
        return self._insert(at, lines, value)

    def add_first(self, key: str, value: Any) -> Splice:
        """The splice that adds a member to a document without content, at its end."""
        end = _DOCUMENT_END.search(self._text)
        at = end.start() if end else len(self._text)
        lines = emit.member_lines(self._new_key(key, None), value, column=0, quotes=None, layout=Layout())
        return self._insert(at, lines, value)

    def _insert(self, at: int, lines: list[str], value: Any) -> Splice:
        eol = self._line_end_before(at) or self._line_end(at)
        text = eol.join(lines)
        is_cut_off = at == len(self._text) and at != self._starts[-1]
        return Splice(start=at, end=at, text=eol + text if is_cut_off else text + eol, value=value)

    def _new_key(self, key: str, style: str | None) -> str:
        quotes = cast(Quotes, style if style in ("'", '"') else None)
        written = emit.in_one_line(key, quotes=quotes, in_flow=False)
        if len(written) > MAX_KEY:
            raise NoExactEdit("not_exact")
        return written + ":"

    def _dash(self, node: CollectionNode) -> str:
        """The dash of the last item, with the spaces after it."""
        found = re.compile(r"-( *)(?=[^ \r\n#])").match(self._text, self._heads[id(node)][-1])
        return found.group() if found else "-"

    def _end_of_members(self, place: Place) -> int:
        """Where a new last member's lines go: after those of the last member, and the comments that belong to it."""
        self._refuse_aliased(place)
        node = place.node
        if not isinstance(node, CollectionNode):
            raise NoExactEdit("not_a_value")
        if node.flow_style:
            raise NoExactEdit("flow")
        heads = self._members(place)
        at = self._next_line(self._end_of_member(node, len(node.value) - 1))
        column = self._column(heads[-1])
        outer = max((self._column(self._block_heads(each)[-1]) for each in place.above), default=-1)
        while (comment := _COMMENT_LINE.match(self._text, at)) is not None:
            if not outer < len(comment[1]) >= column:
                break
            at = comment.end()
        return at

    def layout(self) -> Layout:
        """The layout of most of the document's block collections."""
        mappings: Counter[int] = Counter()
        sequences: Counter[int] = Counter()
        for node in [self._document.root, *_below(self._document.root)] if self._document.root else []:
            for key, value in node.value if isinstance(node, MappingNode) and not node.flow_style else []:
                if isinstance(value, CollectionNode) and not value.flow_style and value.anchor is None:
                    inner = value.value[0][0] if isinstance(value, MappingNode) else value
                    steps = mappings if isinstance(value, MappingNode) else sequences
                    steps[inner.start_mark.column - self._column(key.start_mark.index)] += 1
        mapping_step = max(mappings.most_common(1)[0][0], 1) if mappings else 2
        sequence_step = max(sequences.most_common(1)[0][0], 0) if sequences else mapping_step
        return Layout(mapping_step=mapping_step, sequence_step=sequence_step)

    # Removing

    def remove(self, place: Place) -> Splice:
        """The splice that removes a member's lines, one of several in a block collection.

        Raises:
            NoExactEdit: it cannot be exact.
        """
        if place.index is None:
            raise NoExactEdit("not_a_value")
        self._refuse_aliased(place)
        parent = place.above[-1]
        if place.is_in_flow:
            raise NoExactEdit("flow")
        if len(parent.value) < 2:
            raise NoExactEdit("only_child")
        if any(self._is_referenced(node) for node in _below(place.node)):
            raise NoExactEdit("aliased")
        start = self._head(place)
        end = self._next_line(self._end_of_member(parent, place.index))
        comments = self._comments(place, start, end)
        line = self._line_start(start)
        before = self._text[line:start]
        if not before.strip(" "):
            return Splice(start=line, end=end, text="", removed_comments=comments)
        if place.index > 0 or _COMPACT.fullmatch(before) is None:
            raise NoExactEdit("not_exact")
        following = self._block_heads(parent)[1]
        if not self._text[end:following].strip(" "):
            return Splice(start=start, end=following, text="", removed_comments=comments)
        # A comment comes before the next member: leave the dash alone on its line
        return Splice(
            start=line + len(before.rstrip(" ")),
            end=end - len(self._line_end_before(end)),
            text="",
            removed_comments=comments,
        )

    def _comments(self, place: Place, start: int, end: int) -> tuple[str, ...]:
        """The comments between two indexes around a member: what starts with `#` outside of any scalar."""
        nodes = [place.node, *_below(place.node)] + ([place.key] if place.key is not None else [])
        scalars = sorted(self._content(node) for node in nodes if isinstance(node, ScalarNode))
        comments: list[str] = []
        for scalar_start, scalar_end in [*scalars, (end, end)]:
            comments += _COMMENT.findall(
                self._text, start, min(scalar_start, end)
            )  # the mark of an empty value is too far on
            start = max(scalar_end, start)
        return tuple(comments)

    def _content(self, node: ScalarNode) -> tuple[int, int]:
        """Start and end of a scalar's text, without anchor and tag, and without a block scalar's header."""
        header = self._header(node)
        return header.end() if header is not None else self._behind_properties(node)[0], node.end_mark.index

    # Marks

    def _span(self, place: Place) -> tuple[int, int]:
        """Start and end of a scalar, anchor excluded; for an empty value, twice the index where one belongs."""
        node = place.node
        if not isinstance(node, ScalarNode):
            raise NoExactEdit("not_a_value")
        start, is_tagged = self._behind_properties(node)
        if is_tagged or id(node) in self._document.tags:
            raise NoExactEdit("tagged")
        if node.start_mark.index == node.end_mark.index and place.key is not None:
            colon = _COLON.match(self._text, place.key.end_mark.index)
            start = colon.end() if colon else place.key.end_mark.index
            return start, start
        if (header := self._header(node)) is not None and header.group(2) not in ("", "-", "+"):
            raise NoExactEdit("block_indicator")
        return start, self._end_of_node(node, node.start_mark.index)

    def _behind_properties(self, node: Node) -> tuple[int, bool]:
        """Where a node begins after its anchor and tag, and whether it has a tag."""
        start, end = node.start_mark.index, node.end_mark.index
        is_tagged = False
        while start < end and (found := _PROPERTY.match(self._text, start)) is not None:
            is_tagged |= found.group().startswith("!")
            start = found.end()
            if start < end and (gap := _GAP.match(self._text, start, end)) is not None:
                start = gap.end()
        return start, is_tagged

    def _end_of_node(self, node: Node, behind: int) -> int:
        """Where a value's own text ends, before the last line end; `behind` is the index after its dash or colon."""
        if (alias := _ALIAS.match(self._text, behind)) is not None:
            return alias.end()
        if node.start_mark.index < behind:
            raise NoExactEdit("aliased")  # an alias on a line of its own
        if isinstance(node, CollectionNode):
            return node.end_mark.index if node.flow_style else self._end_of_member(node, len(node.value) - 1)
        if node.start_mark.index == node.end_mark.index:
            return behind
        end = cast(int, node.end_mark.index)
        if (header := self._header(cast(ScalarNode, node))) is None:
            return end
        end -= len(self._line_end_before(end))
        while "+" not in header.group(2) and end > header.end() and not self._text[self._line_start(end) : end].strip():
            above = self._line_start(end)
            end = above - len(self._line_end_before(above))
        return end

    def _header(self, node: ScalarNode) -> re.Match[str] | None:
        """The first line of a block scalar, from its `|` or `>` on; None for any other."""
        return _BLOCK_HEADER.match(self._text, self._behind_properties(node)[0]) if node.style in ("|", ">") else None

    def _end_of_member(self, node: CollectionNode, index: int) -> int:
        head = self._block_heads(node)[index]
        member = node.value[index]
        if isinstance(node, SequenceNode):
            return self._end_of_node(member, head + 1)
        key, value = member
        if self._is_referenced(key):
            raise NoExactEdit("aliased")
        colon = _COLON.match(self._text, key.end_mark.index)
        if colon is None:
            raise NoExactEdit("complex_key")
        return self._end_of_node(value, colon.end())

    def _head(self, place: Place) -> int:
        """Where the member of a place begins: at its key or dash."""
        if place.key is not None:
            return cast(int, place.key.start_mark.index)
        return self._block_heads(place.above[-1])[cast(int, place.index)]

    def _members(self, place: Place) -> list[int]:
        return self._block_heads(cast(CollectionNode, place.node))

    def _block_heads(self, node: CollectionNode) -> list[int]:
        """Where each member of a block collection begins."""
        if id(node) not in self._heads:
            self._heads[id(node)] = self._find_heads(node)
        return self._heads[id(node)]

    def _find_heads(self, node: CollectionNode) -> list[int]:
        if isinstance(node, MappingNode):
            return [key.start_mark.index for key, _ in node.value]
        first, _ = self._behind_properties(node)
        dashes = re.compile(rf"(?:\r\n?|\n) {{{self._column(first)}}}(?=-(?:[ \t\r\n]|$))")
        heads = [first, *(dash.end() for dash in dashes.finditer(self._text, first, node.end_mark.index))]
        if len(heads) != len(node.value):
            raise NoExactEdit("not_exact")
        return heads

    # Lines

    def _line_start(self, index: int) -> int:
        return self._starts[max(bisect_right(self._starts, index) - 1, 0)]

    def _column(self, index: int) -> int:
        return index - self._line_start(index)

    def _next_line(self, index: int) -> int:
        rest = _REST_OF_LINE.match(self._text, index)
        if rest is None:
            raise NoExactEdit("not_exact")
        return rest.end()

    def _line_end_before(self, index: int) -> str:
        if self._text.endswith("\r\n", 0, index):
            return "\r\n"
        return self._text[index - 1 : index] if self._text.endswith(("\n", "\r"), 0, index) else ""

    def _line_end(self, index: int) -> str:
        """The line end of the line at an index, of the line above if it has none, or a line feed."""
        found = _LINE_END.search(self._text, index)
        return found.group() if found else self._line_end_before(self._starts[-1]) or "\n"


def _below(node: Node) -> Iterator[Node]:
    """Every node within a node: keys, values, and what aliases refer to."""
    if isinstance(node, CollectionNode):
        for member in node.value:
            for each in member if isinstance(node, MappingNode) else (member,):
                yield each
                yield from _below(each)
