"""Every page, in what it can show: nothing that axe knows to be in the way of somebody (WCAG 2.2 AA, best practice)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.support import accessibility
from tests.support.accessibility import LOOKS, axe_script
from tests.support.editor_actions import write
from tests.support.page_actions import press_submit, row, submit, text_file
from tests.support.server import Server

CONFIG = """\
# How thumbnails are made.
size: 320          # longest edge, in pixels
formats: [webp,  png]

# --- quality ---
quality:
  webp: 82         # 0 to 100
  strip: true
"""
SCHEMA = {
    "properties": {"size": {"type": "integer", "minimum": 16, "description": "In pixels."}, "mode": {"enum": ["a"]}}
}
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def axe() -> str:
    """The checker's script."""
    return axe_script()


@pytest.fixture(params=LOOKS)
def page(request: pytest.FixtureRequest, open_page: Open) -> Page:
    """A page in each look."""
    return open_page("/", **LOOKS[request.param])


@pytest.fixture
def require_accessible(axe: str, page: Page) -> Callable[[str], None]:
    """Fails if the page, as it is now, is in somebody's way; told is what it shows."""
    return lambda what: accessibility.require_accessible(page, axe, what)


DROP = """() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(["x"], "a.txt"));
  document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
}"""


def put(site: Server, text: str) -> None:
    headers = {"If-Match": site.http.get("/api/v1/config").headers["ETag"]}
    assert site.http.put("/api/v1/config", content=text.encode(), headers=headers).status_code == 200


def test_sending_and_its_history(page: Page, tmp_path: Path, require_accessible: Callable[[str], None]) -> None:
    require_accessible("the empty drop zone")
    page.locator("body").press("?")
    require_accessible("the list of keys")
    page.keyboard.press("Escape")
    page.set_input_files("#files", [text_file(tmp_path / "chosen.txt")])
    require_accessible("chosen files")
    page.reload()
    submit(page, text_file(tmp_path / "good.txt"), text_file(tmp_path / "broken.txt"))
    expect(row(page, "broken.txt")).to_contain_text("Failed")
    row(page, "broken.txt").get_by_role("button", name="Output").click()
    expect(page.get_by_text("ValueError").first).to_be_visible()
    require_accessible("a submission with a failed file")
    page.get_by_role("searchbox").fill("no such file")
    require_accessible("a search without a match")
    page.get_by_role("searchbox").fill("")
    page.reload()
    require_accessible("a settled submission with a folded log")
    page.get_by_role("link", name="broken.txt").click()
    expect(page.get_by_role("heading", name="Attempts")).to_be_visible()
    require_accessible("a failed job")
    for search in ("", "?q=broken", "?state=failed", "?q=nowhere", "?state=running", "?before=1"):
        page.goto(f"/history{search}")
        require_accessible(f"the history {search}")
    page.goto("/nowhere")
    require_accessible("a page that is not there")


def test_a_submission_that_runs_waits_or_broke_off(
    page: Page, site: Server, tmp_path: Path, require_accessible: Callable[[str], None]
) -> None:
    submit(page, *(text_file(tmp_path / f"wait-{number}.txt") for number in range(3)))
    expect(row(page, "wait-0.txt")).to_contain_text("Processing")
    require_accessible("running and waiting files")
    for number in range(3):
        page.get_by_role("button", name=f"Cancel wait-{number}.txt").click()
    expect(page.get_by_role("heading", name="Cancelled: all 3 files")).to_be_visible()
    require_accessible("cancelled files")
    files = [{"name": f"{number}.bin", "size": 10} for number in range(12)]
    opened = site.http.post("/api/v1/submissions", json={"files": files}).json()
    page.goto(f"/submissions/{opened['id']}")
    expect(row(page, "11.bin")).to_contain_text("broken off")
    require_accessible("files that nobody sends")
    page.set_viewport_size({"width": 320, "height": 256})  # 1280 px at 400 %
    require_accessible("the same at 400 %")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_choosing_and_dropping(page: Page, tmp_path: Path, require_accessible: Callable[[str], None]) -> None:
    (tmp_path / "other").mkdir()
    page.set_input_files("#files", [text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt")])
    page.set_input_files("#files", [text_file(tmp_path / "other" / "a.txt", "other\n")])
    expect(page.get_by_text("has the same path")).to_be_visible()
    require_accessible("a file that cannot be sent")
    press_submit(page, 2)
    expect(row(page, "b.txt")).to_contain_text("Succeeded")
    require_accessible("a submission without one of the files")
    page.goto("/")
    expect(page.get_by_role("region", name="Sent from this browser")).to_be_visible()
    require_accessible("the last submissions")
    page.goto("/history")
    page.evaluate(DROP)  # by the page itself: Chromium drags nothing where it emulates touch
    expect(page.get_by_role("dialog")).to_be_visible()
    require_accessible("the offer of a new submission")


def test_the_config(page: Page, site: Server, require_accessible: Callable[[str], None]) -> None:
    schema = site.config.with_name("config.schema.json")
    schema.write_text(json.dumps(SCHEMA))
    put(site, CONFIG)
    page.goto("/config")
    write(page, CONFIG.replace("320", "3").replace("true", "no"))
    expect(page.get_by_role("button", name="Line 2, column 7")).to_be_visible()
    require_accessible("an error and a warning")
    page.get_by_role("button", name="See changes").click()
    expect(page.get_by_text("What saving would change")).to_be_visible()
    require_accessible("what saving would change")
    page.get_by_role("button", name="Back to the text").click()
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_label("webp", exact=True)).to_be_visible()
    require_accessible("the form")
    put(site, CONFIG.replace("320", "640").replace("82", "70"))
    page.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_role("group", name="Conflict").first).to_be_visible()
    require_accessible("two texts that are merged")
    page.get_by_role("tab", name="History").click()
    page.get_by_role("button", name="Compare").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("dialog").get_by_role("textbox").first).to_be_visible()
    require_accessible("two revisions compared")
    schema.unlink()


def test_a_failed_file_its_fix_and_its_retry(
    page: Page, site: Server, require_accessible: Callable[[str], None]
) -> None:
    put(site, CONFIG)
    job = site.settled(site.send(("broken.txt", b"x"))["id"])["files"][0]["job"]["id"]
    page.goto(f"/config?job={job}")
    expect(page.get_by_text("broken.txt failed:")).to_be_visible()
    write(page, f"{CONFIG}fixed: true\n")
    require_accessible("why a file failed, above the text")
    page.keyboard.press("Control+s")
    expect(page.get_by_role("button", name="Retry it now")).to_be_visible()
    require_accessible("what is saved, and what can be retried")
    page.goto(f"/jobs/{job}")
    expect(page.get_by_role("button", name="Retry with the new config")).to_be_visible()
    require_accessible("a failed job whose config is fixed")
    page.goto(f"/config?job={job}")
    write(page, f"{CONFIG}fixed: true\nextra: mine\n")
    put(site, f"extra: theirs\n{CONFIG}fixed: true\n")
    page.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_text("the result would not be valid")).to_be_visible()
    require_accessible("a merge that would not be valid")
