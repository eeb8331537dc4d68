"""The page `/history`: what runs on top, then the settled submissions by day; with a state, the submissions in it.

Days and times are in UTC; `static/js/history` shows those of the person, and keeps the list up to date.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from urllib.parse import urlencode

from babel.dates import format_date
from quart import Response, current_app, redirect, render_template
from werkzeug.wrappers import Response as Redirect

from dropmill.model.errors import BadParameter
from dropmill.model.history import TEXT_MIN, HistoryFilter, HistoryPage
from dropmill.model.submissions import Counts
from dropmill.web import messages
from dropmill.web.api import query
from dropmill.web.api.history import wanted_history
from dropmill.web.server.caller import current_caller
from dropmill.web.services import services
from dropmill.wire.history import HistoryEntryJson, HistoryPageJson, history_page_json
from dropmill.wire.submissions import counts_json

PAGE = 50  # settled submissions on a page
RUNNING = 20  # unsettled ones on top of the first page

BLANK: HistoryEntryJson = {
    "id": "",
    "state": "settled",
    "outcome": None,
    "opened_at": "",
    "settled_at": None,
    "client": None,
    "account": None,
    "counts": counts_json(Counts()),
    "aborted_as": {"cancelled": 0, "replaced": 0},
    "link": None,
    "first_file": None,
    "file_count": 0,
    "result_count": 0,
    "match": None,
}
"""For the template of a row, which scripts fill."""


async def history_page(language: str) -> Response | Redirect:
    """The page that the query asks for. One that cannot be searched for says why, and keeps what was typed.

    Args:
        language: of the page.
    """
    before, after = query.text("before"), query.text("after")
    filters = {"q": query.text("q"), "state": query.text("state"), "from": query.text("from"), "to": query.text("to")}
    asked = {name: value or "" for name, value in {**filters, "before": before, "after": after}.items()}
    cursor = await services().topics.newest(current_caller())  # read before the list, so that no later event is missed
    wanted, running, page = HistoryFilter(), None, HistoryPage(entries=(), previous=None, next=None)
    problem: BadParameter | None = None
    is_short = 0 < len(asked["q"].strip()) < TEXT_MIN
    if not is_short:
        try:
            wanted = wanted_history()
            running, page = await _shown(wanted, before, after)
        except BadParameter as error:
            problem = error
    if after and page.previous is None and not problem and not is_short:
        # The newest page: from its beginning on, and with what runs.
        return redirect(_address(asked))
    page_json = history_page_json(page)
    shown = {"running": None if running is None else history_page_json(running), "page": page_json}
    html = await render_template(
        "history.html",
        page_data={
            "limit": str(PAGE),
            "running_limit": str(RUNNING),
            "cursor": cursor,
            "topic": services().topics.widest(current_caller()),
            "is_refused": is_short or problem is not None,
            "shown": shown,
        },
        asked=asked,
        address=lambda path="/history", **more: _address(asked, path, **more),
        shown=shown,
        days=_days(page_json, language),
        blank=BLANK,
        problem=problem,
        is_short=is_short,
        first_day="" if wanted.opened_from is None else wanted.opened_from.date().isoformat(),
        last_day=""
        if wanted.opened_before is None
        else (wanted.opened_before - timedelta(milliseconds=1)).date().isoformat(),
    )
    status = 400 if problem or is_short else 200
    return Response(html, status=status, content_type="text/html; charset=utf-8")


async def _shown(
    wanted: HistoryFilter, before: str | None, after: str | None
) -> tuple[HistoryPage | None, HistoryPage]:
    """What runs, if the page begins with it, and the page."""
    caller, views = current_caller(), services().views
    if wanted.state is not None:
        return None, await views.history(caller, wanted, before=before, after=after, limit=PAGE)
    running = None
    if before is None and after is None:
        # Read first: what settles in between is then in both, never in neither.
        running = await views.history(caller, replace(wanted, state="running"), limit=RUNNING)
    settled = replace(wanted, state="settled")
    page = await views.history(caller, settled, before=before, after=after, limit=PAGE)
    if running is not None:
        twice = {entry.submission.id for entry in page.entries}
        entries = [entry for entry in running.entries if entry.submission.id not in twice]
        running = replace(running, entries=entries)
    return running, page


def _address(asked: Mapping[str, str], path: str = "/history", **more: str | None) -> str:
    """The address of the first page with the same filters, and with further parameters."""
    filters = {name: asked[name] for name in ("q", "state", "from", "to")}
    given = {name: value for name, value in {**filters, **more}.items() if value}
    base = current_app.jinja_env.globals["base"]
    return f"{base}{path}{'?' if given else ''}{urlencode(given)}"


def _days(page: HistoryPageJson, language: str) -> Sequence[tuple[str, str, Sequence[HistoryEntryJson]]]:
    """The entries of a page by day: the day, its label, its entries."""
    groups = groupby(page["items"], key=lambda entry: entry["opened_at"][:10])
    return [(day, _day_label(date.fromisoformat(day), language), list(entries)) for day, entries in groups]


def _day_label(day: date, language: str) -> str:
    today = datetime.now(UTC).date()
    if day == today:
        return messages.translate(language, "history.today")
    if day == today - timedelta(days=1):
        return messages.translate(language, "history.yesterday")
    return format_date(day, "full", locale=language)
