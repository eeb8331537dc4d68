"""What a person has of the pages, in Chromium: their weight, a slow line, and many files at once."""

import shutil
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, sync_playwright

from benchmarks.bench import PATIENCE_S, SLOWEST_JOB_S, SUBMISSIONS, Bench, Wrong, created, get_json, quiet_disk
from benchmarks.client import get, small_files
from benchmarks.programs import Program
from benchmarks.table import Table, middle, percentile

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
FILE_BYTES = 1024
SLOW_3G = {"offline": False, "latency": 400, "downloadThroughput": 400_000 / 8, "uploadThroughput": 400_000 / 8}
KEY_EVERY_S = 0.05
SAMPLE_EVERY_S = 0.5
ICON_MS = 3000  # within which Chromium has asked for a page's icon, which it does last
CALIBRATION_MS = 60.0  # of `CALIBRATE` on an idle core (55 was the least seen where these bounds were set)
MOST = {"/": 45_000, "/config": 190_000}

CALIBRATE = """() => {
  const times = [];
  for (let turn = 0; turn < 7; turn += 1) {
    const began = performance.now();
    let sum = 0;
    for (let n = 0; n < 2_000_000; n += 1) sum = (sum * 31 + n) % 1_000_003;
    const words = Array.from({ length: 40_000 }, (_, n) => String((n * 7919) % 40_009)).sort();
    times.push(performance.now() - began + 0 * (sum + words.length));
  }
  return times.sort((one, other) => one - other)[3];
}"""
# Keeps what happens in the page: when it can be used, long tasks, and how late it hears of keys. Only the page's script
# shows the badge of the connection, after it has attached everything else.
WATCH = """(() => {
  const seen = { usable: null, dropped: null, list: null, pressed: null, tasks: [], keys: [] };
  globalThis.seen = seen;
  const keep = (list) => seen.tasks.push(...list.getEntries().map((one) => one.duration));
  new PerformanceObserver(keep).observe({ type: "longtask" });
  addEventListener("keydown", (event) => seen.keys.push(performance.now() - event.timeStamp), true);
  addEventListener("drop", () => { seen.dropped = performance.now(); }, true);
  const looks = (button) => button.textContent + button.disabled + button.ariaDisabled;
  addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-part=submit]");
    if (!button) return;
    const began = performance.now();
    const before = looks(button);
    const wait = () => {
      if (looks(button) === before && button.getClientRects().length) requestAnimationFrame(wait);
      else seen.pressed = performance.now() - began;
    };
    requestAnimationFrame(wait);
  }, true);
  const watch = () => {
    const now = performance.now();
    if (document.querySelector("[data-part=connection]:not([hidden])")) seen.usable ??= now;
    const listed = document.querySelector("[data-part=submit]")?.textContent.replace(/\\D/g, "");
    if (seen.dropped && listed === globalThis.expectedFiles) seen.list ??= now - seen.dropped;
    if (seen.usable === null || seen.list === null) requestAnimationFrame(watch);
  };
  requestAnimationFrame(watch);
})()"""


@dataclass(kw_only=True)
class Found:
    """The figures of one round with many files."""

    list_s: float
    keys_ms: float
    events_s: float
    task_ms: float
    calibration_ms: float
    memory_mib: float
    page_files_s: float
    form_files_s: float


@dataclass(kw_only=True)
class Weight:
    """What a visit asked the server for."""

    requests: dict[str, str] = field(default_factory=dict)
    bytes: int = 0


def measure(bench: Bench) -> Sequence[Table]:
    """Each figure beside what it must not exceed."""
    rows: list[tuple[str, str, str]] = []
    with sync_playwright() as playwright, bench.dropmill("nothing") as program:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        if b"/static/dist/" not in get(program.port, "/").body:
            raise Wrong("the sources are newer than static/dist and are served in its place; run: make assets")
        for path, most in MOST.items():
            bench.say(f"page: the weight of {path}")
            first, second = _weights(browser, program, path)
            pages = [asked for asked in second.requests.values() if asked == path or asked.startswith("/static/")]
            rows += [
                (f"`{path}`, first visit, bytes", f"{first.bytes:,}", f"{most:,}"),
                (f"`{path}`, first visit, requests", f"{len(first.requests)}", ""),
                (f"`{path}`, second visit, requests for page and files", f"{len(pages)}", "1"),
            ]
        usable, pressed = zip(*(_slow_line(bench, browser, program, turn) for turn in range(bench.rounds)), strict=True)
        rows += [
            ("`/` on a slow 3G line: usable, s", middle(usable, 2), "3"),
            ("`/` on a slow 3G line: Submit shows that it was pressed, ms", middle(pressed), "100"),
        ]
        found = [_many(bench, browser, program, turn) for turn in range(bench.rounds)]
        browser.close()
    scaled = [one.task_ms * CALIBRATION_MS / one.calibration_ms for one in found]
    share = [one.page_files_s / one.form_files_s for one in found]
    count = f"{bench.scale.page_files:,} files"
    rows += [
        (f"{count}: drop to list, s", middle([one.list_s for one in found], 2), "2"),
        (f"{count}: input delay, p95, ms", middle([one.keys_ms for one in found], 1), "100"),
        (f"{count}: events a second meanwhile", middle([one.events_s for one in found]), "at least 100"),
        (f"{count}: longest task, scaled, ms", middle(scaled), "200"),
        (f"{count}: longest task, ms", middle([one.task_ms for one in found]), ""),
        (
            f"{count}: calibration, ms",
            middle([one.calibration_ms for one in found], 1),
            f"scaled to {CALIBRATION_MS:.0f}",
        ),
        (f"{count}: memory of the tab, MiB", middle([one.memory_mib for one in found]), "400"),
        (f"{count}: stored a second by the page", middle([one.page_files_s for one in found]), ""),
        (f"{count}: stored a second by a plain form", middle([one.form_files_s for one in found]), ""),
        (f"{count}: the page's share of the form's speed", middle(share, 2), "at least 0.5"),
    ]
    return [
        Table(
            title="The pages in Chromium",
            columns=("figure", "found", "must not exceed"),
            rows=rows,
            notes=[
                "Bytes are heads and bodies of all answers, as Chromium counts them. Slow 3G: 400 kbit/s, 400 ms to "
                "each answer, emulated by Chromium. Usable: the page's script has attached everything. The files have "
                "1 KiB and are dropped as one folder; the script does nothing. The longest task is scaled by what a "
                "fixed piece of work takes in the same tab."
            ],
        )
    ]


def run(bench: Bench) -> None:
    """Many files sent by the page, marked as work."""
    count = bench.scale.page_files
    with sync_playwright() as playwright, bench.dropmill("nothing") as program:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with _page(browser, program) as (page, devtools):
            _drop(page, devtools, _folder(bench, 0), count)
            with bench.work("files sent by the page", program, count, "file"):
                _wait_settled(program, _submit(page), count)
        browser.close()


# --- weight and a slow line ------------------------------------------------------------------------------------------


@contextmanager
def _page(browser: Browser, program: Program) -> Iterator[tuple[Page, CDPSession]]:
    """A page of a browser that has kept nothing, and its developer tools."""
    size: Any = {"width": 1280, "height": 800}
    context: BrowserContext = browser.new_context(base_url=f"http://127.0.0.1:{program.port}", viewport=size)
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    page.add_init_script(WATCH)
    yield page, context.new_cdp_session(page)
    context.close()


def _until(page: Page, condition: str) -> None:
    """Wait for a condition in the page; its security policy forbids the library's own way."""
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise Wrong(f"after {PATIENCE_S:.0f} s it is not so that {condition}")
        page.wait_for_timeout(20)


def _weights(browser: Browser, program: Program, path: str) -> tuple[Weight, Weight]:
    """A first and a second visit."""
    visits = [Weight(), Weight()]
    with _page(browser, program) as (page, devtools):
        turn = 0

        def asked(event: dict[str, Any]) -> None:
            visits[turn].requests[event["requestId"]] = urlsplit(event["request"]["url"]).path

        def kept(event: dict[str, Any]) -> None:
            visits[turn].requests.pop(event["requestId"], None)

        def answered(event: dict[str, Any]) -> None:
            if event["response"].get("fromDiskCache"):
                kept(event)

        def finished(event: dict[str, Any]) -> None:
            if event["requestId"] in visits[turn].requests:
                visits[turn].bytes += int(event["encodedDataLength"])

        devtools.on("Network.requestWillBeSent", asked)
        devtools.on("Network.requestServedFromCache", kept)
        devtools.on("Network.responseReceived", answered)
        devtools.on("Network.loadingFinished", finished)
        devtools.send("Network.enable")
        for turn in range(2):  # noqa: B007  # the functions above read it
            page.goto(path, wait_until="networkidle")
            page.wait_for_timeout(ICON_MS)
    return visits[0], visits[1]


def _slow_line(bench: Bench, browser: Browser, program: Program, turn: int) -> tuple[float, float]:
    """Seconds until the first page can be used, and milliseconds until Submit shows that it was pressed."""
    bench.say(f"page, round {turn + 1}: a slow line")
    with _page(browser, program) as (page, devtools):
        devtools.send("Network.enable")
        devtools.send("Network.emulateNetworkConditions", SLOW_3G)
        page.goto("/")
        _until(page, "seen.usable !== null")
        usable = page.evaluate("seen.usable") / 1000
        page.set_input_files("#files", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x" * 1000})
        page.locator("[data-part=submit]").click()
        _until(page, "seen.pressed !== null")
        return usable, page.evaluate("seen.pressed")


# --- many files ------------------------------------------------------------------------------------------------------


def _contents(bench: Bench, turn: int) -> list[bytes]:
    return [f"{turn} {number} ".encode().ljust(FILE_BYTES, b".") for number in range(bench.scale.page_files)]


def _folder(bench: Bench, turn: int) -> Path:
    folder = bench.folder / "dropped" / f"files-{turn}"
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, content in enumerate(_contents(bench, turn)):
        (folder / f"{number:05}.txt").write_bytes(content)
    return folder


def _drop(page: Page, devtools: CDPSession, folder: Path, count: int) -> None:
    """Drop a folder as the operating system would report it; returns when the list is there."""
    page.goto("/")
    _until(page, "seen.usable !== null")
    page.evaluate(f"globalThis.expectedFiles = '{count}'")
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": data})
    _until(page, "seen.list !== null")


def _submit(page: Page) -> str:
    page.locator("[data-part=submit]").click()
    page.wait_for_url("**/submissions/*")
    return page.url.rpartition("/")[2]


def _wait_settled(program: Program, submission: str, count: int) -> None:
    patience_s = PATIENCE_S + count * SLOWEST_JOB_S
    end = time.monotonic() + patience_s
    while get_json(program, f"{SUBMISSIONS}?limit=1")["items"][0]["state"] != "settled":
        if time.monotonic() > end:
            raise Wrong(f"the submission {submission} had not settled after {patience_s:.0f} s")
        time.sleep(0.2)


def _many(bench: Bench, browser: Browser, program: Program, turn: int) -> Found:
    """Drop many files, submit them, press keys meanwhile; then send the same files by a plain form."""
    bench.say(f"page, round {turn + 1}: {bench.scale.page_files:,} files")
    count = bench.scale.page_files
    folder = _folder(bench, turn)
    quiet_disk()
    with _page(browser, program) as (page, devtools):
        page.goto("/")
        calibrations = [page.evaluate(CALIBRATE)]
        with _memory_of_tab(browser, page) as memory:
            _drop(page, devtools, folder, count)
            list_s = page.evaluate("seen.list") / 1000
            submission = _submit(page)
            page.evaluate("seen.keys.length = 0")
            settled = threading.Event()
            waiting = threading.Thread(target=lambda: (_wait_settled(program, submission, count), settled.set()))
            waiting.start()
            while not settled.is_set() and waiting.is_alive():
                page.keyboard.press("Shift")
                page.wait_for_timeout(KEY_EVERY_S * 1000)
            waiting.join()
            keys, tasks = page.evaluate("[seen.keys, seen.tasks]")
        calibrations.append(page.evaluate(CALIBRATE))
    if not settled.is_set():
        raise Wrong("what the page sent did not settle")
    events_s, page_files_s = _rates(program, submission, count)
    quiet_disk()
    exchange = bench.send(program, SUBMISSIONS, small_files(_contents(bench, turn))).result()
    bench.settled(program, exchange, count)
    _, form_files_s = _rates(program, created(exchange)["id"], count)
    return Found(
        list_s=list_s,
        keys_ms=percentile(keys, 95),
        events_s=events_s,
        task_ms=max(tasks, default=0.0),
        calibration_ms=statistics.mean(calibrations),
        memory_mib=max(memory),
        page_files_s=page_files_s,
        form_files_s=form_files_s,
    )


def _rates(program: Program, submission: str, count: int) -> tuple[float, float]:
    """Events a second from the first to the last one of a submission, and files stored a second."""
    times: list[datetime] = []
    stored: list[datetime] = []
    after = 0
    while (found := get_json(program, f"/api/v1/events?topic=submission:{submission}&after={after}&limit=1000"))[
        "events"
    ]:
        after = found["cursor"]
        for event in found["events"]:
            at = datetime.fromisoformat(event["at"].replace("Z", "+00:00"))
            times.append(at)
            if event["name"] == "upload.stored":
                stored.append(at)
    if len(stored) != count:
        raise Wrong(f"of {count} files, {len(stored)} were stored")
    return len(times) / (times[-1] - times[0]).total_seconds(), count / (stored[-1] - times[0]).total_seconds()


@contextmanager
def _memory_of_tab(browser: Browser, page: Page) -> Iterator[list[float]]:
    """Private memory of the page's process in MiB, again and again until the block ends."""
    devtools = browser.new_browser_cdp_session()
    processes = devtools.send("SystemInfo.getProcessInfo")["processInfo"]
    devtools.detach()
    # The newest renderer with the most time of its own is the one of the page that has just been calibrated.
    pid = max((one for one in processes if one["type"] == "renderer"), key=lambda one: one["cpuTime"])["id"]
    samples: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.is_set():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            private = [line.split()[1] for line in text.splitlines() if line.startswith("Private_")]
            samples.append(sum(map(int, private)) / 1024)
            ended.wait(SAMPLE_EVERY_S)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
