"""Events: queries and rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select

from dropmill.engines.sql import prepared
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.tables import events, is_about_config, is_audited
from dropmill.engines.sql.types import is_storable
from dropmill.model.errors import NotFound
from dropmill.model.events import TOPIC_ALL, TOPIC_AUDIT, TOPIC_CONFIG, Event, EventName, Subject
from dropmill.model.ids import Cursor, FileId, JobId, Owner, SubmissionId
from dropmill.ports.ledger.events import EventPage
from dropmill.wire.clients import client_from_json


def event_of(row: Row) -> Event:
    """An event."""
    return Event(
        cursor=Cursor(row["cursor"]),
        at=row["at"],
        name=EventName(row["name"]),
        subject=Subject(
            submission_id=None if row["submission_id"] is None else SubmissionId(row["submission_id"]),
            file_id=None if row["file_id"] is None else FileId(row["file_id"]),
            job_id=None if row["job_id"] is None else JobId(row["job_id"]),
            attempt=row["attempt"],
            name=row["file_name"],
            account=row["account"],
            client=client_from_json(row["client"]),
        ),
        data=row["data"],
        owner=None if row["owner"] is None else Owner(row["owner"]),
    )


_NEWEST_CURSOR = select(func.max(events.c.cursor).label("cursor"))
_OLDEST_CURSOR = select(func.min(events.c.cursor).label("cursor"))


def newest_cursor(connection: Connection) -> Cursor:
    """See `Ledger.newest_cursor`."""
    newest = prepared.one(connection, _NEWEST_CURSOR, {})
    return Cursor(newest["cursor"] or 0) if newest else Cursor(0)


def _following(*conditions: ColumnElement[bool]) -> Select[Any]:
    query = select(events).where(events.c.cursor > bindparam("after"), *conditions)
    return query.order_by(events.c.cursor).limit(bindparam("limit"))


def _preceding(*conditions: ColumnElement[bool]) -> Select[Any]:
    query = select(events).where(events.c.cursor < bindparam("before"), *conditions)
    return query.order_by(events.c.cursor.desc()).limit(bindparam("limit"))


# Built once: every subscriber reads after every commit.
_CONDITIONS: Mapping[str, Sequence[ColumnElement[bool]]] = {
    TOPIC_ALL: (),
    TOPIC_CONFIG: (is_about_config,),
    TOPIC_AUDIT: (is_audited,),
    "submission": (events.c.submission_id == bindparam("key"),),
    "account": (events.c.owner == bindparam("key"),),
    "browser": (events.c.owner == bindparam("key"),),
}
_WITHOUT_KEY = (TOPIC_ALL, TOPIC_CONFIG, TOPIC_AUDIT)
_IS_OWNED = events.c.owner == bindparam("visible_to")
_EVENTS = {kind: _following(*conditions) for kind, conditions in _CONDITIONS.items()}
_EVENTS_OF_OWNER = {kind: _following(*conditions, _IS_OWNED) for kind, conditions in _CONDITIONS.items()}
_OLDER = {kind: _preceding(*conditions) for kind, conditions in _CONDITIONS.items()}
_OLDER_OF_OWNER = {kind: _preceding(*conditions, _IS_OWNED) for kind, conditions in _CONDITIONS.items()}


def events_after(
    connection: Connection, topic: str, after: Cursor, limit: int, visible_to: Owner | None = None
) -> EventPage:
    """See `Ledger.events`.

    Raises:
        NotFound: there is no such topic.
    """
    kind, key = _kind_and_key(topic)
    query = (_EVENTS if visible_to is None else _EVENTS_OF_OWNER)[kind]
    page = _read(connection, query, after=after, limit=limit, key=key, visible_to=visible_to)
    # After a full page there may be more events; after a short one there are none, as of this transaction.
    cursor = page[-1].cursor if len(page) == limit else max(newest_cursor(connection), after)
    return EventPage(events=page, cursor=Cursor(cursor), is_cut=_is_cut(connection, kind, key, after))


def events_before(
    connection: Connection, topic: str, before: Cursor, limit: int, visible_to: Owner | None = None
) -> EventPage:
    """See `Ledger.events_before`.

    Raises:
        NotFound: there is no such topic.
    """
    kind, key = _kind_and_key(topic)
    query = (_OLDER if visible_to is None else _OLDER_OF_OWNER)[kind]
    # One more than asked for shows whether there are older ones.
    found = _read(connection, query, before=before, limit=limit + 1, key=key, visible_to=visible_to)
    page = found[:limit][::-1]
    if len(found) > limit:
        return EventPage(events=page, cursor=page[0].cursor)
    return EventPage(events=page, cursor=Cursor(0), is_cut=_is_cut(connection, kind, key, Cursor(0)))


def _kind_and_key(topic: str) -> tuple[str, str]:
    kind, _, key = topic.partition(":")
    if kind not in _CONDITIONS or (kind in _WITHOUT_KEY) != (kind == topic) or (not key and kind != topic):
        raise NotFound("There is no such topic.")
    if kind in ("account", "browser"):
        key = topic  # the owner's whole name
    return kind, key if is_storable(key) else ""


def _read(connection: Connection, query: Select[Any], **parameters: Any) -> list[Event]:
    return [event_of(row) for row in connection.execute(query, parameters).mappings()]


_FIRST_OF_SUBMISSION = (
    select(events.c.name).where(events.c.submission_id == bindparam("key")).order_by(events.c.cursor).limit(1)
)


def _is_cut(connection: Connection, kind: str, key: str, after: Cursor) -> bool:
    """Whether events of the topic after `after` may have been removed."""
    oldest = prepared.one(connection, _OLDEST_CURSOR, {})
    if oldest is None or oldest["cursor"] is None or after >= oldest["cursor"] - 1:
        return False
    # The oldest events are removed first: a submission whose first event is there has all of them.
    if kind != "submission":
        return True
    first = connection.execute(_FIRST_OF_SUBMISSION, {"key": key}).scalar_one_or_none()
    return first != EventName.SUBMISSION_OPENED
