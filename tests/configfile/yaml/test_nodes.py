"""A document's node graph, seen as JSON."""

import math
from typing import Any

import pytest
from ruamel.yaml.nodes import ScalarNode

from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.nodes import Path, find, find_key, json_of, kind_of, value_of


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("x", "text", "x"),
        ("'1'", "text", "1"),
        ("!!str 1", "text", "1"),
        ("no", "text", "no"),
        ("0x1f", "integer", 31),
        ("0o17", "integer", 15),
        ("010", "integer", 10),
        ("-1_000", "integer", -1000),
        ("1e3", "number", 1000.0),
        ("-.inf", "number", -math.inf),
        ("True", "boolean", True),
        ("!!bool 'false'", "boolean", False),
        ("~", "null", None),
        ("", "null", None),
        ("2026-01-02", "date", "2026-01-02"),
        ("2026-01-02T03:04:05.60Z", "date", "2026-01-02T03:04:05.60Z"),
    ],
)
def test_scalars_have_the_kinds_and_values_that_scripts_get(text: str, kind: str, value: Any) -> None:
    document = examine(f"a: {text}\n".encode())
    assert document.root is not None
    ((_, node),) = document.root.value
    assert isinstance(node, ScalarNode)
    assert kind_of(node) == kind
    assert (value_of(node), type(value_of(node))) == (value, type(value))
    if kind != "date":
        assert document.values == {"a": value}


def test_values_are_those_of_the_document_with_keys_and_dates_as_text() -> None:
    text = b"1: {2026-01-01: 2026-01-02}\nl: &l [a, {b: ~}]\nm: *l\nn: {<<: {a: 1, b: 2}, b: 3}\n"
    assert json_of(examine(text)) == {
        "1": {"2026-01-01": "2026-01-02"},
        "l": ["a", {"b": None}],
        "m": ["a", {"b": None}],
        "n": {"a": 1, "b": 3},
    }
    assert json_of(examine(b"# nothing\n")) == {}


def test_aliases_are_not_copied() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 14))
    values = json_of(examine(text.encode()))
    assert values["a13"][0] is values["a13"][1] is values["a12"]


@pytest.mark.parametrize(
    ("path", "at"),
    [
        ((), "a: 1 #"),
        (("a",), "1 #"),
        (("b", 0), "x\n"),
        (("b", 1, "c"), "2\n"),
        (("empty",), "empty:"),
        (("alias",), "alias:"),
        (("alias", 1, "c"), "alias:"),
        (("list", 1), "- &y"),  # an alias in a list stands where the list does
        (("list", 1, 0), "- &y"),
        (("merging", "k"), "<<"),
        (("merging", "own"), "'o'"),
        (("none",), "a: 1 #"),
        (("b", 7), "&b"),
    ],
)
def test_places_are_found_where_people_look_for_them(path: Path, at: str) -> None:
    text = (
        "a: 1 # c\nb: &b\n  - x\n  - c: 2\nempty: # c\nalias: *b\nlist:\n  - &y [z]\n  - *y\n"
        "base: &base {k: v}\nmerging:\n  <<: *base\n  own: 'o'\n"
    )
    index, _ = find(examine(text.encode()), path)
    assert text[index:].startswith(at)


def test_keys_are_found_where_they_stand_or_where_they_are_brought() -> None:
    text = "base: &base {k: v}\nalias: *base\nmerging:\n  <<: *base\n  own: 1\n"
    document = examine(text.encode())
    assert find_key(document, (), "merging") == text.index("merging")
    assert find_key(document, ("base",), "k") == text.index("k: v")
    assert find_key(document, ("alias",), "k") == text.index("alias")
    assert find_key(document, ("merging",), "own") == text.index("own")
    assert find_key(document, ("merging",), "k") == text.index("<<")
    assert find_key(document, ("merging",), "none") == text.index("<<")
