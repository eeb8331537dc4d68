"""What the documents list is what there is."""

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import dropmill
from dropmill.live.subscriber import JOINED_MAX
from dropmill.model import errors
from dropmill.model.errors import DropmillError
from dropmill.model.events import DATA_KEYS, EventName, Subject, topics_of
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.jobs import Progress
from dropmill.web import services
from dropmill.web.api import live
from dropmill.web.server import guard, refusal, tcp, websocket
from dropmill.wire import socket
from dropmill.wire.events import EventJson, EventPageJson, SubjectJson

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SOURCE = Path(dropmill.__file__).parent


def rows(text: str) -> list[list[str]]:
    """The cells of every table row that begins with a word in backquotes or a number."""
    lines = re.findall(r"^\| (`.*|\d.*) \|$", text, re.MULTILINE)
    return [re.split(r" \| ", line) for line in lines]


def section(name: str, title: str) -> str:
    """The text below one headline of a document."""
    return re.split(r"^## ", (DOCS / name).read_text().split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def below(root: type[DropmillError]) -> Iterator[type[DropmillError]]:
    """A class of error and those derived from it."""
    if root.__module__ == errors.__name__:
        yield root
    for child in root.__subclasses__():
        yield from below(child)


def test_every_error_is_listed_with_its_status() -> None:
    listed = {row[0].strip("`"): row[1] for row in rows((DOCS / "errors.md").read_text())}
    own = {error.code: str(error.status) for error in below(DropmillError)}
    framework = {refusal.code_of(status): str(status) for status in {*refusal.DETAILS, *guard.HTTP_DETAILS}}
    for code in socket.OWN_CODES:
        assert listed.pop(code)  # replies have no status
    assert listed == framework | own


def test_every_error_says_what_to_do() -> None:
    for row in rows((DOCS / "errors.md").read_text()):
        assert row[-1].endswith((".", "`."))
        assert row[-2].endswith(".")


def test_every_event_is_listed_with_its_keys_and_topics() -> None:
    listed = {row[0].strip("`"): row for row in rows(section("live.md", "Events"))}
    assert list(listed) == [name.value for name in EventName]
    for name in EventName:
        _, meaning, keys, topics = listed[name.value]
        assert meaning
        assert tuple(re.findall(r"`(\w+)`", keys)) == DATA_KEYS[name]
        is_about_submission = not name.value.startswith(("config.", "account.", "link."))
        subject = Subject(submission_id=SubmissionId("<id>") if is_about_submission else None)
        assert tuple(re.findall(r"`([^`]+)`", topics)) == topics_of(name, subject)


def fields_in(cell: str) -> list[str]:
    """The fields that a cell of a table names: the words in backquotes that are not in brackets."""
    return re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cell))


def test_every_message_of_a_client_is_listed_with_its_fields() -> None:
    listed = {row[0].strip("`"): fields_in(row[1]) for row in rows(section("live.md", "From the client"))}
    assert set(socket.CLIENT_MESSAGES.values()) == set(get_args(socket.ClientMessage))
    assert listed == {kind: list(made.__dataclass_fields__) for kind, made in socket.CLIENT_MESSAGES.items()}


def test_every_message_of_the_server_is_listed_with_its_fields() -> None:
    listed = {row[0].strip("`"): fields_in(row[1]) for row in rows(section("live.md", "From the server"))}
    sent = {}
    for message in get_args(socket.ServerMessage):
        (kind, value), *others = message.__annotations__.items()
        assert kind == "type"
        sent[get_args(value)[0]] = [name for name, _ in others]
    assert listed == sent


def test_every_message_of_the_server_is_made_with_exactly_its_fields() -> None:
    """What is sent has the fields of its type, which the test above compares with the document."""
    samples: dict[Any, Any] = {
        datetime: datetime(2026, 3, 1, tzinfo=UTC),
        Progress: Progress(submission_id=SubmissionId("s"), file_id=FileId("f"), stage="upload", value=3),
    }
    made = set()
    for name, maker in inspect.getmembers(socket, inspect.isfunction):
        hints = get_type_hints(maker)
        if (kind := hints.pop("return", None)) in get_args(socket.ServerMessage):
            assert list(maker(*(samples.get(hint, "") for hint in hints.values()))) == list(kind.__annotations__), name
            made.add(kind)
    assert made == set(get_args(socket.ServerMessage))


def test_the_shapes_of_an_event_of_its_subject_and_of_a_page_are_the_documents() -> None:
    events, without = (" ".join(section("live.md", title).split()) for title in ("Events", "Without a socket"))
    assert f"An event is {in_braces(EventJson)}; `subject` is {in_braces(SubjectJson)}" in events
    assert f"returns {in_braces(EventPageJson)}" in without.replace(": [...]", "")


def in_braces(shape: Any) -> str:
    return "`{" + ", ".join(f'"{name}"' for name in shape.__annotations__) + "}`"


def emitted() -> set[str]:
    """The members of `EventName` that the ledger's engines name other than to compare something with them."""
    found = set()
    for path in sorted((SOURCE / "engines").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        compared = {inner for node in nodes if isinstance(node, ast.Compare) for inner in ast.walk(node)}
        found |= {
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "EventName" and node not in compared
        }
    return found


def test_every_event_is_emitted() -> None:
    """One that is only documented fails here; one that is only emitted fails where the two lists are compared."""
    assert emitted() == set(EventName.__members__)


def test_limits_and_close_codes_are_those_of_the_code() -> None:
    text = (DOCS / "live.md").read_text()
    codes = {row[0] for row in rows(section("live.md", "Closing"))}
    assert codes == {
        "1009",
        "1012",
        str(websocket.WS_BAD),
        str(services.SIGN_IN),
        str(live.WS_TOO_SLOW),
        str(live.WS_TRY_AGAIN),
        str(websocket.WS_FLOOD),
    }
    assert f"at most {JOINED_MAX} a connection" in text
    assert f"more than {live.MESSAGES_PER_S} a second, after {live.MESSAGES_BURST} at once" in text
    assert f"for {live.SEND_TIMEOUT_S} s" in text
    assert f"{tcp.DRAIN_BODY_S:.0f} s later" in text
    assert f"(at most {socket.POLL_WAIT_MAX_S})" in text


def members() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What each module of the code defines, by its name without folders, and what each class has, inherited or not."""
    modules: dict[str, set[str]] = {}
    classes: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        defined = modules.setdefault(path.parent.name if path.name == "__init__.py" else path.stem, set())
        for node in ast.parse(path.read_text()).body:
            defined |= names_bound(node)
            if isinstance(node, ast.ClassDef):
                of_class = classes.setdefault(node.name, set())
                for part in node.body:
                    of_class |= names_bound(part)
                bases.setdefault(node.name, set()).update(base.id for base in node.bases if isinstance(base, ast.Name))
    for _ in range(5):  # deeper than any class of ours
        for name, parents in bases.items():
            classes[name].update(*(classes.get(parent, set()) for parent in parents))
    return modules, classes


def names_bound(node: ast.stmt) -> set[str]:
    """The names that a statement of a module or a class defines."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def exists(name: str, modules: dict[str, set[str]], classes: dict[str, set[str]]) -> bool:
    """Whether a path, `module.name`, `Class.name` or a name of its own is one of the tree."""
    if "/" in name or re.search(r"\.(py|md|toml|lock|yaml|conf|sqlite)$", name):
        return any((base / name).exists() for base in (ROOT, SOURCE))
    owner, _, name = name.removesuffix("()").rpartition(".")
    if owner:
        return name in classes.get(owner, ()) or name in modules.get(owner, ())
    return name in classes or any(name in defined for defined in modules.values())


NAMED = r"(?:[\w.-]+/)+[\w.*/-]*|[A-Z]\w*[a-z]\w*|\w*_\w+\(\)|[\w.]+\.\w+(?:\(\))?|\w+_\w+"
"""What in backquotes names a part of the tree: a path, a class, a function, something of a module or class."""


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_name_of_the_code_is_in_the_code(document: str) -> None:
    """A path, module, class or function that a document names exists; events, error codes and data paths aside."""
    modules, classes = members()
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
    others = {name.value for name in EventName} | {error.code for error in below(DropmillError)} | {"Host", "Origin"}
    named = {found for found in re.findall(r"`([^`\n]+)`", text) if re.fullmatch(NAMED, found)} - others
    assert len(named) > 15
    missing = {name for name in named if not name.startswith("data/") and not exists(name, modules, classes)}
    assert sorted(missing) == []


def test_every_target_of_make_is_explained() -> None:
    """CONTRIBUTING.md names no target that is missing, and leaves out none that people type."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert named <= targets
    assert targets - named <= {"help", "install"}  # plain `make`, and what every other target does first
