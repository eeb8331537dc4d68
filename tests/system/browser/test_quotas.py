"""What a person sees of a quota: what they use, why something was refused, and in their language."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.support.page_actions import submit
from tests.support.server import Server
from tests.system.browser.test_accounts import account, sign_in

Open = Callable[..., Page]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which `ada`, an admin, and `bob` may keep 2 MiB each."""
    server = Server(tmp_path_factory.mktemp("site"), "--auth", "required", "--quota-storage", "2MiB")
    try:
        server.start()
        for name, role in (("ada", "admin"), ("bob", "viewer")):
            account(server, "add", name, "--role", role, "--password-stdin")
        yield server
    finally:
        server.end()


def file_of(folder: Path, size: int) -> Path:
    path = folder / f"{size}.bin"
    path.write_bytes(bytes(size))
    return path


def test_a_person_sees_what_they_use_and_why_more_is_refused(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/sign-in")
    sign_in(page, "bob")
    submit(page, file_of(tmp_path, MIB + MIB // 2))
    page.goto("/account")
    expect(page.get_by_text("1.5 MiB of 2 MiB of files are kept here.")).to_be_visible()
    page.goto("/")
    page.set_input_files("#files", file_of(tmp_path, MIB))
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert").filter(has_text="more than the 2 MiB of files that you may keep")).to_be_visible()
    expect(page.get_by_text("1.5 MiB are used")).to_be_visible()
    page.get_by_role("button", name="Deutsch").click()
    page.goto("/account")
    expect(page.get_by_text("1,5 MiB von 2 MiB an Dateien liegen hier.")).to_be_visible()


def test_an_admin_sees_what_everybody_uses(site: Server, open_page: Open) -> None:
    account(site, "limits", "ada", "--storage", "none")
    page = open_page("/sign-in")
    sign_in(page, "ada", path="/people")
    people = page.get_by_role("list", name="People").get_by_role("listitem")
    expect(people.filter(has_text="bob")).to_contain_text("of 2 MiB of files are kept here.")
    expect(people.filter(has_text="ada")).to_contain_text("0 bytes of files are kept here.")
