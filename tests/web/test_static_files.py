import gzip
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
from quart import Quart, Response
from quart.typing import TestClientProtocol as Client

from dropmill.model.errors import NotFound
from dropmill.web import static_files
from dropmill.web.static_files import FOR_A_YEAR, PageFiles, StaticFiles, sum_of_sources

ROOT = Path(__file__).parents[2]
SCRIPT = b"export const answer = 42;\n" * 200
SOURCES = {
    "css/pages/upload.css": b'@import "../tokens.css";',
    "css/tokens.css": b":root {}",
    "js/frame/frame-page.js": b"// every page",
    "js/upload/upload-page.js": b"// the first page",
    "vendor/tus.js": b"export class Upload {}",
    "favicon.svg": b"<svg/>",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A `static/` whose `dist` was built from what it holds."""
    for name, content in {**SOURCES, "dist/upload-1.js": SCRIPT, "dist/upload-2.css": b"a{}"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest = {
        "sources": sum_of_sources(tmp_path),
        "early": "early-3.js",
        "icon": "icon-4.svg",
        "pages": {"upload": {"style": "upload-2.css", "script": "upload-1.js", "preload": ["tus-5.js"]}},
        "files": {"upload-1.js": "dist/upload-1.js", "upload-2.css": "dist/upload-2.css", "tus-5.js": "vendor/tus.js"},
    }
    (tmp_path / "dist" / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Client:
    """A client of an app that sends these files, and nothing else."""
    app = Quart(__name__, static_folder=str(folder), static_url_path="/static")
    static_files.install(app, folder, from_sources=False)

    @app.errorhandler(NotFound)
    async def _none(error: NotFound) -> Response:
        return Response(error.detail, status=error.status)

    return app.test_client()


def test_a_page_has_the_files_that_were_built_for_it(folder: Path) -> None:
    assert StaticFiles(folder, from_sources=False).page("upload") == PageFiles(
        icon="dist/icon-4.svg",
        early="dist/early-3.js",
        style="dist/upload-2.css",
        script="dist/upload-1.js",
        preload=("dist/tus-5.js",),
    )


def change_a_script(folder: Path) -> None:
    (folder / "js/upload/upload-page.js").write_bytes(b"// changed")


def add_a_style(folder: Path) -> None:
    (folder / "css/new.css").touch()


def remove_a_source(folder: Path) -> None:
    (folder / "css/tokens.css").unlink()


def change_a_bundle(folder: Path) -> None:
    (folder / "vendor/tus.js").write_bytes(b"")


def remove_what_was_built(folder: Path) -> None:
    (folder / "dist/manifest.json").unlink()


def leave_a_merge_unfinished(folder: Path) -> None:
    (folder / "dist/manifest.json").write_text("{\n<<<<<<< HEAD\n")


@pytest.mark.parametrize(
    "change",
    [leave_a_merge_unfinished, change_a_script, add_a_style, remove_a_source, change_a_bundle, remove_what_was_built],
)
def test_a_page_uses_the_sources_if_they_are_newer(folder: Path, change: Callable[[Path], None]) -> None:
    change(folder)
    files = StaticFiles(folder, from_sources=False)
    assert files.are_sources
    assert (files.page("upload").style, files.page("upload").script) == (
        "css/pages/upload.css",
        "js/upload/upload-page.js",
    )
    assert files.page("error").script == "js/frame/frame-page.js"
    with pytest.raises(NotFound):
        files.content("upload-1.js", None)


def test_a_page_uses_the_sources_in_development(folder: Path) -> None:
    assert StaticFiles(folder, from_sources=True).are_sources
    assert not StaticFiles(folder, from_sources=False).are_sources


@pytest.mark.parametrize(
    ("accepted", "coding", "decoded"),
    [
        (None, None, bytes),
        ("gzip, deflate, br, zstd", "br", brotli.decompress),
        ("gzip, deflate", "gzip", gzip.decompress),
        ("br;q=0.5, gzip", "gzip", gzip.decompress),
        ("br;q=0", None, bytes),
    ],
)
async def test_a_file_is_kept_for_a_year_and_compressed_as_the_browser_likes(
    client: Client, accepted: str | None, coding: str | None, decoded: Callable[[Any], bytes]
) -> None:
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    answer = await client.get("/static/dist/upload-1.js", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == FOR_A_YEAR
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers.get("Content-Encoding") == coding
    body = await answer.get_data(as_text=False)
    assert decoded(body) == SCRIPT
    assert int(answer.headers["Content-Length"]) == len(body)
    again = await client.get("/static/dist/upload-1.js", headers={**headers, "If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, await again.get_data(as_text=False)) == (304, b"")


async def test_each_coding_has_its_own_etag(client: Client) -> None:
    tags = set()
    for coding in ("br", "gzip", "identity"):
        answer = await client.get("/static/dist/upload-1.js", headers={"Accept-Encoding": coding})
        tags.add(answer.headers["ETag"])
    assert len(tags) == 3


async def test_a_bundle_of_others_is_sent_under_a_name_with_a_hash(client: Client) -> None:
    answer = await client.get("/static/dist/tus-5.js")
    assert await answer.get_data(as_text=False) == SOURCES["vendor/tus.js"]
    assert answer.headers["Cache-Control"] == FOR_A_YEAR


@pytest.mark.parametrize("name", ["upload-0.js", "manifest.json", "upload-1.js%00"])
async def test_an_unknown_name_is_not_found_and_never_a_path(client: Client, name: str) -> None:
    """An old page may ask for a file of an older version; another version's script would not fit the page."""
    answer = await client.get(f"/static/dist/{name}")
    assert answer.status_code == 404
    assert "reload the page" in await answer.get_data(as_text=True)
    assert "Cache-Control" not in answer.headers


def test_a_file_is_compressed_once_whoever_asks_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(data: bytes, coding: str) -> bytes:
        calls.append(coding)
        return b"small"

    monkeypatch.setattr(static_files, "compressed", counted)
    files = StaticFiles(folder, from_sources=False)
    threads = [threading.Thread(target=files.content, args=("upload-1.js", "br")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["br"]


def test_a_file_that_cannot_be_read_is_an_error_once_not_for_ever(folder: Path) -> None:
    files = StaticFiles(folder, from_sources=False)
    path = folder / "dist/upload-2.css"
    path.rename(folder / "away")
    with pytest.raises(OSError, match=r"upload-2\.css"):
        files.content("upload-2.css", "gzip")
    (folder / "away").rename(path)
    assert gzip.decompress(files.content("upload-2.css", "gzip")) == b"a{}"


def test_only_the_frame_of_all_pages_names_scripts_and_styles() -> None:
    """What another template named would be sent uncompressed, and asked for again at each visit."""
    pages = {path.name for path in (ROOT / "static/css/pages").iterdir()}
    for path in (ROOT / "templates").glob("*.html"):
        text = path.read_text()
        if path.name != "base.html":
            assert "url_for('static'" not in text.replace('"', "'"), path.name
        named = re.findall(r'{% set page_name = "([\w-]+)" %}', text)
        assert {f"{name}.css" for name in named} <= pages
        assert bool(named) == ('extends "base.html"' in text), path.name
