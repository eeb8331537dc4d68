"""The socket, and the long poll for clients that cannot have one. Both are fed by the same subscriber."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from quart import Blueprint, Response, current_app, request, websocket

from dropmill import __version__
from dropmill.live.outgoing import Outgoing
from dropmill.live.poll import Gathering, parse_seen
from dropmill.live.presence import Viewer
from dropmill.live.subscriber import JOINED_MAX, Subscriber
from dropmill.model.caller import Caller
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadParameter, BadRequest, NotFound, OutOfSpace, Unavailable
from dropmill.model.events import TOPIC_CONFIG
from dropmill.web.api import query
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.capacity import Admission, Capacity, capacity_of
from dropmill.web.server.compression import IN_THREAD, LEAST, accepts_gzip
from dropmill.web.server.connection import end_with_client
from dropmill.web.server.websocket import WS_FLOOD, WebSocketConnection, current_socket, text_frame
from dropmill.web.services import Services, services
from dropmill.wire.socket import (
    BAD_MESSAGE,
    POLL_WAIT_MAX_S,
    BadMessage,
    Join,
    PollRequest,
    client_name,
    hello,
    parse,
    parse_join,
    parse_poll,
    poll_end,
    reply,
    tick,
)

live = Blueprint("live", __name__, url_prefix="/api/v1")

HEARTBEAT_S = 15  # under the 60 s after which common proxies close a quiet connection
SUBPROTOCOL = "dropmill.v1"

SPREAD_SOCKETS_PER_S = 200  # after a restart, so many sockets a second come back
SPREAD_MIN_S, SPREAD_MAX_S = 1.0, 15.0

SEND_TIMEOUT_S = 20  # for one message; the connection of a slower client is closed
CHECKS_PER_TIMEOUT = 4  # how often it is looked for one that is too slow
WS_TOO_SLOW = 4408
WS_TRY_AGAIN = 1013  # "Try Again Later" in IANA's registry

MESSAGES_PER_S = 50  # a page sends a handful; the burst lets it rejoin everything it follows
MESSAGES_BURST = 600

POLL_EVERY_S = 0.25  # a client that polls gets answers no more often
POLL_BODY_MAX = 128 * 1024  # bytes; what `JOINED_MAX` joins need, and more
QUERY_JOINS_MAX = 40


def spread_s(capacity: Capacity) -> float:
    """Over how many seconds clients should spread their return after a restart."""
    return min(max(capacity.sockets / SPREAD_SOCKETS_PER_S, SPREAD_MIN_S), SPREAD_MAX_S)


def first_message(found: Services, capacity: Capacity) -> Outgoing:
    """`hello`, as of now."""
    return Outgoing(hello(utc_now(), HEARTBEAT_S, found.topics.of_ledger, __version__, spread_s(capacity)))


async def admit_socket(caller: Caller) -> Admission:
    """Count a caller's WebSocket, poll or event stream.

    Raises:
        TooManyConnections: its address or its owner has reached its limit.
        OutOfSpace, Unavailable: the server has reached its own, or the ledger cannot be read.
    """
    most = await services().quotas.sockets(caller)
    return capacity_of(current_app).admit_socket(caller.client.ip, owner=caller.owner, most=most)


# --- the socket ------------------------------------------------------------------------------------------------------


def _frame(message: Outgoing) -> bytes:
    return text_frame(message.text)


@live.websocket("/live")
async def socket() -> None:
    """Accept a subscriber's connection; `_serve` goes on with it."""
    capacity, found, caller = capacity_of(current_app), services(), current_caller()
    current_socket().admit(await admit_socket(caller))
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in websocket.requested_subprotocols else None)
    current_socket().go_on(lambda connection: _serve(connection, found, capacity, caller))


class _Sender:
    """Sends what a subscriber wants to send, and regularly looks whether a heartbeat is due, or the client is too slow.

    A timer does so, because a task for each socket takes 2 KiB more, and a timeout for each message as much CPU as the
    message.
    """

    __slots__ = (
        "_capacity",
        "_connection",
        "_due",
        "_loop",
        "_patience",
        "_sending",
        "_since",
        "_subscriber",
        "_timer",
    )

    def __init__(self, connection: WebSocketConnection, capacity: Capacity) -> None:
        self._connection = connection
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._sending = 0  # messages
        self._since = 0.0  # the client has taken none of them
        self._due = self._loop.time() + HEARTBEAT_S
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, message: Outgoing) -> None:
        if not self._sending:
            self._since = self._loop.time()
        self._sending += 1
        await self._connection.send(message.framed(_frame))  # one that is cancelled is the last
        self._sending -= 1
        self._since = self._loop.time()

    def begin(self, subscriber: Subscriber, patience: asyncio.Timeout) -> None:
        """Have heartbeats sent by a subscriber, and let `patience` expire if the client is too slow."""
        self._subscriber = subscriber
        self._patience = patience
        self._look_later()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(min(HEARTBEAT_S, SEND_TIMEOUT_S / CHECKS_PER_TIMEOUT), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if self._sending and self._since <= now - SEND_TIMEOUT_S:
            self._patience.reschedule(now)
            return
        if now >= self._due and not self._sending:  # otherwise it hears from us anyway
            self._due = now + HEARTBEAT_S
            self._subscriber.interject(Outgoing(tick(utc_now(), spread_s(self._capacity))))
        self._look_later()


async def _serve(connection: WebSocketConnection, found: Services, capacity: Capacity, caller: Caller) -> None:
    """Serve a subscriber until either side closes the connection, which cancels this."""
    sender = _Sender(connection, capacity)
    subscriber = Subscriber(caller, services=found.live, send=sender.send)
    patience = asyncio.timeout(None)
    try:
        with found.held_open(caller, connection.close):
            await sender.send(first_message(found, capacity))
            await subscriber.greet()
            async with patience, asyncio.TaskGroup() as group:
                sender.begin(subscriber, patience)
                group.create_task(subscriber.run())
                await _listen(connection, subscriber, sender.send)
    except* (OutOfSpace, Unavailable):  # a client that comes back joins after its cursor and misses nothing
        await connection.close(WS_TRY_AGAIN, "The ledger is not available now; come back in a moment.")
    except* TimeoutError:
        if not patience.expired():
            raise
        await connection.close(WS_TOO_SLOW, "You read too slowly; join again after your cursor.")
    finally:
        sender.end()
        subscriber.close()


async def _listen(
    connection: WebSocketConnection, subscriber: Subscriber, send: Callable[[Outgoing], Awaitable[None]]
) -> None:
    loop = asyncio.get_running_loop()
    allowance, since = float(MESSAGES_BURST), loop.time()
    while True:
        text = await connection.receive()
        now = loop.time()
        allowance = min(allowance + (now - since) * MESSAGES_PER_S, MESSAGES_BURST) - 1
        since = now
        if allowance < 0:
            await connection.close(WS_FLOOD, "Too many messages.")
        try:
            await subscriber.handle(parse(text))
        except BadMessage as error:
            await send(Outgoing(reply(error.re, BAD_MESSAGE, error.detail)))


# --- the long poll ---------------------------------------------------------------------------------------------------


@live.post("/live")
async def poll() -> Response:
    """Wait for messages, and answer with all there are."""
    given = await body.read_json_object(limit=POLL_BODY_MAX)
    try:
        asked = parse_poll(given)
    except BadMessage as error:
        raise BadRequest(error.detail) from None
    if len(asked.joins) > JOINED_MAX:
        raise BadRequest(f"At most {JOINED_MAX} joins.")
    return await _poll(asked)


@live.get("/live")
async def poll_by_query() -> Response:
    """The same, for scripts, with few joins."""
    wait = query.number("wait")
    try:
        asked = PollRequest(
            joins=query_joins(query.texts("join", most=QUERY_JOINS_MAX), query.text("ledger")),
            wait_s=POLL_WAIT_MAX_S if wait is None else min(wait, POLL_WAIT_MAX_S),
            seen=query.text("seen"),
            client=client_name(query.text("client")),
        )
    except BadMessage as error:
        raise BadParameter(error.detail) from None
    return await _poll(asked)


def query_joins(texts: Sequence[str], of_ledger: str | None) -> Sequence[Join]:
    """The joins of a query.

    Args:
        texts: each as `parse_join` takes it.
        of_ledger: whose cursors they have; None: this one's.

    Raises:
        BadParameter: one has another form.
    """
    try:
        return [parse_join(text, of_ledger) for text in texts]
    except BadMessage as error:
        raise BadParameter(error.detail) from None


async def _poll(asked: PollRequest) -> Response:
    end_with_client()
    found, caller = services(), current_caller()
    loop = asyncio.get_running_loop()
    began = loop.time()
    seen = parse_seen(asked.seen)
    gathering = Gathering(seen)
    over = asyncio.Event()

    async def give_up(_code: int, _reason: str) -> None:
        over.set()

    with await admit_socket(caller):
        subscriber = Subscriber(
            caller,
            services=found.live,
            send=gathering.send,
            viewer=Viewer(asked.client or f"address {caller.client.ip}"),
            progress_seen=0 if seen is None else seen.progress,
        )
        joined = asyncio.Event()
        following = asyncio.create_task(_follow(subscriber, gathering, asked.joins, joined))
        try:
            with found.held_open(caller, give_up):
                # A join that brings more than an answer holds does not return.
                await _first_of(following, joined.wait(), gathering.is_full.wait(), over.wait())
                until = began + asked.wait_s - loop.time()
                await _first_of(following, gathering.news(), over.wait(), timeout_s=max(until, 0))
                if all(join.after is not None for join in asked.joins):
                    await _first_of(following, over.wait(), timeout_s=max(began + POLL_EVERY_S - loop.time(), 0))
        finally:
            following.cancel()
            await asyncio.wait([following])
            subscriber.close()
        if not following.cancelled() and (error := following.exception()) is not None:
            raise error
    hello_now = first_message(found, capacity_of(current_app))
    messages, now_seen = gathering.answer(hello_now, subscriber.progress_seen)
    messages.append(Outgoing(poll_end(now_seen.text())))
    return await _answer(messages)


async def _follow(subscriber: Subscriber, gathering: Gathering, joins: Sequence[Join], joined: asyncio.Event) -> None:
    await subscriber.greet()
    for join in joins:
        await subscriber.handle(join)
    gathering.has_joined()
    joined.set()
    await subscriber.run()


async def _first_of(
    following: asyncio.Task[None], *waits: Coroutine[Any, Any, Any], timeout_s: float | None = None
) -> None:
    """Return when one of these has ended. The task goes on; the others are cancelled."""
    waiting = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait([following, *waiting], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


async def _answer(messages: Sequence[Outgoing]) -> Response:
    text = b"[" + b",".join(message.text for message in messages) + b"]"
    response = Response(text, content_type="application/json")
    response.vary.add("Accept-Encoding")
    if len(text) >= LEAST and accepts_gzip(request.headers.get("Accept-Encoding", "")):
        packed = await asyncio.to_thread(_packed, text) if len(text) > IN_THREAD else _packed(text)
        response.set_data(packed)
        response.headers["Content-Encoding"] = "gzip"
    return response


def _packed(text: bytes) -> bytes:
    return gzip.compress(text, 4, mtime=0)


@live.post("/presence")
async def presence() -> Response:
    """Say whether a client without a socket has unsaved changes of the config."""
    given = await body.read_json_object(limit=POLL_BODY_MAX)
    try:
        client = client_name(given.get("client"))
    except BadMessage as error:
        raise BadRequest(error.detail) from None
    if client is None:
        raise BadRequest("`client` must name you.")
    if not isinstance(given.get("is_dirty"), bool):
        raise BadRequest("`is_dirty` must be true or false.")
    if given.get("topic") != TOPIC_CONFIG:
        raise NotFound("Only the config can be edited.")
    services().live.presence.edit(Viewer(client), is_dirty=given["is_dirty"], expires=True)
    return Response(status=204)
