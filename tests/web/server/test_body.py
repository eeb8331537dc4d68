"""Nothing reads a request's body but `dropmill.web.server.body`."""

import ast
from pathlib import Path

import pytest

import dropmill.web

WEB = Path(dropmill.web.__file__).parent
FRAMEWORK = {"server/body.py", "server/connection.py"}
"""`body` itself, and the connection that fills it."""

DOORS = {"body", "data", "form", "files", "json", "values", "stream", "get_data", "get_json"}
"""What Quart's request offers of its body."""


@pytest.mark.parametrize("path", [p for p in sorted(WEB.rglob("*.py")) if str(p.relative_to(WEB)) not in FRAMEWORK])
def test_only_one_function_hands_out_a_body(path: Path) -> None:
    read = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "request" and node.attr in DOORS
    ]
    assert not read


def test_the_one_function_is_the_only_one_in_its_module() -> None:
    tree = ast.parse((WEB / "server/body.py").read_text())
    readers = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and "request.body" in ast.unparse(function)
    ]
    assert readers == ["chunks"]
