"""What the code does not use, because foreign text would be run, followed or built into a query by it.

`docs/asvs.md` relies on it. Every exception has its reason beside it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dropmill

SOURCE = Path(dropmill.__file__).parent
SCRIPTS = Path(__file__).parent.parent / "static" / "js"
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}

RUNS_TEXT = {
    "slot/callable.py": {"eval"},  # an annotation of the script's own function, in the script's own process
}
FOREIGN_OBJECTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
XML = {"xml", "lxml", "defusedxml", "bs4", "html5lib"}
WEAK_RANDOM = {
    "model/jobs.py",  # how long a retry waits
    "upkeep/membership.py",  # when to look for others that are gone
    "upkeep/webhook.py",  # how long a repetition waits
    "client/following.py",  # how long a client waits
}
OLD_HASHES = {
    "intake/tus.py",  # a checksum of a chunk by the tus protocol, against damage on the way; nobody trusts it
}
RAW_SQL = {
    "engines/sqlite/ledger.py",  # pragmas, from constants
    "engines/sqlite/search.py",  # the full-text index, from constants
    "engines/sqlite/transfer.py",  # locks and pragmas, from constants
    "engines/postgres/ledger.py",  # locks and notifications, from constants
    "engines/sql/database.py",
    "engines/sql/prepared.py",  # what SQLAlchemy has compiled, with its parameters beside it
    "engines/sql/migrations/versions",  # steps of the schema, from constants
    "cli/doctor/host.py",  # pragmas, from constants
}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call, with the name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_no_text_is_run_as_code() -> None:
    found = {
        path: names
        for path, tree in TREES.items()
        if (
            names := {
                name
                for name, _ in calls(tree)
                if name in ("eval", "exec", "compile", "__import__", "render_template_string")
            }
        )
    }
    assert found == RUNS_TEXT


def test_no_shell_is_started() -> None:
    for path, tree in TREES.items():
        for name, call in calls(tree):
            assert name not in ("os.system", "os.popen", "subprocess.getoutput", "asyncio.create_subprocess_shell"), (
                path
            )
            assert not any(word.arg == "shell" for word in call.keywords), path


VARIABLE_PATTERNS = {
    "configfile/schema/messages.py",  # of the schema that lies beside the config, in a child process with a time limit
    "configfile/schema/schema.py",
    "configfile/yaml/locate.py",  # a number
    "intake/multipart.py",  # a boundary, through `re.escape`
}
SETVAL = "SELECT setval(pg_get_serial_sequence({table}, {column}), max({name})) FROM {of} HAVING count(*) > 0"
FORMATS = {
    ("wire/log_line.py", "CATALOGUE[event.name].message.format_map"),  # a text of the code, by an event's name
    # The driver quotes what it puts in: names of our tables and columns, and a channel's.
    ("engines/postgres/bus.py", "sql.SQL('LISTEN {}').format"),
    ("engines/postgres/transfer.py", "sql.SQL('ANALYZE {}').format"),
    ("engines/postgres/transfer.py", f"sql.SQL('{SETVAL}').format"),
}
PATTERN = {"compile", "match", "fullmatch", "search", "sub", "findall", "finditer", "split"}


def test_no_pattern_is_made_from_foreign_text() -> None:
    """Regular expressions are written in the code, perhaps with constants of the code in them."""
    found = set()
    for path, tree in TREES.items():
        for name, call in calls(tree):
            if not name.startswith("re.") or name[3:] not in PATTERN:
                continue
            parts = {ast.unparse(node) for node in ast.walk(call.args[0]) if isinstance(node, ast.Name | ast.Attribute)}
            if not all(re.fullmatch(r"(re\.)?_?[A-Z][A-Z0-9_]*|len", part) for part in parts):
                found.add(path)
    assert found == VARIABLE_PATTERNS


def test_no_foreign_text_is_a_format() -> None:
    """`"...".format(...)`, of texts in the code; a catalogue's texts are in the code, too."""
    found = {
        (path, ast.unparse(call.func))
        for path, tree in TREES.items()
        for name, call in calls(tree)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("format", "format_map")
        and not isinstance(call.func.value, ast.Constant)
    }
    assert found == FORMATS


def test_no_foreign_object_is_made_and_no_xml_is_read() -> None:
    for path, tree in TREES.items():
        assert imported(tree).isdisjoint(FOREIGN_OBJECTS | XML), path


def test_what_must_not_be_guessed_is_not_random_in_the_ordinary_way() -> None:
    assert {path for path, tree in TREES.items() if "random" in imported(tree)} == WEAK_RANDOM


def test_old_hashes_are_used_only_where_nothing_is_trusted_to_them() -> None:
    for path, tree in TREES.items():
        named = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} | {
            node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
        }
        assert path in OLD_HASHES or named.isdisjoint({"md5", "sha1", "MD5", "SHA1"}), path


def test_no_query_is_put_together_from_text() -> None:
    """Other modules than these have SQLAlchemy make each query, with its values as parameters."""
    for path, tree in TREES.items():
        if path in RAW_SQL or path.rpartition("/")[0] in RAW_SQL:
            continue
        for name, call in calls(tree):
            method = name.rpartition(".")[2]
            assert method != "exec_driver_sql", path
            if "sqlalchemy" in imported(tree) and name in ("text", "sa.text", "literal_column"):
                assert all(isinstance(one, ast.Constant) for one in call.args), (path, ast.unparse(call))


def test_no_script_sets_a_property_by_a_foreign_name() -> None:
    """`object[name] = value` with a name from elsewhere could change every object (`__proto__`)."""
    found = {
        (path.name, name)
        for path in SCRIPTS.rglob("*.js")
        for name in re.findall(r"([\w#.]+\[[A-Za-z_]\w*\]) = ", path.read_text())
    }
    assert found == {
        ("lines.js", "match[at]"),  # a list, by place
        ("parallel.js", "results[at]"),
        ("row-layout.js", "this.#kinds[index]"),
        ("history.js", "this.#pair[side]"),  # `from` or `to`
        ("link-enter-page.js", "given[name]"),  # `passphrase` or `name`
    }


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.js")), ids=lambda path: path.relative_to(SCRIPTS).as_posix())
def test_no_script_makes_html_or_code_from_text(path: Path) -> None:
    text = path.read_text()
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc", "eval("):
        assert name not in text
    assert not re.search(r"new Function\b|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]|javascript:", text)


def test_a_message_of_another_window_counts_only_from_our_own_origin() -> None:
    """A window's `message` event, not that of a socket, a channel or a port, which are not open to others."""
    listening = [
        (path, found)
        for path in SCRIPTS.rglob("*.js")
        for found in re.findall(r"^\s*(?:window\.)?addEventListener\(\"message\".*", path.read_text(), re.MULTILINE)
    ]
    assert {path.name for path, _ in listening} == {"drop.js"}
    text = (SCRIPTS / "upload" / "drop.js").read_text()
    assert text.count("origin !== location.origin") == len(listening)
    assert all(", location.origin)" in line for line in text.splitlines() if "postMessage(" in line)
