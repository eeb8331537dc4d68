"""The job page: what became of one file, with which config, and what changed in the config since."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect
from tests.support.page_actions import row, submit, text_file
from tests.support.server import Server

FIRST = b"# how strict to be\ngreeting: hello\n"
FIXED = b"# how strict to be\ngreeting: hello\nfixed: true\n"
Open = Callable[..., Page]


@pytest.fixture(autouse=True)
def config(site: Server) -> Callable[[bytes], str]:
    """Saves a config as someone else would, and returns its SHA-256; each test begins with the first one."""

    def save(text: bytes) -> str:
        etag = site.http.get("/api/v1/config").headers["ETag"]
        answer = site.http.put("/api/v1/config", content=text, headers={"If-Match": etag})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["sha256"])

    save(FIRST)
    return save


def job_page(open_page: Open, site: Server, name: str, **options: Any) -> Page:
    """The page of the job of a file that is sent now, once it has settled."""
    submission = site.settled(site.send((name, b"some bytes\n"))["id"])
    return open_page(f"/jobs/{submission['files'][0]['job']['id']}", **options)


def attempt(page: Page, number: int) -> Locator:
    return page.get_by_role("table", name="Attempts").get_by_role("row").filter(has_text=f"Attempt {number}")


def state(page: Page, word: str) -> Locator:
    return page.get_by_role("main").get_by_text(word, exact=True).first


def test_a_failed_file_is_fixed_and_retried_and_both_attempts_show_their_config(
    page: Page, open_page: Open, site: Server, config: Callable[[bytes], str], tmp_path: Path
) -> None:
    """The commonest loop, from the row to the page of its job; the page follows the config and the retry live."""
    submit(page, text_file(tmp_path / "broken.txt"))
    row(page, "broken.txt").get_by_role("link", name="Details and attempts").click()
    expect(page.get_by_role("heading", name="broken.txt")).to_be_visible()
    expect(state(page, "Failed")).to_be_visible()
    failure = page.get_by_role("region", name="Why it failed")
    expect(failure.get_by_role("paragraph").first).to_have_text("cannot read <b>it</b>")
    expect(failure).to_contain_text("The script raised ValueError.")
    expect(page.get_by_text("The config has not changed since attempt 1.")).to_be_visible()
    expect(attempt(page, 1)).to_contain_text("newest")

    newest = config(FIXED)
    expect(page.get_by_role("button", name="Retry with the new config")).to_have_accessible_description(
        re.compile("changed since attempt 1")
    )
    expect(attempt(page, 1)).to_contain_text("older")
    attempt(page, 1).get_by_role("button", name="What changed").click()
    changes = page.get_by_role("region", name="What changed in the config since attempt 1")
    expect(changes).to_contain_text("fixed: true")
    expect(changes).to_contain_text("Newest config")

    page.get_by_role("button", name="Retry with the new config").click()
    expect(state(page, "Succeeded")).to_be_visible()
    expect(attempt(page, 2)).to_contain_text("newest")
    expect(attempt(page, 2)).to_contain_text("Succeeded")
    expect(attempt(page, 1)).to_contain_text("Failed")
    expect(page.get_by_role("region", name="Output")).to_contain_text("last line")
    expect(attempt(page, 2).get_by_role("link", name=f"revision {newest[:8]}")).to_have_attribute(
        "href", f"/config?revision={newest}"
    )
    changes.get_by_role("button", name="Close").click()
    expect(changes).to_be_hidden()
    expect(attempt(page, 1).get_by_role("button", name="What changed")).to_be_focused()
    page.get_by_role("link", name="Submission of").click()
    expect(row(page, "broken.txt")).to_contain_text("Succeeded")


def test_what_is_known_of_the_file_its_sender_and_its_results_is_there(open_page: Open, site: Server) -> None:
    page = job_page(open_page, site, "a <i>name</i>.txt")
    facts = page.get_by_role("complementary")
    expect(page.get_by_role("heading", name="a <i>name</i>.txt")).to_be_visible()
    expect(page).to_have_title("a <i>name</i>.txt: Succeeded · Dropmill")
    expect(facts).to_contain_text("11 bytes")
    expect(facts).to_contain_text("127.0.0.1")
    expect(facts.get_by_text(re.compile("^[0-9a-f]{64}$"))).to_be_visible()
    with page.expect_download() as download:
        facts.get_by_role("link", name="download the file").click()
    assert Path(download.value.path()).read_bytes() == b"some bytes\n"


def test_a_running_job_is_followed_and_can_be_cancelled(open_page: Open, site: Server) -> None:
    submission = site.send(("wait.txt", b"x"))
    page = open_page(f"/jobs/{submission['files'][0]['job']['id']}")
    expect(state(page, "Processing")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    expect(page.get_by_text("half way")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(state(page, "Cancelled")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


def test_times_say_how_long_ago_and_how_long_it_took(open_page: Open, site: Server) -> None:
    page = job_page(open_page, site, "timed.txt")
    facts = page.get_by_role("complementary")
    expect(facts).to_contain_text(
        re.compile(r"Queued\s*just now\s*Waited\s*[\d.]+ m?s\s*Took\s*[\d.]+ m?s\s*Ended\s*just now")
    )
    expect(facts.get_by_text("just now").first).to_have_attribute("title", re.compile(r"\d:\d\d:\d\d.*\n.* UTC"))
    expect(attempt(page, 1)).to_contain_text("just now")


def test_the_words_of_a_failure_can_be_copied(open_page: Open, site: Server) -> None:
    page = job_page(open_page, site, "broken.txt", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert copied[:3] == ["broken.txt", "cannot read <b>it</b>", "The script raised ValueError."]
    assert page.url in copied


def test_a_topic_that_the_server_refuses_is_said(open_page: Open, site: Server) -> None:
    """Nothing that follows is shown, which would look as if nothing happened."""
    submission = site.settled(site.send(("good.txt", b"x"))["id"])
    page = open_page("about:blank")

    def refuse(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            asked = json.loads(message)
            if asked.get("type") != "join" or asked["topic"] == "config":
                server.send(message)
                return
            error = {"code": "not_found", "detail": "There is no such topic."}
            socket.send(json.dumps({"type": "reply", "re": asked["id"], "ok": False, "error": error}))

        socket.on_message(pass_on)

    page.route_web_socket("**/api/v1/live", refuse)
    page.goto(f"/jobs/{submission['files'][0]['job']['id']}")
    reason = "The server has no such thing, or has removed it."
    expect(page.get_by_role("alert")).to_have_text(
        f"This page does not follow the job: {reason} Reload it to see what is new."
    )
    expect(page.get_by_role("region", name="Output")).to_contain_text(f"Not shown live: {reason}")


def test_without_scripts_the_page_can_be_read(open_page: Open, site: Server, config: Callable[[bytes], str]) -> None:
    page = job_page(open_page, site, "broken.txt", java_script_enabled=False)
    expect(page.get_by_role("heading", name="broken.txt")).to_be_visible()
    expect(page.get_by_text("cannot read <b>it</b>", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Fix the config")).to_be_visible()
    expect(attempt(page, 1)).to_contain_text("Failed")
    expect(attempt(page, 1)).to_contain_text("newest")
    expect(page.get_by_role("button")).to_have_count(0)
    page.get_by_role("link", name="Whole output").click()
    expect(page.get_by_text("ValueError: cannot read <b>it</b>")).to_be_visible()
    config(FIXED)
    page.go_back()
    page.reload()
    expect(attempt(page, 1)).to_contain_text("older")


def test_on_a_phone_nothing_is_wider_than_the_screen(
    open_page: Open, site: Server, config: Callable[[bytes], str]
) -> None:
    submission = site.settled(site.send(("broken-" + "x" * 120 + ".txt", b"x"))["id"])
    config(FIXED)
    page = open_page(
        f"/jobs/{submission['files'][0]['job']['id']}", viewport={"width": 390, "height": 844}, has_touch=True
    )
    attempt(page, 1).get_by_role("button", name="What changed").click()
    expect(page.get_by_role("region", name="What changed")).to_contain_text("fixed: true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_job_that_is_not_there_is_said_so(open_page: Open) -> None:
    page = open_page("/jobs/nothing")
    expect(page.get_by_role("heading")).to_contain_text("no such thing")
