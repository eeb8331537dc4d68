"""What a person does at a page and sees there, in the words of this project."""

import hashlib
import random
import re
import weakref
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import CDPSession, ConsoleMessage, Locator, Page, expect

MIB = 1024 * 1024
_DEVTOOLS: weakref.WeakKeyDictionary[Page, CDPSession] = weakref.WeakKeyDictionary()
# Chromium logs every answer from 400 on; those that pages show to the person are no complaint, a missing script is.
_ANSWERED = re.compile(
    r"Failed to load resource: the server responded with a status of (40[1349]|41[023]|422|460|50[37])"
)
# How a verdict begins when nothing is left to do.
SETTLED = re.compile("^(Done: |Finished: |Failed|Cancelled|Not sent)")
ALL_SUCCEEDED = re.compile(r"^Done: [\d,]+ succeeded$")
_BROKEN = re.compile("Failed to load resource: net::|WebSocket connection to .* failed")


class Watched:
    """Collects what a page complains about: script errors, console errors, breaches of the content security policy."""

    def __init__(self, page: Page, *, may_break: bool = False) -> None:
        """Watch from now on; `may_break` where the test breaks connections itself."""
        self.complaints: list[str] = []
        self._may_break = may_break
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        is_answer = _ANSWERED.match(message.text) and "/static/" not in message.location["url"]
        is_broken = self._may_break and _BROKEN.match(message.text)
        if message.type in ("error", "warning") and not (is_answer or is_broken):
            self.complaints.append(message.text)


def drop(page: Page, paths: Sequence[Path]) -> None:
    """Drag files or folders from the desktop onto the middle of the page, as the operating system would report it."""
    devtools = _devtools(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        if kind == "drop":
            expect(page.locator(".overlay")).to_be_visible()
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 500, "data": data})


def _devtools(page: Page) -> CDPSession:
    """The page's one session: each session's limits of speed count, and detaching from a page may never be answered."""
    if page not in _DEVTOOLS:
        _DEVTOOLS[page] = page.context.new_cdp_session(page)
        _DEVTOOLS[page].send("Network.enable")
    return _DEVTOOLS[page]


def submit(page: Page, *paths: Path) -> str:
    """Choose files and press Submit; returns the submission's id."""
    page.set_input_files("#files", list(paths))
    return press_submit(page, len(paths))


def press_submit(page: Page, count: int) -> str:
    """Press Submit for that many files; returns the submission's id, which the address shows at once."""
    page.get_by_role("button", name=f"Submit {count} file").click()
    page.wait_for_url(re.compile("/submissions/.+"))
    return page.url.rpartition("/")[2]


def row(page: Page, name: str) -> Locator:
    """The row of a file."""
    return page.get_by_role("list", name="Files").get_by_role("listitem").filter(has_text=name)


def verdict(page: Page) -> Locator:
    """The line that says what became of a submission, or what goes on."""
    return page.get_by_role("heading", level=1)


def log(page: Page) -> Locator:
    """The live log."""
    return page.get_by_role("log")


def slow_down(page: Page, bytes_per_second: float) -> None:
    """Let the page send no faster than that, so that what it shows meanwhile can be seen; -1 lifts it."""
    devtools = _devtools(page)
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    devtools.send("Network.emulateNetworkConditions", conditions)


def sparse(path: Path, size: int) -> Path:
    """A file of that size that takes no disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def random_file(path: Path, size: int, seed: int) -> str:
    """A file of that size of which no piece is like another; returns its SHA-256."""
    source = random.Random(seed)
    whole = hashlib.sha256()
    with path.open("wb") as file:
        while (left := size - file.tell()) > 0:
            piece = source.randbytes(min(left, MIB))
            whole.update(piece)
            file.write(piece)
    return whole.hexdigest()


def text_file(path: Path, text: str = "some text\n") -> Path:
    """A small file."""
    path.write_text(text)
    return path
