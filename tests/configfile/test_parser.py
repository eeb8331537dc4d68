"""The child process that reads YAML for the server."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dropmill.configfile.document import MAX_BYTES, check_text
from dropmill.configfile.parser import MAX_WAITING, MEMORY_LIMIT, ParserProcess
from dropmill.model.errors import Unavailable

BIG = "".join(f"key{i}: value {i} # comment\n" for i in range(20_000)).encode()  # about a second
LIVENESS_S = 20.0
MEMORY_LIMITED = f"Max address space {MEMORY_LIMIT} "


@pytest.fixture
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
    return [child for child in children_of(pid) if marked in Path(f"/proc/{child}/cmdline").read_bytes()]


def limits_of(pid: int) -> str:
    try:
        return " ".join(Path(f"/proc/{pid}/limits").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIVENESS_S):
        while not condition():  # noqa: ASYNC110 - other processes have no event
            await asyncio.sleep(0.005)


def is_gone(pid: int) -> bool:
    return not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "text", [b"a: 1", b"a: no\nb: !x 1\n", b"a: \xe9", b'? "\\ud800"\n: *x', b"", "é😀: 010".encode()]
)
async def test_the_child_says_what_the_rules_say(parser: ParserProcess, text: bytes) -> None:
    assert await parser.check(text) == check_text(text)


async def test_one_child_serves_many_checks(parser: ParserProcess) -> None:
    await parser.start()
    before = parsers_of(os.getpid())
    reports = await asyncio.gather(*(parser.check(f"a: {i}\na: 2".encode()) for i in range(20)))
    assert {report.errors[0].line for report in reports} == {2}
    assert len(before) == 1
    assert parsers_of(os.getpid()) == before


async def test_text_over_the_size_limit_starts_no_child(parser: ParserProcess) -> None:
    report = await parser.check(b"#" * (MAX_BYTES + 1))
    assert "1,048,577 bytes" in report.errors[0].message
    assert parsers_of(os.getpid()) == []


async def test_the_loop_goes_on_while_a_large_text_is_read(parser: ParserProcess) -> None:
    await parser.start()
    check = asyncio.create_task(parser.check(BIG))
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


async def test_a_child_that_died_while_idle_is_replaced(parser: ParserProcess) -> None:
    await parser.start()
    (child,) = parsers_of(os.getpid())
    os.kill(child, signal.SIGKILL)
    assert (await parser.check(b"a: 1")).is_valid


async def test_text_whose_reader_dies_twice_is_refused(parser: ParserProcess) -> None:
    await parser.start()
    check = asyncio.create_task(parser.check(BIG))
    for _ in range(2):
        await until(lambda: [child for child in parsers_of(os.getpid()) if MEMORY_LIMITED in limits_of(child)] != [])
        await asyncio.sleep(0.1)  # it limits itself just before it is ready; reading takes a second
        (child,) = parsers_of(os.getpid())
        os.kill(child, signal.SIGKILL)
        await until(functools.partial(is_gone, child))
    assert "died of it, twice" in (await check).errors[0].message
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

    monkeypatch.setattr("dropmill.configfile.document.YAML.compose", run_out)
    assert "too much memory" in check_text(b"a: 1").errors[0].message


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_child_dies_with_a_killed_server(is_busy: bool) -> None:
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
