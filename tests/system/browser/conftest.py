"""A real server, a real Chromium, and a page that must not complain."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.support.faulty_proxy import Proxy
from tests.support.missing import missing
from tests.support.page_actions import Watched
from tests.support.server import Server

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 20_000  # until something that must be seen counts as not coming
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP plain.test 127.0.0.1",  # a host that browsers do not trust as they trust loopback
]

# Waits for the file `go` when the name asks for it, so that a test decides when it ends; no test depends on a pace.
PROCESSOR = """
import sys, time
from pathlib import Path

GO = Path(__file__).with_name("go")


def process(path, file, config, report):
    print("picked up", file.name, "greeting", config.get("greeting"), flush=True)
    if "wait" in file.name:
        report(1, 2, "half way")
        while not GO.exists():
            time.sleep(0.02)
    if "broken" in file.name and not config.get("fixed"):
        raise ValueError("cannot read <b>it</b>")
    print("last line", flush=True)
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; without it these tests are skipped with the line to run, but never in CI."""
    if not CHROMIUM.exists():
        missing("There is no /usr/bin/chromium; run: apt-get install -y chromium (or: make test-setup)")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the module's tests share, with a processor that obeys file names."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "obedient.py").write_text(PROCESSOR)
    server = Server(folder, "--processor", "obedient:process", "--concurrency", "2", "--allowed-host", "plain.test")
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture
def open_page(chromium: Browser, site: Server) -> Iterator[Callable[..., Page]]:
    """Opens pages as separate people; fails the test if one of them logged an error or broke the security policy."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    def open_one(path: str = "/", *, through: Proxy | None = None, **options: Any) -> Page:
        context = chromium.new_context(base_url=site.url if through is None else through.url, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        watched.append(Watched(page, may_break=through is not None))
        page.goto(path)
        return page

    (site.folder / "go").unlink(missing_ok=True)
    yield open_one
    for context in contexts:
        context.close()
    assert [complaint for one in watched for complaint in one.complaints] == []


@pytest.fixture
def line(site: Server) -> Iterator[Proxy]:
    """A line to the site that can be cut; it leads to wherever the site serves after a restart."""
    with Proxy(lambda: site.host) as proxy:
        yield proxy


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """The first page."""
    return open_page("/")
