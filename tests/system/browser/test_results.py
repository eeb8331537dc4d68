"""What a script left, as a person finds it on the page and saves it."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect
from tests.support.page_actions import SETTLED, verdict
from tests.support.server import Server

PROCESSOR = """
from pathlib import Path

def process(file, results, config):
    if "none" in file.name:
        return
    if "many" in file.name:
        for number in range(140):
            (results / f"page-{number:03}.txt").write_text(f"page {number}")
        return
    (results / "sub").mkdir()
    (results / "sub" / (Path(file.name).stem + "-thumb.webp")).write_bytes(b"x" * 31744)
    if "odd" in file.name:
        (results / "evil\\u202egpj.html").write_text("<script>document.title = 'owned'</script>")
    if "broken" in file.name:
        raise ValueError("cannot identify image file")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose script leaves what a file is called after."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "leaving.py").write_text(PROCESSOR)
    server = Server(folder, "--processor", "leaving:process", "--concurrency", "2")
    try:
        yield server.start()
    finally:
        server.end()


def submit(page: Page, *names: str) -> None:
    files: list[FilePayload] = [{"name": name, "mimeType": "text/plain", "buffer": b"hello"} for name in names]
    page.set_input_files("#files", files)
    page.get_by_role("button", name="Submit").click()
    expect(verdict(page)).to_have_text(SETTLED)


def saved(page: Page, press: Callable[[], None]) -> tuple[str, Path]:
    with page.expect_download() as download:
        press()
    assert download.value.failure() is None
    return download.value.suggested_filename, Path(download.value.path())


def test_one_result_is_named_on_its_row_and_saved_by_a_press(page: Page) -> None:
    submit(page, "portrait-044.jpg", "none.txt")
    for _ in range(2):  # live, and after a reload
        row = page.get_by_role("listitem").filter(has=page.get_by_text("portrait-044.jpg", exact=True))
        expect(row.get_by_text("portrait-044-thumb.webp · 31 KiB")).to_be_visible()
        name, path = saved(page, row.get_by_role("link", name="Result of portrait-044.jpg").click)
        assert (name, path.read_bytes()) == ("portrait-044-thumb.webp", b"x" * 31744)
        expect(page.get_by_role("link", name="Result of none.txt")).to_have_count(0)
        page.reload()


def test_many_results_are_counted_and_listed_when_asked_for(page: Page) -> None:
    submit(page, "many.pdf", "odd.jpg")
    many = page.get_by_role("button", name="Results of many.pdf")
    expect(page.get_by_text("140 results")).to_be_visible()
    many.click()
    listed = page.get_by_role("list", name="Results")
    expect(listed.get_by_role("link")).to_have_count(140)
    assert saved(page, listed.get_by_role("link", name="page-139.txt").click)[1].read_text() == "page 139"
    many.click()
    expect(listed).to_have_count(0)
    page.get_by_role("button", name="Results of odd.jpg").click()
    odd = listed.get_by_role("link").first
    expect(odd).to_have_text("evil\u27e8U+202E\u27e9gpj.html")
    assert saved(page, odd.click)[0] == "evil_gpj.html"
    assert "owned" not in page.title()


def test_all_results_are_saved_as_one_zip_and_a_failed_file_s_count_too(page: Page) -> None:
    submit(page, "a.jpg", "broken.tif")
    expect(page.get_by_role("link", name="Result of broken.tif")).to_be_visible()
    name, path = saved(page, page.get_by_role("link", name="Download results").click)
    assert name.startswith("results-")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["a.jpg/sub/a-thumb.webp", "broken.tif/sub/broken-thumb.webp"]


def test_without_results_there_is_nothing_to_download(page: Page) -> None:
    submit(page, "none.txt")
    expect(page.get_by_role("link", name="Download results")).to_have_count(0)


def test_results_can_be_had_without_scripts(page: Page, open_page: Callable[..., Page]) -> None:
    submit(page, "many.pdf", "a.jpg")
    page.wait_for_url("**/submissions/*")
    plain = open_page(page.url, java_script_enabled=False)
    expect(plain.get_by_role("link", name="a-thumb.webp")).to_be_visible()
    expect(plain.get_by_role("table")).to_contain_text("and 120 more")
    name, path = saved(plain, plain.get_by_role("link", name="Download results").click)
    assert zipfile.is_zipfile(path)
    assert name.endswith(".zip")
