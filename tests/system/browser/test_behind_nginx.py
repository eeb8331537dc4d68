"""The pages under a sub-path of nginx with TLS: sent, followed live, edited, each address below the sub-path."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.certificates import make_certificate
from tests.support.editor_actions import write
from tests.support.nginx import PEER, Nginx
from tests.support.page_actions import Watched, log, row
from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.system.browser.conftest import PATIENCE_MS, PROCESSOR

BASE = "/tools/drop"


class Site:
    """nginx and the server behind it."""

    def __init__(self, folder: Path) -> None:
        self.nginx = Nginx(folder / "nginx", make_certificate(folder), BASE)
        (folder / "server").mkdir()
        (folder / "server" / "obedient.py").write_text(PROCESSOR)
        flags = ("--auth", "off", "--public-url", self.nginx.url, "--trusted-proxy", PEER)
        self.server = Server(folder / "server", "--processor", "obedient:process", *flags)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("behind"))
    try:
        made.nginx.start(made.server.start().host)
        yield made
    finally:
        made.nginx.end()
        made.server.end()


@pytest.fixture
def open_behind(chromium: Browser, behind: Site) -> Iterator[Callable[..., Page]]:
    """Opens pages through nginx; fails the test if one complains, or asks for anything beside the sub-path."""
    contexts, watched, asked = [], [], []

    def open_one(path: str = "/", *, has_scripts: bool = True) -> Page:
        context = chromium.new_context(ignore_https_errors=True, java_script_enabled=has_scripts)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        watched.append(Watched(page))
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda opened: asked.append(opened.url.replace("wss:", "https:")))
        page.goto(behind.nginx.url + path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [complaint for one in watched for complaint in one.complaints] == []
    below = behind.nginx.url + "/"
    assert asked
    assert [url for url in asked if not url.startswith((below, "blob:", "data:"))] == []


def test_a_file_is_sent_and_followed_live_under_the_sub_path(
    open_behind: Callable[..., Page], behind: Site, tmp_path: Path
) -> None:
    page = open_behind()
    expect(page.get_by_text("127.0.0.1", exact=True)).to_be_visible()  # this browser, and not nginx
    waiting = tmp_path / "wait.txt"
    waiting.write_text("x")
    page.set_input_files("#files", [waiting])
    page.get_by_role("button", name="Submit 1 file").click()
    page.wait_for_url(f"{behind.nginx.url}/submissions/*")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(row(page, "wait.txt")).to_contain_text("half way")
    (behind.server.folder / "go").touch()
    expect(row(page, "wait.txt")).to_contain_text("Succeeded")
    expect(log(page)).to_contain_text("wait.txt")
    page.reload()
    expect(row(page, "wait.txt")).to_contain_text("Succeeded")
    row(page, "wait.txt").get_by_role("link", name="wait.txt").click()
    page.wait_for_url(f"{behind.nginx.url}/jobs/*")
    expect(page.get_by_text("last line")).to_be_visible()
    assert {line["ip"] for line in behind.server.log() if line["ip"] is not None} == {"127.0.0.1"}
    page.get_by_role("navigation").get_by_role("link", name="History").click()
    page.wait_for_url(f"{behind.nginx.url}/history")
    page.get_by_role("main").get_by_role("listitem").get_by_role("link").first.click()
    page.wait_for_url(f"{behind.nginx.url}/submissions/*")


def test_the_config_is_edited_under_the_sub_path(open_behind: Callable[..., Page], behind: Site) -> None:
    page = open_behind("/config")
    write(page, "greeting: hello\n")
    page.get_by_role("button", name="Save", exact=True).click()
    wait_until(lambda: behind.server.config.read_text() == "greeting: hello\n")
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()


def test_the_form_without_scripts_leads_to_the_page_under_the_sub_path(
    open_behind: Callable[..., Page], behind: Site, tmp_path: Path
) -> None:
    page = open_behind(has_scripts=False)
    plain = tmp_path / "plain.txt"
    plain.write_text("x")
    page.set_input_files("#files", [plain])
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(f"{behind.nginx.url}/submissions/*")
    expect(page.get_by_role("cell", name="plain.txt")).to_be_visible()
