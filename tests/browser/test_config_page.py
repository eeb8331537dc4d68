"""The config page: what is saved is what was typed, byte for byte, and nobody is overwritten unasked."""

import random
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.serving.server import Server

MIXED = b"\xef\xbb\xbf# first\r\nname: bar   # aligned\n\nlist: [1,   2]\r\n# last, without an end"
Open = Callable[..., Page]


@pytest.fixture
def config(site: Server) -> Callable[[bytes], None]:
    """Saves a config as someone else would; each test begins with the mixed one."""

    def save(text: bytes) -> None:
        etag = site.http.get("/api/v1/config").headers["ETag"]
        answer = site.http.put("/api/v1/config", content=text, headers={"If-Match": etag})
        assert answer.status_code == 200, answer.text

    save(MIXED)
    return save


def text(page: Page) -> Locator:
    """The editor, once it may be typed in."""
    area = page.get_by_label("The text of config.yaml")
    expect(area).to_be_editable()
    return area


def saved(site: Server) -> bytes:
    return site.http.get("/api/v1/config").content


def test_an_edit_keeps_every_other_byte(open_page: Open, site: Server, config: Callable[[bytes], None]) -> None:
    """Byte order mark, both kinds of line end, comments and spacing included; Ctrl-S saves."""
    page = open_page("/config")
    area = text(page)
    area.fill(area.input_value().replace("bar", "foo"))
    expect(page.get_by_text("not saved · 1 line changed")).to_be_visible()
    page.keyboard.press("Control+s")
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site) == MIXED.replace(b"bar", b"foo")
    assert site.config.read_bytes() == MIXED.replace(b"bar", b"foo")
    expect(page.get_by_role("complementary").get_by_role("listitem").first).to_contain_text("127.0.0.1")


def test_a_stale_save_shows_both_and_overwrites_only_when_told(
    open_page: Open, site: Server, config: Callable[[bytes], None]
) -> None:
    page = open_page("/config")
    text(page).fill("mine: 1\n")
    config(b"theirs: 2\n")
    conflict = page.get_by_role("alertdialog")
    expect(conflict).to_contain_text("theirs: 2")
    expect(conflict).to_contain_text("mine: 1")
    assert saved(site) == b"theirs: 2\n"
    page.get_by_role("button", name="Keep mine and overwrite").click()
    expect(conflict).to_be_hidden()
    expect(page.get_by_text("not saved")).to_be_hidden()
    assert saved(site) == b"mine: 1\n"


def test_a_save_that_the_page_did_not_hear_of_is_not_overwritten(
    open_page: Open, site: Server, config: Callable[[bytes], None]
) -> None:
    """The socket is kept away, so that only the server's 412 can tell."""
    page = open_page("about:blank")
    page.route_web_socket("**/api/v1/live", lambda socket: None)
    page.goto("/config")
    text(page).fill("mine: 1\n")
    config(b"theirs: 2\n")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alertdialog")).to_contain_text("Someone saved a newer revision")
    assert saved(site) == b"theirs: 2\n"
    page.get_by_role("button", name="Load theirs").click()
    expect(text(page)).to_have_value("theirs: 2\n")


def test_what_is_not_valid_is_shown_at_its_line_while_typing_and_not_saved(
    open_page: Open, site: Server, config: Callable[[bytes], None]
) -> None:
    page = open_page("/config")
    text(page).fill("a: 1\nb: [1, 2\nc: }\n")
    jump = page.get_by_role("button", name="Line 3, column")
    expect(jump).to_be_visible()
    jump.click()
    expect(text(page)).to_be_focused()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert").filter(has_text="Not saved: the text is not valid.")).to_be_visible()
    expect(jump).to_be_visible()
    assert saved(site) == MIXED
    text(page).fill("a: 1\n")
    expect(page.get_by_text("Valid YAML")).to_be_visible()
    expect(jump).to_be_hidden()


def test_a_page_without_edits_follows_what_others_save(
    open_page: Open, site: Server, config: Callable[[bytes], None]
) -> None:
    page = open_page("/config")
    expect(text(page)).to_have_value("# first\nname: bar   # aligned\n\nlist: [1,   2]\n# last, without an end")
    config(b"theirs: 3\n")
    expect(text(page)).to_have_value("theirs: 3\n")
    expect(page.get_by_text("Someone saved a newer revision; it is shown now.")).to_be_visible()


def test_the_keyboard_is_not_trapped_in_the_editor(open_page: Open, config: Callable[[bytes], None]) -> None:
    page = open_page("/config")
    area = text(page)
    area.fill("")
    area.press("Tab")
    expect(area).to_have_value("  ")
    expect(area).to_be_focused()
    area.press("Escape")
    area.press("Tab")
    expect(area).not_to_be_focused()


def test_without_scripts_the_config_can_be_read(open_page: Open, config: Callable[[bytes], None]) -> None:
    page = open_page("/config", java_script_enabled=False)
    expect(page.get_by_label("The text of config.yaml")).to_have_value(
        "# first\nname: bar   # aligned\n\nlist: [1,   2]\n# last, without an end"
    )


def test_untouched_lines_keep_their_bytes_whatever_is_edited(open_page: Open) -> None:
    """Random texts with mixed line ends, random edits; an edit taken back gives the very same bytes."""
    page = open_page("/config")
    seed = random.randrange(10**9)
    print("seed", seed)
    source = random.Random(seed)
    ends = ["\n", "\r\n", "\r"]
    for _ in range(200):
        lines = [source.choice(["a: 1", "# c", "", "é: ü", "  - x"]) for _ in range(source.randrange(8))]
        joined = "".join(line + source.choice(ends) for line in lines) + source.choice(["", "z"])
        bom = source.choice(["", "\ufeff"])
        at = source.randrange(len(lines) + 1)
        same, edited = page.evaluate(
            """async ([text, at]) => {
                const { decode, encode } = await import("/static/js/lines.js");
                const original = decode(new TextEncoder().encode(text).buffer);
                const show = (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
                const lines = [...original.lines];
                lines.splice(Math.min(at, lines.length - 1), 0, "NEW");
                return [show(encode(original, original.lines.join("\\n"))), show(encode(original, lines.join("\\n")))];
            }""",
            [bom + joined, at],
        )
        assert same == bom + joined
        assert re.sub("NEW(\r\n|\n|\r)", "", edited) == bom + joined, edited
