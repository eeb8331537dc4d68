"""Value edits: what a patch may say, what each edit does to the text, and what is refused."""

import json
import random
import re
from typing import Any

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from tests.configfile.yaml.edit_cases import MEMBERS, REASONS, VALUES, Case, Tally

from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.edits import MAX_OPERATIONS, Edited, Operation, apply, parse_patch
from dropmill.configfile.yaml.locate import Places
from dropmill.model.errors import BadRequest, ConfigEditRefused, ConfigInvalid

# --- patches ---------------------------------------------------------------------------------------------------------


def test_a_patch_becomes_operations_with_unescaped_paths() -> None:
    patch = [
        {"op": "test", "path": "", "value": {}},
        {"op": "replace", "path": "/a~1b/~01/", "value": None},
        {"op": "add", "path": "/-", "value": [1.5], "comment": "ignored (RFC 6902 section 4)"},
        {"op": "remove", "path": "/x", "value": "ignored"},
    ]
    assert parse_patch(patch) == (
        Operation(kind="test", path=(), value={}),
        Operation(kind="replace", path=("a/b", "~1", ""), value=None),
        Operation(kind="add", path=("-",), value=[1.5]),
        Operation(kind="remove", path=("x",)),
    )


BAD_PATCHES: list[tuple[Any, str]] = [
    ({"op": "remove", "path": "/a"}, "A patch is a list"),
    (None, "A patch is a list"),
    (["remove"], "Operation 1 is not an object"),
    ([{"path": "/a"}], "Operation 1: 'op' must be one of test, replace, add, remove"),
    ([{"op": "remove", "path": "/a"}, {"op": "move", "from": "/a", "path": "/b"}], "Operation 2: 'op' must be one of"),
    ([{"op": "copy", "from": "/a", "path": "/b"}], "'op' must be one of"),
    ([{"op": ["add"], "path": "/a"}], "'op' must be one of"),
    ([{"op": "remove"}], "'path' must be a JSON pointer"),
    ([{"op": "remove", "path": 1}], "'path' must be a JSON pointer"),
    ([{"op": "remove", "path": "a"}], "'path' must be a JSON pointer"),
    ([{"op": "remove", "path": "/a~2"}], "'path' must be a JSON pointer"),
    ([{"op": "remove", "path": "/a~"}], "'path' must be a JSON pointer"),
    ([{"op": "replace", "path": "/a"}], "'value' is missing"),
    ([{"op": "add", "path": "/a", "value": float("nan")}], "NaN and infinity are not JSON"),
    ([{"op": "add", "path": "/a", "value": [{"b": float("inf")}]}], "NaN and infinity are not JSON"),
    ([{"op": "add", "path": "/a", "value": {"b\ud800": 1}}], "half a character"),
    ([{"op": "add", "path": "/a\udc00", "value": 1}], "half a character"),
    ([{"op": "add", "path": "/a", "value": json.loads("[" * 150 + "]" * 150)}], "nested more than 100 levels deep"),
    ([{"op": "remove", "path": "/a"}] * (MAX_OPERATIONS + 1), "101 operations; at most 100"),
]  # fmt: skip


@pytest.mark.parametrize(("patch", "sentence"), BAD_PATCHES)
def test_a_bad_patch_is_refused_with_a_sentence(patch: Any, sentence: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(sentence)):
        parse_patch(patch)


# --- edits -----------------------------------------------------------------------------------------------------------


def edited(text: str, *operations: tuple[Any, ...]) -> Edited:
    """The outcome of operations (kind, path, value)."""
    patch = [dict(zip(("op", "path", "value"), operation, strict=False)) for operation in operations]
    return apply(examine(text.encode()), parse_patch(patch))


def reason(text: str, *operations: tuple[Any, ...]) -> str:
    """Why operations are refused; it must name the path of the last one."""
    with pytest.raises(ConfigEditRefused) as refusal:
        edited(text, *operations)
    assert refusal.value.extra["path"] == operations[-1][1]
    assert refusal.value.detail.endswith(".")
    return str(refusal.value.extra["reason"])


REPLACED: list[tuple[str, str, Any, str]] = [
    # the same kind of quotes, as long as the text can be said in them
    ("a: x\n", "/a", "y z", "a: y z\n"),
    ("a: 'x'\n", "/a", "it's", "a: 'it''s'\n"),
    ('a: "x"\n', "/a", 'y "\\ z', 'a: "y \\"\\\\ z"\n'),
    ("a: 'x'\n", "/a", "tab\tbell\a", 'a: "tab\\tbell\\x07"\n'),
    ("a: x\n", "/a", "one\ntwo", 'a: "one\\ntwo"\n'),
    ("a: x\n", "/a", "\u2028\U000e0001", 'a: "\\u2028\U000e0001"\n'),
    ("a: 'x'\n", "/a", 1, "a: 1\n"),
    # text that would be read as something else, by readers of YAML 1.1 as well
    ("a: x\n", "/a", "12", "a: '12'\n"),
    ("a: x\n", "/a", "no", "a: 'no'\n"),
    ("a: x\n", "/a", "y", "a: 'y'\n"),
    ("a: x\n", "/a", "1:30", "a: '1:30'\n"),
    ("a: x\n", "/a", "2026-01-01", "a: '2026-01-01'\n"),
    ("a: x\n", "/a", "", "a: ''\n"),
    ("a: x\n", "/a", "~", "a: '~'\n"),
    ("a: x\n", "/a", "b: c", "a: 'b: c'\n"),
    ("a: x\n", "/a", "b #c", "a: 'b #c'\n"),
    ("a: x\n", "/a", " b", "a: ' b'\n"),
    ("a: x\n", "/a", "b:", "a: 'b:'\n"),
    ("a: x\n", "/a", "-v", "a: -v\n"),
    ("a: x\n", "/a", "http://b/c?d=e#f", "a: http://b/c?d=e#f\n"),
    # other scalars
    ("a: 1\n", "/a", 1e16, "a: 1.0e+16\n"),
    ("a: 1\n", "/a", 1e-7, "a: 1.0e-07\n"),
    ("a: 1\n", "/a", 1.0, "a: 1.0\n"),
    ("a: 0x1F\n", "/a", 31, "a: 0x1F\n"),  # as it was
    ("a: true\n", "/a", False, "a: false\n"),
    ("a: True\n", "/a", False, "a: False\n"),
    ("a: ~\n", "/a", None, "a: ~\n"),
    ("a: 1\n", "/a", None, "a: null\n"),
    ("a: 1\n", "/a", {}, "a: {}\n"),
    ("a: 1\n", "/a", [], "a: []\n"),
    ("a: 2026-01-01\n", "/a", "2026-02-03", "a: 2026-02-03\n"),  # a date stays one
    ("a: 2026-01-01\n", "/a", "2026-02-30", "a: '2026-02-30'\n"),
    ("a: 2026-01-01\n", "/a", "soon", "a: soon\n"),
    ("a: 2026-01-01\n", "/a", "2026-02-03\n", 'a: "2026-02-03\\n"\n'),
    # the column of a comment
    ("a: 1    # c\n", "/a", 100, "a: 100  # c\n"),
    ("a: 1   # c\n", "/a", 10000, "a: 10000  # c\n"),
    ("a: 1 # c\n", "/a", 100, "a: 100 # c\n"),
    ("a: 100 # c\n", "/a", 1, "a: 1   # c\n"),
    # values that are not written
    ("a:\nb: 1", "/a", 2, "a: 2\nb: 1"),
    ("a:  # c\nb: 1", "/a", 2, "a: 2  # c\nb: 1"),
    ("a:      # c\nb: 1", "/a", 2, "a: 2    # c\nb: 1"),
    ("a: &x # c\n", "/a", 2, "a: &x 2 # c\n"),
    ("a:\n  - # c\n  -\n", "/a/1", 2, "a:\n  - # c\n  - 2\n"),
    ("a:\n  - # c\n  -\n", "/a/0", 2, "a:\n  - 2 # c\n  -\n"),
    ("a: {b, c: }", "/a/b", 1, "a: {b: 1, c: }"),
    ("a: {b, c: }", "/a/c", 1, "a: {b, c: 1 }"),
    # flow collections, and JSON
    ("a: [x, y]", "/a/1", "b, c", "a: [x, 'b, c']"),
    ("a: [x, y]", "/a/1", "b:c", "a: [x, b:c]"),
    ('{"a": 1, "b":2}', "/b", "x", '{"a": 1, "b":"x"}'),
    ("a: [\n  1, # one\n  2\n]", "/a/0", 10, "a: [\n  10, # one\n  2\n]"),
    # text on several lines
    ("a: x\n  y # c\n", "/a", "z", "a: z # c\n"),
    ("a: 'x\n\n  y'\nb: 1", "/a", "z", "a: 'z'\nb: 1"),
    ("a: |\n  x\n  y\nb: 1", "/a", "p\n q\n", "a: |\n  p\n   q\nb: 1"),
    ("a: |\n  x\n\nb: 1", "/a", "p", "a: |-\n  p\n\nb: 1"),
    ("a: |- # c\n    x\nb: 1", "/a", "p\n\nq\n", "a: | # c\n    p\n\n    q\nb: 1"),
    ("a: |+\n  x\n\n\nb: 1", "/a", "p\n\n", "a: |+\n  p\n\nb: 1"),
    ("a: |\n  x\nb: 1", "/a", "p\n\n\n", "a: |+\n  p\n\n\nb: 1"),
    ("a: |\n  x\n\nb: 1", "/a", "p\n\n\n", 'a: "p\\n\\n\\n"\n\nb: 1'),
    ("a: |\n  x", "/a", "p", "a: |\n  p"),
    ("a: |\n  x", "/a", "p\n", "a: |\n  p\n"),
    ("a: |  # c\n  x\n# d", "/a", " p", 'a: " p"  # c\n# d'),
    ("a: |\n  x\n# d", "/a", 5, "a: 5\n# d"),
    ("a: |\nb:\n    c: 1", "/a", "p\n", "a: |\n    p\nb:\n    c: 1"),
    ("a: |\r\n  x\r\nb: 1", "/a", "p\nq\n", "a: |\r\n  p\r\n  q\r\nb: 1"),
    ("a: >-\n  x\n  y\nb: 1", "/a", "p q\nr\n\ns", "a: >-\n  p q\n\n  r\n\n\n  s\nb: 1"),
    ("a: |\n  x\nb: 1", "/a", "\n\np\n   \n\tq\n", "a: |\n\n\n  p\n     \n  \tq\nb: 1"),
    ("a: |\n  x\nb: 1", "/a", "p\n   \n", "a: |\n  p\n     \nb: 1"),
    ("a: &x |\n  x\nb: 1", "/a", "p\n", "a: &x |\n  p\nb: 1"),
    ("a: >\n  x\n", "/a", "p\n  q\n", 'a: "p\\n  q\\n"\n'),
    # elsewhere
    ("1: x\nfalse: y", "/false", "z", "1: x\nfalse: z"),
    ("a/b: {c~: 1}", "/a~1b/c~0", 2, "a/b: {c~: 2}"),
    ("\ufeffa: &x 1\nb: 2", "/a", 2, "\ufeffa: &x 2\nb: 2"),  # no alias refers to x
    ("--- # c\na: 1\r\n...", "/a", 2, "--- # c\na: 2\r\n..."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "value", "becomes"), REPLACED)
def test_replacing_changes_the_value_alone(text: str, path: str, value: Any, becomes: str) -> None:
    assert edited(text, ("replace", path, value)).document.text == becomes


def test_folded_text_is_broken_where_the_longest_line_was() -> None:
    line = "word " * 20
    text = edited(f"a: >\n  {'x' * 70}\n  y\nb: 1", ("replace", "/a", line * 2 + "end\n")).document.text
    lines = text.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= 72
    assert examine(text.encode()).values["a"] == line * 2 + "end\n"


ADDED: list[tuple[str, str, Any, str]] = [
    ("a: 1\n", "/b", 2, "a: 1\nb: 2\n"),
    ("a: 1", "/b", 2, "a: 1\nb: 2"),
    ("a: 1\r\nb: 2", "/c", 3, "a: 1\r\nb: 2\r\nc: 3"),
    ("a: 1\nb: 2\r\n", "/c", 3, "a: 1\nb: 2\r\nc: 3\r\n"),
    ("a: 1\rb: 2", "/c", 3, "a: 1\rb: 2\rc: 3"),
    ("a: 1 # c\n# d\n\n# e\n", "/b", 2, "a: 1 # c\n# d\nb: 2\n\n# e\n"),
    ("---\na: 1\n...\n", "/b", 2, "---\na: 1\nb: 2\n...\n"),
    ("a:\n  - 1 # c\n  # d\n# e\nb: 2", "/a/-", 3, "a:\n  - 1 # c\n  # d\n  - 3\n# e\nb: 2"),
    ("a:\n- 1\n# e\nb: 2", "/a/1", 3, "a:\n- 1\n- 3\n# e\nb: 2"),
    ("a:\n-   1\n", "/a/-", {"b": 1, "c": [2]}, "a:\n-   1\n-   b: 1\n    c:\n    - 2\n"),
    ("a:\n  - 'x'\n", "/a/-", "y", "a:\n  - 'x'\n  - 'y'\n"),
    ('"a": 1\n', "/b", "x", '"a": 1\n"b": x\n'),
    ("a: 1\n", "/no", "x", "a: 1\n'no': x\n"),
    ("a: 1\n", "/1", "x", "a: 1\n'1': x\n"),
    ("a: 1\n", "/--- b", "x", "a: 1\n'--- b': x\n"),
    ("a: 1\n", "/", "x", "a: 1\n'': x\n"),
    ("a:\n  - b: 1\n", "/a/0/c", 2, "a:\n  - b: 1\n    c: 2\n"),
    ("a:\n  - - 1\n", "/a/0/-", 2, "a:\n  - - 1\n    - 2\n"),
    ("x: &x 1\na: *x # c\n", "/b", 2, "x: &x 1\na: *x # c\nb: 2\n"),
    ("x: &x {y: 1}\na:\n  <<: *x\nb: 1", "/a/z", 2, "x: &x {y: 1}\na:\n  <<: *x\n  z: 2\nb: 1"),
    ("a: |\n  x\n\nb: 1\n", "/c", "p\nq\n", "a: |\n  x\n\nb: 1\nc: |\n  p\n  q\n"),
    ("a: |\n  x\n\n\n", "/b", 1, "a: |\n  x\nb: 1\n\n\n"),
    ("a: |2+\n   x\n\n", "/b", 1, "a: |2+\n   x\n\nb: 1\n"),
    ("a: |+\n  x\n\n", "/b", 1, "a: |+\n  x\n\nb: 1\n"),
    ("a:\n    b: 1\n", "/c", {"d": {"e": []}, "f": [1, [2, 3]]},
     "a:\n    b: 1\nc:\n    d:\n        e: []\n    f:\n        - 1\n        - - 2\n          - 3\n"),
    ("a:\n  b:\n  - 1\n", "/c", ["p\nq"], "a:\n  b:\n  - 1\nc:\n- |-\n  p\n  q\n"),
    ("a: 1\n", "/a", 2, "a: 2\n"),  # there already: replaced (RFC 6902 section 4.1)
    ("", "/a", 1, "a: 1\n"),
    ("\ufeff", "/a", 1, "\ufeffa: 1\n"),
    ("# c", "/a", 1, "# c\na: 1"),
    ("---\r\n# c\r\n...\r\n", "/a", [1], "---\r\n# c\r\na:\r\n  - 1\r\n...\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "value", "becomes"), ADDED)
def test_adding_puts_a_member_at_the_end(text: str, path: str, value: Any, becomes: str) -> None:
    assert edited(text, ("add", path, value)).document.text == becomes


REMOVED: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("a: 1\nb: 2\n", "/a", "b: 2\n", ()),
    ("a: 1\nb: 2", "/b", "a: 1\n", ()),
    ("# above\r\na: 1 # one\r\n# below\r\nb: 2", "/a", "# above\r\n# below\r\nb: 2", ("# one",)),
    ("a: 1\nb: # x\n  # y\n  - '# no' # z\n  # below\nc: 3", "/b", "a: 1\n  # below\nc: 3", ("# x", "# y", "# z")),
    ("a: 1\nb: | # x\n  # no\n\nc: &q # y\n  d#no\n", "/b", "a: 1\n\nc: &q # y\n  d#no\n", ("# x",)),
    ("a: 1\nb: | # x\n  # no\n\nc: &q # y\n  d#no\n", "/c", "a: 1\nb: | # x\n  # no\n\n", ("# y",)),
    ("a: 1\nb: |2 # x\n   # no\n", "/b", "a: 1\n", ("# x",)),
    ("a:\n# x\nb: 1\n", "/a", "# x\nb: 1\n", ()),
    ("a:\n- 1\n- 2\n- 3\n", "/a/1", "a:\n- 1\n- 3\n", ()),
    ("a:\n  - b: 1 # x\n    c: 2\n", "/a/0/b", "a:\n  - c: 2\n", ("# x",)),
    ("a:\n  - b: 1 # x\n\n    # y\n    c: 2\n", "/a/0/b", "a:\n  -\n\n    # y\n    c: 2\n", ("# x",)),
    ("a:\n  - - 1\n    - 2\n", "/a/0/0", "a:\n  - - 2\n", ()),
    ("x: &x {y: 1}\na:\n  <<: *x\n  z: 2\n", "/a/z", "x: &x {y: 1}\na:\n  <<: *x\n", ()),
    ("a: !!str 1\nb: 2\n", "/a", "b: 2\n", ()),
]


@pytest.mark.parametrize(("text", "path", "becomes", "comments"), REMOVED)
def test_removing_takes_the_lines_and_tells_the_comments(
    text: str, path: str, becomes: str, comments: tuple[str, ...]
) -> None:
    outcome = edited(text, ("remove", path))
    assert outcome.document.text == becomes
    assert outcome.removed_comments == comments


REFUSED: list[tuple[str, str, tuple[Any, ...]]] = [
    ("a: &x 1\nb: *x", "aliased", ("replace", "/a", 2)),
    ("a: &x 1\nb: *x", "aliased", ("replace", "/b", 2)),
    ("a: &x {y: 1}\nb: *x", "aliased", ("replace", "/a/y", 2)),
    ("a: &x\n  y: 1\nb: *x", "aliased", ("add", "/b/z", 2)),
    ("a: &x\n  y: 1\nb:\n  <<: *x", "aliased", ("add", "/a/z", 2)),
    ("a: &x\n  y: 1\nb:\n  <<: *x", "aliased", ("replace", "/b/y", 2)),
    ("a: &x\n  y: 1\nb:\n  <<: *x\n  y: 2", "not_exact", ("remove", "/b/y")),  # it would be 1 then
    ("a:\n  b: &x 1\nc: *x\nd: 1", "aliased", ("remove", "/a")),
    ("a: &x 1\nb: [*x]\nc: 2", "aliased", ("remove", "/b")),
    ("&k a: 1\nb: *k", "aliased", ("replace", "/a", 2)),
    ("a: !!str 1", "tagged", ("replace", "/a", "2")),
    ("a: ! 1", "tagged", ("replace", "/a", "2")),
    ("a: !!null", "tagged", ("replace", "/a", "2")),
    ("? a\n: 1\nb: 2", "complex_key", ("replace", "/a", 2)),
    ("b: 2\n? a\n: 1", "complex_key", ("add", "/c", 2)),
    ("a: 1", "only_child", ("remove", "/a")),
    ("a:\n- 1", "only_child", ("remove", "/a/0")),
    ("a: {b: 1}", "flow", ("add", "/a/c", 2)),
    ("a: []", "flow", ("add", "/a/-", 2)),
    ("{}", "flow", ("add", "/a", 2)),
    ("a: [1, 2]", "flow", ("remove", "/a/0")),
    ("a: |2\n   x", "block_indicator", ("replace", "/a", "y")),
    ("1: a\n'1': b", "ambiguous_key", ("replace", "/1", "y")),
    ("1: a\n'1': b", "ambiguous_key", ("add", "/1", "y")),
    ("1: a\n'1': b", "ambiguous_key", ("test", "/1", "b")),
    ("a: 1", "not_found", ("replace", "/b", 2)),
    ("a: 1", "not_found", ("remove", "/b")),
    ("a: 1", "not_found", ("test", "/b", None)),
    ("a: 1", "not_found", ("add", "/b/c", 2)),
    ("a: 1", "not_found", ("replace", "/a/b", 2)),
    ("a:\n- 1", "not_found", ("replace", "/a/-", 2)),
    ("a:\n- 1", "not_found", ("replace", "/a/00", 2)),
    ("a:\n- 1", "not_found", ("replace", "/a/1", 2)),
    ("a:\n- 1", "not_found", ("add", "/a/2", 2)),
    ("a:\n- 1", "not_found", ("add", "/a/x", 2)),
    ("a:\n- 1", "not_exact", ("add", "/a/0", 2)),
    ("", "not_found", ("replace", "/a", 2)),
    ("a: 1", "test_failed", ("test", "/a", True)),
    ("a: 1", "test_failed", ("test", "", {})),
    ("a: [1]", "not_a_value", ("replace", "/a", 2)),
    ("a: 1", "not_a_value", ("replace", "/a", [2])),
    ("a: 1", "not_a_value", ("add", "/a/b", 2)),
    ("a: 1", "not_a_value", ("replace", "", {})),
    ("a: 1", "not_a_value", ("remove", "")),
    ("a: 1", "not_exact", ("add", "/" + "k" * 2000, 2)),
]


@pytest.mark.parametrize(("text", "why", "operation"), REFUSED)
def test_what_cannot_be_exact_is_refused_with_a_reason(text: str, why: str, operation: tuple[Any, ...]) -> None:
    assert reason(text, operation) == why


def test_tests_compare_as_json_does() -> None:
    text = "a: 1\nb: [x, {c: 2026-01-01}]\nd: &d {e: .nan}\nf: {<<: *d, 1: 2.5}\ng: *d"
    edited(text, ("test", "/a", 1.0), ("test", "/b", ["x", {"c": "2026-01-01"}]), ("test", "/f/1", 2.5))
    assert reason(text, ("test", "/b/1/c", "2026-01-02")) == "test_failed"
    assert reason(text, ("test", "/d/e", 0)) == "test_failed"
    assert reason(text, ("test", "/f/e", 0)) == "test_failed"  # merged in: it can be read
    edited("", ("test", "", {}))


def test_operations_follow_one_another() -> None:
    outcome = edited(
        "a: 1 # x\nb: # y\n  - 1\n",
        ("test", "/a", 1),
        ("add", "/c", {"d": "e"}),
        ("replace", "/c/d", "f"),
        ("add", "/b/-", 2),
        ("remove", "/b/0"),
        ("remove", "/a"),
        ("test", "", {"b": [2], "c": {"d": "f"}}),
    )
    assert outcome.document.text == "b: # y\n  - 2\nc:\n  d: f\n"
    assert outcome.removed_comments == ("# x",)
    assert outcome.document.values == {"b": [2], "c": {"d": "f"}}
    assert outcome.document.report.is_valid


def test_a_patch_is_made_whole_or_not_at_all() -> None:
    document = examine(b"a: 1\n")
    with pytest.raises(ConfigEditRefused):
        apply(document, parse_patch([{"op": "replace", "path": "/a", "value": 2}, {"op": "remove", "path": "/b"}]))
    assert (document.text, document.values) == ("a: 1\n", {"a": 1})


def test_a_patch_that_changes_nothing_gives_the_same_document() -> None:
    document = examine(b"a: 0x10\n")
    assert apply(document, ()).document is document
    assert apply(document, parse_patch([{"op": "replace", "path": "/a", "value": 16}])).document is document


def test_a_value_that_makes_the_config_invalid_is_refused_with_the_errors() -> None:
    with pytest.raises(ConfigInvalid) as refusal:
        edited("a: 1\nb: 2\n", ("replace", "/b", 10**1500))
    assert refusal.value.extra["errors"][0]["line"] == 2
    with pytest.raises(ConfigInvalid):
        edited("a: 1\n", ("replace", "/a", "x" * 2_000_000))
    with pytest.raises(ConfigInvalid):
        edited("a: !x 1\n", ("replace", "/a", 2))


def test_the_form_learns_beforehand_what_would_be_refused() -> None:
    places = Places(examine(b"a: &x 1\nb: *x\nc: {d: 1}\ne:\n  - 1\n  - 2\nf:\n"))
    told = {
        "/".join(place.path): tuple(places.reason_against(kind, place) for kind in ("replace", "add", "remove"))
        for place in places.walk()
    }
    assert told == {
        "": ("not_a_value", None, "not_a_value"),
        "a": ("aliased", "aliased", "aliased"),
        "b": ("aliased", "aliased", "aliased"),
        "c": ("not_a_value", "flow", None),
        "c/d": (None, "not_a_value", "flow"),
        "e": ("not_a_value", None, None),
        "e/0": (None, "not_a_value", None),
        "e/1": (None, "not_a_value", None),
        "f": (None, "not_a_value", None),
    }


# --- any edit of any document ----------------------------------------------------------------------------------------


COMMENT = re.compile(r"# c\d+")


class Author:
    """Writes documents as people do: every style that YAML has, and a comment of its own wherever one can stand."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._count = 0
        self._anchors: list[str] = []

    def document(self) -> bytes:
        pick = self._chance.choice
        start = pick(["", "", "", "---\n", "--- # c0\n", "# c0\n\n", "%YAML 1.2\n---\n"])
        lines = self.mapping(0, 3) + self.above(0)
        end = pick(["", "", "...\n"])
        text = start + "".join(line + "\n" for line in lines) + end
        if pick([False, False, True]):
            text = text.rstrip("\n")
        if (line_end := pick(["\n", "\n", "\r\n", "\r", "mixed"])) == "mixed":
            text = re.sub("\n", lambda _: pick(["\n", "\r\n"]), text)
        else:
            text = text.replace("\n", line_end)
        return (pick(["", "", "\ufeff"]) + text).encode()

    def number(self) -> int:
        self._count += 1
        return self._count

    def comment(self) -> str:
        return f"# c{self.number()}"

    def behind(self) -> str:
        """A comment behind a value, or none."""
        return self._chance.choice(["", "", "", " ", " {}", "  {}", "      {}"]).format(self.comment())

    def above(self, column: int) -> list[str]:
        """Comments and empty lines above a member."""
        if self._chance.random() < 0.6:
            return []
        indents = [0, column, column, column + 2]
        kinds = ["", "  ", *(" " * indent + self.comment() for indent in indents)]
        return [self._chance.choice(kinds) for _ in range(self._chance.randint(1, 3))]

    def mapping(self, column: int, depth: int) -> list[str]:
        lines: list[str] = []
        if self._anchors and self._chance.random() < 0.1:
            lines.append(" " * column + f"<<: *{self._chance.choice(self._anchors)}" + self.behind())
        for _ in range(self._chance.randint(1, 4)):
            if lines:
                lines += self.above(column)
            number = self.number()
            key = self._chance.choice([f"k{number}", f"k {number}", f"'k{number}'", f'"k{number}"', f"{number}"])
            if self._chance.random() < 0.03:
                lines += [f"{' ' * column}? {key}", f"{' ' * column}: v"]
            else:
                lines += self.member(" " * column + key + self._chance.choice([":", ":", ":", " :"]), column, depth)
        return lines

    def sequence(self, column: int, depth: int) -> list[str]:
        lines: list[str] = []
        for _ in range(self._chance.randint(1, 4)):
            if lines:
                lines += self.above(column)
            compact = self._chance.random() < 0.4 and depth > 0
            if compact:
                gap = self._chance.choice([1, 1, 3])
                inner = self._chance.choice([self.mapping, self.sequence])(column + 1 + gap, depth - 1)
                lines += [" " * column + "-" + " " * gap + inner[0].lstrip(" "), *inner[1:]]
            else:
                lines += self.member(" " * column + "-", column, depth)
        return lines

    def member(self, head: str, column: int, depth: int) -> list[str]:
        chance, pick = self._chance, self._chance.choice
        if depth > 0 and chance.random() < 0.45:
            anchor = ""
            if chance.random() < 0.15:
                name = f"m{self.number()}"
                anchor = f" &{name}"
            step = pick([2, 2, 4, 1])
            if pick([True, False]):
                lines = self.mapping(column + step, depth - 1)
                self._anchors += [anchor[2:]] if anchor else []
            else:
                lines = self.sequence(column + (pick([0, step]) if head.endswith(":") else step), depth - 1)
            return [head + anchor + self.behind(), *lines]
        if chance.random() < 0.2:
            return self.block(head, column)
        if chance.random() < 0.1:
            word = self.number()
            deeper = " " * (column + 2)
            return pick(
                [
                    [f"{head} word{word}", f"{deeper}more{self.behind()}"],
                    [f"{head} 'word{word}", "", f"{deeper}more'{self.behind()}"],
                    [f"{head}{self.behind()}", f"{deeper}word{word}{self.behind()}"],
                    [f"{head} [a,{self.behind()}", f"{deeper}b{word}, {{c: 1}}]{self.behind()}"],
                ]
            )
        return [f"{head}{self.scalar()}{self.behind()}"]

    def scalar(self) -> str:
        number, pick = self.number(), self._chance.choice
        if self._chance.random() < 0.08:
            return f" &s{number} {pick(['', '1', 'x'])}"
        if self._chance.random() < 0.08 and self._anchors:
            return f" *{pick(self._anchors)}"
        return " " + pick(
            [
                "", "", "~", "1", "0x1F", "-1.5", "true", "False", "2026-01-01", f"word{number}", f"two words {number}",
                f"'it''s {number}'", f'"a \\n {number}"', "[]", "{}",
                f"[a, 'b', {number}]", f'{{"a": 1,"b":"{number}"}}', "{a, b: , c: [x: 1]}", "!!str 1", f"http://x/{number}#y",
            ]
        )  # fmt: skip

    def block(self, head: str, column: int) -> list[str]:
        number, pick = self.number(), self._chance.choice
        indent = " " * (column + pick([3, 4]))  # deeper than any comment above what follows
        mark = pick("|>") + pick(["", "", "-", "+"])
        if self._chance.random() < 0.1:
            return [f"{head} {mark[0]}3{mark[1:]}", " " * (column + 3) + f"text {number}"]
        lines = [f"{indent}text {number}", *pick([[], ["", f"{indent}more"], [f"{indent}  deeper", f"{indent}last"]])]
        return [f"{head} {mark}{self.behind()}", *lines, *pick([[], [], [""], ["", ""]])]


def check_any_edit(chance: random.Random) -> str:
    """Make an edit of a document, both of chance; tells what came of it."""
    case = Case.of(Author(chance).document())
    assert case.document.report.is_valid, (case.text, case.document.report)
    tally = Tally("edits")
    kinds = {"replace": case.leaves, "add": case.blocks, "remove": case.several}
    kind = chance.choice([kind for kind, places in kinds.items() if places])
    path = chance.choice(kinds[kind])
    if kind == "replace":
        outcome = case.replace(path, chance.choice(VALUES), tally)
    elif kind == "add":
        outcome = case.add(path, chance.choice(MEMBERS), tally)
    else:
        outcome = case.remove(path, tally)
    assert not tally.wrong, tally.wrong[0]
    assert tally.refused.keys() <= REASONS
    if outcome is not None:
        assert kind == "remove" or not outcome.removed_comments
        left = "\n".join([outcome.document.text, *outcome.removed_comments])
        assert sorted(COMMENT.findall(left)) == sorted(COMMENT.findall(case.text)), (case.text, left)
    return f"{kind}: {', '.join(tally.refused) or 'exact'}"


@settings(max_examples=150, deadline=None, phases=[Phase.reuse, Phase.generate])  # what fails is small, and printed
@given(st.randoms(use_true_random=False))
def test_any_edit_of_any_document_is_exact_or_refused(chance: random.Random) -> None:
    event(check_any_edit(chance))
