"""Clients that others wrote, in a real browser: what makes an upload resumable for them makes it resumable here."""

import hashlib
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, Route, expect
from tests.support.faulty_proxy import Proxy
from tests.support.missing import missing
from tests.support.page_actions import MIB, random_file
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]
FRONTEND = Path(__file__).parents[3] / "frontend"

TUS = """
const input = document.querySelector("input"), said = document.querySelector("output");
input.addEventListener("change", async () => {
  const file = input.files[0];
  const upload = new tus.Upload(file, {
    endpoint: "/api/v1/uploads",
    chunkSize: Number(new URLSearchParams(location.search).get("chunk")),
    retryDelays: Array(100).fill(200),
    metadata: { filename: file.name, filetype: file.type },
    onSuccess: () => { said.value = `success ${upload.url}`; },
    onError: (error) => { said.value = `error ${error}`; },
  });
  const previous = await upload.findPreviousUploads();
  if (previous.length) upload.resumeFromPreviousUpload(previous[0]);
  upload.start();
});
"""

UPPY = """
import Uppy from "@uppy/core";
import Dashboard from "@uppy/dashboard";
import Tus from "@uppy/tus";
import "@uppy/core/css/style.min.css";
import "@uppy/dashboard/css/style.min.css";

window.uppy = new Uppy()
  .use(Dashboard, { inline: true, target: "#uppy", note: "Uppy" })
  .use(Tus, { endpoint: "/api/v1/uploads", retryDelays: Array(100).fill(200) });
"""


@pytest.fixture(scope="module")
def packages() -> Path:
    """What npm installed; without it these tests are skipped with the line to run, but never in CI."""
    found = FRONTEND / "node_modules"
    if not (found / "@uppy" / "tus").exists():
        missing("The browser clients of others are not installed; run: make test-setup (needs node and npm)")
    return found


@pytest.fixture(scope="module")
def uppy(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Uppy 6, dashboard and tus included, bundled as its users bundle it."""
    folder = tmp_path_factory.mktemp("uppy")
    esbuild, bundle = str(packages / ".bin" / "esbuild"), folder / "uppy.js"
    words = [esbuild, "--bundle", "--format=iife", "--log-level=error", f"--outfile={bundle}"]
    subprocess.run(words, input=UPPY, text=True, cwd=FRONTEND, check=True, timeout=60)
    return folder


@pytest.fixture
def seed() -> int:
    """What random offsets are made from; printed, so that a failure can be repeated."""
    chosen = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={chosen}")
    return chosen


def serve(page: Page, html: str, files: dict[str, str]) -> None:
    """Have the browser find pages of ours below `/test/`, of the site's origin but without its security policy."""

    def answer(route: Route) -> None:
        name = route.request.url.partition("/test/")[2].partition("?")[0]
        if name in files:
            kind = "text/css" if name.endswith(".css") else "text/javascript"
            route.fulfill(content_type=kind, body=files[name])
        else:
            route.fulfill(content_type="text/html", body=f"<!doctype html><link rel=icon href=data:,>{html}")

    page.route("**/test/**", answer)


def stored(site: Server, name: str) -> tuple[str, str]:
    """The newest file of that name: the SHA-256 that the server tells, and that of the bytes it gives out."""

    def found() -> Any:
        for submission in site.get("/submissions?limit=10")["items"]:
            for file in site.get(f"/submissions/{submission['id']}")["files"]:
                if file["name"] == name and file["state"] == "stored":
                    return file
        return None

    file = wait_until(found)
    content = site.http.get(f"/api/v1/files/{file['id']}/content").content
    return file["sha256"], hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("chunk", ["Infinity", str(3 * MIB)])
def test_tus_js_client_resumes_after_cuts_a_killed_server_and_a_reload(
    open_page: Open, site: Server, line: Proxy, packages: Path, tmp_path: Path, seed: int, chunk: str
) -> None:
    chance = random.Random(seed)
    size = 40 * MIB
    name = f"tus-{chunk}.bin"
    expected = random_file(tmp_path / name, size, seed)
    line.cut_at([chance.randrange(size // 3), chance.randrange(size // 3, size // 2)])
    page = open_page("about:blank", through=line)
    files = {"tus.js": (packages / "tus-js-client/dist/tus.min.js").read_text(), "drive.js": TUS}
    html = "<input type=file><output></output><script src=tus.js></script><script src=drive.js></script>"
    serve(page, html, files)
    offsets: list[int] = []

    def note(answer: Response) -> None:
        if answer.request.method == "HEAD":
            offsets.append(int(answer.headers.get("upload-offset", 0)))

    page.on("response", note)
    page.goto(f"/test/?chunk={chunk}")
    page.set_input_files("input", tmp_path / name)
    wait_until(lambda: line.carried > size // 2)
    site.kill()
    page.goto(f"/test/?chunk={chunk}")
    page.set_input_files("input", tmp_path / name)
    site.start()
    expect(page.locator("output")).to_contain_text("success")
    assert line.cuts_left == 0
    assert offsets[-1] > 0, "it must go on where it was, not begin anew"
    begun = [event for event in site.events() if event["name"] == "upload.started" and event["subject"]["name"] == name]
    assert len(begun) == 1
    assert stored(site, name) == (expected, expected)


def test_uppy_resumes_after_cuts_a_killed_server_and_a_pause(
    open_page: Open, site: Server, line: Proxy, uppy: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    size = 25 * MIB
    names = ["uppy-1.bin", "uppy-2.bin"]
    expected = {name: random_file(tmp_path / name, size, seed + number) for number, name in enumerate(names)}
    line.cut_at([chance.randrange(size // 2), chance.randrange(size // 2, size)])
    page = open_page("about:blank", through=line)
    html = "<link rel=stylesheet href=uppy.css><div id=uppy></div><script src=uppy.js></script>"
    serve(page, html, {path.name: path.read_text() for path in uppy.iterdir()})
    page.goto("/test/")
    page.locator(".uppy-Dashboard-input").first.set_input_files([tmp_path / name for name in names])
    page.get_by_role("button", name="Upload 2 files").click()
    wait_until(lambda: line.carried > size)
    site.kill()
    site.start()
    page.evaluate("uppy.pauseAll()")
    page.evaluate("uppy.resumeAll()")
    expect(page.get_by_text("Complete", exact=True)).to_be_visible()
    assert line.cuts_left == 0
    for name in names:
        assert stored(site, name) == (expected[name], expected[name])
