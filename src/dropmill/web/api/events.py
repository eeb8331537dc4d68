"""Events page by page, and as Server-Sent Events; both for scripts."""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any

from quart import Blueprint, request

from dropmill.live.outgoing import Outgoing, OutgoingEvents
from dropmill.live.subscriber import Subscriber
from dropmill.live.topics import OUTPUT, Topic
from dropmill.model.caller import Caller
from dropmill.model.errors import BadParameter, OutOfSpace, Unavailable
from dropmill.model.events import TOPIC_ALL
from dropmill.model.ids import Cursor, JobId
from dropmill.model.numbers import whole_number
from dropmill.web.api import live, query
from dropmill.web.server.accept import preferred_type
from dropmill.web.server.caller import current_caller
from dropmill.web.services import Services, services
from dropmill.wire.encoding import dumps
from dropmill.wire.events import EventPageJson, event_page_json
from dropmill.wire.socket import POLL_WAIT_MAX_S, Join, parse_join

events = Blueprint("events", __name__, url_prefix="/api/v1")

EVENT_STREAM = "text/event-stream"

ALWAYS = frozenset({"snapshot", "events", "gap"})
WHEN_FULL = ALWAYS | {"progress", "sending", "presence", "notice", "notice_withdrawn", "output"}
"""The kinds of messages that a stream carries."""


@events.get("/events")
async def read_events() -> Any:
    """Events of a topic after a cursor; with `wait`, the next ones if there are none yet. Or the last before one.

    `after=newest` means the current cursor; the answer has it, to follow from. `gap` means that older events after the
    cursor may have been removed, so the client must read the state again. A client that accepts `text/event-stream`
    gets events as they happen, until it leaves (WHATWG HTML, section 9.2).
    """
    limit = query.limit()
    wait_s = min(query.number("wait") or 0, POLL_WAIT_MAX_S)
    found, caller = services(), current_caller()
    topic = await found.topics.authorise(caller, query.text("topic") or TOPIC_ALL)
    is_stream = preferred_type(request.headers.get("Accept", ""), ["application/json", EVENT_STREAM]) == EVENT_STREAM
    before = query.number("before")
    if before is not None:
        if is_stream or query.text("after") is not None or wait_s:
            raise BadParameter("`before` reads what has happened; leave out `after`, `wait` and text/event-stream.")
        return _page(found, await topic.events_before(before=Cursor(before), limit=limit))
    if is_stream:
        return await _stream_of(found, caller, topic)
    after, of_ledger = await _after(found, caller), query.text("ledger")
    page = await topic.page(after=after, of_ledger=of_ledger, limit=limit)
    if wait_s and not page.events and not page.is_cut:
        with await live.admit_socket(caller):
            return await _next_page(found, caller, topic, after, limit, wait_s)
    return _page(found, page)


def _page(found: Services, page: Any) -> EventPageJson:
    return event_page_json(page.events, page.cursor, has_gap=page.is_cut, of_ledger=found.topics.of_ledger)


async def _after(found: Services, caller: Caller, last_id: str | None = None) -> Cursor:
    """The cursor in a request; a browser that reconnects sends the id of its last event."""
    if last_id is not None and (cursor := whole_number(last_id)) is not None:
        return Cursor(cursor)
    if query.text("after") == "newest":
        return await found.topics.newest(caller)
    return Cursor(query.number("after") or 0)


async def _next_page(
    found: Services, caller: Caller, topic: Topic, after: Cursor, limit: int, wait_s: float
) -> EventPageJson:
    """The next events after a cursor; none if there are none in time, the server stops, or the caller is signed out."""
    inbox = found.live.feed.inbox()
    waiting, stack = asyncio.timeout(wait_s), contextlib.ExitStack()

    async def give_up(_code: int, _reason: str) -> None:
        with contextlib.suppress(RuntimeError):  # it has already ended
            waiting.reschedule(0)

    found.live.feed.follow(topic, inbox)
    try:
        page = await topic.events(after=after, limit=limit)
        with contextlib.suppress(TimeoutError):
            async with waiting:
                stack.enter_context(found.held_open(caller, give_up))
                while not page.events and not page.is_cut:
                    await inbox.next()
                    page = await topic.events(after=after, limit=limit)
        return _page(found, page)
    finally:
        stack.close()
        found.live.feed.leave(topic, inbox)
        found.live.feed.close_inbox(inbox)


# --- Server-Sent Events ----------------------------------------------------------------------------------------------


async def _stream_of(found: Services, caller: Caller, topic: Topic) -> Any:
    """The answer to a request for a stream. Whatever is wrong with the request is found before it begins."""
    kinds = ALWAYS
    if (kind := query.text("stream")) is not None:
        if kind != "full":
            raise BadParameter("`stream` can only be full.")
        kinds = WHEN_FULL
    of_ledger = query.text("ledger")
    outputs = live.query_joins(query.texts("join", most=live.QUERY_JOINS_MAX), of_ledger)
    if outputs and kinds is ALWAYS:
        raise BadParameter("`join` needs stream=full.")
    for output in outputs:
        if not output.topic.startswith(OUTPUT):
            raise BadParameter("A stream has one topic; `join` is for output:JOB@ATTEMPT:OFFSET.")
        await found.topics.output(caller, JobId(output.topic.removeprefix(OUTPUT)), output.attempt)
    after = await _after(found, caller, request.headers.get("Last-Event-ID"))
    await topic.events(after=after, limit=1)  # so that an error of the ledger still has a status
    join = parse_join(f"{topic.name}@{after}", of_ledger)
    admission = await live.admit_socket(caller)
    stream = _stream(found, caller, [join, *outputs], kinds)
    weakref.finalize(stream, admission.release)  # also if the client has left before it began
    return stream, {"Content-Type": EVENT_STREAM, "X-Accel-Buffering": "no"}


async def _stream(
    found: Services, caller: Caller, joins: Sequence[Join], kinds: frozenset[str]
) -> AsyncIterator[bytes]:
    """What a subscriber is sent, until it reads nothing for `SEND_TIMEOUT_S`, or the server stops, or it leaves.

    A client comes back with the last id it has seen, and misses nothing.
    """
    blocks: asyncio.Queue[bytes] = asyncio.Queue(1)

    async def send(message: Outgoing) -> None:
        if message.kind in kinds:
            async with asyncio.timeout(live.SEND_TIMEOUT_S):
                await blocks.put(message.framed(_block))

    subscriber = Subscriber(caller, services=found.live, send=send)

    async def follow() -> None:
        with contextlib.suppress(OutOfSpace, Unavailable, TimeoutError):
            await subscriber.greet()
            for join in joins:
                await subscriber.handle(join)
            await subscriber.run()

    over = asyncio.Event()

    async def give_up(_code: int, _reason: str) -> None:
        over.set()

    held = contextlib.ExitStack()
    held.enter_context(found.held_open(caller, give_up))
    following = asyncio.create_task(follow())
    ending = asyncio.create_task(over.wait())
    arriving = asyncio.create_task(blocks.get())
    try:
        yield b": Dropmill's events\n\n"  # sends the headers, and shows whether a proxy holds them back
        while True:
            await asyncio.wait(
                (arriving, following, ending), timeout=live.HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if arriving.done():
                block = arriving.result()
                arriving = asyncio.create_task(blocks.get())
                yield block
            elif following.done():
                following.result()  # raises what is a mistake of ours
                return
            elif ending.done():
                return
            else:
                yield b":\n\n"
    finally:
        held.close()
        for task in (following, ending, arriving):
            task.cancel()
        await asyncio.wait((following, ending, arriving))
        subscriber.close()


def _block(message: Outgoing) -> bytes:
    """A message as the fields of an event stream."""
    if isinstance(message, OutgoingEvents):
        return b"".join(b"id: %d\ndata: %s\n\n" % event for event in message.events)
    fields = {name: value for name, value in message.message.items() if name != "type"}
    head = f"id: {fields['cursor']}\n" if "cursor" in fields else ""
    return f"{head}event: {message.kind}\ndata: {dumps(fields)}\n\n".encode()
