"""Promises 3 and 4: every accepted file is processed and shows exactly one final state, whoever is killed when."""

import collections
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.system.faults.observers import Pulse, slots_of

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]

PROCESSOR = """
import os, subprocess, time

def process(file):
    print("attempt", file.attempt, flush=True)
    if file.size % 5 == 0:  # leaves a daemon with an emptied environment, every time
        subprocess.Popen(["sleep", "600.25"], env={}, start_new_session=True)
    time.sleep(0.02 + file.size % 7 * 0.02)
    return file.attempt
"""
FLAGS = ("--processor", "work:process", "--concurrency", "4", "--max-attempts", "1000", "--grace", "0.1")
BACK_S = 120.0  # slots that die while they are imported are started again after up to 30 s
GONE_S = 5.0  # after `kill -9` of the server no process of it lives


def make(make_server: Make) -> Server:
    server = make_server(*FLAGS)
    (server.folder / "work.py").write_text(PROCESSOR)
    return server.start()


def send_many(server: Server, count: int) -> list[str]:
    """The submissions of that many files, 40 each."""
    made = []
    for start in range(0, count, 40):
        numbers = range(start, min(start + 40, count))
        made.append(server.send(*((f"{n}.txt", b"x" * (n + 1)) for n in numbers))["id"])
    return made


def daemons() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\x00600.25\x00":
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def tells_one_story(server: Server, submissions: list[str], count: int, retried: int = 0) -> int:
    """Check that all is settled, once each, with numbered attempts; how many attempts were lost."""
    events = server.events()
    assert [event["cursor"] for event in events] == list(range(1, len(events) + 1))
    by_job: dict[str, list[Any]] = collections.defaultdict(list)
    for event in events:
        if event["subject"].get("job_id"):
            by_job[event["subject"]["job_id"]].append(event)
    assert len(by_job) == count
    lost = 0
    for submission in submissions:
        counts = server.settled(submission)["counts"]
        files = files_of(server, submission)
        assert counts["succeeded"] == len(files)
        for file in files:
            job = file["job"]
            numbers = [attempt["number"] for attempt in job["attempts"]]
            states = [attempt["state"] for attempt in job["attempts"]]
            assert numbers == list(range(1, len(numbers) + 1))
            assert states == ["lost"] * (len(states) - 1) + ["succeeded"], states
            names = [event["name"] for event in by_job[job["id"]]]
            assert collections.Counter(names) == collections.Counter(
                {"upload.stored": 0, "job.queued": len(states), "attempt.started": len(states)}
                | {"attempt.lost": len(states) - 1, "attempt.succeeded": 1, "job.settled": 1}
            ) - collections.Counter({"upload.stored": 0}), names
            assert names[-1] == "job.settled" or names[-2:] == ["job.settled", "submission.settled"]
            lost += len(states) - 1
    return lost


def is_at_work(server: Server) -> bool:
    """Whether a file is processed now, or all are."""
    return bool(
        server.get("/jobs?state=running&limit=1")["items"] or not server.get("/jobs?state=queued&limit=1")["items"]
    )


def files_of(server: Server, submission: str) -> list[Any]:
    gathered: list[Any] = []
    path = f"/submissions/{submission}/files?limit=1000"
    page = server.get(path)
    gathered += page["items"]
    assert page["next"] is None
    return gathered


def test_a_server_killed_at_random_moments_settles_every_file_once(
    make_server: Make, chance: random.Random, is_full: bool
) -> None:
    count, kills = (1000, 60) if is_full else (200, 5)
    server = make(make_server)
    submissions = send_many(server, count)
    for _ in range(kills):
        time.sleep(chance.random() * (0.6 if is_full else 0.4))
        server.kill()
        wait_until(lambda: not server.strays() and not daemons(), GONE_S)
        server.start()
        # It takes up the queue by itself: the next kill hits it at work.
        wait_until(lambda: slots_of(server))
    with Pulse(server):
        for submission in submissions:
            server.settled(submission, BACK_S)
    assert tells_one_story(server, submissions, count) >= 1
    assert [line["cursor"] for line in server.log()] == list(range(1, len(server.log()) + 1))
    wait_until(lambda: not daemons(), GONE_S)
    assert server.stop() == 0
    assert server.strays() == []


def test_slots_and_scripts_killed_at_random_moments_lose_no_file(
    make_server: Make, chance: random.Random, is_full: bool
) -> None:
    count, kills = (1000, 140) if is_full else (80, 8)
    server = make(make_server)
    submissions = send_many(server, count)
    killed = 0
    with Pulse(server):
        while killed < kills:
            if killed % 2:  # the others die while they import the module, too
                wait_until(lambda: is_at_work(server), BACK_S)
            time.sleep(chance.random() * 0.2)
            if not (slots := slots_of(server)):
                continue
            try:
                os.kill(chance.choice(slots), chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV]))
            except ProcessLookupError:
                continue
            killed += 1
        for submission in submissions:
            server.settled(submission, BACK_S)
    tells_one_story(server, submissions, count)
    wait_until(lambda: not daemons(), GONE_S)
    assert server.stop() == 0
    assert server.strays() == []


def test_a_queue_is_taken_up_again_in_its_order(make_server: Make) -> None:
    server = make_server("--processor", "work:process", "--concurrency", "1")
    (server.folder / "work.py").write_text(
        "import pathlib, time\ngo = pathlib.Path(__file__).with_name('go')\n"
        "def process(path):\n    while not go.exists(): time.sleep(0.01)\n"
    )
    server.start()
    (submission,) = send_many(server, 30)
    server.kill()
    server.start()
    (server.folder / "go").touch()
    files = server.settled(submission)["files"]
    ended = [e["subject"]["name"] for e in server.events() if e["name"] == "attempt.succeeded"]
    assert sorted(ended) == sorted(file["name"] for file in files)
    lost = "0.txt"  # it ran when the server was killed, and may be last now
    assert [name for name in ended if name != lost] == [file["name"] for file in files[1:]]


def test_nothing_survives_the_server_though_a_script_has_stopped_its_slot(make_server: Make) -> None:
    """A stopped slot cannot see that the server is gone; the kernel wakes it."""
    server = make_server("--processor", "work:process", "--concurrency", "1")
    (server.folder / "work.py").write_text(
        "import os, signal, time\n"
        "def process(path):\n"
        "    os.kill(os.getppid(), signal.SIGSTOP)\n"
        "    print('stopped it', flush=True)\n"
        "    time.sleep(600.25)\n"
    )
    server.start()
    job = server.send(("a", b"a"))["files"][0]["job"]["id"]
    wait_until(lambda: b"stopped it" in server.http.get(f"/api/v1/jobs/{job}/output").content)
    assert server.strays()
    server.kill()
    wait_until(lambda: not server.strays(), GONE_S)
