"""Links over HTTP: made, entered and used as browsers do it, with every route and a real ledger."""

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from tests.support import scenarios
from tests.support.all_routes import all_routes
from tests.support.serving_in_process import served
from tests.support.waiting import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from dropmill.access.throttle import Throttle
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.accounts import Account, AccountChange, Session
from dropmill.model.by import THIS_MACHINE
from dropmill.model.caller import Role
from dropmill.model.clock import utc_now
from dropmill.model.errors import StorageUnavailable
from dropmill.model.events import EventName, SignInMethod
from dropmill.model.ids import LinkId, Sha256, new_account_id
from dropmill.model.links import LinkState
from dropmill.model.results import Result
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.web.services import Services

OURS = {"Origin": "http://localhost"}
HTML = {"Accept": "text/html"}
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
TUS = {"Tus-Resumable": "1.0.0"}


def form(*contents: bytes) -> bytes:
    parts = [
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="%d.txt"\r\n\r\n%b\r\n' % (number, content)
        for number, content in enumerate(contents)
    ]
    return b"".join(parts) + b"--B--\r\n"


@dataclass
class Browser:
    """Asks as a browser does: it sends a cookie to the path that the cookie is for."""

    app: Quart
    cookies: dict[tuple[str, str], str] = field(default_factory=dict)  # by name and path
    headers: Mapping[str, str] = field(default_factory=lambda: OURS)

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        sent = "; ".join(
            f"{name}={value}"
            for (name, below), value in self.cookies.items()
            if path == below or path.startswith(below.rstrip("/") + "/")
        )
        headers = {**self.headers, **({"Cookie": sent} if sent else {}), **more.pop("headers", {})}
        client: Any = self.app.test_client(use_cookies=False)
        answer = await client.open(path, method=method, headers=headers, **more)
        for cookie in answer.headers.getlist("Set-Cookie"):
            name, value = cookie.partition(";")[0].split("=", 1)
            where = re.search(r"Path=([^;]*)", cookie)
            assert where is not None
            self.cookies[name, where[1]] = value
        return answer

    async def get(self, path: str, **more: Any) -> Any:
        return await self.ask("GET", path, **more)

    async def post(self, path: str, **more: Any) -> Any:
        return await self.ask("POST", path, **more)

    async def json(self, path: str) -> Any:
        answer = await self.get(path)
        assert answer.status_code == 200, await answer.get_data()
        return await answer.get_json()


@dataclass
class Made:
    """A link as its maker got it."""

    id: str
    base: str
    secret: str


@dataclass
class Site:
    app: Quart
    services: Services
    ledger: SqliteLedger

    @property
    def browser(self) -> Browser:
        """A new one."""
        return Browser(self.app)

    async def make(self, **wanted: Any) -> Made:
        answer = await self.browser.post("/api/v1/links", json={"label": "Drawings", **wanted})
        assert answer.status_code == 201, await answer.get_data()
        made = await answer.get_json()
        base, secret = made["url"].split("#")
        assert made["url_without_script"] == f"{base}/{secret}"
        assert made["link"]["id"] == made["id"]
        return Made(id=made["id"], base=base.removeprefix("http://localhost"), secret=secret)

    async def entered(self, made: Made, browser: Browser | None = None, **given: Any) -> Browser:
        browser = browser or self.browser
        answer = await browser.post(f"{made.base}/api/v1/enter", json={"secret": made.secret, **given})
        assert answer.status_code == 200, await answer.get_data()
        return browser

    async def nothing(self, browser: Browser, path: str, method: str = "GET", **more: Any) -> None:
        """What is at this address answers as an address of the same kind at which there is nothing."""
        is_api = "/api/v1/" in path
        other = f"/r/{'f' * 32}" + ("/api/v1/nothing" if is_api else "")
        asked, wanted = [await browser.ask(method, each, **more) for each in (path, other)]
        assert asked.status_code == wanted.status_code == 404
        assert await asked.get_data() == await wanted.get_data()
        assert sorted(asked.headers) == sorted(wanted.headers)


@pytest.fixture
async def site(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[Site]:
    async with all_routes(tmp_path, ledger, bus) as (app, services):
        watching = asyncio.create_task(services.visits.run())
        try:
            yield Site(app, services, ledger)
        finally:
            watching.cancel()
            await asyncio.wait([watching])


# --- making ----------------------------------------------------------------------------------------------------------


async def test_a_link_is_listed_and_revoked_and_its_secret_is_in_no_answer_again(site: Site) -> None:
    browser = site.browser
    made = await site.make(text="Two\nlines", max_files=3, max_size=10**9, passphrase="open sesame", asks_name=True)
    [listed] = (await browser.json("/api/v1/links"))["items"]
    assert (listed["label"], listed["text"], listed["state"]) == ("Drawings", "Two\nlines", "live")
    assert (listed["max_files"], listed["max_size"], listed["max_submissions"]) == (3, 10**9, None)
    assert (listed["has_passphrase"], listed["asks_name"], listed["shows_results"]) == (True, True, False)
    assert made.secret not in json.dumps(listed)
    assert hashlib.sha256(made.secret.encode()).hexdigest() not in json.dumps(listed)
    assert (await browser.ask("DELETE", f"/api/v1/links/{made.id}")).status_code == 204
    assert (await browser.ask("DELETE", f"/api/v1/links/{made.id}")).status_code == 404
    [listed] = (await browser.json("/api/v1/links"))["items"]
    assert listed["state"] == "revoked"


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": ""},
        {"label": "x" * 201},
        {"label": "a\x1b[2J"},
        {"label": None},
        {"text": "x" * 4001},
        {"text": "\x07"},
        {"kind": "other"},
        {"kind": "result"},
        {"submission_id": "0" * 32},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": 1e9},
        {"expires_in": True},
        {"expires_in": "1d"},
        {"max_files": 0},
        {"max_files": -1},
        {"max_files": 1.5},
        {"max_size": 2**60},
        {"max_submissions": "3"},
        {"passphrase": "short"},
        {"passphrase": "x" * 1025},
        {"passphrase": 123456},
        {"asks_name": "yes"},
        {"expire_in": 60},
    ],
    ids=str,
)
async def test_what_a_link_cannot_be_is_refused_and_none_is_made(site: Site, wrong: dict[str, Any]) -> None:
    answer = await site.browser.post("/api/v1/links", json={"label": "x", **wrong})
    assert answer.status_code == 400, wrong
    assert (await answer.get_json())["code"] == "bad_request"
    assert (await site.browser.json("/api/v1/links"))["items"] == []


async def test_a_result_link_is_for_a_submission_that_there_is(site: Site) -> None:
    answer = await site.browser.post("/api/v1/links", json={"kind": "result", "submission_id": "0" * 32})
    assert answer.status_code == 404
    submission_id = await scenarios.opened(site.ledger)
    made = await site.make(kind="result", submission_id=submission_id, label=None)
    assert made.base.startswith("/s/")
    [listed] = (await site.browser.json("/api/v1/links"))["items"]
    assert submission_id[:8] in listed["label"]
    limited = {"kind": "result", "submission_id": submission_id, "max_files": 1}
    assert (await site.browser.post("/api/v1/links", json=limited)).status_code == 400


# --- entering --------------------------------------------------------------------------------------------------------


async def test_the_secret_opens_the_link_and_the_cookie_is_for_its_path_alone(site: Site) -> None:
    made, browser = await site.make(), site.browser
    before = await browser.get(made.base, headers=HTML)
    assert before.status_code == 200
    assert "Drawings" not in await before.get_data(as_text=True)
    answer = await browser.post(f"{made.base}/api/v1/enter", json={"secret": made.secret})
    invitation = await answer.get_json()
    assert (invitation["label"], invitation["kind"], invitation["files_left"]) == ("Drawings", "request", None)
    [cookie] = answer.headers.getlist("Set-Cookie")
    assert re.match(r"dropmill_link=[\w-]{43}; ", cookie)
    assert f"Path={made.base}" in cookie
    assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    assert made.secret not in cookie
    after = await browser.get(made.base, headers=HTML)
    assert "Drawings" in await after.get_data(as_text=True)
    assert await browser.json(f"{made.base}/api/v1/invitation") == invitation


async def test_a_browser_that_has_entered_stays_the_same_visitor(site: Site) -> None:
    made = await site.make(passphrase="open sesame")
    browser = await site.entered(made, passphrase="open sesame")
    cookies = dict(browser.cookies)
    await site.entered(made, browser)
    assert browser.cookies == cookies
    [listed] = (await site.browser.json("/api/v1/links"))["items"]
    assert listed["visits"] == 1
    names = [event.name for event in await scenarios.all_events(site.ledger)]
    assert names.count(EventName.LINK_USED) == 1


async def test_what_is_wrong_with_a_secret_is_the_same_as_no_link(site: Site) -> None:
    made, other = await site.make(), await site.make()
    right = {"secret": made.secret}
    for path, given in (
        (f"/r/{'0' * 32}/api/v1/enter", right),
        (f"{other.base}/api/v1/enter", right),
        (f"{made.base.replace('/r/', '/s/')}/api/v1/enter", right),
        (f"{made.base}/api/v1/enter", {"secret": other.secret}),
        (f"{made.base}/api/v1/enter", {"secret": ""}),
        (f"{made.base}/api/v1/enter", {"secret": "x" * 43}),
        (f"{made.base}/api/v1/enter", {"secret": made.secret + "x"}),
    ):
        await site.nothing(site.browser, path, "POST", json=given)
    bad: list[Any] = [{}, {"secret": 7}, {"secret": made.secret, "name": 7}, {"secret": made.secret, "passphrase": []}]
    for each in bad:
        answer = await site.browser.post(f"{made.base}/api/v1/enter", json=each)
        assert answer.status_code == 400
    assert (await site.browser.json("/api/v1/links"))["items"][0]["visits"] == 0


async def test_a_link_asks_for_what_its_maker_wants(site: Site) -> None:
    made = await site.make(passphrase="open sesame", asks_name=True)
    path, secret = f"{made.base}/api/v1/enter", {"secret": made.secret}
    for given in ({}, {"passphrase": "open sesame"}, {"name": "Grace"}, {"passphrase": "open sesame", "name": "  "}):
        answer = await site.browser.post(path, json={**secret, **given})
        problem = await answer.get_json()
        assert (answer.status_code, problem["code"]) == (403, "link_asks")
        assert (problem["asks"], problem["label"]) == (["passphrase", "name"], "Drawings")
    answer = await site.browser.post(path, json={**secret, "passphrase": "open sesam", "name": "Grace"})
    assert (answer.status_code, (await answer.get_json())["code"]) == (403, "wrong_passphrase")
    for name in ("x" * 65, "a\x00b"):
        answer = await site.browser.post(path, json={**secret, "passphrase": "open sesame", "name": name})
        assert answer.status_code == 400
    browser = await site.entered(made, passphrase="open sesame", name=" Grace ")
    assert (await browser.json(f"{made.base}/api/v1/invitation"))["name"] == "Grace"


async def test_a_thousand_passphrases_cost_a_few_hashes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await site.make(passphrase="open sesame")
    site.services.links._throttle = Throttle(lambda: 0.0)
    hashed: list[str] = []
    matches = site.services.links._passwords.matches

    async def counted(password: str, known: str | None) -> bool:
        hashed.append(password)
        return await matches(password, known)

    monkeypatch.setattr(site.services.links._passwords, "matches", counted)
    wrong = [{"secret": made.secret, "passphrase": f"guess {number}"} for number in range(1000)]
    codes = []
    for some in range(0, 1000, 100):
        answers = await asyncio.gather(
            *(site.browser.post(f"{made.base}/api/v1/enter", json=each) for each in wrong[some : some + 100])
        )
        codes += [(answer.status_code, "Retry-After" in answer.headers) for answer in answers]
    assert codes.count((403, False)) == len(hashed) == 5
    assert codes.count((429, True)) == 1000 - len(hashed)
    right = await site.browser.post(
        f"{made.base}/api/v1/enter", json={"secret": made.secret, "passphrase": "open sesame"}
    )
    assert right.status_code == 429  # from this address; another is not kept out
    # Nobody gets as far without the secret.
    before = len(hashed)
    for _ in range(20):
        await site.browser.post(f"{made.base}/api/v1/enter", json={"secret": "x" * 43, "passphrase": "guess"})
    assert len(hashed) == before


# --- without scripts -------------------------------------------------------------------------------------------------


async def test_without_scripts_the_secret_is_in_the_path_and_only_the_form_spends_it(site: Site) -> None:
    made, browser = await site.make(passphrase="open sesame", asks_name=True), site.browser
    door = f"{made.base}/{made.secret}"
    for _ in range(2):
        shown = await browser.get(door, headers=HTML)
        page = await shown.get_data(as_text=True)
        assert shown.status_code == 200
        assert all(word in page for word in ("Drawings", 'name="passphrase"', 'name="name"', 'method="post"'))
        assert made.secret not in page
        assert shown.headers["Referrer-Policy"] == "no-referrer"
        assert not browser.cookies
    as_forms_do = {
        **HTML,
        "Origin": "null",
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    wrong = await browser.post(door, headers=as_forms_do, data="passphrase=wrong+one&name=Grace")
    assert wrong.status_code == 403
    assert 'role="alert"' in await wrong.get_data(as_text=True)
    assert made.secret not in await wrong.get_data(as_text=True)
    entered = await browser.post(door, headers=as_forms_do, data="passphrase=open+sesame&name=Grace")
    assert (entered.status_code, entered.headers["Location"]) == (303, made.base)
    sent = await browser.post(
        f"{made.base}/api/v1/submissions", headers={**as_forms_do, **FORM}, data=form(b"abc", b"de")
    )
    assert sent.status_code == 303
    where = sent.headers["Location"]
    assert re.fullmatch(made.base + r"/submissions/[0-9a-f]{32}", where)
    page = await (await browser.get(where, headers=HTML)).get_data(as_text=True)
    assert "0.txt" in page
    assert where in await (await browser.get(made.base, headers=HTML)).get_data(as_text=True)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_another_secret_in_the_path_is_no_address(site: Site, method: str) -> None:
    made, other = await site.make(), await site.make()
    more: dict[str, Any] = {}
    if method == "POST":
        more = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}, "data": ""}
    for path in (
        f"{made.base}/{other.secret}",
        f"{made.base}/enter",
        f"{made.base}/-",
        f"{made.base}/{made.secret}/",
        f"{made.base}/{made.secret}x",
        f"{made.base}/{made.secret[:-1]}",
        f"{made.base.replace('/r/', '/s/')}/{made.secret}",
        f"/r/{'0' * 32}/{made.secret}",
    ):
        await site.nothing(site.browser, path, method, **more)


async def test_a_form_of_another_site_enters_nothing(site: Site) -> None:
    made = await site.make()
    for headers in ({"Origin": "null"}, {"Origin": "null", "Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil"}):
        more: Any = {"headers": {**headers, "Content-Type": "application/x-www-form-urlencoded"}, "data": ""}
        answer = await site.browser.post(f"{made.base}/{made.secret}", **more)
        assert answer.status_code == 403
        assert "Set-Cookie" not in answer.headers


async def test_a_secret_in_a_path_is_logged_nowhere(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await site.make()
    caplog.set_level(logging.DEBUG)

    async def broken(*_: Any) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(site.services.links, "opened_by", broken)
    async with served(site.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for head in (f"GET {made.base}/{made.secret}", f"GET {made.base}/{made.secret}?x={made.id}"):
            writer.write(f"{head} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 500 " in answer
            [length] = map(int, re.findall(rb"(?i)content-length: (\d+)", answer))
            assert made.secret.encode() not in await reader.readexactly(length)
        writer.close()
    assert "a mistake of ours" in caplog.text
    assert made.secret not in caplog.text
    dumped = [row for row in await scenarios.all_events(site.ledger) if made.secret in repr(row)]
    assert not dumped


# --- sending ---------------------------------------------------------------------------------------------------------


async def sent(browser: Browser, made: Made, *contents: bytes) -> Any:
    return await browser.post(f"{made.base}/api/v1/submissions", headers=FORM, data=form(*(contents or (b"abc",))))


async def test_two_browsers_on_one_link_see_their_own_and_the_maker_both(site: Site) -> None:
    made = await site.make(asks_name=True)
    one, two = await site.entered(made, name="Grace"), await site.entered(made, name="Root")
    ids = []
    for browser in (one, two):
        answer = await sent(browser, made)
        assert answer.status_code == 201, await answer.get_data()
        shape = await answer.get_json()
        assert answer.headers["Location"] == f"{made.base}/api/v1/submissions/{shape['id']}"
        ids.append(shape["id"])
    api = f"{made.base}/api/v1"
    assert [each["id"] for each in (await one.json(f"{api}/submissions"))["items"]] == [ids[0]]
    assert [each["id"] for each in (await two.json(f"{api}/submissions"))["items"]] == [ids[1]]
    await one.json(f"{api}/submissions/{ids[0]}")
    assert (await one.get(f"{api}/submissions/{ids[1]}")).status_code == 404
    assert (await one.get(f"{made.base}/submissions/{ids[1]}", headers=HTML)).status_code == 404
    listed = (await site.browser.json("/api/v1/submissions"))["items"]
    assert [(each["id"], each["link"]["name"], each["account"]) for each in listed] == [
        (ids[1], "Root", None),
        (ids[0], "Grace", None),
    ]
    assert {each["link"]["id"] for each in listed} == {made.id}


async def test_a_resumable_upload_has_the_links_address_and_ends_as_any_other(site: Site) -> None:
    made = await site.make()
    browser, api = await site.entered(made), f"{made.base}/api/v1"
    answer = await browser.post(f"{api}/submissions", json={"files": [{"name": "big.bin", "size": 6}]})
    shape = await answer.get_json()
    [file] = shape["files"]
    assert file["upload_url"].startswith(f"{api}/uploads/")
    for offset, piece in ((0, b"abc"), (3, b"def")):
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        answer = await browser.ask("PATCH", file["upload_url"], headers=headers, data=piece)
        assert answer.status_code == 204
    stranger = await site.entered(made)
    for method in ("HEAD", "DELETE"):
        assert (await stranger.ask(method, file["upload_url"], headers=TUS)).status_code == 404
    sealed = await (await browser.post(f"{api}/submissions/{shape['id']}/seal")).get_json()
    assert sealed["counts"]["succeeded"] == 1  # it has arrived
    created = await browser.post(f"{api}/uploads", headers={**TUS, "Upload-Length": "1"})
    assert created.status_code == 201
    assert created.headers["Location"].startswith(f"{api}/uploads/")


async def test_who_sends_sees_files_arrive_and_nothing_of_jobs_unless_the_link_shows_results(site: Site) -> None:
    for shows in (False, True):
        made = await site.make(shows_results=shows)
        browser, api = await site.entered(made), f"{made.base}/api/v1"
        shape = await (await sent(browser, made)).get_json()
        job_id = await _succeed(site)
        seen = await browser.json(f"{api}/submissions/{shape['id']}")
        assert (seen["client"], seen["account"], seen["link"]) == (None, None, None)
        assert seen["counts"]["succeeded"] == 1
        [file] = seen["files"]
        [listed] = (await browser.json(f"{api}/submissions"))["items"]
        names = {e["name"] for e in (await browser.json(f"{api}/events?topic=submission:{shape['id']}"))["events"]}
        results = f"{api}/jobs/{job_id}/results/r.txt"
        if shows:
            [attempt] = file["job"]["attempts"]
            assert (attempt["host"], attempt["config_revision"]) == (None, None)
            assert file["job"]["results"][0]["url"] == results
            assert (await browser.get(f"{api}/jobs/{job_id}/output")).status_code == 200
            assert {"job.settled", "attempt.started"} <= names
            assert listed["first_file"]["job_id"] == job_id
            continue
        assert (file["state"], file["job"], listed["first_file"]["job_id"]) == ("stored", None, None)
        assert names == {"submission.opened", "submission.sealed", "upload.started", "upload.stored"}
        for path in (f"jobs/{job_id}", f"jobs/{job_id}/output", f"files/{file['id']}/content"):
            await site.nothing(browser, f"{api}/{path}")
        await site.nothing(browser, results)
        for state in ("succeeded", "queued"):
            assert (await browser.get(f"{api}/submissions/{shape['id']}/files?state={state}")).status_code == 400
        assert (await browser.get(f"{api}/submissions?state=settled")).status_code == 400


async def _succeed(site: Site) -> str:
    """Run the job that waits, to a success with a result."""
    order = await scenarios.claimed(site.ledger)
    stored = scenarios.blob()
    results = (Result(path="r.txt", size=stored.size, sha256=stored.sha256, blob=stored.key),)
    assert await site.ledger.end_attempt(order.job_id, order.number, replace(scenarios.SUCCEEDED, results=results))
    return order.job_id


async def test_nobody_cancels_retries_or_deletes_by_a_link(site: Site) -> None:
    made = await site.make(shows_results=True)
    browser, api = await site.entered(made), f"{made.base}/api/v1"
    shape = await (await sent(browser, made)).get_json()
    job_id = shape["files"][0]["job"]["id"]
    for path in (
        f"{api}/jobs/{job_id}/cancel",
        f"{api}/jobs/{job_id}/retry",
        f"{api}/submissions/{shape['id']}/cancel",
        f"{api}/submissions/{shape['id']}/retry",
    ):
        await site.nothing(browser, path, "POST")


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_the_last_byte_counts_for_forms_at_once(site: Site) -> None:
    made = await site.make(max_size=3 * 100_000 + 99_999)
    browsers = [await site.entered(made) for _ in range(6)]
    answers = await asyncio.gather(*(sent(browser, made, b"x" * 100_000) for browser in browsers))
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(413) >= 3
    assert codes.count(201) == 6 - codes.count(413)
    for answer in answers:
        if answer.status_code == 413:
            problem = await answer.get_json()
            assert (problem["code"], problem["reason"], problem["limit"]) == ("link_used_up", "size", 399_999)
    [listed] = (await site.browser.json("/api/v1/links"))["items"]
    assert listed["size"] == codes.count(201) * 100_000
    assert listed["files"] == codes.count(201)
    while listed["size"] < 300_000:  # some may have been refused because others were on their way
        assert (await sent(browsers[0], made, b"x" * 100_000)).status_code == 201
        [listed] = (await site.browser.json("/api/v1/links"))["items"]
    assert (await sent(browsers[0], made, b"x" * 100_000)).status_code == 413
    assert (await sent(browsers[0], made, b"x" * 99_999)).status_code == 201
    assert (await sent(browsers[0], made, b"x")).status_code == 413
    assert (await sent(browsers[0], made, b"")).status_code == 201
    invitation = await browsers[0].json(f"{made.base}/api/v1/invitation")
    assert invitation["size_left"] == 0


async def test_the_last_byte_counts_for_announced_files_and_for_those_without_a_size(site: Site) -> None:
    made = await site.make(max_size=10)
    browser, api = await site.entered(made), f"{made.base}/api/v1"

    async def announce(size: int) -> Any:
        return await browser.post(f"{api}/submissions", json={"files": [{"name": "a", "size": size}]})

    assert (await announce(11)).status_code == 413
    created = await browser.post(f"{api}/uploads", headers={**TUS, "Upload-Defer-Length": "1"})
    assert created.status_code == 201
    headers = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert (await announce(4)).status_code == 201
    await browser.ask("PATCH", created.headers["Location"], headers=headers, data=b"x" * 7)
    head = await browser.ask("HEAD", created.headers["Location"], headers=TUS)
    headers |= {"Upload-Offset": head.headers["Upload-Offset"], "Upload-Length": "7"}
    rest = b"x" * (7 - int(head.headers["Upload-Offset"]))
    refused = await browser.ask("PATCH", created.headers["Location"], headers=headers, data=rest)
    assert (refused.status_code, (await refused.get_json())["code"]) == (413, "link_used_up")
    assert (await browser.ask("DELETE", created.headers["Location"], headers=TUS)).status_code == 204
    assert (await announce(7)).status_code == 413
    assert (await announce(6)).status_code == 201
    [listed] = (await site.browser.json("/api/v1/links"))["items"]
    assert (listed["size"], listed["files"]) == (10, 2)


async def test_no_more_files_and_submissions_come_than_the_link_allows(site: Site) -> None:
    made = await site.make(max_files=2, max_submissions=2)
    browser = await site.entered(made)
    answer = await sent(browser, made, b"a", b"b", b"c")
    problem = await answer.get_json()
    assert (answer.status_code, problem["reason"], problem["kept"]) == (413, "files", ["0.txt", "1.txt"])
    answer = await sent(browser, made, b"d")
    assert (await answer.get_json())["reason"] == "files"
    other = await site.make(max_submissions=1)
    browser = await site.entered(other)
    assert (await sent(browser, other)).status_code == 201
    answer = await sent(browser, other)
    assert (answer.status_code, (await answer.get_json())["reason"]) == (413, "submissions")


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_everything_of_a_link_that_has_ended_is_no_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    later = utc_now() + timedelta(days=31)
    for end in ("revoked", "expired"):
        made = await site.make(shows_results=True)
        browser = await site.entered(made)
        shape = await (await sent(browser, made)).get_json()
        if end == "revoked":
            await site.browser.ask("DELETE", f"/api/v1/links/{made.id}")
        else:
            for module in ("dropmill.access.visits", "dropmill.access.links", "dropmill.engines.sql.links"):
                monkeypatch.setattr(f"{module}.utc_now", lambda: later)
        for path in (
            made.base,
            f"{made.base}/{made.secret}",
            f"{made.base}/submissions/{shape['id']}",
            f"{made.base}/api/v1/invitation",
            f"{made.base}/api/v1/submissions",
            f"{made.base}/api/v1/submissions/{shape['id']}",
        ):
            await site.nothing(browser, path)
        await site.nothing(browser, f"{made.base}/api/v1/enter", "POST", json={"secret": made.secret})
        await site.nothing(browser, f"{made.base}/api/v1/submissions", "POST", headers=FORM, data=form(b"x"))
    assert {link.state(later) for link in (await site.ledger.links(before=None, limit=9)).items} == {
        LinkState.REVOKED,
        LinkState.EXPIRED,
    }


async def test_a_revocation_ends_sockets_and_bodies_at_once_and_seals_what_was_open(site: Site) -> None:
    made = await site.make()
    browser = await site.entered(made)
    [cookie] = browser.cookies.values()
    headers = {"Cookie": f"dropmill_link={cookie}", "Origin": "http://localhost"}
    shape = await (await browser.post(f"{made.base}/api/v1/submissions", json={"files": []})).get_json()
    async with (
        served(site.app) as port,
        connect(
            f"ws://127.0.0.1:{port}{made.base}/api/v1/live",
            proxy=None,
            additional_headers={**headers, "Origin": f"http://127.0.0.1:{port}"},
        ) as opened,
    ):
        await opened.send(json.dumps({"type": "join", "id": 1, "topic": f"submission:{shape['id']}"}))
        assert json.loads(await opened.recv())["type"] == "hello"
        assert json.loads(await opened.recv())["ok"] is True
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST {made.base}/api/v1/submissions/{shape['id']}/files HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Origin: http://127.0.0.1:{port}\r\nCookie: {headers['Cookie']}\r\n"
            f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 1000000\r\n\r\n"
        )
        writer.write(head.encode() + form(b"x" * 200_000)[:150_000])
        view = await _until_receiving(site, shape["id"])
        assert view.submission.counts.receiving == 1
        await site.services.links.revoke(scenarios.CALLER, LinkId(made.id))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 404 " in answer
        with contextlib.suppress(ConnectionClosed):
            async for _ in opened:
                pass
        assert opened.close_code == 4401
        writer.close()
    await site.services.intake.seal_stale()
    view = await site.ledger.view_submission(shape["id"], limit=9)
    assert view.submission.is_settled
    assert view.submission.counts.aborted == 1
    assert [event.name.value for event in await scenarios.all_events(site.ledger)].count("submission.settled") == 1


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
async def test_an_upload_whose_link_is_revoked_while_it_is_stored_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    made = await site.make()
    browser, api = await site.entered(made), f"{made.base}/api/v1"
    shape = await (await browser.post(f"{api}/submissions", json={"files": [{"name": "a", "size": 3}]})).get_json()
    store = site.ledger.store_upload

    async def too_late(*args: Any, **more: Any) -> None:
        await site.ledger.revoke_link(LinkId(made.id), THIS_MACHINE)
        monkeypatch.setattr(site.ledger, "store_upload", store)
        if again:
            raise StorageUnavailable("The disk fails.")
        await store(*args, **more)

    monkeypatch.setattr(site.ledger, "store_upload", too_late)
    headers = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    answer = await browser.ask("PATCH", shape["files"][0]["upload_url"], headers=headers, data=b"abc")
    assert answer.status_code == (503 if again else 404)
    if again:
        await site.services.uploads.recover()
    await site.services.intake.seal_stale()

    async def is_settled() -> bool:
        return (await site.ledger.view_submission(shape["id"], limit=9)).submission.is_settled

    await eventually(is_settled)
    [file] = (await site.ledger.view_submission(shape["id"], limit=9)).files
    assert (file.state, file.cause) == (UploadState.ABORTED, AbortCause.REFUSED)
    [link] = (await site.ledger.links(before=None, limit=9)).items
    assert (link.usage.files, link.usage.size, link.usage.submissions) == (0, 0, 0)


async def _until_receiving(site: Site, submission_id: Any) -> Any:
    async def receiving() -> bool:
        view = await site.ledger.view_submission(submission_id, limit=9)
        return view.submission.counts.receiving == 1

    await eventually(receiving)
    return await site.ledger.view_submission(submission_id, limit=9)


# --- result links ----------------------------------------------------------------------------------------------------


async def test_a_result_link_shows_one_submission_without_its_sender_and_nothing_else(site: Site) -> None:
    shapes = [await (await site.browser.post("/api/v1/submissions", headers=FORM, data=form(b"x"))).get_json()]
    job_id = await _succeed(site)
    shapes.append(await (await site.browser.post("/api/v1/submissions", headers=FORM, data=form(b"y"))).get_json())
    made = await site.make(kind="result", submission_id=shapes[0]["id"])
    browser, api = await site.entered(made), f"{made.base}/api/v1"
    seen = await browser.json(f"{api}/submissions/{shapes[0]['id']}")
    assert (seen["client"], seen["account"]) == (None, None)
    assert seen["files"][0]["job"]["attempts"][0]["host"] is None
    page = await (await browser.get(made.base, headers=HTML)).get_data(as_text=True)
    assert "0.txt" in page
    for text in (page, json.dumps(seen), await (await browser.get(f"{api}/jobs/{job_id}")).get_data(as_text=True)):
        assert "127.0.0.1" not in text
        assert "localhost" not in text.replace("http://localhost", "")
    assert [each["id"] for each in (await browser.json(f"{api}/submissions"))["items"]] == [shapes[0]["id"]]
    assert (await browser.get(f"{api}/submissions/{shapes[1]['id']}")).status_code == 404
    for method, path in (
        ("POST", f"{api}/submissions"),
        ("POST", f"{api}/submissions/{shapes[0]['id']}/seal"),
        ("POST", f"{api}/submissions/{shapes[0]['id']}/files"),
        ("POST", f"{api}/jobs/{job_id}/retry"),
        ("GET", f"{api}/jobs"),
        ("GET", f"{api}/history"),
        ("GET", f"{api}/links"),
        ("GET", f"{api}/notices"),
    ):
        await site.nothing(browser, path, method)
    for topic in ("all", "config", f"submission:{shapes[1]['id']}", "accounts", "links", "audit"):
        assert (await browser.get(f"{api}/events?topic={topic}")).status_code == 404
    told = (await browser.json(f"{api}/events?topic=submission:{shapes[0]['id']}"))["events"]
    assert {each["subject"]["client"] for each in told} == {None}


# --- the confused deputy ---------------------------------------------------------------------------------------------


@pytest.fixture
async def closed(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[tuple[Site, Browser]]:
    """A server where people sign in, and the browser of an admin."""
    async with all_routes(tmp_path, ledger, bus, auth="required") as (app, services):
        services.is_open = False
        account = Account(id=new_account_id(), name="root", role=Role.ADMIN, created_at=utc_now())
        await ledger.add_account(account, "hash", THIS_MACHINE)
        secret = "s" * 43
        now = utc_now()
        session: Any = {
            "id": "a" * 32, "account_id": account.id, "created_at": now, "last_used_at": now,
            "expires_at": now + timedelta(days=1), "client": scenarios.CLIENT,
        }  # fmt: skip
        digest = Sha256(hashlib.sha256(secret.encode()).hexdigest())
        await ledger.begin_session(Session(**session), digest, SignInMethod.PASSWORD)
        admin = Browser(app, {("dropmill_session", "/"): secret})
        yield Site(app, services, ledger), admin


async def made_by(admin: Browser, **wanted: Any) -> Made:
    answer = await admin.post("/api/v1/links", json={"label": "Drawings", **wanted})
    made = await answer.get_json()
    base, secret = made["url"].removeprefix("http://localhost").split("#")
    return Made(id=made["id"], base=base, secret=secret)


async def test_an_admins_browser_is_a_visitor_below_a_link_and_an_admin_elsewhere(
    closed: tuple[Site, Browser],
) -> None:
    site, admin = closed
    made = await made_by(admin)
    for path in ("/api/v1/config", "/api/v1/accounts", "/api/v1/session", "/api/v1/links", "/api/v1/log"):
        assert (await admin.get(path)).status_code == 200, path
        await site.nothing(admin, made.base + path)
    await site.nothing(admin, f"{made.base}/api/v1/submissions")  # an admin, but no visitor
    await site.entered(made, admin)
    answer = await sent(admin, made)
    shape = await (await admin.get(f"/api/v1/submissions/{(await answer.get_json())['id']}")).get_json()
    assert shape["account"] is None
    assert shape["link"]["id"] == made.id
    for path in ("/api/v1/config", "/api/v1/accounts", "/api/v1/session", "/api/v1/links", "/api/v1/log"):
        assert (await admin.get(path)).status_code == 200, path
        await site.nothing(admin, made.base + path)


async def test_a_links_secret_and_cookie_open_nothing_elsewhere(closed: tuple[Site, Browser]) -> None:
    site, admin = closed
    made, other = await made_by(admin), await made_by(admin, shows_results=True)
    browser = await site.entered(made)
    [cookie] = browser.cookies.values()
    cookies = "; ".join(f"{name}={cookie}" for name in ("dropmill_link", "dropmill_session", "__Host-dropmill_session"))
    for headers in (
        {"Cookie": cookies},
        {"Authorization": f"Bearer {made.secret}"},
        {"Authorization": f"Bearer {cookie}"},
    ):
        for path in ("/api/v1/submissions", "/api/v1/config", "/api/v1/links", "/api/v1/enter", "/api/v1/invitation"):
            assert (await site.browser.get(path, headers=headers)).status_code == 401
        answer = await site.browser.post("/api/v1/submissions", headers={**headers, **FORM}, data=form(b"x"))
        assert answer.status_code == 401
        await site.nothing(site.browser, f"{other.base}/api/v1/invitation", headers=headers)
        await site.nothing(site.browser, f"{made.base}/api/v1/config", headers=headers)
    bearer = {"Authorization": f"Bearer {made.secret}"}
    await site.nothing(site.browser, f"{made.base}/api/v1/invitation", headers=bearer)


async def test_a_change_by_a_link_comes_from_its_own_pages(closed: tuple[Site, Browser]) -> None:
    site, admin = closed
    made = await made_by(admin)
    browser = await site.entered(made)
    browser.headers = {}
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "http://localhost"}, 201),
        ({}, 201),
    ):
        more: Any = {"headers": {**headers, "Content-Type": "application/json"}, "data": b'{"files": []}'}
        answer = await browser.post(f"{made.base}/api/v1/submissions", **more)
        assert answer.status_code == status, headers


async def test_a_link_ends_with_its_makers_right(closed: tuple[Site, Browser]) -> None:
    site, admin = closed
    other = Account(id=new_account_id(), name="other", role=Role.ADMIN, created_at=utc_now())
    await site.ledger.add_account(other, "hash", THIS_MACHINE)
    made = await made_by(admin)
    browser = await site.entered(made)
    await browser.json(f"{made.base}/api/v1/invitation")
    watching = asyncio.create_task(site.services.visits.run())
    await asyncio.sleep(0)
    [root] = [account for account in await site.ledger.accounts() if account.name == "root"]
    await site.ledger.change_account(root.id, AccountChange(role=Role.VIEWER), THIS_MACHINE)

    async def is_over() -> bool:
        return bool((await browser.get(f"{made.base}/api/v1/invitation")).status_code == 404)

    try:
        await eventually(is_over)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    assert (await browser.get(made.base)).status_code == 404


async def test_on_a_private_server_what_comes_belongs_to_the_browser_that_made_the_link(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus
) -> None:
    async with all_routes(tmp_path, ledger, bus, private="yes") as (app, services):
        site = Site(app, services, ledger)
        maker, stranger = site.browser, site.browser
        await stranger.get("/", headers=HTML)
        made = await made_by(maker)
        assert set(maker.cookies) == set(stranger.cookies) == {("dropmill_browser", "/")}
        visitor = await site.entered(made)
        shape = await (await sent(visitor, made)).get_json()
        assert (await maker.get(f"/api/v1/submissions/{shape['id']}")).status_code == 200
        assert (await stranger.get(f"/api/v1/submissions/{shape['id']}")).status_code == 404
        assert len((await maker.json("/api/v1/links"))["items"]) == 1
        assert (await stranger.json("/api/v1/links"))["items"] == []
        assert (await stranger.ask("DELETE", f"/api/v1/links/{made.id}")).status_code == 404
        assert ("dropmill_browser", "/") not in visitor.cookies
