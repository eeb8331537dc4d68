"""What a server accepted is processed once, whatever becomes of its database meanwhile."""

import collections
import threading
from collections.abc import Callable

import httpx
import pytest
from tests.support.postgres import Postgres, running
from tests.support.server import Server
from tests.support.waiting import PATIENCE_S, wait_until

Make = Callable[..., Server]

ROUNDS, ROUNDS_IN_FULL = 2, 20


class Sender:
    """Sends one small file after the other.

    Attributes:
        accepted: the submissions of those that the server took.
        refused: how many it refused for now.
        wrong: every other answer.
    """

    def __init__(self, server: Server, name: str) -> None:
        self.accepted: list[str] = []
        self.refused = 0
        self.wrong: list[str] = []
        self._url, self._name = server.url, name
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def end(self) -> None:
        self._is_ending.set()
        self._thread.join()

    def _send(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S, trust_env=False) as http:
            while not self._is_ending.is_set():
                number += 1
                try:
                    answer = http.put(f"/send/{self._name}-{number}.txt", content=b"x" * number)
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))
                    continue
                if answer.status_code == 201:
                    self.accepted.append(answer.json()["id"])
                elif answer.status_code == 503 and "Retry-After" in answer.headers:
                    self.refused += 1
                else:
                    self.wrong.append(answer.text)


@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_of_what_was_accepted_nothing_is_lost_while_the_database_is_away(
    make_server: Make, fault: str, is_full: bool
) -> None:
    with running(is_durable=True) as postgres:
        away, back = {
            "killed": (postgres.kill, postgres.start),
            "paused": (postgres.pause, postgres.resume),
        }[fault]
        url = postgres.url(postgres.make_database())
        server = make_server("--concurrency", "2", environment={"DROPMILL_DATABASE_URL": url}).start()
        senders = [Sender(server, name) for name in ("a", "b", "c")]
        try:
            for _ in range(ROUNDS_IN_FULL if is_full else ROUNDS):
                _wait_for_more(lambda: sum(len(sender.accepted) for sender in senders), 6)
                away()
                _wait_for_more(lambda: sum(sender.refused for sender in senders), 3)
                assert server.http.get("/readyz").status_code == 503
                back()
        finally:
            for sender in senders:
                sender.end()
        assert [sender.wrong for sender in senders] == [[], [], []]
        wait_until(lambda: server.http.get("/readyz").status_code == 200)
        for submission_id in [found for sender in senders for found in sender.accepted]:
            submission = server.settled(submission_id)
            assert submission["counts"]["succeeded"] == 1, submission
        _require_whole(server, postgres)


def _require_whole(server: Server, postgres: Postgres) -> None:
    """No event is missing or twice, the log has each, and every job has one final state."""
    wait_until(lambda: not server.get("/jobs?state=queued")["items"] and not server.get("/jobs?state=running")["items"])
    told = server.events()
    assert [event["cursor"] for event in told] == list(range(1, len(told) + 1))
    settled = collections.Counter(event["subject"]["job_id"] for event in told if event["name"] == "job.settled")
    queued = {event["subject"]["job_id"] for event in told if event["name"] == "job.queued"}
    assert set(settled.values()) == {1}
    assert set(settled) == queued
    wait_until(lambda: [line["cursor"] for line in server.log()] == [event["cursor"] for event in server.events()])


def _wait_for_more(count: Callable[[], int], more: int) -> None:
    before = count()
    wait_until(lambda: count() >= before + more, 2 * PATIENCE_S)


def test_a_server_stops_though_its_database_does_not_answer(make_server: Make) -> None:
    with running() as postgres:
        url = postgres.url(postgres.make_database())
        server = make_server(environment={"DROPMILL_DATABASE_URL": url}).start()
        server.settled(server.send(("a.txt", b"a"))["id"])
        postgres.pause()
        assert server.http.put("/send/b.txt", content=b"b").status_code == 503
        assert server.stop() == 0


def test_an_attempt_goes_on_while_the_database_is_away_and_its_end_is_recorded_later(make_server: Make) -> None:
    with running(is_durable=True) as postgres:
        url = postgres.url(postgres.make_database())
        server = make_server("--processor", "work:process", environment={"DROPMILL_DATABASE_URL": url})
        (server.folder / "work.py").write_text(
            "import pathlib, time\n"
            "def process(file):\n"
            f"    pathlib.Path({str(server.folder / 'running')!r}).touch()\n"
            f"    while not pathlib.Path({str(server.folder / 'go')!r}).exists():\n"
            "        time.sleep(0.02)\n"
            f"    pathlib.Path({str(server.folder / 'ended')!r}).touch()\n"
            "    return file.attempt\n"
        )
        server.start()
        submission_id = server.send(("a.txt", b"a"))["id"]
        wait_until((server.folder / "running").exists)
        postgres.kill()
        (server.folder / "go").touch()
        wait_until((server.folder / "ended").exists)
        assert server.http.get(f"/api/v1/submissions/{submission_id}").status_code == 503
        postgres.start()
        wait_until(lambda: server.http.get("/readyz").status_code == 200)
        [file] = server.settled(submission_id, 2 * PATIENCE_S)["files"]
        assert (file["job"]["state"], file["job"]["value"]) == ("succeeded", 1)
        assert [attempt["state"] for attempt in file["job"]["attempts"]] == ["succeeded"]
