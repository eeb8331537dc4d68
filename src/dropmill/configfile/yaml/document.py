"""The rules for a config's text: what is accepted, what is refused and where, what it means as values.

Pure: bytes in, findings or plain values out; no I/O. It never writes YAML: what is saved is the text that was checked.
Slow and hungry on hostile text: the server asks `dropmill.configfile.parser`, which calls this in a child process.

Accepted is one UTF-8 document (a byte order mark may stand first) of YAML 1.2 whose root is a mapping; an empty one and
one of comments alone count as `{}`. Tags are those of the core schema, and `!!timestamp` since plain dates resolve to
it; `!!binary`, `!!set`, `!!omap`, `!!pairs` and all others are refused: plain values are what every script can read.
With `keeps_tags` they are accepted and mean what they stand beside: a single value as text, a list, a mapping. Nothing
is ever constructed by them. `<<` merges; with a tagged single value it is a key like any other. Keys are single values,
never null. Of keys that differ in YAML and are one to Python (`1`, `1.0`, `true`) the later ones are text.
Ruamel refuses most tabs and a plain `=`, though YAML 1.2 would not; so does this, because the script is given ruamel's
reading. What is accepted here can always be loaded with
`YAML(typ="safe", pure=True)`, with the same values as `load` gives; tags and such keys need what
`dropmill.slot.config` does beside.

Positions are 1-based, columns count UTF-16 units as browsers do, lines end with LF, CR LF or CR.
"""

import contextlib
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.parser import Parser

from dropmill.configfile.yaml.syntax import explain
from dropmill.model.errors import ConfigInvalid

MAX_BYTES: Final = 1_048_576  # the contract's 1 MiB
MAX_DEPTH: Final = 100  # aliases followed; three Python frames a level must fit the script's stack as well
MAX_NODES: Final = 100_000  # keys and values, aliases expanded: an alias bomb of 1 KiB has 10**9
MAX_NUMBER: Final = 1_000  # characters; Python itself will not print an integer of more than 4,300 digits
MAX_FINDINGS: Final = 100  # of each kind; nobody reads more, and an answer stays small
MAX_MESSAGE: Final = 300  # characters of a message or path: names in the text may be as long as the text

_BOM: Final = "\ufeff"
_LINE_END: Final = re.compile(r"\r\n?|\n")
# YAML 1.2 section 5.1 without U+0085: a control character, which ruamel takes for a line end and browsers do not.
_UNREADABLE: Final = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_DIRECTIVE_1_2: Final = re.compile(r"%YAML[ \t]+1\.2[ \t]*(#.*)?")
_DIRECTIVE_TAG: Final = re.compile(r"%TAG[ \t]")

_CORE: Final = "tag:yaml.org,2002:"
_MERGE: Final = _CORE + "merge"
_VALUE: Final = _CORE + "value"
_STR: Final = _CORE + "str"
_TAGS: Final = {
    ScalarNode: {_CORE + name for name in ("null", "bool", "int", "float", "str", "timestamp")},
    SequenceNode: {_CORE + "seq"},
    MappingNode: {_CORE + "map"},
}
_PLAIN: Final = {ScalarNode: _STR, SequenceNode: _CORE + "seq", MappingNode: _CORE + "map"}
_NUMBERS: Final = {_CORE + name for name in ("bool", "int", "float")}  # those that may be equal to Python
_KINDS: Final = {ScalarNode: "single value", SequenceNode: "list", MappingNode: "mapping"}
_WRONG_VALUE: Final = {
    "null": "is not null",
    "bool": "is neither true nor false",
    "int": "is not a whole number; put it in quotes if it is meant as text",
    "float": "is not a number; put it in quotes if it is meant as text",
    "timestamp": "is a date or time that does not exist; put it in quotes if it is meant as text",
}
_PITFALLS: Final = (
    (
        re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"),
        "is text here, but true or false to readers of YAML 1.1; put it in quotes, or write true or false",
    ),
    (
        re.compile(r"[-+]?0[0-9_]+|[-+]?0o[0-7_]+"),
        "is a number that readers of YAML 1.1 take otherwise; write it without the leading zero, or in quotes",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "is text here, but a number to base 60 to readers of YAML 1.1; put it in quotes",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something about a config's text that a person should see.

    Attributes:
        line: from 1.
        column: from 1, in UTF-16 units; a byte order mark counts for nothing.
        path: JSON pointer (RFC 6901) to the value or key; "" for the whole document or where the text cannot be read.
        message: a sentence without its full stop.
    """

    line: int
    column: int
    path: str
    message: str

    def as_json(self) -> dict[str, Any]:
        """The finding as the API and the ledger show it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a check found, in the order of the text.

    Attributes:
        errors: why the text is refused; at most `MAX_FINDINGS`. Text that breaks YAML's grammar gets one.
        warnings: what is accepted, but may mean something else than its author thinks.
    """

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether the text is accepted."""
        return not self.errors


def refusal(message: str) -> Report:
    """A report that refuses the text as a whole."""
    return Report(errors=(Finding(line=1, column=1, path="", message=message),))


def check_size(text: bytes) -> Report | None:
    """A report that refuses text over `MAX_BYTES`, or None; cheap, so that nothing larger travels anywhere."""
    if len(text) > MAX_BYTES:
        return refusal(f"The config has {len(text):,} bytes; at most {MAX_BYTES:,} are accepted")
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text as it was read.

    Attributes:
        text: with its byte order mark and line ends, as ruamel's marks count it (`index` in characters); "" if it is
            not UTF-8.
        root: the node graph as it is written, `<<` among the keys: aliased nodes are one object in several places,
            their marks those of the anchor. None for a text that is refused, or without content (then `values` is
            empty).
        values: dict, list, str, int, float, bool, None, date and datetime; empty for a text that is refused.
        report: what there is to say about the text; `is_valid` tells whether it is accepted.
        keeps_tags: whether application tags were accepted.
        tags: the application tags as they are written, by the `id` of their node; the nodes themselves have none.
    """

    text: str
    root: MappingNode | None
    values: dict[Any, Any]
    report: Report
    findings: "Findings"
    keeps_tags: bool = False
    tags: Mapping[int, str] = field(default_factory=dict)


def examine(raw: bytes, *, keeps_tags: bool = False) -> Document:
    """Read a text. Never raises, whatever the text; may take seconds.

    Args:
        keeps_tags: whether application tags are accepted.
    """
    if (too_large := check_size(raw)) is not None:
        return _refused("", Findings(""), too_large)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        findings = Findings(raw[: error.start].decode())
        hint = "; it looks like UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        findings.add_error(error.start, (), f"The config is not UTF-8{hint}")
        return _refused("", findings)
    findings = Findings(text)
    if (unreadable := _UNREADABLE.search(text)) is not None:
        code = ord(unreadable.group())
        findings.add_error(unreadable.start(), (), f"The character U+{code:04X} is not allowed in YAML")
        return _refused(text, findings)
    for start, directive in _directives(text):
        if _DIRECTIVE_1_2.fullmatch(directive) is None and not (keeps_tags and _DIRECTIVE_TAG.match(directive)):
            findings.add_error(
                start, (), f"The directive {_shown(directive)} is not accepted; YAML 1.2 is what is read"
            )
            return _refused(text, findings)
    return _read(text, findings, keeps_tags)


def check_text(text: bytes, *, keeps_tags: bool = False) -> Report:
    """Everything there is to say about a text. Never raises, whatever the text; may take seconds."""
    return examine(text, keeps_tags=keeps_tags).report


def load(text: bytes) -> dict[Any, Any]:
    """The values of an accepted text, as in `Document.values`.

    Raises:
        ConfigInvalid: the text is not accepted; `errors` lists why.
    """
    document = examine(text)
    if not document.report.is_valid:
        raise ConfigInvalid("The text is not a valid config.", errors=[e.as_json() for e in document.report.errors])
    return document.values


def _refused(text: str, findings: "Findings", report: Report | None = None) -> Document:
    return Document(text=text, root=None, values={}, report=report or findings.report(), findings=findings)


def _read(text: str, findings: "Findings", keeps_tags: bool) -> Document:
    """Compose, walk, construct. Ruamel raises nearly anything on hostile text; every exception becomes a finding."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Parser = _QuickParser
    yaml.Composer = _BoundedComposer
    composer: _BoundedComposer = yaml.composer
    root: Node | None = None
    values: Any = None
    tags: dict[int, str] = {}
    try:
        root = yaml.compose(text)
        if root is not None and not _is_empty(root):
            walk = _Walk(yaml.constructor, findings, tags if keeps_tags else None)
            walk.check(root)
            if not findings.errors:
                values = yaml.constructor.construct_document(root)
                for node, members in walk.merging:
                    node.value = members
    except MarkedYAMLError as error:
        mark, sentence = explain(error)
        mark = mark or composer.reached
        findings.add_error(mark.index if mark else 0, (), sentence)
    except MemoryError:
        findings.add_error(0, (), "The config needs too much memory to be read")
    except Exception as error:  # RecursionError, ValueError, KeyError, AssertionError, ... are all known to happen
        reached = composer.reached.index if composer.reached else 0
        findings.add_error(
            reached, (), f"The config cannot be read from about here on ({type(error).__name__}: {error})"
        )
    for anchor, mark in composer.repeated_anchors:
        findings.add_warning(
            mark.index, (), f"The anchor &{_shown(anchor)} is there before; an alias means the nearest above"
        )
    if findings.errors:
        return _refused(text, findings)
    mapping = root if isinstance(root, MappingNode) else None
    return Document(
        text=text,
        root=mapping,
        values=values or {},
        report=findings.report(),
        findings=findings,
        keeps_tags=keeps_tags,
        tags=tags,
    )


def is_merge(key: Node) -> bool:
    """Whether a key is the `<<` that takes over the members of other mappings."""
    return bool(key.value == "<<" and key.tag == _MERGE)


def _is_application(node: Node) -> bool:
    """Whether a node's tag is none of YAML's core."""
    tag = str(node.tag)
    return tag not in (_MERGE, _VALUE) and not any(tag in tags for tags in _TAGS.values())


def _numbers_of(node: MappingNode) -> Iterator[ScalarNode]:
    """The keys of a mapping and of all that is merged into it, as far as they are numbers or booleans."""
    for key, value in node.value:
        if is_merge(key):
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                if isinstance(source, MappingNode):
                    yield from _numbers_of(source)
        elif isinstance(key, ScalarNode) and key.tag in _NUMBERS:
            yield key


def scalar_reader() -> Callable[[ScalarNode], Any]:
    """A function that gives the value of a single scalar of an accepted document, as it is in `Document.values`."""
    construct = YAML(typ="safe", pure=True).constructor.construct_object

    def read(node: ScalarNode) -> Any:
        return node.value if node.tag == _CORE + "str" else construct(node)

    return read


def _is_empty(root: Node) -> bool:
    """Whether there is nothing behind the document's start, as in `---` alone."""
    return isinstance(root, ScalarNode) and root.value == "" and root.style is None and root.tag == _CORE + "null"


def _directives(text: str) -> Iterator[tuple[int, str]]:
    """Index and text of each directive line. Ruamel skips unknown ones in silence, hence by hand."""
    start = len(_BOM) if text.startswith(_BOM) else 0
    while start < len(text):
        end = _LINE_END.search(text, start)
        line = text[start : end.start() if end else len(text)]
        if line.startswith("%"):
            yield start, line
        elif line.strip(" \t") and not line.lstrip(" \t").startswith("#"):
            return
        start = end.end() if end else len(text)


def _shown(name: Any) -> str:
    """A name from the text, short enough for a sentence."""
    text = str(name)
    return text if len(text) <= 60 else text[:59] + "…"


class Findings:
    """Collects findings at indexes into a text and turns these into lines and columns.

    At most `MAX_FINDINGS` of each kind; what comes after is dropped.
    """

    def __init__(self, text: str) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self._text = text
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(text))]

    def add_error(self, index: int, path: tuple[Any, ...], message: str) -> None:
        """Why the text is refused; `path` from the root, keys and list indexes, `message` without a full stop."""
        self._add(self.errors, index, path, message)

    def add_warning(self, index: int, path: tuple[Any, ...], message: str) -> None:
        """What may mean something else than its author thinks."""
        self._add(self.warnings, index, path, message)

    def _add(self, to: list[Finding], index: int, path: tuple[Any, ...], message: str) -> None:
        if len(to) >= MAX_FINDINGS:
            return
        line, column = self.position(index)
        pointer = "".join("/" + str(part)[:MAX_MESSAGE].replace("~", "~0").replace("/", "~1") for part in path)
        to.append(Finding(line=line, column=column, path=_plain(pointer), message=_plain(message)))

    def position(self, index: int) -> tuple[int, int]:
        """Line and column, from 1, the column in UTF-16 units."""
        line = bisect_right(self._starts, index)
        before = self._text[self._starts[line - 1] : index]
        if line == 1:
            before = before.removeprefix(_BOM)
        return line, len(before.encode("utf-16-le")) // 2 + 1

    def report(self) -> Report:
        """All of them, in the order of the text."""
        return Report(errors=_sorted(self.errors), warnings=_sorted(self.warnings))


def _plain(text: str) -> str:
    """Text that can be encoded, of bounded length: escapes in YAML can make lone surrogates."""
    return text[:MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (finding.line, finding.column)))


@dataclass(slots=True)
class _Extent:
    """How far an anchored node reaches with its aliases expanded."""

    nodes: int
    height: int


class _QuickParser(Parser):
    """Looks its scanner up once, and not at each of 47 calls a line: 5 % of a parse."""

    @cached_property
    def scanner(self) -> Any:
        return super().scanner


class _BoundedComposer(Composer):
    """Makes the node graph, and stops at too many nodes, too deep nesting and self-reference, aliases expanded.

    Expanding is only counted: what an alias adds is the count that its anchor's node made.
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
    def parser(self) -> Any:  # as in `_QuickParser`
        return super().parser

    @cached_property
    def resolver(self) -> Any:
        return super().resolver

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        mark = self.reached = event.start_mark
        if isinstance(event, AliasEvent):
            node = super().compose_node(parent, index)
            extent = self._extents.get(id(node))
            if extent is None:
                raise ComposerError(None, None, f"the alias *{_shown(event.anchor)} refers to what it stands in", mark)
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


class _Unreadable:
    """Stands for the value of a scalar that has none; equal to nothing else."""


@dataclass(slots=True)
class _Walk:
    """Visits every node once and says what is wrong with it. Recursion is as deep as `MAX_DEPTH` at most.

    Application tags that are kept go from the nodes into `tags`, so that all that follows sees plain nodes.
    """

    constructor: Any
    findings: Findings
    tags: dict[int, str] | None  # None: they are refused
    path: list[Any] = field(default_factory=list)  # joined only for a finding: one key may be as long as the text
    visited: set[int] = field(default_factory=set)
    merging: list[tuple[MappingNode, list[Any]]] = field(default_factory=list)  # members: constructing replaces them

    def check(self, root: Node) -> None:
        if isinstance(root, MappingNode):
            self.visit(root)
        else:
            self.error(root, f"The config must be a mapping (key: value), not a {_KINDS[type(root)]}")

    def error(self, node: Node, message: str) -> None:
        self.findings.add_error(node.start_mark.index, tuple(self.path), message)

    def visit(self, node: Node) -> None:
        if node.anchor is not None:
            if id(node) in self.visited:
                return
            self.visited.add(id(node))
        if isinstance(node, ScalarNode):
            self.value_of(node)
        elif not self.has_fitting_tag(node):
            return
        elif isinstance(node, MappingNode):
            self.visit_mapping(node)
        else:
            for index, item in enumerate(node.value):
                self.path.append(index)
                self.visit(item)
                self.path.pop()

    def visit_mapping(self, node: MappingNode) -> None:
        keys: dict[Any, ScalarNode] = {}
        for key, value in node.value:
            self.path.append(key.value if isinstance(key, ScalarNode) else "?")
            self.visit_key(key, value, keys)
            self.visit(value)
            self.path.pop()
        if any(is_merge(key) for key, _ in node.value):
            self.merging.append((node, list(node.value)))
            self.check_merged(node)

    def visit_key(self, key: Node, value: Node, keys: dict[Any, ScalarNode]) -> None:
        name: Any
        if not isinstance(key, ScalarNode):
            self.error(key, f"A {_KINDS[type(key)]} cannot be a key")
            return
        if is_merge(key) and isinstance(value, ScalarNode) and self.is_kept(value):
            key.tag = _STR  # `<<: !include common.yaml`: what would be merged is not known here
            name = key.value
        elif is_merge(key):
            name = _MERGE
            sources = value.value if isinstance(value, SequenceNode) else [value]
            for source in sources:
                if not isinstance(source, MappingNode):
                    self.error(source, f"'<<' merges mappings; this is a {_KINDS[type(source)]}")
        elif key.tag == _VALUE and key.value == "=":
            name = "="
        else:
            name = self.value_of(key)
        if name in keys and keys[name].tag != key.tag and {keys[name].tag, key.tag} <= _NUMBERS:
            self.constructor.constructed_objects.pop(key, None)
            key.tag = _STR
            self.warn(
                key,
                f"is another key than '{_shown(keys[name].value)}', but Python takes both for one; "
                f"scripts get '{_shown(key.value)}' as text, so put it in quotes",
            )
            name = key.value
        if name is None:
            self.error(key, "A key is missing, or is null; put it in quotes if it is meant as text")
        elif name in keys:
            line = self.findings.position(keys[name].start_mark.index)[0]
            self.error(key, f"The key '{_shown(key.value)}' is there twice; first on line {line}")
        else:
            keys[name] = key

    def check_merged(self, node: MappingNode) -> None:
        """Refuse keys that merging brings together and Python takes for one, since one value would be lost."""
        keys: dict[Any, ScalarNode] = {}
        for key in _numbers_of(node):
            name: Any = _Unreadable()
            with contextlib.suppress(Exception):  # reported where it stands
                name = self.constructor.construct_object(key)
            if keys.setdefault(name, key).tag != key.tag:
                self.error(
                    node,
                    f"Merged here, the keys '{_shown(keys[name].value)}' and '{_shown(key.value)}' are one to Python; "
                    "put one of them in quotes",
                )

    def is_kept(self, node: Node) -> bool:
        """Whether it has, or had, an application tag that is accepted."""
        return self.tags is not None and (id(node) in self.tags or _is_application(node))

    def has_fitting_tag(self, node: Node) -> bool:
        tag = str(node.tag)
        if tag in _TAGS[type(node)]:
            return True
        name = _shown(tag.replace(_CORE, "!!", 1))
        if tag in (_MERGE, _VALUE) and node.ctag.handle is None:
            self.error(node, f"'{_shown(node.value)}' has a meaning of its own; put it in quotes")
        elif any(tag in tags for tags in _TAGS.values()):
            self.error(node, f"The tag {name} does not fit a {_KINDS[type(node)]}")
        elif self.tags is not None and _is_application(node):
            handle, suffix = node.ctag.handle, node.ctag.suffix
            self.tags[id(node)] = _plain(f"!<{suffix}>" if handle is None else f"{handle}{suffix}")
            node.tag = _PLAIN[type(node)]
            return True
        else:
            self.error(node, f"The tag {name} is not one of YAML's core tags; --config-tags keep accepts such tags")
        return False

    def value_of(self, node: ScalarNode) -> Any:
        """The scalar's value; an `_Unreadable` after saying what is wrong with it."""
        if not self.has_fitting_tag(node):
            return _Unreadable()
        kind = str(node.tag).removeprefix(_CORE)
        if kind == "str":
            if _SURROGATE.search(node.value) is not None:
                self.error(node, "The text holds half a character (a lone surrogate); write \\U and eight digits")
            self.warn_of_pitfalls(node)
            return node.value
        if len(node.value) > MAX_NUMBER:
            self.error(node, f"A value of {len(node.value):,} characters is too long to be anything but text")
            return _Unreadable()
        try:
            value = self.constructor.construct_object(node)
        except Exception:  # ValueError, KeyError, IndexError, OverflowError: whatever conversion ran into
            self.error(node, f"'{_shown(node.value)}' {_WRONG_VALUE[kind]}")
            return _Unreadable()
        if kind == "null" and node.value.lower() not in ("", "~", "null"):
            self.error(node, f"'{_shown(node.value)}' {_WRONG_VALUE[kind]}")
        if kind == "float" and math.isinf(value) and "inf" not in node.value.lower():
            self.warn(node, "is too large for a number and becomes infinity")
        self.warn_of_pitfalls(node)
        return value

    def warn_of_pitfalls(self, node: ScalarNode) -> None:
        if node.style is not None or node.ctag.handle is not None or self.is_kept(node):
            return
        for pattern, message in _PITFALLS:
            if pattern.fullmatch(node.value) is not None:
                self.warn(node, message)

    def warn(self, node: ScalarNode, message: str) -> None:
        self.findings.add_warning(node.start_mark.index, tuple(self.path), f"'{_shown(node.value)}' {message}")
