"""docs/api.md has every route, parameter, header, shape and error code of the code, and nothing else."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, is_typeddict

import pytest
from quart import Quart

import dropmill.web
import dropmill.wire
from dropmill.app import create_app
from dropmill.model import errors
from dropmill.model.errors import DropmillError, SettingsError
from dropmill.settings import Settings
from dropmill.web.server import guard, refusal

API = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
HANDLERS = Path(dropmill.web.__file__).parent / "api"

LIMIT = "limit"


def cells(row: str) -> list[str]:
    return row.strip().strip("|").strip().split(" | ")


CALLS = {
    found[0].strip("`"): found
    for row in API.splitlines()
    if re.match(r"\| `(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /", row) and (found := cells(row))
}
"""The rows of all tables of calls, by method and address."""

SHAPES = {found[0]: found[1] for row in API.split("| Shape | Fields |")[1].splitlines()[2:] if (found := cells(row))}


def words(cell: str) -> set[str]:
    """The words in backquotes of a cell that are not in brackets, headers aside."""
    return set(re.findall(r"`([a-z_0-9]+)`", re.sub(r"\([^)]*\)", "", cell)))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Quart:
    return create_app(Settings(data=tmp_path_factory.mktemp("data")), owns_sockets=True)


def calls_of(app: Quart) -> dict[str, Any]:
    """Every method and address that the app answers, with its handler; what each route answers besides left out."""
    found: dict[str, Any] = {}
    for rule in app.url_map.iter_rules():
        address = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        methods = set(rule.methods or ())
        if getattr(rule, "provide_automatic_options", False):
            methods.discard("OPTIONS")
        if "GET" in methods:
            methods.discard("HEAD")
        for method in methods:
            found[f"{method} {address}"] = app.view_functions[rule.endpoint]
    return found


def reached(function: Any, seen: set[Any] | None = None) -> Iterator[tuple[FunctionType, ast.AST]]:
    """A handler and the functions of the handlers' modules that it calls, each with its syntax tree."""
    seen = set() if seen is None else seen
    function = inspect.unwrap(function)
    if function in seen or not inspect.isfunction(function) or not function.__module__.startswith("dropmill.web."):
        return
    seen.add(function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    yield function, tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from reached(function.__globals__.get(node.func.id), seen)


def parameters_of(function: Any) -> set[str]:
    """The query parameters that a handler reads."""
    found = set()
    for _, tree in reached(function):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("query."):
                found.add(ast.literal_eval(node.args[0]) if node.args else LIMIT)
    return found


def raised_in(function: Any) -> set[str]:
    """The codes of the errors that a handler raises itself."""
    found = {"bad_parameter"} if parameters_of(function) else set()
    for part, tree in reached(function):
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                kind = part.__globals__.get(ast.unparse(node.exc.func))
                if isinstance(kind, type) and issubclass(kind, DropmillError):
                    found.add(kind.code)
    return found


def below(root: type[DropmillError]) -> Iterator[type[DropmillError]]:
    if root.__module__ == errors.__name__:
        yield root
    for child in root.__subclasses__():
        yield from below(child)


def test_every_route_has_a_row_and_every_row_a_route(app: Quart) -> None:
    assert sorted(CALLS) == sorted(calls_of(app))


def test_every_query_parameter_is_listed(app: Quart) -> None:
    for call, handler in calls_of(app).items():
        listed = {word for word in words(CALLS[call][1].split("header")[0]) if word != "none"}
        assert listed == parameters_of(handler), call


def test_every_header_that_a_handler_reads_is_named() -> None:
    """As a text of a handler's module that is compared or looked up: `Upload-Offset`, `If-Match`."""
    sources = [path.read_text() for path in sorted(HANDLERS.glob("*.py"))]
    asked = r'(?:request\.headers(?:\.get(?:list)?\(|\[)|_number\()"([A-Z][\w-]+)"|"([A-Z][\w-]+)" in request\.headers'
    names = {a or b for source in sources for a, b in re.findall(asked, source)}
    names -= {"Content-Type", "Upload-Complete", "Content-MD5"}  # every body's; headers that are only refused
    assert len(names) > 10
    assert {name for name in names if f"`{name}" not in API} == set()


def test_every_code_that_a_handler_raises_is_listed_with_it(app: Quart) -> None:
    for call, handler in calls_of(app).items():
        assert raised_in(handler) <= words(CALLS[call][4]), call


def test_every_error_code_has_a_call_and_every_code_is_one() -> None:
    framework = {refusal.code_of(status) for status in {*refusal.DETAILS, *guard.HTTP_DETAILS}}
    of_a_start = {error.code for error in below(SettingsError)}
    answered = framework | {error.code for error in below(DropmillError)} - of_a_start - {DropmillError.code}
    everywhere = API.split("\n## Every route\n")[1].split("\n## ")[0]
    common = {code for row in everywhere.splitlines() if row.startswith("| `") for code in words(cells(row)[0])}
    assert common | {code for call in CALLS.values() for code in words(call[4])} == answered


def shapes() -> dict[str, list[str]]:
    """The fields of every shape that `dropmill.wire` makes, without the messages of the socket."""
    found = {}
    for module in pkgutil.iter_modules(dropmill.wire.__path__, "dropmill.wire."):
        for name, member in vars(importlib.import_module(module.name)).items():
            if is_typeddict(member) and name.endswith("Json"):
                optional = member.__optional_keys__
                found[name.removesuffix("Json")] = [
                    f"{field}{'?' * (field in optional)}" for field in member.__annotations__
                ]
    return found


def test_every_shape_is_listed_with_its_fields() -> None:
    listed = {
        name: [field + mark for field, mark in re.findall(r"`(\w+)`(\??)", re.sub(r"\([^)]*\)", "", text))]
        for name, text in SHAPES.items()
    }
    assert listed == shapes()
