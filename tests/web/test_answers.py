"""What every answer says of itself, whatever route it comes from; and which requests have no answer but a refusal."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from tests.support.all_routes import all_routes

from dropmill.app import create_app
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.settings import Settings

PATHS = sorted({re.sub(r"<[^>]*>", "x", rule.rule) for rule in create_app(Settings(auth="off")).url_map.iter_rules()})
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TEXT = re.compile(r"text/(html|plain|css|javascript|csv); charset=utf-8")


@pytest.fixture
async def app(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[Quart]:
    async with all_routes(tmp_path, ledger, bus) as (made, _):
        yield made


async def answers(app: Quart, path: str, accept: str) -> AsyncIterator[tuple[str, str, bytes]]:
    """Type and body of the answer to each method, if it has a body."""
    client: Any = app.test_client()
    for method in METHODS:
        answer = await client.open(path, method=method, headers={"Accept": accept}, query_string={"wait": "0"})
        body = await answer.get_data(as_text=False)
        if body:
            yield f"{method} {path} {answer.status_code}", answer.headers.get("Content-Type", ""), body


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_with_a_body_says_what_it_is(app: Quart, path: str, accept: str) -> None:
    async for what, kind, body in answers(app, path, accept):
        if kind in ("application/json", "application/problem+json"):  # UTF-8 by RFC 8259, which has no charset
            json.loads(body.decode())
        elif kind == "text/html; charset=utf-8":
            assert body.decode().lstrip().startswith("<!doctype html>"), what
        elif kind.startswith("text/"):
            assert TEXT.fullmatch(kind), (what, kind)
            body.decode()
        else:
            assert kind in ("application/yaml", "application/x-ndjson", "image/svg+xml", "application/zip"), (
                what,
                kind,
            )


@pytest.mark.parametrize("path", PATHS)
async def test_trace_is_not_answered_with_what_was_asked(app: Quart, path: str) -> None:
    client: Any = app.test_client()
    answer = await client.open(path, method="TRACE", headers={"Cookie": "dropmill_session=secret", "X-Own": "secret"})
    assert answer.status_code == 405
    assert b"secret" not in await answer.get_data(as_text=False)


@pytest.mark.parametrize("path", ["/static/", "/static", "/static/js/", "/static/js/core", "/static/dist/"])
async def test_no_folder_is_listed(app: Quart, path: str) -> None:
    answer = await app.test_client().get(path)
    assert answer.status_code == 404
    assert ".js" not in await answer.get_data(as_text=True)


@pytest.mark.parametrize("path", ["/.git/config", "/.git/HEAD", "/static/.git/HEAD", "/pyproject.toml", "/config.yaml"])
async def test_what_lies_beside_the_code_is_not_served(app: Quart, path: str) -> None:
    assert (await app.test_client().get(path)).status_code == 404
