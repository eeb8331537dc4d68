"""An event as its line of the event log."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dropmill.model.client import ClientIdentity
from dropmill.model.events import DATA_KEYS, Event, EventName, Subject
from dropmill.model.ids import Cursor, FileId, JobId, SubmissionId
from dropmill.wire.log_line import MESSAGE_MAX, log_line

CLIENT = ClientIdentity(ip="10.0.0.7", host="pc7.lab.example", verified=True, domain="lab.example", user_agent="curl/8")
AT = datetime(2026, 3, 1, 12, 0, 0, 123_000, timezone(timedelta(hours=2)))
KEYS = (
    *("at", "event", "cursor", "submission", "file", "job", "attempt", "name", "size", "sha256", "state"),
    *("cause", "duration"),
    *("ip", "host", "verified", "domain", "account", "user_agent", "message"),
)
DATA: Mapping[str, Any] = {
    "host": "pc8.lab.example",
    "verified": False,
    "domain": "lab.example",
    "counts": {"succeeded": 2, "failed": 1, "queued": 0},
    "number": 1,
    "size": 12,
    "path": "folder/a.txt",
    "sha256": "ab" * 32,
    "reason": "stored",
    "cause": "cut_off",
    "state": "failed",
    "exit_code": 3,
    "error": {"type": "ValueError", "message": "no such column"},
    "duration": 1.5,
    "output_size": 7,
    "result_count": 1,
    "results": [{"path": "out.txt", "size": 3}],
    "config_revision": "cd" * 32,
    "message": "raise the limit",
    "errors": [{"line": 4, "column": 2, "path": "", "message": "a key is given twice"}],
}


def event(cursor: int, name: EventName = EventName.UPLOAD_STARTED, **data: Any) -> Event:
    subject = Subject(
        submission_id=SubmissionId("s1"),
        file_id=FileId("f1"),
        job_id=JobId("j1"),
        attempt=1,
        name="a.txt",
        client=CLIENT,
    )
    return Event(
        cursor=Cursor(cursor),
        at=AT,
        name=name,
        subject=subject,
        data={key: data.get(key, DATA.get(key, key)) for key in DATA_KEYS[name]},
    )


@pytest.mark.parametrize("name", list(EventName))
def test_every_event_has_every_key_in_order_and_a_message(name: EventName) -> None:
    text = log_line(event(7, name))
    record = json.loads(text)
    assert tuple(record) == KEYS
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert record["event"] == name.value
    assert record["message"]


@pytest.mark.parametrize("name", [name for name in EventName if name is not EventName.SUBMISSION_SETTLED])
def test_an_event_of_which_nothing_is_known_has_nulls(name: EventName) -> None:
    nothing: dict[str, Any] = dict.fromkeys(DATA_KEYS[name])
    record = json.loads(log_line(Event(cursor=Cursor(1), at=AT, name=name, subject=Subject(), data=nothing)))
    assert tuple(record) == KEYS
    assert {record[key] for key in ("submission", "file", "job", "attempt", "ip", "host", "domain", "size")} == {None}


def test_a_line_tells_when_what_and_who() -> None:
    record = json.loads(log_line(event(42, EventName.JOB_SETTLED)))
    assert record == {
        "at": "2026-03-01T10:00:00.123Z",
        "event": "job.settled",
        "cursor": 42,
        "submission": "s1",
        "file": "f1",
        "job": "j1",
        "attempt": 1,
        "name": "a.txt",
        "size": None,
        "sha256": None,
        "state": "failed",
        "cause": None,
        "duration": 1.5,
        "ip": "10.0.0.7",
        "host": "pc7.lab.example",
        "verified": True,
        "domain": "lab.example",
        "account": None,
        "user_agent": "curl/8",
        "message": "ValueError: no such column",
    }


def test_the_name_that_was_just_found_is_the_one_in_the_line() -> None:
    record = json.loads(log_line(event(1, EventName.CLIENT_IDENTIFIED)))
    assert (record["host"], record["verified"], record["message"]) == (
        "pc8.lab.example",
        False,
        "Client is pc8.lab.example",
    )


def test_the_machine_of_an_attempt_is_not_taken_for_the_client() -> None:
    record = json.loads(log_line(event(1, EventName.ATTEMPT_STARTED, host="worker-3")))
    assert record["host"] == "pc7.lab.example"
    assert "worker-3" in record["message"]


def test_a_settled_submission_says_what_became_of_its_files() -> None:
    record = json.loads(log_line(event(1, EventName.SUBMISSION_SETTLED)))
    assert record["message"] == "Submission settled: 2 succeeded, 1 failed"


@pytest.mark.parametrize(
    "name", ["a\nb", "a\r\x1b[31m", "\x00", "\x7f", "\u202egpj.exe", "日本.txt", "\ud800", '"},{"', "\u2028"]
)
def test_a_line_is_printable_ascii_whatever_a_name_holds(name: str) -> None:
    text = log_line(
        Event(cursor=Cursor(1), at=AT, name=EventName.UPLOAD_STARTED, subject=Subject(name=name), data=dict(DATA))
    )
    assert text[:-1].isascii()
    assert text[:-1].isprintable()
    assert json.loads(text)["name"] == name


def test_a_long_error_is_cut() -> None:
    record = json.loads(log_line(event(1, EventName.ATTEMPT_FAILED, error={"type": "X", "message": "y" * 10_000})))
    assert len(record["message"]) == MESSAGE_MAX
