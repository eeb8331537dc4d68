"""People who sign in with an identity provider that others wrote, in a real browser."""

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect
from tests.support.accessibility import LOOKS, axe_script, require_accessible
from tests.support.foreign_provider import ForeignProvider
from tests.support.identity_provider import free_port
from tests.support.page_actions import Watched
from tests.support.preloaded import DROPMILL
from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.system.browser.conftest import PATIENCE_MS

PASSWORD = "correct horse battery"
OFFICE = "Example ID"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignProvider]:
    made = ForeignProvider(tmp_path_factory.mktemp("provider"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def site(provider: ForeignProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose people sign in with the provider, and `root`, an admin with a password."""
    port = free_port()
    flags = ("--oidc-issuer", provider.url, "--oidc-client-id", "drop", "--oidc-name", OFFICE)
    server = Server(
        tmp_path_factory.mktemp("site"),
        *flags,
        *("--oidc-roles", "admin=ops", "--public-url", f"http://127.0.0.1:{port}"),
        bind=f"127.0.0.1:{port}",
        environment={"DROPMILL_OIDC_CLIENT_SECRET": "geheim"},
    )
    try:
        server.start()
        account(server, "add", "root", "--role", "admin", "--password-stdin")
        yield server
    finally:
        server.end()


def account(server: Server, *words: str) -> None:
    """Run `dropmill account`; where it asks for a password, it gets `PASSWORD`."""
    command = [*DROPMILL, "account", *words, "--data", str(server.data)]
    subprocess.run(command, input=PASSWORD, text=True, check=True, cwd=server.folder, capture_output=True)


@pytest.fixture
def open_page(chromium: Browser, site: Server) -> Iterator[Open]:
    """Opens pages as separate people; fails the test if one of ours complained. The provider's has styles of a CDN."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    def open_one(path: str = "/", *, has_scripts: bool = True, **options: Any) -> Page:
        context = chromium.new_context(base_url=site.url, java_script_enabled=has_scripts, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.route(re.compile("^https://"), without_bytes)
        page = context.new_page()
        watched.append(Watched(page))
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [complaint for one in watched for complaint in one.complaints] == []


def without_bytes(route: Route) -> None:
    route.fulfill(status=200, content_type="text/css", body="")


def button(page: Page) -> Locator:
    """The way to the provider."""
    return page.get_by_role("link", name=f"Sign in with {OFFICE}")


def authorize(page: Page, subject: str = "u-ada") -> None:
    """Sign in at the provider's page."""
    page.get_by_placeholder("sub").fill(subject)
    page.get_by_role("button", name="Authorize").click()


def menu(page: Page) -> Locator:
    """The menu in the head of the page, opened."""
    page.locator(".account-button").click()
    return page.locator("#account-menu")


def sign_out(page: Page) -> None:
    menu(page).get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")


def test_the_first_and_the_second_sign_in_are_one_account_whose_role_follows_its_groups(
    open_page: Open, provider: ForeignProvider
) -> None:
    provider.knows("u-ada", preferred_username="ada", groups=["ops"])
    page = open_page("/history?state=failed")
    button(page).click()
    authorize(page)
    page.wait_for_url("**/history?state=failed")
    expect(menu(page)).to_contain_text("ada")
    expect(page.locator("#account-menu")).to_contain_text("Admin")
    page.get_by_role("link", name="People").click()
    expect(page.get_by_role("listitem").filter(has_text="ada")).to_have_count(1)
    sign_out(page)
    provider.knows("u-ada", preferred_username="ada-of-another-name", groups=["others"])
    button(page).click()
    authorize(page)
    page.wait_for_url(re.compile(r":\d+/$"))
    expect(menu(page)).to_contain_text("ada")
    expect(page.locator("#account-menu")).to_contain_text("Viewer")
    page.get_by_role("link", name="Account", exact=True).click()
    expect(page.get_by_text("your account has no password here")).to_be_visible()
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    expect(page.get_by_role("heading", name="Change the password")).to_have_count(0)


def test_it_works_without_scripts(open_page: Open, provider: ForeignProvider) -> None:
    provider.knows("u-noah", preferred_username="noah")
    page = open_page("/history", has_scripts=False)
    button(page).click()
    authorize(page, "u-noah")
    page.wait_for_url("**/history")
    expect(page.locator(".account-name")).to_have_text("noah")


def test_whoever_is_not_let_in_can_try_again(open_page: Open, provider: ForeignProvider) -> None:
    provider.knows("u-ada", preferred_username="ada")
    page = open_page("/sign-in?next=/history")
    button(page).click()
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("not let in there, or you cancelled")
    assert "callback" not in page.url, "what came back stays out of the browser's history"
    page.get_by_role("link", name=f"Try again with {OFFICE}").click()
    authorize(page)
    expect(page.locator(".account-name")).to_have_text("ada")


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("look", LOOKS)
def test_the_pages_are_in_nobody_s_way(open_page: Open, look: str, language: str) -> None:
    page, axe = open_page("/sign-in", locale=language, **LOOKS[look]), axe_script()
    for path in ("/sign-in", "/sign-in/oidc/callback?state=x&code=y"):
        page.goto(path)
        expect(page.get_by_role("link", name=OFFICE)).to_be_visible()
        require_accessible(page, axe, path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_a_session_that_ends_is_begun_anew_on_another_page(
    open_page: Open, provider: ForeignProvider, site: Server
) -> None:
    provider.knows("u-zoe", preferred_username="zoe")
    page = open_page("/history")
    button(page).click()
    authorize(page, "u-zoe")
    page.wait_for_url("**/history")
    expect(page.locator("[data-part=connection]")).to_contain_text("live")
    account(site, "disable", "zoe")
    account(site, "enable", "zoe")
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("Password")).to_have_count(0)
    expect(dialog.get_by_role("link", name=f"Sign in with {OFFICE}")).to_be_focused()
    with page.context.expect_page() as opened:
        page.keyboard.press("Enter")
    authorize(opened.value, "u-zoe")
    opened.value.wait_for_url("**/account")
    expect(dialog).to_be_hidden()
    expect(page.locator("[data-part=connection]")).to_contain_text("live")


def test_while_the_provider_is_down_a_local_admin_gets_in_and_with_another_key_all_others(
    open_page: Open, provider: ForeignProvider, site: Server
) -> None:
    page = open_page("/sign-in?next=/history")
    provider.stop()
    try:
        wait_until(lambda: httpx.get(f"{site.url}/sign-in/oidc", trust_env=False).status_code == 503)
        button(page).click()
        alert = page.get_by_role("alert").filter(visible=True)
        expect(alert).to_contain_text("does not answer now")
        page.get_by_role("link", name=f"Try again with {OFFICE}").click()
        expect(alert).to_contain_text("does not answer now")
        page.get_by_label("Name").fill("root")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/history")
        expect(page.locator(".account-name")).to_have_text("root")
        sign_out(page)
    finally:
        provider.start()
    provider.knows("u-ada", preferred_username="ada", groups=["ops"])
    wait_until(lambda: httpx.get(f"{site.url}/sign-in/oidc", trust_env=False).status_code == 303)
    button(page).click()
    authorize(page)
    expect(page.locator(".account-name")).to_have_text("ada")
