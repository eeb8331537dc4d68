from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

Open = Callable[..., Page]


@pytest.mark.parametrize("path", ["/", "/history", "/config", "/nowhere"])
@pytest.mark.parametrize("has_touch", [False, True], ids=["mouse", "touch"])
def test_a_question_mark_lists_the_keys_of_any_page(open_page: Open, path: str, has_touch: bool) -> None:
    page = open_page(path, has_touch=has_touch)
    page.locator("body").press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_text("?", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_what_is_typed_is_text(open_page: Open) -> None:
    page = open_page("/config")
    page.get_by_role("textbox", name="Config").first.click()
    page.keyboard.type("?")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_key_reaches_what_names_it(page: Page) -> None:
    """The page's own parts come and go; here one of each kind is added."""
    page.evaluate(
        """() => {
            const field = document.createElement("input");
            field.type = "search";
            field.ariaLabel = "Search";
            field.setAttribute("aria-keyshortcuts", "/");
            const button = document.createElement("button");
            button.textContent = "Press me";
            button.setAttribute("aria-keyshortcuts", "p");
            button.addEventListener("click", () => { button.textContent = "Pressed"; });
            const gone = button.cloneNode(true);
            gone.hidden = true;
            document.body.prepend(gone, field, button);
        }"""
    )
    page.locator("body").press("/")
    field = page.get_by_role("searchbox", name="Search")
    expect(field).to_be_focused()
    page.keyboard.type("p?/")
    expect(field).to_have_value("p?/")
    field.blur()
    page.locator("body").press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("term")).to_have_text(["/", "p", "?"])
    expect(dialog.get_by_role("definition")).to_have_text(["Search", "Press me", "Keyboard shortcuts"])
    page.keyboard.press("p")  # not while the list is open
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Press me")).to_be_visible()
    page.locator("body").press("Control+p")  # the browser's own
    page.locator("body").press("p")
    expect(page.get_by_role("button", name="Pressed")).to_be_visible()


def test_single_keys_can_be_turned_off_for_good(page: Page) -> None:
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_role("checkbox").uncheck()
    page.get_by_role("button", name="Close").click()
    page.reload()
    page.locator("body").press("?")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(page.get_by_role("checkbox")).not_to_be_checked()
    page.get_by_role("checkbox").check()
    page.keyboard.press("Escape")
    page.locator("body").press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_the_head_fits_a_phone_in_both_languages(open_page: Open) -> None:
    page = open_page("/", viewport={"width": 390, "height": 844}, has_touch=True)
    for language, other in (("en", "DE"), ("de", "EN")):
        expect(page.locator("html")).to_have_attribute("lang", language)
        expect(page.locator("[data-connection=live]")).to_be_visible()
        boxes = [part.bounding_box() for part in page.locator(".top > .brand, .top-end, .top nav").all()]
        lines = {round(box["y"] / 40) for box in boxes if box is not None}
        assert len(lines) == 2  # the pages below, all else in one line
        assert all(box is not None and box["x"] + box["width"] <= 390 for box in boxes)
        page.get_by_role("button", name=other, exact=True).click()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_a_slash_reaches_the_search_of_a_page(open_page: Open) -> None:
    page = open_page("/history")
    page.locator("body").press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(page.get_by_role("searchbox")).to_have_value("")


def test_combinations_are_listed_also_while_they_can_do_nothing(open_page: Open) -> None:
    page = open_page("/config")
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    page.locator("body").press("?")
    entry = page.get_by_role("dialog").locator("dl > div").filter(has_text="Save")
    expect(entry.get_by_role("term")).to_have_text("CtrlS")
