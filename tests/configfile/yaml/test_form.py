"""A document as fields of a form."""

import json
from typing import Any

import pytest

from dropmill.configfile.schema.schema import Schema
from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.form import MAX_FIELDS, MAX_FORM, Field, fields_of


def form_of(text: str | bytes, members: Any = None) -> dict[str, Field]:
    """The fields by path; their order is that of the text."""
    raw = text.encode() if isinstance(text, str) else text
    schema = None if members is None else Schema.parse(json.dumps(members).encode())
    fields, is_cut = fields_of(examine(raw), schema)
    assert not is_cut
    return {field.path: field for field in fields}


# --- values ----------------------------------------------------------------------------------------------------------


def test_fields_stand_in_the_order_of_the_text_with_their_depth() -> None:
    form = form_of("b:\n  - x\n  - c/d: 1\n    e~f: 2\na: {g: 3}\n")
    assert [(field.path, field.key, field.depth, field.kind) for field in form.values()] == [
        ("", "", -1, "mapping"),
        ("/b", "b", 0, "list"),
        ("/b/0", "0", 1, "text"),
        ("/b/1", "1", 1, "mapping"),
        ("/b/1/c~1d", "c/d", 2, "integer"),
        ("/b/1/e~0f", "e~f", 2, "integer"),
        ("/a", "a", 0, "mapping"),
        ("/a/g", "g", 1, "integer"),
    ]


@pytest.mark.parametrize(
    ("text", "kind", "value", "source"),
    [
        ("x y", "text", "x y", None),
        ("'1'", "text", "1", None),
        ("1", "integer", 1, "1"),
        ("0x1f", "integer", 31, "0x1f"),
        ("12345678901234567890", "integer", 12345678901234567890, "12345678901234567890"),
        ("1.10", "number", 1.1, "1.10"),
        (".inf", "number", None, ".inf"),
        (".nan", "number", None, ".nan"),
        ("True", "boolean", True, "True"),
        ("~", "null", None, "~"),
        ("", "null", None, ""),
        ("2026-01-02", "date", "2026-01-02", "2026-01-02"),
        ("!!int '3'", "integer", 3, None),
    ],
)
def test_values_are_json_and_numbers_also_as_they_are_written(text: str, kind: str, value: Any, source: str) -> None:
    field = form_of(f"a: {text}")["/a"]
    assert (field.kind, field.value, field.source) == (kind, value, source)
    assert json.loads(json.dumps(field.as_json(), allow_nan=False))["value"] == value


def test_text_of_several_lines_is_marked() -> None:
    form = form_of("a: |\n  x\nb: >-\n  x\n  y\nc: \"x\\ny\"\nd: 'x\n  y'\n")
    assert [key for key, field in form.items() if field.is_multiline] == ["/a", "/c"]


def test_a_field_is_shown_as_json_with_these_members() -> None:
    schema = {"properties": {"a": {"type": "integer", "title": "A"}}, "required": ["a"]}
    assert form_of("# help\na: 3 # more\n", schema)["/a"].as_json() == {
        "path": "/a",
        "key": "a",
        "kind": "integer",
        "value": 3,
        "tag": None,
        "source": "3",
        "is_multiline": False,
        "is_secret": False,
        "help": "help\n\nmore",
        "line": 2,
        "column": 1,
        "depth": 0,
        "refusal": None,
        "can_add": False,
        "can_remove": False,
        "schema": {"title": "A", "type": "integer", "is_required": True},
        "missing": (),
    }


@pytest.mark.parametrize("text", [b"a: [", b"\xff", b"a: !x 1", b"- a", b"a: 1\na: 2"])
def test_a_refused_text_has_no_fields(text: bytes) -> None:
    assert fields_of(examine(text), None) == ([], False)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff"])
def test_an_empty_config_is_one_field_that_can_be_added_to(text: str) -> None:
    form = form_of(text, {"properties": {"a": {"default": 1}}})
    assert list(form) == [""]
    assert form[""].can_add
    assert form[""].missing == ({"key": "a", "schema": {"default": 1}},)


# --- where, and what can be done -------------------------------------------------------------------------------------


def test_lines_and_columns_are_those_of_the_browser() -> None:
    form = form_of("\ufeffa: 1\r\n'😀': {é😀: [x, 😀, y]}\r\n")
    places = {path: (field.line, field.column) for path, field in form.items()}
    assert places == {
        "": (1, 1),
        "/a": (1, 1),
        "/😀": (2, 1),
        "/😀/é😀": (2, 8),
        "/😀/é😀/0": (2, 14),
        "/😀/é😀/1": (2, 17),
        "/😀/é😀/2": (2, 21),
    }


def test_what_edits_can_do_is_told() -> None:
    form = form_of(
        "a: 1\nflow: {x: 1, y: 2}\ntagged: !!str 1\nbase: &base {k: 1}\nalias: *base\nlist:\n  - 1\n  - 2\n"
        "only:\n  - 1\nblock: |2\n    x\n"
    )
    assert {path: field.refusal for path, field in form.items() if field.refusal not in (None, "not_a_value")} == {
        "/tagged": "tagged",
        "/base": "aliased",
        "/base/k": "aliased",
        "/alias": "aliased",
        "/block": "block_indicator",
    }
    assert {path for path, field in form.items() if field.can_add} == {"", "/list", "/only"}
    assert {path for path, field in form.items() if field.can_remove} >= {"/a", "/flow", "/list/0", "/list/1", "/only"}
    assert not {"", "/only/0", "/flow/x", "/base", "/base/k"} & {path for path in form if form[path].can_remove}


def test_what_an_alias_refers_to_is_shown_once() -> None:
    form = form_of("a: &a {x: 1}\nb: *a\nc:\n  - *a\nd: {<<: *a, y: 2}\n")
    assert list(form) == ["", "/a", "/a/x", "/b", "/c", "/c/0", "/d", "/d/y"]
    assert (form["/b"].line, form["/c/0"].line) == (2, 3)


def test_more_fields_than_a_page_can_show_are_cut() -> None:
    text = "".join(f"k{i}: {i}\n" for i in range(MAX_FIELDS + 10)).encode()
    fields, is_cut = fields_of(examine(text), None)
    assert is_cut
    assert len(fields) == MAX_FIELDS
    assert fields[-1].key == f"k{MAX_FIELDS - 2}"


def test_what_aliases_and_schemas_repeat_is_bounded() -> None:
    text = "a: &a " + "x" * 50_000 + "\n" + "".join(f"b{i}: *a\n" for i in range(100))
    fields, is_cut = fields_of(examine(text.encode()), None)
    assert is_cut
    assert len(json.dumps([field.as_json() for field in fields])) < MAX_FORM * 1.01
    schema = Schema.parse(json.dumps({"additionalProperties": {"description": "x" * 50_000}}).encode())
    fields, is_cut = fields_of(examine("".join(f"b{i}: 1\n" for i in range(100)).encode()), schema)
    assert is_cut
    assert 5 < len(fields) < 12


@pytest.mark.parametrize("text", ["", "b: 1\n"])
def test_a_schema_of_very_many_keys_leaves_room_for_the_fields(text: str) -> None:
    form = form_of(text, {"properties": {f"k{i}": {"title": "x" * 100} for i in range(2000)}})
    assert form[""].missing == ()
    assert list(form) == [""] + ["/b"] * bool(text)


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eol", ["\n", "\r\n", "\r"])
def test_comments_above_and_behind_a_key_are_its_help(eol: str) -> None:
    text = """\
# The header of the file.

# How many.
#   Indented.
#
# More.
a: 1 # behind
b: "x # y"   # quoted
c: [1, # in between
    2] # last
d: # of a mapping
  # first
  e: |  # of a block
    # no comment
    x
  f: # nothing
  g: x#y
# less indented
  h: 1
  # more
    # wrongly indented
  i: 1
"""
    form = form_of(text.replace("\n", eol))
    assert {path: field.help for path, field in form.items() if field.help is not None} == {
        "/a": "How many.\n  Indented.\n\nMore.\n\nbehind",
        "/b": "quoted",
        "/c": "last",
        "/c/0": "in between",
        "/d": "of a mapping",
        "/d/e": "first\n\nof a block",
        "/d/f": "nothing",
    }


def test_a_blank_line_ends_a_keys_help() -> None:
    assert form_of("# section\n\na: 1\n")["/a"].help is None
    assert form_of("# section\n\n# help\na: 1\n")["/a"].help == "help"


def test_entries_of_lists_have_help_too() -> None:
    form = form_of(
        "l:\n  # one\n  - a # first\n  # two\n  - k: 1\n    # of m\n    m: 2\n  -\n    # below the dash\n    n: 1\n"
    )
    assert form["/l/0"].help == "one\n\nfirst"
    assert form["/l/1"].help == "two"
    assert form["/l/1/k"].help is None
    assert form["/l/1/m"].help == "of m"
    assert form["/l/2/n"].help == "below the dash"


def test_rulers_and_headings_in_them_are_no_help() -> None:
    text = "# -------\n## == Quality ==\n# ---- Size ----\n#########\na: 1 # ***\n"
    assert form_of(text)["/a"].help == "== Quality =="


def test_what_only_looks_like_a_comment_is_no_help() -> None:
    form = form_of("a: 'x\n\n  # y'\nb: 1\nc:\n  d: \"x\n  # y\n  # z\"\n  e: 1\nf: |\n  x\n  # y\ng: 1\n")
    assert {path for path, field in form.items() if field.help is not None} == set()


# --- what the schema knows -------------------------------------------------------------------------------------------


def test_the_schema_tells_of_each_place() -> None:
    members = {
        "$defs": {"size": {"type": "integer", "description": "In pixels."}},
        "properties": {
            "list": {"items": {"properties": {"size": {"$ref": "#/$defs/size"}}, "required": ["size"]}},
            "password": {"writeOnly": True},
        },
    }
    form = form_of("list:\n  - size: 3\n    own: 1\nother: 1\npassword: x\n", members)
    assert form["/list/0/size"].schema == {"type": "integer", "description": "In pixels.", "is_required": True}
    assert form["/list/0/own"].schema is None
    assert form["/other"].schema is None
    assert [path for path, field in form.items() if field.is_secret] == ["/password"]


def test_keys_that_a_mapping_lacks_are_listed() -> None:
    members = {
        "properties": {
            "b": {"type": "integer"},
            "a": {"type": "string"},
            "old": {"deprecated": True},
            "never": False,
            "inner": {"properties": {"x": True, "merged": {}}},
        },
        "required": ["b"],
    }
    form = form_of("base: &base {merged: 1}\ninner: {<<: *base}\na: x\n", members)
    assert form[""].missing == ({"key": "b", "schema": {"type": "integer", "is_required": True}},)
    assert form["/inner"].missing == ({"key": "x", "schema": None},)
    assert form["/base"].missing == ()
