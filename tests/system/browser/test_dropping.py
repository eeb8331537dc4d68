"""Choosing files: what is said about them before Submit, folders, and drops on every page, as a person does it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from tests.support.editor_actions import editor
from tests.support.page_actions import (
    ALL_SUCCEEDED,
    MIB,
    drop,
    press_submit,
    row,
    slow_down,
    sparse,
    submit,
    text_file,
    verdict,
)
from tests.support.server import Server

Open = Callable[..., Page]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, site: Server) -> Iterator[Server]:
    """A server with limits, and with words of its script's author."""
    server = Server(
        tmp_path_factory.mktemp("strict"),
        *("--command", "true", "--title", "Make <thumbnails>", "--intro", "One small picture of each large one."),
        *("--accept", ".txt,image/*", "--max-file-size", "1MiB", "--max-files", "4", "--max-submission-size", "2MiB"),
    )
    try:
        yield server.start()
    finally:
        server.end()


def listed(page: Page) -> Locator:
    """The rows of the list before Submit."""
    return page.get_by_role("list", name="Selected files").get_by_role("listitem")


def choose(page: Page, *paths: Path) -> None:
    page.set_input_files("#files", list(paths))


def paste_picture(page: Page, size: int) -> None:
    page.evaluate(
        """(size) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([new Uint8Array(size)], "image.png", { type: "image/png" }));
          document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        size,
    )


def drag(page: Page, where: Locator, items: list[dict[str, str]], *, is_dropped: bool = True) -> None:
    """Drag something that is no file from outside onto a place."""
    box = where.bounding_box()
    assert box is not None
    devtools = page.context.new_cdp_session(page)
    at = {"x": box["x"] + 10, "y": box["y"] + 10, "data": {"items": items, "dragOperationsMask": 17}}
    for kind in ("dragEnter", "dragOver", *(["drop"] if is_dropped else [])):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **at})
    devtools.detach()


# --- limits ----------------------------------------------------------------------------------------------------------


def test_what_the_server_would_refuse_is_named_before_submit_and_the_rest_is_sent(
    open_page: Open, strict: Server, tmp_path: Path
) -> None:
    page = open_page(f"{strict.url}/")
    expect(page.get_by_role("heading", name="Make <thumbnails>")).to_be_visible()
    limits = page.locator(".zone-limits").get_by_role("listitem")
    expect(limits).to_have_text(["TXT, images", "up to 1 MiB each", "up to 4 files at a time", "up to 2 MiB together"])
    choose(
        page, text_file(tmp_path / "good.txt"), sparse(tmp_path / "big.txt", 2 * MIB), text_file(tmp_path / "wrong.exe")
    )
    expect(listed(page).filter(has_text="big.txt")).to_contain_text("Too large: at most 1 MiB")
    expect(listed(page).filter(has_text="wrong.exe")).to_contain_text("This type is not accepted here")
    expect(page.get_by_text("2 files cannot be sent. Submit leaves them out.", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="1 file, 10 bytes")).to_be_visible()
    submission_id = press_submit(page, 1)
    expect(row(page, "good.txt")).to_contain_text("Succeeded")
    left_out = page.get_by_role("status").filter(has_text="2 files were not sent")
    expect(left_out).to_contain_text("big.txt (Too large: at most 1 MiB)")
    expect(left_out).to_contain_text("wrong.exe (This type is not accepted here)")
    assert strict.settled(submission_id)["counts"]["succeeded"] == 1


def test_bad_files_are_removed_at_once_or_one_by_one(open_page: Open, strict: Server, tmp_path: Path) -> None:
    page = open_page(f"{strict.url}/")
    choose(page, *(text_file(tmp_path / name) for name in ("a.exe", "b.exe", "c.txt", "d.txt", "e.txt")))
    choose(page, *(sparse(tmp_path / f"{name}.txt", MIB) for name in "fg"))
    expect(listed(page).filter(has_text="f.txt")).not_to_contain_text("Too")
    expect(listed(page).filter(has_text="g.txt")).to_contain_text("Too many: at most 4 files at a time")
    page.get_by_role("button", name="Remove c.txt").click()
    expect(listed(page).filter(has_text="g.txt")).to_contain_text("Too much: at most 2 MiB together")
    expect(page.get_by_role("button", name="Submit 3 files")).to_be_visible()
    page.get_by_role("button", name="Remove all 3").click()
    expect(page.get_by_role("button", name="Remove all 3")).to_be_hidden()
    expect(listed(page)).to_have_count(3)
    expect(page.get_by_role("button", name="Remove d.txt")).to_be_focused()


def test_when_nothing_can_be_sent_submit_says_so(open_page: Open, strict: Server, tmp_path: Path) -> None:
    page = open_page(f"{strict.url}/")
    choose(page, text_file(tmp_path / "a.exe"))
    nothing = page.get_by_role("button", name="Nothing to submit")
    expect(nothing).to_be_disabled()
    nothing.click(force=True)
    expect(listed(page)).to_have_count(1)
    assert page.url == f"{strict.url}/"


def test_the_same_file_again_is_named_and_another_one_with_its_path_waits(page: Page, tmp_path: Path) -> None:
    first = text_file(tmp_path / "a.txt")
    (tmp_path / "other").mkdir()
    other = text_file(tmp_path / "other" / "a.txt", "other text\n")
    choose(page, first)
    choose(page, first)
    expect(page.get_by_text("Already in the list: a.txt")).to_be_visible()
    expect(listed(page)).to_have_count(1)
    choose(page, other)
    expect(page.get_by_text("Already in the list")).to_be_hidden()
    expect(listed(page).first).to_contain_text("Another file in the list has the same path")
    expect(page.get_by_role("button", name="Submit 1 file")).to_be_visible()
    page.get_by_role("button", name="Remove a.txt").last.click()
    expect(listed(page)).to_have_count(1)
    expect(listed(page)).to_contain_text("11 bytes")
    expect(page.get_by_text("has the same path")).to_be_hidden()
    press_submit(page, 1)
    expect(row(page, "a.txt")).to_contain_text("Succeeded")


def test_pasted_pictures_get_names_of_their_own(page: Page) -> None:
    paste_picture(page, 10)
    paste_picture(page, 20)
    expect(listed(page)).to_have_text([re.compile(r"image \(2\)\.png"), re.compile(r"image\.png")])


def test_the_list_is_sorted_by_name_or_size(page: Page, tmp_path: Path) -> None:
    choose(
        page, *(text_file(tmp_path / f"page {number}.txt", "x" * size) for number, size in ((10, 1), (9, 3), (2, 2)))
    )
    expect(listed(page)).to_contain_text(["page 2.txt", "page 9.txt", "page 10.txt"])
    by_size = page.get_by_role("group", name="Sort by").get_by_role("button", name="Size")
    by_size.click()
    expect(by_size).to_have_attribute("aria-pressed", "true")
    expect(listed(page)).to_contain_text(["page 9.txt", "page 2.txt", "page 10.txt"])


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 files in 30 folders."""
    folder = tmp_path_factory.mktemp("large") / "scans"
    for batch in range(30):
        (folder / f"batch {batch}").mkdir(parents=True)
        for number in range(100):
            (folder / f"batch {batch}" / f"page {number}.txt").write_bytes(b"x")
    return folder


def test_a_folder_of_thousands_is_listed_in_order_with_few_rows_in_the_document(page: Page, large_folder: Path) -> None:
    drop(page, [large_folder])
    expect(page.get_by_role("heading", name="3,000 files, 2.93 KiB")).to_be_visible()
    expect(page.get_by_role("button", name="Submit 3,000 files")).to_be_in_viewport()
    expect(listed(page).first).to_contain_text("page 0.txt")
    expect(listed(page).first).to_contain_text("scans/batch 0/")
    assert listed(page).count() <= 150
    listed(page).first.hover()
    page.mouse.wheel(0, 1_000_000)
    last = listed(page).filter(has_text="scans/batch 29/").filter(has_text="page 99.txt")
    expect(last).to_be_in_viewport()
    expect(last).to_have_attribute("aria-posinset", "3000")
    expect(last).to_have_attribute("aria-setsize", "3000")
    last.get_by_role("button").click()
    expect(page.get_by_role("button", name="Remove scans/batch 29/page 98.txt")).to_be_focused()
    expect(page.get_by_role("button", name="Submit 2,999 files")).to_be_visible()


# Folders whose reading stops after some portions, until the test lets it go on.
_HELD_FOLDERS = """
const entryOf = DataTransferItem.prototype.webkitGetAsEntry;
let reads = 0;
const held = (entry) => entry.isFile ? entry : {
  isDirectory: true,
  name: entry.name,
  createReader: () => {
    const reader = entry.createReader();
    const readEntries = (taken, failed) => {
      if (reads++ < 20 || window.mayGoOn) reader.readEntries((entries) => taken(entries.map(held)), failed);
      else setTimeout(readEntries, 50, taken, failed);
    };
    return { readEntries };
  },
};
DataTransferItem.prototype.webkitGetAsEntry = function () { return held(entryOf.call(this)); };
"""


def test_the_reading_of_a_folder_is_counted_and_can_be_cancelled(open_page: Open, large_folder: Path) -> None:
    page = open_page("about:blank")
    page.add_init_script(_HELD_FOLDERS)
    page.goto("/")
    drop(page, [large_folder])
    reading = page.get_by_role("status").filter(has_text=re.compile(r"Reading folder\.\.\. [1-9][\d,]*"))
    expect(reading).to_be_visible()
    reading.get_by_role("button", name="Cancel").click()
    expect(reading).to_be_hidden()
    expect(page.locator("#announcer")).to_have_text("Cancelled. Nothing was added.")
    page.evaluate("window.mayGoOn = true")
    drop(page, [large_folder / "batch 7"])
    expect(page.get_by_role("heading", name="100 files")).to_be_visible()


# --- submitting ------------------------------------------------------------------------------------------------------


def test_on_a_slow_line_submit_shows_at_once_that_it_was_pressed(page: Page, tmp_path: Path) -> None:
    held: list[Route] = []
    page.route("**/api/v1/submissions", lambda route: held.append(route))
    choose(page, text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt"))
    page.get_by_role("button", name="Submit 2 files").click()
    pressed = page.get_by_role("button", name="Submitting...")
    expect(pressed).to_be_disabled()
    expect(pressed).to_be_focused()
    pressed.click(force=True)
    page.wait_for_timeout(200)
    assert len(held) == 1
    held[0].continue_()
    page.wait_for_url(re.compile("/submissions/.+"))
    expect(row(page, "b.txt")).to_contain_text("Succeeded")


def test_after_a_failed_submit_the_list_is_kept_and_submit_works_again(page: Page, tmp_path: Path) -> None:
    page.route(
        "**/api/v1/submissions", lambda route: route.fulfill(status=503, json={"detail": "The server is stopping."})
    )
    choose(page, text_file(tmp_path / "kept.txt"))
    page.get_by_role("button", name="Submit 1 file").click()
    expect(page.get_by_role("alert").filter(has_text="Nothing was sent. The server is stopping.")).to_be_visible()
    expect(page.get_by_role("button", name="Submit 1 file")).to_be_focused()
    page.unroute("**/api/v1/submissions")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/submissions/.+"))
    expect(row(page, "kept.txt")).to_contain_text("Succeeded")


def test_with_the_keyboard_alone_the_focus_is_never_lost(page: Page, tmp_path: Path) -> None:
    choose(page, text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt"))
    page.get_by_role("button", name="Remove all", exact=True).press("Enter")
    expect(page.locator("#files")).to_be_focused()
    choose(page, text_file(tmp_path / "a.txt"))
    submit_button = page.get_by_role("button", name="Submit 1 file")
    for _ in range(20):
        if submit_button.evaluate("(button) => button === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/submissions/.+"))
    expect(page.get_by_role("heading", level=1)).to_be_focused()


# --- drops on other pages --------------------------------------------------------------------------------------------


def settled_page(page: Page, tmp_path: Path) -> None:
    submit(page, text_file(tmp_path / "before.txt"))
    expect(verdict(page)).to_have_text(ALL_SUCCEEDED)


def job_page(page: Page, tmp_path: Path) -> None:
    settled_page(page, tmp_path)
    page.goto(page.get_by_role("link", name="before.txt").get_attribute("href") or "")


def at(path: str) -> Callable[[Page, Path], None]:
    def go(page: Page, tmp_path: Path) -> None:
        page.goto(path)

    return go


@pytest.mark.parametrize(
    "go", [settled_page, job_page, at("/submissions"), at("/config"), at("/nowhere")], ids=lambda go: go.__qualname__
)
def test_a_drop_on_any_page_opens_a_list_beside_it(
    page: Page, tmp_path: Path, go: Callable[[Page, Path], None]
) -> None:
    go(page, tmp_path)
    address = page.url
    drop(page, [text_file(tmp_path / "one.txt"), text_file(tmp_path / "two.txt")])
    offer = page.get_by_role("dialog", name="Send 2 files?")
    expect(offer).to_contain_text("This page stays as it is.")
    expect(offer.get_by_role("button", name="Open the list")).to_be_focused()
    with page.context.expect_page() as opened:
        page.keyboard.press("Enter")
    beside = opened.value
    expect(listed(beside)).to_contain_text(["one.txt", "two.txt"])
    expect(offer).to_be_hidden()
    assert page.url == address
    press_submit(beside, 2)
    expect(row(beside, "two.txt")).to_contain_text("Succeeded")


@pytest.mark.parametrize(
    ("path", "hint"),
    [("/", "Drop 2 files to add them to the list"), ("/submissions", "Drop 2 files to start a new submission")],
)
def test_while_files_are_dragged_the_page_says_what_will_happen(
    page: Page, tmp_path: Path, path: str, hint: str
) -> None:
    page.goto(path)
    devtools = page.context.new_cdp_session(page)
    paths = [str(text_file(tmp_path / name)) for name in ("a.txt", "b.txt")]
    data = {"items": [], "files": paths, "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})
    expect(page.get_by_text(hint)).to_be_visible()
    page.evaluate("document.body.dispatchEvent(new DragEvent('dragleave', { bubbles: true }))")
    expect(page.get_by_text(hint)).to_be_hidden()


def test_a_drop_on_an_open_submission_goes_into_it(open_page: Open, strict: Server, tmp_path: Path) -> None:
    page = open_page(f"{strict.url}/")
    slow_down(page, MIB / 4)
    submission_id = submit(page, sparse(tmp_path / "large.txt", MIB))
    expect(row(page, "large.txt")).to_contain_text(re.compile(r"\d %"))
    drop(page, [text_file(tmp_path / "later.txt"), text_file(tmp_path / "wrong.exe")])
    expect(row(page, "later.txt")).to_be_visible()
    expect(page.get_by_role("alert").filter(has_text="wrong.exe (This type is not accepted here)")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_hidden()
    slow_down(page, -1)
    expect(verdict(page)).to_have_text("Done: 2 succeeded")
    assert strict.settled(submission_id)["counts"]["succeeded"] == 2


def test_what_was_dropped_by_mistake_is_forgotten(page: Page, tmp_path: Path) -> None:
    page.goto("/submissions")
    drop(page, [text_file(tmp_path / "mistake.txt")])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    drop(page, [text_file(tmp_path / "meant.txt")])
    expect(page.get_by_role("dialog", name="Send 1 file?")).to_be_visible()


def test_where_the_browser_opens_no_tab_the_person_is_led_to_the_drop_page(open_page: Open, tmp_path: Path) -> None:
    page = open_page("about:blank")
    page.add_init_script("window.open = () => null")
    page.goto("/submissions")
    drop(page, [text_file(tmp_path / "a.txt")])
    page.get_by_role("button", name="Open the list").click()
    problem = page.get_by_role("alert").filter(has_text="The browser did not open a new tab.")
    problem.get_by_role("link", name="Drop page").click()
    page.wait_for_url("**/")


def test_files_get_into_no_text_but_dragged_text_does(page: Page, tmp_path: Path) -> None:
    page.goto("/config")
    before = editor(page).inner_text()
    drop(page, [text_file(tmp_path / "binary.txt", "not for the config\n")])
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert editor(page).inner_text() == before
    drag(page, editor(page), [{"mimeType": "text/plain", "data": "dragged text "}])
    expect(editor(page)).to_contain_text("dragged text")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_link_that_is_dropped_does_not_make_the_browser_leave(page: Page) -> None:
    address = page.url
    link = [{"mimeType": "text/uri-list", "data": f"{address}config"}, {"mimeType": "text/plain", "data": "x"}]
    drag(page, page.get_by_role("main"), link)
    page.wait_for_timeout(300)
    assert page.url == address


# --- the last submissions --------------------------------------------------------------------------------------------


def test_after_the_first_submission_the_page_shows_the_last_ones_instead_of_the_steps(
    page: Page, open_page: Open, site: Server, tmp_path: Path
) -> None:
    steps = page.get_by_role("region", name="What happens to a file")
    expect(steps).to_be_visible()
    submit(page, text_file(tmp_path / "wait-a.txt"), text_file(tmp_path / "b.txt"))
    expect(row(page, "b.txt")).to_contain_text("Succeeded")
    page.goto("/")
    recent = page.get_by_role("region", name="Sent from this browser")
    expect(recent.get_by_role("listitem")).to_have_count(1)
    expect(recent).to_contain_text("Processing, 1 of 2 done")
    expect(steps).to_be_hidden()
    (site.folder / "go").touch()
    expect(recent).to_contain_text("2 succeeded")
    for number in range(3):
        submit(page, text_file(tmp_path / f"later {number}.txt"))
        expect(row(page, "later")).to_contain_text("Succeeded")
        page.goto("/")
    expect(recent.get_by_role("listitem")).to_contain_text(["later 2.txt", "later 1.txt", "later 0.txt"])
    recent.get_by_role("link", name="later 1.txt").click()
    expect(row(page, "later 1.txt")).to_contain_text("Succeeded")
    expect(open_page("/").get_by_role("region", name="What happens to a file")).to_be_visible()


def test_submissions_that_are_gone_are_left_out(page: Page, tmp_path: Path) -> None:
    page.evaluate("localStorage.setItem('dropmill-submissions:', JSON.stringify(['gone', 'also gone']))")
    page.reload()
    expect(page.get_by_role("region", name="What happens to a file")).to_be_visible()
    expect(page.get_by_role("region", name="Sent from this browser")).to_be_hidden()
    assert page.evaluate("localStorage.getItem('dropmill-submissions:')") == "[]"


# --- other ways to use it --------------------------------------------------------------------------------------------


def test_without_scripts_the_form_says_the_limits_and_the_server_names_what_it_refuses(
    open_page: Open, strict: Server, tmp_path: Path
) -> None:
    page = open_page(f"{strict.url}/", java_script_enabled=False)
    expect(page.locator(".zone-limits")).to_contain_text("up to 1 MiB each")
    expect(page.get_by_text("What happens", exact=False)).to_be_hidden()
    expect(page.get_by_role("button", name="Choose folder")).to_be_hidden()
    page.set_input_files("#files", [sparse(tmp_path / "big.txt", 2 * MIB)])
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("main")).to_contain_text("big.txt is over the limit of 1 MiB")
    page.goto(f"{strict.url}/")
    page.set_input_files("#files", [text_file(tmp_path / "plain.txt")])
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("cell", name="Succeeded")).to_have_count(1)


def test_in_german(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/", locale="de-DE")
    expect(page.get_by_role("heading", name="Dateien oder Ordner hier ablegen")).to_be_visible()
    choose(page, text_file(tmp_path / "a.txt"), text_file(tmp_path / "b.txt"))
    expect(page.get_by_role("heading", name="2 Dateien, 20 Byte")).to_be_visible()
    page.get_by_role("button", name="b.txt entfernen").click()
    page.get_by_role("button", name="1 Datei absenden").click()
    page.wait_for_url(re.compile("/submissions/.+"))
    page.goto("/submissions")
    drop(page, [text_file(tmp_path / "c.txt")])
    expect(page.get_by_role("dialog", name="1 Datei senden?")).to_be_visible()


def test_on_a_phone_nothing_is_promised_that_it_cannot(open_page: Open, strict: Server, tmp_path: Path) -> None:
    page = open_page("/", **PHONE)
    expect(page.get_by_role("heading", name="Choose files to send")).to_be_visible()
    expect(page.get_by_role("button", name="Choose folder")).to_be_hidden()
    page.goto(f"{strict.url}/")
    expect(page.get_by_text("Drop files or folders here")).to_be_hidden()
    assert page.locator("#files").get_attribute("accept") == ".txt,image/*"
    choose(page, text_file(tmp_path / f"{'long ' * 30}name.txt"), text_file(tmp_path / f"wrong-{'x' * 150}.exe"))
    expect(page.get_by_role("button", name="Submit 1 file")).to_be_in_viewport()
    expect(listed(page).filter(has_text="name.txt")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_at_400_percent_the_list_is_usable(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/", viewport={"width": 320, "height": 256})
    choose(page, *(text_file(tmp_path / f"file {number}.txt") for number in range(5)))
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.get_by_role("button", name="Remove file 4.txt").click()
    page.get_by_role("button", name="Submit 4 files").click()
    page.wait_for_url(re.compile("/submissions/.+"))
