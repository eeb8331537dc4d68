"""Value edits: JSON Patch (RFC 6902) on a config's text, changing the bytes of the edited nodes alone.

It knows `test`, `replace`, `add` (at the end) and `remove`. Each edit is a splice, found by `locate`. `apply` reads the
new text again, and refuses the edit unless the text means exactly what the edit asks for. It applies a patch as a whole
or not at all.

Values are JSON, which has no dates: a date is compared by its text, and stays a date if the text of a date replaces it.
Reading may be slow, so the server calls this in the child process of `dropmill.configfile.parser`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from ruamel.yaml.nodes import MappingNode, SequenceNode

from dropmill.configfile.yaml.composer import MAX_DEPTH
from dropmill.configfile.yaml.document import Document, examine
from dropmill.configfile.yaml.locate import NoExactEdit, Places, Splice, list_index
from dropmill.configfile.yaml.nodes import json_of
from dropmill.model.errors import BadRequest, ConfigEditRefused, ConfigInvalid

MAX_OPERATIONS: Final = 100  # each parses the whole text

_KINDS: Final = ("test", "replace", "add", "remove")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")
_SENTENCES: Final = {
    "aliased": "is shared by an anchor and its aliases, or was merged in; edit the text instead",
    "tagged": "has a tag; edit the text instead",
    "complex_key": "has a key written with '?'; edit the text instead",
    "only_child": "is the only member of its collection; edit the text instead",
    "flow": "is a collection in brackets or braces, or in one; edit the text instead",
    "block_indicator": "is a block of text with an indentation number; edit the text instead",
    "ambiguous_key": "names two keys that differ only in their type; edit the text instead",
    "not_found": "does not exist",
    "test_failed": "has another value",
    "not_a_value": "cannot be changed like this: an edit replaces a single value by a single value, no list or mapping",
    "not_exact": "cannot be changed without changing the text around it; edit the text instead",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation of a JSON Patch (RFC 6902), parsed.

    Attributes:
        path: the tokens of its JSON pointer, unescaped; () is the whole document.
        value: of `test`, `replace` and `add`: JSON; None for null, and for `remove`.
    """

    kind: Literal["test", "replace", "add", "remove"]
    path: tuple[str, ...]
    value: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """The document after an edit.

    Attributes:
        document: of the new text; its report is valid.
        removed_comments: comments that were removed with values, each from its `#` on, in the order of the text.
    """

    document: Document
    removed_comments: tuple[str, ...]


def parse_patch(members: Any) -> tuple[Operation, ...]:
    """The operations of a JSON Patch document.

    Args:
        members: the document as `json.loads` gives it.

    Raises:
        BadRequest: it is not a list of at most `MAX_OPERATIONS` known operations.
    """
    if not isinstance(members, list):
        raise BadRequest("A patch is a list of operations (RFC 6902).")
    if len(members) > MAX_OPERATIONS:
        raise BadRequest(f"The patch has {len(members)} operations; at most {MAX_OPERATIONS} are accepted.")
    return tuple(_parse_operation(f"Operation {number}", member) for number, member in enumerate(members, start=1))


def _parse_operation(name: str, member: Any) -> Operation:
    if not isinstance(member, dict):
        raise BadRequest(f"{name} is not an object.")
    kind, path, value = member.get("op"), member.get("path"), member.get("value")
    if kind not in _KINDS:
        raise BadRequest(f"{name}: 'op' must be one of {', '.join(_KINDS)}.")
    if not isinstance(path, str) or (path and not path.startswith("/")) or _BAD_ESCAPE.search(path):
        raise BadRequest(f"{name}: 'path' must be a JSON pointer (RFC 6901), such as /servers/0/port.")
    if kind != "remove" and "value" not in member:
        raise BadRequest(f"{name}: 'value' is missing.")
    _check_json(name, [path, value] if kind != "remove" else path)
    tokens = tuple(token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:])
    return Operation(kind=cast(Any, kind), path=tokens, value=value if kind != "remove" else None)


def _check_json(name: str, value: Any, depth: int = 0) -> None:
    """Refuse values that Python reads from JSON text, but that are valid in neither JSON nor YAML."""
    if depth > MAX_DEPTH:
        raise BadRequest(f"{name}: 'value' is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise BadRequest(f"{name} holds half a character (a lone surrogate).")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadRequest(f"{name}: NaN and infinity are not JSON.")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_json(name, key, depth)
            _check_json(name, member, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(name, item, depth + 1)


def apply(document: Document, operations: Sequence[Operation]) -> Edited:
    """The document after all operations, made one after the other.

    Reads the text again for every operation that changes it; may take seconds.

    Args:
        document: as `examine` returned it; it is not changed.
        operations: at most `MAX_OPERATIONS`; none returns the same document.

    Raises:
        ConfigEditRefused: an operation cannot be exact, or the document is not what it expects; with `reason` and
            `path`, the operation's JSON pointer.
        ConfigInvalid: the document is not valid, or would not be with a new value; `errors` lists why.
    """
    _check_valid(document, "The text is not a valid config.")
    comments: list[str] = []
    for operation in operations:
        try:
            document, removed = _apply_one(document, operation)
        except NoExactEdit as refusal:
            pointer = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in operation.path)
            sentence = f"{pointer or 'The document'} {_SENTENCES[refusal.reason]}."
            raise ConfigEditRefused(sentence, reason=refusal.reason, path=pointer) from refusal
        comments += removed
    return Edited(document=document, removed_comments=tuple(comments))


def _check_valid(document: Document, sentence: str) -> None:
    if not document.report.is_valid:
        raise ConfigInvalid(sentence, errors=[error.as_json() for error in document.report.errors])


def _apply_one(document: Document, operation: Operation) -> tuple[Document, tuple[str, ...]]:
    places = Places(document)
    if operation.kind == "test":
        _test(document, places, operation)
        return document, ()
    if not operation.path:
        raise NoExactEdit("not_a_value")
    if operation.kind == "add":
        splice, wanted = _add(document, places, operation)
    elif operation.kind == "replace":
        splice, wanted = _replace(document, places, operation)
    else:
        place = places.find(operation.path)
        splice = places.remove(place)
        wanted = _changed(document.values, place.names, "remove", None)
    return _proved(document, splice, wanted), splice.removed_comments


def _test(document: Document, places: Places, operation: Operation) -> None:
    try:
        if operation.path:
            places.find(operation.path)
    except NoExactEdit as refusal:
        if refusal.reason != "aliased":  # `test` may read what `<<` merges in
            raise
    found = json_of(document)
    for token in operation.path:
        if isinstance(found, dict) and token in found:
            found = found[token]
        elif isinstance(found, list) and (index := list_index(token)) is not None and index < len(found):
            found = found[index]
        else:
            raise NoExactEdit("not_found")
    if not _is_equal(found, operation.value):
        raise NoExactEdit("test_failed")


def _replace(document: Document, places: Places, operation: Operation) -> tuple[Splice, Any]:
    place = places.find(operation.path)
    if _is_same(_at(document.values, place.names), operation.value):
        return Splice(start=0, end=0, text=""), document.values
    splice = places.replace(place, operation.value)
    return splice, _changed(document.values, place.names, "replace", splice.value)


def _add(document: Document, places: Places, operation: Operation) -> tuple[Splice, Any]:
    *above, name = operation.path
    if document.root is None and not above:
        return places.add_first(name, operation.value), {name: operation.value}
    parent = places.find(tuple(above))
    if isinstance(parent.node, MappingNode):
        try:
            places.find(operation.path)
        except NoExactEdit as refusal:
            if refusal.reason != "not_found":
                raise
        else:
            return _replace(document, places, operation)
        splice = places.add(parent, name, operation.value)
        return splice, _changed(document.values, (*parent.names, name), "add", operation.value)
    if isinstance(parent.node, SequenceNode):
        index = len(parent.node.value) if name == "-" else list_index(name)
        if index is None or index > len(parent.node.value):
            raise NoExactEdit("not_found")
        if index < len(parent.node.value):
            raise NoExactEdit("not_exact")
        splice = places.add(parent, None, operation.value)
        return splice, _changed(document.values, (*parent.names, index), "add", operation.value)
    raise NoExactEdit("not_a_value")


def _proved(document: Document, splice: Splice, wanted: Any) -> Document:
    """The document after the splice, if it has the values that are wanted."""
    text = document.text[: splice.start] + splice.text + document.text[splice.end :]
    if text == document.text:
        return document
    edited = examine(text.encode(), keeps_tags=document.keeps_tags)
    _check_valid(edited, "The config would not be valid with this value.")
    if not _is_same(edited.values, wanted):
        raise NoExactEdit("not_exact")
    return edited


def _at(values: Any, names: Sequence[Any]) -> Any:
    for name in names:
        values = values[name]
    return values


def _changed(values: Any, names: Sequence[Any], kind: str, value: Any) -> Any:
    """Values with one change; only the collections on the way to it are copied."""
    name, *rest = names
    copy = values.copy()
    if rest:
        copy[name] = _changed(copy[name], rest, kind, value)
    elif kind == "remove":
        del copy[name]
    elif kind == "add" and isinstance(copy, list):
        copy.append(value)
    else:
        copy[name] = value
    return copy


def _is_same(one: Any, other: Any) -> bool:
    """Whether a script sees the same values: types and the order of keys count, NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            _is_same(key, other_key) and _is_same(value, other_value)
            for (key, value), (other_key, other_value) in zip(one.items(), other.items(), strict=True)
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(repr(one) == repr(other) if isinstance(one, float) else one == other)


def _is_equal(one: Any, other: Any) -> bool:
    """Whether JSON values are equal (RFC 6902 section 4.6): 1 is 1.0, but not true."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_is_equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_is_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
