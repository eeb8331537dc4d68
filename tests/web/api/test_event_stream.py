"""Server-sent events, for scripts."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
from tests.support.server import Server

STREAM = {"Accept": "text/event-stream"}


def blocks(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """What comes between two blank lines, comments left out."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line and fields:
            yield fields
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def read_until_settled(found: Iterator[dict[str, str]], submission_id: str) -> list[Any]:
    gathered = []
    for block in found:
        assert set(block) == {"id", "data"}
        event = json.loads(block["data"])
        assert block["id"] == str(event["cursor"])
        gathered.append(event)
        if event["name"] == "submission.settled" and event["subject"]["submission_id"] == submission_id:
            return gathered
    raise AssertionError("it ended")


def test_events_are_streamed_as_they_happen(server: Server) -> None:
    server.settled(server.send(("before.txt", b"x"))["id"])
    with server.http.stream("GET", "/api/v1/events?after=newest", headers=STREAM) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        found = blocks(answer)
        for name in ("one.txt", "two.txt"):
            submission = server.send((name, b"x"))["id"]
            received = read_until_settled(found, submission)
            assert [event for event in received if event["subject"]["name"] == name]
            assert not [event for event in received if event["subject"]["name"] == "before.txt"]


def test_who_comes_back_goes_on_behind_the_last_one(server: Server) -> None:
    submission = server.send(("one.txt", b"x"))["id"]
    server.settled(submission)
    happened = server.events(f"submission:{submission}")
    path = f"/api/v1/events?topic=submission:{submission}&after=0"
    with server.http.stream("GET", path, headers=STREAM) as answer:
        assert read_until_settled(blocks(answer), submission) == happened[: len(happened)]
    middle = happened[2]["cursor"]
    with server.http.stream("GET", path, headers=STREAM | {"Last-Event-ID": str(middle)}) as answer:
        assert read_until_settled(blocks(answer), submission)[0] == happened[3]


def test_a_topic_there_is_not_is_404(server: Server) -> None:
    assert server.http.get("/api/v1/events?topic=nothing", headers=STREAM).status_code == 404


def test_newest_is_where_to_follow_from(server: Server) -> None:
    answer = server.get("/events?after=newest")
    assert answer["events"] == []
    assert answer["cursor"] >= server.events()[-1]["cursor"]
    assert server.http.get("/api/v1/events?after=latest").status_code == 400
