"""`AsyncClient.follow`: each event once, whatever happens to the connection, and whichever transport brings it."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.support.faulty_proxy import Proxy
from tests.support.server import Server
from tests.support.waiting import PATIENCE_S, wait_until
from websockets.asyncio.server import ServerConnection, serve

from dropmill.client import AsyncClient, ClientError, Gap, NotDropmill, Refused, Unreachable, following

Make = Callable[..., Server]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


class Watcher:
    """Follows a topic in a task of its own and keeps what it gets."""

    def __init__(self, client: AsyncClient, topic: str = "all", after: int | None = 0, **options: Any) -> None:
        self.events: list[Any] = []
        self.gaps: list[Gap] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._watch(client.follow(topic, after, on_gap=self.gaps.append, **options)))

    async def _watch(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            self.events.append(event)
            self._more.set()

    @property
    def cursors(self) -> list[int]:
        """Of what it has got, in order."""
        return [event["cursor"] for event in self.events]

    async def until(self, is_there: Callable[[], bool]) -> None:
        """Wait until it holds; the follower's own error if it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_there():
                more = asyncio.create_task(self._more.wait())
                await asyncio.wait((more, self.task), return_when=asyncio.FIRST_COMPLETED)
                more.cancel()
                if self.task.done():
                    self.task.result()
                self._more.clear()

    async def until_settled(self, submission: Any) -> None:
        """Wait for the end of a submission."""
        wanted = ("submission.settled", submission["id"])
        await self.until(
            lambda: any((each["name"], each["subject"]["submission_id"]) == wanted for each in self.events)
        )

    async def end(self) -> None:
        """Stop following."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def watching(*words: Any, **options: Any) -> AsyncIterator[Watcher]:
    watcher = Watcher(*words, **options)
    try:
        yield watcher
    finally:
        await watcher.end()


async def sent(server: Server, *names: str) -> Any:
    """A submission of small files, sent while the follower goes on."""
    return await asyncio.to_thread(server.send, *((name, b"x") for name in names))


async def restarted(server: Server, end: Callable[[], Any]) -> None:
    port = server.url.rpartition(":")[2]
    await asyncio.to_thread(end)
    server.flags = ("--bind", f"127.0.0.1:{port}", *server.flags[2:])
    await asyncio.to_thread(server.start)


async def test_it_gives_cursors_without_a_hole_through_two_restarts(make_server: Make) -> None:
    server = make_server().start()
    async with watching(AsyncClient(server.url)) as watcher:
        await watcher.until_settled(await sent(server, "1.txt"))
        await restarted(server, lambda: server.stop(signal.SIGTERM))
        await watcher.until_settled(await sent(server, "2.txt", "3.txt"))
        await restarted(server, server.kill)
        await watcher.until_settled(await sent(server, "4.txt"))
    assert watcher.cursors == list(range(1, len(watcher.cursors) + 1))
    assert watcher.events == server.events()[: len(watcher.events)]
    assert watcher.gaps == []


async def test_none_begins_now_and_a_cursor_after_it(make_server: Make) -> None:
    server = make_server().start()
    first = await sent(server, "before.txt")
    server.settled(first["id"])
    newest = server.newest()
    client = AsyncClient(server.url)
    async with watching(client, "all", None) as now, watching(client, "all", 2) as later:
        await later.until(lambda: len(later.events) == newest - 2)
        second = await sent(server, "after.txt")
        await now.until_settled(second)
        await later.until_settled(second)
    assert now.cursors[0] > newest - 1
    assert later.cursors == list(range(3, later.cursors[-1] + 1))


async def test_of_one_topic_it_gives_that_alone(make_server: Make) -> None:
    server = make_server().start()
    other, wanted = await sent(server, "other.txt"), await sent(server, "a.txt", "b.txt")
    async with watching(AsyncClient(server.url), f"submission:{wanted['id']}") as watcher:
        await watcher.until_settled(wanted)
        server.settled(other["id"])
    assert watcher.events == server.events(f"submission:{wanted['id']}")[: len(watcher.events)]


@pytest.mark.parametrize("sockets", ["pass", "refuse", "swallow"])
async def test_twenty_cuts_cost_no_event_by_socket_or_by_poll(
    make_server: Make, sockets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "OPEN_S", 0.5)
    server = make_server().start()
    with Proxy(lambda: server.host) as proxy:
        proxy.sockets = sockets
        async with watching(AsyncClient(proxy.url)) as watcher:
            await watcher.until_settled(await sent(server, "first.txt"))
            for number in range(20):
                submission = await sent(server, f"{number}-a.txt", f"{number}-b.txt")
                await asyncio.to_thread(proxy.cut)
            await watcher.until_settled(submission)
            asked = proxy.sockets_asked
    happened = server.events()
    assert watcher.events == happened[: len(watcher.events)]
    assert asked > 1 if sockets == "pass" else asked == 1  # a blocked socket is not tried again soon


async def test_sockets_that_live_for_a_moment_only_still_bring_everything(make_server: Make) -> None:
    server = make_server().start()
    with Proxy(lambda: server.host) as proxy:
        proxy.socket_life_s = 0.3
        async with watching(AsyncClient(proxy.url)) as watcher:
            while proxy.sockets_asked < 4:
                await watcher.until_settled(await sent(server, "a.txt"))
    assert watcher.cursors == list(range(1, len(watcher.cursors) + 1))


async def test_a_follower_that_polls_goes_back_to_the_socket(
    make_server: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "BLOCKED_FIRST_S", 0.2)
    monkeypatch.setattr(following, "POLL_WAIT_S", 0)
    server = make_server().start()
    with Proxy(lambda: server.host) as proxy:
        proxy.sockets = "refuse"
        async with watching(AsyncClient(proxy.url)) as watcher:
            await watcher.until_settled(await sent(server, "polled.txt"))
            proxy.sockets = "pass"
            asked = proxy.sockets_asked
            await asyncio.to_thread(wait_until, lambda: proxy.sockets_asked > asked)
            await watcher.until_settled(await sent(server, "by the socket.txt"))
    assert watcher.cursors == list(range(1, len(watcher.cursors) + 1))


async def test_what_it_cannot_follow_it_says_at_once(make_server: Make) -> None:
    server = make_server().start()
    for topic in ("submission:none", "nothing"):
        with pytest.raises(Refused) as refused:
            await anext(AsyncClient(server.url).follow(topic, 0))
        assert refused.value.status == 404
    server.stop()
    with pytest.raises(Unreachable):
        await anext(AsyncClient(server.url).follow("all", 0))
    for topic, after, why in (("output:x", 0, "stream"), ("all", -1, "cursor")):
        with pytest.raises(ValueError, match=why):
            await anext(AsyncClient(server.url).follow(topic, after))
    with pytest.raises(ClientError):
        AsyncClient("ftp://nowhere")


async def test_a_server_that_stays_away_is_given_up_after_its_patience(make_server: Make) -> None:
    server = make_server().start()
    waits: list[tuple[str, float]] = []
    client = AsyncClient(server.url, patience_s=0.0, on_wait=lambda *told: waits.append(told))
    watcher = Watcher(client)
    await watcher.until(lambda: watcher.events != [])
    await asyncio.to_thread(server.kill)
    with pytest.raises(Unreachable):
        await watcher.until(lambda: False)
    assert waits


async def test_a_follower_that_ends_leaves_no_socket(make_server: Make) -> None:
    server = make_server("--max-sockets", "1").start()
    for _ in range(3):  # the server would refuse the second socket
        events = AsyncClient(server.url, patience_s=0.0).follow("all", 0)
        assert (await anext(events))["cursor"] == 1
        await events.aclose()


# --- a server that says what a test wants ----------------------------------------------------------------------------

Script = Callable[[ServerConnection, Any], Awaitable[None]]
HELLO = {"type": "hello", "protocol": 1, "server_time": "2026-01-01T00:00:00Z", "heartbeat": 15, "spread_s": 0}


def event(cursor: int) -> dict[str, Any]:
    return {"cursor": cursor, "at": "2026-01-01T00:00:00Z", "name": "config.saved", "subject": {}, "data": {}}


@contextlib.asynccontextmanager
async def scripted(*scripts: Script, ledger: str = "one") -> AsyncIterator[str]:
    """The URL of a server whose sockets run one script after the other."""
    left = list(scripts)

    async def take(connection: ServerConnection) -> None:
        await say(connection, HELLO | {"ledger": ledger})
        join = json.loads(await connection.recv())
        await say(connection, {"type": "reply", "re": join["id"], "ok": True, "error": None})
        await left.pop(0)(connection, join)
        if left:
            await connection.close(1012)
        else:
            await connection.wait_closed()

    async with serve(take, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def say(connection: ServerConnection, message: Any) -> None:
    await connection.send(json.dumps(message))


async def test_an_event_that_comes_twice_is_given_once_and_joins_follow_the_last() -> None:
    joins: list[Any] = []

    async def first(connection: ServerConnection, join: Any) -> None:
        joins.append(join)
        await say(connection, {"type": "events", "topic": "all", "cursor": 2, "events": [event(1), event(2)]})

    async def second(connection: ServerConnection, join: Any) -> None:
        joins.append(join)
        await say(connection, {"type": "tick", "at": "2026-01-01T00:00:00Z", "spread_s": 0})
        await say(connection, {"type": "events", "topic": "all", "cursor": 3, "events": [event(2), event(3)]})

    async with scripted(first, second) as url, watching(AsyncClient(url)) as watcher:
        await watcher.until(lambda: len(watcher.events) == 3)
    assert watcher.cursors == [1, 2, 3]
    assert [(join["after"], join["ledger"]) for join in joins] == [(0, "one"), (2, "one")]


async def test_a_cursor_of_another_ledger_is_said_and_the_new_one_followed() -> None:
    async def other(connection: ServerConnection, join: Any) -> None:
        assert (join["after"], join["ledger"]) == (50, "old")
        await say(connection, {"type": "snapshot", "topic": "all", "cursor": 70, "state": None})
        await say(connection, {"type": "events", "topic": "all", "cursor": 71, "events": [event(71)]})

    async with scripted(other, ledger="new") as url:
        client = AsyncClient(url)
        async with watching(client, "all", 50, ledger="old") as watcher:
            await watcher.until(lambda: watcher.events != [])
        assert client.ledger == "new"
    assert watcher.cursors == [71]
    assert watcher.gaps == [Gap(reason="other_ledger", cursor=70)]


async def test_after_a_gap_it_still_gives_what_the_server_has(make_server: Make) -> None:
    """The real gap is made by a server that removes events; here the socket alone says so."""
    server = make_server().start()
    server.settled((await sent(server, "a.txt"))["id"])
    newest = server.newest()

    async def gap(connection: ServerConnection, join: Any) -> None:
        await say(connection, {"type": "snapshot", "topic": "all", "cursor": newest, "state": None})
        await say(connection, {"type": "gap", "topic": "all", "cursor": newest})
        await say(connection, {"type": "events", "topic": "all", "cursor": newest + 1, "events": [event(newest + 1)]})

    async with scripted(gap) as socket_url:
        hosts = {"socket": socket_url.partition("://")[2], "http": server.host}
        with Proxy(lambda: hosts["http"], lambda: hosts["socket"]) as proxy:
            async with watching(AsyncClient(proxy.url), "all", 1) as watcher:
                await watcher.until(lambda: watcher.cursors[-1:] == [newest + 1])
    assert watcher.cursors == list(range(2, newest + 2))
    assert watcher.gaps == [Gap(reason="removed", cursor=newest)]


async def test_another_servers_socket_is_not_taken_for_dropmills() -> None:
    async def take(connection: ServerConnection) -> None:
        await connection.send("welcome")
        await connection.wait_closed()

    async with serve(take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotDropmill):
            await anext(AsyncClient(f"127.0.0.1:{port}").follow("all", 0))
