"""The history over HTTP: a page as JSON, or everything that is asked for as CSV."""

import re
import unicodedata
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from quart import Blueprint, Response, request

from dropmill.live.views import Views
from dropmill.model.caller import Caller
from dropmill.model.errors import BadParameter
from dropmill.model.history import TEXT_MIN, HistoryFilter, HistoryPage
from dropmill.web.api import query
from dropmill.web.server.accept import preferred_type
from dropmill.web.server.caller import current_caller
from dropmill.web.services import services
from dropmill.wire.history import history_csv, history_page_json

history = Blueprint("history", __name__, url_prefix="/api/v1")

CSV, JSON = "text/csv", "application/json"
FORMATS = {"csv": CSV, "json": JSON}
CSV_PAGE = 500  # entries read at once

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Nothing was opened outside of these; so far from the limits of `datetime` that no sum exceeds them."""


@history.get("/history")
async def read() -> Any:
    """A page of submissions, newest first; as CSV all of them, unless `limit` is given."""
    caller, wanted = current_caller(), wanted_history()
    before, after = query.text("before"), query.text("after")
    limit = query.limit()
    if _format() == JSON:
        page = await services().views.history(caller, wanted, before=before, after=after, limit=limit)
        response: Any = history_page_json(page)
        return response, 200, {"Vary": "Accept"}
    is_whole = query.text("limit") is None and after is None
    # Read before the answer begins, so that an error still has a status.
    first = await services().views.history(
        caller, wanted, before=before, after=after, limit=CSV_PAGE if is_whole else limit
    )
    return Response(
        _lines(services().views, caller, wanted, first, is_whole=is_whole),
        content_type=f"{CSV}; charset=utf-8; header=present",
        headers={"Content-Disposition": 'attachment; filename="history.csv"', "Vary": "Accept"},
    )


async def _lines(
    views: Views, caller: Caller, wanted: HistoryFilter, page: HistoryPage, *, is_whole: bool
) -> AsyncIterator[bytes]:
    """CSV of a page, and of all older ones. Runs after the request's context has ended."""
    yield history_csv(page.entries, has_head=True).encode()
    while is_whole and page.next is not None:
        page = await views.history(caller, wanted, before=page.next, limit=CSV_PAGE)
        yield history_csv(page.entries, has_head=False).encode()


def _format() -> str:
    """The media type of the answer: what the URL asks for, as links do; else what `Accept` prefers."""
    name = query.text("format")
    if name is None:
        return preferred_type(request.headers.get("Accept", ""), [JSON, CSV])
    if name not in FORMATS:
        raise BadParameter(f"`format` must be one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def wanted_history() -> HistoryFilter:
    """What the query asks for; the page and the API read the same parameters.

    Raises:
        BadParameter: a parameter is given twice, or malformed.
    """
    return HistoryFilter(
        state=query.text("state"),
        text=search_text(query.text("q")),
        opened_from=moment(query.text("from"), "from"),
        opened_before=moment(query.text("to"), "to", is_end=True),
    )


def search_text(given: str | None) -> str | None:
    """A search text without the blanks around it; None if nothing is left.

    Raises:
        BadParameter: it is shorter than `TEXT_MIN`.
    """
    text = unicodedata.normalize("NFC", (given or "").strip())
    if not text:
        return None
    if len(text) < TEXT_MIN:
        raise BadParameter(f"`q` must have at least {TEXT_MIN} characters.", reason="too_short", limit=TEXT_MIN)
    return text


def moment(given: str | None, name: str, *, is_end: bool = False) -> datetime | None:
    """A day (UTC) or a time with its time zone (RFC 3339) as a time, UTC; None if absent.

    Args:
        given: the parameter's text.
        name: the parameter's name.
        is_end: whether a day stands for its end.

    Raises:
        BadParameter: it is neither.
    """
    if given is None:
        return None
    try:
        if _DAY.fullmatch(given):
            found = datetime.combine(date.fromisoformat(given), time(), UTC)
            return _bounded(found) + timedelta(days=is_end)
        found = datetime.fromisoformat(given.replace(" ", "+"))  # a query that was not encoded has a blank for a plus
        if found.tzinfo is not None:
            return _bounded(found)
    except ValueError:
        pass
    raise BadParameter(
        f"`{name}` must be a day (2026-11-20) or a time with its zone (2026-11-20T08:15:00Z).", reason="not_a_time"
    )


def _bounded(found: datetime) -> datetime:
    if not EARLIEST.year < found.year < LATEST.year:
        return EARLIEST if found.year <= EARLIEST.year else LATEST
    return found.astimezone(UTC)
