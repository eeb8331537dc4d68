"""What the documents list is what there is."""

import re
from collections.abc import Iterator
from pathlib import Path

from dropmill.live.stream import JOINED_MAX
from dropmill.model import errors
from dropmill.model.errors import DropmillError
from dropmill.model.events import DATA_KEYS, EventName, Subject, topics_of
from dropmill.model.ids import SubmissionId
from dropmill.web.api import live
from dropmill.web.server import connection, hypercorn
from dropmill.wire import messages

HTTP_ERRORS = ("request_header_fields_too_large", "not_implemented")
ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


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
    for code in ("method_not_allowed", "internal_error", "bad_message", "too_many", *HTTP_ERRORS):
        assert listed.pop(code)
    assert listed == {error.code: str(error.status) for error in below(DropmillError)}


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
        kind = name.value.partition(".")[0]
        subject = Subject(
            submission_id=None if kind in ("config", "account") else SubmissionId("<id>"),
            account="<id>" if kind == "account" else None,
        )
        assert tuple(re.findall(r"`([^`]+)`", topics)) == topics_of(name, subject)


def test_every_message_of_a_client_is_listed_with_its_fields() -> None:
    listed = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows(section("live.md", "From the client"))
    }
    kinds = messages.ClientMessage.__args__
    assert listed == {kind.__name__.lower(): set(kind.__dataclass_fields__) for kind in kinds}


def test_every_message_of_the_server_is_listed() -> None:
    listed = [row[0].strip("`") for row in rows(section("live.md", "From the server"))]
    makers = {"hello", "reply", "snapshot", "events", "progress", "output", "gap", "tick"}
    assert set(listed) == makers
    assert all(callable(getattr(messages, maker)) for maker in makers)


def test_limits_and_close_codes_are_those_of_the_code() -> None:
    text = (DOCS / "live.md").read_text()
    codes = {row[0] for row in rows(section("live.md", "Closing"))}
    assert codes == {
        "1009",
        "1012",
        str(connection.WS_BAD),
        str(live.WS_TOO_SLOW),
        str(live.WS_TRY_AGAIN),
        str(connection.WS_FLOOD),
    }
    assert f"at most {JOINED_MAX} a connection" in text
    assert f"more than {live.MESSAGES_PER_S} a second, after {live.MESSAGES_BURST} at once" in text
    assert f"for {live.SEND_TIMEOUT_S} s" in text
    assert f"{hypercorn.DRAIN_BODY_S:.0f} s later" in text
    assert f"(at most {live.WAIT_MAX_S})" in text


def test_every_target_of_make_is_explained() -> None:
    """CONTRIBUTING.md names no target that is missing, and leaves out none that people type."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert named <= targets
    assert targets - named <= {"help", "install"}  # plain `make`, and what every other target does first
