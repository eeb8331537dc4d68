"""The rules for a config's text."""

import math
import random
import re
import tempfile
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.system.catalogue.cases import Case, cases

from dropmill.configfile.yaml.composer import MAX_DEPTH, MAX_NODES
from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.findings import MAX_BYTES, MAX_FINDINGS
from dropmill.slot.config import load_config

UTC_Z = timezone(timedelta(0), name="Z")


def as_a_slot_loads(text: bytes) -> Any:
    """The slot process does not import this package and reads the file by code of its own."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return load_config(file.name)


def only_error(text: str) -> tuple[int, int, str, str]:
    (error,) = examine(text.encode()).report.errors
    return error.line, error.column, error.path, error.message


@pytest.mark.parametrize("case", cases("yaml"), ids=lambda case: case.id)
def test_the_catalogue_comes_out_as_expected(case: Case) -> None:
    (text,) = case.texts({})
    report = examine(text).report
    assert report.is_valid == (case.expect["status"] == [200]), report
    if not report.is_valid:
        assert report.errors[0].line >= 1
        assert report.errors[0].column >= 1
    elif len(text) < 10_000:
        assert repr(examine(text).values) == repr(as_a_slot_loads(text))  # repr: NaN differs from itself


ACCEPTED = [
    ("", {}),
    ("# only\r\n# comments", {}),
    ("---\n", {}),
    ("---\n# nothing\n...\n", {}),
    ("%YAML 1.2 # as it is read anyway\n---\na: 1\n", {"a": 1}),
    ("\ufeffa: 1\n", {"a": 1}),
    ("{}", {}),
    ("a: [1, 2.5, true, null, ~, x, 'y', \"z\\x00\"]", {"a": [1, 2.5, True, None, None, "x", "y", "z\0"]}),
    ("a: yes\nb: 010\nc: 0o10\nd: 0x1F", {"a": "yes", "b": 10, "c": 8, "d": 31}),
    ("e: 1_000\nf: 1:30", {"e": 1000, "f": "1:30"}),
    ("a: !!str 1\nb: !!int '2'\nc: !!float 3", {"a": "1", "b": 2, "c": 3.0}),
    ("d: !!map {}\ne: !!seq []\nf: ! 4", {"d": {}, "e": [], "f": 4}),
    ("d: 2026-02-28\nt: 2026-02-28 10:00:00Z", {"d": date(2026, 2, 28), "t": datetime(2026, 2, 28, 10, tzinfo=UTC_Z)}),
    ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
    ("a: &a {x: 1}\nc: {<<: [*a, {z: 4}]}", {"a": {"x": 1}, "c": {"z": 4, "x": 1}}),
    ("'<<': 1\n=: 2\n8080: web\ntrue: t", {"<<": 1, "=": 2, 8080: "web", True: "t"}),
    ("2026-01-01: d", {date(2026, 1, 1): "d"}),
    ("&k key: *k", {"key": "key"}),
    ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", {"a": "x\ny\n", "b": "x y"}),
    ("a: {x, y: 1}", {"a": {"x": None, "y": 1}}),
    ('a: "\\U0001F600"', {"a": "😀"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values"), ACCEPTED)
def test_accepted_text_loads_as_plain_values(text: str, values: dict[Any, Any]) -> None:
    report = examine(text.encode()).report
    assert report.errors == ()
    loaded = examine(text.encode()).values
    assert repr(loaded) == repr(values)  # repr, so that 1, 1.0 and True differ
    assert repr(as_a_slot_loads(text.encode())) == repr(values)


REFUSED = [
    ("- 1", 1, 1, "", "must be a mapping"),
    ("just text", 1, 1, "", "must be a mapping"),
    ("~", 1, 1, "", "must be a mapping"),
    ("!<tag:example.com,2026:x>", 1, 1, "", "must be a mapping"),
    ("''", 1, 1, "", "must be a mapping"),
    ("a: 1\n---\nb: 2", 2, 1, "", "Another document"),
    ("a: 1\na: 2", 2, 1, "/a", "'a' appears twice; first on line 1"),
    ("x: {'b': 1, \"b\": 2}", 1, 13, "/x/b", "'b' appears twice"),
    ("1: a\n0x1: b", 2, 1, "/0x1", "appears twice"),
    ("a: &a {}\nb: {<<: *a, <<: *a}", 2, 13, "/b/<<", "appears twice"),
    ("a: {<<: [{}, 5]}", 1, 14, "/a/<<", "merges mappings"),
    ("a: <<", 1, 4, "/a", "put it in quotes"),
    ("a: =", 1, 4, "/a", "put it in quotes"),
    ("a/b: {c~d: [0, !x 1]}", 1, 16, "/a~1b/c~0d/1", "tag !x is not"),
    ("a: !!binary aGk=", 1, 4, "/a", "!!binary is not"),
    ("a: !!set {x}", 1, 4, "/a", "!!set is not"),
    ("a: !!omap [x: 1]", 1, 4, "/a", "!!omap is not"),
    ("a: !<tag:example.com,2026:x> 1", 1, 4, "/a", "is not one of YAML's core tags"),
    ("a: !!str [x]", 1, 4, "/a", "does not fit a list"),
    ("a: !!map x", 1, 4, "/a", "does not fit a single value"),
    ("!!merge x: 1", 1, 1, "/x", "is not one of"),
    ("a: !!null x", 1, 4, "/a", "is not null"),
    ("a: !!bool maybe", 1, 4, "/a", "neither true nor false"),
    ("a: !!int ''", 1, 4, "/a", "not a whole number"),
    ("a: -_", 1, 4, "/a", "not a whole number"),
    ("a: 2026-13-01", 1, 4, "/a", "does not exist"),
    ("~: 1", 1, 1, "/~0", "A key is missing"),
    ("[1]: 2", 1, 1, "/?", "A list cannot be a key"),
    ("a: \"\\ud800\"", 1, 4, "/a", "lone surrogate"),
    ("a: *b", 1, 4, "", "*b has no anchor &b above"),
    ("a: &a [[*a]]", 1, 9, "", "refers to a value that contains it"),
    ("a: b: c", 1, 5, "", "A colon is not allowed here"),
    ("a: 1\nb: [1,\n  2", 2, 4, "", "This '[' has no ']'"),
    ("b: [1,\n  2\nc: 1", 3, 2, "", "the ']' for the '[' of line 1 is missing"),
    ("a: {b: [", 1, 9, "", "not closed"),
    ("a: 1\nb: 'x\nc: 2", 2, 4, "", "The quotes that open here are not closed"),
    ("a: 1\nkey\nb: 2", 2, 1, "", "A key needs a colon"),
    ("a:\n  - 1\n  b: 2", 3, 3, "", "A key cannot be among the items of the list of line 2"),
    ("a:\n  b: 1\n  - 2", 3, 3, "", "A list item cannot be among the keys of the mapping of line 2"),
    ("a: 'x' y", 1, 8, "", "cannot continue after a closing quote"),
    ("a: &x &y 1", 1, 7, "", "check the indentation"),
    ("  a: 1\nb: 2", 2, 1, "", "indented less"),
    ("a: %x", 1, 4, "", "The character '%' cannot begin a value"),
    ("a: ]", 1, 4, "", "This ']' closes nothing"),
    ("a: \"\\q\"", 1, 6, "", "unknown escape character"),
    ("a:\n\tb: 1", 2, 1, "", "A tab cannot indent"),
    ("%TAG ! tag:yaml.org,2002:\n---\na: !int 1", 1, 1, "", "directive %TAG"),
    ("# x\n\n%FOO\n---\na: 1", 3, 1, "", "directive %FOO"),
    ("\ufeff%YAML 1.1\n---\na: 1", 1, 1, "", "directive %YAML 1.1"),
    ("a: \"\\U00110000\"", 1, 1, "", "cannot be read"),  # a bare ValueError in ruamel
    ("a: \x07", 1, 4, "", "U+0007"),
    ("a: \x7f", 1, 4, "", "U+007F"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "path", "message"), REFUSED)
def test_refused_text_is_refused_where_it_is_wrong(text: str, line: int, column: int, path: str, message: str) -> None:
    found = only_error(text)
    assert found[:3] == (line, column, path)
    assert message in found[3]
    assert examine(text.encode()).values == {}


def test_columns_count_utf16_units_and_no_byte_order_mark() -> None:
    assert only_error("\ufeff😀é: !x 1")[:2] == (1, 6)
    assert only_error("\ufeffa: 1\r\n😀é: !x 1")[:2] == (2, 6)
    (error,) = examine("é😀: ".encode() + b"\xe9\n").report.errors
    assert (error.line, error.column) == (1, 6)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_in_a_browser(end: str) -> None:
    assert only_error(f"a: 1{end}{end}# \u2028 \u2029{end}b: !x 1")[:2] == (4, 4)


def test_the_size_limit_is_exact() -> None:
    fill = b"#" * (MAX_BYTES - 5)
    assert examine(b"a: 1\n" + fill).report.is_valid
    assert "1,048,577 bytes" in examine(b"a: 1\n" + fill + b"#").report.errors[0].message


def test_the_depth_limit_is_exact_and_loadable() -> None:
    def nested(levels: int) -> bytes:
        return b"a: " + b"[" * (levels - 2) + b"x" + b"]" * (levels - 2)

    assert examine(nested(MAX_DEPTH)).report.is_valid
    assert as_a_slot_loads(nested(MAX_DEPTH)) == examine(nested(MAX_DEPTH)).values
    assert "levels deep" in examine(nested(MAX_DEPTH + 1)).report.errors[0].message


def test_a_chain_of_aliases_or_merges_counts_as_depth() -> None:
    """Text three levels deep, but hundreds when aliases are followed: ruamel's merging would recurse into it."""
    lists = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 300))
    merges = "p:\n  a0: &a0 {x: 1}\n" + "".join(f"  a{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 300))
    for text in (lists, merges + "z: {<<: *a299}\n"):
        assert "levels deep, aliases followed" in examine(text.encode()).report.errors[0].message


def test_the_node_limit_is_exact_and_counts_aliases_as_often_as_they_expand() -> None:
    def repeated(items: int) -> bytes:
        # 1 root, 2 keys, a list of 999 items, a list of 98 aliases of 1,000 nodes each, and `items`
        return b"a: &a [" + b"x," * 999 + b"]\nb: [" + b"*a," * 98 + b"x," * items + b"]\n"

    assert examine(repeated(MAX_NODES - 1 - 2 - 1000 - 1 - 98_000)).report.is_valid
    assert "keys and values" in examine(repeated(MAX_NODES - 1 - 2 - 1000 - 1 - 98_000 + 1)).report.errors[0].message


def test_warnings_tell_what_readers_of_yaml_1_1_take_otherwise() -> None:
    text = "a: no\nb: [on, 'off', \"yes\", !!str no]\nc: 010\nd: 1:30\ne: 0o17\nf: 1e400\non: x\ng: 10\nh: 0\ni: -0.5\n"
    warnings = examine(text.encode()).report.warnings
    places = [(warning.line, warning.column, warning.path) for warning in warnings]
    assert places == [
        (1, 4, "/a"),
        (2, 5, "/b/0"),
        (3, 4, "/c"),
        (4, 4, "/d"),
        (5, 4, "/e"),
        (6, 4, "/f"),
        (7, 1, "/on"),
    ]
    assert math.isinf(examine(text.encode()).values["f"])


def test_a_repeated_anchor_is_accepted_with_a_warning() -> None:
    text = b"a: &x 1\nb: &x 2\nc: *x\n"
    report = examine(text).report
    assert report.errors == ()
    assert [(warning.line, warning.column) for warning in report.warnings] == [(2, 4)]
    assert examine(text).values["c"] == 2


def test_every_wrong_value_is_found_but_only_so_many_are_told() -> None:
    report = examine(b"a: !x 1\nb: {c: !y 2, c: 3}\nd: 2026-02-30\n").report
    assert [(error.line, error.path) for error in report.errors] == [(1, "/a"), (2, "/b/c"), (2, "/b/c"), (3, "/d")]
    many = examine("".join(f"k{i}: !x no\n" for i in range(1000)).encode()).report
    assert len(many.errors) == MAX_FINDINGS


def test_findings_stay_short_and_printable_whatever_the_names() -> None:
    long = "k" * 500_000
    text = f'? {long}\n: {{"\\ud800": [!{long[:900]} 1, *{long[:1000]}]}}\n'
    for report in (examine(text.encode()).report, examine(text.replace("*", "").encode()).report):
        assert report.errors
        for error in report.errors:
            assert len(error.message.encode()) < 2000
            assert len(error.path.encode()) < 2000


def test_random_text_never_raises_and_what_is_accepted_loads_alike() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    pieces = [*(text for text, _ in ACCEPTED), *(text for text, *_ in REFUSED)]
    tokens = (
        re.findall(r"\S+|\s+", "\n".join(pieces))
        + list("{}[]:,&*!|>%@`'\"#-?~ \n\t\r\ufeff\u2028é😀")
        + ["<<: ", "\n  "]
    )
    accepted = 0
    for _ in range(3000):
        text = "".join(rng.choice(tokens) for _ in range(rng.randrange(1, 12)))
        if rng.random() < 0.5:
            base = rng.choice(pieces)
            cut = rng.randrange(len(base) + 1)
            text = base[:cut] + rng.choice(tokens) + base[cut + rng.randrange(3) :]
        raw = text.encode()
        if examine(raw).report.is_valid:
            accepted += 1
            assert repr(examine(raw).values) == repr(as_a_slot_loads(raw)), text
    assert accepted > 100


@pytest.mark.parametrize(
    ("text", "line", "is_valid_yaml"),
    [
        ("a: 1\t# tab before the comment\nb: x\t\n", 1, True),
        ("a: 1\nb: x\t\n", 2, True),
        ("a:\t1\n", 1, True),
        ("a: 'x'\t# c\n", 1, True),
        ("- a\n-\tb\n", 2, True),
        ("a: 1\n\t# c\nb: 2\n", 2, True),
        ("a: &x\t1\n", 1, True),
        ("a:\n\tb: 1\n", 2, False),
        ("a:\n  b: 1\n  \tc: 1\n", 3, False),
    ],
)
def test_point_17_a_tab_that_the_parser_does_not_read_is_refused_in_these_words(
    text: str, line: int, is_valid_yaml: bool
) -> None:
    (error,) = examine(text.encode()).report.errors
    words = (
        "YAML allows a tab here, but the parser (ruamel.yaml) does not read it" if is_valid_yaml else "cannot indent"
    )
    assert words in error.message
    assert "spaces" in error.message
    assert error.line == line
