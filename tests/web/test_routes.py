"""Who may use which route, for every route of the URL map, every method and every kind of caller."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from quart.testing import WebsocketResponseError
from tests.support.all_routes import all_routes
from tests.support.callers import ADA, BY_PAGE, CALLERS, LINK_ID, OPAL, ROOT, VISITORS, named, signed_in

from dropmill.access.policy import Action, Policy
from dropmill.app import create_app
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.caller import Caller
from dropmill.settings import Settings
from dropmill.web.routes import BELOW_LINKS, BELOW_LINKS_ALONE, ROUTES, Open, is_api, keys_of, require_complete

__all__ = ["signed_in"]

HTML = {"Accept": "text/html"}
OURS = {"Origin": "http://localhost"}
AT_ONCE = {"wait": "0"}  # for polls; other routes do not read it

RULES = sorted(create_app(Settings(auth="off")).url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint))
REQUESTS = [
    pytest.param(key, re.sub(r"<[^>]*>", "x", rule.rule), id=f"{key} {rule.rule}")
    for rule in RULES
    for key in sorted(keys_of(rule))
    if not key.startswith("SOCKET")
]
WHO: list[Caller | None] = [None, *CALLERS.values()]


@pytest.fixture
async def app(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus, signed_in: None) -> AsyncIterator[Quart]:
    async with all_routes(tmp_path, ledger, bus) as (made, _):
        yield made


def test_every_route_is_said_who_may_use_it_and_every_entry_has_a_route() -> None:
    assert {key for rule in RULES for key in keys_of(rule)} == set(ROUTES)


def test_every_action_of_a_route_is_for_something() -> None:
    assert {access for access in ROUTES.values() if isinstance(access, Action)} | {
        Action.FOLLOW_ALL,  # of topics
        Action.SEE_AUTHORS,  # of what the history of the config shows
        Action.SEE_SERVER,  # of what pages and probes show
    } == set(Action)


def test_a_server_with_a_route_that_nobody_has_thought_of_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {key: access for key, access in ROUTES.items() if key != "POST jobs.cancel"}
    with pytest.raises(AssertionError, match=r"POST jobs\.cancel"):
        require_complete(RULES, left)
    monkeypatch.setattr("dropmill.web.routes.require_complete.__defaults__", (left,))
    with pytest.raises(AssertionError, match=r"POST jobs\.cancel"):
        create_app(Settings(auth="off"))


@pytest.mark.parametrize(("key", "path"), REQUESTS)
async def test_each_caller_gets_in_where_the_policy_says_so(app: Quart, key: str, path: str) -> None:
    client: Any = app.test_client()
    method, access = key.partition(" ")[0], ROUTES[key]
    for caller in WHO:
        answer = await client.open(path, method=method, headers={**named(caller), **OURS}, query_string=AT_ONCE)
        if key == "GET pages.sign_in" and caller is not None:
            expected = {303}  # to where there is something to do
        elif key in BELOW_LINKS_ALONE:
            expected = {401} if caller is None and is_api(path) else set()
            assert expected or answer.status_code == 404
        elif access is Open.TO_ALL:
            expected = set()
        elif caller is None:
            expected = {303} if key.startswith("GET pages.") else {401}
        else:
            expected = set() if isinstance(access, Open) or Policy().may(caller, access) else {403}
        got = {answer.status_code} & {303, 401, 403}
        assert got == expected, (caller and caller.account, answer.status_code)
        if got == {401}:
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert (await answer.get_json())["code"] == "sign_in_required"


def test_no_safe_method_is_for_a_change() -> None:
    """Links, images and crawlers ask by GET and HEAD. HEAD of an upload takes the turn, as the tus protocol has it."""
    changes = {Action.SEND, Action.CONTROL, Action.CHANGE_CONFIG, Action.POST_NOTICE}
    safe = {key for key in ROUTES if key.startswith(("GET ", "HEAD ", "OPTIONS "))}
    assert {key for key in safe if ROUTES[key] in changes} == {"HEAD uploads.head"}
    for name in ("sign_in", "sign_out", "make", "revoke", "add", "change", "remove", "end"):
        assert not {key for key in safe if key.endswith(f".{name}")} - {"GET pages.sign_in"}


@pytest.mark.parametrize(("key", "path"), REQUESTS)
async def test_below_a_link_there_is_what_its_visitor_may_use_and_nothing_else(app: Quart, key: str, path: str) -> None:
    """Whatever else there is elsewhere answers as an address that does not exist, whoever asks."""
    client: Any = app.test_client()
    method, access = key.partition(" ")[0], ROUTES[key]

    async def ask(caller: Caller | None, path: str) -> tuple[int, bytes]:
        answer = await client.open(path, method=method, headers={**named(caller), **OURS}, query_string=AT_ONCE)
        return answer.status_code, await answer.get_data()

    if key == "GET pages.submission":
        return  # below a link, this is the path of another page
    is_page = key.startswith(("GET link_pages.", "POST link_pages."))
    below = re.sub(r"^/[rs]/x", "", path) if is_page else path
    for caller in (None, ADA, ROOT, BY_PAGE, *VISITORS.values()):
        for letter in "rs":
            prefix = f"/{letter}/{LINK_ID}"
            nothing = await ask(caller, f"{prefix}/api/v1/nothing")
            assert nothing[0] == 404
            got = await ask(caller, prefix + below)
            is_visitor = caller in VISITORS.values()
            may = access is Open.TO_ALL or (
                is_visitor and caller is not None and isinstance(access, Action) and Policy().may(caller, access)
            )
            if key not in BELOW_LINKS or not may:
                assert got == nothing, (caller, key)
            elif not is_page and access is not Open.TO_ALL and key != "GET invitations.read":  # of a link that is none
                assert got != nothing, (caller, key)


@pytest.mark.parametrize(("key", "path"), REQUESTS)
async def test_head_and_options_open_nothing_that_is_closed(app: Quart, key: str, path: str) -> None:
    """`HEAD` is answered as `GET`. Only a browser's question whether it may ask needs nobody to sign in."""
    client: Any = app.test_client()
    if key.startswith("GET "):
        head = await client.open(path, method="HEAD", query_string=AT_ONCE)
        assert head.status_code == (await client.get(path, query_string=AT_ONCE)).status_code
    if not path.startswith("/api/v1/uploads") and ROUTES[key] is not Open.TO_ALL and key not in BELOW_LINKS_ALONE:
        assert (await client.options(path)).status_code == 401
        asks = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
        assert (await client.options(path, headers=asks)).status_code == (204 if is_api(path) else 200)
        assert (await client.options(path, headers=named(ADA))).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/nothing", "/api/v1/jobs/x/nothing", "/send/a/", "/api/v1/live/"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_nobody_learns_which_addresses_there_are(app: Quart, method: str, path: str) -> None:
    client: Any = app.test_client()
    nobody = await client.open(path, method=method)
    there = await client.get("/api/v1/jobs/x")
    assert (nobody.status_code, await nobody.get_data()) == (401, await there.get_data())
    somebody = await client.open(path, method=method, headers=named(ADA))
    assert somebody.status_code in (404, 405)


async def test_nobody_gets_the_page_about_a_page_that_does_not_exist(app: Quart) -> None:
    answer = await app.test_client().get("/nowhere", headers=HTML)
    assert answer.status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "query", "then"),
    [
        ("/", "", "%2F"),
        ("/history", "q=a+b%26c&from=2026-01-01", "%2Fhistory%3Fq%3Da%2Bb%2526c%26from%3D2026-01-01"),
        ("/jobs/https:%2F%2Fevil.example", "", None),
        ("/submissions/%5C%5Cevil.example", "", "%2Fsubmissions%2F%5C%5Cevil.example"),
    ],
)
async def test_a_page_leads_to_the_sign_in_and_from_there_to_a_path_of_this_server(
    app: Quart, method: str, path: str, query: str, then: str | None
) -> None:
    client: Any = app.test_client()
    answer = await client.open(f"{path}?{query}", method=method, headers=HTML)
    if then is None:
        assert answer.status_code == 404  # a slash in an id is no id
        return
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/sign-in?next={then}")
    assert await answer.get_data() == b""


async def test_a_refusal_comes_before_the_body_is_looked_at(app: Quart) -> None:
    """What is wrong with the request is told to those who may send it."""
    client, wrong = app.test_client(), {"Content-Type": "application/json", **OURS}
    asked: dict[str, Any] = {"method": "POST", "data": b"{", "headers": wrong}
    assert (await client.open("/api/v1/submissions", **asked)).status_code == 401
    asked["headers"] = wrong | named(CALLERS["reader"])
    assert (await client.open("/api/v1/submissions", **asked)).status_code == 403
    asked["headers"] = wrong | named(ADA)
    assert (await client.open("/api/v1/submissions", **asked)).status_code == 400


# --- sockets ---------------------------------------------------------------------------------------------------------


REFUSALS = [
    pytest.param({}, "/api/v1/live", 401, id="nobody"),
    pytest.param({}, "/api/v1/nothing", 401, id="nobody, nowhere"),
    pytest.param(named(CALLERS["sender"]), "/api/v1/live", 403, id="may not read"),
    pytest.param(named(ADA), "/api/v1/nothing", 404, id="nowhere"),
]


@pytest.mark.parametrize(("headers", "path", "status"), REFUSALS)
async def test_a_socket_is_refused_before_it_opens(app: Quart, headers: dict[str, str], path: str, status: int) -> None:
    with pytest.raises(WebsocketResponseError) as refused:
        async with app.test_client().websocket(path, headers=headers) as opened:
            await opened.receive()
    assert refused.value.response.status_code == status


# --- pages of others -------------------------------------------------------------------------------------------------


async def test_a_change_with_a_browsers_sign_in_says_which_page_it_comes_from(app: Quart) -> None:
    """A browser sends its cookie for every page that asks; a token is sent by those only who have it."""
    client = app.test_client()
    for caller, more, status in (
        (BY_PAGE, {}, 403),
        (BY_PAGE, {"Origin": "null"}, 403),
        (BY_PAGE, {"Sec-Fetch-Site": "cross-site"}, 403),
        (BY_PAGE, {"Sec-Fetch-Site": "same-origin"}, 404),
        (BY_PAGE, OURS, 404),
        (ROOT, {}, 404),
        (OPAL, {}, 404),
    ):
        answer = await client.post("/api/v1/jobs/x/retry", headers=named(caller) | more)
        assert answer.status_code == status, (caller.account, more)
    assert (await client.get("/api/v1/jobs/x", headers=named(BY_PAGE))).status_code == 404
    with pytest.raises(WebsocketResponseError) as refused:
        async with client.websocket("/api/v1/live", headers=named(BY_PAGE)) as opened:
            await opened.receive()
    assert refused.value.response.status_code == 403


async def test_a_browsers_sign_in_is_for_our_own_pages_and_a_token_for_allowed_ones_too(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus, signed_in: None
) -> None:
    """Pages of one host with two ports are of one site, so a browser sends its cookie from the one to the other."""
    async with all_routes(tmp_path, ledger, bus, allowed_origin=["http://localhost:3000"]) as (app, _):
        client, other = app.test_client(), {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
        for caller, more, status in ((BY_PAGE, other, 403), (BY_PAGE, OURS, 404), (ROOT, other, 404)):
            answer = await client.post("/api/v1/jobs/x/retry", headers=named(caller) | more)
            assert answer.status_code == status, (caller.account, more)
        with pytest.raises(WebsocketResponseError) as refused:
            async with client.websocket("/api/v1/live", headers=named(BY_PAGE) | other) as opened:
                await opened.receive()
        assert refused.value.response.status_code == 403
