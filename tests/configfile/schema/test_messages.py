"""The sentences in which a schema's errors are told."""

import json
from typing import Any

import pytest

from dropmill.configfile.schema.schema import Schema
from dropmill.configfile.yaml.document import examine


def sentences_of(members: Any, text: str) -> list[str]:
    report = Schema.parse(json.dumps(members).encode()).add_findings(examine(text.encode()))
    return [error.message for error in report.errors]


@pytest.mark.parametrize(
    ("schema", "value", "sentence"),
    [
        ({"type": "integer"}, "x", "must be a whole number, not the text 'x'"),
        ({"type": "integer"}, "'9'", "must be a whole number, not the text '9'"),
        ({"type": "integer"}, "1.5", "must be a whole number, not 1.5"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "true", "must be a whole number from 0 to 9, not true"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "12", "must be a whole number from 0 to 9, not 12"),
        ({"type": "number", "minimum": 0}, "-1", "must be a number of at least 0, not -1"),
        ({"type": "number", "maximum": 0}, ".inf", "must be a number of at most 0, not .inf"),
        ({"exclusiveMinimum": 0}, "0", "must be a number above 0, not 0"),
        ({"exclusiveMaximum": 1.5}, "2", "must be a number below 1.5, not 2"),
        ({"exclusiveMinimum": 0, "maximum": 1}, "2", "must be a number above 0 and at most 1, not 2"),
        ({"type": "string"}, "3", "must be text, not 3"),
        ({"type": "boolean"}, "'yes'", "must be true or false, not the text 'yes'"),
        ({"type": "string"}, "", "must be text, not empty (null)"),
        ({"type": "array"}, "{a: 1}", "must be a list, not a mapping"),
        ({"type": "object"}, "[a]", "must be a mapping (key: value), not a list"),
        ({"type": ["string", "null"]}, "3", "must be text or empty (null), not 3"),
        ({"enum": ["webp", "png"]}, "gif", "must be one of: webp, png (it is 'gif')"),
        ({"enum": ["webp", "png"]}, "WebP", "must be one of: webp, png; did you mean 'webp'?"),
        ({"enum": [1, None, True, ""]}, "2", "must be one of: 1, empty (null), true, the empty text (it is 2)"),
        ({"enum": list(range(20))}, "x", "must be one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (it is 'x')"),
        ({"enum": ["only"]}, "x", "must be 'only' (it is 'x')"),
        ({"const": 3}, "4", "must be 3, not 4"),
        ({"multipleOf": 5}, "7", "must be a multiple of 5, not 7"),
        ({"minLength": 1}, "''", "must not be empty"),
        ({"minLength": 3}, "ab", "must have at least 3 characters"),
        ({"maxLength": 1}, "ab", "must have at most 1 character"),
        ({"pattern": "^[a-z]+$"}, "AB", "must match the pattern ^[a-z]+$, not 'AB'"),
        ({"format": "email"}, "nobody", "must be an e-mail address, not 'nobody'"),
        ({"format": "ipv4"}, "1.2.3", "must be an IPv4 address, not '1.2.3'"),
        ({"format": "date"}, "'2026-02-30'", "must be a date such as 2026-12-31, not '2026-02-30'"),
        ({"minItems": 1}, "[]", "must have at least 1 entry"),
        ({"maxItems": 2}, "[1, 2, 3]", "must have at most 2 entries"),
        ({"prefixItems": [{}], "items": False}, "[1, 2]", "has more entries than are allowed"),
        ({"uniqueItems": True}, "[1, 1]", "must not hold the same entry twice"),
        ({"contains": {"const": 1}}, "[2]", "has too few entries of the kind that it must hold"),
        ({"contains": {"const": 1}, "maxContains": 1}, "[1, 1]", "has too many entries of the kind that it must hold"),
        ({"minProperties": 2}, "{k: 1}", "must have at least 2 keys"),
        ({"maxProperties": 1}, "{k: 1, l: 2}", "must have at most 1 key"),
        ({"not": {"const": 3}}, "3", "must not be what it is here (it is 3)"),
        (False, "3", "is not allowed here"),
        ({"anyOf": [{"type": "integer"}, {"const": "auto"}]}, "x", "must be a whole number or 'auto' (it is 'x')"),
        (
            {"anyOf": [{"minimum": 1, "type": "integer"}, {"type": "null"}]},
            "0",
            "must be a whole number of at least 1, not 0",
        ),
        (
            {"oneOf": [{"type": "integer"}, {}]},
            "3",
            "fits more than one of the forms it may have; it must fit exactly one",
        ),
        ({"anyOf": [{"not": {}}, {"type": "string"}]}, "3", "has none of the forms it may have"),
        ({"if": {"minimum": 5}, "then": {"multipleOf": 5}}, "7", "must be a multiple of 5, not 7"),
        ({"type": "integer"}, "x" * 100, "must be a whole number, not the text '" + "x" * 39 + "…'"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(schema: Any, value: str, sentence: str) -> None:
    assert sentences_of({"properties": {"a": schema}}, f"a: {value}\n") == [f"a {sentence}"]


def test_draft_4_marks_its_bounds_as_exclusive() -> None:
    bounds = {"minimum": 0, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": True}
    members = {"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": bounds}}
    assert sentences_of(members, "a: 9") == ["a must be a number above 0 and below 9, not 9"]


def test_the_one_form_that_nearly_fits_is_spoken_of() -> None:
    mapping = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
    members = {"properties": {"a": {"anyOf": [mapping, {"type": "string"}]}}}
    assert sentences_of(members, "a: {size: x}") == ["a.size must be a whole number, not the text 'x'"]
    assert sentences_of(members, "a: {sise: 1}") == ["a.size is missing"]


def test_a_key_that_goes_with_another_is_missed() -> None:
    for word in ("dependentRequired", "dependencies"):
        members: Any = {"properties": {"a": {word: {"user": ["password"], "x": ["y"]}}}}
        if word == "dependencies":
            members["$schema"] = "http://json-schema.org/draft-07/schema#"
        assert sentences_of(members, "a: {user: me}") == ["a.password is missing: it goes with a.user"]


def test_each_of_several_missing_keys_is_told_once() -> None:
    assert sentences_of({"required": ["a", "b", "'a'"]}, "b: 1") == ["a is missing", "''a'' is missing"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a: {b-c: {d_1: x}}", "a.b-c.d_1"),
        ("a: [[1, x]]", "a[0][1]"),
        ("'a.b': {'': x}", "'a.b'.''"),
        ("größe: x", "größe"),
        ("k" * 300 + ": x", "…" + "k" * 100),
    ],
)
def test_places_are_named_as_people_write_them(text: str, name: str) -> None:
    schema: dict[str, Any] = {"if": {"type": "string"}, "then": False, "additionalProperties": {"$ref": "#"}}
    schema["items"] = {"$ref": "#"}
    schema["then"] = {"const": 1}
    assert sentences_of(schema, text) == [f"{name} must be 1, not 'x'"]


@pytest.mark.parametrize("mark", [{"writeOnly": True}, {"format": "password"}])
@pytest.mark.parametrize(
    "rule",
    [
        {"type": "integer"},
        {"enum": ["hunter3"]},
        {"const": 1},
        {"pattern": "^x"},
        {"format": "email"},
        {"not": {"const": "hunter2"}},
        {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
        {"$ref": "#/$defs/number"},
        {"allOf": [{"type": "integer"}]},
        {"items": {"type": "integer"}, "type": "array"},
    ],
)
def test_secrets_are_not_quoted(mark: dict[str, Any], rule: dict[str, Any]) -> None:
    members = {"properties": {"a": {"allOf": [mark, rule]}}, "$defs": {"number": {"type": "integer"}}}
    (sentence,) = sentences_of(members, "a: hunter2")
    assert "hunter2" not in sentence


def test_what_stands_in_a_secret_mapping_is_secret() -> None:
    inner = {"properties": {"password": {"type": "integer"}}}
    (sentence,) = sentences_of({"properties": {"a": {"writeOnly": True} | inner}}, "a: {password: hunter2}")
    assert sentence == "a.password must be a whole number"
