"""`dropmill watch`: every event, once, whatever the line does; and nothing in a line that steers the terminal."""

import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.faulty_link import Line
from tests.support.server import Dropmill, Server
from tests.support.waiting import wait_until

from dropmill.cli.format import event_line, printable, size_text

JOINED_BYTES = 250  # the handshake has fewer, the join makes them more

Run = Callable[..., tuple[int, str, str]]


def read_until(watching: "subprocess.Popen[str]", name: str, submission_id: str) -> list[Any]:
    """Events as they are printed, up to one of a submission."""
    assert watching.stdout is not None
    gathered = []
    for line in watching.stdout:
        gathered.append(json.loads(line))
        last = gathered[-1]
        if (last["name"], last["subject"]["submission_id"]) == (name, submission_id):
            return gathered
    raise AssertionError(f"it ended: {gathered}")


def test_it_prints_each_event_once_though_the_line_is_cut(server: Server, dropmill: Dropmill) -> None:
    with Line(int(server.url.rpartition(":")[2])) as line:
        watching = dropmill("watch", "--json", "--server", line.url)
        wait_until(lambda: line.passed > JOINED_BYTES)
        printed: list[Any] = []
        for number in range(4):
            submission = server.send((f"{number}.txt", b"x"))["id"]
            printed += read_until(watching, "submission.settled", submission)
            line.cut()
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert all("Trying again" in said for said in err.splitlines())
    begin = printed[0]["cursor"]
    assert printed == [event for event in server.events() if event["cursor"] >= begin][: len(printed)]


def test_it_prints_cursors_without_a_hole_through_two_restarts(
    make_server: Callable[..., Server], dropmill: Dropmill
) -> None:
    server = make_server().start()
    port = server.url.rpartition(":")[2]
    with Line(int(port)) as line:
        watching = dropmill("watch", "--json", "--server", line.url)
        wait_until(lambda: line.passed > JOINED_BYTES)
        printed = read_until(watching, "submission.settled", server.send(("1.txt", b"x"))["id"])
        for end in (server.stop, server.kill):
            end()
            server.flags = ("--bind", f"127.0.0.1:{port}", *server.flags[2:])
            server.start()
            printed += read_until(watching, "submission.settled", server.send(("2.txt", b"x"), ("3.txt", b"x"))["id"])
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=20)
    begin = printed[0]["cursor"]
    assert [event["cursor"] for event in printed] == list(range(begin, begin + len(printed)))
    assert printed == server.events()[begin - 1 :][: len(printed)]


def test_of_one_submission_it_tells_all_from_the_beginning(server: Server, dropmill: Dropmill) -> None:
    other = server.send(("other.txt", b"x"))["id"]
    submission = server.send(("a.txt", b"x"), ("b.txt", b"y"))["id"]
    server.settled(other)
    server.settled(submission)
    watching = dropmill("watch", submission, "--json", "--server", server.url)
    told = read_until(watching, "submission.settled", submission)
    assert told[0]["name"] == "submission.opened"
    assert {event["subject"]["submission_id"] for event in told} == {submission}
    assert told == server.events(f"submission:{submission}")[: len(told)]


def test_what_there_is_not_is_told_in_one_line(server: Server, run: Run) -> None:
    assert run("watch", "nothing", "--server", server.url) == (1, "", "dropmill: There is no such submission. (404)\n")
    assert run("watch", "--server", "http://127.0.0.1:9")[0] == 1


def test_a_line_of_an_event_is_for_people() -> None:
    subject = {"submission_id": "s1", "name": "a\x1b[2J\nb.txt"}
    event = {
        "at": "2026-01-02T03:04:05.678Z",
        "name": "job.settled",
        "subject": subject,
        "data": {
            "state": "failed",
            "exit_code": -9,
            "error": {"type": "killed", "message": "out\nof memory"},
            "duration": 61.0,
            "output_size": 2048,
            "result_count": 0,
            "results": [],
            "host": None,
        },
    }
    said = event_line(event)
    assert said.endswith(
        r"job.settled           a\x1b[2J\nb.txt  state=failed  exit_code=-9  error=killed: out\nof memory"
        "  duration=1.0min  output_size=2.0 KiB"
    )
    assert event_line(event | {"subject": subject | {"name": None}}).split("  ")[-6].endswith("submission s1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ä漢", "plain ä漢"), ("\x1b]0;x\x07", r"\x1b]0;x\x07"), ("\u202e", r"\u202e"), ("\udcff", r"\udcff")],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")])
def test_sizes_are_rounded(size: int, text: str) -> None:
    assert size_text(size) == text
