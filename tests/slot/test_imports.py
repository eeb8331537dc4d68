"""What the slot program imports: the standard library, its own modules, and ruamel.yaml when a config is asked for."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.bench import Bench

import dropmill.slot

FOLDER = Path(dropmill.slot.__file__).parent
LAZY = {("config.py", "ruamel.yaml"), ("forking.py", "ruamel.yaml")}
"""Where a module that is not of the standard library may be imported inside a function."""


def foreign(name: str, source: str) -> Iterator[str]:
    """The modules outside the standard library and the slot that a module of the slot imports or names."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    in_functions = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        for module in imported(node):
            is_own = module == "dropmill.slot" or module.startswith("dropmill.slot.")
            is_lazy = id(node) in in_functions and any(
                name == file and (module == allowed or module.startswith(f"{allowed}.")) for file, allowed in LAZY
            )
            if not (is_own or is_lazy or module.partition(".")[0] in sys.stdlib_module_names):
                yield module


def imported(node: ast.AST) -> list[str]:
    """The modules that one statement or call imports."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, level=level):
            return ["." * level + (module or "")]
        case ast.Call(func=called, args=[ast.Constant(value=str(module)), *_]):
            return [module] if ast.unparse(called).rpartition(".")[2] in ("import_module", "__import__") else []
    return []


def test_the_slot_imports_the_standard_library_alone() -> None:
    found = {path.name: list(foreign(path.name, path.read_text())) for path in FOLDER.rglob("*.py")}
    assert len(found) > 5
    assert {name: modules for name, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from dropmill.model.jobs import JobState\n",
        "import dropmill\n",
        "import ruamel.yaml\n",
        "def f():\n    from dropmill.model.jobs import JobState\n",
        "def f():\n    importlib.import_module('dropmill.model.jobs')\n",
        "from .. import model\n",
    ],
)
def test_each_way_to_import_something_else_is_found(source: str) -> None:
    assert len(list(foreign("config.py", source))) == 1


async def test_an_attempt_that_asks_for_everything_has_loaded_nothing_else_of_dropmill(tmp_path: Path) -> None:
    module = """
import sys
def process(file, config, results, work, report):
    report(1, 2, "label")
    return sorted(name for name in sys.modules if name.startswith("dropmill") and ".slot" not in name)
"""
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        assert (await bench.run())[0].value == ["dropmill"]
