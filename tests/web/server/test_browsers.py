"""`--private`: without accounts, a cookie says whose a submission is."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from quart.testing import WebsocketResponseError
from tests.support.all_routes import all_routes
from tests.support.callers import ADA, named, signed_in

from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.web.server.browsers import COOKIE, MAX_AGE_S

__all__ = ["signed_in"]

Make = Callable[..., Awaitable[Quart]]


@pytest.fixture
async def make_app(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[Make]:
    """Makes the routes of a server with these settings, once."""
    async with AsyncExitStack() as stack:

        async def make_app(**settings: str) -> Quart:
            app, _ = await stack.enter_async_context(all_routes(tmp_path, ledger, bus, **settings))
            return app

        yield make_app


@pytest.fixture
async def app(make_app: Make) -> Quart:
    return await make_app(private="yes")


async def opened(client: Any) -> str:
    answer = await client.post("/api/v1/submissions", json={"files": []})
    assert answer.status_code == 201
    return str((await answer.get_json())["id"])


def cookie_of(answer: Any) -> str | None:
    """The secret that an answer gives; None if it gives none."""
    given = SimpleCookie(answer.headers.get("Set-Cookie", ""))
    return given[COOKIE].value if COOKIE in given else None


async def test_a_browser_gets_its_cookie_with_the_first_page_and_keeps_it(app: Quart) -> None:
    client = app.test_client()
    first = await client.get("/")
    flags = first.headers["Set-Cookie"]
    assert re.search(r"; HttpOnly", flags)
    assert "SameSite=Lax" in flags
    assert "Path=/" in flags
    assert f"Max-Age={MAX_AGE_S}" in flags
    assert "Secure" not in flags
    again = await client.get("/history")
    assert cookie_of(again) == cookie_of(first) is not None
    assert cookie_of(await client.get("/api/v1/submissions")) is None
    assert cookie_of(await client.get("/nowhere")) is None
    assert cookie_of(await app.test_client().get("/")) != cookie_of(first)


async def test_a_program_gets_its_cookie_with_its_first_submission(app: Quart) -> None:
    client = app.test_client()
    assert cookie_of(await client.get("/api/v1/submissions")) is None
    refused = await client.post("/api/v1/submissions", json={"files": 3})
    assert (refused.status_code, cookie_of(refused)) == (400, None)
    submission_id = await opened(client)
    assert (await client.get(f"/api/v1/submissions/{submission_id}")).status_code == 200
    second = await client.post("/api/v1/submissions", json={"files": []})
    assert cookie_of(second) is None  # it has one


async def test_each_browser_sees_what_it_has_sent_and_nothing_else(app: Quart) -> None:
    ours, theirs = app.test_client(), app.test_client()
    mine, other = await opened(ours), await opened(theirs)
    for client, own, foreign in ((ours, mine, other), (theirs, other, mine), (app.test_client(), None, mine)):
        items = (await (await client.get("/api/v1/submissions")).get_json())["items"]
        assert [item["id"] for item in items] == ([] if own is None else [own])
        for path in (f"/api/v1/submissions/{foreign}", f"/submissions/{foreign}", "/api/v1/events?topic=all"):
            assert (await client.get(path)).status_code == 404
        assert foreign not in await (await client.get("/api/v1/log")).get_data(as_text=True)
        assert foreign not in await (await client.get("/history")).get_data(as_text=True)
        assert (await client.post(f"/api/v1/submissions/{foreign}/seal")).status_code == 404


async def test_the_history_of_a_browser_follows_its_own_topic(app: Quart) -> None:
    client = app.test_client()
    await client.get("/")
    await opened(client)
    page = await (await client.get("/history")).get_data(as_text=True)
    found = re.search(r'"topic": "(browser:[0-9a-f]{64})"', page)
    assert found is not None
    events = await (await client.get(f"/api/v1/events?topic={found[1]}")).get_json()
    assert events["events"][0]["name"] == "submission.opened"
    assert (await app.test_client().get(f"/api/v1/events?topic={found[1]}")).status_code == 404
    secret = cookie_of(await client.get("/"))
    assert secret is not None
    assert secret not in page


@pytest.mark.parametrize("given", ["", "x", "a" * 42, "a" * 44, "ä" * 43, "browser:" + "0" * 64])
async def test_a_cookie_that_is_none_of_ours_is_that_of_a_new_browser(app: Quart, given: str) -> None:
    answer = await app.test_client().get("/", headers={"Cookie": f"{COOKIE}={given}"})
    assert answer.status_code == 200
    assert cookie_of(answer) not in (None, given)


async def test_everything_else_is_everybodys(app: Quart) -> None:
    """While nobody signs in, whoever reaches the server is its admin."""
    client = app.test_client()
    answer = await client.post("/api/v1/notices", json={"text": "to all"})
    assert answer.status_code == 201
    assert (await client.get("/api/v1/config/revisions")).status_code == 200


async def test_below_a_path_and_over_https_the_cookie_says_so(make_app: Make) -> None:
    app = await make_app(private="yes", public_url="https://drop.example/files")
    answer = await app.test_client().get("/", headers={"Host": "drop.example"}, scheme="https")
    flags = answer.headers["Set-Cookie"]
    assert flags.startswith("__Secure-dropmill_browser=")
    assert "; Secure" in flags
    assert "; HttpOnly" in flags
    assert "SameSite=Lax" in flags
    assert "Path=/files/" in flags


async def test_a_cookie_of_another_site_is_not_taken_for_ours_over_https(make_app: Make) -> None:
    """One that came over plain http has no prefix; browsers refuse a prefix that was set without https."""
    app = await make_app(private="yes", allowed_host=["drop.example"])
    host = {"Host": "drop.example"}
    answer = await app.test_client().get("/", headers=host, scheme="https")
    name, _, secret = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    assert name == "__Host-dropmill_browser"
    for shown, is_new in ((name, False), ("dropmill_browser", True), ("__Secure-dropmill_browser", True)):
        again = await app.test_client().get("/", headers={**host, "Cookie": f"{shown}={secret}"}, scheme="https")
        assert (secret not in again.headers["Set-Cookie"]) is is_new


async def test_the_language_is_read_from_a_cookie_with_the_prefix_of_https(make_app: Make) -> None:
    app = await make_app(allowed_host=["drop.example"])
    for scheme, name in (("http", "dropmill_language"), ("https", "__Host-dropmill_language")):
        headers = {"Host": "drop.example", "Cookie": f"{name}=de"}
        page = await (await app.test_client().get("/", headers=headers, scheme=scheme)).get_data(as_text=True)
        assert f'data-cookie="{name}"' in page
        assert '<html lang="de"' in page


async def test_without_the_setting_nobody_is_given_a_cookie(make_app: Make) -> None:
    app = await make_app()
    client = app.test_client()
    assert "Set-Cookie" not in (await client.get("/")).headers
    assert (await client.get(f"/api/v1/submissions/{await opened(app.test_client())}")).status_code == 200


async def test_accounts_are_told_by_their_sign_in_also_in_a_browser_with_a_cookie(app: Quart, signed_in: None) -> None:
    answer = await app.test_client().get("/", headers=named(ADA))
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (200, False)
    assert (await app.test_client().get("/")).status_code == 303
    with pytest.raises(WebsocketResponseError):
        async with app.test_client().websocket("/api/v1/live") as refused:
            await refused.receive()
