"""Fakes are what they stand for, as far as types can tell.

mypy compares a fake with the Protocol or the class wherever a test hands it over, so a signature that drifts fails
`make check`. A cast or an ignored error would hide just that.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

CODES = {
    "attr-defined",  # a library without types, or an attribute that a test adds
    "import-untyped",
    "method-assign",
    "misc",
    "name-defined",
    "no-untyped-def",
    "union-attr",
}
"""Codes of mypy that a test may ignore: none of them lets one type pass for another."""

IGNORED = re.compile(r"#\s*(?:type|mypy)\s*:\s*(?:ignore|disable|allow)[\w-]*\s*(?:\[([^\]]*)\])?")


def hidden(text: str) -> Iterator[str]:
    """Where a Python source keeps mypy from comparing two types."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("typing", "typing_extensions"):
            if any(name.name == "cast" for name in node.names):
                yield f"line {node.lineno}: imports cast"
        elif isinstance(node, ast.Attribute) and node.attr == "cast" and isinstance(node.value, ast.Name):
            yield f"line {node.lineno}: {node.value.id}.cast"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (found := IGNORED.search(token.string)) is not None:
            codes = {code.strip() for code in (found[1] or "").split(",")}
            if not codes <= CODES:
                yield f"line {token.start[0]}: {token.string}"


def test_no_test_passes_one_type_for_another() -> None:
    found = {
        str(path.relative_to(TESTS)): places
        for path in sorted(TESTS.rglob("*.py"))
        if (places := list(hidden(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "from typing import Any, cast\n",
        "from typing import cast as sure\n",
        "import typing\nx = typing.cast(int, y)\n",
        "import typing as t\nx = t.cast('Bus', y)\n",
        "x: int = y  # type: ignore\n",
        "f(y)  # type: ignore[arg-type]\n",
        "f(y)  # type: ignore[misc, arg-type]  # because\n",
        "f(y)  #type:ignore[assignment]\n",
        "# mypy: ignore-errors\n",
        '# mypy: disable-error-code="arg-type"\n',
    ],
)
def test_each_way_to_do_so_is_found(text: str) -> None:
    assert len(list(hidden(text))) == 1


@pytest.mark.parametrize(
    "text", ["import dnslib  # type: ignore[import-untyped]\n", "text = '# type: ignore'\n", "broadcast(cast_off)\n"]
)
def test_what_hides_no_type_is_let_be(text: str) -> None:
    assert list(hidden(text)) == []
