"""The messages of the socket `/api/v1/live`, in both directions; `docs/live.md` lists them.

A message of the server is a `TypedDict` in `ServerMessage`, a message of a client a dataclass in `ClientMessage`. The
type checker compares what is sent with the first, the parser takes the fields of the second, and the test of
`docs/live.md` reads both.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from types import UnionType
from typing import Any, Literal, TypedDict

from dropmill.model.jobs import Progress
from dropmill.model.numbers import whole_number
from dropmill.text import time_text
from dropmill.wire.encoding import dumps, loads_unique
from dropmill.wire.events import EventJson
from dropmill.wire.jobs import progress_json
from dropmill.wire.submissions import SubmissionJson

PROTOCOL = 1
MESSAGE_MAX = 64 * 1024  # characters of one message from a client
ID_MAX = 200  # characters of a client's message id, topic or job id
MAX_POSITION = 2**63 - 1

BAD_MESSAGE = "bad_message"
TOO_MANY = "too_many"
OWN_CODES = (BAD_MESSAGE, TOO_MANY)
"""Error codes of replies that no other answer has."""

MessageId = str | int | None
"""A client's name for a message, which the reply repeats."""


# --- to the client ---------------------------------------------------------------------------------------------------


class Hello(TypedDict):
    """The first message of a connection."""

    type: Literal["hello"]
    protocol: int
    server_time: str
    heartbeat: float
    ledger: str
    version: str
    spread_s: float


class ReplyError(TypedDict):
    """Why a message was refused."""

    code: str
    detail: str | None


class Reply(TypedDict):
    """The answer to a client's message."""

    type: Literal["reply"]
    re: MessageId
    ok: bool
    error: ReplyError | None


class Snapshot(TypedDict):
    """The state of a topic at `cursor`; null for topics that consist of events only."""

    type: Literal["snapshot"]
    topic: str
    cursor: int
    state: SubmissionJson | None


class Events(TypedDict):
    """Durable events in cursor order; `cursor` is that of the last one."""

    type: Literal["events"]
    topic: str
    cursor: int
    events: list[EventJson]


class FileProgress(TypedDict):
    """How far one file is."""

    file_id: str
    stage: str
    value: float
    total: float | None
    label: str | None


class ProgressReports(TypedDict):
    """The newest report of each file that moved; may be lost, the newest wins."""

    type: Literal["progress"]
    files: list[FileProgress]


class Sending(TypedDict):
    """All files of a submission that are being sent at this moment."""

    type: Literal["sending"]
    topic: str
    file_ids: list[str]


class Output(TypedDict):
    """A piece of an attempt's output; `offset` and `end` count bytes."""

    type: Literal["output"]
    job_id: str
    attempt: int
    offset: int
    end: int
    text: str


class NoticeMessage(TypedDict):
    """An operator's message; to be shown until it expires or is withdrawn."""

    type: Literal["notice"]
    id: str
    text: str
    expires_at: str


class NoticeWithdrawn(TypedDict):
    """An operator's message that is not to be shown any more, wherever it was."""

    type: Literal["notice_withdrawn"]
    id: str


class Presence(TypedDict):
    """Who else follows a topic.

    `watching` counts the other connections. `names` are their accounts; None while there are none. `editing`: whether
    another one has unsaved changes of the config.
    """

    type: Literal["presence"]
    topic: str
    watching: int
    names: list[str] | None
    editing: bool


class Gap(TypedDict):
    """Events after the subscriber's cursor were removed; the topic continues from `cursor`."""

    type: Literal["gap"]
    topic: str
    cursor: int


class Tick(TypedDict):
    """The heartbeat."""

    type: Literal["tick"]
    at: str
    spread_s: float


class PollEnd(TypedDict):
    """The last message of a long poll's answer; the next poll sends `seen` back."""

    type: Literal["poll"]
    seen: str


ServerMessage = (
    Hello
    | Reply
    | Snapshot
    | Events
    | ProgressReports
    | Sending
    | Output
    | NoticeMessage
    | NoticeWithdrawn
    | Presence
    | Gap
    | Tick
    | PollEnd
)


def hello(now: datetime, heartbeat_s: float, ledger: str, version: str, spread_s: float) -> Hello:
    """The first message of a connection.

    Args:
        now: the server's time.
        heartbeat_s: seconds between two ticks.
        ledger: id of the ledger.
        version: of the server.
        spread_s: how many seconds clients should spread their return over after a restart.
    """
    return {
        "type": "hello",
        "protocol": PROTOCOL,
        "server_time": time_text(now),
        "heartbeat": heartbeat_s,
        "ledger": ledger,
        "version": version,
        "spread_s": spread_s,
    }


def reply(re: MessageId, code: str | None = None, detail: str | None = None) -> Reply:
    """The answer to a client's message; an error if `code` is given."""
    error: ReplyError | None = None if code is None else {"code": code, "detail": detail}
    return {"type": "reply", "re": re, "ok": code is None, "error": error}


def snapshot(topic: str, cursor: int, state: SubmissionJson | None) -> Snapshot:
    """The state of a topic at `cursor`."""
    return {"type": "snapshot", "topic": topic, "cursor": cursor, "state": state}


def events(topic: str, cursor: int, some: Sequence[EventJson]) -> Events:
    """Events in cursor order; `cursor` is that of the last one."""
    return {"type": "events", "topic": topic, "cursor": cursor, "events": list(some)}


def events_text(topic: str, cursor: int, some: Sequence[bytes]) -> bytes:
    """The text of the message `events`, from events that are already JSON text."""
    around = dumps(events(topic, cursor, []))
    return b"%s%s]}" % (around[:-2].encode(), b",".join(some))


def progress(reports: Iterable[Progress]) -> ProgressReports:
    """How far some files are."""
    files: list[FileProgress] = [
        {"file_id": report.file_id, "stage": report.stage, **progress_json(report)} for report in reports
    ]
    return {"type": "progress", "files": files}


def sending(topic: str, file_ids: Iterable[str]) -> Sending:
    """All files of a submission that are being sent at this moment."""
    return {"type": "sending", "topic": topic, "file_ids": sorted(file_ids)}


def output(job_id: str, attempt: int, offset: int, end: int, text: str) -> Output:
    """A piece of an attempt's output, from byte `offset` up to byte `end`."""
    return {"type": "output", "job_id": job_id, "attempt": attempt, "offset": offset, "end": end, "text": text}


def notice(notice_id: str, text: str, expires_at: datetime) -> NoticeMessage:
    """An operator's message."""
    return {"type": "notice", "id": notice_id, "text": text, "expires_at": time_text(expires_at)}


def notice_withdrawn(notice_id: str) -> NoticeWithdrawn:
    """An operator's message is not to be shown any more."""
    return {"type": "notice_withdrawn", "id": notice_id}


def presence(topic: str, watching: int, names: list[str] | None, editing: bool) -> Presence:
    """Who else follows a topic."""
    return {"type": "presence", "topic": topic, "watching": watching, "names": names, "editing": editing}


def gap(topic: str, cursor: int) -> Gap:
    """Events were removed; the topic continues from `cursor`."""
    return {"type": "gap", "topic": topic, "cursor": cursor}


def tick(now: datetime, spread_s: float) -> Tick:
    """The heartbeat."""
    return {"type": "tick", "at": time_text(now), "spread_s": spread_s}


def poll_end(seen: str) -> PollEnd:
    """The last message of a long poll's answer."""
    return {"type": "poll", "seen": seen}


# --- from the client -------------------------------------------------------------------------------------------------


class BadMessage(Exception):
    """A client's message is malformed. `re` is its id; None if it has no usable one."""

    def __init__(self, detail: str, re: MessageId = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.re = re


@dataclass(frozen=True, kw_only=True, slots=True)
class Join:
    """Follow a topic, or the stream `output:<job_id>`.

    Attributes:
        ledger: id of the ledger whose cursor `after` is; None is this one.
        after: cursor, or byte offset for a stream, after which to begin; None asks for a snapshot.
        attempt: number of the attempt whose output to follow; None is the newest.
    """

    id: MessageId
    topic: str
    ledger: str | None
    after: int | None
    attempt: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """Stop following a topic or stream."""

    id: MessageId
    topic: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """Cancel a job."""

    id: MessageId
    job_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Requeue a settled job."""

    id: MessageId
    job_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Editing:
    """Say whether this client has unsaved changes of the config."""

    id: MessageId
    topic: str
    is_dirty: bool


ClientMessage = Join | Leave | Cancel | Retry | Editing

CLIENT_MESSAGES: Mapping[str, type[ClientMessage]] = {
    "join": Join,
    "leave": Leave,
    "cancel": Cancel,
    "retry": Retry,
    "editing": Editing,
}
"""The class of each `type`."""


def parse(text: Any) -> ClientMessage:
    """A client's message. Fields that its type does not have are ignored.

    Raises:
        BadMessage: it is not JSON text, not one of the types, or a field is missing or has the wrong form.
    """
    if not isinstance(text, str):
        raise BadMessage("Messages are JSON text.")
    if len(text) > MESSAGE_MAX:
        raise BadMessage(f"A message has at most {MESSAGE_MAX} characters.")
    try:
        message = loads_unique(text)
    except (ValueError, RecursionError):
        raise BadMessage("The message is not a JSON object with unique keys.") from None
    if not isinstance(message, dict):
        raise BadMessage("The message is not a JSON object.")
    re = message.get("id")
    if not (re is None or (isinstance(re, str | int) and not isinstance(re, bool) and len(str(re)) <= ID_MAX)):
        raise BadMessage("`id` must be a short string or an integer.")
    kind = message.get("type")
    made = CLIENT_MESSAGES.get(kind) if isinstance(kind, str) else None
    if made is None:
        *most, last = CLIENT_MESSAGES
        raise BadMessage(f"`type` must be {', '.join(most)} or {last}.", re)
    values = {each.name: _VALUES[each.type](message, each.name, re) for each in fields(made) if each.name != "id"}
    return made(id=re, **values)


POLL_WAIT_MAX_S = 25  # under the 30 s of common proxies
_CLIENT = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PollRequest:
    """What a long poll asks for.

    Attributes:
        joins: what to follow; `id` is the topic if the client gave none.
        wait_s: the most seconds to wait for a message.
        seen: of the answer before; None if there was none.
        client: the client's name for itself; None without one.
    """

    joins: Sequence[Join]
    wait_s: float
    seen: str | None
    client: str | None


def parse_poll(body: Mapping[str, Any]) -> PollRequest:
    """The body of a long poll. Fields that it does not have are ignored.

    Raises:
        BadMessage: a field has the wrong form.
    """
    joins = body.get("joins")
    if not isinstance(joins, list) or not all(isinstance(join, dict) for join in joins):
        raise BadMessage("`joins` must be a list of objects.")
    wait = body.get("wait", POLL_WAIT_MAX_S)
    if not isinstance(wait, int | float) or isinstance(wait, bool) or not wait >= 0:
        raise BadMessage("`wait` must be a number of seconds, 0 or more.")
    seen = body.get("seen")
    if not (seen is None or isinstance(seen, str)):
        raise BadMessage("`seen` must be the text of the answer before.")
    made = []
    for join in joins:
        given = parse(dumps({**join, "type": "join"}))
        if isinstance(given, Join):
            made.append(replace(given, id=given.topic) if given.id is None else given)
    return PollRequest(joins=made, wait_s=min(wait, POLL_WAIT_MAX_S), seen=seen, client=client_name(body.get("client")))


def client_name(value: Any) -> str | None:
    """The name that a client without a socket gave itself; None without one.

    Raises:
        BadMessage: it is not 16 to 64 letters, digits, `-` or `_`.
    """
    if value is not None and not (isinstance(value, str) and _CLIENT.fullmatch(value)):
        raise BadMessage("`client` must be 16 to 64 letters, digits, `-` or `_`.")
    return value


def parse_join(text: str, ledger: str | None) -> Join:
    """A join of a query: `TOPIC`, `TOPIC@CURSOR`, `output:JOB@OFFSET` or `output:JOB@ATTEMPT:OFFSET`.

    Args:
        text: the join.
        ledger: whose cursor it has.

    Raises:
        BadMessage: it has another form.
    """
    topic, _, place = text.partition("@")
    attempt, _, after = place.rpartition(":")
    values = [whole_number(value) if value else None for value in (attempt, after)]
    given = [value for value in (attempt, after) if value]
    is_output = topic.startswith("output:")
    if (
        not topic
        or ("@" in text and not after)
        or (attempt and not is_output)
        or given != [str(value) for value in values if value is not None]
    ):
        raise BadMessage("`join` must be TOPIC@CURSOR, or output:JOB@ATTEMPT:OFFSET.")
    return Join(id=topic, topic=topic, ledger=ledger, after=values[1], attempt=values[0])


def _short_text(message: Mapping[str, Any], key: str, re: MessageId) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not value or len(value) > ID_MAX or not value.isprintable():
        raise BadMessage(f"`{key}` must be a short printable string.", re)
    return value


def _optional_text(message: Mapping[str, Any], key: str, re: MessageId) -> str | None:
    return None if message.get(key) is None else _short_text(message, key, re)


def _statement(message: Mapping[str, Any], key: str, re: MessageId) -> bool:
    value = message.get(key)
    if not isinstance(value, bool):
        raise BadMessage(f"`{key}` must be true or false.", re)
    return value


def _position(message: Mapping[str, Any], key: str, re: MessageId) -> int | None:
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_POSITION:
        raise BadMessage(f"`{key}` must be an integer, 0 or more, or null.", re)
    return value


_VALUES: Mapping[type | UnionType | Any, Any] = {
    str: _short_text,
    str | None: _optional_text,
    bool: _statement,
    int | None: _position,
}
"""How a field of a client's message is read, by its type."""
