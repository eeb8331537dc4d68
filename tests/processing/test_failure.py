"""What the error of a failed attempt says."""

from pathlib import Path

import pytest
from tests.support.bench import Bench, python

from dropmill.model.jobs import AttemptState, JobError
from dropmill.processing.failure import (
    LAST_LINE_BYTES,
    LINE_CHARACTERS,
    MESSAGE_CHARACTERS,
    in_clients_words,
    last_line,
)

NAME = "Zürich\n2024 \u202etxt.pdf"
SHOWN = "Zürich\\n2024 \\u202etxt.pdf"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (b"", ""),
        (b"\n \r\n\t\n", ""),
        (b"one\ntwo\n", "two"),
        (b"one\ntwo", "two"),
        (b"one\ntwo\r\n\r\n  \n", "two"),
        (b" 10%\r 20%\rno such page\r\n", "no such page"),
        (b"a \t tab", "a tab"),
        (b"\x1b[1;31merror:\x1b[0m no such page\x1b[K\n", "error: no such page"),
        (b"\x1b]0;title\x07done\n\x1b[0m\n", "done"),
        (b"\x1b]8;;https://a.example\x1b\\a link\x1b]8;;\x1b\\\n", "a link"),
        (b"half \xc3\xa4\xc3\n", "half ä\ufffd"),
        (b"bell\x07 back\x08 nul\x00\n", "bell\\x07 back\\x08 nul\\x00"),
        ("turned \u202e round\n".encode(), "turned \\u202e round"),
        (b"gone\ndropmill: progress 3/10\ndropmill: metric a=1\n", "gone"),
        (b"x" * LAST_LINE_BYTES, "x" * (LINE_CHARACTERS - 1) + "…"),
    ],
)
def test_the_last_line_is_one_line_of_visible_text(output: bytes, line: str) -> None:
    """Line ends of every kind, colours, control characters, cut characters, lines meant for the server, length."""
    assert last_line(output) == line


def test_other_names_take_the_place_of_the_servers_one_after_the_other() -> None:
    """As often as they occur, and the message is never longer than it may be."""
    names = [("/real/data/", "/data/"), ("/data/blobs/ab/abcd.gz", "a.gz"), ("abcd.gz", "a.gz"), ("/data/", "")]
    message = "/real/data/blobs/ab/abcd.gz: bad ('/data/blobs/ab/abcd.gz'), abcd.gz: bad, /data/x/y: bad, /data: good"
    said = "a.gz: bad ('a.gz'), a.gz: bad, x/y: bad, /data: good"
    assert in_clients_words(JobError(type="ValueError", message=message), names).message == said
    flood = JobError(type="exit_code", message="abcd.gz " * 80)
    assert len(in_clients_words(flood, [("abcd.gz", "n" * 4000)]).message) == MESSAGE_CHARACTERS


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("first\nsecond", "first\nsecond"),
        ("first\r\nsecond\rthird", "first\nsecond\nthird"),
        ("\x1b[1;31merror:\x1b[0m no such page\x1b[K", "error: no such page"),
        ("a\tb", "a   b"),
        ("bell\x07 nul\x00 turned \u202e", "bell\\x07 nul\\x00 turned \\u202e"),
        ("\x1b[" * 100_000, "\\x1b[" * 800),
        ("x" * 10_000_000, "x" * MESSAGE_CHARACTERS),
    ],
)
def test_a_message_is_lines_of_visible_text(message: str, shown: str) -> None:
    error = in_clients_words(JobError(type="a\x1bb", message=message), [])
    assert error == JobError(type="a\\x1bb", message=shown[:MESSAGE_CHARACTERS])


MODULE = """
import os
import sys
from pathlib import Path

def process(path, work, results, config):
    places = [path, work / "a", (results / "b").resolve(), os.environ["DROPMILL_JOB_CONFIG"], work.parent.parent]
    what = open(path).read()
    if what == "text":
        raise SystemExit("the invoice has no number")
    if what == "lines":
        sys.exit("first\\nsecond")
    if what == "object":
        sys.exit(["a", 1])
    if what == "blank":
        sys.exit(" ")
    if what == "number":
        print("the column is missing")
        sys.exit(3)
    if what == "places":
        raise ValueError(" ".join(map(str, places)))
    if what == "path":
        raise ValueError(f"cannot read {path}")
    open(str(path) + ".missing")
"""


@pytest.mark.parametrize("is_fresh", [False, True])
async def test_the_text_of_system_exit_is_the_errors_message(tmp_path: Path, is_fresh: bool) -> None:
    """The type says what it was, the exit code is Python's own, and the text is in the output, too."""
    async with Bench(tmp_path, module=MODULE, processor="script:process", fresh_process=is_fresh) as bench:
        outcome, output = await bench.run(b"text")
        assert (outcome.state, outcome.exit_code) == (AttemptState.FAILED, 1)
        assert outcome.error == JobError(type="SystemExit", message="the invoice has no number")
        assert output == "the invoice has no number\n"
        outcome, _ = await bench.run(b"lines")
        assert outcome.error == JobError(type="SystemExit", message="first\nsecond")
        outcome, _ = await bench.run(b"object")
        assert outcome.error == JobError(type="SystemExit", message="['a', 1]")
        outcome, _ = await bench.run(b"blank")
        assert (outcome.exit_code, outcome.error) == (1, JobError(type="exit_code", message="exited with code 1"))


async def test_an_exception_names_the_file_as_the_client_does(tmp_path: Path) -> None:
    """Scripts put the path of the stored file into their messages; people who send files do not know it."""
    async with Bench(tmp_path, module=MODULE, processor="script:process") as bench:
        outcome, _ = await bench.run(b"path", name=NAME)
        assert outcome.error == JobError(type="ValueError", message=f"cannot read {SHOWN}")
        outcome, _ = await bench.run(b"missing", name="a.txt")
        expected = "[Errno 2] No such file or directory: 'a.txt.missing'"
        assert outcome.error == JobError(type="FileNotFoundError", message=expected)


async def test_the_last_line_of_a_callable_that_exits_with_a_number_is_its_error(tmp_path: Path) -> None:
    """As programs do that became callables: argparse and click print a sentence, and exit with a number."""
    async with Bench(tmp_path, module=MODULE, processor="script:process") as bench:
        outcome, _ = await bench.run(b"number")
        assert (outcome.exit_code, outcome.error) == (3, JobError(type="exit_code", message="the column is missing"))


async def test_no_message_has_a_path_of_the_server(tmp_path: Path) -> None:
    """As it is given to the script, or as the script resolves it; the output keeps all of it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with Bench(tmp_path / "link", module=MODULE, processor="script:process") as bench:
        outcome, output = await bench.run(b"places", name="a.txt")
        assert outcome.error is not None
        assert outcome.error.message == "a.txt work/a results/b config.yaml attempts"
        assert str(tmp_path) in output


async def test_the_last_line_of_an_executable_is_its_error(tmp_path: Path) -> None:
    """With the client's name for the file, also for a copy of it; the exit code is recorded separately."""
    script = "import sys; print('working'); sys.exit(f'\\x1b[31m{sys.argv[1]}: no such page\\x1b[0m')"
    for copies in (False, True):
        async with Bench(tmp_path, command=python(tmp_path, script), copy_input=copies) as bench:
            outcome, output = await bench.run(name=NAME)
            assert (outcome.state, outcome.exit_code) == (AttemptState.FAILED, 1)
            assert outcome.error == JobError(type="exit_code", message=f"{SHOWN}: no such page")
            assert "\x1b[31m" in output


async def test_the_last_line_is_the_scripts_own(tmp_path: Path) -> None:
    """What the server adds to the output about results that it did not take is no word of the script."""
    script = "ln -s /etc \"$DROPMILL_JOB_RESULTS/link\"; echo 'out of paper' >&2; exit 3"
    async with Bench(tmp_path, command=("sh", "-c", script)) as bench:
        outcome, output = await bench.run()
        assert outcome.error == JobError(type="exit_code", message="out of paper")
        assert output.removeprefix("out of paper\n") != ""


async def test_a_silent_executable_and_a_signal_are_named_by_the_server(tmp_path: Path) -> None:
    """Without a word there is the exit code; a signal is no doing of the script's last line."""
    async with Bench(tmp_path, command=("sh", "{path}")) as bench:
        outcome, _ = await bench.run(b"exit 7")
        assert outcome.error == JobError(type="exit_code", message="exited with code 7")
        outcome, _ = await bench.run(b"echo 'half way'; kill -9 $$")
        assert outcome.error == JobError(type="signal", message="killed by SIGKILL (signal 9)")
        outcome, _ = await bench.run(b"echo 'all is well'")
        assert (outcome.state, outcome.error) == (AttemptState.SUCCEEDED, None)
