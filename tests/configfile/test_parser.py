"""The child process that reads, edits and shows YAML for the server."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.waiting import eventually

from dropmill.configfile import parser_child
from dropmill.configfile.parser import MAX_WAITING, Changes, Edit, ParserProcess
from dropmill.configfile.parser_child import MEMORY_LIMIT
from dropmill.configfile.schema.schema import Schema
from dropmill.configfile.yaml.document import Document, examine
from dropmill.configfile.yaml.edits import Operation, parse_patch
from dropmill.configfile.yaml.findings import MAX_BYTES, MAX_FINDINGS
from dropmill.configfile.yaml.form import MAX_FIELDS, fields_of
from dropmill.model.errors import ConfigEditRefused, ConfigInvalid, Unavailable

BIG = "".join(f"key{i}: value {i} # comment\n" for i in range(20_000)).encode()  # about a second
LIVENESS_S = 20.0
SCHEMA = b'{"properties": {"a": {"type": "integer"}}, "required": ["a"]}'
SHARED: set[int] = set()
MEMORY_LIMITED = f"Max address space {MEMORY_LIMIT} "


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared() -> AsyncIterator[ParserProcess]:
    """For tests that neither look at its child nor end it; `parsers_of` leaves it out."""
    parser = ParserProcess()
    await parser.start()
    SHARED.update(parsers_of(os.getpid()))
    yield parser
    await parser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def parser() -> AsyncIterator[ParserProcess]:
    parser = ParserProcess()
    yield parser
    await parser.close()


def children_of(pid: int) -> list[int]:
    """Processes started by one, whatever thread started them."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in path.read_text().split()]
    return found


def parsers_of(pid: int) -> list[int]:
    marked = b"dropmill.configfile.parser"
    others = [child for child in children_of(pid) if child not in SHARED]
    return [child for child in others if marked in Path(f"/proc/{child}/cmdline").read_bytes()]


def limits_of(pid: int) -> str:
    try:
        return " ".join(Path(f"/proc/{pid}/limits").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    return not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def replaced(path: str, value: object) -> tuple[Operation, ...]:
    return parse_patch([{"op": "replace", "path": path, "value": value}])


@pytest.mark.parametrize(
    "text", [b"a: 1", b"a: no\nb: !x 1\n", b"a: \xe9", b'? "\\ud800"\n: *x', b"", "é😀: 010".encode()]
)
async def test_the_child_says_what_the_rules_say(shared: ParserProcess, text: bytes) -> None:
    assert await shared.check(text) == examine(text).report


@pytest.mark.parametrize("text", [b"a: 1", b"a: x\n", b"a: no", b"b: 1", b"", b"a: [", b"\xff"])
async def test_the_child_says_what_the_schema_says(shared: ParserProcess, text: bytes) -> None:
    assert await shared.check(text, SCHEMA) == Schema.parse(SCHEMA).add_findings(examine(text))
    assert await shared.check(text) == examine(text).report


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (b"", "line 1, column 1"),
        (b'{"type": 1}', "/type"),
        (b'{"$ref": "https://example.com/"}', "nothing is fetched"),
        (b'{"$ref": "#"}', "without end"),
        (b" " * (MAX_BYTES + 1), "more than 1,048,576 bytes"),
    ],
)
async def test_a_schema_that_cannot_be_used_is_a_warning(shared: ParserProcess, schema: bytes, reason: str) -> None:
    text = b"b: 1\na: no\n"
    report = await shared.check(text, schema)
    first, *others = report.warnings
    assert (first.line, first.column, first.path) == (1, 1, "")
    assert first.message.startswith("config.schema.json cannot be used: ")
    assert reason in first.message
    assert first.message.endswith("; the config is checked without it")
    assert tuple(others) == examine(text).report.warnings
    assert report.is_valid
    form = await shared.form(text, (), schema)
    assert form.report == report
    assert form.fields == (await shared.form(text)).fields


async def test_an_unusable_schema_is_told_beside_the_errors_of_a_text_that_is_not_valid(shared: ParserProcess) -> None:
    report = await shared.check(b"a: [", b"{")
    assert report.errors == examine(b"a: [").report.errors
    assert "config.schema.json" in report.warnings[0].message


async def test_a_schema_that_takes_too_long_is_a_warning_that_says_so() -> None:
    parser = ParserProcess(schema_limit_s=0.5)
    try:
        await parser.start()
        (child,) = parsers_of(os.getpid())
        text, schema = b"a: " + b"x" * 60 + b"!", b'{"properties": {"a": {"pattern": "^(x+)+$"}}}'
        report = await parser.check(text, schema)
        assert report.is_valid
        (warning,) = report.warnings
        assert "takes more than 0.5 seconds" in warning.message
        assert "'pattern'" in warning.message
        assert [field["path"] for field in (await parser.form(text, (), schema)).fields] == ["", "/a"]
        assert (await parser.check(b"b: 1", SCHEMA)).errors[0].message == "a is missing"
        assert parsers_of(os.getpid()) == [child]
    finally:
        await parser.close()


async def test_one_child_serves_many_checks(parser: ParserProcess) -> None:
    await parser.start()
    before = parsers_of(os.getpid())
    reports = await asyncio.gather(*(parser.check(f"a: {i}\na: 2".encode()) for i in range(20)))
    assert {report.errors[0].line for report in reports} == {2}
    assert len(before) == 1
    assert parsers_of(os.getpid()) == before


async def test_text_over_the_size_limit_starts_no_child(parser: ParserProcess) -> None:
    text = b"#" * (MAX_BYTES + 1)
    report = await parser.check(text)
    assert "1,048,577 bytes" in report.errors[0].message
    form = await parser.form(text)
    assert (form.text, form.fields, form.report) == (text, [], report)
    for call in (parser.edit, parser.form):
        with pytest.raises(ConfigInvalid) as caught:
            await call(text, replaced("/a", 1))
        assert caught.value.extra["errors"] == [report.errors[0].as_json()]
    assert parsers_of(os.getpid()) == []


async def test_an_edit_gives_the_new_text_and_what_is_to_be_said_of_it(shared: ParserProcess) -> None:
    text = b"\xef\xbb\xbfa: 1 # one\r\nb:\r\n  - x # gone\r\n  - \xf0\x9f\x98\x80\r\n"
    patch = parse_patch([{"op": "replace", "path": "/a", "value": "é"}, {"op": "remove", "path": "/b/0"}])
    edit = await shared.edit(text, patch, SCHEMA)
    assert edit.text == "\ufeffa: é # one\r\nb:\r\n  - 😀\r\n".encode()
    assert edit.removed_comments == ("# gone",)
    assert [error.message for error in edit.report.errors] == ["a must be a whole number, not the text 'é'"]
    assert edit == Edit(
        text=edit.text, removed_comments=edit.removed_comments, report=await shared.check(edit.text, SCHEMA)
    )
    assert (await shared.edit(b"a: 1", ())).text == b"a: 1"


@pytest.mark.parametrize(
    ("text", "operations", "reason", "path"),
    [
        (b"a: 1", replaced("/b", 2), "not_found", "/b"),
        (b"a: &x 1\nb: *x", replaced("/a", 2), "aliased", "/a"),
        (b"a: 1", parse_patch([{"op": "test", "path": "/a", "value": 2}]), "test_failed", "/a"),
    ],
)
async def test_refusals_come_back_as_they_were_raised(
    shared: ParserProcess, text: bytes, operations: tuple[Operation, ...], reason: str, path: str
) -> None:
    for call in (shared.edit, shared.form):
        with pytest.raises(ConfigEditRefused) as caught:
            await call(text, operations)
        assert dict(caught.value.extra) == {"reason": reason, "path": path}
        assert caught.value.detail.endswith(".")


async def test_a_text_that_is_not_valid_is_not_edited(shared: ParserProcess) -> None:
    for operations in ((), replaced("/a", 2)):
        with pytest.raises(ConfigInvalid) as caught:
            await shared.edit(b"a: [", operations)
        assert caught.value.extra["errors"] == [examine(b"a: [").report.errors[0].as_json()]
    with pytest.raises(ConfigInvalid):
        await shared.form(b"a: [", replaced("/a", 2))


async def test_the_child_shows_the_fields_of_the_text(shared: ParserProcess) -> None:
    text = "# help\na: x # é😀\nb: .inf\n".encode()
    form = await shared.form(text, (), SCHEMA)
    expected, _ = fields_of(examine(text), Schema.parse(SCHEMA))
    assert form.fields == [field.as_json() | {"missing": list(field.missing)} for field in expected]
    assert (form.text, form.removed_comments, form.is_cut) == (text, (), False)
    assert form.report == await shared.check(text, SCHEMA)


async def test_a_form_shows_what_an_edit_made(shared: ParserProcess) -> None:
    form = await shared.form(b"a: x # kept\n", replaced("/a", 3), SCHEMA)
    assert form.text == b"a: 3 # kept\n"
    assert [(field["path"], field["value"]) for field in form.fields] == [("", None), ("/a", 3)]
    assert form.report.is_valid


async def test_a_form_of_a_text_that_is_not_valid_has_no_fields(shared: ParserProcess) -> None:
    form = await shared.form(b"a: [")
    assert (form.text, form.fields) == (b"a: [", [])
    assert form.report == examine(b"a: [").report


async def test_the_largest_answers_arrive(shared: ParserProcess) -> None:
    form = await shared.form(b"".join(b"k%d: 1\n" % i for i in range(MAX_FIELDS)), (), SCHEMA)
    assert form.is_cut
    assert len(form.fields) == MAX_FIELDS
    wide = b"".join(b"k%d: no # %s\n" % (i, b"\xc3\xa9" * 300) for i in range(1500))
    schema = b'{"additionalProperties": {"type": "integer", "title": "' + b"t" * 500 + b'"}}'
    form = await shared.form(wide, (), schema)
    assert form.is_cut
    assert (form.text, len(form.report.errors), len(form.report.warnings)) == (wide, MAX_FINDINGS, MAX_FINDINGS)


async def test_the_child_compares_two_texts(shared: ParserProcess) -> None:
    found = await shared.changes(b"a: 1\nb: {c: x}\n", b"b: {c: y} # other\na: 1\nd: 2\n")
    assert found == Changes(keys=("b.c", "d"), is_cut=False)
    assert await shared.changes(b"", b"") == Changes(keys=(), is_cut=False)
    for pair in ((b"a: [", b"a: 1"), (b"a: 1", b"a: [")):
        with pytest.raises(ConfigInvalid) as caught:
            await shared.changes(*pair)
        assert caught.value.extra["errors"] == [examine(b"a: [").report.errors[0].as_json()]
    with pytest.raises(ConfigInvalid):
        await shared.changes(b"a: 1", b"#" * (MAX_BYTES + 1))


async def test_a_comparison_that_takes_too_long_is_refused() -> None:
    parser = ParserProcess(time_limit_s=0.01)
    with pytest.raises(ConfigInvalid) as caught:
        await parser.changes(BIG, BIG + b"a: 1\n")
    assert "takes too long to read: more than 0.02 seconds" in caught.value.extra["errors"][0]["message"]
    await parser.close()


async def test_what_was_read_just_now_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """From inside the child: which texts it reads."""
    texts: list[bytes] = []

    def read(text: bytes, *, keeps_tags: bool) -> Document:
        assert not keeps_tags
        texts.append(text)
        return examine(text)

    monkeypatch.setattr(parser_child, "examine", read)
    reader = parser_child._Reader(keeps_tags=False)

    def answer(call: str, text: bytes, *operations: dict[str, Any]) -> bytes:
        return reader.answer({"call": call, "operations": operations, "schema_limit_s": None}, text, b"")[1]

    answer("check", b"a: 1")
    edited = answer("edit", b"a: 1", {"kind": "replace", "path": ["a"], "value": 2})
    answer("form", edited)
    answer("check", b"a: 1")
    assert (texts, edited) == ([b"a: 1"], b"a: 2")
    answer("check", b"b: 1")  # with this, the one that was used longest ago is forgotten
    answer("check", b"a: 1")
    answer("check", edited)
    assert texts == [b"a: 1", b"b: 1", b"a: 2"]


async def test_the_loop_goes_on_while_a_large_text_is_read(shared: ParserProcess) -> None:
    await shared.start()
    check = asyncio.create_task(shared.check(BIG))
    turns = 0
    while not check.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert (await check).is_valid
    assert turns > 20


async def test_text_that_takes_too_long_is_refused_and_the_next_check_works() -> None:
    parser = ParserProcess(time_limit_s=0.1)
    try:
        await parser.start()
        (slow,) = parsers_of(os.getpid())
        report = await parser.check(BIG)
        assert "takes too long to read" in report.errors[0].message
        assert not is_alive(slow)
        assert (await parser.check(b"a: 1")).is_valid
    finally:
        await parser.close()


async def test_an_edit_that_takes_too_long_is_refused_and_a_form_says_why() -> None:
    parser = ParserProcess(time_limit_s=0.05)
    try:
        await parser.start()
        for call in (parser.edit, parser.form):
            with pytest.raises(ConfigEditRefused) as caught:
                await call(BIG, replaced("/key1", "x"))
            assert caught.value.extra == {"reason": "too_costly", "path": ""}
            assert "more than 0.15 seconds" in caught.value.detail
        form = await parser.form(BIG)
        assert (form.text, form.fields) == (BIG, [])
        assert "takes too long to read" in form.report.errors[0].message
    finally:
        await parser.close()


async def test_a_child_that_died_while_idle_is_replaced(parser: ParserProcess) -> None:
    await parser.start()
    (child,) = parsers_of(os.getpid())
    os.kill(child, signal.SIGKILL)
    assert (await parser.check(b"a: 1")).is_valid


async def test_text_whose_reader_dies_twice_is_refused(parser: ParserProcess) -> None:
    await parser.start()
    check = asyncio.create_task(parser.check(BIG))
    for _ in range(2):
        await eventually(lambda: any(MEMORY_LIMITED in limits_of(child) for child in parsers_of(os.getpid())))
        await asyncio.sleep(0.1)  # it limits itself just before it is ready; reading takes a second
        (child,) = parsers_of(os.getpid())
        os.kill(child, signal.SIGKILL)
        await eventually(functools.partial(is_gone, child))
    assert "died twice" in (await check).errors[0].message
    assert (await parser.check(b"a: 1")).is_valid


async def test_cancelling_ends_the_child_and_the_next_check_works(parser: ParserProcess) -> None:
    await parser.start()
    (child,) = parsers_of(os.getpid())
    check = asyncio.create_task(parser.check(BIG))
    await asyncio.sleep(0.05)
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert not is_alive(child)
    assert not (await parser.check(b"a: !x 1")).is_valid


async def test_too_many_waiting_checks_are_turned_away(parser: ParserProcess) -> None:
    await parser.start()
    checks = [asyncio.create_task(parser.check(b"a: 1")) for _ in range(MAX_WAITING + 5)]
    answers = await asyncio.gather(*checks, return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 5
    assert (await parser.check(b"a: 1")).is_valid


async def test_a_closed_parser_leaves_no_process_and_checks_no_more() -> None:
    parser = ParserProcess()
    await parser.start()
    check = asyncio.create_task(parser.check(BIG))
    await asyncio.sleep(0.05)
    await parser.close()
    with pytest.raises(Unavailable):
        await check
    assert parsers_of(os.getpid()) == []
    with pytest.raises(Unavailable):
        await parser.check(b"a: 1")


async def test_a_text_that_needs_too_much_memory_is_refused(
    parser: ParserProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit itself is seen in the child; what the rules make of running into it is tried here."""
    await parser.start()
    (child,) = parsers_of(os.getpid())
    assert MEMORY_LIMITED in limits_of(child)

    def run_out(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dropmill.configfile.yaml.document.YAML.compose", run_out)
    assert "too much memory" in examine(b"a: 1").report.errors[0].message


@pytest.mark.parametrize("is_busy", [False, True])
async def test_the_child_dies_with_a_killed_server(is_busy: bool) -> None:
    await asyncio.to_thread(kill_a_server, is_busy)


def kill_a_server(is_busy: bool) -> None:
    busy_or_idle = "parser.check(text)" if is_busy else "asyncio.sleep(60)"
    server = f"""
import asyncio
from dropmill.configfile.parser import ParserProcess
text = b"".join(b"k%d: v\\n" % i for i in range(40000))
async def main():
    parser = ParserProcess()
    await parser.start()
    print("ready", flush=True)
    await {busy_or_idle}
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (child,) = parsers_of(process.pid)
        time.sleep(0.1)
        process.kill()
        process.wait()
    deadline = time.monotonic() + LIVENESS_S
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)
