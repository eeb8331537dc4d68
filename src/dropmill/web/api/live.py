"""Events over the socket, by long poll, and as Server-Sent Events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from quart import Blueprint, current_app, request, websocket

from dropmill import __version__
from dropmill.live.stream import Subscriber
from dropmill.live.topics import Topic
from dropmill.model.caller import Caller
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadParameter, OutOfSpace, Unavailable
from dropmill.model.events import TOPIC_ALL
from dropmill.model.ids import Cursor
from dropmill.model.numbers import whole_number
from dropmill.web.api import query
from dropmill.web.server.accept import preferred_type
from dropmill.web.server.caller import current_caller
from dropmill.web.server.capacity import capacity_of
from dropmill.web.server.websocket import WS_FLOOD
from dropmill.web.services import Services, services
from dropmill.wire.encoding import dumps
from dropmill.wire.events import event_json, event_page_json
from dropmill.wire.socket import BAD_MESSAGE, BadMessage, hello, parse, reply, tick

live = Blueprint("live", __name__, url_prefix="/api/v1")

HEARTBEAT_S = 15  # under the 60 s after which common proxies close a quiet connection
SPREAD_SOCKETS_PER_S = 200  # after a restart, so many sockets a second come back
SPREAD_MIN_S, SPREAD_MAX_S = 1.0, 15.0
SUBPROTOCOL = "dropmill.v1"

SEND_TIMEOUT_S = 20  # for one message; the connection of a slower client is closed
WS_TOO_SLOW = 4408
WS_TRY_AGAIN = 1013  # "Try Again Later" in IANA's registry

MESSAGES_PER_S = 50  # a page sends a handful; the burst lets it rejoin everything it follows
MESSAGES_BURST = 600

EVENT_STREAM = "text/event-stream"

WAIT_MAX_S = 25  # of a long poll: under the 30 s of common proxies


@live.websocket("/live")
async def socket() -> None:
    """One subscriber's connection. Cancelled once either side closes it."""
    found = services()
    caller = current_caller()
    with capacity_of(current_app).admit_socket(caller.client.ip):
        await _serve(found, caller)


async def _serve(found: Services, caller: Caller) -> None:
    connection = websocket._get_current_object()  # type: ignore[attr-defined]  # our tasks use it too
    await connection.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in connection.requested_subprotocols else None)

    capacity = capacity_of(current_app)

    def spread_s() -> float:
        return min(max(capacity.sockets / SPREAD_SOCKETS_PER_S, SPREAD_MIN_S), SPREAD_MAX_S)

    async def send(text: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await connection.send(text)
        except TimeoutError:
            await connection.close(WS_TOO_SLOW, "You read too slowly; join again after your cursor.")

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await send(dumps(tick(utc_now(), spread_s())))

    subscriber = Subscriber(caller, topics=found.topics, orders=found.jobs, joins=found.joins, send=send)
    found.closers.add(connection.close)
    try:
        await send(dumps(hello(utc_now(), HEARTBEAT_S, found.topics.ledger_id, __version__, spread_s())))
        async with asyncio.TaskGroup() as group:
            group.create_task(subscriber.run())
            group.create_task(beat())
            await _listen(connection, subscriber, send)
    except* (OutOfSpace, Unavailable):  # a client that comes back joins after its cursor and misses nothing
        await connection.close(WS_TRY_AGAIN, "The ledger is not available now; come back in a moment.")
    finally:
        found.closers.discard(connection.close)


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
            await send(dumps(reply(error.re, BAD_MESSAGE, error.detail)))


@live.get("/events")
async def events() -> Any:
    """Events of a topic after a cursor; with `wait`, the next ones if there are none yet. Or the last before one.

    `after=newest` means the current cursor; the answer has it, to follow from. `gap` means that older events after the
    cursor may have been removed, so the client must read the state again. A client that accepts `text/event-stream`
    gets events as they happen, until it leaves (WHATWG HTML, section 9.2).
    """
    limit = query.limit()
    wait_s = min(query.number("wait") or 0, WAIT_MAX_S)
    found, caller = services(), current_caller()
    topic = await found.topics.authorise(caller, query.text("topic") or TOPIC_ALL)
    is_stream = preferred_type(request.headers.get("Accept", ""), ["application/json", EVENT_STREAM]) == EVENT_STREAM
    before = query.number("before")
    if before is not None:
        if is_stream or query.text("after") is not None or wait_s:
            raise BadParameter("`before` reads what has happened; leave out `after`, `wait` and text/event-stream.")
        page = await topic.events_before(before=Cursor(before), limit=limit)
        return event_page_json(page.events, page.cursor, has_gap=page.is_cut, ledger=found.topics.ledger_id)
    if is_stream:
        after = await _after(found, caller, request.headers.get("Last-Event-ID"))
        await topic.events(after=after, limit=1)  # before the answer begins, so that an error still has a status
        return _stream(found, topic, after), {"Content-Type": EVENT_STREAM, "X-Accel-Buffering": "no"}
    after = await _after(found, caller)
    mailbox = found.topics.mailbox()
    waiting = asyncio.timeout(wait_s)

    async def give_up(_code: int, _reason: str) -> None:
        with contextlib.suppress(RuntimeError):  # it has already ended
            waiting.reschedule(0)

    try:
        mailbox.join(topic)
        page = await topic.events(after=after, limit=limit)
        with contextlib.suppress(TimeoutError):
            async with waiting:
                found.closers.add(give_up)
                while wait_s and not page.events and not page.is_cut:
                    await mailbox.next()
                    page = await topic.events(after=after, limit=limit)
    finally:
        found.closers.discard(give_up)
        mailbox.close()
    return event_page_json(page.events, page.cursor, has_gap=page.is_cut, ledger=found.topics.ledger_id)


async def _after(found: Services, caller: Caller, last_id: str | None = None) -> Cursor:
    """The cursor in a request; a browser that reconnects sends the id of its last event."""
    if last_id is not None and (cursor := whole_number(last_id)) is not None:
        return Cursor(cursor)
    if query.text("after") == "newest":
        return await found.topics.newest(caller)
    return Cursor(query.number("after") or 0)


async def _stream(found: Services, topic: Topic, after: Cursor) -> AsyncIterator[bytes]:
    mailbox = found.topics.mailbox()
    over = asyncio.Event()

    async def give_up(_code: int, _reason: str) -> None:
        over.set()

    found.closers.add(give_up)
    ending = asyncio.create_task(over.wait())
    hint = asyncio.create_task(mailbox.next())
    try:
        mailbox.join(topic)
        yield b": Dropmill's events\n\n"  # sends the headers, and shows whether a proxy holds them back
        while not over.is_set():
            try:
                page = await topic.events(after=after, limit=query.LIMIT_DEFAULT)
            except (OutOfSpace, Unavailable):
                return  # browsers reconnect automatically, with the last id
            after = page.cursor
            if page.events:
                lines = (f"id: {event.cursor}\ndata: {dumps(event_json(event))}\n\n" for event in page.events)
                yield "".join(lines).encode()
                continue
            await asyncio.wait((hint, ending), timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if hint.done():
                hint = asyncio.create_task(mailbox.next())
            else:
                yield b":\n\n"
    finally:
        found.closers.discard(give_up)
        mailbox.close()
        hint.cancel()
        ending.cancel()
