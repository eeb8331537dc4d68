"""A person resumes what broke off: after a reload, a closed tab, a restarted server, a pause, a lost network.

Emulated: dropping (DevTools reports the files as the operating system would; the handles are real), the network that
goes, and other browsers, by a page of plain http off loopback, where Chromium gives neither handles nor WebCrypto. A
headless browser does not ask whether a page may read a dropped file again: it says yes.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.support.faulty_proxy import Proxy
from tests.support.page_actions import MIB, drop, press_submit, random_file, row, slow_down, sparse, submit, text_file
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]
SIZE = 20 * MIB
SLOW = 4 * MIB  # bytes a second
PIECE_MAX = 16 * MIB
BEGUN = re.compile(r"[2-9]\d %")


def files_of(site: Server, submission_id: str) -> list[Any]:
    files: list[Any] = site.get(f"/submissions/{submission_id}/files?limit=1000")["items"]
    return files


def received(site: Server, submission_id: str) -> int:
    return sum(file["received"] for file in files_of(site, submission_id))


def rows(page: Page) -> Locator:
    return page.get_by_role("list", name="Files").get_by_role("listitem")


def reload(page: Page) -> None:
    """As a person does who answers the browser's question by leaving."""
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()


def choose(page: Page, button: str, *paths: Path) -> None:
    """Press a button that opens a file chooser, and choose."""
    with page.expect_file_chooser() as opened:
        page.get_by_role("button", name=button, exact=True).click()
    opened.value.set_files(list(paths))


@pytest.fixture
def plain_url(line: Proxy) -> str:
    """An address that browsers trust less than loopback."""
    return f"http://plain.test:{line.host.rpartition(':')[2]}/"


def test_after_a_reload_one_click_goes_on_with_a_dropped_folder(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "scans" / "inner").mkdir(parents=True)
    expected = random_file(tmp_path / "scans" / "inner" / "large.bin", SIZE, 1)
    sparse(tmp_path / "scans" / "second.bin", SIZE)
    page = open_page("/", through=line)
    slow_down(page, SLOW)
    drop(page, [tmp_path / "scans"])
    submission_id = press_submit(page, 2)
    wait_until(lambda: received(site, submission_id) >= 8 * MIB)
    reload(page)
    expect(row(page, "large.bin")).to_contain_text("Broken off")
    expect(page.get_by_text("2 files broke off")).to_be_visible()
    expect(page.get_by_text("The browser may ask you to let this page read them again")).to_be_visible()
    page.get_by_role("button", name="Continue", exact=True).first.click()
    expect(row(page, "large.bin")).to_contain_text("Sending")
    slow_down(page, -1)
    expect(row(page, "large.bin")).to_contain_text("Succeeded")
    expect(row(page, "second.bin")).to_contain_text("Succeeded")
    assert {file["path"]: file["state"] for file in files_of(site, submission_id)} == {
        "scans/inner/large.bin": "stored",
        "scans/second.bin": "stored",
    }
    assert next(file["sha256"] for file in files_of(site, submission_id) if "large" in file["path"]) == expected
    assert line.carried < 2 * SIZE + 2 * PIECE_MAX, "it must go on where it was"
    assert kept(page) == 0, "a submission that is sealed is forgotten"


def kept(page: Page) -> int:
    """How many records of files the browser keeps."""
    count: int = page.evaluate(
        """() => new Promise((resolve, reject) => {
            const asked = indexedDB.open("dropmill");
            asked.onerror = () => reject(asked.error);
            asked.onsuccess = () => {
                const counted = asked.result.transaction("kept").objectStore("kept").count();
                counted.onsuccess = () => { asked.result.close(); resolve(counted.result); };
            };
        })"""
    )
    return count


def test_a_dropped_file_that_changed_meanwhile_is_not_joined_and_can_be_sent_anew(
    open_page: Open, site: Server, tmp_path: Path
) -> None:
    random_file(tmp_path / "large.bin", SIZE, 1)
    page = open_page("/")
    slow_down(page, SLOW)
    drop(page, [tmp_path / "large.bin"])
    submission_id = press_submit(page, 1)
    wait_until(lambda: received(site, submission_id) >= 4 * MIB)
    reload(page)
    with (tmp_path / "large.bin").open("r+b") as file:  # in the middle only
        file.seek(SIZE // 2)
        file.write(b"changed")
    page.get_by_role("button", name="Continue", exact=True).first.click()
    expect(page.get_by_role("alert").filter(has_text="large.bin has changed since it broke off")).to_be_visible()
    assert {file["state"] for file in files_of(site, submission_id)} == {"receiving"}
    slow_down(page, -1)
    page.get_by_role("button", name="Send as it is now").click()
    expect(row(page, "large.bin")).to_contain_text("Succeeded")
    expect(rows(page)).to_have_count(1)


def test_where_the_browser_keeps_no_handle_the_file_is_picked_again_and_a_wrong_one_is_refused(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path
) -> None:
    expected = random_file(tmp_path / "large.bin", SIZE, 2)
    (tmp_path / "other").mkdir()
    random_file(tmp_path / "other" / "wrong.bin", SIZE, 3)
    random_file(tmp_path / "other" / "large.bin", SIZE, 4)
    page = open_page("/", through=line)
    slow_down(page, SLOW)
    submission_id = submit(page, tmp_path / "large.bin")
    wait_until(lambda: received(site, submission_id) >= 4 * MIB)
    reload(page)
    expect(row(page, "large.bin")).to_contain_text(re.compile(r"broken off at \d\d %; pick it again to go on"))
    before = received(site, submission_id)
    choose(page, "Pick again: large.bin", tmp_path / "other" / "wrong.bin")
    expect(page.get_by_role("alert").filter(has_text="wrong.bin is not large.bin")).to_be_visible()
    choose(page, "Pick again: large.bin", tmp_path / "other" / "large.bin")
    expect(page.get_by_role("alert").filter(has_text="another file of that name")).to_be_visible()
    expect(row(page, "large.bin")).to_contain_text("Broken off")
    assert received(site, submission_id) == before
    slow_down(page, -1)
    choose(page, "Pick again: large.bin", tmp_path / "large.bin")
    expect(row(page, "large.bin")).to_contain_text("Succeeded")
    assert [file["sha256"] for file in files_of(site, submission_id)] == [expected]
    assert line.carried < SIZE + PIECE_MAX


def test_over_plain_http_a_whole_folder_is_picked_again_after_the_tab_was_closed_and_the_server_restarted(
    open_page: Open, site: Server, line: Proxy, plain_url: str, tmp_path: Path
) -> None:
    expected: dict[str, str] = {}
    for name in ["a.txt", "b.txt", "same 1.bin", "same 2.bin", "large.bin"]:
        size = SIZE if name == "large.bin" else 3 * MIB if "same" in name else 1000
        path = tmp_path / "scans" / name
        path.parent.mkdir(exist_ok=True)
        expected[f"scans/{name}"] = random_file(path, size, 5 if "same" in name else len(expected))
    page = open_page(plain_url, through=line)
    slow_down(page, SLOW)
    drop(page, [tmp_path / "scans"])
    submission_id = press_submit(page, 5)
    wait_until(lambda: line.carried > 5 * MIB)
    address = page.url
    page.context.close()
    site.kill()
    site.start()
    again = open_page(address, through=line)
    choose(again, "Pick folder again", tmp_path / "scans")
    expect(again.get_by_role("heading", name=re.compile("^Done"))).to_be_visible()
    expect(rows(again)).to_have_count(5)
    stored = [file for file in files_of(site, submission_id) if file["state"] == "stored"]
    assert {file["path"]: file["sha256"] for file in stored} == expected
    assert len(stored) == 5, "none is sent twice"


@pytest.mark.parametrize("is_killed", [False, True])
def test_small_files_in_which_a_form_was_cut_off_are_offered_in_another_browser(
    open_page: Open, site: Server, plain_url: str, line: Proxy, tmp_path: Path, is_killed: bool
) -> None:
    """Also if nothing else is left, and after a server that was killed; who stops sending cancels them."""
    path = tmp_path / "small.bin"
    expected = random_file(path, 6 * MIB, 7)
    page = open_page(plain_url, through=line)
    line.pause_s = 0.2  # by the line: what the browser has handed over may all arrive
    submission_id = submit(page, path)
    wait_until(lambda: [file["state"] for file in files_of(site, submission_id)] == ["receiving"])
    address = page.url
    if is_killed:
        site.kill()
    page.context.close()
    line.cut()
    line.pause_s = 0
    if is_killed:
        site.start()
    cause = "server_failed" if is_killed else "cut_off"
    wait_until(lambda: [file.get("cause") for file in files_of(site, submission_id)] == [cause])
    again = open_page(address, through=line)
    expect(row(again, "small.bin")).to_contain_text("Broken off")
    expect(row(again, "small.bin")).to_contain_text("starts anew; pick it again")
    expect(again.get_by_role("button", name="Pick files again")).to_be_visible()
    if is_killed:
        again.get_by_role("button", name="Stop sending").click()
        expect(row(again, "small.bin")).to_contain_text("Cancelled")
        expect(again.get_by_role("heading", level=1)).to_have_text("Cancelled")
        assert site.settled(submission_id)["aborted_as"]["cancelled"] == 1
        return
    choose(again, "Pick again: small.bin", path)
    expect(again.get_by_role("heading", name=re.compile("^Done"))).to_be_visible()
    expect(rows(again)).to_have_count(1)
    assert [file["sha256"] for file in files_of(site, submission_id) if file["state"] == "stored"] == [expected]


def test_small_files_that_were_not_sent_yet_are_not_lost_by_leaving(
    open_page: Open, site: Server, tmp_path: Path
) -> None:
    page = open_page("/")
    slow_down(page, MIB)
    paths = [sparse(tmp_path / f"{number}.bin", 4 * MIB + number) for number in range(4)]
    submission_id = submit(page, *paths)
    expect(row(page, "0.bin")).to_contain_text("Sending")
    reload(page)
    assert site.get(f"/submissions/{submission_id}")["state"] == "open"
    slow_down(page, -1)
    choose(page, "Pick files again", *paths)
    expect(page.get_by_role("heading", name=re.compile("^Done"))).to_be_visible()
    expect(rows(page)).to_have_count(4)
    assert sorted(file["path"] for file in files_of(site, submission_id) if file["state"] == "stored") == [
        path.name for path in paths
    ]


def test_a_paused_form_makes_no_red_row_and_goes_on(open_page: Open, site: Server, tmp_path: Path) -> None:
    page = open_page("/")
    slow_down(page, MIB)
    paths = [sparse(tmp_path / f"{number}.bin", size * MIB) for number, size in enumerate([7, 1, 1])]  # in one form
    submission_id = submit(page, *paths)
    expect(row(page, "0.bin")).to_contain_text(BEGUN)
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_text("3 files paused.")).to_be_visible()
    wait_until(lambda: len(files_of(site, submission_id)) == 4, 20)  # the one that was cut off is announced again
    page.wait_for_timeout(1000)  # what would turn red has had its time
    expect(rows(page)).to_have_count(3)
    for number in range(3):
        expect(row(page, f"{number}.bin")).to_contain_text("Paused")
    expect(rows(page).filter(has_text="Not sent")).to_have_count(0)
    slow_down(page, -1)
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.get_by_role("heading", name=re.compile("^Done"))).to_be_visible()
    expect(rows(page)).to_have_count(3)
    page.reload()
    expect(rows(page)).to_have_count(3)
    expect(rows(page).filter(has_text="Not sent")).to_have_count(0)


def test_links_open_beside_a_page_that_sends_and_the_language_waits(
    open_page: Open, site: Server, tmp_path: Path
) -> None:
    page = open_page("/")
    slow_down(page, SLOW)
    submission_id = submit(page, text_file(tmp_path / "small.txt"), sparse(tmp_path / "large.bin", SIZE))
    expect(row(page, "large.bin")).to_contain_text("Sending")
    for name in ["History", "small.txt"]:
        with page.context.expect_page() as opened:
            page.get_by_role("link", name=name).first.click()
        expect(page.get_by_text(f"{name} opens in a new tab")).to_be_visible()
        assert page.url.endswith(submission_id)
        opened.value.close()
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_text("This page is sending. Switch the language when all bytes have arrived")).to_be_visible()
    slow_down(page, -1)
    expect(row(page, "large.bin")).to_contain_text("Succeeded")
    expect(page.get_by_text("opens in a new tab")).to_be_hidden()
    page.get_by_role("link", name="History").click()
    page.wait_for_url("**/history")


def test_rows_say_at_once_that_the_network_is_gone_and_go_on_at_once_when_it_is_back(
    open_page: Open, line: Proxy, tmp_path: Path
) -> None:
    page = open_page("/", through=line)
    slow_down(page, SLOW)
    submit(page, sparse(tmp_path / "large.bin", SIZE))
    expect(row(page, "large.bin")).to_contain_text(BEGUN)
    page.context.set_offline(True)
    expect(row(page, "large.bin")).to_contain_text("offline", timeout=2000)
    page.wait_for_timeout(3000)  # a few retries fail meanwhile
    page.context.set_offline(False)
    slow_down(page, -1)
    expect(row(page, "large.bin")).to_contain_text("Succeeded", timeout=10_000)
    expect(page.get_by_text("The page keeps retrying")).to_be_hidden()


def test_a_large_file_is_removed_when_sending_is_stopped_while_the_server_is_away(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path
) -> None:
    page = open_page("/", through=line)
    slow_down(page, SLOW)
    submission_id = submit(page, sparse(tmp_path / "large.bin", SIZE))
    wait_until(lambda: received(site, submission_id) >= 4 * MIB)
    site.kill()
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="Stop sending").click()
    expect(row(page, "large.bin")).to_contain_text("Cancelled")
    site.start()
    slow_down(page, -1)
    assert site.settled(submission_id, 60)["counts"]["aborted"] == 1
    assert site.arriving() == []


def test_what_broke_off_can_be_ended(open_page: Open, site: Server, tmp_path: Path) -> None:
    page = open_page("/")
    slow_down(page, SLOW)
    submission_id = submit(page, text_file(tmp_path / "small.txt"), sparse(tmp_path / "large.bin", SIZE))
    wait_until(lambda: received(site, submission_id) >= 4 * MIB)
    reload(page)
    page.get_by_role("button", name="Stop sending").click()
    counts = site.settled(submission_id)["counts"]
    assert (counts["aborted"], counts["succeeded"]) == (1, 1)
    assert site.arriving() == []


def test_the_screen_stays_on_while_bytes_are_sent(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/")
    page.add_init_script(
        """window.locks = [];
        const ask = navigator.wakeLock.request.bind(navigator.wakeLock);
        navigator.wakeLock.request = async (kind) => {
            const lock = await ask(kind);
            window.locks.push(lock);
            return lock;
        };"""
    )
    page.reload()
    slow_down(page, SLOW)
    submit(page, sparse(tmp_path / "large.bin", SIZE))
    expect(row(page, "large.bin")).to_contain_text("Sending")
    assert page.evaluate("locks.map((lock) => lock.released)") == [False]
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(row(page, "large.bin")).to_contain_text("Paused")
    wait_until(lambda: page.evaluate("locks.map((lock) => lock.released)") == [True])
