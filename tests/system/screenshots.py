"""Pictures of every page, to be looked at: `make screenshots`, some of them with `ARGS='submission config'`.

Each scene is shown in both themes at 390, 820 and 1440 px, and saved in build/screenshots. The scripts end at once,
fail by the name of their file, or wait until the pictures are made. `ARGS=--readme` makes the pictures of the README
instead.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from tests.support.editor_actions import write
from tests.support.preloaded import DROPMILL
from tests.support.server import Server

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "build" / "screenshots"
IMAGES = ROOT / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
WIDTHS = (390, 820, 1440)
HEIGHT = 900
TALLEST = 3000  # of a picture; the rest of a longer page looks alike
THEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
PATIENCE_S = 600  # for 10,000 files
PAGE_PATIENCE_MS = 60_000
PASSWORD = "correct horse battery"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}

SCRIPT = '''
"""Obeys the names of files."""

import sys, time
from pathlib import Path


def process(path, file, config, results, report):
    print(f"{file.name}, {file.size} bytes")
    if "broken" in file.name:
        print("reading the header", file=sys.stderr)
        raise ValueError(f"{file.name}: the header ends after 12 of 54 bytes; save the picture again")
    if "slow" in file.name:
        for step in range(1, 4):
            report(step, 9, f"page {step} of 9")
            print(f"page {step} of 9", flush=True)
        time.sleep(600)
    if "many" not in file.name:
        (results / f"{Path(file.name).stem}-small.webp").write_bytes(b"RIFF" * 3000)
        print("saved")
'''
CONFIG = """\
# How thumbnails are made. Kept with the script, edited by everyone.
size: 640          # longest edge, in pixels
formats: [webp, png]   # first one that works

# --- quality ---------------------------------------
quality:
  # 0 (small) to 100 (large)
  webp: 82
  png: 9           # 0 to 9
  strip_metadata: true   # faces only
watermark: '© Lab 2026'
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 16, "description": "Longest edge of a thumbnail, in pixels."},
        "quality": {
            "type": "object",
            "properties": {
                "png": {"type": "integer", "minimum": 0, "maximum": 9},
                "strip_metadata": {"type": "boolean"},
            },
        },
    },
}
NAMES = (
    *("scans-2026-invoice-0193.pdf", "scans-2026-invoice-0194.pdf", "portrait-043.jpg", "portrait-044-slow.jpg"),
    *("batch-02/n300/Übersicht mit einem langen Namen, wie ihn Menschen vergeben (endgültig, neu).tif",),
    *("broken-header.tif", "interview-day-2-slow.mov", "notes.txt"),
)


class Site:
    """The servers behind the pictures, and what was sent to them."""

    def __init__(self, folder: Path, many: int) -> None:
        """Start them.

        Args:
            folder: takes everything.
            many: how many files the largest submission has.
        """
        self.folder = folder
        self.many = many
        self.empty = _server(folder / "empty", "--reload")
        self.used = _server(folder / "used", "--concurrency", "2")
        self.troubled = _server(folder / "troubled", "--auth", "off", bind="0.0.0.0:0")  # to show what pages say then
        office = ("--oidc-issuer", "https://id.example.com", "--oidc-client-id", "drop", "--oidc-name", "Example ID")
        self.office = _server(folder / "office", *office, "--public-url", "https://drop.example.com")
        self.office.stop()
        self.account("add", "ada", "--role", "admin", at=self.office)
        self.office.start()
        self.private = _server(folder / "private", "--auth", "required")
        self.private.stop()
        self.account("add", "ada", "--role", "admin")
        self.account("add", "olga", "--role", "operator")
        self.private.start()
        self.said = False  # whether the notices are posted
        self._sent: dict[str, str] = {}

    def account(self, *words: str, at: Server | None = None) -> None:
        """Run `dropmill account` with `PASSWORD` on a server; None: the one where people sign in with passwords."""
        server = at or self.private
        command = [*DROPMILL, "account", *words, "--password-stdin", "--data", str(server.data)]
        subprocess.run(command, input=PASSWORD, text=True, check=True, cwd=server.folder, capture_output=True)

    def end(self) -> None:
        """End them."""
        for server in self.servers.values():
            server.end()

    @property
    def servers(self) -> dict[str, Server]:
        """By the name that a scene gives."""
        return {
            "empty": self.empty,
            "used": self.used,
            "troubled": self.troubled,
            "private": self.private,
            "office": self.office,
        }

    def sent(self, kind: str) -> str:
        """The id of a submission: `one`, `failed`, `busy` or `many`."""
        if kind not in self._sent:
            names = {
                "one": ["portrait-041.jpg"],
                "failed": [name for name in NAMES if "slow" not in name],
                "busy": NAMES,
                "many": [f"set-{n // 1000:02}/many-{n:05}.txt" for n in range(self.many)],
            }[kind]
            self._sent[kind] = _send(self.used, names, is_settled=kind != "busy")
        return self._sent[kind]

    def job(self, kind: str, state: str) -> str:
        """The id of a job in that state, of that submission."""

        def found() -> str | None:
            files = self.used.get(f"/submissions/{self.sent(kind)}/files?limit=1000")["items"]
            return next((file["job"]["id"] for file in files if file["job"] and file["job"]["state"] == state), None)

        end = time.monotonic() + PATIENCE_S
        while (job := found()) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"no job of {kind} is {state}")
            time.sleep(0.2)
        return job


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Something to be seen: where, and what is done there first."""

    path: Callable[[Site], str]
    at: str = "used"
    act: Callable[[Page, Site], None] = lambda _page, _site: None


def _choose(count: int) -> Callable[[Page, Site], None]:
    def act(page: Page, site: Site) -> None:
        folder = site.folder / f"chosen-{count}"
        if not folder.exists():
            folder.mkdir()
            for number in range(count):
                (folder / f"picture-{number + 1}.jpg").write_bytes(b"x" * (1000 + 77 * number))
        page.set_input_files("#folder" if count > 10 else "#files", folder if count > 10 else sorted(folder.iterdir()))
        page.wait_for_selector("[data-part=submit]:visible")

    return act


def _mistakes(page: Page, _site: Site) -> None:
    write(page, CONFIG.replace("png: 9", 'png: "high"').replace("strip_metadata: true", "strip_metadata: no"))
    page.get_by_text("not the text 'high'").first.wait_for()


def _away(page: Page, _site: Site) -> None:
    page.clock.install()
    page.route("**/api/v1/live", lambda route: route.abort())
    page.route_web_socket("**/live", lambda socket: socket.close())
    page.reload()
    page.get_by_text("reconnecting", exact=True).wait_for()
    page.clock.run_for(25_000)
    page.get_by_text("away since").wait_for()


def _polling(page: Page, _site: Site) -> None:
    page.route_web_socket("**/live", lambda socket: socket.close())
    page.reload()
    page.get_by_text("live by polling").wait_for()
    page.get_by_role("button", name="why?").click()


def _notices(page: Page, site: Site) -> None:
    texts = [
        "Maintenance tonight from ten.\nWhat is sent before is processed.",
        f"{'Ein sehr langes Wort: ' + 'ä' * 90}.",
    ]
    if not site.said:
        for text in texts:
            notice = {"text": text, "expires_in": 3600}
            site.troubled.http.post("/api/v1/notices", json=notice).raise_for_status()
        site.troubled.config.write_text("size: [640\n")
        site.said = True
    page.get_by_text("Ein sehr langes Wort").wait_for()
    page.get_by_text("does not hold the newest revision").wait_for()


def _watched(page: Page, site: Site) -> None:
    other = page.context.new_page()
    other.goto(page.url)
    page.get_by_text("1 other page follows").wait_for()


def _edited(page: Page, site: Site) -> None:
    other = page.context.new_page()
    other.goto(page.url)
    write(other, "# mine\n" + CONFIG)
    page.get_by_text("Somebody else has unsaved changes here.").wait_for()


def _sign_in(path: str, name: str = "ada", *, is_ended: bool = False) -> Callable[[Page, Site], None]:
    def act(page: Page, site: Site) -> None:
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/sign-in" not in url)
        page.goto(path)
        if path == "/account":
            token = {"name": "nightly build on the cluster", "scopes": ["send", "read"], "expires_in": 604_800}
            page.request.post("/api/v1/tokens", data=token, headers=OWN_PAGE)
            page.reload()
        if path == "/audit":
            wrong = {"name": "eve@example.com", "password": "x" * 12}
            for _ in range(3):
                page.request.post("/api/v1/session", data=wrong, headers=OWN_PAGE)
            page.get_by_text("Refused: unknown name").first.wait_for()
        if path == "/account":
            page.get_by_label("What it is for").fill("backup")
            page.get_by_role("button", name="Make the token").click()
        if is_ended:
            page.get_by_text("live", exact=True).wait_for()
            site.account("password", "ada")  # ends its sessions
            page.get_by_role("dialog").wait_for()
        if path == "/":
            page.get_by_role("button", name="Account of ada").click()

    return act


def _shortcuts(page: Page, _site: Site) -> None:
    page.locator("body").press("?")
    page.get_by_role("dialog").wait_for()


SCENES: dict[str, Scene] = {
    "drop-empty": Scene(path=lambda _: "/", at="empty"),
    "drop": Scene(path=lambda site: "/" if site.sent("one") else ""),
    "drop-3-files": Scene(path=lambda _: "/", act=_choose(3)),
    "drop-10000-files": Scene(path=lambda _: "/", act=lambda page, site: _choose(site.many)(page, site)),
    "submission-1-file": Scene(path=lambda site: f"/submissions/{site.sent('one')}"),
    "submission-failed": Scene(path=lambda site: f"/submissions/{site.sent('failed')}"),
    "submission-10000-files": Scene(path=lambda site: f"/submissions/{site.sent('many')}"),
    "submission-busy": Scene(path=lambda site: f"/submissions/{site.sent('busy')}"),
    "job-succeeded": Scene(path=lambda site: f"/jobs/{site.job('failed', 'succeeded')}"),
    "job-failed": Scene(path=lambda site: f"/jobs/{site.job('failed', 'failed')}"),
    "job-running": Scene(path=lambda site: f"/jobs/{site.job('busy', 'running')}"),
    "history-empty": Scene(path=lambda _: "/history", at="empty"),
    "history": Scene(path=lambda _: "/history"),
    "config": Scene(path=lambda _: "/config"),
    "config-mistakes": Scene(path=lambda _: "/config", act=_mistakes),
    "error": Scene(path=lambda _: "/nowhere"),
    "shortcuts": Scene(path=lambda _: "/", act=_shortcuts),
    "badge-away": Scene(path=lambda site: f"/submissions/{site.sent('failed')}", act=_away),
    "badge-polling": Scene(path=lambda site: f"/submissions/{site.sent('failed')}", act=_polling),
    "notices": Scene(path=lambda _: "/", at="troubled", act=_notices),
    "notices-history": Scene(path=lambda _: "/history", at="troubled", act=_notices),
    "presence": Scene(path=lambda site: f"/submissions/{site.sent('failed')}", act=_watched),
    "presence-config": Scene(path=lambda _: "/config", act=_edited),
    "sign-in": Scene(path=lambda _: "/sign-in", at="private"),
    "sign-in-provider": Scene(path=lambda _: "/sign-in", at="office"),
    "sign-in-failed": Scene(path=lambda _: "/sign-in/oidc/callback?state=x", at="office"),
    "account": Scene(path=lambda _: "/sign-in", at="private", act=_sign_in("/account")),
    "account-menu": Scene(path=lambda _: "/sign-in", at="private", act=_sign_in("/")),
    "people": Scene(path=lambda _: "/sign-in", at="private", act=_sign_in("/people")),
    "audit": Scene(path=lambda _: "/sign-in", at="private", act=_sign_in("/audit")),
    "config-view": Scene(path=lambda _: "/sign-in", at="private", act=_sign_in("/config", "olga")),
    "sign-in-again": Scene(path=lambda _: "/sign-in", at="private", act=_sign_in("/history", is_ended=True)),
    "styleguide": Scene(path=lambda _: "/styleguide", at="empty"),
}


def take(browser: Browser, site: Site, name: str, scene: Scene, into: Path) -> None:
    """Save the pictures of one scene."""
    server = site.servers[scene.at]
    path = scene.path(site)
    for width in WIDTHS:
        size = ViewportSize(width=width, height=HEIGHT)
        context = browser.new_context(base_url=server.url, viewport=size, has_touch=width == WIDTHS[0])
        context.set_default_timeout(PAGE_PATIENCE_MS)
        page = context.new_page()
        page.goto(path)
        scene.act(page, site)
        page.wait_for_timeout(600)  # what moves has come to rest
        for theme in THEMES:
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            height = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
            page.screenshot(
                path=into / f"{name}-{theme}-{width}.png",
                full_page=True,
                clip={"x": 0, "y": 0, "width": width, "height": max(HEIGHT, height)},
            )
        context.close()


def take_for_readme(browser: Browser, site: Site) -> None:
    """Save the pictures that the README shows."""
    size = ViewportSize(width=1280, height=800)
    context = browser.new_context(base_url=site.used.url, viewport=size)
    page = context.new_page()
    page.goto(f"/submissions/{site.sent('busy')}")
    site.job("busy", "running")
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / "upload.png")
    for message, size_px in (("Smaller files for the wall", 320), ("Larger thumbnails", 640)):
        newest = site.used.http.get("/api/v1/config")
        headers = {"If-Match": newest.headers["ETag"], "Dropmill-Message": message, "Content-Type": "application/yaml"}
        text = CONFIG.replace("size: 640", f"size: {size_px}")
        site.used.http.put("/api/v1/config", content=text.encode(), headers=headers).raise_for_status()
    page.goto("/config")
    _mistakes(page, site)
    page.wait_for_timeout(600)
    page.screenshot(path=IMAGES / "config.png")
    context.close()


def _server(folder: Path, *flags: str, **options: Any) -> Server:
    folder.mkdir(parents=True)
    (folder / "thumbnails.py").write_text(SCRIPT)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "config.schema.json").write_text(json.dumps(SCHEMA))
    return Server(folder, "--processor", "thumbnails:process", "--grace", "0", *flags, **options).start()


def _send(server: Server, names: Sequence[str], *, is_settled: bool) -> str:
    parts = [("file", (name, name.encode() * (50 + 37 * (at % 90)))) for at, name in enumerate(names)]
    answer = server.http.post("/api/v1/submissions", files=parts, timeout=PATIENCE_S)
    answer.raise_for_status()
    submission: str = answer.json()["id"]
    if is_settled:
        server.settled(submission, PATIENCE_S)
    return submission


@contextmanager
def _site(many: int) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="dropmill-screenshots-"))
    try:
        site = Site(folder, many)
        try:
            yield site
        finally:
            site.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run from the command line; returns the exit code: 1 if a picture is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.screenshots", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"beginnings of: {', '.join(SCENES)}; default: all")
    parser.add_argument("--many", type=int, default=10_000, metavar="N", help="files of the largest submission")
    parser.add_argument("--readme", action="store_true", help="make docs/images instead")
    options = parser.parse_args()
    wanted = {
        name: scene for name, scene in SCENES.items() if not options.scenes or name.startswith(tuple(options.scenes))
    }
    if not wanted:
        parser.error(f"there is no such scene; there are {', '.join(SCENES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end with it
    TARGET.mkdir(parents=True, exist_ok=True)
    failed = []
    with sync_playwright() as playwright, _site(options.many) as site:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        if options.readme:
            take_for_readme(browser, site)
            print(f"The pictures are in {IMAGES}.")
            return 0
        for name, scene in wanted.items():
            try:
                take(browser, site, name, scene, TARGET)
                print(name, flush=True)
            except Exception as error:  # whatever it is, the others are still worth a look
                print(f"{name}: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr, flush=True)
                failed.append(name)
        browser.close()
    print(f"The pictures are in {TARGET}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
