"""Events as lines of the event log."""

from collections.abc import Mapping
from typing import Any, TypedDict

from dropmill.model.events import CATALOGUE, Event, EventName
from dropmill.text import time_text
from dropmill.wire.clients import client_json
from dropmill.wire.encoding import dumps

MESSAGE_MAX = 1000  # characters; the ledger and the job's page have the whole error


class LogLineJson(TypedDict):
    """One line: every key is there, null where unknown."""

    at: str
    event: str
    cursor: int
    submission: str | None
    file: str | None
    job: str | None
    attempt: int | None
    name: str | None
    size: int | None
    sha256: str | None
    state: str | None
    cause: str | None
    duration: float | None
    ip: str | None
    host: str | None
    verified: bool | None
    domain: str | None
    account: str | None
    user_agent: str | None
    message: str


def log_line(event: Event) -> str:
    """An event as its line in the log: printable ASCII and a line end."""
    # JSON does not escape DEL, and a terminal acts on it.
    return dumps(_log_line_json(event)).replace("\x7f", "\\u007f") + "\n"


def _log_line_json(event: Event) -> LogLineJson:
    subject, data, client = event.subject, event.data, event.subject.client
    # The name that this event has found is newer than the one the client had before.
    names: Mapping[str, Any] = data if event.name is EventName.CLIENT_IDENTIFIED else client_json(client) or {}
    return {
        "at": time_text(event.at),
        "event": event.name.value,
        "cursor": event.cursor,
        "submission": subject.submission_id,
        "file": subject.file_id,
        "job": subject.job_id,
        "attempt": subject.attempt,
        "name": subject.name,
        "size": data.get("size"),
        "sha256": data.get("sha256"),
        "state": data.get("state") or CATALOGUE[event.name].state,
        "cause": data.get("cause"),
        "duration": data.get("duration"),
        "ip": None if client is None else client.ip,
        "host": names.get("host"),
        "verified": names.get("verified"),
        "domain": names.get("domain"),
        "account": subject.account,
        "user_agent": None if client is None else client.user_agent,
        "message": message_of(event),
    }


def message_of(event: Event) -> str:
    """A sentence about an event, of at most `MESSAGE_MAX` characters, which may be any."""
    return _message(event)[:MESSAGE_MAX]


def _message(event: Event) -> str:
    data = event.data
    if event.name is EventName.CLIENT_IDENTIFIED:
        return f"Client is {data['host']}" if data["host"] else "The client's host name is not known"
    if event.name is EventName.SUBMISSION_SETTLED:
        counts = ", ".join(f"{count} {state}" for state, count in data["counts"].items() if count)
        return f"Submission settled: {counts or 'no files'}"
    if event.name is EventName.CONFIG_REJECTED and data["errors"]:
        first = data["errors"][0]
        return f"Config refused: line {first.get('line')}: {first.get('message')}"
    if error := data.get("error"):
        return f"{error['type']}: {error['message']}"
    shown = {key: "unknown" if value is None else value for key, value in data.items()}
    if event.name is EventName.ACCOUNT_CHANGED and event.subject.client is None:
        shown["by"] = "the command line"
    return str(data.get("message") or CATALOGUE[event.name].message.format_map(shown))
