"""The event log over HTTP: the lines of the log file, for who cannot read that file."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from quart import Blueprint, Response

from dropmill import logfile
from dropmill.model.events import TOPIC_ALL, Event
from dropmill.model.ids import Cursor
from dropmill.ports.ledger.events import EventLedger
from dropmill.web import query
from dropmill.web.services import services

log = Blueprint("log", __name__, url_prefix="/api/v1")

EVENTS_PER_READ = 100  # a line with the longest names has 30 KB: this many are in memory at once


@log.get("/log")
async def lines() -> Response:
    """The lines behind a cursor, in cursor order; with the cursor of the last one as `after` come the next."""
    after, limit = Cursor(query.number("after") or 0), query.limit()
    ledger = services().ledger
    # Before the answer begins, so that a ledger that is away is told as an error.
    page = await ledger.events(TOPIC_ALL, after=after, limit=min(limit, EVENTS_PER_READ))
    return Response(_texts(ledger, page.events, limit), content_type="application/x-ndjson")


async def _texts(ledger: EventLedger, events: Sequence[Event], limit: int) -> AsyncIterator[bytes]:
    while events:
        yield await asyncio.to_thread(_text, events)
        limit -= len(events)
        if limit == 0:
            return
        page = await ledger.events(TOPIC_ALL, after=events[-1].cursor, limit=min(limit, EVENTS_PER_READ))
        events = page.events


def _text(events: Sequence[Event]) -> bytes:
    return "".join(map(logfile.line, events)).encode("ascii")
