"""What a submission's page says and does in each state: verdicts, focus, the log, and what it does not know."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect
from tests.support.page_actions import SETTLED, log, row, submit, text_file, verdict
from tests.support.server import Server

Open = Callable[..., Page]
SIZE = 1000  # of an announced file


def announce(site: Server, *names: str) -> Any:
    """Open a submission for files that nobody sends yet."""
    files = [{"name": name, "size": SIZE} for name in names]
    return site.http.post("/api/v1/submissions", json={"files": files}).json()


def send_part(site: Server, file: Any, size: int, offset: int = 0) -> None:
    """Send some bytes of an announced file, and no more."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }
    assert site.http.patch(file["upload_url"], content=b"x" * size, headers=headers).status_code == 204


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_cancelled_file_is_neither_a_success_nor_a_failure(page: Page, tmp_path: Path) -> None:
    submit(page, text_file(tmp_path / "wait-for-ever.txt"), text_file(tmp_path / "good.txt"))
    expect(row(page, "wait-for-ever.txt")).to_contain_text("Processing")
    page.get_by_role("button", name="Cancel wait-for-ever.txt").click()
    expect(verdict(page)).to_have_text("Done: 1 succeeded, 1 cancelled")
    expect(page).to_have_title("■ Dropmill")
    expect(page.locator("#announcer")).to_have_text("Done: 1 succeeded, 1 cancelled.")
    expect(page.get_by_role("button", name="Retry cancelled")).to_be_visible()
    page.get_by_role("button", name="Cancelled 1").click()
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(1)


def test_a_failure_has_a_plain_sentence_the_script_s_words_and_a_way_to_the_config(page: Page, tmp_path: Path) -> None:
    submit(page, text_file(tmp_path / "broken.txt"))
    broken = row(page, "broken.txt")
    expect(verdict(page)).to_have_text("Failed")
    expect(broken.get_by_text("The script raised an exception.")).to_be_visible()
    expect(broken.get_by_text("ValueError: cannot read <b>it</b>")).to_be_visible()
    job = str(broken.get_by_role("link", name="broken.txt").get_attribute("href")).rpartition("/")[2]
    expect(broken.get_by_text(job)).to_be_visible()
    expect(broken.get_by_role("link", name="Fix the config")).to_have_attribute("href", f"/config?job={job}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    broken.get_by_role("button", name="Copy").click()
    expect(broken.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "broken.txt" in copied
    assert "ValueError: cannot read <b>it</b>" in copied
    assert job in copied


def test_a_long_name_keeps_its_end_and_a_settled_row_takes_one_line(page: Page, tmp_path: Path) -> None:
    submit(page, text_file(tmp_path / f"{'portrait ' * 20}043.tif.txt"))
    expect(verdict(page)).to_have_text(SETTLED)
    end = row(page, "portrait").get_by_text("043.tif.txt", exact=False).last
    expect(end).to_be_in_viewport()
    box = row(page, "portrait").bounding_box()
    assert box is not None
    assert box["height"] <= 42
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# --- nobody sends, nothing is known ----------------------------------------------------------------------------------


def test_a_file_that_nobody_sends_is_broken_off_and_can_be_picked_again(open_page: Open, site: Server) -> None:
    submission = announce(site, "large.bin", "never begun.bin")
    send_part(site, submission["files"][0], SIZE // 2)
    page = open_page(f"/submissions/{submission['id']}")
    large = row(page, "large.bin")
    expect(large).to_contain_text("broken off at 50 %; pick it again to go on")
    expect(large.get_by_role("button", name="Pick again: large.bin")).to_be_visible()
    expect(row(page, "never begun.bin")).to_contain_text("broken off at 0 %")
    expect(verdict(page)).to_have_text("Broken off, 0 of 2 done")
    expect(page.get_by_role("main").get_by_text(re.compile("^(Sending|sending)"))).to_have_count(0)
    expect(page).to_have_title("0/2 · Dropmill")
    send_part(site, submission["files"][0], SIZE // 2, offset=SIZE // 2)
    expect(large).to_contain_text("Succeeded")


@pytest.mark.parametrize("code", [4403, 1011])
def test_without_a_connection_nothing_claims_to_be_empty(open_page: Open, tmp_path: Path, code: int) -> None:
    first = open_page("/")
    submit(first, text_file(tmp_path / "good.txt"))
    expect(verdict(first)).to_have_text(SETTLED)
    page = open_page("about:blank")

    def refuse(socket: WebSocketRoute) -> None:
        socket.close(code=code)

    page.route_web_socket("**/api/v1/live", refuse)
    page.route("**/api/v1/live", lambda route: route.fulfill(status=503))  # nor by polls
    page.goto(first.url)
    expect(page.get_by_role("banner").get_by_role("status")).to_have_text(re.compile("not live|reconnecting"))
    page.get_by_role("button", name="Output of good.txt").click()
    output = row(page, "good.txt").get_by_label("Output", exact=True)
    shown = output.evaluate("element => getComputedStyle(element, '::before').content")
    assert "not known until the page is connected" in shown
    expect(page.get_by_text("Nothing has happened yet.")).to_have_count(0)


def test_offline_is_said_at_once(page: Page, tmp_path: Path) -> None:
    submit(page, text_file(tmp_path / "good.txt"))
    expect(verdict(page)).to_have_text(SETTLED)  # then no message takes it back
    badge = page.get_by_role("banner").get_by_role("status")
    expect(badge).to_have_text("live")
    page.evaluate("dispatchEvent(new Event('offline'))")
    expect(badge).to_have_text("offline", timeout=1000)
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(badge).to_have_text("live")


# --- focus -----------------------------------------------------------------------------------------------------------


def test_the_focus_moves_on_when_a_button_has_done_its_work(page: Page, tmp_path: Path) -> None:
    page.set_input_files("#files", [text_file(tmp_path / "wait-a.txt"), text_file(tmp_path / "good.txt")])
    page.get_by_role("button", name="Submit 2 files").focus()
    page.keyboard.press("Enter")
    expect(verdict(page)).to_be_focused()
    expect(row(page, "wait-a.txt")).to_contain_text("Processing")
    page.get_by_role("button", name="Cancel wait-a.txt").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Retry wait-a.txt")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel wait-a.txt")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Retry cancelled").focus()
    page.keyboard.press("Enter")
    expect(verdict(page)).to_be_focused()
    page.get_by_role("button", name="Cancel wait-a.txt").click()
    expect(verdict(page)).to_have_text(SETTLED)


def test_a_row_that_the_filter_takes_away_leaves_the_focus_at_the_next(
    page: Page, site: Server, tmp_path: Path
) -> None:
    submit(page, *(text_file(tmp_path / f"broken-{letter}.txt") for letter in "abc"))
    expect(verdict(page)).to_have_text("Failed: all 3 files")
    page.get_by_role("button", name="Failed 3").click()
    current = site.http.get("/api/v1/config")
    fixed = current.content + b"fixed: true\n"
    saved = site.http.put("/api/v1/config", content=fixed, headers={"If-Match": current.headers["ETag"]})
    try:
        page.get_by_role("button", name="Retry broken-a.txt").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(2)
        assert page.evaluate("document.activeElement.textContent").count("broken-b.txt") > 0
    finally:
        site.http.put("/api/v1/config", content=current.content, headers={"If-Match": saved.headers["ETag"]})


# --- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_begins_at_the_reload_is_filtered_and_has_every_line_of_a_file(page: Page, tmp_path: Path) -> None:
    submit(page, *(text_file(tmp_path / f"line-{number}.txt") for number in range(6)))
    expect(verdict(page)).to_have_text(SETTLED)
    expect(page.get_by_text("From 127.0.0.1")).to_be_visible()
    naming = log(page).get_by_role("listitem").filter(has_text="127.0.0.1")
    expect(naming).to_have_count(1)  # that the client was identified; each further line would say the same
    page.reload()
    expect(page.get_by_role("button", name="Show all")).to_be_visible()  # the log of a settled page is short
    expect(log(page)).to_contain_text("all done")
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Filter the log").fill("LINE-3")
    lines = log(page).get_by_role("listitem")
    expect(lines).to_have_count(3)
    expect(lines).to_contain_text(["sent", "picked up", "processed"])
    page.get_by_label("Filter the log").fill("no such line")
    expect(page.get_by_text("No line matches.")).to_be_visible()
    page.get_by_label("Filter the log").fill("")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    saved = Path(download.value.path()).read_text()
    assert saved.count("line-3.txt") == 3
    assert saved.rstrip().endswith("all done  submission")
