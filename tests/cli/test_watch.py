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


def all_clients_are_identified(server: Server) -> bool:
    names = [event["name"] for event in server.events()]
    return names.count("client.identified") == names.count("submission.opened")


def test_it_tells_each_event_once_though_the_line_is_cut(server: Server, dropmill: Dropmill) -> None:
    server.settled(server.send(("before.txt", b"x"))["id"])
    wait_until(lambda: all_clients_are_identified(server))  # no event of an earlier submission comes any more
    begin = server.events()[-1]["cursor"]
    with Line(int(server.url.rpartition(":")[2])) as line:
        watching = dropmill("watch", "--json", "--server", line.url)
        wait_until(lambda: line.passed > 300)  # it has asked where to begin, and asks for the next
        told: list[Any] = []
        for number in range(3):
            line.cut()
            submission = server.send((f"{number}.txt", b"x"))["id"]
            told += read_until(watching, "submission.settled", submission)
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert all("Trying again" in said for said in err.splitlines())
    happened = [event for event in server.events() if event["cursor"] > begin]
    assert told == happened[: len(told)]
    assert len(told) >= len(happened) - 3  # a name may have been found since


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
