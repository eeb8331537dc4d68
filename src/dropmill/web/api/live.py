"""The socket, and the long poll for clients that cannot have one. Both are fed by the same subscriber."""

import asyncio
import contextlib
import gzip
from collections.abc import Coroutine, Sequence
from typing import Any

from quart import Blueprint, Response, current_app, request, websocket

from dropmill import __version__
from dropmill.live.outgoing import Outgoing
from dropmill.live.poll import Gathering, parse_seen
from dropmill.live.presence import Viewer
from dropmill.live.subscriber import JOINED_MAX, Subscriber
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadParameter, BadRequest, NotFound, OutOfSpace, Unavailable
from dropmill.model.events import TOPIC_CONFIG
from dropmill.web.api import query
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.capacity import Capacity, capacity_of
from dropmill.web.server.compression import IN_THREAD, LEAST, accepts_gzip
from dropmill.web.server.connection import end_with_client
from dropmill.web.server.websocket import WS_FLOOD, text_frame
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


def first_message(found: Services) -> Outgoing:
    """`hello`, as of now."""
    spread = spread_s(capacity_of(current_app))
    return Outgoing(hello(utc_now(), HEARTBEAT_S, found.topics.of_ledger, __version__, spread))


# --- the socket ------------------------------------------------------------------------------------------------------


def _frame(message: Outgoing) -> bytes:
    return text_frame(message.text)


@live.websocket("/live")
async def socket() -> None:
    """One subscriber's connection. Cancelled once either side closes it."""
    capacity = capacity_of(current_app)
    with capacity.admit_socket(current_caller().client.ip):
        await _serve(services(), capacity)


async def _serve(found: Services, capacity: Capacity) -> None:
    connection = websocket._get_current_object()  # type: ignore[attr-defined]  # our tasks use it too
    await connection.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in connection.requested_subprotocols else None)

    sending: dict[Outgoing, float] = {}  # since when; a timeout for each message would cost as much as the message
    loop = asyncio.get_running_loop()

    async def send(message: Outgoing) -> None:
        sending[message] = loop.time()
        await connection._send(message.framed(_frame))  # `send` gives way to other tasks each time
        del sending[message]

    async def beat() -> None:
        due = loop.time() + HEARTBEAT_S
        while True:
            await asyncio.sleep(min(HEARTBEAT_S, SEND_TIMEOUT_S / CHECKS_PER_TIMEOUT))
            if any(since <= loop.time() - SEND_TIMEOUT_S for since in sending.values()):
                await connection.close(WS_TOO_SLOW, "You read too slowly; join again after your cursor.")
            if loop.time() >= due and not sending:  # otherwise it hears from us anyway
                due = loop.time() + HEARTBEAT_S
                with contextlib.suppress(TimeoutError):  # found the next time, if it still reads nothing
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await send(Outgoing(tick(utc_now(), spread_s(capacity))))

    caller = current_caller()
    subscriber = Subscriber(caller, services=found.live, send=send)
    try:
        with found.held_open(caller, connection.close):
            await send(first_message(found))
            await subscriber.greet()
            async with asyncio.TaskGroup() as group:
                group.create_task(subscriber.run())
                group.create_task(beat())
                await _listen(connection, subscriber, send)
    except* (OutOfSpace, Unavailable):  # a client that comes back joins after its cursor and misses nothing
        await connection.close(WS_TRY_AGAIN, "The ledger is not available now; come back in a moment.")
    finally:
        subscriber.close()


async def _listen(connection: Any, subscriber: Subscriber, send: Any) -> None:
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

    with capacity_of(current_app).admit_socket(caller.client.ip):
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
    messages, now_seen = gathering.answer(first_message(found), subscriber.progress_seen)
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
