"""Pages whose WebSocket is blocked, cut, or away: what they show, what it costs, and that nothing is missed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect
from tests.support.editor_actions import write
from tests.support.faulty_proxy import Proxy
from tests.support.page_actions import SETTLED, log, row, submit, text_file, verdict
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]

READ_LOG = """async (list) => {
    const box = list.closest('[data-part="log-box"]') ?? list;
    const lines = new Map();
    for (let top = 0; ; top += box.clientHeight / 2) {
        box.scrollTop = top;
        await new Promise((resolve) => setTimeout(resolve, 120));
        for (const line of list.querySelectorAll('[role="listitem"], li')) {
            lines.set(Number(line.getAttribute("aria-posinset")), line.innerText);
        }
        if (top > box.scrollHeight) break;
    }
    return [...lines].sort(([one], [other]) => one - other).map(([, text]) => text);
}"""


WATCH_BADGE = """() => {
    window.seen = new Set();
    const badge = document.querySelector("[data-part=connection]");
    new MutationObserver(() => window.seen.add(badge.dataset.connection)).observe(badge, { attributes: true });
}"""


def badge(page: Page) -> Any:
    """The state of the connection."""
    return page.get_by_role("banner").get_by_role("status")


def steps(site: Server, submission_id: str) -> list[tuple[str, str | None]]:
    """What the log says, line by line: names of events and files."""
    kept = []
    for event in site.events(f"submission:{submission_id}"):
        is_said = event["name"] == "job.settled" or (
            event["name"] == "job.queued" and event["data"]["reason"] == "stored"
        )
        if event["name"] != "upload.started" and not is_said:
            kept.append((event["name"], event["subject"]["name"]))
    return kept


WORDS = {"upload.stored": "sent", "attempt.started": "picked up", "submission.settled": "all done"}


def expect_whole_log(page: Page, site: Server, submission_id: str) -> None:
    """The page's log is the ledger's, line by line."""
    expected = steps(site, submission_id)
    expect(log(page).get_by_role("listitem").last).to_contain_text("all done")
    lines = log(page).evaluate(READ_LOG)
    assert len(lines) == len(expected)
    for line, (name, file) in zip(lines, expected, strict=True):
        assert file is None or file in line, (line, name, file)
        assert WORDS.get(name, "") in line, (line, name, file)


@pytest.mark.parametrize(("sockets", "why"), [("refuse", "refuses WebSocket"), ("swallow", "passes nothing on")])
def test_where_websocket_is_blocked_the_page_polls_and_says_what_blocks_it(
    open_page: Open, line: Proxy, site: Server, tmp_path: Path, sockets: Any, why: str
) -> None:
    line.sockets = sockets
    page = open_page("/", through=line)
    expect(badge(page)).to_have_text("live by polling")
    page.get_by_role("button", name="why?").click()
    expect(page.get_by_text(why)).to_be_visible()
    expect(page.get_by_text("proxy_set_header Upgrade")).to_be_visible()
    page.keyboard.press("Escape")
    submission = submit(page, text_file(tmp_path / "wait-a.txt"), text_file(tmp_path / "broken.txt"))
    expect(row(page, "wait-a.txt")).to_contain_text("Processing")
    expect(row(page, "wait-a.txt")).to_contain_text("half way")  # progress has no cursor
    (site.folder / "go").touch()
    expect(verdict(page)).to_have_text(SETTLED)
    expect_whole_log(page, site, submission)
    page.get_by_role("button", name="Output of broken.txt").click()
    expect(row(page, "broken.txt").get_by_label("Output", exact=True)).to_contain_text("picked up broken.txt")
    asked = line.sockets_asked
    page.reload()
    expect(badge(page)).to_have_text("live by polling")
    assert line.sockets_asked == asked, "that the socket is blocked was remembered"


def test_a_proxy_that_cuts_sockets_after_a_while_costs_no_event_and_causes_no_polls(
    open_page: Open, line: Proxy, site: Server, tmp_path: Path
) -> None:
    line.socket_life_s = 2  # 10 s in nature
    page = open_page("/", through=line)
    submission = submit(page, *(text_file(tmp_path / f"wait-{number}.txt") for number in range(10)))
    wait_until(lambda: line.sockets_asked > 3)
    (site.folder / "go").touch()
    expect(verdict(page)).to_have_text(SETTLED)
    expect_whole_log(page, site, submission)
    assert page.evaluate("localStorage.getItem('dropmill-socket')") == "works"
    expect(page.get_by_text("live by polling")).to_have_count(0)


@pytest.mark.parametrize("sockets", ["pass", "refuse"])
def test_twenty_cuts_while_files_are_processed_cost_no_line_of_the_log(
    open_page: Open, line: Proxy, site: Server, tmp_path: Path, sockets: Any, is_full: bool
) -> None:
    count, cuts = 500 if is_full else 100, 20
    line.sockets = sockets
    page = open_page("/", through=line)
    submission = submit(page, *(text_file(tmp_path / f"{number}.txt") for number in range(count)))
    for number in range(cuts):
        due = count * number // cuts
        wait_until(lambda due=due: site.get(f"/submissions/{submission}")["counts"]["succeeded"] >= due)  # type: ignore[misc]
        line.cut()
        page.wait_for_timeout(50)  # the page's own clock: it is not to be starved
    site.settled(submission)
    expect(verdict(page)).to_have_text(SETTLED)
    expect_whole_log(page, site, submission)


def test_the_tabs_of_a_browser_share_one_poll_and_another_goes_on_when_the_leader_closes(
    open_page: Open, line: Proxy, site: Server, tmp_path: Path
) -> None:
    line.sockets = "refuse"
    first = open_page("/", through=line)
    submission = submit(first, text_file(tmp_path / "wait-a.txt"))
    long_polls: list[Page] = []

    def count(tab: Page) -> None:
        tab.on("request", lambda request: long_polls.append(tab) if _waits(request.post_data) else None)

    tabs = [first, first.context.new_page(), first.context.new_page()]
    for tab in tabs:
        count(tab)
        tab.goto(f"/submissions/{submission}")
        expect(badge(tab)).to_have_text("live by polling")
        expect(row(tab, "wait-a.txt")).to_contain_text("Processing")
    long_polls.clear()
    site.send(("another.txt", b"x"))  # nobody follows it
    (site.folder / "go").touch()
    for tab in tabs:
        expect(verdict(tab)).to_have_text(SETTLED)
        expect_whole_log(tab, site, submission)
    leaders = set(long_polls)
    assert len(leaders) == 1
    (leader,) = leaders
    leader.close()
    others = [tab for tab in tabs if tab is not leader]
    site.http.post(f"/api/v1/submissions/{submission}/retry")
    job = site.get(f"/submissions/{submission}")["files"][0]["job"]["id"]
    assert site.http.post(f"/api/v1/jobs/{job}/retry").is_success
    for tab in others:
        expect(log(tab).get_by_role("listitem").filter(has_text="all done")).to_have_count(2)


def _waits(body: str | None) -> bool:
    return body is not None and '"joins"' in body and '"wait":0' not in body


def test_on_plain_http_where_tabs_cannot_share_each_polls_for_itself(
    open_page: Open, line: Proxy, site: Server, tmp_path: Path
) -> None:
    line.sockets = "refuse"
    page = open_page(f"http://plain.test:{line.host.rpartition(':')[2]}/", through=line)
    assert page.evaluate("navigator.locks === undefined")
    submission = submit(page, text_file(tmp_path / "a.txt"))
    expect(verdict(page)).to_have_text(SETTLED)
    expect(badge(page)).to_have_text("live by polling")
    expect_whole_log(page, site, submission)


def test_after_a_restart_every_page_is_back_on_its_socket(
    chromium: Browser, make_server: Callable[..., Server]
) -> None:
    server = make_server().start()
    port = server.url.rpartition(":")[2]
    context = chromium.new_context(base_url=server.url)
    pages = [context.new_page() for _ in range(6)]
    polled: list[str] = []
    for page in pages:
        page.goto("/")
        expect(badge(page)).to_have_text("live")
        page.evaluate(WATCH_BADGE)
    for end in (server.stop, server.kill):
        end()
        server.flags = ("--bind", f"127.0.0.1:{port}", *server.flags[2:])
        for page in pages:
            expect(badge(page)).to_have_text("reconnecting")
        server.start()
        for page in pages:
            expect(badge(page)).to_have_text("live")
    for page in pages:
        polled += [seen for seen in page.evaluate("[...window.seen]") if seen == "polling"]
    context.close()
    assert polled == []


FOLLOW = """async ([base, count]) => {
    const { Live } = await import(`${base}/static/js/core/live.js`);
    window.states = new Set();
    window.lives = Array.from({ length: count }, () => {
        const live = new Live();
        live.cursors = [];
        live.addEventListener("connection", ({ detail }) => window.states.add(detail));
        live.addEventListener("events", ({ detail: { events } }) => {
            live.cursors.push(...events.map(({ cursor }) => cursor));
        });
        live.start();
        live.join("all", 0);
        return live;
    });
}"""


def test_a_restart_under_many_sockets_brings_all_back_and_nobody_polls_or_misses_an_event(
    chromium: Browser, make_server: Callable[..., Server], is_full: bool
) -> None:
    """200 in full, fewer than the 255 that Chromium opens to one host: the page's own code, in one page."""
    count = 200 if is_full else 30
    server = make_server().start()
    port = server.url.rpartition(":")[2]
    context = chromium.new_context(base_url=server.url)
    page = context.new_page()
    page.goto("/")
    page.evaluate(FOLLOW, ["", count])
    are_live = f"() => lives.filter(({{ connection }}) => connection === 'live').length === {count}"
    page.wait_for_function(are_live)
    for end in (server.stop, server.kill):
        server.settled(server.send(("a.txt", b"x"))["id"])
        end()
        page.wait_for_function("() => lives.every(({ connection }) => connection !== 'live')")
        server.flags = ("--bind", f"127.0.0.1:{port}", *server.flags[2:])
        server.start()
        page.wait_for_function(are_live, timeout=60_000)
    server.settled(server.send(("b.txt", b"x"))["id"])
    cursors = [event["cursor"] for event in server.events()]
    page.wait_for_function(f"() => lives.every((live) => live.cursors.length >= {len(cursors)})")
    assert page.evaluate("lives.filter((live) => live.cursors.some((cursor, at) => cursor !== at + 1)).length") == 0
    states = page.evaluate("[...states]")
    context.close()
    assert "polling" not in states


# --- the badge -------------------------------------------------------------------------------------------------------


def test_a_lost_connection_counts_down_can_be_tried_now_and_is_away_after_a_while(open_page: Open) -> None:
    page = open_page("about:blank")
    page.clock.install()
    is_open = True

    def connect(socket: WebSocketRoute) -> None:
        if is_open:
            socket.connect_to_server()
            sockets.append(socket)
        else:
            socket.close(code=1012)

    def answer(route: Route) -> None:
        if is_open:
            route.continue_()
        else:
            route.abort()

    sockets: list[WebSocketRoute] = []
    page.route_web_socket("**/api/v1/live", connect)
    page.route("**/api/v1/live", answer)
    page.goto("/")
    expect(badge(page)).to_have_text("live")
    is_open = False
    sockets[0].close(code=1012)
    expect(badge(page)).to_have_text("reconnecting")
    now = page.get_by_role("button", name="now", exact=True)
    expect(now).to_be_visible()
    page.clock.fast_forward(25_000)
    expect(badge(page)).to_have_text(re.compile(r"^away since \d\d:\d\d$"))
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 0.1)  # so that it does not come back by itself
    expect(now).to_be_visible()
    is_open = True
    now.click()
    page.clock.resume()
    expect(badge(page)).to_have_text("live")
    expect(now).to_be_hidden()


def test_a_server_of_another_version_has_the_badge_offer_to_reload(open_page: Open) -> None:
    page = open_page("about:blank")
    version = "99"

    def connect(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda text: socket.send(re.sub(r'"version":"[^"]*"', f'"version":"{version}"', str(text))))

    page.route_web_socket("**/api/v1/live", connect)
    page.goto("/")
    expect(badge(page)).to_have_text("updated")
    page.unroute_all()
    with page.expect_navigation():
        page.get_by_role("button", name="reload").click()


def test_a_refused_join_is_shown_on_the_badge(open_page: Open) -> None:
    page = open_page("about:blank")

    def connect(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        socket.on_message(lambda text: server.send(str(text).replace('"topic":"config"', '"topic":"submission:none"')))

    page.route_web_socket("**/api/v1/live", connect)
    page.goto("/")
    expect(badge(page)).to_have_text("not live")
    expect(page.locator("[data-part=connection]")).to_have_attribute("title", re.compile("no such submission"))


# --- what a page shows of others -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sockets", ["pass", "refuse"])
def test_others_who_follow_who_edit_and_what_operators_say_are_shown_over_every_transport(
    open_page: Open, line: Proxy, site: Server, tmp_path: Path, sockets: Any
) -> None:
    line.sockets = sockets
    mine, theirs = open_page("/", through=line), open_page("/", through=line)
    submission = submit(mine, text_file(tmp_path / "a.txt"))
    theirs.goto(f"/submissions/{submission}")
    for page in (mine, theirs):
        expect(page.get_by_text("1 other page follows this submission.")).to_be_visible()
    notice = {"text": "Maintenance at ten.\nBack at <b>eleven</b>.", "submission_id": submission, "expires_in": 3600}
    posted = site.http.post("/api/v1/notices", json=notice)
    assert posted.status_code == 201
    for page in (mine, theirs):
        expect(page.get_by_role("region", name="Notices")).to_have_text(re.compile("at ten.\nBack at <b>eleven</b>."))
    assert site.http.delete(f"/api/v1/notices/{posted.json()['id']}").status_code == 204
    for page in (mine, theirs):
        expect(page.get_by_role("region", name="Notices")).to_be_empty()
    mine.goto("/config")
    theirs.goto("/config")
    write(mine, "# changed\n" + site.config.read_text())
    expect(theirs.get_by_text("Somebody else has unsaved changes here.")).to_be_visible()
    expect(mine.get_by_text("Somebody else has unsaved changes here.")).to_be_hidden()
    write(mine, site.config.read_text())
    expect(theirs.get_by_text("Somebody else has unsaved changes here.")).to_be_hidden()


def test_a_notice_that_a_person_hides_is_hidden_in_all_tabs_of_the_browser_and_stays_so(
    open_page: Open, site: Server
) -> None:
    first = open_page("/")
    second = first.context.new_page()
    second.goto("/history")
    texts = ("Maintenance at ten.", "Be kind.")
    posted = [site.http.post("/api/v1/notices", json={"text": text}).json()["id"] for text in texts]
    for page in (first, second):
        expect(page.get_by_role("region", name="Notices").get_by_role("paragraph")).to_have_count(2)
    notices = first.get_by_role("region", name="Notices")
    notices.get_by_role("button", name="Hide").first.click()
    expect(first.get_by_role("main")).to_be_focused()
    second.goto("/config")
    for page in (first, second):
        expect(page.get_by_role("region", name="Notices").get_by_role("paragraph")).to_have_text(["Be kind."])
    first.reload()
    expect(notices.get_by_role("paragraph")).to_have_text(["Be kind."])
    for notice_id in posted:
        site.http.delete(f"/api/v1/notices/{notice_id}")
