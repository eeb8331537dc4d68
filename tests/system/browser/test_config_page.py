"""The config page: what is saved is what was typed, byte for byte, and what is wrong is said while it is typed."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Dialog, Locator, Page, expect
from tests.support.editor_actions import editor, write
from tests.support.server import Server
from tests.support.waiting import wait_until

MIXED = b"\xef\xbb\xbf# first\r\nname: bar   # aligned\n\nlist: [1,   2]\r\n# last, without an end"
MIXED_SHOWN = "# firstname: bar   # alignedlist: [1,   2]# last, without an end"  # its lines, one behind the other
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SCHEMA = {
    "required": ["size"],
    "properties": {
        "size": {"title": "Longest edge", "description": "In <b>pixels</b>.", "type": "integer", "minimum": 16},
        "quality": {"$ref": "#/$defs/quality"},
        "steps": {"type": "array", "items": {"properties": {"run": {"enum": ["scale", "crop", "no"]}}}},
    },
    "patternProperties": {"^x-": {"description": "An extension."}},
    "$defs": {
        "quality": {
            "type": "object",
            "allOf": [{"properties": {"webp": {"type": "integer", "maximum": 100, "default": 82}}}],
            "properties": {"strip": {"type": "boolean"}},
        }
    },
}
Open = Callable[..., Page]
Save = Callable[[bytes], None]


@pytest.fixture(autouse=True)
def config(site: Server) -> Save:
    """Saves a config as someone else would; each test begins with the mixed one."""

    def save(text: bytes) -> None:
        etag = site.http.get("/api/v1/config").headers["ETag"]
        answer = site.http.put("/api/v1/config", content=text, headers={"If-Match": etag})
        assert answer.status_code == 200, answer.text

    save(MIXED)
    return save


@pytest.fixture
def schema(site: Server, config: Save) -> Iterator[None]:
    """There is a schema beside the config, and the config fits it."""
    config(b"size: 320\nquality:\n  webp: 82\n")
    file = site.config.with_name("config.schema.json")
    file.write_text(json.dumps(SCHEMA))
    yield
    file.unlink()


def saved(site: Server) -> bytes:
    return site.http.get("/api/v1/config").content


def replace_word(page: Page, line: int, before: str, word: str) -> None:
    """Select the three characters behind `before` and type a word over them, by keyboard."""
    editor(page).press("Control+Home")
    for _ in range(line - 1):
        page.keyboard.press("ArrowDown")
    for _ in before:
        page.keyboard.press("ArrowRight")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.type(word)


def append(page: Page, text: str) -> None:
    """Type at the end of the text, line by line."""
    editor(page).press("Control+End")
    page.keyboard.type(text)


def marks(page: Page) -> Locator:
    """What the checks found, as a list."""
    return page.locator("[data-part=marks]").get_by_role("listitem")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_an_edit_keeps_every_other_byte(open_page: Open, site: Server) -> None:
    """Byte order mark, both kinds of line end, comments and spacing included; Ctrl-S saves."""
    page = open_page("/config")
    replace_word(page, 2, "name: ", "foo")
    expect(page.get_by_text("not saved · 1 line changed")).to_be_visible()
    expect(page).to_have_title("● Config · Dropmill")
    page.keyboard.press("Control+s")
    expect(page.get_by_text("not saved")).to_be_hidden()
    expect(page).to_have_title("Config · Dropmill")
    assert saved(site) == MIXED.replace(b"bar", b"foo")
    assert site.config.read_bytes() == MIXED.replace(b"bar", b"foo")
    expect(page.get_by_role("list", name="History").get_by_role("listitem").first).to_contain_text("newest")


# --- saving ----------------------------------------------------------------------------------------------------------


def test_what_saving_would_change_is_shown_before_it_is_saved(open_page: Open, site: Server) -> None:
    page = open_page("/config", viewport={"width": 1440, "height": 900})
    expect(button(page, "See changes")).to_be_disabled()
    replace_word(page, 2, "name: ", "foo")
    button(page, "See changes").click()
    changes = page.get_by_role("region", name="What saving would change")
    expect(changes.get_by_role("textbox", name="Saved")).to_contain_text("name: bar")
    expect(changes.get_by_role("textbox", name="Now")).to_contain_text("name: foo")
    button(page, "Back to the text").click()
    expect(editor(page)).to_be_focused()
    assert saved(site) == MIXED
    button(page, "See changes").click()
    page.get_by_label("What changed?").fill("Größer — ✓")
    button(page, "Save").click()
    expect(changes).to_be_hidden()
    assert saved(site) == MIXED.replace(b"bar", b"foo")
    expect(page.get_by_role("list", name="History").get_by_role("listitem").first).to_contain_text("Größer — ✓")


def test_a_stale_save_overwrites_nobody_even_if_the_page_did_not_hear(
    open_page: Open, site: Server, config: Save
) -> None:
    """The socket is kept away, so that only the server's 412 can tell."""
    page = open_page("about:blank")
    page.route_web_socket("**/api/v1/live", lambda socket: None)
    page.goto("/config")
    write(page, "mine: 1\n")
    config(b"theirs: 2\n")
    button(page, "Save").click()
    expect(page.locator("[data-part=merge]")).to_contain_text("saved a newer revision")
    assert saved(site) == b"theirs: 2\n"
    button(page, "Load theirs").click()
    expect(editor(page)).to_have_text("theirs: 2")
    expect(page.get_by_text("not saved")).to_be_hidden()


@pytest.mark.parametrize("way", ["button", "keys"])
def test_saving_takes_what_was_just_typed_into_the_form(open_page: Open, site: Server, way: str) -> None:
    """Without leaving the field first."""
    page = open_page("/config")
    expect(editor(page)).to_be_visible()
    page.get_by_role("tab", name="Form").click()
    field = page.get_by_role("tabpanel", name="Form").get_by_label("name", exact=True)
    field.press("End")
    page.keyboard.type("bell")
    if way == "keys":
        page.keyboard.press("Control+s")
    else:
        button(page, "Save").click()
    wait_until(lambda: b"name: barbell" in saved(site))
    expect(page.get_by_text("not saved")).to_be_hidden()


def test_leaving_with_unsaved_edits_is_asked_about(open_page: Open) -> None:
    page = open_page("/config")
    append(page, "\nmore: 1")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.get_by_role("link", name="Drop", exact=True).click()
    expect(page.get_by_text("not saved · 1 line changed")).to_be_visible()
    assert asked == ["beforeunload"]
    button(page, "Save").click()
    expect(page.get_by_text("not saved")).to_be_hidden()
    page.get_by_role("link", name="Drop", exact=True).click()
    page.wait_for_url("**/")
    assert asked == ["beforeunload"]


# --- checks ----------------------------------------------------------------------------------------------------------


def test_what_is_not_valid_is_shown_at_its_line_while_typing_and_not_saved(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    write(page, "a: 1\nb: [1, 2\nc: }\n")
    jump = page.get_by_role("button", name="Line 3, column")
    expect(jump).to_be_visible()
    expect(page.locator(".cm-lint-marker-error")).to_be_visible()
    jump.click()
    expect(editor(page)).to_be_focused()
    expect(page.locator(".cm-activeLine")).to_have_text("c: }")
    button(page, "Save").click()
    expect(page.get_by_role("alert").filter(has_text="Not saved: the text is not valid.")).to_be_visible()
    expect(jump).to_be_visible()
    assert saved(site) == MIXED
    write(page, "a: 1\n")
    expect(page.get_by_text("Valid YAML")).to_be_visible()
    expect(marks(page)).to_have_count(0)
    expect(page.locator(".cm-lint-marker")).to_have_count(0)


def test_a_value_that_other_readers_take_otherwise_is_a_warning_and_can_be_saved(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    write(page, "a: 1\nstrip: no # faces\n")
    expect(marks(page)).to_have_count(1)
    expect(marks(page)).to_contain_text("Line 2, column 8")
    expect(marks(page)).to_contain_text("Warning:")
    expect(page.locator(".cm-lintRange-warning")).to_have_text("no")
    expect(page.locator(".cm-lint-marker-warning")).to_be_visible()
    button(page, "Save").click()
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert b"strip: no # faces" in saved(site)


def test_the_newest_text_is_what_was_checked(open_page: Open) -> None:
    """Checks that overlap with typing do not bring old findings back."""
    page = open_page("/config")
    write(page, "a: [")
    write(page, "a: [\nb: [")
    write(page, "fine: 1")
    expect(page.get_by_text("Valid YAML")).to_be_visible()
    expect(marks(page)).to_have_count(0)


# --- the schema ------------------------------------------------------------------------------------------------------


def options(page: Page) -> Locator:
    return page.get_by_role("option")


@pytest.mark.usefixtures("schema")
def test_keys_and_values_are_offered_by_the_schema(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    append(page, "  s")
    expect(options(page)).to_have_text(["striptrue or false"])
    options(page).click()
    expect(options(page)).to_have_text(["true", "false"])
    options(page).last.click()
    page.keyboard.type("\n")
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("st")
    expect(options(page)).to_have_text(["stepslist"])
    options(page).click()
    page.keyboard.type("\n- r")
    expect(options(page)).to_have_text(["run"])
    options(page).click()
    expect(options(page)).to_have_text(["scale", "crop", '"no"'])
    options(page).last.click()
    expect(marks(page)).to_have_count(0)
    page.keyboard.press("Control+s")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site).splitlines()[2:] == [b"  webp: 82", b"  strip: false", b"steps:", b'- run: "no"']


@pytest.mark.usefixtures("schema")
def test_what_is_there_already_is_not_offered_again(open_page: Open) -> None:
    page = open_page("/config")
    append(page, "\n")
    page.keyboard.press("Control+Home")
    page.keyboard.type("\n")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Control+Space")
    expect(options(page)).to_have_text(["stepslist"])


@pytest.mark.usefixtures("schema")
def test_pointing_at_a_key_says_what_the_schema_says(open_page: Open) -> None:
    """As text, whatever it holds."""
    page = open_page("/config")
    editor(page)
    page.locator(".cm-line", has_text="size").hover(position={"x": 16, "y": 10})
    about = page.locator(".cm-schema")
    expect(about).to_contain_text("Longest edge")
    expect(about).to_contain_text("In <b>pixels</b>.")
    expect(about).to_contain_text("whole number · required · at least 16")
    page.locator(".cm-line", has_text="webp").hover(position={"x": 30, "y": 10})
    expect(about).to_contain_text("at most 100 · default 82")


@pytest.mark.usefixtures("schema")
def test_what_the_schema_forbids_is_shown_and_refused(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    write(page, "size: 3\n")
    expect(marks(page)).to_contain_text("Line 1, column 7")
    button(page, "Save").click()
    expect(page.get_by_role("alert").filter(has_text="Not saved")).to_be_visible()
    assert saved(site).startswith(b"size: 320\n")


def test_without_a_schema_nothing_is_offered(open_page: Open) -> None:
    page = open_page("/config")
    append(page, "\nsi")
    page.keyboard.press("Control+Space")
    expect(marks(page)).to_have_count(1)  # the check came back, so an offer would have come long before
    expect(options(page)).to_have_count(0)


# --- others ----------------------------------------------------------------------------------------------------------


def test_a_page_without_edits_follows_what_others_save(open_page: Open, config: Save) -> None:
    page = open_page("/config")
    expect(editor(page)).to_have_text(MIXED_SHOWN)
    config(b"theirs: 3\n")
    expect(editor(page)).to_have_text("theirs: 3")
    note = page.get_by_role("main").get_by_text("saved a newer revision from")
    expect(note).to_contain_text(
        re.compile("Someone saved a newer revision from (127.0.0.1|localhost) .*; it is shown")
    )
    button(page, "Close").click()
    expect(note).to_be_hidden()
    config(MIXED)  # the same text as an older revision's, but not its author nor its time
    expect(note).to_contain_text("from")


def test_a_file_changed_on_the_server_is_followed_and_said_so(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    expect(editor(page)).to_have_text(MIXED_SHOWN)
    site.config.write_bytes(b"outside: 1\n")
    expect(editor(page)).to_have_text("outside: 1")
    expect(page.get_by_role("main").get_by_text("The file was changed on the server")).to_be_visible()


def test_a_file_that_cannot_be_used_is_told_with_its_place(open_page: Open, site: Server) -> None:
    page = open_page("/config")
    expect(editor(page)).to_have_text(MIXED_SHOWN)
    site.config.write_bytes(b"fine: 1\nbroken: [\n")
    notice = page.get_by_role("status").filter(has_text="The file on the server does not hold the newest revision")
    expect(notice).to_contain_text(re.compile(r"line \d, column \d"))
    expect(editor(page)).to_have_text(MIXED_SHOWN)
    open_page("/config").get_by_text("The file on the server does not hold the newest revision").wait_for()
    replace_word(page, 2, "name: ", "foo")
    button(page, "Save").click()
    expect(notice).to_be_hidden()
    wait_until(lambda: site.config.read_bytes() == MIXED.replace(b"bar", b"foo"))


# --- every person ----------------------------------------------------------------------------------------------------


def test_the_keyboard_is_not_trapped_in_the_editor(open_page: Open) -> None:
    page = open_page("/config")
    area = editor(page)
    write(page, "a:")
    append(page, "\n")
    before = area.inner_text()
    area.press("Tab")
    expect(area).to_have_text(re.compile("^a:  +$"))
    assert area.inner_text() != before
    expect(area).to_be_focused()
    area.press("Escape")
    area.press("Tab")
    expect(area).not_to_be_focused()


def test_the_panels_beside_the_text_are_tabs_for_the_keyboard_too(open_page: Open) -> None:
    page = open_page("/config")
    expect(editor(page)).to_be_visible()
    page.get_by_role("tab", name="History").press("ArrowRight")
    expect(page.get_by_role("tab", name="Form")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Form")).to_be_visible()
    expect(page.get_by_role("tabpanel", name="History")).to_be_hidden()


def test_a_phone_shows_it_all_without_scrolling_sideways_or_zooming(open_page: Open, site: Server) -> None:
    page = open_page("/config", **PHONE)
    write(page, "# " + "a long comment that has to be broken " * 5 + "\nsize: 1\n")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".cm-content").evaluate("element => parseFloat(getComputedStyle(element).fontSize)") >= 16
    button(page, "See changes").tap()
    expect(page.get_by_role("textbox", name="Now")).to_contain_text("size: 1")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for name in ("Save", "Back to the text"):
        box = button(page, name).bounding_box()
        assert box is not None
        assert box["height"] >= 44
    button(page, "Save").tap()
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site).endswith(b"broken \nsize: 1\n")


def test_without_scripts_the_config_can_be_read(open_page: Open) -> None:
    page = open_page("/config", java_script_enabled=False)
    expect(page.get_by_label("The text of config.yaml")).to_have_value(
        "# first\nname: bar   # aligned\n\nlist: [1,   2]\n# last, without an end"
    )
