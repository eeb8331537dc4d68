"""The long poll: the socket's messages, by the same subscriber, as one answer."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from tests.support import scenarios
from tests.support.live_app import LiveApp
from tests.support.waiting import eventually
from websockets.asyncio.client import connect

from dropmill.live import poll, presence
from dropmill.live.outgoing import Outgoing
from dropmill.live.poll import Gathering, Seen, parse_seen
from dropmill.model.ids import FileId, JobId
from dropmill.model.jobs import Progress
from dropmill.model.output import OutputPiece
from dropmill.ports.bus import senders_of
from dropmill.web.server.capacity import Capacity, CapacityLimits, capacity_of
from dropmill.wire import socket

ME, OTHER = "a" * 16, "b" * 16


@pytest.fixture
async def http(alone: LiveApp) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=alone.base, trust_env=False, timeout=40) as client:
        yield client


async def ask(http: httpx.AsyncClient, *joins: Mapping[str, Any], wait: float = 0, **more: Any) -> list[Any]:
    """The messages between `hello` and `poll`; both are checked."""
    answer = await http.post("/api/v1/live", json={"joins": list(joins), "wait": wait, **more})
    assert answer.status_code == 200, answer.text
    first, *messages, last = answer.json()
    assert (first["type"], last["type"]) == ("hello", "poll")
    return list(messages)


async def seen_after(http: httpx.AsyncClient, *joins: Mapping[str, Any], **more: Any) -> str:
    """The token of an answer."""
    answer = await http.post("/api/v1/live", json={"joins": list(joins), "wait": 0, **more})
    return str(answer.json()[-1]["seen"])


def of(messages: list[Any], kind: str) -> list[Any]:
    return [message for message in messages if message["type"] == kind]


def cursors(messages: list[Any]) -> list[int]:
    return [event["cursor"] for message in of(messages, "events") for event in message["events"]]


async def test_an_answer_has_what_the_socket_would_have_sent(alone: LiveApp, http: httpx.AsyncClient) -> None:
    submission_id = await scenarios.opened(alone.ledger)
    await scenarios.queued(alone.ledger, submission_id)
    await alone.caught_up()
    joins: list[dict[str, Any]] = [
        {"topic": "all", "after": 0},
        {"topic": f"submission:{submission_id}"},
        {"topic": "config", "after": 1},
    ]
    polled = await ask(http, *joins)
    async with connect(alone.address, proxy=None) as client:
        heard: list[Any] = []
        for join in joins:
            await client.send(json.dumps({"type": "join", "id": 1, **join}))
        while len(heard) < len(polled) + 1 + len(joins):
            heard.append(json.loads(await client.recv()))
    assert heard[0]["ledger"] == alone.ledger.id
    durable = ("events", "snapshot", "sending")
    assert [each for each in polled if each["type"] in durable] == [each for each in heard if each["type"] in durable]
    assert of(polled, "reply") == []


async def test_a_poll_waits_for_the_next_event_and_goes_on_from_its_cursor(
    alone: LiveApp, http: httpx.AsyncClient
) -> None:
    found: list[int] = []
    while len(found) < 6:
        waiting = asyncio.create_task(ask(http, {"topic": "all", "after": found[-1] if found else 1}, wait=25))
        await eventually(lambda: alone.services.closers)
        await scenarios.opened(alone.ledger)
        found += cursors(await waiting)
    assert found == list(range(2, 2 + len(found)))


async def test_a_refused_join_is_answered_at_once_by_its_topic_or_id(alone: LiveApp, http: httpx.AsyncClient) -> None:
    waiting = ask(
        http, {"topic": "all", "after": 1}, {"topic": "nothing", "after": 1}, {"topic": "stats", "id": 7}, wait=25
    )
    replies = of(await asyncio.wait_for(waiting, 20), "reply")
    assert [(reply["re"], reply["ok"], reply["error"]["code"]) for reply in replies] == [
        ("nothing", False, "not_found"),
        (7, False, "not_found"),
    ]


@pytest.mark.parametrize("of_ledger", [None, "0" * 32])
async def test_a_cursor_of_no_use_gets_a_snapshot(alone: LiveApp, http: httpx.AsyncClient, of_ledger: Any) -> None:
    """One of another ledger, and one from the future."""
    submission_id = await scenarios.opened(alone.ledger)
    after = 2 if of_ledger else 99
    messages = await ask(http, {"topic": f"submission:{submission_id}", "after": after, "ledger": of_ledger}, wait=25)
    assert messages[0]["type"] == "snapshot"
    assert messages[0]["state"]["id"] == submission_id
    own = await ask(http, {"topic": "all", "after": 1, "ledger": alone.ledger.id})
    assert cursors(own) == [2]


async def test_removed_history_is_a_gap_after_a_snapshot(alone: LiveApp, http: httpx.AsyncClient) -> None:
    for _ in range(5):
        await scenarios.opened(alone.ledger)
    await alone.caught_up()
    await alone.ledger.remove_events(before=scenarios.FAR_FUTURE, up_to=alone.services.live.feed.cursor, limit=100)
    messages = await ask(http, {"topic": "all", "after": 2})
    assert [message["type"] for message in messages] == ["snapshot", "gap"]
    assert messages[1]["cursor"] == await alone.ledger.newest_cursor()


async def test_output_goes_on_from_its_offset(alone: LiveApp, http: httpx.AsyncClient) -> None:
    job_id = await scenarios.running(alone.ledger, await scenarios.opened(alone.ledger))
    outputs: Any = alone.services.topics._outputs

    async def write(offset: int, data: bytes) -> None:
        await outputs.append(
            [OutputPiece(job_id=JobId(job_id), number=1, offset=offset, data=data, began_at=scenarios.FAR_FUTURE)]
        )
        alone.bus.publish({f"output:{job_id}": offset + len(data)})

    await write(0, b"one ")
    (piece,) = await ask(http, {"topic": f"output:{job_id}", "after": 0}, wait=25)
    assert (piece["text"], piece["end"]) == ("one ", 4)
    waiting = asyncio.create_task(ask(http, {"topic": f"output:{job_id}", "after": 4, "attempt": 1}, wait=25))
    await eventually(lambda: alone.services.closers)
    await write(4, b"two")
    assert [message["text"] for message in await waiting] == ["two"]


async def test_what_has_no_cursor_ends_the_wait_only_when_it_has_changed(
    alone: LiveApp, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission_id = await scenarios.opened(alone.ledger)
    file_id = await scenarios.receiving(alone.ledger, submission_id)
    await alone.caught_up()
    join = {"topic": f"submission:{submission_id}", "after": await alone.ledger.newest_cursor()}
    without = await ask(http, join, client=ME)
    assert [message["type"] for message in without] == ["sending", "presence"]
    seen = await seen_after(http, join, client=ME)
    assert await ask(http, join, seen=seen, client=ME) == []  # it has not changed
    sender = alone.services.intake.senders.sender(file_id)
    sender.begin(submission_id)
    changed = await ask(http, join, seen=seen, client=ME, wait=25)  # also if it changed between the two polls
    assert of(changed, "sending")[0]["file_ids"] == [file_id]
    seen = await seen_after(http, join, client=ME)
    waiting = asyncio.create_task(ask(http, join, seen=seen, client=ME, wait=25))
    await eventually(lambda: alone.services.closers)
    sender.end()
    alone.bus.publish({senders_of(submission_id): 9})
    assert of(await waiting, "sending")[0]["file_ids"] == []


async def test_progress_between_two_polls_comes_with_the_second(alone: LiveApp, http: httpx.AsyncClient) -> None:
    submission_id = await scenarios.opened(alone.ledger)
    await alone.caught_up()
    join = {"topic": f"submission:{submission_id}", "after": await alone.ledger.newest_cursor()}
    seen = await seen_after(http, join, client=ME)
    for value in (1, 2):
        alone.bus.report(Progress(submission_id=submission_id, file_id=FileId("f"), stage="process", value=value))
    await eventually(lambda: alone.services.live.feed.progress.number)
    messages = await ask(http, join, seen=seen, client=ME, wait=25)
    (report,) = of(messages, "progress")
    assert [file["value"] for file in report["files"]] == [2]
    again = await seen_after(http, join, seen=seen, client=ME)
    assert of(await ask(http, join, seen=again, client=ME), "progress") == []
    known: tuple[dict[str, Any], ...] = ({}, {"seen": "99.of-another-life"})  # nothing, and before a restart
    for unknown in known:
        (report,) = of(await ask(http, join, client=ME, **unknown), "progress")
        assert [file["value"] for file in report["files"]] == [2]


async def test_polls_of_one_client_are_one_viewer_and_stay_for_a_while(
    alone: LiveApp, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission_id = await scenarios.opened(alone.ledger)
    join = {"topic": f"submission:{submission_id}"}
    for _ in range(3):
        assert of(await ask(http, join, client=ME), "presence")[0]["watching"] == 0
    assert of(await ask(http, join, client=OTHER), "presence")[0]["watching"] == 1
    monkeypatch.setattr(presence, "LINGER_S", 0.0)
    await ask(http, join, client=OTHER)
    await eventually(lambda: len(alone.services.live.presence._viewers[join["topic"]]) == 1)
    assert of(await ask(http, join, client=ME), "presence")[0]["watching"] == 0


async def test_unsaved_changes_of_others_are_seen_and_ones_own_are_not(alone: LiveApp, http: httpx.AsyncClient) -> None:
    async def is_edited(client: str) -> bool:
        messages = await ask(http, {"topic": "config"}, client=client)
        return bool(of(messages, "presence")[0]["editing"])

    said = {"client": ME, "topic": "config", "is_dirty": True}
    assert (await http.post("/api/v1/presence", json=said)).status_code == 204
    assert (await is_edited(OTHER), await is_edited(ME)) == (True, False)
    async with connect(alone.address, proxy=None) as client:
        await client.send('{"type":"editing","id":1,"topic":"config","is_dirty":true}')
        while json.loads(await client.recv())["type"] != "reply":
            pass
        assert await is_edited(ME)
        assert (await http.post("/api/v1/presence", json={**said, "is_dirty": False})).status_code == 204
        assert (await is_edited(OTHER), await is_edited(ME)) == (True, True)
    await eventually(lambda: not alone.services.live.presence._editing)  # it ended with the socket
    assert not await is_edited(OTHER)


async def test_an_answer_is_full_at_a_mebibyte_and_the_next_has_the_rest(
    alone: LiveApp, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "ANSWER_BYTES_MAX", 20_000)
    await asyncio.gather(*(scenarios.opened(alone.ledger) for _ in range(600)))
    found: list[int] = []
    answers = 0
    while not found or found[-1] < 601:
        messages = await ask(http, {"topic": "all", "after": found[-1] if found else 0}, wait=25)
        found += cursors(messages)
        answers += 1
    assert found == list(range(1, 602))
    assert answers > 1


async def test_an_answer_is_compressed_if_the_client_takes_gzip(alone: LiveApp, http: httpx.AsyncClient) -> None:
    await asyncio.gather(*(scenarios.opened(alone.ledger) for _ in range(50)))
    body = {"joins": [{"topic": "all", "after": 0}], "wait": 0}
    sizes = {}
    for coding in ("gzip", "identity"):
        async with http.stream("POST", "/api/v1/live", json=body, headers={"Accept-Encoding": coding}) as answer:
            raw = b"".join([piece async for piece in answer.aiter_raw()])
            assert answer.headers.get("Content-Encoding", "identity") == coding
            assert "Accept-Encoding" in answer.headers["Vary"]
            sizes[coding] = len(raw)
            text = gzip.decompress(raw) if coding == "gzip" else raw
            assert len(cursors(json.loads(text))) == 51
    assert sizes["gzip"] < sizes["identity"] / 4


async def test_a_script_polls_by_query(alone: LiveApp, http: httpx.AsyncClient) -> None:
    await scenarios.opened(alone.ledger)
    answer = await http.get("/api/v1/live?join=all@1&join=config@0&wait=0")
    assert cursors(answer.json()) == [2, 1]
    fresh = await http.get("/api/v1/live?join=all&wait=0")
    assert of(fresh.json(), "snapshot")[0]["cursor"] == 2
    foreign = await http.get(f"/api/v1/live?join=all@1&wait=0&ledger={'0' * 32}")
    assert of(foreign.json(), "snapshot")[0]["cursor"] == 2


BAD_BODIES: list[Any] = [
    "null",
    "1",
    "[]",
    "{}",
    '{"joins":{}}',
    '{"joins":[1]}',
    '{"joins":[{}]}',
    '{"joins":[],"joins":[]}',
    '{"joins":[{"topic":5}]}',
    '{"joins":[{"topic":"all","after":1.5}]}',
    '{"joins":[{"topic":"all","after":-1}]}',
    '{"joins":[{"topic":"all","after":' + "9" * 300 + "}]}",
    '{"joins":[{"topic":"a\\u0000b"}]}',
    '{"joins":[{"topic":"\\ud800"}]}',
    '{"joins":[{"topic":"all","ledger":7}]}',
    '{"joins":[],"wait":-1}',
    '{"joins":[],"wait":"5"}',
    '{"joins":[],"wait":NaN}',
    '{"joins":[],"wait":1e999}',
    '{"joins":[],"seen":5}',
    '{"joins":[],"client":"short"}',
    '{"joins":[],"client":"' + "x" * 65 + '"}',
    '{"joins":' + "[" * 50_000,
    json.dumps({"joins": [{"topic": f"r{number}"} for number in range(257)]}),
]


@pytest.mark.parametrize("text", BAD_BODIES, ids=lambda text: text[:40])
async def test_a_body_of_another_form_is_refused(alone: LiveApp, http: httpx.AsyncClient, text: str) -> None:
    answer = await http.post("/api/v1/live", content=text, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "given",
    [
        "join=",
        "join=@5",
        "join=all@",
        "join=all@x",
        "join=all@-1",
        "join=all@1:2",
        "join=output:j@1:x",
        "join=all@01",
        "join=" + "x" * 201,
        "&".join(f"join=r{number}" for number in range(41)),
        "join=all&wait=x",
        "join=all&client=short",
        "join=all&seen=" + "x" * 201,
    ],
    ids=lambda given: given[:30],
)
async def test_a_query_of_another_form_is_refused(alone: LiveApp, http: httpx.AsyncClient, given: str) -> None:
    answer = await http.get(f"/api/v1/live?{given}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"topic": "config", "is_dirty": True}, 400),
        ({"client": ME, "topic": "config"}, 400),
        ({"client": ME, "topic": "config", "is_dirty": 1}, 400),
        ({"client": ME, "topic": "all", "is_dirty": True}, 404),
        ({"client": "<script>" * 3, "topic": "config", "is_dirty": True}, 400),
    ],
)
async def test_presence_of_another_form_is_refused(
    alone: LiveApp, http: httpx.AsyncClient, said: Any, status: int
) -> None:
    assert (await http.post("/api/v1/presence", json=said)).status_code == status
    assert alone.services.live.presence._editing == {}


async def test_a_strange_token_is_as_none(alone: LiveApp, http: httpx.AsyncClient) -> None:
    for seen in ("", "x", "9" * 70 + ".y", "-1.z", "999999.0", "1" * 500):
        assert [message["type"] for message in await ask(http, {"topic": "config", "after": 1}, seen=seen, wait=0)] in (
            ["presence"],
            [],
        )
    assert parse_seen(Seen(3, "abc").text()) == Seen(3, "abc")


async def test_a_client_that_leaves_leaves_nothing(alone: LiveApp, http: httpx.AsyncClient) -> None:
    capacity = capacity_of(alone.app)
    for _ in range(5):
        waiting = asyncio.create_task(ask(http, {"topic": "all", "after": 1}, wait=25))
        await eventually(lambda: alone.services.closers)
        assert capacity.sockets == 1
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await alone.let_go()
    assert capacity.sockets == 0


async def test_a_poll_is_answered_when_the_server_stops(alone: LiveApp, http: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(ask(http, {"topic": "all", "after": 1}, wait=25))
    await eventually(lambda: alone.services.closers)
    for close in list(alone.services.closers):
        await close(1012, "restarting")
    assert await asyncio.wait_for(waiting, 20) == []


async def test_polls_and_streams_count_as_sockets(
    alone: LiveApp, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dropmill.web.server import capacity

    capacity.install(alone.app, Capacity(CapacityLimits(sockets_per_client=2)))
    waiting = [asyncio.create_task(ask(http, {"topic": "all", "after": 1}, wait=25)) for _ in range(2)]
    await eventually(lambda: len(alone.services.closers) == 2)
    refused = [
        await http.get("/api/v1/live?join=all@1"),
        await http.post("/api/v1/live", json={"joins": []}),
        await http.get("/api/v1/events?after=1&wait=20"),
        await http.get("/api/v1/events?after=1", headers={"Accept": "text/event-stream"}),
    ]
    assert [answer.status_code for answer in refused] == [429] * 4
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    await alone.let_go()
    async with http.stream("GET", "/api/v1/events?after=1", headers={"Accept": "text/event-stream"}):
        await eventually(lambda: capacity_of(alone.app).sockets == 1)
    await eventually(lambda: capacity_of(alone.app).sockets == 0)


async def test_a_ledger_that_fails_is_503_and_nothing_stays(
    alone: LiveApp, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dropmill.model.errors import StorageUnavailable

    async def fail(*_: Any, **__: Any) -> Any:
        raise StorageUnavailable("not now")

    await scenarios.opened(alone.ledger)
    with monkeypatch.context() as broken:
        broken.setattr(alone.ledger, "events", fail)
        answer = await http.post("/api/v1/live", json={"joins": [{"topic": "all", "after": 0}], "wait": 25})
    assert answer.status_code in (200, 503)
    if answer.status_code == 200:
        assert of(answer.json(), "reply")[0]["error"]["code"] == "storage_unavailable"
    await alone.let_go()


# --- gathering alone -------------------------------------------------------------------------------------------------


async def test_a_full_answer_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "ANSWER_BYTES_MAX", 100)
    gathering = Gathering(None)
    message = Outgoing(socket.gap("all", 1))
    async with asyncio.timeout(5):
        for _ in range(10):
            if gathering.is_full.is_set():
                break
            sending = asyncio.ensure_future(gathering.send(message))
            await asyncio.sleep(0)
            if not sending.done():
                assert gathering.is_full.is_set()
                sending.cancel()
    messages, _ = gathering.answer(message, 0)
    assert 1 < len(messages) < 10
