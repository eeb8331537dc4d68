"""Webhook, retention, retry policy and orders for whole submissions, on real servers."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.receiver import Receiver
from tests.support.server import Server, hear
from tests.support.waiting import wait_until

Make = Callable[..., Server]
SECRET = "not to be guessed"
HERE = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

SCRIPT = """
import pathlib, sys, time
here = pathlib.Path(__file__).parent
def process(path: pathlib.Path, file, results):
    print("output of", file.name)
    if file.name.startswith("slow"):
        while not (here / "go-on").exists():
            time.sleep(0.01)
    if file.name.startswith("bad") and not (here / "fixed").exists():
        raise ValueError("not yet")
    if file.name.startswith("busy") and file.attempt < 3:
        sys.exit(75)
    (results / "result.txt").write_text("result")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def scripted(make_server: Make, *flags: str, **environment: str) -> Server:
    server = make_server("--processor", "script:process", *flags, environment={**HERE, **environment})
    (server.folder / "script.py").write_text(SCRIPT)
    return server


def hooked(make_server: Make, receiver: Receiver, *flags: str) -> Server:
    return scripted(make_server, "--on-settled", receiver.url, *flags, DROPMILL_WEBHOOK_SECRET=SECRET)


# --- the webhook -----------------------------------------------------------------------------------------------------


def test_each_time_a_submission_settles_one_signed_call_tells_it(make_server: Make, receiver: Receiver) -> None:
    server = hooked(make_server, receiver).start()
    submission = server.send(("bad.txt", b"1"), ("good.txt", b"2"))
    (call,) = wait_until(lambda: receiver.calls)
    settled = server.settled(submission["id"])
    assert call.path == "/hook?key=1"
    assert call.headers["content-type"] == "application/json"
    assert call.is_signed_with(SECRET)
    assert not call.is_signed_with("another")
    below = f"/api/v1/submissions/{submission['id']}"
    assert call.json == {
        "event": "submission.settled",
        "submission_id": submission["id"],
        "number": 1,
        "settled_at": settled["settled_at"],
        "counts": settled["counts"],
        "links": {
            "submission": below,
            "files": f"{below}/files",
            "results": f"{below}/results.zip",
            "page": f"/submissions/{submission['id']}",
        },
    }
    (server.folder / "fixed").touch()
    assert server.http.post(f"{below}/retry").status_code == 202
    wait_until(lambda: len(receiver.calls) == 2)
    assert (receiver.calls[1].json["number"], receiver.calls[1].json["counts"]["succeeded"]) == (2, 2)
    assert SECRET not in server.said()
    assert server.stop() == 0


def test_a_call_that_is_not_taken_is_made_again_until_it_is_in_the_order_of_numbers(
    make_server: Make, receiver: Receiver
) -> None:
    """An error, a redirect, a cut connection; meanwhile the submission settles again; others are not held up."""
    server = hooked(make_server, receiver).start()
    receiver.answers = [500, 302, 0]
    first = server.send(("bad.txt", b"1"))["id"]
    wait_until(lambda: receiver.calls)
    server.settled(first)
    assert server.http.post(f"/api/v1/submissions/{first}/retry").status_code == 202
    wait_until(lambda: server.get(f"/submissions/{first}")["state"] == "settled" and len(receiver.taken()) >= 2)
    assert receiver.taken() == [(first, 1), (first, 2)]
    assert [call.answered for call in receiver.calls[:3]] == [500, 302, 0]
    assert {call.path for call in receiver.calls} == {"/hook?key=1"}  # no redirect was followed
    assert len({call.body for call in receiver.calls[:4]}) == 1  # each try says the same
    assert all(call.is_signed_with(SECRET) for call in receiver.calls)


def test_a_kill_and_a_receiver_that_is_away_lose_no_call(make_server: Make) -> None:
    with Receiver() as gone:
        pass  # nobody listens there any more
    server = scripted(make_server, "--on-settled", gone.url).start()
    wanted = [server.send((f"{n}.txt", b"1"))["id"] for n in range(3)]
    for submission in wanted:
        server.settled(submission)
    server.kill()
    with Receiver() as receiver:
        server.flags = (*server.flags[:-1], receiver.url)
        server.start()
        wait_until(lambda: len(receiver.taken()) >= 3)
        assert sorted(receiver.taken()) == sorted((submission, 1) for submission in wanted)
        assert "dropmill-signature" not in receiver.calls[0].headers
        assert "not signed" in server.said()
        wait_until(lambda: not deliveries(server))  # forgotten once they are taken
        assert server.stop() == 0


def test_a_receiver_that_never_answers_does_not_hold_up_the_end(make_server: Make, receiver: Receiver) -> None:
    receiver.free.clear()
    server = hooked(make_server, receiver).start()
    submission = server.send(("a.txt", b"1"))["id"]
    server.settled(submission)
    assert server.stop() == 0
    assert [found[:2] for found in deliveries(server)] == [(submission, 1)]
    receiver.free.set()
    server.start()
    wait_until(lambda: (submission, 1) in receiver.taken())


def deliveries(server: Server) -> list[Any]:
    connection = sqlite3.connect(server.data / "ledger.sqlite")
    try:
        return connection.execute("SELECT submission_id, number, tries FROM deliveries").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("url", ["ftp://a.example/", "example.com", "http://"])
def test_an_address_that_cannot_be_called_stops_the_start(make_server: Make, url: str) -> None:
    server = make_server("--on-settled", url)
    with pytest.raises(AssertionError, match="ended at its start"):
        server.start()
    assert "--on-settled" in server.said()
    assert len(server.said().splitlines()) == 1


# --- retention -------------------------------------------------------------------------------------------------------


def on_disk(server: Server) -> list[Path]:
    return [path for name in ("blobs", "outputs") for path in (server.data / name).rglob("*") if path.is_file()]


def test_old_bytes_go_what_is_in_use_and_the_history_stay(make_server: Make) -> None:
    server = scripted(make_server, "--keep", "1s").start()
    slow = server.send(("slow.txt", b"in use"))["id"]
    old = server.send(("old.txt", b"1"), ("bad.txt", b"2"))["id"]
    settled = server.settled(old)
    before = server.events(f"submission:{old}")
    file, failed = settled["files"]

    wait_until(lambda: server.get(f"/submissions/{old}")["files"][0]["removed_at"])
    wait_until(lambda: len(on_disk(server)) <= 2)
    (kept,) = [path for path in on_disk(server) if "blobs" in path.parts]
    assert kept.read_bytes() == b"in use"
    assert server.get(f"/submissions/{slow}")["files"][0]["removed_at"] is None

    assert server.events(f"submission:{old}") == before
    assert server.get(f"/submissions/{old}")["counts"] == settled["counts"]
    assert {line["event"] for line in server.log()} >= {event["name"] for event in before}
    for path in (
        f"/jobs/{failed['job']['id']}/retry",
        f"/submissions/{old}/retry",
    ):
        answer = server.http.post(f"/api/v1{path}")
        assert (answer.status_code, answer.json()["code"]) == (410, "removed")
    answer = server.http.get(f"/api/v1/jobs/{file['job']['id']}/output")
    assert (answer.status_code, answer.json()["code"]) == (410, "removed")
    (server.folder / "go-on").touch()
    server.settled(slow)
    wait_until(lambda: on_disk(server) == [])
    assert server.stop() == 0


def test_beyond_the_size_the_oldest_go_first(make_server: Make) -> None:
    server = scripted(make_server, "--keep-size", "3KiB").start()
    ids = []
    for n in range(4):
        ids.append(server.send((f"{n}.txt", b"x" * 1000))["id"])
        server.settled(ids[-1])
    server.stop()
    server.start()  # it looks at once

    def removed() -> list[bool]:
        return [server.get(f"/submissions/{one}")["files"][0]["removed_at"] is not None for one in ids]

    wait_until(lambda: any(removed()))
    wait_until(lambda: len(on_disk(server)) == 9)  # a file, an output and a result each
    assert removed() == [True, False, False, False]  # 4 x (1000 + some) bytes
    assert server.stop() == 0


def test_a_removal_that_was_cut_off_is_finished_at_the_next_start(make_server: Make) -> None:
    server = scripted(make_server).start()
    submission = server.send(("a.txt", b"1"))["id"]
    server.settled(submission)
    server.kill()
    connection = sqlite3.connect(server.data / "ledger.sqlite")
    with connection:
        connection.execute("UPDATE submissions SET removed_at = settled_at, is_removing = 1")
        connection.execute("UPDATE files SET removed_at = '2026-01-01T00:00:00.000Z'")
    connection.close()
    assert on_disk(server)
    server.start()
    wait_until(lambda: not on_disk(server))
    assert server.stop() == 0


def test_old_events_go_once_they_are_logged_and_a_page_is_told(make_server: Make) -> None:
    server = scripted(make_server, "--keep-events", "1s").start()
    first = server.send(("a.txt", b"1"))["id"]
    server.settled(first)
    newest = server.get("/events?after=0&limit=1000")["cursor"]
    kept = wait_until(lambda: (page := server.get("/events?after=0&limit=1000")) and page["gap"] and page)
    wait_until(lambda: len(server.get("/events?after=0")["events"]) == 1)  # the newest stays
    assert kept["cursor"] == newest
    assert not server.get(f"/events?after={newest}")["gap"]
    assert [line["cursor"] for line in server.log()] == list(range(1, newest + 1))

    with server.live() as page:
        page.send(f'{{"type":"join","id":1,"topic":"submission:{first}","after":2}}')
        assert hear(page)["type"] == "reply"
        snapshot = hear(page)
        assert (snapshot["type"], snapshot["state"]["id"]) == ("snapshot", first)
        gap = hear(page)
        assert (gap["type"], gap["topic"], gap["cursor"]) == ("gap", f"submission:{first}", snapshot["cursor"])
        page.send(f'{{"type":"join","id":2,"topic":"submission:{first}","after":{gap["cursor"]}}}')
        assert hear(page, "reply")["ok"]
        assert server.http.post(f"/api/v1/submissions/{first}/cancel").status_code == 202
        second = server.send(("b.txt", b"1"))["id"]
        page.send(f'{{"type":"join","id":3,"topic":"submission:{second}","after":0}}')
        assert hear(page, "reply")["ok"]
        assert hear(page, "events")["events"][0]["name"] == "submission.opened"  # all of it is there: no gap
    cursor = server.get(f"/events?after={newest}")["events"][0]["cursor"]
    assert cursor == newest + 1
    server.stop()
    server.start()
    assert server.get(f"/events?after={newest}")["cursor"] > newest
    cursors = [line["cursor"] for line in server.log()]
    assert cursors == list(range(1, len(cursors) + 1))
    assert server.stop() == 0


# --- trying again ----------------------------------------------------------------------------------------------------

POLICY = ("--retry-exit-codes", "75,111", "--retry-times", "2")


def test_a_chosen_exit_code_is_tried_again_by_itself(make_server: Make) -> None:
    server = scripted(make_server, *POLICY, "--retry-delay", "0.05").start()
    submission = server.send(("busy.txt", b"1"), ("bad.txt", b"2"))["id"]
    busy, bad = server.settled(submission)["files"]
    assert [attempt["exit_code"] for attempt in busy["job"]["attempts"]] == [75, 75, 0]
    assert (busy["job"]["state"], busy["job"]["not_before"]) == ("succeeded", None)
    assert (bad["job"]["state"], len(bad["job"]["attempts"])) == ("failed", 1)
    names = [event["name"] for event in server.events(f"submission:{submission}")]
    assert names.count("submission.settled") == 1
    reasons = [event["data"]["reason"] for event in server.events() if event["name"] == "job.queued"]
    assert sorted(reasons) == ["retry_policy", "retry_policy", "stored", "stored"]


def test_what_waits_for_its_time_is_seen_and_survives_a_restart(make_server: Make) -> None:
    server = scripted(make_server, *POLICY, "--retry-delay", "600").start()
    submission = server.send(("busy.txt", b"1"))["id"]

    def held() -> Any:
        job = server.get(f"/submissions/{submission}")["files"][0]["job"]
        return job if job["not_before"] else None

    job = wait_until(held)
    assert (job["state"], job["position"]) == ("queued", None)
    server.kill()
    server.start()
    assert held() == job
    assert server.get("/jobs?state=running")["items"] == []
    assert server.http.post(f"/api/v1/submissions/{submission}/cancel").status_code == 202
    assert server.settled(submission)["counts"]["cancelled"] == 1
    assert server.http.post(f"/api/v1/jobs/{job['id']}/retry").status_code == 202  # at once: someone asked
    again = wait_until(held)
    assert len(again["attempts"]) == 2
    assert server.stop() == 0


# --- whole submissions -----------------------------------------------------------------------------------------------


def test_fail_fix_retry_and_cancel_of_a_whole_submission(make_server: Make) -> None:
    server = scripted(make_server, "--concurrency", "2", "--grace", "0.2").start()
    submission = server.send(*[(f"bad{n}.txt", b"1") for n in range(300)], ("good.txt", b"1"))["id"]
    assert server.settled(submission)["counts"]["failed"] == 300
    (server.folder / "fixed").touch()
    answer = server.http.post(f"/api/v1/submissions/{submission}/retry")
    assert (answer.status_code, answer.json()["id"]) == (202, submission)
    assert server.settled(submission)["counts"]["succeeded"] == 301

    stuck = server.send(*[(f"slow{n}.txt", b"1") for n in range(20)])["id"]
    wait_until(lambda: server.get(f"/submissions/{stuck}")["counts"]["running"] == 2)
    assert server.http.post(f"/api/v1/submissions/{stuck}/cancel").status_code == 202
    assert server.settled(stuck)["counts"]["cancelled"] == 20
    for order in ("retry", "cancel"):
        answer = server.http.post(f"/api/v1/submissions/nobody/{order}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert server.stop() == 0


def test_one_file_does_not_wait_for_anothers_many(make_server: Make) -> None:
    server = scripted(make_server, "--concurrency", "1").start()
    blocked = server.send(("slow.txt", b"1"))["id"]
    many = server.send(*[(f"{n}.txt", b"1") for n in range(200)])["id"]
    one = server.send(("one.txt", b"1"))["id"]
    assert server.get(f"/submissions/{one}")["files"][0]["job"]["position"] <= 2
    (server.folder / "go-on").touch()
    for submission in (blocked, many, one):
        server.settled(submission)
    started = [event["subject"]["submission_id"] for event in server.events() if event["name"] == "attempt.started"]
    assert started.index(one) <= 3
    assert server.stop() == 0
