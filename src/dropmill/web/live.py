"""Events over the socket, and without one."""

import asyncio
import contextlib
from typing import Any

from quart import Blueprint, websocket

from dropmill.live import messages
from dropmill.live.messages import BadMessage, event_json, parse
from dropmill.live.stream import Subscriber
from dropmill.model.ids import Cursor
from dropmill.model.records import utc_now
from dropmill.web import query
from dropmill.web.connection import WS_FLOOD
from dropmill.web.services import services

live = Blueprint("live", __name__, url_prefix="/api/v1")

HEARTBEAT_S = 15  # under the 60 s after which common proxies take a quiet connection for dead
SUBPROTOCOL = "dropmill.v1"

SEND_TIMEOUT_S = 20  # for one message; a client that takes none for so long is let go
WS_TOO_SLOW = 4408

MESSAGES_PER_S = 50  # a page sends a handful; the burst allows a rejoin of all it follows
MESSAGES_BURST = 600

WAIT_MAX_S = 25  # of a long poll: under the 30 s of common proxies


@live.websocket("/live")
async def socket() -> None:
    """One subscriber's connection. Once it is closed, by us or the client, this is cancelled."""
    connection = websocket._get_current_object()  # type: ignore[attr-defined]  # tasks of ours use it too
    await connection.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in connection.requested_subprotocols else None)

    async def send(text: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await connection.send(text)
        except TimeoutError:
            await connection.close(WS_TOO_SLOW, "You read too slowly; join again after your cursor.")

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await send(messages.dumps(messages.tick(utc_now())))

    found = services()
    subscriber = Subscriber(
        ledger=found.ledger, bus=found.bus, views=found.views, outputs=found.outputs, orders=found.jobs, send=send
    )
    found.closers.add(connection.close)
    try:
        await send(messages.dumps(messages.hello(utc_now(), HEARTBEAT_S)))
        async with asyncio.TaskGroup() as group:
            group.create_task(subscriber.run())
            group.create_task(beat())
            await _listen(connection, subscriber, send)
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
            await send(messages.dumps(messages.reply(error.re, "bad_message", error.detail)))


@live.get("/events")
async def events() -> Any:
    """Events of a topic behind a cursor; with `wait`, the next ones when there are none yet.

    `gap` says that older ones behind the cursor may have been removed: read the state anew.
    """
    topic = query.text("topic") or "all"
    after = Cursor(query.number("after") or 0)
    limit = query.limit()
    wait_s = min(query.number("wait") or 0, WAIT_MAX_S)
    found = services()
    mailbox = found.bus.subscribe()
    waiting = asyncio.timeout(wait_s)

    async def give_up(_code: int, _reason: str) -> None:
        waiting.reschedule(0)

    try:
        mailbox.join(topic)
        page = await found.ledger.events(topic, after=after, limit=limit)
        with contextlib.suppress(TimeoutError):
            async with waiting:
                found.closers.add(give_up)
                while wait_s and not page.events and not page.is_cut:
                    await mailbox.next()
                    page = await found.ledger.events(topic, after=after, limit=limit)
    finally:
        found.closers.discard(give_up)
        mailbox.close()
    return {"events": [event_json(event) for event in page.events], "cursor": page.cursor, "gap": page.is_cut}
