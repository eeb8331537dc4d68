"""Signing in, the own account, people, and a session that ends while a page is open."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.support.accessibility import LOOKS, axe_script, require_accessible
from tests.support.editor_actions import write
from tests.support.page_actions import SETTLED, row, slow_down, sparse, submit, text_file, verdict
from tests.support.preloaded import DROPMILL
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]
MIB = 1024 * 1024
PASSWORD = "correct horse battery"
PROCESSOR = "def process(path):\n    print('done')\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people have to sign in: `ada` is an admin, `olga` an operator, `bob` a viewer."""
    server = server_of(tmp_path_factory.mktemp("site"))
    try:
        server.start()
        for name, role in (("ada", "admin"), ("olga", "operator"), ("bob", "viewer")):
            account(server, "add", name, "--role", role, "--password-stdin")
        yield server
    finally:
        server.end()


def server_of(folder: Path) -> Server:
    """A server that requires sign-in, not started."""
    (folder / "plain.py").write_text(PROCESSOR)
    return Server(folder, "--processor", "plain:process", "--auth", "required")


def account(server: Server, *words: str) -> None:
    """Run `dropmill account`; where it asks for a password, it gets `PASSWORD`."""
    command = [*DROPMILL, "account", *words, "--data", str(server.data)]
    subprocess.run(command, input=f"{PASSWORD}\n", text=True, check=True, cwd=server.folder, capture_output=True)


def sign_in(page: Page, name: str = "ada", password: str = PASSWORD, path: str = "/") -> None:
    """Sign in, and be where one wanted to go."""
    page.goto(f"/sign-in?next={path}")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)


@pytest.fixture
def page(open_page: Open) -> Page:
    """A page of an admin."""
    found = open_page("/sign-in")
    sign_in(found)
    return found


def end_sessions(site: Server) -> None:
    """End every session of `ada`, as an admin does with a new password; it is the old one."""
    account(site, "password", "ada", "--password-stdin")


def dialog(page: Page) -> Locator:
    """What asks to sign in again."""
    return page.get_by_role("dialog", name="Sign in again")


def sign_in_again(page: Page) -> None:
    """Give the password in the dialog."""
    dialog(page).get_by_label("Password").fill(PASSWORD)
    dialog(page).get_by_role("button", name="Sign in").click()
    expect(dialog(page)).to_be_hidden()


def card(page: Page, name: str | re.Pattern[str]) -> Locator:
    """A token, a session or a person."""
    return page.get_by_role("listitem").filter(has_text=name)


# --- signing in ------------------------------------------------------------------------------------------------------


def test_whoever_signs_in_goes_where_they_wanted_to_and_never_to_another_site(open_page: Open) -> None:
    page = open_page("/sign-in?next=/history%3Fstate%3Dfailed")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(visible=True)).to_have_text("The name or the password is wrong.")
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/history?state=failed")
    page.goto("/sign-in?next=//other.test/")
    page.wait_for_url(re.compile(r"127\.0\.0\.1:\d+/$"))


def test_the_one_time_link_makes_the_first_account_and_its_secret_leaves_the_address(
    open_page: Open, tmp_path: Path
) -> None:
    server = server_of(tmp_path)
    try:
        server.start()
        link = wait_until(lambda: re.search(r"http\S+/sign-in#first=(\S+)", server.said()))
        page = open_page("about:blank")
        page.goto(link[0])
        expect(page.get_by_role("heading", name="Make the first account")).to_be_visible()
        assert link[1] not in page.url
        page.get_by_label("Name").fill("eve")
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("Repeat it").fill("something else")
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_text("The two passwords are not the same.")).to_be_visible()
        page.get_by_label("Repeat it").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("button", name="Account of eve")).to_be_visible()
        page.goto("about:blank")  # a page whose server ends complains
    finally:
        server.end()


def test_without_scripts_the_form_posts_itself(open_page: Open) -> None:
    page = open_page("/sign-in", java_script_enabled=False)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Account of ada")).to_be_visible()


def test_the_menu_leads_to_the_account_and_out(page: Page) -> None:
    page.get_by_role("button", name="Account of ada").click()
    menu = page.get_by_role("navigation", name="Your account")
    expect(menu.get_by_role("link", name="People")).to_be_visible()
    menu.get_by_role("link", name="Account").click()
    page.wait_for_url("**/account")
    expect(page.get_by_text("Signed in as ada, Admin.")).to_be_visible()
    page.get_by_role("button", name="Account of ada").click()
    menu.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    expect(page.get_by_role("button", name="Account of ada")).to_have_count(0)


def test_a_viewer_finds_neither_people_nor_the_way_there(open_page: Open) -> None:
    page = open_page("/sign-in")
    sign_in(page, "bob")
    page.get_by_role("button", name="Account of bob").click()
    menu = page.get_by_role("navigation", name="Your account")
    expect(menu.get_by_role("link", name="Account")).to_be_visible()
    expect(menu.get_by_role("link", name="People")).to_have_count(0)
    page.goto("/people")
    expect(page.get_by_text("403")).to_be_visible()
    page.goto("/account")
    expect(page.get_by_label("Administer accounts, and post notices")).to_have_count(0)


# --- the own account -------------------------------------------------------------------------------------------------


def test_a_token_is_made_shown_once_and_revoked(page: Page) -> None:
    page.goto("/account")
    page.get_by_label("What it is for").fill("nightly build")
    page.get_by_label("See submissions").check()
    page.get_by_label("Expires").select_option("in 7 days")
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_text(re.compile("^dmill_.{20}"))).to_be_visible()
    made = card(page, "nightly build")
    expect(made).to_contain_text("reads, sends")
    expect(made).to_contain_text(re.compile("never used · expires "))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("dmill_")
    page.reload()
    expect(made).to_be_visible()
    expect(page.get_by_text(re.compile("^dmill_.{20}"))).to_have_count(0)
    made.get_by_role("button", name="Revoke nightly build").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(made).to_be_visible()
    made.get_by_role("button", name="Revoke nightly build").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(made).to_have_count(0)
    expect(page.get_by_text("There are no tokens.")).to_be_visible()


def test_sessions_are_listed_and_ended_and_a_new_password_ends_the_others(page: Page, open_page: Open) -> None:
    other = open_page("/sign-in", user_agent="Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/132.0")
    sign_in(other)
    page.goto("/account")
    expect(page.get_by_text("this one").filter(visible=True)).to_have_count(1)
    card(page, "Firefox on Windows").get_by_role("button", name="Sign out").click()
    expect(card(page, "Firefox on Windows")).to_have_count(0)
    sign_in(other)
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password").fill(f"{PASSWORD} too")
    page.get_by_label("Repeat it").fill(f"{PASSWORD} too")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_text("The password is changed.")).to_be_visible()
    expect(card(page, "Firefox on Windows")).to_have_count(0)
    page.get_by_label("Current password").fill(f"{PASSWORD} too")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("Repeat it").fill(PASSWORD)
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_text("The password is changed.")).to_be_visible()


# --- people ----------------------------------------------------------------------------------------------------------


def test_an_admin_adds_changes_disables_and_removes_people(page: Page, open_page: Open) -> None:
    page.goto("/people")
    page.get_by_role("main").get_by_label("Name").fill("carol")
    page.get_by_role("combobox", name="Role", exact=True).select_option("Operator")
    page.get_by_role("button", name="Add a person").click()
    expect(page.get_by_text("carol can sign in with this password.")).to_be_visible()
    password = page.locator("[data-part=handed-password]").text_content()
    carol = open_page("/sign-in")
    sign_in(carol, "carol", str(password))
    expect(carol.get_by_role("button", name="Account of carol")).to_be_visible()
    page.get_by_label("Role of carol").select_option("Viewer")
    page.get_by_role("button", name="Disable carol").click()
    expect(card(page, "carol")).to_contain_text("disabled since")
    page.get_by_role("button", name="Enable carol").click()
    expect(card(page, "carol")).to_contain_text("last seen")
    page.get_by_role("button", name="Give carol a new password").click()
    page.get_by_role("dialog").get_by_role("button", name="New password").click()
    expect(page.get_by_text("carol has this new password.")).to_be_visible()
    page.get_by_role("button", name="Remove carol").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(card(page, "carol")).to_contain_text("removed")
    expect(page.get_by_role("button", name="Remove carol")).to_have_count(0)


def test_what_the_server_refuses_is_said_and_the_list_shows_what_is(page: Page) -> None:
    page.goto("/people")
    page.get_by_label("Role of ada").select_option("Viewer")
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("administer the server")
    expect(page.get_by_label("Role of ada")).to_have_value("admin")


# --- the audit -------------------------------------------------------------------------------------------------------


def records(page: Page) -> Locator:
    """The lines of the audit."""
    return page.get_by_role("list", name="Audit").get_by_role("listitem")


def test_the_audit_says_what_happens_as_it_happens_and_the_menu_leads_there(
    page: Page, open_page: Open, site: Server
) -> None:
    page.get_by_role("button", name="Account of ada").click()
    page.get_by_role("navigation", name="Your account").get_by_role("link", name="Audit").click()
    first = records(page).first
    expect(first).to_contain_text("Signed in with a password")
    expect(first).to_contain_text("ada")
    expect(first).to_contain_text("127.0.0.1")
    expect(page.locator("[data-part=connection]")).to_contain_text("live")
    other = open_page("/sign-in", user_agent="Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/132.0")
    account(site, "add", "cara", "--role", "viewer", "--password-stdin")  # whose refusals were not counted before
    sign_in(other, "cara")
    expect(first).to_contain_text("cara")
    expect(first).to_contain_text("Firefox on Windows")
    other.goto("/audit")
    expect(other.get_by_text("403")).to_be_visible()
    expect(first).to_contain_text("Refused: not allowed · at GET pages.audit")


def test_the_audit_is_narrowed_down_and_the_address_keeps_it(page: Page, open_page: Open) -> None:
    stranger = open_page("/sign-in")
    stranger.get_by_label("Name").fill("nobody-of-this-name")
    stranger.get_by_label("Password").fill("a password of theirs")
    stranger.keyboard.press("Enter")
    expect(stranger.get_by_role("alert").filter(visible=True)).to_be_visible()
    page.goto("/audit")
    page.get_by_role("link", name="Refusals").click()
    expect(records(page).filter(has_text="Refused: unknown name")).not_to_have_count(0)
    expect(records(page).filter(has_text="Signed in with")).to_have_count(0)
    assert "nobody-of-this-name" not in page.content()  # people type passwords into that field
    page.get_by_role("link", name="All", exact=True).click()
    page.get_by_label("Account or address").fill("bob")
    page.keyboard.press("Enter")
    expect(records(page).filter(has_text="Added bob, Viewer")).to_have_count(1)
    expect(records(page).filter(has_text="ada")).to_have_count(0)
    page.get_by_role("link", name="Notices").click()
    expect(page.get_by_text("Nothing like that is recorded.")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Account or address")).to_have_value("bob")
    expect(page.get_by_role("link", name="Notices")).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(records(page).filter(has_text="Added bob, Viewer")).to_have_count(1)


def test_older_records_are_appended_and_new_ones_put_in_front(page: Page) -> None:
    own_page = {"Sec-Fetch-Site": "same-origin"}

    def post(number: int) -> None:
        answer = page.request.post(
            "/api/v1/notices", data={"text": f"number {number}", "expires_in": 1}, headers=own_page
        )
        assert answer.status == 201

    for number in range(60):
        post(number)
    page.goto("/audit?kind=notices")
    expect(records(page)).to_have_count(50)
    page.get_by_role("button", name="Show older").click()
    expect(records(page)).to_have_count(60)
    expect(records(page).last).to_contain_text("Posted a notice: number 0")
    expect(page.get_by_role("button", name="Show older")).to_be_hidden()
    post(60)
    expect(records(page).first).to_contain_text("number 60")
    expect(records(page)).to_have_count(61)


@pytest.fixture(scope="module")
def axe() -> str:
    """The checker's script."""
    return axe_script()


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("look", LOOKS)
def test_the_pages_of_accounts_are_in_nobody_s_way(
    open_page: Open, site: Server, axe: str, look: str, language: str
) -> None:
    page = open_page("/sign-in", locale=language, **LOOKS[look])
    require_accessible(page, axe, "the sign-in")
    page.locator("[name=name]").first.fill("ada")
    page.locator("[name=password]").first.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(visible=True)).to_be_visible()
    require_accessible(page, axe, "a refused sign-in")
    page.locator("[name=password]").first.fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    page.locator(".account-button").click()
    require_accessible(page, axe, "the menu")
    for path in ("/account", "/people", "/audit"):
        page.goto(path)
        expect(page.locator(".card, .record").first).to_be_visible()
        require_accessible(page, axe, path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.goto("/people")
    page.get_by_role("button", name=re.compile("bob")).last.click()
    require_accessible(page, axe, "a question")
    page.goto("/history")
    expect(page.locator("[data-part=connection]")).to_have_attribute("data-connection", "live")
    end_sessions(site)
    expect(page.locator("#sign-in-again")).to_be_visible()
    require_accessible(page, axe, "a session that has ended")


# --- the config, read only -------------------------------------------------------------------------------------------


def test_who_may_not_change_the_config_reads_it_as_others_save_it(page: Page, open_page: Open, axe: str) -> None:
    reader = open_page("/sign-in")
    sign_in(reader, "olga", path="/config")
    text = reader.get_by_label("config.yaml, read only")
    expect(reader.get_by_text("You may read the config, but not change it")).to_be_visible()
    expect(text).to_have_attribute("aria-readonly", "true")
    for name in ("Save", "See changes", "Restore", "Remove for good"):
        expect(reader.get_by_role("button", name=name)).to_have_count(0)
    page.goto("/config")
    write(page, "greeting: read by olga\n")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(text).to_contain_text("greeting: read by olga")
    text.click()
    reader.keyboard.type("mine")
    expect(text).not_to_contain_text("mine")
    reader.keyboard.press("Control+s")
    newest = reader.get_by_role("listitem").filter(has_text="newest")
    expect(newest).to_contain_text("ada · 127.0.0.1")
    newest.get_by_role("button", name=re.compile("^Compare")).click()
    expect(reader.get_by_role("dialog").get_by_text("greeting: read by olga")).to_be_visible()
    for name in ("Restore", "Remove for good"):
        expect(reader.get_by_role("button", name=name)).to_have_count(0)
    require_accessible(reader, axe, "a comparison")
    reader.keyboard.press("Escape")
    require_accessible(reader, axe, "the config, read only")


# --- a session that ends ---------------------------------------------------------------------------------------------


def test_a_page_whose_session_ends_keeps_its_draft_and_saves_it_after_a_sign_in(page: Page, site: Server) -> None:
    page.goto("/config")
    write(page, "greeting: kept\n")
    expect(page.locator("[data-part=connection]")).to_contain_text("live")
    end_sessions(site)
    expect(dialog(page)).to_be_visible()
    dialog(page).get_by_label("Password").fill("wrong")
    dialog(page).get_by_role("button", name="Sign in").click()
    expect(dialog(page).get_by_text("The name or the password is wrong.")).to_be_visible()
    sign_in_again(page)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text(re.compile("^Saved")).first).to_be_visible()
    assert site.config.read_text() == "greeting: kept\n"


def test_an_upload_whose_session_ends_goes_on_after_a_sign_in(page: Page, site: Server, tmp_path: Path) -> None:
    slow_down(page, 4 * MIB)
    submit(page, sparse(tmp_path / "large.bin", 24 * MIB), text_file(tmp_path / "small.txt"))
    expect(row(page, "large.bin")).to_contain_text("%")
    end_sessions(site)
    expect(dialog(page)).to_be_visible()
    slow_down(page, -1)
    sign_in_again(page)
    expect(verdict(page)).to_have_text(SETTLED)
    expect(row(page, "large.bin")).to_contain_text("Succeeded")


@pytest.mark.parametrize("path", ["/account", "/people"])
def test_the_pages_of_accounts_notice_that_the_session_has_ended(page: Page, site: Server, path: str) -> None:
    page.goto(path)
    expect(page.locator("[data-part=connection]")).to_contain_text("live")
    end_sessions(site)
    expect(dialog(page)).to_be_visible()
    sign_in_again(page)
    expect(page.locator("[data-part=connection]")).to_contain_text("live")


def test_people_are_listed_as_others_add_them(page: Page, site: Server) -> None:
    page.goto("/people")
    expect(page.locator("[data-part=connection]")).to_contain_text("live")
    account(site, "add", "dora", "--password-stdin")
    expect(card(page, "dora")).to_be_visible()


def test_whoever_does_not_sign_in_again_sees_so_and_can_later(page: Page, site: Server) -> None:
    page.goto("/history")
    badge = page.locator("[data-part=connection]")
    expect(badge).to_contain_text("live")
    end_sessions(site)
    expect(dialog(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog(page)).to_be_hidden()
    expect(badge).to_contain_text("signed out")
    badge.get_by_role("button", name="sign in").click()
    sign_in_again(page)
    expect(badge).to_contain_text("live")


def test_a_sign_in_on_one_page_counts_for_the_other_pages_of_the_browser(page: Page, site: Server) -> None:
    other = page.context.new_page()
    other.goto("/history")
    for one in (page, other):
        expect(one.locator("[data-part=connection]")).to_contain_text("live")
    end_sessions(site)
    expect(dialog(page)).to_be_visible()
    expect(dialog(other)).to_be_visible()
    sign_in_again(other)
    expect(dialog(page)).to_be_hidden()
