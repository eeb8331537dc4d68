"""Events, and pages of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from dropmill.model.events import Event
from dropmill.model.ids import LedgerId
from dropmill.text import time_text
from dropmill.wire.clients import ClientJson, client_json
from dropmill.wire.encoding import Json, dumps


class SubjectJson(TypedDict):
    """What an event is about; null where it does not apply."""

    submission_id: str | None
    file_id: str | None
    job_id: str | None
    attempt: int | None
    name: str | None
    account: str | None
    client: ClientJson | None


class EventJson(TypedDict):
    """Something that happened."""

    cursor: int
    at: str
    name: str
    subject: SubjectJson
    data: Json


class EventPageJson(TypedDict):
    """Events of a topic. `gap`: older ones after the cursor may have been removed. `ledger`: whose cursor this is."""

    events: list[EventJson]
    cursor: int
    gap: bool
    ledger: str


def event_json(event: Event) -> EventJson:
    """An event."""
    subject = event.subject
    return {
        "cursor": event.cursor,
        "at": time_text(event.at),
        "name": event.name.value,
        "subject": {
            "submission_id": subject.submission_id,
            "file_id": subject.file_id,
            "job_id": subject.job_id,
            "attempt": subject.attempt,
            "name": subject.name,
            "account": subject.account,
            "client": client_json(subject.client),
        },
        "data": dict(event.data),
    }


def event_text(event: Event) -> bytes:
    """An event as JSON text."""
    return dumps(event_json(event)).encode()


def event_page_json(events: Sequence[Event], cursor: int, *, has_gap: bool, of_ledger: LedgerId) -> EventPageJson:
    """A page of events in cursor order; the next page begins after `cursor`."""
    return {"events": [event_json(event) for event in events], "cursor": cursor, "gap": has_gap, "ledger": of_ledger}


# --- for clients -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteEvents:
    """A page of events as the server's answer holds it, oldest first.

    Attributes:
        cursor: where the next page begins.
        has_gap: whether older events after the requested cursor may have been removed, or it was another ledger's.
        ledger: id of the ledger whose cursor it is.
    """

    events: Sequence[Json]
    cursor: int
    has_gap: bool
    ledger: str


def remote_events(page: Mapping[str, Any]) -> RemoteEvents:
    """The page that `event_page_json` made.

    Raises:
        KeyError: a field is missing.
    """
    return RemoteEvents(events=page["events"], cursor=page["cursor"], has_gap=page["gap"], ledger=page["ledger"])
