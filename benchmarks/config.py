"""What a large config costs: the event loop while it is checked, saved and edited; feedback while typing; an edit."""

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import Bench, Wrong, get_json
from benchmarks.client import Exchange, Form, send
from benchmarks.programs import ROOT, Program
from benchmarks.table import Table, middle
from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.yaml.edits import Operation

SMALL_LINES = 1000
CHROMIUM = Path("/usr/bin/chromium")
KEYS = 10  # pressed in the browser
CONFIG = "/api/v1/config"
CALLS = 4  # of `over_http`, beside waiting

RECORD = """\
# Service {n}: what it is for,
# and whom to ask.
service-{n}:
  name: "service {n}"   # shown to people
  port: {port}
  ratio: 0.25           # of all requests
  hosts: [alpha.example,  beta.example]
  steps:
    - fetch             # may take a while
    - store
"""

WATCHED = """() => {
  const roots = [...document.querySelectorAll("*")].map((one) => one.shadowRoot);
  const root = roots.find((one) => one?.querySelector(".cm-editor"));
  const look = () => {
    const isMarked = root.querySelector(".cm-lint-marker-error") !== null;
    if (window.marked !== isMarked) window.changed = performance.now();
    window.marked = isMarked;
  };
  root.addEventListener("keydown", (event) => { if (event.key === "@") window.pressed = performance.now(); }, true);
  new MutationObserver(look).observe(root, { subtree: true, childList: true, attributes: true });
}"""


@dataclass
class Figures:
    """Of all rounds, in milliseconds."""

    took: list[float] = field(default_factory=list)
    blocked: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)


def measure(bench: Bench) -> Sequence[Table]:
    """Times of checks, saves and edits, and what they do to the loop."""
    sizes = {SMALL_LINES: text_of(SMALL_LINES), bench.scale.config_lines: text_of(bench.scale.config_lines)}
    calls: dict[int, dict[str, Figures]] = {lines: {} for lines in sizes}
    alone: dict[int, dict[str, list[float]]] = {lines: {} for lines in sizes}
    changed: dict[int, int] = {}
    typed: list[float] | str = []
    for number in range(bench.rounds):
        for lines, text in sizes.items():
            bench.say(f"config, round {number + 1}: {lines:,} lines, over HTTP")
            with bench.program(watched) as program:
                for what, figures in over_http(program, text).items():
                    of_all = calls[lines].setdefault(what, Figures())
                    of_all.took += figures.took
                    of_all.blocked += figures.blocked
                    of_all.held += figures.held
                if lines == SMALL_LINES and number == 0:
                    bench.say("config: typing in Chromium")
                    typed = type_in_chromium(program, text)
            bench.say(f"config, round {number + 1}: {lines:,} lines, in processes of their own")
            path = bench.folder / f"config-{lines}.yaml"
            path.write_bytes(text)
            read = json.loads(subprocess.check_output([sys.executable, "-m", "benchmarks.reading", path], cwd=ROOT))
            changed[lines] = read["lines_changed"]
            edit, again = asyncio.run(edit_in_process(text))
            for what, seconds in (
                ("one parse", read["parse_s"]),
                ("edit", edit),
                ("edit again", again),
                ("round trip", read["round_trip_s"]),
            ):
                alone[lines].setdefault(what, []).append(1000 * seconds)
    large = bench.scale.config_lines

    def http_row(title: str, what: str) -> tuple[str, ...]:
        blocked, held = (getattr(calls[large][what], name) for name in ("blocked", "held"))
        took = [middle(calls[lines][what].took) for lines in sizes]
        return (title, *took, middle(blocked, 1), middle(held, 1))

    def row(title: str, what: str, note: Callable[[int], str] = lambda lines: "") -> tuple[str, ...]:
        return (title, *(middle(alone[lines][what]) + note(lines) for lines in sizes), "", "")

    def times(what: str) -> Callable[[int], str]:
        def told(lines: int) -> str:
            ratios = [a / b for a, b in zip(alone[lines][what], alone[lines]["one parse"], strict=True)]
            return f", x {middle(ratios, 2)}"

        return told

    return [
        Table(
            title=f"Config: commented files of {SMALL_LINES:,} and {large:,} lines",
            columns=("what", f"ms, {SMALL_LINES:,}", f"ms, {large:,}", "loop blocked, ms", "by itself, ms"),
            rows=[
                http_row("nothing, for a second", "idle"),
                http_row("`POST /config/check`, a text not seen before", "check"),
                http_row("`PUT /config`, a text not seen before", "save"),
                http_row("`PATCH /config`, a value of the text just saved", "patch"),
                http_row("`POST /config/form` of the text just saved", "form"),
                (
                    "Chromium: key to mark in the margin, at the last line",
                    typed if isinstance(typed, str) else f"{middle(typed)}",
                    "",
                    "",
                    "",
                ),
                row("one parse by ruamel.yaml, a fresh process", "one parse"),
                row("value edit, a text not seen before, a fresh process", "edit", times("edit")),
                row("value edit, a text just checked", "edit again", times("edit again")),
                row(
                    "ruamel.yaml load and dump, nothing edited",
                    "round trip",
                    lambda lines: f", {changed[lines]:,} lines changed",
                ),
            ],
            notes=[
                f"Blocked: the longest time in which the loop served nobody, at {large:,} lines; by itself: less the "
                "time in which it was ready and other programs (client, parser process, ...) had the processors.",
            ],
        )
    ]


def run(bench: Bench) -> None:
    """A check, a save, a value edit and the form of a large config, marked as work."""
    text = text_of(bench.scale.config_lines)
    with bench.program(watched) as program, bench.work("check, save, edit, form", program, CALLS, "call"):
        over_http(program, text)


def watched(folder: Path) -> list[str]:
    return [
        *("-m", "benchmarks.watched", "serve", "--bind", "127.0.0.1:0", "--data", f"{folder}/data"),
        *("--config", f"{folder}/config.yaml", "--processor", "benchmarks.processors:nothing"),
    ]


def text_of(lines: int) -> bytes:
    """A config of so many lines, two in ten of them comments, four in ten with one."""
    records = "".join(RECORD.format(n=n, port=1024 + n) for n in range((lines - 1) // 10))
    return (records + "#\n" * (lines - 1 - records.count("\n")) + "last: a\n").encode()


def over_http(program: Program, text: bytes) -> dict[str, Figures]:
    """Each call once, and how the loop fared meanwhile."""
    unseen, first = text.replace(b"last: a", b"last: b"), b"first: 1\n"
    match, patch_type = 'If-Match: "{}"\r\n', "Content-Type: application/json-patch+json\r\n"
    _sent(program, "PUT", "", first, match.format(newest(program)))  # loads what is loaded on first use
    base = hashlib.sha256(first).hexdigest()
    patch = json.dumps([{"op": "replace", "path": "/service-7/port", "value": 80}]).encode()
    form = json.dumps({"text": text.decode()}).encode()
    saved = hashlib.sha256(text).hexdigest()
    calls: dict[str, Callable[[], object]] = {
        "idle": lambda: time.sleep(1),
        "check": lambda: _sent(program, "POST", "/check", unseen),
        "save": lambda: _sent(program, "PUT", "", text, match.format(base)),
        "form": lambda: _sent(program, "POST", "/form", form, "Content-Type: application/json\r\n"),
        "patch": lambda: _sent(program, "PATCH", "", patch, match.format(saved) + patch_type),
    }
    found = {}
    for what, call in calls.items():
        get_json(program, "/loop")
        began = time.perf_counter()
        call()
        took = 1000 * (time.perf_counter() - began)
        told = get_json(program, "/loop")
        found[what] = Figures([took], [told["blocked_ms"]], [told["held_ms"]])
    return found


def newest(program: Program) -> str:
    """SHA-256 of the newest revision."""
    return str(get_json(program, f"{CONFIG}/revisions?limit=1")["items"][0]["sha256"])


def _sent(program: Program, method: str, path: str, body: bytes, headers: str = "") -> Exchange:
    exchange = send(program.port, method, CONFIG + path, headers, Form(head=body))
    if exchange.status != 200:
        raise Wrong(f"{method} {CONFIG}{path} was answered with {exchange.status}: {exchange.body[:200]!r}")
    return exchange


async def edit_in_process(text: bytes) -> tuple[float, float]:
    """Seconds of a value edit by the parser process, first of a text it does not know, then of one it has checked."""
    parser = ParserProcess()
    await parser.start()
    try:
        seconds = []
        for known in (False, True):
            given = text.replace(b"last: a", b"last: %d" % known)
            if known:
                await parser.check(given)
            began = time.perf_counter()
            edit = await parser.edit(given, [Operation(kind="replace", path=("service-7", "port"), value=80)])
            seconds.append(time.perf_counter() - began)
            if edit.text != given.replace(b"port: 1031\n", b"port: 80\n"):
                raise Wrong("an edit changed something else")
        return seconds[0], seconds[1]
    finally:
        await parser.close()


def type_in_chromium(program: Program, text: bytes) -> list[float] | str:
    """Milliseconds from a key that makes the last line wrong to the mark beside it; or why it was not measured."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "skipped: no Playwright"
    if not CHROMIUM.exists():
        return "skipped: no Chromium"
    _sent(program, "PUT", "", text, f'If-Match: "{newest(program)}"\r\n')
    took = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        page = browser.new_page(bypass_csp=True)  # Playwright waits by `eval`
        page.goto(f"http://127.0.0.1:{program.port}/config")
        page.locator(".cm-content").click()
        page.evaluate(WATCHED)
        page.keyboard.press("Control+End")
        page.keyboard.press("ArrowUp")
        for _ in range(KEYS):
            page.wait_for_timeout(300)
            page.keyboard.press("@")
            page.wait_for_function("window.marked === true")
            took.append(float(page.evaluate("window.changed - window.pressed")))
            page.keyboard.press("Backspace")
            page.wait_for_function("window.marked === false")
        browser.close()
    return took
