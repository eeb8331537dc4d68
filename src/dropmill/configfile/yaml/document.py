"""The rules for a config's text: what is accepted, what is refused and where, what it means as values.

Pure: bytes in, findings or plain values out; no I/O. It never writes YAML: the text that was checked is what is saved.
Hostile text can make it slow and hungry, so the server calls it in a child process (`dropmill.configfile.parser`).

It accepts one UTF-8 document (a byte order mark may come first) of YAML 1.2 whose root is a mapping. An empty document
and one of comments alone count as `{}`. It accepts the tags of the core schema, and `!!timestamp` because plain dates
resolve to it. It refuses `!!binary`, `!!set`, `!!omap`, `!!pairs` and all others: every script can read plain values.
With `keeps_tags` it accepts these tags: a tagged single value is text, a tagged list or mapping is one. Nothing is ever
constructed by a tag. `<<` merges; with a tagged single value it is a key like any other. Keys are single values, never
null. Of keys that differ in YAML and are equal in Python (`1`, `1.0`, `true`) the later ones become text.

Ruamel refuses most tabs and a plain `=`, although YAML 1.2 allows them. So does this module, because the script gets
ruamel's reading. `YAML(typ="safe", pure=True)` can load every accepted text, with the values of `Document.values`; only
tags and equal keys need what `dropmill.slot.config` does in addition.
"""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dropmill.configfile.yaml.composer import BoundedComposer, QuickParser
from dropmill.configfile.yaml.findings import BOM, LINE_END, Findings, Report, check_size, plain, shown
from dropmill.configfile.yaml.syntax import explain

MAX_NUMBER: Final = 1_000  # characters; Python itself will not print an integer of more than 4,300 digits

# YAML 1.2 section 5.1 without U+0085, a control character that ends a line to ruamel and not to browsers.
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
_NUMBERS: Final = {_CORE + name for name in ("bool", "int", "float")}  # values of these may be equal in Python
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
        "is another number to readers of YAML 1.1; write it without the leading zero, or in quotes",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "is text here, but a number to base 60 to readers of YAML 1.1; put it in quotes",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text as it was read.

    Attributes:
        text: with its byte order mark and line ends; ruamel's marks are indexes into it, in characters. "" if it is not
            UTF-8.
        root: the node graph as written, `<<` among the keys. An aliased node is one object in several places, with the
            marks of its anchor. None for a text that is refused, or has no content (then `values` is empty).
        values: dict, list, str, int, float, bool, None, date and datetime; empty for a text that is refused.
        report: what the check found; `is_valid` says whether the text is accepted.
        keeps_tags: whether application tags were accepted.
        tags: the application tags as written, by the `id` of their node; the nodes themselves have plain tags.
    """

    text: str
    root: MappingNode | None
    values: dict[Any, Any]
    report: Report
    findings: Findings
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
            findings.add_error(start, (), f"The directive {shown(directive)} is not accepted; YAML 1.2 is what is read")
            return _refused(text, findings)
    return _read(text, findings, keeps_tags)


def _refused(text: str, findings: Findings, report: Report | None = None) -> Document:
    return Document(text=text, root=None, values={}, report=report or findings.report(), findings=findings)


def _read(text: str, findings: Findings, keeps_tags: bool) -> Document:
    """Compose, walk, construct. Ruamel may raise any exception on hostile text; each becomes a finding."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Parser = QuickParser
    yaml.Composer = BoundedComposer
    composer: BoundedComposer = yaml.composer
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
            mark.index, (), f"The anchor &{shown(anchor)} is used twice; an alias means the nearest one above"
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
    """Whether a key is the `<<` that merges the members of other mappings."""
    return bool(key.value == "<<" and key.tag == _MERGE)


def _is_application(node: Node) -> bool:
    """Whether a node's tag is not one of YAML's core tags."""
    tag = str(node.tag)
    return tag not in (_MERGE, _VALUE) and not any(tag in tags for tags in _TAGS.values())


def _numbers_of(node: MappingNode) -> Iterator[ScalarNode]:
    """The keys of a mapping, and of all that is merged into it, that are numbers or booleans."""
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
    """Whether nothing follows the document's start, as in `---` alone."""
    return isinstance(root, ScalarNode) and root.value == "" and root.style is None and root.tag == _CORE + "null"


def _directives(text: str) -> Iterator[tuple[int, str]]:
    """Index and text of each directive line. Found by hand, because ruamel skips unknown ones silently."""
    start = len(BOM) if text.startswith(BOM) else 0
    while start < len(text):
        end = LINE_END.search(text, start)
        line = text[start : end.start() if end else len(text)]
        if line.startswith("%"):
            yield start, line
        elif line.strip(" \t") and not line.lstrip(" \t").startswith("#"):
            return
        start = end.end() if end else len(text)


class _Unreadable:
    """Takes the place of a value that cannot be read; equal to nothing else."""


@dataclass(slots=True)
class _Walk:
    """Visits every node once and reports what is wrong with it. It recurses at most `MAX_DEPTH` levels.

    It moves application tags from the nodes into `tags`, so that later code sees plain nodes.
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
            key.tag = _STR  # `<<: !include common.yaml`: nobody here knows what it would merge
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
                f"is another key than '{shown(keys[name].value)}', but Python takes both for one; "
                f"scripts get '{shown(key.value)}' as text, so put it in quotes",
            )
            name = key.value
        if name is None:
            self.error(key, "A key is missing, or is null; put it in quotes if it is meant as text")
        elif name in keys:
            line = self.findings.position(keys[name].start_mark.index)[0]
            self.error(key, f"The key '{shown(key.value)}' appears twice; first on line {line}")
        else:
            keys[name] = key

    def check_merged(self, node: MappingNode) -> None:
        """Refuse merged keys that are equal in Python, because one of the values would be lost."""
        keys: dict[Any, ScalarNode] = {}
        for key in _numbers_of(node):
            name: Any = _Unreadable()
            with contextlib.suppress(Exception):  # reported when it is visited itself
                name = self.constructor.construct_object(key)
            if keys.setdefault(name, key).tag != key.tag:
                self.error(
                    node,
                    f"Merged here, the keys '{shown(keys[name].value)}' and '{shown(key.value)}' are equal in Python; "
                    "put one of them in quotes",
                )

    def is_kept(self, node: Node) -> bool:
        """Whether it has an application tag that is accepted, or had one before `tags` got it."""
        return self.tags is not None and (id(node) in self.tags or _is_application(node))

    def has_fitting_tag(self, node: Node) -> bool:
        tag = str(node.tag)
        if tag in _TAGS[type(node)]:
            return True
        name = shown(tag.replace(_CORE, "!!", 1))
        if tag in (_MERGE, _VALUE) and node.ctag.handle is None:
            self.error(node, f"'{shown(node.value)}' has a meaning of its own; put it in quotes")
        elif any(tag in tags for tags in _TAGS.values()):
            self.error(node, f"The tag {name} does not fit a {_KINDS[type(node)]}")
        elif self.tags is not None and _is_application(node):
            handle, suffix = node.ctag.handle, node.ctag.suffix
            self.tags[id(node)] = plain(f"!<{suffix}>" if handle is None else f"{handle}{suffix}")
            node.tag = _PLAIN[type(node)]
            return True
        else:
            self.error(node, f"The tag {name} is not one of YAML's core tags; --config-tags keep accepts such tags")
        return False

    def value_of(self, node: ScalarNode) -> Any:
        """The scalar's value; an `_Unreadable` after reporting what is wrong with it."""
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
        except Exception:  # ValueError, KeyError, IndexError, OverflowError, ...
            self.error(node, f"'{shown(node.value)}' {_WRONG_VALUE[kind]}")
            return _Unreadable()
        if kind == "null" and node.value.lower() not in ("", "~", "null"):
            self.error(node, f"'{shown(node.value)}' {_WRONG_VALUE[kind]}")
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
        self.findings.add_warning(node.start_mark.index, tuple(self.path), f"'{shown(node.value)}' {message}")
