"""Server-Sent Events from a subscriber: the same messages, as fields of an event stream."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.support import scenarios
from tests.support.live_app import LiveApp
from tests.support.scenarios import CALLER
from tests.support.waiting import eventually

from dropmill.model.ids import FileId
from dropmill.model.jobs import Progress
from dropmill.model.output import OutputPiece
from dropmill.web.api import live

STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def stream(alone: LiveApp, query: str, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The blocks of a stream; `data` is read as JSON."""

    async def blocks(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        fields: dict[str, Any] = {}
        async for line in answer.aiter_lines():
            if not line and fields:
                yield {**fields, "data": json.loads(fields["data"])}
                fields = {}
            elif line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value

    async with (
        httpx.AsyncClient(base_url=alone.base, trust_env=False, timeout=20) as client,
        client.stream("GET", f"/api/v1/events?{query}", headers=STREAM | headers) as answer,
    ):
        assert answer.status_code == 200
        yield blocks(answer)


async def test_a_stream_has_events_only_unless_more_is_asked_for(alone: LiveApp) -> None:
    submission_id = await scenarios.opened(alone.ledger)
    topic = f"topic=submission:{submission_id}"
    async with stream(alone, f"{topic}&after=0") as found:
        first = await anext(found)
        assert set(first) == {"id", "data"}
        assert first["data"]["name"] == "submission.opened"
        alone.bus.report(Progress(submission_id=submission_id, file_id=FileId("f"), stage="process", value=1))
        await eventually(lambda: alone.services.live.feed.progress.number)
        await alone.ledger.seal_submission(submission_id)
        assert (await anext(found))["data"]["name"] == "submission.sealed"


async def test_a_full_stream_carries_progress_output_and_notices(alone: LiveApp) -> None:
    submission_id = await scenarios.opened(alone.ledger)
    job_id = await scenarios.running(alone.ledger, submission_id)
    outputs: Any = alone.services.topics._outputs
    began_at = scenarios.FAR_FUTURE
    await outputs.append([OutputPiece(job_id=job_id, number=1, offset=0, data=b"0123456", began_at=began_at)])
    query = f"topic=submission:{submission_id}&after=newest&stream=full&join=output:{job_id}@1:4"
    async with stream(alone, query) as found:
        named = {}
        while "output" not in named:
            block = await anext(found)
            named[block["event"]] = block
        assert (named["output"]["data"]["text"], named["output"]["data"]["offset"]) == ("456", 4)
        assert "id" not in named["output"]
        assert {"sending", "presence"} < set(named)
        alone.bus.report(Progress(submission_id=submission_id, file_id=FileId("f"), stage="process", value=1))
        block = await anext(found)
        assert (block["event"], block["data"]["files"][0]["value"]) == ("progress", 1)
        await alone.services.notices.post(CALLER, "hello", submission_id=None, expires_in_s=60)
        block = await anext(found)
        assert (block["event"], block["data"]["text"]) == ("notice", "hello")


@pytest.mark.parametrize("query", ["after=99", "after=1&ledger=" + "0" * 32])
async def test_a_cursor_of_no_use_gets_a_snapshot_and_then_what_follows(alone: LiveApp, query: str) -> None:
    submission_id = await scenarios.opened(alone.ledger)
    async with stream(alone, f"topic=submission:{submission_id}&{query}") as found:
        block = await anext(found)
        assert (block["event"], block["id"]) == ("snapshot", str(await alone.ledger.newest_cursor()))
        assert block["data"]["state"]["id"] == submission_id
        await alone.ledger.seal_submission(submission_id)
        block = await anext(found)
        assert "event" not in block
        assert block["data"]["name"] == "submission.sealed"


async def test_removed_history_is_a_gap_before_any_later_event(alone: LiveApp) -> None:
    for _ in range(5):
        await scenarios.opened(alone.ledger)
    await alone.caught_up()
    await alone.ledger.remove_events(before=scenarios.FAR_FUTURE, up_to=alone.services.live.feed.cursor, limit=100)
    newest = await alone.ledger.newest_cursor()
    async with stream(alone, "after=2") as found:
        snapshot, gap = await anext(found), await anext(found)
        assert (snapshot["event"], gap["event"], gap["data"]) == ("snapshot", "gap", {"topic": "all", "cursor": newest})
        await scenarios.opened(alone.ledger)
        assert (await anext(found))["data"]["cursor"] == newest + 1


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("stream=half", 400),
        ("join=output:x@0", 400),
        ("stream=full&join=all@0", 400),
        ("stream=full&join=output:x@y", 400),
        ("stream=full&join=output:" + "0" * 32, 404),
        ("topic=nothing", 404),
        ("after=x", 400),
    ],
)
async def test_what_is_wrong_with_a_request_is_found_before_the_stream_begins(
    alone: LiveApp, query: str, status: int
) -> None:
    async with httpx.AsyncClient(base_url=alone.base, trust_env=False) as client:
        assert (await client.get(f"/api/v1/events?{query}", headers=STREAM)).status_code == status


async def test_a_stream_ends_when_the_server_stops_or_its_client_leaves(alone: LiveApp) -> None:
    async with stream(alone, "after=newest") as found:
        await eventually(lambda: alone.services.closers)
        for close in list(alone.services.closers):
            await close(1012, "restarting")
        assert [block async for block in found] == []
    await alone.let_go()
    async with stream(alone, "after=newest"):
        await eventually(lambda: alone.services.closers)
    await alone.let_go()


async def test_a_quiet_stream_sends_comments(alone: LiveApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.02)
    async with (
        httpx.AsyncClient(base_url=alone.base, trust_env=False, timeout=20) as client,
        client.stream("GET", "/api/v1/events?after=newest", headers=STREAM) as answer,
    ):
        comments = 0
        async for line in answer.aiter_lines():
            comments += line.startswith(":")
            if comments == 4:
                break


async def test_json_pages_say_when_a_cursor_is_of_no_use(alone: LiveApp) -> None:
    await scenarios.opened(alone.ledger)
    newest = await alone.ledger.newest_cursor()
    async with httpx.AsyncClient(base_url=alone.base, trust_env=False) as client:
        for query in ("after=99", "after=1&ledger=" + "0" * 32, "after=99&wait=20"):
            page = (await client.get(f"/api/v1/events?{query}")).json()
            assert page == {"events": [], "cursor": newest, "gap": True, "ledger": alone.ledger.id}, query
        page = (await client.get(f"/api/v1/events?after=1&ledger={alone.ledger.id}")).json()
        assert ([event["cursor"] for event in page["events"]], page["gap"]) == ([2], False)
