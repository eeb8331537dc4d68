"""Promise 8: an attempt runs with the revision that was newest when its job was queued or last retried."""

import hashlib
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.system.faults.observers import slots_of

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]

FIXED = "n: 9  # fixed by hand\n"
PROCESSOR = """
import os, pathlib, time

def process(path, config):
    gate = pathlib.Path(__file__).with_name("gate-" + path.read_text())
    while gate.exists():
        time.sleep(0.01)
    with open(os.environ["DROPMILL_JOB_CONFIG"]) as file:
        return [config["n"], file.read()]
"""


TEXTS = {hashlib.sha256(text.encode()).hexdigest(): text for text in ("n: 1\n", "n: 2\n", "n: 3\n", "m: 1\n", FIXED)}


def given(newest: int, *attempts: int) -> tuple[Any, list[str]]:
    """What `Story.used` is to say."""
    return [newest, f"n: {newest}\n"], [f"n: {number}\n" for number in attempts]


class Story:
    """A server with one slot, its config, and jobs that wait at a gate of their own."""

    def __init__(self, server: Server) -> None:
        self.server = server
        (server.folder / "work.py").write_text(PROCESSOR)
        server.config.write_bytes(b"n: 1\n")
        server.start()

    def save(self, text: str) -> None:
        etag = self.server.http.get("/api/v1/config").headers["ETag"]
        answer = self.server.http.put("/api/v1/config", content=text, headers={"If-Match": etag})
        assert answer.status_code == 200, answer.text

    def close_gate(self, name: str) -> None:
        (self.server.folder / f"gate-{name}").touch()

    def open_gate(self, name: str) -> None:
        (self.server.folder / f"gate-{name}").unlink()

    def send(self, name: str) -> str:
        job: str = self.server.send((name, name.encode()))["files"][0]["job"]["id"]
        return job

    def job(self, job_id: str) -> Any:
        return self.server.get(f"/jobs/{job_id}")

    def running(self, job_id: str) -> None:
        wait_until(lambda: self.job(job_id)["state"] == "running")

    def settled(self, job_id: str) -> Any:
        return wait_until(lambda: job if (job := self.job(job_id))["settled_at"] else None)

    def retry(self, job_id: str) -> None:
        answer = self.server.http.post(f"/api/v1/jobs/{job_id}/retry")
        assert answer.status_code == 202, answer.text

    def used(self, job_id: str) -> tuple[Any, list[str]]:
        """What the newest attempt of a settled job was given; the configs that its attempts are said to have had."""
        job = self.settled(job_id)
        return job["value"], [TEXTS[attempt["config_revision"]] for attempt in job["attempts"]]


def test_in_each_state_a_job_keeps_the_config_it_was_queued_with(make_server: Make) -> None:
    story = Story(make_server("--processor", "work:process", "--concurrency", "1"))
    story.close_gate("a")
    a, b = story.send("a"), story.send("b")
    story.running(a)
    story.save("n: 2\n")  # one runs, one waits
    c = story.send("c")
    story.open_gate("a")
    assert story.used(a) == given(1, 1)
    assert story.used(b) == given(1, 1)
    assert story.used(c) == given(2, 2)

    story.close_gate("c")
    story.retry(c)
    story.running(c)
    story.retry(a)
    story.save("n: 3\n")  # retried, and waiting again
    story.open_gate("c")
    assert story.used(c) == given(2, 2, 2)
    assert story.used(a) == given(2, 1, 2)
    story.retry(b)
    assert story.used(b) == given(3, 1, 3)


def test_a_lost_attempt_is_followed_by_one_with_the_same_config(make_server: Make) -> None:
    story = Story(make_server("--processor", "work:process", "--concurrency", "1"))
    story.close_gate("a")
    a = story.send("a")
    story.running(a)
    story.save("n: 2\n")
    os.kill(slots_of(story.server)[0], signal.SIGKILL)
    wait_until(lambda: len(story.job(a)["attempts"]) == 2)
    story.running(a)
    story.server.kill()
    story.server.start()
    story.save("n: 3\n")
    story.open_gate("a")
    assert story.used(a) == given(1, 1, 1, 1)


def test_fail_fix_the_config_retry(make_server: Make) -> None:
    """The commonest loop. A save that the config's file brings counts as any other."""
    story = Story(make_server("--processor", "work:process", "--concurrency", "1"))
    story.save("m: 1\n")
    a = story.send("a")
    assert story.settled(a)["error"]["type"] == "KeyError"
    story.server.config.write_text(FIXED)
    wait_until(lambda: b"fixed" in story.server.http.get("/api/v1/config").content)
    story.retry(a)
    job = wait_until(lambda: j if (j := story.job(a))["state"] == "succeeded" else None)
    assert job["value"] == [9, FIXED]
    assert story.used(a)[1] == ["m: 1\n", FIXED]
