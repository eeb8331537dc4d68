"""The form beside the config's text: each change is a value edit of the text, nothing is saved by it."""

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from tests.support.editor_actions import write
from tests.support.server import Server
from tests.support.waiting import wait_until

TEXT = b"""\xef\xbb\xbf# Thumbnails.\r
\r
size: 320      # longest edge\r
formats:   # first one that works\r
  - webp\r
  - png\r
quality:\r
  # From 0 to 100.\r
  webp: 82\r
  strip: true\r
watermark: '(c) Lab'\r
shared: &s one\r
again: *s\r
token: hidden # last"""
SCHEMA = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 16, "title": "Longest edge", "description": "In pixels."},
        "mode": {"enum": ["fast", "good"], "default": "good"},
        "token": {"type": "string", "writeOnly": True},
    },
}
Open = Callable[..., Page]


@pytest.fixture(autouse=True)
def config(site: Server) -> Iterator[None]:
    """Each test begins with the same text and schema."""
    schema = site.config.with_name("config.schema.json")
    schema.write_text(json.dumps(SCHEMA))
    etag = site.http.get("/api/v1/config").headers["ETag"]
    answer = site.http.put("/api/v1/config", content=TEXT, headers={"If-Match": etag})
    assert answer.status_code == 200, answer.text
    yield
    schema.unlink()


def field(panel: Locator, label: str) -> Locator:
    return panel.get_by_label(label, exact=True)


def form(page: Page) -> Locator:
    """The form's panel, with its fields read."""
    page.get_by_role("tab", name="Form").click()
    panel = page.get_by_role("tabpanel", name="Form")
    expect(field(panel, "Longest edge")).to_be_visible()
    return panel


def hold_forms(page: Page) -> Callable[[], None]:
    """Answers to the form are held back until what is returned is called."""
    held: list[Route] = []
    is_held = True

    def answer(route: Route) -> None:
        if is_held:
            held.append(route)
        else:
            route.continue_()

    def release() -> None:
        nonlocal is_held
        wait_until(lambda: page.evaluate("1") and held)
        is_held = False
        for route in held:
            route.continue_()

    page.route("**/api/v1/config/form", answer)
    return release


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("not saved")).to_be_hidden()


def saved(site: Server) -> bytes:
    return site.http.get("/api/v1/config").content


def test_changes_keep_every_other_byte_and_are_saved_with_the_text(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    panel = form(page)
    size = field(panel, "Longest edge")
    size.fill("1024")
    size.press("Tab")
    expect(page.get_by_text("not saved · 1 line changed")).to_be_visible()
    field(panel, "strip").click()
    expect(page.get_by_text("not saved · 2 lines changed")).to_be_visible()
    field(panel, "watermark").fill("it's mine: all")
    field(panel, "watermark").press("Enter")
    expect(page.get_by_text("not saved · 3 lines changed")).to_be_visible()
    assert saved(site) == TEXT
    save(page)
    assert saved(site) == (
        TEXT.replace(b"320      #", b"1024     #")
        .replace(b"strip: true", b"strip: false")
        .replace(b"'(c) Lab'", b"'it''s mine: all'")
    )


def test_a_change_is_one_step_that_undo_takes_back(open_page: Open) -> None:
    page = open_page("/config")
    panel = form(page)
    field(panel, "webp").fill("90")
    field(panel, "webp").press("Tab")
    expect(page.get_by_text("not saved · 1 line changed")).to_be_visible()
    page.get_by_label("The text of config.yaml").click()
    page.keyboard.press("Control+z")
    expect(page.get_by_text("not saved")).to_be_hidden()
    expect(field(panel, "webp")).to_have_value("82")


def test_comments_and_the_schema_explain_a_field(open_page: Open) -> None:
    panel = form(open_page("/config"))
    size = field(panel, "Longest edge")
    expect(size).to_have_accessible_description("In pixels. longest edge")
    expect(panel.locator("[data-path='/size'] [data-note]")).to_have_text(["In pixels.", "longest edge"])
    expect(panel.get_by_text("Thumbnails.", exact=True)).to_have_count(1)  # the text's own header, once at the top
    expect(field(panel, "webp")).to_have_accessible_description("From 0 to 100.")
    expect(field(panel, "token")).to_have_attribute("type", "password")


def test_settings_are_added_and_removed_with_their_comments(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    panel = form(page)
    panel.get_by_role("button", name="Remove Longest edge").click()
    expect(panel.get_by_text("Removed, with 1 comment.")).to_be_visible()
    panel.get_by_label("What to add to formats").select_option("Text")
    panel.get_by_role("button", name="Add one").click()
    third = field(panel, "3.")
    expect(third).to_be_focused()
    third.fill("avif")
    third.press("Tab")
    panel.get_by_label("Which setting to add to the config").select_option("mode")
    panel.get_by_role("button", name="Add", exact=True).last.click()
    field(panel, "mode").select_option("fast")
    expect(field(panel, "mode")).to_have_value("0")
    expect(page.get_by_text("Valid YAML")).to_be_visible()
    save(page)
    assert saved(site) == (
        TEXT.replace(b"size: 320      # longest edge\r\n", b"").replace(b"  - png\r\n", b"  - png\r\n  - 'avif'\r\n")
        + b"\r\nmode: fast"
    )


def test_what_is_typed_while_another_change_is_made_stays(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    panel = form(page)
    release = hold_forms(page)
    field(panel, "strip").click()
    webp = field(panel, "webp")
    webp.fill("9")
    release()
    expect(page.get_by_text("not saved · 1 line changed")).to_be_visible()
    expect(webp).to_be_focused()
    webp.press_sequentially("5")
    expect(webp).to_have_value("95")
    webp.press("Tab")
    expect(page.get_by_text("not saved · 2 lines changed")).to_be_visible()
    save(page)
    assert saved(site) == TEXT.replace(b"webp: 82", b"webp: 95").replace(b"strip: true", b"strip: false")


def test_what_is_typed_stays_when_the_fields_change(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    panel = form(page)
    release = hold_forms(page)
    panel.get_by_role("button", name="Remove Longest edge").click()
    field(panel, "webp").fill("95")
    release()
    expect(field(panel, "Longest edge")).to_be_hidden()
    expect(field(panel, "webp")).to_be_focused()
    expect(field(panel, "webp")).to_have_value("95")
    save(page)
    assert saved(site) == TEXT.replace(b"webp: 82", b"webp: 95").replace(b"size: 320      # longest edge\r\n", b"")


def test_what_cannot_be_changed_exactly_says_so(open_page: Open) -> None:
    panel = form(open_page("/config"))
    expect(field(panel, "shared")).to_be_disabled()
    expect(panel.get_by_text("It is used in several places").first).to_be_visible()


def test_a_wrong_value_is_said_at_its_field_and_not_taken(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    panel = form(page)
    size = field(panel, "Longest edge")
    size.fill("many")
    size.press("Tab")
    expect(panel.get_by_role("alert").filter(has_text="“many” is not a number.")).to_be_visible()
    size.fill("1,000")
    size.press("Tab")
    expect(panel.get_by_role("alert").filter(has_text="Write the digits alone.")).to_be_visible()
    expect(size).to_have_value("1,000")
    expect(page.get_by_text("not saved")).to_be_hidden()
    size.fill("3")
    size.press("Tab")
    expect(panel.get_by_role("alert").filter(has_text="16")).to_be_visible()
    expect(size).to_have_attribute("aria-invalid", "true")


def test_the_form_follows_what_is_typed_and_waits_while_it_cannot_be_read(open_page: Open) -> None:
    page = open_page("/config")
    panel = form(page)
    write(page, "size: 77\nnew: yes please\n")
    expect(field(panel, "Longest edge")).to_have_value("77")
    expect(field(panel, "new")).to_have_value("yes please")
    write(page, "size: [77\n")
    expect(panel.get_by_text("The text has errors.")).to_be_visible()
    write(page, "size: 78\n")
    expect(field(panel, "Longest edge")).to_have_value("78")


def test_it_is_usable_on_a_phone(open_page: Open) -> None:
    page = open_page("/config", viewport={"width": 390, "height": 844}, has_touch=True)
    panel = form(page)
    box = field(panel, "watermark").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert box["height"] >= 44
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
