"""Events as they happen: over the socket, or by long polls where something on the way blocks it.

A follower owns a cursor. Whatever breaks, it goes on after that cursor, so no event is missed and none is given twice;
which transport brings them makes no difference. It polls only while HTTP works and the socket does not. A restart of
the server (1012) or one that is overloaded (503) is no reason to poll: it waits.

This module knows the public contract (docs/live.md) and nothing of the server's code.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from dropmill.client.address import TIMEOUT, ServerAddress
from dropmill.client.connection import PATIENCE_S, TRY_AGAIN, WAIT_FIRST_S, WAIT_MOST_S
from dropmill.client.errors import ClientError, NotDropmill, Refused, Unreachable, json_of
from dropmill.wire.encoding import Json
from dropmill.wire.events import RemoteEvents, remote_events

OPEN_S: Final = 10.0
"""The socket counts as blocked if its handshake or its first message takes longer."""

SILENT_HEARTBEATS: Final = 2.5  # a tick may be late; two that are missing mean a dead connection
POLL_WAIT_S: Final = 25  # of one long poll
BLOCKED_FIRST_S: Final = 15.0
BLOCKED_MOST_S: Final = 600.0
"""While it polls, a follower tries the socket again after the first, then after twice as long, up to the second. Where
the socket has worked before, it stays at the first: the socket is more likely to return."""

_PAGE: Final = 1000  # events of one poll
_MESSAGE_MAX: Final = 16 * 1024 * 1024  # a message of events has 1 MiB; one event, or a snapshot, may be larger
_CLOSE_S: Final = 1.0  # for the closing handshake: nothing depends on it
_NO_CLOSE: Final = 1006  # the connection ended without a close frame
_RESTART: Final = 1012
_TRY_AGAIN_LATER: Final = 1013


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Events that a follower asked for cannot be given.

    Attributes:
        reason: `removed`: the server removed some of them (`--keep-events`); those it still has follow. `other_ledger`:
            the server has another ledger than the one the cursor came from, for example a restored backup; only its
            events after `cursor` follow, and cursors of the old ledger mean nothing any more.
        cursor: where the missing ones end, in the server's ledger.
    """

    reason: Literal["removed", "other_ledger"]
    cursor: int


class AsyncClient:
    """Follows the events of one server.

    Attributes:
        url: of the server, without a slash at its end.
        ledger: id of the ledger that the server has now; keep it beside a cursor that outlives the program. None until
            the server has said it.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        insecure_http: bool = False,
        patience_s: float = PATIENCE_S,
        on_wait: Callable[[str, float], None] = lambda reason, seconds: None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            server: its URL; http if it has no scheme.
            token: for `Authorization: Bearer`; None sends none.
            insecure_http: whether the token may cross a network in plain http.
            patience_s: how long a server that was reached before may be away, in seconds, without any progress.
            on_wait: called before the server is tried again, with the reason and the seconds until then.

        Raises:
            ClientError: `server` is not a URL of http or https; or the token would cross a network in plain http.
        """
        self._address = ServerAddress(server, token, insecure_http=insecure_http)
        self._patience_s = patience_s
        self._on_wait = on_wait
        self.url = self._address.url
        self.ledger: str | None = None

    async def follow(
        self,
        topic: str,
        after: int | None,
        *,
        ledger: str | None = None,
        on_gap: Callable[[Gap], None] = lambda gap: None,
    ) -> AsyncGenerator[Json, None]:
        """Every event of a topic after a cursor, forever: none missed, none twice, in cursor order.

        Each call has a connection of its own, closed when the generator is: at the end of the `async for`, by `aclose`,
        or when its task is cancelled. Several may run at once.

        Args:
            topic: `all`, `config` or `submission:<id>`, as in docs/live.md. `output:<job_id>` has no events.
            after: a cursor; 0 is the beginning, None this moment.
            ledger: id of the ledger that the cursor came from, if it was kept; None trusts the cursor.
            on_gap: called when events after the cursor cannot be given any more.

        Yields:
            Event of the contract: `cursor`, `at`, `name`, `subject`, `data`.

        Raises:
            Refused: there is no such topic, or the caller may not follow it.
            Unreachable: the server was never reached, or was away for longer than `patience_s`.
            NotDropmill: something else answers.
            ValueError: `topic` is a stream of output, or `after` is negative.
        """
        if topic.startswith("output:"):
            raise ValueError(f"{topic} is a stream of output, not a topic of events.")
        if after is not None and after < 0:
            raise ValueError("A cursor is 0 or more.")
        async with _Follower(self, topic, after, ledger, on_gap) as follower:
            while True:
                for event in await follower.next():
                    yield event


class _Lost(Exception):
    """The connection is gone; the server may be back in a moment.

    Attributes:
        spread_s: come back at a random moment within so many seconds; None: back off.
    """

    def __init__(self, error: ClientError, spread_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.spread_s = spread_s


class _Follower:
    """One topic, the position in it, and the transport that is used now."""

    def __init__(
        self, client: AsyncClient, topic: str, after: int | None, ledger: str | None, on_gap: Callable[[Gap], None]
    ) -> None:
        self._client = client
        self._address = client._address
        self._topic = topic
        self._after = after
        self._ledger = ledger  # that `after` belongs to
        self._on_gap = on_gap
        self._gap_at: int | None = None
        self._http = httpx.AsyncClient(base_url=self._address.url, headers=self._address.headers, timeout=TIMEOUT)
        self._socket: ClientConnection | None = None
        self._heartbeat_s = 15.0
        self._spread_s = 1.0  # as the server said last
        self._has_worked = False  # the socket
        self._blocked_s = BLOCKED_FIRST_S
        self._socket_due = 0.0
        self._failures = 0
        self._away_since: float | None = None

    async def __aenter__(self) -> "_Follower":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop_socket()
        await self._http.aclose()

    async def next(self) -> Sequence[Json]:
        """The next events; none if there was only a heartbeat. Waits while the server is away.

        Cancelling loses nothing: what was not returned is asked for again.
        """
        try:
            if self._socket is None and time.monotonic() >= self._socket_due:
                await self._open_socket()
            return await (self._poll() if self._socket is None else self._receive(self._socket))
        except _Lost as lost:
            await self._drop_socket()
            await self._wait(lost)
        except Unreachable as error:
            await self._wait(_Lost(error))
        except Refused as error:
            if error.status not in TRY_AGAIN:
                raise
            await self._wait(_Lost(error))
        return ()

    async def _wait(self, lost: _Lost) -> None:
        """Wait before another attempt, at random, so that those who lost the same server do not return together."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if not self._address.was_reached or now - self._away_since > self._client._patience_s:
            raise lost.error
        longest = min(WAIT_MOST_S, WAIT_FIRST_S * 2**self._failures) if lost.spread_s is None else lost.spread_s
        self._failures = min(self._failures + 1, 10)
        seconds = round(random.uniform(0, longest), 1)  # noqa: S311 - no secret
        self._client._on_wait(str(lost.error), seconds)
        await asyncio.sleep(seconds)

    def _has_progressed(self) -> None:
        self._failures = 0
        self._away_since = None

    # --- the socket --------------------------------------------------------------------------------------------------

    async def _open_socket(self) -> None:
        """Open the socket and join. Where it is blocked, leave `_socket` None: then the next events are polled for."""
        try:
            self._socket = await self._connected()
            await self._greet(self._socket)
        except (OSError, WebSocketException) as error:  # a timeout is an OSError
            await self._drop_socket()
            # Either the server is away, which this raises, or something on the way lets no socket through.
            await self._get({"topic": self._topic, "after": "newest", "limit": 1})
            if isinstance(error, ConnectionRefusedError):  # it has just come back
                raise _Lost(self._address.unreachable(error)) from None
            self._socket_due = time.monotonic() + self._blocked_s
            if not self._has_worked:
                self._blocked_s = min(2 * self._blocked_s, BLOCKED_MOST_S)

    async def _connected(self) -> ClientConnection:
        scheme, _, rest = self._address.url.partition("://")
        is_secure = scheme == "https"
        try:
            return await connect(
                f"{'wss' if is_secure else 'ws'}://{rest}/api/v1/live",
                additional_headers=self._address.headers,
                user_agent_header=None,  # it is one of them
                compression=None,
                open_timeout=OPEN_S,
                close_timeout=_CLOSE_S,
                ping_interval=None,  # the server's ticks say that the connection is alive
                max_size=_MESSAGE_MAX,
                ssl=httpx.create_ssl_context() if is_secure else None,
            )
        except InvalidStatus as error:
            if (status := error.response.status_code) in TRY_AGAIN:
                raise _Lost(Unreachable(f"{self._address.url} answered {status}.")) from None
            raise

    async def _greet(self, socket: ClientConnection) -> None:
        """Wait for `hello`, and join after the cursor."""
        try:
            async with asyncio.timeout(OPEN_S):
                hello = self._parsed(await socket.recv(), "hello")
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code in (_RESTART, _TRY_AGAIN_LATER):
                raise self._lost(closed) from None
            raise
        self._has_worked = self._address.was_reached = True
        self._blocked_s = BLOCKED_FIRST_S
        self._heartbeat_s = float(hello["heartbeat"])
        self._spread_s = float(hello["spread_s"])
        self._client.ledger = hello["ledger"]
        if self._ledger is None:
            self._ledger = self._client.ledger
        join = {"type": "join", "id": 1, "topic": self._topic, "after": self._after, "ledger": self._ledger}
        await socket.send(json.dumps(join))

    async def _receive(self, socket: ClientConnection) -> Sequence[Json]:
        """The events of the next message."""
        if self._gap_at is not None:
            return await self._catch_up(self._gap_at)
        try:
            async with asyncio.timeout(self._heartbeat_s * SILENT_HEARTBEATS):
                message = self._parsed(await socket.recv())
        except ConnectionClosed as closed:
            raise self._lost(closed) from None
        except TimeoutError:
            raise _Lost(Unreachable(f"{self._address.url} has sent nothing for a while.")) from None
        match message["type"]:
            case "reply" if not message["ok"]:
                # HTTP refuses the topic as well, unless the reason has passed.
                await self._get({"topic": self._topic, "after": "newest", "limit": 1})
                raise _Lost(Unreachable(f"{self._address.url}: {message['error']['detail']}"))
            case "reply":
                self._has_progressed()
            case "snapshot":
                self._take_snapshot(message["cursor"])
            case "events":
                return self._new(message["events"], message["cursor"])
            case "tick":
                self._spread_s = float(message["spread_s"])
            case "gap":
                self._gap_at = message["cursor"]
                self._on_gap(Gap(reason="removed", cursor=message["cursor"]))
        return ()

    def _take_snapshot(self, cursor: int) -> None:
        """It answers a join without a cursor, or with one of another ledger. Before a `gap` it says nothing new."""
        if self._after is None:
            self._after = cursor
        elif cursor < self._after or self._ledger != self._client.ledger:
            self._begin_other_ledger(cursor)

    def _begin_other_ledger(self, cursor: int) -> None:
        self._after = cursor
        self._ledger = self._client.ledger
        self._on_gap(Gap(reason="other_ledger", cursor=cursor))

    async def _catch_up(self, cursor: int) -> Sequence[Json]:
        """Events before a gap's cursor that the server still has: the socket goes on behind it."""
        page = await self._get({"topic": self._topic, "after": self._after or 0, "limit": _PAGE})
        is_over = not page.events or page.cursor >= cursor
        if is_over:
            self._gap_at = None
        events = [event for event in page.events if event["cursor"] <= cursor]
        return self._new(events, cursor if is_over else page.cursor)

    def _lost(self, closed: ConnectionClosed) -> _Lost:
        code, reason = (_NO_CLOSE, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)
        sentence = f"{self._address.url} has closed the connection ({reason or code})."
        return _Lost(Unreachable(sentence), self._spread_s if code == _RESTART else None)

    async def _drop_socket(self) -> None:
        socket, self._socket = self._socket, None
        self._gap_at = None
        if socket is not None:
            await socket.close()

    def _parsed(self, text: str | bytes, kind: str | None = None) -> Json:
        try:
            message: Json = json.loads(text)
        except ValueError:
            message = {}
        if isinstance(message, dict) and "type" in message and kind in (None, message["type"]):
            return message
        raise NotDropmill(f"{self._address.url} sent a message over the socket that is not Dropmill's.")

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _poll(self) -> Sequence[Json]:
        """The events of the next poll, which waits for them."""
        if self._after is None:
            page = await self._get({"topic": self._topic, "after": "newest", "limit": 1})
            self._after, self._ledger = page.cursor, page.ledger
        asked: dict[str, str | int] = {"topic": self._topic, "after": self._after, "wait": POLL_WAIT_S, "limit": _PAGE}
        page = await self._get(asked if self._ledger is None else asked | {"ledger": self._ledger})
        if page.cursor < self._after or page.ledger != (self._ledger or page.ledger):
            self._begin_other_ledger(page.cursor)
            return ()
        if page.has_gap:
            self._on_gap(Gap(reason="removed", cursor=page.events[0]["cursor"] - 1 if page.events else page.cursor))
        self._ledger = page.ledger
        return self._new(page.events, page.cursor)

    async def _get(self, parameters: Mapping[str, str | int]) -> RemoteEvents:
        try:
            response = await self._http.get("/api/v1/events", params=parameters)
        except httpx.TransportError as error:
            raise self._address.unreachable(error) from None
        if self._address.is_strange(response):
            raise await asyncio.to_thread(self._address.stranger, response)
        page = remote_events(json_of(self._address.accept(response)))
        self._client.ledger = page.ledger
        return page

    def _new(self, events: Sequence[Json], cursor: int) -> Sequence[Json]:
        """Those not given yet; moves to `cursor`."""
        after = self._after or 0
        self._after = max(after, cursor)
        self._has_progressed()
        return [event for event in events if event["cursor"] > after]
