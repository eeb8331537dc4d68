"""The socket of events and the long poll: with a foreign client against a real server, and against its clock."""

import asyncio
import contextlib
import gc
import json
import threading
from typing import Any

import pytest
from quart import Websocket
from quart.ctx import WebsocketContext
from tests.support.live_app import LiveApp
from tests.support.scenarios import CLIENT
from tests.support.server import Server, hear
from tests.support.serving_in_process import end_of
from tests.support.waiting import eventually, wait_until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.ids import new_submission_id
from dropmill.web.api import live
from dropmill.web.server import websocket
from dropmill.web.server.websocket import WS_FLOOD


def ask(client: ClientConnection, **message: Any) -> Any:
    """The reply to a message."""
    client.send(json.dumps({"id": 7, **message}))
    reply = hear(client, "reply")
    assert reply["re"] == 7
    return reply


def hear_until(client: ClientConnection, name: str) -> list[Any]:
    """Events until one of that name."""
    gathered: list[Any] = []
    while not gathered or name not in [event["name"] for event in gathered]:
        gathered += hear(client, "events")["events"]
    return gathered


def read_on(client: ClientConnection) -> None:
    """Take what comes, to the end."""
    with contextlib.suppress(ConnectionClosed):
        for _ in client:
            pass


# --- a real server ---------------------------------------------------------------------------------------------------


def test_the_first_word_is_hello(server: Server) -> None:
    with server.live() as client:
        assert client.subprotocol is None
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
    with server.live(subprotocols=["other", "dropmill.v1"]) as client:
        assert client.subprotocol == "dropmill.v1"


def test_a_join_is_answered_before_its_data(server: Server) -> None:
    server.settled(server.send(("a", b"a"))["id"])
    with server.live() as client:
        for after in (None, 0):
            client.send(json.dumps({"type": "join", "id": "x", "topic": "all", "after": after}))
            assert hear(client) == {"type": "reply", "re": "x", "ok": True, "error": None}
            assert hear(client)["type"] == ("snapshot" if after is None else "events")


@pytest.mark.parametrize("topic", ["nothing", "account:bob", "submission:" + "0" * 32, "stats"])
def test_a_topic_that_there_is_not_is_refused_by_every_transport(server: Server, topic: str) -> None:
    """They all come in by one door, so none lets in whom another refuses."""
    path = f"/api/v1/events?topic={topic}"
    for accept in ("application/json", "text/event-stream"):
        assert server.http.get(path, headers={"Accept": accept}).status_code == 404
    with server.live() as client:
        assert ask(client, type="join", topic=topic)["error"]["code"] == "not_found"


def test_a_submission_is_told_whole_and_followed_from_there(server: Server) -> None:
    opened = server.http.post("/api/v1/submissions", json={"files": []}).json()["id"]
    with server.live() as client:
        assert ask(client, type="join", topic=f"submission:{opened}")["ok"]
        snapshot = hear(client, "snapshot")
        assert snapshot["state"]["id"] == opened
        assert snapshot["state"]["state"] == "open"

        server.http.post(f"/api/v1/submissions/{opened}/files?seal=1", files={"f": ("told.txt", b"x")})
        received = hear_until(client, "submission.settled")

    names = [event["name"] for event in received if event["name"] != "client.identified"]
    assert names[:3] == ["upload.started", "upload.stored", "job.queued"]
    assert names[-2:] == ["job.settled", "submission.settled"]
    assert all(event["subject"]["submission_id"] == opened for event in received)
    assert all(event["cursor"] > snapshot["cursor"] for event in received if event["name"] != "client.identified")


def test_whoever_comes_back_misses_nothing_and_sees_nothing_twice(server: Server) -> None:
    seen: list[int] = []
    for round_ in range(4):
        with server.live() as client:
            assert ask(client, type="join", topic="all", after=seen[-1] if seen else 0)["ok"]
            submission = server.send((f"{round_}", b"x"))["id"]
            while True:
                message = hear(client, "events")
                seen += [event["cursor"] for event in message["events"]]
                assert message["cursor"] == seen[-1]
                if any(
                    event["name"] == "job.settled" and event["subject"]["submission_id"] == submission
                    for event in message["events"]
                ):
                    break  # the connection ends here, with more to come
    assert seen == list(range(1, len(seen) + 1))


def test_a_cursor_from_the_future_begins_afresh(server: Server) -> None:
    with server.live() as client:
        assert ask(client, type="join", topic="all", after=10**12)["ok"]
        assert hear(client)["type"] == "snapshot"


def test_what_was_left_is_heard_no_more(server: Server) -> None:
    with server.live() as client:
        ask(client, type="join", topic="all")
        assert hear(client)["type"] == "snapshot"
        assert ask(client, type="leave", topic="all")["ok"]
        again = ask(client, type="leave", topic="all")
        assert again["error"]["code"] == "not_found"
        server.settled(server.send(("unheard", b"x"))["id"])
        assert ask(client, type="leave", topic="all")["error"]["code"] == "not_found"  # and not an event before it


def test_output_is_streamed_from_an_offset(server: Server) -> None:
    job = server.settled(server.send(("out.txt", b"12345"))["id"])["files"][0]["job"]["id"]
    whole = server.http.get(f"/api/v1/jobs/{job}/output").content
    for start in (0, 3, len(whole)):
        with server.live() as client:
            assert ask(client, type="join", topic=f"output:{job}", after=start, attempt=1)["ok"]
            offset = start
            while offset < len(whole):
                piece = hear(client, "output")
                assert (piece["job_id"], piece["attempt"], piece["offset"]) == (job, 1, offset)
                assert whole[offset : piece["end"]].decode() == piece["text"]
                offset = piece["end"]
            assert ask(client, type="leave", topic=f"output:{job}")["ok"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "join", "topic": "nothing"}, "not_found"),
        ({"type": "join", "topic": "stats"}, "not_found"),
        ({"type": "join", "topic": "submission:none"}, "not_found"),
        ({"type": "join", "topic": "output:none"}, "not_found"),
        ({"type": "cancel", "job_id": "none"}, "not_found"),
        ({"type": "retry", "job_id": "none"}, "not_found"),
        ({"type": "join"}, "bad_message"),
        ({"type": "shout"}, "bad_message"),
        ({}, "bad_message"),
    ],
)
def test_what_cannot_be_done_is_told_and_the_connection_stays(server: Server, message: Any, code: str) -> None:
    with server.live() as client:
        refused = ask(client, **message)
        assert (refused["ok"], refused["error"]["code"]) == (False, code)
        assert refused["error"]["detail"]
        assert ask(client, type="join", topic="all")["ok"]


def test_a_job_is_retried_over_the_socket(server: Server) -> None:
    job = server.settled(server.send(("r", b"x"))["id"])["files"][0]["job"]["id"]
    with server.live() as client:
        assert ask(client, type="cancel", job_id=job)["error"]["code"] == "illegal_transition"
        assert ask(client, type="retry", job_id=job)["ok"]
    wait_until(lambda: len(server.get(f"/jobs/{job}")["attempts"]) == 2)


def test_a_flood_of_messages_ends_the_connection(server: Server) -> None:
    with server.live() as client:
        reading = threading.Thread(target=read_on, args=(client,))
        reading.start()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100 * live.MESSAGES_BURST):
                client.send('{"type":"leave","id":1,"topic":"x"}')
        reading.join()
        assert client.close_code == WS_FLOOD
        assert str(client.close_reason).startswith("Too many messages")


def test_a_config_save_is_heard_on_its_topic(server: Server) -> None:
    with server.live() as client:
        assert ask(client, type="join", topic="config")["ok"]
        assert hear(client, "snapshot")["state"] is None
        before = server.http.get("/api/v1/config")
        saved = server.http.put(
            "/api/v1/config", content=before.content + b"# heard\n", headers={"If-Match": before.headers["ETag"]}
        )
        (event,) = hear(client, "events")["events"]
    assert event["name"] == "config.saved"
    assert f'"{event["data"]["sha256"]}"' == saved.headers["ETag"]


# --- the handler alone, with its clock in the test's hand ------------------------------------------------------------


async def test_a_quiet_connection_ticks(alone: LiveApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.02)
    async with connect(alone.address, proxy=None) as client:
        assert json.loads(await client.recv())["heartbeat"] == 0.02
        for _ in range(3):
            tick = json.loads(await client.recv())
            assert tick["type"] == "tick"
            assert tick["at"].endswith("Z")
    await alone.let_go()


async def test_a_reader_that_is_too_slow_is_let_go_and_told_why(
    alone: LiveApp, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SEND_TIMEOUT_S", 0.1)
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.1)
    opened = [new_submission_id() for _ in range(500)]
    await asyncio.gather(*(ledger.open_submission(submission, CLIENT, None) for submission in opened))
    async with connect(alone.address, proxy=None, max_queue=1) as slow:
        for _ in range(200):  # 150 KiB each
            await slow.send('{"type":"join","topic":"all","after":0}')
        await alone.let_go()
        assert (await end_of(slow))[0] == live.WS_TOO_SLOW


async def test_closing_is_not_held_up_by_a_reader_that_does_not_read(
    alone: LiveApp, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.1)
    opened = [new_submission_id() for _ in range(500)]
    await asyncio.gather(*(ledger.open_submission(submission, CLIENT, None) for submission in opened))
    async with connect(alone.address, proxy=None, max_queue=1) as slow:
        for _ in range(200):
            await slow.send('{"type":"join","topic":"all","after":0}')
        await asyncio.sleep(0.5)
        async with asyncio.timeout(5):
            await asyncio.gather(*(close(1012, "restarting") for close in list(alone.services.closers)))
            await alone.let_go()
        assert await end_of(slow) == (1012, "restarting")


async def test_a_long_poll_ends_with_the_first_event(alone: LiveApp, ledger: SqliteLedger) -> None:
    poll = asyncio.create_task(alone.app.test_client().get("/api/v1/events?after=1&wait=25"))
    await eventually(lambda: alone.services.closers)
    await ledger.open_submission(new_submission_id(), CLIENT, None)
    found = await (await asyncio.wait_for(poll, 10)).get_json()
    assert [event["name"] for event in found["events"]] == ["submission.opened"]
    assert found["cursor"] == 2
    assert not alone.services.closers


async def test_events_are_read_backwards(alone: LiveApp, ledger: SqliteLedger) -> None:
    opened = [new_submission_id() for _ in range(5)]
    for submission_id in opened:
        await ledger.open_submission(submission_id, CLIENT, None)
    client = alone.app.test_client()
    before = 7
    read: list[Any] = []
    while before:
        answer = await client.get(f"/api/v1/events?before={before}&limit=2")
        page = await answer.get_json()
        assert set(page) == {"events", "cursor", "gap", "ledger"}
        assert len(page["events"]) <= 2
        assert not page["gap"]
        before, read = page["cursor"], [*page["events"], *read]
    assert [event["cursor"] for event in read] == [1, 2, 3, 4, 5, 6]
    one = await (await client.get(f"/api/v1/events?topic=submission:{opened[1]}&before=99")).get_json()
    assert [event["cursor"] for event in one["events"]] == [3]
    for path, accept in (
        ("before=5&after=1", "*/*"),
        ("before=5&after=newest", "*/*"),
        ("before=5&wait=1", "*/*"),
        ("before=5", "text/event-stream"),
        ("before=newest", "*/*"),
        ("before=-1", "*/*"),
    ):
        answer = await client.get(f"/api/v1/events?{path}", headers={"Accept": accept})
        assert (answer.status_code, (await answer.get_json())["code"]) == (400, "bad_parameter"), path


async def test_a_long_poll_ends_when_the_server_stops(alone: LiveApp) -> None:
    poll = asyncio.create_task(alone.app.test_client().get("/api/v1/events?after=1&wait=25"))
    await eventually(lambda: alone.services.closers)
    for close in list(alone.services.closers):
        await close(1012, "restarting")
    found = await (await asyncio.wait_for(poll, 10)).get_json()
    assert (found["events"], found["cursor"]) == ([], 1)
    assert not alone.services.closers


async def test_an_idle_socket_keeps_neither_its_handshake_nor_many_tasks(alone: LiveApp) -> None:
    """What a socket holds while nothing happens is the server's memory with a thousand of them."""
    count, before = 20, len(asyncio.all_tasks())
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(alone.address, proxy=None)) for _ in range(count)]
        for client in clients:
            assert json.loads(await client.recv())["type"] == "hello"
        own = len([task for task in asyncio.all_tasks() if "websockets" in repr(task)])
        assert len(asyncio.all_tasks()) - before - own <= 5 * count
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, Websocket | WebsocketContext)]
    await alone.let_go()
