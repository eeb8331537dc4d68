"""What a visit costs on the wire, as Chromium counts it: heads and bodies of every answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.page_actions import sparse, submit, text_file
from tests.support.server import Server

Open = Callable[..., Page]
Visit = Callable[[str], "tuple[Page, Wire]"]

MOST = {"/": 45_000, "/config": 190_000}


class Wire:
    """Counts what a page loads."""

    def __init__(self, page: Page) -> None:
        """Count from now on."""
        self.asked: dict[str, str] = {}  # paths, by the request
        self.received: dict[str, int] = {}  # bytes, by the request; nothing for what the browser had kept
        devtools = page.context.new_cdp_session(page)
        devtools.send("Network.enable")
        devtools.on("Network.requestWillBeSent", self._asked)
        devtools.on("Network.requestServedFromCache", self._kept)
        devtools.on("Network.responseReceived", self._answered)
        devtools.on("Network.loadingFinished", self._finished)

    def _asked(self, event: dict[str, Any]) -> None:
        self.asked[event["requestId"]] = urlsplit(event["request"]["url"]).path

    def _kept(self, event: dict[str, Any]) -> None:
        self.asked.pop(event["requestId"], None)

    def _answered(self, event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            self._kept(event)

    def _finished(self, event: dict[str, Any]) -> None:
        if event["requestId"] in self.asked:
            self.received[event["requestId"]] = event["encodedDataLength"]

    @property
    def paths(self) -> list[str]:
        """What was asked of the server."""
        return sorted(self.asked.values())

    @property
    def bytes(self) -> int:
        """What the server sent."""
        return sum(self.received.values())

    def forget(self) -> None:
        """Count from here."""
        self.asked.clear()
        self.received.clear()


@pytest.fixture
def visit(open_page: Open) -> Visit:
    """Visits a page for the first time."""

    def first(path: str) -> tuple[Page, Wire]:
        page = open_page("/healthz")  # nothing of a page is loaded yet
        wire = Wire(page)
        with page.expect_request("**/favicon-*.svg"):  # may come late
            page.goto(path)
        page.wait_for_load_state("networkidle")
        return page, wire

    return first


@pytest.mark.parametrize("path", ["/", "/config"])
def test_a_first_visit_is_small_and_a_second_one_asks_for_the_page_alone(visit: Visit, path: str) -> None:
    page, wire = visit(path)
    print(f"{path}: {wire.bytes:,} bytes in {len(wire.paths)} requests")
    assert 0 < wire.bytes <= MOST[path]
    assert [asked for asked in wire.paths if asked.startswith("/static/") and "/static/dist/" not in asked] == []
    wire.forget()
    page.goto(path, wait_until="networkidle")
    assert [asked for asked in wire.paths if asked == path or asked.startswith("/static/")] == [path]


def test_what_sends_large_files_is_loaded_with_the_first_of_them(visit: Visit, site: Server, tmp_path: Path) -> None:
    page, wire = visit("/")
    submission = submit(page, text_file(tmp_path / "small.txt"))
    site.settled(submission)
    assert not any("tus" in path for path in wire.paths)
    page.goto("/")
    with page.expect_request("**/tus-*.js"):
        submission = submit(page, sparse(tmp_path / "large.bin", 9 * 1024 * 1024))
    site.settled(submission)


def test_a_page_of_an_older_version_says_to_reload_and_goes_on_if_that_passes(
    chromium: Browser, site: Server, tmp_path: Path
) -> None:
    """After an update, the server has no such file any more."""
    context = chromium.new_context(base_url=site.url)
    page = context.new_page()
    page.route("**/static/dist/tus-*.js", lambda route: route.fulfill(status=404, body=""))
    page.goto("/")
    submission = submit(page, sparse(tmp_path / "large.bin", 9 * 1024 * 1024))
    expect(page.get_by_text("A part of this page could not be loaded")).to_be_visible()
    page.unroute("**/static/dist/tus-*.js")
    site.settled(submission)
    context.close()


def test_in_development_the_sources_are_sent_and_there_is_a_styleguide(
    make_server: Callable[..., Server], chromium: Browser, site: Server
) -> None:
    server = make_server("--reload").start()
    html = server.http.get("/", headers={"Accept": "text/html"}).text
    assert "/static/js/upload/upload-page.js" in html
    assert "/static/dist/" not in html
    page = chromium.new_page()
    page.goto(server.url)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.goto(f"{server.url}/styleguide")
    for theme, colour in (("light", "rgb(247, 245, 239)"), ("dark", "rgb(18, 17, 16)")):
        expect(page.get_by_role("region", name=theme)).to_have_css("background-color", colour)
    page.context.close()
    assert site.http.get("/styleguide").status_code == 404
