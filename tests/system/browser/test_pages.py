"""The pages as a person uses them: each test acts in a real browser on a real server and checks what is seen."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, WebSocketRoute, expect
from tests.support.page_actions import (
    ALL_SUCCEEDED,
    MIB,
    SETTLED,
    drop,
    log,
    press_submit,
    row,
    slow_down,
    sparse,
    submit,
    text_file,
    verdict,
)
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]


def steps(site: Server, submission_id: str) -> list[dict[str, Any]]:
    """The events of a submission that are lines of the log: one for each step."""
    kept: list[dict[str, Any]] = []
    for event in site.events(f"submission:{submission_id}"):
        data = event["data"]
        is_small = event["name"] == "upload.started" and data["size"] <= 8 * MIB
        is_said = event["name"] == "job.settled" or (event["name"] == "job.queued" and data["reason"] == "stored")
        if not is_small and not is_said:
            kept.append(event)
    return kept


# --- sending and watching --------------------------------------------------------------------------------------------


def test_dropped_files_are_seen_sent_picked_up_processed_and_completed(
    page: Page, open_page: Open, site: Server, tmp_path: Path
) -> None:
    """The whole story with three files, one of 200 MiB, a reload in the middle and a second tab."""
    big = sparse(tmp_path / "big.bin", 200 * MIB)
    waits = text_file(tmp_path / "wait.txt")
    html = text_file(tmp_path / "<img src=x onerror=alert(1)>.txt")
    drop(page, [waits, html, big])
    expect(page.get_by_text("3 files, 200 MiB")).to_be_visible()
    slow_down(page, 100 * MIB)
    submission_id = press_submit(page, 3)

    expect(row(page, "big.bin")).to_contain_text(re.compile(r"[1-9]\d? %"))
    expect(row(page, "big.bin")).to_contain_text("MiB/s")
    expect(page).to_have_title(re.compile(r"^\d/3 · Dropmill$"))
    expect(page.get_by_text("Keep this page open until all bytes have arrived.")).to_be_visible()
    expect(row(page, "wait.txt")).to_contain_text("Processing")
    expect(row(page, "wait.txt")).to_contain_text("half way")
    expect(row(page, "wait.txt")).to_contain_text("50 %")
    expect(row(page, "<img src=x")).to_contain_text("Succeeded")
    expect(page.get_by_text("It is safe to close this page")).to_be_visible()
    expect(row(page, "big.bin")).to_contain_text("Succeeded")

    page.reload()
    expect(row(page, "wait.txt")).to_contain_text("Processing")
    expect(row(page, "wait.txt")).to_contain_text("50 %")
    expect(row(page, "big.bin")).to_contain_text("Succeeded")
    expect(verdict(page)).to_have_text("Processing, 2 of 3 done")
    expect(page).to_have_title("2/3 · Dropmill")
    other = open_page(f"/submissions/{submission_id}")
    expect(row(other, "wait.txt")).to_contain_text("Processing")

    (site.folder / "go").touch()
    for one in (page, other):
        expect(row(one, "wait.txt")).to_contain_text("Succeeded")
        expect(verdict(one)).to_have_text(ALL_SUCCEEDED)
        expect(verdict(one)).to_have_text("Done: 3 succeeded")
        expect(one).to_have_title("✓ Dropmill")
        for word in ("opened", "sending", "sent", "picked up", "processed", "all done"):
            expect(log(one).get_by_text(word, exact=True).first).to_be_attached()
        expect(log(one)).to_contain_text("127.0.0.1")
        expect(one.get_by_text("Recorded about")).to_contain_text(re.compile("you|the sender"))
    expect(log(page).get_by_role("listitem")).to_have_count(len(steps(site, submission_id)))


def test_a_folder_keeps_its_paths_and_its_place_in_them(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "2026" / "deep").mkdir(parents=True)
    text_file(folder / "2026" / "a.txt")
    text_file(folder / "2026" / "deep" / "b.txt")
    drop(page, [folder])
    press_submit(page, 2)
    expect(row(page, "scans/2026/a.txt")).to_contain_text("Succeeded")
    expect(row(page, "scans/2026/deep/b.txt")).to_contain_text("Succeeded")


def test_a_failure_is_reported_and_after_fixing_the_config_a_retry_succeeds(
    page: Page, site: Server, tmp_path: Path
) -> None:
    submit(page, text_file(tmp_path / "broken.txt"))
    broken = row(page, "broken.txt")
    expect(broken).to_contain_text("Failed")
    expect(broken).to_contain_text("ValueError: cannot read <b>it</b>")
    expect(broken).to_contain_text("The script raised an exception.")
    expect(page).to_have_title("✗ Dropmill")
    broken.get_by_role("button", name="Output of broken.txt").click()
    output = broken.get_by_label("Output", exact=True)
    expect(output).to_contain_text("picked up broken.txt")
    expect(output).to_contain_text("Traceback")

    current = site.http.get("/api/v1/config")
    fixed = current.content + b"fixed: true\n"
    saved = site.http.put("/api/v1/config", content=fixed, headers={"If-Match": current.headers["ETag"]})
    assert saved.status_code == 200
    broken.get_by_role("button", name="Retry broken.txt").click()
    expect(broken).to_contain_text("Succeeded")
    expect(broken).to_contain_text("attempt 2")
    expect(output).to_contain_text("last line")
    expect(output).not_to_contain_text("Traceback")
    restored = site.http.put("/api/v1/config", content=current.content, headers={"If-Match": saved.headers["ETag"]})
    assert restored.status_code == 200


def test_a_running_job_shows_its_output_live_and_can_be_cancelled(page: Page, tmp_path: Path) -> None:
    submit(page, text_file(tmp_path / "wait-for-ever.txt"))
    waiting = row(page, "wait-for-ever.txt")
    waiting.get_by_role("button", name="Output of").click()
    expect(waiting.get_by_label("Output", exact=True)).to_contain_text("picked up wait-for-ever.txt")
    waiting.get_by_role("button", name="Cancel").click()
    expect(waiting).to_contain_text("Cancelled")
    expect(verdict(page)).to_have_text(SETTLED)


def test_what_waits_says_its_place_in_line(page: Page, site: Server, tmp_path: Path) -> None:
    submit(page, *(text_file(tmp_path / f"wait-{number}.txt") for number in range(4)))
    expect(row(page, "next in the queue")).to_have_count(1)
    expect(row(page, "2nd in the queue")).to_have_count(1)
    (site.folder / "go").touch()
    expect(verdict(page)).to_have_text(ALL_SUCCEEDED)


def test_leaving_while_small_files_are_sent_keeps_the_submission_open(page: Page, site: Server, tmp_path: Path) -> None:
    slow_down(page, MIB)
    submission_id = submit(page, sparse(tmp_path / "left.bin", 6 * MIB))
    expect(row(page, "left.bin")).to_contain_text("Sending")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/history")
    wait_until(lambda: site.get(f"/submissions/{submission_id}")["counts"]["receiving"] == 0)
    assert site.get(f"/submissions/{submission_id}")["state"] == "open"  # the file may be picked again
    site.http.post(f"/api/v1/submissions/{submission_id}/seal")
    assert site.settled(submission_id)["counts"]["aborted"] == 1


def test_after_a_broken_connection_nothing_is_missed_and_nothing_shown_twice(
    open_page: Open, site: Server, tmp_path: Path
) -> None:
    sockets: list[WebSocketRoute] = []

    def connect(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        if len(sockets) != 2:  # the second one hears nothing
            socket.connect_to_server()

    def wait_for_socket(number: int) -> WebSocketRoute:
        for _ in range(500):
            if len(sockets) >= number:
                return sockets[number - 1]
            page.wait_for_timeout(20)
        raise AssertionError(f"the page opened only {len(sockets)} sockets")

    page = open_page("about:blank")
    page.route_web_socket("**/api/v1/live", connect)
    page.goto("/")
    submission_id = submit(page, text_file(tmp_path / "wait-break.txt"))
    badge = page.get_by_role("banner").get_by_role("status")
    expect(row(page, "wait-break.txt")).to_contain_text("Processing")
    expect(badge).to_have_text("live")
    wait_for_socket(1).close(code=1012)
    expect(badge).to_have_text("reconnecting")
    (site.folder / "go").touch()
    site.settled(submission_id)
    wait_for_socket(2).close(code=1011)
    expect(badge).to_have_text("live")
    expect(row(page, "wait-break.txt")).to_contain_text("Succeeded")
    expect(log(page).get_by_role("listitem")).to_have_count(len(steps(site, submission_id)))


def test_the_log_follows_its_end_until_someone_scrolls_up(page: Page, tmp_path: Path) -> None:
    submit(page, *(text_file(tmp_path / f"line-{number}.txt") for number in range(12)))
    expect(verdict(page)).to_have_text(ALL_SUCCEEDED)
    newest = log(page).get_by_role("listitem").last
    expect(newest).to_be_in_viewport()
    log(page).hover()
    page.mouse.wheel(0, -400)
    follow = page.get_by_role("button", name="Paused: follow")
    expect(newest).not_to_be_in_viewport()
    follow.click()
    expect(newest).to_be_in_viewport()
    expect(page.get_by_role("button", name="Following")).to_be_visible()


def test_a_form_without_scripts_uploads_and_shows_what_became_of_it(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/", java_script_enabled=False)
    page.set_input_files("#files", [text_file(tmp_path / "plain.txt"), text_file(tmp_path / "<b>.txt")])
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("cell", name="Succeeded")).to_have_count(2)
    expect(page.get_by_role("cell", name="<b>.txt")).to_be_visible()
    expect(verdict(page)).to_have_text("Finished: 2 succeeded")


# --- before Submit ---------------------------------------------------------------------------------------------------


def test_the_list_before_submit_is_used_with_the_keyboard_and_keeps_the_focus(page: Page, tmp_path: Path) -> None:
    page.set_input_files("#files", [text_file(tmp_path / f"{name}.txt") for name in "abc"])
    remove = page.get_by_role("button", name="Remove b.txt")
    remove.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove c.txt")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove a.txt")).to_be_focused()
    expect(page.get_by_role("button", name="Submit 1 file")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Submit")).to_be_hidden()
    expect(page.locator("#files")).to_be_focused()


def test_what_cannot_be_seen_in_a_name_is_made_visible(page: Page, tmp_path: Path) -> None:
    page.set_input_files("#files", [text_file(tmp_path / "in\u202evoice\u0007.txt")])
    expect(page.get_by_text("in⟨U+202E⟩voice␇.txt")).to_be_visible()


def test_no_page_is_wider_than_a_phone(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/", viewport={"width": 390, "height": 844})
    submit(page, text_file(tmp_path / f"{'long ' * 30}name.txt"), text_file(tmp_path / f"broken-{'x' * 150}.txt"))
    expect(verdict(page)).to_have_text(SETTLED)
    for path in ("", "/", "/history", "/config", "/nowhere"):
        page.goto(path or page.url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_the_chosen_theme_is_kept(open_page: Open) -> None:
    page = open_page("/", color_scheme="light")
    page.get_by_role("button", name="Dark theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("body")).to_have_css("background-color", "rgb(18, 17, 16)")
    page.get_by_role("button", name="Dark theme").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", re.compile(".*"))


def test_the_history_leads_to_each_submission(page: Page, tmp_path: Path) -> None:
    submission_id = submit(page, text_file(tmp_path / "kept.txt"))
    expect(verdict(page)).to_have_text(SETTLED)
    page.get_by_role("link", name="History").click()
    newest = page.get_by_role("main").get_by_role("listitem").first
    expect(newest).to_contain_text("Succeeded")
    expect(newest).to_contain_text("127.0.0.1")
    newest.get_by_role("link").click()
    page.wait_for_url(f"**/submissions/{submission_id}")
    expect(row(page, "kept.txt")).to_contain_text("Succeeded")


def test_every_page_says_that_the_config_file_cannot_be_used_until_it_can(open_page: Open, site: Server) -> None:
    good = site.config.read_bytes()
    page = open_page("/")
    notice = page.get_by_role("status").filter(
        has_text="The config file on the server does not hold the newest revision"
    )
    expect(notice).to_be_hidden()
    try:
        site.config.write_bytes(good + b"\nlast: [1\n")
        expect(notice).to_contain_text("line")
        plain = open_page("/history", java_script_enabled=False)
        expect(plain.get_by_text("The config file on the server does not hold the newest revision")).to_be_visible()
    finally:
        site.config.write_bytes(good)
    expect(notice).to_be_hidden()
