"""The text editor of the config page, as a person uses it."""

from playwright.sync_api import Locator, Page, expect


def editor(page: Page) -> Locator:
    """The editor, once it may be typed in."""
    area = page.get_by_role("textbox", name="The text of config.yaml")
    expect(area).to_be_editable()
    return area


_PASTE = """(area, text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  area.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""


def write(page: Page, text: str) -> None:
    """Replace the whole text by pasting another one over it."""
    area = editor(page)
    area.click()
    page.keyboard.press("Control+a")
    area.evaluate(_PASTE, text)
