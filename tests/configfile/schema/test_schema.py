"""What a JSON Schema finds wrong with a config, where, and which schemas are refused."""

import contextlib
import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dropmill.configfile.schema.schema import Rules, Schema, SchemaUnusable
from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.findings import MAX_BYTES, MAX_FINDINGS, MAX_MESSAGE
from dropmill.configfile.yaml.form import fields_of

DRAFTS = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here fails if anything tries to fetch."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a schema reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def schema_of(members: Any) -> Schema:
    return Schema.parse(json.dumps(members).encode())


def errors_of(members: Any, text: str | bytes) -> list[tuple[int, int, str, str]]:
    raw = text.encode() if isinstance(text, str) else text
    report = schema_of(members).add_findings(examine(raw))
    return [(error.line, error.column, error.path, error.message) for error in report.errors]


def places_of(members: Any, text: str) -> list[tuple[int, int, str]]:
    return [error[:3] for error in errors_of(members, text)]


# --- where it stands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: x\n", (1, 4, "/a")),
        ("# c\n\n  \na:   'x' # c\n", (4, 6, "/a")),
        ("a: # c\n  x\n", (2, 3, "/a")),
        ("a: # c\n# d\nb: 1\n", (1, 1, "/a")),  # nothing is written: its key
        ("a:\n  - 1\n", (1, 1, "/a")),  # the whole list
        ("{a: x}", (1, 5, "/a")),
        ("\ufeffa: x", (1, 4, "/a")),
        ("b: 1\r\na: x\r\n", (2, 4, "/a")),
        ("b: 1\ra: x\r", (2, 4, "/a")),
        ("{'😀é': 1, a: x}", (1, 15, "/a")),  # UTF-16: the emoji counts two
        ("b: &b x\na: *b\n", (2, 1, "/a")),  # where the alias stands, not its anchor
        ("b: &b {a: x}\n<<: *b\n", (1, 1, "/a")),  # merged: the mapping that it was merged into
        ("a: !!str 1", (1, 4, "/a")),
    ],
)
def test_a_wrong_value_is_found_where_it_stands(text: str, place: tuple[int, int, str]) -> None:
    assert places_of({"properties": {"a": {"type": "integer"}}}, text) == [place]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a:\n  b:\n    - x: 1\n    - y: 1\n", (4, 7, "/a/b/1")),
        ("a:\n  b: &b\n    - &x {y: 1}\n    - *x\n", (3, 7, "/a/b/0")),
        ("a: {b: [{x: 1}, {}]}\n", (1, 17, "/a/b/1")),
    ],
)
def test_what_a_list_entry_lacks_is_found_at_the_entry(text: str, place: tuple[int, int, str]) -> None:
    entries = {"items": {"required": ["x"]}}
    assert place in places_of({"properties": {"a": {"properties": {"b": entries}}}}, text)


def test_a_missing_key_is_found_at_the_key_of_the_mapping_that_lacks_it() -> None:
    members = {"required": ["z"], "properties": {"a": {"properties": {"b": {"required": ["c"]}}}}}
    assert errors_of(members, "# first\nk: 1\na:\n  b: # here\n    d: 1\n") == [
        (2, 1, "", "z is missing"),
        (4, 3, "/a/b", "a.b.c is missing"),
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_what_an_empty_config_lacks_is_found_at_its_start(text: str) -> None:
    assert errors_of({"required": ["a"]}, text) == [(1, 1, "", "a is missing")]


def test_what_a_merge_brings_is_not_missing() -> None:
    members = {"properties": {"b": {"required": ["x", "y"]}}}
    assert errors_of(members, "a: &a {x: 1}\nb: {<<: *a, y: 2}\n") == []
    assert errors_of(members, "a: &a {x: 1}\nc: &c {y: 1}\nb: {<<: [*a, *c]}\n") == []


def test_the_nearest_value_of_a_merged_key_counts() -> None:
    members = {"properties": {"b": {"properties": {"x": {"const": 2}}}}}
    assert errors_of(members, "a: &a {x: 1}\nb: {x: 2, <<: *a}\n") == []
    assert errors_of(members, "a: &a {x: 2}\nc: &c {x: 1}\nb: {<<: [*a, *c]}\n") == []


def test_an_unknown_key_is_found_at_the_key() -> None:
    members = {
        "additionalProperties": False,
        "patternProperties": {"^x-": {}},
        "properties": {"quality": {"additionalProperties": False, "properties": {"png": {}}}},
    }
    assert errors_of(members, "x-a: 1\nquality:\n  pgn: 1\n  'a b': 1\nZ: {y: 1}\n") == [
        (3, 3, "/quality/pgn", "quality.pgn is not a known setting; did you mean 'png'?"),
        (4, 3, "/quality/a b", "quality.'a b' is not a known setting"),
        (5, 1, "/Z", "Z is not a known setting"),
    ]


def test_keys_that_no_part_of_the_schema_looked_at_are_found() -> None:
    members = {"allOf": [{"properties": {"a": {}}}], "if": {"required": ["b"]}, "unevaluatedProperties": False}
    members["then"] = {"properties": {"b": {}}}
    assert errors_of(members, "a: 1\nb: 1\nc: 1\n") == [(3, 1, "/c", "c is not a known setting")]


def test_a_key_that_must_not_be_there_is_found() -> None:
    members = {"properties": {"a": False}, "patternProperties": {"^x": False}}
    assert errors_of(members, "b: 1\na: 1\nx1: 2\n") == [
        (2, 4, "/a", "a is not allowed here"),
        (3, 5, "/x1", "x1 is not allowed here"),
    ]


def test_a_name_of_another_form_is_found_at_the_key() -> None:
    message = "The name of a.B1 must match the pattern ^[a-z]+$, not 'B1'"
    members = {"properties": {"a": {"propertyNames": {"pattern": "^[a-z]+$"}}}}
    assert errors_of(members, "a:\n  b: 1\n  B1: 2\n") == [(3, 3, "/a/B1", message)]


def test_findings_stand_in_the_order_of_the_text_and_are_bounded() -> None:
    text = "".join(f"k{i}: x\n" for i in range(MAX_FINDINGS + 50))
    found = errors_of({"additionalProperties": {"type": "integer"}}, text)
    assert len(found) == MAX_FINDINGS
    assert found == sorted(found, key=lambda each: each[0])
    assert len(errors_of({"additionalProperties": False}, text)) == MAX_FINDINGS


# --- which values ----------------------------------------------------------------------------------------------------


def test_values_are_seen_as_json_sees_them() -> None:
    members = {
        "properties": {
            "day": {"type": "string", "format": "date"},
            "moment": {"const": "2026-01-02 03:04:05"},
            "hex": {"const": 31},
            "octal": {"const": 8},
            "nothing": {"type": "null"},
            "whole": {"type": "integer"},
            "endless": {"type": "number", "exclusiveMinimum": 10**300},
            "quoted": {"type": "string"},
            "block": {"const": "x\n"},
            "2026-01-01": {"const": "a date as key"},
            "2": {"const": "a number as key"},
            "True": {"const": "a boolean as key"},
        },
        "additionalProperties": False,
    }
    text = (
        "day: 2026-01-02\nmoment: 2026-01-02 03:04:05\nhex: 0x1f\noctal: 0o10\nnothing: ~\nwhole: 1.0\n"
        "endless: .inf\nquoted: '1'\nblock: |\n  x\n2026-01-01: a date as key\n2: a number as key\n"
        "True: a boolean as key\n"
    )
    assert errors_of(members, text) == []
    assert len(errors_of(members | {"properties": {}}, text)) == 12


def test_true_is_no_number_and_one_is_not_true() -> None:
    assert [each[2] for each in errors_of({"additionalProperties": {"const": 1}}, "a: true\nb: 1\nc: 1.0\n")] == ["/a"]


def test_a_refused_document_is_left_alone() -> None:
    document = examine(b"a: [\n")
    assert schema_of({"required": ["b"]}).add_findings(document) == document.report


def test_warnings_stay_and_the_document_is_not_changed() -> None:
    document = examine(b"a: no\n")
    schema = schema_of({"properties": {"a": {"type": "boolean"}}})
    first, second = schema.add_findings(document), schema.add_findings(document)
    assert first == second
    assert len(first.errors) == len(first.warnings) == len(document.report.warnings) == 1
    assert document.report.is_valid


def test_deprecated_keys_get_a_warning_at_the_key() -> None:
    old = {"deprecated": True, "type": "string"}
    members = {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"items": {"properties": {"old": old}}}}}
    report = schema_of(members).add_findings(examine(b"a:\n  - new: 1\n  - old: x\nold: 1\n"))
    assert report.is_valid
    (warning,) = report.warnings
    assert (warning.line, warning.column, warning.path) == (3, 5, "/a/1/old")
    assert "a[1].old is deprecated" in warning.message


@pytest.mark.parametrize("draft", DRAFTS)
def test_every_draft_from_4_on_is_read(draft: str) -> None:
    definitions = {"q": {"type": "integer", "minimum": 0, "maximum": 9}}
    members = {
        "$schema": draft,
        "definitions": definitions,
        "properties": {"a": {"$ref": "#/definitions/q"}, "l": {"items": {"$ref": "#/definitions/q"}}},
        "required": ["z"],
    }
    assert errors_of(members, "a: 12\nl: [1, x]\n") == [
        (1, 1, "", "z is missing"),
        (1, 4, "/a", "a must be a whole number from 0 to 9, not 12"),
        (2, 8, "/l/1", "l[1] must be a whole number from 0 to 9, not the text 'x'"),
    ]


def test_a_config_as_deep_as_any_is_checked_by_a_schema_that_repeats_itself() -> None:
    node = {"properties": {"a": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "integer"}]}, "b": {"type": "string"}}}
    text = "".join("  " * level + "a:\n" for level in range(95)) + "  " * 95 + "b: 1\n"
    (error,) = errors_of({"$ref": "#/$defs/node", "$defs": {"node": node}}, text)
    assert error[:2] == (96, 194)


# --- schemas that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "line 1, column 1"),
        (b'{"a": 1,\n  "b" 2}', "line 2, column 7"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"minimum": NaN}', "NaN"),
        (b'{"default": -Infinity}', "-Infinity"),
        (b'{"default": 1e999}', "1e999"),
        (b'{"$ref": "#/\\ud800"}', "\\ud800"),
        (b'{"minimum": ' + b"9" * 5000 + b"}", "digits"),
        (b" " * (MAX_BYTES + 1), "1,048,576 bytes"),
        (b"[" * 100_000, "too deep"),
        (b'{"items":' * 5000 + b"{}" + b"}" * 5000, "too deep"),
        (b'{"type": "strin"}', "at /type"),
        (b'{"properties": {"a": {"minimum": "1"}}}', "at /properties/a/minimum"),
        (b'{"properties": 1}', "at /properties"),
        (b'{"pattern": "("}', "at /pattern"),
        (b'{"$schema": 1}', "$schema"),
        (b'{"$schema": "http://json-schema.org/draft-03/schema#"}', "draft 3"),
        (b'{"$ref": "https://example.com/schema.json"}', "nothing is fetched"),
        (b'{"properties": {"a": {"$ref": "other.json#/a"}}}', "other.json"),
        (b'{"$ref": "file:///etc/passwd"}', "nothing is fetched"),
        (b'{"$ref": "#/$defs/none"}', "#/$defs/none"),
        (b'{"$ref": "#nowhere"}', "#nowhere"),
        (b'{"$ref": "http://["}', "nothing is fetched"),
        (b'{"items": [{"$ref": "#/a/b"}], "a": []}', "at /items"),
        (b'{"$ref": "#/a/b", "a": []}', "#/a/b"),
        (b'{"$dynamicRef": "https://example.com/x#y"}', "$dynamicRef"),
        (b'{"$ref": "#/x", "x": {"$ref": "https://example.com/"}}', "example.com"),
        (b'{"$ref": "https://json-schema.org/draft/2020-12/schema"}', "nothing is fetched"),
        (b'{"$ref": "#"}', "without end"),
        (b'{"properties": {"a": {"$ref": "#/properties/a"}}}', "without end"),
        (b'{"$ref": "#/x", "x": {"not": {"$id": 1}}}', "$id"),
        (b'{"$id": "http://["}', "cannot be read"),
        (b'{"items": {"anyOf": [{"type": "string"}, {"$ref": "#/items"}]}}', "without end"),
        (b'{"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}}', "without end"),
    ],
)
def test_an_unusable_schema_is_refused_with_a_reason(text: bytes, reason: str) -> None:
    with pytest.raises(SchemaUnusable) as caught:
        Schema.parse(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) <= 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"$ref": "#/x", "x": {"enum": 5}}, "a: 1"),
        ({"properties": {"a": {"multipleOf": 0.1}}}, "a: .nan"),
        ({"$ref": "#/x", "x": {"required": 5}}, "a: 1"),
        ({"$ref": "#/x", "x": {"type": 5}}, "a: 1"),
        ({"$schema": DRAFTS[0], "patternProperties": {"(": {}}}, "a: 1"),
    ],
)
def test_a_schema_that_fails_on_a_config_is_refused(members: Any, text: str) -> None:
    with pytest.raises(SchemaUnusable):
        errors_of(members, text)


def test_references_within_the_schema_are_followed_by_any_of_their_names() -> None:
    members = {
        "$id": "https://example.com/root.json",
        "properties": {
            "a": {"$ref": "#/$defs/one"},
            "b": {"$ref": "#two"},
            "c": {"$ref": "three.json"},
            "d": {"$ref": "https://example.com/root.json#/$defs/one"},
            "e": {"$dynamicRef": "#two"},
            "f": {"$ref": "#/x-own/deep"},
        },
        "$defs": {
            "one": {"type": "integer"},
            "two": {"$dynamicAnchor": "two", "type": "integer"},
            "three": {"$id": "three.json", "type": "integer"},
        },
        "x-own": {"deep": {"type": "integer"}},
    }
    text = "".join(f"{key}: x\n" for key in "abcdef")
    assert [error[2] for error in errors_of(members, text)] == ["/a", "/b", "/c", "/d", "/e", "/f"]


@pytest.mark.parametrize(("members", "count"), [(True, 0), (False, 1), ({}, 0)])
def test_true_and_false_are_schemas(members: Any, count: int) -> None:
    assert len(errors_of(members, "a: 1")) == count


def test_a_byte_order_mark_and_an_unknown_dialect_are_no_obstacle() -> None:
    text = b'\xef\xbb\xbf{"$schema": "https://example.com/own", "required": ["a"]}'
    assert not Schema.parse(text).add_findings(examine(b"")).is_valid


# --- what it says about a place --------------------------------------------------------------------------------------


def at(members: Any, *path: str | int) -> Rules:
    rules = schema_of(members).rules
    for part in path:
        rules = rules.of_item(part) if isinstance(part, int) else rules.of_key(part)
    return rules


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"properties": {"a": {"title": "T"}}}, ("a",)),
        ({"patternProperties": {"^a": {"title": "T"}}}, ("ab",)),
        ({"properties": {"b": {}}, "additionalProperties": {"title": "T"}}, ("a",)),
        (
            {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"title": "T"}}},
            ("a",),
        ),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"a": {"title": "T"}}}]}, ("a",)),
        ({"properties": {"a": {"allOf": [{"minimum": 1}, {"title": "T"}]}}}, ("a",)),
        ({"properties": {"a": {"anyOf": [{"title": "T"}, {"type": "null"}]}}}, ("a",)),
        ({"properties": {"a": {"oneOf": [{"type": "null"}, {"items": {"title": "T"}}]}}}, ("a", 3)),
        ({"properties": {"a": {"prefixItems": [{}, {"title": "T"}], "items": {}}}}, ("a", 1)),
        ({"properties": {"a": {"prefixItems": [{}], "items": {"title": "T"}}}}, ("a", 1)),
        ({"$schema": DRAFTS[2], "properties": {"a": {"items": [{}], "additionalItems": {"title": "T"}}}}, ("a", 1)),
        ({"properties": {"a": {"title": "T", "$ref": "#/$defs/x"}}, "$defs": {"x": {"title": "further away"}}}, ("a",)),
    ],
)
def test_what_is_said_of_a_place_is_found(members: Any, path: tuple[str | int, ...]) -> None:
    shown = at(members, *path).as_json(is_required=False)
    assert shown is not None
    assert shown["title"] == "T"


@pytest.mark.parametrize(
    "members",
    [
        {"properties": {"a": {"anyOf": [{"title": "T"}, {"title": "U"}]}}},
        {"properties": {"b": {"title": "T"}}},
        {"properties": {"a": True}, "additionalProperties": {"title": "T"}},
        True,
    ],
)
def test_what_does_not_hold_for_certain_is_not_said(members: Any) -> None:
    assert at(members, "a").as_json(is_required=False) is None


def test_what_is_shown_of_a_place_are_the_words_that_a_form_knows() -> None:
    words = {
        "title": "T",
        "description": "D",
        "type": "integer",
        "minimum": 0,
        "exclusiveMaximum": 10,
        "multipleOf": 2,
        "default": 4,
        "examples": [2, 4],
    }
    members = {"required": ["a"], "properties": {"a": words | {"$comment": "not shown", "readOnly": True}}}
    assert at(members, "a").as_json(is_required=True) == words | {"is_required": True}
    assert schema_of(members).rules.required == {"a"}


def test_null_beside_another_form_is_one_of_the_types() -> None:
    members = {"properties": {"a": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}}}
    assert at(members, "a").as_json(is_required=False) == {"type": ["integer", "null"], "minimum": 1}


def test_constants_are_shown_as_choices() -> None:
    choices = [{"const": "fast", "title": "Fast"}, {"const": "small"}]
    assert at({"properties": {"a": {"oneOf": choices}}}, "a").as_json(is_required=False) == {"enum": ["fast", "small"]}
    assert at({"properties": {"a": {"const": 3}}}, "a").as_json(is_required=False) == {"enum": [3]}


def test_known_keys_are_those_that_may_be_there_in_the_schemas_order() -> None:
    members = {"properties": {"z": {}, "never": False, "a": True}, "allOf": [{"properties": {"m": {}, "a": {}}}]}
    assert schema_of(members).rules.keys == ["z", "a", "m"]


@pytest.mark.parametrize("mark", [{"writeOnly": True}, {"format": "password"}])
def test_secrets_are_known(mark: dict[str, Any]) -> None:
    assert at({"properties": {"a": {"allOf": [mark]}}}, "a").is_secret
    assert not at({"properties": {"a": {"allOf": [mark]}}}, "b").is_secret


# --- whatever it is --------------------------------------------------------------------------------------------------

# fmt: off
_WORDS = [
    "$ref", "$dynamicRef", "$id", "$anchor", "$schema", "$defs", "properties", "patternProperties",
    "additionalProperties", "propertyNames", "items", "prefixItems", "unevaluatedProperties", "contains", "type",
    "enum", "const", "format", "pattern", "minimum", "exclusiveMaximum", "multipleOf", "minLength",
    "uniqueItems", "required", "dependentRequired", "allOf", "anyOf", "oneOf", "not", "if", "then", "deprecated",
    "a", "b",
]
# fmt: on
_values = st.sampled_from([0, 2.5, True, False, None, "a", "object", "#", "#/$defs/a", "#/properties/a", "(", *DRAFTS])
_schemas: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.builds(dict),
    lambda inner: st.dictionaries(
        st.sampled_from(_WORDS),
        inner | _values | st.lists(inner | _values, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
        max_size=5,
    ),
    max_leaves=20,
)
_TEXTS = (b"", b"a: &a {a: 1, b: [1, x]}\nb: [*a, .nan, 2026-01-01]\n", b"a: x\nb: {<<: {a: .inf}, b: ~}\n1: 2\n")
_DOCUMENTS = [examine(text) for text in _TEXTS]


@given(members=_schemas)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_schema_is_used_or_refused(members: Any) -> None:
    with contextlib.suppress(SchemaUnusable):
        schema = schema_of(members)
        for document in _DOCUMENTS:
            for error in schema.add_findings(document).errors:
                assert error.line >= 1
                assert len(error.message) <= MAX_MESSAGE
            json.dumps([field.as_json() for field in fields_of(document, schema)[0]], allow_nan=False)
