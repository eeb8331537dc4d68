"""Events and pages of them, as clients get them."""

from datetime import datetime, timedelta, timezone

from dropmill.model.client import ClientIdentity
from dropmill.model.events import Event, EventName, Subject
from dropmill.model.ids import Cursor, LedgerId
from dropmill.wire.clients import client_from_json, client_json
from dropmill.wire.events import event_json, event_page_json, remote_events

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, timezone(timedelta(hours=2)))
TEXT = "2026-03-01T10:00:00.123Z"
CLIENT = ClientIdentity(ip="192.0.2.7", host="pc7.lab.example", verified=True, domain="lab.example", user_agent="curl")
CLIENT_JSON = {
    "ip": "192.0.2.7",
    "host": "pc7.lab.example",
    "verified": True,
    "domain": "lab.example",
    "user_agent": "curl",
}


def test_an_event_names_its_subject_with_null_for_what_is_absent() -> None:
    event = Event(cursor=Cursor(3), at=AT, name=EventName.SUBMISSION_OPENED, subject=Subject(client=CLIENT), data={})
    assert event_json(event) == {
        "cursor": 3,
        "at": TEXT,
        "name": "submission.opened",
        "subject": {
            "submission_id": None,
            "file_id": None,
            "job_id": None,
            "attempt": None,
            "name": None,
            "account": None,
            "client": CLIENT_JSON,
        },
        "data": {},
    }


def test_a_client_reads_back_a_page_that_the_server_wrote() -> None:
    event = Event(cursor=Cursor(3), at=AT, name=EventName.SUBMISSION_OPENED, subject=Subject(client=CLIENT), data={})
    page = remote_events(event_page_json([event], 3, has_gap=True, of_ledger=LedgerId("l")))
    assert (page.events, page.cursor, page.has_gap) == ([event_json(event)], 3, True)


def test_a_stored_client_is_the_one_that_was_stored() -> None:
    assert client_from_json(client_json(CLIENT)) == CLIENT
    assert client_from_json(client_json(None)) is None
