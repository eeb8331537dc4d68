"""Tags of other programs on the config page, and a file that is not what scripts get."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from tests.support.server import Server

Open = Callable[..., Page]

TAGGED = b"password: !secret db_password\nsources: !Join\n  - a\n  - !Ref b\nplain: 1\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own, which keeps tags."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "config.yaml").write_bytes(TAGGED)
    server = Server(folder, "--config-tags", "keep")
    try:
        yield server.start()
    finally:
        server.end()


def test_point_15_the_form_shows_the_tag_beside_a_field_that_it_does_not_edit(open_page: Open) -> None:
    page = open_page("/config")
    page.get_by_role("tab", name="Form").click()
    field = page.locator("[data-path='/password']")
    expect(field.get_by_text("!secret", exact=True)).to_be_visible()
    control = page.get_by_label("password", exact=True)
    expect(control).to_have_value("db_password")
    expect(control).to_be_disabled()
    expect(control).to_have_accessible_description("!secret")
    expect(page.locator("summary").get_by_text("!Join", exact=True)).to_be_visible()
    expect(page.locator("[data-path='/sources/1']").get_by_text("!Ref", exact=True)).to_be_visible()
    expect(page.get_by_label("plain", exact=True)).to_be_enabled()
    expect(page.locator("[data-path='/plain'] [data-part='tag']")).to_be_hidden()


def test_point_2_a_missing_file_is_told_on_the_pages_until_a_save_writes_it(open_page: Open, site: Server) -> None:
    site.config.unlink()
    for path in ("/", "/history", "/config"):
        page = open_page(path)
        page.wait_for_function("fetch('/readyz').then((a) => a.json()).then((a) => a.config_problem !== null)")
        page.reload()
        expect(
            page.get_by_role("status").filter(has_text="does not hold the newest revision: it is missing")
        ).to_be_visible()
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("more: 2")
    page.get_by_role("button", name="Save", exact=True).first.click()
    expect(page.get_by_text("does not hold the newest revision")).to_be_hidden()
    assert site.config.read_bytes() == TAGGED + b"more: 2"
