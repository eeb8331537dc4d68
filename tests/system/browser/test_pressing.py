"""What a person presses stays under the pointer until it is released, whatever happens meanwhile: the click arrives."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.support.page_actions import row, submit, text_file
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]


@pytest.fixture(autouse=True)
def no_job_left(page: Page, site: Server) -> Iterator[None]:
    """Each test ends with its scripts, which would keep those of the next test waiting."""
    yield
    (site.folder / "go").touch()
    wait_until(lambda: site.get("/jobs?state=running")["items"] + site.get("/jobs?state=queued")["items"] == [])


def press(page: Page, control: Locator) -> None:
    """Put the mouse on the control, and its button down."""
    box = control.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()


def jobs_of(site: Server, submission: str) -> dict[str, Any]:
    """The jobs of a submission by the name of their file."""
    files = site.get(f"/submissions/{submission}/files")["items"]
    return {file["name"]: file["job"] for file in files}


def cancel(site: Server, submission: str, *names: str) -> None:
    """Cancel files, as somebody else does."""
    for name in names:
        site.http.post(f"/api/v1/jobs/{jobs_of(site, submission)[name]['id']}/cancel").raise_for_status()


def test_a_row_s_button_that_others_move_and_change_while_it_is_pressed_is_clicked(
    page: Page, open_page: Open, site: Server, tmp_path: Path
) -> None:
    submission = submit(page, *(text_file(tmp_path / f"wait-{number}.txt") for number in range(4)))
    expect(row(page, "wait-1.txt")).to_contain_text("Processing")
    other = open_page(f"/submissions/{submission}")
    button = page.get_by_role("button", name="Cancel wait-2.txt")
    before = button.bounding_box()
    press(page, button)
    cancel(site, submission, "wait-0.txt", "wait-1.txt")
    expect(row(other, "wait-1.txt")).to_contain_text("Cancelled")
    expect(row(other, "wait-2.txt")).to_contain_text("Processing")
    assert button.bounding_box() == before
    page.mouse.up()
    expect(row(page, "wait-2.txt")).to_contain_text("Cancelled")
    expect(row(page, "wait-3.txt")).to_contain_text("Processing")


def test_a_press_that_is_taken_back_clicks_nothing_and_the_page_goes_on(
    page: Page, site: Server, tmp_path: Path
) -> None:
    submission = submit(page, *(text_file(tmp_path / f"wait-{number}.txt") for number in range(2)))
    expect(row(page, "wait-1.txt")).to_contain_text("Processing")
    press(page, page.get_by_role("button", name="Cancel wait-1.txt"))
    page.mouse.move(5, 5)
    page.mouse.up()
    cancel(site, submission, "wait-0.txt")
    expect(row(page, "wait-0.txt")).to_contain_text("Cancelled")
    expect(row(page, "wait-1.txt")).to_contain_text("Processing")


def test_a_notice_moves_nothing_that_is_pressed(page: Page, open_page: Open, site: Server, tmp_path: Path) -> None:
    submit(page, text_file(tmp_path / "wait.txt"))
    expect(row(page, "wait.txt")).to_contain_text("Processing")
    other = open_page("/history")
    press(page, page.get_by_role("button", name="Cancel wait.txt"))
    site.http.post("/api/v1/notices", json={"text": "Maintenance at noon\n" * 5, "expires_in": 60}).raise_for_status()
    expect(other.get_by_text("Maintenance at noon").first).to_be_visible()
    page.mouse.up()
    expect(row(page, "wait.txt")).to_contain_text("Cancelled")
    expect(page.get_by_text("Maintenance at noon").first).to_be_visible()


@pytest.mark.parametrize("by", ["mouse", "key"])
def test_a_job_is_retried_by_a_press_during_which_its_page_changes(
    page: Page, open_page: Open, site: Server, tmp_path: Path, by: str
) -> None:
    submission = submit(page, text_file(tmp_path / "broken.txt"))
    site.settled(submission)
    job = jobs_of(site, submission)["broken.txt"]["id"]
    other = open_page(f"/jobs/{job}")
    page.goto(f"/jobs/{job}")
    button = page.get_by_role("button", name="Retry")
    expect(button).to_be_visible()
    if by == "mouse":
        press(page, button)
    else:
        button.focus()
        page.keyboard.down(" ")
    site.http.post(f"/api/v1/jobs/{job}/retry").raise_for_status()
    site.settled(submission)
    expect(other.get_by_role("row").filter(has_text="Failed")).to_have_count(2)
    if by == "mouse":
        page.mouse.up()
    else:
        page.keyboard.up(" ")
    expect(page.get_by_role("row").filter(has_text="Failed")).to_have_count(3)


def test_a_submission_in_the_history_that_moves_while_it_is_pressed_is_opened(
    open_page: Open, site: Server, tmp_path: Path
) -> None:
    first = open_page("/")
    submission = submit(first, text_file(tmp_path / "wait-here.txt"))
    page, other = open_page("/history"), open_page("/history")
    running = page.get_by_role("region", name="Running now")
    link = page.get_by_role("link", name="wait-here.txt").first
    expect(running if running.count() else link).to_be_visible()
    press(page, link)
    cancel(site, submission, "wait-here.txt")
    expect(other.get_by_text("Cancelled").first).to_be_visible()
    page.mouse.up()
    page.wait_for_url(f"**/submissions/{submission}")
