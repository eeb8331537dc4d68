"""The event log over HTTP: the lines of the log file, for clients that cannot read the file; and the audit in it."""

from typing import Any

from quart import Blueprint, Response

from dropmill.model.errors import BadParameter
from dropmill.model.events import AuditKind
from dropmill.model.ids import Cursor
from dropmill.web.api import query
from dropmill.web.server.caller import current_caller
from dropmill.web.services import services
from dropmill.wire.events import event_json

log = Blueprint("log", __name__, url_prefix="/api/v1")


@log.get("/log")
async def lines() -> Response:
    """The lines after a cursor, in cursor order. `after` the cursor of the last line returns the next ones."""
    after, limit = Cursor(query.number("after") or 0), query.limit()
    found = await services().log.read(current_caller(), after=after, limit=limit)
    return Response(found, content_type="application/x-ndjson")


@log.get("/audit")
async def audit() -> Any:
    """What people did to the server and what others have sent, and what they were refused; the newest first."""
    before, limit, kind = query.number("before"), query.limit(), query.text("kind")
    if kind is not None and kind not in list(AuditKind):
        raise BadParameter(f"`kind` must be one of {', '.join(AuditKind)}.")
    page = await services().log.audit(
        current_caller(),
        before=None if before is None else Cursor(before),
        limit=limit,
        kind=None if kind is None else AuditKind(kind),
        who=query.text("who"),
    )
    return {"items": [event_json(event) for event in reversed(page.events)], "next": page.cursor or None}
