"""Fail, fix the config, retry: two clicks from a failed file to its second attempt, with a script that people use."""

import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from tests.support.editor_actions import editor, write
from tests.support.page_actions import row
from tests.support.server import Server

THUMBNAILS = Path(__file__).parents[3] / "examples" / "thumbnails"
WRONG = "size: 320\nformat: jpg\nquality: 82\n"  # the script makes JPEG of transparent pictures only if it says "jpeg"
RIGHT = WRONG.replace("jpg", "jpeg")
WORDS = "cannot write mode RGBA as JPEG"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that makes thumbnails."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(THUMBNAILS / "thumbs.py", folder)
    server = Server(folder, "--processor", "thumbs:process")
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(autouse=True)
def save(site: Server) -> Callable[[str], None]:
    """Saves a config as someone else would; each test begins with the wrong one."""

    def save_text(text: str) -> None:
        headers = {"If-Match": site.http.get("/api/v1/config").headers["ETag"]}
        assert site.http.put("/api/v1/config", content=text.encode(), headers=headers).status_code == 200

    save_text(f"# {len(site.get('/jobs')['items'])}\n{WRONG}")  # a revision of its own
    return save_text


def picture() -> bytes:
    """A picture with a transparent background."""
    written = io.BytesIO()
    Image.new("RGBA", (64, 48), (200, 30, 30, 120)).save(written, "png")
    return written.getvalue()


def failed(site: Server, *names: str) -> tuple[str, list[str]]:
    """The ids of a submission of these pictures, all of which have failed, and of their jobs."""
    submission = site.settled(site.send(*((name, picture()) for name in names))["id"])
    jobs = [file["job"] for file in submission["files"]]
    assert [job["state"] for job in jobs] == ["failed"] * len(names)
    return submission["id"], [job["id"] for job in jobs]


def bar(page: Page) -> Locator:
    return page.locator("[data-part=retry-bar]")


def attempts(page: Page) -> Locator:
    return page.get_by_role("table", name="Attempts").get_by_role("row").filter(has_text="Attempt")


def test_a_failed_file_is_fixed_and_retried_in_two_clicks(open_page: Open, site: Server) -> None:
    """Click one leads to the config, click two retries; between them there is only the fix itself and its save."""
    _, [job] = failed(site, "portrait.png")
    page = open_page(f"/jobs/{job}")
    failure = page.get_by_role("region", name="Why it failed")
    expect(failure.get_by_role("paragraph").first).to_have_text(WORDS)
    expect(failure).to_contain_text("The script raised OSError.")
    expect(failure).to_contain_text(f"Job {job}")
    expect(page.get_by_role("button", name="Retry", exact=True)).to_have_accessible_description(
        "The config has not changed since attempt 1."
    )
    failure.get_by_role("link", name="Fix the config").click()
    expect(page).to_have_url(re.compile(f"/config\\?job={job}$"))
    expect(bar(page)).to_contain_text(f"portrait.png failed: {WORDS}")
    expect(bar(page).get_by_role("button")).to_have_count(0)

    write(page, RIGHT)
    page.keyboard.press("Control+s")
    expect(page.get_by_text(re.compile(r"^Saved at \d+:\d\d:\d\d.* · revision [0-9a-f]{8}$"))).to_be_visible()
    expect(bar(page)).to_contain_text("1 file failed with the old config:")
    bar(page).get_by_role("button", name="Retry it now").click()
    expect(bar(page)).to_contain_text("The file is queued again, with the new config.")
    back = bar(page).get_by_role("link", name="Back to the file")
    expect(back).to_be_focused()
    page.keyboard.press("Enter")
    expect(attempts(page)).to_have_count(2)
    expect(attempts(page).nth(0)).to_contain_text("Succeeded")
    expect(attempts(page).nth(1)).to_contain_text("Failed")
    expect(attempts(page).nth(0)).to_contain_text("newest")
    expect(attempts(page).nth(1)).to_contain_text("older")
    expect(page.get_by_role("region", name="Results")).to_contain_text("thumbnail.jpeg")


def test_three_failed_files_are_retried_by_one_click_and_a_cancelled_or_good_one_is_let_be(
    open_page: Open, site: Server, save: Callable[[str], None]
) -> None:
    submission, jobs = failed(site, "a.png", "b.png", "c.png")
    page = open_page(f"/config?job={jobs[1]}")
    write(page, RIGHT)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("[data-part=saved]")).to_be_focused()
    expect(bar(page)).to_contain_text("3 files failed with the old config:")
    bar(page).get_by_role("button", name="Retry them now").click()
    expect(bar(page)).to_contain_text("3 files are queued again, with the new config.")
    assert [len(site.settled(submission)["files"][at]["job"]["attempts"]) for at in range(3)] == [2, 2, 2]
    bar(page).get_by_role("link", name="Back to the submission").click()
    for name in ("a.png", "b.png", "c.png"):
        expect(row(page, name)).to_contain_text("Succeeded")

    # What failed with the newest config is not offered; a retry of it would fail for the same reason.
    save(WRONG)
    site.http.post(f"/api/v1/jobs/{jobs[0]}/retry")
    site.settled(submission)
    again = open_page(f"/config?job={jobs[0]}")
    expect(bar(again)).to_contain_text(f"a.png failed: {WORDS}")
    expect(editor(again)).to_be_visible()
    expect(again.get_by_text("Valid YAML")).to_be_visible()
    expect(bar(again).get_by_role("button")).to_have_count(0)
    save(RIGHT)  # someone else fixes it
    expect(bar(again)).to_contain_text("1 file failed with the old config:")
    site.http.post(f"/api/v1/jobs/{jobs[0]}/retry")  # and retries it before this page does
    site.settled(submission)
    bar(again).get_by_role("button", name="Retry it now").click()
    expect(bar(again)).to_contain_text("The file is queued again")


def test_who_came_without_a_file_is_offered_what_failed_in_the_last_hour(open_page: Open, site: Server) -> None:
    _, [job] = failed(site, "lonely.png")
    page = open_page("/config")
    expect(bar(page)).to_be_hidden()
    write(page, RIGHT)
    page.keyboard.press("Control+s")
    expect(bar(page)).to_contain_text("failed with the old config:")
    bar(page).get_by_role("button", name=re.compile("Retry (it|them) now")).click()
    expect(bar(page)).to_contain_text("queued again, with the new config.")
    page.wait_for_function(
        "(id) => fetch(`/api/v1/jobs/${id}`).then((a) => a.json()).then(({ state }) => state === 'succeeded')", arg=job
    )


def test_the_retry_button_of_the_job_says_what_changed_in_the_config(
    open_page: Open, site: Server, save: Callable[[str], None]
) -> None:
    _, [job] = failed(site, "said.png")
    page = open_page(f"/jobs/{job}")
    expect(page.get_by_role("button", name="Retry", exact=True)).to_be_visible()
    save(RIGHT.replace("320", "640"))
    retry = page.get_by_role("button", name="Retry with the new config")
    expect(retry).to_have_accessible_description("size, format changed since attempt 1.")
    retry.focus()
    page.keyboard.press("Enter")
    expect(attempts(page)).to_have_count(2)
    expect(attempts(page).nth(0)).to_contain_text("Succeeded")
    expect(page.locator("[data-part=state-line]")).to_be_focused()


def test_a_file_that_is_gone_is_said_and_the_others_are_retried(open_page: Open, site: Server) -> None:
    _, jobs = failed(site, "kept.png", "gone.png")
    page = open_page(f"/config?job={jobs[0]}")
    write(page, RIGHT)
    page.route(
        f"**/api/v1/jobs/{jobs[1]}/retry",
        lambda route: route.fulfill(
            status=410, content_type="application/problem+json", body='{"detail": "The file is no longer kept."}'
        ),
    )
    page.keyboard.press("Control+s")
    bar(page).get_by_role("button", name="Retry them now").click()
    expect(bar(page)).to_contain_text("1 file could not be queued again. The file is no longer kept.")
    expect(bar(page).get_by_role("button", name="Retry it now")).to_be_visible()
    expect(bar(page).get_by_role("link", name="Back to the submission")).to_be_visible()


def test_the_whole_loop_by_keyboard_in_german_on_a_phone(open_page: Open, site: Server) -> None:
    """By the keyboard alone: each step is reached from where the one before has left the focus."""
    _, [job] = failed(site, "foto.png")
    page = open_page(f"/jobs/{job}", locale="de-DE", **PHONE)

    def go_to(target: Locator, key: str = "Tab") -> None:
        for _ in range(40):
            if target.evaluate("(element) => element.matches(':focus')"):
                return
            page.keyboard.press(key)
        raise AssertionError(f"it is not reached by {key}")

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_text("Das Skript löste OSError aus.")).to_be_visible()
    go_to(page.get_by_role("link", name="Konfiguration bearbeiten"))
    page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text(f"foto.png ist fehlgeschlagen: {WORDS}")
    area = page.get_by_role("textbox", name="Der Text von config.yaml")
    expect(area).to_be_editable()
    go_to(area)
    page.keyboard.press("Control+f")
    page.keyboard.type("jpg")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.keyboard.type("jpeg")
    page.keyboard.press("Control+s")
    expect(page.get_by_text("Gespeichert um")).to_be_visible()
    expect(bar(page)).to_contain_text("1 Datei ist mit der alten Konfiguration fehlgeschlagen:")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Escape")
    go_to(bar(page).get_by_role("button"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(bar(page)).to_contain_text("Die Datei ist neu eingereiht, mit der neuen Konfiguration.")
    expect(bar(page).get_by_role("link", name="Zurück zur Datei")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Versuche").get_by_role("row").filter(has_text="Versuch 2")).to_contain_text(
        "Erfolgreich"
    )
