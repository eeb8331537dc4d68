"""Every example, started as its README says and used through the page; what it leaves is downloaded and checked."""

import csv
import gzip
import io
import random
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openpyxl import load_workbook
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, expect
from tests.support.missing import missing
from tests.support.page_actions import row, submit
from tests.support.server import Server

EXAMPLES = Path(__file__).parents[3] / "examples"


def started_with(name: str) -> tuple[str, ...]:
    """The flags that the examples' README starts one with."""
    for line in (EXAMPLES / "README.md").read_text().splitlines():
        if line.startswith(f"| `{name}` |"):
            command = line.split("|")[-2].strip().strip("`")
            words = shlex.split(command)
            assert words[:2] == ["dropmill", "serve"]
            return tuple(words[2:])
    raise AssertionError(f"examples/README.md says nothing of {name}")


@contextmanager
def example(name: str, folder: Path, chromium: Browser) -> Iterator[Page]:
    """A page of a server that runs a copy of an example."""
    shutil.copytree(EXAMPLES / name, folder, dirs_exist_ok=True)
    server = Server(folder, *started_with(name))
    try:
        context = chromium.new_context(base_url=server.start().url)
        page = context.new_page()
        page.goto("/")
        yield page
        context.close()
    finally:
        server.end()


def result_of(page: Page, name: str) -> tuple[str, bytes]:
    """The one result of a file: its name and its bytes."""
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Result of {name}").click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def succeeded(page: Page, name: str) -> None:
    expect(row(page, name)).to_contain_text("Succeeded", timeout=60_000)


def test_thumbnails_of_images(tmp_path: Path, chromium: Browser) -> None:
    picture = tmp_path / "portrait.jpg"
    Image.effect_mandelbrot((1200, 900), (-2, -1.5, 1, 1.5), 60).convert("RGB").save(picture)
    no_picture = tmp_path / "broken.tif"
    no_picture.write_bytes(b"this is no picture")
    with example("thumbnails", tmp_path / "site", chromium) as page:
        submit(page, picture, no_picture)
        succeeded(page, "portrait.jpg")
        expect(row(page, "broken.tif")).to_contain_text("UnidentifiedImageError")
        name, made = result_of(page, "portrait.jpg")
        with Image.open(io.BytesIO(made)) as thumbnail:
            assert (name, thumbnail.format, thumbnail.size) == ("thumbnail.webp", "WEBP", (320, 240))


def test_an_excel_report_of_a_compressed_table(tmp_path: Path, chromium: Browser) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)
    sales = [(draw.choice(["north", "south", "west"]), draw.randrange(1, 1000)) for _ in range(5000)]
    table = tmp_path / "sales.csv.gz"
    with gzip.open(table, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["region", "amount"])
        writer.writerows(sales)
    with example("report", tmp_path / "site", chromium) as page:
        submit(page, table)
        succeeded(page, "sales.csv.gz")
        name, made = result_of(page, "sales.csv.gz")
    assert name == "report.xlsx"
    workbook = load_workbook(io.BytesIO(made))
    sums = {region: total for region, _, total, _ in workbook["Summary"].iter_rows(min_row=2, values_only=True)}
    assert sums == {region: sum(n for r, n in sales if r == region) for region in sums}
    assert set(sums) == {"north", "south", "west"}
    assert workbook["Data"].max_row == 5001
    assert len(workbook["Summary"]._charts) == 1


def test_a_wrong_column_fails_and_the_fixed_config_succeeds(tmp_path: Path, chromium: Browser) -> None:
    table = tmp_path / "sales.csv"
    table.write_text("area,amount\nnorth,3\nsouth,4\n")
    with example("report", tmp_path / "site", chromium) as page:
        submit(page, table)
        expect(row(page, "sales.csv")).to_contain_text("Failed", timeout=60_000)
        row(page, "sales.csv").get_by_role("button", name="Output").click()
        said = "The file has no column region; it has area, amount."
        expect(page.get_by_role("group", name="Output")).to_have_text(said)
        expect(row(page, "sales.csv").get_by_text(f"SystemExit: {said}")).to_be_visible()
        address = page.url
        page.goto("/config")
        page.get_by_role("tab", name="Form").click()
        page.get_by_label("group_by", exact=True).fill("area")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("not saved")).to_be_hidden()
        page.goto(address)
        row(page, "sales.csv").get_by_role("button", name="Retry").click()
        succeeded(page, "sales.csv")
    assert "# the column whose values become the rows" in (tmp_path / "site" / "config.yaml").read_text()


def test_a_shell_script(tmp_path: Path, chromium: Browser) -> None:
    text = tmp_path / "notes $(touch owned).txt"
    text.write_text("one two\nthree\n" * 500)
    with example("shell", tmp_path / "site", chromium) as page:
        submit(page, text)
        succeeded(page, text.name)
        row(page, text.name).get_by_role("button", name="Output").click()
        expect(page.get_by_text("1000 lines, 1500 words, 7000 bytes")).to_be_visible()
        name, made = result_of(page, text.name)
    assert (name, gzip.decompress(made)) == ("packed.gz", text.read_bytes())
    assert not list((tmp_path / "site").rglob("owned"))


def test_text_of_a_scanned_page(tmp_path: Path, chromium: Browser) -> None:
    if shutil.which("tesseract") is None:
        missing("There is no tesseract; run: apt-get install -y tesseract-ocr (or: make test-setup)")
    scan = tmp_path / "page-1.png"
    image = Image.new("L", (900, 200), 255)
    ImageDraw.Draw(image).text((40, 70), "Invoice 4711 of November", fill=0, font=ImageFont.load_default(size=56))
    image.save(scan)
    with example("ocr", tmp_path / "site", chromium) as page:
        submit(page, scan)
        succeeded(page, "page-1.png")
        name, made = result_of(page, "page-1.png")
    assert name == "text.txt"
    assert b"Invoice 4711 of November" in made
