"""Large files sent from the page over a bad line: cut, damaged, paused, with the server killed in the middle."""

import hashlib
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.support.faulty_proxy import Proxy
from tests.support.page_actions import (
    ALL_SUCCEEDED,
    MIB,
    SETTLED,
    drop,
    press_submit,
    random_file,
    row,
    slow_down,
    sparse,
    submit,
    text_file,
    verdict,
)
from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.system.browser.conftest import PATIENCE_MS

Open = Callable[..., Page]
PIECE_MAX = 16 * MIB


@pytest.fixture
def seed() -> int:
    """What random offsets are made from; printed, so that a failure can be repeated."""
    chosen = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={chosen}")
    return chosen


def files_of(site: Server, submission_id: str) -> list[Any]:
    files: list[Any] = site.get(f"/submissions/{submission_id}/files?limit=1000")["items"]
    return files


def content_hash(site: Server, file: Any) -> str:
    """The SHA-256 of what the server gives out, as made here."""
    whole = hashlib.sha256()
    with site.http.stream("GET", f"/api/v1/files/{file['id']}/content") as answer:
        for piece in answer.iter_bytes():
            whole.update(piece)
    return whole.hexdigest()


def test_a_large_file_survives_cuts_and_a_killed_server(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    size = 300 * MIB
    expected = random_file(tmp_path / "large.bin", size, seed)
    line.cut_at([chance.randrange(size // 2), chance.randrange(size)])
    killed_at = chance.randrange(size // 10, size // 2)
    page = open_page("/", through=line)
    submission_id = submit(page, tmp_path / "large.bin")
    wait_until(lambda: line.carried > killed_at)
    site.kill()
    expect(row(page, "large.bin")).to_contain_text("Retrying")
    site.start()
    expect(row(page, "large.bin")).to_contain_text("Succeeded", timeout=60_000)
    expect(verdict(page)).to_have_text(ALL_SUCCEEDED)

    (file,) = files_of(site, submission_id)
    assert line.cuts_left == 0
    assert line.carried < size + 6 * PIECE_MAX, "it must go on where it was, not begin anew"
    assert file["sha256"] == content_hash(site, file) == expected


def test_a_damaged_piece_is_sent_again_by_itself(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path, seed: int
) -> None:
    size = 30 * MIB
    expected = random_file(tmp_path / "fragile.bin", size, seed)
    line.damage_at(random.Random(seed).randrange(4 * MIB))
    page = open_page("/", through=line)
    slow_down(page, 15 * MIB)
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status))
    submission_id = submit(page, tmp_path / "fragile.bin")
    expect(row(page, "fragile.bin")).to_contain_text("a piece arrived damaged and was sent again")
    slow_down(page, -1)
    expect(row(page, "fragile.bin")).to_contain_text("Succeeded")
    expect(verdict(page)).to_have_text(ALL_SUCCEEDED)
    assert answers.count(460) == 1
    file = files_of(site, submission_id)[0]
    assert file["sha256"] == content_hash(site, file) == expected


def test_a_paused_file_waits_and_goes_on_where_it_was(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path
) -> None:
    page = open_page("/", through=line)
    slow_down(page, 30 * MIB)
    submission_id = submit(page, sparse(tmp_path / "large.bin", 60 * MIB), text_file(tmp_path / "small.txt"))
    large = row(page, "large.bin")
    wait_until(lambda: line.carried > 20 * MIB)
    large.get_by_role("button", name="Pause large.bin").click()
    expect(large).to_contain_text("Paused")
    expect(row(page, "small.txt")).to_contain_text("Succeeded")
    expect(page.get_by_text("1 file paused.")).to_be_visible()
    expect(page.get_by_text("Keep this page open to send the rest.")).to_be_visible()
    assert site.get(f"/submissions/{submission_id}")["state"] == "open"
    slow_down(page, -1)
    large.get_by_role("button", name="Resume large.bin").click()
    expect(large).to_contain_text("Succeeded")
    expect(verdict(page)).to_have_text(ALL_SUCCEEDED)
    assert line.carried < 60 * MIB + 2 * PIECE_MAX


def test_all_of_it_can_be_paused_and_resumed_and_counts_once(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path
) -> None:
    page = open_page("/", through=line)
    slow_down(page, 4 * MIB)
    small = [sparse(tmp_path / f"small-{number}.bin", MIB) for number in range(6)]
    large = [sparse(tmp_path / f"large-{number}.bin", 9 * MIB) for number in range(4)]
    submission_id = submit(page, *small, *large)
    wait_until(lambda: line.carried > 3 * MIB)
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_text("files paused.")).to_be_visible()
    slow_down(page, -1)
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(verdict(page)).to_have_text(SETTLED)
    stored = [file["path"] for file in files_of(site, submission_id) if file["state"] == "stored"]
    assert sorted(stored) == sorted(path.name for path in [*small, *large])


def test_a_cancelled_file_is_gone_and_the_others_arrive(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path
) -> None:
    page = open_page("/", through=line)
    slow_down(page, 10 * MIB)
    submission_id = submit(page, sparse(tmp_path / "large.bin", 200 * MIB), text_file(tmp_path / "small.txt"))
    large = row(page, "large.bin")
    wait_until(lambda: line.carried > 10 * MIB)
    onlooker = open_page(f"/submissions/{submission_id}")
    large.get_by_role("button", name="Cancel large.bin").click()
    for one in (page, onlooker):
        expect_cancelled(one)
    counts = site.settled(submission_id)["counts"]
    assert (counts["aborted"], counts["succeeded"]) == (1, 1)
    assert site.arriving() == []
    onlooker.reload()
    expect_cancelled(onlooker)
    onlooker.goto("/history")
    entry = onlooker.locator(f"[data-entry='{submission_id}']")
    expect(entry).to_contain_text("1 succeeded, 1 cancelled")
    expect(entry).to_have_attribute("data-tone", "quiet")


def expect_cancelled(page: Page) -> None:
    """What was given up is as quiet as a cancelled job, and nobody is offered to try it again."""
    large = row(page, "large.bin")
    expect(large).to_contain_text("Cancelled")
    expect(large).to_have_attribute("data-tone", "quiet")
    expect(large.get_by_role("button")).to_have_count(0)
    expect(verdict(page)).to_have_text("Done: 1 succeeded, 1 cancelled")
    expect(page.get_by_role("button", name=re.compile("^Retry"))).to_have_count(0)


def test_what_is_left_can_be_given_up(open_page: Open, site: Server, line: Proxy, tmp_path: Path) -> None:
    page = open_page("/", through=line)
    slow_down(page, 10 * MIB)
    files = [sparse(tmp_path / f"large-{number}.bin", 50 * MIB) for number in range(5)]
    submission_id = submit(page, *files, text_file(tmp_path / "small.txt"))
    expect(row(page, "large-1.bin")).to_contain_text("Sending")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="Stop sending").click()
    expect(verdict(page)).to_have_text(SETTLED)
    counts = site.settled(submission_id)["counts"]
    assert counts["aborted"] >= 5
    assert site.arriving() == []


def test_small_and_large_files_go_in_one_submission_with_at_most_three_requests_at_once(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path, seed: int
) -> None:
    """Dropped as one folder, over a line that is cut twice."""
    chance = random.Random(seed)
    expected = {}
    for number in range(60):
        path = tmp_path / "scans" / f"day {number % 7}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        expected[str(path.relative_to(tmp_path))] = random_file(path, chance.randrange(100_000), seed + number)
    for number in range(5):
        path = tmp_path / "scans" / f"film {number}.bin"
        expected[str(path.relative_to(tmp_path))] = random_file(path, 12 * MIB, seed - number - 1)
    line.cut_at([chance.randrange(MIB), chance.randrange(MIB, 50 * MIB)])
    page = open_page("/", through=line)
    drop(page, [tmp_path / "scans"])
    submission_id = press_submit(page, 65)
    expect(verdict(page)).to_have_text(SETTLED, timeout=3 * PATIENCE_MS)  # 63 MiB through a proxy in Python
    stored = [file for file in files_of(site, submission_id) if file["state"] == "stored"]
    assert {file["path"]: file["sha256"] for file in stored} == expected
    assert len(stored) == 65, "each file counts once"
    assert line.cuts_left == 0
    assert 2 <= line.most_at_once <= 3
    forms = [path for method, path in line.uploads if method == "POST"]
    assert 1 <= len(forms) <= 6  # of 50 files and of 10, and each cut may end both
    assert set(forms) == {f"/api/v1/submissions/{submission_id}/files"}
    assert {method for method, _ in line.uploads} == {"POST", "PATCH"}


def test_rows_are_there_before_their_bytes_and_an_empty_file_is_one(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/")
    slow_down(page, 2 * MIB)
    names = [f"large-{number}.bin" for number in range(4)]
    submit(page, *(sparse(tmp_path / name, 20 * MIB) for name in names), sparse(tmp_path / "empty.txt", 0))
    expect(row(page, "large-3.bin")).to_contain_text("To be sent")
    expect(row(page, "empty.txt")).to_contain_text("Succeeded")
    expect(page.get_by_text("Keep this page open until all bytes have arrived.")).to_be_visible()


def test_a_name_that_no_form_can_carry_arrives_as_it_is(open_page: Open, site: Server, tmp_path: Path) -> None:
    page = open_page("/")
    name = 'quote " and\nline.txt'
    submission_id = submit(page, text_file(tmp_path / name), text_file(tmp_path / "plain.txt"))
    expect(verdict(page)).to_have_text(ALL_SUCCEEDED)
    assert sorted(file["path"] for file in files_of(site, submission_id)) == ["plain.txt", name]


def test_a_file_that_changed_before_it_was_sent_is_told_and_the_others_arrive(
    open_page: Open, line: Proxy, tmp_path: Path
) -> None:
    page = open_page("/", through=line)
    paths = [text_file(tmp_path / "changed.txt"), text_file(tmp_path / "plain.txt")]
    page.set_input_files("#files", paths)
    paths[0].unlink()
    press_submit(page, 2)
    expect(row(page, "changed.txt")).to_contain_text("the file was changed or can no longer be read")
    expect(row(page, "plain.txt")).to_contain_text("Succeeded")
    expect(verdict(page)).to_have_text(SETTLED)


def test_a_refused_file_says_why_and_is_sent_when_it_may(
    open_page: Open, site: Server, line: Proxy, tmp_path: Path
) -> None:
    page = open_page("/", through=line)
    refuse = {"status": 507, "json": {"code": "out_of_space", "detail": "The disk has too little room."}}
    page.route("**/api/v1/uploads/*", lambda route: route.fulfill(**refuse))
    submit(page, sparse(tmp_path / "large.bin", 9 * MIB))
    expect(row(page, "large.bin")).to_contain_text("Refused")
    expect(row(page, "large.bin")).to_contain_text("The server's disk is full. What was accepted before is safe.")
    expect(page.get_by_text("What was accepted before is safe. 1 file not sent.")).to_be_visible()
    page.unroute("**/api/v1/uploads/*")
    page.get_by_role("button", name="Try again").click()
    expect(row(page, "large.bin")).to_contain_text("Succeeded")


def test_leaving_keeps_what_can_be_gone_on_with(page: Page, site: Server, tmp_path: Path) -> None:
    slow_down(page, 10 * MIB)
    submission_id = submit(page, sparse(tmp_path / "left.bin", 200 * MIB))
    (file,) = files_of(site, submission_id)

    def offset() -> int:
        answer = site.http.head(file["upload_url"], headers={"Tus-Resumable": "1.0.0"})
        return int(answer.headers["Upload-Offset"])

    expect(row(page, "left.bin")).to_contain_text(re.compile(r"\d\d %"))
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/submissions")
    assert offset() >= 4 * MIB
    assert site.get(f"/submissions/{submission_id}")["state"] == "open"


def test_where_the_browser_makes_no_checksums_the_page_says_so(open_page: Open, site: Server, tmp_path: Path) -> None:
    page = open_page(f"http://plain.test:{site.host.rpartition(':')[2]}/")
    slow_down(page, 30 * MIB)
    headers: list[dict[str, str]] = []
    page.on("request", lambda request: headers.append(request.headers) if request.method == "PATCH" else None)
    submit(page, sparse(tmp_path / "large.bin", 20 * MIB))
    expect(page.get_by_text("browsers cannot compute checksums")).to_be_visible()
    expect(row(page, "large.bin")).to_contain_text("Succeeded")
    assert headers
    assert not any("upload-checksum" in one for one in headers)
