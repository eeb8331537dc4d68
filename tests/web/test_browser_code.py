"""What the browser code has to know of the server: each event, each error, each reason why a value cannot be edited."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from tests.support.missing import missing

import dropmill
from dropmill.engines.sql.attempts import LOST
from dropmill.model import errors
from dropmill.model.errors import (
    DropmillError,
    RequestTooSlow,
    TooManyAttempts,
    TooManyConnections,
    TooManyRequests,
    TooManySubmissions,
    TooManyUploads,
    Unavailable,
)
from dropmill.model.events import EventName
from dropmill.web import messages, pages
from dropmill.wire.encoding import dumps
from dropmill.wire.problem import problem_json

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "static" / "js"
NEVER_OF_A_FIELD = {
    "not_a_value",  # of a group, whose members are edited instead
    "not_found",  # of an edit of a place that is not there; each field is there
    "test_failed",  # of the operation `test`, which the form does not send
}


def answer_of(script: str, given: Any = None) -> Any:
    """What a script answers in Node.js. It imports the page's own modules and gets `given`."""
    node = shutil.which("node")
    if node is None:
        missing("There is no node; run: apt-get install -y nodejs (or: make test-setup)")
    whole = f"const given = {json.dumps(given)};\n{script}"
    command = [node, "--import", "./tests/js/as-modules.mjs", "--input-type=module", "--eval", whole]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def errors_below(root: type[DropmillError]) -> Iterator[type[DropmillError]]:
    """Every error of the tree below one."""
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from errors_below(child)


ERRORS = sorted({error for error in errors_below(DropmillError) if error.status != 500}, key=lambda error: error.code)


def test_each_sentence_about_an_error_is_for_a_code_that_there_is() -> None:
    codes = {error.code for error in errors_below(DropmillError)} | {"internal_error"}
    assert {key.partition(".")[0] for key in messages.area("en", "problem")} <= codes


@pytest.mark.parametrize("language", messages.LANGUAGES)
def test_page_and_server_say_the_same_of_an_error(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documents: list[dict[str, Any]] = [{"code": error.code} for error in ERRORS]
    documents += [
        {"code": "file_too_large", "file": "a\u202e.bin", "limit": 2048},
        {"code": "too_large", "limit": 3 * 1024**2},
        {"code": "too_many_files", "limit": 1},
        {"code": "too_many_files", "limit": 10_000},
        {"code": "file_type_not_accepted", "file": "a.exe", "accept": [".csv", "image/*"]},
        {"code": "bad_parameter", "reason": "too_short", "limit": 3},
        {"code": "bad_parameter", "reason": "too_long", "limit": 2000},
        {"code": "bad_parameter", "reason": "too_long"},
        {"code": "bad_parameter", "reason": "not_a_time"},
        {"code": "bad_password", "reason": "too_short", "limit": 10},
        {"code": "bad_password", "reason": "too_short"},
        {"code": "bad_password", "reason": "too_long", "limit": 1024},
        {"code": "bad_password", "reason": "too_long"},
        {"code": "bad_password", "reason": "well_known"},
        {"code": "bad_password", "reason": "like_name"},
        {"code": "too_many_attempts", "retry_after": 1},
        {"code": "too_many_attempts", "retry_after": 20},
        {"code": "bad_parameter", "reason": "unheard_of"},
    ]
    areas = json.dumps(messages.embedded(language, ["core", "problem"]))
    script = f"""
        globalThis.messages = {json.dumps(areas)};
        const {{ problemText }} = await import("./static/js/core/problem.js");
        console.log(JSON.stringify(given.map((one) => problemText(one) || null)));
    """
    monkeypatch.setattr(pages, "language", lambda: language)
    said = [pages.problem_words(one["code"], one) for one in documents]
    assert [None if words is None else unescape(words) for words in said] == answer_of(script, documents)


def test_each_event_is_folded_by_the_page_or_ignored_for_a_reason() -> None:
    script = """
        const { FOLDED_EVENTS, IGNORED_EVENTS } = await import("./static/js/submission/model.js");
        console.log(JSON.stringify([...FOLDED_EVENTS, ...IGNORED_EVENTS].sort()));
    """
    assert answer_of(script) == sorted(EventName)


def test_each_state_has_a_look_of_its_own() -> None:
    """Those that a row or an attempt can be in; an unknown one would be drawn like one that waits."""
    script = """
        const { LOOKS } = await import("./static/js/core/words.js");
        console.log(JSON.stringify(Object.keys(LOOKS).sort()));
    """
    states = {key[6:] for key in messages.area("en", "core") if key.startswith("state.")}
    of_submissions = {"open", "processing", "settled"}  # the history's template colours them
    assert answer_of(script) == sorted(states - of_submissions)


def test_a_page_shows_the_servers_sentence_of_each_error_that_it_has_none_for_else_its_title() -> None:
    script = """
        const { Problem } = await import("./static/js/core/api.js");
        console.log(JSON.stringify(given.map(([status, text]) => Problem.from(status, text).message)));
    """
    other = [error for error in ERRORS if error.code not in messages.area("en", "problem")]
    told = [(error.status, dumps(problem_json(error.status, error.title, "Why.", error.code, {}))) for error in other]
    untold = [(error.status, dumps(problem_json(error.status, error.title, "", error.code, {}))) for error in other]
    assert answer_of(script, told + untold) == ["Why."] * len(other) + [error.title for error in other]


def test_a_page_that_sends_retries_exactly_the_errors_that_pass() -> None:
    script = """
        const { isTemporary } = await import("./static/js/upload/retrying.js");
        console.log(JSON.stringify(given.filter(([, status]) => isTemporary({ status }, false)).map(([code]) => code)));
    """
    too_many = (TooManyUploads, TooManyConnections, TooManyAttempts, TooManySubmissions, TooManyRequests)
    passing = (Unavailable, RequestTooSlow, *too_many)
    expected = [error.code for error in ERRORS if issubclass(error, passing)]
    assert answer_of(script, [(error.code, error.status) for error in ERRORS]) == expected


def test_each_reason_against_editing_a_value_has_a_sentence_in_the_form() -> None:
    sources = [path.read_text() for path in Path(dropmill.__file__).parent.rglob("*.py")]
    reasons = {reason for text in sources for reason in re.findall(r'raise NoExactEdit\("([a-z_]+)"', text)}
    assert len(reasons) > 5
    script = """
        const { refusalText } = await import("./static/js/config/field.js");
        console.log(JSON.stringify(given.filter((reason) => refusalText(reason) === refusalText(""))));
    """
    assert answer_of(script, sorted(reasons - NEVER_OF_A_FIELD)) == []


def test_the_documented_reasons_against_an_edit_are_those_that_are_given() -> None:
    sources = [path.read_text() for path in (Path(dropmill.__file__).parent / "configfile").rglob("*.py")]
    given = {one for text in sources for one in re.findall(r'(?:raise NoExactEdit\(|\breason=)"([a-z_]+)"', text)}
    named = set(re.findall(r"`([a-z_]+)`", errors.ConfigEditRefused.__doc__ or "")) - {"reason", "path"}
    assert named == given
    documented = next(
        line for line in (ROOT / "docs/errors.md").read_text().splitlines() if "config_edit_refused" in line
    )
    assert {reason for reason in given if f"`{reason}`" not in documented} == set()
    assert "multiple_documents" not in documented


def test_each_error_that_the_server_gives_a_job_is_no_word_of_the_script_on_its_page() -> None:
    sources = [path.read_text() for path in (Path(dropmill.__file__).parent / "processing").glob("*.py")]
    found = {kind for text in sources for kind in re.findall(r'(?:JobError\(type=|_Refused\(\s*)"([a-z_]+)"', text)}
    types = sorted((found | {LOST}) - {"exit_code"})  # whose message is the last line that the script wrote
    assert len(types) > 8
    script = """
        const { wordsOf } = await import("./static/js/job/failure.js");
        console.log(JSON.stringify(given.filter((type) => wordsOf({ type, message: "said by the server" }) !== "")));
    """
    assert answer_of(script, types) == []


def test_each_status_that_a_script_asks_for_is_one_that_an_error_has() -> None:
    """A comparison with another one would be left over."""
    found = {
        int(status)
        for path in SCRIPTS.glob("config/*.js")
        for status in re.findall(r"\.status === ([1-9]\d*)", path.read_text())
    }
    assert found
    assert found <= {error.status for error in ERRORS}
