"""Which keys differ between two configs."""

import pytest

from dropmill.configfile.yaml import changes
from dropmill.configfile.yaml.changes import changed_keys
from dropmill.configfile.yaml.document import examine


def keys(before: str, after: str, *, keeps_tags: bool = False) -> list[str]:
    """The changed keys of two accepted texts; the same keys differ the other way round."""
    old, new = (examine(text.encode(), keeps_tags=keeps_tags) for text in (before, after))
    assert old.report.is_valid
    assert new.report.is_valid
    found, is_cut = changed_keys(old, new)
    assert not is_cut
    assert sorted(changed_keys(new, old)[0]) == sorted(found)
    assert changed_keys(old, old) == changed_keys(new, new) == ([], False)
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "# only a comment\n"),
        ("a: 1", "# why\na:   1 # here\n"),
        ("a: 'x'", "a: x"),
        ("a: 16", "a: 0x10"),
        ("a: 1\nb: 2", "b: 2\na: 1"),
        ("a: {b: 1}", "a:\n  b: 1\n"),
        ("a: [1, 2]", "a:\n- 1\n- 2\n"),
        ("a: .nan", "a: .NaN"),
        ("x: &x {b: 1}\ny: *x", "x: {b: 1}\ny: {b: 1}"),
        ("x: &x {b: 1}\ny: {<<: *x, c: 2}", "x: {b: 1}\ny: {b: 1, c: 2}"),
        ("a: ~", "a: null"),
    ],
)
def test_another_spelling_is_no_change(before: str, after: str) -> None:
    assert keys(before, after) == []


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("size: 1\noutput: {format: webp, quality: 80}", "size: 2\noutput: {format: png, quality: 80}",
         ["size", "output.format"]),
        ("", "a: 1\nb: {c: 2}", ["a", "b"]),
        ("a: 1\ngone: 2\nb: 3", "b: 4\na: 1\nnew: 5", ["b", "new", "gone"]),
        ("a: 1", "a: '1'", ["a"]),
        ("a: 1", "a: 1.0", ["a"]),
        ("a: 1", "a: true", ["a"]),
        ("a: 2024-01-01", "a: '2024-01-01'", ["a"]),
        ("a: {b: 1}", "a: 1", ["a"]),
        ("a: {b: 1}", "a: [b]", ["a"]),
        ("a: {}", "a: ~", ["a"]),
        ("a: [{b: 1}, {c: 2}]", "a: [{b: 1}, {c: 3}]", ["a"]),
        ("a: [1, 2]", "a: [2, 1]", ["a"]),
        ("a: [1]", "a: [1, 1]", ["a"]),
        ("a: {b: {c: {d: 1, e: 2}}}", "a: {b: {c: {d: 1, e: 3}}}", ["a.b.c.e"]),
        ("1: x", "'1': x", ["1", "1"]),
        ("x: &x {b: 1}\ny: *x", "x: &x {b: 2}\ny: *x", ["x.b", "y.b"]),
        ("'a.b': {'c d': 1}", "'a.b': {'c d': 2}", ['"a.b"."c d"']),
        ("'': 1", "'': 2", ['""']),
        ("? a", "? a\n? b", ["b"]),
    ],
)  # fmt: skip
def test_changed_values_are_named_by_their_keys(before: str, after: str, changed: list[str]) -> None:
    """Those of the newer text in its order, then those that are gone."""
    assert keys(before, after) == changed


def test_an_application_tag_is_a_part_of_the_value() -> None:
    assert keys("a: !secret x", "a: !secret x # comment", keeps_tags=True) == []
    assert keys("a: !secret x", "a: x", keeps_tags=True) == ["a"]
    assert keys("a: !secret x", "a: !env x", keeps_tags=True) == ["a"]
    assert keys("a: !one {b: 1}", "a: !two {b: 1}", keeps_tags=True) == ["a"]
    assert keys("a: [!one 1]", "a: [!two 1]", keeps_tags=True) == ["a"]


def test_names_and_their_number_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    (long,) = keys(f"{'k' * 1000}: 1", f"{'k' * 1000}: 2")
    assert len(long) == 60
    deep = "a: " + "{a: " * 90 + "1" + "}" * 90
    (path,) = keys(deep, deep.replace("1", "2"))
    assert path == ".".join("a" * 91)
    monkeypatch.setattr(changes, "KEYS_MAX", 3)
    many, more = (examine("".join(f"k{i}: {value}\n" for i in range(5)).encode()) for value in (1, 2))
    assert changed_keys(many, more) == (["k0", "k1", "k2"], True)
