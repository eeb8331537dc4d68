"""The JSON Schema beside a config: the errors it finds in a document, and what it says about each place in it.

Draft 4 to 2020-12; without `$schema`, 2020-12. Nothing is ever fetched: references must stay within the schema. Values
are compared as JSON would hold them (`nodes`): dates, and keys of all kinds, are the text they are written as.

A hostile schema can take any time, above all by `pattern`: the caller limits it. The validator is imported with the
first schema: it takes 0.1 s and 5 MiB, which servers without a schema save.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Self

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from dropmill.configfile.schema.messages import Complaint, complaints, is_secret, name_of
from dropmill.configfile.yaml.document import Document
from dropmill.configfile.yaml.findings import MAX_BYTES, MAX_FINDINGS, Findings, Report
from dropmill.configfile.yaml.nodes import Path, find, find_key, json_of

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from referencing import Specification
    from referencing._core import Resolver

_MAX_REASON: Final = 200  # characters
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_SHOWN: Final = (
    *("title", "description", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "default", "examples"),
)


class SchemaUnusable(Exception):
    """The schema cannot be used; `str()` is the reason, a clause without a full stop."""


class Schema:
    """A schema that has been checked.

    Attributes:
        members: its JSON; True and False are schemas too.
        rules: what it says about the root of the config.
    """

    def __init__(
        self, members: dict[str, Any] | bool, validator: "Validator", rules: "Rules", is_deprecating: bool
    ) -> None:
        """Keep the arguments; call `parse` instead."""
        self.members: Final = members
        self.rules: Final = rules
        self._validator = validator
        self._is_deprecating = is_deprecating

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """A schema from its JSON text.

        Raises:
            SchemaUnusable: it is not a JSON Schema, or refers to something outside of itself.
        """
        members = _members(text)
        with _blaming_the_schema("it cannot be read"):
            return cls._of(members)

    @classmethod
    def _of(cls, members: dict[str, Any] | bool) -> Self:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import Draft3Validator, Draft202012Validator, validator_for
        from referencing import Registry
        from referencing.jsonschema import specification_with

        dialect = validator_for(members, default=Draft202012Validator)
        if dialect is Draft3Validator:
            raise SchemaUnusable("draft 3 of JSON Schema is too old; draft 4 to 2020-12 are read")
        try:
            if isinstance(members, dict):
                dialect.check_schema(members)
        except SchemaError as error:
            place = "".join(f"/{part}" for part in error.absolute_path) or "its root"
            raise SchemaUnusable(_cut(f"at {place}: {error.message}")) from None
        specification = specification_with(str(dialect.META_SCHEMA["$schema"]))
        resource = specification.create_resource(members)
        name = resource.id() or ""
        registry: Registry[Any] = (
            Registry().with_resource(name, resource).crawl()
        )  # a registry without `retrieve` fetches nothing
        root = _Place(members, specification, registry.resolver(name))
        is_deprecating = _survey(root)
        validator = dialect(members, registry=registry, format_checker=dialect.FORMAT_CHECKER)
        return cls(members, validator, Rules.of([root]), is_deprecating)

    def add_findings(self, document: Document) -> Report:
        """The document's report with the schema's findings added; errors of both refuse the text.

        At most `MAX_FINDINGS` of each kind. The document is not changed. Nothing is added to the report of a document
        that is already refused.

        Raises:
            SchemaUnusable: the schema cannot be applied to this document.
        """
        if not document.report.is_valid:
            return document.report
        findings = Findings(document.text)
        findings.warnings.extend(document.report.warnings)
        with _blaming_the_schema("it fails on this config"):
            values = json_of(document)
            said = (complaints(error, values, self._is_hidden) for error in self._validator.iter_errors(values))
            for complaint in islice(chain.from_iterable(said), MAX_FINDINGS):
                _add(findings, document, complaint)
            if self._is_deprecating and document.root is not None:
                _warn_of_deprecated(findings, document, document.root, self.rules, ())
        return findings.report()

    def _is_hidden(self, path: Path) -> bool:
        rules = self.rules
        for part in path:
            rules = rules.of_item(part) if isinstance(part, int) else rules.of_key(part)
            if rules.is_secret:
                return True
        return False


@contextlib.contextmanager
def _blaming_the_schema(sentence: str) -> Iterator[None]:
    """Turn every exception into `SchemaUnusable`: on hostile schemas the libraries may raise any."""
    try:
        yield
    except SchemaUnusable:
        raise
    except RecursionError:
        raise SchemaUnusable("it is nested too deep") from None
    except Exception as error:
        raise SchemaUnusable(_cut(f"{sentence} ({type(error).__name__}: {error})")) from error
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        # Compiled code panicked at a RecursionError. The exception's class cannot be imported.
        raise SchemaUnusable("it is nested too deep") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a schema says about one place in a config: the parts of it that apply there in any case.

    It follows references and `allOf`, and `anyOf` and `oneOf` if only one of their branches is not null.

    Attributes:
        is_nullable: whether another branch was null.
    """

    is_nullable: bool
    _parts: tuple["_Place", ...]

    @classmethod
    def of(cls, places: "Iterable[_Place]") -> Self:
        """The rules of a place to which these parts of a schema apply."""
        parts: dict[int, _Place] = {}
        is_nullable = False
        for place in places:
            is_nullable |= _gather(place, parts)
        return cls(is_nullable=is_nullable, _parts=tuple(parts.values()))

    @property
    def is_empty(self) -> bool:
        """Whether the schema says nothing about the place."""
        return not self._parts

    @property
    def is_secret(self) -> bool:
        """Whether pages should not show the value."""
        return any(is_secret(part.members) for part in self._parts)

    @property
    def is_deprecated(self) -> bool:
        """Whether the schema marks it as deprecated."""
        return any(part.members.get("deprecated") is True for part in self._parts)

    @property
    def required(self) -> set[str]:
        """Keys that a mapping must have."""
        found: set[str] = set()
        for part in self._parts:
            found.update(name for name in part.list("required") if isinstance(name, str))
        return found

    @property
    def keys(self) -> list[str]:
        """Keys that a mapping may have, in the order of the schema; without those that it must not have."""
        names: dict[str, None] = {}
        for part in self._parts:
            names.update((name, None) for name, its in part.mapping("properties").items() if its != {"not": {}})
        return list(names)

    def of_key(self, name: str) -> "Rules":
        """The rules of the value of a key."""
        return Rules.of(inner for part in self._parts for inner in part.of_key(name))

    def of_item(self, index: int) -> "Rules":
        """The rules of an entry of a list."""
        return Rules.of(inner for part in self._parts for inner in part.of_item(index))

    def as_json(self, *, is_required: bool) -> dict[str, Any] | None:
        """What a form can use of the rules; None if there is nothing. The first part with a keyword counts."""
        shown: dict[str, Any] = {}
        for part in self._parts:
            for word in _SHOWN:
                if word in part.members:
                    shown.setdefault(word, part.members[word])
            choices = [part.members] if "const" in part.members else part.list("oneOf")
            if choices and all(isinstance(each, dict) and "const" in each for each in choices):
                shown.setdefault("enum", [each["const"] for each in choices])
        types = next((part.members["type"] for part in self._parts if "type" in part.members), None)
        if types is not None:
            types = [types] if isinstance(types, str) else list(types)
            types += ["null"] if self.is_nullable and "null" not in types else []
            shown["type"] = types[0] if len(types) == 1 else types
        if is_required:
            shown["is_required"] = True
        return shown or None


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of a schema, with the base of its references."""

    contents: Any
    specification: "Specification[Any]"
    resolver: "Resolver[Any]"

    @property
    def members(self) -> dict[str, Any]:
        """Its keywords; none for True and False."""
        return self.contents if isinstance(self.contents, dict) else {}

    # References may lead to parts that the draft does not check: there every value may have any type.

    def mapping(self, word: str) -> dict[str, Any]:
        value = self.members.get(word)
        return value if isinstance(value, dict) else {}

    def list(self, word: str) -> "list[Any]":
        value = self.members.get(word)
        return value if isinstance(value, list) else []

    def inside(self, contents: Any) -> "_Place":
        """A part of this part.

        Raises:
            SchemaUnusable: its `$id` is not a URI.
        """
        if not isinstance(contents, dict):
            return _Place(True, self.specification, self.resolver)
        try:
            resolver = self.resolver.in_subresource(self.specification.create_resource(contents))
        except Exception:
            raise SchemaUnusable("one of its $id is not a URI") from None
        return _Place(contents, self.specification, resolver)

    def parts(self) -> "Iterator[_Place]":
        """The schemas directly inside it."""
        for resource in self.specification.create_resource(self.contents).subresources():
            yield self.inside(resource.contents)

    def references(self) -> "Iterator[_Place]":
        """Where its references lead.

        Raises:
            SchemaUnusable: outside of the schema, or nowhere.
        """
        for word in _REFERENCES:
            reference = self.members.get(word)
            if isinstance(reference, str):
                try:
                    resolved = self.resolver.lookup(reference)
                except Exception:  # the library raises its own errors, and ValueError
                    raise SchemaUnusable(
                        _cut(f"its {word} '{reference}' leads to nothing inside the schema; nothing is fetched")
                    ) from None
                yield _Place(resolved.contents, self.specification, resolved.resolver)

    def at_once(self) -> "Iterator[_Place]":
        """The schemas that apply to the same value as this one."""
        yield from self.references()
        for word in ("allOf", "anyOf", "oneOf"):
            yield from (self.inside(each) for each in self.list(word))
        for word in ("not", "if", "then", "else"):
            yield self.inside(self.members.get(word))
        for word in ("dependentSchemas", "dependencies"):
            yield from (self.inside(each) for each in self.mapping(word).values())

    def of_key(self, name: str) -> "Iterator[_Place]":
        is_named = name in self.mapping("properties")
        if is_named:
            yield self.inside(self.mapping("properties")[name])
        for pattern, contents in self.mapping("patternProperties").items():
            if _matches(pattern, name):
                is_named = True
                yield self.inside(contents)
        if not is_named:
            for word in ("additionalProperties", "unevaluatedProperties"):
                yield self.inside(self.members.get(word))

    def of_item(self, index: int) -> "Iterator[_Place]":
        # Until draft 2019-09 a list in `items` meant `prefixItems`, and `additionalItems` meant `items`.
        first = self.list("prefixItems") or self.list("items")
        if index < len(first):
            yield self.inside(first[index])
        else:
            for word in ("items", "additionalItems", "unevaluatedItems"):
                yield self.inside(self.members.get(word))


def _gather(place: _Place, parts: dict[int, _Place]) -> bool:
    """Add a part and those that apply with it; returns whether null is also allowed."""
    if not place.members or id(place.contents) in parts:
        return False
    parts[id(place.contents)] = place
    is_nullable = False
    for other in (*place.references(), *(place.inside(each) for each in place.list("allOf"))):
        is_nullable |= _gather(other, parts)
    for word in ("anyOf", "oneOf"):
        branches = place.list(word)
        others = [each for each in branches if not (isinstance(each, dict) and each.get("type") == "null")]
        if len(others) == 1:
            is_nullable |= _gather(place.inside(others[0]), parts) or len(branches) > 1
    return is_nullable


def _survey(root: _Place) -> bool:
    """Visit all parts of a schema, references followed; returns whether anything in it is deprecated.

    It also replaces `false` as the schema of a key by `{"not": {}}`: for `false` the validator does not name the key.

    Raises:
        SchemaUnusable: a reference leads outside of the schema, or into an endless circle.
    """
    is_deprecating = False
    seen: dict[int, list[int]] = {}  # by part: the parts that apply to the same value
    waiting = [root]
    while waiting:
        place = waiting.pop()
        if place.members and id(place.contents) not in seen:
            seen[id(place.contents)] = [id(each.contents) for each in place.at_once() if each.members]
            is_deprecating |= place.members.get("deprecated") is True
            for word in ("properties", "patternProperties"):
                named = place.mapping(word)
                named.update({name: {"not": {}} for name, contents in named.items() if contents is False})
            waiting += [*place.references(), *place.parts()]
    try:
        TopologicalSorter(seen).prepare()
    except CycleError:
        raise SchemaUnusable("it refers to itself without end") from None
    return is_deprecating


def _add(findings: Findings, document: Document, complaint: Complaint) -> None:
    path = complaint.path
    if complaint.key is not None:
        index = find_key(document, path, complaint.key)
        path = (*path, complaint.key)
    elif complaint.is_of_whole and path and isinstance(path[-1], str):
        index = find_key(document, path[:-1], path[-1])
    else:
        index, _ = find(document, path)
    findings.add_error(index, path, complaint.message)


def _warn_of_deprecated(findings: Findings, document: Document, node: Node, rules: Rules, path: Path) -> None:
    inner: Iterable[tuple[str | int, Node, Rules]] = ()
    if isinstance(node, MappingNode):
        inner = ((key.value, value, rules.of_key(key.value)) for key, value in node.value)
    elif isinstance(node, SequenceNode):
        inner = ((index, item, rules.of_item(index)) for index, item in enumerate(node.value))
    for part, value, its_rules in inner:
        if its_rules.is_deprecated:
            place = (*path, part)
            index = find_key(document, path, part) if isinstance(part, str) else find(document, place)[0]
            findings.add_warning(index, place, f"{name_of(place)} is deprecated: it may stop working one day")
        if not its_rules.is_empty:
            _warn_of_deprecated(findings, document, value, its_rules, (*path, part))


def _members(text: bytes) -> dict[str, Any] | bool:
    if len(text) > MAX_BYTES:
        raise SchemaUnusable(f"it has more than {MAX_BYTES:,} bytes")
    try:
        members = json.loads(text.decode("utf-8-sig"), parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError:
        raise SchemaUnusable("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise SchemaUnusable(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise SchemaUnusable("it is nested too deep") from None
    except ValueError as error:
        raise SchemaUnusable(_cut(str(error))) from None
    if not isinstance(members, dict | bool):
        raise SchemaUnusable("it is not a JSON object")
    if isinstance(members, dict) and not isinstance(members.get("$schema", ""), str):
        raise SchemaUnusable("its $schema is not text")
    return members


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not a JSON number, or too large")
    return value


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except (re.error, OverflowError, RecursionError):
        return False  # the validator reports it when it uses the pattern


def _cut(text: str) -> str:
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())  # JSON can escape lone surrogates
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"
