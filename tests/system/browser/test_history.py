"""The history as people use it: find, filter, page to and fro, and watch."""

import csv
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]
PAGE = 50


def send(site: Server, *names: str, settles: bool = True) -> str:
    """One submission, as somebody else sends it; returns its id."""
    files = [("file", (name, f"content of {name} {secrets.token_hex(4)}".encode())) for name in names]
    submission_id = str(site.http.post("/api/v1/submissions", files=files).json()["id"])
    if settles:
        site.settled(submission_id)
    return submission_id


def send_many(site: Server, count: int) -> list[str]:
    """So many settled submissions without files, the newest first."""
    made = []
    for _ in range(count):
        made.append(str(site.http.post("/api/v1/submissions", json={"files": []}).json()["id"]))
        site.http.post(f"/api/v1/submissions/{made[-1]}/seal")
    return made[::-1]


def entry(page: Page, submission_id: str) -> Locator:
    """The row of a submission."""
    return page.get_by_role("main").locator(row_of(submission_id))


def row_of(submission_id: str) -> str:
    """Selects the row of a submission."""
    return f"li:has(a[href$='/submissions/{submission_id}'])"


def entries(page: Page) -> Locator:
    """All rows."""
    return page.get_by_role("main").get_by_role("listitem")


def listed(page: Page) -> list[str]:
    """The ids of all submissions on the page, in order."""
    links = page.get_by_role("main").get_by_role("listitem").get_by_role("link").all()
    return [str(link.get_attribute("href")).rpartition("/")[2] for link in links]


def search(page: Page) -> Locator:
    """Where people type what they look for."""
    return page.get_by_role("main").get_by_role("searchbox")


def said(page: Page, words: str | re.Pattern[str]) -> Locator:
    """What people see the page say; the same is read to them from elsewhere."""
    return page.get_by_role("main").get_by_text(words)


def state(page: Page, name: str) -> Locator:
    """The link that shows the submissions in a state."""
    return page.get_by_role("navigation", name="State").get_by_role("link", name=name, exact=True)


def test_somebody_finds_a_submission_by_a_file_in_it(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    submission_id = send(site, f"trees {mark}.csv", f"leaves {mark}.csv", f"roots {mark}.csv")
    other = send(site, "something else.csv")
    page = open_page("/")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="History").click()
    page.wait_for_url("**/history")
    row = entry(page, submission_id)
    expect(row).to_contain_text(f"trees {mark}.csv and 2 more")
    expect(row).to_contain_text("127.0.0.1")
    expect(row).to_contain_text("3 succeeded")
    search(page).press_sequentially(f"ROOTS {mark[:6]}")
    expect(entries(page)).to_have_count(1)
    expect(row).to_contain_text(f"Found in roots {mark}.csv")
    expect(said(page, "1 submission matches.")).to_be_visible()
    expect(entry(page, other)).to_have_count(0)
    assert "q=ROOTS" in page.url
    row.get_by_role("link").click()
    page.wait_for_url(f"**/submissions/{submission_id}")
    page.go_back()
    expect(search(page)).to_have_value(f"ROOTS {mark[:6]}")
    expect(entries(page)).to_have_count(1)


def test_somebody_finds_what_failed_by_the_words_of_the_error(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    submission_id = send(site, f"good {mark}.txt", f"broken {mark}.txt")
    page = open_page("/history")
    row = entry(page, submission_id)
    expect(row).to_contain_text("1 succeeded, 1 failed")
    search(page).fill("cannot read <b>it")
    search(page).press("Enter")
    expect(row).to_contain_text(f"Found in broken {mark}.txt: cannot read <b>it</b>")
    state(page, "Succeeded").click()
    expect(said(page, "No submission matches.")).to_be_visible()


def test_ids_and_hashes_lead_to_their_submission(open_page: Open, site: Server) -> None:
    submission_id = send(site, "hashed.txt")
    (file,) = site.get(f"/submissions/{submission_id}")["files"]
    page = open_page("/history")
    for text in (submission_id, file["id"][:10], file["job"]["id"][:10], file["sha256"][:10], file["sha256"].upper()):
        search(page).fill(text)
        expect(entries(page)).to_have_count(1)
        expect(entry(page, submission_id)).to_be_visible()


def test_a_text_that_is_too_short_is_not_searched_and_the_page_says_why(open_page: Open, site: Server) -> None:
    submission_id = send(site, "any.txt")
    page = open_page("/history")
    expect(entry(page, submission_id)).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "q=" in request.url else None)
    search(page).press_sequentially("an")
    expect(said(page, "Type at least three characters.")).to_be_visible()
    page.wait_for_timeout(600)
    assert asked == []
    expect(entry(page, submission_id)).to_be_visible()
    search(page).press_sequentially("y")
    expect(said(page, "Type at least three characters.")).to_be_hidden()
    expect(said(page, re.compile(r"\d submissions? match"))).to_be_visible()


def test_states_filter_and_back_undoes_it(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    good, bad = send(site, f"good {mark}.txt"), send(site, f"broken {mark}.txt")
    page = open_page(f"/history?q={mark}")
    expect(entries(page)).to_have_count(2)
    expect(state(page, "All")).to_have_attribute("aria-current", "true")
    state(page, "Failed").click()
    expect(entries(page)).to_have_count(1)
    expect(entry(page, bad)).to_contain_text("Failed")
    expect(state(page, "Failed")).to_have_attribute("aria-current", "true")
    shared = open_page(page.url.removeprefix(site.url))
    expect(entries(shared)).to_have_count(1)
    state(page, "Succeeded").click()
    expect(entry(page, good)).to_be_visible()
    page.go_back()
    expect(entry(page, bad)).to_be_visible()
    page.go_back()
    expect(entries(page)).to_have_count(2)


def test_dates_filter_and_show_all_leads_back_to_the_search(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    submission_id = send(site, f"dated {mark}.txt")
    page = open_page(f"/history?q={mark}", timezone_id="UTC")
    today = datetime.now(UTC).date()
    page.get_by_label("From", exact=True).fill(str(today - timedelta(days=1)))
    page.get_by_label("To", exact=True).fill(str(today + timedelta(days=1)))
    expect(entry(page, submission_id)).to_be_visible()
    page.get_by_label("To", exact=True).fill(str(today - timedelta(days=1)))
    expect(said(page, "No submission matches.")).to_be_visible()
    page.reload()
    expect(page.get_by_label("To", exact=True)).to_have_value(str(today - timedelta(days=1)))
    expect(said(page, "No submission matches.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(entry(page, submission_id)).to_be_visible()
    expect(search(page)).to_be_focused()
    expect(search(page)).to_have_value("")
    assert page.url == f"{site.url}/history"


def test_days_and_times_are_those_of_the_persons_clock(open_page: Open, site: Server) -> None:
    submission_id = send(site, "clocked.txt")
    opened_at = str(site.get(f"/submissions/{submission_id}")["opened_at"])
    exact = opened_at.replace("T", " ").replace("Z", " UTC")
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # 25 hours apart: today is another day
        page = open_page("/history", timezone_id=zone)
        expect(page.get_by_role("heading", name="Today")).to_be_visible()
        time = entry(page, submission_id).locator("time")
        expect(time).to_have_text(re.compile("just now|minutes? ago"))
        expect(time).to_have_attribute("title", exact)
        local = str(page.evaluate("new Intl.DateTimeFormat('sv').format(new Date())"))
        page.get_by_label("From", exact=True).fill(local)
        page.get_by_label("To", exact=True).fill(local)
        page.wait_for_url(re.compile("from=.*to="))
        expect(entry(page, submission_id)).to_be_visible()


def test_pages_lead_to_and_fro(open_page: Open, site: Server) -> None:
    ids = send_many(site, PAGE + 5)
    page = open_page("/history")
    expect(page.get_by_role("link", name="Newer")).to_be_hidden()
    newest = [one for one in listed(page) if one in ids]
    assert newest == ids[: len(newest)]
    page.get_by_role("link", name="Older").click()
    page.wait_for_url(re.compile("before="))
    expect(entry(page, ids[-1])).to_be_visible()
    older = listed(page)
    assert [one for one in older if one in ids] == ids[len(newest) :]
    page.get_by_role("link", name="Newer").click()
    expect(entry(page, ids[0])).to_be_visible()
    expect(page.get_by_role("link", name="Newer")).to_be_hidden()
    assert page.url == f"{site.url}/history"  # and what runs is on top again
    page.go_back()
    expect(entry(page, ids[-1])).to_be_visible()
    page.get_by_role("link", name="Newest").click()
    expect(entry(page, ids[0])).to_be_visible()


def test_what_somebody_else_sends_appears_runs_on_top_and_settles(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    page = open_page("/history")
    running = page.get_by_role("main").locator("section", has=page.get_by_role("heading", name="Running now"))
    submission_id = send(site, f"wait {mark}.txt", f"quick {mark}.txt", settles=False)
    row = entry(page, submission_id)
    expect(running.locator(row_of(submission_id))).to_be_visible()
    expect(row).to_contain_text("Being processed, 1 of 2 done")
    row.get_by_role("link").focus()
    (site.folder / "go").touch()
    expect(row).to_contain_text("2 succeeded")
    expect(running).to_be_hidden()
    today = page.locator("section", has=page.get_by_role("heading", name="Today"))
    expect(today.locator(row_of(submission_id))).to_be_visible()
    expect(row.get_by_role("link")).to_be_focused()
    expect(row.locator("progress")).to_be_hidden()
    assert entries(page).first.inner_text() == row.inner_text()


def test_a_filtered_page_follows_too(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    page = open_page(f"/history?q={mark}&state=running")
    expect(said(page, "Nothing is running now.")).to_be_visible()
    submission_id = send(site, f"wait {mark}.txt", settles=False)
    other = send(site, f"wait {secrets.token_hex(4)}.txt", settles=False)
    expect(entry(page, submission_id)).to_be_visible()
    expect(entry(page, other)).to_have_count(0)
    (site.folder / "go").touch()
    expect(said(page, "Nothing is running now.")).to_be_visible()


def test_results_are_counted_and_the_list_can_be_downloaded(open_page: Open, site: Server, tmp_path: Path) -> None:
    mark = secrets.token_hex(4)
    ids = [send(site, f"listed {mark} {number}.txt") for number in range(3)]
    send(site, "not listed.txt")
    page = open_page(f"/history?q={mark}")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "history.csv"
    download.value.save_as(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as lines:
        assert [row["id"] for row in csv.DictReader(lines)] == ids[::-1]
    page.get_by_role("link", name="JSON").click()
    page.wait_for_url(re.compile("/api/v1/history.*format=json"))
    assert [item["id"] for item in site.get(f"/history?q={mark}")["items"]] == ids[::-1]


def test_without_scripts_it_searches_filters_and_pages(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    good, bad = send(site, f"good {mark}.txt", f"more {mark}.txt"), send(site, f"broken {mark}.txt")
    page = open_page("/history", java_script_enabled=False)
    expect(page.locator("noscript p")).to_be_visible()  # says that days are in UTC; the words in it are not searched
    expect(page.get_by_role("heading", name="Today")).to_be_visible()
    expect(entry(page, good)).to_contain_text(f"good {mark}.txt and 1 more")
    expect(entry(page, good)).to_contain_text("2 succeeded")
    search(page).fill(mark)
    page.get_by_role("button", name="Search").click()
    expect(entries(page)).to_have_count(2)
    expect(said(page, "2 submissions match.")).to_be_visible()
    state(page, "Failed").click()
    expect(entries(page)).to_have_count(1)
    expect(search(page)).to_have_value(mark)
    page.get_by_label("From", exact=True).fill("2000-01-01")
    page.get_by_label("To", exact=True).fill("2000-01-02")
    page.get_by_role("button", name="Search").click()
    expect(said(page, "No submission matches.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(entry(page, bad)).to_be_visible()
    send_many(site, PAGE)
    page.reload()
    page.get_by_role("link", name="Older").click()
    expect(entry(page, bad)).to_be_visible()
    page.get_by_role("link", name="Newer").click()
    page.get_by_role("link", name="Older").click()
    entry(page, bad).get_by_role("link").click()
    page.wait_for_url(f"**/submissions/{bad}")


def test_without_scripts_what_runs_is_on_top(open_page: Open, site: Server) -> None:
    submission_id = send(site, f"wait {secrets.token_hex(4)}.txt", settles=False)
    send(site, "later.txt")
    page = open_page("/history", java_script_enabled=False)
    expect(page.get_by_role("heading", level=2).first).to_have_text("Running now")
    expect(entries(page).first).to_contain_text("Being processed, 0 of 1 done")
    assert listed(page)[0] == submission_id
    (site.folder / "go").touch()
    site.settled(submission_id)


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_is_wider_and_everything_can_be_hit(open_page: Open, site: Server, width: int) -> None:
    send(site, f"{'a long name ' * 12}.txt", "b.txt")
    send(site, f"{'x' * 180}.txt")
    send_many(site, PAGE)
    page = open_page("/history", viewport={"width": width, "height": 800}, has_touch=True)
    expect(entries(page).first).to_be_visible()
    page.get_by_role("link", name="Older").click()
    page.wait_for_url(re.compile("before="))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    controls = page.get_by_role("main").locator("input:visible, button:visible, a:visible")
    small = []
    for control in controls.all():
        size: Any = control.evaluate(
            # A row's link is as large as its row.
            "(one) => { const box = (one.closest('li') ?? one).getBoundingClientRect();"
            " return [box.width, box.height, one.outerHTML.slice(0, 80)]; }"
        )
        if size[0] < 44 or size[1] < 44:
            small.append(size)
    assert small == []


def test_by_keyboard_alone(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    submission_id = send(site, f"keyed {mark}.txt")
    page = open_page("/history")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # to the content
    page.keyboard.press("Tab")
    expect(search(page)).to_be_focused()
    page.keyboard.type(mark)
    page.keyboard.press("Enter")
    expect(entries(page)).to_have_count(1)
    expect(search(page)).to_be_focused()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('li') !== null"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/submissions/{submission_id}")


def test_what_was_found_is_said_to_screen_readers(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    send(site, f"said {mark}.txt")
    page = open_page("/history")
    search(page).fill(mark)
    expect(page.locator("#announcer")).to_have_text("1 submission matches.")
    search(page).fill(f"{mark}x")
    expect(page.locator("#announcer")).to_have_text("No submission matches.")


def test_in_german(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    submission_id = send(site, f"gut {mark}.txt", f"broken {mark}.txt")
    for scripts in (True, False):
        page = open_page("/history", locale="de-DE", java_script_enabled=scripts)
        expect(page.get_by_role("heading", name="Verlauf")).to_be_visible()
        expect(page.get_by_role("heading", name="Heute")).to_be_visible()
        row = entry(page, submission_id)
        expect(row).to_contain_text(f"gut {mark}.txt und 1 weitere")
        expect(row).to_contain_text("1 erfolgreich, 1 fehlgeschlagen")
        search(page).fill(mark)
        page.get_by_role("button", name="Suchen").click()
        expect(said(page, "1 Sendung gefunden.")).to_be_visible()


def test_a_name_that_would_turn_the_text_or_be_html_is_shown_as_text(open_page: Open, site: Server) -> None:
    mark = secrets.token_hex(4)
    submission_id = send(site, f"<img src=x>{mark}\u202etxt.exe", "b.txt")
    for scripts in (True, False):
        page = open_page(f"/history?q={mark}", java_script_enabled=scripts)
        expect(entry(page, submission_id)).to_contain_text(f"<img src=x>{mark}⟨U+202E⟩txt.exe and 1 more")
        expect(page.get_by_role("main").locator("img")).to_have_count(0)


def test_old_links_to_the_list_lead_to_the_history(open_page: Open, site: Server) -> None:
    page = open_page("/submissions")
    assert page.url == f"{site.url}/history"
    page.goto("/submissions?before=1")
    assert page.url == f"{site.url}/history?before=1"
    expect(said(page, "There are no submissions on this page any more.")).to_be_visible()
    page.get_by_role("link", name="Newest").click()
    assert page.url == f"{site.url}/history"


def test_a_history_without_anything_says_what_it_will_show(open_page: Open, make_server: Callable[..., Server]) -> None:
    fresh = make_server().start()
    page = open_page(f"{fresh.url}/history")
    expect(said(page, "Nothing has been sent yet.")).to_be_visible()
    expect(said(page, "No submission matches.")).to_be_hidden()
    submission_id = str(fresh.http.post("/api/v1/submissions", files={"f": ("a.txt", b"a")}).json()["id"])
    expect(entry(page, submission_id)).to_be_visible()
    expect(said(page, "Nothing has been sent yet.")).to_be_hidden()
    wait_until(lambda: fresh.get(f"/submissions/{submission_id}")["state"] == "settled")
    page.get_by_role("link", name="Drop", exact=True).click()
    page.wait_for_url(f"{fresh.url}/")
    page.goto("about:blank")  # before its server ends
