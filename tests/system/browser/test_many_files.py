"""10,000 files: the list shows at once, about 60 rows are in the document, and the page stays quick."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect
from tests.support.page_actions import row, verdict
from tests.support.server import Server

FILES = 10_000
MOST_ROWS = 110  # in the document: what a high window shows, and some above and below
Open = Callable[..., Page]


def name_of(number: int) -> str:
    return f"batch-{number % 7}/scan {number}.txt"


@pytest.fixture(scope="module")
def submission_id(site: Server) -> str:
    """An open submission with 10,000 announced files, none of them sent: its jobs would be another test's load."""
    files = [{"name": f"scan {number}.txt", "path": name_of(number), "size": 1024 + number} for number in range(FILES)]
    opened = site.http.post("/api/v1/submissions", json={"files": files[:1000]}).json()
    for first in range(1000, FILES, 1000):
        more = site.http.post(
            f"/api/v1/submissions/{opened['id']}/files", json={"files": files[first : first + 1000]}, timeout=60
        )
        assert more.status_code < 300, more.text
    return str(opened["id"])


@pytest.fixture
def page(open_page: Open) -> Page:
    return open_page("about:blank", viewport={"width": 1440, "height": 900})


def rows(page: Page) -> Any:
    return page.get_by_role("list", name="Files").get_by_role("listitem")


def slowness(page: Page) -> float:
    """How much slower this machine is now than an idle one; a bound in time grows by it."""
    took = page.evaluate(
        """() => {
            const begin = performance.now();
            let sum = 0;
            for (let i = 0; i < 2e7; i += 1) sum += Math.sqrt(i);
            return performance.now() - begin + sum * 0;
        }"""
    )
    return max(1.0, float(took) / 40)


def test_rows_show_at_once_and_only_those_near_the_window_are_in_the_document(page: Page, submission_id: str) -> None:
    page.goto(f"/submissions/{submission_id}", wait_until="commit")
    expect(row(page, "batch-0/scan 0.txt")).to_be_visible()
    shown_ms = page.evaluate("performance.now()")
    assert shown_ms < 2000 * slowness(page)
    expect(verdict(page)).to_have_text(re.compile("0 of 10,000 done"))
    expect(page.get_by_role("button", name="All 10,000")).to_be_visible()
    expect(page.get_by_text("the rest is loading")).to_be_hidden()
    assert rows(page).count() < MOST_ROWS
    assert rows(page).first.get_attribute("aria-setsize") == "10000"
    page.keyboard.press("End")
    expect(row(page, name_of(FILES - 1))).to_be_in_viewport()
    assert rows(page).last.get_attribute("aria-posinset") == "10000"
    assert rows(page).count() < MOST_ROWS
    page.keyboard.press("Home")
    expect(row(page, "batch-0/scan 0.txt")).to_be_in_viewport()


def test_a_search_and_an_order_find_a_file_among_all(page: Page, submission_id: str) -> None:
    page.goto(f"/submissions/{submission_id}")
    search = page.get_by_role("main").get_by_role("searchbox")
    search.fill("SCAN 9876")
    expect(rows(page)).to_have_count(1)
    expect(row(page, name_of(9876))).to_be_visible()
    search.fill("no such file")
    expect(page.get_by_text("No file matches.")).to_be_visible()
    expect(rows(page)).to_have_count(0)
    search.fill("")
    page.get_by_role("combobox", name="Order").select_option("By name")
    expect(rows(page).nth(1)).to_contain_text("batch-0/scan 7.txt")  # not "scan 70"
    page.get_by_role("combobox", name="Order").select_option("Largest first")
    expect(rows(page).first).to_contain_text(name_of(FILES - 1))


def test_the_focus_survives_scrolling_and_updates(page: Page, submission_id: str) -> None:
    page.goto(f"/submissions/{submission_id}")
    expect(page.get_by_text("the rest is loading")).to_be_hidden()
    first = rows(page).first
    first.focus()
    page.mouse.move(600, 700)
    for _ in range(5):
        page.mouse.wheel(0, 60_000)
        page.wait_for_timeout(100)
    expect(rows(page).nth(5)).not_to_contain_text("scan 5.txt")
    assert "scan 0.txt" in page.evaluate("document.activeElement.textContent")
    assert page.evaluate("document.activeElement.getAttribute('aria-posinset')") == "1"


def test_a_hundred_events_a_second_leave_the_page_responsive(page: Page, submission_id: str, site: Server) -> None:
    """The events are made here: what the page does with them is measured, not the server."""
    sockets: list[WebSocketRoute] = []

    def connect(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    page.route_web_socket("**/api/v1/live", connect)
    page.goto(f"/submissions/{submission_id}")
    expect(page.get_by_text("the rest is loading")).to_be_hidden()
    expect(page.get_by_role("banner").get_by_role("status")).to_have_text("live")
    ids = [
        file["id"] for file in site.http.get(f"/api/v1/submissions/{submission_id}/files?limit=1000").json()["items"]
    ]
    page.evaluate(
        """() => {
            window.tasks = [];
            new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((one) => one.duration)))
                .observe({ type: 'longtask' });
            window.delays = [];
            document.addEventListener('keydown', (event) => window.delays.push(performance.now() - event.timeStamp));
        }"""
    )
    slow = slowness(page)
    cursor = 1_000_000_000
    page.get_by_role("main").get_by_role("searchbox").focus()
    for number in range(40):  # four seconds, 25 events each 100 ms
        events = []
        for file_id in ids[number * 25 : number * 25 + 25]:
            cursor += 1
            subject = {"submission_id": submission_id, "file_id": file_id, "job_id": None, "attempt": None}
            subject |= {"name": "scan.txt", "account": None, "client": None}
            events.append(
                {"cursor": cursor, "at": "2026-01-01T00:00:00Z", "name": "upload.stored", "subject": subject}
                | {"data": {"size": 1024, "sha256": "00"}}
            )
        topic = f"submission:{submission_id}"
        sockets[0].send(json.dumps({"type": "events", "topic": topic, "cursor": cursor, "events": events}))
        page.keyboard.press("Shift")
        page.wait_for_timeout(100)
    expect(page.get_by_role("log").get_by_text("sent", exact=True).first).to_be_attached()
    delays = sorted(page.evaluate("window.delays"))
    assert len(delays) == 40
    assert delays[int(len(delays) * 0.95)] < 100 * slow, delays[-5:]
    assert max(page.evaluate("window.tasks") or [0]) < 200 * slow
